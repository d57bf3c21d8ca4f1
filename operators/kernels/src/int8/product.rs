//! The products of some rows' codes with those of a chunk of points: sums in i32, and values in i16.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::CHUNK;

/// Instructions that can multiply codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// `VPDPBUSD` on 512 bits: AVX-512 VNNI.
    Avx512Vnni,
    /// `VPDPBUSD` on 256 bits: AVX-VNNI.
    AvxVnni,
    /// `VPMADDUBSW` and `VPMADDWD` on 256 bits: AVX2. Sums of 16 bits saturate, so codes are smaller.
    Avx2,
    /// Any processor's. It is for tests: f32 is faster.
    Portable,
}

/// The codes that instructions can multiply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ranges {
    /// Largest code of a row.
    pub rows: f32,
    /// Largest code of a point.
    pub points: f32,
    /// By what codes of points are moved up, so that they have no sign.
    pub moved: u8,
}

impl Instructions {
    /// All that this processor has, the fastest first.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Avx512Vnni, Self::AvxVnni, Self::Avx2, Self::Portable].into_iter().filter(|it| it.are_there())
    }

    /// The fastest that are faster than f32, if the processor has any.
    #[must_use]
    pub fn fast() -> Option<Self> {
        Self::all().find(|it| *it != Self::Portable)
    }

    fn are_there(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.are_there() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512Vnni | Self::AvxVnni | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    /// A word for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "avx512-vnni",
            Self::AvxVnni => "avx-vnni",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// What codes of two unit vectors that are spread evenly make their product wrong by at most, more or less: for estimates.
    #[must_use]
    pub fn typical_error(self) -> f32 {
        let Ranges { rows, points, .. } = self.ranges();
        0.9 * (1.0 / rows + 1.0 / points)
    }

    pub(super) const fn ranges(self) -> Ranges {
        match self {
            // Two sums of two products each meet in 16 bits before they are widened: 4 * 127 * 64 = 32,512.
            Self::Avx2 => Ranges { rows: 64.0, points: 63.0, moved: 64 },
            Self::Avx512Vnni | Self::AvxVnni | Self::Portable => Ranges { rows: 127.0, points: 127.0, moved: 128 },
        }
    }
}

/// A row's part in what its products become: `sum * scale * steps[point] - length * slack[point] - shift`, with `sum` starting at `first`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowTerms {
    pub first: i32,
    pub scale: f32,
    pub shift: f32,
}

/// Four codes of each point of a chunk, and so on: u8\[steps, CHUNK, 4\], moved up.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Four(pub [[u8; 4]; CHUNK]);

/// Sums of a row's codes times those of a chunk of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub(super) struct Sums(pub [i32; CHUNK]);

/// Values of a row with a chunk of points.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Values(pub [i16; CHUNK]);

/// Rows whose sums go through memory: whole tiles of all instructions, and little enough for the nearest cache.
pub(super) const ROWS_A_BLOCK: usize = 24;

/// The points of a chunk.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub codes: &'a [Four],
    pub steps: &'a [f32; CHUNK],
    pub slack: &'a [f32; CHUNK],
    /// Factor of `slack`.
    pub length: f32,
}

/// Values of all rows (i8\[rows, 4 * chunk.codes.len()\]) with a chunk.
pub(super) fn multiply(with: Instructions, rows: &[i8], terms: &[RowTerms], chunk: Chunk<'_>, out: &mut [Values]) {
    let width = 4 * chunk.codes.len();
    assert!(rows.len() == terms.len() * width && out.len() == terms.len(), "as many values as rows");
    #[cfg(target_arch = "x86_64")]
    if with == Instructions::Avx512Vnni {
        assert!(with.are_there(), "the processor has the instructions");
        // SAFETY: the features are there, and lengths fit.
        return unsafe { x86::multiply_512(rows, terms, chunk, out) };
    }
    let mut block = [Sums([0; CHUNK]); ROWS_A_BLOCK];
    let blocks = rows.chunks(ROWS_A_BLOCK * width).zip(terms.chunks(ROWS_A_BLOCK)).zip(out.chunks_mut(ROWS_A_BLOCK));
    for ((rows, terms), out) in blocks {
        let (block, mut firsts) = (&mut block[..terms.len()], [0; ROWS_A_BLOCK]);
        firsts.iter_mut().zip(terms).for_each(|(first, terms)| *first = terms.first);
        sums(with, rows, &firsts[..terms.len()], chunk.codes, block);
        #[cfg(target_arch = "x86_64")]
        if with != Instructions::Portable {
            // SAFETY: `sums` has seen that AVX2 and FMA are there, which all others of this processor's instructions come with.
            unsafe { x86::values_256(block, terms, chunk, out) };
            continue;
        }
        values(block, terms, chunk, out);
    }
}

