//! The points at which the processes of a run meet, in their order, each named at one place. All of them come to each, or to none.

use std::fmt;

/// Makes the enum with the name that crosses between processes beside each of its variants, and the list of all, so that no list can lack one.
macro_rules! phases {
    ($($(#[$doc:meta])* $phase:ident = $name:literal,)+) => {
        /// Where processes meet: each hands something in, and all get what every one handed in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Phase { $($(#[$doc])* $phase,)+ }

        impl Phase {
            /// All phases, in order.
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$phase,)+];

            /// As it is called between processes, and to people.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$phase => $name,)+ }
            }
        }
    };
}

phases! {
    /// Benchmarks that are given as pictures are embedded.
    Benchmarks = "benchmarks",
    /// At the start of a watch, the list of arrivals can be read.
    Arrivals = "arrivals",
    /// What must be the same for all.
    Configuration = "configuration",
    /// The run's folder is open.
    RunFolder = "run folder",
    /// At the start of a watch, the pool is there.
    Pool = "pool",
    /// All have what a prune needs.
    Ready = "ready",
    /// The order of a training, from the process that has worked it out.
    Settled = "what is settled",
    /// The checkpoints of a training are read.
    Checkpoints = "checkpoints",
    /// From where a training goes on, which must be the same for all.
    Training = "training",
    /// On which card each rank trains.
    Cards = "cards",
    /// Where the store of the ranks listens.
    RankStore = "store",
    /// Each has counted its passes to their end.
    PassesOver = "passes over",
    /// What each has judged, once a prune or a training is over.
    Finished = "finished",
    /// Whether anybody of a watch was told to stop.
    Turn = "turn",
    /// What each saw of the shards that the live trainer read.
    Heard = "news",
    /// The shards to be read, from the process that looks.
    Orders = "orders",
    /// What each could not read.
    ReadShards = "read shards",
    /// Whether anybody was told to stop while shards were read.
    Stopped = "end",
    /// What is wrong with benchmarks, rules or takedowns.
    Inputs = "inputs",
    /// Fingerprints of these, which must be equal.
    Fingerprints = "fingerprints",
    /// Sizes and counts that moved, from the process that publishes.
    Moves = "moves",
    /// Whether anybody's memory was too small for the epoch.
    Made = "made",
    /// The words of the takedown lists that named something.
    Takedowns = "takedowns",
    /// How the live trainer stands.
    TrainerStands = "live trainer: standing",
    /// The live trainer is at its end everywhere.
    TrainerEnds = "live trainer: end",
    /// What the live trainer is fed.
    TrainerFeed = "live trainer: feed",
    /// Where the processes of the live trainer find each other.
    TrainerPort = "live trainer: port",
    /// The live trainer's run has grown.
    TrainerGrown = "live trainer: grown",
    /// Whether the live trainer goes on.
    TrainerGoesOn = "live trainer: goes on",
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Phase;

    /// Who is a phase behind is told from who is there by the name alone.
    #[test]
    fn no_two_phases_have_one_name() {
        let names: BTreeSet<_> = Phase::ALL.iter().map(|phase| phase.name()).collect();
        assert_eq!(names.len(), Phase::ALL.len());
    }
}
