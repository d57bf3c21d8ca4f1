//! What the pipelines are told: plain values, parsed by whoever calls.

use std::net::TcpListener;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trommel_cluster::ClusterConfig;
use trommel_core::cores::Cores;
use trommel_decide::join::ColumnSet;
use trommel_decode::Limits;
use trommel_ledger::run_folder::CONFIG_FILE;
use trommel_shard::plan::Plan;
use trommel_shard::samples::GroupConfig;
use trommel_shard::store::Stores;

use crate::benchmarks::NamedPath;
use crate::error::PipelineError;
use crate::gauges::Gauges;
use crate::process_end::Ending;

/// Who decodes pictures. The pixels are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecodeOn {
    /// A card, where models compute on one whose decoder gives the CPU's pixels; it leaves to the CPU what it does not take.
    #[default]
    Auto,
    /// The CPU decodes everything.
    Cpu,
    /// A card, or an error; it leaves to the CPU what it does not take.
    Card,
}

/// The machine's share in a run: none of it changes a decision.
#[derive(Clone, Debug)]
pub struct Machine {
    /// `auto`, `cpu` or `cuda:N`.
    pub device: String,
    /// Whether a card may decode.
    pub decode: DecodeOn,
    /// Dataflow workers.
    pub workers: usize,
    /// What the process may use of the machine's cores.
    pub cores: Cores,
    /// Its own share of those, beside the run's other processes on this machine.
    pub own_cores: usize,
    /// Threads for decoding, joining and libtorch.
    pub threads: usize,
    /// Processes of the run that compute on this one's card, itself among them: they share its memory.
    pub card_processes: usize,
    /// Variables of OpenMP, `NAME=VALUE`, by which somebody has said how libtorch's idle threads wait; none: they sleep.
    pub waiting: Vec<String>,
    /// Bound on the process's memory, in bytes.
    pub memory_bytes: u64,
}

impl Machine {
    /// Threads that read so many shards.
    #[must_use]
    pub fn readers(&self, shards: usize) -> usize {
        self.workers.max(2).min(shards.max(1))
    }
}

/// Where similarities are computed. The answer is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JoinOn {
    /// On the embedder's device where that is a card and the benchmarks are large, else on the processor.
    #[default]
    Auto,
    /// On the processor.
    Cpu,
    /// On the embedder's device, whatever it is.
    Device,
}

impl FromStr for JoinOn {
    type Err = PipelineError;

    fn from_str(text: &str) -> Result<Self, PipelineError> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "device" => Ok(Self::Device),
            other => Err(PipelineError::usage(format!("--join {other}: write auto, cpu or device"))),
        }
    }
}

/// Which model embeds, and how.
#[derive(Clone, Debug)]
pub struct EmbedderConfig {
    /// open_clip's name, or its JSON.
    pub name: String,
    /// File of its weights; `None` where they are random.
    pub weights: Option<PathBuf>,
    /// The weights are a TorchScript module whose code is to be run.
    pub torchscript: bool,
    /// Random weights from this seed instead.
    pub random_init: Option<u64>,
    /// Identity vouched for where files carry none.
    pub assume_model: Option<String>,
    /// `f32`, `bf16`, `f16` or `f16-mixed`; `None`: as the device is best at.
    pub precision: Option<String>,
    /// Samples a forward pass, at least 8; `None`: as model and device are best at.
    pub batch: Option<usize>,
    /// The flag that names weights, for messages: `--embedder-weights` or `--pretrained`.
    pub weights_flag: &'static str,
}

/// How samples are read.
#[derive(Clone, Debug)]
pub struct ReadingConfig {
    /// Extensions that hold the picture, in order of preference, `;` between.
    pub image_key: String,
    /// Extension that holds the caption.
    pub text_key: String,
    /// A repeated member rejects the sample instead of starting a new one.
    pub strict: bool,
    /// Truncated JPEGs are kept.
    pub load_truncated: bool,
    /// Largest picture accepted, in pixels.
    pub max_pixels: u64,
    /// Slice (I, N) of the plan.
    pub part: Option<(u64, u64)>,
    /// Where shards are found and opened.
    pub stores: Stores,
}

