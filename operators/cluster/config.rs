//! What a process must know to find the others, and what all must agree on before they work together.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::ClusterError;
use super::secret::Secret;

/// The longest run id.
pub(super) const MAX_RUN_ID_BYTES: usize = 256;

/// Where a process stands in its cluster.
///
/// ```
/// use trommel_cluster::ClusterConfig;
///
/// let config = ClusterConfig::new(2, 1, "127.0.0.1:2101", "run-7");
/// assert!(config.check().is_ok());
/// assert_eq!(config.silence.as_secs(), 10);
/// assert!(ClusterConfig { process: 2, ..config }.check().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Processes in the whole run, at least 1.
    pub processes: usize,
    /// Which of them this is, from 0. Process 0 is the coordinator.
    pub process: usize,
    /// `host:port` where process 0 listens.
    pub coordinator: String,
    /// `host:port` where this process listens. `None`: any port of the address that reaches process 0; process 0 itself
    /// listens on `coordinator`.
    #[serde(default)]
    pub listen: Option<String>,
    /// Equal in all processes of a run and in no other run.
    pub run_id: String,
    /// Known to all processes of the run and to nobody else; never written where the rest is.
    #[serde(skip)]
    pub secret: Secret,
    /// How long the processes wait for each other at the start.
    #[serde(default = "ClusterConfig::default_start_timeout")]
    pub start_timeout: Duration,
    /// A process that says nothing for so long is lost. It says something every fifth of it.
    #[serde(default = "ClusterConfig::default_silence")]
    pub silence: Duration,
}

impl ClusterConfig {
    /// A configuration with the default times and no address of its own.
    #[must_use]
    pub fn new(processes: usize, process: usize, coordinator: &str, run_id: &str) -> Self {
        Self {
            processes,
            process,
            coordinator: coordinator.into(),
            listen: None,
            run_id: run_id.into(),
            secret: Secret::default(),
            start_timeout: Self::default_start_timeout(),
            silence: Self::default_silence(),
        }
    }

    fn default_start_timeout() -> Duration {
        Duration::from_secs(60)
    }

    fn default_silence() -> Duration {
        Duration::from_secs(10)
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// [`ClusterError::Config`].
    pub fn check(&self) -> Result<(), ClusterError> {
        let wrong = if self.processes == 0 || self.process >= self.processes {
            format!("process {} of {} does not exist", self.process, self.processes)
        } else if self.processes > 1 << 14 {
            format!("{} processes are too many (16384 at most)", self.processes)
        } else if self.silence < Duration::from_millis(50) {
            format!("a silence of {:?} is too short (50 ms at least)", self.silence)
        } else if self.run_id.len() > MAX_RUN_ID_BYTES {
            format!("the run id is longer than {MAX_RUN_ID_BYTES} bytes")
        } else {
            return Ok(());
        };
        Err(ClusterError::Config(wrong))
    }
}

/// What must be equal in all processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Version of the program.
    pub program: String,
    /// timely workers of each process.
    pub workers: usize,
    /// Hash of the configuration.
    pub config: String,
    /// Device, precision, batch and libraries, as canonical JSON.
    pub numerics: String,
}
