//! Kernels without torch and without timely: the exact dot product and the similarity join's products.
#![forbid(missing_docs)]

pub mod dot;
pub mod join;
