//! `trommel train`: samples ─▶ decode ─▶ embed ─▶ join ─▶ prune ─▶ order ─▶ trainer, and every fate to the ledger.
//!
//! The first pass judges and trains at once; a shard that the ledger knows is replayed: no embedding, no join.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Concat, Concatenate};
use trommel_operators::dataflow::lanes::{Lanes, OrderConfig};
use trommel_operators::dataflow::leases::LaneLeases;
use trommel_operators::dataflow::order::{Batch as OrderedBatch, Cursor, OrderService};
use trommel_operators::dataflow::part::Part;
use trommel_operators::dataflow::source::source;
use trommel_operators::dataflow::stop::Stop;
use trommel_operators::decode::operator::{Decode, Decoded};
use trommel_operators::decode::view::TrainView;
use trommel_operators::embed::device;
use trommel_operators::ledger::decisions::FolderDecisions;
use trommel_operators::ledger::manifest::{Counts, LineStatus};
use trommel_operators::ledger::operator::{LedgerConfig, ToLedger};
use trommel_operators::model::{ClipConfig, Tokenizer, weights};
use trommel_operators::prune::operator::Prune;
use trommel_operators::sample::{Time, Work};
use trommel_operators::shard::operator::ReadSamples;
use trommel_operators::train::clip::TrainedClip;
use trommel_operators::train::leases::TrainLeases;
use trommel_operators::train::to_order::{ToOrder, TrainOrder, TrainSample};
use trommel_operators::train::{
    Assembled, Batch, Checkpoints, Length, Normalisation, Outcome, RunConfig, SaveEvery, Summary, TrainConfig, Trainer,
    run_trainer, spawn_trainer,
};

