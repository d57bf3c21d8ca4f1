//! How shards are given out to readers, by one process or among many.

use std::sync::Arc;

use trommel_cluster::leases::{ClusterLeases, LeaseServer};
use trommel_dataflow::leases::Dynamic;
use trommel_dataflow::source::Leases;

use crate::together::Together;

/// How shards are given out, alone or together.
pub struct AssignedShards {
    /// Who reads what.
    pub leases: Arc<dyn Leases>,
    /// Begins nothing new.
    pub drain: Box<dyn Fn() + Send + Sync>,
}

/// Gives out the shards `wanted`, of which a process has at most so many open.
#[must_use]
pub fn assign(together: &Together, wanted: Vec<u64>, open_shards: usize) -> AssignedShards {
    match together.cluster() {
        None => {
            let leases = Arc::new(Dynamic::new(wanted, open_shards));
            let drained = leases.clone();
            AssignedShards { leases, drain: Box::new(move || drained.drain()) }
        }
        Some(cluster) => {
            let control = cluster.control();
            let server = (cluster.process() == 0).then(|| LeaseServer::new(wanted, control));
            let leases = ClusterLeases::new(control, server, open_shards);
            let drained = leases.clone();
            AssignedShards { leases, drain: Box::new(move || drained.drain()) }
        }
    }
}
