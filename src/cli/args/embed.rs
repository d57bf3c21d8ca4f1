//! Flags of `trommel embed`.

use std::path::PathBuf;

use clap::Args;

use super::groups::{ImageWeights, Machine, Output, Reading, SHARDS, Slice, Watched};

/// `trommel embed`.
#[derive(Debug, Args)]
#[command(after_help = SHARDS)]
pub struct EmbedArgs {
    /// Shards, one folder of class folders, or a set of CLIP_benchmark's (classes or captions)
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
    /// Samples a forward pass, 8 to 8192; always full, padded where it must [default: by model and memory on a card, 16 on a CPU]
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
    pub slice: Slice,
    #[command(flatten)]
    pub watched: Watched,
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub output: Output,
}
