//! `trommel watch`: follows shards, benchmarks, rules and takedowns as they change, and keeps all decisions right.
//!
//! ```text
//!  prefixes ─▶ sources ─▶ arrivals ─▶ a round of judging ─▶ pool (embeddings)
//!                                                            │ shards, as changes
//!  benchmarks, splits, takedowns ─▶ inputs ─▶ changes ─▶ incremental engine ─▶ epoch ─▶ publish ─▶ RUN/current
//! ```
//!
//! Two clocks: a round reads shards in the time of passes and shards; the epoch of changes orders what decisions depend on. A turn of
//! the loop reads what is new, then lets all that has changed take effect together, as one epoch, and shows it whole.
//!
//! Everything is durable before it is visible: an arrival before it is read, its parts before the pool counts it, an epoch's folder
//! before the epoch is committed, and that before it is shown. So a watch that is killed at any instant goes on where it was: what it does next
//! depends on what is there alone.
//!
//! Of several processes the first looks, publishes and writes lists; each reads and embeds its own shards (a shard is its ordinal's
//! remainder's) and joins them; all keep one state and make each epoch together.

mod arrivals;
mod changes;
mod inputs;
mod live;
mod pool;
mod publish;
mod reconcile;
mod sources;
mod wake;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use trommel_operators::dataflow::stop::Stop;
use trommel_operators::incremental::IncrementalError;
use trommel_operators::incremental::engine::{Applied, Engine, IncrementalConfig};
use trommel_operators::ledger::part::PartConfig;
use trommel_operators::ledger::run_folder::RunFolder;
use trommel_operators::ledger::storage::{Disk, Storage};
use trommel_operators::sample::{Identity, SampleId};

use self::arrivals::Arrivals;
pub use self::changes::SplitSizes;
use self::changes::Summary;
pub use self::inputs::Wanted;
use self::inputs::{Desired, InputFiles};
use self::live::Live;
use self::pool::Pool;
use self::publish::Publisher;
use self::reconcile::{Step, steps};
use self::sources::{Seen, Sources};
use self::wake::Wake;
use crate::benchmarks::NamedPath;
use crate::config::JudgeConfig;
use crate::error::PipelineError;
use crate::judging::{Input, Judging};
use crate::progress::Progress;
use crate::prune::embedded;
use crate::round::{Judge, Judged, Round};
use crate::running::{agreed, open_folder};
use crate::together::Together;
use crate::train::{TrainReport, TrainRun};
use crate::train_graph::lies_before;

/// What a watch is told.
pub struct WatchConfig {
    /// How shards are read and embedded, and on which machine; its shards, benchmarks and rule are not used.
    pub judge: JudgeConfig,
    /// Prefixes: folders, globs, braces, list files.
    pub sources: Vec<String>,
    /// The watch's folder.
    pub run: PathBuf,
    /// One turn, then end.
    pub once: bool,
    /// A shard without statistics is complete when it has not changed for so long.
    pub settle: Duration,
    /// Time between looks where nothing notifies.
    pub poll: Duration,
    /// A shard whose file goes is withdrawn; otherwise what is known of it stays.
    pub withdraw_missing: bool,
    /// Published epochs that are kept.
    pub keep_epochs: usize,
    /// What the user wants now: asked again in every turn.
    pub wanted: Box<dyn Fn() -> Result<Wanted, PipelineError>>,
    /// Files that `wanted` reads.
    pub wanted_files: Vec<PathBuf>,
    /// A trainer to be kept fed.
    pub train: Option<LiveTraining>,
}

/// A trainer that is fed while the watch goes on; it writes into `RUN/train`.
#[derive(Clone, Debug)]
pub struct LiveTraining {
    /// The split whose rule decides what it gets.
    pub split: String,
    /// Model, recipe and length; what it says of judging is not used.
    pub run: TrainRun,
}

/// How a watch stands when it ends.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WatchReport {
    /// The last epoch.
    pub epoch: u64,
    /// Epochs of this process.
    pub epochs_now: u64,
    /// Live shards.
    pub shards: u64,
    /// Shards that are there and not yet in an epoch: not complete, or not readable.
    pub waiting: u64,
    /// Sizes by split.
    pub sizes: BTreeMap<String, SplitSizes>,
    /// Samples read by this process.
    pub judged_now: u64,
    /// Of these, rejected.
    pub rejected_now: u64,
    /// Shards whose bytes could not be had, and why.
    pub failed: BTreeMap<u64, String>,
    /// Largest time from a complete shard to the epoch that shows it, of this process.
    pub lag_seconds: f64,
    /// How the live trainer stands.
    pub training: Option<TrainReport>,
    /// Whether it was stopped with work left.
    pub interrupted: bool,
}

