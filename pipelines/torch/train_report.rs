//! How a training run ended: what its trainer, its ledger and its order say together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use trommel_core::notices::Notices;
use trommel_core::sample::NO_CAPTION;
use trommel_dataflow::order::{GivenUp, OrderConfig};
use trommel_decide::ShardNames;
use trommel_ledger::manifest::Counts;
use trommel_train::to_order::TrainOrder;
use trommel_train::{Course, RunEnd, TrainSummary};

use crate::pass_count::PassCount;
use crate::run_setup::Machinery;
use crate::settled::Settled;
use trommel_pipelines::cores::Threading;
use trommel_pipelines::progress::Progress;
use trommel_pipelines::time_spent::Spent;

/// How a training run ended.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    /// The order that it was begun with.
    pub order: OrderConfig,
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
    /// Shards of the plan.
    pub shards: u64,
    /// Kept samples of finished passes that filled no batch.
    pub left_over: u64,
    /// Kept samples without caption: holes for the trainer.
    pub without_caption: u64,
    /// Shards whose bytes could not be had, and why.
    pub failed: BTreeMap<u64, String>,
    /// Shards that passes had to do without, from the beginning of the run on.
    pub trained_without: Vec<TrainedWithout>,
    /// What was lost of the input, or passed over in it, over the whole ledger.
    pub notices: Notices,
    /// Seconds from the start to the first byte: plan, benchmarks, models.
    pub start_seconds: f64,
    /// Seconds from the first byte to the end.
    pub seconds: f64,
    /// Samples judged a second by this process.
    pub samples_per_second: f64,
    /// Where time went.
    pub spent: Spent,
    /// Cores and threads of this process.
    pub cores: Threading,
    /// Raw samples of a pass that the learning rate was laid out for, where the length was given in passes over what was
    /// not judged.
    pub pass_samples_planned: Option<u64>,
    /// Share of the run that the trainer stepped.
    pub train_share: f64,
    /// Share of the run that the trainer waited for samples.
    pub train_wait_share: f64,
    /// Share of the run that gradients were averaged over ranks, most of it beside backward.
    pub train_averaging_share: f64,
    /// Share of the run that only the averaging went on.
    pub train_averaging_exposed_share: f64,
    /// Weights of the last checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// Whether it ended before its length.
    pub interrupted: bool,
}

/// A shard that a pass had to do without: the pass is not gone through again when it can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrainedWithout {
    /// Number of the pass, from 0.
    pub pass: u32,
    /// Stable name of the shard.
    pub shard: String,
    /// Its first samples that the pass has had.
    pub samples: u32,
}

/// What has ended.
pub(crate) struct Ended<'a> {
    /// What the trainer did.
    pub(crate) done: &'a TrainSummary,
    /// The order that fed it.
    pub(crate) order: &'a TrainOrder,
    /// What the run was begun with.
    pub(crate) settled: Settled,
    /// Along what the learning rate ran.
    pub(crate) course: Course,
    /// Shards of the plan.
    pub(crate) shards: u64,
    /// The ledger of all processes.
    pub(crate) counts: &'a Counts,
    /// What is to be said of the run.
    pub(crate) notices: Notices,
    /// Stable names of shards.
    pub(crate) names: &'a ShardNames,
    /// What it worked on.
    pub(crate) cores: Threading,
    /// Pools and embedder.
    pub(crate) machinery: &'a Machinery,
    /// The run's counters.
    pub(crate) progress: &'a Progress,
}

impl Ended<'_> {
    /// Puts the report together.
    pub(crate) fn report(self) -> TrainReport {
        let Self { shards, done, order, settled, course, counts, mut notices, names, cores, machinery, progress } =
            self;
        notices.merge(&skips(done, order, names));
        if done.outcome == RunEnd::Complete {
            note_miscount(&mut notices, settled.pass.as_ref(), counts);
            note_cut_short(&mut notices, course, done.global_step);
        }
        let seconds = progress.working_seconds();
        #[expect(clippy::cast_precision_loss)]
        let samples_per_second = progress.judged() as f64 / seconds.max(1e-9);
        TrainReport {
            order: settled.order,
            steps: done.global_step,
            first_step: done.first_step,
            samples_seen: done.samples_seen,
            passes: done.epoch,
            first_loss: done.losses.first().copied(),
            last_loss: done.losses.last().copied(),
            kept: counts.kept,
            dropped: counts.dropped,
            rejected: counts.rejected,
            shards,
            left_over: order.service().left_over(),
            without_caption: counts.remarks.get(NO_CAPTION).unwrap_or(0),
            failed: order.failed(),
            trained_without: without(order, names),
            notices,
            pass_samples_planned: settled.pass.map(|pass| pass.samples),
            start_seconds: progress.start_seconds(),
            seconds,
            samples_per_second,
            spent: Spent::of(machinery.stages(), seconds),
            cores,
            train_share: done.step_seconds / seconds.max(1e-9),
            train_wait_share: done.wait_seconds / seconds.max(1e-9),
            train_averaging_share: done.averaging_seconds / seconds.max(1e-9),
            train_averaging_exposed_share: done.averaging_exposed_seconds / seconds.max(1e-9),
            checkpoint: done.checkpoint.clone(),
            interrupted: done.outcome == RunEnd::Interrupted,
        }
    }
}

/// Shards that were given up, by the names that people know.
fn without(order: &TrainOrder, names: &ShardNames) -> Vec<TrainedWithout> {
    let given_up = order.service().given_up().into_iter();
    let named = given_up.map(|GivenUp { pass, ordinal, count }| (pass, names(ordinal).to_string(), count));
    named.map(|(pass, shard, samples)| TrainedWithout { pass, shard, samples }).collect()
}

/// The learning rate was laid out for samples that somebody promised.
fn note_miscount(notices: &mut Notices, promised: Option<&PassCount>, counts: &Counts) {
    let came = counts.kept + counts.dropped + counts.rejected;
    if let Some(PassCount { samples, source }) = promised {
        let text = "samples of a pass more or fewer than the learning rate was laid out for";
        notices.note("pass_miscounted", text, format!("{came} came, {source} says {samples}"), samples.abs_diff(came));
    }
}

/// The passes were over before the steps that the learning rate was laid out for: it did not come down to its end.
fn note_cut_short(notices: &mut Notices, course: Course, done: u64) {
    if let Course::Steps(steps) = course {
        let text = "optimiser steps that the learning rate was laid out for and that did not come";
        let first = format!("the last pass is over after {done} of {steps}");
        notices.note("schedule_cut_short", text, first, steps.saturating_sub(done));
    }
}

/// What was skipped, of all of the run's processes and since its beginning.
fn skips(done: &TrainSummary, order: &TrainOrder, names: &ShardNames) -> Notices {
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
