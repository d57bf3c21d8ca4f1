//! Tiles of AMX (Intel's Xeon from Sapphire Rapids on): registers of 16 rows of 64 bytes, of which one instruction multiplies 16 rows' codes with 16 points', 64 codes each.
//!
//! This is assembly, since Rust has the intrinsics on nightly alone. Linux grants tiles to a process that asks for them, and a thread configures them before it uses them.

use std::arch::asm;
use std::arch::x86_64::{_mm512_set1_epi32, _mm512_store_si512};
use std::marker::PhantomData;

use super::CHUNK;

/// Codes that a tile takes of a row or point: both are filled up to whole tiles.
pub(super) const CODES: usize = 64;

/// Rows whose sums lie together: two tiles of them.
pub(super) const ROWS: usize = 32;

/// Fewest rows for which tiles are faster: they multiply 1,024 codes a cycle, of [`TILE`] rows always, and `VPDPBUSD` 128.
pub(super) const FEWEST_ROWS: usize = 5;

/// Rows of a tile.
const TILE: usize = 16;

/// The tiles of this thread, configured until this is dropped: whole ones, all eight.
#[derive(Debug)]
pub(super) struct Tiles {
    /// Another thread's are not configured.
    of_this_thread: PhantomData<*const ()>,
}

/// What `LDTILECFG` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    first_row: u8,
    reserved: [u8; 14],
    bytes_a_row: [u16; 16],
    rows: [u8; 16],
}

/// What the sums of each row start at, once for each point of a tile.
#[derive(Default)]
#[repr(C, align(64))]
struct Starts([[i32; TILE]; TILE]);

impl Tiles {
    /// Configures them.
    ///
    /// # Safety
    /// They [are there](are_there), and nobody else uses those of this thread.
    pub unsafe fn configured() -> Self {
        let (mut bytes_a_row, mut rows) = ([0; 16], [0; 16]);
        bytes_a_row[..8].fill(CODES as u16);
        rows[..8].fill(TILE as u8);
        let config = Config { palette: 1, first_row: 0, reserved: [0; 14], bytes_a_row, rows };
        // SAFETY: 64 bytes, as palette 1 has them.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, preserves_flags, readonly)) };
        Self { of_this_thread: PhantomData }
    }

    /// Sums of some rows with a chunk of points, beginning at `firsts`. Rows and points have `width` codes, whole tiles of them.
    ///
    /// # Safety
    /// From `rows` on lie i8\[[`ROWS`], width\], from `points` on u8\[width / 4, [`CHUNK`], 4\], and `out` is memory for i32\[[`ROWS`], [`CHUNK`]\].
    pub unsafe fn multiply(&self, rows: *const i8, firsts: &[i32], width: usize, points: *const u8, out: *mut i32) {
        assert!(width.is_multiple_of(CODES) && width > 0, "whole tiles");
        let mut starts = Starts::default();
        // A tile of rows with all points, so that rows are read once. `line` is 64 bytes: a row of a tile in `starts`, and a quarter of what lies between two rows of `points` and of `out`.
        for (at, firsts) in firsts.chunks(TILE).take(ROWS / TILE).enumerate() {
            starts.spread(firsts);
            // SAFETY: as the caller says, and a step of points and a row of sums have 256 bytes.
            unsafe {
                asm!(
                    "tileloadd tmm0, [{starts} + {line}]",
                    "tileloadd tmm1, [{starts} + {line}]",
                    "tileloadd tmm2, [{starts} + {line}]",
                    "tileloadd tmm3, [{starts} + {line}]",
                    "2:",
                    "tileloadd tmm4, [{rows} + {width}]",
                    "tileloadd tmm5, [{points} + 4*{line}]",
                    "tdpbsud tmm0, tmm4, tmm5",
                    "tileloadd tmm6, [{points} + 4*{line} + 64]",
                    "tdpbsud tmm1, tmm4, tmm6",
                    "tileloadd tmm7, [{points} + 4*{line} + 128]",
                    "tdpbsud tmm2, tmm4, tmm7",
                    "tileloadd tmm5, [{points} + 4*{line} + 192]",
                    "tdpbsud tmm3, tmm4, tmm5",
                    "add {rows}, 64",
                    "add {points}, 4096",
                    "dec {left}",
                    "jnz 2b",
                    "tilestored [{out} + 4*{line}], tmm0",
                    "tilestored [{out} + 4*{line} + 64], tmm1",
                    "tilestored [{out} + 4*{line} + 128], tmm2",
                    "tilestored [{out} + 4*{line} + 192], tmm3",
                    starts = in(reg) starts.0.as_ptr(),
                    line = in(reg) 64usize,
                    width = in(reg) width,
                    rows = inout(reg) rows.add(TILE * at * width) => _,
                    points = inout(reg) points => _,
                    left = inout(reg) width / CODES => _,
                    out = in(reg) out.add(TILE * CHUNK * at),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    }
}

impl Starts {
    fn spread(&mut self, firsts: &[i32]) {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was just seen.
            return unsafe { self.spread_512(firsts) };
        }
        // Only an emulator has tiles without it.
        self.0.iter_mut().zip(firsts).for_each(|(start, first)| *start = [*first; TILE]);
    }

    /// A tile is loaded from stores that are still on their way if these are of whole lines, and waits for them otherwise.
    #[target_feature(enable = "avx512f")]
    fn spread_512(&mut self, firsts: &[i32]) {
        for (start, first) in self.0.iter_mut().zip(firsts) {
            // SAFETY: 64 aligned bytes.
            unsafe { _mm512_store_si512(start.as_mut_ptr().cast(), _mm512_set1_epi32(*first)) };
        }
    }
}

impl Drop for Tiles {
    /// Without their contents a thread's state is small again when the system puts it away.
    fn drop(&mut self) {
        // SAFETY: whoever made this said that the instruction is there.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// Whether the processor has tiles that multiply integers, and the system lets this process use them. Asks it once.
#[cfg(target_os = "linux")]
pub(super) fn are_there() -> bool {
    use std::sync::OnceLock;

    /// `arch_prctl`: asks for a part of the processor's state that the system does not give to everybody.
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    /// The number of that part: what tiles hold.
    const TILE_DATA: libc::c_ulong = 18;
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        // SAFETY: a plain call, which changes nothing but what this process may use.
        has_tiles() && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) } == 0
    })
}

/// Whom one would have to ask elsewhere is not known here.
#[cfg(not(target_os = "linux"))]
pub(super) fn are_there() -> bool {
    false
}

/// AMX-TILE and AMX-INT8 of the processor, and both parts of their state among those that the system keeps.
#[cfg(target_os = "linux")]
fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    #[target_feature(enable = "xsave")]
    fn kept() -> u64 {
        // SAFETY: register 0 is there with the feature.
        unsafe { _xgetbv(0) }
    }
    let has = __cpuid(0).eax >= 7 && (__cpuid_count(7, 0).edx >> 24) & 0b11 == 0b11;
    // SAFETY: the feature was just seen.
    has && is_x86_feature_detected!("xsave") && (unsafe { kept() } >> 17) & 0b11 == 0b11
}

#[cfg(all(test, target_os = "linux"))]
pub(super) mod emulator;
