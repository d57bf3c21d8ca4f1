//! A shard that was not there: one streamed pass against all points gives its matches, scores, maxima and facts.
//!
//! Its samples are decided on the way, as the facts will decide them, because the maxima among the kept need that while the products are at hand:
//! nothing is computed twice, and the vectors are read once.

use std::collections::BTreeMap;
use std::sync::Arc;

use trommel_kernels::join::Block;

use super::IncrementalError;
use super::cuts::BenchmarkCuts;
use super::delta_join::DeltaJoin;
use super::inputs::ShardInput;
use super::point_set::{NOTHING, PointSet};
use super::stream::stream;
use super::tables::{Matches, Scores};
use super::world::Live;
use trommel_core::sample::{SampleId, Score};

impl DeltaJoin<'_> {
    /// Joins a shard that was not there with all points.
    pub(super) fn arrive(&mut self, ordinal: u64, input: &Arc<ShardInput>) -> Result<(), IncrementalError> {
        let benchmarks: Vec<Arc<BenchmarkCuts>> = self.next.cuts.benchmarks.values().cloned().collect();
        let by_key = self.by_key(ordinal, input)?;
        let taken = self.takedowns(ordinal, input, &by_key);
        self.present(input, 1);
        self.taken(ordinal, &taken, (self.next.cuts.drops, self.next.cuts.keeps), 1)?;
        let point_sets: Vec<Arc<PointSet>> = self.next.point_sets.values().cloned().collect();
        let mut blocks: Vec<Block> = point_sets.iter().map(|_| Block::default()).collect();
        let mut scores: Vec<Scores> = vec![Scores::default(); point_sets.len()];
        let mut matches: Vec<Vec<(u32, u32, f64)>> = vec![Vec::new(); point_sets.len()];
        let points = point_sets.iter().map(|point_set| point_set.places.len()).sum();
        let dim = benchmarks.first().map_or(0, |benchmark_cuts| benchmark_cuts.points.benchmark.dim);
        let splits: Vec<(u8, bool)> = self.next.inputs.splits.values().map(|split| (split.bit, split.keeps)).collect();
        if !point_sets.is_empty() {
            stream(self.embeddings, (ordinal, input), (dim, points), |chunk| {
                let mut marks = vec![0u32; chunk.ids.len()];
                for (at, point_set) in point_sets.iter().enumerate() {
                    point_set.fill(&mut blocks[at], chunk, self.threads);
                    let fresh = point_set.scores(&blocks[at], chunk, self.threads);
                    for (row, (id, score)) in chunk.ids.iter().zip(fresh).enumerate() {
                        marks[row] |= marked(&benchmarks[at], &score);
                        scores[at].rows.push((id.index, score));
                    }
                    let (floors, most) = (&self.next.floors[&point_set.id], self.budget.room_for_matches());
                    for (number, row, s) in point_set.matches(&blocks[at], chunk, floors, (self.threads, most)) {
                        self.budget.spend_match()?;
                        matches[at].push((number, chunk.ids[row].index, s));
                    }
                }
                for (row, id) in chunk.ids.iter().enumerate() {
                    if taken.binary_search(&id.index).is_ok() {
                        marks[row] = (marks[row] | self.next.cuts.drops) & !self.next.cuts.keeps;
                    }
                }
                let rows: BTreeMap<u32, u32> = chunk.ids.iter().map(|id| id.index).zip(marks).collect();
                for (at, point_set) in point_sets.iter().enumerate() {
                    let places = point_set.places.len();
                    let pool = self.arrived.0.entry(point_set.id).or_insert_with(|| vec![NOTHING; places]);
                    point_set.raise(&blocks[at], chunk, |_| true, pool, self.threads);
                    for &(bit, keeps) in &splits {
                        let peaks = self.arrived.1.entry(bit).or_default();
                        let peaks = peaks.entry(point_set.id).or_insert_with(|| vec![NOTHING; places]);
                        let takes = |id: SampleId| (rows[&id.index] >> bit & 1 == 1) == keeps;
                        point_set.raise(&blocks[at], chunk, takes, peaks, self.threads);
                    }
                }
                Ok(())
            })?;
        }
        let mut live = Live::bare(input.clone());
        (live.taken, live.taken_by_key) = (Arc::new(taken), Arc::new(by_key));
        for (benchmark_cuts, (scores, matches)) in benchmarks.iter().zip(scores.into_iter().zip(matches)) {
            let matches = Matches::of(matches);
            for (number, index, s) in matches.by_point() {
                let Some(place) = benchmark_cuts.points.place(number) else { continue };
                for hit in benchmark_cuts.hits(SampleId { ordinal, index }, place, s) {
                    self.hit(hit, s, 1)?;
                }
            }
            let id = benchmark_cuts.points.id;
            live.matches.insert(id, self.part_store.put(ordinal, id, matches)?);
            live.scores.insert(id, self.part_store.put(ordinal, id, scores)?);
        }
        self.next.shards.insert(ordinal, Arc::new(live));
        Ok(())
    }
}

/// Splits in which a score marks its sample.
fn marked(benchmark_cuts: &BenchmarkCuts, score: &Score) -> u32 {
    let of = benchmark_cuts.thresholds.iter().filter(|threshold| threshold.cut.is_met(score) == Some(true));
    of.fold(0, |mask, threshold| mask | threshold.drops | threshold.keeps)
}
