//! `trommel dedup`: near-duplicates inside a set, from its stored embeddings; no pixels, no model.
//!
//! ```text
//!  embeddings ─▶ spool, names ─┬─▶ all pairs ─────────────────────────────┬─▶ split of who stays, table of who goes and because of whom
//!                              ├─▶ k-means ─▶ pairs inside each cluster ──┤
//!                              └─▶ pairs with another set ────────────────┘
//! ```
//!
//! All or nothing: a run that is killed leaves no file under its name, and the same command does it anew.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};
use trommel_core::durable;
use trommel_core::notices::Notices;
use trommel_dedup::DedupError;
use trommel_dedup::clusters::Round;
pub use trommel_dedup::inside::Order;
use trommel_dedup::vectors::Vectors;
pub use trommel_dedup::work::Work;
use trommel_select::head::{SPLIT_SCHEMA, SplitHead};
use trommel_select::membership::Membership;
use trommel_select::select::RunFacts;
use trommel_select::split::{Format, Sink, files, head_path};

use crate::error::PipelineError;
use crate::failures::failed;
use crate::memory::MemoryPlan;
use crate::one_model::one_model;
use crate::split_writer::alone;

mod again;
mod job;
mod output;
mod rule;
mod source;

pub use again::{Again, again};
use job::{Job, ScanOutcome};
use output::Found;
pub use rule::{ClusterRule, DedupRule, PREFIX, order};
use source::{Facts, Reading, Set};

/// All pairs are compared without asking up to this many operations: `n^2 d` of them, a million rows of 640 elements being 6.4e14.
pub const MOST_UNASKED_OPERATIONS: f64 = 1e15;

/// On which side equal values fall.
const TIES: &str = "above: strictly; of equal similarities the earliest suppresses; of equally near centres the lowest; at equal places in an \
                    order the earlier row";

/// What is looked for, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct DedupConfig {
    /// Stored embeddings, in this order.
    pub inputs: Vec<String>,
    /// Who is a duplicate of whom.
    pub rule: DedupRule,
    /// Only samples that this split keeps take part.
    pub split: Option<PathBuf>,
    /// Stored embeddings of the other sets.
    pub against: Vec<String>,
    /// Identity vouched for where files carry none.
    pub assume_model: Option<String>,
    /// A file for the split, or a folder.
    pub out: PathBuf,
    /// Files of the split in a folder; none: a Parquet table.
    pub formats: Vec<Format>,
    /// Seed of the first centres, samples, batches, and of the random order.
    pub seed: u64,
    /// All pairs, whatever it costs.
    pub exact: bool,
    /// Compares all pairs too, to say how many duplicates the clusters have found.
    pub check_recall: bool,
    /// Bound on the process's memory.
    pub memory_bytes: u64,
    /// Threads that compare.
    pub threads: usize,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct DedupReport {
    /// `all pairs`, `inside clusters` or `against another set`.
    pub mode: &'static str,
    /// All that decides, in one line.
    pub rule: String,
    /// Elements of a vector.
    pub dim: usize,
    /// Samples that took part.
    pub samples: u64,
    /// Samples that could not be judged, and took no part.
    pub rejected: u64,
    /// Samples that are taken down, and took no part.
    pub taken_down: u64,
    /// Samples that the given split does not keep, and took no part.
    pub outside: u64,
    /// Samples that stay.
    pub kept: u64,
    /// Samples that go.
    pub dropped: u64,
    /// Pairs above the threshold that were seen; where greedy, those with a sample that stays.
    pub pairs_above: u64,
    /// Pairs compared, those with centres included.
    pub pairs_compared: u64,
    /// Floating-point operations of these: `2 dim` each.
    pub operations: f64,
    /// Seconds, reading and writing included.
    pub seconds: f64,
    /// The clusters, where there are any.
    pub clusters: Option<ClustersReport>,
    /// What the clusters have found of what all pairs find, where that was measured.
    pub recall: Option<Recall>,
    /// Samples of the other sets.
    pub others: Option<u64>,
    /// Samples that a trainer finds in the split: `--train-num-samples`.
    pub train_num_samples: u64,
    /// The hash of the kept keys.
    pub keys_sha256: String,
    /// Files, the one that says what the split is last.
    pub files: Vec<String>,
    /// Remarks for people on these.
    pub remarks: Vec<String>,
    /// What was lost of the set, or passed over.
    pub notices: Notices,
    /// The same of the other sets: copies of it may be among those that stay.
    #[serde(skip_serializing_if = "Notices::is_empty")]
    pub others_notices: Notices,
}

