//! `trommel inject`: class folders ─▶ shards with captions, to stand in a stream beside others.
//!
//! Two uses: a labelled set joins the pool (as the study adds its reference, "a photo of a {class}"), and the inverse of pruning: copies of
//! chosen benchmark pictures, so many of each, for models that are contaminated on purpose. The original bytes are written. Each sample says
//! where it comes from, and the ledger takes it over: its `url` is `injected:SET/CLASS/FILE#COPY`.
//!
//! Which pictures are chosen is `random:N`'s draw over (class folder, key), so that those of a smaller number are among those of a larger one.
//! Copies are written round by round: no two copies of a picture lie beside each other. Equal settings over equal pictures give equal bytes.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use trommel_core::durable::{self, Aside};
use trommel_core::notices::Notices;
use trommel_decide::hash::random_hash;
use trommel_decide::percent::Percent;
use trommel_shard::folders::Folders;
use trommel_shard::names::IMAGE_KEYS;
use trommel_shard::samples::{GroupConfig, keys};

use crate::decision::hex;
use crate::error::PipelineError;

/// The caption where none is given.
pub const CAPTION: &str = "a photo of a {class}";

/// How many pictures of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Items {
    /// So many.
    Number(u64),
    /// So many in a hundred, rounded down.
    Share(Percent),
}

impl FromStr for Items {
    type Err = PipelineError;

    fn from_str(text: &str) -> Result<Self, PipelineError> {
        let wrong = |why: &dyn std::fmt::Display| {
            PipelineError::Usage(format!("--items {text}: write a number of pictures or a share, 10%: {why}"))
        };
        match text.strip_suffix('%') {
            Some(share) => share.trim().parse().map(Self::Share).map_err(|why| wrong(&why)),
            None => text.parse().map(Self::Number).map_err(|why| wrong(&why)),
        }
    }
}

/// What is injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectConfig {
    /// Class folders.
    pub folder: PathBuf,
    /// The shards' folder.
    pub out: PathBuf,
    /// What the set is called: in keys, uids and URLs.
    pub set: String,
    /// `{class}` stands for the class.
    pub caption: String,
    /// Class names in the order of the sorted folders; the folders' own, `_` as blank, where empty.
    pub class_names: Vec<String>,
    /// How many pictures; `None`: all.
    pub items: Option<Items>,
    /// Copies of each.
    pub copies: u32,
    /// Seed of the choice.
    pub seed: u64,
    /// Samples of a shard.
    pub shard_samples: u32,
}

