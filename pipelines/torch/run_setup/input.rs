//! What a run reads: shards or class folders, as they were given, as another run has planned them, or as a split leaves them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trommel_core::notices::Notices;
use trommel_shard::classified::Packed;
use trommel_shard::folders::{FolderError, Folders};
use trommel_shard::plan::{Plan, PlanError, PlanOptions, expand, shards_in};
use trommel_shard::samples::GroupConfig;
use trommel_shard::store::{Local, Store, Stores, local_path};

use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::split_file::SplitFile;
use trommel_pipelines::stray_files::beside;

/// Where samples come from.
#[derive(Clone, Debug)]
pub enum Input {
    /// Tars of WebDataset's.
    Shards(Arc<Plan>),
    /// Class folders of pictures, each read as a shard.
    Folders(Arc<Folders>),
}

impl Input {
    /// One folder of class folders, or shards. A folder that holds shards is shards, whatever pictures lie beside them. Class folders
    /// lie on this machine.
    ///
    /// # Errors
    /// Whatever keeps a plan from being made: missing files, equal names, braces that do not close.
    pub fn find(arguments: &[String], stores: &Stores, reading: &GroupConfig) -> Result<Self, PipelineError> {
        let folders = match arguments {
            [only] if local_path(only).is_some_and(Path::is_dir) && !holds_shards(stores, only) => {
                local_path(only).map(|only| Folders::find(only, reading))
            }
            _ => None,
        };
        match folders {
            Some(Ok(folders)) => return Ok(Self::Folders(Arc::new(folders))),
            Some(Err(error)) if !matches!(error, FolderError::NoPicture { .. }) => {
                return Err(PipelineError::usage(error));
            }
            _ => {}
        }
        // A set of CLIP_benchmark's is its tars.
        if let [only] = arguments
            && let Some(tars) = Packed::tars(Path::new(only))?
        {
            let shards: Vec<String> = tars.iter().map(|path| path.display().to_string()).collect();
            let plan = expand(&shards, stores, &PlanOptions::default()).map_err(PipelineError::usage)?;
            return Ok(Self::Shards(Arc::new(plan)));
        }
        match (expand(arguments, stores, &PlanOptions::default()), folders) {
            (Ok(plan), _) => Ok(Self::Shards(Arc::new(plan))),
            (Err(PlanError::NoShards(_)), Some(Err(neither))) => Err(PipelineError::usage(format!(
                "{neither}; nor is there a .tar, be it plain or .gz, .zst, .xz, .bz2"
            ))),
            (Err(error), _) => Err(PipelineError::usage(error)),
        }
    }

    /// What a plan that another run has made is of.
    ///
    /// # Errors
    /// Class folders that are not what they were.
    fn planned(plan: &Arc<Plan>, reading: &GroupConfig) -> Result<Self, PipelineError> {
        let first = plan.shards.first().and_then(|shard| local_path(&shard.url)).filter(|path| path.is_dir());
        let Some(first) = first else { return Ok(Self::Shards(plan.clone())) };
        // The folder that was given is the only class, or holds them all. What lies beside the only one was not given.
        let roots = [Some(first).filter(|_| plan.len() == 1), first.parent()].into_iter().flatten();
        let mut found = roots.filter_map(|root| Folders::find(root, reading).ok());
        match found.find(|found| found.plan.difference(plan).is_none()) {
            Some(folders) => Ok(Self::Folders(Arc::new(folders))),
            None => Err(PipelineError::usage(format!(
                "{}: these are not the class folders any more that were judged",
                first.parent().unwrap_or(first).display()
            ))),
        }
    }

    /// What a split keeps something of, and a note on the rest. All class folders stay: without its pictures' bytes one costs nothing to read.
    fn of_split(self, split: &SplitFile) -> Result<(Self, Notices), PipelineError> {
        let (plan, left_out) = split.plan_of(self.plan())?;
        Ok(match self {
            Self::Shards(_) => (Self::Shards(Arc::new(plan)), left_out),
            folders @ Self::Folders(_) => (folders, Notices::default()),
        })
    }

