//! `trommel inject`: labelled pictures ─▶ shards with captions, to stand in a stream beside others.
//!
//! Two uses: a labelled set joins the pool (as the study adds its reference, "a photo of a {class}"), and the inverse of pruning: copies of
//! chosen benchmark pictures, so many of each, for models that are contaminated on purpose. The original bytes are written. Each sample says
//! where it comes from, and the ledger takes it over: its `url` is `injected:SET/CLASS/FILE#COPY`.
//!
//! Which pictures are chosen is `random:N`'s draw over (SET, key), so that those of a smaller number are among those of a larger one.
//! Copies are written round by round: no two copies of a picture lie beside each other. Equal settings over equal pictures give equal bytes.
//! `inject.json` beside the shards has the settings, and `finished` once all shards are there.
//! Cost: the pictures are read once for each copy, and once more where some of them are drawn.

use std::collections::HashSet;
use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use trommel_core::durable::{self, Aside};
use trommel_core::image_kind::image_kind;
use trommel_core::names::is_word;
use trommel_core::notices::Notices;
use trommel_core::out_folder::OutFolder;
use trommel_decide::hash::random_hash;
use trommel_decide::percent::Percent;
use trommel_decode::Limits;
use trommel_shard::folders::Folders;
use trommel_shard::names::IMAGE_KEYS;
use trommel_shard::promised::STATS_ENDING;
use trommel_shard::samples::GroupConfig;

use crate::error::PipelineError;
use crate::labelled::{ClassNames, LabelledPictures, nothing};

/// What says with which settings the folder is made.
const MARK: &str = "inject.json";
/// The lock of whoever writes into the folder.
const LOCK: &str = ".inject.lock";

/// The caption where none is given.
pub const CAPTION: &str = "a photo of a {class}";

/// How many pictures of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Items {
    /// So many pictures.
    Number(u64),
    /// So many in a hundred, rounded down.
    Share(Percent),
}

impl FromStr for Items {
    type Err = PipelineError;

    fn from_str(text: &str) -> Result<Self, PipelineError> {
        let wrong =
            |why: PipelineError| why.within(format_args!("--items {text}: write a number of pictures or a share, 10%"));
        match text.strip_suffix('%') {
            Some(share) => share.trim().parse().map(Self::Share).map_err(|why| wrong(PipelineError::usage(why))),
            None => text.parse().map(Self::Number).map_err(|why| wrong(PipelineError::usage(why))),
        }
    }
}

/// What is injected.
#[derive(Clone, Debug)]
pub struct InjectConfig {
    /// Class folders, or CLIP_benchmark's tars.
    pub folder: PathBuf,
    /// The shards' folder.
    pub out: PathBuf,
    /// What the set is called: in keys, uids and URLs.
    pub set: String,
    /// `{class}` stands for the class.
    pub caption: String,
    /// What is said of the classes' names.
    pub classes: ClassNames,
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
    /// Shards written.
    pub shards: u64,
    /// The shards, as an argument of `trommel prune`.
    pub argument: String,
    /// What was passed over in the folders.
    pub notices: Notices,
}

/// Writes the shards.
///
/// # Errors
/// No labelled pictures, a caption without its class, more items than pictures, a file that is no picture of a format that readers of shards
/// look for, an occupied folder, a file that cannot be read or written.
pub fn inject(config: &InjectConfig) -> Result<InjectReport, PipelineError> {
    check(config)?;
    // Before the folder is begun: what is refused leaves nothing behind that the next settings would find.
    LabelledPictures::find(&config.folder, &config.classes)?;
    let chosen = config.items.map(|items| choose(config, items)).transpose()?;
    let (_made, settings) = begin(config)?;
    let mut shards = Shards { config, open: None, written: 0 };
    let (mut pictures, mut items, mut notices) = (0, 0, Notices::default());
    for copy in 0..config.copies {
        (pictures, items) = (0, 0);
        let mut labelled = LabelledPictures::find(&config.folder, &config.classes)?;
        let names = labelled.class_names.clone();
        labelled.each(&Limits::default(), &mut |_, _| true, &mut |seen, content| {
            let is_chosen = chosen.as_ref().is_none_or(|chosen| chosen.contains(&pictures));
            pictures += 1;
            if !is_chosen {
                return Ok(());
            }
            items += 1;
            let (bytes, class) = content.map_err(|why| PipelineError::usage(why).within(&seen.place))?;
            let extension = extension(&bytes).ok_or_else(|| {
                PipelineError::usage(format!(
                    "{}: no picture of a format that readers of shards look for, {IMAGE_KEYS}",
                    seen.place
                ))
            })?;
            let (key, class) = (seen.in_set(), names.get(class).map_or("", String::as_str));
            shards.add(&Injected { key: &key, class, copy, bytes: &bytes, extension })
        })?;
        notices = labelled.notices;
        if pictures == 0 {
            return Err(nothing(&config.folder, "no picture is there", &notices));
        }
    }
    if let Ok(found) = Folders::find(&config.folder, &GroupConfig::default()) {
        let text = "captions beside pictures, in whose place the caption of their class stands";
        notices.note("captions_not_taken", text, config.folder.display().to_string(), found.captioned);
    }
    let written = shards.finish()?;
    mark(config, settings, true)?;
    let (argument, samples) = (config.argument(), items * u64::from(config.copies));
    Ok(InjectReport { pictures, items, copies: config.copies, samples, shards: written, argument, notices })
}

