//! The graph of training, over whatever gives the shards: a plan of its own, or the pool of a watch that grows while it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::OkErr;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Concat, Concatenate};
use trommel_core::notices::Notices;
use trommel_core::sample::{Embedded, Encoded, Event, Fate, Reason, Sample, SampleId, Status, Time, Work, pass_of};
use trommel_core::stop::Stop;
use trommel_core::wake::locked;
use trommel_dataflow::lanes::Lanes;
use trommel_dataflow::leases::LaneLeases;
use trommel_dataflow::order::{Cursor, OrderConfig, OrderService};
use trommel_dataflow::part::Part;
use trommel_dataflow::source::source;
use trommel_decide::ShardNames;
use trommel_decide::stage::Decide;
use trommel_decode::operator::{Decode, Views};
use trommel_ledger::committer::Committed;
use trommel_ledger::manifest::{Counts, LineStatus};
use trommel_ledger::operator::{LedgerConfig, ToLedger};
use trommel_ledger::part::PartConfig;
use trommel_ledger::run_folder::RunFolder;
use trommel_model::Architecture;
use trommel_shard::operator::ReadSamples;
use trommel_shard::reader::Replayed;
use trommel_train::share::{Outbox, Row, rows};
use trommel_train::to_order::{TrainOrder, to_order};
use trommel_train::{Course, Next, Outcome, RunConfig, Summary, run_trainer, spawn_trainer};

use crate::first::{First, Order};
use crate::first_start::Settled;
use crate::judge_graph::{embedded, joins};
use crate::judging::{Judging, Machinery, Reader};
use crate::pass_count::PassCount;
use crate::ranks::{News, fetch, samples as moving};
use crate::running::{Counting, Watching, share, start_committer};
use crate::spent::Spent;
use crate::takedown::{Called, TakenDown};
use crate::together::Together;
use crate::train::{RunLength, TrainReport, TrainRun};
use crate::training::{Prepared, assemble, prepare, window_most};
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::gauges::key;
use trommel_pipelines::irregular_turns::IrregularTurns;
use trommel_pipelines::progress::Progress;

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
    /// The ledger is a pool's: it keeps every judged sample with its embedding, and knows no rule, since others decide from it, again and
    /// again. What the trainer gets is decided here, and is none of these samples.
    pub(crate) pool: Option<TakenDown>,
    /// Hears of every durable shard.
    pub(crate) on_committed: Box<dyn Fn(&Committed) + Send>,
    /// Hears how far training has come.
    pub(crate) trained: Trained,
}

/// How far a trainer has come in the order; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Trained(Arc<Mutex<Reached>>);

#[derive(Default)]
struct Reached {
    cursor: Option<Cursor>,
    /// Whether the order waits for shards that have not come.
    is_idle: Option<Box<dyn Fn() -> bool + Send>>,
    /// Whether the trainer waits for a batch.
    is_waiting: bool,
}

impl Trained {
    fn with<T>(&self, then: impl FnOnce(&mut Reached) -> T) -> T {
        then(&mut locked(&self.0))
    }

    fn begin(&self, cursor: Option<Cursor>) {
        self.with(|reached| reached.cursor = cursor);
    }

    fn reach(&self, cursor: &Cursor) {
        self.with(|reached| reached.cursor = Some(cursor.clone()));
    }

    fn follow<P: Send + 'static>(&self, order: &OrderService<P>) {
        let gauge = order.weak_gauge();
        let is_idle = move || gauge().is_some_and(|gauge| gauge.waits_for_growth.is_some());
        self.with(|reached| reached.is_idle = Some(Box::new(is_idle)));
    }

    fn wait(&self, is_waiting: bool) {
        self.with(|reached| reached.is_waiting = is_waiting);
    }

    /// Whether all that has come is trained on, as far as it fills batches. For an instant it may seem so while the next batch is handed over.
    pub(crate) fn is_idle(&self) -> bool {
        self.with(|reached| reached.is_waiting && reached.is_idle.as_ref().is_some_and(|is_idle| is_idle()))
    }

    /// Where it stands; `None` before the first batch.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.with(|reached| reached.cursor.clone())
    }
}

