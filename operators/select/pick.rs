//! The first N of all rows in an order, exactly, for each group of them, without sorting: the N-th value is found digit by digit.
//!
//! Each pass over the values counts how many rows have which next digit, among those that share the digits found so far; so the
//! first digits of the N-th value come first, and after the last digit it is known, and how many of the rows that equal it are still
//! wanted: the first ones in the order of the rows. A last pass marks. Memory is the counters, and they are bounded: groups that are
//! too many for one sweep take several. Where that would be more passes than rows fit into memory at a time, those of some groups are taken out and
//! sorted instead (`pick/sorted.rs`): passes grow with the rows, never with the product of rows and groups.
//!
//! ```
//! use trommel_select::bits::Bits;
//! use trommel_select::pick::{Lack, Quota, pick};
//! use trommel_select::values::Values;
//! let mut places = Values::new(&std::env::temp_dir(), true)?;
//! places.add(&[7, 5, 7, 7, 9])?;
//! let all: Bits = [true; 5].into_iter().collect();
//! let picked = pick(&places, &[Quota { count: 2, counts: None, of: &all, groups: None }], 1 << 20)?;
//! assert_eq!(picked[0].rows, [true, true, false, false, false].into_iter().collect());
//! assert_eq!(picked[0].lack, Lack { served: 1, ..Lack::default() });
//! # Ok::<(), trommel_select::SelectError>(())
//! ```

use std::ops::Range;

use crate::SelectError;
use crate::bits::Bits;
use crate::values::Values;

mod sorted;

/// How many rows are wanted, and of which.
#[derive(Clone, Copy, Debug)]
pub struct Quota<'a> {
    /// So many, of each group.
    pub count: u64,
    /// So many of each group instead, by its number.
    pub counts: Option<&'a [u64]>,
    /// Only these rows may be taken.
    pub of: &'a Bits,
    /// Each row's group, and how many groups there are; a row of none of them is not taken. `None` = all rows are one.
    pub groups: Option<(&'a Values, u64)>,
}

/// What became of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// The rows that were taken.
    pub rows: Bits,
    /// By how much it falls short of what was wanted.
    pub lack: Lack,
}

/// How far a quota was from being met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lack {
    /// Groups that have a row.
    pub served: u64,
    /// Of these, groups that have fewer rows than are wanted.
    pub short: u64,
    /// Rows that these lack.
    pub rows: u64,
}

impl Lack {
    /// Takes in a group of so many rows.
    fn group(&mut self, has: u64, wanted: u64) {
        self.served += u64::from(has > 0);
        if has > 0 && has < wanted {
            self.short += 1;
            self.rows += wanted - has;
        }
    }
}

/// Bits of a digit where all rows are one group, and where there are many.
const WIDE: u32 = 16;
const NARROW: u32 = 8;

/// Bytes of a group beside its counters.
const GROUP_BYTES: u64 = 64;

/// The quota of some of its groups.
struct Job {
    quota: usize,
    first_group: u64,
    digit_bits: u32,
    /// Bits of the digits that are known.
    known_bits: u32,
    counters: Vec<u64>,
    searches: Vec<GroupSearch>,
}

/// What is known of a group's last value.
#[derive(Clone, Copy, Debug)]
enum GroupSearch {
    /// Its first digits, and how many are wanted of the rows that share them.
    Digits(u64, u64),
    /// Whoever comes before this value is taken, and so many of those that equal it.
    Found(u64, u64),
}

