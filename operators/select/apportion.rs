//! An exact number apportioned to groups in proportion to their weights, none of them more than it has.
//!
//! A group that has less than its share gives all that it has, and the others share the rest, again in proportion. Shares are rounded down; what is left goes
//! to those that lost most by that, of equal ones to the group whose first row comes first. Weights count in steps of 2^-52 of the largest,
//! so that all of it is whole numbers: one answer on every machine.
//!
//! Memory: 48 bytes a group.

use crate::SelectError;
use crate::bits::Bits;
use crate::values::{MISSING, Values};

/// Bytes of a group.
const GROUP_BYTES: u64 = 48;

/// Steps of the largest weight.
const STEPS: f64 = (1u64 << 52) as f64;

/// What a number is apportioned by.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    /// Each row's group, and how many groups there are.
    pub groups: (&'a Values, u64),
    /// Each row's weight, as its place in ascending order, and who has one.
    pub places: (&'a Values, &'a Bits),
    /// The number that such a place stands for.
    pub number: fn(u64) -> f64,
    /// What the columns of groups and weights are called.
    pub columns: (&'a str, &'a str),
}

/// What a number became.
pub(crate) struct Apportioned {
    /// How many of each group.
    pub counts: Vec<u64>,
    /// Rows of groups that have a weight above 0: more cannot be apportioned.
    pub rows: u64,
    /// Rows of groups without a weight.
    pub weightless: u64,
}

/// Apportions `count` of these rows.
///
/// # Errors
/// A weight that is negative or infinite, or rows of one group with several; more groups than there is memory for; a file that cannot be read.
pub(crate) fn apportion(
    count: u64,
    of: &Bits,
    weights: Weights<'_>,
    budget_bytes: u64,
) -> Result<Apportioned, SelectError> {
    let (groups, number) = weights.groups;
    let (per, by) = weights.columns;
    if number.saturating_mul(GROUP_BYTES) > budget_bytes {
        return Err(SelectError::Input(format!(
            "per {per} by {by}: {number} values are too many to share a number among"
        )));
    }
    let (places, has_place) = weights.places;
    // By the number of a group: its rows, and its weight.
    let mut known: Vec<(u64, Option<u64>)> = vec![(0, None); number as usize];
    let mut in_order: Vec<usize> = Vec::new();
    let mut weightless = 0;
    groups.scan(|first, some| {
        let rows = first..first + some.len() as u64;
        let places = places.read(rows.clone())?;
        for ((row, &group), place) in rows.zip(some).zip(places) {
            if group == MISSING || !of.get(row) {
                continue;
            }
            if !has_place.get(row) {
                weightless += 1;
                continue;
            }
            let (rows, weight) = &mut known[group as usize];
            if *rows == 0 {
                in_order.push(group as usize);
            }
            *rows += 1;
            let before = *weight.get_or_insert(place);
            let number = (weights.number)(place);
            if before != place {
                let before = (weights.number)(before);
                return Err(SelectError::Input(format!(
                    "per {per} by {by}: samples of one `{per}` have a `{by}` of {before} and of {number}"
                )));
            }
            if !(0.0..f64::INFINITY).contains(&number) {
                return Err(SelectError::Input(format!(
                    "per {per} by {by}: a weight is no number below 0 or without end, and {number} is one"
                )));
            }
        }
        Ok(())
    })?;
    let weight = |group: &usize| known[*group].1.map_or(0.0, weights.number);
    let largest = in_order.iter().map(weight).fold(0.0, f64::max);
    let steps: Vec<(u64, u64)> = (in_order.iter())
        .map(|group| {
            (known[*group].0, if largest > 0.0 { (weight(group) / largest * STEPS).round() as u64 } else { 0 })
        })
        .collect();
    let rows = steps.iter().filter(|(_, steps)| *steps > 0).map(|(rows, _)| rows).sum();
    let mut counts = vec![0; number as usize];
    for (group, share) in in_order.into_iter().zip(shares(count, &steps)) {
        counts[group] = share;
    }
    Ok(Apportioned { counts, rows, weightless })
}

/// Each group's share of a number, from its rows and its weight in steps.
fn shares(count: u64, groups: &[(u64, u64)]) -> Vec<u64> {
    let mut shares = vec![0; groups.len()];
    let mut order: Vec<usize> = (0..groups.len()).filter(|&at| groups[at].1 > 0).collect();
    // Whoever has least beside its weight is the first to give all.
    order.sort_by(|&a, &b| {
        let ((a_rows, a_steps), (b_rows, b_steps)) = (groups[a], groups[b]);
        (u128::from(a_rows) * u128::from(b_steps)).cmp(&(u128::from(b_rows) * u128::from(a_steps))).then(a.cmp(&b))
    });
    let mut weight: u128 = order.iter().map(|&at| u128::from(groups[at].1)).sum();
    let mut left = u128::from(count);
    let mut rest = order.as_slice();
    while let [first, others @ ..] = rest {
        let (rows, steps) = groups[*first];
        if u128::from(rows) * weight > left * u128::from(steps) {
            break;
        }
        shares[*first] = rows;
        left -= u128::from(rows);
        weight -= u128::from(steps);
        rest = others;
    }
    let mut over: Vec<(u128, usize)> = Vec::with_capacity(rest.len());
    let mut apportioned = 0;
    for &at in rest {
        let share = left * u128::from(groups[at].1);
        // Below its rows, of which it has more than its share.
        shares[at] = (share / weight) as u64;
        apportioned += share / weight;
        over.push((share % weight, at));
    }
    over.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    over.iter().take((left - apportioned) as usize).for_each(|&(_, at)| shares[at] += 1);
    shares
}

#[cfg(test)]
mod tests {
    use super::shares;

    /// The shares are worked out by hand.
    #[test]
    fn shares_are_in_proportion_and_nobody_gives_more_than_it_has() {
        assert_eq!(shares(10, &[(100, 1), (100, 4)]), [2, 8]);
        assert_eq!(shares(10, &[(100, 1), (5, 4)]), [5, 5]);
        assert_eq!(shares(10, &[(3, 1), (5, 4)]), [3, 5]);
        assert_eq!(shares(0, &[(3, 1), (5, 4)]), [0, 0]);
        assert_eq!(shares(7, &[(9, 1), (9, 0), (9, 1)]), [4, 0, 3]);
        // Thirds: 10 / 3 each, and the one over goes to the first.
        assert_eq!(shares(10, &[(9, 5), (9, 5), (9, 5)]), [4, 3, 3]);
        // 1.6, 1.6, 4.8: two are over, for the fractions of 0.8 and the first 0.6.
        assert_eq!(shares(8, &[(9, 2), (9, 2), (9, 6)]), [2, 1, 5]);
        assert!(shares(8, &[]).is_empty());
        let most = (u64::from(u32::MAX), 1 << 52);
        assert_eq!(shares(u64::from(u32::MAX), &[most, most]), [1 << 31, (1 << 31) - 1]);
    }
}
