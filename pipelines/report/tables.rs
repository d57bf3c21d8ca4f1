//! What is counted over all samples: who would go at other limits, how close decisions are, what benchmarks have in common; and
//! what each test point saw.

use std::cmp::Reverse;

use trommel_core::median::median;
use trommel_core::sample::{Fate, PointRow, SampleId, Score, Status};
use trommel_report::{Cell, DataTable};

use crate::past_run::PastRun;

/// Similarities above which samples are counted.
const THRESHOLDS: [f64; 14] = [0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99];
/// How much larger all radii are, or smaller.
const SHIFTS: [f64; 11] = [-0.2, -0.1, -0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2];
/// Distances from the limit within which decisions are called close.
const CLOSE: [f64; 4] = [1e-4, 1e-3, 1e-2, 5e-2];
/// Test points shown of each benchmark.
const MOST_HIT: usize = 10;

/// The counts, while the ledger streams by. A column a benchmark, and one for any of them.
pub(super) struct Tally {
    judged: u64,
    over: Vec<Vec<u64>>,
    shifted: Vec<Vec<u64>>,
    has_margins: bool,
    /// Dropped samples that both benchmarks remove.
    both: Vec<Vec<u64>>,
    /// Dropped samples that no other benchmark removes.
    alone: Vec<u64>,
    /// Kept and dropped samples within each distance.
    close: [[u64; 2]; CLOSE.len()],
}

impl Tally {
    pub(super) fn new(past: &PastRun) -> Self {
        let count = past.benchmarks.len();
        let columns = |rows: usize| vec![vec![0; count + 1]; rows];
        Self {
            judged: 0,
            over: columns(THRESHOLDS.len()),
            shifted: columns(SHIFTS.len()),
            has_margins: false,
            both: vec![vec![0; count]; count],
            alone: vec![0; count],
            close: Default::default(),
        }
    }

    pub(super) fn add(&mut self, past: &PastRun, fate: &Fate) {
        if fate.status == Status::Rejected {
            return;
        }
        self.judged += 1;
        let values = |value: fn(&Score) -> Option<f64>| fate.scores.iter().map(value).collect::<Vec<_>>();
        let margins = values(|score| score.margin);
        self.has_margins |= margins.iter().any(Option::is_some);
        raise(&mut self.over, &THRESHOLDS, &values(|score| score.max_similarity));
        raise(&mut self.shifted, &SHIFTS, &margins);
        let scores = fate.scores.iter().enumerate();
        let dropped = fate.status == Status::Dropped;
        if dropped {
            let removing: Vec<usize> =
                scores.clone().filter(|(at, score)| past.removes(*at, score)).map(|(at, _)| at).collect();
            for &a in &removing {
                removing.iter().for_each(|&b| self.both[a][b] += 1);
            }
            if let [one] = removing[..] {
                self.alone[one] += 1;
            }
        }
        // The decision hangs on the benchmark that comes nearest to removing the sample, or removes it most clearly.
        let margins = scores.filter_map(|(at, score)| past.margin(at, score));
        if let Some(margin) = margins.max_by(f64::total_cmp) {
            for (within, counts) in CLOSE.iter().zip(&mut self.close) {
                counts[usize::from(dropped)] += u64::from(margin.abs() <= *within);
            }
        }
    }

    pub(super) fn tables(&self, past: &PastRun, items: &[PointRow]) -> Vec<DataTable> {
        let mut tables = vec![gap(past, items)];
        if self.has_margins {
            let note = "What drop-over-radius would drop of the judged samples if every radius were larger or smaller by so much. At 0 the \
                        rule itself.";
            tables.push(
                self.columns("shifts", "If the radii were others", "radii", &SHIFTS, &self.shifted, past).noted(note),
            );
        }
        let note = "Judged samples whose largest similarity is above each threshold: what drop-above:T would drop.";
        tables.push(
            self.columns("thresholds", "If one threshold decided", "above", &THRESHOLDS, &self.over, past).noted(note),
        );
        tables.extend(self.overlap(past));
        tables.extend(self.close());
        tables.push(most_hit(past, items));
        tables.retain(|table| !table.rows.is_empty());
        tables
    }

