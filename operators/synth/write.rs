//! The folder: shards, reference set, benchmarks, truth.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::Builder;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use trommel_core::cores;

use super::caption::caption;
use super::config::{SynthConfig, SynthError};
use super::near::{Change, QUALITY, jpeg};
use super::random::{Stream, key_of};
use super::tar::TarWriter;
use super::{Class, Picture, Rendition, paint};

/// One line of `truth.jsonl`: a sample that is not just another picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// File name of the shard.
    pub shard: String,
    /// Key of the sample.
    pub key: String,
    /// Benchmark of the copied picture; null for a broken sample.
    pub benchmark: Option<String>,
    /// `class/0000.jpg` in the benchmark's folder; null for a broken sample.
    pub picture: Option<String>,
    /// exact, recompressed, resized, cropped, brightness; or truncated, no_image.
    pub kind: String,
}

/// Counts of what was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SynthSummary {
    /// Shards written.
    pub shards: u64,
    /// Samples in them, of every kind.
    pub samples: u64,
    /// Planted duplicates among them.
    pub planted: u64,
    /// Deliberately broken ones among them.
    pub broken: u64,
    /// Pictures in the reference set.
    pub reference: u64,
    /// Pictures in all benchmarks.
    pub benchmark: u64,
    /// Bytes of shards and pictures.
    pub bytes: u64,
}

/// Words that keep the streams of chance apart.
const REFERENCE: u64 = 1;
const BENCHMARK: u64 = 2;
const SAMPLE: u64 = 3;

const README: &str = "Pictures made by `trommel synth`: drawn by a program, so free of anybody's rights.

shards/NNNNN.tar         image-text pairs in img2dataset's layout (key.jpg, key.json, key.txt; nine-digit keys,
                         10000 x shard + row as in a download of 10,000 a shard), in
                         photo, sketch, cartoon and texture renditions. `uid`, `class` and `rendition` stand in
                         the json as additional columns. All times are 0. No .parquet is written beside the tars.
