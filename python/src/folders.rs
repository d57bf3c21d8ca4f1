//! Shards that are named, and run folders.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use pyo3::exceptions::{PyFileNotFoundError, PyOSError, PyValueError};
use pyo3::prelude::*;
use trommel_cli::environment;
use trommel_core::causes::Causes;
use trommel_ledger::LedgerError;
use trommel_ledger::manifest::PartKind;
use trommel_ledger::read::Ledger;
use trommel_pipelines::past_run::{not_of_shards, plan_of};
use trommel_pipelines::stray_files::beside;
use trommel_shard::plan::{Plan, PlanError, PlanOptions, expand};
use trommel_shard::samples::GroupConfig;
use trommel_shard::store::StoreError;

use crate::{Notice, STORES, listed};

/// A shard as Python keeps it: its ordinal, its stable name, as it is opened, and its size where that is known.
type Named = (u64, String, String, Option<u64>);

fn named(plan: Plan) -> Vec<Named> {
    plan.shards.into_iter().map(|shard| (shard.ordinal, shard.name, shard.url, shard.bytes)).collect()
}

/// The shards that arguments stand for, and what is lost of them by now, or passed over beside them.
#[pyfunction]
pub fn plan(py: Python<'_>, shards: Vec<String>) -> PyResult<(Vec<Named>, Vec<Notice>)> {
    let stores = STORES.clone().with_variables(environment::of_urls());
    let (plan, found) = py.detach(|| {
        let plan = expand(&shards, &stores, &PlanOptions::default()).map_err(of_plan)?;
        let beside = beside(&shards, &stores, &GroupConfig::default());
        let mut found = beside.map_err(|error| PyValueError::new_err(error.line()))?;
        found.merge(&plan.losses());
        Ok::<_, PyErr>((plan, found))
    })?;
    Ok((named(plan), listed(&found)))
}

/// The shards of a run, and what was lost of them when it planned.
///
/// Raises `ValueError` for a run that was made from something else.
#[pyfunction]
pub fn plan_of_run(py: Python<'_>, run: PathBuf) -> PyResult<(Vec<Named>, Vec<Notice>)> {
    let plan = py.detach(|| plan_of(&Ledger::open(&run)?)).map_err(|error| of_ledger(&run, error))?;
    if let Some(why) = not_of_shards(&plan) {
        return Err(PyValueError::new_err(format!("{}: {why}", run.display())));
    }
    let lost = listed(&plan.losses());
    Ok((named(plan), lost))
}

/// The files of a run's ledger, one a committed shard, in the plan's order; and how many shards of the plan have none.
#[pyfunction]
pub fn ledger(py: Python<'_>, run: PathBuf) -> PyResult<(Vec<OsString>, usize)> {
    py.detach(|| {
        let ledger = Ledger::open(&run)?;
        let planned = ledger.plan::<Plan>()?.len();
        let files: Vec<OsString> = ledger.files(PartKind::Ledger)?.into_iter().map(Into::into).collect();
        let missing = planned.saturating_sub(files.len());
        Ok((files, missing))
    })
    .map_err(|error| of_ledger(&run, error))
}

fn of_plan(error: PlanError) -> PyErr {
    let text = Causes(&error).to_string();
    match &error {
        PlanError::NoMatch(_) | PlanError::NoShards(_) => PyFileNotFoundError::new_err(text),
        PlanError::Store(cause) if cause.is_nothing() => PyFileNotFoundError::new_err(text),
        PlanError::Store(StoreError::Io { .. }) => PyOSError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}

fn of_ledger(run: &Path, error: LedgerError) -> PyErr {
    let text = match &error {
        LedgerError::NoRun { .. } => error.to_string(),
        damaged => format!("{} cannot be read as a run folder: {}", run.display(), Causes(damaged)),
    };
    match error {
        LedgerError::NoRun { .. } => PyFileNotFoundError::new_err(text),
        LedgerError::Storage { .. } => PyOSError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}
