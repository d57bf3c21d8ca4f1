//! The only place with raw timely plumbing: source, offload, batch, order, and what needs a time or every process.
//!
//! ```text
//!  Leases ─▶ source ─▶ offload ─▶ batch ─▶ offload ─▶ ... ─▶ OrderService ─▶ trainer thread
//!              ▲          │         │         │                  │
//!            Credit ◀─────┴─────────┴── permits ┴────────────────┘   Stop wakes every wait of all of them
//! ```
//!
//! Three rules hold everywhere. A worker never blocks: work leaves it as a *ticket* and comes back through a
//! mailbox that wakes the operator; the capability stays with the operator. Every backlog has a named waker: a
//! result, a message of a reader, returned credit, a window, or a timer. After a [`trommel_core::stop::Stop`] every thread
//! ends and every permit returns.
//!
//! The document `docs/design/time-and-order.md` is the specification; its numbered statements are driven by
//! the seeded simulation next to this file.
#![forbid(missing_docs)]

pub mod batch;
pub mod everywhere;
mod holes;
pub mod irregular;
pub mod lanes;
pub mod leases;
pub mod offload;
pub mod order;
pub mod part;
pub mod pool;
pub mod redeem;
pub mod sequencer;
pub mod source;
pub mod tap;
pub mod timed;
pub mod watchdog;
pub mod whereabouts;
mod window;

mod mailbox;

#[cfg(test)]
mod simulation;
