//! Whoever multiplies, and however wrong its values are within its bound: the answers are the naive model's, to the bit.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use half::f16;

use super::join::{Near, benchmark, check_with, rows, world};
use super::naive::{self, Dice};
use crate::benchmark::Benchmark;
use crate::join::{ColumnSet, JoinConfig, Joiner, Needs};
use crate::kernel::{ColumnSink, Kernel, KernelError, Portion, Products, Reach, RowSink, Tops};

/// Multiplies canonically, then moves every value by as much as its bound allows, up or down by the throw of a die; fails at one
/// of its calls where it is told to.
#[derive(Debug)]
struct Skewed {
    benchmarks: Vec<Arc<Benchmark>>,
    bound: f64,
    /// 0: all down, 1: all up, 2: each its own way, 3: each by any part of the bound.
    way: u32,
    portion_rows: usize,
    /// Calls until one fails; none fails below zero.
    until_failure: Arc<AtomicU32>,
}

impl Skewed {
    fn call(&self) -> Result<(), KernelError> {
        match self.until_failure.fetch_sub(1, Ordering::Relaxed) {
            0 => Err(KernelError("out of memory".into())),
            _ => Ok(()),
        }
    }
}

impl Kernel for Skewed {
    fn error_bound(&self, _: f64, _: f64) -> f64 {
        self.bound
    }

    fn name(&self) -> String {
        "skewed".into()
    }

    fn portion_rows(&self) -> usize {
        self.portion_rows
    }

    fn worth_rows(&self) -> usize {
        1
    }

    fn multiply<'a>(&'a self, portion: Portion<'a>) -> Result<Box<dyn Products + 'a>, KernelError> {
        self.call()?;
        let mut dice = Dice(portion.vectors.len() as u64);
        let mut value =
            |x: &[f16], t: &[f16]| naive::off_by_the_bound(naive::cosine(x, t), self.bound, self.way, &mut dice);
        let values = self.benchmarks.iter().zip(portion.needs).map(|(benchmark, needs)| {
            let points = if needs.any() { benchmark.points() } else { 0 };
            let row = |x: &&[f16]| -> Vec<f32> { (0..points).map(|at| value(x, benchmark.vector(at))).collect() };
            portion.vectors.iter().map(row).collect()
        });
        Ok(Box::new(Values { kernel: self, portion, values: values.collect() }))
    }
}

/// The same as a device, to which a call is worth 24 rows.
#[derive(Debug)]
struct OnDevice(Box<Skewed>);

impl Kernel for OnDevice {
    fn error_bound(&self, row_norm: f64, point_norm: f64) -> f64 {
        self.0.error_bound(row_norm, point_norm)
    }

    fn name(&self) -> String {
        self.0.name()
    }

    fn portion_rows(&self) -> usize {
        self.0.portion_rows()
    }

    fn worth_rows(&self) -> usize {
        24
    }

    fn portions_at_once(&self) -> Option<usize> {
        Some(2)
    }

    fn multiply<'a>(&'a self, portion: Portion<'a>) -> Result<Box<dyn Products + 'a>, KernelError> {
        self.0.multiply(portion)
    }
}

/// A joiner on a device that fails after so many calls, or never below zero.
pub(super) fn on_device(benchmarks: &[Arc<Benchmark>], failure: i32) -> Joiner {
    let joiner = Joiner::new(benchmarks.to_vec(), JoinConfig::default()).unwrap();
    joiner.with_kernel(Box::new(OnDevice(skewed(benchmarks, 1e-4, 3, 4096, failure))))
}

/// Plain loops over plain tables.
struct Values<'a> {
    kernel: &'a Skewed,
    portion: Portion<'a>,
    /// By benchmark, row and point.
    values: Vec<Vec<Vec<f32>>>,
}

impl Values<'_> {
    fn excess(&self, at: usize, row: usize, point: usize) -> Option<f32> {
        let radii = self.kernel.benchmarks[at].radii.as_ref().filter(|_| self.portion.needs[at].radii)?;
        Some(self.values[at][row][point] - radii[point] as f32)
    }

    fn places(&self, rows: Range<usize>) -> impl Iterator<Item = (usize, usize)> + use<> {
        (0..self.values.len()).flat_map(move |at| rows.clone().map(move |row| (at, row)))
    }
}

