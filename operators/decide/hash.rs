//! The hash that `random:` rules draw by, written down to the bit.
//!
//! ```text
//! message = "trommel random 1"          16 bytes of ASCII
//!         | seed                        8 bytes, little-endian
//!         | length of the shard's name  8 bytes, little-endian, in bytes
//!         | shard's name                UTF-8
//!         | key                         UTF-8
//! hash    = first 8 bytes of SHA-256(message), read as a little-endian u64
//! ```
//!
//! The length in front of the name makes the seam between name and key unambiguous. `random:P%` keeps a sample iff
//! `hash < floor(P / 100 * 2^64)` in exact arithmetic; see [`super::percent::Percent`]. A sample's draw depends on seed and names alone,
//! and samples kept at 10 % are among those kept at 20 %. `hash_vectors.py` beside this file computes the same with Python's
//! standard library and made the test's vectors.
//!
//! ```
//! use trommel_decide::hash::random_hash;
//! assert_ne!(random_hash(0, "ab", "c"), random_hash(0, "a", "bc"));
//! ```

use sha2::{Digest, Sha256};

/// The draw of one sample: see the module's head.
#[must_use]
pub fn random_hash(seed: u64, shard_name: &str, key: &str) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(b"trommel random 1");
    hasher.update(seed.to_le_bytes());
    hasher.update((shard_name.len() as u64).to_le_bytes());
    hasher.update(shard_name.as_bytes());
    hasher.update(key.as_bytes());
    let digest = hasher.finalize();
    u64::from_le_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]])
}
