//! How the processes of a launch ended, and what that makes of the whole.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// How one process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// A signal of this number has ended it.
    Killed(i32),
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, signal) => Self::Killed(signal.unwrap_or(0)),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "ended with status {code}"),
            Self::Killed(signal) => {
                let name = signal_hook::low_level::signal_name(*signal).unwrap_or("unknown");
                write!(f, "was killed by signal {signal} ({name})")
            }
        }
    }
}

/// The status of the whole: a failure wins over wrong usage, that over unfinished or killed, that over too many rejects.
/// A status that the program does not have is a failure.
pub fn status(ends: impl IntoIterator<Item = End>) -> u8 {
    const WORST_FIRST: [u8; 5] = [1, 2, 3, 4, 0];
    let one = |end: End| match end {
        End::Exited(code @ (0 | 2 | 3 | 4)) => u8::try_from(code).unwrap_or(1),
        End::Exited(_) => 1,
        End::Killed(_) => 3,
    };
    let statuses: Vec<u8> = ends.into_iter().map(one).collect();
    WORST_FIRST.into_iter().find(|status| statuses.contains(status)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::End::{Exited, Killed};
    use super::*;

    #[test]
    fn the_worst_end_is_the_whole() {
        for (ends, whole) in [
            (&[][..], 0),
            (&[Exited(0), Exited(0)], 0),
            (&[Exited(0), Exited(4)], 4),
            (&[Exited(4), Exited(3)], 3),
            (&[Exited(4), Killed(9)], 3),
            (&[Exited(3), Exited(2), Exited(0)], 2),
            (&[Exited(2), Exited(1), Exited(3)], 1),
            (&[Killed(9), Exited(1)], 1),
            (&[Exited(0), Exited(101)], 1),
            (&[Exited(-1)], 1),
            (&[Killed(15), Exited(0), Exited(4)], 3),
        ] {
            assert_eq!(status(ends.iter().copied()), whole, "{ends:?}");
        }
    }

    #[test]
    fn a_killed_process_is_told_by_its_signal() {
        assert_eq!(Killed(9).to_string(), "was killed by signal 9 (SIGKILL)");
        assert_eq!(End::from(ExitStatus::from_raw(9)), Killed(9));
        assert_eq!(End::from(ExitStatus::from_raw(3 << 8)), Exited(3));
    }
}
