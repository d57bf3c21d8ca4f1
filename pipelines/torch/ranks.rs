//! What trainers of several processes need from each other: a group for gradients, samples that move, news of shards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tch::Device;
use trommel_bridge::{BridgeError, Group, Store};
use trommel_cluster::{Cluster, Holding, Message, Samples};
use trommel_core::causes::Cause;
use trommel_core::sample::{SampleId, Time};
use trommel_core::wake::Registration;
use trommel_dataflow::leases::LaneLeases;
use trommel_dataflow::redeem::Redeemed;
use trommel_dataflow::source::{Leases, Next};
use trommel_embed::device;
use trommel_train::share::Outbox;

use crate::together::Together;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::phase::Phase;

/// How long a collective may wait. The heartbeat notices a lost process much earlier; a rank may wait for data. Ranks that still connect wait for
/// nothing but the network, and no longer than processes do at a start.
const COLLECTIVE_TIMEOUT: Duration = Duration::from_secs(1800);

/// The group of all ranks, its store with process 0: Gloo on CPUs, NCCL on GPUs.
pub(crate) fn group(together: &Together, cluster: &Cluster, device: Device) -> Result<Arc<Group>, PipelineError> {
    if let Device::Cuda(_) = device {
        each_has_a_card(&together.gather(Phase::Cards, device::uuid(device))?)?;
    }
    let (rank, ranks) = (together.rank(), together.ranks());
    let (host, failed) = (cluster.local_host(), |error: BridgeError| PipelineError::failed(error));
    let start = together.start_timeout();
    let serves = match rank {
        0 => Some(Store::serve(&host, 0, ranks, start).map_err(failed)?),
        _ => None,
    };
    let port = serves.as_ref().map_or(0, |(_, port)| *port);
    // It listens at that address alone, be it not the one that this process has found process 0 at.
    let (first, port) = together.gather(Phase::RankStore, (host.clone(), port))?.swap_remove(0);
    let store = match serves {
        Some((store, _)) => store,
        None => Store::connect(&first, port, ranks, start).map_err(failed)?,
    };
    connected(start, |start| match device {
        Device::Cuda(number) => {
            let library = together.nccl().unwrap_or(Path::new("libnccl.so.2"));
            Group::nccl(&store, rank, ranks, number, start, library)
        }
        _ => Group::gloo(&store, rank, ranks, &host, start),
    })
}

/// A group that has `start` to connect, and then time for its collectives.
fn connected(
    start: Duration,
    connect: impl FnOnce(Duration) -> Result<Group, BridgeError>,
) -> Result<Arc<Group>, PipelineError> {
    let began = Instant::now();
    let group = connect(start).and_then(|group| group.with_timeout(COLLECTIVE_TIMEOUT));
    group.map(Arc::new).map_err(|error| {
        if began.elapsed() < start {
            return PipelineError::failed(error);
        }
        PipelineError::failed(format!("{error} (--start-timeout {})", start.as_secs()))
    })
}

/// Refuses ranks that share a card, by the cards of all ranks: NCCL fails with them, or waits until the time to connect is over. Who cannot
/// say which card it has is left to NCCL.
fn each_has_a_card(cards: &[Option<String>]) -> Result<(), PipelineError> {
    let mut ranks_of = BTreeMap::<&str, Vec<String>>::new();
    for (rank, card) in cards.iter().enumerate() {
        if let Some(card) = card {
            ranks_of.entry(card).or_default().push(rank.to_string());
        }
    }
    let Some((card, ranks)) = ranks_of.into_iter().find(|(_, ranks)| ranks.len() > 1) else { return Ok(()) };
    Err(PipelineError::usage(format!(
        "processes {} would train on one card ({card}), and training wants one card a rank: `launch --local N` wants N cards, and no --device that names one for all",
        ranks.join(", ")
    )))
}

struct Moving(Outbox);

impl Holding for Moving {
    fn take(&self, pass: u32, id: SampleId) -> Option<Vec<u8>> {
        self.0.take(pass, id)
    }
}

