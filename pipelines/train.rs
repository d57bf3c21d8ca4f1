//! `trommel train`: samples ─▶ decode ─▶ embed ─▶ join ─▶ prune ─▶ order ─▶ trainer, and every fate to the ledger.
//!
//! The first pass judges and trains at once; a shard that the ledger knows is replayed: no embedding, no join.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Concat, Concatenate};
use trommel_operators::dataflow::lanes::{Lanes, OrderConfig};
use trommel_operators::dataflow::leases::LaneLeases;
use trommel_operators::dataflow::order::OrderService;
use trommel_operators::dataflow::part::Part;
use trommel_operators::dataflow::source::source;
use trommel_operators::dataflow::stop::Stop;
use trommel_operators::decode::operator::{Decode, Decoded};
use trommel_operators::decode::view::TrainView;
use trommel_operators::ledger::decisions::FolderDecisions;
use trommel_operators::ledger::manifest::{Counts, LineStatus};
use trommel_operators::ledger::operator::{LedgerConfig, ToLedger};
use trommel_operators::model::{ClipConfig, Tokenizer};
use trommel_operators::prune::operator::Prune;
use trommel_operators::sample::{SampleId, Time, Work};
use trommel_operators::shard::operator::ReadSamples;
use trommel_operators::train::leases::TrainLeases;
use trommel_operators::train::share::{Outbox, rows};
use trommel_operators::train::to_order::{TrainOrder, to_order};
use trommel_operators::train::{Outcome, RunConfig, SaveEvery, Summary, TrainConfig, run_trainer, spawn_trainer};

use crate::adopt::Adopted;
use crate::config::JudgeConfig;
use crate::error::PipelineError;
use crate::gauges::key;
use crate::judge_graph::{score, unembedded};
use crate::judging::Judging;
use crate::progress::Progress;
use crate::prune::with_embedded_benchmarks;
use crate::ranks::{News, fetch, samples as moving};
use crate::running::{Counting, Watching, agreed, items_of, open_folder, share, start_committer};
use crate::spent::Spent;
use crate::together::Together;
use crate::training::{Prepared, assemble, prepare, trainer_bytes, window_most};

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunLength {
    /// Optimiser steps.
    Steps(u64),
    /// Samples trained on, in total.
    Samples(u64),
    /// Passes over what is kept: needs a finished ledger.
    Passes(u32),
}

/// What a training run is told beside what judges.
#[derive(Clone, Debug)]
pub struct TrainRun {
    /// What judges, and on which machine.
    pub judge: JudgeConfig,
    /// A finished run folder whose decisions are taken over, instead of judging.
    pub decisions: Option<PathBuf>,
    /// open_clip's name of the model, or its JSON.
    pub model: String,
    /// Weights to start from.
    pub pretrained: Option<PathBuf>,
    /// Seed of the initialisation where there is no file, and of crops.
    pub seed: u64,
    /// The recipe.
    pub recipe: TrainConfig,
    /// How long.
    pub length: RunLength,
    /// The order.
    pub order: OrderConfig,
    /// Checkpoints between passes.
    pub save_every: Option<SaveEvery>,
    /// A shard that stays unavailable is a hole for its pass.
    pub skip_failed: bool,
    /// Console lines every so many steps.
    pub log_every_steps: u64,
}

/// How a training run ended.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    /// Finished steps of the whole run.
    pub steps: u64,
    /// Step this process began with.
    pub first_step: u64,
    /// Samples in finished steps.
    pub samples_seen: u64,
    /// Finished passes.
    pub passes: u32,
    /// Loss of this process's first and last step.
    pub first_loss: Option<f32>,
    /// Loss of this process's last step.
    pub last_loss: Option<f32>,
    /// Counts of the ledger.
    pub kept: u64,
    /// Dropped by the rule.
    pub dropped: u64,
    /// Could not be judged.
    pub rejected: u64,
    /// Kept samples of finished passes that filled no batch.
    pub left_over: u64,
    /// Kept samples without caption: holes for the trainer.
    pub without_caption: u64,
    /// Shards whose bytes could not be had, and why.
    pub failed: BTreeMap<u64, String>,
    /// Seconds of this process.
    pub seconds: f64,
    /// Samples judged a second by this process.
    pub samples_per_second: f64,
    /// Where time went.
    pub spent: Spent,
    /// Share of the run that the trainer stepped.
    pub train_share: f64,
    /// Share of the run that the trainer waited for samples.
    pub train_wait_share: f64,
    /// Weights of the last checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// Whether it ended before its length.
    pub interrupted: bool,
}

/// Prunes while streaming and trains on what is kept.
///
/// # Errors
/// Wrong input before the first byte; later a full disk, a loss that is not finite, a bug that a worker ran into.
pub fn train(run: &TrainRun, stop: Stop, progress: &Arc<Progress>) -> Result<TrainReport, PipelineError> {
    let together = Together::join(&run.judge, true, &stop, progress)?;
    let result = train_together(run, &together, &stop, progress);
    together.end(result)
}

