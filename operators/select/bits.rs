//! A bit a row.
//!
//! ```
//! use trommel_select::bits::Bits;
//! let bits: Bits = [true, false, true].into_iter().collect();
//! let not = bits.not(&[true, true, false].into_iter().collect());
//! assert_eq!((bits.ones(0..3), not.ones(0..3), not.get(1)), (2, 1, true));
//! ```

use std::ops::Range;

/// Bits in the order of the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
    len: u64,
}

impl Bits {
    /// `len` bits, all of them 0.
    #[must_use]
    pub fn zeros(len: u64) -> Self {
        Self { words: vec![0; len.div_ceil(64) as usize], len }
    }

    /// None yet, with room for so many.
    #[must_use]
    pub fn with_room(len: u64) -> Self {
        Self { words: Vec::with_capacity(len.div_ceil(64) as usize), len: 0 }
    }

    /// Number of rows, one bit each.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds the bit of the next row.
    pub fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        if bit {
            self.words[(self.len / 64) as usize] |= 1 << (self.len % 64);
        }
        self.len += 1;
    }

    /// A row's bit; false beyond the end.
    #[must_use]
    pub fn get(&self, row: u64) -> bool {
        self.words.get((row / 64) as usize).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Sets a row's bit.
    pub fn set(&mut self, row: u64) {
        if let Some(word) = self.words.get_mut((row / 64) as usize) {
            *word |= 1 << (row % 64);
        }
    }

    /// How many rows of a range have it.
    #[must_use]
    pub fn ones(&self, rows: Range<u64>) -> u64 {
        let (first, last) = (rows.start / 64, rows.end.div_ceil(64));
        let words = self.words.get(first as usize..(last as usize).min(self.words.len())).unwrap_or_default();
        let count = |(at, word): (u64, &u64)| {
            let start = (first + at) * 64;
            let low = if rows.start > start { u64::MAX << (rows.start - start) } else { u64::MAX };
            let high = if rows.end < start + 64 { (1 << (rows.end - start)) - 1 } else { u64::MAX };
            u64::from((word & low & high).count_ones())
        };
        if rows.is_empty() { 0 } else { (0..).zip(words).map(count).sum() }
    }

    /// All rows that have it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn with(&self, other: &Self, both: impl Fn(u64, u64) -> u64) -> Self {
        let words = self.words.iter().zip(&other.words).map(|(a, b)| both(*a, *b)).collect();
        Self { words, len: self.len }
    }

    /// Those of `all` that are not here.
    #[must_use]
    pub fn not(&self, all: &Self) -> Self {
        self.with(all, |mine, all| all & !mine)
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.with(other, |a, b| a & b)
    }

    /// Those that are in one of them.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        self.with(other, |a, b| a | b)
    }
}

impl FromIterator<bool> for Bits {
    fn from_iter<I: IntoIterator<Item = bool>>(bits: I) -> Self {
        let mut all = Self::default();
        bits.into_iter().for_each(|bit| all.push(bit));
        all
    }
}
