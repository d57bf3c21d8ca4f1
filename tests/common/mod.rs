//! A fresh folder for each test, the built program, and a small generated world shared by the tests of one file.
#![allow(dead_code, unused_imports, clippy::unwrap_used, missing_docs)]

pub mod chromium;
pub mod cluster;
pub mod members;
pub mod memory;
pub mod processes;
pub mod random;
pub mod skipped;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use trommel_ledger::manifest::PartKind;
use trommel_ledger::read::Ledger;

pub use skipped::{peer, skipped, test_data};

/// The small model that all of these tests use, with random weights.
pub const MODEL: &str = "trommel-tiny-32";

/// How the small model is trained.
pub const RECIPE: [&str; 14] = [
    "--model",
    MODEL,
    "--batch",
    "16",
    "--precision",
    "f32",
    "--lr",
    "1e-3",
    "--warmup",
    "4",
    "--window",
    "64",
    "--save-every",
    "5",
];

/// The built program.
pub fn trommel() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trommel"));
    command.env_remove("TROMMEL_TEST_DATA");
    command
}

/// `PATH`, with the folder of this file before all others.
pub fn beside_first(file: &str) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folder = Path::new(file).parent().unwrap().to_path_buf();
    std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&path))).unwrap()
}

/// Runs the program and insists on an exit status.
pub fn run(status: i32, args: &[&str]) -> Output {
    let out = trommel().args(args).output().unwrap();
    assert_eq!(
        out.status.code(),
        Some(status),
        "trommel {}\n{}{}",
        args.join(" "),
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    out
}

/// What the program said on stderr.
pub fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// A folder for what the tests of one process share. What a static holds is never dropped, so the next process of this binary removes it.
pub fn shared_folder(name: &str) -> PathBuf {
    static OWN: OnceLock<PathBuf> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        let of_all = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
        let own = of_all.join(std::process::id().to_string());
        for left in std::fs::read_dir(&of_all).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if left == own || !Path::new("/proc").join(left.file_name().unwrap()).exists() {
                let _another_may_remove_it = std::fs::remove_dir_all(left);
            }
        }
        own
    });
    let folder = own.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Shards, a reference set and two benchmarks with radii, made by the program itself.
pub struct World {
    folder: PathBuf,
}

impl World {
    /// The world of this test binary: six shards of 48 samples.
    pub fn shared() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| {
            let world = Self { folder: shared_folder("world") };
            let data = world.path("data");
            run(0, &["synth", &data, "--shards", "6", "--samples", "48", "--seed", "3"]);
            for (input, out) in
                [("reference", "reference"), ("benchmarks/photo", "photo"), ("benchmarks/sketch", "sketch")]
            {
                let input = world.path(&format!("data/{input}"));
                let out = world.path(&format!("embedded/{out}"));
                run(0, &["embed", &input, "-o", &out, "--model", MODEL, "--random-init", "1"]);
            }
            let benchmark = |name: &str| format!("{name}={}", world.path(&format!("embedded/{name}")));
            run(
                0,
                &[
                    "radii",
                    "--reference",
                    &world.path("embedded/reference"),
                    "--benchmark",
                    &benchmark("photo"),
                    "--benchmark",
                    &benchmark("sketch"),
                    "-o",
                    &world.path("radii"),
                ],
            );
            world
        })
    }

    /// A path inside the world.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The shards, as one argument.
    pub fn shards(&self) -> String {
        self.path("data/shards/{00000..00005}.tar")
    }

    /// Arguments of a pruning run over the whole world into `run_folder`.
    pub fn prune(&self, run_folder: &Path) -> Vec<String> {
        let mut args = vec!["prune".to_owned(), self.shards(), "--run".into(), run_folder.display().to_string()];
        args.extend(self.judging());
        args
    }

    /// Arguments of a pruning run that takes seconds: every shard `copies` times under another name, wide passes on one thread.
    pub fn long_prune(&self, run_folder: &Path, copies: usize) -> Vec<String> {
        let mut args = vec!["prune".to_owned()];
        for copy in 0..copies {
            args.extend(
                (0..6).map(|shard| {
                    format!("copy{copy:02}-{shard}={}", self.path(&format!("data/shards/{shard:05}.tar")))
                }),
            );
        }
        args.extend(["--run".into(), run_folder.display().to_string()]);
        args.extend(["--threads", "1", "--embed-batch", "256"].map(String::from));
        args.extend(self.judging());
        args
    }

    /// Benchmarks, rule and embedder.
    pub fn judging(&self) -> Vec<String> {
        let mut args = Vec::new();
        for name in ["photo", "sketch"] {
            args.extend(["--benchmark".into(), format!("{name}={}", self.path(&format!("radii/{name}")))]);
        }
        args.extend(["--rule", "drop-over-radius", "--embedder", MODEL, "--random-init", "1"].map(String::from));
        args
    }

    /// Arguments of a training run.
    pub fn train(&self, run_folder: &Path, steps: u32) -> Vec<String> {
        let mut args = vec!["train".to_owned(), self.shards(), "--run".into(), run_folder.display().to_string()];
        args.extend(self.judging());
        args.extend(RECIPE.map(String::from));
        args.extend(["--steps".into(), steps.to_string()]);
        args
    }
}