/// Part of the memory that arrangements and the facts of an epoch may take.
const DECISIONS_SHARE: u64 = 4;

/// A live trainer is idle if it is at so many looks in a row, so far apart.
const IDLE_LOOKS: u32 = 3;
const IDLE_LOOK: Duration = Duration::from_millis(100);

/// Watches until it is stopped, or once.
///
/// # Errors
/// Wrong input before the first byte; later a full disk, a budget that an epoch does not fit in, a bug.
pub fn watch(config: &WatchConfig, stop: Stop, progress: &Arc<Progress>) -> Result<WatchReport, PipelineError> {
    let together = Together::join(&config.judge, false, &stop, progress)?;
    let result = watch_together(config, &together, &stop, progress);
    together.end(result)
}

fn watch_together(
    config: &WatchConfig,
    together: &Together,
    stop: &Stop,
    progress: &Arc<Progress>,
) -> Result<WatchReport, PipelineError> {
    if config.train.is_some() && together.ranks() > 1 {
        let what = "--train: a live trainer is one process's; train with several on --decisions RUN/current/SPLIT";
        return Err(PipelineError::Usage(what.into()));
    }
    let mut watch = Watch::start(config, together, stop, progress)?;
    let places = watch.sources.places().into_iter().chain(config.wanted_files.clone());
    let wake = (together.rank() == 0).then(|| Wake::new(places, config.poll, stop));
    let followed = watch.follow(wake.as_ref()).and_then(|()| watch.end_live());
    let Watch { engine, mut report, .. } = watch;
    match followed {
        Ok(()) => drop(engine), // with the others
        Err(error) => {
            // The others end as they hear of it; nothing would come of waiting for them.
            std::mem::forget(engine);
            return Err(error);
        }
    }
    if let Some(failure) = stop.failure() {
        return Err(PipelineError::failed(failure));
    }
    report.interrupted = config.once && (stop.is_requested() || stop.is_winding_down());
    Ok(report)
}

struct Watch<'a> {
    config: &'a WatchConfig,
    stop: &'a Stop,
    progress: &'a Arc<Progress>,
    together: &'a Together,
    /// This process's rounds need no others.
    alone: Together,
    sources: Sources,
    arrivals: Arrivals,
    files: InputFiles,
    /// Where the benchmarks were last read from.
    benchmarks: Vec<NamedPath>,
    desired: Option<Desired>,
    /// How the pool is read and embedded.
    reading: JudgeConfig,
    identity: Option<Identity>,
    parts: PartConfig,
    decisions_bytes: u64,
    /// Made when the first round needs it; a live trainer brings its own.
    judge: Option<Judge>,
    live: Option<Live>,
    /// The fingerprint of what the live trainer decides by.
    live_inputs: String,
    has_trained: bool,
    folder: Arc<RunFolder>,
    pool: Arc<Pool>,
    engine: Engine,
    publisher: Publisher,
    /// When shards that no epoch shows yet were seen complete.
    complete: BTreeMap<String, Instant>,
    /// Why shards could not be read, and when that was.
    failed: BTreeMap<u64, (String, Instant)>,
    said: Vec<String>,
    idle_looks: u32,
    report: WatchReport,
}

