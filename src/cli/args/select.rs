//! Flags of `trommel select`.

use std::path::PathBuf;

use clap::Args;
use trommel_decide::parse::forms;

use super::groups::{LedgerReading, Output};

/// `trommel select`.
#[derive(Debug, Args)]
#[command(after_help = "\
Rules are put together with and, or, minus, not, of, per, by, parentheses, and the names of earlier rules:
  --rule clean='drop-over-radius minus where:caption~watermark'   --rule core='far:100000000 of clean'
  --rule even='random:500 per class of clean'                     --rule cell='not (where:class=dog and where:domain=sketch)'
`of` asks a rule of some samples only, `per` keeps the exact number of each value of a column, `per C by W` keeps it in all, dealt to the
values of C in proportion to their W (clusters by their complexity, which `trommel dedup` has). Columns are those of the ledger
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
    /// One split: a file .parquet (shard, key, index), .npy (DataComp's uids), .txt (SHARD/KEY a line) or .keys (keys alone, sorted); else a folder for them
    #[arg(short, long, value_name = "FILE|DIR")]
    pub out: PathBuf,
    /// Files of each split in a folder; parquet unless given
    #[arg(long = "format", value_name = "parquet,npy,txt,keys", value_delimiter = ',')]
    pub formats: Vec<String>,
    /// A shard of the plan that is left out, by its name: one that is not judged, say
    #[arg(long, value_name = "SHARD")]
    pub without: Vec<String>,
    /// Join what each split keeps with the run's benchmarks once more, from its stored embeddings: NAME.items.parquet says what each test point sees
    #[arg(long)]
    pub items: bool,
    /// Seed of random rules
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub reading: LedgerReading,
    #[command(flatten)]
    pub output: Output,
}
