//! A trainer that lives beside a watch: one endless pass over the shards in the order of their arrival.
//!
//! ```text
//!  arrivals ─▶ growing plan and deal ─▶ decode ─▶ embed ─▶ join ─▶ rule ─▶ order ─▶ trainer
//!                                                   └─▶ pool ─▶ engine (corrections: reported, not undone)
//! ```
//!
//! The first decision on a sample is made where its pixels are, by the benchmarks and the rule of that moment; the pool gets its embedding
//! from the same pass. When benchmarks or the rule change, the trainer is stopped after its running step and goes on from there with the new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use trommel_operators::dataflow::lanes::Lanes;
use trommel_operators::dataflow::order::Cursor;
use trommel_operators::dataflow::stop::Stop;
use trommel_operators::dataflow::wake::{Registration, locked};
use trommel_operators::incremental::view::{SplitDecisions, Views};
use trommel_operators::ledger::manifest::LineStatus;
use trommel_operators::ledger::part::PartConfig;
use trommel_operators::ledger::run_folder::RunFolder;
use trommel_operators::model::ClipConfig;
use trommel_operators::sample::{SampleId, Status};
use trommel_operators::shard::plan::GrowingPlan;
use trommel_operators::shard::reader::Decisions;

use super::arrivals::Arrivals;
use super::wake::Poke;
use crate::config::JudgeConfig;
use crate::error::PipelineError;
use crate::judging::Judging;
use crate::progress::Progress;
use crate::takedown::TakenDown;
use crate::together::Together;
use crate::train::{TrainReport, TrainRun, train_view};
use crate::train_graph::{Ground, Trained, lies_before, train_on};

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
    /// The pool.
    pub(super) pool: Arc<RunFolder>,
    /// What it has.
    pub(super) judged: Vec<u64>,
    /// What its parts look like.
    pub(super) parts: PartConfig,
    /// Memory that decisions may take.
    pub(super) decisions_bytes: u64,
    /// What nobody may train on.
    pub(super) taken_down: TakenDown,
}

/// A running trainer.
pub(super) struct Live {
    stop: Stop,
    thread: JoinHandle<Result<TrainReport, PipelineError>>,
    deal: Arc<Lanes>,
    plan: GrowingPlan,
    trained: Trained,
    news: Arc<Mutex<News>>,
    _with_the_watch: [Registration; 2],
}

/// What a live trainer has read since it was asked last.
#[derive(Default)]
pub(super) struct News {
    /// Whether shards were committed to the pool.
    pub(super) has_committed: bool,
    /// Shards whose bytes could not be had, and why.
    pub(super) failed: BTreeMap<u64, String>,
}

/// The newest epoch's decisions on what the pool has.
struct Newest {
    views: Views,
    split: String,
}

impl Decisions for Newest {
    fn shard(&self, ordinal: u64) -> Result<Option<Arc<Vec<Status>>>, String> {
        SplitDecisions::new(self.views.latest(), &self.split).map_or(Ok(None), |decisions| decisions.shard(ordinal))
    }
}

