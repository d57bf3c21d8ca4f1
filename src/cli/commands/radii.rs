//! `trommel radii`.

use trommel_core::names::is_folder_name;
use trommel_core::text::thousands;
use trommel_pipelines::benchmarks::NamedPath;
use trommel_pipelines::cores::Threads;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::memory::budget_bytes;
use trommel_pipelines::radii::{BESIDE_BENCHMARKS, Gap, Measured, RadiiConfig, radii};

use super::print_json;
use crate::args::RadiiArgs;
use crate::outcome::{Done, Outcome, Read, tell, tell_threads};
use crate::say::{say, show};

/// Columns of the histogram.
const BINS: usize = 20;

/// Measures and writes radii of embeddings; `given` are the flags that stand on the command line or in its `--config`.
pub fn run(args: &RadiiArgs, config: &RadiiConfig, given: &[String]) -> Outcome {
    refuse_unread(given)?;
    measure(args, config)
}

/// Measures and writes radii, all pictures being embedded.
///
/// # Errors
/// See [`radii`].
pub fn measure(args: &RadiiArgs, config: &RadiiConfig) -> Outcome {
    let gaps = radii(config)?;
    tell_threads(&Threads::of(config.threads));
    if let Some(gap) = gaps.first() {
        tell(&gap.notices);
    }
    for gap in &gaps {
        say(format!(
            "{}: radii of {} points over {} references: {}",
            gap.benchmark,
            thousands(gap.points as u64),
            thousands(gap.measured.references),
            figures(&gap.measured)
        ));
        if let several @ [_, _, ..] = gap.by_reference.as_slice() {
            for of in several {
                let references = thousands(of.measured.references);
                say(format!("  {} ({references} references): {}", of.reference, figures(&of.measured)));
            }
        }
        show(histogram(&gap.measured));
    }
    say(format!("the gap as a picture and a table: {0}/gap.svg, {0}/gap.csv", config.out.display()));
    print_json(args.output.json, &gaps)?;
    let read = |gap: &Gap| {
        let samples = gap.measured.references;
        Read { rejected: 0, samples, shards: 0, notices: &gap.notices }.too_many(args.max_rejects)
    };
    let too_many_rejects = gaps.first().and_then(read);
    Ok(Done { too_many_rejects, ..Done::default() })
}

fn figures(of: &Measured) -> String {
    format!("least {:.4}, median {:.4}, largest {:.4}", of.least, of.median, of.largest)
}

/// Flags to what is measured.
///
/// # Errors
/// A benchmark that is not written as `NAME=DIR`, or called as something else in the folder of the radii.
pub fn config(args: &RadiiArgs) -> Result<RadiiConfig, PipelineError> {
    let benchmarks = NamedPath::parse_all(&args.benchmarks, &args.benchmark_without)?;
    if let Some(NamedPath { name, .. }) = benchmarks.iter().find(|it| !is_folder_name(&it.name, &BESIDE_BENCHMARKS)) {
        let others = BESIDE_BENCHMARKS.join(", ");
        return Err(PipelineError::usage(format!(
            "--benchmark {name}: it becomes a folder in {}, beside {others}: give it another name",
            args.out.display()
        )));
    }
    Ok(RadiiConfig {
        references: NamedPath::parse_references(&args.references)?,
        benchmarks,
        out: args.out.clone(),
        assume_model: args.embedder.assume_model.clone(),
        round_as_stored: args.round_like.is_some(),
        threads: args.machine.compute.threads_or_cores(),
        memory_bytes: budget_bytes(args.machine.memory.as_deref())?,
    })
}

/// Whoever says how to embed expects that something is embedded.
fn refuse_unread(given: &[String]) -> Result<(), PipelineError> {
    let read = [
        "reference",
        "benchmark",
        "benchmark-without",
        "assume-model",
        "round-like",
        "threads",
        "memory",
        "max-rejects",
        "out",
        "json",
        "config",
    ];
    match given.iter().find(|flag| !read.contains(&flag.as_str())) {
        None => Ok(()),
        Some(flag) => Err(PipelineError::usage(format!(
            "--{flag}: the reference set and all benchmarks are embeddings already, nothing is embedded here"
        ))),
    }
}

/// The similarity gap: how many test points have their nearest reference at which cosine.
fn histogram(gap: &Measured) -> String {
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
