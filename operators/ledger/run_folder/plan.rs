//! The plan that lies in a folder: written, read, compared with a command's.

use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::difference::differences;
use super::json::{check_schema, write_json};
use super::{Access, OpenOptions};
use crate::LedgerError;
use crate::manifest::SCHEMA_VERSION;
use crate::storage::Storage;

/// Name of the plan in a run folder.
pub(crate) const PLAN_FILE: &str = "plan.json";

/// A stored plan. Long ones are never held as JSON values.
pub(crate) fn read_plan<P: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<P, LedgerError> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(default)]
        schema: u64,
    }
    #[derive(Deserialize)]
    struct Stored<P> {
        plan: P,
    }
    let malformed = |error| LedgerError::json(path, "not a plan")(error);
    let version: Version = serde_json::from_slice(bytes).map_err(malformed)?;
    check_schema(path, version.schema)?;
    serde_json::from_slice(bytes).map_err(malformed).map(|stored: Stored<P>| stored.plan)
}

/// Ordinals and names of a plan's shards; none of a plan of another form.
pub(crate) fn planned_names(path: &Path, bytes: &[u8]) -> Result<Vec<(u64, String)>, LedgerError> {
    let plan: Value = read_plan(path, bytes)?;
    let named = |shard: &Value| Some((shard.get("ordinal")?.as_u64()?, shard.get("name")?.as_str()?.to_owned()));
    Ok(plan.get("shards").and_then(Value::as_array).into_iter().flatten().filter_map(named).collect())
}

pub(super) fn write_plan<P: Serialize>(root: &Path, disk: &dyn Storage, plan: &P) -> Result<(), LedgerError> {
    #[derive(Serialize)]
    struct Stored<'a, P> {
        schema: u32,
        plan: &'a P,
    }
    write_json(disk, &root.join(PLAN_FILE), &Stored { schema: SCHEMA_VERSION, plan })
}

pub(super) fn check_plan<P: Serialize + DeserializeOwned + PartialEq>(
    root: &Path,
    disk: &dyn Storage,
    options: &OpenOptions<'_, P>,
) -> Result<(), LedgerError> {
    let path = root.join(PLAN_FILE);
    let write = || write_plan(root, disk, options.plan);
    let bytes = match disk.read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return write(),
        Err(e) => return Err(LedgerError::at("read", &path)(e)),
    };
    let known: P = read_plan(&path, &bytes)?;
    if known == *options.plan {
        Ok(())
    } else if options.access == Access::Exclusive && (options.extends)(&known, options.plan) {
        write()
    } else {
        let value = |plan| serde_json::to_value(plan).unwrap_or_default();
        let differences = differences(&value(&known), &value(options.plan));
        Err(LedgerError::PlanDiffers { path: root.into(), differences })
    }
}
