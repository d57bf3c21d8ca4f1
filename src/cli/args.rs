//! The command line: names that scripts may rely on.

#![allow(missing_docs, reason = "a flag's help is its documentation; a flattened group has its own")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use trommel_decide::parse::forms;
use trommel_shard::names::IMAGE_KEYS;

/// Streams image-text shards through decode, CLIP embedding, similarity join and pruning, straight into a CLIP trainer.
#[derive(Debug, Parser)]
#[command(
    name = "trommel",
    version,
    args_override_self = true,
    after_help = "\
Exit status: 0 done; 1 failure; 2 wrong usage or input; 3 interrupted or shards unfinished (the same command resumes);
4 done, but more rejected or lost than --max-rejects."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once")]
pub enum Command {
    /// Make labelled demo shards, a reference set and benchmarks
    Synth(SynthArgs),
    /// Class folders as shards with captions, to join a pool: a labelled set, or copies of benchmark pictures on purpose
    Inject(InjectArgs),
    /// Embed shards or class folders
    Embed(EmbedArgs),
    /// Radii r_i of a benchmark's test points against a reference set
    Radii(RadiiArgs),
    /// Score every sample against benchmarks, decide, and write the ledger
    Prune(PruneArgs),
    /// Prune while streaming, and train CLIP on what is kept
    Train(Box<TrainArgs>),
    /// Follow shards, benchmarks, rules and takedowns as they change, and keep every decision right
    Watch(WatchArgs),
    /// Zero-shot accuracy of a checkpoint on class folders or CLIP_benchmark's tars
    Eval(EvalArgs),
    /// Other splits from a finished ledger: no pixels, no model
    Select(SelectArgs),
    /// Check a published split against a run of your own
    Verify(VerifyArgs),
    /// Near-duplicates inside a set, from its embeddings: no pixels, no model
    Dedup(DedupArgs),
    /// Kept samples with their original bytes, as a tar on standard output or as new shards: for any trainer
    Stream(StreamArgs),
    /// One stage alone, on what it makes itself: what it can reach here
    Bench(BenchArgs),
    /// One sample's fate
    Why(WhyArgs),
    /// A page about a run: what went, why, and the pictures
    Report(ReportArgs),
    /// One run of prune, embed or train as several processes; `docs/cluster.md`
    Launch(LaunchArgs),
    /// The whole method from one file, unattended: radii, one judged pool, every split, trainings, zero-shot, report
    Study(StudyArgs),
    /// All of it, small
    Demo(DemoArgs),
}

/// Where the numbers are made.
#[derive(Debug, Clone, Args)]
pub struct Compute {
    /// auto, cpu or cuda:N; auto takes a GPU where one is visible
    #[arg(long, default_value = "auto", help_heading = "Machine")]
    pub device: String,
    /// Threads for decoding, joining and libtorch [default: the machine's cores, shared by its processes]
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
    given.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
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

/// What every command takes that judges. A command flattens what it reads, and no more: see `commands/flags.rs`.
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
    /// Reject a sample with a repeated member instead of starting a new sample
    #[arg(long, help_heading = "Reading")]
    pub strict: bool,
    /// Keep truncated JPEGs, their rest grey
    #[arg(long, help_heading = "Reading")]
    pub load_truncated: bool,
    /// Largest picture accepted, in pixels
    #[arg(long, default_value_t = 89_478_485, help_heading = "Reading")]
    pub max_pixels: u64,
    /// Share of rejected and lost samples, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = percent, help_heading = "Reading")]
    pub max_rejects: f64,
    /// Only slice I of N of the plan (I from 0), as an independent task on a shared run folder
    #[arg(long, value_name = "I/N", help_heading = "Reading")]
    pub part: Option<String>,
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
    /// Identity to assume for embeddings that carry none (npy, clip-retrieval)
    #[arg(long, value_name = "NAME", help_heading = "Embedder")]
    pub assume_model: Option<String>,
    /// f32, bf16, f16 or f16-mixed (residual sum in f32) [default: f16 on a card, f32 on a CPU]
    #[arg(long, value_name = "PRECISION", help_heading = "Embedder")]
    pub embed_precision: Option<String>,
    /// Samples a forward pass; always full, padded where it must [default: by model and memory on a card, 16 on a CPU]
    #[arg(long, value_parser = clap::value_parser!(u16).range(8..=8192), help_heading = "Embedder")]
    pub embed_batch: Option<u16>,
    /// Resume a run folder or a checkpoint whose device, card, precision, batch or threads differ
    #[arg(long, help_heading = "Embedder")]
    pub mix_numerics: bool,
}

