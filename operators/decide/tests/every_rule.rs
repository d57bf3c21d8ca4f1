//! Every rule there is, against the oracle: driven by the list of all forms, so that none can be left out.

use super::naive::Dice;
use super::oracle::{example, hit, keeps, names};
use crate::checked_rule::KnownBenchmark;
use crate::hash::random_hash;
use crate::join::Verdict;
use crate::parse::forms;
use crate::rule::{Form, Rule, TIES};
use trommel_core::sample::{SampleId, Score};

const NAMES: [&str; 3] = ["val", "sketch", "bare"];

fn known() -> [KnownBenchmark<'static>; 3] {
    NAMES.map(|name| KnownBenchmark { name, radii: true })
}

fn examples(threshold: f64) -> Vec<Rule> {
    let some = [None, Some(vec!["val".to_owned()]), Some(vec!["bare".to_owned(), "val".to_owned()])];
    let of = |form: &Form| some.iter().map(|names| example(*form, threshold, names.clone())).collect::<Vec<_>>();
    Form::ALL.iter().flat_map(of).collect()
}

#[test]
fn every_form_is_read_written_and_told() {
    for &form in Form::ALL {
        let simplest = form.example().unwrap();
        // On which side of it an equal similarity falls is stated.
        assert_eq!(TIES.contains(form.word()), simplest.policy().condition().is_some(), "{form:?}");
        assert_eq!(simplest.form(), form, "{simplest}");
        assert!(forms(|_| true).contains(form.spelling().0), "{form:?}");
        let unknown = "no such".parse::<Rule>().unwrap_err().to_string();
        assert!(unknown.contains(form.spelling().0), "{unknown}");
        if let Some(alias) = form.spelling().1 {
            assert!(unknown.contains(alias), "{unknown}");
            let (written, word) = (simplest.to_string(), form.word());
            let other = written.replacen(word, alias, 1);
            assert_eq!(other.parse::<Rule>().as_ref(), Ok(&simplest), "{other}");
        }
    }
    for threshold in [0.5, -0.25, 0.1 + 0.2, 1.0f64.next_down(), 1e-9] {
        for rule in examples(threshold) {
            assert_eq!(rule.to_string().parse::<Rule>().as_ref(), Ok(&rule), "{rule}");
            assert_eq!(rule.policy().names(), names(&rule), "{rule}");
        }
    }
}

/// Similarities to some points with radii, one a benchmark, most of them on a threshold or a radius, or one step beside it.
fn sample(dice: &mut Dice, threshold: f64) -> Vec<Vec<(f64, f64)>> {
    let beside = |dice: &mut Dice, x: f64| [x, x.next_up(), x.next_down(), x - 0.3, dice.symmetric()][dice.below(5)];
    let point = |dice: &mut Dice| {
        let s = beside(dice, threshold);
        (s, beside(dice, s))
    };
    (0..3).map(|_| (0..1 + dice.below(3)).map(|_| point(dice)).collect()).collect()
}

fn score(points: &[(f64, f64)]) -> Score {
    let largest = points.iter().map(|(s, _)| *s).fold(f64::NEG_INFINITY, f64::max);
    let hits = points.iter().filter(|(s, r)| s > r).count() as u32;
    Score { max_similarity: Some(largest), hits: Some(hits), ..Score::default() }
}

