//! Timed: items made of items and the times at which they come.
//!
//! Frontier: the output's is the input's; nothing is held. Each item's outputs follow at its own time, in order.
//!
//! ```
//! use timely::dataflow::operators::{Capture, ToStream, capture::Extract};
//! use trommel_dataflow::timed::FlatMapTimed;
//!
//! let captured = timely::example(|scope| {
//!     vec![1u64, 2, 3].to_stream(scope).container::<Vec<_>>()
//!         .flat_map_timed("Odd", |time: &u64, x: u64| (x % 2 == 1).then_some((*time, x)))
//!         .capture()
//! });
//! assert_eq!(captured.extract(), [(0, vec![(0, 1), (0, 3)])]);
//! ```

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

/// Makes items of items and their times.
pub trait FlatMapTimed<'scope, T: Timestamp, In> {
    /// What `make` gives for each item and its time.
    fn flat_map_timed<Out, I, F>(self, name: &str, make: F) -> StreamVec<'scope, T, Out>
    where
        Out: 'static,
        I: IntoIterator<Item = Out>,
        F: FnMut(&T, In) -> I + 'static;
}

impl<'scope, T, In> FlatMapTimed<'scope, T, In> for StreamVec<'scope, T, In>
where
    T: Timestamp + TotalOrder,
    In: 'static,
{
    fn flat_map_timed<Out, I, F>(self, name: &str, mut make: F) -> StreamVec<'scope, T, Out>
    where
        Out: 'static,
        I: IntoIterator<Item = Out>,
        F: FnMut(&T, In) -> I + 'static,
    {
        self.unary::<CapacityContainerBuilder<Vec<Out>>, _, _, _>(Pipeline, name, move |cap, _info| {
            drop(cap); // else the frontier never moves
            move |input, output| {
                input.for_each(|cap, data| {
                    let time = cap.least().cloned().unwrap_or_else(T::minimum);
                    let mut session = output.session(&cap);
                    for item in data.drain(..) {
                        session.give_iterator(make(&time, item).into_iter());
                    }
                });
            }
        })
    }
}
