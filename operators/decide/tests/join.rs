//! The join, the items and the radii against the naive model, to the bit.

use std::collections::BTreeMap;
use std::sync::Arc;

use half::f16;

use super::naive::{self, Dice};
use crate::benchmark::Benchmark;
use crate::join::{ColumnSet, JoinConfig, JoinError, JoinRow, Joined, Joiner, Needs, Verdict};
use crate::known_maxima::KnownMaxima;
use crate::points::Points;
use crate::radii::{Radii, RadiiError, radii};
use trommel_core::sample::{PointRow, SampleId, Score};
use trommel_kernels::int8::Instructions;

/// The paper's rule over all benchmarks that have radii.
pub(super) struct Near;

impl Verdict for Near {
    fn keeps(&self, _: &str, _: &str, _: SampleId, scores: &[Score]) -> bool {
        scores.iter().all(|score| score.hits.unwrap_or(0) == 0)
    }

    fn needs(&self, _: usize) -> Needs {
        Needs { maximum: false, radii: true }
    }
}

pub(super) fn benchmark(name: &str, dim: usize, vectors: &[Vec<f16>], radii: Option<Vec<f64>>) -> Arc<Benchmark> {
    Arc::new(Benchmark::new(name, dim, vectors.concat(), vec![], vec![], radii, None).unwrap())
}

/// Benchmarks of several sizes over related vectors, and samples related to them; radii lie exactly on a sample's similarity, or one
/// step beside it, or anywhere.
pub(super) fn world(
    dice: &mut Dice,
    dim: usize,
    samples: usize,
    sizes: &[usize],
) -> (Vec<Arc<Benchmark>>, Vec<Vec<f16>>) {
    let samples = dice.family(samples, dim, &[]);
    let benchmarks = sizes.iter().enumerate().map(|(at, &points)| {
        let vectors = dice.family(points, dim, &samples);
        let radii = vectors.iter().map(|t| {
            let s = naive::cosine(&samples[dice.below(samples.len())], t);
            match dice.below(5) {
                0 => s,
                1 => s.next_up(),
                2 => s.next_down(),
                3 => samples.iter().map(|x| naive::cosine(x, t)).fold(-2.0, f64::max),
                _ => dice.symmetric() + 0.6,
            }
        });
        let radii: Vec<f64> = radii.collect();
        benchmark(&format!("b{at}"), dim, &vectors, (at % 3 != 2).then_some(radii))
    });
    (benchmarks.collect(), samples)
}

pub(super) fn rows<'a>(samples: &'a [Vec<f16>], dice: &mut Dice, shards: u64) -> Vec<JoinRow<'a>> {
    let mut next = vec![0; shards as usize];
    let row = |vector: &'a Vec<f16>| {
        let ordinal = dice.next() % shards;
        let index = next[ordinal as usize];
        next[ordinal as usize] += 1;
        JoinRow { vector, id: SampleId { ordinal, index }, shard: "s", key: "k", points: None }
    };
    samples.iter().map(row).collect()
}

/// What the points see of each of so many shards.
fn seen(joiner: &Joiner, shards: u64) -> Vec<Points> {
    (0..shards).map(|ordinal| joiner.points(ordinal)).collect()
}

/// The same rows, seen by the points.
fn shown<'a>(rows: &[JoinRow<'a>], seen: &'a [Points]) -> Vec<JoinRow<'a>> {
    rows.iter().map(|row| JoinRow { points: Some(&seen[row.id.ordinal as usize]), ..*row }).collect()
}

/// Compares everything that a joiner says with the naive model.
fn check(benchmarks: &[Arc<Benchmark>], rows: &[JoinRow<'_>], config: JoinConfig, dice: &mut Dice, batch: usize) {
    check_with(&Joiner::new(benchmarks.to_vec(), config).unwrap(), benchmarks, rows, dice, batch);
}

/// The same of a joiner that is there.
pub(super) fn check_with(
    joiner: &Joiner,
    benchmarks: &[Arc<Benchmark>],
    rows: &[JoinRow<'_>],
    dice: &mut Dice,
    batch: usize,
) {
    let seen = seen(joiner, 4);
    let rows = &shown(rows, &seen)[..];
    // Any order and any composition of batches.
    let mut order: Vec<usize> = (0..rows.len()).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, dice.below(i + 1));
    }
    let mut kept = vec![false; rows.len()];
    for batch in order.chunks(batch) {
        let given: Vec<JoinRow<'_>> = batch.iter().map(|&at| rows[at]).collect();
        for (&at, Joined { scores, keeps }) in batch.iter().zip(joiner.join(&given, &Near).unwrap()) {
            let expected: Vec<Score> = benchmarks.iter().map(|b| naive::score(rows[at].vector, b)).collect();
            assert_eq!(scores, expected);
            assert!(scores.iter().all(|s| s.hits.is_none_or(|hits| (hits > 0) == (s.margin > Some(0.0)))));
            kept[at] = Near.keeps("s", "k", rows[at].id, &scores);
            assert_eq!(keeps, kept[at]);
        }
    }
    for (ordinal, expected) in naive::items(rows, &kept, benchmarks) {
        assert_eq!(seen[ordinal as usize].rows(), expected);
    }
}

