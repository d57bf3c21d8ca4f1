//! What works for all workers of a run: pools, the embedder's thread, and the card that decodes.

use trommel_core::credit::Credit;
use trommel_core::text;
use trommel_dataflow::pool::Pool;
use trommel_decode::card::{CardDecoder, OpenCard, Planned, lanes_within, planned};
use trommel_decode::operator::DecodeConfig;
use trommel_embed::device;

use super::setup::RunSetup;
use crate::embedder::EmbedService;
use trommel_pipelines::config::{DecodeOn, Machine};
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::memory::MemoryPlan;

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
fn open_card(machine: &Machine, decode: &DecodeConfig, lanes: usize) -> Result<Option<OpenCard>, PipelineError> {
    let wanted = machine.decode == DecodeOn::Card;
    let device = device::parse(&machine.device).map_err(PipelineError::usage)?;
    let tch::Device::Cuda(ordinal) = device else {
        let refusal = || PipelineError::usage("--decode card: models compute on the CPU here; --device cuda:N");
        return if wanted { Err(refusal()) } else { Ok(None) };
    };
    if machine.decode == DecodeOn::Cpu {
        return Ok(None);
    }
    match OpenCard::open(ordinal, decode, lanes) {
        Ok(card) => {
            tracing::info!("JPEGs are decoded on {}", card.says());
            Ok(Some(card))
        }
        Err(error) if wanted => Err(PipelineError::usage(error).within("--decode card")),
        Err(error) => {
            tracing::warn!("JPEGs are decoded on the CPU: {error}");
            Ok(None)
        }
    }
}

/// The card that decodes, where one does; takes its memory.
///
/// # Errors
/// `--decode card` where no card decodes.
pub(super) fn decoding_card(
    machine: &Machine,
    decode: &DecodeConfig,
    memory: &mut MemoryPlan,
) -> Result<Option<OpenCard>, PipelineError> {
    // The join's points and the samples in flight need room too.
    let most =
        Planned { card_bytes: memory.card_left_bytes().unwrap_or_default() / 2, host_bytes: memory.spare_bytes() / 8 };
    let lanes = lanes_within(decode, most);
    let Planned { card_bytes, host_bytes } = planned(decode, lanes);
    if let Some(free) = memory.card_left_bytes().filter(|free| machine.decode == DecodeOn::Auto && *free < card_bytes) {
        let (needed, free) = (text::bytes(card_bytes), text::bytes(free));
        tracing::warn!("JPEGs are decoded on the CPU: that would need {needed} of the card, {free} are left");
        return Ok(None);
    }
    let card = open_card(machine, decode, lanes)?;
    if card.is_some() {
        memory.take_device("decoding", card_bytes);
        memory.take("decoding on a card", host_bytes);
    }
    Ok(card)
}

impl RunSetup {
    /// Starts pools and the embedder.
    ///
    /// # Errors
    /// A model that cannot be loaded.
    pub fn start(&self, credit: &Credit) -> Result<Machinery, PipelineError> {
        let threads = self.config.machine.threads;
        let embedder = self.embedder.as_ref().and_then(|embedder| embedder.start(credit, &self.stop));
        if let Some(embedder) = &embedder {
            embedder.ready().map_err(|fault| PipelineError::usage(fault.message))?;
        }
        let pool = |name: &str, threads| Pool::with_stop(name, threads, &self.stop);
        let card = match self.card.as_ref().map(|card| card.start(credit, &self.stop)).transpose() {
            Err(error) if self.config.machine.decode != DecodeOn::Card => {
                tracing::warn!("JPEGs are decoded on the CPU: {error}");
                None
            }
            card => card.map_err(PipelineError::failed)?,
        };
        let joiners = pool("join", self.joiner.as_ref().map_or(threads, |joiner| joiner.calls_at_once(threads)));
        let machinery = Machinery { decoders: pool("decode", threads), card, joiners, embedder };
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
