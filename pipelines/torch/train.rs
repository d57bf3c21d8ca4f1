//! `trommel train`: samples ─▶ decode ─▶ embed ─▶ join ─▶ prune ─▶ order ─▶ trainer, and every fate to the ledger.
//!
//! The first pass judges and trains at once; a shard that the ledger knows is replayed: no embedding, no join.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use trommel_core::stop::Stop;
use trommel_dataflow::lanes::Lanes;
use trommel_decode::view::TrainView;
use trommel_ledger::decisions::FolderDecisions;
use trommel_model::{Architecture, Preprocess};

use crate::adopt::Adopted;
use crate::order_defaults::folders_dealt_as;
use crate::pass_count::{exact, promised};
use crate::prune::with_embedded_benchmarks;
use crate::run_setup::{Input, RunSetup};
use crate::run_watch::open_folder;
use crate::settled::{Settled, has_trained, judged};
use crate::together::Together;
use crate::train_dataflows::judge_and_train;
use crate::train_on::{TrainInputs, check_order, train_on};
pub use crate::train_report::{TrainReport, TrainedWithout};
use crate::train_run::Setting;
pub use crate::train_run::{RunLength, TrainRun};
use crate::trainer_memory::{Beside, TrainerMemory};
use crate::trainer_reach::Trained;
use crate::trainer_setup::size_of;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::ledger_run::agreed;
use trommel_pipelines::phase::Phase;
use trommel_pipelines::progress::Progress;
use trommel_pipelines::split_file::SplitFile;

/// Prunes while streaming and trains on what is kept.
///
/// # Errors
/// Wrong input before the first byte; later a full disk, a loss that is not finite, a bug that a worker ran into.
pub fn train(run: &TrainRun, stop: Stop, progress: &Arc<Progress>) -> Result<TrainReport, PipelineError> {
    Together::run(&run.judge, true, &stop, progress, |together| train_together(run, together, &stop, progress))
}

/// Trains to the end as a part, called `title`, of something that `whole` stops.
pub(crate) fn train_part(
    run: &TrainRun,
    whole: &Stop,
    title: &str,
    progress_of: &dyn Fn(&str) -> Arc<Progress>,
) -> Result<TrainReport, PipelineError> {
    // A trainer at its end stops what still reads for it: its own run, and not the whole.
    let stop = Stop::new();
    let _registrations = whole.hand_on(&stop);
    let report = train(run, stop, &progress_of(title))?;
    PipelineError::if_not_whole(report.interrupted, &report.failed).map_err(|error| error.within(title))?;
    Ok(report)
}

fn train_together(
    run: &TrainRun,
    together: &Together,
    stop: &Stop,
    progress: &Arc<Progress>,
) -> Result<TrainReport, PipelineError> {
    let mut config = with_embedded_benchmarks(&run.judge, together, stop)?;
    let adopted = run.decisions.as_ref().map(|from| Adopted::open(from, &config.run)).transpose()?;
    if let Some(adopted) = adopted.as_ref().filter(|_| config.shards.is_empty()) {
        config.plan = Some(adopted.plan().clone());
    }
    let config = &config;
    let rank = together.rank();
    let model = trained_model(run)?;
    let trainer = Beside {
        view: train_view(run, model.preprocess()),
        memory: TrainerMemory::of(&model.sizes(), &run.recipe, together.ranks()),
    };
    let split = run.split.as_deref().map(SplitFile::open).transpose()?.map(Arc::new);
    let mut judging = RunSetup::of_split(config, split, Some(trainer), stop.clone())?;
    let plan = judging.input.plan().clone();
    let size = size_of(run, &judging, plan.len());
    if !has_trained(&config.run)? {
        let order = run.order.settle(&size);
        check_order(run, &judging, &order, together.lanes(order.lanes).len())?;
    }
    let run_config = adopted.as_ref().map_or_else(|| Ok(judging.run_config()), |from| from.run_config(&judging))?;
    together.agree(Phase::Configuration, &agreed(&run_config, &plan))?;
    let open = || open_folder(&config.run, &plan, &run_config, together.access(), config.mix_numerics);
    let folder = together.in_turn(Phase::RunFolder, || {
        if let Some(adopted) = adopted.as_ref().filter(|_| rank == 0) {
            let differs = plan.difference(adopted.plan());
            match differs {
                Some(differs) => return Err(PipelineError::usage(format!("--decisions: {differs}"))),
                None => adopted.take_over(&*open()?)?,
            }
        }
        open()
    })?;
    progress.shards_planned.store(plan.len() as u64, Ordering::Relaxed);
    progress.shards_resumed.store(folder.before().committed.len() as u64, Ordering::Relaxed);

    let passes = match run.length {
        RunLength::Passes(passes) => Some(passes),
        RunLength::Steps(_) | RunLength::Samples(_) => None,
    };
    // A split knows its batches, unless it has samples of which nobody knows whether a trainer can use them.
    let kept = judging.split.as_ref().and_then(|split| split.trainable());
    let exact = exact(kept, folder.before(), plan.len());
    let promised = || promised(&judging.input, judging.stores(), folder.before()).map(Some);
    let count = || exact.as_ref().map_or_else(promised, |_| Ok(None));
    let dealt_as = || matches!(judging.input, Input::Folders(_)).then(|| folders_dealt_as(&plan));
    let find = || Settled::find(run, &config.run, &size, exact.as_ref(), dealt_as, count);
    let mut settled = together.first_says(find)?;
    let names: Vec<String> = match &settled.dealt_as {
        Some(names) => names.clone(),
        None => plan.shards.iter().map(|shard| shard.name.clone()).collect(),
    };
    let deal = Arc::new(Lanes::new(settled.order.lanes, settled.order.seed, (0..).zip(names)));
    if let Some(view) = &mut judging.decode.train {
        view.labelled = settled.dealt_as.is_some();
    }
    let course = settled.course(run, &folder, kept)?;
    let train_inputs = TrainInputs {
        reader: judging.reader(&judging.input, Some(Arc::new(FolderDecisions::new(&config.run)))),
        leased: deal.clone(),
        deal,
        passes,
        course,
        judged: judged(&config.run, &folder)?,
        settled,
        folder,
        parts: judging.part_config(),
        trained: Trained::default(),
    };
    train_on(&Setting { run, config, model, together, stop, progress }, judging, train_inputs, judge_and_train)
}

/// The model that is trained, before anything is read or written: its recipe may contradict itself, and its vocabulary be one that is not
/// read here.
pub(crate) fn trained_model(run: &TrainRun) -> Result<Arc<dyn Architecture>, PipelineError> {
    run.recipe.validate().map_err(PipelineError::usage)?;
    let model = trommel_model::load(&run.model).map_err(PipelineError::usage)?;
    model.captions().map_err(PipelineError::usage)?;
    Ok(model)
}

/// The picture that the trainer gets.
pub(crate) fn train_view(run: &TrainRun, preprocess: &Preprocess) -> TrainView {
    TrainView { size: preprocess.size, scale: (0.9, 1.0), seed: run.seed, labelled: false }
}
