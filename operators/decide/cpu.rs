//! The kernel of the processor: blocks of products, one a benchmark, in this process's memory.
//!
//! Where the processor multiplies 8-bit integers faster than f32 and there are points enough, it does that (`coded`), once so many rows went in f32 that
//! coding the points pays (`deferred`); the answers are the same. A portion that
//! lists too much that way is followed by some in f32 before it is tried again. Where decisions alone are asked for, most pairs are left after a few of their elements
//! (`leading`), once so many were multiplied that learning which pays; and again, a portion that leaves too many over is followed by some in all elements' codes.

mod deferred;
mod learning;
mod products;

use std::sync::{Arc, Mutex};

use trommel_core::wake::locked;
use trommel_kernels::dot::to_f32;
use trommel_kernels::int8::pays::{FEWEST_POINTS, Pause};
use trommel_kernels::int8::{Instructions, Rows};
use trommel_kernels::join::{Block, Tiling};

use super::benchmark::{Benchmark, Held};
use super::coded::{self, Codes};
use super::join_config::{ColumnSet, JoinConfig};
use super::kernel::{Kernel, KernelError, Portion, Products};
use super::leading::{self, Leading};
use super::scan::{self, Prepared};
use deferred::Deferred;
use learning::Learning;
use products::{Blocks, Coded, Led};

/// How a portion's products are computed.
#[derive(Clone, Copy)]
enum Way {
    Single,
    Codes,
    Directions,
}

impl Way {
    /// Most rows of a portion.
    const fn most_rows(self) -> usize {
        match self {
            Self::Single => 256,
            // Points are read once a portion, and there is less to read of a row.
            Self::Codes => 512,
            // Points are read twice a portion.
            Self::Directions => 1024,
        }
    }
}

/// Rows to be multiplied in f32 before points are coded, which takes about as long as they do.
const ROWS_BEFORE_CODES: u64 = 512;

/// Samples that are worth a call while others wait.
const WORTH_ROWS: usize = 32;

/// Memory of one call.
#[derive(Debug, Default)]
struct Scratch {
    wide: Vec<f32>,
    blocks: Vec<Block>,
    coded: coded::Scratch,
    leading: leading::Scratch,
}

/// Multiplies on the calling thread, and on as many more as [`JoinConfig::threads`] says.
#[derive(Debug)]
pub struct Cpu<B = Arc<Benchmark>> {
    benchmarks: Vec<B>,
    prepared: Arc<[Prepared]>,
    config: JoinConfig,
    idle: Mutex<Vec<Scratch>>,
    /// What multiplies codes, where that pays.
    with: Option<Instructions>,
    codes: Deferred<Codes>,
    /// After a portion that has listed too much in codes.
    pause: Pause,
    learning: Learning,
}

impl<B: Held> Cpu<B> {
    /// A kernel for benchmarks of one dimension.
    #[must_use]
    pub fn new(benchmarks: Vec<B>, prepared: Arc<[Prepared]>, config: JoinConfig) -> Self {
        let points: usize = benchmarks.iter().map(|benchmark| benchmark.points()).sum();
        let pays = points >= FEWEST_POINTS && Codes::fit(&benchmarks);
        let with = Instructions::fast().filter(|_| pays);
        let (idle, pause, learning) = (Mutex::default(), Pause::default(), Learning::of(points));
        Self { benchmarks, prepared, config, idle, with, codes: Deferred::after(ROWS_BEFORE_CODES), pause, learning }
    }

    /// The same that multiplies codes with these instructions, which the processor must have, from the first row on wherever codes can be made; or f32.
    #[must_use]
    pub fn with_codes(self, with: Option<Instructions>) -> Self {
        let with = with.filter(|_| Codes::fit(&self.benchmarks));
        Self { with, codes: Deferred::after(0), ..self }
    }

    /// The same that learns leading directions from its first portion, where decisions alone are asked for and codes can be made: so many, or as many as pay.
    #[must_use]
    pub fn with_directions(self, width: Option<usize>) -> Self {
        Self { learning: Learning::at_once(width), ..self }
    }

    /// How many directions are looked at, where that was found to pay; 0 where it was found not to.
    #[must_use]
    pub fn directions(&self) -> Option<usize> {
        self.learning.width()
    }

    /// What looks at this portion, if that is to be done in leading directions.
    fn leads(&self, portion: Portion<'_>) -> Option<&Leading> {
        let with = self.with.filter(|_| self.may_lead() && !portion.vectors.is_empty())?;
        // Who was given rows enough for directions gets them, even if others have found meanwhile that they do not pay.
        let otherwise = if self.codes.made().is_some() { Way::Codes } else { Way::Single };
        let must = portion.vectors.len() > self.rows(otherwise);
        let learn = |width| Leading::learn(&self.benchmarks, portion.needs, portion.vectors, with, width);
        self.learning.leads(portion, self.pairs(portion), must, learn)
    }

    /// Pairs of a portion of which something is asked.
    fn pairs(&self, portion: Portion<'_>) -> u64 {
        let points = self.benchmarks.iter().zip(portion.needs).filter(|(_, needs)| needs.any());
        points.map(|(benchmark, _)| benchmark.points() as u64).sum::<u64>() * portion.vectors.len() as u64
    }

    /// What multiplies this portion in codes, if that is to be done.
    fn codes(&self, portion: Portion<'_>) -> Option<&Codes> {
        let (with, rows) = (self.with?, portion.vectors.len());
        let make = || Codes::new(&self.benchmarks, with);
        // Who was given more rows than f32 has room for gets codes, even if others have found meanwhile that they do not pay.
        if rows > self.rows(Way::Single) {
            return Some(self.codes.at_once(make));
        }
        // What is being learned leaves nothing to codes.
        if self.codes.made().is_none() && self.learning.is_under_way() {
            return None;
        }
        self.codes.get(rows as u64, make).filter(|_| self.pause.is_over())
    }

