//! Products in 8-bit codes: by whatever instructions, the answers are the naive model's, and f32's, to the bit.

use std::sync::Arc;

use half::f16;
use trommel_kernels::int8::Instructions;

use super::join::{Near, benchmark, check_with, rows, world};
use super::naive::{self, Dice};
use crate::benchmark::Benchmark;
use crate::cpu::Cpu;
use crate::join::{ColumnSet, JoinConfig, JoinRow, Joiner};
use crate::radii::Radii;
use crate::scan::Prepared;
use trommel_core::sample::SampleId;
use trommel_kernels::canonical::UNIT_TOLERANCE;
use trommel_kernels::dot::norm;

pub(super) fn kernel(benchmarks: &[Arc<Benchmark>], with: Option<Instructions>, columns: ColumnSet) -> Cpu {
    let prepared = benchmarks.iter().map(|benchmark| Prepared::new(benchmark)).collect();
    let config = JoinConfig { columns, ..JoinConfig::default() };
    Cpu::new(benchmarks.to_vec(), prepared, config).with_codes(with)
}

pub(super) fn joiner_on(kernel: Cpu, benchmarks: &[Arc<Benchmark>], columns: ColumnSet) -> Joiner {
    let config = JoinConfig { columns, ..JoinConfig::default() };
    Joiner::new(benchmarks.to_vec(), config).unwrap().with_kernel(Box::new(kernel))
}

fn joiner(benchmarks: &[Arc<Benchmark>], with: Option<Instructions>, columns: ColumnSet) -> Joiner {
    joiner_on(kernel(benchmarks, with, columns), benchmarks, columns)
}

/// Vectors as embeddings have them and as nobody would: around few centres with much in common; with outliers in two dimensions; along one axis;
/// all elements equal; all but one denormal.
pub(super) fn vectors(dice: &mut Dice, count: usize, dim: usize, kin: &[Vec<f16>]) -> Vec<Vec<f16>> {
    let mut all = dice.family(count, dim, kin);
    for vector in &mut all {
        let mut raw: Vec<f64> = vector.iter().map(|x| x.to_f64()).collect();
        match dice.below(9) {
            0 => raw.fill(-1.0),
            1 => raw.iter_mut().enumerate().for_each(|(at, x)| *x = if at == dim / 2 { 1.0 } else { *x * 1e-6 }),
            2 | 3 => {
                raw[dim / 7] += 0.9;
                raw[dim / 3] -= 0.5;
            }
            4 => raw.iter_mut().skip(1).for_each(|x| *x = 0.0),
            // As far from 1 as norms may be, nearly.
            5 => {
                let scale = [0.9992, 1.0008][dice.below(2)];
                let scaled: Vec<f16> = raw.iter().map(|x| f16::from_f64(x * scale)).collect();
                if (norm(&scaled) - 1.0).abs() <= UNIT_TOLERANCE {
                    *vector = scaled;
                }
                continue;
            }
            _ => continue,
        }
        if raw.iter().any(|x| x.abs() > 1e-3) {
            *vector = naive::normalised(&raw);
        }
    }
    all
}

#[test]
fn whatever_multiplies_the_answers_are_the_naive_models() {
    let mut dice = Dice(31);
    for with in Instructions::all() {
        for (dim, samples, sizes) in
            [(32, 40, vec![1, 65, 30]), (65, 30, vec![130]), (100, 25, vec![64, 3, 70]), (512, 12, vec![80])]
        {
            let (benchmarks, samples) = world(&mut dice, dim, samples, &sizes);
            let rows = rows(&samples, &mut dice, 3);
            for batch in [1, 7, 64] {
                check_with(&joiner(&benchmarks, Some(with), ColumnSet::All), &benchmarks, &rows, &mut dice, batch);
            }
        }
    }
}

/// Radii beyond every cosine, radii that are a cosine, and vectors that codes suit badly.
#[test]
fn odd_vectors_and_radii() {
    let mut dice = Dice(32);
    for with in Instructions::all() {
        for dim in [32, 96, 333] {
            let samples = vectors(&mut dice, 30, dim, &[]);
            let points = vectors(&mut dice, 100, dim, &samples);
            let radius = |dice: &mut Dice, t: &Vec<f16>| match dice.below(6) {
                0 => 2.0,
                1 => -2.0,
                2 => naive::cosine(&samples[dice.below(30)], t).next_down(),
                3 => 0.0,
                _ => naive::cosine(&samples[dice.below(30)], t),
            };
            let radii = points.iter().map(|t| radius(&mut dice, t)).collect();
            let all_out_of_reach = benchmark("c", dim, &points[..40], Some(vec![2.0; 40]));
            let benchmarks =
                [benchmark("a", dim, &points, Some(radii)), benchmark("b", dim, &points[..70], None), all_out_of_reach];
            let rows = rows(&samples, &mut dice, 2);
            check_with(&joiner(&benchmarks, Some(with), ColumnSet::All), &benchmarks, &rows, &mut dice, 30);
        }
    }
}

