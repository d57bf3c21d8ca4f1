//! Stored embeddings as shards: each file is one, each of its rows a sample that is embedded already.
//!
//! ```text
//! lease ─▶ open ─▶ canonical batches ─┬─▶ Sample<Embedded>   to the join
//!                                     └─▶ Event              rows without a direction, rejects that a ledger knows, the end
//! ```
//!
//! # Invariants
//!
//! 1. Indices `0..count` come once each, in order, as a sample or a fate; then one [`Event::End`] with `count`.
//! 2. Where the embeddings were kept by a run, its ledger gives every sample its name and index: what it rejected is rejected here with
//!    the same words, and what was taken down stays dropped, so that a decision is that of the shard itself. Else a row's number is its index.
//! 3. A file that cannot be read as what it should be is a rejected shard; one that cannot be had is an unfinished one.
//! 4. Credit is taken row by row; a reader holds one batch beside it.

use std::sync::Arc;

use half::f16;
use trommel_columnar::ColumnarError;
use trommel_columnar::source::{BATCH_ROWS, EmbeddingBatch, EmbeddingReader};
use trommel_core::causes::{Cause, Causes};
use trommel_core::credit::Stopped;
use trommel_core::sample::{
    Embedded, Event, Fate, Reason, Sample, SampleId, SampleInfo, ShardEnd, ShardOutcome, Status, Work,
};
use trommel_dataflow::source::{Lease, Outlet, ReadShard};

use super::reader::SAMPLE_OVERHEAD_BYTES;

/// A sample that a ledger knows.
#[derive(Debug)]
pub struct KnownSample {
    /// Its names and its place.
    pub info: SampleInfo,
    /// What became of it whatever a rule says: it could not be embedded, or was taken down.
    pub settled: Option<(Status, Reason)>,
    /// Whether it has a caption, as far as the ledger says.
    pub captioned: bool,
}

/// Samples of a ledger, as they are read.
pub type Samples = Box<dyn Iterator<Item = Result<KnownSample, Cause>>>;

/// A file of embeddings, opened.
pub struct OpenedEmbeddings {
    /// The shard's name.
    pub name: String,
    /// Its vectors; `None` where no sample has one.
    pub reader: Option<EmbeddingReader>,
    /// Its samples in their order, where a ledger knows them.
    pub known: Option<Samples>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its rows, where they are known beforehand.
    pub rows: Option<u64>,
}

/// Why there is nothing to read.
#[derive(Debug)]
pub enum Unread {
    /// It cannot be had.
    Unavailable(String),
    /// It is there, and is not what it should be.
    Rejected {
        /// The shard's name.
        name: String,
        /// What is wrong with it.
        reason: Reason,
        /// Rows that are lost with it, where they are known.
        rows: Option<u64>,
    },
}

impl Unread {
    /// Of a file of the shard `name`.
    #[must_use]
    pub fn of(name: &str, error: &ColumnarError, rows: Option<u64>) -> Self {
        match error.io_cause() {
            Some(_) => Self::Unavailable(Causes(error).to_string()),
            None => Self::Rejected { name: name.to_owned(), reason: reason(error), rows },
        }
    }
}

fn reason(error: &ColumnarError) -> Reason {
    let code = match error {
        ColumnarError::Mismatch { .. } => "embeddings_mismatch",
        ColumnarError::Io { .. }
        | ColumnarError::Unreadable { .. }
        | ColumnarError::Metadata { .. }
        | ColumnarError::Malformed { .. }
        | ColumnarError::Column { .. }
        | ColumnarError::BadRow { .. }
        | ColumnarError::NoEmbeddings { .. } => "embeddings_malformed",
    };
    Reason::new(code, Causes(error))
}

/// Files of embeddings by the ordinals of a plan.
pub trait EmbeddingFiles: Send + Sync {
    /// Opens one.
    ///
    /// # Errors
    /// See [`Unread`].
    fn open(&self, ordinal: u64) -> Result<OpenedEmbeddings, Unread>;
}

/// Bytes a row holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowBytes {
    /// Bytes of its vector.
    pub vector: u64,
    /// What it leaves until the ledger has written it, beside its texts.
    pub record: u64,
    /// The same of a shard.
    pub shard: u64,
}