/// The other ranks' samples, and ours for them.
pub(crate) fn samples(together: &Together, outbox: &Outbox) -> Result<Option<Samples>, PipelineError> {
    let Some(cluster) = together.cluster() else { return Ok(None) };
    cluster.samples(Arc::new(Moving(outbox.clone()))).map(Some).map_err(PipelineError::failed)
}

/// Samples of pass `pass` that rank `owner` holds.
pub(crate) fn fetch(
    samples: Option<&Samples>,
    owner: usize,
    pass: u32,
    ids: &[SampleId],
) -> Result<Vec<Option<Vec<u8>>>, Cause> {
    let samples = samples.ok_or_else(|| format!("a sample of rank {owner}, in a run of one process"))?;
    let wanted: Vec<(u32, SampleId)> = ids.iter().map(|id| (pass, *id)).collect();
    Ok(samples.fetch(owner, &wanted)?)
}

/// Leases of this rank's lanes. What it gives back the leases of all ranks hear of: later passes wait for that.
pub(crate) struct RankLeases {
    own: Arc<LaneLeases>,
    cluster: Option<Arc<Cluster>>,
}

impl RankLeases {
    pub(crate) fn new(together: &Together, own: LaneLeases) -> Self {
        let own = Arc::new(own);
        if let Some(cluster) = together.cluster() {
            let told = own.clone();
            cluster.control().on_message(move |_, message| {
                let &Message::Committed { ordinal, failed } = message else { return false };
                told.redeem(Redeemed { ordinal, failed });
                true
            });
        }
        Self { own, cluster: together.cluster().cloned() }
    }
}

impl Leases for RankLeases {
    fn next(&self, reader: usize) -> Next {
        self.own.next(reader)
    }

    fn floor(&self) -> Option<Time> {
        self.own.floor()
    }

    fn redeem(&self, lease: Redeemed) {
        self.own.redeem(lease);
        if let Some(cluster) = &self.cluster {
            let Redeemed { ordinal, failed } = lease;
            cluster.control().broadcast(Message::Committed { ordinal, failed });
        }
    }

    fn on_change(&self, waker: Box<dyn Fn() + Send + Sync>) -> Option<Registration> {
        self.own.on_change(waker)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use trommel_pipelines::error::ErrorKind;

    use super::*;

    /// A rank that does not come is waited for as long as at a start; one that has come, as long as its data takes.
    #[test]
    fn connecting_has_less_time_than_collectives() {
        let (host, start) = ("127.0.0.1", Duration::from_secs(2));
        let (store, _) = Store::serve(host, 0, 2, start).unwrap();
        let gloo = |store: &Store, rank| connected(start, |start| Group::gloo(store, rank, 2, host, start));
        let began = Instant::now();
        let error = gloo(&store, 0).unwrap_err();
        assert!(began.elapsed() < COLLECTIVE_TIMEOUT / 2, "{:?}", began.elapsed());
        assert!(error.line().contains("--start-timeout 2"), "{}", error.line());

        let (store, port) = Store::serve(host, 0, 2, start).unwrap();
        let rank = |rank: usize, store: &Store| {
            let group = gloo(store, rank).unwrap();
            std::thread::sleep(2 * start * rank as u32);
            group.barrier().unwrap();
        };
        std::thread::scope(|scope| {
            scope.spawn(|| rank(1, &Store::connect(host, port, 2, start).unwrap()));
            rank(0, &store);
        });
    }

    #[test]
    fn ranks_that_share_a_card_are_named() {
        let refused = |cards: &[&str]| {
            // A driver that does not say.
            let cards: Vec<_> = cards.iter().map(|card| (*card != "?").then(|| (*card).to_owned())).collect();
            each_has_a_card(&cards).err()
        };
        for cards in [&["GPU-a"][..], &["GPU-a", "GPU-b", "GPU-c"], &["?", "?"], &["GPU-a", "?"], &[]] {
            assert!(refused(cards).is_none(), "{cards:?}");
        }
        let error = refused(&["GPU-b", "GPU-a", "GPU-c", "GPU-a", "?", "GPU-a"]).unwrap();
        assert_eq!(error.status(), ErrorKind::Usage.status());
        assert!(error.line().contains("processes 1, 3, 5 would train on one card (GPU-a)"), "{}", error.line());
    }
}
