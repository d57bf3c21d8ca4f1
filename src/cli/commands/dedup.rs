//! `trommel dedup`: its flags, and what is done with them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use trommel_core::text::{duration, percent, thousands};
use trommel_pipelines::cores::Threads;
use trommel_pipelines::dedup::{ClusterRule, DedupConfig, DedupReport, DedupRule, Order, Work, dedup, order};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::memory::budget_bytes;
use trommel_pipelines::select::Format;

use super::{note_seed, print_json};
use crate::args::{Output, share_in_percent, threads_or_cores};
use crate::beside::Beside;
use crate::outcome::{Done, Outcome, Read, in_no_split, tell, tell_remarks, tell_threads};
use crate::say::say;

/// Flags that exclude clusters. What requires clusters must conflict with them too: clap asks for no flag that conflicts with one that is given.
const ALL_PAIRS: [&str; 2] = ["against", "exact"];

/// `trommel dedup`.
#[derive(Debug, Args)]
#[command(after_help = "\
A sample goes iff its similarity to a sample before it is strictly above --above, and the most similar of these is named as the reason:
  trommel dedup RUN --above 0.95 -o DIR                           all pairs
  trommel dedup RUN --above 0.876 --clusters 50000 -o DIR         pairs inside clusters (SemDeDup)
  trommel dedup TEST --against TRAIN --above 0.95 -o DIR          samples of TEST that lie near one of TRAIN
DIR gets dedup.parquet, the split of who stays; dedup.duplicates.parquet, who goes and because of whom; dedup.samples.parquet, which of
all samples stay, in which cluster: a --table of `trommel select`, for rules like 'near and where:kept=1', and for quotas per cluster, in
proportion to its complexity too (the mean distance inside it times that to the 20 clusters around it; for density-based pruning
as it was published see docs/design/dedup.md):
  trommel select RUN --table DIR/dedup.samples.parquet -o FILE.parquet \
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
    /// Only samples that a split keeps take part: .parquet (or .split.json), .txt (SHARD/KEY a line), .npy (DataComp's uids), .keys (keys
    /// alone, sorted), or a run folder
    #[arg(long, value_name = "FILE")]
    pub split: Option<PathBuf>,
    /// Samples of other embeddings: whoever lies near one of them goes, and the set itself is not compared with itself; without
    /// --clusters, --greedy and --exact
    #[arg(long, value_name = "EMB", conflicts_with_all = ["clusters", "greedy", "exact"])]
    pub against: Vec<String>,
    /// Who comes first, and stays: plan or random; with --clusters also centroid-far or centroid-near
    #[arg(long, default_value = "plan")]
    pub order: String,
    /// Only samples that stay make others go; without it those that go do so too, as in SemDeDup
    #[arg(long)]
    pub greedy: bool,
    /// Compare all pairs, even if that is more than 1e15 operations; without --clusters
    #[arg(long, conflicts_with = "clusters")]
    pub exact: bool,
    /// Compare only inside the clusters of a k-means with so many centres
    #[arg(long, value_name = "K", help_heading = "Clusters")]
    pub clusters: Option<usize>,
    /// First centres are samples of which no two lie above this cosine
    #[arg(long, value_name = "T", default_value_t = 0.9, requires = "clusters", conflicts_with_all = ALL_PAIRS, help_heading = "Clusters")]
    pub apart: f64,
    /// Rounds after which the k-means ends in any case
    #[arg(long, value_name = "N", default_value_t = 100, requires = "clusters", conflicts_with_all = ALL_PAIRS, help_heading = "Clusters")]
    pub iterations: usize,
    /// Share of the samples; when less have moved in a round of all of them, it was the last; without --batch
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 1e-7,
        requires = "clusters",
        conflicts_with_all = ["against", "exact", "batch"],
        help_heading = "Clusters"
    )]
    pub moved: f64,
    /// Learn the centres from so many samples, drawn by the seed [default: all]
    #[arg(long, value_name = "N", requires = "clusters", conflicts_with_all = ALL_PAIRS, help_heading = "Clusters")]
    pub sample: Option<usize>,
    /// Mini-batches: each round draws so many samples [default: all that are learnt from]; without --moved
    #[arg(long, value_name = "N", requires = "clusters", conflicts_with_all = ALL_PAIRS, help_heading = "Clusters")]
    pub batch: Option<usize>,
    /// Centres are directions, nearest by cosine [default: means, nearest by Euclidean distance]
    #[arg(long, requires = "clusters", conflicts_with_all = ALL_PAIRS, help_heading = "Clusters")]
    pub spherical: bool,
    /// Compare all pairs as well, to say how many duplicates the clusters have found
    #[arg(long, requires = "clusters", conflicts_with_all = ALL_PAIRS, help_heading = "Clusters")]
    pub check_recall: bool,
    /// Seed of centres, samples, batches and of the random order
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Identity to assume for embeddings that carry none (npy, clip-retrieval, DataComp)
    #[arg(long, value_name = "NAME")]
    pub assume_model: Option<String>,
    /// Share of rows that cannot be used, in percent, above which the exit status is 4
    #[arg(long, default_value_t = 5.0, value_parser = share_in_percent)]
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

