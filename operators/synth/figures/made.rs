//! Things people make: house, car, sailboat, cup, star, clock.

use super::super::canvas::{blend, scaled};
use super::super::random::Stream;
use super::super::shape::{Path, sin_cos};
use super::{Figure, INK, Shade, WHITE, tint, vivid};

pub(super) fn house(chance: &mut Stream) -> Figure {
    let mut f = Figure::standing();
    let walls = [(0.1, 0.25, 0.92), (0.05, 0.45, 0.8), (0.14, 0.5, 0.92), (0.58, 0.25, 0.85), (0.0, 0.05, 0.9)];
    let (hue, saturation, value) = chance.pick(&walls);
    let wall = tint(chance, hue, saturation, value);
    let roof = match chance.below(4) {
        0 => tint(chance, 0.6, 0.35, 0.42),
        1 => tint(chance, 0.07, 0.6, 0.45),
        _ => tint(chance, 0.015, 0.75, 0.7),
    };
    let w = chance.range(0.56, 0.7);
    let eaves = chance.range(-0.12, 0.05);
    let top = chance.range(-0.88, -0.68);
    let side = if chance.chance(0.5) { 1.0 } else { -1.0 };
    f.flat(Path::rect(side * 0.4 - 0.1, top + 0.02, side * 0.4 + 0.1, eaves), tint(chance, 0.03, 0.5, 0.55));
    f.flat(Path::rect(-w, eaves - 0.06, w, 0.82), wall);
    let over = chance.range(0.1, 0.18);
    let shape = if chance.chance(0.3) {
        Path::poly(&[(-w - over, eaves), (-w * 0.55, top + 0.12), (w * 0.55, top + 0.12), (w + over, eaves)])
    } else {
        Path::poly(&[(-w - over, eaves), (chance.range(-0.08, 0.08), top - 0.05), (w + over, eaves)])
    };
    f.flat(shape, roof).lifted = true;
    let door_at = chance.pick(&[-0.3, 0.0, 0.0, 0.3]) * w / 0.6;
    let door = vivid(chance, &[0.0, 0.08, 0.33, 0.6, 0.08]);
    f.flat(Path::rect(door_at - 0.13, 0.3, door_at + 0.13, 0.82), scaled(door, 0.75)).ink = 0.7;
    f.detail(Path::ellipse(door_at + 0.08, 0.58, 0.025, 0.025), [0.95, 0.8, 0.3]);
    let glass = if chance.chance(0.35) { [1.0, 0.88, 0.5] } else { [0.62, 0.8, 0.92] };
    let window = |f: &mut Figure, x: f64, y: f64, half: f64| {
        f.add(Path::rect(x - half, y - half, x + half, y + half), WHITE, Shade::None, 0.7);
        let inner = half * 0.76;
        f.add(Path::rect(x - inner, y - inner, x + inner, y + inner), glass, Shade::Flat, 0.0);
        f.pen(Path::poly(&[(x, y - inner), (x, y + inner)]), 0.035, WHITE);
        f.pen(Path::poly(&[(x - inner, y), (x + inner, y)]), 0.035, WHITE);
    };
    for x in [-0.36 * w / 0.6, 0.0, 0.36 * w / 0.6] {
        if (x - door_at).abs() > 0.26 {
            window(&mut f, x, 0.36, 0.14);
        }
    }
    if chance.chance(0.45) {
        f.add(Path::ellipse(0.0, eaves - 0.26, 0.12, 0.12), WHITE, Shade::None, 0.7);
        f.add(Path::ellipse(0.0, eaves - 0.26, 0.085, 0.085), glass, Shade::Flat, 0.3);
    }
    f
}

