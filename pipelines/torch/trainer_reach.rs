//! How far a live trainer has come, for whoever feeds it.

use std::sync::{Arc, Mutex};

use trommel_core::sample::SampleId;
use trommel_core::wake::locked;
use trommel_dataflow::order::{Cursor, OrderService};

/// How far a trainer has come in the order; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Trained(Arc<Mutex<Reached>>);

#[derive(Default)]
struct Reached {
    cursor: Option<Cursor>,
    /// Whether the order waits for shards that have not come.
    is_idle: Option<Box<dyn Fn() -> bool + Send>>,
    /// Whether the trainer waits for a batch.
    is_waiting: bool,
}

impl Trained {
    fn with<T>(&self, then: impl FnOnce(&mut Reached) -> T) -> T {
        then(&mut locked(&self.0))
    }

    /// It begins at a checkpoint's place.
    pub(crate) fn begin(&self, cursor: Option<Cursor>) {
        self.with(|reached| reached.cursor = cursor);
    }

    /// The batch before this place is in the step.
    pub(crate) fn reach(&self, cursor: &Cursor) {
        self.with(|reached| reached.cursor = Some(cursor.clone()));
    }

    /// It takes its batches from this order.
    pub(crate) fn follow<P: Send + 'static>(&self, order: &OrderService<P>) {
        let gauge = order.weak_gauge();
        let is_idle = move || gauge().is_some_and(|gauge| gauge.waits_for_growth.is_some());
        self.with(|reached| reached.is_idle = Some(Box::new(is_idle)));
    }

    /// It waits for a batch, or has one.
    pub(crate) fn wait(&self, is_waiting: bool) {
        self.with(|reached| reached.is_waiting = is_waiting);
    }

    /// Whether all that has come is trained on, as far as it fills batches. For an instant it may seem so while the next batch is handed over.
    pub(crate) fn is_idle(&self) -> bool {
        self.with(|reached| reached.is_waiting && reached.is_idle.as_ref().is_some_and(|is_idle| is_idle()))
    }

    /// Where it stands; `None` before the first batch.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.with(|reached| reached.cursor.clone())
    }
}

/// Whether a sample of a growing assignment lies before a trainer's place: it was trained on, or stands in the window that is at hand.
pub(crate) fn lies_before(cursor: &Cursor, sample: SampleId) -> bool {
    let lanes = cursor.lanes.len() as u64;
    let at = usize::try_from(sample.ordinal % lanes.max(1)).ok().and_then(|lane| cursor.lanes.get(lane));
    at.is_some_and(|at| (sample.ordinal / lanes.max(1), sample.index) < (at.position, at.index))
}
