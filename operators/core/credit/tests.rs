#![allow(clippy::unwrap_used)]

use std::thread;

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
