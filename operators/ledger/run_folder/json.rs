//! A folder's files of JSON, each with the version of its schema.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::LedgerError;
use crate::manifest::SCHEMA_VERSION;
use crate::storage::{Storage, write_whole};

pub(super) fn read_json(disk: &dyn Storage, path: &Path) -> Result<Option<Value>, LedgerError> {
    match disk.read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(LedgerError::json(path, "no readable JSON")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(LedgerError::at("read", path)(e)),
    }
}

pub(super) fn write_json(disk: &dyn Storage, path: &Path, value: &impl Serialize) -> Result<(), LedgerError> {
    let bytes = serde_json::to_vec_pretty(value).map_err(LedgerError::json(path, "no JSON"))?;
    write_whole(disk, path, &bytes).map_err(LedgerError::at("write", path))
}

/// The schema version that a file of JSON gives.
pub(crate) fn schema_of(value: &Value) -> u64 {
    value.get("schema").and_then(Value::as_u64).unwrap_or(0)
}

/// Refuses what a newer program has written.
pub(crate) fn check_schema(path: &Path, found: u64) -> Result<(), LedgerError> {
    if found > u64::from(SCHEMA_VERSION) {
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        return Err(LedgerError::NewerSchema { path: path.into(), found, known: SCHEMA_VERSION });
    }
    Ok(())
}
