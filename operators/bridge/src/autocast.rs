//! Autocast of the calling thread, switched by a guard.

use std::ffi::c_int;
use std::marker::PhantomData;

use tch::Device;

use crate::BridgeError;
use crate::ffi::{self, check};

/// Matrix products of this thread run in bf16 while this lives, as in `torch.autocast`. Guards nest; drop them in reverse order.
#[derive(Debug)]
pub struct Autocast {
    device: c_int,
    enabled_before: c_int,
    kind_before: c_int,
    /// The state belongs to the thread.
    _not_send: PhantomData<*const ()>,
}

impl Autocast {
    /// Casts to bf16 on `device`.
    ///
    /// # Errors
    /// What libtorch refuses, for example a device that cannot autocast.
    pub fn bf16(device: Device) -> Result<Self, BridgeError> {
        let (mut enabled, mut kind) = (0, 0);
        let device = c_int::from(matches!(device, Device::Cuda(_)));
        // SAFETY: the two places outlive the call.
        unsafe { check("autocast", ffi::trommel_autocast_enter(device, &raw mut enabled, &raw mut kind)) }?;
        Ok(Self { device, enabled_before: enabled, kind_before: kind, _not_send: PhantomData })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: plain numbers. Restoring what was read cannot fail; if it did, there is no one to tell in a drop.
        let _ = unsafe {
            check("autocast", ffi::trommel_autocast_leave(self.device, self.enabled_before, self.kind_before))
        };
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    #[allow(clippy::unwrap_used)]
    fn products_are_cast_inside_and_only_inside() {
        let x = Tensor::arange(16, (Kind::Float, Device::Cpu)).reshape([4, 4]);
        assert_eq!(x.matmul(&x).kind(), Kind::Float);
        {
            let _guard = Autocast::bf16(Device::Cpu).unwrap();
            assert_eq!(x.matmul(&x).kind(), Kind::BFloat16);
            drop(Autocast::bf16(Device::Cpu).unwrap());
            assert_eq!(x.matmul(&x).kind(), Kind::BFloat16, "the outer one goes on");
            let other = std::thread::spawn(|| {
                let y = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
                y.matmul(&y).kind()
            });
            assert_eq!(other.join().unwrap(), Kind::Float);
        }
        assert_eq!(x.matmul(&x).kind(), Kind::Float);
    }

    /// A weight cast without gradients must not be found again by the pass that needs them.
    #[test]
    #[allow(clippy::unwrap_used)]
    fn a_cast_without_gradients_is_not_reused() {
        let w = Tensor::ones([3, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let x = Tensor::ones([3, 3], (Kind::Float, Device::Cpu));
        tch::no_grad(|| {
            let _guard = Autocast::bf16(Device::Cpu).unwrap();
            let _ = x.matmul(&w);
        });
        let y = {
            let _guard = Autocast::bf16(Device::Cpu).unwrap();
            x.matmul(&w)
        };
        y.sum(Kind::Float).backward();
        assert!(w.grad().defined());
    }
}
