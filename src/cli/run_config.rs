//! What prune, train and embed share: flags to a judging configuration, counts to a status. No model is needed to know them.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;

use trommel_core::cores::Cores;
use trommel_core::notices::Notices;
use trommel_core::stop::Stop;
use trommel_core::text::thousands;
use trommel_decode::card::DecodedBy;
use trommel_pipelines::benchmarks::NamedPath;
use trommel_pipelines::config::{DecodeOn, EmbedderConfig, JudgeConfig, Machine, ReadingConfig};
use trommel_pipelines::error::{ErrorKind, PipelineError};
use trommel_pipelines::gauges::Gauges;
use trommel_pipelines::memory::{default_budget_bytes, parse_bytes};
use trommel_pipelines::progress::Progress;
use trommel_pipelines::time_spent::Spent;

use crate::args;
use crate::environment;
use crate::launch::Launched;
use crate::metrics_server::MetricsServer;
use crate::outcome::Done;
pub use crate::outcome::Read;
use crate::progress_bar::ProgressBar;
use crate::say::say;
use crate::signals;

/// The machine's flags. What is not said is shared fairly with the run's other processes on this machine, `visible_gpus` too.
pub fn machine(
    args: &args::Machine,
    launched: Option<&Launched>,
    visible_gpus: impl FnOnce() -> usize,
) -> Result<Machine, PipelineError> {
    let (processes, process) = launched.map_or((1, 0), |it| (it.found.local_processes.max(1), it.found.local_process));
    let cores = Cores::of_this_process();
    // What a batch system promises may lie beyond the mask or the quota that the process has.
    let own_cores =
        launched.and_then(|it| it.found.own_cores).map_or(cores.usable / processes, |own| own.min(cores.usable));
    let own_cores = own_cores.max(1);
    let args::Machine { compute: args::Compute { device, threads }, decode, workers, memory } = args;
    let device = environment::device(device);
    let gpus = if device == "auto" { visible_gpus() } else { 0 };
    if processes == 1 && gpus > 1 {
        tracing::warn!(
            "{gpus} GPUs are visible, and one process computes on one: `trommel launch --local {gpus} -- ..` uses them all"
        );
    }
    let memory_share = || Ok(default_budget_bytes() / processes as u64);
    Ok(Machine {
        // Who may have a card of its own is not held to a share: what others took of it before is seen in what is free.
        card_processes: if launched.is_some_and(|it| it.found.own_gpus) { 1 } else { on_one_card(processes, gpus) },
        device: if processes > 1 && gpus > 0 { format!("cuda:{}", process % gpus) } else { device },
        decode: match decode.as_str() {
            "cpu" => DecodeOn::Cpu,
            "card" => DecodeOn::Card,
            "auto" => DecodeOn::Auto,
            other => return Err(PipelineError::usage(format!("--decode {other}: write auto, cpu or card"))),
        },
        workers: workers.map_or_else(|| default_workers(cores.usable, launched.is_some()), usize::from),
        threads: threads.map_or(own_cores, usize::from),
        waiting: environment::waiting(),
        cores,
        own_cores,
        memory_bytes: memory.as_deref().map_or_else(memory_share, parse_bytes)?,
    })
}

/// Processes of this machine that compute on one card: dealt over `gpus` of them, or all on the one that was named.
const fn on_one_card(processes: usize, gpus: usize) -> usize {
    if gpus == 0 { processes } else { processes.div_ceil(gpus) }
}

/// Workers route samples and hold the readers; pools do the work. All processes of a run have as many, whatever machine they are on.
fn default_workers(cores: usize, launched: bool) -> usize {
    if launched { 1 } else { (cores / 4).clamp(1, 8) }
}

/// The embedder's flags.
pub fn embedder(args: &args::Embedder) -> EmbedderConfig {
    EmbedderConfig {
        name: args.embedder.clone(),
        weights: args.embedder_weights.clone(),
        torchscript: args.torchscript,
        random_init: args.random_init,
        assume_model: args.assume_model.clone(),
        precision: args.embed_precision.clone(),
        batch: args.embed_batch.map(usize::from),
        weights_flag: "--embedder-weights",
    }
}

/// The reading flags; a command that may read a slice alone says which one.
pub fn reading(args: &args::Reading, slice: Option<&args::Slice>) -> ReadingConfig {
    ReadingConfig {
        image_key: args.image_key.clone(),
        text_key: args.text_key.clone(),
        strict: args.strict,
        load_truncated: args.load_truncated,
        max_pixels: args.max_pixels,
        part: slice.and_then(|slice| slice.part).map(|part| (part.index, part.count)),
        stores: environment::stores(),
    }
}

/// All flags of a judging run.
pub fn config(
    shards: &[String],
    run: &std::path::Path,
    judging: &args::Judging,
    running: &args::Running,
    slice: Option<&args::Slice>,
    machine: Machine,
    launched: Option<Launched>,
) -> Result<JudgeConfig, PipelineError> {
    let args::Running { embedder: embed, reading: read, common, .. } = running;
    Ok(JudgeConfig {
        shards: shards.to_vec(),
        plan: None,
        run: run.to_path_buf(),
        benchmarks: NamedPath::parse_all(&judging.against.benchmarks, &judging.against.benchmark_without)?,
        rule: judging.rule.clone(),
        rule_seed: common.seed,
        join: judging.against.join.parse()?,
        columns: judging.columns.parse().map_err(|error| PipelineError::usage(error).within("--columns"))?,
        keep_embeddings: !judging.no_embeddings,
        embedder: embedder(embed),
        always_embed: false,
        reading: reading(read, slice),
        blur: judging.blur,
        mix_numerics: embed.mix_numerics,
        machine,
        cluster: launched.map(Launched::seat),
        gauges: Gauges::default(),
    })
}