#[test]
fn every_rule_decides_as_the_oracle() {
    let mut dice = Dice(11);
    for threshold in [0.5, -0.0, 0.75f64.next_up()] {
        for rule in examples(threshold) {
            let policy = rule.policy();
            let counts = |name: &str| names(&rule).is_none_or(|names| names.iter().any(|other| other == name));
            let mut sides = [0; 2];
            for index in 0..400u32 {
                let points = sample(&mut dice, threshold);
                let scores: Vec<Score> = points.iter().map(|points| score(points)).collect();
                let counting = || (0..3).filter(|&at| counts(NAMES[at]));
                let seen: Vec<(f64, Option<f64>)> =
                    counting().flat_map(|at| &points[at]).map(|&(s, radius)| (s, Some(radius))).collect();
                for &(s, radius) in &seen {
                    let said = policy.condition().map(|(condition, _)| condition.limit.cut().is_hit(s, radius));
                    assert_eq!(said, hit(&rule, s, radius), "{rule} {s} {radius:?}");
                }
                let key = index.to_string();
                let Some(expected) = keeps(&rule, &seen, random_hash(3, "s", &key)) else {
                    assert!(policy.needs_ledger() && rule.check(&known(), 3).is_err(), "{rule}");
                    continue;
                };
                let judge = rule.check(&known(), 3).unwrap();
                let kept = judge.keeps("s", &key, SampleId { ordinal: 0, index }, &scores);
                assert_eq!(kept, expected, "{rule} {points:?}");
                sides[usize::from(kept)] += 1;
                let Some((_, hits_keep)) = policy.condition() else { continue };
                // A benchmark removes a sample iff it says of it what the rule drops; a dropped sample has one that does.
                let removes = |at: usize| {
                    let any = points[at].iter().any(|&(s, radius)| hit(&rule, s, Some(radius)).unwrap());
                    assert_eq!(policy.removes(&scores[at]), any != hits_keep, "{rule} {points:?}");
                    any != hits_keep
                };
                assert!(kept || counting().any(removes), "{rule} {points:?}");
                // A test point removes samples iff hits drop and one of its similarities is a hit.
                for &(s, radius) in points.iter().flatten() {
                    let said = policy.point_removes(s, u64::from(s > radius));
                    assert_eq!(said, !hits_keep && hit(&rule, s, Some(radius)).unwrap(), "{rule} {s} {radius}");
                }
            }
            assert!(
                policy.needs_ledger() || sides.iter().all(|&count| count > 0),
                "{rule} {sides:?} shows one side only"
            );
        }
    }
}

#[test]
fn what_a_score_does_not_say_removes_nothing() {
    for rule in examples(0.5) {
        assert!(!rule.policy().removes(&Score::default()), "{rule}");
    }
}

#[test]
fn decisions_in_words_say_what_was_compared() {
    let said =
        |rule: &str, dropped| rule.parse::<Rule>().unwrap().policy().because(dropped, "0.700000", "val, sketch", "val");
    for (rule, dropped, kept) in [
        ("drop-over-radius", "over the radius of test points of val", "over no radius of val, sketch"),
        ("drop-above:0.5", "0.700000 > 0.5 against val", "0.700000 <= 0.5 against val, sketch"),
        ("drop-from:0.5", "0.700000 >= 0.5 against val", "0.700000 < 0.5 against val, sketch"),
        ("drop-below:0.5", "0.700000 < 0.5 against val, sketch", "0.700000 >= 0.5 against val, sketch"),
        ("random:5%", "by the seeded hash of shard and key", "by the seeded hash of shard and key"),
        ("random:5", "by the seeded hash of shard and key", "by the seeded hash of shard and key"),
        ("far:5", "by its rank among all samples", "by its rank among all samples"),
        ("near-N:5", "by its rank among all samples", "by its rank among all samples"),
    ] {
        assert_eq!((said(rule, true).as_str(), said(rule, false).as_str()), (dropped, kept), "{rule}");
    }
}

/// What people are told of the rules that there were first, whichever have come since.
#[test]
fn help_and_refusals_tell_the_rules_as_they_did() {
    const RADII: &str = "drop-over-radius[@B,..]";
    let streaming = forms(|rule| !rule.policy().needs_ledger());
    assert!(!streaming.contains(":N"), "{streaming}");
    for known in [RADII, "drop-above:T", "drop-from:T", "drop-below:T", "random:P%"] {
        assert!(streaming.split(", ").any(|form| form == known), "{known}: {streaming}");
    }
    let maintained = forms(|rule| rule.policy().condition().is_some());
    assert!(maintained.starts_with(&format!("{RADII}, drop-above:T, drop-from:T, drop-below:T")), "{maintained}");
    assert!(!maintained.contains("random") && !maintained.contains("nearest"), "{maintained}");
    let unknown = "no".parse::<Rule>().unwrap_err().to_string();
    let list = unknown.strip_prefix("rule `no`: unknown word `no`; rules are ").unwrap();
    for known in [
        "drop-over-radius (near)",
        "drop-above:T",
        "drop-from:T",
        "drop-below:T",
        "random:P% or random:N (rand:P% or rand:N)",
        "keep-nearest:N (far:N)",
        "keep-farthest:N (near-N:N)",
    ] {
        assert!(list.split(", ").any(|form| form == known), "{known}: {list}");
    }
}
