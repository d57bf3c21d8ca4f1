//! Who multiplies for a run's join: the processor, or the embedder's device. The answer is the same.

use std::sync::Arc;

use tch::Device;
use trommel_core::text;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::join::{JoinConfig, Joiner};
use trommel_pipelines::config::JoinOn;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::memory::MemoryPlan;
use trommel_similarity::{DeviceKernel, Format};

/// Elements of all points from which on a card is asked: below that a processor's core keeps up with any embedder.
const CARD_ELEMENTS: usize = 1 << 20;

/// A joiner on what `on` says, and what it takes of the device's memory.
///
/// # Errors
/// Benchmarks that do not go together; a device that is asked for and cannot join.
pub(crate) fn joiner(
    benchmarks: &[Arc<Benchmark>],
    config: JoinConfig,
    (on, device): (JoinOn, Device),
    memory: &mut MemoryPlan,
) -> Result<Joiner, PipelineError> {
    let joiner = Joiner::new(benchmarks.to_vec(), config).map_err(PipelineError::usage)?;
    let elements: usize = benchmarks.iter().map(|benchmark| benchmark.vectors.len()).sum();
    let asked = match on {
        JoinOn::Auto => matches!(device, Device::Cuda(_)) && elements >= CARD_ELEMENTS,
        JoinOn::Cpu => false,
        JoinOn::Device => true,
    };
    if !asked {
        return Ok(joiner);
    }
    let bytes = DeviceKernel::bytes(benchmarks, Format::of(device));
    if let Some(free) = memory.card_left_bytes().filter(|free| on == JoinOn::Auto && *free < bytes) {
        tracing::warn!(
            "the join stays on the processor: it needs {} of the card, {} are left",
            text::bytes(bytes),
            text::bytes(free)
        );
        return Ok(joiner);
    }
    match DeviceKernel::new(device, benchmarks) {
        Ok(kernel) => {
            memory.take_device("join", DeviceKernel::bytes(benchmarks, kernel.format()));
            Ok(joiner.with_kernel(Box::new(kernel)))
        }
        Err(error) if on == JoinOn::Auto => {
            tracing::warn!("the join stays on the processor: {error}");
            Ok(joiner)
        }
        Err(error) => {
            let remedy = "--join cpu gives the same answers";
            Err(PipelineError::usage(error).within("--join device").with_remedy(remedy))
        }
    }
}
