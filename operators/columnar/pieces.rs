//! Which files a set of embeddings is made of, in their order.
//!
//! | a path | its files |
//! |---|---|
//! | `X.arrow`, `X.npy`, `X.npz` | itself, and the table of its keys where clip-retrieval or DataComp has it |
//! | a folder with `embeddings.arrow` | that file; none but a run's own parts and exports may lie beside it |
//! | clip-retrieval's folder, or its `img_emb/` | `img_emb/img_emb_{i}.npy`, each with `metadata/metadata_{i}.parquet` |
//! | a run's folder, or its `embeddings/` | `embeddings/<ordinal>.<incarnation>.arrow`, the first incarnation of each |
//! | DataComp's folder | `{shard}.npz`, each with `{shard}.parquet` |
//! | any other folder | the `.npy`, `.npz` or `.arrow` files in it, of one kind |
//!
//! An `.npz` holds several arrays: `PATH@l14_img` says which; without it the only one whose name ends with `_img` is meant, or the only one.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::ColumnarError;
use super::parquet::TableReader;

/// Name of the one file that holds all of a folder's embeddings.
pub const FILE_NAME: &str = "embeddings.arrow";

/// One file of embeddings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// An Arrow IPC file.
    Ipc(PathBuf),
    /// A matrix of numpy's, and the table that has its keys.
    Npy {
        /// The `.npy` file of the matrix.
        vectors: PathBuf,
        /// The table of its rows' keys; `None` where there is none.
        keys: Option<PathBuf>,
    },
    /// One of the arrays in an archive of numpy's.
    Npz {
        /// The `.npz` file.
        vectors: PathBuf,
        /// The array's name.
        array: String,
        /// The table that has its keys.
        keys: Option<PathBuf>,
    },
}

impl Piece {
    /// The file with the vectors.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Ipc(path) | Self::Npy { vectors: path, .. } | Self::Npz { vectors: path, .. } => path,
        }
    }

    /// Whether its rows have keys; else their numbers stand for them.
    #[must_use]
    pub const fn has_keys(&self) -> bool {
        match self {
            Self::Ipc(_) => true,
            Self::Npy { keys, .. } | Self::Npz { keys, .. } => keys.is_some(),
        }
    }

    /// The table that has its keys.
    fn into_table(self) -> Option<PathBuf> {
        match self {
            Self::Ipc(_) => None,
            Self::Npy { keys, .. } | Self::Npz { keys, .. } => keys,
        }
    }

    /// The same without keys.
    pub(super) fn without_table(mut self) -> Self {
        if let Self::Npy { keys, .. } | Self::Npz { keys, .. } = &mut self {
            *keys = None;
        }
        self
    }

    /// Bytes of its files.
    ///
    /// # Errors
    /// A file that is not there.
    pub fn bytes(&self) -> Result<u64, ColumnarError> {
        let keys = match self {
            Self::Ipc(_) => None,
            Self::Npy { keys, .. } | Self::Npz { keys, .. } => keys.as_deref(),
        };
        let size = |path: &Path| std::fs::metadata(path).map(|it| it.len()).map_err(|e| ColumnarError::io(path, e));
        Ok(size(self.path())? + keys.map_or(Ok(0), size)?)
    }
}

/// Whether a file's name is one of embeddings.
#[must_use]
pub fn is_embeddings(path: &Path) -> bool {
    matches!(extension(path), Some("arrow" | "npy" | "npz"))
}

/// The path, and the name of an array after its last `@`, where the whole is no path that is there.
#[must_use]
pub fn with_array(path: &Path) -> (&Path, Option<&str>) {
    let split = path.to_str().filter(|_| !path.exists()).and_then(|text| text.rsplit_once('@'));
    match split {
        Some((path, array)) if !array.contains('/') && Path::new(path).exists() => (Path::new(path), Some(array)),
        _ => (path, None),
    }
}

/// The table that has the keys of a file of embeddings, where it is there.
#[must_use]
pub fn key_table(vectors: &Path) -> Option<PathBuf> {
    match extension(vectors) {
        Some("npy") => keys_of(vectors, None),
        Some("npz") => Some(vectors.with_extension("parquet")).filter(|keys| keys.is_file()),
        _ => None,
    }
}

