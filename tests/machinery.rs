//! The answer does not depend on the machinery: workers, threads, interruptions.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::processes::{Group, committed, signal, until};
use common::{World, items_text, ledger_text, losses, run, stderr, trommel, words};

#[test]
fn decisions_are_equal_for_any_number_of_workers_and_threads() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut texts = Vec::new();
    for (workers, threads) in [("1", "1"), ("2", "2"), ("4", "3")] {
        let into = folder.path().join(workers);
        let mut args = world.prune(&into);
        args.extend(["--workers", workers, "--threads", threads].map(String::from));
        run(0, &words(&args));
        texts.push(ledger_text(&into));
    }
    assert!(texts[0].contains("status: Dropped") && texts[0].contains("status: Kept"), "the rule has something to do");
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[0], texts[2]);
}

#[test]
fn decisions_scores_and_items_are_equal_wherever_they_are_joined() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    for columns in ["all", "decision"] {
        let mut texts = Vec::new();
        for (join, on) in [("cpu", "join on cpu: "), ("device", "join on libtorch's cpu in f32: ")] {
            let into = folder.path().join(columns).join(join);
            let mut args = world.prune(&into);
            args.extend(["--columns", columns, "--join", join, "--device", "cpu", "--json"].map(String::from));
            let out = run(0, &words(&args));
            assert!(stderr(&out).contains(on), "{}", stderr(&out));
            let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
            let counts = |name: &str| report["join"][name].as_u64().unwrap();
            let joined = report["kept"].as_u64().unwrap() + report["dropped"].as_u64().unwrap();
            assert_eq!((counts("rows"), counts("rows_in_place")), (joined, 0), "{report}");
            assert!(0 < counts("confirmed") && counts("confirmed") < counts("pairs"), "{report}");
            texts.push(ledger_text(&into) + &items_text(&into));
        }
        assert!(
            texts[0].contains("status: Dropped") && texts[0].contains("status: Kept"),
            "the rule has something to do"
        );
        assert_eq!(texts[0], texts[1]);
    }
    let mut args = world.prune(&folder.path().join("wrong"));
    args.extend(["--join".into(), "gpu".into()]);
    assert!(stderr(&run(2, &words(&args))).contains("--join gpu: write auto, cpu or device"));
}

#[test]
fn slices_fill_the_same_ledger_as_one_run() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let (whole, sliced) = (folder.path().join("whole"), folder.path().join("sliced"));
    run(0, &words(&world.prune(&whole)));
    for part in ["0/3", "1/3", "2/3"] {
        let mut args = world.prune(&sliced);
        args.extend(["--part".into(), part.into()]);
        run(0, &words(&args));
    }
    assert_eq!(ledger_text(&whole), ledger_text(&sliced));
}

#[test]
fn a_killed_pruning_run_is_resumed_to_the_same_ledger() {
    const SHARDS: usize = 16 * 6;
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    run(0, &words(&world.long_prune(&whole, 16)));
    // Killed twice, the second time further on, then left to finish.
    for at_least in [1, 12] {
        let mut group = Group::start(&world.long_prune(&killed, 16));
        until(60, || committed(&killed) >= at_least || group.status().is_some());
        group.kill_all();
        let done = committed(&killed);
        assert!((at_least..SHARDS).contains(&done), "killed at {done} of {SHARDS} shards:\n{}", group.said());
    }
    run(0, &words(&world.long_prune(&killed, 16)));
    assert_eq!(ledger_text(&whole), ledger_text(&killed));
}

#[test]
fn losses_are_equal_for_any_number_of_workers() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for workers in ["1", "2", "4"] {
        let into = folder.path().join(workers);
        let mut args = world.train(&into, 24);
        args.extend(["--workers".into(), workers.into()]);
        run(0, &words(&args));
        all.push((losses(&into), ledger_text(&into)));
    }
    assert_eq!(all[0].0.len(), 24);
    assert!(all[0] == all[1] && all[0] == all[2], "losses or decisions differ");
    let (first, last) = (all[0].0.values().next().unwrap(), all[0].0.values().last().unwrap());
    assert!(f64::from_bits(*last) < f64::from_bits(*first), "the loss falls");
}

#[test]
fn a_killed_training_run_is_resumed_with_equal_losses() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    run(0, &words(&world.train(&whole, 24)));
    for checkpoint in ["step_00000005", "step_00000010"] {
        let mut child = trommel().args(world.train(&killed, 24)).stderr(Stdio::null()).spawn().unwrap();
        let wanted = killed.join("checkpoints").join(checkpoint);
        let deadline = Instant::now() + Duration::from_secs(120);
        while !wanted.exists() && child.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill();
        child.wait().unwrap();
        assert!(wanted.exists(), "no checkpoint {checkpoint}");
    }
    run(0, &words(&world.train(&killed, 24)));
    assert_eq!(losses(&whole), losses(&killed));
    assert_eq!(ledger_text(&whole), ledger_text(&killed));
}

/// From the moment on that a command which runs a model takes signals at all, libraries and models being loaded.
#[test]
fn a_signal_before_anything_is_done_interrupts() {
    let folder = tempfile::tempdir().unwrap();
    for number in [libc::SIGTERM, libc::SIGINT] {
        let mut child = trommel().args(World::shared().prune(folder.path())).stderr(Stdio::null()).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let takes = || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
            u64::from_str_radix(caught.trim(), 16).unwrap() >> (number - 1) & 1 == 1
        };
        until(60, takes);
        assert!(signal(i32::try_from(child.id()).unwrap(), number));
        assert_eq!(child.wait().unwrap().code(), Some(3));
    }
}

/// As batch systems set it.
#[test]
fn a_limit_of_files_is_an_error_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (world, into) = (World::shared(), folder.path().join("out"));
    let program = trommel().get_program().to_owned();
    let limited = format!("ulimit -f 8; exec '{}' \"$@\"", Path::new(&program).display());
    let args = [&world.shards(), "--rule", "random:100%", "-o", &into.display().to_string()].map(str::to_owned);
    let out = Command::new("sh").args(["-c", &limited, "sh", "stream"]).args(args).output().unwrap();
    assert!(out.status.code() == Some(1) && stderr(&out).contains("File too large"), "{out:?}");
}
