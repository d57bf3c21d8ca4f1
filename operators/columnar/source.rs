//! Embeddings as a stream: our Arrow IPC files, npy files, and clip-retrieval's folders, batch by batch in canonical form.
//!
//! ```text
//!  path ─▶ pieces (files in order) ─▶ batches as stored ─▶ canonical batches
//! ```
//!
//! Stored f16 files are used as they are if every row's norm is within 1e-3 of 1; a file with any other row is normalised
//! as a whole. So each f16 file is read twice, which bounds memory by a batch. f32 rows are always normalised.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::f16;

use super::canonical::{NoDirection, canonicalise_into, is_unit, norm, widen};
use super::ipc::{IpcReader, META_IDENTITY, StoredBatch};
use super::npy::{self, Rows};
use super::parquet::{Column, Kind, TableReader};
use super::{ColumnarError, ReadSeek};
use trommel_core::sample::Identity;

/// Rows of a batch read from npy.
pub const BATCH_ROWS: usize = 4096;

/// What was done to the rows on their way in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Rows of f16 files that were normalised again, because a row of the file was further than 1e-3 from norm 1.
    pub renormalised_rows: u64,
    /// Rows that were stored as f32.
    pub converted_rows: u64,
    /// Remarks for people, one line each.
    pub lines: Vec<String>,
}

/// Canonical rows, column by column.
#[derive(Clone, Debug, Default)]
pub struct EmbeddingBatch {
    /// Number of the first row in the whole set.
    pub first_row: u64,
    /// Canonical vectors, f16\[rows, dim\]; a row without direction is all zeros and named in `bad`.
    pub vectors: Vec<f16>,
    /// Keys; the row's number where the files have none.
    pub keys: Vec<String>,
    /// Class label of each row; null where there is none.
    pub labels: Vec<Option<String>>,
    /// Names of the shards that the rows come from.
    pub shards: Vec<Option<String>>,
    /// Raw index in that shard.
    pub indices: Vec<Option<u32>>,
    /// Radii as cosines; empty where the files have none.
    pub radii: Vec<Option<f64>>,
    /// Rows without direction: position in this batch, and why.
    pub bad: Vec<(usize, NoDirection)>,
}

#[derive(Clone, Debug)]
enum Piece {
    Ipc(PathBuf),
    Npy { vectors: PathBuf, keys: Option<PathBuf> },
}

impl Piece {
    fn path(&self) -> &Path {
        match self {
            Self::Ipc(path) | Self::Npy { vectors: path, .. } => path,
        }
    }
}

/// A stream of canonical batches.
pub struct EmbeddingReader {
    root: PathBuf,
    pieces: std::vec::IntoIter<Piece>,
    current: Option<Current>,
    dim: usize,
    radii: bool,
    identity: Option<Identity>,
    rows: u64,
    notes: Notes,
    failed: bool,
}

struct Current {
    stored: Stored,
    as_is: bool,
}

enum Stored {
    Ipc(IpcReader),
    Npy(NpyReader),
}

impl EmbeddingReader {
    /// Opens `path`: an Arrow IPC or npy file; a folder with `embeddings.arrow`; a folder with `img_emb/` (or that folder
    /// itself); a folder called `embeddings/`, or the files directly in the folder, which then must be of one kind.
    ///
    /// # Errors
    /// Nothing of the kind there, or a first file that cannot be read.
    pub fn open(path: &Path) -> Result<Self, ColumnarError> {
        let pieces = find_pieces(path)?;
        let first = pieces.first().ok_or_else(|| ColumnarError::NoEmbeddings { path: path.to_path_buf() })?;
        let (stored, _) = open_piece(first)?;
        let (dim, radii, identity) = stored.head(first.path())?;
        Ok(Self {
            root: path.to_path_buf(),
            pieces: pieces.into_iter(),
            current: None,
            dim,
            radii,
            identity,
            rows: 0,
            notes: Notes::default(),
            failed: false,
        })
    }

