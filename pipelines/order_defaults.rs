//! The order of a run whose flags leave it open: lanes that follow the shards and the processes, windows that follow the
//! batch, as far as memory allows. Worked out at the run's first start, on process 0, and kept from there on.

use trommel_operators::dataflow::order::{OrderConfig, WindowBytes};

use crate::error::PipelineError;

/// Lanes of a run whose shards and memory allow for it: batches hold samples of so many shards.
const LANES: usize = 16;
/// As many for each process of a large run, so that all read and few samples move, also if it goes on with more processes.
pub(crate) const LANES_A_PROCESS: usize = 4;
/// Batches that a window holds: one neighbour in so many meets its neighbour again.
const WINDOW_BATCHES: usize = 8;
/// Samples of a window under small batches.
const WINDOW_SAMPLES: usize = 2048;
/// Samples that a window holds at least, however little memory there is.
const LEAST_WINDOW_SAMPLES: usize = 256;
/// Bytes that a window is given for each sample beside its view: captions.
const CAPTION_BYTES: u64 = 1 << 10;

/// What the flags say of an order; what they leave open is worked out at the run's first start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderFlags {
    /// Lanes that the shards of a pass are dealt to.
    pub lanes: Option<usize>,
    /// Kept samples that a window holds at most.
    pub window_samples: Option<usize>,
    /// Bytes that a window holds at most.
    pub window_bytes: Option<u64>,
    /// Seed of the permutations.
    pub seed: u64,
}

/// What an order is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Shards of a pass.
    pub(crate) shards: usize,
    /// Processes of the run.
    pub(crate) processes: usize,
    /// Samples of a batch.
    pub(crate) batch: usize,
    /// Bytes of a sample's view.
    pub(crate) view_bytes: u64,
    /// Bytes of a process's budget that nothing else takes.
    pub(crate) free_bytes: u64,
    /// Bytes that a process sets aside for a lane.
    pub(crate) lane_bytes: u64,
}

impl OrderFlags {
    /// The order of a run that begins now. A quarter of what is free may go to lanes, half of the rest to two windows.
    pub(crate) fn settle(&self, size: &Size) -> OrderConfig {
        let processes = size.processes.max(1);
        let a_process = |lanes: usize| lanes.div_ceil(processes) as u64 * size.lane_bytes;
        let lanes = self.lanes.unwrap_or_else(|| {
            let shards = size.shards.max(1);
            let affordable = usize::try_from(size.free_bytes / 4 / size.lane_bytes.max(1)).unwrap_or(usize::MAX);
            let least = LANES_A_PROCESS.max(processes);
            let most = LANES.max(LANES_A_PROCESS.saturating_mul(processes));
            affordable.saturating_mul(processes).clamp(least, most).min(shards)
        });
        let sample = size.view_bytes + CAPTION_BYTES;
        let wanted = WINDOW_SAMPLES.max(WINDOW_BATCHES.saturating_mul(size.batch));
        let room = size.free_bytes.saturating_sub(a_process(lanes)) / 4 / sample;
        let fitting = || usize::try_from(room).unwrap_or(usize::MAX).clamp(LEAST_WINDOW_SAMPLES, wanted);
        let window_samples = self.window_samples.unwrap_or_else(|| self.window_bytes.map_or_else(fitting, |_| wanted));
        let window_bytes = self.window_bytes.unwrap_or(window_samples as u64 * sample);
        OrderConfig { lanes, window_samples, window_bytes, window_counts: WindowBytes::Held, seed: self.seed }
    }

    /// The order of a run that wrote none down: what its flags leave open had these values.
    pub(crate) fn or_default(&self) -> OrderConfig {
        let was = OrderConfig::default();
        OrderConfig {
            lanes: self.lanes.unwrap_or(was.lanes),
            window_samples: self.window_samples.unwrap_or(was.window_samples),
            window_bytes: self.window_bytes.unwrap_or(was.window_bytes),
            seed: self.seed,
            ..was
        }
    }

