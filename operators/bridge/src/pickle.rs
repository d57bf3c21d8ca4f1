//! Files of PyTorch's `torch.save`, written from plain values and tensors.

use std::ffi::{CString, c_char};
use std::path::Path;
use std::ptr;

use tch::Tensor;

use crate::BridgeError;
use crate::ffi::{self, check};

/// A value that `torch.load(weights_only=True)` takes.
#[derive(Debug)]
pub enum Value {
    /// Python's `None`.
    None,
    /// A Python `bool`.
    Bool(bool),
    /// A Python `int` that fits in 64 bits.
    Int(i64),
    /// A Python `float`.
    Float(f64),
    /// A Python `str`, unicode.
    Str(String),
    /// A tensor; it is written from the CPU, contiguous.
    Tensor(Tensor),
    /// A Python `list`, in this order.
    List(Vec<Value>),
    /// A Python `tuple`, in this order.
    Tuple(Vec<Value>),
    /// `dict`, in this order. Keys are all `Str` or all `Int`.
    Dict(Vec<(Value, Value)>),
}

impl Value {
    /// A `dict` with names as keys.
    #[must_use]
    pub fn named<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Dict(entries.into_iter().map(|(key, value)| (Self::Str(key.into()), value)).collect())
    }
}

/// The stack on the other side, freed on drop.
struct Stack(*mut ffi::Builder);

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: made by `trommel_pickle_new`, freed once.
        unsafe { ffi::trommel_pickle_free(self.0) };
    }
}

const WRITE: &str = "writing a checkpoint";

impl Stack {
    fn new() -> Result<Self, BridgeError> {
        let mut builder = ptr::null_mut();
        // SAFETY: `builder` outlives the call.
        unsafe { check(WRITE, ffi::trommel_pickle_new(&raw mut builder)) }?;
        Ok(Self(builder))
    }

    fn push(&mut self, value: &Value) -> Result<(), BridgeError> {
        match value {
            Value::List(items) | Value::Tuple(items) => {
                for item in items {
                    self.push(item)?;
                }
            }
            Value::Dict(entries) => {
                for (key, value) in entries {
                    self.push(key)?;
                    self.push(value)?;
                }
            }
            _ => {}
        }
        // SAFETY: the stack lives; text and tensors outlive their call and are copied or counted by it.
        unsafe {
            let answer = match value {
                Value::None => ffi::trommel_pickle_none(self.0),
                Value::Bool(value) => ffi::trommel_pickle_bool(self.0, i32::from(*value)),
                Value::Int(value) => ffi::trommel_pickle_int(self.0, *value),
                Value::Float(value) => ffi::trommel_pickle_float(self.0, *value),
                Value::Str(text) => ffi::trommel_pickle_string(self.0, text.as_ptr().cast::<c_char>(), text.len()),
                Value::Tensor(tensor) => ffi::trommel_pickle_tensor(self.0, tensor.as_ptr()),
                Value::List(items) => ffi::trommel_pickle_list(self.0, items.len()),
                Value::Tuple(items) => ffi::trommel_pickle_tuple(self.0, items.len()),
                Value::Dict(entries) => ffi::trommel_pickle_dict(self.0, entries.len()),
            };
            check(WRITE, answer)
        }
    }
}

fn c_path(path: &Path) -> Result<CString, BridgeError> {
    let text = path.to_str().ok_or("is not UTF-8").and_then(|text| CString::new(text).map_err(|_| "holds a zero byte"));
    text.map_err(|what| BridgeError { operation: WRITE, message: format!("the path {} {what}", path.display()) })
}

/// Writes `value` to `path`, replacing it, in the format of `torch.save`. Not synced to the disk.
///
/// # Errors
/// A path that cannot be written, a full disk, values that the format does not know.
pub fn write_pickle(path: &Path, value: &Value) -> Result<(), BridgeError> {
    let name = c_path(path)?;
    let mut stack = Stack::new()?;
    stack.push(value)?;
    // SAFETY: the stack lives; the name ends with a zero byte.
    let written = unsafe { check(WRITE, ffi::trommel_pickle_write(stack.0, name.as_ptr())) };
    written.map_err(|BridgeError { operation, message }| BridgeError {
        operation,
        message: format!("{}: {message}", path.display()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cannot_be_written_is_an_error() {
        let error = write_pickle(Path::new("/nonexistent/x.pt"), &Value::None).unwrap_err();
        assert!(error.message.contains("No such file"), "{error}");
    }

    /// The device takes nothing; small files fail when they are closed, large ones while they are written.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error() {
        for elements in [1, 1 << 20] {
            let tensor = Tensor::zeros([elements], (tch::Kind::Float, tch::Device::Cpu));
            let error = write_pickle(Path::new("/dev/full"), &Value::Tensor(tensor)).unwrap_err();
            assert!(error.message.contains("No space left"), "{error}");
        }
    }
}
