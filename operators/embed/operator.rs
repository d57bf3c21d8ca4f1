//! Embed: views to canonical vectors, through the process's batcher.
//!
//! ```text
//!  Views ─▶ view ─▶ BatchService ─▶ vector | reason ─┬─▶ Embedded
//!    └─ the rest stays on the worker ────────────────┴─▶ reject's fate
//! ```
//!
//! Frontier: both outputs' follow the input's and the open tickets. Invariant: each input gives one embedded sample or one
//! reject, at its own time, unless the run stops. The permit shrinks to vector, trainer's view and caption.

use half::f16;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::core::OkErr;
use timely::order::TotalOrder;
use timely::progress::Timestamp;
use trommel_core::sample::{Embedded, Event, Reason, Sample};
use trommel_dataflow::batch::{BatchOffload, BatchService, JobPanic};
use trommel_decode::operator::Views;

/// Embeds decoded samples.
pub trait Embed<'scope, T: Timestamp> {
    /// Embedded samples, and the fates of those without a direction.
    fn embed(
        self,
        service: &BatchService<Vec<u8>, Result<Vec<f16>, Reason>>,
    ) -> (StreamVec<'scope, T, Sample<Embedded>>, StreamVec<'scope, T, Event>);
}

impl<'scope, T: Timestamp + TotalOrder> Embed<'scope, T> for StreamVec<'scope, T, Sample<Views>> {
    fn embed(
        self,
        service: &BatchService<Vec<u8>, Result<Vec<f16>, Reason>>,
    ) -> (StreamVec<'scope, T, Sample<Embedded>>, StreamVec<'scope, T, Event>) {
        self.batch_offload(
            "Embed",
            service,
            |mut sample: Sample<Views>| (sample.payload.embed.take().unwrap_or_default(), sample),
            |sample, result: Result<Result<Vec<f16>, Reason>, JobPanic>| {
                let vector = match result {
                    Ok(Ok(vector)) => vector,
                    Ok(Err(reason)) => return Err(sample.reject(reason)),
                    Err(panic) => return Err(sample.reject(Reason::new("embed_failed", panic))),
                };
                let (mut sample, Views { train, .. }) = sample.open();
                let held = 2 * vector.len() + train.as_ref().map_or(0, Vec::len);
                sample.permit.shrink_to(held as u64 + sample.caption_bytes());
                Ok(Box::new(sample.with(Embedded { vector, train })))
            },
        )
        .ok_err(|result: Result<Box<Sample<Embedded>>, Event>| result.map(|sample| *sample))
    }
}
