//! Every rule, quota and set operation, on random ledgers with ties, repeated keys, empty shards, rejects and takedowns, beside the naive model.

use std::collections::BTreeMap;

use trommel_decide::rule::Rule;
use trommel_decide::selection::Selection;

use super::naive::{Known, Naive};
use super::selected;
use super::world::{Dice, Row, make};

const BENCHMARKS: [&str; 3] = ["val", "sketch", "one.point"];
/// So few that most samples are equal to others.
const SIMILARITIES: [f64; 6] = [0.25, 0.5, 0.75, -0.125, 0.0, -0.0];

fn row(dice: &mut Dice) -> Row {
    let pick = |dice: &mut Dice, of: &[&'static str]| of[dice.below(of.len() as u64) as usize];
    let folder = pick(dice, &["", "", "dog/", "cat/", "cat/more/"]);
    let rejected = dice.below(8) == 0;
    let reason = match dice.below(6) {
        _ if rejected => Some("image_decode"),
        0 => Some("taken_down"),
        1 | 2 => Some("no_caption"),
        _ => None,
    };
    let mut score = || (SIMILARITIES[dice.below(6) as usize], Some([0, 0, 1, 25_000][dice.below(4) as usize]));
    let scores = BENCHMARKS.iter().map(|_| score()).collect();
    Row { key: format!("{folder}{}", dice.below(12)), uid: None, rejected, reason, scores }
}

/// Shards in the order of the plan, which is not that of their names.
fn shards(dice: &mut Dice) -> Vec<(String, Vec<Row>)> {
    let count = 1 + dice.below(5);
    let mut names: Vec<String> = (0..count).map(|at| format!("{}.tar", 7 + 3 * at)).collect();
    names.sort_by_key(|_| dice.next());
    let rows = |dice: &mut Dice| (0..[0, 1, 7, 60][dice.below(4) as usize]).map(|_| row(dice)).collect();
    names.into_iter().map(|name| (name, rows(dice))).collect()
}

/// A rule of each kind there is, in its own words.
fn rule(dice: &mut Dice) -> Rule {
    let names = ["", "@val", "@sketch,val", "@one.point"][dice.below(4) as usize];
    let count = [0, 1, 2, 5, 17, 1000][dice.below(6) as usize];
    let threshold = SIMILARITIES[dice.below(6) as usize];
    let text = match dice.below(15) {
        0 => format!("drop-over-radius{names}"),
        1 => format!("drop-above:{threshold}{names}"),
        2 => format!("drop-from:{threshold}{names}"),
        3 => format!("drop-below:{threshold}{names}"),
        4 => ["random:50%", "random:0%", "random:100%", "random:12.5%"][dice.below(4) as usize].into(),
        5 => format!("random:{count}"),
        6 | 7 => format!("keep-nearest:{count}{names}"),
        8 | 9 => format!("keep-farthest:{count}{names}"),
        10 => format!("keep-highest:{count}@max_similarity.val"),
        11 => format!("keep-lowest:{count}@size"),
        12 => format!("where:max_similarity.sketch{}{threshold}", [">", ">=", "<", "<="][dice.below(4) as usize]),
        13 => format!("where:folder{}dog", ["=", "!="][dice.below(2) as usize]),
        _ => format!("where:folder~{}", ["cat", "more", "DOG"][dice.below(3) as usize].to_lowercase()),
    };
    text.parse().unwrap()
}

fn selection(dice: &mut Dice, depth: u64) -> Selection {
    let inner = |dice: &mut Dice| Box::new(selection(dice, depth - 1));
    match dice.below(if depth == 0 { 3 } else { 8 }) {
        4 => Selection::Not(inner(dice)),
        5 => Selection::And(inner(dice), inner(dice)),
        6 => Selection::Or(inner(dice), inner(dice)),
        7 => Selection::Minus(inner(dice), inner(dice)),
        form => {
            let rule = rule(dice);
            let exact = rule.policy().first().is_some();
            let per = (exact && dice.below(3) == 0).then(|| ["folder", "shard", "size"][dice.below(3) as usize].into());
            Selection::Rule { rule, per, of: (form == 3).then(|| inner(dice)) }
        }
    }
}

#[test]
fn every_selection_keeps_what_the_naive_model_keeps() {
    let (mut some, mut none, mut all) = (0, 0, 0);
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let (shards, folder) = (shards(&mut dice), tempfile::tempdir().unwrap());
        let planned = shards.iter().map(|(name, rows)| (name.clone(), Some(rows.clone().into_iter()))).collect();
        make(folder.path(), &BENCHMARKS, planned);
        let mut rows: Vec<Known> = Vec::new();
        for (shard, own) in shards {
            rows.extend((0..).zip(own).map(|(index, row)| Known { shard: shard.clone(), index, row }));
        }
        rows.sort_by(|a, b| (&a.shard, a.index).cmp(&(&b.shard, b.index)));
        let benchmarks = BENCHMARKS.map(String::from).into();
        let naive = Naive { benchmarks, rows, seed, texts: BTreeMap::new(), numbers: BTreeMap::new() };
        let selections: Vec<Selection> = (0..60).map(|_| selection(&mut dice, 3)).collect();
        let machine = [(true, 1), (false, 2)][(seed % 2) as usize];
        let made = selected(folder.path(), &selections, seed, machine).unwrap();
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