    /// Bytes that what is known of a row's products takes.
    fn row_bytes(&self, way: Way) -> usize {
        match way {
            // Products, and two chunk maxima for each 64 of them.
            Way::Single => 4 * self.points() + self.points() / 8 + 16 * self.benchmarks.len(),
            Way::Codes => Codes::row_bytes(&self.benchmarks),
            Way::Directions => Leading::row_bytes(&self.benchmarks),
        }
    }

    /// Rows of a portion: as many as fit [`JoinConfig::block_bytes`].
    fn rows(&self, way: Way) -> usize {
        let (most, row_bytes) = (way.most_rows(), self.row_bytes(way).max(1) as u64);
        usize::try_from(self.config.block_bytes / row_bytes).unwrap_or(most).clamp(1, most)
    }

    /// Rows of a portion where all columns are asked for, at most, now or later.
    pub(crate) fn widest_portion_rows(&self) -> usize {
        self.rows(if self.with.is_some() { Way::Codes } else { Way::Single })
    }

    /// Whether directions may be learned.
    fn may_lead(&self) -> bool {
        self.with.is_some() && self.config.columns == ColumnSet::Decision
    }

    /// Bytes that it holds whoever calls.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let most = || Leading::most_bytes(&self.benchmarks) + Leading::learning_bytes(&self.benchmarks);
        let leading = if self.may_lead() { most() } else { 0 };
        leading + self.with.map_or(0, |_| Codes::bytes(&self.benchmarks))
    }

    fn dim(&self) -> usize {
        self.benchmarks.first().map_or(0, |benchmark| benchmark.dim)
    }

    fn points(&self) -> usize {
        self.benchmarks.iter().map(|benchmark| benchmark.points()).sum()
    }

    /// Bytes that one call holds at most beside its rows.
    #[must_use]
    pub fn call_bytes(&self) -> u64 {
        let (points, dim) = (self.points(), self.dim());
        let tiles = self.benchmarks.len() * self.config.threads.max(1);
        let tile = (self.config.tile_bytes as usize).max(4 * 64 * dim) * tiles;
        let portion = |way: Way, vector_bytes: usize| self.rows(way) * (self.row_bytes(way) + vector_bytes);
        let single = portion(Way::Single, 4 * dim) + tile;
        let coded = portion(Way::Codes, Rows::row_bytes(dim)) + 2 * points;
        let leading = if self.may_lead() { portion(Way::Directions, 0) } else { 0 };
        // And of all points the maxima as they were before, whether they are raised, and the largest values and floors.
        (single.max(self.with.map_or(0, |_| coded)).max(leading) + (32 + 1 + 18) * points) as u64
    }
}

impl<B: Held> Kernel for Cpu<B> {
    fn error_bound(&self, row_norm: f64, point_norm: f64) -> f64 {
        scan::f32_bound(self.dim(), row_norm, point_norm)
    }

    fn name(&self) -> String {
        let directions = self.directions().filter(|&width| width > 0);
        let is_coded = self.codes.made().is_some() || directions.is_some();
        let with = self.with.filter(|_| is_coded).map(|with| format!(" in int8 ({})", with.name()));
        let first = directions.map(|width| format!(", {width} directions first"));
        format!("cpu{}{}", with.unwrap_or_default(), first.unwrap_or_default())
    }

    /// As many as [`JoinConfig::block_bytes`] allows.
    fn portion_rows(&self) -> usize {
        let has_codes = self.codes.made().is_some() && self.pause.is_over();
        self.rows(match self.learning.now() {
            Some(_) => Way::Directions,
            None if has_codes => Way::Codes,
            None => Way::Single,
        })
    }

    fn worth_rows(&self) -> usize {
        WORTH_ROWS
    }

    fn multiply<'a>(&'a self, portion: Portion<'a>) -> Result<Box<dyn Products + 'a>, KernelError> {
        let mut scratch = locked(&self.idle).pop().unwrap_or_default();
        if let Some(leading) = self.leads(portion) {
            // What the other ways have held is given back, so that a call holds no more than the largest of them.
            scratch = Scratch { leading: scratch.leading, ..Scratch::default() };
            leading.multiply(portion, self.config.threads, &mut scratch.leading);
            return Ok(Box::new(Led { cpu: self, leading, portion, scratch }));
        }
        scratch.leading = leading::Scratch::default();
        self.learning.went_another_way();
        if let Some(codes) = self.codes(portion) {
            (scratch.wide, scratch.blocks) = (Vec::new(), Vec::new());
            codes.multiply(portion, self.config.threads, &mut scratch.coded);
            return Ok(Box::new(Coded { cpu: self, portion, scratch }));
        }
        scratch.coded = coded::Scratch::default();
        self.pause.pass();
        let dim = self.dim();
        scratch.wide.resize(portion.vectors.len() * dim, 0.0);
        for (vector, wide) in portion.vectors.iter().zip(scratch.wide.chunks_exact_mut(dim.max(1))) {
            to_f32(vector, wide);
        }
        scratch.blocks.resize_with(self.benchmarks.len(), Block::default);
        let tiling = Tiling { tile_bytes: self.config.tile_bytes as usize, threads: self.config.threads };
        for ((benchmark, prepared), (block, needs)) in
            self.benchmarks.iter().zip(&*self.prepared).zip(scratch.blocks.iter_mut().zip(portion.needs))
        {
            if needs.any() {
                let radii = prepared.radii.as_deref().filter(|_| needs.radii);
                block.fill(&scratch.wide, &benchmark.vectors, dim, radii, tiling);
            }
        }
        Ok(Box::new(Blocks { cpu: self, portion, scratch }))
    }
}
