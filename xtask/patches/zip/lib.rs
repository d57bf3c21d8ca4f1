//! `zip` as far as `tch` and the build script of `torch-sys` use it. With its default features it brings ciphers, a second bzip2, a second
//! zstd, and a C build of the latter for the host, of which nothing is ever called here.
#![forbid(missing_docs)]

pub use inner::*;
