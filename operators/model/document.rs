//! A file of configuration as open_clip has it: JSON of a model, or `open_clip_config.json` of the Hugging Face hub
//! (`model_cfg` + `preprocess_cfg`).

use std::path::Path;

use serde_json::{Map, Value};

use super::error::ModelError;
use super::fields::Fields;

/// Largest configuration file that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What stands in it, not yet looked at by a family.
#[derive(Debug)]
pub(crate) struct Document {
    /// The stem of the file.
    pub(crate) name: String,
    /// The model's fields.
    pub(crate) top: Map<String, Value>,
    /// How pictures become its input.
    pub(crate) preprocess: Option<Map<String, Value>>,
}

impl Document {
    /// Reads a file; `known` names what is known without one.
    pub(crate) fn open(name_or_path: &str, known: impl FnOnce() -> String) -> Result<Self, ModelError> {
        let path = Path::new(name_or_path);
        let wrong = |problem: String| ModelError::config(name_or_path, problem);
        let looks_like_path = name_or_path.contains('/') || path.extension().is_some_and(|e| e == "json");
        if !path.is_file() {
            let problem = if looks_like_path { "no such file" } else { "not a known architecture" };
            return Err(wrong(format!("{problem}; known: {}", known())));
        }
        let size = std::fs::metadata(path).map_err(|error| ModelError::file(path, error))?.len();
        if size > MAX_CONFIG_BYTES {
            return Err(wrong(format!("{size} bytes are too many for a configuration")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| ModelError::file(path, error))?;
        let name = path.file_stem().map_or_else(|| name_or_path.into(), |stem| stem.to_string_lossy().into_owned());
        Self::parse(&name, &text)
    }

    /// Takes a text apart.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, ModelError> {
        let value: Value =
            serde_json::from_str(text).map_err(|source| ModelError::Json { model: name.into(), source })?;
        let Value::Object(mut top) = value else {
            return Err(ModelError::config(name, "not a JSON object"));
        };
        let preprocess = match top.remove("preprocess_cfg") {
            Some(Value::Object(map)) => Some(map),
            None | Some(Value::Null) => None,
            Some(_) => return Err(ModelError::config(name, "preprocess_cfg is not an object")),
        };
        match top.remove("model_cfg") {
            None => {}
            Some(Value::Object(inner)) => {
                // What stands beside it in a file of the hub is no part of open_clip's format.
                Fields { model: name, place: "", map: top }.finish()?;
                top = inner;
            }
            Some(_) => return Err(ModelError::config(name, "model_cfg is not an object")),
        }
        Ok(Self { name: name.into(), top, preprocess })
    }
}
