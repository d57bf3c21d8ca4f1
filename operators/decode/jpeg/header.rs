//! The markers of a JPEG: sizes, sampling, colour space, and whether it is all there.

use super::colour::Colour;
use super::markers::{APP0, APP14, DHT, DNL, DRI, EOI, SOI, SOS, Scanner, odd_marker, refuses};
use super::scan::{Scan, Table};
use super::{DecodeError, corrupt};

/// What the markers say.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    /// Pixels in a row.
    pub width: u16,
    /// Rows of pixels.
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
    /// Why libjpeg, fed with this file and no more, does not give all rows.
    pub fault: Option<DecodeError>,
    /// Where the frame header's marker stands.
    pub frame_at: usize,
    /// Byte ranges that bear on pixels: all but application data, comments and what stands between markers.
    pub essential: Vec<(usize, usize)>,
}

const CUT: DecodeError = DecodeError::Truncated { kind: "JPEG" };

impl Header {
    /// Reads all markers up to the end of the image.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut scanner = Scanner { bytes, at: 2 };
        let (mut frame, mut adobe, mut jfif) = (None::<Frame>, None, false);
        let (mut ended, mut buffered, mut fault) = (false, false, None);
        let mut tables = Tables::default();
        let mut first_scan = None;
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
                0xd0..=0xd7 => continue,
                0x01 if first_scan.is_some() => continue,
                // Where restart markers are due, libjpeg looks for the next one behind whatever it finds.
                0..0xc0 | SOI | 0xc8 | 0xde | 0xdf | 0xf0..=0xfd => {
                    if first_scan.is_none() || tables.restart == 0 {
                        fault.get_or_insert_with(|| corrupt(format!("a marker ff{marker:02x}")));
                    }
                    if marker == SOI {
                        continue;
                    }
                }
                _ => {}
            }
            match refuses(marker, &bytes[scanner.at..]) {
                Some(false) => {}
                Some(true) => {
                    fault.get_or_insert_with(|| corrupt(format!("the segment of a marker ff{marker:02x}")));
                }
                None => break,
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
                // Nobody reads the number of lines that may follow a scan.
                0xe0..=0xef | 0xfe | DNL => continue,
                DHT if first_scan.is_none() => tables.define(body),
                DRI if first_scan.is_none() => {
                    tables.restart = body.first_chunk().map_or(0, |&units| u16::from_be_bytes(units));
                }
                SOS => {
                    let Some(frame) = &frame else { return Err(corrupt("a scan before the frame header")) };
                    if frame.progressive && progression_is_bad(body) {
                        fault.get_or_insert_with(|| corrupt("a scan outside of any progression"));
                    }
                    let all = body.first().is_some_and(|&n| usize::from(n) == frame.sampling.len());
                    buffered |= frame.progressive || !all;
                    let behind = scanner.at;
                    scanner.skip_entropy_coded();
                    let is_first = first_scan.replace(behind).is_none();
                    let mut coded = behind..scanner.at;
                    let mut whole = false;
                    if is_first && !buffered && !scanner.at_end_marker() && !frame.arithmetic {
                        // All components in the one scan: rows come out while it is read, whatever follows.
                        match frame.scan(&tables, body).and_then(|scan| scan.walk(bytes, behind)) {
                            Some(next) => {
                                fault = fault.or_else(|| odd_marker(bytes, next));
                                (coded.end, whole) = (next, true);
                            }
                            None => fault = Some(CUT),
                        }
                    }
                    if tables.restart > 0 {
                        let due = (is_first && !buffered)
                            .then(|| frame.units().div_ceil(tables.restart.into()).saturating_sub(1));
                        if !restarts_in_order(&bytes[coded.clone()], due) {
                            fault.get_or_insert_with(|| corrupt("restart markers out of order"));
                        }
                    }
                    if whole {
                        essential.push((start, coded.end));
                        break;
                    }
                }
                _ => {}
            }
            essential.push((start, scanner.at));
        }
        let Some(frame) = frame else {
            return Err(if ended { corrupt("no frame header") } else { CUT });
        };
        if first_scan.is_none() {
            return Err(if ended { corrupt("no scan") } else { CUT });
        }
        if (buffered || frame.arithmetic) && !ended {
            // Nothing comes out before the last scan is known to be the last; an arithmetic decoder cannot wait for bytes.
            fault = Some(CUT);
        }
        let colour = frame.colour(adobe, jfif)?;
        let Frame { width, height, sampling, arithmetic, .. } = frame;
        Ok(Self { width, height, sampling, colour, buffered, arithmetic, ended, fault, frame_at, essential })
    }

    /// Whether both chroma components have half of luma's columns.
    pub fn halves_columns(&self) -> bool {
        self.sampling.len() == 3 && self.sampling[0].0 == 2 && self.sampling[1].0 == 1 && self.sampling[2].0 == 1
    }

    /// Bytes that decoding takes beside the encoded ones: components, coefficients where they are held, and pixels.
    pub fn scratch_bytes(&self) -> u64 {
        let pixels = u64::from(self.width) * u64::from(self.height);
        let components = self.sampling.len() as u64;
        let (across, down) = self.sampling.iter().fold((1, 1), |(h, v), &(a, b)| (h.max(a), v.max(b)));
        let padded = |side: u16, most: u8| u64::from(side).next_multiple_of(8 * u64::from(most));
        let whole = padded(self.width, across) * padded(self.height, down);
        let unit = u64::from(across) * u64::from(down);
        let samples: u64 = self.sampling.iter().map(|&(h, v)| whole / unit * u64::from(h) * u64::from(v)).sum();
        // What is sampled otherwise than by halves is brought to full size first.
        let luma_is_finest = self.sampling[0] == (across, down);
        let full = if luma_is_finest && across <= 2 && down <= 2 { 0 } else { whole * components };
        let rows = u64::from(self.width) * 8 * u64::from(down) * components * 4;
        // Coefficients are gone when pixels come.
        let held = if self.buffered { samples * 2 } else { 0 };
        samples + held.max(full + pixels * components.max(3)) + rows
    }
}

