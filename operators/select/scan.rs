//! One reading of the ledger: each row's answers to all that a program asks, shard by shard in the order of their names.
//!
//! Shards are read on all threads, some at a time; what they say is put together in order.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use trommel_ledger::read::Ledger;

pub use self::questions::check_type;
use self::questions::{Answers, Questions};
use crate::SelectError;
use crate::bits::Bits;
use crate::program::Program;
use crate::values::{MISSING, Values};

mod questions;
mod row;

/// The column that is the first folder in a sample's key, which is the class in a folder of class folders.
pub const FOLDER: &str = "folder";

/// What a column of the ledger says of a benchmark, and the benchmark's name; `None` for all other columns.
#[must_use]
pub fn benchmark_of(column: &str) -> Option<(&str, &str)> {
    const SAID: [&str; 5] = ["max_similarity", "nearest", "margin", "exceeds", "hits"];
    column.split_once('.').filter(|(said, _)| SAID.contains(said))
}

/// A shard of the selection, and where its rows stand.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Its stable name in the plan.
    pub name: String,
    /// Its ordinal in the ledger.
    pub ordinal: u64,
    /// Its first row, counted over all shards in the order of their names.
    pub first_row: u64,
    /// Number of its rows.
    pub rows: u64,
    /// Bytes of its part of the ledger.
    pub bytes: u64,
}

/// Answers of a table, where it and not the ledger has the column: by their number in the program.
#[derive(Debug, Default)]
pub struct Joined {
    /// 1 or 0 for each row.
    pub predicates: HashMap<usize, Values>,
    /// Places, some of them missing.
    pub orders: HashMap<usize, Values>,
    /// Numbers of labels, and how many there are.
    pub labels: HashMap<usize, (Values, u64)>,
}

/// What all rows answer.
#[derive(Debug)]
pub struct Scanned {
    /// Who was judged, and is not taken down: the only ones who take part.
    pub judged: Bits,
    /// Who of them has no caption.
    pub captionless: Bits,
    /// Of whom nobody knows whether they have one: whom the run has dropped.
    pub unknown: Bits,
    /// Whom each predicate keeps.
    pub predicates: Vec<Bits>,
    /// Each order's places, and who has one.
    pub orders: Vec<(Values, Bits)>,
    /// Each label's numbers, and how many there are.
    pub labels: Vec<(Values, u64)>,
    /// Rows that could not be judged.
    pub rejected: u64,
    /// Rows that are taken down.
    pub taken_down: u64,
}

/// What is read of a run, and with which memory.
#[derive(Clone, Copy)]
pub struct ScanInput<'a> {
    /// The run's ledger.
    pub ledger: &'a Ledger,
    /// Names of its benchmarks.
    pub benchmarks: &'a [String],
    /// All shards, in the order of their names.
    pub shards: &'a [Shard],
    /// Names of the plan's other shards.
    pub others: [&'a [String]; 2],
    /// Seed of `random`.
    pub seed: u64,
    /// Bytes that the shards may have which are read at a time.
    pub window_bytes: u64,
    /// Bytes that the values of one column of `per` may have.
    pub label_bytes: u64,
    /// Where values lie that have no room in memory.
    pub folder: &'a Path,
    /// Whether they have.
    pub in_memory: bool,
}

/// Bytes of a row while its shard is read, beside eight for each value.
pub const ROW_BYTES: u64 = 64;

impl ScanInput<'_> {
    /// Shards that are read at a time: as many as their bytes allow, at least one.
    pub fn windows(&self, row_bytes: u64) -> impl Iterator<Item = &[Shard]> {
        let mut left = self.shards;
        std::iter::from_fn(move || {
            let mut bytes = 0;
            let fits = |shard: &&Shard| {
                bytes += 2 * shard.bytes + shard.rows * row_bytes;
                bytes <= self.window_bytes
            };
            let count = left.iter().take_while(fits).count().max(1).min(left.len());
            let (now, later) = left.split_at(count);
            left = later;
            (!now.is_empty()).then_some(now)
        })
    }
}

