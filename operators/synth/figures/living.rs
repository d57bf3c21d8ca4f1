//! Living things (a clown is one): tree, fish, flower, clown, butterfly, mushroom.

use super::super::canvas::{blend, scaled};
use super::super::random::Stream;
use super::super::shape::{Path, sin_cos};
use super::{Figure, INK, Shade, WHITE, tint, vivid};

pub(super) fn tree(chance: &mut Stream) -> Figure {
    let mut f = Figure::standing();
    let bark = tint(chance, 0.075, 0.55, 0.42);
    let hue = chance.pick(&[0.3, 0.33, 0.27, 0.25, 0.3, 0.08, 0.13]);
    let leaf = tint(chance, hue, 0.65, 0.58);
    let trunk = Path::from(-0.11, 0.1).quad(-0.1, 0.7, -0.22, 0.94).line(0.22, 0.94).quad(0.1, 0.7, 0.11, 0.1);
    f.round(trunk, bark);
    if chance.chance(0.45) {
        // A conifer: tiers, the lowest first.
        let tiers = 3 + chance.below(2);
        for i in 0..tiers {
            let t = i as f64 / tiers as f64;
            let (top, bottom) = (-0.46 - 0.5 * t + 0.06, 0.62 - 0.92 * t);
            let half = 0.72 - 0.42 * t + chance.range(-0.03, 0.03);
            let tier = Path::from(0.0, top - 0.05)
                .quad(half * 0.35, bottom - 0.2, half, bottom)
                .quad(0.0, bottom + 0.14, -half, bottom)
                .quad(-half * 0.35, bottom - 0.2, 0.0, top - 0.05);
            f.flat(tier, scaled(leaf, 0.82 + 0.2 * t as f32)).lifted = true;
        }
    } else {
        let puffs = [
            (-0.42, -0.02, 0.4),
            (0.42, -0.02, 0.4),
            (0.0, 0.02, 0.42),
            (-0.28, -0.42, 0.4),
            (0.3, -0.42, 0.38),
            (0.0, -0.52, 0.4),
        ];
        for (i, (x, y, r)) in puffs.into_iter().enumerate() {
            let (x, y) = (x + chance.range(-0.05, 0.05), y + chance.range(-0.05, 0.05));
            let r = r * chance.range(0.92, 1.08);
            f.round(Path::ellipse(x, y, r, r * 0.92), scaled(leaf, 0.88 + 0.04 * i as f32));
        }
        if chance.chance(0.4) {
            let fruit = vivid(chance, &[0.0, 0.05, 0.12]);
            for (x, y) in [(-0.4, 0.05), (0.36, 0.1), (0.02, -0.2), (-0.3, -0.4), (0.4, -0.36), (0.05, -0.66)] {
                f.add(Path::ellipse(x + chance.range(-0.06, 0.06), y, 0.075, 0.075), fruit, Shade::Round, 0.5);
            }
        }
    }
    f
}

