//! What each rule means, written once more from the table in `rule.rs` with plain comparisons: nothing is shared with what is tested but the types.
//! Other rooms' tests take this file in by its path.

use trommel_decide::rule::{Form, Rule};

/// The benchmarks that a rule names; `None` = all.
pub(crate) fn names(rule: &Rule) -> Option<&[String]> {
    match rule {
        Rule::DropOverRadius(names)
        | Rule::DropAbove(_, names)
        | Rule::DropFrom(_, names)
        | Rule::DropBelow(_, names)
        | Rule::KeepNearest(_, names)
        | Rule::KeepFarthest(_, names) => names.as_deref(),
        Rule::RandomPercent(_) | Rule::RandomCount(_) => None,
        Rule::KeepHighest(..) | Rule::KeepLowest(..) | Rule::Where(_) => None,
    }
}

/// Whether a similarity to a test point counts as a hit; `None` for rules that know none.
pub(crate) fn hit(rule: &Rule, s: f64, radius: Option<f64>) -> Option<bool> {
    match rule {
        Rule::DropOverRadius(_) => Some(s > radius.unwrap()),
        Rule::DropAbove(threshold, _) => Some(s > *threshold),
        Rule::DropFrom(threshold, _) | Rule::DropBelow(threshold, _) => Some(s >= *threshold),
        Rule::RandomPercent(_) | Rule::RandomCount(_) | Rule::KeepNearest(..) | Rule::KeepFarthest(..) => None,
        Rule::KeepHighest(..) | Rule::KeepLowest(..) | Rule::Where(_) => None,
    }
}

/// Whether a sample stays, by its similarities to all test points of the benchmarks that count, each with the point's radius, and by its hash;
/// `None` for rules that must know all samples.
pub(crate) fn keeps(rule: &Rule, seen: &[(f64, Option<f64>)], hash: u64) -> Option<bool> {
    match rule {
        Rule::DropOverRadius(_) => Some(seen.iter().all(|(s, radius)| *s <= radius.unwrap())),
        Rule::DropAbove(threshold, _) => Some(seen.iter().all(|(s, _)| s <= threshold)),
        Rule::DropFrom(threshold, _) => Some(seen.iter().all(|(s, _)| s < threshold)),
        Rule::DropBelow(threshold, _) => Some(!seen.iter().all(|(s, _)| s < threshold)),
        // Binary fractions only: they have one f64.
        Rule::RandomPercent(percent) => {
            let share = percent.to_string().parse::<f64>().unwrap() / 100.0;
            Some((hash as f64) < share * 18_446_744_073_709_551_616.0)
        }
        Rule::RandomCount(_) | Rule::KeepNearest(..) | Rule::KeepFarthest(..) => None,
        Rule::KeepHighest(..) | Rule::KeepLowest(..) | Rule::Where(_) => None,
    }
}

/// A rule of each form.
pub(crate) fn example(form: Form, threshold: f64, names: Option<Vec<String>>) -> Rule {
    match form {
        Form::DropOverRadius => Rule::DropOverRadius(names),
        Form::DropAbove => Rule::DropAbove(threshold, names),
        Form::DropFrom => Rule::DropFrom(threshold, names),
        Form::DropBelow => Rule::DropBelow(threshold, names),
        Form::RandomPercent => Rule::RandomPercent("37.5".parse().unwrap()),
        Form::RandomCount => Rule::RandomCount(12),
        Form::KeepNearest => Rule::KeepNearest(34, names),
        Form::KeepFarthest => Rule::KeepFarthest(56, names),
        Form::KeepHighest => Rule::KeepHighest(78, "similarity".into()),
        Form::KeepLowest => Rule::KeepLowest(90, "similarity".into()),
        Form::Where => Rule::Where(format!("a@b>={threshold}").parse().unwrap()),
    }
}
