//! What is written down of a state: only names, numbers and the records of parts. One form serves for the difference between two states
//! and for a whole one, which is the difference from nothing; differences taken one after the other give the whole again.
//!
//! Not written down, because it follows from the rest: marks, tallies, hits, cuts, point sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::filed::Filed;
use super::inputs::{Points, ShardInput, Split};
use super::parts::{PartRecord, PartStore, StoredTable};
use super::tables::Table;
use super::world::{Live, World};
use super::{Epoch, IncrementalError};
use trommel_core::sample::Identity;
use trommel_decide::rule::Rule;

/// Version of the journal and of the parts that it names.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// One line of the journal: an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EpochLine {
    /// Schema version.
    pub(super) schema: u32,
    /// Number of the epoch, from 1.
    pub(super) epoch: Epoch,
    /// Whether it is the difference from nothing: the first line of a file is, and no other.
    pub(super) whole: bool,
    /// Always null: what older programs ask a line for.
    note: (),
    /// What differs from the line before.
    pub(super) delta: Delta,
}

impl EpochLine {
    /// The line of an epoch; `whole` if the difference is one from nothing.
    pub(super) const fn new(epoch: Epoch, whole: bool, delta: Delta) -> Self {
        Self { schema: SCHEMA_VERSION, epoch, whole, note: (), delta }
    }
}

/// What came or changed, by what it goes by; `None` is what went.
pub(super) type Changed<K, V> = BTreeMap<K, Option<V>>;

/// A difference of two states.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delta {
    /// Number of the next benchmark.
    pub(super) next_benchmark: u32,
    /// Splits by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) splits: Changed<String, SplitRecord>,
    /// Benchmarks by lasting number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) benchmarks: Changed<u32, BenchmarkRecord>,
    /// Samples taken down by id, if that changed; none at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) taken: Option<PartRecord>,
    /// Keys taken down, if that changed; none at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) taken_keys: Option<PartRecord>,
    /// Shards by ordinal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) shards: Changed<u64, ShardRecord>,
    /// Maxima over all samples, by benchmark.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) pool: Changed<u32, PartRecord>,
    /// Maxima over the kept samples, by split bit and benchmark.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) kept: BTreeMap<u8, Changed<u32, PartRecord>>,
}

/// A split as the journal records it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SplitRecord {
    pub(super) bit: u8,
    /// As it is written on a command line.
    pub(super) rule: String,
    pub(super) keeps: bool,
}

/// A benchmark as the journal records it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BenchmarkRecord {
    pub(super) name: String,
    /// Elements a vector.
    pub(super) dim: usize,
    /// The next point's number.
    pub(super) next: u32,
    /// A count in older journals that nobody asks for.
    #[serde(default, skip_serializing, rename = "renormalised")]
    old_count: IgnoredAny,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<Identity>,
    /// Numbers, keys, labels, vectors.
    pub(super) points: PartRecord,
    /// Radii and floors.
    pub(super) cuts: PartRecord,
}

/// A shard: what differs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShardRecord {
    /// It came, or came anew: nothing before counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<InputRecord>,
    /// Raw indices of judged samples that are taken down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) taken: Option<Vec<u32>>,
    /// Raw indices of those whose key is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) taken_by_key: Option<Vec<u32>>,
    /// Matches by benchmark.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) matches: Changed<u32, PartRecord>,
    /// Scores by benchmark.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) scores: Changed<u32, PartRecord>,
}

/// A shard as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputRecord {
    pub(super) name: String,
    pub(super) generation: u64,
    pub(super) count: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rejected: Vec<u32>,
}

/// What came, changed or went between two maps.
fn changed<K: Ord + Clone, A, V>(
    old: &BTreeMap<K, A>,
    next: &BTreeMap<K, A>,
    differs: impl Fn(&A, &A) -> bool,
    record: impl Fn(Option<&A>, &A) -> V,
) -> Changed<K, V> {
    let gone = old.keys().filter(|key| !next.contains_key(key)).map(|key| (key.clone(), None));
    let come = next.iter().filter_map(|(key, is)| {
        let was = old.get(key);
        was.is_none_or(|was| differs(was, is)).then(|| (key.clone(), Some(record(was, is))))
    });
    gone.chain(come).collect()
}

