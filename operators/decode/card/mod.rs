//! JPEGs decoded on a card, with the CPU decoder's pixels to the bit.
//!
//! ```text
//!  Encoded ─▶ pool: headers ─┬─ a card may take it ─▶ lane: nvJPEG ─▶ planes ─▶ kernels ─▶ views ─▶ Views
//!                            │                          └─ refused ─┐
//!                            └─ the CPU's: decoded at once          └─▶ pool: decoded on the CPU
//! ```
//!
//! nvJPEG's inverse DCT is libjpeg-turbo's, its chroma upsampling is not: so the planes are taken as they are stored, and upsampling,
//! colour and resizing are done by `kernels.cu` with the integers of libjpeg-turbo and Pillow. The kernels are compiled when a card
//! is opened; the same text is compiled as C++ for the tests, which hold it to Pillow on machines without a card.
//!
//! What holds:
//! 1. A sample's views are the same whoever decodes it: before a card is used, pictures of each chroma sampling go both ways (`probe`),
//!    and what differs, or what the card refuses, is the CPU's.
//! 2. A card that fails in the middle of a run loses nothing: its pictures go to the CPU. A lane gets one more engine; one that fails again is
//!    passed over.
//! 3. Memory on the card and pinned memory are bounded ([`planned`]), whatever the pictures' sizes.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use trommel_core::credit::Credit;
use trommel_core::stop::Stop;
use trommel_dataflow::batch::{BatchConfig, BatchService};

use crate::Decoder;
use crate::sample_views::{DecodeConfig, Views};
use crate::view::view_bytes;
use crate::view_buffers::SetAside;

pub mod compare;
mod cuda;
mod grids;
mod halves;
mod lane;
mod layout;
mod nvjpeg;
pub(crate) mod operator;
mod plan;
mod probe;
#[cfg(test)]
mod tests;

use cuda::Device;
pub use lane::GROUP;
use lane::{Engine, Lane};
use layout::Room;
pub use nvjpeg::version as nvjpeg_version;
pub use plan::{OnCpu, Prepared, Sampling};

/// Why a card does not decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// A library that is opened at run time.
    #[error("{library} cannot be opened: {why}")]
    Missing {
        /// File name of the library.
        library: &'static str,
        /// The loader's words.
        why: String,
    },
    /// The kernels do not compile.
    #[error("the card's kernels cannot be compiled: {why}")]
    Kernels {
        /// The compiler's words.
        why: String,
    },
    /// A call of the driver's.
    #[error("{what} failed: {why}")]
    Driver {
        /// The function that was called.
        what: &'static str,
        /// The driver's words.
        why: String,
    },
    /// A call of nvJPEG's.
    #[error("{what} failed with status {status}")]
    Nvjpeg {
        /// The function that was called.
        what: &'static str,
        /// `nvjpegStatus_t`.
        status: i32,
    },
    /// A run that was begun with pixels of another decoder.
    #[error("a card gives libjpeg-turbo's pixels, and this run has zune-jpeg's")]
    OtherPixels,
    /// Nothing came out of the card as it comes out of the CPU.
    #[error("the card's pixels are not the CPU decoder's: {}", found.join("; "))]
    Differs {
        /// What was found for each back end.
        found: Vec<String>,
    },
}

/// Lanes of a card: while one waits for its views, others keep the decoder busy. A group takes a lane some 58 ms, of which the engines need 10.
const LANES: RangeInclusive<usize> = 2..=6;

/// Bytes of a lane's memory on the card, for planes, RGB and views of a group: 256 pictures of 640 x 480, or fewer larger ones.
const ARENA_BYTES: u64 = 768 << 20;

/// Bytes of descriptors and tables of a group.
const UPLOAD_BYTES: u64 = 32 << 20;

/// What nvJPEG takes for itself in a lane, on the card and pinned. The card's part is taken when the lane starts, for a group of 640 x 480.
const NVJPEG_CARD_BYTES: u64 = 512 << 20;
const NVJPEG_HOST_BYTES: u64 = 128 << 20;

/// Bytes that decoding on a card takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Bytes of the card's memory.
    pub card_bytes: u64,
    /// In the process, beside the samples.
    pub host_bytes: u64,
}