/// Whether a sample of a growing deal lies before a trainer's place: it was trained on, or stands in the window that is at hand.
pub(crate) fn lies_before(cursor: &Cursor, sample: SampleId) -> bool {
    let lanes = cursor.lanes.len() as u64;
    let at = usize::try_from(sample.ordinal % lanes.max(1)).ok().and_then(|lane| cursor.lanes.get(lane));
    at.is_some_and(|at| (sample.ordinal / lanes.max(1), sample.index) < (at.position, at.index))
}

/// A batch's pass, turns before it and whether it ends the pass; the place after it; this rank's rows.
type Mine = ((u32, u64, bool), Cursor, Vec<Row>);

type Events<'scope> = StreamVec<'scope, Time, Event>;

/// Samples that the ledger kept and whose pictures cannot be decoded any more. The ledger has their fates: only the order hears of them.
fn skipped<'scope>(rejects: Events<'scope>) -> StreamVec<'scope, Time, Replayed> {
    rejects.unary::<CapacityContainerBuilder<Vec<Replayed>>, _, _, _>(Pipeline, "Skipped", |cap, _info| {
        drop(cap);
        |input, output| {
            input.for_each(|cap, data| {
                let pass = pass_of(cap.least().copied().unwrap_or_default());
                let mut session = output.session(&cap);
                for event in data.drain(..) {
                    if let Event::Fate(fate) = event {
                        let none = Reason::new("unreadable", "");
                        session.give(Replayed::skipped(pass, &fate.info, fate.reason.as_ref().unwrap_or(&none)));
                    }
                }
            });
        }
    })
}

/// For a pool: every embedded sample as kept, with its embedding and without scores; and the samples themselves, but for those that are taken
/// down, whose fates come last.
fn recorded_all<'scope>(
    embedded: StreamVec<'scope, Time, Sample<Embedded>>,
    taken_down: &TakenDown,
    names: &ShardNames,
) -> (StreamVec<'scope, Time, Sample<Embedded>>, Events<'scope>, Events<'scope>) {
    let (taken_down, names) = (taken_down.clone(), names.clone());
    let (embedded, events) = embedded
        .flat_map(move |sample| {
            let reason = sample.caption.is_none().then(|| Reason::new("no_caption", ""));
            let vector = &sample.payload.vector;
            let embedding = (!vector.is_empty()).then(|| vector.clone());
            let fate = Fate { info: sample.info.clone(), status: Status::Kept, reason, scores: Vec::new(), embedding };
            let info = &sample.info;
            let (shard, others) = (names(info.id.ordinal), [&info.uid, &info.url, &info.sha256]);
            let dropped = taken_down.has(Called { shard: &shard, key: &info.key, others });
            let gone = Fate { status: Status::Dropped, reason: None, embedding: None, ..fate.clone() };
            let [kept, gone] = [fate, gone].map(|fate| Event::Fate(Arc::new(fate)));
            let last = if dropped { Err((true, gone)) } else { Ok(sample) };
            [Err((false, kept)), last]
        })
        .ok_err(|either: Result<Sample<Embedded>, (bool, Event)>| either);
    let (recorded, dropped) = events
        .map(|(dropped, event)| if dropped { Err(event) } else { Ok(event) })
        .ok_err(|either: Result<Event, Event>| either);
    (embedded, recorded, dropped)
}

