//! Run folders of an older program (`tests/old_runs/make.sh` says of which, and how they were made) go on with this one: decisions,
//! losses and epochs are those of a run that this program did alone.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::logged_losses;
use tempfile::TempDir;
use trommel_core::sample::SampleId;
use trommel_ledger::read::{Ledger, LedgerRow};
use trommel_shard::plan::Plan;

const SHARDS: &str = "shards/{00000..00005}.tar";
const JUDGING: &str = "--benchmark val=radii/val --rule drop-over-radius --embedder model.json --embedder-weights weights.safetensors \
                       --threads 1";
const TRAINING: &str = "--rule random:80% --model model.json --pretrained weights.safetensors --batch 16 --precision f32 --lr 1e-3 \
                        --warmup 2 --window 32 --threads 1 --save-every 2 --keep-checkpoints 1 --steps 32";

/// The old folders, unpacked.
struct Old(TempDir);

impl Old {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let packed = zstd::Decoder::new(&include_bytes!("old_runs/runs.tar.zst")[..]).unwrap();
        tar::Archive::new(packed).unpack(folder.path()).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join("old").join(name)
    }

    /// Runs the program inside, which is where the old one ran; gives what it said.
    fn run(&self, words: &str) -> String {
        let out = common::trommel().args(words.split_whitespace()).current_dir(self.path("")).output().unwrap();
        let said = common::stderr(&out);
        assert_eq!(out.status.code(), Some(0), "trommel {words}\n{said}");
        said
    }
}

/// Takes over what a similarity is there, if it is the same but for a feature's last bits.
fn adopt(here: &mut Option<f64>, there: Option<f64>) {
    if here.zip(there).is_some_and(|(here, there)| (here - there).abs() < 1e-5) {
        *here = there;
    }
}

/// The same rows and items, to the bit where this program judged the shards. Those of `before` it has not: they may come from a machine whose
/// processor has other instructions, and their features' last bits with them.
fn equal(old: &Path, new: &Path, before: &BTreeSet<u64>) {
    Ledger::open(old).unwrap().verify().unwrap();
    let rows = |run: &Path| {
        let mut rows: Vec<_> = Ledger::open(run).unwrap().rows().unwrap().map(|row| row.unwrap()).collect();
        rows.sort_by_key(|row| row.fate.info.id);
        rows
    };
    let (mut rows, expected) = (rows(old), rows(new));
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter_mut().zip(&expected).filter(|(row, _)| before.contains(&row.fate.info.id.ordinal))
    {
        for (score, expected) in row.fate.scores.iter_mut().zip(&expected.fate.scores) {
            adopt(&mut score.max_similarity, expected.max_similarity);
            adopt(&mut score.margin, expected.margin);
        }
    }
    let text = |rows: &[LedgerRow]| rows.iter().map(|row| format!("{row:?}\n")).collect::<String>();
    assert_eq!(text(&rows), text(&expected));
    let (mut items, expected) =
        (Ledger::open(old).unwrap().items().unwrap(), Ledger::open(new).unwrap().items().unwrap());
    for (item, expected) in items.iter_mut().zip(&expected) {
        let of_old = |sample: Option<SampleId>| sample.is_some_and(|sample| before.contains(&sample.ordinal));
        if of_old(item.sample) {
            adopt(&mut item.max_similarity, expected.max_similarity);
        }
        if of_old(item.kept_sample) {
            adopt(&mut item.kept_max, expected.kept_max);
        }
    }
    assert_eq!(items, expected);
}

/// Whether a new run's products are others than the old program's: oneDNN's, where they are exact.
fn has_other_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    true
}

/// The shards that a run has judged.
fn judged(run: &Path) -> BTreeSet<u64> {
    Ledger::open(run).unwrap().shards().keys().copied().collect()
}

