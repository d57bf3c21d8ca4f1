//! `trommel report`: a run folder ─▶ counts, histograms, pairs of pictures ─▶ one page, or one picture.
//!
//! The ledger streams by once; what is held are bins, a bounded choice of dropped samples a benchmark, and the benchmarks'
//! keys and radii. The choice depends on the ledger alone: equal ledgers give equal pages.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use trommel_core::sample::{PointRow, Status};
use trommel_core::text::{percent, thousands};
use trommel_ledger::manifest::Codes;
use trommel_report::{DataTable, Heading, Report};
use trommel_shard::store::Stores;
use trommel_synth::Truth;

use self::charts::{count, curves, histogram};
use self::leaks::Leaks;
use self::pairs::pairs;
use self::sums::{Candidate, Sums};
use self::tables::Tally;
use crate::error::PipelineError;
use crate::past_run::PastRun;
use crate::run_losses;

mod against;
mod charts;
mod leaks;
mod pairs;
mod sums;
mod tables;

/// What a report shows.
#[derive(Clone, Debug)]
pub struct ReportOptions {
    /// Pairs of pictures shown for each benchmark, at most.
    pub pairs_per_benchmark: usize,
    /// `truth.jsonl` of `trommel synth`: planted copies are marked and counted.
    pub truth: Option<PathBuf>,
    /// Pictures are blurred until somebody clicks on them, whether or not the run says so.
    pub blurred: bool,
    /// Another run over the same shards, or a split of them: who changes sides is counted.
    pub against: Option<PathBuf>,
    /// Where pictures of samples are read.
    pub stores: Stores,
}

impl Default for ReportOptions {
    fn default() -> Self {
        Self { pairs_per_benchmark: 20, truth: None, blurred: false, against: None, stores: Stores::default() }
    }
}

/// What became of planted copies, and of all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PlantedCounts {
    /// Planted copies that were judged.
    pub planted: u64,
    /// Of these the dropped ones.
    pub planted_dropped: u64,
    /// All other samples that were judged.
    pub others: u64,
    /// Of these the dropped ones.
    pub others_dropped: u64,
}

/// All that a page or a picture needs.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// What the page shows. `seconds` is empty: a run folder does not say where its time went.
    pub report: Report,
    /// Where there is a truth file.
    pub planted: Option<PlantedCounts>,
    /// Pictures that could not be shown, one line each kind of trouble.
    pub troubles: Vec<String>,
}

