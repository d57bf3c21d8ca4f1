//! How this process takes part in a run: alone, or with others.
//!
//! A pipeline asks the same things either way. Alone, everything is agreed with oneself; with others, process 0 goes first
//! where somebody must, and every process leaves with one line when another is lost.
//!
//! ```text
//!  join ─▶ [pictures of benchmarks: first] ─▶ agree on configuration ─▶ run folder: first, then the others ─▶ ready
//!       ─▶ execute: one timely dataflow over all workers ─▶ gather ─▶ goodbye
//! ```

use std::any::Any;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use timely::communication::allocator::AllocatorBuilder;
use timely::worker::Worker;
use trommel_cluster::{Agreement, Cluster, ClusterConfig, ClusterError, Control, Loss, Message};
use trommel_core::sample::is_in_part;
use trommel_core::stop::Stop;
use trommel_core::wake::Registration;
use trommel_ledger::run_folder::{Access, differences};

use crate::config::{ClusterSeat, GRACE, JudgeConfig};
use crate::error::PipelineError;
use crate::fleet::PeerView;
use crate::phase::Phase;
use crate::process_end::{Ending, Entered};
use crate::progress::Progress;
use crate::{secret, workers};

/// How this process takes part.
pub struct Together {
    cluster: Option<Arc<Cluster>>,
    /// How the others were found.
    seat: Option<ClusterSeat>,
    part: Option<(u64, u64)>,
    grace: Duration,
    /// Stop and winding down, told to the others.
    _telling: Vec<Registration>,
    _entered: Option<Entered>,
}

impl Together {
    /// Does `work` with the others, and leaves them with a goodbye or with what went wrong. `moves_samples`: samples may be wanted from others.
    ///
    /// # Errors
    /// Others that cannot be found, or what `work` ends with.
    pub fn run<T>(
        config: &JudgeConfig,
        moves_samples: bool,
        stop: &Stop,
        progress: &Arc<Progress>,
        work: impl FnOnce(&Self) -> Result<T, PipelineError>,
    ) -> Result<T, PipelineError> {
        let together = Self::join(config, moves_samples, stop, progress)?;
        let result = work(&together);
        together.end(result)
    }

    /// Takes this process's seat, and waits for the others.
    fn join(
        config: &JudgeConfig,
        moves_samples: bool,
        stop: &Stop,
        progress: &Arc<Progress>,
    ) -> Result<Self, PipelineError> {
        let part = config.reading.part;
        let Some(seat) = &config.cluster else {
            return Ok(Self { cluster: None, seat: None, part, grace: GRACE, _telling: Vec::new(), _entered: None });
        };
        let listener = seat.listener.lock().ok().and_then(|mut listener| listener.take());
        let place = ClusterConfig { secret: secret::of_run(&config.run, &seat.config)?, ..seat.config.clone() };
        let cluster = meet(&place, listener, config.machine.workers, moves_samples, &seat.ending)?;
        let control = cluster.control().clone();
        let (counted, asked) = (progress.clone(), control.clone());
        control.set_counters(move || counted.counters());
        progress.peers.set(move || asked.peers().into_iter().map(PeerView::from).collect());
        let telling = share_stop(&control, stop, &seat.ending);
        Ok(Self {
            cluster: Some(cluster),
            seat: Some(ClusterSeat { config: place, ..seat.clone() }),
            part,
            grace: seat.grace,
            _telling: telling,
            _entered: Some(seat.ending.enter(&control)),
        })
    }

    /// This process for itself, within a run of several: what needs no others.
    pub fn by_itself(&self) -> Self {
        Self { cluster: None, seat: None, part: None, grace: self.grace, _telling: Vec::new(), _entered: None }
    }

    /// The same processes once more, over connections of their own: for a run within this one, called `name`, with a stop of its
    /// own. All processes call it at the same time, and learn in `phase` where they meet.
    pub fn beside(&self, name: &str, phase: Phase, workers: usize, stop: &Stop) -> Result<Self, PipelineError> {
        let (Some(cluster), Some(seat)) = (&self.cluster, &self.seat) else { return Ok(self.by_itself()) };
        // Wherever process 0 was reached before, it is to be reached again.
        let listener = match self.rank() {
            0 => Some(TcpListener::bind((cluster.listening_host(), 0)).map_err(PipelineError::failed)?),
            _ => None,
        };
        let address = listener.as_ref().map(TcpListener::local_addr).transpose().map_err(PipelineError::failed)?;
        let mine = (cluster.local_host(), address.map_or(0, |address| address.port()));
        let (first, port) = self.gather(phase, mine)?.swap_remove(0);
        let ip = |host: &str| host.parse::<IpAddr>().map_err(PipelineError::failed);
        let known = ip(&cluster.coordinator_host())?;
        // On process 0's host its name may mean the loopback. Who calls it there listens there too, where no other host finds it.
        let host = if known.is_loopback() { ip(&first)? } else { known };
        let (coordinator, run_id) = (SocketAddr::new(host, port).to_string(), format!("{} {name}", seat.config.run_id));
        let config = ClusterConfig { coordinator, run_id, listen: None, ..seat.config.clone() };
        let cluster = meet(&config, listener, workers, true, &seat.ending)?;
        let telling = share_stop(cluster.control(), stop, &seat.ending);
        let (entered, grace) = (Some(seat.ending.enter(cluster.control())), self.grace);
        let seat = Some(ClusterSeat { config, ..seat.clone() });
        Ok(Self { cluster: Some(cluster), seat, part: None, grace, _telling: telling, _entered: entered })
    }

