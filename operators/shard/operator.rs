//! What readers send, as three streams.
//!
//! ```text
//! admitted ─┬─▶ samples    to decode
//!           ├─▶ events     rejects and shard ends, to the ledger
//!           └─▶ replayed   holes and ends of replayed shards, to the order
//! ```
//!
//! Nothing is held: every frontier is the input's.

use timely::dataflow::StreamVec;
use timely::dataflow::operators::OkErr;
use timely::progress::Timestamp;

use super::reader::{Admitted, Replayed};
use trommel_core::sample::{Encoded, Event, Sample};

/// Samples, events and replayed turns.
pub type Split<'scope, T> =
    (StreamVec<'scope, T, Sample<Encoded>>, StreamVec<'scope, T, Event>, StreamVec<'scope, T, Replayed>);

/// Splits what readers send.
pub trait ReadSamples<'scope, T: Timestamp> {
    /// Samples for the decoder, events for the ledger, holes and ends of replayed shards for the order.
    fn split_admitted(self) -> Split<'scope, T>;
}

impl<'scope, T: Timestamp> ReadSamples<'scope, T> for StreamVec<'scope, T, Admitted> {
    fn split_admitted(self) -> Split<'scope, T> {
        let (samples, others): (_, StreamVec<'scope, T, Result<Event, Replayed>>) = self.ok_err(|item| match item {
            Admitted::Sample(sample) => Ok(sample),
            Admitted::Event(event) => Err(Ok(event)),
            Admitted::Replayed(replayed) => Err(Err(replayed)),
        });
        let (events, replayed) = others.ok_err(|other: Result<Event, Replayed>| other);
        (samples, events, replayed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use timely::dataflow::operators::capture::Extract;
    use timely::dataflow::operators::{Capture, Inspect};

    use super::*;
    use crate::plan::{PlanOptions, expand};
    use crate::reader::{ReaderConfig, ShardReader, ViewBytes};
    use crate::store::Stores;
    use crate::testing::tar_of;
    use trommel_core::credit::{Credit, CreditConfig};
    use trommel_core::stop::Stop;
    use trommel_dataflow::leases::Dynamic;
    use trommel_dataflow::source::source;

    #[test]
    fn shards_stream_through_the_source() {
        let folder = tempfile::tempdir().unwrap();
        for shard in 0..5 {
            let bytes = tar_of(&[("a.jpg", &[shard; 3000]), ("b.txt", b"no picture"), ("c.jpg", &[shard; 100])]);
            std::fs::write(folder.path().join(format!("{shard}.tar")), bytes).unwrap();
        }
        let pattern = folder.path().join("{0..4}.tar").display().to_string();
        let plan = Arc::new(expand(&[pattern], &Stores::default(), &PlanOptions::default()).unwrap());
        let captured = timely::example(move |scope| {
            let stop = Stop::new();
            let config = CreditConfig { budget_bytes: 20_000, lanes: 2, quantum_bytes: 9_000 };
            let credit = Credit::new(config, stop.clone());
            let reader = Arc::new(ShardReader::new(
                Stores::default(),
                plan,
                ReaderConfig::default(),
                ViewBytes::default(),
                None,
            ));
            let leases = Arc::new(Dynamic::new(0..5, 2));
            let items = source(scope, "Shards", leases.clone(), reader, 0..2, credit, stop);
            let (samples, events, _) = items.split_admitted();
            use timely::dataflow::operators::vec::Map;
            let _ = samples.map(|sample| drop(sample.permit)).inspect(|()| {});
            events
                .map(move |event| match event {
                    Event::Fate(fate) => format!("{} {}", fate.info.id.index, fate.reason.clone().unwrap().code),
                    Event::End(end) => {
                        leases.committed(end.ordinal);
                        format!("end {}", end.count)
                    }
                })
                .capture()
        });
        let wanted: Vec<_> = (0..5).map(|time| (time, vec!["1 no_image".to_string(), "end 3".into()])).collect();
        assert_eq!(captured.extract(), wanted);
    }
}
