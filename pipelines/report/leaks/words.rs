//! Whether a label leaks with its picture: what stands beside the nearest sample, and what a test point is called.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use trommel_columnar::parquet::{Column, ColumnType};
use trommel_columnar::pieces::is_embeddings;
use trommel_core::sample::SampleId;
use trommel_ledger::read::Ledger;
use trommel_shard::plan::Plan;
use trommel_shard::samples::GroupConfig;
use trommel_shard::store::{Store, local_path};

use crate::error::PipelineError;
use crate::labelled::is_wordnet_id;
use crate::pictures::{self, FoundPicture, WantedPicture};

/// Captions read back from shards on this machine.
const MOST_HERE: usize = 10_000;
/// Captions read back from other stores: each is a request.
const MOST_ELSEWHERE: usize = 256;

/// Captions by sample, and why others are not known.
#[derive(Debug, Default)]
pub(super) struct Captions {
    pub(super) known: HashMap<SampleId, String>,
    /// (why, what would tell), once each.
    pub(super) unknown: BTreeSet<(String, String)>,
}

impl Captions {
    /// Reads what stands beside these samples; pictures pass by and are not held.
    ///
    /// # Errors
    /// A ledger that cannot be read.
    pub(super) fn read(
        ledger: &Ledger,
        plan: &Plan,
        store: &dyn Store,
        group: &GroupConfig,
        samples: &BTreeSet<SampleId>,
    ) -> Result<Self, PipelineError> {
        let mut captions = Self::default();
        let mut wanted: BTreeMap<SampleId, WantedPicture> = BTreeMap::new();
        let (mut here, mut elsewhere) = (0, 0);
        let mut passed = 0u64;
        for shard in &plan.shards {
            let first = SampleId { ordinal: shard.ordinal, index: 0 };
            let last = SampleId { ordinal: shard.ordinal, index: u32::MAX };
            let mine: Vec<SampleId> = samples.range(first..=last).copied().collect();
            if mine.is_empty() {
                continue;
            }
            let path = local_path(&shard.url);
            if path.is_some_and(is_embeddings) {
                captions.unknown.insert((
                    "what was judged are stored embeddings, without captions".into(),
                    "trommel prune of the shards themselves".into(),
                ));
                continue;
            }
            let (read, most) = if path.is_some() { (&mut here, MOST_HERE) } else { (&mut elsewhere, MOST_ELSEWHERE) };
            let taken = mine.len().min(most - *read);
            (*read, passed) = (*read + taken, passed + (mine.len() - taken) as u64);
            places(ledger, shard.ordinal, &mine[..taken], &mut wanted)?;
        }
        if passed > 0 {
            captions.unknown.insert((
                format!(
                    "captions of {passed} further samples were not read back: {MOST_HERE} are, from other stores {MOST_ELSEWHERE}"
                ),
                "trommel report with the shards on this machine; trommel why RUN KEY for one of them".into(),
            ));
        }
        let known = &mut captions.known;
        // Where nothing lies beside a picture, its class folder's name is all that it is labelled with.
        let mut know = |id, sample: FoundPicture| _ = known.insert(id, sample.class_name.unwrap_or(sample.caption));
        let troubles = pictures::visit(store, plan, group, &wanted, &mut know);
        let again = "trommel report where the shards can be read as they were judged";
        captions.unknown.extend(troubles.into_iter().map(|trouble| (trouble, again.into())));
        let lost = wanted.keys().filter(|id| !captions.known.contains_key(id)).count();
        if lost > 0 {
            captions.unknown.insert((format!("{lost} samples could not be read back from their shards"), again.into()));
        }
        Ok(captions)
    }
}

/// Where these samples of a shard stand.
fn places(
    ledger: &Ledger,
    ordinal: u64,
    samples: &[SampleId],
    wanted: &mut BTreeMap<SampleId, WantedPicture>,
) -> Result<(), PipelineError> {
    let columns =
        [("index", ColumnType::U32), ("offset", ColumnType::U64), ("size", ColumnType::U64), ("key", ColumnType::Text)];
    for group in ledger.columns(ordinal, &columns).map_err(PipelineError::failed)? {
        let group = group.map_err(PipelineError::failed)?;
        let [Column::U32(indices), Column::U64(offsets), Column::U64(sizes), Column::Text(keys)] = group.as_slice()
        else {
            continue;
        };
        for (((index, offset), size), key) in indices.iter().zip(offsets).zip(sizes).zip(keys) {
            let id = SampleId { ordinal, index: index.unwrap_or_default() };
            if samples.binary_search(&id).is_ok() {
                let (offset, size) = (offset.unwrap_or_default(), size.unwrap_or_default());
                wanted.insert(id, WantedPicture { offset, size, key: key.clone().unwrap_or_default() });
            }
        }
    }
    Ok(())
}

/// Words as they are compared: in lower case, parted by one space, without other signs.
pub(super) fn plain(text: &str) -> String {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Whether a caption holds a name, as whole words.
pub(super) fn holds(caption: &str, name: &str) -> bool {
    let (caption, name) = (plain(caption), plain(name));
    !name.is_empty() && format!(" {caption} ").contains(&format!(" {name} "))
}

/// Whether a label is a name, and no number and no WordNet identifier (`n01440764`), which no caption holds.
pub(super) fn is_name(label: &str) -> bool {
    !is_wordnet_id(label) && label.chars().any(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_whole_words() {
        let cases = [
            ("A photo of a Great White Shark!", "great_white shark", true),
            ("great  white-shark", "great white shark", true),
            ("two cars", "car", false),
            ("my car", "car", true),
            ("scar", "car", false),
            ("", "car", false),
            ("anything", "", false),
            ("ÉCLAIR au café", "éclair", true),
        ];
        for (caption, name, due) in cases {
            assert_eq!(holds(caption, name), due, "{name} in {caption}");
        }
        let named = ["tench", "n0144076", "n014407640", "3-d printer", "nn"].map(is_name);
        assert_eq!((named, ["n01440764", "17", "", "0_1"].map(is_name)), ([true; 5], [false; 4]));
    }
}
