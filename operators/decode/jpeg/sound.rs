//! Whether a baseline scan is exactly what its headers announce, down to the last bit.
//!
//! A scan with a flipped bit decodes all the same: libjpeg has its rules for it, and a card's engine has others. So before a card
//! gets a picture, its Huffman codes are walked through: every code is in its table, no block has more than 64 coefficients, none is
//! larger than a picture's can be, each restart interval has its units and ends where the next marker stands. What is not exactly so
//! is for libjpeg's rules alone. No pixels are made. Cost: one look-up and one shift a coefficient, about a tenth of a decode.

/// Bits that are looked up at once; longer codes are rare.
const LOOKED_UP: u32 = 11;

/// Largest magnitude that a coefficient has, times its quantiser: 1,024 and the quantiser's half in any picture of 8 bits, and as much
/// again since an AC coefficient is known by its number of bits alone.
const LARGEST: i32 = 4095;

/// A Huffman table for walking.
struct Codes {
    /// For the next bits: bits of code and value (5), of the value (4), zeros before it (4); 0 for what is longer or no code.
    look: Vec<u16>,
    /// For each length, one more than the largest code, and what to add to a code for its symbol's place.
    lengths: [(i32, i32); 17],
    symbols: Vec<u8>,
}

impl Codes {
    /// Reads one table at the head of a segment's body, and returns the rest.
    fn read(body: &[u8]) -> Option<(Self, &[u8])> {
        let (counts, rest) = body.split_at_checked(16)?;
        let (symbols, rest) = rest.split_at_checked(counts.iter().map(|&count| usize::from(count)).sum())?;
        let mut look = vec![0u16; 1 << LOOKED_UP];
        let mut lengths = [(0, 0); 17];
        let (mut code, mut first) = (0usize, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            let next = code + usize::from(count);
            if next > 1 << length {
                return None;
            }
            lengths[length as usize] = (next as i32, first as i32 - code as i32);
            if length <= LOOKED_UP {
                let span = 1usize << (LOOKED_UP - length);
                for (code, &symbol) in (code..next).zip(&symbols[first..]) {
                    look[code * span..(code + 1) * span].fill(entry(length, symbol));
                }
            }
            first += usize::from(count);
            code = next << 1;
        }
        Some((Self { look, lengths, symbols: symbols.to_vec() }, rest))
    }

    /// The entry of the code that `window` begins with.
    fn entry(&self, window: u64) -> Option<u16> {
        match self.look[(window >> (64 - LOOKED_UP)) as usize] {
            0 => (LOOKED_UP + 1..=16).find_map(|length| {
                let code = (window >> (64 - length)) as i32;
                let (end, offset) = self.lengths[length as usize];
                (code < end).then(|| self.symbols.get((code + offset) as usize))?.map(|&symbol| entry(length, symbol))
            }),
            entry => Some(entry),
        }
    }
}

fn entry(length: u32, symbol: u8) -> u16 {
    let size = u16::from(symbol & 15);
    (length as u16 + size) | size << 5 | u16::from(symbol >> 4) << 9
}

/// A component of the scan.
struct Component<'a> {
    dc: &'a Codes,
    ac: &'a Codes,
    /// Blocks in a unit.
    blocks: u32,
    /// The first quantiser, and for each coefficient the most bits of its value.
    quantiser: i32,
    most_bits: [u16; 64],
    /// The last block's first coefficient.
    last: i32,
}

/// Whether `stream`, the essential segments of a baseline JPEG of one scan, is exactly what it says.
pub(crate) fn is_sound(stream: &[u8]) -> bool {
    walk(stream).is_some()
}

fn walk(stream: &[u8]) -> Option<()> {
    let (mut tables, mut quantisers) = ([const { None::<Codes> }; 8], [const { None::<[u16; 64]> }; 4]);
    let (mut frame, mut restart) = (None, 0);
    let mut rest = stream.strip_prefix(b"\xff\xd8")?;
    loop {
        let [0xff, marker, high, low, ..] = *rest else { return None };
        let (segment, behind) = rest[2..].split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        let mut body = segment.get(2..)?;
        rest = behind;
        match marker {
            0xc0 => frame = Some(body),
            0xc4 => {
                while let Some((&which, tail)) = body.split_first() {
                    let (codes, tail) = Codes::read(tail)?;
                    let place = usize::from(which >> 4) * 4 + usize::from(which & 3);
                    *tables.get_mut(place).filter(|_| which & 15 < 4)? = Some(codes);
                    body = tail;
                }
            }
            0xdb => {
                while let Some((&which, tail)) = body.split_first() {
                    let bytes = if which >> 4 > 0 { 2 } else { 1 };
                    let (values, tail) = tail.split_at_checked(64 * bytes)?;
                    let mut table = [0u16; 64];
                    for (place, value) in table.iter_mut().zip(values.chunks_exact(bytes)) {
                        *place = value.iter().fold(0, |all, &byte| all << 8 | u16::from(byte));
                    }
                    *quantisers.get_mut(usize::from(which & 15))? = Some(table);
                    body = tail;
                }
            }
            0xdd => restart = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?])),
            0xda => {
                let mut scan = components(frame?, body, &tables, &quantisers)?;
                return units(frame?, &mut scan, rest.strip_suffix(b"\xff\xd9")?, restart);
            }
            _ => return None,
        }
    }
}

