//! Keeping the live trainer fed: started when its inputs are known, started anew when they change.

use std::sync::Arc;
use std::time::Instant;

use trommel_core::sample::SampleId;
use trommel_dataflow::order::Cursor;
use trommel_decide::benchmark::Benchmark;
use trommel_incremental::planner::{Asked, Executor, Feed, Seen, Standing};

use super::live;
use super::live::{Live, News};
use super::start::Watch;
use super::wake::{Wake, Waker};
use crate::train::TrainRun;
use crate::trainer_reach::lies_before;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::phase::Phase;

/// A live trainer is idle if it is at so many looks in a row.
const IDLE_LOOKS: u32 = 3;

impl Watch<'_> {
    /// Hears what the live trainer has read.
    pub(super) fn hear(&mut self) -> Result<(), PipelineError> {
        let Some(news) = self.live.as_ref().map(Live::news) else { return Ok(()) };
        let mut any_committed = false;
        for News { has_committed, failed, notices } in self.together.gather(Phase::Heard, news)? {
            any_committed |= has_committed;
            self.report.notices.merge(&notices);
            self.set_failed(failed);
        }
        if any_committed { self.look_again() } else { Ok(()) }
    }

    /// What a live trainer is to train on now, where this process says it for all.
    fn feed_here(&self) -> Option<Feed> {
        let cursor = (self.together.rank() == 0).then(|| self.trainer_cursor())?;
        let last = |ordinal| SampleId { ordinal, index: u32::MAX };
        let is_passed = |ordinal| cursor.as_ref().is_some_and(|cursor| lies_before(cursor, last(ordinal)));
        Some(self.arrivals.list().feed(is_passed))
    }

    /// Where the live trainer stands, or stood when it was stopped.
    pub(super) fn trainer_cursor(&self) -> Option<Cursor> {
        match &self.live {
            Some(live) => live.cursor(),
            None => live::last_cursor(&live::folder(&self.config.run)),
        }
    }

    /// Benchmarks and rule in force, by which a live trainer decides.
    fn trainer_inputs(&self) -> Option<(Vec<Arc<Benchmark>>, Option<String>)> {
        let (split, desired) = (&self.config.train.as_ref()?.split, &self.in_force.as_ref()?.desired);
        Some((desired.benchmarks.clone(), desired.splits.get(split).map(ToString::to_string)))
    }

    /// Sees how the live trainer stands. It waits for inputs that are in force.
    pub(super) fn train(&mut self) -> Result<(), PipelineError> {
        let Some((loaded, inputs)) = self.in_force.clone().zip(self.trainer_inputs()) else {
            self.lingers = true;
            return Ok(());
        };
        self.taken_down.set(&loaded.desired.takedowns);
        // A file that has not changed is not read again, and stays the same benchmark.
        let is_same = self.live_inputs.1 == inputs.1
            && self.live_inputs.0.len() == inputs.0.len()
            && self.live_inputs.0.iter().zip(&inputs.0).all(|(old, new)| Arc::ptr_eq(old, new));
        self.feed = self.feed_here();
        let follows = |live: &Live| is_same && self.feed.as_ref().is_none_or(|feed| live.can_follow(feed));
        let mine = Standing {
            can_follow: self.live.as_ref().is_none_or(follows),
            has_ended: self.live.as_ref().is_some_and(Live::has_ended),
            stops: self.asked_here() != Asked::Nothing,
        };
        let standing = self.together.gather(Phase::TrainerStands, mine)?;
        self.pursue(&Seen::Trainer(&standing))
    }

    /// Ends the live trainer before its inputs change, or since it has done its steps.
    pub(super) fn stop_trainer(&mut self, for_good: bool) -> Result<(), PipelineError> {
        self.end_live()?;
        self.has_trained = for_good;
        // It may have committed up to its end.
        self.together.wait(Phase::TrainerEnds)?;
        self.look_again()?;
        self.feed = self.feed_here();
        Ok(())
    }

    /// What the first process has seen that the live trainer is to be fed.
    fn shared_feed(&self) -> Result<Feed, PipelineError> {
        let feed = self.together.gather(Phase::TrainerFeed, self.feed.clone())?;
        Ok(feed.into_iter().next().flatten().unwrap_or_default())
    }

    /// Tells the live trainer what has come and what has gone.
    pub(super) fn feed_trainer(&mut self) -> Result<(), PipelineError> {
        let feed = self.shared_feed()?;
        let Some(live) = &self.live else { return Ok(()) };
        live.follow(self.arrivals.list(), &feed, || self.together.wait(Phase::TrainerGrown))
    }

    /// Starts the live trainer over what has arrived.
    pub(super) fn start_trainer(&mut self) -> Result<(), PipelineError> {
        let feed = self.shared_feed()?;
        let (config, loaded) = (self.config, self.in_force.clone());
        let (Some(train), Some(loaded), Some(inputs)) = (&config.train, loaded, self.trainer_inputs()) else {
            return Ok(());
        };
        let none = || PipelineError::usage(format!("--train: no split is named {}", train.split));
        let rule = inputs.1.clone().ok_or_else(none)?;
        let judge = JudgeConfig {
            plan: Some(self.arrivals.list().plan()),
            benchmarks: loaded.folders.clone(),
            rule: Some(rule),
            run: live::folder(&config.run),
            ..self.reading.clone()
        };
        let setting = live::Setting {
            run: TrainRun { skip_failed: true, ..train.run.clone() },
            judge,
            split: train.split.clone(),
            views: self.engine.views(),
            pool: self.folder.clone(),
            judged: self.pool.ledger().shards().keys().copied().collect(),
            parts: self.parts.clone(),
            decisions_bytes: self.decisions_bytes,
            taken_down: self.taken_down.clone(),
        };
        let (fed, run) = ((self.arrivals.list(), &feed), (self.stop, self.progress));
        let waker = self.wake.as_ref().map_or_else(Waker::unheard, Wake::waker);
        self.live = Some(Live::start(setting, fed, self.together, run, waker)?);
        self.live_inputs = inputs;
        Ok(())
    }

    /// Asks whether something that has come is not read, or not trained on where it fills batches.
    pub(super) fn linger(&mut self) -> Result<(), PipelineError> {
        let goes_on = (self.together.rank() == 0).then(|| self.has_more_to_train());
        self.lingers = self.together.gather(Phase::TrainerGoesOn, goes_on)?.swap_remove(0).unwrap_or(false);
        Ok(())
    }

    fn has_more_to_train(&mut self) -> bool {
        let has_unread = self.state().has_unread(Instant::now());
        if self.has_trained {
            return has_unread;
        }
        let is_idle = self.live.as_ref().is_some_and(Live::is_idle) && !has_unread;
        self.idle_looks = if is_idle { self.idle_looks + 1 } else { 0 };
        self.idle_looks < IDLE_LOOKS
    }

    /// Ends the live trainer: its checkpoint is where it goes on.
    pub(super) fn end_live(&mut self) -> Result<(), PipelineError> {
        if let Some(live) = self.live.take() {
            self.report.training = Some(live.end()?);
        }
        Ok(())
    }
}
