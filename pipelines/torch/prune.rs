//! `trommel prune`, and `trommel embed` of shards: samples ─▶ decode ─▶ embed ─▶ join ─▶ prune ─▶ ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trommel_core::durable::make_folder;
use trommel_core::notices::Notices;
use trommel_core::stop::Stop;
use trommel_decode::{Limits, decode_rgb};
use trommel_ledger::manifest::Counts;
use trommel_shard::plan::Plan;

use crate::embed;
use crate::first::Order;
use crate::first_start::judged;
use crate::joining::JoinReport;
use crate::judging::{Input, Judging, reader_config};
use crate::round::{Judge, Round};
use crate::running::{agreed, open_folder};
use crate::spent::Spent;
use crate::together::Together;
use trommel_pipelines::benchmarks::{is_pictures, ledger_of, rejects};
use trommel_pipelines::config::{JudgeConfig, Reading};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::pictures::test_picture;
use trommel_pipelines::progress::Progress;

/// How a pruning run ended.
#[derive(Clone, Debug, Serialize)]
pub struct PruneReport {
    /// Shards of the plan (of this slice).
    pub shards: u64,
    /// Shards that earlier runs had finished.
    pub shards_resumed: u64,
    /// Counts over the whole ledger of this plan.
    pub kept: u64,
    /// Dropped by the rule.
    pub dropped: u64,
    /// Could not be judged.
    pub rejected: u64,
    /// Rejects by their code.
    pub rejects: BTreeMap<String, u64>,
    /// Remarks on kept samples by their code.
    pub remarks: BTreeMap<String, u64>,
    /// Shards whose bytes could not be had, and why.
    pub failed: BTreeMap<u64, String>,
    /// What was lost of the input, or passed over in it, over the whole ledger of this plan.
    pub notices: Notices,
    /// Samples judged by this process.
    pub judged_now: u64,
    /// Seconds from the start to the first byte: plan, benchmarks, model.
    pub start_seconds: f64,
    /// Seconds from the first byte to the last commit.
    pub seconds: f64,
    /// Samples judged a second.
    pub samples_per_second: f64,
    /// Where time went.
    pub spent: Spent,
    /// How this process joined, where there are benchmarks.
    pub join: Option<JoinReport>,
    /// Whether a stop ended it early.
    pub interrupted: bool,
}

/// Judges every sample of the plan that no earlier run has judged. In a cluster, process 0's report is of all.
///
/// # Errors
/// Wrong input before the first byte; later a full disk, or a bug that a worker ran into.
pub fn prune(config: &JudgeConfig, stop: Stop, progress: &Arc<Progress>) -> Result<PruneReport, PipelineError> {
    let together = Together::join(config, false, &stop, progress)?;
    let result = prune_together(config, &together, &stop, progress);
    together.end(result)
}

fn prune_together(
    config: &JudgeConfig,
    together: &Together,
    stop: &Stop,
    progress: &Arc<Progress>,
) -> Result<PruneReport, PipelineError> {
    let config = &with_embedded_benchmarks(config, together, stop)?;
    let judging = Judging::prepare(config, None, stop.clone())?;
    let plan = judging.input.plan().clone();
    let run_config = judging.run_config();
    together.agree("configuration", &agreed(&run_config, &plan))?;
    let open = || open_folder(&config.run, &plan, &run_config, together.access(), config.mix_numerics);
    let folder = together.in_turn("run folder", open)?;
    together.wait("ready")?;
    let mine: Vec<u64> =
        plan.shards.iter().map(|shard| shard.ordinal).filter(|ordinal| folder.owns(*ordinal)).collect();
    // A shard of which nothing could be read may be there by now.
    let finished: BTreeSet<u64> = judged(&config.run, &folder)?.into_iter().collect();
    let wanted: Vec<u64> = mine.iter().copied().filter(|ordinal| !finished.contains(ordinal)).collect();
    let unfinished = wanted.len() as u64;
    progress.shards_planned.store(mine.len() as u64, Ordering::Relaxed);
    progress.shards_resumed.store(mine.len() as u64 - unfinished, Ordering::Relaxed);

    let judge = Judge::start(judging, wanted.len())?;
    let input = judge.judging().input.clone();
    // What an earlier run has committed it was found sound by; a slice has the plan's beginning as far as it is its own.
    let first = match unfinished == mine.len() as u64 {
        true => (0..).zip(&mine).map_while(|(at, &ordinal)| (at == ordinal).then_some(ordinal)).collect(),
        false => Vec::new(),
    };
    let first = Order { whole: first.len() == plan.len(), shards: first };
    let summary = judge.run(Round { input, folder: &folder, wanted, together, stop, progress, first })?;

    let parts = together.gather(
        "finished",
        Part {
            counts: summary.counts,
            failed: summary.failed,
            notices: summary.notices,
            committed: summary.committed,
            again: summary.again,
            judged: progress.judged(),
        },
    )?;
    let all = parts.iter().fold(Part::default(), Part::with);
    let (mut counts, mut notices) = (all.counts, judge.judging().notices.clone());
    for ordinal in mine.iter().filter(|ordinal| !all.again.contains(*ordinal)) {
        if let Some((_, line)) = folder.before().committed.get(ordinal) {
            counts.add(&line.counts);
            notices.merge(&line.notices);
        }
    }
    notices.merge(&all.notices);
    let line_of = |ordinal| folder.before().committed.get(ordinal).map(|(_, line)| line);
    let left: Vec<&str> = mine
        .iter()
        .filter(|ordinal| finished.contains(ordinal))
        .filter_map(line_of)
        .filter(|line| line.rejected.is_some())
        .map(|line| line.name.as_str())
        .collect();
    let text = "rejected shards not read again, for training has begun here";
    notices.note("not_read_again", text, left.first().copied().unwrap_or_default(), left.len() as u64);
    let seconds = progress.working_seconds();
    #[expect(clippy::cast_precision_loss)]
    let samples_per_second = all.judged as f64 / seconds.max(1e-9);
    let ended_early = stop.is_requested() || stop.is_winding_down();
    Ok(PruneReport {
        shards: mine.len() as u64,
        shards_resumed: mine.len() as u64 - unfinished,
        kept: counts.kept,
        dropped: counts.dropped,
        rejected: counts.rejected,
        rejects: (&counts.rejects).into(),
        remarks: (&counts.remarks).into(),
        interrupted: ended_early && all.committed + (all.failed.len() as u64) < unfinished,
        failed: all.failed,
        notices,
        judged_now: all.judged,
        start_seconds: progress.start_seconds(),
        seconds,
        samples_per_second,
        spent: Spent::of(judge.machinery(), seconds),
        join: judge.judging().joiner.as_deref().map(JoinReport::of),
    })
}

