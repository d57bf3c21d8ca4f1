//! The mutator: what is done to an input, all of it drawn from one seeded generator.

/// The splitmix64 generator; holds its state.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    /// A length of up to `most`, short ones more often.
    fn length(&mut self, most: usize) -> usize {
        let bits = self.below(usize::BITS as usize - most.leading_zeros() as usize + 1);
        self.below(1usize << bits.min(20)).min(most)
    }
}

/// Numbers at which sizes go wrong.
const NUMBERS: [i64; 34] = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    4,
    7,
    8,
    15,
    16,
    31,
    32,
    63,
    64,
    100,
    127,
    128,
    -128,
    255,
    256,
    511,
    512,
    1000,
    32_767,
    -32_768,
    65_535,
    65_536,
    i32::MAX as i64,
    i32::MIN as i64,
    u32::MAX as i64,
    1 << 40,
    i64::MAX,
    i64::MIN,
];

/// The same as they are written in text.
const WORDS: [&str; 20] = [
    "0",
    "-0",
    "-1",
    "1",
    "00",
    "007",
    "255",
    "256",
    "65536",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "1e-999",
    "0.1",
    "NaN",
    "-",
];

/// Changes `input` in one to a dozen ways. Some take parts of `others`; `words` are the format's own. At most `most` bytes come of it.
pub fn mutate(rng: &mut Rng, input: &mut Vec<u8>, others: &[Vec<u8>], words: &[&[u8]], most: usize) {
    let changes = match rng.below(8) {
        0..4 => 1,
        4..6 => 2 + rng.below(2),
        6 => 4 + rng.below(3),
        _ => 7 + rng.below(6),
    };
    for _ in 0..changes {
        change(rng, input, others, words);
        input.truncate(most);
    }
}

fn change(rng: &mut Rng, input: &mut Vec<u8>, others: &[Vec<u8>], words: &[&[u8]]) {
    let at = rng.below(input.len() + 1);
    match rng.below(16) {
        0 | 1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = rng.next_u64() as u8;
            }
        }
        3 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = byte.wrapping_add_signed((rng.below(33) as i8) - 16);
            }
        }
        4..=6 => overwrite(rng, input, at),
        7 => input.truncate(at),
        8 => {
            let length = rng.length(input.len() - at);
            input.drain(at..at + length);
        }
        9 => {
            // A block again, up to thousands of times: deep nests, long lists.
            let length = rng.length((input.len() - at).min(4096));
            let block = input[at..at + length].to_vec();
            let times = 1 + rng.length(if length < 16 { 4096 } else { 16 });
            input.splice(at..at, block.repeat(times));
        }
        10 => {
            let bytes: Vec<u8> = (0..rng.length(64)).map(|_| rng.next_u64() as u8).collect();
            input.splice(at..at, bytes);
        }
        11 | 12 => {
            // A part of another input, in place or between.
            let Some(other) = rng.pick(others).filter(|other| !other.is_empty()) else { return };
            let from = rng.below(other.len());
            let length = 1 + rng.length(other.len() - from - 1);
            let behind = if rng.one_in(2) { at } else { (at + length).min(input.len()) };
            input.splice(at..behind, other[from..from + length].iter().copied());
        }
        13 => {
            let Some(word) = rng.pick(words) else { return overwrite(rng, input, at) };
            let behind = if rng.one_in(2) { at } else { (at + word.len()).min(input.len()) };
            input.splice(at..behind, word.iter().copied());
        }
        14 => number(rng, input, at),
        _ => {
            // Two blocks change places.
            let length = rng.length((input.len() - at).min(1024));
            let to = rng.below(input.len() - length + 1);
            let block: Vec<u8> = input.drain(at..at + length).collect();
            input.splice(to..to, block);
        }
    }
}

/// A number of 1, 2, 4 or 8 bytes in either order: one that is interesting, one near the input's length, or what is there a little changed.
fn overwrite(rng: &mut Rng, input: &mut [u8], at: usize) {
    let width = 1usize << rng.below(4);
    let Some(field) = input.get(at..at + width) else { return };
    let mut wide = [0; 8];
    wide[..width].copy_from_slice(field);
    let big = rng.one_in(2);
    let near = (rng.below(9) as i64) - 4;
    let value = match rng.below(4) {
        0 => input.len() as i64 - if rng.one_in(2) { at as i64 } else { 0 } + near,
        1 if big => (u64::from_be_bytes(wide) >> (64 - 8 * width)).cast_signed().wrapping_add(near),
        1 => i64::from_le_bytes(wide).wrapping_add(near),
        _ => NUMBERS[rng.below(NUMBERS.len())],
    };
    let bytes = if big { (value << (64 - 8 * width)).to_be_bytes() } else { value.to_le_bytes() };
    input[at..at + width].copy_from_slice(&bytes[..width]);
}

/// The next number that is written in digits, replaced.
fn number(rng: &mut Rng, input: &mut Vec<u8>, at: usize) {
    let Some(start) = input[at..].iter().position(u8::is_ascii_digit).map(|found| at + found) else { return };
    let length = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = WORDS[rng.below(WORDS.len())].as_bytes();
    // In place where the field's width is to stay.
    if rng.one_in(2) && text.len() <= length {
        input[start..start + length].fill(b'0');
        input[start + length - text.len()..start + length].copy_from_slice(text);
    } else {
        input.splice(start..start + length, text.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_inputs_and_none_is_too_long() {
        let others = [b"one {1..3} two".to_vec(), vec![7; 300], Vec::new()];
        let all = |seed| -> Vec<Vec<u8>> {
            let mut rng = Rng::new(seed);
            let mut made = Vec::new();
            for round in 0..3000 {
                let mut input = others[round % 3].clone();
                mutate(&mut rng, &mut input, &others, &[b"word"], 1000);
                made.push(input);
            }
            made
        };
        let (first, other) = (all(1), all(2));
        assert_eq!(first, all(1));
        assert_ne!(first, other);
        assert!(first.iter().all(|input| input.len() <= 1000));
        let distinct: std::collections::HashSet<_> = first.iter().collect();
        assert!(distinct.len() > 1500, "{}", distinct.len());
    }
}