/// Which pictures, by their numbers.
fn choose(config: &InjectConfig, items: Items) -> Result<HashSet<u64>, PipelineError> {
    let mut draws = Vec::new();
    LabelledPictures::find(&config.folder, &config.classes)?.each(
        &Limits::default(),
        &mut |_, _| true,
        &mut |seen, _| {
            draws.push((random_hash(config.seed, &config.set, &seen.in_set()), draws.len() as u64));
            Ok(())
        },
    )?;
    let pictures = draws.len() as u64;
    let wanted = match items {
        Items::Number(number) => number,
        Items::Share(share) => share.of(pictures),
    };
    if wanted == 0 || wanted > pictures {
        return Err(PipelineError::usage(format!("--items: {wanted} of {pictures} pictures")));
    }
    draws.sort_unstable();
    Ok(draws.into_iter().take(usize::try_from(wanted).unwrap_or(usize::MAX)).map(|(_, number)| number).collect())
}

/// What a picture is by its first bytes, where readers of shards look for it; a name may say another thing, or nothing.
fn extension(bytes: &[u8]) -> Option<&'static str> {
    let extension = image_kind(bytes)?.extension();
    IMAGE_KEYS.split(';').any(|key| key == extension).then_some(extension)
}

fn check(config: &InjectConfig) -> Result<(), PipelineError> {
    let wrong = |why: String| Err(PipelineError::usage(why));
    if !is_word(&config.set) {
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
    Err(PipelineError::usage(wrong))
}

/// Marks the folder as this set's, or refuses it. Shards of an earlier start go: the pictures may be fewer now, and its last shards would
/// stay beside the new ones.
fn begin(config: &InjectConfig) -> Result<(OutFolder, Value), PipelineError> {
    let InjectConfig { folder, out, set, caption, classes, items, copies, seed, shard_samples } = config;
    let settings = json!({
        "schema": 1, "folder": folder, "set": set, "caption": caption, "classes": [json!(classes.list), json!(classes.table)],
        "items": items.map(|items| format!("{items:?}")), "copies": copies, "seed": seed, "shard_samples": shard_samples,
    });
    let failed = PipelineError::at(out);
    let made = OutFolder::locked(out, LOCK).map_err(&failed)?;
    let mut made = made.ok_or_else(|| {
        PipelineError::failed(format!("{}: another `trommel inject` is writing there", out.display()))
    })?;
    let mut files: Vec<fs::DirEntry> = fs::read_dir(out).and_then(Iterator::collect).map_err(&failed)?;
    files.retain(|file| file.file_name() != LOCK);
    if !files.is_empty() && made_with(out).as_ref() != Some(&settings) {
        let out = out.display();
        return Err(PipelineError::usage(format!(
            "{out} is not empty and was not made with these settings; name another folder"
        )));
    }
    // Not finished from here on, whatever a kill leaves of the shards.
    made.goes_with(MARK).map_err(&failed)?;
    mark(config, settings.clone(), false)?;
    let stale = files.iter().filter(|file| file.file_name().to_str().is_some_and(is_of_a_shard));
    stale.map(fs::DirEntry::path).try_for_each(|path| fs::remove_file(&path).map_err(PipelineError::at(&path)))?;
    Ok((made, settings))
}

/// The settings that the folder was begun with, if it was.
fn made_with(out: &Path) -> Option<Value> {
    let mut begun: Value = serde_json::from_slice(&fs::read(out.join(MARK)).ok()?).ok()?;
    begun.as_object_mut()?.remove("finished");
    Some(begun)
}

/// Says with which settings the folder is made, and whether all of it is there.
fn mark(config: &InjectConfig, mut settings: Value, finished: bool) -> Result<(), PipelineError> {
    settings["finished"] = json!(finished);
    let path = config.out.join(MARK);
    durable::write(&path, (settings.to_string() + "\n").as_bytes()).map_err(PipelineError::at(&path))
}

/// `00012.tar` or `00012_stats.json`, as they are written here, and what a kill has left of them.
fn is_of_a_shard(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    let number = name.strip_suffix(".tar").or_else(|| name.strip_suffix(STATS_ENDING));
    number.is_some_and(|number| number.len() >= 5 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A sample to write.
struct Injected<'a> {
    key: &'a str,
    class: &'a str,
    copy: u32,
    bytes: &'a [u8],
    extension: &'static str,
}

type Tar = tar::Builder<BufWriter<Aside>>;

/// The shards, the last one open.
struct Shards<'a> {
    config: &'a InjectConfig,
    open: Option<Tar>,
    written: u64,
}

impl Shards<'_> {
    fn path(&self, ending: &str) -> PathBuf {
        let shard = self.written.saturating_sub(1) / u64::from(self.config.shard_samples);
        self.config.out.join(format!("{shard:05}{ending}"))
    }

    fn add(&mut self, sample: &Injected<'_>) -> Result<(), PipelineError> {
        if self.written.is_multiple_of(u64::from(self.config.shard_samples)) {
            self.close()?;
        }
        self.written += 1;
        let path = self.path(".tar");
        let mut tar = match self.open.take() {
            Some(tar) => tar,
            None => {
                let aside = Aside::create(&path).map_err(PipelineError::at(&path))?;
                tar::Builder::new(BufWriter::with_capacity(1 << 20, aside))
            }
        };
        write(&mut tar, self.config, sample, self.written - 1).map_err(PipelineError::at(&path))?;
        self.open = Some(tar);
        Ok(())
    }

    fn close(&mut self) -> Result<(), PipelineError> {
        let Some(tar) = self.open.take() else { return Ok(()) };
        let path = self.path(".tar");
        let failed = PipelineError::at(&path);
        let out = tar.into_inner().map_err(&failed)?;
        let aside = out.into_inner().map_err(|error| failed(error.into_error()))?;
        // The statistics after the shard: without it they would speak of one that is lost.
        aside.commit().map_err(&failed)?;
        let samples = 1 + (self.written - 1) % u64::from(self.config.shard_samples);
        let stats = self.path(STATS_ENDING);
        let text = json!({ "count": samples, "successes": samples, "failed_to_download": 0, "failed_to_resize": 0 });
        durable::write(&stats, text.to_string().as_bytes()).map_err(PipelineError::at(&stats))
    }

    /// The number of shards.
    fn finish(mut self) -> Result<u64, PipelineError> {
        self.close()?;
        Ok(self.written.div_ceil(u64::from(self.config.shard_samples)))
    }
}

/// One sample's members: picture, metadata, caption.
fn write(tar: &mut Tar, config: &InjectConfig, sample: &Injected<'_>, number: u64) -> std::io::Result<()> {
    let (set, Injected { key: source, class, copy, bytes, extension }) = (&config.set, sample);
    let caption = config.caption.replace("{class}", class);
    let (key, url) = (format!("{set}-{number:09}"), format!("injected:{set}/{source}#{copy}"));
    let uid = format!("{:x}", Sha256::digest(url.as_bytes()))[..32].to_owned();
    let meta = json!({
        "uid": uid, "key": key, "caption": caption, "url": url, "class": class, "injected_from": set, "source": source, "copy": copy,
        "sha256": format!("{:x}", Sha256::digest(bytes)), "status": "success",
    });
    let mut member = |extension: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o444);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, format!("{key}.{extension}"), bytes)
    };
    member(extension, bytes)?;
    member("json", meta.to_string().as_bytes())?;
    member("txt", caption.as_bytes())
}
