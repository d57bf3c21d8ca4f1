//! What is known of a shard's samples before they are read, and so what is wanted of each: nothing, a ledger's decisions that are
//! replayed, or a split, whose samples are judged and all others dropped: unread, but for a list of uids.

use std::cell::{OnceCell, RefCell};
use std::fmt::Display;
use std::sync::Arc;

use super::super::samples::{Group, Want};
use super::{Admitted, Replayed, Request, ViewBytes};
use trommel_core::causes::{Cause, Causes};
use trommel_core::hash::Hash64;
use trommel_core::notices::Notices;
use trommel_core::sample::{Event, NO_CAPTION, Reason, Sample, SampleInfo, ShardOutcome, Status, Work};

/// Why what is known of a shard is of no use for it.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    /// The ledger, the split or the list cannot be read.
    #[error(transparent)]
    Unread(Cause),
    /// A list cannot tell whether it has a sample: a uid that is missing, a key of two samples.
    #[error(transparent)]
    Untold(Cause),
    /// Samples that a list has of the shard did not come.
    #[error(transparent)]
    Absent(Cause),
    /// No such shard in the plan.
    #[error("the plan has no shard {0}")]
    NoShard(u64),
    /// A replay without a ledger.
    #[error("no decisions to replay")]
    NoDecisions,
    /// A replay of a shard that was not judged.
    #[error("the ledger has no decisions on this shard")]
    NotJudged,
    /// Another sample stands in the place of one that is known.
    #[error("its sample {index} is `{key}`, which is not the one that {whose} there")]
    OtherSample {
        /// The sample's raw index.
        index: u32,
        /// The sample's key.
        key: String,
        /// Who knows the other one.
        whose: &'static str,
    },
    /// The ledger knows another number of samples.
    #[error("it has {count} samples, the ledger knows {known}")]
    OtherCount {
        /// Samples that were read.
        count: u32,
        /// Samples in the ledger.
        known: usize,
    },
    /// The split keeps a sample behind the last one.
    #[error("it has {count} samples, and the split keeps its sample {last}")]
    TooFew {
        /// Samples that were read.
        count: u32,
        /// Raw index of the last one that is kept.
        last: u32,
    },
    /// A sample behind those of the ledger.
    #[error("its sample {0} is not in the ledger")]
    NotInLedger(u32),
    /// A sample that was kept and cannot be read any more.
    #[error("the ledger kept sample {index} ({key}), which now is a reject: {reason}")]
    KeptRejected {
        /// The sample's raw index.
        index: u32,
        /// The sample's key.
        key: String,
        /// Why it is a reject.
        reason: Reason,
    },
    /// A sample came as whole tar blocks.
    #[error("sample {0} came as it stands; this is a bug")]
    Original(u32),
}

impl KnownError {
    /// What is known cannot be read.
    pub fn unread(cause: impl Into<Cause>) -> Self {
        Self::Unread(cause.into())
    }

    /// How a shard at `place` ends by it.
    pub(crate) fn outcome(&self, place: impl Display) -> ShardOutcome {
        let why = format!("{place}: {}", Causes(self));
        match self {
            Self::Unread(_) => ShardOutcome::Unavailable(why),
            Self::Untold(_) => ShardOutcome::Changed(why),
            _ => exchanged(why),
        }
    }
}

/// How a shard ends that is not the one which is known.
pub(crate) fn exchanged(why: impl Display) -> ShardOutcome {
    let remedy = "put the judged one back, or judge this one in a --run of its own";
    ShardOutcome::Changed(format!("{why}: the shard was exchanged; {remedy}"))
}

/// What a ledger decided, by shard, as a value.
pub trait Decisions: Send + Sync {
    /// The statuses of a shard's samples by index; `None` when it is not judged.
    ///
    /// # Errors
    /// The ledger cannot be read.
    fn shard(&self, ordinal: u64) -> Result<Option<Arc<Vec<Status>>>, KnownError>;

    /// Hashes of the keys of a judged shard's samples by index, as [`key_hash`] makes them; `None` where nobody kept them.
    ///
    /// # Errors
    /// The ledger cannot be read.
    fn keys(&self, _ordinal: u64) -> Result<Option<Vec<u64>>, KnownError> {
        Ok(None)
    }

