//! `trommel radii`: reference embeddings ─▶ radii of each benchmark's test points ─▶ benchmarks with radii, and the gap as picture and table.
//!
//! What is given as pictures has been embedded before. A reference set streams by, however large it is; each benchmark's points
//! see it once. Of several sets each has its own distribution in picture and table; a benchmark's radii are those to all of them together.
//! Cost: references x points x dim; memory: the benchmarks, a block of products for each, a batch of references.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use trommel_columnar::embeddings::EmbeddingSet;
use trommel_columnar::pieces::{Piece, pieces};
use trommel_core::durable::Aside;
use trommel_core::median::median;
use trommel_core::notices::Notices;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::radii::{Radii, RadiiOutcome};
use trommel_report::{gap_picture, gap_table};
use trommel_shard::embeddings::reader_bytes;

use crate::benchmark_origin::{BenchmarkOrigin, PRODUCTS, ROUNDED, note_reference};
use crate::benchmarks::{
    NamedPath, and_benchmarks, finished, gone_from, is_pictures, ledger_of, load_all, open_set, refuse_part, rejects,
};
use crate::error::PipelineError;
use crate::memory::MemoryPlan;
use crate::one_model::one_model;
use crate::rounding::Rounded;

/// What else lies in the folder of the radii beside the benchmarks: none of them is called so.
pub const BESIDE_BENCHMARKS: [&str; 3] = [EMBEDDED, GAP_PICTURE, GAP_TABLE];
/// Folder of what was given as pictures.
pub const EMBEDDED: &str = "embedded";
/// The gap of each benchmark to each reference set, as a picture.
const GAP_PICTURE: &str = "gap.svg";
/// The same as a table.
const GAP_TABLE: &str = "gap.csv";

/// What to measure.
#[derive(Clone, Debug)]
pub struct RadiiConfig {
    /// Embeddings of the reference sets; their pictures, where they are embedded first.
    pub references: Vec<NamedPath>,
    /// Benchmarks, the same way.
    pub benchmarks: Vec<NamedPath>,
    /// Each goes to a folder of its name in here.
    pub out: PathBuf,
    /// Identity vouched for where files carry none.
    pub assume_model: Option<String>,
    /// References that are stored as f32 are rounded as they stand, as clip-retrieval has rounded the pool.
    pub round_as_stored: bool,
    /// Threads of the products.
    pub threads: usize,
    /// Bound on the process's memory, in bytes.
    pub memory_bytes: u64,
}

/// One benchmark's radii to some references.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// References seen.
    pub references: u64,
    /// Smallest radius.
    pub least: f64,
    /// Median of the radii.
    pub median: f64,
    /// Largest radius.
    pub largest: f64,
    /// All radii, one a test point.
    #[serde(skip)]
    pub radii: Vec<f64>,
}

impl Measured {
    fn of(references: u64, radii: Vec<f64>) -> Self {
        let all = || radii.iter().copied();
        Self {
            references,
            least: all().min_by(f64::total_cmp).unwrap_or_default(),
            median: median(all()).unwrap_or_default(),
            largest: all().max_by(f64::total_cmp).unwrap_or_default(),
            radii,
        }
    }
}

/// One benchmark's radii to one reference set.
#[derive(Clone, Debug, Serialize)]
pub struct OfReference {
    /// Name of the reference set.
    pub reference: String,
    /// Radii to it alone.
    #[serde(flatten)]
    pub measured: Measured,
}

/// One benchmark's similarity gap to all reference sets together.
#[derive(Clone, Debug, Serialize)]
pub struct Gap {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Number of test points.
    pub points: usize,
    /// Radii to all of them.
    #[serde(flatten)]
    pub measured: Measured,
    /// Where the benchmark with its radii was written.
    pub folder: PathBuf,
    /// The same to each reference set alone.
    pub by_reference: Vec<OfReference>,
    /// What of the reference sets was lost.
    pub notices: Notices,
}

impl RadiiConfig {
    /// Whether anything is to be embedded first.
    ///
    /// # Errors
    /// A folder of which nobody knows what it holds.
    pub fn needs_embedder(&self) -> Result<bool, PipelineError> {
        let benchmarks = self.benchmarks.iter().map(|named| &named.path);
        let references = self.references.iter().map(|named| &named.path);
        references.chain(benchmarks).try_fold(false, |any, path| Ok(is_pictures(path)? || any))
    }
}

