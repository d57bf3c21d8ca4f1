//! What can go wrong between processes; in one line that a user sees.

use std::io;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A process that is no longer there.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("process {process} ({address}) is gone: {why}")]
pub struct Loss {
    /// Number of the process in the run, from 0.
    pub process: usize,
    /// Where it listens, as `host:port`.
    pub address: String,
    /// What was seen: `silent for 10 s`, `its connection ended`, `failed: LINE`.
    pub why: String,
    /// The exit status that it announced, where it announced one.
    #[serde(default)]
    pub status: Option<u8>,
}

/// Something that two processes of a run must have in common, or must not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What differs: `run id`, `program version`, `workers`, ...
    pub what: String,
    /// What the process that was called has.
    pub called: String,
    /// What the process that called has.
    pub caller: String,
}

impl Difference {
    /// What differs where a process of a run that has begun comes a second time.
    pub(super) const STILL_TAKEN: &'static str = "its place is still taken";

    /// Whether the same may work later, with nothing changed: whoever had this process's place may be gone, and the others have not noticed yet.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.what == Self::STILL_TAKEN
    }
}

/// Why a process cannot work with others.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// Numbers that make no sense.
    #[error("cluster: {0}")]
    Config(String),
    /// The port is taken.
    #[error("cannot listen on {address}: the address is in use (an older run, or another program?)")]
    AddressInUse {
        /// Where it listens, as `host:port`.
        address: String,
    },
    /// Another reason not to listen.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where it listens, as `host:port`.
        address: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Another process was never reached.
    #[error("process {process} cannot be reached at {address} within {seconds} s: {cause}")]
    Unreachable {
        /// Number of the process in the run, from 0.
        process: usize,
        /// Where it listens, as `host:port`.
        address: String,
        /// The deadline for starting.
        seconds: u64,
        /// What happened at the last try.
        cause: String,
    },
    /// The deadline for starting has passed.
    #[error("{} of {processes} not there after {seconds} s{}", named(missing), refused(last_refused))]
    Missing {
        /// Who is missing.
        missing: Vec<usize>,
        /// Processes in the run.
        processes: usize,
        /// The deadline for starting.
        seconds: u64,
        /// The last caller that was refused meanwhile, a line.
        last_refused: Option<String>,
    },
    /// What listens there speaks something else.
    #[error("what listens at {address} is no Trommel process: {why}")]
    Stranger {
        /// Where it listens, as `host:port`.
        address: String,
        /// What it did instead of answering.
        why: String,
    },
    /// This process called and was refused.
    #[error(
        "process {process} ({address}) refuses this process: {}: {} there, {} here",
        difference.what, difference.called, difference.caller
    )]
    Refused {
        /// Number of the process that refuses, from 0.
        process: usize,
        /// Where it listens, as `host:port`.
        address: String,
        /// The setting that differs, with both values.
        difference: Difference,
    },
    /// This process was called by one of its own run that does not fit, so the run cannot come together.
    #[error(
        "process {process} ({address}) is refused: {}: {} there, {} here",
        difference.what, difference.caller, difference.called
    )]
    Refuses {
        /// Who is refused.
        process: usize,
        /// Where it listens, as `host:port`.
        address: String,
        /// The setting that differs, with both values.
        difference: Difference,
    },
    /// A process gave up, or ended, while the others were starting.
    #[error("process {process} ({address}) ended at the start: {why}")]
    EndedAtStart {
        /// Number of the process in the run, from 0.
        process: usize,
        /// Where it listens, as `host:port`.
        address: String,
        /// What it said or did.
        why: String,
    },
    /// A process is gone.
    #[error("{0}")]
    Lost(Loss),
    /// A process has said goodbye and something of it is still wanted.
    #[error("process {process} ({address}) has ended; {wanted} is still wanted of it")]
    Left {
        /// Number of the process in the run, from 0.
        process: usize,
        /// Where it listens, as `host:port`.
        address: String,
        /// What is wanted.
        wanted: String,
    },
    /// A connection failed in the middle.
    #[error("process {process} ({address}): samples cannot be fetched")]
    Connection {
        /// Number of the process in the run, from 0.
        process: usize,
        /// Where it listens, as `host:port`.
        address: String,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// Something that is there once was asked for twice, or was never made.
    #[error("cluster: {0}")]
    Used(&'static str),
    /// The system gave no thread or socket.
    #[error("cluster: {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl ClusterError {
    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::System { what, cause }
    }
}

fn named(processes: &[usize]) -> String {
    let numbers: Vec<String> = processes.iter().take(16).map(ToString::to_string).collect();
    let more = processes.len().saturating_sub(16);
    match (processes.len(), more) {
        (1, _) => format!("process {}", numbers[0]),
        (_, 0) => format!("processes {}", numbers.join(", ")),
        _ => format!("processes {} and {more} more", numbers.join(", ")),
    }
}

fn refused(line: &Option<String>) -> String {
    line.as_ref().map(|line| format!(" (refused meanwhile: {line})")).unwrap_or_default()
}
