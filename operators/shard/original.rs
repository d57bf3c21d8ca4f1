//! A shard's samples as they stand in its tar: every member, known or not, with its headers, to the bit; decompressed, not decoded.
//!
//! Grouping, indices, hostile input and compression are those of [`samples`](super::samples): what is a sample here is one there.
//!
//! ```text
//! shard ─▶ decompress ─▶ tar ─▶ groups ─▶ Visit::want(index, key) ─┬─▶ Place      its members are passed over unread
//!                                                                  └─▶ Original   whole blocks ─▶ Visit::take
//! ```

use std::convert::Infallible;
use std::io::BufRead;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::header::BLOCK;
use super::plan::ShardRef;
use super::promised::{Promised, promised};
use super::reader::{ReaderConfig, plain_tar};
use super::remark;
use super::samples::{Group, Original, SampleReader, Want};
use super::store::{Meter, Metered, Store, shown};
use super::tar::{TarEnd, TarReader};
use trommel_core::causes::Causes;
use trommel_core::credit::Permit;
use trommel_core::credit::workspace::Workspace;
use trommel_core::notices::Notices;
use trommel_core::sample::ShardOutcome;

/// Who looks at a shard's samples, in their order.
pub trait Visit {
    /// Why it gives up.
    type Error;

    /// Whether it knows itself how many samples are due, and misses those that do not come: the shard's statistics are not asked then.
    fn counts(&self) -> bool {
        false
    }

    /// What is wanted of the next sample.
    fn want(&mut self, index: u32, key: &[u8]) -> Want;

    /// Takes it, or the reject that it turned out to be, or its place alone. Whoever breaks wants no more of this shard.
    ///
    /// # Errors
    /// Whatever ends the reading at once.
    fn take(&mut self, group: Group) -> Result<ControlFlow<()>, Self::Error>;
}

/// How a shard's reading ended.
#[derive(Debug)]
pub struct Visited {
    /// Samples that were seen, rejects included.
    pub count: u32,
    /// How the shard ended, as far as it was read.
    pub outcome: ShardOutcome,
    /// Whether its bytes end or are damaged before the tar does.
    pub is_cut: bool,
    /// What was lost, or passed over.
    pub notices: Notices,
}

/// A shard that is being read, group by group, as they are asked for.
pub struct Groups {
    shard: ShardRef,
    announced: Option<u64>,
    meter: Arc<Meter>,
    samples: SampleReader<'static, Box<dyn BufRead + Send>>,
}

impl Groups {
    /// Opens a shard, nothing read yet but its beginning.
    ///
    /// # Errors
    /// How it ended, where it cannot be had or holds no tar.
    pub fn open(store: &dyn Store, shard: &ShardRef, config: &ReaderConfig) -> Result<Self, Visited> {
        let ended = |outcome| Visited { count: 0, outcome, is_cut: false, notices: Notices::default() };
        let gone = |why: String| ended(ShardOutcome::Unavailable(why));
        let (raw, meter) = Metered::open(store, &shard.url).map_err(|error| gone(Causes(&error).to_string()))?;
        let announced = raw.announced_bytes();
        if let (Some(planned), Some(now)) = (shard.bytes, announced)
            && planned != now
        {
            return Err(gone(format!(
                "{} has {now} bytes now and had {planned} when it was planned",
                shown(&shard.url)
            )));
        }
        let plain = match plain_tar(raw, &meter, &config.compression, Workspace::unbounded()) {
            Ok(plain) => Box::new(plain) as Box<dyn BufRead + Send>,
            Err(reason) => {
                let unavailable = |why| ShardOutcome::Unavailable(format!("{}: {why}", shown(&shard.url)));
                let outcome = meter.failure().map_or(ShardOutcome::Rejected(reason), unavailable);
                let notices = remark::lost(&outcome, 0, promised(store, &shard.url), &shard.name);
                return Err(Visited { notices, ..ended(outcome) });
            }
        };
        let tar = TarReader::new(plain, config.tar.clone()).keeping_heads();
        let samples = SampleReader::owning(tar, config.group.clone(), shard.ordinal);
        Ok(Self { shard: shard.clone(), announced, meter, samples })
    }