/// For each quota its rows, by their `places`, smaller ones first. `budget_bytes` bounds the counters.
///
/// # Errors
/// A file that cannot be read.
pub fn pick(places: &Values, quotas: &[Quota<'_>], budget_bytes: u64) -> Result<Vec<Picked>, SelectError> {
    let none = |quota: &Quota<'_>| Picked { rows: Bits::zeros(quota.of.len()), lack: Lack::default() };
    let mut picked: Vec<Picked> = quotas.iter().map(none).collect();
    let mut waiting = Vec::new();
    for (at, (quota, picked)) in quotas.iter().zip(&mut picked).enumerate() {
        let left = match quota.groups {
            Some((values, groups)) if sorted::takes_fewer_passes(quota, groups, budget_bytes) => {
                sorted::pick(places, quota, (values, groups), budget_bytes, picked)?
            }
            Some((_, groups)) => std::iter::once(0..groups).collect(),
            None => std::iter::once(0..1).collect(),
        };
        waiting.extend(left.into_iter().flat_map(|groups| jobs(at, quota, groups, budget_bytes)));
    }
    let mut waiting = waiting.into_iter().peekable();
    while waiting.peek().is_some() {
        // As many at a time as the counters' budget has room for, and at least one.
        let (mut now, mut bytes) = (Vec::new(), 0);
        while let Some(mut job) = waiting.next_if(|job| bytes == 0 || bytes + job.bytes() <= budget_bytes) {
            bytes += job.bytes();
            job.counters = vec![0; job.searches.len() << job.digit_bits];
            now.push(job);
        }
        while now.iter().any(Job::seeks) {
            each_row(places, quotas, &mut now, |job, _, group, place| job.count(group, place))?;
            for job in now.iter_mut().filter(|job| job.seeks()) {
                let lack = &mut picked[job.quota].lack;
                job.narrow(lack);
            }
        }
        each_row(places, quotas, &mut now, |job, row, group, place| {
            if job.takes(group, place) {
                picked[job.quota].rows.set(row);
            }
        })?;
    }
    Ok(picked)
}

/// Groups whose counters have room at a time.
fn groups_at_once(digit_bits: u32, budget_bytes: u64) -> u64 {
    (budget_bytes / ((8 << digit_bits) + GROUP_BYTES)).max(1)
}

fn jobs(quota: usize, of: &Quota<'_>, groups: Range<u64>, budget_bytes: u64) -> Vec<Job> {
    let digit_bits = if of.groups.is_none() { WIDE } else { NARROW };
    let at_once = groups_at_once(digit_bits, budget_bytes);
    let (mut jobs, mut first_group) = (Vec::new(), groups.start);
    while first_group < groups.end {
        let end = groups.end.min(first_group.saturating_add(at_once));
        let searches = (first_group..end).map(|group| GroupSearch::Digits(0, of.wanted(group))).collect();
        jobs.push(Job { quota, first_group, digit_bits, known_bits: 0, counters: Vec::new(), searches });
        first_group = end;
    }
    jobs
}

impl Quota<'_> {
    /// How many are wanted of a group.
    fn wanted(&self, group: u64) -> u64 {
        self.counts.map_or(self.count, |counts| counts[group as usize])
    }
}

