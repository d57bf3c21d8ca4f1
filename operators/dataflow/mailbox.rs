//! How results come back to a worker: a channel and a bell that wakes the operator once, however many letters lie there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, TryIter};
use timely::scheduling::SyncActivator;

/// Wakes one operator; rings that were not yet answered are one.
#[derive(Debug)]
pub(super) struct Bell {
    wake: SyncActivator,
    rung: AtomicBool,
}

impl Bell {
    pub(super) fn new(wake: SyncActivator) -> Arc<Self> {
        Arc::new(Self { wake, rung: AtomicBool::new(false) })
    }

    /// Wakes the operator, unless a ring before this one still waits to be answered. Ring after the letter is posted.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            let _worker_gone = self.wake.activate();
        }
    }

    /// The operator's side: call before looking for letters.
    pub(super) fn answer(&self) {
        self.rung.swap(false, Ordering::SeqCst);
    }
}

/// The senders' side of a mailbox.
#[derive(Debug)]
pub(super) struct Post<M> {
    sender: Sender<M>,
    pub(super) bell: Arc<Bell>,
}

impl<M> Clone for Post<M> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), bell: self.bell.clone() }
    }
}

impl<M> Post<M> {
    /// Leaves a letter without ringing. A letter to an operator that is gone is dropped.
    pub(super) fn leave(&self, letter: M) {
        let _operator_gone = self.sender.send(letter);
    }

    /// Leaves a letter and rings.
    pub(super) fn send(&self, letter: M) {
        self.leave(letter);
        self.bell.ring();
    }
}

/// The operator's side of a mailbox.
#[derive(Debug)]
pub(super) struct Mailbox<M> {
    letters: Receiver<M>,
    bell: Arc<Bell>,
}

impl<M> Mailbox<M> {
    pub(super) fn new(wake: SyncActivator) -> (Post<M>, Self) {
        let (sender, letters) = crossbeam_channel::unbounded(); // bounded by the tickets given out, and those by credit
        let bell = Bell::new(wake);
        (Post { sender, bell: bell.clone() }, Self { letters, bell })
    }

    /// Takes all messages that have come since the last call, and lets senders wake the operator again.
    pub(super) fn open(&self) -> TryIter<'_, M> {
        self.bell.answer();
        self.letters.try_iter()
    }
}
