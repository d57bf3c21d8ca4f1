//! A split asked shard by shard, beside a map of all its rows.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::json;
use trommel_columnar::parquet::{Column, ColumnType, Field, TableReader, TableWriter};
use trommel_core::causes::Causes;

use super::world::{Dice, Row, make};
use crate::SelectError;
use crate::head::{META_SPLIT, SplitHead};
use crate::membership::{Kept, KeptRow, Membership, Picker};
use crate::settle::{Unnamed, is_told};
use crate::split::{self, Format, head_path, write_head};

/// Rows by shard: index and key.
type Rows = BTreeMap<String, Vec<(u32, String)>>;

pub(super) fn head(count: u64) -> SplitHead {
    serde_json::from_value(json!({
        "schema": 1, "rule": "random:1%", "seed": 0, "ties": "", "identity": null, "benchmarks": [], "reading": {}, "shards": 1,
        "judged": count, "rejected": 0, "taken_down": 0, "count": count, "captionless": 0, "keys_sha256": ""
    }))
    .unwrap()
}

/// As `select` writes it.
fn written(folder: &Path, format: Format, rows: &Rows) -> PathBuf {
    let path = folder.join(format!("split.{}", format.extension()));
    let mut sink = format.sink(&path, 1 << 20).unwrap();
    for (shard, rows) in rows {
        for (index, key) in rows {
            sink.add(split::Kept { shard, index: *index, key, uid: Some(key) }).unwrap();
        }
    }
    let head = head(rows.values().map(|rows| rows.len() as u64).sum());
    sink.finish(&head).unwrap().commit().unwrap();
    path
}

/// As it was written before row groups said what they hold, in small groups.
fn plain(path: &Path, rows: &[(String, u32, String)], group_rows: usize) {
    let fields = vec![
        Field::required("shard", ColumnType::Text),
        Field::required("key", ColumnType::Text),
        Field::required("index", ColumnType::U32),
    ];
    let metadata = vec![(META_SPLIT.to_owned(), serde_json::to_string(&head(rows.len() as u64)).unwrap())];
    let mut writer = TableWriter::new(path, File::create(path).unwrap(), fields, metadata).unwrap();
    for group in rows.chunks(group_rows) {
        let shards = Column::Text(group.iter().map(|row| Some(row.0.clone())).collect());
        let keys = Column::Text(group.iter().map(|row| Some(row.2.clone())).collect());
        writer.write(&[shards, keys, Column::U32(group.iter().map(|row| Some(row.1)).collect())]).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn a_split_of_a_later_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("split.json");
    for (schema, reads) in [(1, true), (2, false)] {
        let text = serde_json::to_string(&SplitHead { schema, ..head(0) }).unwrap();
        std::fs::write(&path, text).unwrap();
        let read = split::read_head(&path);
        assert_eq!(read.is_ok(), reads, "{schema}");
        let said = read.err().map_or(String::new(), |error| Causes(&error).to_string());
        assert!(reads || said.contains("schema version 2; this program knows 1"), "{said}");
    }
}

fn flat(rows: &Rows) -> Vec<(String, u32, String)> {
    rows.iter().flat_map(|(shard, rows)| rows.iter().map(|(index, key)| (shard.clone(), *index, key.clone()))).collect()
}

/// Names that begin each other, stand beside each other, and some of which nothing is kept.
const NAMES: [&str; 9] = ["0.tar", "00.tar", "00.tar.gz", "1.tar", "10.tar", "a", "a.tar", "b/0.tar", "zz.tar"];

fn random(dice: &mut Dice, most: usize) -> Rows {
    let mut rows = Rows::new();
    for name in NAMES {
        let (count, mut index) = (dice.below(most), 0);
        let mut own = Vec::new();
        for _ in 0..count {
            index += 1 + dice.below(9) as u32;
            own.push((index, format!("{:032x}", index * 31)));
        }
        if dice.below(4) > 0 && !own.is_empty() {
            rows.insert(name.into(), own);
        }
    }
    rows
}

fn kept(split: &Membership, shard: &str) -> Option<Vec<(u32, String)>> {
    let Kept::Rows(rows) = split.shard(shard).unwrap()? else { panic!("rows are due") };
    Some(rows.into_iter().map(|KeptRow { index, key }| (index, key)).collect())
}

fn compare(path: &Path, rows: &Rows, context: &str) {
    let split = Membership::open(path).unwrap();
    for name in NAMES.into_iter().chain(["", "0", "zzz", "b"]) {
        assert_eq!(kept(&split, name), rows.get(name).cloned(), "{context}: {name}");
    }
    let counts: Vec<(String, u64)> = split.shards().unwrap().unwrap().map(Result::unwrap).collect();
    let due: Vec<(String, u64)> = rows.iter().map(|(name, rows)| (name.clone(), rows.len() as u64)).collect();
    assert_eq!(counts, due, "{context}");
}

#[test]
fn tables_with_and_without_statistics_say_what_a_map_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice(4);
    for round in 0..40 {
        let rows = random(&mut dice, if round == 0 { 40_000 } else { 60 });
        let path = folder.path().join("plain.parquet");
        plain(&path, &flat(&rows), [1, 2, 7, 100, 30_000][if round == 0 { 4 } else { dice.below(4) }]);
        compare(&path, &rows, &format!("round {round}, no statistics"));
        compare(&written(folder.path(), Format::Parquet, &rows), &rows, &format!("round {round}"));
    }
}

