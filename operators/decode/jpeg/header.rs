//! The markers of a JPEG: sizes, sampling, colour space, and whether it is all there.

use super::colour::Colour;
use super::{DecodeError, corrupt};

/// What the markers say.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Pixels in a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Sampling factors of each component, across and down.
    pub sampling: Vec<(u8, u8)>,
    /// How the components are to be read, by libjpeg's rules.
    pub colour: Colour,
    /// Whether all coefficients are held before pixels come out: progressive, or components in scans of their own.
    pub buffered: bool,
    /// Whether coefficients are coded arithmetically.
    pub arithmetic: bool,
    /// Whether an end-of-image marker follows the scans.
    pub ended: bool,
    /// Whether a Huffman table stands before the first scan (Motion JPEG leaves the standard ones out).
    pub has_tables: bool,
    /// Where the frame header's marker stands.
    pub frame_at: usize,
    /// Byte ranges that bear on pixels: all but application data, comments and what stands between markers.
    pub essential: Vec<(usize, usize)>,
}

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DHT: u8 = 0xc4;
const APP0: u8 = 0xe0;
const APP14: u8 = 0xee;

impl Header {
    /// Reads all markers up to the end of the image.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut scanner = Scanner { bytes, at: 2 };
        let (mut frame, mut adobe, mut jfif, mut has_tables) = (None::<Frame>, None, false, false);
        let (mut ended, mut scans, mut buffered) = (false, 0usize, false);
        let mut essential = vec![(0, 2)];
        let mut frame_at = 0;
        while let Some(marker) = scanner.next_marker() {
            let start = scanner.at - 2;
            match marker {
                EOI => {
                    ended = true;
                    essential.push((start, scanner.at));
                    break;
                }
                SOI | 0x01 | 0xd0..=0xd7 => continue,
                _ => {}
            }
            let Some(body) = scanner.segment() else { break };
            match marker {
                0xc0..=0xc2 | 0xc9 | 0xca => {
                    if frame.is_some() {
                        return Err(corrupt("two frame headers"));
                    }
                    frame = Some(Frame::parse(marker, body)?);
                    frame_at = start;
                }
                0xc3 | 0xc5..=0xc7 | 0xcb | 0xcd..=0xcf => {
                    let detail = format!("frame type {} (lossless or hierarchical)", marker & 0x0f);
                    return Err(DecodeError::Unsupported { kind: "JPEG", detail });
                }
                APP0 => {
                    jfif |= body.len() >= 12 && body.starts_with(b"JFIF\0");
                    continue;
                }
                APP14 => {
                    if body.len() >= 12 && body.starts_with(b"Adobe") {
                        adobe = Some(body[11]);
                    }
                    continue;
                }
                0xe0..=0xef | 0xfe => continue,
                DHT => has_tables |= scans == 0,
                SOS => {
                    let Some(frame) = &frame else { return Err(corrupt("a scan before the frame header")) };
                    buffered |=
                        frame.progressive || body.first().is_some_and(|&n| usize::from(n) != frame.sampling.len());
                    scans += 1;
                    scanner.skip_entropy_coded();
                }
                _ => {}
            }
            essential.push((start, scanner.at));
        }
        let Some(frame) = frame else {
            return Err(if ended { corrupt("no frame header") } else { DecodeError::Truncated { kind: "JPEG" } });
        };
        if scans == 0 {
            return Err(if ended { corrupt("no scan") } else { DecodeError::Truncated { kind: "JPEG" } });
        }
        let colour = frame.colour(adobe, jfif)?;
        let Frame { width, height, sampling, arithmetic, .. } = frame;
        Ok(Self { width, height, sampling, colour, buffered, arithmetic, ended, has_tables, frame_at, essential })
    }

    /// Whether both chroma components have half of luma's columns.
    pub fn halves_columns(&self) -> bool {
        self.sampling.len() == 3 && self.sampling[0].0 == 2 && self.sampling[1].0 == 1 && self.sampling[2].0 == 1
    }

    /// Bytes that decoding takes beside the encoded ones: stored and converted pixels, and coefficients where they are held.
    pub fn scratch_bytes(&self) -> u64 {
        let pixels = u64::from(self.width) * u64::from(self.height);
        let components = self.sampling.len() as u64;
        let stored = pixels * components;
        let converted = if components == 3 { 0 } else { pixels * 3 };
        let (across, down) = self.sampling.iter().fold((1, 1), |(h, v), &(a, b)| (h.max(a), v.max(b)));
        let padded = |side: u16, most: u8| u64::from(side).next_multiple_of(8 * u64::from(most));
        let blocks = padded(self.width, across) * padded(self.height, down) / (u64::from(across) * u64::from(down));
        let samples: u64 = self.sampling.iter().map(|&(h, v)| blocks * u64::from(h) * u64::from(v)).sum();
        let rows = u64::from(self.width) * 8 * u64::from(down) * components * 4;
        stored + converted + rows + if self.buffered { samples * 2 } else { 0 }
    }
}

