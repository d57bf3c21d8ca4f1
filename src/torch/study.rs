//! `trommel study`.

use std::path::Path;

use trommel_core::stop::Stop;
use trommel_core::text::{Align, TextTable, thousands};
use trommel_pipelines::error::{ErrorKind, PipelineError};
use trommel_pipelines_torch::study::config::StudyFile;
use trommel_pipelines_torch::study::{Mean, StudyConfig, StudyReport, study};

use crate::run_config;
use trommel_cli::args::StudyArgs;
use trommel_cli::commands::print_json;
use trommel_cli::outcome::{Done, Outcome, Read, tell};
use trommel_cli::progress_bar::ProgressBars;
use trommel_cli::say::{say, show};
use trommel_cli::signals;

/// The whole method, unattended.
pub fn run(args: &StudyArgs) -> Outcome {
    let config = config(args)?;
    let stop = Stop::new();
    signals::install(stop.clone()).map_err(PipelineError::failed)?;
    let bars = ProgressBars::default();
    let report = study(&config, &stop, &|part| bars.begin(part)).map_err(|error| at_file(&args.file, error))?;
    drop(bars);
    lines(&report);
    tell(&report.notices);
    print_json(args.output.json, &report)?;
    let pool = &report.pool;
    let read =
        Read { rejected: pool.rejected, samples: pool.judged + pool.rejected, shards: 0, notices: &report.notices };
    Ok(Done { too_many_rejects: read.too_many(args.max_rejects), ..Done::default() })
}

/// Flags and file to a study.
pub(super) fn config(args: &StudyArgs) -> Result<StudyConfig, PipelineError> {
    let file = args.file.display();
    let text = std::fs::read_to_string(&args.file).map_err(|error| PipelineError::usage(error).within(&file))?;
    let parsed = StudyFile::parse(&text).map_err(|error| PipelineError::usage(error).within(&file))?;
    Ok(StudyConfig {
        file: parsed,
        folder: args.file.parent().map(Path::to_path_buf).unwrap_or_default(),
        run: args.run.clone(),
        machine: run_config::machine(&args.machine, None)?,
    })
}

/// What the file asks for in vain is said with the file's name.
fn at_file(file: &Path, error: PipelineError) -> PipelineError {
    if error.kind() == ErrorKind::Usage { error.within(file.display()) } else { error }
}

fn lines(report: &StudyReport) {
    let pool = &report.pool;
    say(format!(
        "pool: {} samples judged, {} of them without a caption, {} rejected",
        thousands(pool.judged),
        thousands(pool.captionless),
        thousands(pool.rejected)
    ));
    let benchmarks: Vec<&str> = report.bins.iter().map(|of| of.benchmark.as_str()).collect();
    let heads = [("training set", Align::Left), ("samples", Align::Right)].into_iter();
    let mut table =
        TextTable::new(&heads.chain(benchmarks.iter().map(|name| (*name, Align::Right))).collect::<Vec<_>>());
    for set in &report.sets {
        let mean = |name: &&str| {
            let mean = report.means.iter().find(|mean| mean.set == set.name && mean.benchmark == *name);
            let spread =
                |mean: &Mean| mean.spread.map_or_else(String::new, |spread| format!(" ± {:.2}", 100.0 * spread));
            mean.map_or_else(String::new, |mean| format!("{:.2}{}", 100.0 * mean.top1, spread(mean)))
        };
        table.row([set.name.clone(), thousands(set.count)].into_iter().chain(benchmarks.iter().map(mean)));
    }
    show(format!("\nzero-shot top-1, %\n{table}"));
    for gap in report.gaps.iter().filter(|gap| gap.set == format!("pruned-{}", gap.benchmark)) {
        let (over, points) = (thousands(gap.over_radius), thousands(gap.points));
        say(format!("{}: {over} of {points} test points of {} above their radius", gap.set, gap.benchmark));
    }
    for finding in &report.findings {
        let holds = if finding.holds { "holds" } else { "does not hold" };
        say(format!("{}: {holds}; {}", finding.claim, finding.seen));
    }
    say(format!("look at {}", report.page.display()));
}
