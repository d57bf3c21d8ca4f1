//! The training sets of a study, and their splits: all from one ledger.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::select::{Format, LedgerReading, SelectConfig, SplitReport, select};

use super::config::StudyFile;
use super::done::once;

/// Why a set has the samples that it has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetKind {
    /// All that could be judged.
    Pool,
    /// The same without the reference that was added to it.
    PoolAlone,
    /// Without the samples nearer to a test point of this benchmark than the reference is.
    Pruned(String),
    /// The same for all benchmarks at once.
    PrunedCombined,
    /// The nearest to any benchmark.
    Core,
    /// The nearest to this benchmark: the paper's far-pruned.
    Far(String),
    /// The farthest from this benchmark: the paper's near-pruned.
    Near(String),
    /// Drawn at random, for each seed anew.
    Random,
    /// The same, as many as the set of this name has.
    Control(String),
}

/// A training set that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedSet {
    /// Name of the set, unique in the study.
    pub name: String,
    /// Which of the paper's sets it is.
    pub kind: SetKind,
    /// The rule of its split; `None` for the whole pool.
    pub rule: Option<String>,
    /// Whether it is selected from the pool alone, without the reference that was added.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
}

/// The pool alone, where sets of a given size are drawn from it: the paper's core set and ladder are of LAION without ImageNet's training set.
#[must_use]
pub fn pool_alone(file: &StudyFile) -> Option<WantedSet> {
    let draws = file.core.is_some() || file.ladder.is_some();
    (draws && file.inject_reference.is_some()).then(|| WantedSet {
        name: "pool-alone".into(),
        kind: SetKind::PoolAlone,
        rule: Some("random:100%".into()),
        alone: true,
    })
}

/// A training set that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingSet {
    /// Name of the set, unique in the study.
    pub name: String,
    /// Which of the paper's sets it is.
    pub kind: SetKind,
    /// Samples in the set.
    pub count: u64,
    /// Of these, samples that a trainer uses: they have a caption.
    pub trainable: u64,
    /// Its split for each seed; none for the whole pool.
    pub splits: Vec<SetSplit>,
}

/// A split of a training set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSplit {
    /// Its file, in the folder of splits.
    pub file: PathBuf,
    /// Its rule, all names replaced by what they stand for.
    pub rule: String,
    /// Hash of the kept keys.
    pub keys_sha256: String,
}

impl TrainingSet {
    /// The split that a seed is trained on.
    #[must_use]
    pub fn split_of(&self, seed: usize) -> Option<&SetSplit> {
        self.splits.get(seed).or(self.splits.first())
    }
}

/// The sets that a file asks for. Those of a given size are drawn from `pool` samples: from all that could be judged, or from the pool alone where the
/// reference was added to it.
///
/// # Errors
/// A size that the pool has not.
pub fn wanted(file: &StudyFile, pool: u64) -> Result<Vec<WantedSet>, PipelineError> {
    let benchmarks = file.benchmark_names();
    let mut sets = vec![WantedSet { name: "pool".into(), kind: SetKind::Pool, rule: None, alone: false }];
    let mut add = |name: String, kind: SetKind, rule: String| {
        let has_size = !matches!(kind, SetKind::Pruned(_) | SetKind::PrunedCombined);
        let alone = has_size && file.inject_reference.is_some();
        sets.push(WantedSet { name, kind, rule: Some(rule), alone });
    };
    for name in &benchmarks {
        add(format!("pruned-{name}"), SetKind::Pruned(name.clone()), format!("drop-over-radius@{name}"));
    }
    if benchmarks.len() > 1 {
        add("pruned-combined".into(), SetKind::PrunedCombined, "drop-over-radius".into());
    }
    let size = |field: &str, size: super::config::Size| {
        let samples = size.of(pool);
        if samples == 0 || samples > pool {
            let wrong = format!("{field}: {samples} samples of the {pool} that could be judged");
            return Err(PipelineError::usage(wrong));
        }
        Ok(samples)
    };
    if let Some(core) = file.core {
        let samples = size("core", core)?;
        add(format!("core-{samples}"), SetKind::Core, format!("keep-nearest:{samples}"));
    }
    if let Some(ladder) = &file.ladder {
        for &step in &ladder.sizes {
            let samples = size("ladder.sizes", step)?;
            for name in ladder.benchmarks.as_ref().unwrap_or(&benchmarks) {
                add(
                    format!("far-{name}-{samples}"),
                    SetKind::Far(name.clone()),
                    format!("keep-nearest:{samples}@{name}"),
                );
                add(
                    format!("near-{name}-{samples}"),
                    SetKind::Near(name.clone()),
                    format!("keep-farthest:{samples}@{name}"),
                );
            }
            add(format!("random-{samples}"), SetKind::Random, format!("random:{samples}"));
        }
    }
    let mut names = std::collections::BTreeSet::new();
    match sets.iter().find(|set| !names.insert(set.name.clone())) {
        Some(twice) => Err(PipelineError::usage(format!("ladder: two sizes are both {}", twice.name))),
        None => Ok(sets),
    }
}

