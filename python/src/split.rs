//! A split, as Python holds it.

use std::path::PathBuf;
use std::sync::Mutex;

use pyo3::exceptions::{PyFileNotFoundError, PyOSError, PyValueError};
use pyo3::prelude::*;
use trommel_core::causes::Causes;
use trommel_core::wake::locked;
use trommel_ledger::LedgerError;
use trommel_select::SelectError;
use trommel_select::membership::Membership;
use trommel_shard::reader::ReaderConfig;
use trommel_shard::samples::{GroupConfig, RepeatedMember};

/// An opened split: a file of `trommel select`, or a run folder.
#[pyclass(frozen, module = "trommel._trommel")]
pub struct Split {
    pub path: PathBuf,
    pub membership: Mutex<Membership>,
    /// How its run has read the shards: indices are of that reading.
    pub config: ReaderConfig,
}

#[pymethods]
impl Split {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let membership = py.detach(|| Membership::open(&path)).map_err(of_split)?;
        let rejects = membership.reading("repeated_members").is_some_and(|policy| policy == "reject");
        let repeated = if rejects { RepeatedMember::Reject } else { RepeatedMember::NewSample };
        let config =
            ReaderConfig { group: GroupConfig { repeated, ..GroupConfig::default() }, ..ReaderConfig::default() };
        Ok(Self { path, membership: Mutex::new(membership), config })
    }

    /// Samples that are kept of these shards, and shards with kept samples that are not among them: their number, their samples, and the first
    /// one. `None` where only reading can tell.
    ///
    /// Raises `ValueError` for a shard that the run has not judged.
    fn coverage(&self, py: Python<'_>, shards: Vec<String>) -> PyResult<Option<(u64, u64, u64, String)>> {
        py.detach(|| {
            let membership = locked(&self.membership);
            let names: Vec<&str> = shards.iter().map(String::as_str).collect();
            let Some(covered) = membership.coverage(&names, &[])? else { return Ok(None) };
            match covered.unnamed.filter(|_| membership.is_run()) {
                // A split's file does not name shards of which nothing is kept; a run names all that it has judged.
                Some(name) => {
                    Err(SelectError::Unfinished(format!("{}: shard {name} is not judged", self.path.display())))
                }
                None => Ok(Some((covered.kept, covered.absent, covered.absent_samples, covered.first))),
            }
        })
        .map_err(of_split)
    }
}

/// What Python's users expect of an error.
pub fn of_split(error: SelectError) -> PyErr {
    match &error {
        SelectError::Ledger(LedgerError::NoRun { .. }) => PyFileNotFoundError::new_err(error.to_string()),
        SelectError::Io { .. } | SelectError::Ledger(LedgerError::Storage { .. }) => {
            PyOSError::new_err(Causes(&error).to_string())
        }
        _ => PyValueError::new_err(Causes(&error).to_string()),
    }
}
