//! A card as an engine: driver and NVRTC through `cudarc`, which opens them at run time, and nvJPEG.
//!
//! The context is the device's primary one, which libtorch uses too. Everything here belongs to the thread that made it.

use std::ffi::{CString, c_void};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use cudarc::driver::result::{self as driver, DriverError};
use cudarc::driver::sys::{self, CUcontext, CUdeviceptr, CUevent, CUevent_flags, CUfunction, CUmodule, CUstream};
use cudarc::nvrtc;

use super::CardError;
use super::grids::BLOCK;
use super::lane::{Engine, Job};
use super::layout::{Kernel, Launch, Room};
use super::nvjpeg::Decoder;

/// What a card's threads are called.
const PRELUDE: &str = r#"#define DEVICE static __device__ __forceinline__
#define KERNEL extern "C" __global__
#define BLOCK_SIZE 128u
#define BLOCK_X blockIdx.x
#define BLOCK_Y blockIdx.y
#define BLOCK_Z blockIdx.z
#define THREAD_X threadIdx.x
"#;

fn failed(what: &'static str) -> impl Fn(DriverError) -> CardError {
    move |error| CardError::Driver { what, why: format!("{error:?}") }
}

/// A device, and its kernels.
#[derive(Clone, Debug)]
pub(super) struct Device {
    ordinal: i32,
    /// Machine code for it.
    cubin: Vec<u8>,
}

impl Device {
    /// Finds device `ordinal` and compiles the kernels for it.
    pub fn open(ordinal: usize) -> Result<Self, CardError> {
        // cudarc panics where a library lacks a function.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_or_panic(ordinal)));
        opened.unwrap_or_else(|_| Err(CardError::Missing { library: "CUDA", why: "a function is not there".into() }))
    }

    fn open_or_panic(ordinal: usize) -> Result<Self, CardError> {
        let missing = |library| CardError::Missing { library, why: "no such library is found".into() };
        // SAFETY: their constructors are made to be run when they are opened.
        let (has_driver, has_nvrtc) = unsafe { (sys::is_culib_present(), cudarc::nvrtc::sys::is_culib_present()) };
        if !has_driver {
            return Err(missing("CUDA driver"));
        }
        if !has_nvrtc {
            return Err(missing("NVRTC"));
        }
        driver::init().map_err(failed("cuInit"))?;
        let ordinal = i32::try_from(ordinal).unwrap_or(i32::MAX);
        let device = driver::device::get(ordinal).map_err(failed("cuDeviceGet"))?;
        use sys::CUdevice_attribute as attribute;
        let [major, minor] = [
            attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        ]
        // SAFETY: the device was given by the driver.
        .map(|which| unsafe { driver::device::get_attribute(device, which) }.map_err(failed("cuDeviceGetAttribute")));
        Ok(Self { ordinal, cubin: compile(major?, minor?)? })
    }

    /// Takes memory and a stream for a lane on the calling thread.
    pub fn engine(&self, room: Room) -> Result<Cuda, CardError> {
        let opened = catch_unwind(AssertUnwindSafe(|| Cuda::new(self, room)));
        opened.unwrap_or_else(|_| Err(CardError::Missing { library: "CUDA", why: "a function is not there".into() }))
    }

    /// Makes the device's primary context the calling thread's.
    pub fn enter(&self) -> Result<CUcontext, CardError> {
        let device = driver::device::get(self.ordinal).map_err(failed("cuDeviceGet"))?;
        // SAFETY: the context is retained for the process's life, as libtorch does.
        unsafe {
            let context = driver::primary_ctx::retain(device).map_err(failed("cuDevicePrimaryCtxRetain"))?;
            driver::ctx::set_current(context).map_err(failed("cuCtxSetCurrent"))?;
            Ok(context)
        }
    }
}

