//! Checkpoints: what open_clip loads, what the optimiser needs, and where the order continues.
//!
//! ```text
//! checkpoints/
//!   step_00000020/                 renamed into place when all of it is on the disk
//!     open_clip_model.pt           {epoch, name, state_dict, global_step, samples_seen}, as open_clip writes it; at the
//!                                  end of a pass {optimizer} as well, so that open_clip's trainer resumes from it
//!     optimizer.safetensors        exp_avg.*, exp_avg_sq.*, step.*
//!     state.json                   schema, step, pass, hashes, cursor, sizes and checksums; itself with a checksum
//!   epoch_2.pt       -> step_.../open_clip_model.pt      at the end of a pass; such a checkpoint is never removed
//!   epoch_latest.pt  -> step_.../open_clip_model.pt      newest
//! ```
//!
//! A folder `step_N` is complete by construction; `state.json` proves it. Resuming takes the highest `N` that proves
//! itself. The links are for people and open_clip; nothing here reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use tch::Tensor;
use trommel_bridge::{Value, write_pickle};

use super::error::TrainError;
use super::files::{mark, remove_folder, rename, replace, step, sync};
use super::open_clip;
use super::state::SCHEMA;
pub use super::state::{CheckpointState, Extension, Position};
use super::step::{Contrastive, Trainer};
use super::tensors;
use trommel_core::causes::{Cause, Causes};
use trommel_core::durable::make_folder;
use trommel_model::file::WeightsFile;

/// The weights in a checkpoint's folder.
pub const MODEL_FILE: &str = "open_clip_model.pt";
const OPTIMISER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
/// Unfinished and discarded folders start so.
const ASIDE: &str = ".aside_";
/// Before the name of a checkpoint whose place another one of its step takes: it stands until that is there.
const REPLACED: &str = ".aside_old_";

/// A checkpoint on the disk that proved itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundCheckpoint {
    /// Folder of the checkpoint.
    pub folder: PathBuf,
    /// Its `state.json`.
    pub state: CheckpointState,
    /// Newer folders that did not prove themselves, with the reason.
    pub skipped: Vec<String>,
}

/// The folder of checkpoints of one run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    name: String,
    hashes: BTreeMap<String, String>,
    numerics: BTreeMap<String, String>,
    training: String,
    extended: Vec<Extension>,
    keep: Option<usize>,
}

