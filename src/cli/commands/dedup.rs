//! `trommel dedup`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use trommel_core::escape::escape_controls;
use trommel_core::text::{duration, percent, thousands};
use trommel_pipelines::cores::Threads;
use trommel_pipelines::dedup::{ClusterRule, DedupConfig, DedupReport, DedupRule, Order, Work, dedup, order};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::memory::{default_budget_bytes, parse_bytes};
use trommel_pipelines::select::Format;

use super::{note_seed, print_json};
use crate::args::{DedupArgs, threads_or_cores};
use crate::beside::Beside;
use crate::outcome::{Done, Outcome, Read, tell, tell_remarks, tell_threads};

/// Time between lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Finds near-duplicates, and says how many, and where they are written.
pub fn run(args: &DedupArgs, given: &[String]) -> Outcome {
    let config = config(args)?;
    let work = Arc::new(Work::default());
    let shown = shown(Arc::clone(&work));
    let report = dedup(&config, &say, &work);
    drop(shown);
    let mut report = report?;
    note_seed(&mut report.notices, given, args.clusters.is_some() || config.rule.order == Order::Random);
    tell_threads(&Threads::of(config.threads));
    told(&report);
    tell(&report.notices);
    print_json(args.output.json, &report)?;
    let samples = report.samples + report.rejected + report.taken_down;
    let too_many_rejects = Read { rejected: 0, samples, notices: &report.notices }.too_many(args.max_rejects);
    Ok(Done { too_many_rejects, ..Done::default() })
}

fn say(line: &str) {
    eprintln!("trommel: {}", escape_controls(line));
}

fn config(args: &DedupArgs) -> Result<DedupConfig, PipelineError> {
    let format = |text: &String| {
        let known = Format::ALL.into_iter().find(|format| format.extension() == text);
        known.ok_or_else(|| PipelineError::Usage(format!("--format {text}: parquet, npy, txt and keys are written")))
    };
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
        memory_bytes: args.memory.as_deref().map_or_else(|| Ok(default_budget_bytes()), parse_bytes)?,
        threads: threads_or_cores(args.threads),
    })
}

fn told(report: &DedupReport) {
    let DedupReport { mode, samples, kept, dropped, .. } = report;
    let others = report.others.map_or_else(String::new, |others| format!(" of {} samples", thousands(others)));
    say(&format!(
        "{} of {} samples go ({}), {} stay; {mode}{others}: {} pairs above the threshold, {} compared, {}",
        thousands(*dropped),
        thousands(*samples),
        percent(*dropped, *samples),
        thousands(*kept),
        thousands(report.pairs_above),
        thousands(report.pairs_compared),
        duration(report.seconds)
    ));
    if report.outside > 0 {
        say(&format!("  {} more are not in the given split", thousands(report.outside)));
    }
    if let Some(clusters) = &report.clusters {
        say(&format!(
            "  {} clusters of {} wanted: the largest has {} samples, the middle one {}, {} are empty; {} rounds, mean squared distance {:.4}",
            clusters.found,
            clusters.wanted,
            thousands(clusters.largest.into()),
            thousands(clusters.median.into()),
            clusters.empty,
            clusters.rounds.len(),
            clusters.mean_squared_distance
        ));
        if clusters.found < clusters.wanted {
            say("  there are not so many samples that lie apart: a smaller --clusters, or a larger --apart");
        }
    }
    match (&report.recall, &report.clusters) {
        (Some(recall), _) => say(&format!(
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
    say(&format!("  {}", report.files.join(", ")));
    tell_remarks(&report.remarks);
}

/// A line of progress every few seconds, until it is dropped.
fn shown(work: Arc<Work>) -> Beside {
    Beside::spawn(move |done| {
        let mut last = Instant::now();
        while !done.load(Ordering::Acquire) {
            std::thread::park_timeout(Duration::from_millis(200));
            if last.elapsed() >= LINE_EVERY {
                say(&standing(&work));
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
