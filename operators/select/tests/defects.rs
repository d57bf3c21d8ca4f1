//! What the study's published scripts get wrong about selecting, as far as anybody has listed it: each is tried here.

use super::world::{Dice, Row, make};
use super::{read, selected};
use crate::SelectError;
use trommel_columnar::parquet::{Column, ColumnType, Field, TableWriter};

fn plain(key: &str, similarity: f64, hits: u32) -> Row {
    Row { key: key.into(), scores: vec![(similarity, Some(hits))], ..Row::default() }
}

/// Names of who is kept by a rule, or why nobody can tell.
fn kept(run: &std::path::Path, rule: &str) -> Vec<String> {
    let made = selected(run, &[read(rule)], 5, &[], (true, 2)).unwrap();
    made[0].0.iter().map(|row| format!("{}/{}", row.shard, row.key)).collect()
}

/// Theirs keeps the nearest 20,000 of a test point and a chunk, and misses whoever comes after them.
#[test]
fn a_point_that_more_than_20_000_samples_hit_removes_them_all() {
    let folder = tempfile::tempdir().unwrap();
    let many = (0..25_000).map(|at| plain(&at.to_string(), 0.9, 1)).chain([plain("far", 0.1, 0)]);
    make(folder.path(), &["val"], vec![("0.tar".into(), Some(many))]);
    assert_eq!(kept(folder.path(), "drop-over-radius"), ["0.tar/far"]);
    assert_eq!(kept(folder.path(), "not drop-over-radius").len(), 25_000);
}

/// Theirs looks at the first 15 million ids only unless told otherwise, and says nothing.
#[test]
fn who_comes_last_takes_part() {
    let folder = tempfile::tempdir().unwrap();
    let shard = |at: u32| {
        let last = at == 39;
        (
            format!("{at:05}.tar"),
            Some((0..50).map(move |key| plain(&key.to_string(), if last && key == 49 { 0.9 } else { 0.5 }, 0))),
        )
    };
    make(folder.path(), &["val"], (0..40).map(shard).collect());
    assert_eq!(kept(folder.path(), "keep-nearest:1"), ["00039.tar/49"]);
    assert_eq!(kept(folder.path(), "keep-farthest:1999").len(), 1999);
    assert_eq!(kept(folder.path(), "random:2000").len(), 2000);
}

/// Theirs keeps whoever comes first in the order in which the file system lists files, and pads chunk names here and not there.
#[test]
fn the_order_of_the_plan_and_the_width_of_names_change_nothing() {
    let mut dice = Dice(3);
    let mut shards: Vec<(String, Vec<Row>)> = ["9.tar", "10.tar", "010.tar", "a/9.tar"]
        .map(|name| {
            let row = |at: u64| plain(&at.to_string(), [0.5, 0.25][dice.below(2)], 0);
            (name.to_owned(), (0..30).map(row).collect())
        })
        .into();
    let rules = ["keep-nearest:13", "random:7", "keep-farthest:99", "random:20% minus keep-nearest:40"].map(read);
    let mut seen = Vec::new();
    for _ in 0..3 {
        shards.rotate_left(1);
        let folder = tempfile::tempdir().unwrap();
        make(
            folder.path(),
            &["val"],
            shards.iter().map(|(name, rows)| (name.clone(), Some(rows.clone().into_iter()))).collect(),
        );
        let made = selected(folder.path(), &rules, 1, &[], (true, 2)).unwrap();
        seen.push(made.into_iter().map(|(rows, made)| (rows, made.head.keys_sha256)).collect::<Vec<_>>());
    }
    assert!(seen[0] == seen[1] && seen[1] == seen[2]);
    assert_eq!(seen[0].iter().map(|(rows, _)| rows.len()).collect::<Vec<_>>()[..3], [13, 7, 99]);
}

/// Theirs keeps ids without their shard: LAION's repeat from one tar to the next, and one that is kept brings the others along.
#[test]
fn a_key_that_stands_in_two_shards_is_two_samples() {
    let folder = tempfile::tempdir().unwrap();
    let twins = |similarity| Some([plain("000", similarity, 0), plain("000", similarity - 0.25, 0)].into_iter());
    make(folder.path(), &["val"], vec![("a.tar".into(), twins(0.75)), ("b.tar".into(), twins(0.5))]);
    let made = selected(folder.path(), &[read("keep-nearest:2")], 0, &[], (false, 1)).unwrap();
    let names: Vec<(&str, u32)> = made[0].0.iter().map(|row| (row.shard.as_str(), row.index)).collect();
    assert_eq!(names, [("a.tar", 0), ("a.tar", 1)]);
}

/// Theirs draws without a seed. What is kept of less is among what is kept of more, and another seed draws others.
#[test]
fn draws_are_seeded_and_nested() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), &["val"], vec![("a.tar".into(), Some((0..400).map(|at| plain(&at.to_string(), 0.5, 0))))]);
    let ladder = ["random:10", "random:150", "random:10%", "random:40%"].map(read);
    let draw = |seed| {
        selected(folder.path(), &ladder, seed, &[], (false, 1)).unwrap().into_iter().map(|it| it.0).collect::<Vec<_>>()
    };
    let (one, other) = (draw(1), draw(2));
    assert!(one[0].iter().all(|row| one[1].contains(row)) && one[2].iter().all(|row| one[3].contains(row)));
    assert!(one == draw(1) && one[1] != other[1]);
}

