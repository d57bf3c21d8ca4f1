//! The secret that the processes of a run share, and how each proves to the other that it knows it.
//!
//! A proof is HMAC-SHA256, keyed with the secret, over who proves and over both sides' words of this connection: it is of no
//! use on another connection, for another process number, or the other way round. Who only listens learns nothing from it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What all processes of a run know and nobody else. The default is no secret: whoever knows the run's id belongs to it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "no secret" } else { "a secret" })
    }
}

/// Who proves something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Caller,
    Called,
}

impl Secret {
    /// A secret from its bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The proof of a side, over the caller's first words and the called one's nonce.
    pub(super) fn proof(&self, side: Side, hello: &[u8], nonce: &str) -> String {
        hex(&self.mac(side, hello, nonce).finalize().into_bytes())
    }

    /// Whether a proof is that of a side. Takes the same time wherever it differs.
    pub(super) fn holds(&self, proof: &str, side: Side, hello: &[u8], nonce: &str) -> bool {
        unhex(proof).is_some_and(|proof| self.mac(side, hello, nonce).verify_slice(&proof).is_ok())
    }

    fn mac(&self, side: Side, hello: &[u8], nonce: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length is one");
        let side: &[u8] = match side {
            Side::Caller => b"trommel: the caller",
            Side::Called => b"trommel: the called",
        };
        for words in [side, hello, nonce.as_bytes()] {
            mac.update(&(words.len() as u64).to_be_bytes());
            mac.update(words);
        }
        mac
    }
}

/// 32 bytes of the system's randomness, as 64 hex digits: a nonce, or a secret.
///
/// # Errors
/// The system has none.
pub fn random_hex() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    digits.map(|pair| u8::from_str_radix(pair.filter(|pair| pair.len() == 2)?, 16).ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_own_words_only() {
        let secret = Secret::new(b"of this run");
        let proof = secret.proof(Side::Caller, b"hello", "nonce");
        // python3 -c 'import hmac; p=lambda b: len(b).to_bytes(8,"big")+b
        //   print(hmac.new(b"of this run", p(b"trommel: the caller")+p(b"hello")+p(b"nonce"), "sha256").hexdigest())'
        assert_eq!(proof, "5dc57a16d0dcea13417594280d50e7923460e4973d7abdfcc0e0d7930b864cdf");
        assert!(secret.holds(&proof, Side::Caller, b"hello", "nonce"));
        assert!(secret.holds(&proof.to_uppercase(), Side::Caller, b"hello", "nonce"), "hex is hex");
        for (side, hello, nonce) in
            [(Side::Called, "hello", "nonce"), (Side::Caller, "hellon", "once"), (Side::Caller, "hello", "other")]
        {
            assert!(!secret.holds(&proof, side, hello.as_bytes(), nonce), "{side:?} {hello} {nonce}");
        }
        assert!(!Secret::new(b"of another").holds(&proof, Side::Caller, b"hello", "nonce"));
        for wrong in ["", "0", &proof[2..], &format!("{proof}00"), "ü", &"zz".repeat(32)] {
            assert!(!secret.holds(wrong, Side::Caller, b"hello", "nonce"), "{wrong}");
        }
        assert_eq!(format!("{secret:?}"), "a secret");
        assert_ne!(random_hex().unwrap(), random_hex().unwrap());
    }
}
