//! How many threads a run has, and from which cores that comes: one line at its start, and a part of its report.

use std::fmt;

use serde::Serialize;
use trommel_core::cores::Cores;

use crate::config::Machine;

/// Cores and threads of this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Threading {
    /// What it may use of the machine.
    #[serde(flatten)]
    pub cores: Cores,
    /// Its own share, beside the run's other processes on this machine.
    pub own: usize,
    /// Dataflow workers.
    pub workers: usize,
    /// Threads of each stage: decoding, joining, libtorch.
    pub threads: usize,
    /// Variables by which somebody has said how OpenMP's threads wait; none: they sleep.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
}

impl Threading {
    /// That of a run on `machine`.
    #[must_use]
    pub fn of(machine: &Machine) -> Self {
        let Machine { cores, own_cores, workers, threads, waiting, .. } = machine;
        let (own, workers, threads) = (*own_cores, *workers, *threads);
        Self { cores: cores.clone(), own, workers, threads, waiting: waiting.clone() }
    }
}

/// Cores and threads of a command that has no dataflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threads {
    /// What it may use of the machine.
    pub cores: Cores,
    /// Threads that work beside each other.
    pub threads: usize,
    /// As of [`Threading`], where libtorch runs.
    pub waiting: Vec<String>,
}

impl Threads {
    /// Those of a command without a model.
    #[must_use]
    pub fn of(threads: usize) -> Self {
        Self { cores: Cores::of_this_process(), threads, waiting: Vec::new() }
    }

    /// Those of one that runs a model.
    #[must_use]
    pub fn of_libtorch(threads: usize, waiting: Vec<String>) -> Self {
        Self { waiting, ..Self::of(threads) }
    }
}

/// `8 of 64 cores (8 in the affinity mask): 8 threads`.
impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, threads, waiting } = self;
        write!(f, "{cores}: {threads} thread{}", plural(*threads))?;
        oddities(f, *threads > cores.usable, waiting)
    }
}

const fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn oddities(f: &mut fmt::Formatter<'_>, are_more: bool, waiting: &[String]) -> fmt::Result {
    if are_more {
        f.write_str(", more than cores")?;
    }
    if !waiting.is_empty() {
        write!(f, "; idle threads of libtorch wait as {} says", waiting.join(", "))?;
    }
    Ok(())
}

/// `2 of 64 cores (8 in the affinity mask), 1 of them for this process: 1 worker, 2 threads for each stage`.
impl fmt::Display for Threading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, own, workers, threads, waiting } = self;
        write!(f, "{cores}")?;
        if *own != cores.usable {
            write!(f, ", {own} for this process")?;
        }
        write!(f, ": {workers} worker{}, {threads} thread{} for each stage", plural(*workers), plural(*threads))?;
        oddities(f, *threads > *own, waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_where_the_number_comes_from() {
        let cores = Cores { machine: 64, affinity: 8, quota_millicores: None, usable: 8 };
        let mut threads = Threads { cores: cores.clone(), threads: 8, waiting: Vec::new() };
        assert_eq!(threads.to_string(), "8 of 64 cores (8 in the affinity mask): 8 threads");
        (threads.threads, threads.waiting) = (9, vec!["OMP_WAIT_POLICY=active".to_owned()]);
        let end = ": 9 threads, more than cores; idle threads of libtorch wait as OMP_WAIT_POLICY=active says";
        assert_eq!(threads.to_string(), format!("8 of 64 cores (8 in the affinity mask){end}"));
        let mut threading = Threading { cores, own: 8, workers: 2, threads: 8, waiting: Vec::new() };
        let begin = "8 of 64 cores (8 in the affinity mask)";
        assert_eq!(threading.to_string(), format!("{begin}: 2 workers, 8 threads for each stage"));
        (threading.own, threading.workers, threading.threads) = (2, 1, 1);
        assert_eq!(threading.to_string(), format!("{begin}, 2 for this process: 1 worker, 1 thread for each stage"));
        (threading.threads, threading.waiting) = (4, vec!["OMP_WAIT_POLICY=active".to_owned()]);
        let end = ", more than cores; idle threads of libtorch wait as OMP_WAIT_POLICY=active says";
        assert_eq!(
            threading.to_string(),
            format!("{begin}, 2 for this process: 1 worker, 4 threads for each stage{end}")
        );
    }
}
