//! The Python package beside webdataset, torch's DataLoader, open_clip's training loop, pyarrow and polars,
//! where a Python with all of them is named by `TROMMEL_PEERS` (`peers/python_module.py`).
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::LazyLock;

use common::members::append;
use common::run;
use trommel_ledger::manifest::PartKind;
use trommel_ledger::read::Ledger;

/// A Python with the peers, and the package for it.
struct Installed {
    python: String,
    folder: PathBuf,
}

static INSTALLED: LazyLock<Option<Installed>> = LazyLock::new(|| {
    let python = std::env::var("TROMMEL_PEERS").ok()?;
    let installed = Installed { python, folder: common::shared_folder("installed") };
    installed.put_together();
    Some(installed)
});

/// The package's files in the sources.
const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/trommel");

impl Installed {
    fn there() -> Option<&'static Self> {
        if INSTALLED.is_none() {
            common::skipped(
                "set TROMMEL_PEERS to a Python with pip, maturin, webdataset, torch, open_clip, pyarrow and polars",
            );
        }
        INSTALLED.as_ref()
    }

    /// What pip would install, with the library that Cargo has built for this test: pip has all of it built once more, see
    /// [`pip_installs_it`].
    fn put_together(&self) {
        let package = self.folder.join("trommel");
        std::fs::create_dir(&package).unwrap();
        for entry in std::fs::read_dir(PACKAGE).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                std::fs::copy(entry.path(), package.join(entry.file_name())).unwrap();
            }
        }
        let library = std::env::current_exe().unwrap().with_file_name("lib_trommel.so");
        std::fs::copy(library, package.join("_trommel.abi3.so")).unwrap();

        // What the package says of itself, and its command.
        let mut maturin = Command::new(&self.python);
        let about =
            ["-m", "maturin", "pep517", "write-dist-info", "--interpreter", &self.python, "--metadata-directory"];
        let out = maturin.args(about).arg(&self.folder).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let info = self.folder.join(concat!("trommel-", env!("CARGO_PKG_VERSION"), ".dist-info"));
        let scripts = std::fs::read_to_string(info.join("entry_points.txt")).unwrap();
        let entry = scripts.lines().find_map(|line| line.strip_prefix("trommel=")).expect("a command");
        let (module, function) = entry.split_once(':').unwrap();
        std::fs::create_dir(self.folder.join("bin")).unwrap();
        let script =
            format!("#!{}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n", self.python);
        std::fs::write(self.program(), script).unwrap();
        std::fs::set_permissions(self.program(), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What a part of the peers' script prints.
    fn ask(&self, words: &[&str]) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/python_module.py");
        let out = self.python().arg(script).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{words:?}: {said}");
        String::from_utf8(out.stdout).unwrap()
    }

    fn python(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.env("PYTHONPATH", &self.folder).env("OMP_NUM_THREADS", "1").env_remove("LD_LIBRARY_PATH");
        command
    }

    fn program(&self) -> PathBuf {
        self.folder.join("bin/trommel")
    }
}

/// Shards, a run that keeps some of their samples, and a split of it in all formats.
struct Pruned {
    folder: PathBuf,
}

static PRUNED: LazyLock<Pruned> = LazyLock::new(|| {
    let pruned = Pruned { folder: common::shared_folder("pruned") };
    run(0, &["synth", &pruned.path("data"), "--shards", "7", "--samples", "24", "--seed", "5"]);
    let run_folder = pruned.path("run");
    run(0, &["prune", &pruned.shards(), "--rule", "random:60%", "--run", &run_folder]);
    let splits = pruned.path("splits");
    let formats = ["--format", "parquet", "--format", "npy", "--format", "txt"];
    run(0, &[&["select", &run_folder, "-o", &splits, "--rule", "some=random:60"][..], &formats].concat());
    pruned
});

impl Pruned {
    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn shards(&self) -> String {
        self.path("data/shards")
    }

    fn split(&self) -> String {
        self.path("splits/some.parquet")
    }
}

#[test]
fn peer_samples_are_webdatasets() {
    let Some(installed) = Installed::there() else { return };
    let shards = PRUNED.shards();
    assert_eq!(installed.ask(&["plain", &shards]).trim(), (7 * 24).to_string());
    installed.ask(&["torch_free", &shards]);
    installed.ask(&["epochs", &shards]);
    installed.ask(&["pipeline", &shards, &PRUNED.split()]);
    if let Some(data) = std::env::var_os("TROMMEL_TEST_DATA") {
        let coco = PathBuf::from(data).join("shards/coco").display().to_string();
        assert_eq!(installed.ask(&["plain", &coco]).trim(), "100");
    }
}

