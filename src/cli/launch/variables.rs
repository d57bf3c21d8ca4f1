//! A process's place, from variables: a pure function of a map, so that every launcher can be tested without it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trommel_cluster::ClusterConfig;

use super::{CLUSTER_VARIABLE, LaunchError, Times, slurm, torchrun};

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
            grace: Duration::from_secs(30),
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

    /// Seconds, where it is set.
    pub fn seconds(&self, name: &str) -> Result<Option<Duration>, LaunchError> {
        self.text(name).map(|value| super::seconds(value).map_err(|why| self.wrong(name, why))).transpose()
    }

    /// A variable that makes no sense.
    pub fn wrong(&self, name: &str, problem: impl Into<String>) -> LaunchError {
        let value = self.text(name).unwrap_or_default().to_owned();
        LaunchError::Variable { name: name.into(), value, problem: problem.into() }
    }

    /// Whether `trommel launch --local` has started this process.
    pub fn is_local_launch(&self) -> bool {
        self.text(CLUSTER_VARIABLE).is_some_and(|value| value != "off")
    }
}

/// The place that the variables give: the local launcher's; else torchrun's where it marks its own; else srun's; else
/// variables as torchrun's that somebody else has set. torchrun comes before srun because srun may have started torchrun.
///
/// # Errors
/// Variables that are there and make no sense.
pub fn find(variables: &Variables) -> Result<Option<Found>, LaunchError> {
    if let Some(value) = variables.text(CLUSTER_VARIABLE) {
        if value == "off" {
            return Ok(None);
        }
        let found: Found = serde_json::from_str(value).map_err(|error| {
            variables.wrong(CLUSTER_VARIABLE, format!("{error}; only `trommel launch` sets it, and `off` is allowed"))
        })?;
        found.config.check().map_err(|error| variables.wrong(CLUSTER_VARIABLE, error.to_string()))?;
        return Ok(Some(found));
    }
    let found = if torchrun::is_its_own(variables) {
        torchrun::find(variables)?
    } else {
        match slurm::find(variables)? {
            Some(found) => Some(found),
            None => torchrun::find(variables)?,
        }
    };
    let Some(mut found) = found else { return Ok(None) };
    Times::of_variables(variables)?.put(&mut found);
    found.config.check().map_err(|error| LaunchError::Usage(error.to_string()))?;
    Ok(Some(found))
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

    const SRUN: &str = "SLURM_STEP_NODELIST=n[1-2] SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_JOB_ID=9 SLURM_STEP_ID=0";
    const TORCHRUN: &str = "RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=29500";

    #[test]
    fn who_wins() {
        let process = |text: &str| find(&variables(text)).map(|found| found.map(|found| found.config.process));
        assert_eq!(process(""), Ok(None));
        assert_eq!(process(SRUN), Ok(Some(1)));
        assert_eq!(process(TORCHRUN), Ok(Some(3)));
        assert_eq!(process(&format!("{SRUN} {TORCHRUN}")), Ok(Some(1)));
        assert_eq!(process(&format!("{SRUN} {TORCHRUN} TORCHELASTIC_RUN_ID=x")), Ok(Some(3)));
        assert_eq!(process(&format!("{SRUN} {TORCHRUN} TROMMEL_CLUSTER=off")), Ok(None));
        let local = Found::new(ClusterConfig::new(2, 0, "127.0.0.1:1", "r"));
        let mut all = variables(&format!("{SRUN} {TORCHRUN}"));
        all.0.insert(CLUSTER_VARIABLE.into(), serde_json::to_string(&local).expect("it is plain"));
        assert_eq!(find(&all), Ok(Some(local)));
    }

    #[test]
    fn a_place_that_is_none_is_refused_in_one_line() {
        for value in ["{}", "1", "on", r#"{"config":3}"#] {
            let line = find(&variables(&format!("TROMMEL_CLUSTER={value}"))).expect_err(value).to_string();
            assert!(line.starts_with("the variable TROMMEL_CLUSTER=") && !line.contains('\n'), "{line}");
        }
        let outside = Found::new(ClusterConfig::new(2, 2, "127.0.0.1:1", "r"));
        let mut all = Variables::default();
        all.0.insert(CLUSTER_VARIABLE.into(), serde_json::to_string(&outside).expect("it is plain"));
        assert!(find(&all).is_err());
    }

    #[test]
    fn times_come_from_variables() {
        let found =
            find(&variables(&format!("{SRUN} TROMMEL_GRACE=2.5 TROMMEL_SILENCE=1"))).expect("fine").expect("two");
        assert_eq!(found.grace, Duration::from_millis(2500));
        assert_eq!((found.config.silence.as_secs(), found.config.start_timeout.as_secs()), (1, 60));
        for bad in ["TROMMEL_GRACE=soon", "TROMMEL_SILENCE=-1", "TROMMEL_START_TIMEOUT=NaN", "TROMMEL_GRACE=0"] {
            assert!(find(&variables(&format!("{SRUN} {bad}"))).is_err(), "{bad}");
        }
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
