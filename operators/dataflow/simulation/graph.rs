//! One attempt: the real operators on real workers, until the end, a fault, or the moment of stopping.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Concatenate;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Map;

use super::scenario::{Dice, Fate, Fault, Scenario};
use super::stages::{Arrival, Held, Ledger, Reader, Sample, Tag, World};
use super::{growth, model, stages};
use crate::batch::{BatchConfig, BatchOffload, BatchService};
use crate::leases::{Dynamic, LaneLeases};
use crate::offload::{Offload, Pool};
use crate::order::{Cursor, OrderConfig, OrderService, Slot};
use crate::part::PartInTwo;
use crate::source::{Leases, source};
use crate::watchdog::Watchdog;
use trommel_core::credit::{Credit, CreditConfig, Gauge, Permit};
use trommel_core::sample::{Time, Work};
use trommel_core::stop::{Failure, Stop};
use trommel_core::wake::locked;

/// Either way of giving out shards.
#[derive(Clone)]
enum Plan {
    Once(Arc<Dynamic>),
    Passes(Arc<LaneLeases>),
}

impl Plan {
    fn leases(&self) -> Arc<dyn Leases> {
        match self {
            Self::Once(leases) => leases.clone(),
            Self::Passes(leases) => leases.clone(),
        }
    }

    fn committed(&self, ordinal: u64) {
        match self {
            Self::Once(leases) => leases.committed(ordinal),
            Self::Passes(leases) => leases.committed(ordinal),
        }
    }
}

/// Where an attempt begins and how it is disturbed.
pub struct Begin {
    pub cursor: Option<Cursor>,
    pub committed: Ledger,
    pub stop_at: Option<u64>,
    pub fault: Option<Fault>,
    /// Shards of a growing assignment that are there at once.
    pub assigned: u64,
}

/// What an attempt left behind.
pub struct Outcome {
    pub batches: Vec<model::Batch>,
    pub cursor: Option<Cursor>,
    pub ledger: Ledger,
    pub left_over: u64,
    pub stopped: bool,
    pub failure: Option<Failure>,
    pub errors: Vec<String>,
    pub gauge: Gauge,
    pub peak_held: i64,
    pub held: i64,
    pub assigned: u64,
}

type Everything = (Arc<World>, Plan, Credit, Pool, BatchService<(u64, u32), bool>, OrderService<Sample>);

pub fn order_config(scenario: &Scenario) -> OrderConfig {
    OrderConfig {
        lanes: scenario.readers,
        window_samples: scenario.window_samples,
        window_bytes: scenario.window_bytes,
        seed: scenario.seed,
        ..OrderConfig::default()
    }
}

