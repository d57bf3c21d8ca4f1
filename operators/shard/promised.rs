//! How many samples a shard was written with, as img2dataset's `00012_stats.json` beside `00012.tar`, or beside the folder `00012` of its
//! `files` layout, says: what is lost when the shard cannot be read, or when fewer come.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::plan::SHARD_ENDINGS;
use super::store::{Local, Metered, Store};

/// What stands behind a shard's stem in the name of its statistics.
pub(crate) const STATS_ENDING: &str = "_stats.json";

/// Statistics beyond this size are not read.
const MAX_STATS_BYTES: u64 = 4 << 20;

#[derive(Deserialize)]
struct Stats {
    successes: u64,
}

/// Where the statistics of the shard at `url` would be; `None` for a name that is no shard's.
#[must_use]
pub fn stats_url(url: &str) -> Option<String> {
    let stem = SHARD_ENDINGS.iter().find_map(|ending| url.strip_suffix(ending))?;
    Some(format!("{stem}{STATS_ENDING}"))
}

/// What statistics say of their shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promised {
    /// There are none.
    Nothing,
    /// So many samples.
    Samples(u64),
    /// They are there, and say no number of samples.
    Unreadable,
}

impl Promised {
    /// How many samples, where they say it.
    #[must_use]
    pub const fn samples(self) -> Option<u64> {
        match self {
            Self::Samples(samples) => Some(samples),
            Self::Nothing | Self::Unreadable => None,
        }
    }
}

/// What the statistics beside a shard promise.
#[must_use]
pub fn promised(store: &dyn Store, url: &str) -> Promised {
    stats_url(url).map_or(Promised::Nothing, |stats| promised_by(store, &stats))
}

/// What the statistics beside a folder of pictures promise.
#[must_use]
pub fn promised_to_folder(folder: &Path) -> Promised {
    let name = folder.file_name().and_then(|name| name.to_str());
    let stats = name.map(|name| folder.with_file_name(format!("{name}{STATS_ENDING}")));
    let stats = stats.as_deref().and_then(Path::to_str);
    stats.map_or(Promised::Nothing, |stats| promised_by(&Local::default(), stats))
}

/// What a file of statistics promises.
pub(crate) fn promised_by(store: &dyn Store, stats: &str) -> Promised {
    // A store that hides what is not there answers as for what nobody may read.
    let Ok((file, _)) = Metered::open(store, stats) else { return Promised::Nothing };
    let mut text = Vec::new();
    if file.take(MAX_STATS_BYTES).read_to_end(&mut text).is_err() {
        return Promised::Unreadable;
    }
    // Samples of a shard are numbered in 32 bits: more is no promise of anybody's.
    match serde_json::from_slice(&text) {
        Ok(Stats { successes }) if successes <= u64::from(u32::MAX) => Promised::Samples(successes),
        _ => Promised::Unreadable,
    }
}
