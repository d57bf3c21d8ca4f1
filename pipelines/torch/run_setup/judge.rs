//! By what samples are judged: the rule, and who scores vectors against the benchmarks.

use std::sync::Arc;

use trommel_decide::benchmark::Benchmark;
use trommel_decide::join::{JoinConfig, Joiner, Verdict};
use trommel_decide::rule::{KEEP_ALL, Rule};

use crate::embedder::Embedder;
use crate::joiner;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::memory::MemoryPlan;
use trommel_pipelines::split_file::SplitFile;

/// The canonical spelling of what decides, and who decides by it. A split's own rule is spelled out, and has no say here any more.
///
/// # Errors
/// A rule that is none, or that names a benchmark that is not there.
pub(super) fn checked_rule(
    config: &JudgeConfig,
    split: Option<&SplitFile>,
    benchmarks: &[Arc<Benchmark>],
) -> Result<(String, Arc<dyn Verdict>), PipelineError> {
    let parsed: Option<Rule> = config.rule.as_deref().map(str::parse).transpose().map_err(PipelineError::usage)?;
    let checked = parsed
        .as_ref()
        .map(|rule| rule.check_against(benchmarks, config.rule_seed))
        .transpose()
        .map_err(PipelineError::usage)?;
    let rule = match (split, &parsed) {
        (Some(split), _) => format!("split: {}", split.config().rule),
        (None, Some(rule)) => rule.to_string(),
        (None, None) => KEEP_ALL.into(),
    };
    let verdict: Arc<dyn Verdict> = match checked {
        Some(checked) => Arc::new(checked),
        None => Arc::new(()),
    };
    Ok((rule, verdict))
}

/// Who scores vectors, where something embeds and there are benchmarks; takes its memory.
///
/// # Errors
/// Benchmarks that do not go together; a device that is asked for and cannot join.
pub(super) fn joiner_of(
    config: &JudgeConfig,
    benchmarks: &[Arc<Benchmark>],
    embedder: Option<&Embedder>,
    memory: &mut MemoryPlan,
) -> Result<Option<Arc<Joiner>>, PipelineError> {
    let Some(embedder) = embedder.filter(|_| !benchmarks.is_empty()) else { return Ok(None) };
    let (join, on) =
        (JoinConfig { columns: config.columns, ..JoinConfig::default() }, (config.join, embedder.config.device));
    let joiner = joiner::joiner(benchmarks, join, on, memory)?;
    memory.take("benchmarks", benchmarks.iter().map(|benchmark| benchmark.bytes()).sum());
    memory
        .take("join", joiner.held_bytes() + joiner.call_bytes() * joiner.calls_at_once(config.machine.threads) as u64);
    Ok(Some(Arc::new(joiner)))
}
