//! Lanes: how a pass assigns the shards. A pure function of plan, seed and number of lanes.
//!
//! Pass `p` sorts the shards by `hash("shard", seed, p, name)`, ties by ordinal; lane `l` of `L` gets the places
//! `l, l + L, l + 2L, ...` of that list, its *positions* 0, 1, 2, ... An assignment may also grow while it is used: see
//! [`Lanes::growing`].
//!
//! ```
//! use trommel_dataflow::lanes::{ShardPlace, Lanes};
//!
//! let lanes = Lanes::new(2, 42, (0..7).map(|ordinal| (ordinal, format!("s{ordinal}.tar"))));
//! assert_eq!((lanes.positions(0), lanes.positions(1)), (4, 3));
//! let ordinal = lanes.ordinal(0, 1, 2).expect("lane 1 has three shards");
//! assert_eq!(lanes.place(0, ordinal), Some(ShardPlace { lane: 1, position: 2 }));
//! assert_eq!(lanes.place(0, 7), None);
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use trommel_core::hash::Hash64;
use trommel_core::wake::locked;

mod growing;

use self::growing::Growing;

/// What a window counts of a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowBytes {
    /// The picture as it was encoded, and its view: more than the window holds.
    #[default]
    EncodedAndView,
    /// What the window holds: the view and the caption.
    Held,
}

impl WindowBytes {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The order of training; the defaults are those of runs that wrote none down. All of it is part of the training hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrderConfig {
    /// Shards read side by side; the global order goes round them. Default 4.
    pub lanes: usize,
    /// Kept samples after which a window closes. Default 2048.
    pub window_samples: usize,
    /// Bytes above which a window does not grow. Default 256 MiB.
    pub window_bytes: u64,
    /// Which bytes these are.
    #[serde(skip_serializing_if = "WindowBytes::is_default")]
    pub window_counts: WindowBytes,
    /// Seed of the shards' permutation and of the windows'. Default 0.
    pub seed: u64,
}

impl Default for OrderConfig {
    fn default() -> Self {
        Self { lanes: 4, window_samples: 2048, window_bytes: 256 << 20, window_counts: WindowBytes::default(), seed: 0 }
    }
}

/// An order that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("order.{field} must be at least 1")]
pub struct OrderConfigError {
    /// Name of the field in the configuration.
    pub field: &'static str,
}

impl OrderConfig {
    /// Checks the fields.
    ///
    /// # Errors
    /// The first field that is zero and may not be.
    pub fn validate(&self) -> Result<(), OrderConfigError> {
        let fields = [
            ("lanes", self.lanes as u64),
            ("window_samples", self.window_samples as u64),
            ("window_bytes", self.window_bytes),
        ];
        match fields.into_iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => Err(OrderConfigError { field }),
            None => Ok(()),
        }
    }
}

/// Where a shard stands in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardPlace {
    /// Index of the lane, from 0.
    pub lane: usize,
    /// The how-manieth shard of that lane, from 0.
    pub position: u64,
}

/// One pass's list of ordinals and its inverse.
#[derive(Debug)]
struct Assignment {
    order: Vec<u64>,
    places: HashMap<u64, usize>,
}

/// Assignments kept in memory: the lanes of a run stand in at most two passes.
const KEPT_ASSIGNMENTS: usize = 3;

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The shard of this ordinal.
    Shard(u64),
    /// This shard, which counts as empty.
    Hole(u64),
    /// Nothing yet: the assignment is open.
    Later,
    /// Nothing: the lane ends before.
    Never,
}

/// All shards, known from the start.
#[derive(Debug)]
struct Fixed {
    seed: u64,
    shards: Vec<(u64, String)>,
    assignments: Mutex<BTreeMap<u32, Arc<Assignment>>>,
}

#[derive(Debug)]
enum ShardList {
    Fixed(Fixed),
    Growing(Growing),
}

/// The assignment of shards to lanes, pass by pass.
#[derive(Debug)]
pub struct Lanes {
    lanes: usize,
    shards: ShardList,
}

