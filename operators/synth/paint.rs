//! One thing in four renditions: photo-like, sketch, cartoon, texture-changed.

use super::canvas::{Canvas, Colour, Mask, blend, hsv, luma, scaled};
use super::figures::{FigurePart, Shade, figure};
use trommel_core::hash::mix;

use super::random::{Stream, floor, lattice_noise};
use super::scene::{self, Pattern};
use super::shape::{Affine, P, sin_cos};
use super::{Class, Picture, Rendition};

/// A part where it lies in the picture, in pixels.
struct Placed<'a> {
    part: &'a FigurePart,
    points: Vec<P>,
    mask: Mask,
    /// Centre and half size of the part's box, pixels.
    centre: (f32, f32),
    half: (f32, f32),
}

/// Draws one picture; the same arguments give the same pixels on every machine.
pub(super) fn draw(class: Class, rendition: Rendition, seed: u64, width: usize, height: usize) -> Picture {
    let mut chance = Stream::of(&[seed, class as u64, rendition as u64]);
    let figure = figure(class, &mut chance);
    let (w, h) = (width as f64, height as f64);
    let size = w.min(h);
    let scale = size / 2.0 * chance.range(0.66, 0.9);
    let flip = if chance.chance(0.5) { -1.0 } else { 1.0 };
    let turns = if figure.stands { chance.range(-0.014, 0.014) } else { chance.range(-0.045, 0.045) };
    let room = (w / 2.0 - scale * 0.92, h / 2.0 - scale * 0.92);
    let at = (
        w / 2.0 + room.0.max(size * 0.03) * chance.range(-0.8, 0.8),
        h / 2.0 + room.1.max(size * 0.03) * chance.range(-0.6, 0.8),
    );
    let stretch = chance.range(0.93, 1.07);
    let place = Affine::place(scale * stretch * flip, scale / stretch, turns, at);
    let pen_scale = place.scale();
    let placed: Vec<Placed<'_>> = figure
        .parts
        .iter()
        .map(|part| {
            let points: Vec<P> = part.path.points.iter().map(|&p| place.at(p)).collect();
            let mask = match part.pen {
                Some(pen) => Mask::stroke(&points, false, (pen * pen_scale).max(0.8), width, height),
                None => Mask::fill(std::slice::from_ref(&points), width, height),
            };
            let (x0, y0, mw, mh) = (mask.x0 as f32, mask.y0 as f32, mask.width as f32, mask.height as f32);
            let half = ((mw / 2.0).max(0.5), (mh / 2.0).max(0.5));
            Placed { part, points, mask, centre: (x0 + half.0, y0 + half.1), half }
        })
        .collect();
    let mut canvas = Canvas::new(width, height, [1.0; 3]);
    match rendition {
        Rendition::Photo => photo(&mut canvas, class, &placed, figure.stands, pen_scale, &mut chance),
        Rendition::Sketch => sketch(&mut canvas, &placed, size, &mut chance),
        Rendition::Cartoon => cartoon(&mut canvas, &placed, size, &mut chance),
        Rendition::Texture => texture(&mut canvas, &placed, size, &mut chance),
    }
    Picture { width: width as u32, height: height as u32, pixels: canvas.to_bytes() }
}

