//! Several selections of one ledger: what they ask is read once, who is kept is worked out, and the names of who is kept are read.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;
use trommel_columnar::parquet::{Column, ColumnType};
use trommel_decide::checked_rule::KnownBenchmark;
use trommel_decide::rule::TIES;
use trommel_decide::selection::Selection;
use trommel_ledger::read::Ledger;

use crate::SelectError;
use crate::bits::Bits;
use crate::head::{EXACT_TIES, KeysHash, SPLIT_SCHEMA, SplitHead};
use crate::join::{Join, join};
use crate::program::Program;
use crate::resolve::resolve;
use crate::scan::{ROW_BYTES, ScanInput, Shard, benchmark_of, scan};
use crate::settle::Unnamed;
use crate::split::{Kept, Sink};

/// Bytes of a kept row on its way to its sinks.
const KEPT_ROW_BYTES: u64 = 256;

/// What is selected, and where it goes.
pub struct WantedSplit {
    /// What the split is called.
    pub name: String,
    /// Which samples are kept.
    pub selection: Selection,
    /// Where their names go.
    pub sinks: Vec<Box<dyn Sink>>,
}

/// What is selected from, and how.
#[derive(Clone, Copy)]
pub struct SplitSource<'a> {
    /// The run's ledger.
    pub ledger: &'a Ledger,
    /// Names of its benchmarks.
    pub benchmarks: &'a [String],
    /// The shards to select from, in the order of their names.
    pub shards: &'a [Shard],
    /// Shards of the plan that are left out by name.
    pub without: &'a [String],
    /// Shards of the plan that are not judged.
    pub unfinished: &'a [String],
    /// Seed of `random`.
    pub seed: u64,
    /// Bytes for bits, values, counters, and shards in reading.
    pub memory_bytes: u64,
    /// Threads that read.
    pub threads: usize,
    /// Where values lie that have no room in memory.
    pub folder: &'a Path,
    /// They lie there even if there were room.
    pub always_in_files: bool,
}

/// A split that was made.
#[derive(Clone, Debug)]
pub struct MadeSplit {
    /// What it is called.
    pub name: String,
    /// What it says of itself.
    pub head: SplitHead,
    /// Remarks for people.
    pub remarks: Vec<String>,
}

/// Shards in the order of their names, from their names, ordinals, rows and bytes.
#[must_use]
pub fn in_order(mut shards: Vec<Shard>) -> Vec<Shard> {
    shards.sort_by(|a, b| a.name.cmp(&b.name));
    let mut first_row = 0;
    for shard in &mut shards {
        shard.first_row = first_row;
        first_row += shard.rows;
    }
    shards
}

/// What a run folder's configuration says of its decisions, as far as it has a say in what a split is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunFacts {
    /// Identity of the embedder; null where nothing was embedded.
    pub identity: Value,
    /// All benchmarks: name, points, dim, sha256.
    pub benchmarks: Vec<Value>,
    /// How samples are read.
    pub reading: BTreeMap<String, Value>,
}

impl RunFacts {
    /// Reads them from the configuration in the run folder.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        const READING: [&str; 5] = ["image_keys", "text_key", "max_pixels", "load_truncated", "repeated_members"];
        let decisions = ledger.config().get("decisions").cloned().unwrap_or_default();
        let reading = READING.iter().filter_map(|name| Some(((*name).to_owned(), decisions.get(name)?.clone())));
        Self {
            identity: decisions.get("embedder").cloned().unwrap_or_default(),
            benchmarks: decisions.get("benchmarks").and_then(Value::as_array).cloned().unwrap_or_default(),
            reading: reading.collect(),
        }
    }

    /// The benchmarks with these names.
    #[must_use]
    pub fn benchmarks_named<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Vec<Value> {
        let names: Vec<&str> = names.into_iter().collect();
        self.benchmarks.iter().filter(|benchmark| names.contains(&name(benchmark))).cloned().collect()
    }

    /// The name under which this run has the benchmark that a split tells of: the same test points and radii; of several the one that is called
    /// the same. `None` where it has none.
    #[must_use]
    pub fn name_of(&self, theirs: &Value) -> Option<&str> {
        let content = |benchmark: &Value| ["points", "dim", "sha256"].map(|field| benchmark.get(field).cloned());
        let mut same: Vec<&str> =
            self.benchmarks.iter().filter(|mine| content(mine) == content(theirs)).map(name).collect();
        same.sort_by_key(|mine| *mine != name(theirs));
        same.first().copied()
    }
}

