//! Points where they are multiplied, and the lanes of those who multiply.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::ThreadId;

use half::f16;
use tch::{Device, Kind, Tensor};
use trommel_bridge::Stream;
use trommel_core::wake::locked;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::kernel::KernelError;
use trommel_kernels::join::CHUNK;

/// Portions that are multiplied at once. A lane is held until its portion is confirmed, which keeps a core busy for far longer than the card.
pub(crate) const LANES: usize = 8;

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

impl Limits {
    pub fn portion_rows(&self, columns: usize) -> usize {
        (self.block_bytes / (4 * columns).max(1)).clamp(1, self.rows)
    }
}

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
    /// Who had it last.
    last: Option<ThreadId>,
}

/// Lanes that nobody has.
#[derive(Debug, Default)]
struct Idle {
    lanes: Mutex<Vec<Lane>>,
    came: Condvar,
}

impl Idle {
    /// One's own lane, else one that nobody has had, else any: libtorch keeps a workspace for each pair of a thread and a stream that have met.
    fn take(&self) -> Lane {
        let mine = std::thread::current().id();
        let mut lanes = locked(&self.lanes);
        while lanes.is_empty() {
            lanes = self.came.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
        let had_by = |last: Option<ThreadId>| lanes.iter().position(|lane| lane.last == last);
        let at = had_by(Some(mine)).or_else(|| had_by(None)).unwrap_or(0);
        Lane { last: Some(mine), ..lanes.swap_remove(at) }
    }

    fn put(&self, lane: Lane) {
        locked(&self.lanes).push(lane);
        self.came.notify_one();
    }
}

/// The points of all benchmarks on a device.
#[derive(Debug)]
pub(crate) struct DevicePoints {
    pub device: Device,
    pub format: Format,
    pub limits: Limits,
    pub dim: usize,
    pub parts: Vec<BenchmarkColumns>,
    idle: Idle,
    #[cfg(test)]
    pub skew: Option<crate::tests::Skew>,
}

/// Names what was asked of libtorch.
pub(crate) fn said<E: std::fmt::Display>(operation: &'static str) -> impl Fn(E) -> KernelError {
    move |error| {
        let text = error.to_string();
        KernelError(format!("{operation}: {}", text.lines().next().unwrap_or_default()))
    }
}

impl DevicePoints {
    /// Points of benchmarks of one dimension, in every lane.
    ///
    /// # Errors
    /// What libtorch said.
    pub fn of(
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
        let points = Self {
            device,
            format,
            limits,
            dim,
            parts,
            idle: Idle::default(),
            #[cfg(test)]
            skew: None,
        };
        points.upload(benchmarks, first).map_err(said("points"))?;
        Ok(points)
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
            let stream = Stream::urgent(self.device)?;
            let radii = radii.iter().map(|radii| radii.as_ref().map(Tensor::shallow_clone)).collect();
            self.idle.put(Lane { stream, points: points.shallow_clone(), radii, last: None });
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

    /// Most rows of a portion.
    pub fn portion_rows(&self) -> usize {
        self.limits.portion_rows(self.parts.iter().map(|part| part.columns() as usize).sum())
    }

    /// A lane of one's own, once there is one.
    pub fn lane(&self) -> Lane {
        self.idle.take()
    }

    /// Takes a lane back.
    pub fn give_back(&self, lane: Lane) {
        self.idle.put(lane);
    }

    /// Rows as they are multiplied: \[rows, dim\].
    pub fn rows(&self, vectors: &[&[f16]]) -> Result<Tensor, tch::TchError> {
        let rows = Tensor::f_from_slice(&vectors.concat())?.f_reshape([vectors.len() as i64, self.dim as i64])?;
        rows.f_to_device(self.device)?.f_to_kind(self.format.kind())
    }

    /// Products of rows with the points of one benchmark, into f32\[rows, columns\].
    pub fn products(&self, lane: &Lane, rows: &Tensor, at: usize, out: &Tensor) -> Result<(), tch::TchError> {
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
}