    /// How many files of embeddings [`open`](Self::open) would read at `path`; 0 where there is nothing of the kind.
    ///
    /// # Errors
    /// A folder that cannot be read, or with files of which nobody knows which are meant.
    pub fn files(path: &Path) -> Result<usize, ColumnarError> {
        match find_pieces(path) {
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
                Stored::Npy(reader) => reader.next_batch()?,
            };
            let Some(batch) = batch else {
                self.current = None;
                continue;
            };
            if batch.labels.is_empty() {
                continue;
            }
            let as_is = current.as_is;
            return self.canonical(batch, as_is).map(Some);
        }
    }

    /// Opens the next file, and reads it once to see whether its rows can be used as they are.
    fn enter(&mut self, piece: &Piece) -> Result<Current, ColumnarError> {
        let (mut stored, f16_rows) = open_piece(piece)?;
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
            stored = open_piece(piece)?.0;
        }
        if !as_is {
            self.notes.lines.push(format!(
                "{}: a row is further than {} from norm 1; all rows of this file are normalised again",
                piece.path().display(),
                super::canonical::UNIT_NORM_TOLERANCE
            ));
        }
        Ok(Current { stored, as_is })
    }

    fn canonical(&mut self, batch: StoredBatch, as_is: bool) -> Result<EmbeddingBatch, ColumnarError> {
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
        };
        if out.keys.is_empty() {
            out.keys = (0..rows as u64).map(|r| (self.rows + r).to_string()).collect();
        }
        let mut wide = Vec::new();
        for at in 0..rows {
            let cells = at * self.dim..(at + 1) * self.dim;
            let done = match &batch.rows {
                Rows::F16(values) => {
                    let row = &values[cells];
                    widen(row, &mut wide);
                    if as_is {
                        norm(wide.iter().map(|&v| f64::from(v))).map(|_| out.vectors.extend_from_slice(row))
                    } else {
                        self.notes.renormalised_rows += 1;
                        canonicalise_into(&wide, &mut out.vectors)
                    }
                }
                Rows::F32(values) => {
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

impl Stored {
    fn head(&self, path: &Path) -> Result<(usize, bool, Option<Identity>), ColumnarError> {
        match self {
            Self::Npy(reader) => Ok((reader.head.dim, false, None)),
            Self::Ipc(reader) => {
                let identity = reader
                    .metadata()
                    .get(META_IDENTITY)
                    .map(|text| serde_json::from_str(text))
                    .transpose()
                    .map_err(|e| ColumnarError::malformed(path, "Arrow IPC", format!("{META_IDENTITY}: {e}")))?;
                Ok((reader.dim(), reader.has_radii(), identity))
            }
        }
    }

    /// Whether every row with a direction has norm 1 within the tolerance. Reads to the end.
    fn all_unit(&mut self, dim: usize) -> Result<bool, ColumnarError> {
        let mut wide = Vec::new();
        loop {
            let batch = match self {
                Self::Ipc(reader) => reader.next().transpose()?,
                Self::Npy(reader) => reader.next_rows()?,
            };
            let Some(batch) = batch else { return Ok(true) };
            if let Rows::F16(values) = &batch.rows {
                for row in values.chunks_exact(dim) {
                    widen(row, &mut wide);
                    if !is_unit(&wide) {
                        return Ok(false);
                    }
                }
            }
        }
    }
}

fn open_file(path: &Path) -> Result<(Box<dyn ReadSeek>, u64), ColumnarError> {
    let file = File::open(path).map_err(|e| ColumnarError::io(path, e))?;
    let bytes = file.metadata().map_err(|e| ColumnarError::io(path, e))?.len();
    Ok((Box::new(BufReader::with_capacity(1 << 18, file)), bytes))
}

/// Opens a file; also whether it stores f16.
fn open_piece(piece: &Piece) -> Result<(Stored, bool), ColumnarError> {
    match piece {
        Piece::Ipc(path) => {
            let reader = IpcReader::open(path, open_file(path)?.0)?;
            Ok((Stored::Ipc(reader), true))
        }
        Piece::Npy { vectors, keys } => {
            let (mut input, bytes) = open_file(vectors)?;
            let head = npy::read_head(vectors, &mut input, bytes)?;
            let f16_rows = head.element == npy::Element::F16;
            input.seek(SeekFrom::Start(head.offset)).map_err(|e| ColumnarError::io(vectors, e))?;
            let keys = keys.as_deref().map(|path| Keys::open(path, vectors, head.rows)).transpose()?;
            Ok((Stored::Npy(NpyReader { path: vectors.clone(), input, head, left: head.rows, keys }), f16_rows))
        }
    }
}

struct NpyReader {
    path: PathBuf,
    input: Box<dyn ReadSeek>,
    head: npy::Head,
    left: u64,
    keys: Option<Keys>,
}

impl NpyReader {
    fn next_rows(&mut self) -> Result<Option<StoredBatch>, ColumnarError> {
        if self.left == 0 {
            return Ok(None);
        }
        let limit = ((16 << 20) / (self.head.dim * 4)).clamp(1, BATCH_ROWS);
        let rows = usize::try_from(self.left).unwrap_or(usize::MAX).min(limit);
        let values = npy::read_rows(&self.path, &mut self.input, &self.head, rows)?;
        self.left -= rows as u64;
        Ok(Some(StoredBatch {
            keys: Vec::new(),
            labels: vec![None; rows],
            shards: vec![None; rows],
            indices: vec![None; rows],
            rows: values,
            radii: Vec::new(),
        }))
    }

    fn next_batch(&mut self) -> Result<Option<StoredBatch>, ColumnarError> {
        let mut batch = self.next_rows()?;
        if let (Some(batch), Some(keys)) = (&mut batch, &mut self.keys) {
            batch.keys = keys.take(batch.labels.len())?;
        }
        Ok(batch)
    }
}

/// `image_path` of a metadata file, row by row.
struct Keys {
    path: PathBuf,
    table: TableReader,
    waiting: std::collections::VecDeque<String>,
}

impl Keys {
    fn open(path: &Path, vectors: &Path, rows: u64) -> Result<Self, ColumnarError> {
        // Pieces of any place are wanted, large ones: a buffer in between would be filled and thrown away.
        let file = File::open(path).map_err(|e| ColumnarError::io(path, e))?;
        let table = TableReader::open(path, Box::new(file), &[("image_path", Kind::Text)])?;
        if table.rows() != rows {
            let detail = format!("{} rows beside {rows} vectors in {}", table.rows(), vectors.display());
            return Err(ColumnarError::mismatch(path, detail));
        }
        Ok(Self { path: path.to_path_buf(), table, waiting: std::collections::VecDeque::new() })
    }

    fn take(&mut self, rows: usize) -> Result<Vec<String>, ColumnarError> {
        while self.waiting.len() < rows {
            let group = self.table.next().transpose()?;
            let Some(Column::Text(keys)) = group.and_then(|mut columns| columns.pop()) else {
                return Err(ColumnarError::mismatch(&self.path, "fewer keys than vectors"));
            };
            for key in keys {
                let key = key.ok_or_else(|| ColumnarError::column(&self.path, "image_path", "has a null"))?;
                self.waiting.push_back(key);
            }
        }
        Ok(self.waiting.drain(..rows).collect())
    }
}

fn find_pieces(path: &Path) -> Result<Vec<Piece>, ColumnarError> {
    let meta = std::fs::metadata(path).map_err(|e| ColumnarError::io(path, e))?;
    if meta.is_file() {
        return Ok(match extension(path) {
            Some("npy") => vec![Piece::Npy { vectors: path.to_path_buf(), keys: None }],
            _ => vec![Piece::Ipc(path.to_path_buf())],
        });
    }
    let single = path.join("embeddings.arrow");
    if single.is_file() {
        return Ok(vec![Piece::Ipc(single)]);
    }
    let vectors = numbered(&path.join("img_emb"), "npy")?;
    if !vectors.is_empty() {
        return npy_pieces(vectors, Some(path));
    }
    let parts = numbered(&path.join("embeddings"), "arrow")?;
    if !parts.is_empty() {
        return Ok(first_incarnations(parts).into_iter().map(Piece::Ipc).collect());
    }
    // Files that stand for themselves: one that strayed in must not decide what the others are.
    let (vectors, files) = (numbered(path, "npy")?, numbered(path, "arrow")?);
    let mixed = |many: usize, kind, few: &[PathBuf], other| {
        let first = few.first().and_then(|path| path.file_name()).unwrap_or_default().display().to_string();
        let few = few.len();
        Err(ColumnarError::mismatch(
            path,
            format!("{many} {kind} and {few} {other} (first: {first}): give those that are meant"),
        ))
    };
    if !vectors.is_empty() && !files.is_empty() {
        return mixed(vectors.len(), ".npy files", &files, ".arrow files");
    }
    if vectors.is_empty() && files.is_empty() {
        return Err(ColumnarError::NoEmbeddings { path: path.to_path_buf() });
    }
    if vectors.is_empty() {
        return Ok(first_incarnations(files).into_iter().map(Piece::Ipc).collect());
    }
    let others: Vec<PathBuf> = vectors.iter().filter(|path| number_of(path).is_none()).cloned().collect();
    if !others.is_empty() && others.len() < vectors.len() {
        return mixed(vectors.len() - others.len(), "img_emb files", &others, "other .npy files");
    }
    npy_pieces(vectors, path.parent())
}

/// The files of clip-retrieval's `tree`, each with its keys.
fn npy_pieces(vectors: Vec<PathBuf>, tree: Option<&Path>) -> Result<Vec<Piece>, ColumnarError> {
    let keys: Vec<_> = vectors.iter().map(|vectors| keys_of(vectors, tree)).collect();
    let found = keys.iter().flatten().count();
    if let (1.., Some(at)) = (found, keys.iter().position(Option::is_none)) {
        // Numbers in the place of keys would be taken for keys.
        let detail = format!("no metadata beside it, though {found} of {} files have theirs", keys.len());
        return Err(ColumnarError::mismatch(&vectors[at], detail));
    }
    Ok(vectors.into_iter().zip(keys).map(|(vectors, keys)| Piece::Npy { vectors, keys }).collect())
}

/// `{i}` of `img_emb_{i}.npy`.
fn number_of(vectors: &Path) -> Option<&str> {
    vectors.file_stem()?.to_str()?.strip_prefix("img_emb_")
}

/// `metadata/metadata_{i}.parquet` of `img_emb_{i}.npy`, where it is there.
fn keys_of(vectors: &Path, tree: Option<&Path>) -> Option<PathBuf> {
    let keys = tree?.join("metadata").join(format!("metadata_{}.parquet", number_of(vectors)?));
    keys.is_file().then_some(keys)
}

fn extension(path: &Path) -> Option<&str> {
    path.extension()?.to_str()
}

/// Files of one extension: by their numbers where their names differ in length, else by name.
fn numbered(folder: &Path, wanted: &str) -> Result<Vec<PathBuf>, ColumnarError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let io = |e| ColumnarError::io(folder, e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if extension(&path) == Some(wanted) && path.is_file() {
            files.push(path);
        }
    }
    let name = |p: &PathBuf| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mixed = files.windows(2).any(|w| name(&w[0]).len() != name(&w[1]).len());
    files.sort_by_cached_key(|p| {
        let name = name(p);
        let numbers: Vec<u64> = if mixed {
            name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
        } else {
            Vec::new()
        };
        (numbers, name)
    });
    Ok(files)
}

/// Of `<ordinal>.<incarnation>.arrow` the smallest incarnation of each ordinal, in plan order; other names as they are.
fn first_incarnations(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let parse = |p: &PathBuf| -> Option<(u64, u64)> {
        let (ordinal, incarnation) = p.file_stem()?.to_str()?.split_once('.')?;
        Some((ordinal.parse().ok()?, incarnation.parse().ok()?))
    };
    let Some(mut parts) = files.iter().map(|p| parse(p).map(|key| (key, p.clone()))).collect::<Option<Vec<_>>>() else {
        return files;
    };
    parts.sort();
    parts.dedup_by_key(|((ordinal, _), _)| *ordinal);
    parts.into_iter().map(|(_, path)| path).collect()
}