/// What is judged against, and how.
#[derive(Debug, Clone, Args)]
pub struct Judging {
    /// A benchmark: embeddings (`trommel embed`, `trommel radii`, npy) or class folders of pictures
    #[arg(long = "benchmark", value_name = "NAME=DIR", help_heading = "Judging")]
    pub benchmarks: Vec<String>,
    /// A benchmark's picture that could not be embedded and may be missing
    #[arg(long, value_name = "NAME/KEY", help_heading = "Judging")]
    pub benchmark_without: Vec<String>,
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
    /// Do not keep the embeddings beside the ledger
    #[arg(long, help_heading = "Judging")]
    pub no_embeddings: bool,
    /// Where similarities are computed: cpu, device (the embedder's), or auto: there where it is a card and benchmarks are large; the
    /// answer is the same
    #[arg(long, default_value = "auto", help_heading = "Machine")]
    pub join: String,
}

/// `trommel synth`.
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// Folder to make
    pub out: PathBuf,
    /// Number of shards
    #[arg(long)]
    pub shards: Option<u32>,
    /// Samples a shard
    #[arg(long)]
    pub samples: Option<u32>,
    /// Pictures a class in the reference set
    #[arg(long, value_name = "N")]
    pub reference_pictures: Option<u32>,
    /// Pictures a class in each benchmark
    #[arg(long, value_name = "N")]
    pub benchmark_pictures: Option<u32>,
    /// Seed: equal seeds give equal bytes
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print the result as one JSON line on stdout
    #[arg(long)]
    pub json: bool,
}

/// `trommel inject`.
#[derive(Debug, Args)]
#[command(after_help = "\
What it writes is SHARDS like others:   trommel train 'laion/*.tar' 'reference=injected/*.tar' ..
In the ledger, injected samples bear the shard's name and the url injected:NAME/CLASS/FILE#COPY. A mix of exact numbers:
  trommel select RUN -o mix.parquet --rule '(random:90000 of not where:shard~reference/) or (random:10000 of where:shard~reference/)'")]
pub struct InjectArgs {
    /// Class folders of pictures, or CLIP_benchmark's tars
    pub folder: PathBuf,
    /// Folder for the shards
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// What the set is called in keys, uids and URLs [default: the folder's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Caption, with the class where {class} stands
    #[arg(long, default_value = trommel_pipelines::inject::CAPTION)]
    pub caption: String,
    /// Class names in the order of the sorted folders, one a line or a JSON list [default: the folders' names]
    #[arg(long, value_name = "FILE")]
    pub classnames: Option<PathBuf>,
    /// Class names by folder, FOLDER NAME a line or a JSON object: as many as there are, of which those with a folder are the classes
    #[arg(long, value_name = "FILE", conflicts_with = "classnames")]
    pub class_table: Option<PathBuf>,
    /// How many of the pictures, a number or a share (10%), drawn by --seed [default: all]
    #[arg(long, value_name = "N|P%")]
    pub items: Option<String>,
    /// Copies of each
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub copies: u32,
    /// Seed of the draw
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Samples of a shard
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub shard_samples: u32,
    /// Print the result as one JSON line on stdout
    #[arg(long)]
    pub json: bool,
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

/// `trommel embed`.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// Shards, one folder of class folders, or a set of CLIP_benchmark's
    #[arg(required = true)]
    pub input: Vec<String>,
    /// Folder for the embeddings
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// open_clip's name of the model, or its JSON
    #[arg(long)]
    pub model: String,
    #[command(flatten)]
    pub weights: ImageWeights,
    /// f32, bf16, f16 or f16-mixed (residual sum in f32) [default: f16 on a card, f32 on a CPU]
    #[arg(long, value_name = "PRECISION")]
    pub embed_precision: Option<String>,
    /// Samples a forward pass; always full, padded where it must [default: by model and memory on a card, 16 on a CPU]
    #[arg(long, value_parser = clap::value_parser!(u16).range(8..=8192))]
    pub embed_batch: Option<u16>,
    /// arrow, or npy (clip-retrieval's layout)
    #[arg(long, default_value = "arrow")]
    pub format: String,
    /// Resume a folder whose device, precision or batch differs
    #[arg(long)]
    pub mix_numerics: bool,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub watched: Watched,
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub output: Output,
}

