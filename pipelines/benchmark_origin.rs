//! How vectors came to be, beyond their model: what multiplied for them, and who rounded those that gave the radii. A run's `config.json` says it of
//! the run, a file's metadata of a benchmark.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use trommel_columnar::ipc::META_IDENTITY;
use trommel_columnar::pieces::FILE_NAME;
use trommel_columnar::source::EmbeddingReader;
use trommel_core::notices::Notices;
use trommel_ledger::run_folder::CONFIG_FILE;

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
    /// Whether its points have radii.
    pub has_radii: bool,
    /// Who rounded the references of the radii, see [`Rounded`](crate::rounding::Rounded).
    pub references_rounded: Option<String>,
    /// Folder of the pictures.
    pub source: Option<PathBuf>,
    /// Names of the shards that its points come from, one a point; empty where no file says any.
    pub shards: Vec<Option<String>>,
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
            products: products_of(config(path).as_ref(), &metadata),
            has_radii: reader.has_radii(),
            references_rounded: text(ROUNDED),
            source: text("source").map(PathBuf::from),
            shards: Vec::new(),
        }
    }
}

/// The configuration of the run in a folder; none where there is no run.
pub(crate) fn config(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder.join(CONFIG_FILE)).ok()?).ok()
}

/// What multiplied for the features of a run, and in what if not in f32; none where nothing was embedded.
#[must_use]
pub fn products(config: &Value) -> Option<String> {
    let numerics = config.get("numerics").filter(|numerics| numerics.get("libtorch").is_some())?;
    let text = |name: &str| numerics.get(name).and_then(Value::as_str);
    let device = text("device").filter(|device| *device != "cpu");
    let by = text(PRODUCTS).or(device).unwrap_or(PLAIN);
    let precision = text("precision").filter(|precision| *precision != "f32");
    Some(precision.map_or_else(|| by.to_owned(), |precision| format!("{by} in {precision}")))
}

/// The same of a file that says `metadata` of itself, and lies in a run of this configuration, or in none; none of what another program embedded.
pub(crate) fn products_of(config: Option<&Value>, metadata: &BTreeMap<String, String>) -> Option<String> {
    metadata.get(PRODUCTS).cloned().or_else(|| match config {
        Some(config) => products(config),
        None => metadata.contains_key(META_IDENTITY).then(|| PLAIN.to_owned()),
    })
}

/// Notes each benchmark with radii whose vectors come from other products than the pool's; of what does not say, of either side, nothing is known. A
/// pool that is embedded as it comes is embedded as its benchmarks were where it can be, see [`crate::begun_with`].
pub fn note_products(notices: &mut Notices, benchmarks: &[BenchmarkOrigin], pool: Option<&str>) {
    let Some(pool) = pool else { return };
    for BenchmarkOrigin { name, products, .. } in benchmarks.iter().filter(|benchmark| benchmark.has_radii) {
        let Some(products) = products.as_deref().filter(|products| *products != pool) else { continue };
        let text = "benchmarks with radii whose vectors and the pool's were multiplied for differently (a copy of the reference that gives a \
                    radius may be dropped: embed pool, benchmark and references in one way, and take the radii anew)";
        notices.note("other_products", text, format!("benchmark {name}: {products}, the pool: {pool}"), 1);
    }
}

/// Notes each benchmark whose vectors come from other products than those of a reference that gives it radii.
pub(crate) fn note_reference(notices: &mut Notices, benchmarks: &[BenchmarkOrigin], reference: &BenchmarkOrigin) {
    let Some(of_reference) = reference.products.as_deref() else { return };
    for BenchmarkOrigin { name, products, .. } in benchmarks {
        let Some(products) = products.as_deref().filter(|products| *products != of_reference) else { continue };
        let text = "references whose vectors and the benchmark's were multiplied for differently (a radius is off by what that changes: embed \
                    both in one way)";
        let place = format!("benchmark {name}: {products}, reference {}: {of_reference}", reference.name);
        notices.note("reference_products", text, place, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_f32_says_so() {
        let of = |numerics: &str| {
            products(
                &serde_json::from_str(&format!(r#"{{"numerics": {{"libtorch": "2.11.0", {numerics}}}}}"#))
                    .expect("JSON"),
            )
        };
        let cases = [
            (r#""device": "cpu", "precision": "f32", "products": "oneDNN""#, ONEDNN),
            (r#""device": "cpu""#, PLAIN),
            (r#""device": "cpu", "precision": "bf16""#, "libtorch in bf16"),
            (r#""device": "cuda", "precision": "f32""#, "cuda"),
            (r#""device": "cuda", "precision": "f16, residual sum f32""#, "cuda in f16, residual sum f32"),
        ];
        for (numerics, due) in cases {
            assert_eq!(of(numerics).as_deref(), Some(due), "{numerics}");
        }
    }

    #[test]
    fn products_that_differ_from_a_stored_pool_are_said_where_radii_hang_on_them() {
        let origin = |name: &str, products: Option<&str>, has_radii| BenchmarkOrigin {
            name: name.into(),
            products: products.map(str::to_owned),
            has_radii,
            ..BenchmarkOrigin::default()
        };
        let benchmarks = [
            origin("alike", Some(ONEDNN), true),
            origin("foreign", None, true),
            origin("bare", Some(PLAIN), false),
            origin("old", Some(PLAIN), true),
            origin("card", Some("cuda"), true),
        ];
        let said = |pool| {
            let mut notices = Notices::default();
            note_products(&mut notices, &benchmarks, pool);
            notices.get("other_products").map(|notice| (notice.count, notice.first.clone()))
        };
        assert_eq!(said(Some(ONEDNN)), Some((2, "benchmark old: libtorch, the pool: oneDNN".into())));
        assert_eq!(said(Some(PLAIN)), Some((2, "benchmark alike: oneDNN, the pool: libtorch".into())));
        assert_eq!(said(None), None);
    }
}