use crate::config::JudgeConfig;
use crate::decision::hex;
use crate::error::PipelineError;
use crate::judge_graph::{score, unembedded};
use crate::judging::Judging;
use crate::progress::Progress;
use crate::running::{Counting, Watching, items_of, open_folder, share, start_committer, workers_ended};
use crate::spent::Spent;

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
    let config = &crate::prune::with_embedded_benchmarks(&run.judge, &stop)?;
    run.order.validate().map_err(PipelineError::usage)?;
    run.recipe.validate().map_err(PipelineError::usage)?;
    let clip_config = ClipConfig::load(&run.model).map_err(PipelineError::usage)?;
    let size = clip_config.preprocess.size;
    let view = TrainView { size, scale: (0.9, 1.0), seed: run.seed };
    let mut judging = Judging::prepare(config, Some(view), stop.clone())?;
    let plan = judging.input.plan().clone();
    let folder = open_folder(&config.run, &plan, &judging.run_config(), None, config.mix_numerics)?;
    progress.shards_planned.store(plan.len() as u64, Ordering::Relaxed);
    progress.shards_resumed.store(folder.before().committed.len() as u64, Ordering::Relaxed);

    // The model, its hash, and where an earlier run stopped.
    let device = device::parse(&config.machine.device).map_err(PipelineError::usage)?;
    let model = TrainedClip::new(&clip_config, device).map_err(PipelineError::usage)?;
    let initial = match &run.pretrained {
        Some(path) => {
            weights::load(model.store(), path).map_err(PipelineError::usage)?;
            weights::fingerprint(model.store()).map_err(PipelineError::failed)?
        }
        None => {
            weights::init(model.store(), &clip_config, run.seed).map_err(PipelineError::failed)?;
            format!("seed:{}", run.seed)
        }
    };
    let total_steps = total_steps(run, plan.len(), &folder.before().counts(), folder.before().committed.len())?;
    progress.steps_planned.store(total_steps, Ordering::Relaxed);
    let training = json!({
        "decisions": folder.decision_hash(), "order": run.order, "recipe": run.recipe, "steps": total_steps,
        "model": clip_config, "initial": initial, "view_seed": run.seed,
    });
    let hashes = BTreeMap::from([
        ("decisions".to_owned(), folder.decision_hash().to_owned()),
        ("training".to_owned(), hex(&Sha256::digest(training.to_string().as_bytes()))),
    ]);
    let threads = i32::try_from(config.machine.threads).unwrap_or(1);
    let numerics = BTreeMap::from([
        ("device".to_owned(), format!("{device:?}")),
        ("threads".to_owned(), threads.to_string()),
        ("libtorch".to_owned(), "2.11.0".to_owned()),
    ]);
    let checkpoints = Checkpoints::open(&config.run.join("checkpoints"), &clip_config.name, hashes, numerics, Some(3))
        .map_err(PipelineError::failed)?;
    let found = checkpoints.latest().map_err(PipelineError::usage)?;
    let normalisation = Normalisation::from(&clip_config.preprocess);
    let mut trainer =
        Trainer::new(model, run.recipe.clone(), total_steps, normalisation, device).map_err(PipelineError::usage)?;
    let mut cursor: Option<Cursor> = None;
    if let Some(found) = &found {
        checkpoints.restore(found, &mut trainer).map_err(PipelineError::failed)?;
        cursor = serde_json::from_value(found.state.position.cursor.clone())
            .map_err(|error| PipelineError::Failed(format!("{}: {error}", found.folder.display())))?;
        tracing::info!("continuing at step {} from {}", trainer.global_step(), found.folder.display());
        for skipped in &found.skipped {
            tracing::warn!("{skipped}");
        }
    }
    progress.steps.store(trainer.global_step(), Ordering::Relaxed);

    // Memory, credit, services.
    let lanes = run.order.lanes;
    judging.memory.take("trainer", trainer_bytes(&clip_config, &run.recipe));
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
    let leases = TrainLeases::new(LaneLeases::new(deal.clone(), passes, cursor.as_ref(), judged));
    let service = OrderService::new(&run.order, deal, passes, cursor.as_ref(), credit.clone(), stop.clone())
        .map_err(PipelineError::usage)?;
    let _watching = Watching::start(&credit, &machinery, |watchdog| watchdog.watch_order(&service))?;
    let order = TrainOrder { service, skip_failed: run.skip_failed, failed: Arc::default(), stop: stop.clone() };
    let told = leases.clone();
    let committer = start_committer(&folder, judging.part_config(), progress, &stop, move |shard| {
        if shard.status == LineStatus::Committed {
            told.lanes().committed(shard.ordinal);
        } else {
            told.lanes().failed(shard.ordinal);
        }
    })?;
    let recorded = leases.clone();
    let ledger = LedgerConfig {
        name_of: Arc::new(move |ordinal| names(ordinal).to_string()),
        records: Arc::new(move |time: Time| recorded.judges(time)),
        items: items_of(judging.joiner.as_ref()),
        stop: stop.clone(),
    };
    let counting = Counting::new(progress, &stop, &config.reading.image_key);

    // The trainer's thread.
    let spent = machinery.clone();
    let summary: Arc<Mutex<Option<Result<Summary, String>>>> = Arc::default();
    let trained = {
        let (order, stop, progress, summary) = (order.service.clone(), stop.clone(), progress.clone(), summary.clone());
        let mut logging = RunConfig::new(folder.logs());
        logging.log_every_steps = run.log_every_steps;
        logging.save_every = run.save_every.or(logging.save_every);
        logging.threads = Some(threads);
        let batch = run.recipe.batch_samples;
        let context = usize::try_from(clip_config.text.context_length).unwrap_or(77);
        spawn_trainer(move || {
            let tokenizer = Tokenizer::new();
            let done = run_trainer(
                &mut trainer,
                &logging,
                &checkpoints,
                found.as_ref(),
                || order.next_batch(batch),
                |ordered| {
                    progress.steps.fetch_add(1, Ordering::Relaxed);
                    assemble(ordered, &tokenizer, size as usize, context)
                },
                |line| tracing::info!("{line}"),
            );
            let outcome = done.as_ref().map(Clone::clone).map_err(ToString::to_string);
            *summary.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            // Enough is trained, or nothing more can be: readers and workers end.
            order.close();
            stop.request();
            done
        })
        .map_err(PipelineError::failed)?
    };

    // The dataflow.
    let handle = committer.handle().map_err(PipelineError::failed)?;
    let reader = judging.reader(Some(Arc::new(FolderDecisions::new(&config.run))));
    let workers = config.machine.workers;
    let (judging, counting_here, order_here, stop_here) =
        (Arc::new(judging), counting.clone(), order.clone(), stop.clone());
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let mine = share(worker.index(), workers, lanes);
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
            kept.to_order(&order_here);
            replayed.to_order(&order_here);
            events.clone().to_order(&order_here);
            events.ledger(handle.clone(), ledger.clone());
        });
    })
    .map_err(PipelineError::Failed)?;
    workers_ended(guards)?;
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
    counts.add(&written.counts);
    let failed = order.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(report(&done, &counts, failed, &order, progress, &spent))
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
        left_over: order.service.left_over(),
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

