//! `trommel why`: one sample's fate, from the ledger and the benchmarks' keys and radii.
//!
//! A key may stand in several shards: every sample that has it is told, with the steps in which it was trained.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use trommel_core::causes::Causes;
use trommel_core::escape::escape_controls;
use trommel_core::sample::{Status, TAKEN_DOWN};
use trommel_decide::rule::KEEP_ALL;
use trommel_ledger::read::LedgerRow;

use crate::error::PipelineError;
use crate::past_run::PastRun;
use crate::trained_steps::{InPass, Training};

/// A sample against one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhyScore {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Whether the rule looks at it.
    pub counts: bool,
    /// Largest cosine to any test point.
    pub max_similarity: Option<f64>,
    /// That test point's index.
    pub nearest: Option<u32>,
    /// Its key, where the benchmark is still there.
    pub nearest_key: Option<String>,
    /// Radius of that test point; `None` where the benchmark has none.
    pub nearest_radius: Option<f64>,
    /// Largest similarity less radius, over all test points.
    pub margin: Option<f64>,
    /// The test point with this margin.
    pub exceeds: Option<u32>,
    /// Key of that test point, where the benchmark is still there.
    pub exceeds_key: Option<String>,
    /// Radius of that test point.
    pub exceeds_radius: Option<f64>,
    /// Test points whose radius is exceeded.
    pub hits: Option<u32>,
    /// Why key and radii are missing.
    pub trouble: Option<String>,
}

/// One sample's fate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhyRow {
    /// The shard's name.
    pub shard: String,
    /// Its ordinal in the plan.
    pub ordinal: u64,
    /// Raw index in the shard.
    pub index: u32,
    /// Key of the sample, as its members are named.
    pub key: String,
    /// `uid` from the sample's json.
    pub uid: Option<String>,
    /// `url` from the sample's json.
    pub url: Option<String>,
    /// Byte of the sample's first header in the decompressed tar.
    pub offset: u64,
    /// Bytes of its members.
    pub size: u64,
    /// Kept, dropped or rejected.
    pub status: Status,
    /// Code of the reject or remark.
    pub reason: Option<String>,
    /// What exactly was seen.
    pub detail: Option<String>,
    /// The run's rule.
    pub rule: String,
    /// The decision in words.
    pub because: String,
    /// Against each benchmark.
    pub benchmarks: Vec<WhyScore>,
    /// What a trainer did with it, pass by pass; empty where nothing was trained, and where nobody can tell.
    pub trained: Vec<InPass>,
    /// What is known of its training, in words.
    pub training: Option<String>,
}

/// The fate of every sample with this key: `KEY`, or `SHARD/KEY`.
///
/// # Errors
/// No run folder, a damaged one, or no such sample.
pub fn why(run: &Path, key: &str) -> Result<Vec<WhyRow>, PipelineError> {
    let past = PastRun::open(run)?;
    let training = Training::open(run, &past)?;
    let mut rows = Vec::new();
    // A shard that the key names is looked into first: others need not be read.
    for (ordinal, name) in judged(&past) {
        if let Some(own) = key.strip_prefix(name).and_then(|rest| rest.strip_prefix('/')) {
            rows.extend(samples_with_key(&past, ordinal, own, &training)?);
        }
    }
    if rows.is_empty() {
        for &ordinal in past.ledger.shards().keys() {
            rows.extend(samples_with_key(&past, ordinal, key, &training)?);
        }
    }
    if rows.is_empty() {
        return Err(PipelineError::usage(missing(&past, run, key)));
    }
    Ok(rows)
}

/// What is told of a shard's samples that have this key. Most shards have none: keys are read first, and rows only where one is found.
fn samples_with_key(
    past: &PastRun,
    ordinal: u64,
    key: &str,
    training: &Result<Training, Option<String>>,
) -> Result<Vec<WhyRow>, PipelineError> {
    if !past.ledger.keys(ordinal, |own| own == key).map_err(PipelineError::failed)?.contains(&true) {
        return Ok(Vec::new());
    }
    let rows = past.ledger.shard_rows(ordinal).map_err(PipelineError::failed)?;
    Ok(rows.iter().filter(|row| row.fate.info.key == key).map(|row| told(past, row, training)).collect())
}

fn judged(past: &PastRun) -> impl Iterator<Item = (u64, &str)> {
    past.ledger.shards().keys().filter_map(|ordinal| Some((*ordinal, past.plan.shard(*ordinal)?.name.as_str())))
}