/// What became of the k-means.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClustersReport {
    /// Centres wanted.
    pub wanted: usize,
    /// Centres; fewer where not so many rows lie apart.
    pub found: usize,
    /// Clusters without a sample.
    pub empty: usize,
    /// Samples of the largest one.
    pub largest: u32,
    /// Median of the clusters' samples.
    pub median: f64,
    /// Samples that were learnt from.
    pub learnt_from: usize,
    /// What each round of the k-means did, in order.
    pub rounds: Vec<Round>,
    /// Mean squared distance of all samples to their centres.
    pub mean_squared_distance: f64,
}

/// Clusters beside all pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Recall {
    /// Samples that all pairs suppress, in the same order.
    pub dropped_by_all_pairs: u64,
    /// Of these, samples that the clusters suppress.
    pub of_these_by_clusters: u64,
    /// Their share; 1 where there is none.
    pub share: f64,
    /// Pairs above the threshold, all of them.
    pub pairs_above: u64,
}

/// Finds near-duplicates, and writes who stays and who goes. `say` is told what will be done before it is done; `work` how far it is.
///
/// # Errors
/// Embeddings that cannot be read, of models that differ or are not known; a set that is too large for what was asked; too little memory; files that
/// cannot be written.
pub fn dedup(config: &DedupConfig, say: &(dyn Fn(&str) + Sync), work: &Work) -> Result<DedupReport, PipelineError> {
    let start = Instant::now();
    let splits = files(&config.out, &config.formats, &["dedup"]).map_err(failed)?;
    let mut files: Vec<PathBuf> = splits.into_iter().flat_map(|(_, files)| files).collect();
    // The first names all.
    let split = files.first().ok_or_else(|| PipelineError::usage("--format: none was given"))?.clone();
    let folder = durable::parent(&split).to_path_buf();
    let _alone = alone(&files)?;
    let found = Searched::of(config, &folder, &|_| Ok(()), say, work)?;
    let sinks = files
        .iter()
        .filter_map(|file| Format::of(file).map(|format| format.sink(file, found.budget / 16)))
        .collect::<Result<Vec<Box<dyn Sink>>, _>>()
        .map_err(failed)?;
    work.begin("writing", 0);
    let (head, remarks) = found.write(config, sinks, Some(&split))?;
    let Searched { set, other, outcome, .. } = found;
    files.extend(output::tables(&split));
    files.push(head_path(&split));
    let (pairs_compared, dim) = (work.compared(), set.vectors.dim());
    Ok(DedupReport {
        mode: config.mode(),
        dim,
        samples: head.judged,
        rejected: head.rejected,
        taken_down: head.taken_down,
        outside: set.facts.outside,
        kept: head.count,
        dropped: head.judged - head.count,
        pairs_above: outcome.scanned.pairs_above,
        pairs_compared,
        operations: operations(pairs_compared, dim),
        seconds: start.elapsed().as_secs_f64(),
        clusters: outcome.clusters_report(config),
        recall: outcome.recall,
        others: other.as_ref().map(|other| other.vectors.len() as u64),
        others_notices: other.map(|other| other.unseen(&config.against)).unwrap_or_default(),
        train_num_samples: head.trainable(),
        rule: head.rule,
        keys_sha256: head.keys_sha256,
        files: files.iter().map(|file| file.display().to_string()).collect(),
        remarks,
        notices: set.facts.notices,
    })
}

/// What was searched, and what was found.
struct Searched {
    set: Set,
    other: Option<Set>,
    identity: Value,
    outcome: ScanOutcome,
    /// Bytes for all of it.
    budget: u64,
}

impl Searched {
    fn of(
        config: &DedupConfig,
        folder: &Path,
        fits: &dyn Fn(&RunFacts) -> Result<(), PipelineError>,
        say: &(dyn Fn(&str) + Sync),
        work: &Work,
    ) -> Result<Self, PipelineError> {
        config.rule.check()?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(config.threads.max(1)).build();
        let pool = pool.map_err(|error| PipelineError::failed(error).within("no threads"))?;
        let budget = MemoryPlan::new(config.memory_bytes, false).credit_bytes()?;
        let split = config.split.as_ref().map(|split| Membership::open(split)).transpose().map_err(failed)?;
        let uids = config.formats.contains(&Format::Uids) || Format::of(&config.out) == Some(Format::Uids);
        let reading = Reading {
            folder,
            memory_bytes: budget / if config.rule.against { 6 } else { 3 },
            ranks: (config.rule.clusters.is_some() || config.rule.order == Order::Random).then_some(config.seed),
            uids,
            hash: false,
            split: split.as_ref(),
        };
        work.begin("reading", 0);
        let set = source::read(&config.inputs, &reading)?;
        let other = (!config.against.is_empty())
            .then(|| {
                source::read(&config.against, &Reading { ranks: None, uids: false, hash: true, split: None, ..reading })
            })
            .transpose()?;
        let identity = identity(config, &set, other.as_ref())?;
        let reading = set.facts.reading.clone();
        let benchmarks = other.as_ref().map(|other| other.described(&config.against)).into_iter().collect();
        fits(&RunFacts { identity: identity.clone(), benchmarks, reading })?;
        let outcome = Job { config, set: &set, other: other.as_ref(), budget, say, work }.run(&pool)?;
        Ok(Self { set, other, identity, outcome, budget })
    }

