//! Benchmarks from the command line: `NAME=DIR`. DIR is a run of `trommel embed`, what `trommel radii` wrote of one benchmark, an epoch's split of
//! a watch, or another program's embeddings (clip-retrieval's folder, `.npy`, DataComp's): a folder or one file. Pictures are told apart here
//! ([`is_pictures`]) and embedded elsewhere, and what they become is read here as well.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trommel_columnar::embeddings::EmbeddingSet;
use trommel_columnar::leaving::LeftOut;
use trommel_columnar::parquet::{Column, ColumnType};
use trommel_columnar::pieces::{Piece, pieces, tables_alone, with_array};
use trommel_columnar::source::EmbeddingReader;
use trommel_core::durable;
use trommel_core::notices::Notices;
use trommel_core::sample::{Identity, Reason, Status, TAKEN_DOWN};
use trommel_decide::benchmark::Benchmark;
use trommel_ledger::manifest::PartKind;
use trommel_ledger::read::Ledger;
use trommel_ledger::run_folder::{CONFIG_FILE, MANIFESTS};
use trommel_shard::plan::{Plan, ShardRef, shards_in};
use trommel_shard::samples::GroupConfig;
use trommel_shard::store::Local;

use crate::benchmark_origin::BenchmarkOrigin;
use crate::decision::BenchmarkConfig;
use crate::error::PipelineError;
use crate::exports::refuse_stale;
pub use crate::named_path::NamedPath;
use crate::run_losses;
use crate::stray_files::pictures_in;
use crate::watch_folder::refuse_unmarked;

/// Whether a benchmark or reference set is pictures, and so to be embedded first: neither a file, nor a run of `trommel embed`, nor a
/// folder of embeddings.
///
/// # Errors
/// A folder that cannot be read, or holds embeddings beside pictures or shards: nobody knows which is meant.
pub fn is_pictures(path: &Path) -> Result<bool, PipelineError> {
    if !path.is_dir() || ledger_of(path)?.is_some() {
        return Ok(false);
    }
    let embeddings = EmbeddingReader::files(path).map_err(PipelineError::usage)?;
    if embeddings == 0 {
        return Ok(true);
    }
    let shards = shards_in(&Local::default(), &path.display().to_string()).map_err(PipelineError::usage)?.len();
    let (pictures, first) = pictures_in(path, &GroupConfig::default())?;
    if shards == 0 && pictures == 0 {
        return Ok(false);
    }
    let first = if pictures > 0 { format!(" (first: {first})") } else { String::new() };
    Err(PipelineError::usage(format!(
        "{}: {embeddings} files of embeddings, {pictures} pictures{first} and {shards} shards: give those that are meant, or move the \
         others away",
        path.display()
    )))
}

/// Reads a benchmark's embeddings, and with them its radii where there are any. What is passed over in them goes to `notices`.
///
/// # Errors
/// Unreadable or empty folders, rows without direction, a name that cannot be a column's; a part of a run, or a run of `trommel embed` that is
/// not at its end, or could not embed a picture that [`NamedPath::without`] does not name.
pub fn load(named: &NamedPath, notices: &mut Notices) -> Result<Benchmark, PipelineError> {
    Ok(load_with_origin(named, notices)?.0)
}

/// All of them in their order, and how each came to be.
///
/// # Errors
/// As [`load`].
pub fn load_all(
    named: &[NamedPath],
    notices: &mut Notices,
) -> Result<(Benchmarks, Vec<BenchmarkOrigin>), PipelineError> {
    let loaded = named.iter().map(|named| load_with_origin(named, notices));
    loaded.map(|loaded| loaded.map(|(benchmark, origin)| (Arc::new(benchmark), origin))).collect()
}