fn components<'a>(
    frame: &[u8],
    scan: &[u8],
    tables: &'a [Option<Codes>; 8],
    quantisers: &[Option<[u16; 64]>; 4],
) -> Option<Vec<Component<'a>>> {
    let count = usize::from(*scan.first()?);
    if *scan.get(1 + 2 * count..)? != [0, 63, 0] || usize::from(*frame.get(5)?) != count {
        return None;
    }
    let component = |chosen: &[u8]| {
        let described = frame.get(6..)?.chunks_exact(3).find(|described| described[0] == chosen[0])?;
        // A quantiser of 0 bounds nothing: no encoder writes one.
        let quantisers = quantisers.get(usize::from(described[2]))?.as_ref().filter(|table| !table.contains(&0))?;
        let bits = |&quantiser: &u16| {
            let most = LARGEST / i32::from(quantiser);
            (1..=10u16).rev().find(|bits| (1i32 << bits) - 1 <= most).unwrap_or(0)
        };
        let table = |class: usize, which: u8| tables.get(class * 4 + usize::from(which & 3))?.as_ref();
        let mut most_bits = [0; 64];
        most_bits.iter_mut().zip(quantisers).for_each(|(place, quantiser)| *place = bits(quantiser));
        Some(Component {
            dc: table(0, chosen[1] >> 4)?,
            ac: table(1, chosen[1])?,
            blocks: if count == 1 { 1 } else { u32::from(described[1] >> 4) * u32::from(described[1] & 15) },
            quantiser: i32::from(quantisers[0]),
            most_bits,
            last: 0,
        })
    };
    scan[1..1 + 2 * count].chunks_exact(2).map(component).collect()
}

/// Walks all units; `coded` is the scan up to the end marker, `restart` the units between restart markers, or 0.
fn units(frame: &[u8], scan: &mut [Component<'_>], mut coded: &[u8], restart: usize) -> Option<()> {
    let side = |at: usize| Some(usize::from(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?])));
    let factors = || frame.get(6..).unwrap_or_default().chunks_exact(3).map(|described| described[1]);
    let most = |shift: u8| factors().map(|factor| usize::from(factor >> shift & 15)).max().unwrap_or(1);
    let (across, down) = if scan.len() == 1 { (1, 1) } else { (most(4), most(0)) };
    let mut left = side(3)?.div_ceil(8 * across) * side(1)?.div_ceil(8 * down);
    let mut plain = Vec::with_capacity(coded.len() + SPARE);
    for number in (0u8..8).cycle() {
        let now = if restart == 0 { left } else { left.min(restart) };
        let marker = unstuff(coded, &mut plain)?;
        let mut bits = Bits { plain: &plain, at: 0 };
        scan.iter_mut().for_each(|component| component.last = 0);
        for _ in 0..now {
            for component in &mut *scan {
                for _ in 0..component.blocks {
                    bits.block(component)?;
                }
            }
        }
        if bits.at.div_ceil(8) != plain.len() - SPARE {
            return None;
        }
        left -= now;
        match (left, marker) {
            (0, None) => return Some(()),
            (1.., Some((found, behind))) if found == 0xd0 + number => coded = behind,
            _ => return None,
        }
    }
    None
}

/// Bytes that may be loaded behind the last.
const SPARE: usize = 8;

/// Copies entropy-coded bytes up to the next marker without the zeros that are stuffed into them, and gives that marker and what
/// follows it.
fn unstuff<'a>(mut coded: &'a [u8], plain: &mut Vec<u8>) -> Option<Option<(u8, &'a [u8])>> {
    plain.clear();
    let marker = loop {
        let Some(at) = coded.iter().position(|&byte| byte == 0xff) else {
            plain.extend_from_slice(coded);
            break None;
        };
        let (before, behind) = coded.split_at(at + 1);
        let (&next, behind) = behind.split_first()?;
        coded = behind;
        if next != 0 {
            plain.extend_from_slice(&before[..at]);
            break Some((next, behind));
        }
        plain.extend_from_slice(before);
    };
    plain.extend_from_slice(&[0; SPARE]);
    Some(marker)
}

struct Bits<'a> {
    plain: &'a [u8],
    /// Index of the next bit, the highest of a byte first.
    at: usize,
}

impl Bits<'_> {
    /// The next bits from the top, at least 57 of them.
    fn window(&self) -> Option<u64> {
        let bytes = self.plain.get(self.at / 8..)?.first_chunk()?;
        Some(u64::from_be_bytes(*bytes) << (self.at % 8))
    }

    fn block(&mut self, of: &mut Component<'_>) -> Option<()> {
        let mut window = self.window()?;
        let entry = of.dc.entry(window)?;
        let (bits, size) = (u32::from(entry & 31), u32::from(entry >> 5 & 15));
        if size > 11 || entry >> 9 > 0 {
            return None;
        }
        if size > 0 {
            let value = (window << (bits - size) >> (64 - size)) as i32;
            of.last += if value >> (size - 1) == 0 { value + 1 - (1 << size) } else { value };
            if of.last.abs() * of.quantiser > LARGEST {
                return None;
            }
        }
        (window, self.at) = (window << bits, self.at + bits as usize);
        let (mut left, mut k) = (57 - bits, 1usize);
        while k < 64 {
            // A code and its value: 31 bits at most.
            if left < 31 {
                (window, left) = (self.window()?, 57);
            }
            let entry = of.ac.entry(window)?;
            let (bits, size, run) = (u32::from(entry & 31), entry >> 5 & 15, usize::from(entry >> 9));
            window <<= bits;
            left -= bits;
            self.at += bits as usize;
            k += run;
            match (size, run) {
                (0, 0) => return Some(()),
                (0, 15) if k < 63 => {}
                (1.., _) if k < 64 && size <= of.most_bits[k] => {}
                _ => return None,
            }
            k += 1;
        }
        Some(())
    }
}
