//! The engine: takes changes, brings everything that depends on them up to date, and publishes the epoch.
//!
//! ```text
//!  changes ─▶ inputs ─▶ seek ─▶ facts ─▶ dataflow ─▶ decisions, counts ─▶ mend ─▶ view, changelog
//!                        │                                               │
//!                        └──────────── matches, scores in files ◀────────┘
//! ```
//!
//! Invariants:
//! 1. A reader sees the state after an epoch or the one before, never anything between.
//! 2. An error leaves the state before: facts that the dataflow has taken already are taken back at the next time.
//! 3. The state after any sequence of changes is that of a fresh run over the final inputs, to the bit.
//! 4. Several processes that are told the same changes have the same state, and answer the same; see [`super::peers`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::budget::Purse;
use super::changelog::{Between, Changelog};
use super::embeddings::Embeddings;
use super::inputs::Change;
use super::mend::Mend;
use super::parts::Shelf;
use super::peers::{Alone, Peers, Round};
use super::plan::Plan;
use super::seek::{Seek, looks};
use super::view::{View, Views};
use super::workers::{Flow, Outcome};
use super::world::{Live, World};
use super::{Epoch, IncrementalError};
use crate::cluster::Allocators;
use crate::sample::SampleId;

/// Settings of the engine. None of them changes a decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IncrementalConfig {
    /// Threads that turn the dataflow in each process. Default 1.
    pub workers: usize,
    /// Bytes that arrangements and the facts of one epoch may take in each process. Default 1 GiB.
    pub budget_bytes: u64,
    /// How far below a point's lowest cut its matches are stored, as a cosine: how far a cut may fall without vectors being read. Default 0.02.
    pub floor_slack_cosine: f64,
}

impl Default for IncrementalConfig {
    fn default() -> Self {
        Self { workers: 1, budget_bytes: 1 << 30, floor_slack_cosine: 0.02 }
    }
}

impl IncrementalConfig {
    fn check(&self) -> Result<(), IncrementalError> {
        let slack = self.floor_slack_cosine;
        if (0.0..=2.0).contains(&slack) { Ok(()) } else { Err(IncrementalError::Slack(slack)) }
    }
}

/// A finished epoch.
#[derive(Clone, Debug)]
pub struct Applied {
    /// What changed, and why.
    pub changelog: Changelog,
    /// Facts that the dataflow took, in all processes.
    pub facts: u64,
    /// Time until decisions, counts, hits and sizes were known.
    pub decided: Duration,
    /// Time of the mending of maxima.
    pub mended: Duration,
    /// Vectors that the mending read, in all processes.
    pub mended_vectors: u64,
}

/// Keeps decisions, counts, scores and items right while their inputs change.
pub struct Engine {
    config: IncrementalConfig,
    embeddings: Arc<dyn Embeddings>,
    shelf: Shelf,
    flow: Flow,
    world: Arc<World>,
    views: Views,
    epoch: Epoch,
    peers: Arc<dyn Peers>,
    /// With several processes, the epoch before the last: who reads the last one in another process may still read its parts.
    before: Option<Arc<World>>,
}

impl Engine {
    /// An engine that knows of nothing, at epoch 0.
    ///
    /// # Errors
    /// If its threads cannot be made, or the slack is no cosine.
    pub fn new(
        config: IncrementalConfig,
        embeddings: Arc<dyn Embeddings>,
        shelf: Shelf,
    ) -> Result<Self, IncrementalError> {
        config.check()?;
        let flow = Flow::start(config.workers)?;
        Ok(Self::with(config, embeddings, shelf, flow, Arc::new(Alone)))
    }

    /// One of several engines, one a process, that keep one state: all must be told the same changes in the same order. `allocators` are
    /// [`Cluster::timely`](crate::cluster::Cluster::timely)'s for `config.workers` workers; `shelf` is a folder that all see, by the
    /// same incarnation. A shard is its ordinal's remainder's: that process alone reads its vectors and matches, and removes its parts.
    ///
    /// Dropping it waits for the others, unless one is lost: drop it before [`Control::goodbye`](crate::cluster::Control::goodbye).
    ///
    /// # Errors
    /// As [`new`](Self::new), or parts in memory.
    pub fn across(
        config: IncrementalConfig,
        embeddings: Arc<dyn Embeddings>,
        shelf: Shelf,
        peers: Arc<dyn Peers>,
        allocators: Allocators,
    ) -> Result<Self, IncrementalError> {
        let in_folder = peers.ranks() == 1 || matches!(shelf, Shelf::Folder(_));
        let refused = config.check().and(if in_folder { Ok(()) } else { Err(IncrementalError::NoFolder) });
        if let Err(error) = refused {
            std::mem::forget(allocators); // dropped unbuilt, their threads would panic
            return Err(error);
        }
        let flow = Flow::across(allocators, peers.clone())?;
        Ok(Self::with(config, embeddings, shelf, flow, peers))
    }

    fn with(
        config: IncrementalConfig,
        embeddings: Arc<dyn Embeddings>,
        shelf: Shelf,
        flow: Flow,
        peers: Arc<dyn Peers>,
    ) -> Self {
        let (world, views) = (Arc::default(), Views::default());
        Self { config, embeddings, shelf, flow, world, views, epoch: 0, peers, before: None }
    }

