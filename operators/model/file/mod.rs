//! Files of weights: which tensors stand where, known before memory is taken for any of them.
//!
//! | form | known by | read by |
//! |--|--|--|
//! | safetensors | a header's length that fits the file, and its `{` at byte 8 | `safetensors` |
//! | `torch.save` | a zip archive with one `*/data.pkl` | `torch.rs`, `pickle.rs` |
//! | `torch.save` before 1.6 | a first pickle that holds torch's magic number | the same |
//! | TorchScript | a zip archive of torch with code in it | the same: its tensors, never its code |
//!
//! The first bytes alone do not tell: a safetensors header of 19,280 bytes begins as a zip archive does (`PK`), one of
//! 66,176 bytes as a pickle.
//!
//! Nothing in a file is executed. Own code reads the pickle because no kept crate does: `serde-pickle` knows no
//! persistent ids, `repugnant-pickle` is abandoned, candle's reader takes no pickle of protocol 4 and none of before
//! torch 1.6, copies no view of other strides, and comes with a second tensor library.

mod error;
mod globals;
mod pickle;
mod torch;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata};
use tch::{Kind, Tensor};

use self::error::FormatError;
use super::error::{ModelError, Op};

/// Largest header of a safetensors file, in bytes.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Said of a TorchScript module that was read as data and did not serve.
pub(super) const CODE_NOT_RUN: &str =
    "a TorchScript module: its tensors were looked at, its code is run only where an embedder is given --torchscript";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Hugging Face's safetensors.
    Safetensors,
    /// A zip archive or older file of `torch.save`.
    TorchSave,
    /// A zip archive of `torch.jit.save`.
    TorchScript,
}

/// A tensor in a file.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// Its name, as it stands in the file.
    pub name: String,
    /// Number of elements along each side.
    pub shape: Vec<i64>,
    /// Elements between neighbours along each side; `None`: row after row.
    stride: Option<Vec<i64>>,
    /// Its floating-point kind, or what it is else.
    kind: Result<Kind, String>,
    /// Where its first element stands in the file.
    start: u64,
    /// Bytes from its first to behind its last element, within the file.
    bytes: u64,
}

/// A file of weights: its table of tensors, and the file to fetch them from.
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    file: File,
    /// The format of the file.
    pub form: Form,
    /// Its tensors: of a training checkpoint those under `state_dict`.
    pub tensors: Vec<StoredTensor>,
}

impl WeightsFile {
    /// Reads the table of `path`.
    ///
    /// # Errors
    /// No file of weights, or one that is cut off, damaged, big-endian, or holds what no weights need.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let wrong = |error: FormatError| ModelError::file(path, error);
        let io = |error: std::io::Error| wrong(error.into());
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let mut head = [0u8; 16];
        let head = &mut head[..len.min(16) as usize];
        file.read_exact_at(head, 0).map_err(io)?;
        let header_len = head.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let (form, tensors) = if head.get(8) == Some(&b'{') && header_len <= MAX_HEADER_BYTES {
            (Form::Safetensors, safetensors_table(&file, len, header_len).map_err(wrong)?)
        } else if head.starts_with(b"PK\x03\x04") {
            torch::archive(&file, len).map_err(wrong)?
        } else if head.starts_with(&[0x80]) {
            (Form::TorchSave, torch::legacy(&file, len).map_err(wrong)?)
        } else {
            let found = format!("it has {len} bytes and begins with \"{}\"", head.escape_ascii());
            return Err(wrong(format!("neither safetensors nor a file of torch.save: {found}").into()));
        };
        Ok(Self { path: path.into(), file, form, tensors })
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads one tensor, on the CPU, in its own kind.
    ///
    /// # Errors
    /// Its elements are no floating-point numbers, or the disk fails.
    pub fn fetch(&self, stored: &StoredTensor) -> Result<Tensor, ModelError> {
        let name = &stored.name;
        let kind = match &stored.kind {
            Ok(kind) => *kind,
            Err(what) => {
                let problem = format!("{name} holds {what}, not floating-point numbers");
                return Err(ModelError::weights(&self.path, problem));
            }
        };
        // Within the file: the table was checked against its length.
        let mut bytes = vec![0; usize::try_from(stored.bytes).unwrap_or(usize::MAX)];
        let read = self.file.read_exact_at(&mut bytes, stored.start);
        let unread = |source| FormatError::Elements { name: name.clone(), source };
        read.map_err(|error| ModelError::file(&self.path, unread(error)))?;
        match &stored.stride {
            None => Tensor::f_from_data_size(&bytes, &stored.shape, kind).op(name, &[]),
            Some(stride) => {
                let count = i64::try_from(bytes.len() / kind.elt_size_in_bytes()).unwrap_or(i64::MAX);
                Tensor::f_from_data_size(&bytes, &[count], kind)
                    .and_then(|flat| flat.f_as_strided(&stored.shape, stride, None))
                    .op(name, &[])
            }
        }
    }
}

/// Whether the file is a TorchScript module: an archive of torch with code in it.
#[must_use]
pub fn is_torchscript(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| torch::has_code(&file))
}

fn safetensors_table(file: &File, len: u64, header_len: u64) -> Result<Vec<StoredTensor>, FormatError> {
    if header_len > len - 8 {
        return Err(format!("its safetensors header announces {header_len} bytes, the file has {len}").into());
    }
    let mut header = vec![0; usize::try_from(header_len).unwrap_or(0)];
    file.read_exact_at(&mut header, 8)?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(FormatError::Header)?;
    let announced = 8 + header_len + metadata.data_len() as u64;
    if announced != len {
        return Err(format!("the header of safetensors announces {announced} bytes, the file has {len}").into());
    }
    let stored = |name: String| {
        let info = metadata.info(&name)?;
        let kind = match info.dtype {
            Dtype::F32 => Ok(Kind::Float),
            Dtype::F16 => Ok(Kind::Half),
            Dtype::BF16 => Ok(Kind::BFloat16),
            Dtype::F64 => Ok(Kind::Double),
            other => Err(format!("{other:?}")),
        };
        let shape = info.shape.iter().map(|&side| i64::try_from(side).unwrap_or(i64::MAX)).collect();
        let (from, to) = info.data_offsets;
        let (start, bytes) = (8 + header_len + from as u64, (to - from) as u64);
        Some(StoredTensor { name, shape, stride: None, kind, start, bytes })
    };
    Ok(metadata.offset_keys().into_iter().filter_map(stored).collect())
}
