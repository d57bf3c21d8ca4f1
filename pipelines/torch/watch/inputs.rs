//! Benchmarks, splits and takedowns as the user wants them now, read from their files.
//!
//! They are inputs with versions, not configuration: a watch reads them again when their files change, and a watch that is started with
//! others goes on with these.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use trommel_core::notices::Notices;
use trommel_core::sample::Identity;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::rule::Rule;
use trommel_incremental::inputs::Inputs;
use trommel_incremental::planner::{Desired, FileStamps, changes};

use super::settling::{Settling, stamp};
use trommel_pipelines::benchmarks::{NamedPath, and_benchmarks, is_pictures, load};
use trommel_pipelines::decision::BenchmarkConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::lists::keys;
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

impl Wanted {
    /// Files and folders.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.benchmarks.iter().map(|named| &*named.path).chain(self.takedowns.iter().map(|path| &**path))
    }

    /// Files and folders among these that the other one does not want in the same way.
    pub(super) fn new_paths<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Path> {
        let benchmarks = self.benchmarks.iter().filter(|named| !before.benchmarks.contains(named));
        let takedowns = self.takedowns.iter().filter(|path| !before.takedowns.contains(path));
        benchmarks.map(|named| &*named.path).chain(takedowns.map(|path| &**path))
    }
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
    /// Which of them can be read.
    pub(super) settling: Settling,
}

impl InputFiles {
    /// Files that settle for `settle`.
    #[must_use]
    pub fn new(settle: Duration) -> Self {
        Self { settling: Settling::new(settle), ..Self::default() }
    }

    /// Whether what was read of a file still counts: it has not changed, or has not settled.
    fn stays(&self, path: &Path, read: &FileStamps) -> bool {
        self.settling.leaves(path) || *read == stamp(path)
    }

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
            let held = self.benchmarks.get(&named.path);
            let benchmark = match held.filter(|held| held.1 == *named && self.stays(&named.path, &held.0)) {
                Some((_, _, benchmark)) => benchmark.clone(),
                None => {
                    let mut notices = Notices::default();
                    let (stamp, benchmark) = self.settling.whole(&named.path, || {
                        notices = Notices::default();
                        load(named, &mut notices)
                    })?;
                    let benchmark = Arc::new(benchmark);
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
            let held = self.takedowns.get(path).filter(|held| self.stays(path, &held.0));
            let words = match held {
                Some((_, words)) => words.clone(),
                None => {
                    let read = self.settling.whole(path, || keys(path));
                    let (stamp, words) = read.map_err(|error| error.within("--takedown"))?;
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
        std::fs::write(&list, "# asked for\n#\nk1\n  00000.tar/k2 \n\n").unwrap();
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
        std::fs::write(&list, "k1\nk3 \n#4\n#\ta note").unwrap();
        wanted.splits.insert("a".into(), "drop-from:0.5".into());
        let (after, count) = follow(&wanted, &inputs);
        let keys: Vec<&str> = after.taken_keys.iter().map(String::as_str).collect();
        assert_eq!((keys, count), (vec!["#4", "k1", "k3"], 3));
        assert_eq!(follow(&wanted, &after).1, 0);
        wanted.splits.insert("b".into(), "no such rule".into());
        assert!(InputFiles::default().read(&wanted, None, None).unwrap_err().to_string().contains("split b"));
    }

    #[test]
    fn what_was_read_of_a_list_stays_while_it_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (list, new) = (folder.path().join("list"), folder.path().join("new"));
        std::fs::write(&list, "k1\nk2\n").unwrap();
        std::fs::write(&new, "k3\n").unwrap();
        let before = Wanted { takedowns: vec![list.clone()], ..Wanted::default() };
        let mut files = InputFiles::new(Duration::from_secs(3600));
        let taken = |files: &mut InputFiles| files.read(&before, None, None).unwrap().desired.takedowns.len();
        assert_eq!(taken(&mut files), 2, "at the start nothing was read before");
        std::fs::write(&list, "").unwrap();
        files.settling.look(before.paths());
        assert_eq!(taken(&mut files), 2);
        files.settling.leave_only([]); // as after an hour
        assert_eq!(taken(&mut files), 0);
        // Of one that is named anew nothing was read: who wants it waits.
        let now = Wanted { takedowns: vec![list, new.clone()], ..Wanted::default() };
        assert_eq!(now.new_paths(&before).collect::<Vec<_>>(), [&new]);
        files.settling.look(now.new_paths(&before));
        assert!(files.read(&now, None, None).unwrap_err().line().contains("it changes while it is read"));
    }
}
