//! Shards to admitted samples: what a reader thread does with a lease.
//!
//! ```text
//! lease ─▶ open ─▶ decompress ─▶ tar ─▶ groups ─┬─▶ Sample            judged, or replayed when the ledger kept it
//!                                               ├─▶ Event::Fate       a reject of the reader's own, or what a split does not keep
//!                                               ├─▶ Replayed::Holes   dropped or rejected by the ledger: they take their turns
//!                                               └─▶ Event::End, or Replayed::End: always the last
//! ```
//!
//! # Invariants
//!
//! 1. Judging: indices `0..count` come once each, in order, as a sample or a fate; then one [`Event::End`] with `count`.
//! 2. Replaying: indices `train_from..count` come once each, in order, as a sample with [`Work::Replay`], in a run of holes, or skipped where a
//!    kept sample is a reject now or has lost its caption; then one [`Replayed::End`]. No fate and no [`Event`] is sent: the ledger has this shard.
//! 3. A shard that no longer has the plan's size is unavailable; one whose samples are not those that the ledger judged or the split keeps, in
//!    number or by a key, has changed. Both with the difference, and before a sample behind it is sent.
//! 4. While credit is asked for, this reader holds none but its decompressor's workspace, which it asks for before its first sample. A record is asked for when the sample is ready to be sent.

use std::cell::RefCell;
use std::io::{BufRead, Cursor, ErrorKind, Read};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::compression::{CompressionLimits, decompress};
use super::content::{no_tar, starts_a_tar};
use super::header::BLOCK;
use super::plan::{ReaderPlan, ShardRef};
use super::promised::{Promised, promised};
use super::remark;
use super::samples::{GroupConfig, SampleReader};
use super::store::{Meter, Metered, Store, shown};
use super::tar::{TarLimits, TarReader};
use trommel_core::causes::{Cause, Causes};
use trommel_core::credit::workspace::Workspace;
use trommel_core::credit::{Permit, Stopped};
use trommel_core::records::Record;
use trommel_core::sample::{Encoded, Event, Reason, Sample, SampleId, SampleInfo, ShardEnd, ShardOutcome, Work};
use trommel_dataflow::source::{Lease, Outlet, ReadShard};

mod known;

use self::known::exchanged;
pub use self::known::{Decisions, KnownError, Listed, Members, Named, key_hash};
pub(crate) use self::known::{KnownShard, Task};

/// How shards are read. Everything here belongs to the decisions: it may change what is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReaderConfig {
    /// Members to samples.
    pub group: GroupConfig,
    /// What a tar may make the reader hold.
    pub tar: TarLimits,
    /// How far a compressed shard may grow.
    pub compression: CompressionLimits,
}

/// Bytes a sample will hold besides its encoded picture: what a permit is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewBytes {
    /// The embedder's view and the vector: samples that are judged.
    pub eval: u64,
    /// The trainer's view: samples that may be trained.
    pub train: u64,
    /// What a sample leaves until the ledger has written it, beside its texts: its fate, scores, vector.
    pub record: u64,
    /// The same of a shard: what its test points have seen, its files.
    pub shard: u64,
}

/// Bytes every sample is charged for its place in queues.
pub const SAMPLE_OVERHEAD_BYTES: u64 = 4 << 10;

impl ViewBytes {
    /// Bytes for a sample of which this work is wanted.
    #[must_use]
    pub fn of(self, work: Work) -> u64 {
        let views = match work {
            Work::Judge => self.eval.saturating_add(self.train),
            Work::JudgeOnly => self.eval,
            Work::Replay => self.train,
        };
        views.saturating_add(SAMPLE_OVERHEAD_BYTES)
    }