impl Default for ReadingConfig {
    fn default() -> Self {
        Self {
            image_key: GroupConfig::default().image_keys.join(";"),
            text_key: GroupConfig::default().text_keys.join(";"),
            strict: false,
            load_truncated: false,
            max_pixels: Limits::default().max_pixels,
            part: None,
            stores: Stores::default(),
        }
    }
}

/// What a judging run is told.
#[derive(Clone, Debug)]
pub struct JudgeConfig {
    /// Shards as written on the command line.
    pub shards: Vec<String>,
    /// A plan made elsewhere, instead of `shards`.
    pub plan: Option<Arc<Plan>>,
    /// The run's folder.
    pub run: PathBuf,
    /// Benchmarks, in order.
    pub benchmarks: Vec<NamedPath>,
    /// The rule; `None` keeps everything.
    pub rule: Option<String>,
    /// Seed of `random` rules.
    pub rule_seed: u64,
    /// Where similarities are computed.
    pub join: JoinOn,
    /// Which columns are filled.
    pub columns: ColumnSet,
    /// Embeddings are kept beside the ledger.
    pub keep_embeddings: bool,
    /// The embedder, which makes the canonical vectors.
    pub embedder: EmbedderConfig,
    /// Embed even where no rule or benchmark asks for it.
    pub always_embed: bool,
    /// How samples are read.
    pub reading: ReadingConfig,
    /// Reports of the run blur pictures until somebody clicks on them.
    pub blur: bool,
    /// A run folder of another device, precision or batch may be resumed.
    pub mix_numerics: bool,
    /// Device, threads and memory.
    pub machine: Machine,
    /// This process's seat among several; `None`: it works alone.
    pub cluster: Option<ClusterSeat>,
    /// Where pools, embedder and credit show how they stand.
    pub gauges: Gauges,
}

impl JudgeConfig {
    /// A run by itself into the folder `run` that keeps every sample with its embedding, judged against nothing.
    #[must_use]
    pub fn keeping_all(shards: Vec<String>, run: PathBuf, embedder: EmbedderConfig, machine: Machine) -> Self {
        Self {
            shards,
            plan: None,
            run,
            benchmarks: Vec::new(),
            rule: None,
            rule_seed: 0,
            join: JoinOn::Auto,
            columns: ColumnSet::All,
            keep_embeddings: true,
            embedder,
            always_embed: false,
            reading: ReadingConfig::default(),
            blur: false,
            mix_numerics: false,
            machine,
            cluster: None,
            gauges: Gauges::default(),
        }
    }

    /// Threads that will read at least, of a plan of so many shards. Of a run that goes on, or of a slice, nobody knows before its folder is open
    /// how many of them are left to judge.
    #[must_use]
    pub fn least_readers(&self, shards: usize) -> usize {
        let is_all = self.reading.part.is_none() && !self.run.join(CONFIG_FILE).exists();
        self.machine.readers(if is_all { shards } else { 1 })
    }
}

/// How long shards in flight may take to finish after the first signal, where nobody says otherwise.
pub const GRACE: Duration = Duration::from_secs(30);

/// A process's seat among the processes of a run.
#[derive(Clone, Debug)]
pub struct ClusterSeat {
    /// How it finds the others.
    pub config: ClusterConfig,
    /// A listener that is there already, on process 0 of a local launch; whoever joins the cluster takes it.
    pub listener: Arc<Mutex<Option<TcpListener>>>,
    /// Processes of the run on this machine.
    pub local_processes: usize,
    /// How long shards in flight may take to finish after a signal.
    pub grace: Duration,
    /// NCCL's library; `None`: what the system's loader finds.
    pub nccl: Option<PathBuf>,
    /// How the process ends where the others would wait for it.
    pub ending: Arc<Ending>,
}