impl Lanes {
    /// Assigns `shards` (ordinal and name) to `lanes` (at least 1) lanes.
    #[must_use]
    pub fn new(lanes: usize, seed: u64, shards: impl IntoIterator<Item = (u64, String)>) -> Self {
        let shards = shards.into_iter().collect();
        Self::of(lanes, ShardList::Fixed(Fixed { seed, shards, assignments: Mutex::new(BTreeMap::new()) }))
    }

    fn of(lanes: usize, shards: ShardList) -> Self {
        Self { lanes: lanes.max(1), shards }
    }

    fn as_growing(&self) -> Option<&Growing> {
        match &self.shards {
            ShardList::Fixed(_) => None,
            ShardList::Growing(growing) => Some(growing),
        }
    }

    /// Whether more shards may come than are known.
    #[must_use]
    pub fn grows(&self) -> bool {
        self.as_growing().is_some()
    }

    /// The number of lanes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lanes
    }

    /// The number of shards; of a growing assignment, now.
    #[must_use]
    pub fn shards(&self) -> usize {
        match &self.shards {
            ShardList::Fixed(fixed) => fixed.shards.len(),
            ShardList::Growing(growing) => usize::try_from(growing.shards()).unwrap_or(usize::MAX),
        }
    }

    /// Whether there is no shard, and none will come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.shards {
            ShardList::Fixed(fixed) => fixed.shards.is_empty(),
            ShardList::Growing(growing) => growing.is_empty(),
        }
    }

    /// The number of passes that there are at most, `wanted` (`None`: without end) being asked for.
    pub(super) fn passes(&self, wanted: Option<u32>) -> Option<u32> {
        match &self.shards {
            ShardList::Fixed(_) => wanted,
            ShardList::Growing(_) => Some(wanted.unwrap_or(1).min(1)),
        }
    }

    /// The number of shards that `lane` gets, the same in every pass; of a growing assignment, now.
    #[must_use]
    pub fn positions(&self, lane: usize) -> u64 {
        if lane >= self.lanes {
            return 0;
        }
        (self.shards().saturating_sub(lane)).div_ceil(self.lanes) as u64
    }

    /// The shard at a place of a pass.
    #[must_use]
    pub fn ordinal(&self, pass: u32, lane: usize, position: u64) -> Option<u64> {
        match self.standing(pass, lane, position) {
            Standing::Shard(ordinal) | Standing::Hole(ordinal) => Some(ordinal),
            Standing::Later | Standing::Never => None,
        }
    }

    /// What stands at a place of a pass.
    #[must_use]
    pub fn standing(&self, pass: u32, lane: usize, position: u64) -> Standing {
        match &self.shards {
            ShardList::Growing(growing) => growing.standing(self.lanes, pass, lane, position),
            ShardList::Fixed(fixed) => {
                let position = usize::try_from(position).ok().filter(|_| lane < self.lanes);
                let at = position.and_then(|position| position.checked_mul(self.lanes)?.checked_add(lane));
                let at = at.filter(|at| *at < fixed.shards.len());
                at.map_or(Standing::Never, |at| Standing::Shard(fixed.assignment(pass).order[at]))
            }
        }
    }

    /// The place of a shard in a pass.
    #[must_use]
    pub fn place(&self, pass: u32, ordinal: u64) -> Option<ShardPlace> {
        match &self.shards {
            ShardList::Growing(growing) => growing.place(self.lanes, pass, ordinal),
            ShardList::Fixed(fixed) => {
                let at = *fixed.assignment(pass).places.get(&ordinal)?;
                Some(ShardPlace { lane: at % self.lanes, position: (at / self.lanes) as u64 })
            }
        }
    }
}