pub(super) fn car(chance: &mut Stream) -> Figure {
    let mut f = Figure::standing();
    let paint = vivid(chance, &[0.0, 0.02, 0.58, 0.62, 0.13, 0.36, 0.5, 0.08]);
    let paint = if chance.chance(0.15) { blend(paint, WHITE, 0.8) } else { paint };
    let roof = chance.range(-0.5, -0.38);
    let (front, back) = (chance.range(0.42, 0.56), chance.range(-0.72, -0.58));
    let cabin = Path::from(back, -0.02).quad(back + 0.08, roof, back + 0.34, roof).line(front - 0.38, roof).quad(
        front - 0.16,
        roof,
        front + 0.06,
        -0.02,
    );
    f.flat(cabin, scaled(paint, 0.96));
    let glass = [0.66, 0.82, 0.9];
    let middle = (back + front) / 2.0 - 0.03;
    let left = Path::from(back + 0.11, -0.03)
        .quad(back + 0.16, roof + 0.08, back + 0.34, roof + 0.08)
        .line(middle - 0.035, roof + 0.08)
        .line(middle - 0.035, -0.03);
    f.add(left, glass, Shade::Flat, 0.6);
    let right = Path::from(middle + 0.035, -0.03)
        .line(middle + 0.035, roof + 0.08)
        .line(front - 0.36, roof + 0.08)
        .quad(front - 0.2, roof + 0.08, front - 0.08, -0.03);
    f.add(right, glass, Shade::Flat, 0.6);
    let body = Path::from(-0.96, 0.36)
        .line(-0.96, 0.12)
        .quad(-0.95, -0.04, -0.8, -0.05)
        .line(front + 0.04, -0.05)
        .quad(0.9, 0.0, 0.96, 0.2)
        .line(0.97, 0.36)
        .quad(0.95, 0.42, 0.88, 0.42)
        .line(-0.88, 0.42)
        .quad(-0.96, 0.42, -0.96, 0.36);
    f.flat(body, paint);
    f.pen(Path::poly(&[(middle, 0.0), (middle, 0.36)]), 0.022, scaled(paint, 0.55));
    f.detail(Path::rounded(middle - 0.16, 0.08, middle - 0.06, 0.11, 0.012), scaled(paint, 0.45)).ink = 0.0;
    f.pen(Path::poly(&[(-0.94, 0.3), (0.95, 0.3)]), 0.03, scaled(paint, 0.7));
    f.detail(Path::ellipse(0.87, 0.13, 0.07, 0.06), [1.0, 0.95, 0.7]);
    f.detail(Path::rounded(-0.96, 0.06, -0.86, 0.16, 0.02), [0.85, 0.12, 0.1]);
    let (radius, hub) = (chance.range(0.2, 0.24), tint(chance, 0.6, 0.1, 0.75));
    for x in [-0.52, 0.52] {
        f.round(Path::ellipse(x, 0.42, radius, radius), [0.13, 0.13, 0.15]);
        f.add(Path::ellipse(x, 0.42, radius * 0.55, radius * 0.55), hub, Shade::Round, 0.5);
        f.detail(Path::ellipse(x, 0.42, radius * 0.16, radius * 0.16), [0.3, 0.3, 0.33]).ink = 0.0;
    }
    f
}

pub(super) fn sailboat(chance: &mut Stream) -> Figure {
    let mut f = Figure::standing();
    let hull = vivid(chance, &[0.02, 0.06, 0.6, 0.0, 0.08, 0.45]);
    let sail = if chance.chance(0.55) { WHITE } else { vivid(chance, &[0.0, 0.12, 0.08, 0.55, 0.9]) };
    let second = if chance.chance(0.6) { sail } else { vivid(chance, &[0.0, 0.12, 0.58, 0.33]) };
    let top = chance.range(-0.95, -0.82);
    f.flat(Path::rect(-0.05, top, 0.0, 0.5), [0.42, 0.28, 0.17]).ink = 0.7;
    let reach = chance.range(0.6, 0.78);
    let main = Path::from(0.05, top + 0.08).quad(0.26, -0.3, reach, 0.3).quad(0.36, 0.38, 0.05, 0.36);
    f.flat(main, sail);
    if chance.chance(0.5) {
        let band = Path::poly(&[(0.05, -0.06), (0.05, 0.1), (reach * 0.72, 0.1), (reach * 0.56, -0.06)]);
        f.add(band, vivid(chance, &[0.0, 0.6, 0.12]), Shade::Flat, 0.3);
    }
    let jib = Path::from(-0.1, top + 0.16).quad(-0.3, -0.1, -0.68, 0.34).quad(-0.34, 0.36, -0.1, 0.34);
    f.flat(jib, second);
    let flag = Path::from(-0.02, top).line(0.24, top + 0.07).line(-0.02, top + 0.15);
    f.flat(flag, vivid(chance, &[0.0, 0.12, 0.35, 0.95])).ink = 0.6;
    let body = Path::from(-0.86, 0.48)
        .line(0.9, 0.44)
        .quad(0.78, 0.84, 0.5, 0.88)
        .line(-0.5, 0.88)
        .quad(-0.74, 0.84, -0.86, 0.48);
    f.flat(body, hull).lifted = true;
    f.add(Path::poly(&[(-0.84, 0.53), (0.87, 0.5), (0.84, 0.59), (-0.81, 0.62)]), WHITE, Shade::Flat, 0.3);
    for x in [-0.35, 0.0, 0.35] {
        f.detail(Path::ellipse(x, 0.73, 0.055, 0.055), blend(hull, INK, 0.65));
    }
    f
}

