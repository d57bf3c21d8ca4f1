//! Whether a training run may go on from a checkpoint. What differs is named by its option, with both values.

use std::collections::BTreeMap;

use serde_json::Value;
use trommel_core::notices::Notices;
use trommel_ledger::run_folder::{Difference, as_read_back, differences};
use trommel_train::checkpoint::{Extension, FoundCheckpoint};
use trommel_train::{Schedule, Stand, TrainConfig};

use trommel_pipelines::error::PipelineError;

/// What a command asks for, to be compared with what a checkpoint was made with.
pub(crate) struct AskedRun<'a> {
    /// `decisions` and `training`.
    pub(crate) hashes: &'a BTreeMap<String, String>,
    /// What the hash of training is made of.
    pub(crate) training: &'a Value,
    /// The numeric part.
    pub(crate) numerics: &'a BTreeMap<String, String>,
    /// The recipe: says what another length does to the learning rate.
    pub(crate) recipe: &'a TrainConfig,
    /// The run's length in steps.
    pub(crate) steps: u64,
    /// These are steps that all samples of its passes would fill: it ends with the passes.
    pub(crate) ends_with_passes: bool,
    /// `--extend`: another length is allowed.
    pub(crate) extend: bool,
    /// `--mix-numerics`.
    pub(crate) mix_numerics: bool,
}

/// What is to be said of a run that goes on.
#[derive(Debug, Default)]
pub(crate) struct GoesOn {
    /// The run is made longer now.
    pub(crate) extension: Option<Extension>,
    /// What changes from here on.
    pub(crate) notices: Notices,
}

impl AskedRun<'_> {
    /// Compares.
    ///
    /// # Errors
    /// Another configuration, a run made longer without saying so, another numeric part.
    pub(crate) fn compare(&self, found: &FoundCheckpoint) -> Result<GoesOn, PipelineError> {
        let mut goes_on = GoesOn::default();
        let refuse = |text: String| Err(PipelineError::usage(format!("{}: {text}", found.folder.display())));
        let same = |name: &str| found.state.hashes.get(name) == self.hashes.get(name);
        if !same("training") || !same("decisions") {
            let stored: Value = serde_json::from_str(&found.state.training).unwrap_or_default();
            if stored.is_null() {
                let hash = |hashes: &BTreeMap<String, String>| hashes.get("training").cloned().unwrap_or_default();
                return refuse(format!(
                    "this checkpoint was made with other options of training ({} there, {} now); it is older than checkpoints that \
                     say which",
                    hash(&found.state.hashes),
                    hash(self.hashes)
                ));
            }
            let (stored, asked) = (with_padding(stored), with_padding(as_read_back(self.training)));
            let (length, others): (Vec<_>, Vec<_>) =
                differences(&stored, &asked).into_iter().partition(|difference| difference.field == "steps");
            if !others.is_empty() {
                return refuse(format!("this checkpoint was made with other options: {}", named(&others, &length)));
            }
            let before = stored.get("steps").and_then(Value::as_u64).unwrap_or(0);
            if length.is_empty() || before > self.steps || !self.extend {
                let hint = if before < self.steps {
                    "; --extend makes it longer"
                } else {
                    "; a run gets longer, never shorter"
                };
                return refuse(format!("the run was begun with another length: {}{hint}", named(&length, &[])));
            }
            goes_on.extension = Some(Extension { at_step: found.state.global_step, from_steps: before });
            let note = self.schedule_note(before, found.state.global_step)?;
            goes_on.notices.note("extended", "runs made longer", note, 1);
        }
        self.compare_numerics(found, &mut goes_on)?;
        Ok(goes_on)
    }

    /// What becomes of the learning rate.
    fn schedule_note(&self, before: u64, at_step: u64) -> Result<String, PipelineError> {
        if self.ends_with_passes {
            return Ok(format!(
                "extended: from step {at_step} on the learning rate is that of the longer run; the steps before were taken on the \
                 shorter schedule"
            ));
        }
        let stand = Stand { step: at_step, ..Stand::default() };
        let lr = |steps: u64| {
            Schedule::new(self.recipe, steps).map(|schedule| schedule.lr(stand)).map_err(PipelineError::usage)
        };
        Ok(format!(
            "extended from {before} to {} steps: from step {at_step} on the learning rate is that of a run of {} steps ({:e}; it would \
             have been {:e}); the steps before were taken on the shorter schedule",
            self.steps,
            self.steps,
            lr(self.steps)?,
            lr(before)?
        ))
    }

    fn compare_numerics(&self, found: &FoundCheckpoint, goes_on: &mut GoesOn) -> Result<(), PipelineError> {
        let stored = canonical(&found.state.numerics);
        let differ = |name: &&String| stored.get(*name).is_some_and(|stored| Some(stored) != self.numerics.get(*name));
        let mut differing: Vec<&String> = stored.keys().filter(differ).collect();
        let text = |name: &String| {
            let of = |numerics: &BTreeMap<String, String>| numerics.get(name).cloned().unwrap_or_else(|| "none".into());
            format!("{name}: the checkpoint has {}, now {}", of(&stored), of(self.numerics))
        };
        if differing.iter().any(|name| *name == "ranks") {
            // On another number of ranks the sums are others anyway; threads follow the ranks of a machine.
            let (of_ranks, rest) = differing.into_iter().partition(|name| matches!(name.as_str(), "ranks" | "threads"));
            let of_ranks: Vec<&String> = of_ranks;
            let lines: Vec<String> = of_ranks.into_iter().map(text).collect();
            let note = format!("{}; losses go on equal up to rounding, not to the bit", lines.join("; "));
            goes_on.notices.note("other_ranks", "checkpoints of another number of ranks", note, 1);
            differing = rest;
        }
        if differing.is_empty() {
            return Ok(());
        }
        let lines = differing.into_iter().map(text).collect::<Vec<_>>().join("; ");
        if !self.mix_numerics {
            return Err(PipelineError::usage(format!(
                "{}: this checkpoint was computed by another numeric part: {lines}; --mix-numerics accepts the mixture",
                found.folder.display()
            )));
        }
        goes_on.notices.note("mixed_numerics", "checkpoints of another numeric part", lines, 1);
        Ok(())
    }
}

