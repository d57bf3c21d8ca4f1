//! A trainer that lives beside a watch: one endless pass over the shards in the order of their arrival.
//!
//! ```text
//!  arrivals ─▶ growing plan and deal ─▶ decode ─▶ embed ─▶ join ─▶ rule ─▶ order ─▶ trainer
//!                                                   └─▶ pool ─▶ engine (corrections: reported, not undone)
//! ```
//!
//! The first decision on a sample is made where its pixels are, by the benchmarks and the rule of that moment; the pool gets its embedding
//! from the same pass. When benchmarks or the rule change, the trainer is stopped after its running step and goes on from there with the new ones.
//!
//! Several processes train one model: each reads its own lanes, and all orders know the same deal. So they are told at the same turn what
//! has come, readers begin with it when all orders know it, and a shard that goes before its turn came starts the trainer anew: told to one
//! order sooner than to another, it would part them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use timely::dataflow::operators::Inspect;
use trommel_cluster::Message;
use trommel_core::durable::make_folder;
use trommel_core::notices::Notices;
use trommel_core::sample::Status;
use trommel_core::stop::Stop;
use trommel_core::wake::{Registration, locked};
use trommel_dataflow::lanes::Lanes;
use trommel_dataflow::order::Cursor;
use trommel_embed::device;
use trommel_incremental::planner::{Arrived, Feed};
use trommel_incremental::view::{SplitDecisions, Views};
use trommel_ledger::decisions::FolderDecisions;
use trommel_ledger::manifest::LineStatus;
use trommel_ledger::part::PartConfig;
use trommel_ledger::run_folder::{LOGS, RunFolder};
use trommel_model::Architecture;
use trommel_shard::plan::GrowingPlan;
use trommel_shard::reader::{Decisions, KnownError};
use trommel_train::checkpoint::standing;

use super::wake::Waker;
use crate::order_defaults::LIVE_LANES;
use crate::run_setup::RunSetup;
use crate::settled::{Settled, has_trained, steps};
use crate::takedown::TakenDown;
use crate::together::Together;
use crate::train::{TrainReport, TrainRun, train_view, trained_model};
use crate::train_dataflows::pool_and_train;
use crate::train_on::{TrainInputs, check_order, train_on};
use crate::train_run::Setting as Training;
use crate::trainer_memory::{Beside, TrainerMemory};
use crate::trainer_reach::Trained;
use crate::trainer_setup::{initial_model, size_of};
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::phase::Phase;
use trommel_pipelines::progress::Progress;
use trommel_pipelines::training_folder::{CHECKPOINTS, STATE_FILE};

/// What a live trainer is started with.
pub(super) struct Setting {
    /// Model, recipe, length; its judging part is not used.
    pub(super) run: TrainRun,
    /// Benchmarks, rule, embedder, and the folder of checkpoints and logs.
    pub(super) judge: JudgeConfig,
    /// The split whose decisions hold for shards that the pool has.
    pub(super) split: String,
    /// Where they are.
    pub(super) views: Views,
    /// Folder of the pool, with its ledger.
    pub(super) pool: Arc<RunFolder>,
    /// Ordinals of the shards that the pool has judged.
    pub(super) judged: Vec<u64>,
    /// What its parts look like.
    pub(super) parts: PartConfig,
    /// Memory that decisions may take.
    pub(super) decisions_bytes: u64,
    /// What nobody may train on.
    pub(super) taken_down: TakenDown,
}

/// What judges beside a trainer, with room and views for it, and its model.
fn prepare(
    run: &TrainRun,
    judge: &JudgeConfig,
    decisions_bytes: u64,
    (ranks, stop): (usize, &Stop),
) -> Result<(RunSetup, Arc<dyn Architecture>), PipelineError> {
    let model = trained_model(run)?;
    let view = train_view(run, model.preprocess());
    let trainer = Beside { view, memory: TrainerMemory::of(&model.sizes(), &run.recipe, ranks) };
    let mut judging = RunSetup::prepare(judge, Some(trainer), stop.clone())?;
    judging.memory.take("decisions", decisions_bytes);
    Ok((judging, model))
}

