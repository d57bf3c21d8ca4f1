//! From what is to what should be: the changes of the next epoch. Whatever was interrupted, the same comparison finds what is left.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use trommel_incremental::inputs::{Change, Inputs};

use super::arrivals::Arrivals;
use super::inputs::{Desired, changes};
use super::pool::Pool;
use trommel_pipelines::error::PipelineError;

/// One change of the next epoch.
#[derive(Clone, Debug)]
pub struct Step {
    /// What the engine applies.
    pub change: Change,
    /// The shard that it shows.
    pub shard: Option<String>,
    /// A line about an input that is no shard.
    pub words: Option<String>,
    /// Whether a later epoch would do as well.
    pub can_wait: bool,
}

/// Shards that are to go and to come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Moves {
    /// Ordinals that are shown and not live.
    pub gone: Vec<u64>,
    /// Ordinals that are live and not shown.
    pub new: Vec<u64>,
}

impl Moves {
    /// From what is shown to what is live.
    #[must_use]
    pub fn between(now: &Inputs, live: &BTreeSet<u64>) -> Self {
        Self {
            gone: now.shards.keys().copied().filter(|ordinal| !live.contains(ordinal)).collect(),
            new: live.iter().copied().filter(|ordinal| !now.shards.contains_key(ordinal)).collect(),
        }
    }
}

/// The changes from the engine's inputs to what is desired and live; those that can wait come last.
///
/// # Errors
/// A pool that cannot be read.
pub fn steps(
    now: &Inputs,
    desired: &Desired,
    moves: &Moves,
    pool: &Pool,
    arrivals: &Arrivals,
) -> Result<Vec<Step>, PipelineError> {
    let input = |(change, words)| Step { change, shard: None, words: Some(words), can_wait: false };
    let mut steps: Vec<Step> = changes(now, desired).into_iter().map(input).collect();
    let Moves { gone, new } = moves;
    let name = |ordinal: u64| arrivals.all()[ordinal as usize].name.clone();
    let names: BTreeSet<String> = new.iter().map(|&ordinal| name(ordinal)).collect();
    // An old version goes in the epoch in which the new one comes.
    let replaced: BTreeSet<String> =
        gone.iter().map(|&ordinal| name(ordinal)).filter(|name| names.contains(name)).collect();
    steps.extend(gone.iter().map(|&at| Step {
        change: Change::Withdraw(at),
        shard: None,
        words: None,
        can_wait: false,
    }));
    let mut waiting = Vec::new();
    for &ordinal in new {
        let name = name(ordinal);
        let change = Change::Arrive(ordinal, pool.shard(ordinal, &name)?);
        let can_wait = !replaced.contains(&name);
        let step = Step { change, shard: Some(name), words: None, can_wait };
        if can_wait { waiting.push(step) } else { steps.push(step) }
    }
    steps.extend(waiting);
    Ok(steps)
}
