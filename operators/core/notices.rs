//! What a run found in its input that its user must hear of, though it did not end the run: counted by kind, with the
//! first place of each.
//!
//! Two sorts, because a script must be able to tell them apart:
//! - a *loss* is input that was asked for and could not be used (a shard that is no tar, samples that a shard's
//!   `_stats.json` promised and that did not come). Lost samples count against `--max-rejects`, and so lead to status 4;
//! - a *note* is input that was passed over on purpose (a `README.md` in a class folder, a `._name` twin in a macOS tar).
//!
//! Notices are values: each stage makes its own, reports carry them (`"notices"` in `--json`), the program prints them.
//! ```
//! use trommel_core::notices::Notices;
//! let mut notices = Notices::default();
//! notices.note("apple_double", "macOS `._` files passed over", "a.tar: ._0001.jpg", 2);
//! notices.loss("not_a_tar", "shards that are no tar", "b.tar: an HTML page", 1, 1_000);
//! assert_eq!(notices.lost_samples(), 1_000);
//! assert_eq!(notices.lines().next().unwrap(), "macOS `._` files passed over: 2 (first: a.tar: ._0001.jpg)");
//! let mut again = Notices::default();
//! again.note("apple_double", "macOS `._` files passed over", "a.tar: ._0001.jpg", 2);
//! again.loss("not_a_tar", "shards that are no tar", "c.tar: an HTML page", 1, 3_000);
//! notices.merge_larger(&again);
//! assert_eq!((notices.get("apple_double").unwrap().count, notices.lost_samples()), (2, 3_000));
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One kind of finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What was found, in the plural: `shards that are no tar`.
    pub text: String,
    /// How many times it was found.
    pub count: u64,
    /// Where it was found first, with what was seen there.
    pub first: String,
    /// Samples lost by it, as far as anybody knows; 0 for a note.
    pub lost_samples: u64,
    /// Whole shards and files lost by it, of which nobody knows how many samples they held: each counts as one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_files: u64,
    /// Whether input was lost (and not merely passed over on purpose).
    pub loss: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Findings by their code: stable, `snake_case`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Notices(BTreeMap<String, Notice>);

impl Notices {
    /// Counts `count` things that were passed over on purpose. Nothing happens where `count` is 0.
    pub fn note(&mut self, code: &str, text: &str, place: impl Into<String>, count: u64) {
        let (text, first) = (text.to_owned(), place.into());
        self.add(code, Notice { text, count, first, lost_samples: 0, lost_files: 0, loss: false });
    }

    /// Counts `count` things that were asked for and lost, and the samples that were lost with them.
    pub fn loss(&mut self, code: &str, text: &str, place: impl Into<String>, count: u64, lost_samples: u64) {
        let (text, first) = (text.to_owned(), place.into());
        self.add(code, Notice { text, count, first, lost_samples, lost_files: 0, loss: true });
    }

    /// Counts a shard, or a file of samples, that was asked for and lost as a whole, with as many samples as it is known to have held.
    pub fn file_loss(&mut self, code: &str, text: &str, place: impl Into<String>, samples: Option<u64>) {
        let (text, first, lost_files) = (text.to_owned(), place.into(), u64::from(samples.is_none()));
        // Nobody knows how many these are: they never count as none.
        let lost_samples = samples.unwrap_or(1);
        self.add(code, Notice { text, count: 1, first, lost_samples, lost_files, loss: true });
    }

    fn add(&mut self, code: &str, notice: Notice) {
        if notice.count == 0 {
            return;
        }
        match self.0.get_mut(code) {
            Some(known) => {
                known.count = known.count.saturating_add(notice.count);
                known.lost_samples = known.lost_samples.saturating_add(notice.lost_samples);
                known.lost_files = known.lost_files.saturating_add(notice.lost_files);
                known.loss |= notice.loss;
            }
            None => {
                self.0.insert(code.to_owned(), notice);
            }
        }
    }

    /// Takes in what another stage, shard or process found; for equal codes the first place stays `self`'s.
    pub fn merge(&mut self, other: &Self) {
        for (code, notice) in &other.0 {
            self.add(code, notice.clone());
        }
    }

    /// Takes in what another run over the same input found: of equal codes the one that lost more stays, else the one that counted more,
    /// for a sum would count the same finding again.
    pub fn merge_larger(&mut self, other: &Self) {
        let size = |notice: &Notice| (notice.lost_samples, notice.count);
        for (code, notice) in &other.0 {
            if self.get(code).is_none_or(|known| size(known) < size(notice)) {
                self.0.insert(code.clone(), notice.clone());
            }
        }
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One kind's finding.
    #[must_use]
    pub fn get(&self, code: &str) -> Option<&Notice> {
        self.0.get(code)
    }

    /// All findings by their code, in order of code.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Notice)> {
        self.0.iter().map(|(code, notice)| (code.as_str(), notice))
    }

    /// Samples lost, over all kinds.
    #[must_use]
    pub fn lost_samples(&self) -> u64 {
        self.0.values().fold(0, |sum, notice| sum.saturating_add(notice.lost_samples))
    }

    /// Shards and files lost as a whole, of which nobody knows how many samples they held.
    #[must_use]
    pub fn lost_files(&self) -> u64 {
        self.0.values().fold(0, |sum, notice| sum.saturating_add(notice.lost_files))
    }

    /// Whether any input was lost.
    #[must_use]
    pub fn any_loss(&self) -> bool {
        self.0.values().any(|notice| notice.loss)
    }

    /// One line a kind, for people.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.values().map(|notice| {
            let Notice { text, count, first, lost_samples, lost_files, .. } = notice;
            let at_least = if *lost_files > 0 { "at least " } else { "" };
            let samples = match lost_samples {
                0 => String::new(),
                lost => format!(", {at_least}{lost} samples lost"),
            };
            format!("{text}: {count}{samples} (first: {first})")
        })
    }
}
