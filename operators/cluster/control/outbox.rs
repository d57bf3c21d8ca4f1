//! What waits to be written to one process: the newest beat first, then what is urgent, then the rest in order.

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use trommel_core::wake::locked;

/// Messages that wait for one process; whoever sends more waits.
const QUEUED: usize = 1 << 14;

#[derive(Default)]
struct Waiting {
    beat: Option<Vec<u8>>,
    urgent: VecDeque<Vec<u8>>,
    queue: VecDeque<Vec<u8>>,
    writing: bool,
    closed: bool,
}

/// Frames for one process and its writer thread.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Outbox {
    /// The beat, in place of one that was not written yet.
    pub(super) fn beat(&self, frame: Vec<u8>) {
        self.change(|waiting| waiting.beat = Some(frame));
    }

    /// A frame that overtakes all but the beat.
    pub(super) fn urgent(&self, frame: Vec<u8>) {
        self.change(|waiting| waiting.urgent.push_back(frame));
    }

    /// A frame in its turn. While too many wait it waits as well, `patience` at most; `false`: still no room.
    pub(super) fn queue(&self, frame: Vec<u8>, patience: Duration) -> bool {
        let full = |waiting: &mut Waiting| waiting.queue.len() >= QUEUED && !waiting.closed;
        let waited = self.changed.wait_timeout_while(locked(&self.waiting), patience, full);
        let (mut waiting, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() && full(&mut waiting) {
            return false;
        }
        if !waiting.closed {
            waiting.queue.push_back(frame);
        }
        drop(waiting);
        self.changed.notify_all();
        true
    }

    /// Writes nothing more.
    pub(super) fn close(&self) {
        self.change(|waiting| {
            *waiting = Waiting { closed: true, writing: waiting.writing, ..Waiting::default() };
        });
    }

    /// Waits until all is written, the outbox is closed, or the deadline has passed.
    pub(super) fn flush(&self, deadline: Instant) {
        let patience = deadline.saturating_duration_since(Instant::now());
        let busy = |waiting: &mut Waiting| {
            let some = waiting.writing || !waiting.urgent.is_empty() || !waiting.queue.is_empty();
            some && !waiting.closed
        };
        drop(self.changed.wait_timeout_while(locked(&self.waiting), patience, busy));
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = locked(&self.waiting);
        if !waiting.closed {
            change(&mut waiting);
        }
        drop(waiting);
        self.changed.notify_all();
    }

    /// The writer thread: until closed, or until writing fails.
    pub(super) fn write(&self, mut stream: &TcpStream) {
        loop {
            let next = {
                let idle = |waiting: &mut Waiting| {
                    waiting.writing = false;
                    let nothing = waiting.beat.is_none() && waiting.urgent.is_empty() && waiting.queue.is_empty();
                    nothing && !waiting.closed
                };
                let mut waiting = locked(&self.waiting);
                waiting.writing = false;
                self.changed.notify_all();
                let waited = self.changed.wait_while(waiting, idle);
                waiting = waited.unwrap_or_else(PoisonError::into_inner);
                let next = waiting.beat.take();
                let next = next.or_else(|| waiting.urgent.pop_front()).or_else(|| waiting.queue.pop_front());
                waiting.writing = next.is_some();
                next
            };
            self.changed.notify_all();
            let Some(frame) = next else { return };
            if stream.write_all(&frame).is_err() {
                self.close(); // the reader of this connection sees why
                let mut waiting = locked(&self.waiting);
                waiting.writing = false;
                drop(waiting);
                self.changed.notify_all();
                return;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn beats_overtake_and_order_is_kept() {
        let outbox = Outbox::default();
        for byte in *b"abc" {
            assert!(outbox.queue(vec![byte], Duration::ZERO));
        }
        outbox.urgent(vec![b'!']);
        outbox.beat(vec![b'1']);
        outbox.beat(vec![b'2']);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut other = listener.accept().unwrap().0;
        std::thread::scope(|scope| {
            scope.spawn(|| outbox.write(&stream));
            outbox.flush(Instant::now() + Duration::from_secs(10));
            outbox.close();
        });
        drop(stream);
        let mut written = String::new();
        other.read_to_string(&mut written).unwrap();
        assert_eq!(written, "2!abc");
    }

    #[test]
    fn a_full_queue_makes_senders_wait_and_a_closed_one_does_not() {
        let outbox = Outbox::default();
        for _ in 0..QUEUED {
            assert!(outbox.queue(Vec::new(), Duration::ZERO));
        }
        assert!(!outbox.queue(Vec::new(), Duration::from_millis(5)));
        outbox.close();
        assert!(outbox.queue(Vec::new(), Duration::ZERO));
    }
}
