//! An allocator that knows what the thread at hand holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
}

/// Notes that the thread holds so many bytes more. A thread that is about to end counts no more.
fn note(bytes: i64) {
    _ = HELD.try_with(|held| {
        let now = held.get().wrapping_add(bytes);
        held.set(now);
        _ = MOST.try_with(|most| most.set(most.get().max(now)));
    });
}

// SAFETY: all is handed to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as i64));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // A moved block is there twice while it is copied; one that grows in its place is not, and is counted so too.
        note(size as i64);
        // SAFETY: the caller's promise is handed on.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        note(-(layout.size() as i64));
        moved
    }
}

/// What `run` gives, and the most bytes that it held at one time on this thread.
pub fn most_held<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let before = HELD.get();
    MOST.set(before);
    let out = run();
    (out, u64::try_from(MOST.get() - before).unwrap_or(0))
}