impl Checkpoints {
    /// Opens `folder`, makes it if need be, clears what a killed run left unfinished, and puts back what it was replacing. `keep` bounds the number of
    /// checkpoints kept that were written inside a pass, at least 1; `None` keeps all.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: &Path, name: &str, keep: Option<usize>) -> Result<Self, TrainError> {
        make_folder(folder).map_err(TrainError::file(folder, "making the folder"))?;
        let keep = keep.map(|n| n.max(1));
        let this = Self {
            folder: folder.into(),
            name: name.into(),
            hashes: BTreeMap::new(),
            numerics: BTreeMap::new(),
            training: String::new(),
            extended: Vec::new(),
            keep,
        };
        for entry in this.names()?.iter().filter(|name| name.starts_with(ASIDE)) {
            let path = folder.join(entry);
            match entry.strip_prefix(REPLACED).map(|name| folder.join(name)).filter(|place| !place.exists()) {
                Some(place) => rename(&path, &place).and_then(|()| sync(folder))?,
                None => remove_folder(&path)?,
            }
        }
        Ok(this)
    }

    /// Says the numeric part, which follows from what is found here.
    #[must_use]
    pub fn computed_by(self, numerics: BTreeMap<String, String>) -> Self {
        Self { numerics, ..self }
    }

    /// Says the hashes, which follow from what is found here, what that of training was made of, as JSON text, and how often the
    /// run was made longer.
    #[must_use]
    pub fn describing(self, hashes: BTreeMap<String, String>, training: String, extended: Vec<Extension>) -> Self {
        Self { hashes, training, extended, ..self }
    }

    fn names(&self) -> Result<Vec<String>, TrainError> {
        names(&self.folder).map_err(TrainError::file(&self.folder, "listing"))
    }

    /// Folders of checkpoints with their steps, newest first.
    fn steps(&self) -> Result<Vec<(u64, PathBuf)>, TrainError> {
        standing(&self.folder).map_err(TrainError::file(&self.folder, "listing"))
    }

    /// Writes the trainer's state and `position`; returns the folder. One of this step that already proves itself is left
    /// as it is. The end of a pass adds `epoch_N.pt`.
    ///
    /// # Errors
    /// The disk is full or gone: what was there before is untouched.
    pub fn save<M: Contrastive>(&self, trainer: &Trainer<M>, position: &Position) -> Result<PathBuf, TrainError> {
        let name = format!("step_{:08}", trainer.global_step());
        let folder = self.folder.join(&name);
        if !(folder.exists() && self.verify(&folder).is_ok_and(|state| state.position == *position)) {
            let aside = self.folder.join(format!("{ASIDE}{name}"));
            remove_folder(&aside)?;
            step().and_then(|()| fs::create_dir(&aside)).map_err(TrainError::file(&aside, "making the folder"))?;
            self.fill(&aside, trainer, position)?;
            sync(&aside)?;
            let old = self.folder.join(format!("{REPLACED}{name}"));
            if folder.exists() {
                remove_folder(&old)?;
                rename(&folder, &old)?;
            }
            rename(&aside, &folder)?;
            sync(&self.folder)?;
            remove_folder(&old)?;
        }
        self.link("epoch_latest.pt", &name)?;
        if position.ends_pass() {
            self.link(&format!("epoch_{}.pt", position.epoch), &name)?;
        }
        self.retire(trainer.global_step())?;
        sync(&self.folder)?;
        Ok(folder)
    }

    fn fill<M: Contrastive>(&self, aside: &Path, trainer: &Trainer<M>, position: &Position) -> Result<(), TrainError> {
        let count = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let weights = trainer.parameters().iter().map(|(name, p)| (name.clone(), Value::Tensor(p.shallow_clone())));
        let mut tree = vec![
            ("epoch", Value::Int(position.epoch.into())),
            ("name", Value::Str(self.name.clone())),
            ("state_dict", Value::named(weights)),
            ("global_step", count(trainer.global_step())),
            ("samples_seen", count(trainer.samples_seen())),
        ];
        if position.ends_pass() {
            let place = |name: &str| trainer.model().place_in_file(name);
            tree.push(("optimizer", open_clip::optimizer(trainer.optimiser(), trainer.peak_lr(), place)));
        }
        let (model, optimiser) = (aside.join(MODEL_FILE), aside.join(OPTIMISER));
        write_pickle(&model, &Value::named(tree))?;
        sync(&model)?;
        let optimiser_mark = tensors::write(&optimiser, &trainer.optimiser().state(), &[("format", "pt".into())])?;
        let mut state = CheckpointState {
            schema: SCHEMA,
            name: self.name.clone(),
            global_step: trainer.global_step(),
            samples_seen: trainer.samples_seen(),
            position: position.clone(),
            hashes: self.hashes.clone(),
            numerics: self.numerics.clone(),
            training: self.training.clone(),
            extended: self.extended.clone(),
            files: BTreeMap::from([(MODEL_FILE.into(), mark(&model)?), (OPTIMISER.into(), optimiser_mark)]),
            crc32c: String::new(),
        };
        let path = aside.join(STATE);
        let unfit = |error: serde_json::Error| TrainError::checkpoint(&path, error);
        state.crc32c = state.seal().map_err(unfit)?;
        let mut text = serde_json::to_vec_pretty(&state).map_err(unfit)?;
        text.push(b'\n');
        replace(&path, &text)
    }

    /// Reads `state.json` and checks all that it says about itself and the other files.
    fn verify(&self, folder: &Path) -> Result<CheckpointState, TrainError> {
        let path = folder.join(STATE);
        let text = fs::read(&path).map_err(TrainError::file(&path, "reading"))?;
        let schema = serde_json::from_slice::<serde_json::Value>(&text)
            .map_err(|error| TrainError::checkpoint(&path, error))?
            .get("schema")
            .and_then(serde_json::Value::as_u64);
        if schema != Some(SCHEMA.into()) {
            let text = schema.map_or("none".into(), |schema| schema.to_string());
            return Err(TrainError::checkpoint(&path, format!("schema {text}, this program reads {SCHEMA}")));
        }
        let state: CheckpointState =
            serde_json::from_slice(&text).map_err(|error| TrainError::checkpoint(&path, error))?;
        if state.seal().map_err(|error| TrainError::checkpoint(&path, error))? != state.crc32c {
            return Err(TrainError::checkpoint(&path, "its checksum does not match"));
        }
        for (name, expected) in &state.files {
            let path = folder.join(name);
            let found = mark(&path)?;
            if found != *expected {
                return Err(TrainError::checkpoint(&path, format!("is {found:?}, was written as {expected:?}")));
            }
        }
        Ok(state)
    }

    /// The newest checkpoint that proves itself, whatever its configuration; `None` if there is none at all.
    ///
    /// # Errors
    /// There are checkpoints and none proves itself.
    pub fn newest(&self) -> Result<Option<FoundCheckpoint>, TrainError> {
        let mut skipped = Vec::new();
        for (_, folder) in self.steps()? {
            match self.verify(&folder) {
                Ok(state) => return Ok(Some(FoundCheckpoint { folder, state, skipped })),
                Err(error) => skipped.push(Causes(&error).to_string()),
            }
        }
        match skipped.first() {
            None => Ok(None),
            Some(first) => {
                let text = format!("none of {} checkpoints is sound; the newest: {first}", skipped.len());
                Err(TrainError::checkpoint(&self.folder, text))
            }
        }
    }

    /// Brings `trainer` to the state of `found`.
    ///
    /// # Errors
    /// Tensors that are missing, left over, or of another shape.
    pub fn restore<M: Contrastive>(&self, found: &FoundCheckpoint, trainer: &mut Trainer<M>) -> Result<(), TrainError> {
        put_back(&found.folder.join(MODEL_FILE), trainer.parameters())?;
        put_back(&found.folder.join(OPTIMISER), &trainer.optimiser().state())?;
        trainer.global_step = found.state.global_step;
        trainer.samples_seen = found.state.samples_seen;
        Ok(())
    }

    /// Points `link` at a checkpoint's model, replacing it in one step.
    fn link(&self, link: &str, folder: &str) -> Result<(), TrainError> {
        let (path, aside) = (self.folder.join(link), self.folder.join(format!("{link}.tmp")));
        let put = || -> std::io::Result<()> {
            if aside.is_symlink() {
                step().and_then(|()| fs::remove_file(&aside))?;
            }
            step()?;
            std::os::unix::fs::symlink(Path::new(folder).join(MODEL_FILE), &aside)
        };
        put().map_err(TrainError::file(&path, "linking"))?;
        rename(&aside, &path)
    }

    /// Removes the oldest checkpoints above `keep`, and links that point at nothing. The ends of passes stay: they are what a
    /// study compares, and nobody can make them again. What is of a step after `saved` was damaged when training went on from one before: it must not
    /// count for one that is kept.
    fn retire(&self, saved: u64) -> Result<(), TrainError> {
        let Some(keep) = self.keep else { return Ok(()) };
        let inside = self.steps()?.into_iter().filter(|(step, folder)| *step <= saved && !ends_pass(folder));
        for (step, folder) in inside.skip(keep) {
            let aside = self.folder.join(format!("{ASIDE}retired_step_{step:08}"));
            remove_folder(&aside)?;
            rename(&folder, &aside)?;
            remove_folder(&aside)?;
        }
        for name in self.names()? {
            let path = self.folder.join(&name);
            if name.starts_with("epoch_") && path.is_symlink() && !path.exists() {
                step().and_then(|()| fs::remove_file(&path)).map_err(TrainError::file(&path, "removing"))?;
            }
        }
        Ok(())
    }
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
}

