//! How many files the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as the system lets it: most shells begin with 1,024 for the sake of `select`(2), and sorting and joining large ledgers keeps
/// more files than that. What cannot be raised stays.
pub fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _stays_as_it_is = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
