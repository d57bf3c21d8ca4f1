//! The turns of samples that are not trained, as runs: a shard of a million dropped samples holds one entry.
//!
//! Runs do not touch: what comes next to a run lengthens it. So their number is bounded by the samples between them, which
//! have credit or are still being judged with it.

use std::collections::BTreeMap;
use std::ops::Range;

/// Indices of one shard, as runs that neither overlap nor touch.
#[derive(Debug, Default)]
pub(super) struct Holes {
    /// Each run's end (exclusive) by its start.
    runs: BTreeMap<u32, u32>,
    /// Taken off `runs` and being used up; before all of them.
    front: Range<u32>,
}

impl Holes {
    /// Adds indices; at the first that is there already nothing changes and it is returned.
    pub(super) fn insert(&mut self, added: Range<u32>) -> Result<(), u32> {
        if added.is_empty() {
            return Ok(());
        }
        if added.start < self.front.end && self.front.start < added.end {
            return Err(added.start.max(self.front.start));
        }
        let (mut start, mut end) = (added.start, added.end);
        if let Some((&before, &until)) = self.runs.range(..added.end).next_back() {
            if until > added.start {
                return Err(self.first_in(&added));
            }
            if until == added.start {
                start = before;
            }
        }
        if let Some(until) = self.runs.remove(&added.end) {
            end = until;
        }
        self.runs.insert(start, end);
        Ok(())
    }

    /// The first index of `range` that is there.
    fn first_in(&self, range: &Range<u32>) -> u32 {
        let before = self.runs.range(..=range.start).next_back().filter(|(_, until)| **until > range.start);
        before.map_or_else(|| self.runs.range(range.start..).next().map_or(range.start, |(at, _)| *at), |_| range.start)
    }

    /// Takes `index` off, where it is there; smaller ones are not.
    pub(super) fn take(&mut self, index: u32) -> bool {
        if self.front.is_empty()
            && let Some(run) = self.runs.first_entry()
            && *run.key() == index
        {
            self.front = index..run.remove();
        }
        let takes = self.front.start == index && !self.front.is_empty();
        self.front.start += u32::from(takes);
        takes
    }

    pub(super) fn contains(&self, index: u32) -> bool {
        let run = self.runs.range(..=index).next_back();
        self.front.contains(&index) || run.is_some_and(|(_, until)| *until > index)
    }

    pub(super) fn last(&self) -> Option<u32> {
        let run = self.runs.last_key_value().map(|(_, until)| *until);
        run.or(Some(self.front.end).filter(|_| !self.front.is_empty())).map(|until| until - 1)
    }

    pub(super) fn len(&self) -> usize {
        let lengths = self.runs.iter().map(|(start, until)| until - start);
        lengths.map(|length| length as usize).sum::<usize>() + self.front.len()
    }

    /// Entries that are held.
    #[cfg(test)]
    fn entries(&self) -> usize {
        self.runs.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Against a plain set, one index at a time.
    #[test]
    fn runs_hold_what_a_set_holds() {
        let mut state = 7u64;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % n) as u32
        };
        for _ in 0..400 {
            let (mut holes, mut set, mut next) = (Holes::default(), BTreeSet::new(), 0u32);
            for _ in 0..60 {
                let start = next + below(40);
                let added = start..start + 1 + below(6);
                match added.clone().find(|index| set.contains(index)) {
                    Some(there) => assert_eq!(holes.insert(added), Err(there)),
                    None => {
                        assert_eq!(holes.insert(added.clone()), Ok(()));
                        set.extend(added);
                    }
                }
                // The order takes the first, as far as it can.
                for _ in 0..below(4) {
                    assert_eq!(holes.take(next), set.remove(&next), "{next} of {set:?}");
                    assert!((next..next + 60).all(|index| holes.contains(index) == set.contains(&index)));
                    next = set.first().copied().unwrap_or(next + 1).max(next);
                }
                assert_eq!((holes.len(), holes.last()), (set.len(), set.last().copied()));
            }
        }
    }

    #[test]
    fn a_million_neighbours_are_one_entry() {
        let mut holes = Holes::default();
        for index in (0..1_000_000).rev() {
            assert_eq!(holes.insert(index..index + 1), Ok(()));
        }
        assert_eq!((holes.entries(), holes.len()), (1, 1_000_000));
        assert_eq!((holes.insert(5..6), holes.take(0), holes.insert(0..1)), (Err(5), true, Ok(())));
    }
}
