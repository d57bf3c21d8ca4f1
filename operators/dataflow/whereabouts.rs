//! Where a sample stands in the order of a pass, worked out from the shards' counts instead of running the order.
//!
//! Lanes take turns, so when sample `q` of lane `l` has its turn, the lanes before it have given `q + 1` samples and those behind it `q`, as far as
//! they have them. So many of these are trained on, and so many stand before it; windows hold `window_samples` each, but for those that are known
//! to be shorter; and inside one only the permutation is left to do.
//!
//! Cost: a sum over shards, the samples of at most one shard a lane, and the sort of one window. [`PassOrder::walk`] gives all samples of a pass.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::irregular::{Irregular, What};
use super::lanes::{Lanes, OrderConfig};
use trommel_core::hash::Hash64;
use trommel_core::sample::SampleId;

mod walk;

/// Samples of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCount {
    /// All samples of the shard, in its tar's order.
    pub raw: u64,
    /// Those that are trained on.
    pub trained: u64,
}

/// What is known of the shards.
pub trait JudgedShards {
    /// Why they cannot be read.
    type Error;

    /// A shard's samples; `None` where nobody has judged it.
    fn count(&self, ordinal: u64) -> Option<ShardCount>;

    /// How many of the first `index` samples of a judged shard are trained on.
    ///
    /// # Errors
    /// Decisions that cannot be read.
    fn trained_before(&self, ordinal: u64, index: u64) -> Result<u64, Self::Error>;
}

/// What could not be worked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown<E> {
    /// A shard that nobody has judged.
    Shard(u64),
    /// Decisions that cannot be read.
    Unreadable(E),
}

/// One pass of an order.
#[derive(Debug)]
pub struct PassOrder<'a, S> {
    order: &'a OrderConfig,
    lanes: &'a Lanes,
    shards: &'a S,
    pass: u32,
    /// Samples of windows that were closed by their bytes.
    closed: BTreeMap<u64, u64>,
    skipped: HashSet<SampleId>,
    given_up: HashMap<u64, u64>,
}

impl<'a, S: JudgedShards> PassOrder<'a, S> {
    /// Pass `pass`, with all that was irregular in the run.
    #[must_use]
    pub fn new(order: &'a OrderConfig, lanes: &'a Lanes, pass: u32, irregular: &[Irregular], shards: &'a S) -> Self {
        let (closed, skipped, given_up) = Default::default();
        let mut this = Self { order, lanes, shards, pass, closed, skipped, given_up };
        for Irregular { window, what, .. } in irregular.iter().filter(|irregular| irregular.pass == pass) {
            match *what {
                What::Closed(samples) => _ = this.closed.insert(*window, samples),
                What::Skipped(ordinal, index) => _ = this.skipped.insert(SampleId { ordinal, index }),
                What::GivenUp(ordinal, count) => _ = this.given_up.insert(ordinal, count.into()),
            }
        }
        this
    }

    /// Samples that are numbered in the pass.
    ///
    /// # Errors
    /// A shard of which nothing is known.
    pub fn samples(&self) -> Result<u64, Unknown<S::Error>> {
        (0..self.lanes.count()).try_fold(0, |sum, lane| Ok(sum + self.of_lane(lane, u64::MAX)?))
    }

    /// The number in the pass of a sample that is trained on; `None` where it was skipped, or its shard given up before it.
    ///
    /// # Errors
    /// A shard of which nothing is known stands before it, or in its window.
    pub fn number(&self, id: SampleId) -> Result<Option<u64>, Unknown<S::Error>> {
        let Some(place) = self.lanes.place(self.pass, id.ordinal) else { return Ok(None) };
        let index = u64::from(id.index);
        if self.skipped.contains(&id) || self.given_up.get(&id.ordinal).is_some_and(|count| index >= *count) {
            return Ok(None);
        }
        let mut turn = index;
        for position in 0..place.position {
            turn += self.count_at(place.lane, position)?.map_or(0, |(_, count)| count.raw);
        }
        let mut before = 0;
        for lane in 0..self.lanes.count() {
            before += self.of_lane(lane, turn + u64::from(lane < place.lane))?;
        }
        let (window, start, size) = self.window_of(before)?;
        let prefix = Hash64::new("window").word(self.order.seed).word(u64::from(self.pass)).word(window);
        let key = |at: u64| (prefix.word(at).finish(), at);
        let own = key(before - start);
        Ok(Some(start + (0..size).filter(|at| key(*at) < own).count() as u64))
    }

