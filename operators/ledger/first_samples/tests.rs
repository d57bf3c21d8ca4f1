//! The verdict is a function of the data: whatever the order in which fates arrive, and however they are spread over processes.

use std::sync::Mutex;

use timely::dataflow::operators::{Input, Inspect};
use trommel_core::sample::{Fate, SampleId, SampleInfo};

use super::*;

fn fate(ordinal: u64, index: u32, status: Status) -> Event {
    let id = SampleId { ordinal, index };
    let info = Arc::new(SampleInfo { id, ..SampleInfo::default() });
    let reason = (status == Status::Rejected).then(|| Reason::new("no_image", format!("{ordinal}/{index}")));
    Event::Fate(Arc::new(Fate { info, status, reason, scores: Vec::new(), embedding: None }))
}

fn end(ordinal: u64, count: u32, outcome: ShardOutcome) -> Event {
    Event::End(ShardEnd { count, outcome, ..ShardEnd::new(ordinal) })
}

/// Shards of so many rejects, then one judged sample where `judged`.
fn events(shards: &[(u32, bool)]) -> Vec<Event> {
    let mut events = Vec::new();
    for (ordinal, &(rejects, judged)) in (0..).zip(shards) {
        events.extend((0..rejects).map(|index| fate(ordinal, index, Status::Rejected)));
        events.extend(judged.then(|| fate(ordinal, rejects, Status::Dropped)));
        events.push(end(ordinal, rejects + u32::from(judged), ShardOutcome::Complete(None)));
    }
    events
}

fn shuffled(mut events: Vec<Event>, seed: u64) -> Vec<Event> {
    let mut state = seed;
    for at in (1..events.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        events.swap(at, (state >> 33) as usize % (at + 1));
    }
    events
}

/// The shard of an event.
fn ordinal_of(event: &Event) -> u64 {
    match event {
        Event::Fate(fate) => fate.info.id.ordinal,
        Event::End(end) => end.ordinal,
    }
}

/// What a run over these events comes to: `None` while open, else why it is meaningless; and the shards whose leases return before.
/// Every shard is read by one of so many workers.
fn verdict(order: Order, events: &[Event], workers: usize) -> (Option<Option<String>>, Vec<u64>) {
    let (stop, out) = (Stop::new(), Arc::new(Mutex::new((0, vec![Vec::new(); workers]))));
    let (first, heard, given) = (First::new(order, "jpg", &stop), out.clone(), events.to_vec());
    let is_settled = first.is_settled();
    timely::execute(timely::Config::process(workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers() as u64);
        let mut input = worker.dataflow::<Time, _, _>(|scope| {
            let (input, events) = scope.new_input::<Vec<Event>>();
            let (events, words) = words(events, &first);
            let (passed_by, heard) = (heard.clone(), heard.clone());
            events.inspect(move |_| passed_by.lock().unwrap().0 += 1);
            words.inspect(move |word| heard.lock().unwrap().1[index].push(*word));
            input
        });
        for event in given.iter().filter(|event| ordinal_of(event) % peers == index as u64) {
            input.send(event.clone());
        }
    })
    .unwrap();
    let (count, words) = std::mem::take(&mut *out.lock().unwrap());
    assert_eq!(count, events.len(), "all events go on");
    assert!(words.iter().all(|of| *of == words[0]), "every worker hears the same: {words:?}");
    let sound = words[0].iter().filter(|word| **word == Word::Sound).count();
    let failure = stop.failure().map(|failure| failure.to_string());
    assert!(sound + usize::from(failure.is_some()) <= 1);
    let passed = |word: &Word| if let Word::Passed(ordinal) = word { Some(*ordinal) } else { None };
    let verdict = (sound > 0 || failure.is_some() || is_settled).then_some(failure);
    (verdict, words[0].iter().filter_map(passed).collect())
}

fn whole(shards: &[(u32, bool)]) -> Order {
    Order { shards: (0..shards.len() as u64).collect(), whole: true }
}

#[test]
fn the_plans_first_samples_decide_whatever_comes_first() {
    let all = |n: u32, at: &str| {
        Some(format!("all of the first {n} samples were rejected (no_image: {at}); is --image-key `jpg` right?"))
    };
    type Case = (&'static [(u32, bool)], Option<String>);
    let cases: &[Case] = &[
        (&[(0, true)], None),
        (&[(511, true), (900, false)], None),
        (&[(512, true), (0, true)], all(512, "0/0")),
        (&[(900, false), (0, true), (0, true)], all(512, "0/0")),
        (&[(0, false), (300, false), (211, true)], None),
        (&[(0, false), (300, false), (212, true)], all(512, "1/0")),
        (&[(300, false), (100, false)], all(400, "0/0")),
        (&[(0, false), (0, false)], None),
        (&[(5, false), (0, true), (2000, false)], None),
    ];
    for (shards, wanted) in cases {
        for seed in 0..20 {
            let (verdict, _) = verdict(whole(shards), &shuffled(events(shards), seed), 1 + seed as usize % 3);
            assert_eq!(verdict.as_ref(), Some(wanted), "{shards:?} seed {seed}");
        }
    }
}

#[test]
fn a_slice_and_an_unavailable_shard_give_up_nothing() {
    let shards = [(300, false), (300, false)];
    let slice = Order { shards: vec![0], whole: false };
    assert_eq!(verdict(slice, &events(&shards), 1).0, Some(None));
    assert_eq!(verdict(Order::none(), &[], 1).0, Some(None));
    let gone = [end(0, 0, ShardOutcome::Unavailable("403".into()))];
    assert_eq!(verdict(whole(&shards), &gone, 1).0, Some(None));
}

#[test]
fn shards_of_rejects_give_their_leases_back_while_the_verdict_is_open() {
    let shards = [(100, false), (0, false), (100, false), (0, true)];
    let some = &events(&shards)[..101 + 1 + 50];
    let (open, passed) = verdict(whole(&shards), some, 1);
    assert_eq!((open, passed), (None, vec![0, 1]));
}

#[test]
fn one_judged_sample_is_enough() {
    let (sound, passed) = verdict(whole(&[(9, true)]), &[fate(0, 9, Status::Kept)], 1);
    assert_eq!((sound, passed), (Some(None), Vec::new()));
}
