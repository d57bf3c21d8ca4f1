//! The rule of somebody's split, asked once more: what `trommel verify` compares it with.

use std::path::{Path, PathBuf};

use serde_json::Value;
use trommel_dedup::work::Work;
use trommel_select::head::SplitHead;
use trommel_select::membership::Membership;
use trommel_select::select::RunFacts;
use trommel_select::split::Sink;

use super::source::sha256_of;
use super::{DedupConfig, DedupRule, Searched};
use crate::error::PipelineError;
use crate::failures::failed;

/// What the rule of a split is asked of once more.
#[derive(Clone, Copy, Debug)]
pub struct Again<'a> {
    /// The set's embeddings, in the order in which they were given.
    pub inputs: &'a [String],
    /// The other set's, where there was one.
    pub against: &'a [String],
    /// The split whose samples alone took part, where there was one.
    pub split: Option<&'a Path>,
    /// Bound on the process's memory.
    pub memory_bytes: u64,
    /// Threads that compare.
    pub threads: usize,
}

/// Asks the rule of a split once more; `fits` is asked first whether these are the embeddings that it is about.
///
/// # Errors
/// As [`dedup`](super::dedup); a rule that is none of ours, another set or split that is missing, not asked for, or not the one that it was; what `fits` says.
pub fn again(
    split: &SplitHead,
    of: Again<'_>,
    sinks: Vec<Box<dyn Sink>>,
    fits: &dyn Fn(&RunFacts) -> Result<(), PipelineError>,
) -> Result<SplitHead, PipelineError> {
    let rule: DedupRule = split.rule.parse()?;
    let wrong = |text: String| Err(PipelineError::usage(text));
    match (rule.against, of.against.is_empty()) {
        (true, true) => return wrong(format!("`{rule}` compares with another set: say which, --against EMB")),
        (false, false) => return wrong(format!("--against: `{rule}` compares with no other set")),
        _ => {}
    }
    let given = of.inputs.len() as u64;
    if let Some(due) = split.inputs.filter(|due| *due != given) {
        return wrong(format!(
            "`{rule}` was asked of {due} inputs, and {given} are given: they all decide, in their order"
        ));
    }
    match (&rule.of, of.split) {
        (Some(_), None) => return wrong(format!("`{rule}` is about the samples of a split: say which, --split FILE")),
        (None, Some(_)) => return wrong(format!("--split: `{rule}` is about all samples")),
        (Some(theirs), Some(path)) => {
            let mine = sha256_of(&Membership::open(path).map_err(failed)?)?;
            if mine != *theirs {
                let path = path.display();
                return wrong(format!(
                    "--split {path}: its hash is {mine}, that of the split in `{rule}` is another one"
                ));
            }
        }
        (None, None) => {}
    }
    let config = DedupConfig {
        inputs: of.inputs.to_vec(),
        rule,
        split: of.split.map(Path::to_path_buf),
        against: of.against.to_vec(),
        assume_model: split.identity.get("assumed").and_then(Value::as_str).map(String::from),
        out: PathBuf::new(),
        formats: Vec::new(),
        seed: split.seed,
        exact: true,
        check_recall: false,
        memory_bytes: of.memory_bytes,
        threads: of.threads,
    };
    let say = |line: &str| tracing::info!("{line}");
    let found = Searched::of(&config, &std::env::temp_dir(), fits, &say, &Work::default())?;
    found.write(&config, sinks, None).map(|(head, _remarks)| head)
}
