//! Stored embeddings from the command line: sets of them as shards with names, all of one model.
//!
//! An argument is `[NAME=]EMB`, where EMB is a `::` list of what [`pieces`](fn@trommel_columnar::pieces::pieces) understands, of files by a wildcard or a brace range, or of
//! run folders (`trommel embed`, `trommel prune`). A file is a shard; its name is what a tar's would be, its path relative to its argument's
//! literal folder. The shards of a run folder are those of its plan, by their own names: what decides by names decides as it does there.
//! They lie on this machine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use trommel_columnar::ColumnarError;
use trommel_columnar::pieces::{self, Piece, pieces, with_array};
use trommel_columnar::source::{EmbeddingReader, EmbeddingsHead};
use trommel_core::causes::{Cause, Causes};
use trommel_core::notices::Notices;
use trommel_core::sample::{Identity, NO_CAPTION, Status, TAKEN_DOWN};
use trommel_ledger::LedgerError;
use trommel_ledger::manifest::PartKind;
use trommel_ledger::read::{Ledger, LedgerRow};
use trommel_select::select::RunFacts;
use trommel_shard::embeddings::{EmbeddingFiles, KnownSample, OpenedEmbeddings, Samples, Unread};
use trommel_shard::plan::{Plan, PlanError, PlanOptions, ShardRef, found_by, named, shards_in};
use trommel_shard::store::{Local, local_path, shown};
use trommel_shard::{braces, embeddings};

use crate::benchmark_origin::products_of;
use crate::benchmarks::{finished, gone_from, ledger_of, refuse_part};
use crate::error::PipelineError;
use crate::rounding::Rounded;
use crate::watch_folder::refuse_unmarked;

/// What arguments stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Tars, or folders of pictures.
    Shards,
    /// Stored embeddings.
    Embeddings,
}

/// Tells embeddings from shards. What is not there is taken for shards: who plans them says what is missing.
///
/// # Errors
/// Some of both: a run has one kind. A folder that cannot be read, or of which nobody knows what is meant.
pub fn kind_of(arguments: &[String]) -> Result<InputKind, PipelineError> {
    let mut first: Option<(InputKind, &str)> = None;
    for argument in arguments {
        let (_, list) = named(argument, &Local::default(), PlanOptions::default().max_shards);
        for item in list.split("::").filter(|item| !item.is_empty()) {
            let kind = if is_embeddings(item)? { InputKind::Embeddings } else { InputKind::Shards };
            match first {
                Some((known, other)) if known != kind => {
                    let (shards, stored) = if kind == InputKind::Shards { (item, other) } else { (other, item) };
                    return Err(PipelineError::usage(format!(
                        "{stored} is stored embeddings, {shards} is shards or pictures: a run reads one kind"
                    )));
                }
                _ => first = first.or(Some((kind, item))),
            }
        }
    }
    Ok(first.map_or(InputKind::Shards, |(kind, _)| kind))
}

fn is_embeddings(item: &str) -> Result<bool, PipelineError> {
    let whole = local_path(item).unwrap_or(Path::new(item));
    let (path, _) = with_array(whole);
    if path.is_dir() {
        if ledger_of(path)?.is_some() {
            return Ok(true);
        }
        let folder = path.display().to_string();
        let has_shards = shards_in(&Local::default(), &folder).is_ok_and(|shards| !shards.is_empty());
        return Ok(!has_shards && EmbeddingReader::files(whole).map_err(PipelineError::usage)? > 0);
    }
    // Of several files in one word, or of one that is not there, only the name tells.
    let named = || Path::new(item.rsplit_once('@').map_or(item, |(path, _)| path));
    Ok(pieces::is_embeddings(if path.exists() { path } else { named() }))
}

/// A file, and where a ledger knows its samples.
struct Source {
    /// `None` where the run kept nothing of the shard: no sample of it could be embedded.
    piece: Option<Piece>,
    /// Its run, by its place among the ledgers, and its ordinal there.
    of_run: Option<(usize, u64)>,
    rows: Option<u64>,
}

/// Stored embeddings as the shards of a plan.
pub struct StoredEmbeddings {
    /// The shards, by their names.
    pub plan: Arc<Plan>,
    /// Elements of a vector.
    pub dim: usize,
    /// Who made the embeddings; `None` for files that do not say.
    pub identity: Option<Identity>,
    /// What the runs that made them have lost, or passed over.
    pub notices: Notices,
    /// Who rounded the rows to f16.
    pub(crate) rounded: Rounded,
    /// What multiplied for the vectors, as far as files and runs say.
    pub(crate) products: Option<String>,
    sources: Vec<Source>,
    ledgers: Vec<Ledger>,
}

