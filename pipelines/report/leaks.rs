//! What leaks, in the terms of "Data Leakage in Visual Datasets" (2508.17416): of a benchmark's points, those that the pool, what is
//! kept, or the benchmark itself holds a second time.
//!
//! | dimension | values | decided by |
//! |---|---|---|
//! | degree | exact (hard), near (soft) | equal stored vectors; similarity above the rule's threshold, else above the point's radius |
//! | modality | full, image only | whether the caption of the nearest sample holds the point's class name, or is its caption |
//! | coverage | between sets (inter), inside a set (intra) | samples beside points; points beside points |
//!
//! What a run does not know is never counted as none: the cell stays empty, and a second table says why, and what would tell.

use std::collections::BTreeSet;

use serde_json::Value;
use trommel_columnar::embeddings::EmbeddingSet;
use trommel_core::sample::{Fate, PointRow, SampleId};
use trommel_decide::condition::Cut;
use trommel_report::{Cell, DataTable};
use trommel_shard::store::Store;

use self::called::Called;
use self::copies::{Candidates, Copied, Points};
use self::words::Captions;
use super::pairs::group;
use crate::benchmarks::open_set;
use crate::error::PipelineError;
use crate::past_run::{PastRun, TestPoints};

mod called;
mod copies;
mod inside;
mod words;

const COLUMNS: [&str; 11] = [
    "benchmark",
    "leaked into",
    "coverage",
    "test points",
    "leaked",
    "(share)",
    "exact",
    "near",
    "full",
    "image only",
    "label not known",
];

const TERMS: &str = "Exact (hard): the set holds a picture whose stored embedding equals the test point's in every element. Pictures of equal bytes have \
equal embeddings from one embedder, device and precision; a copy that was embedded otherwise may differ in a last bit, and is near.
Near (soft): the set holds a picture that is more similar than the point's limit, which is the rule's threshold where it has one for the benchmark, \
else the point's radius; and no exact copy.
Leaked: exact or near; where exact copies are not known, what is above the limit. An exact copy of a point whose radius is as large, since the \
reference set holds one too, is above no limit: drop-over-radius keeps it.
Full: the caption of the sample nearest to the test point holds the point's class name as whole words, or is the point's own caption (letter \
case and punctuation aside; a picture of a class folder with neither a text nor a json beside it has its folder's name). Image only: it does not. \
Label not known: there is no caption to read back, or nothing that the point is called.
Between sets (inter): the training set and the benchmark. Inside a set (intra): each point beside the benchmark's other points.";

/// Gathers while the ledger streams by.
pub(super) struct Leaks {
    candidates: Candidates,
}

/// Something that is not known: of which benchmark, what, why, and what would tell.
type Unknown = [String; 4];

/// By point, what one set holds of a benchmark; `None` where that is not known.
struct Held {
    above: Option<Vec<bool>>,
    copied: Option<Vec<bool>>,
    nearest: Vec<Option<SampleId>>,
}

impl Held {
    fn leaks(&self, point: usize) -> bool {
        let has = |of: &Option<Vec<bool>>| of.as_ref().is_some_and(|of| of[point]);
        has(&self.above) || has(&self.copied)
    }

    /// Points that leak, with the nearest sample.
    fn leaked(&self) -> impl Iterator<Item = (usize, Option<SampleId>)> + '_ {
        (0..self.nearest.len()).filter(|&point| self.leaks(point)).map(|point| (point, self.nearest[point]))
    }

    /// Leaked, exact, near.
    fn degrees(&self) -> [Option<u64>; 3] {
        let count = |is: &dyn Fn(usize) -> bool| (0..self.nearest.len()).filter(|&point| is(point)).count() as u64;
        match (&self.above, &self.copied) {
            (Some(above), Some(copied)) => [
                Some(count(&|point| above[point] || copied[point])),
                Some(count(&|point| copied[point])),
                Some(count(&|point| above[point] && !copied[point])),
            ],
            (Some(above), None) => [Some(count(&|point| above[point])), None, None],
            (None, Some(copied)) => [None, Some(count(&|point| copied[point])), None],
            (None, None) => [None; 3],
        }
    }
}

impl Leaks {
    pub(super) fn new(past: &PastRun) -> Self {
        Self { candidates: Candidates::new(past.benchmarks.len()) }
    }

    pub(super) fn add(&mut self, fate: &Fate) {
        self.candidates.add(fate);
    }

