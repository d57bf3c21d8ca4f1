//! A thousand rounds of changes that undo each other: what is arranged, resident and on disk must not grow.

use std::time::Instant;

use trommel_core::sample::SampleId;
use trommel_incremental::inputs::Change;

use crate::cases::seconds;
use crate::data::{Dice, Scene};
use crate::trial::Trial;

pub fn run(scene: Scene) {
    let size = scene.size;
    println!(
        "\n{} rounds of six epochs on {} embeddings of {} dimensions and {} points: radii of a benchmark up and down, \
         {} samples taken down and restored, a benchmark out and in",
        size.rounds,
        u64::from(size.shard) * size.shards,
        size.dim,
        scene.points(),
        size.list
    );
    let mut trial = Trial::new(&scene.stored);
    trial.apply(&scene.beginning());
    let radii = trial.radii("v2");
    let radii = |delta: f64| {
        let moved = radii.iter().enumerate().map(|(place, radius)| (place as u32, radius + delta));
        Change::SetRadii("v2".into(), moved.collect())
    };
    let test = scene.tests.iter().find(|test| test.name == "a").unwrap();
    let (mut dice, begun) = (Dice(3), Instant::now());
    println!(
        "{:>6} {:>16} {:>14} {:>8} {:>16} {:>6} {:>14}",
        "round", "arranged bytes", "rows", "batches", "resident bytes", "files", "a round"
    );
    for round in 1..=size.rounds {
        let some = scene.some(&mut dice).into_iter().map(|(ordinal, index)| SampleId { ordinal, index });
        let some: Vec<SampleId> = some.collect();
        for change in [
            radii(0.01),
            radii(0.0),
            Change::TakeDown(some.clone(), vec![]),
            Change::Restore(some, vec![]),
            Change::RemoveBenchmark(test.name.clone()),
            Change::AddBenchmark(test.clone()),
        ] {
            trial.apply(&[change]);
        }
        if [1, 10, 100, 500, 1000].contains(&round) || round == size.rounds {
            let held = trial.engine.flow().held();
            println!(
                "{round:>6} {:>16} {:>14} {:>8} {:>16} {:>6} {:>14}",
                held.bytes,
                held.rows,
                held.batches,
                resident_bytes(),
                trial.files(),
                seconds(begun.elapsed() / round as u32)
            );
        }
    }
    let (_, compared) = trial.fresh();
    println!("equal to a fresh run after them: {compared} statuses, scores and items compared");
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
