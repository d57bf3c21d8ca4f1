//! Processes that work on one model: where they meet, and what they do together.
//!
//! A [`Store`] is where they meet: rank 0 serves it, all (rank 0 too) are its clients. A [`Group`] is the ranks
//! connected with each other. Its functions are *collective*: all ranks call them, in the same order, with tensors of the
//! same shape and kind, or they fail when the timeout is over. After a failure a group is of no use any more.

use std::ffi::{CString, c_int};
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::time::Duration;

use tch::{Device, Kind, Tensor};

use crate::BridgeError;
use crate::ffi::{self, check, pointers};

const STORE: &str = "meeting the other ranks";
const CONNECT: &str = "connecting the ranks";

fn text(operation: &'static str, text: &[u8]) -> Result<CString, BridgeError> {
    CString::new(text).map_err(|_| BridgeError { operation, message: "a zero byte in a name".into() })
}

fn milliseconds(timeout: Duration) -> i64 {
    i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX / 4).max(1)
}

/// A rank's connection to the table where ranks find each other (c10d's `TCPStore`); on rank 0 its server too, which lives
/// as long as this and every group made from it.
#[derive(Debug)]
pub struct Store(*mut ffi::Store);

// SAFETY: c10d's stores lock inside.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Serves the table at `host:port` (0: any port), on that address only, and connects to it. Gives the port.
    ///
    /// # Errors
    /// The address is not this machine's or in use.
    pub fn serve(host: &str, port: u16, size: usize, timeout: Duration) -> Result<(Self, u16), BridgeError> {
        let refused =
            |error: std::io::Error| BridgeError { operation: STORE, message: format!("{host}:{port}: {error}") };
        let address = (host, port).to_socket_addrs().map_err(refused)?.collect::<Vec<_>>();
        let listener = TcpListener::bind(address.as_slice()).map_err(refused)?;
        let port = listener.local_addr().map_err(refused)?.port();
        let name = text(STORE, host.as_bytes())?;
        let mut store = ptr::null_mut();
        // SAFETY: `name` and `store` outlive the call; the server owns the socket from here.
        unsafe {
            check(
                STORE,
                ffi::trommel_store_serve(
                    name.as_ptr(),
                    listener.into_raw_fd(),
                    port,
                    size,
                    milliseconds(timeout),
                    &raw mut store,
                ),
            )
        }?;
        Ok((Self(store), port))
    }

    /// Connects to rank 0's table; tries until `timeout` is over.
    ///
    /// # Errors
    /// Nobody there.
    pub fn connect(host: &str, port: u16, size: usize, timeout: Duration) -> Result<Self, BridgeError> {
        let name = text(STORE, host.as_bytes())?;
        let mut store = ptr::null_mut();
        // SAFETY: `name` and `store` outlive the call.
        unsafe {
            check(STORE, ffi::trommel_store_connect(name.as_ptr(), port, size, milliseconds(timeout), &raw mut store))
        }?;
        Ok(Self(store))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: made by this crate, freed once.
        unsafe { ffi::trommel_store_free(self.0) };
    }
}

/// Ranks connected with each other. Calls from several threads are safe, but their order is what ranks must agree on: give
/// a group to one thread at a time, except for [`Group::abort`].
#[derive(Debug)]
pub struct Group {
    pub(crate) handle: *mut ffi::Group,
    rank: usize,
    size: usize,
    device: Device,
}

// SAFETY: the backends lock their calls; the handle itself never changes.
unsafe impl Send for Group {}
// SAFETY: as above.
unsafe impl Sync for Group {}

impl Group {
    /// For tensors on the CPU, over TCP; `host` is this rank's own address, the only one that it listens on.
    ///
    /// # Errors
    /// A rank that does not come within `timeout`, an address that is not this machine's.
    pub fn gloo(store: &Store, rank: usize, size: usize, host: &str, timeout: Duration) -> Result<Self, BridgeError> {
        let (own, all) = ranks(rank, size)?;
        let name = text(CONNECT, host.as_bytes())?;
        let mut handle = ptr::null_mut();
        // SAFETY: all pointers outlive the call.
        unsafe {
            check(
                CONNECT,
                ffi::trommel_group_gloo(store.0, own, all, name.as_ptr(), milliseconds(timeout), &raw mut handle),
            )
        }?;
        Ok(Self { handle, rank, size, device: Device::Cpu })
    }

    /// For tensors on the GPU `device`, over NCCL, whose `library` (`libnccl.so.2`) is opened here. libtorch's CUDA libraries
    /// must be loaded already.
    ///
    /// # Errors
    /// No such library, no CUDA, a rank that does not come within `timeout`.
    pub fn nccl(
        store: &Store,
        rank: usize,
        size: usize,
        device: usize,
        timeout: Duration,
        library: &Path,
    ) -> Result<Self, BridgeError> {
        let (own, all) = ranks(rank, size)?;
        let path = text(CONNECT, library.as_os_str().as_bytes())?;
        let mut handle = ptr::null_mut();
        // The number of a GPU fits: libtorch counts them in a byte.
        let gpu = c_int::try_from(device).unwrap_or(c_int::MAX);
        // SAFETY: all pointers outlive the call.
        unsafe {
            check(
                CONNECT,
                ffi::trommel_group_nccl(store.0, own, all, gpu, milliseconds(timeout), path.as_ptr(), &raw mut handle),
            )
        }?;
        Ok(Self { handle, rank, size, device: Device::Cuda(device) })
    }

