//! Decisions from leading directions: however many, of whatever vectors, the answers are f32's and the naive model's, to the bit.

use std::sync::Arc;

use half::f16;
use trommel_kernels::int8::Instructions;

use super::coded::{joiner_on, kernel, vectors};
use super::join::{benchmark, rows, world};
use super::naive::{self, Dice};
use crate::benchmark::Benchmark;
use crate::join::{ColumnSet, JoinRow, Joiner, Needs, Verdict};
use crate::kernel::Kernel;
use trommel_core::sample::{SampleId, Score};

/// Asks some benchmarks for radii and all others for the largest similarity.
struct Asks {
    radii: [bool; 3],
}

impl Verdict for Asks {
    fn keeps(&self, _: &str, _: &str, _: SampleId, scores: &[Score]) -> bool {
        scores.iter().all(|score| score.hits.unwrap_or(0) == 0 && score.max_similarity.is_none_or(|s| s < 0.5))
    }

    fn needs(&self, benchmark: usize) -> Needs {
        Needs { maximum: !self.radii[benchmark], radii: self.radii[benchmark] }
    }
}

fn on_directions(benchmarks: &[Arc<Benchmark>], with: Instructions, width: Option<usize>) -> Joiner {
    let kernel = kernel(benchmarks, Some(with), ColumnSet::Decision).with_directions(width);
    joiner_on(kernel, benchmarks, ColumnSet::Decision)
}

/// A spectrum that falls as those of embeddings do, with much in common, and centres.
fn embedded(dice: &mut Dice, count: usize, dim: usize, centres: &[Vec<f64>]) -> Vec<Vec<f16>> {
    let mut one = || {
        let centre = &centres[dice.below(centres.len())];
        let scale = |at: usize| 1.0 / (1.0 + at as f64 / 8.0);
        let raw: Vec<f64> = (0..dim).map(|at| centre[at] + 0.6 * scale(at) * dice.symmetric()).collect();
        naive::normalised(&raw)
    };
    (0..count).map(|_| one()).collect()
}

fn centres(dice: &mut Dice, count: usize, dim: usize) -> Vec<Vec<f64>> {
    (0..count).map(|_| (0..dim).map(|at| dice.symmetric() / (1.0 + at as f64 / 8.0)).collect()).collect()
}

#[test]
fn decisions_are_the_naive_models() {
    let mut dice = Dice(41);
    for with in Instructions::all() {
        for (dim, width) in [(32, 16), (65, 32), (100, 48), (200, 16)] {
            let (benchmarks, samples) = world(&mut dice, dim, 30, &[70, 64, 130]);
            let rows = rows(&samples, &mut dice, 2);
            let asks = Asks { radii: [true, false, false] };
            let joiner = on_directions(&benchmarks, with, Some(width));
            let seen: Vec<_> = (0..2).map(|ordinal| joiner.points(ordinal)).collect();
            let rows: Vec<JoinRow<'_>> =
                rows.iter().map(|row| JoinRow { points: Some(&seen[row.id.ordinal as usize]), ..*row }).collect();
            for (row, joined) in rows.iter().zip(joiner.join(&rows, &asks).unwrap()) {
                for (at, score) in joined.scores.iter().enumerate() {
                    let full = naive::score(row.vector, &benchmarks[at]);
                    let expected = if asks.radii[at] {
                        Score { max_similarity: None, nearest: None, ..full }
                    } else {
                        Score { margin: None, exceeds: None, hits: None, ..full }
                    };
                    assert_eq!(*score, expected, "dim {dim}, {width}, {with:?}");
                }
            }
            for (ordinal, items) in naive::items(&rows, &vec![true; rows.len()], &benchmarks) {
                let hits = items.into_iter().filter(|item| item.benchmark == 0 && item.hits > 0);
                let hits: Vec<_> = hits.map(|item| (item.point, item.hits)).collect();
                let found = seen[ordinal as usize].rows();
                assert_eq!(found.iter().map(|item| (item.point, item.hits)).collect::<Vec<_>>(), hits);
            }
        }
    }
}

