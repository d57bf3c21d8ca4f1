//! The bytes of a tar, block by block: read, kept where a member's headers are wanted, or passed over.

use std::io::{self, BufRead};

use super::{CUT_IN_HEADERS, Head, TarEnd, TarReader};
use crate::header::{BLOCK, Header};

/// Zeros behind the end mark are read up to here, so that a compressed stream's checksum is seen.
const MAX_TRAILING_BYTES: u64 = 1 << 20;

/// What stands behind an end mark.
pub(super) enum Trailing {
    Nothing,
    /// The header of a member.
    Tar,
    Bytes,
}

impl<R: BufRead> TarReader<R> {
    pub(super) fn trailing(&mut self) -> io::Result<Trailing> {
        for _ in 0..MAX_TRAILING_BYTES / BLOCK as u64 {
            let (block, have) = self.part()?;
            if block.iter().any(|&b| b != 0) {
                let is_header = have == BLOCK && Header::parse(&block).is_ok();
                return Ok(if is_header { Trailing::Tar } else { Trailing::Bytes });
            }
            if have < BLOCK {
                return Ok(Trailing::Nothing);
            }
        }
        // What goes on is not read, and so may be anything.
        Ok(if fill(&mut self.input)?.is_empty() { Trailing::Nothing } else { Trailing::Bytes })
    }

    /// The next bytes, a block of them where there are so many, and how many there are.
    fn part(&mut self) -> io::Result<([u8; BLOCK], usize)> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            let chunk = fill(&mut self.input)?;
            if chunk.is_empty() {
                break;
            }
            let take = chunk.len().min(BLOCK - have);
            block[have..have + take].copy_from_slice(&chunk[..take]);
            self.input.consume(take);
            self.position = self.position.saturating_add(take as u64);
            have += take;
        }
        Ok((block, have))
    }

    /// The next block; `None` at a clean end of the input.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarEnd> {
        let (block, have) = self.part().map_err(|error| self.damaged(self.position, error))?;
        tape(&mut self.head, &block[..have]);
        match have {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(self.damaged(self.position, "cut off inside a header")),
        }
    }

    pub(super) fn read_exactly(&mut self) -> Result<Vec<u8>, TarEnd> {
        let mut data = Vec::new();
        self.read_into(&mut data).map(|()| data)
    }

    /// Puts the data of the member at hand behind `data`.
    pub(super) fn read_into(&mut self, data: &mut Vec<u8>) -> Result<(), TarEnd> {
        while self.unread > 0 {
            let chunk = match fill(&mut self.input) {
                Ok(chunk) => chunk,
                Err(error) => return Err(self.damaged(self.position, error)),
            };
            if chunk.is_empty() {
                return Err(self.damaged(self.position, "cut off inside a member"));
            }
            let take = usize::try_from(self.unread).unwrap_or(usize::MAX).min(chunk.len());
            if data.capacity() - data.len() < take {
                // Doubling what has arrived, never beyond what is announced.
                let wanted = take.max(data.len());
                data.reserve_exact(usize::try_from(self.unread).unwrap_or(usize::MAX).min(wanted));
            }
            data.extend_from_slice(&chunk[..take]);
            tape(&mut self.head, &chunk[..take]);
            self.input.consume(take);
            self.position = self.position.saturating_add(take as u64);
            self.unread -= take as u64;
        }
        Ok(())
    }

    /// Passes over what is unread of the member at hand, and its padding; padding may be missing at the very end.
    pub(super) fn skip_rest(&mut self) -> Result<(), TarEnd> {
        let in_data = std::mem::take(&mut self.unread);
        if !self.skip(in_data)? {
            return Err(self.damaged(self.position, "cut off inside a member"));
        }
        let padding = std::mem::take(&mut self.padding);
        if self.skip(padding)? { Ok(()) } else { Err(TarEnd::NoMark { offset: self.position }) }
    }

    /// The same behind a long-name or PAX header, where the end of the bytes is no whole member's.
    pub(super) fn skip_extension(&mut self) -> Result<(), TarEnd> {
        self.skip_rest().map_err(|end| match end {
            TarEnd::NoMark { offset } => self.damaged(offset, CUT_IN_HEADERS),
            end => end,
        })
    }

    /// Whether all of `bytes` were there.
    fn skip(&mut self, bytes: u64) -> Result<bool, TarEnd> {
        let mut left = bytes;
        while left > 0 {
            let chunk = match fill(&mut self.input) {
                Ok(chunk) => chunk,
                Err(error) => return Err(self.damaged(self.position, error)),
            };
            if chunk.is_empty() {
                return Ok(false);
            }
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            tape(&mut self.head, &chunk[..take]);
            self.input.consume(take);
            self.position = self.position.saturating_add(take as u64);
            left -= take as u64;
        }
        Ok(true)
    }
}

/// Keeps bytes of a member's headers.
fn tape(head: &mut Option<Head>, bytes: &[u8]) {
    if let Some(head) = head.as_mut().filter(|head| head.open) {
        head.add(bytes);
    }
}

/// `fill_buf` that goes on after a signal.
fn fill<R: BufRead>(input: &mut R) -> io::Result<&[u8]> {
    loop {
        match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    input.fill_buf()
}

pub(super) fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}