    /// Writes who stays to the sinks, and where there is a place for them, the tables.
    fn write(
        &self,
        config: &DedupConfig,
        sinks: Vec<Box<dyn Sink>>,
        split: Option<&Path>,
    ) -> Result<(SplitHead, Vec<String>), PipelineError> {
        let Self { set, other, outcome, .. } = self;
        let found = Found {
            names: &set.names,
            shards: &set.shards,
            by: other.as_ref().map_or(&set.names, |other| &other.names),
            suppressed: &outcome.scanned.suppressed,
            nearest: outcome.clustering.as_ref().map_or(&[], |clustering| &clustering.nearest),
            clusters: &outcome.sizes,
            around: &outcome.around,
        };
        let facts = &set.facts;
        output::write(sinks, split, &found, |counted, keys_sha256| SplitHead {
            schema: SPLIT_SCHEMA,
            rule: DedupRule { of: facts.of.clone(), ..config.rule.clone() }.to_string(),
            seed: config.seed,
            ties: TIES.into(),
            identity: self.identity.clone(),
            benchmarks: other.as_ref().map(|other| other.described(&config.against)).into_iter().collect(),
            reading: facts.reading.clone(),
            columns: Default::default(),
            inputs: Some(config.inputs.len() as u64),
            shards: set.names.shards(),
            without: Vec::new(),
            unfinished: Vec::new(),
            judged: set.vectors.len() as u64,
            rejected: facts.rejected + facts.notices.get("rows").map_or(0, |notice| notice.count),
            taken_down: facts.taken_down,
            count: counted.count,
            captionless: counted.captionless,
            captions_unknown: counted.captions_unknown,
            keys_sha256,
            lists: None,
        })
    }
}

/// A failure of the room, with its exit status.
fn spooled(error: DedupError) -> PipelineError {
    match error {
        DedupError::Spool(_) => PipelineError::failed(error),
        DedupError::Norm { .. } | DedupError::Twice { .. } | DedupError::TooMany => PipelineError::usage(error),
    }
}

fn operations(pairs: u64, dim: usize) -> f64 {
    2.0 * pairs as f64 * dim as f64
}

/// Who embedded, as the split says it.
fn identity(config: &DedupConfig, set: &Set, other: Option<&Set>) -> Result<Value, PipelineError> {
    let assumed = config.assume_model.as_deref();
    let sets = std::iter::once((&config.inputs[0], set.identity.as_ref()));
    let others = other.map(|other| (&config.against[0], other.identity.as_ref()));
    let known = one_model(&sets.chain(others).collect::<Vec<_>>(), assumed)?;
    if known.is_none() && assumed.is_none() {
        let path = &config.inputs[0];
        return Err(PipelineError::usage(format!(
            "{path} does not say which model embedded it: say --assume-model NAME, and the split will"
        )));
    }
    if let Some(other) = other.filter(|other| other.vectors.dim() != set.vectors.dim()) {
        let (own, others) = (set.vectors.dim(), other.vectors.dim());
        return Err(PipelineError::usage(format!("vectors of {own} elements, and of {others} in the other set")));
    }
    Ok(known.map_or_else(|| json!({ "assumed": assumed }), |known| json!(known)))
}

impl DedupConfig {
    fn mode(&self) -> &'static str {
        match (&self.rule.clusters, self.rule.against) {
            (_, true) => "against another set",
            (Some(_), false) => "inside clusters",
            (None, false) => "all pairs",
        }
    }
}

impl Set {
    /// What a split says of a set that it was compared with.
    fn described(&self, arguments: &[String]) -> Value {
        let (points, dim) = (self.vectors.len(), self.vectors.dim());
        json!({ "name": arguments.join(" "), "points": points, "dim": dim, "sha256": self.sha256 })
    }

    /// What of a set that another one was compared with took no part in that.
    fn unseen(self, arguments: &[String]) -> Notices {
        let Facts { mut notices, rejected, taken_down, .. } = self.facts;
        let text = "samples of the other set that could not be judged: nothing was compared with them";
        notices.loss("others_rejected", text, arguments.join(" "), rejected, rejected);
        let text = "samples of the other set that are taken down: nothing was compared with them";
        notices.note("others_taken_down", text, arguments.join(" "), taken_down);
        notices
    }
}
