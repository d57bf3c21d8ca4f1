//! The answer does not depend on the number of processes: ledgers, items, embeddings, losses, the order of training.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::cluster::{and, local, no_panic};
use common::members::append;
use common::processes::{Group, newest, signal, until};
use common::{World, embeddings_text, items_text, ledger_text, logged_losses, losses, run, words};
use trommel_core::sample::Status;
use trommel_dataflow::lanes::Lanes;
use trommel_ledger::read::Ledger;

/// A fixed, small learning rate: two ways to add up the same sums must not drift apart by themselves.
fn gently(command: Vec<String>) -> Vec<String> {
    let mut command = and(command, &["--threads", "1"]);
    for (flag, value) in [("--lr", "1e-5"), ("--warmup", "1")] {
        let at = command.iter().position(|word| word == flag).unwrap();
        command[at + 1] = value.into();
    }
    command
}

/// Every step of a run with its loss: `steps` of them, from 0, and done again only with the same loss or nearly so.
fn curve(run_folder: &Path, steps: u64, tolerance: f64) -> Vec<f64> {
    let mut losses = BTreeMap::new();
    for (step, loss) in logged_losses(run_folder) {
        let before = *losses.entry(step).or_insert(loss);
        assert!((before - loss).abs() <= tolerance * loss, "step {step}: {before}, then {loss}");
    }
    assert_eq!(losses.keys().copied().collect::<Vec<_>>(), (0..steps).collect::<Vec<_>>(), "every step, once at least");
    losses.into_values().collect()
}

fn largest_difference(some: &[f64], others: &[f64]) -> f64 {
    assert_eq!(some.len(), others.len());
    some.iter().zip(others).map(|(a, b)| ((a - b) / b).abs()).max_by(f64::total_cmp).unwrap()
}

#[test]
fn ledgers_and_items_are_equal_for_any_number_of_processes_and_workers() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    run(0, &words(&world.prune(&whole)));
    let (ledger, items) = (ledger_text(&whole), items_text(&whole));
    assert!(ledger.contains("status: Dropped") && ledger.contains("status: Kept"), "the rule has something to do");
    for processes in [1, 2, 4] {
        for workers in ["1", "2"] {
            let into = folder.path().join(format!("{processes}x{workers}"));
            let command = and(world.prune(&into), &["--workers", workers]);
            let out = run(0, &words(&local(processes, &[], &command)));
            assert!(out.stdout.is_empty(), "stdout is for what was asked for");
            assert!(ledger == ledger_text(&into), "{processes} processes x {workers} workers: another ledger");
            assert!(items == items_text(&into), "{processes} processes x {workers} workers: other items");
            Ledger::open(&into).unwrap().verify().unwrap();
        }
    }
    let sliced = folder.path().join("sliced");
    for part in ["0/3", "1/3", "2/3"] {
        run(0, &words(&and(world.prune(&sliced), &["--part", part])));
    }
    assert!(ledger == ledger_text(&sliced), "slices: another ledger");
    assert!(items == items_text(&sliced), "slices: other items");
}

#[test]
fn a_clusters_result_is_one_line_about_the_whole() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let command = and(world.prune(&folder.path().join("run")), &["--json"]);
    let out = run(0, &words(&local(2, &[], &command)));
    let line: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one line of JSON, from one process");
    let of = |field: &str| line[field].as_u64().unwrap_or_default();
    assert_eq!((of("shards"), of("kept") + of("dropped") + of("rejected")), (6, 6 * 48), "{line}");
    // Once more: nothing is left to do for anybody.
    let out = run(0, &words(&local(2, &[], &command)));
    let line: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(line["shards_resumed"], 6, "{line}");
}

#[test]
fn more_processes_than_shards_have_nothing_to_do_and_end() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let (whole, many) = (folder.path().join("whole"), folder.path().join("many"));
    let one_shard = |into: &Path| {
        let mut command = world.prune(into);
        command[1] = world.path("data/shards/00000.tar");
        command
    };
    run(0, &words(&one_shard(&whole)));
    let mut group = Group::start(&local(3, &[], &one_shard(&many)));
    no_panic(&group.ends_with(0, 60));
    assert_eq!(ledger_text(&whole), ledger_text(&many));
}

