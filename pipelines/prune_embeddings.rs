//! `trommel prune` of stored embeddings: rows ─▶ join ─▶ prune ─▶ ledger. No pixels, no model, no libtorch.
//!
//! The run folder is that of any prune: `why`, `report` and `select` look at it, and the same command resumes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use timely::dataflow::operators::{Concat, OkErr};
use trommel_columnar::embeddings::EmbeddingHead;
use trommel_columnar::ipc::META_FOREIGN;
use trommel_core::credit::{Credit, CreditConfig};
use trommel_core::notices::Notices;
use trommel_core::sample::{Embedded, Event, Identity, Sample, Time};
use trommel_core::stop::Stop;
use trommel_core::text::bytes;
use trommel_dataflow::pool::Pool;
use trommel_dataflow::redeem::Redeem;
use trommel_dataflow::source::source;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::join::{JoinConfig, Joiner, Verdict};
use trommel_decide::known_maxima::KnownMaxima;
use trommel_decide::rule::{KEEP_ALL, Rule};
use trommel_decide::stage::{Decide, Joins};
use trommel_ledger::committer::CommitSummary;
use trommel_ledger::first_samples::{First, FirstSamples};
use trommel_ledger::operator::{LedgerConfig, ToLedger};
use trommel_ledger::part::PartConfig;
use trommel_ledger::run_folder::RunConfig;
use trommel_shard::embeddings::{EmbeddingShards, Row, RowBytes};
use trommel_shard::reader::SAMPLE_OVERHEAD_BYTES;

use crate::benchmark_origin::{PRODUCTS, note_products};
use crate::benchmarks::{Benchmarks, and_benchmarks, is_pictures, load_all};
use crate::config::JudgeConfig;
use crate::cores::Threading;
use crate::decision::{BenchmarkConfig, DecisionConfig, record};
use crate::error::PipelineError;
use crate::join_report::JoinReport;
use crate::ledger_memory::LedgerMemory;
use crate::ledger_run::{Counting, WatchdogGuard, names_of, share, start_committer};
use crate::memory::MemoryPlan;
use crate::one_model::one_model;
use crate::progress::Progress;
use crate::pruning::{self, Judged, PruneReport, Pruning, Wanted};
use crate::rounding;
use crate::shard_leases::{AssignedShards, assign};
use crate::stored::StoredEmbeddings;
use crate::time_spent::{Stage, Stages};
use crate::together::Together;

/// Judges every row that no earlier run has judged. In a cluster, process 0's report is of all.
///
/// # Errors
/// Wrong input before the first byte (models that differ, a benchmark of pictures); later a full disk, or a bug that a worker ran into.
pub fn prune(config: &JudgeConfig, stop: Stop, progress: &Arc<Progress>) -> Result<PruneReport, PipelineError> {
    Together::run(config, false, &stop, progress, |together| prune_together(config, together, &stop, progress))
}

fn prune_together(
    config: &JudgeConfig,
    together: &Together,
    stop: &Stop,
    progress: &Arc<Progress>,
) -> Result<PruneReport, PipelineError> {
    let judging = RunSetup::prepare(config)?;
    let plan = judging.stored.plan.clone();
    // Before the folder is begun.
    judging.memory(config.least_readers(plan.len())).credit_bytes()?;
    let run_config = judging.run_config();
    let pruning = Pruning {
        plan: &plan,
        config: &run_config,
        run: &config.run,
        mix_numerics: config.mix_numerics,
        trains: false,
        machine: &config.machine,
        together,
        stop,
        progress,
    };
    let finished = |folder: &trommel_ledger::run_folder::RunFolder| Ok(folder.before().read().collect());
    pruning::prune(&pruning, finished, |wanted| judging.run(wanted, together, stop, progress))
}