fn parts<K: Ord + Clone, T: Table>(
    old: &BTreeMap<K, Arc<StoredTable<T>>>,
    next: &BTreeMap<K, Arc<StoredTable<T>>>,
) -> Changed<K, PartRecord> {
    changed(old, next, |was, is| !Arc::ptr_eq(was, is), |_, is| is.record())
}

fn part<T: Table>(old: Option<&Arc<StoredTable<T>>>, next: Option<&Arc<StoredTable<T>>>) -> Option<PartRecord> {
    next.filter(|next| old.is_none_or(|old| !Arc::ptr_eq(old, next))).map(|next| next.record())
}

/// Takes what came later.
fn take<K: Ord, V>(held: &mut Changed<K, V>, later: Changed<K, V>, merge: impl Fn(&mut V, V)) {
    for (key, later) in later {
        match (held.get_mut(&key), later) {
            (_, None) => {
                held.remove(&key);
            }
            (Some(Some(held)), Some(later)) => merge(held, later),
            (_, later) => {
                held.insert(key, later);
            }
        }
    }
}

/// Parts, as their records say.
pub(super) fn follow<T>(
    held: &mut BTreeMap<u32, Arc<StoredTable<T>>>,
    records: &Changed<u32, PartRecord>,
    part: impl Fn(&PartRecord) -> Result<Arc<StoredTable<T>>, IncrementalError>,
) -> Result<(), IncrementalError> {
    for (id, record) in records {
        match record {
            Some(record) => _ = held.insert(*id, part(record)?),
            None => _ = held.remove(id),
        }
    }
    Ok(())
}

fn replace<V>(held: &mut V, later: V) {
    *held = later;
}

impl Delta {
    /// What leads from one state to another.
    ///
    /// # Errors
    /// A rule that would not be the same when read again.
    pub(super) fn between(old: (&World, &Filed), next: (&World, &Filed)) -> Result<Self, IncrementalError> {
        let (from, to) = (&old.0.inputs, &next.0.inputs);
        for split in to.splits.values() {
            if !split.rule.to_string().parse::<Rule>().is_ok_and(|rule| rule == split.rule) {
                return Err(IncrementalError::Unwritable(split.rule.clone()));
            }
        }
        let split =
            |_: Option<&Split>, is: &Split| SplitRecord { bit: is.bit, rule: is.rule.to_string(), keeps: is.keeps };
        let benchmarks = |world: &World, filed: &Filed| -> BTreeMap<u32, BenchmarkRecord> {
            let of = |points: &Arc<Points>| Some((points.id, BenchmarkRecord::of(points, filed)?));
            world.inputs.benchmarks.iter().filter_map(of).collect()
        };
        let bits = old.1.kept.keys().chain(next.1.kept.keys());
        let nothing = BTreeMap::new();
        let kept = |bit: &u8| {
            let [old, next] = [old.1, next.1].map(|filed| filed.kept.get(bit).unwrap_or(&nothing));
            (*bit, parts(old, next))
        };
        Ok(Self {
            next_benchmark: to.next_benchmark,
            splits: changed(&from.splits, &to.splits, PartialEq::ne, split),
            benchmarks: changed(&benchmarks(old.0, old.1), &benchmarks(next.0, next.1), PartialEq::ne, |_, is| {
                is.clone()
            }),
            taken: part(old.1.taken.as_ref(), next.1.taken.as_ref()),
            taken_keys: part(old.1.taken_keys.as_ref(), next.1.taken_keys.as_ref()),
            shards: changed(&old.0.shards, &next.0.shards, ShardRecord::differs, |was, is| {
                ShardRecord::between(was, is)
            }),
            pool: parts(&old.1.pool, &next.1.pool),
            kept: bits.map(kept).filter(|(_, kept)| !kept.is_empty()).collect(),
        })
    }