    /// Where readers get the newest epoch.
    #[must_use]
    pub fn views(&self) -> Views {
        self.views.clone()
    }

    /// The dataflow, for its gauges.
    #[must_use]
    pub const fn flow(&self) -> &Flow {
        &self.flow
    }

    /// The state between epochs.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Lets the changes take effect together, as the next epoch, and publishes it. With several processes, all must call it alike; it returns
    /// the same in all, but for the times.
    ///
    /// # Errors
    /// Changes that cannot be, a budget that would be exceeded, files that cannot be read or written, here or in another process. Nothing has
    /// changed then, in none.
    pub fn apply(&mut self, changes: &[Change]) -> Result<Applied, IncrementalError> {
        let begun = Instant::now();
        let old = self.world.clone();
        let round = Round { peers: self.peers.clone(), name: format!("epoch {}", self.epoch + 1) };
        let plan = Plan::of(&old, changes, self.config.floor_slack_cosine);
        let Plan { mut next, shifts } = Plan::agreed(plan, &round)?;
        let looks = looks(&shifts, &next.floors);
        let mut purse = Purse::new(
            self.config.budget_bytes,
            self.flow.held().bytes,
            old.inputs.splits.len().max(next.inputs.splits.len()),
        );
        let seek = Seek {
            old: &old,
            shifts: &shifts,
            looks: &looks,
            embeddings: &*self.embeddings,
            shelf: &self.shelf,
            purse: &mut purse,
            facts: Default::default(),
            similarities: Vec::new(),
            arrived: Default::default(),
            hit_changes: Default::default(),
            next: &mut next,
        };
        let sought = seek.run(&round)?;
        let outcome = self.flow.advance(&sought.facts)?;
        let decided = begun.elapsed();
        settle(&old, &mut next, &outcome);
        let mend = Mend {
            old: &old,
            next: &mut next,
            shifts: &shifts,
            outcome: &outcome,
            arrived: sought.arrived,
            hit_changes: sought.hit_changes,
            embeddings: &*self.embeddings,
            shelf: &self.shelf,
            round: &round,
        };
        let mended_vectors = match mend.run() {
            Ok(read) => read,
            Err(error) => {
                self.flow.advance(&sought.facts.reversed())?;
                return Err(error);
            }
        };
        let epoch = self.epoch + 1;
        let next = Arc::new(next);
        let (before, after) = (View::new(self.epoch, old.clone()), View::new(epoch, next.clone()));
        let between = Between {
            old: (&old, &before),
            next: (&next, &after),
            outcome: &outcome,
            hits: &sought.facts.hits,
            similarities: &sought.similarities,
            round: &round,
        };
        let changelog = between.changelog(epoch)?;
        hand_over(&old, &next);
        (self.world, self.epoch) = (next, epoch);
        self.views.publish(after);
        self.before = Some(old).filter(|_| self.peers.ranks() > 1);
        let mended = begun.elapsed() - decided;
        Ok(Applied { changelog, facts: sought.all_facts, decided, mended, mended_vectors })
    }
}

/// Writes the dataflow's consequences into the state.
fn settle(old: &World, next: &mut World, outcome: &Outcome) {
    let mut at = 0;
    let replaced = next.shards.iter().filter_map(|(ordinal, live)| {
        let before = old.shards.get(ordinal).filter(|before| !Arc::ptr_eq(&before.input, &live.input))?;
        Some((*ordinal, before.marks.clone()))
    });
    for (ordinal, marks) in replaced.collect::<Vec<_>>() {
        edit(next, ordinal, |live| live.marks = marks);
    }
    while at < outcome.sides.len() {
        let ordinal = outcome.sides[at].0.sample.ordinal;
        let end = at + outcome.sides[at..].partition_point(|(side, _)| side.sample.ordinal == ordinal);
        edit(next, ordinal, |live| {
            for (side, diff) in &outcome.sides[at..end] {
                let SampleId { index, .. } = side.sample;
                live.marks.entry(side.split).or_default().set(index, *diff > 0);
            }
        });
        at = end;
    }
    for (&tally, &count) in &outcome.tallies {
        if count == 0 {
            next.tallies.remove(&tally);
        } else {
            next.tallies.insert(tally, count);
        }
    }
    for (&(screen, point), &count) in &outcome.points {
        let counts = Arc::make_mut(next.hits.entry(screen).or_default());
        if count == 0 {
            counts.remove(&point);
        } else {
            counts.insert(point, count);
        }
    }
    next.hits.retain(|_, counts| !counts.is_empty());
}

fn edit(world: &mut World, ordinal: u64, with: impl FnOnce(&mut Live)) {
    if let Some(live) = world.shards.get_mut(&ordinal) {
        with(Arc::make_mut(live));
    }
}

/// Parts of the new state outlive this process; those that only the old one has do not.
fn hand_over(old: &World, next: &World) {
    let each = |world: &World, lasting: bool| {
        for live in world.shards.values() {
            live.matches.values().for_each(|part| part.set_lasting(lasting));
            live.scores.values().for_each(|part| part.set_lasting(lasting));
        }
    };
    each(old, false);
    each(next, true);
}