fn train_together(
    run: &TrainRun,
    together: &Together,
    stop: &Stop,
    progress: &Arc<Progress>,
) -> Result<TrainReport, PipelineError> {
    let mut config = with_embedded_benchmarks(&run.judge, together, stop)?;
    let adopted = run.decisions.as_ref().map(|from| Adopted::open(from, &config.run)).transpose()?;
    if let Some(adopted) = adopted.as_ref().filter(|_| config.shards.is_empty()) {
        config.plan = Some(adopted.plan().clone());
    }
    let config = &config;
    let (rank, ranks) = (together.rank(), together.ranks());
    if run.order.lanes < ranks {
        return Err(PipelineError::Usage(format!(
            "{ranks} processes need at least {ranks} lanes to read from: --lanes {ranks}"
        )));
    }
    run.order.validate().map_err(PipelineError::usage)?;
    run.recipe.validate().map_err(PipelineError::usage)?;
    let clip_config = ClipConfig::load(&run.model).map_err(PipelineError::usage)?;
    let size = clip_config.preprocess.size;
    let view = TrainView { size, scale: (0.9, 1.0), seed: run.seed };
    let mut judging = Judging::prepare(config, Some(view), stop.clone())?;
    let plan = judging.input.plan().clone();
    let run_config = adopted.as_ref().map_or_else(|| Ok(judging.run_config()), |from| from.run_config(&judging))?;
    together.agree("configuration", &agreed(&run_config, &plan))?;
    let open = || open_folder(&config.run, &plan, &run_config, together.access(), config.mix_numerics);
    let folder = together.in_turn("run folder", || {
        if let Some(adopted) = adopted.as_ref().filter(|_| rank == 0) {
            let differs = plan.difference(adopted.plan());
            match differs {
                Some(differs) => return Err(PipelineError::Usage(format!("--decisions: {differs}"))),
                None => adopted.take_over(&*open()?)?,
            }
        }
        open()
    })?;
    progress.shards_planned.store(plan.len() as u64, Ordering::Relaxed);
    progress.shards_resumed.store(folder.before().committed.len() as u64, Ordering::Relaxed);

    let Prepared { mut trainer, checkpoints, found, cursor, threads } =
        prepare(run, config, &clip_config, together, &folder, plan.len(), progress)?;

    // Memory, credit, services.
    let lanes = run.order.lanes;
    judging.memory.take("trainer", trainer_bytes(&clip_config, &run.recipe, ranks));
    judging.memory.take("windows", 2 * run.order.window_bytes.min(window_most(run, &judging)));
    judging.take_ledger_memory(lanes);
    // Reading further ahead than the order can use would only take time from the trainer.
    let ahead = 2 * run.order.window_bytes.min(window_most(run, &judging));
    let credit = judging.credit(lanes, ahead)?;
    let machinery = judging.start(&credit)?;
    let names = judging.names.clone();
    let deal = Arc::new(Lanes::new(
        lanes,
        run.order.seed,
        plan.shards.iter().map(|shard| (shard.ordinal, shard.name.clone())),
    ));
    let passes = match run.length {
        RunLength::Passes(passes) => Some(passes),
        RunLength::Steps(_) | RunLength::Samples(_) => None,
    };
    let judged = folder.before().committed.keys().copied();
    let mine = together.lanes(lanes);
    let leases = TrainLeases::new(LaneLeases::new(deal.clone(), passes, cursor.as_ref(), judged).only(&mine));
    let service = OrderService::new(&run.order, deal, passes, cursor.as_ref(), credit.clone(), stop.clone())
        .map_err(PipelineError::usage)?;
    let _watching = Watching::start(&credit, &machinery, |watchdog| watchdog.watch_order(&service))?;
    let order = TrainOrder::new(service, rank, run.skip_failed, stop);
    config.gauges.watch_order(order.service());
    let waited: Arc<AtomicU64> = Arc::default();
    let waits = waited.clone();
    config.gauges.watch("train", move |values| {
        let seconds = waits.load(Ordering::Relaxed) as f64 / 1e6;
        values.insert(key("trommel_stage_waiting_seconds_total", &[("stage", "train")]), seconds);
    });
    let outbox = Outbox::new(stop);
    let samples = moving(together, &outbox)?;
    let news = News::new(together, &leases);
    let committer = start_committer(&folder, judging.part_config(), progress, stop, move |shard| {
        news.decided(shard.ordinal, shard.status != LineStatus::Committed);
    })?;
    let ending = stop.clone();
    let _winding = together.wind_down_with(stop, move || ending.request());
    let recorded = leases.clone();
    let ledger = LedgerConfig {
        name_of: Arc::new(move |ordinal| names(ordinal).to_string()),
        records: Arc::new(move |time: Time| recorded.judges(time)),
        items: items_of(judging.joiner.as_ref()),
        stop: stop.clone(),
    };
    let counting = Counting::new(progress, stop, &config.reading.image_key, ranks == 1);

    // The trainer's thread.
    let spent = machinery.clone();
    let trained = {
        let (order, stop, progress) = (order.service().clone(), stop.clone(), progress.clone());
        let mut logging = RunConfig::new(folder.logs());
        logging.log_every_steps = run.log_every_steps;
        logging.save_every = run.save_every.or(logging.save_every);
        logging.threads = Some(threads);
        logging.writes = rank == 0;
        let batch = run.recipe.batch_samples;
        let context = usize::try_from(clip_config.text.context_length).unwrap_or(77);
        spawn_trainer(move || {
            let tokenizer = Tokenizer::new();
            let done = run_trainer(
                &mut trainer,
                &logging,
                &checkpoints,
                found.as_ref(),
                || {
                    let began = Instant::now();
                    let ordered = order.next_batch(batch)?;
                    let mut fetch =
                        |owner: usize, pass: u32, ids: &[SampleId]| fetch(samples.as_ref(), owner, pass, ids);
                    let rows = rows(ordered.pass, ordered.samples, rank, ranks, &outbox, &mut fetch).transpose()?;
                    waited.fetch_add(u64::try_from(began.elapsed().as_micros()).unwrap_or(0), Ordering::Relaxed);
                    Some(rows.map(|rows| (ordered.pass, ordered.cursor_after, rows)))
                },
                |mine| {
                    let (pass, cursor, rows) = mine?;
                    progress.steps.fetch_add(1, Ordering::Relaxed);
                    assemble(pass, &cursor, rows, &tokenizer, size as usize, context)
                },
                |line| tracing::info!("{line}"),
            );
            // Enough is trained, or nothing more can be: readers and workers end.
            order.close();
            stop.request();
            done
        })
        .map_err(PipelineError::failed)?
    };

    // The dataflow.
    let handle = committer.handle().map_err(PipelineError::failed)?;
    let reader = judging.reader(&judging.input, Some(Arc::new(FolderDecisions::new(&config.run))));
    let workers = config.machine.workers;
    let (judging, counting_here, order_here, stop_here) =
        (Arc::new(judging), counting.clone(), order.clone(), stop.clone());
    together.execute(workers, move |worker, _| {
        let mine = share(worker.index(), worker.peers(), lanes);
        worker.dataflow::<Time, _, _>(|scope| {
            let leases = leases.clone();
            let admitted = source(scope, "Shards", leases, reader.clone(), mine, credit.clone(), stop_here.clone());
            let (samples, found, replayed) = admitted.split_admitted();
            let (decoded, undecodable) = samples.decode(&judging.decode, &machinery.decoders);
            #[expect(clippy::result_large_err, reason = "neither side is an error")]
            let (fresh, kept_before) =
                decoded.part(|sample: Decoded| if sample.work == Work::Replay { Err(sample) } else { Ok(sample) });
            let (scored, mut events) = score(fresh, &judging, &machinery);
            let (kept, fates) = scored.concat(kept_before.map(unembedded)).prune(&judging.verdict, &judging.names);
            events.extend([found, undecodable, fates]);
            let events = counting_here.watch(scope.concatenate(events));
            to_order(kept, replayed, events.clone(), &order_here, workers);
            events.ledger(handle.clone(), ledger.clone());
        });
    })?;
    let outcome = trained.join().map_err(|_| PipelineError::Failed("the trainer's thread panicked".into()))?;
    let written = committer.finish().map_err(PipelineError::failed)?;
    if let Some(failure) = stop.failure() {
        return Err(match counting.meaningless() {
            Some(why) => PipelineError::usage(why),
            None if failure.downcast_ref::<trommel_operators::dataflow::order::OrderError>().is_some() => {
                PipelineError::usage(failure)
            }
            None => PipelineError::failed(failure),
        });
    }
    let done = outcome.map_err(PipelineError::failed)?;
    let mut counts = folder.before().counts();
    for written in together.gather("finished", written.counts)? {
        counts.add(&written);
    }
    Ok(report(&done, &counts, order.failed(), &order, progress, &spent))
}

fn report(
    done: &Summary,
    counts: &Counts,
    failed: BTreeMap<u64, String>,
    order: &TrainOrder,
    progress: &Progress,
    machinery: &crate::judging::Machinery,
) -> TrainReport {
    let seconds = progress.seconds();
    #[expect(clippy::cast_precision_loss)]
    let samples_per_second = progress.judged() as f64 / seconds.max(1e-9);
    TrainReport {
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
        without_caption: counts.remarks.get("no_caption").copied().unwrap_or(0),
        failed,
        seconds,
        samples_per_second,
        spent: Spent::of(machinery, seconds),
        train_share: done.step_seconds / seconds.max(1e-9),
        train_wait_share: done.wait_seconds / seconds.max(1e-9),
        checkpoint: done.checkpoint.clone(),
        interrupted: done.outcome == Outcome::Interrupted,
    }
}