shards/NNNNN_stats.json  img2dataset's counts; durations and times are 0.
reference/CLASS/*.jpg    photo-like pictures: the reference set for radii.
benchmarks/B/CLASS/*.jpg test pictures; B is photo, sketch, cartoon, texture.
truth.jsonl              one line for each planted duplicate of a benchmark picture (kind exact, recompressed,
                         resized, cropped, brightness) and each broken sample (kind truncated, no_image; benchmark
                         and picture are null). All other samples are pictures of their own.
classnames.txt           the classes, one a line.
synth.json               the settings: the same settings give the same bytes.
";

/// Makes the folder; equal settings give equal bytes. A folder that was made with the same settings is written again,
/// any other that is not empty is refused.
///
/// # Errors
/// Settings that make no sense, an occupied folder, a file that cannot be written.
pub fn write(out: &Path, config: &SynthConfig) -> Result<SynthSummary, SynthError> {
    config.validate()?;
    let settings = serde_json::to_string_pretty(config)? + "\n";
    let mark = out.join("synth.json");
    fs::create_dir_all(out).map_err(SynthError::at(out))?;
    if fs::read_to_string(&mark).ok().as_ref() != Some(&settings) {
        // The mark comes first, under its name once it is whole: whoever was stopped before that has left no more than the start of it.
        let aside = out.join("synth.json.aside");
        let mut there = fs::read_dir(out).map_err(SynthError::at(out))?;
        if there.any(|entry| entry.map_or(true, |entry| entry.path() != aside)) {
            return Err(SynthError::Occupied { path: out.to_owned() });
        }
        put(&aside, settings.as_bytes())?;
        fs::rename(&aside, &mark).map_err(SynthError::at(&mark))?;
    }
    put(&out.join("README.txt"), README.as_bytes())?;
    put(&out.join("classnames.txt"), Class::ALL.map(|class| format!("{}\n", class.name())).concat().as_bytes())?;
    let mut summary = SynthSummary { shards: u64::from(config.shards), ..SynthSummary::default() };

    let reference = Part { of: REFERENCE, rendition: Rendition::Photo, count: config.reference_pictures_per_class };
    let tests =
        Rendition::ALL.map(|rendition| Part { of: BENCHMARK, rendition, count: config.benchmark_pictures_per_class });
    let folders: Vec<(std::path::PathBuf, Part, Class)> = std::iter::once((out.join("reference"), reference))
        .chain(tests.map(|part| (out.join("benchmarks").join(part.rendition.name()), part)))
        .flat_map(|(folder, part)| Class::ALL.map(|class| (folder.join(class.name()), part, class)))
        .collect();
    let bytes = parallel(folders.len() as u32, |i| {
        let (folder, part, class) = &folders[i as usize];
        fs::create_dir_all(folder).map_err(SynthError::at(folder))?;
        let mut bytes = 0;
        for number in 0..part.count {
            let encoded = jpeg(&part.picture(config, *class, number), QUALITY)?;
            put(&folder.join(format!("{number:04}.jpg")), &encoded)?;
            bytes += encoded.len() as u64;
        }
        Ok(bytes)
    })?;
    summary.bytes += bytes.iter().sum::<u64>();
    let classes = Class::ALL.len() as u64;
    summary.reference = classes * u64::from(config.reference_pictures_per_class);
    summary.benchmark = classes * u64::from(config.benchmark_pictures_per_class) * Rendition::ALL.len() as u64;

    let shards = out.join("shards");
    fs::create_dir_all(&shards).map_err(SynthError::at(&shards))?;
    let truths = parallel(config.shards, |shard| write_shard(&shards, config, shard))?;
    let mut truth = String::new();
    for (lines, bytes) in truths {
        summary.bytes += bytes;
        for line in lines {
            if line.benchmark.is_some() {
                summary.planted += 1
            } else {
                summary.broken += 1
            }
            truth += &serde_json::to_string(&line)?;
            truth.push('\n');
        }
    }
    summary.samples = u64::from(config.shards) * u64::from(config.samples);
    put(&out.join("truth.jsonl"), truth.as_bytes())?;
    Ok(summary)
}

/// Numbered pictures of one rendition.
#[derive(Clone, Copy, Debug)]
struct Part {
    of: u64,
    rendition: Rendition,
    count: u32,
}

impl Part {
    fn picture(self, config: &SynthConfig, class: Class, number: u32) -> Picture {
        let words = [config.seed, self.of, self.rendition as u64, class as u64, u64::from(number)];
        drawn(class, self.rendition, key_of(&words), config.size_pixels)
    }
}

/// A picture whose longer side is up to a third more than the shorter one.
fn drawn(class: Class, rendition: Rendition, seed: u64, size: u32) -> Picture {
    let mut chance = Stream::of(&[seed, 0xa59e]);
    let size = size as usize;
    let long = size * chance.pick(&[12, 12, 12, 13, 15, 16]) / 12;
    let (w, h) = if chance.chance(0.6) { (long, size) } else { (size, long) };
    paint::draw(class, rendition, seed, w, h)
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), SynthError> {
    fs::write(path, bytes).map_err(SynthError::at(path))
}

/// Jobs 0..count on all cores; results in the jobs' order.
fn parallel<T: Send>(count: u32, job: impl Fn(u32) -> Result<T, SynthError> + Sync) -> Result<Vec<T>, SynthError> {
    let threads = cores::usable().min(count as usize).max(1);
    let next = AtomicU32::new(0);
    let done = Mutex::new(Vec::with_capacity(count as usize));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            let result = job(number);
            if result.is_err() {
                next.store(count, Ordering::Relaxed);
            }
            if let Ok(mut done) = done.lock() {
                done.push((number, result));
            }
        }
    };
    std::thread::scope(|scope| {
        // Where the system gives no more threads, fewer do the same.
        let _others: Vec<_> = (1..threads).map_while(|_| Builder::new().spawn_scoped(scope, work).ok()).collect();
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// img2dataset's json of a sample, in its order of columns.
#[derive(Debug, Serialize)]
struct Meta<'a> {
    uid: String,
    class: &'a str,
    rendition: &'a str,
    caption: Option<&'a str>,
    url: String,
    key: &'a str,
    status: &'a str,
    error_message: Option<&'a str>,
    width: u32,
    height: u32,
    original_width: u32,
    original_height: u32,
    exif: &'a str,
    sha256: String,
}

fn write_shard(folder: &Path, config: &SynthConfig, shard: u32) -> Result<(Vec<Truth>, u64), SynthError> {
    let name = format!("{shard:05}.tar");
    let path = folder.join(&name);
    let mut tar = TarWriter::new(Vec::new());
    let mut truth = Vec::new();
    // As in a download with 10,000 samples a shard, of which this one is not full.
    for row in 0..config.samples {
        let mut chance = Stream::of(&[config.seed, SAMPLE, u64::from(shard), u64::from(row)]);
        let key = format!("{:09}", u64::from(shard) * 10_000 + u64::from(row));
        let mut class = chance.pick(&Class::ALL);
        let fate = chance.unit();
        let mut rendition = Rendition::ALL[chance.weighted(&config.mixture)];
        let picture_seed = chance.bits();
        let mut line = |benchmark: Option<&str>, picture: Option<String>, kind: &str| {
            let benchmark = benchmark.map(str::to_owned);
            truth.push(Truth { shard: name.clone(), key: key.clone(), benchmark, picture, kind: kind.into() });
        };
        let (picture, quality) = if fate < config.planted_share {
            // Every benchmark gets its share of copies.
            rendition = chance.pick(&Rendition::ALL);
            class = chance.pick(&Class::ALL);
            let part = Part { of: BENCHMARK, rendition, count: config.benchmark_pictures_per_class };
            let number = chance.below(part.count as usize) as u32;
            let change = chance.pick(&Change::ALL);
            line(Some(rendition.name()), Some(format!("{}/{number:04}.jpg", class.name())), change.name());
            change.apply(&part.picture(config, class, number), &mut chance)
        } else {
            let quality = 75 + chance.below(21) as u8;
            (drawn(class, rendition, picture_seed, config.size_pixels), quality)
        };
        let mut bytes = Some(jpeg(&picture, quality)?);
        let sha256 = format!("{:x}", bytes.as_deref().map(Sha256::digest).unwrap_or_default());
        if fate >= config.planted_share && fate < config.planted_share + config.broken_share {
            if chance.chance(0.5) {
                line(None, None, "truncated");
                if let Some(bytes) = &mut bytes {
                    bytes.truncate(bytes.len() * (20 + chance.below(50)) / 100);
                }
            } else {
                line(None, None, "no_image");
                bytes = None;
            }
        }
        let text = caption(class, rendition, config.odd_caption_share, &mut chance);
        let uid = format!("{:016x}{:016x}", key_of(&[picture_seed, 1]), key_of(&[picture_seed, 2]));
        let meta = Meta {
            url: format!("https://pictures.example/{}/{}.jpg", &uid[..4], &uid[4..16]),
            uid,
            class: class.name(),
            rendition: rendition.name(),
            caption: text.as_deref(),
            key: &key,
            status: "success",
            error_message: None,
            width: picture.width,
            height: picture.height,
            original_width: picture.width,
            original_height: picture.height,
            exif: "{}",
            sha256,
        };
        let json = python_json(&meta)?;
        let member = |tar: &mut TarWriter<Vec<u8>>, extension: &str, bytes: &[u8]| {
            tar.member(&format!("{key}.{extension}"), bytes).map_err(SynthError::at(&path))
        };
        if let Some(bytes) = &bytes {
            member(&mut tar, "jpg", bytes)?;
        }
        member(&mut tar, "json", json.as_bytes())?;
        member(&mut tar, "txt", text.unwrap_or_default().as_bytes())?;
    }
    let bytes = tar.finish().map_err(SynthError::at(&path))?;
    put(&path, &bytes)?;
    let n = config.samples;
    let stats = format!(
        "{{\n    \"count\": {n},\n    \"successes\": {n},\n    \"failed_to_download\": 0,\n    \"failed_to_resize\": 0,\n    \
         \"duration\": 0.0,\n    \"start_time\": 0.0,\n    \"end_time\": 0.0,\n    \
         \"status_dict\": {{\n        \"success\": {n}\n    }}\n}}"
    );
    put(&folder.join(format!("{shard:05}_stats.json")), stats.as_bytes())?;
    Ok((truth, bytes.len() as u64))
}

/// As Python's `json.dumps(.., indent=4)`: four spaces, everything outside ASCII escaped.
fn python_json(value: &impl Serialize) -> Result<String, SynthError> {
    let mut bytes = Vec::with_capacity(600);
    let style = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut to = serde_json::Serializer::with_formatter(&mut bytes, style);
    value.serialize(&mut to)?;
    let text = String::from_utf8_lossy(&bytes); // JSON is UTF-8
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    Ok(out)
}
