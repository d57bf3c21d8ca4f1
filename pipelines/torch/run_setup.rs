//! What a judging run stands on: plan, benchmarks, rule, embedder, memory, pools. Made once, before the dataflow.
//!
//! Each part has its file; `RunSetup::prepare` makes them in the order in which one needs another.

mod budget;
mod input;
mod judge;
mod machinery;
mod reading;
mod run_folder;
mod setup;
mod views;

use std::sync::Arc;

use trommel_core::stop::Stop;

use self::budget::planned_memory;
pub use self::input::Input;
use self::input::input_of;
pub(crate) use self::input::{captions, files_read};
use self::judge::{checked_rule, joiner_of};
pub use self::machinery::Machinery;
use self::machinery::decoding_card;
pub use self::reading::Reader;
pub(crate) use self::reading::reader_config;
use self::run_folder::decision_config;
pub use self::setup::RunSetup;
pub(crate) use self::views::view_of;
use self::views::{decode_config, embedder_of};
use crate::trainer_memory::Beside;
use trommel_pipelines::begun_with::BegunWith;
use trommel_pipelines::benchmark_origin::note_products;
use trommel_pipelines::benchmarks::load_all;
use trommel_pipelines::config::JudgeConfig;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::ledger_memory::LedgerMemory;
pub use trommel_pipelines::ledger_run::names_of;
use trommel_pipelines::rounding::{self, Rounded};
use trommel_pipelines::split_file::SplitFile;

impl RunSetup {
    /// Checks everything that can be checked before the first byte is read, beside a trainer, where one trains.
    ///
    /// # Errors
    /// Every kind of wrong input: shards, benchmarks, rule, model.
    pub(crate) fn prepare(config: &JudgeConfig, trainer: Option<Beside>, stop: Stop) -> Result<Self, PipelineError> {
        Self::of_split(config, None, trainer, stop)
    }

    /// The same, with a split in the place of a rule.
    ///
    /// # Errors
    /// The same; a split of other shards, or of samples that were read in another way.
    pub(crate) fn of_split(
        config: &JudgeConfig,
        split: Option<Arc<SplitFile>>,
        trainer: Option<Beside>,
        stop: Stop,
    ) -> Result<Self, PipelineError> {
        let (reading, given) = (reader_config(config), split.as_deref());
        let (input, mut notices) = input_of(config, given, &reading.group)?;
        // What is gone is in no slice: the first one tells it.
        let tells = config.reading.part.is_none_or(|(index, _)| index == 0);
        if tells {
            notices.merge(&input.plan().losses());
        }
        if let (Input::Folders(folders), Some(_)) = (&input, &trainer) {
            captions(folders, &config.shards)?;
        }

        let (benchmarks, origins) = load_all(&config.benchmarks, &mut notices)?;
        if tells {
            rounding::note(&mut notices, &origins, Rounded::HERE);
        }
        let (rule, verdict) = checked_rule(config, given, &benchmarks)?;

        let begun_with = BegunWith::of(&config.run, &benchmarks, &origins);
        let embedder = embedder_of(config, &begun_with, &benchmarks, &mut notices)?;
        if let Some(embedder) = embedder.as_ref().filter(|_| tells) {
            note_products(&mut notices, &origins, embedder.products().as_deref());
        }
        let (train_view, of_trainer) = trainer.map(|trainer| (trainer.view, trainer.memory)).unzip();
        let decode = decode_config(config, begun_with.decoder, embedder.as_ref(), train_view);
        let decision = decision_config(config, &reading.group, &rule, &benchmarks, embedder.as_ref(), given);
        if let Some(split) = given {
            split.check_reading(&decision)?;
        }

        let (machine, computes) = (&config.machine, embedder.is_some() || decode.train.is_some());
        let mut memory = planned_memory(machine, computes, embedder.as_ref(), &decode)?;
        if let Some(of_trainer) = of_trainer {
            of_trainer.take(&mut memory);
        }
        let card = if computes { decoding_card(machine, &decode, &mut memory)? } else { None };
        let joiner = joiner_of(config, &benchmarks, embedder.as_ref(), &mut memory)?;
        let calls = joiner.as_ref().map_or(0, |joiner| joiner.calls_at_once(machine.threads));
        let ledger = LedgerMemory::of(&benchmarks, embedder.as_ref().map(|embedder| embedder.dim), calls);
        ledger.take(&mut memory);

        Ok(Self {
            names: names_of(input.plan()),
            input,
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
            ledger,
            notices,
            stop,
            config: config.clone(),
        })
    }
}
