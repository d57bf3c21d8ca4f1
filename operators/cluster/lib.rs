//! Processes of one run: they find each other, agree before they work, and notice when one is gone.
//!
//! ```text
//!   process 0 (coordinator)           process 1                    every pair:
//!  ┌───────────────────────┐  control  ┌───────────────────────┐    control   beats, small messages
//!  │ listener ◀────────────┼───────────┼─ join                 │    timely    the dataflow's exchanges
//!  │ Control  LeaseServer  │  timely   │ Control  ClusterLeases│    samples   two, one a direction of asking
//!  │ timely workers        │═══════════│ timely workers        │
//!  └───────────────────────┘  samples  └───────────────────────┘
//! ```
//!
//! - `config`: where a process stands, and what all must agree on.
//! - `handshake`, `acceptor`, `rendezvous`, `mesh`: the start. Only process 0's address need be known.
//! - `control`: heartbeats, messages, barriers, losses.
//! - [`secret`]: what all know, and how it is proved.
//! - `network`: our sockets under timely.
//! - [`leases`]: shards leased by process 0 to whoever is free.
//! - `samples`: kept samples that move to another rank's trainer, as bytes.
//!
//! # Invariants
//! 1. Whoever takes part has proved on every connection that it knows the run's secret, and has the same run id, program
//!    version, configuration, workers and numerics: it is refused before, and both sides say what differs.
//! 2. No wait of the start is without deadline, and whoever is missing is named. A stranger delays nobody.
//! 3. A process that dies, is stopped or is cut off is named by all others within the stated silence, once.
//! 4. Nothing here prints; errors and losses are one line each.
//!
//! ```
//! use std::net::TcpListener;
//! use std::sync::Arc;
//! use std::thread;
//! use trommel_cluster::{Agreement, Cluster, ClusterConfig, ClusterError};
//!
//! let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
//! let coordinator = listener.local_addr().expect("bound").to_string();
//! let run = |process: usize, listener: Option<TcpListener>| -> Result<Vec<String>, ClusterError> {
//!     let config = ClusterConfig::new(2, process, &coordinator, "example");
//!     let agreement = Agreement { program: "0.1.0".into(), workers: 1, ..Agreement::default() };
//!     let on_loss = Arc::new(|loss: &_| eprintln!("{loss}")); // a program ends here
//!     let cluster = Cluster::join(&config, listener, &agreement, false, on_loss)?;
//!     let names = cluster.control().barrier("names", &format!("I am {process}"))?;
//!     cluster.control().goodbye();
//!     Ok(names)
//! };
//! let names = thread::scope(|scope| {
//!     let other = scope.spawn(|| run(1, None));
//!     run(0, Some(listener)).and_then(|names| {
//!         assert_eq!(other.join().expect("no panic")?, names);
//!         Ok(names)
//!     })
//! });
//! assert_eq!(names.expect("both are there"), ["I am 0", "I am 1"]);
//! ```
#![forbid(missing_docs)]

mod acceptor;
mod config;
mod control;
mod error;
mod handshake;
pub mod leases;
mod mesh;
mod message;
mod network;
mod rendezvous;
mod samples;
pub mod secret;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use timely::communication::AllocatorBuilder;

pub use config::{Agreement, ClusterConfig};
pub use control::{Control, Peer};
pub use error::{ClusterError, Difference, Loss};
pub use leases::{ClusterLeases, LeaseServer};
pub use message::{Counters, Message};
pub use samples::{Holding, Samples};
pub use secret::Secret;

use trommel_core::wake::locked;

/// What is called when a process is lost: once, on a thread of the cluster's own. It may end the program.
pub type OnLoss = Arc<dyn Fn(&Loss) + Send + Sync>;

/// What timely's `execute_from` takes: a builder a worker, and what joins the network threads when dropped.
pub type Allocators = (Vec<AllocatorBuilder>, Box<dyn Any + Send>);

/// The barrier at the end of the start.
const JOINED: &str = "the start";

/// Connections by process, none to itself.
type Sockets = Vec<Option<TcpStream>>;

/// This process's place among the processes of a run.
///
/// Dropping it closes the listener; the connections live until [`Control::goodbye`].
pub struct Cluster {
    control: Control,
    timely: Mutex<Option<Sockets>>,
    samples: Mutex<Option<(Sockets, Sockets)>>,
    listening: IpAddr,
    local: IpAddr,
    coordinator: IpAddr,
    _acceptor: Option<acceptor::Acceptor>,
}

impl Cluster {
    /// Finds the other processes. Blocks until all are there, or the deadline.
    ///
    /// `listener` takes the place of the addresses to listen on, where one was inherited. With `samples` there are
    /// connections for [`samples`](Self::samples). All processes must call it alike.
    ///
    /// # Errors
    /// One line for every way it can fail. A process that is lost at the very end of the start is told to `on_loss` too.
    pub fn join(
        config: &ClusterConfig,
        listener: Option<TcpListener>,
        agreement: &Agreement,
        samples: bool,
        on_loss: OnLoss,
    ) -> Result<Self, ClusterError> {
        let met = rendezvous::meet(config, listener, agreement, samples)?;
        let setting = control::Setting {
            process: config.process,
            addresses: met.addresses,
            silence: config.silence,
            start_timeout: config.start_timeout,
        };
        let control = Control::start(setting, met.controls, on_loss)?;
        control.barrier(JOINED, "")?; // from here on all are heard, and silence counts
        Ok(Self {
            control,
            timely: Mutex::new(Some(met.timely)),
            samples: Mutex::new(samples.then_some((met.asks, met.serves))),
            listening: met.listening,
            local: met.local,
            coordinator: met.coordinator,
            _acceptor: met.acceptor,
        })
    }

    /// Which process this is.
    #[must_use]
    pub fn process(&self) -> usize {
        self.control.process()
    }

    /// How many there are.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.control.processes()
    }

    /// The host (an IP address) at which this process listens: unspecified (`0.0.0.0`, `::`) where it does so at all its addresses.
    #[must_use]
    pub fn listening_host(&self) -> String {
        self.listening.to_string()
    }

    /// The host (an IP address) at which the others reach this process.
    #[must_use]
    pub fn local_host(&self) -> String {
        self.local.to_string()
    }

    /// The host (an IP address) at which this process reaches process 0.
    #[must_use]
    pub fn coordinator_host(&self) -> String {
        self.coordinator.to_string()
    }

    /// Heartbeats and small messages.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What timely needs for `workers` workers in this process (the agreement's number); once. All builders must be built
    /// and run by `execute_from`, and the guard kept until the workers have ended.
    ///
    /// # Errors
    /// When asked twice.
    pub fn timely(&self, workers: usize) -> Result<Allocators, ClusterError> {
        let sockets = locked(&self.timely).take().ok_or(ClusterError::Used("timely's connections are taken"))?;
        network::allocators(self.process(), sockets, workers.max(1))
    }

    /// Samples of the others, and this process's for them; once, and only where [`join`](Self::join) was told so.
    ///
    /// # Errors
    /// When asked twice, or without connections for it.
    pub fn samples(&self, holding: Arc<dyn Holding>) -> Result<Samples, ClusterError> {
        let sockets = locked(&self.samples).take();
        let (asks, serves) = sockets.ok_or(ClusterError::Used("there are no connections for samples, or no more"))?;
        Samples::start(&self.control, asks, serves, holding)
    }
}
