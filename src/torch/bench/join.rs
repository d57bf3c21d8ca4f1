//! `trommel bench --stage join`.

use trommel_pipelines::error::PipelineError;
use trommel_pipelines_torch::bench_join::{JoinBench, join};

use trommel_cli::args::BenchArgs;
use trommel_cli::commands::print_json;
use trommel_cli::environment;
use trommel_cli::outcome::{Done, Outcome};
use trommel_cli::say::say;

/// Compares the device's join with the processor's, and measures it.
pub fn run(args: &BenchArgs) -> Outcome {
    let report = join(&config(args))?;
    say(format!("{} points of {} elements, join on {}", report.points, report.dim, report.on));
    match &report.first_difference {
        None => {
            say(format!("{} rows equal the processor's to the bit, in all columns and points", report.compared_rows))
        }
        Some(first) => say(format!("{} DIFFERENCES; the first: {first}", report.differences)),
    }
    for figures in &report.figures {
        say(format!(
            "{}: {:.0} rows/s ({:.1} us of CPU a row; the processor alone {:.0} rows/s), {:.1} hits and {:.1} exact products a row{}",
            figures.work,
            figures.rows_per_second,
            figures.cpu_micros_per_row,
            figures.cpu_rows_per_second,
            figures.hits_per_row,
            figures.confirmed_per_row,
            if figures.rows_in_place > 0 { "; THE DEVICE FAILED and the processor went on" } else { "" }
        ));
    }
    print_json(args.output.json, &report)?;
    match report.differences {
        0 => Ok(Done::default()),
        count => Err(PipelineError::failed(format!("{count} answers differ from the processor's"))),
    }
}

/// Flags to what is measured.
fn config(args: &BenchArgs) -> JoinBench {
    JoinBench {
        device: environment::device(&args.compute.device),
        points: args.points as usize,
        dim: usize::from(args.dim),
        rows: args.rows as usize,
        threads: args.compute.threads_or_cores(),
        seconds: args.seconds,
    }
}
