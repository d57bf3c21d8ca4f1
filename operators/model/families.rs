//! The list of families, and whose a name or a file is.

use std::sync::Arc;

use super::document::Document;
use super::error::ModelError;
use super::family::{Architecture, Family};
use super::{clip, siglip};

/// All of them. The last one has every file that no other has.
static FAMILIES: [Family; 2] = [siglip::FAMILY, clip::FAMILY];

/// A model by its built-in name, or by the path of an open_clip JSON file.
///
/// # Errors
/// Unknown name, unreadable file, wrong or unsupported field.
pub fn load(name_or_path: &str) -> Result<Arc<dyn Architecture>, ModelError> {
    if let Some(known) = FAMILIES.iter().find_map(|family| (family.builtin)(name_or_path)) {
        return Ok(known);
    }
    let document = Document::open(name_or_path, || {
        let known: Vec<String> = FAMILIES.iter().rev().map(|family| (family.known)()).collect();
        known.join("; ")
    })?;
    match FAMILIES.iter().find(|family| (family.claims)(&document)) {
        Some(family) => (family.read)(document),
        None => Err(ModelError::config(name_or_path, "no family of models has such a configuration")),
    }
}
