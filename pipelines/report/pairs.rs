//! Pairs of pictures: a sample beside the test picture that speaks against it.

use serde_json::Value;
use trommel_report::PairTile;
use trommel_shard::samples::{GroupConfig, keys};
use trommel_shard::store::Store;

use super::sums::Candidate;
use crate::past_run::PastRun;
use crate::pictures;

/// The pairs shown, benchmark by benchmark, and what pictures could not be had.
pub(super) fn pairs(
    past: &PastRun,
    store: &dyn Store,
    chosen: &[Vec<&Candidate>],
    kept: bool,
) -> (Vec<PairTile>, Vec<String>) {
    let wanted = chosen.iter().flatten().map(|candidate| (candidate.id, candidate.wanted.clone())).collect();
    let (samples, mut troubles) = pictures::samples(store, &past.plan, &group(past.ledger.config()), &wanted);
    let lost = wanted.keys().filter(|id| !samples.contains_key(id)).count();
    let which = if kept { "kept" } else { "dropped" };
    if lost > 0 {
        troubles.push(format!("{lost} of {} {which} pictures could not be read back from their shards", wanted.len()));
    }
    let mut tiles = Vec::new();
    for (benchmark, chosen) in past.benchmarks.iter().zip(chosen) {
        let mut lost = 0;
        for candidate in chosen {
            let sample = samples.get(&candidate.id).cloned().unwrap_or_default();
            let key = benchmark.key(candidate.evidence.point);
            let test = key.and_then(|key| pictures::test_picture(&benchmark.pictures, key));
            lost += usize::from(test.is_none());
            tiles.push(PairTile {
                image: pictures::small(sample.image),
                test_image: test.map(pictures::small).unwrap_or_default(),
                similarity: candidate.evidence.similarity,
                radius: candidate.evidence.limit,
                caption: sample.caption,
                benchmark: benchmark.name.clone(),
                key: format!("{}/{}", candidate.shard, candidate.wanted.key),
                kept,
                planted: candidate.planted.clone(),
            });
        }
        troubles.extend(benchmark.trouble.as_ref().map(|trouble| format!("benchmark {}: {trouble}", benchmark.name)));
        if lost > 0 {
            troubles.push(format!("{lost} of {} test pictures of {} were not found", chosen.len(), benchmark.name));
        }
    }
    (tiles, troubles)
}

/// Samples are grouped as the run of this configuration grouped them.
pub(super) fn group(config: &Value) -> GroupConfig {
    let mut group = GroupConfig::default();
    let decisions = config.get("decisions");
    let field = |name: &str| decisions.and_then(|decisions| decisions.get(name));
    if let Some(Value::Array(images)) = field("image_keys") {
        group.image_keys = images.iter().filter_map(|key| key.as_str().map(str::to_owned)).collect();
    }
    if let Some(text) = field("text_key").and_then(Value::as_str) {
        group.text_keys = keys(text);
    }
    if field("repeated_members").and_then(Value::as_str) == Some("reject") {
        group.repeated = trommel_shard::samples::RepeatedMember::Reject;
    }
    group
}
