//! Leases that remember which shards are being judged: only those have fates for the ledger, replayed ones have none.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use trommel_core::sample::{Time, time_of};
use trommel_core::wake::{Registration, locked};
use trommel_dataflow::leases::LaneLeases;
use trommel_dataflow::source::{Leases, Next};

/// The lanes' leases, and the times at which a shard is judged.
#[derive(Debug)]
pub struct TrainLeases {
    lanes: LaneLeases,
    judged: Mutex<HashSet<Time>>,
}

impl TrainLeases {
    /// Around the lanes' leases.
    #[must_use]
    pub fn new(lanes: LaneLeases) -> Arc<Self> {
        Arc::new(Self { lanes, judged: Mutex::default() })
    }

    /// The lanes' leases: to be told what is committed and what failed.
    #[must_use]
    pub const fn lanes(&self) -> &LaneLeases {
        &self.lanes
    }

    /// Whether the shard of this time is judged, and so belongs into the ledger.
    #[must_use]
    pub fn judges(&self, time: Time) -> bool {
        locked(&self.judged).contains(&time)
    }
}

impl Leases for TrainLeases {
    fn next(&self, reader: usize) -> Next {
        let next = self.lanes.next(reader);
        if let Next::Shard(lease) = next
            && !lease.replay
        {
            let time = time_of(lease.pass, lease.ordinal);
            locked(&self.judged).insert(time);
        }
        next
    }

    fn floor(&self) -> Option<Time> {
        self.lanes.floor()
    }

    fn on_change(&self, waker: Box<dyn Fn() + Send + Sync>) -> Option<Registration> {
        self.lanes.on_change(waker)
    }
}