    /// Raw indices, ascending, of a judged shard's samples that had no caption when they were kept; `None` where nobody knows.
    ///
    /// # Errors
    /// The ledger cannot be read.
    fn captionless(&self, _ordinal: u64) -> Result<Option<Vec<u32>>, KnownError> {
        Ok(None)
    }
}

/// Whom a split keeps, by shard, as a value.
pub trait Members: Send + Sync {
    /// Whom it keeps of a shard.
    ///
    /// # Errors
    /// The split cannot be read.
    fn shard(&self, ordinal: u64) -> Result<Named, KnownError>;
}

/// Whom a split keeps of one shard.
pub enum Named {
    /// Those at these raw indices, ascending, each with the hash of its key, as [`key_hash`] makes it.
    Rows(Vec<(u32, u64)>),
    /// Those whom a list has, which says no indices.
    Listed(Box<dyn Listed>),
}

/// A list's part in a shard, asked sample by sample in the order of their indices.
pub trait Listed {
    /// Whether it has uids, and no keys: a sample must be read before anybody can say.
    fn by_uid(&self) -> bool;

    /// Whether it has a sample.
    ///
    /// # Errors
    /// A uid that is due and missing or none, a list that cannot be read.
    fn keeps(&mut self, index: u32, key: &str, uid: Option<&str>) -> Result<bool, KnownError>;

    /// Whether it knows how many samples of the shard are due, and misses those that do not come.
    fn counts(&self) -> bool;

    /// Samples so far whose uid it has more than once.
    fn repeated_uids(&self) -> u64;

    /// The shard has ended.
    ///
    /// # Errors
    /// Keys that did not come.
    fn finish(&self) -> Result<(), KnownError>;
}

/// What stands for a key where it is compared with the one that was judged.
#[must_use]
pub const fn key_hash(key: &str) -> u64 {
    Hash64::new("key").bytes(key.as_bytes()).finish()
}

/// What is known of a shard's samples, see the module's head.
pub(crate) enum KnownShard {
    /// Nothing: all are judged.
    Nothing,
    /// The ledger's decisions, which are replayed, and the hashes of the keys that they belong to.
    Judged(Arc<Vec<Status>>, Option<Vec<u64>>),
    /// Those that a split keeps, by index, with the hashes of their keys. The others are dropped.
    Named(Vec<(u32, u64)>),
    /// Those whom a list has. The others are dropped.
    Listed(RefCell<Asked>),
}

/// A list that is asked, and what went wrong when nobody could be told yet.
pub(crate) struct Asked {
    listed: Box<dyn Listed>,
    trouble: Option<KnownError>,
}

impl KnownShard {
    /// What is known of the shard that is asked for.
    pub(crate) fn of(
        request: &Request,
        decisions: Option<&dyn Decisions>,
        split: Option<&dyn Members>,
    ) -> Result<Self, KnownError> {
        match (request.replay, decisions, split) {
            (true, Some(decisions), _) => {
                let statuses = decisions.shard(request.ordinal)?.ok_or(KnownError::NotJudged)?;
                Ok(Self::Judged(statuses, decisions.keys(request.ordinal)?))
            }
            (true, None, _) => Err(KnownError::NoDecisions),
            (false, _, Some(split)) => Ok(match split.shard(request.ordinal)? {
                Named::Rows(rows) => Self::Named(rows),
                Named::Listed(listed) => Self::Listed(RefCell::new(Asked { listed, trouble: None })),
            }),
            (false, _, None) => Ok(Self::Nothing),
        }
    }

    /// Whether a sample's content is wanted; each is asked for once, in order.
    fn keeps(&self, index: u32, key: &[u8]) -> bool {
        match self {
            Self::Nothing => true,
            Self::Judged(statuses, _) => statuses.get(index as usize) == Some(&Status::Kept),
            Self::Named(members) => members.binary_search_by_key(&index, |(index, _)| *index).is_ok(),
            Self::Listed(listed) => {
                let Asked { listed, trouble } = &mut *listed.borrow_mut();
                // A key can be looked up here; a uid is looked up when it is known.
                listed.by_uid()
                    || listed.keeps(index, &String::from_utf8_lossy(key), None).unwrap_or_else(|error| {
                        trouble.get_or_insert(error);
                        false
                    })
            }
        }
    }

