#![allow(clippy::unwrap_used, clippy::type_complexity)]

use std::collections::VecDeque;

use timely::dataflow::operators::{Capture, ToStream, capture::Extract};

use super::*;
use trommel_core::credit::CreditConfig;

/// Sends 0..10 through a service of batches of at most 4; gives the answers in order, and the service's stop and gauge.
fn answers<F, E>(
    fatal: bool,
    make: impl FnOnce() -> Result<F, E> + Send + 'static,
) -> (Vec<(u32, Result<u32, JobFault>)>, Stop, BatchGauge)
where
    F: FnMut(Vec<u32>) -> Vec<u32> + 'static,
    E: Into<Cause>,
{
    let stop = Stop::new();
    let credit = Credit::new(CreditConfig { budget_bytes: 1, lanes: 1, quantum_bytes: 1 }, stop.clone());
    let config = BatchConfig { batch: 4, fatal, ..BatchConfig::named("test") };
    let service = BatchService::spawn(config, credit, stop.clone(), make);
    let watched = service.clone();
    let captured = timely::example(move |scope| {
        let numbers = (0..10u32).collect::<Vec<_>>().to_stream(scope).container::<Vec<_>>();
        let join = |x, answer: Result<u32, JobPanic>| (x, answer.map_err(|panic| panic.fault));
        numbers.batch_offload("test", &service, |x| (x, x), join).capture()
    });
    let mut answers: Vec<_> = captured.extract().into_iter().flat_map(|(_, data)| data).collect();
    answers.sort_by_key(|(x, _)| *x);
    (answers, stop, watched.gauge())
}

#[test]
fn batches_are_full_but_the_last() {
    let (answers, stop, gauge) =
        answers(true, || Ok::<_, String>(|batch: Vec<u32>| batch.into_iter().map(|x| x * x).collect()));
    assert_eq!(answers, (0..10).map(|x| (x, Ok(x * x))).collect::<Vec<_>>());
    assert!(!stop.is_requested());
    assert_eq!((gauge.items, gauge.queued), (10, 0));
    assert!(gauge.batches >= 3 && gauge.full_batches <= 2, "{gauge:?}");
}

#[test]
fn a_failing_function_answers_every_waiter() {
    let (panicked, stop, _) = answers(false, || {
        Ok::<_, String>(|batch: Vec<u32>| -> Vec<u32> {
            if batch.is_empty() { batch } else { std::panic::panic_any("planned") }
        })
    });
    assert!(panicked.len() == 10 && panicked.iter().all(|(_, answer)| *answer == Err(JobFault::Panicked)));
    let (wrong, _, _) = answers(false, || Ok::<_, String>(|_: Vec<u32>| Vec::new()));
    assert!(wrong.len() == 10 && wrong.iter().all(|(_, answer)| *answer == Err(JobFault::WrongCount)));
    let (not_made, _, _) = answers(false, || Err::<fn(Vec<u32>) -> Vec<u32>, _>("no such file"));
    assert!(not_made.len() == 10 && not_made.iter().all(|(_, answer)| *answer == Err(JobFault::NotMade)));
    assert!(stop.failure().is_none());
}

#[test]
fn a_fatal_failure_is_the_runs_and_reaches_no_sample() {
    let (answers, stop, _) = answers(true, || Err::<fn(Vec<u32>) -> Vec<u32>, _>("no such file"));
    assert_eq!(answers, []);
    let failure = stop.failure().unwrap();
    let panic = failure.error.downcast_ref::<JobPanic>().unwrap();
    assert_eq!((panic.fault, panic.message.as_str()), (JobFault::NotMade, "no such file"));
}

/// A function on another thread that has several batches on their way, and answers each item with a hash of what its slot holds.
struct Elsewhere {
    depth: usize,
    slots: Vec<Vec<u64>>,
    free: VecDeque<usize>,
    to: crossbeam_channel::Sender<(usize, usize, Vec<u64>)>,
    from: crossbeam_channel::Receiver<(usize, usize, Vec<u64>)>,
    arrived: VecDeque<(usize, usize, Vec<u64>)>,
    submitted: u64,
    panics_at: Option<(u64, bool)>,
    most: Arc<AtomicUsize>,
    flying: usize,
}

fn hash(x: u64) -> u64 {
    x.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ x
}

impl Elsewhere {
    fn new(depth: usize, batch: usize, panics_at: Option<(u64, bool)>, most: Arc<AtomicUsize>) -> Self {
        let (to, inbox) = crossbeam_channel::unbounded::<(usize, usize, Vec<u64>)>();
        let (outbox, from) = crossbeam_channel::unbounded();
        thread::spawn(move || {
            for (slot, count, held) in inbox {
                thread::sleep(std::time::Duration::from_micros(50 * (held[0] % 7)));
                let _gone = outbox.send((slot, count, held.into_iter().map(hash).collect()));
            }
        });
        let slots = vec![vec![u64::MAX; batch]; depth];
        let (free, arrived) = ((0..depth).collect(), VecDeque::new());
        Self { depth, slots, free, to, from, arrived, submitted: 0, panics_at, most, flying: 0 }
    }

    fn panics(&self, of: u64, collecting: bool) {
        if self.panics_at == Some((of, collecting)) {
            std::panic::panic_any("planned");
        }
    }
}

impl Batched<u64, u64> for Elsewhere {
    fn depth(&self) -> usize {
        self.depth
    }

    fn submit(&mut self, inputs: Vec<u64>) {
        self.submitted += 1;
        self.panics(self.submitted, false);
        self.flying += 1;
        self.most.fetch_max(self.flying, Ordering::SeqCst);
        let slot = self.free.pop_front().expect("the service never submits more than there are slots");
        let held = &mut self.slots[slot];
        held[..inputs.len()].copy_from_slice(&inputs); // the rest is the batch before
        self.to.send((slot, inputs.len(), held.clone())).unwrap();
    }