impl Products for Values<'_> {
    fn row_tops(&mut self) -> Result<Vec<Vec<Tops>>, KernelError> {
        self.kernel.call()?;
        let top = |values: &mut dyn Iterator<Item = f32>| values.fold(f32::NEG_INFINITY, f32::max);
        let tops = |at: usize, row: usize| {
            let points = 0..self.values[at][row].len();
            let value = top(&mut points.clone().map(|point| self.values[at][row][point]));
            Tops { value, excess: top(&mut points.filter_map(|point| self.excess(at, row, point))) }
        };
        let rows = self.portion.vectors.len();
        Ok((0..self.values.len()).map(|at| (0..rows).map(|row| tops(at, row)).collect()).collect())
    }

    fn rows_reaching(&mut self, reach: &[Vec<Reach>], sink: &mut dyn RowSink) -> Result<(), KernelError> {
        for (at, row) in self.places(0..self.portion.vectors.len()) {
            let (reach, group) = (reach[at][row], self.portion.groups.iter().position(|group| group.contains(&row)));
            // Backwards, and one by one: neither the order nor the parts matter.
            for point in (0..self.values[at][row].len()).rev() {
                let (v, m) = (self.values[at][row][point], self.excess(at, row, point));
                if v >= reach.value || m.is_some_and(|m| reach.lists_excess(m)) {
                    sink.listed(at, row, &[(point as u32, v)]);
                }
                if m.is_some_and(|m| reach.counts(m)) {
                    sink.counted(at, row, 1);
                    sink.hits(at, group.unwrap()).into_iter().for_each(|hits| hits[point] += 1);
                }
            }
        }
        self.kernel.call()
    }

    fn column_tops(&mut self, rows: &[usize]) -> Result<Vec<Vec<f32>>, KernelError> {
        self.kernel.call()?;
        let top = |values: &Vec<Vec<f32>>, point: usize| {
            rows.iter().map(|&row| values[row][point]).fold(f32::NEG_INFINITY, f32::max)
        };
        let tops = |values: &Vec<Vec<f32>>| (0..values[0].len()).map(|point| top(values, point)).collect();
        Ok(self.values.iter().map(tops).collect())
    }

    fn columns_reaching(
        &mut self,
        rows: &[usize],
        floors: &[Vec<f32>],
        sink: &mut ColumnSink<'_>,
    ) -> Result<(), KernelError> {
        for (at, &row) in (0..self.values.len()).flat_map(|at| rows.iter().map(move |row| (at, row))) {
            for point in (0..floors[at].len()).rev() {
                if self.values[at][row][point] >= floors[at][point] {
                    sink(at, row, &[point as u32]);
                }
            }
        }
        self.kernel.call()
    }
}

fn skewed(benchmarks: &[Arc<Benchmark>], bound: f64, way: u32, portion_rows: usize, failure: i32) -> Box<Skewed> {
    let until_failure = Arc::new(AtomicU32::new(failure as u32));
    Box::new(Skewed { benchmarks: benchmarks.to_vec(), bound, way, portion_rows, until_failure })
}

#[test]
fn values_wrong_by_their_bound_change_no_answer() {
    let mut dice = Dice(21);
    for bound in [1e-7, 1e-4, 0.02, 3.0] {
        for way in 0..4 {
            let (benchmarks, samples) = world(&mut dice, [3, 17, 64][way as usize % 3], 40, &[1, 65, 30]);
            let rows = rows(&samples, &mut dice, 3);
            for portion_rows in [1, 7, 64] {
                let joiner = Joiner::new(benchmarks.clone(), JoinConfig::default()).unwrap();
                let joiner = joiner.with_kernel(skewed(&benchmarks, bound, way, portion_rows, -1));
                check_with(&joiner, &benchmarks, &rows, &mut dice, 64);
                let counts = joiner.counts();
                let pairs = rows.len() as u64 * benchmarks.iter().map(|b| b.points() as u64).sum::<u64>();
                assert_eq!((counts.rows, counts.rows_in_place, counts.pairs), (rows.len() as u64, 0, pairs));
                assert!(counts.confirmed > 0);
            }
        }
    }
}

