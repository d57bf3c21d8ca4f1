//! Folders of pictures, as torchvision's ImageFolder and img2dataset's `--output_format files` lay them out, as shards: one class
//! folder, one shard.
//!
//! ```text
//! ROOT/CLASS/0.jpg            a picture; its key is CLASS/0.jpg
//! ROOT/CLASS/0.txt 0.json     its caption and metadata, as img2dataset writes them
//! ROOT/CLASS/more/1.PPM       to any depth, in ImageFolder's order; its key is CLASS/more/1.PPM
//! ROOT/0.jpg                  a root without class folders is one shard, called after it
//! ```
//!
//! A folder's name is a label for who asks for labels, never a caption. What is no picture by its name, and what is hidden (`._0.jpg`,
//! `.ipynb_checkpoints`), is passed over and noted; whether a file is a picture is the decoder's to say. A root with pictures of its own
//! beside class folders is refused: nobody can know which of them is meant. So are class folders and pictures whose names are not UTF-8:
//! shards and keys are texts, and what does not fit into them would be called as others are.
//!
//! Cost: a plan holds its classes, not their files; these are listed again when their shard is read.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::iter;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::names::FOLDER_EXTENSIONS;
use super::plan::{Look, Lost, Plan, PlanError, ShardRef, gone_from};
use super::promised::{Promised, promised_to_folder};
use super::remark;
use super::samples::GroupConfig;
use super::store::{Local, StoreError};
use trommel_core::notices::Notices;
use trommel_core::sample::ShardOutcome;

mod beside;
mod reader;

pub use self::beside::PictureFiles;
pub use self::reader::FolderReader;

/// Why a folder is no folder of pictures.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Nothing there is a picture.
    #[error("{root}: neither pictures nor folders of pictures{passed_over}")]
    NoPicture {
        /// The folder, as given.
        root: String,
        /// What there was instead; may be empty.
        passed_over: String,
    },
    /// Pictures beside class folders.
    #[error(
        "{root}: {own} pictures lie beside {classes} folders with {pictures} more (first: {first}); give the folder that is meant, or \
         move one or the other away"
    )]
    Mixed {
        /// The folder, as given.
        root: String,
        /// Its own pictures.
        own: usize,
        /// Number of class folders.
        classes: usize,
        /// Their pictures.
        pictures: usize,
        /// The first class folder.
        first: String,
    },
    /// A class folder or a picture whose name is not UTF-8.
    #[error("{first}: the name is not UTF-8")]
    NotUtf8 {
        /// Path of the first of them, with U+FFFD for what is no text.
        first: String,
        /// Pictures that there are, those with other names included.
        pictures: u64,
    },
    /// A folder that cannot be read.
    #[error(transparent)]
    Io(#[from] PlanError),
}

/// One picture, and what lies beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Path of the picture.
    pub path: PathBuf,
    /// Which of the text keys has a file beside it: the most preferred one.
    text: Option<u16>,
    json: bool,
}

impl Picture {
    /// A picture, of which `has` says whether a file lies beside it.
    fn new(path: PathBuf, config: &GroupConfig, mut has: impl FnMut(PathBuf) -> bool) -> Self {
        let json = has(path.with_extension("json"));
        let texts = config.text_keys.iter().enumerate().filter(|(_, key)| has(path.with_extension(key)));
        let text = texts.map(|(at, _)| at).min().and_then(|at| u16::try_from(at).ok());
        Self { path, text, json }
    }
}

/// A class folder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Class {
    folder: PathBuf,
    /// Whether its folders belong to it.
    deep: bool,
}

/// A folder of pictures as it was found.
#[derive(Clone, Debug)]
pub struct Folders {
    /// Its classes in the order of their names; a shard's size is that of its pictures.
    pub plan: Arc<Plan>,
    /// Pictures of all classes.
    pub pictures: u64,
    /// Pictures with a text or json beside them.
    pub captioned: u64,
    /// What was passed over beside the class folders.
    pub notices: Notices,
    classes: Vec<Class>,
    config: GroupConfig,
    extensions: Vec<String>,
}

