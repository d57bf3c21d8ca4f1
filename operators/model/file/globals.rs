//! The names that a pickle of weights may hold, and what each stands for. Whatever is not here is refused.

use tch::Kind;

/// What the elements of a storage are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    /// Floating-point numbers.
    Float(Kind),
    /// Others, of so many bytes: counters, masks and the like, which no weight is.
    Other(u8),
}

impl Dtype {
    pub(super) const fn bytes(self) -> u64 {
        match self {
            Self::Float(Kind::Double) => 8,
            Self::Float(Kind::Float) => 4,
            Self::Float(_) => 2,
            Self::Other(bytes) => bytes as u64,
        }
    }
}

/// A name of the allow-list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `dict`, `OrderedDict`.
    Dict,
    /// `list`, `tuple`, `set`, `torch.Size`, TorchScript's typed lists.
    List,
    /// A class of storages.
    Storage(Dtype),
    /// `_rebuild_tensor` and `_rebuild_tensor_v2`.
    Tensor,
    /// `_rebuild_parameter` and TorchScript's type tags: their first argument.
    First,
    /// What stays data without meaning here: dtypes, devices, numpy's scalars, `argparse.Namespace`, modules of TorchScript.
    Inert,
}

impl Global {
    pub(super) fn of(module: &str, name: &str) -> Option<Self> {
        let builtin = matches!(module, "builtins" | "__builtin__");
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::Dict,
            (_, "dict") if builtin => Self::Dict,
            (_, "list" | "tuple" | "set" | "frozenset") if builtin => Self::List,
            ("torch", "Size") => Self::List,
            ("torch.jit._pickle", "build_intlist" | "build_doublelist" | "build_boollist" | "build_tensorlist") => {
                Self::List
            }
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::Tensor,
            ("torch._utils", "_rebuild_parameter") | ("torch.jit._pickle", "restore_type_tag") => Self::First,
            ("torch", class) if class.ends_with("Storage") => Self::Storage(storage(class)?),
            (
                "torch",
                "device" | "float16" | "bfloat16" | "float32" | "float64" | "int64" | "int32" | "int16" | "int8"
                | "uint8" | "bool",
            ) => Self::Inert,
            // numpy's scalars, under the old and the new name of its module; their bytes are a text of Python 2's codec.
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") | ("numpy", "dtype") => Self::Inert,
            ("_codecs", "encode") => Self::Inert,
            ("argparse", "Namespace") => Self::Inert,
            _ if module == "__torch__" || module.starts_with("__torch__.") => Self::Inert,
            _ => return None,
        })
    }
}

fn storage(class: &str) -> Option<Dtype> {
    Some(match class {
        "DoubleStorage" => Dtype::Float(Kind::Double),
        "FloatStorage" => Dtype::Float(Kind::Float),
        "HalfStorage" => Dtype::Float(Kind::Half),
        "BFloat16Storage" => Dtype::Float(Kind::BFloat16),
        "ComplexDoubleStorage" => Dtype::Other(16),
        "LongStorage" | "ComplexFloatStorage" => Dtype::Other(8),
        "IntStorage" => Dtype::Other(4),
        "ShortStorage" => Dtype::Other(2),
        "CharStorage" | "ByteStorage" | "BoolStorage" => Dtype::Other(1),
        _ => return None,
    })
}
