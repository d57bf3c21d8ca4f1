//! One writer at a time of each split: of two who write the same one, the head would be one's, and some of the files the other's.

use std::path::{Path, PathBuf};

use trommel_core::durable;
use trommel_core::out_folder::OutFolder;
use trommel_select::split::head_path;

use crate::error::PipelineError;

/// Takes the locks of the splits that these files are of; they are held as long as the value is. Other splits may be written into the same folder.
///
/// # Errors
/// A folder that cannot be made, or a split that somebody else is writing.
pub(crate) fn alone<'f>(files: impl IntoIterator<Item = &'f PathBuf>) -> Result<Vec<OutFolder>, PipelineError> {
    let mut heads: Vec<PathBuf> = files.into_iter().map(|file| head_path(file)).collect();
    heads.sort_unstable();
    heads.dedup();
    heads.iter().map(|head| lock(head)).collect()
}

fn lock(head: &Path) -> Result<OutFolder, PipelineError> {
    let name = format!(".{}.lock", head.file_name().unwrap_or_default().to_string_lossy());
    let locked = OutFolder::locked(durable::parent(head), &name).map_err(PipelineError::at(head))?;
    locked.ok_or_else(|| PipelineError::failed(format!("{}: another `trommel` is writing this split", head.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_split_has_one_writer_and_a_folder_many() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str| place.path().join("new").join(name);
        let [table, list, other] = ["a.parquet", "a.txt", "b.parquet"].map(file);
        let first = alone([&table, &list]).unwrap();
        let said = alone([&other, &list]).unwrap_err().to_string();
        assert!(said.ends_with("a.split.json: another `trommel` is writing this split"), "{said}");
        drop(alone([&other]).unwrap());
        drop(first);
        drop(alone([&list, &other]).unwrap());
        let left = std::fs::read_dir(place.path()).unwrap().count();
        assert!(left <= 1 && !place.path().join("new/.a.split.json.lock").exists());
    }
}
