//! Opening: from what was written down to the state, and from the state to what is arranged.
//!
//! ```text
//!  journal ─▶ inputs, floors, maxima ─▶ cuts ─┐
//!  match parts ───────────────────────────────┴─▶ hits, takedowns, sizes, in slices ─▶ dataflow ─▶ marks, tallies, counts
//! ```
//!
//! No vector of a sample is read. The dataflow's time goes on by one a slice, so it is not the published epoch; nobody sees the slices.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::budget::EpochBudget;
use super::cuts::Cuts;
use super::damage::JournalError;
use super::filed::Filed;
use super::flow::{Taken, Tally};
use super::inputs::{Inputs, Points, ShardInput, Split};
use super::journal::{Journal, JournalState, PARTS};
use super::parts::{PartRecord, PartStore, StoredTable, incarnation_of};
use super::peers::Round;
use super::record::{BenchmarkRecord, Changed, Delta, ShardRecord, follow};
use super::rows::{CutRows, KeyRows, PeakRows, StoredPoints, TakenRows};
use super::settle::settle;
use super::tables::Table;
use super::workers::{Facts, Flow};
use super::world::{Live, Peaks, World};
use super::{Epoch, IncrementalError};
use trommel_core::causes::Cause;
use trommel_core::sample::SampleId;
use trommel_decide::benchmark::{Benchmark, BenchmarkError};
use trommel_decide::rule::Rule;
use trommel_ledger::LedgerError;
use trommel_ledger::storage::Storage;

/// Facts of one slice at most. Tests have few facts and want many slices.
const SLICE_FACTS: usize = if cfg!(test) { 50 } else { 1 << 18 };

/// What is found in a folder.
pub(super) struct Opened {
    /// In the first process only.
    pub(super) journal: Option<Journal>,
    pub(super) part_store: PartStore,
    pub(super) world: World,
    pub(super) epoch: Epoch,
}

impl Opened {
    /// Opens a folder, and feeds the dataflow with what it says. With several processes the first one cleans the folder up, the others read
    /// it after that; each feeds the facts of its own shards.
    pub(super) fn new(
        root: &Path,
        storage: Arc<dyn Storage>,
        flow: &mut Flow,
        budget_bytes: u64,
        round: &Round,
    ) -> Result<Self, IncrementalError> {
        let folder = root.join(PARTS);
        let first = if round.peers.rank() == 0 { refreshed(root, &folder, &storage).map(Some) } else { Ok(None) };
        let tell = |first: &Option<(Journal, JournalState, u64)>| first.as_ref().map(|first| first.2);
        let (first, others) = round.share("journal", first, tell)?;
        let elsewhere = others.into_iter().flatten().next();
        let opened = match first {
            Some((journal, restored, incarnation)) => Ok((Some(journal), restored, incarnation)),
            None => Journal::read(root, &*storage).map(|restored| (None, restored, elsewhere.unwrap_or_default())),
        };
        let made = opened.and_then(|(journal, restored, incarnation)| {
            let part_store = PartStore::folder(&folder, incarnation, storage.clone())?;
            let (world, filed) = world(&restored.state, &Kept { part_store: &part_store, round }, root)?;
            Ok((journal, restored, part_store, world, filed))
        });
        let ((mut journal, restored, part_store, mut world, filed), _) = round.share("state", made, |_| ())?;
        if let Some(journal) = &mut journal {
            clean(
                &folder,
                &storage.list(&folder).map_err(LedgerError::at("list", &folder))?,
                &restored.state,
                &*storage,
            )?;
            journal.filed = filed;
        }
        Feed::new(&mut world, flow, budget_bytes, round).run()?;
        Ok(Self { journal, part_store, world, epoch: restored.epoch })
    }
}

/// The journal, cleaned up and locked, what it says, and the number of this turn.
fn refreshed(
    root: &Path,
    folder: &Path,
    storage: &Arc<dyn Storage>,
) -> Result<(Journal, JournalState, u64), IncrementalError> {
    let (journal, restored) = Journal::open(root, storage.clone())?;
    let names = storage.list(folder).map_err(LedgerError::at("list", folder))?;
    // Larger than any that is there, listed or not: somebody in this process may still read, and then remove, an unlisted one.
    let incarnation = names.iter().filter_map(|name| incarnation_of(name)).max().map_or(0, |last| last + 1);
    Ok((journal, restored, incarnation))
}

/// Where parts are found again, and whose they are.
struct Kept<'a> {
    part_store: &'a PartStore,
    round: &'a Round,
}

impl Kept<'_> {
    /// A part that the first process writes and removes.
    fn common<T>(&self, record: &PartRecord) -> Result<Arc<StoredTable<T>>, IncrementalError> {
        self.part_store.found(record, self.round.peers.rank() == 0)
    }
}

