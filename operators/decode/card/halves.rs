//! Whose fault it is that a batch fails: it is tried in halves until that is known, where it may be a picture's.
//!
//! nvJPEG gives one status for a batch. Some blame a picture; of others nobody can tell, so the engine is blamed where no picture of
//! several comes out; and what is left blames the engine: a card without memory would be asked again for each half of each group.
//!
//! All batches share one decoder state, and a batch runs on after it was handed over. So every batch but a group's first waits until the
//! earlier ones are over, also those that failed: some of their pictures may have been begun. A group without a fault is one batch.

use super::CardError;

/// `nvjpegStatus_t` that blames a picture: invalid parameter, bad JPEG, JPEG not supported, implementation not supported, incomplete stream.
const OF_A_PICTURE: [i32; 5] = [2, 3, 4, 9, 10];

/// `nvjpegStatus_t` that may be either's: execution failed, internal error.
const OF_EITHER: [i32; 2] = [6, 8];

/// Decodes the pictures `at` with `batch`, all at once if it can be, and marks those that came out. `finish` waits for what `batch` has
/// handed over.
///
/// # Errors
/// The engine's. Nothing is under way then.
pub(super) fn in_halves(
    at: &[usize],
    decoded: &mut [bool],
    mut batch: impl FnMut(&[usize]) -> Result<(), CardError>,
    mut finish: impl FnMut() -> Result<(), CardError>,
) -> Result<(), CardError> {
    let (mut unclear, mut is_first) = (None, true);
    let mut in_turn = |at: &[usize]| {
        if !std::mem::take(&mut is_first) {
            finish()?;
        }
        batch(at)
    };
    let found = halves(at, decoded, &mut in_turn, &mut unclear).and_then(|()| match unclear {
        Some(error) if at.len() > 1 && !at.iter().any(|&at| decoded[at]) => Err(error),
        _ => Ok(()),
    });
    if found.is_err() {
        // The first error is the one that says why.
        let _later = finish();
    }
    found
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
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What came out of 256 pictures but the first, of which those that `fails` names fail with `status`, and how often a batch was tried.
    fn outcome(fails: impl Fn(usize) -> bool, status: i32) -> (Result<Vec<bool>, CardError>, usize) {
        let (mut decoded, mut tried) = (vec![false; 256], 0);
        // In an order that is not theirs: 101 and 256 have no factor in common.
        let at: Vec<usize> = (0..256).map(|turn| turn * 101 % 256).filter(|&at| at > 0).collect();
        let found = in_halves(
            &at,
            &mut decoded,
            |at| {
                tried += 1;
                let failed = at.iter().any(|&at| fails(at));
                if failed { Err(CardError::Nvjpeg { what: "a batch", status }) } else { Ok(()) }
            },
            || Ok(()),
        );
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
        assert_eq!(in_halves(&[0, 1], &mut [false; 2], |_| Err(gone.clone()), || Ok(())), Err(gone.clone()));
    }

    /// A decoder's state. A batch runs until it is waited for; what runs when the state is taken for another batch is spoilt.
    #[derive(Default)]
    struct State {
        running: Vec<usize>,
        spoilt: Vec<usize>,
        waits: usize,
    }

    impl State {
        fn take(&mut self, at: &[usize]) {
            self.spoilt.append(&mut self.running);
            self.running = at.to_vec();
        }

        fn finish(&mut self) {
            self.running.clear();
            self.waits += 1;
        }
    }

    /// What ran on the state of 256 pictures of which those that `fails` names fail, and whether some came out.
    fn ran(fails: impl Fn(usize) -> bool, status: i32) -> (Result<Vec<bool>, CardError>, State) {
        let (mut decoded, state) = (vec![false; 256], RefCell::new(State::default()));
        let at: Vec<usize> = (0..256).collect();
        let batch = |at: &[usize]| {
            // Whether it fails or not: the pictures before the bad one may have been begun.
            state.borrow_mut().take(at);
            let failed = at.iter().any(|&at| fails(at));
            if failed { Err(CardError::Nvjpeg { what: "a batch", status }) } else { Ok(()) }
        };
        let finish = || {
            state.borrow_mut().finish();
            Ok(())
        };
        let found = in_halves(&at, &mut decoded, batch, finish);
        (found.map(|()| decoded), state.into_inner())
    }

    #[test]
    fn no_batch_takes_the_state_from_one_that_runs() {
        for bad in [0, 127, 128, 255] {
            let (decoded, state) = ran(|at| at == bad, 3);
            assert_eq!(decoded.unwrap().iter().filter(|decoded| !**decoded).count(), 1);
            assert_eq!(state.spoilt, [0; 0], "picture {bad} is bad");
        }
    }

    #[test]
    fn a_group_without_a_fault_waits_for_nothing() {
        let (decoded, state) = ran(|_| false, 3);
        assert_eq!((decoded.unwrap(), state.waits, state.running.len()), (vec![true; 256], 0, 256));
    }

    #[test]
    fn nothing_runs_on_after_an_error() {
        for (status, tried) in [(5, 1), (6, 511)] {
            let (decoded, state) = ran(|_| true, status);
            assert!(decoded.is_err());
            assert_eq!((state.running.len(), state.spoilt.len(), state.waits), (0, 0, tried), "{status}");
        }
    }

    /// What the card's driver says while it is waited for is no picture's fault.
    #[test]
    fn a_wait_that_fails_ends_it() {
        let gone = CardError::Driver { what: "waiting", why: "gone".into() };
        let failed = |_: &[usize]| Err(CardError::Nvjpeg { what: "a batch", status: 3 });
        assert_eq!(in_halves(&[0, 1], &mut [false; 2], failed, || Err(gone.clone())), Err(gone.clone()));
    }

    #[test]
    fn one_picture_alone_is_blamed_itself() {
        let mut decoded = [false];
        let failed = |_: &[usize]| Err(CardError::Nvjpeg { what: "a batch", status: 6 });
        assert_eq!(in_halves(&[0], &mut decoded, failed, || Ok(())), Ok(()));
        assert_eq!((in_halves(&[], &mut decoded, failed, || Ok(())), decoded), (Ok(()), [false]));
    }
}
