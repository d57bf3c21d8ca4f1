//! Ticks off the fates of a shard, hands them to the committer in the order of their indices, and the shard when it has all.
//!
//! ```text
//!  fates, ends ─▶ [shard: capability, fates 0..count ticked off] ─▶ rows, as far as they are there ─▶ committer's queue
//!  Committed ◀── [ticket redeemed] ◀── channel ◀── reply: durable
//! ```
//!
//! Frontier: the output's passes a shard's time only after the shard is durable, or the run stops.
//!
//! # Invariants
//! 1. A shard is done when its end has named `count` and fates `0..count` have all come; not by the frontier. What the test points
//!    saw of it came with the end, so it is never committed without.
//! 2. A fate that comes twice or beyond `count`, a second end, or a frontier that passes an unfinished shard fails the run.
//! 3. The worker never blocks: files are written on the committer's thread.
//! 4. After a stop, unfinished shards are forgotten: the next run reads them again.
//! 5. A fate is held here only while one before it is out; how many may be, the records' credit says.
//!
//! Cost: the records of samples in flight, and one bit a sample.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use super::committer::{CommitHandle, Committed, FinishedShard};
use super::{FatesError, LedgerError};
use trommel_core::sample::{Event, Fate, ShardEnd, Time, ordinal_of};
use trommel_core::stop::Stop;

/// What the operator needs to know of the run.
#[derive(Clone)]
pub struct LedgerConfig {
    /// A shard's name, by its ordinal.
    pub name_of: Arc<dyn Fn(u64) -> String + Send + Sync>,
    /// The run's stop.
    pub stop: Stop,
}

/// Writes fates to the ledger.
pub trait ToLedger<'scope> {
    /// Commits each shard when all its fates have arrived; the output names it when it is durable. All fates of a shard
    /// must come to the worker that read it.
    fn ledger(self, committer: CommitHandle, config: LedgerConfig) -> StreamVec<'scope, Time, Committed>;
}

impl<'scope> ToLedger<'scope> for StreamVec<'scope, Time, Event> {
    fn ledger(self, committer: CommitHandle, config: LedgerConfig) -> StreamVec<'scope, Time, Committed> {
        let scope = self.scope();
        self.unary_frontier::<CapacityContainerBuilder<_>, _, _, _>(Pipeline, "Ledger", move |cap, info| {
            drop(cap); // else the frontier never moves
            let wake = scope.worker().sync_activator_for(info.address.to_vec());
            let stop_wake = scope.worker().sync_activator_for(info.address.to_vec());
            let _on_stop = config.stop.on_request(move || {
                let _worker_gone = stop_wake.activate();
            });
            let (post, replies) = crossbeam_channel::unbounded::<(Time, Result<Committed, LedgerError>)>();
            let wake = Arc::new(wake);
            let mut open = BTreeMap::<Time, (Capability<Time>, Ticks)>::new();
            let mut tickets = BTreeMap::<Time, Capability<Time>>::new();
            move |(input, frontier), output| {
                let _on_stop = &_on_stop;
                let mut touched = Vec::new();
                input.for_each_stamp(|cap, data| {
                    let Some(cap) = cap.retain_least(output.output_index()) else { return };
                    let time = *cap.time();
                    let fresh = || (cap, Ticks { ordinal: ordinal_of(time), ..Ticks::default() });
                    let (_, ticks) = open.entry(time).or_insert_with(fresh);
                    for event in data.flat_map(|batch| batch.drain(..)) {
                        if let Err(detail) = ticks.take(event) {
                            let (ordinal, name) = (ticks.ordinal, (config.name_of)(ticks.ordinal));
                            committer.fail(LedgerError::Fates { ordinal, name, detail });
                        }
                    }
                    touched.push(time);
                });
                for time in touched {
                    let rows = open.get_mut(&time).map(|(_, ticks)| (ticks.ordinal, ticks.rows())).unwrap_or_default();
                    if !rows.1.is_empty() && committer.rows(rows.0, (config.name_of)(rows.0), rows.1).is_err() {
                        config.stop.request();
                    }
                    if !open.get(&time).is_some_and(|(_, ticks)| ticks.is_done()) {
                        continue;
                    }
                    let Some((cap, ticks)) = open.remove(&time) else { continue };
                    let Some(shard) = ticks.finish(&config) else { continue };
                    let (post, wake) = (post.clone(), Arc::clone(&wake));
                    let reply = move |answer| {
                        let _operator_gone = post.send((time, answer));
                        let _worker_gone = wake.activate();
                    };
                    if committer.commit(shard, Box::new(reply)).is_ok() {
                        tickets.insert(time, cap);
                    } else {
                        config.stop.request();
                    }
                }
                for (time, answer) in replies.try_iter() {
                    if let (Some(cap), Ok(committed)) = (tickets.remove(&time), answer) {
                        output.session(&cap).give(committed);
                    }
                }
                if config.stop.is_requested() {
                    // What the committer still holds it finishes; what has not all come is forgotten.
                    open.clear();
                    return;
                }
                let passed = |time: &Time| !frontier.frontier().less_equal(time);
                if let Some((&time, (_, ticks))) = open.iter().find(|(time, _)| passed(time)) {
                    let (ordinal, name) = (ticks.ordinal, (config.name_of)(ticks.ordinal));
                    let detail = ticks.missing();
                    committer.fail(LedgerError::Fates { ordinal, name, detail });
                    open.remove(&time);
                }
            }
        })
    }
}