#[test]
fn ties_and_copies_within_the_bound() {
    let mut dice = Dice(22);
    let axis: Vec<Vec<f16>> =
        (0..3).map(|at| (0..3).map(|k| if k == at { f16::ONE } else { f16::ZERO }).collect()).collect();
    let pick = |dice: &mut Dice, n: usize| -> Vec<Vec<f16>> { (0..n).map(|_| axis[dice.below(3)].clone()).collect() };
    for way in 0..4 {
        let (points, samples) = (pick(&mut dice, 90), pick(&mut dice, 40));
        let radii = (0..90).map(|_| [0.0, 1.0, -0.5, 1.0f64.next_down()][dice.below(4)]).collect();
        let benchmarks = [benchmark("a", 3, &points, Some(radii)), benchmark("b", 3, &points, None)];
        let rows = rows(&samples, &mut dice, 2);
        let joiner = Joiner::new(benchmarks.to_vec(), JoinConfig::default()).unwrap();
        check_with(&joiner.with_kernel(skewed(&benchmarks, 1e-3, way, 16, -1)), &benchmarks, &rows, &mut dice, 32);
    }
}

/// Wherever a kernel fails, the processor does the portion again, once: no hit is counted twice, no maximum is lost.
#[test]
fn what_a_kernel_fails_in_is_done_in_its_place() {
    let mut dice = Dice(23);
    let (benchmarks, samples) = world(&mut dice, 16, 30, &[65, 30]);
    let rows = rows(&samples, &mut dice, 3);
    for failure in 0..24 {
        let joiner = Joiner::new(benchmarks.clone(), JoinConfig::default()).unwrap();
        let joiner = joiner.with_kernel(skewed(&benchmarks, 1e-4, 3, 11, failure));
        check_with(&joiner, &benchmarks, &rows, &mut dice, 30);
        let in_place = joiner.counts().rows_in_place;
        assert!((1..=11).contains(&in_place), "after {failure} calls: {in_place}");
        assert_eq!(joiner.counts().rows, 30);
    }
}

#[test]
fn decisions_alone_ask_for_no_more_than_they_need() {
    let mut dice = Dice(24);
    let (benchmarks, samples) = world(&mut dice, 20, 50, &[80, 40, 30]);
    let rows = rows(&samples, &mut dice, 1);
    let config = JoinConfig { columns: ColumnSet::Decision, ..JoinConfig::default() };
    let plain = Joiner::new(benchmarks.clone(), config.clone()).unwrap();
    let other = Joiner::new(benchmarks.clone(), config).unwrap().with_kernel(skewed(&benchmarks, 1e-3, 3, 16, -1));
    assert_eq!(other.join(&rows, &Near).unwrap(), plain.join(&rows, &Near).unwrap());
    // The third benchmark has no radii, and maxima are not asked for: it is not multiplied.
    assert_eq!(plain.counts().pairs, 50 * 120);
    assert_eq!(other.counts().pairs, 50 * 120);
    assert!(!Needs { maximum: false, radii: false }.any());
}

#[test]
fn few_samples_wait_for_a_call_that_a_device_has() {
    let benchmarks = world(&mut Dice(25), 16, 30, &[65]).0;
    let device = on_device(&benchmarks, -1);
    assert_eq!((device.call_rows(1, 0, 4), device.call_rows(23, 0, 4)), (24, 24), "with nothing out, at once");
    assert_eq!((device.call_rows(1, 1, 4), device.call_rows(23, 3, 4)), (0, 0));
    let most = device.most_rows();
    assert_eq!(
        (device.call_rows(24, 1, 4), device.call_rows(100, 1, 4)),
        (24, 100),
        "all that wait, though more threads are free"
    );
    assert_eq!((device.call_rows(2 * most, 0, 4), device.call_rows(2 * most, 3, 4)), (most, most));
    assert_eq!(device.call_rows(300, 4, 4), 0, "no thread is free");
    let processor = Joiner::new(benchmarks, JoinConfig::default()).unwrap();
    assert!((1..4).all(|out| processor.call_rows(1, out, 4) > 0));
    let worth = processor.call_rows(1, 0, 4);
    assert_eq!(
        (processor.call_rows(4 * worth, 0, 4), processor.call_rows(4 * worth, 2, 4)),
        (worth, 2 * worth),
        "a share"
    );
}
