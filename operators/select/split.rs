//! The files of a split: names of who is kept, in the order of (shard's name, index), and what it says of itself.
//!
//! | file | for |
//! |---|---|
//! | `NAME.parquet`: shard, key, index | pyarrow, polars, DuckDB; `trommel`'s own commands ([`crate::membership`]) |
//! | `NAME.npy`: uids as `u8,u8`, sorted | DataComp's resharder |
//! | `NAME.txt`: SHARD/KEY a line | lists of keys |
//! | `NAME.keys`: a key a line, sorted | shards that the run does not name (`keys_alone`) |
//! | `NAME.split.json`: a [`SplitHead`] | `trommel verify` |

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use trommel_columnar::parquet::{Column, ColumnType, Field, TableReader, TableWriter};
use trommel_core::causes::Cause;
use trommel_core::durable::{self, Aside};

use crate::SelectError;
use crate::head::{META_NOTHING_OF, META_SPLIT, SPLIT_SCHEMA, SplitHead};
use crate::keys_alone::KeysAlone;
use crate::sink::ListFile;
pub use crate::sink::{Kept, Sink, Whole};
use crate::uids::Uids;

/// Rows of a row group.
const GROUP_ROWS: usize = 64 << 10;

/// The format of a split's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// shard, key, index.
    Parquet,
    /// DataComp's uids.
    Uids,
    /// SHARD/KEY a line.
    Keys,
    /// A key a line, without the shard.
    KeysAlone,
}

impl Format {
    /// Every format, each once.
    pub const ALL: [Self; 4] = [Self::Parquet, Self::Uids, Self::Keys, Self::KeysAlone];

    /// The ending of its file.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Uids => "npy",
            Self::Keys => "txt",
            Self::KeysAlone => "keys",
        }
    }

    /// The format of a file by its ending.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_lowercase();
        Self::ALL.into_iter().find(|format| format.extension() == extension)
    }

    /// The file of a split. What a sort has no room for in `memory_bytes` lies beside it meanwhile.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub fn sink(self, path: &Path, memory_bytes: u64) -> Result<Box<dyn Sink>, SelectError> {
        Ok(match self {
            Self::Parquet => Box::new(Table::begin(path)?),
            Self::Uids => Box::new(Uids::begin(path, memory_bytes)),
            Self::Keys => Box::new(Keys::begin(path)?),
            Self::KeysAlone => Box::new(KeysAlone::begin(path, memory_bytes)),
        })
    }
}

impl FromStr for Format {
    type Err = SelectError;

    /// The format by the ending of its file, as `--format` says it.
    fn from_str(text: &str) -> Result<Self, SelectError> {
        Self::ALL.into_iter().find(|format| format.extension() == text).ok_or_else(|| {
            let [others @ .., last] = Self::ALL.map(Self::extension);
            SelectError::Input(format!("--format {text}: {} and {last} are written", others.join(", ")))
        })
    }
}

/// Where the splits of these names go: each one's name and files, in their order. `out` is the one file of one split where it ends as a format's
/// does, and that is no folder; else it is a folder with `NAME.ENDING` for each of `formats`, a Parquet table where there is none. A split whose
/// name is empty is called as its file is, in a folder `split`.
///
/// # Errors
/// One file for several splits, or beside `formats`; an ending that is no format's.
pub fn files(out: &Path, formats: &[Format], names: &[&str]) -> Result<Vec<(String, Vec<PathBuf>)>, SelectError> {
    let shown = out.display();
    let named = |name: &str, otherwise: &str| if name.is_empty() { otherwise.to_owned() } else { name.to_owned() };
    if Format::of(out).is_some() && !out.is_dir() {
        let [name] = names else {
            let count = names.len();
            return Err(SelectError::Input(format!("-o {shown} is one file, for {count} rules: give a folder")));
        };
        if !formats.is_empty() {
            return Err(SelectError::Input(format!(
                "--format is for a folder, and -o {shown} is one file by its ending"
            )));
        }
        let stem = out.file_stem().unwrap_or_default().to_string_lossy();
        return Ok(vec![(named(name, &stem), vec![out.to_path_buf()])]);
    }
    if let Some(extension) = out.extension().filter(|_| !out.is_dir()) {
        let extension = extension.to_string_lossy();
        return Err(SelectError::Input(format!(
            "-o {shown}: .{extension} is no format of splits: .parquet (names), .npy (DataComp's uids), .txt (SHARD/KEY), .keys (keys alone), or a folder"
        )));
    }
    let formats = if formats.is_empty() { &[Format::Parquet][..] } else { formats };
    let files = |name: &&str| {
        let name = named(name, "split");
        let files = formats.iter().map(|format| out.join(format!("{name}.{}", format.extension()))).collect();
        (name, files)
    };
    Ok(names.iter().map(files).collect())
}

