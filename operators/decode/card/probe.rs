//! The comparison at start: pictures of every chroma sampling go through the card and through the CPU, and must come out equal.
//!
//! Samplings of which a picture differs, or is refused, stay on the CPU: H100's engines refuse 4:1:1.

use bytes::Bytes;
use trommel_core::sample::Work;

use super::cuda::Device;
use super::lane::Lane;
use super::layout::Room;
use super::plan::{Prepared, Sampling};
use super::{CardError, lane};
use crate::sample_views::{DecodeConfig, Of, Views, views};
use crate::view::{EvalView, ResizeMode, TrainView};
use crate::{Limits, decode_rgb};

/// What the comparison found.
#[derive(Clone, Debug, Default)]
pub(super) struct Probed {
    /// Samplings whose pixels are the CPU's.
    pub takes: Vec<Sampling>,
    /// What was not equal, or was refused.
    pub found: Vec<String>,
}

impl Probed {
    /// `grey, 4:2:0, 4:4:4`.
    pub fn says(&self) -> String {
        self.takes.iter().map(|sampling| sampling.name()).collect::<Vec<_>>().join(", ")
    }
}

/// Pictures of a few kilobytes, made by `make_probes.py`: waves, edges and noise, of odd sizes, in all samplings.
pub(super) const PICTURES: [&[u8]; 14] = [
    include_bytes!("probes/grey_61x47.jpg"),
    include_bytes!("probes/grey_40x30.jpg"),
    include_bytes!("probes/444_61x47.jpg"),
    include_bytes!("probes/444_40x30.jpg"),
    include_bytes!("probes/422_61x47.jpg"),
    include_bytes!("probes/422_40x30.jpg"),
    include_bytes!("probes/420_61x47.jpg"),
    include_bytes!("probes/420_40x30.jpg"),
    include_bytes!("probes/440_47x61.jpg"),
    include_bytes!("probes/440_30x40.jpg"),
    include_bytes!("probes/411_122x23.jpg"),
    include_bytes!("probes/411_80x15.jpg"),
    include_bytes!("probes/420_150x101.jpg"),
    include_bytes!("probes/444_150x101.jpg"),
];

/// Pictures of a batch that is compared.
const BATCH: usize = 64;

const ROOM: Room = Room { upload: 4 << 20, arena: 64 << 20, download: 4 << 20 };

/// The views of the comparison.
fn config() -> DecodeConfig {
    DecodeConfig {
        limits: Limits::default(),
        eval: Some(EvalView { size: 32, mode: ResizeMode::Shortest }),
        train: Some(TrainView { size: 48, scale: (0.9, 1.0), seed: 1, labelled: false }),
    }
}

/// Compares `device` with the CPU.
///
/// # Errors
/// Nothing of it can be used.
pub(super) fn probe(device: &Device) -> Result<Probed, CardError> {
    let mut lane = lane(device, ROOM)?;
    let mut probed = Probed::default();
    for sampling in Sampling::ALL {
        match compare(&mut lane, sampling) {
            Ok(()) => probed.takes.push(sampling),
            Err(why) => probed.found.push(format!("{}: {why}", sampling.name())),
        }
    }
    if probed.takes.is_empty() { Err(CardError::Differs { found: probed.found }) } else { Ok(probed) }
}

/// Whether the pictures of `sampling` come out of a lane as they do on the CPU; if not, how.
pub(super) fn compare<E: super::Engine>(lane: &mut Lane<E>, sampling: Sampling) -> Result<(), String> {
    let config = config();
    let mut pictures = Vec::new();
    for (number, bytes) in PICTURES.iter().enumerate() {
        let image = Bytes::from_static(bytes);
        let of = Of { work: Work::Judge, key: "", pass: number as u32, encoded_bytes: 0 };
        let prepared = Prepared::new(&image, &config, of).map_err(|why| why.name().to_owned())?;
        if prepared.sampling() == sampling {
            let expected = views(&image, &config, of).map_err(|error| error.to_string())?;
            pictures.push((image, prepared, expected));
        }
    }
    for (image, prepared, _) in &pictures {
        let rgb = decode_rgb(image, &config.limits).map_err(|error| error.to_string())?;
        match lane.look_at(prepared) {
            Ok(Some(seen)) if seen == rgb.pixels => {}
            Ok(Some(seen)) => return Err(apart(&seen, &rgb.pixels)),
            Ok(None) => return Err("refused".into()),
            Err(error) => return Err(error.to_string()),
        }
    }
    let batch: Vec<&(Bytes, Prepared, Views)> = pictures.iter().cycle().take(BATCH).collect();
    let prepared: Vec<&Prepared> = batch.iter().map(|(_, prepared, _)| prepared).collect();
    for (made, (_, _, expected)) in lane.views(&prepared).into_iter().zip(batch) {
        match made {
            Some(made) if made == *expected => {}
            Some(_) => return Err(format!("views of a batch of {BATCH} differ")),
            None => return Err(format!("a batch of {BATCH} is refused")),
        }
    }
    Ok(())
}

/// How far apart two pictures are.
pub(super) fn apart(ours: &[u8], theirs: &[u8]) -> String {
    let differing = ours.iter().zip(theirs).filter(|(a, b)| a != b).count();
    let most = ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
    format!("{differing} of {} values differ, by {most} at most", theirs.len())
}