/// Everything that is said of many rows is what f32 says: so many as `TROMMEL_FUZZ_ROWS` has it, 3,000 unless it is set.
#[test]
fn many_rows_are_answered_as_f32_answers() {
    let many = std::env::var("TROMMEL_FUZZ_ROWS").map_or(3000, |text| text.parse().unwrap());
    let mut dice = Dice(33);
    let mut done = 0;
    while done < many {
        let dim = [32, 64, 100, 250, 512, 640][dice.below(6)];
        let count = 1000.min(many - done);
        let samples = vectors(&mut dice, count, dim, &[]);
        let kin = &samples[..count.min(200)];
        let points = vectors(&mut dice, 300, dim, kin);
        let near = |dice: &mut Dice, t: &Vec<f16>| naive::cosine(&kin[dice.below(kin.len())], t);
        let radii = points[..230].iter().map(|t| near(&mut dice, t) + [0.0, 0.01, 0.3][dice.below(3)]).collect();
        let benchmarks = [benchmark("a", dim, &points[..230], Some(radii)), benchmark("b", dim, &points[230..], None)];
        for columns in [ColumnSet::All, ColumnSet::Decision] {
            let answers = |with: Option<Instructions>| {
                let seen = [0, 1].map(|ordinal| joiner(&benchmarks, None, columns).points(ordinal));
                let row = |(at, vector): (usize, &Vec<f16>)| {
                    let id = SampleId { ordinal: (at % 2) as u64, index: at as u32 };
                    (id, vector.clone())
                };
                let given: Vec<(SampleId, Vec<f16>)> = samples.iter().enumerate().map(row).collect();
                let rows: Vec<JoinRow<'_>> = given
                    .iter()
                    .map(|(id, vector)| JoinRow {
                        vector,
                        id: *id,
                        shard: "s",
                        key: "k",
                        points: Some(&seen[id.ordinal as usize]),
                    })
                    .collect();
                // Each portion by a joiner of its own, which has not found yet that codes do not pay.
                let join = |rows| joiner(&benchmarks, with, columns).join(rows, &Near).unwrap();
                let joined: Vec<_> = rows.chunks(400).flat_map(join).collect();
                (joined, seen.map(|points| points.rows()))
            };
            let single = answers(None);
            for with in Instructions::all() {
                assert!(answers(Some(with)) == single, "dim {dim}, {columns:?}, {with:?} after {done} rows");
            }
        }
        done += count;
    }
}

/// Where nearly everything is listed, the portions that follow are in f32; after some of them codes are tried again.
#[test]
fn what_lists_too_much_is_done_in_f32() {
    let mut dice = Dice(34);
    let one = dice.unit(64);
    let points: Vec<Vec<f16>> = (0..3000).map(|_| dice.near(&one, 1e-3)).collect();
    let benchmarks = [benchmark("a", 64, &points, None)];
    let with = Instructions::all().next();
    let kernel = kernel(&benchmarks, with, ColumnSet::All);
    let in_codes = kernel.widest_portion_rows();
    let rows: Vec<Vec<f16>> = (0..8).map(|_| dice.near(&one, 1e-3)).collect();
    let joiner = joiner_on(kernel, &benchmarks, ColumnSet::All);
    let mut sizes = Vec::new();
    for _ in 0..66 {
        let row = |(at, vector)| JoinRow {
            vector,
            id: SampleId { ordinal: 0, index: at as u32 },
            shard: "s",
            key: "k",
            points: None,
        };
        let rows: Vec<JoinRow<'_>> = rows.iter().map(|vector| &vector[..]).enumerate().map(row).collect();
        joiner.join(&rows, &()).unwrap();
        sizes.push(joiner.most_rows());
    }
    assert!(sizes[..63].iter().all(|size| *size < in_codes), "{sizes:?}");
    assert!(sizes[63] == in_codes && sizes[64] < in_codes, "{sizes:?}");
}

/// Radii and whose they are by every way of multiplying; references come several portions of them, copies among them, of which the first has the radius.
fn check_radii(reference: &[Vec<f16>], points: &[Vec<f16>]) {
    let benchmark = benchmark("b", points[0].len(), points, None);
    let of = |point: &Vec<f16>| {
        let all = reference.iter().map(|x| naive::cosine(x, point)).zip(0u64..);
        all.fold((f64::NEG_INFINITY, 0), |best, one| if one.0 > best.0 { one } else { best })
    };
    let (expected, nearest): (Vec<f64>, Vec<u64>) = points.iter().map(of).unzip();
    for with in Instructions::all().map(Some).chain([None]) {
        let mut radii = Radii::new(&benchmark, 1).with_codes(with);
        reference.iter().for_each(|x| radii.push(x).unwrap());
        let outcome = radii.finish().unwrap();
        assert!(outcome.radii == expected && outcome.nearest == nearest, "{with:?}, dim {}", benchmark.dim);
    }
}

#[test]
fn radii_are_the_naive_models_whatever_multiplies() {
    let mut dice = Dice(35);
    for (dim, references, points) in [(32, 1200, 70), (65, 700, 129), (100, 150, 64), (512, 60, 66), (640, 30, 5)] {
        let mut reference = vectors(&mut dice, references, dim, &[]);
        reference.extend_from_within(..references / 3);
        let kin = &reference[references / 2..][..20];
        check_radii(&reference, &vectors(&mut dice, points, dim, kin));
    }
}

/// Every reference is near every point: codes list nearly all, and f32 takes over.
#[test]
fn radii_where_everything_is_near() {
    let mut dice = Dice(36);
    let one = dice.unit(40);
    let mut near = |count: usize| -> Vec<Vec<f16>> { (0..count).map(|_| dice.near(&one, 1e-3)).collect() };
    let (reference, points) = (near(1500), near(66));
    check_radii(&reference, &points);
}