/// How many lanes have room in what they may take; never fewer than work together.
#[must_use]
pub fn lanes_within(config: &DecodeConfig, most: Planned) -> usize {
    let one = planned(config, 1);
    let fitting = (most.card_bytes / one.card_bytes).min(most.host_bytes / one.host_bytes);
    (fitting as usize).clamp(*LANES.start(), *LANES.end())
}

/// What decoding in so many lanes of a card takes for the views of `config`.
#[must_use]
pub fn planned(config: &DecodeConfig, lanes: usize) -> Planned {
    let (room, lanes) = (room(config), lanes as u64);
    Planned {
        card_bytes: lanes * (room.arena + NVJPEG_CARD_BYTES),
        // Beside a group's views as they land, as many that were read and are kept for the next ones.
        host_bytes: lanes * (room.upload + 2 * room.download + NVJPEG_HOST_BYTES),
    }
}

fn room(config: &DecodeConfig) -> Room {
    let view = |size: Option<u32>| size.map_or(0, |size| view_bytes(size).next_multiple_of(4096));
    let views = view(config.eval.map(|view| view.size)) + view(config.train.map(|view| view.size));
    Room { upload: UPLOAD_BYTES, arena: ARENA_BYTES, download: (GROUP as u64 * views).clamp(1 << 20, ARENA_BYTES) }
}

/// How many pictures went where.
#[derive(Debug, Default)]
struct DecodeCounters {
    card: AtomicU64,
    cpu: [AtomicU64; OnCpu::ALL.len()],
}

/// How many pictures a card decoded, and why the others were decoded on the CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DecodedBy {
    /// Pictures that a card decoded.
    pub card: u64,
    /// Pictures that the CPU decoded.
    pub cpu: u64,
    /// Why the CPU decoded its pictures: counts by the word of the reason.
    pub cpu_because: BTreeMap<&'static str, u64>,
}

type Service = BatchService<Arc<Prepared>, Option<Views>>;

/// A card that decodes, and its lanes. Clones are the same card.
#[derive(Clone, Debug)]
pub struct CardDecoder {
    lanes: Vec<Service>,
    takes: Arc<[Sampling]>,
    /// Bytes that a picture may take on the card.
    room: Room,
    counts: Arc<DecodeCounters>,
    next: Arc<AtomicUsize>,
    /// Lanes that decode no more.
    ended: Arc<[AtomicBool]>,
    _views: Arc<SetAside>,
}

/// A card that was compared with the CPU and takes part.
#[derive(Clone, Debug)]
pub struct OpenCard {
    device: Device,
    takes: Vec<Sampling>,
    lanes: usize,
    room: Room,
    says: String,
}

impl OpenCard {
    /// Opens device `ordinal` for so many lanes, and compares it with the CPU.
    ///
    /// # Errors
    /// No such library or device, or pixels that differ.
    pub fn open(ordinal: usize, config: &DecodeConfig, lanes: usize) -> Result<Self, CardError> {
        if config.limits.decoder != Decoder::LibjpegTurbo {
            return Err(CardError::OtherPixels);
        }
        let device = Device::open(ordinal)?;
        let probed = probe::probe(&device)?;
        let says = format!("cuda:{ordinal}, nvJPEG {}: {}", nvjpeg_version()?, probed.says());
        Ok(Self { device, takes: probed.takes, lanes, room: room(config), says })
    }

    /// What it is, and the chroma samplings that it decodes.
    #[must_use]
    pub fn says(&self) -> &str {
        &self.says
    }

    /// Starts its lanes.
    ///
    /// # Errors
    /// No memory for them.
    pub fn start(&self, credit: &Credit, stop: &Stop) -> Result<CardDecoder, CardError> {
        let (device, lanes, room) = (self.device.clone(), self.lanes, self.room);
        let decoder = CardDecoder::start(lanes, room, self.takes.clone(), (credit, stop), move |_| lane(&device, room));
        for lane in &decoder.lanes {
            lane.ready().map_err(|fault| CardError::Driver { what: "starting a lane", why: fault.message })?;
        }
        Ok(decoder)
    }
}

