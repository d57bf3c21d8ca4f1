//! What is done with a set that is read: how long it will take is said first, and whether there is memory for it.

use rayon::ThreadPool;
use trommel_core::median::median;
use trommel_core::text::bytes;
use trommel_dedup::clusters::{Clustering, KMeans, cluster};
use trommel_dedup::inside::{Members, Order, inside, ordered};
use trommel_dedup::nearest::Nearest;
use trommel_dedup::neighbours::{Apart, neighbour_distances};
use trommel_dedup::scan::{Machine, Rule, Scanned, against, pairs, within};
use trommel_dedup::speed::pairs_per_second;
use trommel_dedup::vectors::{Gathered, Vectors};
use trommel_dedup::work::Work;

use super::source::Set;
use super::{ClusterRule, ClustersReport, DedupConfig, MOST_UNASKED_OPERATIONS, Recall, operations, spooled};
use crate::error::PipelineError;
use crate::time_spent::clock;

pub(super) struct Job<'a> {
    pub config: &'a DedupConfig,
    pub set: &'a Set,
    pub other: Option<&'a Set>,
    /// Bytes for all of it.
    pub budget: u64,
    pub say: &'a (dyn Fn(&str) + Sync),
    pub work: &'a Work,
}

/// What came of it.
#[derive(Default)]
pub(super) struct ScanOutcome {
    pub scanned: Scanned,
    pub clustering: Option<Clustering>,
    /// Rows of each cluster, and how far they are from its centre.
    pub sizes: Vec<(u32, Apart)>,
    /// How far each cluster is from those around it, where there are any.
    pub around: Vec<Option<Apart>>,
    pub recall: Option<Recall>,
}

impl Job<'_> {
    /// Does it on the threads of `pool`.
    pub fn run(&self, pool: &ThreadPool) -> Result<ScanOutcome, PipelineError> {
        pool.install(|| self.run_here())
    }

    fn run_here(&self) -> Result<ScanOutcome, PipelineError> {
        let (rows, rule) = (&self.set.vectors, &self.config.rule);
        let machine = self.machine()?;
        if rows.is_empty() {
            (self.say)("there is no sample to compare");
            return Ok(ScanOutcome::default());
        }
        let speed = pairs_per_second(rows.dim(), machine).map_err(spooled)?;
        let scan = Rule { above: rule.above, greedy: rule.greedy };
        if let Some(other) = self.other {
            let all = rows.len() as u64 * other.vectors.len() as u64;
            self.announce("all of one set with all of the other", all, speed, "");
            self.work.begin("pairs of the two sets", all);
            let scanned = against(rows, &other.vectors, rule.above, machine, self.work).map_err(spooled)?;
            return Ok(ScanOutcome { scanned, ..ScanOutcome::default() });
        }
        let all = pairs(rows.len() as u64);
        let Some(clusters) = &rule.clusters else {
            self.refuse_too_many(all, speed)?;
            self.announce("all pairs", all, speed, "");
            self.work.begin("all pairs", all);
            let scanned = match rule.order {
                Order::Plan => within(rows, scan, machine, self.work).map_err(spooled)?,
                order => self.in_order(&ordered(order, rows.len(), &self.set.ranks, &[]), scan, machine)?,
            };
            return Ok(ScanOutcome { scanned, ..ScanOutcome::default() });
        };
        self.announce_clusters(clusters, speed);
        let how = KMeans {
            clusters: clusters.clusters,
            seed: self.config.seed,
            apart: clusters.apart,
            rounds: clusters.iterations,
            moved: clusters.moved,
            sample: clusters.sample,
            batch: clusters.batch,
            spherical: clusters.spherical,
        };
        let clustering = cluster(rows, &self.set.ranks, &how, machine, self.work).map_err(spooled)?;
        let found = clustering.centres.len();
        let order = ordered(rule.order, rows.len(), &self.set.ranks, &clustering.nearest);
        let members = Members::of(&order, &clustering.nearest, found);
        self.announce("pairs inside the clusters", members.pairs(), speed, "");
        self.work.begin("pairs inside the clusters", members.pairs());
        let scanned = inside(rows, &members, scan, machine, self.work).map_err(spooled)?;
        // Where it costs no more than what was done, it is worth its time.
        let recall = if self.config.check_recall || all <= self.work.compared() {
            let why = ": what do the clusters find of all duplicates?";
            self.announce("all pairs", all, speed, why);
            self.work.begin("all pairs", all);
            let exact = self.in_order(&order, Rule { greedy: false, ..scan }, machine)?;
            Some(Recall::of(&exact, &scanned))
        } else {
            None
        };
        let sizes = sizes(&clustering.nearest, found);
        self.work.begin("distances between the clusters", 0);
        let around = neighbour_distances(&clustering.centres, |at| sizes[at].0 > 0);
        Ok(ScanOutcome { scanned, clustering: Some(clustering), sizes, around, recall })
    }

    /// All pairs in an order of their own.
    fn in_order(&self, order: &[u32], rule: Rule, machine: Machine) -> Result<Scanned, PipelineError> {
        let gathered = Gathered { of: &self.set.vectors, rows: order };
        let mut found = within(&gathered, rule, machine, self.work).map_err(spooled)?;
        for one in &mut found.suppressed {
            (one.row, one.by) = (order[one.row as usize], order[one.by as usize]);
        }
        found.suppressed.sort_unstable_by_key(|one| one.row);
        Ok(found)
    }

    /// What the scans may use beside what is held for each row and centre.
    fn machine(&self) -> Result<Machine, PipelineError> {
        let (rows, dim) = (self.set.vectors.len() as u64, self.set.vectors.dim());
        let threads = self.config.threads.max(1);
        // Who goes, and whether; an order; and of clusters: place, rank, distance, the round before, members.
        let row_bytes = match (&self.config.rule.clusters, self.config.rule.order) {
            (Some(_), _) => 24 + 1 + 8 + 4 + 16 + 4 + 4 + 8,
            (None, Order::Plan) => 24 + 1,
            (None, _) => 24 + 1 + 8 + 8,
        };
        let clusters = self.config.rule.clusters.as_ref().map_or(0, |of| of.clusters.min(rows as usize)) as u64;
        let held = rows * row_bytes + clusters * (14 * dim as u64 + 64);
        let spools = self.set.vectors.memory_bytes() + self.other.map_or(0, |other| other.vectors.memory_bytes());
        let least = Machine::least_bytes(dim, threads) + threads as u64 * 5 * clusters;
        let needed = held + spools + least;
        if needed > self.budget {
            let lacking = bytes(needed - self.budget);
            return Err(PipelineError::usage(format!(
                "--memory: {lacking} more are needed: {rows} samples, {} for each of them, {} for centres",
                bytes(row_bytes),
                bytes(clusters * (14 * dim as u64 + 64))
            )));
        }
        let memory_bytes = (self.budget - held - spools).min(threads as u64 * (256 << 20));
        Ok(Machine { threads, memory_bytes })
    }

    fn announce(&self, what: &str, pairs: u64, speed: f64, why: &str) {
        let operations = operations(pairs, self.set.vectors.dim());
        let seconds = clock(pairs as f64 / speed);
        (self.say)(&format!("{what}: {pairs} pairs, {operations:.1e} operations, about {seconds}{why}"));
    }

    fn announce_clusters(&self, clusters: &ClusterRule, speed: f64) {
        let rows = self.set.vectors.len();
        let learnt = clusters.sample.map_or(rows, |sample| sample.min(rows));
        let round = clusters.batch.unwrap_or(learnt) as u64 * clusters.clusters.min(rows) as u64;
        let what = format!("k-means, {} clusters, at most {} rounds, each", clusters.clusters, clusters.iterations);
        self.announce(&what, round, speed, "");
    }

    fn refuse_too_many(&self, pairs: u64, speed: f64) -> Result<(), PipelineError> {
        let (rows, dim) = (self.set.vectors.len(), self.set.vectors.dim());
        let operations = operations(pairs, dim);
        if self.config.exact || operations <= MOST_UNASKED_OPERATIONS {
            return Ok(());
        }
        Err(PipelineError::usage(format!(
            "all pairs of {rows} samples are {operations:.1e} operations, about {} here, above {MOST_UNASKED_OPERATIONS:.0e}: say --exact, or \
             look inside clusters only, --clusters {}",
            clock(pairs as f64 / speed),
            // As many rows a cluster as clusters.
            (rows as f64).sqrt().round()
        )))
    }
}