/// Trains until the run's length is reached, or it is stopped.
#[expect(clippy::too_many_arguments, reason = "each is one thing, used once")]
pub(crate) fn train_on(
    run: &TrainRun,
    config: &JudgeConfig,
    mut judging: Judging,
    model: Arc<dyn Architecture>,
    train_inputs: TrainInputs,
    together: &Together,
    stop: &Stop,
    progress: &Arc<Progress>,
) -> Result<TrainReport, PipelineError> {
    let (rank, ranks) = (together.rank(), together.ranks());
    let size = model.preprocess().size;
    let TrainInputs { reader, deal, leased, passes, judged, folder, parts, pool, on_committed, trained, .. } =
        train_inputs;
    let (settled, course) = (train_inputs.settled, train_inputs.course);
    let Prepared { mut trainer, checkpoints, found, cursor, threads, mut notices } =
        prepare(run, config, &model, together, &folder, (&settled.order, course), progress)?;
    trained.begin(cursor.clone());
    notices.merge(&judging.notices);

    // Memory, credit, services.
    let (lanes, mine) = (settled.order.lanes, together.lanes(settled.order.lanes));
    let (windows, others) = (2 * window_most(&settled.order, &judging), judging.memory.minimum_bytes());
    judging.memory.take("windows", windows);
    judging.take_ledger_memory(mine.len());
    // Reading further ahead than the order can use would only take time from the trainer.
    let credit = judging.credit(mine.len().max(1), windows).map_err(|error| match judging.memory.lacking_bytes() {
        lacking if lacking > 0 && others < judging.memory.budget_bytes && found.is_none() => {
            PipelineError::Usage(format!("{error}; {}", run.order.needing_less(&settled.order, lacking)))
        }
        _ => error,
    })?;
    credit.reads(mine.clone());
    if rank == 0 {
        settled.keep(&config.run, folder.incarnation())?;
        if lanes < ranks {
            tracing::info!(
                "{} of {ranks} processes have no lane to read: they train on what the others read",
                ranks - lanes
            );
        }
    }
    let machinery = judging.start(&credit)?;
    let names = judging.names.clone();
    let named = names.clone();
    // In the order in which lanes are read; what is judged already was found sound by it.
    let is_new = judged.is_empty() && cursor.is_none() && pool.is_none();
    let dealt = |at: usize| deal.ordinal(0, at % lanes, (at / lanes) as u64);
    let beginning = match is_new {
        true => Order { shards: (0..deal.shards()).filter_map(dealt).collect(), whole: true },
        false => Order::none(),
    };
    let leases = Arc::new(LaneLeases::new(leased, passes, cursor.as_ref(), judged).only(&mine));
    let service = OrderService::new(&settled.order, deal, passes, cursor.as_ref(), credit.clone(), stop.clone())
        .map_err(PipelineError::usage)?;
    let _watching = Watching::start(&credit, &machinery, |watchdog| watchdog.watch_order(&service))?;
    trained.follow(&service);
    let order = TrainOrder::new(service, rank, run.skip_failed, settled.order.window_counts, stop);
    config.gauges.watch_order(order.service());
    // Of a pool's deal nobody knows the end.
    let writes_turns = rank == 0 && pool.is_none();
    let turns = writes_turns.then(|| IrregularTurns::begin(&config.run, cursor.as_ref())).transpose()?;
    let waited: Arc<AtomicU64> = Arc::default();
    let waits = waited.clone();
    config.gauges.watch("train", move |values| {
        let seconds = waits.load(Ordering::Relaxed) as f64 / 1e6;
        values.insert(key("trommel_stage_waiting_seconds_total", &[("stage", "train")]), seconds);
    });
    let outbox = Outbox::new(stop);
    let samples = moving(together, &outbox)?;
    let news = News::new(together, &leases);
    let control = together.cluster().map(|cluster| cluster.control());
    let first = First::new(beginning, &config.reading.image_key, control, stop, |_| {});
    let committer = start_committer(&folder, parts, progress, (&first, stop), move |shard| {
        news.decided(shard.ordinal, shard.status != LineStatus::Committed);
        on_committed(shard);
    })?;
    let ending = stop.clone();
    let _winding = together.wind_down_with(stop, move || ending.request());
    let ledger = LedgerConfig { name_of: Arc::new(move |ordinal| named(ordinal).to_string()), stop: stop.clone() };
    let counting = Counting::new(progress, &first);

    // The trainer's thread.
    let spent = machinery.clone();
    let trained = {
        let unavailable = order.clone();
        let (order, stop, progress) = (order.service().clone(), stop.clone(), progress.clone());
        let mut logging = RunConfig::new(config.run.join("logs"));
        logging.log_every_steps = run.log_every_steps;
        logging.save_every = run.save_every.or(logging.save_every);
        logging.passes = match run.length {
            RunLength::Passes(passes) => Some(passes),
            RunLength::Steps(_) | RunLength::Samples(_) => None,
        };
        logging.threads = Some(threads);
        logging.writes = rank == 0;
        let batch = run.recipe.batch_samples;
        // Of a pool nobody knows whether a pass is over: more may come.
        let last = trainer.schedule().last_step().filter(|_| pool.is_none());
        let mut ordered_step = trainer.global_step();
        let captions = model.captions().map_err(PipelineError::usage)?;
        let (reached, device) = (trained.clone(), trainer.device());
        let mut turns = turns;
        spawn_trainer(move || {
            let done = run_trainer(
                &mut trainer,
                &logging,
                &checkpoints,
                found.as_ref(),
                || {
                    let began = Instant::now();
                    reached.wait(true);
                    let Some(ordered) = order.next_batch(batch) else {
                        return if order.is_over() { Next::Over } else { Next::Stopped };
                    };
                    ordered_step += 1;
                    let irregular = order.take_irregular();
                    if let Some(Err(error)) = turns.as_mut().map(|turns| turns.add(&irregular)) {
                        return Next::Batch(Err(error.to_string()));
                    }
                    // Before the last step, so that a run which is stopped meanwhile takes it when it is resumed.
                    let ends_pass = match last == Some(ordered_step) {
                        false => false,
                        true => match order.has_another(batch) {
                            Some(another) => !another,
                            // A shard that cannot be had stops the run; it stands in this pass, which goes on then.
                            None if ranks == 1 && !unavailable.failed().is_empty() => false,
                            None => return Next::Stopped,
                        },
                    };
                    reached.wait(false);
                    let mut fetch =
                        |owner: usize, pass: u32, ids: &[SampleId]| fetch(samples.as_ref(), owner, pass, ids);
                    let rows = rows(ordered.pass, ordered.samples, rank, ranks, &outbox, &mut fetch).transpose();
                    waited.fetch_add(u64::try_from(began.elapsed().as_micros()).unwrap_or(0), Ordering::Relaxed);
                    let ordered = |rows| ((ordered.pass, ordered.turns_before, ends_pass), ordered.cursor_after, rows);
                    rows.map_or(Next::Stopped, |rows| Next::Batch(rows.map(ordered)))
                },
                |mine: Result<Mine, String>| {
                    let (place, cursor, rows) = mine?;
                    progress.steps.fetch_add(1, Ordering::Relaxed);
                    trained.reach(&cursor);
                    assemble(place, &cursor, rows, &*captions, size as usize, device)
                },
                |line| tracing::info!("{line}"),
            );
            if logging.passes.is_some() && done.as_ref().is_ok_and(|done| done.outcome == Outcome::Complete) {
                // What lies behind the last batch of the last pass is counted too.
                let _over = order.next_batch(batch);
            }
            // Enough is trained, or nothing more can be: readers and workers end.
            order.close();
            stop.request();
            done
        })
        .map_err(PipelineError::failed)?
    };

    // The dataflow.
    let handle = committer.handle().map_err(PipelineError::failed)?;
    let workers = config.machine.workers;
    let (judging, order_here, stop_here) = (Arc::new(judging), order.clone(), stop.clone());
    progress.begin();
    together.execute(workers, move |worker, _| {
        let mine = share(worker.index(), worker.peers(), lanes);
        worker.dataflow::<Time, _, _>(|scope| {
            let leases = leases.clone();
            let admitted = source(scope, "Shards", leases, reader.clone(), mine, credit.clone(), stop_here.clone());
            let (samples, found, replayed) = admitted.split_admitted();
            #[expect(clippy::result_large_err, reason = "one of two streams, no error")]
            let (fresh, kept_before) = samples
                .part(|sample: Sample<Encoded>| if sample.work == Work::Replay { Err(sample) } else { Ok(sample) });
            let (fresh, undecodable) = fresh.decode_on(&judging.decode, &machinery.decoders, machinery.card.as_ref());
            let (kept_before, undecodable_now) =
                kept_before.decode_on(&judging.decode, &machinery.decoders, machinery.card.as_ref());
            let replayed = replayed.concat(skipped(undecodable_now));
            let (embedded, without_direction) = embedded(fresh, &machinery);
            let common = scope.concatenate([found, undecodable].into_iter().chain(without_direction));
            let (embedded, pooled) = match &pool {
                None => (embedded, None),
                Some(taken_down) => {
                    let (embedded, recorded, dropped) = recorded_all(embedded, taken_down, &judging.names);
                    (embedded, Some((recorded, dropped)))
                }
            };
            let joins = joins(&judging, &machinery, pool.is_none());
            let (kept, fates) = embedded.decide(joins, &judging.verdict, &judging.names);
            let kept = kept.concat(kept_before.map(|sample: Sample<Views>| sample.map(|views| views.train)));
            let (fates, recorded) = match pooled {
                None => (fates, None),
                Some((recorded, dropped)) => (fates.concat(dropped), Some(recorded.concat(common.clone()))),
            };
            let events = counting.watch(common.concat(fates));
            to_order(kept, replayed, events.clone(), &order_here, workers);
            recorded.unwrap_or(events).ledger(handle.clone(), ledger.clone());
        });
    })?;
    let outcome = trained.join().map_err(|_| PipelineError::Failed("the trainer's thread panicked".into()))?;
    let written = committer.finish().map_err(PipelineError::failed)?;
    if let Some(failure) = stop.failure() {
        return Err(failure.into());
    }
    let done = outcome.map_err(PipelineError::failed)?;
    let mut counts = folder.before().counts();
    let mut again = BTreeSet::new();
    for (counted, noticed, mut tried) in
        together.gather("finished", (written.counts, written.notices, written.again))?
    {
        counts.add(&counted);
        notices.merge(&noticed);
        again.append(&mut tried);
    }
    notices.merge(&folder.before().notices(&again));
    notices.merge(&skips(&done, &order, &names));
    if done.outcome == Outcome::Complete {
        note_miscount(&mut notices, settled.pass.as_ref(), &counts);
    }
    Ok(TrainReport {
        pass_samples_planned: settled.pass.map(|pass| pass.samples),
        order: settled.order,
        ..report(&done, &counts, notices, order.failed(), &order, progress, &spent)
    })
}

