//! The engine: takes changes, brings everything that depends on them up to date, and publishes the epoch.
//!
//! ```text
//!  changes ─▶ inputs ─▶ delta join ─▶ facts ─▶ dataflow ─▶ decisions, counts ─▶ refreshed maxima ─▶ view, changelog
//!                        │                                                        │
//!                        └──────────────── matches, scores in files ◀─────────────┘
//! ```
//!
//! Invariants:
//! 1. A reader sees the state after an epoch or the one before, never anything between.
//! 2. An error leaves the state before: facts that the dataflow has taken already are taken back at the next time.
//! 3. An engine of a folder publishes an epoch only when it is durable; opened again, it is at that epoch.
//! 4. The state after any sequence of changes is that of a fresh run over the final inputs, to the bit.
//! 5. Several processes that are told the same changes have the same state, and answer the same; see `peers`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::budget::EpochBudget;
use super::changelog::{Between, Changelog};
use super::delta_join::{DeltaJoin, looks};
use super::embeddings::Embeddings;
use super::inputs::Change;
use super::journal::Journal;
use super::parts::PartStore;
use super::peers::{Alone, Peers, Round};
use super::plan::Plan;
use super::refresh::Refresh;
use super::restore::Opened;
use super::settle::settle;
use super::view::{View, Views};
use super::workers::Flow;
use super::world::World;
use super::{Epoch, IncrementalError};
use trommel_cluster::Allocators;
use trommel_ledger::storage::Storage;

/// Settings of the engine. None of them changes a decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IncrementalConfig {
    /// Threads that turn the dataflow in each process, and as many for products. Default 1.
    pub workers: usize,
    /// Bytes that arrangements and the facts of one epoch may take in each process. Default 1 GiB.
    pub budget_bytes: u64,
    /// How far below a point's lowest cut its matches are stored, as a cosine: how far a cut may fall without vectors being read. Default 0.02.
    pub floor_slack_cosine: f64,
}

impl IncrementalConfig {
    fn check(&self) -> Result<(), IncrementalError> {
        let slack = self.floor_slack_cosine;
        if (0.0..=2.0).contains(&slack) { Ok(()) } else { Err(IncrementalError::Slack(slack)) }
    }

    fn start(&self) -> Result<Flow, IncrementalError> {
        self.check()?;
        Ok(Flow::start(self.workers)?)
    }
}

impl Default for IncrementalConfig {
    fn default() -> Self {
        Self { workers: 1, budget_bytes: 1 << 30, floor_slack_cosine: 0.02 }
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
    /// Time of the refreshing of maxima.
    pub refreshed: Duration,
    /// Vectors that the refreshing read, in all processes.
    pub refreshed_vectors: u64,
}

/// Keeps decisions, counts, scores and items right while their inputs change.
pub struct Engine {
    config: IncrementalConfig,
    embeddings: Arc<dyn Embeddings>,
    part_store: PartStore,
    flow: Flow,
    world: Arc<World>,
    views: Views,
    epoch: Epoch,
    peers: Arc<dyn Peers>,
    /// With several processes, the epoch before the last: who reads the last one in another process may still read its parts.
    before: Option<Arc<World>>,
    /// Where epochs are made durable, if anywhere.
    journal: Option<Journal>,
}

impl Engine {
    /// An engine that knows of nothing, at epoch 0.
    ///
    /// # Errors
    /// If its threads cannot be made, or the slack is no cosine.
    pub fn new(
        config: IncrementalConfig,
        embeddings: Arc<dyn Embeddings>,
        part_store: PartStore,
    ) -> Result<Self, IncrementalError> {
        let flow = config.start()?;
        Ok(Self::with(config, embeddings, part_store, flow, Arc::new(Alone)))
    }

