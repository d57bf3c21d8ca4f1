//! One shard's part files: its ledger rows, its items, its embeddings.
//!
//! Rows are written aside as they come, in row groups: [`ShardRows`] holds one group, however long the shard is. When the shard is
//! whole, its files are fsynced and renamed and the folders fsynced, so that a manifest line may follow. What a file holds
//! depends on the shard alone, never on the incarnation or on when the rows came: equal decisions give equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::manifest::{Counts, PartKind, PartSum, SCHEMA_VERSION};
use super::storage::{Output, Storage, aside_of};
use super::{FatesError, LedgerError};
use trommel_columnar::embeddings::{EmbeddingHead, EmbeddingRow, EmbeddingWriter};
use trommel_columnar::parquet::{Column, ColumnType, Field, TableWriter};
use trommel_core::sample::Fate;
use trommel_core::sample::PointRow;
use trommel_core::wake::locked;

/// Rows of a row group of the ledger.
const GROUP_ROWS: usize = 16_384;
/// Bytes of records, and of the shard's name in each, at which a row group is closed early.
pub const GROUP_BYTES: u64 = 8 << 20;
/// Bytes that writing a row group takes at most beside its records, for each of theirs: columns, arrays, pages.
pub const GROUP_WRITING_FACTOR: u64 = 4;
/// Bytes of a fate and its place in the ledger's queues, its texts, scores and vector left out.
pub const ROW_BYTES: u64 = 1 << 10;
/// Bytes that an unfinished shard takes beside its rows: two files' buffers, marks of what has come.
pub const OPEN_SHARD_BYTES: u64 = 640 << 10;
/// Bytes of a file's write buffer.
const BUFFER_BYTES: usize = 256 << 10;

/// What parts look like in this run.
#[derive(Clone, Debug, Default)]
pub struct PartConfig {
    /// Names of the benchmarks, in the configuration's order.
    pub benchmarks: Vec<String>,
    /// Embeddings are kept, with this head; `None` = `--no-embeddings`, or a rule that embeds nothing.
    pub embeddings: Option<EmbeddingHead>,
    /// Written into every part: rule, side of ties, identity, ...
    pub metadata: BTreeMap<String, String>,
}

/// The shard whose parts are written.
#[derive(Clone, Copy, Debug)]
pub struct PartShard<'a> {
    /// Ordinal in the plan.
    pub ordinal: u64,
    /// The shard's name.
    pub name: &'a str,
    /// All fates, by index.
    pub fates: &'a [Arc<Fate>],
    /// The items worth writing.
    pub items: &'a [PointRow],
}

/// Columns of a ledger part.
#[must_use]
pub fn ledger_fields(benchmarks: &[String]) -> Vec<Field> {
    let mut fields = vec![
        Field::required("shard", ColumnType::Text),
        Field::required("key", ColumnType::Text),
        Field::nullable("uid", ColumnType::Text),
        Field::nullable("url", ColumnType::Text),
        Field::nullable("sha256", ColumnType::Text),
        Field::required("index", ColumnType::U32),
        Field::required("offset", ColumnType::U64),
        Field::required("size", ColumnType::U64),
        Field::required("status", ColumnType::Text),
        Field::nullable("reason", ColumnType::Text),
        Field::nullable("detail", ColumnType::Text),
    ];
    for name in benchmarks {
        fields.push(Field::nullable(&format!("max_similarity.{name}"), ColumnType::F64));
        fields.push(Field::nullable(&format!("nearest.{name}"), ColumnType::U32));
        fields.push(Field::nullable(&format!("margin.{name}"), ColumnType::F64));
        fields.push(Field::nullable(&format!("exceeds.{name}"), ColumnType::U32));
        fields.push(Field::nullable(&format!("hits.{name}"), ColumnType::U32));
    }
    fields
}

/// Columns of an items part.
#[must_use]
pub fn items_fields() -> Vec<Field> {
    vec![
        Field::required("benchmark", ColumnType::Text),
        Field::required("point", ColumnType::U32),
        Field::nullable("max_similarity", ColumnType::F64),
        Field::required("ordinal", ColumnType::U64),
        Field::required("index", ColumnType::U32),
        Field::required("hits", ColumnType::U64),
        Field::nullable("kept_max_similarity", ColumnType::F64),
        Field::nullable("kept_ordinal", ColumnType::U64),
        Field::nullable("kept_index", ColumnType::U32),
    ]
}