/// Rows of each cluster and their distances to its centre; summed in the order of the rows.
fn sizes(nearest: &[Nearest], clusters: usize) -> Vec<(u32, Apart)> {
    let mut sizes = vec![(0u32, Apart::default()); clusters];
    for one in nearest {
        let (count, sum) = &mut sizes[one.cluster as usize];
        *count += 1;
        sum.add(one.squared_distance);
    }
    sizes.iter_mut().for_each(|(count, sum)| *sum = sum.mean(*count as usize));
    sizes
}

impl Recall {
    fn of(exact: &Scanned, clusters: &Scanned) -> Self {
        let has = |row: u32| clusters.suppressed.binary_search_by_key(&row, |one| one.row).is_ok();
        let found = exact.suppressed.iter().filter(|one| has(one.row)).count() as u64;
        let dropped = exact.suppressed.len() as u64;
        Self {
            dropped_by_all_pairs: dropped,
            of_these_by_clusters: found,
            share: if dropped == 0 { 1.0 } else { found as f64 / dropped as f64 },
            pairs_above: exact.pairs_above,
        }
    }
}

impl ScanOutcome {
    pub fn clusters_report(&self, config: &DedupConfig) -> Option<ClustersReport> {
        let (clustering, wanted) = (self.clustering.as_ref()?, config.rule.clusters.as_ref()?.clusters);
        let sizes = || self.sizes.iter().map(|(size, _)| *size);
        Some(ClustersReport {
            wanted,
            found: self.sizes.len(),
            empty: sizes().filter(|size| *size == 0).count(),
            largest: sizes().max().unwrap_or_default(),
            median: median(sizes().map(f64::from)).unwrap_or_default(),
            learnt_from: clustering.learnt_from,
            rounds: clustering.rounds.clone(),
            mean_squared_distance: clustering.mean_squared_distance,
        })
    }
}
