//! Which cores the program takes for its own, and that what is idle in it leaves them to others: told by the kernel and by OpenMP.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{run, stderr};
use half::f16;
use serde_json::Value;
use trommel_columnar::npy;

const TROMMEL: &str = env!("CARGO_BIN_EXE_trommel");

/// A shard of few samples.
fn shard(folder: &Path) -> String {
    let data = folder.join("data").display().to_string();
    run(0, &["synth", &data, "--shards", "1", "--samples", "12", "--seed", "3"]);
    format!("{data}/shards/00000.tar")
}

/// A run whose command line `command` begins, from the program's name on.
fn pruned(mut command: Command, shard: &str, into: &Path) -> Output {
    command.args(["prune", shard, "--rule", "random:50%", "--json", "--run"]).arg(into);
    for name in ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"] {
        if !command.get_envs().any(|(set, _)| set == name) {
            command.env_remove(name);
        }
    }
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", stderr(&out));
    out
}

fn cores(out: &Output) -> Value {
    serde_json::from_slice::<Value>(&out.stdout).unwrap()["cores"].clone()
}

fn said(command: &str) -> String {
    let out = Command::new("sh").args(["-c", command]).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_mask_of_one_core_is_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    let shard = shard(folder.path());
    let (machine, allowed) =
        (said("getconf _NPROCESSORS_ONLN"), said("sed -n 's/^Cpus_allowed_list:\\s*//p' /proc/self/status"));
    let first = allowed.split([',', '-']).next().unwrap();
    let mut command = Command::new("taskset");
    command.args(["-c", first, TROMMEL]);
    let out = pruned(command, &shard, &folder.path().join("masked"));
    let found = cores(&out);
    assert_eq!(found["machine"].to_string(), machine);
    for name in ["affinity", "usable", "own", "workers", "threads"] {
        assert_eq!(found[name], 1, "{name} of {found}");
    }
    let mask = if machine == "1" { "" } else { " (1 in the affinity mask" };
    let line = format!("1 of {machine} cores{mask}");
    assert!(stderr(&out).contains(&line), "{}", stderr(&out));
    assert!(stderr(&out).contains(": 1 worker, 1 thread for each stage\n"), "{}", stderr(&out));
}

/// What has no dataflow says it too.
#[test]
fn commands_without_a_dataflow_say_their_cores() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (vectors, into) = (at("v.npy"), folder.path().join("run"));
    let unit: Vec<f16> = (0..8).flat_map(|row| (0..8).map(move |at| f16::from_f32(f32::from(row == at)))).collect();
    npy::write(Path::new(&vectors), &mut fs::File::create(&vectors).unwrap(), &unit, 8).unwrap();
    pruned(Command::new(TROMMEL), &shard(folder.path()), &into);
    let (run_folder, split, benchmark) = (into.display().to_string(), at("s.parquet"), format!("v={vectors}"));
    let (radii, duplicates) = (at("radii"), at("dedup"));
    let model = ["--assume-model", "m"];
    let commands = [
        vec!["select", &run_folder, "--rule", "random:100%", "-o", &split],
        vec!["verify", &split, &run_folder],
        [&["radii", "--reference", &vectors, "--benchmark", &benchmark, "-o", &radii][..], &model].concat(),
        [&["dedup", &vectors, "--above", "0.9", "-o", &duplicates][..], &model].concat(),
    ];
    for words in commands {
        let mut command = Command::new("taskset");
        let allowed = said("sed -n 's/^Cpus_allowed_list:\\s*//p' /proc/self/status");
        command.args(["-c", allowed.split([',', '-']).next().unwrap(), TROMMEL]).args(&words);
        let out = command.output().unwrap();
        assert!(out.status.success(), "{words:?}: {}", stderr(&out));
        let line = stderr(&out).lines().find(|line| line.contains(" cores")).unwrap_or_default().to_owned();
        assert!(line.contains("1 of ") && line.ends_with(": 1 thread"), "{words:?}: {}", stderr(&out));
    }
}

