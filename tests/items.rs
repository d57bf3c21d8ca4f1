//! What every test point saw, worked out by hand from all pairs: `items/` as the README's lines read it, and the report's tables.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use common::{MODEL, World, peer, run, words};
use half::f16;
use serde_json::Value;
use trommel_columnar::embeddings::EmbeddingSet;
use trommel_core::sample::{SampleId, Status};
use trommel_ledger::read::Ledger;

/// One test point: its nearest sample, its nearest kept one, and how many samples exceed its radius.
#[derive(Debug, Default, PartialEq)]
struct Point {
    max: f64,
    kept_max: f64,
    hits: u64,
}

/// By hand, of one benchmark: every point in its order, and the samples that exceed a radius.
fn by_hand(benchmark: &EmbeddingSet, samples: &[(SampleId, Vec<f16>, bool)]) -> (Vec<Point>, BTreeSet<SampleId>) {
    let mut removed = BTreeSet::new();
    let radii = benchmark.radii.as_ref().unwrap();
    let mut point = |(vector, radius): (&[f16], &f64)| {
        let mut point = Point { max: f64::NEG_INFINITY, kept_max: f64::NEG_INFINITY, hits: 0 };
        for (id, sample, kept) in samples {
            // Products of f16 are exact, and so are these sums.
            let similarity = sample.iter().zip(vector).map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>();
            point.max = point.max.max(similarity);
            if *kept {
                point.kept_max = point.kept_max.max(similarity);
            }
            if similarity > *radius {
                point.hits += 1;
                removed.insert(*id);
            }
        }
        point
    };
    (benchmark.vectors.chunks(benchmark.dim).zip(radii).map(&mut point).collect(), removed)
}

/// The README's lines under which `items/` is explained.
fn documented() -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let block =
        readme.split("```python\n").find(|block| block.starts_with("rows = pandas.read_parquet(\"RUN/items\")"));
    block.unwrap().split_once("```").unwrap().0.to_owned()
}

#[test]
fn items_and_the_reports_tables_are_as_worked_out_by_hand() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).display().to_string();
    run(0, &words(&world.prune(&folder.path().join("run"))));
    run(0, &["embed", &world.shards(), "-o", &path("embedded"), "--model", MODEL, "--random-init", "1"]);
    let embedded = Ledger::open(&folder.path().join("embedded")).unwrap();
    let ledger = Ledger::open(&folder.path().join("run")).unwrap();
    let fates = ledger.rows().unwrap().map(|row| row.unwrap().fate);
    let kept: BTreeMap<SampleId, bool> = fates.map(|fate| (fate.info.id, fate.status == Status::Kept)).collect();
    let of_shard = |&ordinal: &u64| {
        embedded
            .embeddings(ordinal)
            .unwrap()
            .into_iter()
            .map(move |row| (SampleId { ordinal, index: row.index }, row.vector))
    };
    let samples: Vec<_> =
        embedded.shards().keys().flat_map(of_shard).map(|(id, vector)| (id, vector, kept[&id])).collect();
    assert_eq!(samples.len(), 6 * 48);
    let names = ["photo", "sketch"];
    let benchmarks = names.map(|name| EmbeddingSet::open(Path::new(&world.path(&format!("radii/{name}")))).unwrap());
    let due = [0, 1].map(|at| by_hand(&benchmarks[at], &samples));
    for (id, _, kept) in &samples {
        assert_eq!(*kept, due.iter().all(|(_, removed)| !removed.contains(id)), "{id:?}");
    }

    run(0, &["report", &path("run"), "-o", &path("page.html"), "--tables", &path("tables")]);
    let table = |name: &str| -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(folder.path().join("tables").join(name)).unwrap();
        text.lines().skip(1).map(|line| line.split(',').map(String::from).collect()).collect()
    };
    let number = |text: &String| text.parse::<f64>().unwrap();
    let largest = |points: &[Point], of: fn(&Point) -> f64| points.iter().map(of).max_by(f64::total_cmp).unwrap();
    let by_benchmark = table("benchmarks.csv");
    assert_eq!(by_benchmark.len(), 2);
    for ((row, name), (points, removed)) in by_benchmark.iter().zip(names).zip(&due) {
        let hit = points.iter().filter(|point| point.hits > 0).count();
        assert_eq!(row[0], name);
        assert_eq!(row[1..4], [points.len(), removed.len(), hit].map(|count| count.to_string()), "{name}");
        assert!((number(&row[4]) - removed.len() as f64 / samples.len() as f64).abs() < 1e-4, "{row:?}");
        assert!((number(&row[5]) - largest(points, |point| point.max)).abs() < 1e-4, "{row:?}");
        assert!((number(&row[6]) - largest(points, |point| point.kept_max)).abs() < 1e-4, "{row:?}");
    }
    let most_hit = table("most_hit.csv");
    for ((name, benchmark), (points, _)) in names.into_iter().zip(&benchmarks).zip(&due) {
        let rows: Vec<_> = most_hit.iter().filter(|row| row[0] == name).collect();
        let mut hits: Vec<u64> = points.iter().map(|point| point.hits).filter(|hits| *hits > 0).collect();
        hits.sort_unstable_by(|a, b| b.cmp(a));
        assert!(!rows.is_empty() && rows.len() <= hits.len());
        for (row, hits) in rows.iter().zip(hits) {
            let point = &points[benchmark.keys.iter().position(|key| *key == row[1]).unwrap()];
            assert_eq!((row[3].as_str(), point.hits), (hits.to_string().as_str(), hits), "{row:?}");
        }
    }

    let Some(python) = peer("pandas and pyarrow") else { return };
    let print = "print(points.reset_index().to_json(orient='values', double_precision=15))";
    let script = format!("import pandas\n{}{print}\n", documented().replace("RUN/items", &path("run/items")));
    let out = Command::new(python).args(["-c", &script]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let rows: Vec<(Value, usize, f64, f64, u64)> = serde_json::from_slice(&out.stdout).unwrap();
    let mut found: [Vec<Point>; 2] = Default::default();
    for (benchmark, point, max, kept_max, hits) in rows {
        let at = names.iter().position(|name| benchmark == *name).unwrap();
        assert_eq!(point, found[at].len(), "each point once, in their order");
        found[at].push(Point { max, kept_max, hits });
    }
    for (found, (due, _)) in found.iter().zip(&due) {
        assert_eq!(found.len(), due.len());
        for (found, due) in found.iter().zip(due) {
            let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
            let same = close(found.max, due.max) && close(found.kept_max, due.kept_max) && found.hits == due.hits;
            assert!(same, "{found:?} {due:?}");
        }
    }
}