/// Borrowed arguments.
pub fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// All rows of a ledger as text, sorted by shard and index: equal ledgers give equal text.
pub fn ledger_text(run_folder: &Path) -> String {
    let ledger = Ledger::open(run_folder).unwrap();
    let mut rows = BTreeMap::new();
    for row in ledger.rows().unwrap() {
        let row = row.unwrap();
        let text = format!("{row:?}\n");
        assert!(rows.insert(row.fate.info.id, text).is_none(), "a sample stands twice in the ledger");
    }
    rows.into_values().collect()
}

/// Every part's file is in a manifest, and no other file is there: nothing was left half done.
pub fn parts_are_listed(run_folder: &Path) {
    let ledger = Ledger::open(run_folder).unwrap();
    ledger.verify().unwrap();
    for kind in PartKind::ALL {
        let entries = std::fs::read_dir(run_folder.join(kind.folder())).unwrap();
        let files: BTreeSet<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        let of_kind = ledger.shards().iter().filter(|(_, (_, line))| line.part(kind).is_some());
        let listed: BTreeSet<PathBuf> =
            of_kind.map(|(ordinal, (incarnation, _))| run_folder.join(kind.path(*ordinal, *incarnation))).collect();
        assert_eq!(files, listed, "{kind:?}: files and manifests differ");
    }
}

/// All items of a ledger, merged over its incarnations, as text.
pub fn items_text(run_folder: &Path) -> String {
    let items = Ledger::open(run_folder).unwrap().items().unwrap();
    items.iter().map(|item| format!("{item:?}\n")).collect()
}

/// All embeddings that a run kept, as text, by shard and index. f16 is shown with all its digits.
pub fn embeddings_text(run_folder: &Path) -> String {
    let ledger = Ledger::open(run_folder).unwrap();
    let mut rows = BTreeMap::new();
    for &ordinal in ledger.shards().keys() {
        for row in ledger.embeddings(ordinal).unwrap() {
            let before = rows.insert((ordinal, row.index), format!("{ordinal} {row:?}\n"));
            assert!(before.is_none(), "a sample has two embeddings");
        }
    }
    rows.into_values().collect()
}

/// Losses by step from a run's metrics; a step that was done again must have the same loss to the bit.
pub fn losses(run_folder: &Path) -> BTreeMap<u64, u64> {
    let mut losses = BTreeMap::new();
    for (step, loss) in logged_losses(run_folder) {
        let before = losses.insert(step, loss.to_bits());
        assert!(before.is_none_or(|before| before == loss.to_bits()), "step {step} has two losses");
    }
    losses
}

/// Every line of a run's metrics that has a loss, as written: a step that was done again stands there again.
pub fn logged_losses(run_folder: &Path) -> Vec<(u64, f64)> {
    let mut losses = Vec::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir(run_folder.join("logs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "jsonl"))
        .collect();
    files.sort();
    for file in files {
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            // A killed run may leave half a line behind.
            let Ok(row) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let (Some(step), Some(loss)) = (row["step"].as_u64(), row["train/loss"].as_f64()) else { continue };
            losses.push((step, loss));
        }
    }
    losses
}
