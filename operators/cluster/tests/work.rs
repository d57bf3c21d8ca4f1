//! What processes do together when all goes well: timely, barriers, messages, counters, samples.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use timely::WorkerConfig;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Capture, Exchange, ToStream, capture::Extract};
use timely::execute::execute_from;

use super::super::message::MAX_FRAME_BYTES;
use super::super::samples::ASKED_AT_ONCE;
use super::super::{Counters, Holding, Message};
use super::*;
use trommel_core::sample::SampleId;

/// Every worker makes numbers, every number goes to the worker that it names.
fn exchanged(process: &Process) -> Vec<(usize, u64)> {
    let (builders, guard) = process.cluster.timely(2).unwrap();
    assert!(process.cluster.timely(2).is_err(), "the sockets are given away once");
    let workers = execute_from(builders, guard, WorkerConfig::default(), |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let captured = worker.dataflow::<u64, _, _>(|scope| {
            let numbers = (0..1000u64).map(move |number| number * peers as u64 + index as u64);
            let numbers = numbers.to_stream(scope).container::<Vec<_>>();
            numbers.exchange(|number| number / 7).map(move |number| (worker_of(number, peers), number)).capture()
        });
        move || (index, captured)
    });
    let mut seen = Vec::new();
    for (index, captured) in workers.unwrap().join().into_iter().map(|worker| worker.unwrap()()) {
        for (to, number) in captured.extract().into_iter().flat_map(|(_, numbers)| numbers) {
            assert_eq!(to, index);
            seen.push((index, number));
        }
    }
    seen
}

fn worker_of(number: u64, peers: usize) -> usize {
    ((number / 7) % peers as u64) as usize
}

#[test]
fn a_dataflow_exchanges_across_three_processes_of_two_workers() {
    let processes = start(3, false);
    let mut seen: Vec<u64> = in_all(&processes, exchanged).concat().into_iter().map(|(_, number)| number).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..6000).collect::<Vec<_>>());
    end(&processes);
}

#[test]
fn one_process_is_a_cluster_too() {
    let processes = start(1, true);
    assert_eq!(exchanged(&processes[0]).len(), 2000);
    assert_eq!(processes[0].cluster.control().barrier("alone", "7").unwrap(), ["7"]);
    assert_eq!(processes[0].cluster.local_host(), "127.0.0.1");
    end(&processes);
}

#[test]
fn barriers_give_everybody_everything_in_turn() {
    let processes = start(3, false);
    in_all(&processes, |process| {
        let own = process.cluster.process();
        for turn in 0..50 {
            let values = process.cluster.control().barrier("turns", &format!("{turn} of {own}")).unwrap();
            assert_eq!(values, (0..3).map(|other| format!("{turn} of {other}")).collect::<Vec<_>>());
        }
    });
    assert_eq!(processes[1].cluster.coordinator_host(), "127.0.0.1");
    end(&processes);
}

/// Cut anywhere between characters, escaped or not, at two barriers at once.
#[test]
fn values_of_any_length_meet_at_a_barrier() {
    let processes = start(3, false);
    let value = |process: usize, turn: usize| match (process + turn) % 3 {
        0 => "\u{1}\"\u{7f}ж€".repeat(300_000),
        1 => String::new(),
        _ => format!("{}{}", "x".repeat(MAX_FRAME_BYTES / 8 - turn), "ю".repeat(MAX_FRAME_BYTES)),
    };
    in_all(&processes, |process| {
        let control = process.cluster.control();
        thread::scope(|scope| {
            for name in ["these", "those"] {
                scope.spawn(move || {
                    for turn in 0..6 {
                        let values = control.barrier(name, &value(control.process(), turn)).unwrap();
                        assert!(values == (0..3).map(|other| value(other, turn)).collect::<Vec<_>>(), "{name} {turn}");
                    }
                });
            }
        });
    });
    end(&processes);
}

#[test]
fn messages_are_kept_until_somebody_takes_them_and_keep_their_order() {
    let processes = start(2, false);
    let text = |kind: &str, number: usize| Message::Text { kind: kind.into(), text: number.to_string() };
    for number in 0..100 {
        processes[1].cluster.control().send(0, text(if number % 2 == 0 { "even" } else { "odd" }, number));
    }
    processes[0].cluster.control().send(0, text("even", 1000));
    for process in &processes {
        process.cluster.control().send(1 - process.cluster.process(), Message::Stop);
    }
    let seen = Arc::new(Mutex::new(HashMap::<String, Vec<(usize, usize)>>::new()));
    for wanted in ["odd", "even"] {
        let seen = seen.clone();
        processes[0].cluster.control().on_message(move |from, message| match message {
            Message::Text { kind, text } if kind == wanted => {
                locked(&seen).entry(kind.clone()).or_default().push((from, text.parse().unwrap()));
                true
            }
            _ => false,
        });
    }
    eventually("all messages", || locked(&seen).values().map(Vec::len).sum::<usize>() == 101);
    let numbers = |kind: &str, from: usize| {
        let all = locked(&seen)[kind].clone();
        all.into_iter().filter(|(sender, _)| *sender == from).map(|(_, number)| number).collect::<Vec<_>>()
    };
    assert_eq!(numbers("even", 1), (0..50).map(|half| 2 * half).collect::<Vec<_>>());
    assert_eq!(numbers("odd", 1), (0..50).map(|half| 2 * half + 1).collect::<Vec<_>>());
    assert_eq!(numbers("even", 0), [1000]);
    let stops = Arc::new(AtomicUsize::new(0));
    let counted = stops.clone();
    processes[0].cluster.control().on_message(move |_, message| {
        counted.fetch_add(usize::from(*message == Message::Stop), Ordering::SeqCst);
        true
    });
    eventually("the stop", || stops.load(Ordering::SeqCst) == 1);
    end(&processes);
}

