//! The loop of a watch: what it holds, how it starts, and one turn after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use trommel_core::durable::make_folder;
use trommel_core::notices::Notices;
use trommel_core::sample::Identity;
use trommel_core::stop::Stop;
use trommel_decide::benchmark::Benchmark;
use trommel_incremental::engine::{Engine, IncrementalConfig};
use trommel_ledger::part::PartConfig;
use trommel_ledger::run_folder::{BLUR, RunFolder};
use trommel_ledger::storage::{Disk, Storage};

use super::arrivals::Arrivals;
use super::changes::Summary;
use super::inputs::{Desired, InputFiles, Stamp, changes};
use super::live::Live;
use super::phase::Phase;
use super::pool::Pool;
use super::publish::Publisher;
use super::sources::Sources;
use super::wake::{Wake, Waker};
use super::{WatchConfig, WatchReport};
use crate::prune_round::Pruner;
use crate::run_setup::{RunSetup, reader_config};
use crate::run_watch::{agreed, open_folder};
use crate::takedown::TakenDown;
use crate::together::Together;
use trommel_pipelines::benchmarks::NamedPath;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::progress::Progress;
use trommel_pipelines::stray_files::beside_to_come;

/// Part of the memory that arrangements and the facts of an epoch may take.
const DECISIONS_SHARE: u64 = 4;

/// Time between looks at a live trainer that is to become idle.
const IDLE_LOOK: Duration = Duration::from_millis(100);

/// A watch at work.
pub(super) struct Watch<'a> {
    pub(super) config: &'a WatchConfig,
    pub(super) stop: &'a Stop,
    pub(super) progress: &'a Arc<Progress>,
    pub(super) together: &'a Together,
    /// This process's rounds need no others.
    pub(super) alone: Together,
    pub(super) sources: Sources,
    pub(super) arrivals: Arrivals,
    pub(super) files: InputFiles,
    /// Benchmarks as they were given, and where their embeddings are.
    pub(super) embedded: (Vec<(NamedPath, Stamp)>, Vec<NamedPath>),
    /// What the user wants.
    pub(super) desired: Option<Arc<Desired>>,
    /// What the last epoch was made by.
    pub(super) in_force: Option<Arc<Desired>>,
    /// How the pool is read and embedded.
    pub(super) reading: JudgeConfig,
    pub(super) identity: Option<Identity>,
    pub(super) parts: PartConfig,
    pub(super) decisions_bytes: u64,
    /// Made when the first round needs it; a live trainer brings its own.
    pub(super) judge: Option<Pruner>,
    pub(super) live: Option<Live>,
    /// Benchmarks and rule that the live trainer decides by.
    pub(super) live_inputs: (Vec<Arc<Benchmark>>, Option<String>),
    pub(super) taken_down: TakenDown,
    /// Words of the takedown lists that name a sample here.
    pub(super) named: BTreeSet<String>,
    pub(super) has_trained: bool,
    pub(super) folder: Arc<RunFolder>,
    pub(super) pool: Arc<Pool>,
    pub(super) engine: Engine,
    pub(super) publisher: Publisher,
    /// When shards that no epoch shows yet were seen complete.
    pub(super) complete: BTreeMap<String, Instant>,
    /// Why shards could not be read, and when that was.
    pub(super) failed: BTreeMap<u64, (String, Instant)>,
    /// Shards that are gone, at the last look.
    pub(super) lost: Notices,
    pub(super) said: Vec<String>,
    pub(super) idle_looks: u32,
    pub(super) report: WatchReport,
}

