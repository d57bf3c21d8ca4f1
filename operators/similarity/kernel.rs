//! Points where they are multiplied, and the lanes of those who multiply.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use half::f16;
use tch::{Device, Kind, Tensor};
use trommel_bridge::Stream;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::join::Needs;
use trommel_decide::kernel::{Kernel, KernelError, Portion, Products};
use trommel_kernels::dot::{dot, norm};
use trommel_kernels::join::CHUNK;

use crate::block::Block;

/// Portions that are multiplied at once. A lane is held until its portion is confirmed, which keeps a core busy for far longer than the card.
const LANES: usize = 8;

/// How much is taken at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of the products of one portion, unless one row has more.
    pub block_bytes: usize,
    /// Rows of a portion.
    pub rows: usize,
    /// Values that are looked at in one go.
    pub slab: usize,
    /// Bytes of the sums of sure hits by shard and point, unless one shard's have more.
    pub table_bytes: usize,
}

const LIMITS: Limits = Limits { block_bytes: 192 << 20, rows: 1024, slab: 1 << 22, table_bytes: 64 << 20 };

/// Samples that are worth a call while others wait.
const WORTH_ROWS: usize = 256;

/// Bytes of temporary tensors for each value of a slab: values, radii, differences, masks, and lists at their longest.
const SLAB_VALUE_BYTES: usize = 48;

/// Rows and columns whose products are compared with their canonical values at the start.
const SAMPLE: (usize, usize) = (16, 2048);

/// What rows and points are multiplied as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// f16, summed in f32: a card's.
    Half,
    /// f32, products and sums.
    Single,
}

impl Format {
    /// What is tried first on a device.
    #[must_use]
    pub fn of(device: Device) -> Self {
        if device == Device::Cpu { Self::Single } else { Self::Half }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Half => Kind::Half,
            Self::Single => Kind::Float,
        }
    }
}

/// A benchmark's columns. A chunk is 64 of them, as far from each other as there are chunks: so neighbouring threads of a card read neighbouring
/// values. What is left is filled up with points that nothing reaches.
#[derive(Debug)]
pub(crate) struct BenchmarkColumns {
    /// Points of the benchmark.
    pub points: usize,
    /// Number of chunks, the last one filled up.
    pub chunks: i64,
    /// Its first column, where all benchmarks are multiplied.
    first: i64,
}

impl BenchmarkColumns {
    /// Columns, filled up.
    pub fn columns(&self) -> i64 {
        self.chunks * CHUNK as i64
    }
}

/// A stream and what it reads: the same memory in all lanes.
#[derive(Debug)]
pub(crate) struct Lane {
    pub stream: Stream,
    points: Tensor,
    /// f32\[64, chunks\] where the benchmark has radii.
    pub radii: Vec<Option<Tensor>>,
}

/// Multiplies on a device.
#[derive(Debug)]
pub struct DeviceKernel {
    pub(crate) device: Device,
    format: Format,
    pub(crate) limits: Limits,
    dim: usize,
    pub(crate) parts: Vec<BenchmarkColumns>,
    lanes: (Sender<Lane>, Receiver<Lane>),
    #[cfg(test)]
    pub(crate) skew: Option<crate::tests::Skew>,
}

/// Names what was asked of libtorch.
pub(crate) fn said<E: std::fmt::Display>(operation: &'static str) -> impl Fn(E) -> KernelError {
    move |error| {
        let text = error.to_string();
        KernelError(format!("{operation}: {}", text.lines().next().unwrap_or_default()))
    }
}

impl DeviceKernel {
    /// A kernel on `device` with the points of all benchmarks, which have one dimension. On a card f16 is tried first, then f32.
    ///
    /// # Errors
    /// What libtorch said, or products that are out of bound.
    pub fn new(device: Device, benchmarks: &[Arc<Benchmark>]) -> Result<Self, KernelError> {
        if device == Device::Cpu {
            return Self::with(device, Format::Single, LIMITS, benchmarks);
        }
        trommel_bridge::pin_precision().map_err(said("pinned precision"))?;
        Self::with(device, Format::Half, LIMITS, benchmarks).or_else(|error| {
            tracing::warn!("the join multiplies f32 instead of f16 on {device:?}: {error}");
            Self::with(device, Format::Single, LIMITS, benchmarks)
        })
    }

