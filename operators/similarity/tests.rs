//! The kernel's answers are the processor's and the naive model's, to the bit: whatever its values are within their bound, and
//! however little it takes at once.

use std::sync::Arc;

use half::f16;
use tch::{Device, Tensor};
use trommel_core::sample::{SampleId, Score};
use trommel_decide::benchmark::Benchmark;
use trommel_decide::join::{ColumnSet, JoinConfig, JoinRow, Joined, Joiner, Needs, Verdict};
use trommel_decide::kernel::Kernel;
use trommel_decide::points::Points;

use crate::kernel::{DeviceKernel, Format};
use crate::points::Limits;
use naive::Dice;

#[path = "../decide/tests/naive.rs"]
#[allow(dead_code)]
mod naive;

/// Puts other values in the place of the products: canonical ones, moved by up to `bound`.
#[derive(Debug)]
pub(crate) struct Skew {
    benchmarks: Vec<Arc<Benchmark>>,
    bound: f64,
    /// 0: all down, 1: all up, 2: each its own way, 3: each by any part of the bound.
    way: u32,
}

impl Skew {
    pub(crate) fn apply(&self, at: usize, vectors: &[&[f16]], products: &Tensor) {
        let (benchmark, mut dice) = (&self.benchmarks[at], Dice(at as u64 + vectors.len() as u64));
        let mut value = |x: &[f16], point: usize| {
            naive::off_by_the_bound(naive::cosine(x, benchmark.vector(point)), self.bound, self.way, &mut dice)
        };
        let points = benchmark.points();
        let values: Vec<f32> =
            vectors.iter().flat_map(|x| (0..points).map(|at| value(x, at)).collect::<Vec<_>>()).collect();
        let values = Tensor::from_slice(&values).reshape([vectors.len() as i64, points as i64]);
        products.narrow(1, 0, points as i64).copy_(&values);
    }
}

/// The paper's rule over all benchmarks that have radii.
struct Near;

impl Verdict for Near {
    fn keeps(&self, _: &str, _: &str, _: SampleId, scores: &[Score]) -> bool {
        scores.iter().all(|score| score.hits.unwrap_or(0) == 0)
    }

    fn needs(&self, _: usize) -> Needs {
        Needs { maximum: false, radii: true }
    }
}

/// Keeps about half of them.
struct Half;

impl Verdict for Half {
    fn keeps(&self, _: &str, _: &str, id: SampleId, _: &[Score]) -> bool {
        id.index.is_multiple_of(2)
    }
}

fn benchmark(name: &str, dim: usize, vectors: &[Vec<f16>], radii: Option<Vec<f64>>) -> Arc<Benchmark> {
    Arc::new(Benchmark::new(name, dim, vectors.concat(), vec![], vec![], radii, None).unwrap())
}

/// Benchmarks over vectors related to the samples. Radii lie on a sample's similarity, a step or a bound beside it, low enough for many
/// hits, or out of reach; the third benchmark has none.
fn world(dice: &mut Dice, dim: usize, samples: usize, sizes: &[usize]) -> (Vec<Arc<Benchmark>>, Vec<Vec<f16>>) {
    let samples = dice.family(samples, dim, &[]);
    let bound = dim as f64 / f64::from(1 << 22);
    let benchmarks = sizes.iter().enumerate().map(|(at, &points)| {
        let vectors = dice.family(points, dim, &samples);
        let radius = |t: &Vec<f16>| {
            let s = naive::cosine(&samples[dice.below(samples.len())], t);
            match dice.below(7) {
                0 => s,
                1 => s.next_up(),
                2 => s.next_down(),
                3 => s + bound,
                4 => s - bound,
                5 => samples.iter().map(|x| naive::cosine(x, t)).fold(-2.0, f64::max),
                _ => dice.symmetric(),
            }
        };
        let radii: Vec<f64> = vectors.iter().map(radius).collect();
        benchmark(&format!("b{at}"), dim, &vectors, (at % 3 != 2).then_some(radii))
    });
    (benchmarks.collect(), samples)
}

