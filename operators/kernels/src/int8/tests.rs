//! Values are within the bound, and what is said of them is theirs.

use super::*;
use crate::canonical::round_to_f16;
use crate::dot::{dot, norm};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn noise(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
}

fn unit(raw: &[f64]) -> Vec<f16> {
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
    raw.iter().map(|x| round_to_f16(x / length)).collect()
}

/// Random ones; constant ones; one element alone; outliers in the dimensions that CLIP has them in; mostly denormal ones; copies, neighbours and negatives of
/// those before; and what the turn makes as uneven as can be: rows of the transform itself.
pub(super) fn vectors(count: usize, dim: usize, state: &mut u64) -> Vec<Vec<f16>> {
    let mut all: Vec<Vec<f16>> = Vec::new();
    while all.len() < count {
        let mut raw: Vec<f64> = (0..dim).map(|_| noise(state)).collect();
        let kin = all.get(((noise(state) + 0.5) * all.len() as f64) as usize).cloned();
        match (((noise(state) + 0.5) * 9.0) as u32, kin) {
            (0, _) => raw.fill(if noise(state) > 0.0 { 1.0 } else { -1.0 }),
            (1, _) => {
                let at = ((noise(state) + 0.5) * dim as f64) as usize;
                raw.fill(0.0);
                raw[at.min(dim - 1)] = noise(state).signum();
            }
            (2, _) => {
                raw[dim / 5] = 8.0;
                raw[dim / 2] = -3.0;
            }
            (3, _) => {
                raw.iter_mut().skip(1).for_each(|x| *x *= 1e-6);
                raw[0] = 1.0;
            }
            (4, Some(kin)) => raw = kin.iter().map(|x| x.to_f64()).collect(),
            (5, Some(kin)) => raw = kin.iter().map(|x| -x.to_f64()).collect(),
            (6, Some(kin)) => raw = kin.iter().zip(&raw).map(|(x, y)| x.to_f64() + 1e-4 * y).collect(),
            (7, _) => {
                let mut turned = vec![[0.0f32; LANES]; dim];
                turned[dim / 3][0] = 1.0;
                turned[dim - 1][0] = 0.3;
                Rotation::new(dim).turn(&mut turned);
                raw = turned.iter().map(|lanes| f64::from(lanes[0])).collect();
            }
            _ => (),
        }
        all.push(unit(&raw));
    }
    all
}

/// Rust's interpreter has time for the first two.
const DIMS: &[usize] = if cfg!(miri) { &[32, 33] } else { &[32, 33, 63, 64, 100, 512, 640, 1000, 2048] };

#[test]
fn a_turn_keeps_lengths_and_products_within_its_rounding() {
    let mut state = 1;
    for dim in DIMS.iter().copied().chain([1, 2, 3]) {
        let (rotation, all) = (Rotation::new(dim), vectors(LANES, dim, &mut state));
        let mut turned = vec![[0.0f32; LANES]; dim];
        for (lane, vector) in all.iter().enumerate() {
            turned.iter_mut().zip(vector).for_each(|(element, x)| element[lane] = x.to_f32());
        }
        rotation.turn(&mut turned);
        for (a, x) in all.iter().enumerate() {
            for (b, y) in all.iter().enumerate() {
                let product: f64 = turned.iter().map(|it| f64::from(it[a]) * f64::from(it[b])).sum();
                let bound = rotation.error() * (2.0 + rotation.error()) * norm(x) * norm(y);
                assert!((product - dot(x, y)).abs() <= bound, "dim {dim}: {product} {}", dot(x, y));
            }
        }
    }
}

/// A vector as it is coded among these.
fn one(vector: &[f16], among: &Points, largest: f32) -> Coded {
    let mut one = Coded::default();
    let take = |coded, _: &[i8]| one = coded;
    Coder::default().code(std::iter::once(vector), &among.rotation, among.dim, largest, take);
    one
}