/// A group of the kernel's with a quota of one and a half cores.
struct Group {
    folder: PathBuf,
}

impl Group {
    /// `None`: this machine lets nobody make one.
    fn of_a_core_and_a_half() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let group = fs::read_to_string("/proc/self/cgroup").ok()?;
        let is_cpu = |options: &str| options.split(',').any(|option| option == "cpu");
        let mount = mounts.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let is_it = kind.starts_with("cgroup2 ") || kind.starts_with("cgroup ") && is_cpu(kind.split(' ').nth(2)?);
            is_it.then(|| place.split(' ').nth(4))?
        })?;
        let own = group.lines().find_map(|line| {
            let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
            (is_cpu(controllers) || controllers.is_empty()).then_some(group.trim_start_matches('/'))
        })?;
        let folder = Path::new(mount).join(own).join(format!("trommel-test-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        let made = Self { folder };
        let write = |name: &str, text: &str| fs::write(made.folder.join(name), text).is_ok();
        let is_set = if made.folder.join("cpu.max").exists() {
            write("cpu.max", "150000 100000")
        } else {
            write("cpu.cfs_period_us", "100000") && write("cpu.cfs_quota_us", "150000")
        };
        is_set.then_some(made)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _others_hold_it = fs::remove_dir(&self.folder);
    }
}

#[test]
fn a_control_groups_quota_is_honoured() {
    let Some(group) = Group::of_a_core_and_a_half() else {
        common::skipped("control groups cannot be made here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let shard = shard(folder.path());
    let mut command = Command::new("sh");
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", group.folder.display());
    command.args(["-c", &enter, TROMMEL]);
    let out = pruned(command, &shard, &folder.path().join("limited"));
    let found = cores(&out);
    for (name, value) in [("quota_millicores", 1500), ("usable", 1), ("threads", 1)] {
        assert_eq!(found[name], value, "{name} of {found}");
    }
    assert!(stderr(&out).contains("a quota of 1.5 in the control group)"), "{}", stderr(&out));
}

/// libgomp prints what it has read as it was loaded.
#[test]
fn libtorchs_idle_threads_sleep_unless_the_user_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let shard = shard(folder.path());
    let told = |name: &str, set: &[(&str, &str)]| {
        let mut command = Command::new(TROMMEL);
        command.env("OMP_DISPLAY_ENV", "verbose").envs(set.iter().copied());
        let out = pruned(command, &shard, &folder.path().join(name));
        let spins =
            stderr(&out).lines().find_map(|line| Some(line.trim().strip_prefix("GOMP_SPINCOUNT = ")?.to_owned()));
        (spins.expect("libtorch brings libgomp"), cores(&out)["waiting"].clone(), stderr(&out))
    };
    let (spins, waiting, _) = told("asleep", &[]);
    assert_eq!((spins.as_str(), waiting), ("'0'", Value::Null));
    let (spins, waiting, said) = told("counted", &[("GOMP_SPINCOUNT", "77")]);
    assert_eq!((spins.as_str(), waiting), ("'77'", serde_json::json!(["GOMP_SPINCOUNT=77"])));
    assert!(said.contains("; idle threads of libtorch wait as GOMP_SPINCOUNT=77 says\n"), "{said}");
    let (spins, ..) = told("active", &[("OMP_WAIT_POLICY", "active")]);
    assert_eq!(spins, "'30000000000'");
}

/// How libtorch's threads wait is each process's affair: what a launcher starts finds the user's environment, and its share of the cores.
#[test]
fn launched_processes_share_the_cores_and_inherit_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let shard = shard(folder.path());
    let mut command = Command::new(TROMMEL);
    command.args(["launch", "--local", "2", "--"]);
    let found = cores(&pruned(command, &shard, &folder.path().join("shared")));
    let usable = found["usable"].as_u64().unwrap();
    assert_eq!(found["own"], (usable / 2).max(1), "{found}");
    assert_eq!((&found["threads"], &found["waiting"]), (&found["own"], &Value::Null), "{found}");
}
