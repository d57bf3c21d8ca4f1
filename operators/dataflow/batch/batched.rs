//! What a batch service runs: batches go in, results come out in the same order, and meanwhile the next batch may go in.

use std::collections::VecDeque;

/// A function of batches of which several may be on their way: one that computes elsewhere takes the next batch while it computes
/// the one before.
///
/// A service calls it from one thread, never submits more than [`depth`](Self::depth) batches ahead of those it has collected,
/// and catches panics: a batch whose `submit` or `collect` panicked is gone, those before and after it are not.
pub trait Batched<I, O> {
    /// Batches that may be submitted and not yet collected; at least 1.
    fn depth(&self) -> usize {
        1
    }

    /// Batches that are computed at the same time; the others that are on their way wait.
    fn width(&self) -> usize {
        1
    }

    /// Takes a bell, and rings it whenever a batch is done. False: nobody rings, and a batch on its way has to be looked at.
    fn rings(&mut self, bell: Box<dyn Fn() + Send + Sync>) -> bool {
        let _ = bell;
        false
    }

    /// Begins a batch.
    fn submit(&mut self, inputs: Vec<I>);

    /// Whether [`collect`](Self::collect) would not wait; asked only while a batch is on its way.
    fn is_done(&mut self) -> bool {
        true
    }

    /// Results of the oldest batch, one an input, in the inputs' order; waits for them.
    fn collect(&mut self) -> Vec<O>;
}

/// A function that computes a batch where it is called.
pub(super) struct AtOnce<F, O> {
    function: F,
    done: VecDeque<Vec<O>>,
}

impl<F, O> AtOnce<F, O> {
    pub(super) const fn new(function: F) -> Self {
        Self { function, done: VecDeque::new() }
    }
}

impl<I, O, F: FnMut(Vec<I>) -> Vec<O>> Batched<I, O> for AtOnce<F, O> {
    fn submit(&mut self, inputs: Vec<I>) {
        let results = (self.function)(inputs);
        self.done.push_back(results);
    }

    fn collect(&mut self) -> Vec<O> {
        self.done.pop_front().unwrap_or_default()
    }
}
