//! Buffers of views that were read, for the views that come out of a card next.
//!
//! A card's lanes make thousands of views a second, of 150 kB and more, and the embedder's thread lets go of them. Blocks of that size the C library
//! has from the system and gives back to it, page by page. Here they are kept, within what those who make views have set aside.

use std::sync::Mutex;

use trommel_core::wake::locked;

static KEPT: Mutex<Kept> = Mutex::new(Kept { buffers: Vec::new(), bytes: 0, most_bytes: 0 });

#[derive(Debug, Default)]
struct Kept {
    buffers: Vec<Vec<u8>>,
    bytes: u64,
    most_bytes: u64,
}

impl Kept {
    fn put(&mut self, buffer: Vec<u8>) {
        let bytes = self.bytes + buffer.capacity() as u64;
        if !buffer.is_empty() && bytes <= self.most_bytes {
            self.bytes = bytes;
            self.buffers.push(buffer);
        }
    }

    /// One of so many bytes, the last that was put.
    fn take(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let at = self.buffers.iter().rposition(|buffer| buffer.len() == bytes)?;
        let buffer = self.buffers.swap_remove(at);
        self.bytes -= buffer.capacity() as u64;
        Some(buffer)
    }

    fn keep_within(&mut self, most_bytes: u64) {
        self.most_bytes = most_bytes;
        while self.bytes > most_bytes
            && let Some(buffer) = self.buffers.pop()
        {
            self.bytes -= buffer.capacity() as u64;
        }
    }
}

/// Memory for buffers of views, as long as this is there.
#[derive(Debug)]
pub struct SetAside(u64);

impl SetAside {
    /// Sets so many bytes aside, beside what others have.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let mut kept = locked(&KEPT);
        let most_bytes = kept.most_bytes + bytes;
        kept.keep_within(most_bytes);
        Self(bytes)
    }
}

impl Drop for SetAside {
    fn drop(&mut self) {
        let mut kept = locked(&KEPT);
        let most_bytes = kept.most_bytes.saturating_sub(self.0);
        kept.keep_within(most_bytes);
    }
}

/// Gives the buffers of views back, for those that come next: as many as there is memory set aside for.
pub fn recycle(views: Vec<Vec<u8>>) {
    let mut kept = locked(&KEPT);
    views.into_iter().for_each(|view| kept.put(view));
}

/// A copy of a view's bytes, in a buffer that was given back if there is one.
#[must_use]
pub fn copied(bytes: &[u8]) -> Vec<u8> {
    let buffer = locked(&KEPT).take(bytes.len());
    match buffer {
        Some(mut buffer) => {
            buffer.copy_from_slice(bytes);
            buffer
        }
        None => bytes.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::Kept;

    #[test]
    fn what_is_kept_is_within_what_was_set_aside() {
        let mut kept = Kept::default();
        kept.put(vec![1; 10]);
        assert_eq!((kept.buffers.len(), kept.take(10)), (0, None), "nothing was set aside");
        kept.keep_within(35);
        for (value, bytes) in [(1, 10), (2, 0), (3, 20), (4, 10)] {
            kept.put(vec![value; bytes]);
        }
        assert_eq!((kept.buffers.len(), kept.bytes), (2, 30), "the last has no room, and one is empty");
        kept.put(vec![5; 5]);
        assert_eq!((kept.take(20), kept.take(20), kept.take(11)), (Some(vec![3; 20]), None, None));
        assert_eq!((kept.take(5), kept.bytes), (Some(vec![5; 5]), 10));
        kept.put(vec![6; 20]);
        kept.keep_within(20);
        assert_eq!((kept.bytes, kept.take(10)), (10, Some(vec![1; 10])));
        assert_eq!(kept.bytes, 0);
    }
}
