//! The operator in a running graph, for one and two workers.

use timely::dataflow::operators::{Input, Inspect, Probe};

use super::super::operator::{LedgerConfig, ToLedger};
use super::simulated::{Fault, Simulated};
use super::*;
use trommel_core::sample::{Event, ShardEnd};

fn end(ordinal: u64, count: u32, outcome: ShardOutcome) -> Event {
    Event::End(ShardEnd { count, bytes: 10, outcome, ..ShardEnd::new(ordinal) })
}

/// Events of a shard, shuffled by a seed: the end may come first.
fn events(ordinal: u64, seed: u64) -> Vec<Event> {
    let mut events: Vec<Event> = fates(ordinal).into_iter().map(Event::Fate).collect();
    let Event::End(end) = end(ordinal, events.len() as u32, ShardOutcome::Complete(None)) else { unreachable!() };
    events.push(Event::End(ShardEnd { points: Arc::new(shard(ordinal).items), ..end }));
    let mut random = Random(seed);
    for at in 0..events.len() {
        let other = random.below(events.len() as u64) as usize;
        events.swap(at, other);
    }
    events
}

struct Ran {
    committed: Vec<Committed>,
    error: Option<Arc<LedgerError>>,
    storage: Arc<dyn Storage>,
}

/// Sends `shards` (time, events) through the operator of `workers` workers, dealt round.
fn through(workers: usize, disk: &Simulated, shards: Vec<(u64, Vec<Event>)>) -> Ran {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let folder = Arc::new(open(&root(), &storage).unwrap());
    let stop = Stop::new();
    let committer = Committer::spawn(folder, parts(), stop.clone()).unwrap();
    let handle = Mutex::new(committer.handle().unwrap());
    let (captured, shards) = (Arc::new(Mutex::new(Vec::new())), Arc::new(shards));
    let sink = Arc::clone(&captured);
    let run_stop = stop.clone();
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let config = LedgerConfig { name_of: Arc::new(|ordinal| format!("{ordinal:05}.tar")), stop: run_stop.clone() };
        let handle = handle.lock().unwrap().clone();
        let sink = Arc::clone(&sink);
        let (mut input, probe) = worker.dataflow(|scope| {
            let (input, stream) = scope.new_input::<Vec<Event>>();
            let seen = move |c: &Committed| sink.lock().unwrap().push(c.clone());
            (input, stream.ledger(handle, config).inspect(seen).probe().0)
        });
        let (index, peers) = (worker.index(), worker.peers());
        for (at, (time, events)) in shards.iter().enumerate() {
            input.advance_to(*time);
            if at % peers == index {
                for event in events {
                    input.send(event.clone());
                    worker.step();
                }
            }
        }
        input.close();
        while !probe.done() {
            worker.step_or_park(Some(Duration::from_millis(20)));
        }
    })
    .unwrap();
    guards.join().into_iter().for_each(|r| r.unwrap());
    let error = committer.finish().err();
    let mut committed = captured.lock().unwrap().clone();
    committed.sort_by_key(|c| c.ordinal);
    Ran { committed, error, storage }
}

#[test]
fn shards_are_committed_when_all_fates_are_there() {
    for workers in [1, 2] {
        for seed in 0..4 {
            let shards = (0..SHARDS).map(|o| (o, events(o, seed * 10 + o))).collect();
            let ran = through(workers, &Simulated::new(), shards);
            assert!(ran.error.is_none());
            let ordinals: Vec<u64> = ran.committed.iter().map(|c| c.ordinal).collect();
            assert_eq!(ordinals, (0..SHARDS).collect::<Vec<_>>());
            let outcome = outcome(&root(), &ran.storage);
            assert_eq!((outcome.rows, outcome.items), (naive().0, naive().1));
        }
    }
}

#[test]
fn an_unavailable_shard_is_marked_and_its_fates_forgotten() {
    let mut cut: Vec<Event> = fates(0).into_iter().take(3).map(Event::Fate).collect();
    cut.push(end(0, 3, ShardOutcome::Unavailable("timeout".into())));
    let ran = through(1, &Simulated::new(), vec![(0, cut), (2, events(2, 0))]);
    assert!(ran.error.is_none());
    let statuses: Vec<_> = ran.committed.iter().map(|c| (c.ordinal, c.status, c.counts.total())).collect();
    let (failed, done) = (super::super::manifest::LineStatus::Failed, super::super::manifest::LineStatus::Committed);
    assert_eq!(statuses, [(0, failed, 0), (2, done, 5)]);
    let ledger = Ledger::open_on(&root(), ran.storage).unwrap();
    assert_eq!(ledger.failed()[&0].1.remark.as_deref(), Some("timeout"));
}

#[test]
fn wrong_fates_fail_the_run() {
    let twice = [events(0, 1), vec![Event::Fate(Arc::new(fate(0, 2)))]].concat();
    let beyond = [vec![Event::Fate(Arc::new(fate(0, 9)))], events(0, 1)].concat();
    let ends = [vec![end(0, 7, ShardOutcome::Complete(None))], events(0, 1)].concat();
    let short = events(0, 1).into_iter().filter(|e| !matches!(e, Event::Fate(f) if f.info.id.index == 4)).collect();
    let endless = fates(0).into_iter().map(Event::Fate).collect();
    let foreign = events(2, 1);
    let cases: [(&str, Vec<Event>); 6] = [
        ("twice", twice),
        ("larger index", beyond),
        ("end came twice", ends),
        ("6 of 7 fates", short),
        ("its end has not come", endless),
        ("came at its time", foreign),
    ];
    for (text, events) in cases {
        let ran = through(1, &Simulated::new(), vec![(0, events)]);
        let error = ran.error.unwrap_or_else(|| panic!("{text}: no error"));
        assert!(matches!(*error, LedgerError::Fates { .. }) && error.to_string().contains(text), "{text}: {error}");
    }
}

#[test]
fn a_full_disk_ends_the_graph() {
    let probe = Simulated::new();
    drop(open(&root(), &(Arc::new(probe.clone()) as Arc<dyn Storage>)).unwrap());
    let disk = Simulated::new();
    disk.fail_at(Some((probe.steps() + 20, Fault::Full)));
    let ran = through(2, &disk, (0..SHARDS).map(|o| (o, events(o, o))).collect());
    assert!(ran.error.unwrap().is_disk_full());
    assert!(ran.committed.len() < SHARDS as usize);
}