/// Writes a shard's parts and makes them durable.
///
/// # Errors
/// What the storage says, with the path.
pub fn write(
    storage: &dyn Storage,
    root: &Path,
    incarnation: u64,
    shard: &PartShard<'_>,
    config: &PartConfig,
) -> Result<Vec<PartSum>, LedgerError> {
    let mut rows = ShardRows::begin(storage, root, incarnation, shard.ordinal, shard.name, config)?;
    rows.add(shard.fates.iter().cloned(), config)?;
    Ok(rows.finish(storage, root, shard.items, config)?.0)
}

/// The rows of an unfinished shard, on their way into its parts.
pub struct ShardRows {
    ordinal: u64,
    incarnation: u64,
    name: String,
    /// Raw index of the row that is due.
    next: u32,
    counts: Counts,
    group: Vec<Arc<Fate>>,
    group_bytes: u64,
    ledger: (Aside, TableWriter<Out>),
    embeddings: Option<(Aside, EmbeddingWriter<Out>)>,
}

impl ShardRows {
    /// Begins a shard's files, aside.
    ///
    /// # Errors
    /// What the storage says, with the path.
    pub fn begin(
        storage: &dyn Storage,
        root: &Path,
        incarnation: u64,
        ordinal: u64,
        name: &str,
        config: &PartConfig,
    ) -> Result<Self, LedgerError> {
        let (aside, out) = Aside::create(storage, root, PartKind::Ledger, ordinal, incarnation)?;
        let table = TableWriter::new(&aside.name, out, ledger_fields(&config.benchmarks), metadata(config));
        let ledger = (aside, table?);
        let embeddings = config.embeddings.as_ref().map(|head| {
            let mut head = head.clone();
            head.metadata.extend(config.metadata.iter().map(|(k, v)| (k.clone(), v.clone())));
            let (aside, out) = Aside::create(storage, root, PartKind::Embeddings, ordinal, incarnation)?;
            let writer = EmbeddingWriter::new(&aside.name, out, &head)?;
            Ok::<_, LedgerError>((aside, writer))
        });
        let (counts, group, name) = (Counts::default(), Vec::new(), name.to_owned());
        let embeddings = embeddings.transpose()?;
        Ok(Self { ordinal, incarnation, name, next: 0, counts, group, group_bytes: 0, ledger, embeddings })
    }

    /// Adds the next rows, by index.
    ///
    /// # Errors
    /// A row that is not due, or what the storage says, with the path.
    pub fn add(&mut self, fates: impl IntoIterator<Item = Arc<Fate>>, config: &PartConfig) -> Result<(), LedgerError> {
        for fate in fates {
            let id = fate.info.id;
            if (id.ordinal, id.index) != (self.ordinal, self.next) {
                let detail = FatesError::OutOfTurn { found: id, due: self.next };
                return Err(LedgerError::Fates { ordinal: self.ordinal, name: self.name.clone(), detail });
            }
            self.next = self.next.saturating_add(1);
            self.counts.count(&fate);
            // What was taken for the record, so that a lane that may take no more has filled a group.
            let texts = fate.info.text_bytes() + fate.reason.as_ref().map_or(0, |reason| reason.detail.len() as u64);
            self.group_bytes += fate.info.record.bytes().max(texts) + self.name.len() as u64;
            self.group.push(fate);
            if self.group.len() >= GROUP_ROWS || self.group_bytes >= GROUP_BYTES {
                self.write_group(config)?;
            }
        }
        Ok(())
    }