    pub(crate) fn with(
        device: Device,
        format: Format,
        limits: Limits,
        benchmarks: &[Arc<Benchmark>],
    ) -> Result<Self, KernelError> {
        let dim = benchmarks.first().map_or(0, |benchmark| benchmark.dim);
        let mut first = 0;
        let mut parts = Vec::new();
        for benchmark in benchmarks {
            let chunks = benchmark.points().div_ceil(CHUNK) as i64;
            parts.push(BenchmarkColumns { points: benchmark.points(), chunks, first });
            first += chunks * CHUNK as i64;
        }
        let kernel = Self {
            device,
            format,
            limits,
            dim,
            parts,
            lanes: crossbeam_channel::bounded(LANES),
            #[cfg(test)]
            skew: None,
        };
        kernel.upload(benchmarks, first).map_err(said("points"))?;
        kernel.check(benchmarks)?;
        Ok(kernel)
    }

    /// Fills the lanes.
    fn upload(&self, benchmarks: &[Arc<Benchmark>], columns: i64) -> Result<(), Box<dyn std::error::Error>> {
        let _no_grad = tch::no_grad_guard();
        let points = Tensor::f_zeros([columns, self.dim as i64], (self.format.kind(), self.device))?;
        let mut radii = Vec::new();
        for (benchmark, part) in benchmarks.iter().zip(&self.parts) {
            let shape = [part.points as i64, self.dim as i64];
            let vectors = Tensor::f_from_slice(&benchmark.vectors)?.f_reshape(shape)?;
            points.f_narrow(0, part.first, part.points as i64)?.f_copy_(&vectors)?;
            radii.push(benchmark.radii.as_deref().map(|radii| self.radii(radii, part)).transpose()?);
        }
        for _ in 0..LANES {
            let stream = Stream::new(self.device)?;
            let radii = radii.iter().map(|radii| radii.as_ref().map(Tensor::shallow_clone)).collect();
            self.lanes.0.send(Lane { stream, points: points.shallow_clone(), radii })?;
        }
        // Lanes read on streams of their own: all of it is there once something of it has come back.
        let _ = points.f_narrow(0, 0, 1)?.f_to_device(Device::Cpu)?;
        Ok(())
    }

    fn radii(&self, radii: &[f64], part: &BenchmarkColumns) -> Result<Tensor, tch::TchError> {
        let mut narrow: Vec<f32> = radii.iter().map(|&radius| radius as f32).collect();
        narrow.resize(part.columns() as usize, 0.0);
        Tensor::f_from_slice(&narrow)?.f_reshape([CHUNK as i64, part.chunks])?.f_to_device(self.device)
    }