/// The parts of a prune of stored embeddings.
struct RunSetup<'a> {
    config: &'a JudgeConfig,
    stored: Arc<StoredEmbeddings>,
    identity: Option<Identity>,
    benchmarks: Benchmarks,
    rule: String,
    verdict: Arc<dyn Verdict>,
    joiner: Option<Joiner>,
    /// How the samples were read, where that is known.
    reading: BTreeMap<String, Value>,
}

impl<'a> RunSetup<'a> {
    fn prepare(config: &'a JudgeConfig) -> Result<Self, PipelineError> {
        let mut stored = StoredEmbeddings::find(&config.shards)?;
        for named in &config.benchmarks {
            if is_pictures(&named.path)? {
                let (name, path) = (&named.name, named.path.display());
                return Err(PipelineError::usage(format!(
                    "benchmark {name}: {path} is pictures, and nothing is embedded where stored embeddings are pruned: `trommel embed {path} \
                     -o DIR --model M` with their model first"
                )));
            }
        }
        let (benchmarks, origins) = load_all(&config.benchmarks, &mut stored.notices)?;
        rounding::note(&mut stored.notices, &origins, stored.rounded);
        note_products(&mut stored.notices, &origins, stored.products.as_deref());
        if let Some(benchmark) = benchmarks.iter().find(|benchmark| benchmark.dim != stored.dim) {
            let (name, found, dim) = (&benchmark.name, benchmark.dim, stored.dim);
            let what = format!("benchmark {name} has {found} dimensions, the embeddings have {dim}");
            return Err(PipelineError::usage(format!("{what}: embed both with the same model")));
        }
        let identity = identity(&stored, &benchmarks, config.embedder.assume_model.as_deref())?;
        let parsed: Option<Rule> = config.rule.as_deref().map(str::parse).transpose().map_err(PipelineError::usage)?;
        let judge = parsed.as_ref().map(|rule| rule.check_against(&benchmarks, config.rule_seed)).transpose();
        let verdict: Arc<dyn Verdict> = match judge.map_err(PipelineError::usage)? {
            Some(judge) => Arc::new(judge),
            None => Arc::new(()),
        };
        let joiner = if benchmarks.is_empty() {
            None
        } else {
            let join = JoinConfig { columns: config.columns, ..JoinConfig::default() };
            Some(Joiner::new(benchmarks.clone(), join).map_err(PipelineError::usage)?)
        };
        let rule = parsed.as_ref().map_or_else(|| KEEP_ALL.into(), ToString::to_string);
        let reading = StoredEmbeddings::reading(std::slice::from_ref(&stored))?;
        let setup = Self { config, stored: Arc::new(stored), identity, benchmarks, rule, verdict, joiner, reading };
        Ok(setup.with_wider_join())
    }

    /// Lets the join take a quarter of what the budget has to spare: with more rows a portion, what is done once for each point and portion is
    /// done less often.
    fn with_wider_join(mut self) -> Self {
        let machine = &self.config.machine;
        let memory = self.memory(machine.readers(self.stored.plan.shards.len()));
        let call_bytes = memory.spare_bytes() / 4 / machine.threads as u64;
        self.joiner = self.joiner.map(|joiner| joiner.with_more_block_bytes(call_bytes));
        self
    }

    fn run_config(&self) -> RunConfig {
        fn of<T: DeserializeOwned + Default>(reading: &BTreeMap<String, Value>, field: &str) -> T {
            reading.get(field).and_then(|value| serde_json::from_value(value.clone()).ok()).unwrap_or_default()
        }
        let reading = &self.reading;
        let decision = DecisionConfig {
            rule: self.rule.clone(),
            rule_seed: self.config.rule_seed,
            embedder: self.identity.clone(),
            benchmarks: self.benchmarks.iter().map(|benchmark| BenchmarkConfig::of(benchmark)).collect(),
            columns: self.config.columns,
            image_keys: of(reading, "image_keys"),
            text_key: of(reading, "text_key"),
            max_pixels: of(reading, "max_pixels"),
            load_truncated: of(reading, "load_truncated"),
            repeated_members: of(reading, "repeated_members"),
            embeddings: self.config.keep_embeddings,
            split: None,
        };
        let decoder = self.identity.as_ref().map_or("", |identity| &identity.decoder);
        let record = record(&self.config.benchmarks, decoder, self.config.blur);
        // Not among the decisions, which are to be those of the shards; but what an epoch decided must not go on with another one's rows.
        let numerics =
            self.stored.sha256_of_runs().map_or_else(|| json!({}), |sha256| json!({ "embeddings_sha256": sha256 }));
        RunConfig { decisions: json!(decision), numerics, record }
    }

