//! The rows of some groups at a time, taken out and sorted: for groups that are so many that their counters had room for a few of them only.
//!
//! One pass counts rows in ranges of groups, and each further one takes out as many ranges as there is memory for. A range that has no room by itself
//! is left to the counters.

use std::ops::Range;

use super::{GROUP_BYTES, NARROW, Picked, Quota, groups_at_once};
use crate::SelectError;
use crate::values::Values;

/// Bytes of a row that is taken out: its group, its place, its number.
const ROW_BYTES: u64 = 24;

/// Ranges that are counted.
const RANGES: u64 = 1 << 12;

/// Whether sorting takes fewer passes than counting digits.
pub(super) fn takes_fewer_passes(quota: &Quota<'_>, groups: u64, budget_bytes: u64) -> bool {
    let digits = groups.div_ceil(groups_at_once(NARROW, budget_bytes)) * u64::from(u64::BITS / NARROW + 1);
    let sorting = 2 + (quota.of.count() * ROW_BYTES).div_ceil(budget_bytes.max(1));
    budget_bytes >= RANGES * GROUP_BYTES && sorting < digits
}

/// Picks, and gives the groups that are left to others.
pub(super) fn pick(
    places: &Values,
    quota: &Quota<'_>,
    (values, groups): (&Values, u64),
    budget_bytes: u64,
    picked: &mut Picked,
) -> Result<Vec<Range<u64>>, SelectError> {
    let width = groups.div_ceil(RANGES).max(1);
    let mut counts = vec![0u64; groups.div_ceil(width) as usize];
    values.scan(|first, some| {
        for (row, &group) in (first..).zip(some) {
            if group < groups && quota.of.get(row) {
                counts[(group / width) as usize] += 1;
            }
        }
        Ok(())
    })?;
    let most = budget_bytes / ROW_BYTES;
    let end = |range: usize| groups.min((range as u64 + 1) * width);
    let (mut left, mut at) = (Vec::new(), 0);
    while at < counts.len() {
        let first = at as u64 * width;
        if counts[at] > most {
            left.push(first..end(at));
            at += 1;
            continue;
        }
        let mut rows = 0;
        while at < counts.len() && rows + counts[at] <= most {
            rows += counts[at];
            at += 1;
        }
        if rows > 0 {
            sort(places, quota, (values, first..end(at - 1)), rows, picked)?;
        }
    }
    Ok(left)
}

fn sort(
    places: &Values,
    quota: &Quota<'_>,
    (values, groups): (&Values, Range<u64>),
    rows: u64,
    picked: &mut Picked,
) -> Result<(), SelectError> {
    let mut taken: Vec<(u64, u64, u64)> = Vec::with_capacity(rows as usize);
    values.scan(|first, some| {
        let rows = first..first + some.len() as u64;
        let places = places.read(rows.clone())?;
        for ((row, &group), place) in rows.zip(some).zip(places) {
            if groups.contains(&group) && quota.of.get(row) {
                taken.push((group, place, row));
            }
        }
        Ok(())
    })?;
    taken.sort_unstable();
    for group in taken.chunk_by(|a, b| a.0 == b.0) {
        let wanted = quota.wanted(group[0].0);
        picked.lack.group(group.len() as u64, wanted);
        group.iter().take(wanted.min(group.len() as u64) as usize).for_each(|&(.., row)| picked.rows.set(row));
    }
    Ok(())
}
