//! Redeem: the end of a graph. Leases return to whoever gave them.
//!
//! ```text
//!  Redeemed ─▶ Leases ─▶ readers that wait for a free place, or for a shard's decisions
//! ```
//!
//! A sink, and never blocking. A lease is redeemed by the stream that says why, on the worker that read the shard: what an earlier run
//! committed was never leased, and is none of it. Leases that lie with another process hear of it from there ([`Leases::redeem`]).
//!
//! ```
//! use std::sync::Arc;
//! use timely::dataflow::operators::{ToStream, core::Map};
//! use trommel_dataflow::leases::Dynamic;
//! use trommel_dataflow::redeem::{Redeem, Redeemed};
//! use trommel_dataflow::source::{Leases, Next};
//!
//! let leases = Arc::new(Dynamic::new(0..3, 2));
//! assert!(matches!(leases.next(0), Next::Shard(_)) && matches!(leases.next(1), Next::Shard(_)));
//! assert_eq!(leases.next(0), Next::Wait); // two are on their way
//! let given: Arc<dyn Leases> = leases.clone();
//! timely::example(move |scope| {
//!     let durable = vec![Redeemed { ordinal: 1, failed: false }].to_stream(scope);
//!     durable.redeem(&given);
//! });
//! assert!(matches!(leases.next(0), Next::Shard(_)));
//! ```

use std::sync::Arc;

use timely::dataflow::StreamVec;
use timely::dataflow::operators::Inspect;
use timely::progress::Timestamp;

use super::source::Leases;
pub use super::source::Redeemed;

/// Gives leases back.
pub trait Redeem {
    /// Gives each of these back to `leases`.
    fn redeem(self, leases: &Arc<dyn Leases>);
}

impl<T: Timestamp> Redeem for StreamVec<'_, T, Redeemed> {
    fn redeem(self, leases: &Arc<dyn Leases>) {
        let leases = leases.clone();
        self.inspect(move |redeemed| leases.redeem(*redeemed));
    }
}
