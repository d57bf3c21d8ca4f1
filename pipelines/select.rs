//! `trommel select`: other splits from a finished ledger, as many as are wanted from one reading of it; no pixels, no model.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use trommel_core::durable;
use trommel_core::notices::Notices;
use trommel_core::out_folder::OutFolder;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::selection::{Selection, named};
use trommel_ledger::LedgerError;
use trommel_ledger::manifest::PartKind;
use trommel_ledger::read::Ledger;
use trommel_select::SelectError;
use trommel_select::scan::Shard;
use trommel_select::select::{MadeSplit, SplitSource, WantedSplit, in_order, program, select as select_from};
use trommel_select::split::{head_path, write_head};
use trommel_shard::plan::{Plan, is_shard_name};

use crate::benchmarks::as_judged;
use crate::error::{Kind, PipelineError};
use crate::memory::MemoryPlan;
use crate::plan_arguments::as_given;
use crate::run_losses;
use crate::unmarked::refuse_unmarked;

mod items;

pub use items::SplitPoints;
pub use trommel_select::split::Format;

/// What is selected, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectConfig {
    /// A run folder, or an epoch of a watch.
    pub run: PathBuf,
    /// `[NAME=]RULE` each.
    pub rules: Vec<String>,
    /// A file for one split, or a folder for several.
    pub out: PathBuf,
    /// Files of each split in a folder; none: a Parquet table.
    pub formats: Vec<Format>,
    /// Shards that are left out, by their names.
    pub without: Vec<String>,
    /// What each test point sees of each split is measured, and written beside it.
    pub items: bool,
    /// How the ledger is read.
    pub reading: LedgerReading,
}

/// How a ledger is read.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerReading {
    /// Seed of `random`.
    pub seed: u64,
    /// Bound on the process's memory.
    pub memory_bytes: u64,
    /// Threads that read the ledger.
    pub threads: usize,
    /// Tables joined to it: `[NAME=]PATH[@HOW]` each.
    pub tables: Vec<String>,
}

/// A split that was written.
#[derive(Clone, Debug, Serialize)]
pub struct SplitReport {
    /// What it is called.
    pub name: String,
    /// Its rule, all names replaced by what they stand for.
    pub rule: String,
    /// Samples that the split keeps.
    pub count: u64,
    /// Of these, samples without a caption.
    pub captionless: u64,
    /// Of these, samples that the run's own rule has dropped: it does not say whether they have one.
    pub captions_unknown: u64,
    /// Samples that a trainer finds in it: `--train-num-samples`.
    pub train_num_samples: u64,
    /// The hash of the kept keys.
    pub keys_sha256: String,
    /// Its files, the one that says what it is last.
    pub files: Vec<String>,
    /// What the run's benchmarks see of it, where that was asked for.
    pub items: Vec<SplitPoints>,
    /// Remarks for people.
    pub remarks: Vec<String>,
}

/// What was selected.
#[derive(Clone, Debug, Serialize)]
pub struct SelectReport {
    /// The splits, in the order of their rules.
    pub splits: Vec<SplitReport>,
    /// Shards that were selected from.
    pub shards: u64,
    /// Samples that took part.
    pub judged: u64,
    /// Samples that could not be judged, and took no part.
    pub rejected: u64,
    /// Samples that are taken down, and took no part.
    pub taken_down: u64,
    /// Shards of the plan that are not judged, by name: they are in no split.
    pub unfinished: Vec<String>,
    /// Shards that were left out by name.
    pub without: Vec<String>,
    /// Arguments that give the run's shards again; `None` where only who began it knows them.
    pub arguments: Option<Vec<String>>,
    /// The run knows its samples by shards: not by files of embeddings, nor by folders.
    pub of_shards: bool,
    /// What the run has lost, or passed over: it is in no split.
    pub notices: Notices,
}

/// Names that are told of many.
const TOLD: usize = 8;

