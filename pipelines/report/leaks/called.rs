//! What test points are called, and whether that leaks with them: class names, or captions of their own.

use std::collections::{BTreeSet, HashMap};

use trommel_core::sample::SampleId;
use trommel_shard::store::Store;

use super::copies::Points;
use super::words::{Captions, holds, is_name, plain};
use super::{Held, Unknown};
use crate::benchmarks::ledger_of;
use crate::error::PipelineError;
use crate::past_run::{TestPoints, plan_of};
use crate::report::pairs::group;

/// What test points are called: by class names, or by captions of their own.
pub(super) struct Called {
    captions: HashMap<usize, String>,
    why: BTreeSet<(String, String)>,
    labels: Vec<Option<String>>,
}

impl Called {
    pub(super) fn find(
        benchmark: &TestPoints,
        points: Option<&Points>,
        held: &[Held],
        store: &dyn Store,
    ) -> Result<Self, PipelineError> {
        let mut called = Self { captions: HashMap::new(), why: BTreeSet::new(), labels: benchmark.labels.clone() };
        called.labels.iter_mut().for_each(|label| *label = label.take().filter(|label| is_name(label)));
        let (Some(points), Some(folder)) = (points, &benchmark.folder) else { return Ok(called) };
        // Points that `trommel embed` made of shards have captions there.
        let Some(ledger) = ledger_of(folder)? else { return Ok(called) };
        let plan = plan_of(&ledger).map_err(PipelineError::failed)?;
        let ordinals: HashMap<&str, u64> =
            plan.shards.iter().map(|shard| (shard.name.as_str(), shard.ordinal)).collect();
        let place = |point: usize| {
            let shard = points.set.shards[point].as_deref()?;
            Some(SampleId { ordinal: *ordinals.get(shard)?, index: points.set.indices[point]? })
        };
        let leaked = held.iter().flat_map(Held::leaked).map(|(point, _)| point);
        let places: HashMap<usize, SampleId> = leaked.filter_map(|point| Some((point, place(point)?))).collect();
        let wanted = places.values().copied().collect();
        let read = Captions::read(&ledger, &plan, store, &group(ledger.config()), &wanted)?;
        let own = places.iter().filter_map(|(point, id)| Some((*point, read.known.get(id)?.clone())));
        called.captions = own.filter(|(_, caption)| !plain(caption).is_empty()).collect();
        called.why = read.unknown;
        Ok(called)
    }

    fn knows(&self, point: usize) -> bool {
        self.labels.get(point).is_some_and(Option::is_some) || self.captions.contains_key(&point)
    }

    /// Says what is missing of leaked points.
    pub(super) fn tell(&self, benchmark: &TestPoints, held: &[Held], unknown: &mut Vec<Unknown>) {
        let unnamed: BTreeSet<usize> =
            held.iter().flat_map(Held::leaked).map(|(point, _)| point).filter(|point| !self.knows(*point)).collect();
        let Some(first) = unnamed.first() else { return };
        let (why, tells) = match benchmark.labels.get(*first) {
            Some(Some(label)) => (
                format!("{} leaked points have labels that are no names (first: {label})", unnamed.len()),
                "class folders called by their names, embedded again, or a set of CLIP_benchmark's with classnames.txt",
            ),
            Some(None) | None => (
                format!("{} leaked points have neither a class name nor a caption", unnamed.len()),
                "trommel embed of class folders, of a set of CLIP_benchmark's, or of shards with captions",
            ),
        };
        let mut say = |why: String, tells: &str| {
            unknown.push([benchmark.name.clone(), "label".into(), why, tells.into()]);
        };
        say(why, tells);
        self.why.iter().for_each(|(why, tells)| say(format!("the benchmark's own captions: {why}"), tells));
    }

    /// Full, image only, not known.
    pub(super) fn count(&self, held: &Held, captions: &Captions) -> [u64; 3] {
        let mut counts = [0; 3];
        for (point, nearest) in held.leaked() {
            let beside = nearest.and_then(|id| captions.known.get(&id));
            let class = self.labels.get(point).and_then(Option::as_deref);
            let own = self.captions.get(&point);
            counts[match beside {
                Some(_) if class.is_none() && own.is_none() => 2,
                Some(caption) => {
                    let full = class.is_some_and(|class| holds(caption, class))
                        || own.is_some_and(|own| plain(own) == plain(caption));
                    usize::from(!full)
                }
                None => 2,
            }] += 1;
        }
        counts
    }
}
