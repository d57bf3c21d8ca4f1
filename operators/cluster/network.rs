//! timely over sockets of our own.
//!
//! timely's own cluster mode connects to whatever listens and waits for ever; ours are connected, agreed and blocking
//! when it gets them. What happens after that is timely's:
//!
//! - Two threads for each other process (`timely:send-N`, `timely:recv-N`) carry the data. A socket that ends or fails
//!   before the dataflow has ended makes them panic ("timely communication error: ..."), workers that wait for data of the
//!   other process wait for ever. So a program must watch [`Control`](super::Control)'s losses and end itself, with a
//!   panic hook that does not print what these threads say.
//! - The guard joins these threads when it is dropped, and with them waits until the dataflows of *all* processes have
//!   ended. Keep it until the workers are joined; `execute_from` does that. After a normal end of all it returns at once.
//! - The builders must be built (by `execute_from`), all of them: the threads wait for them.

use std::net::TcpStream;

use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::communication::initialize::Hooks;

use super::Allocators;
use super::error::ClusterError;

/// What `execute_from` takes for `workers` workers in process `process`; `sockets` by process, none to itself.
pub(super) fn allocators(
    process: usize,
    sockets: Vec<Option<TcpStream>>,
    workers: usize,
) -> Result<Allocators, ClusterError> {
    let hooks = Hooks::default();
    // Typed: values move between the workers of a process as they are, never serialised.
    let local = ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), None);
    if sockets.len() == 1 {
        return Ok((local.into_iter().map(AllocatorBuilder::Process).collect(), Box::new(())));
    }
    let (builders, guard) = initialize_networking_from_sockets(local, sockets, process, workers, hooks)
        .map_err(ClusterError::system("timely's network threads"))?;
    Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
}
