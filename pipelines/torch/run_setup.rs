//! What a judging run stands on: plan, benchmarks, rule, embedder, memory, pools. Made once, before the dataflow.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use trommel_columnar::embeddings::EmbeddingHead;
use trommel_core::credit::workspace::OWN_BYTES;
use trommel_core::credit::{Credit, CreditConfig};
use trommel_core::notices::Notices;
use trommel_core::sample::Work;
use trommel_core::stop::Stop;
use trommel_dataflow::pool::Pool;
use trommel_decide::ShardNames;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::join::{ColumnSet, JoinConfig, Joiner, Verdict};
use trommel_decide::rule::{KEEP_ALL, Rule};
use trommel_decode::card::{CardDecoder, OpenCard, Planned, planned};
use trommel_decode::operator::DecodeConfig;
use trommel_decode::view::{EvalView, ResizeMode, TrainView};
use trommel_embed::device;
use trommel_ledger::part::PartConfig;
use trommel_ledger::run_folder::RunConfig;
use trommel_model::preprocess::Resize;
use trommel_shard::classified::Packed;
use trommel_shard::folders::{FolderError, FolderReader, Folders};
use trommel_shard::plan::{GrowingPlan, Plan, PlanError, PlanOptions, expand, shards_in};
use trommel_shard::reader::{Decisions, Members, ReaderConfig, ShardReader, ViewBytes};
use trommel_shard::samples::{GroupConfig, RepeatedMember, keys};
use trommel_shard::store::{Store, Stores, local_path};

use crate::embedder::{EmbedService, Embedder};
use crate::joiner;
use trommel_pipelines::begun_with::BegunWith;
use trommel_pipelines::benchmark_origin::{PRODUCTS, products};
use trommel_pipelines::benchmarks::{check_identity, load_with_origin};
use trommel_pipelines::config::{DecodeOn, JudgeConfig, Machine};
use trommel_pipelines::cores::Threading;
use trommel_pipelines::decision::{BenchmarkConfig, DecisionConfig, record};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::ledger_memory::LedgerMemory;
pub use trommel_pipelines::ledger_run::names_of;
use trommel_pipelines::memory::{MemoryPlan, human};
use trommel_pipelines::rounding::{self, Rounded};
use trommel_pipelines::split_file::{SplitFile, SplitMembers};
use trommel_pipelines::stray_files::beside;

/// Where samples come from.
#[derive(Clone, Debug)]
pub enum Input {
    /// Tars of WebDataset's.
    Shards(Arc<Plan>),
    /// Class folders of pictures, each read as a shard.
    Folders(Arc<Folders>),
}

impl Input {
    /// One folder of class folders, or shards. A folder that holds shards is shards, whatever pictures lie beside them. Class folders
    /// lie on this machine.
    ///
    /// # Errors
    /// Whatever keeps a plan from being made: missing files, equal names, braces that do not close.
    pub fn find(arguments: &[String], stores: &Stores, reading: &GroupConfig) -> Result<Self, PipelineError> {
        let folders = match arguments {
            [only] if local_path(only).is_some_and(Path::is_dir) && !holds_shards(stores, only) => {
                local_path(only).map(|only| Folders::find(only, reading))
            }
            _ => None,
        };
        match folders {
            Some(Ok(folders)) => return Ok(Self::Folders(Arc::new(folders))),
            Some(Err(error)) if !matches!(error, FolderError::NoPicture { .. }) => {
                return Err(PipelineError::usage(error));
            }
            _ => {}
        }
        // A set of CLIP_benchmark's is its tars.
        if let [only] = arguments
            && let Some(set) = Packed::find(Path::new(only))?
        {
            let shards: Vec<String> = set.shards().iter().map(|path| path.display().to_string()).collect();
            let plan = expand(&shards, stores, &PlanOptions::default()).map_err(PipelineError::usage)?;
            return Ok(Self::Shards(Arc::new(plan)));
        }
        match (expand(arguments, stores, &PlanOptions::default()), folders) {
            (Ok(plan), _) => Ok(Self::Shards(Arc::new(plan))),
            (Err(PlanError::NoShards(_)), Some(Err(neither))) => Err(PipelineError::Usage(format!(
                "{neither}; nor is there a .tar, be it plain or .gz, .zst, .xz, .bz2"
            ))),
            (Err(error), _) => Err(PipelineError::usage(error)),
        }
    }

