//! What lies beside a picture: its caption and its metadata. A run that judges reads them here, and so does whoever asks later what was
//! judged: both take the same files, within the same limits.
//!
//! Cost: two files at most, of `max_text_bytes` and `max_json_bytes`. [`PictureFiles`] lists no folder: it asks for each name.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::super::metadata::Metadata;
use super::super::samples::{GroupConfig, too_long};
use super::super::store::StoreError;
use super::{Picture, extension};
use trommel_core::causes::Cause;
use trommel_core::sample::Reason;

/// Why a file was not read.
pub(super) enum Unread {
    /// It is larger than a sample's may be: a reject.
    TooLarge(Reason),
    /// It cannot be had: the folder stays unfinished.
    Unavailable(StoreError),
}

impl Unread {
    /// The same as an error that says which picture's it is.
    fn of(self, path: &Path) -> Cause {
        match self {
            Self::TooLarge(reason) => format!("{}: {}", path.display(), reason.detail).into(),
            Self::Unavailable(error) => error.into(),
        }
    }
}

/// The files beside a picture, as they were read.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// The json's fields; its caption is not among them any more.
    pub(super) metadata: Metadata,
    /// The text, else the json's caption; `None` where both are blank or missing.
    pub(super) caption: Option<String>,
    /// Bytes of the files together.
    pub(super) bytes: u64,
    /// A field that is longer than a sample's may be.
    pub(super) long: Option<Reason>,
    /// There is a json that is none.
    pub(super) is_json_broken: bool,
    /// The text is not UTF-8.
    pub(super) is_text_foreign: bool,
}

impl Beside {
    /// Reads text and json, as far as they are wanted and not too long.
    pub(super) fn read(picture: &Picture, config: &GroupConfig) -> Result<Self, Unread> {
        let path = &picture.path;
        let text_key = picture.text.and_then(|at| config.text_keys.get(usize::from(at)));
        let json = picture.json.then(|| whole(&path.with_extension("json"), config.max_json_bytes)).transpose()?;
        let text = text_key.map(|key| whole(&path.with_extension(key), config.max_text_bytes)).transpose()?;
        let mut beside = Self {
            bytes: (json.as_ref().map_or(0, Vec::len) + text.as_ref().map_or(0, Vec::len)) as u64,
            ..Self::default()
        };
        let read = json.map(|json| Metadata::parse(&json));
        beside.is_json_broken = read == Some(None);
        beside.metadata = read.flatten().unwrap_or_default();
        beside.long = too_long(&mut beside.metadata, config);
        beside.is_text_foreign = text.as_ref().is_some_and(|text| std::str::from_utf8(text).is_err());
        let blank = |text: &String| text.trim().is_empty();
        let text = text.map(|text| String::from_utf8_lossy(&text).into_owned()).filter(|text| !blank(text));
        beside.caption = text.or(beside.metadata.caption.take()).filter(|text| !blank(text));
        Ok(beside)
    }
}

/// One picture of a class folder with what lies beside it, read without its folder's plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PictureFiles {
    /// The encoded picture.
    pub image: Vec<u8>,
    /// Its caption, as [`FolderReader`](super::FolderReader) gives it; `None` where the text and the json are blank or missing.
    pub caption: Option<String>,
    /// Neither a text nor a json lies beside it: its folder's name is all that is said of it.
    pub is_alone: bool,
    /// Bytes of the picture, the text and the json together: what a ledger has as the sample's size.
    pub size: u64,
}

impl PictureFiles {
    /// Reads the picture at `path`, and beside it what `config`'s text keys and `json` name.
    ///
    /// # Errors
    /// A file that is there and cannot be read, or is larger than `config` lets a sample's be; a picture that is not there.
    pub fn read(path: &Path, config: &GroupConfig) -> Result<Self, Cause> {
        let picture = Picture::new(path.to_path_buf(), config, |other| is_there(&other));
        let is_alone = picture.text.is_none() && !picture.json;
        let bytes = size(path, config.max_image_bytes).map_err(|error| error.of(path))?;
        let beside = Beside::read(&picture, config).map_err(|error| error.of(path))?;
        if let Some(long) = beside.long {
            return Err(Unread::TooLarge(long).of(path));
        }
        Ok(Self { image: image(path, bytes)?, caption: beside.caption, is_alone, size: bytes + beside.bytes })
    }
}

/// Whether a folder's listing would have it as a file: a link that leads nowhere too, and what nobody may look at.
fn is_there(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) => metadata.is_file(),
        Err(error) => error.kind() != io::ErrorKind::NotFound || fs::symlink_metadata(path).is_ok(),
    }
}

/// A picture of this many bytes.
pub(super) fn image(path: &Path, bytes: u64) -> Result<Vec<u8>, StoreError> {
    let mut image = vec![0u8; usize::try_from(bytes).unwrap_or(usize::MAX)];
    File::open(path).and_then(|mut file| file.read_exact(&mut image)).map_err(refused(path))?;
    Ok(image)
}

/// A file's size, if it is at most `most` bytes.
pub(super) fn size(path: &Path, most: u64) -> Result<u64, Unread> {
    let bytes = fs::metadata(path).map_err(refused(path)).map_err(Unread::Unavailable)?.len();
    if bytes > most {
        let detail = format!("{} has {bytes} bytes, more than {most}", extension(path));
        return Err(Unread::TooLarge(Reason::new("member_too_large", detail)));
    }
    Ok(bytes)
}

fn whole(path: &Path, most: u64) -> Result<Vec<u8>, Unread> {
    size(path, most)?;
    fs::read(path).map_err(refused(path)).map_err(Unread::Unavailable)
}

fn refused(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |error| StoreError::io(&path.display().to_string(), error)
}
