//! How many samples a shard was written with, as img2dataset's `00012_stats.json` beside `00012.tar`, or beside the folder `00012` of its
//! `files` layout, says: what is lost when the shard cannot be read, or when fewer come.

use std::fmt::Display;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::plan::SHARD_ENDINGS;
use super::store::{Local, Metered, Store, scheme, shown};
use trommel_core::causes::Causes;

/// What stands behind a shard's stem in the name of its statistics.
pub const STATS_ENDING: &str = "_stats.json";

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
    /// They are there and say no number of samples, or cannot be had.
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

/// What is wrong with the statistics beside a shard that are [unreadable](Promised::Unreadable), with their place; `None` where nothing is.
#[must_use]
pub fn unreadable(store: &dyn Store, url: &str) -> Option<String> {
    let stats = stats_url(url)?;
    read(store, &stats).err()
}

/// What a file of statistics promises.
pub(crate) fn promised_by(store: &dyn Store, stats: &str) -> Promised {
    read(store, stats).map_or(Promised::Unreadable, |samples| samples.map_or(Promised::Nothing, Promised::Samples))
}

/// The number in a file of statistics, where there is such a file; or what is wrong with which file.
fn read(store: &dyn Store, stats: &str) -> Result<Option<u64>, String> {
    let wrong = |why: &dyn Display| format!("{}: {why}", shown(stats));
    let file = match Metered::open(store, stats) {
        Ok((file, _)) => file,
        // A store that hides what is not there answers as for what nobody may read; this machine's folders do not.
        Err(error) if error.is_nothing() || error.is_denied() && scheme(stats).is_some() => return Ok(None),
        Err(error) => return Err(Causes(&error).to_string()),
    };
    let mut text = Vec::new();
    file.take(MAX_STATS_BYTES).read_to_end(&mut text).map_err(|error| wrong(&error))?;
    let Stats { successes } = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
    // Samples of a shard are numbered in 32 bits: more is no promise of anybody's.
    match successes <= u64::from(u32::MAX) {
        true => Ok(Some(successes)),
        false => Err(wrong(&format_args!("{successes} samples, more than a shard can have"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;

    /// Statistics that are there and cannot be had promise something, of which nobody knows what.
    #[test]
    fn statistics_that_cannot_be_had_are_not_statistics_that_nobody_wrote() {
        let files = [("mem://pool/0_stats.json", r#"{"successes": 3}"#), ("mem://pool/1_stats.json", "cut off")];
        let store = Faulty::new(Memory::of(files), []);
        let of = |shard: &str| promised(&store, &format!("mem://pool/{shard}.tar"));
        assert_eq!([of("0"), of("1"), of("2")], [Promised::Samples(3), Promised::Unreadable, Promised::Nothing]);
        store.add("0_stats.json", Fault::NoOpening);
        assert_eq!(of("0"), Promised::Unreadable);
        store.heal();
        store.add("2_stats.json", Fault::Denied);
        assert_eq!(of("2"), Promised::Nothing, "a store may say so of what is not there");
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("0_stats.json")).unwrap();
        let local = |name: &str| promised(&Local::default(), &folder.path().join(name).display().to_string());
        assert_eq!([local("0.tar"), local("1.tar")], [Promised::Unreadable, Promised::Nothing]);
        // A shard may be called so; its statistics would have a longer name than this machine's files can have.
        assert_eq!(local(&format!("{}.tar", "x".repeat(250))), Promised::Nothing);
    }
}
