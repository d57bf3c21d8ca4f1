//! `trommel select`.

use clap::CommandFactory;
use trommel_core::escape::escape_controls;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::memory::{default_budget_bytes, parse_bytes};
use trommel_pipelines::select::{
    Format, LedgerReading, SelectConfig, SelectReport, SplitReport, select, unfinished_in_words,
};
use trommel_report::text::{percent, thousands};

use super::print_json;
use crate::args::{self, Cli, SelectArgs};
use crate::outcome::{Done, Outcome, tell};

/// Selects, and says what was kept and how to train on it.
pub fn run(args: &SelectArgs) -> Outcome {
    let report = select(&config(args)?)?;
    let say = |line: &str| eprintln!("trommel: {}", escape_controls(line));
    for split in &report.splits {
        say(&told(split, report.judged));
        split.remarks.iter().for_each(|remark| say(&format!("  {remark}")));
        if split.captionless > 0 {
            say(&format!("  {} of them have no caption: no trainer uses them", thousands(split.captionless)));
        }
        if split.captions_unknown > 0 {
            let unknown = thousands(split.captions_unknown);
            say(&format!(
                "  {unknown} of them were dropped by the run's own rule, and the run does not say which of those have no caption"
            ));
        }
        say(&format!("  {}", open_clip(split, &report.urls)));
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
        known.ok_or_else(|| PipelineError::Usage(format!("--format {text}: parquet, npy and txt are written")))
    };
    Ok(SelectConfig {
        run: args.run.clone(),
        rules: args.rules.clone(),
        out: args.out.clone(),
        formats: args.formats.iter().map(format).collect::<Result<_, _>>()?,
        without: args.without.clone(),
        reading: reading(&args.reading, args.seed)?,
    })
}

/// Flags to how a ledger is read.
///
/// # Errors
/// A number of bytes that is none.
pub fn reading(args: &args::LedgerReading, seed: u64) -> Result<LedgerReading, PipelineError> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let memory_bytes = args.memory.as_deref().map_or_else(|| Ok(default_budget_bytes()), parse_bytes)?;
    let (threads, tables) = (args.threads.map_or_else(cores, usize::from), args.tables.clone());
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

/// How open_clip trains on a split.
fn open_clip(split: &SplitReport, urls: &[String]) -> String {
    let count = split.train_num_samples;
    let train = "python -m open_clip_train.main --dataset-type webdataset";
    let table = split.files.iter().find(|file| file.ends_with(".parquet"));
    let streams = Cli::command().find_subcommand("stream").is_some();
    match (table.filter(|_| streams), in_braces(urls)) {
        (Some(table), Some(shards)) => {
            format!("{train} --train-data 'pipe:trommel stream {shards} --split {table}' --train-num-samples {count}")
        }
        _ => {
            format!("{train} --train-data SHARDS --train-num-samples {count}   (SHARDS: tars with these samples alone)")
        }
    }
}

/// Shards that are numbered one after the other, as one word; `None` for others.
fn in_braces(urls: &[String]) -> Option<String> {
    let first = urls.first()?;
    if urls.len() == 1 {
        return Some(first.clone());
    }
    let end = first.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = first[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    let tail = &first[end..];
    let (head, number) = (&first[..start], first[start..end].parse::<u64>().ok()?);
    let width = end - start;
    let numbered = |(url, at): (&String, u64)| *url == format!("{head}{at:0width$}{tail}");
    let all = urls.iter().zip(number..).all(numbered);
    all.then(|| format!("{head}{{{number:0width$}..{:0width$}}}{tail}", number + urls.len() as u64 - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_shards_are_one_word() {
        let of = |urls: &[&str]| in_braces(&urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["d/00008.tar", "d/00009.tar", "d/00010.tar"]).as_deref(), Some("d/{00008..00010}.tar"));
        assert_eq!(of(&["d2/7.tar", "d2/8.tar"]).as_deref(), Some("d2/{7..8}.tar"));
        assert_eq!(of(&["a.tar"]).as_deref(), Some("a.tar"));
        assert_eq!(of(&["d/0.tar", "d/2.tar"]), None);
        assert_eq!(of(&["a.tar", "b.tar"]), None);
        assert_eq!(of(&[]), None);
    }
}
