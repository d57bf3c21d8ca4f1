//! Files of `torch.save`: a pickle of names and views, and storages beside it.
//!
//! A zip archive `NAME/{data.pkl, byteorder, data/KEY ..}` with everything stored uncompressed; before torch 1.6 a run of
//! pickles (magic number, protocol, system, the object, keys of storages) and then the storages, each behind its number
//! of elements. Views are turned into places of the file here, and checked against their storage; no element is read.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use zip::{CompressionMethod, ZipArchive};

use super::error::FormatError;
use super::globals::Dtype;
use super::pickle::{MAX_BYTES, Node, Pickle, Storage, Value, View};
use super::{Form, StoredTensor};

/// `0x1950a86a20f9469cfc6c`, the first pickle of a file before torch 1.6.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Modules of TorchScript may lie in each other so deep, and hold so many tensors.
const MAX_DEPTH: usize = 64;
const MAX_TENSORS: usize = 1 << 17;
/// Longest name of a tensor, in bytes.
const MAX_NAME_BYTES: usize = 1 << 10;
/// What a file holds instead of tensors is named up to this many.
const OTHERS_SHOWN: usize = 16;

/// Bytes of the file: start and length.
type Place = (u64, u64);

/// The table of a zip archive.
pub(super) fn archive(file: &File, len: u64) -> Result<(Form, Vec<StoredTensor>), FormatError> {
    let form = if has_code(file) { Form::TorchScript } else { Form::TorchSave };
    let tensors = archived(file, len, form == Form::TorchScript);
    let is_script = form == Form::TorchScript;
    let tensors = tensors.map_err(|why| if is_script { FormatError::Script(Box::new(why)) } else { why })?;
    Ok((form, tensors))
}

fn archived(file: &File, len: u64, script: bool) -> Result<Vec<StoredTensor>, FormatError> {
    let mut zip = ZipArchive::new(file).map_err(FormatError::Archive)?;
    let roots = roots(&zip);
    let [root] = roots.as_slice() else {
        return Err("a zip archive, but not one of torch.save: it has no data.pkl".into());
    };
    let mut place = |name: &str| -> Result<Option<Place>, FormatError> {
        let entry = match zip.by_name(&format!("{root}/{name}")) {
            Ok(entry) => entry,
            Err(zip::result::ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(FormatError::Archive(error)),
        };
        let (start, bytes) = (entry.data_start(), entry.size());
        if entry.compression() != CompressionMethod::Stored || entry.compressed_size() != bytes {
            return Err(format!("{name} is compressed in its archive, which torch.save never does").into());
        }
        if start.checked_add(bytes).is_none_or(|end| end > len) {
            return Err(format!("{name} reaches beyond the file's end").into());
        }
        Ok(Some((start, bytes)))
    };
    let read = |(start, bytes): Place, most: usize| {
        let mut content = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX).min(most)];
        file.read_exact_at(&mut content, start).map(|()| content)
    };
    if let Some(order) = place("byteorder")?
        && read(order, 16)? != b"little"
    {
        return Err("was written on a big-endian machine: load it there and save it as safetensors".into());
    }
    let pickled = place("data.pkl")?.ok_or("data.pkl is missing")?;
    if pickled.1 > MAX_BYTES as u64 {
        return Err(format!("its pickle of {} bytes holds more than weights", pickled.1).into());
    }
    let bytes = read(pickled, MAX_BYTES)?;
    let pickle = Pickle::read(&bytes)?;
    let views = if script { script_views(&pickle)? } else { named_views(&pickle)? };
    let mut known: HashMap<Vec<u8>, Place> = HashMap::new();
    let mut tensors = Vec::with_capacity(views.len());
    for (name, view) in views {
        let key = pickle.bytes(view.storage.key);
        let storage = match known.get(key) {
            Some(storage) => *storage,
            None => {
                let entry = format!("data/{}", String::from_utf8_lossy(key));
                let storage = place(&entry)?.ok_or_else(|| format!("{name}: its {entry} is missing"))?;
                known.insert(key.to_vec(), storage);
                storage
            }
        };
        tensors.push(stored(name, view, storage)?);
    }
    Ok(tensors)
}

