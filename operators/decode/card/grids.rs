//! Which descriptors share a launch, so that few blocks are launched for nothing.
//!
//! A launch has one grid for all of its pictures (or views): as wide and as high as the largest of them, once for each. With one large
//! picture among small ones nearly all blocks would find nothing to do, and each still reads its descriptor. So descriptors that lie one
//! after the other, small ones first, are cut into runs of like size, and each run is a launch of its own.
//!
//! What holds: no run has more than [`MOST_FOR_ONE`] blocks for each that has work, and descriptors of one size are one run.

use std::ops::Range;

/// Threads of a block, as the kernels count on.
pub(super) const BLOCK: u32 = 128;

/// Most blocks that are launched for each that has work. Fewer would mean more launches, of which each costs some microseconds.
const MOST_FOR_ONE: u64 = 2;

/// What a descriptor asks for: columns, a thread each, and rows, a block high each.
pub(super) type Extent = [u32; 2];

/// Blocks in a row of a grid, and rows.
fn grid(extent: Extent) -> [u32; 2] {
    [extent[0].div_ceil(BLOCK), extent[1]]
}

/// Blocks that have work.
pub(super) fn blocks(extent: Extent) -> u64 {
    let [across, down] = grid(extent);
    u64::from(across) * u64::from(down)
}

/// Descriptors that lie one after the other, and the blocks of each: across and down.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub descriptors: Range<usize>,
    pub grid: [u32; 2],
}

/// Cuts descriptors into runs, in the order in which they lie. Runs without any block are left out.
pub(super) fn runs(extents: impl Iterator<Item = Extent>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut with_work = 0;
    for (at, extent) in extents.enumerate() {
        let ([across, down], own) = (grid(extent), blocks(extent));
        if let Some(run) = runs.last_mut() {
            let both = [run.grid[0].max(across), run.grid[1].max(down)];
            let launched = u64::from(both[0]) * u64::from(both[1]) * (run.descriptors.len() as u64 + 1);
            if launched <= MOST_FOR_ONE * (with_work + own) {
                (run.grid, run.descriptors.end, with_work) = (both, at + 1, with_work + own);
                continue;
            }
        }
        runs.push(Run { descriptors: at..at + 1, grid: [across, down] });
        with_work = own;
    }
    runs.retain(|run| !run.grid.contains(&0));
    runs
}

#[cfg(test)]
mod tests {
    use trommel_core::hash::Hash64;

    use super::*;

    fn launched(runs: &[Run]) -> u64 {
        let of =
            |run: &Run| run.grid.iter().map(|&side| u64::from(side)).product::<u64>() * run.descriptors.len() as u64;
        runs.iter().map(of).sum()
    }

    #[test]
    fn one_size_is_one_run() {
        let found = runs([[400, 350]; 256].into_iter());
        assert_eq!(found, [Run { descriptors: 0..256, grid: [4, 350] }]);
        assert_eq!(runs([].into_iter()), []);
    }

    #[test]
    fn a_large_one_has_a_grid_of_its_own() {
        let mut extents = vec![[400, 350]; 255];
        extents.push([4000, 3000]);
        let found = runs(extents.into_iter());
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], Run { descriptors: 255..256, grid: [32, 3000] });
        assert_eq!(launched(&found), 255 * 4 * 350 + 32 * 3000);
    }

    #[test]
    fn lying_and_standing_pictures_are_one_run() {
        let extents = (0..256).map(|at| if at % 2 == 0 { [640, 480] } else { [480, 640] });
        assert_eq!(runs(extents), [Run { descriptors: 0..256, grid: [5, 640] }]);
    }

    /// Nobody looks at some of them.
    #[test]
    fn what_asks_for_nothing_is_not_launched() {
        assert_eq!(runs([[0, 0], [0, 0], [0, 7]].into_iter()), []);
        let found = runs([[0, 0], [0, 0], [9, 9]].into_iter());
        assert_eq!(found, [Run { descriptors: 2..3, grid: [1, 9] }]);
    }

    #[test]
    fn few_blocks_are_idle_whatever_the_sizes() {
        for seed in 0..200 {
            let random = |at: u64, most: u32| {
                let bits = Hash64::new("extent").word(seed).word(at).finish();
                // As many small ones as large ones.
                ((bits >> 8) as u32 % most) >> (bits % 14)
            };
            let extents: Vec<Extent> =
                (0..256).map(|at| [random(2 * at, 20_000), random(2 * at + 1, 20_000)]).collect();
            let mut sorted = extents.clone();
            sorted.sort_by_key(|&extent| blocks(extent));
            for extents in [extents, sorted] {
                let found = runs(extents.iter().copied());
                let work: u64 = extents.iter().map(|&extent| blocks(extent)).sum();
                assert!(launched(&found) <= MOST_FOR_ONE * work, "seed {seed}");
                let covers = |at: usize| {
                    let [across, down] = grid(extents[at]);
                    let mut over = found.iter().filter(|run| run.descriptors.contains(&at));
                    let fits = over.next().is_some_and(|run| run.grid[0] >= across && run.grid[1] >= down);
                    over.next().is_none() && (fits || blocks(extents[at]) == 0)
                };
                assert!((0..extents.len()).all(covers), "seed {seed}");
            }
        }
    }
}
