//! An error and what caused it, in one line.

use std::error::Error;
use std::fmt;

/// An error of any type, as the cause of another one.
pub type Cause = Box<dyn Error + Send + Sync>;

/// An error's own words and those of each error behind it, `: ` between. Errors say what they know and name their cause as their
/// [`source`](Error::source); so each is said once, by whoever prints.
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
        fmt::Display::fmt(self.0, f)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