/// Removes what the state does not name.
fn clean(folder: &Path, names: &[String], state: &Delta, storage: &dyn Storage) -> Result<(), LedgerError> {
    let listed: BTreeSet<&str> = state.parts().map(|part| part.file.as_str()).collect();
    let mut removed = 0;
    for name in names.iter().filter(|name| !listed.contains(name.as_str())) {
        let path = folder.join(name);
        storage.remove(&path).map_err(LedgerError::at("remove", &path))?;
        removed += 1;
    }
    if removed > 0 {
        storage.sync_dir(folder).map_err(LedgerError::at("sync", folder))?;
        tracing::info!(folder = %folder.display(), removed, "unlisted parts are removed");
    }
    Ok(())
}

/// The state without what the dataflow counts.
fn world(state: &Delta, part_store: &Kept<'_>, root: &Path) -> Result<(World, Filed), IncrementalError> {
    let unfit = |place: String, source: Cause| IncrementalError::Unfit { path: root.into(), place, source };
    let (mut world, mut filed) = (World::default(), Filed::default());
    let mut inputs = Inputs { next_benchmark: state.next_benchmark, ..Inputs::default() };
    for (name, split) in state.splits.iter().filter_map(|(name, split)| Some((name, split.as_ref()?))) {
        let rule = split.rule.parse::<Rule>().map_err(|error| unfit(format!("split {name}"), error.into()))?;
        inputs.splits.insert(name.clone(), Split { bit: split.bit, rule, keeps: split.keeps });
    }
    if let Some(record) = &state.taken {
        let (part, rows) = load::<TakenRows>(part_store, record)?;
        (filed.taken, inputs.taken) = (Some(part), Arc::new(rows.0.iter().copied().collect()));
    }
    if let Some(record) = &state.taken_keys {
        let (part, rows) = load::<KeyRows>(part_store, record)?;
        (filed.taken_keys, inputs.taken_keys) = (Some(part), Arc::new(rows.0.iter().cloned().collect()));
    }
    for (&id, record) in state.benchmarks.iter().filter_map(|(id, record)| Some((id, record.as_ref()?))) {
        let (points, rows) = load::<StoredPoints>(part_store, &record.points)?;
        let (cuts, levels) = load::<CutRows>(part_store, &record.cuts)?;
        filed.points.insert(id, points);
        filed.cuts.insert(id, cuts);
        let numbers = rows.0.iter().map(|row| row.number).collect();
        let benchmark =
            benchmark(record, &rows, &levels).map_err(|error| unfit(format!("benchmark {id}"), error.into()))?;
        let points = Points { id, benchmark: Arc::new(benchmark), numbers, next: record.next };
        inputs.benchmarks.push(Arc::new(points));
        world.floors.insert(id, levels.0.iter().map(|row| row.1).collect());
    }
    for (&ordinal, record) in state.shards.iter().filter_map(|(ordinal, record)| Some((ordinal, record.as_ref()?))) {
        let never_came = || IncrementalError::Journal { path: root.into(), detail: JournalError::NeverCame(ordinal) };
        let live = live(record, part_store, ordinal)?.ok_or_else(never_came)?;
        inputs.shards.insert(ordinal, live.input.clone());
        world.shards.insert(ordinal, Arc::new(live));
    }
    (world.pool, filed.pool) = peaks(&state.pool, part_store)?;
    for split in inputs.splits.values() {
        let (held, parts) =
            state.kept.get(&split.bit).map(|kept| peaks(kept, part_store)).transpose()?.unwrap_or_default();
        world.kept.insert(split.bit, held);
        filed.kept.insert(split.bit, parts);
    }
    world.cuts = Cuts::of(&inputs, &Cuts::default())?;
    world.point_sets = World::default().point_sets_for(&world.cuts);
    world.inputs = inputs;
    Ok((world, filed))
}

type Loaded<T> = (Arc<StoredTable<T>>, Arc<T>);

fn load<T: Table>(part_store: &Kept<'_>, record: &PartRecord) -> Result<Loaded<T>, IncrementalError> {
    let part = part_store.common::<T>(record)?;
    let table = part.load()?;
    Ok((part, table))
}

fn benchmark(record: &BenchmarkRecord, rows: &StoredPoints, levels: &CutRows) -> Result<Benchmark, BenchmarkError> {
    if rows.0.len() != levels.0.len() {
        let (found, expected) = (levels.0.len(), rows.0.len());
        return Err(BenchmarkError::Shape { name: record.name.clone(), what: "cuts", found, expected });
    }
    let radii: Vec<f64> = levels.0.iter().filter_map(|row| row.0).collect();
    Benchmark::new(
        record.name.clone(),
        record.dim,
        rows.0.iter().flat_map(|row| &row.vector).copied().collect(),
        rows.0.iter().map(|row| row.key.clone()).collect(),
        rows.0.iter().map(|row| row.label.clone()).collect(),
        (!radii.is_empty()).then_some(radii),
        record.identity.clone(),
    )
}

