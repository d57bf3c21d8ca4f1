//! nvJPEG, opened at run time: the few functions that decode batches of JPEGs into planes.
//!
//! The declarations follow `nvjpeg.h` of CUDA 12 and 13.

use std::cmp::Reverse;
use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

use libloading::Library;

use super::CardError;
use super::halves::in_halves;
use super::lane::{GROUP, Job};

/// `NVJPEG_BACKEND_HARDWARE`: the card's JPEG engines (A100, H100 and later). The other back ends decode on the multiprocessors, by another
/// inverse DCT: a few values of a picture are 1 away.
const ENGINES: c_int = 3;

/// `NVJPEG_OUTPUT_YUV`: planes as they are stored.
const OUTPUT_YUV: c_int = 1;

/// `NVJPEG_CSS_444`: the sampling that takes most memory, so that one allocation serves pictures of every sampling.
const CSS_444: c_int = 0;

/// Width and height of the pictures that memory is taken for at the start. Larger ones make the library take more when they come.
const EXPECTED_SIZE: [c_int; 2] = [640, 480];

type Handle = *mut c_void;
type State = *mut c_void;
type Stream = *mut c_void;

/// `nvjpegImage_t`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Image {
    channel: [*mut c_uchar; 4],
    pitch: [usize; 4],
}

/// The functions, with the signatures of `nvjpeg.h`.
struct Api {
    create_ex: unsafe extern "C" fn(c_int, *mut c_void, *mut c_void, c_uint, *mut Handle) -> c_int,
    destroy: unsafe extern "C" fn(Handle) -> c_int,
    state_create: unsafe extern "C" fn(Handle, *mut State) -> c_int,
    state_destroy: unsafe extern "C" fn(State) -> c_int,
    stream_create: unsafe extern "C" fn(Handle, *mut Stream) -> c_int,
    stream_destroy: unsafe extern "C" fn(Stream) -> c_int,
    parse_header: unsafe extern "C" fn(Handle, *const c_uchar, usize, Stream) -> c_int,
    supported: unsafe extern "C" fn(Handle, Stream, *mut c_int) -> c_int,
    initialize: unsafe extern "C" fn(Handle, State, c_int, c_int, c_int) -> c_int,
    decode: unsafe extern "C" fn(Handle, State, *const *const c_uchar, *const usize, *mut Image, *mut c_void) -> c_int,
    property: unsafe extern "C" fn(c_int, *mut c_int) -> c_int,
    /// Older libraries have no such function.
    pre_allocate: Option<unsafe extern "C" fn(Handle, State, c_int, c_int, c_int, c_int, c_int) -> c_int>,
}

impl Api {
    fn open() -> Result<Self, CardError> {
        let missing = |why| CardError::Missing { library: "nvJPEG", why };
        let mut tried = Vec::new();
        for name in ["libnvjpeg.so.13", "libnvjpeg.so.12", "libnvjpeg.so"] {
            // SAFETY: its constructors are made to be run when it is opened.
            match unsafe { Library::new(name) } {
                Ok(library) => return Self::of(library).map_err(|error| missing(format!("{name}: {error}"))),
                Err(error) => tried.push(error.to_string()),
            }
        }
        Err(missing(tried.join("; ")))
    }

    fn of(library: Library) -> Result<Self, libloading::Error> {
        // SAFETY: the fields' types are the functions' signatures in nvjpeg.h; the library is never closed.
        let api = unsafe {
            Self {
                create_ex: *library.get(b"nvjpegCreateEx\0")?,
                destroy: *library.get(b"nvjpegDestroy\0")?,
                state_create: *library.get(b"nvjpegJpegStateCreate\0")?,
                state_destroy: *library.get(b"nvjpegJpegStateDestroy\0")?,
                stream_create: *library.get(b"nvjpegJpegStreamCreate\0")?,
                stream_destroy: *library.get(b"nvjpegJpegStreamDestroy\0")?,
                parse_header: *library.get(b"nvjpegJpegStreamParseHeader\0")?,
                supported: *library.get(b"nvjpegDecodeBatchedSupported\0")?,
                initialize: *library.get(b"nvjpegDecodeBatchedInitialize\0")?,
                decode: *library.get(b"nvjpegDecodeBatched\0")?,
                property: *library.get(b"nvjpegGetProperty\0")?,
                pre_allocate: library.get(b"nvjpegDecodeBatchedPreAllocate\0").ok().map(|function| *function),
            }
        };
        std::mem::forget(library);
        Ok(api)
    }
}

