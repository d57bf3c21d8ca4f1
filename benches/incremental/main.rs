//! Question: what does a change cost, beside a fresh run over the final inputs? And what stays behind after a thousand
//! rounds of changes?
//!
//! Command: `cargo xtask bench incremental`. Peer: a new engine of the same code in the same process, on the final
//! inputs; what both engines show must be equal, or the bench fails. Limit: an arriving shard within 10 % of that shard
//! alone; decisions after removing a benchmark, raising radii or a takedown within 1 % of a fresh run. It needs no
//! libtorch: `cargo bench --profile release --bench incremental`.
//!
//! 100,000 generated embeddings in ten shards; the study's six test sets, each divided by `TROMMEL_BENCH_SCALE` (4; 1
//! is full size) so that a fresh run takes about a minute and all some twenty; `TROMMEL_BENCH_DIM` (512) dimensions.
//! `TROMMEL_BENCH_QUICK=1` or `--quick` is a small one that takes seconds and whose times mean nothing. Changes are
//! made several times, and the median stands in the table.
//!
//! Embeddings are held in memory, on both sides: what reading them from files adds, a run adds to both. Parts lie in a
//! folder.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod cases;
mod data;
mod rounds;
mod trial;

use data::Scene;

/// How large everything is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub dim: usize,
    pub shards: u64,
    pub shard: u32,
    /// The test sets' sizes are divided by it.
    pub scale: usize,
    /// Samples of one takedown, vectors by which the reference grows.
    pub list: usize,
    /// Measurements of a cheap change.
    pub runs: usize,
    pub rounds: usize,
}

impl Size {
    const QUICK: Self = Self { dim: 64, shards: 10, shard: 300, scale: 400, list: 30, runs: 2, rounds: 20 };

    fn wanted() -> Self {
        if std::env::args().any(|arg| arg == "--quick") || std::env::var("TROMMEL_BENCH_QUICK").is_ok() {
            return Self::QUICK;
        }
        let number = |name: &str, default: usize| {
            std::env::var(name).map_or(default, |value| value.parse().expect("a number above 0")).max(1)
        };
        let (scale, dim) = (number("TROMMEL_BENCH_SCALE", 4), number("TROMMEL_BENCH_DIM", 512));
        Self { dim, shards: 10, shard: 10_000, scale, list: 1_000, runs: 5, rounds: 1_000 }
    }

    /// What the rounds work on: small, since each of them reads all vectors once.
    fn of_rounds(self) -> Self {
        if self.is_quick() { self } else { Self { shards: 4, shard: 1_000, scale: 100, list: 100, ..self } }
    }

    /// Whether times mean nothing.
    pub fn is_quick(self) -> bool {
        self.rounds == Self::QUICK.rounds
    }
}

fn main() {
    let size = Size::wanted();
    if std::env::args().any(|arg| arg == "--rounds") {
        return rounds::run(Scene::new(size.of_rounds()));
    }
    cases::run(Scene::new(size));
    // In a process of its own, so that what is resident is its own.
    let mut rounds = std::process::Command::new(std::env::current_exe().unwrap());
    let status = rounds.args(std::env::args().skip(1)).arg("--rounds").status().unwrap();
    assert!(status.success(), "the rounds failed");
}
