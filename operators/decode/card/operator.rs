//! The decode operator with a card in it.
//!
//! ```text
//!  Encoded ─▶ offload: headers ─┬─ Card ─▶ the lanes      ─┬─▶ Views
//!                               └─ Done: views or reject   └─ refused ─▶ offload: decode ─▶ views or reject
//! ```
//!
//! Frontier: the outputs follow the input's, the jobs and the open tickets. Each sample gives exactly one item, as in
//! [`crate::operator`], with the same pixels whichever way it went. A sample's permit covers what it holds on its way: its JPEG, and
//! tables no larger than the views that are made of them.

use std::sync::Arc;

use timely::dataflow::StreamVec;
use timely::dataflow::operators::{Concatenate, OkErr};
use timely::order::TotalOrder;
use timely::progress::Timestamp;
use trommel_core::sample::{Encoded, Event, Sample, SampleInfo};
use trommel_dataflow::batch::{BatchOffload, JobPanic};
use trommel_dataflow::offload::{Offload, Pool};

use super::{CardDecoder, OnCpu, Prepared};
use crate::sample_views::{DecodeConfig, Of, Views, decode_sample, rejected, seen};

/// A sample after its headers were read.
enum Chosen {
    /// For a lane of the card.
    Card { sample: Box<Sample<Encoded>>, prepared: Arc<Prepared>, lane: usize },
    /// Decoded on the CPU.
    Done(Decoded),
}

/// A sample's views, or its fate.
type Decoded = Result<Sample<Views>, Event>;

/// A lane's number, and a sample for it.
type ForCard = (usize, Box<Sample<Encoded>>, Arc<Prepared>);

impl CardDecoder {
    /// Prepares a sample for the card, or decodes it here.
    fn choose(&self, sample: Sample<Encoded>, config: &DecodeConfig) -> Chosen {
        let Encoded { image, .. } = &sample.payload;
        let prepared = self.prepare(image, config, &sample);
        match prepared.and_then(|prepared| Ok((prepared, self.next_lane().ok_or(OnCpu::Refused)?))) {
            Ok((prepared, lane)) => {
                let stream = prepared.stream().clone();
                let sample = sample.map(|encoded| Encoded { image: stream, ..encoded });
                Chosen::Card { sample: Box::new(sample), prepared, lane }
            }
            Err(why) => {
                self.count(Some(why));
                Chosen::Done(decode_sample(sample, config))
            }
        }
    }

    fn prepare(
        &self,
        image: &bytes::Bytes,
        config: &DecodeConfig,
        sample: &Sample<Encoded>,
    ) -> Result<Arc<Prepared>, OnCpu> {
        self.admit(Prepared::new(image, config, Of::sample(sample))?)
    }
}

type Samples<'scope, T> = StreamVec<'scope, T, Sample<Encoded>>;

/// See the module.
pub(crate) fn decode_on_card<'scope, T: Timestamp + TotalOrder>(
    samples: Samples<'scope, T>,
    config: &DecodeConfig,
    pool: &Pool,
    card: &CardDecoder,
) -> (StreamVec<'scope, T, Sample<Views>>, StreamVec<'scope, T, Event>) {
    let scope = samples.scope();
    let info = |sample: &Sample<Encoded>| sample.info.clone();
    let (chooser, by) = (card.clone(), config.clone());
    let on_panic = |info: Arc<SampleInfo>, panic: JobPanic| Chosen::Done(rejected(info, panic));
    let chosen = samples.offload("Headers", pool, info, move |sample| chooser.choose(sample, &by), on_panic);
    let (mut for_card, done): (StreamVec<'scope, T, ForCard>, StreamVec<'scope, T, Decoded>) =
        chosen.ok_err(|chosen| match chosen {
            Chosen::Card { sample, prepared, lane } => Ok((lane, sample, prepared)),
            Chosen::Done(result) => Err(result),
        });
    let (mut ends, mut refused) = (vec![done], Vec::new());
    for (number, lane) in card.lanes().iter().enumerate() {
        let (mine, others): (StreamVec<'scope, T, ForCard>, StreamVec<'scope, T, ForCard>) =
            for_card.ok_err(move |it: ForCard| if it.0 == number { Ok(it) } else { Err(it) });
        for_card = others;
        let counting = card.clone();
        #[expect(clippy::result_large_err, reason = "one of two streams, no error")]
        let answered = mine.batch_offload(
            "Card",
            lane,
            |(_, sample, prepared): ForCard| (prepared, sample),
            move |sample, result: Result<Option<Views>, JobPanic>| {
                let views = result.ok().flatten();
                counting.count(views.is_none().then_some(OnCpu::Refused));
                match views {
                    Some(views) => Ok(Ok(seen(sample.open().0, views))),
                    None => Err(*sample),
                }
            },
        );
        #[expect(clippy::result_large_err, reason = "one of two streams, no error")]
        let (made, back): (StreamVec<'scope, T, Decoded>, Samples<'scope, T>) = answered.ok_err(|result| result);
        ends.push(made);
        refused.push(back);
    }
    let by = config.clone();
    let again =
        scope.concatenate(refused).offload("Decode", pool, info, move |sample| decode_sample(sample, &by), rejected);
    ends.push(again);
    scope.concatenate(ends).ok_err(|result| result)
}
