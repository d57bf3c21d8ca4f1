//! What is told of a shard at its end, counted by hand.

use std::path::Path;
use std::sync::{Arc, Mutex};

use trommel_core::notices::Notices;
use trommel_core::sample::{Reason, ShardOutcome};

use super::world::{Row, make};
use crate::membership::told::not_in_split;
use crate::membership::{Kept, KeptRow, Membership, Picker};

/// What is found of a shard of which the split keeps samples 1, 4 and 6, where so many came, and reading it found a file passed over.
fn ended(came: &[&str], outcome: &ShardOutcome, is_cut: bool) -> Result<Vec<String>, String> {
    let rows = [(1, "b"), (4, "e"), (6, "g")].map(|(index, key)| KeptRow { index, key: String::from(key) });
    let kept = Kept::Rows(rows.into());
    let mut picker = Picker::new(Path::new("s.parquet"), "0.tar", &kept);
    for (key, index) in came.iter().zip(0..) {
        picker.keeps(index, key, || None).unwrap();
    }
    let mut notices = Notices::default();
    notices.note("nameless_files", "files passed over", "0.tar: README", 1);
    let told = picker.ended(outcome, is_cut, notices).map_err(|error| error.to_string())?;
    Ok(told.lines().collect())
}

#[test]
fn what_the_split_keeps_and_did_not_come_is_lost_or_the_shard_has_changed() {
    let (whole, page) =
        (ShardOutcome::Complete(None), ShardOutcome::Rejected(Reason::new("html_page", "an HTML page")));
    let passed_over = "files passed over: 1 (first: 0.tar: README)";
    let all = ["a", "b", "c", "d", "e", "f", "g"];
    for is_cut in [false, true] {
        assert_eq!(ended(&all, &whole, is_cut).unwrap(), [passed_over]);
    }
    assert_eq!(
        ended(&all[..3], &whole, true).unwrap(),
        [
            "shards cut off before all samples that the split keeps of them: 1, 2 samples lost (first: 0.tar)",
            passed_over
        ]
    );
    let changed = ended(&all[..3], &whole, false).unwrap_err();
    assert!(changed.starts_with("0.tar: it ends before `e`"), "{changed}");
    // Of a shard that cannot be read all that was kept is lost, and nothing else of it counts.
    assert_eq!(
        ended(&[], &page, false).unwrap(),
        ["shards rejected (html_page): 1, 3 samples lost (first: 0.tar: an HTML page)"]
    );
    // It may come yet.
    assert_eq!(ended(&[], &ShardOutcome::Unavailable("gone".into()), false).unwrap(), [passed_over]);
}

/// Who may not see all shards counts a key that comes again, and gives the sample.
#[test]
fn a_key_that_comes_again_is_counted_where_it_is_not_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.keys");
    std::fs::write(&path, "a\nb\nc\n").unwrap();
    let split = Membership::open(&path).unwrap();
    let (met, mut notices) = (Arc::new(Mutex::new(split.met().unwrap())), Notices::default());
    for (shard, keys) in [("0.tar", &["a", "x", "b"][..]), ("1.tar", &["b", "a"])] {
        let kept = split.shard(shard).unwrap().unwrap();
        let mut picker = Picker::new(&path, shard, &kept).noting(Some(Arc::clone(&met)));
        for (key, index) in keys.iter().zip(0..) {
            assert_eq!(picker.keeps(index, key, || None).unwrap(), *key != "x", "{shard} {key}");
        }
        // What was told of the shards before stays the caller's.
        notices.merge(&picker.ended(&ShardOutcome::Complete(None), false, Notices::default()).unwrap());
    }
    let again = notices.get("repeated_keys").unwrap();
    assert_eq!((again.count, again.first.as_str(), again.loss), (2, "1.tar", false));
    assert_eq!(met.lock().unwrap().unmet().unwrap().first, "c");
}

#[test]
fn a_shard_of_which_nothing_is_kept_is_told_from_a_stranger() {
    let folder = tempfile::tempdir().unwrap();
    let rejected = || vec![Row { key: "a".into(), rejected: true, ..Row::default() }].into_iter();
    make(folder.path(), &[], vec![("0.tar".into(), Some(rejected())), ("1.tar".into(), Some(rejected()))]);
    let (run, mut notices) = (Membership::open(folder.path()).unwrap(), Notices::default());
    for shard in ["1.tar", "0.tar", "other.tar"] {
        run.note_unread(shard, &mut notices).unwrap();
    }
    let of = |code: &str| notices.get(code).map(|notice| (notice.count, notice.first.clone()));
    assert_eq!((of("not_in_split"), of("not_of_split")), (Some((2, "1.tar".into())), Some((1, "other.tar".into()))));
    let mut together = Notices::default();
    not_in_split(&mut together, "1.tar", 2);
    assert_eq!(together.get("not_in_split"), notices.get("not_in_split"));
}