/// The files that `path` stands for: see the module's head.
///
/// # Errors
/// Nothing there, files of which nobody knows which are meant, an archive that cannot be read.
pub fn pieces(path: &Path) -> Result<Vec<Piece>, ColumnarError> {
    let (path, array) = with_array(path);
    let meta = std::fs::metadata(path).map_err(|e| ColumnarError::io(path, e))?;
    let found = if meta.is_file() { vec![of_file(path, array)?] } else { in_folder(path, array)? };
    match (array, found.first()) {
        (Some(array), Some(Piece::Ipc(file) | Piece::Npy { vectors: file, .. })) => {
            Err(ColumnarError::mismatch(file, format!("holds one set of vectors, no array `{array}`")))
        }
        _ => Ok(found),
    }
}

/// Tables of keys in the folder that `path` is whose vectors are gone, with their rows where they tell them: clip-retrieval's
/// `metadata_{i}.parquet` without `img_emb_{i}.npy`, DataComp's `{shard}.parquet` without `{shard}.npz`. Who gives a folder means all that
/// belongs there.
///
/// # Errors
/// As [`pieces`].
pub fn tables_alone(path: &Path) -> Result<Vec<(PathBuf, Option<u64>)>, ColumnarError> {
    if !with_array(path).0.is_dir() {
        return Ok(Vec::new());
    }
    let own: BTreeSet<PathBuf> = pieces(path)?.into_iter().filter_map(Piece::into_table).collect();
    let Some(first) = own.first() else { return Ok(Vec::new()) };
    // Any table may lie there: it is one of these where it is called as they are but for a number, which may be a hexadecimal one.
    let kind = |table: &Path| {
        let name = table.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match name.strip_prefix("metadata_") {
            Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => "metadata_#".to_owned(),
            _ => name.chars().map(|c| if c.is_ascii_hexdigit() { '#' } else { c }).collect(),
        }
    };
    let kinds: BTreeSet<String> = own.iter().map(|table| kind(table)).collect();
    let beside = numbered(first.parent().unwrap_or(Path::new(".")), "parquet")?;
    let alone = beside.into_iter().filter(|table| !own.contains(table) && kinds.contains(&kind(table)));
    let rows = |table: &Path| {
        let file = Box::new(File::open(table).ok()?);
        TableReader::open(table, file, &[]).ok().map(|table| table.rows())
    };
    Ok(alone.map(|table| (table.clone(), rows(&table))).collect())
}

fn of_file(path: &Path, array: Option<&str>) -> Result<Piece, ColumnarError> {
    match extension(path) {
        Some("npy") => Ok(Piece::Npy { keys: key_table(path), vectors: path.to_path_buf() }),
        Some("npz") => npz_piece(path, &array_of(path, array)?),
        _ => Ok(Piece::Ipc(path.to_path_buf())),
    }
}

fn in_folder(path: &Path, array: Option<&str>) -> Result<Vec<Piece>, ColumnarError> {
    let single = path.join(FILE_NAME);
    let vectors = numbered(&path.join("img_emb"), "npy")?;
    let parts = numbered(&path.join("embeddings"), "arrow")?;
    let kinds = ["npy", "npz", "arrow"].map(|kind| numbered(path, kind).map(|files| (kind, files)));
    let mut kinds = kinds.into_iter().collect::<Result<Vec<_>, _>>()?;
    if single.is_file() {
        let loose = kinds.into_iter().flat_map(|(_, files)| files).filter(|file| *file != single);
        let others: Vec<PathBuf> = loose.chain(vectors).collect();
        // What a run has exported is the same set as its parts.
        return if others.is_empty() || !parts.is_empty() {
            Ok(vec![Piece::Ipc(single)])
        } else {
            mixed(path, 1, FILE_NAME, &others, "other files of embeddings")
        };
    }
    if !vectors.is_empty() {
        return npy_pieces(vectors, Some(path));
    }
    if !parts.is_empty() {
        return Ok(first_incarnations(parts).into_iter().map(Piece::Ipc).collect());
    }
    // Files that stand for themselves: one that strayed in must not decide what the others are.
    kinds.retain(|(_, files)| !files.is_empty());
    if let [(many_kind, many), (few_kind, few), ..] = kinds.as_slice() {
        return mixed(path, many.len(), &format!(".{many_kind} files"), few, &format!(".{few_kind} files"));
    }
    let Some((kind, files)) = kinds.pop() else {
        return Err(ColumnarError::NoEmbeddings { path: path.to_path_buf() });
    };
    match kind {
        "arrow" => Ok(first_incarnations(files).into_iter().map(Piece::Ipc).collect()),
        "npz" => {
            let array = files.first().map(|first| array_of(first, array)).transpose()?.unwrap_or_default();
            with_all_keys(files.iter().map(|file| npz_piece(file, &array)).collect::<Result<_, _>>()?)
        }
        _ => {
            let others: Vec<PathBuf> = files.iter().filter(|path| number_of(path).is_none()).cloned().collect();
            if !others.is_empty() && others.len() < files.len() {
                return mixed(path, files.len() - others.len(), "img_emb files", &others, "other .npy files");
            }
            npy_pieces(files, None)
        }
    }
}

