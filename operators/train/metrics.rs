//! A step's numbers under open_clip's names: JSON lines for every step, TensorBoard and the console every so many.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::TrainError;
use super::files::replace;
use super::step::StepMetrics;
use super::tensorboard::EventWriter;
use trommel_core::durable::make_folder;

/// One line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricsLine {
    /// Number of the step, from 0.
    pub step: u64,
    /// Number of the pass, from 0.
    pub pass: u32,
    /// Samples seen, this step included.
    pub samples_seen: u64,
    /// Loss of the objective; open_clip logs it under this name and as `loss`, the sum of all objectives.
    #[serde(rename = "train/contrastive_loss")]
    pub contrastive_loss: f32,
    /// Sum of all objectives: there is one.
    #[serde(rename = "train/loss")]
    pub loss: f32,
    /// Learning rate of this step.
    #[serde(rename = "train/lr")]
    pub lr: f64,
    /// Factor before the logits, before the update.
    #[serde(rename = "train/scale")]
    pub scale: f32,
    /// L2 norm of all gradients, before clipping.
    #[serde(rename = "train/grad_norm")]
    pub grad_norm: f64,
    /// Seconds that the step waited for its samples and their assembly.
    #[serde(rename = "train/data_time")]
    pub data_time: f64,
    /// Seconds from the end of the step before to the end of this one.
    #[serde(rename = "train/batch_time")]
    pub batch_time: f64,
    /// Samples over `batch_time`.
    #[serde(rename = "train/samples_per_second")]
    pub samples_per_second: f64,
    /// The same on each device.
    #[serde(rename = "train/samples_per_second_per_gpu")]
    pub samples_per_second_per_gpu: f64,
}

/// Loss of the last step in `folder/metrics.jsonl`; `None` where no step is there.
///
/// # Errors
/// A file that cannot be read.
pub fn last_loss(folder: &Path) -> Result<Option<f32>, TrainError> {
    let path = folder.join("metrics.jsonl");
    let text = fs::read_to_string(&path).map_err(TrainError::file(&path, "reading"))?;
    let line = text.lines().next_back().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    #[expect(clippy::cast_possible_truncation, reason = "the number was written as the shortest of an f32")]
    Ok(line.and_then(|line| line["train/loss"].as_f64()).map(|loss| loss as f32))
}

/// Value and average since the last reset.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    value: f64,
    sum: f64,
    count: u64,
}

impl Meter {
    fn update(&mut self, value: f64) {
        self.value = value;
        self.sum += value;
        self.count += 1;
    }

    fn average(self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }
}

/// Where a run's numbers go.
#[derive(Debug)]
pub struct Metrics {
    lines: File,
    path: PathBuf,
    events: EventWriter,
    log_every_steps: u64,
    total_steps: u64,
    /// Devices that share a step.
    devices: usize,
    /// The pass that `loss` is of.
    pass: u32,
    loss: Meter,
    data: Meter,
    batch: Meter,
    /// The last step, where it was none of those that are shown.
    unshown: Option<MetricsLine>,
}

