//! numpy's array files: `<f2`, `<f4` and `<f8` matrices are read, `<f2` written (version 1.0, C order).

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use bytemuck::cast_slice;
use half::f16;

use super::ColumnarError;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
const MAX_HEADER_BYTES: usize = 65_536;

/// Elements of DataComp's lists of uids, blanks left out.
const PAIRS: &str = "[('f0','<u8'),('f1','<u8')]";

/// Element type of an npy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// `<f2`: little-endian f16.
    F16,
    /// `<f4`: little-endian f32.
    F32,
    /// `<f8`: little-endian f64, as `np.zeros((rows, dim))` makes it where nobody names a type. It is read as numpy's `astype("float32")` reads it.
    F64,
}

impl Element {
    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// The head of a matrix: `element[rows, dim]`, C order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixHead {
    /// Type of every element.
    pub element: Element,
    /// Number of rows, one an embedding.
    pub rows: u64,
    /// Elements of a row.
    pub dim: usize,
    /// Bytes before the first element.
    pub offset: u64,
}

/// Reads the head and checks it against the file's length.
///
/// # Errors
/// Anything but a C-order `<f2`, `<f4` or `<f8` matrix of exactly this length.
pub fn read_head(path: &Path, input: &mut impl Read, file_bytes: u64) -> Result<MatrixHead, ColumnarError> {
    let bad = |detail: String| ColumnarError::malformed(path, "npy", detail);
    let (header, offset) = header(path, input)?;
    let descr = entry(&header, "descr").ok_or_else(|| bad("no `descr` in the header".into()))?;
    let descr = descr.trim_start().chars().take(24).collect::<String>();
    let known = [("'<f2'", Element::F16), ("'<f4'", Element::F32), ("'<f8'", Element::F64)];
    let element = known.into_iter().find(|(name, _)| descr.starts_with(name)).map(|(_, element)| element);
    let element = element.ok_or_else(|| {
        let seen = descr.split(',').next().unwrap_or_default();
        bad(format!("element type {seen}; '<f2', '<f4' and '<f8' are read"))
    })?;
    let sizes = shape(path, &header)?;
    let &[rows, dim] = sizes.as_slice() else {
        return Err(bad(format!("the shape is {sizes:?}; (rows, dim) is read")));
    };
    if dim == 0 || dim > super::ipc::MAX_DIM as u64 {
        return Err(bad(format!("rows of {dim} elements (1 to {})", super::ipc::MAX_DIM)));
    }
    let expected = rows
        .checked_mul(dim)
        .and_then(|n| n.checked_mul(element.bytes()))
        .and_then(|n| n.checked_add(offset))
        .ok_or_else(|| bad(format!("the shape ({rows}, {dim}) is too large")))?;
    if expected != file_bytes {
        return Err(bad(format!("the shape ({rows}, {dim}) needs a file of {expected} bytes; it has {file_bytes}")));
    }
    Ok(MatrixHead { element, rows, dim: dim as usize, offset })
}

/// Reads the head of a list of pairs of u64 (`np.dtype("u8,u8")`), which are DataComp's uids: how many, and the bytes before the first.
///
/// # Errors
/// Anything but such a list of exactly this length.
pub fn read_pair_head(path: &Path, input: &mut impl Read, file_bytes: u64) -> Result<(u64, u64), ColumnarError> {
    let bad = |detail: String| ColumnarError::malformed(path, "npy", detail);
    let (header, offset) = header(path, input)?;
    let descr = entry(&header, "descr").unwrap_or_default();
    let plain: String = descr.chars().filter(|c| !c.is_whitespace()).take(PAIRS.len()).collect();
    if plain != PAIRS {
        // A list of fields, or the text of one type.
        let end = if plain.starts_with('[') { descr.find(']').map(|at| at + 1) } else { descr.find(',') };
        let elements = descr[..end.unwrap_or(descr.len())].trim();
        return Err(bad(format!(
            "elements {elements:.80}; DataComp's lists of uids have [('f0', '<u8'), ('f1', '<u8')]"
        )));
    }
    let sizes = shape(path, &header)?;
    let &[rows] = sizes.as_slice() else { return Err(bad(format!("the shape is {sizes:?}; (rows,) is read"))) };
    let expected = rows.checked_mul(16).and_then(|bytes| bytes.checked_add(offset));
    if expected != Some(file_bytes) {
        return Err(bad(format!("{rows} uids do not make a file of {file_bytes} bytes")));
    }
    Ok((rows, offset))
}

/// The header's text, and the bytes before the first element.
fn header(path: &Path, input: &mut impl Read) -> Result<(String, u64), ColumnarError> {
    let bad = |detail: String| ColumnarError::malformed(path, "npy", detail);
    let cut = |place: &'static str| {
        move |error: io::Error| match error.kind() {
            ErrorKind::UnexpectedEof => ColumnarError::malformed(path, "npy", format!("cut off in the {place}")),
            _ => ColumnarError::unreadable(path, "npy", error),
        }
    };
    let mut start = [0u8; 8];
    input.read_exact(&mut start).map_err(cut("magic bytes"))?;
    if &start[..6] != MAGIC {
        return Err(bad("it does not begin with \\x93NUMPY".into()));
    }
    let (length, prefix) = if start[6] == 1 {
        let mut bytes = [0u8; 2];
        input.read_exact(&mut bytes).map_err(cut("header"))?;
        (usize::from(u16::from_le_bytes(bytes)), 10)
    } else if start[6] == 2 || start[6] == 3 {
        let mut bytes = [0u8; 4];
        input.read_exact(&mut bytes).map_err(cut("header"))?;
        (u32::from_le_bytes(bytes) as usize, 12)
    } else {
        return Err(bad(format!("version {}.{} is not known", start[6], start[7])));
    };
    if length > MAX_HEADER_BYTES {
        return Err(bad(format!("a header of {length} bytes (at most {MAX_HEADER_BYTES})")));
    }
    let mut header = vec![0u8; length];
    input.read_exact(&mut header).map_err(cut("header"))?;
    let header = String::from_utf8(header).map_err(|_| bad("the header is not text".into()))?;
    Ok((header, (prefix + length) as u64))
}

