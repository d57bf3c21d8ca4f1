//! Embeddings as a stream: our Arrow IPC files, numpy's, and the folders of clip-retrieval and DataComp, batch by batch in canonical form.
//!
//! A set is read as a whole ([`EmbeddingReader::open`]), or file by file ([`EmbeddingReader::of`] of each of its
//! [`pieces`]), where each is a shard.
//!
//! ```text
//!  path ─▶ pieces (files in order) ─▶ batches as stored ─▶ canonical batches
//! ```
//!
//! Stored f16 files are used as they are if every row's norm is within 1e-3 of 1; a file with any other row is normalised
//! as a whole. So each f16 file is read twice, which bounds memory by a batch. f32 rows are always normalised, unless they are to be rounded as they
//! stand ([`EmbeddingReader::rounding_as_stored`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::f16;

use super::ColumnarError;
use super::canonical::{canonicalise_into, is_unit, norm, round_to_f16, widen};
pub use super::embedding_batch::{BATCH_ROWS, Details, EmbeddingBatch};
use super::ipc::StoredBatch;
use super::leaving::LeftOut;
use super::npy::StoredRows;
use super::pieces::{Piece, pieces};
use trommel_core::notices::Notices;
use trommel_core::sample::Identity;

mod stored;

use self::stored::{Stored, open_piece};

/// What was done to the rows on their way in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Rows of f16 files that were normalised again, because a row of the file was further than 1e-3 from norm 1.
    pub renormalised_rows: u64,
    /// Rows that were stored as f32.
    pub converted_rows: u64,
    /// Rows that were left out, see [`EmbeddingReader::leaving`].
    pub left_out_rows: u64,
    /// Rows that another program had rounded to f16: see [`EmbeddingsHead::foreign`].
    pub foreign_rows: u64,
    /// Remarks on files.
    pub remarks: Vec<Remark>,
}

/// What is remarked on a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What it is about.
    pub about: About,
    /// Which file, and what of it.
    pub place: String,
}

/// Kinds of remarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Rows that are not unit vectors.
    Normalised,
    /// Keys that are stored as numbers.
    NumericKeys,
}

impl Remark {
    /// A stable code, and what it says of files.
    #[must_use]
    pub const fn kind(&self) -> (&'static str, &'static str) {
        match self.about {
            About::Normalised => ("normalised", "files of embeddings whose rows are normalised again"),
            About::NumericKeys => (
                "numeric_keys",
                "files of embeddings whose keys are numbers (they name no sample whose key begins with a zero: store keys as text)",
            ),
        }
    }

    /// Adds it to what is said of a set.
    pub fn note(&self, notices: &mut Notices) {
        let (code, text) = self.kind();
        notices.note(code, text, &self.place, 1);
    }
}

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingsHead {
    /// Elements of a vector.
    pub dim: usize,
    /// Who made the embeddings; `None` for files that do not say.
    pub identity: Option<Identity>,
    /// Rows, where its head tells them.
    pub rows: Option<u64>,
    /// Whether its rows were rounded to f16 by another program, which need not round a vector as we do: numpy's files of f16, and what was
    /// kept of them.
    pub foreign: bool,
    /// All that it says; nothing where it is numpy's.
    pub metadata: BTreeMap<String, String>,
}

/// A stream of canonical batches.
pub struct EmbeddingReader {
    root: PathBuf,
    pieces: std::vec::IntoIter<Piece>,
    current: Option<Current>,
    details: bool,
    left_out: LeftOut,
    as_stored: bool,
    dim: usize,
    radii: bool,
    identity: Option<Identity>,
    metadata: BTreeMap<String, String>,
    rows: u64,
    notes: Notes,
    failed: bool,
}

struct Current {
    stored: Stored,
    as_is: bool,
}

impl EmbeddingReader {
    /// Opens what `path` stands for: see [`pieces`](super::pieces).
    ///
    /// # Errors
    /// Nothing of the kind there, or a first file that cannot be read.
    pub fn open(path: &Path) -> Result<Self, ColumnarError> {
        Self::of_set(path, pieces(path)?)
    }