impl Metrics {
    /// Opens `folder/metrics.jsonl` and a new event file in `folder/tensorboard`. Lines from `first_step` on, left by a
    /// run that was killed after its last checkpoint, are cut off: they come again. A file with lines in its middle that are none is kept
    /// aside as it is, which is said, and its sound lines go on.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn open(folder: &Path, first_step: u64, total_steps: u64, log_every_steps: u64) -> Result<Self, TrainError> {
        make_folder(folder).map_err(TrainError::file(folder, "making the folder"))?;
        let path = folder.join("metrics.jsonl");
        if path.exists() {
            let aside = folder.join(format!("metrics_before_step_{first_step:08}.jsonl"));
            cut(&path, first_step, &aside)?;
        }
        let lines = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self {
            lines: lines.map_err(TrainError::file(&path, "opening"))?,
            path,
            events: EventWriter::create(&folder.join("tensorboard"), first_step)?,
            log_every_steps: log_every_steps.max(1),
            total_steps,
            devices: 1,
            pass: 0,
            loss: Meter::default(),
            data: Meter::default(),
            batch: Meter::default(),
            unshown: None,
        })
    }

    /// Says how many devices share a step.
    pub(super) fn set_devices(&mut self, devices: usize) {
        self.devices = devices.max(1);
    }

    /// Notes one step; returns the console's line when one is due.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn note(
        &mut self,
        step: &StepMetrics,
        pass: u32,
        samples_seen: u64,
        data_seconds: f64,
        batch_seconds: f64,
    ) -> Result<Option<String>, TrainError> {
        let rate = if batch_seconds > 0.0 { step.samples as f64 / batch_seconds } else { 0.0 };
        let line = MetricsLine {
            step: step.step,
            pass,
            samples_seen,
            contrastive_loss: step.loss,
            loss: step.loss,
            lr: step.lr,
            scale: step.logit_scale,
            grad_norm: step.grad_norm,
            data_time: data_seconds,
            batch_time: batch_seconds,
            samples_per_second: rate,
            samples_per_second_per_gpu: rate / self.devices as f64,
        };
        let mut text = serde_json::to_string(&line).map_err(|error| TrainError::checkpoint(&self.path, error))?;
        text.push('\n');
        self.lines.write_all(text.as_bytes()).map_err(TrainError::file(&self.path, "writing"))?;
        self.data.update(data_seconds);
        self.batch.update(batch_seconds);
        if pass != self.pass {
            (self.pass, self.loss) = (pass, Meter::default()); // as open_clip's, whose meters live for an epoch
        }
        if !step.step.is_multiple_of(self.log_every_steps) {
            self.unshown = Some(line);
            return Ok(None);
        }
        self.show(&line).map(Some)
    }

    /// Shows the run's last step, whatever its number: returns the console's line, unless it was given.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(&mut self) -> Result<Option<String>, TrainError> {
        self.unshown.take().map(|line| self.show(&line)).transpose()
    }

    /// TensorBoard's numbers of a step, and the console's line.
    fn show(&mut self, line: &MetricsLine) -> Result<String, TrainError> {
        self.unshown = None;
        self.loss.update(line.loss.into());
        self.events.scalars(
            line.step,
            &[
                ("train/data_time", line.data_time as f32),
                ("train/batch_time", line.batch_time as f32),
                ("train/samples_per_second", line.samples_per_second as f32),
                ("train/samples_per_second_per_gpu", line.samples_per_second_per_gpu as f32),
                ("train/scale", line.scale),
                ("train/lr", line.lr as f32),
                ("train/contrastive_loss", line.contrastive_loss),
                ("train/loss", line.loss),
                ("train/grad_norm", line.grad_norm as f32),
            ],
        )?;
        let console = self.console(line);
        self.data = Meter::default();
        self.batch = Meter::default();
        Ok(console)
    }

    /// open_clip's line. Its `[seen/total (percent%)]` counts an epoch's samples; while a pass prunes as it streams their
    /// number is not known, so ours counts the run's.
    fn console(&self, line: &MetricsLine) -> String {
        let total = if line.step == 0 { line.samples_seen } else { line.samples_seen / (line.step + 1) }
            .saturating_mul(self.total_steps);
        let percent = 100.0 * (line.step + 1) as f64 / self.total_steps as f64;
        let loss = format!("{} ({})", five_digits(self.loss.value), five_digits(self.loss.average()));
        format!(
            "Train Epoch: {} [{:>width$}/{total} ({percent:.0}%)] Data (t): {:.3} Batch (t): {:.3}, {:.2}/s, \
             {:.2}/s/gpu LR: {:.6} Logit Scale: {:.3} Contrastive_loss: {loss} Loss: {loss}",
            line.pass,
            line.samples_seen,
            self.data.average(),
            self.batch.average(),
            line.samples_per_second,
            line.samples_per_second_per_gpu,
            line.lr,
            line.scale,
            width = total.to_string().len(),
        )
    }
}

/// Five significant digits, as `%#.5g` does between 1e-4 and 1e5.
fn five_digits(value: f64) -> String {
    let before = if value.abs() < 1e-4 || !value.is_finite() { 0 } else { value.abs().log10().floor() as i32 };
    format!("{value:.*}", usize::try_from(4 - before).unwrap_or(0))
}

