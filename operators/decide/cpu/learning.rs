//! Whether a portion is looked at in leading directions: they are learned once, when so much was multiplied that it pays, and left for a while where they were found not to.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use trommel_kernels::int8::pays::Pause;

use crate::kernel::Portion;
use crate::leading::Leading;

/// Pairs to be multiplied before directions are learned, which takes about as long as a third of so many.
const PAIRS_BEFORE: u64 = 1 << 28;

/// What was learned.
#[derive(Debug)]
pub(super) struct Learning {
    /// Pairs to be seen before.
    left: AtomicU64,
    /// So many directions are learned, whether they pay or not.
    width: Option<usize>,
    learned: OnceLock<Option<Leading>>,
    /// After a portion that left too many over.
    pause: Pause,
}

impl Default for Learning {
    fn default() -> Self {
        Self::after(PAIRS_BEFORE, None)
    }
}

impl Learning {
    /// Learns after so many pairs: `width` directions, or as many as pay.
    pub fn after(pairs: u64, width: Option<usize>) -> Self {
        Self { left: AtomicU64::new(pairs), width, learned: OnceLock::new(), pause: Pause::default() }
    }

    /// How many directions were learned, if any pay; 0 if none do.
    pub fn width(&self) -> Option<usize> {
        self.learned.get().map(|learned| learned.as_ref().map_or(0, Leading::width))
    }

    /// What was learned, where the next portion is to be looked at that way.
    pub fn now(&self) -> Option<&Leading> {
        let learned = self.learned.get().and_then(Option::as_ref);
        learned.filter(|_| self.pause.is_over())
    }

    /// What looks at a portion of so many pairs, which are more than other ways can take if `must`.
    pub fn leads(
        &self,
        portion: Portion<'_>,
        pairs: u64,
        must: bool,
        learn: impl FnOnce(Option<usize>) -> Option<Leading>,
    ) -> Option<&Leading> {
        if self.learned.get().is_none() && self.left.load(Ordering::Relaxed) > 0 {
            let less = |left: u64| Some(left.saturating_sub(pairs));
            let _always = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            return None;
        }
        let learned = self.learned.get_or_init(|| learn(self.width)).as_ref()?;
        Some(learned).filter(|learned| (must || self.now().is_some()) && learned.answers(portion.needs))
    }

    /// A portion left too many over.
    pub fn pause(&self) {
        self.pause.begin();
    }

    /// A portion went another way.
    pub fn went_another_way(&self) {
        self.pause.pass();
    }
}