impl<'a> Watch<'a> {
    fn start(
        config: &'a WatchConfig,
        together: &'a Together,
        stop: &'a Stop,
        progress: &'a Arc<Progress>,
    ) -> Result<Self, PipelineError> {
        std::fs::create_dir_all(&config.run)
            .map_err(|error| PipelineError::Usage(format!("cannot make {}: {error}", config.run.display())))?;
        let is_first = together.rank() == 0;
        let arrivals = together.in_turn("arrivals", || open_arrivals(&config.run, is_first))?;
        let plan = arrivals.plan();
        let root = config.run.join("pool");
        let judge = JudgeConfig {
            shards: Vec::new(),
            plan: Some(plan.clone()),
            run: root.clone(),
            benchmarks: Vec::new(),
            rule: None,
            keep_embeddings: true,
            always_embed: true,
            cluster: None,
            ..config.judge.clone()
        };
        let judging = Judging::prepare(&judge, None, stop.clone())?;
        let run_config = judging.run_config();
        together.agree("configuration", &agreed(&run_config, &plan))?;
        let open = || open_folder(&root, &plan, &run_config, together.access(), judge.mix_numerics);
        let folder = together.in_turn("pool", open)?;
        let budget_bytes = judge.machine.memory_bytes / DECISIONS_SHARE;
        let (base, parts) = (judging.decision.clone(), judging.part_config());
        let identity = judging.embedder.as_ref().map(|embedder| embedder.identity.clone());
        let pool = Arc::new(Pool::open(&root)?);
        let settings =
            IncrementalConfig { workers: config.judge.machine.workers, budget_bytes, ..IncrementalConfig::default() };
        let state = config.run.join("epochs");
        let place: (&Path, Arc<dyn Storage>) = (&state, Arc::new(Disk));
        let engine = match together.cluster() {
            None => Engine::open(settings, pool.clone(), place.0, place.1),
            Some(cluster) => {
                let allocators = cluster.timely(settings.workers).map_err(PipelineError::failed)?;
                Engine::open_across(settings, pool.clone(), place, Arc::new(cluster.control().clone()), allocators)
            }
        };
        let engine = engine.map_err(failed)?;
        let mut publisher = Publisher::new(&config.run, config.keep_epochs, &run_config, base);
        let view = engine.views().latest();
        if is_first && !publisher.recover(view.epoch())? {
            tracing::warn!("epoch {} was not published, or its folder is gone: it is made again", view.epoch());
            let summary = Summary { epoch: view.epoch(), unix_seconds: now(), ..Summary::default() };
            publisher.prepare(&view, &Default::default(), &summary, &pool, &|_, _| None)?;
            publisher.show(view.epoch())?;
        }
        let sources = Sources::new(config.sources.clone(), config.settle);
        let (files, report) = (InputFiles::default(), WatchReport::default());
        let mut this = Self {
            config,
            stop,
            progress,
            together,
            alone: together.by_itself(),
            sources,
            arrivals,
            files,
            benchmarks: Vec::new(),
            desired: None,
            reading: judge,
            identity,
            parts,
            decisions_bytes: budget_bytes,
            judge: None,
            live: None,
            live_inputs: String::new(),
            has_trained: false,
            folder,
            pool,
            engine,
            publisher,
            complete: BTreeMap::new(),
            failed: BTreeMap::new(),
            said: Vec::new(),
            idle_looks: 0,
            report,
        };
        // Wrong input is said now; later it is a line, and what was right before stays.
        this.desired = Some(this.read_inputs()?);
        let inputs = &this.engine.world().inputs;
        let changes: Vec<_> = inputs::changes(inputs, this.desired.as_ref().unwrap_or(&Desired::default()))
            .into_iter()
            .map(|change| change.0)
            .collect();
        inputs.after(&changes).map_err(PipelineError::usage)?;
        this.stand();
        Ok(this)
    }

    /// Turn after turn, until it is stopped, or once.
    fn follow(&mut self, wake: Option<&Wake>) -> Result<(), PipelineError> {
        loop {
            let stops = self.stop.is_requested() || self.stop.is_winding_down();
            // Whoever is told to stop stops all, at the same turn.
            if self.together.gather("turn", stops)?.contains(&true) {
                return Ok(());
            }
            let more = self.turn()?;
            let trains = self.feed(wake)?;
            if more {
                continue;
            }
            if self.config.once && !trains {
                return Ok(());
            }
            if let Some(wake) = wake {
                wake.wait(if self.config.once { IDLE_LOOK } else { self.patience() });
            }
        }
    }

