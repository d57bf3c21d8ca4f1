//! Rules: what is understood, what is refused and how, what is kept.

use crate::checked_rule::{CheckedRule, KnownBenchmark, RuleError};
use crate::hash::random_hash;
use crate::join::{Needs, Verdict};
use crate::percent::Percent;
use crate::rule::Rule;
use trommel_core::sample::{SampleId, Score};

const BENCHMARKS: [KnownBenchmark<'static>; 3] = [
    KnownBenchmark { name: "val", radii: true },
    KnownBenchmark { name: "sketch", radii: true },
    KnownBenchmark { name: "bare", radii: false },
];

fn judge(rule: &str) -> Result<CheckedRule, RuleError> {
    rule.parse::<Rule>()?.check(&BENCHMARKS, 7)
}

fn keeps(rule: &str, scores: &[Score]) -> bool {
    judge(rule).unwrap().keeps("s", "k", SampleId { ordinal: 0, index: 0 }, scores)
}

#[test]
fn hashes_equal_pythons() {
    // Printed by hash_vectors.py (hashlib, fractions).
    let long = ("a".repeat(100), "b".repeat(100));
    let vectors = [
        (0, "", "", 0xdb89_1c0d_6635_d7ca),
        (0, "00000.tar", "000000000", 0x309c_8e47_000a_c205),
        (1, "00000.tar", "000000000", 0xa9d6_ce3c_a85a_9cee),
        (0, "00000.tar", "000000001", 0x2329_183b_c943_1b78),
        (0, "00000.tar0", "00000000", 0xa752_4696_c880_be7d),
        (u64::MAX, "laion/é/00001.tar", "ключ", 0x1ec8_fed7_14b2_e48b),
        (42, &long.0, &long.1, 0x74cb_0e5f_4b5a_c0de),
    ];
    for (seed, shard, key, expected) in vectors {
        assert_eq!(random_hash(seed, shard, key), expected, "{seed} {shard} {key}");
    }
}

#[test]
fn thresholds_equal_pythons() {
    let vectors = [
        ("0", 0),
        ("0.000000000000000001", 0),
        ("1", 184_467_440_737_095_516),
        ("12.5", 2_305_843_009_213_693_952),
        ("33.3333", 6_148_908_542_321_825_968),
        ("50", 9_223_372_036_854_775_808),
        ("99.9", 18_428_297_329_635_842_064),
        ("99.999999999999999999", 18_446_744_073_709_551_615),
        ("7.0", 1_291_272_085_159_668_613),
    ];
    for (text, expected) in vectors {
        let percent: Percent = text.parse().unwrap();
        assert_eq!(percent.threshold(), Some(expected), "{text}");
        assert!(!percent.takes(expected) && (expected == 0 || percent.takes(expected - 1)));
    }
    for text in ["100", "100.000", "0100"] {
        let all: Percent = text.parse().unwrap();
        assert!(all.threshold().is_none() && all.takes(u64::MAX) && all.to_string() == "100");
    }
    for text in [
        "",
        "-1",
        "1e2",
        ".5",
        "5.",
        "100.0000001",
        "101",
        "0.1234567890123456789",
        "99999999999999999999999999999999999999999",
        "١",
    ] {
        assert!(text.parse::<Percent>().is_err(), "{text}");
    }
    assert_eq!("0012.3400".parse::<Percent>().unwrap().to_string(), "12.34");
    assert_eq!("0.05".parse::<Percent>().unwrap().to_string(), "0.05");
}

#[test]
fn every_rule_is_read_and_written() {
    for (written, canonical) in [
        ("drop-over-radius", "drop-over-radius"),
        ("near", "drop-over-radius"),
        ("near@val,sketch", "drop-over-radius@val,sketch"),
        ("drop-above:0.95", "drop-above:0.95"),
        ("drop-above:9.5e-1@val", "drop-above:0.95@val"),
        ("drop-from:1", "drop-from:1"),
        ("drop-below:-0.25@bare", "drop-below:-0.25@bare"),
        ("far:100", "keep-nearest:100"),
        ("keep-nearest:5@val", "keep-nearest:5@val"),
        ("near-N:100", "keep-farthest:100"),
        ("keep-farthest:0", "keep-farthest:0"),
        ("rand:12.50%", "random:12.5%"),
        ("random:100%", "random:100%"),
        ("rand:1000", "random:1000"),
    ] {
        let rule: Rule = written.parse().unwrap();
        assert_eq!(rule.to_string(), canonical);
        assert_eq!(canonical.parse::<Rule>().unwrap(), rule);
    }
}

