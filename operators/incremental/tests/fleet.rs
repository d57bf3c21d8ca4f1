//! Several engines of one state: each a process of a cluster over the loopback, all in this test's process.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::IncrementalError;
use crate::embeddings::{Embeddings, HeldEmbeddings, Visitor};
use crate::engine::{Applied, Engine, IncrementalConfig};
use crate::inputs::Change;
use crate::parts::PartStore;
use crate::peers::Peers;
use trommel_cluster::{Agreement, Allocators, Cluster, ClusterConfig};
use trommel_core::wake::locked;
use trommel_ledger::LedgerError;
use trommel_ledger::storage::Disk;

/// A fuse that does not burn down.
pub(super) const NEVER: u64 = u64::MAX / 2;

/// An error of reading embeddings.
pub(super) fn unread(why: &'static str) -> IncrementalError {
    LedgerError::at("read", Path::new("embeddings"))(io::Error::other(why)).into()
}

/// Embeddings of one process: another's shards are refused, and so is whatever is read when the fuse has burnt down.
pub(super) struct OwnShards {
    inner: Arc<HeldEmbeddings>,
    rank: u64,
    ranks: u64,
    pub(super) fuse: AtomicU64,
}

impl OwnShards {
    fn check(&self, ordinal: u64) -> Result<(), IncrementalError> {
        if ordinal % self.ranks != self.rank {
            return Err(unread("another process's"));
        }
        if self.fuse.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.fuse.store(NEVER, Ordering::Relaxed);
            return Err(unread("the disk is gone"));
        }
        Ok(())
    }
}

impl Embeddings for OwnShards {
    fn visit(&self, ordinal: u64, generation: u64, each: &mut Visitor<'_>) -> Result<(), IncrementalError> {
        self.check(ordinal)?;
        self.inner.visit(ordinal, generation, each)
    }

    fn find(&self, ordinal: u64, generation: u64, keys: &BTreeSet<String>) -> Result<Vec<u32>, IncrementalError> {
        self.check(ordinal)?;
        self.inner.find(ordinal, generation, keys)
    }
}

/// Runs a closure for each of some things, all at the same time; results in their order.
pub(super) fn at_once<A: Send, T: Send>(all: impl IntoIterator<Item = A>, run: impl Fn(A) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = all.into_iter().map(|one| scope.spawn(move || run(one))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Processes that have found each other.
pub(super) fn clusters(ranks: usize, workers: usize) -> Vec<Cluster> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let listener = Mutex::new(Some(listener));
    at_once(0..ranks, |rank| {
        let long = Duration::from_secs(60);
        let config = ClusterConfig {
            start_timeout: long,
            silence: long,
            ..ClusterConfig::new(ranks, rank, &address, "incremental")
        };
        let listener = if rank == 0 { locked(&listener).take() } else { None };
        Cluster::join(&config, listener, &Agreement { workers, ..Agreement::default() }, false, Arc::new(|_| ()))
            .unwrap()
    })
}

/// Engines of several processes that keep one state together.
pub(super) struct Fleet {
    pub(super) engines: Vec<Engine>,
    pub(super) stores: Vec<Arc<OwnShards>>,
    pub(super) clusters: Vec<Cluster>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        at_once(self.engines.drain(..), drop); // each waits for the others
        at_once(&self.clusters, |cluster| cluster.control().goodbye());
    }
}

impl Fleet {
    pub(super) fn start(
        ranks: usize,
        config: impl Fn(usize) -> IncrementalConfig + Sync,
        stored: &Arc<HeldEmbeddings>,
        root: &Path,
    ) -> Self {
        Self::made(ranks, config, stored, |config, store, peers, allocators| {
            let part_store = PartStore::folder(root, 1, Arc::new(Disk)).unwrap();
            Engine::across(config, store, part_store, peers, allocators).unwrap()
        })
    }

    /// Engines of a folder that outlives them.
    pub(super) fn open(
        ranks: usize,
        config: impl Fn(usize) -> IncrementalConfig + Sync,
        stored: &Arc<HeldEmbeddings>,
        root: &Path,
    ) -> Self {
        Self::made(ranks, config, stored, |config, store, peers, allocators| {
            Engine::open_across(config, store, (root, Arc::new(Disk)), peers, allocators).unwrap()
        })
    }

    fn made(
        ranks: usize,
        config: impl Fn(usize) -> IncrementalConfig + Sync,
        stored: &Arc<HeldEmbeddings>,
        make: impl Fn(IncrementalConfig, Arc<OwnShards>, Arc<dyn Peers>, Allocators) -> Engine + Sync,
    ) -> Self {
        let clusters = clusters(ranks, config(0).workers);
        let store = |rank| {
            let (inner, rank, ranks) = (stored.clone(), rank as u64, ranks as u64);
            Arc::new(OwnShards { inner, rank, ranks, fuse: AtomicU64::new(NEVER) })
        };
        let stores: Vec<_> = (0..ranks).map(store).collect();
        let engines = at_once(0..ranks, |rank| {
            let (config, cluster) = (config(rank), &clusters[rank]);
            let allocators = cluster.timely(config.workers).unwrap();
            make(config, stores[rank].clone(), Arc::new(cluster.control().clone()), allocators)
        });
        Self { engines, stores, clusters }
    }

    /// What each engine makes of the changes.
    pub(super) fn apply(&mut self, changes: &[Change]) -> Vec<Result<Applied, IncrementalError>> {
        at_once(&mut self.engines, |engine| engine.apply(changes))
    }

    /// What each engine makes of changes that all can make.
    pub(super) fn applied(&mut self, changes: &[Change], context: &str) -> Vec<Applied> {
        let each = self.apply(changes).into_iter();
        each.map(|applied| applied.unwrap_or_else(|error| panic!("{context}: {error}\n{changes:?}"))).collect()
    }

    /// Which process cannot do its part; all must say so, and no epoch be published.
    pub(super) fn refused(&mut self, changes: &[Change]) -> (usize, IncrementalError) {
        let epochs: Vec<_> = self.engines.iter().map(|engine| engine.views().latest().epoch()).collect();
        let mut errors: Vec<_> = self.apply(changes).into_iter().map(Result::unwrap_err).collect();
        let at = errors.iter().position(|error| !matches!(error, IncrementalError::Refused { .. })).unwrap();
        let own = errors.remove(at);
        for error in errors {
            let IncrementalError::Refused { process, why } = error else { panic!("{error} beside {own}") };
            assert_eq!((process, why), (at, own.to_string()));
        }
        let after: Vec<_> = self.engines.iter().map(|engine| engine.views().latest().epoch()).collect();
        assert_eq!(epochs, after);
        (at, own)
    }
}
