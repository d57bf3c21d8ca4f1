//! The nearest centre of each row, exactly.
//!
//! Centres are f16, so every quantity that decides is a sum of products of f16, which f64 holds exactly (`trommel_kernels::dot`):
//! `|x - c|^2 = |x|^2 - 2 h` with `h = x c - |c|^2 / 2`, a multiple of 2^-49 below 2 in magnitude. The nearest centre is the one with the largest `h`; of
//! equally near ones the lowest. Spherical centres have `h = x c`.
//!
//! Fast products `v` find candidates: with `e` the bound of the product, `r` the f32 nearest to `|c|^2 / 2` and `u = 2^-24`,
//! `|fl(v - r) - h| <= e + u |r| + u (|v| + |r|) <= e + 3 u (|v| + |r|)`. Whoever lies within twice that of the largest is decided exactly.
//! Products are in f32, not in codes (`trommel_kernels::int8`): centres are new in each round, and those around a row lie closer together than codes can tell,
//! so that with fewer than some thousand of them coding and sifting take what codes save.
//! Memory: `4.25 B` a row of a portion and centre, for each thread.

use std::sync::Mutex;

use half::f16;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use trommel_kernels::dot::{dot, to_f32};
use trommel_kernels::join::{Block, CHUNK, Tiling, UNIT_ROUNDOFF_F32, f32_below};

use crate::DedupError;
use crate::products::bound;
use crate::scan::{MOST_NORM, Machine, PORTION_ROWS};
use crate::vectors::Vectors;
use crate::work::Work;

/// The centres of clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct Centres {
    dim: usize,
    vectors: Vec<f16>,
    squares: Vec<f64>,
    /// What is taken off a product: half of the square, or nothing.
    offsets: Vec<f64>,
    offsets_f32: Vec<f32>,
}

/// A row's cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nearest {
    /// Number of the cluster, from 0.
    pub cluster: u32,
    /// Squared Euclidean distance to its centre, exact.
    pub squared_distance: f64,
}

impl Centres {
    /// Centres f16\[n, dim\] of norms up to [`MOST_NORM`]; `spherical` ones attract by their product alone.
    #[must_use]
    pub fn new(dim: usize, vectors: Vec<f16>, spherical: bool) -> Self {
        let squares: Vec<f64> = vectors.chunks_exact(dim).map(|centre| dot(centre, centre)).collect();
        let offsets: Vec<f64> = squares.iter().map(|square| if spherical { 0.0 } else { square / 2.0 }).collect();
        let offsets_f32 = offsets.iter().map(|&offset| offset as f32).collect();
        Self { dim, vectors, squares, offsets, offsets_f32 }
    }

    /// The number of centres.
    #[must_use]
    pub fn len(&self) -> usize {
        self.squares.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.squares.is_empty()
    }

    /// The centres as f16\[n, dim\].
    #[must_use]
    pub fn vectors(&self) -> &[f16] {
        &self.vectors
    }

    /// The centre of this number, f16\[dim\].
    #[must_use]
    pub fn centre(&self, at: usize) -> &[f16] {
        &self.vectors[at * self.dim..(at + 1) * self.dim]
    }

    /// Nearest centres of rows; `block` is scratch.
    fn nearest(&self, rows: &[f16], wide: &[f32], block: &mut Block) -> Vec<Nearest> {
        block.fill(wide, &self.vectors, self.dim, Some(&self.offsets_f32), Tiling::default());
        let slack = bound(self.dim) + 3.0 * UNIT_ROUNDOFF_F32 * (MOST_NORM * MOST_NORM * 1.5 + 1e-3);
        let of = |(at, row): (usize, &[f16])| {
            let excess = block.chunk_excess(at);
            let most = excess.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let least = f32_below(f64::from(most) - 2.0 * slack);
            let mut best: Option<(f64, usize, f64)> = None;
            for (chunk, _) in excess.iter().enumerate().filter(|(_, most)| **most >= least) {
                let lanes = chunk * CHUNK..((chunk + 1) * CHUNK).min(self.len());
                let near = lanes.filter(|&lane| block.row(at)[lane] - self.offsets_f32[lane] >= least);
                for centre in near {
                    let product = dot(row, self.centre(centre));
                    let height = product - self.offsets[centre];
                    if best.is_none_or(|(most, ..)| height > most) {
                        best = Some((height, centre, product));
                    }
                }
            }
            let (_, cluster, product) = best.unwrap_or_default();
            let squared_distance = dot(row, row) + self.squares[cluster] - 2.0 * product;
            Nearest { cluster: cluster as u32, squared_distance }
        };
        rows.chunks_exact(self.dim).enumerate().map(of).collect()
    }
}

/// Takes a portion: the position of its first row, the rows' centres, and the rows widened to f32.
pub type Each<'a> = dyn Fn(usize, &[Nearest], &[f32]) + Sync + 'a;

/// Memory of one call.
#[derive(Default)]
struct Scratch {
    block: Block,
    stored: Vec<f16>,
    wide: Vec<f32>,
}

/// Finds the nearest centre of each row, and hands them on portion by portion, in any order.
///
/// # Errors
/// Rows that cannot be read.
pub fn assign(
    rows: &dyn Vectors,
    centres: &Centres,
    machine: Machine,
    work: &Work,
    each: &Each<'_>,
) -> Result<(), DedupError> {
    let (dim, count) = (rows.dim(), rows.len());
    let row_bytes = 5 * centres.len() + 6 * dim;
    let room = machine.memory_bytes / machine.threads.max(1) as u64 / row_bytes as u64;
    let portion = usize::try_from(room).unwrap_or(PORTION_ROWS).clamp(1, PORTION_ROWS);
    let idle: Mutex<Vec<Scratch>> = Mutex::default();
    let job = |at: usize| {
        let Scratch { mut block, mut stored, mut wide } =
            idle.lock().ok().and_then(|mut idle| idle.pop()).unwrap_or_default();
        let first = at * portion;
        let some = portion.min(count - first);
        stored.resize(some * dim, f16::ZERO);
        wide.resize(some * dim, 0.0);
        rows.read(first, &mut stored)?;
        to_f32(&stored, &mut wide);
        let nearest = centres.nearest(&stored, &wide, &mut block);
        each(first, &nearest, &wide);
        work.add((some * centres.len()) as u64);
        if let Ok(mut idle) = idle.lock() {
            idle.push(Scratch { block, stored, wide });
        }
        Ok(())
    };
    let portions = 0..count.div_ceil(portion);
    if machine.threads > 1 {
        portions.into_par_iter().try_for_each(job)
    } else {
        portions.into_iter().try_for_each(job)
    }
}
