//! What the machinery of a run tells of its time.

use trommel_decode::card::{CardDecoder, DecodedBy};
pub use trommel_pipelines::time_spent::Spent;
use trommel_pipelines::time_spent::{Stage, Stages};

use crate::run_setup::Machinery;

impl Stages for Machinery {
    fn decode(&self) -> Stage {
        let (busy_micros, threads) = (self.decoders.gauge().busy_micros, self.decoders.threads());
        Stage { name: "decode", busy_micros, threads }
    }

    fn decode_on_card(&self) -> Stage {
        let lanes = self.card.as_ref().map_or(&[][..], CardDecoder::lanes);
        let busy_micros = lanes.iter().map(|lane| lane.gauge().busy_micros).sum();
        Stage { name: "decode on the card", busy_micros, threads: lanes.len() }
    }

    fn embed(&self) -> Stage {
        let busy_micros = self.embedder.as_ref().map_or(0, |embedder| embedder.gauge().busy_micros);
        Stage { name: "embed", busy_micros, threads: 1 }
    }

    fn join(&self) -> Stage {
        let (busy_micros, threads) = (self.joiners.gauge().busy_micros, self.joiners.threads());
        Stage { name: "join", busy_micros, threads }
    }

    fn decoded_by(&self) -> Option<DecodedBy> {
        self.card.as_ref().map(CardDecoder::decoded_by)
    }
}
