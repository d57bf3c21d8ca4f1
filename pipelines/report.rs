//! `trommel report`: a run folder ─▶ counts, histograms, pairs of pictures ─▶ one page, or one picture.
//!
//! The ledger streams by once; what is held are bins, a bounded choice of dropped samples a benchmark, and the benchmarks'
//! keys and radii. The choice depends on the ledger alone: equal ledgers give equal pages.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value;
use trommel_core::sample::PointRow;
use trommel_core::sample::{SampleId, Status};
use trommel_ledger::manifest::Codes;
use trommel_ledger::read::LedgerRow;
use trommel_report::text::{percent, thousands};
use trommel_report::{BenchmarkCount, Heading, HistogramSeries, PairTile, Report, near_threshold};
use trommel_shard::samples::{GroupConfig, keys};
use trommel_synth::Truth;

use crate::error::PipelineError;
use crate::past_run::{Evidence, PastRun};
use crate::pictures::{self, Wanted};

/// What a report shows.
#[derive(Clone, Debug)]
pub struct ReportOptions {
    /// Pairs of pictures shown for each benchmark, at most.
    pub pairs_per_benchmark: usize,
    /// `truth.jsonl` of `trommel synth`: planted copies are marked and counted.
    pub truth: Option<PathBuf>,
}

