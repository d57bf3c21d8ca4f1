//! Labelled pictures: class folders, CLIP_benchmark's tars, or shards with a class's number (`.cls`) a sample; and what their classes are called.
//!
//! Names of class folders come from a table (folder, name), from a list in the order of the folders, or from the folders. Folders that are all
//! called by numbers, as ImageNet-V2's are, stand in the order of the numbers: as texts, `10` would come before `2`, and take its name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use trommel_core::causes::Cause;
use trommel_core::notices::Notices;
use trommel_decode::Limits;
use trommel_shard::classified::{Classified, ClassifiedError, Labelled, captioned};
use trommel_shard::folders::{Folders, Picture};
use trommel_shard::samples::GroupConfig;
use trommel_shard::store::Local;

use crate::error::PipelineError;
use crate::stray_files::beside;

/// What is said of the classes beside the pictures.
#[derive(Clone, Debug, Default)]
pub struct ClassNames {
    /// Names in the order of the classes; empty: none were given.
    pub list: Vec<String>,
    /// Names by folder; empty: none were given.
    pub table: BTreeMap<String, String>,
}

/// Whether it is an identifier of WordNet's, as ImageNet's folders are called: `n01440764`.
pub(crate) fn is_wordnet_id(label: &str) -> bool {
    label.strip_prefix('n').is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_digit()))
}

enum Source {
    /// Class folders, with the number of each one's class.
    Folders(Folders, Vec<usize>),
    /// The tars of a classified set.
    Shards(Classified),
}

/// Labelled pictures.
pub struct LabelledPictures {
    source: Source,
    /// Names of the classes, by their numbers.
    pub class_names: Vec<String>,
    /// The file with templates that lies beside the pictures, where one does; it is not read yet.
    pub templates: Option<PathBuf>,
    /// What was lost or passed over beside the pictures.
    pub notices: Notices,
}

/// Which picture it is.
#[derive(Clone, Debug)]
pub struct PictureName {
    /// Its place, for people.
    pub place: String,
    /// Its key, as embedding the same set gives it.
    pub key: String,
    /// Name of its tar, where keys are each tar's own and may come again in another one.
    pub shard: Option<String>,
}

impl PictureName {
    /// What it alone is called in its set: its key, in its tar where that has keys of its own.
    #[must_use]
    pub fn in_set(&self) -> String {
        self.shard.as_ref().map_or_else(|| self.key.clone(), |shard| format!("{shard}/{}", self.key))
    }
}

/// What is shown of a picture: its encoded bytes or why there are none, its class.
pub type See<'a> = dyn FnMut(PictureName, Result<(Vec<u8>, usize), Cause>) -> Result<(), PipelineError> + 'a;