/// `trommel radii`.
#[derive(Debug, Args)]
pub struct RadiiArgs {
    /// A reference set: embeddings, or a folder of pictures, which are embedded into OUT/embedded; of several, radii are those to all together
    #[arg(long = "reference", value_name = "[NAME=]DIR", required = true)]
    pub references: Vec<String>,
    #[command(flatten)]
    pub embedder: Embedder,
    /// A benchmark: embeddings, or a folder of pictures, which are embedded into OUT/embedded
    #[arg(long = "benchmark", value_name = "NAME=DIR", required = true)]
    pub benchmarks: Vec<String>,
    /// A benchmark's picture that could not be embedded and may be missing
    #[arg(long, value_name = "NAME/KEY")]
    pub benchmark_without: Vec<String>,
    /// Share of reference pictures and rows that cannot be used, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = percent)]
    pub max_rejects: f64,
    /// Each benchmark with its radii goes to DIR/NAME
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub output: Output,
}

/// A stage that can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// Views to canonical vectors
    Embed,
    /// Vectors to scores and to what test points saw: on the device, compared with the processor's to the bit
    Join,
    /// JPEGs to views
    Decode,
    /// Batches to weights
    Train,
}

/// `trommel bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Which stage
    #[arg(long, value_enum)]
    pub stage: Stage,
    /// open_clip's name of the model, or its JSON; for embed and train
    #[arg(long, required_if_eq_any([("stage", "embed"), ("stage", "train")]))]
    pub model: Option<String>,
    /// decode: a folder of pictures, or a tar with some
    #[arg(long, value_name = "PATH", required_if_eq("stage", "decode"))]
    pub pictures: Option<PathBuf>,
    /// decode: side of the views
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub view: u16,
    #[command(flatten)]
    pub weights: ImageWeights,
    /// join: test points
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub points: u32,
    /// join: elements of a vector
    #[arg(long, default_value_t = 640, value_parser = clap::value_parser!(u16).range(1..))]
    pub dim: u16,
    /// join: vectors that are compared with the processor's
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: u32,
    /// embed: f32, bf16, f16 or f16-mixed [default: f16 on a card, f32 on a CPU]; train: f32 or bf16 [default: bf16]
    #[arg(long)]
    pub precision: Option<String>,
    /// Samples a forward pass [default: by model and memory on a card, 16 on a CPU], or a step [default: 1024]
    #[arg(long, value_parser = clap::value_parser!(u16).range(2..=8192))]
    pub batch: Option<u16>,
    /// Batches of the embedder on their way [default: 2 on a card, 1 on a CPU]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub in_flight: Option<u16>,
    /// Time for each figure of the embedder, the join or decoding, in seconds
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Steps timed, for each figure of the trainer
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    pub steps: u16,
    /// Measure the other ways to compute the same as well
    #[arg(long)]
    pub variants: bool,
    #[command(flatten)]
    pub compute: Compute,
    #[command(flatten)]
    pub output: Output,
}

