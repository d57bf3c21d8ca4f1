//! Flags of `trommel bench`.

use std::path::PathBuf;

use clap::Args;

use super::groups::{Compute, ImageWeights, Output};

/// A stage that can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// Views to canonical vectors
    Embed,
    /// Vectors to scores and to what test points saw: on the device, compared with the processor's to the bit
    Join,
    /// JPEGs to the embedder's views
    Decode,
    /// Batches to weights
    Train,
}

/// `trommel bench`.
#[derive(Debug, Args)]
#[command(
    mut_arg("device", |device| device.help("auto, cpu or cuda:N, of every stage; auto takes the first GPU where one is visible")),
    mut_arg("threads", |threads| {
        threads.help("embed, join and train: threads [default: the cores that affinity mask and quota leave]")
    })
)]
pub struct BenchArgs {
    /// The stage to measure
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
    /// Batches of the embedder on their way [default: 2 on a card; on a CPU 2 for each batch that it computes side by side, 1 where it
    /// computes one at a time, as it does where a number is given]
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
