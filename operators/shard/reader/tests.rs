//! A shard judged, replayed, broken off.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::sample::Status::{Dropped, Kept, Rejected};
use crate::shard::testing::{JUDGE, Judged, Memory, Row, read, reader, remark, rows, sent, tar_of};

fn three() -> Vec<u8> {
    tar_of(&[
        ("a.jpg", b"A"),
        ("a.json", br#"{"uid":"u1","url":"http://x","sha256":"ff","caption":"from json"}"#),
        ("a.txt", b"from txt"),
        ("b.json", br#"{"caption":"only json"}"#),
        ("b.PNG", b"BB"),
        ("c.txt", b"no picture"),
        ("d.webp", b"DDDD"),
        ("d.txt", b" \n"),
    ])
}

#[test]
fn a_shard_becomes_samples_rejects_and_one_end() {
    let (got, end) = read(three(), &ReaderConfig::default());
    let row = |key: &str, offset, size, image, caption: Option<&str>| Row {
        key: key.into(),
        offset,
        size,
        image,
        caption: caption.map(Into::into),
    };
    let image = |extension: &str, data: &[u8]| Ok((extension.to_string(), data.to_vec()));
    assert_eq!(
        got,
        [
            row("a", 0, 74, image("jpg", b"A"), Some("from txt")),
            row("b", 3072, 25, image("png", b"BB"), Some("only json")),
            row("c", 5120, 10, Err("no_image".into()), None),
            row("d", 6144, 6, image("webp", b"DDDD"), None),
        ]
    );
    assert_eq!((end.count, end.bytes), (4, three().len() as u64));
    assert_eq!(remark(&end), None);
}

#[test]
fn credit_is_asked_for_picture_and_views() {
    let reader = reader(Memory { shards: vec![three()], ..Memory::default() }, ReaderConfig::default(), None);
    let (items, asked) = sent(&reader, &Request { train_from: 1, ..JUDGE });
    assert_eq!(asked, [1 + 1000 + 4096, 2 + 23 + 1500 + 4096, 4 + 1500 + 4096]);
    let work: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Admitted::Sample(sample) => Some(sample.work),
            _ => None,
        })
        .collect();
    assert_eq!(work, [Work::JudgeOnly, Work::Judge, Work::Judge]);
    let Admitted::Sample(first) = &items[0] else { panic!() };
    assert_eq!((first.info.uid.as_deref(), first.info.sha256.as_deref()), (Some("u1"), Some("ff")));
}

fn replay(statuses: &[Status], train_from: u32) -> (Vec<String>, ShardEnd, usize) {
    let decisions = Arc::new(Judged(statuses.to_vec()));
    let store = Memory { shards: vec![three()], ..Memory::default() };
    let reader = reader(store, ReaderConfig::default(), Some(decisions));
    let (items, asked) = sent(&reader, &Request { pass: 3, ordinal: 0, train_from, replay: true });
    let mut end = None;
    let text = |item| match item {
        Admitted::Sample(sample) => {
            assert_eq!((sample.work, sample.pass), (Work::Replay, 3));
            Some(format!("{}{}", sample.info.id.index, sample.info.key))
        }
        Admitted::Replayed(Replayed::Hole { pass: 3, id }) => Some(format!("{}-", id.index)),
        Admitted::Replayed(Replayed::End { pass: 3, end: last }) => {
            end = Some(last);
            None
        }
        other => panic!("{other:?}"),
    };
    let seen = items.into_iter().filter_map(text).collect();
    (seen, end.unwrap(), asked.len())
}

#[test]
fn replay_takes_credit_for_kept_samples_only() {
    let (seen, end, asked) = replay(&[Kept, Dropped, Rejected, Kept], 0);
    assert_eq!((seen.join(" ").as_str(), asked, end.count), ("0a 1- 2- 3d", 2, 4));
    assert_eq!(end.outcome, ShardOutcome::Complete(None));
    let (seen, end, asked) = replay(&[Kept, Dropped, Rejected, Kept], 2);
    assert_eq!((seen.join(" ").as_str(), asked, end.count), ("2- 3d", 1, 4));
    let (seen, end, asked) = replay(&[Dropped, Dropped, Rejected, Dropped], 0);
    assert_eq!((seen.len(), asked, end.count), (4, 0, 4));
    let (seen, end, _) = replay(&[Kept; 4], u32::MAX);
    assert_eq!((seen.len(), end.count), (0, 4));
}

