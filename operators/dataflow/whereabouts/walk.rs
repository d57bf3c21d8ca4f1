//! A pass walked through in the order of its samples: the numbers that [`PassOrder::number`] gives, all of them, for one reading of each shard.
//!
//! Cost: each shard once, side by side with one of every other lane; memory: one window's samples, and what `open` holds of a shard a lane.

use trommel_core::hash::Hash64;
use trommel_core::sample::SampleId;

use super::{JudgedShards, PassOrder, Unknown};

/// One lane, at the shard that it reads.
struct Head<I> {
    position: u64,
    /// The shard's ordinal, its samples, the raw index of the next one, and how many have turns.
    shard: Option<(u64, I, u32, u64)>,
}

/// What a lane has next.
enum Next<T> {
    /// A sample's turn; `None`: a hole.
    Turn(SampleId, Option<T>),
    /// A sample that is trained on, of a shard that was given up before it.
    Lost(T),
    /// Nothing more: the lane is at its end.
    End,
    /// A shard of which nothing is known.
    Unknown(u64),
}

impl<S: JudgedShards> PassOrder<'_, S> {
    /// Calls `each` with the number in the pass of every sample that is trained on, or with `None` where it was skipped or its shard given up
    /// before it; those of one window in the order of their numbers. `open` gives a judged shard's samples in their order: what is to be called with
    /// for who is trained on, `None` for who is not.
    ///
    /// Gives what the walk has ended at, where that is not the pass's end: whoever has no number then was not called with.
    ///
    /// # Errors
    /// What `open`, a shard's samples, or `each` say.
    pub fn walk<T, E, I: Iterator<Item = Result<Option<T>, E>>>(
        &self,
        mut open: impl FnMut(u64) -> Result<I, E>,
        mut each: impl FnMut(Option<u64>, T) -> Result<(), E>,
    ) -> Result<Option<Unknown<S::Error>>, E> {
        let lanes = self.lanes.count();
        let mut heads: Vec<Head<I>> = (0..lanes).map(|_| Head { position: 0, shard: None }).collect();
        let (mut window, mut start, mut filling) = (0, 0, Vec::new());
        let (mut lane, mut ended) = (0, 0);
        while ended < lanes {
            match self.next(lane, &mut heads[lane], &mut open)? {
                Next::Lost(sample) => {
                    each(None, sample)?;
                    continue; // what was given up has no turns
                }
                Next::Unknown(ordinal) => return self.stopped(ordinal, (window, start), filling, each).map(Some),
                Next::End => ended += 1,
                Next::Turn(id, sample) => {
                    ended = 0;
                    match sample {
                        Some(sample) if self.skipped.contains(&id) => each(None, sample)?,
                        Some(sample) => filling.push(sample),
                        None => {}
                    }
                    let size = filling.len() as u64;
                    if size > 0 && size >= self.size_of(window) {
                        self.close((window, start, size), std::mem::take(&mut filling), &mut each)?;
                        (window, start) = (window + 1, start + size);
                    }
                }
            }
            lane = (lane + 1) % lanes;
        }
        let size = filling.len() as u64;
        self.close((window, start, size), filling, &mut each)?;
        Ok(None)
    }

    /// Samples after which a window closes.
    fn size_of(&self, window: u64) -> u64 {
        self.closed.get(&window).copied().unwrap_or(self.order.window_samples.max(1) as u64)
    }

    /// Calls with a window's samples, which came in this order, as far as they have come: `size` of them are in it.
    fn close<T, E>(
        &self,
        (window, start, size): (u64, u64, u64),
        samples: Vec<T>,
        each: &mut impl FnMut(Option<u64>, T) -> Result<(), E>,
    ) -> Result<(), E> {
        let prefix = Hash64::new("window").word(self.order.seed).word(u64::from(self.pass)).word(window);
        let mut places: Vec<(u64, u64)> = (0..size).map(|at| (prefix.word(at).finish(), at)).collect();
        places.sort_unstable();
        let mut samples: Vec<Option<T>> = samples.into_iter().map(Some).collect();
        for (number, (_, at)) in (start..).zip(places) {
            let sample = usize::try_from(at).ok().and_then(|at| samples.get_mut(at)?.take());
            sample.map_or(Ok(()), |sample| each(Some(number), sample))?;
        }
        Ok(())
    }

    /// A shard that nobody knows has the turn. Whoever came before it has a number where his window is known to be full.
    fn stopped<T, E>(
        &self,
        ordinal: u64,
        (window, start): (u64, u64),
        filling: Vec<T>,
        mut each: impl FnMut(Option<u64>, T) -> Result<(), E>,
    ) -> Result<Unknown<S::Error>, E> {
        let size = match self.closed.get(&window) {
            Some(size) => Ok(*size),
            None => self.samples_from(start, self.size_of(window)).map(|left| left.min(self.size_of(window))),
        };
        match size {
            Ok(size) => self.close((window, start, size), filling, &mut each).map(|()| Unknown::Shard(ordinal)),
            Err(unknown) => Ok(unknown),
        }
    }

    fn next<T, E, I: Iterator<Item = Result<Option<T>, E>>>(
        &self,
        lane: usize,
        head: &mut Head<I>,
        open: &mut impl FnMut(u64) -> Result<I, E>,
    ) -> Result<Next<T>, E> {
        loop {
            let Some((ordinal, samples, index, turns)) = &mut head.shard else {
                let Some(ordinal) = self.lanes.ordinal(self.pass, lane, head.position) else { return Ok(Next::End) };
                head.position += 1;
                let given_up = self.given_up.get(&ordinal).copied();
                match self.shards.count(ordinal) {
                    Some(_) => head.shard = Some((ordinal, open(ordinal)?, 0, given_up.unwrap_or(u64::MAX))),
                    None if given_up == Some(0) => {}
                    None => return Ok(Next::Unknown(ordinal)),
                }
                continue;
            };
            match samples.next().transpose()? {
                None => head.shard = None,
                Some(sample) => {
                    let id = SampleId { ordinal: *ordinal, index: *index };
                    *index += 1;
                    match sample {
                        sample if u64::from(id.index) < *turns => return Ok(Next::Turn(id, sample)),
                        Some(sample) => return Ok(Next::Lost(sample)),
                        None => {}
                    }
                }
            }
        }
    }
}
