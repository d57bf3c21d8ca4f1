//! Files that are data: what is refused, what is too large, what is cut off; first bytes that deceive.

use std::fs;
use std::path::Path;

use tch::{Kind, Tensor};
use trommel_bridge::{Value, write_pickle};
use trommel_core::causes::Causes;

use super::pickle::Pickle;
use super::{Form, WeightsFile};

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/files").join(name)
}

#[test]
fn what_we_write_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tree.pt");
    let wide = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0]).reshape([2, 2]);
    let row = Tensor::zeros([1000, 1000], (Kind::Float, tch::Device::Cpu)).get(7);
    let tree = Value::named([
        ("epoch", Value::Int(3)),
        ("name", Value::Str("a run".into())),
        (
            "state_dict",
            Value::named([
                ("b.weight", Value::Tensor(wide.transpose(0, 1))),
                ("a", Value::Tensor(Tensor::from(2.5f32))),
                ("row", Value::Tensor(row)),
            ]),
        ),
        ("betas", Value::Tuple(vec![Value::Float(0.9), Value::Float(0.98)])),
        ("state", Value::Dict(vec![(Value::Int(0), Value::List(vec![Value::None, Value::Bool(true)]))])),
    ]);
    write_pickle(&path, &tree).unwrap();
    let file = WeightsFile::open(&path).unwrap();
    assert_eq!(file.form, Form::TorchSave);
    assert_eq!(file.tensors.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["b.weight", "a", "row"]);
    let fetched: Vec<Tensor> = file.tensors.iter().map(|stored| file.fetch(stored).unwrap()).collect();
    assert_eq!(Vec::<f32>::try_from(fetched[0].reshape([4])).unwrap(), [1.0, 3.0, 2.0, 4.0]);
    assert_eq!((f64::try_from(&fetched[1]).unwrap(), fetched[1].dim()), (2.5, 0));
    // The row is a view: its storage of a million elements stays behind.
    assert!(fetched[2].size() == [1000] && fs::metadata(&path).unwrap().len() < 15_000);
}

/// The length of a safetensors header is its first bytes, and may look like any magic number.
#[test]
fn a_header_of_any_length_is_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    for len in [0x50u64, 0x4b50, 0x280, 0x1_0280, 0x480, 0x8b1f, 0x5d, 0x7d] {
        let head = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
        let header = format!("{head}{}}}", " ".repeat(len as usize - head.len() - 1));
        let bytes = [&len.to_le_bytes()[..], header.as_bytes(), &1.5f32.to_le_bytes(), &2.5f32.to_le_bytes()].concat();
        let path = folder.path().join(format!("{len}.safetensors"));
        fs::write(&path, bytes).unwrap();
        let file = WeightsFile::open(&path).unwrap();
        assert_eq!(file.form, Form::Safetensors, "{len}");
        assert_eq!(Vec::<f32>::try_from(file.fetch(&file.tensors[0]).unwrap()).unwrap(), [1.5, 2.5], "{len}");
    }
}

#[test]
fn code_in_a_pickle_is_named_and_not_run() {
    for (what, program) in [
        ("posix.system", &b"\x80\x02cposix\nsystem\nq\x00X\x02\x00\x00\x00id\x85R."[..]),
        ("builtins.eval", b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R."),
        ("torch.load", b"\x80\x02ctorch\nload\n."),
        ("torch.hub.load", b"\x80\x02ctorch.hub\nload\n."),
        ("numpy.load", b"\x80\x02cnumpy\nload\n."),
        ("open_clip.model.CLIP", b"\x80\x02copen_clip.model\nCLIP\n)\x81}b."),
        // A name cannot paint on the terminal.
        ("\\u{1b}[31m.x", b"\x80\x02c\x1b[31m\nx\n."),
    ] {
        let error = Causes(&Pickle::read(program).unwrap_err()).to_string();
        assert!(error.contains(what) && error.contains("nothing of it was run"), "{what}: {error}");
    }
}

/// Programs that a Python would run for ever, or into the last byte of memory.
#[test]
fn hostile_programs_end() {
    let nested = [&b"\x80\x02"[..], &b"]".repeat(3 << 20), &b"a".repeat((3 << 20) - 1), b"."].concat();
    let pickle = Pickle::read(&nested).unwrap();
    assert_eq!(pickle.len, nested.len());
    // One list of many pairs, made into a dict again and again.
    let pair = b"h\x00h\x00\x86".repeat(100_000);
    let again = b"ccollections\nOrderedDict\nh\x01\x85R0".repeat(1000);
    let copies = [&b"\x80\x02K\x01q\x00]q\x01("[..], &pair, b"e", &again, b"."].concat();
    for (what, program) in [
        ("too many values", copies),
        ("too many values", [&b"\x80\x02"[..], &b"N".repeat(5 << 20)].concat()),
        ("too many values", [&b"\x80\x02"[..], &b"]0".repeat(5 << 20)].concat()),
        ("bytes are announced", b"\x80\x02X\xff\xff\xff\xffabc".to_vec()),
        ("bytes are announced", b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc".to_vec()),
        ("the stack is empty", b"\x80\x02N(0.".to_vec()),
        ("no mark", b"\x80\x02t.".to_vec()),
        ("is empty", b"\x80\x02h\x07.".to_vec()),
        ("protocol 9", b"\x80\x09N.".to_vec()),
        ("0x69", b"\x80\x02i.".to_vec()),
        ("cut off", b"\x80\x02N".to_vec()),
    ] {
        let error = Causes(&Pickle::read(&program).unwrap_err()).to_string();
        assert!(error.contains(what), "{what}: {error}");
    }
}

/// Every view is checked against its storage before memory is taken.
#[test]
fn views_beyond_their_storage_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pt");
    let values = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).reshape([2, 3]);
    write_pickle(&path, &Value::named([("a", Value::Tensor(values))])).unwrap();
    let sound = fs::read(&path).unwrap();
    // .. offset 0, shape (2, 3), strides (3, 1): `K\0 K\x02 K\x03 \x86 .. K\x03 K\x01 \x86`, memo instructions between.
    let at = sound.windows(4).position(|w| w == b"K\x02K\x03").unwrap();
    for (place, byte) in [(1, 200), (3, 200)] {
        let mut broken = sound.clone();
        broken[at + place] = byte;
        fs::write(&path, &broken).unwrap();
        let error = Causes(&WeightsFile::open(&path).unwrap_err()).to_string();
        assert!(error.contains("a reaches beyond its storage of 24 bytes"), "{error}");
    }
}

/// No damage leads to a panic, nor to values from outside of the file.
#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pt");
    let legacy = golden("legacy.pt");
    for source in [golden("checkpoint.pt"), legacy] {
        let sound = fs::read(&source).unwrap();
        let mut read = 0;
        for k in 0..400usize {
            let mut bytes = sound.clone();
            let at = k.wrapping_mul(0x9e37_79b9) % bytes.len();
            if k % 4 == 0 {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << (k % 8);
            }
            fs::write(&path, &bytes).unwrap();
            if let Ok(file) = WeightsFile::open(&path) {
                read += file.tensors.iter().filter(|stored| file.fetch(stored).is_ok()).count();
            }
        }
        assert!(read > 0, "{}: flips in the values themselves go unseen", source.display());
    }
}