#[test]
fn scores_and_items_equal_the_naive_model() {
    let mut dice = Dice(1);
    for dim in [1, 2, 3, 5, 8, 13, 31, 64, 100, 257, 640, 1024] {
        let count = if dim > 200 { 20 } else { 60 };
        let (benchmarks, samples) = world(&mut dice, dim, count, &[1, 65, 130, count]);
        let rows = rows(&samples, &mut dice, 3);
        for (batch, block_bytes, tile_bytes) in [(1, 1, 1), (7, 4096, 1 << 14), (64, 64 << 20, 512 << 10)] {
            let config = JoinConfig { block_bytes, tile_bytes, ..JoinConfig::default() };
            check(&benchmarks, &rows, config, &mut dice, batch);
        }
    }
}

#[test]
fn ties_and_copies_everywhere() {
    // Four directions only: nearly everything is tied.
    let mut dice = Dice(2);
    let axis: Vec<Vec<f16>> =
        (0..4).map(|at| (0..4).map(|k| if k == at { f16::ONE } else { f16::ZERO }).collect()).collect();
    let pick = |dice: &mut Dice, n: usize| -> Vec<Vec<f16>> { (0..n).map(|_| axis[dice.below(4)].clone()).collect() };
    for _ in 0..5 {
        let (points, samples) = (pick(&mut dice, 200), pick(&mut dice, 90));
        let radii = (0..200).map(|_| [0.0, 1.0, -0.5, 1.0f64.next_down()][dice.below(4)]).collect();
        let benchmarks = [benchmark("a", 4, &points, Some(radii)), benchmark("b", 4, &points, None)];
        let rows = rows(&samples, &mut dice, 2);
        check(&benchmarks, &rows, JoinConfig::default(), &mut dice, 32);
    }
}

#[test]
fn planted_on_the_radius_and_one_step_beside_it() {
    let mut dice = Dice(3);
    let points = dice.family(300, 96, &[]);
    for at in 0..60 {
        let x = if at % 2 == 0 { points[at].clone() } else { dice.near(&points[at], 0.2) };
        for (shift, hit) in [(0, false), (1, true), (-1, false)] {
            // Only this point can be hit: the others' radii are out of reach.
            let mut radii = vec![2.0; points.len()];
            let s = naive::cosine(&x, &points[at]);
            radii[at] = [s.next_up(), s, s.next_down()][(shift + 1) as usize];
            let benchmark = benchmark("b", 96, &points, Some(radii.clone()));
            let joiner = Joiner::new(vec![benchmark], JoinConfig::default()).unwrap();
            let row = JoinRow { vector: &x, id: SampleId { ordinal: 0, index: 0 }, shard: "s", key: "k", points: None };
            let score = joiner.join(&[row], &Near).unwrap()[0].scores[0];
            assert_eq!(score.hits, Some(u32::from(hit)), "strictly above, shift {shift}");
            assert_eq!((score.margin, score.exceeds), (Some(s - radii[at]), Some(at as u32)));
        }
    }
}

/// Rows of all parts as one: larger maxima, of equal ones the smaller sample's, all hits.
fn merged(parts: impl IntoIterator<Item = PointRow>) -> BTreeMap<(u16, u32), PointRow> {
    let mut all = BTreeMap::<(u16, u32), PointRow>::new();
    let largest = |old: Option<(f64, SampleId)>, new: Option<(f64, SampleId)>| {
        let first = |a: &(f64, SampleId), b: &(f64, SampleId)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        old.into_iter().chain(new).min_by(first)
    };
    for row in parts {
        let Some(sum) = all.get_mut(&(row.benchmark, row.point)) else {
            all.insert((row.benchmark, row.point), row);
            continue;
        };
        let pool = largest(sum.max_similarity.zip(sum.sample), row.max_similarity.zip(row.sample));
        let kept = largest(sum.kept_max.zip(sum.kept_sample), row.kept_max.zip(row.kept_sample));
        (sum.max_similarity, sum.sample) = pool.unzip();
        (sum.kept_max, sum.kept_sample) = kept.unzip();
        sum.hits += row.hits;
    }
    all
}

