//! What a checkpoint is to those who take its weights: a file, and the model that they were trained as, which `state.json` beside them says,
//! name and all. A name alone may be that of somebody's JSON, and weights of the same shapes fit models that compute something else.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use trommel_ledger::run_folder::{as_read_back, differences};
use trommel_model::Architecture;
use trommel_train::checkpoint::MODEL_FILE;

use trommel_pipelines::error::PipelineError;
use trommel_pipelines::training_folder::STATE_FILE;

/// A checkpoint's folder stands for the weights in it.
pub(crate) fn weights_file(path: &Path) -> PathBuf {
    let inside = path.join(MODEL_FILE);
    if inside.is_file() { inside } else { path.to_path_buf() }
}

/// What no forward pass depends on.
const NOT_COMPUTED: [&str; 2] = ["name", "init_logit_scale"];

/// What a checkpoint says of its model.
pub struct TrainedModel {
    place: String,
    name: String,
    /// All that it was configured with; null in checkpoints that are older than this record.
    recorded: Value,
}

impl TrainedModel {
    /// Of a checkpoint's folder, or of the weights in it; `None` where nothing is said of them.
    #[must_use]
    pub fn of(checkpoint: &Path) -> Option<Self> {
        let found = fs::canonicalize(checkpoint).ok()?;
        let folder = if found.ends_with(MODEL_FILE) { found.parent()? } else { &found };
        let state: Value = serde_json::from_slice(&fs::read(folder.join(STATE_FILE)).ok()?).ok()?;
        let training = state.get("training").and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
        Some(Self {
            place: checkpoint.display().to_string(),
            name: state.get("name")?.as_str()?.to_owned(),
            recorded: training.map_or(Value::Null, |mut training: Value| training["model"].take()),
        })
    }

    /// The built-in model that it was trained as.
    ///
    /// # Errors
    /// It was trained as a JSON says.
    pub fn builtin(&self) -> Result<String, PipelineError> {
        match trommel_model::load(&self.name) {
            Ok(model) if self.differs(&*model).is_none() => Ok(self.name.clone()),
            _ => Err(PipelineError::usage(format!(
                "{}: it was trained with the model of a JSON file called {}.json, which --model has to name",
                self.place, self.name
            ))),
        }
    }

    /// Refuses another model.
    ///
    /// # Errors
    /// The first field that differs, with both values.
    pub fn check(&self, model: &dyn Architecture) -> Result<(), PipelineError> {
        match self.differs(model) {
            None => Ok(()),
            Some(differs) => Err(PipelineError::usage(format!(
                "{}: it was trained as another model than {}: {differs}",
                self.place,
                model.name()
            ))),
        }
    }

    fn differs(&self, model: &dyn Architecture) -> Option<String> {
        if self.recorded.is_null() {
            return None;
        }
        let differ = differences(&self.recorded, &as_read_back(&model.recorded()));
        let first = differ.iter().find(|it| !NOT_COMPUTED.contains(&it.field.as_str()))?;
        Some(format!("{} is {} there, {} here", first.field, first.stored, first.given))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_checkpoint_is_of_the_model_that_it_was_trained_as_whatever_that_is_called() {
        const NAME: &str = "trommel-tiny-32";
        let (folder, model) = (tempfile::tempdir().unwrap(), trommel_model::load(NAME).unwrap());
        let written = |name: &str, recorded: &Value| {
            let training = json!({ "model": recorded }).to_string();
            let state = json!({ "name": name, "training": training }).to_string();
            fs::write(folder.path().join(STATE_FILE), state).unwrap();
            fs::write(folder.path().join(MODEL_FILE), "").unwrap();
            let [of_folder, of_file] = [folder.path().into(), folder.path().join(MODEL_FILE)];
            assert_eq!(TrainedModel::of(&of_file).unwrap().recorded, *recorded);
            TrainedModel::of(&of_folder).unwrap()
        };
        let same = written(NAME, &model.recorded());
        assert_eq!((same.builtin().unwrap().as_str(), same.check(&*model).is_ok()), (NAME, true));
        // A file of that name, in which the image tower looks at its patches' mean.
        let mut other = model.recorded();
        other["vision"]["pool_average"] = (!other["vision"]["pool_average"].as_bool().unwrap()).into();
        let other = written(NAME, &other);
        assert!(other.builtin().unwrap_err().line().contains("a JSON file called trommel-tiny-32.json, which --model"));
        assert!(other.check(&*model).unwrap_err().line().contains("vision.pool_average is "));
        // The same model in a file of another name.
        let renamed = written("m", &model.recorded());
        assert!(renamed.builtin().unwrap_err().line().contains("m.json") && renamed.check(&*model).is_ok());
        assert_eq!(weights_file(folder.path()), folder.path().join(MODEL_FILE));
        let older = written(NAME, &Value::Null);
        assert!(older.builtin().is_ok() && older.check(&*model).is_ok());
        assert!(TrainedModel::of(&folder.path().join("none")).is_none());
    }
}
