//! Files by pyarrow and polars, in all their codecs, encodings and kinds of text, where a Python that has them is named by
//! `TROMMEL_PEERS`: `tests/peers/columns.py` writes them, and every value is compared.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::Path;
use std::process::Command;

use super::ColumnarError;
use super::embeddings::EmbeddingSet;
use super::parquet::{Column, ColumnType, TableReader};
use trommel_core::causes::Causes;

const WANTED: [(&str, ColumnType); 4] =
    [("f64", ColumnType::F64), ("text", ColumnType::Text), ("u64", ColumnType::U64), ("u32", ColumnType::U32)];

fn read(path: &Path, wanted: &[(&str, ColumnType)]) -> Result<Vec<Column>, ColumnarError> {
    let mut columns: Vec<Column> = wanted.iter().map(|&(_, kind)| Column::new(kind)).collect();
    let table = TableReader::open(path, Box::new(File::open(path).unwrap()), wanted)?;
    let rows = table.rows();
    for batch in table {
        for (all, some) in columns.iter_mut().zip(batch?) {
            match (all, some) {
                (Column::Text(all), Column::Text(some)) => all.extend(some),
                (Column::U32(all), Column::U32(some)) => all.extend(some),
                (Column::U64(all), Column::U64(some)) => all.extend(some),
                (Column::F64(all), Column::F64(some)) => all.extend(some),
                (all, some) => panic!("{:?} in a column of {:?}", some.kind(), all.kind()),
            }
        }
    }
    assert!(columns.iter().all(|column| column.len() as u64 == rows), "{}", path.display());
    Ok(columns)
}

/// `[text, u32, u64, bits of f64]`, of which the first `rows`, or those without a null.
fn truth(table: &serde_json::Value, rows: usize, full: bool) -> Vec<Column> {
    let number = |column: usize, row: usize| table[column][row].as_u64();
    let kept: Vec<usize> =
        (0..rows).filter(|&row| !full || (0..4).all(|column| !table[column][row].is_null())).collect();
    vec![
        Column::F64(kept.iter().map(|&row| number(3, row).map(f64::from_bits)).collect()),
        Column::Text(kept.iter().map(|&row| table[0][row].as_str().map(String::from)).collect()),
        Column::U64(kept.iter().map(|&row| number(2, row)).collect()),
        Column::U32(kept.iter().map(|&row| number(1, row).map(|value| value as u32)).collect()),
    ]
}

fn compare_tables(out: &Path) -> usize {
    let table: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("table.json")).unwrap()).unwrap();
    let rows = table[0].as_array().unwrap().len();
    let index = std::fs::read_to_string(out.join("index.tsv")).unwrap();
    for line in index.lines() {
        let (name, holds) = line.split_once('\t').unwrap();
        let path = out.join(name);
        if let Some(word) = holds.strip_prefix("bad ") {
            let error = read(&path, &WANTED).err().unwrap_or_else(|| panic!("{name} was read"));
            let error = Causes(&error).to_string();
            assert!(error.contains(word) && error.contains(name), "{error}");
            eprintln!("{}", error.rsplit('/').next().unwrap());
        } else if holds == "million" {
            let texts = read(&path, &[("text", ColumnType::Text)]).unwrap();
            assert!(texts == [Column::Text((0..1_000_000).map(|i| Some(format!("img{i:07}"))).collect())], "{name}");
        } else {
            let due = truth(&table, holds.parse().unwrap_or(rows), holds == "full");
            let read = read(&path, &WANTED).unwrap_or_else(|error| panic!("{error}"));
            for (read, due) in read.iter().zip(&due) {
                assert!(read == due, "{name}: {:?}", read.kind());
            }
        }
    }
    index.lines().count()
}

fn compare_embeddings(out: &Path) -> usize {
    let vectors = EmbeddingSet::open(&out.join("vectors.npy")).unwrap();
    let index = std::fs::read_to_string(out.join("arrow.tsv")).unwrap();
    for line in index.lines() {
        let (name, holds) = line.split_once('\t').unwrap();
        let read = EmbeddingSet::open(&out.join(name));
        if let Some(word) = holds.strip_prefix("bad ") {
            let error = Causes(&read.err().unwrap_or_else(|| panic!("{name} was read"))).to_string();
            assert!(error.contains(word) && error.contains(name), "{error}");
            continue;
        }
        let (read, rows) = (read.unwrap(), holds.parse::<usize>().unwrap());
        assert_eq!((read.len(), read.dim), (rows, vectors.dim), "{name}");
        assert!(read.vectors == vectors.vectors[..rows * vectors.dim], "{name}");
        assert!(read.keys.iter().enumerate().all(|(row, key)| *key == format!("k{row}")), "{name}");
        let label = |row| (row % 3 != 0).then(|| format!("label {}", row % 50));
        assert!(read.labels.iter().enumerate().all(|(row, seen)| *seen == label(row)), "{name}");
    }
    index.lines().count()
}

#[test]
fn files_of_other_writers_hold_what_their_writers_read() {
    let Some(python) = crate::skipped::peer("pyarrow and polars") else { return };
    let out = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/columns.py");
    let output = Command::new(python).arg(script).arg(out.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(compare_tables(out.path()) > 70);
    assert!(compare_embeddings(out.path()) > 20);
    // Where texts and numbers are read alike, both are what is due.
    let path = out.path().join("bad_binary.parquet");
    let error = TableReader::open_any(&path, Box::new(File::open(&path).unwrap()), &["text"]).err().unwrap();
    assert!(error.to_string().contains("; a text or a number is due"), "{error}");
}
