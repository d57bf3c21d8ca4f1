//! Training, whatever gives its shards: a plan, or the pool of a watch that grows while it is used. What both need stands here; their graphs stand in
//! `train_dataflows.rs`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use timely::dataflow::{Scope, StreamVec};
use trommel_core::credit::Credit;
use trommel_core::notices::Notices;
use trommel_core::sample::Time;
use trommel_dataflow::lanes::Lanes;
use trommel_dataflow::leases::LaneLeases;
use trommel_dataflow::order::{GivenUp, OrderConfig, OrderService};
use trommel_dataflow::redeem::Redeem;
use trommel_dataflow::source::Leases;
use trommel_decide::known_maxima::KnownMaxima;
use trommel_ledger::committer::{CommitSummary, Committed};
use trommel_ledger::first_samples::{First, Order};
use trommel_ledger::manifest::Counts;
use trommel_ledger::operator::LedgerConfig;
use trommel_ledger::part::PartConfig;
use trommel_ledger::read::Ledger;
use trommel_ledger::run_folder::RunFolder;
use trommel_pipelines::ledger_run::{Counting, share, start_committer};
use trommel_train::Course;
use trommel_train::share::Outbox;
use trommel_train::to_order::TrainOrder;

use crate::ranks::{RankLeases, samples};
use crate::run_setup::{Reader, RunSetup};
use crate::run_watch::watch_run;
use crate::settled::Settled;
use crate::together::Together;
use crate::train_dataflows::Parts;
use crate::train_report::{Ended, TrainReport};
use crate::train_run::{Setting, TrainRun};
use crate::trainer_reach::Trained;
use crate::trainer_setup::{prepare, window_most};
use crate::trainer_thread::{self, Batches};
use trommel_pipelines::cores::Threading;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::gauges::{Gauges, key};
use trommel_pipelines::irregular_turns::IrregularTurns;
use trommel_pipelines::phase::Phase;

/// Where the shards of a training run come from, and where their fates go.
pub(crate) struct TrainInputs {
    /// Reads them, and replays what is decided.
    pub(crate) reader: Reader,
    /// Deals them to lanes: what the order waits for.
    pub(crate) deal: Arc<Lanes>,
    /// The same deal as readers see it. One that grows over several processes grows here when all orders know.
    pub(crate) leased: Arc<Lanes>,
    /// Passes over them; `None`: until enough is trained.
    pub(crate) passes: Option<u32>,
    /// Its order, and what else the first start settles.
    pub(crate) settled: Settled,
    /// Along what the learning rate runs.
    pub(crate) course: Course,
    /// Those that the ledger has.
    pub(crate) judged: Vec<u64>,
    /// The folder of their ledger.
    pub(crate) folder: Arc<RunFolder>,
    /// What its parts look like.
    pub(crate) parts: PartConfig,
    /// Hears how far training has come.
    pub(crate) trained: Trained,
}

/// Trains until the run's length is reached, or it is stopped; `graph` is built on every worker, over its share of the lanes, and gives the
/// shards that are durable, whose leases end here.
pub(crate) fn train_on(
    setting: &Setting<'_>,
    mut judging: RunSetup,
    inputs: TrainInputs,
    graph: impl for<'a> Fn(Scope<'a, Time>, &Parts, Range<usize>) -> StreamVec<'a, Time, Committed> + Send + Sync + 'static,
) -> Result<TrainReport, PipelineError> {
    let &Setting { run, config, together, stop, progress, .. } = setting;
    let (rank, ranks) = (together.rank(), together.ranks());
    let TrainInputs { reader, deal, leased, passes, settled, course, judged, folder, parts, trained } = inputs;
    let mut prepared = prepare(setting, &folder, (&settled.order, course))?;
    let (cursor, mut notices) = (prepared.cursor.take(), std::mem::take(&mut prepared.notices));
    trained.begin(cursor.clone());
    notices.merge(&judging.notices);

    let (lanes, mine) = (settled.order.lanes, together.lanes(settled.order.lanes));
    let credit = credit(setting, &mut judging, &settled, mine.clone(), prepared.found.is_none())?;
    if rank == 0 {
        settled.keep(&config.run, folder.incarnation())?;
        if lanes < ranks {
            let without = ranks - lanes;
            tracing::info!("{without} of {ranks} processes have no lane to read: they train on what the others read");
        }
    }
    let machinery = judging.start(&credit)?;
    let (grows, shards) = (deal.grows(), deal.shards() as u64);
    // What is judged already was found sound by it.
    let beginning = if judged.is_empty() && cursor.is_none() && !grows { as_read(&deal, lanes) } else { Order::none() };
    let own = LaneLeases::new(leased, passes, cursor.as_ref(), judged).only(&mine);
    let leases: Arc<dyn Leases> = Arc::new(RankLeases::new(together, own));
    let service = OrderService::new(&settled.order, deal, passes, cursor.as_ref(), credit.clone(), stop.clone())
        .map_err(PipelineError::usage)?;
    let _watching = watch_run(&credit, &machinery, |watchdog| watchdog.watch_order(&service))?;
    trained.follow(&service);
    let order = TrainOrder::new(service, rank, run.skip_failed, settled.order.window_counts, stop);
    config.gauges.watch_order(order.service());
    let waited = watch_waiting(&config.gauges);
    // A growing deal's order follows arrivals, which nobody can work out afterwards.
    let irregular = (rank == 0 && !grows).then(|| IrregularTurns::begin(&config.run, cursor.as_ref())).transpose()?;
    let outbox = Outbox::new(stop);
    let samples = samples(together, &outbox)?;
    let first = First::new(beginning, &config.reading.image_key, stop);
    let committer = start_committer(&folder, parts, &first, stop)?;
    let ending = stop.clone();
    let _winding = together.wind_down_with(stop, move || ending.request());

    let rank = (rank, ranks);
    let (names, split) = (judging.names.clone(), judging.split.clone());
    let named = names.clone();
    let batches = Batches {
        order: order.clone(),
        grows,
        rank,
        outbox,
        samples,
        irregular,
        trained,
        names: named.clone(),
        waited,
    };
    let trainer = trainer_thread::start(setting, prepared, batches)?;
    let (workers, spent) = (config.machine.workers, machinery.clone());
    let known = Arc::new(KnownMaxima::new(&judging.benchmarks));
    let parts = Parts {
        judging: Arc::new(judging),
        machinery,
        leases,
        reader,
        credit,
        order: order.clone(),
        counting: Counting::new(progress),
        known,
        first,
        committer: committer.handle().map_err(PipelineError::failed)?,
        ledger: LedgerConfig { name_of: Arc::new(move |ordinal| named(ordinal).to_string()), stop: stop.clone() },
        workers,
        stop: stop.clone(),
    };
    progress.begin();
    let executed = together.execute(workers, stop, move |worker, _| {
        let mine = share(worker.index(), worker.peers(), lanes);
        worker.dataflow::<Time, _, _>(|scope| {
            let durable = graph(scope, &parts, mine);
            parts.counting.durable(durable, &parts.known).redeem(&parts.leases);
        });
    });
    // It ends in any case: a dataflow that failed has requested the stop.
    let outcome = trainer.join().map_err(|_| PipelineError::failed("the trainer's thread panicked"))?;
    executed?;
    let written = committer.finish().map_err(PipelineError::failed)?;
    if let Some(failure) = stop.failure() {
        return Err(failure.into());
    }
    let done = outcome.map_err(PipelineError::failed)?;
    let counts = written_by_all(together, &folder, written, &mut notices)?;
    if let Some(GivenUp { ordinal, count, .. }) = order.service().torn() {
        let text = "the window that is half trained holds samples of this shard that cannot be had now, from sample";
        let error = PipelineError::unfinished(format!("{text} {count} on")).within(names(ordinal));
        return Err(error.with_remedy("bring the shard back"));
    }
    if let (Some(split), 0) = (&split, together.rank()) {
        notices.merge(&split.never_met(&Ledger::open(&config.run).map_err(PipelineError::failed)?)?);
    }
    let (done, order, names) = (&done, &order, &names);
    let (counts, machinery, cores) = (&counts, &spent, Threading::of(&config.machine));
    Ok(Ended { shards, done, order, settled, course, counts, notices, names, cores, machinery, progress }.report())
}

