//! Rows of stored embeddings that nobody is to see: samples that are taken down, whose vectors still lie in their files.

use std::collections::{HashMap, HashSet};

use super::embedding_batch::EmbeddingBatch;

/// Rows that are left out, by the names of their shards and their raw indices there. A row of which the file does not say both stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut(HashMap<String, HashSet<u32>>);

impl LeftOut {
    /// Leaves out a row.
    pub fn add(&mut self, shard: &str, index: u32) {
        match self.0.get_mut(shard) {
            Some(rows) => _ = rows.insert(index),
            None => _ = self.0.insert(shard.to_owned(), HashSet::from([index])),
        }
    }

    /// Takes the rows out of a batch of vectors of `dim` elements, and says how many there were.
    pub(super) fn take_from(&self, batch: &mut EmbeddingBatch, dim: usize) -> u64 {
        if self.0.is_empty() {
            return 0;
        }
        let is_left_out = |(shard, index): (&Option<String>, &Option<u32>)| match (shard, index) {
            (Some(shard), Some(index)) => self.0.get(shard).is_some_and(|rows| rows.contains(index)),
            _ => false,
        };
        let goes: Vec<bool> = batch.shards.iter().zip(&batch.indices).map(is_left_out).collect();
        let count = goes.iter().filter(|goes| **goes).count();
        if count == 0 {
            return 0;
        }
        let rows = batch.vectors.chunks_exact(dim).zip(&goes);
        batch.vectors = rows.filter(|(_, goes)| !**goes).flat_map(|(row, _)| row).copied().collect();
        let before = |at: usize| goes[..at].iter().filter(|goes| **goes).count();
        batch.bad = batch.bad.iter().filter(|(at, _)| !goes[*at]).map(|(at, why)| (at - before(*at), *why)).collect();
        stay(&mut batch.keys, &goes);
        stay(&mut batch.labels, &goes);
        stay(&mut batch.shards, &goes);
        stay(&mut batch.indices, &goes);
        stay(&mut batch.radii, &goes);
        let details = &mut batch.details;
        for column in [&mut details.uids, &mut details.urls, &mut details.sha256s, &mut details.captions] {
            stay(column, &goes);
        }
        count as u64
    }
}

/// Takes out of a column what goes; a column that the file has not is empty.
fn stay<T>(column: &mut Vec<T>, goes: &[bool]) {
    let mut goes = goes.iter();
    column.retain(|_| !goes.next().copied().unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::super::canonical::NoDirection;
    use super::*;

    #[test]
    fn all_columns_lose_the_same_rows() {
        let all = ["a0", "a1", "b0", "b1", "none"];
        let mut batch = EmbeddingBatch {
            vectors: (0..10u8).map(|x| f16::from_f32(f32::from(x))).collect(),
            keys: all.map(String::from).into(),
            labels: all.map(|key| Some(key.to_uppercase())).into(),
            shards: [Some("a"), Some("a"), Some("b"), Some("b"), None].map(|name| name.map(String::from)).into(),
            indices: vec![Some(0), Some(1), Some(0), Some(1), Some(0)],
            bad: vec![(1, NoDirection::Zero), (3, NoDirection::Zero)],
            ..EmbeddingBatch::default()
        };
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.take_from(&mut batch, 2), 0);
        for (shard, index) in [("a", 0), ("b", 1), ("c", 0), ("a", 7)] {
            left_out.add(shard, index);
        }
        assert_eq!(left_out.take_from(&mut batch, 2), 2);
        assert_eq!(batch.keys, ["a1", "b0", "none"]);
        assert_eq!(batch.labels, ["A1", "B0", "NONE"].map(|key| Some(key.to_owned())));
        assert_eq!(batch.indices, [Some(1), Some(0), Some(0)]);
        assert_eq!(batch.vectors, [2.0, 3.0, 4.0, 5.0, 8.0, 9.0].map(f16::from_f32));
        assert_eq!((batch.bad, batch.radii.len()), (vec![(0, NoDirection::Zero)], 0));
    }
}
