//! `trommel bench --stage decode`.

use trommel_pipelines::error::PipelineError;
use trommel_pipelines_torch::bench_decode::{BenchedPictures, decoding};

use trommel_cli::args::BenchArgs;
use trommel_cli::commands::print_json;
use trommel_cli::environment;
use trommel_cli::outcome::{Done, Outcome};
use trommel_cli::say::say;

/// Measures decoding, and prints what it found.
pub fn run(args: &BenchArgs) -> Outcome {
    let report = decoding(&config(args))?;
    if !report.nvjpeg.is_empty() {
        say(format!("nvJPEG {} decodes {}", report.nvjpeg, report.takes.join(", ")));
        for why in &report.found {
            say(format!("not {why}"));
        }
        for of in report.rgb.iter().chain([&report.views]) {
            say(format!(
                "{}: {} of {} equal to the bit, {} refused; largest difference {}; {}",
                of.sampling,
                of.equal,
                of.pictures,
                of.refused,
                of.largest,
                of.first.join("; ")
            ));
        }
    }
    for (why, count) in &report.on_cpu {
        say(format!("{count} pictures for the CPU alone: {why}"));
    }
    for rate in &report.rates {
        say(format!(
            "{}: {:.0} images/s, groups of {}, {} at a time",
            rate.by, rate.per_second, rate.group, rate.lanes
        ));
    }
    print_json(args.output.json, &report)?;
    let unequal = report.rgb.iter().chain([&report.views]).any(|of| of.equal < of.pictures);
    if unequal {
        return Err(PipelineError::failed("a card's pixels are not the CPU's"));
    }
    Ok(Done::default())
}

fn config(args: &BenchArgs) -> BenchedPictures {
    BenchedPictures {
        path: args.pictures.clone().unwrap_or_default(),
        device: environment::device(&args.compute.device),
        view: args.view.into(),
        seconds: args.seconds,
    }
}
