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

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use trommel_columnar::npy;
use trommel_core::durable::{self, Aside};

use crate::SelectError;
use crate::head::SplitHead;
use crate::sink::{Kept, Sink, settle};

/// Bytes of a uid.
const UID_BYTES: usize = 16;
/// Uids that are sorted at a time, at least.
const LEAST_RUN: u64 = 64 << 10;

/// A uid as a number, whose upper half is the pair's first.
#[must_use]
pub fn parse(uid: &str) -> Option<u128> {
    let hex = !uid.is_empty() && uid.len() <= 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex { u128::from_str_radix(uid, 16).ok() } else { None }
}

/// A list being written.
pub(crate) struct Uids {
    path: PathBuf,
    run: Vec<u128>,
    run_uids: usize,
    /// Sorted ones that had no room.
    runs: Vec<File>,
}

impl Uids {
    pub fn begin(path: &Path, memory_bytes: u64) -> Result<Self, SelectError> {
        let run_uids = (memory_bytes / UID_BYTES as u64).max(LEAST_RUN) as usize;
        Ok(Self { path: path.into(), run: Vec::new(), run_uids, runs: Vec::new() })
    }

    fn sort(&mut self) {
        self.run.sort_unstable();
        self.run.dedup();
    }

    fn put_aside(&mut self) -> Result<(), SelectError> {
        self.sort();
        let mut out =
            BufWriter::new(tempfile::tempfile_in(durable::parent(&self.path)).map_err(SelectError::at(&self.path))?);
        for uid in self.run.drain(..) {
            out.write_all(&uid.to_be_bytes()).map_err(SelectError::at(&self.path))?;
        }
        let file = out.into_inner().map_err(|error| SelectError::at(&self.path)(error.into_error()))?;
        self.runs.push(file);
        Ok(())
    }

    /// Every uid once, in order.
    fn merged(&mut self, mut each: impl FnMut(u128) -> std::io::Result<()>) -> std::io::Result<()> {
        let (mut runs, files) = (Vec::new(), self.runs.len());
        for run in &mut self.runs {
            run.rewind()?;
            runs.push(BufReader::new(run));
        }
        let mut held = self.run.iter().copied();
        let mut next = |from: usize| -> std::io::Result<Option<u128>> {
            let Some(run) = runs.get_mut(from) else { return Ok(held.next()) };
            let mut bytes = [0; UID_BYTES];
            match run.read_exact(&mut bytes) {
                Ok(()) => Ok(Some(u128::from_be_bytes(bytes))),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
                Err(error) => Err(error),
            }
        };
        let (mut heap, mut last) = (BinaryHeap::new(), None);
        for from in 0..=files {
            heap.extend(next(from)?.map(|uid| Reverse((uid, from))));
        }
        while let Some(Reverse((uid, from))) = heap.pop() {
            heap.extend(next(from)?.map(|uid| Reverse((uid, from))));
            if last.replace(uid) != Some(uid) {
                each(uid)?;
            }
        }
        Ok(())
    }

    /// Writes the list, and says how many uids it has.
    fn write(&mut self, out: &mut BufWriter<Aside>) -> std::io::Result<u64> {
        let mut count = 0;
        self.merged(|_| {
            count += 1;
            Ok(())
        })?;
        out.write_all(&npy::pair_head_bytes(count))?;
        self.merged(|uid| {
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
        self.run.push(parse(text).ok_or_else(|| bad(&format!("has the uid `{text}`")))?);
        if self.run.len() >= self.run_uids { self.put_aside() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>, head: &SplitHead) -> Result<Option<String>, SelectError> {
        self.sort();
        let file = Aside::create(&self.path).map_err(SelectError::at(&self.path))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let uids = self.write(&mut out).map_err(SelectError::at(&self.path))?;
        settle(&self.path, out)?;
        let same = head.count - uids;
        Ok((same > 0).then(|| {
            let path = self.path.display();
            format!("{path}: {uids} uids, each once; {same} kept samples have the uid of another kept one")
        }))
    }

    fn needs_uids(&self) -> bool {
        true
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}
