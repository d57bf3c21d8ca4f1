//! Pictures of a past run, read back from where they came: samples from their shards, test pictures from class folders.
//!
//! A plain tar is opened at the sample's own byte; a compressed one is streamed up to the last sample wanted; of a class folder the
//! sample's own files are read. What cannot be had as it was judged is left out and remarked on, never an error.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use trommel_columnar::pieces::is_embeddings;
use trommel_core::causes::{Cause, Causes};
use trommel_core::credit::Permit;
use trommel_core::credit::workspace::Workspace;
use trommel_core::names::STDIN;
use trommel_core::sample::{Encoded, Sample, SampleId};
use trommel_decode::{Limits, decode_rgb};
use trommel_shard::compression::{Compression, CompressionLimits, decompress};
use trommel_shard::folders::PictureFiles;
use trommel_shard::header::BLOCK;
use trommel_shard::plan::{Plan, ShardRef};
use trommel_shard::samples::{Group, GroupConfig, SampleReader, Want};
use trommel_shard::store::{Metered, Store, local_path};
use trommel_shard::tar::{TarLimits, TarReader};

/// Largest file that is read as a picture, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Pictures with more encoded bytes are shown smaller.
const LARGE_BYTES: usize = 64 << 10;
/// Longest side of a picture made smaller, in pixels.
const SMALL_SIDE: usize = 176;

/// A sample as it stands in its shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundPicture {
    /// Encoded picture.
    pub image: Vec<u8>,
    /// Caption; may be empty.
    pub caption: String,
    /// Name of its class folder, where neither a text nor a json lies beside it.
    pub class_name: Option<String>,
}

/// Where a sample stands: its byte in the decompressed tar, its bytes, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPicture {
    /// Byte of its first header.
    pub offset: u64,
    /// Bytes of its members, or of its files in a class folder, as they were judged.
    pub size: u64,
    /// Key of the sample, as its members are named.
    pub key: String,
}

/// What was found, and one line for each shard that could not be read.
pub type Returned = (BTreeMap<SampleId, FoundPicture>, Vec<String>);

/// Reads samples back.
#[must_use]
pub fn samples(
    store: &dyn Store,
    plan: &Plan,
    group: &GroupConfig,
    wanted: &BTreeMap<SampleId, WantedPicture>,
) -> Returned {
    let mut found = BTreeMap::new();
    let troubles = visit(store, plan, group, wanted, &mut |id, sample| _ = found.insert(id, sample));
    (found, troubles)
}

/// Reads samples back one after another, and holds none; gives a line for each shard that could not be read.
pub fn visit(
    store: &dyn Store,
    plan: &Plan,
    group: &GroupConfig,
    wanted: &BTreeMap<SampleId, WantedPicture>,
    see: &mut dyn FnMut(SampleId, FoundPicture),
) -> Vec<String> {
    let mut troubles = Vec::new();
    let mut shards: BTreeMap<u64, BTreeMap<u32, &WantedPicture>> = BTreeMap::new();
    let is_stored =
        |ordinal: u64| plan.shard(ordinal).is_some_and(|shard| local_path(&shard.url).is_some_and(is_embeddings));
    let (stored, wanted): (Vec<_>, Vec<_>) = wanted.iter().partition(|(id, _)| is_stored(id.ordinal));
    if !stored.is_empty() {
        troubles
            .push("what was judged are stored embeddings: pictures and captions of their samples are not there".into());
    }
    for (id, sample) in wanted {
        shards.entry(id.ordinal).or_default().insert(id.index, sample);
    }
    for (ordinal, wanted) in shards {
        let Some(shard) = plan.shard(ordinal) else { continue };
        let mut take = |index: u32, sample: FoundPicture| see(SampleId { ordinal, index }, sample);
        if let Err(error) = shard_samples(store, shard, group, &wanted, &mut take) {
            troubles.push(format!("{}: {}", shard.name, Causes(&*error)));
        }
    }
    troubles
}

fn shard_samples(
    store: &dyn Store,
    shard: &ShardRef,
    group: &GroupConfig,
    wanted: &BTreeMap<u32, &WantedPicture>,
    take: &mut dyn FnMut(u32, FoundPicture),
) -> Result<(), Cause> {
    if shard.url == STDIN {
        return Err("standard input cannot be read again".into());
    }
    if let Some(folder) = local_path(&shard.url).filter(|path| path.is_dir()) {
        let mut read = Ok(());
        for (index, sample) in wanted {
            match class_sample(folder, &shard.name, group, sample) {
                Ok(sample) => take(*index, sample),
                // One that is not there says nothing of the others; the first of them is told.
                Err(error) => read = read.and(Err(error)),
            }
        }
        return read;
    }
    let source = store.open(&shard.url)?;
    let announced = source.announced_bytes();
    if let (Some(planned), Some(now)) = (shard.bytes, announced)
        && planned != now
    {
        return Err(format!("has {now} bytes now and had {planned} when it was planned").into());
    }
    let mut first = Vec::new();
    source.open_at(0)?.take(BLOCK as u64).read_to_end(&mut first)?;
    if Compression::of(&first) == Compression::None {
        for (index, sample) in wanted {
            let tar = TarReader::new(BufReader::new(source.open_at(sample.offset)?), TarLimits::default());
            let mut groups = SampleReader::new(tar, group, shard.ordinal);
            if let Some(Group::Sample(raw)) = next(&mut groups, &mut |_| Want::Content { extra_bytes: 0 })
                && raw.info.key == sample.key
            {
                take(*index, found(raw));
            }
        }
        return Ok(());
    }
    let (raw, meter) = Metered::open(store, &shard.url)?;
    let limits = CompressionLimits::default();
    let (plain, _) = decompress(raw, meter, &limits, Workspace::unbounded())?;
    let mut groups = SampleReader::new(TarReader::new(plain, TarLimits::default()), group, shard.ordinal);
    let mut want = |index| if wanted.contains_key(&index) { Want::Content { extra_bytes: 0 } } else { Want::Place };
    let last = wanted.keys().next_back().copied().unwrap_or(0);
    while let Some(group) = next(&mut groups, &mut want) {
        let index = match group {
            Group::Sample(sample) => {
                let index = sample.info.id.index;
                if wanted.get(&index).is_some_and(|wanted| wanted.key == sample.info.key) {
                    take(index, found(sample));
                }
                index
            }
            Group::Rejected(info, _) | Group::Place(info) | Group::Original(info, _) => info.id.index,
        };
        if index >= last {
            break;
        }
    }
    Ok(())
}

