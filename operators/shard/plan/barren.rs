//! Where no shard is found. Who plans a run is refused there; who looks again and again may look before anything has come, or after all is
//! gone.

use std::fmt;

use super::look::with_slash;
use super::wildcards::Wildcards;
use crate::store::shown;

/// A folder or a wildcard by which no shard is found.
#[derive(Clone, Debug)]
pub struct Barren {
    name: String,
    wildcards: Option<Wildcards>,
}

impl Barren {
    /// A folder without shards.
    pub(super) fn folder(name: &str) -> Self {
        Self { name: name.into(), wildcards: None }
    }

    /// A wildcard that finds nothing.
    pub(super) fn wildcard(name: &str, wildcards: Wildcards) -> Self {
        Self { name: name.into(), wildcards: Some(wildcards) }
    }

    /// Whether a shard of this URL would be found there, if it were there.
    #[must_use]
    pub fn would_find(&self, url: &str) -> bool {
        match &self.wildcards {
            Some(wildcards) => wildcards.finds(url),
            None => url.strip_prefix(&with_slash(&self.name)).is_some_and(|name| !name.contains('/')),
        }
    }
}

impl fmt::Display for Barren {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.name))
    }
}
