//! The workspace's own source, for tests that look who names what. Rooms take this file in by its path.

use std::fs;
use std::path::{Path, PathBuf};

/// Places of the workspace that hold source, but for tests.
const SOURCE: [&str; 6] = ["src", "operators", "pipelines", "python", "benches", "xtask"];

/// Its files below `root`, the workspace's folder.
pub(crate) fn sources(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    SOURCE.iter().for_each(|folder| walk(&root.join(folder), &mut files));
    assert!(files.len() > 200, "{} files", files.len());
    files
}

/// Source files below a folder.
pub(crate) fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "tests" && name != "target" {
                walk(&path, found);
            }
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
}