fn name(benchmark: &Value) -> &str {
    benchmark.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// The program of what is wanted.
///
/// # Errors
/// A rule that names a benchmark which the run has not.
pub fn program(source: &SplitSource<'_>, wanted: &[WantedSplit]) -> Result<Program, SelectError> {
    let known: Vec<KnownBenchmark<'_>> =
        source.benchmarks.iter().map(|name| KnownBenchmark { name, radii: true }).collect();
    Program::of(wanted.iter().map(|wanted| &wanted.selection), &known)
}

/// Selects, and writes what is kept; `tables` as `JoinedTable` reads them.
///
/// # Errors
/// A ledger that cannot be read or does not say what is asked, a budget that is too small, or files that cannot be written.
pub fn select(
    source: &SplitSource<'_>,
    program: &Program,
    tables: &[String],
    wanted: Vec<WantedSplit>,
) -> Result<Vec<MadeSplit>, SelectError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(source.threads).build();
    let pool = pool.map_err(SelectError::Threads)?;
    pool.install(|| select_here(source, program, tables, wanted))
}

fn select_here(
    source: &SplitSource<'_>,
    program: &Program,
    tables: &[String],
    wanted: Vec<WantedSplit>,
) -> Result<Vec<MadeSplit>, SelectError> {
    let rows: u64 = source.shards.iter().map(|shard| shard.rows).sum();
    let budget = Budget::of(source, program, rows, tables.len() as u64)?;
    let reading = ScanInput {
        ledger: source.ledger,
        benchmarks: source.benchmarks,
        shards: source.shards,
        others: [source.without, source.unfinished],
        seed: source.seed,
        window_bytes: budget.window_bytes,
        label_bytes: budget.label_bytes,
        folder: source.folder,
        in_memory: budget.values_in_memory,
    };
    let Join { joined, columns, remarks } = join(&reading, program, tables, budget.counter_bytes)?;
    let scanned = scan(&reading, program, joined)?;
    let (judged, rejected, taken_down) = (scanned.judged.count(), scanned.rejected, scanned.taken_down);
    let captions = Captions { captionless: scanned.captionless.clone(), unknown: scanned.unknown.clone() };
    let (kept, said) = resolve(program, scanned, budget.counter_bytes)?;
    let facts = RunFacts::of(source.ledger);
    let mut unfinished = source.unfinished.to_vec();
    unfinished.sort_unstable();
    let mut outputs: Vec<Output<'_>> = wanted
        .into_iter()
        .zip(&program.wanted)
        .map(|(wanted, &node)| Output::of(wanted, kept[node].as_ref()))
        .collect();
    write(&reading, &mut outputs, &captions)?;
    let finish = |(output, node): (Output<'_>, &usize)| {
        let rules = output.wanted.selection.rules();
        let looks_at = |rule: &trommel_decide::rule::Rule| {
            let known: Vec<KnownBenchmark<'_>> =
                source.benchmarks.iter().map(|name| KnownBenchmark { name, radii: true }).collect();
            rule.resolve(&known).unwrap_or_default()
        };
        let read: Vec<&str> = output.wanted.selection.columns();
        let of_column = |column: &&str| {
            let (_, name) = benchmark_of(column).filter(|_| !columns.contains_key(*column))?;
            source.benchmarks.iter().position(|known| known == name)
        };
        let looked_at: std::collections::BTreeSet<usize> =
            rules.iter().flat_map(|rule| looks_at(rule)).chain(read.iter().filter_map(of_column)).collect();
        let head = SplitHead {
            schema: SPLIT_SCHEMA,
            rule: output.wanted.selection.to_string(),
            seed: source.seed,
            ties: format!("{TIES}; {EXACT_TIES}"),
            identity: facts.identity.clone(),
            benchmarks: facts.benchmarks_named(looked_at.iter().map(|&at| source.benchmarks[at].as_str())),
            reading: facts.reading.clone(),
            columns: columns
                .iter()
                .filter(|(name, _)| read.contains(&name.as_str()))
                .map(|(a, b)| (a.clone(), b.clone()))
                .collect(),
            inputs: None,
            shards: source.shards.len() as u64,
            without: source.without.to_vec(),
            unfinished: unfinished.clone(),
            judged,
            rejected,
            taken_down,
            count: output.count,
            captionless: output.captionless,
            captions_unknown: output.captions_unknown,
            keys_sha256: output.hash.finish(),
            lists: None,
        };
        let mut sinks = output.wanted.sinks;
        for sink in &mut sinks {
            let read = source.shards.iter().map(|shard| &shard.name);
            sink.run_has(&mut read.chain(source.without).map(String::as_str));
        }
        let short = program.exact_in(*node).into_iter().filter_map(|node| said.get(&node).cloned()).collect::<Vec<_>>();
        Ok((output.wanted.name, short, Unnamed::of(sinks, head)?))
    };
    // Who is refused has changed no split.
    let unnamed = outputs.into_iter().zip(&program.wanted).map(finish).collect::<Result<Vec<_>, SelectError>>()?;
    let settled = unnamed.into_iter().map(|(name, mut remarks, files)| {
        let (head, told) = files.settle()?;
        remarks.extend(told);
        Ok(MadeSplit { name, head, remarks })
    });
    let mut made = settled.collect::<Result<Vec<MadeSplit>, SelectError>>()?;
    // What is to be said of tables is said once.
    made.iter_mut().take(1).for_each(|made| made.remarks.splice(0..0, remarks.clone()).for_each(drop));
    Ok(made)
}

