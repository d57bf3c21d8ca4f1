//! Parts in files: the same answers, nothing left behind, damage noticed.

use std::path::Path;
use std::sync::Arc;

use super::oracle::{Met, run};
use crate::parts::PartStore;
use crate::tables::Matches;
use trommel_ledger::storage::Disk;

fn part_store(root: &Path) -> PartStore {
    PartStore::folder(root, 1, Arc::new(Disk)).unwrap()
}

#[test]
fn oracle_with_files() {
    let root = tempfile::tempdir().unwrap();
    (3000..3006).for_each(|seed| run(seed, 1, 8, part_store(&root.path().join(seed.to_string())), &mut Met::default()));
}

#[test]
fn superseded_files_go_and_others_stay() {
    let root = tempfile::tempdir().unwrap();
    let part_store = part_store(root.path());
    let files = || std::fs::read_dir(root.path()).unwrap().count();
    let (a, b) = (
        part_store.put(0, 0, Matches::of(vec![(1, 2, 0.5)])).unwrap(),
        part_store.put(0, 0, Matches::default()).unwrap(),
    );
    assert_eq!(files(), 2);
    a.set_lasting(true);
    drop((a, b));
    assert_eq!(files(), 1);
}

#[test]
fn read_by_point_and_by_sample() {
    let root = tempfile::tempdir().unwrap();
    let rows = vec![(7, 1, 0.5), (3, 2, 0.25), (3, 1, 0.75), (9, 0, 0.125)];
    let table = part_store(root.path()).put(4, 2, Matches::of(rows)).unwrap().load().unwrap();
    assert_eq!(table.by_point().collect::<Vec<_>>(), [(3, 1, 0.75), (3, 2, 0.25), (7, 1, 0.5), (9, 0, 0.125)]);
    assert_eq!(table.of_point(3).collect::<Vec<_>>(), [(1, 0.75), (2, 0.25)]);
    assert_eq!(table.of_sample(1).collect::<Vec<_>>(), [(3, 0.75), (7, 0.5)]);
    assert_eq!((table.of_point(8).count(), table.of_sample(5).count()), (0, 0));
}

#[test]
fn a_damaged_part_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let part = part_store(root.path()).put(0, 0, Matches::of(vec![(1, 2, 0.5)])).unwrap();
    let path = std::fs::read_dir(root.path()).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(part.load().unwrap_err().to_string().contains("crc32c"));
}
