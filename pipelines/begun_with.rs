//! What a run goes on with: the decoder that its folder, or else what it compares with, was begun with, and its folder's way to multiply.
//!
//! Pixels of two decoders do not mix in one run, nor do features in one comparison. So the name in a folder's `config.json`, or in the
//! benchmarks' identities, chooses among the decoders that are known here; a name that is not known is left to the comparison that refuses it.
//! Folders from before training wrote a name down are of the decoder of that time; those whose numeric part names no products are of libtorch's own.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use trommel_core::notices::Notices;
use trommel_decide::benchmark::Benchmark;
use trommel_decode::{DECODER, Decoder, EARLIER_DECODER};

use crate::benchmark_origin::{BenchmarkOrigin, ONEDNN, PLAIN, config, products};

/// A decoder, and why it is that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunWith {
    /// Which decoder makes the pixels.
    pub decoder: Decoder,
    /// Its name in identities.
    pub name: String,
    /// What to say where it is not the one of a new run.
    pub note: Option<String>,
    /// Who has a CPU's features come from libtorch's own products, as all did before oneDNN's were asked.
    pub plain_products: Option<PlainProducts>,
}

/// Whose vectors libtorch's own products made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlainProducts {
    /// The run's that goes on, by its folder.
    Run(String),
    /// A benchmark's, by its name.
    Benchmark(String),
}

impl PlainProducts {
    /// Notes why a run is slower than a new one would be, and what mends it.
    pub fn note(&self, notices: &mut Notices) {
        match self {
            Self::Run(folder) => {
                let text = "runs that go on with the products they were begun with, slower than a new run's (only a new run has others)";
                notices.note("earlier_products", text, format!("{folder}: {PLAIN}; a new run has {ONEDNN}"), 1);
            }
            Self::Benchmark(name) => {
                let text = "benchmarks by whose slower products the pool is embedded too, so that a copy of a reference keeps its similarity \
                            (embed the benchmark and its references again, and take the radii anew)";
                let place = format!("benchmark {name}: {PLAIN}; a new one has {ONEDNN}");
                notices.note("benchmark_products", text, place, 1);
            }
        }
    }
}

impl BegunWith {
    /// Of the run in `folder`, which is compared with `benchmarks`; `origins` says how they came to be.
    #[must_use]
    pub fn of(folder: &Path, benchmarks: &[Arc<Benchmark>], origins: &[BenchmarkOrigin]) -> Self {
        let config = config(folder);
        let in_folder = config.as_ref().map(|config| (recorded(config), folder.display().to_string()));
        let is_plain = |products: &Option<String>| products.as_deref() == Some(PLAIN);
        let plain_products = match &config {
            Some(config) => is_plain(&products(config)).then(|| PlainProducts::Run(folder.display().to_string())),
            None => origins
                .iter()
                .find(|origin| is_plain(&origin.products))
                .map(|origin| PlainProducts::Benchmark(origin.name.clone())),
        };
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

/// The decoder's name in a run's configuration.
fn recorded(config: &Value) -> String {
    let at = |path: &str| config.pointer(path)?.as_str().map(str::to_owned);
    at("/decisions/embedder/decoder").or_else(|| at("/record/decoder")).unwrap_or_else(|| EARLIER_DECODER.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A new run goes by its benchmarks, one that was begun by itself, and each says what mends it.
    #[test]
    fn slow_products_are_said_with_their_reason() {
        let folder = tempfile::tempdir().unwrap();
        let origin = |name: &str, products: Option<&str>| BenchmarkOrigin {
            name: name.into(),
            products: products.map(str::to_owned),
            ..BenchmarkOrigin::default()
        };
        let of = |origins: &[BenchmarkOrigin]| BegunWith::of(folder.path(), &[], origins).plain_products;
        assert_eq!(of(&[origin("new", Some(ONEDNN)), origin("foreign", None), origin("card", Some("cuda"))]), None);
        let by_old = of(&[origin("new", Some(ONEDNN)), origin("old", Some(PLAIN))]);
        assert_eq!(by_old, Some(PlainProducts::Benchmark("old".into())));
        let config = |products: &str| {
            let numerics = format!(r#"{{"numerics": {{"device": "cpu", "libtorch": "2.11.0"{products}}}}}"#);
            std::fs::write(folder.path().join("config.json"), numerics).unwrap();
        };
        config(r#", "products": "oneDNN""#);
        assert_eq!(of(&[origin("old", Some(PLAIN))]), None);
        config("");
        let as_begun = of(&[]).unwrap();
        let mut notices = Notices::default();
        by_old.unwrap().note(&mut notices);
        as_begun.note(&mut notices);
        let said: Vec<String> = notices.lines().collect();
        assert!(said[0].contains("embed the benchmark") && said[0].contains("benchmark old: libtorch"), "{said:?}");
        assert!(
            said[1].contains("only a new run") && said[1].contains(&folder.path().display().to_string()),
            "{said:?}"
        );
        assert!(!notices.any_loss());
    }

    #[test]
    fn a_folder_goes_before_benchmarks_and_what_is_unknown_is_left_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let decoder = |config: &str| {
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            BegunWith::of(folder.path(), &[], &[])
        };
        let new = |note| BegunWith { decoder: Decoder::LibjpegTurbo, name: DECODER.into(), note, plain_products: None };
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
            let run = PlainProducts::Run(folder.path().display().to_string());
            assert_eq!(decoder(&config).plain_products, plain.then_some(run), "{numerics}");
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
