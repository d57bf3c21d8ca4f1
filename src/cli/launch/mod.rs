//! One run as several processes: how a process learns that it is one of them, and how some are started.
//!
//! ```text
//!  trommel launch --local N          ─▶ TROMMEL_CLUSTER ─┐
//!  trommel launch --processes --process ─▶ flags ────────┤
//!  srun                              ─▶ SLURM_* ─────────┼─▶ Launched ─▶ prune | embed | train | watch
//!  torchrun                          ─▶ RANK, .. ────────┘
//! ```
//!
//! What is read from variables is a pure function of them (`place::find`), the same for every process of the run:
//! only process 0's address is derived, and the others ask there for the rest.

mod ends;
mod hostfile;
mod inner;
mod local;
mod place;
mod slurm;
mod torchrun;
mod variables;

use std::fmt::Display;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trommel_cluster::ClusterConfig;
use trommel_pipelines::config::{ClusterSeat, GRACE};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::process_end::Ending;
use trommel_pipelines::secret;

use crate::args::{LaunchArgs, ModelCommand};
use crate::duration;
use crate::environment;
use crate::say::say;
use crate::wrong_value::WrongValue;
pub use inner::{Inner, parse};
use variables::{Found, Variables};

/// The port of process 0 where a hostfile names none.
const DEFAULT_PORT: u16 = 29_600;
/// Holds this process's place in a local launch, as JSON; `off` switches every recognition off.
const CLUSTER_VARIABLE: &str = "TROMMEL_CLUSTER";

/// What is wrong with a launch, in one line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// A variable of the environment that makes no sense.
    #[error("the variable {name}={value}: {problem}")]
    Variable {
        /// Name of the variable.
        name: String,
        /// The value that it has.
        value: String,
        /// What makes no sense about it.
        problem: WrongValue,
    },
    /// A variable that is not there.
    #[error("the variable {beside} is set and {name} is not: set both, or TROMMEL_CLUSTER=off to run alone")]
    Missing {
        /// The one that is missing.
        name: &'static str,
        /// One that says that it should be there.
        beside: &'static str,
    },
    /// A line of a hostfile.
    #[error("{}:{line}: {problem}", .file.display())]
    Hostfile {
        /// Path of the hostfile.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with the line.
        problem: WrongValue,
    },
    /// Flags or commands that do not go together.
    #[error("{0}")]
    Usage(String),
}

impl From<LaunchError> for PipelineError {
    fn from(error: LaunchError) -> Self {
        Self::usage(error)
    }
}

/// What the system refused to do.
fn refused<E: std::error::Error + Send + Sync + 'static>(what: impl Display) -> impl FnOnce(E) -> PipelineError {
    move |error| PipelineError::failed(error).within(what)
}

/// One process among several, with what its environment says beside.
#[derive(Debug)]
pub struct Launched {
    /// Where it stands.
    pub found: Found,
    /// A listener that is there already: process 0 of a local launch has one.
    listener: Option<TcpListener>,
    /// NCCL's library, where another one is wanted than the system's loader finds.
    nccl: Option<PathBuf>,
    /// How it ends where the others would wait for it.
    ending: Arc<Ending>,
}

impl Launched {
    fn at(mut found: Found, listener: Option<TcpListener>, ending: &Arc<Ending>) -> Result<Self, PipelineError> {
        if let Some(given) = environment::given(secret::VARIABLE) {
            found.config.secret = secret::checked(given.as_bytes())?;
        }
        Ok(Self { found, listener, nccl: environment::nccl(), ending: ending.clone() })
    }

    /// What the pipelines want to know.
    pub fn seat(self) -> ClusterSeat {
        let Found { config, local_processes, grace, .. } = self.found;
        let (listener, nccl, ending) = (Arc::new(Mutex::new(self.listener)), self.nccl, self.ending);
        ClusterSeat { config, listener, local_processes, grace, nccl, ending }
    }
}