/// Endings of the tables that may lie beside a split and tell of its samples: points of benchmarks, duplicates, clusters.
pub const TABLES_BESIDE: [&str; 3] = [ITEMS, DUPLICATES, SAMPLES];

/// Ending of the table of benchmarks' points.
pub const ITEMS: &str = "items.parquet";

/// Ending of the table of samples that duplicate others, of `trommel dedup`.
pub const DUPLICATES: &str = "duplicates.parquet";

/// Ending of the table of all samples with their clusters, of `trommel dedup`.
pub const SAMPLES: &str = "samples.parquet";

/// The place of a split's head, beside its file.
#[must_use]
pub fn head_path(path: &Path) -> PathBuf {
    let mut name = path.file_stem().map_or_else(OsString::new, OsString::from);
    name.push(".split.json");
    path.with_file_name(name)
}

/// Writes a split's head.
///
/// # Errors
/// A file that cannot be written.
pub fn write_head(path: &Path, head: &SplitHead) -> Result<(), SelectError> {
    let text = serde_json::to_string_pretty(head).map_err(SelectError::Head)?;
    durable::write(path, (text + "\n").as_bytes()).map_err(SelectError::at(path))
}

fn begin(path: &Path) -> Result<BufWriter<Aside>, SelectError> {
    Aside::create(path).map(|file| BufWriter::with_capacity(1 << 20, file)).map_err(SelectError::at(path))
}

/// Columns of a split's table.
const COLUMNS: [(&str, ColumnType); 3] =
    [("shard", ColumnType::Text), ("key", ColumnType::Text), ("index", ColumnType::U32)];

struct Table {
    path: PathBuf,
    writer: TableWriter<BufWriter<Aside>>,
    shards: Vec<Option<String>>,
    keys: Vec<Option<String>>,
    indices: Vec<Option<u32>>,
    /// Shards of which something is kept, in order.
    named: Vec<String>,
    /// Those of which nothing is; `None` where nobody says.
    nothing_of: Option<Vec<String>>,
}

impl Table {
    fn begin(path: &Path) -> Result<Self, SelectError> {
        let fields = COLUMNS.map(|(name, kind)| Field::required(name, kind)).into();
        let writer = TableWriter::new(path, begin(path)?, fields, Vec::new())?.with_statistics();
        let (shards, keys, indices) = Default::default();
        Ok(Self { path: path.into(), writer, shards, keys, indices, named: Vec::new(), nothing_of: None })
    }

    fn group(&mut self) -> Result<(), SelectError> {
        let take = std::mem::take::<Vec<Option<String>>>;
        let (shards, keys) = (Column::Text(take(&mut self.shards)), Column::Text(take(&mut self.keys)));
        Ok(self.writer.write(&[shards, keys, Column::U32(std::mem::take(&mut self.indices))])?)
    }
}

impl Sink for Table {
    fn add(&mut self, kept: Kept<'_>) -> Result<(), SelectError> {
        if self.named.last().is_none_or(|last| last != kept.shard) {
            self.named.push(kept.shard.into());
        }
        self.shards.push(Some(kept.shard.into()));
        self.keys.push(Some(kept.key.into()));
        self.indices.push(Some(kept.index));
        if self.keys.len() >= GROUP_ROWS { self.group() } else { Ok(()) }
    }

    fn run_has(&mut self, shards: &mut dyn Iterator<Item = &str>) {
        let without = shards.filter(|name| self.named.binary_search_by(|named| named.as_str().cmp(name)).is_err());
        self.nothing_of = Some(without.map(str::to_owned).collect());
    }

