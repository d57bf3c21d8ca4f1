//! Small ledgers, made by the ledger's own writers. Benches and the program's tests take this file in by its path.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use trommel_core::sample::{Fate, Reason, SampleId, SampleInfo, Score, Status};
use trommel_ledger::manifest::{Counts, LineStatus, SCHEMA_VERSION, ShardLine};
use trommel_ledger::part::{PartConfig, ShardRows};
use trommel_ledger::run_folder::{Access, OpenOptions, RunConfig, RunFolder};
use trommel_ledger::storage::Disk;
use trommel_shard::plan::{Plan, ShardRef};

#[path = "../../decide/tests/dice.rs"]
#[allow(dead_code)]
mod dice;
#[allow(unused_imports)]
pub(crate) use dice::Dice;

/// A sample as a ledger has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub key: String,
    pub uid: Option<String>,
    pub rejected: bool,
    pub reason: Option<&'static str>,
    /// Largest similarity and hits, a benchmark each; no hits where a benchmark has no radii.
    pub scores: Vec<(f64, Option<u32>)>,
}

impl Row {
    fn fate(self, ordinal: u64, index: u32) -> Fate {
        let score = |(max, hits): (f64, Option<u32>)| Score {
            max_similarity: Some(max),
            nearest: Some((max.abs() * 4.0) as u32),
            margin: hits.map(|hits| f64::from(hits) - 0.5),
            exceeds: hits.map(|hits| hits % 7),
            hits,
        };
        let (id, offset) = (SampleId { ordinal, index }, 512 * u64::from(index / 3));
        let (key, uid, size) = (self.key, self.uid, u64::from(index));
        let info = SampleInfo { id, key, uid, size, offset, ..SampleInfo::default() };
        Fate {
            info: Arc::new(info),
            status: if self.rejected { Status::Rejected } else { Status::Kept },
            reason: self.reason.map(|code| Reason::new(code, "")),
            scores: if self.rejected { Vec::new() } else { self.scores.into_iter().map(score).collect() },
            embedding: None,
        }
    }
}

/// Makes a run folder. `shards` in the order of the plan: a name, and its rows; `None` is a shard that is not judged.
pub(crate) fn make<I: Iterator<Item = Row>>(run: &Path, benchmarks: &[&str], shards: Vec<(String, Option<I>)>) {
    let of = |(ordinal, (name, _)): (usize, &(String, Option<I>))| ShardRef {
        ordinal: ordinal as u64,
        name: name.clone(),
        url: format!("/data/{name}"),
        bytes: Some(1),
    };
    let plan = Plan { shards: shards.iter().enumerate().map(of).collect(), ..Plan::default() };
    let told = |name: &&str| json!({ "name": name, "points": 1, "dim": 2, "sha256": format!("of {name}") });
    let config = RunConfig {
        decisions: json!({
            "rule": "keep-all", "rule_seed": 0, "columns": "all", "image_keys": ["jpg"], "text_key": "txt",
            "embedder": { "architecture": "tiny", "weights": "seed:1", "preprocessing": "p", "decoder": "d" },
            "benchmarks": benchmarks.iter().map(told).collect::<Vec<_>>(),
        }),
        numerics: json!({}),
        record: json!({}),
    };
    let options = OpenOptions {
        plan: &plan,
        extends: |_, _| false,
        config: &config,
        access: Access::Exclusive,
        mix_numerics: false,
        patience: Duration::from_secs(1),
    };
    let folder = RunFolder::open(run, Arc::new(Disk), &options).unwrap();
    let names = benchmarks.iter().map(|name| (*name).to_owned()).collect();
    let parts = PartConfig { benchmarks: names, embeddings: None, metadata: BTreeMap::new() };
    let mut lines = Vec::new();
    for ((name, rows), ordinal) in shards.into_iter().zip(0..) {
        let Some(rows) = rows else { continue };
        let mut part = ShardRows::begin(&Disk, run, folder.incarnation(), ordinal, &name, &parts).unwrap();
        let mut counts = Counts::default();
        for (row, index) in rows.zip(0..) {
            let fate = Arc::new(row.fate(ordinal, index));
            counts.count(&fate);
            part.add([fate], &parts).unwrap();
        }
        let (sums, _) = part.finish(&Disk, run, &[], &parts).unwrap();
        lines.push(ShardLine {
            schema: SCHEMA_VERSION,
            ordinal,
            name,
            status: LineStatus::Committed,
            remark: None,
            rejected: None,
            notices: Default::default(),
            bytes: 1,
            counts,
            parts: sums,
            decision: folder.decision_hash().into(),
        });
    }
    folder.append_all(&lines).unwrap();
}