    fn write_group(&mut self, config: &PartConfig) -> Result<(), LedgerError> {
        let (aside, table) = &mut self.ledger;
        table.write(&ledger_columns(&self.name, &self.group, config)).map_err(|error| aside.error(error.into()))?;
        if let Some((aside, writer)) = &mut self.embeddings {
            for fate in &self.group {
                let Some(vector) = &fate.embedding else { continue };
                let (key, shard, index) = (&*fate.info.key, Some(&*self.name), Some(fate.info.id.index));
                let row = EmbeddingRow { key, label: None, shard, index, vector, radius: None };
                writer.push(row).map_err(|error| aside.error(error.into()))?;
            }
            writer.flush().map_err(|error| aside.error(error.into()))?;
        }
        self.group = Vec::new();
        self.group_bytes = 0;
        Ok(())
    }

    /// Writes what is left and the items, and makes all of it durable.
    ///
    /// # Errors
    /// What the storage says, with the path.
    pub fn finish(
        mut self,
        storage: &dyn Storage,
        root: &Path,
        items: &[PointRow],
        config: &PartConfig,
    ) -> Result<(Vec<PartSum>, Counts), LedgerError> {
        self.write_group(config)?;
        let (aside, table) = self.ledger;
        let mut sums = vec![aside.settle(storage, |_| Ok(table.finish()?))?];
        let (aside, out) = Aside::create(storage, root, PartKind::Items, self.ordinal, self.incarnation)?;
        sums.push(aside.settle(storage, |path| write_items(path, out, self.ordinal, &self.name, items, config))?);
        if let Some((aside, writer)) = self.embeddings {
            sums.push(aside.settle(storage, |_| Ok(writer.finish()?))?);
        }
        for folder in sums.iter().map(|s| s.kind.folder()).collect::<BTreeSet<_>>() {
            let folder = root.join(folder);
            storage.sync_dir(&folder).map_err(LedgerError::at("sync", &folder))?;
        }
        Ok((sums, self.counts))
    }

    /// Takes the files away: the shard will be read again.
    ///
    /// # Errors
    /// What the storage says, with the path.
    pub fn forget(self, storage: &dyn Storage) -> Result<(), LedgerError> {
        let names = [Some(self.ledger.0.name), self.embeddings.map(|(aside, _)| aside.name)];
        names.into_iter().flatten().try_for_each(|name| storage.remove(&name).map_err(LedgerError::at("remove", &name)))
    }
}

/// Counts and checks the bytes that pass.
struct Summed {
    out: Box<dyn Output>,
    bytes: u64,
    crc: u32,
    /// The storage's own error: table writers turn what they meet into texts.
    fault: Fault,
}

