//! Jobs side by side: a model that is small for a machine leaves its cores waiting, and a study trains it dozens of times.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use trommel_core::stop::Stop;
use trommel_core::wake::locked;
use trommel_pipelines::error::PipelineError;

/// What `work` makes of all jobs, in their order. They begin in that order too, at most `at_once` of them at a time.
///
/// # Errors
/// The first one. It asks `stop`, which the jobs obey, so that nobody waits for hours for what is in vain.
pub(super) fn side_by_side<J: Sync, R: Send>(
    jobs: &[J],
    at_once: usize,
    stop: &Stop,
    work: impl Fn(usize, &J) -> Result<R, PipelineError> + Sync,
) -> Result<Vec<R>, PipelineError> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(jobs.len())));
    let failure = Mutex::new(None);
    let worker = || {
        while !stop.is_requested() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { return };
            match work(at, job) {
                Ok(result) => locked(&results).push((at, result)),
                Err(error) => {
                    // Those that are stopped by it come later, and say less.
                    locked(&failure).get_or_insert(error);
                    stop.request();
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..at_once.clamp(1, jobs.len().max(1)) {
            scope.spawn(worker);
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    if results.len() < jobs.len() {
        return Err(PipelineError::interrupted());
    }
    results.sort_by_key(|(at, _)| *at);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use trommel_pipelines::error::ErrorKind;

    #[test]
    fn results_stand_in_the_order_of_the_jobs() {
        let jobs: Vec<u64> = (0..50).collect();
        for at_once in [0, 1, 3, 100] {
            let squares = side_by_side(&jobs, at_once, &Stop::new(), |at, job| {
                assert_eq!(at as u64, *job);
                thread::yield_now();
                Ok(job * job)
            });
            assert_eq!(squares.unwrap(), jobs.iter().map(|job| job * job).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_failure_stops_the_others_and_is_told() {
        let (stop, begun) = (Stop::new(), AtomicUsize::new(0));
        let told = side_by_side(&[(); 100], 2, &stop, |at, ()| {
            begun.fetch_add(1, Ordering::Relaxed);
            if at == 3 {
                return Err(PipelineError::unfinished("the third"));
            }
            // The one beside it works until it is stopped.
            while at > 3 && !stop.is_requested() {
                thread::yield_now();
            }
            if stop.is_requested() { Err(PipelineError::interrupted()) } else { Ok(()) }
        });
        let error = told.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Unfinished, "the third".to_owned()));
        assert!(begun.into_inner() <= 5);
    }

    #[test]
    fn whoever_stops_it_gets_no_half_of_the_results() {
        let stop = Stop::new();
        let told = side_by_side(&[(); 4], 1, &stop, |at, ()| {
            if at == 1 {
                stop.request();
            }
            Ok(())
        });
        assert_eq!(told.unwrap_err().kind(), ErrorKind::Interrupted);
    }
}
