//! Run folders that cannot be written, are full, torn or littered: one clear line, and nothing is lost.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::cluster::{local, no_panic, says};
use common::processes::{Group, committed, signal, until};
use common::{World, items_text, ledger_text, parts_are_listed, run, stderr, words};
use trommel_ledger::read::Ledger;

const MOST_LINES: usize = 6;

/// A tmpfs of some size; gone when it is dropped.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=777");
        let out = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        match out {
            Ok(out) if out.status.success() => Some(Self(at.to_path_buf())),
            _ => {
                common::skipped("no file system may be mounted here");
                None
            }
        }
    }

    fn again(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn equal(whole: &Path, other: &Path) {
    Ledger::open(other).unwrap().verify().unwrap();
    assert!(ledger_text(whole) == ledger_text(other), "another ledger");
    assert!(items_text(whole) == items_text(other), "other items");
}

/// The undisturbed run, and one of two processes that was killed half way: what is done to it next must not matter.
fn killed_half_way(folder: &Path) -> (PathBuf, PathBuf) {
    let (whole, torn) = (folder.join("whole"), folder.join("torn"));
    let world = World::shared();
    run(0, &words(&world.long_prune(&whole, 16)));
    let mut group = Group::start(&local(2, &[], &world.long_prune(&torn, 16)));
    // Both processes have committed something.
    let has_line = |file: &PathBuf| fs::read_to_string(file).is_ok_and(|text| text.contains(r#""status":"committed""#));
    let both = || manifests(&torn).iter().filter(|file| has_line(file)).count() >= 2;
    let begun = until(60, || (both() && committed(&torn) > 10) || group.status().is_some());
    assert!(begun && group.status().is_none(), "{}", group.said());
    group.kill_all();
    (whole, torn)
}

/// None before the folder is begun.
fn manifests(run_folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run_folder.join("manifest")).into_iter().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_full_disk_is_one_line_and_the_same_command_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::tmpfs(&folder.path().join("small"), "400k") else { return };
    let world = World::shared();
    let (whole, into) = (folder.path().join("whole"), mount.0.join("run"));
    run(0, &words(&world.long_prune(&whole, 16)));
    let mut group = Group::start(&local(2, &[], &world.long_prune(&into, 16)));
    let said = group.ends_with(1, 90);
    says(&said, &["No space left"], MOST_LINES);
    mount.again("size=200m");
    run(0, &words(&local(2, &[], &world.long_prune(&into, 16))));
    equal(&whole, &into);
}

#[test]
fn a_read_only_run_folder_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::shared();
    // A path under a file: nobody, root neither, can make a folder there.
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let mut group = Group::start(&local(2, &[], &world.prune(&file.join("run"))));
    let status = group.ends_within(60);
    assert!(matches!(status, 1 | 2), "status {status}:\n{}", group.said());
    says(&group.said(), &["file/run"], MOST_LINES);
    // A file system that has become read-only.
    let Some(mount) = Mount::tmpfs(&folder.path().join("frozen"), "20m") else { return };
    let into = mount.0.join("run");
    run(0, &words(&world.prune(&into)));
    mount.again("ro");
    let before = ledger_text(&into);
    let mut group = Group::start(&local(2, &[], &world.prune(&into)));
    let status = group.ends_within(60);
    assert!(matches!(status, 1 | 2), "status {status}:\n{}", group.said());
    says(&group.said(), &["Read-only file system"], MOST_LINES);
    assert_eq!(before, ledger_text(&into), "it can still be read");
}

#[test]
fn manifests_cut_inside_a_line_lose_that_shard_only() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, torn) = killed_half_way(folder.path());
    let mut cut = 0;
    for file in manifests(&torn) {
        let bytes = fs::read(&file).unwrap();
        if bytes.len() > 40 {
            fs::write(&file, &bytes[..bytes.len() - 33]).unwrap();
            cut += 1;
        }
    }
    assert!(cut >= 2, "two processes had committed");
    let mut group = Group::start(&local(2, &[], &World::shared().long_prune(&torn, 16)));
    no_panic(&group.ends_with(0, 120));
    // Nothing that counted was done again: every shard has one line.
    assert_eq!(committed(&torn), 16 * 6);
    parts_are_listed(&torn);
    equal(&whole, &torn);
}