impl Live {
    /// Starts it over what has arrived; `read` says which ordinals are to be read, all others are holes.
    pub(super) fn start(
        setting: Setting,
        arrivals: &Arrivals,
        read: &BTreeSet<u64>,
        together: Together,
        (watch, progress): (&Stop, &Arc<Progress>),
        poke: Poke,
    ) -> Result<Self, PipelineError> {
        let Setting { run, judge, split, views, pool, judged, parts, decisions_bytes, taken_down } = setting;
        for folder in ["logs", "checkpoints"] {
            let folder: PathBuf = judge.run.join(folder);
            std::fs::create_dir_all(&folder).map_err(PipelineError::at(&folder))?;
        }
        let stop = Stop::new();
        let (ends, winds) = (stop.clone(), stop.clone());
        // A signal ends it after the running step, with a checkpoint.
        let with_the_watch = [watch.on_request(move || ends.request()), watch.on_wind_down(move || winds.request())];
        let plan = GrowingPlan::new(arrivals.plan());
        let deal = Arc::new(Lanes::growing(run.order.lanes));
        let cursor = last_cursor(&judge.run);
        leave_out(&deal, arrivals, read, cursor.as_ref());
        deal.grow(arrivals.all().len() as u64);
        let model = ClipConfig::load(&run.model).map_err(PipelineError::usage)?;
        let mut judging = Judging::prepare(&judge, Some(train_view(&run, &model)), stop.clone())?;
        judging.memory.take("decisions", decisions_bytes);
        let (named, unknown): (GrowingPlan, Arc<str>) = (plan.clone(), Arc::from(""));
        judging.names = Arc::new(move |ordinal| {
            named.shard(ordinal).map_or_else(|| unknown.clone(), |shard| Arc::from(shard.name.as_str()))
        });
        let trained = Trained::default();
        let news: Arc<Mutex<News>> = Arc::default();
        let (poked, noted) = (poke.clone(), news.clone());
        let ground = Ground {
            reader: judging.growing_reader(plan.clone(), Arc::new(Newest { views, split })),
            deal: deal.clone(),
            passes: Some(1),
            shards: arrivals.all().len(),
            judged,
            folder: pool,
            parts,
            pool: Some(taken_down),
            on_committed: Box::new(move |shard| {
                let mut news = locked(&noted);
                if shard.status == LineStatus::Failed {
                    news.failed.insert(shard.ordinal, shard.remark.clone().unwrap_or_default());
                } else {
                    news.has_committed = true;
                }
                drop(news);
                poked.poke();
            }),
            trained: trained.clone(),
        };
        let (ended, progress) = (stop.clone(), progress.clone());
        let thread = std::thread::Builder::new().name("live trainer".into()).spawn(move || {
            let result = train_on(&run, &judge, judging, model, ground, &together, &ended, &progress);
            poke.poke();
            result
        });
        let thread = thread.map_err(PipelineError::failed)?;
        Ok(Self { stop, thread, deal, plan, trained, news, _with_the_watch: with_the_watch })
    }

    /// Takes in what has arrived since, and what is not to be read any more.
    pub(super) fn follow(&self, arrivals: &Arrivals, read: &BTreeSet<u64>) {
        let known = self.plan.snapshot().len();
        let (all, cursor) = (arrivals.plan(), self.cursor());
        leave_out(&self.deal, arrivals, read, cursor.as_ref());
        self.plan.extend(all.shards.iter().skip(known).cloned());
        self.deal.grow(all.len() as u64);
    }

    /// What it has read since it was asked last.
    pub(super) fn news(&self) -> News {
        std::mem::take(&mut *locked(&self.news))
    }

    /// Where it stands.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.trained.cursor()
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
        ended.map_err(|_| PipelineError::Failed("the live trainer's thread panicked".into()))?
    }
}

/// Makes holes of what is not to be read. What is begun ends as it began; a hole is for what is still to come.
fn leave_out(deal: &Lanes, arrivals: &Arrivals, read: &BTreeSet<u64>, cursor: Option<&Cursor>) {
    for arrival in arrivals.all().iter().filter(|arrival| !read.contains(&arrival.ordinal)) {
        let first = SampleId { ordinal: arrival.ordinal, index: 0 };
        if !cursor.is_some_and(|cursor| lies_before(cursor, first)) {
            deal.hole(arrival.ordinal);
        }
    }
}

/// Where the trainer of a folder stood at its newest checkpoint.
pub(super) fn last_cursor(folder: &Path) -> Option<Cursor> {
    let saved = std::fs::read_dir(folder.join("checkpoints")).ok()?.flatten().map(|entry| entry.path());
    let newest = saved.filter(|path| path.join("state.json").is_file()).max()?;
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(newest.join("state.json")).ok()?).ok()?;
    serde_json::from_value(state.pointer("/position/cursor")?.clone()).ok()
}

/// Where its checkpoints and logs go.
pub(super) fn folder(run: &Path) -> PathBuf {
    run.join("train")
}
