//! Nothing is written outside the run folder, and nothing but finished shards before the trainer's first step.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{World, words};

/// Devices that a program may open for writing and leaves nothing in.
const DEVICES: [&str; 2] = ["/dev/null", "/dev/tty"];

#[test]
fn only_the_run_folder_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (run, log) = (folder.path().join("run"), folder.path().join("trace"));
    let calls = "trace=openat,open,creat,rename,renameat,renameat2,mkdir,mkdirat,symlink,symlinkat,link,linkat";
    let Some(trace) = traced(&["-e", calls], &World::shared().train(&run, 12), &log) else { return };
    let mut before_first_step = Vec::new();
    let (mut stepped, mut writes) = (false, 0);
    for line in whole_calls(&trace) {
        let opens = line.contains("open")
            && !line.contains("O_WRONLY")
            && !line.contains("O_RDWR")
            && !line.contains("O_CREAT");
        if opens || line.contains(" = -1 ") {
            continue;
        }
        let paths: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        let Some(path) = paths.last() else { continue };
        if DEVICES.contains(path) || path.starts_with("/proc/") {
            continue;
        }
        writes += 1;
        // Of a rename and a link both names count. A relative symbolic link's target is no path of its own.
        let mut named = paths.iter().skip(usize::from(line.contains("symlink")));
        assert!(named.all(|path| Path::new(path).starts_with(&run)), "written outside the run folder: {line}");
        stepped |= path.contains("metrics.jsonl");
        if !stepped {
            before_first_step.push((*path).to_owned());
        }
    }
    assert!(writes > 20, "the trace shows the run's own writes");
    for path in &before_first_step {
        let inside = Path::new(path).strip_prefix(&run).unwrap().to_str().unwrap();
        let allowed = [
            "",
            "lock",
            "config",
            "plan",
            "manifest",
            "ledger",
            "items",
            "embeddings",
            "logs",
            "checkpoints",
            "training",
            // What of the order the ledger cannot tell: a line of numbers where a turn was irregular.
            "irregular",
        ];
        let first = inside.split(['/', '.']).next().unwrap_or_default();
        assert!(allowed.contains(&first) && !inside.contains("step_"), "written before the first step: {path}");
    }
}

/// What gets its name is on the disk before, and so are the folders that it is in when the run is over.
#[test]
fn what_is_named_was_synced_before() {
    let folder = tempfile::tempdir().unwrap();
    let (run, log) = (folder.path().join("run"), folder.path().join("trace"));
    let Some(trace) =
        traced(&["-y", "-e", "trace=fsync,rename,renameat,renameat2"], &World::shared().prune(&run), &log)
    else {
        return;
    };
    let (mut synced, mut renamed) = (std::collections::BTreeSet::new(), 0);
    for line in whole_calls(&trace).iter().filter(|line| !line.contains(" = -1 ")) {
        if line.contains("fsync(") {
            synced.extend(line.split_once('<').and_then(|(_, rest)| Some(rest.split_once('>')?.0.to_owned())));
        } else if let Some(from) = line.split('"').nth(1) {
            renamed += 1;
            assert!(synced.contains(from), "named before it is on the disk: {line}");
        }
    }
    assert!(renamed > 10, "the trace shows the run's own renames");
    for place in ["ledger", "items", "manifest", "manifest/0.jsonl"] {
        assert!(synced.contains(&run.join(place).display().to_string()), "{place} is not synced: {synced:?}");
    }
}

/// The trace of a run that succeeds; `None` where nothing can be traced, which is said.
fn traced(strace: &[&str], args: &[String], log: &Path) -> Option<String> {
    if Command::new("strace").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        common::skipped("strace is not installed");
        return None;
    }
    let mut command = Command::new("strace");
    command.arg("-f").args(strace).arg("-o").arg(log).arg(env!("CARGO_BIN_EXE_trommel")).args(words(args));
    let traced = command.output().unwrap();
    if String::from_utf8_lossy(&traced.stderr).contains("PTRACE") {
        common::skipped("tracing is not allowed here");
        return None;
    }
    assert!(traced.status.success(), "{}", String::from_utf8_lossy(&traced.stderr));
    Some(std::fs::read_to_string(log).unwrap())
}

/// The trace with each call on one line, where it ended: strace cuts a call in two when another thread calls meanwhile.
fn whole_calls(trace: &str) -> Vec<String> {
    let mut begun = std::collections::HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let thread = line.split_whitespace().next().unwrap_or_default();
        if let Some((first, _)) = line.split_once("<unfinished") {
            begun.insert(thread, first);
        } else if let Some((_, last)) = line.split_once("resumed>") {
            calls.push(format!("{}{last}", begun.remove(thread).unwrap_or_default()));
        } else {
            calls.push(line.to_owned());
        }
    }
    calls
}
