//! The memory of a run: what its parts take, and the credit that is left for samples in flight.

use trommel_core::credit::workspace::OWN_BYTES;
use trommel_core::credit::{Credit, CreditConfig};
use trommel_core::sample::Work;
use trommel_core::text::bytes;
use trommel_decode::operator::DecodeConfig;
use trommel_embed::device;
use trommel_shard::reader::ViewBytes;

use super::setup::RunSetup;
use crate::embedder::Embedder;
use trommel_pipelines::config::Machine;
use trommel_pipelines::cores::Threading;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::memory::{MemoryPlan, card_share};

/// A reader's buffers: the store's, what its decompressor has without asking, a long header.
const READER_BYTES: u64 = OWN_BYTES + (1 << 20);

/// Times its size that a json takes while it is read: as read, mended (a control character becomes six), and its fields.
const JSON_FACTOR: u64 = 3;

/// Encoded bytes that a reader's own quantum has room for.
const QUANTUM_PICTURE_BYTES: u64 = 4 << 20;

/// The budget, with what embedder and decoding take of it. `computes`: something runs a model here.
///
/// # Errors
/// A device that is not there.
pub(super) fn planned_memory(
    machine: &Machine,
    computes: bool,
    embedder: Option<&Embedder>,
    decode: &DecodeConfig,
) -> Result<MemoryPlan, PipelineError> {
    let mut memory = MemoryPlan::new(machine.memory_bytes, computes);
    if computes && let Some((name, total_bytes)) = device::memory_of(&machine.device).map_err(PipelineError::usage)? {
        let free = device::free_at_start(&machine.device).map_err(PipelineError::usage)?;
        let share = card_share(total_bytes, machine.card_processes, None);
        let own_bytes = card_share(total_bytes, machine.card_processes, free);
        if own_bytes < share {
            let (taken, left) = (bytes(share - own_bytes), bytes(own_bytes));
            tracing::warn!("{taken} of {name} are not free: this run is planned with {left}");
        } else if machine.card_processes > 1 {
            tracing::info!("{} processes share {name}: {} for each", machine.card_processes, bytes(share));
        }
        memory = memory.on_card(&name, own_bytes);
    }
    if let Some(embedder) = embedder {
        memory.take_device("embedder", embedder.bytes);
        memory.take("embedder's batches", embedder.slot_bytes);
    }
    memory.take("decoding", decode.scratch_bytes(machine.threads));
    Ok(memory)
}

impl RunSetup {
    /// Bytes a sample holds once decoded, and what it and its shard leave until the ledger has them.
    #[must_use]
    pub fn view_bytes(&self) -> ViewBytes {
        let views = |work| self.decode.view_bytes(work);
        ViewBytes {
            eval: views(Work::JudgeOnly) + self.ledger.vector_bytes,
            train: views(Work::Replay),
            record: self.ledger.record_bytes(),
            shard: self.ledger.shard_bytes(),
        }
    }

    /// How many of `shards` shards `readers` readers may have read or begun, and not yet in the ledger; gives their lanes room for them.
    pub(crate) fn open_shards(&mut self, readers: usize, shards: usize) -> usize {
        let least = readers + self.machine().workers;
        if self.memory.card.is_none() {
            return least;
        }
        let spare_bytes = self.memory_of(readers, 0).spare_bytes();
        self.ledger = self.ledger.on_card(readers, shards, spare_bytes);
        least.max(readers * self.ledger.lane_shards as usize)
    }

    /// Sets aside what `lanes` readers hold: their buffers, and records that the ledger has not written.
    pub fn take_ledger_memory(&mut self, lanes: usize) {
        self.reader_parts(lanes).into_iter().for_each(|(name, bytes)| self.memory.take(name, bytes));
    }

    /// What `lanes` readers hold, by name.
    fn reader_parts(&self, lanes: usize) -> [(&'static str, u64); 2] {
        let group = &self.reading.group;
        let reader = READER_BYTES + 2 * group.max_text_bytes + JSON_FACTOR * group.max_json_bytes;
        let ledger = self.ledger.lane_bytes();
        [("reading", reader * lanes as u64), ("ledger", ledger * lanes as u64)]
    }

    /// Refuses a budget without room for `lanes` readers, as [`RunSetup::credit`] does: before a folder is begun.
    ///
    /// # Errors
    /// A budget below the minimum.
    pub fn check_memory(&self, lanes: usize) -> Result<(), PipelineError> {
        self.memory_of(lanes, 0).credit_bytes().map(drop)
    }

    /// The budget with all that `lanes` readers take of it, beside `window_bytes` of a trainer's windows.
    pub(crate) fn memory_of(&self, lanes: usize, window_bytes: u64) -> MemoryPlan {
        let mut memory = self.memory.clone();
        memory.take("windows", window_bytes);
        self.reader_parts(lanes).into_iter().for_each(|(name, bytes)| memory.take(name, bytes));
        memory.least_credit_bytes = self.quantum_bytes() * lanes.max(1) as u64;
        memory
    }

    /// A reader's own part of the credit: one sample.
    fn quantum_bytes(&self) -> u64 {
        let (views, texts) = (self.view_bytes(), self.reading.group.max_text_bytes);
        views.eval + views.train + texts + QUANTUM_PICTURE_BYTES
    }

    /// The credit for `lanes` readers, from what the budget leaves, at most `most_bytes`; says so in one line. Half of what is to spare may go to
    /// batches that the embedder computes side by side.
    ///
    /// # Errors
    /// A budget below the minimum.
    pub fn credit(&mut self, lanes: usize, most_bytes: u64) -> Result<Credit, PipelineError> {
        let quantum_bytes = self.quantum_bytes();
        self.memory.least_credit_bytes = quantum_bytes * lanes as u64;
        let spare_bytes = self.memory.credit_bytes()? - self.memory.least_credit_bytes;
        if let Some(embedder) = &mut self.embedder {
            self.memory.take("embedder's other batches", embedder.side_by_side(spare_bytes / 2));
        }
        let all_bytes = self.memory.credit_bytes()?;
        let budget_bytes = all_bytes.min(most_bytes.max(self.memory.least_credit_bytes));
        tracing::info!("{}", Threading::of(&self.config.machine));
        tracing::info!("memory {}: {}", bytes(self.memory.budget_bytes), self.memory);
        if let Some(card) = &self.memory.card {
            tracing::info!("memory of {} {}: {card}", card.name, bytes(card.total_bytes));
        }
        let credit = Credit::new(CreditConfig { budget_bytes, lanes, quantum_bytes }, self.stop.clone());
        Ok(credit.with_records(self.ledger.lane_bytes()).with_workspaces(all_bytes - budget_bytes))
    }
}
