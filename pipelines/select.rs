//! `trommel select`: other splits from a finished ledger, as many as are wanted from one reading of it; no pixels, no model.

use std::path::PathBuf;

use serde::Serialize;
use trommel_core::durable;
use trommel_core::notices::Notices;
use trommel_decide::selection::named;
use trommel_select::SelectError;
use trommel_select::select::{MadeSplit, WantedSplit};
use trommel_select::split::{TABLES_BESIDE, files, head_path, write_head};

use crate::error::PipelineError;
use crate::failures::failed;
use crate::reading_flags::reading_flags;
use crate::split_writer::alone;

mod items;
mod open_run;

pub use items::SplitPoints;
pub(crate) use open_run::OpenRun;
pub use open_run::{LedgerReading, unfinished_in_words};
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
    /// Flags by which a trainer reads samples as the run has read them.
    pub reading_flags: Vec<String>,
    /// The run knows its samples by shards: not by files of embeddings, nor by folders.
    pub of_shards: bool,
    /// What the run has lost, or passed over: it is in no split.
    pub notices: Notices,
}

/// Selects and writes.
///
/// # Errors
/// No run folder, one that is not finished or does not say what the rules ask, rules that cannot be read, or files that cannot be written.
pub fn select(config: &SelectConfig) -> Result<SelectReport, PipelineError> {
    let splits = named(&config.rules).map_err(PipelineError::usage)?;
    let run = OpenRun::open(&config.run, &config.without)?;
    if let Some(name) = run.unknown.first() {
        return Err(PipelineError::usage(format!("--without {name}: {} has no such shard", config.run.display())));
    }
    run.refuse_unfinished(splits.iter().map(|(_, selection)| selection))?;
    let names: Vec<&str> = splits.iter().map(|(name, _)| name.as_str()).collect();
    let files = files(&config.out, &config.formats, &names).map_err(failed)?;
    // A table beside a split begins with its name, so no other split may be called as that table is.
    let beside = files.iter().filter_map(|(_, files)| files.first());
    let beside = beside.flat_map(|file| TABLES_BESIDE.map(|ending| file.with_extension(ending)));
    let mut written: Vec<PathBuf> = files.iter().flat_map(|(_, files)| files.clone()).chain(beside).collect();
    written.sort_unstable();
    if let Some([twice, _]) = written.array_windows().find(|[a, b]| a == b) {
        return Err(PipelineError::usage(format!(
            "two rules have {} as their file: give them other names",
            twice.display()
        )));
    }
    let benchmarks = if config.items { run.benchmarks_for_items(&config.reading, &files)? } else { Vec::new() };
    let folder = match files.first().and_then(|files| files.1.first()) {
        Some(file) => durable::parent(file).to_path_buf(),
        None => return Err(PipelineError::usage("nothing to select: give --rule")),
    };
    let _alone = alone(files.iter().flat_map(|(_, files)| files))?;
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
        reading_flags: made.first().map_or_else(Vec::new, |made| reading_flags(&made.head.reading)),
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
