//! An epoch: everything that has changed takes effect together, and is shown.

use std::cell::Cell;
use std::time::{Duration, Instant};

use trommel_core::notices::Notices;
use trommel_core::sample::SampleId;
use trommel_incremental::IncrementalError;
use trommel_incremental::embeddings::Embeddings;
use trommel_incremental::engine::Applied;

use super::changes::Summary;
use super::live;
use super::phase::Phase;
use super::reconcile::{Moves, Step, steps};
use super::turns::{Watch, now};
use crate::trainer_reach::lies_before;
use trommel_pipelines::error::PipelineError;

impl Watch<'_> {
    /// Lets everything that has changed take effect. Gives whether something was left for another epoch.
    pub(super) fn decide(&mut self) -> Result<bool, PipelineError> {
        let Some(desired) = self.desired.clone() else { return Ok(false) };
        let moves = self.moves()?;
        let mut all = steps(&self.engine.world().inputs, &desired, &moves, &self.pool, &self.arrivals)?;
        if all.is_empty() {
            self.in_force = Some(desired);
            return Ok(false);
        }
        let mut many = all.len();
        loop {
            let made = self.epoch(&all[..many]);
            // Another process's refusal is not known by its kind here.
            let full = self.together.gather(Phase::Made, matches!(made, Err(IncrementalError::Budget { .. })))?;
            match made {
                Ok(applied) => {
                    if self.together.rank() == 0 {
                        self.tell(&applied);
                    }
                    let words = self.together.gather(Phase::Takedowns, self.pool.take_named())?;
                    self.named.extend(words.into_iter().flatten());
                    // Steps that are no shards come first, and together.
                    if all.iter().any(|step| step.words.is_some()) || self.in_force.is_none() {
                        self.in_force = Some(desired);
                    }
                    return Ok(many < all.len());
                }
                // Shards can come one after the other; what cannot be split is refused.
                Err(_) if full.contains(&true) && many > 1 && all[many - 1].can_wait => {
                    let fixed = all.iter().filter(|step| !step.can_wait).count();
                    many = (many / 2).max(fixed).max(1);
                }
                // Shards go on under what is in force.
                Err(IncrementalError::Change(error)) if all.iter().any(|step| step.words.is_some()) => {
                    self.say(&format!("{error}; what was in force before stays"));
                    all.retain(|step| step.words.is_none());
                    many = all.len();
                    if all.is_empty() {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(PipelineError::failed(error)),
            }
        }
    }

    /// Shards that are to go and to come. The first process says it for all: a live trainer may have committed more since.
    fn moves(&self) -> Result<Moves, PipelineError> {
        let own = (self.together.rank() == 0).then(|| {
            let ledger = self.pool.ledger();
            let live = self.arrivals.live(|ordinal| ledger.is_committed(ordinal));
            Moves::between(&self.engine.world().inputs, &live)
        });
        let moves = self.together.gather(Phase::Moves, own)?.swap_remove(0).unwrap_or_default();
        let ledger = self.pool.ledger();
        if !moves.new.iter().all(|&ordinal| ledger.is_committed(ordinal)) {
            self.pool.refresh()?;
        }
        Ok(moves)
    }

    pub(super) fn epoch(&mut self, steps: &[Step]) -> Result<Applied, IncrementalError> {
        let changes: Vec<_> = steps.iter().map(|step| step.change.clone()).collect();
        let shown = steps.iter().filter_map(|step| step.shard.as_ref());
        let lags: Vec<f64> = shown.filter_map(|name| Some(self.complete.get(name)?.elapsed().as_secs_f64())).collect();
        let lag_seconds = lags.into_iter().reduce(f64::max);
        let inputs = steps.iter().filter_map(|step| step.words.clone()).collect();
        let summary = Summary { unix_seconds: now(), inputs, lag_seconds, ..Summary::default() };
        let (publisher, pool, arrivals) = (&mut self.publisher, &self.pool, &self.arrivals);
        let is_first = self.together.rank() == 0;
        let split = self.config.train.as_ref().map(|train| train.split.as_str());
        let cursor = split.and_then(|_| match &self.live {
            Some(live) => live.cursor(),
            None => live::last_cursor(&live::folder(&self.config.run)),
        });
        let trained = |sample: SampleId, of: &str| {
            (split == Some(of)).then(|| cursor.as_ref().is_some_and(|cursor| lies_before(cursor, sample)))
        };
        let publishing = Cell::new(Duration::ZERO);
        let applied = self.engine.apply_with(&changes, serde_json::Value::Null, |view, log| {
            if !is_first {
                return Ok(());
            }
            let began = Instant::now();
            let name = |ordinal: u64| arrivals.all()[ordinal as usize].name.clone();
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
        for name in steps.iter().filter_map(|step| step.shard.as_ref()) {
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
        let words = self.together.gather(Phase::Takedowns, self.pool.take_named())?;
        self.named.extend(words.into_iter().flatten());
        Ok(())
    }

    /// Says of which words of the takedown lists nothing that is here has the name: a typing error, a list of another data set,
    /// or samples that are still to come.
    pub(super) fn tell_unnamed(&self, notices: &mut Notices) {
        let Some(desired) = &self.in_force else { return };
        let mut unnamed = desired.takedowns.difference(&self.named).peekable();
        let first = unnamed.peek().map(|word| (*word).clone()).unwrap_or_default();
        let text = "words of takedown lists that no sample here is called by";
        notices.note("takedowns_without_sample", text, first, unnamed.count() as u64);
    }

    pub(super) fn tell(&self, applied: &Applied) {
        let log = &applied.changelog;
        let shards = format!("{} shards came, {} went", log.arrived.len(), log.withdrawn.len());
        let sizes: Vec<String> = (log.sizes.iter())
            .filter_map(|(split, (_, after))| Some((split, (*after)?)))
            .map(|(split, sizes)| {
                format!("{split}: {} kept, {} dropped, {} rejected", sizes.kept, sizes.dropped, sizes.rejected)
            })
            .collect();
        let waiting = self.complete.len();
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
