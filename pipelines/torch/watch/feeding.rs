//! Keeping the live trainer fed: started when its inputs are known, started anew when they change.

use std::sync::Arc;
use std::time::Instant;

use super::live;
use super::live::{Live, LiveFeed};
use super::phase::Phase;
use super::turns::Watch;
use super::wake::Waker;
use crate::train::TrainRun;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;

/// A live trainer is idle if it is at so many looks in a row.
const IDLE_LOOKS: u32 = 3;

impl Watch<'_> {
    /// Whether a live trainer reads what comes, or is to.
    pub(super) fn trains(&self) -> bool {
        self.config.train.is_some() && !self.has_trained
    }

    /// Hears what the live trainer has read.
    pub(super) fn hear(&mut self) -> Result<(), PipelineError> {
        let Some(news) = self.live.as_ref().map(Live::news) else { return Ok(()) };
        let mut has_committed = false;
        for news in self.together.gather(Phase::Heard, news)? {
            has_committed |= news.has_committed;
            self.report.notices.merge(&news.notices);
            self.failed.extend(news.failed.into_iter().map(|(ordinal, why)| (ordinal, (why, Instant::now()))));
        }
        if has_committed { self.look_again() } else { Ok(()) }
    }

    /// Looks at what the pool has, and whether that changed while it was read.
    fn look_again(&mut self) -> Result<(), PipelineError> {
        self.pool.refresh()?;
        if self.together.rank() == 0 { self.tear() } else { Ok(()) }
    }

    /// What a live trainer is to train on now, as the first process sees it.
    fn live_feed(&self) -> LiveFeed {
        let cursor = match &self.live {
            Some(live) => live.cursor(),
            None => live::last_cursor(&live::folder(&self.config.run)),
        };
        LiveFeed::of(&self.arrivals, cursor.as_ref())
    }

    /// Keeps the live trainer fed; gives whether it still has something to do.
    pub(super) fn feed(&mut self, waker: &Waker) -> Result<bool, PipelineError> {
        let config = self.config;
        let Some(train) = config.train.as_ref().filter(|_| !self.has_trained) else { return Ok(false) };
        let Some(desired) = self.in_force.clone() else { return Ok(true) };
        self.taken_down.set(&desired.takedowns);
        // A file that has not changed is not read again, and stays the same benchmark.
        let inputs = (desired.benchmarks.clone(), desired.splits.get(&train.split).map(ToString::to_string));
        let is_same = self.live_inputs.1 == inputs.1
            && self.live_inputs.0.len() == inputs.0.len()
            && self.live_inputs.0.iter().zip(&inputs.0).all(|(old, new)| Arc::ptr_eq(old, new));
        let is_first = self.together.rank() == 0;
        let mut live_feed = is_first.then(|| self.live_feed());
        let follows = |live: &Live| is_same && live_feed.as_ref().is_none_or(|live_feed| live.can_follow(live_feed));
        let can_follow = self.live.as_ref().is_none_or(follows);
        let has_ended = self.live.as_ref().is_some_and(Live::has_ended);
        let stops = self.stop.is_requested() || self.stop.is_winding_down();
        // What one process has to do, all do.
        let standing = self.together.gather(Phase::TrainerStands, (stops, has_ended, can_follow))?;
        if standing.iter().any(|(stops, ..)| *stops) {
            return Ok(false);
        }
        let has_ended = standing.iter().any(|(_, has_ended, _)| *has_ended);
        if let Some(live) = self.live.take_if(|_| has_ended || standing.iter().any(|(.., can_follow)| !can_follow)) {
            let report = live.end()?;
            self.has_trained = has_ended;
            self.report.training = Some(report);
            // It may have committed up to its end.
            self.together.wait(Phase::TrainerEnds)?;
            self.look_again()?;
            live_feed = is_first.then(|| self.live_feed());
        }
        let live_feed = self.together.gather(Phase::TrainerFeed, live_feed)?;
        let live_feed = live_feed.into_iter().next().flatten().unwrap_or_default();
        if let Some(live) = &self.live {
            live.follow(&self.arrivals, &live_feed, || self.together.wait(Phase::TrainerGrown))?;
        } else if !self.has_trained {
            let none = || PipelineError::Usage(format!("--train: no split is named {}", train.split));
            let rule = inputs.1.clone().ok_or_else(none)?;
            let judge = JudgeConfig {
                plan: Some(self.arrivals.plan()),
                benchmarks: desired.folders.clone(),
                rule: Some(rule),
                run: live::folder(&self.config.run),
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
            let (fed, run) = ((&self.arrivals, &live_feed), (self.stop, self.progress));
            self.live = Some(Live::start(setting, fed, self.together, run, waker.clone())?);
            self.live_inputs = inputs;
        }
        let goes_on = is_first.then(|| self.has_more_to_train());
        Ok(self.together.gather(Phase::TrainerGoesOn, goes_on)?.swap_remove(0).unwrap_or(false))
    }

    /// Whether something that has come is not read, or not trained on where it fills batches.
    fn has_more_to_train(&mut self) -> bool {
        let unread = self.unread();
        if self.has_trained {
            return !unread.is_empty();
        }
        // What could not be read is tried again by the next start.
        let open = unread.into_iter().any(|ordinal| !self.failed.contains_key(&ordinal));
        let is_idle = self.live.as_ref().is_some_and(Live::is_idle) && !open;
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
