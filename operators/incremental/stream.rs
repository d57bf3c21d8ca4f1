//! A shard's vectors in chunks that fit the products' memory; and how scores and maxima of several chunks or points are put together.

use half::f16;

use super::IncrementalError;
use super::damage::RowsError;
use super::embeddings::Embeddings;
use super::inputs::ShardInput;
use super::point_set::{Chunk, Peak};
use super::tables::Scores;
use super::world::Peaks;
use trommel_core::peak::offer;
use trommel_core::sample::{SampleId, Score};

/// Bytes of products held at once.
const BLOCK_BYTES: usize = 64 << 20;

/// Streams the vectors of a shard in chunks that fit the point sets.
pub(super) fn stream(
    embeddings: &dyn Embeddings,
    (ordinal, input): (u64, &ShardInput),
    (dim, points): (usize, usize),
    mut each: impl FnMut(&Chunk) -> Result<(), IncrementalError>,
) -> Result<(), IncrementalError> {
    let most = (BLOCK_BYTES / (4 * points.max(1))).clamp(1, 256);
    let (mut chunk, mut seen) = (Chunk::new(dim), 0u64);
    let bad = |what| Err(IncrementalError::Embeddings { ordinal, what });
    embeddings.visit(ordinal, input.generation, &mut |index: u32, vector: &[f16]| {
        if !input.is_judged(index) {
            return bad(RowsError::NotJudged(index));
        }
        if chunk.ids.last().is_some_and(|last| last.index >= index) {
            return bad(RowsError::OutOfOrder(index));
        }
        if !chunk.push(SampleId { ordinal, index }, vector) {
            return bad(RowsError::NoUnit { index, dim });
        }
        seen += 1;
        if chunk.ids.len() == most {
            let full = std::mem::replace(&mut chunk, Chunk::new(dim));
            each(&full)?;
        }
        Ok(())
    })?;
    if seen != input.judged() {
        return bad(RowsError::Count { found: seen, due: input.judged() });
    }
    if chunk.ids.is_empty() { Ok(()) } else { each(&chunk) }
}

/// Takes the better of two scores: larger, of equal ones the smaller number.
pub(super) fn take_better(held: &mut Score, other: &Score) {
    let better = |a: Option<f64>, i: Option<u32>, b: Option<f64>, j: Option<u32>| match (a, b) {
        (Some(a), Some(b)) => b > a || (b == a && j < i),
        (None, Some(_)) => true,
        _ => false,
    };
    if better(held.max_similarity, held.nearest, other.max_similarity, other.nearest) {
        (held.max_similarity, held.nearest) = (other.max_similarity, other.nearest);
    }
    if better(held.margin, held.exceeds, other.margin, other.exceeds) {
        (held.margin, held.exceeds) = (other.margin, other.exceeds);
    }
}

/// Scores over more points.
pub(super) fn merged(old: Option<&Scores>, fresh: Vec<(u32, Score)>) -> Scores {
    let Some(old) = old else { return Scores { rows: fresh } };
    let mut rows = old.rows.clone();
    for (held, (_, other)) in rows.iter_mut().zip(fresh) {
        take_better(&mut held.1, &other);
    }
    Scores { rows }
}

/// Adds differences of hits.
pub(super) fn add_hits(scores: &mut Scores, changes: &[(u32, i32)]) {
    for &(index, diff) in changes {
        if let Ok(at) = scores.rows.binary_search_by_key(&index, |row| row.0) {
            let hits = &mut scores.rows[at].1.hits;
            *hits = hits.map(|hits| hits.saturating_add_signed(diff));
        }
    }
}

/// Offers all peaks to others.
pub(super) fn merge_peaks(into: &mut Peaks, from: &Peaks) {
    for (id, peaks) in from {
        if let Some(held) = into.get_mut(id) {
            held.iter_mut().zip(peaks).for_each(|(held, peak): (&mut Peak, &Peak)| offer(held, *peak));
        }
    }
}
