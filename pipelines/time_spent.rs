//! Where the time of a run went, and which stage was its bottleneck.

use serde::Serialize;
use trommel_decode::card::DecodedBy;

/// How long a stage was busy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stage {
    /// Busy time of all its threads together, in microseconds.
    pub busy_micros: u64,
    /// Threads, or lanes.
    pub threads: usize,
}

/// The stages of a run, at its end; one that a run does not have was never busy.
#[derive(Clone, Debug, Default)]
pub struct Stages {
    /// Decoding and resizing on the CPU.
    pub decode: Stage,
    /// Decoding and resizing on a card, all its lanes together.
    pub decode_on_card: Stage,
    /// Embedding, on all devices.
    pub embed: Stage,
    /// Joining with the benchmarks.
    pub join: Stage,
    /// Which pictures a card decoded.
    pub decoded_by: Option<DecodedBy>,
}

/// Share of the run that each stage was busy: thread-seconds over seconds, 1.0 is one thread all the time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Spent {
    /// Decoding and resizing on the CPU.
    pub decode: f64,
    /// Decoding and resizing on a card, all its lanes together.
    pub decode_on_card: f64,
    /// Which pictures a card decoded, and why others were the CPU's; `None`: no card decodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoded_by: Option<DecodedBy>,
    /// Embedding, on all devices.
    pub embed: f64,
    /// Joining with the benchmarks.
    pub join: f64,
    /// The stage nearest to its limit.
    pub bottleneck: String,
}

impl Spent {
    /// What the stages make of a run of `seconds`.
    #[must_use]
    pub fn of(stages: Stages, seconds: f64) -> Self {
        let Stages { decode, decode_on_card, embed, join, decoded_by } = stages;
        #[expect(clippy::cast_precision_loss)]
        let busy = |stage: Stage| stage.busy_micros as f64 / 1e6 / seconds.max(1e-9);
        #[expect(clippy::cast_precision_loss)]
        let each = |stage: Stage| busy(stage) / stage.threads.max(1) as f64;
        let all = [("decode", decode), ("decode on the card", decode_on_card), ("embed", embed), ("join", join)];
        let busiest = all.iter().max_by(|(_, a), (_, b)| each(*a).total_cmp(&each(*b)));
        let bottleneck = busiest.filter(|(_, stage)| each(*stage) >= 0.5).map_or("reading shards", |(name, _)| name);
        let [decode, decode_on_card, embed, join] = all.map(|(_, stage)| busy(stage));
        Self { decode, decode_on_card, decoded_by, embed, join, bottleneck: bottleneck.to_owned() }
    }
}

/// Seconds for people: `12 s`, `3 min 05 s`, `2 h 10 min`.
pub(crate) fn clock(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}
