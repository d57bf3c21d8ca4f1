#![allow(clippy::unwrap_used)]

use std::thread;

use super::core::Claim;
use super::workspace::{NoRoom, OWN_BYTES};
use super::*;

fn credit(budget_bytes: u64, lanes: usize, quantum_bytes: u64) -> (Credit, Stop) {
    let stop = Stop::new();
    (Credit::new(CreditConfig { budget_bytes, lanes, quantum_bytes }, stop.clone()), stop)
}

#[test]
fn a_lane_always_has_its_quantum() {
    let (credit, _stop) = credit(100, 2, 20);
    let shared = credit.acquire(0, 60).unwrap();
    assert!(credit.try_acquire(0, 21).is_none());
    let own = credit.try_acquire(1, 20).unwrap();
    assert!(credit.try_acquire(1, 1).is_none());
    assert_eq!((shared.bytes(), own.bytes(), credit.gauge().used_bytes), (60, 20, 80));
    drop((shared, own));
    assert_eq!(credit.gauge().used_bytes, 0);
}

#[test]
fn one_oversized_sample_passes_outside() {
    let (credit, _stop) = credit(100, 2, 20);
    let large = credit.acquire(0, 1000).unwrap();
    assert!(credit.try_acquire(1, 1000).is_none());
    let waiter = {
        let credit = credit.clone();
        thread::spawn(move || credit.acquire(1, 500).map(|permit| permit.bytes()))
    };
    while !credit.waiting() {
        thread::yield_now();
    }
    assert_eq!(credit.gauge().used_bytes, 0);
    drop(large);
    assert_eq!(waiter.join().unwrap(), Ok(500));
    assert_eq!(credit.gauge().peak_oversized, 1);
}

#[test]
fn with_turns_only_the_lane_in_turn_passes_outside() {
    let (credit, _stop) = credit(100, 2, 20);
    credit.set_turn(Turn::Lane(1));
    assert!(credit.try_acquire(0, 1000).is_none());
    let large = credit.try_acquire(1, 1000).unwrap();
    assert!(credit.try_acquire(1, 1000).is_none());
    credit.set_turn(Turn::Lane(0));
    // The other lane's sample waits for ours, so it cannot keep us out.
    let ours = credit.try_acquire(0, 81).unwrap();
    credit.set_turn(Turn::Nobody);
    assert_eq!(credit.gauge().oversized, 2);
    drop((large, ours));
    assert_eq!(credit.gauge().oversized, 0);
}

#[test]
fn a_large_request_is_not_starved_by_small_ones() {
    let (credit, _stop) = credit(100, 2, 10);
    let first = credit.acquire(0, 50).unwrap();
    let waiter = {
        let credit = credit.clone();
        thread::spawn(move || credit.acquire(1, 80).unwrap().bytes())
    };
    while !credit.waiting() {
        thread::yield_now();
    }
    assert!(credit.try_acquire(0, 11).is_none(), "the shared part is kept for the one that waits");
    let own = credit.try_acquire(0, 10).unwrap();
    drop(first);
    assert_eq!(waiter.join().unwrap(), 80);
    drop(own);
}

