//! Flags of `trommel dedup`.

use std::path::PathBuf;

use clap::Args;

use super::groups::{Output, percent};

/// `trommel dedup`.
#[derive(Debug, Args)]
#[command(after_help = "\
A sample goes iff its similarity to a sample before it is strictly above --above, and the most similar of these is named as the reason:
  trommel dedup RUN --above 0.95 -o DIR                           all pairs
  trommel dedup RUN --above 0.876 --clusters 50000 -o DIR         pairs inside clusters (SemDeDup)
  trommel dedup TEST --against TRAIN --above 0.95 -o DIR          samples of TEST that lie near one of TRAIN
DIR gets dedup.parquet, the split of who stays; dedup.duplicates.parquet, who goes and because of whom; dedup.samples.parquet, which of
all samples stay, in which cluster: a --table of `trommel select`, for rules like 'near and where:kept=1', and for quotas per cluster, in
proportion to its complexity too (density-based pruning: the mean distance inside it times that to the 20 clusters around it):
  trommel select RUN --table DIR/dedup.samples.parquet -o FILE \
    --rule 'keep-highest:84000000@centroid_distance per cluster by cluster_complexity of where:kept=1'
Files are seen when they are whole; a run that is killed leaves none, and the same command does it anew.")]
pub struct DedupArgs {
    /// Stored embeddings: a run of embed or prune, clip-retrieval's or DataComp's folder, .arrow, .npy or .npz files; together they are one set
    #[arg(required = true, value_name = "EMB")]
    pub input: Vec<String>,
    /// A cosine; a sample strictly above it is a duplicate
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub above: f64,
    /// A file .parquet (shard, key, index), .npy (DataComp's uids), .txt (SHARD/KEY a line) or .keys (keys alone, sorted); else a folder for dedup.parquet
    #[arg(short, long, value_name = "FILE|DIR")]
    pub out: PathBuf,
    /// Files of the split in a folder; parquet unless given
    #[arg(long = "format", value_name = "parquet,npy,txt,keys", value_delimiter = ',')]
    pub formats: Vec<String>,
    /// Only samples that a split keeps take part: .parquet (or .split.json), .txt (SHARD/KEY a line), .npy (DataComp's uids), or a run folder
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
    /// Rounds after which the k-means ends in any case
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
    /// Threads [default: the cores that affinity mask and quota leave]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Machine")]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub output: Output,
}