    /// What a plan that another run has made is of.
    ///
    /// # Errors
    /// Class folders that are not what they were.
    fn planned(plan: &Arc<Plan>, reading: &GroupConfig) -> Result<Self, PipelineError> {
        let first = plan.shards.first().and_then(|shard| local_path(&shard.url)).filter(|path| path.is_dir());
        let Some(first) = first else { return Ok(Self::Shards(plan.clone())) };
        // The folder that was given is the only class, or holds them all. What lies beside the only one was not given.
        let roots = [Some(first).filter(|_| plan.len() == 1), first.parent()].into_iter().flatten();
        let mut found = roots.filter_map(|root| Folders::find(root, reading).ok());
        match found.find(|found| found.plan.difference(plan).is_none()) {
            Some(folders) => Ok(Self::Folders(Arc::new(folders))),
            None => Err(PipelineError::Usage(format!(
                "{}: these are not the class folders any more that were judged",
                first.parent().unwrap_or(first).display()
            ))),
        }
    }

    /// What a split keeps something of, and a note on the rest. All class folders stay: without its pictures' bytes one costs nothing to read.
    fn of_split(self, split: &SplitFile) -> Result<(Self, Notices), PipelineError> {
        let (plan, left_out) = split.plan_of(self.plan())?;
        Ok(match self {
            Self::Shards(_) => (Self::Shards(Arc::new(plan)), left_out),
            folders @ Self::Folders(_) => (folders, Notices::default()),
        })
    }

    /// The plan: its shards, or its folders as such.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        match self {
            Self::Shards(plan) => plan,
            Self::Folders(folders) => &folders.plan,
        }
    }
}

/// Whether shards lie directly in a folder.
fn holds_shards(store: &dyn Store, folder: &str) -> bool {
    shards_in(store, folder).is_ok_and(|shards| !shards.is_empty())
}

/// The parts of a judging run.
pub struct RunSetup {
    /// Where samples come from.
    pub input: Input,
    /// Stable names of shards.
    pub names: ShardNames,
    /// Decides of each sample whether it stays.
    pub verdict: Arc<dyn Verdict>,
    /// The rule's canonical spelling.
    pub rule: String,
    /// Scores vectors, where there are benchmarks.
    pub joiner: Option<Arc<Joiner>>,
    /// Who embeds, where anything is embedded.
    pub embedder: Option<Embedder>,
    /// How pictures are decoded, and into which views.
    pub decode: DecodeConfig,
    /// The card that decodes, where one does.
    card: Option<OpenCard>,
    /// The decoder's name in identities.
    decoder: String,
    /// How shards are read.
    pub reading: ReaderConfig,
    /// The split that decides, where one does.
    pub split: Option<Arc<SplitFile>>,
    /// Benchmarks in order.
    pub benchmarks: Vec<Arc<Benchmark>>,
    /// What must match to resume.
    pub decision: DecisionConfig,
    /// The budget, parts taken so far.
    pub memory: MemoryPlan,
    /// What the plan passed over.
    pub notices: Notices,
    /// Stops everything.
    pub stop: Stop,
    config: JudgeConfig,
}

impl RunSetup {
    /// Checks everything that can be checked before the first byte is read. `train_view` is the trainer's, where one trains.
    ///
    /// # Errors
    /// Every kind of wrong input: shards, benchmarks, rule, model.
    pub fn prepare(config: &JudgeConfig, train_view: Option<TrainView>, stop: Stop) -> Result<Self, PipelineError> {
        Self::of_split(config, None, train_view, stop)
    }