/// How a watch reads and judges its pool, with a trainer to live beside it. What a trainer cannot be begun with is refused now, and not when the
/// first shards are judged.
///
/// # Errors
/// A model that is not known, weights that are not its own, a recipe that contradicts itself, an order that a new trainer cannot have, a budget
/// without room for all.
pub(super) fn prepare_beside(
    run: &TrainRun,
    judge: &JudgeConfig,
    (folder, decisions_bytes): (&Path, u64),
    (together, stop): (&Together, &Stop),
) -> Result<RunSetup, PipelineError> {
    let (judging, model) = prepare(run, judge, decisions_bytes, (together.ranks(), stop))?;
    if run.pretrained.is_some() {
        let device = device::parse(&judge.machine.device).map_err(PipelineError::usage)?;
        initial_model(run, &model, device)?;
    }
    if !has_trained(folder)? {
        let order = run.order.settle(&size_of(run, &judging, LIVE_LANES));
        check_order(run, &judging, &order, together.lanes(order.lanes).len())?;
    }
    Ok(judging)
}

/// A running trainer.
pub(super) struct Live {
    stop: Stop,
    thread: JoinHandle<Result<TrainReport, PipelineError>>,
    /// As the order knows it, and as readers do.
    deals: [Arc<Lanes>; 2],
    plan: GrowingPlan,
    /// Where it began.
    start: Option<Cursor>,
    several: bool,
    trained: Trained,
    news: Arc<Mutex<News>>,
    _with_the_watch: [Registration; 2],
}

/// What a live trainer has read since it was asked last.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct News {
    /// Whether shards were committed to the pool.
    pub(super) has_committed: bool,
    /// Shards whose bytes could not be had, and why.
    pub(super) failed: BTreeMap<u64, String>,
    /// What was lost of shards, or passed over in them.
    pub(super) notices: Notices,
}

/// The newest epoch's decisions on what the pool has.
struct Newest {
    views: Views,
    split: String,
    /// Knows the keys and the captions.
    pool: FolderDecisions,
}

impl Decisions for Newest {
    fn shard(&self, ordinal: u64) -> Result<Option<Arc<Vec<Status>>>, KnownError> {
        SplitDecisions::new(self.views.latest(), &self.split).map_or(Ok(None), |decisions| decisions.shard(ordinal))
    }

    fn keys(&self, ordinal: u64) -> Result<Option<Vec<u64>>, KnownError> {
        self.pool.keys(ordinal)
    }

    fn captionless(&self, ordinal: u64) -> Result<Option<Vec<u32>>, KnownError> {
        self.pool.captionless(ordinal)
    }
}

impl Live {
    /// Starts it over what has arrived, in all of the watch's processes at the same turn.
    pub(super) fn start(
        setting: Setting,
        (arrived, feed): (&Arrived, &Feed),
        watch_together: &Together,
        (watch, progress): (&Stop, &Arc<Progress>),
        waker: Waker,
    ) -> Result<Self, PipelineError> {
        let Setting { run, judge, split, views, pool, judged, parts, decisions_bytes, taken_down } = setting;
        for folder in [LOGS, CHECKPOINTS] {
            let folder: PathBuf = judge.run.join(folder);
            make_folder(&folder).map_err(PipelineError::at(&folder))?;
        }
        let stop = Stop::new();
        let (ends, winds) = (stop.clone(), stop.clone());
        // A signal ends it after the running step, with a checkpoint.
        let with_the_watch = [watch.on_request(move || ends.request()), watch.on_wind_down(move || winds.request())];
        let together = watch_together.beside("live trainer", Phase::TrainerPort, judge.machine.workers, &stop)?;
        let several = together.ranks() > 1;
        let plan = GrowingPlan::new(arrived.plan());
        let start = last_cursor(&judge.run);
        let (mut judging, model) = prepare(&run, &judge, decisions_bytes, (together.ranks(), &stop))?;
        // The last shards wait for as many more as there are lanes: few, whatever is still to come.
        let size = size_of(&run, &judging, LIVE_LANES);
        let settled = together.first_says(|| Settled::find(&run, &judge.run, &size, None, || None, || Ok(None)))?;
        let lanes = settled.order.lanes;
        let deal = Arc::new(Lanes::growing(lanes));
        let deals = [deal.clone(), if several { Arc::new(Lanes::growing(lanes)) } else { deal }];
        deals.iter().for_each(|deal| grow(deal, feed));
        let (named, unknown): (GrowingPlan, Arc<str>) = (plan.clone(), Arc::from(""));
        judging.names = Arc::new(move |ordinal| {
            named.shard(ordinal).map_or_else(|| unknown.clone(), |shard| Arc::from(shard.name.as_str()))
        });
        let trained = Trained::default();
        let news: Arc<Mutex<News>> = Arc::default();
        let (on_decided, noted) = (waker.clone(), news.clone());
        if let Some(cluster) = together.cluster() {
            let waker = waker.clone();
            cluster.control().on_message(move |_, message| {
                if matches!(message, Message::Committed { .. }) {
                    waker.wake();
                }
                false // it is for the leases
            });
        }
        let train_inputs = TrainInputs {
            reader: judging.growing_reader(
                plan.clone(),
                Arc::new(Newest { views, split, pool: FolderDecisions::new(pool.root()) }),
            ),
            deal: deals[0].clone(),
            leased: deals[1].clone(),
            passes: Some(1),
            settled,
            course: steps(&run, None)?,
            judged,
            folder: pool,
            parts,
            trained: trained.clone(),
        };
        let (ended, progress) = (stop.clone(), progress.clone());
        let thread = std::thread::Builder::new().name("live trainer".into()).spawn(move || {
            let (run, config, stop, progress) = (&run, &judge, &ended, &progress);
            let training = Training { run, config, model, together: &together, stop, progress };
            let result = train_on(&training, judging, train_inputs, move |scope, parts, lanes| {
                let (on_decided, noted) = (on_decided.clone(), noted.clone());
                pool_and_train(scope, parts, lanes, &taken_down).inspect(move |shard| {
                    let mut news = locked(&noted);
                    if shard.status == LineStatus::Failed {
                        news.failed.insert(shard.ordinal, shard.remark.clone().unwrap_or_default());
                    } else {
                        news.has_committed = true;
                        news.notices.merge(&shard.notices);
                    }
                    drop(news);
                    on_decided.wake();
                })
            });
            let result = together.end(result);
            waker.wake();
            result
        });
        let thread = thread.map_err(PipelineError::failed)?;
        Ok(Self { stop, thread, deals, plan, start, several, trained, news, _with_the_watch: with_the_watch })
    }

