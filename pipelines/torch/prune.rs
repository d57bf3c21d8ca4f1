//! `trommel prune`, and `trommel embed` of shards: samples ─▶ decode ─▶ embed ─▶ join ─▶ prune ─▶ ledger.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trommel_core::durable;
use trommel_core::out_folder::OutFolder;
use trommel_core::stop::Stop;
use trommel_decode::{Limits, decode_rgb};
use trommel_ledger::read::Ledger;
use trommel_ledger::run_folder::RunFolder;
use trommel_shard::plan::Plan;

use crate::embed;
use crate::prune_round::{Pruner, Round};
use crate::run_setup::{Input, RunSetup, reader_config};
use crate::settled::{has_trained, judged};
use crate::source_files::{SOURCE_FILES, SourceFiles};
use crate::together::Together;
use trommel_pipelines::benchmarks::{Rejected, is_pictures, ledger_of, rejects};
use trommel_pipelines::config::{JudgeConfig, ReadingConfig};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::join_report::JoinReport;
use trommel_pipelines::phase::Phase;
use trommel_pipelines::pictures::test_picture;
use trommel_pipelines::progress::Progress;
pub use trommel_pipelines::pruning::PruneReport;
use trommel_pipelines::pruning::{self, Judged, Pruning, Wanted};

/// Judges every sample of the plan that no earlier run has judged. In a cluster, process 0's report is of all.
///
/// # Errors
/// Wrong input before the first byte; later a full disk, or a bug that a worker ran into.
pub fn prune(config: &JudgeConfig, stop: Stop, progress: &Arc<Progress>) -> Result<PruneReport, PipelineError> {
    Together::run(config, false, &stop, progress, |together| prune_together(config, together, &stop, progress))
}

fn prune_together(
    config: &JudgeConfig,
    together: &Together,
    stop: &Stop,
    progress: &Arc<Progress>,
) -> Result<PruneReport, PipelineError> {
    let config = &with_embedded_benchmarks(config, together, stop)?;
    let judging = RunSetup::prepare(config, None, stop.clone())?;
    let plan = judging.input.plan().clone();
    let run_config = judging.run_config();
    judging.check_memory(config.least_readers(plan.len()))?;
    let trains = has_trained(&config.run)?;
    let (run, mix_numerics, machine) = (&config.run, config.mix_numerics, &config.machine);
    let pruning =
        Pruning { plan: &plan, config: &run_config, run, mix_numerics, trains, machine, together, stop, progress };
    let finished = |folder: &RunFolder| judged(&config.run, folder);
    pruning::prune(&pruning, finished, |Wanted { folder, shards, first }| {
        let judge = Pruner::start(judging, shards.len())?;
        let input = judge.judging().input.clone();
        let summary = judge.run(Round { input, folder, wanted: shards, together, stop, progress, first })?;
        let (notices, stages) = (judge.judging().notices.clone(), judge.machinery().stages());
        Ok(Judged { summary, notices, stages, join: judge.judging().joiner.as_deref().map(JoinReport::of) })
    })
}

/// The same run with each benchmark that is given as pictures embedded into the run's folder, once: a finished one is
/// found there.
pub(crate) fn with_embedded_benchmarks(
    config: &JudgeConfig,
    together: &Together,
    stop: &Stop,
) -> Result<JudgeConfig, PipelineError> {
    let ready = embedded(config, together.rank() == 0, stop)?;
    together.wait(Phase::Benchmarks)?;
    Ok(ready)
}

/// As [`with_embedded_benchmarks`], if this process `embeds`; if not, another has done it, or is to.
pub(crate) fn embedded(config: &JudgeConfig, embeds: bool, stop: &Stop) -> Result<JudgeConfig, PipelineError> {
    let mut ready = config.clone();
    for benchmark in &mut ready.benchmarks {
        if !is_pictures(&benchmark.path)? {
            continue;
        }
        let into = config.run.join("benchmarks").join(&benchmark.name);
        let pictures = std::mem::replace(&mut benchmark.path, into.clone());
        if !embeds {
            continue;
        }
        tracing::info!("embedding benchmark {} from {}", benchmark.name, pictures.display());
        embed_pictures(config, &pictures, into, stop, &Arc::default())?;
    }
    Ok(ready)
}

