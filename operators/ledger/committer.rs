//! The committer: one thread that writes shards' rows aside as they come, and makes finished shards durable, one after the
//! other.
//!
//! ```text
//!  operators of all workers ─▶ queue ─┬─▶ rows of a shard, from its first on ─▶ row groups (aside)
//!                                     └─▶ its end ─▶ parts (fsync, rename, folder) ─▶ manifest line (fsync) ─▶ reply
//! ```
//!
//! What is durable is said once, in the reply: the ledger's operator sends it on as a stream, and whoever counts shards or gives their
//! leases back stands there.
//!
//! # Invariants
//! 1. A reply with `Ok` is sent only after the manifest line is durable.
//! 2. While nobody can say whether the run is sound ([`first_samples`](super::first_samples)), manifest lines are held back, and
//!    nothing else is: rows and parts are written, so records return and readers go on. Parts without a line are nobody's; the next
//!    opening takes them away.
//! 3. The first error ends it: it fails the run's [`Stop`], everything after is answered with [`LedgerError::Ended`], nothing
//!    more is written, and the folder resumes.
//!
//! The queue is unbounded by itself; what may stand in it is bounded by the samples' records
//! ([`trommel_core::records`]), which return when their row group is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::LedgerError;
use super::items::Peaks;
use super::manifest::{Counts, LineStatus, SCHEMA_VERSION, ShardLine};
use super::part::{PartConfig, ShardRows};
use super::run_folder::RunFolder;
use trommel_core::notices::Notices;
use trommel_core::sample::PointRow;
use trommel_core::sample::{Fate, ShardOutcome};
use trommel_core::stop::Stop;
use trommel_core::wake::{Registration, locked};
use trommel_dataflow::redeem::Redeemed;

/// A shard all of whose fates have arrived, or whose bytes could not be had.
#[derive(Clone, Debug)]
pub struct FinishedShard {
    /// Ordinal in the plan.
    pub ordinal: u64,
    /// The shard's name.
    pub name: String,
    /// The fates that were not handed over before; sorted by index before they are written. Not written for an unavailable
    /// shard.
    pub fates: Vec<Arc<Fate>>,
    /// What the join says of the test points.
    pub items: Vec<PointRow>,
    /// Bytes read from the store.
    pub bytes: u64,
    /// Complete, rejected or unavailable.
    pub outcome: ShardOutcome,
    /// What was lost of it, or passed over in it.
    pub notices: Notices,
}

/// A shard that is durable, or durably marked as failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// Ordinal in the plan.
    pub ordinal: u64,
    /// The shard's name.
    pub name: String,
    /// Done, or to be read again by the next run.
    pub status: LineStatus,
    /// Samples by fate.
    pub counts: Counts,
    /// Bytes read from the store.
    pub bytes: u64,
    /// Why it failed, or what was odd about it.
    pub remark: Option<String>,
    /// What was lost of it, or passed over in it.
    pub notices: Notices,
    /// What its part says of the test points.
    pub points: Vec<PointRow>,
}

impl Committed {
    /// The shard's lease, to be given back.
    #[must_use]
    pub fn lease(&self) -> Redeemed {
        Redeemed { ordinal: self.ordinal, failed: self.status == LineStatus::Failed }
    }
}

/// Called once with a shard's answer, mostly on the committer's thread.
pub type Reply = Box<dyn FnOnce(Result<Committed, LedgerError>) + Send>;

/// A reply that is still owed. Wherever it is dropped, be it in a queue that nobody reads any more, the answer is [`LedgerError::Ended`]: who waits for it
/// would hold up the dataflow for ever.
struct Owed(Option<Reply>);

impl Owed {
    fn answer(mut self, answer: Result<Committed, LedgerError>) {
        if let Some(reply) = self.0.take() {
            reply(answer);
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Err(LedgerError::Ended));
        }
    }
}

enum Message {
    Rows {
        ordinal: u64,
        name: String,
        fates: Vec<Arc<Fate>>,
    },
    Shard(Box<FinishedShard>, Owed),
    /// The run is sound: what is held, and what comes, may be committed.
    Sound,
    /// Nobody will say any more that it is, unless somebody has.
    Ends,
    Fatal(LedgerError),
    End,
}

/// What operators hold of the committer.
#[derive(Clone)]
pub struct CommitHandle {
    queue: Sender<Message>,
}

impl CommitHandle {
    /// Hands a finished shard over; the reply is called when it is durable, or when it is known that it will not be.
    ///
    /// # Errors
    /// [`LedgerError::Ended`] if the committer is gone; the reply says so too.
    pub fn commit(&self, shard: FinishedShard, reply: Reply) -> Result<(), LedgerError> {
        self.queue.send(Message::Shard(Box::new(shard), Owed(Some(reply)))).map_err(|_| LedgerError::Ended)
    }

