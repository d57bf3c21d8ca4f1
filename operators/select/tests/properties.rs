//! Every rule, quota and set operation, on random ledgers with ties, repeated keys, empty shards, rejects and takedowns, beside the naive model.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use trommel_columnar::parquet::{Column, ColumnType, Field, TableWriter};
use trommel_decide::rule::Rule;
use trommel_decide::selection::Selection;

use super::naive::{Known, Naive};
use super::selected;
use super::world::{Dice, Row, make};

const BENCHMARKS: [&str; 3] = ["val", "sketch", "one.point"];
/// So few that most samples are equal to others.
const SIMILARITIES: [f64; 6] = [0.25, 0.5, 0.75, -0.125, 0.0, -0.0];

const SIGNS: [&str; 6] = [">", ">=", "<", "<=", "=", "!="];
/// Numbers of the ledger.
const COLUMNS: [&str; 10] = [
    "max_similarity.val",
    "nearest.sketch",
    "margin.val",
    "margin.one.point",
    "exceeds.sketch",
    "hits.val",
    "hits.one.point",
    "index",
    "offset",
    "size",
];
/// What captions are asked for, and what they say.
const SAID: [&str; 8] = ["dog", "photo", "a", "photo of a dog", "DOG!", "a-dog", "one's", "é"];
const CAPTIONS: [&str; 6] =
    ["a photo of a dog", "Photo DOG", "photos doggy", "A photo, of a (dog).", "one's \u{c9}\u{2014}dog", ""];

