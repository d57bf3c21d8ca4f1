//! Rows that stand in the order of the plan: as many as the ledger has, or as it has judged.

use super::answers::Answers;
use super::names::{Names, check, name_of};
use crate::SelectError;
use crate::scan::{ScanInput, Shard};
use crate::table::JoinedTable;
use crate::values::{MISSING, Values};

impl Answers {
    /// The answers of rows that stand in the order of the plan.
    pub(super) fn by_row(
        self,
        reading: &ScanInput<'_>,
        table: &JoinedTable,
        names: &Names,
        number: usize,
    ) -> Result<Vec<Values>, SelectError> {
        let (all, read) = (names.read.len(), names.read.count());
        let path = table.path.display();
        if self.rows != all && self.rows != read {
            let rows = self.rows;
            return Err(SelectError::Input(format!(
                "{path}: {rows} rows; the ledger has {all}, {read} of them judged"
            )));
        }
        let skips = self.rows != all;
        let mut starts = vec![0; reading.shards.len()];
        let mut in_plan: Vec<usize> = (0..reading.shards.len()).collect();
        in_plan.sort_by_key(|&at| reading.shards[at].ordinal);
        let rows_of = |at: usize| {
            let rows = reading.shards[at].first_row..reading.shards[at].first_row + reading.shards[at].rows;
            if skips { names.read.ones(rows) } else { rows.end - rows.start }
        };
        if let Some((&at, told)) = self.rows_of.iter().find(|(at, told)| **told != rows_of(**at)) {
            let (name, due) = (&reading.shards[at].name, rows_of(at));
            return Err(SelectError::Input(format!("{path}: {told} rows of {name}; the ledger has {due}")));
        }
        let mut start = 0;
        for at in in_plan {
            starts[at] = start;
            start += rows_of(at);
        }
        let mut found = Vec::new();
        let compared = check(table).is_some();
        for (at, values) in self.hashes.iter().chain(&self.answers).enumerate() {
            if at < 2 && !compared {
                continue;
            }
            let mut out = Values::new(reading.folder, reading.in_memory)?;
            for (shard, &start) in reading.shards.iter().zip(&starts) {
                let theirs = values.read(start..start + rows_of(shard_at(reading, shard)))?;
                let mut theirs = theirs.into_iter();
                let rows = shard.first_row..shard.first_row + shard.rows;
                let of =
                    |row: u64| if skips && !names.read.get(row) { MISSING } else { theirs.next().unwrap_or(MISSING) };
                let here: Vec<u64> = rows.clone().map(of).collect();
                if at < 2 {
                    let mine = names.hashes[number][at].read(rows.clone())?;
                    let differs = rows
                        .zip(mine.iter().zip(&here))
                        .find(|(row, (mine, here))| names.judged.get(*row) && mine != here);
                    if let Some((row, _)) = differs {
                        let (column, name) = (check(table).map_or("", |it| it.0), name_of(reading, row)?);
                        return Err(SelectError::Input(format!(
                            "{path}: the row in the place of {name} has another `{column}`"
                        )));
                    }
                } else {
                    out.add(&here)?;
                }
            }
            if at >= 2 {
                found.push(out);
            }
        }
        Ok(found)
    }
}

fn shard_at(reading: &ScanInput<'_>, shard: &Shard) -> usize {
    reading.shards.partition_point(|other| other.name < shard.name)
}