/// Whether the archive of torch has code in it.
pub(super) fn has_code(file: &File) -> bool {
    let code_in = |zip: &ZipArchive<&File>, root: &String| {
        zip.file_names().any(|name| name.strip_prefix(root.as_str()).is_some_and(|rest| rest.starts_with("/code/")))
    };
    ZipArchive::new(file).is_ok_and(|zip| roots(&zip).iter().any(|root| code_in(&zip, root)))
}

/// Folders with a pickle of torch's.
fn roots(zip: &ZipArchive<&File>) -> Vec<String> {
    let root = |name: &str| name.strip_suffix("/data.pkl").filter(|root| !root.contains('/')).map(str::to_owned);
    zip.file_names().filter_map(root).collect()
}

/// The table of a file from before torch 1.6.
pub(super) fn legacy(file: &File, len: u64) -> Result<Vec<StoredTensor>, FormatError> {
    let mut head = Vec::new();
    // All pickles stand before the first storage.
    file.take(MAX_BYTES as u64).read_to_end(&mut head)?;
    let mut at = 0;
    let mut next = || -> Result<Pickle<'_>, FormatError> {
        let pickle = Pickle::read(&head[at..])?;
        at += pickle.len;
        Ok(pickle)
    };
    let magic = next()?;
    if !matches!(magic.root, Value::Bytes(span) if magic.bytes(span) == MAGIC) {
        return Err("a pickle, but not one of torch.save: save model.state_dict() with torch.save".into());
    }
    let (_protocol, system) = (next()?, next()?);
    if system.get(system.root, "little_endian") == Some(Value::Bool(false)) {
        return Err("was written on a big-endian machine: load it there and save it as safetensors".into());
    }
    let (pickle, keys) = (next()?, next()?);
    let mut dtypes: HashMap<&[u8], Dtype> = HashMap::new();
    for Storage { key, dtype } in pickle.storages() {
        dtypes.insert(pickle.bytes(key), dtype);
    }
    let (mut places, mut start): (HashMap<&[u8], Place>, u64) = (HashMap::new(), at as u64);
    let Some(Node::List(listed)) = keys.node(keys.root) else { return Err("its list of storages is missing".into()) };
    for key in listed {
        let key = match key {
            Value::Text(span) => keys.bytes(*span),
            other => return Err(format!("a storage's key is {other:?}").into()),
        };
        let mut count = [0; 8];
        file.read_exact_at(&mut count, start).map_err(|_| FormatError::from("is cut off before its last storage"))?;
        start += 8;
        let dtype = dtypes.get(key).ok_or("a storage that no tensor names")?;
        let bytes = u64::from_le_bytes(count).checked_mul(dtype.bytes()).filter(|bytes| *bytes <= len - start);
        let bytes = bytes.ok_or("is cut off in a storage")?;
        places.insert(key, (start, bytes));
        start += bytes;
    }
    let of = |(name, view): (String, &View)| {
        let storage =
            places.get(pickle.bytes(view.storage.key)).ok_or_else(|| format!("{name}: its storage is missing"))?;
        stored(name, view, *storage)
    };
    named_views(&pickle)?.into_iter().map(of).collect()
}

