//! A process's place, from variables: a pure function of a map, so that every launcher can be tested without it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trommel_cluster::ClusterConfig;
use trommel_pipelines::config::GRACE;

use super::{CLUSTER_VARIABLE, LaunchError};
use crate::wrong_value::WrongValue;

/// The environment's variables that are text.
#[derive(Clone, Debug, Default)]
pub struct Variables(pub BTreeMap<String, String>);

/// Where a process stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// How it finds the others.
    pub config: ClusterConfig,
    /// Processes on this machine.
    pub local_processes: usize,
    /// Which of these it is.
    pub local_process: usize,
    /// Cores of its own.
    pub own_cores: Option<usize>,
    /// It may see GPUs that its neighbours do not.
    pub own_gpus: bool,
    /// Time to finish after a signal.
    pub grace: Duration,
    /// Its standard input is its listener.
    pub listens_on_stdin: bool,
    /// The process that it must not outlive.
    pub launcher: Option<u32>,
}

impl Found {
    /// A process with default times, alone on its machine.
    pub fn new(config: ClusterConfig) -> Self {
        Self {
            config,
            local_processes: 1,
            local_process: 0,
            own_cores: None,
            own_gpus: false,
            grace: GRACE,
            listens_on_stdin: false,
            launcher: None,
        }
    }
}

impl Variables {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// A variable that is set and not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// A number, where it is set.
    pub fn number<N: FromStr>(&self, name: &str) -> Result<Option<N>, LaunchError> {
        let parse = |value: &str| value.parse().map_err(|_| self.wrong(name, "this is no such number"));
        self.text(name).map(parse).transpose()
    }

    /// How long others are waited for, where it is set.
    pub fn patience(&self, name: &str) -> Result<Option<Duration>, LaunchError> {
        self.text(name).map(|value| super::patience(value).map_err(|why| self.wrong(name, why))).transpose()
    }

    /// A variable that makes no sense.
    pub fn wrong(&self, name: &str, problem: impl Into<WrongValue>) -> LaunchError {
        let value = self.text(name).unwrap_or_default().to_owned();
        LaunchError::Variable { name: name.into(), value, problem: problem.into() }
    }

    /// Whether `trommel launch --local` has started this process.
    pub fn is_local_launch(&self) -> bool {
        self.text(CLUSTER_VARIABLE).is_some_and(|value| value != "off")
    }
}

/// The port that process 0 listens on: `TROMMEL_PORT`, else one derived from `key` in 20000..32000, below the ports that
/// Linux gives to outgoing connections.
pub fn port(variables: &Variables, key: &str) -> Result<u16, LaunchError> {
    if let Some(port) = variables.number::<u16>("TROMMEL_PORT")? {
        return if port == 0 { Err(variables.wrong("TROMMEL_PORT", "all must know the same port")) } else { Ok(port) };
    }
    // FNV-1a.
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    Ok(20_000 + u16::try_from((hash ^ (hash >> 32)) % 12_000).unwrap_or(0))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Variables from a text such as `A=1 B=2`.
    pub fn variables(text: &str) -> Variables {
        let pair = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Variables(text.split_whitespace().filter_map(pair).collect())
    }

    #[test]
    fn ports_are_the_same_everywhere_and_differ_between_jobs() {
        let of = |key: &str| port(&Variables::default(), key).expect("a port");
        let ports: std::collections::BTreeSet<u16> = (0..100).map(|job| of(&format!("{job}.0"))).collect();
        assert!(ports.len() > 95 && ports.iter().all(|port| (20_000..32_000).contains(port)), "{ports:?}");
        assert_eq!(of("7.0"), of("7.0"));
        assert_eq!(port(&variables("TROMMEL_PORT=4000"), "7.0"), Ok(4000));
        for bad in ["0", "70000", "x"] {
            assert!(port(&variables(&format!("TROMMEL_PORT={bad}")), "7.0").is_err(), "{bad}");
        }
    }
}
