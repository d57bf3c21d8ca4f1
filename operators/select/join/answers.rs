//! A table's rows: the hash of each row's name, and what it answers to each question.

use std::borrow::Cow;
use std::collections::BTreeMap;

use trommel_columnar::parquet::{Column, ColumnType};
use trommel_decide::column::Cell;

use super::names::{hash, named_by};
use super::{Asks, Join};
use crate::SelectError;
use crate::program::Program;
use crate::scan::{Labels, ScanInput, check_type};
use crate::table::JoinedTable;
use crate::values::{MISSING, Values};

/// A table's rows, in its own order.
pub(super) struct Answers {
    pub(super) rows: u64,
    /// Two words of each row's hash; empty where nobody compares names.
    pub(super) hashes: [Values; 2],
    /// By column and question.
    pub(super) answers: Vec<Values>,
    /// Rows of the files that tell of a shard, by its place among the shards.
    pub(super) rows_of: BTreeMap<usize, u64>,
}

impl Answers {
    pub(super) fn read(
        reading: &ScanInput<'_>,
        program: &Program,
        table: &JoinedTable,
        asked: &BTreeMap<String, Vec<Asks>>,
        join: &mut Join,
    ) -> Result<Self, SelectError> {
        let ledger_rows: u64 = reading.shards.iter().map(|shard| shard.rows).sum();
        let in_memory = reading.in_memory && table.rows <= 2 * ledger_rows;
        let values = || Values::new(reading.folder, in_memory);
        let questions: Vec<(usize, Asks)> =
            asked.values().enumerate().flat_map(|(at, asks)| asks.iter().map(move |ask| (at, *ask))).collect();
        let mut out = Self {
            rows: 0,
            rows_of: BTreeMap::new(),
            hashes: [values()?, values()?],
            answers: questions.iter().map(|_| values()).collect::<Result<_, _>>()?,
        };
        let mut columns: Vec<&str> = asked.keys().filter_map(|word| table.column(word)).collect();
        let named = named_by(table).map(|(column, _)| {
            columns.push(column);
            columns.len() - 1
        });
        let by_files = table.files.iter().any(|(_, shard)| shard.is_some());
        let shards = (!by_files && table.is_scoped).then(|| {
            columns.push("shard");
            columns.len() - 1
        });
        let mut labels: Vec<Labels> = program.labels.iter().map(|_| Labels::default()).collect();
        let mut checked = false;
        table.read(&columns, |file, group| {
            if !std::mem::replace(&mut checked, true) {
                for (column, ask) in &questions {
                    let is_text = group[*column].kind() == ColumnType::Text;
                    match *ask {
                        Asks::Predicate(number) => check_type(&program.predicates[number], is_text)?,
                        Asks::Order(number) => check_type(&program.orders[number], is_text)?,
                        Asks::Label(_) | Asks::Cell => {}
                    }
                }
            }
            let rows = group.first().map_or(0, Column::len);
            out.rows += rows as u64;
            if let Some(shard) = file {
                *out.rows_of.entry(shard).or_default() += rows as u64;
            }
            if let Some(named) = named {
                let (mut high, mut low) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
                for at in 0..rows {
                    let own = shards.and_then(|column| cell(&group[column], at).label().map(Cow::into_owned));
                    let scope = file.map(|shard| reading.shards[shard].name.clone()).or(own);
                    let name = cell(&group[named], at).label();
                    let words = name.map_or([MISSING; 2], |name| hash(scope.as_deref(), &name));
                    high.push(words[0]);
                    low.push(words[1]);
                }
                out.hashes[0].add(&high)?;
                out.hashes[1].add(&low)?;
            }
            for ((column, ask), values) in questions.iter().zip(&mut out.answers) {
                let column = &group[*column];
                let mut answer = |at: usize| -> Result<u64, SelectError> {
                    let cell = cell(column, at);
                    Ok(match *ask {
                        Asks::Predicate(number) => u64::from(
                            program.predicates[number].rule.policy().test().is_some_and(|test| test.holds(cell)),
                        ),
                        Asks::Order(number) => {
                            let order = program.orders[number].rule.policy().first().map(|(_, order)| order);
                            order.and_then(|order| order.place([], || 0, |_| cell.number())).unwrap_or(MISSING)
                        }
                        Asks::Label(number) => match cell.label() {
                            None => MISSING,
                            Some(label) => {
                                labels[number].number(&label, &program.labels[number], reading.label_bytes)?
                            }
                        },
                        Asks::Cell => value_hash(cell),
                    })
                };
                let answers: Vec<u64> = (0..rows).map(&mut answer).collect::<Result<_, SelectError>>()?;
                values.add(&answers)?;
            }
            Ok(())
        })?;
        // How many labels there are is known by now; the values come when they are found.
        for (_, ask) in &questions {
            if let Asks::Label(number) = *ask {
                join.joined.labels.insert(number, (Values::new(reading.folder, true)?, labels[number].len()));
            }
        }
        Ok(out)
    }
}

pub(super) fn cell(column: &Column, at: usize) -> Cell<'_> {
    match column {
        Column::Text(values) => values[at].as_deref().map_or(Cell::Missing, Cell::Text),
        Column::F64(values) => values[at].filter(|x| !x.is_nan()).map_or(Cell::Missing, Cell::Number),
        Column::U32(_) | Column::U64(_) => Cell::Missing,
    }
}

/// What stands for a value where columns are compared; 0 for none. A number is never like a text.
fn value_hash(cell: Cell<'_>) -> u64 {
    let kind = if cell.number().is_some() { "number" } else { "text" };
    cell.label().map_or(0, |label| hash(Some(kind), &label)[0])
}