    /// The counts, and what they lack.
    ///
    /// # Errors
    /// A ledger or stored embeddings that cannot be read.
    pub(super) fn tables(
        &self,
        past: &PastRun,
        items: &[PointRow],
        store: &dyn Store,
    ) -> Result<[DataTable; 2], PipelineError> {
        let mut unknown = Vec::new();
        let sets: Vec<Option<Points>> = past.benchmarks.iter().map(points_of).collect();
        let copied = self.candidates.find(&past.ledger, &sets)?;
        let (mut held, mut wanted) = (Vec::new(), BTreeSet::new());
        for (at, benchmark) in past.benchmarks.iter().enumerate() {
            let mine: Vec<&PointRow> = items.iter().filter(|row| usize::from(row.benchmark) == at).collect();
            let copied = self.copied(past, at, &sets[at], copied.as_ref(), &mut unknown);
            let sides = sides(past, benchmark, cut(past, at), &mine, copied, &mut unknown);
            wanted.extend(sides.iter().flat_map(Held::leaked).filter_map(|(_, nearest)| nearest));
            held.push(sides);
        }
        let config = group(past.ledger.config());
        let captions = Captions::read(&past.ledger, &past.plan, store, &config, &wanted)?;
        let mut rows = Vec::new();
        for ((at, benchmark), (held, points)) in past.benchmarks.iter().enumerate().zip(held.iter().zip(sets)) {
            let called = Called::find(benchmark, points.as_ref(), held, store)?;
            called.tell(benchmark, held, &mut unknown);
            for (held, into) in held.iter().zip(["pool", "kept"]) {
                rows.push(row(benchmark, into, "between sets", held, Some(called.count(held, &captions))));
            }
            let inside = inside(benchmark, cut(past, at), points, &mut unknown)?;
            rows.push(row(benchmark, "itself", "inside the set", &inside, None));
        }
        let why = captions.unknown.into_iter();
        unknown.extend(why.map(|(why, tells)| ["all".into(), "label".into(), why, tells]));
        unknown.push([
            "all".into(),
            "a benchmark and its own training set".into(),
            "a run does not know which set that is".into(),
            "trommel dedup BENCHMARK --against TRAINING --above T -o DIR".into(),
        ]);
        unknown.push([
            "all".into(),
            "inside the pool".into(),
            "a run compares no samples with each other".into(),
            format!("trommel dedup {} --above T -o FILE.parquet", past.ledger.root().display()),
        ]);
        let rows = if past.benchmarks.is_empty() { Vec::new() } else { rows };
        let unknown = if rows.is_empty() { Vec::new() } else { unknown };
        let title = "What leaks: exact or near, with its label or without, between sets or inside one";
        let leaks = DataTable { rows, ..DataTable::new("leaks", title, &COLUMNS).noted(TERMS) };
        let columns = ["benchmark", "not known", "why", "what would tell"];
        let rows = unknown.into_iter().map(|row| row.map(Cell::Text).to_vec()).collect();
        Ok([
            leaks,
            DataTable { rows, ..DataTable::new("leaks_unknown", "What this run does not know of leaks", &columns) },
        ])
    }

    /// Copies of a benchmark's points, where they are known.
    fn copied(
        &self,
        past: &PastRun,
        at: usize,
        points: &Option<Points>,
        found: Option<&Vec<Copied>>,
        unknown: &mut Vec<Unknown>,
    ) -> Option<Copied> {
        let benchmark = &past.benchmarks[at];
        let mut say = |what: &str, why: &str, tells: &str| {
            unknown.push([benchmark.name.clone(), what.into(), why.into(), tells.into()]);
            None
        };
        match (points, found) {
            (None, _) => say(
                "its points",
                benchmark.trouble.as_deref().unwrap_or("its embeddings cannot be read"),
                "trommel report when its embeddings are where they were",
            ),
            _ if !self.candidates.sees(at) => say(
                "exact",
                "the ledger has no largest similarities to it",
                "trommel prune with --columns all and a rule that compares, into another run folder",
            ),
            (Some(_), None) => say(
                "exact",
                "the run kept no embeddings",
                "trommel prune without --no-embeddings, into another run folder",
            ),
            (Some(_), Some(found)) => Some(found[at].clone()),
        }
    }
}

/// What a similarity to this benchmark is compared with: the rule's threshold, else radii; `None` where there is neither.
fn cut(past: &PastRun, at: usize) -> Option<Cut> {
    let benchmark = &past.benchmarks[at];
    let condition = past.policy().and_then(|policy| policy.condition()).filter(|_| benchmark.counts);
    let threshold = condition.map(|(condition, _)| condition.limit.cut()).filter(|cut| *cut != Cut::RADIUS);
    threshold.or_else(|| benchmark.radii.as_ref().map(|_| Cut::RADIUS))
}

fn points_of(benchmark: &TestPoints) -> Option<Points> {
    let folder = benchmark.folder.as_ref()?;
    let set = EmbeddingSet::read(folder, open_set(folder).ok()?).ok()?;
    (set.len() as u64 == benchmark.points).then(|| Points::new(set))
}

