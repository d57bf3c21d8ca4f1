//! What stands behind the thing: sky and grass, a room, water, a studio; with clutter.

use super::Class;
use super::canvas::{Canvas, Colour, blend, hsv, scaled};
use super::random::{Stream, floor, lattice_noise};
use super::shape::Path;

/// A slow change of colour from top to bottom.
fn gradient(canvas: &mut Canvas, from: usize, to: usize, top: Colour, bottom: Colour) {
    let span = to.saturating_sub(from).max(1) as f32;
    let width = canvas.width;
    for y in from..to.min(canvas.height) {
        let colour = blend(top, bottom, (y - from) as f32 / span);
        canvas.pixels[y * width..(y + 1) * width].fill(colour);
    }
}

/// Grain over rows from..to: smooth noise of this size in pixels.
fn grain(canvas: &mut Canvas, from: usize, to: usize, size: (f32, f32), strength: f32, key: u64) {
    let width = canvas.width;
    for y in from..to.min(canvas.height) {
        for x in 0..width {
            let k = 1.0 + strength * (lattice_noise(key, x as f32 / size.0, y as f32 / size.1) - 0.5);
            let pixel = &mut canvas.pixels[y * width + x];
            *pixel = scaled(*pixel, k);
        }
    }
}

fn ellipse(canvas: &mut Canvas, at: (f64, f64), rx: f64, ry: f64, opacity: f32, colour: Colour) {
    canvas.fill_path(&Path::ellipse(at.0, at.1, rx, ry), opacity, colour);
}

fn clouds(canvas: &mut Canvas, chance: &mut Stream, horizon: f64, opacity: f32) {
    let w = canvas.width as f64;
    for _ in 0..1 + chance.below(3) {
        let (x, y, r) = (chance.range(0.0, w), chance.range(0.0, horizon * 0.6), w * chance.range(0.05, 0.09));
        for (dx, dy, k) in [(-1.2, 0.1, 0.8), (0.0, -0.2, 1.1), (1.2, 0.1, 0.85), (0.0, 0.35, 1.0)] {
            ellipse(canvas, (x + dx * r, y + dy * r), r * k * 1.2, r * k * 0.75, opacity, [0.97, 0.97, 0.98]);
        }
    }
}

fn outdoors(canvas: &mut Canvas, chance: &mut Stream) {
    let (w, h) = (canvas.width as f64, canvas.height as f64);
    let horizon = h * chance.range(0.52, 0.72);
    let line = horizon as usize;
    let (hue, dusk) = (chance.range(0.53, 0.6), chance.chance(0.2));
    let top = if dusk { hsv(0.68, 0.45, 0.6) } else { hsv(hue, 0.55, 0.86) };
    let low = if dusk { hsv(0.07, 0.45, 0.95) } else { hsv(hue, 0.15, 0.96) };
    gradient(canvas, 0, line, top, low);
    if chance.chance(0.35) {
        let at = (chance.range(0.1, 0.9) * w, horizon * chance.range(0.15, 0.6));
        ellipse(canvas, at, w * 0.11, w * 0.11, 0.25, [1.0, 0.95, 0.7]);
        ellipse(canvas, at, w * 0.065, w * 0.065, 0.95, [1.0, 0.95, 0.75]);
    }
    clouds(canvas, chance, horizon, 0.55);
    let ground = hsv(chance.pick(&[0.27, 0.3, 0.24, 0.12, 0.33]), chance.range(0.35, 0.6), chance.range(0.5, 0.68));
    for i in 0..chance.below(3) {
        let at = (chance.range(0.0, w), horizon + h * 0.06);
        let far = blend(ground, low, 0.45 - 0.15 * i as f32);
        ellipse(canvas, at, w * chance.range(0.3, 0.6), h * chance.range(0.1, 0.22), 1.0, far);
    }
    gradient(canvas, line, canvas.height, blend(ground, low, 0.25), scaled(ground, 0.72));
    grain(canvas, line, canvas.height, (1.3, 2.6), 0.35, chance.bits());
    for _ in 0..chance.below(4) {
        let at = (chance.range(0.0, w), chance.range(horizon, h));
        ellipse(canvas, at, w * chance.range(0.02, 0.07), w * chance.range(0.015, 0.035), 0.7, hsv(0.09, 0.2, 0.5));
    }
}

