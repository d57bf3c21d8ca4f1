//! Sets of labelled pictures as CLIP_benchmark packs them (`clip_benchmark_export_wds`).
//!
//! ```text
//! ROOT/test/nshards.txt        how many tars
//! ROOT/test/0.tar 1.tar ..     a picture and its class's number (`.cls`) a sample
//! ROOT/classnames.txt          names of the classes by their numbers, none of them blank
//! ROOT/zeroshot_classification_templates.txt    prompts with {c} for the class
//! ```
//!
//! `ROOT` means its `test` folder; another one is given itself (`ROOT/train`). Sets of captioned pictures (`--retrieval`) are packed in the same
//! way, with captions (`.txt`, one a line) in the place of the class; [`captioned`] finds their tars, which are shards like others. Whoever reads
//! pictures alone reads both ([`Packed`]).
//!
//! Other tars whose samples bear a `.cls` are found as shards are ([`Classified::of_tars`]); what their classes are called is said elsewhere.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use self::layout::{own_names, packed};
use super::compression::{CompressionLimits, decompress};
use super::plan::{PlanOptions, expand, shards_in};
use super::promised::promised;
use super::remark;
use super::samples::{Group, GroupConfig, SampleReader, Want};
use super::store::{Local, Metered};
use super::tar::{TarEnd, TarLimits, TarReader};
use trommel_core::causes::Cause;
use trommel_core::credit::Permit;
use trommel_core::credit::workspace::Workspace;
use trommel_core::notices::Notices;
use trommel_core::sample::{Encoded, Sample};

mod error;
mod layout;

pub use self::error::{ClassifiedError, LabelError};
pub use self::layout::uncounted;

/// A classified set whose files are found and not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    /// Its tars, in order.
    pub shards: Vec<PathBuf>,
    /// What they are called where keys are their own, and may come again in another one; empty where the set numbers all of its samples.
    pub names: Vec<String>,
    /// Names of its classes by their numbers; empty where there is no list.
    pub class_names: Vec<String>,
    /// The file with its templates, where there is one.
    pub templates: Option<PathBuf>,
    /// What is lost of it before a tar is read, and lists of its own that are not read.
    pub notices: Notices,
}

/// One picture of a set.
#[derive(Debug)]
pub struct Labelled {
    /// Key of the sample, as its members are named.
    pub key: String,
    /// Its raw index in the tar.
    pub index: u32,
    /// Its encoded bytes and the number of its class; or what is wrong with it.
    pub content: Result<(Vec<u8>, usize), LabelError>,
}

impl Classified {
    /// The set that `root` is; `None` where it is something else.
    ///
    /// # Errors
    /// A set of another kind (retrieval, several labels), or of which a file cannot be read; a class whose name is blank.
    pub fn find(root: &Path) -> Result<Option<Self>, ClassifiedError> {
        Self::find_called(root, &[])
    }

    /// The same, its classes called by other names than its own, where any are given; that its own are others and not read is noted.
    ///
    /// # Errors
    /// As [`Self::find`]; whether its own names can be read is all the same where others are given.
    pub fn find_called(root: &Path, given: &[String]) -> Result<Option<Self>, ClassifiedError> {
        let Some((shards, above)) = packed(root, "classification", "one class a picture")? else { return Ok(None) };
        let (list, mut notices) = (above.join("classnames.txt"), Notices::default());
        let own = own_names(&list);
        let class_names = if given.is_empty() {
            own?
        } else {
            if list.is_file() && !own.is_ok_and(|own| own == given) {
                let text = "class names of a set's own that are not read, for others are given in their place";
                notices.note("own_class_names", text, list.display().to_string(), 1);
            }
            given.to_vec()
        };
        let templates = Some(above.join("zeroshot_classification_templates.txt")).filter(|path| path.is_file());
        Ok(Some(Self { shards, names: Vec::new(), class_names, templates, notices }))
    }

    /// The tars that `shards` gives: a folder with some, one of them, a pattern. `None` where it is something else.
    ///
    /// # Errors
    /// A pattern that finds nothing.
    pub fn of_tars(shards: &Path) -> Result<Option<Self>, ClassifiedError> {
        let text = shards.display().to_string();
        let local = Local::default();
        let is_tars = match shards.is_dir() {
            true => shards_in(&local, &text).is_ok_and(|found| !found.is_empty()),
            false => shards.is_file() || text.contains(['{', '*', '?', '[']),
        };
        if !is_tars {
            return Ok(None);
        }
        let plan = expand(&[text], &local, &PlanOptions::default())?;
        let notices = plan.losses();
        let (shards, names) = plan.shards.into_iter().map(|shard| (PathBuf::from(shard.url), shard.name)).unzip();
        Ok(Some(Self { shards, names, class_names: Vec::new(), templates: None, notices }))
    }

    /// Shows the samples of one tar, in its order; gives what was lost of it, or passed over in it.
    ///
    /// # Errors
    /// A tar that cannot be read to its end; or what `see` returns, at once.
    pub fn read<E: From<ClassifiedError>>(
        &self,
        shard: usize,
        see: &mut dyn FnMut(Labelled) -> Result<(), E>,
    ) -> Result<Notices, E> {
        self.walk(shard, GroupConfig::default().image_keys, see)
    }

    /// The class of each sample by its raw index, without the pictures.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn labels<E: From<ClassifiedError>>(
        &self,
        shard: usize,
        see: &mut dyn FnMut(u32, Result<usize, LabelError>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.walk(shard, vec![CLASS.into()], &mut |it| see(it.index, it.content.map(|(_, class)| class))).map(|_| ())
    }

