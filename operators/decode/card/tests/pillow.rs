//! JPEGs of every sampling and many shapes: RGB and views beside Pillow's.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use trommel_core::hash::Hash64;

use super::super::lane::Lane;
use super::super::plan::Prepared;
use super::stand_in::{Planes, StandIn, encode};
use super::{ANY, ROOM};
use crate::sample_views::{DecodeConfig, Of};
use crate::view::{EvalView, Placement, ResizeMode, TrainView, sample_seed};

/// Sides that meet every edge of a block, and lines of one pixel.
const SIDES: [usize; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 47, 130];

/// Pictures of a round: each two sides with each sampling.
const OF_ROUND: usize = SIDES.len() * SIDES.len() * 6;

/// Waves, an edge, noise.
pub fn photo(width: usize, height: usize, seed: u64) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(width * height * 3);
    for at in 0..width * height * 3 {
        let (x, y, c) = (at / 3 % width, at / 3 / width, at % 3);
        let wave = 100.0 * ((x as f64) / (3.0 + c as f64 * 2.0) + y as f64 / 5.0 + seed as f64).sin();
        let noise = (Hash64::new("noise").word(seed).word(at as u64).finish() >> 58) as f64;
        rgb.push((127.0 + wave + if x > y { 60.0 } else { -60.0 } + noise).clamp(0.0, 255.0) as u8);
    }
    rgb
}

struct Line {
    picture: Prepared,
    size: (u32, u32),
    trains: bool,
}

/// Writes pictures and what is asked of them; grows, shrinks, and does both at once.
fn write_all(out: &Path) -> Vec<Line> {
    let (mut lines, mut list) = (Vec::new(), String::new());
    let mut number = 0u64;
    for &width in SIDES.iter().cycle().take(SIDES.len() * rounds()) {
        for &height in &SIDES {
            for sampling in 0..6 {
                number += 1;
                let random = |what: u64, below: u64| Hash64::new("card").word(number).word(what).finish() % below;
                let jpeg = encode(
                    &photo(width, height, number),
                    width,
                    height,
                    sampling,
                    [40, 75, 92, 100][random(0, 4) as usize],
                );
                let name = format!("{number}.jpg");
                std::fs::write(out.join(&name), &jpeg).unwrap();
                let size = [1, 3, 8, 24, 60][random(1, 5) as usize];
                let mode = if random(2, 2) == 0 { ResizeMode::Shortest } else { ResizeMode::Squash };
                let trains = random(3, 2) == 0;
                let eval = (!trains).then_some(EvalView { size, mode });
                let train = trains.then_some(TrainView { size, scale: (0.3, 1.0), seed: number, labelled: false });
                let config = DecodeConfig { eval, train, ..Default::default() };
                let picture = Prepared::new(&Bytes::from(jpeg), &config, Of { key: &name, pass: 3, ..ANY });
                let picture = picture.unwrap_or_else(|why| panic!("{width} x {height}, sampling {sampling}: {why:?}"));
                let (w, h) = (width as u32, height as u32);
                let placement = match (eval, train) {
                    (Some(view), _) => Placement::of_eval(w, h, &view),
                    (_, Some(view)) => Placement::of_train(w, h, &view, sample_seed(&name), 3),
                    _ => unreachable!(),
                };
                let edges = |it: trommel_kernels::resize::Window| {
                    format!("{}\t{}\t{}\t{}", it.left, it.top, it.left + it.width, it.top + it.height)
                };
                let (area, window, to) = (edges(placement.area), edges(placement.window), placement.to);
                writeln!(list, "{name}\t{area}\t{}\t{}\t{window}", to.0, to.1).unwrap();
                lines.push(Line { picture, size: (w, h), trains });
            }
        }
    }
    std::fs::write(out.join("list.tsv"), list).unwrap();
    lines
}

/// Rounds of all sizes and samplings, each with pictures of its own: as many as give `TROMMEL_FUZZ_JPEGS` pictures, one unless it is set.
fn rounds() -> usize {
    let wanted = std::env::var("TROMMEL_FUZZ_JPEGS").map_or(0, |text| text.parse().unwrap());
    usize::div_ceil(wanted, OF_ROUND).max(1)
}

#[test]
fn the_kernels_give_pillows_pixels() {
    let Some(python) = crate::skipped::peer("Pillow") else { return };
    let out = tempfile::tempdir().unwrap();
    let lines = write_all(out.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/card.py");
    let output = Command::new(python).arg(script).arg(out.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |number: usize, end: &str| std::fs::read(out.path().join(format!("{number}.{end}"))).unwrap();
    let mut lane = Lane::new(StandIn::new(ROOM, Planes::Turbo));
    for (number, line) in lines.iter().enumerate() {
        let seen = lane.look_at(&line.picture).unwrap().unwrap();
        let what = || format!("{} of {:?}", line.picture.sampling().name(), line.size);
        assert!(seen == read(number, "rgb"), "{}", what());
    }
    for (first, group) in lines.chunks(100).enumerate().map(|(at, group)| (at * 100, group)) {
        let pictures: Vec<&Prepared> = group.iter().map(|line| &line.picture).collect();
        for ((at, line), views) in group.iter().enumerate().zip(lane.views(&pictures)) {
            let views = views.unwrap();
            let view = if line.trains { views.train } else { views.embed };
            let what = || format!("view of {} of {:?}", line.picture.sampling().name(), line.size);
            assert!(view.unwrap() == read(first + at, "view"), "{}", what());
        }
    }
    assert_eq!(lines.len(), OF_ROUND * rounds());
}