#[test]
fn a_prune_that_was_killed_goes_on() {
    let old = Old::new();
    let before = judged(&old.path("prune"));
    assert!((1..6).contains(&before.len()), "{before:?}");
    let said = old.run(&format!("prune {SHARDS} --run prune {JUDGING}"));
    // Decoded as it was begun, not as a new run is.
    assert!(
        said.contains("runs that go on with the decoder they were begun with") && said.contains("zune-jpeg"),
        "{said}"
    );
    // Nor is it multiplied so, nor a new run beside that benchmark; each says why it is slow, and what mends it.
    let has_others = has_other_products();
    assert_eq!(said.contains("runs that go on with the products they were begun with"), has_others, "{said}");
    let said = old.run(&format!("prune {SHARDS} --run whole {JUDGING}"));
    let says_why = said.contains("embed the benchmark and its references again") && said.contains("benchmark val");
    assert_eq!(says_why, has_others, "{said}");
    equal(&old.path("prune"), &old.path("whole"), &before);
}

/// The learning rate's course, the order and the moments are those of a run from its first step.
fn trains_on(name: &str, launch: &str) {
    let old = Old::new();
    let before = logged_losses(&old.path(name)).len();
    assert!((2..32).contains(&before), "{before} steps");
    let said = old.run(&format!("{launch} train {SHARDS} --run {name} {TRAINING}"));
    assert!(said.contains("continuing at step ") && said.contains("zune-jpeg"), "{said}");
    old.run(&format!("{launch} train {SHARDS} --run whole {TRAINING}"));
    // No rule of this run looks at a feature.
    equal(&old.path(name), &old.path("whole"), &BTreeSet::new());
    let (resumed, whole) = (logged_losses(&old.path(name)), logged_losses(&old.path("whole")));
    assert_eq!(whole.len(), 32);
    for (step, loss) in &resumed {
        // The folder may have come from a machine with other kernels.
        let there = whole[usize::try_from(*step).unwrap()].1;
        assert!((loss - there).abs() < 1e-4 * there, "step {step}: {loss} for {there}");
    }
    assert_eq!(resumed.last().map(|(step, _)| *step), Some(31));
    let epochs =
        |name: &str| (1..5).filter(|n| old.path(name).join(format!("checkpoints/epoch_{n}.pt")).exists()).count();
    assert_eq!((epochs(name), epochs("whole")), (4, 4));
}

#[test]
fn a_training_run_that_was_killed_goes_on() {
    trains_on("train", "");
}

#[test]
fn a_training_run_of_two_processes_that_was_killed_goes_on() {
    trains_on("two", "launch --local 2 --");
}

/// A split of an epoch, of which the old program judged the shards of `before`, is what a batch run over its shards makes.
fn equals_batch(old: &Old, split: &str, before: &BTreeSet<u64>) {
    let plan: Plan = Ledger::open(&old.path(split)).unwrap().plan().unwrap();
    let shards: Vec<&str> = plan.shards.iter().map(|shard| shard.url.as_str()).collect();
    let batch = format!("batch{}", shards.len());
    old.run(&format!("prune {} --run {batch} {JUDGING}", shards.join(" ")));
    equal(&old.path(split), &old.path(&batch), before);
}

#[test]
fn a_watch_goes_on_and_its_old_epochs_are_read() {
    let old = Old::new();
    let before = judged(&old.path("watch/epoch.3/main"));
    equals_batch(&old, "watch/epoch.3/main", &before);
    for name in ["00003.tar", "00003_stats.json"] {
        fs::copy(old.path("shards").join(name), old.path("arriving").join(name)).unwrap();
    }
    let said = old.run(&format!("watch arriving --run watch --once --settle 0s --keep-epochs 3 {JUDGING}"));
    assert!(said.contains("epoch 4") && said.contains("zune-jpeg"), "{said}");
    let current = fs::read_link(old.path("watch/current")).unwrap();
    assert_eq!(current, Path::new("epoch.4"));
    // Three epochs stay: the new one and the two before it.
    let mut kept: Vec<_> = fs::read_dir(old.path("watch")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    kept.retain(|name| name.to_string_lossy().starts_with("epoch."));
    kept.sort();
    assert_eq!(kept, ["epoch.2", "epoch.3", "epoch.4"]);
    equals_batch(&old, "watch/epoch.4/main", &before);
    let told = fs::read_to_string(old.path("watch/changes.jsonl")).unwrap();
    let epochs: Vec<_> = told.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect();
    let numbers: Vec<_> = epochs.iter().map(|epoch| epoch["epoch"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}