    /// What is wanted now; equal in all processes.
    fn read_inputs(&mut self) -> Result<Desired, PipelineError> {
        let is_first = self.together.rank() == 0;
        // Pictures are embedded by the first process; what went wrong there goes wrong everywhere.
        let mut desired = if is_first { Some(self.read_inputs_here()) } else { None };
        let trouble = desired.as_ref().and_then(|desired| desired.as_ref().err().map(ToString::to_string));
        if let Some(trouble) = self.together.gather("inputs", trouble)?.into_iter().next().flatten() {
            return Err(PipelineError::Usage(trouble));
        }
        let desired = desired.take().unwrap_or_else(|| self.read_inputs_here());
        if self.together.ranks() > 1 {
            let mark = desired.as_ref().map_or_else(ToString::to_string, Desired::fingerprint);
            let marks = self.together.gather("fingerprints", mark)?;
            if marks.windows(2).any(|pair| pair[0] != pair[1]) {
                let what =
                    "benchmarks or takedowns are not the same for all processes, or changed while they were read";
                return Err(PipelineError::Usage(what.into()));
            }
        }
        desired
    }

    fn read_inputs_here(&mut self) -> Result<Desired, PipelineError> {
        let wanted = (self.config.wanted)()?;
        let judge =
            JudgeConfig { benchmarks: wanted.benchmarks, run: self.config.run.clone(), ..self.config.judge.clone() };
        let judge = embedded(&judge, self.together.rank() == 0, self.stop)?;
        let folders = judge.benchmarks.iter().map(|named| (named.name.clone(), named.path.clone())).collect();
        self.publisher.set_benchmarks(&folders);
        let wanted = Wanted { benchmarks: judge.benchmarks, ..wanted };
        self.benchmarks = wanted.benchmarks.clone();
        self.files.read(&wanted, self.identity.as_ref(), self.config.judge.embedder.assume_model.as_deref())
    }

    /// Looks, reads what is new, lets what has changed take effect. Gives whether there is more to do at once.
    fn turn(&mut self) -> Result<bool, PipelineError> {
        let is_first = self.together.rank() == 0;
        let mut wanted = None;
        if is_first {
            let seen = self.look()?;
            self.take_in(&seen)?;
            wanted = Some(self.unread());
        }
        if self.trains() {
            // The live trainer reads what has come.
            wanted = Some(Vec::new());
            self.pool.refresh()?;
            self.tear()?;
        }
        // The first process looks for all.
        let wanted = self.together.gather("orders", wanted)?.swap_remove(0).unwrap_or_default();
        if !wanted.is_empty() {
            if !is_first {
                self.arrivals = open_arrivals(&self.config.run, false)?;
            }
            self.read(&wanted)?;
            if is_first {
                // A shard may have changed under us.
                self.tear()?;
            }
            self.together.wait("read")?;
            if !is_first {
                self.arrivals = open_arrivals(&self.config.run, false)?;
            }
        }
        if self.together.gather("end", self.stop.is_requested())?.contains(&true) {
            return Ok(false);
        }
        match self.read_inputs() {
            Ok(desired) => self.desired = Some(desired),
            Err(error) => self.say(&format!("{error}; what was read before stays in force")),
        }
        let more = self.decide()?;
        self.stand();
        Ok(more)
    }

    /// Whether a live trainer reads what comes, or is to.
    fn trains(&self) -> bool {
        self.config.train.is_some() && !self.has_trained
    }

    /// Keeps the live trainer fed; gives whether it still has something to do.
    fn feed(&mut self, wake: Option<&Wake>) -> Result<bool, PipelineError> {
        let (Some(train), Some(wake)) = (&self.config.train, wake) else { return Ok(false) };
        if self.has_trained || self.stop.is_requested() || self.stop.is_winding_down() {
            return Ok(false);
        }
        let Some(desired) = &self.desired else { return Ok(true) };
        let inputs = desired.fingerprint();
        let has_ended = self.live.as_ref().is_some_and(Live::has_ended);
        if let Some(live) = self.live.take_if(|_| has_ended || inputs != self.live_inputs) {
            let report = live.end()?;
            self.has_trained = has_ended;
            self.report.training = Some(report);
        }
        let read = self.arrivals.wanted();
        if let Some(live) = &self.live {
            live.follow(&self.arrivals, &read);
        } else if !self.has_trained {
            let rule = desired.splits.get(&train.split).map(ToString::to_string);
            let rule =
                rule.ok_or_else(|| PipelineError::Usage(format!("--train: no split is named {}", train.split)))?;
            let judge = JudgeConfig {
                plan: Some(self.arrivals.plan()),
                benchmarks: self.benchmarks.clone(),
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
            };
            let together = self.together.by_itself();
            let live = Live::start(setting, &self.arrivals, &read, together, (self.stop, self.progress), wake.poke())?;
            self.live = Some(live);
            self.live_inputs = inputs;
        }
        if self.has_trained {
            return Ok(!self.unread().is_empty());
        }
        let is_idle = self.live.as_ref().is_some_and(Live::is_idle) && self.unread().is_empty();
        self.idle_looks = if is_idle { self.idle_looks + 1 } else { 0 };
        Ok(self.idle_looks < IDLE_LOOKS)
    }

