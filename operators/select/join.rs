//! Columns of tables, brought into the order of the ledger's rows, in bounded memory.
//!
//! ```text
//!  ledger ─▶ hash of each row's name ───────────────┐
//!  table ──▶ hash and answers of each of its rows ──┴─▶ found, a share of all hashes at a time ─▶ answers in the ledger's order
//! ```
//!
//! Names are compared by 128 bits of their SHA-256. Every sample that takes part must have its row, and no two samples of one name may share one: else the
//! join is refused, with the first of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use trommel_columnar::parquet::{Column, Kind};
use trommel_core::sample::TAKEN_DOWN;
use trommel_decide::column::Cell;
use trommel_ledger::part::ledger_fields;

use crate::SelectError;
use crate::bits::Bits;
use crate::program::Program;
use crate::scan::{FOLDER, Joined, Labels, ROW_BYTES, ScanInput, check_type};
use crate::table::{JoinedTable, Mine, On};
use crate::values::{MISSING, Values};

/// Bytes of a table's row while its share is held, beside eight for each answer.
const HELD_ROW_BYTES: u64 = 64;

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

/// 128 bits of a name; `shard` where the table tells of each shard's own.
fn hash(shard: Option<&str>, name: &str) -> [u64; 2] {
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
fn check(table: &JoinedTable) -> Option<(&'static str, Mine)> {
    let has = |name: &str| table.columns.iter().any(|column| column == name);
    [("key", Mine::Key), ("uid", Mine::Uid)].into_iter().find(|(name, _)| has(name))
}

/// By what a table's rows are compared: the column, and the sample's own name.
fn named_by(table: &JoinedTable) -> Option<(&str, Mine)> {
    match &table.on {
        On::Row => check(table),
        On::Column(column, mine) => Some((column, *mine)),
    }
}

/// The ledger's rows, as far as joining needs them.
struct Names {
    /// Who could be judged at all.
    read: Bits,
    /// Who takes part.
    judged: Bits,
    /// By table, two words of each row's hash.
    hashes: Vec<[Values; 2]>,
}

impl Names {
    fn read(reading: &ScanInput<'_>, tables: &[JoinedTable]) -> Result<Self, SelectError> {
        let values = || Values::new(reading.folder, reading.in_memory);
        let hashes = tables.iter().map(|_| Ok([values()?, values()?])).collect::<Result<_, SelectError>>()?;
        let mut names = Self { read: Bits::default(), judged: Bits::default(), hashes };
        let wanted = [("status", Kind::Text), ("reason", Kind::Text), ("key", Kind::Text), ("uid", Kind::Text)];
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
    fn hash_of(&self, values: &Values) -> Result<String, SelectError> {
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

/// A table's rows, in its own order.
struct Answers {
    rows: u64,
    /// Two words of each row's hash; empty where nobody compares names.
    hashes: [Values; 2],
    /// By column and question.
    answers: Vec<Values>,
    /// Rows of the files that tell of a shard, by its place among the shards.
    rows_of: BTreeMap<usize, u64>,
}

impl Answers {
    fn read(
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
                    let is_text = group[*column].kind() == Kind::Text;
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

    /// The answers of rows that stand in the order of the plan.
    fn by_row(
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

    /// The answers of rows that are found by their names.
    fn by_name(
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
            return Err(SelectError::Input(format!(
                "{path}: {missing} of {judged} samples have no row there (first: {name})"
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

fn shard_at(reading: &ScanInput<'_>, shard: &crate::scan::Shard) -> usize {
    reading.shards.partition_point(|other| other.name < shard.name)
}

/// What a row of the ledger is called.
fn name_of(reading: &ScanInput<'_>, row: u64) -> Result<String, SelectError> {
    let at = reading.shards.partition_point(|shard| shard.first_row + shard.rows <= row);
    let Some(shard) = reading.shards.get(at) else { return Ok(String::new()) };
    let mut left = (row - shard.first_row) as usize;
    for group in reading.ledger.columns(shard.ordinal, &[("key", Kind::Text)])? {
        let group = group?;
        let Some(Column::Text(keys)) = group.first() else { continue };
        if let Some(key) = keys.get(left) {
            return Ok(format!("{}/{}", shard.name, key.as_deref().unwrap_or_default()));
        }
        left -= keys.len();
    }
    Ok(shard.name.clone())
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

fn cell(column: &Column, at: usize) -> Cell<'_> {
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
