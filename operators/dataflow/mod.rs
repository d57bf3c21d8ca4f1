//! The only place with raw timely plumbing: offload, credit, order, batch.
pub mod credit;