fn values(sums: &[Sums], terms: &[RowTerms], chunk: Chunk<'_>, out: &mut [Values]) {
    for ((sums, terms), out) in sums.iter().zip(terms).zip(out) {
        let terms_of = sums.0.iter().zip(chunk.steps.iter().zip(chunk.slack));
        for (out, (sum, (step, slack))) in out.0.iter_mut().zip(terms_of) {
            let value = *sum as f32 * (terms.scale * step) - chunk.length * slack - terms.shift;
            *out = value.round_ties_even() as i16;
        }
    }
}

/// Sums of all rows (i8\[rows, 4 * codes.len()\]) with a chunk, each row's starting at its own first.
pub(super) fn sums(with: Instructions, rows: &[i8], firsts: &[i32], codes: &[Four], out: &mut [Sums]) {
    assert!(rows.len() == firsts.len() * 4 * codes.len() && out.len() == firsts.len(), "as many sums as rows");
    assert!(with.are_there(), "the processor has the instructions");
    match with {
        // SAFETY: the features are there, and lengths fit.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512Vnni => unsafe { x86::sums_512(rows, firsts, codes, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Instructions::AvxVnni => unsafe { x86::sums_256(rows, firsts, codes, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => unsafe { x86::sums_avx2(rows, firsts, codes, out) },
        _ => sums_portable(rows, firsts, codes, out),
    }
}

fn sums_portable(rows: &[i8], firsts: &[i32], codes: &[Four], out: &mut [Sums]) {
    for ((row, first), out) in rows.chunks_exact(4 * codes.len()).zip(firsts).zip(out) {
        out.0.fill(*first);
        for (four, x) in codes.iter().zip(row.as_chunks::<4>().0) {
            for (sum, codes) in out.0.iter_mut().zip(&four.0) {
                for (t, x) in codes.iter().zip(x) {
                    *sum += i32::from(*t) * i32::from(*x);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As large as codes may be, all of one sign or of two, and anything: no sum saturates, whatever the number of rows and steps that are left over.
    #[test]
    fn sums_are_exact_with_the_largest_codes() {
        let mut state = 9u64;
        let mut below = |n: i32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as i32 % n
        };
        for with in Instructions::all() {
            let Ranges { rows: most_x, points: most_t, moved } = with.ranges();
            let (most_x, most_t) = (most_x as i32, most_t as i32);
            let sizes = [(1, 1), (5, 2), (6, 3), (7, 4), (8, 9), (15, 31), (24, 160)];
            for (rows, steps) in sizes.into_iter().take(if cfg!(miri) { 4 } else { 7 }) {
                for kind in 0..4 {
                    let mut code = |most: i32, sign: i32| match kind {
                        0 => most,
                        1 => sign * most,
                        2 => most * (1 - 2 * below(2)),
                        _ => below(2 * most + 1) - most,
                    };
                    let x: Vec<i8> = (0..rows * steps * 4).map(|_| code(most_x, -1) as i8).collect();
                    let firsts: Vec<i32> = (0..rows as i32).map(|row| 1000 * row - 7).collect();
                    let mut points = vec![Four([[0; 4]; CHUNK]); steps];
                    let codes = points.iter_mut().flat_map(|four| four.0.as_flattened_mut());
                    codes.for_each(|it| *it = (code(most_t, 1) + i32::from(moved)) as u8);
                    let (mut out, mut expected) = (vec![Sums([1; CHUNK]); rows], vec![Sums([2; CHUNK]); rows]);
                    sums(with, &x, &firsts, &points, &mut out);
                    sums_portable(&x, &firsts, &points, &mut expected);
                    assert_eq!(out, expected, "{with:?}, {rows} rows, {steps} steps, kind {kind}");
                }
            }
        }
    }
}