/// A configuration that says nothing of captions' padding computes it.
fn with_padding(mut training: Value) -> Value {
    if let Some(recipe) = training.get_mut("recipe").and_then(Value::as_object_mut) {
        recipe.entry("text_padding").or_insert_with(|| "full".into());
    }
    training
}

/// A numeric part as it is written now. It once was `Cpu` and `Cuda(0)`: the number is a place and no arithmetic.
fn canonical(stored: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut stored = stored.clone();
    if let Some(device) = stored.get_mut("device") {
        *device = device.split('(').next().unwrap_or_default().to_lowercase();
    }
    stored
}

/// Differences by their options, each option once.
fn named(differences: &[Difference], more: &[Difference]) -> String {
    let mut lines = BTreeMap::new();
    for difference in differences.iter().chain(more) {
        let Difference { field, stored, given } = difference;
        lines
            .entry(option_of(field, stored, given))
            .or_insert_with(|| format!("the checkpoint has {stored}, now {given}"));
    }
    lines.into_iter().map(|(option, values)| format!("{option}: {values}")).collect::<Vec<_>>().join("; ")
}

/// The option that sets a field of the training configuration.
fn option_of(field: &str, stored: &str, given: &str) -> String {
    let seeds = [stored, given].iter().all(|value| value.starts_with("`seed:"));
    let option = match field {
        "steps" => "--steps (or --samples, --passes; in steps)",
        "recipe.batch_samples" => "--batch",
        "recipe.accumulation_chunks" => "--accum-freq",
        "recipe.weight_decay" => "--wd",
        "recipe.warmup_steps" => "--warmup",
        "order.window_samples" => "--window",
        "pass_samples" => "--train-num-samples",
        "initial" if seeds => "--seed",
        "initial" => "--pretrained",
        "order.seed" | "view_seed" => "--seed",
        "decisions" => "decisions (--rule, --benchmark, ..)",
        other => {
            let leaf = other.strip_prefix("recipe.").or_else(|| other.strip_prefix("order."));
            return match (leaf, other.strip_prefix("model")) {
                (Some(leaf), _) => format!("--{}", leaf.replace('_', "-")),
                (None, Some(rest)) => format!("--model ({})", rest.trim_start_matches('.')),
                (None, None) => other.to_owned(),
            };
        }
    };
    option.to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use trommel_train::TextPadding;

    use super::*;

    /// A checkpoint as the first version of its layout wrote it, numerics as given.
    fn found(numerics: Value, more: Value) -> FoundCheckpoint {
        let mut state = json!({
            "schema": 1, "name": "m", "global_step": 12, "samples_seen": 192, "position": {"pass": 0, "epoch": 0, "cursor": null},
            "hashes": {"decisions": "d", "training": "t"}, "numerics": numerics, "files": {}, "crc32c": "",
        });
        state.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        FoundCheckpoint {
            folder: "RUN/checkpoints/step_12".into(),
            state: serde_json::from_value(state).unwrap(),
            skipped: vec![],
        }
    }

    fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// What is said of a command with this hash and numeric part.
    fn compared(
        found: &FoundCheckpoint,
        training: &str,
        numerics: &[(&str, &str)],
        mix_numerics: bool,
    ) -> Result<Vec<String>, String> {
        let (recipe, steps) = (TrainConfig::new(16), 24);
        let asked = AskedRun {
            hashes: &texts(&[("decisions", "d"), ("training", training)]),
            training: &json!({ "recipe": recipe, "steps": steps }),
            numerics: &texts(numerics),
            recipe: &recipe,
            steps,
            ends_with_passes: false,
            extend: false,
            mix_numerics,
        };
        asked.compare(found).map(|goes_on| goes_on.notices.lines().collect()).map_err(|error| error.line())
    }

    #[test]
    fn a_checkpoint_of_before_is_taken_as_far_as_it_says_anything() {
        let old = found(json!({"device": "Cuda(1)", "threads": "2", "libtorch": "2.11.0"}), json!({}));
        let now = [
            ("device", "cuda"),
            ("card", "NVIDIA H100 80GB HBM3"),
            ("ranks", "1"),
            ("threads", "2"),
            ("libtorch", "2.11.0"),
        ];
        assert_eq!(compared(&old, "t", &now, false), Ok(vec![]));
        let said = compared(&old, "other", &now, false).unwrap_err();
        assert!(said.contains("(t there, other now)") && said.contains("step_12"), "{said}");
    }

    #[test]
    fn another_card_is_refused_with_both_names_and_another_number_of_ranks_is_said() {
        let numerics =
            |card, ranks, threads| [("device", "cuda"), ("card", card), ("ranks", ranks), ("threads", threads)];
        let there = found(json!(texts(&numerics("NVIDIA A100", "1", "8"))), json!({}));
        let said = compared(&there, "t", &numerics("NVIDIA H100", "1", "8"), false).unwrap_err();
        assert!(said.contains("card: the checkpoint has NVIDIA A100, now NVIDIA H100; --mix-numerics"), "{said}");
        let lines = compared(&there, "t", &numerics("NVIDIA H100", "1", "8"), true).unwrap();
        assert!(lines[0].contains("NVIDIA A100"), "{lines:?}");
        assert!(compared(&there, "t", &numerics("NVIDIA A100", "1", "4"), false).is_err(), "fewer threads");
        let of_cpu = found(json!(texts(&[("device", "cpu"), ("vectors", "AVX-512")])), json!({}));
        let said = compared(&of_cpu, "t", &[("device", "cpu"), ("vectors", "AVX2")], false).unwrap_err();
        assert!(said.contains("vectors: the checkpoint has AVX-512, now AVX2; --mix-numerics"), "{said}");
        let lines = compared(&there, "t", &numerics("NVIDIA A100", "2", "4"), false).unwrap();
        assert!(
            lines[0].contains("ranks: the checkpoint has 1, now 2; threads: the checkpoint has 8, now 4"),
            "{lines:?}"
        );
    }

    #[test]
    fn what_differs_is_named_by_its_option() {
        let stored = json!({ "recipe": TrainConfig { weight_decay: 0.1, ..TrainConfig::new(32) }, "steps": 24 });
        let there = found(json!({}), json!({ "training": stored.to_string() }));
        let said = compared(&there, "other", &[], false).unwrap_err();
        assert!(
            said.contains("--batch: the checkpoint has 32, now 16; --wd: the checkpoint has 0.1, now 0.2"),
            "{said}"
        );
        // One that says nothing of padding.
        let stored =
            json!({ "recipe": TrainConfig { text_padding: TextPadding::Full, ..TrainConfig::new(16) }, "steps": 24 });
        let there = found(json!({}), json!({ "training": stored.to_string() }));
        let said = compared(&there, "other", &[], false).unwrap_err();
        assert!(said.contains("--text-padding: the checkpoint has `full`, now `none`"), "{said}");
    }
}