    /// Whether a sample that was read is one of a list of uids; of all others it is known by then.
    fn lists(&self, info: &SampleInfo) -> Result<bool, KnownError> {
        let Self::Listed(listed) = self else { return Ok(true) };
        let listed = &mut listed.borrow_mut().listed;
        if listed.by_uid() { listed.keeps(info.id.index, &info.key, info.uid.as_deref()) } else { Ok(true) }
    }

    /// What went wrong when [`Self::keeps`] was asked.
    fn trouble(&self) -> Result<(), KnownError> {
        match self {
            Self::Listed(listed) => listed.borrow_mut().trouble.take().map_or(Ok(()), Err),
            Self::Nothing | Self::Judged(..) | Self::Named(_) => Ok(()),
        }
    }

    /// Whether it is known how many samples are due: no shard's statistics know better.
    pub(crate) fn counts(&self) -> bool {
        match self {
            Self::Named(_) => true,
            Self::Listed(listed) => listed.borrow().listed.counts(),
            Self::Nothing | Self::Judged(..) => false,
        }
    }

    /// Notes what is odd in a list.
    pub(crate) fn note(&self, notices: &mut Notices, shard: &str) {
        let Self::Listed(listed) = self else { return };
        let text = "samples whose uid stands in the list several times, taken once";
        notices.note("repeated_uids", text, shard, listed.borrow().listed.repeated_uids());
    }

    /// The hash of the key that the sample with this index had.
    fn key(&self, index: u32) -> Option<u64> {
        match self {
            Self::Nothing | Self::Listed(_) => None,
            Self::Judged(_, keys) => keys.as_ref()?.get(index as usize).copied(),
            Self::Named(members) => {
                let at = members.binary_search_by_key(&index, |(index, _)| *index).ok()?;
                Some(members[at].1)
            }
        }
    }

    /// Who knows samples of the shard, and how many; `None` where nobody does.
    pub(super) fn expected(&self) -> Option<String> {
        match self {
            Self::Judged(statuses, _) if !statuses.is_empty() => {
                Some(format!("the ledger knows {} samples of it", statuses.len()))
            }
            Self::Named(members) if !members.is_empty() => {
                Some(format!("the split keeps {} samples of it", members.len()))
            }
            // Of uids nobody knows, nor of keys that are not said to be of this shard.
            Self::Listed(listed) if listed.borrow().listed.counts() => Some("the split keeps samples of it".into()),
            Self::Nothing | Self::Judged(..) | Self::Named(_) | Self::Listed(_) => None,
        }
    }
}

/// One shard's reading: what is wanted of each index, and what is sent for it.
pub(crate) struct Task<'a> {
    pub(crate) request: &'a Request,
    pub(crate) views: ViewBytes,
    pub(crate) known: &'a KnownShard,
    decisions: Option<&'a dyn Decisions>,
    /// Who had no caption, once somebody has asked.
    captionless: OnceCell<Option<Vec<u32>>>,
}

impl<'a> Task<'a> {
    /// The reading of the shard that is asked for, of which `known` is what `decisions` and a split say.
    pub(crate) const fn new(
        request: &'a Request,
        views: ViewBytes,
        known: &'a KnownShard,
        decisions: Option<&'a dyn Decisions>,
    ) -> Self {
        Self { request, views, known, decisions, captionless: OnceCell::new() }
    }

    /// Whether a sample that is replayed had a caption when it was judged. The ledger is asked where one is missing: most shards miss none.
    fn had_caption(&self, index: u32) -> Result<bool, KnownError> {
        let (KnownShard::Judged(..), Some(decisions)) = (self.known, self.decisions) else { return Ok(false) };
        let captionless = match self.captionless.get() {
            Some(captionless) => captionless,
            None => {
                let asked = decisions.captionless(self.request.ordinal)?;
                self.captionless.get_or_init(|| asked)
            }
        };
        Ok(captionless.as_ref().is_some_and(|all| all.binary_search(&index).is_err()))
    }

    /// What is done with a sample that is kept; `None` where nothing is.
    fn work(&self, index: u32) -> Option<Work> {
        let before = index < self.request.train_from;
        match self.known {
            KnownShard::Judged(..) if before => None,
            KnownShard::Judged(..) => Some(Work::Replay),
            KnownShard::Nothing | KnownShard::Named(_) | KnownShard::Listed(_) if before => Some(Work::JudgeOnly),
            KnownShard::Nothing | KnownShard::Named(_) | KnownShard::Listed(_) => Some(Work::Judge),
        }
    }

