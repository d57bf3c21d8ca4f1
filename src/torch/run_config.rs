//! What prune, train and embed share, where they run a model.

use trommel_bridge::set_threads;
use trommel_embed::device;
use trommel_pipelines::config::{JudgeConfig, Machine};
use trommel_pipelines::error::PipelineError;

use trommel_cli::args;
use trommel_cli::launch::Launched;
pub use trommel_cli::run_config::{
    EMBEDS_OR_JOINS, Read, Showing, begin, done, embedder, note_unread, reading, silently, tell_decoded, unread,
};

/// The machine's flags: see [`trommel_cli::run_config::machine`]. By itself libtorch would count the machine's cores.
pub fn machine(args: &args::Machine, launched: Option<&Launched>) -> Result<Machine, PipelineError> {
    let machine = trommel_cli::run_config::machine(args, launched, device::visible_gpus)?;
    set_threads(machine.threads);
    Ok(machine)
}

/// All flags of a judging run.
pub fn config(
    shards: &[String],
    run: &std::path::Path,
    judging: &args::Judging,
    running: &args::Running,
    slice: Option<&args::Slice>,
    launched: Option<Launched>,
) -> Result<JudgeConfig, PipelineError> {
    let machine = machine(&running.common.machine, launched.as_ref())?;
    trommel_cli::run_config::config(shards, run, judging, running, slice, machine, launched)
}

/// The losses of this start's first and last step, in words; a start that had no step left has none.
pub fn losses(first: Option<f32>, last: Option<f32>) -> String {
    let word = |loss: Option<f32>| loss.map_or("-".into(), |loss| format!("{loss:.4}"));
    format!("{} -> {}", word(first), word(last))
}
