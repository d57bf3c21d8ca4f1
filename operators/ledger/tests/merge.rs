//! Merging of incarnations: lines and items.

use super::super::items::Peaks;
use super::super::manifest::{Codes, LineStatus, Lines, Merged, PartSum, ShardLine, parse};
use super::*;
use trommel_core::notices::Notices;

fn line(ordinal: u64, crc: &str) -> ShardLine {
    let sum = |kind, crc: &str| PartSum { kind, bytes: 9, crc32c: crc.into() };
    ShardLine {
        schema: 1,
        ordinal,
        name: format!("{ordinal}.tar"),
        status: LineStatus::Committed,
        remark: None,
        rejected: None,
        notices: Default::default(),
        bytes: 1,
        counts: Counts { kept: 1, ..Counts::default() },
        parts: vec![
            sum(PartKind::Ledger, crc),
            sum(PartKind::Items, &format!("{ordinal}{crc}")),
            sum(PartKind::Embeddings, "ee"),
        ],
        decision: "d".into(),
    }
}

fn files(of: &[&[ShardLine]]) -> BTreeMap<u64, Lines> {
    let lines = |l: &&[ShardLine]| Lines { lines: l.to_vec(), ..Lines::default() };
    of.iter().map(lines).enumerate().map(|(n, l)| (n as u64, l)).collect()
}

#[test]
fn a_rejected_shard_is_tried_again_until_somebody_has_read_it() {
    let mut notices = Notices::default();
    notices.loss("shard_html_page", "shards rejected (html_page)", "4.tar", 1, 1_000);
    let rejected = Some(Reason::new("html_page", "an HTML page"));
    let reject = ShardLine { rejected, notices, counts: Counts::default(), ..line(4, "ee") };
    let tried = Merged::of(files(&[std::slice::from_ref(&reject), std::slice::from_ref(&reject)])).unwrap();
    assert_eq!((tried.read().count(), tried.committed[&4].0), (0, 1));
    assert_eq!(tried.notices(&BTreeSet::new()).lost_samples(), 1_000);
    for lines in [[reject.clone(), line(4, "aa")], [line(4, "aa"), reject]] {
        let read = Merged::of(files(&[&lines[..1], &lines[1..]])).unwrap();
        assert_eq!((read.read().collect::<Vec<_>>(), &read.committed[&4].1), (vec![4], &line(4, "aa")));
        assert!(read.notices(&BTreeSet::new()).is_empty());
    }
    // What is not there is not written: lines of before are lines of now.
    let text = String::from_utf8(line(4, "aa").encode().unwrap()).unwrap();
    assert!(!text.contains("notices") && !text.contains("\"rejected\":{") && !text.contains("null"), "{text}");
}

#[test]
fn an_ordinal_counts_once() {
    let merged = Merged::of(files(&[&[line(4, "aa")], &[line(4, "aa"), line(5, "bb")]])).unwrap();
    assert_eq!(merged.committed[&4].0, 0);
    assert_eq!(merged.counts().kept, 2);
    let mut items = line(4, "aa");
    items.parts[1].crc32c = "depends on what came before".into();
    Merged::of(files(&[&[line(4, "aa")], &[items]])).unwrap();
    let refused = Merged::of(files(&[&[line(4, "aa")], &[line(4, "ab")]])).err().unwrap();
    assert!(matches!(refused, LedgerError::Disagree { ordinal: 4, first: 0, second: 1, .. }), "{refused}");
    let changes: [fn(&mut ShardLine); 4] = [
        |line| line.decision = "e".into(),
        |line| line.name = "5.tar".into(),
        |line| line.counts.kept = 2,
        |line| line.parts[2].crc32c = "ff".into(),
    ];
    for change in changes {
        let mut other = line(4, "aa");
        change(&mut other);
        let refused = Merged::of(files(&[&[line(4, "aa")], &[other]])).err().unwrap();
        assert!(matches!(refused, LedgerError::Disagree { ordinal: 4, .. }), "{refused}");
    }
}

