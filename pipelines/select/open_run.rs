//! A run folder that splits are selected from, and how its ledger is read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use trommel_core::notices::Notices;
use trommel_decide::selection::Selection;
use trommel_ledger::LedgerError;
use trommel_ledger::manifest::PartKind;
use trommel_ledger::read::Ledger;
use trommel_ledger::run_folder::CONFIG_FILE;
use trommel_select::scan::Shard;
use trommel_select::select::{MadeSplit, SplitSource, WantedSplit, in_order, program, select as select_from};
use trommel_shard::plan::Plan;

use crate::error::PipelineError;
use crate::failures::{failed, no_run};
use crate::memory::MemoryPlan;
use crate::past_run::is_of_shards;
use crate::plan_arguments::as_given;
use crate::run_losses;
use crate::watch_folder::{CURRENT, refuse_unmarked};

/// Names that are told of many.
const TOLD: usize = 8;

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
    /// Arguments that give its shards again.
    pub(super) arguments: Option<Vec<String>>,
    /// Whether these are shards.
    pub(super) of_shards: bool,
    /// The folder as it was given.
    pub(super) run: PathBuf,
}

impl OpenRun {
    /// Opens a run folder, without a lock.
    ///
    /// # Errors
    /// No run folder, or a damaged one.
    pub fn open(run: &Path, without: &[String]) -> Result<Self, PipelineError> {
        let unread = |error: LedgerError| {
            let (error, current) = (no_run(run, error), run.join(CURRENT));
            match current.is_dir() && !run.join(CONFIG_FILE).exists() {
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
        let of_shards = is_of_shards(&plan);
        let (arguments, shards, run) = (as_given(&plan), in_order(shards), run.into());
        Ok(Self { ledger, benchmarks, shards, unfinished, unknown, notices, arguments, of_shards, run })
    }

    /// Refuses what cannot be known before all shards are judged.
    pub fn refuse_unfinished<'s>(
        &self,
        mut selections: impl Iterator<Item = &'s Selection>,
    ) -> Result<(), PipelineError> {
        match selections.find(|selection| selection.needs_all()) {
            Some(selection) if !self.unfinished.is_empty() => Err(PipelineError::unfinished(format!(
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

/// Which shards of a plan are not judged, and how many.
#[must_use]
pub fn unfinished_in_words(unfinished: &[String], of: usize) -> String {
    let more = unfinished.len().saturating_sub(TOLD);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names = unfinished.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    format!("{} of {of} shards are not judged ({names}{more})", unfinished.len())
}
