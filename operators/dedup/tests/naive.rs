//! What must come out, by loops over f64.

use half::f16;
use trommel_kernels::canonical::round_to_f16;
use trommel_kernels::dot::dot_scalar;

use crate::scan::{Scanned, Suppressed};

pub(super) struct Dice(pub u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(super) fn noise(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }
}

pub(super) fn unit(raw: &[f64]) -> Vec<f16> {
    let norm = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
    raw.iter().map(|x| round_to_f16(x / norm)).collect()
}

/// Rows of which many are alike: fresh ones, copies to the bit, copies with a little noise, copies of copies.
pub(super) fn rows(dice: &mut Dice, count: usize, dim: usize) -> Vec<f16> {
    let mut all: Vec<f16> = Vec::new();
    for at in 0..count {
        let from = if at == 0 { 0 } else { dice.below(at) * dim };
        let row: Vec<f64> = match dice.below(4) {
            1 if at > 0 => {
                all.extend_from_within(from..from + dim);
                continue;
            }
            2 | 3 if at > 0 => {
                let size = 0.02 + 0.4 * (dice.noise() + 0.5);
                all[from..from + dim].iter().map(|x| x.to_f64() + size * dice.noise()).collect()
            }
            _ => (0..dim).map(|_| dice.noise()).collect(),
        };
        all.extend(unit(&row));
    }
    all
}

pub(super) fn row(all: &[f16], dim: usize, at: usize) -> &[f16] {
    &all[at * dim..(at + 1) * dim]
}

/// Each row with those that stand before it in `order`; of another set, with all.
pub(super) fn scan(
    all: &[f16],
    others: Option<&[f16]>,
    dim: usize,
    order: &[u32],
    above: f64,
    greedy: bool,
) -> Scanned {
    let mut found = Scanned::default();
    let mut gone = vec![false; all.len() / dim];
    for (at, &x) in order.iter().enumerate() {
        let before: Vec<u32> = match others {
            Some(others) => (0..(others.len() / dim) as u32).collect(),
            None => order[..at].to_vec(),
        };
        let mut best: Option<Suppressed> = None;
        for y in before {
            if greedy && gone[y as usize] {
                continue;
            }
            let similarity = dot_scalar(row(all, dim, x as usize), row(others.unwrap_or(all), dim, y as usize));
            if similarity > above {
                found.pairs_above += 1;
                if best.is_none_or(|best| similarity > best.similarity) {
                    best = Some(Suppressed { row: x, by: y, similarity });
                }
            }
        }
        if let Some(best) = best {
            gone[x as usize] = true;
            found.suppressed.push(best);
        }
    }
    found.suppressed.sort_by_key(|suppressed| suppressed.row);
    found
}

/// The nearest centre, and the squared distance: from the differences themselves, which f64 holds to 1e-12.
pub(super) fn nearest(x: &[f16], centres: &[f16], dim: usize, spherical: bool) -> (usize, f64) {
    let square = |a: &[f16]| dot_scalar(a, a);
    let height = |c: &[f16]| dot_scalar(x, c) - if spherical { 0.0 } else { square(c) / 2.0 };
    let mut best = 0;
    for at in 1..centres.len() / dim {
        if height(row(centres, dim, at)) > height(row(centres, dim, best)) {
            best = at;
        }
    }
    let apart = x.iter().zip(row(centres, dim, best)).map(|(a, b)| (a.to_f64() - b.to_f64()).powi(2)).sum();
    (best, apart)
}

/// Rows in the order of the ranks, each passed over that lies too near to one that was taken.
fn first_centres(all: &[f16], dim: usize, ranked: &[u32], clusters: usize, apart: f64) -> Vec<f16> {
    let mut first: Vec<u32> = Vec::new();
    for &x in ranked {
        let near = |&y: &u32| dot_scalar(row(all, dim, x as usize), row(all, dim, y as usize)) > apart;
        if first.len() < clusters && !first.iter().any(near) {
            first.push(x);
        }
    }
    first.iter().flat_map(|&x| row(all, dim, x as usize).to_vec()).collect()
}

/// Sculley's mini-batches: each round draws rows with replacement, and a centre is the mean of all rows that it was ever given.
pub(super) fn mini_batches(
    all: &[f16],
    dim: usize,
    ranked: &[u32],
    (clusters, apart, spherical): (usize, f64, bool),
    (rounds, batch, seed): (usize, usize, u64),
) -> Vec<f16> {
    let mut centres = first_centres(all, dim, ranked, clusters, apart);
    let mut given = vec![(vec![0.0; dim], 0.0); centres.len() / dim];
    // The finisher of SplitMix64, as the dice have it.
    let mix = |x: u64| Dice(x.wrapping_sub(0x9e37_79b9_7f4a_7c15)).next();
    for round in 0..rounds {
        let mut dice = Dice(mix(seed) ^ mix(round as u64 + 1).rotate_left(17));
        let before = centres.clone();
        for _ in 0..batch {
            let x = row(all, dim, ((u128::from(dice.next()) * (all.len() / dim) as u128) >> 64) as usize);
            let (sum, count) = &mut given[nearest(x, &before, dim, spherical).0];
            // Multiples of 2^-24 far below 2^29: exact in f64.
            sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x.to_f64());
            *count += 1.0;
        }
        for (centre, (sum, count)) in centres.chunks_exact_mut(dim).zip(&given).filter(|(_, (_, count))| *count > 0.0) {
            let mean: Vec<f64> = sum.iter().map(|sum| sum / count).collect();
            let norm = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
            let by = if spherical { norm } else { 1.0 };
            centre.iter_mut().zip(mean).for_each(|(centre, mean)| *centre = round_to_f16(mean / by));
        }
    }
    centres
}

/// Lloyd's rounds from the rows in the order of the ranks, with sums of f64.
pub(super) fn k_means(all: &[f16], dim: usize, ranked: &[u32], clusters: usize, apart: f64, rounds: usize) -> Vec<f16> {
    let mut centres = first_centres(all, dim, ranked, clusters, apart);
    let mut before = vec![usize::MAX; all.len() / dim];
    for _ in 0..rounds {
        let now: Vec<usize> = all.chunks_exact(dim).map(|x| nearest(x, &centres, dim, false).0).collect();
        for cluster in 0..centres.len() / dim {
            let its: Vec<&[f16]> =
                all.chunks_exact(dim).zip(&now).filter(|(_, at)| **at == cluster).map(|(x, _)| x).collect();
            for lane in (0..dim).filter(|_| !its.is_empty()) {
                // A few thousand multiples of 2^-24: exact in f64.
                let sum: f64 = its.iter().map(|x| x[lane].to_f64()).sum();
                centres[cluster * dim + lane] = round_to_f16(sum / its.len() as f64);
            }
        }
        if now == before {
            break;
        }
        before = now;
    }
    centres
}
