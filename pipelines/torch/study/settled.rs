//! What a study's folder was begun with: the file's settings, what its models held, where its data lie, and, from the first training on, the
//! recipe. All sets of one table come from the same.

use std::fs;

use serde_json::{Value, json};
use trommel_core::durable::if_there;
use trommel_pipelines::error::PipelineError;

use super::Study;
use super::config::StudyFile;
use super::done::{begun, same, settle};
use crate::settled::has_trained;

/// The file of the recipe.
const RECIPE: &str = "recipe.json";

impl Study<'_> {
    /// Refuses a file that would mix two studies in one folder; `models` is what its models are configured with. A folder of an earlier
    /// version, which noted less, is taken for what is there now.
    pub(super) fn settle(&self, models: &Value) -> Result<(), PipelineError> {
        let (run, file) = (&self.config.run, &self.config.file);
        // What may change from one start to the next is left out: everything that hangs on it says so itself.
        let settings = StudyFile { seeds: Vec::new(), ladder: None, core: None, similarity_bin: 1.0, ..file.clone() };
        let mut settings = json!(settings);
        let recipe = take_recipe(&mut settings).unwrap_or_default();
        let mut stored = begun(run, "study.json", &settings)?;
        // Earlier versions kept the recipe there.
        let earlier = take_recipe(&mut stored);
        let advice = "give another --run (only seeds, ladder, core and similarity_bin may change)";
        same(run, &stored, &settings, advice)?;
        let advice = "give another --run, or put back what the study was begun with";
        settle(run, "inputs.json", &json!({ "models": models, "folder": self.folder()? }), advice)?;
        let advice = "give another --run: all sets are trained by one recipe, and some are by that one";
        if !self.has_trained()? {
            // Nothing hangs on a recipe by which nothing was trained.
            if_there(fs::remove_file(run.join(RECIPE))).map_err(PipelineError::at(run))?;
            return begun(run, RECIPE, &recipe).map(|_| ());
        }
        same(run, &begun(run, RECIPE, &earlier.unwrap_or_else(|| recipe.clone()))?, &recipe, advice)
    }

    /// The folder that the file's relative paths start from; null where it has none.
    fn folder(&self) -> Result<Value, PipelineError> {
        let given = &self.config.folder;
        let folder = if given.as_os_str().is_empty() { ".".as_ref() } else { given.as_path() };
        let folder = fs::canonicalize(folder).map_err(PipelineError::at(folder))?;
        let is_relative = self.config.file.clone().in_folder(&folder) != self.config.file;
        Ok(if is_relative { json!(folder) } else { Value::Null })
    }

    /// Whether a training of a set has a checkpoint.
    fn has_trained(&self) -> Result<bool, PipelineError> {
        let place = self.place("training");
        let sets = if_there(fs::read_dir(&place)).map_err(PipelineError::at(&place))?;
        for set in sets.into_iter().flatten() {
            let set = set.map_err(PipelineError::at(&place))?.path();
            for run in fs::read_dir(&set).map_err(PipelineError::at(&set))? {
                let run = run.map_err(PipelineError::at(&set))?.path();
                if run.is_dir() && has_trained(&run)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// The recipe of all sets, out of the other settings.
fn take_recipe(settings: &mut Value) -> Option<Value> {
    settings.as_object_mut()?.remove("training").map(|recipe| json!({ "training": recipe }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use trommel_core::stop::Stop;

    use super::super::StudyConfig;
    use super::*;
    use crate::side_by_side::config as judging;

    /// A study whose data are relative to `folder`, with a batch of its recipe and a width of its model.
    fn settle(run: &Path, folder: &Path, batch: usize, width: u64) -> Result<(), String> {
        let text = format!(
            "pool = \"a.tar\"\nreference = \"r\"\nmodel = \"m.json\"\n[benchmarks.photo]\ndata = \"p\"\n\
             [embedder]\nmodel = \"m.json\"\nrandom_init = 0\n[training]\nbatch = {batch}\nsteps = 1\n"
        );
        let file = StudyFile::parse(&text).unwrap();
        let machine = judging(run, run, "random:50%").machine;
        let config = StudyConfig { file: file.clone(), folder: folder.into(), run: run.into(), machine };
        let study = Study { config: &config, file, stop: &Stop::new(), progress_of: &|_| Arc::default() };
        study.settle(&json!({ "model": { "width": width } })).map_err(|error| error.line())
    }

    #[test]
    fn a_study_keeps_its_models_its_folder_and_the_recipe_that_something_was_trained_by() {
        let root = tempfile::tempdir().unwrap();
        let [run, here, there] = ["run", "here", "there"].map(|name| root.path().join(name));
        [&run, &here, &there].iter().for_each(|folder| fs::create_dir(folder).unwrap());
        assert_eq!(settle(&run, &here, 8, 64), Ok(()));
        let other = settle(&run, &here, 8, 96).unwrap_err();
        assert!(other.contains("another models.model.width: 64 there, 96 here"), "{other}");
        let moved = settle(&run, &there, 8, 64).unwrap_err();
        assert!(moved.contains("another folder: ") && moved.contains("/there` here"), "{moved}");
        assert_eq!(settle(&run, &here, 16, 64), Ok(()), "nothing is trained yet");

        fs::create_dir_all(run.join("training/pool/seed-0/checkpoints/step_00000001")).unwrap();
        assert_eq!(settle(&run, &here, 16, 64), Ok(()));
        let recipe = settle(&run, &here, 8, 64).unwrap_err();
        assert!(recipe.contains("another training.batch: 16 there, 8 here"), "{recipe}");

        // A folder of an earlier version: the recipe stood among the settings, models and folder nowhere.
        let recipe: Value = serde_json::from_slice(&fs::read(run.join(RECIPE)).unwrap()).unwrap();
        let mut study: Value = serde_json::from_slice(&fs::read(run.join("study.json")).unwrap()).unwrap();
        study["result"]["training"] = recipe["result"]["training"].clone();
        fs::write(run.join("study.json"), study.to_string()).unwrap();
        [RECIPE, "inputs.json"].iter().for_each(|name| fs::remove_file(run.join(name)).unwrap());
        assert!(settle(&run, &there, 8, 96).unwrap_err().contains("another training.batch: 16 there, 8 here"));
        assert_eq!(settle(&run, &there, 16, 96), Ok(()), "what is there is taken");
        assert!(settle(&run, &here, 16, 96).unwrap_err().contains("another folder"));
    }
}
