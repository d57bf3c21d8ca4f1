//! k-means, to the bit: SemDeDup's first half.
//!
//! Centres begin as rows in a seeded order, each passed over that lies above [`KMeans::apart`] of one that was taken. Each round gives every row its
//! nearest centre ([`crate::nearest`]) and every centre the mean of its rows (`means`); it ends when less than a stated share of the rows
//! has moved, or after so many rounds. A batch instead of all rows: each round draws some, and a centre is the mean of all rows that it was
//! ever given (Sculley's learning rate of 1/count). A sample instead of all rows: those with the smallest ranks.
//!
//! Memory: 12 bytes a row for its cluster and distance, 8 for its rank, and 12 bytes an element of each centre.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use half::f16;
use serde::Serialize;
use trommel_core::hash::mix;

use crate::DedupError;
use crate::means::Sums;
use crate::nearest::{Centres, Nearest, assign};
use crate::scan::{Machine, apart};
use crate::vectors::{Gathered, Vectors};
use crate::work::Work;

/// Units of a squared distance in 1: it is a multiple of 2^-48.
const UNITS: f64 = 281_474_976_710_656.0;

/// How to cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KMeans {
    /// Centres wanted.
    pub clusters: usize,
    /// Seed of the batches' draws. The first centres and the sample follow the ranks.
    pub seed: u64,
    /// Cosine above which a row is no centre beside one that was taken.
    pub apart: f64,
    /// Rounds after which it ends in any case.
    pub rounds: usize,
    /// Share of rows; when less have moved it ends. Batches do not end it.
    pub moved: f64,
    /// Rows to learn from; all where there are no more.
    pub sample: Option<usize>,
    /// Rows of a round; all that is learnt from if `None`.
    pub batch: Option<usize>,
    /// Centres are directions: unit vectors, nearest by cosine.
    pub spherical: bool,
}

/// A round of learning.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Round {
    /// Rows that were given another centre than in the round before; all in the first, and where rows are drawn.
    pub moved: u64,
    /// Sum of the squared distances to the centres of the round before, divided by the rows.
    pub mean_squared_distance: f64,
}

/// Which rows lie together.
#[derive(Clone, Debug, PartialEq)]
pub struct Clustering {
    /// The centres, fewer than wanted where not so many rows lie apart.
    pub centres: Centres,
    /// Each row's cluster and squared distance.
    pub nearest: Vec<Nearest>,
    /// What each round of the k-means did, in order.
    pub rounds: Vec<Round>,
    /// Mean squared distance of all rows to their centres.
    pub mean_squared_distance: f64,
    /// Rows that were learnt from.
    pub learnt_from: usize,
}

