//! What `trommel embed` writes beside its ledger for other programs: one `embeddings.arrow`, or clip-retrieval's `img_emb/` and `metadata/`.
//!
//! An export is made when all shards are there. A run that is given more shards afterwards has embedded more than it says, until it is made
//! again: nobody may take the one for the other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use trommel_columnar::pieces::{FILE_NAME, Piece};
use trommel_columnar::source::EmbeddingReader;
use trommel_core::durable::if_there;
use trommel_ledger::read::Ledger;

use crate::error::PipelineError;

/// Refuses an export that is not of all that its run has embedded.
///
/// # Errors
/// Such an export, or one that cannot be read.
pub(crate) fn refuse_stale(path: &Path, files: &[Piece], ledger: &Ledger) -> Result<(), PipelineError> {
    let (rows, due) = (rows(files)?, embedded(ledger));
    if rows == due {
        return Ok(());
    }
    Err(PipelineError::usage(format!(
        "{}: an export of {rows} embeddings, and its run has {due}; the same `trommel embed` writes it anew",
        path.display()
    )))
}

/// Removes the exports in the run's folder that are not of all that the run has embedded. Who is about to write clip-retrieval's files gives their
/// names as `kept`: all others of their kind go, whatever they hold, for a longer list of shards is numbered with more digits.
///
/// # Errors
/// A folder that cannot be read, a file that cannot be removed.
pub fn remove_stale(ledger: &Ledger, kept: &BTreeSet<PathBuf>) -> Result<(), PipelineError> {
    let run = ledger.root();
    let is_stale = |files: &[Piece]| rows(files).map_or(true, |rows| rows != embedded(ledger));
    let mut gone = Vec::new();
    let one = run.join(FILE_NAME);
    if one.is_file() && is_stale(&[Piece::Ipc(one.clone())]) {
        gone.push(one);
    }
    let vectors = numbered(&run.join("img_emb"), "img_emb_", ".npy")?;
    let tables = numbered(&run.join("metadata"), "metadata_", ".parquet")?;
    let of_vectors = |vectors: &PathBuf| Piece::Npy { vectors: vectors.clone(), keys: None };
    if !kept.is_empty() || is_stale(&vectors.iter().map(of_vectors).collect::<Vec<_>>()) {
        gone.extend(vectors.into_iter().chain(tables).filter(|path| !kept.contains(path)));
    }
    for path in gone {
        if_there(std::fs::remove_file(&path)).map_err(PipelineError::at(&path))?;
    }
    Ok(())
}

/// Rows of what a run has embedded.
fn embedded(ledger: &Ledger) -> u64 {
    ledger.shards().values().map(|(_, line)| line.counts.kept + line.counts.dropped).sum()
}

/// Rows of files of embeddings.
fn rows(files: &[Piece]) -> Result<u64, PipelineError> {
    let mut rows = 0;
    for piece in files {
        rows += match EmbeddingReader::head(piece).map_err(PipelineError::usage)?.rows {
            Some(rows) => rows,
            None => {
                let batches = EmbeddingReader::of(piece).map_err(PipelineError::usage)?;
                let counts = batches.map(|batch| batch.map(|batch| batch.keys.len() as u64));
                counts.sum::<Result<u64, _>>().map_err(PipelineError::usage)?
            }
        };
    }
    Ok(rows)
}

/// Files of a folder that are called by a number.
fn numbered(folder: &Path, begins: &str, ends: &str) -> Result<Vec<PathBuf>, PipelineError> {
    let Some(entries) = if_there(std::fs::read_dir(folder)).map_err(PipelineError::at(folder))? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(PipelineError::at(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix(begins).and_then(|name| name.strip_suffix(ends));
        if number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())) {
            found.push(path);
        }
    }
    Ok(found)
}