/// Computes and writes the radii of every benchmark.
///
/// # Errors
/// Folders without embeddings or with a part of them, models or dimensions that differ or are not known, a reference set that is empty or
/// of which no row has a direction, too little memory, an unwritable folder.
pub fn radii(config: &RadiiConfig) -> Result<Vec<Gap>, PipelineError> {
    let mut notices = Notices::default();
    let (benchmarks, origins) = load_all(&config.benchmarks, &mut notices)?;
    let mut by_reference: Vec<Vec<OfReference>> = benchmarks.iter().map(|_| Vec::new()).collect();
    let (mut rounded, mut of_f32) = (Rounded::default(), 0);
    for reference in &config.references {
        let measured = measure(config, reference, (&benchmarks, &origins), (&mut notices, &mut rounded, &mut of_f32))?;
        for (of, outcome) in by_reference.iter_mut().zip(measured) {
            let measured = Measured::of(outcome.references, outcome.radii);
            of.push(OfReference { reference: reference.name.clone(), measured });
        }
    }
    if config.round_as_stored && of_f32 == 0 {
        let what = "--round-like: no reference is stored as f32; what is stored as f16 is rounded already, and pictures are rounded here";
        return Err(PipelineError::usage(what));
    }
    let mut gaps = Vec::new();
    for ((benchmark, origin), by_reference) in benchmarks.iter().zip(&origins).zip(by_reference) {
        let mut radii = vec![f64::NEG_INFINITY; benchmark.points()];
        for of in &by_reference {
            radii.iter_mut().zip(&of.measured.radii).for_each(|(radius, other)| *radius = radius.max(*other));
        }
        let folder = config.out.join(&benchmark.name);
        write((benchmark, origin), &radii, config, (&folder, rounded))?;
        let (benchmark, points, notices) = (benchmark.name.clone(), radii.len(), notices.clone());
        let measured = Measured::of(by_reference.iter().map(|of| of.measured.references).sum(), radii);
        gaps.push(Gap { benchmark, points, measured, folder, by_reference, notices });
    }
    write_gap(config, &gaps)?;
    Ok(gaps)
}

/// The largest similarities of every benchmark's points to one reference set.
fn measure(
    config: &RadiiConfig,
    reference: &NamedPath,
    (benchmarks, origins): (&[Arc<Benchmark>], &[BenchmarkOrigin]),
    (notices, rounded, of_f32): (&mut Notices, &mut Rounded, &mut u64),
) -> Result<Vec<RadiiOutcome>, PipelineError> {
    let several = config.references.len() > 1;
    let place = if several { format!("reference {}", reference.name) } else { "reference".into() };
    refuse_part(&reference.path).map_err(|error| error.within(&place))?;
    if let Some(ledger) = ledger_of(&reference.path)? {
        notices.merge(&finished(&reference.path, &ledger).map_err(|error| error.within(&place))?);
        let rejects = rejects(&ledger)?;
        if let Some(reject) = rejects.first() {
            let (count, first) = (rejects.len() as u64, format!("{}: {}", reject.called(&rejects), reject.why));
            notices.loss("reference_rejects", "reference pictures that could not be embedded", first, count, count);
        }
    }
    gone_from(&reference.path, "references", notices).map_err(|error| error.within(&place))?;
    let mut reader = open_set(&reference.path).map_err(|error| error.within(&place))?;
    if config.round_as_stored {
        reader = reader.rounding_as_stored();
    }
    let sets = and_benchmarks(format!("reference {}", reference.path.display()), reader.identity(), benchmarks);
    one_model(&sets, config.assume_model.as_deref())?;
    note_reference(notices, origins, &BenchmarkOrigin::of(reference, &reader));
    let mut measured: Vec<Radii<'_>> =
        benchmarks.iter().map(|benchmark| Radii::new(benchmark, config.threads)).collect();
    let mut memory = MemoryPlan::new(config.memory_bytes, false);
    memory.take("benchmarks", benchmarks.iter().map(|benchmark| benchmark.bytes()).sum());
    memory.take("radii", measured.iter().map(Radii::bytes).sum());
    memory.take("reading", reader_bytes(reader.dim()));
    memory.credit_bytes()?;
    let (dim, mut rows, mut without) = (reader.dim(), 0, 0);
    for batch in &mut reader {
        let batch = batch.map_err(PipelineError::usage)?;
        let bad: BTreeSet<usize> = batch.bad.iter().map(|(row, _)| *row).collect();
        for (row, why) in &batch.bad {
            let first = format!("row {} ({}) is {}", batch.first_row + *row as u64, batch.keys[*row], why.as_str());
            notices.loss("reference_rows", "reference rows without a direction, left out", first, 1, 1);
        }
        rows += batch.keys.len() as u64;
        without += bad.len() as u64;
        for (_, vector) in batch.vectors.chunks_exact(dim).enumerate().filter(|(row, _)| !bad.contains(row)) {
            for radii in &mut measured {
                radii.push(vector).map_err(|error| PipelineError::usage(error).within(&place))?;
            }
        }
    }
    if rows > 0 && without == rows {
        let first = notices.get("reference_rows").map(|bad| bad.first.as_str()).unwrap_or_default();
        let path = reference.path.display();
        let wrong = format!("{path}: none of its {rows} rows has a direction (first: {first})");
        return Err(PipelineError::usage(wrong).within(place));
    }
    let (text, path) = ("reference rows that are taken down, left out", reference.path.display().to_string());
    notices.note("reference_taken_down", text, path, reader.notes().left_out_rows);
    // What `trommel embed` wrote for numpy is as we rounded it.
    let by_embed = !matches!(pieces(&reference.path).map_err(PipelineError::usage)?.first(), Some(Piece::Ipc(_)))
        && ledger_of(&reference.path)?.is_some();
    let foreign = if by_embed { 0 } else { reader.notes().foreign_rows };
    *of_f32 += reader.notes().converted_rows;
    rounded.before |= foreign > 0;
    rounded.here |= foreign < rows;
    reader.notes().remarks.iter().for_each(|remark| remark.note(notices));
    measured.into_iter().map(Radii::finish).collect::<Result<Vec<_>, _>>().map_err(PipelineError::usage)
}

