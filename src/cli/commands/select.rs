//! `trommel select`: its flags, and what is done with them.

use std::path::PathBuf;

use clap::Args;
use trommel_core::text::{percent, shell_word, thousands};
use trommel_decide::parse::forms;
use trommel_decide::selection::named;
use trommel_pipelines::cores::Threads;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::memory::budget_bytes;
use trommel_pipelines::select::{
    Format, LedgerReading, SelectConfig, SelectReport, SplitPoints, SplitReport, select, unfinished_in_words,
};

use super::{note_seed, print_json};
use crate::args::{self, Output, threads_or_cores};
use crate::outcome::{Done, Outcome, in_no_split, tell, tell_remarks, tell_threads};
use crate::say::say;

/// `trommel select`.
#[derive(Debug, Args)]
#[command(after_help = "\
Rules are put together with and, or, minus, not, of, per, by, parentheses, and the names of earlier rules:
  --rule clean='drop-over-radius and where:aesthetic>=5'          --rule core='far:100000000 of clean'
  --rule even='random:500 per class of clean'                     --rule cell='not (where:class=dog and where:domain=sketch)'
near and far say what is pruned, as in the paper: near is drop-over-radius, far:N is keep-nearest:N (what is far goes, the N nearest stay), near-N:N
is keep-farthest:N, rand is random.
where: tests a column; a row without a value, or NaN, passes none of these but !=, and so `not where:score<5` keeps it:
  C>=T  C>T  C<=T  C<T   numbers                                  C=V  C!=V   a text as it is, or a number by its value (true is 1)
  C~WORDS                whole words in this order, in any case: 'where:caption~\"golden retriever\"'
Quotes keep blanks and parentheses in names and values: 'where:\"my score\">=0.5', 'keep-highest:10@\"my score\"'. `docs/select.md` says more.
`of` asks a rule of some samples only, `per` keeps the exact number of each value of a column, `per C by W` keeps it in all, dealt to the
values of C in proportion to their W (clusters by their complexity, which `trommel dedup` has). Columns are those of the ledger, which has no
captions, those of --table's (img2dataset's own NNNNN.parquet have `caption`), and `folder`, the first folder in a sample's key. Ties at an exact number go to the smaller (shard, index).")]
pub struct SelectArgs {
    /// A finished run folder, or a split of a watch (RUN/current/SPLIT)
    pub run: PathBuf,
    /// Who is kept; several rules make several splits from one reading, and each then has a name
    #[arg(
        long = "rule",
        value_name = "[NAME=]RULE",
        required = true,
        help = format!("Who is kept; several rules make several splits from one reading, and each then has a name: {}", forms(|_| true))
    )]
    pub rules: Vec<String>,
    /// One split: a file .parquet (shard, key, index), .npy (DataComp's uids), .txt (SHARD/KEY a line) or .keys (keys alone, sorted); else a folder for them
    #[arg(short, long, value_name = "FILE|DIR")]
    pub out: PathBuf,
    /// Files of each split in a folder; parquet unless given
    #[arg(long = "format", value_name = "parquet,npy,txt,keys", value_delimiter = ',')]
    pub formats: Vec<String>,
    /// A shard of the plan that is left out, by its name: one that is not judged, say
    #[arg(long, value_name = "SHARD")]
    pub without: Vec<String>,
    /// Join what each split keeps with the run's benchmarks once more, from its stored embeddings: NAME.items.parquet says what each test point sees
    #[arg(long)]
    pub items: bool,
    /// Seed of random rules
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub reading: args::LedgerReading,
    #[command(flatten)]
    pub output: Output,
}

/// Selects, and says what was kept and how to train on it.
pub fn run(args: &SelectArgs, given: &[String]) -> Outcome {
    let config = config(args)?;
    let mut report = select(&config)?;
    let draws = named(&config.rules).map_err(PipelineError::usage)?.iter().any(|(_, rule)| rule.draws());
    note_seed(&mut report.notices, given, draws);
    tell_threads(&Threads::of(config.reading.threads));
    for split in &report.splits {
        say(told(split, report.judged));
        tell_remarks(&split.remarks);
        if split.captionless > 0 {
            let captionless = thousands(split.captionless);
            say(format!(
                "  {captionless} of them have no caption, or an empty one: `trommel train` leaves them out; open_clip takes those with an empty .txt"
            ));
        }
        if split.captions_unknown > 0 {
            let unknown = thousands(split.captions_unknown);
            say(format!(
                "  {unknown} of them were dropped by the run's own rule, and the run does not say which of those have no caption"
            ));
        }
        for SplitPoints { benchmark, points, over_radius } in &split.items {
            let over = over_radius
                .map_or_else(|| "without radii".to_owned(), |over| format!("{} above their radius", thousands(over)));
            say(format!("  {benchmark}: {} test points, {over}", thousands(*points)));
        }
        if split.train_num_samples == 0 {
            say("  nobody can train on it: it keeps no sample with a caption");
            continue;
        }
        how_to_train(split, &report).iter().for_each(|line| say(format!("  {line}")));
    }
    let (judged, shards) = (thousands(report.judged), thousands(report.shards));
    say(format!("{judged} samples of {shards} shards took part; {}", in_no_split(report.rejected, report.taken_down)));
    if !report.without.is_empty() {
        say(format!("left out by name: {}", report.without.join(", ")));
    }
    tell(&report.notices);
    print_json(args.output.json, &report)?;
    Ok(Done { unfinished: unfinished(&report), ..Done::default() })
}

fn config(args: &SelectArgs) -> Result<SelectConfig, PipelineError> {
    let format = |text: &String| text.parse::<Format>().map_err(PipelineError::usage);
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
    let memory_bytes = budget_bytes(args.memory.as_deref())?;
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
    // The loader gives what stands behind each `pipe:` to a shell of its own: the file is quoted for that one, and all of it for the user's.
    let file = shell_word(file);
    let pipe = |argument: &String| format!("pipe:trommel stream {argument} --split {file}");
    let data = shell_word(&arguments.iter().map(pipe).collect::<Vec<_>>().join("::"));
    let said = match (report.of_shards, arguments == unknown()) {
        (true, true) => "   (SHARDS as the run was given them)",
        (false, _) => "   (SHARDS with the pictures)",
        (true, false) => "",
    };
    let count = split.train_num_samples;
    let train = ends(".parquet").filter(|_| report.of_shards);
    let train = train.map(|table| {
        let table = shell_word(table);
        let reading: String = report.reading_flags.iter().map(|flag| format!(" {flag}")).collect();
        format!("trommel train {} --split {table}{reading} --model MODEL --batch N --run DIR", arguments.join(" "))
    });
    let open_clip = "python -m open_clip_train.main --dataset-type webdataset";
    let open_clip = format!("{open_clip} --train-data {data} --train-num-samples {count}{said}");
    train.into_iter().chain([open_clip]).collect()
}
