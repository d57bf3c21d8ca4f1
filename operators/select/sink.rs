//! Where the samples that a split keeps go.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use trommel_core::durable::Aside;

use crate::SelectError;
use crate::head::{ListFact, SplitHead};

/// A sample that a split keeps.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// Its shard's name.
    pub shard: &'a str,
    /// Its raw index in the shard.
    pub index: u32,
    /// Key of the sample, as its members are named.
    pub key: &'a str,
    /// Its uid, where a sink asks for it.
    pub uid: Option<&'a str>,
}

/// Where kept samples go, one after the other.
pub trait Sink: Send {
    /// Takes the next one.
    ///
    /// # Errors
    /// A file that cannot be written, or a sample that cannot stand in it.
    fn add(&mut self, kept: Kept<'_>) -> Result<(), SelectError>;

    /// Takes the next sample that is not kept, in its place among others of its shard. Of a shard of which nothing is kept it is told of nobody unless
    /// a sink [looks at all](Self::looks_at_all).
    ///
    /// # Errors
    /// A sample that the file does not tell from a kept one.
    fn leave_out(&mut self, _shard: &str, _key: &str) -> Result<(), SelectError> {
        Ok(())
    }

    /// Takes that there are no more, and gives what was written, which has no name yet.
    ///
    /// # Errors
    /// A file that cannot be written.
    fn finish(self: Box<Self>, head: &SplitHead) -> Result<Whole, SelectError>;

    /// Takes the names of all shards that were judged of the run or set that is selected from, before the end.
    fn run_has(&mut self, _shards: &mut dyn Iterator<Item = &str>) {}

    /// Whether it must see every sample that is not kept.
    fn looks_at_all(&self) -> bool {
        false
    }

    /// Whether it reads uids.
    fn needs_uids(&self) -> bool {
        false
    }
}

/// What a sink has made: all of it is written, and nothing of it is seen under its name.
#[derive(Debug, Default)]
pub struct Whole {
    pub(crate) file: Option<(PathBuf, Aside)>,
    /// What the head is to tell of a list.
    pub(crate) list: Option<ListFact>,
    /// A remark for people, where there is one to make.
    pub(crate) remark: Option<String>,
}

impl Whole {
    /// A table, which says itself what it is.
    ///
    /// # Errors
    /// Rows that cannot be written.
    pub fn table(path: PathBuf, out: BufWriter<Aside>) -> Result<Self, SelectError> {
        let file = out.into_inner().map_err(|error| SelectError::at(&path)(error.into_error()))?;
        Ok(Self { file: Some((path, file)), ..Self::default() })
    }

    /// Makes sure that the file can have its name.
    pub(crate) fn make_ready(&self) -> Result<(), SelectError> {
        let ready = |(path, file): &(PathBuf, Aside)| file.make_ready().map_err(SelectError::at(path));
        self.file.as_ref().map_or(Ok(()), ready)
    }

    /// Gives the file its name, where there is one.
    ///
    /// # Errors
    /// A file that cannot have its name.
    pub fn commit(self) -> Result<(), SelectError> {
        self.file.map_or(Ok(()), |(path, file)| file.commit().map_err(SelectError::at(&path)))
    }
}

/// A list being written, and hashed.
pub(crate) struct ListFile {
    path: PathBuf,
    out: BufWriter<Aside>,
    hash: Sha256,
    bytes: u64,
}

impl ListFile {
    pub fn begin(path: &Path) -> Result<Self, SelectError> {
        let out = Aside::create(path).map_err(SelectError::at(path))?;
        Ok(Self { path: path.into(), out: BufWriter::with_capacity(1 << 20, out), hash: Sha256::new(), bytes: 0 })
    }

    pub fn finish(self, remark: Option<String>) -> Result<Whole, SelectError> {
        let list = Some(ListFact { bytes: self.bytes, sha256: format!("{:x}", self.hash.finalize()) });
        Ok(Whole { list, remark, ..Whole::table(self.path, self.out)? })
    }
}

impl Write for ListFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