/// `trommel prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Shards, one folder of class folders, or stored embeddings (a run of `trommel embed`, clip-retrieval's folder, DataComp's .npz, .npy)
    #[arg(required = true)]
    pub shards: Vec<String>,
    /// The run's folder: made, or resumed
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    #[command(flatten)]
    pub judging: Judging,
    #[command(flatten)]
    pub embedder: Embedder,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub watched: Watched,
    #[command(flatten)]
    pub common: Common,
}

/// `trommel train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Shards [default: those of --decisions]
    #[arg(required_unless_present = "decisions")]
    pub shards: Vec<String>,
    /// Take over the decisions of a finished run folder, or of a watch (RUN/current/SPLIT), instead of judging
    #[arg(long, value_name = "DIR", conflicts_with_all = ["benchmarks", "rule"])]
    pub decisions: Option<PathBuf>,
    /// Train on a split of `trommel select` (NAME.parquet), instead of judging
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
    /// Global batch
    #[arg(long)]
    pub batch: u32,
    /// Length of the run in optimiser steps
    #[arg(long, group = "length")]
    pub steps: Option<u64>,
    /// Length in passes over the data
    #[arg(long, group = "length")]
    pub passes: Option<u32>,
    /// Samples of a pass, before the rule [default: what the ledger, _stats.json, sizes.json or __len__ say]
    #[arg(long, value_name = "N")]
    pub train_num_samples: Option<u64>,
    /// Length in samples trained on, in total
    #[arg(long, group = "length")]
    pub samples: Option<u64>,
    /// Peak learning rate
    #[arg(long, default_value_t = 5e-4, help_heading = "Recipe")]
    pub lr: f64,
    /// AdamW's beta1
    #[arg(long, default_value_t = 0.9, help_heading = "Recipe")]
    pub beta1: f64,
    /// AdamW's beta2
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
    /// Clip the gradient's norm
    #[arg(long, value_name = "NORM", help_heading = "Recipe")]
    pub grad_clip_norm: Option<f64>,
    /// Gradient accumulation: parts a batch is split into
    #[arg(long, default_value_t = 1, help_heading = "Recipe")]
    pub accum_freq: u32,
    /// f32, or bf16 (autocast)
    #[arg(long, default_value = "bf16", help_heading = "Recipe")]
    pub precision: String,
    /// Captions' padding in the text tower: none computes the tokens up to the end token, with the same gradients; full computes all
    /// [default: as the run was begun; none for a new one, where the model allows it]
    #[arg(long, value_name = "none|full", help_heading = "Recipe")]
    pub text_padding: Option<String>,
    /// Save a checkpoint every 30m, 2000steps (or 2000), 1e6samples; always at the end
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
    /// Bytes (decoded views and captions) a shuffle window holds at most [default: as many as its samples need]
    #[arg(long, help_heading = "Order")]
    pub window_bytes: Option<String>,
    /// Train without a shard that stays unavailable
    #[arg(long, help_heading = "Order")]
    pub skip_failed: bool,
    #[command(flatten)]
    pub judging: Judging,
    #[command(flatten)]
    pub embedder: Embedder,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub watched: Watched,
    #[command(flatten)]
    pub common: Common,
}

