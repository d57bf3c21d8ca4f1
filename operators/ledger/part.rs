//! One shard's part files: its ledger rows, its items, its embeddings.
//!
//! Each is written aside, fsynced and renamed; [`write()`] ends with the folders fsynced, so that a manifest line may
//! follow. What a file holds depends on the shard alone, never on the incarnation: equal decisions give equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::LedgerError;
use super::items::ItemRow;
use super::manifest::{PartKind, PartSum, SCHEMA_VERSION};
use super::storage::{Output, Storage, aside_of};
use crate::columnar::embeddings::{EmbeddingHead, EmbeddingRow, EmbeddingWriter};
use crate::columnar::parquet::{Column, Field, Kind, TableWriter};
use crate::dataflow::wake::locked;
use crate::sample::Fate;

/// Rows of a row group of the ledger.
const GROUP_ROWS: usize = 16_384;
/// Bytes of text at which a row group is closed early.
const GROUP_TEXT_BYTES: usize = 64 << 20;

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
    pub items: &'a [ItemRow],
}

/// Columns of a ledger part.
#[must_use]
pub fn ledger_fields(benchmarks: &[String]) -> Vec<Field> {
    let mut fields = vec![
        Field::required("shard", Kind::Text),
        Field::required("key", Kind::Text),
        Field::nullable("uid", Kind::Text),
        Field::nullable("url", Kind::Text),
        Field::nullable("sha256", Kind::Text),
        Field::required("index", Kind::U32),
        Field::required("offset", Kind::U64),
        Field::required("size", Kind::U64),
        Field::required("status", Kind::Text),
        Field::nullable("reason", Kind::Text),
        Field::nullable("detail", Kind::Text),
    ];
    for name in benchmarks {
        fields.push(Field::nullable(&format!("max_similarity.{name}"), Kind::F64));
        fields.push(Field::nullable(&format!("nearest.{name}"), Kind::U32));
        fields.push(Field::nullable(&format!("margin.{name}"), Kind::F64));
        fields.push(Field::nullable(&format!("exceeds.{name}"), Kind::U32));
        fields.push(Field::nullable(&format!("hits.{name}"), Kind::U32));
    }
    fields
}