#[test]
fn embeddings_are_equal_for_any_number_of_processes() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let command = |into: &Path| {
        let (shards, into) = (world.shards(), into.display().to_string());
        let args = ["embed", &shards, "-o", &into, "--model", common::MODEL, "--random-init", "1", "--workers", "2"];
        args.map(String::from).to_vec()
    };
    let whole = folder.path().join("whole");
    run(0, &words(&command(&whole)));
    let (embeddings, ledger) = (embeddings_text(&whole), ledger_text(&whole));
    assert!(!embeddings.is_empty());
    for processes in [2, 3] {
        let into = folder.path().join(processes.to_string());
        run(0, &words(&local(processes, &[], &command(&into))));
        assert!(embeddings == embeddings_text(&into), "{processes} processes: other embeddings");
        assert!(ledger == ledger_text(&into), "{processes} processes: another ledger");
    }
}

/// Class folders become one set of embeddings, whoever made which.
#[test]
fn class_folders_are_embedded_by_a_cluster_into_the_same_set() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let pictures = world.path("data/benchmarks/photo");
    let bytes = [1, 2].map(|processes| {
        let into = folder.path().join(processes.to_string());
        let out = into.display().to_string();
        let command = ["embed", &pictures, "-o", &out, "--model", common::MODEL, "--random-init", "1"];
        run(0, &words(&local(processes, &[], &command.map(String::from))));
        std::fs::read(into.join("embeddings.arrow")).unwrap()
    });
    assert!(bytes[0] == bytes[1], "the sets differ");
}

#[test]
fn two_processes_train_like_one() {
    const STEPS: u32 = 50;
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("one");
    run(0, &words(&gently(world.train(&one, STEPS))));
    let mut all = Vec::new();
    for workers in ["1", "2"] {
        let into = folder.path().join(workers);
        let command = and(gently(world.train(&into, STEPS)), &["--workers", workers]);
        run(0, &words(&local(2, &[], &command)));
        all.push((losses(&into), ledger_text(&into)));
    }
    assert!(all[0].0 == all[1].0, "2 processes: losses depend on the number of workers");
    assert!(all[0].1 == all[1].1 && all[0].1 == ledger_text(&one), "ledgers differ");
    let (one, two) = (curve(&one, STEPS.into(), 0.0), curve(&folder.path().join("1"), STEPS.into(), 0.0));
    let difference = largest_difference(&two, &one);
    eprintln!("largest relative difference of a loss over {STEPS} steps, 2 processes to 1: {difference:.2e}");
    assert!(difference < 1e-5, "losses differ by {difference:e}");
}

#[test]
fn training_goes_on_in_the_same_order_on_another_number_of_processes() {
    // More than can be done between the second checkpoint and the signal.
    const STEPS: u32 = 96;
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let command = |into: &Path| gently(world.train(into, STEPS));
    run(0, &words(&local(2, &[], &command(&path("whole")))));
    // Interrupted after its second checkpoint.
    let begun = path("begun");
    let mut group = Group::start(&local(2, &[], &command(&begun)));
    until(120, || newest(&begun) >= 10 || group.status().is_some());
    signal(group.pid(), libc::SIGTERM);
    no_panic(&group.ends_with(3, 90));
    let done = logged_losses(&begun).len() as u64;
    assert!((10..u64::from(STEPS)).contains(&done), "{done} steps: there is something left to do");
    let whole = curve(&path("whole"), STEPS.into(), 0.0);
    // Eight: more than there are lanes, which follow the six shards.
    for processes in [1, 4, 8] {
        let resumed = path(&format!("on{processes}"));
        let copied = Command::new("cp").arg("-a").args([&begun, &resumed]).status().unwrap();
        assert!(copied.success());
        run(0, &words(&local(processes, &[], &command(&resumed))));
        let difference = largest_difference(&curve(&resumed, STEPS.into(), 1e-4), &whole);
        eprintln!("resumed on {processes} processes after {done} steps: losses differ by {difference:.2e} at most");
        assert!(difference < 1e-4, "{processes} processes: losses differ by {difference:e}");
        assert!(ledger_text(&path("whole")) == ledger_text(&resumed), "{processes} processes: another ledger");
    }
}

