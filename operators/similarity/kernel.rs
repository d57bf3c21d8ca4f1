//! Who multiplies on a device: checked at its start, a block of products for each portion.

use std::sync::Arc;

use half::f16;
use tch::Device;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::join::Needs;
use trommel_decide::kernel::{Kernel, KernelError, Portion, Products};
use trommel_kernels::dot::{dot, norm};
use trommel_kernels::join::CHUNK;

use crate::block::Block;
pub use crate::points::Format;
use crate::points::{DevicePoints, LANES, Limits, said};

const LIMITS: Limits = Limits { block_bytes: 192 << 20, rows: 1024, slab: 1 << 22, table_bytes: 64 << 20 };

/// Samples that are worth a call while others wait.
const WORTH_ROWS: usize = 256;

/// What libtorch keeps for cuBLAS for each thread and stream that have met, on a card that takes most.
const WORKSPACE_BYTES: usize = 32 << 20;

/// Bytes of temporary tensors for each value of a slab: values, radii, differences, masks, and lists at their longest.
const SLAB_VALUE_BYTES: usize = 48;

/// Rows and columns whose products are compared with their canonical values at the start.
const SAMPLE: (usize, usize) = (16, 2048);

/// Multiplies on a device.
#[derive(Debug)]
pub struct DeviceKernel {
    pub(crate) points: DevicePoints,
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
        // Points for which there is no room in f16 have none in f32.
        let half = Self { points: DevicePoints::of(device, Format::Half, LIMITS, benchmarks)? };
        let Err(error) = half.check(benchmarks) else { return Ok(half) };
        drop(half);
        tracing::warn!("the join multiplies f32 instead of f16 on {device:?}: {error}");
        Self::with(device, Format::Single, LIMITS, benchmarks)
    }

    pub(crate) fn with(
        device: Device,
        format: Format,
        limits: Limits,
        benchmarks: &[Arc<Benchmark>],
    ) -> Result<Self, KernelError> {
        let kernel = Self { points: DevicePoints::of(device, format, limits, benchmarks)? };
        kernel.check(benchmarks)?;
        Ok(kernel)
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
        Block::multiply(&self.points, self.points.lane(), portion)
    }

    /// What rows and points are multiplied as.
    #[must_use]
    pub fn format(&self) -> Format {
        self.points.format
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
        // One more thread has checked the products before the run.
        (columns * (value * dim + 4) + at_once + (LANES + 1) * WORKSPACE_BYTES) as u64
    }
}

impl Kernel for DeviceKernel {
    /// See the crate's head.
    fn error_bound(&self, row_norm: f64, point_norm: f64) -> f64 {
        self.points.dim as f64 / f64::from(1 << 22) * row_norm * point_norm * (1.0 + 1e-9)
    }

    fn name(&self) -> String {
        let device = match self.points.device {
            Device::Cuda(number) => format!("cuda:{number}"),
            _ => "libtorch's cpu".into(),
        };
        format!("{device} in {}", if self.points.format == Format::Half { "f16" } else { "f32" })
    }

    fn portions_at_once(&self) -> Option<usize> {
        Some(LANES)
    }

    fn portion_rows(&self) -> usize {
        self.points.portion_rows()
    }

    fn worth_rows(&self) -> usize {
        WORTH_ROWS
    }

    fn multiply<'a>(&'a self, portion: Portion<'a>) -> Result<Box<dyn Products + 'a>, KernelError> {
        Ok(Box::new(self.block(portion)?))
    }
}
