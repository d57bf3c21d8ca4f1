//! A card beside the CPU: every picture's pixels, and how fast views come out. What `trommel bench --stage decode` tells.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use trommel_core::cores;
use trommel_core::sample::Work;

use super::cuda::Device;
use super::lane::Spent;
use super::plan::{OnCpu, Prepared, Sampling};
use super::probe::{apart, probe};
use super::{CardError, GROUP, lane, nvjpeg_version, room};
use crate::decode_rgb;
use crate::sample_views::{DecodeConfig, Of, Views, views};

/// All views are made.
const ANY: Of<'static> = Of { work: Work::Judge, key: "", pass: 0, encoded_bytes: 0 };

/// Names of pictures that are told where something differs.
const TOLD: usize = 5;

/// What was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DecodeBench {
    /// Always `decode`: which stage the report is of.
    pub stage: &'static str,
    /// nvJPEG's version; empty without a card.
    pub nvjpeg: String,
    /// Chroma samplings of which the comparison at start found the card's pixels equal.
    pub takes: Vec<&'static str>,
    /// What that comparison found not to be equal, or refused.
    pub found: Vec<String>,
    /// Pictures by what the CPU keeps them for.
    pub on_cpu: BTreeMap<&'static str, u64>,
    /// RGB, each picture alone, by sampling.
    pub rgb: Vec<Compared>,
    /// Views as a run gets them, in groups.
    pub views: Compared,
    /// Views a second.
    pub rates: Vec<Rate>,
}

/// Pictures of a kind that a card and the CPU decoded.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Compared {
    /// The chroma sampling.
    pub sampling: &'static str,
    /// Pictures that both decoded.
    pub pictures: u64,
    /// Of them, those equal to the bit.
    pub equal: u64,
    /// Pictures that the card refused.
    pub refused: u64,
    /// The largest difference of a value.
    pub largest: u8,
    /// The first that differ, and how.
    pub first: Vec<String>,
}

impl Compared {
    fn take(&mut self, name: &str, ours: &[u8], theirs: &[u8]) {
        self.pictures += 1;
        if ours == theirs {
            self.equal += 1;
            return;
        }
        self.largest = self.largest.max(ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(255));
        if self.first.len() < TOLD {
            self.first.push(format!("{name}: {}", apart(ours, theirs)));
        }
    }
}

/// How fast views came out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rate {
    /// `card`, or of it pictures of one chroma sampling, or one picture over and over; `cpu`; `headers`: what the pool does for a card.
    pub by: String,
    /// Pictures of a group.
    pub group: usize,
    /// Lanes, or threads of the CPU.
    pub lanes: usize,
    /// Views a second.
    pub per_second: f64,
    /// Where the time of one lane went, in seconds. It waits for the card after each step, so that it is slower than it could be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
}

/// A picture that a card may decode, and what the CPU makes of it.
struct Picture {
    name: String,
    image: Bytes,
    prepared: Prepared,
    rgb: Vec<u8>,
    views: Views,
}

impl Picture {
    fn new(name: &str, image: Bytes, config: &DecodeConfig) -> Result<Self, OnCpu> {
        let prepared = Prepared::new(&image, config, ANY)?;
        let rgb = decode_rgb(&image, &config.limits).map_err(|_| OnCpu::Faulty)?.pixels;
        let views = views(&image, config, ANY).map_err(|_| OnCpu::Faulty)?;
        Ok(Self { name: name.into(), image, prepared, rgb, views })
    }
}

/// Times the CPU on `pictures`, names with bytes, and compares and times device `ordinal`, where one is given; `seconds` for each rate.
///
/// # Errors
/// No such device or library.
pub fn bench(
    ordinal: Option<usize>,
    config: &DecodeConfig,
    pictures: &[(String, Vec<u8>)],
    seconds: f64,
) -> Result<DecodeBench, CardError> {
    let mut report = DecodeBench { stage: "decode", ..DecodeBench::default() };
    let mut kept = Vec::new();
    for (name, image) in pictures {
        match Picture::new(name, Bytes::copy_from_slice(image), config) {
            Ok(picture) => kept.push(picture),
            Err(why) => *report.on_cpu.entry(why.name()).or_default() += 1,
        }
    }
    if let Some(ordinal) = ordinal {
        let device = Device::open(ordinal)?;
        report.nvjpeg = nvjpeg_version()?;
        match probe(&device) {
            Ok(probed) => {
                report.takes = probed.takes.iter().map(|sampling| sampling.name()).collect();
                report.found = probed.found;
            }
            Err(CardError::Differs { found }) => report.found = found,
            Err(error) => return Err(error),
        }
        report.rgb = compare_rgb(&device, config, &kept)?;
        report.views = compare_views(&device, config, &kept)?;
        let all: Vec<&Prepared> = kept.iter().map(|picture| &picture.prepared).collect();
        for (group, lanes) in [(32, 1), (GROUP, 1), (32, 2), (GROUP, 2), (GROUP, 3), (GROUP, 5), (GROUP, 6)] {
            report.rates.push(rate(&device, config, &all, "card", (group, lanes), seconds)?);
        }
        for sampling in Sampling::ALL {
            let of: Vec<&Prepared> = all.iter().copied().filter(|picture| picture.sampling() == sampling).collect();
            if !of.is_empty() && of.len() < all.len() {
                let by = format!("card, {}", sampling.name());
                report.rates.push(rate(&device, config, &of, &by, (GROUP, 2), seconds)?);
            }
        }
        if let Some(one) = all.get(..1) {
            report.rates.push(rate(&device, config, one, "card, one picture", (GROUP, 2), seconds)?);
        }
    }
    let threads = cores::usable();
    for threads in [1, threads] {
        let headers = |picture: &Picture| drop(Prepared::new(&picture.image, config, ANY));
        report.rates.push(cpu_rate("headers", threads, &kept, seconds, headers));
        let whole = |picture: &Picture| drop(views(&picture.image, config, ANY));
        report.rates.push(cpu_rate("cpu", threads, &kept, seconds, whole));
    }
    Ok(report)
}

