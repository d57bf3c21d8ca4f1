//! Part: one stream into two, by a function to `Ok` or `Err`.
//!
//! ```text
//!  In ─▶ by(In) ─┬─▶ Ok  ─▶ first output
//!                └─▶ Err ─▶ second output
//! ```
//! Frontiers of both outputs are the input's. Nothing is kept. It is timely's `ok_err` with the containers named.
//!
//! ```
//! use timely::dataflow::operators::{Capture, ToStream, capture::Extract};
//! use trommel_dataflow::part::PartInTwo;
//!
//! let captured = timely::example(|scope| {
//!     let numbers = vec![1, 2, 3].to_stream(scope).container::<Vec<_>>();
//!     let (odd, _even) = numbers.part(|x| if x % 2 == 1 { Ok(x) } else { Err(x) });
//!     odd.capture()
//! });
//! assert_eq!(captured.extract(), [(0, vec![1, 3])]);
//! ```

use timely::dataflow::StreamVec;
use timely::dataflow::operators::OkErr;
use timely::progress::Timestamp;

/// Parts a stream in two.
pub trait PartInTwo<'scope, T: Timestamp, In> {
    /// What `by` makes `Ok` goes to the first stream, what it makes `Err` to the second.
    fn part<A: 'static, B: 'static>(
        self,
        by: impl FnMut(In) -> Result<A, B> + 'static,
    ) -> (StreamVec<'scope, T, A>, StreamVec<'scope, T, B>);
}

impl<'scope, T: Timestamp, In: 'static> PartInTwo<'scope, T, In> for StreamVec<'scope, T, In> {
    fn part<A: 'static, B: 'static>(
        self,
        by: impl FnMut(In) -> Result<A, B> + 'static,
    ) -> (StreamVec<'scope, T, A>, StreamVec<'scope, T, B>) {
        self.ok_err::<Vec<A>, A, Vec<B>, B, _>(by)
    }
}
