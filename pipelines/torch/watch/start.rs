//! What a watch holds, and how it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use trommel_core::notices::Notices;
use trommel_core::out_folder::OutFolder;
use trommel_core::sample::Identity;
use trommel_core::stop::Stop;
use trommel_decide::benchmark::Benchmark;
use trommel_incremental::engine::{Engine, IncrementalConfig};
use trommel_incremental::planner::{Failure, Feed, Manner, NamedBenchmark};
use trommel_ledger::part::PartConfig;
use trommel_ledger::run_folder::{BLUR, RunFolder};
use trommel_ledger::storage::{Disk, Storage};
use trommel_pipelines::ledger_run::agreed;
use trommel_shard::plan::Plan;

use super::arrivals::Arrivals;
use super::changes::Summary;
use super::inputs::{InputFiles, Loaded, Wanted, accepted};
use super::live::{self, Live};
use super::pool::Pool;
use super::publish::Publisher;
use super::sources::{self, Sources};
use super::wake::Wake;
use super::{LiveTraining, WatchConfig, WatchReport};
use crate::prune_round::Pruner;
use crate::run_setup::{RunSetup, reader_config};
use crate::run_watch::open_folder;
use crate::takedown::TakenDown;
use crate::together::Together;
use trommel_pipelines::benchmarks::NamedPath;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::phase::Phase;
use trommel_pipelines::progress::Progress;
use trommel_pipelines::stray_files::beside_to_come;
use trommel_pipelines::watch_folder::{EPOCHS, POOL};

/// Part of the memory that arrangements and the facts of an epoch may take.
const DECISIONS_SHARE: u64 = 4;

/// A watch at work.
pub(super) struct Watch<'a> {
    pub(super) config: &'a WatchConfig,
    pub(super) manner: Manner,
    pub(super) stop: &'a Stop,
    pub(super) progress: &'a Arc<Progress>,
    pub(super) together: &'a Together,
    /// This process's rounds need no others.
    pub(super) alone: Together,
    pub(super) sources: Sources,
    pub(super) arrivals: Arrivals,
    pub(super) files: InputFiles,
    /// What the command line and its file said when they were read last.
    pub(super) wanted: Option<Wanted>,
    /// Benchmarks as they were given, and where their embeddings are.
    pub(super) embedded: (Vec<NamedBenchmark>, Vec<NamedPath>),
    /// What the user wants.
    pub(super) desired: Option<Arc<Loaded>>,
    /// What the last epoch was made by.
    pub(super) in_force: Option<Arc<Loaded>>,
    /// How the pool is read and embedded.
    pub(super) reading: JudgeConfig,
    pub(super) identity: Option<Identity>,
    pub(super) parts: PartConfig,
    pub(super) decisions_bytes: u64,
    /// Made when the first round needs it; a live trainer brings its own.
    pub(super) pruner: Option<Pruner>,
    pub(super) live: Option<Live>,
    /// Benchmarks and rule that the live trainer decides by.
    pub(super) live_inputs: (Vec<Arc<Benchmark>>, Option<String>),
    /// What the live trainer is to be fed, in the process that looks.
    pub(super) feed: Option<Feed>,
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
    /// Shards that could not be read.
    pub(super) failed: BTreeMap<u64, Failure>,
    /// Shards that are gone, at the last look.
    pub(super) lost: Notices,
    pub(super) said: Vec<String>,
    pub(super) idle_looks: u32,
    /// Whether this turn left something for another epoch.
    pub(super) is_more: bool,
    /// Whether the live trainer has something to do after this turn.
    pub(super) lingers: bool,
    pub(super) has_ended: bool,
    /// In the process that looks.
    pub(super) wake: Option<Wake>,
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
        sources::check(&config.sources, stores)?;
        let beside = beside_to_come(&config.sources, stores, &reader_config(&config.judge).group)?;
        let _made = OutFolder::make(&config.run).map_err(|error| {
            PipelineError::usage(error).within(format_args!("cannot make {}", config.run.display()))
        })?;
        let is_first = together.rank() == 0;
        let mut arrivals = together.in_turn(Phase::Arrivals, || Arrivals::follow(&config.run))?;
        let plan = arrivals.list().plan();
        let root = config.run.join(POOL);
        let judge = of_pool(&config.judge, &plan, &root);
        let budget_bytes = judge.machine.memory_bytes / DECISIONS_SHARE;
        let judging = match &config.train {
            None => prepare_alone(&judge, budget_bytes, stop)?,
            Some(LiveTraining { run, .. }) => {
                let (folder, with) = (live::folder(&config.run), (together, stop));
                live::prepare_beside(run, &judge, (&folder, budget_bytes), with)
                    .map_err(|error| error.within("--train"))?
            }
        };
        let identity = judging.embedder.as_ref().map(|embedder| embedder.identity.clone());
        let mut files = InputFiles::new(config.settle);
        if !root.exists() {
            files.check((config.wanted)()?, identity.as_ref(), judge.embedder.assume_model.as_deref())?;
        }
        let mut run_config = judging.run_config();
        together.agree(Phase::Configuration, &agreed(&run_config, &plan))?;
        let open = || open_folder(&root, &plan, &run_config, together.access(), judge.mix_numerics);
        let folder = together.in_turn(Phase::Pool, open)?;
        if is_first {
            // Nobody else writes it now: the pool's lock is held.
            arrivals = Arrivals::open(&config.run)?;
        }
        let (base, parts) = (judging.decision.clone(), judging.part_config());
        let pool = Arc::new(Pool::open(&root)?);
        let engine = open_engine(config, together, &pool, budget_bytes)?;
        // Once asked for it stays, whoever starts the watch again.
        run_config.record[BLUR] = pool.ledger().config()["record"][BLUR].clone();
        let mut publisher = Publisher::new(&config.run, config.keep_epochs, &run_config, base);
        if is_first {
            show_latest(&mut publisher, &engine, &pool)?;
        }
        let sources = Sources::new(config.sources.clone(), stores.clone(), config.settle);
        let mut notices = if is_first { beside } else { Notices::default() };
        if is_first {
            notices.merge(&judging.notices);
        }
        let report = WatchReport { notices, ..WatchReport::default() };
        let manner = Manner {
            once: config.once,
            withdraws_missing: config.withdraw_missing,
            settle: config.settle,
            poll: config.poll,
        };
        let mut this = Self {
            config,
            manner,
            stop,
            progress,
            together,
            alone: together.by_itself(),
            sources,
            arrivals,
            files,
            wanted: None,
            embedded: Default::default(),
            desired: None,
            in_force: None,
            reading: judge,
            identity,
            parts,
            decisions_bytes: budget_bytes,
            pruner: None,
            live: None,
            live_inputs: (Vec::new(), None),
            feed: None,
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
            is_more: false,
            lingers: false,
            has_ended: false,
            wake: None,
            report,
        };
        this.desired = Some(Arc::new(this.first_inputs()?));
        this.name_restored()?;
        this.stand();
        if is_first {
            let takedowns = this.wanted.iter().flat_map(|wanted| wanted.takedowns.clone());
            let places = this.sources.places().into_iter().chain(config.wanted_file.clone()).chain(takedowns);
            this.wake = Some(Wake::new(places, config.poll, stop));
        }
        Ok(this)
    }

    /// Wrong input is said now; later it is a line, and what was right before stays.
    fn first_inputs(&mut self) -> Result<Loaded, PipelineError> {
        let loaded = self.read_inputs()?;
        accepted(&self.engine.world().inputs, &loaded.desired)?;
        Ok(loaded)
    }
}