    /// Lets another difference follow this one.
    pub(super) fn then(&mut self, later: Self) {
        self.next_benchmark = later.next_benchmark;
        take(&mut self.splits, later.splits, replace);
        take(&mut self.benchmarks, later.benchmarks, replace);
        self.taken = later.taken.or(self.taken.take());
        self.taken_keys = later.taken_keys.or(self.taken_keys.take());
        take(&mut self.shards, later.shards, ShardRecord::then);
        take(&mut self.pool, later.pool, replace);
        for (bit, kept) in later.kept {
            take(self.kept.entry(bit).or_default(), kept, replace);
        }
    }

    /// Records of all parts that it names.
    pub(super) fn parts(&self) -> impl Iterator<Item = &PartRecord> {
        let of_benchmarks = self.benchmarks.values().flatten().flat_map(|record| [&record.points, &record.cuts]);
        let shards = || self.shards.values().flatten();
        of_benchmarks
            .chain(&self.taken)
            .chain(&self.taken_keys)
            .chain(shards().flat_map(|shard| shard.matches.values().flatten()))
            .chain(shards().flat_map(|shard| shard.scores.values().flatten()))
            .chain(self.pool.values().flatten())
            .chain(self.kept.values().flat_map(|kept| kept.values().flatten()))
    }
}

impl BenchmarkRecord {
    fn of(points: &Points, filed: &Filed) -> Option<Self> {
        let benchmark = &points.benchmark;
        Some(Self {
            name: benchmark.name.clone(),
            dim: benchmark.dim,
            next: points.next,
            old_count: IgnoredAny,
            identity: benchmark.identity.clone(),
            points: filed.points.get(&points.id)?.record(),
            cuts: filed.cuts.get(&points.id)?.record(),
        })
    }
}

impl ShardRecord {
    fn differs(was: &Arc<Live>, is: &Arc<Live>) -> bool {
        !Arc::ptr_eq(was, is) && Self::news(Some(was), is).is_some()
    }

    /// A shard that came again is written whole.
    fn between(was: Option<&Arc<Live>>, is: &Live) -> Self {
        let was = was.filter(|was| Arc::ptr_eq(&was.input, &is.input));
        let nothing = (BTreeMap::new(), BTreeMap::new());
        let (matches, scores) = was.map_or((&nothing.0, &nothing.1), |was| (&was.matches, &was.scores));
        let list = |was: Option<&Vec<u32>>, is: &Vec<u32>| (was != Some(is)).then(|| is.clone());
        Self {
            input: was.is_none().then(|| InputRecord::of(&is.input)),
            taken: list(was.map(|was| &*was.taken), &is.taken),
            taken_by_key: list(was.map(|was| &*was.taken_by_key), &is.taken_by_key),
            matches: parts(matches, &is.matches),
            scores: parts(scores, &is.scores),
        }
    }

    /// [`ShardRecord::between`]; `None` if nothing differs.
    pub(super) fn news(was: Option<&Arc<Live>>, is: &Live) -> Option<Self> {
        Some(Self::between(was, is)).filter(|record| *record != Self::default())
    }

    /// A shard with what differs; its parts are `own` to remove, or another process's.
    ///
    /// # Errors
    /// Parts that are no files of this folder.
    pub(super) fn onto(&self, mut live: Live, part_store: &PartStore, own: bool) -> Result<Live, IncrementalError> {
        if let Some(taken) = &self.taken {
            live.taken = Arc::new(taken.clone());
        }
        if let Some(taken) = &self.taken_by_key {
            live.taken_by_key = Arc::new(taken.clone());
        }
        follow(&mut live.matches, &self.matches, |record| part_store.found(record, own))?;
        follow(&mut live.scores, &self.scores, |record| part_store.found(record, own))?;
        Ok(live)
    }

    fn then(&mut self, later: Self) {
        if later.input.is_some() {
            *self = later;
            return;
        }
        self.taken = later.taken.or(self.taken.take());
        self.taken_by_key = later.taken_by_key.or(self.taken_by_key.take());
        take(&mut self.matches, later.matches, replace);
        take(&mut self.scores, later.scores, replace);
    }
}

impl InputRecord {
    fn of(input: &ShardInput) -> Self {
        let ShardInput { name, generation, count, rejected } = input;
        Self { name: name.to_string(), generation: *generation, count: *count, rejected: rejected.clone() }
    }
}