fn mixed<T>(folder: &Path, many: usize, kind: &str, few: &[PathBuf], other: &str) -> Result<T, ColumnarError> {
    let first = few.first().and_then(|path| path.file_name()).unwrap_or_default().display().to_string();
    let few = few.len();
    let detail = format!("{many} {kind} and {few} {other} (first: {first}): give those that are meant");
    Err(ColumnarError::mismatch(folder, detail))
}

/// The files of clip-retrieval's `tree`, each with its keys.
fn npy_pieces(vectors: Vec<PathBuf>, tree: Option<&Path>) -> Result<Vec<Piece>, ColumnarError> {
    with_all_keys(vectors.into_iter().map(|it| Piece::Npy { keys: keys_of(&it, tree), vectors: it }).collect())
}

/// Refuses files of which some have their keys beside them: numbers in the place of keys would be taken for keys.
fn with_all_keys(pieces: Vec<Piece>) -> Result<Vec<Piece>, ColumnarError> {
    let found = pieces.iter().filter(|piece| piece.has_keys()).count();
    match pieces.iter().find(|piece| !piece.has_keys()) {
        Some(without) if found > 0 => {
            let detail = format!("no metadata beside it, though {found} of {} files have theirs", pieces.len());
            Err(ColumnarError::mismatch(without.path(), detail))
        }
        _ => Ok(pieces),
    }
}

/// `{i}` of `img_emb_{i}.npy`.
fn number_of(vectors: &Path) -> Option<&str> {
    vectors.file_stem()?.to_str()?.strip_prefix("img_emb_")
}

/// `metadata/metadata_{i}.parquet` of `img_emb_{i}.npy`, where it is there: in `tree`, or beside the folder of the vectors.
fn keys_of(vectors: &Path, tree: Option<&Path>) -> Option<PathBuf> {
    let name = format!("metadata/metadata_{}.parquet", number_of(vectors)?);
    // `.` has a parent too, which its name does not say.
    let beside = || Some(std::path::absolute(vectors).ok()?.parent()?.parent()?.to_path_buf());
    let keys = tree.map_or_else(beside, |tree| Some(tree.to_path_buf()))?.join(name);
    keys.is_file().then_some(keys)
}

fn npz_piece(path: &Path, array: &str) -> Result<Piece, ColumnarError> {
    Ok(Piece::Npz { vectors: path.to_path_buf(), array: array.to_owned(), keys: key_table(path) })
}

/// The array of an archive that is meant.
fn array_of(path: &Path, wanted: Option<&str>) -> Result<String, ColumnarError> {
    let file = File::open(path).map_err(|e| ColumnarError::io(path, e))?;
    let zip = ZipArchive::new(file).map_err(|e| ColumnarError::archive(path, e))?;
    let mut names: Vec<&str> = zip.file_names().filter_map(|name| name.strip_suffix(".npy")).collect();
    names.sort_unstable();
    let images: Vec<&str> = names.iter().copied().filter(|name| name.ends_with("_img")).collect();
    let held = names.join(", ");
    match (wanted, names.as_slice(), images.as_slice()) {
        (Some(wanted), ..) if names.contains(&wanted) => Ok(wanted.to_owned()),
        (Some(wanted), ..) => Err(ColumnarError::mismatch(path, format!("no array `{wanted}`; it holds {held}"))),
        (None, [only], _) | (None, _, [only]) => Ok((*only).to_owned()),
        _ => {
            let one = images.first().or(names.first()).copied().unwrap_or("ARRAY");
            let detail = format!("it holds {held}: say which array is meant, as in {}@{one}", path.display());
            Err(ColumnarError::mismatch(path, detail))
        }
    }
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
