//! Reads the markers, one after the other, as libjpeg would.

use super::Header;
use super::frame::{Frame, Tables};
use crate::jpeg::markers::{APP0, APP14, DHT, DNL, DRI, EOI, SOI, SOS, Scanner, odd_marker, refuses};
use crate::jpeg::{DecodeError, corrupt};

const CUT: DecodeError = DecodeError::Truncated { kind: "JPEG" };

impl Header {
    /// Reads all markers up to the end of the image.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reading = Reading::of(bytes);
        while let Some(marker) = reading.scanner.next_marker() {
            if reading.take(marker)? == Then::Ends {
                break;
            }
        }
        reading.header()
    }
}

/// What comes behind a marker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Other markers, which change nothing here.
    GoesOn,
    /// Nothing that is read.
    Ends,
}

/// What the markers have said so far.
struct Reading<'a> {
    bytes: &'a [u8],
    scanner: Scanner<'a>,
    frame: Option<Frame>,
    frame_at: usize,
    /// Adobe's word on the colours.
    adobe: Option<u8>,
    jfif: bool,
    tables: Tables,
    /// Scans that have come.
    scans: u64,
    buffered: bool,
    ended: bool,
    fault: Option<DecodeError>,
    essential: Vec<(usize, usize)>,
}

impl<'a> Reading<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            scanner: Scanner { bytes, at: 2 },
            frame: None,
            frame_at: 0,
            adobe: None,
            jfif: false,
            tables: Tables::default(),
            scans: 0,
            buffered: false,
            ended: false,
            fault: None,
            essential: vec![(0, 2)],
        }
    }

    /// The first fault counts.
    fn fault(&mut self, detail: impl std::fmt::Display) {
        self.fault.get_or_insert_with(|| corrupt(detail));
    }

    /// Keeps a segment. Those that follow each other are one, for a file may have millions of empty ones; what begins the file stays apart.
    fn keep(&mut self, start: usize, end: usize) {
        match self.essential.as_mut_slice() {
            [_, .., last] if last.1 == start => last.1 = end,
            _ => self.essential.push((start, end)),
        }
    }

    /// Takes a marker that has been read, and its segment.
    fn take(&mut self, marker: u8) -> Result<Then, DecodeError> {
        let start = self.scanner.at - 2;
        match marker {
            EOI => {
                self.ended = true;
                self.keep(start, self.scanner.at);
                return Ok(Then::Ends);
            }
            0xd0..=0xd7 => return Ok(Then::GoesOn),
            0x01 if self.scans > 0 => return Ok(Then::GoesOn),
            // Where restart markers are due, libjpeg looks for the next one behind whatever it finds.
            0..0xc0 | SOI | 0xc8 | 0xde | 0xdf | 0xf0..=0xfd => {
                if self.scans == 0 || self.tables.restart == 0 {
                    self.fault(format_args!("a marker ff{marker:02x}"));
                }
                if marker == SOI {
                    return Ok(Then::GoesOn);
                }
            }
            _ => {}
        }
        match refuses(marker, &self.bytes[self.scanner.at..]) {
            Some(false) => {}
            Some(true) => self.fault(format_args!("the segment of a marker ff{marker:02x}")),
            None => return Ok(Then::Ends),
        }
        match self.scanner.segment() {
            Some(body) => self.segment(marker, start, body),
            None => Ok(Then::Ends),
        }
    }

    /// Takes the segment of a marker that stands at `start`.
    fn segment(&mut self, marker: u8, start: usize, body: &[u8]) -> Result<Then, DecodeError> {
        match marker {
            0xc0..=0xc2 | 0xc9 | 0xca => {
                if self.frame.is_some() {
                    return Err(corrupt("two frame headers"));
                }
                self.frame = Some(Frame::parse(marker, body)?);
                self.frame_at = start;
            }
            0xc3 | 0xc5..=0xc7 | 0xcb | 0xcd..=0xcf => {
                let detail = format!("frame type {} (lossless or hierarchical)", marker & 0x0f);
                return Err(DecodeError::Unsupported { kind: "JPEG", detail });
            }
            APP0 => {
                self.jfif |= body.len() >= 12 && body.starts_with(b"JFIF\0");
                return Ok(Then::GoesOn);
            }
            APP14 => {
                if body.len() >= 12 && body.starts_with(b"Adobe") {
                    self.adobe = Some(body[11]);
                }
                return Ok(Then::GoesOn);
            }
            // Nobody reads the number of lines that may follow a scan.
            0xe0..=0xef | 0xfe | DNL => return Ok(Then::GoesOn),
            DHT if self.scans == 0 => self.tables.define(body),
            DRI if self.scans == 0 => {
                self.tables.restart = body.first_chunk().map_or(0, |&units| u16::from_be_bytes(units));
            }
            SOS => {
                if let Some(end) = self.scan(body)? {
                    self.keep(start, end);
                    return Ok(Then::Ends);
                }
            }
            _ => {}
        }
        self.keep(start, self.scanner.at);
        Ok(Then::GoesOn)
    }

    /// Takes the scan behind a scan's header. Where all rows come out of it, whatever follows: its end.
    fn scan(&mut self, body: &[u8]) -> Result<Option<usize>, DecodeError> {
        let Some(frame) = &self.frame else { return Err(corrupt("a scan before the frame header")) };
        if frame.progressive && progression_is_bad(body) {
            self.fault.get_or_insert_with(|| corrupt("a scan outside of any progression"));
        }
        let all = body.first().is_some_and(|&n| usize::from(n) == frame.sampling.len());
        self.buffered |= frame.progressive || !all;
        let behind = self.scanner.at;
        self.scanner.skip_entropy_coded();
        self.scans += 1;
        let is_first = self.scans == 1;
        let mut coded = behind..self.scanner.at;
        let mut whole = false;
        if is_first && !self.buffered && !self.scanner.at_end_marker() && !frame.arithmetic {
            // All components in the one scan: rows come out while it is read.
            match frame.scan(&self.tables, body).and_then(|scan| scan.walk(self.bytes, behind)) {
                Some(next) => {
                    self.fault = self.fault.take().or_else(|| odd_marker(self.bytes, next));
                    (coded.end, whole) = (next, true);
                }
                None => self.fault = Some(CUT),
            }
        }
        let restart = self.tables.restart;
        if restart > 0 {
            let due = (is_first && !self.buffered).then(|| frame.units().div_ceil(restart.into()).saturating_sub(1));
            if !restarts_in_order(&self.bytes[coded.clone()], due) {
                self.fault.get_or_insert_with(|| corrupt("restart markers out of order"));
            }
        }
        Ok(whole.then_some(coded.end))
    }

    /// All that the markers have said.
    fn header(self) -> Result<Header, DecodeError> {
        let Self { adobe, jfif, scans, buffered, ended, mut fault, essential, frame_at, .. } = self;
        let Some(frame) = self.frame else {
            return Err(if ended { corrupt("no frame header") } else { CUT });
        };
        if scans == 0 {
            return Err(if ended { corrupt("no scan") } else { CUT });
        }
        if (buffered || frame.arithmetic) && !ended {
            // Nothing comes out before the last scan is known to be the last; an arithmetic decoder cannot wait for bytes.
            fault = Some(CUT);
        }
        let colour = frame.colour(adobe, jfif)?;
        let Frame { width, height, sampling, arithmetic, .. } = frame;
        Ok(Header { width, height, sampling, colour, scans, buffered, arithmetic, ended, fault, frame_at, essential })
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
