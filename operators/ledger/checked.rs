//! Files of checked lines: each line is valid JSON whose first member is the crc32c of all that follows it.
//!
//! ```text
//! {"check":"8d1f03aa","schema":1,...}
//!                    └────────── checked, from here to the closing brace
//! ```
//!
//! # Invariants
//! 1. Only the last line of a file can be torn. A bad line with good ones after it is corruption, an error.
//! 2. What a newer program wrote is refused by its schema version, never taken for a torn line.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::LedgerError;

/// The good lines of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines<T> {
    /// The lines that could be read.
    pub lines: Vec<T>,
    /// Bytes up to the end of the last good one: where a torn file is cut.
    pub good_bytes: u64,
    /// Whether something stands behind the last good line.
    pub torn: bool,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self { lines: Vec::new(), good_bytes: 0, torn: false }
    }
}

/// All that must be known of a line before it is read.
#[derive(Deserialize)]
struct Versioned {
    schema: u32,
}

/// A line as it stands in the file, with its newline.
///
/// # Errors
/// Values that are no JSON object; does not happen.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let body = serde_json::to_string(value)?;
    let check = crc32c::crc32c(body.as_bytes());
    Ok(format!("{{\"check\":\"{check:08x}\",{}\n", &body[1..]).into_bytes())
}

/// What a line without its newline says, in JSON; `None` if the checksum does not hold.
fn body(line: &[u8]) -> Option<Vec<u8>> {
    let rest = line.strip_prefix(b"{\"check\":\"")?;
    let (check, rest) = rest.split_at_checked(8)?;
    let rest = rest.strip_prefix(b"\",")?;
    let check = u32::from_str_radix(std::str::from_utf8(check).ok()?, 16).ok()?;
    let mut body = Vec::with_capacity(rest.len() + 1);
    body.push(b'{');
    body.extend_from_slice(rest);
    (crc32c::crc32c(&body) == check).then_some(body)
}

/// A line without its newline; `None` if the checksum or the form does not hold.
#[must_use]
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    serde_json::from_slice(&body(line)?).ok()
}

/// Reads a file's bytes; `known` is the newest schema version that is understood.
///
/// # Errors
/// A bad line with a good one after it, a newer schema, or a line that holds its checksum and not its form.
pub fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8], known: u32) -> Result<Lines<T>, LedgerError> {
    parse_some(path, bytes, known, |_| true)
}

/// As [`parse`], and keeps only those good lines whose JSON is `wanted`: the others cost a look and no memory.
///
/// # Errors
/// As [`parse`]; the form of a line that is not wanted is not looked at.
pub(super) fn parse_some<T: DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
    known: u32,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Lines<T>, LedgerError> {
    let mut out = Lines::default();
    let mut at = 0;
    let mut bad_line = None;
    for (number, piece) in (1u64..).zip(bytes.split_inclusive(|&b| b == b'\n')) {
        at += piece.len() as u64;
        match (piece.strip_suffix(b"\n").and_then(body), bad_line) {
            (Some(body), None) => {
                let malformed = |error| LedgerError::json(path, format!("line {number}"))(error);
                let found = serde_json::from_slice::<Versioned>(&body).map_err(malformed)?.schema;
                if found > known {
                    return Err(LedgerError::NewerSchema { path: path.into(), found, known });
                }
                if wanted(&body) {
                    out.lines.push(serde_json::from_slice(&body).map_err(malformed)?);
                }
                out.good_bytes = at;
            }
            (Some(_), Some(line)) => return Err(LedgerError::CorruptManifest { path: path.into(), line }),
            (None, _) => bad_line = bad_line.or(Some(number)),
        }
    }
    out.torn = bad_line.is_some();
    Ok(out)
}