#[test]
fn a_stop_wakes_the_waiting() {
    let (credit, stop) = credit(10, 1, 10);
    let _held = credit.acquire(0, 10).unwrap();
    let woken = Arc::new(AtomicUsize::new(0));
    let counted = woken.clone();
    let _registration = credit.on_waiting(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let waiter = {
        let credit = credit.clone();
        thread::spawn(move || credit.acquire(0, 1).map(drop))
    };
    while !credit.waiting() {
        thread::yield_now();
    }
    stop.request();
    assert_eq!(waiter.join().unwrap(), Err(Stopped));
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    assert_eq!(credit.acquire(0, 0).map(drop), Err(Stopped));
}

/// What is in flight, as a list of what each one holds.
#[derive(Default)]
struct Naive {
    samples: Vec<(usize, Pocket, u64)>,
    /// Claims, and whether each has been told that it is there.
    claims: Vec<(usize, u64, bool)>,
}

impl Naive {
    fn held(&self, which: impl Fn(usize, Pocket) -> bool) -> u64 {
        self.samples.iter().filter(|(lane, pocket, _)| which(*lane, *pocket)).map(|(_, _, bytes)| bytes).sum()
    }

    fn claimed(&self) -> u64 {
        self.claims.iter().map(|(_, bytes, _)| bytes).sum()
    }
}

/// Samples and workspaces of three lanes come and go at random; the core's answers are those of sums over a list.
#[test]
fn workspaces_and_samples_share_the_budget_as_a_naive_model_says() {
    const LANES: usize = 3;
    let (mut granted, mut refused, mut cleared) = (0, 0, 0);
    for seed in 0..300u64 {
        let mut state = seed;
        let mut dice = |below: u64| {
            state = crate::hash::Hash64::new("dice").bytes(&state.to_le_bytes()).finish();
            state % below
        };
        let (quantum, shared) = (1 + dice(20), dice(100));
        let beside = if seed % 2 == 0 { 0 } else { dice(100) };
        let config = CreditConfig { budget_bytes: shared + quantum * 3, lanes: LANES, quantum_bytes: quantum };
        let (mut core, mut naive) = (Core::new(&config), Naive::default());
        core.set_beside(beside);
        for _ in 0..200 {
            let (lane, bytes) = (dice(3) as usize, 1 + dice(60));
            match dice(5) {
                0 | 1 => {
                    let room = shared - naive.claimed().saturating_sub(beside);
                    let own = naive.held(|of, pocket| of == lane && pocket == Pocket::Own);
                    let (used, out) =
                        (naive.held(|_, p| p == Pocket::Shared), naive.samples.iter().any(|s| s.1 == Pocket::Outside));
                    let expected = match () {
                        () if own + bytes <= quantum => Some(Pocket::Own),
                        () if used + bytes <= room => Some(Pocket::Shared),
                        () if bytes > quantum && bytes > room && !out => Some(Pocket::Outside),
                        () => None,
                    };
                    assert_eq!(core.grant(lane, bytes, None), expected, "seed {seed}");
                    naive.samples.extend(expected.map(|pocket| (lane, pocket, bytes)));
                }
                2 => {
                    let fits = naive.claimed() + bytes <= shared + beside;
                    assert_eq!(core.claim(bytes, 0) == Claim::Taken, fits, "seed {seed}");
                    (granted, refused) = (granted + u64::from(fits), refused + u64::from(!fits));
                    naive.claims.extend(fits.then_some((lane, bytes, false)));
                }
                3 if !naive.samples.is_empty() => {
                    let at = dice(naive.samples.len() as u64) as usize;
                    let (lane, pocket, bytes) = naive.samples.swap_remove(at);
                    core.give_back(lane, pocket, bytes, 0);
                }
                _ if !naive.claims.is_empty() => {
                    let at = dice(naive.claims.len() as u64) as usize;
                    core.unclaim(naive.claims.swap_remove(at).1);
                }
                _ => {}
            }
            let narrowed = naive.claimed().saturating_sub(beside);
            let clear = naive.held(|_, pocket| pocket == Pocket::Shared) + narrowed <= shared;
            for (lane, _, there) in &mut naive.claims {
                assert_eq!(core.is_clear(*lane), clear, "seed {seed}");
                cleared += u64::from(clear && !*there);
                *there |= clear;
            }
            // The memory that is really taken: samples inside, and the workspaces that are there.
            let there: u64 = naive.claims.iter().filter(|claim| claim.2).map(|claim| claim.1).sum();
            let inside = naive.held(|_, pocket| pocket != Pocket::Outside);
            assert!(inside + there <= config.budget_bytes + beside, "seed {seed}: {inside} and {there}");
            assert_eq!((core.gauge().used_bytes, core.gauge().workspace_bytes), (inside, naive.claimed()));
        }
    }
    assert!(granted > 1000 && refused > 1000 && cleared > 1000, "{granted} {refused} {cleared}");
}

#[test]
fn a_workspace_waits_for_samples_and_for_other_workspaces() {
    let (credit, _stop) = credit(120, 2, 20);
    let sample = credit.acquire(0, 60).unwrap();
    let wait = |bytes: u64| {
        let credit = credit.clone();
        thread::spawn(move || {
            let mut workspace = credit.workspace(1);
            workspace.open(OWN_BYTES + bytes).map(|()| workspace)
        })
    };
    let first = wait(50);
    while credit.gauge().workspace_bytes == 0 {
        thread::yield_now();
    }
    assert!(credit.try_acquire(1, 21).is_none(), "the samples' room is narrower from now on");
    let second = wait(40);
    while credit.gauge().waiting < 2 {
        thread::yield_now();
    }
    drop(sample);
    let first = first.join().unwrap().unwrap();
    assert_eq!(credit.gauge().workspace_bytes, 50);
    drop(first);
    let second = second.join().unwrap().unwrap();
    assert_eq!(credit.gauge().workspace_bytes, 40);
    let full = NoRoom::Full { most_bytes: 80, held_bytes: 40 };
    assert_eq!(credit.workspace(0).open(OWN_BYTES + 81), Err(full), "no budget of this size ever has that");
    drop(second);
    assert_eq!(credit.workspace(0).open(OWN_BYTES + 80), Ok(()));
    assert_eq!(credit.workspace(0).open(OWN_BYTES), Ok(()), "asks for nothing");
    assert_eq!(credit.gauge().workspace_bytes, 0);
}

#[test]
fn with_turns_a_workspace_without_room_is_refused_and_the_lane_in_turn_waits_for_no_sample() {
    let (credit, stop) = credit(100, 2, 10);
    credit.set_turn(Turn::Lane(1));
    let sample = credit.acquire(0, 80).unwrap();
    let mut mine = credit.workspace(1);
    mine.open(OWN_BYTES + 50).unwrap();
    let full = NoRoom::Full { most_bytes: 80, held_bytes: 50 };
    assert_eq!(credit.workspace(0).open(OWN_BYTES + 31), Err(full), "a lane that waits for ours holds the rest");
    let full = NoRoom::Full { most_bytes: 80, held_bytes: 0 };
    assert_eq!(mine.grow(OWN_BYTES + 81), Err(full));
    mine.grow(OWN_BYTES + 60).unwrap();
    assert_eq!(credit.gauge().workspace_bytes, 60);
    let waiter = thread::spawn({
        let credit = credit.clone();
        move || credit.workspace(0).open(OWN_BYTES + 20)
    });
    while credit.gauge().workspace_bytes < 80 {
        thread::yield_now();
    }
    stop.request();
    assert_eq!(waiter.join().unwrap(), Err(NoRoom::Stopped));
    drop((mine, sample));
    assert_eq!((credit.gauge().workspace_bytes, credit.gauge().used_bytes), (0, 0));
}

/// A shard may begin with a frame that holds nothing: its reader asks a second time before a byte is out.
#[test]
fn a_workspace_that_holds_something_waits_for_no_other() {
    let (credit, stop) = credit(100, 2, 0);
    let _waits = credit.on_waiting(move || stop.request()); // where it waits after all, it comes back as stopped
    let mut mine = credit.workspace(0);
    mine.open(OWN_BYTES + 60).unwrap();
    let full = |held_bytes| Err(NoRoom::Full { most_bytes: 100, held_bytes });
    assert_eq!(mine.open(OWN_BYTES + 110), full(0), "it would wait for itself");
    let mut others = credit.workspace(1);
    others.open(OWN_BYTES + 30).unwrap();
    assert_eq!(others.open(OWN_BYTES + 50), full(60), "each would wait for the other");
    assert_eq!(mine.open(OWN_BYTES + 80), full(30), "each would wait for the other");
    drop(others);
    mine.open(OWN_BYTES + 80).unwrap();
    assert_eq!(credit.gauge().workspace_bytes, 80);
}

#[test]
fn a_reserve_returns_the_credit_at_once() {
    let (credit, _stop) = credit(10, 1, 10);
    let reserve = credit.acquire(0, 7).unwrap().into_reserve();
    assert_eq!((credit.gauge().used_bytes, credit.gauge().reserve_bytes, reserve.bytes()), (0, 7, 7));
    drop(reserve);
    assert_eq!(credit.gauge().reserve_bytes, 0);
    assert_eq!(Permit::free().into_reserve().bytes(), 0);
}

#[test]
fn the_turn_of_a_lane_that_another_process_reads_is_nobodys_here() {
    let (credit, _stop) = credit(20, 2, 10);
    credit.reads(4..6);
    credit.set_turn(Turn::Lane(2)); // 2 % 2 is where lane 4 stands
    assert!(credit.try_acquire(4, 50).is_none());
    credit.set_turn(Turn::Lane(5));
    assert!(credit.try_acquire(4, 50).is_none());
    let outside = credit.try_acquire(5, 50).unwrap();
    assert_eq!(credit.gauge().oversized_bytes, 50);
    drop(outside);
}
