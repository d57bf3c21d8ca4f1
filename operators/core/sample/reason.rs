//! Why a sample was rejected, or what is remarked on a kept one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest [`Reason::detail`].
const MAX_DETAIL_BYTES: usize = 512;

/// Why a sample was rejected, or a remark on a kept one: a stable code and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// Stable, countable, `snake_case`: `image_decode`, `no_image`, `too_many_pixels`, `no_caption`, ...
    pub code: String,
    /// What exactly was seen; may be empty.
    pub detail: String,
}

impl Reason {
    /// A reason from its code and detail, which an input may make long: what is above 512 bytes is cut.
    #[must_use]
    pub fn new(code: &str, detail: impl fmt::Display) -> Self {
        let mut detail = detail.to_string();
        if detail.len() > MAX_DETAIL_BYTES {
            detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES - '…'.len_utf8()));
            detail.push('…');
            detail.shrink_to_fit();
        }
        Self { code: code.into(), detail }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() { f.write_str(&self.code) } else { write!(f, "{}: {}", self.code, self.detail) }
    }
}

/// Reason of a dropped sample that a takedown list names: no split may bring it back.
pub const TAKEN_DOWN: &str = "taken_down";
/// Remark on a sample without a caption: it is judged like others, and not trained on.
pub const NO_CAPTION: &str = "no_caption";