#[test]
fn orphan_parts_are_swept_away() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, torn) = killed_half_way(folder.path());
    // A part that no manifest lists, one of an incarnation that never was, one half written.
    let orphans = ["ledger/95.0.parquet", "ledger/95.1.parquet", "items/95.1.parquet", "embeddings/95.7.arrow"];
    assert!(!Ledger::open(&torn).unwrap().is_committed(95), "the last shard is still to be done");
    for orphan in orphans {
        fs::write(torn.join(orphan), b"PAR1 half of it").unwrap();
    }
    let mut group = Group::start(&local(3, &[], &World::shared().long_prune(&torn, 16)));
    no_panic(&group.ends_with(0, 120));
    for orphan in orphans {
        assert!(!torn.join(orphan).exists(), "{orphan}");
    }
    parts_are_listed(&torn);
    equal(&whole, &torn);
}

/// Killed while it resumes, again and again: every incarnation adds, none takes away.
#[test]
fn a_run_of_many_incarnations_is_one_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::shared();
    let (whole, many) = (folder.path().join("whole"), folder.path().join("many"));
    run(0, &words(&world.long_prune(&whole, 16)));
    for (at, processes) in [2, 3, 2, 1].into_iter().enumerate() {
        let mut group = Group::start(&local(processes, &[], &world.long_prune(&many, 16)));
        let wanted = (at + 1) * 12;
        until(60, || committed(&many) > wanted || group.status().is_some());
        signal(group.pid(), libc::SIGKILL);
        group.kill_all();
        assert!(until(20, || group.all().is_empty()));
        let done = committed(&many);
        assert!((wanted + 1..16 * 6).contains(&done), "killed at {done} of 96 shards:\n{}", group.said());
    }
    assert!(manifests(&many).len() >= 4, "several incarnations");
    run(0, &words(&local(2, &[], &world.long_prune(&many, 16))));
    equal(&whole, &many);
}

/// A bit of a vector looks like any other, and so does the name of a shard: who reads them compares them with the manifest.
#[test]
fn a_turned_bit_or_name_is_found_by_all_who_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::shared();
    let (run_folder, again) = (folder.path().join("run"), folder.path().join("again"));
    run(0, &words(&world.prune(&run_folder)));
    let [into, run_folder, again, list] =
        [&folder.path().join("list.parquet"), &run_folder, &again, &folder.path().join("x.html")]
            .map(|path| path.display().to_string());
    let judging = world.judging();
    let prune = [&["prune", &run_folder, "--run", &again][..], &words(&judging[..6])].concat();
    let readers: [&[&str]; 2] = [&["dedup", &run_folder, "--above", "0.999", "-o", &into], &prune];
    let part = Path::new(&run_folder).join("embeddings/0.0.arrow");
    let bytes = fs::read(&part).unwrap();
    let mut turned = bytes.clone();
    let middle = turned.len() / 2;
    turned[middle] ^= 1;
    fs::write(&part, turned).unwrap();
    for (reader, status) in readers.iter().zip([2, 3]) {
        says(&stderr(&run(status, reader)), &["embeddings/0.0.arrow", "crc32c"], MOST_LINES);
    }
    fs::write(&part, bytes).unwrap();
    let plan = Path::new(&run_folder).join("plan.json");
    let text = fs::read_to_string(&plan).unwrap();
    fs::write(&plan, text.replacen("00001.tar", "00009.tar", 2)).unwrap();
    let shards = world.shards();
    let stream = ["stream", &shards, "--run", &run_folder];
    let report = ["report", &run_folder, "-o", &list];
    for reader in [readers[0], &stream, &report, &["why", &run_folder, "0"]] {
        let said = stderr(&Command::new(env!("CARGO_BIN_EXE_trommel")).args(reader).output().unwrap());
        says(&said, &["00009.tar", "the folder is damaged"], MOST_LINES);
    }
}
