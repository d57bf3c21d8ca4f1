//! `trommel verify`: a split that somebody has published, checked against a run of one's own over the same shards; or against another split, row by row.
//!
//! The rule is asked of the run once more, of the benchmarks that the split tells of (by their content, whatever the run calls them and whatever
//! others it has), and count and hash of the kept keys are compared; where the split's rows are there too, every row that
//! differs is named.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use trommel_core::wake::locked;
use trommel_decide::selection::Selection;
use trommel_select::compare::{Differences, comparison};
use trommel_select::head::SplitHead;
use trommel_select::scan::benchmark_of;
use trommel_select::select::{RunFacts, WantedSplit};
use trommel_select::settle::{is_told, lists_beside};
use trommel_select::split::{Format, Kept, Sink, SplitRow, read_head, read_rows};

use crate::dedup::{self, Again};
use crate::error::PipelineError;
use crate::failures::failed;
use crate::select::{LedgerReading, OpenRun};
use crate::split_file::table_of;

/// What is checked against what.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyConfig {
    /// A split's `.split.json` or `.parquet`.
    pub split: PathBuf,
    /// A run folder, or an epoch of a watch; or another split.
    pub run: PathBuf,
    /// Of a split of `trommel dedup` of several inputs: those after the first.
    pub more: Vec<PathBuf>,
    /// Of a split of `trommel dedup --against`: the other set's embeddings.
    pub against: Vec<String>,
    /// Of a split of `trommel dedup --split`: the split whose samples alone took part.
    pub of: Option<PathBuf>,
    /// Rows that differ which are named.
    pub shown: usize,
    /// How the ledger is read; the split says the seed.
    pub reading: LedgerReading,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// The split's rule, as the file has it.
    pub rule: String,
    /// The other split's rule, where it is compared with one.
    pub other_rule: Option<String>,
    /// Whether run and split keep the same samples.
    pub equal: bool,
    /// Samples that the split keeps, and the run.
    pub counts: (u64, u64),
    /// Samples that took part in the split, and take part in the run.
    pub judged: (u64, u64),
    /// Hashes of the kept keys: the split's, and the run's.
    pub keys_sha256: (String, String),
    /// Row by row; `None` where the split's rows are not there.
    pub rows: Option<Differences>,
    /// Remarks for people: lists that were not read, and what `trommel select` says of the same rule and tables.
    pub remarks: Vec<String>,
}

/// Checks a split.
///
/// # Errors
/// A split or a run that cannot be read; a run of other embeddings, benchmarks or radii, or one that reads samples in another way: both are shown.
pub fn verify(config: &VerifyConfig) -> Result<VerifyReport, PipelineError> {
    let head = read_head(&config.split).map_err(failed)?;
    let table = table_of(&config.split);
    let unread = unread_lists(&head, &config.split)?;
    if is_split(&config.run) {
        return beside(head, &table.ok_or_else(|| without_rows(&config.split))?, unread, config);
    }
    let (sinks, found) = match &table {
        Some(table) => {
            comparison(table, config.shown).map(|(sink, found)| (vec![sink], Some(found))).map_err(failed)?
        }
        None => (Vec::new(), None),
    };
    let (mine, remarks) = if head.rule.starts_with(dedup::PREFIX) {
        if !config.reading.tables.is_empty() {
            let rule = &head.rule;
            return Err(PipelineError::usage(format!("--table is for splits of `trommel select`; this is `{rule}`")));
        }
        let LedgerReading { memory_bytes, threads, .. } = config.reading;
        let inputs = std::iter::once(&config.run).chain(&config.more);
        let inputs: Vec<String> = inputs.map(|input| input.display().to_string()).collect();
        let of =
            Again { inputs: &inputs, against: &config.against, split: config.of.as_deref(), memory_bytes, threads };
        (dedup::again(&head, of, sinks, &|facts| refuse_others(&head, facts, &config.run))?, Vec::new())
    } else if !config.against.is_empty() || config.of.is_some() || !config.more.is_empty() {
        let rule = &head.rule;
        return Err(PipelineError::usage(format!(
            "--against, --split and further inputs are for splits of `trommel dedup`; this is `{rule}`"
        )));
    } else {
        selected(&head, config, sinks)?
    };
    if head.columns != mine.columns {
        let (theirs, mine) = (Value::from_iter(head.columns), Value::from_iter(mine.columns));
        return Err(PipelineError::usage(format!(
            "the joined columns are other ones: the split has {theirs}, the run {mine}"
        )));
    }
    let rows = found.map(|found| locked(&found).clone());
    let same_rows = rows.as_ref().is_none_or(|rows| rows.only_in_run + rows.only_in_split == 0);
    let same_keys = head.count == mine.count && head.keys_sha256 == mine.keys_sha256;
    if same_keys && !same_rows {
        let (split, table) = (config.split.display(), table.unwrap_or_default());
        return Err(PipelineError::failed(format!(
            "{}: its rows are not those that {split} tells of",
            table.display()
        )));
    }
    Ok(VerifyReport {
        rule: head.rule,
        other_rule: None,
        equal: same_keys,
        counts: (head.count, mine.count),
        judged: (head.judged, mine.judged),
        keys_sha256: (head.keys_sha256, mine.keys_sha256),
        rows,
        remarks: unread.into_iter().chain(remarks).collect(),
    })
}

