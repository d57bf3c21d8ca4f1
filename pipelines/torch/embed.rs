//! `trommel embed`, the end of it: parts of a finished run as other programs want them.
//!
//! Embeddings of shards stay where the ledger put them, `embeddings/<ordinal>.<incarnation>.arrow`. Class folders and sets of
//! CLIP_benchmark's become one `embeddings.arrow`, with labels where there are classes: a benchmark. `npy` is clip-retrieval's layout, rows in tar order.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufWriter;
use std::path::Path;

use trommel_columnar::embeddings::{EmbeddingFile, EmbeddingHead, EmbeddingRow};
use trommel_columnar::npy;
use trommel_columnar::parquet::{Column, ColumnType, Field, TableWriter};
use trommel_core::durable::Aside;
use trommel_core::notices::Notices;
use trommel_core::out_folder::OutFolder;
use trommel_core::sample::Identity;
use trommel_ledger::read::Ledger;
use trommel_shard::classified::{Classified, LabelError, Packed};
use trommel_shard::plan::Plan;

use crate::run_setup::{Input, reader_config};
use trommel_pipelines::benchmark_origin::{PRODUCTS, products};
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::exports::remove_stale;

/// Writes what the form of the input and `npy` ask for, once all shards are there. Returns how many are still to come from other slices. Pictures
/// whose class nobody can tell are noted.
///
/// # Errors
/// A folder that cannot be read or written.
pub fn finish(config: &JudgeConfig, as_npy: bool, notices: &mut Notices) -> Result<u64, PipelineError> {
    let ledger = Ledger::open(&config.run).map_err(PipelineError::failed)?;
    let plan: Plan = ledger.plan().map_err(PipelineError::failed)?;
    let to_come = plan.shards.iter().filter(|shard| !ledger.is_committed(shard.ordinal)).count() as u64;
    if to_come > 0 {
        return Ok(to_come);
    }
    if as_npy {
        return write_npy(&ledger, &plan, &config.run).map(|()| 0);
    }
    match (Input::find(&config.shards, &config.reading.stores, &reader_config(config).group)?, set_of(config)?) {
        (Input::Shards(_), None) => remove_stale(&ledger, &BTreeSet::new()).map(|()| 0),
        (_, set) => write_benchmark(&ledger, &plan, config, set.as_ref(), notices).map(|()| 0),
    }
}

/// Refuses, before anything is embedded, a set whose labels could not be written at the end.
///
/// # Errors
/// A set of CLIP_benchmark's whose files cannot be read, or with a class whose name is blank.
pub fn check(config: &JudgeConfig) -> Result<(), PipelineError> {
    set_of(config).map(drop)
}

/// The set of CLIP_benchmark's that is embedded, if it is one.
fn set_of(config: &JudgeConfig) -> Result<Option<Packed>, PipelineError> {
    match config.shards.as_slice() {
        [only] => Ok(Packed::find(Path::new(only))?),
        _ => Ok(None),
    }
}

/// One file of all vectors, each with its class: its folder's name, or what `set` says of it, which has none for captioned pictures.
fn write_benchmark(
    ledger: &Ledger,
    plan: &Plan,
    config: &JudgeConfig,
    set: Option<&Packed>,
    notices: &mut Notices,
) -> Result<(), PipelineError> {
    let decisions = ledger.config().get("decisions").and_then(|decisions| decisions.get("embedder")).cloned();
    let identity: Option<Identity> = decisions.and_then(|value| serde_json::from_value(value).ok());
    let source = config.shards.first().map(|root| std::fs::canonicalize(root).unwrap_or_else(|_| root.into()));
    let source = source.map(|path| path.display().to_string()).unwrap_or_default();
    let mut file: Option<EmbeddingFile> = None;
    for (at, shard) in plan.shards.iter().enumerate() {
        let labels = match set {
            Some(Packed::Classified(set)) => labels_of(set, at)?,
            Some(Packed::Captioned(_)) | None => BTreeMap::new(),
        };
        for row in ledger.embeddings(shard.ordinal).map_err(PipelineError::failed)? {
            if file.is_none() {
                let mut metadata = BTreeMap::from([("source".to_owned(), source.clone())]);
                metadata.extend(products(ledger.config()).map(|products| (PRODUCTS.to_owned(), products)));
                let head = EmbeddingHead { dim: row.vector.len(), radii: false, identity: identity.clone(), metadata };
                file = Some(EmbeddingFile::in_folder(&config.run, &head).map_err(PipelineError::failed)?);
            }
            let Some(file) = &mut file else { continue };
            let label = match (set, labels.get(&row.index)) {
                (None, _) => Some(shard.name.as_str()),
                (_, Some(Ok(label))) => Some(label.as_str()),
                (_, Some(Err(why))) => {
                    let text = "pictures whose class nobody can tell, embedded without a label";
                    notices.note("no_class", text, format!("{}: {}: {why}", shard.name, row.key), 1);
                    None
                }
                (_, None) => None,
            };
            let vector = row.vector.as_slice();
            file.push(EmbeddingRow { key: &row.key, label, shard: None, index: None, vector, radius: None })
                .map_err(PipelineError::failed)?;
        }
    }
    match file {
        Some(file) => file.commit().map_err(PipelineError::failed)?,
        None => return Err(PipelineError::usage("no picture could be embedded")),
    };
    remove_stale(ledger, &BTreeSet::new())
}

