//! Keys alone, beside a set of all of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::membership::head;
use super::world::Dice;
use crate::SelectError;
use crate::keys_alone::{KeyList, KeysAlone};
use crate::membership::{Membership, Picker};
use crate::split::{Kept, Sink};

fn key(dice: &mut Dice) -> String {
    let long = "long".repeat(200);
    let part = ["", "a", "a/b", "é", "0", "00", "~", long.as_str()][dice.below(8)];
    format!("{part}{}", dice.below(400))
}

/// What is kept, through a sink that sorts a few keys at a time.
fn written(path: &Path, keys: &[String], run_bytes: u64) -> Result<(), SelectError> {
    written_beside(path, keys, &[], run_bytes)
}

/// The same, where others are not kept.
fn written_beside(path: &Path, keys: &[String], others: &[&str], run_bytes: u64) -> Result<(), SelectError> {
    let mut sink = Box::new(KeysAlone::begin(path, 0).sorting(run_bytes));
    others.iter().try_for_each(|key| sink.leave_out("img_emb/img_emb_1.npy", key))?;
    for (key, index) in keys.iter().zip(0..) {
        sink.add(Kept { shard: "img_emb/img_emb_0.npy", index, key, uid: None })?;
    }
    sink.finish(&head(keys.len() as u64))?.commit()
}

fn open(path: &Path) -> Membership {
    Membership::open(path).unwrap()
}

/// Whom it keeps of some shards, each a list of keys.
fn picked(path: &Path, shards: &[&[&str]]) -> Result<Vec<bool>, String> {
    let split = open(path);
    let met = Arc::new(Mutex::new(split.met().unwrap()));
    let mut all = Vec::new();
    for (shard, keys) in shards.iter().enumerate() {
        let (name, kept) = (format!("{shard}.tar"), split.shard("any.tar").unwrap().unwrap());
        let mut picker = Picker::new(path, &name, &kept).after(Some(Arc::clone(&met)));
        for (key, index) in keys.iter().zip(0..) {
            all.push(picker.keeps(index, key, || None).map_err(|error| error.to_string())?);
        }
        picker.finish().unwrap();
    }
    Ok(all)
}

#[test]
fn a_list_says_of_every_key_what_a_set_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.keys");
    let mut dice = Dice(8);
    for round in 0..60 {
        let set: BTreeSet<String> = (0..[0, 1, 2, 3, 40, 600][round % 6]).map(|_| key(&mut dice)).collect();
        let mut shuffled: Vec<String> = set.iter().cloned().collect();
        shuffled.sort_by_cached_key(|_| dice.next());
        written(&path, &shuffled, [1, 100, 1 << 20][dice.below(3)]).unwrap();
        let lines: Vec<String> = set.iter().cloned().collect();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), lines, "round {round}");
        // As other programs begin and end lines, and the last one without an end.
        let (mark, end) = (["", "\u{feff}"][dice.below(2)], ["\n", "\r\n"][dice.below(2)]);
        std::fs::write(&path, format!("{mark}{}", lines.join(end))).unwrap();
        let list = open(&path);
        let list = list.keys_alone().unwrap();
        assert_eq!(list.count().unwrap(), set.len() as u64);
        for key in set.iter().cloned().chain((0..300).map(|_| key(&mut dice))) {
            assert_eq!(list.place(&key).unwrap().is_some(), set.contains(&key), "round {round}: {key}");
        }
        let mut places: Vec<u64> = set.iter().filter_map(|key| list.place(key).unwrap()).collect();
        places.dedup();
        assert_eq!(places.len(), set.len());
    }
}

#[test]
fn a_key_that_stands_for_two_samples_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.keys");
    let list = |text: &str| std::fs::write(&path, text).unwrap();
    list("a\nb\nc\n");
    assert_eq!(picked(&path, &[&["c", "x", "a"], &["b", "y"]]).unwrap(), [true, false, true, true, false]);
    // Only of those that are kept anybody must know which one it is.
    assert_eq!(picked(&path, &[&["x", "x"], &["x"]]).unwrap(), [false, false, false]);
    for shards in [&[&["a", "c", "a"][..]][..], &[&["a"], &["b"], &["a"]]] {
        let said = picked(&path, shards).unwrap_err();
        assert!(said.contains(".tar/a: another sample of this key came before"), "{said}");
    }
    // In the list, which must be sorted too: of somebody else's all of it is read first, of one that `select` has written what a search meets.
    for text in ["a\na\n", "a\r\nb\r\nb\r\nc\r\n", "a\nb\nb", "b\nb\nc\nd\n", "b\na\nc\n"] {
        list(text);
        let said = Membership::open(&path).err().unwrap().to_string();
        assert!(said.contains("keys alone stand once each in the order of their bytes"), "{text:?}: {said}");
        let twice = if text.starts_with("a\na") { "a" } else { "b" };
        assert!(text == "b\na\nc\n" || KeyList::open(&path).unwrap().place(twice).is_err(), "{text:?}");
    }
    list("a\nb\nc\n");
    // Among those that are kept, whether they were sorted together or apart.
    for run_bytes in [1, 1 << 20] {
        let keys: Vec<String> = ["b", "a", "c", "b"].map(String::from).into();
        let said = written(&path, &keys, run_bytes).unwrap_err().to_string();
        assert!(said.contains("two kept samples have the key `b`: keys alone do not tell them apart"), "{said}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\nc\n", "what stood there stays");
        // And with those that are not, in whatever shard they stand.
        let keys: Vec<String> = ["b", "a", "d"].map(String::from).into();
        let said = written_beside(&path, &keys, &["c", "d", "aa", "d"], run_bytes).unwrap_err().to_string();
        assert!(said.contains("of the samples with the key `d` one is kept and another is not"), "{said}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\nc\n", "what stood there stays");
        let good = folder.path().join("good.keys");
        written_beside(&good, &keys, &["c", "d\r", "d\nb", "aa", "", "c"], run_bytes).unwrap();
        assert_eq!(std::fs::read_to_string(&good).unwrap(), "a\nb\nd\n");
    }
    let no_line: PathBuf = folder.path().join("n.keys");
    assert!(written(&no_line, &["a\nb".into()], 1).unwrap_err().to_string().contains("is no line"));
}