pub fn attempt(scenario: &Scenario, begin: Begin, watchdog: &Watchdog) -> Outcome {
    let stop = Stop::new();
    let decided = begin.committed.committed.keys().copied().collect();
    let lanes = growth::assignment(scenario, begin.cursor.as_ref(), begin.assigned);
    let world = Arc::new(World {
        scenario: scenario.clone(),
        assignment: lanes.clone(),
        stop: stop.clone(),
        held: Arc::new(Held::default()),
        fault: begin.fault,
        decided,
        ledger: Mutex::new(begin.committed),
        errors: Mutex::default(),
        ticks: AtomicU64::new(0),
        stop_at: begin.stop_at,
        beats: AtomicU64::new(0),
        workers: Mutex::default(),
        dice: Mutex::new(Dice(scenario.seed)),
    });
    let config =
        CreditConfig { budget_bytes: scenario.budget, lanes: scenario.readers, quantum_bytes: scenario.quantum };
    let credit =
        Credit::new(config.clone(), stop.clone()).with_records(stages::lane_record_bytes(scenario.group_bytes));
    watchdog.watch_credit(&credit);
    let done: Vec<u64> = world.decided.iter().copied().collect();
    let plan = if scenario.train {
        Plan::Passes(Arc::new(LaneLeases::new(lanes.clone(), Some(scenario.passes), begin.cursor.as_ref(), done)))
    } else {
        let missing = (0..scenario.shards.len() as u64).filter(|ordinal| !done.contains(ordinal));
        Plan::Once(Arc::new(Dynamic::new(missing, scenario.max_open)))
    };
    // While pruning nobody takes turns: the order that is not used has a credit that is not used.
    let turns = if scenario.train { credit.clone() } else { Credit::new(config, stop.clone()) };
    let order = OrderService::new(
        &order_config(scenario),
        lanes,
        Some(scenario.passes),
        begin.cursor.as_ref(),
        turns,
        stop.clone(),
    );
    let order = order.expect("its own cursor");
    watchdog.watch_order(&order);
    let alive = Arc::new(()); // The trainer's thread and those of batches hold one.
    let pool = Pool::with_stop("decode", scenario.pool_threads, &stop);
    watchdog.watch_pool(&pool);
    let service = service(&world, &credit, &alive);
    watchdog.watch_batches(&service);
    let trainer = {
        let (world, order, holds) = (world.clone(), order.clone(), alive.clone());
        thread::spawn(move || {
            let _alive = holds;
            train(&world, &order)
        })
    };
    let feeder = {
        let (world, dice) = (world.clone(), Dice(scenario.seed ^ (begin.assigned << 20)));
        thread::spawn(move || growth::feed(&world, dice))
    };
    let everything: Everything = (world.clone(), plan, credit.clone(), pool, service, order.clone());
    let shared = Mutex::new(Some(everything.clone()));
    let count = scenario.workers;
    let guards = timely::execute(timely::Config::process(count), move |worker| {
        let everything = locked(&shared).clone().expect("there while workers start");
        let world = everything.0.clone();
        locked(&world.workers).insert(thread::current().id());
        worker.dataflow(|scope| build(scope, &everything));
        drop(everything);
        while worker.has_dataflows() {
            let beat = world.scenario.beats.then(|| Duration::from_micros(200));
            worker.step_or_park(beat);
            world.beats.fetch_add(1, Ordering::SeqCst);
        }
    });
    let results: Vec<Result<(), String>> = guards.expect("workers start").join();
    for result in results {
        result.unwrap_or_else(|error| world.error(error));
    }
    drop(everything);
    feeder.join().expect("the feeder does not panic");
    if !scenario.train {
        order.close();
    }
    let (batches, cursor) = trainer.join().expect("the trainer does not panic");
    let (stopped, left_over) = (stop.is_requested(), order.left_over());
    drop(order);
    // Everything ends: threads, samples, permits.
    let bound = Instant::now() + Duration::from_secs(20);
    let settled = || {
        let gauge = credit.gauge();
        let threads = Arc::strong_count(&alive) == 1 && Arc::strong_count(&world) <= 2;
        threads && gauge.used_bytes + gauge.oversized_bytes + gauge.reserve_bytes + gauge.workspace_bytes == 0
    };
    while !settled() && Instant::now() < bound {
        thread::yield_now();
    }
    if !settled() {
        let (threads, worlds) = (Arc::strong_count(&alive), Arc::strong_count(&world));
        world.error(format!("not all returned: {:?}, {threads} threads, {worlds} worlds", credit.gauge()));
    }
    let load = |value: &AtomicI64| value.load(Ordering::SeqCst);
    Outcome {
        batches,
        cursor,
        ledger: std::mem::take(&mut locked(&world.ledger)),
        left_over,
        stopped,
        failure: stop.failure(),
        errors: std::mem::take(&mut locked(&world.errors)),
        gauge: credit.gauge(),
        peak_held: load(&world.held.peak),
        held: load(&world.held.now),
        assigned: world.assignment.shards() as u64,
    }
}

fn service(world: &Arc<World>, credit: &Credit, alive: &Arc<()>) -> BatchService<(u64, u32), bool> {
    let config = BatchConfig {
        batch: world.scenario.service_batch,
        idle_ms: world.scenario.seed % 2,
        hurry_ms: 0,
        ..BatchConfig::named("embed")
    };
    let (shared, holds) = (world.clone(), alive.clone());
    let make = move || {
        if shared.fault == Some(Fault::NotMade) {
            return Err("planned");
        }
        let not_send = std::rc::Rc::new(holds);
        let mut full = 0;
        Ok(move |batch: Vec<(u64, u32)>| {
            let _alive = &not_send;
            shared.off_worker();
            shared.tick();
            full += 1;
            assert!(shared.fault != Some(Fault::BatchPanics) || full < 3, "planned");
            assert!((1..=shared.scenario.service_batch).contains(&batch.len()), "a batch of {}", batch.len());
            let made = |(ordinal, index): (u64, u32)| shared.scenario.shards[ordinal as usize][index as usize];
            batch.into_iter().map(|id| made(id).fate == Fate::Kept).collect()
        })
    };
    BatchService::spawn(config, credit.clone(), world.stop.clone(), make)
}