#[test]
fn many_large_messages_arrive_whole_both_ways() {
    let processes = start(2, false);
    let large = "x".repeat(MAX_FRAME_BYTES - 100);
    let seen: Vec<_> = processes.iter().map(|_| Arc::new(AtomicUsize::new(0))).collect();
    for (process, seen) in processes.iter().zip(&seen) {
        let (seen, length) = (seen.clone(), large.len());
        process.cluster.control().on_message(move |_, message| {
            let Message::Text { text, .. } = message else { return false };
            seen.fetch_add(usize::from(text.len() == length), Ordering::SeqCst);
            true
        });
    }
    in_all(&processes, |process| {
        for _ in 0..30 {
            process.cluster.control().broadcast(Message::Text { kind: "large".into(), text: large.clone() });
        }
    });
    eventually("all of them", || seen.iter().all(|seen| seen.load(Ordering::SeqCst) == 30));
    end(&processes);
}

#[test]
fn counters_travel_with_the_beats() {
    let processes = start_with(2, false, |config, _| config.silence = Duration::from_secs(20));
    processes[1]
        .cluster
        .control()
        .set_counters(|| Counters(BTreeMap::from([("samples".into(), 12.5), ("no number".into(), f64::NAN)])));
    let counters = || processes[0].cluster.control().peers()[1].counters.0.clone();
    eventually("the counters", || counters() == BTreeMap::from([("samples".to_owned(), 12.5)]));
    let peers = processes[0].cluster.control().peers();
    assert_eq!(peers.iter().map(|peer| (peer.process, peer.ended)).collect::<Vec<_>>(), [(0, false), (1, false)]);
    assert_eq!(peers[0].since_heard, Some(Duration::ZERO));
    assert!(peers[1].since_heard.is_some());
    assert!(peers[1].address.starts_with("127.0.0.1:"), "{}", peers[1].address);
    end(&processes);
    assert!(processes[0].cluster.control().peers().iter().all(|peer| peer.ended));
}

struct Held(usize, Mutex<HashMap<(u32, SampleId), Vec<u8>>>);

impl Holding for Held {
    fn take(&self, pass: u32, id: SampleId) -> Option<Vec<u8>> {
        assert!(id.ordinal != 99 || self.0 == 1);
        locked(&self.1).remove(&(pass, id))
    }
}

#[test]
fn samples_move_once_in_the_order_asked() {
    let processes = start(3, true);
    let id = |process: usize, index: u32| SampleId { ordinal: process as u64, index };
    let bytes = |process: usize, index: u32| vec![process as u8; (index as usize * 7919) % 300_000];
    let count = ASKED_AT_ONCE as u32 + 500;
    let all = in_all(&processes, |process| {
        let own = process.cluster.process();
        let held = (0..count).map(|index| ((own as u32, id(own, index)), bytes(own, index))).collect();
        process.cluster.samples(Arc::new(Held(own, Mutex::new(held)))).unwrap()
    });
    assert!(processes[0].cluster.samples(Arc::new(Held(0, Mutex::default()))).is_err());
    thread::scope(|scope| {
        for (own, samples) in all.iter().enumerate() {
            scope.spawn(move || {
                for from in 0..3 {
                    // Each process takes its third of everybody's, and asks for something that nobody holds.
                    let indices = (0..count).rev().filter(|index| *index as usize % 3 == own);
                    let mut wanted: Vec<_> = indices.map(|index| (from as u32, id(from, index))).collect();
                    wanted.insert(3, (7, id(from, 0)));
                    let given = samples.fetch(from, &wanted).unwrap();
                    assert_eq!(given.len(), wanted.len());
                    for (at, ((_, id), given)) in wanted.iter().zip(given).enumerate() {
                        assert_eq!(given, (at != 3).then(|| bytes(from, id.index)), "{id:?}");
                    }
                    assert_eq!(samples.fetch(from, &wanted[..1]).unwrap(), [None], "it was taken");
                }
            });
        }
    });
    assert!(all[0].fetch(3, &[]).is_err());
    assert!(start(2, false)[0].cluster.samples(Arc::new(Held(0, Mutex::default()))).is_err());
    end(&processes);
}
