//! Kernels without torch and without timely.
#![forbid(missing_docs)]

pub mod resize;
