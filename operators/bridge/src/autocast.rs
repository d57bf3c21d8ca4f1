//! Autocast of the calling thread, switched by a guard.

use std::ffi::c_int;
use std::marker::PhantomData;

use tch::Device;

use crate::BridgeError;
use crate::ffi::{self, check};

/// A half precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// IEEE binary16: 5 bits of exponent, 10 of significand.
    F16,
    /// bfloat16: f32's range, 8 bits of significand.
    Bf16,
}

/// Matrix products of this thread run in half precision while this lives (as in `torch.autocast`), or in full
/// precision in spite of an enclosing guard. Guards nest; drop them in reverse order.
#[derive(Debug)]
pub struct Autocast {
    device: c_int,
    enabled_before: c_int,
    kind_before: c_int,
    /// The state belongs to the thread.
    _not_send: PhantomData<*const ()>,
}

impl Autocast {
    /// Casts to `half` on `device`.
    ///
    /// # Errors
    /// What libtorch refuses, for example a type that the device cannot autocast to.
    pub fn to(device: Device, half: Half) -> Result<Self, BridgeError> {
        let (mut enabled, mut kind) = (0, 0);
        let device = Self::number(device);
        let dtype = c_int::from(half == Half::Bf16);
        // SAFETY: the two places outlive the call.
        unsafe { check("autocast", ffi::trommel_autocast_enter(device, dtype, &raw mut enabled, &raw mut kind)) }?;
        Ok(Self { device, enabled_before: enabled, kind_before: kind, _not_send: PhantomData })
    }

    /// Casts nothing on `device`.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn off(device: Device) -> Result<Self, BridgeError> {
        let (mut enabled, mut kind) = (0, 0);
        let device = Self::number(device);
        // SAFETY: the two places outlive the call.
        unsafe { check("autocast", ffi::trommel_autocast_pause(device, &raw mut enabled, &raw mut kind)) }?;
        Ok(Self { device, enabled_before: enabled, kind_before: kind, _not_send: PhantomData })
    }

    fn number(device: Device) -> c_int {
        c_int::from(matches!(device, Device::Cuda(_)))
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
            let _guard = Autocast::to(Device::Cpu, Half::Bf16).unwrap();
            assert_eq!(x.matmul(&x).kind(), Kind::BFloat16);
            {
                let _off = Autocast::off(Device::Cpu).unwrap();
                assert_eq!(x.matmul(&x).kind(), Kind::Float);
            }
            assert_eq!(x.matmul(&x).kind(), Kind::BFloat16);
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
            let _guard = Autocast::to(Device::Cpu, Half::Bf16).unwrap();
            let _ = x.matmul(&w);
        });
        let y = {
            let _guard = Autocast::to(Device::Cpu, Half::Bf16).unwrap();
            x.matmul(&w)
        };
        y.sum(Kind::Float).backward();
        assert!(w.grad().defined());
    }
}