fn room(canvas: &mut Canvas, chance: &mut Stream) {
    let (w, h) = (canvas.width as f64, canvas.height as f64);
    let edge = h * chance.range(0.58, 0.78);
    let wall = hsv(chance.unit(), chance.range(0.06, 0.35), chance.range(0.6, 0.92));
    gradient(canvas, 0, edge as usize, wall, scaled(wall, 0.84));
    if chance.chance(0.4) {
        let stripe = w * chance.range(0.06, 0.14);
        let (shift, tone) = (chance.range(0.0, w), chance.tone(0.93, 1.05));
        let rows = edge as usize;
        canvas.each(|x, y, c| {
            let t = (x as f64 + shift) / stripe;
            if y < rows && ((t as i64) & 1) == 0 { scaled(c, tone) } else { c }
        });
    }
    if chance.chance(0.5) {
        let (x, y) = (chance.range(0.05, 0.7) * w, chance.range(0.04, 0.2) * h);
        let (dx, dy) = (w * chance.range(0.15, 0.3), h * chance.range(0.15, 0.3));
        canvas.fill_path(&Path::rect(x, y, x + dx, y + dy), 1.0, hsv(0.08, 0.4, chance.range(0.3, 0.6)));
        let picture = hsv(chance.unit(), 0.3, 0.8);
        canvas.fill_path(&Path::rect(x + 2.0, y + 2.0, x + dx - 2.0, y + dy - 2.0), 1.0, picture);
    }
    let wood = hsv(chance.range(0.05, 0.1), chance.range(0.3, 0.6), chance.range(0.4, 0.7));
    gradient(canvas, edge as usize, canvas.height, scaled(wood, 1.1), scaled(wood, 0.75));
    grain(canvas, edge as usize, canvas.height, (14.0, 1.6), 0.3, chance.bits());
    for _ in 0..chance.below(3) {
        let (x, y, r) = (chance.range(0.0, w), edge + h * chance.range(0.0, 0.1), w * chance.range(0.04, 0.09));
        let colour = hsv(chance.unit(), 0.45, 0.6);
        if chance.chance(0.5) {
            canvas.fill_path(&Path::rect(x - r, y - 2.0 * r, x + r, y + r * 0.3), 0.9, colour);
        } else {
            ellipse(canvas, (x, y - r * 0.5), r, r, 0.9, colour);
        }
    }
}

fn water(canvas: &mut Canvas, chance: &mut Stream, under: bool) {
    let (w, h) = (canvas.width as f64, canvas.height as f64);
    let hue = chance.range(0.5, 0.59);
    if under {
        gradient(canvas, 0, canvas.height, hsv(hue, 0.45, 0.88), hsv(hue + 0.03, 0.75, 0.42));
        grain(canvas, 0, canvas.height, (9.0, 5.0), 0.16, chance.bits());
        for _ in 0..3 + chance.below(5) {
            let (at, r) = ((chance.range(0.0, w), chance.range(0.0, h)), w * chance.range(0.012, 0.035));
            ellipse(canvas, at, r, r, 0.45, [0.85, 0.95, 1.0]);
        }
        let sand = hsv(0.11, 0.35, 0.75);
        ellipse(canvas, (w * 0.5, h * 1.1), w * 0.9, h * chance.range(0.16, 0.26), 0.85, sand);
        for _ in 0..chance.below(4) {
            let x = chance.range(0.0, w);
            let weed = Path::from(x, h).quad(x - w * 0.05, h * 0.85, x + w * 0.03, h * chance.range(0.6, 0.8));
            canvas.fill_path(&weed.ribbon(w * 0.03), 0.8, hsv(0.36, 0.6, 0.4));
        }
    } else {
        let line = (h * chance.range(0.55, 0.72)) as usize;
        gradient(canvas, 0, line, hsv(hue, 0.5, 0.9), hsv(hue, 0.12, 0.97));
        clouds(canvas, chance, line as f64, 0.6);
        gradient(canvas, line, canvas.height, hsv(hue, 0.45, 0.75), hsv(hue + 0.03, 0.7, 0.5));
        grain(canvas, line, canvas.height, (7.0, 1.5), 0.4, chance.bits());
    }
}