    /// The same, with a split in the place of a rule.
    ///
    /// # Errors
    /// The same; a split of other shards, or of samples that were read in another way.
    pub(crate) fn of_split(
        config: &JudgeConfig,
        split: Option<Arc<SplitFile>>,
        train_view: Option<TrainView>,
        stop: Stop,
    ) -> Result<Self, PipelineError> {
        let (reading, stores) = (reader_config(config), &config.reading.stores);
        let input = match &config.plan {
            Some(plan) => Input::planned(plan, &reading.group)?,
            None => Input::find(&config.shards, stores, &reading.group)?,
        };
        let (input, left_out) = match &split {
            Some(split) => input.of_split(split)?,
            None => (input, Notices::default()),
        };
        let mut notices =
            if config.plan.is_none() { beside(&config.shards, stores, &reading.group)? } else { Notices::default() };
        notices.merge(&left_out);
        // What is gone is in no slice: the first one tells it.
        let tells = config.reading.part.is_none_or(|(index, _)| index == 0);
        if tells {
            notices.merge(&input.plan().losses());
        }
        if let (Input::Folders(folders), Some(_)) = (&input, &train_view) {
            captions(folders, &config.shards)?;
        }
        let loaded = config.benchmarks.iter().map(|named| load_with_origin(named, &mut notices));
        let loaded: Vec<_> = loaded.collect::<Result<_, _>>()?;
        let (benchmarks, origins): (Vec<_>, Vec<_>) =
            loaded.into_iter().map(|(benchmark, origin)| (Arc::new(benchmark), origin)).unzip();
        if tells {
            rounding::note(&mut notices, &origins, Rounded::HERE);
        }
        let parsed: Option<Rule> = config.rule.as_deref().map(str::parse).transpose().map_err(PipelineError::usage)?;
        let judge = parsed
            .as_ref()
            .map(|rule| rule.check_against(&benchmarks, config.rule_seed))
            .transpose()
            .map_err(PipelineError::usage)?;
        let rule = match (&split, &parsed) {
            (Some(split), _) => format!("split: {}", split.config().rule),
            (None, Some(rule)) => rule.to_string(),
            (None, None) => KEEP_ALL.into(),
        };
        let embeds = config.always_embed || !benchmarks.is_empty();
        let machine = &config.machine;
        let begun_with = BegunWith::of(&config.run, &benchmarks, &origins);
        let load = || {
            let plain = begun_with.plain_products.is_some();
            Embedder::load(&config.embedder, &machine.device, machine.threads, plain)
        };
        let mut embedder = if embeds { Some(load()?) } else { None };
        if let Some(embedder) = &mut embedder {
            embedder.identity.decoder.clone_from(&begun_with.name);
        }
        if let Some(note) = begun_with.note {
            notices.note("earlier_decoder", "runs that go on with the decoder they were begun with", note, 1);
        }
        let is_slowed = embedder.as_ref().is_some_and(|embedder| embedder.is_slowed);
        if let Some(plain) = begun_with.plain_products.filter(|_| is_slowed) {
            plain.note(&mut notices);
        }
        for benchmark in &benchmarks {
            let identity = embedder.as_ref().map(|embedder| &embedder.identity);
            check_identity(benchmark, identity, config.embedder.assume_model.as_deref())?;
        }
        let eval = embedder.as_ref().map(|embedder| EvalView {
            size: embedder.preprocess.size,
            mode: match embedder.preprocess.mode {
                Resize::Shortest => ResizeMode::Shortest,
                Resize::Squash => ResizeMode::Squash,
            },
        });
        let limits = trommel_decode::Limits {
            decoder: begun_with.decoder,
            load_truncated: config.reading.load_truncated,
            ..trommel_decode::Limits::of_pixels(config.reading.max_pixels)
        };
        let decode = DecodeConfig { limits, eval, train: train_view };
        let decision = DecisionConfig {
            rule: rule.clone(),
            rule_seed: config.rule_seed,
            embedder: embedder.as_ref().map(|embedder| embedder.identity.clone()),
            benchmarks: benchmarks.iter().map(|benchmark| BenchmarkConfig::of(benchmark)).collect(),
            columns: if config.decision_columns { "decision" } else { "all" }.into(),
            image_keys: reading.group.image_keys.clone(),
            text_key: config.reading.text_key.clone(),
            max_pixels: config.reading.max_pixels,
            load_truncated: config.reading.load_truncated,
            repeated_members: if config.reading.strict { "reject" } else { "new-sample" }.into(),
            embeddings: config.keep_embeddings && embeds,
            split: split.as_ref().map(|split| split.config().clone()),
        };
        if let Some(split) = &split {
            split.check_reading(&decision)?;
        }
        let computes = embeds || decode.train.is_some();
        let mut memory = MemoryPlan::new(machine.memory_bytes, computes);
        if computes && let Some((name, bytes)) = device::memory_of(&machine.device).map_err(PipelineError::usage)? {
            memory = memory.on_card(&name, bytes);
        }
        if let Some(embedder) = &embedder {
            memory.take_device("embedder", embedder.bytes);
            memory.take("embedder's batches", embedder.slot_bytes);
        }
        memory.take("decoding", decode.scratch_bytes(machine.threads));
        let card = if computes { open_card(machine, &decode)? } else { None };
        if card.is_some() {
            let Planned { card_bytes, host_bytes } = planned(&decode);
            memory.take_device("decoding", card_bytes);
            memory.take("decoding on a card", host_bytes);
        }
        let columns = if config.decision_columns { ColumnSet::Decision } else { ColumnSet::All };
        let joiner = match &embedder {
            Some(embedder) if !benchmarks.is_empty() => {
                let (join, on) =
                    (JoinConfig { columns, ..JoinConfig::default() }, (config.join, embedder.config.device));
                Some(Arc::new(joiner::joiner(&benchmarks, join, on, &mut memory)?))
            }
            _ => None,
        };
        if let Some(joiner) = &joiner {
            memory.take("benchmarks", benchmarks.iter().map(|benchmark| benchmark.bytes()).sum());
            memory.take("join", joiner.held_bytes() + joiner.call_bytes() * machine.threads as u64);
        }
        let names = names_of(input.plan());
        let verdict: Arc<dyn Verdict> = match judge {
            Some(judge) => Arc::new(judge),
            None => Arc::new(()),
        };
        let mut judging = Self {
            input,
            names,
            verdict,
            rule,
            joiner,
            embedder,
            decode,
            card,
            decoder: begun_with.name,
            reading,
            split,
            benchmarks,
            decision,
            memory,
            notices,
            stop,
            config: config.clone(),
        };
        let ledger = judging.ledger_memory();
        ledger.take(&mut judging.memory);
        Ok(judging)
    }