impl Default for ReportOptions {
    fn default() -> Self {
        Self { pairs_per_benchmark: 20, truth: None }
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

/// Bins over -1..1 that similarities are counted in while they stream by.
const FINE_BINS: usize = 1 << 16;
/// Bins of the histograms shown.
const SHOWN_BINS: usize = 72;
/// Dropped samples a benchmark among which pairs are chosen: the nearest to the limit, and as many by hash.
const CANDIDATES: usize = 4096;

/// Reads a run folder.
///
/// # Errors
/// No run folder, a damaged one, or a truth file that cannot be read. Missing pictures are none.
pub fn gather(run: &Path, options: &ReportOptions) -> Result<Gathered, PipelineError> {
    let past = PastRun::open(run)?;
    let truth = options.truth.as_deref().map(read_truth).transpose()?;
    let mut sums: Vec<Sums> = past.benchmarks.iter().map(|_| Sums::default()).collect();
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
        for (benchmark, (sums, score)) in sums.iter_mut().zip(&row.fate.scores).enumerate() {
            let dropped = row.fate.status == Status::Dropped;
            if let Some(similarity) = score.max_similarity {
                sums.add(similarity, dropped);
            }
            if dropped && past.removes(benchmark, score) {
                sums.removed += 1;
                if let Some(evidence) = past.evidence(benchmark, score) {
                    sums.offer(Candidate::new(&row, evidence, copy.map(|truth| truth.kind.clone())));
                }
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
    }
    let (pairs, troubles) = pairs(&past, sums, options.pairs_per_benchmark);
    report.pairs = pairs;
    report.facts = facts(&past, planted, &counts.remarks, &troubles);
    Ok(Gathered { report, planted, troubles })
}

/// The page: HTML that loads nothing.
#[must_use]
pub fn page(gathered: &Gathered) -> String {
    trommel_report::html(&gathered.report)
}

/// The picture: SVG.
#[must_use]
pub fn picture(gathered: &Gathered) -> String {
    trommel_report::picture(&gathered.report.heading, &gathered.report.pairs, &gathered.report.histograms)
}

/// What is summed up for one benchmark while the ledger streams by.
struct Sums {
    all: Vec<u64>,
    dropped: Vec<u64>,
    least: f64,
    most: f64,
    removed: u64,
    near: BTreeMap<(u64, SampleId), Candidate>,
    spread: BTreeMap<(u64, SampleId), Candidate>,
}

impl Default for Sums {
    fn default() -> Self {
        let (least, most) = (f64::INFINITY, f64::NEG_INFINITY);
        let bins = || vec![0; FINE_BINS];
        Self { all: bins(), dropped: bins(), least, most, removed: 0, near: BTreeMap::new(), spread: BTreeMap::new() }
    }
}

impl Sums {
    fn add(&mut self, similarity: f64, dropped: bool) {
        (self.least, self.most) = (self.least.min(similarity), self.most.max(similarity));
        let bin = (((similarity + 1.0) / 2.0 * FINE_BINS as f64).max(0.0) as usize).min(FINE_BINS - 1);
        self.all[bin] += 1;
        self.dropped[bin] += u64::from(dropped);
    }

    fn offer(&mut self, candidate: Candidate) {
        let id = candidate.id;
        // Bits of a float that is not negative are in the float's order.
        keep(&mut self.near, (candidate.evidence.margin.abs().to_bits(), id), &candidate);
        keep(&mut self.spread, (mix(id), id), &candidate);
    }

    /// At most `count` candidates, those with the largest margins first.
    fn choose(&self, count: usize) -> Vec<&Candidate> {
        let all: BTreeMap<SampleId, &Candidate> =
            self.near.iter().chain(&self.spread).map(|((_, id), candidate)| (*id, candidate)).collect();
        let all: Vec<&Candidate> = all.into_values().collect();
        let margins: Vec<f64> = all.iter().map(|candidate| candidate.evidence.margin).collect();
        near_threshold(&margins, count).into_iter().map(|at| all[at]).collect()
    }
}

fn keep(chosen: &mut BTreeMap<(u64, SampleId), Candidate>, key: (u64, SampleId), candidate: &Candidate) {
    if chosen.len() < CANDIDATES || chosen.last_key_value().is_some_and(|(last, _)| key < *last) {
        chosen.insert(key, candidate.clone());
        if chosen.len() > CANDIDATES {
            chosen.pop_last();
        }
    }
}

/// SplitMix64's finaliser over a sample's place: an order that has nothing to do with the data.
const fn mix(id: SampleId) -> u64 {
    let mut z = id.ordinal.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(id.index as u64 + 1);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A dropped sample that may be shown.
#[derive(Clone, Debug)]
struct Candidate {
    id: SampleId,
    shard: String,
    wanted: Wanted,
    evidence: Evidence,
    planted: Option<String>,
}

impl Candidate {
    fn new(row: &LedgerRow, evidence: Evidence, planted: Option<String>) -> Self {
        let info = &row.fate.info;
        let wanted = Wanted { offset: info.offset, key: info.key.clone() };
        Self { id: info.id, shard: row.shard.clone(), wanted, evidence, planted }
    }
}

fn count(past: &PastRun, at: usize, sums: &Sums, items: &[&PointRow]) -> BenchmarkCount {
    let benchmark = &past.benchmarks[at];
    let known = |value: f64| value.is_finite().then_some(value);
    let most = |values: &mut dyn Iterator<Item = f64>| known(values.fold(f64::NEG_INFINITY, f64::max));
    let hit = |row: &PointRow| {
        past.policy()
            .is_some_and(|policy| policy.point_removes(row.max_similarity.unwrap_or(f64::NEG_INFINITY), row.hits))
    };
    BenchmarkCount {
        name: benchmark.name.clone(),
        points: benchmark.points,
        removed: sums.removed,
        points_hit: items.iter().filter(|row| benchmark.counts && hit(row)).count() as u64,
        pool_max: most(&mut items.iter().filter_map(|row| row.max_similarity)).or_else(|| known(sums.most)),
        kept_max: most(&mut items.iter().filter_map(|row| row.kept_max)),
    }
}

fn histogram(past: &PastRun, at: usize, sums: &Sums) -> Option<HistogramSeries> {
    let benchmark = &past.benchmarks[at];
    let threshold = past.threshold().filter(|_| benchmark.counts);
    let radii = || benchmark.radii.iter().flatten().copied().filter(|radius| radius.is_finite());
    if sums.most < sums.least {
        return None;
    }
    let (low, high) = HistogramSeries::span([sums.least, sums.most].into_iter().chain(threshold).chain(radii()));
    // A pool of (nearly) one value stands in the middle, not in bins narrower than those it was counted in.
    let (low, high) = if high - low < 0.005 { (low - 0.01, high + 0.01) } else { (low, high) };
    let mut series = HistogramSeries::new(&benchmark.name, low, high, SHOWN_BINS);
    series.threshold = threshold;
    for (fine, (all, dropped)) in sums.all.iter().zip(&sums.dropped).enumerate().filter(|(_, (all, _))| **all > 0) {
        let middle = (fine as f64 + 0.5) * 2.0 / FINE_BINS as f64 - 1.0;
        let share = (middle - series.low) / (series.high - series.low) * SHOWN_BINS as f64;
        let bin = (share.max(0.0) as usize).min(SHOWN_BINS - 1);
        series.pool[bin] += all;
        series.dropped[bin] += dropped;
    }
    radii().for_each(|radius| series.add_radius(radius));
    Some(series)
}

/// The pairs shown, benchmark by benchmark, and what pictures could not be had.
fn pairs(past: &PastRun, sums: Vec<Sums>, count: usize) -> (Vec<PairTile>, Vec<String>) {
    let chosen: Vec<Vec<&Candidate>> = sums.iter().map(|sums| sums.choose(count)).collect();
    let wanted = chosen.iter().flatten().map(|candidate| (candidate.id, candidate.wanted.clone())).collect();
    let (samples, mut troubles) = pictures::samples(&past.plan, &group(past), &wanted);
    let lost = wanted.keys().filter(|id| !samples.contains_key(id)).count();
    if lost > 0 {
        troubles.push(format!("{lost} of {} dropped pictures could not be read back from their shards", wanted.len()));
    }
    let mut tiles = Vec::new();
    for (benchmark, chosen) in past.benchmarks.iter().zip(&chosen) {
        let mut lost = 0;
        for candidate in chosen {
            let sample = samples.get(&candidate.id).cloned().unwrap_or_default();
            let key = benchmark.key(candidate.evidence.point);
            let test = key.and_then(|key| pictures::test_picture(&benchmark.pictures, key));
            lost += usize::from(test.is_none());
            tiles.push(PairTile {
                dropped_image: pictures::small(sample.image),
                test_image: test.map(pictures::small).unwrap_or_default(),
                similarity: candidate.evidence.similarity,
                radius: candidate.evidence.limit,
                caption: sample.caption,
                benchmark: benchmark.name.clone(),
                key: format!("{}/{}", candidate.shard, candidate.wanted.key),
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

/// Samples are grouped as the run grouped them.
fn group(past: &PastRun) -> GroupConfig {
    let mut group = GroupConfig::default();
    let decisions = past.ledger.config().get("decisions");
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
    let mut notices = past.plan.losses();
    notices.merge(&past.ledger.notices());
    for line in notices.lines() {
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
    let place = |line: usize, error: &dyn std::fmt::Display| {
        PipelineError::Usage(format!("{}: line {line}: {error}", path.display()))
    };
    let text =
        std::fs::read_to_string(path).map_err(|error| PipelineError::Usage(format!("{}: {error}", path.display())))?;
    let mut truths = HashMap::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let truth: Truth = serde_json::from_str(line).map_err(|error| place(at + 1, &error))?;
        if truth.benchmark.is_some() {
            truths.insert(truth_key(&truth.shard, &truth.key), truth);
        }
    }
    Ok(truths)
}
