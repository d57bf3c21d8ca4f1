//! What each test point sees of the samples that a split keeps: the largest similarity and who has it, from stored embeddings. They are joined once
//! more, so that the gap of a pruned set is measured and not inferred from its rule.

use trommel_decide::benchmark::Benchmark;
use trommel_decide::radii::Radii;
use trommel_ledger::read::Ledger;
use trommel_select::membership::{Kept, Membership};

use crate::error::PipelineError;
use crate::failures::failed;

/// What a test point sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeptMaximum {
    /// The largest similarity.
    pub similarity: f64,
    /// The shard of the sample that has it (of equal ones the first), by its place among the given.
    pub shard: usize,
    /// Its place among those that are kept of the shard.
    pub place: usize,
}

/// By benchmark and test point, over whom the split keeps of these shards (names and ordinals); over all that the ledger has without one.
///
/// # Errors
/// Files that cannot be read, a kept sample without an embedding, a set without samples; what `goes_on` says, which is asked before each shard.
pub fn kept_maxima<'n>(
    ledger: &Ledger,
    shards: impl IntoIterator<Item = (&'n str, u64)>,
    split: Option<&Membership>,
    benchmarks: &[Benchmark],
    threads: usize,
    goes_on: &dyn Fn() -> Result<(), PipelineError>,
) -> Result<Vec<Vec<KeptMaximum>>, PipelineError> {
    let mut measured: Vec<Radii<'_>> = benchmarks.iter().map(|benchmark| Radii::new(benchmark, threads)).collect();
    // The number of each shard's first sample.
    let (mut firsts, mut next) = (Vec::new(), 0u64);
    for (name, ordinal) in shards {
        goes_on()?;
        firsts.push(next);
        // Asked shard by shard: a split of a large pool is never in memory whole.
        let mine = match split.map(|split| split.shard(name).map_err(failed)).transpose()? {
            None => None,
            Some(Some(Kept::Rows(rows))) => Some(rows),
            Some(Some(_)) => {
                return Err(PipelineError::failed("the split does not say where its samples stand"));
            }
            Some(None) => continue,
        };
        let (mut places, first) = (mine.iter().flatten().peekable(), next);
        for row in ledger.embeddings(ordinal).map_err(PipelineError::usage)? {
            if mine.is_some() && places.next_if(|kept| kept.index == row.index).is_none() {
                continue;
            }
            measured.iter_mut().try_for_each(|radii| radii.push(&row.vector)).map_err(PipelineError::failed)?;
            next += 1;
        }
        if let Some(kept) = places.next() {
            let (key, came) = (&kept.key, next - first);
            return Err(PipelineError::usage(format!(
                "{name}/{key}: the run has no embedding of this sample, which the split keeps ({came} of the shard have one)"
            )));
        }
    }
    let of = |radii: Radii<'_>| {
        let found = radii.finish().map_err(PipelineError::usage)?;
        let place = |(similarity, number): (f64, u64)| {
            // Shards of which nothing is kept begin where the next one does.
            let shard = firsts.partition_point(|first| *first <= number).saturating_sub(1);
            KeptMaximum { similarity, shard, place: (number - firsts[shard]) as usize }
        };
        Ok(found.radii.into_iter().zip(found.nearest).map(place).collect())
    };
    measured.into_iter().map(of).collect()
}