fn silhouette(placed: &[Placed<'_>], canvas: &Canvas) -> Mask {
    let mut all = Mask::empty(canvas.width, canvas.height);
    placed.iter().for_each(|p| all.join(&p.mask));
    all
}

/// Light from above, from the left or the right.
struct Light {
    x: f32,
    y: f32,
    z: f32,
    hard: f32,
}

impl Light {
    fn on(&self, p: &Placed<'_>, x: usize, y: usize, colour: Colour) -> Colour {
        let (u, v) = ((x as f32 - p.centre.0) / p.half.0, (y as f32 - p.centre.1) / p.half.1);
        match p.part.shade {
            Shade::None => colour,
            Shade::Flat => scaled(colour, 0.98 + self.hard * 0.28 * (u * self.x + v * self.y)),
            Shade::Round => {
                let z = (1.0 - 0.8 * (u * u + v * v)).max(0.05).sqrt();
                let facing = (u * self.x + v * self.y + z * self.z).max(0.0);
                let lit = scaled(colour, 0.52 + 0.62 * facing);
                let shine = (facing - 0.86).max(0.0) * 7.0 * self.hard;
                blend(lit, [1.0, 1.0, 0.98], (shine * shine * 0.7).min(0.7))
            }
        }
    }
}

fn photo(canvas: &mut Canvas, class: Class, placed: &[Placed<'_>], stands: bool, scale: f64, chance: &mut Stream) {
    let (w, h) = (canvas.width, canvas.height);
    scene::photo(canvas, class, chance);
    // The scene lies out of focus behind the thing.
    let depth = chance.tone(0.2, 1.0);
    canvas.soften(depth);
    if chance.chance(0.5) {
        canvas.soften(1.0);
    }
    let left = chance.chance(0.5);
    let light = Light { x: if left { -0.45 } else { 0.45 }, y: -0.55, z: 0.7, hard: chance.tone(0.6, 1.1) };
    let all = silhouette(placed, canvas);
    let reach = ((scale * 0.07) as usize).max(1);
    let away = (scale * 0.1) as i64;
    if stands {
        // Where it stands.
        let low = placed.iter().map(|p| p.mask.y0 + p.mask.height).max().unwrap_or(0) as f64;
        let (x0, x1) = placed
            .iter()
            .filter(|p| (p.mask.y0 + p.mask.height) as f64 > low - scale * 0.2)
            .fold((w as f64, 0.0f64), |(x0, x1), p| {
                (x0.min(p.mask.x0 as f64), x1.max((p.mask.x0 + p.mask.width) as f64))
            });
        let (middle, half) = ((x0 + x1) / 2.0, (x1 - x0).max(scale * 0.3) * 0.62);
        let pool = super::shape::Path::ellipse(middle - f64::from(light.x) * scale * 0.2, low, half, scale * 0.1);
        let mut foot = Mask::empty(w, h);
        foot.join(&Mask::fill(&[pool.points], w, h));
        canvas.darken(&foot.blurred(reach), 0.6, 0, 0);
    }
    let cast = all.blurred(reach);
    canvas.darken(&cast, 0.4, if left { away } else { -away }, away * 2 / 3);
    let fabric = chance.bits();
    let rough = chance.tone(0.04, 0.13);
    for p in placed {
        if p.part.lifted {
            let drop = ((scale * 0.035) as i64).max(1);
            canvas.darken(&p.mask, 0.28, if left { drop } else { -drop }, drop);
        }
        let plain = p.part.shade == Shade::None;
        canvas.paint(&p.mask, 1.0, |x, y| {
            let lit = light.on(p, x, y, p.part.colour);
            if plain {
                return lit;
            }
            scaled(lit, 1.0 + rough * (lattice_noise(fabric, x as f32 * 0.45, y as f32 * 0.45) - 0.5))
        });
    }
    let blur = chance.tone(0.0, 0.7);
    canvas.soften(blur);
    develop(canvas, chance);
}

/// Exposure, white balance, vignetting and sensor noise.
fn develop(canvas: &mut Canvas, chance: &mut Stream) {
    let exposure = chance.tone(0.88, 1.1);
    let warm = chance.tone(-0.06, 0.06);
    let gain = [exposure * (1.0 + warm), exposure, exposure * (1.0 - warm)];
    let (w, h) = (canvas.width as f32, canvas.height as f32);
    let fall = chance.tone(0.0, 0.32) * 2.0 / (w * w + h * h);
    let noise = chance.tone(0.004, 0.024);
    let key = chance.bits();
    let width = canvas.width;
    canvas.each(|x, y, c| {
        let (dx, dy) = (x as f32 - w / 2.0, y as f32 - h / 2.0);
        let dark = 1.0 - fall * 2.0 * (dx * dx + dy * dy);
        let bits = mix(key.wrapping_add((y * width + x) as u64));
        let part = |shift: u32| ((bits >> shift) & 0xfff) as f32 * (1.0 / 2048.0) - 1.0;
        let (luma, colour) = (part(0) + part(12), [part(24), part(36), part(48)]);
        [0, 1, 2].map(|i| c[i] * gain[i] * dark + noise * (luma + 0.5 * colour[i]))
    });
}

/// The line as a hand draws it: points every few pixels, shaken by smooth noise.
fn by_hand(points: &[P], closed: bool, shake: f64, key: u64) -> Vec<P> {
    let mut out = Vec::with_capacity(points.len() * 2);
    let n = points.len();
    let count = if closed { n } else { n.saturating_sub(1) };
    let mut run = 0.0;
    for i in 0..count {
        let (a, b) = (points[i], points[(i + 1) % n]);
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length = (dx * dx + dy * dy).sqrt();
        let steps = (length / 5.0) as usize + 1;
        for step in 0..steps {
            let t = step as f64 / steps as f64;
            let along = ((run + t * length) / 9.0) as f32;
            let (nx, ny) = (lattice_noise(key, along, 0.5), lattice_noise(key, along, 7.5));
            out.push((a.0 + dx * t + shake * (f64::from(nx) - 0.5), a.1 + dy * t + shake * (f64::from(ny) - 0.5)));
        }
        run += length;
    }
    if !closed {
        out.extend(points.last());
    }
    out
}

fn sketch(canvas: &mut Canvas, placed: &[Placed<'_>], size: f64, chance: &mut Stream) {
    let (w, h) = (canvas.width, canvas.height);
    let paper: Colour = match chance.below(6) {
        0 => [0.93, 0.89, 0.79],
        1 => [0.86, 0.86, 0.85],
        2 => [0.78, 0.68, 0.54],
        _ => [0.975, 0.97, 0.955],
    };
    let ink: Colour = match chance.below(6) {
        0 => [0.13, 0.18, 0.45],
        1 => [0.42, 0.22, 0.14],
        2 => [0.05, 0.05, 0.06],
        _ => [0.24, 0.24, 0.26],
    };
    canvas.pixels.fill(paper);
    let fibre = chance.bits();
    canvas.each(|x, y, c| scaled(c, 1.0 + 0.05 * (lattice_noise(fibre, x as f32 * 0.8, y as f32 * 0.8) - 0.5)));
    match chance.below(6) {
        0 => {
            let step = (size * 0.1) as usize;
            canvas.each(|_, y, c| if y % step == step / 2 { blend(c, [0.6, 0.7, 0.85], 0.5) } else { c });
        }
        1 => {
            let step = (size * 0.085) as usize;
            canvas.each(|x, y, c| if y % step == 2 || x % step == 2 { blend(c, [0.6, 0.75, 0.85], 0.35) } else { c });
        }
        _ => {}
    }
    let pen = (size * chance.range(0.011, 0.019)).max(0.9);
    let shake = size * chance.range(0.012, 0.03);
    let twice = chance.chance(0.6);
    let hatch = chance.chance(0.75);
    let step = (size * chance.range(0.03, 0.045)).max(2.5) as f32;
    let (hs, hc) = sin_cos(chance.range(0.08, 0.17));
    for p in placed {
        let main = p.part.ink > 0.0 || p.part.pen.is_some();
        if p.part.pen.is_none() {
            if p.part.ink > 0.0 {
                canvas.flat(&p.mask, 0.93, paper);
            }
            let dark = 1.0 - luma(p.part.colour);
            if dark > 0.75 && p.half.0 < size as f32 * 0.1 {
                canvas.flat(&p.mask, 0.85, ink);
            } else if hatch && dark > 0.3 && p.part.ink > 0.0 {
                let (shift, strength) = (chance.tone(0.0, 9.0), ((dark - 0.2) * 0.95).min(0.6));
                let thin = if dark > 0.6 { 0.5 } else { 0.32 };
                for (y, row) in p.mask.rows() {
                    for (x, cover) in row.iter().enumerate() {
                        let across = (x + p.mask.x0) as f32 * hc as f32 + y as f32 * hs as f32 + shift;
                        let t = across / step;
                        let line = ((thin - (t - floor(t) as f32 - 0.5).abs() * 1.6) * step).clamp(0.0, 1.0);
                        let pixel = &mut canvas.pixels[y * w + x + p.mask.x0];
                        *pixel = blend(*pixel, ink, line * strength * cover);
                    }
                }
            }
        }
        if !main {
            continue;
        }
        let width = pen * (0.65 + 0.45 * p.part.ink);
        for again in 0..if twice && p.part.ink > 0.6 { 2 } else { 1 } {
            let line = by_hand(&p.points, p.part.pen.is_none(), shake * (1.0 + f64::from(again)), chance.bits());
            let mask = Mask::stroke(&line, p.part.pen.is_none(), width, w, h);
            let pressure = chance.tone(0.75, 0.95) * if again == 0 { 1.0 } else { 0.45 };
            canvas.flat(&mask, pressure, ink);
        }
    }
    let lead = chance.bits();
    canvas.each(|x, y, c| {
        let k = (mix(lead.wrapping_add((y * w + x) as u64)) >> 40) as f32 * (1.0 / 16_777_216.0);
        blend(c, paper, (k - 0.4).max(0.0) * 0.22)
    });
}

fn cartoon(canvas: &mut Canvas, placed: &[Placed<'_>], size: f64, chance: &mut Stream) {
    let (w, h) = (canvas.width, canvas.height);
    scene::cartoon(canvas, chance);
    let outline: Colour = chance.pick(&[[0.07, 0.06, 0.1], [0.07, 0.06, 0.1], [0.16, 0.08, 0.2], [0.2, 0.1, 0.06]]);
    let pen = size * chance.range(0.024, 0.04);
    let shift = (size * 0.035) as usize + 1;
    let from_left = chance.chance(0.5);
    // A band of outline round everything, then part by part.
    for p in placed.iter().filter(|p| p.part.pen.is_none() && p.part.ink > 0.65) {
        canvas.flat(&Mask::stroke(&p.points, true, pen * 1.9, w, h), 1.0, outline);
    }
    for p in placed {
        let top = p.part.colour.iter().fold(0.0f32, |a, b| a.max(*b));
        let grey = luma(p.part.colour);
        let vivid = p.part.colour.map(|v| ((grey + (v - grey) * 1.25) * (0.55 / top.max(0.3) + 0.45)).clamp(0.0, 1.0));
        canvas.flat(&p.mask, 1.0, if top < 0.25 { outline } else { vivid });
        if p.part.shade != Shade::None && p.half.0 > size as f32 * 0.08 {
            // The side away from the light in one darker tone.
            let mask = &p.mask;
            let (dx, dy) = (shift.min(mask.width), shift.min(mask.height));
            let mut dark = mask.clone();
            for y in 0..mask.height {
                for x in 0..mask.width {
                    let sx = if from_left { (x + dx < mask.width).then(|| x + dx) } else { x.checked_sub(dx) };
                    let lit = match sx {
                        Some(sx) if y + dy < mask.height => mask.cover[(y + dy) * mask.width + sx],
                        _ => 0.0,
                    };
                    let at = y * mask.width + x;
                    dark.cover[at] = (mask.cover[at] - lit).max(0.0);
                }
            }
            canvas.darken(&dark, 0.24, 0, 0);
        }
        if p.part.pen.is_none() && p.part.ink > 0.0 {
            let small = f64::from(p.half.0.min(p.half.1)) * 0.5;
            let width = (pen * (0.4 + 0.6 * p.part.ink)).min(small).max(0.8);
            canvas.flat(&Mask::stroke(&p.points, true, width, w, h), 1.0, outline);
        }
    }
}

fn texture(canvas: &mut Canvas, placed: &[Placed<'_>], size: f64, chance: &mut Stream) {
    let (w, h) = (canvas.width, canvas.height);
    let back = Pattern::of(chance, w, true);
    let tone = chance.tone(0.55, 1.15);
    canvas.each(|x, y, _| scaled(back.at(x, y), tone));
    canvas.soften(1.0);
    let all = silhouette(placed, canvas);
    canvas.darken(&all.blurred(((size * 0.035) as usize).max(1)), 0.55, 1, 2);
    let fill = [Pattern::of(chance, w, false), Pattern::of(chance, w, false)];
    let edge = hsv(chance.unit(), 0.4, 0.14);
    for (i, p) in placed.iter().enumerate() {
        let grey = luma(p.part.colour);
        // The first texture clothes the thing; small parts keep their own brightness, so that they can be made out.
        let which = usize::from(i % 3 == 2 && p.part.ink >= 1.0);
        let small = p.half.0 * p.half.1 < (size * size) as f32 * 0.008 || p.part.pen.is_some();
        let k = 0.55 + 0.75 * grey;
        canvas.paint(&p.mask, 1.0, |x, y| {
            let cloth = scaled(fill[which].at(x, y), k);
            if small { blend(cloth, [grey; 3], 0.75) } else { cloth }
        });
        if p.part.pen.is_none() && p.part.ink > 0.0 {
            canvas.flat(&Mask::stroke(&p.points, true, (size * 0.012).max(0.8), w, h), 0.75 * p.part.ink as f32, edge);
        }
    }
    let blur = chance.tone(0.0, 0.5);
    canvas.soften(blur);
    develop(canvas, chance);
}
