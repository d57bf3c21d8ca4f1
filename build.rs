//! Links against libtorch.
fn main() {}
