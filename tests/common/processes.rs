//! Programs that a test starts, kills, stops and waits for, with all the processes that they start themselves.
//!
//! Every [`Group`] puts a mark of its own into the environment. Children inherit it, so that the group's processes are
//! found in `/proc` whatever their parents are and whoever of them is dead. Dropping a group kills all of them: no process
//! survives a test. Nothing waits without a bound.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const MARK: &str = "TROMMEL_TEST_MARK";

/// Sends a signal; false where there is no such process.
pub fn signal(pid: i32, signal: i32) -> bool {
    // SAFETY: a plain system call with two numbers.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Waits until `is_so`, at most `seconds`.
pub fn until(seconds: u64, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// A started program and all that it started.
pub struct Group {
    child: Child,
    mark: String,
    status: Option<i32>,
    folder: TempDir,
    started: Instant,
}

impl Group {
    /// Starts the built program with arguments.
    pub fn start(args: &[String]) -> Self {
        Self::of(super::trommel(), args)
    }

    /// Starts `command` with arguments behind its own.
    pub fn of(mut command: Command, args: &[String]) -> Self {
        static GROUPS: AtomicUsize = AtomicUsize::new(0);
        let mark = format!("{}-{}", std::process::id(), GROUPS.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(folder.path().join(name)).unwrap();
        let child = command
            .args(args)
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        Self { child, mark, status: None, folder, started: Instant::now() }
    }

    /// Process id of the program that was started.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// When it was started.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// What it and its children have said on stderr so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("stderr")).unwrap()).into_owned()
    }

    /// What it has written on stdout so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("stdout")).unwrap()).into_owned()
    }

    /// Its exit status, once it has ended; 128 + the signal where one ended it.
    pub fn status(&mut self) -> Option<i32> {
        if self.status.is_none() {
            let ended = self.child.try_wait().unwrap();
            self.status =
                ended.map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
        }
        self.status
    }

    /// Its exit status; panics with all that it said where it has not ended after so many seconds.
    pub fn ends_within(&mut self, seconds: u64) -> i32 {
        until(seconds, || self.status().is_some());
        self.status().unwrap_or_else(|| panic!("still there after {seconds} s; it said:\n{}", self.said()))
    }

    /// Ends by itself with this status; gives what was said on stderr.
    pub fn ends_with(&mut self, status: i32, seconds: u64) -> String {
        let ended = self.ends_within(seconds);
        let said = self.said();
        assert_eq!(ended, status, "the exit status; it said:\n{said}");
        said
    }

    /// Every living process of the group.
    pub fn all(&self) -> Vec<i32> {
        let mark = format!("{MARK}={}", self.mark);
        let of_us = |pid: &i32| environment(*pid).contains(&mark);
        let entries = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        entries.filter(of_us).collect()
    }

    /// The processes that do the work, by their number in the cluster. A plain run is its own process 0.
    pub fn members(&self) -> BTreeMap<usize, i32> {
        let all = self.all();
        let numbered: BTreeMap<usize, i32> = all.iter().filter_map(|pid| Some((number(*pid)?, *pid))).collect();
        if !numbered.is_empty() {
            return numbered;
        }
        // A launcher whose children have not got their number yet is no member.
        let launcher = fs::read(format!("/proc/{}/cmdline", self.pid())).unwrap_or_default();
        let launches = launcher.split(|byte| *byte == 0).any(|word| word == b"--local");
        all.into_iter().filter(|pid| *pid == self.pid() && !launches).map(|pid| (0, pid)).collect()
    }

    /// Waits until `count` processes do the work.
    pub fn wait_for_members(&mut self, count: usize, seconds: u64) -> BTreeMap<usize, i32> {
        let there = until(seconds, || self.members().len() == count || self.status().is_some());
        let members = self.members();
        assert!(there && members.len() == count, "{count} processes expected, {members:?} found:\n{}", self.said());
        members
    }

    /// Sends every living process of the group a signal; how many there were.
    pub fn signal_all(&self, number: i32) -> usize {
        self.all().into_iter().filter(|pid| signal(*pid, number)).count()
    }

    /// Kills every process of the group, also those that are just being started, and the last one has gone when it returns.
    pub fn kill_all(&mut self) {
        // The one that starts others first.
        if self.status().is_none() {
            signal(self.pid(), libc::SIGKILL);
        }
        until(20, || {
            let _reaped = self.status();
            self.signal_all(libc::SIGKILL) == 0
        });
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill_all();
        let _reaped = self.child.wait();
    }
}

/// Number in the cluster, as a launcher gives it to its children.
fn number(pid: i32) -> Option<usize> {
    let environment = environment(pid);
    let given = environment.iter().find_map(|entry| entry.strip_prefix("TROMMEL_CLUSTER="))?;
    let after = given.split("\"process\":").nth(1)?.trim_start();
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A process's environment; empty for one that is gone, dead or another user's.
fn environment(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()
}

/// Shards that a run folder counts as committed so far, over all its manifests.
pub fn committed(run_folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(run_folder.join("manifest")) else { return 0 };
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    texts.map(|text| text.matches("\"status\":\"committed\"").count()).sum()
}

/// The newest checkpoint's step; 0 before the first.
pub fn newest(run_folder: &Path) -> u64 {
    let names = fs::read_dir(run_folder.join("checkpoints")).into_iter().flatten();
    let steps =
        names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_prefix("step_")?.parse().ok());
    steps.max().unwrap_or(0)
}

/// Starts a training run and kills it, with all its processes, as soon as it has written the checkpoint of this step.
pub fn kill_at(words: &[String], run_folder: &Path, step: u64) {
    let mut group = Group::start(words);
    until(120, || newest(run_folder) >= step || group.status().is_some());
    group.kill_all();
    assert!(newest(run_folder) >= step, "no checkpoint of step {step}:\n{}", group.said());
    eprintln!("killed at step {}, {step} asked for", newest(run_folder));
}