#[test]
fn peer_split_samples_are_those_that_it_keeps() {
    let Some(installed) = Installed::there() else { return };
    installed.ask(&["split", &PRUNED.shards(), &PRUNED.split(), &PRUNED.path("run")]);
}

#[test]
fn peer_ranks_and_workers_have_each_sample_once() {
    let Some(installed) = Installed::there() else { return };
    installed.ask(&["ranks", &PRUNED.shards(), &PRUNED.split()]);
}

#[test]
fn peer_open_clip_trains_on_two_workers() {
    let Some(installed) = Installed::there() else { return };
    installed.ask(&["open_clip", &PRUNED.shards(), &PRUNED.split()]);
}

#[test]
fn peer_errors_name_the_place_and_losses_are_told() {
    let Some(installed) = Installed::there() else { return };
    let scratch = tempfile::tempdir().unwrap();
    installed.ask(&["errors", &PRUNED.shards(), &PRUNED.split(), scratch.path().to_str().unwrap()]);
}

#[test]
fn peer_a_run_of_folders_names_no_shards() {
    let Some(installed) = Installed::there() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (folders, ledger) = (PRUNED.path("data/benchmarks/photo"), scratch.path().join("run").display().to_string());
    run(0, &["prune", &folders, "--rule", "random:50%", "--run", &ledger]);
    installed.ask(&["other_runs", &ledger]);
}

/// What a run has lost is not found again by who reads what it keeps, nor are names of a list that no sample has.
#[test]
fn peer_what_was_lost_before_is_told() {
    let Some(installed) = Installed::there() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    std::fs::create_dir(path("shards")).unwrap();
    let file = |name: &str| PathBuf::from(path("shards")).join(name);
    for shard in 0..4 {
        for ending in [".tar", "_stats.json"] {
            let name = format!("{shard:05}{ending}");
            std::fs::copy(PathBuf::from(PRUNED.shards()).join(&name), file(&name)).unwrap();
        }
    }
    // One is a page, one is gone, and of one no sample has a picture.
    std::fs::write(file("00002.tar"), "<!DOCTYPE html><title>403</title>").unwrap();
    std::fs::remove_file(file("00003.tar")).unwrap();
    let mut bare = tar::Builder::new(std::fs::File::create(file("00004.tar")).unwrap());
    for at in 0..5 {
        append(&mut bare, format!("{at}.txt"), &b"text"[..]);
    }
    bare.finish().unwrap();
    let (run_folder, splits) = (path("run"), path("splits"));
    let all = ["--rule", "random:100%", "--run", &run_folder, "--max-rejects", "100"];
    run(0, &[&["prune", &path("shards")][..], &all].concat());
    let formats = ["--format", "parquet", "--format", "npy", "--format", "keys"];
    run(0, &[&["select", &run_folder, "-o", &splits, "--rule", "all=random:100%"][..], &formats].concat());
    installed.ask(&["lost_before", &path("shards"), &run_folder, &splits]);
}

#[test]
fn peer_ctrl_c_ends_a_wait_for_bytes() {
    let Some(installed) = Installed::there() else { return };
    let scratch = tempfile::tempdir().unwrap();
    installed.ask(&["interrupted", &PRUNED.shards(), scratch.path().to_str().unwrap()]);
}

#[test]
fn peer_a_disk_that_is_gone_is_waited_for_once() {
    let Some(installed) = Installed::there() else { return };
    let scratch = tempfile::tempdir().unwrap();
    installed.ask(&["disk_that_is_gone", &PRUNED.shards(), scratch.path().to_str().unwrap()]);
}

