//! Gradients averaged over ranks while backward goes on.

use std::ptr;

use tch::Tensor;

use crate::ffi::{self, check, pointers};
use crate::{BridgeError, Group};

const BUCKETS: &str = "averaging gradients";

/// c10d's `Reducer`: as soon as backward has filled a bucket of gradients, the bucket's average over ranks begins. It
/// watches the parameters as long as it lives, and does nothing to a backward that [`Reducer::prepare`] did not announce.
#[derive(Debug)]
pub struct Reducer(*mut ffi::Reduced);

// SAFETY: it locks inside.
unsafe impl Send for Reducer {}

impl Reducer {
    /// For leaves `params`, in about the order in which forward uses them, which is the same on all ranks: buckets of up
    /// to `bucket_bytes` are filled from the last. They never change, so that neither do the bits of the sums.
    ///
    /// # Errors
    /// No parameters; parameters of several devices.
    pub fn new(params: &[Tensor], group: &Group, bucket_bytes: usize) -> Result<Self, BridgeError> {
        if params.is_empty() {
            return Err(BridgeError { operation: BUCKETS, message: "no parameters".into() });
        }
        let p = pointers(params);
        let mut reduced = ptr::null_mut();
        // SAFETY: pointers to live tensors; the other side keeps the group as long as it needs it.
        unsafe {
            check(BUCKETS, ffi::trommel_reducer_new(p.as_ptr(), p.len(), group.handle, bucket_bytes, &raw mut reduced))
        }?;
        Ok(Self(reduced))
    }

    /// The next backward leaves in every parameter the average over ranks of (what it holds already + the new gradient).
    /// That backward must reach every parameter once, on every rank.
    ///
    /// # Errors
    /// The backward prepared before did not reach all parameters; the group was aborted.
    pub fn prepare(&self) -> Result<(), BridgeError> {
        // SAFETY: the handle is live.
        unsafe { check(BUCKETS, ffi::trommel_reducer_prepare(self.0)) }
    }

    /// Checks that the backward since [`Reducer::prepare`] reached every parameter.
    ///
    /// # Errors
    /// It did not.
    pub fn finish(&self) -> Result<(), BridgeError> {
        // SAFETY: the handle is live.
        unsafe { check(BUCKETS, ffi::trommel_reducer_finish(self.0)) }
    }

    /// How long the last backward averaged. Waits on a card until it is done.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn averaging(&self) -> Result<Averaging, BridgeError> {
        let (mut seconds, mut exposed_seconds) = (0.0, 0.0);
        // SAFETY: the handle is live, and the places outlive the call.
        unsafe { check(BUCKETS, ffi::trommel_reducer_seconds(self.0, &raw mut seconds, &raw mut exposed_seconds)) }?;
        Ok(Averaging { seconds, exposed_seconds })
    }
}

/// Time of one backward's averaging.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Averaging {
    /// From the start of the first bucket to the end of the last.
    pub seconds: f64,
    /// Of these, those after backward had computed all gradients: what did not overlap.
    pub exposed_seconds: f64,
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: made by this crate, freed once.
        unsafe { ffi::trommel_reducer_free(self.0) };
    }
}
