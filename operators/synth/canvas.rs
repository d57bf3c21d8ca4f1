//! Coverage masks from outlines, and the picture they are painted on. f32 with a fixed order of operations.

use super::shape::{P, Path};

/// Colour, each part in 0..=1.
pub(super) type Colour = [f32; 3];

/// Part of each pixel covered, over a box of the picture.
#[derive(Clone, Debug)]
pub(super) struct Mask {
    pub x0: usize,
    pub y0: usize,
    pub width: usize,
    pub height: usize,
    /// f32[height, width], 0..=1.
    pub cover: Vec<f32>,
}

impl Mask {
    /// Nothing covered, over a whole picture.
    pub(super) fn empty(width: usize, height: usize) -> Self {
        Self { x0: 0, y0: 0, width, height, cover: vec![0.0; width * height] }
    }

    /// Exact area coverage of closed outlines. Outlines that overlap count once if they turn the same way.
    pub(super) fn fill(outlines: &[Vec<P>], width: usize, height: usize) -> Self {
        let (mut left, mut top) = (f64::from(u32::MAX), f64::from(u32::MAX));
        let (mut right, mut bottom) = (0.0f64, 0.0f64);
        for &(x, y) in outlines.iter().flatten() {
            (left, right, top, bottom) = (left.min(x), right.max(x), top.min(y), bottom.max(y));
        }
        let x0 = (left.max(0.0).floor() as usize).min(width);
        let y0 = (top.max(0.0).floor() as usize).min(height);
        let x1 = (right.max(0.0).ceil() as usize).min(width).max(x0);
        let y1 = (bottom.max(0.0).ceil() as usize).min(height).max(y0);
        let (w, h) = (x1 - x0, y1 - y0);
        let stride = w + 2;
        let mut sums = vec![0.0f32; stride * h];
        for outline in outlines {
            let Some(&last) = outline.last() else { continue };
            let mut from = last;
            for &to in outline {
                edge(&mut sums, w, h, (from.0 - x0 as f64, from.1 - y0 as f64), (to.0 - x0 as f64, to.1 - y0 as f64));
                from = to;
            }
        }
        let mut cover = Vec::with_capacity(w * h);
        for row in sums.chunks_exact(stride) {
            let mut sum = 0.0f32;
            cover.extend(row[..w].iter().map(|step| {
                sum += step;
                sum.abs().min(1.0)
            }));
        }
        Self { x0, y0, width: w, height: h, cover }
    }

    /// A line drawn with a round pen.
    pub(super) fn stroke(line: &[P], closed: bool, pen: f64, width: usize, height: usize) -> Self {
        let mut pieces = Vec::with_capacity(line.len() * 2);
        let half = pen / 2.0;
        let ends =
            line.iter().zip(line.iter().skip(1)).chain(if closed { line.last().zip(line.first()) } else { None });
        for (&a, &b) in ends {
            let (dx, dy) = (b.0 - a.0, b.1 - a.1);
            let length = (dx * dx + dy * dy).sqrt();
            if length < 1e-9 {
                continue;
            }
            let (ux, uy) = (dx / length * half, dy / length * half);
            // A thin pen needs no round joints: a piece reaches a little over its ends instead.
            let reach = if pen < 2.5 { 0.5 } else { 0.0 };
            let (a, b) = ((a.0 - ux * reach, a.1 - uy * reach), (b.0 + ux * reach, b.1 + uy * reach));
            pieces.push(vec![(a.0 + uy, a.1 - ux), (b.0 + uy, b.1 - ux), (b.0 - uy, b.1 + ux), (a.0 - uy, a.1 + ux)]);
        }
        if pen >= 2.5 {
            const H: f64 = core::f64::consts::FRAC_1_SQRT_2;
            const OCTAGON: [P; 8] =
                [(1.0, 0.0), (H, H), (0.0, 1.0), (-H, H), (-1.0, 0.0), (-H, -H), (0.0, -1.0), (H, -H)];
            pieces.extend(
                line.iter().map(|&(x, y)| OCTAGON.iter().map(|&(ox, oy)| (x + ox * half, y + oy * half)).collect()),
            );
        }
        Self::fill(&pieces, width, height)
    }

    /// Takes the larger cover of both, pixel by pixel, over a whole picture.
    pub(super) fn join(&mut self, other: &Self) {
        for (y, row) in other.rows() {
            let at = y * self.width + other.x0;
            for (mine, theirs) in self.cover[at..at + other.width].iter_mut().zip(row) {
                *mine = mine.max(*theirs);
            }
        }
    }

    /// (y in the picture, cover of the row from x0).
    pub(super) fn rows(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.cover.chunks_exact(self.width.max(1)).enumerate().map(|(row, cover)| (self.y0 + row, cover))
    }

