//! The part of the graph that pruning and training share: decoded samples to scored ones, whatever is asked for.

use timely::dataflow::StreamVec;
use timely::dataflow::operators::vec::Map;
use trommel_core::sample::{Event, Time};
use trommel_decide::score::Similarity;
use trommel_decide::{Embedded, Scored};
use trommel_decode::operator::Decoded;
use trommel_embed::operator::Embed;

use crate::judging::{Judging, Machinery};

/// Embeds and joins as far as the run asks for it: nothing without an embedder, no join without benchmarks.
pub fn score<'scope>(
    decoded: StreamVec<'scope, Time, Decoded>,
    judging: &Judging,
    machinery: &Machinery,
) -> (StreamVec<'scope, Time, Scored>, Vec<StreamVec<'scope, Time, Event>>) {
    let Some(embedder) = &machinery.embedder else {
        return (decoded.map(unembedded), Vec::new());
    };
    let (embedded, without_direction) = decoded.embed(embedder);
    let Some(joiner) = &judging.joiner else {
        return (embedded.map(|sample: Embedded| sample.with_scores(Vec::new())), vec![without_direction]);
    };
    let (scored, unjudgeable) = embedded.similarity(joiner, &judging.verdict, &judging.names, &machinery.joiners);
    (scored, vec![without_direction, unjudgeable])
}

/// A sample that a rule judges without looking at it, or that the ledger has judged.
pub fn unembedded(sample: Decoded) -> Scored {
    let Decoded { info, pass, work, caption, eval: _, train, encoded_bytes, permit } = sample;
    Embedded { info, pass, work, caption, vector: Vec::new(), train, encoded_bytes, permit }.with_scores(Vec::new())
}