/// Sets of as many samples as the pruned sets and the core set turned out to have, drawn at random; that of the core set from the pool alone where the
/// core set is.
pub fn controls(sets: &[TrainingSet], alone: bool) -> Vec<WantedSet> {
    let is_of_interest =
        |set: &&TrainingSet| matches!(set.kind, SetKind::Pruned(_) | SetKind::PrunedCombined | SetKind::Core);
    let control = |set: &TrainingSet| WantedSet {
        name: format!("random-as-{}", set.name),
        kind: SetKind::Control(set.name.clone()),
        rule: Some(format!("random:{}", set.count)),
        alone: alone && set.kind == SetKind::Core,
    };
    sets.iter().filter(is_of_interest).map(control).collect()
}

/// Selects every set's splits from the judged pool into `folder`.
///
/// # Errors
/// As `trommel select`.
pub(super) fn select_all(
    (pool, samples, trainable): (&Path, u64, u64),
    reference: &[String],
    wanted: &[WantedSet],
    seeds: &[u64],
    folder: &Path,
    reading: &LedgerReading,
) -> Result<Vec<TrainingSet>, PipelineError> {
    let rules = |random: bool, alone: bool| -> Vec<String> {
        let is_random = |set: &WantedSet| matches!(set.kind, SetKind::Random | SetKind::Control(_));
        let of_kind = wanted.iter().filter(|set| is_random(set) == random && set.alone == alone);
        of_kind.filter_map(|set| Some(format!("{}={}", set.name, set.rule.as_ref()?))).collect()
    };
    let mut made: Vec<SplitReport> = Vec::new();
    for (alone, folder) in [(false, folder.to_path_buf()), (true, folder.join("alone"))] {
        let mut select_into = |rules: Vec<String>, seed: u64, out: PathBuf| {
            if rules.is_empty() {
                return Ok(());
            }
            let reading = LedgerReading { seed, ..reading.clone() };
            let (run, formats) = (pool.to_path_buf(), vec![Format::Parquet]);
            let without = if alone { reference.to_vec() } else { Vec::new() };
            made.extend(select(&SelectConfig { run, rules, out, formats, without, items: false, reading })?.splits);
            Ok::<_, PipelineError>(())
        };
        select_into(rules(false, alone), 0, folder.clone())?;
        for &seed in seeds {
            select_into(rules(true, alone), seed, folder.join(format!("seed-{seed}")))?;
        }
    }
    let set = |set: &WantedSet| {
        let splits: Vec<&SplitReport> = made.iter().filter(|split| split.name == set.name).collect();
        let least = |of: &dyn Fn(&SplitReport) -> u64| splits.iter().map(|split| of(split)).min();
        TrainingSet {
            name: set.name.clone(),
            kind: set.kind.clone(),
            count: least(&|split| split.count).unwrap_or(samples),
            trainable: least(&|split| split.train_num_samples).unwrap_or(trainable),
            splits: (splits.iter())
                .map(|split| SetSplit {
                    file: split.files.first().map(|file| within(folder, file)).unwrap_or_default(),
                    rule: split.rule.clone(),
                    keys_sha256: split.keys_sha256.clone(),
                })
                .collect(),
        }
    };
    Ok(wanted.iter().map(set).collect())
}

fn within(folder: &Path, file: &str) -> PathBuf {
    let file = Path::new(file);
    file.strip_prefix(folder).unwrap_or(file).to_path_buf()
}

/// As [`select_all`], once for each list of sets and seeds, which `file` tells.
pub(super) fn select_once(
    pool: (&Path, u64, u64),
    reference: &[String],
    wanted: &[WantedSet],
    seeds: &[u64],
    (folder, file): (&Path, &str),
    reading: &LedgerReading,
) -> Result<Vec<TrainingSet>, PipelineError> {
    let of = json!({ "sets": wanted, "seeds": seeds, "pool": [pool.1, pool.2] });
    once(&folder.join(file), &of, || select_all(pool, reference, wanted, seeds, folder, reading))
}