    /// Blurred by two boxes of half-width `reach` (a whole-picture mask).
    pub(super) fn blurred(mut self, reach: usize) -> Self {
        let (w, h) = (self.width, self.height);
        let mut line = vec![0.0f32; w.max(h)];
        let share = 1.0 / (2 * reach + 1) as f32;
        for _ in 0..2 {
            for row in self.cover.chunks_exact_mut(w.max(1)) {
                box_line(row, &mut line[..w], reach, share);
                row.copy_from_slice(&line[..w]);
            }
            // Columns: a running sum per column, a row at a time.
            let source = self.cover.clone();
            let mut sums = vec![0.0f32; w];
            for y in 0..h + reach {
                if y < h {
                    sums.iter_mut().zip(&source[y * w..(y + 1) * w]).for_each(|(sum, v)| *sum += v);
                }
                if y > 2 * reach {
                    let old = y - 2 * reach - 1;
                    if old < h {
                        sums.iter_mut().zip(&source[old * w..(old + 1) * w]).for_each(|(sum, v)| *sum -= v);
                    }
                }
                if y >= reach {
                    let row = &mut self.cover[(y - reach) * w..(y - reach + 1) * w];
                    row.iter_mut().zip(&sums).for_each(|(out, sum)| *out = (sum * share).clamp(0.0, 1.0));
                }
            }
        }
        self
    }
}

fn box_line(from: &[f32], to: &mut [f32], reach: usize, share: f32) {
    let n = from.len();
    let mut sum: f32 = from[..reach.min(n)].iter().sum();
    for x in 0..n {
        if x + reach < n {
            sum += from[x + reach];
        }
        if x > reach {
            sum -= from[x - reach - 1];
        }
        to[x] = (sum * share).clamp(0.0, 1.0);
    }
}

/// Adds one edge's signed area to the rows of differences.
fn edge(sums: &mut [f32], width: usize, height: usize, from: P, to: P) {
    if from.1 == to.1 {
        return;
    }
    let (turn, top, bottom) = if from.1 < to.1 { (1.0f32, from, to) } else { (-1.0f32, to, from) };
    let slope = (bottom.0 - top.0) / (bottom.1 - top.1);
    let mut x = top.0 - top.1.min(0.0) * slope;
    let stride = width + 2;
    let last = (bottom.1.max(0.0).ceil() as usize).min(height);
    for y in (top.1.max(0.0) as usize)..last {
        let row = &mut sums[y * stride..(y + 1) * stride];
        let dy = (y as f64 + 1.0).min(bottom.1) - (y as f64).max(top.1);
        let next = x + slope * dy;
        let d = dy as f32 * turn;
        let (lo, hi) = if x < next { (x, next) } else { (next, x) };
        let (lo, hi) = (lo.clamp(0.0, width as f64) as f32, hi.clamp(0.0, width as f64) as f32);
        let first = lo as usize;
        let end = hi.ceil() as usize;
        if end <= first + 1 {
            let middle = 0.5 * (lo + hi) - first as f32;
            row[first] += d - d * middle;
            row[first + 1] += d * middle;
        } else {
            let s = 1.0 / (hi - lo);
            let a = 1.0 - (lo - first as f32);
            let head = 0.5 * s * a * a;
            let b = hi - end as f32 + 1.0;
            let tail = 0.5 * s * b * b;
            row[first] += d * head;
            if end == first + 2 {
                row[first + 1] += d * (1.0 - head - tail);
            } else {
                let second = s * (0.5 + a);
                row[first + 1] += d * (second - head);
                row[first + 2..end - 1].iter_mut().for_each(|sum| *sum += d * s);
                let before = second + (end - first - 3) as f32 * s;
                row[end - 1] += d * (1.0 - before - tail);
            }
            row[end] += d * tail;
        }
        x = next;
    }
}

/// A picture being painted: f32 colours, display-referred.
#[derive(Clone, Debug)]
pub(super) struct Canvas {
    pub width: usize,
    pub height: usize,
    /// Colour[height, width].
    pub pixels: Vec<Colour>,
}

impl Canvas {
    /// One colour everywhere.
    pub(super) fn new(width: usize, height: usize, colour: Colour) -> Self {
        Self { width, height, pixels: vec![colour; width * height] }
    }

