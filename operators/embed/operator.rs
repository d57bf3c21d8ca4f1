//! Embed: decoded samples to embedded ones, through the process's batcher.
//!
//! ```text
//!  Decoded ─▶ view ─▶ BatchService ─▶ vector | reason ─┬─▶ Embedded
//!     └─ the rest stays on the worker ─────────────────┴─▶ reject's fate
//! ```
//!
//! Frontier: both outputs' follow the input's and the open tickets. Invariant: each input gives one embedded sample or one
//! reject, at its own time, unless the run stops. The permit shrinks to vector, trainer's view and caption.

use half::f16;
use std::sync::Arc;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::core::OkErr;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use trommel_core::sample::{Event, Fate, Reason, SampleInfo, Status};
use trommel_dataflow::batch::{BatchOffload, BatchService, JobPanic};
use trommel_decide::Embedded;
use trommel_decode::operator::Decoded;

/// Embeds decoded samples.
pub trait Embed<'scope, T: Timestamp> {
    /// Embedded samples, and the fates of those without a direction.
    fn embed(
        self,
        service: &BatchService<Vec<u8>, Result<Vec<f16>, Reason>>,
    ) -> (StreamVec<'scope, T, Embedded>, StreamVec<'scope, T, Event>);
}

impl<'scope, T: Timestamp + TotalOrder> Embed<'scope, T> for StreamVec<'scope, T, Decoded> {
    fn embed(
        self,
        service: &BatchService<Vec<u8>, Result<Vec<f16>, Reason>>,
    ) -> (StreamVec<'scope, T, Embedded>, StreamVec<'scope, T, Event>) {
        self.batch_offload(
            "Embed",
            service,
            |mut sample: Decoded| (sample.eval.take().unwrap_or_default(), sample),
            |sample, result: Result<Result<Vec<f16>, Reason>, JobPanic>| {
                let vector = match result {
                    Ok(Ok(vector)) => vector,
                    Ok(Err(reason)) => return Err(rejected(sample.info, reason)),
                    Err(panic) => return Err(rejected(sample.info, Reason::new("embed_failed", panic))),
                };
                let Decoded { info, pass, work, caption, eval: _, train, encoded_bytes, mut permit } = sample;
                let held =
                    2 * vector.len() + train.as_ref().map_or(0, Vec::len) + caption.as_ref().map_or(0, |c| c.len());
                permit.shrink_to(held as u64);
                Ok(Box::new(Embedded { info, pass, work, caption, vector, train, encoded_bytes, permit }))
            },
        )
        .ok_err_boxed()
    }
}

/// Unpacks boxed samples beside their rejects.
trait OkErrBoxed<'scope, T: Timestamp> {
    fn ok_err_boxed(self) -> (StreamVec<'scope, T, Embedded>, StreamVec<'scope, T, Event>);
}

impl<'scope, T: Timestamp> OkErrBoxed<'scope, T> for StreamVec<'scope, T, Result<Box<Embedded>, Event>> {
    fn ok_err_boxed(self) -> (StreamVec<'scope, T, Embedded>, StreamVec<'scope, T, Event>) {
        self.ok_err(|result: Result<Box<Embedded>, Event>| result.map(|sample| *sample))
    }
}

fn rejected(info: Arc<SampleInfo>, reason: Reason) -> Event {
    let fate = Fate { info, status: Status::Rejected, reason: Some(reason), scores: Vec::new(), embedding: None };
    Event::Fate(Arc::new(fate))
}