/// One of them, and how it came to be.
///
/// # Errors
/// As [`load`].
pub fn load_with_origin(
    named: &NamedPath,
    notices: &mut Notices,
) -> Result<(Benchmark, BenchmarkOrigin), PipelineError> {
    let place = format!("benchmark {}", named.name);
    if !with_array(&named.path).0.exists() {
        return Err(PipelineError::usage(format!("no such folder: {}", named.path.display())).within(place));
    }
    refuse_part(&named.path).map_err(|error| error.within(&place))?;
    whole(named)?;
    let reader = open_set(&named.path).map_err(|error| error.within(&place))?;
    let mut origin = BenchmarkOrigin::of(named, &reader);
    let set = EmbeddingSet::read(&named.path, reader).map_err(|error| PipelineError::usage(error).within(&place))?;
    if set.shards.iter().any(Option::is_some) {
        origin.shards = set.shards;
    }
    for remark in &set.notes.remarks {
        tracing::warn!(benchmark = named.name, "{}; {}", remark.place, remark.kind().1);
    }
    let text = "test points that are taken down, left out of their benchmark";
    notices.note("points_taken_down", text, format!("benchmark {}", named.name), set.notes.left_out_rows);
    // Its errors name it.
    let benchmark = Benchmark::new(&named.name, set.dim, set.vectors, set.keys, set.labels, set.radii, set.identity);
    Ok((benchmark.map_err(PipelineError::usage)?, origin))
}

/// The benchmarks that a run was judged against, if their folders still hold them.
///
/// # Errors
/// A folder that is gone or holds another benchmark, or a run that does not say where they were.
pub(crate) fn as_judged(ledger: &Ledger) -> Result<Vec<Benchmark>, PipelineError> {
    let at = |path: &str| ledger.config().pointer(path).cloned().unwrap_or_default();
    let due: Vec<BenchmarkConfig> =
        serde_json::from_value(at("/decisions/benchmarks")).map_err(PipelineError::usage)?;
    let of = |due: &BenchmarkConfig| {
        let name = &due.name;
        let path = at("/record/benchmarks").get(name).and_then(|path| path.as_str().map(PathBuf::from));
        let path =
            path.ok_or_else(|| PipelineError::usage(format!("benchmark {name}: the run does not say where it was")))?;
        let place = format!("benchmark {name}");
        let set = EmbeddingSet::read(&path, open_set(&path).map_err(|error| error.within(&place))?)
            .map_err(|error| PipelineError::usage(error).within(&place))?;
        let benchmark = Benchmark::new(name, set.dim, set.vectors, set.keys, set.labels, set.radii, set.identity)
            .map_err(PipelineError::usage)?;
        if BenchmarkConfig::of(&benchmark) == *due {
            Ok(benchmark)
        } else {
            let path = path.display();
            let other = format!("{path} is not the benchmark any more that the run was judged against");
            Err(PipelineError::usage(other).within(place))
        }
    };
    due.iter().map(of).collect()
}

/// The ledger of the run of `trommel embed` that wrote `path`; `None` where nothing says how it came to be.
///
/// # Errors
/// A ledger that cannot be read.
pub fn ledger_of(path: &Path) -> Result<Option<Ledger>, PipelineError> {
    let beside = if path.is_dir() && !path.ends_with(PartKind::Embeddings.folder()) && !path.ends_with("img_emb") {
        Some(path)
    } else {
        path.parent()
    };
    match beside.filter(|root| root.join(CONFIG_FILE).is_file() && root.join(MANIFESTS).is_dir()) {
        Some(root) => Ledger::open(root).map(Some).map_err(PipelineError::usage),
        None => Ok(None),
    }
}

/// Opens what `path` stands for; of a run's parts those that its ledger counts, whatever was exported of them: a shard that could not be read at first has an
/// empty part of that time beside the one that counts. Of a watch's epoch what is taken down is left out, and counted.
pub(crate) fn open_set(path: &Path) -> Result<EmbeddingReader, PipelineError> {
    let mut files = pieces(path).map_err(PipelineError::usage)?;
    let mut left_out = LeftOut::default();
    if let Some(ledger) = ledger_of(path)? {
        let (run, folder) = (ledger.root(), files.first().and_then(|piece| piece.path().parent()));
        // An export has neither identity nor shards: it is read where it is given by its own name.
        let is_exported = folder == Some(&run.join("img_emb")) && !path.ends_with("img_emb");
        if is_exported || folder == Some(&run.join(PartKind::Embeddings.folder())) {
            let parts = ledger.files(PartKind::Embeddings).map_err(PipelineError::usage)?;
            files = parts.into_iter().map(Piece::Ipc).collect();
            left_out = taken_down(&ledger)?;
        } else {
            refuse_stale(path, &files, &ledger)?;
        }
    }
    Ok(EmbeddingReader::of_set(path, files).map_err(PipelineError::usage)?.leaving(left_out))
}

