//! The kernels of `kernels.cu`, compiled by the C++ compiler, over plain memory.
#![forbid(missing_docs)]

unsafe extern "C" {
    fn trommel_stand_in(kernel: i32, arena: *mut u8, descriptors: u64, grid: *const u32);
}

/// Runs kernel 0 (colour), 1 (rows) or 2 (columns) over a grid of blocks, on the descriptors at byte `descriptors` of `arena`.
///
/// # Safety
/// The descriptors and all that they name lie in `arena`.
pub unsafe fn run(kernel: i32, arena: &mut [u8], descriptors: u64, grid: [u32; 3]) {
    assert!((0..3).contains(&kernel) && descriptors < arena.len() as u64);
    // SAFETY: the caller's promise.
    unsafe { trommel_stand_in(kernel, arena.as_mut_ptr(), descriptors, grid.as_ptr()) }
}
