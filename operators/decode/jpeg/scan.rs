//! Whether all rows come out of a scan that no end marker follows.
//!
//! Pillow feeds libjpeg what the file has and no more, and stops when the last row is out. So a baseline JPEG without an end
//! marker is read where enough bytes follow its scan for libjpeg, which fetches ahead; and is refused where the decoder
//! still waits for bytes. To say the same, this walks through the Huffman codes as libjpeg's `jdhuff.c` does, with its bit
//! buffer and its rules for restart markers, and makes no pixels. Cost: about that of a decode, for odd files only.

use super::markers::Scanner;

/// Bits that the buffer is filled to, and those looked at first: libjpeg-turbo's on 64-bit machines.
const FILLED_BITS: u32 = 57;
const LOOKAHEAD_BITS: u32 = 8;

/// A Huffman table, as a DHT segment defines it.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// For each length, the largest code and where its symbols begin less the smallest code; no code: -1.
    lengths: [(i32, i32); 17],
    symbols: Vec<u8>,
}

impl Table {
    /// Reads one table at the head of a segment's body, and returns the rest.
    pub fn read(body: &[u8]) -> Option<(Self, &[u8])> {
        let (counts, rest) = body.split_at_checked(16)?;
        let (symbols, rest) = rest.split_at_checked(counts.iter().map(|&count| usize::from(count)).sum())?;
        let (mut code, mut first) = (0i32, 0i32);
        let mut lengths = [(-1, 0); 17];
        for (length, &count) in (1..).zip(counts) {
            let count = i32::from(count);
            if count > 0 {
                lengths[length] = (code + count - 1, first - code);
            }
            (code, first) = ((code + count) << 1, first + count);
            if code > 2 << length {
                return None;
            }
        }
        Some((Self { lengths, symbols: symbols.to_vec() }, rest))
    }
}

/// What the one scan of a picture holds.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    /// Units of one block, or of all components' blocks.
    pub units: u64,
    /// The tables, for DC and AC, of each block of a unit.
    pub blocks: Vec<(&'a Table, &'a Table)>,
    /// Units between restart markers; 0 for none.
    pub restart: u16,
}

/// The file's bytes have run out: libjpeg would wait for more.
struct Waits;

impl Scan<'_> {
    /// Walks the scan that begins at `at`. Returns where the next marker may be looked for when all units came out.
    pub fn walk(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let mut walk = Walk { bytes, at, marker: None, buffer: 0, bits: 0, dry: false };
        let (mut left, mut number) = (self.restart, 0);
        for _ in 0..self.units {
            if self.restart > 0 && left == 0 {
                walk.restart(number).ok()?;
                (left, number) = (self.restart, (number + 1) & 7);
            }
            if walk.dry && self.restart == 0 {
                break;
            }
            if !walk.dry {
                self.blocks.iter().try_for_each(|&(dc, ac)| walk.block(dc, ac)).ok()?;
            }
            left = left.wrapping_sub(1);
        }
        Some(walk.marker.map_or(walk.at, |(at, _)| at))
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    /// A marker that was met, and where it begins; nothing is read past it.
    marker: Option<(usize, u8)>,
    buffer: u64,
    bits: u32,
    /// The scan's data ended at a marker: the remaining blocks are empty.
    dry: bool,
}

impl Walk<'_> {
    fn byte(&mut self) -> Result<u8, Waits> {
        let byte = *self.bytes.get(self.at).ok_or(Waits)?;
        self.at += 1;
        Ok(byte)
    }

    /// `jpeg_fill_bit_buffer`: fetches as far as it goes; zeros where a marker ended the data before `wanted` bits.
    fn fill(&mut self, wanted: u32) -> Result<(), Waits> {
        while self.marker.is_none() && self.bits < FILLED_BITS {
            let start = self.at;
            let mut byte = self.byte()?;
            if byte == 0xff {
                while byte == 0xff {
                    byte = self.byte()?;
                }
                if byte != 0 {
                    self.marker = Some((start, byte));
                    break;
                }
                byte = 0xff;
            }
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.bits += 8;
        }
        if wanted > self.bits {
            self.dry = true;
            self.buffer <<= FILLED_BITS - self.bits;
            self.bits = FILLED_BITS;
        }
        Ok(())
    }

    fn take(&mut self, count: u32) -> Result<i32, Waits> {
        if count == 0 {
            return Ok(0);
        }
        if self.bits < count {
            self.fill(count)?;
        }
        self.bits -= count;
        Ok((self.buffer >> self.bits) as i32 & ((1 << count) - 1))
    }

    fn symbol(&mut self, table: &Table) -> Result<u8, Waits> {
        if self.bits < LOOKAHEAD_BITS {
            self.fill(0)?;
        }
        let mut code = 0;
        for &(most, offset) in &table.lengths[1..] {
            code = code << 1 | self.take(1)?;
            if code <= most {
                return Ok(table.symbols.get((code + offset) as usize).copied().unwrap_or(0));
            }
        }
        Ok(0)
    }

    fn block(&mut self, dc: &Table, ac: &Table) -> Result<(), Waits> {
        let size = self.symbol(dc)?;
        self.take(u32::from(size & 15))?;
        let mut k = 1;
        while k < 64 {
            let symbol = self.symbol(ac)?;
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 && run != 15 {
                break;
            }
            self.take(size)?;
            k += run + 1;
        }
        Ok(())
    }

    fn next_marker(&mut self) -> Result<u8, Waits> {
        let mut scanner = Scanner { bytes: self.bytes, at: self.at };
        let marker = scanner.next_marker().ok_or(Waits)?;
        self.at = scanner.at;
        self.marker = Some((scanner.at - 2, marker));
        Ok(marker)
    }

    /// `process_restart` with `jpeg_resync_to_restart`: restart marker `number` is due.
    fn restart(&mut self, number: u8) -> Result<(), Waits> {
        self.bits = 0;
        let mut marker = if let Some((_, marker)) = self.marker { marker } else { self.next_marker()? };
        loop {
            // How far the restart marker is behind the one that is due, counted in a circle.
            let ahead = marker.wrapping_sub(0xd0 + number) & 7;
            match marker {
                0xd0..=0xd7 if ahead == 1 || ahead == 2 => break,
                0xd0..=0xd7 if ahead == 6 || ahead == 7 => marker = self.next_marker()?,
                0xd0..=0xd7 => {
                    self.marker = None;
                    self.dry = false;
                    break;
                }
                0..0xc0 => marker = self.next_marker()?,
                _ => break,
            }
        }
        Ok(())
    }
}