fn missing(past: &PastRun, run: &Path, key: &str) -> String {
    const SHOWN: usize = 8;
    let names: Vec<&str> = judged(past).map(|(_, name)| name).collect();
    let more = names.len().saturating_sub(SHOWN);
    let mut list = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if more > 0 {
        list += &format!(" and {more} more");
    }
    let left = past.plan.len().saturating_sub(names.len());
    let left = match left {
        0 => String::new(),
        1 => "; one shard of the plan is not judged".into(),
        left => format!("; {left} shards of the plan are not judged"),
    };
    match names.len() {
        0 => format!("no sample `{key}` in {}: no shard is judged{left}", run.display()),
        1 => format!("no sample `{key}` in {}: searched one shard ({list}){left}", run.display()),
        count => format!("no sample `{key}` in {}: searched {count} shards ({list}){left}", run.display()),
    }
}

fn told(past: &PastRun, row: &LedgerRow, training: &Result<Training, Option<String>>) -> WhyRow {
    let (info, fate) = (&row.fate.info, &row.fate);
    let benchmarks = past.benchmarks.iter().zip(&fate.scores).map(|(benchmark, score)| {
        let key = |point: Option<u32>| point.and_then(|point| benchmark.key(point)).map(str::to_owned);
        let radius = |point: Option<u32>| benchmark.radii.as_ref()?.get(point? as usize).copied();
        WhyScore {
            benchmark: benchmark.name.clone(),
            counts: benchmark.counts,
            max_similarity: score.max_similarity,
            nearest: score.nearest,
            nearest_key: key(score.nearest),
            nearest_radius: radius(score.nearest),
            margin: score.margin,
            exceeds: score.exceeds,
            exceeds_key: key(score.exceeds),
            exceeds_radius: radius(score.exceeds),
            hits: score.hits,
            trouble: benchmark.trouble.clone(),
        }
    });
    let (trained, training) = match training {
        Ok(training) => match training.of(past, row) {
            (passes, None) => (passes.clone(), Some(in_words(&passes, training.steps(), fate.status, true))),
            (passes, Some(why)) if passes.is_empty() => {
                (passes, Some(format!("its training steps cannot be told: {}", Causes(&why))))
            }
            (passes, Some(why)) => {
                let known = in_words(&passes, training.steps(), fate.status, false);
                let from = passes.len();
                (passes, Some(format!("{known}; from pass {from} on it cannot be told: {}", Causes(&why))))
            }
        },
        Err(why) => (Vec::new(), why.clone()),
    };
    WhyRow {
        shard: row.shard.clone(),
        ordinal: info.id.ordinal,
        index: info.id.index,
        key: info.key.clone(),
        uid: info.uid.clone(),
        url: info.url.clone(),
        offset: info.offset,
        size: info.size,
        status: fate.status,
        reason: fate.reason.as_ref().map(|reason| reason.code.clone()),
        detail: fate.reason.as_ref().map(|reason| reason.detail.clone()).filter(|detail| !detail.is_empty()),
        rule: past.rule_text.clone(),
        because: because(past, row),
        benchmarks: benchmarks.collect(),
        trained,
        training,
    }
}

/// What a trainer did with a sample, in words; of `all` passes, or of the first ones, where nobody can tell the rest.
fn in_words(passes: &[InPass], done: u64, status: Status, all: bool) -> String {
    let steps: Vec<String> = passes
        .iter()
        .filter_map(|pass| if let InPass::Step(step) = pass { Some(step.to_string()) } else { None })
        .collect();
    let mut words = match (steps.as_slice(), status) {
        ([], Status::Kept) if passes.is_empty() => return "never trained: it has no caption".into(),
        ([], Status::Dropped | Status::Rejected) => return "never trained: it is not kept".into(),
        ([], Status::Kept) if all => format!("trained in none of the {done} steps that are done"),
        ([], Status::Kept) if passes.len() == 1 => "trained in no step of the first pass".into(),
        ([], Status::Kept) => format!("trained in no step of the first {} passes", passes.len()),
        (steps, _) if !all => {
            let (word, steps) = (if steps.len() == 1 { "step" } else { "steps" }, steps.join(", "));
            format!("trained in {word} {steps} (of {done} that are done, counted from 0) as far as is known")
        }
        ([step], _) => format!("trained in step {step} (of {done} that are done, counted from 0)"),
        (steps, _) => format!("trained in steps {} (of {done} that are done, counted from 0)", steps.join(", ")),
    };
    for (at, pass) in passes.iter().enumerate() {
        match pass {
            InPass::Step(_) => {}
            InPass::NotYet => words += &format!("; pass {at}: its turn has not come"),
            InPass::LeftOver => words += &format!("; pass {at}: left over, it filled no batch"),
            InPass::Skipped => words += &format!("; pass {at}: skipped, it could not be read again"),
        }
    }
    words
}

