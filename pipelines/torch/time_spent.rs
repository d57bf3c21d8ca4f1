//! What the machinery of a run tells of its time.

use trommel_decode::card::CardDecoder;
use trommel_pipelines::time_spent::{Stage, Stages};

use crate::run_setup::Machinery;

impl Machinery {
    /// How long its stages were busy until now.
    pub(crate) fn stages(&self) -> Stages {
        let lanes = self.card.as_ref().map_or(&[][..], CardDecoder::lanes);
        let embedding = self.embedder.as_ref().map(|embedder| embedder.gauge().busy_micros);
        Stages {
            decode: Stage { busy_micros: self.decoders.gauge().busy_micros, threads: self.decoders.threads() },
            decode_on_card: Stage {
                busy_micros: lanes.iter().map(|lane| lane.gauge().busy_micros).sum(),
                threads: lanes.len(),
            },
            embed: Stage { busy_micros: embedding.unwrap_or_default(), threads: 1 },
            join: Stage { busy_micros: self.joiners.gauge().busy_micros, threads: self.joiners.threads() },
            decoded_by: self.card.as_ref().map(CardDecoder::decoded_by),
        }
    }
}
