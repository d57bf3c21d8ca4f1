//! Sets of embeddings that are compared are of one model.

use std::fmt::Display;

use trommel_core::sample::Identity;

use crate::error::PipelineError;

/// The model that embedded all `sets`, each with its name for errors and the identity that it states; none where no set states one. `assumed` is what
/// `--assume-model` says of sets that state none.
///
/// # Errors
/// Two models; a set that states none and that no assumption covers; an assumption that a stated identity contradicts.
pub fn one_model<'a>(
    sets: &[(impl Display, Option<&'a Identity>)],
    assumed: Option<&str>,
) -> Result<Option<&'a Identity>, PipelineError> {
    let wrong = |text: String| Err(PipelineError::usage(text));
    let Some((first, known)) = sets.iter().find_map(|(set, identity)| Some((set, (*identity)?))) else {
        return match sets {
            [(first, _), _, ..] if assumed.is_none() => wrong(format!(
                "neither {first} nor what it is compared with says which model embedded it; if it was one and the same, say --assume-model NAME"
            )),
            _ => Ok(None),
        };
    };
    let architecture = &known.architecture;
    if let Some(assumed) = assumed.filter(|assumed| assumed != architecture) {
        return wrong(format!("the model of {first} is {known}, and not {assumed} as is assumed (--assume-model)"));
    }
    for (set, identity) in sets {
        match identity {
            Some(found) if *found != known => {
                return wrong(format!(
                    "{set} was embedded by another model: it says {found}; the model of {first} is {known}"
                ));
            }
            None if assumed.is_none() => {
                return wrong(format!(
                    "{set} does not say which model embedded it; if it was {architecture}, say --assume-model {architecture}"
                ));
            }
            _ => {}
        }
    }
    Ok(Some(known))
}
