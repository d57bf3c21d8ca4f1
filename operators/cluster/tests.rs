//! Clusters of threads over the loopback: every process of these tests is a few threads of one.
#![allow(clippy::unwrap_used)]

mod fuzz;
mod hostile;
mod life;
mod refusals;
mod work;

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{Agreement, Cluster, ClusterConfig, ClusterError, Loss, Secret};
use trommel_core::wake::locked;

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// One process of a test.
struct Process {
    cluster: Cluster,
    losses: Arc<Mutex<Vec<Loss>>>,
}

/// Where a test's process 0 listens.
struct Place {
    listener: Option<TcpListener>,
    address: String,
}

fn place() -> Place {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    Place { listener: Some(listener), address }
}

fn config(processes: usize, process: usize, address: &str) -> ClusterConfig {
    let config = ClusterConfig::new(processes, process, address, "test");
    ClusterConfig { start_timeout: LONG, silence: LONG, secret: Secret::new(b"of the test"), ..config }
}

fn agreement() -> Agreement {
    Agreement { program: "1.0".into(), workers: 2, config: "c0ffee".into(), numerics: "{\"device\":\"cpu\"}".into() }
}

fn join(
    config: &ClusterConfig,
    listener: Option<TcpListener>,
    agreement: &Agreement,
    samples: bool,
) -> Result<Process, ClusterError> {
    let losses = Arc::new(Mutex::new(Vec::new()));
    let seen = losses.clone();
    let on_loss = Arc::new(move |loss: &Loss| locked(&seen).push(loss.clone()));
    Cluster::join(config, listener, agreement, samples, on_loss).map(|cluster| Process { cluster, losses })
}

/// Starts each process with what `change` makes of its configuration and agreement; results by process.
fn try_start(
    processes: usize,
    samples: bool,
    change: impl Fn(&mut ClusterConfig, &mut Agreement) + Sync,
) -> Vec<Result<Process, ClusterError>> {
    let mut place = place();
    let listener = Mutex::new(place.listener.take());
    let start = |process: usize| {
        let (mut config, mut agreement) = (config(processes, process, &place.address), agreement());
        change(&mut config, &mut agreement);
        let listener = if process == 0 { locked(&listener).take() } else { None };
        join(&config, listener, &agreement, samples)
    };
    thread::scope(|scope| {
        let start = &start;
        let threads: Vec<_> = (0..processes).map(|process| scope.spawn(move || start(process))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn start(processes: usize, samples: bool) -> Vec<Process> {
    start_with(processes, samples, |_, _| {})
}

fn start_with(
    processes: usize,
    samples: bool,
    change: impl Fn(&mut ClusterConfig, &mut Agreement) + Sync,
) -> Vec<Process> {
    try_start(processes, samples, change).into_iter().map(Result::unwrap).collect()
}

/// Runs `run` in all processes at once; results by process.
fn in_all<T: Send>(processes: &[Process], run: impl Fn(&Process) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = processes.iter().map(|process| scope.spawn(move || run(process))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < deadline, "still not: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn end(processes: &[Process]) {
    in_all(processes, |process| process.cluster.control().goodbye());
    for process in processes {
        assert_eq!(*locked(&process.losses), [], "a goodbye is no loss");
    }
}
