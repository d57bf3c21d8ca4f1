//! Flags that several commands share.

use std::path::PathBuf;

use clap::Args;
use trommel_core::cores;
use trommel_decide::parse::forms;
use trommel_decode::DEFAULT_MAX_PIXELS;
use trommel_shard::names::IMAGE_KEYS;
use trommel_shard::plan::PlanSlice;

use crate::wrong_value::WrongValue;

/// What each rule that `--rule` takes does, for the end of a help text.
pub(super) const RULES: &str = "\
Rules, where s is a sample's similarity to a test point of any benchmark of the run, or of those behind @ alone:
  drop-over-radius[@B,..]  drops a sample iff s > r for any test point, r being that point's radius; near is another word for it
  drop-above:T[@B,..]      drops it iff its largest s is > T
  drop-from:T[@B,..]       drops it iff its largest s is >= T
  drop-below:T[@B,..]      drops it iff its largest s is < T
  random:P%                keeps P %: drops it iff the hash of seed, shard and key lies at or above P % of 2^64
What keeps an exact number (keep-nearest:N, random:N, ..) asks for a finished run: `trommel select RUN --rule R -o FILE.parquet`.";

/// Where it is told what SHARDS may be, for the end of a help text.
pub(crate) const SHARDS: &str = "`docs/shards.md` says what SHARDS may be and what they are called by.";

/// Where the numbers are made.
#[derive(Debug, Clone, Args)]
pub struct Compute {
    /// auto, cpu or cuda:N; auto takes the first GPU where one is visible
    #[arg(long, default_value = "auto", help_heading = "Machine")]
    pub device: String,
    /// Threads for decoding, joining and libtorch [default: the cores that affinity mask and quota leave, shared by its processes]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Machine")]
    pub threads: Option<u16>,
}

impl Compute {
    /// The threads that are given, or one for each core.
    #[must_use]
    pub fn threads_or_cores(&self) -> usize {
        threads_or_cores(self.threads)
    }
}

/// As many threads as are given, or one for each core.
#[must_use]
pub fn threads_or_cores(given: Option<u16>) -> usize {
    given.map_or_else(cores::usable, usize::from)
}

/// A dataflow's share of the machine.
#[derive(Debug, Clone, Args)]
pub struct Machine {
    #[command(flatten)]
    pub compute: Compute,
    /// Who decodes JPEGs: auto, cpu or card; the pixels are the same, and what a card does not take is the CPU's
    #[arg(long, default_value = "auto", value_parser = ["auto", "cpu", "card"], help_heading = "Machine")]
    pub decode: String,
    /// Dataflow workers [default: one for four cores, at most 8; in a run of several processes 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Machine")]
    pub workers: Option<u16>,
    /// Bound on the process's memory, e.g. 8GiB [default: half of what the control group or the machine has, shared]
    #[arg(long, help_heading = "Machine")]
    pub memory: Option<String>,
}

