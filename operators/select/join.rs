//! Columns of tables, brought into the order of the ledger's rows, in bounded memory.
//!
//! ```text
//!  ledger ─▶ hash of each row's name ───────────────┐
//!  table ──▶ hash and answers of each of its rows ──┴─▶ found, a share of all hashes at a time ─▶ answers in the ledger's order
//! ```
//!
//! Names are compared by 128 bits of their SHA-256. Every sample that takes part must have its row, and no two samples of one name may share one: else the
//! join is refused, with the first of them.

use std::collections::BTreeMap;

use trommel_ledger::part::ledger_fields;

use self::answers::Answers;
use self::names::Names;
use crate::SelectError;
use crate::program::Program;
use crate::scan::{FOLDER, Joined, ScanInput};
use crate::table::{JoinedTable, On};

mod answers;
mod by_name;
mod by_row;
mod names;

/// What tables answer, and what is to be said of them.
#[derive(Debug, Default)]
pub struct Join {
    /// What the tables answer for each row.
    pub joined: Joined,
    /// By column, sha256 over its values in the order of the rows of who takes part.
    pub columns: BTreeMap<String, String>,
    /// Remarks for people.
    pub remarks: Vec<String>,
}

/// What is made of a cell.
#[derive(Clone, Copy, Debug)]
enum Asks {
    Predicate(usize),
    Order(usize),
    Label(usize),
    /// A hash of the cell itself.
    Cell,
}

/// Joins what the program asks of columns that the ledger has not.
///
/// # Errors
/// Tables that cannot be read or have no row for a sample, a column of several tables, or a table that nobody asks.
pub fn join(
    reading: &ScanInput<'_>,
    program: &Program,
    texts: &[String],
    held_bytes: u64,
) -> Result<Join, SelectError> {
    let mut join = Join::default();
    if texts.is_empty() {
        return Ok(join);
    }
    let tables: Vec<JoinedTable> =
        texts.iter().map(|text| JoinedTable::open(text, reading.shards, reading.others)).collect::<Result<_, _>>()?;
    let mut asked: Vec<BTreeMap<String, Vec<Asks>>> = tables.iter().map(|_| BTreeMap::new()).collect();
    let own = ledger_fields(reading.benchmarks);
    for (word, asks) in questions(program) {
        if word == FOLDER || own.iter().any(|field| field.name == word) {
            continue;
        }
        let mut has = tables.iter().enumerate().filter(|(_, table)| table.column(word).is_some());
        let Some((at, _)) = has.next() else {
            let own = own.iter().map(|field| field.name.as_str()).chain([FOLDER]);
            let all: Vec<&str> =
                own.chain(tables.iter().flat_map(|table| table.columns.iter().map(String::as_str))).collect();
            return Err(SelectError::Input(format!("no column `{word}`: ledger and tables have {}", all.join(", "))));
        };
        if has.next().is_some() {
            let hint = "name the tables, --table NAME=.., and write NAME.COLUMN";
            return Err(SelectError::Input(format!("column `{word}` is in several tables: {hint}")));
        }
        asked[at].entry(word.into()).or_insert_with(|| vec![Asks::Cell]).push(asks);
    }
    let names = Names::read(reading, &tables)?;
    for (at, (table, asked)) in tables.iter().zip(&asked).enumerate() {
        if asked.is_empty() {
            let columns = table.columns.join(", ");
            return Err(SelectError::Input(format!("--table {}: no rule reads a column of it ({columns})", texts[at])));
        }
        let answers = Answers::read(reading, program, table, asked, &mut join)?;
        let found = match table.on {
            On::Row => answers.by_row(reading, table, &names, at)?,
            On::Column(..) => answers.by_name(reading, table, &names, at, held_bytes, &mut join.remarks)?,
        };
        let mut found = found.into_iter();
        for (word, asks) in asked {
            for (ask, values) in asks.iter().zip(found.by_ref()) {
                match *ask {
                    Asks::Predicate(number) => drop(join.joined.predicates.insert(number, values)),
                    Asks::Order(number) => drop(join.joined.orders.insert(number, values)),
                    Asks::Label(number) => {
                        let labels = join.joined.labels.remove(&number).map_or(0, |(_, labels)| labels);
                        join.joined.labels.insert(number, (values, labels));
                    }
                    Asks::Cell => drop(join.columns.insert(word.clone(), names.hash_of(&values)?)),
                }
            }
        }
    }
    Ok(join)
}

/// All columns that are asked for, and for what.
fn questions(program: &Program) -> impl Iterator<Item = (&str, Asks)> {
    let predicates = program.predicates.iter().enumerate();
    let orders = program.orders.iter().enumerate();
    let predicates = predicates.filter_map(|(at, asked)| Some((asked.rule.policy().column()?, Asks::Predicate(at))));
    let orders = orders.filter_map(|(at, asked)| Some((asked.rule.policy().column()?, Asks::Order(at))));
    let labels = program.labels.iter().enumerate().map(|(at, name)| (name.as_str(), Asks::Label(at)));
    predicates.chain(orders).chain(labels)
}
