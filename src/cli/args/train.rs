//! Flags of `trommel train`.

use std::path::PathBuf;

use clap::Args;
use trommel_decide::parse::forms;

use super::groups::{Judging, RULES, Running, SHARDS};

/// `trommel train`.
#[derive(Debug, Args)]
#[command(
    override_usage = "trommel train [OPTIONS] --run <DIR> --model <MODEL> --batch <BATCH> <--steps <STEPS>|--samples <SAMPLES>|--passes \
                      <PASSES>> [SHARDS]...",
    mut_arg("rule", |rule| rule.help(forms(|rule| !rule.policy().needs_ledger()) + " [default: nothing is dropped]")),
    mut_arg("seed", |seed| seed.help("Seed of random:P%, of initial weights, of the order and of crops")),
    after_help = format!("{RULES}\n{SHARDS}")
)]
pub struct TrainArgs {
    /// Shards [default: those of --decisions]
    #[arg(required_unless_present = "decisions")]
    pub shards: Vec<String>,
    /// Take over the decisions of a finished run folder, or of a watch (RUN/current/SPLIT), instead of judging
    #[arg(long, value_name = "DIR", conflicts_with_all = ["benchmarks", "rule", "columns"])]
    pub decisions: Option<PathBuf>,
    /// Train on whom a split keeps, instead of judging: .parquet (or .split.json), .txt (SHARD/KEY a line), .keys (a key a line, sorted) or .npy (DataComp's uids, sorted, each taken once)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["benchmarks", "rule", "decisions"])]
    pub split: Option<PathBuf>,
    /// The run's folder: made, or resumed
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// open_clip's name of the model to train, or its JSON
    #[arg(long)]
    pub model: String,
    /// Weights to start from [default: open_clip's initialisation, from --seed]
    #[arg(long, value_name = "FILE")]
    pub pretrained: Option<PathBuf>,
    /// Global batch: samples of a step, over all ranks
    #[arg(long)]
    pub batch: u32,
    /// Length of the run in optimiser steps
    #[arg(long, group = "length")]
    pub steps: Option<u64>,
    /// Length in passes over the data
    #[arg(long, group = "length")]
    pub passes: Option<u32>,
    /// Samples of a pass, before the rule; with --passes alone [default: what the ledger, _stats.json, sizes.json or __len__ say]
    #[arg(long, value_name = "N")]
    pub train_num_samples: Option<u64>,
    /// Length in samples trained on, in total
    #[arg(long, group = "length")]
    pub samples: Option<u64>,
    /// Peak learning rate: it rises to it in a line while the run warms up, and falls along half a cosine to zero at the end
    #[arg(long, default_value_t = 5e-4, help_heading = "Recipe")]
    pub lr: f64,
    /// AdamW's beta1, for the mean gradient
    #[arg(long, default_value_t = 0.9, help_heading = "Recipe")]
    pub beta1: f64,
    /// AdamW's beta2, for the mean squared gradient
    #[arg(long, default_value_t = 0.98, help_heading = "Recipe")]
    pub beta2: f64,
    /// AdamW's epsilon
    #[arg(long, default_value_t = 1e-6, help_heading = "Recipe")]
    pub eps: f64,
    /// Weight decay, on matrices only
    #[arg(long, default_value_t = 0.2, help_heading = "Recipe")]
    pub wd: f64,
    /// Warm-up steps [default: 10,000, at most a tenth of the run]
    #[arg(long, help_heading = "Recipe")]
    pub warmup: Option<u64>,
    /// Clip the gradient's norm: that of open_clip with --local-loss --gather-with-grad and without --accum-freq [default: not clipped]
    #[arg(long, value_name = "NORM", help_heading = "Recipe")]
    pub grad_clip_norm: Option<f64>,
    /// Gradient accumulation: parts a batch is split into; the gradient stays the batch's, where open_clip adds the logit scale's once a part
    #[arg(long, default_value_t = 1, help_heading = "Recipe")]
    pub accum_freq: u32,
    /// f32, or bf16 (autocast)
    #[arg(long, default_value = "bf16", help_heading = "Recipe")]
    pub precision: String,
    /// Captions' padding in the text tower: none computes the tokens up to the end token, with the same gradients; full computes all
    /// [default: as the run was begun; none for a new one, where the model allows it]
    #[arg(long, value_name = "none|full", help_heading = "Recipe")]
    pub text_padding: Option<String>,
    /// Save a checkpoint every 30m, 2000steps (or 2000), 1e6samples [default: 30m]; one is saved at the end of each pass, on a stop and at
    /// the end as well
    #[arg(long, value_name = "EVERY", help_heading = "Recipe")]
    pub save_every: Option<String>,
    /// Checkpoints written inside a pass to keep, the newest; the end of every pass is kept (epoch_N.pt)
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Recipe")]
    pub keep_checkpoints: u16,
    /// Make a run longer than it was begun: from its last checkpoint on the learning rate is that of the longer run
    #[arg(long, help_heading = "Recipe")]
    pub extend: bool,
    /// Lanes that the shards of a pass are dealt to [default: 16, or one for 256 samples of a batch where that is more; no more than shards]
    #[arg(long, help_heading = "Order")]
    pub lanes: Option<u32>,
    /// Kept samples a shuffle window holds at most [default: 8 batches and at least 2048]
    #[arg(long, help_heading = "Order")]
    pub window: Option<u32>,
    /// Bytes (decoded views and captions) a shuffle window holds at most, e.g. 512MiB [default: as many as its samples need]
    #[arg(long, help_heading = "Order")]
    pub window_bytes: Option<String>,
    /// Train without a shard that stays unavailable: its pass is not made up for, and the run goes on saying so (status 3)
    #[arg(long, help_heading = "Order")]
    pub skip_failed: bool,
    #[command(flatten)]
    pub judging: Judging,
    #[command(flatten)]
    pub running: Running,
}