    /// What a run folder is opened with.
    #[must_use]
    pub fn run_config(&self) -> RunConfig {
        let numerics = self.embedder.as_ref().map_or(json!({}), |embedder| embedder.config.numerics());
        let record = record(&self.config.benchmarks, &self.decoder, self.config.blur);
        RunConfig { decisions: json!(self.decision), numerics, record }
    }

    /// What the ledger's parts look like.
    #[must_use]
    pub fn part_config(&self) -> PartConfig {
        let embeddings = self.embedder.as_ref().filter(|_| self.decision.embeddings).map(|embedder| EmbeddingHead {
            dim: embedder.dim,
            radii: false,
            identity: Some(embedder.identity.clone()),
            // A part that is copied out of the run says it for itself.
            metadata: products(&json!({ "numerics": embedder.config.numerics() }))
                .map(|products| (PRODUCTS.to_owned(), products))
                .into_iter()
                .collect(),
        });
        let mut metadata = std::collections::BTreeMap::from([("rule".to_owned(), self.rule.clone())]);
        if let Some(embedder) = &self.embedder {
            metadata.insert("identity".into(), embedder.identity.to_string());
        }
        PartConfig { benchmarks: self.benchmarks.iter().map(|b| b.name.clone()).collect(), embeddings, metadata }
    }

    /// Bytes a sample holds once decoded, and what it and its shard leave until the ledger has them.
    #[must_use]
    pub fn view_bytes(&self) -> ViewBytes {
        let views = |work| self.decode.view_bytes(work);
        let ledger = self.ledger_memory();
        ViewBytes {
            eval: views(Work::JudgeOnly) + ledger.vector_bytes,
            train: views(Work::Replay),
            record: ledger.record_bytes(),
            shard: ledger.shard_bytes(),
        }
    }

    fn ledger_memory(&self) -> LedgerMemory {
        LedgerMemory::of(&self.benchmarks, self.embedder.as_ref().map(|embedder| embedder.dim))
    }