/// Clusters `rows`, of which there is one at least; `ranks` is one a row, in whose order (and then the rows') they are sampled.
///
/// # Errors
/// Rows that cannot be read.
pub fn cluster(
    rows: &dyn Vectors,
    ranks: &[u64],
    how: &KMeans,
    machine: Machine,
    work: &Work,
) -> Result<Clustering, DedupError> {
    let sampled = how.sample.filter(|&sample| sample < rows.len()).map(|sample| {
        let mut first = smallest(ranks, sample.max(1));
        first.sort_unstable();
        first
    });
    let gathered = sampled.as_deref().map(|sampled| Gathered { of: rows, rows: sampled });
    let learnt: &dyn Vectors = gathered.as_ref().map_or(rows, |gathered| gathered);
    let mut centres = first_centres(rows, ranks, learnt.len(), how, machine, work)?;
    let mut sums = Sums::new(centres.len(), rows.dim());
    let before: Vec<AtomicU32> = std::iter::repeat_with(|| AtomicU32::new(u32::MAX)).take(learnt.len()).collect();
    let mut rounds = Vec::new();
    for round in 0..how.rounds {
        let drawn = how.batch.map(|batch| draw(how.seed, round, learnt.len(), batch));
        let batch = drawn.as_deref().map(|drawn| Gathered { of: learnt, rows: drawn });
        let these: &dyn Vectors = batch.as_ref().map_or(learnt, |batch| batch);
        let stage = format!("k-means, round {} of {} at most", round + 1, how.rounds);
        work.begin(stage, (these.len() * centres.len()) as u64);
        if how.batch.is_none() {
            sums.clear();
        }
        let (moved, total) = (AtomicU64::new(0), Mutex::new(0u128));
        assign(these, &centres, machine, work, &|first, nearest, vectors| {
            sums.add(nearest, vectors);
            add(&total, nearest);
            let other = |(at, nearest): (usize, &Nearest)| match how.batch {
                Some(_) => true,
                None => before[first + at].swap(nearest.cluster, Ordering::Relaxed) != nearest.cluster,
            };
            moved.fetch_add(nearest.iter().enumerate().filter(|it| other(*it)).count() as u64, Ordering::Relaxed);
        })?;
        let moved = moved.into_inner();
        rounds.push(Round { moved, mean_squared_distance: mean(total, these.len()) });
        centres = sums.centres(&centres, how.spherical);
        // Where the rows of a batch were before nobody knows.
        if how.batch.is_none() && (moved as f64) < how.moved * learnt.len() as f64 {
            break;
        }
    }
    work.begin("the nearest centres", (rows.len() * centres.len()) as u64);
    let (all, total) = (Mutex::new(vec![Nearest { cluster: 0, squared_distance: 0.0 }; rows.len()]), Mutex::new(0));
    assign(rows, &centres, machine, work, &|first, nearest, _| {
        add(&total, nearest);
        if let Ok(mut all) = all.lock() {
            all[first..first + nearest.len()].copy_from_slice(nearest);
        }
    })?;
    let nearest = all.into_inner().unwrap_or_default();
    let (mean_squared_distance, learnt_from) = (mean(total, rows.len()), learnt.len());
    Ok(Clustering { centres, nearest, rounds, mean_squared_distance, learnt_from })
}

/// Exact, in any order.
fn add(total: &Mutex<u128>, nearest: &[Nearest]) {
    let sum: u128 = nearest.iter().map(|nearest| (nearest.squared_distance * UNITS) as u128).sum();
    if let Ok(mut total) = total.lock() {
        *total += sum;
    }
}

fn mean(total: Mutex<u128>, rows: usize) -> f64 {
    total.into_inner().unwrap_or_default() as f64 / UNITS / rows as f64
}

/// The rows with the smallest (rank, row), in that order.
#[must_use]
pub fn smallest(ranks: &[u64], count: usize) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..ranks.len() as u32).collect();
    let key = |row: &u32| (ranks[*row as usize], *row);
    if count < rows.len() {
        rows.select_nth_unstable_by_key(count, key);
        rows.truncate(count);
    }
    rows.sort_unstable_by_key(key);
    rows
}

/// The first centres, among the rows that are learnt from, which are those with the smallest ranks.
fn first_centres(
    rows: &dyn Vectors,
    ranks: &[u64],
    learnt: usize,
    how: &KMeans,
    machine: Machine,
    work: &Work,
) -> Result<Centres, DedupError> {
    // A few of the first are enough, unless many of them are alike.
    let mut asked = how.clusters.saturating_mul(2).max(1024);
    let taken = loop {
        let first = smallest(ranks, asked.min(learnt));
        work.begin("the first centres", (how.clusters as u64).saturating_mul(first.len() as u64));
        let taken = apart(&Gathered { of: rows, rows: &first }, how.apart, how.clusters, machine, work)?;
        if taken.len() == how.clusters || asked >= learnt {
            break taken.iter().map(|&at| first[at as usize]).collect::<Vec<_>>();
        }
        asked = asked.saturating_mul(4);
    };
    let mut vectors = vec![f16::ZERO; taken.len() * rows.dim()];
    Gathered { of: rows, rows: &taken }.read(0, &mut vectors)?;
    Ok(Centres::new(rows.dim(), vectors, how.spherical))
}

/// Positions of a round's rows, with replacement, ascending.
fn draw(seed: u64, round: usize, of: usize, count: usize) -> Vec<u32> {
    let mut state = mix(seed) ^ mix(round as u64 + 1).rotate_left(17);
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((u128::from(mix(state)) * of as u128) >> 64) as u32
    };
    let mut drawn: Vec<u32> = std::iter::repeat_with(next).take(count).collect();
    drawn.sort_unstable();
    drawn
}
