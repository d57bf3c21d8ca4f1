//! Everywhere: each item to every process, where its first worker takes it.
//!
//! ```text
//!  worker of process 0: D ─┬─▶ first worker of process 0: D itself
//!                          ├─▶ first worker of process 1: a clone, over the network
//!                          └─▶ ...
//! ```
//!
//! Frontier: a sink, it holds nothing back.
//!
//! Invariants:
//! 1. Each item comes to each process once.
//! 2. In its own process an item stays what it is; the others get what its clone is when it was serialised.
//!
//! Cost: a clone and a message for each other process.
//!
//! ```
//! use std::sync::mpsc;
//! use timely::dataflow::operators::ToStream;
//! use trommel_dataflow::everywhere::Everywhere;
//!
//! let (tell, told) = mpsc::channel();
//! timely::execute(timely::Config::process(2), move |worker| {
//!     let (index, tell) = (worker.index(), tell.clone());
//!     worker.dataflow::<u64, _, _>(|scope| {
//!         // Two workers of one process: all goes to the first.
//!         let items = Some(index as u64).to_stream(scope).container::<Vec<_>>();
//!         items.everywhere("Everywhere", 2, move |item| tell.send((index, item)).expect("somebody listens"));
//!     });
//! })
//! .expect("two threads")
//! .join();
//! let mut all: Vec<(usize, u64)> = told.iter().collect();
//! all.sort();
//! assert_eq!(all, [(0, 0), (0, 1)]);
//! ```

use timely::ExchangeData;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;
use timely::progress::Timestamp;

/// Brings items to every process.
pub trait Everywhere<D> {
    /// Calls `take` with each item, on the first worker of every process. A process has `workers` (at least 1) workers; all processes
    /// call this on all of them.
    fn everywhere(self, name: &str, workers: usize, take: impl FnMut(D) + 'static);
}

impl<T: Timestamp, D: ExchangeData + Clone> Everywhere<D> for StreamVec<'_, T, D> {
    fn everywhere(self, name: &str, workers: usize, mut take: impl FnMut(D) + 'static) {
        let (scope, workers) = (self.scope(), workers.max(1));
        let (processes, own) = (scope.peers() / workers, scope.index() / workers);
        let addressed =
            self.unary::<CapacityContainerBuilder<Vec<(u64, D)>>, _, _, _>(Pipeline, name, move |cap, _info| {
                drop(cap); // else the frontier never moves
                move |input, output| {
                    input.for_each_stamp(|cap, data| {
                        let mut session = output.session(&cap);
                        for item in data.flat_map(|batch| batch.drain(..)) {
                            for process in (0..processes).filter(|process| *process != own) {
                                session.give(((process * workers) as u64, item.clone()));
                            }
                            session.give(((own * workers) as u64, item));
                        }
                    });
                }
            });
        addressed.sink(Exchange::new(|(worker, _): &(u64, D)| *worker), name, move |(input, _frontier)| {
            input.for_each(|_cap, data| data.drain(..).for_each(|(_, item)| take(item)));
        });
    }
}
