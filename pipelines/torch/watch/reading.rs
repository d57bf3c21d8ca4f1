//! What there is to read: shards that came, changed or went; the inputs that are no shards; and a round that reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use trommel_core::notices::Notice;
use trommel_incremental::planner::{Arrival, Event, Executor, Failure, Found, Look, NamedBenchmark, Seen};
use trommel_ledger::first_samples::Order;
use trommel_ledger::manifest::Counts;
use trommel_shard::plan::{LINKS_TO_NOTHING, losses, stem};

use super::arrivals::Arrivals;
use super::inputs::{Loaded, Wanted};
use super::settling::{Settling, changes, stamp};
use super::sources::found_at;
use super::start::{Watch, prepare_alone};
use crate::prune::embedded;
use crate::prune_round::{Pruner, Round};
use crate::run_setup::Input;
use trommel_pipelines::benchmarks::NamedPath;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::phase::Phase;

impl Watch<'_> {
    /// Looks at the prefixes, in the process that does it for all.
    pub(super) fn look(&mut self) -> Result<(), PipelineError> {
        let look = (self.together.rank() == 0).then(|| self.look_here());
        self.pursue(&Seen::Sources(look.as_ref(), Instant::now()))
    }

    fn look_here(&mut self) -> Look {
        let mut look = self.sources.look();
        if self.manner.withdraws_missing {
            look.troubles.extend(self.arrivals.list().emptied(&look));
            // What lies behind such a link may be there again tomorrow.
            let link = look.passed_over.get(LINKS_TO_NOTHING);
            let line = |it: &Notice| {
                format!(
                    "{}: a link that leads nowhere, as to a disk that is not mounted; no shard is withdrawn",
                    it.first
                )
            };
            look.troubles.extend(link.map(line));
        }
        look.troubles.iter().for_each(|line| self.say(line));
        self.report.troubles.clone_from(&look.troubles);
        // What was read is no loss, wherever its file is now.
        let read: BTreeSet<&str> = self.arrivals.list().all().iter().map(|arrival| stem(&arrival.name)).collect();
        self.lost = losses(look.lost.iter().filter(|lost| !read.contains(lost.name.as_str())));
        self.lost.merge(&look.passed_over);
        let lines: Vec<String> = self.lost.lines().collect();
        lines.iter().for_each(|line| self.say(line));
        let there = look.by_name();
        self.complete.retain(|name, _| there.contains_key(name.as_str()));
        look
    }

    /// Notes what happened to shards.
    pub(super) fn note(&mut self, events: Vec<Event>) -> Result<(), PipelineError> {
        let list = self.arrivals.list();
        let mut grows = false;
        for event in &events {
            match event {
                Event::Arrived(arrival) => {
                    let name = &arrival.name;
                    if list.latest_of(name).is_some() {
                        tracing::info!("{name} has changed since it was read: it is read again");
                    }
                    if let Some(since) = self.sources.complete_since(name) {
                        self.complete.entry(name.clone()).or_insert(since);
                    }
                    grows = true;
                }
                Event::Torn(ordinal) => {
                    let name = &list.all()[*ordinal as usize].name;
                    tracing::warn!("{name} changed while it was read: it is read again when it has settled");
                }
                Event::Gone(_) | Event::Back(_) => {}
            }
        }
        self.arrivals.note(events)?;
        if grows {
            self.folder.extend(&*self.arrivals.list().plan()).map_err(PipelineError::failed)?;
        }
        Ok(())
    }

    /// The first process says for all what is to be judged.
    pub(super) fn share(&mut self, wanted: Vec<u64>) -> Result<(), PipelineError> {
        let orders = (self.together.rank() == 0).then(|| (self.arrivals.list().all().len(), wanted));
        let (arrived, wanted) = self.together.gather(Phase::Orders, orders)?.swap_remove(0).unwrap_or_default();
        if self.arrivals.list().all().len() < arrived {
            self.arrivals = Arrivals::follow(&self.config.run)?;
        }
        self.pursue(&Seen::Orders(&wanted))
    }

    /// Reads, decodes and embeds: each process the shards that are its own.
    pub(super) fn judge(&mut self, wanted: &[u64]) -> Result<(), PipelineError> {
        let mine: Vec<u64> = wanted.iter().copied().filter(|ordinal| self.together.owns(*ordinal)).collect();
        self.progress.shards_planned.fetch_add(mine.len() as u64, Ordering::Relaxed);
        if self.pruner.is_none() {
            let judging = prepare_alone(&self.reading, self.decisions_bytes, self.stop)?;
            self.pruner = Some(Pruner::start(judging, usize::MAX)?);
        }
        let Some(pruner) = &self.pruner else { return Ok(()) };
        let round = Round {
            input: Input::Shards(self.arrivals.list().plan()),
            folder: &self.folder,
            wanted: mine,
            together: &self.alone,
            stop: self.stop,
            progress: self.progress,
            // What comes next may be better: it is a line, and no end.
            first: Order::none(),
        };
        let summary = pruner.run(round)?;
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
            self.set_failed(failed);
        }
        self.look_again()
    }

    /// Shards that could not be read rest from now on.
    pub(super) fn set_failed(&mut self, failed: BTreeMap<u64, String>) {
        let when = Instant::now();
        self.failed.extend(failed.into_iter().map(|(ordinal, why)| (ordinal, Failure { why, when })));
    }

    /// Looks at what the pool has, and at the files of what is new there.
    pub(super) fn look_again(&mut self) -> Result<(), PipelineError> {
        self.pool.refresh()?;
        self.compare()
    }

    /// Looks whether files are what they were when they were taken in, in the process that notes it.
    pub(super) fn compare(&mut self) -> Result<(), PipelineError> {
        if self.together.rank() > 0 {
            return Ok(());
        }
        let stores = &self.config.judge.reading.stores;
        let file = |it: &Arrival| Some((it.ordinal, found_at(stores, &it.found.path)?));
        let found: BTreeMap<u64, Found> = self.state().fresh().filter_map(file).collect();
        self.pursue(&Seen::Files(&found))
    }

    /// What is wanted now; equal in all processes.
    pub(super) fn read_inputs(&mut self) -> Result<Loaded, PipelineError> {
        let is_first = self.together.rank() == 0;
        // Pictures are embedded by the first process; what went wrong there goes wrong everywhere.
        let desired = if is_first { Some(self.read_inputs_here()) } else { None };
        let trouble = desired.as_ref().and_then(|desired| desired.as_ref().err().map(PipelineError::line));
        let unsettled: Vec<String> =
            self.files.settling.unsettled().iter().map(|path| path.display().to_string()).collect();
        let (trouble, unsettled) = self.together.gather(Phase::Inputs, (trouble, unsettled))?.swap_remove(0);
        if let Some(trouble) = trouble {
            return Err(PipelineError::usage(trouble));
        }
        let desired = desired.unwrap_or_else(|| {
            self.files.settling.leave_only(unsettled.into_iter().map(PathBuf::from));
            self.read_inputs_here()
        });
        if self.together.ranks() > 1 {
            let mark = desired.as_ref().map_or_else(PipelineError::line, Loaded::fingerprint);
            let marks = self.together.gather(Phase::Fingerprints, mark)?;
            if marks.windows(2).any(|pair| pair[0] != pair[1]) {
                let what =
                    "benchmarks or takedowns are not the same for all processes, or changed while they were read";
                return Err(PipelineError::usage(what));
            }
        }
        desired
    }

    fn read_inputs_here(&mut self) -> Result<Loaded, PipelineError> {
        let wanted = self.wanted_here()?;
        for flag in &wanted.not_followed {
            self.say(&format!("--config gives --{flag} otherwise now, which no running watch follows: start it again"));
        }
        let settling = &self.files.settling;
        let named = |it: &NamedPath| {
            let NamedPath { name, path, without } = it.clone();
            // What has not settled is as it was when it was embedded.
            let is_it = |held: &&NamedBenchmark| settling.leaves(&path) && (&held.name, &held.path) == (&name, &path);
            let held = self.embedded.0.iter().find(is_it);
            let stamps = held.map_or_else(|| settling.stamps(&path), |held| held.stamps.clone());
            NamedBenchmark { stamps, name, path, without }
        };
        let named: Vec<NamedBenchmark> = wanted.benchmarks.iter().map(named).collect();
        self.pursue(&Seen::Benchmarks(&named))?;
        let embedded = self.embedded.0.iter().zip(&self.embedded.1);
        let left = embedded.filter(|(named, _)| self.files.settling.leaves(&named.path));
        let left: Vec<PathBuf> = left.map(|(_, folder)| folder.path.clone()).collect();
        self.files.settling.leave(left);
        let wanted = Wanted { benchmarks: self.embedded.1.clone(), ..wanted };
        self.files.read(&wanted, self.identity.as_ref(), self.config.judge.embedder.assume_model.as_deref())
    }

    /// What the command line and its file say now, as far as what they name can be read: what has not settled is not there yet. Whether it has,
    /// the process that looks has said to the others.
    fn wanted_here(&mut self) -> Result<Wanted, PipelineError> {
        let (config, settling) = (self.config, &mut self.files.settling);
        let file = config.wanted_file.as_deref();
        let read = |settling: &Settling| match file {
            Some(file) => settling.whole(file, || (config.wanted)()).map(|read| read.1),
            None => (config.wanted)(),
        };
        let looks = self.together.rank() == 0;
        let wanted = match &self.wanted {
            None => read(settling)?,
            Some(before) => {
                if looks {
                    settling.leave_only([]);
                    settling.look(file.into_iter().chain(before.paths()));
                }
                let stays = file.is_some_and(|file| settling.leaves(file));
                let now = if stays { before.clone() } else { read(settling)? };
                if looks {
                    settling.look(now.new_paths(before));
                }
                let waits = now.new_paths(before).any(|path| settling.leaves(path));
                if waits { before.clone() } else { now }
            }
        };
        self.wanted = Some(wanted.clone());
        Ok(wanted)
    }

    /// Embeds benchmarks that are pictures, and were not embedded as they are.
    pub(super) fn embed(&mut self, named: Vec<NamedBenchmark>) -> Result<(), PipelineError> {
        let path = |it: &NamedBenchmark| {
            let NamedBenchmark { name, path, without, .. } = it.clone();
            NamedPath { name, path, without }
        };
        let held = |it: &NamedBenchmark| self.embedded.0.iter().position(|held| held == it);
        let new: Vec<&NamedBenchmark> = named.iter().filter(|it| held(it).is_none()).collect();
        let (benchmarks, run) = (new.iter().copied().map(path).collect(), self.config.run.clone());
        let judge = JudgeConfig { benchmarks, run, ..self.config.judge.clone() };
        let judge = embedded(&judge, self.together.rank() == 0, self.stop)?;
        if let Some(changed) = new.iter().find(|it| stamp(&it.path) != it.stamps) {
            self.files.settling.forget(&changed.path);
            return Err(changes(&changed.path));
        }
        let mut new = judge.benchmarks.into_iter();
        let folder = |it: &NamedBenchmark| held(it).map_or_else(|| new.next(), |at| self.embedded.1.get(at).cloned());
        let folders: Vec<NamedPath> = named.iter().filter_map(folder).collect();
        self.publisher.set_benchmarks(&folders);
        self.embedded = (named, folders);
        Ok(())
    }
}