    /// Ends the live trainer: its checkpoint is where it goes on.
    fn end_live(&mut self) -> Result<(), PipelineError> {
        if let Some(live) = self.live.take() {
            self.report.training = Some(live.end()?);
        }
        Ok(())
    }

    fn look(&mut self) -> Result<Seen, PipelineError> {
        let seen = self.sources.look();
        seen.troubles.iter().for_each(|line| self.say(line));
        let there = |name: &str| seen.shards.iter().find(|shard| shard.0 == name).map(|shard| &shard.1);
        if seen.troubles.is_empty() && self.config.withdraw_missing {
            let (mut gone, mut back) = (Vec::new(), Vec::new());
            for arrival in self.arrivals.latest() {
                match (there(&arrival.name), self.arrivals.is_gone(arrival.ordinal)) {
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
    fn take_in(&mut self, seen: &Seen) -> Result<(), PipelineError> {
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
        self.complete.retain(|name, _| seen.shards.iter().any(|shard| shard.0 == *name));
        Ok(())
    }

    /// Shards that should be judged and are not.
    fn unread(&self) -> Vec<u64> {
        let ledger = self.pool.ledger();
        let rests = |ordinal: &u64| {
            // One that could not be read is tried again after a while.
            self.failed.get(ordinal).is_some_and(|(_, when)| when.elapsed() < self.config.poll)
        };
        self.arrivals.wanted().into_iter().filter(|at| !ledger.is_committed(*at) && !rests(at)).collect()
    }

    /// Reads, decodes and embeds: each process the shards that are its own.
    fn read(&mut self, wanted: &[u64]) -> Result<(), PipelineError> {
        let (rank, ranks) = (self.together.rank() as u64, self.together.ranks() as u64);
        let mine: Vec<u64> = wanted.iter().copied().filter(|ordinal| ordinal % ranks == rank).collect();
        self.progress.shards_planned.fetch_add(mine.len() as u64, Ordering::Relaxed);
        if self.judge.is_none() {
            let mut judging = Judging::prepare(&self.reading, None, self.stop.clone())?;
            judging.memory.take("decisions", self.decisions_bytes);
            self.judge = Some(Judge::start(judging, usize::MAX)?);
        }
        let Some(judge) = &self.judge else { return Ok(()) };
        let round = Round {
            input: Input::Shards(self.arrivals.plan()),
            folder: &self.folder,
            wanted: mine,
            together: &self.alone,
            stop: self.stop,
            progress: self.progress,
            is_all: ranks == 1 && self.engine.views().latest().epoch() == 0,
        };
        let Judged { summary, .. } = judge.run(round)?;
        for ordinal in wanted {
            self.failed.remove(ordinal);
        }
        for failed in self.together.gather("failed", summary.failed)? {
            let now = failed.into_iter().map(|(ordinal, why)| (ordinal, (why, Instant::now())));
            self.failed.extend(now);
        }
        self.pool.refresh()
    }

    /// Shards whose file is not what it was when it was taken in were read while they changed.
    fn tear(&mut self) -> Result<(), PipelineError> {
        let ledger = self.pool.ledger();
        let shown = &self.engine.world().inputs.shards;
        let changed = |arrival: &&arrivals::Arrival| {
            let fresh = ledger.is_committed(arrival.ordinal) && !shown.contains_key(&arrival.ordinal);
            fresh && sources::Found::at(&arrival.found.path).is_some_and(|found| !found.same(&arrival.found))
        };
        let torn: Vec<u64> = self.arrivals.latest().filter(changed).map(|arrival| arrival.ordinal).collect();
        for ordinal in &torn {
            let name = &self.arrivals.all()[*ordinal as usize].name;
            tracing::warn!("{name} changed while it was read: it is read again when it has settled");
        }
        self.arrivals.tear(torn)
    }

    /// Lets everything that has changed take effect. Gives whether something was left for another epoch.
    fn decide(&mut self) -> Result<bool, PipelineError> {
        let Some(desired) = self.desired.clone() else { return Ok(false) };
        let live = self.arrivals.live(|ordinal| self.pool.ledger().is_committed(ordinal));
        let all = steps(&self.engine.world().inputs, &desired, &live, &self.pool, &self.arrivals)?;
        if all.is_empty() {
            return Ok(false);
        }
        let mut many = all.len();
        loop {
            let now: Vec<Step> = all[..many].to_vec();
            let made = self.epoch(&now);
            // Another process's refusal is not known by its kind here.
            let full = self.together.gather("made", matches!(made, Err(IncrementalError::Budget { .. })))?;
            match made {
                Ok(applied) => {
                    if self.together.rank() == 0 {
                        self.tell(&applied);
                    }
                    return Ok(many < all.len());
                }
                // Shards can come one after the other; what cannot be split is refused.
                Err(_) if full.contains(&true) && many > 1 && all[many - 1].can_wait => {
                    let fixed = all.iter().filter(|step| !step.can_wait).count();
                    many = (many / 2).max(fixed).max(1);
                }
                Err(IncrementalError::Change(error)) => {
                    self.say(&format!("{error}; what was in force before stays"));
                    self.desired = None;
                    return Ok(false);
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn epoch(&mut self, steps: &[Step]) -> Result<Applied, IncrementalError> {
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
        let applied = self.engine.apply_with(&changes, serde_json::Value::Null, |view, log| {
            if !is_first {
                return Ok(());
            }
            let name = |ordinal: u64| arrivals.all()[ordinal as usize].name.clone();
            publisher
                .prepare(view, log, &summary.with(log, name, &trained), pool, &trained)
                .map_err(|error| IncrementalError::Unpublished(error.to_string()))
        })?;
        let show = self.publisher.show(applied.changelog.epoch);
        show.map_err(|error| IncrementalError::Unpublished(error.to_string()))?;
        self.report.epochs_now += 1;
        self.report.lag_seconds = self.report.lag_seconds.max(lag_seconds.unwrap_or(0.0));
        for name in steps.iter().filter_map(|step| step.shard.as_ref()) {
            self.complete.remove(name);
        }
        Ok(applied)
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
        let waiting = self.complete.len();
        tracing::info!(
            "epoch {}: {shards}, {} samples changed sides; {}; decided in {:.2} s, maxima mended in {:.2} s; {waiting} shards wait",
            log.epoch,
            log.sides.len(),
            sizes.join("; "),
            applied.decided.as_secs_f64(),
            applied.mended.as_secs_f64()
        );
    }

    /// Says a line once, until another is said.
    fn say(&mut self, line: &str) {
        if !self.said.iter().any(|said| said == line) {
            tracing::warn!("{line}");
            if self.said.len() > 64 {
                self.said.clear();
            }
            self.said.push(line.to_owned());
        }
    }

    /// Updates the report and the gauges.
    fn stand(&mut self) {
        let view = self.engine.views().latest();
        let sizes = view.splits().keys().filter_map(|name| Some((name.clone(), view.sizes(name)?.into()))).collect();
        let (epoch, shards) = (view.epoch(), view.shards().count() as u64);
        let waiting = self.complete.len() as u64;
        let lag = self.complete.values().map(|since| since.elapsed().as_secs_f64()).fold(0.0, f64::max);
        self.report.epoch = epoch;
        self.report.shards = shards;
        self.report.waiting = waiting;
        self.report.sizes = sizes;
        self.report.judged_now = self.progress.judged();
        self.report.rejected_now = self.progress.rejected.load(Ordering::Relaxed);
        self.report.failed = self.failed.iter().map(|(&ordinal, (why, _))| (ordinal, why.clone())).collect();
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

    /// How long a wait may be: until the next shard may have settled.
    fn patience(&self) -> Duration {
        self.config.poll.min(self.config.settle.max(Duration::from_millis(100)))
    }
}

/// The list of arrivals: the first process writes it, the others read it.
fn open_arrivals(run: &Path, is_first: bool) -> Result<Arrivals, PipelineError> {
    if is_first { Arrivals::open(run) } else { Arrivals::follow(run) }
}

fn failed(error: IncrementalError) -> PipelineError {
    PipelineError::failed(error)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
