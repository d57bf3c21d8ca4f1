//! What an exact number has not reached, in words: whoever mixes sources by exact numbers would have another ratio and not know.

use std::collections::BTreeMap;

use crate::SelectError;
use crate::apportion::Apportioned;
use crate::bits::Bits;
use crate::pick::{Lack, Quota};
use crate::values::MISSING;

/// What is to be said, by the number of the set.
pub(crate) type Remarks = BTreeMap<usize, String>;

/// An exact number, and what became of it.
pub(crate) struct ExactNumber<'a> {
    /// The rule, as the user wrote it.
    pub text: &'a str,
    /// The column that orders.
    pub column: Option<&'a str>,
    /// The column of its groups.
    pub per: Option<&'a str>,
    /// The column of its weights, where it is apportioned by them, and what was apportioned.
    pub apportioned: Option<(&'a str, &'a Apportioned)>,
    /// Whom it is asked of, with a place in the order or without.
    pub asked_of: &'a Bits,
    /// How many of whom.
    pub quota: &'a Quota<'a>,
    /// By how much it fell short.
    pub lack: Lack,
}

/// For each exact number what it lacks, and whom it had no place for; `None` where there is nothing to say.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn shortfalls(all: &[ExactNumber<'_>], judged: &Bits) -> Result<Vec<Option<String>>, SelectError> {
    all.iter().map(|asked| Ok(asked.in_words(asked.groups(judged)?))).collect()
}

/// What is known of an exact number's groups.
#[derive(Clone, Copy, Default)]
struct Groups {
    /// Groups of anybody who takes part.
    seen: u64,
    /// Samples that could be picked, had they a group.
    nowhere: u64,
}

impl ExactNumber<'_> {
    fn groups(&self, judged: &Bits) -> Result<Groups, SelectError> {
        let Some((values, count)) = self.quota.groups else { return Ok(Groups::default()) };
        let (mut seen, mut nowhere) = (Bits::zeros(count), 0);
        values.scan(|first, groups| {
            for (row, &group) in (first..).zip(groups) {
                if group == MISSING {
                    nowhere += u64::from(self.quota.of.get(row));
                } else if judged.get(row) {
                    seen.set(group);
                }
            }
            Ok(())
        })?;
        Ok(Groups { seen: seen.count(), nowhere })
    }

    fn in_words(&self, groups: Groups) -> Option<String> {
        let Self { text, quota: Quota { count, of, .. }, lack, .. } = self;
        let has = of.count();
        let mut said = Vec::new();
        let (per, has_for) = match self.apportioned {
            Some((_, apportioned)) => (None, apportioned.rows),
            None => (self.per, has),
        };
        match per {
            None if has_for < *count => said.push(format!("asks for {count} samples, and there are {has_for}")),
            None => {}
            Some(per) if groups.seen == 0 => said.push(format!("finds no sample with a `{per}`")),
            Some(per) => {
                let empty = groups.seen - lack.served;
                let (short, rows) = (empty + lack.short, lack.rows.saturating_add(empty.saturating_mul(*count)));
                if short > 0 && rows > 0 {
                    let seen = groups.seen;
                    said.push(format!(
                        "asks for {count} of each `{per}`: {short} of {seen} have fewer, {rows} samples are lacking"
                    ));
                }
            }
        }
        let unplaced = self.asked_of.count() - has;
        let weightless =
            self.apportioned.map_or((0, None), |(column, apportioned)| (apportioned.weightless, Some(column)));
        let missing = [(unplaced, self.column), (groups.nowhere, self.per.filter(|_| groups.seen > 0)), weightless];
        for (samples, column) in missing {
            if let Some(column) = column.filter(|_| samples > 0) {
                said.push(format!("has no place for {samples} samples without a `{column}`"));
            }
        }
        (!said.is_empty()).then(|| format!("`{text}` {}", said.join("; it ")))
    }
}
