//! The journal by itself: folding, torn and damaged lines, newer programs, who may open it; and that opening reads no vectors.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::naive::check;
use super::reopened::{no_orphans, root, state};
use super::script::Trial;
use super::simulated::Simulated;
use crate::IncrementalError;
use crate::embeddings::{Embeddings, Visitor};
use crate::engine::{Engine, IncrementalConfig};
use crate::journal::path_of;
use trommel_ledger::checked;
use trommel_ledger::storage::Storage;

fn disk() -> (Simulated, Arc<dyn Storage>) {
    let disk = Simulated::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    (disk, storage)
}

/// A folder with some epochs in it.
fn trial(seed: u64, epochs: usize, storage: &Arc<dyn Storage>) -> Trial {
    let mut trial = Trial::open(seed, 1, &root(), storage.clone());
    for epoch in 0..epochs {
        let changes = if epoch == 0 { trial.first() } else { trial.changes() };
        trial.engine.apply(&changes).unwrap();
        trial.inputs = trial.inputs.after(&changes).unwrap();
    }
    trial
}

fn journal(disk: &Simulated, number: u64) -> (PathBuf, Vec<u8>) {
    let path = path_of(&root(), number);
    let bytes = disk.files()[&path].clone();
    (path, bytes)
}

/// Vectors that nobody may ask for.
struct Sealed;

impl Embeddings for Sealed {
    fn visit(&self, _: u64, _: u64, _: &mut Visitor<'_>) -> Result<(), IncrementalError> {
        panic!("vectors are read");
    }

    fn find(&self, _: u64, _: u64, _: &BTreeSet<String>) -> Result<Vec<u32>, IncrementalError> {
        panic!("keys are looked for");
    }
}

#[test]
fn opening_reads_no_vectors() {
    for seed in 0..20 {
        let (_, storage) = disk();
        let mut trial = trial(seed, 8, &storage);
        trial.close();
        let engine = Engine::open(IncrementalConfig::default(), Arc::new(Sealed), &root(), storage).unwrap();
        check(&engine.views().latest(), &trial.inputs, &trial.pool, "sealed");
    }
}

#[test]
fn a_new_folder_is_at_epoch_0() {
    let (_, storage) = disk();
    let mut trial = Trial::open(1, 1, &root(), storage.clone());
    for _ in 0..2 {
        assert_eq!(trial.engine.views().latest().epoch(), 0);
        trial.reopen(&root(), storage.clone()).unwrap();
    }
    no_orphans(&root(), &*storage, "new");
}

#[test]
fn one_engine_at_a_time() {
    let (_, storage) = disk();
    let trial = Trial::open(1, 1, &root(), storage.clone());
    let second = Engine::open(IncrementalConfig::default(), trial.pool.stored.clone(), &root(), storage.clone());
    let error = second.err().unwrap().to_string();
    assert!(error.contains("open already") || error.contains("has this folder open"), "{error}");
    drop(trial);
    Engine::open(IncrementalConfig::default(), Arc::new(Sealed), &root(), storage).unwrap();
}

#[test]
fn a_long_journal_is_folded() {
    let (disk, storage) = disk();
    let mut trial = trial(11, 1, &storage);
    let (mut folds, mut longest) = (0, 0);
    for epoch in 2..30u64 {
        let changes = [trial.changes(), vec![trial.long_line(300_000)]].concat();
        trial.engine.apply(&changes).unwrap();
        trial.inputs = trial.inputs.after(&changes).unwrap();
        let (_, number) = state(&root(), &*storage);
        longest = longest.max(journal(&disk, number).1.len());
        assert!(number == folds || number == folds + 1);
        folds = number;
        no_orphans(&root(), &*storage, "folded");
        if epoch % 4 == 0 {
            trial.reopen(&root(), storage.clone()).unwrap();
            assert_eq!(trial.engine.views().latest().epoch(), epoch);
            check(&trial.engine.views().latest(), &trial.inputs, &trial.pool, "folded");
        }
    }
    // A whole state is some 310,000 bytes; it is folded at the fifth or so.
    assert!((4..8).contains(&folds), "{folds}");
    assert!((1 << 20..2_000_000).contains(&longest), "{longest}");
}

#[test]
fn a_journal_that_was_not_finished_is_passed_over() {
    let (disk, storage) = disk();
    let mut trial = trial(12, 6, &storage);
    trial.close();
    let (_, bytes) = journal(&disk, 0);
    disk.put(&path_of(&root(), 1), &bytes[..40]);
    disk.put(&root().join("journal.2.jsonl.tmp"), &bytes[..50]);
    disk.put(&root().join("parts/scores.00000000.0.9.9.parquet.tmp"), b"half");
    disk.put(&root().join("parts/scores.00000000.0.9.8.parquet"), b"whole, and nobody's");
    trial.reopen(&root(), storage.clone()).unwrap();
    check(&trial.engine.views().latest(), &trial.inputs, &trial.pool, "passed over");
    no_orphans(&root(), &*storage, "passed over");
}

