//! `NAME=SHARDS`, and `${X}` in it.

use trommel_core::names::is_name;

use super::error::PlanError;
use super::look::Look;
use super::wildcards::{Wildcards, first_wildcard};
use crate::braces;
use crate::store::Store;

/// The name and the shards of `NAME=SHARDS`; no name where the whole is a path, or a pattern in a folder, that is there.
#[must_use]
pub fn named<'a>(argument: &'a str, store: &dyn Store, max_names: usize) -> (Option<&'a str>, &'a str) {
    match argument.split_once('=') {
        Some((name, list)) if is_name(name) && !is_there(argument, store, max_names) => (Some(name), list),
        _ => (None, argument),
    }
}

/// Whether the part of a path that holds its first `=` exists: `lang=en` of `lang=en/*.tar`, of one of its braces' names at least.
fn is_there(argument: &str, store: &dyn Store, max_names: usize) -> bool {
    let (look, first) = (Look::at(store), argument.split("::").next().unwrap_or(argument));
    let part = |name: &str| {
        let equals = name.find('=').unwrap_or(0);
        name[..name[equals..].find('/').map_or(name.len(), |slash| equals + slash)].to_owned()
    };
    let finds = |part: &str| Wildcards::parse(part)?.find(&look).map(|met| !met.entries.is_empty());
    let exists = |part: &String| {
        look.look(part).is_ok() || first_wildcard(part).is_some() && finds(part).is_ok_and(|found| found)
    };
    let mut parts: Vec<String> =
        braces::expand(first, max_names).unwrap_or_default().iter().map(|name| part(name)).collect();
    parts.dedup(); // of a long range usually one is left
    look.look(argument).is_ok() || parts.iter().any(exists)
}

/// `${X}` by the value of the store's variable `WDS_X`; values may hold more of them, ten deep.
///
/// # Errors
/// A variable that the store does not know.
pub fn substitute(item: &str, store: &dyn Store) -> Result<String, PlanError> {
    let mut text = item.to_string();
    for _ in 0..10 {
        let (mut out, mut rest, mut found) = (String::new(), text.as_str(), false);
        while let Some(at) = rest.find("${") {
            let after = &rest[at + 2..];
            let end = after.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(after.len());
            if end == 0 || !after[end..].starts_with('}') {
                out.push_str(&rest[..at + 2]);
                rest = after;
                continue;
            }
            let variable = &after[..end];
            let value = store.variable(&format!("WDS_{variable}"));
            let missing = || PlanError::Variable { argument: item.into(), variable: variable.into() };
            out.push_str(&rest[..at]);
            out.push_str(&value.ok_or_else(missing)?);
            rest = &after[end + 1..];
            found = true;
        }
        out.push_str(rest);
        if !found || out.len() > 1 << 20 {
            return Ok(out);
        }
        text = out;
    }
    Ok(text)
}