/// Folders of checkpoints in `folder` with their steps, newest first. One that was to be replaced counts, where a kill came before the
/// other stood in its place.
///
/// # Errors
/// The folder cannot be listed.
pub fn standing(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let of = |name: &String| {
        let step = name.strip_prefix(REPLACED).unwrap_or(name).strip_prefix("step_")?.parse().ok()?;
        Some((step, folder.join(name)))
    };
    let mut steps: Vec<_> = names(folder)?.iter().filter_map(of).collect();
    // Names in place come first: `step_` sorts behind `.aside_`.
    steps.sort_by(|a, b| b.cmp(a));
    steps.dedup_by_key(|(step, _)| *step);
    Ok(steps)
}

/// Whether a checkpoint says that it ends a pass. What it says is not proved here: a damaged one is kept as well.
fn ends_pass(folder: &Path) -> bool {
    let state =
        fs::read(folder.join(STATE)).ok().and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let position = state.and_then(|state| serde_json::from_value::<Position>(state.get("position")?.clone()).ok());
    position.is_some_and(|position| position.ends_pass())
}

/// Copies a file's tensors into those of the same names, one at a time: the plan of memory has no room for all of them once more.
fn put_back(path: &Path, into: &[(String, Tensor)]) -> Result<(), TrainError> {
    let unfit = |cause: Cause| TrainError::checkpoint(path, cause);
    let file = WeightsFile::open(path).map_err(|error| unfit(error.into()))?;
    let mut missing: BTreeMap<&str, &Tensor> = into.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    for stored in &file.tensors {
        let name = stored.name.as_str();
        let Some(target) = missing.remove(name) else {
            return Err(unfit(format!("{} is not of this model", name.escape_debug()).into()));
        };
        if stored.shape != target.size() {
            return Err(unfit(format!("{name} is {:?}, this model's is {:?}", stored.shape, target.size()).into()));
        }
        let (source, mut target) = (file.fetch(stored).map_err(|error| unfit(error.into()))?, target.shallow_clone());
        tch::no_grad(|| target.f_copy_(&source)).map_err(TrainError::torch("restoring a tensor"))?;
    }
    match missing.first_key_value() {
        None => Ok(()),
        Some((name, _)) => Err(unfit(format!("{name} is missing").into())),
    }
}
