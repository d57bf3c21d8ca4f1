//! Sets of labelled pictures as CLIP_benchmark packs them (`clip_benchmark_export_wds`).
//!
//! ```text
//! ROOT/test/nshards.txt        how many tars
//! ROOT/test/0.tar 1.tar ..     a picture and its class's number (`.cls`) a sample
//! ROOT/classnames.txt          names of the classes, by their numbers
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

use self::layout::{packed, text};
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
    /// What is lost of it, or passed over beside it, before a tar is read.
    pub notices: Notices,
}

/// One picture of a set.
#[derive(Debug)]
pub struct Labelled {
    /// Key of the sample, as its members are named.
    pub key: String,
    /// Its encoded bytes and the number of its class; or what is wrong with it.
    pub content: Result<(Vec<u8>, usize), LabelError>,
}

impl Classified {
    /// The set that `root` is; `None` where it is something else.
    ///
    /// # Errors
    /// A set of another kind (retrieval, several labels), or of which a file cannot be read.
    pub fn find(root: &Path) -> Result<Option<Self>, ClassifiedError> {
        let Some((shards, above)) = packed(root, "classification", "one class a picture")? else { return Ok(None) };
        let names = text(&above.join("classnames.txt"))?.unwrap_or_default();
        let class_names = names.lines().map(|line| line.trim().to_owned()).collect();
        let templates = Some(above.join("zeroshot_classification_templates.txt")).filter(|path| path.is_file());
        Ok(Some(Self { shards, names: Vec::new(), class_names, templates, notices: uncounted(root) }))
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

    /// The same without the pictures.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn labels<E: From<ClassifiedError>>(
        &self,
        shard: usize,
        see: &mut dyn FnMut(String, Result<usize, LabelError>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.walk(shard, vec![CLASS.into()], &mut |it| see(it.key, it.content.map(|(_, class)| class))).map(|_| ())
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
                    Labelled { key: info.key.clone(), content }
                }
                Group::Rejected(info, reason) => {
                    Labelled { key: info.key.clone(), content: Err(LabelError::Rejected(reason)) }
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
            Err(other @ ClassifiedError::Malformed { .. }) => match captioned(root) {
                Ok(Some(shards)) => Ok(Some(Self::Captioned(shards))),
                Err(missing @ ClassifiedError::Unavailable { .. }) => Err(missing),
                _ => Err(other),
            },
            found => Ok(found?.map(Self::Classified)),
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
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::tar_of;
    use trommel_core::causes::Causes;

    #[test]
    fn pictures_come_with_their_classes_and_what_has_none_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let (root, test) = (folder.path(), folder.path().join("test"));
        assert!(Classified::find(root).unwrap().is_none());
        fs::create_dir(&test).unwrap();
        fs::write(test.join("nshards.txt"), "2\n").unwrap();
        fs::write(root.join("classnames.txt"), "a\nb \n").unwrap();
        let first: &[(&str, &[u8])] = &[("s0.cls", b"1"), ("s0.webp", b"w"), ("s1.cls", b"7"), ("s1.jpg", b"j")];
        fs::write(test.join("0.tar"), tar_of(first)).unwrap();
        let missing = Causes(&Classified::find(root).unwrap_err()).to_string();
        assert!(missing.contains("1.tar") && missing.contains("says that there are 2"), "{missing}");
        let second: &[(&str, &[u8])] = &[("s2.png", b"p"), ("s3.png", b"q"), ("s3.cls", b"x")];
        fs::write(test.join("1.tar"), tar_of(second)).unwrap();
        for given in [root, &test] {
            let set = Classified::find(given).unwrap().unwrap();
            assert_eq!(set.class_names, ["a", "b"]);
            let mut seen = Vec::new();
            for shard in 0..2 {
                let mut see = |it: Labelled| {
                    seen.push((it.key, it.content.map_err(|error| error.to_string())));
                    Ok::<_, ClassifiedError>(())
                };
                let notices = set.read(shard, &mut see).unwrap();
                assert!(notices.is_empty() && set.notices.is_empty(), "{notices:?} {:?}", set.notices);
            }
            let say = |text: &str| Err(text.to_owned());
            let due = [
                ("s0", Ok((b"w".to_vec(), 1))),
                ("s1", say("class 7, and there are 2 names")),
                ("s2", say("no .cls beside it")),
                ("s3", say("`x` is no class's number")),
            ];
            assert_eq!(seen, due.map(|(key, content)| (key.to_owned(), content)));
            let mut labels = Vec::new();
            set.labels(0, &mut |key, class| {
                labels.push((key, class));
                Ok::<_, ClassifiedError>(())
            })
            .unwrap();
            assert_eq!(labels[0], ("s0".to_owned(), Ok(1)));
        }
        // What is not read, and what did not come, is said.
        for name in ["2.tar", "01.tar", "2.tar.gz"] {
            fs::write(test.join(name), tar_of(second)).unwrap();
        }
        fs::write(test.join("1_stats.json"), r#"{"successes": 5}"#).unwrap();
        let set = Classified::find(root).unwrap().unwrap();
        let of = set.notices.get("uncounted_shards").unwrap();
        assert!(of.count == 3 && of.first.ends_with("01.tar, and there are 2"), "{of:?}");
        let lost = set.read(1, &mut |_| Ok::<_, ClassifiedError>(())).unwrap();
        assert_eq!(lost.get("fewer_samples").map(|of| of.lost_samples), Some(3));
        fs::remove_file(test.join("0.tar")).unwrap();
        fs::write(test.join("0_stats.json"), r#"{"successes": 4}"#).unwrap();
        let set = Classified::of_tars(&test).unwrap().unwrap();
        assert_eq!((set.notices.lost_samples(), set.shards.len()), (4, 4), "{:?}", set.notices);
        fs::write(test.join("0.tar"), tar_of(first)).unwrap();
        fs::write(root.join("dataset_type.txt"), "retrieval\n").unwrap();
        assert!(Classified::find(root).unwrap_err().to_string().contains("a set of kind `retrieval`"));
        for given in [root, &test] {
            assert_eq!(captioned(given).unwrap().unwrap(), [test.join("0.tar"), test.join("1.tar")]);
            assert_eq!(Packed::find(given).unwrap().unwrap().shards(), [test.join("0.tar"), test.join("1.tar")]);
        }
        fs::write(root.join("dataset_type.txt"), "multilabel\n").unwrap();
        assert!(captioned(root).unwrap_err().to_string().contains("`multilabel`; sets with captions are read"));
        assert!(Packed::find(root).unwrap_err().to_string().contains("`multilabel`; sets with one class a picture"));
        fs::write(root.join("dataset_type.txt"), "retrieval\n").unwrap();
        fs::remove_file(test.join("1.tar")).unwrap();
        assert!(Causes(&Packed::find(root).unwrap_err()).to_string().contains("1.tar: is not there"));
    }
}
