//! `trommel radii`.

use std::path::PathBuf;
#[cfg(feature = "torch")]
use std::sync::{Arc, Mutex};

#[cfg(feature = "torch")]
use trommel_operators::dataflow::stop::Stop;
use trommel_operators::report::text::thousands;
use trommel_pipelines::benchmarks::NamedPath;
#[cfg(feature = "torch")]
use trommel_pipelines::config::{JudgeConfig, Reading};
use trommel_pipelines::error::PipelineError;
#[cfg(feature = "torch")]
use trommel_pipelines::gauges::Gauges;
#[cfg(feature = "torch")]
use trommel_pipelines::progress::Progress;
#[cfg(feature = "torch")]
use trommel_pipelines::radii::with_embedded;
use trommel_pipelines::radii::{Gap, RadiiConfig, radii};

#[cfg(feature = "torch")]
use super::judge;
use super::print_json;
use crate::args::RadiiArgs;
use crate::config_file::given;
use crate::outcome::{Done, Outcome, Read, tell};
#[cfg(feature = "torch")]
use crate::progress_bar::ProgressBar;
#[cfg(feature = "torch")]
use crate::signals;

/// Columns of the histogram.
const BINS: usize = 20;

/// Measures and writes radii.
pub fn run(args: &RadiiArgs) -> Outcome {
    let config = ready(args, config(args)?)?;
    let gaps = radii(&config)?;
    if let Some(gap) = gaps.first() {
        tell(&gap.notices);
    }
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
    print_json(args.output.json, &gaps)?;
    let read =
        |gap: &Gap| Read { rejected: 0, samples: gap.references, notices: &gap.notices }.too_many(args.max_rejects);
    let too_many_rejects = gaps.first().and_then(read);
    Ok(Done { too_many_rejects, ..Done::default() })
}

/// Flags to what is measured.
pub(super) fn config(args: &RadiiArgs) -> Result<RadiiConfig, PipelineError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(RadiiConfig {
        reference: PathBuf::from(&args.reference),
        benchmarks: NamedPath::parse_all(&args.benchmarks, &args.benchmark_without)?,
        out: args.out.clone(),
        assume_model: args.embedder.assume_model.clone(),
        threads: args.machine.compute.threads.map_or(cores, usize::from),
    })
}

/// What is measured, all of it as embeddings.
fn ready(args: &RadiiArgs, config: RadiiConfig) -> Result<RadiiConfig, PipelineError> {
    if config.needs_embedder() {
        return embedded(args, &config);
    }
    // Whoever says how to embed expects that something is embedded.
    let read = [
        "reference",
        "benchmark",
        "benchmark-without",
        "assume-model",
        "threads",
        "max-rejects",
        "out",
        "json",
        "config",
    ];
    match given(std::env::args_os().collect())?.into_iter().find(|flag| !read.contains(&flag.as_str())) {
        None => Ok(config),
        Some(flag) => Err(PipelineError::Usage(format!(
            "--{flag}: the reference set and all benchmarks are embeddings already, nothing is embedded here"
        ))),
    }
}

#[cfg(not(feature = "torch"))]
fn embedded(_: &RadiiArgs, _: &RadiiConfig) -> Result<RadiiConfig, PipelineError> {
    Err(PipelineError::Usage("pictures are embedded by a build with its default features only; give embeddings".into()))
}

#[cfg(feature = "torch")]
fn embedded(args: &RadiiArgs, config: &RadiiConfig) -> Result<RadiiConfig, PipelineError> {
    let judge = embedding(args)?;
    let stop = Stop::new();
    signals::install(stop.clone()).map_err(PipelineError::failed)?;
    let bar: Mutex<Option<ProgressBar>> = Mutex::default();
    let show = |name: &str| {
        eprintln!("trommel: embedding {name}");
        let progress = Arc::new(Progress::default());
        if let Ok(mut bar) = bar.lock() {
            *bar = None; // the bar before ends first
            *bar = Some(ProgressBar::show(progress.clone()));
        }
        progress
    };
    with_embedded(config, &judge, &stop, &show)
}

/// Flags to how pictures are embedded.
#[cfg(feature = "torch")]
pub(super) fn embedding(args: &RadiiArgs) -> Result<JudgeConfig, PipelineError> {
    Ok(JudgeConfig {
        shards: Vec::new(),
        plan: None,
        run: args.out.clone(),
        benchmarks: Vec::new(),
        rule: None,
        rule_seed: 0,
        decision_columns: false,
        keep_embeddings: true,
        embedder: judge::embedder(&args.embedder),
        always_embed: true,
        reading: Reading::default(),
        mix_numerics: args.embedder.mix_numerics,
        machine: judge::machine(&args.machine, None)?,
        cluster: None,
        gauges: Gauges::default(),
    })
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
