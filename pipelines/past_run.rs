//! A run folder as people look at it afterwards: ledger, plan, rule, and the benchmarks' keys and radii.
//!
//! What is gone since (a benchmark's folder, its pictures) takes its names and radii with it and is remarked on; what the
//! ledger says stays readable.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use trommel_columnar::ipc::IpcReader;
use trommel_columnar::pieces::FILE_NAME;
use trommel_core::names::STDIN;
use trommel_core::sample::Score;
use trommel_decide::checked_rule::KnownBenchmark;
use trommel_decide::policy::Policy;
use trommel_decide::rule::{KEEP_ALL, Rule};
use trommel_ledger::LedgerError;
use trommel_ledger::read::Ledger;
use trommel_ledger::run_folder::BLUR;
use trommel_shard::plan::{Plan, is_shard_name};
use trommel_shard::store::local_path;

use crate::benchmarks::open_set;
use crate::error::PipelineError;
use crate::failures::no_run;
use crate::split_file::SplitConfig;
use crate::stream::by_keys_alone;

/// A benchmark of a past run, without its vectors.
#[derive(Clone, Debug, Default)]
pub struct TestPoints {
    /// Name in rules and columns.
    pub name: String,
    /// Test points that the run was judged against.
    pub points: u64,
    /// Their keys; empty when the benchmark cannot be had any more.
    pub keys: Vec<String>,
    /// Their class labels; as many as keys.
    pub labels: Vec<Option<String>>,
    /// Names of the shards that they come from; as many as keys.
    pub shards: Vec<Option<String>>,
    /// Their radii as cosines.
    pub radii: Option<Vec<f64>>,
    /// Where their embeddings are; `None` when they cannot be had any more.
    pub folder: Option<PathBuf>,
    /// Where their pictures may be, the likeliest first.
    pub pictures: Vec<PathBuf>,
    /// Whether the rule looks at it.
    pub counts: bool,
    /// Why keys and radii are missing.
    pub trouble: Option<String>,
}

/// The test point that speaks for or against a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Index of the point.
    pub point: u32,
    /// Its cosine to the sample.
    pub similarity: f64,
    /// Its radius, or the rule's threshold.
    pub limit: Option<f64>,
    /// Similarity less the limit.
    pub margin: f64,
}

/// A run folder, opened to look at.
pub struct PastRun {
    /// The fates of its samples.
    pub ledger: Ledger,
    /// The shards that it has or was to judge.
    pub plan: Plan,
    /// The rule; `None` when everything was kept, and where the rule is one that this version does not know.
    pub rule: Option<Rule>,
    /// The rule as written in the configuration.
    pub rule_text: String,
    /// The split that decided, in the place of a rule.
    pub split: Option<SplitConfig>,
    /// Benchmarks in the order of the columns.
    pub benchmarks: Vec<TestPoints>,
}

impl PastRun {
    /// Opens a run folder, without a lock.
    ///
    /// # Errors
    /// No run folder, or one that is damaged.
    pub fn open(run: &Path) -> Result<Self, PipelineError> {
        let unread = |error: LedgerError| no_run(run, error);
        let ledger = Ledger::open(run).map_err(unread)?;
        let plan = plan_of(&ledger).map_err(unread)?;
        let decisions = ledger.config().get("decisions").cloned().unwrap_or_default();
        let rule_text = decisions.get("rule").and_then(Value::as_str).unwrap_or(KEEP_ALL).to_owned();
        let rule: Option<Rule> = rule_text.parse().ok();
        let configured = decisions.get("benchmarks").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let mut names = ledger.benchmarks().map_err(unread)?;
        if names.is_empty() {
            names = configured.iter().filter_map(|benchmark| text(benchmark, "name")).collect();
        }
        let record = ledger.config().get("record").cloned().unwrap_or_default();
        let mut benchmarks: Vec<TestPoints> = names
            .into_iter()
            .map(|name| {
                let known = configured.iter().find(|benchmark| text(benchmark, "name").as_ref() == Some(&name));
                let due = Due {
                    points: known.and_then(|benchmark| benchmark.get("points")?.as_u64()),
                    sha256: known.and_then(|benchmark| text(benchmark, "sha256")),
                };
                let folder =
                    |field: &str| record.get(field).and_then(|folders| text(folders, &name)).map(PathBuf::from);
                TestPoints::find(name.clone(), &due, folder("benchmarks"), folder("pictures"))
            })
            .collect();
        let known: Vec<KnownBenchmark<'_>> =
            benchmarks.iter().map(|b| KnownBenchmark { name: &b.name, radii: true }).collect();
        let counting = rule.as_ref().and_then(|rule| rule.resolve(&known).ok()).unwrap_or_default();
        for at in counting {
            benchmarks[at].counts = true;
        }
        let split = decisions.get("split").and_then(|split| serde_json::from_value(split.clone()).ok());
        Ok(Self { ledger, plan, rule, rule_text, split, benchmarks })
    }