    /// Hands the next rows of an unfinished shard over, by index; they are written aside.
    ///
    /// # Errors
    /// [`LedgerError::Ended`] if the committer is gone.
    pub fn rows(&self, ordinal: u64, name: String, fates: Vec<Arc<Fate>>) -> Result<(), LedgerError> {
        self.queue.send(Message::Rows { ordinal, name, fates }).map_err(|_| LedgerError::Ended)
    }

    /// The run is sound: manifest lines may be written.
    pub fn sound(&self) {
        let _committer_gone = self.queue.send(Message::Sound);
    }

    /// Ends the run with an error of the graph's own.
    pub fn fail(&self, error: LedgerError) {
        // A committer that is gone has an error already.
        let _ = self.queue.send(Message::Fatal(error));
    }
}

/// What was done in this incarnation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitSummary {
    /// Shards committed.
    pub committed: u64,
    /// Those among them that an earlier run had rejected.
    pub again: BTreeSet<u64>,
    /// Shards marked as failed, with their reasons, by ordinal.
    pub failed: BTreeMap<u64, String>,
    /// Samples by fate, of the committed ones.
    pub counts: Counts,
    /// What was lost of the committed ones, or passed over in them.
    pub notices: Notices,
}

/// The committer's thread.
pub struct Committer {
    queue: Option<Sender<Message>>,
    thread: Option<JoinHandle<Option<Arc<LedgerError>>>>,
    summary: Arc<Mutex<CommitSummary>>,
    /// Whoever waits for a verdict hears of the run's end.
    _ends: Option<[Registration; 2]>,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn spawn(folder: Arc<RunFolder>, config: PartConfig, stop: Stop) -> Result<Self, LedgerError> {
        Self::start(folder, config, stop, true)
    }

    /// The same, but manifest lines wait until [`CommitHandle::sound`] is called. Where the run stops or winds down before, the shards
    /// that wait are not committed, and the next run reads them again.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn spawn_waiting(folder: Arc<RunFolder>, config: PartConfig, stop: Stop) -> Result<Self, LedgerError> {
        Self::start(folder, config, stop, false)
    }

    fn start(folder: Arc<RunFolder>, config: PartConfig, stop: Stop, is_sound: bool) -> Result<Self, LedgerError> {
        let (queue, messages) = unbounded();
        let summary = Arc::new(Mutex::new(CommitSummary::default()));
        let shared = Arc::clone(&summary);
        let root = folder.root().to_path_buf();
        let ends = || {
            let queue = queue.clone();
            move || {
                let _committer_gone = queue.send(Message::Ends);
            }
        };
        let ends = (!is_sound).then(|| [stop.on_request(ends()), stop.on_wind_down(ends())]);
        let thread = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || {
                let (peaks, open, held) = (Peaks::default(), HashMap::new(), Vec::new());
                let may_commit = is_sound.then_some(true);
                Work { folder, config, stop, may_commit, peaks, summary: shared, open, held }.run(&messages)
            })
            .map_err(LedgerError::at("start a thread for", &root))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), summary, _ends: ends })
    }

    /// A handle for operators.
    ///
    /// # Errors
    /// [`LedgerError::Ended`] after [`Committer::finish`].
    pub fn handle(&self) -> Result<CommitHandle, LedgerError> {
        self.queue.clone().map(|queue| CommitHandle { queue }).ok_or(LedgerError::Ended)
    }

    /// What was done so far.
    #[must_use]
    pub fn summary(&self) -> CommitSummary {
        locked(&self.summary).clone()
    }

    /// Waits until all that was handed over before this call is durable, and ends the thread; handles that are still
    /// about are answered with [`LedgerError::Ended`].
    ///
    /// # Errors
    /// The error that ended the committer early.
    pub fn finish(mut self) -> Result<CommitSummary, Arc<LedgerError>> {
        if let Some(queue) = self.queue.take() {
            // A thread that is gone has left its error to be joined.
            let _ = queue.send(Message::End);
        }
        let error = match self.thread.take().map(JoinHandle::join) {
            Some(Ok(error)) => error,
            Some(Err(_)) | None => Some(Arc::new(LedgerError::Ended)),
        };
        error.map_or_else(|| Ok(self.summary()), Err)
    }
}

struct Work {
    folder: Arc<RunFolder>,
    config: PartConfig,
    stop: Stop,
    /// `None` while nobody can say.
    may_commit: Option<bool>,
    peaks: Peaks,
    summary: Arc<Mutex<CommitSummary>>,
    /// Shards some of whose rows are written.
    open: HashMap<u64, ShardRows>,
    /// Shards whose parts are written, while nobody can say whether they may be committed.
    held: Vec<(Written, Owed)>,
}

