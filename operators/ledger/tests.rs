#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::ptr_arg)]

mod crash;
mod folder;
mod graph;
mod merge;
mod peers;
mod rows;
#[allow(dead_code)]
mod simulated;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::LedgerError;
use super::committer::{Committed, Committer, FinishedShard};
use super::items::MergedItems;
use super::manifest::{Counts, PartKind};
use super::part::PartConfig;
use super::read::{Ledger, LedgerRow, StoredEmbedding};
use super::run_folder::{Access, OpenOptions, RunConfig, RunFolder};
use super::storage::Storage;
use trommel_columnar::canonical::canonicalise_into;
use trommel_columnar::embeddings::EmbeddingHead;
use trommel_core::sample::{Fate, Identity, Reason, SampleId, SampleInfo, Score, ShardOutcome, Status};
use trommel_core::sample::{NO_CAPTION, PointRow};
use trommel_core::stop::Stop;

const DIM: usize = 8;
const SHARDS: u64 = 5;

/// A small generator: numbers depend on the seed alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn identity() -> Identity {
    Identity {
        architecture: "tiny".into(),
        weights: "seed:0".into(),
        preprocessing: "224 shortest bicubic".into(),
        decoder: "none 0".into(),
    }
}

fn config() -> RunConfig {
    RunConfig {
        decisions: json!({ "rule": "drop-above:0.9", "benchmarks": [{ "name": "a", "radii": "none" }], "seed": 1 }),
        numerics: json!({ "device": "cpu", "batch": 8 }),
        record: json!({ "command": "trommel prune" }),
    }
}

fn parts() -> PartConfig {
    let head = EmbeddingHead { dim: DIM, radii: false, identity: Some(identity()), metadata: BTreeMap::new() };
    PartConfig {
        benchmarks: vec!["a".into(), "b.c".into()],
        embeddings: Some(head),
        metadata: BTreeMap::from([("trommel.rule".into(), "drop-above:0.9".into())]),
    }
}

fn plan() -> Vec<String> {
    (0..SHARDS).map(|n| format!("{n:05}.tar")).collect()
}

fn extends(old: &Vec<String>, new: &Vec<String>) -> bool {
    new.starts_with(old)
}

fn options<'a>(plan: &'a Vec<String>, config: &'a RunConfig) -> OpenOptions<'a, Vec<String>> {
    OpenOptions {
        plan,
        extends,
        config,
        access: Access::Exclusive,
        mix_numerics: false,
        patience: Duration::from_millis(200),
    }
}

fn open(root: &Path, storage: &Arc<dyn Storage>) -> Result<RunFolder, LedgerError> {
    RunFolder::open(root, Arc::clone(storage), &options(&plan(), &config()))
}

fn fate(ordinal: u64, index: u32) -> Fate {
    let mut random = Random(ordinal * 1_000_003 + u64::from(index));
    let status = [Status::Kept, Status::Kept, Status::Dropped, Status::Rejected][random.below(4) as usize];
    let mut vector = Vec::new();
    let raw: Vec<f32> = (0..DIM).map(|_| random.unit() as f32 - 0.5).collect();
    canonicalise_into(&raw, &mut vector).unwrap();
    let mut score = |radii: bool| Score {
        max_similarity: Some(random.unit()),
        nearest: Some(random.below(9) as u32),
        margin: radii.then(|| random.unit() - 0.5),
        exceeds: radii.then_some(3),
        hits: radii.then_some(2),
    };
    let rejected = status == Status::Rejected;
    Fate {
        info: Arc::new(SampleInfo {
            id: SampleId { ordinal, index },
            key: format!("{ordinal:05}/ключ{index}"),
            uid: index.is_multiple_of(2).then(|| format!("{index:032x}")),
            url: index.is_multiple_of(3).then(|| format!("https://example.org/{index}?a=\"b\"\n")),
            sha256: index.is_multiple_of(5).then(|| format!("{index:064x}")),
            offset: u64::from(index) * 10_240,
            size: 900 + u64::from(index),
            ..SampleInfo::default()
        }),
        status,
        reason: match status {
            Status::Rejected => Some(Reason::new("image_decode", "cut off")),
            Status::Kept if index % 2 == 1 => Some(Reason::new("no_caption", "")),
            _ => None,
        },
        scores: if rejected { Vec::new() } else { vec![score(false), score(true)] },
        embedding: (!rejected).then_some(vector),
    }
}

fn fates(ordinal: u64) -> Vec<Arc<Fate>> {
    let count = [7, 0, 5, 4, 6][(ordinal % 5) as usize];
    (0..count).map(|index| Arc::new(fate(ordinal, index))).collect()
}

fn item_rows(ordinal: u64) -> Vec<PointRow> {
    let mut random = Random(ordinal ^ 0xabcd);
    let mut rows = Vec::new();
    for benchmark in 0..2u16 {
        for point in 0..6u32 {
            // Few values, so that maxima tie.
            let value = random.below(4) as f64 / 4.0;
            let sample = SampleId { ordinal, index: random.below(3) as u32 };
            let kept = (random.below(2) == 0).then_some((value - 0.25, sample));
            rows.push(PointRow {
                benchmark,
                point,
                max_similarity: Some(value),
                sample: Some(sample),
                hits: random.below(3) * u64::from(benchmark),
                kept_max: kept.map(|k| k.0),
                kept_sample: kept.map(|k| k.1),
            });
        }
    }
    rows
}