impl Folders {
    /// Finds `root`'s classes. Pictures are [`FOLDER_EXTENSIONS`], or `config`'s image keys where these are not the default ones; texts
    /// are its text keys.
    ///
    /// # Errors
    /// A root that cannot be read, holds no picture, or holds pictures beside class folders; names that are not UTF-8.
    pub fn find(root: &Path, config: &GroupConfig) -> Result<Self, FolderError> {
        let mut found = Self::nothing(config);
        let own = found.walk(root, false)?;
        let (mut shards, mut misnamed) = (Vec::new(), None);
        for folder in &own.folders {
            let class = found.walk(folder, true)?;
            if class.pictures.is_empty() {
                let name = file_name(folder);
                let promised = promised_to_folder(folder);
                if promised != Promised::Nothing {
                    found.notices.merge(&remark::lost(&ShardOutcome::Complete(None), 0, promised, &name));
                }
                found.notices.note("empty_class", "class folders without a picture passed over", name, 1);
                found.notices.merge(&class.notices);
            } else {
                misnamed = misnamed.or_else(|| not_utf8(folder, &class.pictures));
                found.add(&mut shards, Class { folder: folder.clone(), deep: true }, &class.pictures);
            }
        }
        if !own.pictures.is_empty() {
            if let Some(first) = found.classes.first() {
                return Err(FolderError::Mixed {
                    root: root.display().to_string(),
                    own: own.pictures.len(),
                    classes: found.classes.len(),
                    pictures: usize::try_from(found.pictures).unwrap_or(usize::MAX),
                    first: file_name(&first.folder),
                });
            }
            misnamed = not_utf8(root, &own.pictures);
            found.add(&mut shards, Class { folder: root.to_path_buf(), deep: false }, &own.pictures);
        } else {
            found.notices.merge(&own.notices);
        }
        if shards.is_empty() {
            let lines: Vec<String> = found.notices.lines().collect();
            let passed_over = if lines.is_empty() { String::new() } else { format!("; {}", lines.join("; ")) };
            return Err(FolderError::NoPicture { root: root.display().to_string(), passed_over });
        }
        if let Some(first) = misnamed {
            return Err(FolderError::NotUtf8 { first, pictures: found.pictures });
        }
        let mut lost = Vec::new();
        if own.pictures.is_empty() {
            let store = Local::default();
            let folder = root.display().to_string();
            for (path, promised) in gone_from(&Look::at(&store), &folder, Duration::ZERO, |_| true)? {
                lost.push(Lost { name: file_name(Path::new(&path)), promised });
            }
        }
        found.plan = Arc::new(Plan { shards, lost, ..Plan::default() });
        Ok(found)
    }

