//! The part of the graph that pruning and training share: decoded samples to embedded ones, where an embedder is asked for.

use std::sync::Arc;

use timely::dataflow::StreamVec;
use timely::dataflow::operators::vec::Map;
use trommel_core::sample::{Embedded, Event, Sample, Time};
use trommel_decide::known_maxima::KnownMaxima;
use trommel_decide::stage::Joins;
use trommel_decode::operator::Views;
use trommel_embed::operator::Embed;

use crate::run_setup::{Machinery, RunSetup};

/// Embedded samples, and the fates of those without a direction where anything is embedded.
type Embeddings<'scope> = (StreamVec<'scope, Time, Sample<Embedded>>, Option<StreamVec<'scope, Time, Event>>);

/// Embeds where the run has an embedder; and the fates of what has no direction.
pub fn embedded<'scope>(decoded: StreamVec<'scope, Time, Sample<Views>>, machinery: &Machinery) -> Embeddings<'scope> {
    match &machinery.embedder {
        Some(embedder) => {
            let (embedded, without_direction) = decoded.embed(embedder);
            (embedded, Some(without_direction))
        }
        None => {
            let unembedded =
                |sample: Sample<Views>| sample.map(|Views { train, .. }| Embedded { vector: Vec::new(), train });
            (decoded.map(unembedded), None)
        }
    }
}

/// Who joins, where the run has benchmarks and embeds; `points`: what is durable of their points' maxima, where the ledger is to hear what they saw.
pub fn joins<'a>(
    judging: &'a RunSetup,
    machinery: &'a Machinery,
    points: Option<&'a Arc<KnownMaxima>>,
) -> Option<Joins<'a>> {
    let joiner = judging.joiner.as_ref().filter(|_| machinery.embedder.is_some())?;
    Some(Joins { joiner, pool: &machinery.joiners, points })
}