    /// Replaces every pixel by a function of its place and colour.
    pub(super) fn each(&mut self, mut f: impl FnMut(usize, usize, Colour) -> Colour) {
        for (y, row) in self.pixels.chunks_exact_mut(self.width).enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                *pixel = f(x, y, *pixel);
            }
        }
    }

    /// Lays a colour that depends on the place over what the mask covers.
    pub(super) fn paint(&mut self, mask: &Mask, opacity: f32, mut colour: impl FnMut(usize, usize) -> Colour) {
        for (y, row) in mask.rows() {
            let at = y * self.width + mask.x0;
            for (x, (pixel, cover)) in self.pixels[at..at + mask.width].iter_mut().zip(row).enumerate() {
                if *cover > 0.002 {
                    *pixel = blend(*pixel, colour(mask.x0 + x, y), cover * opacity);
                }
            }
        }
    }

    /// One colour over what the mask covers.
    pub(super) fn flat(&mut self, mask: &Mask, opacity: f32, colour: Colour) {
        self.paint(mask, opacity, |_, _| colour);
    }

    /// Multiplies what the mask, moved by (dx, dy) pixels, covers.
    pub(super) fn darken(&mut self, mask: &Mask, strength: f32, dx: i64, dy: i64) {
        for (y, row) in mask.rows() {
            let to_y = y as i64 + dy;
            if to_y < 0 || to_y >= self.height as i64 {
                continue;
            }
            for (x, cover) in row.iter().enumerate() {
                let to_x = (mask.x0 + x) as i64 + dx;
                if to_x >= 0 && to_x < self.width as i64 && *cover > 0.002 {
                    let keep = 1.0 - strength * cover;
                    self.pixels[to_y as usize * self.width + to_x as usize].iter_mut().for_each(|c| *c *= keep);
                }
            }
        }
    }

    /// A closed outline, filled.
    pub(super) fn fill_path(&mut self, path: &Path, opacity: f32, colour: Colour) {
        let mask = Mask::fill(std::slice::from_ref(&path.points), self.width, self.height);
        self.flat(&mask, opacity, colour);
    }

    /// Blends each pixel with its neighbours: `spread` 0 leaves it alone, 1 is a full 1-2-1 filter.
    pub(super) fn soften(&mut self, spread: f32) {
        let (w, h) = (self.width, self.height);
        if spread <= 0.0 || w < 3 || h < 3 {
            return;
        }
        let (side, middle) = (0.25 * spread, 1.0 - 0.5 * spread);
        let mix = |a: Colour, b: Colour, c: Colour| [0, 1, 2].map(|i| middle * b[i] + side * (a[i] + c[i]));
        for row in self.pixels.chunks_exact_mut(w) {
            let mut before = row[0];
            for x in 0..w {
                let here = row[x];
                row[x] = mix(before, here, row[(x + 1).min(w - 1)]);
                before = here;
            }
        }
        let mut above = self.pixels[..w].to_vec();
        for y in 0..h {
            let next = (y + 1).min(h - 1) * w;
            for (x, above) in above.iter_mut().enumerate() {
                let here = self.pixels[y * w + x];
                self.pixels[y * w + x] = mix(*above, here, self.pixels[next + x]);
                *above = here;
            }
        }
    }

    /// RGB bytes, row by row.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.pixels.iter().flat_map(|c| c.map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8)).collect()
    }
}

/// `a` with `share` of `b` over it.
pub(super) fn blend(a: Colour, b: Colour, share: f32) -> Colour {
    [0, 1, 2].map(|i| a[i] + (b[i] - a[i]) * share)
}

/// Each part times k.
pub(super) fn scaled(a: Colour, k: f32) -> Colour {
    a.map(|v| v * k)
}

/// Brightness as seen, 0..=1.
pub(super) fn luma(c: Colour) -> f32 {
    0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]
}

/// Colour from hue (turns), saturation and value.
pub(super) fn hsv(hue: f64, saturation: f64, value: f64) -> Colour {
    let h = (hue - hue.floor()) * 6.0;
    [5.0, 3.0, 1.0].map(|n| {
        let k = (n + h) % 6.0;
        let dip = k.min(4.0 - k).clamp(0.0, 1.0);
        (value - value * saturation * dip) as f32
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn coverage_is_area() {
        for path in [
            Path::rect(1.25, 2.5, 7.75, 6.125),
            Path::ellipse(5.0, 5.0, 3.3, 2.1),
            Path::poly(&[(0.5, 0.5), (9.2, 3.0), (4.0, 8.8)]),
        ] {
            let n = path.points.len();
            let shoelace: f64 = (0..n)
                .map(|i| {
                    let (a, b) = (path.points[i], path.points[(i + 1) % n]);
                    (a.0 * b.1 - b.0 * a.1) / 2.0
                })
                .sum();
            let covered: f32 = Mask::fill(&[path.points], 10, 10).cover.iter().sum();
            assert!((f64::from(covered) - shoelace.abs()).abs() < 1e-3, "{covered} for an area of {shoelace}");
        }
    }

    #[test]
    fn outlines_may_leave_the_picture() {
        let mask = Mask::fill(&[Path::ellipse(5.0, 5.0, 30.0, 30.0).points], 10, 10);
        assert!(mask.cover.iter().all(|c| (*c - 1.0).abs() < 1e-4));
        assert_eq!(Mask::fill(&[Path::rect(-9.0, -9.0, -2.0, -2.0).points], 10, 10).cover.iter().sum::<f32>(), 0.0);
        assert_eq!(Mask::fill(&[Path::rect(12.0, 12.0, 22.0, 22.0).points], 10, 10).cover.iter().sum::<f32>(), 0.0);
    }

    #[test]
    fn hues() {
        assert_eq!(hsv(0.0, 1.0, 1.0), [1.0, 0.0, 0.0]);
        assert_eq!(hsv(1.0 / 3.0, 1.0, 1.0).map(|v| v.round()), [0.0, 1.0, 0.0]);
        assert_eq!(hsv(2.0 / 3.0, 1.0, 1.0).map(|v| v.round()), [0.0, 0.0, 1.0]);
    }
}