    /// Reads what is leased into `out`: samples take their credit and their records on the way.
    pub(super) fn read_into(
        self,
        lease: &Lease,
        out: &mut Outlet<Admitted>,
        read: impl FnOnce(&Request, Workspace, Admit<'_>, Emit<'_>) -> Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        let &Lease { pass, ordinal, train_from, replay, lane: _ } = lease;
        let workspace = out.workspace();
        // Credit is asked for and items are sent by turns, never both at once.
        let out = RefCell::new(out);
        let mut admit = |bytes| out.borrow_mut().admit(bytes);
        let mut emit = |mut item| {
            let mut out = out.borrow_mut();
            if let Some(info) = own_info(&mut item) {
                info.record = self.record(info, &mut out)?;
            }
            out.send(item)
        };
        read(&Request { pass, ordinal, train_from, replay }, workspace, &mut admit, &mut emit)
    }

    /// Takes a sample's record; a shard's first sample takes the shard's too.
    fn record<I>(self, info: &SampleInfo, out: &mut Outlet<I>) -> Result<Record, Stopped> {
        let beside_bytes = if info.id.index == 0 { self.shard } else { 0 };
        out.record(self.record.saturating_add(info.text_bytes()), beside_bytes)
    }
}

/// Which shard, and what is wanted of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Pass over the data.
    pub pass: u32,
    /// Ordinal in the plan.
    pub ordinal: u64,
    /// Samples below this index are not trained: judged only, or left out of a replay.
    pub train_from: u32,
    /// Whether the ledger's decisions are replayed.
    pub replay: bool,
}

/// What a replayed shard sends besides its kept samples: for the order, not for the ledger.
#[derive(Clone, Debug, PartialEq)]
pub enum Replayed {
    /// Neighbours that were dropped or rejected: they take their turns and yield nothing.
    Holes {
        /// Pass over the data.
        pass: u32,
        /// The first of them.
        id: SampleId,
        /// How many neighbours, the first included.
        count: u32,
    },
    /// A sample that was kept and cannot be read any more, or whose caption is gone: it takes its turn, and is counted.
    Skipped {
        /// Pass over the data.
        pass: u32,
        /// The sample that cannot be read.
        id: SampleId,
        /// Its key, and what is wrong with it now.
        why: String,
    },
    /// The shard's end.
    End {
        /// Pass over the data.
        pass: u32,
        /// Counts and outcome.
        end: ShardEnd,
    },
}

impl Replayed {
    /// A sample that was kept, and cannot be trained now.
    #[must_use]
    pub fn skipped(pass: u32, info: &SampleInfo, reason: &Reason) -> Self {
        Self::Skipped { pass, id: info.id, why: format!("{}: {reason}", info.key) }
    }
}

/// What a reader sends.
#[derive(Debug)]
pub enum Admitted {
    /// A sample with its credit.
    Sample(Sample<Encoded>),
    /// A reject's fate, or a judged shard's end.
    Event(Event),
    /// A hole, or a replayed shard's end.
    Replayed(Replayed),
}

/// Reads the plan's shards.
pub struct ShardReader {
    plan: ReaderPlan,
    config: ReaderConfig,
    views: ViewBytes,
    decisions: Option<Arc<dyn Decisions>>,
    split: Option<Arc<dyn Members>>,
    store: Arc<dyn Store>,
}

impl ReadShard for ShardReader {
    type Item = Admitted;

    fn read(&self, lease: &Lease, out: &mut Outlet<Admitted>) -> Result<(), Stopped> {
        self.views.read_into(lease, out, |request, room, admit, emit| self.read_shard(request, room, admit, emit))
    }
}

/// Takes credit for so many bytes.
type Admit<'a> = &'a mut dyn FnMut(u64) -> Result<Permit, Stopped>;
/// Sends an item on.
type Emit<'a> = &'a mut dyn FnMut(Admitted) -> Result<(), Stopped>;

/// What an item says of a sample, which nobody else has yet.
fn own_info(item: &mut Admitted) -> Option<&mut SampleInfo> {
    match item {
        Admitted::Sample(sample) => Arc::get_mut(&mut sample.info),
        Admitted::Event(Event::Fate(fate)) => Arc::get_mut(&mut Arc::get_mut(fate)?.info),
        Admitted::Event(Event::End(_)) | Admitted::Replayed(_) => None,
    }
}