#[test]
fn the_rest_of_a_table_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Rows = (0..200)
        .map(|shard| (format!("{shard:05}.tar"), (0..2000).map(|at| (at, format!("{shard:05}{at:04}"))).collect()))
        .collect();
    let path = written(folder.path(), Format::Parquet, &rows);
    let table = TableReader::open(&path, Box::new(File::open(&path).unwrap()), &[("shard", ColumnType::Text)]).unwrap();
    assert!(table.groups() > 5 && (0..table.groups()).all(|group| table.least_text(group, 0).is_some()));
    // All but the last fifth and the footer is destroyed.
    let mut bytes = std::fs::read(&path).unwrap();
    let most = bytes.len() / 5 * 3;
    bytes[4..most].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let split = Membership::open(&path).unwrap();
    assert_eq!(kept(&split, "00199.tar").as_ref(), rows.get("00199.tar"));
    assert_eq!(kept(&split, "00190.tar").as_ref(), rows.get("00190.tar"));
    let error = split.shard("00003.tar").unwrap_err().to_string();
    assert!(error.contains("split.parquet: not a readable Parquet file"), "{error}");
}

#[test]
fn a_head_leads_to_its_rows_and_strangers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let rows = random(&mut Dice(9), 50);
    let table = written(folder.path(), Format::Parquet, &rows);
    write_head(&head_path(&table), &head(1)).unwrap();
    compare(&head_path(&table), &rows, "by its head");
    let refused = |path: &Path| {
        let error = Membership::open(path).err().unwrap_or_else(|| panic!("{}", path.display()));
        Causes(&error).to_string()
    };
    std::fs::remove_file(&table).unwrap();
    assert!(refused(&head_path(&table)).contains("the split's rows are not beside it"));
    let foreign = folder.path().join("foreign.parquet");
    let fields = vec![Field::required("shard", ColumnType::Text)];
    TableWriter::new(&foreign, File::create(&foreign).unwrap(), fields, Vec::new()).unwrap().finish().unwrap();
    assert!(refused(&foreign).contains(
        "foreign.parquet: no split: a Parquet file that `trommel select` did not write; names of other programs'"
    ));
    for (name, bytes) in [("x.parquet", &b"PAR1"[..]), ("x.npy", b"\x93NUMPY"), ("x.csv", b"a,b")] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert!(refused(&path).contains(name));
    }
    assert!(refused(&folder.path().join("none.parquet")).contains("none.parquet"));
    let wrong =
        [("0.tar", 5), ("0.tar", 5), ("1.tar", 0)].map(|(shard, index)| (shard.to_owned(), index, "k".to_owned()));
    plain(&foreign, &wrong, 9);
    let error = Membership::open(&foreign).unwrap().shard("0.tar").unwrap_err().to_string();
    assert!(error.contains("rows are not in the order of shard and index, at 0.tar, index 5"), "{error}");
}

