//! Points, placement and closed or open lines, in f64, by the four operations and square roots only: no libm, so that
//! every machine gets the same bits.

/// A point; y grows downwards.
pub(super) type P = (f64, f64);

/// (sine, cosine) of an angle in turns, by a polynomial; error below 1e-9.
pub(super) fn sin_cos(turns: f64) -> (f64, f64) {
    let sine = |turns: f64| {
        let t = turns - (turns + 0.5).floor(); // [-0.5, 0.5)
        let t = if t > 0.25 {
            0.5 - t
        } else if t < -0.25 {
            -0.5 - t
        } else {
            t
        };
        let x = t * core::f64::consts::TAU;
        let q = x * x;
        x * (1.0
            - q / 6.0 * (1.0 - q / 20.0 * (1.0 - q / 42.0 * (1.0 - q / 72.0 * (1.0 - q / 110.0 * (1.0 - q / 156.0))))))
    };
    (sine(turns), sine(turns + 0.25))
}

/// A placement: `(x, y) -> (a x + b y + e, c x + d y + f)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    a: f64,
    b: f64,
    c: f64,
    d: f64,
    e: f64,
    f: f64,
}

impl Affine {
    /// Scale by (sx, sy), turn by `turns`, move by `to`.
    pub(super) fn place(sx: f64, sy: f64, turns: f64, to: P) -> Self {
        let (s, c) = sin_cos(turns);
        Self { a: sx * c, b: -sy * s, c: sx * s, d: sy * c, e: to.0, f: to.1 }
    }

    /// The point's image.
    pub(super) fn at(&self, (x, y): P) -> P {
        (self.a * x + self.b * y + self.e, self.c * x + self.d * y + self.f)
    }

    /// Square root of the area's growth.
    pub(super) fn scale(&self) -> f64 {
        (self.a * self.d - self.b * self.c).abs().sqrt()
    }
}

/// A line of points.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    pub points: Vec<P>,
}

const CURVE_STEPS: usize = 9;

impl Path {
    /// A path that begins at this point.
    pub(super) fn from(x: f64, y: f64) -> Self {
        Self { points: vec![(x, y)] }
    }

    /// A polygon or polyline.
    pub(super) fn poly(points: &[P]) -> Self {
        Self { points: points.to_vec() }
    }

    /// Corners (x0, y0) and (x1, y1).
    pub(super) fn rect(x0: f64, y0: f64, x1: f64, y1: f64) -> Self {
        Self::poly(&[(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    }

    /// A rectangle with corners of radius r.
    pub(super) fn rounded(x0: f64, y0: f64, x1: f64, y1: f64, r: f64) -> Self {
        Self::from(x0 + r, y0)
            .line(x1 - r, y0)
            .quad(x1, y0, x1, y0 + r)
            .line(x1, y1 - r)
            .quad(x1, y1, x1 - r, y1)
            .line(x0 + r, y1)
            .quad(x0, y1, x0, y1 - r)
            .line(x0, y0 + r)
            .quad(x0, y0, x0 + r, y0)
    }

    /// An ellipse with its axes along x and y.
    pub(super) fn ellipse(cx: f64, cy: f64, rx: f64, ry: f64) -> Self {
        Self::turned_ellipse(cx, cy, rx, ry, 0.0)
    }

    /// An ellipse turned about its centre.
    pub(super) fn turned_ellipse(cx: f64, cy: f64, rx: f64, ry: f64, turns: f64) -> Self {
        let (ts, tc) = sin_cos(turns);
        let steps = if rx.max(ry) > 0.3 { 40 } else { 20 };
        let point = |i: usize| {
            let (s, c) = sin_cos(i as f64 / steps as f64);
            let (x, y) = (c * rx, s * ry);
            (cx + x * tc - y * ts, cy + x * ts + y * tc)
        };
        Self { points: (0..steps).map(point).collect() }
    }

    /// Part of an ellipse, from one angle to another (turns, clockwise on the screen from the right).
    pub(super) fn arc(cx: f64, cy: f64, rx: f64, ry: f64, from: f64, to: f64) -> Self {
        let steps = 20;
        let point = |i: usize| {
            let (s, c) = sin_cos(from + (to - from) * i as f64 / steps as f64);
            (cx + c * rx, cy + s * ry)
        };
        Self { points: (0..=steps).map(point).collect() }
    }

    /// On to here, straight.
    pub(super) fn line(mut self, x: f64, y: f64) -> Self {
        self.points.push((x, y));
        self
    }

    /// On to (x, y) by a quadratic curve with this control point.
    pub(super) fn quad(mut self, cx: f64, cy: f64, x: f64, y: f64) -> Self {
        let (px, py) = self.last();
        for i in 1..=CURVE_STEPS {
            let t = i as f64 / CURVE_STEPS as f64;
            let u = 1.0 - t;
            self.points.push((u * u * px + 2.0 * u * t * cx + t * t * x, u * u * py + 2.0 * u * t * cy + t * t * y));
        }
        self
    }

    /// On to `end` by a cubic curve with two control points.
    pub(super) fn cubic(mut self, c1: P, c2: P, end: P) -> Self {
        let p = self.last();
        for i in 1..=CURVE_STEPS {
            let t = i as f64 / CURVE_STEPS as f64;
            let u = 1.0 - t;
            let (a, b, c, d) = (u * u * u, 3.0 * u * u * t, 3.0 * u * t * t, t * t * t);
            self.points.push((a * p.0 + b * c1.0 + c * c2.0 + d * end.0, a * p.1 + b * c1.1 + c * c2.1 + d * end.1));
        }
        self
    }

    fn last(&self) -> P {
        self.points.last().copied().unwrap_or_default()
    }

    /// Mirrored in the vertical axis through x = 0.
    pub(super) fn mirrored(&self) -> Self {
        Self { points: self.points.iter().map(|&(x, y)| (-x, y)).collect() }
    }

    /// Turned about the origin and moved.
    pub(super) fn moved(&self, turns: f64, to: P) -> Self {
        let place = Affine::place(1.0, 1.0, turns, to);
        Self { points: self.points.iter().map(|&p| place.at(p)).collect() }
    }

    /// A band of this width along the line, as a closed outline.
    pub(super) fn ribbon(&self, width: f64) -> Self {
        let n = self.points.len();
        let side = |sign: f64| {
            (0..n).map(move |i| {
                let (a, b) = (self.points[i.saturating_sub(1)], self.points[(i + 1).min(n - 1)]);
                let (dx, dy) = (b.0 - a.0, b.1 - a.1);
                let length = (dx * dx + dy * dy).sqrt().max(1e-9);
                let (x, y) = self.points[i];
                (x - sign * dy / length * width / 2.0, y + sign * dx / length * width / 2.0)
            })
        };
        let mut points: Vec<P> = side(1.0).collect();
        let mut back: Vec<P> = side(-1.0).collect();
        back.reverse();
        points.extend(back);
        Self { points }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sine_agrees_with_libm() {
        for i in -400..400 {
            let turns = f64::from(i) / 97.0;
            let (s, c) = sin_cos(turns);
            let (es, ec) = (turns * core::f64::consts::TAU).sin_cos();
            assert!((s - es).abs() < 1e-8 && (c - ec).abs() < 1e-8, "at {turns} turns: {s} {c}, not {es} {ec}");
        }
    }
}