impl ShardReader {
    /// A reader of what `store` has. The plan is an [`Arc<Plan>`](super::plan::Plan), or a
    /// [`GrowingPlan`](super::plan::GrowingPlan) that has a shard by the time it is leased.
    #[must_use]
    pub fn new(
        store: impl Store + 'static,
        plan: impl Into<ReaderPlan>,
        config: ReaderConfig,
        views: ViewBytes,
        decisions: Option<Arc<dyn Decisions>>,
    ) -> Self {
        Self { plan: plan.into(), config, views, decisions, split: None, store: Arc::new(store) }
    }

    /// The same, judging those alone that a split keeps: all others are dropped, unread where their places or keys say who they are.
    #[must_use]
    pub fn of_split(mut self, split: Option<Arc<dyn Members>>) -> Self {
        self.split = split;
        self
    }

    /// Reads one shard to its end, a compressed one with what `workspace` gets for it. Bad data never fails: it ends as rejects and remarks, or the shard as a reject.
    ///
    /// # Errors
    /// What `admit` or `emit` returns, at once.
    pub fn read_shard<E>(
        &self,
        request: &Request,
        workspace: Workspace,
        admit: &mut dyn FnMut(u64) -> Result<Permit, E>,
        emit: &mut dyn FnMut(Admitted) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut end = ShardEnd::new(request.ordinal);
        let found = self.plan.shard(request.ordinal).ok_or_else(|| KnownError::NoShard(request.ordinal).into());
        let opened = found.and_then(|shard| self.open(&shard, request));
        match opened {
            Err(error) => end.outcome = ShardOutcome::Unavailable(Causes(&*error).to_string()),
            Ok(opened) => {
                let (shard, counts) = (opened.shard.clone(), opened.known.counts());
                self.stream(request, opened, workspace, &mut end, admit, emit)?;
                if !request.replay {
                    let due = if counts { Promised::Nothing } else { promised(self.store.as_ref(), &shard.url) };
                    end.notices.merge(&remark::lost(&end.outcome, end.count, due, &shard.name));
                }
            }
        }
        tracing::debug!(ordinal = end.ordinal, pass = request.pass, count = end.count, bytes = end.bytes, "shard read");
        let pass = request.pass;
        emit(match request.replay {
            true => Admitted::Replayed(Replayed::End { pass, end }),
            false => Admitted::Event(Event::End(end)),
        })
    }

    fn open(&self, shard: &ShardRef, request: &Request) -> Result<Opened, Cause> {
        let known = KnownShard::of(request, self.decisions.as_deref(), self.split.as_deref())?;
        let (raw, meter) = Metered::open(self.store.as_ref(), &shard.url)?;
        if let (Some(planned), Some(now)) = (shard.bytes, raw.announced_bytes())
            && planned != now
        {
            let url = shown(&shard.url);
            return Err(format!("{url} has {now} bytes now and had {planned} when it was planned").into());
        }
        Ok(Opened { raw, meter, known, shard: shard.clone() })
    }

