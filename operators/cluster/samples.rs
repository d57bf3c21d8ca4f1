//! Kept samples that move to another rank's trainer, as bytes.
//!
//! ```text
//!  process p: fetch(q, wanted) ── count, (pass, ordinal, index).. ──▶ process q: a serving thread for p
//!             in order         ◀─ length or NONE, bytes.. ──────────   Holding::take
//! ```
//!
//! Two connections a pair, one for each direction of asking, so that bytes never wait behind questions. Who asks has the
//! credit for what it asks for. Numbers are big-endian; questions are cut into pieces of at most [`ASKED_AT_ONCE`].

use std::io::{self, BufWriter, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;

use super::Sockets;
use super::control::Control;
use super::error::ClusterError;
use trommel_core::sample::SampleId;
use trommel_core::wake::locked;

/// Samples in one question on the wire.
pub const ASKED_AT_ONCE: usize = 1024;
/// The longest sample, in bytes.
pub const MAX_SAMPLE_BYTES: u64 = 1 << 30;
/// In place of a length: the sample is not held.
const NONE: u64 = u64::MAX;
/// Bytes of one wanted sample on the wire.
const WANTED_BYTES: usize = 16;

/// What a process holds for the others.
pub trait Holding: Send + Sync {
    /// The sample's bytes, which then are held no longer; `None` where it is not held. Called on serving threads, and
    /// on the asking thread for the process's own; it may block.
    fn take(&self, pass: u32, id: SampleId) -> Option<Vec<u8>>;
}

/// Asks other processes for samples.
pub struct Samples {
    control: Control,
    holding: Arc<dyn Holding>,
    asks: Vec<Option<Mutex<TcpStream>>>,
}

impl Samples {
    pub(super) fn start(
        control: &Control,
        asks: Sockets,
        serves: Sockets,
        holding: Arc<dyn Holding>,
    ) -> Result<Self, ClusterError> {
        let both = asks.iter().enumerate().chain(serves.iter().enumerate());
        for (process, stream) in both.filter_map(|(process, stream)| Some((process, stream.as_ref()?))) {
            control.attach(process, stream.try_clone().map_err(ClusterError::system("a connection"))?);
        }
        for (process, stream) in serves.into_iter().enumerate() {
            let Some(stream) = stream else { continue };
            let holding = holding.clone();
            let serve = move || {
                if let Err(error) = serve(&stream, &*holding) {
                    tracing::debug!(process, %error, "no more samples are asked for");
                }
            };
            let thread = thread::Builder::new().name(format!("cluster-samples-{process}")).spawn(serve);
            thread.map_err(ClusterError::system("a thread that serves samples"))?;
        }
        let asks = asks.into_iter().map(|stream| stream.map(Mutex::new)).collect();
        Ok(Self { control: control.clone(), holding, asks })
    }

    /// Fetches samples from process `from` (which may be this one); blocks. Answers come in the order of `wanted`.
    /// One question at a time goes to a process; others wait for their turn.
    ///
    /// # Errors
    /// When the connection fails, or the process is lost.
    pub fn fetch(&self, from: usize, wanted: &[(u32, SampleId)]) -> Result<Vec<Option<Vec<u8>>>, ClusterError> {
        if from == self.control.process() {
            return Ok(wanted.iter().map(|(pass, id)| self.holding.take(*pass, *id)).collect());
        }
        let failed = |cause: io::Error| {
            let (process, address) = (from, self.control.address(from));
            self.control.loss().map_or(ClusterError::Connection { process, address, cause }, ClusterError::Lost)
        };
        let Some(Some(stream)) = self.asks.get(from) else {
            return Err(failed(io::Error::new(io::ErrorKind::NotFound, "there is no such process")));
        };
        let stream = locked(stream);
        let mut given = Vec::with_capacity(wanted.len());
        for wanted in wanted.chunks(ASKED_AT_ONCE) {
            ask(&stream, wanted, &mut given).map_err(failed)?;
        }
        Ok(given)
    }
}

fn ask(mut stream: &TcpStream, wanted: &[(u32, SampleId)], given: &mut Vec<Option<Vec<u8>>>) -> io::Result<()> {
    let mut question = Vec::with_capacity(4 + wanted.len() * WANTED_BYTES);
    question.extend((wanted.len() as u32).to_be_bytes());
    for (pass, id) in wanted {
        question.extend(pass.to_be_bytes());
        question.extend(id.ordinal.to_be_bytes());
        question.extend(id.index.to_be_bytes());
    }
    stream.write_all(&question)?;
    for _ in wanted {
        let mut length = [0; 8];
        stream.read_exact(&mut length)?;
        let length = u64::from_be_bytes(length);
        if length == NONE {
            given.push(None);
            continue;
        }
        if length > MAX_SAMPLE_BYTES {
            return Err(invalid(format!("a sample of {length} bytes was announced")));
        }
        // Memory is taken as the bytes come, not as they are announced.
        let mut bytes = Vec::with_capacity(length.min(1 << 20) as usize);
        if stream.take(length).read_to_end(&mut bytes)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        given.push(Some(bytes));
    }
    Ok(())
}

/// Answers questions to the end of the connection.
pub(super) fn serve(stream: &TcpStream, holding: &dyn Holding) -> io::Result<()> {
    let (mut questions, mut answers) = (stream, BufWriter::with_capacity(64 << 10, stream));
    loop {
        let mut count = [0; 4];
        questions.read_exact(&mut count)?;
        let count = u32::from_be_bytes(count) as usize;
        if count > ASKED_AT_ONCE {
            return Err(invalid(format!("{count} samples were asked for at once")));
        }
        let mut wanted = vec![0; count * WANTED_BYTES];
        questions.read_exact(&mut wanted)?;
        for wanted in wanted.chunks_exact(WANTED_BYTES) {
            let (pass, rest) = wanted.split_at(4);
            let (ordinal, index) = rest.split_at(8);
            let id = SampleId { ordinal: u64::from_be_bytes(fixed(ordinal)), index: u32::from_be_bytes(fixed(index)) };
            let held = holding.take(u32::from_be_bytes(fixed(pass)), id);
            let held = held.filter(|bytes| bytes.len() as u64 <= MAX_SAMPLE_BYTES);
            answers.write_all(&held.as_ref().map_or(NONE, |bytes| bytes.len() as u64).to_be_bytes())?;
            answers.write_all(&held.unwrap_or_default())?;
        }
        answers.flush()?;
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("split to size")
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