fn compare_rgb(device: &Device, config: &DecodeConfig, pictures: &[Picture]) -> Result<Vec<Compared>, CardError> {
    let mut lane = lane(device, room(config))?;
    let mut by_sampling = BTreeMap::new();
    for picture in pictures {
        let sampling = picture.prepared.sampling();
        let compared = by_sampling
            .entry(sampling)
            .or_insert_with(|| Compared { sampling: sampling.name(), ..Compared::default() });
        match lane.look_at(&picture.prepared)? {
            Some(rgb) => compared.take(&picture.name, &rgb, &picture.rgb),
            None => compared.refused += 1,
        }
    }
    Ok(by_sampling.into_values().collect())
}

fn compare_views(device: &Device, config: &DecodeConfig, pictures: &[Picture]) -> Result<Compared, CardError> {
    let mut lane = lane(device, room(config))?;
    let mut compared = Compared { sampling: "all", ..Compared::default() };
    let flat =
        |views: &Views| [&views.embed, &views.train].into_iter().flatten().flatten().copied().collect::<Vec<u8>>();
    for group in pictures.chunks(GROUP) {
        let prepared: Vec<&Prepared> = group.iter().map(|picture| &picture.prepared).collect();
        for (picture, views) in group.iter().zip(lane.views(&prepared)) {
            match views {
                Some(views) => compared.take(&picture.name, &flat(&views), &flat(&picture.views)),
                None => compared.refused += 1,
            }
        }
    }
    Ok(compared)
}

/// Groups through lanes on threads of their own, over and over.
fn rate(
    device: &Device,
    config: &DecodeConfig,
    all: &[&Prepared],
    by: &str,
    (group, lanes): (usize, usize),
    seconds: f64,
) -> Result<Rate, CardError> {
    let mut rate = Rate { by: by.into(), group, lanes, ..Rate::default() };
    if all.is_empty() {
        return Ok(rate);
    }
    let started = &Barrier::new(lanes);
    let work = move |first: usize| {
        let opened = lane(device, room(config));
        started.wait();
        let mut lane = opened?;
        if lanes == 1 {
            lane.measure();
        }
        let mut at = first * group;
        let mut round = || {
            let these: Vec<&Prepared> = (at..at + group).map(|at| all[at % all.len()]).collect();
            at += group * lanes;
            lane.views(&these).iter().flatten().count()
        };
        round();
        let (start, mut made) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs_f64(seconds) {
            made += round();
        }
        let per_second = made as f64 / start.elapsed().as_secs_f64();
        Ok::<_, CardError>((per_second, lane.spent()))
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..lanes).map(|number| scope.spawn(move || work(number))).collect();
        for thread in threads {
            if let Ok(result) = thread.join() {
                let (per_second, spent) = result?;
                rate.per_second += per_second;
                rate.spent = spent;
            }
        }
        Ok(rate)
    })
}

/// Pictures through `work` on threads of the CPU.
fn cpu_rate(
    by: &str,
    threads: usize,
    pictures: &[Picture],
    seconds: f64,
    work: impl Fn(&Picture) + Copy + Send + Sync,
) -> Rate {
    let one = move |first: usize| {
        let (start, mut done) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs_f64(seconds) && !pictures.is_empty() {
            work(&pictures[(first + done * threads) % pictures.len()]);
            done += 1;
        }
        done as f64 / start.elapsed().as_secs_f64().max(1e-9)
    };
    let per_second = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).sum()
    });
    Rate { by: by.into(), group: 1, lanes: threads, per_second, ..Rate::default() }
}