impl InjectConfig {
    /// The shards, as an argument of `trommel prune`.
    #[must_use]
    pub fn argument(&self) -> String {
        format!("{}={}", self.set, self.out.join("*.tar").display())
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InjectReport {
    /// Pictures that there are.
    pub pictures: u64,
    /// Of these the chosen ones.
    pub items: u64,
    /// Copies of each.
    pub copies: u32,
    /// Samples: items times copies.
    pub samples: u64,
    /// Shards.
    pub shards: u64,
    /// The shards, as an argument of `trommel prune`.
    pub argument: String,
    /// What was passed over in the folders.
    pub notices: Notices,
}

/// A chosen picture.
struct Item {
    path: PathBuf,
    key: String,
    class: String,
    extension: String,
}

/// Writes the shards.
///
/// # Errors
/// No class folders, a caption without its class, more items than pictures, a picture in a format that readers of shards do not look
/// for, an occupied folder, a file that cannot be read or written.
pub fn inject(config: &InjectConfig) -> Result<InjectReport, PipelineError> {
    check(config)?;
    let folders = Folders::find(&config.folder, &GroupConfig::default()).map_err(PipelineError::usage)?;
    let shards = &folders.plan.shards;
    let names: Vec<String> = match config.class_names.as_slice() {
        [] => shards.iter().map(|shard| shard.name.replace('_', " ")).collect(),
        names => names.to_vec(),
    };
    if names.len() != shards.len() {
        return Err(PipelineError::Usage(format!("{} class names for {} class folders", names.len(), shards.len())));
    }
    let mut notices = folders.notices.clone();
    notices.merge(&folders.plan.losses());
    let mut all = Vec::new();
    for (at, (shard, class)) in shards.iter().zip(&names).enumerate() {
        let (pictures, passed_over) = folders.pictures_of(at).map_err(PipelineError::usage)?;
        notices.merge(&passed_over);
        for picture in pictures {
            let inner = picture.path.strip_prefix(&shard.url).unwrap_or(&picture.path).to_string_lossy().into_owned();
            let extension = picture.path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            if !keys(IMAGE_KEYS).contains(&extension) {
                return Err(PipelineError::Usage(format!(
                    "{}: readers of shards look for {IMAGE_KEYS}; give this picture one of these formats",
                    picture.path.display()
                )));
            }
            let draw = (random_hash(config.seed, &shard.name, &inner), at, inner.clone());
            let key = format!("{}/{inner}", shard.name);
            all.push((draw, Item { path: picture.path, key, class: class.clone(), extension }));
        }
    }
    let pictures = all.len() as u64;
    let wanted = match config.items {
        None => pictures,
        Some(Items::Number(number)) => number,
        Some(Items::Share(share)) => share.of(pictures),
    };
    if wanted == 0 || wanted > pictures {
        return Err(PipelineError::Usage(format!("--items: {wanted} of {pictures} pictures")));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let items: Vec<Item> =
        all.into_iter().take(usize::try_from(wanted).unwrap_or(usize::MAX)).map(|(_, item)| item).collect();
    begin(config)?;
    let samples = wanted * u64::from(config.copies);
    let written = write(config, &items, samples)?;
    let argument = config.argument();
    Ok(InjectReport { pictures, items: wanted, copies: config.copies, samples, shards: written, argument, notices })
}

fn check(config: &InjectConfig) -> Result<(), PipelineError> {
    let wrong = |why: String| Err(PipelineError::Usage(why));
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if config.set.is_empty() || !config.set.chars().all(is_name) {
        return wrong(format!("--name {}: letters, digits, `_` and `-`, for it stands in keys", config.set));
    }
    check_caption(&config.caption)?;
    if config.copies == 0 || config.shard_samples == 0 {
        return wrong("--copies and --shard-samples are 1 at least".into());
    }
    Ok(())
}

/// Refuses a caption without a place for the class.
///
/// # Errors
/// No `{class}` in it, or another brace.
pub fn check_caption(caption: &str) -> Result<(), PipelineError> {
    let rest = caption.replace("{class}", "");
    if rest.len() < caption.len() && !rest.contains(['{', '}']) {
        return Ok(());
    }
    let wrong = format!("caption `{caption}`: write {{class}} where the class belongs, and no other brace");
    Err(PipelineError::Usage(wrong))
}

/// Marks the folder as this set's, or refuses it.
fn begin(config: &InjectConfig) -> Result<(), PipelineError> {
    let InjectConfig { folder, out, set, caption, class_names, items, copies, seed, shard_samples } = config;
    let settings = json!({
        "schema": 1, "folder": folder, "set": set, "caption": caption, "class_names": class_names,
        "items": items.map(|items| format!("{items:?}")), "copies": copies, "seed": seed, "shard_samples": shard_samples,
    });
    let (mark, text) = (out.join("inject.json"), settings.to_string() + "\n");
    durable::make_folder(out).map_err(PipelineError::at(out))?;
    let occupied = fs::read_dir(out).map_err(PipelineError::at(out))?.next().is_some();
    if occupied && fs::read_to_string(&mark).ok().as_ref() != Some(&text) {
        let out = out.display();
        return Err(PipelineError::Usage(format!(
            "{out} is not empty and was not made with these settings; name another folder"
        )));
    }
    durable::write(&mark, text.as_bytes()).map_err(PipelineError::at(&mark))
}

/// Writes all rounds of the items; the number of shards.
fn write(config: &InjectConfig, items: &[Item], samples: u64) -> Result<u64, PipelineError> {
    let shards = samples.div_ceil(u64::from(config.shard_samples));
    let mut rounds = (0..config.copies).flat_map(|copy| items.iter().map(move |item| (copy, item)));
    for shard in 0..shards {
        let path = config.out.join(format!("{shard:05}.tar"));
        let failed = PipelineError::at(&path);
        let aside = Aside::create(&path).map_err(&failed)?;
        let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, aside));
        let mut written = 0u64;
        for (copy, item) in rounds.by_ref().take(config.shard_samples as usize) {
            let number = shard * u64::from(config.shard_samples) + written;
            sample(&mut tar, config, item, (copy, number))
                .map_err(|(place, error)| PipelineError::at(&place)(error))?;
            written += 1;
        }
        let out = tar.into_inner().map_err(&failed)?;
        let aside = out.into_inner().map_err(|error| failed(error.into_error()))?;
        // The statistics after the shard: without it they would speak of one that is lost.
        aside.commit().map_err(&failed)?;
        let stats = config.out.join(format!("{shard:05}_stats.json"));
        let text = json!({ "count": written, "successes": written, "failed_to_download": 0, "failed_to_resize": 0 });
        durable::write(&stats, text.to_string().as_bytes()).map_err(PipelineError::at(&stats))?;
    }
    Ok(shards)
}

/// One sample's members: picture, metadata, caption.
fn sample<W: Write>(
    tar: &mut tar::Builder<W>,
    config: &InjectConfig,
    item: &Item,
    (copy, number): (u32, u64),
) -> Result<(), (PathBuf, std::io::Error)> {
    let set = &config.set;
    let bytes = fs::read(&item.path).map_err(|error| (item.path.clone(), error))?;
    let caption = config.caption.replace("{class}", &item.class);
    let (key, url) = (format!("{set}-{number:09}"), format!("injected:{set}/{}#{copy}", item.key));
    let uid = hex(&Sha256::digest(url.as_bytes()))[..32].to_owned();
    let meta = json!({
        "uid": uid, "key": key, "caption": caption, "url": url, "class": item.class, "injected_from": set, "source": item.key,
        "copy": copy, "sha256": hex(&Sha256::digest(&bytes)), "status": "success",
    });
    let mut member = |extension: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o444);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, format!("{key}.{extension}"), bytes)
            .map_err(|error| (Path::new(&config.out).to_path_buf(), error))
    };
    member(&item.extension, &bytes)?;
    member("json", meta.to_string().as_bytes())?;
    member("txt", caption.as_bytes())
}