fn radius(benchmark: &TestPoints, point: usize) -> Option<f64> {
    benchmark.radii.as_ref().and_then(|radii| radii.get(point).copied())
}

/// What the pool and what is kept hold of a benchmark.
fn sides(
    past: &PastRun,
    benchmark: &TestPoints,
    cut: Option<Cut>,
    items: &[&PointRow],
    copied: Option<Copied>,
    unknown: &mut Vec<Unknown>,
) -> [Held; 2] {
    let count = benchmark.points as usize;
    let has_maxima = past.ledger.config().pointer("/decisions/columns").and_then(Value::as_str) != Some("decision");
    let mut say = |what: &str, why: &str, tells: String| {
        unknown.push([benchmark.name.clone(), what.into(), why.into(), tells]);
    };
    if let (None, Some(folder)) = (cut, &benchmark.folder) {
        let (name, folder) = (&benchmark.name, folder.display());
        let tells = format!(
            "trommel radii --reference DIR --benchmark {name}={folder} -o RADII, then trommel prune with --benchmark {name}=RADII/{name}"
        );
        say("near", "it has no radii, and the rule no threshold", tells);
    } else if !has_maxima {
        let tells = "trommel prune with --columns all, into another run folder";
        say("near, among what is kept", "the ledger has no largest similarities to it", tells.into());
    }
    let mut sides = [false, true].map(|kept| {
        // Hits are counted whatever the columns; all else is told from maxima.
        let known = cut.filter(|cut| has_maxima || (!kept && *cut == Cut::RADIUS));
        Held { above: known.map(|_| vec![false; count]), copied: None, nearest: vec![None; count] }
    });
    // A run that does not say how many points there are has none here.
    for row in items.iter().filter(|row| (row.point as usize) < count) {
        let point = row.point as usize;
        let seen = [(row.max_similarity, row.sample), (row.kept_max, row.kept_sample)];
        for ((kept, side), (most, nearest)) in [false, true].into_iter().zip(&mut sides).zip(seen) {
            if let (Some(above), Some(cut)) = (&mut side.above, cut) {
                above[point] = if cut == Cut::RADIUS && !kept {
                    row.hits > 0
                } else {
                    most.is_some_and(|most| cut.is_hit(most, radius(benchmark, point)))
                };
            }
            side.nearest[point] = nearest;
        }
    }
    if let Some(Copied { pool, kept }) = copied {
        (sides[0].copied, sides[1].copied) = (Some(pool), Some(kept));
    }
    sides
}

/// What a benchmark holds of itself.
fn inside(
    benchmark: &TestPoints,
    cut: Option<Cut>,
    points: Option<Points>,
    unknown: &mut Vec<Unknown>,
) -> Result<Held, PipelineError> {
    let count = benchmark.points as usize;
    let mut held = Held { above: None, copied: None, nearest: vec![None; count] };
    // Why they are missing is said already.
    let Some(points) = points else { return Ok(held) };
    held.copied = Some(points.inside());
    match cut {
        Some(_) if !inside::is_small(&points.set) => {
            let folder = benchmark.folder.as_ref().map(|folder| folder.display().to_string()).unwrap_or_default();
            unknown.push([
                benchmark.name.clone(),
                "near, inside the benchmark".into(),
                format!("{count} points are more than a report compares with each other"),
                format!("trommel dedup {folder} --above T -o FILE.parquet"),
            ]);
        }
        Some(cut) => {
            let limits: Vec<f64> = (0..count).map(|point| cut.value(radius(benchmark, point))).collect();
            held.above = Some(inside::above(&benchmark.name, points.set, &limits)?);
        }
        None => {}
    }
    Ok(held)
}

fn row(benchmark: &TestPoints, into: &str, coverage: &str, held: &Held, modality: Option<[u64; 3]>) -> Vec<Cell> {
    let cell = |count: Option<u64>| count.map_or(Cell::Missing, Cell::Count);
    let [leaked, exact, near] = held.degrees();
    // Where neither degree is known, nobody knows who leaks.
    let modality = modality.filter(|_| held.above.is_some() || held.copied.is_some());
    let [full, image_only, unknown] = modality.map_or([None; 3], |counts| counts.map(Some));
    let share = leaked.map_or(Cell::Missing, |leaked| Cell::Share(leaked, benchmark.points));
    let text = |text: &str| Cell::Text(text.into());
    let counts = [exact, near, full, image_only, unknown].map(cell);
    let mut cells = vec![text(&benchmark.name), text(into), text(coverage), Cell::Count(benchmark.points)];
    cells.extend([cell(leaked), share]);
    cells.extend(counts);
    cells
}

#[cfg(test)]
mod tests;