/// The fates of one shard that have come so far.
#[derive(Default)]
struct Ticks {
    ordinal: u64,
    /// By index, from `handed_over` on.
    fates: VecDeque<Option<Arc<Fate>>>,
    /// Fates that the committer has.
    handed_over: usize,
    /// One bit an index.
    seen: Vec<u64>,
    count: u32,
    end: Option<ShardEnd>,
}

impl Ticks {
    fn take(&mut self, event: Event) -> Result<(), FatesError> {
        match event {
            Event::End(end) => {
                if end.ordinal != self.ordinal {
                    return Err(FatesError::OtherEnd(end.ordinal));
                }
                if self.end.is_some() {
                    return Err(FatesError::SecondEnd);
                }
                self.end = Some(end);
            }
            Event::Fate(fate) => {
                let id = fate.info.id;
                if id.ordinal != self.ordinal {
                    return Err(FatesError::OtherFate(id));
                }
                let (word, bit) = (id.index as usize / 64, 1u64 << (id.index % 64));
                if self.seen.len() <= word {
                    self.seen.resize(word + 1, 0);
                }
                if self.seen[word] & bit != 0 {
                    return Err(FatesError::SecondFate(id.index));
                }
                self.seen[word] |= bit;
                self.count += 1;
                let at = id.index as usize - self.handed_over;
                if self.fates.len() <= at {
                    self.fates.resize(at + 1, None);
                }
                self.fates[at] = Some(fate);
            }
        }
        let beyond = self.end.as_ref().map(|end| end.count).filter(|&count| self.highest().is_some_and(|h| h >= count));
        beyond.map_or(Ok(()), |count| Err(FatesError::Beyond(count)))
    }

    /// The next fates, as far as they are there.
    fn rows(&mut self) -> Vec<Arc<Fate>> {
        let mut rows = Vec::new();
        while let Some(Some(_)) = self.fates.front() {
            rows.extend(self.fates.pop_front().flatten());
        }
        self.handed_over += rows.len();
        rows
    }

    fn highest(&self) -> Option<u32> {
        let (word, bits) = self.seen.iter().enumerate().next_back()?;
        u32::try_from(word * 64 + 63 - bits.leading_zeros() as usize).ok()
    }

    fn is_done(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.count == self.count)
    }

    fn missing(&self) -> FatesError {
        let came = self.count;
        self.end.as_ref().map_or(FatesError::NoEnd(came), |end| FatesError::Missing { came, due: end.count })
    }

    /// The shard, once its end has come.
    fn finish(self, config: &LedgerConfig) -> Option<FinishedShard> {
        let end = self.end?;
        Some(FinishedShard {
            ordinal: self.ordinal,
            name: (config.name_of)(self.ordinal),
            fates: self.fates.into_iter().flatten().collect(),
            items: Arc::unwrap_or_clone(end.points),
            bytes: end.bytes,
            outcome: end.outcome,
            notices: end.notices,
        })
    }
}