/// Selects and writes.
///
/// # Errors
/// No run folder, one that is not finished or does not say what the rules ask, rules that cannot be read, or files that cannot be written.
pub fn select(config: &SelectConfig) -> Result<SelectReport, PipelineError> {
    let splits = named(&config.rules).map_err(PipelineError::usage)?;
    let run = OpenRun::open(&config.run, &config.without)?;
    if let Some(name) = run.unknown.first() {
        return Err(PipelineError::Usage(format!("--without {name}: {} has no such shard", config.run.display())));
    }
    run.refuse_unfinished(splits.iter().map(|(_, selection)| selection))?;
    let files = files(config, &splits)?;
    let benchmarks = if config.items { run.benchmarks_for_items(config, &files)? } else { Vec::new() };
    let folder = match files.first().and_then(|files| files.1.first()) {
        Some(file) => durable::parent(file).to_path_buf(),
        None => return Err(PipelineError::Usage("nothing to select: give --rule".into())),
    };
    let _made = OutFolder::make(&folder).map_err(PipelineError::at(&folder))?;
    let sorting =
        (config.reading.memory_bytes / 16) / files.iter().map(|files| files.1.len() as u64).sum::<u64>().max(1);
    let mut wanted = Vec::new();
    for ((_, selection), (name, files)) in splits.into_iter().zip(&files) {
        let sink = |file: &PathBuf| Format::of(file).map(|format| format.sink(file, sorting));
        let sinks = files.iter().filter_map(sink).collect::<Result<Vec<_>, SelectError>>().map_err(failed)?;
        wanted.push(WantedSplit { name: name.clone(), selection, sinks });
    }
    let made = run.select(&config.reading, &folder, &config.without, wanted)?;
    let mut report = SelectReport {
        splits: Vec::new(),
        shards: run.shards.len() as u64,
        judged: made.first().map_or(0, |made| made.head.judged),
        rejected: made.first().map_or(0, |made| made.head.rejected),
        taken_down: made.first().map_or(0, |made| made.head.taken_down),
        unfinished: run.unfinished.clone(),
        without: config.without.clone(),
        arguments: run.arguments.clone(),
        of_shards: run.of_shards,
        notices: run.notices.clone(),
    };
    for (MadeSplit { name, head, remarks }, (_, files)) in made.into_iter().zip(files) {
        let mut shown: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        if let Some(file) = files.first() {
            let path = head_path(file);
            write_head(&path, &head).map_err(failed)?;
            shown.push(path.display().to_string());
        }
        let table = files.iter().find(|file| Format::of(file) == Some(Format::Parquet)).filter(|_| config.items);
        let mut points = Vec::new();
        if let Some(table) = table {
            points = items::write(&run, table, &benchmarks, config.reading.threads)?;
            shown.insert(shown.len() - 1, items::items_path(table).display().to_string());
        }
        report.splits.push(SplitReport {
            items: points,
            name,
            count: head.count,
            captionless: head.captionless,
            captions_unknown: head.captions_unknown,
            train_num_samples: head.trainable(),
            rule: head.rule,
            keys_sha256: head.keys_sha256,
            files: shown,
            remarks,
        });
    }
    Ok(report)
}

/// Each split's name and files.
fn files(config: &SelectConfig, splits: &[(String, Selection)]) -> Result<Vec<(String, Vec<PathBuf>)>, PipelineError> {
    let out = &config.out;
    if Format::of(out).is_some() && !out.is_dir() {
        let [(name, _)] = splits else {
            let (count, out) = (splits.len(), out.display());
            return Err(PipelineError::Usage(format!("-o {out} is one file, for {count} rules: give a folder")));
        };
        if !config.formats.is_empty() {
            let out = out.display();
            return Err(PipelineError::Usage(format!(
                "--format is for a folder, and -o {out} is one file by its ending"
            )));
        }
        let stem = || out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok(vec![(if name.is_empty() { stem() } else { name.clone() }, vec![out.clone()])]);
    }
    if let Some(extension) = out.extension().filter(|_| !out.is_dir()) {
        let extension = extension.to_string_lossy();
        return Err(PipelineError::Usage(format!(
            "-o {}: .{extension} is no format of splits: .parquet (names), .npy (DataComp's uids), .txt (SHARD/KEY), .keys (keys alone), or a folder",
            out.display()
        )));
    }
    let formats = if config.formats.is_empty() { &[Format::Parquet][..] } else { &config.formats };
    let named = splits.iter().map(|(name, _)| {
        let name = if name.is_empty() { "split".to_owned() } else { name.clone() };
        let files = formats.iter().map(|format| out.join(format!("{name}.{}", format.extension()))).collect();
        (name, files)
    });
    Ok(named.collect())
}