#[test]
fn lists_of_keys_are_found_wherever_a_shard_stands() {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice(5);
    for round in 0..30 {
        let rows = random(&mut dice, 40);
        let path = written(folder.path(), Format::Keys, &rows);
        let due: BTreeMap<&str, HashSet<String>> =
            rows.iter().map(|(shard, rows)| (shard.as_str(), rows.iter().map(|row| row.1.clone()).collect())).collect();
        let mut repeated = Vec::<String>::new();
        let _ = std::fs::remove_file(head_path(&path));
        if round % 3 > 0 {
            write_head(&head_path(&path), &head(1)).unwrap();
        }
        if round % 3 < 2 {
            // Somebody's own list in any order, or one that somebody has shuffled since.
            let text = std::fs::read_to_string(&path).unwrap();
            let mut lines: Vec<&str> = text.lines().collect();
            // Some of them again, beside the first or anywhere.
            let again: Vec<&str> = lines.iter().filter(|_| dice.below(3) == 0).copied().collect();
            lines.extend(&again);
            match round % 3 {
                0 => lines.sort_by_cached_key(|_| dice.next()),
                _ => lines.sort_unstable(),
            }
            repeated = again.into_iter().map(str::to_owned).collect();
            let mark = if round % 2 == 0 { "\u{feff}" } else { "" };
            std::fs::write(&path, format!("{mark}{}", lines.join("\r\n"))).unwrap();
        }
        let split = Membership::open(&path).unwrap();
        if round % 2 == 0 {
            let (given, others) = NAMES.split_at(NAMES.len() / 2);
            let coverage = split.coverage(given, others).unwrap().unwrap();
            let count = |names: &[&str]| names.iter().filter_map(|name| due.get(name)).map(HashSet::len).sum::<usize>();
            let again = |names: &[&str]| {
                let is_of = |line: &&String| {
                    names.iter().any(|name| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
                };
                repeated.iter().filter(is_of).count()
            };
            let due = [count(given), again(given), count(others) + again(others)].map(|count| count as u64);
            assert_eq!([coverage.kept, coverage.repeated, coverage.absent_samples], due, "round {round}");
            assert_eq!(coverage.first_repeated.is_some(), again(given) > 0);
        }
        for _ in 0..20 {
            let name = NAMES[dice.below(NAMES.len())];
            let got = split.shard(name).unwrap().map(|kept| match kept {
                Kept::Keys(keys) => keys,
                other => panic!("{other:?}"),
            });
            assert_eq!(got.as_ref(), due.get(name), "round {round}: {name}");
        }
    }
    let path = folder.path().join("bad.txt");
    std::fs::write(&path, "0.tar/a\nno slash\n").unwrap();
    let error = Membership::open(&path).unwrap().shard("0.tar").unwrap_err().to_string();
    let due = "bad.txt: no list of samples: at byte 8: `no slash`; SHARD/KEY is due; keys alone stand in a list NAME.keys, sorted";
    assert!(error.ends_with(due), "{error}");
}

/// What lies under a split's name by now, and whether it can be opened.
fn beside(folder: &Path) -> Vec<(String, bool)> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.ends_with(".json")).collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), Membership::open(&folder.join(name)).is_ok())).collect()
}

