//! What the study's published scripts get wrong about vectors, through the program: a pool of f16 beside references of f32, maxima that begin
//! at whatever memory held, and the 20,000th sample that hits a test point.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::random::Random;
use common::{World, peer, run, stderr, words};
use half::f16;
use serde_json::Value;
use tempfile::TempDir;
use trommel_columnar::embeddings::EmbeddingSet;
use trommel_columnar::npy;
use trommel_core::sample::{Fate, Status};
use trommel_ledger::read::Ledger;

const SAID: &str = "benchmarks whose references and pool were rounded to f16 by different programs";

/// What the peer has made.
fn made() -> Option<(TempDir, Value)> {
    let python = peer("numpy")?;
    let out = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/flips.py");
    let peer = Command::new(python).arg(script).arg(out.path()).output().unwrap();
    assert!(peer.status.success(), "{}", String::from_utf8_lossy(&peer.stderr));
    eprint!("{}", String::from_utf8_lossy(&peer.stdout));
    let truth = serde_json::from_slice(&fs::read(out.path().join("truth.json")).unwrap()).unwrap();
    Some((out, truth))
}

#[test]
fn peer_decisions_are_those_of_canonical_vectors_and_roundings_that_differ_are_told() {
    let Some((out, truth)) = made() else { return };
    let path = |name: &str| out.path().join(name).display().to_string();
    let points = format!("p={}", path("points32.npy"));
    for bits in ["32", "16"] {
        let (reference, radii) = (path(&format!("reference{bits}.npy")), path(&format!("radii{bits}")));
        let assume = ["--benchmark", &points, "-o", &radii, "--assume-model", "peer"];
        run(0, &[&["radii", "--reference", &reference][..], &assume].concat());
    }
    let prune = |pool: &str, radii: &str, into: &str| {
        let benchmark = format!("p={}", path(&format!("{radii}/p")));
        let (pool, into) = (path(pool), path(into));
        let how = ["--rule", "drop-over-radius", "--benchmark", &benchmark, "--assume-model", "peer"];
        let said = stderr(&run(0, &[&["prune", &pool, "--run", &into][..], &how].concat()));
        let ledger = Ledger::open(Path::new(&into)).unwrap();
        let rows = ledger.rows().unwrap().map(Result::unwrap);
        let mut rows: Vec<_> = rows.map(|row| (row.fate.info.id.index, row.fate.status == Status::Dropped)).collect();
        rows.sort_unstable();
        (rows.into_iter().map(|(_, dropped)| dropped).collect::<Vec<bool>>(), said)
    };
    let due = |way: &str| -> Vec<bool> { serde_json::from_value(truth[way]["dropped"].clone()).unwrap() };
    let copies = truth["copies"].as_u64().unwrap() as usize;
    let dropped_copies = |rows: &[bool]| rows[..copies].iter().filter(|dropped| **dropped).count();

    let (rows, said) = prune("pool32.npy", "radii32", "canonical");
    assert_eq!(rows, due("canonical"));
    assert!(dropped_copies(&rows) == 0 && !said.contains(SAID), "{said}");
    assert!(truth["published"]["copies"].as_u64().unwrap() > 100, "the published way drops copies");

    // The files of the published scripts.
    let (mixed, said) = prune("pool16.npy", "radii32", "mixed");
    assert_eq!(mixed, due("mixed"));
    assert!(dropped_copies(&mixed) > 0, "the data show nothing");
    assert!(
        said.contains(SAID)
            && said.contains("its references were rounded by trommel, the pool's vectors by who stored them"),
        "{said}"
    );
    // So it is of what that run has kept of them.
    let (again, said) = prune("mixed", "radii32", "again");
    assert!(again == mixed && said.contains(SAID), "{said}");
    // References that are rounded as the pool was, from what both were rounded from.
    let (reference, radii) = (path("reference32.npy"), path("radii-alike"));
    let alike = ["--benchmark", &points, "-o", &radii, "--assume-model", "peer", "--round-like", "clip-retrieval"];
    run(0, &[&["radii", "--reference", &reference][..], &alike].concat());
    let radii_of = |name: &str| EmbeddingSet::open(Path::new(&path(&format!("{name}/p")))).unwrap().radii.unwrap();
    assert_eq!(radii_of("radii-alike"), radii_of("radii16"));
    let (rows, said) = prune("pool16.npy", "radii-alike", "alike");
    assert_eq!(rows, due("alike"));
    assert!(dropped_copies(&rows) == 0 && !said.contains(SAID), "{said}");
    for (reference, why) in [("reference16.npy", "no reference is stored as f32"), ("long32.npy", "row 0 has norm")] {
        let reference = path(reference);
        let said = stderr(&run(2, &[&["radii", "--reference", &reference][..], &alike].concat()));
        assert!(said.contains(why), "{said}");
    }
    let (_, said) = prune("pool32.npy", "radii16", "other way round");
    assert!(said.contains("its references were rounded by who stored them, the pool's vectors by trommel"), "{said}");

    // Both as one program stored them.
    let (rows, said) = prune("pool16.npy", "radii16", "as stored");
    assert!(dropped_copies(&rows) == 0 && !said.contains(SAID), "{said}");
}

