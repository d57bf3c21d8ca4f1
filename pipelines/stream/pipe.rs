//! Kept samples as one tar on standard output.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use trommel_core::notices::Notices;
use trommel_core::sample::SampleInfo;
use trommel_shard::plan::{Plan, ShardRef};
use trommel_shard::samples::Original;

use super::{Cursor, Ended, Sink, StreamReport, is_trainable, renamed};
use crate::error::PipelineError;

/// Bytes that are written at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// A tar's end mark: two blocks of zeros.
pub(super) const END: [u8; 1024] = [0; 1024];

/// Standard output, unbuffered by anybody else.
pub(super) struct Pipe {
    out: File,
    buffer: Vec<u8>,
    /// The last sample's key: as it came, and as it was written.
    last_keys: [Vec<u8>; 2],
    report: StreamReport,
}

impl Pipe {
    pub fn open() -> Result<Self, PipelineError> {
        let out = io::stdout().as_fd().try_clone_to_owned().map_err(PipelineError::failed)?;
        Ok(Self { out: out.into(), buffer: Vec::new(), last_keys: Default::default(), report: StreamReport::default() })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.report.bytes += bytes.len() as u64;
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.write()?;
        }
        // What fills a buffer alone needs none.
        if bytes.len() >= BUFFER_BYTES {
            return written(self.out.write_all(bytes));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn write(&mut self) -> Result<(), Ended> {
        let outcome = written(self.out.write_all(&self.buffer));
        self.buffer.clear();
        outcome
    }
}

fn written(outcome: io::Result<()>) -> Result<(), Ended> {
    outcome.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Ended::ReaderGone,
        _ => Ended::Failed(PipelineError::failed(error).within("standard output")),
    })
}

impl Sink for Pipe {
    fn resume(&mut self, _: &mut Notices) -> Cursor {
        Cursor::default()
    }

    fn written(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn samples(&self) -> u64 {
        self.report.samples
    }

    fn add(
        &mut self,
        shard: &ShardRef,
        (info, original): &(&SampleInfo, Original),
        notices: &mut Notices,
    ) -> Result<(), Ended> {
        // Readers take neighbours of one key for one sample.
        let is_last = |key: &[u8]| self.last_keys.iter().any(|last| last == key);
        let written = if is_last(&original.key) {
            let Some((key, bytes)) = renamed(shard, info, original, notices, is_last) else { return Ok(()) };
            self.put(&bytes)?;
            key
        } else {
            self.put(&original.bytes)?;
            original.key.clone()
        };
        self.last_keys = [original.key.clone(), written];
        self.report.samples += 1;
        self.report.train_num_samples += u64::from(is_trainable(original));
        Ok(())
    }

    fn finish(&mut self, plan: &Plan, notices: &Notices) -> Result<StreamReport, PipelineError> {
        match self.put(&END).and_then(|()| self.write()) {
            Ok(()) | Err(Ended::ReaderGone) => {}
            Err(Ended::Failed(error)) => return Err(error),
        }
        let report = StreamReport { shards: plan.len() as u64, notices: notices.clone(), ..self.report.clone() };
        Ok(report)
    }
}