/// A run folder that is selected from.
pub(crate) struct OpenRun {
    /// The ledger of the run.
    pub ledger: Ledger,
    /// Names of its benchmarks.
    pub benchmarks: Vec<String>,
    /// Its shards in the order of their names, without those that are left out.
    pub shards: Vec<Shard>,
    /// Names of those that are not judged.
    pub unfinished: Vec<String>,
    /// Names to leave out that are no shard's.
    pub unknown: Vec<String>,
    /// What the run has lost, or passed over.
    pub notices: Notices,
    /// Arguments that give its shards again, and whether they are shards.
    arguments: Option<Vec<String>>,
    of_shards: bool,
    run: PathBuf,
}

impl OpenRun {
    /// Opens a run folder, without a lock.
    ///
    /// # Errors
    /// No run folder, or a damaged one.
    pub fn open(run: &Path, without: &[String]) -> Result<Self, PipelineError> {
        let unread = |error: LedgerError| {
            let (error, current) = (no_run(run, error), run.join("current"));
            match current.is_dir() && !run.join("config.json").exists() {
                true => error
                    .with_remedy(format_args!("it is a watch's: give one of its splits, {}/SPLIT", current.display())),
                false => error,
            }
        };
        let ledger = Ledger::open(run).map_err(unread)?;
        let plan: Plan = ledger.plan().map_err(unread)?;
        let benchmarks = ledger.benchmarks().map_err(unread)?;
        refuse_unmarked(&ledger)?;
        let mut left_out: BTreeSet<&str> = without.iter().map(String::as_str).collect();
        let (mut shards, mut unfinished) = (Vec::new(), Vec::new());
        for shard in &plan.shards {
            if without.contains(&shard.name) {
                left_out.remove(shard.name.as_str());
                continue;
            }
            let Some((_, line)) = ledger.shards().get(&shard.ordinal) else {
                unfinished.push(shard.name.clone());
                continue;
            };
            shards.push(Shard {
                name: shard.name.clone(),
                ordinal: shard.ordinal,
                first_row: 0,
                rows: line.counts.total(),
                bytes: line.part(PartKind::Ledger).map_or(0, |part| part.bytes),
            });
        }
        let notices = run_losses::of_run(&plan, &ledger);
        let unknown = left_out.into_iter().map(str::to_owned).collect();
        let of_shards = plan.shards.iter().any(|shard| is_shard_name(&shard.name) || shard.name == "-");
        let (arguments, shards, run) = (as_given(&plan), in_order(shards), run.into());
        Ok(Self { ledger, benchmarks, shards, unfinished, unknown, notices, arguments, of_shards, run })
    }