/// Whether the markers among entropy-coded bytes are restart markers, numbered one after the other and no fewer than are due, where that is known.
fn restarts_in_order(coded: &[u8], due: Option<u64>) -> bool {
    let markers = coded.windows(2).filter(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff));
    let mut count = 0;
    let in_order = markers.zip((0xd0..=0xd7).cycle()).all(|(pair, next)| {
        count += 1;
        pair[1] == next
    });
    in_order && due.is_none_or(|due| count >= due)
}

/// Whether libjpeg refuses a progressive picture's scan for the coefficients and bits that its header, the body given, announces.
fn progression_is_bad(body: &[u8]) -> bool {
    let Some((&components, rest)) = body.split_first() else { return true };
    let Some(&[first, last, bits]) = rest.get(2 * usize::from(components)..) else { return true };
    let (high, low) = (bits >> 4, bits & 15);
    let band = if first == 0 { last == 0 } else { first <= last && last < 64 && components == 1 };
    !band || low > 13 || high != 0 && high != low + 1
}

/// Huffman tables and the restart interval, as they stand before the first scan.
#[derive(Default)]
struct Tables {
    /// For DC, then for AC.
    huffman: [[Option<Table>; 4]; 2],
    restart: u16,
}

impl Tables {
    fn define(&mut self, mut body: &[u8]) {
        while let Some((&which, rest)) = body.split_first() {
            let Some((table, rest)) = Table::read(rest) else { return };
            if let Some(place) = self.huffman.get_mut(usize::from(which >> 4)) {
                place[usize::from(which & 3)] = Some(table);
            }
            body = rest;
        }
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

    /// The scan of all components whose header's body is given; `None` where it contradicts the frame, or a table is missing.
    fn scan<'a>(&self, tables: &'a Tables, body: &[u8]) -> Option<Scan<'a>> {
        let mut blocks = Vec::new();
        for chosen in body.get(1..1 + 2 * self.ids.len())?.chunks_exact(2) {
            let (h, v) = self.sampling[self.ids.iter().position(|&id| id == chosen[0])?];
            let count = if self.ids.len() == 1 { 1 } else { usize::from(h * v) };
            let table = |class: usize, which: u8| tables.huffman[class][usize::from(which & 3)].as_ref();
            blocks.extend(std::iter::repeat_n((table(0, chosen[1] >> 4)?, table(1, chosen[1])?), count));
        }
        Some(Scan { units: self.units(), blocks, restart: tables.restart })
    }

    /// Units in a scan of all components.
    fn units(&self) -> u64 {
        let (across, down) = self.sampling.iter().fold((1, 1), |(h, v), &(a, b)| (h.max(a), v.max(b)));
        let (across, down) = if self.ids.len() == 1 { (1, 1) } else { (across, down) };
        let units = |side: u16, most: u8| u64::from(side).div_ceil(8 * u64::from(most));
        units(self.width, across) * units(self.height, down)
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