/// `None` if the record does not say how the shard came.
fn live(record: &ShardRecord, part_store: &Kept<'_>, ordinal: u64) -> Result<Option<Live>, IncrementalError> {
    let Some(input) = &record.input else { return Ok(None) };
    let input = ShardInput {
        name: input.name.as_str().into(),
        generation: input.generation,
        count: input.count,
        rejected: input.rejected.clone(),
    };
    record.onto(Live::bare(Arc::new(input)), part_store.part_store, part_store.round.owns(ordinal)).map(Some)
}

type PeaksWithParts = (Peaks, BTreeMap<u32, Arc<StoredTable<PeakRows>>>);

fn peaks(records: &Changed<u32, PartRecord>, part_store: &Kept<'_>) -> Result<PeaksWithParts, IncrementalError> {
    let mut parts = BTreeMap::<u32, Arc<StoredTable<PeakRows>>>::new();
    follow(&mut parts, records, |record| part_store.common(record))?;
    let held = parts.iter().map(|(&id, part)| Ok((id, part.load()?.0.clone())));
    Ok((held.collect::<Result<_, IncrementalError>>()?, parts))
}

/// Brings a state's facts to the dataflow, slice by slice. Slices are turns of all processes: who has fed all feeds nothing.
struct Feed<'a> {
    world: &'a mut World,
    flow: &'a mut Flow,
    budget_bytes: u64,
    round: &'a Round,
    budget: EpochBudget,
    facts: Facts,
    /// A turn was refused, in all processes: nobody waits for another.
    refused: bool,
}

impl<'a> Feed<'a> {
    fn new(world: &'a mut World, flow: &'a mut Flow, budget_bytes: u64, round: &'a Round) -> Self {
        let budget = EpochBudget::new(budget_bytes, 0, world.inputs.splits.len());
        Self { world, flow, budget_bytes, round, budget, facts: Facts::default(), refused: false }
    }

    fn run(mut self) -> Result<(), IncrementalError> {
        let fed = self.shards();
        if self.refused {
            return fed;
        }
        // What went wrong here is told in the place of the next turn.
        let mut last = fed.map(|()| true);
        loop {
            let more = matches!(last, Ok(true));
            if !self.turn(last)? && !more {
                return Ok(());
            }
            last = Ok(false);
        }
    }

    fn shards(&mut self) -> Result<(), IncrementalError> {
        let cuts = self.world.cuts.clone();
        let round = self.round;
        for (ordinal, live) in self.world.shards.clone().into_iter().filter(|(ordinal, _)| round.owns(*ordinal)) {
            for (id, part) in &live.matches {
                let Some(benchmark_cuts) = cuts.benchmarks.get(id) else { continue };
                for (number, index, s) in part.load()?.by_point() {
                    let Some(place) = benchmark_cuts.points.place(number) else { continue };
                    for hit in benchmark_cuts.hits(SampleId { ordinal, index }, place, s) {
                        self.room()?;
                        self.facts.hits.push((hit, 1));
                    }
                }
            }
            for &index in live.taken.iter() {
                self.room()?;
                let sample = SampleId { ordinal, index };
                self.facts.taken.push((Taken { sample, drops: cuts.drops, keeps: cuts.keeps }, 1));
            }
            self.room()?;
            self.facts.samples.push((Tally::Judged, live.input.judged() as i64));
            self.facts.samples.push((Tally::Rejected, live.input.rejected.len() as i64));
        }
        Ok(())
    }

    /// Room for one more fact, in this slice or in the next.
    fn room(&mut self) -> Result<(), IncrementalError> {
        let facts = self.facts.hits.len() + self.facts.taken.len() + self.facts.samples.len();
        if facts >= SLICE_FACTS {
            self.turn(Ok(true))?;
        }
        match self.budget.spend_hit() {
            Err(_) if facts > 0 => self.turn(Ok(true)).and_then(|_| self.budget.spend_hit()),
            spent => spent,
        }
    }

    /// Feeds what is there, if any process has something; gives whether one had.
    fn turn(&mut self, more: Result<bool, IncrementalError>) -> Result<bool, IncrementalError> {
        let (own, others) = self.round.share("slice", more, |more| *more).inspect_err(|_| self.refused = true)?;
        if !own && !others.contains(&true) {
            return Ok(false);
        }
        let facts = std::mem::take(&mut self.facts);
        let outcome = self.flow.advance(&facts)?;
        settle(&World::default(), self.world, &outcome);
        self.budget = EpochBudget::new(self.budget_bytes, self.flow.held().bytes, self.world.inputs.splits.len());
        Ok(true)
    }
}