/// What one process did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Part {
    counts: Counts,
    failed: BTreeMap<u64, String>,
    notices: Notices,
    committed: u64,
    again: BTreeSet<u64>,
    judged: u64,
}

impl Part {
    fn with(mut self, other: &Self) -> Self {
        self.counts.add(&other.counts);
        self.failed.extend(other.failed.clone());
        self.notices.merge(&other.notices);
        self.committed += other.committed;
        self.again.extend(&other.again);
        self.judged += other.judged;
        self
    }
}

/// The same run with each benchmark that is given as pictures embedded into the run's folder, once: a finished one is
/// found there.
pub(crate) fn with_embedded_benchmarks(
    config: &JudgeConfig,
    together: &Together,
    stop: &Stop,
) -> Result<JudgeConfig, PipelineError> {
    let ready = embedded(config, together.rank() == 0, stop)?;
    together.wait("benchmarks")?;
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

/// Embeds a folder of pictures into a run folder of its own, once: a finished one is found there.
///
/// # Errors
/// Whatever a run may end with; a file that cannot be read, which the same command tries again.
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
        reading: Reading { part: None, image_key: Reading::default().image_key, ..config.reading.clone() },
        ..config.clone()
    };
    // One at a time looks, deletes and embeds: the tasks of an array come here together, and wait for the first.
    let _guard = in_turn(&embedding.run, stop)?;
    let changed = has_changed(&embedding, pictures)?;
    if changed {
        tracing::info!("{} has changed since it was embedded: it is embedded anew", pictures.display());
    }
    discard(&embedding.run, changed).map_err(PipelineError::at(&embedding.run))?;
    let done = prune(&embedding, stop.clone(), progress)?;
    if done.interrupted {
        return Err(PipelineError::Interrupted);
    }
    if let Some((_, why)) = done.failed.first_key_value() {
        return Err(PipelineError::Unfinished(format!("{}: {why}", pictures.display())));
    }
    embed::finish(&embedding, false).map(|_| ())
}

/// A lock beside the folder `into`, held until it is dropped.
fn in_turn(into: &Path, stop: &Stop) -> Result<File, PipelineError> {
    let name = into.file_name().unwrap_or_default().to_string_lossy();
    let path = into.with_file_name(format!(".{name}.lock"));
    if let Some(parent) = path.parent() {
        make_folder(parent).map_err(PipelineError::at(parent))?;
    }
    let file = File::create(&path).map_err(PipelineError::at(&path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(_) if stop.is_requested() || stop.is_winding_down() => return Err(PipelineError::Interrupted),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(100)),
            Err(TryLockError::Error(error)) => return Err(PipelineError::at(&path)(error)),
        }
    }
}

/// Removes a folder, if it `goes`, under another name: a kill leaves nobody half of it, and the next call finishes it.
fn discard(folder: &Path, goes: bool) -> io::Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.with_file_name(format!(".{name}.removed"));
    let remove = || if aside.exists() { std::fs::remove_dir_all(&aside) } else { Ok(()) };
    remove()?;
    if goes {
        std::fs::rename(folder, &aside)?;
    }
    remove()
}

/// Whether a finished embedding is not that of the pictures any more: other files or sizes, or one that could not be decoded and now can.
fn has_changed(embedding: &JudgeConfig, pictures: &Path) -> Result<bool, PipelineError> {
    let Some(ledger) = ledger_of(&embedding.run)? else { return Ok(false) };
    let stored: Plan = ledger.plan().map_err(PipelineError::usage)?;
    let input = Input::find(&embedding.shards, &reader_config(embedding).group)?;
    if input.plan().len() != stored.len() || input.plan().difference(&stored).is_some() {
        return Ok(true);
    }
    let roots: Vec<PathBuf> =
        [Some(pictures), pictures.parent()].into_iter().flatten().map(Path::to_path_buf).collect();
    let Reading { max_pixels, load_truncated, .. } = embedding.reading;
    let limits = Limits { load_truncated, ..Limits::of_pixels(max_pixels) };
    // What something else than the decoder refused is not mended by other pixels.
    let mended = |(key, why): (&String, &String)| {
        ["image_", "too_many_pixels", "too_many_bytes"].iter().any(|code| why.starts_with(code))
            && test_picture(&roots, key).is_some_and(|bytes| decode_rgb(&bytes, &limits).is_ok())
    };
    Ok(rejects(&ledger)?.iter().any(mended))
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