/// Every value is within the bound of the canonical product, whatever multiplies; above, within the pair's own.
#[test]
fn within_the_bound() {
    let mut state = 2;
    for (at, &dim) in DIMS.iter().enumerate() {
        let (points, rows) = ([1, 63, 64, 65, 200][at % 5], [1, 5, 6, 7, 23][(at + 2) % 5]);
        let (t, x) = (vectors(points, dim, &mut state), vectors(rows, dim, &mut state));
        let x: Vec<&[f16]> = x.iter().map(|x| &x[..]).collect();
        let mut seen = BTreeMap::<u8, BTreeSet<Vec<i16>>>::new();
        for with in Instructions::all() {
            let coded = Points::new(&t.concat(), dim, None, with);
            let mut rows = Rows::default();
            rows.code(&x, &coded);
            let bound = rows.error_bound(&coded);
            // Codes of a row have a quarter of the levels there, and those of a point half of them.
            let coarser = if with == Instructions::Avx2 { 3.5 } else { 1.0 };
            let most = coarser * if dim < 600 { 0.2 } else { 0.1 } * (1.0 + dim as f64 / 1000.0);
            assert!(bound < most, "dim {dim}, {with:?}: {bound}");
            let mut scores = Scores::default();
            scores.fill(&mut rows, &coded, false, 1);
            let mut values = Vec::new();
            for (row, x) in x.iter().enumerate() {
                for (point, t) in t.iter().enumerate() {
                    let (v, s) =
                        (f64::from(Scores::value(scores.values(row, point / CHUNK)[point % CHUNK])), dot(x, t));
                    assert!((v - s).abs() <= bound, "dim {dim}, {with:?}: {v} is not {s} within {bound}");
                    // `X.T + E |t| + |X| F` with the largest norms, and `s` is within the pair's own bound of `X.T`.
                    let (row, point) = (&rows.coded[row], one(t, &coded, with.ranges().points));
                    let own = row.error * point.norm + row.length * point.error;
                    let most = own + row.error * coded.norm + rows.length * point.error + 1.1 / UNITS;
                    assert!(v + bound - s <= most, "dim {dim}, {with:?}: {v} is {s} at most, by more than {most}");
                    values.push((v * UNITS) as i16);
                }
            }
            seen.entry(with.ranges().moved).or_default().insert(values);
        }
        // Sums are exact, so that instructions for the same codes differ in the last unit at most.
        for seen in seen.values() {
            let first = seen.first().unwrap();
            assert!(seen.iter().all(|other| other.iter().zip(first).all(|(a, b)| a.abs_diff(*b) <= 1)));
        }
    }
}

/// `y` turned back by the transposed `Q`.
fn turned_back(rotation: &Rotation, y: &[f64]) -> Vec<f64> {
    let mut back = Vec::new();
    for first in (0..y.len()).step_by(LANES) {
        let mut axes = vec![[0.0f32; LANES]; y.len()];
        (first..y.len().min(first + LANES)).for_each(|at| axes[at][at - first] = 1.0);
        rotation.turn(&mut axes);
        let product = |lane: usize| axes.iter().zip(y).map(|(axis, y)| f64::from(axis[lane]) * y).sum::<f64>();
        back.extend((first..y.len().min(first + LANES)).map(|at| product(at - first)));
    }
    back
}

/// A row along what a point's codes lose is off by nearly all that the point may be off.
#[test]
fn the_worst_row_is_within_the_bound_and_near_it() {
    let mut state = 4;
    for dim in [32, 64, 100, 200].into_iter().take(if cfg!(miri) { 1 } else { 4 }) {
        let raw: Vec<f64> = (0..dim).map(|_| noise(&mut state)).collect();
        let t = unit(&raw);
        for with in Instructions::all() {
            let coded = Points::new(&t, dim, None, with);
            let mut turned = vec![[0.0f32; LANES]; dim];
            turned.iter_mut().zip(&t).for_each(|(element, t)| element[0] = t.to_f32());
            coded.rotation.turn(&mut turned);
            let moved = f64::from(with.ranges().moved);
            let code = |at: usize| f64::from(coded.codes.chunk(0).fours[at / 4].0[0][at % 4]) - moved;
            let lost: Vec<f64> =
                (0..dim).map(|at| f64::from(turned[at][0]) - f64::from(coded.steps[0][0]) * code(at)).collect();
            let back = turned_back(&coded.rotation, &lost);
            // Where a row loses more than the point, it may make good for a part.
            let least = if with == Instructions::Avx2 { 0.3 } else { 0.8 };
            for sign in [1.0, -1.0] {
                let x = unit(&back.iter().map(|x| sign * x).collect::<Vec<_>>());
                let mut rows = Rows::default();
                rows.code(&[&x], &coded);
                let (bound, of_the_point) = (rows.error_bound(&coded), rows.length * coded.error);
                let mut scores = Scores::default();
                scores.fill(&mut rows, &coded, false, 1);
                let off = (f64::from(Scores::value(scores.values(0, 0)[0])) - dot(&x, &t)).abs();
                assert!(
                    off <= bound && off > least * of_the_point,
                    "dim {dim}, {with:?}: off by {off}, of {of_the_point} and {bound}"
                );
            }
        }
    }
}