/// Time between lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Finds near-duplicates, and says how many, and where they are written.
pub fn run(args: &DedupArgs, given: &[String]) -> Outcome {
    let config = config(args)?;
    let work = Arc::new(Work::default());
    let shown = shown(Arc::clone(&work));
    let report = dedup(&config, &|line: &str| say(line), &work);
    drop(shown);
    let mut report = report?;
    note_seed(&mut report.notices, given, args.clusters.is_some() || config.rule.order == Order::Random);
    tell_threads(&Threads::of(config.threads));
    told(&report);
    tell(&report.notices);
    tell(&report.others_notices);
    print_json(args.output.json, &report)?;
    let too_many = |samples, notices| Read { rejected: 0, samples, shards: 0, notices }.too_many(args.max_rejects);
    // Each set by itself: a large one must not hide what is lost of a small one.
    let too_many_rejects = too_many(report.samples + report.rejected + report.taken_down, &report.notices)
        .or_else(|| Some(format!("of --against: {}", too_many(report.others?, &report.others_notices)?)));
    Ok(Done { too_many_rejects, ..Done::default() })
}

fn config(args: &DedupArgs) -> Result<DedupConfig, PipelineError> {
    let format = |text: &String| text.parse::<Format>().map_err(PipelineError::usage);
    let clusters = args.clusters.map(|clusters| ClusterRule {
        clusters,
        apart: args.apart,
        moved: args.moved,
        iterations: args.iterations,
        sample: args.sample,
        batch: args.batch,
        spherical: args.spherical,
    });
    Ok(DedupConfig {
        inputs: args.input.clone(),
        rule: DedupRule {
            above: args.above,
            order: order(&args.order)?,
            greedy: args.greedy,
            clusters,
            against: !args.against.is_empty(),
            of: None,
        },
        split: args.split.clone(),
        against: args.against.clone(),
        assume_model: args.assume_model.clone(),
        out: args.out.clone(),
        formats: args.formats.iter().map(format).collect::<Result<_, _>>()?,
        seed: args.seed,
        exact: args.exact,
        check_recall: args.check_recall,
        memory_bytes: budget_bytes(args.memory.as_deref())?,
        threads: threads_or_cores(args.threads),
    })
}

fn told(report: &DedupReport) {
    let DedupReport { mode, samples, kept, dropped, .. } = report;
    let others = report.others.map_or_else(String::new, |others| format!(" of {} samples", thousands(others)));
    let with_centres = if report.clusters.is_some() { ", those with centres included" } else { "" };
    say(format!(
        "{} of {} samples go ({}), {} stay; {mode}{others}: {} pairs above the threshold, {} compared{with_centres}, {}",
        thousands(*dropped),
        thousands(*samples),
        percent(*dropped, *samples),
        thousands(*kept),
        thousands(report.pairs_above),
        thousands(report.pairs_compared),
        duration(report.seconds)
    ));
    if report.rejected + report.taken_down > 0 {
        say(format!("  {}", in_no_split(report.rejected, report.taken_down)));
    }
    if report.outside > 0 {
        say(format!("  {} more are not in the given split", thousands(report.outside)));
    }
    if let Some(clusters) = &report.clusters {
        say(format!(
            "  {} clusters of {} wanted: the largest has {} samples, the median is {}, {} are empty; {} rounds, mean squared distance {:.4}",
            clusters.found,
            clusters.wanted,
            thousands(clusters.largest.into()),
            clusters.median,
            clusters.empty,
            clusters.rounds.len(),
            clusters.mean_squared_distance
        ));
        if clusters.found < clusters.wanted {
            say("  there are not so many samples that lie apart: a smaller --clusters, or a larger --apart");
        }
    }
    match (&report.recall, &report.clusters) {
        (Some(recall), _) => say(format!(
            "  all pairs drop {}; the clusters have found {} of these ({})",
            thousands(recall.dropped_by_all_pairs),
            thousands(recall.of_these_by_clusters),
            percent(recall.of_these_by_clusters, recall.dropped_by_all_pairs)
        )),
        (None, Some(_)) => {
            say("  duplicates in different clusters were not looked for; --check-recall says how many there are")
        }
        (None, None) => {}
    }
    say(format!("  {}", report.files.join(", ")));
    tell_remarks(&report.remarks);
}

/// A line of progress every few seconds, until it is dropped.
fn shown(work: Arc<Work>) -> Beside {
    Beside::spawn(move |done| {
        let mut last = Instant::now();
        while !done.load(Ordering::Acquire) {
            std::thread::park_timeout(Duration::from_millis(200));
            if last.elapsed() >= LINE_EVERY {
                say(standing(&work));
                last = Instant::now();
            }
        }
    })
}

fn standing(work: &Work) -> String {
    let standing = work.standing();
    let (done, planned) = (standing.done_pairs, standing.planned_pairs);
    if planned == 0 || done == 0 {
        return standing.stage;
    }
    let left = standing.seconds / done as f64 * planned.saturating_sub(done) as f64;
    format!("{}: {} of {planned} pairs, {} left", standing.stage, percent(done, planned), duration(left))
}
