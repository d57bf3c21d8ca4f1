//! Decoders of zstd, xz and lzma that ask for their memory when a frame's header has said how much it is, and before they take it.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use liblzma::stream::{Action, CONCATENATED, Error, Status, Stream};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::CompressionLimits;
use crate::store::Meter;
use trommel_core::credit::workspace::{NoRoom, Workspace};

/// The memory of one shard's decoder.
pub(super) struct Room {
    pub workspace: Workspace,
    pub meter: Arc<Meter>,
    /// What takes the memory, as `zstd window`; for error texts.
    pub what: &'static str,
    /// How a file is compressed that every reader has memory for, and one that takes little of it.
    pub redo: [&'static str; 2],
    /// The most that a reader may need.
    pub most: u64,
    /// Whether plain bytes have come: then the reader may hold a sample's credit.
    pub begun: bool,
}

impl Room {
    /// Asks for `bytes`, of which what is there already is a part.
    fn need(&mut self, bytes: u64) -> io::Result<()> {
        let Self { what, redo: [most_redo, redo], most, .. } = *self;
        if bytes > most {
            let why = format!(
                "its {what} needs {bytes} bytes of memory, and a reader has {most} for it: compress it with `{most_redo}`"
            );
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, why));
        }
        let there = if self.begun { self.workspace.grow(bytes) } else { self.workspace.open(bytes) };
        there.map_err(|why| {
            // Another run may have room for it: nothing is wrong with the shard.
            let why = match why {
                NoRoom::Stopped => "stopped".to_owned(),
                NoRoom::Full { .. } => format!(
                    "its {what} needs {bytes} bytes of memory, and {why}: give more --memory, or compress it with `{redo}`"
                ),
            };
            self.meter.fail(why.clone());
            io::Error::other(why)
        })
    }
}

/// Longest header of a zstd frame (RFC 8878, 3.1.1.1).
const ZSTD_HEADER_BYTES: u64 = 18;

/// Any number of zstd frames.
pub(super) struct Zstd<R> {
    raw: R,
    room: Room,
    decoder: Decoder<'static>,
    /// The start of a frame, and how much of it the decoder has.
    head: Vec<u8>,
    taken: usize,
    between: bool,
}

impl<R: BufRead> Zstd<R> {
    pub(super) fn new(raw: R, room: Room, limits: &CompressionLimits) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(limits.max_zstd_window_log))?;
        Ok(Self { raw, room, decoder, head: Vec::new(), taken: 0, between: true })
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.between {
                // Of a frame shorter than the longest header, the next one's start has been read.
                self.head.drain(..self.taken);
                self.taken = 0;
                let missing = ZSTD_HEADER_BYTES - self.head.len() as u64;
                (&mut self.raw).take(missing).read_to_end(&mut self.head)?;
                if self.head.is_empty() {
                    return Ok(0);
                }
                self.room.need(zstd_window(&self.head).unwrap_or(0))?;
                self.between = false;
            }
            let headed = self.taken < self.head.len();
            let input = if headed { &self.head[self.taken..] } else { self.raw.fill_buf()? };
            let (mut given, mut out) = (InBuffer::around(input), OutBuffer::around(&mut *buffer));
            let hint = self.decoder.run(&mut given, &mut out)?;
            let (taken, written, ended) = (given.pos(), out.pos(), input.is_empty());
            if headed {
                self.taken += taken
            } else {
                self.raw.consume(taken)
            }
            self.between = hint == 0;
            if written > 0 {
                self.room.begun = true;
                return Ok(written);
            }
            if ended && hint != 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "incomplete frame"));
            }
        }
    }
}

/// The window that a zstd frame asks for (RFC 8878, 3.1.1.1).
fn zstd_window(first: &[u8]) -> Option<u64> {
    let [0x28, 0xb5, 0x2f, 0xfd, descriptor, rest @ ..] = first else { return None };
    if descriptor & 0x20 == 0 {
        let window = *rest.first()?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment: its content is its window.
    let skip = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let size = rest.get(skip..skip + length)?.iter().rev().fold(0u64, |size, byte| size << 8 | u64::from(*byte));
    Some(if length == 2 { size + 256 } else { size })
}

/// What a decoder of xz or lzma holds besides its dictionary.
const BESIDE_BYTES: u64 = 1 << 20;

/// The smallest memory that these decoders are given, a power of two.
const LEAST_BYTES: u64 = 4 << 20;

/// Any number of xz streams with any number of blocks, or one `.lzma`.
pub(super) struct Xz<R> {
    raw: R,
    room: Room,
    stream: Stream,
}

impl<R: BufRead> Xz<R> {
    pub(super) fn of_xz(raw: R, room: Room) -> io::Result<Self> {
        Ok(Self { raw, room, stream: Stream::new_stream_decoder(LEAST_BYTES, CONCATENATED)? })
    }

    pub(super) fn of_lzma(raw: R, room: Room) -> io::Result<Self> {
        Ok(Self { raw, room, stream: Stream::new_lzma_decoder(LEAST_BYTES)? })
    }

    /// The decoder stands at a block that needs more than it may have: it gets that, in powers of two.
    fn give_more(&mut self) -> io::Result<()> {
        let mut dictionary = LEAST_BYTES;
        loop {
            match self.stream.set_memlimit(dictionary + BESIDE_BYTES) {
                Ok(()) => return self.room.need(dictionary),
                Err(Error::MemLimit) if dictionary < 1 << 40 => dictionary *= 2,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<R: BufRead> Read for Xz<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let input = self.raw.fill_buf()?;
            let (ended, before) = (input.is_empty(), (self.stream.total_in(), self.stream.total_out()));
            let status = self.stream.process(input, buffer, if ended { Action::Finish } else { Action::Run });
            let [taken, written] = [self.stream.total_in() - before.0, self.stream.total_out() - before.1]
                .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
            self.raw.consume(taken);
            // Whatever ended the call, what it has written comes first; the decoder says the same again.
            if written > 0 && matches!(status, Ok(_) | Err(Error::MemLimit)) {
                self.room.begun = true;
                return Ok(written);
            }
            let status = match status {
                Err(Error::MemLimit) => {
                    self.give_more()?;
                    continue;
                }
                status => status?,
            };
            match status {
                Status::StreamEnd => return Ok(0),
                _ if ended => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "premature end")),
                _ if taken == 0 => return Err(io::Error::new(io::ErrorKind::InvalidData, "corrupt data")),
                _ => {}
            }
        }
    }
}