/// Refuses a file out of a run's folder: who is rejected or taken down, and whether the run is at its end, stands in its ledger alone, and the
/// other parts would be missed by nobody. A file that was copied out of it stands for itself.
///
/// # Errors
/// Such a file, with the run to give instead; a ledger that cannot be read.
pub(crate) fn refuse_part(path: &Path) -> Result<(), PipelineError> {
    let file = with_array(path).0;
    match file.parent().filter(|folder| file.is_file() && folder.ends_with(PartKind::Embeddings.folder())) {
        Some(parts) if ledger_of(parts)?.is_some() => Err(PipelineError::usage(format!(
            "{}: a part of a run, which says more of its rows: give {}",
            path.display(),
            durable::parent(parts).display()
        ))),
        _ => Ok(()),
    }
}

/// What a watch's epoch marks as taken down.
fn taken_down(ledger: &Ledger) -> Result<LeftOut, PipelineError> {
    refuse_unmarked(ledger)?;
    let mut found = LeftOut::default();
    if ledger.config().pointer("/record/takedowns").is_none() {
        return Ok(found);
    }
    for (&ordinal, (_, line)) in ledger.shards() {
        let wanted = [("index", ColumnType::U32), ("reason", ColumnType::Text)];
        for group in ledger.columns(ordinal, &wanted).map_err(PipelineError::usage)? {
            let group = group.map_err(PipelineError::usage)?;
            let [Column::U32(indices), Column::Text(reasons)] = group.as_slice() else { continue };
            let marked = indices.iter().zip(reasons).filter(|(_, reason)| reason.as_deref() == Some(TAKEN_DOWN));
            marked.for_each(|(index, _)| found.add(&line.name, index.unwrap_or_default()));
        }
    }
    Ok(found)
}

/// What a run has lost or passed over. Refuses the embeddings of one that has not come to its end: what is not there yet would be missed by
/// nobody.
pub(crate) fn finished(path: &Path, ledger: &Ledger) -> Result<Notices, PipelineError> {
    let plan: Plan = ledger.plan().map_err(PipelineError::usage)?;
    let missing: Vec<&ShardRef> = plan.shards.iter().filter(|shard| !ledger.is_committed(shard.ordinal)).collect();
    let Some(first) = missing.first() else { return Ok(run_losses::of_run(&plan, ledger)) };
    Err(PipelineError::usage(format!(
        "{}: {} of {} shards are not embedded yet (first: {}); the command that began it goes on",
        path.display(),
        missing.len(),
        plan.len(),
        first.name
    )))
}

/// Counts what is lost of a folder of another program's: tables of keys whose vectors are gone.
pub(crate) fn gone_from(path: &Path, what: &str, notices: &mut Notices) -> Result<(), PipelineError> {
    for (table, rows) in tables_alone(path).map_err(PipelineError::usage)? {
        let text = format!("{what} that are gone, with the tables of their keys left");
        notices.file_loss("embeddings_gone", &text, table.display().to_string(), rows);
    }
    Ok(())
}

/// A picture that a run could not embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Name of its shard.
    pub shard: String,
    /// Its key in that shard.
    pub key: String,
    /// Why it could not be embedded.
    pub why: Reason,
}

impl Rejected {
    fn in_shard(&self) -> String {
        format!("{}/{}", self.shard, self.key)
    }

    /// What tells it from the others: its key, or its shard too where another one has the key.
    pub(crate) fn called(&self, all: &[Self]) -> String {
        match all.iter().filter(|other| other.key == self.key).count() {
            0 | 1 => self.key.clone(),
            _ => self.in_shard(),
        }
    }
}

/// What a run could not embed, in the order of its shards; nobody misses what is taken down.
///
/// # Errors
/// A ledger that cannot be read.
pub fn rejects(ledger: &Ledger) -> Result<Vec<Rejected>, PipelineError> {
    let mut found = Vec::new();
    for (ordinal, (_, line)) in ledger.shards().iter().filter(|(_, (_, line))| line.counts.rejected > 0) {
        let rows = ledger.shard_rows(*ordinal).map_err(|error| PipelineError::usage(error).within(&line.name))?;
        for row in rows.into_iter().filter(|row| row.fate.status == Status::Rejected) {
            if row.fate.reason.as_ref().is_some_and(|reason| reason.code == TAKEN_DOWN) {
                continue;
            }
            let why = row.fate.reason.unwrap_or_else(|| Reason::new("", ""));
            found.push(Rejected { shard: line.name.clone(), key: row.fate.info.key.clone(), why });
        }
    }
    Ok(found)
}

