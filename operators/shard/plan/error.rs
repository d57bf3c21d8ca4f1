//! Why there is no plan.

use crate::braces::BraceError;
use crate::store::StoreError;

/// Why there is no plan. All of these are wrong input, none is a failure to retry.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No shard was named.
    #[error("no shards given")]
    Empty,
    /// Braces that do not balance, or stand for too many names.
    #[error(transparent)]
    Braces(#[from] BraceError),
    /// `${X}` without the variable `WDS_X`.
    #[error("{argument}: ${{{variable}}} needs the environment variable WDS_{variable}")]
    Variable {
        /// The argument as given.
        argument: String,
        /// The variable's name without `WDS_`.
        variable: String,
    },
    /// A `pipe:` command.
    #[error("{0}: pipe: is not supported in this build yet; run the command yourself and give its output as -")]
    Pipe(String),
    /// Nothing there, not readable, or of a store that nobody knows.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A wildcard that finds nothing.
    #[error("{0}: no such shard")]
    NoMatch(String),
    /// A wildcard that cannot be read.
    #[error("{0}")]
    Pattern(String, #[source] glob::PatternError),
    /// A folder without shards.
    #[error("{0}: the folder holds no .tar, be it plain or .gz, .zst, .xz, .bz2")]
    NoShards(String),
    /// Two shards with one name.
    #[error("{first} and {second} would both be called {name}: give one of them a name of its own, NAME=SHARDS")]
    SameName {
        /// The name that both would have.
        name: String,
        /// The first shard's URL.
        first: String,
        /// The second shard's URL.
        second: String,
    },
    /// More shards than allowed.
    #[error("more than {0} shards")]
    TooMany(usize),
    /// A file name that is not UTF-8.
    #[error("{0}: the name is not UTF-8")]
    NotUtf8(String),
}
