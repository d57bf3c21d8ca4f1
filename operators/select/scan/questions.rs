//! What a program asks of each row: the columns that are read for it, and one shard's answers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;

use trommel_columnar::parquet::{Column, ColumnType};
use trommel_core::sample::{NO_CAPTION, Score, TAKEN_DOWN};
use trommel_decide::column::{Cell, Compare, Test};
use trommel_decide::hash::random_hash;
use trommel_ledger::part::ledger_fields;

use super::row::{Row, Source};
use super::{FOLDER, Joined, ScanInput, Shard, benchmark_of};
use crate::SelectError;
use crate::program::{Program, ResolvedRule};
use crate::values::{MISSING, Values};

/// Places of the columns that are always read.
const STATUS: usize = 0;
const REASON: usize = 1;
const KEY: usize = 2;

/// What one shard's rows answer.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) judged: Vec<bool>,
    pub(super) captionless: Vec<bool>,
    pub(super) unknown: Vec<bool>,
    pub(super) predicates: Vec<Vec<bool>>,
    pub(super) orders: Vec<Vec<u64>>,
    pub(super) labels: Vec<Vec<Option<String>>>,
    pub(super) rejected: u64,
    pub(super) taken_down: u64,
}

/// The columns that are read, and who reads which.
pub(super) struct Questions {
    pub(super) wanted: Vec<(String, ColumnType)>,
    /// By benchmark, the columns of its largest similarity and of its hits.
    pub(super) maxima: Vec<Option<usize>>,
    pub(super) hits: Vec<Option<usize>>,
    /// `None` where a table answers.
    pub(super) predicates: Vec<Option<Source>>,
    pub(super) orders: Vec<Option<Source>>,
    pub(super) labels: Vec<Option<Source>>,
    pub(super) places_all: Vec<bool>,
    pub(super) seed: u64,
}

impl Questions {
    pub(super) fn of(reading: &ScanInput<'_>, program: &Program, joined: &Joined) -> Result<Self, SelectError> {
        let always = [("status", ColumnType::Text), ("reason", ColumnType::Text), ("key", ColumnType::Text)];
        let mut wanted: Vec<(String, ColumnType)> = always.map(|(name, kind)| (name.to_owned(), kind)).into();
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

    pub(super) fn shard(
        &self,
        reading: &ScanInput<'_>,
        program: &Program,
        shard: &Shard,
    ) -> Result<Answers, SelectError> {
        let mut answers = Answers {
            predicates: vec![Vec::new(); self.predicates.len()],
            orders: vec![Vec::new(); self.orders.len()],
            labels: vec![Vec::new(); self.labels.len()],
            ..Answers::default()
        };
        let wanted: Vec<(&str, ColumnType)> = self.wanted.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
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
            asked.looks_at.iter().find(|&&at| !asked.rule.policy().is_answered(&scores[at])).copied()
        };
        for (at, (asked, source)) in program.predicates.iter().zip(&self.predicates).enumerate() {
            let Some(source) = source else { continue };
            let policy = asked.rule.policy();
            let keeps = judged
                && match policy.test() {
                    Some(test) => {
                        let cell = row.cell(*source, key);
                        self.is_recorded(&asked.rule, (*source, &cell), (shard, key))?;
                        test.holds(cell)
                    }
                    None => {
                        if let Some(lacking) = unanswered(asked) {
                            return Err(self.silent(asked, lacking, (shard, key)));
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
                        return Err(self.silent(asked, lacking, (shard, key)));
                    }
                    let cell = row.cell(*source, key);
                    self.is_recorded(&asked.rule, (*source, &cell), (shard, key))?;
                    let number = |_: &str| cell.number();
                    order.place(asked.looks_at.iter().map(|&at| &scores[at]), &mut draw, number)
                }
            };
            answers.orders[at].push(place.unwrap_or(MISSING));
        }
        for (at, source) in self.labels.iter().enumerate() {
            let Some(source) = source else { continue };
            let cell = row.cell(*source, key);
            if judged {
                self.is_recorded(&format_args!("per {}", program.labels[at]), (*source, &cell), (shard, key))?;
            }
            answers.labels[at].push(cell.label().map(Cow::into_owned));
        }
        Ok(())
    }

    fn silent(&self, asked: &ResolvedRule, benchmark: usize, of: (&Shard, &str)) -> SelectError {
        let radii = asked.rule.policy().needs().radii;
        let column = if radii { &self.hits } else { &self.maxima };
        let name = column.get(benchmark).copied().flatten().and_then(|at| self.wanted.get(at));
        let name = name.and_then(|(name, _)| benchmark_of(name)).map_or("", |(_, name)| name);
        unrecorded(&asked.rule, radii, name, of)
    }

    /// Refuses a column of a benchmark that the run has left empty: who is judged has all of it, or nobody has.
    fn is_recorded(
        &self,
        rule: &dyn Display,
        (source, cell): (Source, &Cell<'_>),
        of: (&Shard, &str),
    ) -> Result<(), SelectError> {
        let (Source::Column(at), Cell::Missing) = (source, cell) else { return Ok(()) };
        match benchmark_of(&self.wanted[at].0) {
            Some((said, name)) => Err(unrecorded(rule, !["max_similarity", "nearest"].contains(&said), name, of)),
            None => Ok(()),
        }
    }
}

/// What a run has not recorded of a benchmark, and for whom first.
fn unrecorded(rule: &dyn Display, radii: bool, benchmark: &str, (shard, key): (&Shard, &str)) -> SelectError {
    let what = if radii {
        "no hits (no radii, or --columns decision)"
    } else {
        "no largest similarities (--columns decision)"
    };
    let shard = &shard.name;
    SelectError::Input(format!("rule `{rule}`: the run has {what} of benchmark `{benchmark}` (first: {shard}/{key})"))
}

/// Refuses columns of a type that nobody compares in the way asked for.
fn check_types(
    program: &Program,
    wanted: &[(String, ColumnType)],
    predicates: &[Option<Source>],
    orders: &[Option<Source>],
) -> Result<(), SelectError> {
    let is_text = |source: &Option<Source>| match source {
        Some(Source::Column(at)) => Some(wanted[*at].1 == ColumnType::Text),
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
/// A number is asked of texts, or a text of numbers: what is never so would keep nothing, and `!=` all.
pub fn check_type(asked: &ResolvedRule, is_text: bool) -> Result<(), SelectError> {
    let policy = asked.rule.policy();
    let compare = policy.test().map(|test| test.compare);
    let wants_number = compare.is_none_or(Compare::needs_number);
    let problem = match policy.test().and_then(Test::word) {
        _ if is_text && wants_number => "is a text and no number".into(),
        _ if is_text => return Ok(()),
        _ if compare.is_some_and(Compare::needs_text) => "is a number and no text".into(),
        Some(word) => format!("is a number, and `{word}` is none (true and false are read as 1 and 0)"),
        None => return Ok(()),
    };
    Err(SelectError::Input(format!(
        "rule `{}`: column `{}` {problem}",
        asked.rule,
        policy.column().unwrap_or_default()
    )))
}
