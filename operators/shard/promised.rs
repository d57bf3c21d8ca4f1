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

/// The samples that the statistics beside a shard promise; `None` where there are none that can be read.
#[must_use]
pub fn promised(store: &dyn Store, url: &str) -> Option<u64> {
    promised_by(store, &stats_url(url)?)
}

/// The samples that the statistics beside a folder of pictures promise; `None` where there are none that can be read.
#[must_use]
pub fn promised_to_folder(folder: &Path) -> Option<u64> {
    let stats = folder.with_file_name(format!("{}{STATS_ENDING}", folder.file_name()?.to_str()?));
    promised_by(&Local::default(), stats.to_str()?)
}

/// The samples that a file of statistics promises; `None` where it cannot be read.
pub(crate) fn promised_by(store: &dyn Store, stats: &str) -> Option<u64> {
    let (file, _) = Metered::open(store, stats).ok()?;
    let mut text = Vec::new();
    file.take(MAX_STATS_BYTES).read_to_end(&mut text).ok()?;
    // Samples of a shard are numbered in 32 bits: more is no promise of anybody's.
    let Stats { successes } = serde_json::from_slice(&text).ok()?;
    (successes <= u64::from(u32::MAX)).then_some(successes)
}
