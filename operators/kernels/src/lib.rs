//! Kernels without torch and without timely: the canonical vector, the exact dot product, the join's products, Pillow's resize.
#![forbid(missing_docs)]

pub mod canonical;
pub mod dot;
pub mod int8;
pub mod join;
pub mod resize;
mod widened;