/// A run that begins: what stops it, what counts it, and who shows it.
pub struct Begun {
    /// Stops the run at an interrupt.
    pub stop: Stop,
    /// The counters that are shown.
    pub progress: Arc<Progress>,
    /// This process speaks for the run: alone, or process 0.
    pub speaks: bool,
    bar: Option<ProgressBar>,
    _server: Option<MetricsServer>,
}

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Showing {
    /// Bars on a terminal, a line every few seconds otherwise.
    Everywhere,
    /// On a terminal only: what may wait for days would fill a log.
    Terminal,
}

/// Attaches signals, the progress bar and the metrics to a run of `config`. Of several processes only process 0 shows
/// and serves: it hears of the others.
pub fn begin(config: &mut JudgeConfig, watched: &args::Watched, showing: Showing) -> Result<Begun, PipelineError> {
    let speaks = config.cluster.as_ref().is_none_or(|seat| seat.config.process == 0);
    let progress = Arc::new(Progress::default());
    config.gauges = progress.gauges.clone();
    let address = watched.metrics.as_deref().filter(|_| speaks);
    let server = address.map(|address| MetricsServer::start(address, progress.clone())).transpose()?;
    let stop = Stop::new();
    signals::install(stop.clone()).map_err(PipelineError::failed)?;
    let shows = speaks && (showing == Showing::Everywhere || std::io::stderr().is_terminal());
    let bar = shows.then(|| ProgressBar::show(progress.clone()));
    Ok(Begun { stop, progress, speaks, bar, _server: server })
}

impl Begun {
    /// The run has ended: no bar any more, lines may follow.
    pub fn hide(&mut self) {
        self.bar = None;
    }
}

/// The end of a process that does not speak for the run: its status alone. Process 0 tells the rest.
pub fn silently(interrupted: bool, failed: &BTreeMap<u64, String>) -> Done {
    Done::said(if interrupted || !failed.is_empty() { ErrorKind::Unfinished.status() } else { 0 })
}

/// The flags that say how to embed, or how to join.
pub const EMBEDS_OR_JOINS: [&str; 10] = [
    "embedder",
    "embedder-weights",
    "torchscript",
    "random-init",
    "assume-model",
    "embed-precision",
    "embed-batch",
    "join",
    "columns",
    "no-embeddings",
];

/// Notes which of `flags`, which say how to embed or to join, are given where nothing is: whoever gives them expects that something is. `given` are
/// the flags that stand on the command line or in its `--config`.
pub fn note_unread(notices: &mut Notices, given: &[String], judging: &args::Judging, flags: &[&str]) {
    if !judging.against.benchmarks.is_empty() {
        return;
    }
    let unread = given.iter().filter(|flag| flags.contains(&flag.as_str()));
    // Nothing is joined for them, and yet a run folder keeps them among what it was begun with.
    let (columns, unread): (Vec<&String>, Vec<&String>) = unread.partition(|flag| *flag == "columns");
    if let Some(first) = unread.first() {
        let text = "flags that nobody reads, for without --benchmark nothing is embedded or joined";
        notices.note("flags_not_read", text, format!("--{first}"), unread.len() as u64);
    }
    let text = "choices of columns of which without --benchmark there are none; the folder goes on with this one only";
    notices.note("columns_not_read", text, "--columns", columns.len() as u64);
}

/// Says which pictures a card decoded, where one did.
pub fn tell_decoded(spent: &Spent) {
    let Some(DecodedBy { card, cpu, cpu_because }) = &spent.decoded_by else { return };
    let why: Vec<String> = cpu_because.iter().map(|(why, count)| format!("{why} {}", thousands(*count))).collect();
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
    say(format!("{} pictures decoded on the card, {} on the CPU{why}", thousands(*card), thousands(*cpu)));
}

/// How many shards could not be read, and why the first of them; `None` where all could.
#[must_use]
pub fn unread(failed: &BTreeMap<u64, String>) -> Option<String> {
    let (ordinal, why) = failed.first_key_value()?;
    Some(format!("{} shards could not be read (shard {ordinal}: {why})", failed.len()))
}

/// The status of a run that ended by itself or was interrupted.
pub fn done(interrupted: bool, failed: &BTreeMap<u64, String>, read: Read<'_>, max_rejects_percent: f64) -> Done {
    let unread = unread(failed).map(|unread| format!("{unread}; the same command tries them again"));
    let unfinished = unread.or_else(|| interrupted.then(|| "interrupted; the same command resumes".to_owned()));
    Done { unfinished, too_many_rejects: read.too_many(max_rejects_percent), said: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_dealt_over_cards() {
        let table = [(1, 0, 1), (1, 4, 1), (4, 4, 1), (4, 1, 4), (5, 2, 3), (3, 8, 1), (4, 0, 4)];
        for (processes, gpus, on_one) in table {
            assert_eq!(on_one_card(processes, gpus), on_one, "{processes} on {gpus}");
            let most = (0..gpus).map(|card| (0..processes).filter(|process| process % gpus == card).count()).max();
            assert!(most.is_none_or(|most| most == on_one));
        }
    }
}