struct Frame {
    width: u16,
    height: u16,
    progressive: bool,
    arithmetic: bool,
    ids: Vec<u8>,
    sampling: Vec<(u8, u8)>,
}

impl Frame {
    fn parse(marker: u8, body: &[u8]) -> Result<Self, DecodeError> {
        let [precision, h1, h0, w1, w0, count, components @ ..] = body else {
            return Err(corrupt("frame header cut short"));
        };
        if *precision != 8 {
            return Err(DecodeError::Unsupported { kind: "JPEG", detail: format!("{precision} bits a sample") });
        }
        if components.len() != usize::from(*count) * 3 {
            return Err(corrupt("frame header of the wrong length"));
        }
        let sampling: Vec<(u8, u8)> = components.chunks_exact(3).map(|c| (c[1] >> 4, c[1] & 0x0f)).collect();
        if sampling.iter().any(|&(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return Err(corrupt(format!("sampling factors {sampling:?}")));
        }
        let (height, width) = (u16::from_be_bytes([*h1, *h0]), u16::from_be_bytes([*w1, *w0]));
        let ids = components.chunks_exact(3).map(|c| c[0]).collect();
        Ok(Self {
            width,
            height,
            progressive: matches!(marker, 0xc2 | 0xca),
            arithmetic: marker >= 0xc9,
            ids,
            sampling,
        })
    }

    /// libjpeg's rules: JFIF means YCbCr, else Adobe's word counts, else the components' names.
    fn colour(&self, adobe: Option<u8>, jfif: bool) -> Result<Colour, DecodeError> {
        match self.sampling.len() {
            1 => Ok(Colour::Grey),
            3 if jfif => Ok(Colour::YCbCr),
            3 => Ok(match adobe {
                Some(0) => Colour::Rgb,
                Some(_) => Colour::YCbCr,
                None if self.ids == *b"RGB" => Colour::Rgb,
                None => Colour::YCbCr,
            }),
            4 => Ok(match adobe {
                None | Some(0) => Colour::Cmyk,
                Some(_) => Colour::Ycck,
            }),
            n => Err(DecodeError::Unsupported { kind: "JPEG", detail: format!("{n} components") }),
        }
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Skips to the next marker, over stray bytes, and returns its code; the scanner then stands behind it.
    fn next_marker(&mut self) -> Option<u8> {
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
    fn segment(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(u16::from_be_bytes([*self.bytes.get(self.at)?, *self.bytes.get(self.at + 1)?]));
        let body = self.bytes.get(self.at + 2..self.at + length.max(2))?;
        self.at += length.max(2);
        Some(body)
    }

    /// Skips entropy-coded bytes with their restart markers, to the next other marker or the end.
    fn skip_entropy_coded(&mut self) {
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
