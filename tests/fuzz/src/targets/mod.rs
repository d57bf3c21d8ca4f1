//! The targets whose parsers are public. Those of the cluster stand in its tests.

mod columns;
mod pictures;
mod tar;
mod text;

use crate::Target;

/// Every target, as `--help` lists them.
#[must_use]
pub fn all() -> Vec<Target> {
    [tar::targets(), pictures::targets(), columns::targets(), text::targets()].concat()
}