/// The places of the rejects that `text` names: KEY, or SHARD/KEY.
///
/// # Errors
/// A key that several of them have: nobody knows which of them may be missing.
fn named_by(text: &str, rejects: &[Rejected]) -> Result<Vec<usize>, String> {
    let those = |is: &dyn Fn(&Rejected) -> bool| (0..rejects.len()).filter(|at| is(&rejects[*at])).collect::<Vec<_>>();
    let in_shard = those(&|reject| reject.in_shard() == text);
    if !in_shard.is_empty() {
        return Ok(in_shard);
    }
    let of_key = those(&|reject| reject.key == text);
    match of_key.as_slice() {
        [first, _, ..] => Err(format!(
            "{} pictures of that key were rejected when it was embedded; leave each out with its shard: {}",
            of_key.len(),
            rejects[*first].in_shard()
        )),
        _ => Ok(of_key),
    }
}

/// That all of a benchmark is there, but for what may be missing by name: contamination of a point that is not there passes unseen.
fn whole(named: &NamedPath) -> Result<(), PipelineError> {
    let NamedPath { name, path, without } = named;
    let ledger = ledger_of(path)?;
    let rejects = match &ledger {
        Some(ledger) => {
            let notices = finished(path, ledger).map_err(|error| error.within(format_args!("benchmark {name}")))?;
            if let Some((_, lost)) = notices.iter().find(|(_, notice)| notice.loss) {
                let (text, count, first) = (&lost.text, lost.count, &lost.first);
                return Err(PipelineError::usage(format!(
                    "benchmark {name}: when it was embedded it lost {text}: {count} (first: {first}), and copies of that would pass"
                )));
            }
            rejects(ledger)?
        }
        None => Vec::new(),
    };
    let (mut missing, mut unknown) = (vec![true; rejects.len()], None);
    for text in without {
        let wrong = |what: &str| PipelineError::usage(format!("--benchmark-without {name}/{text}: {what}"));
        let found = named_by(text, &rejects).map_err(|what| wrong(&what))?;
        if found.is_empty() {
            unknown = unknown.or_else(|| Some(wrong("no picture of that key was rejected when it was embedded")));
        }
        found.into_iter().for_each(|at| missing[at] = false);
    }
    let missing: Vec<&Rejected> = rejects.iter().zip(missing).filter_map(|(it, is)| is.then_some(it)).collect();
    if let Some(first) = missing.first() {
        let (called, why) = (first.called(&rejects), &first.why);
        return Err(PipelineError::usage(format!(
            "benchmark {name}: {} of its pictures could not be embedded (first: {called}: {why}), and copies of them would pass; mend them, or \
             leave each out by name: --benchmark-without {name}/{called}",
            missing.len()
        )));
    }
    let mut gone = Notices::default();
    gone_from(path, "test points", &mut gone).map_err(|error| error.within(format_args!("benchmark {name}")))?;
    if let Some(line) = gone.lines().next() {
        return Err(PipelineError::usage(format!("benchmark {name}: {line}, and copies of these would pass")));
    }
    unknown.map_or(Ok(()), Err)
}

/// Benchmarks and what they are compared with, as [`one_model`](crate::one_model::one_model) takes them.
pub fn and_benchmarks<'a>(
    compared: impl Into<String>,
    identity: Option<&'a Identity>,
    benchmarks: impl IntoIterator<Item = &'a Arc<Benchmark>>,
) -> Vec<(String, Option<&'a Identity>)> {
    let of = |it: &'a Arc<Benchmark>| (format!("benchmark {}", it.name), it.identity.as_ref());
    std::iter::once((compared.into(), identity)).chain(benchmarks.into_iter().map(of)).collect()
}

/// Shared benchmarks in the order of the command line.
pub type Benchmarks = Vec<Arc<Benchmark>>;
