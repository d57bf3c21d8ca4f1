//! Labelled pictures to image features, and which of them a probe is fit on.

use std::collections::{BTreeMap, HashSet};

use tch::Tensor;
use trommel_core::causes::Cause;
use trommel_core::notices::Notices;
use trommel_decide::hash::random_hash;
use trommel_decode::Limits;
use trommel_shard::classified::LabelError;

use trommel_pipelines::error::PipelineError;
use trommel_pipelines::labelled::{LabelledPictures, PictureName};

use super::batches::{Batches, Looked};
use super::pictures::Pictures;

/// Some pictures' features.
pub(super) struct Features {
    /// f32\[n, dim\], not normalised.
    pub rows: Tensor,
    /// Number of each one's class.
    pub classes: Vec<usize>,
    /// What they are called.
    pub names: Vec<PictureName>,
}

/// Gives the features of all pictures that are wanted by name and class, in their order; and how many were left out, which are among the losses.
///
/// # Errors
/// A picture that cannot be read, libtorch refuses, or what `take` says.
pub(super) fn each(
    model: &Pictures,
    labelled: &mut LabelledPictures,
    wanted: &mut dyn FnMut(&str, usize) -> bool,
    notices: &mut Notices,
    take: &mut dyn FnMut(Features) -> Result<(), PipelineError>,
) -> Result<u64, PipelineError> {
    let mut seen = Seen { rejected: 0, notices, take };
    let mut batches = Batches::of(model);
    labelled.each(model.viewer().limits(), wanted, &mut |picture, content| match content {
        Ok((bytes, class)) => seen.settle(batches.add((picture, class), bytes.into())?),
        Err(why) => {
            // Losses are said in the order of the pictures.
            seen.settle(batches.decode()?)?;
            seen.reject(&picture, &why);
            Ok(())
        }
    })?;
    seen.settle(batches.finish()?)?;
    Ok(seen.rejected)
}

/// Takes what became of pictures: it hands features on, and counts and says what was rejected.
struct Seen<'a> {
    rejected: u64,
    notices: &'a mut Notices,
    take: &'a mut dyn FnMut(Features) -> Result<(), PipelineError>,
}

impl Seen<'_> {
    fn settle(&mut self, looked: Vec<Looked<(PictureName, usize)>>) -> Result<(), PipelineError> {
        for looked in looked {
            match looked {
                Looked::Rejected((picture, _), why) => self.reject(&picture, &why),
                Looked::Features(rows, pictures) => {
                    let (names, classes) = pictures.into_iter().unzip();
                    (self.take)(Features { rows, classes, names })?;
                }
            }
        }
        Ok(())
    }

    fn reject(&mut self, picture: &PictureName, why: &Cause) {
        self.rejected += 1;
        let (code, text) = notice_of(why);
        self.notices.loss(code, text, format!("{}: {why}", picture.place), 1, 1);
    }
}

/// Why a picture is left out, as its notice says it: its label may be what is wrong.
fn notice_of(why: &Cause) -> (&'static str, &'static str) {
    match why.downcast_ref::<LabelError>() {
        Some(LabelError::NoClass | LabelError::NoNumber(_) | LabelError::NoName { .. }) => {
            ("no_class", "pictures whose class nobody can tell, left out")
        }
        Some(LabelError::Rejected(_)) | None => ("rejected", "pictures that could not be decoded, left out"),
    }
}

/// The pictures of each class with the smallest hashes of (seed, class, key): exact, and the same whatever else is in the folder's class order.
///
/// # Errors
/// A folder that cannot be read, or a class that has fewer.
pub(super) fn draw(
    labelled: &mut LabelledPictures,
    shots: usize,
    seed: u64,
) -> Result<HashSet<(usize, String)>, PipelineError> {
    let mut classes: BTreeMap<usize, Vec<(u64, String)>> = BTreeMap::new();
    let names = labelled.class_names.clone();
    // Nothing is wanted yet: files are only listed.
    let mut list = |key: &str, class: usize| {
        let name = names.get(class).map_or("", String::as_str);
        classes.entry(class).or_default().push((random_hash(seed, name, key), key.to_owned()));
        false
    };
    let (before, limits) = (labelled.notices.clone(), Limits::default());
    labelled.each(&limits, &mut list, &mut |_, _| Ok(()))?;
    // The second time says it.
    labelled.notices = before;
    let mut drawn = HashSet::new();
    for (class, name) in names.iter().enumerate() {
        let mut all = classes.remove(&class).unwrap_or_default();
        if all.len() < shots {
            return Err(PipelineError::usage(format!("--shots {shots}: class `{name}` has {} pictures", all.len())));
        }
        all.sort();
        drawn.extend(all.into_iter().take(shots).map(|(_, key)| (class, key)));
    }
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_is_none_is_no_picture_that_could_not_be_decoded() {
        assert_eq!(notice_of(&LabelError::NoNumber("cat".into()).into()).0, "no_class");
        assert_eq!(notice_of(&Cause::from("neither JPEG nor PNG")).0, "rejected");
    }
}