pub(super) fn cup(chance: &mut Stream) -> Figure {
    let mut f = Figure::standing();
    let glaze = match chance.below(4) {
        0 => tint(chance, 0.1, 0.06, 0.93),
        _ => vivid(chance, &[0.0, 0.08, 0.13, 0.36, 0.5, 0.58, 0.8, 0.95]),
    };
    let (rim, foot) = (chance.range(0.5, 0.58), chance.range(0.34, 0.46));
    let (top, bottom) = (chance.range(-0.36, -0.24), chance.range(0.66, 0.8));
    let handle = Path::arc(rim - 0.08, (top + bottom) / 2.0 - 0.06, 0.42, 0.32, -0.27, 0.29);
    f.round(handle.ribbon(chance.range(0.12, 0.16)), scaled(glaze, 0.93));
    f.round(Path::ellipse(-0.05, bottom + 0.01, 0.78, 0.14), blend(glaze, WHITE, 0.45));
    let body = Path::from(-rim, top)
        .line(rim, top)
        .cubic((rim, top + 0.5), (foot + 0.08, bottom - 0.1), (foot, bottom))
        .quad(0.0, bottom + 0.12, -foot, bottom)
        .cubic((-foot - 0.08, bottom - 0.1), (-rim, top + 0.5), (-rim, top));
    f.round(body, glaze).lifted = true;
    let mark = if chance.chance(0.5) { WHITE } else { vivid(chance, &[0.0, 0.12, 0.55, 0.33, 0.9]) };
    match chance.below(3) {
        0 => {
            let band = Path::from(-rim + 0.015, top + 0.24)
                .quad(0.0, top + 0.36, rim - 0.015, top + 0.24)
                .line(rim - 0.04, top + 0.42)
                .quad(0.0, top + 0.56, -rim + 0.04, top + 0.42);
            f.add(band, mark, Shade::Round, 0.3);
        }
        1 => {
            for (x, y) in [(-0.26, 0.1), (0.05, 0.2), (0.3, 0.05), (-0.08, 0.45), (0.2, 0.46)] {
                f.add(Path::ellipse(x, y, 0.075, 0.08), mark, Shade::Round, 0.3);
            }
        }
        _ => {}
    }
    f.round(Path::ellipse(0.0, top, rim, 0.14), blend(glaze, WHITE, 0.35));
    let drink = chance.pick(&[[0.32, 0.18, 0.1], [0.55, 0.33, 0.16], [0.62, 0.28, 0.1]]);
    f.add(Path::ellipse(0.0, top + 0.02, rim * 0.86, 0.1), drink, Shade::Flat, 0.6);
    if chance.chance(0.75) {
        for x in [-0.22, 0.02, 0.24] {
            let lift = chance.range(-0.04, 0.04);
            let steam = Path::from(x, top - 0.12 + lift).cubic(
                (x - 0.14, top - 0.26),
                (x + 0.14, top - 0.34),
                (x, top - 0.5 + lift),
            );
            f.pen(steam, 0.055, [0.93, 0.93, 0.95]);
        }
    }
    f
}

