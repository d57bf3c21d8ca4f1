//! Benchmarks, splits and takedowns as the user wants them now, read from their files.
//!
//! They are inputs with versions, not configuration: a watch reads them again when their files change, and a watch that is started with
//! others goes on with these.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};
use trommel_core::notices::Notices;
use trommel_core::sample::Identity;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::rule::Rule;
use trommel_incremental::inputs::Inputs;
use trommel_incremental::planner::{Desired, FileStamps, changes};

use trommel_pipelines::benchmarks::{NamedPath, and_benchmarks, is_pictures, load};
use trommel_pipelines::decision::BenchmarkConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::lists::words;
use trommel_pipelines::one_model::one_model;

/// What the command line and its file say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Benchmarks, in the order of the columns.
    pub benchmarks: Vec<NamedPath>,
    /// Rules by split.
    pub splits: BTreeMap<String, String>,
    /// Files of samples to take down.
    pub takedowns: Vec<PathBuf>,
    /// Other flags that their file gives otherwise than when the watch was started: nothing follows them.
    pub not_followed: Vec<String>,
}

/// The same, read.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What the files say.
    pub desired: Desired,
    /// Where the benchmarks were read.
    pub folders: Vec<NamedPath>,
}

impl Loaded {
    /// Equal for equal inputs.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for benchmark in &self.desired.benchmarks {
            let of = BenchmarkConfig::of(benchmark);
            hash.update(format!("{of:?} {:?} {:?}\n", benchmark.keys, benchmark.labels));
        }
        for (name, rule) in &self.desired.splits {
            hash.update(format!("{name:?} {rule}\n"));
        }
        for word in &*self.desired.takedowns {
            hash.update(format!("{word:?}\n"));
        }
        format!("{:x}", hash.finalize())
    }
}

/// Reads what is wanted; what has not changed is not read again.
#[derive(Default)]
pub struct InputFiles {
    benchmarks: BTreeMap<PathBuf, (FileStamps, NamedPath, Arc<Benchmark>)>,
    takedowns: BTreeMap<PathBuf, (FileStamps, Arc<BTreeSet<String>>)>,
}

impl InputFiles {
    /// Reads.
    ///
    /// # Errors
    /// A file that cannot be read, a rule that is none, a benchmark of another model.
    pub fn read(
        &mut self,
        wanted: &Wanted,
        embedder: Option<&Identity>,
        assumed: Option<&str>,
    ) -> Result<Loaded, PipelineError> {
        let mut desired = Desired::default();
        for named in &wanted.benchmarks {
            let stamp = stamp(&named.path);
            let held = self.benchmarks.get(&named.path);
            let benchmark = match held.filter(|held| held.0 == stamp && held.1 == *named) {
                Some((_, _, benchmark)) => benchmark.clone(),
                None => {
                    let mut notices = Notices::default();
                    let benchmark = Arc::new(load(named, &mut notices)?);
                    notices.lines().for_each(|line| tracing::info!("{line}"));
                    if embedder.is_some() {
                        one_model(&and_benchmarks("this run", embedder, [&benchmark]), assumed)?;
                    }
                    self.benchmarks.insert(named.path.clone(), (stamp, named.clone(), benchmark.clone()));
                    benchmark
                }
            };
            desired.benchmarks.push(benchmark);
        }
        for (name, rule) in &wanted.splits {
            let parsed = rule.parse::<Rule>();
            let rule = parsed.map_err(|error| PipelineError::usage(error).within(format_args!("split {name}")))?;
            desired.splits.insert(name.clone(), rule);
        }
        for path in &wanted.takedowns {
            let stamp = stamp(path);
            let held = self.takedowns.get(path).filter(|held| held.0 == stamp).map(|held| held.1.clone());
            let words = match held {
                Some(words) => words,
                None => {
                    let words = words(path, "key").map_err(|error| error.within("--takedown"))?;
                    let words = Arc::new(words.into_iter().collect::<BTreeSet<_>>());
                    self.takedowns.insert(path.clone(), (stamp, words.clone()));
                    words
                }
            };
            if desired.takedowns.is_empty() {
                desired.takedowns = words; // lists are long: one is not copied
            } else {
                Arc::make_mut(&mut desired.takedowns).extend(words.iter().cloned());
            }
        }
        Ok(Loaded { desired, folders: wanted.benchmarks.clone() })
    }