/// Shards in any order; what is durable may be known late. Some values are equal, so that of equal maxima the smaller sample's is due.
#[test]
fn known_maxima_spare_products_and_change_no_merged_row() {
    let mut dice = Dice(12);
    for round in 0..6 {
        let (benchmarks, mut samples) = world(&mut dice, [2, 3, 24][round % 3], 160, &[90, 40]);
        samples.extend_from_within(..60);
        let rows = rows(&samples, &mut dice, 8);
        let joiner = Joiner::new(benchmarks.clone(), JoinConfig::default()).unwrap();
        let kept: Vec<bool> = joiner.join(&rows, &Near).unwrap().iter().map(|joined| joined.keeps).collect();
        let expected = merged(naive::items(&rows, &kept, &benchmarks).into_values().flatten());
        let confirmed = |learns: bool, dice: &mut Dice| {
            let joiner = Joiner::new(benchmarks.clone(), JoinConfig::default()).unwrap();
            let (known, mut parts, mut late) = (KnownMaxima::new(&benchmarks), Vec::new(), Vec::new());
            let mut order: Vec<u64> = (0..8).collect();
            (1..order.len()).rev().for_each(|i| order.swap(i, dice.below(i + 1)));
            for ordinal in order {
                let points = known.points(ordinal);
                let of_shard = rows.iter().filter(|row| row.id.ordinal == ordinal);
                let given: Vec<JoinRow<'_>> = of_shard.map(|row| JoinRow { points: Some(&points), ..*row }).collect();
                for batch in given.chunks(1 + dice.below(30)) {
                    joiner.join(batch, &Near).unwrap();
                }
                late.push(points.rows());
                parts.extend(points.rows());
                if learns && dice.below(3) > 0 {
                    late.drain(..).for_each(|rows| known.raise(&rows));
                }
            }
            assert_eq!(merged(parts), expected);
            joiner.counts().confirmed
        };
        let (without, with) = (confirmed(false, &mut dice), confirmed(true, &mut dice));
        assert!(with < without, "{with} products and {without}");
    }
}

