//! Whether a portion is looked at in leading directions: they are learned once, when so much was multiplied that it pays, and left for a while where they were found not to.

use trommel_kernels::int8::pays::Pause;

use super::deferred::Deferred;
use crate::kernel::Portion;
use crate::leading::Leading;

/// Pairs to be multiplied before directions are learned: choosing them takes about as long as so many in f32.
const PAIRS_BEFORE: u64 = 1 << 24;

/// Rows before that: to code a point in directions takes about as long as its products with so many in f32.
const ROWS_BEFORE: u64 = 256;

/// What was learned.
#[derive(Debug)]
pub(super) struct Learning {
    /// So many directions are learned, whether they pay or not.
    width: Option<usize>,
    learned: Deferred<Option<Leading>>,
    /// After a portion that left too many over.
    pause: Pause,
}

impl Learning {
    /// Learns as many directions of so many points as pay, once that pays.
    pub fn of(points: usize) -> Self {
        Self::after(PAIRS_BEFORE.max(ROWS_BEFORE * points as u64), None)
    }

    /// Learns from the first rows: `width` directions, or as many as pay.
    pub fn at_once(width: Option<usize>) -> Self {
        Self::after(0, width)
    }

    fn after(pairs: u64, width: Option<usize>) -> Self {
        Self { width, learned: Deferred::after(pairs), pause: Pause::default() }
    }

    /// How many directions were learned, if any pay; 0 if none do.
    pub fn width(&self) -> Option<usize> {
        self.learned.made().map(|learned| learned.as_ref().map_or(0, Leading::width))
    }

    /// Whether a thread is learning now.
    pub fn is_under_way(&self) -> bool {
        self.learned.is_being_made()
    }

    /// What was learned, where the next portion is to be looked at that way.
    pub fn now(&self) -> Option<&Leading> {
        let learned = self.learned.made().and_then(Option::as_ref);
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
        let learned = self.learned.get(pairs, || learn(self.width))?.as_ref()?;
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
