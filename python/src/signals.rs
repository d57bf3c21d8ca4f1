//! Ctrl-C while bytes are awaited. The interpreter looks for signals between its own instructions, and one call into this library may pass over
//! gigabytes of a shard, or wait for a pipe: so whoever reads looks too.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use pyo3::prelude::*;
use trommel_core::names::STDIN;
use trommel_shard::store::{ByteSource, Entry, FileInfo, Local, Store, StoreError, local_path};

/// Bytes between two looks: some milliseconds of a disk.
const LOOK_BYTES: usize = 16 << 20;
/// Time between two looks, in milliseconds, while nobody writes to a pipe.
const LOOK_MS: i32 = 100;

thread_local! {
    /// What a signal's handler has raised in the midst of a call of this thread.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Files of this machine, whose reading ends where a signal's handler raises: call [`raised`] after it.
#[derive(Default)]
pub struct Interruptible(Local);

/// What a handler has raised since the last time, in place of what came of it.
pub fn raised() -> PyResult<()> {
    RAISED.take().map_or(Ok(()), Err)
}

impl Store for Interruptible {
    fn list(&self, url: &str) -> Result<Vec<Entry>, StoreError> {
        self.0.list(url)
    }

    fn open(&self, url: &str) -> Result<Box<dyn ByteSource>, StoreError> {
        Ok(Box::new(Source { bytes: self.0.open(url)?, url: url.into() }))
    }

    fn look(&self, url: &str) -> Result<FileInfo, StoreError> {
        self.0.look(url)
    }

    fn probe(&self, url: &str) -> Result<(), StoreError> {
        self.0.probe(url)
    }
}

struct Source {
    bytes: Box<dyn ByteSource>,
    url: String,
}

impl ByteSource for Source {
    fn open_at(&self, byte: u64) -> Result<Box<dyn Read + Send>, StoreError> {
        // Whoever reads would go on from the byte that it has reached.
        if RAISED.with_borrow(Option::is_some) {
            return Err(StoreError::io(&self.url, interrupted()));
        }
        let bytes: Box<dyn Read + Send> = match pipe(&self.url).filter(|_| byte == 0) {
            Some(pipe) => Box::new(open_pipe(pipe).map_err(|error| StoreError::io(&self.url, error))?),
            None => self.bytes.open_at(byte)?,
        };
        Ok(Box::new(Reader { bytes, since: 0 }))
    }

    fn announced_bytes(&self) -> Option<u64> {
        self.bytes.announced_bytes()
    }
}

/// The path of a named pipe; `None` for whatever else is there.
fn pipe(url: &str) -> Option<&Path> {
    let path = local_path(url).filter(|_| url != STDIN)?;
    std::fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo()).then_some(path)
}

/// Opens a named pipe, as soon as bytes or their end come from it. The system would wait for who writes to it in one call that no signal ends.
fn open_pipe(path: &Path) -> io::Result<File> {
    let pipe = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut wanted = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: one pollfd is given, which outlives the call, and its file is open.
        match unsafe { libc::poll(&raw mut wanted, 1, LOOK_MS) } {
            0 => look()?,
            -1 => match io::Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted => look()?,
                error => return Err(error),
            },
            _ => break,
        }
    }
    // SAFETY: the file is open; from here on its reading waits, as that of others does.
    match unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(pipe),
    }
}

struct Reader {
    bytes: Box<dyn Read + Send>,
    /// Bytes since the last look.
    since: usize,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since >= LOOK_BYTES {
            self.since = 0;
            look()?;
        }
        loop {
            match self.bytes.read(buffer) {
                // Whoever calls would try again, and no handler would run.
                Err(error) if error.kind() == ErrorKind::Interrupted => look()?,
                read => {
                    self.since += read.as_ref().map_or(0, |bytes| *bytes);
                    return read;
                }
            }
        }
    }
}

/// Lets handlers run. Only Python's main thread has any.
fn look() -> io::Result<()> {
    Python::attach(|py| py.check_signals()).map_err(|error| {
        RAISED.set(Some(error));
        interrupted()
    })
}

/// Of a kind after which nobody tries again.
fn interrupted() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, "interrupted")
}
