//! What there is to read: shards that came, changed or went; the inputs that are no shards; and a round that reads them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

use trommel_ledger::first_samples::Order;
use trommel_ledger::manifest::Counts;
use trommel_shard::plan::{losses, stem};

use super::arrivals::Arrival;
use super::inputs::{Desired, Stamp, Wanted, stamp};
use super::phase::Phase;
use super::sources::{Found, Seen};
use super::turns::Watch;
use crate::prune::embedded;
use crate::prune_round::{Pruner, Round};
use crate::run_setup::{Input, RunSetup};
use trommel_pipelines::benchmarks::NamedPath;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;

impl Watch<'_> {
    /// What is wanted now; equal in all processes.
    pub(super) fn read_inputs(&mut self) -> Result<Desired, PipelineError> {
        let is_first = self.together.rank() == 0;
        // Pictures are embedded by the first process; what went wrong there goes wrong everywhere.
        let mut desired = if is_first { Some(self.read_inputs_here()) } else { None };
        let trouble = desired.as_ref().and_then(|desired| desired.as_ref().err().map(ToString::to_string));
        if let Some(trouble) = self.together.gather(Phase::Inputs, trouble)?.into_iter().next().flatten() {
            return Err(PipelineError::Usage(trouble));
        }
        let desired = desired.take().unwrap_or_else(|| self.read_inputs_here());
        if self.together.ranks() > 1 {
            let mark = desired.as_ref().map_or_else(ToString::to_string, Desired::fingerprint);
            let marks = self.together.gather(Phase::Fingerprints, mark)?;
            if marks.windows(2).any(|pair| pair[0] != pair[1]) {
                let what =
                    "benchmarks or takedowns are not the same for all processes, or changed while they were read";
                return Err(PipelineError::Usage(what.into()));
            }
        }
        desired
    }

    pub(super) fn read_inputs_here(&mut self) -> Result<Desired, PipelineError> {
        let wanted = (self.config.wanted)()?;
        // Pictures are embedded when they are new or have changed, not in every turn.
        let given: Vec<(NamedPath, Stamp)> =
            wanted.benchmarks.iter().map(|named| (named.clone(), stamp(&named.path))).collect();
        if self.embedded.0 != given {
            let (benchmarks, run) = (wanted.benchmarks, self.config.run.clone());
            let judge = JudgeConfig { benchmarks, run, ..self.config.judge.clone() };
            let judge = embedded(&judge, self.together.rank() == 0, self.stop)?;
            self.publisher.set_benchmarks(&judge.benchmarks);
            self.embedded = (given, judge.benchmarks);
        }
        let wanted = Wanted { benchmarks: self.embedded.1.clone(), ..wanted };
        self.files.read(&wanted, self.identity.as_ref(), self.config.judge.embedder.assume_model.as_deref())
    }

    pub(super) fn look(&mut self) -> Result<Seen, PipelineError> {
        let seen = self.sources.look();
        seen.troubles.iter().for_each(|line| self.say(line));
        self.report.troubles.clone_from(&seen.troubles);
        // What was read is no loss, wherever its file is now.
        let read: BTreeSet<&str> = self.arrivals.all().iter().map(|arrival| stem(&arrival.name)).collect();
        self.lost = losses(seen.lost.iter().filter(|lost| !read.contains(lost.name.as_str())));
        let lines: Vec<String> = self.lost.lines().collect();
        lines.iter().for_each(|line| self.say(line));
        if seen.troubles.is_empty() && self.config.withdraw_missing {
            let (there, mut gone, mut back) = (seen.by_name(), Vec::new(), Vec::new());
            for arrival in self.arrivals.latest() {
                match (there.get(arrival.name.as_str()), self.arrivals.is_gone(arrival.ordinal)) {
                    (None, false) => gone.push(arrival.ordinal),
                    (Some(found), true) if found.same(&arrival.found) => back.push(arrival.ordinal),
                    _ => {}
                }
            }
            self.arrivals.set_gone(&gone, &back)?;
        }
        Ok(seen)
    }

    /// Takes in what is complete and new, or has another content than it had.
    pub(super) fn take_in(&mut self, seen: &Seen) -> Result<(), PipelineError> {
        let mut new = Vec::new();
        for (name, found) in &seen.shards {
            let Some(&since) = seen.complete.get(name) else { continue };
            let known = self.arrivals.latest_of(name);
            if known.is_none_or(|known| !known.found.same(found)) {
                if known.is_some() {
                    tracing::info!("{name} has changed since it was read: it is read again");
                }
                self.complete.entry(name.clone()).or_insert(since);
                new.push((name.clone(), found.clone()));
            }
        }
        if !new.is_empty() {
            self.arrivals.arrive(new)?;
            self.folder.extend(&*self.arrivals.plan()).map_err(PipelineError::failed)?;
        }
        let there = seen.by_name();
        self.complete.retain(|name, _| there.contains_key(name.as_str()));
        Ok(())
    }

    /// Shards that should be judged and are not.
    pub(super) fn unread(&self) -> Vec<u64> {
        let ledger = self.pool.ledger();
        let rests = |ordinal: &u64| {
            // One that could not be read is tried again after a while.
            self.failed.get(ordinal).is_some_and(|(_, when)| when.elapsed() < self.config.poll)
        };
        self.arrivals.wanted().into_iter().filter(|at| !ledger.is_committed(*at) && !rests(at)).collect()
    }

    /// Reads, decodes and embeds: each process the shards that are its own.
    pub(super) fn read(&mut self, wanted: &[u64]) -> Result<(), PipelineError> {
        let mine: Vec<u64> = wanted.iter().copied().filter(|ordinal| self.together.owns(*ordinal)).collect();
        self.progress.shards_planned.fetch_add(mine.len() as u64, Ordering::Relaxed);
        if self.judge.is_none() {
            let mut judging = RunSetup::prepare(&self.reading, None, self.stop.clone())?;
            judging.memory.take("decisions", self.decisions_bytes);
            self.judge = Some(Pruner::start(judging, usize::MAX)?);
        }
        let Some(judge) = &self.judge else { return Ok(()) };
        let round = Round {
            input: Input::Shards(self.arrivals.plan()),
            folder: &self.folder,
            wanted: mine,
            together: &self.alone,
            stop: self.stop,
            progress: self.progress,
            // What comes next may be better: it is a line, and no end.
            first: Order::none(),
        };
        let summary = judge.run(round)?;
        let Counts { rejected, ref rejects, .. } = summary.counts;
        if rejected > 0 && rejected == summary.counts.total() {
            let reasons = rejects.iter().map(|(code, _)| code).collect::<Vec<_>>().join(", ");
            let key = &self.reading.reading.image_key;
            let line =
                format!("all of the {rejected} samples read were rejected ({reasons}); is --image-key `{key}` right?");
            self.say(&line);
        }
        for ordinal in wanted {
            self.failed.remove(ordinal);
        }
        for (failed, notices) in self.together.gather(Phase::ReadShards, (summary.failed, summary.notices))? {
            self.report.notices.merge(&notices);
            let now = failed.into_iter().map(|(ordinal, why)| (ordinal, (why, Instant::now())));
            self.failed.extend(now);
        }
        self.pool.refresh()
    }

    /// Shards whose file is not what it was when it was taken in were read while they changed.
    pub(super) fn tear(&mut self) -> Result<(), PipelineError> {
        let (ledger, stores) = (self.pool.ledger(), &self.config.judge.reading.stores);
        let shown = &self.engine.world().inputs.shards;
        let changed = |arrival: &&Arrival| {
            let fresh = ledger.is_committed(arrival.ordinal) && !shown.contains_key(&arrival.ordinal);
            fresh && Found::at(stores, &arrival.found.path).is_some_and(|found| !found.same(&arrival.found))
        };
        let torn: Vec<u64> = self.arrivals.latest().filter(changed).map(|arrival| arrival.ordinal).collect();
        for ordinal in &torn {
            let name = &self.arrivals.all()[*ordinal as usize].name;
            tracing::warn!("{name} changed while it was read: it is read again when it has settled");
        }
        self.arrivals.tear(torn)
    }
}