#[test]
fn peer_ledger_lists_what_is_committed() {
    let Some(installed) = Installed::there() else { return };
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(PRUNED.path("run")).arg(copy.path().join("run")).status().unwrap();
    assert!(copied.success());
    let root = copy.path().join("run");
    let listed = |ledger: &Ledger| -> Vec<String> {
        let parts = ledger.shards().iter();
        parts.map(|(&at, (incarnation, _))| PartKind::Ledger.path(at, *incarnation).display().to_string()).collect()
    };
    let json = |files: &[String]| format!("{files:?}");
    let files = listed(&Ledger::open(&root).unwrap());
    assert_eq!(files.len(), 7);
    // What an incarnation that was killed has left, and what somebody put there.
    std::fs::copy(root.join(&files[0]), root.join("ledger/0.99.parquet")).unwrap();
    std::fs::write(root.join("ledger/notes.parquet"), "x").unwrap();
    let root_text = root.to_str().unwrap();
    assert_eq!(installed.ask(&["ledger", root_text, &json(&files)]), format!("{}\n", 7 * 24));

    // A run that is going on: what its manifest has by now, and that there is more to come.
    let manifests: Vec<PathBuf> =
        std::fs::read_dir(root.join("manifest")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [manifest] = manifests.as_slice() else { panic!("{manifests:?}") };
    let text = std::fs::read_to_string(manifest).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    std::fs::write(manifest, format!("{}\n{}", lines[..4].join("\n"), &lines[4][..20])).unwrap();
    let files = listed(&Ledger::open(&root).unwrap());
    assert_eq!(files.len(), 4);
    let said = installed.ask(&["ledger", root_text, &json(&files)]);
    assert_eq!(said, format!("{} {root_text}: 3 of 7 shards are not in the ledger (yet)\n", 4 * 24));

    // A part that is gone is not left out.
    std::fs::remove_file(root.join(&files[2])).unwrap();
    let call = format!("import trommel; trommel.ledger({root_text:?})");
    let out = installed.python().args(["-c", &call]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("OSError") && said.contains(&files[2]), "{said}");
}

#[test]
fn peer_the_command_is_this_program() {
    let Some(installed) = Installed::there() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let script = installed.program();
    installed.ask(&["command", script.to_str().unwrap(), &PRUNED.shards(), scratch.path().to_str().unwrap()]);

    // The same words, output and status as the program's.
    let (first, run_folder) = (PRUNED.path("first.parquet"), PRUNED.path("run"));
    let both = |args: &[&str]| -> (Output, Output) {
        let theirs = installed.python().arg(&script).args(args).output().unwrap();
        (common::trommel().args(args).output().unwrap(), theirs)
    };
    for args in [
        &["select", &run_folder, "--rule", "random:9", "-o", &first, "--json"][..],
        &["select", &run_folder, "--rule", "nonsense", "-o", &first],
        &["why", &run_folder, "no such key"],
        &["verify", &first, &run_folder],
        &["no-such-command"],
    ] {
        let (ours, theirs) = both(args);
        assert_eq!(ours.status.code(), theirs.status.code(), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&ours.stdout), String::from_utf8_lossy(&theirs.stdout), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&ours.stderr), String::from_utf8_lossy(&theirs.stderr), "{args:?}");
    }
}

/// What an editor is told is what the module has: mypy compares the stubs with the library, and checks a program that uses both.
#[test]
fn peer_types_are_those_of_the_module() {
    let Some(installed) = Installed::there() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let mypy = |args: &[&str]| {
        let mut mypy = installed.python();
        let out = mypy.args(args).current_dir(scratch.path()).env("MYPY_CACHE_DIR", scratch.path().join("cache"));
        let out = out.env("MYPYPATH", &installed.folder).output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let (good, said) = mypy(&["-m", "mypy.stubtest", "trommel", "--concise"]);
    assert!(good, "{said}");
    let uses = "import trommel\n\nfor sample in trommel.samples(['a.tar'], 'split.parquet'):\n    key: str = sample['__key__']\n\
                files: list[str] = trommel.ledger('RUN')\n";
    for (text, is_right) in [(uses.to_owned(), true), (uses.replace("list[str]", "list[int]"), false)] {
        // A name for each: mypy takes a file of the same second and size for the one it knows.
        let file = format!("uses_{is_right}.py");
        std::fs::write(scratch.path().join(&file), text).unwrap();
        let (good, said) = mypy(&["-m", "mypy", "--strict", &file]);
        assert_eq!(good, is_right, "{said}");
    }
}

/// Builds all of it once more: `cargo xtask wheel`.
#[test]
#[ignore = "several minutes"]
fn pip_installs_it() {
    let Ok(python) = std::env::var("TROMMEL_PEERS") else {
        panic!("set TROMMEL_PEERS to a Python with pip and maturin")
    };
    let folder = tempfile::tempdir().unwrap();
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let out = Command::new(&python)
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"])
        .args(["--config-settings", &format!("build-args=--profile {profile}"), "--target"])
        .arg(folder.path())
        .arg(env!("CARGO_MANIFEST_DIR"))
        // Without an environment of its own, pip looks for maturin there.
        .env("PATH", common::beside_first(&python))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let names = |folder: PathBuf| -> BTreeSet<String> {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "__pycache__").collect()
    };
    let mut due = names(PACKAGE.into());
    due.insert("_trommel.abi3.so".into());
    assert_eq!(names(folder.path().join("trommel")), due);
    let installed = Installed { python, folder: folder.path().to_path_buf() };
    let scratch = tempfile::tempdir().unwrap();
    installed.ask(&[
        "command",
        installed.program().to_str().unwrap(),
        &PRUNED.shards(),
        scratch.path().to_str().unwrap(),
    ]);
}
