//! Where the file's data lie: relative to the file, or generated in a folder.

use std::path::{Path, PathBuf};

use trommel_core::names::{STDIN, is_name};

use super::{BenchmarkFile, StudyFile, Words};

/// Templates for generated benchmarks lie beside them: their captions speak of photos, sketches, cartoons and cloth.
pub(crate) const TEMPLATES_FILE: &str = "templates.txt";
pub(crate) const TEMPLATES: &str = "a photo of a {}\na sketch of a {}\npencil drawing of a {}\na cartoon of a {}\nvector illustration of a {}\n\
                                    a {} made of patterned cloth\ncollage of a {}\na {} in the picture\n";

/// Benchmarks that `trommel synth` makes, in their order here.
pub(super) const GENERATED: [&str; 4] = ["cartoon", "photo", "sketch", "texture"];

impl StudyFile {
    /// The same with paths that are relative to the folder of the file made so to where the program stands.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        let place = |path: &mut PathBuf| *path = folder.join(&*path);
        self.pool.0.iter_mut().for_each(|word| *word = word_in(folder, word));
        if !self.reference.as_os_str().is_empty() {
            place(&mut self.reference);
        }
        [&mut self.reference_classnames, &mut self.reference_class_table].into_iter().flatten().for_each(place);
        for benchmark in self.benchmarks.values_mut() {
            place(&mut benchmark.data);
            [&mut benchmark.classnames, &mut benchmark.class_table, &mut benchmark.templates]
                .into_iter()
                .flatten()
                .for_each(place);
        }
        self.embedder.weights.iter_mut().for_each(place);
        for model in [&mut self.embedder.model, &mut self.model] {
            if model.ends_with(".json") {
                *model = folder.join(&*model).display().to_string();
            }
        }
        self
    }

    /// The same with the data that were generated in `folder`.
    #[must_use]
    pub fn with_generated(mut self, folder: &Path) -> Self {
        if self.generated.is_some() {
            self.pool = Words(vec![folder.join("shards/*.tar").display().to_string()]);
            self.reference = folder.join("reference");
            let benchmark = |name: &str| BenchmarkFile {
                data: folder.join("benchmarks").join(name),
                classnames: None,
                class_table: None,
                templates: Some(folder.join(TEMPLATES_FILE)),
                without: Vec::new(),
            };
            self.benchmarks = GENERATED.map(|name| (name.to_owned(), benchmark(name))).into();
        }
        self
    }
}

/// `[NAME=]A::B` with each path in `folder`.
fn word_in(folder: &Path, word: &str) -> String {
    if folder.as_os_str().is_empty() {
        return word.to_owned();
    }
    let (name, list) = match word.split_once('=').filter(|(name, _)| is_name(name)) {
        Some((name, list)) => (format!("{name}="), list),
        None => (String::new(), word),
    };
    let place = |item: &str| {
        let elsewhere = item == STDIN || item.starts_with('/') || item.starts_with("file:") || item.contains("://");
        if elsewhere || item.starts_with("pipe:") || item.is_empty() {
            return item.to_owned();
        }
        folder.join(item).display().to_string()
    };
    name + &list.split("::").map(place).collect::<Vec<_>>().join("::")
}