fn studio(canvas: &mut Canvas, chance: &mut Stream) {
    let colour = hsv(chance.unit(), chance.range(0.03, 0.5), chance.range(0.45, 0.95));
    let (w, h) = (canvas.width as f32, canvas.height as f32);
    let (cx, cy) = (w * chance.tone(0.3, 0.7), h * chance.tone(0.2, 0.6));
    let fall = chance.tone(0.25, 0.5) / (w * w + h * h) * 4.0;
    canvas.each(|x, y, _| {
        let (dx, dy) = (x as f32 - cx, y as f32 - cy);
        scaled(colour, 1.06 - fall * (dx * dx + dy * dy))
    });
    if chance.chance(0.4) {
        // Lights out of focus.
        for _ in 0..4 + chance.below(6) {
            let at = (chance.range(0.0, f64::from(w)), chance.range(0.0, f64::from(h)));
            let r = f64::from(w) * chance.range(0.03, 0.1);
            ellipse(canvas, at, r, r, 0.22, hsv(chance.unit(), 0.3, 1.0));
        }
    }
}

/// A background as a camera sees it.
pub(super) fn photo(canvas: &mut Canvas, class: Class, chance: &mut Stream) {
    let usual = chance.chance(0.65);
    match class {
        Class::Fish if usual => water(canvas, chance, true),
        Class::Sailboat if usual => water(canvas, chance, false),
        Class::Cup | Class::Clock | Class::Clown if usual => room(canvas, chance),
        Class::House | Class::Tree | Class::Car | Class::Flower | Class::Mushroom if usual => outdoors(canvas, chance),
        _ => match chance.below(8) {
            0..=2 => outdoors(canvas, chance),
            3 | 4 => room(canvas, chance),
            5 => {
                let under = chance.chance(0.5);
                water(canvas, chance, under);
            }
            _ => studio(canvas, chance),
        },
    }
}

/// A background of a few flat shapes.
pub(super) fn cartoon(canvas: &mut Canvas, chance: &mut Stream) {
    let (w, h) = (canvas.width as f64, canvas.height as f64);
    let base = hsv(chance.unit(), chance.range(0.15, 0.5), 0.97);
    canvas.pixels.fill(base);
    match chance.below(4) {
        0 => {
            canvas.pixels.fill(hsv(0.55, 0.35, 0.98));
            clouds(canvas, chance, h * 0.6, 1.0);
            ellipse(canvas, (w * chance.range(0.1, 0.9), h * 0.15), w * 0.1, w * 0.1, 1.0, [1.0, 0.87, 0.3]);
            let middle = (w * chance.range(0.2, 0.8), h * 1.05);
            ellipse(canvas, middle, w * 0.95, h * 0.36, 1.0, hsv(0.3, 0.5, 0.82));
        }
        1 => {
            // Rays from behind.
            let second = blend(base, [1.0; 3], 0.45);
            let (turn, rays) = (chance.unit(), 8 + chance.below(5));
            for i in 0..rays {
                let corner = |k: f64| {
                    let (s, c) = super::shape::sin_cos(turn + (i as f64 + k) / rays as f64);
                    (w / 2.0 + c * w * 2.0, h / 2.0 + s * h * 2.0)
                };
                canvas.fill_path(&Path::poly(&[(w / 2.0, h / 2.0), corner(0.0), corner(0.5)]), 1.0, second);
            }
        }
        2 => {
            let dots = blend(base, [1.0; 3], 0.5);
            let step = w * chance.range(0.12, 0.2);
            for row in 0..(h / step) as usize + 2 {
                for column in 0..(w / step) as usize + 2 {
                    let x = (column as f64 + if row % 2 == 0 { 0.0 } else { 0.5 }) * step;
                    ellipse(canvas, (x, row as f64 * step), step * 0.22, step * 0.22, 1.0, dots);
                }
            }
        }
        _ => {
            let floor = hsv(chance.unit(), 0.35, 0.85);
            canvas.fill_path(&Path::rect(0.0, h * chance.range(0.62, 0.8), w, h), 1.0, floor);
        }
    }
}