/// The kernels' machine code for a compute capability.
pub(super) fn compile(major: i32, minor: i32) -> Result<Vec<u8>, CardError> {
    use nvrtc::result::{compile_program, create_program, destroy_program, get_program_log};
    let failed = |why: String| CardError::Kernels { why };
    let source = CString::new(format!("{PRELUDE}{}", include_str!("kernels.cu"))).map_err(|e| failed(e.to_string()))?;
    let program = create_program(&source, Some(c"kernels.cu")).map_err(|error| failed(format!("{error:?}")))?;
    // SAFETY: the program lives until it is destroyed at the end; the buffer is as long as the library says.
    unsafe {
        let compiled = compile_program(program, &[format!("--gpu-architecture=sm_{major}{minor}")]);
        let result = match compiled {
            Err(error) => {
                let log = get_program_log(program).unwrap_or_default();
                let log: Vec<u8> = log.into_iter().take_while(|&c| c != 0).map(|c| c as u8).collect();
                Err(failed(format!("{error:?}: {}", String::from_utf8_lossy(&log).trim())))
            }
            Ok(()) => {
                let mut size = 0;
                let sized = nvrtc::sys::nvrtcGetCUBINSize(program, &raw mut size).result();
                let mut cubin = vec![0u8; size];
                let got = sized.and_then(|()| nvrtc::sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast()).result());
                got.map(|()| cubin).map_err(|error| failed(format!("{error:?}")))
            }
        };
        let _freed = destroy_program(program);
        result
    }
}

/// Host memory that the card copies from and to by itself.
struct Pinned {
    at: *mut u8,
    bytes: usize,
}

impl Pinned {
    fn new(bytes: u64) -> Result<Self, CardError> {
        let bytes = bytes as usize;
        // SAFETY: bytes have no invalid values, and are set below.
        let at = unsafe { driver::malloc_host(bytes, 0) }.map_err(failed("cuMemHostAlloc"))?.cast::<u8>();
        // SAFETY: so many bytes were given.
        unsafe { at.write_bytes(0, bytes) };
        Ok(Self { at, bytes })
    }

