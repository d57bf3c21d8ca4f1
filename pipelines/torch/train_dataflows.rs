//! The graphs of training, each a sentence.
//!
//! ```text
//!  judge and train:  shards ─▶ decode ─▶ embed ─▶ join ─▶ rule ─┬─▶ order ─▶ trainer
//!                                                               └─▶ every fate ─▶ ledger
//!  a split:          the same; its reader drops whoever it does not keep, and nothing is embedded or joined
//!  pool and train:   shards ─▶ decode ─▶ embed ─┬─▶ join ─▶ rule ─▶ order ─▶ trainer
//!                                               └─▶ all of them, kept ─▶ ledger of the pool
//! ```
//!
//! A shard that is decided is replayed in all of them: from the reader to decoding to the order, past everything else.

use std::ops::Range;
use std::sync::Arc;

use timely::dataflow::operators::Concat;
use timely::dataflow::operators::core::OkErr;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::{Scope, StreamVec};
use trommel_core::credit::Credit;
use trommel_core::sample::{Embedded, Encoded, Event, Fate, Reason, Sample, Time, Work, pass_of};
use trommel_core::stop::Stop;
use trommel_dataflow::part::PartInTwo;
use trommel_dataflow::source::{Leases, source};
use trommel_dataflow::timed::FlatMapTimed;
use trommel_decide::ShardNames;
use trommel_decide::known_maxima::KnownMaxima;
use trommel_decide::stage::{Decide, TrainView};
use trommel_decode::operator::{Decode, Views};
use trommel_ledger::committer::{CommitHandle, Committed};
use trommel_ledger::first_samples::{First, FirstSamples};
use trommel_ledger::operator::{LedgerConfig, ToLedger};
use trommel_pipelines::ledger_run::Counting;
use trommel_shard::operator::ReadSamples;
use trommel_shard::reader::Replayed;
use trommel_train::to_order::{TrainOrder, to_order};

use crate::embed_and_join::{embedded, joins};
use crate::run_setup::{Machinery, Reader, RunSetup};
use crate::takedown::{Called, TakenDown};

/// What the graphs are made of.
pub(crate) struct Parts {
    /// Decides what is kept, and says how samples are read.
    pub(crate) judging: Arc<RunSetup>,
    /// Pools and embedder.
    pub(crate) machinery: Machinery,
    /// Who reads which shard.
    pub(crate) leases: Arc<dyn Leases>,
    /// Reads the shards.
    pub(crate) reader: Reader,
    /// What samples in flight may hold.
    pub(crate) credit: Credit,
    /// The trainer's order.
    pub(crate) order: TrainOrder,
    /// Counts fates for the progress.
    pub(crate) counting: Counting,
    /// What is durable of the maxima of the test points.
    pub(crate) known: Arc<KnownMaxima>,
    /// What is judged of the first samples.
    pub(crate) first: First,
    /// Takes finished shards.
    pub(crate) committer: CommitHandle,
    /// How the ledger is kept.
    pub(crate) ledger: LedgerConfig,
    /// Workers of this process.
    pub(crate) workers: usize,
    /// What ends the run.
    pub(crate) stop: Stop,
}

/// Judges and trains at once; gives what is durable.
pub(crate) fn judge_and_train<'scope>(
    scope: Scope<'scope, Time>,
    parts: &Parts,
    lanes: Range<usize>,
) -> Stream<'scope, Committed> {
    let Read { fresh, decided, turns, rejects } = parts.read(scope, lanes);
    let (embedded, rejects) = parts.embed(fresh, rejects);
    let joins = joins(&parts.judging, &parts.machinery, Some(&parts.known));
    let (kept, events) = embedded.decide(rejects, joins, &parts.judging.verdict, &parts.judging.names);
    // The leases are not for a free place but for decisions: what is known to hold rejects gives none back.
    let (events, _passed) = parts.counting.watch(events).first_samples(&parts.first, &parts.committer);
    to_order(kept.concat(decided), turns, events.clone(), &parts.order, parts.workers);
    events.ledger(parts.committer.clone(), parts.ledger.clone())
}

/// Trains, and keeps every judged sample in a pool with its embedding. The pool's ledger knows no rule, since others decide from it, again and again:
/// what the trainer gets is decided here, and is none of the samples that are taken down. Gives what of the pool is durable.
pub(crate) fn pool_and_train<'scope>(
    scope: Scope<'scope, Time>,
    parts: &Parts,
    lanes: Range<usize>,
    taken_down: &TakenDown,
) -> Stream<'scope, Committed> {
    let Read { fresh, decided, turns, rejects } = parts.read(scope, lanes);
    let (embedded, rejects) = parts.embed(fresh, rejects);
    let (embedded, recorded, taken) = recorded_all(embedded, taken_down, &parts.judging.names);
    let joins = joins(&parts.judging, &parts.machinery, None);
    let (kept, events) = embedded.decide(rejects.clone(), joins, &parts.judging.verdict, &parts.judging.names);
    let events = parts.counting.watch(events.concat(taken));
    to_order(kept.concat(decided), turns, events, &parts.order, parts.workers);
    recorded.concat(rejects).ledger(parts.committer.clone(), parts.ledger.clone())
}