fn api() -> Result<&'static Api, CardError> {
    static API: OnceLock<Result<Api, CardError>> = OnceLock::new();
    API.get_or_init(Api::open).as_ref().map_err(Clone::clone)
}

fn check(what: &'static str, status: c_int) -> Result<(), CardError> {
    if status == 0 { Ok(()) } else { Err(CardError::Nvjpeg { what, status }) }
}

/// `13.0.2`.
///
/// # Errors
/// No library.
pub fn version() -> Result<String, CardError> {
    let api = api()?;
    let mut numbers = [0; 3];
    for (which, number) in (0..).zip(&mut numbers) {
        // SAFETY: the place is writable.
        check("nvjpegGetProperty", unsafe { (api.property)(which, number) })?;
    }
    Ok(numbers.map(|number| number.to_string()).join("."))
}

/// A decoder of batches. It belongs to the thread that made it, whose CUDA context is current.
pub(super) struct Decoder {
    api: &'static Api,
    handle: Handle,
    state: State,
    parser: Stream,
    /// The batch that the state is initialised for.
    batch: usize,
}

impl Decoder {
    /// # Errors
    /// No library, or a card without engines.
    pub fn new() -> Result<Self, CardError> {
        let api = api()?;
        let null = ptr::null_mut();
        let mut decoder = Self { api, handle: null, state: null, parser: null, batch: 0 };
        // SAFETY: null allocators mean cudaMalloc and cudaHostAlloc; the places are writable; what was made is destroyed once, on drop.
        unsafe {
            check("nvjpegCreateEx", (api.create_ex)(ENGINES, null, null, 0, &raw mut decoder.handle))?;
            check("nvjpegJpegStateCreate", (api.state_create)(decoder.handle, &raw mut decoder.state))?;
            check("nvjpegJpegStreamCreate", (api.stream_create)(decoder.handle, &raw mut decoder.parser))?;
        }
        decoder.take_memory();
        Ok(decoder)
    }

    /// Takes the memory of a whole group now. Otherwise pictures of varying sizes make nvJPEG free and allocate during the run, and each
    /// of that waits for the whole card. It is a hint: without it batches come out all the same.
    fn take_memory(&self) {
        let Some(pre_allocate) = self.api.pre_allocate else { return };
        let (count, [width, height]) = (c_int::try_from(GROUP).unwrap_or(c_int::MAX), EXPECTED_SIZE);
        // SAFETY: handle and state live. The engines' back end is the one that this function is for.
        let status = unsafe { pre_allocate(self.handle, self.state, count, width, height, CSS_444, OUTPUT_YUV) };
        if let Err(error) = check("nvjpegDecodeBatchedPreAllocate", status) {
            tracing::debug!("{error}; nvJPEG takes memory as pictures come");
        }
    }