    /// The window of the sample behind `before` others: its number, the samples before it, and its own.
    fn window_of(&self, before: u64) -> Result<(u64, u64, u64), Unknown<S::Error>> {
        let full = self.order.window_samples.max(1) as u64;
        let (mut window, mut start) = (0, 0);
        for (&closed, &samples) in &self.closed {
            let whole = (closed - window) * full;
            if before < start + whole {
                break;
            }
            if before < start + whole + samples {
                return Ok((closed, start + whole, samples));
            }
            (window, start) = (closed + 1, start + whole + samples);
        }
        let begun = (before - start) / full;
        (window, start) = (window + begun, start + begun * full);
        Ok((window, start, full.min(self.samples_from(start, full)?)))
    }

    /// Samples from number `start` on, as far as they matter: `most` of them are enough.
    fn samples_from(&self, start: u64, most: u64) -> Result<u64, Unknown<S::Error>> {
        let (mut known, mut unknown) = (0, None);
        for lane in 0..self.lanes.count() {
            for position in 0..self.lanes.positions(lane) {
                match self.count_at(lane, position) {
                    Ok(count) => known += count.map_or(0, |(_, count)| count.trained),
                    Err(error) => unknown = unknown.or(Some(error)),
                }
            }
        }
        match unknown {
            Some(error) if known < start + most => Err(error),
            _ => Ok(known.saturating_sub(start)),
        }
    }

    /// Trained samples among the first `turns` of a lane.
    fn of_lane(&self, lane: usize, mut turns: u64) -> Result<u64, Unknown<S::Error>> {
        let mut trained = 0;
        for position in 0..self.lanes.positions(lane) {
            if turns == 0 {
                break;
            }
            let Some((ordinal, count)) = self.count_at(lane, position)? else { break };
            if turns < count.raw {
                return Ok(trained + self.trained_before(ordinal, turns)?);
            }
            (turns, trained) = (turns - count.raw, trained + count.trained);
        }
        Ok(trained)
    }

    fn count_at(&self, lane: usize, position: u64) -> Result<Option<(u64, ShardCount)>, Unknown<S::Error>> {
        let Some(ordinal) = self.lanes.ordinal(self.pass, lane, position) else { return Ok(None) };
        let mut count = match (self.shards.count(ordinal), self.given_up.get(&ordinal)) {
            (_, Some(0)) => ShardCount::default(),
            (None, _) => return Err(Unknown::Shard(ordinal)),
            (Some(_), Some(&raw)) => ShardCount { raw, trained: self.decided_before(ordinal, raw)? },
            (Some(count), None) => count,
        };
        count.trained -= self.skipped_before(ordinal, u64::MAX).min(count.trained);
        Ok(Some((ordinal, count)))
    }

    fn trained_before(&self, ordinal: u64, index: u64) -> Result<u64, Unknown<S::Error>> {
        Ok(self.decided_before(ordinal, index)? - self.skipped_before(ordinal, index))
    }

    fn decided_before(&self, ordinal: u64, index: u64) -> Result<u64, Unknown<S::Error>> {
        self.shards.trained_before(ordinal, index).map_err(Unknown::Unreadable)
    }

    fn skipped_before(&self, ordinal: u64, index: u64) -> u64 {
        let is_before = |id: &&SampleId| id.ordinal == ordinal && u64::from(id.index) < index;
        self.skipped.iter().filter(is_before).count() as u64
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