fn build(scope: Scope<'_, Time>, (world, plan, credit, pool, service, order): &Everything) {
    let (index, peers, readers) = (scope.index(), scope.peers(), world.scenario.readers);
    let mine = index * readers / peers..(index + 1) * readers / peers;
    let (credit, stop) = (credit.clone(), world.stop.clone());
    let items = source(scope, "shards", plan.leases(), Arc::new(Reader(world.clone())), mine, credit, stop);
    let (samples, others) = items.part(|item| item);
    let decoding = world.clone();
    let decode = move |mut sample: Sample| {
        decoding.off_worker();
        decoding.tick();
        let made = decoding.scenario.shards[sample.id.ordinal as usize][sample.id.index as usize];
        if made.fate == Fate::PanicsInDecode {
            std::panic::panic_any("planned");
        }
        sample.tracked.shrink_to(made.bytes / 2);
        sample.permit.shrink_to(made.bytes / 2);
        Ok(sample)
    };
    let tag =
        |sample: &Sample| Tag { pass: sample.pass, id: sample.id, work: sample.work, record: sample.record.clone() };
    let decoded = samples.offload("decode", pool, tag, decode, |tag, _panic| Err(Arrival::Gone(tag, false)));
    let (decoded, rejected) = decoded.part(|result| result);
    let (judged, replayed) =
        decoded.part(|sample: Sample| if sample.work == Work::Replay { Err(sample) } else { Ok(sample) });
    let split = |sample: Sample| ((sample.id.ordinal, sample.id.index), sample);
    let pruned = judged.batch_offload("embed", service, split, move |sample, kept| match kept {
        Ok(true) => Arrival::Kept(sample),
        Ok(false) => Arrival::Gone(tag(&sample), false),
        Err(panic) => panic!("a fatal error reached a sample: {panic}"),
    });
    let arrivals = scope.concatenate([others.map(|other| other), rejected, pruned, replayed.map(Arrival::Kept)]);
    let (world, plan, order) = (world.clone(), plan.clone(), order.clone());
    arrivals.sink(Pipeline, "ledger and order", move |(input, frontier)| {
        input.for_each(|_cap, data| data.drain(..).for_each(|arrival| arrive(arrival, &world, &plan, &order)));
        // T2: what the frontier has passed is complete.
        let ledger = locked(&world.ledger);
        let passed = ledger.leased.iter().filter(|time| !frontier.less_equal(time));
        let torn =
            passed.map(|time| trommel_core::sample::ordinal_of(*time)).find(|o| !ledger.committed.contains_key(o));
        drop(ledger);
        if let Some(ordinal) = torn.filter(|_| !world.stop.is_requested()) {
            world.error(format!("the frontier passed shard {ordinal}, which is not complete"));
        }
    });
}

fn arrive(arrival: Arrival, world: &World, plan: &Plan, order: &OrderService<Sample>) {
    world.tick();
    let train = world.scenario.train;
    let done = match arrival {
        Arrival::Kept(sample) => {
            let (pass, id, work, record) = (sample.pass, sample.id, sample.work, sample.record.clone());
            if train && work != Work::JudgeOnly {
                let Sample { tracked, permit, .. } = sample;
                let bytes = permit.bytes();
                // The record is the ledger's, not the order's.
                let sample = Sample { tracked, permit: Permit::free(), pass, id, work, record: Arc::default() };
                let content = Some((bytes, (permit, sample)));
                let _fails_the_run = order.offer(Slot { pass, id, content });
            }
            let group_bytes = world.scenario.group_bytes;
            if work == Work::Replay { Ok(false) } else { locked(&world.ledger).fate(id, true, record, group_bytes) }
                .map(|done| (id.ordinal, done))
        }
        Arrival::Gone(tag, kept) => {
            if train {
                let _fails_the_run = order.offer(Slot::hole(tag.pass, tag.id.ordinal, tag.id.index));
            }
            let Tag { id, work, record, .. } = tag;
            let ledger = || locked(&world.ledger).fate(id, kept, record, world.scenario.group_bytes);
            if work == Work::Replay { Ok(false) } else { ledger() }.map(|done| (id.ordinal, done))
        }
        Arrival::End { pass, ordinal, count, replay } => {
            if train {
                let _fails_the_run = order.end(pass, ordinal, count);
            }
            if replay { Ok(false) } else { locked(&world.ledger).end(ordinal, count) }.map(|done| (ordinal, done))
        }
    };
    match done {
        Ok((ordinal, true)) => plan.committed(ordinal),
        Ok(_) => {}
        Err(error) => world.error(error),
    }
}

type Trained = (Vec<model::Batch>, Option<Cursor>);

fn train(world: &World, order: &OrderService<Sample>) -> Trained {
    let (mut batches, mut cursor) = (Vec::new(), None);
    if !world.scenario.train {
        return (batches, cursor);
    }
    while let Some(batch) = order.next_batch(world.scenario.batch) {
        let numbers: Vec<u64> = batch.samples.iter().map(|sample| sample.number).collect();
        let expected: Vec<u64> = (batch.first_number..).take(world.scenario.batch).collect();
        if numbers != expected || batch.first_number % world.scenario.batch as u64 != 0 {
            world.error(format!("a batch of the numbers {numbers:?}"));
        }
        if batch.samples.iter().any(|sample| sample.payload.sample.pass != batch.pass) {
            world.error("a batch of two passes".into());
        }
        let ids = batch.samples.iter().map(|s| (s.id.ordinal, s.id.index)).collect();
        batches.push((batch.pass, ids, batch.turns_before));
        // Through its written form, as a checkpoint would.
        let written = serde_json::to_string(&batch.cursor_after).expect("plain numbers");
        cursor = Some(serde_json::from_str(&written).expect("as written"));
        world.tick();
    }
    (batches, cursor)
}
