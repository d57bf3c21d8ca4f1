//! TensorBoard's event files: scalars only, written by hand.
//!
//! A file is a row of TFRecords (u64 length, masked CRC-32C of it, data, masked CRC-32C of the data), each one `Event`
//! in protobuf: `wall_time` = 1 (double), `step` = 2 (int64), `file_version` = 3 (string), `summary` = 5, `session_log` =
//! 7; `Summary.value` = 1 with `tag` = 1 (string) and `simple_value` = 2 (float); `SessionLog.status` = 1 (START = 1).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::TrainError;
use trommel_core::durable::make_folder;

/// An event file being written.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of bytes: strings and messages.
fn field(out: &mut Vec<u8>, number: u64, data: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, data.len() as u64);
    out.extend_from_slice(data);
}

fn event(seconds: f64, step: u64, number: u64, data: &[u8]) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend_from_slice(&seconds.to_le_bytes());
    out.push(2 << 3);
    varint(&mut out, step);
    field(&mut out, number, data);
    out
}

fn masked_crc(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length));
    out.extend_from_slice(data);
    out.extend_from_slice(&masked_crc(data));
    out
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

impl EventWriter {
    /// Starts a new file in `folder`. `first_step` is where this process begins: readers drop what an earlier one wrote
    /// from there on.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create(folder: &Path, first_step: u64) -> Result<Self, TrainError> {
        make_folder(folder).map_err(TrainError::file(folder, "making the folder"))?;
        let seconds = now();
        let stem = format!("events.out.tfevents.{:010}.trommel.{}", seconds as u64, std::process::id());
        let mut attempt = 0u32;
        let (file, path) = loop {
            let path = folder.join(format!("{stem}.{attempt}"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (file, path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => attempt += 1,
                Err(error) => return Err(TrainError::file(&path, "creating")(error)),
            }
        };
        let mut this = Self { file, path };
        this.put(&event(seconds, 0, 3, b"brain.Event:2"))?;
        if first_step > 0 {
            this.put(&event(seconds, first_step, 7, &[1 << 3, 1]))?;
        }
        Ok(this)
    }

    /// Adds scalars of one step; they are in the file when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f32)]) -> Result<(), TrainError> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = Vec::new();
            field(&mut entry, 1, tag.as_bytes());
            entry.push(2 << 3 | 5);
            entry.extend_from_slice(&value.to_le_bytes());
            field(&mut summary, 1, &entry);
        }
        self.put(&event(now(), step, 5, &summary))
    }

    fn put(&mut self, data: &[u8]) -> Result<(), TrainError> {
        self.file.write_all(&record(data)).map_err(TrainError::file(&self.path, "writing"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    /// The bytes that TensorFlow's own writer makes of the same event (wall time 1.0, step 300).
    #[test]
    fn the_bytes_are_protobufs() {
        let bytes = event(1.0, 300, 3, b"hi");
        assert_eq!(bytes, [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0xac, 0x02, 0x1a, 0x02, b'h', b'i']);
        assert_eq!(record(b"").len(), 16);
    }

    #[test]
    fn two_writers_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        for first_step in [0, 7] {
            let mut writer = EventWriter::create(folder.path(), first_step).unwrap();
            writer.scalars(first_step, &[("train/loss", 1.5), ("train/lr", 0.25)]).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
