//! One reading of the ledger: each row's answers to all that a program asks, shard by shard in the order of their names.
//!
//! Shards are read on all threads, some at a time; what they say is put together in order.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use trommel_columnar::parquet::{Column, Kind};
use trommel_core::sample::{NO_CAPTION, Score, TAKEN_DOWN};
use trommel_decide::column::Cell;
use trommel_decide::hash::random_hash;
use trommel_ledger::part::ledger_fields;
use trommel_ledger::read::Ledger;

use crate::SelectError;
use crate::bits::Bits;
use crate::program::{Program, ResolvedRule};
use crate::values::{MISSING, Values};

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

/// What one shard's rows answer.
#[derive(Default)]
struct Answers {
    judged: Vec<bool>,
    captionless: Vec<bool>,
    unknown: Vec<bool>,
    predicates: Vec<Vec<bool>>,
    orders: Vec<Vec<u64>>,
    labels: Vec<Vec<Option<String>>>,
    rejected: u64,
    taken_down: u64,
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

/// Where a question finds its value among the columns that are read.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The scores, or names alone.
    Scores,
    /// A column of the ledger.
    Column(usize),
    /// The part of a shard's name before the last slash: [`FOLDER`].
    Folder,
}

/// The columns that are read, and who reads which.
struct Questions {
    wanted: Vec<(String, Kind)>,
    /// By benchmark, the columns of its largest similarity and of its hits.
    maxima: Vec<Option<usize>>,
    hits: Vec<Option<usize>>,
    /// `None` where a table answers.
    predicates: Vec<Option<Source>>,
    orders: Vec<Option<Source>>,
    labels: Vec<Option<Source>>,
    places_all: Vec<bool>,
    seed: u64,
}

/// Places of the columns that are always read.
const STATUS: usize = 0;
const REASON: usize = 1;
const KEY: usize = 2;

impl Questions {
    fn of(reading: &ScanInput<'_>, program: &Program, joined: &Joined) -> Result<Self, SelectError> {
        let always = [("status", Kind::Text), ("reason", Kind::Text), ("key", Kind::Text)];
        let mut wanted: Vec<(String, Kind)> = always.map(|(name, kind)| (name.to_owned(), kind)).into();
        let fields = ledger_fields(reading.benchmarks);
        let mut column = |name: &str| -> Option<usize> {
            let field = fields.iter().find(|field| field.name == name)?;
            let known = wanted.iter().position(|(known, _)| known == name);
            Some(known.unwrap_or_else(|| {
                wanted.push((name.into(), field.kind));
                wanted.len() - 1
            }))
        };
        let mut source = |name: Option<&str>| match name {
            None => Ok(Source::Scores),
            Some(FOLDER) => Ok(Source::Folder),
            Some(name) => column(name).map(Source::Column).ok_or_else(|| {
                let own: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
                let own = own.join(", ");
                SelectError::Input(format!(
                    "no column `{name}`: the ledger has {own}, and {FOLDER}; --table adds others"
                ))
            }),
        };
        let mut of = |asked: &[ResolvedRule], joined: &HashMap<usize, Values>| {
            let each = asked.iter().enumerate().map(|(at, asked)| {
                let here = !joined.contains_key(&at);
                here.then(|| source(asked.rule.policy().column())).transpose()
            });
            each.collect::<Result<Vec<_>, SelectError>>()
        };
        let predicates = of(&program.predicates, &joined.predicates)?;
        let orders = of(&program.orders, &joined.orders)?;
        let labels = program.labels.iter().enumerate().map(|(at, name)| {
            let here = !joined.labels.contains_key(&at);
            here.then(|| source(Some(name))).transpose()
        });
        let labels = labels.collect::<Result<Vec<_>, SelectError>>()?;
        let needs = |benchmark: usize, radii: bool| {
            let mut asked = program.predicates.iter().chain(&program.orders);
            asked.any(|asked| {
                let needs = asked.rule.policy().needs();
                asked.looks_at.contains(&benchmark) && if radii { needs.radii } else { needs.maximum }
            })
        };
        let mut scores = |prefix: &str, radii: bool| -> Vec<Option<usize>> {
            let names = reading.benchmarks.iter().enumerate();
            names.map(|(at, name)| needs(at, radii).then(|| column(&format!("{prefix}.{name}"))).flatten()).collect()
        };
        let (maxima, hits) = (scores("max_similarity", false), scores("hits", true));
        let places_all =
            program.orders.iter().map(|asked| asked.rule.policy().first().is_some_and(|(_, order)| order.places_all()));
        let places_all = places_all.collect();
        check_types(program, &wanted, &predicates, &orders)?;
        Ok(Self { wanted, maxima, hits, predicates, orders, labels, places_all, seed: reading.seed })
    }