impl StoredEmbeddings {
    /// Finds what `arguments` stand for, and looks at the head of each file.
    ///
    /// # Errors
    /// Nothing there, two files of one name, dimensions or models that differ (both are shown), a run that is not at its end, or that kept
    /// no embeddings.
    pub fn find(arguments: &[String]) -> Result<Self, PipelineError> {
        let mut found = Finding::default();
        for argument in arguments {
            let (prefix, list) = named(argument, &Local::default(), PlanOptions::default().max_shards);
            for item in list.split("::").filter(|item| !item.is_empty()) {
                for (path, literal) in paths_of(item, &mut found.notices)? {
                    found.add(&path, &literal, prefix)?;
                }
            }
        }
        found.finish()
    }

    /// How the samples were read that the embeddings of all `sets` are of, as the runs that made them say; empty where any file does not come from
    /// a run.
    ///
    /// # Errors
    /// Runs that read in different ways: an index would not mean the same in all of them.
    pub fn reading(sets: &[Self]) -> Result<BTreeMap<String, Value>, PipelineError> {
        let ledgers = sets.iter().flat_map(|set| &set.ledgers);
        let mut readings = ledgers.map(|ledger| (ledger.root(), RunFacts::of(ledger).reading));
        let Some((first, reading)) = readings.next() else { return Ok(BTreeMap::new()) };
        let are_all_of_runs = sets.iter().flat_map(|set| &set.sources).all(|source| source.of_run.is_some());
        match readings.find(|(_, other)| *other != reading) {
            None => Ok(if are_all_of_runs { reading } else { BTreeMap::new() }),
            Some((root, other)) => Err(PipelineError::usage(format!(
                "{} and {} read their samples in different ways: {} and {}",
                first.display(),
                root.display(),
                json!(reading),
                json!(other)
            ))),
        }
    }

    /// The file of a shard, for who reads it otherwise; `None` where it has no row. A run's has the checksum that it was written with.
    ///
    /// # Errors
    /// A run's file that is damaged: a vector with another bit looks like any other.
    pub fn piece(&self, ordinal: u64) -> Result<Option<&Piece>, LedgerError> {
        let source = usize::try_from(ordinal).ok().and_then(|at| self.sources.get(at));
        let Some((source, piece)) = source.and_then(|source| Some((source, source.piece.as_ref()?))) else {
            return Ok(None);
        };
        if let Some((ledger, ordinal)) = source.of_run {
            self.ledgers[ledger].check_part(ordinal, PartKind::Embeddings)?;
        }
        Ok(Some(piece))
    }

    /// The run that a shard is of, and its ordinal there.
    #[must_use]
    pub fn run_of(&self, ordinal: u64) -> Option<(&Ledger, u64)> {
        let (ledger, ordinal) = usize::try_from(ordinal).ok().and_then(|at| self.sources.get(at))?.of_run?;
        Some((&self.ledgers[ledger], ordinal))
    }

    /// What tells the runs as they are now from what becomes of them (an epoch with a takedown has shards of the same names and sizes): sha256
    /// over the shards' names and the checksums of their ledger and embeddings. `None` where no run was given.
    #[must_use]
    pub fn sha256_of_runs(&self) -> Option<String> {
        let mut hash = Sha256::new();
        for (shard, source) in self.plan.shards.iter().zip(&self.sources) {
            let Some((ledger, ordinal)) = source.of_run else { continue };
            let line = self.ledgers[ledger].shards().get(&ordinal).map(|(_, line)| line);
            let sum = |kind| line.and_then(|line| line.part(kind)).map_or("none", |part| part.crc32c.as_str());
            hash.update(format!("{:?} {} {}\n", shard.name, sum(PartKind::Ledger), sum(PartKind::Embeddings)));
        }
        (!self.ledgers.is_empty()).then(|| format!("{:x}", hash.finalize()))
    }

    fn known(&self, (ledger, ordinal): (usize, u64)) -> Result<Samples, LedgerError> {
        let rows = self.ledgers[ledger].shard_fates(ordinal)?;
        Ok(Box::new(rows.map(|row| row.map_err(Cause::from).and_then(known))))
    }
}

/// What a ledger's row says of a sample, whatever the rule is now.
fn known(row: LedgerRow) -> Result<KnownSample, Cause> {
    let fate = row.fate;
    let is = |code: &str| fate.reason.as_ref().is_some_and(|reason| reason.code == code);
    let settles = fate.status == Status::Rejected || is(TAKEN_DOWN);
    // Of a dropped sample's caption nobody has said anything.
    let captioned = !is(NO_CAPTION);
    let settled = fate.reason.filter(|_| settles).map(|reason| (fate.status, reason));
    let info = Arc::try_unwrap(fate.info).map_err(|_| "a row of the ledger is held by somebody")?;
    Ok(KnownSample { info, settled, captioned })
}