/// Reads a run folder.
///
/// # Errors
/// No run folder, a damaged one, or a truth file that cannot be read. Missing pictures are none.
pub fn gather(run: &Path, options: &ReportOptions) -> Result<Gathered, PipelineError> {
    let past = PastRun::open(run)?;
    let truth = options.truth.as_deref().map(read_truth).transpose()?;
    let mut sums: Vec<Sums> = past.benchmarks.iter().map(|_| Sums::default()).collect();
    let (mut tally, mut leaks) = (Tally::new(&past), Leaks::new(&past));
    let mut planted = truth.as_ref().map(|_| PlantedCounts::default());
    for row in past.ledger.rows().map_err(PipelineError::failed)? {
        let row = row.map_err(PipelineError::failed)?;
        let copy = truth.as_ref().and_then(|truth| truth.get(&truth_key(&row.shard, &row.fate.info.key)));
        if let Some(counts) = &mut planted
            && row.fate.status != Status::Rejected
        {
            let dropped = u64::from(row.fate.status == Status::Dropped);
            if copy.is_some() {
                (counts.planted, counts.planted_dropped) = (counts.planted + 1, counts.planted_dropped + dropped);
            } else {
                (counts.others, counts.others_dropped) = (counts.others + 1, counts.others_dropped + dropped);
            }
        }
        tally.add(&past, &row.fate);
        leaks.add(&row.fate);
        for (benchmark, (sums, score)) in sums.iter_mut().zip(&row.fate.scores).enumerate() {
            let dropped = row.fate.status == Status::Dropped;
            if let Some(similarity) = score.max_similarity {
                sums.add(similarity, dropped);
            }
            let removed = dropped && past.removes(benchmark, score);
            sums.removed += u64::from(removed);
            let shown = removed || (!dropped && past.margin(benchmark, score).is_some());
            if let Some(evidence) = past.evidence(benchmark, score).filter(|_| shown) {
                let (id, margin) = (row.fate.info.id, evidence.margin);
                let make = || Candidate::new(&row, evidence, copy.map(|truth| truth.kind.clone()));
                if dropped { sums.offer(id, margin, make) } else { sums.offer_kept(id, margin, make) }
            }
        }
    }
    let items = past.ledger.items().map_err(PipelineError::failed)?;
    let counts = past.ledger.counts();
    let mut report = Report {
        heading: heading(&past, run),
        kept: counts.kept,
        dropped: counts.dropped,
        rejected: counts.rejected,
        ..Report::default()
    };
    report.rejects = counts.rejects.iter().map(|(code, count)| (code.to_owned(), count)).collect();
    report.rejects.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for (at, sums) in sums.iter().enumerate() {
        let mine: Vec<&PointRow> = items.iter().filter(|row| usize::from(row.benchmark) == at).collect();
        report.benchmarks.push(count(&past, at, sums, &mine));
        report.histograms.extend(histogram(&past, at, sums));
        report.curves.extend(curves(&past, at, &mine));
    }
    report.tables = tally.tables(&past, &items);
    report.tables.extend(leaks.tables(&past, &items, &options.stores)?);
    let mut troubles = Vec::new();
    if let Some(other) = &options.against {
        let (tables, cut) = against::tables(&past, other)?;
        report.tables.extend(tables);
        troubles.extend(cut);
    }
    let most = options.pairs_per_benchmark;
    let dropped: Vec<_> = sums.iter().map(|sums| sums.choose(most)).collect();
    let kept: Vec<_> = sums.iter().map(|sums| sums.choose_kept(most / 2)).collect();
    for (chosen, kept, shown) in [(&dropped, false, &mut report.pairs), (&kept, true, &mut report.kept_pairs)] {
        let (pairs, said) = pairs(&past, &options.stores, chosen, kept);
        *shown = pairs;
        troubles.extend(said);
    }
    // A benchmark that is gone is missed by both.
    troubles.sort();
    troubles.dedup();
    report.blurred = options.blurred || past.is_blurred();
    report.facts = facts(&past, planted, &counts.remarks, &troubles);
    Ok(Gathered { report, planted, troubles })
}

/// The page: HTML that loads nothing.
#[must_use]
pub fn page(gathered: &Gathered) -> String {
    trommel_report::html(&gathered.report)
}

/// The page's tables.
#[must_use]
pub fn tables(gathered: &Gathered) -> Vec<DataTable> {
    gathered.report.data_tables()
}

/// The picture: SVG.
#[must_use]
pub fn picture(gathered: &Gathered) -> String {
    trommel_report::picture(&gathered.report.heading, &gathered.report.pairs, &gathered.report.histograms)
}

fn heading(past: &PastRun, run: &Path) -> Heading {
    let names: Vec<&str> = past.benchmarks.iter().map(|benchmark| benchmark.name.as_str()).collect();
    let against = if names.is_empty() { "no benchmark".into() } else { names.join(", ") };
    let counts = past.ledger.counts();
    let total = counts.kept + counts.dropped + counts.rejected;
    let run = run.file_name().unwrap_or(run.as_os_str()).to_string_lossy();
    let first = format!("run {run}: rule {}; judged against {against}", past.rule_text);
    let second = format!(
        "{} samples of {} of {} shards: {} kept, {} dropped ({}), {} rejected",
        thousands(total),
        thousands(past.ledger.shards().len() as u64),
        thousands(past.plan.len() as u64),
        thousands(counts.kept),
        thousands(counts.dropped),
        percent(counts.dropped, total),
        thousands(counts.rejected)
    );
    Heading { title: "What was dropped, and why".into(), lines: vec![first, second] }
}