    /// Compares some products with their canonical values.
    pub(crate) fn check(&self, benchmarks: &[Arc<Benchmark>]) -> Result<(), KernelError> {
        let needs = vec![Needs { maximum: true, radii: false }; benchmarks.len()];
        for (at, benchmark) in benchmarks.iter().enumerate() {
            let some = |most: usize| (0..benchmark.points()).step_by(benchmark.points().div_ceil(most));
            let vectors: Vec<&[f16]> = some(SAMPLE.0).map(|point| benchmark.vector(point)).collect();
            let points: Vec<usize> = some(SAMPLE.1).collect();
            let all = 0..vectors.len();
            let block = self.block(Portion { vectors: &vectors, groups: std::slice::from_ref(&all), needs: &needs })?;
            let values = block.values(at, &points)?;
            for (x, values) in vectors.iter().zip(values.chunks(points.len())) {
                for (&point, &v) in points.iter().zip(values) {
                    let t = benchmark.vector(point);
                    let (s, bound) = (dot(x, t), self.error_bound(norm(x), norm(t)));
                    let within = (f64::from(v) - s).abs() <= bound; // false for NaN
                    if !within {
                        let name = &benchmark.name;
                        return Err(KernelError(format!(
                            "a product with point {point} of benchmark {name} is {v}, not {s} within {bound:e}"
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    fn block<'a>(&'a self, portion: Portion<'a>) -> Result<Block<'a>, KernelError> {
        let lane = self.lanes.1.recv().map_err(said("a lane"))?;
        Block::multiply(self, lane, portion)
    }

    /// Takes a lane back.
    pub(crate) fn give_back(&self, lane: Lane) {
        let _there_is_room = self.lanes.0.send(lane);
    }

    /// Rows as they are multiplied: \[rows, dim\].
    pub(crate) fn rows(&self, vectors: &[&[f16]]) -> Result<Tensor, tch::TchError> {
        let rows = Tensor::f_from_slice(&vectors.concat())?.f_reshape([vectors.len() as i64, self.dim as i64])?;
        rows.f_to_device(self.device)?.f_to_kind(self.format.kind())
    }

    /// Products of rows with the points of one benchmark, into f32\[rows, columns\].
    pub(crate) fn products(&self, lane: &Lane, rows: &Tensor, at: usize, out: &Tensor) -> Result<(), tch::TchError> {
        let part = &self.parts[at];
        let points = lane.points.f_narrow(0, part.first, part.columns())?.f_transpose(0, 1)?;
        let _ = match self.format {
            Format::Half => rows.f_mm_dtype_out(out, &points, Kind::Float)?,
            Format::Single => rows.f_mm_out(out, &points)?,
        };
        let (points, left) = (part.points as i64, part.columns() - part.points as i64);
        if left > 0 {
            let _ = out.f_narrow(1, points, left)?.f_fill_(f64::NEG_INFINITY)?;
        }
        Ok(())
    }

    /// What rows and points are multiplied as.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes that a kernel for these benchmarks takes on its device at most.
    #[must_use]
    pub fn bytes(benchmarks: &[Arc<Benchmark>], format: Format) -> u64 {
        let columns: usize = benchmarks.iter().map(|it| it.points().next_multiple_of(CHUNK)).sum();
        let dim = benchmarks.first().map_or(0, |benchmark| benchmark.dim);
        let value = if format == Format::Half { 2 } else { 4 };
        // Products, and of each chunk two maxima, whether it is looked at, and its place in the list of those that are.
        let block = LIMITS.portion_rows(columns) * (4 * columns + columns / CHUNK * 24);
        let at_once = LANES * (block + SLAB_VALUE_BYTES * LIMITS.slab + LIMITS.table_bytes);
        (columns * (value * dim + 4) + at_once) as u64
    }
}

impl Limits {
    fn portion_rows(&self, columns: usize) -> usize {
        (self.block_bytes / (4 * columns).max(1)).clamp(1, self.rows)
    }
}

impl Kernel for DeviceKernel {
    /// See the crate's head.
    fn error_bound(&self, row_norm: f64, point_norm: f64) -> f64 {
        self.dim as f64 / f64::from(1 << 22) * row_norm * point_norm * (1.0 + 1e-9)
    }

    fn name(&self) -> String {
        let device = match self.device {
            Device::Cuda(number) => format!("cuda:{number}"),
            _ => "libtorch's cpu".into(),
        };
        format!("{device} in {}", if self.format == Format::Half { "f16" } else { "f32" })
    }

    fn portion_rows(&self) -> usize {
        self.limits.portion_rows(self.parts.iter().map(|part| part.columns() as usize).sum())
    }

    fn worth_rows(&self) -> usize {
        WORTH_ROWS
    }

    fn multiply<'a>(&'a self, portion: Portion<'a>) -> Result<Box<dyn Products + 'a>, KernelError> {
        Ok(Box::new(self.block(portion)?))
    }
}