/// `trommel watch`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Benchmarks, rules and takedown lists are inputs like the shards: change their files, or the --config file that names them, and
the watch follows; or stop it and start it with others. `docs/streaming.md` explains the rest.")]
pub struct WatchArgs {
    /// Folders, globs, braces, or list files of such words
    #[arg(required = true, value_name = "PREFIX")]
    pub prefixes: Vec<String>,
    /// The watch's folder: made, or gone on with; RUN/current is the newest epoch
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Take in what is there, decide, and end: for cron and sbatch
    #[arg(long)]
    pub once: bool,
    /// A shard without img2dataset's _stats.json is complete when it has not changed for so long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::duration::parse)]
    pub settle: Duration,
    /// Time between looks where the file system notifies of nothing
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = crate::duration::parse)]
    pub poll: Duration,
    /// A shard whose file goes is withdrawn [default: what is known of it stays]
    #[arg(long)]
    pub withdraw_missing: bool,
    /// Published epochs to keep
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub keep_epochs: u16,
    /// A benchmark: embeddings (`trommel embed`, `trommel radii`, npy) or class folders of pictures
    #[arg(long = "benchmark", value_name = "NAME=DIR", help_heading = "Judging")]
    pub benchmarks: Vec<String>,
    /// A benchmark's picture that could not be embedded and may be missing
    #[arg(long, value_name = "NAME/KEY", help_heading = "Judging")]
    pub benchmark_without: Vec<String>,
    /// What is dropped: one split, named main
    #[arg(
        long,
        help = forms(|rule| rule.policy().condition().is_some()) + ": one split, named main",
        help_heading = "Judging"
    )]
    pub rule: Option<String>,
    /// Several splits side by side
    #[arg(long = "split", value_name = "NAME=RULE", conflicts_with = "rule", help_heading = "Judging")]
    pub splits: Vec<String>,
    /// Keep a trainer fed meanwhile: options of `trommel train` (model, batch, steps, ..) as TOML; it writes into RUN/train
    #[arg(long, value_name = "FILE.toml", help_heading = "Training")]
    pub train: Option<PathBuf>,
    /// The split that it is fed with [default: the only one]
    #[arg(long, value_name = "NAME", requires = "train", help_heading = "Training")]
    pub train_split: Option<String>,
    /// Where similarities are computed: cpu, device (the embedder's), or auto: there where it is a card and benchmarks are large; the
    /// answer is the same
    #[arg(long, default_value = "auto", help_heading = "Machine")]
    pub join: String,
    /// Samples to take down in all splits: a key, SHARD/KEY, uid, URL or sha256 a line
    #[arg(long = "takedown", value_name = "FILE", help_heading = "Judging")]
    pub takedowns: Vec<PathBuf>,
    /// Which of these flags the --config file has given, and may give otherwise later
    #[arg(long, hide = true)]
    pub from_config: Vec<String>,
    #[command(flatten)]
    pub embedder: Embedder,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub watched: Watched,
    #[command(flatten)]
    pub common: Common,
}

/// `trommel eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Checkpoint folder or weights file
    pub checkpoint: PathBuf,
    /// Class folders of pictures, or a set of CLIP_benchmark's: ROOT with classnames.txt and test/0.tar.., or ROOT/train
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// open_clip's name of the model [default: the checkpoint's]
    #[arg(long)]
    pub model: Option<String>,
    /// Class names in the order of the folders (sorted, by number where all are numbers) or of the classes' numbers, one a line or a JSON list
    /// [default: classnames.txt of a set, the folders' names]
    #[arg(long, value_name = "FILE")]
    pub classnames: Option<PathBuf>,
    /// Class names by folder, FOLDER NAME a line or a JSON object: as many as there are, of which those with a folder are the classes
    #[arg(long, value_name = "FILE", conflicts_with = "classnames")]
    pub class_table: Option<PathBuf>,
    /// Templates with `{}` or `{c}` for the class, one a line or a JSON list [default: those of a set, `a photo of a {}.`]
    #[arg(long, value_name = "FILE")]
    pub templates: Option<PathBuf>,
    /// Labelled pictures of the same classes, to fit a linear probe on their features
    #[arg(long, value_name = "DIR")]
    pub probe: Option<PathBuf>,
    /// Fit it on K pictures of each class, drawn by a seeded hash [default: all]
    #[arg(long, value_name = "K", requires = "probe", value_parser = clap::value_parser!(u16).range(1..))]
    pub shots: Option<u16>,
    /// Seed of the draw [default: 0]
    #[arg(long, requires = "shots")]
    pub seed: Option<u64>,
    /// Inverse strength of the probe's regularisation, scikit-learn's C [default: 0.316, CLIP's]
    #[arg(long, value_name = "C", requires = "probe", value_parser = positive)]
    pub probe_c: Option<f64>,
    /// Accuracy against each picture's similarity to its nearest training picture: a benchmark with radii, or RUN@NAME for the pool
    /// of a run that judged the benchmark NAME
    #[arg(long, value_name = "DIR|RUN@NAME")]
    pub nearest: Option<String>,
    /// Share of pictures that cannot be decoded, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = percent)]
    pub max_rejects: f64,
    #[command(flatten)]
    pub compute: Compute,
    #[command(flatten)]
    pub output: Output,
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
    /// Threads that read [default: the machine's cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Machine")]
    pub threads: Option<u16>,
}