#[test]
fn a_failed_shard_is_forgotten_when_somebody_commits_it() {
    let mut failed = line(4, "aa");
    failed.status = LineStatus::Failed;
    let merged = Merged::of(files(&[&[failed.clone()], &[line(5, "bb")]])).unwrap();
    assert_eq!(merged.failed.keys().copied().collect::<Vec<_>>(), [4]);
    let merged = Merged::of(files(&[&[line(4, "aa")], &[failed.clone()]])).unwrap();
    assert!(merged.failed.is_empty());
    let merged = Merged::of(files(&[&[failed], &[line(4, "aa")]])).unwrap();
    assert!(merged.failed.is_empty() && merged.committed[&4].0 == 1);
}

#[test]
fn every_cut_and_every_flipped_bit_of_a_manifest_is_seen() {
    let path = Path::new("m.jsonl");
    let bytes: Vec<u8> = [line(1, "aa"), line(2, "bb")].iter().flat_map(|l| l.encode().unwrap()).collect();
    let first = bytes.iter().position(|&b| b == b'\n').unwrap() + 1;
    for cut in 0..=bytes.len() {
        let lines = parse(path, &bytes[..cut]).unwrap();
        let whole = usize::from(cut >= first) + usize::from(cut >= bytes.len());
        assert_eq!(lines.lines.len(), whole);
        assert_eq!(lines.torn, ![0, first, bytes.len()].contains(&cut));
        assert_eq!(lines.good_bytes as usize, [0, first, bytes.len()][whole]);
    }
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        match parse(path, &bad) {
            // Without its newline the first line runs into the second: both are gone.
            Ok(lines) if at == first - 1 => assert!(lines.torn && lines.lines.is_empty(), "byte {at}"),
            Ok(lines) => assert!(at >= first && lines.torn && lines.lines.len() == 1, "byte {at}"),
            Err(LedgerError::CorruptManifest { line: 1, .. }) => assert!(at < first, "byte {at}"),
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    for line in text.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).unwrap()["check"].is_string());
    }
}

#[test]
fn what_the_filter_leaves_out_changes_nothing() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let incarnations = 1 + random.below(3) as usize;
        let mut peaks = vec![Peaks::default(); incarnations];
        let (mut filtered, mut all) = (MergedItems::default(), MergedItems::default());
        let (mut left, mut total) = (0, 0);
        let mut order: Vec<u64> = (0..12).collect();
        for at in 0..order.len() {
            order.swap(at, random.below(12) as usize);
        }
        for ordinal in order {
            let rows = item_rows(ordinal + seed * 100);
            let mine = &mut peaks[random.below(incarnations as u64) as usize];
            let selected = mine.select(rows.clone());
            mine.raise(&selected);
            (left, total) = (left + selected.len(), total + rows.len());
            filtered.add(selected);
            all.add(rows);
        }
        assert_eq!(filtered.into_rows(), all.into_rows(), "seed {seed}");
        assert!(left < total);
    }
}

#[test]
fn codes_are_what_a_map_is() {
    let mut map = BTreeMap::<String, u64>::new();
    let mut codes = Codes::default();
    let mut random = Random(7);
    for _ in 0..200 {
        let (code, count) = (format!("code_{}", random.below(12)), random.below(5));
        *map.entry(code.clone()).or_default() += count;
        codes.add(&code, count);
    }
    assert_eq!(BTreeMap::from(&codes), map);
    assert_eq!(serde_json::to_value(&codes).unwrap(), serde_json::to_value(&map).unwrap());
    let text = serde_json::to_string(&map).unwrap();
    assert_eq!(serde_json::from_str::<Codes>(&text).unwrap(), codes);
    assert_eq!((codes.get("code_3"), codes.get("code_99")), (map.get("code_3").copied(), None));
}