/// Patterns that stand in for a surface.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    kind: usize,
    a: Colour,
    b: Colour,
    size: f32,
    cos: f32,
    sin: f32,
    key: u64,
}

impl Pattern {
    /// A pattern for a picture this wide; `calm` ones have little contrast.
    pub(super) fn of(chance: &mut Stream, width: usize, calm: bool) -> Self {
        let hue = chance.unit();
        let a = hsv(hue, chance.range(0.3, 0.85), chance.range(0.5, 0.95));
        let b = hsv(hue + chance.range(0.15, 0.85), chance.range(0.2, 0.85), chance.range(0.2, 0.9));
        let b = if calm { blend(a, b, 0.3) } else { b };
        let (sin, cos) = super::shape::sin_cos(chance.unit());
        let size = width as f32 * chance.tone(0.06, 0.12);
        Self { kind: chance.below(7), a, b, size, cos: cos as f32, sin: sin as f32, key: chance.bits() }
    }

    /// Its colour at a pixel.
    pub(super) fn at(&self, x: usize, y: usize) -> Colour {
        let (px, py) = (x as f32 / self.size, y as f32 / self.size);
        let (u, v) = (px * self.cos + py * self.sin, py * self.cos - px * self.sin);
        let frac = |t: f32| t - floor(t) as f32;
        // A soft step: patterns are anti-aliased as shapes are.
        let step = |t: f32| (t * self.size * 0.8 + 0.5).clamp(0.0, 1.0);
        let share = match self.kind {
            0 => step((frac(u) - 0.5).abs() - 0.25),
            1 => {
                let (p, q) = (frac(u) - 0.5, frac(v) - 0.5);
                if (p > 0.0) == (q > 0.0) { step(p.abs().min(q.abs())) } else { 1.0 - step(p.abs().min(q.abs())) }
            }
            2 => {
                let (p, q) = (frac(u) - 0.5, frac(v) - 0.5);
                step(0.3 - (p * p + q * q).sqrt())
            }
            3 => {
                // Bricks and mortar.
                let shift = if frac(v * 0.5) < 0.5 { 0.0 } else { 0.5 };
                let (p, q) = (frac(u * 0.5 + shift), frac(v));
                1.0 - step((p - 0.06).min(0.98 - p).min(q - 0.12).min(0.98 - q))
            }
            4 => {
                let bend = lattice_noise(self.key, u * 0.6, v * 0.6) * 2.4;
                step((frac(u + bend) - 0.5).abs() - 0.25)
            }
            5 => step(lattice_noise(self.key, u * 1.6, v * 1.6) - 0.52),
            _ => {
                let (dx, dy) = (u - 3.0, v + 1.0);
                let rings = (dx * dx + dy * dy * 0.15).sqrt() + lattice_noise(self.key, u, v) * 0.7;
                (frac(rings * 1.2) - 0.15).clamp(0.0, 1.0)
            }
        };
        blend(self.a, self.b, share)
    }
}
