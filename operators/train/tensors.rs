//! safetensors files of f32 tensors, streamed out one tensor at a time.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::error::TrainError;
use super::files::{Mark, hex};

/// Writes named f32 tensors, in name order, and syncs them; returns the file's mark.
///
/// Layout: u64 little-endian length of the header, the header (JSON: name to dtype, shape, byte range; padded with
/// spaces to 8 bytes), the tensors' bytes.
///
/// # Errors
/// A tensor of another kind; the file cannot be written.
pub fn write(path: &Path, tensors: &[(String, Tensor)], notes: &[(&str, String)]) -> Result<Mark, TrainError> {
    let mut sorted: Vec<&(String, Tensor)> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), notes.iter().map(|(k, v)| ((*k).to_string(), json!(v))).collect());
    let mut end = 0usize;
    for (name, tensor) in &sorted {
        let kind = tensor.f_kind().map_err(TrainError::torch("a tensor's kind"))?;
        if kind != Kind::Float {
            return Err(TrainError::checkpoint(path, format!("{name} is {kind:?}, f32 is written")));
        }
        let start = end;
        end += tensor.numel() * 4;
        header.insert(name.clone(), json!({"dtype": "F32", "shape": tensor.size(), "data_offsets": [start, end]}));
    }
    let mut head = serde_json::Value::Object(header).to_string().into_bytes();
    head.resize(head.len().next_multiple_of(8), b' ');

    let (mut bytes, mut crc) = (0u64, 0u32);
    let file = File::create(path).map_err(TrainError::file(path, "creating"))?;
    let mut out = BufWriter::new(file);
    let mut put = |data: &[u8]| {
        bytes += data.len() as u64;
        crc = crc32c::crc32c_append(crc, data);
        out.write_all(data).map_err(TrainError::file(path, "writing"))
    };
    put(&(head.len() as u64).to_le_bytes())?;
    put(&head)?;
    let mut buffer = Vec::new();
    for (_, tensor) in &sorted {
        let plain = tensor.f_detach().and_then(|t| t.f_to(Device::Cpu)).and_then(|t| t.f_contiguous());
        let plain = plain.map_err(TrainError::torch("a tensor to the CPU"))?;
        buffer.resize(plain.numel() * 4, 0);
        plain.f_copy_data_u8(&mut buffer, plain.numel()).map_err(TrainError::torch("a tensor's bytes"))?;
        put(&buffer)?;
    }
    out.into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .and_then(|file| file.sync_all())
        .map_err(TrainError::file(path, "writing"))?;
    Ok(Mark { bytes, crc32c: hex(crc) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use trommel_model::file::WeightsFile;

    use super::*;

    #[test]
    fn tensors_come_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let wide = Tensor::from_slice(&[1.0f32, f32::MIN_POSITIVE, -0.0, 3.5, 1e-40, 6.0]).reshape([2, 3]);
        let tensors = vec![("b".to_string(), wide.transpose(0, 1)), ("a".to_string(), Tensor::from(7.25f32))];
        let marked = write(&path, &tensors, &[("format", "pt".into())]).unwrap();
        assert_eq!(marked, super::super::files::mark(&path).unwrap());
        let file = WeightsFile::open(&path).unwrap();
        let back = |name: &str| file.fetch(file.tensors.iter().find(|it| it.name == name).unwrap()).unwrap();
        assert_eq!((file.tensors.len(), back("a").size()), (2, vec![]));
        let bits = |t: &Tensor| -> Vec<u32> {
            Vec::<f32>::try_from(t.contiguous().reshape([-1])).unwrap().iter().map(|x| x.to_bits()).collect()
        };
        assert_eq!(back("b").size(), [3, 2]);
        assert_eq!(bits(&back("b")), bits(&wide.transpose(0, 1)));
        std::fs::write(&path, b"nothing").unwrap();
        assert!(WeightsFile::open(&path).is_err());
    }
}
