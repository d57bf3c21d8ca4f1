//! Tap: a stream as it is, and beside it what a function finds worth telling of its items.
//!
//! ```text
//!  In ─┬─▶ In, in the same containers
//!      └─▶ News
//! ```
//! Frontiers of both outputs are the input's. Nothing is kept, and no item is moved.
//!
//! ```
//! use timely::dataflow::operators::{Capture, ToStream, capture::Extract};
//! use trommel_dataflow::tap::Tap;
//!
//! let (same, news) = timely::example(|scope| {
//!     let numbers = vec![1, 2, 3].to_stream(scope).container::<Vec<_>>();
//!     let (same, odd) = numbers.tap(|x| (x % 2 == 1).then(|| format!("{x} is odd")));
//!     (same.capture(), odd.capture())
//! });
//! assert_eq!(same.extract(), [(0, vec![1, 2, 3])]);
//! assert_eq!(news.extract(), [(0, vec!["1 is odd".to_owned(), "3 is odd".to_owned()])]);
//! ```

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::Timestamp;
use timely::progress::operate::FrontierInterest;

/// Reads a stream on its way and sends what it tells on another one.
pub trait Tap<'scope, T: Timestamp, In>: Sized {
    /// The stream as it is, and what `tell` says of its items, at their times.
    fn tap<News: 'static>(self, tell: impl FnMut(&In) -> Option<News> + 'static) -> (Self, StreamVec<'scope, T, News>);
}

impl<'scope, T: Timestamp, In: 'static> Tap<'scope, T, In> for StreamVec<'scope, T, In> {
    fn tap<News: 'static>(
        self,
        mut tell: impl FnMut(&In) -> Option<News> + 'static,
    ) -> (Self, StreamVec<'scope, T, News>) {
        let mut builder = OperatorBuilder::new("Tap".to_owned(), self.scope());
        let mut input = builder.new_input(self, Pipeline);
        builder.set_notify_for(0, FrontierInterest::Never);
        let (output, same) = builder.new_output();
        let (told, news) = builder.new_output();
        let mut output = OutputBuilder::<T, CapacityContainerBuilder<Vec<In>>>::from(output);
        let mut told = OutputBuilder::<T, CapacityContainerBuilder<Vec<News>>>::from(told);
        builder.build(move |_capabilities| {
            move |_frontiers| {
                let (mut output, mut told) = (output.activate(), told.activate());
                input.for_each(|cap, data| {
                    {
                        let mut news = told.session(&cap);
                        data.iter().filter_map(&mut tell).for_each(|it| news.give(it));
                    }
                    output.session(&cap).give_container(data);
                });
            }
        });
        (same, news)
    }
}
