//! The hash behind every permutation of the order: 64 bits, the same for ever, on every machine.
//!
//! Written down to the bit. All arithmetic is modulo 2^64.
//! ```text
//! mix(z):      z ^= z >> 30;  z *= 0xbf58476d1ce4e5b9;  z ^= z >> 27;  z *= 0x94d049bb133111eb;  z ^= z >> 31
//! word(h, w):  mix((h ^ w) + 0x9e3779b97f4a7c15)
//! bytes(h, s): h = word(h, length of s in bytes); then word(h, c) for each 8 bytes c of s, little endian, the last
//!              one filled up with zero bytes
//! hash(name, fields): h = 0; h = bytes(h, name); then each field in turn, numbers as words, texts as bytes
//! ```
//! `mix` is the finaliser of SplitMix64 (Steele, Lea, Flood 2014). The name keeps the uses apart: `shard` and `window`.
//! It is no defence against someone who chooses names in order to collide.
//!
//! ```
//! use trommel_core::hash::Hash64;
//!
//! assert_eq!(Hash64::new("shard").word(0).word(0).bytes(b"00000.tar").finish(), 0x10e1_1f9c_ff84_67b4);
//! ```

/// The finaliser of SplitMix64: a bijection of 64 bits that mixes all of them.
#[must_use]
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hash being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash64 {
    state: u64,
}

impl Hash64 {
    /// A hash for the use called `name`.
    #[must_use]
    pub const fn new(name: &str) -> Self {
        Self { state: 0 }.bytes(name.as_bytes())
    }

    /// Mixes in one 64-bit number; the order of calls matters.
    #[must_use]
    pub const fn word(self, word: u64) -> Self {
        Self { state: mix((self.state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15)) }
    }

    /// Adds a text: its length, then its bytes.
    #[must_use]
    pub const fn bytes(self, bytes: &[u8]) -> Self {
        let mut hash = self.word(bytes.len() as u64);
        let mut at = 0;
        while at < bytes.len() {
            let mut word = 0;
            let mut byte = 0;
            while byte < 8 && at + byte < bytes.len() {
                word |= (bytes[at + byte] as u64) << (8 * byte);
                byte += 1;
            }
            hash = hash.word(word);
            at += 8;
        }
        hash
    }

    /// The hash of all that was added.
    #[must_use]
    pub const fn finish(self) -> u64 {
        self.state
    }
}
