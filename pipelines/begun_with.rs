//! What a run goes on with: the decoder that its folder, or else what it compares with, was begun with, and its folder's way to multiply.
//!
//! Pixels of two decoders do not mix in one run, nor do features in one comparison. So the name in a folder's `config.json`, or in the
//! benchmarks' identities, chooses among the decoders that are known here; a name that is not known is left to the comparison that refuses it.
//! Folders from before training wrote a name down are of the decoder of that time; those whose numeric part names no products are of libtorch's own.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use trommel_columnar::ipc::META_IDENTITY;
use trommel_decide::benchmark::Benchmark;
use trommel_decode::{DECODER, Decoder, EARLIER_DECODER};

use crate::benchmarks::NamedPath;
use crate::past_run::metadata_of;

/// A decoder, and why it is that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunWith {
    /// Which decoder makes the pixels.
    pub decoder: Decoder,
    /// Its name in identities.
    pub name: String,
    /// What to say where it is not the one of a new run.
    pub note: Option<String>,
    /// Whether a CPU's features come from libtorch's own products, as all did before oneDNN's were asked.
    pub plain_products: bool,
}

impl BegunWith {
    /// Of the run in `folder`, which is compared with `benchmarks`; they lie at `places`.
    #[must_use]
    pub fn of(folder: &Path, benchmarks: &[Arc<Benchmark>], places: &[NamedPath]) -> Self {
        let config = config(folder);
        let in_folder = config.as_ref().map(|config| (recorded(config), folder.display().to_string()));
        let products = match &config {
            Some(config) => products(config),
            None => places.iter().find_map(|named| products_at(&named.path).filter(|products| *products == PLAIN)),
        };
        let plain_products = products.is_some_and(|products| products == PLAIN);
        let in_benchmarks = || {
            let mut named = benchmarks.iter().filter_map(|benchmark| Some((benchmark.identity.as_ref()?, benchmark)));
            named
                .next()
                .map(|(identity, benchmark)| (identity.decoder.clone(), format!("benchmark {}", benchmark.name)))
        };
        let (name, place) = in_folder.or_else(in_benchmarks).unwrap_or_else(|| (DECODER.into(), String::new()));
        match Decoder::of(&name) {
            Some(decoder) => {
                let note = (name != DECODER).then(|| format!("{place}: {name}; a new run has {DECODER}"));
                Self { decoder, name, note, plain_products }
            }
            None => Self { decoder: Decoder::default(), name: DECODER.into(), note: None, plain_products },
        }
    }
}

/// The configuration of the run in a folder; none where there is no run.
fn config(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder.join("config.json")).ok()?).ok()
}

/// What a CPU's features were multiplied by where nobody says it: libtorch's own products.
const PLAIN: &str = "libtorch";
/// What an embeddings file calls it.
pub const PRODUCTS: &str = "products";

/// What multiplied for the features of a run; none where nothing was embedded.
#[must_use]
pub fn products(config: &Value) -> Option<String> {
    let numerics = config.get("numerics").filter(|numerics| numerics.get("libtorch").is_some())?;
    let text = |name: &str| numerics.get(name).and_then(Value::as_str);
    let device = text("device").filter(|device| *device != "cpu");
    Some(text(PRODUCTS).or(device).unwrap_or(PLAIN).to_owned())
}

/// The same of a benchmark or a set of references, in whatever form they lie there; none of what another program embedded.
pub(crate) fn products_at(path: &Path) -> Option<String> {
    if let Some(config) = config(path) {
        return products(&config);
    }
    let metadata = metadata_of(path).filter(|metadata| metadata.contains_key(META_IDENTITY))?;
    Some(metadata.get(PRODUCTS).map_or(PLAIN, String::as_str).to_owned())
}

/// The decoder's name in a run's configuration.
fn recorded(config: &Value) -> String {
    let at = |path: &str| config.pointer(path)?.as_str().map(str::to_owned);
    at("/decisions/embedder/decoder").or_else(|| at("/record/decoder")).unwrap_or_else(|| EARLIER_DECODER.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_before_benchmarks_and_what_is_unknown_is_left_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let decoder = |config: &str| {
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            BegunWith::of(folder.path(), &[], &[])
        };
        let new =
            |note| BegunWith { decoder: Decoder::LibjpegTurbo, name: DECODER.into(), note, plain_products: false };
        let embedded = |name: &str| decoder(&format!(r#"{{"decisions": {{"embedder": {{"decoder": "{name}"}}}}}}"#));
        assert_eq!(BegunWith::of(folder.path(), &[], &[]), new(None));
        assert_eq!(embedded(DECODER), new(None));
        assert_eq!(embedded("of tomorrow 3"), new(None));
        assert_eq!(
            decoder(&format!(r#"{{"decisions": {{"embedder": null}}, "record": {{"decoder": "{DECODER}"}}}}"#)),
            new(None)
        );
        for (numerics, plain) in [
            (r#"{"device": "cpu", "libtorch": "2.11.0"}"#, true),
            (r#"{"device": "cpu", "libtorch": "2.11.0", "products": "oneDNN"}"#, false),
            ("{}", false),
        ] {
            let config = format!(r#"{{"numerics": {numerics}, "record": {{"decoder": "{DECODER}"}}}}"#);
            assert_eq!(decoder(&config).plain_products, plain, "{numerics}");
        }
        let earlier = decoder(r#"{"decisions": {"embedder": null}, "record": {"program": "0.1.0"}}"#);
        assert_eq!(earlier, embedded(EARLIER_DECODER));
        assert_eq!((earlier.decoder, earlier.name.as_str()), (Decoder::Zune, EARLIER_DECODER));
        assert!(
            earlier
                .note
                .unwrap()
                .ends_with("a new run has libjpeg-turbo + image 0.25.8 + tiff 0.10.3 + trommel-resize 1")
        );
    }
}