/// A sample of a class folder, whose key is `CLASS/FILE`.
fn class_sample(folder: &Path, name: &str, group: &GroupConfig, sample: &WantedPicture) -> Result<FoundPicture, Cause> {
    let key = &sample.key;
    let file = key.strip_prefix(name).and_then(|file| file.strip_prefix('/')).map(Path::new);
    let Some(file) = file.filter(|file| is_below(file)) else {
        return Err(format!("{key} is no file of it").into());
    };
    let files = PictureFiles::read(&folder.join(file), group)?;
    // A caption that is gone, or came later, is not what was judged.
    if files.size != sample.size {
        let (now, judged) = (files.size, sample.size);
        return Err(format!(
            "{key} has {now} bytes now, with its caption and metadata, and had {judged} when it was judged"
        )
        .into());
    }
    let class = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
    let class_name = files.is_alone.then(|| class.into_owned());
    Ok(FoundPicture { image: files.image, caption: files.caption.unwrap_or_default(), class_name })
}

fn next<R: std::io::BufRead>(groups: &mut SampleReader<'_, R>, want: &mut dyn FnMut(u32) -> Want) -> Option<Group> {
    let group: Result<_, Infallible> = groups.next_group(want, &mut |_| Ok(Permit::free()));
    let Ok(group) = group;
    group
}

fn found(sample: Sample<Encoded>) -> FoundPicture {
    let caption = sample.caption.map(|caption| caption.to_string()).unwrap_or_default();
    FoundPicture { image: sample.payload.image.to_vec(), caption, class_name: None }
}

/// The test picture with the key `CLASS/FILE` (or `FILE`) below the first root that has it.
#[must_use]
pub fn test_picture(roots: &[PathBuf], key: &str) -> Option<Vec<u8>> {
    let key = Path::new(key);
    if !is_below(key) {
        return None;
    }
    let last = Path::new(key.file_name()?);
    let places = roots.iter().flat_map(|root| [root.join(key), root.join(last)]);
    let readable = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_FILE_BYTES);
    places.filter(readable).find_map(|path| std::fs::read(path).ok())
}

/// Whether a key names a file below its root, never one beside it.
fn is_below(key: &Path) -> bool {
    key.components().all(|part| matches!(part, Component::Normal(_)))
}

/// The picture itself if it is small, else one of it that is (BMP, box-averaged); as it was where it cannot be decoded.
#[must_use]
pub fn small(image: Vec<u8>) -> Vec<u8> {
    if image.len() <= LARGE_BYTES {
        return image;
    }
    let Ok(picture) = decode_rgb(&image, &Limits::default()) else { return image };
    let (width, height) = (picture.width as usize, picture.height as usize);
    let longest = width.max(height);
    if longest <= SMALL_SIDE {
        return image;
    }
    let (w, h) = ((width * SMALL_SIDE / longest).max(1), (height * SMALL_SIDE / longest).max(1));
    let row_bytes = (w * 3).next_multiple_of(4);
    let mut bmp = bmp_head(w, h, row_bytes);
    // BMP's rows go upwards, its colours backwards.
    for y in (0..h).rev() {
        let rows = y * height / h..((y + 1) * height / h).max(y * height / h + 1);
        for x in 0..w {
            let columns = x * width / w..((x + 1) * width / w).max(x * width / w + 1);
            let mut sums = [0u64; 3];
            for row in rows.clone() {
                for pixel in
                    picture.pixels[(row * width + columns.start) * 3..(row * width + columns.end) * 3].chunks_exact(3)
                {
                    sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u64::from(*value));
                }
            }
            let count = (rows.len() * columns.len()) as u64;
            bmp.extend(sums.iter().rev().map(|sum| u8::try_from((sum + count / 2) / count).unwrap_or(u8::MAX)));
        }
        bmp.resize(bmp.len() + row_bytes - w * 3, 0);
    }
    bmp
}

/// File and information header of an uncompressed BMP of 24 bits a pixel.
fn bmp_head(width: usize, height: usize, row_bytes: usize) -> Vec<u8> {
    let long = |value: usize| u32::try_from(value).unwrap_or(0).to_le_bytes();
    let mut head = b"BM".to_vec();
    for value in [54 + row_bytes * height, 0, 54, 40, width, height] {
        head.extend(long(value));
    }
    head.extend([1, 0, 24, 0]);
    for value in [0, row_bytes * height, 2835, 2835, 0, 0] {
        head.extend(long(value));
    }
    head
}
