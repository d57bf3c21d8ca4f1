//! The threads of a dataflow: all end when one panics. Left to themselves the others would wait for the progress that it does not report any more.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;

use timely::WorkerConfig;
use timely::communication::allocator::AllocatorBuilder;
use timely::worker::Worker;
use trommel_core::stop::Stop;
use trommel_core::wake::locked;

use crate::error::PipelineError;

/// The workers of this process.
#[derive(Default)]
struct Workers {
    threads: Mutex<Vec<Thread>>,
    one_panicked: AtomicBool,
}

/// One of them, which tells the others of its panic.
struct OneOf(Arc<Workers>, Stop);

impl Drop for OneOf {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.one_panicked.store(true, Ordering::SeqCst);
            // Threads that are none of these may wait for what this one would have done.
            self.1.request();
            locked(&self.0.threads).iter().for_each(Thread::unpark);
        }
    }
}

/// Runs a dataflow, which `build` makes on each worker, until it has ended everywhere.
///
/// # Errors
/// Threads that cannot be had; a worker that panicked.
pub(crate) fn run(
    (builders, guard): (Vec<AllocatorBuilder>, Box<dyn Any + Send>),
    stop: &Stop,
    build: impl Fn(&mut Worker) + Send + Sync + 'static,
) -> Result<(), PipelineError> {
    let (workers, stop) = (Arc::<Workers>::default(), stop.clone());
    let work = move |worker: &mut Worker| {
        locked(&workers.threads).push(std::thread::current());
        let _one = OneOf(workers.clone(), stop.clone());
        build(worker);
        while worker.has_dataflows() {
            if workers.one_panicked.load(Ordering::SeqCst) {
                worker.installed_dataflows().into_iter().for_each(|dataflow| worker.drop_dataflow(dataflow));
                break;
            }
            worker.step_or_park(None);
        }
    };
    let guards = timely::execute::execute_from(builders, guard, WorkerConfig::default(), work);
    let mut ended = Ok(());
    for end in guards.map_err(PipelineError::failed)?.join() {
        ended = ended.and(end.map_err(|panic| PipelineError::failed(format!("a worker panicked: {panic}"))));
    }
    ended
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use timely::dataflow::operators::Input;

    use super::*;

    /// Three workers wait for an input for good: nothing but the panic of one ends them.
    #[test]
    fn a_panic_of_one_ends_all() {
        let stop = Stop::new();
        let (asked, (said, heard)) = (stop.clone(), crossbeam_channel::bounded(1));
        std::thread::spawn(move || {
            let allocators = timely::CommunicationConfig::Process(3).try_build().expect("threads");
            let ended = run(allocators, &stop, |worker| {
                let index = worker.index();
                // An input that nobody closes.
                worker.dataflow::<u64, _, _>(|scope| std::mem::forget(scope.new_input::<Vec<u8>>().0));
                assert!(index != 1, "at the disco");
            });
            let _nobody_waits = said.send(ended);
        });
        let ended = heard.recv_timeout(Duration::from_secs(60)).expect("the others ended");
        assert!(ended.expect_err("one panicked").line().starts_with("a worker panicked"));
        assert!(asked.is_requested());
    }
}