    /// The other processes, where there are any.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// NCCL's library, where another one is wanted than the system's loader finds.
    pub fn nccl(&self) -> Option<&Path> {
        self.seat.as_ref()?.nccl.as_deref()
    }

    /// This process's number.
    pub fn rank(&self) -> usize {
        self.cluster.as_ref().map_or(0, |cluster| cluster.process())
    }

    /// Processes in the run.
    pub fn ranks(&self) -> usize {
        self.cluster.as_ref().map_or(1, |cluster| cluster.processes())
    }

    /// How long processes wait for each other at a start.
    pub fn start_timeout(&self) -> Duration {
        self.seat.as_ref().map_or(Duration::ZERO, |seat| seat.config.start_timeout)
    }

    /// Whether a shard is this process's, where shards are not leased.
    pub fn owns(&self, ordinal: u64) -> bool {
        is_in_part(ordinal, self.rank() as u64, self.ranks() as u64)
    }

    /// What this process reads of `lanes`.
    pub fn lanes(&self, lanes: usize) -> Range<usize> {
        crate::ledger_run::share(self.rank(), self.ranks(), lanes)
    }

    /// How it opens the run's folder.
    pub fn access(&self) -> Access {
        match self.part {
            Some((index, of)) => Access::Slice { index, of },
            None if self.rank() == 0 => Access::Exclusive,
            None => Access::Member,
        }
    }

    /// Runs `what` on process 0, then on the others.
    pub fn in_turn<T>(
        &self,
        phase: Phase,
        what: impl FnOnce() -> Result<T, PipelineError>,
    ) -> Result<T, PipelineError> {
        if self.rank() == 0 {
            let done = what()?;
            self.wait(phase)?;
            return Ok(done);
        }
        self.wait(phase)?;
        what()
    }

    /// Waits until all processes are here.
    pub fn wait(&self, phase: Phase) -> Result<(), PipelineError> {
        self.exchange(phase, "").map(|_| ())
    }

    /// Compares a configuration with the other processes'; says what differs.
    pub fn agree(&self, phase: Phase, value: &Value) -> Result<(), PipelineError> {
        let values = self.exchange(phase, &value.to_string())?;
        let parse = |text: &String| serde_json::from_str::<Value>(text).map_err(PipelineError::failed);
        let first = values.first().map_or(Ok(Value::Null), parse)?;
        for (process, value) in values.iter().enumerate().skip(1) {
            if let Some(differs) = differences(&first, &parse(value)?).first() {
                return Err(PipelineError::usage(format!(
                    "process {process} was started with another {phase}: {}: process 0 has {}, process {process} has {}",
                    differs.field, differs.stored, differs.given
                )));
            }
        }
        Ok(())
    }

    /// Everybody's value, by process.
    pub fn gather<T: Serialize + DeserializeOwned>(&self, phase: Phase, value: T) -> Result<Vec<T>, PipelineError> {
        if self.cluster.is_none() {
            return Ok(vec![value]);
        }
        let text = serde_json::to_string(&value).map_err(PipelineError::failed)?;
        let texts = self.exchange(phase, &text)?;
        texts.iter().map(|text| serde_json::from_str(text).map_err(PipelineError::failed)).collect()
    }

    /// What process 0 has worked out, for all.
    pub fn first_says<T: Serialize + DeserializeOwned>(
        &self,
        what: impl FnOnce() -> Result<T, PipelineError>,
    ) -> Result<T, PipelineError> {
        let mine = if self.rank() == 0 { Some(what()?) } else { None };
        let first = self.gather(Phase::Settled, mine)?.into_iter().next().flatten();
        first.ok_or_else(|| PipelineError::failed(format!("{}: process 0 says nothing", Phase::Settled)))
    }