/// A shard whose parts are written: its line, and what they say of the test points.
type Written = (ShardLine, Vec<PointRow>);

impl Work {
    fn run(mut self, messages: &Receiver<Message>) -> Option<Arc<LedgerError>> {
        let error = self.work(messages).err().map(Arc::new);
        if let Some(error) = &error {
            self.stop.fail(Arc::clone(error));
        }
        error
    }

    /// Works until the end, or until nobody is left who could say it.
    fn work(&mut self, messages: &Receiver<Message>) -> Result<(), LedgerError> {
        loop {
            match messages.recv() {
                Err(_) | Ok(Message::End) => return Ok(()),
                Ok(Message::Fatal(error)) => return Err(error),
                Ok(Message::Sound) => self.may_commit = Some(true),
                Ok(Message::Ends) => _ = self.may_commit.get_or_insert(false),
                Ok(Message::Rows { ordinal, name, fates }) => self.add(ordinal, &name, fates)?,
                Ok(Message::Shard(shard, reply)) => {
                    let written = self.write(*shard)?;
                    self.held.push((written, reply));
                }
            }
            self.release()?;
        }
    }

    /// Commits what is held, or gives it up, if it can be said which.
    fn release(&mut self) -> Result<(), LedgerError> {
        let Some(may) = self.may_commit else { return Ok(()) };
        for (written, reply) in std::mem::take(&mut self.held) {
            if may {
                reply.answer(Ok(self.commit(written)?));
            }
        }
        Ok(())
    }

    fn add(&mut self, ordinal: u64, name: &str, fates: Vec<Arc<Fate>>) -> Result<(), LedgerError> {
        let mut rows = self.rows_of(ordinal, name)?;
        rows.add(fates, &self.config)?;
        self.open.insert(ordinal, rows);
        Ok(())
    }

    fn rows_of(&mut self, ordinal: u64, name: &str) -> Result<ShardRows, LedgerError> {
        let folder = &self.folder;
        let begin = || {
            ShardRows::begin(
                folder.storage().as_ref(),
                folder.root(),
                folder.incarnation(),
                ordinal,
                name,
                &self.config,
            )
        };
        self.open.remove(&ordinal).map_or_else(begin, Ok)
    }

    /// Makes a shard's parts durable, and gives the line that shows them.
    fn write(&mut self, mut shard: FinishedShard) -> Result<Written, LedgerError> {
        let (status, remark, rejected) = match shard.outcome {
            ShardOutcome::Complete(remark) => (LineStatus::Committed, remark, None),
            ShardOutcome::Rejected(reason) => (LineStatus::Committed, Some(reason.to_string()), Some(reason)),
            ShardOutcome::Unavailable(why) | ShardOutcome::Changed(why) => (LineStatus::Failed, Some(why), None),
        };
        // What an unfinished shard has lost is known when it is read again.
        let notices = if status == LineStatus::Committed { shard.notices } else { Notices::default() };
        let mut line = ShardLine {
            schema: SCHEMA_VERSION,
            ordinal: shard.ordinal,
            name: shard.name,
            status,
            remark,
            rejected,
            notices,
            bytes: shard.bytes,
            counts: Counts::default(),
            parts: Vec::new(),
            decision: self.folder.decision_hash().into(),
        };
        let mut items = Vec::new();
        if status == LineStatus::Committed {
            shard.fates.sort_by_key(|f| f.info.id.index);
            items = self.peaks.select(shard.items);
            let mut rows = self.rows_of(line.ordinal, &line.name)?;
            rows.add(shard.fates, &self.config)?;
            (line.parts, line.counts) =
                rows.finish(self.folder.storage().as_ref(), self.folder.root(), &items, &self.config)?;
            self.peaks.raise(&items);
        } else if let Some(rows) = self.open.remove(&line.ordinal) {
            rows.forget(self.folder.storage().as_ref())?;
        }
        Ok((line, items))
    }

    /// Shows a shard: its line is durable.
    fn commit(&mut self, (line, points): Written) -> Result<Committed, LedgerError> {
        self.folder.append(&line)?;
        let status = line.status;
        let mut summary = locked(&self.summary);
        if status == LineStatus::Committed {
            summary.committed += 1;
            if self.folder.before().committed.contains_key(&line.ordinal) {
                summary.again.insert(line.ordinal);
            }
            summary.counts.add(&line.counts);
            summary.notices.merge(&line.notices);
        } else {
            summary.failed.insert(line.ordinal, line.remark.clone().unwrap_or_default());
        }
        drop(summary);
        let ShardLine { ordinal, name, counts, bytes, remark, notices, .. } = line;
        Ok(Committed { ordinal, name, status, counts, bytes, remark, notices, points })
    }
}
