//! `state.json`: what a checkpoint says about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::files::{Mark, hex};

/// Version of `state.json`.
pub(super) const SCHEMA: u32 = 1;

/// Where a run stands, besides the weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Pass that the cursor is in, from 0.
    pub pass: u32,
    /// Finished passes: open_clip's `epoch`.
    pub epoch: u32,
    /// Where the order continues, as the order writes it down. Integers and text only.
    pub cursor: serde_json::Value,
}

/// A run that was made longer: its learning rate has followed more than one schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// Finished steps at that time.
    pub at_step: u64,
    /// The run's length before.
    pub from_steps: u64,
}

/// The contents of `state.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointState {
    /// Version of this layout.
    pub schema: u32,
    /// The run's name.
    pub name: String,
    /// Finished steps.
    pub global_step: u64,
    /// Samples in finished steps.
    pub samples_seen: u64,
    /// Where the order continues.
    pub position: Position,
    /// Hashes that must match to resume: `decisions`, `training`.
    pub hashes: BTreeMap<String, String>,
    /// The numeric part: device, card, libtorch, ranks and threads.
    pub numerics: BTreeMap<String, String>,
    /// What the hash of training was made of, as JSON text: says which option differs. Empty in checkpoints that are older than it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub training: String,
    /// Each time the run was made longer: after which step, and what its length had been until then, in steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended: Vec<Extension>,
    /// The other files.
    pub files: BTreeMap<String, Mark>,
    /// CRC-32C of this structure as compact JSON with this field empty.
    pub crc32c: String,
}

impl Position {
    /// Whether it stands at the end of a pass, the next one not begun.
    #[must_use]
    pub const fn ends_pass(&self) -> bool {
        self.epoch > self.pass
    }
}

impl CheckpointState {
    /// The checksum that belongs into `crc32c`.
    pub(super) fn seal(&self) -> Result<String, serde_json::Error> {
        let bare = Self { crc32c: String::new(), ..self.clone() };
        Ok(hex(crc32c::crc32c(&serde_json::to_vec(&bare)?)))
    }
}