    fn columns(
        &self,
        name: &str,
        title: &str,
        first: &str,
        limits: &[f64],
        counts: &[Vec<u64>],
        past: &PastRun,
    ) -> DataTable {
        let names = past.benchmarks.iter().map(|benchmark| benchmark.name.as_str());
        let columns: Vec<&str> = [first].into_iter().chain(names).chain(["any of them", "(share)"]).collect();
        let signed = limits.iter().any(|limit| *limit < 0.0);
        let row = |(limit, counts): (&f64, &Vec<u64>)| {
            let limit = if signed { Cell::Text(format!("{limit:+.2}")) } else { Cell::Number(*limit, 2) };
            let any = counts.last().copied().unwrap_or(0);
            let counts = counts.iter().map(|count| Cell::Count(*count));
            [limit].into_iter().chain(counts).chain([Cell::Share(any, self.judged)]).collect()
        };
        let known = counts.iter().any(|counts| counts.iter().any(|count| *count > 0));
        let rows = if known { limits.iter().zip(counts).map(row).collect() } else { Vec::new() };
        DataTable { rows, ..DataTable::new(name, title, &columns) }
    }

    /// A matrix, where more than one benchmark counts.
    fn overlap(&self, past: &PastRun) -> Option<DataTable> {
        let counting: Vec<usize> = (0..past.benchmarks.len()).filter(|&at| past.benchmarks[at].counts).collect();
        if counting.len() < 2 {
            return None;
        }
        let names = counting.iter().map(|&at| past.benchmarks[at].name.as_str());
        let columns: Vec<&str> = ["removed by"].into_iter().chain(names).chain(["by no other"]).collect();
        let row = |&at: &usize| {
            let both = counting.iter().map(|&other| Cell::Count(self.both[at][other]));
            let name = Cell::Text(past.benchmarks[at].name.clone());
            [name].into_iter().chain(both).chain([Cell::Count(self.alone[at])]).collect()
        };
        let rows = counting.iter().map(row).collect();
        let note = "Samples that both benchmarks remove; on the diagonal all that one removes.";
        Some(DataTable {
            rows,
            ..DataTable::new("overlap", "What the benchmarks remove in common", &columns).noted(note)
        })
    }

    fn close(&self) -> Option<DataTable> {
        if self.close.iter().flatten().all(|count| *count == 0) {
            return None;
        }
        let row = |(within, [kept, dropped]): (&f64, &[u64; 2])| {
            let share = Cell::Share(kept + dropped, self.judged);
            vec![Cell::Text(within.to_string()), Cell::Count(*kept), Cell::Count(*dropped), share]
        };
        let rows = CLOSE.iter().zip(&self.close).map(row).collect();
        let note = "Samples whose decision another rounding, decoder or model could turn: their distance from the limit as a cosine.";
        let columns = ["within", "kept", "dropped", "share of judged"];
        Some(DataTable { rows, ..DataTable::new("close", "How close the decisions are", &columns).noted(note) })
    }
}

/// Counts a value wherever it is above the limit, in ascending order; the last column has the largest of all.
fn raise(counts: &mut [Vec<u64>], limits: &[f64], values: &[Option<f64>]) {
    let most = values.iter().flatten().copied().max_by(f64::total_cmp);
    for (at, value) in values.iter().chain([&most]).enumerate() {
        let Some(value) = value else { continue };
        let below = limits.partition_point(|limit| value > limit);
        counts[..below].iter_mut().for_each(|row| row[at] += 1);
    }
}