    /// One of several engines, one a process, that keep one state: all must be told the same changes in the same order. `allocators` are
    /// [`Cluster::timely`](trommel_cluster::Cluster::timely)'s for `config.workers` workers; `part_store` is a folder that all see, by the
    /// same incarnation. Process `ordinal % processes` owns a shard: that process alone reads its vectors and matches, and removes its parts.
    ///
    /// Dropping it waits for the others, unless one is lost: drop it before [`Control::goodbye`](trommel_cluster::Control::goodbye).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn across(
        config: IncrementalConfig,
        embeddings: Arc<dyn Embeddings>,
        part_store: PartStore,
        peers: Arc<dyn Peers>,
        allocators: Allocators,
    ) -> Result<Self, IncrementalError> {
        if let Err(error) = config.check() {
            std::mem::forget(allocators); // dropped unbuilt, their threads would panic
            return Err(error);
        }
        let flow = Flow::across(allocators, peers.clone())?;
        Ok(Self::with(config, embeddings, part_store, flow, peers))
    }

    fn with(
        config: IncrementalConfig,
        embeddings: Arc<dyn Embeddings>,
        part_store: PartStore,
        flow: Flow,
        peers: Arc<dyn Peers>,
    ) -> Self {
        let (world, views) = (Arc::default(), Views::default());
        Self { config, embeddings, part_store, flow, world, views, epoch: 0, peers, before: None, journal: None }
    }

    /// The engine of a folder, as its last durable epoch left it; at epoch 0 if the folder is new. It reads no vectors.
    ///
    /// `root` holds the journal and `parts/`; it is made if it is not there, and locked while the engine lives. Files that its newest epoch does
    /// not need are removed, though views of an engine before this one may still hold them.
    ///
    /// # Errors
    /// A folder that somebody else has open, that is damaged or was written by a newer program; a budget that what must be arranged exceeds;
    /// and as in [`Engine::new`].
    pub fn open(
        config: IncrementalConfig,
        embeddings: Arc<dyn Embeddings>,
        root: &Path,
        storage: Arc<dyn Storage>,
    ) -> Result<Self, IncrementalError> {
        let flow = config.start()?;
        Self::opened(config, embeddings, (root, storage), flow, Arc::new(Alone))
    }

    /// [`Engine::open`] as one of several engines that keep one state, see [`Engine::across`]: all open the same folder, the first process
    /// writes the journal.
    ///
    /// # Errors
    /// As [`Engine::open`], here or in another process.
    pub fn open_across(
        config: IncrementalConfig,
        embeddings: Arc<dyn Embeddings>,
        (root, storage): (&Path, Arc<dyn Storage>),
        peers: Arc<dyn Peers>,
        allocators: Allocators,
    ) -> Result<Self, IncrementalError> {
        if let Err(error) = config.check() {
            std::mem::forget(allocators); // dropped unbuilt, their threads would panic
            return Err(error);
        }
        let flow = Flow::across(allocators, peers.clone())?;
        Self::opened(config, embeddings, (root, storage), flow, peers)
    }

