//! Maxima that no longer stand: which they are, what stored matches say of them, and which are left over for a pass over vectors.
//!
//! Which are cleared and which are left over follows from the state, which is the same in all processes; each asks the matches of its own shards.

use std::collections::{BTreeMap, BTreeSet};

use super::IncrementalError;
use super::answers::{offer_kept, offer_rows, peak_rows};
use super::point_set::NOTHING;
use super::refresh::{Polarity, Refresh};
use super::world::World;
use trommel_core::peak::offer;
use trommel_core::sample::SampleId;

/// Places of one benchmark whose maxima were cleared.
struct Cleared {
    /// Points whose maximum over the pool must be found anew.
    pool: BTreeSet<usize>,
    /// The same over the samples that a split keeps, by the split's bit.
    kept: BTreeMap<u8, BTreeSet<usize>>,
    /// Points whose maximum over the pool or over any split must be found anew.
    asked: BTreeSet<usize>,
}

/// Whether a sample is one of a shard that stays.
fn stays(stay: &[u64], sample: SampleId) -> bool {
    stay.binary_search(&sample.ordinal).is_ok()
}

impl Refresh<'_> {
    /// Clears peaks that no longer stand, finds what can be found among stored matches, and gives the places left over, by benchmark.
    ///
    /// # Errors
    /// Matches that cannot be read, here or in another process.
    pub(super) fn stale(
        &mut self,
        splits: &[Polarity],
        stay: &[u64],
    ) -> Result<BTreeMap<u32, BTreeSet<usize>>, IncrementalError> {
        if stay.is_empty() {
            self.next.pool.values_mut().flatten().for_each(|peak| *peak = NOTHING);
            self.next.kept.values_mut().flat_map(|peaks| peaks.values_mut()).flatten().for_each(|peak| *peak = NOTHING);
            return Ok(BTreeMap::new());
        }
        let cleared = self.clear(splits, stay);
        if cleared.is_empty() {
            return Ok(BTreeMap::new());
        }
        let asked = self.ask(&cleared, splits, stay);
        let World { pool, kept, .. } = &mut *self.next;
        let is_asked = |id: u32| cleared.contains_key(&id);
        let rows = |(): &()| {
            let of_split = |(bit, peaks): (&u8, _)| (*bit, peak_rows(peaks, is_asked));
            (peak_rows(pool, is_asked), kept.iter().map(of_split).collect::<BTreeMap<_, _>>())
        };
        let ((), others) = self.round.share("matches", asked, rows)?;
        for (of_pool, of_kept) in others {
            offer_rows(pool, of_pool);
            offer_kept(kept, of_kept);
        }
        Ok(self.left_over(&cleared, splits, stay))
    }

    /// Clears what does not stand; benchmarks of which all stands are not among the answers.
    fn clear(&mut self, splits: &[Polarity], stay: &[u64]) -> BTreeMap<u32, Cleared> {
        let World { pool, kept, shards, .. } = &mut *self.next;
        let mut all = BTreeMap::new();
        for (&id, pool) in pool {
            let fresh: BTreeSet<usize> =
                self.shifts.get(&id).map_or(BTreeSet::new(), |shift| shift.fresh.iter().copied().collect());
            let mut of_pool = BTreeSet::new();
            for (place, peak) in pool.iter_mut().enumerate().filter(|(_, peak)| !stays(stay, peak.1)) {
                *peak = NOTHING;
                of_pool.insert(place);
            }
            let (mut asked, mut of_kept) = (of_pool.clone(), BTreeMap::new());
            for &(bit, keeps) in splits {
                let is_new = !self.old.kept.contains_key(&bit);
                let mut gone = BTreeSet::new();
                let peaks = kept.get_mut(&bit).and_then(|peaks| peaks.get_mut(&id));
                for (place, peak) in peaks.into_iter().flatten().enumerate() {
                    // No kept sample before: only newly kept ones can change that, and they are offered.
                    let stands = !is_new && !fresh.contains(&place) && peak.1 == NOTHING.1;
                    let holds = stays(stay, peak.1) && World::keeps(&shards[&peak.1.ordinal], bit, keeps, peak.1.index);
                    if !holds && !stands {
                        *peak = NOTHING;
                        gone.insert(place);
                    }
                }
                asked.extend(&gone);
                of_kept.insert(bit, gone);
            }
            if !asked.is_empty() {
                all.insert(id, Cleared { pool: of_pool, kept: of_kept, asked });
            }
        }
        all
    }

    /// Offers the stored matches of this process's shards.
    fn ask(
        &mut self,
        cleared: &BTreeMap<u32, Cleared>,
        splits: &[Polarity],
        stay: &[u64],
    ) -> Result<(), IncrementalError> {
        let World { pool, kept, shards, cuts, .. } = &mut *self.next;
        for (id, Cleared { asked, .. }) in cleared {
            let numbers = &cuts.benchmarks[id].points.numbers;
            for ordinal in stay.iter().filter(|ordinal| self.round.owns(**ordinal)) {
                let live = &shards[ordinal];
                let Some(part) = live.matches.get(id) else { continue };
                let matches = part.load()?;
                for &place in asked {
                    for (index, s) in matches.of_point(numbers[place]) {
                        let peak = (s, SampleId { ordinal: *ordinal, index });
                        if let Some(pool) = pool.get_mut(id) {
                            offer(&mut pool[place], peak);
                        }
                        for (bit, keeps) in splits {
                            let peaks = kept.get_mut(bit).and_then(|peaks| peaks.get_mut(id));
                            if let Some(peaks) = peaks.filter(|_| World::keeps(live, *bit, *keeps, index)) {
                                offer(&mut peaks[place], peak);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes the pool's peaks where they are kept, and gives the places for which that is not known.
    fn left_over(
        &mut self,
        cleared: &BTreeMap<u32, Cleared>,
        splits: &[Polarity],
        stay: &[u64],
    ) -> BTreeMap<u32, BTreeSet<usize>> {
        let World { pool, kept, shards, .. } = &mut *self.next;
        let mut left = BTreeMap::new();
        for (&id, cleared) in cleared {
            let pool = &pool[&id];
            let mut open: BTreeSet<usize> =
                cleared.pool.iter().copied().filter(|&place| pool[place] == NOTHING).collect();
            for &(bit, keeps) in splits {
                let Some(peaks) = kept.get_mut(&bit).and_then(|peaks| peaks.get_mut(&id)) else { continue };
                for &place in cleared.kept.get(&bit).into_iter().flatten() {
                    if peaks[place] != NOTHING {
                        continue;
                    }
                    let (s, sample) = pool[place];
                    let known = !open.contains(&place) && stays(stay, sample);
                    if known && World::keeps(&shards[&sample.ordinal], bit, keeps, sample.index) {
                        peaks[place] = (s, sample);
                    } else {
                        open.insert(place);
                    }
                }
            }
            if !open.is_empty() {
                left.insert(id, open);
            }
        }
        left
    }
}