/// Cut anywhere in its last line, the journal is at the epoch before; its parts are not, so they are put back.
#[test]
fn a_torn_last_line_is_cut() {
    let (disk, storage) = disk();
    let mut trial = trial(13, 5, &storage);
    let before = (disk.files(), trial.inputs.clone());
    let changes = trial.changes();
    trial.engine.apply(&changes).unwrap();
    trial.close();
    let (path, bytes) = journal(&disk, 0);
    let good = before.0[&path].len();
    assert!(bytes.len() > good + 10);
    for cut in [good + 1, good + 9, (good + bytes.len()) / 2, bytes.len() - 1] {
        before.0.iter().for_each(|(path, bytes)| disk.put(path, bytes));
        disk.put(&path, &bytes[..cut]);
        trial.reopen(&root(), storage.clone()).unwrap();
        assert_eq!(trial.engine.views().latest().epoch(), 5);
        check(&trial.engine.views().latest(), &before.1, &trial.pool, "cut");
        assert_eq!(journal(&disk, 0).1.len(), good);
        no_orphans(&root(), &*storage, "cut");
    }
}

#[test]
fn a_damaged_line_is_named() {
    let (disk, storage) = disk();
    let mut trial = trial(14, 5, &storage);
    trial.close();
    let (path, bytes) = journal(&disk, 0);
    let starts: Vec<usize> = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    for line in 0..4 {
        let mut bytes = bytes.clone();
        bytes[starts[line] - 20] ^= 1;
        disk.put(&path, &bytes);
        let files = disk.files();
        let error = trial.reopen(&root(), storage.clone()).unwrap_err().to_string();
        assert!(error.contains("journal.0.jsonl") && error.contains(&format!("line {}", line + 1)), "{error}");
        assert_eq!(disk.files(), files, "nothing is removed");
    }
    // A line that was lost altogether.
    disk.put(&path, &[&bytes[..=starts[1]], &bytes[starts[2] + 1..]].concat());
    let error = trial.reopen(&root(), storage.clone()).unwrap_err().to_string();
    assert!(error.contains("journal.0.jsonl") && error.contains("line 3 does not follow"), "{error}");
    // The only whole state.
    disk.put(&path, &bytes[..starts[0]]);
    let error = trial.reopen(&root(), storage.clone()).unwrap_err().to_string();
    assert!(error.contains("journal.0.jsonl") && error.contains("line 1"), "{error}");
}

#[test]
fn a_newer_schema_is_refused() {
    let (disk, storage) = disk();
    let mut trial = trial(15, 3, &storage);
    trial.close();
    let (path, bytes) = journal(&disk, 0);
    let newer = checked::encode(&json!({ "schema": 2, "epoch": 4, "news": [] })).unwrap();
    disk.put(&path, &[bytes, newer].concat());
    let files = disk.files();
    let error = trial.reopen(&root(), storage).unwrap_err().to_string();
    assert_eq!(error, "/disk/room/journal.0.jsonl: schema version 2; this program knows 1");
    assert_eq!(disk.files(), files, "nothing is changed");
}

#[test]
fn older_programs_find_the_note_that_they_ask_a_line_for() {
    let (disk, storage) = disk();
    trial(18, 3, &storage).close();
    let (_, bytes) = journal(&disk, 0);
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let notes = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap().get("note").cloned());
    assert_eq!(notes.collect::<Vec<_>>(), vec![Some(json!(null)); 4]);
}

#[test]
fn a_missing_or_damaged_part_is_named() {
    let (disk, storage) = disk();
    let mut trial = trial(16, 4, &storage);
    trial.close();
    let (state, _) = state(&root(), &*storage);
    for part in state.parts() {
        let path = root().join("parts").join(&part.file);
        let bytes = disk.files()[&path].clone();
        disk.put(&path, &bytes[1..]);
        let error = trial.reopen(&root(), storage.clone()).unwrap_err().to_string();
        assert!(error.contains(&part.file), "{error}");
        storage.remove(&path).unwrap();
        let error = trial.reopen(&root(), storage.clone()).unwrap_err().to_string();
        assert!(error.contains(&part.file), "{error}");
        let mut turned = bytes.clone();
        turned[bytes.len() / 2] ^= 4;
        disk.put(&path, &turned);
        // Scores are not read by opening; who reads them is told.
        if !part.file.starts_with("scores") {
            let error = trial.reopen(&root(), storage.clone()).unwrap_err().to_string();
            assert!(error.contains(&part.file) && error.contains("crc32c"), "{error}");
        }
        disk.put(&path, &bytes);
    }
    trial.reopen(&root(), storage).unwrap();
    check(&trial.engine.views().latest(), &trial.inputs, &trial.pool, "whole again");
}

/// A smaller budget than the state needs is said, and nothing is lost.
#[test]
fn opening_keeps_to_the_budget() {
    let (_, storage) = disk();
    let mut trial = trial(17, 6, &storage);
    trial.close();
    let small = IncrementalConfig { budget_bytes: 600, ..IncrementalConfig::default() };
    let refused = Engine::open(small, trial.pool.stored.clone(), &root(), storage.clone()).err().unwrap();
    assert!(matches!(refused, IncrementalError::Budget { limit: 600, .. }), "{refused}");
    trial.reopen(&root(), storage).unwrap();
    check(&trial.engine.views().latest(), &trial.inputs, &trial.pool, "with more");
}