    fn finish(mut self: Box<Self>, head: &SplitHead) -> Result<Whole, SelectError> {
        self.group()?;
        let text = serde_json::to_string(head).map_err(SelectError::Head)?;
        let mut metadata = vec![(META_SPLIT.to_owned(), text)];
        let nothing_of = self.nothing_of.map(|names| serde_json::json!(names).to_string());
        metadata.extend(nothing_of.map(|names| (META_NOTHING_OF.to_owned(), names)));
        for (name, value) in [
            ("trommel.schema", head.schema.to_string()),
            ("rule", head.rule.clone()),
            ("ties", head.ties.clone()),
            ("identity", head.identity.to_string()),
            ("benchmarks", serde_json::json!(head.benchmarks).to_string()),
            ("count", head.count.to_string()),
            ("keys_sha256", head.keys_sha256.clone()),
        ] {
            metadata.push((name.into(), value));
        }
        Whole::table(self.path, self.writer.finish_with(metadata)?)
    }
}

struct Keys {
    path: PathBuf,
    out: ListFile,
    /// The shard that the samples are of, and its keys: those of kept samples, and of others.
    shard: String,
    kept: HashSet<String>,
    others: HashSet<String>,
}

impl Keys {
    fn begin(path: &Path) -> Result<Self, SelectError> {
        let (shard, kept, others) = Default::default();
        Ok(Self { path: path.into(), out: ListFile::begin(path)?, shard, kept, others })
    }

    fn of_shard(&mut self, shard: &str) {
        if self.shard != shard {
            shard.clone_into(&mut self.shard);
            self.kept.clear();
            self.others.clear();
        }
    }

    /// A kept sample, and one that is not, of the same key.
    fn same(&self, shard: &str, key: &str) -> SelectError {
        SelectError::Input(format!(
            "{}: of the samples {shard}/{key} one is kept and another is not, and a line does not tell them apart: .parquet does",
            self.path.display()
        ))
    }
}

impl Sink for Keys {
    fn add(&mut self, Kept { shard, key, .. }: Kept<'_>) -> Result<(), SelectError> {
        // Readers take a carriage return for the end of the line.
        if [shard, key].iter().any(|name| name.contains(['\n', '\r'])) {
            let path = self.path.display();
            return Err(SelectError::Input(format!(
                "{path}: the key {key:?} of shard {shard:?} does not fit on one line"
            )));
        }
        self.of_shard(shard);
        if self.others.contains(key) {
            return Err(self.same(shard, key));
        }
        self.kept.insert(key.into());
        writeln!(self.out, "{shard}/{key}").map_err(SelectError::at(&self.path))
    }

    fn leave_out(&mut self, shard: &str, key: &str) -> Result<(), SelectError> {
        self.of_shard(shard);
        if self.kept.contains(key) {
            return Err(self.same(shard, key));
        }
        self.others.insert(key.into());
        Ok(())
    }

    fn finish(self: Box<Self>, _: &SplitHead) -> Result<Whole, SelectError> {
        self.out.finish(None)
    }
}

/// A row of a split's table, in its order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SplitRow {
    /// Its shard's name.
    pub shard: String,
    /// Its raw index in the shard.
    pub index: u32,
    /// Key of the sample, as its members are named.
    pub key: String,
}

impl fmt::Display for SplitRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} (index {})", self.shard, self.key, self.index)
    }
}