/// What a ledger does not say is refused, never taken for a no.
#[test]
fn a_ledger_without_radii_or_maxima_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let row = Row { key: "k".into(), scores: vec![(0.5, None)], ..Row::default() };
    make(folder.path(), &["val"], vec![("a.tar".into(), Some([row].into_iter()))]);
    let said = |rule: &str| match selected(folder.path(), &[read(rule)], 0, &[], (false, 1)) {
        Err(error @ (SelectError::Input(_) | SelectError::Rule(_))) => error.to_string(),
        other => panic!("{rule}: {:?}", other.map(|made| made.len())),
    };
    assert_eq!(
        said("near"),
        "rule `drop-over-radius`: the run has no hits (no radii, or --columns decision) of benchmark `val` (first: a.tar/k)"
    );
    // A column of it holds no answer either, whatever it is asked.
    for (rule, benchmark) in
        ["where:hits.val>0", "where:exceeds.val!=3", "keep-highest:1@margin.val", "random:1 per hits.val"]
            .map(|rule| (rule, "hits (no radii"))
    {
        assert!(said(rule).contains(benchmark), "{rule}: {}", said(rule));
    }
    let bare = tempfile::tempdir().unwrap();
    let rows = [("r", true), ("k", false)].map(|(key, rejected)| Row { key: key.into(), rejected, ..Row::default() });
    make(bare.path(), &["val"], vec![("a.tar".into(), Some(rows.into_iter()))]);
    for rule in [
        "drop-above:0.5",
        "where:max_similarity.val<=0.5",
        "not where:nearest.val=0",
        "keep-lowest:1@max_similarity.val",
    ] {
        let refused = selected(bare.path(), &[read(rule)], 0, &[], (false, 1)).err().unwrap().to_string();
        let due = "the run has no largest similarities (--columns decision) of benchmark `val` (first: a.tar/k)";
        assert!(refused.ends_with(due), "{rule}: {refused}");
    }
    let none = tempfile::tempdir().unwrap();
    make(none.path(), &[], vec![("a.tar".into(), Some([plain("k", 0.5, 0)].into_iter()))]);
    let refused = selected(none.path(), &[read("far:10")], 0, &[], (false, 1)).err().unwrap().to_string();
    assert_eq!(
        refused,
        "rule `keep-nearest:10` needs a benchmark, and the run judged none: prune again with --benchmark NAME=DIR"
    );
    assert!(said("far:1@sketch").contains("no benchmark `sketch`; there is val"));
    assert!(said("where:aesthetic>5").starts_with("no column `aesthetic`: the ledger has shard, key, "));
    assert!(said("where:key>5").contains("column `key` is a text and no number"));
    assert!(said("keep-highest:5@key").contains("column `key` is a text and no number"));
    assert!(said("where:size~5").contains("column `size` is a number and no text"));
}

/// Theirs joins scores by the place of a row, and reads the files in whatever order: a file that is called like a shard is of that shard.
#[test]
fn files_called_like_shards_are_joined_by_place_with_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["1.tar", "10.tar", "2.tar"];
    let rows = |count: usize| Some((0..count).map(|at| plain(&at.to_string(), 0.5, 0)));
    make(
        folder.path(),
        &["val"],
        names.iter().zip([2, 3, 2]).map(|(name, count)| ((*name).into(), rows(count))).collect(),
    );
    let tables = folder.path().join("tables");
    std::fs::create_dir(&tables).unwrap();
    let table = |stem: &str, scores: Vec<f64>| {
        let path = tables.join(format!("{stem}.parquet"));
        let fields = vec![Field::nullable("score", ColumnType::F64)];
        let mut writer = TableWriter::new(&path, std::fs::File::create(&path).unwrap(), fields, Vec::new()).unwrap();
        writer.write(&[Column::F64(scores.into_iter().map(Some).collect())]).unwrap();
        writer.finish().unwrap();
    };
    table("1", vec![1.0; 2]);
    table("2", vec![2.0; 2]);
    table("10", vec![10.0; 3]);
    let joined = [format!("{}@row", tables.display())];
    let kept = |rule: &str| {
        let made = selected(folder.path(), &[read(rule)], 5, &joined, (true, 2)).map_err(|error| error.to_string())?;
        Ok::<_, String>(made[0].0.iter().map(|row| format!("{}/{}", row.shard, row.key)).collect::<Vec<_>>())
    };
    assert_eq!(kept("where:score=2").unwrap(), ["2.tar/0", "2.tar/1"]);
    assert_eq!(kept("where:score=10").unwrap(), ["10.tar/0", "10.tar/1", "10.tar/2"]);
    // As many rows in all, but not of each.
    table("1", vec![1.0; 3]);
    table("2", vec![2.0; 1]);
    let refused = kept("where:score=2").unwrap_err();
    assert!(refused.contains("3 rows of 1.tar; the ledger has 2"), "{refused}");
}