    /// This process's number, from 0.
    pub const fn rank(&self) -> usize {
        self.rank
    }

    /// Number of ranks.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Where its tensors lie.
    pub const fn device(&self) -> Device {
        self.device
    }

    /// The same, whose collectives may each take so long from here on: ranks that are connected wait for each other's data, those that
    /// still connect for nothing but the network.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn with_timeout(self, timeout: Duration) -> Result<Self, BridgeError> {
        // SAFETY: the handle is live.
        unsafe { check(CONNECT, ffi::trommel_group_timeout(self.handle, milliseconds(timeout))) }?;
        Ok(self)
    }

    /// Replaces each of `tensors`, contiguous, by its sum over ranks.
    ///
    /// # Errors
    /// A rank is gone or late.
    pub fn all_reduce_sum(&self, tensors: &[Tensor]) -> Result<(), BridgeError> {
        self.all_reduce("all-reduce", tensors, 0)
    }

    /// Replaces each of `tensors`, contiguous, by its largest values over ranks.
    ///
    /// # Errors
    /// A rank is gone or late.
    pub fn all_reduce_max(&self, tensors: &[Tensor]) -> Result<(), BridgeError> {
        self.all_reduce("all-reduce", tensors, 1)
    }

    fn all_reduce(&self, operation: &'static str, tensors: &[Tensor], largest: c_int) -> Result<(), BridgeError> {
        let t = pointers(tensors);
        // SAFETY: pointers to live tensors, `t.len()` of them.
        unsafe { check(operation, ffi::trommel_group_all_reduce(self.handle, t.as_ptr(), t.len(), largest)) }
    }

    /// Replaces each of `tensors`, contiguous, by the rank `root`'s.
    ///
    /// # Errors
    /// A rank is gone or late.
    pub fn broadcast(&self, tensors: &[Tensor], root: usize) -> Result<(), BridgeError> {
        let (t, (root, _)) = (pointers(tensors), ranks(root, self.size)?);
        // SAFETY: pointers to live tensors, `t.len()` of them.
        unsafe { check("broadcast", ffi::trommel_group_broadcast(self.handle, t.as_ptr(), t.len(), root)) }
    }

    /// The rows of all ranks, rank by rank: any\[n, ..\] to any\[size * n, ..\]. Gradients flow back: each rank's rows get
    /// the sum over ranks of the gradients by them, so all ranks call backward too.
    ///
    /// # Errors
    /// A rank is gone or late; a tensor without axes.
    pub fn all_gather_with_grad(&self, rows: &Tensor) -> Result<Tensor, BridgeError> {
        let mut out = ptr::null_mut();
        // SAFETY: `rows` and `out` outlive the call.
        unsafe { check("all-gather", ffi::trommel_group_gather(self.handle, rows.as_ptr(), &raw mut out)) }?;
        // SAFETY: a new tensor of the other side, ours from here.
        Ok(unsafe { Tensor::from_ptr(out) })
    }

    /// Returns when all ranks have called it.
    ///
    /// # Errors
    /// A rank is gone or late.
    pub fn barrier(&self) -> Result<(), BridgeError> {
        let one = Tensor::f_zeros([1], (Kind::Float, self.device));
        let one = one.map_err(|error| BridgeError { operation: "barrier", message: error.to_string() })?;
        self.all_reduce("barrier", &[one], 0)
    }

    /// Breaks the connections, from any thread: what waits in this group fails at once, here and on the other ranks, and so
    /// does every later call.
    pub fn abort(&self) {
        // SAFETY: the handle is live. Breaking off what is broken already is no error.
        let _ = unsafe { check("abort", ffi::trommel_group_abort(self.handle)) };
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: made by this crate, freed once; graphs and reducers hold the other side's count.
        unsafe { ffi::trommel_group_free(self.handle) };
    }
}

/// The version of the NCCL `library`, for example 22809 for 2.28.9. Opens it; needs no GPU.
///
/// # Errors
/// No such library, or another one.
pub fn nccl_version(library: &Path) -> Result<u32, BridgeError> {
    let path = text("opening NCCL", library.as_os_str().as_bytes())?;
    let mut version = 0;
    // SAFETY: both pointers outlive the call.
    unsafe { check("opening NCCL", ffi::trommel_nccl_version(path.as_ptr(), &raw mut version)) }?;
    Ok(u32::try_from(version).unwrap_or_default())
}

fn ranks(rank: usize, size: usize) -> Result<(c_int, c_int), BridgeError> {
    let numbers = (c_int::try_from(rank), c_int::try_from(size));
    match numbers {
        (Ok(own), Ok(all)) if rank < size => Ok((own, all)),
        _ => Err(BridgeError { operation: CONNECT, message: format!("rank {rank} of {size}") }),
    }
}
