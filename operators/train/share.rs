//! Share: which rank trains which sample of a batch, and how what lies elsewhere comes over.
//!
//! ```text
//!  batch k, by number: owner of each ─▶ deal ─┬─▶ mine, here ───────────────────▶ rows of this rank, by number
//!                                             ├─▶ mine, with rank q ─ fetch ────▶ ┘
//!                                             └─▶ here, for rank q ─▶ [outbox] ─▶ taken when q asks
//! ```
//!
//! Every rank deals alike: each keeps its own first `batch / ranks` samples, in the batch's order; what is above goes to
//! the ranks with room, lowest rank first. So the ranks' shares are a function of the order and of the lanes' owners.
//!
//! A moved sample goes as its decoded view and caption. The picture's own bytes would be three to five times smaller, but
//! would be kept until the batch and decoded twice; moves are few, for lanes advance together.
//!
//! Invariants:
//! 1. Shares are disjoint, equal, and together the batch.
//! 2. A rank fills its outbox for batch `k` before it asks for its own share of `k`, so nobody waits in a circle.
//! 3. The outbox holds at most the batches that this rank's trainer has not stepped yet.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::to_order::{Seat, TrainSample};
use trommel_core::causes::Cause;
use trommel_core::sample::SampleId;
use trommel_core::stop::Stop;
use trommel_core::wake::{Registration, locked};
use trommel_dataflow::order::{Held, Numbered};

/// The rank that trains each sample, from the rank that holds it.
///
/// ```
/// use trommel_train::share::deal;
///
/// assert_eq!(deal(&[0, 0, 0, 1], 2), [0, 0, 1, 1]);
/// assert_eq!(deal(&[1, 1, 1, 1], 2), [1, 1, 0, 0]);
/// ```
#[must_use]
pub fn deal(owners: &[usize], ranks: usize) -> Vec<usize> {
    let share = owners.len() / ranks.max(1);
    let mut room = vec![share; ranks];
    let mut trainers: Vec<Option<usize>> = owners
        .iter()
        .map(|owner| {
            let left = room.get_mut(*owner).filter(|left| **left > 0)?;
            *left -= 1;
            Some(*owner)
        })
        .collect();
    let mut free = room.into_iter().enumerate().flat_map(|(rank, left)| std::iter::repeat_n(rank, left));
    for trainer in trainers.iter_mut().filter(|trainer| trainer.is_none()) {
        *trainer = free.next();
    }
    trainers.into_iter().map(|trainer| trainer.unwrap_or(0)).collect()
}

/// A sample as it goes over the network: the caption's length (u32, little endian), the caption, the view.
#[must_use]
pub fn pack(sample: &TrainSample) -> Vec<u8> {
    let caption = sample.caption.as_bytes();
    let mut bytes = Vec::with_capacity(4 + caption.len() + sample.view.len());
    bytes.extend_from_slice(&u32::try_from(caption.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(caption);
    bytes.extend_from_slice(&sample.view);
    bytes
}

/// The sample that was packed; `None` where the bytes are no such thing.
#[must_use]
pub fn unpack(id: SampleId, bytes: &[u8]) -> Option<TrainSample> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (caption, view) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    Some(TrainSample { id, view: view.to_vec(), caption: Arc::from(std::str::from_utf8(caption).ok()?) })
}

/// Packed samples, by pass and place.
type Waiting = HashMap<(u32, SampleId), Held<Vec<u8>>>;

struct Inner {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    stop: Stop,
}

/// Samples that other ranks are going to ask for. Clones are the same outbox.
#[derive(Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
    _on_stop: Arc<Registration>,
}

impl Outbox {
    /// An empty outbox; after a stop it gives nothing more.
    #[must_use]
    pub fn new(stop: &Stop) -> Self {
        let inner = Arc::new(Inner { waiting: Mutex::default(), filled: Condvar::new(), stop: stop.clone() });
        let weak = Arc::downgrade(&inner);
        let on_stop = stop.on_request(move || {
            if let Some(inner) = weak.upgrade() {
                locked(&inner.waiting).clear();
                inner.filled.notify_all();
            }
        });
        Self { inner, _on_stop: Arc::new(on_stop) }
    }