/// `trommel select`.
#[derive(Debug, Args)]
#[command(after_help = "\
Rules are put together with and, or, minus, not, of, per, parentheses, and the names of earlier rules:
  --rule clean='drop-over-radius minus where:caption~watermark'   --rule core='far:100000000 of clean'
  --rule even='random:500 per class of clean'                     --rule cell='not (where:class=dog and where:domain=sketch)'
`of` asks a rule of some samples only, `per` keeps the exact number of each value of a column. Columns are those of the ledger
and of --table's, and `folder`, the first folder in a sample's key. Ties at an exact number go to the smaller (shard, index).")]
pub struct SelectArgs {
    /// A finished run folder, or a split of a watch (RUN/current/SPLIT)
    pub run: PathBuf,
    /// Who is kept; several rules make several splits from one reading, and each then has a name
    #[arg(
        long = "rule",
        value_name = "[NAME=]RULE",
        required = true,
        help = format!("Who is kept; several rules make several splits from one reading, and each then has a name: {}", forms(|_| true))
    )]
    pub rules: Vec<String>,
    /// One split: a file .parquet (shard, key, index), .npy (DataComp's uids) or .txt (SHARD/KEY a line); else a folder for them
    #[arg(short, long, value_name = "FILE|DIR")]
    pub out: PathBuf,
    /// Files of each split in a folder; parquet unless given
    #[arg(long = "format", value_name = "parquet,npy,txt", value_delimiter = ',')]
    pub formats: Vec<String>,
    /// A shard of the plan that is left out, by its name: one that is not judged, say
    #[arg(long, value_name = "SHARD")]
    pub without: Vec<String>,
    /// Seed of random rules
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub reading: LedgerReading,
    #[command(flatten)]
    pub output: Output,
}

/// `trommel verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A split: its .split.json, or its .parquet
    pub split: PathBuf,
    /// A run folder over the same shards
    pub run: PathBuf,
    /// Samples to name of those that differ
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub show: usize,
    #[command(flatten)]
    pub reading: LedgerReading,
    #[command(flatten)]
    pub output: Output,
}

/// `trommel dedup`.
#[derive(Debug, Args)]
#[command(after_help = "\
A sample goes iff its similarity to a sample before it is strictly above --above, and the most similar of these is named as the reason:
  trommel dedup RUN --above 0.95 -o DIR                           all pairs
  trommel dedup RUN --above 0.876 --clusters 50000 -o DIR         pairs inside clusters (SemDeDup)
  trommel dedup TEST --against TRAIN --above 0.95 -o DIR          samples of TEST that lie near one of TRAIN
