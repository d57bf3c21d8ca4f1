//! Flags of `trommel launch`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// `trommel launch`.
#[derive(Debug, Args)]
#[command(after_help = "\
On this machine:   trommel launch --local 2 -- prune SHARDS --run DIR ..
On several:        trommel launch --processes 4 --process I --hostfile FILE -- train SHARDS --run DIR ..
                   (the same on each, I from 0; the run folder is shared)
Under srun and torchrun `trommel prune|embed|train|watch` finds its place by itself: leave out `launch`.")]
pub struct LaunchArgs {
    /// Start N processes on this machine
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=256),
        conflicts_with_all = ["processes", "process", "hostfile", "coordinator", "listen", "run_id"]
    )]
    pub local: Option<u16>,
    /// Processes of the run [default: the hostfile's lines]
    #[arg(long, value_name = "N")]
    pub processes: Option<usize>,
    /// Which of them this is, from 0
    #[arg(long, value_name = "I")]
    pub process: Option<usize>,
    /// One HOST or HOST:PORT a line, in the order of the processes
    #[arg(long, value_name = "FILE", conflicts_with = "coordinator")]
    pub hostfile: Option<PathBuf>,
    /// Process 0's address, instead of a hostfile
    #[arg(long, value_name = "HOST:PORT")]
    pub coordinator: Option<String>,
    /// This process's own address [default: the hostfile's, else any port of the address that reaches process 0]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Equal in all processes of this run and in no other [default: process 0's address]
    #[arg(long, value_name = "TEXT")]
    pub run_id: Option<String>,
    /// Seconds to wait for all processes at the start [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = crate::launch::patience)]
    pub start_timeout: Option<Duration>,
    /// Seconds after which a silent process is given up [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = crate::launch::patience)]
    pub silence: Option<Duration>,
    /// Seconds that shards in flight may take to finish after the first signal [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = crate::launch::patience)]
    pub grace: Option<Duration>,
    /// prune, embed, train or watch, with what belongs to it
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
