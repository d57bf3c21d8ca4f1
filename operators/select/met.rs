//! Which names of a list have come: of uids, and of keys alone, which do not say where their samples stand. Who has read all that there is then
//! knows which names never came.
//!
//! Memory: a bit a uid, or a bit for every two bytes of keys (a line has two at least); pages that nobody touches take none.

use std::path::Path;
use std::sync::Arc;

use trommel_core::notices::Notices;

use crate::SelectError;
use crate::bits::Bits;
use crate::keys_alone::KeyList;
use crate::uid_list::UidList;
use crate::uids;

/// See the module's head.
#[derive(Debug)]
pub struct Met {
    list: List,
    bits: Bits,
}

#[derive(Debug)]
enum List {
    Keys(Arc<KeyList>),
    Uids(Arc<UidList>),
}

/// Names of a list that never came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unmet {
    /// How many; a uid counts once, however often it stands in the list.
    pub count: u64,
    /// The first of them.
    pub first: String,
}

impl Met {
    /// None of a list's keys.
    #[must_use]
    pub fn none_of(list: &Arc<KeyList>) -> Self {
        Self { bits: Bits::zeros(list.bytes().div_ceil(2)), list: List::Keys(Arc::clone(list)) }
    }

    /// None of a list's uids.
    #[must_use]
    pub fn none_of_uids(list: &Arc<UidList>) -> Self {
        Self { bits: Bits::zeros(list.count()), list: List::Uids(Arc::clone(list)) }
    }

    /// Takes the key whose line begins there, or the uid whose first row is there; whether it comes for the first time.
    pub fn first(&mut self, place: u64) -> bool {
        let bit = match self.list {
            List::Keys(_) => place / 2,
            List::Uids(_) => place,
        };
        let known = self.bits.get(bit);
        self.bits.set(bit);
        !known
    }

    /// Takes a sample's names; whether it is one of the list's that has come before.
    ///
    /// # Errors
    /// A list that cannot be read or is not in order.
    pub fn again(&mut self, key: &str, uid: Option<&str>) -> Result<bool, SelectError> {
        let place = match &self.list {
            List::Keys(list) => list.place(key)?,
            List::Uids(list) => match uid.and_then(uids::parse) {
                Some(uid) => Some(list.places(uid)?).filter(|places| !places.is_empty()).map(|places| places.start),
                None => None,
            },
        };
        Ok(place.is_some_and(|place| !self.first(place)))
    }

    /// Notes what never came of the list at `path`, and gives it.
    ///
    /// # Errors
    /// As [`Met::unmet`].
    pub fn note(&self, path: &Path, notices: &mut Notices) -> Result<Unmet, SelectError> {
        let unmet = self.unmet()?;
        let (code, text) = match self.list {
            List::Keys(_) => ("absent_keys", "keys of the list that are in none of these shards"),
            List::Uids(_) => ("absent_uids", "uids of the list that no sample of these shards has"),
        };
        notices.note(code, text, format!("{}: {}", path.display(), unmet.first), unmet.count);
        Ok(unmet)
    }

    /// What never came. The whole list is read.
    ///
    /// # Errors
    /// A list that cannot be read or is not in order.
    pub fn unmet(&self) -> Result<Unmet, SelectError> {
        let mut unmet = Unmet::default();
        let mut take = |bit: u64, name: &dyn Fn() -> String| {
            if !self.bits.get(bit) {
                if unmet.count == 0 {
                    unmet.first = name();
                }
                unmet.count += 1;
            }
        };
        match &self.list {
            List::Keys(list) => list
                .each_line(|place, key| take(place / 2, &|| String::from_utf8_lossy(key).into_owned()))
                .map(|_| ())?,
            List::Uids(list) => list.each(|row, uid| take(row, &|| format!("{uid:032x}")))?,
        }
        Ok(unmet)
    }
}