/// Everything that is said of many rows is what f32 says: so many as `TROMMEL_FUZZ_ROWS` has it, 3,000 unless it is set.
#[test]
fn many_rows_are_decided_as_f32_decides() {
    let many = std::env::var("TROMMEL_FUZZ_ROWS").map_or(3000, |text| text.parse().unwrap());
    let mut dice = Dice(42);
    let mut done = 0;
    while done < many {
        let dim = [32, 64, 100, 250, 512, 640][dice.below(6)];
        let count = 1000.min(many - done);
        let mut samples = vectors(&mut dice, count / 2, dim, &[]);
        let centres = centres(&mut dice, 10, dim);
        samples.extend(embedded(&mut dice, count - count / 2, dim, &centres));
        let kin = &samples[count / 2 - count.min(100) / 2..][..count.min(100)];
        let mut points = vectors(&mut dice, 150, dim, kin);
        points.extend(embedded(&mut dice, 150, dim, &centres));
        let order: Vec<usize> = (0..300).map(|at| at * 7 % 300).collect();
        let points: Vec<Vec<f16>> = order.iter().map(|&at| points[at].clone()).collect();
        let near = |dice: &mut Dice, t: &Vec<f16>| naive::cosine(&kin[dice.below(kin.len())], t);
        let radii: Vec<f64> = points.iter().map(|t| near(&mut dice, t) + [0.0, 0.01, 0.3][dice.below(3)]).collect();
        let benchmarks = [
            benchmark("a", dim, &points[..130], Some(radii[..130].to_vec())),
            benchmark("b", dim, &points[130..195], None),
            benchmark("c", dim, &points[195..], Some(radii[195..].to_vec())),
        ];
        for radii in [[true, false, true], [false, false, false], [true, true, true]] {
            let asks = Asks { radii };
            let answers = |joiner: &dyn Fn() -> Joiner| {
                let seen = [0, 1].map(|ordinal| joiner().points(ordinal));
                let id = |at: usize| SampleId { ordinal: (at % 2) as u64, index: at as u32 };
                let row =
                    |(at, vector)| JoinRow { vector, id: id(at), shard: "s", key: "k", points: Some(&seen[at % 2]) };
                let rows: Vec<JoinRow<'_>> = samples.iter().map(|vector| &vector[..]).enumerate().map(row).collect();
                // Each portion by a joiner of its own, which has not found yet that directions do not pay.
                let joined: Vec<_> = rows.chunks(500).flat_map(|rows| joiner().join(rows, &asks).unwrap()).collect();
                (joined, seen.map(|points| points.rows()))
            };
            let single = answers(&|| {
                joiner_on(kernel(&benchmarks, None, ColumnSet::Decision), &benchmarks, ColumnSet::Decision)
            });
            for with in Instructions::all() {
                for width in [Some([16, 32, 80, 256][dice.below(4)]), None] {
                    let joined = answers(&|| on_directions(&benchmarks, with, width));
                    assert!(joined == single, "dim {dim}, {radii:?}, {with:?}, {width:?} after {done} rows");
                }
            }
        }
        done += count;
    }
}

/// Directions are learned where the spectrum falls and little is near, and not where every direction is like every other.
#[test]
fn directions_are_learned_where_they_pay() {
    let (mut dice, dim) = (Dice(43), 256);
    let with = Instructions::all().next().unwrap();
    let centres = centres(&mut dice, 200, dim);
    let falling = (embedded(&mut dice, 3000, dim, &centres), embedded(&mut dice, 64, dim, &centres));
    let even: (Vec<_>, Vec<_>) =
        ((0..3000).map(|_| dice.unit(dim)).collect(), (0..64).map(|_| dice.unit(dim)).collect());
    for ((points, rows), pays) in [(falling, true), (even, false)] {
        for radii in [None, Some(vec![0.9; points.len()])] {
            let asks = Asks { radii: [radii.is_some(); 3] };
            let benchmarks = [benchmark("a", dim, &points, radii)];
            let kernel = kernel(&benchmarks, Some(with), ColumnSet::Decision).with_directions(None);
            let needs = [asks.needs(0)];
            let vectors: Vec<&[f16]> = rows.iter().map(|row| &row[..]).collect();
            assert_eq!(kernel.directions(), None);
            let portion =
                crate::kernel::Portion { vectors: &vectors, groups: std::slice::from_ref(&(0..64)), needs: &needs };
            drop(kernel.multiply(portion).unwrap());
            let learned = kernel.directions().unwrap();
            assert_eq!(learned > 0, pays, "{learned} directions");
            assert!(learned < dim / 2 + 1);
        }
    }
}

/// Where nearly everything is left over, the portions that follow are in all elements' codes; after some of them directions are tried again.
#[test]
fn what_leaves_too_many_over_is_done_in_codes() {
    let mut dice = Dice(44);
    let one = dice.unit(64);
    let points: Vec<Vec<f16>> = (0..3000).map(|_| dice.near(&one, 1e-3)).collect();
    let benchmarks = [benchmark("a", 64, &points, Some(vec![0.5; 3000]))];
    let with = Instructions::all().next().unwrap();
    let (in_codes, asks) =
        (kernel(&benchmarks, Some(with), ColumnSet::Decision).widest_portion_rows(), Asks { radii: [true; 3] });
    let joiner = on_directions(&benchmarks, with, Some(16));
    let rows: Vec<Vec<f16>> = (0..8).map(|_| dice.near(&one, 1e-3)).collect();
    let mut sizes = Vec::new();
    for _ in 0..66 {
        let id = |at: usize| SampleId { ordinal: 0, index: at as u32 };
        let row = |(at, vector)| JoinRow { vector, id: id(at), shard: "s", key: "k", points: None };
        let rows: Vec<JoinRow<'_>> = rows.iter().map(|vector| &vector[..]).enumerate().map(row).collect();
        joiner.join(&rows, &asks).unwrap();
        sizes.push(joiner.most_rows());
    }
    // Codes list too much as well, so that f32 takes over from them.
    assert!(sizes[..63].iter().all(|size| *size <= in_codes), "{sizes:?}");
    assert!(sizes[63] > in_codes && sizes[64] <= in_codes, "{sizes:?}");
}
