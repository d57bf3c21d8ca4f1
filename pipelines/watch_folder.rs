//! A watch's folder, as those see it who read what it publishes.

/// The link to the epoch that is published, which moves on.
pub const CURRENT: &str = "current";