/// Compares the lists that lie beside a split's head with what it tells of them, and gives a remark on each of which it tells nothing.
fn unread_lists(head: &SplitHead, split: &Path) -> Result<Vec<String>, PipelineError> {
    let mut unread = Vec::new();
    for list in lists_beside(split) {
        if !is_told(head, &list).map_err(PipelineError::failed)? {
            let list = list.display();
            unread.push(format!("{list} was not read: an earlier version wrote the split, and no hash of its lists"));
        }
    }
    Ok(unread)
}

/// Whether it is a split that is checked against; of .npy files embeddings are meant, which splits of dedup are checked against.
fn is_split(run: &Path) -> bool {
    let is_head = run.to_str().is_some_and(|path| path.ends_with(".split.json"));
    run.is_file() && (is_head || matches!(Format::of(run), Some(Format::Parquet | Format::Keys | Format::KeysAlone)))
}

/// A split beside another one: what changes sides.
fn beside(
    head: SplitHead,
    table: &Path,
    mut remarks: Vec<String>,
    config: &VerifyConfig,
) -> Result<VerifyReport, PipelineError> {
    let unread = [
        ("a further input", !config.more.is_empty()),
        ("--against", !config.against.is_empty()),
        ("--split", config.of.is_some()),
        ("--table", !config.reading.tables.is_empty()),
    ];
    if let Some((flag, _)) = unread.iter().find(|(_, given)| *given) {
        let run = config.run.display();
        return Err(PipelineError::usage(format!(
            "{flag} is for a run; {run} is a split, and its rows alone are read"
        )));
    }
    let other = read_head(&config.run).map_err(failed)?;
    let others = table_of(&config.run).ok_or_else(|| without_rows(&config.run))?;
    remarks.extend(unread_lists(&other, &config.run)?);
    let (mut sink, found) = comparison(table, config.shown).map_err(failed)?;
    for row in read_rows(&others).map_err(failed)? {
        let SplitRow { shard, index, key } = row.map_err(failed)?;
        sink.add(Kept { shard: &shard, index, key: &key, uid: None }).map_err(failed)?;
    }
    sink.finish(&other).map_err(failed)?;
    let rows = locked(&found).clone();
    Ok(VerifyReport {
        rule: head.rule,
        other_rule: Some(other.rule),
        equal: rows.only_in_run + rows.only_in_split == 0,
        counts: (head.count, other.count),
        judged: (head.judged, other.judged),
        keys_sha256: (head.keys_sha256, other.keys_sha256),
        rows: Some(rows),
        remarks,
    })
}