/// Bytes that a reader holds beside its rows' credit: a batch as stored and as canonical vectors, and as much again for its texts and the
/// table that they come from.
#[must_use]
pub const fn reader_bytes(dim: usize) -> u64 {
    let stored = 6 * (dim * BATCH_ROWS) as u64;
    // Batches of matrices are cut at 16 MiB of f32.
    (if stored < 24 << 20 { stored } else { 24 << 20 }) + (16 << 20)
}

/// Reads files of embeddings.
pub struct EmbeddingShards {
    stored: Arc<dyn EmbeddingFiles>,
    bytes: RowBytes,
}

impl EmbeddingShards {
    /// A reader of these files.
    #[must_use]
    pub fn new(stored: Arc<dyn EmbeddingFiles>, bytes: RowBytes) -> Self {
        Self { stored, bytes }
    }
}

/// What is sent: a row that can be judged, or what the ledger hears at once.
pub type Row = Result<Sample<Embedded>, Event>;

impl ReadShard for EmbeddingShards {
    type Item = Row;

    fn read(&self, lease: &Lease, out: &mut Outlet<Row>) -> Result<(), Stopped> {
        let &Lease { pass, ordinal, .. } = lease;
        let mut reading = Reading { pass, bytes: self.bytes, end: ShardEnd::new(ordinal), out };
        match self.stored.open(ordinal) {
            Ok(opened) => reading.stream(opened)?,
            Err(Unread::Unavailable(why)) => reading.end.outcome = ShardOutcome::Unavailable(why),
            Err(Unread::Rejected { name, reason, rows }) => reading.reject(&name, reason, rows),
        }
        let end = reading.end;
        out.send(Err(Event::End(end)))
    }
}

/// What ends a shard's reading early.
enum Trouble {
    /// It is not what it should be.
    Bad(Reason),
    /// It cannot be had.
    Unavailable(String),
}

/// One shard's reading.
struct Reading<'a> {
    pass: u32,
    bytes: RowBytes,
    end: ShardEnd,
    out: &'a mut Outlet<Row>,
}

