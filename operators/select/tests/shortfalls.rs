//! An exact number that cannot be reached is said, and nothing is said of one that is.

use std::fs::File;
use std::path::Path;

use trommel_columnar::parquet::{Column, ColumnType, Field, TableWriter};

use super::world::{Row, make};
use super::{read, selected};

/// Sixty samples: folders a (40), b (15) and none (5); every tenth could not be judged.
fn ledger(root: &Path) {
    let row = |at: u32| Row {
        key: match at {
            0..40 => format!("a/{at}"),
            40..55 => format!("b/{at}"),
            _ => at.to_string(),
        },
        rejected: at % 10 == 9,
        scores: vec![(f64::from(at % 8) / 8.0, Some(0))],
        ..Row::default()
    };
    make(root, &["val"], vec![("0.tar".into(), Some((0..60).map(row)))]);
}

/// A score of every other sample, found by its place.
fn scores(root: &Path) -> String {
    let path = root.join("scores.parquet");
    let fields = vec![Field::nullable("score", ColumnType::F64)];
    let mut writer = TableWriter::new(&path, File::create(&path).unwrap(), fields, Vec::new()).unwrap();
    writer.write(&[Column::F64((0..60).map(|at| (at % 2 == 0).then_some(f64::from(at))).collect())]).unwrap();
    writer.finish().unwrap();
    format!("{}@row", path.display())
}

#[test]
fn what_an_exact_number_lacks_is_said() {
    let folder = tempfile::tempdir().unwrap();
    ledger(folder.path());
    let joined = [scores(folder.path())];
    // By hand: 54 take part (36 of a, 14 of b, 4 without a folder), 30 of them with a score.
    for (rule, kept, said) in [
        ("far:54", 54, vec![]),
        ("far:1000", 54, vec!["`keep-nearest:1000` asks for 1000 samples, and there are 54"]),
        ("random:0", 0, vec![]),
        ("far:10 per folder", 20, vec!["`keep-nearest:10 per folder` has no place for 4 samples without a `folder`"]),
        (
            "far:20 per folder",
            34,
            vec![
                "`keep-nearest:20 per folder` asks for 20 of each `folder`: 1 of 2 have fewer, 6 samples are lacking; it has no place for 4 \
                 samples without a `folder`",
            ],
        ),
        (
            "random:3 per folder of where:folder=b",
            3,
            vec!["`random:3 per folder of ..` asks for 3 of each `folder`: 1 of 2 have fewer, 3 samples are lacking"],
        ),
        ("far:3 per uid", 0, vec!["`keep-nearest:3 per uid` finds no sample with a `uid`"]),
        ("keep-highest:9@score", 9, vec!["`keep-highest:9@score` has no place for 24 samples without a `score`"]),
        (
            "keep-lowest:40@score",
            30,
            vec![
                "`keep-lowest:40@score` asks for 40 samples, and there are 30; it has no place for 24 samples without a `score`",
            ],
        ),
        (
            "(random:9 of where:folder=a) or (random:90 of where:folder=b) or where:score>1000",
            23,
            vec!["`random:90 of ..` asks for 90 samples, and there are 14"],
        ),
        (
            "not (random:5 of (where:folder=a and where:folder=b))",
            54,
            vec!["`random:5 of ..` asks for 5 samples, and there are 0"],
        ),
    ] {
        let selection = read(rule);
        let joins = if selection.columns().contains(&"score") { &joined[..] } else { &[] };
        for machine in [(false, 1), (true, 2)] {
            let made = selected(folder.path(), std::slice::from_ref(&selection), 3, joins, machine).unwrap();
            assert_eq!(
                (made[0].0.len(), &made[0].1.remarks),
                (kept, &said.iter().map(|it| (*it).to_owned()).collect()),
                "{rule}"
            );
        }
    }
    // Each split is told of its own.
    let made =
        selected(folder.path(), &[read("far:9"), read("far:99"), read("far:99 minus far:9")], 3, &[], (false, 2))
            .unwrap();
    assert_eq!(made.iter().map(|(_, made)| made.remarks.len()).collect::<Vec<_>>(), [0, 1, 1]);
}