/// What the memory is for.
struct Budget {
    window_bytes: u64,
    counter_bytes: u64,
    /// Of one column of `per`.
    label_bytes: u64,
    values_in_memory: bool,
}

impl Budget {
    fn of(source: &SplitSource<'_>, program: &Program, rows: u64, tables: u64) -> Result<Self, SelectError> {
        let bitmaps = (program.nodes.len() + program.predicates.len() + program.orders.len() + 8) as u64;
        let bits = bitmaps * rows.div_ceil(8);
        let largest =
            source.shards.iter().map(|shard| 2 * shard.bytes + shard.rows * (ROW_BYTES + KEPT_ROW_BYTES)).max();
        let least = bits + largest.unwrap_or(0) + (1 << 20);
        if source.memory_bytes < least {
            return Err(SelectError::Input(format!(
                "--memory: {} MiB more are needed: {bitmaps} sets of {rows} samples, and the largest shard of the ledger",
                (least - source.memory_bytes).div_ceil(1 << 20)
            )));
        }
        let free = source.memory_bytes - bits;
        let own = (program.orders.len() + program.labels.len()) as u64;
        // Of a table: its hashes and the ledger's, and three times each answer on its way.
        let joined = if tables == 0 { 0 } else { 6 * tables + 6 * (own + program.predicates.len() as u64) };
        let values = 8 * rows * (own + joined);
        Ok(Self {
            window_bytes: (free / 4).max(largest.unwrap_or(0)),
            counter_bytes: (free / 8).clamp(1 << 20, 256 << 20),
            label_bytes: free / 8 / (program.labels.len() as u64).max(1),
            values_in_memory: values <= free / 2 && !source.always_in_files,
        })
    }
}

/// A split being written.
struct Output<'a> {
    wanted: WantedSplit,
    kept: Option<&'a Bits>,
    hash: KeysHash,
    count: u64,
    captionless: u64,
    captions_unknown: u64,
}