    /// Refuses flags that say another order than the one that a run was begun with.
    ///
    /// # Errors
    /// The first flag that differs, with both values.
    pub(crate) fn must_be(&self, begun: &OrderConfig) -> Result<(), PipelineError> {
        let flags = [
            ("--lanes", self.lanes.map(|lanes| lanes as u64), begun.lanes as u64),
            ("--window", self.window_samples.map(|samples| samples as u64), begun.window_samples as u64),
            ("--window-bytes", self.window_bytes, begun.window_bytes),
            ("--seed", Some(self.seed), begun.seed),
        ];
        match flags.into_iter().find(|(_, said, begun)| said.is_some_and(|said| said != *begun)) {
            None => Ok(()),
            Some((flag, said, begun)) => Err(PipelineError::Usage(format!(
                "{flag} {}: this run was begun with {begun}, and its order stays; leave {flag} out, or take another --run",
                said.unwrap_or(0)
            ))),
        }
    }
}

/// One line on an order, for people.
pub(crate) fn describe(order: &OrderConfig, size: &Size) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let batches = order.window_samples as f64 / size.batch.max(1) as f64;
    let holds = match order.window_counts {
        WindowBytes::Held => "decoded views and captions",
        WindowBytes::EncodedAndView => "decoded views, counted with the encoded pictures",
    };
    let short = if batches < WINDOW_BATCHES as f64 { ", less than eight: more --memory mixes better" } else { "" };
    format!(
        "order: {} shards in {} lanes; a shuffle window of up to {} samples ({batches:.1} batches{short}) holds at most {} \
         of {holds}",
        size.shards,
        order.lanes,
        order.window_samples,
        crate::memory::human(order.window_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn size(shards: usize, processes: usize, batch: usize) -> Size {
        Size { shards, processes, batch, view_bytes: 3 * 224 * 224, free_bytes: 64 * GIB, lane_bytes: 16 << 20 }
    }

    #[test]
    fn lanes_follow_shards_and_processes_and_windows_the_batch() {
        let settled = |size: Size| {
            let order = OrderFlags::default().settle(&size);
            (order.lanes, order.window_samples)
        };
        assert_eq!(settled(size(3, 1, 16)), (3, 2048));
        assert_eq!(settled(size(1000, 1, 4096)), (16, 8 * 4096));
        assert_eq!(settled(size(1000, 2, 4096)), settled(size(1000, 1, 4096)), "one process or two: one order");
        assert_eq!(settled(size(1000, 8, 4096)).0, 32);
        assert_eq!(settled(size(41_408, 64, 4096)).0, 256);
        assert_eq!(settled(size(5, 8, 16)).0, 5, "more processes than shards");
    }

    #[test]
    fn little_memory_makes_less_of_both_and_never_nothing() {
        let little = |free_bytes| OrderFlags::default().settle(&Size { free_bytes, ..size(1000, 1, 4096) });
        let order = little(GIB);
        assert_eq!(order.lanes, 16);
        let sample = 3 * 224 * 224 + 1024;
        assert_eq!(order.window_samples as u64, (GIB - 16 * (16 << 20)) / 4 / sample);
        assert_eq!(order.window_bytes, order.window_samples as u64 * sample);
        assert_eq!((little(0).lanes, little(0).window_samples), (4, 256));
        assert_eq!(OrderFlags::default().settle(&Size { free_bytes: 0, ..size(1000, 8, 64) }).lanes, 8);
    }

    #[test]
    fn what_flags_say_is_taken_and_afterwards_insisted_on() {
        let flags = OrderFlags { lanes: Some(6), window_bytes: Some(GIB), ..OrderFlags::default() };
        let order = flags.settle(&size(1000, 1, 512));
        assert_eq!((order.lanes, order.window_samples, order.window_bytes), (6, 4096, GIB));
        assert!(flags.must_be(&order).is_ok() && OrderFlags::default().must_be(&order).is_ok());
        let said = OrderFlags { lanes: Some(8), ..flags }.must_be(&order).expect_err("another number").to_string();
        assert!(said.contains("--lanes 8") && said.contains("begun with 6"), "{said}");
    }
}
