//! Markers and their segments: where they stand, and which of them libjpeg refuses.

use super::{DecodeError, corrupt};

pub(super) const SOI: u8 = 0xd8;
pub(super) const EOI: u8 = 0xd9;
pub(super) const SOS: u8 = 0xda;
pub(super) const DHT: u8 = 0xc4;
const DAC: u8 = 0xcc;
const DQT: u8 = 0xdb;
pub(super) const DNL: u8 = 0xdc;
pub(super) const DRI: u8 = 0xdd;
pub(super) const APP0: u8 = 0xe0;
pub(super) const APP14: u8 = 0xee;

/// What libjpeg refuses to find between the one scan and the end, of the picture or of the file.
pub(super) fn odd_marker(bytes: &[u8], at: usize) -> Option<DecodeError> {
    let mut scanner = Scanner { bytes, at };
    loop {
        let marker = scanner.next_marker()?;
        let refused = match marker {
            EOI => return None,
            0x01 | 0xd0..=0xd7 => continue,
            DHT | DAC | DQT..=DRI | 0xe0..=0xef | 0xfe => refuses(marker, &bytes[scanner.at..])?,
            // Read before it is refused.
            SOS => refuses(marker, &bytes[scanner.at..]).map(|_| true)?,
            _ => true,
        };
        if refused {
            return Some(corrupt(format!("a marker ff{marker:02x} behind the scan")));
        }
        scanner.segment()?;
    }
}

/// Whether libjpeg refuses a segment of tables or a scan's header, which begins with its length; `None` where it would wait
/// for more bytes.
pub(super) fn refuses(marker: u8, mut segment: &[u8]) -> Option<bool> {
    let mut take = |count: usize| {
        let (taken, rest) = segment.split_at_checked(count)?;
        segment = rest;
        Some(taken)
    };
    if !matches!(marker, DHT | DQT | DAC | DRI | SOS) {
        return Some(false);
    }
    let length = take(2).map(|bytes| i32::from(bytes[0]) << 8 | i32::from(bytes[1]))?;
    let mut left = length - 2;
    match marker {
        DRI => return Some(length != 4),
        SOS => {
            let count = take(1)?[0];
            let wrong = !(1..=4).contains(&count) || length != 6 + 2 * i32::from(count);
            return if wrong { Some(true) } else { take(2 * usize::from(count) + 3).map(|_| false) };
        }
        DHT => {
            while left > 16 {
                let (which, counts) = take(17)?.split_first()?;
                let symbols: usize = counts.iter().map(|&count| usize::from(count)).sum();
                left -= 17 + symbols as i32;
                if symbols > 256 || left < 0 {
                    return Some(true);
                }
                take(symbols)?;
                if which & !0x10 >= 4 {
                    return Some(true);
                }
            }
        }
        DQT => {
            while left > 0 {
                let which = take(1)?[0];
                if which & 15 >= 4 {
                    return Some(true);
                }
                let bytes = if which >> 4 > 0 { 128 } else { 64 };
                take(bytes)?;
                left -= 1 + bytes as i32;
            }
        }
        _ => {
            while left > 0 {
                let (which, value) = (take(1)?[0], take(1)?[0]);
                left -= 2;
                if which >= 32 || which < 16 && value & 15 > value >> 4 {
                    return Some(true);
                }
            }
        }
    }
    Some(left != 0)
}

/// Walks over markers.
pub(super) struct Scanner<'a> {
    /// All bytes of the file.
    pub bytes: &'a [u8],
    /// Index in `bytes` of the next byte to read.
    pub at: usize,
}

impl<'a> Scanner<'a> {
    /// Skips to the next marker, over stray bytes, and returns its code; the scanner then stands behind it.
    pub fn next_marker(&mut self) -> Option<u8> {
        loop {
            self.seek_ff()?;
            while self.bytes.get(self.at) == Some(&0xff) {
                self.at += 1;
            }
            let code = *self.bytes.get(self.at)?;
            self.at += 1;
            if code != 0 {
                return Some(code);
            }
        }
    }

    /// Moves to the next 0xff.
    fn seek_ff(&mut self) -> Option<()> {
        const CHUNK: usize = 64;
        while self.bytes.get(self.at..self.at + CHUNK).is_some_and(|chunk| !chunk.contains(&0xff)) {
            self.at += CHUNK;
        }
        let found = self.bytes.get(self.at..)?.iter().position(|&byte| byte == 0xff);
        self.at = found.map_or(self.bytes.len(), |offset| self.at + offset);
        found.map(|_| ())
    }

    /// The segment's body; the scanner then stands behind it. `None` when the file ends first.
    pub fn segment(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(u16::from_be_bytes([*self.bytes.get(self.at)?, *self.bytes.get(self.at + 1)?]));
        let body = self.bytes.get(self.at + 2..self.at + length.max(2))?;
        self.at += length.max(2);
        Some(body)
    }

    /// Whether the end-of-image marker comes next.
    pub fn at_end_marker(&self) -> bool {
        Scanner { bytes: self.bytes, at: self.at }.next_marker() == Some(EOI)
    }

    /// Skips entropy-coded bytes with their restart markers, to the next other marker or the end.
    pub fn skip_entropy_coded(&mut self) {
        while self.seek_ff().is_some() {
            let mut behind = self.at + 1;
            while self.bytes.get(behind) == Some(&0xff) {
                behind += 1;
            }
            match self.bytes.get(behind) {
                Some(0 | 0xd0..=0xd7) => self.at = behind + 1,
                Some(_) => return,
                None => self.at = self.bytes.len(),
            }
        }
    }
}
