//! DataComp's list of uids: sorted pairs of u64, written from more uids than memory holds.
//!
//! A uid is 32 hexadecimal digits, shorter ones being filled up with zeros in front: the two halves of it are its pair. Each uid
//! stands once, since DataComp's resharder copies a sample as often as its uid stands in the list.
//!
//! ```
//! use trommel_select::uids::parse;
//! assert_eq!(parse("0abc"), Some(0xabc));
//! assert_eq!(parse("ffeeddccbbaa99887766554433221100"), Some(0xffee_ddcc_bbaa_9988_7766_5544_3322_1100));
//! assert!(parse("x").is_none() && parse("").is_none() && parse(&"0".repeat(33)).is_none());
//! ```

use std::io::Write;
use std::path::{Path, PathBuf};

use trommel_columnar::npy;

use crate::SelectError;
use crate::external_sort::ExternalSort;
use crate::head::SplitHead;
use crate::sink::{Kept, ListFile, Sink, Whole};

/// A uid as a number, whose upper half is the pair's first.
#[must_use]
pub fn parse(uid: &str) -> Option<u128> {
    let hex = !uid.is_empty() && uid.len() <= 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex { u128::from_str_radix(uid, 16).ok() } else { None }
}

/// A list being written.
pub(crate) struct Uids {
    path: PathBuf,
    uids: ExternalSort<u128>,
}

impl Uids {
    pub fn begin(path: &Path, memory_bytes: u64) -> Self {
        Self { path: path.into(), uids: ExternalSort::beside(path, memory_bytes) }
    }

    /// Every uid once, in order.
    fn each(&mut self, mut each: impl FnMut(u128) -> std::io::Result<()>) -> std::io::Result<()> {
        let mut last = None;
        for uid in self.uids.sorted()? {
            let uid = uid?;
            if last.replace(uid) != Some(uid) {
                each(uid)?;
            }
        }
        Ok(())
    }

    /// Writes the list, and says how many uids it has.
    fn write(&mut self, out: &mut impl Write) -> std::io::Result<u64> {
        let mut count = 0;
        self.each(|_| {
            count += 1;
            Ok(())
        })?;
        out.write_all(&npy::pair_head_bytes(count))?;
        self.each(|uid| {
            out.write_all(&((uid >> 64) as u64).to_le_bytes())?;
            out.write_all(&(uid as u64).to_le_bytes())
        })?;
        Ok(count)
    }
}

impl Sink for Uids {
    fn add(&mut self, Kept { shard, key, uid, .. }: Kept<'_>) -> Result<(), SelectError> {
        let bad = |what: &str| {
            let path = self.path.display();
            SelectError::Input(format!(
                "{path}: sample {shard}/{key} {what}; DataComp's lists are made of 32 hexadecimal digits each"
            ))
        };
        let text = uid.ok_or_else(|| bad("has no uid"))?;
        let uid = parse(text).ok_or_else(|| bad(&format!("has the uid `{text}`")))?;
        self.uids.add(uid).map_err(SelectError::at(&self.path))
    }

    fn finish(mut self: Box<Self>, head: &SplitHead) -> Result<Whole, SelectError> {
        let mut out = ListFile::begin(&self.path)?;
        let uids = self.write(&mut out).map_err(SelectError::at(&self.path))?;
        let same = head.count - uids;
        out.finish((same > 0).then(|| {
            let path = self.path.display();
            format!("{path}: {uids} uids, each once; {same} kept samples have the uid of another kept one")
        }))
    }

    fn needs_uids(&self) -> bool {
        true
    }
}
