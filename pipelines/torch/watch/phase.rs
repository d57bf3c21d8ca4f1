//! The points at which the processes of a watch meet, in their order, each named at one place. All of them come to each, or to none.

use std::fmt;

/// Where processes meet: each hands something in, and all get what every one handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// At the start, the list of arrivals can be read.
    Arrivals,
    /// At the start, what must be the same for all.
    Configuration,
    /// At the start, the pool is there.
    Pool,
    /// Whether anybody was told to stop.
    Turn,
    /// What each saw of the shards that the live trainer read.
    Heard,
    /// The shards to be read, from the process that looks.
    Orders,
    /// What each could not read.
    ReadShards,
    /// Whether anybody was told to stop while shards were read.
    Stopped,
    /// What is wrong with benchmarks, rules or takedowns.
    Inputs,
    /// Fingerprints of these, which must be equal.
    Fingerprints,
    /// Sizes and counts that moved, from the process that publishes.
    Moves,
    /// Whether anybody's memory was too small for the epoch.
    Made,
    /// The words of the takedown lists that named something.
    Takedowns,
    /// How the live trainer stands.
    TrainerStands,
    /// The live trainer is at its end everywhere.
    TrainerEnds,
    /// What the live trainer is fed.
    TrainerFeed,
    /// The live trainer's run has grown.
    TrainerGrown,
    /// Whether the live trainer goes on.
    TrainerGoesOn,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arrivals => "arrivals",
            Self::Configuration => "configuration",
            Self::Pool => "pool",
            Self::Turn => "turn",
            Self::Heard => "news",
            Self::Orders => "orders",
            Self::ReadShards => "read shards",
            Self::Stopped => "end",
            Self::Inputs => "inputs",
            Self::Fingerprints => "fingerprints",
            Self::Moves => "moves",
            Self::Made => "made",
            Self::Takedowns => "takedowns",
            Self::TrainerStands => "live trainer: standing",
            Self::TrainerEnds => "live trainer: end",
            Self::TrainerFeed => "live trainer: feed",
            Self::TrainerGrown => "live trainer: grown",
            Self::TrainerGoesOn => "live trainer: goes on",
        })
    }
}