impl CardDecoder {
    fn start<E: Engine + 'static>(
        lanes: usize,
        room: Room,
        takes: Vec<Sampling>,
        (credit, stop): (&Credit, &Stop),
        make: impl Fn(usize) -> Result<Lane<E>, CardError> + Clone + Send + 'static,
    ) -> Self {
        let ended: Arc<[AtomicBool]> = (0..lanes).map(|_| AtomicBool::new(false)).collect();
        let service = |number: usize| {
            // A card that fails is no reason to end a run: the CPU decodes.
            let name = format!("decode on card {number}");
            let gather = BatchConfig { batch: GROUP, fatal: false, ..BatchConfig::named(&name) };
            let (make, ended) = (make.clone(), ended.clone());
            BatchService::spawn(gather, credit.clone(), stop.clone(), move || {
                let (mut lane, mut more) = (Some(make(number)?), Some(make));
                Ok::<_, CardError>(move |pictures: Vec<Arc<Prepared>>| {
                    let pictures: Vec<&Prepared> = pictures.iter().map(Arc::as_ref).collect();
                    let Some(sound) = &mut lane else { return vec![None; pictures.len()] };
                    let views = sound.views(&pictures);
                    if sound.has_failed() {
                        // Its memory goes before another takes as much.
                        drop(lane.take());
                        let another = more.take().map(|make| make(number));
                        lane = another.and_then(|made| made.inspect_err(|error| tracing::warn!("{error}")).ok());
                        if lane.is_none() {
                            tracing::warn!(
                                "{name} has ended: its pictures are for the other lanes, or the CPU's where there are none"
                            );
                            ended[number].store(true, Ordering::Relaxed);
                        }
                    }
                    views
                })
            })
        };
        Self {
            lanes: (0..lanes).map(service).collect(),
            ended: ended.clone(),
            _views: Arc::new(SetAside::new(lanes as u64 * room.download)),
            takes: takes.into(),
            room,
            counts: Arc::default(),
            next: Arc::default(),
        }
    }

    /// How many pictures went where.
    #[must_use]
    pub fn decoded_by(&self) -> DecodedBy {
        let count = |why: OnCpu| self.counts.cpu[why as usize].load(Ordering::Relaxed);
        let cpu_because: BTreeMap<_, _> =
            OnCpu::ALL.into_iter().map(|why| (why.name(), count(why))).filter(|(_, count)| *count > 0).collect();
        let card = self.counts.card.load(Ordering::Relaxed);
        DecodedBy { card, cpu: cpu_because.values().sum(), cpu_because }
    }

    /// The lanes, for gauges.
    #[must_use]
    pub fn lanes(&self) -> &[Service] {
        &self.lanes
    }

    /// The number of a lane that decodes, for each picture in turn; `None` where all have ended.
    pub(crate) fn next_lane(&self) -> Option<usize> {
        let decoding = || (0..self.lanes.len()).filter(|&lane| !self.ended[lane].load(Ordering::Relaxed));
        let (turn, count) = (self.next.fetch_add(1, Ordering::Relaxed), decoding().count());
        // One that ends meanwhile still answers.
        decoding().nth(turn.checked_rem(count)?).or_else(|| decoding().next())
    }

    /// Whether the card takes a picture that may be decoded on one.
    pub(crate) fn admit(&self, prepared: Prepared) -> Result<Arc<Prepared>, OnCpu> {
        if !self.takes.contains(&prepared.sampling()) {
            return Err(OnCpu::Sampling);
        }
        if !self.room.holds(Room::of(&prepared)) {
            return Err(OnCpu::Large);
        }
        Ok(Arc::new(prepared))
    }

    /// Counts a picture.
    pub(crate) fn count(&self, why: Option<OnCpu>) {
        let counter = why.map_or(&self.counts.card, |why| &self.counts.cpu[why as usize]);
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A lane of `device`, made on its own thread.
fn lane(device: &Device, room: Room) -> Result<Lane<cuda::Cuda>, CardError> {
    device.enter()?;
    Ok(Lane::new(device.engine(room)?))
}