/// Columns of an items part.
#[must_use]
pub fn items_fields() -> Vec<Field> {
    vec![
        Field::required("benchmark", Kind::Text),
        Field::required("point", Kind::U32),
        Field::nullable("max_similarity", Kind::F64),
        Field::required("ordinal", Kind::U64),
        Field::required("index", Kind::U32),
        Field::required("hits", Kind::U64),
        Field::nullable("kept_max_similarity", Kind::F64),
        Field::nullable("kept_ordinal", Kind::U64),
        Field::nullable("kept_index", Kind::U32),
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
    let mut sums = vec![
        aside(storage, root, PartKind::Ledger, shard.ordinal, incarnation, |path, out| {
            write_ledger(path, out, shard, config)
        })?,
        aside(storage, root, PartKind::Items, shard.ordinal, incarnation, |path, out| {
            write_items(path, out, shard, config)
        })?,
    ];
    if let Some(head) = &config.embeddings {
        sums.push(aside(storage, root, PartKind::Embeddings, shard.ordinal, incarnation, |path, out| {
            write_embeddings(path, out, shard, head, config)
        })?);
    }
    for folder in sums.iter().map(|s| s.kind.folder()).collect::<BTreeSet<_>>() {
        let folder = root.join(folder);
        storage.sync_dir(&folder).map_err(LedgerError::at("sync", &folder))?;
    }
    Ok(sums)
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

fn aside(
    storage: &dyn Storage,
    root: &Path,
    kind: PartKind,
    ordinal: u64,
    incarnation: u64,
    fill: impl FnOnce(&Path, Out) -> Result<Out, LedgerError>,
) -> Result<PartSum, LedgerError> {
    let path = root.join(kind.path(ordinal, incarnation));
    let name = aside_of(&path);
    let out = storage.create(&name).map_err(LedgerError::at("make", &name))?;
    let fault = Fault::default();
    let out = BufWriter::with_capacity(1 << 20, Summed { out, bytes: 0, crc: 0, fault: Arc::clone(&fault) });
    let out = fill(&name, out).map_err(|error| match locked(&fault).take() {
        Some(cause) => LedgerError::at("write", &name)(cause),
        None => error,
    })?;
    let mut out = out.into_inner().map_err(|e| LedgerError::at("write", &name)(e.into_error()))?;
    out.out.sync().map_err(LedgerError::at("sync", &name))?;
    let sum = PartSum { kind, bytes: out.bytes, crc32c: format!("{:08x}", out.crc) };
    drop(out);
    storage.rename(&name, &path).map_err(LedgerError::at("rename", &name))?;
    Ok(sum)
}

fn metadata(config: &PartConfig) -> Vec<(String, String)> {
    let mut metadata = vec![("trommel.schema".to_string(), SCHEMA_VERSION.to_string())];
    metadata.extend(config.metadata.iter().map(|(k, v)| (k.clone(), v.clone())));
    metadata
}

fn write_ledger(path: &Path, out: Out, shard: &PartShard<'_>, config: &PartConfig) -> Result<Out, LedgerError> {
    let fields = ledger_fields(&config.benchmarks);
    let mut table = TableWriter::new(path, out, fields, metadata(config))?;
    let mut group: Vec<Arc<Fate>> = Vec::new();
    let mut text_bytes = 0;
    for fate in shard.fates {
        let info = &fate.info;
        text_bytes += shard.name.len() + info.key.len() + info.url.as_ref().map_or(0, String::len);
        text_bytes += fate.reason.as_ref().map_or(0, |r| r.detail.len());
        group.push(Arc::clone(fate));
        if group.len() >= GROUP_ROWS || text_bytes >= GROUP_TEXT_BYTES {
            table.write(&ledger_columns(shard.name, &group, config))?;
            group.clear();
            text_bytes = 0;
        }
    }
    table.write(&ledger_columns(shard.name, &group, config))?;
    Ok(table.finish()?)
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

fn write_items(path: &Path, out: Out, shard: &PartShard<'_>, config: &PartConfig) -> Result<Out, LedgerError> {
    let mut table = TableWriter::new(path, out, items_fields(), metadata(config))?;
    for rows in shard.items.chunks(GROUP_ROWS) {
        let mut names = Vec::with_capacity(rows.len());
        for row in rows {
            let name = config.benchmarks.get(usize::from(row.benchmark)).cloned();
            names.push(Some(name.ok_or_else(|| LedgerError::Fates {
                ordinal: shard.ordinal,
                name: shard.name.into(),
                detail: format!("items of benchmark {}; there are {}", row.benchmark, config.benchmarks.len()),
            })?));
        }
        table.write(&[
            Column::Text(names),
            Column::U32(rows.iter().map(|r| Some(r.point)).collect()),
            Column::F64(rows.iter().map(|r| Some(r.max_similarity).filter(|s| s.is_finite())).collect()),
            Column::U64(rows.iter().map(|r| Some(r.sample.ordinal)).collect()),
            Column::U32(rows.iter().map(|r| Some(r.sample.index)).collect()),
            Column::U64(rows.iter().map(|r| Some(r.hits)).collect()),
            Column::F64(rows.iter().map(|r| r.kept_max).collect()),
            Column::U64(rows.iter().map(|r| r.kept_sample.map(|s| s.ordinal)).collect()),
            Column::U32(rows.iter().map(|r| r.kept_sample.map(|s| s.index)).collect()),
        ])?;
    }
    Ok(table.finish()?)
}

fn write_embeddings(
    path: &Path,
    out: Out,
    shard: &PartShard<'_>,
    head: &EmbeddingHead,
    config: &PartConfig,
) -> Result<Out, LedgerError> {
    let mut head = head.clone();
    head.metadata.extend(config.metadata.iter().map(|(k, v)| (k.clone(), v.clone())));
    let mut writer = EmbeddingWriter::new(path, out, &head)?;
    for fate in shard.fates {
        if let Some(vector) = &fate.embedding {
            writer.push(EmbeddingRow {
                key: &fate.info.key,
                label: None,
                shard: Some(shard.name),
                index: Some(fate.info.id.index),
                vector,
                radius: None,
            })?;
        }
    }
    Ok(writer.finish()?)
}