/// Calls with every row that takes part in a job: the row, its group's place in the job, its place in the order.
fn each_row(
    places: &Values,
    quotas: &[Quota<'_>],
    jobs: &mut [Job],
    mut each: impl FnMut(&mut Job, u64, usize, u64),
) -> Result<(), SelectError> {
    places.scan(|first, some| {
        for job in jobs.iter_mut() {
            let quota = &quotas[job.quota];
            let groups = match quota.groups {
                Some((values, _)) => Some(values.read(first..first + some.len() as u64)?),
                None => None,
            };
            for ((at, &place), row) in some.iter().enumerate().zip(first..) {
                if quota.of.get(row) {
                    let group = groups.as_ref().map_or(0, |groups| groups[at]).wrapping_sub(job.first_group);
                    if group < job.searches.len() as u64 {
                        each(job, row, group as usize, place);
                    }
                }
            }
        }
        Ok(())
    })
}

impl Job {
    fn bytes(&self) -> u64 {
        (self.searches.len() as u64) * ((8 << self.digit_bits) + GROUP_BYTES)
    }

    fn seeks(&self) -> bool {
        self.searches.iter().any(|search| matches!(search, GroupSearch::Digits(..)))
    }

    /// Bits behind the digit that is counted now.
    const fn rest_bits(&self) -> u32 {
        u64::BITS - self.known_bits - self.digit_bits
    }

    fn count(&mut self, group: usize, place: u64) {
        let GroupSearch::Digits(known, _) = self.searches[group] else { return };
        if self.known_bits == 0 || place >> (u64::BITS - self.known_bits) == known {
            let digit = place >> self.rest_bits() & ((1 << self.digit_bits) - 1);
            self.counters[group << self.digit_bits | digit as usize] += 1;
        }
    }

    /// Takes the next digit from the counters. The first one's count all rows of a group, and tell what it lacks.
    fn narrow(&mut self, lack: &mut Lack) {
        let (digit_bits, rest_bits, is_first) = (self.digit_bits, self.rest_bits(), self.known_bits == 0);
        for (search, counters) in self.searches.iter_mut().zip(self.counters.chunks_exact(1 << digit_bits)) {
            let GroupSearch::Digits(known, wanted) = *search else { continue };
            if is_first {
                lack.group(counters.iter().sum(), wanted);
            }
            let mut before = 0;
            let digit = (0..).zip(counters).find(|(_, count)| {
                before += **count;
                before >= wanted
            });
            *search = match digit {
                _ if wanted == 0 => GroupSearch::Found(0, 0),
                // Fewer than are wanted: all.
                None => GroupSearch::Found(u64::MAX, u64::MAX),
                Some((digit, count)) => {
                    let known = known << digit_bits | digit;
                    let wanted = wanted - (before - count);
                    if wanted == *count {
                        // All that share these digits: nothing more need be known.
                        GroupSearch::Found(known << rest_bits | ((1 << rest_bits) - 1), u64::MAX)
                    } else if rest_bits == 0 {
                        GroupSearch::Found(known, wanted)
                    } else {
                        GroupSearch::Digits(known, wanted)
                    }
                }
            };
        }
        self.known_bits += digit_bits;
        self.counters.fill(0);
    }

    fn takes(&mut self, group: usize, place: u64) -> bool {
        let GroupSearch::Found(value, equals) = &mut self.searches[group] else { return false };
        if place == *value && *equals > 0 {
            *equals -= 1;
            return true;
        }
        place < *value
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::values::MISSING;

    fn values(of: &[u64], in_memory: bool) -> Values {
        let mut values = Values::new(&std::env::temp_dir(), in_memory).unwrap();
        values.add(of).unwrap();
        values
    }

    /// As many groups as there are rows, or nearly: a few passes, not one for every few groups.
    #[test]
    fn passes_do_not_grow_with_the_groups() {
        let mut state = 7u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let rows = 100_000;
        // Half of the rows are of one group.
        let groups: Vec<u64> = (0..rows).map(|_| if next(2) == 0 { 3 } else { next(90_000) }).collect();
        let places: Vec<u64> = (0..rows).map(|_| next(1_000)).collect();
        let all: Bits = (0..rows).map(|_| true).collect();
        let (in_order, in_groups) = (values(&places, true), values(&groups, true));
        let quota = Quota { count: 2, counts: None, of: &all, groups: Some((&in_groups, 90_000)) };
        let picked = pick(&in_order, &[quota], 1 << 20).unwrap().remove(0);
        // 24 bytes a row are three times the budget: three ranges, what is counted before, and the large group's nine.
        assert!(in_order.scans() + in_groups.scans() < 20, "{} {}", in_order.scans(), in_groups.scans());
        let mut sorted: Vec<usize> = (0..rows).collect();
        sorted.sort_by_key(|&at| (groups[at], places[at], at));
        let (mut due, mut lack) = (Bits::zeros(rows as u64), Lack::default());
        for group in sorted.chunk_by(|&a, &b| groups[a] == groups[b]) {
            group.iter().take(2).for_each(|&at| due.set(at as u64));
            lack.served += 1;
            lack.short += u64::from(group.len() < 2);
            lack.rows += 2u64.saturating_sub(group.len() as u64);
        }
        assert_eq!((picked.rows, picked.lack), (due, lack));
    }

    #[test]
    fn any_budget_picks_what_sorting_picks() {
        let mut state = 1u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for (round, rows) in [0, 1, 900, 900, 900].into_iter().enumerate() {
            // Equal ones, neighbours, and the two ends of all numbers.
            let ends = [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1, 0xffff, 0x10000];
            let places: Vec<u64> =
                (0..rows).map(|_| if next(2) == 0 { ends[next(8) as usize] } else { next(9) << next(60) }).collect();
            let groups: Vec<u64> = (0..rows).map(|_| if next(7) == 0 { MISSING } else { next(11) }).collect();
            let of: Vec<bool> = (0..rows).map(|_| next(5) > 0).collect();
            let wanted = [0, 1, 2, 13, 40, 5000];
            let (in_order, in_groups) = (values(&places, round % 2 == 0), values(&groups, round % 2 == 1));
            let bits: Bits = of.iter().copied().collect();
            let quota = |count, grouped: bool| Quota {
                count,
                counts: None,
                of: &bits,
                groups: grouped.then_some((&in_groups, 11)),
            };
            let each: Vec<u64> = (0..11).map(|group| wanted[group % 6]).collect();
            let mut quotas: Vec<Quota<'_>> =
                wanted.iter().flat_map(|&count| [quota(count, false), quota(count, true)]).collect();
            quotas.push(Quota { counts: Some(&each), ..quota(0, true) });
            for budget_bytes in [1, 5_000, 1 << 22] {
                for (quota, picked) in quotas.iter().zip(pick(&in_order, &quotas, budget_bytes).unwrap()) {
                    let mut due = vec![false; rows];
                    let mut lack = Lack::default();
                    for group in 0..if quota.groups.is_some() { 11 } else { 1 } {
                        let in_it = |&at: &usize| of[at] && (quota.groups.is_none() || groups[at] == group);
                        let mut sorted: Vec<usize> = (0..rows).filter(in_it).collect();
                        sorted.sort_by_key(|&at| places[at]);
                        let count = quota.counts.map_or(quota.count, |counts| counts[group as usize]);
                        let lacks = count.saturating_sub(sorted.len() as u64);
                        if !sorted.is_empty() {
                            lack.served += 1;
                            lack.short += u64::from(lacks > 0);
                            lack.rows += lacks;
                        }
                        sorted.into_iter().take(count as usize).for_each(|at| due[at] = true);
                    }
                    assert_eq!(picked.rows, due.into_iter().collect(), "{round} {} {budget_bytes}", quota.count);
                    assert_eq!(picked.lack, lack, "{round} {} {budget_bytes}", quota.count);
                }
            }
        }
    }
}