    /// The next group; `want` is asked once for every index, in order. `None` at the end.
    pub fn next_group(&mut self, want: &mut dyn FnMut(u32, &[u8]) -> Want) -> Option<Group> {
        let mut admit = |_| Ok::<_, Infallible>(Permit::free());
        let Ok(group) = self.samples.next_named_group(want, &mut admit);
        // What a failing store left half-read is no reject.
        group.filter(|_| self.meter.failure().is_none())
    }

    /// How the shard's reading has ended, or what is known of it where it is left early. Its statistics say what is due, in the `store` that they
    /// are looked for in; `None`: whoever reads it knows that better.
    #[must_use]
    pub fn end(&self, store: Option<&dyn Store>, left_early: bool) -> Visited {
        let outcome = match self.meter.failure() {
            Some(why) if !left_early => ShardOutcome::Unavailable(format!("{}: {why}", shown(&self.shard.url))),
            _ => remark::outcome(&self.samples),
        };
        let (count, name) = (self.samples.numbered(), &self.shard.name);
        let mut notices = remark::found(&self.samples, name);
        if !left_early {
            let due = store.map_or(Promised::Nothing, |store| promised(store, &self.shard.url));
            notices.merge(&remark::lost(&outcome, count, due, name));
        }
        let is_cut = matches!(self.samples.tar().end(), Some(TarEnd::Damaged { .. }));
        Visited { count, outcome, is_cut, notices }
    }
}

/// Shows a shard's samples to `visit`.
///
/// # Errors
/// What `visit` returns, at once.
pub fn visit<V: Visit>(
    store: &dyn Store,
    shard: &ShardRef,
    config: &ReaderConfig,
    visit: &mut V,
) -> Result<Visited, V::Error> {
    let mut groups = match Groups::open(store, shard, config) {
        Ok(groups) => groups,
        Err(visited) => return Ok(visited),
    };
    let mut left_early = false;
    while let Some(group) = groups.next_group(&mut |index, key| visit.want(index, key)) {
        if visit.take(group)?.is_break() {
            left_early = true;
            // Who writes into a pipe is not cut off; a file may be left.
            if groups.announced.is_some() {
                break;
            }
        }
    }
    Ok(groups.end((!visit.counts()).then_some(store), left_early))
}

/// Bytes of a name that a header holds.
const NAME_BYTES: usize = 100;

impl Original {
    /// Each member's extension and data, in the tar's order.
    pub fn contents(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.members.iter().map(|(extension, member)| {
            (extension.as_str(), self.bytes.get(member.data..member.data + member.size).unwrap_or_default())
        })
    }

    /// The same members under another key; `None` where one is stored with holes, whose names stand in several places.
    #[must_use]
    pub fn renamed(&self, key: &[u8]) -> Option<Vec<u8>> {
        if self.is_sparse {
            return None;
        }
        let mut out = Vec::with_capacity(self.bytes.len() + BLOCK);
        for (extension, member) in &self.members {
            let name = [key, b".", extension.as_bytes()].concat();
            let mut header = *self.bytes.get(member.header..)?.first_chunk::<BLOCK>()?;
            if name.len() > NAME_BYTES {
                out.extend_from_slice(&long_name(&name));
            }
            header[..NAME_BYTES].fill(0);
            let short = &name[..name.len().min(NAME_BYTES)];
            header[..short.len()].copy_from_slice(short);
            if &header[257..263] == b"ustar\0" {
                header[345..500].fill(0);
            }
            // A PAX header may have said the size, and goes with the name.
            finish(&mut header, member.size as u64);
            out.extend_from_slice(&header);
            let end = (member.data + member.size).next_multiple_of(BLOCK);
            out.extend_from_slice(self.bytes.get(member.data..end)?);
        }
        Some(out)
    }
}

/// GNU's header for a long name, and the name.
fn long_name(name: &[u8]) -> Vec<u8> {
    let mut header = [0; BLOCK];
    header[..13].copy_from_slice(b"././@LongLink");
    for (at, value) in [(100, b"0000644\0"), (108, b"0000000\0"), (116, b"0000000\0")] {
        header[at..at + 8].copy_from_slice(value);
    }
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = b'L';
    header[257..265].copy_from_slice(b"ustar  \0");
    finish(&mut header, name.len() as u64 + 1);
    let mut out = header.to_vec();
    out.extend_from_slice(name);
    out.resize((BLOCK + name.len() + 1).next_multiple_of(BLOCK), 0);
    out
}

/// Writes size and checksum.
fn finish(header: &mut [u8; BLOCK], size: u64) {
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[cfg(test)]
mod tests;