DIR gets dedup.parquet, the split of who stays; dedup.duplicates.parquet, who goes and because of whom; dedup.samples.parquet, which of
all samples stay, in which cluster: a --table of `trommel select`, for quotas per cluster and rules like 'near and where:kept=1'.
Files are seen when they are whole; a run that is killed leaves none, and the same command does it anew.")]
pub struct DedupArgs {
    /// Stored embeddings: a run of embed or prune, clip-retrieval's or DataComp's folder, .arrow, .npy or .npz files; together they are one set
    #[arg(required = true, value_name = "EMB")]
    pub input: Vec<String>,
    /// A cosine; a sample strictly above it is a duplicate
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub above: f64,
    /// A file .parquet (shard, key, index), .npy (DataComp's uids) or .txt (SHARD/KEY a line); else a folder for dedup.parquet
    #[arg(short, long, value_name = "FILE|DIR")]
    pub out: PathBuf,
    /// Files of the split in a folder; parquet unless given
    #[arg(long = "format", value_name = "parquet,npy,txt", value_delimiter = ',')]
    pub formats: Vec<String>,
    /// Only samples that a split keeps take part: .parquet (or .split.json), .txt with its .split.json, or a run folder
    #[arg(long, value_name = "FILE")]
    pub split: Option<PathBuf>,
    /// Samples of other embeddings: whoever lies near one of them goes, and the set itself is not compared with itself
    #[arg(long, value_name = "EMB", conflicts_with_all = ["clusters", "greedy", "exact"])]
    pub against: Vec<String>,
    /// Who comes first, and stays: plan, random, centroid-far or centroid-near
    #[arg(long, default_value = "plan")]
    pub order: String,
    /// Only samples that stay make others go; without it those that go do so too, as in SemDeDup
    #[arg(long)]
    pub greedy: bool,
    /// Compare all pairs, even if that is more than 1e15 operations
    #[arg(long, conflicts_with = "clusters")]
    pub exact: bool,
    /// Compare only inside the clusters of a k-means with so many centres
    #[arg(long, value_name = "K", help_heading = "Clusters")]
    pub clusters: Option<usize>,
    /// First centres are samples of which no two lie above this cosine
    #[arg(long, value_name = "T", default_value_t = 0.9, requires = "clusters", help_heading = "Clusters")]
    pub apart: f64,
    /// Most rounds
    #[arg(long, value_name = "N", default_value_t = 100, requires = "clusters", help_heading = "Clusters")]
    pub iterations: usize,
    /// Share of the samples; when less have moved in a round, it was the last
    #[arg(long, value_name = "SHARE", default_value_t = 1e-7, requires = "clusters", help_heading = "Clusters")]
    pub moved: f64,
    /// Learn the centres from so many samples, drawn by the seed [default: all]
    #[arg(long, value_name = "N", requires = "clusters", help_heading = "Clusters")]
    pub sample: Option<usize>,
    /// Mini-batches: each round draws so many samples [default: all that are learnt from]
    #[arg(long, value_name = "N", requires = "clusters", help_heading = "Clusters")]
    pub batch: Option<usize>,
    /// Centres are directions, nearest by cosine [default: means, nearest by Euclidean distance]
    #[arg(long, requires = "clusters", help_heading = "Clusters")]
    pub spherical: bool,
    /// Compare all pairs as well, to say how many duplicates the clusters have found
    #[arg(long, requires = "clusters", help_heading = "Clusters")]
    pub check_recall: bool,
    /// Seed of centres, samples, batches and of the random order
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Identity to assume for embeddings that carry none (npy, clip-retrieval)
    #[arg(long, value_name = "NAME")]
    pub assume_model: Option<String>,
    /// Share of rows that cannot be used, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = percent)]
    pub max_rejects: f64,
    /// Bound on the process's memory, e.g. 2GiB [default: half of what the control group or the machine has]
    #[arg(long, help_heading = "Machine")]
    pub memory: Option<String>,
    /// Threads [default: the machine's cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Machine")]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub output: Output,
}

/// `trommel stream`.
#[derive(Debug, Args)]
#[command(after_help = "\
As a trainer's own data, one process a shard:
  --train-data 'pipe:trommel stream shards/{00000..00099}.tar --split s.parquet'   (with --train-num-samples)
Samples come in the order of the plan, each member as it stands: names, contents, whatever it is. Nothing is decoded.")]
pub struct StreamArgs {
    /// Shards, in the order in which they are read
    #[arg(required = true)]
    pub shards: Vec<String>,
    /// Keep whom a split keeps: .parquet (or .split.json), .txt (SHARD/KEY a line) or .npy (DataComp's uids)
    #[arg(long, value_name = "FILE", required_unless_present_any = ["run", "rule"], conflicts_with_all = ["run", "rule"])]
    pub split: Option<PathBuf>,
    /// Keep whom a run keeps
    #[arg(long, value_name = "RUN", conflicts_with = "rule")]
    pub run: Option<PathBuf>,
    /// Keep a share by the seeded hash of shard and key: random:P%
    #[arg(long, value_name = "random:P%")]
    pub rule: Option<String>,
    /// Seed of the share
    #[arg(long, default_value_t = 0, conflicts_with_all = ["split", "run"])]
    pub seed: u64,
    /// Write new shards into a folder, with sizes.json and _stats.json [default: one tar on standard output]
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Samples of a new shard
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "out", value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_samples: u64,
    /// Share of lost samples, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = percent)]
    pub max_rejects: f64,
    /// Print the result as one JSON line on stdout
    #[arg(long, requires = "out")]
    pub json: bool,
}

