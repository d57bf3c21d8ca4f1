//! The ledger's rows as joining needs them: who takes part, and the hash of each row's name.

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use trommel_columnar::parquet::{Column, ColumnType};
use trommel_core::sample::TAKEN_DOWN;

use crate::SelectError;
use crate::bits::Bits;
use crate::scan::{ROW_BYTES, ScanInput};
use crate::table::{JoinedTable, Mine, On};
use crate::values::{MISSING, Values};

/// The ledger's rows, as far as joining needs them.
pub(super) struct Names {
    /// Who could be judged at all.
    pub(super) read: Bits,
    /// Who takes part.
    pub(super) judged: Bits,
    /// By table, two words of each row's hash.
    pub(super) hashes: Vec<[Values; 2]>,
}

impl Names {
    pub(super) fn read(reading: &ScanInput<'_>, tables: &[JoinedTable]) -> Result<Self, SelectError> {
        let values = || Values::new(reading.folder, reading.in_memory);
        let hashes = tables.iter().map(|_| Ok([values()?, values()?])).collect::<Result<_, SelectError>>()?;
        let mut names = Self { read: Bits::default(), judged: Bits::default(), hashes };
        let wanted = [
            ("status", ColumnType::Text),
            ("reason", ColumnType::Text),
            ("key", ColumnType::Text),
            ("uid", ColumnType::Text),
        ];
        for window in reading.windows(ROW_BYTES + 16 * tables.len() as u64) {
            type Rows = (Vec<(bool, bool)>, Vec<[Vec<u64>; 2]>);
            let rows = |shard: &crate::scan::Shard| -> Result<Rows, SelectError> {
                let (mut fates, mut hashes) = (Vec::new(), vec![[Vec::new(), Vec::new()]; tables.len()]);
                for group in reading.ledger.columns(shard.ordinal, &wanted)? {
                    let group = group?;
                    let text = |column: usize, at: usize| match group.get(column) {
                        Some(Column::Text(values)) => values[at].as_deref(),
                        _ => None,
                    };
                    for at in 0..group.first().map_or(0, Column::len) {
                        let read = text(0, at) != Some("rejected");
                        fates.push((read, read && text(1, at) != Some(TAKEN_DOWN)));
                        for (table, hashes) in tables.iter().zip(&mut hashes) {
                            let name = match named_by(table) {
                                Some((_, Mine::Key)) => text(2, at),
                                Some((_, Mine::Uid)) => text(3, at),
                                None => None,
                            };
                            let scope = table.is_scoped.then_some(shard.name.as_str());
                            let words = name.map_or([MISSING; 2], |name| hash(scope, name));
                            hashes.iter_mut().zip(words).for_each(|(hashes, word)| hashes.push(word));
                        }
                    }
                }
                Ok((fates, hashes))
            };
            let all: Vec<Rows> = window.par_iter().map(rows).collect::<Result<_, SelectError>>()?;
            for (fates, hashes) in all {
                for (read, judged) in fates {
                    names.read.push(read);
                    names.judged.push(judged);
                }
                for (values, words) in names.hashes.iter_mut().flatten().zip(hashes.iter().flatten()) {
                    values.add(words)?;
                }
            }
        }
        Ok(names)
    }

    /// sha256 over a column's values of who takes part.
    pub(super) fn hash_of(&self, values: &Values) -> Result<String, SelectError> {
        let mut hash = Sha256::new();
        values.scan(|first, some| {
            for (row, value) in (first..).zip(some) {
                if self.judged.get(row) {
                    hash.update(value.to_le_bytes());
                }
            }
            Ok(())
        })?;
        Ok(format!("{:x}", hash.finalize()))
    }
}

/// 128 bits of a name; `shard` where the table tells of each shard's own.
pub(super) fn hash(shard: Option<&str>, name: &str) -> [u64; 2] {
    let mut hash = Sha256::new();
    if let Some(shard) = shard {
        hash.update((shard.len() as u64).to_le_bytes());
        hash.update(shard.as_bytes());
    }
    hash.update(name.as_bytes());
    let hash = hash.finalize();
    let word = |at: usize| hash[at..at + 8].iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    [word(0), word(8)]
}

/// The column by which rows in their place are checked, where there is one.
pub(super) fn check(table: &JoinedTable) -> Option<(&'static str, Mine)> {
    let has = |name: &str| table.columns.iter().any(|column| column == name);
    [("key", Mine::Key), ("uid", Mine::Uid)].into_iter().find(|(name, _)| has(name))
}

/// By what a table's rows are compared: the column, and the sample's own name.
pub(super) fn named_by(table: &JoinedTable) -> Option<(&str, Mine)> {
    match &table.on {
        On::Row => check(table),
        On::Column(column, mine) => Some((column, *mine)),
    }
}

/// What a row of the ledger is called.
pub(super) fn name_of(reading: &ScanInput<'_>, row: u64) -> Result<String, SelectError> {
    let at = reading.shards.partition_point(|shard| shard.first_row + shard.rows <= row);
    let Some(shard) = reading.shards.get(at) else { return Ok(String::new()) };
    let mut left = (row - shard.first_row) as usize;
    for group in reading.ledger.columns(shard.ordinal, &[("key", ColumnType::Text)])? {
        let group = group?;
        let Some(Column::Text(keys)) = group.first() else { continue };
        if let Some(key) = keys.get(left) {
            return Ok(format!("{}/{}", shard.name, key.as_deref().unwrap_or_default()));
        }
        left -= keys.len();
    }
    Ok(shard.name.clone())
}
