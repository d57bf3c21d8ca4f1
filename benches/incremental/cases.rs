//! Each change beside a fresh run over the final inputs.

use std::collections::BTreeSet;
use std::time::Duration;

use trommel_core::sample::SampleId;
use trommel_incremental::inputs::Change;

use crate::data::{Dice, Scene};
use crate::trial::{Cost, Trial, without_shards};

/// Decisions within this share of a fresh run, in percent.
const AIM_PERCENT: f64 = 1.0;
/// An arriving shard beside that shard alone.
const AIM_RATIO: f64 = 1.10;
/// The benchmark that comes and goes, and the one whose radii move.
const COMES_AND_GOES: &str = "objectnet";
const MOVED: &str = "sketch";

/// A line of the table.
struct Line {
    what: String,
    cost: Cost,
    fresh: Duration,
    runs: usize,
    aimed: bool,
}

struct Table<'a> {
    scene: &'a Scene,
    trial: Trial,
    lines: Vec<Line>,
    /// Values that were compared with fresh runs.
    compared: u64,
}

/// What precedes a measurement, not measured itself, and the change.
type Turn = (Vec<Change>, Vec<Change>);

pub fn run(scene: Scene) {
    let size = scene.size;
    let mut trial = Trial::new(&scene.stored);
    let first = trial.apply(&scene.beginning());
    let (view, matches) = (trial.view(), trial.matches());
    println!(
        "{} embeddings of {} dimensions, held in memory, in {} shards; parts in a folder; six benchmarks at 1/{} \
         of their size, {} points; two splits",
        u64::from(size.shard) * size.shards,
        size.dim,
        size.shards,
        size.scale,
        scene.points(),
    );
    let held = trial.engine.flow().held();
    println!(
        "fresh run: {}, {} hits, {matches} matches stored, {} bytes arranged",
        seconds(first.total()),
        first.facts,
        held.bytes
    );
    for (name, split) in view.splits() {
        let sizes = view.sizes(name).unwrap();
        let share = 100.0 * sizes.dropped as f64 / (sizes.kept + sizes.dropped) as f64;
        println!("split {name} ({}): {} kept, {} dropped ({share:.1} %)", split.rule, sizes.kept, sizes.dropped);
    }
    drop(view);
    let mut table = Table { scene: &scene, trial, lines: Vec::new(), compared: 0 };
    let alone = table.all();
    table.print(&alone);
}