/// What a joiner says of the samples, which are of three shards, in batches on so many threads; and what the points saw.
fn answers(
    joiner: &Joiner,
    samples: &[Vec<f16>],
    verdict: &dyn Verdict,
    batch: usize,
    threads: usize,
) -> (Vec<Joined>, Vec<Vec<trommel_core::sample::PointRow>>) {
    let seen: Vec<Points> = (0..3).map(|ordinal| joiner.points(ordinal)).collect();
    let row = |(at, vector): (usize, &Vec<f16>)| {
        // Shards change within a batch.
        let id = SampleId { ordinal: (at as u64 / 3) % 3, index: at as u32 };
        let points = Some(&seen[id.ordinal as usize]);
        (vector.clone(), id, points)
    };
    let owned: Vec<_> = samples.iter().enumerate().map(row).collect();
    let rows: Vec<JoinRow<'_>> = owned
        .iter()
        .map(|(vector, id, points)| JoinRow { vector, id: *id, shard: "s", key: "k", points: *points })
        .collect();
    let batches: Vec<&[JoinRow<'_>]> = rows.chunks(batch).collect();
    let part = |thread: usize| {
        let mine = batches.iter().enumerate().skip(thread).step_by(threads);
        mine.map(|(at, rows)| (at, joiner.join(rows, verdict).unwrap())).collect::<Vec<_>>()
    };
    let part = &part;
    let mut joined: Vec<(usize, Vec<Joined>)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    joined.sort_by_key(|(at, _)| *at);
    let joined = joined.into_iter().flat_map(|(_, joined)| joined).collect();
    (joined, seen.iter().map(Points::rows).collect())
}

const TINY: Limits = Limits { block_bytes: 4 * 64 * 8 * 5, rows: 16, slab: 100, table_bytes: 4 * 64 };
const SMALL: Limits = Limits { block_bytes: 1 << 20, rows: 64, slab: 1 << 12, table_bytes: 1 << 12 };
const LARGE: Limits = Limits { block_bytes: 256 << 20, rows: 1024, slab: 1 << 22, table_bytes: 64 << 20 };

fn kernel(benchmarks: &[Arc<Benchmark>], limits: Limits) -> DeviceKernel {
    DeviceKernel::with(Device::Cpu, Format::Single, limits, benchmarks).unwrap()
}

/// Compares the kernel with the processor, and with the naive model, for both verdicts and both sets of columns.
fn check(
    benchmarks: &[Arc<Benchmark>],
    samples: &[Vec<f16>],
    make: impl Fn() -> DeviceKernel,
    batch: usize,
    threads: usize,
) {
    for columns in [ColumnSet::All, ColumnSet::Decision] {
        for verdict in [&Near as &dyn Verdict, &Half, &()] {
            let joiner = || Joiner::new(benchmarks.to_vec(), JoinConfig { columns, ..JoinConfig::default() }).unwrap();
            let device = joiner().with_kernel(Box::new(make()));
            let (expected, seen) = answers(&joiner(), samples, verdict, 64, 1);
            let (joined, shown) = answers(&device, samples, verdict, batch, threads);
            assert_eq!(joined, expected);
            assert_eq!(shown, seen);
            let counts = device.counts();
            assert_eq!((counts.rows, counts.rows_in_place), (samples.len() as u64, 0));
            if columns == ColumnSet::All {
                for (x, joined) in samples.iter().zip(&joined) {
                    let scores: Vec<Score> = benchmarks.iter().map(|it| naive::score(x, it)).collect();
                    assert_eq!(joined.scores, scores);
                }
            }
        }
    }
}

#[test]
fn answers_are_the_processors() {
    let mut dice = Dice(31);
    for (dim, sizes) in [(1, &[1][..]), (3, &[64, 1, 63]), (17, &[65, 130, 40]), (64, &[200]), (640, &[70, 1, 3, 2])] {
        let (benchmarks, samples) = world(&mut dice, dim, 50, sizes);
        for (limits, batch, threads) in [(TINY, 20, 1), (SMALL, 7, 3), (LARGE, 50, 2)] {
            check(&benchmarks, &samples, || kernel(&benchmarks, limits), batch, threads);
        }
    }
}

#[test]
fn values_wrong_by_their_bound_change_no_answer() {
    let mut dice = Dice(32);
    for way in 0..4 {
        let dim = [5, 33, 128, 640][way as usize];
        let (benchmarks, samples) = world(&mut dice, dim, 40, &[70, 30, 65]);
        let skewed = |limits| {
            let mut kernel = kernel(&benchmarks, limits);
            // Of the smallest norms that there may be.
            let bound = kernel.error_bound(1.0 - 1e-3, 1.0 - 1e-3);
            kernel.points.skew = Some(Skew { benchmarks: benchmarks.clone(), bound, way });
            kernel
        };
        check(&benchmarks, &samples, || skewed(TINY), 40, 1);
        check(&benchmarks, &samples, || skewed(LARGE), 13, 2);
    }
}

#[test]
fn ties_and_copies_everywhere() {
    let mut dice = Dice(33);
    let axis: Vec<Vec<f16>> =
        (0..4).map(|at| (0..4).map(|k| if k == at { f16::ONE } else { f16::ZERO }).collect()).collect();
    let pick = |dice: &mut Dice, n: usize| -> Vec<Vec<f16>> { (0..n).map(|_| axis[dice.below(4)].clone()).collect() };
    let (points, samples) = (pick(&mut dice, 200), pick(&mut dice, 60));
    let radii = (0..200).map(|_| [0.0, 1.0, -0.5, 1.0f64.next_down()][dice.below(4)]).collect();
    let copies = vec![axis[0].clone(); 90];
    let benchmarks = [
        benchmark("a", 4, &points, Some(radii)),
        benchmark("b", 4, &points, None),
        benchmark("c", 4, &copies, Some(vec![1.0; 90])),
    ];
    for limits in [TINY, LARGE] {
        check(&benchmarks, &samples, || kernel(&benchmarks, limits), 25, 2);
    }
}

#[test]
fn subnormal_elements_count() {
    // What differs between the points lies in the subnormals: 2^-24 each.
    let tiny = |pattern: usize| -> Vec<f16> {
        let bit = |k: usize| f16::from_bits(u16::from(pattern >> k & 1 == 1) * 3);
        (0..9).map(|k| if k == 8 { f16::ONE } else { bit(k) }).collect()
    };
    let points: Vec<Vec<f16>> = (0..256).map(tiny).collect();
    let big = naive::normalised(&[0.28, 0.29, 0.3, 0.27, 0.26, 0.28, 0.3, 0.31, 0.6]);
    let samples: Vec<Vec<f16>> = [big, points[170].clone(), points[255].clone(), points[0].clone()].to_vec();
    let radii = points.iter().map(|t| naive::cosine(&samples[0], t)).collect();
    let benchmarks = [benchmark("tiny", 9, &points, Some(radii))];
    check(&benchmarks, &samples, || kernel(&benchmarks, SMALL), 4, 1);
}

#[test]
fn few_products_are_confirmed() {
    let mut dice = Dice(34);
    let samples: Vec<Vec<f16>> = (0..300).map(|_| dice.unit(64)).collect();
    let points: Vec<Vec<f16>> = (0..2000).map(|_| dice.unit(64)).collect();
    // About one in twenty is a hit.
    let benchmarks = vec![benchmark("b", 64, &points, Some(vec![0.2; 2000]))];
    let joiner = Joiner::new(benchmarks.clone(), JoinConfig::default()).unwrap();
    let joiner = joiner.with_kernel(Box::new(kernel(&benchmarks, LARGE)));
    let (joined, _) = answers(&joiner, &samples, &Half, 300, 1);
    let hits: u64 = joined.iter().map(|row| u64::from(row.scores[0].hits.unwrap())).sum();
    assert!((15_000..60_000).contains(&hits), "{hits}");
    let confirmed = joiner.counts().confirmed;
    // Maxima of rows and columns, and what lies on a radius within the bound: no hit that is sure.
    assert!(confirmed < 15_000, "{confirmed}");
}

#[test]
fn products_out_of_bound_are_refused() {
    let mut dice = Dice(35);
    let (benchmarks, _) = world(&mut dice, 24, 10, &[50, 80]);
    let mut kernel = kernel(&benchmarks, LARGE);
    assert!(kernel.check(&benchmarks).is_ok());
    let bound = 1.1 * kernel.error_bound(1.0 + 1e-3, 1.0 + 1e-3);
    kernel.points.skew = Some(Skew { benchmarks: benchmarks.clone(), bound, way: 1 });
    let error = kernel.check(&benchmarks).unwrap_err().to_string();
    assert!(error.starts_with("a product with point 0 of benchmark b0 is "), "{error}");
    kernel.points.skew = Some(Skew { benchmarks: benchmarks.clone(), bound: f64::NAN, way: 1 });
    assert!(kernel.check(&benchmarks).is_err());
}
