//! An epoch: everything that has changed takes effect together, and is shown.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use trommel_core::notices::Notices;
use trommel_core::sample::SampleId;
use trommel_incremental::IncrementalError;
use trommel_incremental::embeddings::Embeddings;
use trommel_incremental::engine::Applied;
use trommel_incremental::inputs::{Change, ShardInput};
use trommel_incremental::planner::{Attempt, Executor, Refusal, Seen, Step, plan};

use super::changes::Summary;
use super::start::{Watch, now};
use crate::trainer_reach::lies_before;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::phase::Phase;

impl Watch<'_> {
    /// Compares what is wanted and live with what is shown.
    pub(super) fn decide(&mut self) -> Result<(), PipelineError> {
        if let Some(loaded) = self.desired.clone() {
            let (gone, new) = self.moves()?;
            let all = self.arrivals.list().all();
            let held = |ordinal: u64| {
                let shard = self.pool.shard(ordinal, &all[ordinal as usize].name);
                shard.map(|shard| (ordinal, shard))
            };
            let new: BTreeMap<u64, ShardInput> = new.into_iter().map(held).collect::<Result<_, _>>()?;
            self.pursue(&Seen::Inputs(&loaded.desired, &gone, &new))?;
        }
        self.stand();
        Ok(())
    }

    /// Shards that are to go and to come. The first process says it for all: a live trainer may have committed more since.
    fn moves(&self) -> Result<(Vec<u64>, Vec<u64>), PipelineError> {
        let own = (self.together.rank() == 0).then(|| self.state().moves());
        let (gone, new) = self.together.gather(Phase::Moves, own)?.swap_remove(0).unwrap_or_default();
        let ledger = self.pool.ledger();
        if !new.iter().all(|&ordinal| ledger.is_committed(ordinal)) {
            self.pool.refresh()?;
        }
        Ok((gone, new))
    }

    /// Makes an epoch and shows it; where it is refused, does what is planned for that.
    pub(super) fn apply(&mut self, attempt: &Attempt) -> Result<(), PipelineError> {
        let made = self.epoch(attempt.tried());
        // Another process's refusal is not known by its kind here.
        let is_full = self.together.gather(Phase::Made, matches!(made, Err(IncrementalError::Budget { .. })))?;
        let error = match made {
            Ok(applied) => {
                if self.together.rank() == 0 {
                    self.tell(&applied);
                }
                self.gather_named()?;
                return self.pursue(&Seen::Applied(attempt));
            }
            Err(error) => error,
        };
        let refusal = match &error {
            _ if is_full.contains(&true) => Refusal::Budget,
            IncrementalError::Change(why) => Refusal::Change(why.to_string()),
            _ => Refusal::Failure,
        };
        let actions = plan(&Seen::Refused(attempt, &refusal), &self.state());
        if actions.is_empty() {
            return Err(PipelineError::failed(error));
        }
        actions.into_iter().try_for_each(|action| self.carry_out(action))
    }

    fn epoch(&mut self, steps: &[Step]) -> Result<Applied, IncrementalError> {
        let changes: Vec<_> = steps.iter().map(|step| step.change.clone()).collect();
        let shown = || changes.iter().filter_map(arriving);
        let lags: Vec<f64> =
            shown().filter_map(|name| Some(self.complete.get(name)?.elapsed().as_secs_f64())).collect();
        let lag_seconds = lags.into_iter().reduce(f64::max);
        let inputs = steps.iter().filter_map(|step| step.words.clone()).collect();
        let summary = Summary { unix_seconds: now(), inputs, lag_seconds, ..Summary::default() };
        let is_first = self.together.rank() == 0;
        let split = self.config.train.as_ref().map(|train| train.split.as_str());
        let cursor = split.and_then(|_| self.trainer_cursor());
        let (publisher, pool, arrivals) = (&mut self.publisher, &self.pool, &self.arrivals);
        let trained = |sample: SampleId, of: &str| {
            (split == Some(of)).then(|| cursor.as_ref().is_some_and(|cursor| lies_before(cursor, sample)))
        };
        let publishing = Cell::new(Duration::ZERO);
        let applied = self.engine.apply_with(&changes, |view, log| {
            if !is_first {
                return Ok(());
            }
            let began = Instant::now();
            let name = |ordinal: u64| arrivals.list().all()[ordinal as usize].name.clone();
            let prepared = publisher.prepare(view, log, &summary.with(log, name, &trained), pool, &trained);
            publishing.set(began.elapsed());
            prepared.map_err(|error| IncrementalError::Unpublished(error.into()))
        })?;
        let began = Instant::now();
        let show = self.publisher.show(applied.changelog.epoch);
        show.map_err(|error| IncrementalError::Unpublished(error.into()))?;
        self.report.epochs_now += 1;
        self.report.publish_seconds = (publishing.get() + began.elapsed()).as_secs_f64();
        self.report.lag_seconds = self.report.lag_seconds.max(lag_seconds.unwrap_or(0.0));
        for name in shown() {
            self.complete.remove(name);
        }
        Ok(applied)
    }

    /// Finds the takedown words again that the restored state knows samples by.
    pub(super) fn name_restored(&mut self) -> Result<(), PipelineError> {
        let world = self.engine.world();
        for (&ordinal, live) in world.shards.iter().filter(|(ordinal, _)| self.together.owns(**ordinal)) {
            if !live.taken_by_key.is_empty() {
                let keys = &world.inputs.taken_keys;
                self.pool.find(ordinal, live.input.generation, keys).map_err(PipelineError::failed)?;
            }
        }
        self.gather_named()
    }

    /// Learns which words of the takedown lists name something, in any process's shards.
    fn gather_named(&mut self) -> Result<(), PipelineError> {
        let words = self.together.gather(Phase::Takedowns, self.pool.take_named())?;
        self.named.extend(words.into_iter().flatten());
        Ok(())
    }

    /// Says of which words of the takedown lists nothing that is here has the name: a typing error, a list of another data set,
    /// or samples that are still to come.
    pub(super) fn tell_unnamed(&self, notices: &mut Notices) {
        let Some(loaded) = &self.in_force else { return };
        let mut unnamed = loaded.desired.takedowns.difference(&self.named).peekable();
        let first = unnamed.peek().map(|word| (*word).clone()).unwrap_or_default();
        let text = "words of takedown lists that no sample here is called by";
        notices.note("takedowns_without_sample", text, first, unnamed.count() as u64);
    }

    fn tell(&self, applied: &Applied) {
        let log = &applied.changelog;
        let shards = format!("{} shards came, {} went", log.arrived.len(), log.withdrawn.len());
        let sizes: Vec<String> = (log.sizes.iter())
            .filter_map(|(split, (_, after))| Some((split, (*after)?)))
            .map(|(split, sizes)| {
                format!("{split}: {} kept, {} dropped, {} rejected", sizes.kept, sizes.dropped, sizes.rejected)
            })
            .collect();
        let waiting = self.waiting().count();
        tracing::info!(
            "epoch {}: {shards}, {} samples changed sides; {}; decided in {:.2} s, maxima refreshed in {:.2} s, published in {:.2} s; {waiting} shards wait",
            log.epoch,
            log.sides.len(),
            sizes.join("; "),
            applied.decided.as_secs_f64(),
            applied.refreshed.as_secs_f64(),
            self.report.publish_seconds
        );
    }
}

/// The name of a shard that a change shows.
fn arriving(change: &Change) -> Option<&str> {
    match change {
        Change::Arrive(_, shard) => Some(&shard.name),
        Change::Withdraw(_)
        | Change::AddBenchmark(_)
        | Change::RemoveBenchmark(_)
        | Change::AddPoints(_)
        | Change::RemovePoints(..)
        | Change::SetRadii(..)
        | Change::GrowReference(..)
        | Change::SetSplit(..)
        | Change::RemoveSplit(_)
        | Change::TakeDown(..)
        | Change::Restore(..) => None,
    }
}