fn row(dice: &mut Dice) -> Row {
    let pick = |dice: &mut Dice, of: &[&'static str]| of[dice.below(of.len())];
    let folder = pick(dice, &["", "", "dog/", "cat/", "cat/more/"]);
    let rejected = dice.below(8) == 0;
    let reason = match dice.below(6) {
        _ if rejected => Some("image_decode"),
        0 => Some("taken_down"),
        1 | 2 => Some("no_caption"),
        _ => None,
    };
    // Of one point there is one hit at most.
    let most = |name: &str| if name == "one.point" { 1 } else { u32::MAX };
    let mut score = |name: &&str| (SIMILARITIES[dice.below(6)], Some([0, 0, 1, 25_000][dice.below(4)].min(most(name))));
    let scores = BENCHMARKS.iter().map(&mut score).collect();
    Row {
        key: format!("{folder}{}", dice.below(12)),
        uid: Some(format!("{:x}", dice.next())),
        rejected,
        reason,
        scores,
    }
}

/// Shards in the order of the plan, which is not that of their names.
fn shards(dice: &mut Dice) -> Vec<(String, Vec<Row>)> {
    let count = 1 + dice.below(5);
    let mut names: Vec<String> = (0..count).map(|at| format!("{}.tar", 7 + 3 * at)).collect();
    names.sort_by_cached_key(|_| dice.next());
    let rows = |dice: &mut Dice| (0..[0, 1, 7, 60][dice.below(4)]).map(|_| row(dice)).collect();
    names.into_iter().map(|name| (name, rows(dice))).collect()
}

/// A rule of each kind there is, in its own words; where a table is joined, of its columns too.
fn rule(dice: &mut Dice, joined: bool) -> Rule {
    let names = ["", "@val", "@sketch,val", "@one.point"][dice.below(4)];
    let count = [0, 1, 2, 5, 17, 1000][dice.below(6)];
    let threshold = SIMILARITIES[dice.below(6)];
    let column = COLUMNS[dice.below(COLUMNS.len())];
    let text = match dice.below(if joined { 25 } else { 18 }) {
        18 => format!("keep-highest:{count}@score"),
        19 => format!("keep-lowest:{count}@score"),
        20 => format!("where:score{}0.5", SIGNS[dice.below(6)]),
        21 | 22 => format!("where:class{}", ["=dog", "!=dog", "=a fox"][dice.below(3)]),
        23 | 24 => format!("where:caption~{}", SAID[dice.below(SAID.len())]),
        15 => format!("keep-highest:{count}@{column}"),
        16 => format!("keep-lowest:{count}@{column}"),
        17 => format!("where:{column}{}{}", SIGNS[dice.below(6)], ["0", "0.5", "-0.5", "1", "512"][dice.below(5)]),
        0 => format!("drop-over-radius{names}"),
        1 => format!("drop-above:{threshold}{names}"),
        2 => format!("drop-from:{threshold}{names}"),
        3 => format!("drop-below:{threshold}{names}"),
        4 => ["random:50%", "random:0%", "random:100%", "random:12.5%"][dice.below(4)].into(),
        5 => format!("random:{count}"),
        6 | 7 => format!("keep-nearest:{count}{names}"),
        8 | 9 => format!("keep-farthest:{count}{names}"),
        10 => format!("keep-highest:{count}@max_similarity.val"),
        11 => format!("keep-lowest:{count}@size"),
        12 => format!("where:max_similarity.sketch{}{threshold}", [">", ">=", "<", "<="][dice.below(4)]),
        13 => format!("where:folder{}dog", ["=", "!="][dice.below(2)]),
        _ => format!("where:folder~{}", ["cat", "more", "DOG"][dice.below(3)].to_lowercase()),
    };
    text.parse().unwrap()
}

fn selection(dice: &mut Dice, joined: bool, depth: u64) -> Selection {
    let inner = |dice: &mut Dice| Box::new(selection(dice, joined, depth - 1));
    let several = |dice: &mut Dice| (0..2 + dice.below(2)).map(|_| selection(dice, joined, depth - 1)).collect();
    match dice.below(if depth == 0 { 3 } else { 8 }) {
        4 => Selection::Not(inner(dice)),
        5 => Selection::And(several(dice)),
        6 => Selection::Or(several(dice)),
        7 => Selection::Minus(several(dice)),
        form => {
            let rule = rule(dice, joined);
            let exact = rule.policy().first().is_some();
            let labels = ["folder", "shard", "size", "hits.one.point", "class", "score"];
            let labels = if joined { &labels[..] } else { &labels[..4] };
            let per: Option<String> = (exact && dice.below(2) == 0).then(|| labels[dice.below(labels.len())].into());
            // A weight is one for all samples of a value.
            let by = per.as_deref().and_then(|per| match per {
                "size" => Some("offset"),
                "hits.one.point" => Some("hits.one.point"),
                "class" => Some("weight"),
                _ => None,
            });
            let by = by.filter(|_| dice.below(2) == 0).map(String::from);
            Selection::Rule { rule, per, by, of: (form == 3).then(|| inner(dice)) }
        }
    }
}

/// Writes a table with a score, a class and a caption of every row, and takes them into the model; how it is joined. By place, its rows stand in
/// the order of the plan, rejects left out or not; else in any, with others between them.
fn join(dice: &mut Dice, path: &Path, naive: &mut Naive, by_place: bool, plan: &[String]) -> String {
    let count = naive.rows.len();
    let some = |dice: &mut Dice, of: &[&str]| Some(of[dice.below(of.len())].to_owned()).filter(|text| !text.is_empty());
    let texts = |dice: &mut Dice, of: &[&str]| (0..count).map(|_| some(dice, of)).collect::<Vec<_>>();
    let scores =
        (0..count).map(|_| [Some(0.25), Some(0.5), Some(-3.0), Some(7.5), None][dice.below(5)]).collect::<Vec<_>>();
    let (classes, captions) = (texts(dice, &["dog", "a fox", "Dog", ""]), texts(dice, &CAPTIONS));
    let mut order: Vec<usize> = (0..count).collect();
    if by_place {
        let skips = dice.below(2) == 0;
        order.retain(|&at| !(skips && naive.rows[at].row.rejected));
        order.sort_by_key(|&at| plan.iter().position(|name| *name == naive.rows[at].shard));
    } else {
        order.sort_by_cached_key(|_| dice.next());
    }
    let mut columns = [Vec::new(), Vec::new(), Vec::new()];
    let weight = |at: &Option<String>| match at.as_deref() {
        Some("dog") => Some(3.0),
        Some("a fox") => Some(0.7),
        _ => None,
    };
    let (mut numbers, mut weights) = (Vec::new(), Vec::new());
    for at in order {
        for (column, value) in columns.iter_mut().zip([&naive.rows[at].row.uid, &classes[at], &captions[at]]) {
            column.push(value.clone());
        }
        // A number that is none is a missing one.
        numbers.push(scores[at].or((at % 2 == 0).then_some(f64::NAN)));
        weights.push(weight(&classes[at]));
        if !by_place && at % 3 == 0 {
            columns.iter_mut().for_each(|column| column.push(Some(format!("other {at}"))));
            numbers.push(Some(99.0));
            weights.push(Some(-1.0));
        }
    }
    let [uids, class, caption] = columns.map(Column::Text);
    let mut fields: Vec<Field> = ["uid", "class", "caption"].map(|name| Field::nullable(name, ColumnType::Text)).into();
    fields.extend([Field::nullable("score", ColumnType::F64), Field::nullable("weight", ColumnType::F64)]);
    let mut writer = TableWriter::new(path, File::create(path).unwrap(), fields, Vec::new()).unwrap();
    writer.write(&[uids, class, caption, Column::F64(numbers), Column::F64(weights)]).unwrap();
    writer.finish().unwrap();
    let weights = classes.iter().map(weight).collect();
    naive.texts = BTreeMap::from([("class".to_owned(), classes), ("caption".to_owned(), captions)]);
    naive.numbers = BTreeMap::from([("score".to_owned(), scores), ("weight".to_owned(), weights)]);
    format!("{}{}", path.display(), if by_place { "@row" } else { "" })
}

#[test]
fn every_selection_keeps_what_the_naive_model_keeps() {
    let (mut some, mut none, mut all) = (0, 0, 0);
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let (shards, folder) = (shards(&mut dice), tempfile::tempdir().unwrap());
        let planned = shards.iter().map(|(name, rows)| (name.clone(), Some(rows.clone().into_iter()))).collect();
        make(folder.path(), &BENCHMARKS, planned);
        let plan: Vec<String> = shards.iter().map(|(name, _)| name.clone()).collect();
        let mut rows: Vec<Known> = Vec::new();
        for (shard, own) in shards {
            rows.extend((0..).zip(own).map(|(index, row)| Known { shard: shard.clone(), index, row }));
        }
        rows.sort_by(|a, b| (&a.shard, a.index).cmp(&(&b.shard, b.index)));
        let benchmarks = BENCHMARKS.map(String::from).into();
        let mut naive = Naive { benchmarks, rows, seed, texts: BTreeMap::new(), numbers: BTreeMap::new() };
        let table = folder.path().join("table.parquet");
        let joins: Vec<String> = match seed % 3 {
            0 => Vec::new(),
            by => vec![join(&mut dice, &table, &mut naive, by == 2, &plan)],
        };
        let selections: Vec<Selection> = (0..60).map(|_| selection(&mut dice, !joins.is_empty(), 3)).collect();
        let asks = |selection: &Selection| {
            selection.columns().iter().any(|column| ["score", "class", "caption"].contains(column))
        };
        let joins = if selections.iter().any(asks) { joins } else { Vec::new() };
        let machine = [(true, 1), (false, 2)][(seed % 2) as usize];
        let made = selected(folder.path(), &selections, seed, &joins, machine).unwrap();
        for (selection, (kept, made)) in selections.iter().zip(made) {
            let text = selection.to_string();
            assert_eq!(text.parse::<Selection>().as_ref(), Ok(selection), "{text}");
            let expected = naive.keeps(selection);
            let due: Vec<(&str, u32, &str)> = expected
                .iter()
                .map(|at| &naive.rows[*at])
                .map(|k| (k.shard.as_str(), k.index, k.row.key.as_str()))
                .collect();
            let got: Vec<(&str, u32, &str)> =
                kept.iter().map(|row| (row.shard.as_str(), row.index, row.key.as_str())).collect();
            assert_eq!(got, due, "seed {seed}: {text}");
            assert_eq!(made.head.keys_sha256, naive.keys_sha256(&expected), "{text}");
            let captionless = expected.iter().filter(|at| naive.rows[**at].row.reason == Some("no_caption")).count();
            let judged = naive.judged().len();
            assert_eq!((made.head.count, made.head.judged), (due.len() as u64, judged as u64), "{text}");
            assert_eq!(made.head.captionless, captionless as u64, "{text}");
            match due.len() {
                0 => none += 1,
                len if len == judged => all += 1,
                _ => some += 1,
            }
        }
    }
    assert!(some > 150 && none > 20 && all > 20, "{some} {none} {all}: too few of a kind");
}