    fn opened(
        config: IncrementalConfig,
        embeddings: Arc<dyn Embeddings>,
        (root, storage): (&Path, Arc<dyn Storage>),
        mut flow: Flow,
        peers: Arc<dyn Peers>,
    ) -> Result<Self, IncrementalError> {
        let round = Round { peers: peers.clone(), name: "opening".into() };
        let opened = Opened::new(root, storage, &mut flow, config.budget_bytes, &round)?;
        let Opened { journal, part_store, world, epoch } = opened;
        let (world, views) = (Arc::new(world), Views::default());
        views.publish(View::new(epoch, world.clone()));
        Ok(Self { config, embeddings, part_store, flow, world, views, epoch, peers, before: None, journal })
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
    /// changed then, in none. [`IncrementalError::Torn`] says that the folder must be opened again to know whether the epoch was made.
    pub fn apply(&mut self, changes: &[Change]) -> Result<Applied, IncrementalError> {
        self.apply_with(changes, |_, _| Ok(()))
    }

    /// [`Engine::apply`]; `prepare` sees the epoch before it is made durable: what it writes is there when the epoch is, and its error
    /// refuses the epoch.
    ///
    /// # Errors
    /// As [`Engine::apply`], and what `prepare` says.
    pub fn apply_with(
        &mut self,
        changes: &[Change],
        prepare: impl FnOnce(&View, &Changelog) -> Result<(), IncrementalError>,
    ) -> Result<Applied, IncrementalError> {
        if let Some(journal) = &self.journal {
            journal.ready()?;
        }
        let begun = Instant::now();
        let old = self.world.clone();
        let round = Round { peers: self.peers.clone(), name: format!("epoch {}", self.epoch + 1) };
        let plan = Plan::of(&old, changes, self.config.floor_slack_cosine);
        let Plan { mut next, shifts } = Plan::agreed(plan, &round)?;
        let looks = looks(&shifts, &next.floors);
        let mut budget = EpochBudget::new(
            self.config.budget_bytes,
            self.flow.held().bytes,
            old.inputs.splits.len().max(next.inputs.splits.len()),
        );
        let delta_join = DeltaJoin {
            old: &old,
            shifts: &shifts,
            looks: &looks,
            embeddings: &*self.embeddings,
            part_store: &self.part_store,
            budget: &mut budget,
            threads: self.config.workers,
            facts: Default::default(),
            similarities: Vec::new(),
            arrived: Default::default(),
            hit_changes: Default::default(),
            next: &mut next,
        };
        let delta_joined = delta_join.run(&round)?;
        let outcome = self.flow.advance(&delta_joined.facts)?;
        let decided = begun.elapsed();
        settle(&old, &mut next, &outcome);
        let refresh = Refresh {
            old: &old,
            next: &mut next,
            shifts: &shifts,
            outcome: &outcome,
            arrived: delta_joined.arrived,
            hit_changes: delta_joined.hit_changes,
            embeddings: &*self.embeddings,
            part_store: &self.part_store,
            round: &round,
            threads: self.config.workers,
        };
        let epoch = self.epoch + 1;
        let refreshed_vectors = match refresh.run() {
            Ok(read) => read,
            Err(error) => {
                self.flow.advance(&delta_joined.facts.reversed())?;
                return Err(error);
            }
        };
        let next = Arc::new(next);
        let (before, after) = (View::new(self.epoch, old.clone()), View::new(epoch, next.clone()));
        let between = Between {
            old: (&old, &before),
            next: (&next, &after),
            outcome: &outcome,
            hits: &delta_joined.facts.hits,
            similarities: &delta_joined.similarities,
            round: &round,
        };
        let changelog = match between.changelog(epoch) {
            Ok(changelog) => changelog,
            Err(error) => {
                self.flow.advance(&delta_joined.facts.reversed())?;
                return Err(error);
            }
        };
        let refreshed = begun.elapsed() - decided;
        // Nothing is made durable before everybody is ready for it.
        if let Err(error) = round.share("prepared", prepare(&after, &changelog), |()| ()) {
            self.flow.advance(&delta_joined.facts.reversed())?;
            return Err(error);
        }
        let made = match &mut self.journal {
            Some(journal) => journal.commit(&self.part_store, epoch, (&old, &next)),
            None => Ok(()),
        };
        let failed_here = made.is_err();
        if let Err(error) = round.share("durable", made, |()| ()) {
            if failed_here || matches!(error, IncrementalError::Refused { .. }) {
                self.flow.advance(&delta_joined.facts.reversed())?;
            } else {
                // Nobody has said that it failed, so it may be durable: then its parts are needed.
                next.set_lasting(true);
            }
            return Err(error);
        }
        // Parts of the new state outlive this process; those that only the old one has do not.
        old.set_lasting(false);
        next.set_lasting(true);
        (self.world, self.epoch) = (next, epoch);
        self.views.publish(after);
        self.before = Some(old).filter(|_| self.peers.ranks() > 1);
        Ok(Applied { changelog, facts: delta_joined.all_facts, decided, refreshed, refreshed_vectors })
    }
}