/// How a command is told, and how it tells.
#[derive(Debug, Clone, Args)]
pub struct Output {
    /// Print the result as one JSON line on stdout
    #[arg(long)]
    pub json: bool,
    /// Read options from a TOML file; unknown names are errors, flags win
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// What every command takes that judges. A command flattens what it reads, and no more: see `src/torch/flags.rs`.
#[derive(Debug, Clone, Args)]
pub struct Common {
    #[command(flatten)]
    pub machine: Machine,
    /// Seed of random rules, of order and of augmentation
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub output: Output,
}

/// How samples are read.
#[derive(Debug, Clone, Args)]
pub struct Reading {
    /// Extensions that hold the picture, in order of preference
    #[arg(long, default_value = IMAGE_KEYS, help_heading = "Reading")]
    pub image_key: String,
    /// Extension that holds the caption; the json's `caption` where it is missing
    #[arg(long, default_value = "txt", help_heading = "Reading")]
    pub text_key: String,
    /// Reject a sample with a repeated member instead of starting a new sample (shards; files of class folders repeat none)
    #[arg(long, help_heading = "Reading")]
    pub strict: bool,
    /// Keep truncated JPEGs, their rest grey
    #[arg(long, help_heading = "Reading")]
    pub load_truncated: bool,
    /// Largest picture accepted, in pixels. Decoding one may take 512 MiB at most, whatever stands here: a PNG of 8-bit RGB, which takes 10
    /// bytes a pixel, is refused above some 53 million pixels
    #[arg(long, default_value_t = DEFAULT_MAX_PIXELS, help_heading = "Reading")]
    pub max_pixels: u64,
    /// Share of rejected and lost samples, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = share_in_percent, help_heading = "Reading")]
    pub max_rejects: f64,
}

/// How much of the plan is read.
#[derive(Debug, Clone, Args)]
pub struct Slice {
    /// Only slice I of N of the plan (I from 0), as an independent task on a shared run folder
    #[arg(long, value_name = "I/N", help_heading = "Reading")]
    pub part: Option<PlanSlice>,
}

/// How a run can be watched.
#[derive(Debug, Clone, Args)]
pub struct Watched {
    /// Serve the counters of all processes to Prometheus at /metrics; on loopback unless an address is given, port 0 is any
    #[arg(long, value_name = "[ADDR:]PORT", help_heading = "Machine")]
    pub metrics: Option<String>,
}

/// Which model embeds.
#[derive(Debug, Clone, Args)]
pub struct Embedder {
    /// open_clip's name of the pruning model, or its JSON
    #[arg(long, default_value = "ViT-B-16-plus-240", help_heading = "Embedder")]
    pub embedder: String,
    /// Its weights (.safetensors, .pt)
    #[arg(long, value_name = "FILE", help_heading = "Embedder")]
    pub embedder_weights: Option<PathBuf>,
    /// The weights are a TorchScript module: run its code, which may do anything, in place of the named architecture
    #[arg(long, help_heading = "Embedder")]
    pub torchscript: bool,
    /// Random weights from this seed instead
    #[arg(long, value_name = "SEED", conflicts_with = "embedder_weights", help_heading = "Embedder")]
    pub random_init: Option<u64>,
    /// Model to assume for embeddings that name none (npy, clip-retrieval, DataComp), which are refused otherwise: your word that the
    /// benchmarks' model made them
    #[arg(long, value_name = "NAME", help_heading = "Embedder")]
    pub assume_model: Option<String>,
    /// f32, bf16, f16 or f16-mixed (residual sum in f32) [default: f16 on a card, f32 on a CPU]
    #[arg(long, value_name = "PRECISION", help_heading = "Embedder")]
    pub embed_precision: Option<String>,
    /// Samples a forward pass, 8 to 8192; always full, padded where it must [default: by model and memory on a card, 16 on a CPU]
    #[arg(long, value_parser = clap::value_parser!(u16).range(8..=8192), help_heading = "Embedder")]
    pub embed_batch: Option<u16>,
    /// Resume a run folder or a checkpoint whose device, card, precision, batch or threads differ
    #[arg(long, help_heading = "Embedder")]
    pub mix_numerics: bool,
}

/// What is judged against.
#[derive(Debug, Clone, Args)]
pub struct Against {
    /// A benchmark: embeddings (`trommel embed`, `trommel radii`, npy) or class folders of pictures
    #[arg(long = "benchmark", value_name = "NAME=DIR", help_heading = "Judging")]
    pub benchmarks: Vec<String>,
    /// A benchmark's picture that could not be embedded and may be missing; NAME/SHARD/KEY where several shards have the key
    #[arg(long, value_name = "NAME/KEY", help_heading = "Judging")]
    pub benchmark_without: Vec<String>,
    /// Where similarities are computed: cpu, device (the embedder's), or auto: there where it is a card and benchmarks are large; the
    /// answer is the same
    #[arg(long, default_value = "auto", help_heading = "Machine")]
    pub join: String,
}

/// What is judged against, by one rule. A watch has rules of its own, which may be several and change.
#[derive(Debug, Clone, Args)]
pub struct Judging {
    #[command(flatten)]
    pub against: Against,
    /// What is dropped
    #[arg(
        long,
        help = forms(|rule| !rule.policy().needs_ledger()),
        help_heading = "Judging"
    )]
    pub rule: Option<String>,
    /// all, or decision (faster: maxima are left null)
    #[arg(long, default_value = "all", help_heading = "Judging")]
    pub columns: String,
    /// Reports of the run blur its pictures until somebody clicks on them
    #[arg(long, help_heading = "Judging")]
    pub blur: bool,
    /// Do not keep the embeddings beside the ledger
    #[arg(long, help_heading = "Judging")]
    pub no_embeddings: bool,
}

/// What every run takes that reads, embeds and judges samples: prune, train and watch.
#[derive(Debug, Clone, Args)]
pub struct Running {
    #[command(flatten)]
    pub embedder: Embedder,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub watched: Watched,
    #[command(flatten)]
    pub common: Common,
}

/// Weights of a model that turns pictures into vectors.
#[derive(Debug, Args)]
pub struct ImageWeights {
    /// Its weights (.safetensors, .pt)
    #[arg(long, value_name = "FILE")]
    pub pretrained: Option<PathBuf>,
    /// The weights are a TorchScript module: run its code, which may do anything, in place of the named architecture
    #[arg(long)]
    pub torchscript: bool,
    /// Random weights from this seed instead
    #[arg(long, value_name = "SEED", conflicts_with = "pretrained")]
    pub random_init: Option<u64>,
}

/// How a ledger is read.
#[derive(Debug, Clone, Args)]
pub struct LedgerReading {
    /// A table with more columns: Parquet files, rows found by key or uid, @COLUMN=key, @COLUMN=uid, or by their place, @row
    #[arg(long = "table", value_name = "[NAME=]PATH[@HOW]")]
    pub tables: Vec<String>,
    /// Bound on the process's memory, e.g. 2GiB [default: half of what the control group or the machine has]
    #[arg(long, help_heading = "Machine")]
    pub memory: Option<String>,
    /// Threads that read [default: the cores that affinity mask and quota leave]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Machine")]
    pub threads: Option<u16>,
}

/// A share in percent. Of a number that is none, no share of losses would be above it.
pub fn share_in_percent(text: &str) -> Result<f64, WrongValue> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
        _ => Err("write a share in percent, 0 to 100".into()),
    }
}