pub(super) fn fish(chance: &mut Stream) -> Figure {
    let mut f = Figure::default();
    let scale = vivid(chance, &[0.06, 0.1, 0.04, 0.56, 0.6, 0.5, 0.95, 0.14]);
    let fin = if chance.chance(0.5) { scaled(scale, 0.8) } else { vivid(chance, &[0.0, 0.08, 0.13, 0.55, 0.8]) };
    let fat = chance.range(0.4, 0.54);
    let tail =
        Path::from(-0.5, 0.0).quad(-0.72, -0.1, -0.97, -0.42).quad(-0.82, 0.0, -0.97, 0.42).quad(-0.72, 0.1, -0.5, 0.0);
    f.flat(tail, fin);
    let back = Path::from(-0.3, -fat * 0.7).quad(-0.1, -fat - 0.32, 0.34, -fat - 0.2).quad(0.3, -fat, 0.36, -fat * 0.6);
    f.flat(back, fin);
    let belly = Path::from(-0.1, fat * 0.8).quad(-0.16, fat + 0.16, -0.02, fat + 0.22).quad(0.14, fat, 0.2, fat * 0.8);
    f.flat(belly, fin);
    let body = Path::from(0.92, 0.02).cubic((0.72, -fat - 0.06), (-0.1, -fat * 1.5), (-0.66, -0.02)).cubic(
        (-0.1, fat * 1.5),
        (0.72, fat + 0.06),
        (0.92, 0.02),
    );
    f.round(body, scale).lifted = true;
    match chance.below(3) {
        0 => {
            for (x, half) in [(0.22, 0.88), (-0.08, 0.8), (-0.34, 0.5)] {
                let h = fat * half;
                let band = Path::from(x - 0.05, -h).quad(x + 0.1, 0.0, x - 0.05, h).line(x + 0.05, h).quad(
                    x + 0.2,
                    0.0,
                    x + 0.05,
                    -h,
                );
                f.add(band, WHITE, Shade::Round, 0.3);
            }
        }
        1 => {
            for (x, y) in [(0.2, -0.16), (0.2, 0.16), (-0.02, 0.0), (-0.2, -0.18), (-0.2, 0.18), (-0.4, 0.0)] {
                f.pen(Path::arc(x - 0.08, y, 0.09, 0.11, -0.2, 0.2), 0.035, scaled(scale, 0.6));
            }
        }
        _ => {}
    }
    f.pen(Path::arc(0.36, 0.0, 0.11, fat * 0.58, -0.24, 0.24), 0.04, scaled(scale, 0.55));
    f.add(Path::turned_ellipse(0.16, 0.14, 0.17, 0.09, 0.08), fin, Shade::Flat, 0.5);
    f.add(Path::ellipse(0.64, -0.1, 0.105, 0.105), WHITE, Shade::None, 0.7);
    f.detail(Path::ellipse(0.66, -0.1, 0.055, 0.055), INK);
    f.pen(Path::from(0.9, 0.08).quad(0.8, 0.16, 0.74, 0.13), 0.035, scaled(scale, 0.45));
    f
}

pub(super) fn flower(chance: &mut Stream) -> Figure {
    let mut f = Figure::standing();
    let green = tint(chance, 0.31, 0.7, 0.5);
    let petal = vivid(chance, &[0.0, 0.93, 0.88, 0.78, 0.13, 0.06, 0.62]);
    let petal = if chance.chance(0.2) { blend(petal, WHITE, 0.85) } else { petal };
    let (cy, lean) = (-0.34, chance.range(-0.12, 0.12));
    f.flat(Path::from(0.0, cy).quad(lean * 2.0, 0.4, lean, 0.98).ribbon(0.085), green);
    for side in [-1.0, 1.0] {
        let at = (lean * 0.9, chance.range(0.5, 0.68));
        let leaf = Path::from(0.0, 0.0).quad(0.18, -0.24, 0.5, -0.2).quad(0.36, 0.08, 0.0, 0.0);
        let leaf = if side < 0.0 { leaf.mirrored() } else { leaf };
        f.flat(leaf.moved(0.0, at), tint(chance, 0.32, 0.7, 0.55));
    }
    let count = 5 + chance.below(4);
    let turn = chance.unit();
    let width = 0.98 / count as f64 + 0.03;
    for i in 0..count {
        let turns = turn + i as f64 / count as f64;
        let (s, c) = sin_cos(turns);
        f.round(Path::turned_ellipse(c * 0.36, cy + s * 0.36, 0.26, width, turns), petal).lifted = true;
    }
    let middle = if chance.chance(0.7) { tint(chance, 0.13, 0.8, 0.92) } else { tint(chance, 0.07, 0.7, 0.42) };
    f.round(Path::ellipse(0.0, cy, 0.2, 0.2), middle).lifted = true;
    for (x, y) in [(-0.07, -0.06), (0.07, -0.05), (0.0, 0.06), (0.1, 0.07), (-0.1, 0.05)] {
        f.detail(Path::ellipse(x, cy + y, 0.024, 0.024), scaled(middle, 0.65)).ink = 0.0;
    }
    f
}