    /// The machine's share in it.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.config.machine
    }

    /// Where shards are found and opened.
    #[must_use]
    pub const fn stores(&self) -> &Stores {
        &self.config.reading.stores
    }

    /// Extensions that hold the picture, as they were given.
    #[must_use]
    pub fn image_key(&self) -> &str {
        &self.config.reading.image_key
    }

    /// A reader for an input.
    #[must_use]
    pub fn reader(&self, input: &Input, decisions: Option<Arc<dyn Decisions>>) -> Reader {
        let views = self.view_bytes();
        let members = |split: &Arc<SplitFile>| -> Arc<dyn Members> {
            Arc::new(SplitMembers { split: split.clone(), plan: input.plan().clone() })
        };
        let split = self.split.as_ref().map(members);
        match input {
            Input::Shards(plan) => {
                let (stores, reading) = (self.stores().clone(), self.reading.clone());
                Arc::new(ShardReader::new(stores, plan.clone(), reading, views, decisions).of_split(split))
            }
            Input::Folders(folders) => Arc::new(FolderReader::new(folders.clone(), views, decisions).of_split(split)),
        }
    }

    /// A reader for a plan that grows.
    #[must_use]
    pub fn growing_reader(&self, plan: GrowingPlan, decisions: Arc<dyn Decisions>) -> Reader {
        let (stores, reading) = (self.stores().clone(), self.reading.clone());
        Arc::new(ShardReader::new(stores, plan, reading, self.view_bytes(), Some(decisions)))
    }

    /// Sets aside what `lanes` readers hold: their buffers, and records that the ledger has not written.
    pub fn take_ledger_memory(&mut self, lanes: usize) {
        self.reader_parts(lanes).into_iter().for_each(|(name, bytes)| self.memory.take(name, bytes));
    }

    /// What `lanes` readers hold, by name.
    fn reader_parts(&self, lanes: usize) -> [(&'static str, u64); 2] {
        let group = &self.reading.group;
        let reader = READER_BYTES + 2 * group.max_text_bytes + JSON_FACTOR * group.max_json_bytes;
        let ledger = self.ledger_memory().lane_bytes();
        [("reading", reader * lanes as u64), ("ledger", ledger * lanes as u64)]
    }

    /// Refuses a budget without room for `lanes` readers, as [`RunSetup::credit`] does: before a folder is begun.
    ///
    /// # Errors
    /// A budget below the minimum.
    pub fn check_memory(&self, lanes: usize) -> Result<(), PipelineError> {
        let mut memory = self.memory.clone();
        self.reader_parts(lanes).into_iter().for_each(|(name, bytes)| memory.take(name, bytes));
        memory.least_credit_bytes = self.quantum_bytes() * lanes as u64;
        memory.credit_bytes().map(drop)
    }

    /// A reader's own part of the credit: one sample.
    fn quantum_bytes(&self) -> u64 {
        let (views, texts) = (self.view_bytes(), self.reading.group.max_text_bytes);
        views.eval + views.train + texts + QUANTUM_PICTURE_BYTES
    }

    /// The credit for `lanes` readers, from what the budget leaves, at most `most_bytes`; says so in one line.
    ///
    /// # Errors
    /// A budget below the minimum.
    pub fn credit(&mut self, lanes: usize, most_bytes: u64) -> Result<Credit, PipelineError> {
        let quantum_bytes = self.quantum_bytes();
        self.memory.least_credit_bytes = quantum_bytes * lanes as u64;
        let all_bytes = self.memory.credit_bytes()?;
        let budget_bytes = all_bytes.min(most_bytes.max(self.memory.least_credit_bytes));
        tracing::info!("{}", Threading::of(&self.config.machine));
        tracing::info!("memory {}: {}", human(self.memory.budget_bytes), self.memory);
        if let Some(card) = &self.memory.card {
            tracing::info!("memory of {} {}: {card}", card.name, human(card.total_bytes));
        }
        let credit = Credit::new(CreditConfig { budget_bytes, lanes, quantum_bytes }, self.stop.clone());
        Ok(credit.with_records(self.ledger_memory().lane_bytes()).with_workspaces(all_bytes - budget_bytes))
    }

    /// Starts pools and the embedder.
    ///
    /// # Errors
    /// A model that cannot be loaded.
    pub fn start(&self, credit: &Credit) -> Result<Machinery, PipelineError> {
        let threads = self.config.machine.threads;
        let embedder = self.embedder.as_ref().and_then(|embedder| embedder.start(credit, &self.stop));
        if let Some(embedder) = &embedder {
            embedder.ready().map_err(|fault| PipelineError::Usage(fault.message))?;
        }
        let pool = |name: &str| Pool::with(name, threads, Some(self.stop.clone()), |_| {});
        let card = match self.card.as_ref().map(|card| card.start(credit, &self.stop)).transpose() {
            Err(error) if self.config.machine.decode != DecodeOn::Card => {
                tracing::warn!("JPEGs are decoded on the CPU: {error}");
                None
            }
            card => card.map_err(PipelineError::failed)?,
        };
        let machinery = Machinery { decoders: pool("decode"), card, joiners: pool("join"), embedder };
        let gauges = &self.config.gauges;
        gauges.watch_credit(credit);
        gauges.watch_pool("decode", &machinery.decoders);
        for lane in machinery.card.iter().flat_map(CardDecoder::lanes) {
            gauges.watch_batches(lane.name(), lane);
        }
        gauges.watch_pool("join", &machinery.joiners);
        if let Some(embedder) = &machinery.embedder {
            gauges.watch_batches("embed", embedder);
        }
        Ok(machinery)
    }
}