    fn all(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes were given and set; nobody else has the pointer, and no copy is under way.
        unsafe { slice::from_raw_parts_mut(self.at, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: given by the driver, freed once.
        let _gone = unsafe { driver::free_host(self.at.cast()) };
    }
}

/// See the module.
pub(super) struct Cuda {
    room: Room,
    stream: CUstream,
    /// What is waited for: a thread that waits for a stream itself keeps a core busy, which others decode on.
    done: CUevent,
    module: CUmodule,
    functions: [CUfunction; 3],
    arena: CUdeviceptr,
    upload: Pinned,
    landing: Pinned,
    decoder: Option<Decoder>,
}

impl Cuda {
    fn new(device: &Device, room: Room) -> Result<Self, CardError> {
        device.enter()?;
        let decoder = Some(Decoder::new()?);
        // SAFETY: the cubin is what NVRTC gave; functions are asked of a loaded module.
        let (module, functions) = unsafe {
            let module = driver::module::load_data(device.cubin.as_ptr().cast()).map_err(failed("cuModuleLoadData"))?;
            let mut functions = [std::ptr::null_mut(); 3];
            for (function, kernel) in functions.iter_mut().zip(Kernel::ALL) {
                let name = CString::new(kernel.name()).unwrap_or_default();
                *function = driver::module::get_function(module, name).map_err(failed("cuModuleGetFunction"))?;
            }
            (module, functions)
        };
        let (upload, landing) = (Pinned::new(room.upload)?, Pinned::new(room.download)?);
        let stream = urgent_stream()?;
        let done = driver::event::create(CUevent_flags::CU_EVENT_BLOCKING_SYNC).map_err(failed("cuEventCreate"))?;
        // SAFETY: what lies in the arena is only read after it was written.
        let arena = unsafe { driver::malloc_sync(room.arena as usize) }.map_err(failed("cuMemAlloc"))?;
        Ok(Self { room, stream, done, module, functions, arena, upload, landing, decoder })
    }

    fn synchronise(&self) -> Result<(), CardError> {
        // SAFETY: the event and the stream live.
        unsafe { finish(self.stream, self.done) }
    }
}

/// A stream whose small kernels go before those that wait on others: an embedder's take long, and pictures are what it waits for.
fn urgent_stream() -> Result<CUstream, CardError> {
    let mut stream = std::ptr::null_mut();
    let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
    // SAFETY: the place is writable. The driver takes the nearest priority that a card has; the smallest number goes first.
    unsafe { sys::cuStreamCreateWithPriority(&raw mut stream, flags, i32::MIN) }
        .result()
        .map_err(failed("cuStreamCreateWithPriority"))?;
    Ok(stream)
}

/// Waits for what is on a stream.
///
/// # Safety
/// The stream and the event live.
unsafe fn finish(stream: CUstream, done: CUevent) -> Result<(), CardError> {
    // SAFETY: the caller's promise.
    unsafe {
        driver::event::record(done, stream).map_err(failed("cuEventRecord"))?;
        sys::cuEventSynchronize(done).result().map_err(failed("cuEventSynchronize"))
    }
}

impl Engine for Cuda {
    fn room(&self) -> Room {
        self.room
    }

    fn upload(&mut self) -> &mut [u8] {
        self.upload.all()
    }

    fn decode(&mut self, jobs: &[Job<'_>]) -> Result<Vec<bool>, CardError> {
        let (arena, stream, done) = (self.arena, self.stream, self.done);
        let Some(decoder) = &mut self.decoder else { return Ok(vec![false; jobs.len()]) };
        // SAFETY: the event and the stream live.
        decoder.decode(jobs, arena, stream.cast(), || unsafe { finish(stream, done) })
    }

    fn run(&mut self, bytes: u64, launches: &[Launch]) -> Result<(), CardError> {
        let upload = &self.upload.all()[..bytes as usize];
        // SAFETY: the pinned bytes stay as they are until the stream is waited for; they fit into the arena's beginning.
        unsafe { driver::memcpy_htod_async(self.arena, upload, self.stream) }.map_err(failed("cuMemcpyHtoDAsync"))?;
        for launch in launches {
            let function = self.functions[launch.kernel as usize];
            let [x, y, z] = launch.grid;
            let (mut arena, mut descriptors) = (self.arena, launch.descriptors);
            let mut arguments = [(&raw mut arena).cast::<c_void>(), (&raw mut descriptors).cast::<c_void>()];
            // SAFETY: the kernels take the arena and the place of their descriptors, which lie in it with all that they name.
            unsafe { driver::launch_kernel(function, (x, y, z), (BLOCK, 1, 1), 0, self.stream, &mut arguments) }
                .map_err(failed("cuLaunchKernel"))?;
        }
        Ok(())
    }

    fn download(&mut self, part: Range<u64>) -> Result<&[u8], CardError> {
        let bytes = ((part.end - part.start) as usize).min(self.landing.bytes);
        if bytes > 0 {
            let (arena, stream) = (self.arena, self.stream);
            let landing = &mut self.landing.all()[..bytes];
            // SAFETY: the part lies in the arena; the stream is waited for before anybody reads.
            unsafe { driver::memcpy_dtoh_async(landing, arena + part.start, stream) }
                .map_err(failed("cuMemcpyDtoHAsync"))?;
        }
        self.synchronise()?;
        Ok(&self.landing.all()[..bytes])
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // SAFETY: the stream lives.
        let _done = unsafe { driver::stream::synchronize(self.stream) };
        // The engines may have written until here, with its state and into the arena.
        self.decoder = None;
        // SAFETY: each was given by the driver, and goes once, when nothing is under way.
        unsafe {
            let _freed = driver::free_sync(self.arena);
            let _gone = driver::event::destroy(self.done);
            let _gone = driver::stream::destroy(self.stream);
            let _unloaded = driver::module::unload(self.module);
        }
    }
}