/// `trommel why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// A run folder
    pub run: PathBuf,
    /// A sample's key, or SHARD/KEY
    pub key: String,
    /// Print rows as JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `trommel report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A run folder
    pub run: PathBuf,
    /// The page to write (.html), or the picture (.svg)
    #[arg(short, long, value_name = "FILE")]
    pub out: PathBuf,
    /// The page's tables too, as CSV and LaTeX
    #[arg(long, value_name = "DIR")]
    pub tables: Option<PathBuf>,
    /// Another run over the same shards: who changes sides
    #[arg(long, value_name = "RUN")]
    pub against: Option<PathBuf>,
    /// Pictures are blurred until somebody clicks on them
    #[arg(long)]
    pub blur: bool,
}

/// `trommel launch`.
#[derive(Debug, Args)]
#[command(after_help = "\
On this machine:   trommel launch --local 2 -- prune SHARDS --run DIR ..
On several:        trommel launch --processes 4 --process I --hostfile FILE -- train SHARDS --run DIR ..
                   (the same on each, I from 0; the run folder is shared)
Under srun and torchrun `trommel prune|embed|train` finds its place by itself: leave out `launch`.")]
pub struct LaunchArgs {
    /// Start N processes on this machine
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=256),
        conflicts_with_all = ["processes", "process", "hostfile", "coordinator", "listen", "run_id"]
    )]
    pub local: Option<u16>,
    /// Processes of the run [default: the hostfile's lines]
    #[arg(long, value_name = "N")]
    pub processes: Option<usize>,
    /// Which of them this is, from 0
    #[arg(long, value_name = "I")]
    pub process: Option<usize>,
    /// One HOST or HOST:PORT a line, in the order of the processes
    #[arg(long, value_name = "FILE", conflicts_with = "coordinator")]
    pub hostfile: Option<PathBuf>,
    /// Process 0's address, instead of a hostfile
    #[arg(long, value_name = "HOST:PORT")]
    pub coordinator: Option<String>,
    /// This process's own address [default: the hostfile's, else any port of the address that reaches process 0]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Equal in all processes of this run and in no other [default: process 0's address]
    #[arg(long, value_name = "TEXT")]
    pub run_id: Option<String>,
    /// Seconds to wait for all processes at the start [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = crate::launch::seconds)]
    pub start_timeout: Option<Duration>,
    /// Seconds after which a silent process is given up [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = crate::launch::seconds)]
    pub silence: Option<Duration>,
    /// Seconds that shards in flight may take to finish after the first signal [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = crate::launch::seconds)]
    pub grace: Option<Duration>,
    /// prune, embed or train, with what belongs to it
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `trommel study`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file says what is studied (`examples/study.toml` has all fields); its paths are relative to its folder. The same command goes on after
anything. In a folder that was begun, seeds, ladder, core and similarity_bin may change; another setting, device or number of threads
wants another folder.")]
pub struct StudyArgs {
    /// What is studied, as TOML
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// The study's folder: made, or gone on with; RUN/report/index.html is what it found
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Share of rejected and lost samples of the pool, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = percent)]
    pub max_rejects: f64,
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub output: Output,
}

/// `trommel demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for all of it
    #[arg(short, long, value_name = "DIR", default_value = "trommel-demo")]
    pub out: PathBuf,
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub output: Output,
}

/// A number above 0.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("write a number above 0".into()),
    }
}

/// A share in percent. Of a number that is none, no share of losses would be above it.
fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
        _ => Err("write a share in percent, 0 to 100".into()),
    }
}
