//! Near-duplicates inside clusters: SemDeDup's second half. Each cluster is a set of its own to [`crate::scan`]; small ones are scanned side by
//! side, large ones by all threads.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::DedupError;
use crate::clusters::smallest;
use crate::nearest::Nearest;
use crate::scan::{Machine, Rule, Scanned, Suppressed, pairs, within};
use crate::vectors::{Gathered, Vectors};
use crate::work::Work;

/// Who comes first, and so stays. Equal ones follow the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As the rows came.
    Plan,
    /// As `ranks` say, which a seeded hash draws.
    Random,
    /// The farthest from their centres: SemDeDup's "hard".
    CentroidFar,
    /// The nearest to their centres: its "easy".
    CentroidNear,
}

/// All rows in an order; `nearest` is one a row where the order asks for it.
#[must_use]
pub fn ordered(order: Order, rows: usize, ranks: &[u64], nearest: &[Nearest]) -> Vec<u32> {
    let mut all: Vec<u32> = (0..rows as u32).collect();
    let distance = |row: &u32| nearest[*row as usize].squared_distance;
    match order {
        Order::Plan => {}
        Order::Random => return smallest(ranks, rows),
        // Sorting is stable: equal ones stay in the order of the rows.
        Order::CentroidFar => all.sort_by(|a, b| distance(b).total_cmp(&distance(a))),
        Order::CentroidNear => all.sort_by(|a, b| distance(a).total_cmp(&distance(b))),
    }
    all
}

/// The rows of each cluster, in a stated order.
#[derive(Clone, Debug, PartialEq)]
pub struct Members {
    /// All rows, cluster after cluster.
    rows: Vec<u32>,
    /// Where each cluster begins; one more, where the last one ends.
    starts: Vec<usize>,
}

impl Members {
    /// Groups rows, which are given in an order, by their clusters.
    #[must_use]
    pub fn of(ordered: &[u32], nearest: &[Nearest], clusters: usize) -> Self {
        let mut starts = vec![0; clusters + 1];
        nearest.iter().for_each(|nearest| starts[nearest.cluster as usize + 1] += 1);
        for cluster in 0..clusters {
            starts[cluster + 1] += starts[cluster];
        }
        let (mut next, mut rows) = (starts.clone(), vec![0; ordered.len()]);
        for &row in ordered {
            let at = &mut next[nearest[row as usize].cluster as usize];
            rows[*at] = row;
            *at += 1;
        }
        Self { rows, starts }
    }

    /// How many clusters.
    #[must_use]
    pub fn clusters(&self) -> usize {
        self.starts.len() - 1
    }

    /// The rows of a cluster.
    #[must_use]
    pub fn cluster(&self, at: usize) -> &[u32] {
        &self.rows[self.starts[at]..self.starts[at + 1]]
    }

    /// Pairs that a scan compares at most.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        (0..self.clusters()).map(|at| pairs(self.cluster(at).len() as u64)).sum()
    }
}

/// Scans each cluster; the rows are named by their positions in `rows`.
///
/// # Errors
/// Rows that cannot be read.
pub fn inside(
    rows: &dyn Vectors,
    members: &Members,
    rule: Rule,
    machine: Machine,
    work: &Work,
) -> Result<Scanned, DedupError> {
    let alone = Machine { threads: 1, memory_bytes: machine.memory_bytes / machine.threads.max(1) as u64 };
    // What a thread has room for at once, it scans alone.
    let small = (alone.memory_bytes / (8 * rows.dim() as u64 + 5 * 256)) as usize;
    let scan = |cluster: usize, machine: Machine| {
        let members = members.cluster(cluster);
        let mut found = within(&Gathered { of: rows, rows: members }, rule, machine, work)?;
        for Suppressed { row, by, .. } in &mut found.suppressed {
            (*row, *by) = (members[*row as usize], members[*by as usize]);
        }
        Ok(found)
    };
    let (few, many): (Vec<usize>, Vec<usize>) = (0..members.clusters())
        .filter(|&at| members.cluster(at).len() > 1)
        .partition(|&at| members.cluster(at).len() <= small.min(8192));
    let mut found = if machine.threads > 1 {
        few.into_par_iter().map(|at| scan(at, alone)).collect::<Result<Vec<_>, DedupError>>()?
    } else {
        few.into_iter().map(|at| scan(at, alone)).collect::<Result<Vec<_>, DedupError>>()?
    };
    for at in many {
        found.push(scan(at, machine)?);
    }
    let pairs_above = found.iter().map(|found| found.pairs_above).sum();
    let mut suppressed: Vec<Suppressed> = found.into_iter().flat_map(|found| found.suppressed).collect();
    suppressed.sort_unstable_by_key(|suppressed| suppressed.row);
    Ok(Scanned { suppressed, pairs_above })
}