/// What this process is, from the variables of its environment; `None`: it works alone.
///
/// # Errors
/// Variables that contradict each other or make no sense; a listener that was promised and is not there.
pub fn launched(ending: &Arc<Ending>) -> Result<Option<Launched>, PipelineError> {
    let Some(found) = place::find(&Variables::of_this_process())? else { return Ok(None) };
    if let Some(launcher) = found.launcher {
        local::watch_launcher(launcher).map_err(refused("cannot watch the launcher"))?;
    }
    let listener = found.listens_on_stdin.then(|| listener_on_stdin(&found.config.coordinator)).transpose()?;
    Launched::at(found, listener, ending).map(Some)
}

/// What the process that runs `command` is. Commands that work alone are never one of several, and nor is a slice.
///
/// # Errors
/// As [`launched`]; and what cannot be spread over processes.
pub fn of(command: &ModelCommand, ending: &Arc<Ending>) -> Result<Option<Launched>, PipelineError> {
    let Some(spread) = inner::spread(command) else { return Ok(None) };
    if spread.part && !Variables::of_this_process().is_local_launch() {
        return Ok(None);
    }
    let launched = launched(ending)?;
    if launched.is_some() {
        spread.check()?;
    }
    Ok(launched)
}

/// Whether a launcher's variables say, rightly or not, that this process is one of several.
#[must_use]
pub fn is_launched() -> bool {
    place::find(&Variables::of_this_process()).map_or(true, |found| found.is_some())
}

/// What this process is, from the flags of `trommel launch --processes N --process I`; `None`: there is only one.
///
/// # Errors
/// Flags that do not go together; a hostfile that cannot be read.
pub fn by_flags(args: &LaunchArgs, ending: &Arc<Ending>) -> Result<Option<Launched>, PipelineError> {
    let variables = Variables::of_this_process();
    refuse_nested(&variables)?;
    let usage = |text: &str| LaunchError::Usage(text.into());
    let process = args.process.ok_or_else(|| {
        usage("say --local N, or which process of which run this is: --process I and --hostfile FILE")
    })?;
    let (file, coordinator) = match (&args.hostfile, &args.coordinator) {
        (Some(file), None) => (Some(file), None),
        (None, Some(address)) => (None, Some(address)),
        _ => return Err(usage("say where process 0 is: --hostfile FILE or --coordinator HOST:PORT").into()),
    };
    let mut found = if let Some(file) = file {
        let text =
            std::fs::read_to_string(file).map_err(|error| usage(&format!("--hostfile {}: {error}", file.display())))?;
        hostfile::place(&hostfile::parse(&text, file)?, args.processes, process, file)?
    } else {
        let processes = args.processes.ok_or_else(|| usage("--processes N is missing"))?;
        let coordinator = coordinator.map(String::as_str).unwrap_or_default();
        hostfile::coordinated(coordinator, processes, process)?
    };
    if let Some(listen) = &args.listen {
        hostfile::Host::parse(listen)
            .and_then(|host| host.port.ok_or_else(|| "write HOST:PORT".into()))
            .map_err(|problem| LaunchError::Usage(format!("--listen {listen}: {problem}")))?;
        found.config.listen = Some(listen.clone());
    }
    if let Some(run_id) = &args.run_id {
        found.config.run_id.clone_from(run_id);
    }
    let times = Times::of(args, &variables)?;
    times.put(&mut found);
    if found.config.processes == 1 {
        tell_alone(args);
        return Ok(None);
    }
    Launched::at(found, None, ending).map(Some)
}

/// Says which flags are for several processes, where there is one.
pub fn tell_alone(args: &LaunchArgs) {
    let LaunchArgs { listen, run_id, start_timeout, silence, grace, .. } = args;
    let flags = [
        ("--listen", listen.is_some()),
        ("--run-id", run_id.is_some()),
        ("--start-timeout", start_timeout.is_some()),
        ("--silence", silence.is_some()),
        ("--grace", grace.is_some()),
    ];
    for (flag, _) in flags.iter().filter(|(_, given)| *given) {
        say(format!("{flag} is for several processes, and this is one: it changes nothing"));
    }
}

