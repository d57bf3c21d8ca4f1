//! Where the time of a run went, and which stage was its bottleneck.

use serde::Serialize;
use trommel_decode::card::DecodedBy;

/// A stage and how long it was busy.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// Its name in reports.
    pub name: &'static str,
    /// Busy time of all its threads together, in microseconds.
    pub busy_micros: u64,
    /// Threads, or lanes.
    pub threads: usize,
}

/// Whoever has stages that can be asked for their time.
pub trait Stages {
    /// Decoding and resizing on the CPU.
    fn decode(&self) -> Stage {
        Stage { name: "decode", busy_micros: 0, threads: 1 }
    }
    /// Decoding and resizing on a card, all its lanes together.
    fn decode_on_card(&self) -> Stage {
        Stage { name: "decode on the card", busy_micros: 0, threads: 1 }
    }
    /// Embedding, on all devices.
    fn embed(&self) -> Stage {
        Stage { name: "embed", busy_micros: 0, threads: 1 }
    }
    /// Joining with the benchmarks.
    fn join(&self) -> Stage;
    /// Which pictures a card decoded.
    fn decoded_by(&self) -> Option<DecodedBy> {
        None
    }
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
    /// Reads the stages' gauges at the end of a run of `seconds`.
    #[must_use]
    pub fn of(stages: &dyn Stages, seconds: f64) -> Self {
        let all = [stages.decode(), stages.decode_on_card(), stages.embed(), stages.join()];
        #[expect(clippy::cast_precision_loss)]
        let busy = |stage: &Stage| stage.busy_micros as f64 / 1e6 / seconds.max(1e-9);
        #[expect(clippy::cast_precision_loss)]
        let each = |stage: &Stage| busy(stage) / stage.threads.max(1) as f64;
        let busiest = all.iter().max_by(|a, b| each(a).total_cmp(&each(b))).filter(|stage| each(stage) >= 0.5);
        let bottleneck = busiest.map_or("reading shards", |stage| stage.name).to_owned();
        let [decode, decode_on_card, embed, join] = all.each_ref().map(busy);
        Self { decode, decode_on_card, decoded_by: stages.decoded_by(), embed, join, bottleneck }
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
