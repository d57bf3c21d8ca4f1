//! An engine of plain memory. Its planes come from libjpeg-turbo's C code, or for grey pictures from the CPU decoder.

use std::ffi::{c_int, c_uchar, c_ulong, c_void};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mozjpeg_sys as _; // links the functions below

use super::super::CardError;
use super::super::lane::{Engine, Job};
use super::super::layout::{Launch, Plane, Room};
use super::super::plan::Sampling;
use crate::{Limits, decode_rgb};

/// Where planes come from.
pub enum Planes {
    /// libjpeg-turbo's own C code, as mozjpeg has it.
    Turbo,
    /// The same, but one sample of the last plane is another.
    Spoilt,
    /// Grey pictures only; others are refused.
    Grey,
}

pub struct StandIn {
    room: Room,
    arena: Vec<u8>,
    upload: Vec<u8>,
    planes: Planes,
    /// Calls after which every call fails.
    fails_after: Option<usize>,
    pub decodes: Arc<AtomicUsize>,
    pub launches: Arc<AtomicUsize>,
    /// Blocks of these.
    pub blocks: Arc<AtomicUsize>,
}

impl StandIn {
    pub fn new(room: Room, planes: Planes) -> Self {
        // Whatever is read without having been written shows.
        let (arena, upload) = (vec![0xa5; room.arena as usize], vec![0; room.upload as usize]);
        let [decodes, launches, blocks] = std::array::from_fn(|_| Arc::default());
        Self { room, arena, upload, planes, fails_after: None, decodes, launches, blocks }
    }

    /// The same, failing after so many calls.
    pub fn failing(mut self, after: Option<usize>) -> Self {
        self.fails_after = after;
        self
    }
}

impl Engine for StandIn {
    fn room(&self) -> Room {
        self.room
    }

    fn upload(&mut self) -> &mut [u8] {
        &mut self.upload
    }

    fn decode(&mut self, jobs: &[Job<'_>]) -> Result<Vec<bool>, CardError> {
        let before = self.decodes.fetch_add(1, Ordering::Relaxed);
        if self.fails_after.is_some_and(|calls| before >= calls) {
            return Err(CardError::Nvjpeg { what: "a stand-in", status: 6 });
        }
        let arena = &mut self.arena;
        let decode = |job: &Job<'_>| match &self.planes {
            Planes::Turbo => decode_planes(job, arena),
            Planes::Spoilt => {
                let decoded = decode_planes(job, arena);
                let place = &mut arena[job.planes[job.planes.len() - 1].offset as usize];
                *place = place.wrapping_add(40);
                decoded
            }
            Planes::Grey if job.planes.len() == 1 => {
                let (plane, rgb) = (job.planes[0], decode_rgb(job.stream, &Limits::default()).unwrap());
                for (row, line) in rgb.pixels.chunks_exact(plane.width as usize * 3).enumerate() {
                    let at = plane.offset as usize + row * plane.pitch as usize;
                    let grey = line.chunks_exact(3).map(|pixel| pixel[0]);
                    arena[at..].iter_mut().zip(grey).for_each(|(place, grey)| *place = grey);
                }
                true
            }
            Planes::Grey => false,
        };
        Ok(jobs.iter().map(decode).collect())
    }

    fn run(&mut self, bytes: u64, launches: &[Launch]) -> Result<(), CardError> {
        self.arena[..bytes as usize].copy_from_slice(&self.upload[..bytes as usize]);
        for launch in launches {
            self.launches.fetch_add(1, Ordering::Relaxed);
            self.blocks.fetch_add(launch.grid.iter().map(|&side| side as usize).product(), Ordering::Relaxed);
            // SAFETY: descriptors name places in an arena of the size that they were laid out for.
            unsafe {
                trommel_card_stand_in::run(launch.kernel as i32, &mut self.arena, launch.descriptors, launch.grid)
            }
        }
        Ok(())
    }

    fn download(&mut self, part: Range<u64>) -> Result<&[u8], CardError> {
        assert!(part.end - part.start <= self.room.download);
        Ok(&self.arena[part.start as usize..part.end as usize])
    }
}

type Handle = *mut c_void;

unsafe extern "C" {
    fn tjInitDecompress() -> Handle;
    fn tjDecompressToYUVPlanes(
        handle: Handle,
        jpeg: *const c_uchar,
        bytes: c_ulong,
        planes: *const *mut c_uchar,
        width: c_int,
        strides: *const c_int,
        height: c_int,
        flags: c_int,
    ) -> c_int;
    fn tjDestroy(handle: Handle) -> c_int;
}

const ACCURATE_DCT: c_int = 4096;

/// Decodes into the planes' places in the arena; whether it did so without a warning.
fn decode_planes(job: &Job<'_>, arena: &mut [u8]) -> bool {
    let places: Vec<*mut c_uchar> = job.planes.iter().map(|plane| &raw mut arena[plane.offset as usize]).collect();
    let strides: Vec<c_int> = job.planes.iter().map(|plane| plane.pitch as c_int).collect();
    // SAFETY: signatures of turbojpeg.h; every plane has room for whole blocks.
    unsafe {
        let handle = tjInitDecompress();
        let (bytes, length) = (job.stream.as_ptr(), job.stream.len() as c_ulong);
        let status =
            tjDecompressToYUVPlanes(handle, bytes, length, places.as_ptr(), 0, strides.as_ptr(), 0, ACCURATE_DCT);
        tjDestroy(handle);
        status == 0
    }
}

/// Whether libjpeg decodes a picture without a warning.
pub fn is_whole(jpeg: &[u8]) -> bool {
    let plane = |at: u64| Plane { offset: at << 20, pitch: 1024, width: 1024, height: 1024 };
    let planes = [plane(0), plane(1), plane(2)];
    let stream = bytes::Bytes::copy_from_slice(jpeg);
    let job = Job { stream: &stream, sampling: Sampling::S444, planes: &planes };
    decode_planes(&job, &mut vec![0; 3 << 20])
}

/// Encodes RGB, u8\[height, width, 3\], in 4:4:4, 4:2:2, 4:2:0, grey, 4:4:0 or 4:1:1, by their numbers in turbojpeg.
pub fn encode(rgb: &[u8], width: usize, height: usize, sampling: usize, quality: u8) -> Vec<u8> {
    use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};
    let of = [
        Subsampling::S444,
        Subsampling::S422,
        Subsampling::S420,
        Subsampling::S444,
        Subsampling::S440,
        Subsampling::S411,
    ];
    let encoder = Encoder::new(rgb, width, height, PixelFormat::Rgb).quality(quality).subsampling(of[sampling]);
    encoder.grayscale_from_color(sampling == 3).encode().unwrap()
}