#[test]
fn a_shard_that_contradicts_the_ledger_is_unavailable() {
    for statuses in [&[Kept, Kept, Kept, Kept][..], &[Kept, Kept, Rejected], &[Kept, Kept, Rejected, Kept, Kept]] {
        let (_, end, _) = replay(statuses, 0);
        assert!(matches!(end.outcome, ShardOutcome::Unavailable(_)), "{statuses:?}: {end:?}");
    }
}

#[test]
fn what_the_store_fails_to_give_is_unavailable_and_rejects_nothing() {
    for at in [0, 1, 100, 512, 700, 3000, 6144, 6500, 9000] {
        let store = Memory { shards: vec![three()], fails_at: Some(at), ..Memory::default() };
        let (items, _) = sent(&reader(store, ReaderConfig::default(), None), &JUDGE);
        let (got, end) = rows(items);
        assert_eq!(end.outcome, ShardOutcome::Unavailable("0: the disk is on fire".into()), "{at}");
        assert!(got.iter().all(|row| row.image.is_ok() || row.key == "c"), "{at}: {got:?}");
    }
    let announced = Some(three().len() as u64 + 1);
    let store = Memory { shards: vec![three()], announced, ..Memory::default() };
    let (_, end) = rows(sent(&reader(store, ReaderConfig::default(), None), &JUDGE).0);
    let ShardOutcome::Unavailable(why) = end.outcome else { panic!() };
    assert!(why.contains("ended after"), "{why}");
}

#[test]
fn a_file_that_changed_or_vanished_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    std::fs::write(&path, three()).unwrap();
    let url = path.display().to_string();
    let plan = |bytes| {
        let shard = ShardRef { ordinal: 0, name: "a.tar".into(), url: url.clone(), bytes };
        ShardReader::new(
            Arc::new(crate::shard::plan::Plan { shards: vec![shard] }),
            ReaderConfig::default(),
            ViewBytes::default(),
            None,
        )
    };
    let outcome = |bytes| rows(sent(&plan(bytes), &JUDGE).0).1.outcome;
    assert_eq!(outcome(Some(three().len() as u64)), ShardOutcome::Complete(None));
    let ShardOutcome::Unavailable(why) = outcome(Some(7)) else { panic!() };
    assert!(why.contains("and had 7 when it was planned"), "{why}");
    std::fs::remove_file(&path).unwrap();
    let ShardOutcome::Unavailable(why) = outcome(None) else { panic!() };
    assert!(why.contains("a.tar: No such file"), "{why}");
    let (_, end) = rows(sent(&plan(None), &Request { ordinal: 7, ..JUDGE }).0);
    assert_eq!(end.outcome, ShardOutcome::Unavailable("the plan has no shard 7".into()));
}

#[test]
fn indices_do_not_depend_on_what_is_wanted() {
    let mut names: Vec<String> = (0..300).map(|i| format!("a.x{i}")).collect();
    names.extend(["a.x299", "a.x298", "a.x1", "a.x2", "a.x1", "b.jpg"].map(String::from));
    let members: Vec<_> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let (judged, _) = read(tar_of(&members), &ReaderConfig::default());
    let keys: Vec<_> = judged.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["a", "a", "a", "b"]);
    let decisions = Arc::new(Judged(vec![Rejected, Rejected, Rejected, Kept]));
    let store = Memory { shards: vec![tar_of(&members)], ..Memory::default() };
    let reader = reader(store, ReaderConfig::default(), Some(decisions));
    let (items, _) = sent(&reader, &Request { replay: true, ..JUDGE });
    let Some(Admitted::Replayed(Replayed::End { end, .. })) = items.last() else { panic!() };
    assert_eq!((end.count, &end.outcome), (4, &ShardOutcome::Complete(Some("repeated members: 2".into()))));
}