/// What the pool is judged with where no trainer lives beside it. A budget without room for it is refused when the watch starts, and not when the first
/// shards have come.
///
/// # Errors
/// A model that cannot be loaded, a budget without room for it.
pub(super) fn prepare_alone(judge: &JudgeConfig, decisions_bytes: u64, stop: &Stop) -> Result<RunSetup, PipelineError> {
    let mut judging = RunSetup::prepare(judge, None, stop.clone())?;
    judging.memory.take("decisions", decisions_bytes);
    judging.check_memory(judging.machine().readers(usize::MAX))?;
    Ok(judging)
}

/// How the pool is judged: read and embedded, and decided by nothing.
fn of_pool(judge: &JudgeConfig, plan: &Arc<Plan>, root: &Path) -> JudgeConfig {
    JudgeConfig {
        shards: Vec::new(),
        plan: Some(plan.clone()),
        run: root.into(),
        benchmarks: Vec::new(),
        rule: None,
        keep_embeddings: true,
        always_embed: true,
        cluster: None,
        ..judge.clone()
    }
}

/// The engine of the epochs, over all processes.
fn open_engine(
    config: &WatchConfig,
    together: &Together,
    pool: &Arc<Pool>,
    budget_bytes: u64,
) -> Result<Engine, PipelineError> {
    let settings =
        IncrementalConfig { workers: config.judge.machine.workers, budget_bytes, ..IncrementalConfig::default() };
    let state = config.run.join(EPOCHS);
    let place: (&Path, Arc<dyn Storage>) = (&state, Arc::new(Disk));
    let engine = match together.cluster() {
        None => Engine::open(settings, pool.clone(), place.0, place.1),
        Some(cluster) => {
            let allocators = cluster.timely(settings.workers).map_err(PipelineError::failed)?;
            Engine::open_across(settings, pool.clone(), place, Arc::new(cluster.control().clone()), allocators)
        }
    };
    engine.map_err(PipelineError::failed)
}

/// Shows the last epoch, where it was not published before.
fn show_latest(publisher: &mut Publisher, engine: &Engine, pool: &Pool) -> Result<(), PipelineError> {
    let view = engine.views().latest();
    if publisher.recover(view.epoch())? {
        return Ok(());
    }
    tracing::warn!("epoch {} was not published, or its folder is gone: it is made again", view.epoch());
    let summary = Summary { epoch: view.epoch(), unix_seconds: now(), ..Summary::default() };
    publisher.prepare(&view, &Default::default(), &summary, pool, &|_, _| None)?;
    publisher.show(view.epoch())
}

pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
