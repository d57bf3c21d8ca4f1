//! One 512-byte tar header and the records of a PAX header, of any dialect.
//!
//! v7, USTAR, GNU (base-256 numbers), STAR and PAX. Only name, size, type and checksum matter here: odd owners and times make no member
//! unreadable.

/// Bytes of a tar block.
pub const BLOCK: usize = 512;

/// Why a block is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The checksum does not fit the block.
    #[error("header checksum does not match")]
    Checksum,
    /// A size that is negative, beyond 2^63, or no number.
    #[error("header has an impossible size")]
    Size,
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name with the dialect's prefix, bytes as they stand.
    pub name: Vec<u8>,
    /// Bytes of data that follow.
    pub size: u64,
    /// The type flag, such as `0` for a file or `x` for a PAX header.
    pub kind: u8,
    /// Old GNU sparse: blocks of map entries follow.
    pub sparse_continues: bool,
}

impl Header {
    /// Reads a header block.
    ///
    /// # Errors
    /// Wrong checksum or impossible size.
    pub fn parse(block: &[u8; BLOCK]) -> Result<Self, HeaderError> {
        let wanted = octal(&block[148..156]).ok_or(HeaderError::Checksum)?;
        let (unsigned, signed) = checksums(block);
        if wanted != unsigned && i64::try_from(wanted) != Ok(signed) {
            return Err(HeaderError::Checksum);
        }
        let size = number(&block[124..136]).ok_or(HeaderError::Size)?;
        let (kind, mut name) = (block[156], until_nul(&block[..100]).to_vec());
        // GNU keeps times where POSIX has the prefix; STAR has a shorter one.
        let posix = &block[257..263] == b"ustar\0";
        let prefix = match posix {
            true if &block[508..512] == b"tar\0" => until_nul(&block[345..476]),
            true => until_nul(&block[345..500]),
            false => &[],
        };
        if !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        Ok(Self { name, size, kind, sparse_continues: kind == b'S' && block[482] != 0 })
    }
}

/// The bytes before the first NUL.
#[must_use]
pub fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

fn checksums(block: &[u8; BLOCK]) -> (u64, i64) {
    block.iter().enumerate().fold((0, 0), |(unsigned, signed), (at, &byte)| {
        let byte = if (148..156).contains(&at) { b' ' } else { byte };
        (unsigned + u64::from(byte), signed + i64::from(byte.cast_signed()))
    })
}

/// An octal field, blanks around it allowed; empty is 0.
fn octal(field: &[u8]) -> Option<u64> {
    let text = until_nul(field).trim_ascii();
    // Some writers pad with NULs in front.
    let text = if text.is_empty() { until_nul(behind_nuls(field)).trim_ascii() } else { text };
    text.iter().try_fold(0u64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn behind_nuls(field: &[u8]) -> &[u8] {
    let start = field.iter().position(|&byte| byte != 0).unwrap_or(field.len());
    &field[start..]
}

/// An octal or base-256 field; `None` below 0 and from 2^63 on.
fn number(field: &[u8]) -> Option<u64> {
    let value = match field.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => {
            if first & 0x40 != 0 {
                return None;
            }
            rest.iter().try_fold(u64::from(first & 0x3f), |value, &byte| {
                value.checked_mul(256)?.checked_add(u64::from(byte))
            })?
        }
        _ => octal(field)?,
    };
    (value <= i64::MAX.unsigned_abs()).then_some(value)
}

/// What a PAX header changes for the member after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pax {
    /// `path`; an empty one takes a global one back.
    pub path: Option<Vec<u8>>,
    /// `size`: bytes of the member, where its own header cannot hold them.
    pub size: Option<u64>,
    /// Any of GNU's sparse records.
    pub sparse: bool,
    /// `GNU.sparse.name`.
    pub sparse_name: Option<Vec<u8>>,
}

impl Pax {
    /// Adds the records of `data` and says whether all of them were well-formed; reading stops at the first that is not.
    ///
    /// # Errors
    /// A `size` that is no number or too large.
    pub fn add(&mut self, mut data: &[u8]) -> Result<bool, HeaderError> {
        while !data.is_empty() && data[0] != 0 {
            let Some((key, value, rest)) = record(data) else { return Ok(false) };
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"size" if value.is_empty() => self.size = None,
                b"size" => self.size = Some(decimal(value).ok_or(HeaderError::Size)?),
                b"GNU.sparse.name" => {
                    self.sparse_name = Some(value.to_vec());
                    self.sparse = true;
                }
                key if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
            data = rest;
        }
        Ok(true)
    }
}

/// `LENGTH KEY=VALUE\n`, the length counting all of it.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = data.iter().take(20).position(|&b| b == b' ')?;
    let length = usize::try_from(decimal(&data[..blank])?).ok()?;
    let (whole, rest) = data.split_at_checked(length)?;
    let body = whole.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&b| b == b'=')?;
    (equals > 0).then(|| (&body[..equals], &body[equals + 1..], rest))
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (value <= i64::MAX.unsigned_abs()).then_some(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let cases: &[(&[u8], Option<u64>)] = &[
            (b"00000000012\0", Some(10)),
            (b"         12 ", Some(10)),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0", Some(0)),
            (b"777777777777", Some(0o777_777_777_777)),
            (b"00000000018\0", None),
            (b"-0000000012\0", None),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\x00", Some(256)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX.unsigned_abs())),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (field, wanted) in cases {
            assert_eq!(number(field), *wanted, "{field:?}");
        }
    }

    #[test]
    fn pax_records() {
        let mut pax = Pax::default();
        assert_eq!(pax.add(b"11 path=a\n\n12 size=123\n19 GNU.sparse.x=12\n"), Ok(true));
        assert_eq!(pax.path.as_deref(), Some(&b"a\n"[..]));
        assert_eq!((pax.size, pax.sparse), (Some(123), true));
        for bad in [
            &b"9 path=a"[..],
            b"path=a\n",
            b"99 path=a\n",
            b"0 path=a\n",
            b"5 =a\n",
            b"9 pathaa\n",
            b"5 a=b",
            b"-1 a=b\n",
        ] {
            assert_eq!(Pax::default().add(bad), Ok(false), "{bad:?}");
        }
        assert_eq!(Pax::default().add(b"12 size=-12\n"), Err(HeaderError::Size));
        assert_eq!(Pax::default().add(b"28 size=9223372036854775808\n"), Err(HeaderError::Size));
        assert_eq!(Pax::default().add(&[0; 512]), Ok(true));
    }
}