/// Pictures are rounded here; a reference set of clip-retrieval's was not.
#[test]
fn what_is_embedded_as_it_comes_is_held_to_it_too() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let reference = world.path("data/reference");
    let embed = |format: &str| {
        let out = path(format);
        run(0, &["embed", &reference, "-o", &out, "--model", common::MODEL, "--random-init", "1", "--format", format]);
        out
    };
    // Without its run nothing tells that these are ours.
    let stored = embed("npy");
    fs::create_dir(path("bare")).unwrap();
    for part in ["img_emb", "metadata"] {
        fs::rename(format!("{stored}/{part}"), path(&format!("bare/{part}"))).unwrap();
    }
    let photo = format!("photo={}", world.path("embedded/photo"));
    let out = path("radii");
    let reference = path("bare");
    let measure = ["radii", "--reference", &reference, "--benchmark", &photo, "-o", &out];
    run(0, &[&measure[..], &["--assume-model", common::MODEL]].concat());
    let prune = |radii: &str, into: &str| {
        let mut all = vec!["prune".to_owned(), world.shards(), "--run".into(), path(into)];
        all.extend(["--benchmark".to_owned(), format!("photo={radii}/photo")]);
        all.extend(["--rule", "drop-over-radius", "--embedder", common::MODEL, "--random-init", "1"].map(String::from));
        stderr(&run(0, &words(&all)))
    };
    let said = prune(&out, "told");
    assert!(
        said.contains(SAID) && said.contains("rounded by who stored them, the pool's vectors by trommel"),
        "{said}"
    );
    let said = prune(&world.path("radii"), "silent");
    assert!(!said.contains(SAID), "{said}");
}

const DIM: usize = 16;

/// Unit vectors at these angles from the first axis, each towards another side, as numpy stores them.
fn at_angles(angles: impl IntoIterator<Item = f64>, random: &mut Random) -> Vec<f16> {
    let mut rows = Vec::new();
    for angle in angles {
        let side: Vec<f64> = (1..DIM).map(|_| random.share() - 0.5).collect();
        let norm = side.iter().map(|x| x * x).sum::<f64>().sqrt();
        rows.push(f16::from_f64(angle.cos()));
        rows.extend(side.iter().map(|x| f16::from_f64(x / norm * angle.sin())));
    }
    rows
}

fn write(path: &Path, rows: &[f16]) -> String {
    npy::write(path, &mut fs::File::create(path).unwrap(), rows, DIM).unwrap();
    path.display().to_string()
}

