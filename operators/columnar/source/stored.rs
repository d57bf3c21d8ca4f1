//! One file of a set as it is stored: an Arrow IPC file, or a matrix of numpy's with the table beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use crate::ColumnarError;
use crate::canonical::{is_unit, widen};
use crate::ipc::{IpcReader, META_FOREIGN, META_IDENTITY};
use crate::matrix::MatrixReader;
use crate::npy::StoredRows;
use crate::pieces::Piece;
use trommel_core::sample::Identity;

/// A file's reader: it gives rows as they are stored.
pub(super) enum Stored {
    Ipc(IpcReader),
    Matrix(MatrixReader),
}

impl Stored {
    /// Elements of a vector, whether rows carry radii, and who made them.
    pub(super) fn head(&self, path: &Path) -> Result<(usize, bool, Option<Identity>), ColumnarError> {
        match self {
            Self::Matrix(reader) => Ok((reader.dim(), false, None)),
            Self::Ipc(reader) => {
                let identity = reader
                    .metadata()
                    .get(META_IDENTITY)
                    .map(|text| serde_json::from_str(text))
                    .transpose()
                    .map_err(ColumnarError::metadata(path, META_IDENTITY))?;
                Ok((reader.dim(), reader.has_radii(), identity))
            }
        }
    }

    /// All that the file says of itself; `None` where it is numpy's.
    pub(super) fn metadata(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Self::Ipc(reader) => Some(reader.metadata()),
            Self::Matrix(_) => None,
        }
    }

    /// See [`EmbeddingsHead::foreign`](super::EmbeddingsHead::foreign).
    pub(super) fn is_foreign(&self) -> bool {
        match self {
            Self::Ipc(reader) => reader.metadata().contains_key(META_FOREIGN),
            Self::Matrix(reader) => reader.is_f16(),
        }
    }

    /// The column of keys, where it holds numbers.
    pub(super) fn numeric_key(&self) -> Option<&str> {
        match self {
            Self::Ipc(_) => None,
            Self::Matrix(reader) => reader.numeric_key(),
        }
    }

    /// Whether every row with a direction has norm 1 within the tolerance. Reads to the end.
    pub(super) fn all_unit(&mut self, dim: usize) -> Result<bool, ColumnarError> {
        let mut wide = Vec::new();
        loop {
            let batch = match self {
                Self::Ipc(reader) => reader.next().transpose()?,
                Self::Matrix(reader) => reader.next_rows()?,
            };
            let Some(batch) = batch else { return Ok(true) };
            if let StoredRows::F16(values) = &batch.rows {
                for row in values.chunks_exact(dim) {
                    widen(row, &mut wide);
                    if !is_unit(&wide) {
                        return Ok(false);
                    }
                }
            }
        }
    }
}

/// Opens a file; also whether it stores f16.
pub(super) fn open_piece(piece: &Piece, details: bool) -> Result<(Stored, bool), ColumnarError> {
    let (vectors, array, keys) = match piece {
        Piece::Ipc(path) => {
            let file = File::open(path).map_err(|e| ColumnarError::io(path, e))?;
            let reader = IpcReader::open(path, Box::new(BufReader::with_capacity(1 << 18, file)))?;
            return Ok((Stored::Ipc(reader), true));
        }
        Piece::Npy { vectors, keys } => (vectors, None, keys),
        Piece::Npz { vectors, array, keys } => (vectors, Some(array.as_str()), keys),
    };
    let reader = MatrixReader::open(vectors, array, keys.as_deref(), details)?;
    let is_f16 = reader.is_f16();
    Ok((Stored::Matrix(reader), is_f16))
}
