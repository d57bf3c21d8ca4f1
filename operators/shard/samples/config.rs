//! How members become samples, and how long what they hold may be.

use serde::{Deserialize, Serialize};

use crate::metadata::Metadata;
use crate::names::IMAGE_KEYS;
use trommel_core::sample::Reason;

/// What a second member with the same key and extension means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepeatedMember {
    /// A new sample begins.
    #[default]
    NewSample,
    /// The whole group is one reject.
    Reject,
}

/// How members become samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupConfig {
    /// Extensions of pictures, the preferred first, lower case.
    pub image_keys: Vec<String>,
    /// Extensions of captions, the preferred first, lower case.
    pub text_keys: Vec<String>,
    /// What a repeated extension means.
    pub repeated: RepeatedMember,
    /// Largest picture in bytes as stored; larger ones are rejects.
    pub max_image_bytes: u64,
    /// Largest caption member in bytes; larger ones are rejects.
    pub max_text_bytes: u64,
    /// Largest json member in bytes; larger ones are rejects.
    pub max_json_bytes: u64,
    /// Longest `uid`, `url`, `sha256` in bytes; a sample with a longer one is a reject. The json's `caption` may be as long
    /// as a caption member.
    pub max_field_bytes: usize,
    /// Most members a sample may have; more make it a reject.
    pub max_members: usize,
    /// Most bytes that the extensions of a sample's members may have together; more make it a reject.
    pub max_extension_bytes: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            image_keys: keys(IMAGE_KEYS),
            text_keys: keys("txt"),
            repeated: RepeatedMember::default(),
            max_image_bytes: 256 << 20,
            max_text_bytes: 1 << 20,
            max_json_bytes: 4 << 20,
            max_field_bytes: 64 << 10,
            max_members: 256,
            max_extension_bytes: 64 << 10,
        }
    }
}

/// A list of extensions as `--image-key` takes it: `jpg;png`.
#[must_use]
pub fn keys(list: &str) -> Vec<String> {
    list.split(';').map(|key| key.trim().trim_start_matches('.').to_lowercase()).filter(|key| !key.is_empty()).collect()
}

/// Lets go of what is longer than it may be, and says so.
pub(crate) fn too_long(metadata: &mut Metadata, config: &GroupConfig) -> Option<Reason> {
    let max_text = usize::try_from(config.max_text_bytes).unwrap_or(usize::MAX);
    let Metadata { uid, url, sha256, caption } = metadata;
    let fields = [("uid", uid), ("url", url), ("sha256", sha256)].map(|(name, it)| (name, it, config.max_field_bytes));
    let mut first = None;
    for (name, field, most) in fields.into_iter().chain([("caption", caption, max_text)]) {
        if let Some(text) = field.take_if(|text| text.len() > most) {
            let detail = format!("{name} has {} bytes, more than {most}", text.len());
            first.get_or_insert_with(|| Reason::new("long_metadata", detail));
        }
    }
    first
}