/// The learning rate was laid out for samples that somebody promised.
fn note_miscount(notices: &mut Notices, promised: Option<&PassCount>, counts: &Counts) {
    let came = counts.kept + counts.dropped + counts.rejected;
    if let Some(PassCount { samples, source }) = promised {
        let text = "samples of a pass more or fewer than the learning rate was laid out for";
        notices.note("pass_miscounted", text, format!("{came} came, {source} says {samples}"), samples.abs_diff(came));
    }
}

/// What was skipped, of all of the run's processes and since its beginning.
fn skips(done: &Summary, order: &TrainOrder, names: &ShardNames) -> Notices {
    let mut notices = Notices::default();
    let count = order.service().skipped();
    let first = order.first_skipped().map_or_else(
        || "before this process began".to_owned(),
        |(id, why)| format!("{}, sample {}, {why}", names(id.ordinal), id.index),
    );
    // Each pass skips a sample again.
    let samples = count.div_ceil(u64::from(done.epoch.max(1)));
    let text = "kept samples that could not be read again when their turn came to be trained";
    notices.loss("skipped_in_training", text, first, count, samples);
    notices
}

fn report(
    done: &Summary,
    counts: &Counts,
    notices: Notices,
    failed: BTreeMap<u64, String>,
    order: &TrainOrder,
    progress: &Progress,
    machinery: &Machinery,
) -> TrainReport {
    let seconds = progress.working_seconds();
    #[expect(clippy::cast_precision_loss)]
    let samples_per_second = progress.judged() as f64 / seconds.max(1e-9);
    TrainReport {
        order: OrderConfig::default(),
        steps: done.global_step,
        first_step: done.first_step,
        samples_seen: done.samples_seen,
        passes: done.epoch,
        first_loss: done.losses.first().copied(),
        last_loss: done.losses.last().copied(),
        kept: counts.kept,
        dropped: counts.dropped,
        rejected: counts.rejected,
        left_over: order.service().left_over(),
        without_caption: counts.remarks.get("no_caption").unwrap_or(0),
        failed,
        notices,
        pass_samples_planned: None,
        start_seconds: progress.start_seconds(),
        seconds,
        samples_per_second,
        spent: Spent::of(machinery, seconds),
        train_share: done.step_seconds / seconds.max(1e-9),
        train_wait_share: done.wait_seconds / seconds.max(1e-9),
        train_averaging_share: done.averaging_seconds / seconds.max(1e-9),
        train_averaging_exposed_share: done.averaging_exposed_seconds / seconds.max(1e-9),
        checkpoint: done.checkpoint.clone(),
        interrupted: done.outcome == Outcome::Interrupted,
    }
}
