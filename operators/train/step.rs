//! One training step, whole or in chunks.

use tch::{Device, Kind, Tensor};
use trommel_bridge as bridge;
use trommel_bridge::{Autocast, Averaging};
use trommel_model::loss::{Logits, Pairs, unit_rows};
use trommel_model::preprocess::Normalise;

use super::batch::{Batch, Normalisation};
use super::config::{Precision, TextPadding, TrainConfig};
pub use super::contrastive::{Contrastive, Features};
use super::error::TrainError;
use super::loss::{LOGITS_AT_ONCE, Whole, backward_in_chunks};
use super::optim::AdamW;
use super::ranks::{Ranks, gathered, share_of};
use super::schedule::{Course, Schedule, Stand};
use super::staging::{Staged, Stager, Texts};

/// What a step tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepMetrics {
    /// Number of the step, from 0.
    pub step: u64,
    /// Samples in it, over all ranks.
    pub samples: u64,
    /// The contrastive loss of the whole batch before the update.
    pub loss: f32,
    /// Learning rate used.
    pub lr: f64,
    /// Factor before the logits, before the update.
    pub logit_scale: f32,
    /// L2 norm of all gradients, before clipping.
    pub grad_norm: f64,
}

/// Model, optimiser and schedule between two steps.
#[derive(Debug)]
pub struct Trainer<M> {
    model: M,
    config: TrainConfig,
    schedule: Schedule,
    normalise: Normalise,
    device: Device,
    /// For batches that come from the host.
    stager: Stager,
    /// In name order: the order of sums over parameters does not depend on the model's own.
    parameters: Vec<(String, Tensor)>,
    leaves: Vec<Tensor>,
    optimiser: AdamW,
    /// The other ranks, if there are.
    pub(super) ranks: Option<Ranks>,
    /// Pass of the next batch, and its raw samples that had their turn before.
    pub(super) at: (u32, u64),
    /// Finished steps.
    pub(super) global_step: u64,
    /// Samples in finished steps.
    pub(super) samples_seen: u64,
    /// [`LOGITS_AT_ONCE`], but for tests.
    pub(super) logits_at_once: usize,
    /// Averaging over ranks in this process's steps.
    averaging: Averaging,
}

impl<M: Contrastive> Trainer<M> {
    /// A trainer before its first step. The model's parameters lie on `device`.
    ///
    /// # Errors
    /// A configuration that makes no sense; memory for the optimiser cannot be had.
    pub fn new(
        model: M,
        config: TrainConfig,
        course: impl Into<Course>,
        normalisation: Normalisation,
        device: Device,
    ) -> Result<Self, TrainError> {
        config.validate()?;
        let schedule = Schedule::new(&config, course)?;
        let mut parameters = model.parameters();
        parameters.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some((name, _)) = parameters.iter().find(|(_, p)| !p.requires_grad() || p.device() != device) {
            return Err(TrainError::Config(format!("parameter {name} is not trainable on {device:?}")));
        }
        bridge::keep_freed_memory(device);
        let optimiser = AdamW::new(&config, &parameters)?;
        let normalise = normalisation.on(device).map_err(TrainError::torch("mean and deviation"))?;
        let stager = stager(&model, &config, device)?;
        let leaves = parameters.iter().map(|(_, p)| p.shallow_clone()).collect();
        Ok(Self {
            model,
            config,
            schedule,
            normalise,
            device,
            stager,
            parameters,
            leaves,
            optimiser,
            ranks: None,
            at: (0, 0),
            global_step: 0,
            samples_seen: 0,
            logits_at_once: LOGITS_AT_ONCE,
            averaging: Averaging::default(),
        })
    }

