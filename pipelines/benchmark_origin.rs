//! How vectors came to be, beyond their model: what multiplied for them, and who rounded those that gave the radii. A run's `config.json` says it of
//! the run, a file's metadata of a benchmark.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use trommel_columnar::embeddings::FILE_NAME;
use trommel_columnar::ipc::META_IDENTITY;
use trommel_columnar::source::EmbeddingReader;

use crate::named_path::NamedPath;

/// What a CPU's features were multiplied by where nobody says it: libtorch's own products.
pub(crate) const PLAIN: &str = "libtorch";
/// What they are multiplied by since.
pub(crate) const ONEDNN: &str = "oneDNN";
/// What an embeddings file calls it.
pub const PRODUCTS: &str = "products";
/// What the file of a benchmark with radii calls how its references were rounded.
pub(crate) const ROUNDED: &str = "reference_rounded";

/// How a benchmark's vectors and radii came to be, as far as its files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BenchmarkOrigin {
    /// The benchmark's name.
    pub name: String,
    /// What multiplied for the vectors, see [`products`].
    pub products: Option<String>,
    /// Who rounded the references of the radii, see [`Rounded`](crate::rounding::Rounded).
    pub references_rounded: Option<String>,
    /// Folder of the pictures.
    pub source: Option<PathBuf>,
}

impl BenchmarkOrigin {
    /// Of what lies at `named`, as a reader of it found its first file.
    pub(crate) fn of(named: &NamedPath, reader: &EmbeddingReader) -> Self {
        let path = &named.path;
        // A part of a run is one of many: what it says is not said of the set.
        let is_one = path.is_file() || path.join(FILE_NAME).is_file();
        let metadata = if is_one { reader.metadata().clone() } else { BTreeMap::new() };
        let text = |name: &str| metadata.get(name).filter(|text| !text.is_empty()).cloned();
        Self {
            name: named.name.clone(),
            products: products_of(path, &metadata),
            references_rounded: text(ROUNDED),
            source: text("source").map(PathBuf::from),
        }
    }
}

/// The configuration of the run in a folder; none where there is no run.
pub(crate) fn config(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder.join("config.json")).ok()?).ok()
}

/// What multiplied for the features of a run; none where nothing was embedded.
#[must_use]
pub fn products(config: &Value) -> Option<String> {
    let numerics = config.get("numerics").filter(|numerics| numerics.get("libtorch").is_some())?;
    let text = |name: &str| numerics.get(name).and_then(Value::as_str);
    let device = text("device").filter(|device| *device != "cpu");
    Some(text(PRODUCTS).or(device).unwrap_or(PLAIN).to_owned())
}

/// The same of a benchmark at `path`, whose file says `metadata` of itself; none of what another program embedded.
fn products_of(path: &Path, metadata: &BTreeMap<String, String>) -> Option<String> {
    match config(path) {
        Some(config) => products(&config),
        None if !metadata.contains_key(META_IDENTITY) => None,
        None => Some(metadata.get(PRODUCTS).map_or(PLAIN, String::as_str).to_owned()),
    }
}