/// A list is the one that its head tells of, or it is refused; who fails to write one changes nothing.
#[test]
fn lists_and_their_head_certify_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = |format: Format| folder.path().join(format!("s.{}", format.extension()));
    let write = |formats: &[Format], keys: &[&str]| {
        let mut sinks: Vec<_> = formats.iter().map(|format| format.sink(&file(*format), 1 << 20).unwrap()).collect();
        for (key, index) in keys.iter().zip(0..) {
            let kept = split::Kept { shard: "0.tar", index, key, uid: Some("a") };
            sinks.iter_mut().for_each(|sink| sink.add(kept).unwrap());
        }
        let told = SplitHead { keys_sha256: keys.concat(), ..head(keys.len() as u64) };
        let (head, _) = Unnamed::of(sinks, told)?.settle()?;
        write_head(&folder.path().join("s.split.json"), &head)
    };
    let all = |names: &[&str], opens: bool| names.iter().map(|name| ((*name).to_owned(), opens)).collect::<Vec<_>>();
    write(&[Format::Parquet, Format::KeysAlone], &["a", "b"]).unwrap();
    assert_eq!(beside(folder.path()), all(&["s.keys", "s.parquet"], true));
    // Of the same samples what is there stays, and is told of.
    write(&[Format::Keys], &["a", "b"]).unwrap();
    assert_eq!(beside(folder.path()), all(&["s.keys", "s.parquet", "s.txt"], true));
    // Who is refused leaves all as it was; the next split of other samples leaves nothing of it.
    let twice = write(&[Format::Parquet, Format::KeysAlone], &["c", "c"]).unwrap_err().to_string();
    assert!(twice.contains("two kept samples have the key `c`"), "{twice}");
    assert_eq!(beside(folder.path()), all(&["s.keys", "s.parquet", "s.txt"], true));
    let old = std::fs::read(file(Format::KeysAlone)).unwrap();
    write(&[Format::Parquet], &["c", "c"]).unwrap();
    assert_eq!(beside(folder.path()), all(&["s.parquet"], true));
    // A list of whoever wrote it is no list of this split.
    std::fs::write(file(Format::KeysAlone), &old).unwrap();
    let stranger = Membership::open(&file(Format::KeysAlone)).err().unwrap().to_string();
    assert!(stranger.contains("it is not the list that") && stranger.contains("s.split.json tells of"), "{stranger}");
    // Nor is one that lacks a line.
    write(&[Format::Keys, Format::KeysAlone, Format::Uids], &["a", "b"]).unwrap();
    for (format, bytes) in [(Format::Keys, "0.tar/a\n"), (Format::KeysAlone, "a\n")] {
        let good = std::fs::read(file(format)).unwrap();
        std::fs::write(file(format), bytes).unwrap();
        assert!(Membership::open(&file(format)).is_err(), "{format:?}");
        std::fs::write(file(format), good).unwrap();
        assert!(Membership::open(&file(format)).is_ok(), "{format:?}");
    }
    // Another order of the same length is seen by who reads all of it.
    let told = split::read_head(&folder.path().join("s.split.json")).unwrap();
    assert!(is_told(&told, &file(Format::KeysAlone)).unwrap());
    std::fs::write(file(Format::KeysAlone), "b\na\n").unwrap();
    assert!(is_told(&told, &file(Format::KeysAlone)).is_err());
    std::fs::write(file(Format::KeysAlone), "a\nb\n").unwrap();
    // What an earlier version's head says nothing of is read as anybody's, in order.
    write_head(&folder.path().join("s.split.json"), &head(2)).unwrap();
    assert!(Membership::open(&file(Format::KeysAlone)).is_ok());
    std::fs::write(file(Format::KeysAlone), "b\na\n").unwrap();
    assert!(Membership::open(&file(Format::KeysAlone)).is_err());
}

/// A line must not stand for a sample that is not kept, and must be read as it was written.
#[test]
fn a_line_that_names_another_sample_too_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.txt");
    let kept = |key| split::Kept { shard: "0.tar", index: 0, key, uid: None };
    for order in [[true, false], [false, true]] {
        let mut sink = Format::Keys.sink(&path, 0).unwrap();
        let refused = order.map(|keeps| {
            let taken = if keeps { sink.add(kept("a")) } else { sink.leave_out("0.tar", "a") };
            taken.err().map(|error| error.to_string())
        });
        let [None, Some(said)] = refused else { panic!("{refused:?}") };
        assert!(
            said.contains("of the samples 0.tar/a one is kept and another is not") && said.contains(".parquet does")
        );
    }
    let mut sink = Format::Keys.sink(&path, 0).unwrap();
    sink.add(kept("a")).unwrap();
    sink.add(kept("a")).unwrap();
    // Another shard's.
    sink.leave_out("1.tar", "a").unwrap();
    assert!(sink.add(kept("a\r")).unwrap_err().to_string().contains("does not fit on one line"));
}

