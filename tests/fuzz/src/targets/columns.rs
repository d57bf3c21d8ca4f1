//! Column files: npy, Arrow IPC, Parquet.

use std::io::Cursor;
use std::path::Path;

use trommel_columnar::canonical::norm;
use trommel_columnar::ipc::IpcReader;
use trommel_columnar::npy::{self, StoredRows};
use trommel_columnar::parquet::{Column, ColumnType, TableReader};
use trommel_columnar::source::EmbeddingReader;

use crate::{Limits, Outcome, Target, as_it_is, stored, with_file};

pub(super) fn targets() -> Vec<Target> {
    // Of a table: a page and a dictionary for each of its five columns, 256 MiB each. Of a file of embeddings: 64 MiB and 256 bytes for each.
    let limits = Limits { input_bytes: 16 << 10, heap_bytes: 1 << 20, ..Limits::default() };
    vec![
        Target {
            name: "npy",
            about: "numpy's matrices",
            seeds: || stored("npy"),
            words: &[
                b"'<f2'",
                b"'<f4'",
                b"'<f8'",
                b"'descr':",
                b"'shape': (",
                b"'fortran_order': True",
                b"\x93NUMPY\x02\0",
                b"(1, 65536)",
                b"(0, 4)",
            ],
            mend: as_it_is,
            limits,
            run: matrix,
        },
        Target {
            name: "arrow",
            about: "a file of embeddings in Arrow IPC",
            seeds: || stored("arrow"),
            words: &[b"ARROW1", b"\xff\xff\xff\xff", b"key", b"embedding", b"radius", b"index", b"trommel.schema"],
            mend: as_it_is,
            limits: Limits { heap_bytes: 160 << 20, ..limits },
            run: embeddings,
        },
        Target {
            name: "embeddings",
            about: "a file of embeddings, from its bytes to canonical rows",
            seeds: || [stored("npy"), stored("arrow")].concat(),
            words: &[b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\x01\0\0\0", b"\0\x7c", b"\x01\0\x01\0", b"\0\x3c\0\x3c"],
            mend: as_it_is,
            limits: Limits { heap_bytes: 160 << 20, ..limits },
            run: canonical,
        },
        Target {
            name: "parquet",
            about: "a table in Parquet",
            seeds: || stored("parquet"),
            words: &[b"PAR1", b"\x15\0\x15", b"\x15\x04", b"\x19\x1c", b"\x15\x06\x15", b"key", b"label"],
            mend: as_it_is,
            limits: Limits { heap_bytes: 600 << 20, ..limits },
            run: table,
        },
    ]
}

/// The beginning of an error.
fn said(error: &dyn std::fmt::Display) -> String {
    error.to_string().chars().take(160).collect()
}

fn matrix(input: &[u8]) -> Outcome {
    let path = Path::new("x");
    let mut bytes = Cursor::new(input);
    let head = match npy::read_head(path, &mut bytes, input.len() as u64) {
        Ok(head) => head,
        Err(error) => return Ok(said(&error)),
    };
    let cells = head.rows.checked_mul(head.dim as u64).ok_or("a size beyond all files")?;
    if head.offset + cells * head.element.bytes() != input.len() as u64 {
        return Err(format!("{head:?} of {} bytes", input.len()));
    }
    let rows = npy::read_rows(path, &mut bytes, &head, head.rows as usize).map_err(|error| said(&error))?;
    let read = match rows {
        StoredRows::F16(values) => values.len(),
        StoredRows::F32(values) => values.len(),
    };
    if read as u64 == cells {
        Ok(format!("{:?} {}", head.element, cells.min(2)))
    } else {
        Err(format!("{read} of {cells}"))
    }
}

fn embeddings(input: &[u8]) -> Outcome {
    let reader = match IpcReader::open(Path::new("x"), Box::new(Cursor::new(input.to_vec()))) {
        Ok(reader) => reader,
        Err(error) => return Ok(said(&error)),
    };
    let dim = reader.dim();
    for (at, batch) in reader.enumerate() {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return Ok(said(&error)),
        };
        let rows = batch.labels.len();
        let cells = match &batch.rows {
            StoredRows::F16(values) => values.len(),
            StoredRows::F32(values) => values.len(),
        };
        let fits = |length: usize| length == rows || length == 0;
        let fit = batch.shards.len() == rows
            && batch.indices.len() == rows
            && fits(batch.keys.len())
            && fits(batch.radii.len());
        if cells != rows * dim || !fit {
            return Err(format!("batch {at}: columns of different lengths, {rows} rows of {dim} and {cells} elements"));
        }
    }
    Ok(format!("read {}", dim.min(2)))
}

/// Rows with a direction have length one, up to the rounding of f16; the others are named, and all zeros.
fn canonical(input: &[u8]) -> Outcome {
    with_file(if input.starts_with(b"ARROW1") { "x.arrow" } else { "x.npy" }, input, |path| {
        let reader = match EmbeddingReader::open(path) {
            Ok(reader) => reader,
            Err(error) => return Ok(said(&error.to_string().replace(&path.display().to_string(), ""))),
        };
        let (dim, mut rows, mut without) = (reader.dim(), 0u64, 0);
        for batch in reader {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Ok(said(&error.to_string().replace(&path.display().to_string(), ""))),
            };
            if batch.first_row != rows || batch.vectors.len() != batch.labels.len() * dim {
                return Err(format!(
                    "row {rows}: a batch from {} on, {} elements",
                    batch.first_row,
                    batch.vectors.len()
                ));
            }
            for (at, row) in batch.vectors.chunks_exact(dim).enumerate() {
                let bad = batch.bad.iter().any(|(row, _)| *row == at);
                match norm(row.iter().map(|value| value.to_f64())) {
                    Ok(length) if !bad && (length - 1.0).abs() < 1.1e-3 => {}
                    Err(_) if bad => without += 1,
                    length => return Err(format!("row {at}: {row:?}, of length {length:?}; named as bad: {bad}")),
                }
            }
            rows += batch.labels.len() as u64;
        }
        Ok(format!("{} {}", rows.min(2), without.min(2)))
    })
}

fn table(input: &[u8]) -> Outcome {
    let wanted = [
        ("key", ColumnType::Text),
        ("label", ColumnType::Text),
        ("n", ColumnType::U32),
        ("m", ColumnType::U64),
        ("x", ColumnType::F64),
    ];
    let open = |wanted: &[(&str, ColumnType)]| {
        TableReader::open(Path::new("x"), Box::new(Cursor::new(input.to_vec())), wanted)
    };
    let mut told = String::new();
    // All together, and each by itself: what is wrong with one column does not hide the others.
    for wanted in [&wanted[..]].into_iter().chain(wanted.chunks(1)) {
        let reader = match open(wanted) {
            Ok(reader) => reader,
            Err(error) => {
                told += &said(&error);
                continue;
            }
        };
        let (stated, mut read, mut failed) = (reader.rows(), 0u64, false);
        for batch in reader {
            match batch {
                Ok(columns) => {
                    let rows = columns.first().map_or(0, Column::len);
                    if columns.len() != wanted.len() || columns.iter().any(|column| column.len() != rows) {
                        return Err("columns of different lengths".into());
                    }
                    read += rows as u64;
                }
                Err(error) => {
                    failed = true;
                    told += &said(&error);
                }
            }
        }
        if !failed && read != stated {
            return Err(format!("{read} rows of {stated}, and no error"));
        }
    }
    Ok(told)
}
