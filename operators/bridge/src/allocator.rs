//! The C library's allocator, from which libtorch has a CPU's tensors.

use tch::Device;

/// Where tensors lie on a CPU, has freed memory kept for those that come next, up to 64 MiB of each thread's; tensors above 32 MiB are the system's in any
/// case. A card's tensors have an allocator of their own.
///
/// By itself glibc gives memory back as soon as more lies free than twice its largest block: a forward pass on a CPU then has its activations from the
/// system again and again, page by page, which takes five percent of its time. Both numbers are the largest that glibc would choose by itself.
pub fn keep_freed_memory(device: Device) {
    if device != Device::Cpu {
        return;
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt may be called at any time, by any thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::hint::black_box;

    use super::{Device, keep_freed_memory};

    /// Pages that the calling thread has had from the system.
    fn pages() -> i64 {
        // SAFETY: zeros are a valid `rusage`, and the call fills the one that it is given.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
            usage.ru_minflt
        }
    }

    /// 50 MiB at a time, of which glibc by itself keeps the 20 MiB that are twice the largest block.
    #[test]
    fn what_a_pass_has_freed_serves_the_next_one() {
        keep_freed_memory(Device::Cpu);
        let pass = || {
            let blocks: Vec<Vec<u8>> = (0..5).map(|_| black_box(vec![1; 10 << 20])).collect();
            drop(black_box(blocks));
        };
        pass();
        let before = pages();
        (0..4).for_each(|_| pass());
        assert!(pages() - before < 1000, "{} pages for 200 MiB", pages() - before);
    }
}