fn without_rows(split: &Path) -> PipelineError {
    PipelineError::usage(format!(
        "{}: its rows are not beside it, and two splits are compared row by row",
        split.display()
    ))
}

/// What the run makes of the split's rule, and what is to be said of that.
fn selected(
    head: &SplitHead,
    config: &VerifyConfig,
    sinks: Vec<Box<dyn Sink>>,
) -> Result<(SplitHead, Vec<String>), PipelineError> {
    // A run that never had the shards which the split leaves out is as good as one that has them.
    let run = OpenRun::open(&config.run, &head.without)?;
    let facts = RunFacts::of(&run.ledger);
    refuse_others(head, &facts, &config.run)?;
    let selection = bound(head.rule.parse().map_err(PipelineError::usage)?, head, &facts);
    if !run.unfinished.is_empty() {
        return Err(PipelineError::unfinished(format!("{}: {}", config.run.display(), run.unfinished_in_words())));
    }
    let reading = LedgerReading { seed: head.seed, ..config.reading.clone() };
    let wanted = vec![WantedSplit { name: String::new(), selection, sinks }];
    let made = run.select(&reading, &std::env::temp_dir(), &head.without, wanted)?;
    let mine = made.into_iter().next().map(|made| (made.head, made.remarks));
    mine.ok_or_else(|| PipelineError::failed("nothing was selected; this is a bug"))
}

/// A split's rule as this run is to be asked: a rule that names no benchmark means those that the split's own run had.
fn bound(selection: Selection, head: &SplitHead, facts: &RunFacts) -> Selection {
    let name = |theirs: &Value| theirs.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mine: Vec<(String, String)> = (head.benchmarks.iter())
        .map(|theirs| (name(theirs), facts.name_of(theirs).map_or_else(|| name(theirs), str::to_owned)))
        .collect();
    if mine.is_empty() {
        return selection;
    }
    let named = |name: &str| {
        let known = mine.iter().find(|(theirs, _)| theirs == name);
        known.map_or_else(|| name.to_owned(), |(_, mine)| mine.clone())
    };
    let names = |names: &Option<Vec<String>>| {
        Some(match names {
            Some(names) => names.iter().map(|name| named(name)).collect(),
            None => mine.iter().map(|(_, mine)| mine.clone()).collect(),
        })
    };
    selection.renamed(&names, &|column| match benchmark_of(column) {
        Some((said, name)) => format!("{said}.{}", named(name)),
        None => column.to_owned(),
    })
}

/// Refuses a run whose samples or similarities are other ones.
fn refuse_others(head: &SplitHead, facts: &RunFacts, run: &Path) -> Result<(), PipelineError> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, theirs: &Value, mine: &Value| {
        if theirs != mine {
            differences.push(format!("{what}: the split has {theirs}, the run {mine}"));
        }
    };
    let is_dedup = head.rule.starts_with(dedup::PREFIX);
    for theirs in &head.benchmarks {
        let name = theirs.get("name").and_then(Value::as_str).unwrap_or_default();
        if is_dedup {
            // Another set is called by the path that was given.
            let mut mine = facts.benchmarks.first().cloned().unwrap_or_default();
            mine["name"] = name.into();
            compare(&format!("the other set {name}"), theirs, &mine);
            continue;
        }
        if facts.name_of(theirs).is_none() {
            let mine = facts.benchmarks_named([name]).into_iter().next().unwrap_or_default();
            compare(&format!("benchmark {name} and its radii"), theirs, &mine);
        }
    }
    // Without a benchmark nobody's embeddings matter, unless they are compared with one another.
    if is_dedup || !head.benchmarks.is_empty() {
        compare("identity", &head.identity, &facts.identity);
    }
    for (name, theirs) in &head.reading {
        compare(name, theirs, facts.reading.get(name).unwrap_or(&Value::Null));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(PipelineError::usage(format!(
        "{} is no run that this split can be checked against; {}",
        run.display(),
        differences.join("; ")
    )))
}
