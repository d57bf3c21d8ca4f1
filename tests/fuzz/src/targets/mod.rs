//! The targets whose parsers are public. Those of the cluster and of files of weights stand in their rooms' tests.

mod columns;
mod pictures;
mod tar;
mod text;

use crate::Target;

/// All of them.
#[must_use]
pub fn all() -> Vec<Target> {
    [tar::targets(), pictures::targets(), columns::targets(), text::targets()].concat()
}

/// Small files that programs of others made, from `seeds/FOLDER`: see `seeds/make.py`.
fn stored(folder: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}
