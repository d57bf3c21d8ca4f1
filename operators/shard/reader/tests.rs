//! A shard judged, replayed, broken off.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::store::faulty::{Fault, Faulty};
use crate::store::{Local, Stores};
use crate::testing::{JUDGE, Judged, Row, append, memory, read, reader, remark, rows, sent, tar_of};
use trommel_core::credit::{Credit, CreditConfig};
use trommel_core::sample::Status::{self, Dropped, Kept, Rejected};
use trommel_core::stop::Stop;

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
fn credit_is_asked_for_picture_caption_and_views() {
    let mut config = ReaderConfig::default();
    config.group.max_text_bytes = 100;
    let reader = reader(memory([three()]), config, None);
    let (items, asked) = sent(&reader, &Request { train_from: 1, ..JUDGE });
    // Whether the caption comes before or behind the picture, its most is asked for.
    assert_eq!(asked, [1 + 100 + 1000 + 4096, 2 + 100 + 1500 + 4096, 4 + 100 + 1500 + 4096]);
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
    let store = memory([three()]);
    let reader = reader(store, ReaderConfig::default(), Some(decisions));
    let (items, asked) = sent(&reader, &Request { pass: 3, ordinal: 0, train_from, replay: true });
    let mut end = None;
    let text = |item| match item {
        Admitted::Sample(sample) => {
            assert_eq!((sample.work, sample.pass), (Work::Replay, 3));
            Some(format!("{}{}", sample.info.id.index, sample.info.key))
        }
        Admitted::Replayed(Replayed::Holes { pass: 3, id, count }) => {
            Some((id.index..id.index + count).map(|index| format!("{index}-")).collect::<Vec<_>>().join(" "))
        }
        Admitted::Replayed(Replayed::End { pass: 3, end: last }) => {
            end = Some(last);
            None
        }
        other => panic!("{other:?}"),
    };
    let seen: Vec<String> = items.into_iter().filter_map(text).collect();
    let seen = seen.join(" ").split_whitespace().map(String::from).collect();
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
fn a_shard_that_contradicts_the_ledger_has_changed() {
    for statuses in [&[Kept, Kept, Kept, Kept][..], &[Kept, Kept, Rejected], &[Kept, Kept, Rejected, Kept, Kept]] {
        let (_, end, _) = replay(statuses, 0);
        assert!(matches!(end.outcome, ShardOutcome::Changed(_)), "{statuses:?}: {end:?}");
    }
}

/// A ledger that knows keys, too.
struct Known(Vec<Status>, [&'static str; 4]);

impl Decisions for Known {
    fn shard(&self, _: u64) -> Result<Option<Arc<Vec<Status>>>, KnownError> {
        Ok(Some(Arc::new(self.0.clone())))
    }

    fn keys(&self, _: u64) -> Result<Option<Vec<u64>>, KnownError> {
        Ok(Some(self.1.iter().map(|key| key_hash(key)).collect()))
    }
}

/// What is sent up to the end, kept samples as their keys, and how it ends.
fn named(statuses: &[Status], keys: [&'static str; 4]) -> (String, ShardOutcome) {
    let store = memory([three()]);
    let reader = reader(store, ReaderConfig::default(), Some(Arc::new(Known(statuses.to_vec(), keys))));
    let (items, _) = sent(&reader, &Request { replay: true, ..JUDGE });
    let (mut text, mut outcome) = (String::new(), None);
    for item in items {
        match item {
            Admitted::Sample(sample) => text += &sample.info.key,
            Admitted::Replayed(Replayed::Holes { count, .. }) => text += &"-".repeat(count as usize),
            Admitted::Replayed(Replayed::Skipped { why, .. }) => {
                assert!(why.starts_with("c: "), "{why}");
                text += "!";
            }
            Admitted::Replayed(Replayed::End { end, .. }) => outcome = Some(end.outcome),
            other @ Admitted::Event(_) => panic!("{other:?}"),
        }
    }
    (text, outcome.unwrap())
}

#[test]
fn a_replay_compares_every_key_and_skips_a_kept_sample_that_is_a_reject_now() {
    let keys = ["a", "b", "c", "d"];
    assert_eq!(named(&[Kept, Dropped, Rejected, Kept], keys), ("a--d".into(), ShardOutcome::Complete(None)));
    assert_eq!(named(&[Kept, Dropped, Kept, Kept], keys), ("a-!d".into(), ShardOutcome::Complete(None)));
    for at in 0..4 {
        let mut others = keys;
        others[at] = "other";
        let (sent, outcome) = named(&[Kept, Dropped, Rejected, Kept], others);
        assert_eq!(sent, "a--d"[..at], "nothing is sent from there on");
        let ShardOutcome::Changed(why) = outcome else { panic!("{outcome:?}") };
        assert!(why.contains(&format!("sample {at} is `{}`", keys[at])), "{why}");
    }
}

/// Sample 3 of [`three`] has no caption.
#[test]
fn a_kept_sample_whose_caption_is_gone_is_skipped_unless_it_never_had_one() {
    struct Captions(Vec<u32>);
    impl Decisions for Captions {
        fn shard(&self, _: u64) -> Result<Option<Arc<Vec<Status>>>, KnownError> {
            Ok(Some(Arc::new(vec![Kept, Dropped, Rejected, Kept])))
        }

        fn captionless(&self, _: u64) -> Result<Option<Vec<u32>>, KnownError> {
            Ok(Some(self.0.clone()))
        }
    }
    for (captionless, skipped) in [(vec![], Some(3)), (vec![0], Some(3)), (vec![3], None)] {
        let decisions = Arc::new(Captions(captionless));
        let reader = reader(memory([three()]), ReaderConfig::default(), Some(decisions));
        let (items, _) = sent(&reader, &Request { replay: true, ..JUDGE });
        let found = items.iter().find_map(|item| match item {
            Admitted::Replayed(Replayed::Skipped { id, why, .. }) => Some((id.index, why.as_str())),
            _ => None,
        });
        assert_eq!(found.map(|(index, _)| index), skipped);
        assert!(found.is_none_or(|(_, why)| why.starts_with("d: no_caption")), "{found:?}");
    }
}

#[test]
fn what_the_store_fails_to_give_is_unavailable_and_rejects_nothing() {
    for at in [0, 1, 100, 512, 700, 3000, 6144, 6500, 9000] {
        let store = Faulty::new(memory([three()]), [Fault::FailsAt(at)]);
        let (items, _) = sent(&reader(store, ReaderConfig::default(), None), &JUDGE);
        let (got, end) = rows(items);
        assert_eq!(end.outcome, ShardOutcome::Unavailable("0: the disk is on fire".into()), "{at}");
        assert!(got.iter().all(|row| row.image.is_ok() || row.key == "c"), "{at}: {got:?}");
    }
    let store = Faulty::new(memory([three()]), [Fault::Announces(1)]);
    let (_, end) = rows(sent(&reader(store, ReaderConfig::default(), None), &JUDGE).0);
    let ShardOutcome::Unavailable(why) = end.outcome else { panic!() };
    assert!(why.contains("ended after"), "{why}");
}

/// A stream that breaks off is none of the samples' business, compressed or not.
#[test]
fn what_breaks_off_is_read_on_with_the_same_samples() {
    let compressed = zstd::encode_all(&three()[..], 1).unwrap();
    for bytes in [three(), compressed] {
        let (wanted, end) = read(bytes.clone(), &ReaderConfig::default());
        let length = bytes.len() as u64;
        for at in (0..length).step_by(usize::try_from(length / 40).unwrap()) {
            let faults = [Fault::FailsOnceAt(at), Fault::EndsOnceAt((at * 7 + 13) % length), Fault::ShortReads(1000)];
            let store = Faulty::new(memory([bytes.clone()]), faults);
            let (got, there) = rows(sent(&reader(store, ReaderConfig::default(), None), &JUDGE).0);
            assert_eq!((&got, &there.outcome, there.bytes), (&wanted, &end.outcome, end.bytes), "{at}");
        }
    }
    let store = Faulty::new(memory([three()]), [Fault::NoOpening]);
    let (got, end) = rows(sent(&reader(store.clone(), ReaderConfig::default(), None), &JUDGE).0);
    assert_eq!((got.len(), end.outcome), (0, ShardOutcome::Unavailable("0: 503 Slow Down".into())));
    store.heal();
    assert_eq!(rows(sent(&reader(store, ReaderConfig::default(), None), &JUDGE).0).1.count, 4);
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
            Stores::default(),
            Arc::new(crate::plan::Plan { shards: vec![shard], ..Default::default() }),
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
    let store = memory([tar_of(&members)]);
    let reader = reader(store, ReaderConfig::default(), Some(decisions));
    let (items, _) = sent(&reader, &Request { replay: true, ..JUDGE });
    let Some(Admitted::Replayed(Replayed::End { end, .. })) = items.last() else { panic!() };
    assert_eq!((end.count, &end.outcome), (4, &ShardOutcome::Complete(Some("repeated members: 2".into()))));
}

/// The end of a shard called `name` that lies in a folder, with statistics beside it that promise `promised` samples.
fn end_of(name: &str, bytes: &[u8], promised: Option<u64>) -> ShardEnd {
    let stats = promised.map(|successes| {
        format!("{{\"count\": 10000, \"successes\": {successes}, \"status_dict\": {{\"success\": 1}}}}")
    });
    end_beside(name, bytes, stats.as_deref())
}

/// The same with statistics of any form.
fn end_beside(name: &str, bytes: &[u8], stats: Option<&str>) -> ShardEnd {
    end_by(name, bytes, stats, None)
}

/// The same, where a split says whom the shard has to give.
fn end_by(name: &str, bytes: &[u8], stats: Option<&str>, split: Option<Arc<dyn Members>>) -> ShardEnd {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    if let Some(stats) = stats {
        std::fs::write(folder.path().join("00007_stats.json"), stats).unwrap();
    }
    let shard = ShardRef { ordinal: 0, name: name.into(), url: path.display().to_string(), bytes: None };
    let plan = Arc::new(crate::plan::Plan { shards: vec![shard], ..Default::default() });
    let reader = ShardReader::new(Local::default(), plan, ReaderConfig::default(), ViewBytes::default(), None);
    rows(sent(&reader.of_split(split), &JUDGE).0).1
}

#[test]
fn a_shard_that_holds_no_tar_is_named_and_counted_as_lost() {
    let nested = zstd::encode_all(&b"<html>"[..], 1).unwrap();
    // As from a cache of Hugging Face's, without `-h`.
    let mut links = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    links.append_link(&mut header, "a.jpg", "../blobs/0").unwrap();
    let cases: &[(&[u8], &str)] = &[
        (b"<!DOCTYPE html>\n<title>403", "html_page"),
        (b"\n  <HTML><body>", "html_page"),
        (&nested, "html_page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "lfs_pointer"),
        (b"PK\x03\x04rest", "zip_archive"),
        (b"PAR1rest", "parquet_file"),
        (b"{\"error\": 1}", "json_document"),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", "xml_document"),
        (b"\xff\xd8\xff\xe0", "picture_file"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "picture_file"),
        (b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "picture_file"),
        (b"II*\0\x08\0\0\0", "picture_file"),
        (b"GIF8 is what a text may begin with", "not_a_tar"),
        (b"", "empty_file"),
        (b"\x1f\x8b\x08broken", "broken_compression"),
        (b"what is this", "not_a_tar"),
        (&tar_of(&[("noextension", b"x")]), "no_samples"),
        (&links.into_inner().unwrap(), "no_samples"),
    ];
    for (bytes, code) in cases {
        for (name, promised, lost) in
            [("00007.tar", Some(9_500), 9_500), ("00007.tar.gz", Some(0), 1), ("00007.tar", None, 1)]
        {
            let end = end_of(name, bytes, promised);
            let ShardOutcome::Rejected(reason) = &end.outcome else { panic!("{code}: {end:?}") };
            assert_eq!((reason.code.as_str(), end.count), (*code, 0));
            let notice = end.notices.get(&format!("shard_{code}")).unwrap();
            assert_eq!((notice.count, notice.lost_samples, notice.loss), (1, lost, true), "{code}");
            assert!(notice.first.starts_with(name), "{notice:?}");
        }
    }
}

#[test]
fn samples_that_the_statistics_promise_and_that_do_not_come_are_lost() {
    let end = end_of("00007.tar", &three(), Some(9));
    assert_eq!(end.outcome, ShardOutcome::Complete(None));
    let notice = end.notices.get("fewer_samples").unwrap();
    assert_eq!((notice.lost_samples, notice.first.as_str()), (5, "00007.tar: 4 of 9"));
    assert!(end_of("00007.tar", &three(), Some(4)).notices.is_empty());
    assert!(end_of("00007.tar", &three(), None).notices.is_empty());
    // More than was promised, and statistics that promise nothing, are said.
    let notice = |stats: &str, code: &str| {
        let end = end_beside("00007.tar", &three(), Some(stats));
        assert!(!end.notices.any_loss() && end.notices.iter().count() == 1, "{:?}", end.notices);
        end.notices.get(code).map(|notice| notice.first.clone())
    };
    assert_eq!(notice("{\"successes\": 3}", "more_samples").as_deref(), Some("00007.tar: 4 of 3"));
    for stats in ["{\"count\": 4}", "{\"successes\": \"4\"}", "{\"successes\": -1}", "{\"succ", ""] {
        assert_eq!(notice(stats, "unreadable_statistics").as_deref(), Some("00007.tar"), "{stats}");
    }
    // Who says whom the shard has to give knows better, unless that is a list which does not know where its samples are.
    let list = List::of;
    let all = Split(&[(0, "a"), (1, "b"), (2, "c"), (3, "d")]);
    let splits: [(Arc<dyn Members>, u64); 3] = [
        (Arc::new(all), 0),
        (Arc::new(list(&["a", "b", "c", "d"], false)), 0),
        (Arc::new(list(&["a", "b", "c", "d"], true)), 5),
    ];
    let with_uids = tar_of(&[
        ("a.json", br#"{"uid":"a"}"#),
        ("a.jpg", b"A"),
        ("b.json", br#"{"uid":"b"}"#),
        ("b.jpg", b"B"),
        ("c.json", br#"{"uid":"c"}"#),
        ("c.jpg", b"C"),
        ("d.json", br#"{"uid":"d"}"#),
        ("d.jpg", b"D"),
    ]);
    for (split, lost) in splits {
        let end = end_by("00007.tar", &with_uids, Some("{\"successes\": 9}"), Some(split));
        assert_eq!((end.count, end.outcome, end.notices.lost_samples()), (4, ShardOutcome::Complete(None), lost));
    }
    // Cut off: what came is kept, the rest is lost.
    let end = end_of("00007.tar", &three()[..4200], Some(4));
    assert_eq!((end.count, end.notices.lost_samples()), (2, 2));
    assert!(end.notices.get("shard_cut_off").is_some_and(|notice| notice.loss));
    // One tar behind the other, as of `cat *.tar`: the first is read, as webdataset does, and nobody knows what the others hold.
    let end = end_of("-", &[three(), three()].concat(), None);
    assert_eq!((end.count, end.notices.lost_files()), (4, 1), "{:?}", end.notices);
    assert!(end.notices.get("tar_behind_end").is_some_and(|notice| notice.loss));
    // A tar without any file is what it is.
    let end = end_of("00007.tar", &[0; 1024], Some(0));
    assert!(matches!(end.outcome, ShardOutcome::Complete(_)) && !end.notices.any_loss());
    assert!(end.notices.get("empty_shards").is_some());
}

#[test]
fn what_macos_puts_into_a_tar_comes_between_no_members() {
    let twin = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ";
    let bytes = tar_of(&[
        ("d/.DS_Store", b"\x00\x00\x00\x01Bud1"),
        ("d/._a.jpg", twin),
        ("d/a.jpg", b"A"),
        ("d/._a.txt", twin),
        ("d/a.txt", b"caption of a"),
        ("._b.jpg", twin),
        ("b.jpg", b"B"),
        ("._b.txt", twin),
        ("b.txt", b"caption of b"),
    ]);
    let (got, end) = read(bytes, &ReaderConfig::default());
    let seen: Vec<_> = got.iter().map(|row| (row.key.as_str(), row.image.is_ok(), row.caption.as_deref())).collect();
    assert_eq!(seen, [("d/a", true, Some("caption of a")), ("b", true, Some("caption of b"))]);
    let notice = end.notices.get("macos_files").unwrap();
    assert_eq!((notice.count, notice.loss, notice.first.as_str()), (5, false, "0.tar: d/.DS_Store"));
}

/// What has no data to read, and what cannot be read: the sample is there without it, and both are counted.
#[test]
fn links_and_json_that_cannot_be_read_are_counted() {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in
        [("a.jpg", &b"A"[..]), ("a.json", b"{\"uid\": \"u\""), ("b.jpg", b"B"), ("b.json", b"[\"no object\"]")]
    {
        append(&mut builder, name, data);
    }
    for (name, kind) in
        [("c.jpg", tar::EntryType::Symlink), ("d.jpg", tar::EntryType::Link), ("e", tar::EntryType::Directory)]
    {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, name, "a.jpg").unwrap();
    }
    for (name, data) in
        [("f.jpg", &b"F"[..]), ("f.json", b"{\"caption\": \"a\", \"n\": NaN}"), ("g.jpg", b"G"), ("g.txt", b"caf\xe9")]
    {
        append(&mut builder, name, data);
    }
    let (got, end) = read(builder.into_inner().unwrap(), &ReaderConfig::default());
    let seen: Vec<_> = got.iter().map(|row| (row.key.as_str(), row.image.is_ok(), row.caption.as_deref())).collect();
    assert_eq!(seen, [("a", true, None), ("b", true, None), ("f", true, Some("a")), ("g", true, Some("caf\u{fffd}"))]);
    let found: Vec<_> = end.notices.iter().map(|(code, of)| (code, of.count, of.first.as_str(), of.loss)).collect();
    let due = [
        ("caption_not_utf8", 1, "0.tar/g", false),
        ("links", 2, "0.tar: c.jpg", false),
        ("unreadable_json", 2, "0.tar/a", false),
    ];
    assert_eq!(found, due);
}

/// Reads shard 0 with real credit and records, as a source's thread would.
fn admitted(shard: Vec<u8>, views: ViewBytes) -> (Vec<Admitted>, Credit) {
    let stop = Stop::new();
    let config = CreditConfig { budget_bytes: 64 << 20, lanes: 1, quantum_bytes: 64 << 20 };
    let credit = Credit::new(config, stop.clone()).with_records(64 << 20);
    let (mut out, collected) = Outlet::collecting(0, credit.clone(), stop);
    let mut reader = reader(memory([shard]), ReaderConfig::default(), None);
    reader.views = views;
    let lease = Lease { pass: 0, ordinal: 0, lane: 0, train_from: 0, replay: false };
    ReadShard::read(&reader, &lease, &mut out).unwrap();
    (collected.items(), credit)
}

#[test]
fn a_sample_keeps_credit_for_what_it_is_and_a_record_for_what_it_leaves() {
    let caption = "y".repeat(900_000);
    let json = format!(r#"{{"url":"{}"}}"#, "x".repeat(50_000));
    let shard = tar_of(&[("a.jpg", &[1; 700]), ("a.txt", caption.as_bytes()), ("b.json", json.as_bytes())]);
    let (items, credit) = admitted(shard, ViewBytes { eval: 10, train: 0, record: 1000, shard: 77 });
    let Admitted::Sample(sample) = &items[0] else { panic!() };
    assert_eq!(sample.permit.bytes(), 700 + 900_000 + 10 + 4096, "the caption came behind the picture");
    let Admitted::Event(Event::Fate(reject)) = &items[1] else { panic!() };
    assert_eq!((sample.info.record.bytes(), reject.info.record.bytes()), (1000 + 1, 1000 + 1 + 50_000));
    let gauge = credit.gauge();
    assert_eq!((gauge.used_bytes, gauge.record_bytes), (sample.permit.bytes(), 2002 + 50_000 + 77));
    drop(items);
    let gauge = credit.gauge();
    assert_eq!((gauge.used_bytes, gauge.record_bytes), (0, 0));
}

#[test]
fn neighbouring_holes_are_one_turn() {
    let names: Vec<String> = (0..200).map(|at| format!("{at:03}.jpg")).collect();
    let members: Vec<_> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let mut statuses = vec![Dropped; 200];
    (statuses[100], statuses[150]) = (Kept, Kept);
    let store = memory([tar_of(&members)]);
    let reader = reader(store, ReaderConfig::default(), Some(Arc::new(Judged(statuses))));
    let (items, asked) = sent(&reader, &Request { replay: true, ..JUDGE });
    let runs = |item: &Admitted| match item {
        Admitted::Replayed(Replayed::Holes { id, count, .. }) => Some((id.index, *count)),
        _ => None,
    };
    let runs: Vec<_> = items.iter().filter_map(runs).collect();
    assert_eq!((runs, asked.len()), (vec![(0, 64), (64, 36), (101, 49), (151, 49)], 2));
}

/// A split's members, by index and key.
struct Split(&'static [(u32, &'static str)]);

impl Members for Split {
    fn shard(&self, _: u64) -> Result<super::Named, KnownError> {
        Ok(super::Named::Rows(self.0.iter().map(|(index, key)| (*index, key_hash(key))).collect()))
    }
}

/// A list of keys, or of uids, of which each stands there twice.
#[derive(Clone)]
struct List {
    names: &'static [&'static str],
    by_uid: bool,
    counts: bool,
    found: Vec<String>,
}

impl List {
    fn of(names: &'static [&'static str], by_uid: bool) -> Self {
        Self { names, by_uid, counts: !by_uid, found: Vec::new() }
    }
}

impl Members for List {
    fn shard(&self, _: u64) -> Result<super::Named, KnownError> {
        Ok(super::Named::Listed(Box::new(self.clone())))
    }
}

impl Listed for List {
    fn by_uid(&self) -> bool {
        self.by_uid
    }

    fn keeps(&mut self, index: u32, key: &str, uid: Option<&str>) -> Result<bool, KnownError> {
        let name = if self.by_uid {
            uid.ok_or_else(|| KnownError::Untold(format!("sample {index} has no uid").into()))?
        } else {
            key
        };
        let keeps = self.names.contains(&name);
        self.found.extend(keeps.then(|| name.to_owned()));
        Ok(keeps)
    }

    fn counts(&self) -> bool {
        self.counts
    }

    fn repeated_uids(&self) -> u64 {
        if self.by_uid { self.found.len() as u64 } else { 0 }
    }

    fn finish(&self) -> Result<(), KnownError> {
        match self.names.iter().find(|name| self.counts && !self.found.iter().any(|found| found == *name)) {
            Some(name) => Err(KnownError::Absent(format!("{name} did not come").into())),
            None => Ok(()),
        }
    }
}

/// What is sent of [`three`] by a split, its end, and for how many samples credit was asked.
fn of_split(members: &'static [(u32, &'static str)], train_from: u32) -> (String, ShardEnd, usize) {
    sent_of(three(), Split(members), train_from)
}

fn sent_of(tar: Vec<u8>, split: impl Members + 'static, train_from: u32) -> (String, ShardEnd, usize) {
    let store = memory([tar]);
    let reader = reader(store, ReaderConfig::default(), None).of_split(Some(Arc::new(split)));
    let (mut items, asked) = sent(&reader, &Request { train_from, ..JUDGE });
    let Some(Admitted::Event(Event::End(end))) = items.pop() else { panic!("the end comes last") };
    let text = |item: &Admitted| match item {
        Admitted::Sample(sample) => format!("{}:{:?}", sample.info.key, sample.work),
        Admitted::Event(Event::Fate(fate)) => format!("{}:{}", fate.info.key, fate.status.as_str()),
        other => panic!("{other:?}"),
    };
    (items.iter().map(text).collect::<Vec<_>>().join(" "), end, asked.len())
}

#[test]
fn whom_a_split_does_not_keep_is_dropped_unread() {
    let (seen, end, asked) = of_split(&[(0, "a"), (3, "d")], 0);
    // The third has no picture: nobody looked.
    assert_eq!(seen, "a:Judge b:dropped c:dropped d:Judge");
    assert_eq!((asked, end.count, end.outcome), (2, 4, ShardOutcome::Complete(None)));
    let (seen, _, asked) = of_split(&[(0, "a"), (2, "c"), (3, "d")], 3);
    assert_eq!((seen.as_str(), asked), ("a:JudgeOnly b:dropped c:rejected d:Judge", 2));
    let (seen, _, asked) = of_split(&[], 0);
    assert_eq!((seen.as_str(), asked), ("a:dropped b:dropped c:dropped d:dropped", 0));
}

/// By its keys a list drops unread too; by uids whatever may be one of them is read, and a reject without one may be.
#[test]
fn whom_a_list_does_not_have_is_dropped() {
    let list = List::of;
    let (seen, end, asked) = sent_of(three(), list(&["a", "d"], false), 1);
    assert_eq!((seen.as_str(), asked), ("a:JudgeOnly b:dropped c:dropped d:Judge", 2));
    assert_eq!((end.count, end.outcome), (4, ShardOutcome::Complete(None)));
    let (_, end, _) = sent_of(three(), list(&["a", "e"], false), 0);
    assert!(matches!(end.outcome, ShardOutcome::Changed(why) if why.contains("e did not come")));

    let of = |uid: &str| format!(r#"{{"uid":"{uid}"}}"#).into_bytes();
    let (one, two, three_bytes) = (of("u1"), of("u2"), of("u3"));
    let tar = tar_of(&[
        ("a.jpg", b"A"),
        ("a.json", &one),
        ("b.jpg", b"B"),
        ("b.json", &two),
        ("c.json", &three_bytes),
        ("d.txt", b"neither picture nor uid"),
    ]);
    let (seen, end, asked) = sent_of(tar.clone(), list(&["u2"], true), 0);
    assert_eq!((seen.as_str(), asked), ("a:dropped b:Judge c:dropped d:rejected", 2));
    let repeated = end.notices.get("repeated_uids").unwrap();
    assert_eq!((end.count, end.outcome, repeated.count), (4, ShardOutcome::Complete(None), 1));
    let (seen, ..) = sent_of(tar, list(&["u1", "u3"], true), 0);
    assert_eq!(seen, "a:Judge b:dropped c:rejected d:rejected");
    let (_, end, _) = sent_of(tar_of(&[("a.jpg", b"A")]), list(&["u1"], true), 0);
    assert!(matches!(end.outcome, ShardOutcome::Changed(why) if why.ends_with("sample 0 has no uid")));
}

/// A page in the place of a shard is another shard than the one whose keys a list has; of a list that is of no shard in particular it keeps nothing
/// from anybody, and is lost as it always is.
#[test]
fn what_is_no_tar_contradicts_only_who_knows_its_samples() {
    let outcome = |counts: bool| {
        let list = List { counts, ..List::of(&["a"], false) };
        sent_of(b"<!DOCTYPE html><html>".to_vec(), list, 0).1.outcome
    };
    assert!(matches!(outcome(true), ShardOutcome::Changed(why) if why.contains("the split keeps samples of it")));
    assert!(matches!(outcome(false), ShardOutcome::Rejected(_)));
}

#[test]
fn a_shard_that_contradicts_a_split_has_changed() {
    for (members, said) in [
        (&[(0, "a"), (1, "x")][..], "its sample 1 is `b`, which is not the one that the split keeps there"),
        (&[(1, "b"), (4, "e")], "it has 4 samples, and the split keeps its sample 4"),
    ] {
        let (_, end, _) = of_split(members, 0);
        let ShardOutcome::Changed(why) = end.outcome else { panic!("{:?}", end.outcome) };
        assert!(why.contains(said), "{why}");
    }
}