/// The gap of each benchmark to each reference set: `gap.svg` and `gap.csv`.
fn write_gap(config: &RadiiConfig, gaps: &[Gap]) -> Result<(), PipelineError> {
    let of = |gap: &Gap| {
        let benchmark = gap.benchmark.clone();
        let one = move |of: &OfReference| trommel_report::Gap {
            benchmark: benchmark.clone(),
            reference: of.reference.clone(),
            radii: of.measured.radii.clone(),
        };
        gap.by_reference.iter().map(one).collect::<Vec<_>>()
    };
    let all: Vec<trommel_report::Gap> = gaps.iter().flat_map(of).collect();
    for (name, text) in [(GAP_PICTURE, gap_picture(&all)), (GAP_TABLE, gap_table(&all).csv())] {
        let path = config.out.join(name);
        let mut file = Aside::create(&path).map_err(PipelineError::at(&path))?;
        file.write_all(text.as_bytes()).and_then(|()| file.commit()).map_err(PipelineError::at(&path))?;
    }
    Ok(())
}

fn write(
    (benchmark, origin): (&Benchmark, &BenchmarkOrigin),
    radii: &[f64],
    config: &RadiiConfig,
    (folder, rounded): (&std::path::Path, Rounded),
) -> Result<(), PipelineError> {
    let set = EmbeddingSet {
        dim: benchmark.dim,
        vectors: benchmark.vectors.clone(),
        keys: benchmark.keys.clone(),
        labels: benchmark.labels.clone(),
        shards: if origin.shards.is_empty() { vec![None; radii.len()] } else { origin.shards.clone() },
        indices: vec![None; radii.len()],
        radii: Some(radii.to_vec()),
        identity: benchmark.identity.clone(),
        ..EmbeddingSet::default()
    };
    let references: Vec<String> = config.references.iter().map(|named| named.path.display().to_string()).collect();
    let mut metadata =
        BTreeMap::from([("reference".to_owned(), references.join(", ")), (ROUNDED.to_owned(), rounded.to_string())]);
    // Where the test pictures are, for reports.
    metadata.extend(origin.source.as_ref().map(|source| ("source".to_owned(), source.display().to_string())));
    metadata.extend(origin.products.as_ref().map(|products| (PRODUCTS.to_owned(), products.clone())));
    set.write(folder, metadata).map_err(PipelineError::failed)?;
    Ok(())
}