#[test]
fn uids_are_searched_in_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice(6);
    for count in [0, 1, 2, 3, 500] {
        let path = folder.path().join("list.npy");
        let mut uids: Vec<u128> =
            (0..count).map(|_| u128::from(dice.next()) << 64 | u128::from(dice.next() % 3)).collect();
        uids.sort_unstable();
        let mut bytes = trommel_columnar::npy::pair_head_bytes(count);
        for uid in &uids {
            bytes.extend(((uid >> 64) as u64).to_le_bytes());
            bytes.extend((*uid as u64).to_le_bytes());
        }
        std::fs::write(&path, &bytes).unwrap();
        let split = Membership::open(&path).unwrap();
        assert!(split.needs_uids() && split.shards().unwrap().is_none());
        let kept = split.shard("any.tar").unwrap().unwrap();
        let mut picker = Picker::new(&path, "any.tar", &kept);
        let set: BTreeSet<u128> = uids.iter().copied().collect();
        let others = (0..50).map(|_| u128::from(dice.next()));
        for (uid, index) in uids.iter().copied().chain(others).zip(0..) {
            let keeps = picker.keeps(index, "k", || Some(format!("{uid:x}"))).unwrap();
            assert_eq!(keeps, set.contains(&uid), "{uid}");
        }
        let error = picker.keeps(0, "k", || None).unwrap_err().to_string();
        assert!(error.ends_with("is a list of uids, and sample any.tar/k has none"), "{error}");
        if count > 1 {
            let disorder = [&bytes[..bytes.len() - 16], &[0; 16]].concat();
            std::fs::write(&path, disorder).unwrap();
            let said = Membership::open(&path).err().unwrap().to_string();
            assert!(
                said.ends_with(&format!("at row {}: np.save(path, np.sort(np.load(path))) sorts them", count - 1)),
                "{said}"
            );
        }
        bytes.push(0);
        std::fs::write(&path, &bytes).unwrap();
        assert!(Membership::open(&path).is_err());
    }
}

#[test]
fn a_run_keeps_whom_its_ledger_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let row = |key: &str, rejected, reason| Row { key: key.into(), rejected, reason, ..Row::default() };
    let first = vec![
        row("a", false, None),
        row("b", true, Some("image_decode")),
        row("c", false, Some("taken_down")),
        row("d", false, Some("no_caption")),
    ];
    make(
        folder.path(),
        &[],
        vec![
            ("9.tar".into(), Some(first.into_iter())),
            ("1.tar".into(), None),
            ("5.tar".into(), Some(Vec::new().into_iter())),
        ],
    );
    let split = Membership::open(folder.path()).unwrap();
    assert_eq!(kept(&split, "9.tar"), Some(vec![(0, "a".into()), (3, "d".into())]));
    assert_eq!((kept(&split, "5.tar"), kept(&split, "x.tar")), (Some(Vec::new()), None));
    assert!(
        matches!(split.shard("1.tar"), Err(SelectError::Unfinished(text)) if text.ends_with("shard 1.tar is not judged yet"))
    );
}

#[test]
fn a_shard_that_has_changed_is_told() {
    let rows =
        Kept::Rows([(1, "b"), (4, "e")].map(|(index, key): (u32, &str)| KeptRow { index, key: key.into() }).into());
    let path = Path::new("s.parquet");
    let said = |samples: &[&str]| {
        let mut picker = Picker::new(path, "0.tar", &rows);
        let mut seen = Vec::new();
        for (key, index) in samples.iter().zip(0..) {
            seen.push(picker.keeps(index, key, || None).map_err(|error| error.to_string())?);
        }
        picker.finish().map_err(|error| error.to_string()).map(|()| seen)
    };
    assert_eq!(said(&["a", "b", "c", "d", "e", "f"]).unwrap(), [false, true, false, false, true, false]);
    let of = "it is not the shard that s.parquet was made from";
    assert_eq!(
        said(&["a", "x"]).unwrap_err(),
        format!("0.tar: its sample 1 is `x`, and the split keeps `b` as sample 1: {of}")
    );
    assert_eq!(
        said(&["a", "b", "c"]).unwrap_err(),
        format!("0.tar: it ends before `e`, which the split keeps as sample 4: {of}")
    );
    let keys = Kept::Keys(["a", "b"].map(String::from).into());
    let mut picker = Picker::new(path, "0.tar", &keys);
    assert!(picker.keeps(0, "b", || None).unwrap());
    assert_eq!(
        picker.finish().unwrap_err().to_string(),
        format!("0.tar: 1 keys that the split keeps are not in it (first: `a`): {of}")
    );
}
