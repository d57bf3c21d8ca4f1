//! In which fields two JSON values differ.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

/// One field in which a folder and a command differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Path of the field: `rule`, `benchmarks[0].radii`.
    pub field: String,
    /// Its value in the folder.
    pub stored: String,
    /// The value of this start.
    pub given: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the folder has {}, now {}", self.field, self.stored, self.given)
    }
}

/// The first differences of two values, at most eight.
#[must_use]
pub fn differences(stored: &Value, given: &Value) -> Vec<Difference> {
    let mut out = Vec::new();
    differ("", stored, given, &mut out);
    out
}

/// A value as it is read from the file that it is written to, where numbers of f32 are others than in memory.
#[must_use]
pub fn as_read_back(value: &Value) -> Value {
    serde_json::from_str(&value.to_string()).unwrap_or_default()
}

fn differ(at: &str, stored: &Value, given: &Value, out: &mut Vec<Difference>) {
    if stored == given || out.len() >= 8 {
        return;
    }
    match (stored, given) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                let null = &Value::Null;
                differ(&place, a.get(key).unwrap_or(null), b.get(key).unwrap_or(null), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differ(&format!("{at}[{n}]"), a, b, out);
            }
        }
        (Value::Array(a), Value::Array(b)) => out.push(Difference {
            field: at.into(),
            stored: format!("{} entries", a.len()),
            given: format!("{} entries", b.len()),
        }),
        _ => out.push(Difference { field: at.into(), stored: show(stored), given: show(given) }),
    }
}

pub(super) fn show(value: &Value) -> String {
    let text = match value {
        Value::Null => "none".into(),
        Value::String(text) => format!("`{text}`"),
        other => other.to_string(),
    };
    if text.chars().count() > 120 { text.chars().take(117).chain("...".chars()).collect() } else { text }
}