#[test]
fn lists_and_tops_are_those_of_the_values() {
    let mut state = 3;
    let sizes = [(1, 1, 1), (0, 70, 1), (3, 129, 9), (8, 64, 1), (13, 130, 1), (20, 700, 3)];
    for (rows, points, threads) in sizes.into_iter().take(if cfg!(miri) { 3 } else { 6 }) {
        let dim = 40;
        let (t, x) = (vectors(points, dim, &mut state), vectors(rows, dim, &mut state));
        let radii: Vec<f64> = (0..points)
            .map(|at| [2.0, -2.0, noise(&mut state), 0.5][if at % 7 == 0 { at % 2 } else { 2 + at % 2 }])
            .collect();
        let x: Vec<&[f16]> = x.iter().map(|x| &x[..]).collect();
        for with in Instructions::all() {
            let coded = Points::new(&t.concat(), dim, Some(&radii), with);
            let (mut coded_rows, mut scores) = (Rows::default(), Scores::default());
            coded_rows.code(&x, &coded);
            // Another size before: what is reused holds nothing old.
            scores.fill(&mut coded_rows, &Points::new(&t[0], dim, None, with), false, 1);
            scores.fill(&mut coded_rows, &coded, true, threads);
            let value = |row: usize, point: usize| Scores::value(scores.values(row, point / CHUNK)[point % CHUNK]);
            let over = |row: usize, point: usize| value(row, point) - radii[point] as f32;
            let most = |of: &mut dyn Iterator<Item = f32>| of.fold(f32::NEG_INFINITY, f32::max);
            let (tops, over_tops) = (scores.tops(), scores.excess_tops(&coded));
            for row in 0..rows {
                assert_eq!(tops[row].value, most(&mut (0..points).map(|point| value(row, point))));
                assert_eq!(tops[row].value, value(row, tops[row].point as usize));
                let largest = most(&mut (0..points).map(|point| over(row, point)));
                assert!(over_tops[row].value <= largest && over_tops[row].value >= largest - 4.0 / UNITS as f32);
                assert!(over(row, over_tops[row].point as usize) >= largest - 4.0 / UNITS as f32);
                for least in [-3.0, 0.2, tops[row].value, tops[row].value + 0.001, f32::INFINITY] {
                    for excess in [-5.0, -1.0, largest, largest + 0.001, f32::INFINITY] {
                        let chunks: Vec<usize> = scores.chunks_reaching(row, least, excess).map(|(at, _)| at).collect();
                        let reaches = |point: &usize| value(row, *point) >= least || over(row, *point) >= excess;
                        let expected: BTreeSet<usize> =
                            (0..points).filter(reaches).map(|point| point / CHUNK).collect();
                        assert!(expected.iter().all(|chunk| chunks.contains(chunk)));
                        let unit = 1.0 / UNITS as f32;
                        let nearly =
                            |point| value(row, point) >= least - 2.0 * unit || over(row, point) >= excess - 4.0 * unit;
                        let of = |chunk: usize| chunk * CHUNK..points.min((chunk + 1) * CHUNK);
                        assert!(chunks.iter().all(|&chunk| of(chunk).any(nearly)), "{chunks:?}");
                    }
                }
            }
            for wanted in [(0..rows).collect::<Vec<_>>(), (0..rows).step_by(3).collect(), (rows / 2..rows).collect()] {
                if wanted.is_empty() {
                    continue;
                }
                let tops = scores.column_tops(&wanted);
                let expected = |point: usize| most(&mut wanted.iter().map(|&row| value(row, point)));
                assert_eq!(tops, (0..points).map(expected).collect::<Vec<_>>());
                // The largest of half of the rows is at least their median.
                for (point, (low, top)) in scores.low_column_tops(&wanted).into_iter().zip(&tops).enumerate() {
                    let mut values: Vec<f32> = wanted.iter().map(|&row| value(row, point)).collect();
                    values.sort_by(f32::total_cmp);
                    assert!(values.contains(&low) && low >= values[wanted.len().div_ceil(2) - 1] && low <= *top);
                }
                let floor = |point: usize| match point % 5 {
                    0 => f32::INFINITY,
                    1 => f32::NEG_INFINITY,
                    2 => tops[point],
                    3 => tops[point].next_up(),
                    _ => tops[point] - 0.1,
                };
                let floors: Vec<f32> = (0..points).map(floor).collect();
                let mut found = BTreeSet::new();
                scores.columns_reaching(&wanted, &floors, |row, points| {
                    points.iter().for_each(|&point| assert!(found.insert((row, point as usize))));
                });
                let pairs = wanted.iter().flat_map(|&row| (0..points).map(move |point| (row, point)));
                assert_eq!(found, pairs.filter(|&(row, point)| value(row, point) >= floors[point]).collect());
            }
        }
    }
}
