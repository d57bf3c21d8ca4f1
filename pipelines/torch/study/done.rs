//! What of a study is done: each piece of work keeps its result in a file, with what it depends on. The same command goes on after a kill
//! without doing finished work again.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use trommel_core::durable;
use trommel_ledger::run_folder::{as_read_back, differences};

use trommel_pipelines::error::PipelineError;

/// Version of these files.
const SCHEMA: u64 = 1;

/// The result of `work`, kept in `file`: the work is done once for each `of`, which says all that it depends on.
pub(super) fn once<T: Serialize + DeserializeOwned>(
    file: &Path,
    of: &Value,
    work: impl FnOnce() -> Result<T, PipelineError>,
) -> Result<T, PipelineError> {
    if let Some(result) = kept(file, of)? {
        return Ok(result);
    }
    let result = work()?;
    let text = json!({ "schema": SCHEMA, "of": of, "result": result }).to_string();
    durable::make_folder(durable::parent(file)).map_err(PipelineError::at(file))?;
    durable::write(file, (text + "\n").as_bytes()).map_err(PipelineError::at(file))?;
    // What is read back, to the last bit of every figure, as the next start will.
    Ok(kept(file, of)?.unwrap_or(result))
}

/// What is kept for `of`; nothing where it was another one's.
fn kept<T: DeserializeOwned>(file: &Path, of: &Value) -> Result<Option<T>, PipelineError> {
    let read = durable::if_there(fs::read_to_string(file)).map_err(PipelineError::at(file))?;
    let Some(text) = read else { return Ok(None) };
    let damaged = |error: serde_json::Error| {
        let remedy = "take the file away, and the work is done again";
        PipelineError::usage(error).within(file.display()).with_remedy(remedy)
    };
    let mut value: Value = serde_json::from_str(&text).map_err(damaged)?;
    if value["schema"] != SCHEMA || value["of"] != *of {
        return Ok(None);
    }
    serde_json::from_value(value["result"].take()).map(Some).map_err(damaged)
}

/// The settings that a study's folder was begun with, kept as `name`; those that are given, where it has none.
pub(super) fn begun(run: &Path, name: &str, settings: &Value) -> Result<Value, PipelineError> {
    once(&run.join(name), &json!("settings"), || Ok(settings.clone()))
}

/// Refuses other settings than those that a study's folder was [`begun`] with: nobody mixes two studies in one folder.
pub(super) fn settle(run: &Path, name: &str, settings: &Value, advice: &str) -> Result<(), PipelineError> {
    same(run, &begun(run, name, settings)?, settings, advice)
}

/// Refuses settings that differ from `begun`, those of the folder `run`.
pub(super) fn same(run: &Path, begun: &Value, settings: &Value, advice: &str) -> Result<(), PipelineError> {
    match differences(begun, &as_read_back(settings)).first() {
        None => Ok(()),
        Some(differs) => Err(PipelineError::usage(format!(
            "{} was begun with another {}: {} there, {} here; {advice}",
            run.display(),
            differs.field,
            differs.stored,
            differs.given
        ))),
    }
}