    /// Sends batches to the device for [`Trainer::step_staged`], from any thread.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn stager(&self) -> Result<Stager, TrainError> {
        stager(&self.model, &self.config, self.device)
    }

    /// [`Trainer::step_staged`] of a batch that is not on its way yet.
    ///
    /// # Errors
    /// As there; memory on the device.
    pub fn step(&mut self, batch: &Batch) -> Result<StepMetrics, TrainError> {
        self.check_rows(batch.samples())?;
        let staged = self.stager.stage(batch)?;
        self.step_staged(&staged)
    }

    /// Refuses a batch of another size.
    fn check_rows(&self, got: usize) -> Result<(), TrainError> {
        let (rows, whole) = (self.rows_per_step(), self.config.batch_samples);
        if got != rows {
            let share = if rows == whole { String::new() } else { format!(", {rows} a rank") };
            return Err(TrainError::Batch(format!("{got} samples, the configuration says {whole}{share}")));
        }
        Ok(())
    }

    /// One update of the weights from one batch of `batch_samples` rows; with other ranks, from this rank's rows of it.
    ///
    /// With `accumulation_chunks` above 1 the features of all chunks are computed without gradients first, the loss and
    /// its gradient by the features once, then each chunk again, backward from its rows of that gradient (Gao et al.
    /// 2021, "gradient cache"). open_clip's `--accum-freq` feeds each chunk with the others' cached features, which gives
    /// the same gradient, except that it adds the logit scale's once a chunk; here it is the whole batch's.
    ///
    /// # Errors
    /// A batch of another size; a loss or gradient that is not finite (the weights are untouched); libtorch refuses.
    pub fn step_staged(&mut self, batch: &Staged) -> Result<StepMetrics, TrainError> {
        self.check_rows(batch.pixels.size()[0] as usize)?;
        batch.arrive(self.device)?;
        let lr = self.schedule.lr(Stand { step: self.global_step, pass: self.at.0, turns: self.at.1 });
        bridge::zero_grad(&self.leaves)?;
        let scale = self.model.logit_scale().f_exp().map_err(TrainError::torch("logit scale"))?;
        let logits = Logits { scale: scale.shallow_clone(), bias: self.model.logit_bias() };
        let loss = match self.config.accumulation_chunks {
            1 => self.whole(batch, &logits)?,
            chunks => self.chunked(batch, &logits, chunks)?,
        };
        let loss = match &self.ranks {
            Some(ranks) => {
                let scalars: Vec<Tensor> = [self.model.logit_scale()].into_iter().chain(logits.bias).collect();
                ranks.settle(&loss, &scalars)?
            }
            None => loss,
        };
        let norm = bridge::clip_grad_norm(&self.leaves, self.config.grad_clip_norm)?;
        let numbers = self.update(lr, &[&loss, &scale, &norm])?;
        // The step's one look at what the device has done: all of it is on its way by now.
        let numbers = Vec::<f64>::try_from(numbers).map_err(TrainError::torch("reading loss and norm back"))?;
        let &[loss, logit_scale, grad_norm] = &numbers[..] else { unreachable!("three were asked for") };
        let not_finite =
            |what: String, value: f64| TrainError::NotFinite { step: self.global_step, what, value, lr, logit_scale };
        if !(loss.is_finite() && logit_scale.is_finite()) {
            return Err(not_finite("loss".into(), loss));
        }
        if !grad_norm.is_finite() {
            return Err(not_finite(self.name_bad_gradient()?, grad_norm));
        }
        if let Some(ranks) = &self.ranks {
            let Averaging { seconds, exposed_seconds } = ranks.averaging()?;
            self.averaging.seconds += seconds;
            self.averaging.exposed_seconds += exposed_seconds;
        }
        let (loss, logit_scale) = (loss as f32, logit_scale as f32);
        let metrics = StepMetrics {
            step: self.global_step,
            samples: self.config.batch_samples as u64,
            loss,
            lr,
            logit_scale,
            grad_norm,
        };
        self.global_step += 1;
        self.samples_seen += metrics.samples;
        Ok(metrics)
    }

    /// Updates the weights, unless one of `numbers` is not finite: the device itself looks, so that nobody waits for it. Gives them as
    /// f64\[3\].
    fn update(&mut self, lr: f64, numbers: &[&Tensor]) -> Result<Tensor, TrainError> {
        let _no_grad = tch::no_grad_guard();
        let look = || {
            let numbers = numbers.iter().map(|number| number.f_to_kind(Kind::Double)).collect::<Result<Vec<_>, _>>()?;
            let numbers = Tensor::f_stack(&numbers, 0)?;
            let broken = numbers.f_isfinite()?.f_all()?.f_logical_not()?;
            Ok((numbers, broken.f_to_kind(Kind::Float)?, broken))
        };
        let (numbers, skip, broken) = look().map_err(TrainError::torch("whether the loss is finite"))?;
        self.optimiser.step(lr, &skip)?;
        let mut scale = self.model.logit_scale();
        let clamped = scale.f_clamp(0.0, 100f64.ln()).and_then(|clamped| scale.f_where_self(&broken, &clamped));
        clamped.and_then(|clamped| scale.f_copy_(&clamped)).map_err(TrainError::torch("clamping the logit scale"))?;
        Ok(numbers)
    }

    /// One graph over the whole batch; returns the loss, gradients are in the leaves. Also from a loss that is not finite: the
    /// device knows it, the host does not yet, and of ranks all take part.
    fn whole(&self, batch: &Staged, logits: &Logits) -> Result<Tensor, TrainError> {
        let (images, texts) = self.features(batch, 0)?;
        if let Some(ranks) = &self.ranks {
            ranks.prepare()?;
        }
        self.contrast(Pairs { images: &images, texts: &texts }, logits)
    }

    /// The loss of unit features, and its backward.
    fn contrast(&self, own: Pairs<'_>, logits: &Logits) -> Result<Tensor, TrainError> {
        let of = self.model.loss();
        let group = self.ranks.as_ref().map(Ranks::group);
        let rows_at_once = self.logits_at_once / self.config.batch_samples;
        if rows_at_once < self.rows_per_step() {
            let both = group.map(|group| gathered(group, own.images, own.texts)).transpose()?;
            let first = group.map_or(0, |group| (self.rows_per_step() * group.rank()) as i64);
            let whole = both.as_ref().map(|both| Whole { both, first });
            return backward_in_chunks(of, own, logits, whole, rows_at_once as i64);
        }
        let loss = match group {
            Some(group) => share_of(group, of, own, logits)?,
            None => of.whole(own, logits).map_err(TrainError::torch("loss"))?,
        };
        bridge::backward(std::slice::from_ref(&loss), &[loss.ones_like()])?;
        Ok(loss)
    }

    /// The same gradient with the activations of one chunk at a time.
    fn chunked(&self, batch: &Staged, logits: &Logits, chunks: usize) -> Result<Tensor, TrainError> {
        let rows = batch.pixels.size()[0] / chunks as i64;
        let (mut images, mut texts) = (Vec::with_capacity(chunks), Vec::with_capacity(chunks));
        {
            let _no_grad = tch::no_grad_guard();
            for chunk in 0..chunks {
                let (image, text) = self.features(batch, chunk)?;
                images.push(image);
                texts.push(text);
            }
        }
        let gather = |parts: &[Tensor]| Ok(Tensor::f_cat(parts, 0)?.f_detach()?.set_requires_grad(true));
        let whole = |parts: &[Tensor]| gather(parts).map_err(TrainError::torch("gathering the features"));
        let (images, texts) = (whole(&images)?, whole(&texts)?);
        let loss = self.contrast(Pairs { images: &images, texts: &texts }, logits)?;
        let (image_grad, text_grad) = (images.grad(), texts.grad());
        for chunk in 0..chunks {
            let (image, text) = self.features(batch, chunk)?;
            if let Some(ranks) = self.ranks.as_ref().filter(|_| chunk + 1 == chunks) {
                ranks.prepare()?;
            }
            let slice = |grad: &Tensor| {
                grad.f_narrow(0, chunk as i64 * rows, rows).map_err(TrainError::torch("a chunk's gradient"))
            };
            bridge::backward(&[image, text], &[slice(&image_grad)?, slice(&text_grad)?])?;
        }
        Ok(loss)
    }

    /// Unit features in f32 of one chunk's rows.
    fn features(&self, batch: &Staged, chunk: usize) -> Result<(Tensor, Tensor), TrainError> {
        let rows = batch.pixels.size()[0] / batch.texts.len() as i64;
        let images = batch.pixels.f_narrow(0, chunk as i64 * rows, rows).and_then(|rows| self.normalise.planes(&rows));
        let images = images.map_err(TrainError::torch("normalising the pixels"))?;
        let refused = |tower| move |source| TrainError::Model { step: self.global_step, tower, source };
        let (images, texts) = {
            let _cast = match self.config.precision {
                Precision::F32 => None,
                Precision::Bf16 => Some(Autocast::bf16(self.device)?),
            };
            (
                self.model.encode_image(&images).map_err(refused("image"))?,
                match &batch.texts[chunk] {
                    Texts::Padded(tokens) => self.model.encode_text(tokens),
                    Texts::Packed(captions) => self.model.encode_captions(captions),
                }
                .map_err(refused("text"))?,
            )
        };
        let unit = |features: &Tensor| unit_rows(features).map_err(TrainError::torch("normalising the features"));
        Ok((unit(&images)?, unit(&texts)?))
    }

    /// The first parameter, by name, whose gradient left the numbers.
    fn name_bad_gradient(&self) -> Result<String, TrainError> {
        for (name, param) in &self.parameters {
            let grad = param.f_grad().map_err(TrainError::torch("a gradient"))?;
            if grad.defined() {
                let finite = grad.f_isfinite().and_then(|t| t.f_all()).and_then(bool::try_from);
                if !finite.map_err(TrainError::torch("a gradient"))? {
                    return Ok(format!("gradient of {name}"));
                }
            }
        }
        Ok("gradients' norm".into())
    }

    /// Refuses weights that are no numbers: for saves, since a step looks at the gradient alone and an update may overflow behind it.
    ///
    /// # Errors
    /// The first parameter, by name, that is not finite; libtorch refuses.
    pub(super) fn check_weights(&self) -> Result<(), TrainError> {
        let look = || {
            let each = self.parameters.iter().map(|(_, p)| p.f_isfinite()?.f_all());
            // One wait for the device, whatever the number of parameters.
            Vec::<bool>::try_from(Tensor::f_stack(&each.collect::<Result<Vec<_>, _>>()?, 0)?)
        };
        let finite = look().map_err(TrainError::torch("whether the weights are finite"))?;
        match self.parameters.iter().zip(finite).find(|(_, finite)| !finite) {
            None => Ok(()),
            Some(((name, _), _)) => {
                let (step, name) = (self.global_step.saturating_sub(1), name.clone());
                Err(TrainError::WeightsNotFinite { step, name })
            }
        }
    }

    /// Rows that `step` takes.
    #[must_use]
    pub fn rows_per_step(&self) -> usize {
        self.config.batch_samples / self.ranks.as_ref().map_or(1, |ranks| ranks.group().size())
    }

    /// Where model and optimiser lie.
    pub const fn device(&self) -> Device {
        self.device
    }

    /// The model that is trained.
    pub const fn model(&self) -> &M {
        &self.model
    }

    /// The recipe of the run.
    pub const fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The learning rate's course.
    pub const fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Finished steps.
    pub const fn global_step(&self) -> u64 {
        self.global_step
    }

    /// Samples in finished steps.
    pub const fn samples_seen(&self) -> u64 {
        self.samples_seen
    }

    /// Time of averaging gradients over ranks, in all steps since this trainer was made.
    pub const fn averaging(&self) -> Averaging {
        self.averaging
    }

    /// The learning rate that the schedule rises to.
    pub(super) fn peak_lr(&self) -> f64 {
        self.config.lr
    }

    /// Parameters in name order.
    pub fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// The optimiser, with its moments.
    pub const fn optimiser(&self) -> &AdamW {
        &self.optimiser
    }
}

fn stager<M: Contrastive>(model: &M, config: &TrainConfig, device: Device) -> Result<Stager, TrainError> {
    let padding = if model.packs_captions() { config.text_padding } else { TextPadding::Full };
    Stager::new(device, config.accumulation_chunks, padding)
}