    fn is_done(&mut self) -> bool {
        self.arrived.extend(self.from.try_iter());
        !self.arrived.is_empty()
    }

    fn collect(&mut self) -> Vec<u64> {
        let (slot, count, mut hashes) = self.arrived.pop_front().unwrap_or_else(|| self.from.recv().unwrap());
        let of = self.submitted + 1 - self.flying as u64;
        self.flying -= 1;
        self.free.push_back(slot);
        self.panics(of, true);
        hashes.truncate(count);
        hashes
    }
}

/// Sends 0..`count` through a service; gives each item's answer, and the stop.
fn hashes(
    (workers, count, depth, batch): (usize, u64, usize, usize),
    panics_at: Option<(u64, bool)>,
    stop_after: Option<u64>,
) -> (HashMap<u64, Result<u64, JobFault>>, BatchGauge, usize) {
    let (stop, most) = (Stop::new(), Arc::new(AtomicUsize::new(0)));
    let credit = Credit::new(CreditConfig { budget_bytes: 1, lanes: 1, quantum_bytes: 1 }, stop.clone());
    let config = BatchConfig { batch, idle_ms: 1, fatal: false, ..BatchConfig::named("elsewhere") };
    let seen = most.clone();
    let make = move || Ok::<_, String>(Elsewhere::new(depth, batch, panics_at, seen));
    let service = BatchService::spawn_batched(config, credit, stop.clone(), make);
    let watched = service.clone();
    let answered = Arc::new(AtomicU64::new(0));
    let config = if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
    let captured = timely::execute(config, move |worker| {
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);
        let (service, stop, answered) = (service.clone(), stop.clone(), answered.clone());
        worker.dataflow::<u64, _, _>(move |scope| {
            let mine = (0..count).filter(|x| x % peers == index).collect::<Vec<_>>();
            let join = move |x: u64, answer: Result<u64, JobPanic>| {
                if stop_after.is_some_and(|after| answered.fetch_add(1, Ordering::SeqCst) >= after) {
                    stop.request();
                }
                (x, answer.map_err(|panic| panic.fault))
            };
            mine.to_stream(scope).container::<Vec<_>>().batch_offload("hash", &service, |x| (x, x), join).capture()
        })
    });
    let answers = captured.unwrap().join().into_iter().flat_map(|captured| captured.unwrap().extract());
    let mut seen = HashMap::new();
    for (x, answer) in answers.flat_map(|(_, data)| data) {
        assert!(seen.insert(x, answer).is_none(), "{x} was answered twice");
    }
    (seen, watched.gauge(), most.load(Ordering::SeqCst))
}

#[test]
fn several_batches_on_their_way_give_each_item_its_own_answer() {
    let expected: HashMap<u64, _> = (0..1003).map(|x| (x, Ok(hash(x)))).collect();
    let mut deepest = 0;
    for depth in 1..=3 {
        for (workers, batch) in [(1, 8), (2, 7), (2, 1)] {
            let (answers, gauge, most) = hashes((workers, 1003, depth, batch), None, None);
            assert!(answers == expected, "{workers} workers, {depth} batches of {batch}");
            assert_eq!((gauge.items, gauge.queued), (1003, 0));
            assert!(most <= depth);
            deepest = deepest.max(most);
        }
    }
    assert!(deepest > 1, "no batch was sent while another was on its way");
}

#[test]
fn a_panic_on_the_way_is_its_own_batchs() {
    for depth in 1..=3 {
        for collecting in [false, true] {
            let (answers, gauge, _) = hashes((2, 500, depth, 8), Some((3, collecting)), None);
            assert_eq!((answers.len(), gauge.items), (500, 500));
            let panicked = answers.values().filter(|answer| **answer == Err(JobFault::Panicked)).count();
            assert!((1..=8).contains(&panicked), "{panicked}");
            let others = answers.iter().filter(|(_, answer)| answer.is_ok());
            assert!(others.into_iter().all(|(x, answer)| *answer == Ok(hash(*x))));
        }
    }
}

#[test]
fn a_stop_with_batches_on_their_way_ends_the_run() {
    for depth in 1..=3 {
        let (answers, _, _) = hashes((2, 5000, depth, 8), None, Some(100));
        assert!(answers.len() < 5000);
        assert!(answers.iter().all(|(x, answer)| *answer == Ok(hash(*x))));
    }
}

/// Of a service that nobody holds any more the operator waits for its last batches.
#[test]
fn the_last_batches_are_answered_after_the_last_handle_is_gone() {
    for depth in 1..=3 {
        let stop = Stop::new();
        let credit = Credit::new(CreditConfig { budget_bytes: 1, lanes: 1, quantum_bytes: 1 }, stop.clone());
        let config = BatchConfig { batch: 4, ..BatchConfig::named("elsewhere") };
        let make = move || Ok::<_, String>(Elsewhere::new(depth, 4, None, Arc::default()));
        let service = BatchService::spawn_batched(config, credit, stop, make);
        let captured = timely::example(move |scope| {
            let numbers = (0..10u64).collect::<Vec<_>>().to_stream(scope).container::<Vec<_>>();
            numbers
                .batch_offload("hash", &service, |x| (x, x), |x, answer| (x, answer.map_err(|panic| panic.fault)))
                .capture()
        });
        let answers: HashMap<u64, _> = captured.extract().into_iter().flat_map(|(_, data)| data).collect();
        assert_eq!(answers, (0..10).map(|x| (x, Ok(hash(x)))).collect());
    }
}