    /// Opens these files as the set at `path`.
    ///
    /// # Errors
    /// No file, or a first one that cannot be read.
    pub fn of_set(path: &Path, pieces: Vec<Piece>) -> Result<Self, ColumnarError> {
        let none = || ColumnarError::NoEmbeddings { path: path.to_path_buf() };
        let first = pieces.first().ok_or_else(none)?.clone();
        Self::begin(path, pieces, &first, false)
    }

    /// Opens one file of a set, with all that is known of its rows.
    ///
    /// # Errors
    /// A file that cannot be read, or a table beside it with another number of rows.
    pub fn of(piece: &Piece) -> Result<Self, ColumnarError> {
        Self::begin(piece.path(), vec![piece.clone()], piece, true)
    }

    /// What one file of a set says of itself; the table beside it is not looked at.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn head(piece: &Piece) -> Result<EmbeddingsHead, ColumnarError> {
        let (stored, _) = open_piece(&piece.clone().without_table(), false)?;
        let (dim, _, identity) = stored.head(piece.path())?;
        let rows = if let Stored::Matrix(reader) = &stored { Some(reader.rows()) } else { None };
        let metadata = stored.metadata().cloned().unwrap_or_default();
        Ok(EmbeddingsHead { dim, identity, rows, foreign: stored.is_foreign(), metadata })
    }

    fn begin(root: &Path, pieces: Vec<Piece>, first: &Piece, details: bool) -> Result<Self, ColumnarError> {
        let (stored, _) = open_piece(first, details)?;
        let (dim, radii, identity) = stored.head(first.path())?;
        Ok(Self {
            root: root.to_path_buf(),
            pieces: pieces.into_iter(),
            current: None,
            details,
            left_out: LeftOut::default(),
            as_stored: false,
            dim,
            radii,
            identity,
            metadata: stored.metadata().cloned().unwrap_or_default(),
            rows: 0,
            notes: Notes::default(),
            failed: false,
        })
    }

    /// The same without some rows: nobody sees that they are there.
    #[must_use]
    pub fn leaving(mut self, rows: LeftOut) -> Self {
        self.left_out = rows;
        self
    }

    /// The same with f32 rows rounded to f16 as they stand, which is what clip-retrieval does with a vector once it has normalised it: of the same
    /// f32 vectors both have the same bits then. A row that is further than 1e-3 from norm 1 is an error: how it would be normalised nobody knows.
    #[must_use]
    pub fn rounding_as_stored(mut self) -> Self {
        self.as_stored = true;
        self
    }

    /// How many files of embeddings [`open`](Self::open) would read at `path`; 0 where there is nothing of the kind.
    ///
    /// # Errors
    /// A folder that cannot be read, or with files of which nobody knows which are meant.
    pub fn files(path: &Path) -> Result<usize, ColumnarError> {
        match pieces(path) {
            Ok(pieces) => Ok(pieces.len()),
            Err(ColumnarError::NoEmbeddings { .. }) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Elements of a vector.
    #[must_use]
    pub const fn dim(&self) -> usize {
        self.dim
    }

    /// Whether the rows carry radii.
    #[must_use]
    pub const fn has_radii(&self) -> bool {
        self.radii
    }

    /// Who made the embeddings; `None` for files that do not say.
    #[must_use]
    pub const fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// All that the first file says of itself; nothing where it is numpy's.
    #[must_use]
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What was done to the rows so far.
    #[must_use]
    pub const fn notes(&self) -> &Notes {
        &self.notes
    }

    fn advance(&mut self) -> Result<Option<EmbeddingBatch>, ColumnarError> {
        loop {
            let Some(current) = &mut self.current else {
                let Some(piece) = self.pieces.next() else { return Ok(None) };
                let current = self.enter(&piece)?;
                self.current = Some(current);
                continue;
            };
            let batch = match &mut current.stored {
                Stored::Ipc(reader) => reader.next().transpose()?,
                Stored::Matrix(reader) => reader.next_batch()?,
            };
            let Some(batch) = batch else {
                self.current = None;
                continue;
            };
            if batch.labels.is_empty() {
                continue;
            }
            let (as_is, foreign) = (current.as_is, current.stored.is_foreign());
            return self.canonical(batch, as_is, foreign).map(Some);
        }
    }

    /// Opens the next file, and reads it once to see whether its rows can be used as they are.
    fn enter(&mut self, piece: &Piece) -> Result<Current, ColumnarError> {
        let (mut stored, f16_rows) = open_piece(piece, self.details)?;
        let (dim, radii, identity) = stored.head(piece.path())?;
        if dim != self.dim {
            let detail = format!("dimension {dim}; the first file has {}", self.dim);
            return Err(ColumnarError::mismatch(piece.path(), detail));
        }
        if radii != self.radii {
            return Err(ColumnarError::mismatch(piece.path(), "some files have radii and some have none"));
        }
        if identity != self.identity {
            let show = |i: &Option<Identity>| i.as_ref().map_or_else(|| "none".into(), ToString::to_string);
            let detail = format!("identity {}; the first file has {}", show(&identity), show(&self.identity));
            return Err(ColumnarError::mismatch(piece.path(), detail));
        }
        let as_is = !f16_rows || stored.all_unit(dim)?;
        if f16_rows {
            stored = open_piece(piece, self.details)?.0;
        }
        if !as_is {
            let tolerance = super::canonical::UNIT_TOLERANCE;
            let place = format!("{}: a row is further than {tolerance} from norm 1", piece.path().display());
            self.notes.remarks.push(Remark { about: About::Normalised, place });
        }
        if let Some(column) = stored.numeric_key() {
            let place = format!("{}: column {column}", piece.path().display());
            self.notes.remarks.push(Remark { about: About::NumericKeys, place });
        }
        Ok(Current { stored, as_is })
    }

    fn canonical(&mut self, batch: StoredBatch, as_is: bool, foreign: bool) -> Result<EmbeddingBatch, ColumnarError> {
        let rows = batch.labels.len();
        let mut out = EmbeddingBatch {
            first_row: self.rows,
            vectors: Vec::with_capacity(rows * self.dim),
            keys: batch.keys,
            labels: batch.labels,
            shards: batch.shards,
            indices: batch.indices,
            radii: batch.radii,
            bad: Vec::new(),
            details: batch.details,
        };
        if out.keys.is_empty() {
            out.keys = (0..rows as u64).map(|r| (self.rows + r).to_string()).collect();
        }
        let mut wide = Vec::new();
        for at in 0..rows {
            let cells = at * self.dim..(at + 1) * self.dim;
            let done = match &batch.rows {
                StoredRows::F16(values) => {
                    self.notes.foreign_rows += u64::from(foreign);
                    let row = &values[cells];
                    widen(row, &mut wide);
                    if as_is {
                        norm(wide.iter().map(|&v| f64::from(v))).map(|_| out.vectors.extend_from_slice(row))
                    } else {
                        self.notes.renormalised_rows += 1;
                        canonicalise_into(&wide, &mut out.vectors)
                    }
                }
                StoredRows::F32(values) if self.as_stored => {
                    self.notes.converted_rows += 1;
                    self.notes.foreign_rows += 1;
                    let row = &values[cells];
                    let length = norm(row.iter().map(|&v| f64::from(v)));
                    if let Ok(length) = length
                        && !is_unit(row)
                    {
                        let number = self.rows + at as u64;
                        let detail = format!(
                            "row {number} has norm {length}, and what is rounded as it stands must have norm 1"
                        );
                        return Err(ColumnarError::mismatch(&self.root, detail));
                    }
                    length.map(|_| out.vectors.extend(row.iter().map(|&v| round_to_f16(f64::from(v)))))
                }
                StoredRows::F32(values) => {
                    self.notes.converted_rows += 1;
                    canonicalise_into(&values[cells], &mut out.vectors)
                }
            };
            if let Err(why) = done {
                out.bad.push((at, why));
                out.vectors.resize((at + 1) * self.dim, f16::ZERO);
            }
        }
        self.rows += rows as u64;
        self.notes.left_out_rows += self.left_out.take_from(&mut out, self.dim);
        Ok(out)
    }

    /// The path that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }
}

impl Iterator for EmbeddingReader {
    type Item = Result<EmbeddingBatch, ColumnarError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.advance();
        self.failed = batch.is_err();
        batch.transpose()
    }
}
