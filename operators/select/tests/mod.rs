mod defects;
mod keys_alone;
mod membership;
mod met;
mod naive;
mod properties;
mod shortfalls;
mod told;
mod world;

use std::path::Path;

use trommel_decide::selection::Selection;
use trommel_ledger::manifest::PartKind;
use trommel_ledger::read::Ledger;
use trommel_shard::plan::Plan;

use crate::SelectError;
use crate::scan::Shard;
use crate::select::{MadeSplit, SplitSource, WantedSplit, in_order, program, select};
use crate::split::{Format, SplitRow, read_rows};

/// Selects from a run folder into another one; what each split keeps, and what it says of itself.
fn selected(
    run: &Path,
    selections: &[Selection],
    seed: u64,
    tables: &[String],
    (always_in_files, threads): (bool, usize),
) -> Result<Vec<(Vec<SplitRow>, MadeSplit)>, SelectError> {
    let ledger = Ledger::open(run)?;
    let plan: Plan = ledger.plan()?;
    let shard = |(&ordinal, (_, line)): (&u64, &(u64, trommel_ledger::manifest::ShardLine))| Shard {
        name: plan.shard(ordinal).unwrap().name.clone(),
        ordinal,
        first_row: 0,
        rows: line.counts.total(),
        bytes: line.part(PartKind::Ledger).unwrap().bytes,
    };
    let shards = in_order(ledger.shards().iter().map(shard).collect());
    let out = tempfile::tempdir().unwrap();
    let benchmarks = ledger.benchmarks()?;
    let source = SplitSource {
        ledger: &ledger,
        benchmarks: &benchmarks,
        shards: &shards,
        without: &[],
        unfinished: &[],
        seed,
        memory_bytes: 64 << 20,
        threads,
        folder: out.path(),
        always_in_files,
    };
    let path = |at: usize| out.path().join(format!("{at}.parquet"));
    let wanted = selections.iter().enumerate().map(|(at, selection)| WantedSplit {
        name: at.to_string(),
        selection: selection.clone(),
        sinks: vec![Format::Parquet.sink(&path(at), 1 << 20).unwrap()],
    });
    let wanted: Vec<WantedSplit> = wanted.collect();
    let program = program(&source, &wanted)?;
    let made = select(&source, &program, tables, wanted)?;
    let rows = |at: usize| read_rows(&path(at)).unwrap().map(Result::unwrap).collect::<Vec<_>>();
    Ok(made.into_iter().enumerate().map(|(at, made)| (rows(at), made)).collect())
}

fn read(text: &str) -> Selection {
    text.parse().unwrap()
}
