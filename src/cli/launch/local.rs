//! `trommel launch --local N`: N processes of this program on this machine, as one.
//!
//! Process 0's listener is bound here, on loopback, before anything is started, and is handed to process 0 as its
//! standard input: no port has to be guessed and none can be taken in between. Each process has a process group of its
//! own, so that a Ctrl-C comes here alone and is forwarded once. Process 0 has the terminal; the others' lines are
//! prefixed with their number.
//!
//! Invariants:
//! 1. No process is left behind: this waits for all; once one has ended badly the others have a stated time, then they are
//!    killed; a process whose launcher has gone ends by itself.
//! 2. A signal goes only to processes that were not waited for yet, so never to a stranger with a used number.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use signal_hook::consts::SIGKILL;
use signal_hook::iterator::Signals;
use trommel_cluster::ClusterConfig;
use trommel_cluster::secret::random_hex;
use trommel_core::escape::escape_controls;
use trommel_pipelines::error::{ErrorKind, PipelineError};
use trommel_pipelines::secret;

use super::ends::{End, status};
use super::variables::Found;
use super::{CLUSTER_VARIABLE, Times, refused};
use crate::environment;
use crate::say::{say, show};
use crate::signals;

/// Between two looks at the children and at our own signals.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between two looks at the launcher.
const LAUNCHER_EVERY: Duration = Duration::from_millis(200);
/// Beyond silence and grace: for noticing, committing and leaving.
const SLACK: Duration = Duration::from_secs(5);

/// Names the script that starts this program, where that is no program file.
const SCRIPT_VARIABLE: &str = "TROMMEL_SCRIPT";

/// Starts `processes` processes of `command`, waits for all, and gives the status of the whole.
pub fn start(processes: usize, command: &[OsString], times: Times) -> Result<u8, PipelineError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(refused("cannot listen on 127.0.0.1"))?;
    let coordinator = listener.local_addr().map_err(refused("cannot listen on 127.0.0.1"))?.to_string();
    let program = program().map_err(refused("cannot find this program's file"))?;
    // Before the first child: from here on a signal is forwarded, never this process's end.
    let mut signals = signals::taken().map_err(refused("cannot take signals"))?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let run_id = format!("local-{}-{since_epoch:x}", std::process::id());
    let secret = match environment::given(secret::VARIABLE) {
        Some(given) => given,
        None => random_hex().map_err(refused("cannot make the run's secret"))?.into(),
    };
    let mut family = Family { members: Vec::new(), patience: times.silence + times.grace + SLACK, secret };
    let mut listener = Some(OwnedFd::from(listener));
    for process in 0..processes {
        let mut found = Found {
            local_processes: processes,
            local_process: process,
            listens_on_stdin: process == 0,
            launcher: Some(std::process::id()),
            ..Found::new(ClusterConfig::new(processes, process, &coordinator, &run_id))
        };
        times.put(&mut found);
        let stdin = listener.take().map_or_else(Stdio::null, Stdio::from);
        if let Err(error) = family.start(&program, command, &found, stdin) {
            family.signal(SIGKILL);
            family.wait(&mut signals);
            return Err(error);
        }
    }
    Ok(family.wait(&mut signals))
}

/// The file that starts this program again; where the process is Python's, the script that it runs says so.
fn program() -> std::io::Result<PathBuf> {
    match environment::given(SCRIPT_VARIABLE) {
        Some(script) => Ok(script.into()),
        None => std::env::current_exe(),
    }
}

struct Member {
    process: usize,
    child: Child,
    end: Option<End>,
    relay: Option<JoinHandle<()>>,
}

struct Family {
    members: Vec<Member>,
    /// How long the others may take once one has ended badly.
    patience: Duration,
    /// Known to the processes of this launch.
    secret: OsString,
}

