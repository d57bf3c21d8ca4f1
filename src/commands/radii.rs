//! `trommel radii`.

use std::path::PathBuf;

use trommel_operators::report::text::thousands;
use trommel_pipelines::benchmarks::NamedPath;
use trommel_pipelines::radii::{Gap, RadiiConfig, radii};

use super::print_json;
use crate::args::RadiiArgs;
use crate::outcome::{Done, Outcome};

/// Columns of the histogram.
const BINS: usize = 20;

/// Measures and writes radii.
pub fn run(args: &RadiiArgs) -> Outcome {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let config = RadiiConfig {
        reference: PathBuf::from(&args.reference),
        benchmarks: args.benchmarks.iter().map(|text| NamedPath::parse(text)).collect::<Result<_, _>>()?,
        out: args.out.clone(),
        assume_model: args.embedder.assume_model.clone(),
        threads: args.common.threads.map_or(cores, usize::from),
    };
    let gaps = radii(&config)?;
    for gap in &gaps {
        eprintln!(
            "trommel: {}: radii of {} points over {} references: least {:.4}, median {:.4}, largest {:.4}",
            gap.benchmark,
            thousands(gap.points as u64),
            thousands(gap.references),
            gap.least,
            gap.median,
            gap.largest
        );
        eprintln!("{}", histogram(gap));
    }
    print_json(args.common.json, &gaps)?;
    Ok(Done::default())
}

/// The similarity gap: how many test points have their nearest reference at which cosine.
fn histogram(gap: &Gap) -> String {
    let width = ((gap.largest - gap.least) / BINS as f64).max(f64::EPSILON);
    let mut bins = [0usize; BINS];
    for radius in &gap.radii {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bin = ((radius - gap.least) / width) as usize;
        bins[bin.min(BINS - 1)] += 1;
    }
    let most = bins.iter().copied().max().unwrap_or(1).max(1);
    let row = |(at, count): (usize, &usize)| {
        let bar = "█".repeat((count * 50).div_ceil(most));
        format!("  {:.4}  {bar} {count}", gap.least + width * at as f64)
    };
    bins.iter().enumerate().map(row).collect::<Vec<_>>().join("\n")
}