impl Reading<'_> {
    fn stream(&mut self, opened: OpenedEmbeddings) -> Result<(), Stopped> {
        let OpenedEmbeddings { name, mut reader, mut known, bytes, rows } = opened;
        self.end.bytes = bytes;
        while let Some(batch) = reader.as_mut().and_then(Iterator::next) {
            let told = match batch {
                Ok(batch) => self.batch(batch, known.as_mut())?,
                Err(error) => Err(match error.io_cause() {
                    Some(_) => Trouble::Unavailable(Causes(&error).to_string()),
                    None => Trouble::Bad(reason(&error)),
                }),
            };
            match told {
                Ok(()) => {}
                Err(Trouble::Bad(reason)) => {
                    self.fail(&name, reason, rows);
                    return Ok(());
                }
                Err(Trouble::Unavailable(why)) => {
                    self.end.outcome = ShardOutcome::Unavailable(why);
                    return Ok(());
                }
            }
        }
        for remark in reader.iter().flat_map(|reader| &reader.notes().remarks) {
            remark.note(&mut self.end.notices);
        }
        let mut without = 0;
        for sample in known.into_iter().flatten() {
            match sample {
                Ok(KnownSample { info, settled: Some(settled), .. }) => self.settled(info, settled)?,
                Ok(_) => without += 1,
                Err(error) => {
                    self.end.outcome = ShardOutcome::Unavailable(Causes(&*error).to_string());
                    return Ok(());
                }
            }
        }
        if without > 0 {
            let text = "files of embeddings with fewer rows than their ledger has samples";
            self.end.notices.loss("fewer_embeddings", text, format!("{name}: {without} missing"), 1, without);
        }
        Ok(())
    }

    /// Sends a batch; or says why its rows are not the samples that they should be.
    fn batch(
        &mut self,
        batch: EmbeddingBatch,
        mut known: Option<&mut Samples>,
    ) -> Result<Result<(), Trouble>, Stopped> {
        let EmbeddingBatch { vectors, keys, indices, bad, mut details, .. } = batch;
        let dim = vectors.len() / keys.len().max(1);
        let mut bad = bad.into_iter().peekable();
        let take = |column: &mut Vec<Option<String>>, at: usize| column.get_mut(at).and_then(Option::take);
        let mismatch = |why: String| Ok(Err(Trouble::Bad(Reason::new("embeddings_mismatch", why))));
        'rows: for (at, key) in keys.into_iter().enumerate() {
            let without = bad.next_if(|(row, _)| *row == at);
            let (info, captioned) = match &mut known {
                Some(known) => loop {
                    let KnownSample { info, settled, captioned } = match known.next() {
                        Some(Ok(sample)) => sample,
                        Some(Err(error)) => return Ok(Err(Trouble::Unavailable(Causes(&*error).to_string()))),
                        None => return mismatch("more rows than samples".into()),
                    };
                    let (index, wanted) = (indices[at], info.id.index);
                    match settled {
                        Some(settled) => {
                            self.settled(info, settled)?;
                            if index == Some(wanted) {
                                continue 'rows;
                            }
                        }
                        None if index == Some(wanted) => break (info, captioned),
                        None => {
                            return mismatch(format!("a row of sample {index:?} (`{key}`) where {wanted} is due"));
                        }
                    }
                },
                None => {
                    let (uid, url) = (take(&mut details.uids, at), take(&mut details.urls, at));
                    let sha256 = take(&mut details.sha256s, at);
                    // Nobody knows of captions that no table has: nothing is said of them.
                    let captions = &details.captions;
                    let captioned = captions.is_empty()
                        || captions[at].as_deref().is_some_and(|caption| !caption.trim().is_empty());
                    (SampleInfo { key, uid, url, sha256, ..SampleInfo::default() }, captioned)
                }
            };
            match without {
                Some((_, why)) => self.settled(info, (Status::Rejected, Reason::new(why.code(), "")))?,
                None => self.sample(info, captioned, &vectors[at * dim..(at + 1) * dim])?,
            }
        }
        Ok(Ok(()))
    }

    fn sample(&mut self, info: SampleInfo, captioned: bool, vector: &[f16]) -> Result<(), Stopped> {
        let permit = self.out.admit(self.bytes.vector + SAMPLE_OVERHEAD_BYTES)?;
        let info = Arc::new(self.numbered(info)?);
        let payload = Embedded { vector: vector.to_vec(), train: None };
        // Only whether there is a caption matters: none is kept.
        let caption = captioned.then(|| Arc::from(""));
        let (pass, work) = (self.pass, Work::Judge);
        self.out.send(Ok(Sample { info, pass, work, caption, encoded_bytes: 0, permit, payload }))
    }

    fn settled(&mut self, info: SampleInfo, (status, reason): (Status, Reason)) -> Result<(), Stopped> {
        let info = Arc::new(self.numbered(info)?);
        self.out.send(Err(Fate::recorded(info, status, Some(reason), Vec::new()).into()))
    }

    /// The sample with its place and its record.
    fn numbered(&mut self, mut info: SampleInfo) -> Result<SampleInfo, Stopped> {
        info.id = SampleId { ordinal: self.end.ordinal, index: self.end.count };
        let beside_bytes = if self.end.count == 0 { self.bytes.shard } else { 0 };
        info.record = self.out.record(self.bytes.record + info.text_bytes(), beside_bytes)?;
        self.end.count += 1;
        Ok(info)
    }

    /// What cannot be read any further: rejected where nothing was, cut off where something was.
    fn fail(&mut self, name: &str, reason: Reason, rows: Option<u64>) {
        if self.end.count == 0 {
            return self.reject(name, reason, rows);
        }
        let lost = rows.map_or(1, |rows| rows.saturating_sub(u64::from(self.end.count)).max(1));
        let text = "files of embeddings that cannot be read to their end";
        self.end.notices.loss("embeddings_cut_off", text, format!("{name}: {reason}"), 1, lost);
        self.end.outcome = ShardOutcome::Complete(Some(reason.to_string()));
    }

    fn reject(&mut self, name: &str, reason: Reason, rows: Option<u64>) {
        let text = format!("shards rejected ({})", reason.code);
        let (code, place) = (format!("shard_{}", reason.code), format!("{name}: {}", reason.detail));
        self.end.notices.file_loss(&code, &text, place, rows.map(|rows| rows.max(1)));
        self.end.outcome = ShardOutcome::Rejected(reason);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