    /// The benchmarks that it was judged against, for `--items`.
    fn benchmarks_for_items(
        &self,
        config: &SelectConfig,
        files: &[(String, Vec<PathBuf>)],
    ) -> Result<Vec<Benchmark>, PipelineError> {
        let has_table = |files: &[PathBuf]| files.iter().any(|file| Format::of(file) == Some(Format::Parquet));
        if !files.iter().all(|(_, files)| has_table(files)) {
            return Err(PipelineError::Usage(
                "--items: who is kept is read from the split's .parquet, which is not written".into(),
            ));
        }
        let benchmarks = as_judged(&self.ledger)?;
        if benchmarks.is_empty() {
            return Err(PipelineError::Usage(format!(
                "--items: {} was judged against no benchmark",
                self.run.display()
            )));
        }
        let judged = |shard: &&Shard| {
            let line = self.ledger.shards().get(&shard.ordinal);
            line.is_some_and(|(_, line)| line.counts.kept + line.counts.dropped > 0)
        };
        let lacks = |shard: &&Shard| self.ledger.embeddings_path(shard.ordinal).is_err();
        if let Some(shard) = self.shards.iter().filter(judged).find(lacks) {
            return Err(PipelineError::Usage(format!(
                "--items: {} keeps no embeddings of {}, and nothing can be joined without (--no-embeddings)",
                self.run.display(),
                shard.name
            )));
        }
        let budget = MemoryPlan::new(config.reading.memory_bytes, false).credit_bytes()?;
        items::check_memory(&benchmarks, config.reading.threads, budget)?;
        Ok(benchmarks)
    }

    /// Refuses what cannot be known before all shards are judged.
    pub fn refuse_unfinished<'s>(
        &self,
        mut selections: impl Iterator<Item = &'s Selection>,
    ) -> Result<(), PipelineError> {
        match selections.find(|selection| selection.needs_all()) {
            Some(selection) if !self.unfinished.is_empty() => Err(PipelineError::Unfinished(format!(
                "{}: {}; `{selection}` keeps an exact number of all samples: finish the run, or leave these shards out by name, \
                 --without {}",
                self.run.display(),
                self.unfinished_in_words(),
                self.unfinished[0]
            ))),
            _ => Ok(()),
        }
    }

    /// Which shards are not judged, and how many.
    pub fn unfinished_in_words(&self) -> String {
        unfinished_in_words(&self.unfinished, self.shards.len() + self.unfinished.len())
    }

    /// Writes each wanted split, and says what was kept.
    pub fn select(
        &self,
        reading: &LedgerReading,
        folder: &Path,
        without: &[String],
        wanted: Vec<WantedSplit>,
    ) -> Result<Vec<MadeSplit>, PipelineError> {
        let memory = MemoryPlan::new(reading.memory_bytes, false);
        let source = SplitSource {
            ledger: &self.ledger,
            benchmarks: &self.benchmarks,
            shards: &self.shards,
            without,
            unfinished: &self.unfinished,
            seed: reading.seed,
            memory_bytes: memory.credit_bytes()?,
            threads: reading.threads,
            folder,
            always_in_files: false,
        };
        let program = program(&source, &wanted).map_err(failed)?;
        select_from(&source, &program, &reading.tables, wanted).map_err(failed)
    }
}

/// What is given as a run folder and is none.
pub(crate) fn no_run(run: &Path, error: LedgerError) -> PipelineError {
    match error {
        LedgerError::NoRun { .. } => PipelineError::usage(error),
        damaged => {
            PipelineError::usage(damaged).within(format_args!("{} cannot be read as a run folder", run.display()))
        }
    }
}

/// Which shards of a plan are not judged, and how many.
#[must_use]
pub fn unfinished_in_words(unfinished: &[String], of: usize) -> String {
    let more = unfinished.len().saturating_sub(TOLD);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names = unfinished.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    format!("{} of {of} shards are not judged ({names}{more})", unfinished.len())
}

/// A failure of selecting, with its exit status.
pub(crate) fn failed(error: SelectError) -> PipelineError {
    match error {
        SelectError::Input(_)
        | SelectError::Rule(_)
        | SelectError::NoSplit { .. }
        | SelectError::Table(_)
        | SelectError::Ledger(LedgerError::NoRun { .. }) => PipelineError::usage(error),
        SelectError::Unfinished(_) => PipelineError::of(Kind::Unfinished, error),
        SelectError::Columnar(ref table) if table.io_cause().is_none() => PipelineError::usage(error),
        SelectError::Changed(_)
        | SelectError::Ledger(_)
        | SelectError::Columnar(_)
        | SelectError::Io { .. }
        | SelectError::Threads(_)
        | SelectError::Head(_) => PipelineError::failed(error),
    }
}
