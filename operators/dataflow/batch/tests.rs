#![allow(clippy::unwrap_used, clippy::type_complexity)]

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
    E: Display,
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