/// Reads what a split says of itself: from its Parquet file, or from its `.split.json`.
///
/// # Errors
/// A file that is neither.
pub fn read_head(path: &Path) -> Result<SplitHead, SelectError> {
    let bad = |source: Cause| SelectError::NoSplit { path: path.to_path_buf(), source };
    let beside = head_path(path);
    match (std::fs::metadata(path), Format::of(path)) {
        (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => return Err(bad(error.into())),
        (Ok(there), _) if there.is_dir() => {
            return Err(bad("a folder; give the .parquet or the .split.json of one split".into()));
        }
        (Ok(_), Some(Format::Uids | Format::Keys | Format::KeysAlone)) => {
            let hint = if beside.exists() {
                format!("; give {}, which lies beside it", beside.display())
            } else {
                String::new()
            };
            return Err(bad(format!("a list does not say by which rule it was made{hint}").into()));
        }
        (Ok(_) | Err(_), Some(Format::Parquet) | None) | (Err(_), Some(_)) => {}
    }
    let text = if Format::of(path) == Some(Format::Parquet) {
        let table = open(path, &[])?;
        let head = table.metadata(META_SPLIT).map(str::to_owned);
        let text = "a Parquet file that `trommel select` did not write; names of other programs' choice are read from .txt (SHARD/KEY a line), .keys (a \
                    key a line, sorted) or .npy (uids, sorted)";
        head.ok_or_else(|| bad(text.into()))?
    } else {
        std::fs::read_to_string(path).map_err(SelectError::at(path))?
    };
    let head: SplitHead = serde_json::from_str(&text).map_err(|error| bad(error.into()))?;
    if head.schema > SPLIT_SCHEMA {
        return Err(bad(format!("schema version {}; this program knows {SPLIT_SCHEMA}", head.schema).into()));
    }
    Ok(head)
}

/// The rows of a split's Parquet file, in their order.
///
/// # Errors
/// A file that is none; each row may be an error of its own.
pub fn read_rows(path: &Path) -> Result<impl Iterator<Item = Result<SplitRow, SelectError>> + use<>, SelectError> {
    Ok(open(path, &COLUMNS)?.flat_map(|group| {
        let rows = group.map_err(SelectError::from).map(|group| {
            let mut columns = group.into_iter();
            match (columns.next(), columns.next(), columns.next()) {
                (Some(Column::Text(shards)), Some(Column::Text(keys)), Some(Column::U32(indices))) => {
                    let named = shards.into_iter().zip(keys).zip(indices);
                    let row = |((shard, key), index): ((Option<String>, Option<String>), Option<u32>)| SplitRow {
                        shard: shard.unwrap_or_default(),
                        index: index.unwrap_or_default(),
                        key: key.unwrap_or_default(),
                    };
                    named.map(row).collect::<Vec<_>>()
                }
                _ => Vec::new(),
            }
        });
        let (rows, error) = rows.map_or_else(|error| (Vec::new(), Some(error)), |rows| (rows, None));
        rows.into_iter().map(Ok).chain(error.map(Err))
    }))
}

fn open(path: &Path, columns: &[(&str, ColumnType)]) -> Result<TableReader, SelectError> {
    let file = std::fs::File::open(path).map_err(SelectError::at(path))?;
    Ok(TableReader::open(path, Box::new(file), columns)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_said_as_its_files_end() {
        assert!(Format::ALL.into_iter().all(|format| format.extension().parse::<Format>().unwrap() == format));
        let refused = "csv".parse::<Format>().unwrap_err().to_string();
        assert_eq!(refused, "--format csv: parquet, npy, txt and keys are written");
    }

    #[test]
    fn splits_go_into_one_file_or_into_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let go = |out: &str, formats: &[Format], names: &[&str]| {
            let splits = files(&folder.path().join(out), formats, names).map_err(|error| error.to_string())?;
            let under = |file: &PathBuf| file.strip_prefix(folder.path()).unwrap().display().to_string();
            let said = |(name, files): &(String, Vec<PathBuf>)| {
                format!("{name}: {}", files.iter().map(under).collect::<Vec<_>>().join(" "))
            };
            Ok::<_, String>(splits.iter().map(said).collect::<Vec<_>>().join(", "))
        };
        std::fs::create_dir(folder.path().join("table.parquet")).unwrap();
        let (none, both): (&[Format], &[Format]) = (&[], &[Format::Keys, Format::Uids]);
        for (out, formats, names, there) in [
            ("a.txt", none, &[""][..], "a: a.txt"),
            ("A.PARQUET", none, &["b"], "b: A.PARQUET"),
            ("out", none, &["", "b"], "split: out/split.parquet, b: out/b.parquet"),
            ("out", both, &["b"], "b: out/b.txt out/b.npy"),
            ("table.parquet", both, &["b"], "b: table.parquet/b.txt table.parquet/b.npy"),
        ] {
            assert_eq!(go(out, formats, names).unwrap(), there);
        }
        for (out, formats, names, why) in [
            ("a.txt", none, &["a", "b"][..], "a.txt is one file, for 2 rules: give a folder"),
            ("a.txt", both, &["a"], "a.txt is one file by its ending"),
            ("a.csv", none, &["a"], "a.csv: .csv is no format of splits: "),
        ] {
            let refused = go(out, formats, names).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
