//! Rows that come a few at a time, and what is held of them.

use super::super::part::{GROUP_BYTES, PartShard, ShardRows, write};
use super::simulated::Simulated;
use super::*;
use trommel_core::records::Records;

const ROWS: u32 = 70;

/// A shard of 28 MiB of urls, each row with its record.
fn long(records: &Records) -> Vec<Arc<Fate>> {
    let row = |index| {
        let mut fate = fate(0, index);
        let url = format!("{index:07}").repeat(60_000);
        let mut info =
            SampleInfo { id: fate.info.id, key: fate.info.key.clone(), url: Some(url), ..Default::default() };
        info.record = records.acquire(0, 1024 + info.text_bytes(), 0).unwrap();
        fate.info = Arc::new(info);
        Arc::new(fate)
    };
    (0..ROWS).map(row).collect()
}

#[test]
fn rows_that_come_in_pieces_give_the_same_parts_and_are_let_go_group_by_group() {
    let records = Records::new(1, u64::MAX, Stop::new());
    let mut files = Vec::new();
    for piece in [0, 1, 7, ROWS as usize] {
        let storage: Arc<dyn Storage> = Arc::new(Simulated::new());
        let folder = open(&root(), &storage).unwrap();
        let incarnation = folder.incarnation();
        let fates = long(&records);
        let sums = if piece == 0 {
            let shard = PartShard { ordinal: 0, name: "00000.tar", fates: &fates, items: &[] };
            let sums = write(storage.as_ref(), &root(), incarnation, &shard, &parts()).unwrap();
            drop(fates);
            sums
        } else {
            let (mut most, mut fates) = (0, fates.into_iter().peekable());
            let mut rows = ShardRows::begin(storage.as_ref(), &root(), incarnation, 0, "00000.tar", &parts()).unwrap();
            let all = records.held_bytes();
            let mut given = 0;
            while fates.peek().is_some() {
                let some: Vec<_> = fates.by_ref().take(piece).collect();
                given += some.iter().map(|fate| fate.info.record.bytes()).sum::<u64>();
                rows.add(some, &parts()).unwrap();
                most = most.max(records.held_bytes() - (all - given));
            }
            assert!(most < GROUP_BYTES && most > 0, "{most} bytes of rows are held");
            let (sums, counts) = rows.finish(storage.as_ref(), &root(), &[], &parts()).unwrap();
            assert_eq!(counts.total(), u64::from(ROWS));
            sums
        };
        assert_eq!(records.held_bytes(), 0);
        let read = |kind: PartKind| storage.read(&root().join(kind.path(0, incarnation))).unwrap();
        files.push((sums, PartKind::ALL.map(read)));
    }
    assert!(files.iter().all(|file| *file == files[0]), "equal rows, other bytes");
}

#[test]
fn a_shard_that_is_forgotten_leaves_no_file() {
    let records = Records::new(1, u64::MAX, Stop::new());
    let storage: Arc<dyn Storage> = Arc::new(Simulated::new());
    let folder = open(&root(), &storage).unwrap();
    let mut rows = ShardRows::begin(storage.as_ref(), &root(), folder.incarnation(), 0, "00000.tar", &parts()).unwrap();
    rows.add(long(&records), &parts()).unwrap();
    rows.forget(storage.as_ref()).unwrap();
    assert_eq!(records.held_bytes(), 0);
    for kind in PartKind::ALL {
        assert!(storage.list(&root().join(kind.folder())).unwrap().is_empty());
    }
}

#[test]
fn a_row_out_of_turn_is_an_error() {
    let storage: Arc<dyn Storage> = Arc::new(Simulated::new());
    let folder = open(&root(), &storage).unwrap();
    let mut rows = ShardRows::begin(storage.as_ref(), &root(), folder.incarnation(), 0, "00000.tar", &parts()).unwrap();
    let error = rows.add([Arc::new(fate(0, 1))], &parts()).unwrap_err();
    assert!(error.to_string().contains("the fate of sample 0:1 stands where 0 is due"), "{error}");
}