type Stream<'scope, T> = StreamVec<'scope, Time, T>;
type Events<'scope> = Stream<'scope, Event>;

/// What a worker's lanes give.
struct Read<'scope> {
    /// Decoded samples that nobody has decided on.
    fresh: Stream<'scope, Sample<Views>>,
    /// Those that the ledger has kept, as the trainer wants them.
    decided: Stream<'scope, Sample<TrainView>>,
    /// What else takes a turn in the order.
    turns: Stream<'scope, Replayed>,
    /// Fates of what cannot be judged, and shards' ends.
    rejects: Events<'scope>,
}

impl Parts {
    fn read<'scope>(&self, scope: Scope<'scope, Time>, lanes: Range<usize>) -> Read<'scope> {
        let (leases, reader) = (self.leases.clone(), self.reader.clone());
        let admitted = source(scope, "Shards", leases, reader, lanes, self.credit.clone(), self.stop.clone());
        let (samples, found, replayed) = admitted.split_admitted();
        #[expect(clippy::result_large_err, reason = "one of two streams, no error")]
        let (fresh, decided) =
            samples.part(|sample: Sample<Encoded>| if sample.work == Work::Replay { Err(sample) } else { Ok(sample) });
        let (fresh, undecodable) = self.decode(fresh);
        let (decided, undecodable_now) = self.decode(decided);
        Read {
            fresh,
            decided: decided.map(|sample: Sample<Views>| sample.map(|views| views.train)),
            turns: replayed.concat(skipped(undecodable_now)),
            rejects: found.concat(undecodable),
        }
    }

    fn decode<'scope>(
        &self,
        samples: Stream<'scope, Sample<Encoded>>,
    ) -> (Stream<'scope, Sample<Views>>, Events<'scope>) {
        samples.decode_on(&self.judging.decode, &self.machinery.decoders, self.machinery.card.as_ref())
    }

    /// Embeds where the run has an embedder; what has no direction joins the rejects.
    fn embed<'scope>(
        &self,
        samples: Stream<'scope, Sample<Views>>,
        rejects: Events<'scope>,
    ) -> (Stream<'scope, Sample<Embedded>>, Events<'scope>) {
        let (embedded, without_direction) = embedded(samples, &self.machinery);
        (embedded, without_direction.into_iter().fold(rejects, Concat::concat))
    }
}

/// Samples that the ledger kept and whose pictures cannot be decoded any more. The ledger has their fates: only the order hears of them.
fn skipped<'scope>(rejects: Events<'scope>) -> StreamVec<'scope, Time, Replayed> {
    let none = Reason::new("unreadable", "");
    rejects.flat_map_timed("Skipped", move |time: &Time, event| match event {
        Event::Fate(fate) => Some(Replayed::skipped(pass_of(*time), &fate.info, fate.reason.as_ref().unwrap_or(&none))),
        Event::End(_) => None,
    })
}

/// For a pool: every embedded sample as kept, with its embedding and without scores; and the samples themselves, but for those that are taken
/// down, whose fates come last.
fn recorded_all<'scope>(
    embedded: StreamVec<'scope, Time, Sample<Embedded>>,
    taken_down: &TakenDown,
    names: &ShardNames,
) -> (StreamVec<'scope, Time, Sample<Embedded>>, Events<'scope>, Events<'scope>) {
    let (taken_down, names) = (taken_down.clone(), names.clone());
    let (embedded, events) = embedded
        .flat_map(move |sample| {
            let kept = Fate::decided(&sample, true, Vec::new(), sample.payload.vector.clone()).into();
            let info = &sample.info;
            let (shard, others) = (names(info.id.ordinal), [&info.uid, &info.url, &info.sha256]);
            let dropped = taken_down.has(Called { shard: &shard, key: &info.key, others });
            let last = if dropped { Err((true, Event::dropped(sample.info))) } else { Ok(sample) };
            [Err((false, kept)), last]
        })
        .ok_err(|either: Result<Sample<Embedded>, (bool, Event)>| either);
    let (recorded, dropped) = events
        .map(|(dropped, event)| if dropped { Err(event) } else { Ok(event) })
        .ok_err(|either: Result<Event, Event>| either);
    (embedded, recorded, dropped)
}