impl EmbeddingFiles for StoredEmbeddings {
    fn open(&self, ordinal: u64) -> Result<OpenedEmbeddings, Unread> {
        let at = usize::try_from(ordinal).unwrap_or(usize::MAX);
        let (Some(shard), Some(source)) = (self.plan.shard(ordinal), self.sources.get(at)) else {
            return Err(Unread::Unavailable(format!("the plan has no shard {ordinal}")));
        };
        let unread = |error: &ColumnarError| Unread::of(&shard.name, error, source.rows);
        let bytes = source.piece.as_ref().map_or(Ok(0), Piece::bytes).map_err(|error| unread(&error))?;
        if shard.bytes.is_some_and(|planned| planned != bytes) {
            let planned = shard.bytes.unwrap_or_default();
            let why = format!("{} has {bytes} bytes now and had {planned} when it was planned", shard.url);
            return Err(Unread::Unavailable(why));
        }
        let damaged = |error: LedgerError| Unread::Unavailable(Causes(&error).to_string());
        let known = source.of_run.map(|of| self.known(of)).transpose().map_err(damaged)?;
        let piece = self.piece(ordinal).map_err(damaged)?;
        let reader = piece.map(EmbeddingReader::of).transpose().map_err(|error| unread(&error))?;
        Ok(OpenedEmbeddings { name: shard.name.clone(), reader, known, bytes, rows: source.rows })
    }
}

/// Paths of one item of a list, each with the literal folder that its name leaves out; what a wildcard passes over is noted.
fn paths_of(item: &str, notices: &mut Notices) -> Result<Vec<(PathBuf, PathBuf)>, PipelineError> {
    let elsewhere =
        || PipelineError::usage(format!("{}: stored embeddings are read on this machine only", shown(item)));
    let path = local_path(item).ok_or_else(elsewhere)?;
    let text = path.to_str().unwrap_or(item);
    let own = |path: &Path| (path.to_path_buf(), path.parent().unwrap_or(Path::new("")).to_path_buf());
    if with_array(path).0.exists() || !text.contains(['*', '?', '[', '{']) {
        return Ok(vec![own(path)]);
    }
    let special = text.find(['*', '?', '[', '{']).unwrap_or(text.len());
    let literal = PathBuf::from(&text[..text[..special].rfind('/').map_or(0, |slash| slash + 1)]);
    let mut paths = Vec::new();
    for name in braces::expand(text, PlanOptions::default().max_shards).map_err(PipelineError::usage)? {
        let (pattern, array) = name.rsplit_once('@').map_or((name.as_str(), None), |(path, it)| (path, Some(it)));
        if !pattern.contains(['*', '?', '[']) {
            paths.push(PathBuf::from(name));
            continue;
        }
        let found = found_by(pattern, &Local::default(), notices).map_err(PipelineError::usage)?;
        let mut found: Vec<PathBuf> = found.into_iter().map(PathBuf::from).collect();
        found.sort();
        paths.extend(found.into_iter().map(|path| match array {
            Some(array) => PathBuf::from(format!("{}@{array}", path.display())),
            None => path,
        }));
    }
    Ok(paths.into_iter().map(|path| (path, literal.clone())).collect())
}

#[derive(Default)]
struct Finding {
    shards: Vec<ShardRef>,
    sources: Vec<Source>,
    ledgers: Vec<Ledger>,
    notices: Notices,
}

impl Finding {
    fn add(&mut self, path: &Path, literal: &Path, prefix: Option<&str>) -> Result<(), PipelineError> {
        if path.is_dir()
            && let Some(ledger) = ledger_of(path)?
        {
            return self.add_run(path, ledger, prefix);
        }
        refuse_part(path)?;
        gone_from(path, "embeddings", &mut self.notices)?;
        // What lies in a folder is called by its path there, as tars are.
        let root = if with_array(path).0.is_dir() { with_array(path).0 } else { literal };
        for piece in pieces(path).map_err(PipelineError::usage)? {
            let file = piece.path();
            let name = file.strip_prefix(root).unwrap_or(file).display().to_string();
            let bytes = piece.bytes().map_err(PipelineError::usage)?;
            let text = "files of embeddings without keys: their rows are called by their numbers";
            self.notices.note("rows_by_number", text, file.display().to_string(), u64::from(!piece.has_keys()));
            self.push(name, file.display().to_string(), bytes, prefix);
            self.sources.push(Source { piece: Some(piece), of_run: None, rows: None });
        }
        Ok(())
    }