#[test]
fn a_batch_that_does_not_divide_is_refused() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    // 16 over 3 ranks.
    let mut group = Group::start(&local(3, &[], &world.train(&folder.path().join("run"), 5)));
    let said = group.ends_with(2, 60);
    common::cluster::says(&said, &["16", "3"], 6);
}

/// Everything one process reads in the first pass is dropped, everything the other reads is kept.
#[test]
fn uneven_data_ends_by_itself_with_equal_steps() {
    const STEPS: u32 = 14;
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let probe = path("probe");
    run(0, &words(&world.prune(&probe)));
    let shards = uneven_shards(world, &probe, folder.path());
    let command = |into: PathBuf| {
        let mut command = world.train(&into, STEPS);
        command.splice(1..2, shards.iter().map(|shard| shard.display().to_string()));
        and(command, &["--lanes", "2", "--threads", "1"])
    };
    run(0, &words(&command(path("one"))));
    let ledger = Ledger::open(&path("one")).unwrap();
    for (ordinal, (_, line)) in ledger.shards() {
        let (kept, dropped) = (line.counts.kept, line.counts.dropped);
        assert!((kept == 0) != (dropped == 0), "shard {ordinal}: {kept} kept, {dropped} dropped");
    }
    let mut group = Group::start(&local(2, &[], &command(path("two"))));
    no_panic(&group.ends_with(0, 120));
    assert_eq!(ledger_text(&path("one")), ledger_text(&path("two")));
    let (one, two) = (curve(&path("one"), STEPS.into(), 0.0), curve(&path("two"), STEPS.into(), 0.0));
    // The usual learning rate: the first steps tell whether the same samples were trained on.
    assert!(largest_difference(&two[..4], &one[..4]) < 1e-4, "{one:?}\n{two:?}");
}

/// Eight shards of 24: those that lane 0 of 2 reads first hold dropped samples only, the rest kept ones only.
fn uneven_shards(world: &World, probe: &Path, into: &Path) -> Vec<PathBuf> {
    const SHARDS: u64 = 8;
    let mut kinds: [Vec<[Vec<u8>; 2]>; 2] = Default::default();
    let ledger = Ledger::open(probe).unwrap();
    for &ordinal in ledger.shards().keys() {
        let members = members(&world.path(&format!("data/shards/{ordinal:05}.tar")));
        for row in ledger.shard_rows(ordinal).unwrap() {
            let kind = match row.fate.status {
                Status::Kept => 0,
                Status::Dropped => 1,
                Status::Rejected => continue,
            };
            let member = |ext: &str| members.get(&format!("{}.{ext}", row.fate.info.key)).cloned();
            if let (Some(picture), Some(caption)) = (member("jpg"), member("txt")) {
                kinds[kind].push([picture, caption]);
            }
        }
    }
    let names = (0..SHARDS).map(|at| format!("{at:05}.tar"));
    let lanes = Lanes::new(2, 0, (0u64..).zip(names.clone()));
    let mut samples = kinds.map(|kind| kind.into_iter().cycle());
    std::fs::create_dir_all(into.join("uneven")).unwrap();
    (0u64..)
        .zip(names)
        .map(|(ordinal, name)| {
            let kind = usize::from(lanes.place(0, ordinal).unwrap().lane == 0);
            let path = into.join("uneven").join(name);
            let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
            for (at, sample) in samples[kind].by_ref().take(24).enumerate() {
                for (ext, bytes) in ["jpg", "txt"].iter().zip(sample) {
                    append(&mut tar, format!("{ordinal:03}{at:06}.{ext}"), &bytes[..]);
                }
            }
            tar.finish().unwrap();
            path
        })
        .collect()
}

/// A tar's members by name.
fn members(tar: &str) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        (name, bytes)
    });
    entries.collect()
}