/// Name of the class of each of a tar's samples by its raw index, or why it has none.
fn labels_of(set: &Classified, shard: usize) -> Result<BTreeMap<u32, Result<String, LabelError>>, PipelineError> {
    let mut labels = BTreeMap::new();
    set.labels(shard, &mut |index, class| {
        let name = |class: usize| set.class_names.get(class).cloned().unwrap_or_else(|| class.to_string());
        labels.insert(index, class.map(name));
        Ok::<_, PipelineError>(())
    })?;
    Ok(labels)
}

fn begin(path: &Path) -> Result<BufWriter<Aside>, PipelineError> {
    Aside::create(path).map(BufWriter::new).map_err(PipelineError::at(path))
}

fn end(out: BufWriter<Aside>, path: &Path) -> Result<(), PipelineError> {
    let file = out.into_inner().map_err(|error| PipelineError::at(path)(error.into_error()))?;
    file.commit().map_err(PipelineError::at(path))
}

fn write_npy(ledger: &Ledger, plan: &Plan, run: &Path) -> Result<(), PipelineError> {
    // clip-retrieval pads to the digits of the number of partitions.
    let width = plan.len().max(1).ilog10() as usize + 1;
    let make = |folder: &str| OutFolder::make(&run.join(folder)).map_err(PipelineError::at(&run.join(folder)));
    let _made = [make("img_emb")?, make("metadata")?];
    // As clip-retrieval's writer: a part without rows is no file. Nobody could say how long its rows are.
    let mut parts = Vec::new();
    for shard in &plan.shards {
        let counts = ledger.shards().get(&shard.ordinal).map(|(_, line)| &line.counts);
        if counts.is_some_and(|counts| counts.total() > counts.rejected) {
            let number = format!("{:0width$}", shard.ordinal);
            let vectors = run.join("img_emb").join(format!("img_emb_{number}.npy"));
            parts.push((shard.ordinal, vectors, run.join("metadata").join(format!("metadata_{number}.parquet"))));
        }
    }
    if parts.is_empty() {
        return Err(PipelineError::usage("no picture could be embedded"));
    }
    let named = parts.iter().flat_map(|(_, vectors, keys)| [vectors.clone(), keys.clone()]).collect();
    remove_stale(ledger, &named)?;
    for (ordinal, vectors_path, keys_path) in parts {
        let rows = ledger.embeddings(ordinal).map_err(PipelineError::failed)?;
        let dim = rows.first().map_or(0, |row| row.vector.len());
        let vectors: Vec<half::f16> = rows.iter().flat_map(|row| row.vector.iter().copied()).collect();
        let mut out = begin(&vectors_path)?;
        npy::write(&vectors_path, &mut out, &vectors, dim).map_err(PipelineError::failed)?;
        end(out, &vectors_path)?;
        let keys: Vec<Option<String>> = rows.into_iter().map(|row| Some(row.key)).collect();
        let fields = vec![Field::required("image_path", ColumnType::Text)];
        let mut table =
            TableWriter::new(&keys_path, begin(&keys_path)?, fields, Vec::new()).map_err(PipelineError::failed)?;
        table.write(&[Column::Text(keys)]).map_err(PipelineError::failed)?;
        end(table.finish().map_err(PipelineError::failed)?, &keys_path)?;
    }
    Ok(())
}