    fn shard(&self, reading: &ScanInput<'_>, program: &Program, shard: &Shard) -> Result<Answers, SelectError> {
        let mut answers = Answers {
            predicates: vec![Vec::new(); self.predicates.len()],
            orders: vec![Vec::new(); self.orders.len()],
            labels: vec![Vec::new(); self.labels.len()],
            ..Answers::default()
        };
        let wanted: Vec<(&str, Kind)> = self.wanted.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        let mut scores = vec![Score::default(); reading.benchmarks.len()];
        for group in reading.ledger.columns(shard.ordinal, &wanted)? {
            let group = group?;
            for at in 0..group.first().map_or(0, Column::len) {
                self.row(program, shard, Row { group: &group, at }, &mut scores, &mut answers)?;
            }
        }
        if answers.judged.len() as u64 != shard.rows {
            let (rows, due, name) = (answers.judged.len(), shard.rows, &shard.name);
            return Err(SelectError::Input(format!("{name}: {rows} rows in the ledger; its manifest counts {due}")));
        }
        Ok(answers)
    }

    fn row(
        &self,
        program: &Program,
        shard: &Shard,
        row: Row<'_>,
        scores: &mut [Score],
        answers: &mut Answers,
    ) -> Result<(), SelectError> {
        let (status, reason) = (row.text(STATUS).unwrap_or_default(), row.text(REASON).unwrap_or_default());
        let key = row.text(KEY).unwrap_or_default();
        let (rejected, taken_down) = (status == "rejected", reason == TAKEN_DOWN);
        let judged = !rejected && !taken_down;
        answers.rejected += u64::from(rejected);
        answers.taken_down += u64::from(taken_down);
        answers.judged.push(judged);
        answers.captionless.push(judged && reason == NO_CAPTION);
        // A run notes missing captions of whom it keeps.
        answers.unknown.push(judged && status == "dropped");
        for (score, (maximum, hits)) in scores.iter_mut().zip(self.maxima.iter().zip(&self.hits)) {
            score.max_similarity = maximum.and_then(|column| row.number(column));
            score.hits = hits.and_then(|column| row.number(column)).map(|hits| hits as u32);
        }
        let mut drawn = None;
        let mut draw = || *drawn.get_or_insert_with(|| random_hash(self.seed, &shard.name, key));
        let unanswered = |asked: &ResolvedRule| {
            let lacking = asked.looks_at.iter().find(|&&at| !asked.rule.policy().is_answered(&scores[at]));
            lacking.map(|&at| (asked.rule.clone(), at, shard.name.clone(), key.to_owned()))
        };
        for (at, (asked, source)) in program.predicates.iter().zip(&self.predicates).enumerate() {
            let Some(source) = source else { continue };
            let policy = asked.rule.policy();
            let keeps = judged
                && match policy.test() {
                    Some(test) => test.holds(row.cell(*source, key)),
                    None => {
                        if let Some(lacking) = unanswered(asked) {
                            return Err(self.silent(lacking));
                        }
                        policy.keeps(asked.looks_at.iter().map(|&at| &scores[at]), &mut draw)
                    }
                };
            answers.predicates[at].push(keeps);
        }
        for (at, (asked, source)) in program.orders.iter().zip(&self.orders).enumerate() {
            let Some(source) = source else { continue };
            let place = match asked.rule.policy().first().filter(|_| judged) {
                None => None,
                Some((_, order)) => {
                    if let Some(lacking) = unanswered(asked) {
                        return Err(self.silent(lacking));
                    }
                    let number = |_: &str| row.cell(*source, key).number();
                    order.place(asked.looks_at.iter().map(|&at| &scores[at]), &mut draw, number)
                }
            };
            answers.orders[at].push(place.unwrap_or(MISSING));
        }
        for (at, source) in self.labels.iter().enumerate() {
            let Some(source) = source else { continue };
            answers.labels[at].push(row.cell(*source, key).label().map(Cow::into_owned));
        }
        Ok(())
    }