/// Who has no caption, and of whom nobody knows.
struct Captions {
    captionless: Bits,
    unknown: Bits,
}

impl<'a> Output<'a> {
    fn of(wanted: WantedSplit, kept: Option<&'a Bits>) -> Self {
        Self { wanted, kept, hash: KeysHash::default(), count: 0, captionless: 0, captions_unknown: 0 }
    }

    fn looks_at_all(&self) -> bool {
        self.wanted.sinks.iter().any(|sink| sink.looks_at_all())
    }

    fn add(&mut self, shard: &Shard, names: &Names, captions: &Captions) -> Result<(), SelectError> {
        let of = self.kept.filter(|kept| kept.ones(shard.first_row..shard.first_row + shard.rows) > 0);
        if of.is_none() && !self.looks_at_all() {
            return Ok(());
        }
        for (row, name) in (shard.first_row..).zip(names) {
            if of.is_some_and(|of| of.get(row)) {
                let (index, key, uid) = (name.index, name.key.as_str(), name.uid.as_deref());
                self.hash.add(&shard.name, index, key);
                self.count += 1;
                self.captionless += u64::from(captions.captionless.get(row));
                self.captions_unknown += u64::from(captions.unknown.get(row));
                let kept = Kept { shard: &shard.name, index, key, uid };
                self.wanted.sinks.iter_mut().try_for_each(|sink| sink.add(kept))?;
            } else {
                self.wanted.sinks.iter_mut().try_for_each(|sink| sink.leave_out(&shard.name, &name.key))?;
            }
        }
        Ok(())
    }
}

/// What a row is called.
struct Name {
    index: u32,
    key: String,
    uid: Option<String>,
}

type Names = Vec<Name>;

/// Reads the names of who is kept anywhere, of all where a sink looks at all, and hands them on.
fn write(reading: &ScanInput<'_>, outputs: &mut [Output<'_>], captions: &Captions) -> Result<(), SelectError> {
    let uids = outputs.iter().flat_map(|output| &output.wanted.sinks).any(|sink| sink.needs_uids());
    let all = outputs.iter().any(Output::looks_at_all);
    let sets: Vec<&Bits> = outputs.iter().filter_map(|output| output.kept).collect();
    for window in reading.windows(KEPT_ROW_BYTES) {
        let names = |shard: &Shard| {
            let rows = shard.first_row..shard.first_row + shard.rows;
            let kept = sets.iter().any(|kept| kept.ones(rows.clone()) > 0);
            if kept || all { names(reading.ledger, shard, uids) } else { Ok(Vec::new()) }
        };
        let named: Vec<Names> = window.par_iter().map(names).collect::<Result<_, SelectError>>()?;
        outputs.par_iter_mut().try_for_each(|output| {
            window.iter().zip(&named).try_for_each(|(shard, names)| output.add(shard, names, captions))
        })?;
    }
    Ok(())
}

fn names(ledger: &Ledger, shard: &Shard, uids: bool) -> Result<Names, SelectError> {
    let mut wanted = vec![("index", ColumnType::U32), ("key", ColumnType::Text)];
    if uids {
        wanted.push(("uid", ColumnType::Text));
    }
    let mut names = Vec::with_capacity(shard.rows as usize);
    for group in ledger.columns(shard.ordinal, &wanted)? {
        let mut columns = group?.into_iter();
        let (Some(Column::U32(indices)), Some(Column::Text(keys))) = (columns.next(), columns.next()) else { continue };
        let mut uids = match columns.next() {
            Some(Column::Text(uids)) => uids.into_iter(),
            _ => Vec::new().into_iter(),
        };
        names.extend(indices.into_iter().zip(keys).map(|(index, key)| Name {
            index: index.unwrap_or_default(),
            key: key.unwrap_or_default(),
            uid: uids.next().flatten(),
        }));
    }
    Ok(names)
}
