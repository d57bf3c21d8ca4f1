//! Rows that are found by their names: a share of all hashes at a time, so that memory is bounded.

use std::collections::HashMap;

use trommel_columnar::parquet::Column;

use super::answers::{Answers, cell};
use super::names::{Names, name_of, named_by};
use crate::SelectError;
use crate::scan::ScanInput;
use crate::table::{JoinedTable, Mine, On};
use crate::values::{MISSING, Values};

/// Bytes of a table's row while its share is held, beside eight for each answer.
const HELD_ROW_BYTES: u64 = 64;

impl Answers {
    /// The answers of rows that are found by their names.
    pub(super) fn by_name(
        self,
        reading: &ScanInput<'_>,
        table: &JoinedTable,
        names: &Names,
        number: usize,
        held_bytes: u64,
        remarks: &mut Vec<String>,
    ) -> Result<Vec<Values>, SelectError> {
        let path = table.path.display();
        let row_bytes = HELD_ROW_BYTES + 8 * self.answers.len() as u64;
        let shares = (self.rows * row_bytes).div_ceil(held_bytes.max(1 << 20)).max(1);
        let mut found: Vec<Share> = Vec::new();
        let (mut missing, mut first_missing, mut used) = (0, None, 0);
        for share in 0..shares {
            let held = self.hold(table, share, shares)?;
            let mut out = Share::new(reading, self.answers.len())?;
            let mut used_rows = vec![false; held.rows.len()];
            let mine = &names.hashes[number];
            let mut twice = None;
            mine[0].scan(|first, high| {
                let low = mine[1].read(first..first + high.len() as u64)?;
                for ((row, &high), low) in (first..).zip(high).zip(low) {
                    if high % shares != share || !names.judged.get(row) {
                        continue;
                    }
                    match held.rows.get(&[high, low]).filter(|_| [high, low] != [MISSING; 2]) {
                        Some(&at) => {
                            let at = at as usize;
                            if std::mem::replace(&mut used_rows[at], true) {
                                twice.get_or_insert(row);
                            } else {
                                used += 1;
                            }
                            out.add(row, &held.answers[at * self.answers.len()..(at + 1) * self.answers.len()])?;
                        }
                        None => {
                            missing += 1;
                            first_missing = Some(first_missing.map_or(row, |first: u64| first.min(row)));
                        }
                    }
                }
                Ok(())
            })?;
            if let (Some(row), On::Column(_, Mine::Key)) = (twice, &table.on) {
                let name = name_of(reading, row)?;
                return Err(SelectError::Input(format!(
                    "{path}: {name} is not the only sample with this key, and the table has one row for it: join by @uid or @row, or with a \
                     column `shard`"
                )));
            }
            found.push(out);
        }
        if let Some(row) = first_missing {
            let (name, judged) = (name_of(reading, row)?, names.judged.count());
            // Keys that became numbers on their way have lost their zeros, which one of them shows.
            let theirs = match named_by(table) {
                Some((column, _)) => format!("; its first `{column}` is `{}`", text_of(table, column, 0)?),
                None => String::new(),
            };
            return Err(SelectError::Input(format!(
                "{path}: {missing} of {judged} samples have no row there (first: {name}{theirs})"
            )));
        }
        if used < self.rows {
            remarks.push(format!(
                "{path}: {} of {} rows are of no sample that takes part",
                self.rows - used,
                self.rows
            ));
        }
        merge(reading, found, names.read.len(), self.answers.len())
    }

    fn hold(&self, table: &JoinedTable, share: u64, shares: u64) -> Result<Held, SelectError> {
        let mut held = Held { rows: HashMap::new(), answers: Vec::new() };
        let mut twice = None;
        self.hashes[0].scan(|first, high| {
            let rows = first..first + high.len() as u64;
            let low = self.hashes[1].read(rows.clone())?;
            let columns = self.answers.iter().map(|values| values.read(rows.clone())).collect::<Result<Vec<_>, _>>()?;
            for (at, (&high, low)) in high.iter().zip(low).enumerate() {
                if high % shares != share || [high, low] == [MISSING; 2] {
                    continue;
                }
                let next = held.rows.len() as u32;
                if held.rows.insert([high, low], next).is_some() {
                    twice.get_or_insert(first + at as u64);
                    return Ok(());
                }
                held.answers.extend(columns.iter().map(|column| column[at]));
            }
            Ok(())
        })?;
        match twice {
            None => Ok(held),
            Some(row) => {
                let path = table.path.display();
                let name =
                    named_by(table).map(|(column, _)| text_of(table, column, row)).transpose()?.unwrap_or_default();
                Err(SelectError::Input(format!("{path}: `{name}` stands in it twice (the second time in row {row})")))
            }
        }
    }
}

/// A share of a table's rows.
struct Held {
    rows: HashMap<[u64; 2], u32>,
    answers: Vec<u64>,
}

/// What a share has found, by row.
struct Share {
    rows: Values,
    answers: Vec<Values>,
}

impl Share {
    fn new(reading: &ScanInput<'_>, answers: usize) -> Result<Self, SelectError> {
        let values = || Values::new(reading.folder, reading.in_memory);
        Ok(Self { rows: values()?, answers: (0..answers).map(|_| values()).collect::<Result<_, _>>()? })
    }

    fn add(&mut self, row: u64, answers: &[u64]) -> Result<(), SelectError> {
        self.rows.add(&[row])?;
        self.answers.iter_mut().zip(answers).try_for_each(|(values, answer)| values.add(&[*answer]))
    }
}

/// Rows that are merged at a time.
const MERGED_ROWS: u64 = 1 << 16;

/// All shares in the order of the rows; a row that no share has found has no answer.
fn merge(reading: &ScanInput<'_>, shares: Vec<Share>, rows: u64, answers: usize) -> Result<Vec<Values>, SelectError> {
    let mut out =
        (0..answers).map(|_| Values::new(reading.folder, reading.in_memory)).collect::<Result<Vec<_>, _>>()?;
    let mut at = vec![0; shares.len()];
    let mut first = 0;
    while first < rows {
        let end = rows.min(first + MERGED_ROWS);
        let mut block = vec![vec![MISSING; (end - first) as usize]; answers];
        for (share, at) in shares.iter().zip(&mut at) {
            let here = share.rows.read(*at..share.rows.len().min(*at + (end - first)))?;
            let count = here.iter().take_while(|row| **row < end).count();
            for (values, block) in share.answers.iter().zip(&mut block) {
                for (row, value) in here.iter().zip(values.read(*at..*at + count as u64)?) {
                    block[(row - first) as usize] = value;
                }
            }
            *at += count as u64;
        }
        out.iter_mut().zip(&block).try_for_each(|(values, block)| values.add(block))?;
        first = end;
    }
    Ok(out)
}

/// A text of a table, by its row.
fn text_of(table: &JoinedTable, column: &str, row: u64) -> Result<String, SelectError> {
    let (mut left, mut text) = (row, String::new());
    table.read(&[column], |_, group| {
        let rows = group.first().map_or(0, Column::len) as u64;
        if left < rows {
            text = cell(&group[0], left as usize).label().unwrap_or_default().into_owned();
        }
        // Beyond all rows, once it is found.
        left = left.checked_sub(rows).unwrap_or(u64::MAX);
        Ok(())
    })?;
    Ok(text)
}
