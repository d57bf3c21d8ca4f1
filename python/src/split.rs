//! A split, as Python holds it.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyFileNotFoundError, PyOSError, PyValueError};
use pyo3::prelude::*;
use trommel_core::causes::Causes;
use trommel_core::notices::Notices;
use trommel_core::wake::locked;
use trommel_ledger::LedgerError;
use trommel_pipelines::run_losses;
use trommel_select::SelectError;
use trommel_select::membership::Membership;
use trommel_select::met::Met;
use trommel_shard::reader::ReaderConfig;
use trommel_shard::samples::{GroupConfig, RepeatedMember};

use crate::{Notice, listed};

/// Samples kept of the shards that were asked for, and of others; the first of the others, and what is told of them.
type Covered = (u64, u64, String, Vec<Notice>);

/// An opened split: a file of `trommel select`, or a run folder.
#[pyclass(frozen, module = "trommel._trommel")]
pub struct Split {
    pub path: PathBuf,
    pub membership: Mutex<Membership>,
    /// Which names of a list have come, where one process reads all shards.
    pub met: Option<Arc<Mutex<Met>>>,
    /// How its run has read the shards: indices are of that reading.
    pub config: ReaderConfig,
}

#[pymethods]
impl Split {
    #[new]
    #[pyo3(signature = (path, reads_all=false))]
    fn new(py: Python<'_>, path: PathBuf, reads_all: bool) -> PyResult<Self> {
        let membership = py.detach(|| Membership::open(&path)).map_err(of_split)?;
        let rejects = membership.reading("repeated_members").is_some_and(|policy| policy == "reject");
        let repeated = if rejects { RepeatedMember::Reject } else { RepeatedMember::NewSample };
        let config =
            ReaderConfig { group: GroupConfig { repeated, ..GroupConfig::default() }, ..ReaderConfig::default() };
        let met = if reads_all { membership.met() } else { None }.map(|met| Arc::new(Mutex::new(met)));
        Ok(Self { path, membership: Mutex::new(membership), met, config })
    }

    /// Samples that are kept of these shards; those that are kept of others, the first of these, and what is told of them. `None` where only reading
    /// can tell.
    ///
    /// Raises `ValueError` for a shard that the run has not judged.
    fn coverage(&self, py: Python<'_>, shards: Vec<String>) -> PyResult<Option<Covered>> {
        py.detach(|| {
            let membership = locked(&self.membership);
            let names: Vec<&str> = shards.iter().map(String::as_str).collect();
            let Some(covered) = membership.coverage(&names, &[])? else { return Ok(None) };
            match covered.unnamed.as_ref().filter(|_| membership.is_run()) {
                // A split's file does not name shards of which nothing is kept; a run names all that it has judged.
                Some(name) => {
                    Err(SelectError::Unfinished(format!("{}: shard {name} is not judged", self.path.display())))
                }
                None => {
                    let mut notices = Notices::default();
                    covered.note_absent(&mut notices);
                    covered.note_repeated(&mut notices);
                    Ok(Some((covered.kept, covered.absent_samples, covered.first, listed(&notices))))
                }
            }
        })
        .map_err(of_split)
    }

    /// What it cannot keep, since it was lost before: when its run judged, or when it was selected.
    fn lost(&self, py: Python<'_>) -> Vec<Notice> {
        listed(&py.detach(|| run_losses::of_split(&locked(&self.membership))))
    }

    /// Names of a list that no sample had, where it was made to read all shards, and they are read by now: so many samples were given, and so many
    /// of the list's names are other shards'.
    ///
    /// Raises `ValueError` where more were given than the split keeps.
    fn absent(&self, py: Python<'_>, given: u64, of_others: u64) -> PyResult<Vec<Notice>> {
        let mut notices = Notices::default();
        py.detach(|| {
            let unmet = self.met.as_ref().map(|met| locked(met).note(&self.path, &mut notices)).transpose()?;
            locked(&self.membership).refuse_more(given, of_others + unmet.map_or(0, |unmet| unmet.count))
        })
        .map_err(of_split)?;
        Ok(listed(&notices))
    }
}

/// What Python's users expect of an error.
pub fn of_split(error: SelectError) -> PyErr {
    // However a split is read, what is named and not there is one error.
    if is_missing(&error) {
        return PyFileNotFoundError::new_err(Causes(&error).to_string());
    }
    match &error {
        SelectError::Ledger(LedgerError::NoRun { .. }) => PyFileNotFoundError::new_err(error.to_string()),
        SelectError::Io { .. } | SelectError::Ledger(LedgerError::Storage { .. }) => {
            PyOSError::new_err(Causes(&error).to_string())
        }
        _ => PyValueError::new_err(Causes(&error).to_string()),
    }
}

/// Whether an error comes from a file that is not there.
fn is_missing(error: &(dyn Error + 'static)) -> bool {
    let here = error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
    here || error.source().is_some_and(is_missing)
}
