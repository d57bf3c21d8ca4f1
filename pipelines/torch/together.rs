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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use timely::WorkerConfig;
use timely::communication::allocator::AllocatorBuilder;
use timely::worker::Worker;
use trommel_cluster::{Agreement, Cluster, ClusterConfig, ClusterError, Control, Loss, Message};
use trommel_core::escape::{escape_controls, escape_lines};
use trommel_core::stop::Stop;
use trommel_core::wake::{Registration, locked};
use trommel_ledger::run_folder::{Access, differences};

use crate::running::workers_ended;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::fleet::PeerView;
use trommel_pipelines::progress::Progress;
use trommel_pipelines::secret;

/// How long shards in flight may take to finish after the first signal, where nobody says otherwise.
const GRACE: Duration = Duration::from_secs(30);

/// The clusters that this process is in: whom a panic on one of timely's threads is told to. The hook for panics is the process's,
/// and neither workers' nor network threads say whose they are.
static CLUSTERS: Mutex<Vec<(u64, Control)>> = Mutex::new(Vec::new());

/// A place in [`CLUSTERS`], given up on drop.
struct Listed(u64);

impl Listed {
    fn add(control: &Control) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        locked(&CLUSTERS).push((number, control.clone()));
        Self(number)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        locked(&CLUSTERS).retain(|(number, _)| *number != self.0);
    }
}

/// How this process takes part.
pub(crate) struct Together {
    cluster: Option<Arc<Cluster>>,
    /// How the others were found.
    seat: Option<ClusterConfig>,
    part: Option<(u64, u64)>,
    grace: Duration,
    /// Stop and winding down, told to the others.
    _telling: Vec<Registration>,
    _listed: Option<Listed>,
}

impl Together {
    /// Takes this process's seat, and waits for the others. `moves_samples`: samples may be wanted from others.
    pub(crate) fn join(
        config: &JudgeConfig,
        moves_samples: bool,
        stop: &Stop,
        progress: &Arc<Progress>,
    ) -> Result<Self, PipelineError> {
        let part = config.reading.part;
        let Some(seat) = &config.cluster else {
            return Ok(Self { cluster: None, seat: None, part, grace: GRACE, _telling: Vec::new(), _listed: None });
        };
        let listener = seat.listener.lock().ok().and_then(|mut listener| listener.take());
        let place = ClusterConfig { secret: secret::of_run(&config.run, &seat.config)?, ..seat.config.clone() };
        let cluster = meet(&place, listener, config.machine.workers, moves_samples)?;
        let control = cluster.control().clone();
        let (counted, asked) = (progress.clone(), control.clone());
        control.set_counters(move || counted.counters());
        progress.peers.set(move || asked.peers().into_iter().map(PeerView::from).collect());
        let telling = share_stop(&control, stop);
        let listed = Some(Listed::add(&control));
        Ok(Self {
            cluster: Some(cluster),
            seat: Some(place),
            part,
            grace: seat.grace,
            _telling: telling,
            _listed: listed,
        })
    }

    /// This process for itself, within a run of several: what needs no others.
    pub(crate) fn by_itself(&self) -> Self {
        Self { cluster: None, seat: None, part: None, grace: self.grace, _telling: Vec::new(), _listed: None }
    }

    /// The same processes once more, over connections of their own: for a run within this one, with a stop of its own. All
    /// processes call it at the same time.
    pub(crate) fn beside(&self, name: &str, workers: usize, stop: &Stop) -> Result<Self, PipelineError> {
        let (Some(cluster), Some(seat)) = (&self.cluster, &self.seat) else { return Ok(self.by_itself()) };
        let (mut listener, mut port) = (None, 0);
        if self.rank() == 0 {
            let bound = TcpListener::bind((cluster.local_host().as_str(), 0)).map_err(PipelineError::failed)?;
            port = bound.local_addr().map_err(PipelineError::failed)?.port();
            listener = Some(bound);
        }
        let port = self.gather(&format!("{name}: port"), port)?.swap_remove(0);
        let host: IpAddr = cluster.coordinator_host().parse().map_err(PipelineError::failed)?;
        let (coordinator, run_id) = (SocketAddr::new(host, port).to_string(), format!("{} {name}", seat.run_id));
        let config = ClusterConfig { coordinator, run_id, listen: None, ..seat.clone() };
        let cluster = meet(&config, listener, workers, true)?;
        let telling = share_stop(cluster.control(), stop);
        let (listed, grace) = (Some(Listed::add(cluster.control())), self.grace);
        Ok(Self { cluster: Some(cluster), seat: Some(config), part: None, grace, _telling: telling, _listed: listed })
    }

