//! Where a reader takes credit, and puts what it has read.

use std::fmt;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, select};

use crate::mailbox::Bell;
use crate::pool::JobPanic;
use trommel_core::credit::workspace::Workspace;
use trommel_core::credit::{Credit, Permit, Stopped};
use trommel_core::records::Record;
use trommel_core::stop::{Never, Stop};

pub(super) enum Letter<I> {
    Item(I),
    End(Option<JobPanic>),
}

/// Where a reader puts its items.
pub struct Outlet<I> {
    pub(super) lane: usize,
    pub(super) credit: Credit,
    pub(super) letters: Sender<Letter<I>>,
    pub(super) bell: Option<Arc<Bell>>,
    pub(super) stop: Stop,
    pub(super) closed: Receiver<Never>,
}

impl<I> Outlet<I> {
    /// Takes credit for all that a sample will ever hold; blocks until it is there.
    ///
    /// # Errors
    /// [`Stopped`] when the run stops first.
    pub fn admit(&mut self, bytes: u64) -> Result<Permit, Stopped> {
        self.credit.acquire(self.lane, bytes)
    }

    /// Takes what a sample's record will hold until the ledger has written it, and what comes beside it; blocks until that
    /// is there. Ask for one record at a time, and send what you have it for: the ledger writes it with its neighbours.
    ///
    /// # Errors
    /// [`Stopped`] when the run stops first.
    pub fn record(&mut self, bytes: u64, beside_bytes: u64) -> Result<Record, Stopped> {
        self.credit.record(self.lane, bytes, beside_bytes)
    }

    /// A workspace for this lane's decompressor, empty yet.
    #[must_use]
    pub fn workspace(&self) -> Workspace {
        self.credit.workspace(self.lane)
    }

    /// Sends an item to the worker; blocks while too many wait there.
    ///
    /// # Errors
    /// [`Stopped`] when the run stops first; the item is dropped.
    pub fn send(&mut self, item: I) -> Result<(), Stopped> {
        self.put(Letter::Item(item))
    }

    /// The run's stop: for waits inside a reader.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    pub(super) fn put(&mut self, letter: Letter<I>) -> Result<(), Stopped> {
        if self.stop.is_requested() {
            return Err(Stopped);
        }
        match self.letters.try_send(letter) {
            Ok(()) => {}
            Err(TrySendError::Disconnected(_)) => return Err(Stopped),
            Err(TrySendError::Full(letter)) => select! {
                send(self.letters, letter) -> sent => sent.map_err(|_operator_gone| Stopped)?,
                recv(self.closed) -> _ => return Err(Stopped),
            },
        }
        if let Some(bell) = &self.bell {
            bell.ring();
        }
        Ok(())
    }

    /// An outlet without an operator, for testing readers: [`Collected::items`] gives all that was sent.
    #[must_use]
    pub fn collecting(lane: usize, credit: Credit, stop: Stop) -> (Self, Collected<I>) {
        let (letters, collected) = crossbeam_channel::unbounded();
        let outlet = Self { lane, credit, letters, bell: None, closed: stop.channel(), stop };
        (outlet, Collected { letters: collected })
    }
}

impl<I> fmt::Debug for Outlet<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// What a reader under test has sent.
pub struct Collected<I> {
    letters: Receiver<Letter<I>>,
}

impl<I> Collected<I> {
    /// What came since the last call, in order.
    #[must_use]
    pub fn items(&self) -> Vec<I> {
        let item = |letter| match letter {
            Letter::Item(item) => Some(item),
            Letter::End(_) => None,
        };
        self.letters.try_iter().filter_map(item).collect()
    }
}

impl<I> fmt::Debug for Collected<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collected").field("waiting", &self.letters.len()).finish()
    }
}