/// Keeps the whole lines of steps before `first_step`. A kill tears the last line only: a file with a torn one between those that are kept
/// was damaged by something else, and is kept `aside` whole.
fn cut(path: &Path, first_step: u64, aside: &Path) -> Result<(), TrainError> {
    let reading = || TrainError::file(path, "reading");
    let mut file = BufReader::new(File::open(path).map_err(reading())?);
    let (mut kept, mut line, mut bytes) = (Vec::new(), Vec::new(), 0);
    let (mut torn, mut damaged) = (0u64, 0);
    while file.read_until(b'\n', &mut line).map_err(reading())? > 0 {
        bytes += line.len();
        let step = serde_json::from_slice::<serde_json::Value>(&line).ok().and_then(|v| v.get("step")?.as_u64());
        match step {
            Some(step) if step < first_step => {
                kept.extend_from_slice(line.trim_ascii_end());
                kept.push(b'\n');
                damaged = torn;
            }
            Some(_) => {}
            None => torn += 1,
        }
        line.clear();
    }
    if damaged > 0 {
        fs::copy(path, aside).map_err(TrainError::file(aside, "writing"))?;
        let (path, aside) = (path.display(), aside.display());
        tracing::warn!(
            "{path}: {damaged} of its lines are no steps; they are left out, and the file as it was is {aside}"
        );
    }
    if kept.len() == bytes { Ok(()) } else { replace(path, &kept) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn step(step: u64) -> StepMetrics {
        StepMetrics { step, samples: 32, loss: 3.25, lr: 5e-4, logit_scale: 14.285, grad_norm: 1.0 }
    }

    #[test]
    fn lines_of_a_killed_run_come_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), 0, 10, 2).unwrap();
        for s in 0..5 {
            metrics.note(&step(s), 0, (s + 1) * 32, 0.1, 0.5).unwrap();
        }
        let path = folder.path().join("metrics.jsonl");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\": 5, \"half").unwrap();
        let mut metrics = Metrics::open(folder.path(), 3, 10, 2).unwrap();
        metrics.note(&step(3), 0, 128, 0.1, 0.5).unwrap();
        let steps: Vec<u64> = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
            .collect();
        assert_eq!(steps, [0, 1, 2, 3]);
        assert_eq!(last_loss(folder.path()).unwrap(), Some(3.25));
        // Half a letter is no line; lines that cannot be read are not cut off for that.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\": 4, \"\xe2\x82").unwrap();
        let aside = folder.path().join("aside");
        cut(&path, 9, &aside).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);
        let unread = cut(folder.path(), 9, &aside).unwrap_err();
        assert!(matches!(unread, TrainError::File { what: "reading", .. }), "{unread}");
    }

    #[test]
    fn a_line_that_something_spoilt_costs_none_of_those_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let [path, aside] = ["metrics.jsonl", "aside"].map(|name| folder.path().join(name));
        let sound = "{\"step\":0}\n{\"step\":1}\n{\"step\":3}\n";
        let spoilt = "{\"step\":0}\n{\"step\":1}\n{\"st\0\0\n{\"step\":3}\n{\"step\":4}\n{\"ste";
        fs::write(&path, spoilt).unwrap();
        cut(&path, 4, &aside).unwrap();
        assert_eq!([&path, &aside].map(|file| fs::read_to_string(file).unwrap()), [sound, spoilt]);
        // Nothing is to be cut, and nothing is written.
        let written = || fs::metadata(&path).unwrap().modified().unwrap();
        let (before, _) = (written(), fs::remove_file(&aside).unwrap());
        cut(&path, 4, &aside).unwrap();
        assert_eq!((written(), aside.exists()), (before, false));
    }

    #[test]
    fn the_console_speaks_open_clips_language() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), 0, 10, 4).unwrap();
        let first = metrics.note(&step(0), 0, 32, 0.1, 0.5).unwrap().unwrap();
        assert_eq!(
            first,
            "Train Epoch: 0 [ 32/320 (10%)] Data (t): 0.100 Batch (t): 0.500, 64.00/s, 64.00/s/gpu LR: 0.000500 \
             Logit Scale: 14.285 Contrastive_loss: 3.2500 (3.2500) Loss: 3.2500 (3.2500)"
        );
        assert!(metrics.note(&step(1), 0, 64, 0.1, 0.5).unwrap().is_none());
        // The last step is shown, whatever its number; once.
        assert!(metrics.finish().unwrap().is_some_and(|line| line.contains(" 64/320 (20%)")));
        assert!(metrics.finish().unwrap().is_none());
        assert!(metrics.note(&step(4), 0, 160, 0.1, 0.5).unwrap().is_some());
        assert!(metrics.finish().unwrap().is_none());
        assert_eq!(five_digits(12.345_678), "12.346");
        assert_eq!(five_digits(0.001_234_56), "0.0012346");
    }

    #[test]
    fn each_device_has_its_share_of_the_rate_and_each_pass_its_own_average() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), 0, 10, 1).unwrap();
        metrics.set_devices(2);
        let mut note = |number: u64, pass: u32, loss: f32| {
            let step = StepMetrics { loss, ..step(number) };
            metrics.note(&step, pass, (number + 1) * 32, 0.1, 0.5).unwrap().unwrap()
        };
        let first = note(0, 0, 4.0);
        assert!(first.contains(" 64.00/s, 32.00/s/gpu ") && first.ends_with(" Loss: 4.0000 (4.0000)"), "{first}");
        let second = note(1, 0, 3.0);
        assert!(second.ends_with(" Loss: 3.0000 (3.5000)"), "{second}");
        let next_pass = note(2, 1, 2.0);
        assert!(next_pass.ends_with(" Loss: 2.0000 (2.0000)"), "{next_pass}");
    }
}