fn shard(ordinal: u64) -> FinishedShard {
    let mut fates = fates(ordinal);
    fates.reverse(); // arrival in any order
    FinishedShard {
        ordinal,
        name: format!("{ordinal:05}.tar"),
        fates,
        items: if ordinal == 1 { Vec::new() } else { item_rows(ordinal) },
        bytes: 5_000 + ordinal,
        outcome: ShardOutcome::Complete((ordinal == 1).then(|| "no sample at all".into())),
        notices: Default::default(),
    }
}

fn unavailable(ordinal: u64) -> FinishedShard {
    FinishedShard {
        fates: Vec::new(),
        items: Vec::new(),
        outcome: ShardOutcome::Unavailable("403 Forbidden".into()),
        ..shard(ordinal)
    }
}

/// One run of the program over what is not committed yet; returns what was reported durable.
fn run(folder: RunFolder, first: bool) -> (BTreeSet<u64>, Result<(), Arc<LedgerError>>) {
    let folder = Arc::new(folder);
    let done = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&done);
    let stop = Stop::new();
    let report = move |answer: Result<Committed, LedgerError>| match answer {
        Ok(c) if c.status == super::manifest::LineStatus::Committed => _ = seen.lock().unwrap().insert(c.ordinal),
        _ => {}
    };
    let committer = Committer::spawn(Arc::clone(&folder), parts(), stop.clone()).unwrap();
    let handle = committer.handle().unwrap();
    // Shards finish in another order than the plan's.
    for ordinal in [2, 0, 4, 3, 1] {
        if !folder.before().committed.contains_key(&ordinal) {
            let finished = if first && ordinal == 3 { unavailable(3) } else { shard(ordinal) };
            let _ = handle.commit(finished, Box::new(report.clone()));
        }
    }
    let result = committer.finish().map(|_| ());
    assert_eq!(result.is_err(), stop.failure().is_some());
    let done = done.lock().unwrap().clone();
    (done, result)
}

/// All that a finished run says.
#[derive(Debug, PartialEq)]
struct Outcome {
    rows: Vec<LedgerRow>,
    items: Vec<PointRow>,
    embeddings: Vec<(u64, Vec<StoredEmbedding>)>,
    counts: Counts,
    statuses: Vec<Vec<Status>>,
    /// Bytes of the ledger's and embeddings' parts, by kind and ordinal.
    bytes: BTreeMap<(PartKind, u64), Vec<u8>>,
}

fn outcome(root: &Path, storage: &Arc<dyn Storage>) -> Outcome {
    let ledger = Ledger::open_on(root, Arc::clone(storage)).unwrap();
    ledger.verify().unwrap();
    assert!(ledger.failed().is_empty());
    let ordinals: Vec<u64> = ledger.shards().keys().copied().collect();
    let mut bytes = BTreeMap::new();
    let mut listed = BTreeSet::new();
    for (&ordinal, (incarnation, line)) in ledger.shards() {
        for part in &line.parts {
            let path = root.join(part.kind.path(ordinal, *incarnation));
            listed.insert(path.clone());
            if part.kind != PartKind::Items {
                bytes.insert((part.kind, ordinal), storage.read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeSet::new();
    for kind in PartKind::ALL {
        let folder = root.join(kind.folder());
        found.extend(storage.list(&folder).unwrap().into_iter().map(|n| folder.join(n)));
    }
    assert_eq!(found, listed, "only listed parts are there");
    Outcome {
        rows: ledger.rows().unwrap().map(Result::unwrap).collect(),
        items: ledger.items().unwrap(),
        embeddings: ordinals.iter().map(|&o| (o, ledger.embeddings(o).unwrap())).collect(),
        counts: ledger.counts(),
        statuses: ordinals.iter().map(|&o| ledger.decisions(o).unwrap().to_vec()).collect(),
        bytes,
    }
}

/// What the script's shards say, without any file.
fn naive() -> (Vec<LedgerRow>, Vec<PointRow>, Vec<(u64, Vec<StoredEmbedding>)>) {
    let mut rows = Vec::new();
    let mut embeddings = Vec::new();
    let mut items: BTreeMap<(u16, u32), Vec<PointRow>> = BTreeMap::new();
    for ordinal in 0..SHARDS {
        let mut stored = Vec::new();
        for fate in fates(ordinal) {
            let mut fate = fate.as_ref().clone();
            if let Some(vector) = fate.embedding.take() {
                stored.push(StoredEmbedding { index: fate.info.id.index, key: fate.info.key.clone(), vector });
            }
            rows.push(LedgerRow { shard: format!("{ordinal:05}.tar"), fate });
        }
        embeddings.push((ordinal, stored));
        for row in shard(ordinal).items {
            items.entry((row.benchmark, row.point)).or_default().push(row);
        }
    }
    let best = |candidates: Vec<(f64, SampleId)>| {
        candidates.into_iter().reduce(|a, b| if b.0 > a.0 || (b.0 == a.0 && b.1 < a.1) { b } else { a })
    };
    let merged = items.into_values().map(|all| {
        let (max_similarity, sample) =
            best(all.iter().map(|r| (r.max_similarity.unwrap(), r.sample.unwrap())).collect()).unwrap();
        let kept = best(all.iter().filter_map(|r| Some((r.kept_max?, r.kept_sample?))).collect());
        PointRow {
            max_similarity: Some(max_similarity),
            sample: Some(sample),
            hits: all.iter().map(|r| r.hits).sum(),
            kept_max: kept.map(|k| k.0),
            kept_sample: kept.map(|k| k.1),
            ..all[0]
        }
    });
    (rows, merged.collect(), embeddings)
}

fn root() -> PathBuf {
    PathBuf::from("/disk/run")
}
