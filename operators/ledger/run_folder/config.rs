//! What a run was made with: written into a new folder, compared with what an old one has.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::difference::{Difference, differences, show};
use super::json::{check_schema, read_json, schema_of, write_json};
use crate::LedgerError;
use crate::manifest::SCHEMA_VERSION;
use crate::storage::Storage;

/// What the record calls that pictures are to be blurred until somebody clicks on them.
pub const BLUR: &str = "blur";
/// Name of the configuration in a run folder: there is none without it.
pub const CONFIG_FILE: &str = "config.json";

/// What a run was configured with, by what it decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunConfig {
    /// What the decisions depend on: rule and its seed, identity, benchmarks and radii, columns, keys, limits, ... An object.
    pub decisions: Value,
    /// The numeric part: device, precision, batch, libtorch. An object.
    pub numerics: Value,
    /// Anything else worth keeping for people; never compared. Of who resumes a run [`BLUR`] alone is taken over.
    pub record: Value,
}

impl RunConfig {
    /// sha256 of the decisions as JSON with sorted keys, in hex.
    #[must_use]
    pub fn decision_hash(&self) -> String {
        let mut text = String::new();
        canonical(&self.decisions, &mut text);
        format!("{:x}", Sha256::digest(text.as_bytes()))
    }
}

/// JSON with sorted keys and no spaces.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            out.push('{');
            for (at, (key, value)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                canonical(value, out);
            }
            out.push(']');
        }
        simple => out.push_str(&simple.to_string()),
    }
}

/// Whether a run asks for blurring that its folder does not have yet. Whoever resumes a run may ask for it, and nobody takes it back.
fn is_new_blur(stored: &Value, config: &RunConfig) -> bool {
    config.record[BLUR] == true && lacks_blur(stored)
}

fn lacks_blur(stored: &Value) -> bool {
    stored["record"][BLUR] != true && stored["record"].is_object()
}

/// Asks whoever shows a folder's pictures to blur them, where the folder does not say so yet.
///
/// # Errors
/// A configuration that cannot be read or written.
pub fn blur(root: &Path, disk: &dyn Storage) -> Result<(), LedgerError> {
    let path = root.join(CONFIG_FILE);
    match read_json(disk, &path)? {
        Some(mut stored) if lacks_blur(&stored) => {
            stored["record"][BLUR] = Value::Bool(true);
            write_json(disk, &path, &stored)
        }
        _ => Ok(()),
    }
}

/// Whether the folder's configuration is to be written anew.
pub(super) fn adds_blur(root: &Path, disk: &dyn Storage, config: &RunConfig) -> Result<bool, LedgerError> {
    Ok(read_json(disk, &root.join(CONFIG_FILE))?.is_some_and(|stored: Value| is_new_blur(&stored, config)))
}

pub(super) fn check_config(
    root: &Path,
    disk: &dyn Storage,
    config: &RunConfig,
    mix_numerics: bool,
    notes: &mut Vec<String>,
) -> Result<(), LedgerError> {
    let path = root.join(CONFIG_FILE);
    let Some(stored) = read_json(disk, &path)? else {
        let value = json!({
            "schema": SCHEMA_VERSION,
            "decision_hash": config.decision_hash(),
            "decisions": config.decisions,
            "numerics": config.numerics,
            "record": config.record,
        });
        return write_json(disk, &path, &value);
    };
    check_schema(&path, schema_of(&stored))?;
    let field = |name: &str| stored.get(name).cloned().unwrap_or(Value::Null);
    let hash = config.decision_hash();
    if field("decision_hash") != Value::String(hash.clone()) {
        let mut found = differences(&field("decisions"), &config.decisions);
        if found.is_empty() {
            let stored = show(&field("decision_hash"));
            found.push(Difference { field: "decision_hash".into(), stored, given: hash });
        }
        return Err(LedgerError::DecisionsDiffer { path: root.into(), differences: found });
    }
    let kept = field("numerics");
    if is_new_blur(&stored, config) {
        blur(root, disk)?;
    }
    let (older, numerics): (Vec<_>, Vec<_>) =
        differences(&kept, &config.numerics).into_iter().partition(|difference| {
            // What was not written down when the folder was made cannot differ.
            kept.is_object() && kept.get(&difference.field).is_none()
        });
    notes.extend(older.iter().map(|d| format!("{}: the folder is older than this field; now {}", d.field, d.given)));
    if numerics.is_empty() {
        return Ok(());
    }
    if !mix_numerics {
        return Err(LedgerError::NumericsDiffer { path: root.into(), differences: numerics });
    }
    notes.extend(numerics.iter().map(|d| format!("mixed numerics: {d}")));
    Ok(())
}
