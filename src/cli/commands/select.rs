//! `trommel select`.

use trommel_core::escape::escape_controls;
use trommel_core::text::{percent, thousands};
use trommel_decide::selection::named;
use trommel_pipelines::cores::Threads;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::memory::{default_budget_bytes, parse_bytes};
use trommel_pipelines::select::{
    Format, LedgerReading, SelectConfig, SelectReport, SplitPoints, SplitReport, select, unfinished_in_words,
};

use super::{note_seed, print_json};
use crate::args::{self, SelectArgs, threads_or_cores};
use crate::outcome::{Done, Outcome, tell, tell_remarks, tell_threads};

/// Selects, and says what was kept and how to train on it.
pub fn run(args: &SelectArgs, given: &[String]) -> Outcome {
    let config = config(args)?;
    let mut report = select(&config)?;
    let draws = named(&config.rules).map_err(PipelineError::usage)?.iter().any(|(_, rule)| rule.draws());
    note_seed(&mut report.notices, given, draws);
    tell_threads(&Threads::of(config.reading.threads));
    let say = |line: &str| eprintln!("trommel: {}", escape_controls(line));
    for split in &report.splits {
        say(&told(split, report.judged));
        tell_remarks(&split.remarks);
        if split.captionless > 0 {
            say(&format!("  {} of them have no caption: no trainer uses them", thousands(split.captionless)));
        }
        if split.captions_unknown > 0 {
            let unknown = thousands(split.captions_unknown);
            say(&format!(
                "  {unknown} of them were dropped by the run's own rule, and the run does not say which of those have no caption"
            ));
        }
        for SplitPoints { benchmark, points, over_radius } in &split.items {
            let over = over_radius
                .map_or_else(|| "without radii".to_owned(), |over| format!("{} above their radius", thousands(over)));
            say(&format!("  {benchmark}: {} test points, {over}", thousands(*points)));
        }
        if split.train_num_samples == 0 {
            say("  nobody can train on it: it keeps no sample with a caption");
            continue;
        }
        how_to_train(split, &report).iter().for_each(|line| say(&format!("  {line}")));
    }
    let (judged, shards) = (thousands(report.judged), thousands(report.shards));
    say(&format!(
        "{judged} samples of {shards} shards took part; {} could not be judged and {} are taken down: they are in no split",
        thousands(report.rejected),
        thousands(report.taken_down)
    ));
    if !report.without.is_empty() {
        say(&format!("left out by name: {}", report.without.join(", ")));
    }
    tell(&report.notices);
    print_json(args.output.json, &report)?;
    Ok(Done { unfinished: unfinished(&report), ..Done::default() })
}

fn config(args: &SelectArgs) -> Result<SelectConfig, PipelineError> {
    let format = |text: &String| {
        let known = Format::ALL.into_iter().find(|format| format.extension() == text);
        known.ok_or_else(|| PipelineError::Usage(format!("--format {text}: parquet, npy, txt and keys are written")))
    };
    Ok(SelectConfig {
        run: args.run.clone(),
        rules: args.rules.clone(),
        out: args.out.clone(),
        formats: args.formats.iter().map(format).collect::<Result<_, _>>()?,
        without: args.without.clone(),
        items: args.items,
        reading: reading(&args.reading, args.seed)?,
    })
}

/// Flags to how a ledger is read.
///
/// # Errors
/// A number of bytes that is none.
pub fn reading(args: &args::LedgerReading, seed: u64) -> Result<LedgerReading, PipelineError> {
    let memory_bytes = args.memory.as_deref().map_or_else(|| Ok(default_budget_bytes()), parse_bytes)?;
    let (threads, tables) = (threads_or_cores(args.threads), args.tables.clone());
    Ok(LedgerReading { seed, memory_bytes, threads, tables })
}

fn told(split: &SplitReport, judged: u64) -> String {
    let (count, share) = (thousands(split.count), percent(split.count, judged));
    let files = split.files.join(", ");
    format!("{}: {count} of {} samples kept ({share}) by `{}`: {files}", split.name, thousands(judged), split.rule)
}

fn unfinished(report: &SelectReport) -> Option<String> {
    let of = report.unfinished.len() + report.shards as usize;
    let said = unfinished_in_words(&report.unfinished, of);
    (!report.unfinished.is_empty())
        .then(|| format!("{said}: no split has them; finish the run, and the same command selects anew"))
}

/// Commands that train on a split, with the run's shards as they were given.
fn how_to_train(split: &SplitReport, report: &SelectReport) -> Vec<String> {
    let ends = |ending: &str| split.files.iter().find(|file| file.ends_with(ending));
    let names_shards = ends(".parquet").or_else(|| ends(".txt")).filter(|_| report.of_shards);
    // Lists without shards are found in any.
    let Some(file) = names_shards.or_else(|| ends(".keys")).or_else(|| ends(".npy")) else {
        return vec![
            "its samples are known by files of embeddings or folders: --format keys (or -o FILE.keys) writes a list by which `trommel stream` finds \
             them in shards"
                .into(),
        ];
    };
    let unknown = || vec!["SHARDS".to_owned()];
    let arguments = report.arguments.clone().filter(|_| report.of_shards).unwrap_or_else(unknown);
    let pipe = |argument: &String| format!("pipe:trommel stream {argument} --split {file}");
    let data = arguments.iter().map(pipe).collect::<Vec<_>>().join("::");
    let said = match (report.of_shards, arguments == unknown()) {
        (true, true) => "   (SHARDS as the run was given them)",
        (false, _) => "   (SHARDS with the pictures)",
        (true, false) => "",
    };
    let count = split.train_num_samples;
    let train = ends(".parquet").filter(|_| report.of_shards);
    let train = train.map(|table| {
        format!("trommel train {} --split {table} --model MODEL --batch N --run DIR", arguments.join(" "))
    });
    let open_clip = "python -m open_clip_train.main --dataset-type webdataset";
    let open_clip = format!("{open_clip} --train-data '{data}' --train-num-samples {count}{said}");
    train.into_iter().chain([open_clip]).collect()
}