/// Reads all answers.
///
/// # Errors
/// A part that cannot be read, a column that nobody has or of another type, a benchmark that does not say what is asked of it.
pub fn scan(reading: &ScanInput<'_>, program: &Program, joined: Joined) -> Result<Scanned, SelectError> {
    let asked = Questions::of(reading, program, &joined)?;
    let rows = reading.shards.iter().map(|shard| shard.rows).sum();
    let values = || Values::new(reading.folder, reading.in_memory);
    let mut scanned = Scanned {
        judged: Bits::with_room(rows),
        captionless: Bits::with_room(rows),
        unknown: Bits::with_room(rows),
        predicates: program.predicates.iter().map(|_| Bits::with_room(rows)).collect(),
        orders: Vec::new(),
        labels: Vec::new(),
        rejected: 0,
        taken_down: 0,
    };
    let Joined { predicates: joined, orders, labels } = joined;
    let (mut orders, mut labels) = (orders, labels);
    for at in 0..program.orders.len() {
        let places = orders.remove(&at).map_or_else(values, Ok)?;
        scanned.orders.push((places, Bits::with_room(rows)));
    }
    let mut numbers: Vec<Labels> = program.labels.iter().map(|_| Labels::default()).collect();
    for at in 0..program.labels.len() {
        let known = labels.remove(&at);
        scanned.labels.push(known.map_or_else(|| values().map(|values| (values, 0)), Ok)?);
    }
    let row_bytes = ROW_BYTES + 8 * (program.orders.len() + 8 * program.labels.len() + program.predicates.len()) as u64;
    for window in reading.windows(row_bytes) {
        let answers: Vec<Answers> =
            window.par_iter().map(|shard| asked.shard(reading, program, shard)).collect::<Result<_, SelectError>>()?;
        for (shard, answers) in window.iter().zip(answers) {
            scanned.add(shard, &asked, answers, &joined, (program, &mut numbers, reading.label_bytes))?;
        }
    }
    Ok(scanned)
}

/// Bytes of a label beside its letters.
const LABEL_BYTES: u64 = 64;

/// The values of a column, each with a number.
#[derive(Debug, Default)]
pub struct Labels {
    known: HashMap<String, u64>,
    bytes: u64,
}

impl Labels {
    /// The number of a value, the next one where it is new.
    ///
    /// # Errors
    /// Values that together have more than `most_bytes`.
    pub fn number(&mut self, label: &str, column: &str, most_bytes: u64) -> Result<u64, SelectError> {
        if let Some(&number) = self.known.get(label) {
            return Ok(number);
        }
        self.bytes += label.len() as u64 + LABEL_BYTES;
        let number = self.len();
        if self.bytes > most_bytes {
            return Err(SelectError::Input(format!(
                "per {column}: its values take more than {} MiB, {number} of them by now: give more --memory, or a column of fewer values",
                most_bytes.div_ceil(1 << 20)
            )));
        }
        self.known.insert(label.to_owned(), number);
        Ok(number)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.known.len() as u64
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

impl Scanned {
    fn add(
        &mut self,
        shard: &Shard,
        asked: &Questions,
        answers: Answers,
        joined: &HashMap<usize, Values>,
        (program, numbers, label_bytes): (&Program, &mut [Labels], u64),
    ) -> Result<(), SelectError> {
        let rows = shard.first_row..shard.first_row + shard.rows;
        answers.captionless.iter().for_each(|&bit| self.captionless.push(bit));
        answers.unknown.iter().for_each(|&bit| self.unknown.push(bit));
        for (at, bits) in self.predicates.iter_mut().enumerate() {
            match joined.get(&at) {
                None => answers.predicates[at].iter().for_each(|&bit| bits.push(bit)),
                Some(values) => {
                    let values = values.read(rows.clone())?;
                    values.iter().zip(&answers.judged).for_each(|(value, judged)| bits.push(*judged && *value == 1));
                }
            }
        }
        for (at, (places, has)) in self.orders.iter_mut().enumerate() {
            let all = asked.places_all[at];
            let here = if asked.orders[at].is_some() { Some(&answers.orders[at]) } else { None };
            let read = if here.is_none() { places.read(rows.clone())? } else { Vec::new() };
            for (place, judged) in here.unwrap_or(&read).iter().zip(&answers.judged) {
                has.push(*judged && (all || *place != MISSING));
            }
            here.iter().try_for_each(|here| places.add(here))?;
        }
        for (at, (values, count)) in self.labels.iter_mut().enumerate().filter(|(at, _)| asked.labels[*at].is_some()) {
            let known = &mut numbers[at];
            let number = |label: &Option<String>| match label {
                None => Ok(MISSING),
                Some(label) => known.number(label, &program.labels[at], label_bytes),
            };
            let column: Vec<u64> = answers.labels[at].iter().map(number).collect::<Result<_, _>>()?;
            values.add(&column)?;
            *count = known.len();
        }
        answers.judged.iter().for_each(|&bit| self.judged.push(bit));
        self.rejected += answers.rejected;
        self.taken_down += answers.taken_down;
        Ok(())
    }
}