pub(super) fn clown(chance: &mut Stream) -> Figure {
    let mut f = Figure::default();
    let hair = vivid(chance, &[0.03, 0.06, 0.33, 0.6, 0.8, 0.0]);
    let hat = vivid(chance, &[0.13, 0.58, 0.33, 0.8, 0.93]);
    let skin = chance.pick(&[[0.97, 0.86, 0.76], [0.93, 0.76, 0.62], [0.98, 0.94, 0.9], [0.62, 0.43, 0.32]]);
    for side in [-1.0, 1.0] {
        for (x, y, r) in [(0.66, -0.16, 0.24), (0.78, 0.1, 0.23), (0.64, 0.3, 0.2)] {
            f.round(Path::ellipse(side * (x + chance.range(-0.03, 0.03)), y, r, r), hair);
        }
    }
    let bow = vivid(chance, &[0.0, 0.6, 0.13, 0.85]);
    let knot =
        Path::from(0.0, 0.82).line(0.44, 0.64).line(0.44, 1.0).line(0.0, 0.82).line(-0.44, 1.0).line(-0.44, 0.64);
    f.round(Path::ellipse(0.0, 0.12, 0.62, 0.66), skin);
    f.flat(knot, bow).lifted = true;
    f.add(Path::ellipse(0.0, 0.82, 0.09, 0.1), scaled(bow, 0.8), Shade::Round, 0.6);
    f.flat(Path::from(-0.36, -0.4).line(0.03, -0.98).line(0.36, -0.4).quad(0.0, -0.28, -0.36, -0.4), hat).lifted = true;
    f.add(Path::ellipse(0.03, -0.93, 0.1, 0.1), WHITE, Shade::Round, 0.8);
    f.add(Path::ellipse(-0.04, -0.52, 0.065, 0.065), WHITE, Shade::None, 0.4);
    for side in [-1.0, 1.0] {
        f.add(Path::ellipse(side * 0.24, -0.08, 0.15, 0.2), WHITE, Shade::None, 0.6);
        f.detail(Path::ellipse(side * 0.22, -0.05, 0.065, 0.085), INK);
        f.add(Path::ellipse(side * 0.4, 0.26, 0.1, 0.08), [0.96, 0.6, 0.58], Shade::None, 0.0);
        f.pen(Path::arc(side * 0.24, -0.24, 0.14, 0.1, -0.42, -0.08), 0.045, INK);
    }
    let smile = chance.range(0.2, 0.3);
    let mouth = Path::from(-0.36, 0.34).quad(0.0, 0.46, 0.36, 0.34).quad(0.2, 0.4 + smile, 0.0, 0.4 + smile).quad(
        -0.2,
        0.4 + smile,
        -0.36,
        0.34,
    );
    f.add(mouth, WHITE, Shade::None, 0.8);
    let lips = Path::from(-0.26, 0.4).quad(0.0, 0.5, 0.26, 0.4).quad(0.0, 0.42 + smile, -0.26, 0.4);
    f.add(lips, [0.82, 0.12, 0.14], Shade::None, 0.3);
    let nose = chance.range(0.13, 0.17);
    f.round(Path::ellipse(0.0, 0.17, nose, nose), [0.9, 0.13, 0.12]).lifted = true;
    f
}

