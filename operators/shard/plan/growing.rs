//! A plan that grows at its end while it is read, and what takes either kind.
//!
//! ```
//! use trommel_shard::plan::{GrowingPlan, ShardRef};
//!
//! let (plan, url) = (GrowingPlan::default(), "/data/a.tar".to_owned());
//! let reader = plan.clone();
//! assert_eq!(plan.extend([ShardRef { ordinal: 0, name: "a.tar".into(), url, bytes: Some(10) }]), 1);
//! assert_eq!(reader.shard(0).expect("clones share").name, "a.tar");
//! ```

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use super::{Plan, ShardRef};
use trommel_core::wake::locked;

/// A plan whose shards come while it is used. Clones are the same plan.
///
/// A name may come again: a shard that was written anew is another arrival, with an ordinal of its own.
#[derive(Clone, Debug, Default)]
pub struct GrowingPlan {
    plan: Arc<Mutex<Arc<Plan>>>,
}

impl GrowingPlan {
    /// A plan that begins with these shards.
    #[must_use]
    pub fn new(plan: impl Into<Arc<Plan>>) -> Self {
        Self { plan: Arc::new(Mutex::new(plan.into())) }
    }

    /// Adds shards at the end and returns how many there are now. Their ordinals are set here, to their positions.
    /// Extend the plan first, then the deal: what is leased must be there.
    pub fn extend(&self, shards: impl IntoIterator<Item = ShardRef>) -> u64 {
        let shards: Vec<ShardRef> = shards.into_iter().collect(); // no foreign code under the lock
        let mut plan = locked(&self.plan);
        let plan = Arc::make_mut(&mut plan);
        for shard in shards {
            let ordinal = plan.shards.len() as u64;
            plan.shards.push(ShardRef { ordinal, ..shard });
        }
        plan.shards.len() as u64
    }

    /// The shard with this ordinal, if it has come.
    #[must_use]
    pub fn shard(&self, ordinal: u64) -> Option<ShardRef> {
        locked(&self.plan).shard(ordinal).cloned()
    }

    /// All that has come. Held while the plan grows it costs one copy of the plan.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Plan> {
        locked(&self.plan).clone()
    }
}

/// Where a reader finds its shards.
#[derive(Clone, Debug)]
pub enum ReaderPlan {
    /// In a plan that is whole from the start.
    Fixed(Arc<Plan>),
    /// In one that grows.
    Growing(GrowingPlan),
}

impl ReaderPlan {
    /// The shard with this ordinal, if it is there.
    #[must_use]
    pub fn shard(&self, ordinal: u64) -> Option<Cow<'_, ShardRef>> {
        match self {
            Self::Fixed(plan) => plan.shard(ordinal).map(Cow::Borrowed),
            Self::Growing(plan) => plan.shard(ordinal).map(Cow::Owned),
        }
    }
}

impl From<Arc<Plan>> for ReaderPlan {
    fn from(plan: Arc<Plan>) -> Self {
        Self::Fixed(plan)
    }
}

impl From<GrowingPlan> for ReaderPlan {
    fn from(plan: GrowingPlan) -> Self {
        Self::Growing(plan)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::reader::{Request, ShardReader};
    use crate::testing::{JUDGE, memory, rows, sent, tar_of};
    use trommel_core::sample::ShardOutcome;

    fn shard(at: usize) -> ShardRef {
        ShardRef { ordinal: 99, name: "again.tar".into(), url: at.to_string(), bytes: None }
    }

    #[test]
    fn a_reader_reads_what_has_come_since_it_began() {
        let shards = [tar_of(&[("a.jpg", b"a")]), tar_of(&[("b.jpg", b"b"), ("c.jpg", b"c")])];
        let plan = GrowingPlan::default();
        let reader = ShardReader::new(memory(shards), plan.clone(), Default::default(), Default::default(), None);
        let (_, end) = rows(sent(&reader, &JUDGE).0);
        assert_eq!(end.outcome, ShardOutcome::Unavailable("the plan has no shard 0".into()));
        assert_eq!(plan.extend([shard(0)]), 1);
        assert_eq!(rows(sent(&reader, &JUDGE).0).1.count, 1);
        let before = plan.snapshot();
        assert_eq!(plan.extend([shard(1)]), 2);
        assert_eq!(sent(&reader, &Request { ordinal: 1, ..JUDGE }).0.len(), 3);
        assert_eq!((before.len(), plan.snapshot().len()), (1, 2));
        assert_eq!(plan.snapshot().shards.iter().map(|shard| shard.ordinal).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(GrowingPlan::new(before.as_ref().clone()).shard(0), plan.shard(0));
        assert_eq!(plan.shard(2), None);
    }
}
