//! A round of judging: shards that nobody has judged, through decode, embed, join and rule into a run folder.
//!
//! ```text
//!  Shards ─▶ decode ─▶ embed ─▶ join ─▶ prune ─▶ ledger
//! ```
//!
//! What is costly to make, model, pools and memory, is made once; `prune` judges one round with it, `watch` one after the other.

use std::sync::Arc;

use timely::dataflow::operators::{Concat, Concatenate};
use trommel_core::credit::Credit;
use trommel_core::sample::Time;
use trommel_core::stop::Stop;
use trommel_dataflow::redeem::Redeem;
use trommel_dataflow::source::source;
use trommel_decide::known_maxima::KnownMaxima;
use trommel_decide::stage::Decide;
use trommel_decode::operator::Decode;
use trommel_ledger::committer::CommitSummary;
use trommel_ledger::first_samples::{First, FirstSamples, Order};
use trommel_ledger::operator::{LedgerConfig, ToLedger};
use trommel_ledger::run_folder::RunFolder;
use trommel_shard::operator::ReadSamples;

use crate::embed_and_join::{embedded, joins};
use crate::run_setup::{Input, Machinery, RunSetup, names_of};
use crate::run_watch::watch_run;
use crate::together::Together;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::ledger_run::{Counting, WatchdogGuard, share, start_committer};
use trommel_pipelines::progress::Progress;
use trommel_pipelines::shard_leases::{AssignedShards, assign};

/// What judges, made once.
pub(crate) struct Pruner {
    judging: Arc<RunSetup>,
    credit: Credit,
    machinery: Machinery,
    readers: usize,
    open_shards: usize,
    _watching: WatchdogGuard,
}

/// What one round judges, and where to.
pub(crate) struct Round<'a> {
    /// Where the shards are.
    pub(crate) input: Input,
    /// Where their parts go.
    pub(crate) folder: &'a Arc<RunFolder>,
    /// Ordinals of those to judge.
    pub(crate) wanted: Vec<u64>,
    /// The processes that share the run.
    pub(crate) together: &'a Together,
    /// Ends the round at once.
    pub(crate) stop: &'a Stop,
    /// The run's counters.
    pub(crate) progress: &'a Arc<Progress>,
    /// The shards whose first samples must not all be rejects.
    pub(crate) first: Order,
}

impl Pruner {
    /// Makes all that is needed to judge `shards` shards, or as many at a time as memory has room for.
    pub(crate) fn start(mut judging: RunSetup, shards: usize) -> Result<Self, PipelineError> {
        let readers = judging.machine().readers(shards);
        let open_shards = judging.open_shards(readers, shards);
        judging.take_ledger_memory(readers);
        let credit = judging.credit(readers, u64::MAX)?;
        let machinery = judging.start(&credit)?;
        let watching = watch_run(&credit, &machinery, |_| {})?;
        Ok(Self { judging: Arc::new(judging), credit, machinery, readers, open_shards, _watching: watching })
    }

    /// What decides, and on which machine.
    pub(crate) fn judging(&self) -> &RunSetup {
        &self.judging
    }

    /// Pools and embedder.
    pub(crate) const fn machinery(&self) -> &Machinery {
        &self.machinery
    }

    /// Judges a round; ends when all of it is durable, or stopped.
    pub(crate) fn run(&self, round: Round<'_>) -> Result<CommitSummary, PipelineError> {
        let Round { input, folder, wanted, together, stop, progress, first } = round;
        let reader = self.judging.reader(&input, None);
        let AssignedShards { leases, drain } = assign(together, wanted, self.open_shards);
        let _winding = together.wind_down_with(stop, drain);
        let parts = self.judging.part_config();
        let first = First::new(first, self.judging.image_key(), stop);
        let committer = start_committer(folder, parts, &first, stop)?;
        let names = names_of(input.plan());
        let named = names.clone();
        let ledger = LedgerConfig { name_of: Arc::new(move |ordinal| named(ordinal).to_string()), stop: stop.clone() };
        let (counting, known) = (Counting::new(progress), Arc::new(KnownMaxima::new(&self.judging.benchmarks)));
        let handle = committer.handle().map_err(PipelineError::failed)?;
        let (judging, machinery, credit) = (self.judging.clone(), self.machinery.clone(), self.credit.clone());
        let (stop_here, readers) = (stop.clone(), self.readers);
        let workers = judging.machine().workers;
        progress.begin();
        together.execute(workers, stop, move |worker, index| {
            let mine = share(index, workers, readers);
            worker.dataflow::<Time, _, _>(|scope| {
                let (given, reader, credit) = (leases.clone(), reader.clone(), credit.clone());
                let admitted = source(scope, "Shards", given, reader, mine, credit, stop_here.clone());
                let (samples, found, _) = admitted.split_admitted();
                let (decoded, undecodable) =
                    samples.decode_on(&judging.decode, &machinery.decoders, machinery.card.as_ref());
                let (embedded, without_direction) = embedded(decoded, &machinery);
                let joins = joins(&judging, &machinery, Some(&known));
                let rejects = scope.concatenate([found, undecodable].into_iter().chain(without_direction));
                let (_kept, events) = embedded.decide(rejects, joins, &judging.verdict, &names);
                let (events, passed) = counting.watch(events).first_samples(&first, &handle);
                let durable = events.ledger(handle.clone(), ledger.clone());
                counting.durable(durable, &known).concat(passed).redeem(&leases);
            });
        })?;
        let summary = committer.finish().map_err(PipelineError::failed)?;
        match stop.failure() {
            Some(failure) => Err(failure.into()),
            None => Ok(summary),
        }
    }
}