    fn walk<E: From<ClassifiedError>>(
        &self,
        shard: usize,
        image_keys: Vec<String>,
        see: &mut dyn FnMut(Labelled) -> Result<(), E>,
    ) -> Result<Notices, E> {
        let Some(path) = self.shards.get(shard) else { return Ok(Notices::default()) };
        let url = path.display().to_string();
        let failed = |source: Cause| ClassifiedError::Unavailable { path: path.clone(), source };
        let opened = Metered::open(&Local::default(), &url);
        let (raw, meter) = opened.map_err(|error| failed(error.into()))?;
        let (limits, workspace) = (CompressionLimits::default(), Workspace::unbounded());
        let (plain, _) = decompress(raw, meter, &limits, workspace).map_err(|error| failed(error.into()))?;
        let is_class = image_keys == [CLASS];
        // The class is a text beside the picture; where it is all that is wanted, it stands in the picture's place.
        let text_keys = if is_class { Vec::new() } else { vec![CLASS.into()] };
        let config = GroupConfig { image_keys, text_keys, ..GroupConfig::default() };
        let mut samples = SampleReader::new(TarReader::new(plain, TarLimits::default()), &config, 0);
        let mut want = |_| Want::Content { extra_bytes: 0 };
        let mut next = || {
            let group: Result<_, Infallible> = samples.next_group(&mut want, &mut |_| Ok(Permit::free()));
            let Ok(group) = group;
            group
        };
        while let Some(group) = next() {
            let labelled = match group {
                Group::Sample(Sample { info, caption, payload: Encoded { image, .. }, .. }) => {
                    let class = if is_class { String::from_utf8_lossy(&image).into_owned() } else { String::new() };
                    let class = caption.map_or(class, |caption| caption.to_string());
                    let content = self.class(&class).map(|class| (image.to_vec(), class));
                    Labelled { key: info.key.clone(), index: info.id.index, content }
                }
                Group::Rejected(info, reason) => {
                    let content = Err(LabelError::Rejected(reason));
                    Labelled { key: info.key.clone(), index: info.id.index, content }
                }
                Group::Place(..) | Group::Original(..) => continue,
            };
            see(labelled)?;
        }
        if let Some(TarEnd::Damaged { offset, what }) = samples.tar().end() {
            return Err(failed(format!("cut off at byte {offset}: {what}").into()).into());
        }
        let mut notices = remark::found(&samples, &url);
        let promised = promised(&Local::default(), &url);
        notices.merge(&remark::lost(&remark::outcome(&samples), samples.numbered(), promised, &url));
        Ok(notices)
    }

    fn class(&self, text: &str) -> Result<usize, LabelError> {
        let class = text.trim();
        let number: usize = class.parse().map_err(|_| match class {
            "" => LabelError::NoClass,
            _ => LabelError::NoNumber(class.to_owned()),
        })?;
        match self.class_names.len() {
            0 => Ok(number),
            names if number < names => Ok(number),
            names => Err(LabelError::NoName { class: number, names }),
        }
    }
}

/// A set of CLIP_benchmark's whose pictures are read, whatever stands beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packed {
    /// Pictures with a class each.
    Classified(Classified),
    /// Pictures with captions: the set's tars.
    Captioned(Vec<PathBuf>),
}

impl Packed {
    /// The set that `root` is; `None` where it is something else. One that does not say its kind has classes.
    ///
    /// # Errors
    /// A set of another kind (several labels), or of which a file cannot be read.
    pub fn find(root: &Path) -> Result<Option<Self>, ClassifiedError> {
        match Classified::find(root) {
            Err(other @ ClassifiedError::Malformed { .. }) => {
                Self::captioned_or(root, other).map(|shards| Some(Self::Captioned(shards)))
            }
            found => Ok(found?.map(Self::Classified)),
        }
    }

    /// Its tars alone, in order: names of classes are not read.
    ///
    /// # Errors
    /// As [`Self::find`], but for its classes.
    pub fn tars(root: &Path) -> Result<Option<Vec<PathBuf>>, ClassifiedError> {
        match packed(root, "classification", "one class a picture") {
            Err(other @ ClassifiedError::Malformed { .. }) => Self::captioned_or(root, other).map(Some),
            found => Ok(found?.map(|(shards, _)| shards)),
        }
    }

    /// The tars of a set of captioned pictures; where it is none, why it is no set of classes.
    fn captioned_or(root: &Path, other: ClassifiedError) -> Result<Vec<PathBuf>, ClassifiedError> {
        match captioned(root) {
            Ok(Some(shards)) => Ok(shards),
            Err(missing @ ClassifiedError::Unavailable { .. }) => Err(missing),
            _ => Err(other),
        }
    }

    /// Its tars, in order.
    #[must_use]
    pub fn shards(&self) -> &[PathBuf] {
        match self {
            Self::Classified(set) => &set.shards,
            Self::Captioned(shards) => shards,
        }
    }
}

/// The tars of the set of captioned pictures that `root` is; `None` where it is something else.
///
/// # Errors
/// A set of another kind, or of which a file cannot be read.
pub fn captioned(root: &Path) -> Result<Option<Vec<PathBuf>>, ClassifiedError> {
    Ok(packed(root, "retrieval", "captions")?.map(|(shards, _)| shards))
}

/// Extension of the member with the class.
const CLASS: &str = "cls";

#[cfg(test)]
mod tests;