fn facts(
    past: &PastRun,
    planted: Option<PlantedCounts>,
    remarks: &Codes,
    troubles: &[String],
) -> Vec<(String, String)> {
    let config = past.ledger.config();
    let at = |path: &str| config.pointer(path).filter(|value| !value.is_null());
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut facts = vec![("rule".to_owned(), past.rule_text.clone())];
    let mut add = |name: &str, value: Option<String>| facts.extend(value.map(|value| (name.to_owned(), value)));
    let beside = past.benchmarks.iter().filter(|benchmark| !benchmark.counts).map(|benchmark| benchmark.name.as_str());
    let beside = beside.collect::<Vec<_>>().join(", ");
    add("judged, but not in the rule", (!beside.is_empty()).then_some(beside));
    add("side of ties", at("/record/tie").map(plain));
    add("seed of random rules", at("/decisions/rule_seed").map(plain));
    for (name, field) in [
        ("embedder", "architecture"),
        ("weights", "weights"),
        ("preprocessing", "preprocessing"),
        ("decoder", "decoder"),
    ] {
        add(name, at(&format!("/decisions/embedder/{field}")).map(plain));
    }
    add("split: keys", at("/decisions/split/keys_sha256").map(plain));
    add("split: samples", at("/decisions/split/count").map(plain));
    add("columns", at("/decisions/columns").map(plain));
    add("numeric part", at("/numerics").filter(|value| **value != serde_json::json!({})).map(Value::to_string));
    add("command", at("/record/command").map(plain));
    add("program", at("/record/program").map(plain));
    add("decision hash", at("/decision_hash").map(plain));
    let (judged, planned) = (past.ledger.shards().len() as u64, past.plan.len() as u64);
    add("shards", Some(format!("{} judged of {}", thousands(judged), thousands(planned))));
    for (ordinal, (_, line)) in past.ledger.failed() {
        let name = past.plan.shard(*ordinal).map_or("", |shard| shard.name.as_str());
        add("shard not read", Some(format!("{name}: {}", line.remark.as_deref().unwrap_or("no reason given"))));
    }
    for line in run_losses::of_run(&past.plan, &past.ledger).lines() {
        add("input", Some(line));
    }
    if let Some(counts) = planted {
        let share = |part, whole| format!("{} of {} ({})", thousands(part), thousands(whole), percent(part, whole));
        add("planted copies dropped", Some(share(counts.planted_dropped, counts.planted)));
        add("other samples dropped", Some(share(counts.others_dropped, counts.others)));
    }
    for (code, count) in remarks.iter() {
        add(&format!("remark {code}"), Some(format!("{} samples", thousands(count))));
    }
    for trouble in troubles {
        add("not shown", Some(trouble.clone()));
    }
    facts
}

/// A truth file names shards by their file's name.
fn truth_key(shard: &str, key: &str) -> (String, String) {
    (shard.rsplit('/').next().unwrap_or(shard).to_owned(), key.to_owned())
}

/// Planted copies by shard and key.
fn read_truth(path: &Path) -> Result<HashMap<(String, String), Truth>, PipelineError> {
    let text = std::fs::read_to_string(path).map_err(|error| PipelineError::usage(error).within(path.display()))?;
    let mut truths = HashMap::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let truth: Truth = serde_json::from_str(line)
            .map_err(|error| PipelineError::usage(error).within(format_args!("{}: line {}", path.display(), at + 1)))?;
        if truth.benchmark.is_some() {
            truths.insert(truth_key(&truth.shard, &truth.key), truth);
        }
    }
    Ok(truths)
}
