//! Parts in files: the same answers, nothing left behind, damage noticed.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::oracle::{Met, run};
use crate::parts::PartStore;
use crate::tables::{Matches, Table};
use trommel_columnar::parquet::{Column, ColumnType, Field};
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
fn read_by_point() {
    let root = tempfile::tempdir().unwrap();
    let rows = vec![(7, 1, 0.5), (3, 2, 0.25), (3, 1, 0.75), (9, 0, 0.125)];
    let table = part_store(root.path()).put(4, 2, Matches::of(rows)).unwrap().load().unwrap();
    assert_eq!(table.by_point().collect::<Vec<_>>(), [(3, 1, 0.75), (3, 2, 0.25), (7, 1, 0.5), (9, 0, 0.125)]);
    assert_eq!(table.of_point(3).collect::<Vec<_>>(), [(1, 0.75), (2, 0.25)]);
    assert_eq!(table.of_point(7).collect::<Vec<_>>(), [(1, 0.5)]);
    assert_eq!(table.of_point(8).count(), 0);
}

/// Matches as they once were written: with the rows' places by sample.
#[derive(Default)]
struct WithPlaces(Matches);

impl Table for WithPlaces {
    const KIND: &'static str = Matches::KIND;

    fn fields() -> Vec<Field> {
        [Matches::fields(), vec![Field::required("by_sample", ColumnType::U32)]].concat()
    }

    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn columns(&self, rows: Range<usize>) -> Vec<Column> {
        let places = Column::U32(rows.clone().map(|at| Some(at as u32)).collect());
        [self.0.columns(rows), vec![places]].concat()
    }

    fn take(&mut self, group: Vec<Column>) -> bool {
        self.0.take(group)
    }
}

#[test]
fn matches_of_an_older_program_are_read() {
    let (root, rows) = (tempfile::tempdir().unwrap(), vec![(3, 1, 0.75), (3, 2, 0.25), (7, 1, 0.5)]);
    let part_store = part_store(root.path());
    let old = part_store.put(4, 2, WithPlaces(Matches::of(rows.clone()))).unwrap();
    old.set_lasting(true);
    let table = part_store.adopt::<Matches>(&old.record()).unwrap().load().unwrap();
    assert_eq!(table.by_point().collect::<Vec<_>>(), rows);
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
