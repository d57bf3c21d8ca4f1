//! Rules and radii as cuts: what a match means.
//!
//! A *screen* is a benchmark with a [`Cut`]: each point's radius, or one threshold for all. A sample hits a screen at a point iff `s > cut`.
//! Every benchmark with radii has the screen of its radii, whatever the rules; a threshold rule adds one a benchmark.
//! A split is the union of hits on its rule's screens, and whether a hit drops or keeps: exactly the rule (see `trommel_decide::condition`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ChangeError;
use super::flow::Hit;
use super::inputs::{Inputs, Points};
use trommel_core::sample::SampleId;
use trommel_decide::condition::Cut;
use trommel_decide::judge::Known;

/// One kind of cut on one benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Its number in the dataflow.
    pub id: u16,
    /// What it compares with.
    pub cut: Cut,
    /// Splits in which its hits drop.
    pub drops: u32,
    /// Splits in which its hits keep.
    pub keeps: u32,
}

/// A benchmark with its screens.
#[derive(Clone, Debug, PartialEq)]
pub struct Screened {
    /// The points.
    pub points: Arc<Points>,
    /// The screens.
    pub screens: Vec<Screen>,
}

/// Numbers of the screens in use, by benchmark and cut.
pub type ScreenIds = BTreeMap<(u32, Cut), u16>;

/// All cuts of a state of the inputs.
#[derive(Clone, Debug, Default)]
pub struct Sieve {
    /// Benchmarks by lasting number, which is also their order.
    pub benchmarks: BTreeMap<u32, Arc<Screened>>,
    /// Numbers in use.
    pub ids: ScreenIds,
    /// Splits in which hits drop.
    pub drops: u32,
    /// Splits in which hits keep.
    pub keeps: u32,
}

impl Screened {
    /// The value that a similarity to the point must exceed.
    #[must_use]
    pub fn cut(&self, screen: &Screen, place: usize) -> f64 {
        screen.cut.value(self.points.radius(place))
    }

    /// The smallest cut of a point; infinite where nothing looks at it.
    #[must_use]
    pub fn lowest_cut(&self, place: usize) -> f64 {
        self.screens.iter().map(|screen| self.cut(screen, place)).fold(f64::INFINITY, f64::min)
    }

    /// The screen of the radii.
    #[must_use]
    pub fn radius_screen(&self) -> Option<&Screen> {
        self.screens.iter().find(|screen| screen.cut == Cut::RADIUS)
    }

    /// What a similarity of `s` hits.
    pub fn hits(&self, sample: SampleId, place: usize, s: f64) -> impl Iterator<Item = Hit> + '_ {
        let point = self.points.numbers[place];
        let hit =
            move |screen: &Screen| Hit { sample, screen: screen.id, point, drops: screen.drops, keeps: screen.keeps };
        let radius = self.points.radius(place);
        self.screens.iter().filter(move |screen| screen.cut.is_hit(s, radius)).map(hit)
    }
}

impl Sieve {
    /// The cuts of a state; screens that `before` had keep their numbers.
    ///
    /// # Errors
    /// A rule that the inputs cannot satisfy, or more screens than can be numbered.
    pub fn of(inputs: &Inputs, before: &Self) -> Result<Self, ChangeError> {
        let known: Vec<Known<'_>> = inputs.benchmarks.iter().map(|points| Known::from(&*points.benchmark)).collect();
        let mut cuts = BTreeMap::<(u32, Cut), (u32, u32)>::new();
        for points in inputs.benchmarks.iter().filter(|points| points.benchmark.radii.is_some()) {
            cuts.insert((points.id, Cut::RADIUS), (0, 0));
        }
        let mut sieve = Self::default();
        for split in inputs.splits.values() {
            let Some((condition, _)) = split.rule.policy().condition() else {
                return Err(ChangeError::Rule(split.rule.to_string()));
            };
            let cut = condition.limit.cut();
            let bit = 1u32 << split.bit;
            *(if split.keeps { &mut sieve.keeps } else { &mut sieve.drops }) |= bit;
            for at in split.rule.resolve(&known).map_err(ChangeError::Unsatisfied)? {
                let masks = cuts.entry((inputs.benchmarks[at].id, cut)).or_default();
                *(if split.keeps { &mut masks.1 } else { &mut masks.0 }) |= bit;
            }
        }
        let mut taken: Vec<u16> = before.ids.values().copied().collect();
        taken.sort_unstable();
        let mut free = (0..=u16::MAX).filter(|id| taken.binary_search(id).is_err());
        let mut screens = BTreeMap::<u32, Vec<Screen>>::new();
        for ((benchmark, cut), (drops, keeps)) in cuts {
            let held = before.ids.get(&(benchmark, cut)).copied();
            let id = held.or_else(|| free.next()).ok_or(ChangeError::TooManyScreens)?;
            sieve.ids.insert((benchmark, cut), id);
            screens.entry(benchmark).or_default().push(Screen { id, cut, drops, keeps });
        }
        for points in &inputs.benchmarks {
            let screens = screens.remove(&points.id).unwrap_or_default();
            sieve.benchmarks.insert(points.id, Arc::new(Screened { points: points.clone(), screens }));
        }
        Ok(sieve)
    }
}
