//! Encoded pictures to views, side by side on the threads of an evaluation.

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use trommel_core::causes::Cause;
use trommel_decode::view::{EvalView, eval_view};
use trommel_decode::{Limits, decode_rgb};
use trommel_model::Preprocess;

use trommel_pipelines::error::PipelineError;

use crate::run_setup::view_of;

/// Makes views as a model wants them.
pub(super) struct Viewer {
    pool: ThreadPool,
    view: EvalView,
    limits: Limits,
}

impl Viewer {
    /// For a model's preprocessing, on so many threads.
    ///
    /// # Errors
    /// Threads that cannot be had.
    pub fn new(preprocess: &Preprocess, threads: usize) -> Result<Self, PipelineError> {
        let pool =
            ThreadPoolBuilder::new().num_threads(threads.max(1)).thread_name(|at| format!("decode-{at}")).build();
        let pool = pool.map_err(|error| PipelineError::failed(error).within("no threads"))?;
        Ok(Self { pool, view: view_of(preprocess), limits: Limits::default() })
    }

    /// What a picture may be at most.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes encoded pictures, each with what is known of it; gives their views, u8\[size, size, 3\], or why there are none, in the same order.
    pub fn views<T: Send, B: AsRef<[u8]> + Send>(&self, waiting: &mut Vec<(T, B)>) -> Vec<(T, Result<Vec<u8>, Cause>)> {
        let view = |bytes: B| Ok(eval_view(&decode_rgb(bytes.as_ref(), &self.limits)?, &self.view)?);
        let waiting = std::mem::take(waiting);
        self.pool.install(|| waiting.into_par_iter().map(|(known, bytes)| (known, view(bytes))).collect())
    }
}