    /// The plan: its shards, or its folders as such.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        match self {
            Self::Shards(plan) => plan,
            Self::Folders(folders) => &folders.plan,
        }
    }
}

/// The files that [`Input::find`] has read of a folder on this machine: its pictures, or its tars; none where it is neither. Only folders are listed.
///
/// # Errors
/// A folder that cannot be read; a set of CLIP_benchmark's of another kind, or without one of its tars.
pub(crate) fn files_read(folder: &Path, reading: &GroupConfig) -> Result<Vec<PathBuf>, PipelineError> {
    let shards = shards_in(&Local::default(), &folder.display().to_string()).map_err(PipelineError::usage)?;
    if shards.is_empty() {
        let pictures = Folders::pictures_under(folder, reading).map_err(PipelineError::usage)?;
        if !pictures.is_empty() {
            return Ok(pictures);
        }
    }
    Ok(Packed::tars(folder)?.unwrap_or_else(|| shards.into_iter().map(PathBuf::from).collect()))
}

/// Whether shards lie directly in a folder.
fn holds_shards(store: &dyn Store, folder: &str) -> bool {
    shards_in(store, folder).is_ok_and(|shards| !shards.is_empty())
}

/// What a run reads, and notes on what lies beside it or is left out, and on flags that nobody reads of it.
///
/// # Errors
/// Those of [`Input::find`]; a split of other shards; a plan of class folders that are not what they were.
pub(super) fn input_of(
    config: &JudgeConfig,
    split: Option<&SplitFile>,
    reading: &GroupConfig,
) -> Result<(Input, Notices), PipelineError> {
    let stores = &config.reading.stores;
    let input = match &config.plan {
        Some(plan) => Input::planned(plan, reading)?,
        None => Input::find(&config.shards, stores, reading)?,
    };
    let (input, left_out) = match split {
        Some(split) => input.of_split(split)?,
        None => (input, Notices::default()),
    };
    let mut notices = if config.plan.is_none() { beside(&config.shards, stores, reading)? } else { Notices::default() };
    notices.merge(&left_out);
    if let (Input::Folders(_), true) = (&input, config.reading.strict) {
        let text = "flags that nobody reads of class folders, where no member is repeated";
        notices.note("strict_not_read", text, "--strict", 1);
    }
    Ok((input, notices))
}

/// Refuses pictures of which none has a text where captions are asked for: a folder's name is a label, no caption.
pub(crate) fn captions(folders: &Folders, arguments: &[String]) -> Result<(), PipelineError> {
    if folders.captioned > 0 {
        return Ok(());
    }
    Err(PipelineError::usage(format!(
        "{}: none of its {} pictures has a caption, a .txt or .json of its name beside it, and a folder's name is none: write them as \
         img2dataset's `--output_format files` does, or pack pictures and texts into WebDataset tars",
        arguments.join(" "),
        folders.pictures
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A plan says which folders are its classes, not which folder was given.
    #[test]
    fn what_lies_beside_the_only_class_was_not_given() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("one/00000/0.jpg", "x");
        put("one/00001_stats.json", r#"{"successes": 5}"#);
        put("one/empty/notes.txt", "x");
        put("two/n01/images/0.jpg", "x");
        put("two/n02/0.jpg", "xy");
        put("deep/n01/images/0.jpg", "x");
        let group = GroupConfig::default();
        let found = |given: &str| {
            let given = Folders::find(&folder.path().join(given), &group).unwrap();
            match Input::planned(&given.plan, &group).unwrap() {
                Input::Folders(found) => {
                    assert_eq!(found.plan.difference(&given.plan), None);
                    (found.pictures, found.plan.losses().lost_samples(), found.notices.is_empty())
                }
                Input::Shards(plan) => panic!("{plan:?}"),
            }
        };
        assert_eq!(found("one/00000"), (1, 0, true));
        assert_eq!(found("two"), (2, 0, true));
        assert_eq!(found("deep"), (1, 0, true));
    }
}
