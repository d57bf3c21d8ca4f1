//! When codes pay: for so many points at least, and not right after a portion that has listed too much.

use std::sync::atomic::{AtomicU32, Ordering};

/// Fewest points for which rows are coded: below it coding takes longer than what it saves.
pub const FEWEST_POINTS: usize = 1024;

/// Codes do not pay where of so many pairs more than one is listed: one takes about as long as a tenth of so many products.
const PAIRS_A_LISTED: u64 = 24;

/// A point may list so many rows beside: each has a largest one, whoever multiplies.
const FREE_LISTED: u64 = 4;

/// Portions done the other way after one that has listed too much.
const PORTIONS_APART: u32 = 63;

/// Whether a portion of so many rows and points has listed so many pairs that f32 would have taken less time.
#[must_use]
pub fn lists_too_much(rows: usize, points: usize, listed: u64) -> bool {
    let (rows, points) = (rows as u64, points as u64);
    listed > (rows * points + points * FREE_LISTED * PAIRS_A_LISTED) / PAIRS_A_LISTED
}

/// Portions that are yet to be done the other way, after one that has listed too much. Any number of threads may ask.
#[derive(Debug, Default)]
pub struct Pause(AtomicU32);

impl Pause {
    /// Whether the next portion may list again.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// A portion has listed too much.
    pub fn begin(&self) {
        self.0.store(PORTIONS_APART, Ordering::Relaxed);
    }

    /// A portion went the other way.
    pub fn pass(&self) {
        let _none_is_left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_after_its_portions() {
        let pause = Pause::default();
        pause.pass();
        assert!(pause.is_over());
        pause.begin();
        (1..PORTIONS_APART).for_each(|_| pause.pass());
        assert!(!pause.is_over());
        pause.pass();
        assert!(pause.is_over());
    }

    #[test]
    fn each_point_may_list_some_and_of_the_pairs_a_part() {
        assert!(!lists_too_much(240, 100, 1400) && lists_too_much(240, 100, 1401));
        assert!(!lists_too_much(1, 100, 404) && lists_too_much(1, 100, 405));
    }
}