/// The check that pruning did what it says.
fn gap(past: &PastRun, items: &[PointRow]) -> DataTable {
    let columns = [
        "benchmark",
        "test points",
        "with a radius",
        "above their radius in the pool",
        "above their radius after pruning",
        "median radius",
        "median nearest in the pool",
        "median nearest kept",
    ];
    let row = |(at, benchmark): (usize, &crate::past_run::TestPoints)| {
        let mine: Vec<&PointRow> = items.iter().filter(|row| usize::from(row.benchmark) == at).collect();
        let radii: Vec<f64> = benchmark.radii.iter().flatten().copied().filter(|radius| radius.is_finite()).collect();
        let above = |value: fn(&PointRow) -> Option<f64>| {
            let radius = |row: &PointRow| benchmark.radii.as_ref()?.get(row.point as usize).copied();
            let over =
                mine.iter().filter(|row| value(row).zip(radius(row)).is_some_and(|(value, radius)| value > radius));
            if radii.is_empty() { Cell::Missing } else { Cell::Count(over.count() as u64) }
        };
        let of = |value: fn(&PointRow) -> Option<f64>| median(mine.iter().filter_map(|row| value(row)));
        vec![
            Cell::Text(benchmark.name.clone()),
            Cell::Count(benchmark.points),
            if benchmark.trouble.is_none() { Cell::Count(radii.len() as u64) } else { Cell::Missing },
            above(|row| row.max_similarity),
            above(|row| row.kept_max),
            Cell::number(median(radii.clone()), 4),
            Cell::number(of(|row| row.max_similarity), 4),
            Cell::number(of(|row| row.kept_max), 4),
        ]
    };
    let rows: Vec<Vec<Cell>> = past.benchmarks.iter().enumerate().map(row).collect();
    let sum = |column: usize| {
        rows.iter().filter_map(move |row| if let Cell::Count(n) = row[column] { Some(n) } else { None })
    };
    let (above, radii) = (sum(4).sum::<u64>(), sum(2).sum::<u64>());
    let note = format!("{above} of {radii} test points with a radius have a sample above it among what is kept.");
    let note = (radii > 0).then_some(note);
    let unknown = past.benchmarks.iter().filter_map(|benchmark| {
        let why = benchmark.trouble.as_ref()?;
        Some(format!("What radii {} has is not known: {why}.", benchmark.name))
    });
    let notes: Vec<String> = note.into_iter().chain(unknown).collect();
    DataTable { rows, ..DataTable::new("gap", "The gap check", &columns).noted(&notes.join("\n")) }
}

fn most_hit(past: &PastRun, items: &[PointRow]) -> DataTable {
    let columns =
        ["benchmark", "test point", "radius", "samples over it", "nearest in the pool", "(which)", "nearest kept"];
    let place = |id: SampleId| {
        let shard = past.plan.shard(id.ordinal).map_or("", |shard| shard.name.as_str());
        format!("{shard}, sample {}", id.index)
    };
    let mut rows = Vec::new();
    for (at, benchmark) in past.benchmarks.iter().enumerate() {
        let mut mine: Vec<&PointRow> =
            items.iter().filter(|row| usize::from(row.benchmark) == at && row.hits > 0).collect();
        mine.sort_by_key(|row| (Reverse(row.hits), row.point));
        for row in mine.into_iter().take(MOST_HIT) {
            let radius = benchmark.radii.as_ref().and_then(|radii| radii.get(row.point as usize).copied());
            let key = benchmark.key(row.point).map_or_else(|| row.point.to_string(), str::to_owned);
            rows.push(vec![
                Cell::Text(benchmark.name.clone()),
                Cell::Text(key),
                Cell::number(radius, 4),
                Cell::Count(row.hits),
                Cell::number(row.max_similarity, 4),
                row.sample.map_or(Cell::Missing, |id| Cell::Text(place(id))),
                Cell::number(row.kept_max, 4),
            ]);
        }
    }
    DataTable { rows, ..DataTable::new("most_hit", "Test points that most samples exceed", &columns) }
}
