//! Where the samples that a split keeps go.

use std::io::BufWriter;
use std::path::Path;

use trommel_core::durable::Aside;

use crate::SelectError;
use crate::head::SplitHead;

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

    /// Takes that there are no more, and gives a remark for people, where there is one to make.
    ///
    /// # Errors
    /// A file that cannot be written.
    fn finish(self: Box<Self>, head: &SplitHead) -> Result<Option<String>, SelectError>;

    /// Takes the names of all shards of the run or set that is selected from, before the end.
    fn run_has(&mut self, _shards: &mut dyn Iterator<Item = &str>) {}

    /// Whether it reads uids.
    fn needs_uids(&self) -> bool {
        false
    }

    /// The file that it writes, where it writes one.
    fn path(&self) -> Option<&Path> {
        None
    }
}

/// Gives a file its name.
pub(crate) fn settle(path: &Path, out: BufWriter<Aside>) -> Result<(), SelectError> {
    let file = out.into_inner().map_err(|error| SelectError::at(path)(error.into_error()))?;
    file.commit().map_err(SelectError::at(path))
}