impl Fixed {
    fn assignment(&self, pass: u32) -> Arc<Assignment> {
        let mut assignments = locked(&self.assignments);
        if let Some(assignment) = assignments.get(&pass) {
            return assignment.clone();
        }
        let hash =
            |name: &str| Hash64::new("shard").word(self.seed).word(u64::from(pass)).bytes(name.as_bytes()).finish();
        let mut order: Vec<(u64, u64)> = self.shards.iter().map(|(ordinal, name)| (hash(name), *ordinal)).collect();
        order.sort_unstable();
        let order: Vec<u64> = order.into_iter().map(|(_, ordinal)| ordinal).collect();
        let places = order.iter().enumerate().map(|(at, ordinal)| (*ordinal, at)).collect();
        let assignment = Arc::new(Assignment { order, places });
        assignments.insert(pass, assignment.clone());
        while assignments.len() > KEPT_ASSIGNMENTS {
            let furthest = assignments.keys().copied().max_by_key(|kept| kept.abs_diff(pass));
            furthest.map(|pass| assignments.remove(&pass));
        }
        assignment
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const VECTORS: [u64; 6] = [
        0x10e1_1f9c_ff84_67b4,
        0xe220_a839_7b1d_cdaf,
        0x1254_dad8_0566_96db,
        0xf6ce_f58c_a746_cfe8,
        0xfd48_e15e_d7db_aaf3,
        0x9ec6_98da_d62b_89ae,
    ];
    const DEALS: [[u64; 7]; 2] = [[3, 4, 0, 1, 6, 2, 5], [5, 6, 3, 2, 4, 1, 0]];

    #[test]
    fn the_hash_is_the_one_written_down() {
        // From the text of hash.rs, by a Python program of its own.
        let shard = |seed, pass, name: &[u8]| Hash64::new("shard").word(seed).word(pass).bytes(name).finish();
        assert_eq!(shard(0, 0, b"00000.tar"), VECTORS[0]);
        assert_eq!(Hash64::new("").finish(), VECTORS[1]);
        assert_eq!(Hash64::new("window").word(1).word(2).word(3).word(4).finish(), VECTORS[2]);
        assert_eq!(shard(u64::MAX, 7, "größe/00001.tar".as_bytes()), VECTORS[3]);
        assert_eq!(shard(5, 0, b"12345678"), VECTORS[4]);
        assert_eq!(shard(5, 0, b"12345678\0"), VECTORS[5]);
    }

    #[test]
    fn the_assignment_is_the_one_written_down() {
        let lanes = Lanes::new(3, 42, (0..7).map(|ordinal| (ordinal, format!("s{ordinal}.tar"))));
        for (pass, order) in DEALS.iter().enumerate() {
            for (at, ordinal) in order.iter().enumerate() {
                let (lane, position) = (at % 3, (at / 3) as u64);
                assert_eq!(lanes.ordinal(pass as u32, lane, position), Some(*ordinal));
                assert_eq!(lanes.place(pass as u32, *ordinal), Some(ShardPlace { lane, position }));
            }
        }
        assert_eq!([0, 1, 2, 3].map(|lane| lanes.positions(lane)), [3, 2, 2, 0]);
        assert_eq!(lanes.ordinal(0, 1, 2), None);
        assert_eq!(lanes.ordinal(0, 3, 0), None);
    }

    #[test]
    fn more_lanes_than_shards_leave_lanes_empty() {
        let lanes = Lanes::new(4, 0, [(9, "only.tar".to_owned())]);
        assert_eq!([0, 1, 2, 3].map(|lane| lanes.positions(lane)), [1, 0, 0, 0]);
        assert_eq!(lanes.ordinal(5, 0, 0), Some(9));
    }

    #[test]
    fn an_order_refuses_unknown_fields_and_zeros() {
        assert!(serde_json::from_str::<OrderConfig>(r#"{"lane": 2}"#).is_err());
        let config: OrderConfig = serde_json::from_str(r#"{"lanes": 2}"#).unwrap();
        assert_eq!(config, OrderConfig { lanes: 2, ..OrderConfig::default() });
        // As it stands in the hash of runs that were begun before windows counted what they hold.
        let old = r#"{"lanes":2,"window_samples":2048,"window_bytes":268435456,"seed":0}"#;
        assert_eq!(serde_json::to_string(&config).unwrap(), old);
        let held = OrderConfig { window_counts: WindowBytes::Held, ..config.clone() };
        assert_eq!(serde_json::from_str::<OrderConfig>(&serde_json::to_string(&held).unwrap()).unwrap(), held);
        assert_eq!(OrderConfig { lanes: 0, ..config }.validate().unwrap_err().field, "lanes");
    }
}
