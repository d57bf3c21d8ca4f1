//! A model: several processes with readers of different speed lease all shards; every promise is checked at every step.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::*;
use crate::control::Setting;
use trommel_core::sample::ordinal_of;

/// Control connections between `processes` threads of this process.
fn controls(processes: usize) -> Vec<Control> {
    let mut streams: Vec<Vec<Option<TcpStream>>> =
        (0..processes).map(|_| (0..processes).map(|_| None).collect()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (first, second) in (0..processes).flat_map(|first| (0..first).map(move |second| (first, second))) {
        streams[first][second] = Some(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        streams[second][first] = Some(listener.accept().unwrap().0);
    }
    let start = |(process, streams)| {
        let addresses = vec!["here".into(); processes];
        let long = Duration::from_secs(60);
        let setting = Setting { process, addresses, silence: long, start_timeout: long };
        Control::start(setting, streams, Arc::new(|loss: &_| panic!("{loss}"))).unwrap()
    };
    streams.into_iter().enumerate().map(start).collect()
}

fn leases(controls: &[Control], wanted: impl IntoIterator<Item = u64>, max_open: usize) -> Vec<Arc<ClusterLeases>> {
    let server = LeaseServer::new(wanted, &controls[0]);
    let own = |control: &Control| (control.process() == 0).then(|| server.clone());
    controls.iter().map(|control| ClusterLeases::new(control, own(control), max_open)).collect()
}

/// One process as the source operator runs it: looks at every reader, then at the floor; wakes by `on_change`.
struct Worker {
    leases: Arc<ClusterLeases>,
    readers: usize,
    takes: Duration,
    max_open: usize,
}

impl Worker {
    fn run(&self, stop: &AtomicBool) -> Vec<u64> {
        let (bell, rung) = crossbeam_channel::bounded(1);
        let _registration = self.leases.on_change(Box::new(move || {
            let _rung_before = bell.try_send(());
        }));
        let mut done = vec![false; self.readers];
        let (mut taken, mut floor, mut open) = (Vec::new(), 0, Vec::new());
        while !done.iter().all(|done| *done) {
            let mut waits = true;
            for (reader, done) in done.iter_mut().enumerate().filter(|(_, done)| !**done) {
                match self.leases.next(reader) {
                    Next::Shard(lease) => {
                        assert!(lease.ordinal >= floor, "shard {} after the floor {floor}", lease.ordinal);
                        taken.push(lease.ordinal);
                        open.push(lease.ordinal);
                        waits = false;
                    }
                    Next::Wait => {}
                    Next::Done => *done = true,
                }
            }
            assert!(open.len() <= self.max_open && open.len() == self.leases.open_shards());
            match self.leases.floor() {
                Some(bound) => {
                    assert!(ordinal_of(bound) >= floor, "the floor fell from {floor} to {}", ordinal_of(bound));
                    floor = ordinal_of(bound);
                }
                None => floor = u64::MAX,
            }
            if let Some(ordinal) = open.pop() {
                thread::sleep(self.takes);
                if ordinal % 5 == 0 { self.leases.failed(ordinal) } else { self.leases.committed(ordinal) }
            } else if waits && !done.iter().all(|done| *done) {
                rung.recv_timeout(Duration::from_secs(60)).expect("somebody wakes those who wait");
            }
            if stop.load(Ordering::SeqCst) {
                self.leases.drain();
                assert_eq!(self.leases.next(0), Next::Done);
            }
        }
        assert_eq!(self.leases.floor(), None);
        taken
    }
}

fn run(workers: &[Worker], stop: &AtomicBool) -> Vec<Vec<u64>> {
    thread::scope(|scope| {
        let threads: Vec<_> = workers.iter().map(|worker| scope.spawn(move || worker.run(stop))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn all_shards_go_out_once_and_the_slow_take_fewer() {
    for (processes, readers, max_open) in [(1, 3, 2), (2, 1, 1), (4, 3, 4), (3, 2, 8)] {
        let controls = controls(processes);
        let wanted: Vec<u64> = (0..300).map(|shard| shard * 3 + 1).collect();
        let all = leases(&controls, wanted.iter().rev().copied(), max_open);
        let worker = |(process, leases): (usize, &Arc<ClusterLeases>)| {
            let takes = Duration::from_micros(if process + 1 == processes && processes > 1 { 20_000 } else { 200 });
            Worker { leases: leases.clone(), readers, takes, max_open }
        };
        let workers: Vec<Worker> = all.iter().enumerate().map(worker).collect();
        let taken = run(&workers, &AtomicBool::new(false));
        let mut sorted = taken.concat();
        sorted.sort_unstable();
        assert_eq!(sorted, wanted);
        assert!(taken.iter().all(|taken| taken.is_sorted()), "each process in the plan's order");
        if processes > 1 {
            let counts: Vec<usize> = taken.iter().map(Vec::len).collect();
            assert!(counts[processes - 1] < 300 / processes, "{counts:?}");
        }
    }
}

/// As a run that winds down: each process drains its own, in any order.
#[test]
fn a_drain_ends_its_process_and_process_0s_ends_all_and_the_floor_with_it() {
    for first in 0..3 {
        let controls = controls(3);
        let all = leases(&controls, 0..1_000_000, 4);
        let stops: Vec<AtomicBool> = (0..3).map(|_| AtomicBool::new(false)).collect();
        let taken = thread::scope(|scope| {
            let start = |(leases, stop): (&Arc<ClusterLeases>, _)| {
                let takes = Duration::from_micros(100);
                let worker = Worker { leases: leases.clone(), readers: 2, takes, max_open: 4 };
                scope.spawn(move || worker.run(stop))
            };
            let mut threads: Vec<_> = all.iter().zip(&stops).map(start).collect();
            thread::sleep(Duration::from_millis(50));
            stops[first].store(true, Ordering::SeqCst);
            let mut taken = vec![threads.remove(first).join().unwrap()];
            assert!(first == 0 || threads.iter().all(|thread| !thread.is_finished()), "the others go on");
            stops[0].store(true, Ordering::SeqCst);
            taken.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
            taken
        });
        let mut times = BTreeMap::<u64, usize>::new();
        taken.concat().into_iter().for_each(|ordinal| *times.entry(ordinal).or_default() += 1);
        assert!(times.values().all(|times| *times == 1));
    }
}

#[test]
fn nothing_wanted_is_done_everywhere() {
    let controls = controls(2);
    let all = leases(&controls, [], 1);
    let worker =
        |leases: &Arc<ClusterLeases>| Worker { leases: leases.clone(), readers: 2, takes: Duration::ZERO, max_open: 1 };
    let workers: Vec<Worker> = all.iter().map(worker).collect();
    assert_eq!(run(&workers, &AtomicBool::new(false)), vec![Vec::<u64>::new(); 2]);
}

#[test]
fn the_server_knows_what_is_open_where() {
    let controls = controls(2);
    let server = LeaseServer::new([4, 5, 6], &controls[0]);
    let here = ClusterLeases::new(&controls[0], Some(server.clone()), 2);
    let there = ClusterLeases::new(&controls[1], None, 2);
    assert!(matches!(here.next(0), Next::Shard(Lease { ordinal: 4, .. })));
    assert_eq!(here.floor(), Some(5));
    assert_eq!(there.floor(), Some(0));
    assert_eq!(there.next(0), Next::Wait);
    let soon = |done: &dyn Fn() -> bool| {
        (0..10_000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            done()
        })
    };
    assert!(soon(&|| there.floor() == Some(5)), "a grant that nobody took yet holds the floor");
    assert!(matches!(there.next(0), Next::Shard(Lease { ordinal: 5, .. })));
    assert_eq!(there.floor(), Some(6));
    assert_eq!((server.open_shards(), server.waiting_shards()), (vec![1, 1], 1));
    there.committed(5);
    there.committed(5);
    here.failed(4);
    assert!(soon(&|| server.open_shards() == [0, 0]));
}
