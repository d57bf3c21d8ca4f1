//! The next epoch: which changes are due, which of them are tried together, and what is tried when that is refused.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::{Desired, changes};
use super::{Action, State};
use crate::inputs::{Change, ShardInput};

/// One change of the next epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What the engine applies.
    pub change: Change,
    /// A line about an input that is no shard.
    pub words: Option<String>,
    /// Whether a later epoch would do as well.
    pub can_wait: bool,
}

/// An epoch that is to be made of the first `many` steps. Inputs come first, and shards that can wait last.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// All changes that are due.
    pub steps: Vec<Step>,
    /// Steps that are tried together.
    pub many: usize,
}

impl Attempt {
    /// The steps that are tried.
    #[must_use]
    pub fn tried(&self) -> &[Step] {
        &self.steps[..self.many]
    }

    /// Whether a benchmark, a rule or takedowns are among the changes.
    #[must_use]
    pub fn has_inputs(&self) -> bool {
        self.steps.iter().any(|step| step.words.is_some())
    }
}

/// Why an epoch could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not fit in the memory of some process.
    Budget,
    /// A change cannot be, and why.
    Change(String),
    /// Anything else: nothing helps.
    Failure,
}

/// The changes from the last epoch to what is wanted and live; those that can wait come last.
pub(super) fn wanted(
    desired: &Desired,
    gone: &[u64],
    new: &BTreeMap<u64, ShardInput>,
    state: &State<'_>,
) -> Vec<Action> {
    let shard = |change, can_wait| Step { change, words: None, can_wait };
    let input = |(change, words)| Step { change, words: Some(words), can_wait: false };
    let mut steps: Vec<Step> = changes(state.inputs, desired).into_iter().map(input).collect();
    steps.extend(gone.iter().map(|&ordinal| shard(Change::Withdraw(ordinal), false)));
    // An old version goes in the epoch in which the new one comes.
    let going: BTreeSet<&str> =
        gone.iter().filter_map(|ordinal| Some(&*state.inputs.shards.get(ordinal)?.name)).collect();
    let (replacing, others): (Vec<_>, Vec<_>) = new.iter().partition(|(_, input)| going.contains(&*input.name));
    let arrive = |(&ordinal, input): (&u64, &ShardInput)| Change::Arrive(ordinal, input.clone());
    steps.extend(replacing.into_iter().map(|it| shard(arrive(it), false)));
    steps.extend(others.into_iter().map(|it| shard(arrive(it), true)));
    match steps.len() {
        0 => vec![Action::TakeEffect],
        many => vec![Action::Apply(Attempt { steps, many })],
    }
}

/// What holds from now on, and whether something is left for another epoch.
pub(super) fn applied(attempt: &Attempt, state: &State<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    // Steps that are no shards come first, and together.
    if attempt.has_inputs() || !state.is_in_force {
        actions.push(Action::TakeEffect);
    }
    if attempt.many < attempt.steps.len() {
        actions.push(Action::Again);
    }
    actions
}

/// Less at once, or without what cannot be; nothing, where nothing helps.
pub(super) fn refused(attempt: &Attempt, refusal: &Refusal) -> Vec<Action> {
    let (steps, many) = (&attempt.steps, attempt.many);
    match refusal {
        // Shards can come one after the other; what cannot be split is refused.
        Refusal::Budget if many > 1 && steps[many - 1].can_wait => {
            let fixed = steps.iter().filter(|step| !step.can_wait).count();
            let many = (many / 2).max(fixed).max(1);
            vec![Action::Apply(Attempt { steps: steps.clone(), many })]
        }
        // Shards go on under what is in force.
        Refusal::Change(why) if attempt.has_inputs() => {
            let shards: Vec<Step> = steps.iter().filter(|step| step.words.is_none()).cloned().collect();
            let mut actions = vec![Action::KeepOld(why.clone())];
            if !shards.is_empty() {
                actions.push(Action::Apply(Attempt { many: shards.len(), steps: shards }));
            }
            actions
        }
        Refusal::Budget | Refusal::Change(_) | Refusal::Failure => Vec::new(),
    }
}
