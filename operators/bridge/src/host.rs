//! Bytes on the host that a device takes from by itself.

use tch::{Device, Kind, Tensor};

use crate::{BridgeError, pinned};

/// Bytes in host memory, written one after the other by their one owner, then read as a tensor: pinned where `device` is a card, so
/// that it copies them beside other work.
#[derive(Debug)]
pub struct HostBytes {
    tensor: Tensor,
    filled: usize,
}

impl HostBytes {
    /// Room for so many bytes.
    ///
    /// # Errors
    /// Memory that cannot be had.
    pub fn new(room: usize, device: Device) -> Result<Self, BridgeError> {
        let size = i64::try_from(room).unwrap_or(i64::MAX);
        Ok(Self { tensor: pinned(&[size], Kind::Uint8, device)?, filled: 0 })
    }

    /// Number of bytes written so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.filled
    }

    /// Whether nothing is written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// More than there is room for.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BridgeError> {
        let room = self.tensor.numel() - self.filled;
        if bytes.len() > room {
            let message = format!("{} bytes into room for {room}", bytes.len());
            return Err(BridgeError { operation: "filling a batch", message });
        }
        if !bytes.is_empty() {
            // SAFETY: a contiguous u8 tensor on the host with room for them behind those written; nobody else has a handle to it.
            unsafe {
                let place = self.tensor.data_ptr().cast::<u8>().add(self.filled);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len());
            }
        }
        self.filled += bytes.len();
        Ok(())
    }

    /// What was written, u8\[bytes\].
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn into_tensor(self) -> Result<Tensor, BridgeError> {
        let written = self.tensor.f_narrow(0, 0, self.filled as i64);
        written.map_err(|error| BridgeError { operation: "filling a batch", message: error.to_string() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_the_tensor() {
        let mut bytes = HostBytes::new(5, Device::Cpu).unwrap();
        assert!(bytes.is_empty());
        bytes.push(&[7, 8]).unwrap();
        bytes.push(&[9]).unwrap();
        assert!(bytes.push(&[1, 2, 3]).is_err());
        assert_eq!(bytes.len(), 3);
        assert_eq!(Vec::<u8>::try_from(bytes.into_tensor().unwrap()).unwrap(), [7, 8, 9]);
    }
}