/// The sizes of the axes, which stand in C order.
fn shape(path: &Path, header: &str) -> Result<Vec<u64>, ColumnarError> {
    let bad = |detail: String| ColumnarError::malformed(path, "npy", detail);
    match entry(header, "fortran_order").map(str::trim_start) {
        Some(value) if value.starts_with("False") => {}
        Some(value) if value.starts_with("True") => {
            return Err(bad("Fortran order; C order is read, which np.ascontiguousarray makes".into()));
        }
        _ => return Err(bad("no `fortran_order` in the header".into())),
    }
    let shape = entry(header, "shape").ok_or_else(|| bad("no `shape` in the header".into()))?;
    let shape = shape.trim_start().strip_prefix('(').and_then(|s| s.split(')').next());
    let shape = shape.ok_or_else(|| bad("the shape is not a tuple".into()))?;
    shape
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(|s| s.parse().map_err(|_| bad(format!("the shape ({shape}) is not made of whole numbers"))))
        .collect()
}

/// The text after `'name':` in a header.
fn entry<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    [format!("'{name}':"), format!("\"{name}\":")]
        .iter()
        .find_map(|needle| header.find(needle.as_str()).map(|at| &header[at + needle.len()..]))
}

/// Reads `rows` rows that follow the head as f16, or as f32 (f64 is rounded to it).
///
/// # Errors
/// A file that ends early.
pub fn read_rows(
    path: &Path,
    input: &mut impl Read,
    head: &MatrixHead,
    rows: usize,
) -> Result<StoredRows, ColumnarError> {
    let cells = rows * head.dim;
    let io = |error: io::Error| ColumnarError::unreadable(path, "npy", error);
    match head.element {
        Element::F16 => {
            let mut bits = vec![0u16; cells];
            input.read_exact(bytemuck::cast_slice_mut(&mut bits)).map_err(io)?;
            Ok(StoredRows::F16(bits.into_iter().map(|b| f16::from_bits(u16::from_le(b))).collect()))
        }
        Element::F32 => {
            let mut bits = vec![0u32; cells];
            input.read_exact(bytemuck::cast_slice_mut(&mut bits)).map_err(io)?;
            Ok(StoredRows::F32(bits.into_iter().map(|b| f32::from_bits(u32::from_le(b))).collect()))
        }
        Element::F64 => {
            let mut bits = vec![0u64; cells];
            input.read_exact(bytemuck::cast_slice_mut(&mut bits)).map_err(io)?;
            Ok(StoredRows::F32(bits.into_iter().map(|b| f64::from_bits(u64::from_le(b)) as f32).collect()))
        }
    }
}

/// Rows as they are stored.
#[derive(Clone, Debug)]
pub enum StoredRows {
    /// f16\[rows, dim\].
    F16(Vec<f16>),
    /// f32\[rows, dim\].
    F32(Vec<f32>),
}

/// The header numpy itself writes for `<f2[rows, dim]`, padded so that the elements begin at a multiple of 64 bytes.
#[must_use]
pub fn head_bytes(rows: u64, dim: usize) -> Vec<u8> {
    head("'<f2'", &format!("({rows}, {dim})"), rows)
}

/// The same for pairs of u64 (`np.dtype("u8,u8")`), which are DataComp's uids.
#[must_use]
pub fn pair_head_bytes(rows: u64) -> Vec<u8> {
    head("[('f0', '<u8'), ('f1', '<u8')]", &format!("({rows},)"), rows)
}

fn head(descr: &str, shape: &str, rows: u64) -> Vec<u8> {
    let dict = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}");
    let unpadded = 10 + dict.len() + 1;
    // numpy leaves room for a growing first axis, 20 digits in all for a C-order array.
    let growth = 21usize.saturating_sub(rows.to_string().len());
    let length = (unpadded + growth).next_multiple_of(64) - 10;
    let mut bytes = Vec::with_capacity(10 + length);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(dict.as_bytes());
    bytes.resize(10 + length - 1, b' ');
    bytes.push(b'\n');
    bytes
}

/// Writes a whole `<f2[rows, dim]` file.
///
/// # Errors
/// Values that are not whole rows, or what the writer says.
pub fn write(path: &Path, out: &mut impl Write, vectors: &[f16], dim: usize) -> Result<(), ColumnarError> {
    if dim == 0 || !vectors.len().is_multiple_of(dim) {
        return Err(ColumnarError::mismatch(path, format!("{} values are not rows of {dim}", vectors.len())));
    }
    let io = |e| ColumnarError::io(path, e);
    out.write_all(&head_bytes((vectors.len() / dim) as u64, dim)).map_err(io)?;
    if cfg!(target_endian = "little") {
        out.write_all(cast_slice(vectors)).map_err(io)
    } else {
        vectors.iter().try_for_each(|v| out.write_all(&v.to_le_bytes())).map_err(io)
    }
}