pub(super) fn star(chance: &mut Stream) -> Figure {
    let mut f = Figure::default();
    let hue = chance.pick(&[0.13, 0.13, 0.12, 0.14, 0.0, 0.57, 0.9]);
    let colour = tint(chance, hue, 0.75, 0.93);
    let points = chance.pick(&[5usize, 5, 5, 5, 6]);
    let inner = chance.range(0.38, 0.48);
    let corner = |i: usize, grow: f64| {
        let (s, c) = sin_cos(i as f64 / (2 * points) as f64 - 0.25);
        let r = if i.is_multiple_of(2) { 0.95 } else { 0.95 * inner } * grow;
        (c * r, s * r)
    };
    let outline: Vec<_> = (0..2 * points).map(|i| corner(i, 1.0)).collect();
    f.flat(Path::poly(&outline), colour);
    if chance.chance(0.6) {
        for i in 0..2 * points {
            let face = Path::poly(&[(0.0, 0.0), corner(i, 1.0), corner(i + 1, 1.0)]);
            let k = if i.is_multiple_of(2) { 1.0 } else { 0.72 };
            f.add(face, scaled(colour, k), Shade::Flat, 0.35);
        }
    } else {
        let light: Vec<_> = (0..2 * points).map(|i| corner(i, 0.72)).collect();
        f.add(Path::poly(&light), blend(colour, WHITE, 0.35), Shade::Flat, 0.4);
        for x in [-0.13, 0.13] {
            f.detail(Path::ellipse(x, -0.06, 0.045, 0.075), INK);
        }
        f.pen(Path::from(-0.14, 0.12).quad(0.0, 0.26, 0.14, 0.12), 0.05, INK);
    }
    f
}

pub(super) fn clock(chance: &mut Stream) -> Figure {
    let mut f = Figure::standing();
    let rim = vivid(chance, &[0.0, 0.07, 0.12, 0.5, 0.6, 0.36, 0.02]);
    let rim = if chance.chance(0.25) { [0.3, 0.3, 0.34] } else { rim };
    let alarm = chance.chance(0.5);
    if alarm {
        for x in [-1.0, 1.0] {
            f.flat(
                Path::poly(&[(x * 0.42, 0.55), (x * 0.62, 0.95), (x * 0.74, 0.92), (x * 0.6, 0.5)]),
                scaled(rim, 0.8),
            );
            f.round(Path::turned_ellipse(x * 0.46, -0.72, 0.27, 0.16, x * 0.1), [0.85, 0.75, 0.45]);
        }
        f.flat(Path::rect(-0.05, -0.95, 0.05, -0.7), [0.4, 0.4, 0.42]).ink = 0.6;
    }
    let face = if chance.chance(0.8) { WHITE } else { [0.98, 0.93, 0.8] };
    f.round(Path::ellipse(0.0, 0.03, 0.8, 0.8), rim);
    f.add(Path::ellipse(0.0, 0.03, 0.65, 0.65), face, Shade::Flat, 0.7);
    for hour in 0..12 {
        let (s, c) = sin_cos(f64::from(hour) / 12.0);
        let (from, width) = if hour % 3 == 0 { (0.46, 0.06) } else { (0.52, 0.035) };
        f.pen(Path::poly(&[(c * from, s * from + 0.03), (c * 0.59, s * 0.59 + 0.03)]), width, INK);
    }
    let minutes = chance.unit();
    let hours = (chance.below(12) as f64 + minutes) / 12.0;
    for (turns, length, width) in [(hours, 0.32, 0.085), (minutes, 0.5, 0.055)] {
        let (s, c) = sin_cos(turns - 0.25);
        f.pen(Path::poly(&[(-c * 0.06, -s * 0.06 + 0.03), (c * length, s * length + 0.03)]), width, INK);
    }
    f.detail(Path::ellipse(0.0, 0.03, 0.06, 0.06), [0.8, 0.15, 0.12]).ink = 0.0;
    f
}