    fn add_run(&mut self, path: &Path, ledger: Ledger, prefix: Option<&str>) -> Result<(), PipelineError> {
        refuse_unmarked(&ledger)?;
        self.notices.merge(&finished(path, &ledger)?);
        let plan: Plan = ledger.plan().map_err(PipelineError::usage)?;
        for shard in &plan.shards {
            let ordinal = shard.ordinal;
            let judged =
                ledger.shards().get(&ordinal).is_some_and(|(_, line)| line.counts.total() > line.counts.rejected);
            let piece = match ledger.has_embeddings(ordinal) {
                true => Some(Piece::Ipc(ledger.embeddings_path(ordinal).map_err(PipelineError::usage)?)),
                false if judged => {
                    let kept = format!("{}: this run kept no embeddings", path.display());
                    return Err(PipelineError::usage(kept));
                }
                false => None,
            };
            let url = piece.as_ref().map_or(path, Piece::path).display().to_string();
            let bytes = piece.as_ref().map_or(Ok(0), Piece::bytes).map_err(PipelineError::usage)?;
            self.push(shard.name.clone(), url, bytes, prefix);
            self.sources.push(Source { piece, of_run: Some((self.ledgers.len(), ordinal)), rows: None });
        }
        self.ledgers.push(ledger);
        Ok(())
    }

    fn push(&mut self, name: String, url: String, bytes: u64, prefix: Option<&str>) {
        let name = prefix.map_or(name.clone(), |prefix| format!("{prefix}/{name}"));
        self.shards.push(ShardRef { ordinal: self.shards.len() as u64, name, url, bytes: Some(bytes) });
    }

    /// Compares names, dimensions and models.
    fn finish(mut self) -> Result<StoredEmbeddings, PipelineError> {
        let mut seen = HashMap::new();
        for shard in &self.shards {
            if let Some(first) = seen.insert(shard.name.as_str(), shard.url.as_str()) {
                let (name, first, second) = (shard.name.clone(), first.to_owned(), shard.url.clone());
                return Err(PipelineError::usage(PlanError::SameName { name, first, second }));
            }
        }
        let (mut first, mut broken): (Option<(EmbeddingsHead, &str)>, _) = (None, None);
        let (mut rounded, mut products) = (Rounded::default(), BTreeSet::new());
        for (source, shard) in self.sources.iter_mut().zip(&self.shards) {
            let Some(piece) = &source.piece else { continue };
            let head = match EmbeddingReader::head(piece) {
                Ok(head) => head,
                // Who reads it says so: the others are judged.
                Err(error) => {
                    broken.get_or_insert(error);
                    continue;
                }
            };
            source.rows = head.rows;
            *(if head.foreign { &mut rounded.before } else { &mut rounded.here }) = true;
            let config = source.of_run.map(|(ledger, _)| self.ledgers[ledger].config());
            products.extend(products_of(config, &head.metadata));
            let Some((wanted, other)) = &first else {
                first = Some((head, &shard.url));
                continue;
            };
            if head.dim != wanted.dim {
                let (dim, theirs) = (head.dim, wanted.dim);
                return Err(PipelineError::usage(format!("{}: dimension {dim}; {other} has {theirs}", shard.url)));
            }
            if head.identity != wanted.identity {
                let show =
                    |head: &EmbeddingsHead| head.identity.as_ref().map_or_else(|| "none".into(), ToString::to_string);
                return Err(PipelineError::usage(format!(
                    "{} was embedded by another model: it says {}; {other} says {}",
                    shard.url,
                    show(&head),
                    show(wanted)
                )));
            }
        }
        let Some((EmbeddingsHead { dim, identity, .. }, _)) = first else {
            return Err(match broken {
                Some(error) => PipelineError::usage(error),
                None => PipelineError::usage("no embeddings given"),
            });
        };
        let plan = Arc::new(Plan { shards: self.shards, ..Plan::default() });
        let Self { sources, ledgers, notices, .. } = Self { shards: Vec::new(), ..self };
        let products = products.into_iter().reduce(|all, other| format!("{all} and {other}"));
        Ok(StoredEmbeddings { plan, dim, identity, notices, rounded, products, sources, ledgers })
    }
}

impl StoredEmbeddings {
    /// Bytes that one reader of these holds beside its rows' credit.
    #[must_use]
    pub fn reader_bytes(&self) -> u64 {
        embeddings::reader_bytes(self.dim)
    }
}
