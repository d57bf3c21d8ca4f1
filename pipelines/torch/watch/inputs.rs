//! Benchmarks, splits and takedowns as the user wants them now, and the changes that lead there.
//!
//! They are inputs with versions, not configuration: a watch reads them again when their files change, and a watch that is started with
//! others goes on with these. A benchmark keeps as much of what is known as it can: new points at its end, points that went and
//! other radii are changes of their own; only a benchmark whose points stand in another order is a new one. Benchmarks stand in the order in
//! which they came.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};
use trommel_core::notices::Notices;
use trommel_core::sample::Identity;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::rule::Rule;
use trommel_incremental::inputs::{Change, Inputs};

use trommel_pipelines::benchmarks::{NamedPath, check_identity, load};
use trommel_pipelines::decision::BenchmarkConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::lists::words;

/// What the command line and its file say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Benchmarks, in the order of the columns.
    pub benchmarks: Vec<NamedPath>,
    /// Rules by split.
    pub splits: BTreeMap<String, String>,
    /// Files of samples to take down.
    pub takedowns: Vec<PathBuf>,
}

/// The same, read.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Benchmarks, in the order of the columns.
    pub benchmarks: Vec<Arc<Benchmark>>,
    /// Where they were read.
    pub folders: Vec<NamedPath>,
    /// Rules by split.
    pub splits: BTreeMap<String, Rule>,
    /// What is taken down: keys, uids, URLs, sha256, or `SHARD/KEY`.
    pub takedowns: Arc<BTreeSet<String>>,
}

impl Desired {
    /// Equal for equal inputs.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for benchmark in &self.benchmarks {
            let of = BenchmarkConfig::of(benchmark);
            hash.update(format!("{of:?} {:?} {:?}\n", benchmark.keys, benchmark.labels));
        }
        for (name, rule) in &self.splits {
            hash.update(format!("{name:?} {rule}\n"));
        }
        for word in &*self.takedowns {
            hash.update(format!("{word:?}\n"));
        }
        format!("{:x}", hash.finalize())
    }
}

/// Length and last change of a file, or of everything directly in a folder.
pub(super) type Stamp = Vec<(PathBuf, u64, u64)>;

