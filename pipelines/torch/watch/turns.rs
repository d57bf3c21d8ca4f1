//! The loop of a watch: turn after turn, what is planned is carried out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use trommel_core::notices::Notices;
use trommel_incremental::planner::{Action, Asked, Executor, Found, Seen, State, Trainer};

use super::WatchReport;
use super::start::Watch;
use trommel_ledger::manifest::Counts;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::phase::Phase;

impl Watch<'_> {
    /// Turn after turn, until it is stopped, or once.
    pub(super) fn follow(&mut self) -> Result<(), PipelineError> {
        while !self.has_ended {
            (self.is_more, self.lingers) = (false, false);
            // Whoever is told to stop stops all, at the same turn.
            let asked = self.asked(Phase::Turn)?;
            self.pursue(&Seen::Turn(asked))?;
        }
        Ok(())
    }

    /// What this process was told by a signal.
    pub(super) fn asked_here(&self) -> Asked {
        match (self.stop.is_requested(), self.stop.is_winding_down()) {
            (true, _) => Asked::Stop,
            (false, true) => Asked::WindDown,
            (false, false) => Asked::Nothing,
        }
    }

    /// What any process was told by a signal.
    fn asked(&self, phase: Phase) -> Result<Asked, PipelineError> {
        Ok(self.together.gather(phase, self.asked_here())?.into_iter().max().unwrap_or_default())
    }

    /// Says a line once, until another is said.
    pub(super) fn say(&mut self, line: &str) {
        if !self.said.iter().any(|said| said == line) {
            tracing::warn!("{line}");
            if self.said.len() > 64 {
                self.said.clear();
            }
            self.said.push(line.to_owned());
        }
    }

    /// Shards that were there at the last look, in the process that looks, and that no epoch shows as they are.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &str> {
        let shown = self.engine.world().inputs.shards.iter();
        let shown: BTreeMap<&str, u64> = shown.map(|(&ordinal, shard)| (&*shard.name, ordinal)).collect();
        let all = self.arrivals.list().all();
        let is_shown = move |name: &str, found: &Found| {
            shown.get(name).is_some_and(|&ordinal| all[ordinal as usize].found.same(found))
        };
        self.sources.seen().filter(move |(name, found)| !is_shown(name, found)).map(|(name, _)| name)
    }

    /// Says which shards have not come into an epoch, where no further turn takes them in.
    pub(super) fn tell_waiting(&self, notices: &mut Notices) {
        let mut waiting = self.waiting().peekable();
        let first = waiting.peek().map(ToString::to_string).unwrap_or_default();
        let text = "shards that no epoch shows yet, since they have not settled or could not be read";
        notices.note("shards_waiting", text, first, waiting.count() as u64);
    }

    /// Counts what is in the epoch. What an earlier turn lost of a shard is lost as long as the shard is what it was.
    pub(super) fn tell_shown(&self, report: &mut WatchReport) {
        let ledger = self.pool.ledger();
        let (mut lost, mut counts) = (Notices::default(), Counts::default());
        for ordinal in self.engine.world().inputs.shards.keys() {
            let Some((_, line)) = ledger.shards().get(ordinal) else { continue };
            lost.merge(&line.notices);
            counts.add(&line.counts);
        }
        report.notices.merge_larger(&lost);
        (report.samples, report.rejected) = (counts.total(), counts.rejected);
    }

    /// Updates the report and the gauges.
    pub(super) fn stand(&mut self) {
        let view = self.engine.views().latest();
        let sizes = view.splits().keys().filter_map(|name| Some((name.clone(), view.sizes(name)?))).collect();
        let (epoch, shards) = (view.epoch(), view.shards().count() as u64);
        let waiting = self.waiting().count() as u64;
        let lag = self.complete.values().map(|since| since.elapsed().as_secs_f64()).fold(0.0, f64::max);
        self.report.epoch = epoch;
        self.report.shards = shards;
        self.report.waiting = waiting;
        self.report.sizes = sizes;
        self.report.judged_now = self.progress.judged();
        self.report.rejected_now = self.progress.rejected.load(Ordering::Relaxed);
        self.report.failed = self.failed.iter().map(|(&ordinal, failure)| (ordinal, failure.why.clone())).collect();
        let held = self.engine.flow().held().bytes;
        self.progress.gauges.watch("watch", move |values| {
            values.insert("trommel_watch_epoch".into(), epoch as f64);
            values.insert("trommel_watch_shards".into(), shards as f64);
            values.insert("trommel_watch_waiting_shards".into(), waiting as f64);
            values.insert("trommel_watch_lag_seconds".into(), lag);
            values.insert("trommel_watch_arranged_bytes".into(), held as f64);
        });
        if let Ok(mut note) = self.progress.note.lock() {
            *note = format!("epoch {epoch}, {shards} shards, {waiting} waiting, lag {lag:.0} s");
        }
    }
}

impl Executor for Watch<'_> {
    type Error = PipelineError;

    fn state(&self) -> State<'_> {
        let ledger = self.pool.ledger();
        State {
            manner: &self.manner,
            arrived: self.arrivals.list(),
            is_judged: Box::new(move |ordinal| ledger.is_committed(ordinal)),
            failed: &self.failed,
            inputs: &self.engine.world().inputs,
            is_in_force: self.in_force.is_some(),
            embedded: &self.embedded.0,
            trainer: match &self.live {
                Some(_) => Trainer::Runs,
                None if self.config.train.is_some() && !self.has_trained => Trainer::Due,
                None => Trainer::Absent,
            },
        }
    }

    fn carry_out(&mut self, action: Action) -> Result<(), PipelineError> {
        match action {
            Action::Look => self.look()?,
            Action::Note(events) => self.note(events)?,
            Action::Hear => self.hear()?,
            Action::Share(wanted) => self.share(wanted)?,
            Action::Judge(wanted) => self.judge(&wanted)?,
            Action::Check => {
                let asked = self.asked(Phase::Stopped)?;
                self.pursue(&Seen::Read(asked))?;
            }
            Action::ReadInputs => match self.read_inputs() {
                Ok(loaded) => self.desired = Some(Arc::new(loaded)),
                Err(error) => self.say(&error.with_remedy("what was read before stays in force").line()),
            },
            Action::Embed(named) => self.embed(named)?,
            Action::Compare => self.compare()?,
            Action::Decide => self.decide()?,
            Action::Apply(attempt) => self.apply(&attempt)?,
            Action::TakeEffect => self.in_force.clone_from(&self.desired),
            Action::KeepOld(why) => self.say(&format!("{why}; what was in force before stays")),
            Action::Again => self.is_more = true,
            Action::Train => self.train()?,
            Action::StopTrainer { for_good } => self.stop_trainer(for_good)?,
            Action::StartTrainer => self.start_trainer()?,
            Action::FeedTrainer => self.feed_trainer()?,
            Action::Linger => self.linger()?,
            Action::Rest => {
                let (is_more, trains) = (self.is_more, self.lingers);
                self.pursue(&Seen::Rest { is_more, trains })?;
            }
            Action::Wait(at_most) => {
                if let Some(wake) = &self.wake {
                    wake.wait(at_most);
                }
            }
            Action::End => self.has_ended = true,
        }
        Ok(())
    }
}
