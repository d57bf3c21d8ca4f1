//! How a trainer joins those of the other ranks, steps with them, and leaves them.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};
use trommel_bridge::Group;

use super::error::TrainError;
use super::ranks::{Ranks, SCALARS};
use super::step::{Contrastive, Trainer};

impl<M: Contrastive> Trainer<M> {
    /// Ties this trainer to those of the other ranks. From here `step` takes `batch_samples / ranks` rows, the rank's own
    /// of the global batch, and is collective. All ranks call this, at the same step.
    ///
    /// # Errors
    /// A batch that does not divide by ranks and chunks; weights, optimiser state or step that differ between ranks; a rank
    /// is gone or late.
    pub fn join_ranks(&mut self, group: Arc<Group>) -> Result<(), TrainError> {
        let (batch, chunks) = (self.config().batch_samples, self.config().accumulation_chunks);
        if !batch.is_multiple_of(group.size() * chunks) {
            let size = group.size();
            return Err(TrainError::Config(format!(
                "a batch of {batch} does not divide into {size} ranks of {chunks} chunks"
            )));
        }
        if group.device() != self.device() {
            let (theirs, ours) = (group.device(), self.device());
            return Err(TrainError::Config(format!("ranks connected for {theirs:?}, a model on {ours:?}")));
        }
        let own = [self.global_step() as i64, self.samples_seen() as i64, self.fingerprint()?];
        let all = everyones(&group, &own)?;
        for (column, what) in ["step", "samples seen", "weights and optimiser state"].into_iter().enumerate() {
            let of = |rank: usize| all[rank * own.len() + column];
            if let Some(other) = (1..group.size()).find(|&rank| of(rank) != of(0)) {
                return Err(TrainError::Ranks(format!(
                    "{what} differ: {:x} on rank 0, {:x} on rank {other}",
                    of(0),
                    of(other)
                )));
            }
        }
        let mut named: Vec<_> =
            self.parameters().iter().filter(|(name, _)| !SCALARS.contains(&name.as_str())).collect();
        named.sort_by_cached_key(|(name, _)| forward_order(name));
        let params: Vec<Tensor> = named.into_iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        self.ranks = Some(Ranks::new(&params, group)?);
        Ok(())
    }

    /// The other ranks, if there are.
    pub const fn ranks(&self) -> Option<&Ranks> {
        self.ranks.as_ref()
    }

    /// Whether all ranks have a batch, so that all step or none does. Collective.
    ///
    /// # Errors
    /// A rank is gone or late.
    pub fn agree(&self, has_batch: bool) -> Result<bool, TrainError> {
        let Some(ranks) = &self.ranks else { return Ok(has_batch) };
        let has_none = Tensor::f_full([1], i64::from(!has_batch), (Kind::Int64, self.device()));
        let has_none = has_none.map_err(TrainError::torch("agreeing on a step"))?;
        ranks.group().all_reduce_max(&[has_none.shallow_clone()])?;
        has_none.f_int64_value(&[0]).map(|none| none == 0).map_err(TrainError::torch("agreeing on a step"))
    }

    /// Lets the other ranks fail at once instead of when their patience ends.
    pub(super) fn leave_ranks(&self) {
        if let Some(ranks) = &self.ranks {
            ranks.group().abort();
        }
    }

    /// 63 bits of SHA-256 of all weights and the optimiser's state, with their names.
    fn fingerprint(&self) -> Result<i64, TrainError> {
        let mut hash = Sha256::new();
        let mut state = self.optimiser().state();
        state.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, tensor) in self.parameters().iter().chain(&state) {
            let flat = || {
                let flat = tensor.f_detach()?.f_to(tch::Device::Cpu)?.f_reshape([-1])?;
                let mut values = vec![0f32; flat.size()[0] as usize];
                let count = values.len();
                flat.f_to_kind(Kind::Float)?.f_copy_data(&mut values, count)?;
                Ok(values)
            };
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update(bytemuck::cast_slice(&flat().map_err(TrainError::torch("comparing weights"))?));
        }
        let digest = hash.finalize();
        let word = digest.iter().take(8).fold(0u64, |word, &byte| word << 8 | u64::from(byte));
        Ok((word >> 1) as i64)
    }
}

/// The numbers of all ranks, rank by rank.
fn everyones(group: &Group, own: &[i64]) -> Result<Vec<i64>, TrainError> {
    let (rank, size) = (group.rank(), group.size());
    let mut all = vec![0i64; own.len() * size];
    all[rank * own.len()..(rank + 1) * own.len()].copy_from_slice(own);
    let torch = |source| TrainError::torch("comparing the ranks")(source);
    let all = Tensor::f_from_slice(&all).and_then(|all| all.f_to(group.device())).map_err(torch)?;
    group.all_reduce_sum(&[all.shallow_clone()])?;
    Vec::try_from(all).map_err(torch)
}

/// Sorts names about as forward uses them: the image tower before the text tower, blocks by number.
fn forward_order(name: &str) -> (bool, String) {
    let (mut key, mut digits) = (String::new(), String::new());
    for letter in name.chars().chain([' ']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        if !digits.is_empty() {
            key.push_str(&format!("{digits:0>6}"));
            digits.clear();
        }
        key.push(letter);
    }
    (!name.starts_with("visual."), key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_sorted_by_number_and_towers_apart() {
        let mut names = [
            "transformer.resblocks.10.ln_1.weight",
            "visual.transformer.resblocks.2.ln_1.weight",
            "transformer.resblocks.9.ln_1.weight",
            "visual.transformer.resblocks.11.ln_1.weight",
        ];
        names.sort_by_key(|name| forward_order(name));
        assert_eq!(names.map(|name| name.len()), [42, 43, 35, 36]);
    }
}