impl<'a> Watch<'a> {
    pub(super) fn start(
        config: &'a WatchConfig,
        together: &'a Together,
        stop: &'a Stop,
        progress: &'a Arc<Progress>,
    ) -> Result<Self, PipelineError> {
        let stores = &config.judge.reading.stores;
        let beside = beside_to_come(&config.sources, stores, &reader_config(&config.judge).group)?;
        make_folder(&config.run).map_err(|error| {
            PipelineError::usage(error).within(format_args!("cannot make {}", config.run.display()))
        })?;
        let is_first = together.rank() == 0;
        let mut arrivals = together.in_turn("arrivals", || Arrivals::follow(&config.run))?;
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
        let judging = RunSetup::prepare(&judge, None, stop.clone())?;
        let mut run_config = judging.run_config();
        together.agree("configuration", &agreed(&run_config, &plan))?;
        let open = || open_folder(&root, &plan, &run_config, together.access(), judge.mix_numerics);
        let folder = together.in_turn("pool", open)?;
        if is_first {
            // Nobody else writes it now: the pool's lock is held.
            arrivals = Arrivals::open(&config.run)?;
        }
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
        let engine = engine.map_err(PipelineError::failed)?;
        // Once asked for it stays, whoever starts the watch again.
        run_config.record[BLUR] = pool.ledger().config()["record"][BLUR].clone();
        let mut publisher = Publisher::new(&config.run, config.keep_epochs, &run_config, base);
        let view = engine.views().latest();
        if is_first && !publisher.recover(view.epoch())? {
            tracing::warn!("epoch {} was not published, or its folder is gone: it is made again", view.epoch());
            let summary = Summary { epoch: view.epoch(), unix_seconds: now(), ..Summary::default() };
            publisher.prepare(&view, &Default::default(), &summary, &pool, &|_, _| None)?;
            publisher.show(view.epoch())?;
        }
        let sources = Sources::new(config.sources.clone(), stores.clone(), config.settle);
        let mut notices = if is_first { beside } else { Notices::default() };
        if is_first {
            notices.merge(&judging.notices);
        }
        let (files, report) = (InputFiles::default(), WatchReport { notices, ..WatchReport::default() });
        let mut this = Self {
            config,
            stop,
            progress,
            together,
            alone: together.by_itself(),
            sources,
            arrivals,
            files,
            embedded: Default::default(),
            desired: None,
            in_force: None,
            reading: judge,
            identity,
            parts,
            decisions_bytes: budget_bytes,
            judge: None,
            live: None,
            live_inputs: (Vec::new(), None),
            taken_down: TakenDown::default(),
            named: BTreeSet::new(),
            has_trained: false,
            folder,
            pool,
            engine,
            publisher,
            complete: BTreeMap::new(),
            failed: BTreeMap::new(),
            lost: Notices::default(),
            said: Vec::new(),
            idle_looks: 0,
            report,
        };
        // Wrong input is said now; later it is a line, and what was right before stays.
        let desired = this.read_inputs()?;
        let inputs = &this.engine.world().inputs;
        let changes: Vec<_> = changes(inputs, &desired).into_iter().map(|change| change.0).collect();
        inputs.after(&changes).map_err(PipelineError::usage)?;
        this.desired = Some(Arc::new(desired));
        this.name_restored()?;
        this.stand();
        Ok(this)
    }

    /// Turn after turn, until it is stopped, or once.
    pub(super) fn follow(&mut self, wake: Option<&Wake>) -> Result<(), PipelineError> {
        loop {
            let stops = self.stop.is_requested() || self.stop.is_winding_down();
            // Whoever is told to stop stops all, at the same turn.
            if self.together.gather(Phase::Turn, stops)?.contains(&true) {
                return Ok(());
            }
            let more = self.turn()?;
            let trains = self.feed(&wake.map_or_else(Waker::unheard, Wake::waker))?;
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

    /// Looks, reads what is new, lets what has changed take effect. Gives whether there is more to do at once.
    pub(super) fn turn(&mut self) -> Result<bool, PipelineError> {
        let is_first = self.together.rank() == 0;
        let mut orders = None;
        if is_first {
            let seen = self.look()?;
            self.take_in(&seen)?;
            // A live trainer reads what has come.
            let wanted = if self.trains() { Vec::new() } else { self.unread() };
            orders = Some((self.arrivals.all().len(), wanted));
        }
        self.hear()?;
        // The first process looks for all.
        let (arrived, wanted) = self.together.gather(Phase::Orders, orders)?.swap_remove(0).unwrap_or_default();
        if self.arrivals.all().len() < arrived {
            self.arrivals = Arrivals::follow(&self.config.run)?;
        }
        if !wanted.is_empty() {
            self.read(&wanted)?;
            if is_first {
                // A shard may have changed under us.
                self.tear()?;
            }
            self.together.wait(Phase::Read)?;
        }
        if self.together.gather(Phase::Stopped, self.stop.is_requested())?.contains(&true) {
            return Ok(false);
        }
        match self.read_inputs() {
            Ok(desired) => self.desired = Some(Arc::new(desired)),
            Err(error) => self.say(&error.with_remedy("what was read before stays in force").line()),
        }
        let more = self.decide()?;
        self.stand();
        Ok(more)
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

    /// Updates the report and the gauges.
    pub(super) fn stand(&mut self) {
        let view = self.engine.views().latest();
        let sizes = view.splits().keys().filter_map(|name| Some((name.clone(), view.sizes(name)?))).collect();
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
    pub(super) fn patience(&self) -> Duration {
        self.config.poll.min(self.config.settle.max(Duration::from_millis(100)))
    }
}

pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
