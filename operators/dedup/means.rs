//! Means of clusters, without rounding on the way: an f16 is a multiple of 2^-24, so sums of them are sums of integers, which have one value in any
//! order. The mean is divided in f64 and rounded once to f16. A cluster without rows keeps its centre.
//!
//! Memory: 8 bytes an element of each centre.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use trommel_kernels::canonical::round_to_f16;

use crate::nearest::{Centres, Nearest};

/// Units of an f16 in 1.
const UNITS: f32 = 16_777_216.0;

/// Sums of the rows of each cluster.
#[derive(Debug)]
pub struct Sums {
    dim: usize,
    /// i64\[clusters, dim\], multiples of 2^-24.
    sums: Vec<AtomicI64>,
    counts: Vec<AtomicU64>,
}

impl Sums {
    /// Of so many clusters, without a row.
    #[must_use]
    pub fn new(clusters: usize, dim: usize) -> Self {
        let sums = std::iter::repeat_with(AtomicI64::default).take(clusters * dim).collect();
        Self { dim, sums, counts: std::iter::repeat_with(AtomicU64::default).take(clusters).collect() }
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        self.sums.iter_mut().for_each(|sum| *sum.get_mut() = 0);
        self.counts.iter_mut().for_each(|count| *count.get_mut() = 0);
    }

    /// Adds rows, f16 widened to f32, to their clusters; from any thread, in any order.
    pub fn add(&self, nearest: &[Nearest], rows: &[f32]) {
        let mut order: Vec<usize> = (0..nearest.len()).collect();
        order.sort_unstable_by_key(|&row| nearest[row].cluster);
        let mut sum = vec![0i64; self.dim];
        // Rows of one cluster are added up before the cluster's own sum is touched, which other threads touch too.
        for run in order.chunk_by(|&a, &b| nearest[a].cluster == nearest[b].cluster) {
            sum.fill(0);
            for &row in run {
                // A power of two scales exactly, and norms up to 1.01 stay far below 2^31.
                for (sum, x) in sum.iter_mut().zip(&rows[row * self.dim..]) {
                    *sum += i64::from((x * UNITS) as i32);
                }
            }
            let cluster = nearest[run[0]].cluster as usize;
            for (all, sum) in self.sums[cluster * self.dim..].iter().zip(&sum) {
                all.fetch_add(*sum, Ordering::Relaxed);
            }
            self.counts[cluster].fetch_add(run.len() as u64, Ordering::Relaxed);
        }
    }

    /// The means, or where `spherical` their directions.
    #[must_use]
    pub fn centres(&self, before: &Centres, spherical: bool) -> Centres {
        let mut vectors = before.vectors().to_vec();
        let clusters = vectors.chunks_exact_mut(self.dim).zip(self.sums.chunks_exact(self.dim)).zip(&self.counts);
        let mut mean = vec![0.0; self.dim];
        for ((centre, sums), count) in clusters {
            let count = count.load(Ordering::Relaxed);
            if count == 0 {
                continue;
            }
            for (mean, sum) in mean.iter_mut().zip(sums) {
                *mean = sum.load(Ordering::Relaxed) as f64 / f64::from(UNITS) / count as f64;
            }
            // In the order of the elements, so that it has one value.
            let norm = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
            let by = if spherical && norm > 0.0 { norm } else { 1.0 };
            if !spherical || norm > 0.0 {
                centre.iter_mut().zip(&mean).for_each(|(centre, mean)| *centre = round_to_f16(mean / by));
            }
        }
        Centres::new(self.dim, vectors, spherical)
    }
}