type Fault = Arc<Mutex<Option<io::Error>>>;

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(bytes).inspect_err(|e| {
            let copy =
                e.raw_os_error().map_or_else(|| io::Error::new(e.kind(), e.to_string()), io::Error::from_raw_os_error);
            *locked(&self.fault) = Some(copy);
        })?;
        self.bytes += taken as u64;
        self.crc = crc32c::crc32c_append(self.crc, &bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

type Out = BufWriter<Summed>;

/// A part before it has its name.
struct Aside {
    kind: PartKind,
    name: PathBuf,
    path: PathBuf,
    fault: Fault,
}

impl Aside {
    fn create(
        storage: &dyn Storage,
        root: &Path,
        kind: PartKind,
        ordinal: u64,
        incarnation: u64,
    ) -> Result<(Self, Out), LedgerError> {
        let path = root.join(kind.path(ordinal, incarnation));
        let name = aside_of(&path);
        let out = storage.create(&name).map_err(LedgerError::at("make", &name))?;
        let fault = Fault::default();
        let out = Summed { out, bytes: 0, crc: 0, fault: Arc::clone(&fault) };
        Ok((Self { kind, name, path, fault }, BufWriter::with_capacity(BUFFER_BYTES, out)))
    }

    /// The storage's own error, where it is behind `error`.
    fn error(&self, error: LedgerError) -> LedgerError {
        match locked(&self.fault).take() {
            Some(cause) => LedgerError::at("write", &self.name)(cause),
            None => error,
        }
    }

    /// Makes what `finish` gives durable, under its name.
    fn settle(
        self,
        storage: &dyn Storage,
        finish: impl FnOnce(&Path) -> Result<Out, LedgerError>,
    ) -> Result<PartSum, LedgerError> {
        let name = &self.name;
        let out = finish(name).map_err(|error| self.error(error))?;
        let mut out = out.into_inner().map_err(|e| LedgerError::at("write", name)(e.into_error()))?;
        out.out.sync().map_err(LedgerError::at("sync", name))?;
        let sum = PartSum { kind: self.kind, bytes: out.bytes, crc32c: format!("{:08x}", out.crc) };
        drop(out);
        storage.rename(name, &self.path).map_err(LedgerError::at("rename", name))?;
        Ok(sum)
    }
}

fn metadata(config: &PartConfig) -> Vec<(String, String)> {
    let mut metadata = vec![("trommel.schema".to_string(), SCHEMA_VERSION.to_string())];
    metadata.extend(config.metadata.iter().map(|(k, v)| (k.clone(), v.clone())));
    metadata
}

fn ledger_columns(shard: &str, fates: &[Arc<Fate>], config: &PartConfig) -> Vec<Column> {
    let text = |f: &dyn Fn(&Fate) -> Option<String>| Column::Text(fates.iter().map(|fate| f(fate)).collect());
    let mut columns = vec![
        text(&|_| Some(shard.into())),
        text(&|f| Some(f.info.key.clone())),
        text(&|f| f.info.uid.clone()),
        text(&|f| f.info.url.clone()),
        text(&|f| f.info.sha256.clone()),
        Column::U32(fates.iter().map(|f| Some(f.info.id.index)).collect()),
        Column::U64(fates.iter().map(|f| Some(f.info.offset)).collect()),
        Column::U64(fates.iter().map(|f| Some(f.info.size)).collect()),
        text(&|f| Some(f.status.as_str().into())),
        text(&|f| f.reason.as_ref().map(|r| r.code.clone())),
        text(&|f| f.reason.as_ref().map(|r| r.detail.clone()).filter(|d| !d.is_empty())),
    ];
    for b in 0..config.benchmarks.len() {
        let score = |f: &Arc<Fate>| f.scores.get(b).copied().unwrap_or_default();
        columns.push(Column::F64(fates.iter().map(|f| score(f).max_similarity).collect()));
        columns.push(Column::U32(fates.iter().map(|f| score(f).nearest).collect()));
        columns.push(Column::F64(fates.iter().map(|f| score(f).margin).collect()));
        columns.push(Column::U32(fates.iter().map(|f| score(f).exceeds).collect()));
        columns.push(Column::U32(fates.iter().map(|f| score(f).hits).collect()));
    }
    columns
}

fn write_items(
    path: &Path,
    out: Out,
    ordinal: u64,
    shard: &str,
    items: &[PointRow],
    config: &PartConfig,
) -> Result<Out, LedgerError> {
    let mut table = TableWriter::new(path, out, items_fields(), metadata(config))?;
    for rows in items.chunks(GROUP_ROWS) {
        let mut names = Vec::with_capacity(rows.len());
        for row in rows {
            let name = config.benchmarks.get(usize::from(row.benchmark)).cloned();
            names.push(Some(name.ok_or_else(|| LedgerError::Fates {
                ordinal,
                name: shard.into(),
                detail: FatesError::NoBenchmark { number: row.benchmark, benchmarks: config.benchmarks.len() },
            })?));
        }
        table.write(&[
            Column::Text(names),
            Column::U32(rows.iter().map(|r| Some(r.point)).collect()),
            Column::F64(rows.iter().map(|r| r.max_similarity).collect()),
            Column::U64(rows.iter().map(|r| Some(r.sample.map_or(ordinal, |s| s.ordinal))).collect()),
            Column::U32(rows.iter().map(|r| Some(r.sample.map_or(0, |s| s.index))).collect()),
            Column::U64(rows.iter().map(|r| Some(r.hits)).collect()),
            Column::F64(rows.iter().map(|r| r.kept_max).collect()),
            Column::U64(rows.iter().map(|r| r.kept_sample.map(|s| s.ordinal)).collect()),
            Column::U32(rows.iter().map(|r| r.kept_sample.map(|s| s.index)).collect()),
        ])?;
    }
    Ok(table.finish()?)
}
