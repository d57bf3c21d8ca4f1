//! What this machine does in a second, so that a long scan can be told beforehand.

use std::time::Instant;

use half::f16;
use trommel_kernels::canonical::round_to_f16;

use crate::DedupError;
use crate::scan::{Machine, against};
use crate::vectors::Slice;
use crate::work::Work;

/// Rows on either side of the trial: some milliseconds.
const ROWS: usize = 2048;

/// Pairs of vectors of `dim` elements that are compared in a second, roughly.
///
/// # Errors
/// None: what is compared lies in memory.
pub fn pairs_per_second(dim: usize, machine: Machine) -> Result<f64, DedupError> {
    // Unlike one another; which, does not matter.
    let element = |at: usize| ((at.wrapping_mul(0x9e37_79b9) >> 7) % 2001) as f64 / 1000.0 - 1.0;
    let scale = (3.0 / dim as f64).sqrt().min(1.0 / (dim as f64).sqrt());
    let vectors: Vec<f16> = (0..ROWS * dim).map(|at| round_to_f16(element(at) * scale)).collect();
    let slice = Slice { vectors: &vectors, dim };
    let (start, above) = (Instant::now(), 1.5);
    against(&slice, &slice, above, machine, &Work::default())?;
    Ok((ROWS * ROWS) as f64 / start.elapsed().as_secs_f64().max(1e-9))
}
