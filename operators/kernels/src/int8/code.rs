//! Vectors as codes of at most 8 bits with one step size each, and how far they are from what they stand for.

use half::f16;

use super::rotate::{LANES, Lanes, Rotation};
use crate::dot::{norm, to_f32};
use crate::widened::widened;

/// A coded vector: `step * codes` stands for the turned one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coded {
    pub step: f32,
    /// `|step * codes|`, rounded up.
    pub length: f64,
    /// Norm of the vector, rounded up.
    pub norm: f64,
    /// `|Q x - step * codes|` at most: the measured distance from the turned vector, and the turn's own rounding.
    pub error: f64,
}

/// Memory for coding [`LANES`] vectors.
#[derive(Debug, Default)]
pub(super) struct Coder {
    /// One vector, filled up with zeros to whole blocks of [`LANES`].
    wide: Vec<f32>,
    turned: Vec<Lanes>,
    /// The codes of one vector, filled up likewise.
    codes: Vec<i8>,
}

/// 1.5 * 2^23: what is added to it ends in the bits of the nearest integer.
const ROUNDER: f32 = 12_582_912.0;

/// What covers the few roundings (each 2^-53) of norms and sums in f64.
pub(super) const UP: f64 = 1.0 + 1e-9;

/// A vector as good as zero is coded as zero, and all of it is error.
const LEAST: f32 = 1e-20;

impl Coder {
    /// Codes, up to `largest`, of up to [`LANES`] vectors of `dim` elements; `take` is shown each with its codes.
    pub fn code<'v>(
        &mut self,
        vectors: impl Iterator<Item = &'v [f16]> + Clone,
        rotation: &Rotation,
        dim: usize,
        largest: f32,
        mut take: impl FnMut(Coded, &[i8]),
    ) {
        self.wide.clear();
        self.wide.resize(dim.next_multiple_of(LANES), 0.0);
        self.codes.resize(self.wide.len(), 0);
        self.turned.resize(dim, [0.0; LANES]);
        for (lane, vector) in vectors.clone().take(LANES).enumerate() {
            to_f32(vector, &mut self.wide);
            for (element, x) in self.turned.iter_mut().zip(&self.wide) {
                element[lane] = *x;
            }
        }
        turn(rotation, &mut self.turned);
        for (lane, vector) in vectors.take(LANES).enumerate() {
            for (x, element) in self.wide.iter_mut().zip(&self.turned) {
                *x = element[lane];
            }
            let mut coded = Coded { norm: norm(vector) * UP, ..Coded::default() };
            round(&self.wide, &mut self.codes, &mut coded, largest);
            coded.error = (coded.error + rotation.error() * coded.norm) * UP;
            take(coded, &self.codes[..dim]);
        }
    }
}

widened! {
    /// [`Rotation::turn`].
    fn turn / turn_wide / turn_widest / turn_plain(rotation: &Rotation, vectors: &mut [Lanes]) {
        rotation.turn(vectors);
    }
}

widened! {
    /// Rounds a vector of whole blocks of [`LANES`] to codes up to `largest`; the error is the distance from it.
    pub(super) fn round / round_wide / round_widest / round_plain(
        vector: &[f32], codes: &mut [i8], coded: &mut Coded, largest: f32
    ) {
        let blocks = vector.as_chunks::<LANES>().0;
        let mut most = [0.0f32; LANES];
        for block in blocks {
            for (most, x) in most.iter_mut().zip(block) {
                *most = if x.abs() > *most { x.abs() } else { *most };
            }
        }
        let most = most.into_iter().fold(0.0, |a, b| if b > a { b } else { a });
        let (step, inverse) = if most > LEAST { (most / largest, largest / most) } else { (0.0, 0.0) };
        // No element is above the largest code's steps by more than rounding, so no code is above it.
        for (code, x) in codes.iter_mut().zip(vector) {
            *code = (x * inverse + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits()) as i8;
        }
        let (mut squares, mut apart) = ([0i32; LANES], [0.0f64; LANES]);
        let wide = f64::from(step);
        for (block, codes) in blocks.iter().zip(codes.as_chunks::<LANES>().0) {
            for (lane, (x, code)) in block.iter().zip(codes).enumerate() {
                let code = i32::from(*code);
                squares[lane] += code * code;
                let off = f64::from(*x) - wide * f64::from(code);
                apart[lane] += off * off;
            }
        }
        coded.step = step;
        coded.length = wide * f64::from(squares.iter().sum::<i32>()).sqrt() * UP;
        coded.error = apart.iter().sum::<f64>().sqrt() * UP;
    }
}