    fn silent(
        &self,
        (rule, benchmark, shard, key): (trommel_decide::rule::Rule, usize, String, String),
    ) -> SelectError {
        let what =
            if rule.policy().needs().radii { "no radii" } else { "no largest similarities (--columns decision)" };
        let column = if rule.policy().needs().radii { &self.hits } else { &self.maxima };
        let name = column.get(benchmark).copied().flatten().and_then(|at| self.wanted.get(at));
        let name = name.and_then(|(name, _)| name.split_once('.')).map_or("", |(_, name)| name);
        SelectError::Input(format!("rule `{rule}`: the run has {what} of benchmark `{name}` (first: {shard}/{key})"))
    }
}

/// Refuses columns of a type that nobody compares in the way asked for.
fn check_types(
    program: &Program,
    wanted: &[(String, Kind)],
    predicates: &[Option<Source>],
    orders: &[Option<Source>],
) -> Result<(), SelectError> {
    let is_text = |source: &Option<Source>| match source {
        Some(Source::Column(at)) => Some(wanted[*at].1 == Kind::Text),
        Some(Source::Folder) => Some(true),
        Some(Source::Scores) | None => None,
    };
    let all = program.predicates.iter().zip(predicates).chain(program.orders.iter().zip(orders));
    for (asked, source) in all {
        if let Some(is_text) = is_text(source) {
            check_type(asked, is_text)?;
        }
    }
    Ok(())
}

/// Refuses a column of a type that nobody compares in the way asked for.
///
/// # Errors
/// A number is asked of texts, or a text of numbers.
pub fn check_type(asked: &ResolvedRule, is_text: bool) -> Result<(), SelectError> {
    let policy = asked.rule.policy();
    let compare = policy.test().map(|test| test.compare);
    let (wants_number, wants_text) =
        compare.map_or((true, false), |compare| (compare.needs_number(), compare.needs_text()));
    let problem = match is_text {
        true if wants_number => "is a text and no number",
        false if wants_text => "is a number and no text",
        _ => return Ok(()),
    };
    Err(SelectError::Input(format!(
        "rule `{}`: column `{}` {problem}",
        asked.rule,
        policy.column().unwrap_or_default()
    )))
}

/// A row of some columns.
#[derive(Clone, Copy)]
struct Row<'a> {
    group: &'a [Column],
    at: usize,
}

impl<'a> Row<'a> {
    fn text(self, column: usize) -> Option<&'a str> {
        match self.group.get(column) {
            Some(Column::Text(values)) => values[self.at].as_deref(),
            _ => None,
        }
    }

    fn number(self, column: usize) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "sizes and offsets below 2^53")]
        match self.group.get(column)? {
            Column::F64(values) => values[self.at].filter(|x| !x.is_nan()),
            Column::U32(values) => values[self.at].map(f64::from),
            Column::U64(values) => values[self.at].map(|x| x as f64),
            Column::Text(_) => None,
        }
    }

    fn cell(self, source: Source, key: &'a str) -> Cell<'a> {
        match source {
            Source::Folder => key.split_once('/').map_or(Cell::Missing, |(folder, _)| Cell::Text(folder)),
            Source::Column(column) => match self.text(column) {
                Some(text) => Cell::Text(text),
                None => self.number(column).map_or(Cell::Missing, Cell::Number),
            },
            Source::Scores => Cell::Missing,
        }
    }
}
