//! What processes say to each other, and how it lies on the wire.
//!
//! A frame is its length (u32, big-endian, at most [`MAX_FRAME_BYTES`]) and that many bytes of JSON.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::error::Loss;

/// The longest frame, in bytes. A message that is longer cannot be sent.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// A small message to another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// To process 0: a shard to read, please.
    Lease,
    /// From process 0: read this shard.
    Grant {
        /// Its ordinal in the plan.
        ordinal: u64,
        /// No later lease has a smaller ordinal.
        floor: u64,
    },
    /// From process 0: there are no more shards for anybody.
    NoMore,
    /// To process 0: this shard needs nobody any more.
    Committed {
        /// Its ordinal in the plan.
        ordinal: u64,
        /// It was given up.
        failed: bool,
    },
    /// Everybody winds down: begins nothing new, and finishes what was begun.
    Drain,
    /// Everybody stops.
    Stop,
    /// A text whose kind only its receivers know.
    Text {
        /// Who is to understand it.
        kind: String,
        /// The text itself.
        text: String,
    },
}

/// Numbers that a process shows to the others, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters(pub BTreeMap<String, f64>);

/// What goes over a control connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Frame {
    /// From process 0, at the start: where everybody listens.
    Table(Vec<String>),
    /// A sign of life, with the counters of the sender.
    Beat(Counters),
    /// For the handlers.
    Message(Message),
    /// My value at a barrier, or a piece of it; `more` pieces follow.
    Barrier { name: String, value: String, more: bool },
    /// I am about to end.
    Failed { line: String, status: u8 },
    /// To process 0: I have lost somebody.
    Suspect(Loss),
    /// Somebody is lost, and this is the name that everybody gives.
    Lost(Loss),
    /// I am done; my end is no loss.
    Goodbye,
}

impl Frame {
    /// The bytes on the wire, or how many there would be.
    pub(super) fn encode(&self) -> Result<Vec<u8>, usize> {
        let mut bytes = vec![0; 4];
        let written = serde_json::to_writer(&mut bytes, self);
        let length = bytes.len() - 4;
        if written.is_err() || length > MAX_FRAME_BYTES {
            return Err(length);
        }
        bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
        Ok(bytes)
    }

    fn decode(bytes: &[u8]) -> io::Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it sent what is no message"))
    }
}

/// Bytes of a piece: JSON writes a byte as six at most.
const PIECE_BYTES: usize = MAX_FRAME_BYTES / 8;

/// Cuts a text of any length into pieces that fit a frame, each with whether more follow. An empty text is one piece.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (piece, left) = text.split_at(text.floor_char_boundary(PIECE_BYTES));
        rest = (!left.is_empty()).then_some(left);
        Some((piece, rest.is_some()))
    })
}

fn length_of(head: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(head) as usize;
    if length > MAX_FRAME_BYTES {
        let why = format!("it announced a message of {length} bytes (at most {MAX_FRAME_BYTES})");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(length)
}

/// Cuts a stream into frames and tells of every byte that comes.
pub(super) struct Frames<F> {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    heard: F,
}

impl<F: FnMut()> Frames<F> {
    pub(super) fn new(stream: TcpStream, heard: F) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, heard }
    }

    /// The next frame; `None` at the end of the stream.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        let mut chunk = [0; 16 << 10];
        loop {
            let rest = &self.buffer[self.start..];
            if let Some((head, body)) = rest.split_first_chunk::<4>() {
                let length = length_of(*head)?;
                if body.len() >= length {
                    let frame = Frame::decode(&body[..length])?;
                    self.start += 4 + length;
                    return Ok(Some(frame));
                }
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            match self.stream.read(&mut chunk) {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its connection ended in a message")),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            (self.heard)();
        }
    }
}

/// Reads one frame and not a byte more, by the deadline.
pub(super) fn read_frame(stream: &TcpStream, deadline: Instant) -> io::Result<Frame> {
    let mut head = [0; 4];
    read_by(stream, &mut head, deadline)?;
    let mut body = vec![0; length_of(head)?];
    read_by(stream, &mut body, deadline)?;
    Frame::decode(&body)
}

/// Fills `bytes` by the deadline, however slowly they come.
pub(super) fn read_by(mut stream: &TcpStream, bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