    /// Refuses wrong input before a watch's folder is begun: what is begun there would be the next command's too. Of benchmarks that are pictures
    /// nobody can say before they are embedded.
    ///
    /// # Errors
    /// As [`Self::read`]; splits that do not go with the benchmarks.
    pub fn check(
        &mut self,
        mut wanted: Wanted,
        embedder: Option<&Identity>,
        assumed: Option<&str>,
    ) -> Result<(), PipelineError> {
        let mut known = Vec::new();
        for named in &wanted.benchmarks {
            known.extend((!is_pictures(&named.path)?).then(|| named.clone()));
        }
        let all = wanted.benchmarks.len() == known.len();
        wanted.benchmarks = known;
        let loaded = self.read(&wanted, embedder, assumed)?;
        if all { accepted(&Inputs::default(), &loaded.desired) } else { Ok(()) }
    }
}

/// Whether what is wanted can follow on what is in force.
///
/// # Errors
/// Splits that do not go with the benchmarks, and what else cannot be.
pub(super) fn accepted(in_force: &Inputs, desired: &Desired) -> Result<(), PipelineError> {
    let changes: Vec<_> = changes(in_force, desired).into_iter().map(|change| change.0).collect();
    in_force.after(&changes).map(drop).map_err(PipelineError::usage)
}

/// What tells that a file, or what lies directly in a folder, has changed.
pub(super) fn stamp(path: &Path) -> FileStamps {
    let one = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok()?;
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some((path, metadata.len(), u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX)))
    };
    let mut all: Vec<_> = one(path.to_path_buf()).into_iter().collect();
    for folder in [path.to_path_buf(), path.join("embeddings"), path.join("img_emb")] {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        all.extend(entries.filter_map(|entry| one(entry.path())));
    }
    all.sort();
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use half::f16;
    use trommel_incremental::inputs::Change;

    use super::*;

    #[test]
    fn splits_and_takedowns_follow_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        std::fs::write(&list, "# asked for\nk1\n  00000.tar/k2 \n\n").unwrap();
        let mut wanted = Wanted { takedowns: vec![list.clone()], ..Wanted::default() };
        wanted.splits.insert("a".into(), "drop-above:0.5".into());
        let mut files = InputFiles::default();
        let vectors = [1.0, 0.0, 0.0, 1.0].map(f16::from_f64).to_vec();
        let points = Benchmark::new("b", 2, vectors, vec![], vec![], Some(vec![0.5; 2]), None);
        let benchmark = Arc::new(points.unwrap());
        let mut inputs = Inputs::default();
        inputs = inputs.after(&[Change::AddBenchmark(benchmark.clone())]).unwrap();
        let mut follow = |wanted: &Wanted, inputs: &Inputs| {
            let mut desired = files.read(wanted, None, None).unwrap().desired;
            desired.benchmarks.push(benchmark.clone());
            let changes = changes(inputs, &desired);
            let only: Vec<Change> = changes.iter().map(|change| change.0.clone()).collect();
            (inputs.after(&only).unwrap(), changes.len())
        };
        let count;
        (inputs, count) = follow(&wanted, &inputs);
        assert_eq!((inputs.taken_keys.len(), inputs.splits.len(), count), (2, 1, 2));
        std::fs::write(&list, "k1\nk3 \nk4").unwrap();
        wanted.splits.insert("a".into(), "drop-from:0.5".into());
        let (after, count) = follow(&wanted, &inputs);
        let keys: Vec<&str> = after.taken_keys.iter().map(String::as_str).collect();
        assert_eq!((keys, count), (vec!["k1", "k3", "k4"], 3));
        assert_eq!(follow(&wanted, &after).1, 0);
        wanted.splits.insert("b".into(), "no such rule".into());
        assert!(InputFiles::default().read(&wanted, None, None).unwrap_err().to_string().contains("split b"));
    }
}
