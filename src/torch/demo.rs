//! `trommel demo`.

use trommel_core::escape::escape_controls;
use trommel_core::stop::Stop;
use trommel_core::text::{Align, TextTable, duration, percent, thousands};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines_torch::demo::{DemoReport, demo};

use crate::run_config;
use trommel_cli::args::DemoArgs;
use trommel_cli::commands::print_json;
use trommel_cli::outcome::{Done, Outcome};
use trommel_cli::progress_bar::ProgressBars;
use trommel_cli::say::show;
use trommel_cli::signals;

/// The whole job on generated shards.
pub fn run(args: &DemoArgs) -> Outcome {
    let machine = run_config::machine(&args.machine, None)?;
    let stop = Stop::new();
    signals::install(stop.clone()).map_err(PipelineError::failed)?;
    let bars = ProgressBars::default();
    let report = demo(&args.out, &machine, &stop, &|part| bars.begin(part))?;
    drop(bars);
    tell(&report);
    print_json(args.output.json, &report)?;
    Ok(Done::default())
}

fn tell(report: &DemoReport) {
    let columns = [
        ("benchmark", Align::Left),
        ("dropped", Align::Right),
        ("kept", Align::Right),
        ("zero-shot top-1", Align::Right),
    ];
    let mut table = TextTable::new(&columns);
    for row in &report.benchmarks {
        let accuracy = format!("{:.1} %", 100.0 * row.zero_shot.zero_shot.top1);
        table.row([row.benchmark.clone(), thousands(row.dropped), thousands(row.kept), accuracy]);
    }
    show(format!("\n{table}"));
    let (planted, training) = (&report.planted, &report.training);
    show(format!(
        "planted duplicates dropped: {} of {} ({}); others dropped: {} of {} ({})",
        planted.planted_dropped,
        planted.planted,
        percent(planted.planted_dropped, planted.planted),
        thousands(planted.others_dropped),
        thousands(planted.others),
        percent(planted.others_dropped, planted.others)
    ));
    show(format!(
        "{} kept, {} dropped, {} rejected; {} steps",
        thousands(training.kept),
        thousands(training.dropped),
        training.rejected,
        training.steps
    ));
    let all: f64 = report.seconds.iter().map(|(_, seconds)| seconds).sum();
    let mut parts = TextTable::new(&[("part", Align::Left), ("time", Align::Right)]);
    for (part, seconds) in &report.seconds {
        parts.row([part.clone(), duration(*seconds)]);
    }
    parts.row(["all".to_owned(), duration(all)]);
    show(format!("\n{parts}"));
    match (training.first_loss, training.last_loss) {
        (Some(first), Some(last)) => show(format!(
            "while pruning and training: loss {first:.3} -> {last:.3}; {:.0} images/s judged; trainer {:.0} %, waiting for samples {:.0} %; threads busy: decode {:.2}, embed {:.2}, join {:.2}",
            training.samples_per_second,
            100.0 * training.train_share,
            100.0 * training.train_wait_share,
            training.spent.decode,
            training.spent.embed,
            training.spent.join
        )),
        _ => show("an earlier start pruned and trained: nothing was left to do"),
    }
    show(format!("look at {}", escape_controls(&report.picture.display().to_string())));
}