    /// Decodes jobs into the arena that begins at `arena` on the card, and says which came out. `stream` is idle before, and the
    /// engines write without waiting for it; what is put on it later waits for them, and so does `finish`.
    ///
    /// # Errors
    /// What is no picture's fault.
    pub fn decode(
        &mut self,
        jobs: &[Job<'_>],
        arena: u64,
        stream: *mut c_void,
        finish: impl FnMut() -> Result<(), CardError>,
    ) -> Result<Vec<bool>, CardError> {
        let taken = largest_first(jobs, (0..jobs.len()).filter(|&at| self.takes(&jobs[at])));
        let mut decoded = vec![false; jobs.len()];
        let batch = |at: &[usize]| {
            // A failed batch leaves the state to be initialised anew.
            self.batch(jobs, at, arena, stream).inspect_err(|_| self.batch = 0)
        };
        in_halves(&taken, &mut decoded, batch, finish)?;
        Ok(decoded)
    }

    /// Hands a batch over. Nothing may be under way: nvJPEG wants every batch to be over before its state is initialised.
    fn batch(&mut self, jobs: &[Job<'_>], at: &[usize], arena: u64, stream: *mut c_void) -> Result<(), CardError> {
        if self.batch != at.len() {
            let count = c_int::try_from(at.len()).unwrap_or(c_int::MAX);
            // SAFETY: handle and state live.
            let status = unsafe { (self.api.initialize)(self.handle, self.state, count, 1, OUTPUT_YUV) };
            check("nvjpegDecodeBatchedInitialize", status)?;
            self.batch = at.len();
        }
        let data: Vec<*const c_uchar> = at.iter().map(|&at| jobs[at].stream.as_ptr()).collect();
        let lengths: Vec<usize> = at.iter().map(|&at| jobs[at].stream.len()).collect();
        let mut images: Vec<Image> = at.iter().map(|&at| image(&jobs[at], arena)).collect();
        // SAFETY: the arrays have as many entries as the batch was initialised for; streams are read while this runs; each plane has
        // room for whole blocks at its place in the arena.
        let status = unsafe {
            let (data, lengths, images) = (data.as_ptr(), lengths.as_ptr(), images.as_mut_ptr());
            (self.api.decode)(self.handle, self.state, data, lengths, images, stream)
        };
        check("nvjpegDecodeBatched", status)
    }

    /// Whether the engines take a picture, by its header.
    fn takes(&self, job: &Job<'_>) -> bool {
        let mut unsupported = 0;
        // SAFETY: the stream's bytes are read while this runs; the place is writable. 0 means that it is supported.
        unsafe {
            let (bytes, length) = (job.stream.as_ptr(), job.stream.len());
            (self.api.parse_header)(self.handle, bytes, length, self.parser) == 0
                && (self.api.supported)(self.handle, self.parser, &raw mut unsupported) == 0
                && unsupported == 0
        }
    }
}

/// Places of the pictures `taken`, as they are handed over: those of one sampling together, and the largest first, so that no engine begins with one
/// of them when the others are done. nvImageCodec orders its batches so.
fn largest_first(jobs: &[Job<'_>], taken: impl Iterator<Item = usize>) -> Vec<usize> {
    let area = |at: &usize| jobs[*at].planes.first().map(|plane| u64::from(plane.width) * u64::from(plane.height));
    let mut order: Vec<usize> = taken.collect();
    order.sort_by_key(|at| Reverse((jobs[*at].sampling, area(at))));
    order
}

fn image(job: &Job<'_>, arena: u64) -> Image {
    let mut image = Image { channel: [ptr::null_mut(); 4], pitch: [0; 4] };
    for (at, plane) in job.planes.iter().enumerate() {
        image.channel[at] = ptr::with_exposed_provenance_mut((arena + plane.offset) as usize);
        image.pitch[at] = plane.pitch as usize;
    }
    image
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: each was made by this library, and is destroyed once.
        unsafe {
            if !self.parser.is_null() {
                (self.api.stream_destroy)(self.parser);
            }
            if !self.state.is_null() {
                (self.api.state_destroy)(self.state);
            }
            if !self.handle.is_null() {
                (self.api.destroy)(self.handle);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::layout::Plane;
    use super::super::plan::Sampling;
    use super::{Job, largest_first};

    #[test]
    fn a_batch_is_every_picture_once_by_sampling_and_size() {
        let stream = Bytes::new();
        let sides = [
            (Sampling::S420, 8, 8),
            (Sampling::S444, 4, 9),
            (Sampling::S420, 64, 2),
            (Sampling::S444, 5, 9),
            (Sampling::S420, 8, 8),
        ];
        let planes = sides.map(|(_, width, height)| [Plane { offset: 0, pitch: 64, width, height }]);
        let jobs: Vec<Job<'_>> = (sides.iter().zip(&planes))
            .map(|(&(sampling, ..), planes)| Job { stream: &stream, sampling, planes })
            .collect();
        let order = largest_first(&jobs, 0..5);
        let by_sampling = |of: Sampling| order.iter().copied().filter(|&at| sides[at].0 == of).collect::<Vec<_>>();
        assert_eq!((by_sampling(Sampling::S444), by_sampling(Sampling::S420)), (vec![3, 1], vec![2, 0, 4]));
        assert!(
            order.is_sorted_by_key(|&at| sides[at].0) || order.is_sorted_by_key(|&at| std::cmp::Reverse(sides[at].0))
        );
        assert_eq!(largest_first(&jobs, [4, 1, 0].into_iter()).len(), 3, "the refused ones are left out");
    }
}