/// Embeds a folder of pictures into a run folder of its own, once: a finished one of the same pictures is found there.
///
/// # Errors
/// Whatever a run may end with; a file that cannot be read, or changes meanwhile, which the same command tries again.
pub fn embed_pictures(
    config: &JudgeConfig,
    pictures: &Path,
    into: PathBuf,
    stop: &Stop,
    progress: &Arc<Progress>,
) -> Result<(), PipelineError> {
    let embedding = JudgeConfig {
        shards: vec![pictures.display().to_string()],
        plan: None,
        run: into,
        cluster: None,
        benchmarks: Vec::new(),
        rule: None,
        keep_embeddings: true,
        always_embed: true,
        // The shards' own picture keys say nothing of a folder's files.
        reading: ReadingConfig { part: None, image_key: ReadingConfig::default().image_key, ..config.reading.clone() },
        ..config.clone()
    };
    embed::check(&embedding)?;
    // One at a time looks, deletes and embeds: the tasks of an array come here together, and wait for the first.
    let _guard = in_turn(&embedding.run, stop)?;
    let mut files = SourceFiles::look(pictures, embedding.machine.threads, stop)?;
    let changed = match ledger_of(&embedding.run)? {
        Some(ledger) => has_changed(&embedding, pictures, &ledger)? || !files.are_those_of(&embedding.run)?,
        None => false,
    };
    if changed {
        tracing::info!("{} has changed since it was embedded: it is embedded anew", pictures.display());
    }
    discard(&embedding.run, changed).map_err(PipelineError::at(&embedding.run))?;
    let mut folder = OutFolder::make(&embedding.run).map_err(PipelineError::at(&embedding.run))?;
    folder.goes_with(SOURCE_FILES).map_err(PipelineError::at(&embedding.run))?;
    files.note(&embedding.run)?;
    let mut done = prune(&embedding, stop.clone(), progress)?;
    let whole = PipelineError::if_not_whole(done.interrupted, &done.failed);
    let whole = whole.map_err(|error| error.within(pictures.display()));
    let finished = whole.and_then(|()| embed::finish(&embedding, false, &mut done.notices));
    // Whoever embeds them by a command of its own hears this too.
    done.notices.lines().for_each(|line| tracing::warn!("{}: {line}", pictures.display()));
    finished?;
    files.note_embedded(&embedding.run)?;
    // Also where the list is all that is new, beside what an earlier version has embedded.
    folder.keep();
    Ok(())
}

/// A lock beside the folder `into`, held until it is dropped; the folder above goes with it where nothing was embedded there.
fn in_turn(into: &Path, stop: &Stop) -> Result<OutFolder, PipelineError> {
    let name = into.file_name().unwrap_or_default().to_string_lossy();
    let (folder, lock) = (durable::parent(into), format!(".{name}.lock"));
    loop {
        if let Some(alone) = OutFolder::locked(folder, &lock).map_err(PipelineError::at(&folder.join(&lock)))? {
            return Ok(alone);
        }
        PipelineError::if_ending(stop)?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Removes a folder, if it `goes`. The next call removes what a kill has left of it under another name.
fn discard(folder: &Path, goes: bool) -> io::Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.with_file_name(format!(".{name}.removed"));
    match goes {
        true => durable::remove_folder(folder, &aside),
        false => durable::if_there(std::fs::remove_dir_all(&aside)).map(drop),
    }
}

/// Whether embeddings are not those of the pictures any more, by what their run says of them: other classes or sizes, or one that could not be decoded
/// and now can.
fn has_changed(embedding: &JudgeConfig, pictures: &Path, ledger: &Ledger) -> Result<bool, PipelineError> {
    let stored: Plan = ledger.plan().map_err(PipelineError::usage)?;
    let input = Input::find(&embedding.shards, &embedding.reading.stores, &reader_config(embedding).group)?;
    if input.plan().len() != stored.len() || input.plan().difference(&stored).is_some() {
        return Ok(true);
    }
    let roots: Vec<PathBuf> =
        [Some(pictures), pictures.parent()].into_iter().flatten().map(Path::to_path_buf).collect();
    let ReadingConfig { max_pixels, load_truncated, .. } = embedding.reading;
    let limits = Limits { load_truncated, ..Limits::of_pixels(max_pixels) };
    // What something else than the decoder refused is not mended by other pixels.
    let mended = |Rejected { key, why, .. }: &Rejected| {
        ["image_", "too_many_pixels", "too_many_bytes"].iter().any(|code| why.code.starts_with(code))
            && test_picture(&roots, key).is_some_and(|bytes| decode_rgb(&bytes, &limits).is_ok())
    };
    Ok(rejects(ledger)?.iter().any(mended))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A kill after the rename leaves a part of the folder under the other name, with or without a new one in its place.
    #[test]
    fn half_a_removed_folder_is_in_nobodys_way() {
        let root = tempfile::tempdir().unwrap();
        let (folder, aside) = (root.path().join("val"), root.path().join(".val.removed"));
        for (is_there, goes) in [(false, false), (true, false), (true, true)] {
            for path in [Some(&aside), Some(&folder).filter(|_| is_there)].into_iter().flatten() {
                std::fs::create_dir_all(path.join("ledger")).unwrap();
            }
            discard(&folder, goes).unwrap();
            assert_eq!((folder.exists(), aside.exists()), (is_there && !goes, false));
        }
    }
}