/// Steps of the whole run; `--passes` needs all shards judged, so that the count is known.
fn total_steps(run: &TrainRun, shards: usize, counts: &Counts, committed: usize) -> Result<u64, PipelineError> {
    let batch = run.recipe.batch_samples as u64;
    let length = match run.length {
        RunLength::Steps(steps) => Length::Steps(steps),
        RunLength::Samples(samples) => Length::Samples(samples),
        RunLength::Passes(passes) if committed == shards => {
            let captioned = counts.kept - counts.remarks.get("no_caption").copied().unwrap_or(0);
            if captioned < batch {
                return Err(PipelineError::Usage(format!(
                    "{captioned} kept samples with a caption do not fill one batch of {batch}"
                )));
            }
            Length::Steps(u64::from(passes) * (captioned / batch))
        }
        RunLength::Passes(_) => {
            return Err(PipelineError::Usage(format!(
                "--passes needs a known count, and {} of {shards} shards are not judged yet: run `trommel prune` with the \
                 same shards, rule and --run first, or give --steps or --samples",
                shards - committed
            )));
        }
    };
    length.total_steps(run.recipe.batch_samples, None).map_err(PipelineError::usage)
}

/// Pictures and captions of a batch, in the order's order.
fn assemble(
    ordered: OrderedBatch<TrainSample>,
    tokenizer: &Tokenizer,
    size: usize,
    context: usize,
) -> Result<Assembled, String> {
    let samples = ordered.samples.len();
    let mut pixels = Vec::with_capacity(samples * size * size * 3);
    let mut tokens = Vec::with_capacity(samples * context);
    let mut keys = Vec::with_capacity(samples);
    for numbered in ordered.samples {
        let sample = numbered.payload.sample;
        pixels.extend_from_slice(&sample.view);
        let ids = tokenizer.encode(&sample.caption);
        tokens.extend(ids.iter().copied().map(i64::from).chain(std::iter::repeat(0)).take(context));
        keys.push(format!("{}/{}", sample.id.ordinal, sample.id.index));
    }
    let batch = Batch::new(samples, size, context, pixels, tokens).map_err(|error| error.to_string())?;
    let cursor = serde_json::to_value(&ordered.cursor_after).map_err(|error| error.to_string())?;
    Ok(Assembled { batch, pass: ordered.pass, cursor, keys })
}

/// Bytes of weights, gradients and both moments, and of the activations that one forward pass leaves for backward.
fn trainer_bytes(config: &ClipConfig, recipe: &TrainConfig) -> u64 {
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    let parameters = unsigned(config.image_parameters() + config.text_parameters());
    let tower = |layers: i64, tokens: u64, width: i64, mlp: i64, heads: i64| {
        // A block keeps about 12 rows of its width, 3 of the MLP's, and two attention maps.
        let token = 12 * unsigned(width) + 3 * unsigned(mlp) + 2 * unsigned(heads) * tokens;
        unsigned(layers) * tokens * token * 4
    };
    let (vision, text) = (&config.vision, &config.text);
    let patches = unsigned(vision.grid() * vision.grid()) + 1;
    let sample = tower(vision.layers, patches, vision.width, vision.mlp_width(), vision.heads())
        + tower(text.layers, unsigned(text.context_length), text.width, text.mlp_width(), text.heads);
    let rows = (recipe.batch_samples / recipe.accumulation_chunks.max(1)) as u64;
    parameters * 16 + rows * sample
}

/// What a window can hold at most: `window_samples` views and pictures.
fn window_most(run: &TrainRun, judging: &Judging) -> u64 {
    run.order.window_samples as u64 * (judging.view_bytes().train + (256 << 10))
}