    pub(crate) fn want(&self, index: u32, key: &[u8]) -> Want {
        let work = self.work(index).filter(|_| self.known.keeps(index, key));
        work.map_or(Want::Place, |work| Want::Content { extra_bytes: self.views.of(work) })
    }

    /// Whether this is the sample that was judged.
    fn compare(&self, index: u32, key: &str) -> Result<(), KnownError> {
        if self.known.key(index).is_none_or(|judged| judged == key_hash(key)) {
            return Ok(());
        }
        let whose = match self.known {
            KnownShard::Named(_) | KnownShard::Listed(_) => "the split keeps",
            KnownShard::Nothing | KnownShard::Judged(..) => "the ledger judged",
        };
        Err(KnownError::OtherSample { index, key: key.to_owned(), whose })
    }

    /// That a shard of so many samples is the one that is known.
    pub(crate) fn check_count(&self, count: u32) -> Result<(), KnownError> {
        self.known.trouble()?;
        match self.known {
            KnownShard::Judged(statuses, _) if statuses.len() as u64 != u64::from(count) => {
                Err(KnownError::OtherCount { count, known: statuses.len() })
            }
            KnownShard::Named(members) => match members.last() {
                Some((last, _)) if *last >= count => Err(KnownError::TooFew { count, last: *last }),
                _ => Ok(()),
            },
            KnownShard::Listed(listed) => listed.borrow().listed.finish(),
            KnownShard::Nothing | KnownShard::Judged(..) => Ok(()),
        }
    }

    /// What is sent for a group; an error when it contradicts what is known.
    pub(crate) fn admitted(&self, group: Group) -> Result<Option<Admitted>, KnownError> {
        self.known.trouble()?;
        let (pass, info) = (self.request.pass, group.info());
        self.compare(info.id.index, &info.key)?;
        match (group, self.known) {
            (Group::Place(info), KnownShard::Judged(..)) if info.id.index < self.request.train_from => Ok(None),
            (Group::Place(info), KnownShard::Judged(statuses, _)) => match statuses.get(info.id.index as usize) {
                None => Err(KnownError::NotInLedger(info.id.index)),
                Some(_) => Ok(Some(Admitted::Replayed(Replayed::Holes { pass, id: info.id, count: 1 }))),
            },
            (Group::Place(info), KnownShard::Nothing | KnownShard::Named(_) | KnownShard::Listed(_)) => {
                Ok(Some(Admitted::Event(Event::dropped(info))))
            }
            (Group::Rejected(info, reason), KnownShard::Judged(_, None)) => {
                Err(KnownError::KeptRejected { index: info.id.index, key: info.key.clone(), reason })
            }
            (Group::Rejected(info, reason), KnownShard::Judged(_, Some(_))) => {
                Ok(Some(Admitted::Replayed(Replayed::skipped(pass, &info, &reason))))
            }
            (Group::Rejected(info, reason), KnownShard::Nothing | KnownShard::Named(_) | KnownShard::Listed(_)) => {
                // A reject whose uid nobody knows may be one that the split keeps.
                let kept = info.uid.is_none() || self.known.lists(&info)?;
                Ok(Some(Admitted::Event(if kept { Event::rejected(info, reason) } else { Event::dropped(info) })))
            }
            (Group::Original(info, _), _) => Err(KnownError::Original(info.id.index)),
            (Group::Sample(sample), _) => {
                if !self.known.lists(&sample.info)? {
                    return Ok(Some(Admitted::Event(Event::dropped(sample.info))));
                }
                // Who had none when the ledger was written is counted there.
                if sample.caption.is_none() && self.had_caption(sample.info.id.index)? {
                    let gone = Reason::new(NO_CAPTION, "it had one when it was judged");
                    return Ok(Some(Admitted::Replayed(Replayed::skipped(pass, &sample.info, &gone))));
                }
                let work = self.work(sample.info.id.index).unwrap_or(Work::JudgeOnly);
                Ok(Some(Admitted::Sample(Sample { pass, work, ..sample })))
            }
        }
    }
}