    fn part_config(&self) -> PartConfig {
        let head = || {
            let foreign = self.stored.rounded.before.then(|| (META_FOREIGN.to_owned(), "yes".to_owned()));
            let products = self.stored.products.clone().map(|products| (PRODUCTS.to_owned(), products));
            let metadata = foreign.into_iter().chain(products).collect();
            EmbeddingHead {
                dim: self.stored.dim,
                identity: self.identity.clone(),
                metadata,
                ..EmbeddingHead::default()
            }
        };
        let mut metadata = BTreeMap::from([("rule".to_owned(), self.rule.clone())]);
        if let Some(identity) = &self.identity {
            metadata.insert("identity".into(), identity.to_string());
        }
        PartConfig {
            benchmarks: self.benchmarks.iter().map(|benchmark| benchmark.name.clone()).collect(),
            embeddings: self.config.keep_embeddings.then(head),
            metadata,
        }
    }

    fn ledger_memory(&self) -> LedgerMemory {
        LedgerMemory::of(&self.benchmarks, Some(self.stored.dim), self.config.machine.threads)
    }

    /// A reader's own part of the credit.
    fn quantum_bytes(&self) -> u64 {
        QUANTUM_ROWS * (self.ledger_memory().vector_bytes + SAMPLE_OVERHEAD_BYTES)
    }

    /// What so many readers need.
    fn memory(&self, readers: usize) -> MemoryPlan {
        let (machine, ledger) = (&self.config.machine, self.ledger_memory());
        let mut memory = MemoryPlan::new(machine.memory_bytes, false);
        if let Some(joiner) = &self.joiner {
            memory.take("benchmarks", self.benchmarks.iter().map(|benchmark| benchmark.bytes()).sum());
            memory.take("join", joiner.held_bytes() + joiner.call_bytes() * machine.threads as u64);
        }
        ledger.take(&mut memory);
        memory.take("reading", self.stored.reader_bytes() * readers as u64);
        memory.take("ledger", ledger.lane_bytes() * readers as u64);
        memory.least_credit_bytes = self.quantum_bytes() * readers as u64;
        memory
    }

    /// The credit for so many readers, from what the budget leaves; says so in one line.
    fn credit(&self, readers: usize, stop: &Stop) -> Result<Credit, PipelineError> {
        let memory = self.memory(readers);
        let budget_bytes = memory.credit_bytes()?;
        tracing::info!("{}", Threading::of(&self.config.machine));
        tracing::info!("memory {}: {memory}", bytes(memory.budget_bytes));
        let config = CreditConfig { budget_bytes, lanes: readers, quantum_bytes: self.quantum_bytes() };
        Ok(Credit::new(config, stop.clone()).with_records(self.ledger_memory().lane_bytes()))
    }

