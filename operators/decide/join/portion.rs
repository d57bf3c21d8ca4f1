//! As many rows as a kernel takes at once: their scores, the verdict, and then what the points of their shards have seen.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;

use half::f16;

use super::{JoinRow, Joined, Joiner, Verdict};
use crate::join_config::{ColumnSet, Needs};
use crate::kernel::{Kernel, KernelError, Portion, Reach, RowSink};
use crate::scan::{Bounds, Prepared, Tally};

impl Joiner {
    fn needs(&self, verdict: &dyn Verdict, benchmark: usize) -> Needs {
        let radii = self.benchmarks[benchmark].radii.is_some();
        match self.config.columns {
            ColumnSet::All => Needs { maximum: true, radii },
            ColumnSet::Decision => {
                let needs = verdict.needs(benchmark);
                Needs { maximum: needs.maximum, radii: needs.radii && radii }
            }
        }
    }

    pub(super) fn join_portion(
        &self,
        kernel: &dyn Kernel,
        rows: &[JoinRow<'_>],
        norms: &[f64],
        verdict: &dyn Verdict,
    ) -> Result<Vec<Joined>, KernelError> {
        let needs: Vec<Needs> = (0..self.benchmarks.len()).map(|at| self.needs(verdict, at)).collect();
        let Shards { order, groups } = Shards::of(rows);
        let vectors: Vec<&[f16]> = order.iter().map(|&at| rows[at].vector).collect();
        let mut products = kernel.multiply(Portion { vectors: &vectors, groups: &groups, needs: &needs })?;
        let bounds_of = |(at, prepared): (usize, &Prepared)| -> Vec<Bounds> {
            let special = products.error_bound(at);
            let bound = |row: f64, point: f64| special.unwrap_or_else(|| kernel.error_bound(row, point));
            order.iter().map(|&at| prepared.bounds(norms[at], bound)).collect()
        };
        let bounds: Vec<Vec<Bounds>> = self.prepared.iter().enumerate().map(bounds_of).collect();
        let tops = products.row_tops()?;
        let tally = |at: usize, row: usize| {
            let mut tally = Tally::new(needs[at], bounds[at][row], tops[at][row]);
            let (nearest, exceeds) = products.top_points(at, row);
            tally.look_first(vectors[row], &self.benchmarks[at], nearest, exceeds);
            tally
        };
        let tallies: Vec<Vec<Tally>> =
            (0..needs.len()).map(|at| (0..rows.len()).map(|row| tally(at, row)).collect()).collect();
        let reach: Vec<Vec<Reach>> = tallies.iter().map(|rows| rows.iter().map(Tally::reach).collect()).collect();
        let asks: Vec<bool> = groups.iter().map(|group| rows[order[group.start]].points.is_some()).collect();
        let mut tallying =
            Tallying { joiner: self, vectors: &vectors, groups: &groups, asks: &asks, tallies, hits: BTreeMap::new() };
        products.rows_reaching(&reach, &mut tallying)?;
        let Tallying { tallies, hits, .. } = tallying;

        let mut joined = vec![Joined { scores: Vec::new(), keeps: false }; rows.len()];
        for (row, &at) in order.iter().enumerate() {
            joined[at].scores = tallies.iter().map(|tallies| tallies[row].score()).collect();
        }
        // The verdict is the last that may panic; what follows is seen by the points.
        for (row, joined) in rows.iter().zip(&mut joined) {
            joined.keeps = verdict.keeps(row.shard, row.key, row.id, &joined.scores);
        }
        let mut confirmed: u64 = tallies.iter().flatten().map(|tally| tally.confirmed).sum();
        if self.config.columns == ColumnSet::All {
            let kept: Vec<bool> = order.iter().map(|&at| joined[at].keeps).collect();
            let sorted: Vec<&JoinRow<'_>> = order.iter().map(|&at| &rows[at]).collect();
            for group in &groups {
                confirmed += self.show(&mut *products, group.clone(), &sorted, &kept, &bounds)?;
            }
        }
        // Last, since sums cannot be shown twice, and what a kernel has failed in is done again.
        for ((at, group), counts) in hits {
            let Some(points) = rows[order[groups[group].start]].points else { continue };
            for (sum, count) in points.columns()[at].hits.iter_mut().zip(counts) {
                *sum += u64::from(count);
            }
        }
        let pairs = self.benchmarks.iter().zip(&needs).filter(|(_, needs)| needs.any());
        let points: u64 = pairs.map(|(benchmark, _)| benchmark.points() as u64).sum();
        self.counters.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
        self.counters.pairs.fetch_add(rows.len() as u64 * points, Ordering::Relaxed);
        self.counters.confirmed.fetch_add(confirmed, Ordering::Relaxed);
        Ok(joined)
    }
}

/// Rows in the order of their shards.
struct Shards {
    /// Where each stood.
    order: Vec<usize>,
    /// Neighbours of one shard.
    groups: Vec<Range<usize>>,
}

impl Shards {
    fn of(rows: &[JoinRow<'_>]) -> Self {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&at| rows[at].id.ordinal);
        let mut groups = Vec::new();
        for group in order.chunk_by(|&a, &b| rows[a].id.ordinal == rows[b].id.ordinal) {
            let start = groups.last().map_or(0, |last: &Range<usize>| last.end);
            groups.push(start..start + group.len());
        }
        Self { order, groups }
    }
}

/// Confirms what a kernel lists.
struct Tallying<'a> {
    joiner: &'a Joiner,
    vectors: &'a [&'a [f16]],
    groups: &'a [Range<usize>],
    /// Whether somebody asks what the points of a group's shard see.
    asks: &'a [bool],
    tallies: Vec<Vec<Tally>>,
    hits: Hits,
}

/// Hits of each point by benchmark and group, where there are any.
type Hits = BTreeMap<(usize, usize), Vec<u32>>;

/// Where those of one group are counted.
fn counted_in(hits: &mut Hits, benchmark: usize, group: usize, points: usize) -> &mut [u32] {
    hits.entry((benchmark, group)).or_insert_with(|| vec![0; points])
}

impl RowSink for Tallying<'_> {
    fn listed(&mut self, at: usize, row: usize, points: &[(u32, f32)]) {
        let (benchmark, prepared) = (&self.joiner.benchmarks[at], &self.joiner.prepared[at]);
        let group = self.groups.partition_point(|group| group.end <= row);
        let (asks, tally, hits) = (self.asks[group], &mut self.tallies[at][row], &mut self.hits);
        tally.take(self.vectors[row], benchmark, prepared, points, |point| {
            if asks {
                counted_in(hits, at, group, benchmark.points())[point] += 1;
            }
        });
    }

    fn counted(&mut self, at: usize, row: usize, hits: u32) {
        self.tallies[at][row].count(hits);
    }

    fn hits(&mut self, at: usize, group: usize) -> Option<&mut [u32]> {
        let points = self.joiner.benchmarks[at].points();
        self.asks[group].then(|| counted_in(&mut self.hits, at, group, points))
    }
}