    /// Waits until the sample is there, and gives it away; `None` after a stop.
    #[must_use]
    pub fn take(&self, pass: u32, id: SampleId) -> Option<Vec<u8>> {
        let mut waiting = locked(&self.inner.waiting);
        loop {
            if let Some(packed) = waiting.remove(&(pass, id)) {
                return Some(packed.sample);
            }
            if self.inner.stop.is_requested() {
                return None;
            }
            waiting = self.inner.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn put(&self, pass: u32, leaving: Vec<(SampleId, Held<Vec<u8>>)>) {
        if leaving.is_empty() {
            return;
        }
        locked(&self.inner.waiting).extend(leaving.into_iter().map(|(id, packed)| ((pass, id), packed)));
        self.inner.filled.notify_all();
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("waiting", &locked(&self.inner.waiting).len()).finish()
    }
}

/// Asks rank `.0` for samples of pass `.1`; an answer for each, `None` where that rank is stopping.
pub type Fetch<'a> = &'a mut dyn FnMut(usize, u32, &[SampleId]) -> Result<Vec<Option<Vec<u8>>>, Cause>;

/// Why a rank's rows of a batch are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// Another rank could not be asked.
    #[error(transparent)]
    Fetch(Cause),
    /// Another rank's answer is no sample.
    #[error("rank {owner} sent no sample for shard {} sample {}", id.ordinal, id.index)]
    NoSample {
        /// The rank that was asked.
        owner: usize,
        /// What it was asked for.
        id: SampleId,
    },
}

/// This rank's rows of a batch, by number; `None` when another rank is stopping.
///
/// # Errors
/// What `fetch` says, or an answer that is no sample.
pub fn rows(
    pass: u32,
    batch: Vec<Numbered<Held<Seat>>>,
    rank: usize,
    ranks: usize,
    outbox: &Outbox,
    fetch: Fetch<'_>,
) -> Result<Option<Vec<Held<TrainSample>>>, ShareError> {
    let owners: Vec<usize> = batch
        .iter()
        .map(|numbered| match numbered.payload.sample {
            Seat::Here(_) => rank,
            Seat::There(owner) => owner,
        })
        .collect();
    let trainers = deal(&owners, ranks);
    let mut mine = Vec::with_capacity(batch.len() / ranks.max(1));
    let mut leaving = Vec::new();
    let mut coming: Vec<Vec<(usize, SampleId)>> = vec![Vec::new(); ranks];
    for (numbered, trainer) in batch.into_iter().zip(trainers) {
        let (seat, held) = numbered.payload.open();
        match seat {
            Seat::Here(sample) if trainer == rank => mine.push(Some(held.with(sample))),
            Seat::Here(sample) => leaving.push((numbered.id, held.with(pack(&sample)))),
            Seat::There(owner) if trainer == rank => {
                coming[owner].push((mine.len(), numbered.id));
                mine.push(None);
            }
            Seat::There(_) => {}
        }
    }
    outbox.put(pass, leaving);
    for (owner, wanted) in coming.into_iter().enumerate().filter(|(_, wanted)| !wanted.is_empty()) {
        let ids: Vec<SampleId> = wanted.iter().map(|(_, id)| *id).collect();
        for ((row, id), bytes) in wanted.into_iter().zip(fetch(owner, pass, &ids).map_err(ShareError::Fetch)?) {
            let Some(bytes) = bytes else { return Ok(None) };
            let sample = unpack(id, &bytes).ok_or(ShareError::NoSample { owner, id })?;
            mine[row] = Some(Held::free(sample));
        }
    }
    Ok(mine.into_iter().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn id(index: u32) -> SampleId {
        SampleId { ordinal: 7, index }
    }

    fn sample(index: u32) -> TrainSample {
        TrainSample {
            id: id(index),
            view: vec![index as u8; 12],
            caption: Arc::from(format!("größe {index}").as_str()),
        }
    }

    #[test]
    fn shares_are_equal_disjoint_and_keep_what_they_can() {
        let mut state = 9u64;
        for _ in 0..500 {
            let mut next = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 33) % below) as usize
            };
            let ranks = 1 + next(5);
            let share = 1 + next(6);
            let owners: Vec<usize> = (0..ranks * share).map(|_| next(ranks as u64)).collect();
            let trainers = deal(&owners, ranks);
            for rank in 0..ranks {
                assert_eq!(trainers.iter().filter(|trainer| **trainer == rank).count(), share);
                let own = owners.iter().filter(|owner| **owner == rank).count();
                let kept = owners.iter().zip(&trainers).filter(|(o, t)| **o == rank && o == t).count();
                assert_eq!(kept, own.min(share), "no sample moves without need");
            }
        }
    }

    #[test]
    fn a_packed_sample_comes_back() {
        let original = sample(3);
        let back = unpack(id(3), &pack(&original)).unwrap();
        assert_eq!((back.view, back.caption), (original.view, original.caption));
        for broken in [&[][..], &[1, 0, 0], &[9, 0, 0, 0, b'a'], &[1, 0, 0, 0, 0xff]] {
            assert!(unpack(id(0), broken).is_none());
        }
    }

    #[test]
    fn two_ranks_exchange_what_one_has_too_much_of() {
        // Rank 0 holds all six samples of the batch, rank 1 none.
        let stop = Stop::new();
        let outboxes = [Outbox::new(&stop), Outbox::new(&stop)];
        let batch = |rank: usize| -> Vec<Numbered<Held<Seat>>> {
            (0..6)
                .map(|index| {
                    let seat = if rank == 0 { Seat::Here(sample(index)) } else { Seat::There(0) };
                    Numbered { number: index.into(), id: id(index), payload: Held::free(seat) }
                })
                .collect()
        };
        let rows_of = |rank: usize| {
            let mut fetch = |owner: usize, pass: u32, ids: &[SampleId]| {
                Ok(ids.iter().map(|id| outboxes[owner].take(pass, *id)).collect())
            };
            let rows = rows(1, batch(rank), rank, 2, &outboxes[rank], &mut fetch).unwrap().unwrap();
            rows.into_iter().map(|row| (row.sample.id.index, row.sample.view[0])).collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| rows_of(1)); // waits for rank 0's outbox
            assert_eq!(rows_of(0), [(0, 0), (1, 1), (2, 2)]);
            assert_eq!(other.join().unwrap(), [(3, 3), (4, 4), (5, 5)]);
        });
        stop.request();
        assert!(outboxes[0].take(1, id(0)).is_none());
    }
}
