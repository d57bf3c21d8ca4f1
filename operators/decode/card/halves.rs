//! Whose fault it is that a batch fails: it is tried in halves until that is known, where it may be a picture's.
//!
//! nvJPEG gives one status for a batch. Some blame a picture; of others nobody can tell, so the engine is blamed where no picture of
//! several comes out; and what is left blames the engine: a card without memory would be asked again for each half of each group.

use super::CardError;

/// `nvjpegStatus_t` that blames a picture: invalid parameter, bad JPEG, JPEG not supported, implementation not supported, incomplete stream.
const OF_A_PICTURE: [i32; 5] = [2, 3, 4, 9, 10];

/// `nvjpegStatus_t` that may be either's: execution failed, internal error.
const OF_EITHER: [i32; 2] = [6, 8];

/// Decodes the pictures `at` with `batch`, all at once if it can be, and marks those that came out.
///
/// # Errors
/// The engine's.
pub(super) fn in_halves(
    at: &[usize],
    decoded: &mut [bool],
    mut batch: impl FnMut(&[usize]) -> Result<(), CardError>,
) -> Result<(), CardError> {
    let mut unclear = None;
    halves(at, decoded, &mut batch, &mut unclear)?;
    match unclear {
        Some(error) if at.len() > 1 && !at.iter().any(|&at| decoded[at]) => Err(error),
        _ => Ok(()),
    }
}

fn halves(
    at: &[usize],
    decoded: &mut [bool],
    batch: &mut impl FnMut(&[usize]) -> Result<(), CardError>,
    unclear: &mut Option<CardError>,
) -> Result<(), CardError> {
    if at.is_empty() {
        return Ok(());
    }
    let Err(error) = batch(at) else {
        at.iter().for_each(|&at| decoded[at] = true);
        return Ok(());
    };
    match error {
        CardError::Nvjpeg { status, .. } if OF_A_PICTURE.contains(&status) => {}
        CardError::Nvjpeg { status, .. } if OF_EITHER.contains(&status) => *unclear = Some(error),
        _ => return Err(error),
    }
    if at.len() > 1 {
        let (one, other) = at.split_at(at.len() / 2);
        halves(one, decoded, batch, unclear)?;
        halves(other, decoded, batch, unclear)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came out of 256 pictures but the first, of which those that `fails` names fail with `status`, and how often a batch was tried.
    fn outcome(fails: impl Fn(usize) -> bool, status: i32) -> (Result<Vec<bool>, CardError>, usize) {
        let (mut decoded, mut tried) = (vec![false; 256], 0);
        let at: Vec<usize> = (1..256).collect();
        let found = in_halves(&at, &mut decoded, |at| {
            tried += 1;
            let failed = at.iter().any(|&at| fails(at));
            if failed { Err(CardError::Nvjpeg { what: "a batch", status }) } else { Ok(()) }
        });
        (found.map(|()| decoded), tried)
    }

    #[test]
    fn a_picture_that_is_refused_costs_no_other() {
        for status in OF_A_PICTURE.into_iter().chain(OF_EITHER) {
            let bad = |at: usize| at == 7 || at == 200;
            let (decoded, tried) = outcome(bad, status);
            assert_eq!(decoded, Ok((0..256).map(|at| at > 0 && !bad(at)).collect()), "{status}");
            assert!(tried < 40, "{status}: {tried}");
        }
    }

    #[test]
    fn an_engine_that_cannot_is_not_asked_for_each_picture() {
        for status in [1, 5, 7, 11, -1] {
            let (decoded, tried) = outcome(|_| true, status);
            assert_eq!((decoded, tried), (Err(CardError::Nvjpeg { what: "a batch", status }), 1));
        }
        for status in OF_EITHER {
            assert_eq!(outcome(|_| true, status).0, Err(CardError::Nvjpeg { what: "a batch", status }));
        }
        assert_eq!(outcome(|_| true, 3).0, Ok(vec![false; 256]), "pictures, all of them");
        let gone = CardError::Missing { library: "CUDA", why: "gone".into() };
        assert_eq!(in_halves(&[0, 1], &mut [false; 2], |_| Err(gone.clone())), Err(gone.clone()));
    }

    #[test]
    fn one_picture_alone_is_blamed_itself() {
        let mut decoded = [false];
        let failed = |_: &[usize]| Err(CardError::Nvjpeg { what: "a batch", status: 6 });
        assert_eq!(in_halves(&[0], &mut decoded, failed), Ok(()));
        assert_eq!((in_halves(&[], &mut decoded, failed), decoded), (Ok(()), [false]));
    }
}