pub(super) fn butterfly(chance: &mut Stream) -> Figure {
    let mut f = Figure::default();
    let wing = vivid(chance, &[0.08, 0.58, 0.13, 0.8, 0.93, 0.5, 0.05]);
    let second = if chance.chance(0.5) { scaled(wing, 0.8) } else { vivid(chance, &[0.08, 0.6, 0.13, 0.9, 0.0]) };
    let spot = if chance.chance(0.6) { WHITE } else { vivid(chance, &[0.13, 0.0, 0.6]) };
    let (tip, low) = (chance.range(-0.9, -0.72), chance.range(0.7, 0.88));
    let upper = Path::from(0.04, -0.12).cubic((0.2, tip - 0.05), (0.95, tip - 0.1), (0.92, -0.36)).cubic(
        (0.9, -0.02),
        (0.4, 0.14),
        (0.04, 0.06),
    );
    let lower = Path::from(0.04, 0.0).cubic((0.5, 0.02), (0.86, 0.2), (0.7, low - 0.18)).cubic(
        (0.58, low + 0.1),
        (0.24, low),
        (0.04, 0.22),
    );
    let inner = Path::from(0.12, -0.16).cubic((0.26, tip + 0.22), (0.72, tip + 0.12), (0.72, -0.36)).cubic(
        (0.7, -0.14),
        (0.4, 0.0),
        (0.12, -0.02),
    );
    for side in [false, true] {
        let turn = |path: &Path| if side { path.mirrored() } else { path.clone() };
        f.flat(turn(&lower), second);
        f.flat(turn(&upper), scaled(wing, 0.62));
        f.add(turn(&inner), wing, Shade::Flat, 0.3);
        for (x, y, r) in [(0.5, -0.42, 0.1), (0.46, 0.36, 0.12), (0.8, -0.42, 0.05), (0.68, -0.64, 0.05)] {
            f.add(turn(&Path::ellipse(x, y, r, r)), spot, Shade::None, 0.4);
        }
        f.pen(turn(&Path::from(0.02, -0.4).quad(0.06, -0.7, 0.26, -0.82)), 0.035, INK);
        f.detail(turn(&Path::ellipse(0.27, -0.83, 0.035, 0.035)), INK).ink = 0.0;
    }
    f.round(Path::ellipse(0.0, 0.08, 0.075, 0.46), [0.2, 0.15, 0.13]);
    f.round(Path::ellipse(0.0, -0.38, 0.085, 0.09), [0.2, 0.15, 0.13]);
    f
}

pub(super) fn mushroom(chance: &mut Stream) -> Figure {
    let mut f = Figure::standing();
    let hue = chance.pick(&[0.0, 0.0, 0.01, 0.07, 0.09, 0.78]);
    let cap = tint(chance, hue, 0.8, 0.78);
    let stem = tint(chance, 0.11, 0.12, 0.92);
    let (wide, rim, top) = (chance.range(0.72, 0.9), chance.range(0.0, 0.12), chance.range(-0.92, -0.7));
    let foot = chance.range(0.24, 0.34);
    let stalk = Path::from(-0.19, rim)
        .cubic((-0.2, 0.5), (-foot, 0.6), (-foot - 0.02, 0.86))
        .quad(0.0, 1.0, foot + 0.02, 0.86)
        .cubic((foot, 0.6), (0.2, 0.5), (0.19, rim));
    f.round(stalk, stem);
    f.add(Path::ellipse(0.0, rim, wide * 0.93, 0.17), blend(stem, [0.5, 0.38, 0.25], 0.45), Shade::Flat, 0.8);
    let dome = Path::from(-wide, rim)
        .cubic((-wide, top + 0.12), (-wide * 0.45, top - 0.08), (0.0, top - 0.08))
        .cubic((wide * 0.45, top - 0.08), (wide, top + 0.12), (wide, rim))
        .quad(wide * 0.5, rim + 0.13, 0.0, rim + 0.1)
        .quad(-wide * 0.5, rim + 0.13, -wide, rim);
    f.round(dome, cap).lifted = true;
    if chance.chance(0.85) {
        for (x, y, r) in
            [(-0.36, -0.3, 0.12), (0.1, -0.54, 0.13), (0.42, -0.22, 0.12), (0.02, -0.14, 0.1), (-0.6, -0.06, 0.08)]
        {
            let (x, y) = (x + chance.range(-0.05, 0.05), y + chance.range(-0.04, 0.04));
            f.add(Path::ellipse(x, y, r, r * 0.85), WHITE, Shade::Round, 0.4);
        }
    }
    if chance.chance(0.5) {
        f.add(Path::ellipse(0.0, rim + 0.24, 0.25, 0.06), blend(stem, WHITE, 0.5), Shade::Flat, 0.5);
    }
    f
}