#[test]
fn refusals_are_one_line_and_name_the_part() {
    for (rule, expected) in [
        ("drop-above", "rule `drop-above`: `drop-above` needs a threshold: drop-above:T"),
        ("drop-above:", "rule `drop-above:`: `drop-above` needs a threshold: drop-above:T"),
        ("drop-above:x@val", "rule `drop-above:x@val`: threshold `x` is no number"),
        ("drop-above:nan", "rule `drop-above:nan`: threshold `nan` is no number"),
        ("drop-above:inf", "rule `drop-above:inf`: threshold `inf` is no number"),
        ("drop-from:95", "rule `drop-from:95`: threshold `95` is no cosine (those lie between -1 and 1)"),
        ("near:5", "rule `near:5`: `near` takes no number (for the N farthest write keep-farthest:N)"),
        ("near@", "rule `near@`: the list after @ has an empty name: `@`"),
        ("near@val,", "rule `near@val,`: the list after @ has an empty name: `@val,`"),
        ("near@val,val", "rule `near@val,val`: benchmark `val` stands twice in `@val,val`"),
        ("far", "rule `far`: `far` needs a number: far:N"),
        ("far:-1", "rule `far:-1`: number `-1` is no count of samples"),
        ("far:1.5", "rule `far:1.5`: number `1.5` is no count of samples"),
        ("far:30%", "rule `far:30%`: number `30%` is no count of samples; a share of them is a threshold, where:C>=T"),
        ("random", "rule `random`: `random` needs a number or a percentage: random:N"),
        ("random:101%", "rule `random:101%`: percentage `101` is more than 100"),
        ("random:1x%", "rule `random:1x%`: percentage `1x` is no decimal number such as 50 or 12.5"),
        ("random:5%@val", "rule `random:5%@val`: `random` looks at no benchmark, so it takes no @ list"),
        ("near@no", "rule `drop-over-radius@no`: no benchmark `no`; there is val, sketch, bare"),
        (
            "near",
            "rule `drop-over-radius` needs radii and benchmark `bare` has none: make them with \
             `trommel radii --reference DIR --benchmark bare=DIR -o DIR`",
        ),
        (
            "far:10@val",
            "rule `keep-nearest:10@val` needs a finished ledger: prune first, then \
             `trommel select DIR --rule keep-nearest:10@val -o FILE.parquet` and `--split FILE.parquet`",
        ),
    ] {
        assert_eq!(judge(rule).unwrap_err().to_string(), expected);
    }
    for rule in ["", "Near", "drop", "@val", ":5"] {
        let line = judge(rule).unwrap_err().to_string();
        assert!(line.contains("rules are drop-over-radius") && !line.contains('\n'), "{line}");
    }
    assert!(matches!(judge("random:5"), Err(RuleError::NeedsLedger { .. })));
    assert!(matches!("near".parse::<Rule>().unwrap().check(&[], 0), Err(RuleError::NoBenchmark { .. })));
    assert!("random:5%".parse::<Rule>().unwrap().check(&[], 0).is_ok());
}

#[test]
fn thresholds_and_radii_cut_on_the_stated_side() {
    let at = |s: f64, hits: u32| {
        let margin = if hits > 0 { 1e-9 } else { 0.0 };
        Score { max_similarity: Some(s), nearest: Some(0), margin: Some(margin), exceeds: Some(0), hits: Some(hits) }
    };
    let scores = [at(0.5, 0), at(0.75, 1), Score { max_similarity: Some(0.9), ..Score::default() }];
    assert!(!keeps("near@val,sketch", &scores) && keeps("near@val", &scores) && !keeps("near@sketch", &scores));
    // On the threshold: above keeps, from drops, below keeps.
    assert!(keeps("drop-above:0.75@sketch", &scores) && !keeps("drop-from:0.75@sketch", &scores));
    assert!(keeps("drop-below:0.75@sketch", &scores));
    let beside = [at(0.0, 0), at(0.75f64.next_up(), 0), Score::default()];
    assert!(!keeps("drop-above:0.75@sketch", &beside) && keeps("drop-below:0.75@sketch", &beside));
    let beside = [at(0.0, 0), at(0.75f64.next_down(), 0), Score::default()];
    assert!(keeps("drop-from:0.75@sketch", &beside) && !keeps("drop-below:0.75@sketch", &beside));
    // The maximum over the named ones; all where none is named.
    assert!(!keeps("drop-above:0.75", &scores) && keeps("drop-above:0.75@val,sketch", &scores));
    // A canonical 0.8 is no f64 literal 0.8 unless it is: nothing is rounded on the way.
    assert!(keeps("drop-above:0.1", &[at(0.1, 0), at(0.0, 0), at(0.0, 0)]));
}

#[test]
fn needs_are_what_is_read() {
    let judge = judge("drop-above:0.5@val,bare").unwrap();
    let read = |at| judge.needs(at);
    assert_eq!(read(0), Needs { maximum: true, radii: false });
    assert_eq!(read(1), Needs { maximum: false, radii: false });
    assert_eq!(read(2), read(0));
    assert_eq!(super::rules::judge("near@sketch").unwrap().needs(1), Needs { maximum: false, radii: true });
}

#[test]
fn random_keeps_its_share_and_shares_are_nested() {
    let count = |percent: &str| {
        let judge = judge(&format!("random:{percent}%")).unwrap();
        let kept = |k: &u32| judge.keeps("s.tar", &k.to_string(), SampleId { ordinal: 0, index: *k }, &[]);
        (0..20_000u32).filter(kept).collect::<std::collections::BTreeSet<u32>>()
    };
    let (none, some, more, all) = (count("0"), count("10"), count("30.5"), count("100"));
    assert!(none.is_empty() && all.len() == 20_000);
    assert!(some.is_subset(&more));
    // Within six standard deviations, and the same for ever.
    assert!(some.len().abs_diff(2000) < 255 && more.len().abs_diff(6100) < 391, "{} {}", some.len(), more.len());
}
