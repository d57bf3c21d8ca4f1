//! The verdict is a function of the data: whatever the order in which fates arrive, and however they are spread over processes.

use trommel_core::notices::Notices;
use trommel_core::sample::{Fate, SampleId, SampleInfo};

use super::*;

fn fate(ordinal: u64, index: u32, status: Status) -> Event {
    let id = SampleId { ordinal, index };
    let info = Arc::new(SampleInfo { id, ..SampleInfo::default() });
    let reason = (status == Status::Rejected).then(|| Reason::new("no_image", format!("{ordinal}/{index}")));
    Event::Fate(Arc::new(Fate { info, status, reason, scores: Vec::new(), embedding: None }))
}

fn end(ordinal: u64, count: u32, outcome: ShardOutcome) -> Event {
    Event::End(ShardEnd { ordinal, count, bytes: 0, outcome, notices: Notices::default() })
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

/// What a run over these events comes to: `None` while open, else why it is meaningless.
fn verdict(order: Order, events: &[Event]) -> (Option<Option<String>>, Vec<u64>) {
    let (stop, passed) = (Stop::new(), Arc::new(Mutex::new(Vec::new())));
    let hears = passed.clone();
    let first = First::new(order, "jpg", None, &stop, move |ordinal| locked(&hears).push(ordinal));
    events.iter().for_each(|event| first.see(event));
    let state = locked(&first.shared.state);
    let verdict = state.verdict.as_ref().map(|verdict| match verdict {
        Verdict::Sound => None,
        Verdict::Meaningless(why) => Some(why.to_string()),
    });
    assert_eq!(verdict.as_ref().is_some_and(Option::is_some), stop.failure().is_some());
    drop(state);
    let passed = locked(&passed).clone();
    (verdict, passed)
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
            let (verdict, _) = verdict(whole(shards), &shuffled(events(shards), seed));
            assert_eq!(verdict.as_ref(), Some(wanted), "{shards:?} seed {seed}");
        }
    }
}

#[test]
fn a_slice_and_an_unavailable_shard_give_up_nothing() {
    let shards = [(300, false), (300, false)];
    let slice = Order { shards: vec![0], whole: false };
    assert_eq!(verdict(slice, &events(&shards)).0, Some(None));
    assert_eq!(verdict(Order::none(), &[]).0, Some(None));
    let gone = [end(0, 0, ShardOutcome::Unavailable("403".into()))];
    assert_eq!(verdict(whole(&shards), &gone).0, Some(None));
}

#[test]
fn shards_of_rejects_give_their_leases_back_while_the_verdict_is_open() {
    let shards = [(100, false), (0, false), (100, false), (0, true)];
    let some = &events(&shards)[..101 + 1 + 50];
    let (open, passed) = verdict(whole(&shards), some);
    assert_eq!((open, passed), (None, vec![0, 1]));
}

#[test]
fn a_verdict_that_can_not_come_any_more_commits_nothing() {
    let stop = Stop::new();
    let first = First::new(whole(&[(9, false)]), "jpg", None, &stop, |_| {});
    first.see(&fate(0, 0, Status::Rejected));
    assert_eq!(first.may_commit(), None);
    stop.wind_down();
    assert_eq!(first.may_commit(), Some(false));
    let sound = First::new(Order::none(), "jpg", None, &Stop::new(), |_| {});
    assert_eq!(sound.may_commit(), Some(true));
}

#[test]
fn a_committer_waits_for_the_verdict_and_no_longer() {
    let stop = Stop::new();
    let first = First::new(whole(&[(9, true)]), "jpg", None, &stop, |_| {});
    first.see(&fate(0, 9, Status::Kept));
    assert!(first.may_commit() == Some(true) && stop.failure().is_none());
}
