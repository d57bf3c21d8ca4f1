//! Fuzzing without a special toolchain: a seeded mutator, limits on time and memory, and a table of targets.
//!
//! ```text
//!  seeds, regressions ─▶ corpus ─▶ mutate ─▶ mend checksums ─▶ run, watched ─▶ a finding: written to a file, and made small
//!                          ▲                                        │
//!                          └──── an input with a new outcome ───────┘
//! ```
//!
//! A [`Target`] reads bytes as one room of the program would, and returns what came of them. The machine asks of every input:
//!
//! 1. No panic. One that the room itself catches counts too where its place lies in this workspace: only decoders of others may panic.
//! 2. No more memory at one time than the target states ([`memory`]), which finds whoever takes memory before it checks a size.
//! 3. No more processor time than the target states.
//! 4. What the target itself compares: reading twice gives the same, what is printed is read back, a naive model agrees.
//!
//! There is no coverage feedback on the stable toolchain; an input whose outcome is new (the words of an error without its numbers) joins the
//! corpus in its place, so that the next inputs start from there.
//!
//! All is a function of the seed. While an input runs it stands in a file of its own, so that one that ends the process is not lost.
//!
//! Rooms whose parsers are private take this crate for their tests: see [`check`].
#![allow(clippy::ptr_arg, reason = "what mends an input may lengthen it, and all have one type")]
#![forbid(missing_docs)]
#![allow(clippy::unwrap_used)]

pub mod campaign;
pub mod cli;
pub mod memory;
pub mod mutate;
pub mod watch;

#[cfg(feature = "targets")]
pub mod targets;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use campaign::{Campaign, Finding};
pub use mutate::Rng;

/// What one input may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest input in bytes.
    pub input_bytes: usize,
    /// Most bytes of the heap at one time, by Rust's allocator, on the thread that runs the input; the input itself not counted.
    pub heap_bytes: u64,
    /// Most processor time of that thread. Ten times as much in a build without optimisation.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { input_bytes: 32 << 10, heap_bytes: 16 << 20, time: Duration::from_secs(1) }
    }
}

/// What came of an input, by which new behaviour is told: any text, digits in it do not count. An error is a broken promise.
pub type Outcome = Result<String, String>;

/// One entry point.
#[derive(Clone)]
pub struct Target {
    /// Its name on the command line, and its folder under `regressions/`.
    pub name: &'static str,
    /// What it reads, for the list of targets.
    pub about: &'static str,
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that the format knows.
    pub words: &'static [&'static [u8]],
    /// Makes lengths and checksums fit again, so that damage gets further in; done to half of the inputs.
    pub mend: fn(&mut Vec<u8>),
    /// What an input may take.
    pub limits: Limits,
    /// Reads an input.
    pub run: fn(&[u8]) -> Outcome,
}

/// Nothing to mend.
pub fn as_it_is(_: &mut Vec<u8>) {}

/// Targets that run as their rooms' own tests: the parsers are private, or the room needs libtorch.
pub const OF_ROOMS: [&str; 6] = ["frames", "greeting", "asked-samples", "weights", "captions", "architecture"];

/// Small files that programs of others made, from `seeds/FOLDER`: see `seeds/make.py`.
///
/// # Panics
/// Where there are none.
#[must_use]
pub fn stored(folder: &str) -> Vec<Vec<u8>> {
    let folder = home().join("seeds").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the inputs stand that broke something once, in a folder for each target.
#[must_use]
pub fn regressions() -> PathBuf {
    home().join("regressions")
}

/// Reads `bytes` from a file of this name, which is in memory where the machine has such a place: it is written for every input.
///
/// # Panics
/// Where no file can be written.
pub fn with_file<T>(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    let path = quick_folder().join(name);
    std::fs::write(&path, bytes).unwrap();
    read(&path)
}

/// This thread's folder.
pub(crate) fn quick_folder() -> PathBuf {
    thread_local! {
        static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
    }
    FOLDER.with(|folder| {
        let made = folder.get_or_init(|| {
            let memory = Path::new("/dev/shm");
            let parent = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
            tempfile::tempdir_in(parent).unwrap()
        });
        made.path().to_path_buf()
    })
}

/// As a test: replays the target's regressions, then runs `inputs` inputs of a fixed seed; or for as long, and of such a seed, as
/// `TROMMEL_FUZZ_SECONDS` and `TROMMEL_FUZZ_SEED` say.
///
/// # Panics
/// On a finding; it is written to a file, which the message names.
pub fn check(target: &Target, inputs: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let mut campaign = Campaign::new(target, number("TROMMEL_FUZZ_SEED").unwrap_or(1));
    let findings = match number("TROMMEL_FUZZ_SECONDS") {
        Some(seconds) => campaign.run_for(Duration::from_secs(seconds)),
        None => campaign.run(inputs),
    };
    eprintln!("{}", campaign.summary());
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(said.is_empty(), "{}", said.join("\n"));
}