/// By hand: products of f16 are exact in f64.
fn products(rows: &[f16], point: &[f16]) -> Vec<f64> {
    let wide = |row: &[f16]| row.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
    let point = wide(point);
    rows.chunks(DIM).map(|row| wide(row).iter().zip(&point).map(|(a, b)| a * b).sum()).collect()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Radii of a benchmark, and the fates of a pool by its files and rows.
fn judged(folder: &Path, points: &[f16], references: &[f16], pool: &[Vec<f16>]) -> (Vec<f64>, Ledger, Vec<Fate>) {
    let text = |name: &str| folder.join(name).display().to_string();
    let points = format!("p={}", write(&folder.join("points.npy"), points));
    let references = write(&folder.join("references.npy"), references);
    let assume = ["--assume-model", "peer"];
    let measure = ["radii", "--reference", &references, "--benchmark", &points, "-o", &text("radii")];
    run(0, &[&measure[..], &assume].concat());
    fs::create_dir(folder.join("pool")).unwrap();
    for (at, rows) in pool.iter().enumerate() {
        write(&folder.join(format!("pool/{at:02}.npy")), rows);
    }
    let (benchmark, pool, into) = (format!("p={}", text("radii/p")), text("pool"), text("run"));
    let prune = ["prune", &pool, "--run", &into, "--benchmark", &benchmark, "--rule", "drop-over-radius"];
    run(0, &[&prune[..], &["--workers", "2", "--threads", "2"], &assume].concat());
    let ledger = Ledger::open(&folder.join("run")).unwrap();
    let mut fates: Vec<Fate> = ledger.rows().unwrap().map(|row| row.unwrap().fate).collect();
    fates.sort_by_key(|fate| fate.info.id);
    (EmbeddingSet::open(&folder.join("radii/p")).unwrap().radii.unwrap(), ledger, fates)
}

/// Theirs collects maxima in memory that nobody has written to: a start at 0 shows where every similarity is below.
#[test]
fn maxima_of_opposite_vectors_are_below_zero() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new(3);
    let mut near = |count: usize, from: f64| {
        let angles: Vec<f64> = (0..count).map(|_| from + 0.1 * random.share()).collect();
        at_angles(angles, &mut random)
    };
    let points = near(40, 0.0);
    // More than a block of each.
    let references = near(700, std::f64::consts::PI);
    let pool: Vec<Vec<f16>> = (0..3).map(|_| near(500, std::f64::consts::PI)).collect();
    let (radii, ledger, fates) = judged(folder.path(), &points, &references, &pool);
    let pool = pool.concat();
    let seen: Vec<Vec<f64>> = points.chunks(DIM).map(|point| products(&pool, point)).collect();
    let due: Vec<f64> = points.chunks(DIM).map(|point| largest(&products(&references, point))).collect();
    assert!(largest(&due) < -0.97 && due.iter().any(|radius| *radius < -0.99), "{due:?}");
    assert_eq!(radii, due);
    for (at, fate) in fates.iter().enumerate() {
        let of_sample: Vec<f64> = seen.iter().map(|row| row[at]).collect();
        assert_eq!(fate.scores[0].max_similarity, Some(largest(&of_sample)));
        let over = of_sample.iter().zip(&radii).any(|(similarity, radius)| similarity > radius);
        assert_eq!(fate.status == Status::Dropped, over);
    }
    let items = ledger.items().unwrap();
    assert_eq!(items.len(), 40);
    for (item, row) in items.iter().zip(&seen) {
        let kept = row.iter().zip(&fates).filter(|(_, fate)| fate.status == Status::Kept);
        let kept: Vec<f64> = kept.map(|(similarity, _)| *similarity).collect();
        assert_eq!((item.max_similarity, item.kept_max), (Some(largest(row)), Some(largest(&kept))));
        assert!(item.kept_max.is_some_and(|most| most < 0.0));
    }
}

/// Theirs keeps the nearest 20,000 of a test point and a chunk, and misses whoever comes after them.
#[test]
fn more_than_20_000_samples_over_one_point_are_all_dropped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new(4);
    let points = at_angles([0.0, std::f64::consts::PI], &mut random);
    let references = at_angles([1.0, 2.0], &mut random);
    // One file with most of them, and small ones.
    let mut file = |count: usize| {
        let angles: Vec<f64> = (0..count).map(|_| 1.1 * random.share()).collect();
        at_angles(angles, &mut random)
    };
    let pool = [file(24_000), file(3_000), file(500)];
    let (radii, ledger, fates) = judged(folder.path(), &points, &references, &pool);
    let seen = products(&pool.concat(), &points[..DIM]);
    let over: Vec<bool> = seen.iter().map(|similarity| *similarity > radii[0]).collect();
    let hits = over.iter().filter(|over| **over).count();
    assert!(hits > 21_000 && hits < 27_000, "{hits}");
    assert_eq!(fates.iter().map(|fate| fate.status == Status::Dropped).collect::<Vec<_>>(), over);
    let items = ledger.items().unwrap();
    assert_eq!(items.iter().map(|item| (item.point, item.hits)).collect::<Vec<_>>(), [(0, hits as u64), (1, 0)]);
    assert_eq!(ledger.counts().dropped, hits as u64);
}