    /// Whether it can go on with what there is now, or has to be started anew.
    pub(super) fn can_follow(&self, feed: &Feed) -> bool {
        let known = self.deals[0].shards() as u64;
        !self.several || feed.holes.iter().all(|&hole| hole >= known || self.deals[0].is_hole(hole))
    }

    /// Takes in what has arrived since, and what is not to be read any more. `wait` is for all processes.
    pub(super) fn follow(
        &self,
        arrived: &Arrived,
        feed: &Feed,
        wait: impl FnOnce() -> Result<(), PipelineError>,
    ) -> Result<(), PipelineError> {
        let grows = feed.shards > self.deals[0].shards() as u64;
        let known = self.plan.snapshot().len();
        self.plan.extend(arrived.plan().shards.iter().skip(known).cloned());
        grow(&self.deals[0], feed);
        if self.several && grows {
            wait()?;
            grow(&self.deals[1], feed);
        }
        Ok(())
    }

    /// What it has read since it was asked last.
    pub(super) fn news(&self) -> News {
        std::mem::take(&mut *locked(&self.news))
    }

    /// Where it stands.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.trained.cursor().or_else(|| self.start.clone())
    }

    /// Whether all that has come is trained on, as far as it fills batches.
    pub(super) fn is_idle(&self) -> bool {
        self.trained.is_idle()
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it, after the running step and with a checkpoint.
    pub(super) fn end(self) -> Result<TrainReport, PipelineError> {
        self.stop.request();
        let ended = self.thread.join();
        ended.map_err(|_| PipelineError::failed("the live trainer's thread panicked"))?
    }
}

/// Holes first: nobody begins one.
fn grow(deal: &Lanes, feed: &Feed) {
    feed.holes.iter().for_each(|&hole| _ = deal.hole(hole));
    deal.grow(feed.shards);
}

/// Where the trainer of a folder stood at its newest checkpoint.
pub(super) fn last_cursor(folder: &Path) -> Option<Cursor> {
    let mut saved = standing(&folder.join(CHECKPOINTS)).ok()?.into_iter().map(|(_, path)| path.join(STATE_FILE));
    let state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(saved.find(|path| path.is_file())?).ok()?).ok()?;
    serde_json::from_value(state.pointer("/position/cursor")?.clone()).ok()
}

/// Where its checkpoints and logs go.
pub(super) fn folder(run: &Path) -> PathBuf {
    run.join("train")
}
