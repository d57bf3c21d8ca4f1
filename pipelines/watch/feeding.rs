//! Keeping the live trainer fed: started when its inputs are known, started anew when they change.

use std::sync::Arc;
use std::time::Instant;

use super::live;
use super::live::Live;
use super::turns::Watch;
use super::wake::Wake;
use crate::config::JudgeConfig;
use crate::error::PipelineError;
use crate::train::TrainRun;

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
        self.failed.extend(news.failed.into_iter().map(|(ordinal, why)| (ordinal, (why, Instant::now()))));
        if !news.has_committed {
            return Ok(());
        }
        self.pool.refresh()?;
        self.tear()
    }

    /// Keeps the live trainer fed; gives whether it still has something to do.
    pub(super) fn feed(&mut self, wake: Option<&Wake>) -> Result<bool, PipelineError> {
        let config = self.config;
        let (Some(train), Some(wake)) = (&config.train, wake) else { return Ok(false) };
        if self.has_trained || self.stop.is_requested() || self.stop.is_winding_down() {
            return Ok(false);
        }
        let Some(desired) = self.in_force.clone() else { return Ok(true) };
        self.taken_down.set(&desired.takedowns);
        // A file that has not changed is not read again, and stays the same benchmark.
        let inputs = (desired.benchmarks.clone(), desired.splits.get(&train.split).map(ToString::to_string));
        let is_same = self.live_inputs.1 == inputs.1
            && self.live_inputs.0.len() == inputs.0.len()
            && self.live_inputs.0.iter().zip(&inputs.0).all(|(old, new)| Arc::ptr_eq(old, new));
        let has_ended = self.live.as_ref().is_some_and(Live::has_ended);
        if let Some(live) = self.live.take_if(|_| has_ended || !is_same) {
            let report = live.end()?;
            self.has_trained = has_ended;
            self.report.training = Some(report);
            // It may have committed up to its end.
            self.pool.refresh()?;
            self.tear()?;
        }
        let read = self.arrivals.wanted();
        if let Some(live) = &self.live {
            live.follow(&self.arrivals, &read);
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
            let together = self.together.by_itself();
            let live = Live::start(setting, &self.arrivals, &read, together, (self.stop, self.progress), wake.poke())?;
            self.live = Some(live);
            self.live_inputs = inputs;
        }
        if self.has_trained {
            return Ok(!self.unread().is_empty());
        }
        // What could not be read is tried again by the next start.
        let open = self.unread().into_iter().any(|ordinal| !self.failed.contains_key(&ordinal));
        let is_idle = self.live.as_ref().is_some_and(Live::is_idle) && !open;
        self.idle_looks = if is_idle { self.idle_looks + 1 } else { 0 };
        Ok(self.idle_looks < IDLE_LOOKS)
    }

    /// Ends the live trainer: its checkpoint is where it goes on.
    pub(super) fn end_live(&mut self) -> Result<(), PipelineError> {
        if let Some(live) = self.live.take() {
            self.report.training = Some(live.end()?);
        }
        Ok(())
    }
}
