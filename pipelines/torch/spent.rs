//! Where the time of a run went, and which stage was its bottleneck.

use serde::Serialize;
use trommel_decode::card::{CardDecoder, DecodedBy};

use crate::judging::Machinery;

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
    /// Embedding.
    pub embed: f64,
    /// Joining.
    pub join: f64,
    /// The stage nearest to its limit.
    pub bottleneck: String,
}

impl Spent {
    /// Reads the stages' gauges at the end of a run of `seconds`.
    #[must_use]
    pub fn of(machinery: &Machinery, seconds: f64) -> Self {
        #[expect(clippy::cast_precision_loss)]
        let busy = |micros: u64| micros as f64 / 1e6 / seconds.max(1e-9);
        let decode = busy(machinery.decoders.gauge().busy_micros);
        let join = busy(machinery.joiners.gauge().busy_micros);
        let embed = machinery.embedder.as_ref().map_or(0.0, |embedder| busy(embedder.gauge().busy_micros));
        #[expect(clippy::cast_precision_loss)]
        let (decoders, joiners) = (machinery.decoders.threads() as f64, machinery.joiners.threads() as f64);
        let lanes = machinery.card.as_ref().map_or(&[][..], CardDecoder::lanes);
        let decode_on_card = lanes.iter().map(|lane| busy(lane.gauge().busy_micros)).sum::<f64>();
        #[expect(clippy::cast_precision_loss)]
        let on_card = decode_on_card / lanes.len().max(1) as f64;
        let decoded_by = machinery.card.as_ref().map(CardDecoder::decoded_by);
        let stages = [
            ("decode", decode / decoders),
            ("decode on the card", on_card),
            ("embed", embed),
            ("join", join / joiners),
        ];
        let busiest = stages.iter().max_by(|a, b| a.1.total_cmp(&b.1)).filter(|stage| stage.1 >= 0.5);
        let bottleneck = busiest.map_or("reading shards", |stage| stage.0).to_owned();
        Self { decode, decode_on_card, decoded_by, embed, join, bottleneck }
    }
}