/// Starts the processes of `trommel launch --local N`, waits for all, and gives the status of the whole.
///
/// # Errors
/// A launch inside a launch; no port or process to be had.
pub fn start_local(processes: usize, args: &LaunchArgs) -> Result<u8, PipelineError> {
    let variables = Variables::of_this_process();
    refuse_nested(&variables)?;
    if place::find(&variables)?.is_some() {
        return Err(LaunchError::Usage(
            "this is one of several processes that srun or torchrun has started: leave out `launch --local`, \
             or set TROMMEL_CLUSTER=off"
                .into(),
        )
        .into());
    }
    local::start(processes, &args.command, Times::of(args, &variables)?)
}

fn refuse_nested(variables: &Variables) -> Result<(), LaunchError> {
    if variables.is_local_launch() {
        return Err(LaunchError::Usage("a `trommel launch` inside a `trommel launch`: leave one out".into()));
    }
    Ok(())
}

/// The three stated times: flags win over variables, variables over defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    start_timeout: Duration,
    silence: Duration,
    grace: Duration,
}

impl Times {
    fn of(args: &LaunchArgs, variables: &Variables) -> Result<Self, LaunchError> {
        let mut times = Self::of_variables(variables)?;
        let flags = [
            (args.start_timeout, &mut times.start_timeout),
            (args.silence, &mut times.silence),
            (args.grace, &mut times.grace),
        ];
        for (flag, time) in flags {
            if let Some(given) = flag {
                *time = given;
            }
        }
        Ok(times)
    }

    fn of_variables(variables: &Variables) -> Result<Self, LaunchError> {
        let defaults = ClusterConfig::new(1, 0, "", "");
        Ok(Self {
            start_timeout: variables.patience("TROMMEL_START_TIMEOUT")?.unwrap_or(defaults.start_timeout),
            silence: variables.patience("TROMMEL_SILENCE")?.unwrap_or(defaults.silence),
            grace: variables.patience("TROMMEL_GRACE")?.unwrap_or(GRACE),
        })
    }

    fn put(self, found: &mut Found) {
        found.config.start_timeout = self.start_timeout;
        found.config.silence = self.silence;
        found.grace = self.grace;
    }
}

/// How long others are waited for, from flags and variables.
pub fn patience(text: &str) -> Result<Duration, WrongValue> {
    let time = duration::parse(text)?;
    let (least, most) = (Duration::from_millis(50), Duration::from_secs(86_400));
    if !(least..=most).contains(&time) {
        return Err("between 0.05 and 86400 seconds".into());
    }
    Ok(time)
}

/// The listener that the launcher gave as standard input. It was bound before anything was started, so that no other
/// program can have taken its port meanwhile.
fn listener_on_stdin(coordinator: &str) -> Result<TcpListener, LaunchError> {
    let none = |why: String| LaunchError::Variable {
        name: CLUSTER_VARIABLE.into(),
        value: "..".into(),
        problem: format!(
            "standard input is not process 0's listener ({why}); only `trommel launch` sets this variable"
        )
        .into(),
    };
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| none(error.to_string()))?;
    let listener = TcpListener::from(stdin);
    let address = listener.local_addr().map_err(|error| none(error.to_string()))?;
    if address.to_string() != coordinator {
        return Err(none(format!("it is {address}, not {coordinator}")));
    }
    // Standard input would keep the port open once the listener is closed.
    let nothing = std::fs::File::open("/dev/null").map_err(|error| none(error.to_string()))?;
    // SAFETY: a system call without pointers; both descriptors are open, and nothing reads standard input in a cluster.
    let _open_still = unsafe { libc::dup2(nothing.as_raw_fd(), libc::STDIN_FILENO) };
    Ok(listener)
}