/// The tensors of a state dict: those under `state_dict`, else those at the top, as open_clip takes them.
fn named_views<'p>(pickle: &'p Pickle) -> Result<Vec<(String, &'p View)>, FormatError> {
    let state = pickle.get(pickle.root, "state_dict").unwrap_or(pickle.root);
    let pairs = pickle.dict(state).ok_or("no state dict, but another object: save model.state_dict()")?;
    let (mut others, mut views) = (Vec::new(), Vec::new());
    for (key, value) in pairs {
        let Some(name) = name_of(pickle, *key)? else { continue };
        match pickle.node(*value) {
            Some(Node::Tensor(_)) if views.len() >= MAX_TENSORS => return Err("too many tensors".into()),
            Some(Node::Tensor(view)) => views.push((name, view)),
            _ if others.len() < OTHERS_SHOWN => others.push(name),
            _ => {}
        }
    }
    if views.is_empty() {
        let held = if others.is_empty() { "nothing".into() } else { others.join(", ") };
        return Err(format!("no tensors under names, nor a state_dict; it holds {held}").into());
    }
    Ok(views)
}

/// A key that is text; one text may stand under millions of keys, so that long ones are refused before they are copied.
fn name_of(pickle: &Pickle, key: Value) -> Result<Option<String>, FormatError> {
    match key {
        Value::Text(span) if pickle.bytes(span).len() > MAX_NAME_BYTES => {
            Err(format!("a name in it is longer than {MAX_NAME_BYTES} bytes").into())
        }
        key => Ok(pickle.text(key).map(std::borrow::Cow::into_owned)),
    }
}

/// The tensors of a module of TorchScript, by the names of its attributes.
fn script_views<'p>(pickle: &'p Pickle) -> Result<Vec<(String, &'p View)>, FormatError> {
    let mut views = Vec::new();
    let mut open = vec![(String::new(), pickle.root, 0)];
    let mut seen = 0;
    while let Some((name, value, depth)) = open.pop() {
        seen += 1;
        if depth > MAX_DEPTH || seen > MAX_TENSORS {
            return Err("its modules lie too deep in each other".into());
        }
        match pickle.node(value) {
            Some(Node::Tensor(view)) => views.push((name, view)),
            Some(Node::Object(state)) => {
                for (key, value) in pickle.dict(*state).unwrap_or_default() {
                    let Some(key) = name_of(pickle, *key)? else { continue };
                    let name = if name.is_empty() { key } else { format!("{name}.{key}") };
                    if name.len() > MAX_NAME_BYTES || open.len() >= MAX_TENSORS {
                        return Err("its modules hold too many or too long names".into());
                    }
                    open.push((name, *value, depth + 1));
                }
            }
            _ => {}
        }
    }
    Ok(views)
}

/// A view as a place of the file.
fn stored(name: String, view: &View, (start, len): Place) -> Result<StoredTensor, FormatError> {
    let View { storage: Storage { dtype, .. }, offset, shape, stride } = view;
    let outside = || FormatError::Unfit(format!("{name} reaches beyond its storage of {len} bytes"));
    let empty = shape.contains(&0);
    let last = shape
        .iter()
        .zip(stride)
        .try_fold(0i64, |last, (side, stride)| last.checked_add(side.checked_sub(1)?.checked_mul(*stride)?));
    let count = if empty { Some(0) } else { last.and_then(|last| last.checked_add(1)) };
    let bytes = |count: i64| u64::try_from(count).ok()?.checked_mul(dtype.bytes());
    let (before, bytes) = (bytes(*offset).ok_or_else(outside)?, count.and_then(bytes).ok_or_else(outside)?);
    if before.checked_add(bytes).is_none_or(|end| end > len) {
        return Err(outside());
    }
    let kind = match dtype {
        Dtype::Float(kind) => Ok(*kind),
        Dtype::Other(bytes) => Err(format!("elements of {bytes} bytes")),
    };
    let stride = (!empty && !is_dense(shape, stride)).then(|| stride.clone());
    Ok(StoredTensor { name, shape: shape.clone(), stride, kind, start: start + before, bytes })
}

/// Row after row without gaps.
fn is_dense(shape: &[i64], stride: &[i64]) -> bool {
    let mut expected = 1i64;
    shape.iter().zip(stride).rev().all(|(side, stride)| {
        let dense = *side == 1 || *stride == expected;
        expected = expected.saturating_mul(*side);
        dense
    })
}