/// Reads what is wanted; what has not changed is not read again.
#[derive(Default)]
pub struct InputFiles {
    benchmarks: BTreeMap<PathBuf, (Stamp, Arc<Benchmark>)>,
    takedowns: BTreeMap<PathBuf, (Stamp, Arc<BTreeSet<String>>)>,
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
    ) -> Result<Desired, PipelineError> {
        let mut desired = Desired { folders: wanted.benchmarks.clone(), ..Desired::default() };
        for named in &wanted.benchmarks {
            let stamp = stamp(&named.path);
            let held = self.benchmarks.get(&named.path);
            let benchmark = match held.filter(|held| held.0 == stamp && held.1.name == named.name) {
                Some((_, benchmark)) => benchmark.clone(),
                None => {
                    let mut notices = Notices::default();
                    let benchmark = Arc::new(load(named, &mut notices)?);
                    notices.lines().for_each(|line| tracing::info!("{line}"));
                    check_identity(&benchmark, embedder, assumed)?;
                    self.benchmarks.insert(named.path.clone(), (stamp, benchmark.clone()));
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
        Ok(desired)
    }
}

/// What tells that a file, or what lies directly in a folder, has changed.
pub(super) fn stamp(path: &Path) -> Stamp {
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

/// The changes from what is to what is desired, each with a word for people.
#[must_use]
pub fn changes(now: &Inputs, desired: &Desired) -> Vec<(Change, String)> {
    let mut out = Vec::new();
    for held in &now.benchmarks {
        let name = &held.benchmark.name;
        if !desired.benchmarks.iter().any(|benchmark| benchmark.name == *name) {
            out.push((Change::RemoveBenchmark(name.clone()), format!("benchmark {name} removed")));
        }
    }
    for benchmark in &desired.benchmarks {
        match now.benchmarks.iter().find(|held| held.benchmark.name == benchmark.name) {
            None => {
                let line = format!("benchmark {} added: {} points", benchmark.name, benchmark.points());
                out.push((Change::AddBenchmark(benchmark.clone()), line));
            }
            Some(held) => out.extend(to_benchmark(&held.benchmark, benchmark)),
        }
    }
    for name in now.splits.keys().filter(|name| !desired.splits.contains_key(*name)) {
        out.push((Change::RemoveSplit(name.clone()), format!("split {name} removed")));
    }
    for (name, rule) in &desired.splits {
        if now.splits.get(name).is_none_or(|held| held.rule != *rule) {
            out.push((Change::SetSplit(name.clone(), rule.clone()), format!("split {name}: {rule}")));
        }
    }
    let lifted: Vec<String> = now.taken_keys.difference(&desired.takedowns).cloned().collect();
    let new: Vec<String> = desired.takedowns.difference(&now.taken_keys).cloned().collect();
    if !lifted.is_empty() {
        let line = format!("{} takedowns lifted", lifted.len());
        out.push((Change::Restore(Vec::new(), lifted), line));
    }
    if !new.is_empty() {
        let line = format!("{} takedowns", new.len());
        out.push((Change::TakeDown(Vec::new(), new), line));
    }
    out
}

fn to_benchmark(held: &Benchmark, wanted: &Arc<Benchmark>) -> Vec<(Change, String)> {
    let name = &wanted.name;
    let anew = || {
        vec![
            (Change::RemoveBenchmark(name.clone()), format!("benchmark {name} replaced")),
            (Change::AddBenchmark(wanted.clone()), format!("benchmark {name} added: {} points", wanted.points())),
        ]
    };
    let alike = held.dim == wanted.dim && held.radii.is_some() == wanted.radii.is_some();
    if !alike || held.identity != wanted.identity {
        return anew();
    }
    // Old points that stay, in their order; what is left of the new ones must all stand behind them.
    let same = |old: usize, new: usize| {
        held.keys[old] == wanted.keys[new]
            && held.labels[old] == wanted.labels[new]
            && held.vector(old) == wanted.vector(new)
    };
    let (mut stays, mut gone) = (Vec::new(), Vec::new());
    for old in 0..held.points() {
        let next = stays.len();
        if next < wanted.points() && same(old, next) {
            stays.push(old);
        } else {
            gone.push(old as u32);
        }
    }
    if stays.is_empty() {
        return anew();
    }
    let mut out = Vec::new();
    if !gone.is_empty() {
        let line = format!("benchmark {name}: {} points removed", gone.len());
        out.push((Change::RemovePoints(name.clone(), gone), line));
    }
    if let (Some(was), Some(is)) = (&held.radii, &wanted.radii) {
        let moved =
            stays.iter().zip(is).enumerate().filter(|(_, (old, radius))| was[**old].to_bits() != radius.to_bits());
        let moved: Vec<(u32, f64)> = moved.map(|(place, (_, &radius))| (place as u32, radius)).collect();
        if !moved.is_empty() {
            let line = format!("benchmark {name}: {} radii moved", moved.len());
            out.push((Change::SetRadii(name.clone(), moved), line));
        }
    }
    let from = stays.len();
    if from < wanted.points() {
        let more = Benchmark::new(
            name.clone(),
            wanted.dim,
            wanted.vectors[from * wanted.dim..].to_vec(),
            wanted.keys[from..].to_vec(),
            wanted.labels[from..].to_vec(),
            wanted.radii.as_ref().map(|radii| radii[from..].to_vec()),
            wanted.identity.clone(),
        );
        match more {
            Ok(more) => {
                let line = format!("benchmark {name}: {} points added", more.points());
                out.push((Change::AddPoints(Arc::new(more)), line));
            }
            Err(_) => return anew(),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use half::f16;

    use super::*;

    /// Points on a circle, one a letter.
    fn benchmark(points: &str, radius: f64) -> Arc<Benchmark> {
        let angle = |letter: char| f64::from(letter as u32 - 'a' as u32) / 10.0;
        let vectors = points.chars().flat_map(|letter| [angle(letter).cos(), angle(letter).sin()]).map(f16::from_f64);
        let (keys, count) = (points.chars().map(String::from).collect(), points.len());
        let radii = Some(vec![radius; count]);
        Arc::new(Benchmark::new("b", 2, vectors.collect(), keys, vec![None; count], radii, None).unwrap())
    }

    /// Whatever the difference, the changes lead to what is wanted; and the small ones are not a new benchmark.
    #[test]
    fn changes_lead_to_what_is_wanted() {
        for (was, is, kinds) in [
            ("abcd", "abcd", ""),
            ("abcd", "abcdef", "+"),
            ("abcd", "bd", "-"),
            ("abcd", "acef", "-+"),
            ("abcd", "dcba", "-+"),
            ("ab", "cd", "!"),
        ] {
            for radius in [0.5, 0.6] {
                let before = Inputs::default().after(&[Change::AddBenchmark(benchmark(was, 0.5))]).unwrap();
                let desired = Desired { benchmarks: vec![benchmark(is, radius)], ..Desired::default() };
                let changes: Vec<Change> = changes(&before, &desired).into_iter().map(|change| change.0).collect();
                let after = before.after(&changes).unwrap();
                assert_eq!(after.benchmarks.len(), 1);
                assert_eq!(*after.benchmarks[0].benchmark, *desired.benchmarks[0], "{was} {is}");
                let kept = changes.iter().all(|change| !matches!(change, Change::AddBenchmark(_)));
                assert_eq!(kept, kinds != "!", "{was} {is}");
                if radius == 0.5 && kept {
                    assert_eq!(changes.len(), kinds.len(), "{was} {is}");
                }
            }
        }
    }

    #[test]
    fn splits_and_takedowns_follow_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        std::fs::write(&list, "# asked for\nk1\n  00000.tar/k2 \n\n").unwrap();
        let mut wanted = Wanted { takedowns: vec![list.clone()], ..Wanted::default() };
        wanted.splits.insert("a".into(), "drop-above:0.5".into());
        let mut files = InputFiles::default();
        let mut inputs = Inputs::default();
        inputs = inputs.after(&[Change::AddBenchmark(benchmark("ab", 0.5))]).unwrap();
        let mut follow = |wanted: &Wanted, inputs: &Inputs| {
            let mut desired = files.read(wanted, None, None).unwrap();
            desired.benchmarks.push(benchmark("ab", 0.5));
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
