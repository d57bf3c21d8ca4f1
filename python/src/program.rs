//! The `trommel` command of the Python package: the program's own command line, run in Python's process.

use std::ffi::OsString;
use std::path::PathBuf;

use pyo3::prelude::*;
use trommel_cli::library::{FILE, LibraryError};

/// Runs a command line, the program's name first, and gives the exit status. What runs a model is looked for in `folder`.
#[pyfunction]
pub fn main(py: Python<'_>, words: Vec<OsString>, folder: PathBuf) -> u8 {
    let find = || {
        let path = folder.join(FILE);
        let missing = || {
            LibraryError::Missing(format!(
                "the Python package comes without libtorch. Build the library that brings it in Trommel's sources (`cargo xtask setup`, \
                 `cargo build --release`) and copy target/release/deps/{FILE} into {}",
                folder.display()
            ))
        };
        if path.is_file() { Ok(path) } else { Err(missing()) }
    };
    py.detach(|| trommel_cli::run(words, find))
}
