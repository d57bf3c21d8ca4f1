//! The parts of a state that no shard owns: points, cuts, maxima, takedown lists. The state itself holds these in memory; the files are for the
//! next opening only, so nobody who reads an older epoch needs them, and they go as soon as a newer epoch is durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::IncrementalError;
use super::inputs::Points;
use super::parts::{PartStore, StoredTable};
use super::point_set::Peak;
use super::rows::{CutRows, KeyRows, PeakRows, StoredPoint, StoredPoints, TakenRows};
use super::world::{Peaks, World};

/// Parts of maxima by benchmark.
type PeakParts = BTreeMap<u32, Arc<StoredTable<PeakRows>>>;

/// The parts of one state.
#[derive(Clone, Debug, Default)]
pub(super) struct Filed {
    /// Samples taken down; none at first.
    pub(super) taken: Option<Arc<StoredTable<TakenRows>>>,
    /// Keys taken down; none at first.
    pub(super) taken_keys: Option<Arc<StoredTable<KeyRows>>>,
    /// By lasting number of the benchmark.
    pub(super) points: BTreeMap<u32, Arc<StoredTable<StoredPoints>>>,
    /// By lasting number of the benchmark.
    pub(super) cuts: BTreeMap<u32, Arc<StoredTable<CutRows>>>,
    /// Maxima over all samples.
    pub(super) pool: PeakParts,
    /// Maxima over the kept samples, by split bit.
    pub(super) kept: BTreeMap<u8, PeakParts>,
}

fn same_cuts(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn same_peaks(a: &[Peak], b: &[Peak]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a.0.to_bits(), a.1) == (b.0.to_bits(), b.1))
}

fn point_rows(points: &Points) -> StoredPoints {
    let of = &points.benchmark;
    let row = |(place, &number): (usize, &u32)| StoredPoint {
        number,
        key: of.keys[place].clone(),
        label: of.labels[place].clone(),
        vector: of.vector(place).to_vec(),
    };
    StoredPoints(points.numbers.iter().enumerate().map(row).collect())
}

impl Filed {
    /// The parts of the next state: those of the old one where nothing differs, and new ones.
    ///
    /// # Errors
    /// If one cannot be written.
    pub(super) fn after(&self, part_store: &PartStore, old: &World, next: &World) -> Result<Self, IncrementalError> {
        let mut filed = Self { taken: self.taken.clone(), taken_keys: self.taken_keys.clone(), ..Self::default() };
        let (was, is) = (&old.inputs, &next.inputs);
        if !Arc::ptr_eq(&was.taken, &is.taken) {
            filed.taken = Some(part_store.put(0, 0, TakenRows(is.taken.iter().copied().collect()))?);
        }
        if !Arc::ptr_eq(&was.taken_keys, &is.taken_keys) {
            filed.taken_keys = Some(part_store.put(0, 0, KeyRows(is.taken_keys.iter().cloned().collect()))?);
        }
        for points in &is.benchmarks {
            let id = points.id;
            let before = was.benchmarks.iter().find(|before| before.id == id);
            let same = before.is_some_and(|before| Arc::ptr_eq(&before.numbers, &points.numbers));
            let part = match self.points.get(&id).filter(|_| same) {
                Some(part) => part.clone(),
                None => part_store.put(0, id, point_rows(points))?,
            };
            filed.points.insert(id, part);
            let radii = points.benchmark.radii.as_ref();
            let same_radii = before.is_some_and(|before| match (&before.benchmark.radii, radii) {
                (Some(was), Some(is)) => same_cuts(was, is),
                (was, is) => was.is_none() && is.is_none(),
            });
            let floors = next.floors.get(&id).map_or(&[][..], |floors| floors);
            let same = same_radii && old.floors.get(&id).is_some_and(|was| same_cuts(was, floors));
            let part = match self.cuts.get(&id).filter(|_| same) {
                Some(part) => part.clone(),
                None => {
                    let radius = |place: usize| radii.map(|radii| radii[place]);
                    let rows = floors.iter().enumerate().map(|(place, &floor)| (radius(place), floor));
                    part_store.put(0, id, CutRows(rows.collect()))?
                }
            };
            filed.cuts.insert(id, part);
        }
        filed.pool = peaks(part_store, 0, &self.pool, &old.pool, &next.pool)?;
        let (no_parts, no_peaks) = (PeakParts::new(), Peaks::new());
        for (&bit, kept) in &next.kept {
            let held = self.kept.get(&bit).unwrap_or(&no_parts);
            let before = old.kept.get(&bit).unwrap_or(&no_peaks);
            filed.kept.insert(bit, peaks(part_store, bit.into(), held, before, kept)?);
        }
        Ok(filed)
    }

    /// The files outlive this process, or no longer do.
    pub(super) fn set_lasting(&self, lasting: bool) {
        self.taken.iter().for_each(|part| part.set_lasting(lasting));
        self.taken_keys.iter().for_each(|part| part.set_lasting(lasting));
        self.points.values().for_each(|part| part.set_lasting(lasting));
        self.cuts.values().for_each(|part| part.set_lasting(lasting));
        self.pool.values().for_each(|part| part.set_lasting(lasting));
        self.kept.values().flat_map(BTreeMap::values).for_each(|part| part.set_lasting(lasting));
    }
}

fn peaks(
    part_store: &PartStore,
    number: u64,
    held: &PeakParts,
    old: &Peaks,
    next: &Peaks,
) -> Result<PeakParts, IncrementalError> {
    let one = |(&id, peaks): (&u32, &Vec<Peak>)| {
        let same = old.get(&id).is_some_and(|was| same_peaks(was, peaks));
        let part = match held.get(&id).filter(|_| same) {
            Some(part) => part.clone(),
            None => part_store.put(number, id, PeakRows(peaks.clone()))?,
        };
        Ok((id, part))
    };
    next.iter().map(one).collect()
}