impl LabelledPictures {
    /// Finds the pictures of `data`: a folder, or a pattern of shards. Names that are given take the place of a set's own, which is noted.
    ///
    /// # Errors
    /// No pictures, an empty class folder, names that do not fit the classes.
    pub fn find(data: &Path, names: &ClassNames) -> Result<Self, PipelineError> {
        match Classified::find_called(data, &names.list) {
            Ok(Some(set)) => Self::of_shards(data, set, names),
            Ok(None) => match Classified::of_tars(data)? {
                // Tars say nothing of their classes' names.
                Some(set) => Self::of_shards(data, Classified { class_names: names.list.clone(), ..set }, names),
                None => Self::of_folders(data, names),
            },
            Err(ClassifiedError::Malformed { .. }) if matches!(captioned(data), Ok(Some(_))) => {
                let wrong = format!("{}: pictures with captions and without classes: --retrieval", data.display());
                Err(PipelineError::usage(wrong))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn of_shards(data: &Path, set: Classified, names: &ClassNames) -> Result<Self, PipelineError> {
        let usage = |what: &str| Err(PipelineError::usage(format!("{}: {what}", data.display())));
        if !names.table.is_empty() {
            return usage(
                "a table of class folders says nothing of tars, whose classes are numbers: --classnames FILE",
            );
        }
        if set.class_names.is_empty() {
            return usage("no classnames.txt beside the tars: --classnames FILE");
        }
        let (class_names, templates, mut notices) =
            (set.class_names.clone(), set.templates.clone(), set.notices.clone());
        notices.merge(&beside(&[data.display().to_string()], &Local::default(), &GroupConfig::default())?);
        Ok(Self { source: Source::Shards(set), class_names, templates, notices })
    }

    fn of_folders(data: &Path, names: &ClassNames) -> Result<Self, PipelineError> {
        let folders = Folders::find(data, &GroupConfig::default()).map_err(PipelineError::usage)?;
        // As ImageFolder: a class of which nothing is there would not be guessed, and every other class would gain.
        if let Some(empty) = folders.notices.get("empty_class") {
            return Err(PipelineError::usage(format!(
                "{}: {} class folders hold no picture (first: {}); put its pictures there, or take the folder away",
                data.display(),
                empty.count,
                empty.first
            )));
        }
        let mut notices = folders.notices.clone();
        notices.merge(&folders.plan.losses());
        let called: Vec<&str> = folders.plan.shards.iter().map(|shard| shard.name.as_str()).collect();
        let numbers: Option<Vec<u64>> = called.iter().map(|name| name.parse().ok()).collect();
        let mut order: Vec<usize> = (0..called.len()).collect();
        if let Some(numbers) = &numbers {
            order.sort_by_key(|&at| numbers[at]);
        }
        let mut classes = vec![0; called.len()];
        order.iter().enumerate().for_each(|(class, &at)| classes[at] = class);
        let class_names = match (names.table.is_empty(), names.list.is_empty()) {
            (false, false) => {
                return Err(PipelineError::usage("--classnames and --class-table: give one of them"));
            }
            (false, true) => by_table(&order, &called, &names.table, &mut notices)?,
            (true, false) if names.list.len() != called.len() => {
                let (names, folders) = (names.list.len(), called.len());
                return Err(PipelineError::usage(format!("{names} class names for {folders} class folders")));
            }
            (true, false) => names.list.clone(),
            (true, true) => {
                if let Some(&first) = order.first()
                    && called.iter().all(|name| is_wordnet_id(name))
                {
                    return Err(PipelineError::usage(format!(
                        "{}: class folders are called by WordNet's identifiers ({}), which no caption holds; --class-table or --classnames \
                         (class_table, classnames) says what they are",
                        data.display(),
                        called[first]
                    )));
                }
                if numbers.is_some() && called.len() > 1 {
                    let text = "class folders called by numbers, which are taken for the names of their classes; \
                                --classnames or --class-table says what they are";
                    notices.note("numbered_classes", text, called[order[0]], called.len() as u64);
                }
                order.iter().map(|&at| called[at].replace('_', " ")).collect()
            }
        };
        Ok(Self { source: Source::Folders(folders, classes), class_names, templates: None, notices })
    }

    /// Shows every picture that is wanted by its name in the set and its class, class by class or tar by tar; what is passed over among them is added
    /// to the notices.
    ///
    /// # Errors
    /// Files that cannot be read, which the same command tries again; or what `see` returns.
    pub fn each(
        &mut self,
        limits: &Limits,
        wanted: &mut dyn FnMut(&str, usize) -> bool,
        see: &mut See<'_>,
    ) -> Result<(), PipelineError> {
        match &self.source {
            Source::Shards(set) => {
                for (at, shard) in set.shards.iter().enumerate() {
                    let found = set.read(at, &mut |Labelled { key, content, .. }| {
                        let place = format!("{}: {key}", shard.display());
                        let picture = PictureName { place, key, shard: set.names.get(at).cloned() };
                        match &content {
                            // The class stands beside the picture: both are read before anybody can ask for it.
                            Ok((_, class)) if !wanted(&picture.in_set(), *class) => Ok(()),
                            _ => see(picture, content.map_err(Cause::from)),
                        }
                    })?;
                    self.notices.merge(&found);
                }
            }
            Source::Folders(folders, classes) => {
                for (at, &class) in classes.iter().enumerate() {
                    let (pictures, passed_over) = folders.pictures_of(at).map_err(PipelineError::usage)?;
                    self.notices.merge(&passed_over);
                    let (name, folder) = (&folders.plan.shards[at].name, &folders.plan.shards[at].url);
                    for Picture { path, .. } in pictures {
                        let inner = path.strip_prefix(folder).unwrap_or(&path);
                        let key = format!("{name}/{}", inner.to_string_lossy());
                        if !wanted(&key, class) {
                            continue;
                        }
                        let unread = |error: io::Error| PipelineError::unfinished(error).within(path.display());
                        let size = std::fs::metadata(&path).map_err(unread)?.len();
                        let content = if size > limits.max_bytes {
                            Err(format!("{size} bytes, above the limit of {}", limits.max_bytes).into())
                        } else {
                            Ok((std::fs::read(&path).map_err(unread)?, class))
                        };
                        see(PictureName { place: path.display().to_string(), key, shard: None }, content)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Says that nothing came of `data`, and with it what was lost there or passed over.
#[must_use]
pub fn nothing(data: &Path, what: &str, notices: &Notices) -> PipelineError {
    let lines: Vec<String> = notices.lines().collect();
    let why = if lines.is_empty() { String::new() } else { format!("; {}", lines.join("; ")) };
    PipelineError::usage(format!("{}: {what}{why}", data.display()))
}

impl From<ClassifiedError> for PipelineError {
    fn from(error: ClassifiedError) -> Self {
        match error {
            ClassifiedError::Unavailable { .. } => Self::unfinished(error),
            ClassifiedError::Malformed { .. } | ClassifiedError::BlankName { .. } | ClassifiedError::Plan(_) => {
                Self::usage(error)
            }
        }
    }
}

/// The folders' names in the order of their classes.
fn by_table(
    order: &[usize],
    called: &[&str],
    table: &BTreeMap<String, String>,
    notices: &mut Notices,
) -> Result<Vec<String>, PipelineError> {
    let missing: Vec<&str> = called.iter().copied().filter(|folder| !table.contains_key(*folder)).collect();
    if let Some(first) = missing.first() {
        let count = missing.len();
        return Err(PipelineError::usage(format!(
            "--class-table: {count} class folders are not in it (first: {first})"
        )));
    }
    let mut others = table.keys().filter(|folder| !called.contains(&folder.as_str()));
    if let Some(first) = others.next() {
        let text = "rows of the class table whose folders are not there: their classes cannot be guessed";
        notices.note("classes_without_folder", text, first, 1 + others.count() as u64);
    }
    Ok(order.iter().map(|&at| table[called[at]].clone()).collect())
}