impl Table<'_> {
    /// Makes all changes, one after the other; gives the times of the arriving shard alone.
    fn all(&mut self) -> Vec<Cost> {
        let (scene, runs, mut dice) = (self.scene, self.scene.size.runs, Dice(2));
        let few = runs.min(3);

        let original = self.trial.radii(MOVED);
        let all = |delta: f64| {
            let moved = original.iter().enumerate().map(|(place, radius)| (place as u32, radius + delta));
            vec![Change::SetRadii(MOVED.into(), moved.collect())]
        };
        self.measure("all radii of a benchmark raised by 0.01", true, turns(few, &all(0.0), &all(0.01)));
        self.trial.apply(&all(0.0));

        let one = |delta: f64, places: Vec<u32>| -> Vec<Turn> {
            let moved = |place: u32| vec![(place, original[place as usize] + delta)];
            places.into_iter().map(|place| (vec![], vec![Change::SetRadii(MOVED.into(), moved(place))])).collect()
        };
        let busy = self.busy(4 * runs);
        let quarter = |at: usize| busy[at * runs..(at + 1) * runs].to_vec();
        self.measure("a radius raised by 0.05", true, one(0.05, quarter(0)));
        self.measure("a radius lowered by 0.01: above the floor", false, one(-0.01, quarter(1)));
        self.measure("a radius lowered by 0.05: below the floor", false, one(-0.05, quarter(2)));

        let mut turns_of = |by_key: bool| {
            let mut taken = BTreeSet::new();
            let mut turn = |_| {
                let list = |some: &BTreeSet<(u64, u32)>| {
                    let ids = some.iter().map(|&(ordinal, index)| SampleId { ordinal, index });
                    let keys = some.iter().map(|&(ordinal, index)| scene.key(ordinal, index));
                    if by_key { (vec![], keys.collect()) } else { (ids.collect(), vec![]) }
                };
                let (ids, keys) = list(&taken);
                let before = vec![Change::Restore(ids, keys)];
                taken = scene.some(&mut dice);
                let (ids, keys) = list(&taken);
                (before, vec![Change::TakeDown(ids, keys)])
            };
            (0..runs).map(&mut turn).collect::<Vec<Turn>>()
        };
        let (by_id, by_key) = (turns_of(false), turns_of(true));
        self.measure(&format!("{} samples taken down by id", scene.size.list), true, by_id);
        self.measure(&format!("{} samples taken down by key", scene.size.list), true, by_key);

        let more = |_| (vec![], vec![Change::GrowReference(MOVED.into(), scene.more_reference(&mut dice))]);
        let more = (0..few).map(more).collect();
        self.measure(&format!("the reference of a benchmark grown by {}", scene.size.list), false, more);

        let test = scene.tests.iter().find(|test| test.name == COMES_AND_GOES).unwrap();
        let (come, go) = ([Change::AddBenchmark(test.clone())], [Change::RemoveBenchmark(test.name.clone())]);
        self.measure(&format!("a benchmark of {} points removed", test.points()), true, turns(few, &come, &go));
        self.measure(&format!("a benchmark of {} points added", test.points()), false, turns(few, &go, &come));

        let last = scene.size.shards;
        let (come, go) = ([scene.arrive(last)], [Change::Withdraw(last)]);
        let mut alone = Vec::new();
        let mut beside = Vec::new();
        for (before, change) in turns(few, &go, &come) {
            alone.push(self.alone(&come));
            self.trial.apply(&before);
            beside.push(self.trial.apply(&change));
        }
        self.line(format!("a shard of {} arrives", scene.size.shard), false, &beside);
        self.measure(&format!("a shard of {} withdrawn", scene.size.shard), false, turns(few, &come, &go));
        alone
    }

    /// Points that are hit and whose largest similarity is well above the radius, so that moving it means something.
    fn busy(&self, count: usize) -> Vec<u32> {
        let mut items = self.trial.view().items(MOVED, "combined").unwrap();
        items.sort_by_key(|item| (std::cmp::Reverse(item.hits), item.point));
        let step = (items.len() / 4 / count).max(1);
        items.iter().step_by(step).take(count).map(|item| item.point).collect()
    }

    fn measure(&mut self, what: &str, aimed: bool, turns: Vec<Turn>) {
        let one = |(before, change): Turn| {
            if !before.is_empty() {
                self.trial.apply(&before);
            }
            self.trial.apply(&change)
        };
        let costs: Vec<Cost> = turns.into_iter().map(one).collect();
        self.line(what.into(), aimed, &costs);
    }

    /// Compares with a fresh run and notes the line.
    fn line(&mut self, what: String, aimed: bool, costs: &[Cost]) {
        let (fresh, compared) = self.trial.fresh();
        self.compared += compared;
        let cost = Cost::median(costs);
        eprintln!("{what}: {} beside {}, equal", seconds(cost.total()), seconds(fresh.total()));
        self.lines.push(Line { what, cost, fresh: fresh.total(), runs: costs.len(), aimed });
    }

    /// The shard in an engine that has no other; it knows the benchmarks already, as the one beside it does.
    fn alone(&self, arrive: &[Change]) -> Cost {
        let mut alone = Trial::new(&self.scene.stored);
        alone.apply(&without_shards(self.trial.inputs()));
        alone.apply(arrive)
    }

    fn print(&self, alone: &[Cost]) {
        println!(
            "\ndecided: decisions, counts, sizes; refreshed: maxima, then the epoch is published; % of the fresh run"
        );
        println!(
            "{:<50} {:>10} {:>8} {:>10} {:>8} {:>10} {:>8} {:>8} {:>9} {:>9} {:>4}",
            "change", "decided", "%", "refreshed", "%", "fresh run", "facts", "sides", "read", "to refresh", "runs"
        );
        for Line { what, cost, fresh, runs, .. } in &self.lines {
            println!(
                "{what:<50} {:>10} {:>8.3} {:>10} {:>8.3} {:>10} {:>8} {:>8} {:>9} {:>9} {runs:>4}",
                seconds(cost.decided),
                percent(cost.decided, *fresh),
                seconds(cost.refreshed),
                percent(cost.refreshed, *fresh),
                seconds(*fresh),
                cost.facts,
                cost.sides,
                cost.read,
                cost.read_to_refresh,
            );
        }
        println!("equal to the fresh run after each of them: {} statuses, scores and items compared", self.compared);
        println!("\naims{}", if self.scene.size.is_quick() { ": of no meaning, all is too small" } else { "" });
        let beside = self.lines.iter().find(|line| line.what.ends_with("arrives")).unwrap().cost.total();
        let alone = Cost::median(alone).total();
        let ratio = beside.as_secs_f64() / alone.as_secs_f64();
        let (beside, alone) = (seconds(beside), seconds(alone));
        println!("{} an arriving shard: {beside}, alone {alone}: {ratio:.3} ({AIM_RATIO:.2})", met(ratio <= AIM_RATIO));
        for Line { what, cost, fresh, .. } in self.lines.iter().filter(|line| line.aimed) {
            let share = percent(cost.decided, *fresh);
            println!("{} {what}, decisions: {share:.3} % ({AIM_PERCENT} %)", met(share <= AIM_PERCENT));
        }
    }
}

/// There and back again: `change` is measured, `back` undoes it before the next one.
fn turns(runs: usize, back: &[Change], change: &[Change]) -> Vec<Turn> {
    let before = |at: usize| if at == 0 { vec![] } else { back.to_vec() };
    (0..runs).map(|at| (before(at), change.to_vec())).collect()
}

fn percent(part: Duration, whole: Duration) -> f64 {
    100.0 * part.as_secs_f64() / whole.as_secs_f64()
}

fn met(met: bool) -> &'static str {
    if met { "met   " } else { "MISSED" }
}

pub fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 { format!("{:.2} ms", 1e3 * seconds) } else { format!("{seconds:.2} s") }
}