    fn exchange(&self, phase: Phase, value: &str) -> Result<Vec<String>, PipelineError> {
        let (Some(cluster), Some(seat)) = (&self.cluster, &self.seat) else { return Ok(vec![value.to_owned()]) };
        cluster.control().barrier(phase.name(), value).map_err(|error| match error {
            ClusterError::Lost(loss) => seat.ending.lost(&loss),
            _ => PipelineError::failed(error),
        })
    }

    /// On the first signal: begins nothing new (`begin_nothing`), and stops what has not finished within the grace period.
    pub fn wind_down_with(&self, stop: &Stop, begin_nothing: impl Fn() + Send + Sync + 'static) -> Registration {
        let (grace, ending) = (self.grace, stop.clone());
        stop.on_wind_down(move || {
            begin_nothing();
            let ending = ending.clone();
            let timer = move || {
                if let Err(RecvTimeoutError::Timeout) = ending.channel().recv_timeout(grace) {
                    ending.request();
                }
            };
            if std::thread::Builder::new().name("grace".into()).spawn(timer).is_err() {
                tracing::warn!("no thread for the grace period: the run ends when its shards do");
            }
        })
    }

    /// Runs one dataflow on `workers` workers of each process, until it has ended everywhere. `build` gets the worker and
    /// its number in this process. A panic of one worker ends all; an end with an error requests `stop`, for other threads of the run wait for what would have come.
    pub fn execute(
        &self,
        workers: usize,
        stop: &Stop,
        build: impl Fn(&mut Worker, usize) + Send + Sync + 'static,
    ) -> Result<(), PipelineError> {
        let first = self.rank() * workers;
        let allocators: Result<(Vec<AllocatorBuilder>, Box<dyn Any + Send>), _> = match &self.cluster {
            Some(cluster) => cluster.timely(workers).map_err(PipelineError::failed),
            None => timely::CommunicationConfig::Process(workers).try_build().map_err(PipelineError::failed),
        };
        let run = |allocators| {
            workers::run(allocators, stop, move |worker| {
                let index = worker.index() - first;
                build(worker, index);
            })
        };
        allocators.and_then(run).inspect_err(|_| stop.request())
    }

    /// The end of this process's part: a goodbye, or why there is none.
    pub fn end<T>(self, result: Result<T, PipelineError>) -> Result<T, PipelineError> {
        if let Some(cluster) = &self.cluster {
            match &result {
                Ok(_) => cluster.control().goodbye(),
                Err(error) => cluster.control().say_failure(&error.line(), error.status()),
            }
        }
        result
    }
}

/// Finds the other processes.
fn meet(
    config: &ClusterConfig,
    listener: Option<TcpListener>,
    workers: usize,
    moves_samples: bool,
    ending: &Arc<Ending>,
) -> Result<Arc<Cluster>, PipelineError> {
    let agreement = Agreement {
        program: env!("CARGO_PKG_VERSION").into(),
        workers,
        ..Agreement::default() // compared by `agree`, which can say what differs
    };
    let ends = ending.clone();
    let on_loss = Arc::new(move |loss: &Loss| ends.lost(loss));
    Cluster::join(config, listener, &agreement, moves_samples, on_loss).map(Arc::new).map_err(|error| match error {
        ClusterError::Lost(loss) => ending.lost(&loss),
        // Who is late may come next time, and so may who is too early; everything else wants a change first.
        ClusterError::Refused { ref difference, .. } if difference.passes() => PipelineError::lost(error),
        ClusterError::Missing { .. } | ClusterError::Unreachable { .. } | ClusterError::EndedAtStart { .. } => {
            PipelineError::lost(error)
        }
        ClusterError::Config(_)
        | ClusterError::AddressInUse { .. }
        | ClusterError::Listen { .. }
        | ClusterError::Stranger { .. }
        | ClusterError::Refused { .. }
        | ClusterError::Refuses { .. }
        | ClusterError::Left { .. }
        | ClusterError::Connection { .. }
        | ClusterError::Used(_)
        | ClusterError::System { .. } => PipelineError::usage(error),
    })
}

/// What stops one process, or lets it wind down, does so with all.
fn share_stop(control: &Control, stop: &Stop, ending: &Arc<Ending>) -> Vec<Registration> {
    let told = stop.clone();
    control.on_message(move |_, message| match message {
        Message::Drain => {
            told.wind_down();
            true
        }
        Message::Stop => {
            told.request();
            true
        }
        _ => false,
    });
    let (downward, upward, failing, ending) = (control.clone(), control.clone(), stop.clone(), ending.clone());
    vec![
        stop.on_wind_down(move || downward.broadcast(Message::Drain)),
        stop.on_request(move || match failing.failure() {
            Some(failure) => ending.failed(&upward, &failure),
            None => upward.broadcast(Message::Stop),
        }),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