    /// The other processes, where there are any.
    pub(crate) fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// This process's number.
    pub(crate) fn rank(&self) -> usize {
        self.cluster.as_ref().map_or(0, |cluster| cluster.process())
    }

    /// Processes in the run.
    pub(crate) fn ranks(&self) -> usize {
        self.cluster.as_ref().map_or(1, |cluster| cluster.processes())
    }

    /// What this process reads of `lanes`.
    pub(crate) fn lanes(&self, lanes: usize) -> Range<usize> {
        crate::running::share(self.rank(), self.ranks(), lanes)
    }

    /// How it opens the run's folder.
    pub(crate) fn access(&self) -> Access {
        match self.part {
            Some((index, of)) => Access::Slice { index, of },
            None if self.rank() == 0 => Access::Exclusive,
            None => Access::Member,
        }
    }

    /// Runs `what` on process 0, then on the others.
    pub(crate) fn in_turn<T>(
        &self,
        name: &str,
        what: impl FnOnce() -> Result<T, PipelineError>,
    ) -> Result<T, PipelineError> {
        if self.rank() == 0 {
            let done = what()?;
            self.wait(name)?;
            return Ok(done);
        }
        self.wait(name)?;
        what()
    }

    /// Waits until all processes are here.
    pub(crate) fn wait(&self, name: &str) -> Result<(), PipelineError> {
        self.exchange(name, "").map(|_| ())
    }

    /// Compares a configuration with the other processes'; says what differs.
    pub(crate) fn agree(&self, name: &str, value: &Value) -> Result<(), PipelineError> {
        let values = self.exchange(name, &value.to_string())?;
        let parse = |text: &String| serde_json::from_str::<Value>(text).map_err(PipelineError::failed);
        let first = values.first().map_or(Ok(Value::Null), parse)?;
        for (process, value) in values.iter().enumerate().skip(1) {
            if let Some(differs) = differences(&first, &parse(value)?).first() {
                return Err(PipelineError::Usage(format!(
                    "process {process} was started with another {name}: {}: process 0 has {}, process {process} has {}",
                    differs.field, differs.stored, differs.given
                )));
            }
        }
        Ok(())
    }

