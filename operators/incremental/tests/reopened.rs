//! Random sequences in a folder, closed and opened again at random: always the naive model, and no file too many.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::naive::check;
use super::script::Trial;
use super::simulated::Simulated;
use crate::journal::path_of;
use crate::record::{Delta, EpochLine, SCHEMA_VERSION};
use trommel_ledger::checked;
use trommel_ledger::storage::{Disk, Storage};

pub(super) fn root() -> PathBuf {
    PathBuf::from("/disk/room")
}

/// What the newest journal says, and its number.
pub(super) fn state(root: &Path, storage: &dyn Storage) -> (Delta, u64) {
    let names = storage.list(root).unwrap();
    let numbers = names.iter().filter_map(|name| name.strip_prefix("journal.")?.strip_suffix(".jsonl")?.parse().ok());
    let number = numbers.max().unwrap();
    let path = path_of(root, number);
    let mut all = Delta::default();
    let lines = checked::parse::<EpochLine>(&path, &storage.read(&path).unwrap(), SCHEMA_VERSION).unwrap();
    lines.lines.into_iter().for_each(|line| all.then(line.delta));
    (all, number)
}

/// Nothing lies in the folder but the lock, one journal, and the parts that it names.
pub(super) fn no_orphans(root: &Path, storage: &dyn Storage, context: &str) {
    let (state, number) = state(root, storage);
    assert_eq!(storage.list(root).unwrap(), [format!("journal.{number}.jsonl"), "lock".into()], "{context}");
    let named: BTreeSet<String> = state.parts().map(|part| part.file.clone()).collect();
    let there: BTreeSet<String> = storage.list(&root.join("parts")).unwrap().into_iter().collect();
    assert_eq!(there, named, "{context}");
}

/// Gives how often the engine was opened again.
fn run(seed: u64, epochs: usize, root: &Path, storage: &Arc<dyn Storage>) -> usize {
    let mut trial = Trial::open(seed, 1 + seed as usize % 4, root, storage.clone());
    let mut reopened = 0;
    for epoch in 1..=epochs {
        let context = format!("seed {seed}, epoch {epoch}");
        if trial.dice.below(8) == 0 {
            let changes = trial.impossible();
            trial.engine.apply(&changes).unwrap_err();
        }
        let changes = if epoch == 1 { trial.first() } else { trial.changes() };
        let context = format!("{context}\n{changes:?}");
        trial.engine.apply(&changes).unwrap_or_else(|error| panic!("{context}: {error}"));
        trial.inputs = trial.inputs.after(&changes).unwrap();
        check(&trial.engine.views().latest(), &trial.inputs, &trial.pool, &context);
        no_orphans(root, &**storage, &context);
        if trial.dice.below(3) == 0 {
            let read = trial.pool.stored.vectors_read();
            trial.reopen(root, storage.clone()).unwrap_or_else(|error| panic!("opening: {context}: {error}"));
            assert_eq!(trial.pool.stored.vectors_read(), read, "{context}");
            let view = trial.engine.views().latest();
            assert_eq!(view.epoch(), epoch as u64, "{context}");
            check(&view, &trial.inputs, &trial.pool, &format!("opened again: {context}"));
            no_orphans(root, &**storage, &context);
            reopened += 1;
        }
    }
    reopened
}

#[test]
fn oracle_reopened() {
    let runs = (40_000..40_400).map(|seed| run(seed, 12, &root(), &(Arc::new(Simulated::new()) as Arc<dyn Storage>)));
    let reopened: usize = runs.sum();
    assert!(reopened > 1000, "{reopened}");
}

#[test]
fn oracle_reopened_on_disk() {
    for seed in 50_000..50_010 {
        let root = tempfile::tempdir().unwrap();
        assert!(run(seed, 20, &root.path().join("room"), &(Arc::new(Disk) as Arc<dyn Storage>)) > 0);
    }
}

/// A view that is held keeps its files through later epochs; they go with it.
#[test]
fn held_views_keep_their_files() {
    let storage: Arc<dyn Storage> = Arc::new(Simulated::new());
    let mut trial = Trial::open(7, 1, &root(), storage.clone());
    let mut held = Vec::new();
    for epoch in 0..12 {
        let changes = if epoch == 0 { trial.first() } else { trial.changes() };
        trial.engine.apply(&changes).unwrap();
        trial.inputs = trial.inputs.after(&changes).unwrap();
        held.push((trial.engine.views().latest(), trial.inputs.clone()));
    }
    for (view, inputs) in &held {
        check(view, inputs, &trial.pool, "held");
    }
    drop(held);
    no_orphans(&root(), &*storage, "let go of");
}