    fn stream<E>(
        &self,
        request: &Request,
        opened: Opened,
        workspace: Workspace,
        end: &mut ShardEnd,
        admit: &mut dyn FnMut(u64) -> Result<Permit, E>,
        emit: &mut dyn FnMut(Admitted) -> Result<(), E>,
    ) -> Result<(), E> {
        let Opened { raw, meter, known, shard } = opened;
        let unavailable = |why: String| ShardOutcome::Unavailable(format!("{}: {why}", shown(&shard.url)));
        let contradicts = |error: &KnownError| error.outcome(shown(&shard.url));
        let plain = match plain_tar(raw, &meter, &self.config.compression, workspace) {
            Ok(plain) => plain,
            Err(reason) => {
                end.bytes = meter.bytes();
                end.outcome = match (meter.failure(), known.expected()) {
                    (Some(why), _) => unavailable(why),
                    (None, Some(expected)) => {
                        exchanged(format!("{}: it is {reason}, and {expected}", shown(&shard.url)))
                    }
                    (None, None) => ShardOutcome::Rejected(reason),
                };
                return Ok(());
            }
        };
        let tar = TarReader::new(plain, self.config.tar.clone());
        let mut samples = SampleReader::new(tar, &self.config.group, request.ordinal);
        let task = Task::new(request, self.views, &known, self.decisions.as_deref());
        let mut want = |index, key: &[u8]| task.want(index, key);
        let mut holes = Holes::default();
        while let Some(group) = samples.next_named_group(&mut want, admit)? {
            // What a failing store left half-read is no reject.
            if meter.failure().is_some() {
                break;
            }
            match task.admitted(group) {
                Ok(Some(item)) => {
                    end.count += 1;
                    holes.pass_on(item, emit)?;
                }
                Ok(None) => end.count += 1,
                Err(error) => {
                    holes.close(emit)?;
                    (end.bytes, end.outcome) = (meter.bytes(), contradicts(&error));
                    return Ok(());
                }
            }
        }
        holes.close(emit)?;
        end.bytes = meter.bytes();
        end.outcome = match (meter.failure(), task.check_count(end.count)) {
            (Some(why), _) => unavailable(why),
            (None, Err(error)) => contradicts(&error),
            (None, Ok(())) => remark::outcome(&samples),
        };
        end.notices = remark::found(&samples, &shard.name);
        known.note(&mut end.notices, &shard.name);
        Ok(())
    }
}

/// The bytes of a tar, decompressed; or what the shard is instead.
pub(super) fn plain_tar(
    raw: Metered,
    meter: &Arc<Meter>,
    limits: &CompressionLimits,
    workspace: Workspace,
) -> Result<impl BufRead + Send + use<>, Reason> {
    let broken = |error: std::io::Error| match error.kind() {
        ErrorKind::OutOfMemory => Reason::new("needs_memory", error),
        _ => Reason::new("broken_compression", error),
    };
    let (mut plain, _) = decompress(raw, meter.clone(), limits, workspace).map_err(broken)?;
    let mut first = Vec::with_capacity(BLOCK);
    let read = (&mut plain).take(BLOCK as u64).read_to_end(&mut first);
    match read {
        _ if starts_a_tar(&first) => Ok(Cursor::new(first).chain(plain)),
        Err(error) if first.is_empty() => Err(broken(error)),
        _ => Err(no_tar(&first)),
    }
}

struct Opened {
    raw: Metered,
    meter: Arc<Meter>,
    known: KnownShard,
    shard: ShardRef,
}

/// Holes that are sent together. More would keep the order waiting for the first of them.
const MAX_HOLES: u32 = 64;

/// Holes that wait for their neighbours.
#[derive(Default)]
struct Holes(Option<(u32, SampleId, u32)>);

impl Holes {
    /// Sends `item` behind the holes before it; a hole may wait for the next one.
    fn pass_on<E>(&mut self, item: Admitted, emit: &mut dyn FnMut(Admitted) -> Result<(), E>) -> Result<(), E> {
        let Admitted::Replayed(Replayed::Holes { pass, id, count }) = item else {
            self.close(emit)?;
            return emit(item);
        };
        // They come in order, and a replay has no other samples than holes and those that end a run.
        self.0 = Some(self.0.map_or((pass, id, count), |(pass, first, before)| (pass, first, before + count)));
        if self.0.is_some_and(|(_, _, count)| count >= MAX_HOLES) { self.close(emit) } else { Ok(()) }
    }

    fn close<E>(&mut self, emit: &mut dyn FnMut(Admitted) -> Result<(), E>) -> Result<(), E> {
        self.0.take().map_or(Ok(()), |(pass, id, count)| emit(Admitted::Replayed(Replayed::Holes { pass, id, count })))
    }
}

#[cfg(test)]
mod tests;
