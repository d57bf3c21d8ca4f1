//! The fields of an open_clip configuration: an allow-list of those of open_clip 3.3 with the values that are understood.
//!
//! Whatever is not listed here is refused by its name, as open_clip's dataclasses refuse it: a field that changes no
//! tensor's shape (a pooling, an activation) would otherwise give other features in silence. A field of open_clip's that is
//! not supported may stand there with open_clip's own default, which changes nothing.

use serde_json::{Map, Value, json};

use super::error::ModelError;
use super::preprocess::{Preprocess, Resize};

pub(super) fn object(model: &str, top: &mut Map<String, Value>, field: &str) -> Result<Map<String, Value>, ModelError> {
    match top.remove(field) {
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(ModelError::config(model, format!("{field} is not an object"))),
        None => Err(ModelError::config(model, format!("{field} is missing: not an open_clip configuration"))),
    }
}

pub(super) fn preprocess_of(
    model: &str,
    map: Option<Map<String, Value>>,
    image_size: i64,
    base: &Preprocess,
) -> Result<Preprocess, ModelError> {
    let mut f = Fields { model, place: "preprocess_cfg.", map: map.unwrap_or_default() };
    f.neutral(&[("mode", json!("RGB")), ("interpolation", json!("bicubic")), ("fill_color", json!(0))])?;
    let size = f.side("size", image_size)?;
    let std = f.triple("std", base.std)?;
    if std.iter().any(|&s| s <= 0.0) {
        return Err(f.wrong("std", "must be above zero".into()));
    }
    let config = Preprocess {
        size: u32::try_from(size).map_err(|_| f.wrong("size", format!("{size} is not a side")))?,
        mode: f.one_of_or("resize_mode", base.mode, &[("shortest", Resize::Shortest), ("squash", Resize::Squash)])?,
        mean: f.triple("mean", base.mean)?,
        std,
    };
    f.finish()?;
    Ok(config)
}

/// One object of the file, with its place for error messages. A field that was looked at is gone from it.
pub(super) struct Fields<'a> {
    pub model: &'a str,
    pub place: &'static str,
    pub map: Map<String, Value>,
}

impl Fields<'_> {
    pub(super) fn wrong(&self, field: &str, problem: String) -> ModelError {
        ModelError::config(self.model, format!("{}{}: {problem}", self.place, field.escape_debug()))
    }

    /// Refuses what nobody looked at.
    pub(super) fn finish(&self) -> Result<(), ModelError> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(field) => {
                Err(self.wrong(field, "is not a field that open_clip 3.3 has and this program understands".into()))
            }
        }
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        self.map.remove(field).filter(|value| !value.is_null())
    }

    /// Refuses fields that are there with another value than the neutral one.
    pub(super) fn neutral(&mut self, fields: &[(&str, Value)]) -> Result<(), ModelError> {
        for (field, neutral) in fields {
            match self.take(field) {
                None => {}
                Some(value) if value == *neutral || (value.is_number() && value.as_f64() == neutral.as_f64()) => {}
                Some(value) => {
                    return Err(self.wrong(field, format!("{value} changes the arithmetic and is not supported")));
                }
            }
        }
        Ok(())
    }

    /// What every tower of open_clip's own has: no custom block, the activation as it is, and whether tokens come out as well,
    /// which changes no feature.
    pub(super) fn block(&mut self) -> Result<(), ModelError> {
        self.bool("output_tokens", false)?;
        self.neutral(&[
            ("act_kwargs", Value::Null),
            ("block_type", json!("default")),
            ("qk_norm", json!(false)),
            ("scaled_cosine_attn", json!(false)),
            ("scale_heads", json!(false)),
            ("scale_attn_inner", json!(false)),
            ("scale_attn", json!(false)),
            ("scale_fc", json!(false)),
        ])
    }

    pub(super) fn int(&mut self, field: &str, default: Option<i64>) -> Result<i64, ModelError> {
        match (self.map.remove(field), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.wrong(field, "is missing".into())),
            (Some(value), _) => {
                value.as_i64().ok_or_else(|| self.wrong(field, format!("{value} is not a whole number")))
            }
        }
    }

    /// A number, or a list of two equal ones.
    pub(super) fn side(&mut self, field: &str, default: i64) -> Result<i64, ModelError> {
        match self.map.get(field) {
            Some(Value::Array(sides)) => match sides.as_slice() {
                [a, b] if a == b => {
                    let side = a.clone();
                    self.map.insert(field.into(), side);
                    self.int(field, Some(default))
                }
                _ => Err(self.wrong(field, "only squares are supported".into())),
            },
            _ => self.int(field, Some(default)),
        }
    }

    pub(super) fn bool(&mut self, field: &str, default: bool) -> Result<bool, ModelError> {
        match self.take(field) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(field, format!("{value} is not true or false"))),
        }
    }

    pub(super) fn float(&mut self, field: &str, default: f64) -> Result<f64, ModelError> {
        match self.take(field) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(field, format!("{value} is not a number"))),
        }
    }

    /// A number, where there is one.
    pub(super) fn optional_float(&mut self, field: &str) -> Result<Option<f64>, ModelError> {
        if self.map.get(field).is_none_or(Value::is_null) {
            self.map.remove(field);
            return Ok(None);
        }
        self.float(field, 0.0).map(Some)
    }

    /// A word, where there is one.
    pub(super) fn word(&mut self, field: &str) -> Result<Option<String>, ModelError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(word)) => Ok(Some(word)),
            Some(value) => Err(self.wrong(field, format!("{value} is not a word"))),
        }
    }

    /// One of these words; the first where there is none.
    pub(super) fn one_of<T: Copy>(&mut self, field: &str, known: &[(&str, T)]) -> Result<T, ModelError> {
        self.one_of_or(field, known[0].1, known)
    }

    /// The same with another default.
    fn one_of_or<T: Copy>(&mut self, field: &str, default: T, known: &[(&str, T)]) -> Result<T, ModelError> {
        let Some(value) = self.take(field) else { return Ok(default) };
        let found = known.iter().find(|(word, _)| value == *word);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words = known.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            self.wrong(field, format!("{value} is not supported ({words} are)"))
        })
    }

    fn triple(&mut self, field: &str, default: [f64; 3]) -> Result<[f64; 3], ModelError> {
        match self.take(field) {
            None => Ok(default),
            Some(value) => {
                let numbers: Option<Vec<f64>> = value.as_array().and_then(|a| a.iter().map(Value::as_f64).collect());
                numbers
                    .and_then(|n| <[f64; 3]>::try_from(n).ok())
                    .ok_or_else(|| self.wrong(field, format!("{value} is not a list of three numbers")))
            }
        }
    }

    pub(super) fn norm_eps(&mut self) -> Result<f64, ModelError> {
        match self.take("norm_kwargs") {
            None => Ok(1e-5),
            Some(Value::Object(map)) => {
                if let Some(other) = map.keys().find(|k| *k != "eps") {
                    return Err(self.wrong("norm_kwargs", format!("{other} is not supported")));
                }
                Fields { model: self.model, place: "norm_kwargs.", map }.float("eps", 1e-5)
            }
            Some(value) => Err(self.wrong("norm_kwargs", format!("{value} is not an object"))),
        }
    }
}
