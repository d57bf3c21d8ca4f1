//! Oracles: whatever was changed, the state is that of a naive computation over the final inputs.

mod compaction;
mod counts;
mod crash;
mod durable;
#[path = "../decide/tests/naive.rs"]
#[allow(dead_code)]
mod exact;
mod fleet;
mod folder;
mod memory;
mod naive;
mod oracle;
mod peers;
mod planner;
mod reopened;
#[path = "../decide/tests/oracle.rs"]
#[allow(dead_code)]
mod rules;
mod script;
#[path = "../ledger/tests/simulated.rs"]
#[allow(dead_code)]
mod simulated;
mod spread;