/// The decision in words.
fn because(past: &PastRun, row: &LedgerRow) -> String {
    let fate = &row.fate;
    if fate.status == Status::Rejected {
        return fate.reason.as_ref().map_or_else(|| "it could not be judged".into(), ToString::to_string);
    }
    let dropped = fate.status == Status::Dropped;
    if dropped && fate.reason.as_ref().is_some_and(|reason| reason.code == TAKEN_DOWN) {
        return "it is on a takedown list, whatever the rule says".into();
    }
    let names = |counts: bool| {
        let named = past.benchmarks.iter().zip(&fate.scores).enumerate();
        let named =
            named.filter(|(at, (benchmark, score))| if counts { benchmark.counts } else { past.removes(*at, score) });
        named.map(|(_, (benchmark, _))| benchmark.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let counting = past.benchmarks.iter().zip(&fate.scores).filter(|(benchmark, _)| benchmark.counts);
    let largest = counting.filter_map(|(_, score)| score.max_similarity).fold(f64::NEG_INFINITY, f64::max);
    let largest =
        if largest.is_finite() { format!("{largest:.6}") } else { "the largest similarity (not recorded)".into() };
    if let Some(split) = &past.split {
        let keeps = if dropped { "does not keep it" } else { "keeps it" };
        return format!("the split {keeps} (`{}`, {} samples)", split.rule, split.count);
    }
    match past.policy() {
        Some(policy) => policy.because(dropped, &largest, &names(true), &names(false)),
        None if past.rule_text == KEEP_ALL => "the run drops nothing".into(),
        None => format!("by the rule `{}`, which this version does not know", past.rule_text),
    }
}

impl fmt::Display for WhyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names and reasons are a stranger's.
        let safe = escape_controls;
        writeln!(f, "{}/{}", safe(&self.shard), safe(&self.key))?;
        writeln!(f, "  {}: {}", self.status.as_str(), safe(&self.because))?;
        writeln!(f, "  rule {}", safe(&self.rule))?;
        if let Some(reason) = self.reason.as_ref().filter(|_| self.status != Status::Rejected) {
            writeln!(
                f,
                "  remark {reason}{}",
                self.detail.as_ref().map(|detail| format!(": {}", safe(detail))).unwrap_or_default()
            )?;
        }
        for score in &self.benchmarks {
            writeln!(
                f,
                "  {}{}",
                safe(&score.benchmark),
                if score.counts { "" } else { " (the rule does not look at it)" }
            )?;
            let point = |index: Option<u32>, key: &Option<String>, radius: Option<f64>| {
                let Some(index) = index else { return "no point recorded".to_owned() };
                let key = key.as_ref().map(|key| format!(" {}", safe(key))).unwrap_or_default();
                format!("point {index}{key}{}", radius.map(|radius| format!(", r {radius:.6}")).unwrap_or_default())
            };
            match score.max_similarity {
                Some(max) => {
                    writeln!(
                        f,
                        "    nearest  {max:.6}  {}",
                        point(score.nearest, &score.nearest_key, score.nearest_radius)
                    )?;
                }
                None => writeln!(f, "    nearest  not recorded (--columns decision)")?,
            }
            if let Some(margin) = score.margin {
                let exceeds = point(score.exceeds, &score.exceeds_key, score.exceeds_radius);
                writeln!(f, "    margin  {margin:+.6}  {exceeds}")?;
            }
            if let Some(hits) = score.hits {
                writeln!(f, "    over the radius of {hits} test points")?;
            }
            if let Some(trouble) = &score.trouble {
                writeln!(f, "    names and radii are missing: {}", safe(trouble))?;
            }
        }
        write!(f, "  shard {} index {}, byte {}, {} bytes", self.ordinal, self.index, self.offset, self.size)?;
        for (name, value) in [("url", &self.url), ("uid", &self.uid)] {
            if let Some(value) = value {
                write!(f, "\n  {name} {}", safe(value))?;
            }
        }
        if let Some(training) = &self.training {
            write!(f, "\n  {training}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cannot be told of later passes is not denied.
    #[test]
    fn no_more_is_said_of_a_training_than_is_known() {
        let [step, left] = [InPass::Step(3), InPass::LeftOver];
        for (passes, all, due) in [
            (&[left][..], true, "trained in none of the 9 steps that are done; pass 0: left over, it filled no batch"),
            (&[left], false, "trained in no step of the first pass; pass 0: left over, it filled no batch"),
            (&[left, InPass::Skipped], false, "trained in no step of the first 2 passes; pass 0: left over"),
            (&[step], true, "trained in step 3 (of 9 that are done, counted from 0)"),
            (&[step], false, "trained in step 3 (of 9 that are done, counted from 0) as far as is known"),
            (&[step, InPass::Step(7)], true, "trained in steps 3, 7 (of 9 that are done, counted from 0)"),
            (&[step, InPass::Step(7)], false, "trained in steps 3, 7 (of 9 that are done, counted from 0) as far as"),
        ] {
            let said = in_words(passes, 9, Status::Kept, all);
            assert!(said.starts_with(due), "{said}");
            assert_eq!(said.contains("as far as is known"), !all && passes.contains(&step), "{said}");
        }
    }
}