    /// Whether the run was told that reports blur its pictures.
    #[must_use]
    pub fn is_blurred(&self) -> bool {
        self.ledger.config()["record"][BLUR] == true
    }

    /// What the rule means.
    #[must_use]
    pub fn policy(&self) -> Option<Policy<'_>> {
        self.rule.as_ref().map(Rule::policy)
    }

    /// The rule's one threshold, where it has one.
    #[must_use]
    pub fn threshold(&self) -> Option<f64> {
        self.policy().and_then(Policy::threshold)
    }

    /// Whether a dropped sample with this score fell because of this benchmark.
    #[must_use]
    pub fn removes(&self, benchmark: usize, score: &Score) -> bool {
        let counts = self.benchmarks.get(benchmark).is_some_and(|benchmark| benchmark.counts);
        counts && self.policy().is_some_and(|policy| policy.removes(score))
    }

    /// How far beyond its limit a sample with this score lies, where the rule looks at this benchmark and compares similarities.
    #[must_use]
    pub fn margin(&self, benchmark: usize, score: &Score) -> Option<f64> {
        self.benchmarks.get(benchmark).filter(|benchmark| benchmark.counts)?;
        match self.threshold() {
            Some(threshold) => score.max_similarity.map(|similarity| similarity - threshold),
            None => score.margin,
        }
    }

    /// The test point that decides: the one whose radius is exceeded most (or nearly), or the nearest one.
    #[must_use]
    pub fn evidence(&self, benchmark: usize, score: &Score) -> Option<Evidence> {
        let radii = self.benchmarks.get(benchmark).and_then(|benchmark| benchmark.radii.as_ref());
        if let (None, Some(point), Some(margin)) = (self.threshold(), score.exceeds, score.margin) {
            let nearest = score.max_similarity.filter(|_| score.nearest == Some(point));
            let radius = radii.and_then(|radii| radii.get(point as usize).copied());
            let limit = radius.or_else(|| nearest.map(|similarity| similarity - margin));
            let similarity = nearest.or_else(|| limit.map(|radius| radius + margin));
            if let Some(similarity) = similarity {
                return Some(Evidence { point, similarity, limit, margin });
            }
        }
        let (point, similarity) = score.nearest.zip(score.max_similarity)?;
        let limit = self.threshold().or_else(|| radii.and_then(|radii| radii.get(point as usize).copied()));
        let margin = score.margin.filter(|_| self.threshold().is_none());
        let margin = margin.or_else(|| limit.map(|limit| similarity - limit)).unwrap_or(similarity);
        Some(Evidence { point, similarity, limit, margin })
    }
}

/// What the configuration says of a benchmark.
struct Due {
    points: Option<u64>,
    sha256: Option<String>,
}

impl TestPoints {
    fn find(name: String, due: &Due, folder: Option<PathBuf>, pictures: Option<PathBuf>) -> Self {
        let mut found = Self { name, points: due.points.unwrap_or(0), ..Self::default() };
        found.pictures.extend(pictures);
        let Some(folder) = folder else {
            found.trouble = Some("the run does not say where this benchmark was".into());
            return found;
        };
        found.pictures.extend(source_of(&folder));
        found.pictures.push(folder.clone());
        match read(&folder, due) {
            Ok(read) => {
                found.points = read.keys.len() as u64;
                (found.keys, found.labels, found.shards, found.radii) =
                    (read.keys, read.labels, read.shards, read.radii);
                found.folder = Some(folder);
            }
            Err(error) => found.trouble = Some(error.line()),
        }
        found
    }