/// All shards in the order in which lanes are read.
fn as_read(deal: &Lanes, lanes: usize) -> Order {
    let dealt = |at: usize| deal.ordinal(0, at % lanes, (at / lanes) as u64);
    Order { shards: (0..deal.shards()).filter_map(dealt).collect(), whole: true }
}

/// Microseconds that the trainer has waited for batches, where a gauge shows them.
fn watch_waiting(gauges: &Gauges) -> Arc<AtomicU64> {
    let waited: Arc<AtomicU64> = Arc::default();
    let waits = waited.clone();
    gauges.watch("train", move |values| {
        let seconds = waits.load(Ordering::Relaxed) as f64 / 1e6;
        values.insert(key("trommel_stage_waiting_seconds_total", &[("stage", "train")]), seconds);
    });
    waited
}

/// Counts of the whole ledger, with what all processes have written of it; what they noticed is added to `notices`.
fn written_by_all(
    together: &Together,
    folder: &RunFolder,
    written: CommitSummary,
    notices: &mut Notices,
) -> Result<Counts, PipelineError> {
    let mut counts = folder.before().counts();
    let mut again = BTreeSet::new();
    let written = (written.counts, written.notices, written.again);
    for (counted, noticed, mut tried) in together.gather(Phase::Finished, written)? {
        counts.add(&counted);
        notices.merge(&noticed);
        again.append(&mut tried);
    }
    notices.merge(&folder.before().notices(&again));
    Ok(counts)
}

/// Refuses an order that a new run cannot have, or for whose `lanes` of this process the budget has no room: before a folder is begun.
pub(crate) fn check_order(
    run: &TrainRun,
    judging: &RunSetup,
    order: &OrderConfig,
    lanes: usize,
) -> Result<(), PipelineError> {
    order.validate().map_err(PipelineError::usage)?;
    let memory = judging.memory_of(lanes, 2 * window_most(order, judging));
    let has_room = judging.memory.minimum_bytes() < memory.budget_bytes;
    memory.credit_bytes().map(drop).map_err(|error| match memory.lacking_bytes() {
        lacking if lacking > 0 && has_room => error.with_remedy(run.order.needing_less(order, lacking)),
        _ => error,
    })
}

/// The credit for the lanes of this process, beside two windows. Where it does not fit, and `is_new`, the order may be a smaller one.
fn credit(
    setting: &Setting<'_>,
    judging: &mut RunSetup,
    settled: &Settled,
    mine: Range<usize>,
    is_new: bool,
) -> Result<Credit, PipelineError> {
    let (windows, others) = (2 * window_most(&settled.order, judging), judging.memory.minimum_bytes());
    judging.memory.take("windows", windows);
    judging.take_ledger_memory(mine.len());
    // Reading further ahead than the order can use would only take time from the trainer.
    let credit = judging.credit(mine.len().max(1), windows).map_err(|error| match judging.memory.lacking_bytes() {
        lacking if lacking > 0 && others < judging.memory.budget_bytes && is_new => {
            error.with_remedy(setting.run.order.needing_less(&settled.order, lacking))
        }
        _ => error,
    })?;
    credit.reads(mine);
    Ok(credit)
}