    fn run(
        mut self,
        wanted: Wanted<'_>,
        together: &Together,
        stop: &Stop,
        progress: &Arc<Progress>,
    ) -> Result<Judged, PipelineError> {
        let Wanted { folder, shards, first } = wanted;
        let machine = &self.config.machine;
        let (workers, readers) = (machine.workers, machine.readers(shards.len()));
        let ledger_memory = self.ledger_memory();
        let credit = self.credit(readers, stop)?;
        let pool = Pool::with_stop("join", machine.threads, stop);
        self.config.gauges.watch_credit(&credit);
        self.config.gauges.watch_pool("join", &pool);
        let _watching = WatchdogGuard::start(|watchdog| {
            watchdog.watch_credit(&credit);
            watchdog.watch_pool(&pool);
        })?;

        let AssignedShards { leases, drain } = assign(together, shards, readers + workers);
        let _winding = together.wind_down_with(stop, drain);
        let first = First::new(first, "", stop);
        let committer = start_committer(folder, self.part_config(), &first, stop)?;
        let names = names_of(&self.stored.plan);
        let named = names.clone();
        let ledger = LedgerConfig { name_of: Arc::new(move |ordinal| named(ordinal).to_string()), stop: stop.clone() };
        let (counting, known) = (Counting::new(progress), Arc::new(KnownMaxima::new(&self.benchmarks)));
        let handle = committer.handle().map_err(PipelineError::failed)?;
        let bytes = RowBytes {
            vector: ledger_memory.vector_bytes,
            record: ledger_memory.record_bytes(),
            shard: ledger_memory.shard_bytes(),
        };
        let reader = Arc::new(EmbeddingShards::new(self.stored.clone(), bytes));
        let joiner = self.joiner.take().map(Arc::new);
        let (join, verdict, joiners, stop_here) = (joiner.clone(), self.verdict.clone(), pool.clone(), stop.clone());
        progress.begin();
        together.execute(workers, stop, move |worker, index| {
            let mine = share(index, workers, readers);
            worker.dataflow::<Time, _, _>(|scope| {
                let (given, reader, credit) = (leases.clone(), reader.clone(), credit.clone());
                let rows = source(scope, "Embeddings", given, reader, mine, credit, stop_here.clone());
                let (samples, found) = rows.ok_err(|row: Row| -> Result<Sample<Embedded>, Event> { row });
                let joins = join.as_ref().map(|joiner| Joins { joiner, pool: &joiners, points: Some(&known) });
                let (_kept, events) = samples.decide(found, joins, &verdict, &names);
                let (events, passed) = counting.watch(events).first_samples(&first, &handle);
                let durable = events.ledger(handle.clone(), ledger.clone());
                counting.durable(durable, &known).concat(passed).redeem(&leases);
            });
        })?;
        let summary: CommitSummary = committer.finish().map_err(PipelineError::failed)?;
        if let Some(failure) = stop.failure() {
            return Err(failure.into());
        }
        let join = joiner.as_deref().map(JoinReport::of);
        let joining = Stage { busy_micros: pool.gauge().busy_micros, threads: pool.threads() };
        let stages = Stages { join: joining, ..Stages::default() };
        Ok(Judged { summary, notices: self.notices(), stages, join })
    }

    /// What is known of the embeddings before they are read. It is in no slice: the first one tells it.
    fn notices(&self) -> Notices {
        let tells = self.config.reading.part.is_none_or(|(index, _)| index == 0);
        let mut notices = Notices::default();
        if tells {
            notices.merge(&self.stored.notices);
        }
        notices
    }
}

/// Rows that a reader may have on their way whatever the others do.
const QUANTUM_ROWS: u64 = 64;

/// Whose embeddings these are: all must be of one model.
fn identity(
    stored: &StoredEmbeddings,
    benchmarks: &[Arc<Benchmark>],
    assumed: Option<&str>,
) -> Result<Option<Identity>, PipelineError> {
    let first = stored.plan.shards.first().map(|shard| shard.url.as_str()).unwrap_or_default();
    let said = one_model(&and_benchmarks(first, stored.identity.as_ref(), benchmarks), assumed)?;
    Ok(said.cloned().or_else(|| assumed.map(assumed_identity)))
}

/// What is known of a model that is only called by its name.
fn assumed_identity(name: &str) -> Identity {
    let unknown = || "not known".to_owned();
    Identity { architecture: name.into(), weights: unknown(), preprocessing: unknown(), decoder: unknown() }
}
