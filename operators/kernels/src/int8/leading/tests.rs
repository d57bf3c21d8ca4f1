//! Values lie within their bound of canonical products, and what reaches is listed, whatever directions were learned.

use super::super::tests::{noise, vectors};
use super::lanes::{largest_of_plain, reaching_plain};
use super::*;
use crate::dot::dot;

fn directions(t: &[Vec<f16>], dim: usize, width: usize) -> Arc<Directions> {
    let wide: Vec<f32> = t.iter().flatten().map(|x| x.to_f32()).collect();
    Arc::new(Directions::of(&wide, dim, width).first(width).unwrap())
}

/// Learned from the points themselves, from one vector, and from vectors that have nothing to do with them.
#[test]
fn values_are_within_the_bound_and_lists_are_whole() {
    let mut state = 7;
    let sizes =
        [(32, 16, 1, 1, 1), (33, 32, 65, 7, 1), (64, 64, 130, 25, 2), (100, 48, 64, 50, 1), (640, 128, 200, 13, 3)];
    for (dim, width, points, rows, threads) in sizes.into_iter().take(if cfg!(miri) { 1 } else { 5 }) {
        let (t, x) = (vectors(points, dim, &mut state), vectors(rows, dim, &mut state));
        let others = vectors(40, dim, &mut state);
        let x: Vec<&[f16]> = x.iter().map(|x| &x[..]).collect();
        let radii: Vec<f64> = (0..points).map(|at| [2.0, -2.0, noise(&mut state), 0.5][at % 4]).collect();
        for learned in [&t[..], &t[..1], &others[..]] {
            let directions = directions(learned, dim, width);
            for (with, less) in Instructions::all().flat_map(|with| [(with, None), (with, Some(&radii[..]))]) {
                let coded = LeadingPoints::new(&t.concat(), &directions, less, with);
                let (mut coded_rows, mut ceilings) = (LeadingRows::default(), Ceilings::default());
                // Others before: what is reused holds nothing old.
                coded_rows.code(&x[..1], &coded);
                ceilings.fill(&coded_rows, &coded, 1);
                coded_rows.code(&x, &coded);
                ceilings.fill(&coded_rows, &coded, threads);
                let bound = ceilings.error_bound();
                let of = |point: usize| less.map_or(0.0, |less| less[point]);
                let mut all = vec![vec![f64::NAN; points]; rows];
                ceilings.reaching(&coded_rows, &coded, &vec![f32::NEG_INFINITY; rows], |row, listed| {
                    listed.iter().for_each(|&(point, v)| all[row][point as usize] = f64::from(v));
                });
                for (row, x) in x.iter().enumerate() {
                    for (point, t) in t.iter().enumerate() {
                        let (v, s) = (all[row][point], dot(x, t));
                        assert!((v - s).abs() <= bound, "dim {dim}, {width}, {with:?}: {v} is not {s} within {bound}");
                    }
                }
                let tops = ceilings.tops(&coded_rows, &coded);
                for least in [-2.0, -0.3, 0.0, 0.4, 1.0, 5.0] {
                    let mut found = vec![vec![false; points]; rows];
                    ceilings.reaching(&coded_rows, &coded, &vec![least; rows], |row, listed| {
                        for &(point, v) in listed {
                            assert_eq!(f64::from(v), all[row][point as usize]);
                            found[row][point as usize] = true;
                        }
                    });
                    for row in 0..rows {
                        let above = |point: usize| all[row][point] - of(point) >= f64::from(least);
                        assert!(
                            (0..points).all(|point| found[row][point] || !above(point)),
                            "all that reach are listed"
                        );
                        let far = |point: usize| all[row][point] - of(point) < f64::from(least) - 1e-4;
                        assert!(
                            (0..points).all(|point| !found[row][point] || !far(point)),
                            "and none that is far below"
                        );
                        let most = (0..points).map(|point| all[row][point] - of(point)).fold(f64::MIN, f64::max);
                        let (value, point) = (f64::from(tops[row].value), tops[row].point as usize);
                        assert!(value <= most && value >= most - 1e-4, "{value} of {most}");
                        assert!(all[row][point] - of(point) >= most - 1e-4);
                    }
                }
            }
        }
    }
}

/// A row and a point that are one outside of all directions: nothing of their product is seen, and the rests allow for all of it, and not for much more.
#[test]
fn the_rests_allow_for_what_no_direction_sees() {
    let dim = 64;
    let axis = |at: usize| -> Vec<f16> { (0..dim).map(|k| if k == at { f16::ONE } else { f16::ZERO }).collect() };
    let seen: Vec<Vec<f16>> = (0..16).map(axis).collect();
    let directions = directions(&seen, dim, 16);
    for with in Instructions::all() {
        let coded = LeadingPoints::new(&[axis(40), axis(41), axis(3)].concat(), &directions, None, with);
        let (mut rows, mut ceilings) = (LeadingRows::default(), Ceilings::default());
        rows.code(&[&axis(40)], &coded);
        ceilings.fill(&rows, &coded, 1);
        let mut ceilings_seen = Vec::new();
        ceilings.reaching(&rows, &coded, &[f32::NEG_INFINITY], |_, listed| ceilings_seen.extend_from_slice(listed));
        let ceiling = |at: usize| f64::from(ceilings_seen[at].1) + ceilings.error_bound();
        assert!(ceiling(0) >= 1.0 && ceiling(0) < 1.1 && ceiling(1) >= 0.0, "{ceilings_seen:?}");
        assert!(ceiling(2) < 0.2, "what lies in the directions has no rest: {ceilings_seen:?}");
    }
}

#[test]
fn masks_are_those_of_the_plain_loop() {
    let mut state = 8;
    for _ in 0..100 {
        let values = std::array::from_fn(|_| {
            let any = noise(&mut state) as f32;
            [f32::NEG_INFINITY, f32::INFINITY, any, 0.1, 0.1f32.next_down()][(state >> 40) as usize % 5]
        });
        assert_eq!(reaching(&values, 0.1), reaching_plain(&values, 0.1));
    }
}

/// Every processor's form says the same, to the bit.
#[test]
fn largest_ones_are_those_of_the_plain_loop() {
    let mut state = 9;
    let mut number = || noise(&mut state) as f32;
    for rows in [1, 5, 24] {
        let sums: Vec<Sums> = (0..rows).map(|_| Sums(std::array::from_fn(|_| (number() * 1e6) as i32))).collect();
        let terms: Vec<RowTerms> = (0..rows).map(|_| RowTerms { scale: number() * 1e-3, rest: number() }).collect();
        let mut lanes = || std::array::from_fn(|_| number());
        let points = PointTerms { steps: lanes(), rests: lanes(), errors: lanes(), less: lanes() };
        let added = lanes();
        let all = |of: &dyn Fn(&mut [f32])| {
            let mut out = vec![0.0; rows];
            of(&mut out);
            out
        };
        let plain = all(&|out| largest_of_plain(&sums, &terms, &points, &added, out));
        assert_eq!(all(&|out| largest_of(&sums, &terms, &points, &added, out)), plain);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just seen.
            assert_eq!(all(&|out| unsafe { x86::largest_of_256(&sums, &terms, &points, &added, out) }), plain);
        }
        let mut values = [0.0; CHUNK];
        all_of(&sums[0], &terms[0], &points, &added, 0.0, &mut values);
        assert_eq!(values.into_iter().fold(f32::NEG_INFINITY, f32::max), plain[0]);
    }
}