    /// The key of a test point, where it is known.
    #[must_use]
    pub fn key(&self, point: u32) -> Option<&str> {
        self.keys.get(point as usize).map(String::as_str)
    }
}

/// What is read of a benchmark's folder: all but its vectors.
struct Named {
    keys: Vec<String>,
    labels: Vec<Option<String>>,
    shards: Vec<Option<String>>,
    radii: Option<Vec<f64>>,
}

/// Keys, labels, shards and radii, if the folder still holds what the run was judged against.
fn read(folder: &Path, due: &Due) -> Result<Named, PipelineError> {
    let mut reader = open_set(folder)?;
    let (mut keys, mut labels, mut shards) = (Vec::new(), Vec::new(), Vec::new());
    let mut radii = reader.has_radii().then(Vec::new);
    let mut hash = Sha256::new();
    for batch in &mut reader {
        let batch = batch.map_err(PipelineError::usage)?;
        for value in &batch.vectors {
            hash.update(value.to_bits().to_le_bytes());
        }
        keys.extend(batch.keys);
        labels.extend(batch.labels);
        shards.extend(batch.shards);
        if let Some(radii) = &mut radii {
            radii.extend(batch.radii.iter().map(|radius| radius.unwrap_or(f64::NAN)));
        }
    }
    for radius in radii.iter().flatten() {
        hash.update(radius.to_bits().to_le_bytes());
    }
    let hash = format!("{:x}", hash.finalize());
    let same = due.points.is_none_or(|points| points == keys.len() as u64)
        && due.sha256.as_ref().is_none_or(|sha| *sha == hash);
    if same {
        Ok(Named { keys, labels, shards, radii })
    } else {
        let folder = folder.display();
        Err(PipelineError::usage(format!("{folder} is not the benchmark any more that the run was judged against")))
    }
}

/// The shards of a run, as they are opened from here.
///
/// # Errors
/// No plan there, or one of another form.
pub fn plan_of(ledger: &Ledger) -> Result<Plan, LedgerError> {
    let mut plan: Plan = ledger.plan()?;
    if let Some(folder) = ledger.config().pointer("/record/folder").and_then(Value::as_str) {
        plan.shards.iter_mut().for_each(|shard| shard.url = from_folder(Path::new(folder), &shard.url));
    }
    Ok(plan)
}

/// Why nobody finds samples where a run's plan says, with the way out, where it was made from something else than shards; `None` where it was not.
#[must_use]
pub fn not_of_shards(plan: &Plan) -> Option<String> {
    let first = &plan.shards.first().filter(|_| !is_of_shards(plan))?.name;
    Some(format!("it names {first}, and no shards: give the shards with the pictures{}", by_keys_alone(first)))
}

/// Whether a plan is of shards, and not of files of embeddings or of folders of pictures.
pub(crate) fn is_of_shards(plan: &Plan) -> bool {
    plan.shards.iter().any(|shard| is_shard_name(&shard.name) || shard.name == STDIN)
}

/// A relative path that is not there is one of the folder in which the run was started.
#[must_use]
pub fn from_folder(folder: &Path, url: &str) -> String {
    let Some(path) = local_path(url) else { return url.to_owned() };
    let there = folder.join(path);
    if url != STDIN && path.is_relative() && !path.exists() && there.exists() {
        return there.display().to_string();
    }
    url.to_owned()
}

/// The folder of pictures that an embeddings file says it was made from.
fn source_of(folder: &Path) -> Option<PathBuf> {
    let path = if folder.is_dir() { folder.join(FILE_NAME) } else { folder.to_path_buf() };
    let reader = IpcReader::open(&path, Box::new(std::fs::File::open(&path).ok()?)).ok()?;
    reader.metadata().get("source").filter(|source| !source.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
pub(crate) mod tests;