/// A reader's buffers: the store's, what its decompressor has without asking, a long header.
const READER_BYTES: u64 = OWN_BYTES + (1 << 20);

/// Times its size that a json takes while it is read: as read, mended (a control character becomes six), and its fields.
const JSON_FACTOR: u64 = 3;

/// Encoded bytes that a reader's own quantum has room for.
const QUANTUM_PICTURE_BYTES: u64 = 4 << 20;

/// A reader of any input.
pub type Reader = Arc<dyn trommel_dataflow::source::ReadShard<Item = trommel_shard::reader::Admitted>>;

/// Threads that work for all workers. Clones are the same threads.
#[derive(Clone)]
pub struct Machinery {
    /// Threads that decode.
    pub decoders: Pool,
    /// Decodes too, where a card does.
    pub card: Option<CardDecoder>,
    /// Threads that join.
    pub joiners: Pool,
    /// Embeds, where anything is embedded.
    pub embedder: Option<EmbedService>,
}

/// The card that decodes, if models compute on one and `--decode` wants it.
fn open_card(machine: &Machine, decode: &DecodeConfig) -> Result<Option<OpenCard>, PipelineError> {
    let wanted = machine.decode == DecodeOn::Card;
    let device = device::parse(&machine.device).map_err(PipelineError::usage)?;
    let tch::Device::Cuda(ordinal) = device else {
        let refusal = || PipelineError::Usage("--decode card: models compute on the CPU here; --device cuda:N".into());
        return if wanted { Err(refusal()) } else { Ok(None) };
    };
    if machine.decode == DecodeOn::Cpu {
        return Ok(None);
    }
    match OpenCard::open(ordinal, decode) {
        Ok(card) => {
            tracing::info!("JPEGs are decoded on {}", card.says());
            Ok(Some(card))
        }
        Err(error) if wanted => Err(PipelineError::usage(error).within("--decode card")),
        Err(error) => {
            tracing::info!("JPEGs are decoded on the CPU: {error}");
            Ok(None)
        }
    }
}

/// Refuses pictures of which none has a text where captions are asked for: a folder's name is a label, no caption.
pub(crate) fn captions(folders: &Folders, arguments: &[String]) -> Result<(), PipelineError> {
    if folders.captioned > 0 {
        return Ok(());
    }
    Err(PipelineError::Usage(format!(
        "{}: none of its {} pictures has a caption, a .txt or .json of its name beside it, and a folder's name is none: write them as \
         img2dataset's `--output_format files` does, or pack pictures and texts into WebDataset tars",
        arguments.join(" "),
        folders.pictures
    )))
}

/// How the configuration has shards and folders read.
pub(crate) fn reader_config(config: &JudgeConfig) -> ReaderConfig {
    let mut reading = ReaderConfig::default();
    reading.group.image_keys = keys(&config.reading.image_key);
    reading.group.text_keys = keys(&config.reading.text_key);
    reading.group.repeated = if config.reading.strict { RepeatedMember::Reject } else { RepeatedMember::NewSample };
    reading
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A plan says which folders are its classes, not which folder was given.
    #[test]
    fn what_lies_beside_the_only_class_was_not_given() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("one/00000/0.jpg", "x");
        put("one/00001_stats.json", r#"{"successes": 5}"#);
        put("one/empty/notes.txt", "x");
        put("two/n01/images/0.jpg", "x");
        put("two/n02/0.jpg", "xy");
        put("deep/n01/images/0.jpg", "x");
        let group = GroupConfig::default();
        let found = |given: &str| {
            let given = Folders::find(&folder.path().join(given), &group).unwrap();
            match Input::planned(&given.plan, &group).unwrap() {
                Input::Folders(found) => {
                    assert_eq!(found.plan.difference(&given.plan), None);
                    (found.pictures, found.plan.losses().lost_samples(), found.notices.is_empty())
                }
                Input::Shards(plan) => panic!("{plan:?}"),
            }
        };
        assert_eq!(found("one/00000"), (1, 0, true));
        assert_eq!(found("two"), (2, 0, true));
        assert_eq!(found("deep"), (1, 0, true));
    }
}