impl Family {
    fn start(&mut self, program: &Path, words: &[OsString], found: &Found, stdin: Stdio) -> Result<(), PipelineError> {
        let process = found.config.process;
        let what = format!("cannot start process {process}");
        let place = serde_json::to_string(found).map_err(refused(&what))?;
        let mut command = Command::new(program);
        command.args(words.strip_prefix(&[OsString::from("trommel")]).unwrap_or(words));
        command.env(CLUSTER_VARIABLE, place).env(secret::VARIABLE, &self.secret).stdin(stdin).process_group(0);
        if process > 0 {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
        }
        let mut child = command.spawn().map_err(refused(&what))?;
        let relay = child.stderr.take().map(|stderr| {
            std::thread::Builder::new().name(format!("lines-{process}")).spawn(move || relay(process, stderr))
        });
        self.members.push(Member { process, child, end: None, relay: None });
        if let (Some(member), Some(relay)) = (self.members.last_mut(), relay) {
            member.relay = Some(relay.map_err(refused(what))?);
        }
        Ok(())
    }

    /// Sends a signal to all that are still there.
    fn signal(&mut self, signal: i32) {
        for member in self.members.iter().filter(|member| member.end.is_none()) {
            let Ok(pid) = libc::pid_t::try_from(member.child.id()) else { continue };
            // SAFETY: a system call without pointers. The child was not waited for yet, so its number is still its own.
            let _gone_already = unsafe { libc::kill(pid, signal) };
        }
    }

    /// Waits until all have ended, forwards signals meanwhile, and gives the status of the whole.
    fn wait(mut self, signals: &mut Signals) -> u8 {
        let (mut received, mut since_trouble) = (0u32, None);
        loop {
            for signal in signals.pending() {
                received += 1;
                if received == 3 {
                    say("the third signal: all processes are killed; the same command resumes");
                }
                self.signal(if received >= 3 { SIGKILL } else { signal });
            }
            if self.reap(received) {
                since_trouble.get_or_insert_with(Instant::now);
            }
            if self.members.iter().all(|member| member.end.is_some()) {
                break;
            }
            if since_trouble.is_some_and(|since: Instant| since.elapsed() > self.patience) {
                for member in self.members.iter().filter(|member| member.end.is_none()) {
                    say(format!("process {} does not end and is killed", member.process));
                }
                self.signal(SIGKILL);
                since_trouble = Some(Instant::now());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        for member in &mut self.members {
            if let Some(relay) = member.relay.take() {
                let _panicked = relay.join();
            }
        }
        status(self.members.iter().filter_map(|member| member.end))
    }

    /// Notes who has ended; whether one of them ended badly.
    fn reap(&mut self, received: u32) -> bool {
        let mut trouble = false;
        for member in self.members.iter_mut().filter(|member| member.end.is_none()) {
            let end = match member.child.try_wait() {
                Ok(None) => continue,
                Ok(Some(status)) => End::from(status),
                Err(_not_ours_any_more) => End::Exited(1),
            };
            member.end = Some(end);
            trouble |= end != End::Exited(0);
            if matches!(end, End::Killed(_)) && received < 3 {
                let (process, pid) = (member.process, member.child.id());
                say(format!("process {process} (pid {pid}) {end}; the same command resumes"));
            }
        }
        trouble
    }
}

/// Copies a process's lines to stderr, each with its number before it.
fn relay(process: usize, from: impl Read) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        // To the end, whatever our own stderr says: a full pipe would stop the process.
        match from.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line));
        show(format!("[{process}] {}", escape_controls(&text)));
    }
}

/// Ends this process with a line and status 3 once its parent is no longer `launcher`.
pub fn watch_launcher(launcher: u32) -> std::io::Result<()> {
    let watch = move || {
        while parent_id() == launcher {
            std::thread::sleep(LAUNCHER_EVERY);
        }
        say("the launcher is gone; the same command resumes");
        // The run folder is made for being left at any instant.
        signal_hook::low_level::exit(ErrorKind::Lost.status().into());
    };
    std::thread::Builder::new().name("launcher".into()).spawn(watch).map(drop)
}
