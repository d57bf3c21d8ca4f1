//! The processes that keep one state together: all are told the same changes, each reads the vectors of its own shards.
//!
//! ```text
//!  process 0: step ─ own shards ─┐                ┌▶ merged, the same everywhere
//!  process 1: step ─ own shards ─┼─▶ all-gather ──┼▶ merged, the same everywhere
//!  process 2: step ─ error ──────┘                └▶ (here: the same refusal everywhere)
//! ```
//!
//! What is gathered: counts, ids that changed sides, maxima of points, names of parts. Never vectors, matches, or facts.
//!
//! Invariants:
//! 1. A step succeeds in all processes or in none: a process that fails sends its error instead of its result.
//! 2. What a process does between two gatherings depends on the state, which is the same everywhere, and on its own shards.
//! 3. Alone, nothing is serialised.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::IncrementalError;
use trommel_cluster::{ClusterError, Control};
use trommel_core::causes::{Cause, Causes};
use trommel_core::sample::is_in_part;

/// Where the messages of all engines of a run meet; which step it is stands in the messages.
const BARRIER: &str = "incremental";

/// This process's place among those that keep the state.
pub trait Peers: Send + Sync {
    /// Which of them this is, from 0.
    fn rank(&self) -> usize;

    /// How many there are, at least 1.
    fn ranks(&self) -> usize;

    /// All call it with the same name; gives everyone's bytes, by rank.
    ///
    /// # Errors
    /// A process that is gone, or that is at another step.
    fn all_gather(&self, name: &str, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, IncrementalError>;

    /// Whether all are still there; asked while a dataflow waits for the others.
    ///
    /// # Errors
    /// A process that is gone.
    fn check(&self) -> Result<(), IncrementalError>;
}

/// A single process that keeps the state by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Peers for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn all_gather(&self, _: &str, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, IncrementalError> {
        Ok(vec![bytes])
    }

    fn check(&self) -> Result<(), IncrementalError> {
        Ok(())
    }
}

/// Over the control connections of a cluster.
impl Peers for Control {
    fn rank(&self) -> usize {
        self.process()
    }

    fn ranks(&self) -> usize {
        self.processes()
    }

    fn all_gather(&self, name: &str, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, IncrementalError> {
        let said = self.barrier(BARRIER, &format!("{name}\n{}", BASE64.encode(bytes)))?;
        let decoded = |(process, said): (usize, &String)| {
            let (there, bytes) = said.split_once('\n').unwrap_or_default();
            if there != name {
                return Err(IncrementalError::OutOfStep { process, there: there.into(), here: name.into() });
            }
            BASE64.decode(bytes).map_err(|error| garbled(process, error))
        };
        said.iter().enumerate().map(decoded).collect()
    }

    fn check(&self) -> Result<(), IncrementalError> {
        self.loss().map_or(Ok(()), |loss| Err(ClusterError::Lost(loss).into()))
    }
}

fn garbled(process: usize, error: impl Into<Cause>) -> IncrementalError {
    IncrementalError::Garbled { process, source: error.into() }
}

/// Whether a shard's vectors and stored matches are this process's to read, and its parts to write and to remove.
pub(super) fn owns(peers: &dyn Peers, ordinal: u64) -> bool {
    is_in_part(ordinal, peers.rank() as u64, peers.ranks() as u64)
}

/// Who takes part, and at which step of which epoch they are.
#[derive(Clone)]
pub(super) struct Round {
    pub(super) peers: Arc<dyn Peers>,
    pub(super) name: String,
}

impl Round {
    /// Whether a shard is this process's.
    pub(super) fn owns(&self, ordinal: u64) -> bool {
        owns(&*self.peers, ordinal)
    }

    /// Tells the others what came of a step here, and hears what came of it there, by rank and without this one's.
    ///
    /// # Errors
    /// This process's own, another's ([`IncrementalError::Refused`]), or a process that is gone.
    pub(super) fn share<T, M: Serialize + DeserializeOwned>(
        &self,
        step: &str,
        own: Result<T, IncrementalError>,
        tell: impl FnOnce(&T) -> M,
    ) -> Result<(T, Vec<M>), IncrementalError> {
        let rank = self.peers.rank();
        if self.peers.ranks() == 1 {
            return Ok((own?, Vec::new()));
        }
        let said: Result<M, String> = own.as_ref().map(tell).map_err(|error| Causes(error).to_string());
        let bytes = serde_json::to_vec(&said).map_err(|error| garbled(rank, error))?;
        let heard = self.peers.all_gather(&format!("{}, {step}", self.name), bytes)?;
        let own = own?;
        let mut others = Vec::with_capacity(heard.len());
        for (process, bytes) in heard.iter().enumerate().filter(|(process, _)| *process != rank) {
            let said: Result<M, String> = serde_json::from_slice(bytes).map_err(|error| garbled(process, error))?;
            others.push(said.map_err(|why| IncrementalError::Refused { process, why })?);
        }
        Ok((own, others))
    }
}