    /// Everybody's value, by process.
    pub(crate) fn gather<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        value: T,
    ) -> Result<Vec<T>, PipelineError> {
        if self.cluster.is_none() {
            return Ok(vec![value]);
        }
        let text = serde_json::to_string(&value).map_err(PipelineError::failed)?;
        let texts = self.exchange(name, &text)?;
        texts.iter().map(|text| serde_json::from_str(text).map_err(PipelineError::failed)).collect()
    }

    /// What process 0 has worked out, for all.
    pub(crate) fn first_says<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        what: impl FnOnce() -> Result<T, PipelineError>,
    ) -> Result<T, PipelineError> {
        let mine = if self.rank() == 0 { Some(what()?) } else { None };
        let first = self.gather(name, mine)?.into_iter().next().flatten();
        first.ok_or_else(|| PipelineError::Failed(format!("{name}: process 0 says nothing")))
    }

    fn exchange(&self, name: &str, value: &str) -> Result<Vec<String>, PipelineError> {
        match &self.cluster {
            None => Ok(vec![value.to_owned()]),
            Some(cluster) => cluster.control().barrier(name, value).map_err(|error| match error {
                ClusterError::Lost(loss) => leave(&loss),
                _ => PipelineError::failed(error),
            }),
        }
    }

    /// On the first signal: begins nothing new (`begin_nothing`), and stops what has not finished within the grace period.
    pub(crate) fn wind_down_with(&self, stop: &Stop, begin_nothing: impl Fn() + Send + Sync + 'static) -> Registration {
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
    /// its number in this process.
    pub(crate) fn execute(
        &self,
        workers: usize,
        build: impl Fn(&mut Worker, usize) + Send + Sync + 'static,
    ) -> Result<(), PipelineError> {
        let first = self.rank() * workers;
        let (builders, guard): (Vec<AllocatorBuilder>, Box<dyn Any + Send>) = match &self.cluster {
            Some(cluster) => cluster.timely(workers).map_err(PipelineError::failed)?,
            None => timely::CommunicationConfig::Process(workers).try_build().map_err(PipelineError::Failed)?,
        };
        let run = move |worker: &mut Worker| {
            let index = worker.index() - first;
            build(worker, index);
        };
        let guards = timely::execute::execute_from(builders, guard, WorkerConfig::default(), run);
        workers_ended(guards.map_err(PipelineError::Failed)?)
    }

    /// The end of this process's part: a goodbye, or why there is none.
    pub(crate) fn end<T>(self, result: Result<T, PipelineError>) -> Result<T, PipelineError> {
        if let Some(cluster) = &self.cluster {
            match &result {
                Ok(_) => cluster.control().goodbye(),
                Err(error) => cluster.control().say_failure(&error.to_string(), error.status()),
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
) -> Result<Arc<Cluster>, PipelineError> {
    let agreement = Agreement {
        program: env!("CARGO_PKG_VERSION").into(),
        workers,
        ..Agreement::default() // compared by `agree`, which can say what differs
    };
    let cluster = Cluster::join(config, listener, &agreement, moves_samples, Arc::new(|loss: &Loss| leave(loss)));
    cluster.map(Arc::new).map_err(|error| match error {
        ClusterError::Lost(loss) => leave(&loss),
        // Who is late may come next time; everything else wants a change first.
        ClusterError::Missing { .. } | ClusterError::Unreachable { .. } | ClusterError::EndedAtStart { .. } => {
            PipelineError::Lost(error.to_string())
        }
        _ => PipelineError::usage(error),
    })
}

/// What stops one process, or lets it wind down, does so with all.
fn share_stop(control: &Control, stop: &Stop) -> Vec<Registration> {
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
    let (downward, upward, failing) = (control.clone(), control.clone(), stop.clone());
    vec![
        stop.on_wind_down(move || downward.broadcast(Message::Drain)),
        stop.on_request(move || match failing.failure() {
            Some(failure) => give_up(&upward, &failure),
            None => upward.broadcast(Message::Stop),
        }),
    ]
}

/// A lost process ends this one: the folder is made for being left at any instant, and nothing would come of waiting. One
/// that ended for wrong usage takes the others with it under its own status: the same command would not do better.
fn leave(loss: &Loss) -> ! {
    static LEAVING: Mutex<()> = Mutex::new(());
    let _said_once = LEAVING.lock();
    let status = if loss.status == Some(2) { 2 } else { 3 };
    eprintln!(
        "trommel: {}{}",
        escape_controls(&loss.to_string()),
        if status == 3 { "; the same command resumes" } else { "" }
    );
    signal_hook::low_level::exit(status)
}

/// A failure here: the dataflow spans all processes and would wait for ours, so this process leaves at once.
fn give_up(control: &Control, failure: &trommel_core::stop::Failure) {
    let status = if failure.is_input { 2 } else { 1 };
    control.say_failure(&failure.to_string(), status);
    eprintln!("trommel: {}", escape_lines(&failure.to_string()));
    signal_hook::low_level::exit(status.into());
}

/// For the program's panic hook: a panic on one of timely's threads. Returns where the process works alone.
pub fn timely_panicked(thread: &str, text: &str) {
    let clusters: Vec<Control> = locked(&CLUSTERS).iter().map(|(_, control)| control.clone()).collect();
    if clusters.is_empty() || !thread.starts_with("timely:") {
        return;
    }
    if text.starts_with("timely communication error") {
        // The heartbeat knows better who is gone, and ends this process.
        std::thread::sleep(Duration::from_secs(60));
        eprintln!(
            "trommel: the connection to another process broke ({}); the same command resumes",
            escape_controls(text)
        );
        signal_hook::low_level::exit(3);
    }
    let line = format!("thread {thread}: {text}");
    clusters.iter().for_each(|control| control.say_failure(&line, 1));
    eprintln!("trommel: {}", escape_lines(&line));
    signal_hook::low_level::exit(1);
}