/// Of the larger benchmark the first rows go in f32, until one thread has coded its points.
#[test]
fn many_threads_and_gemm_threads_change_nothing() {
    let mut dice = Dice(4);
    for (dim, samples, points) in [(48, 200, 300), (32, 800, 1100)] {
        let (benchmarks, samples) = world(&mut dice, dim, samples, &[points, 70]);
        let rows = rows(&samples, &mut dice, 4);
        let joiner = Joiner::new(benchmarks.clone(), JoinConfig { threads: 2, ..JoinConfig::default() }).unwrap();
        let seen = seen(&joiner, 4);
        let rows = shown(&rows, &seen);
        let chunks: Vec<&[JoinRow<'_>]> = rows.chunks(23).collect();
        assert_eq!(joiner.on(), "cpu");
        let scores: Vec<Vec<Score>> = std::thread::scope(|scope| {
            let joiner = &joiner;
            let running: Vec<_> =
                chunks.iter().map(|&chunk| scope.spawn(move || joiner.join(chunk, &Near).unwrap())).collect();
            running.into_iter().flat_map(|thread| thread.join().unwrap()).map(|joined| joined.scores).collect()
        });
        assert_eq!(joiner.on().contains("int8"), points > 1024 && Instructions::fast().is_some());
        let expected: Vec<Vec<Score>> =
            samples.iter().map(|x| benchmarks.iter().map(|b| naive::score(x, b)).collect()).collect();
        assert_eq!(scores, expected);
        let kept: Vec<bool> = rows.iter().zip(&scores).map(|(row, s)| Near.keeps("s", "k", row.id, s)).collect();
        for (ordinal, expected) in naive::items(&rows, &kept, &benchmarks) {
            assert_eq!(seen[ordinal as usize].rows(), expected);
        }
    }
}

#[test]
fn decision_columns_leave_out_what_the_rule_does_not_need() {
    let mut dice = Dice(5);
    let (benchmarks, samples) = world(&mut dice, 20, 50, &[80, 40, 30]);
    let rows = rows(&samples, &mut dice, 1);
    let config = JoinConfig { columns: ColumnSet::Decision, ..JoinConfig::default() };
    let joiner = Joiner::new(benchmarks.clone(), config).unwrap();
    let seen = seen(&joiner, 1);
    let rows = shown(&rows, &seen);
    for (row, Joined { scores, .. }) in rows.iter().zip(joiner.join(&rows, &Near).unwrap()) {
        for (score, benchmark) in scores.iter().zip(&benchmarks) {
            let full = naive::score(row.vector, benchmark);
            assert_eq!(*score, Score { max_similarity: None, nearest: None, ..full });
        }
    }
    let hits = naive::items(&rows, &vec![true; rows.len()], &benchmarks).remove(&0).unwrap();
    let only_hits =
        |item: PointRow| PointRow { max_similarity: None, sample: None, kept_max: None, kept_sample: None, ..item };
    let expected: Vec<PointRow> = hits.into_iter().filter(|item| item.hits > 0).map(only_hits).collect();
    assert_eq!(seen[0].rows(), expected);
}

#[test]
fn radii_equal_the_naive_model_in_any_chunks() {
    let mut dice = Dice(7);
    for dim in [1, 3, 17, 64, 333, 640] {
        let reference = dice.family(if dim > 100 { 60 } else { 600 }, dim, &[]);
        let benchmark = benchmark("b", dim, &dice.family(90, dim, &reference), None);
        let expected: Vec<f64> = (0..benchmark.points())
            .map(|p| reference.iter().map(|x| naive::cosine(x, benchmark.vector(p))).fold(-2.0, f64::max))
            .collect();
        assert_eq!(radii(&reference, &benchmark).unwrap(), expected);
        let mut stream = Radii::new(&benchmark, 2);
        reference.iter().for_each(|x| stream.push(x).unwrap());
        let outcome = stream.finish().unwrap();
        assert_eq!((outcome.radii, outcome.references), (expected.clone(), reference.len() as u64));
        for (point, &nearest) in outcome.nearest.iter().enumerate() {
            let first = reference.iter().position(|x| naive::cosine(x, benchmark.vector(point)) == expected[point]);
            assert_eq!(first, Some(nearest as usize));
        }
        // What the reference set itself can never do: exceed its own radii.
        let with = Arc::new(Benchmark::clone(&benchmark).with_radii(expected).unwrap());
        let joiner = Joiner::new(vec![with], JoinConfig::default()).unwrap();
        let rows = rows(&reference, &mut dice, 1);
        assert!(joiner.join(&rows, &Near).unwrap().iter().all(|joined| joined.scores[0].hits == Some(0)));
    }
}

#[test]
fn refusals_name_the_place() {
    let mut dice = Dice(8);
    let (a, b) = (benchmark("a", 3, &dice.family(2, 3, &[]), None), benchmark("b", 4, &dice.family(2, 4, &[]), None));
    let text = |made: Result<Joiner, JoinError>| made.unwrap_err().to_string();
    assert_eq!(
        text(Joiner::new(vec![a.clone(), b.clone()], JoinConfig::default())),
        "benchmark b has 4 dimensions, a has 3: embed both with the same model"
    );
    assert!(text(Joiner::new(vec![a.clone(), a.clone()], JoinConfig::default())).starts_with("two benchmarks"));
    let joiner = Joiner::new(vec![a.clone()], JoinConfig::default()).unwrap();
    let id = SampleId { ordinal: 0, index: 0 };
    let error = |vector: &[f16]| {
        joiner.join(&[JoinRow { vector, id, shard: "s.tar", key: "k", points: None }], &()).unwrap_err().to_string()
    };
    assert_eq!(error(&[f16::ONE]), "sample k of shard s.tar: embedding_dim: 1 dimensions, expected 3");
    assert_eq!(error(&[f16::NAN; 3]), "sample k of shard s.tar: embedding_not_finite");
    assert_eq!(error(&[f16::ZERO; 3]), "sample k of shard s.tar: embedding_norm: norm 0, expected 1");
    assert_eq!(radii(Vec::<Vec<f16>>::new(), &a).unwrap_err(), RadiiError::Empty("a".into()));
    assert_eq!(radii([[f16::ONE; 3]], &a).unwrap_err(), RadiiError::Norm { reference: 0, norm: 3f64.sqrt() });
    assert!(matches!(radii([[f16::ONE; 4]], &a), Err(RadiiError::Dimensions { .. })));
    // Without benchmarks there is nothing to score.
    let none = Joiner::new(vec![], JoinConfig::default()).unwrap();
    let row = JoinRow { vector: &[], id, shard: "s", key: "k", points: None };
    assert!(none.check(&[]).is_err() && none.join(&[row], &()).is_err());
}
