//! An error and what caused it, in one line.

use std::error::Error;
use std::fmt;

/// An error of any type, as the cause of another one.
pub type Cause = Box<dyn Error + Send + Sync>;

/// An error's own words and those of each error behind it, `: ` between. Errors say what they know and name their cause as their
/// [`source`](Error::source); so each is said once, by whoever prints. Some libraries' errors end with their cause's words as well: these are
/// not repeated.
///
/// ```
/// use std::fmt;
/// use trommel_core::causes::Causes;
///
/// #[derive(Debug)]
/// struct Unread(std::io::Error);
///
/// impl fmt::Display for Unread {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         f.write_str("plan.json")
///     }
/// }
///
/// impl std::error::Error for Unread {
///     fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
///         Some(&self.0)
///     }
/// }
///
/// let error = Unread(std::io::Error::other("the disk is gone"));
/// assert_eq!(Causes(&error).to_string(), "plan.json: the disk is gone");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Causes<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let words = error.to_string();
            if !said.ends_with(&words) {
                write!(f, ": {words}")?;
            }
            (said, cause) = (words, error.source());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As errors of some libraries are: they end with the words of what they name as their cause.
    #[derive(Debug)]
    struct Outer(&'static str, std::io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.1)
        }
    }

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        for (words, line) in [("gone", "gone"), ("Io error: gone", "Io error: gone"), ("a.tar", "a.tar: gone")] {
            assert_eq!(Causes(&Outer(words, std::io::Error::other("gone"))).to_string(), line);
        }
    }
}
