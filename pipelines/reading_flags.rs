//! How samples were read, as flags: a command that goes on from a run, or from a split of it, must read the same samples.

use std::collections::BTreeMap;

use serde_json::Value;
use trommel_core::text::shell_word;

use crate::config::ReadingConfig;

/// The flags by which samples are read as the part of a stored [`DecisionConfig`](crate::decision::DecisionConfig) says that is about reading, without those whose defaults say it.
#[must_use]
pub fn reading_flags(reading: &BTreeMap<String, Value>) -> Vec<String> {
    reading.iter().filter_map(|(name, value)| reading_flag(name, value)).collect()
}

/// The flag that gives a setting of reading this value; `None` where it is the default's.
pub(crate) fn reading_flag(name: &str, value: &Value) -> Option<String> {
    let default = ReadingConfig::default();
    let unless =
        |default: String, flag: &str, text: String| (text != default).then(|| format!("{flag} {}", shell_word(&text)));
    match (name, value) {
        ("image_keys", Value::Array(keys)) => {
            let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
            unless(default.image_key, "--image-key", keys.join(";"))
        }
        ("text_key", Value::String(key)) => unless(default.text_key, "--text-key", key.clone()),
        ("max_pixels", Value::Number(most)) => unless(default.max_pixels.to_string(), "--max-pixels", most.to_string()),
        ("load_truncated", Value::Bool(true)) => Some("--load-truncated".into()),
        ("repeated_members", Value::String(way)) if way == "reject" => Some("--strict".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_of_reading_are_given_by_flags_where_defaults_do_not_say_them() {
        let flags = |reading: Value| reading_flags(&serde_json::from_value(reading).unwrap_or_default());
        let default = ReadingConfig::default();
        let keys: Vec<&str> = default.image_key.split(';').collect();
        let usual = json!({
            "image_keys": keys, "text_key": "txt", "max_pixels": default.max_pixels, "load_truncated": false,
            "repeated_members": "new-sample",
        });
        assert_eq!(flags(usual), Vec::<String>::new());
        let other = json!({
            "image_keys": ["jpg", "png"], "text_key": "cap", "max_pixels": 9, "load_truncated": true, "repeated_members": "reject",
        });
        assert_eq!(
            flags(other),
            ["--image-key 'jpg;png'", "--load-truncated", "--max-pixels 9", "--strict", "--text-key cap"]
        );
    }
}
