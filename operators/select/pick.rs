//! The first N of all rows in an order, exactly, for each group of them, without sorting: the N-th value is found digit by digit.
//!
//! Each pass over the values counts how many rows have which next digit, among those that share the digits found so far; so the
//! first digits of the N-th value come first, and after the last digit it is known, and how many of the rows that equal it are still
//! wanted: the first ones in the order of the rows. A last pass marks. Memory is the counters, and they are bounded: groups that are
//! too many for one sweep take several.
//!
//! ```
//! use trommel_select::bits::Bits;
//! use trommel_select::pick::{Quota, pick};
//! use trommel_select::values::Values;
//! let mut places = Values::new(&std::env::temp_dir(), true)?;
//! places.add(&[7, 5, 7, 7, 9])?;
//! let all: Bits = [true; 5].into_iter().collect();
//! let picked = pick(&places, &[Quota { count: 2, of: &all, groups: None }], 1 << 20)?;
//! assert_eq!(picked[0], [true, true, false, false, false].into_iter().collect());
//! # Ok::<(), trommel_select::SelectError>(())
//! ```

use crate::SelectError;
use crate::bits::Bits;
use crate::values::Values;

/// How many rows are wanted, and of which.
#[derive(Clone, Copy, Debug)]
pub struct Quota<'a> {
    /// So many, of each group.
    pub count: u64,
    /// Of these rows.
    pub of: &'a Bits,
    /// Each row's group, and how many groups there are; a row of none of them is not taken. `None` = all rows are one.
    pub groups: Option<(&'a Values, u64)>,
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
    sought: Vec<Sought>,
}

/// What is known of a group's last value.
#[derive(Clone, Copy, Debug)]
enum Sought {
    /// Its first digits, and how many are wanted of the rows that share them.
    Digits(u64, u64),
    /// Whoever comes before this value is taken, and so many of those that equal it.
    Found(u64, u64),
}

/// For each quota its rows, by their `places`, smaller ones first. `budget_bytes` bounds the counters.
///
/// # Errors
/// A file that cannot be read.
pub fn pick(places: &Values, quotas: &[Quota<'_>], budget_bytes: u64) -> Result<Vec<Bits>, SelectError> {
    let mut picked: Vec<Bits> = quotas.iter().map(|quota| Bits::zeros(quota.of.len())).collect();
    let mut waiting = jobs(quotas, budget_bytes).into_iter().peekable();
    while waiting.peek().is_some() {
        // As many at a time as the counters' budget has room for, and at least one.
        let (mut now, mut bytes) = (Vec::new(), 0);
        while let Some(mut job) = waiting.next_if(|job| bytes == 0 || bytes + job.bytes() <= budget_bytes) {
            bytes += job.bytes();
            job.counters = vec![0; job.sought.len() << job.digit_bits];
            now.push(job);
        }
        while now.iter().any(Job::seeks) {
            each_row(places, quotas, &mut now, |job, _, group, place| job.count(group, place))?;
            now.iter_mut().filter(|job| job.seeks()).for_each(Job::narrow);
        }
        each_row(places, quotas, &mut now, |job, row, group, place| {
            if job.takes(group, place) {
                picked[job.quota].set(row);
            }
        })?;
    }
    Ok(picked)
}

fn jobs(quotas: &[Quota<'_>], budget_bytes: u64) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (quota, of) in quotas.iter().enumerate() {
        let groups = of.groups.map_or(1, |(_, groups)| groups);
        let digit_bits = if groups == 1 { WIDE } else { NARROW };
        let at_once = (budget_bytes / ((8 << digit_bits) + GROUP_BYTES)).max(1);
        let mut first_group = 0;
        while first_group < groups {
            let some = at_once.min(groups - first_group);
            let sought = vec![Sought::Digits(0, of.count); some as usize];
            jobs.push(Job { quota, first_group, digit_bits, known_bits: 0, counters: Vec::new(), sought });
            first_group += some;
        }
    }
    jobs
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
                    if group < job.sought.len() as u64 {
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
        (self.sought.len() as u64) * ((8 << self.digit_bits) + GROUP_BYTES)
    }

    fn seeks(&self) -> bool {
        self.sought.iter().any(|sought| matches!(sought, Sought::Digits(..)))
    }

    /// Bits behind the digit that is sought now.
    const fn rest_bits(&self) -> u32 {
        u64::BITS - self.known_bits - self.digit_bits
    }

    fn count(&mut self, group: usize, place: u64) {
        let Sought::Digits(known, _) = self.sought[group] else { return };
        if self.known_bits == 0 || place >> (u64::BITS - self.known_bits) == known {
            let digit = place >> self.rest_bits() & ((1 << self.digit_bits) - 1);
            self.counters[group << self.digit_bits | digit as usize] += 1;
        }
    }

    /// Takes the next digit from the counters.
    fn narrow(&mut self) {
        let (digit_bits, rest_bits) = (self.digit_bits, self.rest_bits());
        for (sought, counters) in self.sought.iter_mut().zip(self.counters.chunks_exact(1 << digit_bits)) {
            let Sought::Digits(known, wanted) = *sought else { continue };
            let mut before = 0;
            let digit = (0..).zip(counters).find(|(_, count)| {
                before += **count;
                before >= wanted
            });
            *sought = match digit {
                _ if wanted == 0 => Sought::Found(0, 0),
                // Fewer than are wanted: all.
                None => Sought::Found(u64::MAX, u64::MAX),
                Some((digit, count)) => {
                    let known = known << digit_bits | digit;
                    let wanted = wanted - (before - count);
                    if wanted == *count {
                        // All that share these digits: nothing more need be known.
                        Sought::Found(known << rest_bits | ((1 << rest_bits) - 1), u64::MAX)
                    } else if rest_bits == 0 {
                        Sought::Found(known, wanted)
                    } else {
                        Sought::Digits(known, wanted)
                    }
                }
            };
        }
        self.known_bits += digit_bits;
        self.counters.fill(0);
    }

    fn takes(&mut self, group: usize, place: u64) -> bool {
        let Sought::Found(value, equals) = &mut self.sought[group] else { return false };
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
            let quota = |count, grouped: bool| Quota { count, of: &bits, groups: grouped.then_some((&in_groups, 11)) };
            let quotas: Vec<Quota<'_>> =
                wanted.iter().flat_map(|&count| [quota(count, false), quota(count, true)]).collect();
            for budget_bytes in [1, 5_000, 1 << 22] {
                for (quota, picked) in quotas.iter().zip(pick(&in_order, &quotas, budget_bytes).unwrap()) {
                    let mut due = vec![false; rows];
                    for group in 0..if quota.groups.is_some() { 11 } else { 1 } {
                        let in_it = |&at: &usize| of[at] && (quota.groups.is_none() || groups[at] == group);
                        let mut sorted: Vec<usize> = (0..rows).filter(in_it).collect();
                        sorted.sort_by_key(|&at| places[at]);
                        sorted.into_iter().take(quota.count as usize).for_each(|at| due[at] = true);
                    }
                    assert_eq!(picked, due.into_iter().collect(), "{round} {} {budget_bytes}", quota.count);
                }
            }
        }
    }
}