    /// All pictures that [`find`](Self::find) sees under `root`, class after class, its own first. Costs a listing of each folder, and no look at a picture
    /// that is no link.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn pictures_under(root: &Path, config: &GroupConfig) -> Result<Vec<PathBuf>, PlanError> {
        let found = Self::nothing(config);
        let Walked { mut pictures, folders, .. } = found.walk(root, false)?;
        for folder in &folders {
            pictures.extend(found.walk(folder, true)?.pictures);
        }
        Ok(pictures.into_iter().map(|picture| picture.path).collect())
    }

    fn nothing(config: &GroupConfig) -> Self {
        let extensions = if config.image_keys == GroupConfig::default().image_keys {
            FOLDER_EXTENSIONS.map(String::from).to_vec()
        } else {
            config.image_keys.clone()
        };
        Self {
            plan: Arc::default(),
            pictures: 0,
            captioned: 0,
            notices: Notices::default(),
            classes: Vec::new(),
            config: config.clone(),
            extensions,
        }
    }

    fn add(&mut self, shards: &mut Vec<ShardRef>, class: Class, pictures: &[Picture]) {
        shards.push(ShardRef {
            ordinal: shards.len() as u64,
            name: file_name(&class.folder),
            url: class.folder.display().to_string(),
            bytes: Some(bytes_of(pictures)),
        });
        self.pictures += pictures.len() as u64;
        self.captioned += pictures.iter().filter(|picture| picture.text.is_some() || picture.json).count() as u64;
        self.classes.push(class);
    }

    /// The pictures of one class as they are now, in ImageFolder's order, and what was passed over among them.
    ///
    /// # Errors
    /// A folder that cannot be read; a picture whose name is not UTF-8.
    pub fn pictures_of(&self, class: usize) -> Result<(Vec<Picture>, Notices), PlanError> {
        let Some(Class { folder, deep }) = self.classes.get(class) else { return Ok(Default::default()) };
        let Walked { pictures, notices, .. } = self.walk(folder, *deep)?;
        not_utf8(folder, &pictures).map_or(Ok((pictures, notices)), |path| Err(PlanError::NotUtf8(path)))
    }

    fn walk(&self, root: &Path, deep: bool) -> Result<Walked, PlanError> {
        let mut walked = Walked::default();
        let mut above = Vec::new();
        self.enter(root, root, deep, &mut above, &mut walked)?;
        // As Python sorts what os.walk finds: by the folders' whole paths, then by the files' names.
        walked.pictures.sort_by(|a, b| place(&a.path).cmp(&place(&b.path)));
        Ok(walked)
    }

    fn enter(
        &self,
        root: &Path,
        folder: &Path,
        deep: bool,
        above: &mut Vec<(u64, u64)>,
        walked: &mut Walked,
    ) -> Result<(), PlanError> {
        let fail = |error: io::Error| PlanError::from(StoreError::io(&folder.display().to_string(), error));
        let metadata = fs::metadata(folder).map_err(fail)?;
        let name = |path: &Path| {
            let root = root.parent().unwrap_or(root);
            path.strip_prefix(root).unwrap_or(path).display().to_string()
        };
        let identity = (metadata.dev(), metadata.ino());
        if above.contains(&identity) {
            walked.notices.note("folder_loop", "folders that lead back to themselves passed over", name(folder), 1);
            return Ok(());
        }
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let path = entry.path();
            let kind = entry.file_type().map_err(fail)?;
            // Links are followed, as ImageFolder follows them; one that leads nowhere is a file that cannot be read.
            let kind =
                if kind.is_symlink() { fs::metadata(&path).ok().map(|there| there.file_type()) } else { Some(kind) };
            match kind {
                _ if entry.file_name().as_bytes().starts_with(b".") => {
                    walked.notices.note("hidden", "hidden files and folders passed over", name(&path), 1);
                }
                Some(kind) if kind.is_dir() => folders.push(path),
                Some(kind) if !kind.is_file() => walked.pass_over(name(&path)),
                _ => files.push(path),
            }
        }
        files.sort();
        folders.sort();
        let (pictures, others): (Vec<PathBuf>, Vec<PathBuf>) =
            files.into_iter().partition(|path| self.is_picture(path));
        let names: HashSet<&OsStr> = others.iter().filter_map(|path| path.file_name()).collect();
        let mut beside: HashSet<PathBuf> = HashSet::new();
        for path in pictures {
            walked.pictures.push(Picture::new(path, &self.config, |other| {
                let there = other.file_name().is_some_and(|name| names.contains(name));
                if there {
                    beside.insert(other);
                }
                there
            }));
        }
        for path in others.iter().filter(|path| !beside.contains(*path)) {
            walked.pass_over(name(path));
        }
        if deep {
            above.push(identity);
            for folder in &folders {
                self.enter(root, folder, true, above, walked)?;
            }
            above.pop();
        }
        walked.folders = folders;
        Ok(())
    }

    fn is_picture(&self, path: &Path) -> bool {
        let extension = extension(path);
        self.extensions.contains(&extension)
    }
}

/// What lies in a folder.
#[derive(Default)]
struct Walked {
    pictures: Vec<Picture>,
    /// The folders directly in it.
    folders: Vec<PathBuf>,
    notices: Notices,
}

impl Walked {
    fn pass_over(&mut self, name: String) {
        self.notices.note("no_picture", "files that are no pictures by their names passed over", name, 1);
    }
}

/// A file's folder and name.
fn place(path: &Path) -> (&[u8], &[u8]) {
    (
        path.parent().map_or(&[][..], |folder| folder.as_os_str().as_bytes()),
        path.file_name().map_or(&[][..], OsStr::as_bytes),
    )
}

fn bytes_of(pictures: &[Picture]) -> u64 {
    pictures.iter().filter_map(|picture| Some(fs::metadata(&picture.path).ok()?.len())).sum()
}

/// A folder with its own name: that of a link, and not of what it points to, as torchvision's `ImageFolder` has it. `.` has none of its own.
fn with_name(folder: &Path) -> Cow<'_, Path> {
    let whole = if folder.file_name().is_none() { folder.canonicalize().ok() } else { None };
    whole.map_or(Cow::Borrowed(folder), Cow::Owned)
}

/// A folder's name. Where it is not UTF-8, it is only to be shown.
fn file_name(folder: &Path) -> String {
    with_name(folder).file_name().unwrap_or_default().to_string_lossy().into()
}

/// The first path that is not UTF-8 among a class folder and its pictures, as it is shown.
fn not_utf8(folder: &Path, pictures: &[Picture]) -> Option<String> {
    let folder = with_name(folder);
    let mut paths = iter::once(&*folder).chain(pictures.iter().map(|picture| &*picture.path));
    paths.find(|path| path.to_str().is_none()).map(|path| path.display().to_string())
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

#[cfg(test)]
mod peers;
#[cfg(test)]
mod tests;
