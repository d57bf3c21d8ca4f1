//! The join's products through libtorch: on a card, or on a CPU's tensors where the same code is tested.
//!
//! ```text
//!  points f16[columns, dim], uploaded once ─┐
//!  rows f16[rows, dim] ─────────────────────┴─ matmul ─▶ block f32[rows, columns], stays there ─▶ chunk maxima
//!      join ◀── tops of rows and columns, lists of what reaches, counts of sure hits ◀──────────────┘
//! ```
//!
//! Three nouns: a [`DeviceKernel`] is the kernel (see [`trommel_decide::kernel`]) for some benchmarks; a *lane* is a stream with the memory of one portion, and
//! as many portions are multiplied at once as there are lanes; a portion's *block* holds its products until its shards' points have been shown them.
//!
//! **Bound.** Products of two f16 are exact in f32. How a tensor core adds them is not documented; measurements (Fasi, Higham, Mikaitis, Pranesh, *Numerical
//! behavior of NVIDIA tensor cores*, PeerJ CS 7:e330, 2021, section 3; Li et al., *FTTN*, CCGrid 2024, for Hopper) say: `w >= 4` products and the running sum
//! are aligned to the largest of them and cut off, not rounded, at 2^-23 of its power of two or below, then added exactly; the sum is cut to f32. With
//! `S = sum |a_k b_k|` every addend and every running sum is at most `S` (to first order), so a step is off by at most `(w + 1) 2^-23 S` for its alignments and
//! `2^-23 S` for its end; `n / w` steps by `n (1 + 2/w) 2^-23 S <= 0.75 n 2^-22 S`. The quarter left covers second-order terms (`n 2^-22` is far below 1) and the f32
//! additions between parts of a split sum. By Cauchy and Schwarz `S <= |a| |b|`: [`error_bound`](trommel_decide::kernel::Kernel::error_bound) is `n 2^-22 |a| |b|`, 1.5e-4 for 640 dimensions, four
//! times the bound of sums that round each addition. So it holds for a CPU's f32 sums as well. A new kernel compares some of its products with their canonical values
//! before it is used ([`DeviceKernel::new`]), and is refused where one is out of bound.
//!
//! **Invariants.** 1. What comes back is as small as what is found: `columns` values a shard's rows, `rows` values a benchmark, lists. 2. Memory is bounded by
//! [`DeviceKernel::bytes`] whatever is found: lists are made some millions of values at a time. 3. All of a portion's work is on its lane's stream.
//!
//! Cost: 2 `dim` operations a pair at the tensor cores' speed, and about six passes over the block at that of the card's memory.
#![forbid(missing_docs)]

mod block;
mod kernel;
mod points;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use kernel::{DeviceKernel, Format};
