//! Files of PyTorch's `torch.save`: written from plain values and tensors, state dicts read back.

use std::ffi::{CString, c_char};
use std::path::Path;
use std::ptr;

use tch::Tensor;

use crate::BridgeError;
use crate::ffi::{self, check};

/// A value that `torch.load(weights_only=True)` takes.
#[derive(Debug)]
pub enum Value {
    /// `None`.
    None,
    /// `bool`.
    Bool(bool),
    /// `int`.
    Int(i64),
    /// `float`.
    Float(f64),
    /// `str`.
    Str(String),
    /// A tensor; it is written from the CPU, contiguous.
    Tensor(Tensor),
    /// `list`.
    List(Vec<Value>),
    /// `tuple`.
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

fn c_path(operation: &'static str, path: &Path) -> Result<CString, BridgeError> {
    let text = path.to_str().ok_or("is not UTF-8").and_then(|text| CString::new(text).map_err(|_| "holds a zero byte"));
    text.map_err(|what| BridgeError { operation, message: format!("the path {} {what}", path.display()) })
}

/// Writes `value` to `path`, replacing it, in the format of `torch.save`. Not synced to the disk.
///
/// # Errors
/// A path that cannot be written, a full disk, values that the format does not know.
pub fn write_pickle(path: &Path, value: &Value) -> Result<(), BridgeError> {
    let path = c_path(WRITE, path)?;
    let mut stack = Stack::new()?;
    stack.push(value)?;
    // SAFETY: the stack lives; the path ends with a zero byte.
    unsafe { check(WRITE, ffi::trommel_pickle_write(stack.0, path.as_ptr())) }
}

/// Reads the named tensors of a file written by `torch.save`: those under `state_dict` if it has such a key, else those
/// at the top. The file's order; on the CPU; names as they stand, `module.` included.
///
/// # Errors
/// A file that cannot be read or is no state dict.
pub fn read_state_dict(path: &Path) -> Result<Vec<(String, Tensor)>, BridgeError> {
    const READ: &str = "reading a state dict";
    struct Held(*mut ffi::StateDict);
    impl Drop for Held {
        fn drop(&mut self) {
            // SAFETY: made by `trommel_state_dict_read`, freed once.
            unsafe { ffi::trommel_state_dict_free(self.0) };
        }
    }

    let path = c_path(READ, path)?;
    let (mut state, mut count) = (ptr::null_mut(), 0usize);
    // SAFETY: the places outlive the call; the path ends with a zero byte.
    unsafe { check(READ, ffi::trommel_state_dict_read(path.as_ptr(), &raw mut state, &raw mut count)) }?;
    let state = Held(state);
    let mut entries = Vec::with_capacity(count);
    for index in 0..count {
        let (mut name, mut size, mut tensor) = (ptr::null(), 0usize, ptr::null_mut());
        // SAFETY: the state dict lives until `state` is dropped; the name is copied before; the tensor is a new handle
        // that tch frees.
        unsafe {
            let answer = ffi::trommel_state_dict_entry(state.0, index, &raw mut name, &raw mut size, &raw mut tensor);
            check(READ, answer)?;
            let name = String::from_utf8_lossy(std::slice::from_raw_parts(name.cast::<u8>(), size)).into_owned();
            entries.push((name, Tensor::from_ptr(tensor)));
        }
    }
    Ok(entries)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use tch::Tensor;

    use super::*;

    struct Scratch(PathBuf);
    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_nested_state_dict_comes_back() {
        let file = Scratch(std::env::temp_dir().join(format!("trommel-pickle-{}.pt", std::process::id())));
        let wide = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0]).reshape([2, 2]);
        let tree = Value::named([
            ("epoch", Value::Int(3)),
            ("name", Value::Str("a run".into())),
            (
                "state_dict",
                Value::named([
                    ("b.weight", Value::Tensor(wide.transpose(0, 1))),
                    ("a", Value::Tensor(Tensor::from(2.5f32))),
                ]),
            ),
            ("betas", Value::Tuple(vec![Value::Float(0.9), Value::Float(0.98)])),
            ("state", Value::Dict(vec![(Value::Int(0), Value::List(vec![Value::None, Value::Bool(true)]))])),
        ]);
        write_pickle(&file.0, &tree).unwrap();
        let back = read_state_dict(&file.0).unwrap();
        assert_eq!(back.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b.weight", "a"]);
        assert_eq!(Vec::<f32>::try_from(back[0].1.reshape([4])).unwrap(), [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(f64::try_from(&back[1].1).unwrap(), 2.5);
    }

    #[test]
    fn a_view_is_written_without_its_storage() {
        let file = Scratch(std::env::temp_dir().join(format!("trommel-pickle-view-{}.pt", std::process::id())));
        let row = Tensor::zeros([1000, 1000], (tch::Kind::Float, tch::Device::Cpu)).get(7);
        write_pickle(&file.0, &Value::named([("row", Value::Tensor(row))])).unwrap();
        assert!(std::fs::metadata(&file.0).unwrap().len() < 10_000);
        assert_eq!(read_state_dict(&file.0).unwrap()[0].1.size(), [1000]);
    }

    #[test]
    fn what_is_no_state_dict_is_an_error() {
        assert!(read_state_dict(Path::new("/nonexistent/x.pt")).is_err());
        let file = Scratch(std::env::temp_dir().join(format!("trommel-pickle-bad-{}.pt", std::process::id())));
        std::fs::write(&file.0, b"no archive").unwrap();
        assert!(read_state_dict(&file.0).is_err());
        assert!(write_pickle(Path::new("/nonexistent/x.pt"), &Value::None).is_err());
    }
}
