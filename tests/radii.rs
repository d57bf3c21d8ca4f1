//! `trommel radii`: of several reference sets, and of one that is larger than the memory.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use common::members::append;
use common::memory::peak_bytes;
use common::random::Random;
use common::{World, run, stderr, trommel};
use half::f16;
use serde_json::Value;
use trommel_columnar::embeddings::EmbeddingSet;
use trommel_columnar::npy;

fn radii_of(folder: &Path) -> Vec<f64> {
    EmbeddingSet::open(folder).unwrap().radii.unwrap()
}

#[test]
fn several_references_give_the_radii_of_all_and_the_gap_of_each() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    let photo = format!("photo={}", world.path("embedded/photo"));
    let sketch = format!("sketch={}", world.path("embedded/sketch"));
    // The reference set in two parts of unequal size.
    let whole = EmbeddingSet::open(Path::new(&world.path("embedded/reference"))).unwrap();
    let cut = whole.len() / 3;
    for (name, rows) in [("first", 0..cut), ("second", cut..whole.len())] {
        let part = EmbeddingSet {
            vectors: whole.vectors[rows.start * whole.dim..rows.end * whole.dim].to_vec(),
            keys: whole.keys[rows.clone()].to_vec(),
            labels: whole.labels[rows.clone()].to_vec(),
            shards: whole.shards[rows.clone()].to_vec(),
            indices: whole.indices[rows].to_vec(),
            ..whole.clone()
        };
        part.write(&at(name), Default::default()).unwrap();
    }
    let measure = |references: &[&str], out: &str| {
        let mut words = vec!["radii".to_owned(), "--json".into()];
        for reference in references {
            words.extend(["--reference".to_owned(), (*reference).to_owned()]);
        }
        words.extend(["--benchmark", &photo, "--benchmark", &sketch, "-o"].map(String::from));
        words.push(at(out).display().to_string());
        let out = run(0, &common::words(&words));
        (serde_json::from_slice::<Value>(&out.stdout).unwrap(), stderr(&out))
    };
    let (first, second) = (at("first").display().to_string(), at("second").display().to_string());
    let (both, said) = measure(&[&first, &format!("other={second}")], "both");
    let (one, _) = measure(&[&first], "one");
    let (two, _) = measure(&[&second], "two");
    for (benchmark, gap) in ["photo", "sketch"].into_iter().zip(both.as_array().unwrap()) {
        let name = |run: &str| at(run).join(benchmark);
        let all = radii_of(&name("both"));
        assert_eq!(all, radii_of(Path::new(&world.path(&format!("radii/{benchmark}")))), "the parts are the whole");
        let (of_first, of_second) = (radii_of(&name("one")), radii_of(&name("two")));
        let larger: Vec<f64> = of_first.iter().zip(&of_second).map(|(a, b)| a.max(*b)).collect();
        assert_eq!(all, larger);
        assert!(of_first != all && of_second != all, "both parts count");
        assert_eq!(gap["references"], whole.len());
        let parts = gap["by_reference"].as_array().unwrap();
        let names: Vec<&str> = parts.iter().map(|part| part["reference"].as_str().unwrap()).collect();
        assert_eq!(names, ["first", "other"]);
        for (part, alone) in parts.iter().zip([&one, &two]) {
            let alone = alone.as_array().unwrap().iter().find(|gap| gap["benchmark"] == benchmark).unwrap();
            for field in ["references", "least", "median", "largest"] {
                assert_eq!(part[field], alone[field], "{benchmark} {field}");
            }
        }
        // The table's bins hold the radii that are to be there, counted once more.
        let table = fs::read_to_string(at("both/gap.csv")).unwrap();
        for (reference, radii) in [("first", &of_first), ("other", &of_second)] {
            let start = format!("{benchmark},{reference},");
            let rows: Vec<Vec<f64>> = (table.lines().filter_map(|line| line.strip_prefix(&start)))
                .map(|line| line.split(',').map(|field| field.parse().unwrap()).collect())
                .collect();
            assert_eq!(rows.len(), 50);
            for row in &rows {
                let below = radii.iter().filter(|radius| **radius < row[1]).count() as f64;
                // An edge may cut between a radius and what it is rounded to.
                assert!((row[3] * radii.len() as f64 - below).abs() <= 1.5, "{benchmark} {reference} {row:?}: {below}");
            }
            assert_eq!(rows.iter().map(|row| row[2]).sum::<f64>(), radii.len() as f64);
            assert_eq!(rows[49][3], 1.0);
        }
    }
    assert!(said.contains("first (") && said.contains("other (") && said.contains("both/gap.svg"), "{said}");
    let picture = fs::read_to_string(at("both/gap.svg")).unwrap();
    assert_eq!(picture.matches("<polyline").count(), 8, "histogram and curve of two benchmarks to two references");
    let twice =
        stderr(&run(2, &["radii", "--reference", &first, "--reference", &first, "--benchmark", &photo, "-o", "no"]));
    assert!(twice.contains("two references are called first"), "{twice}");
}

/// Each shard numbers its own pictures: what could not be embedded is counted by shard and key.
#[test]
fn rejects_of_equal_keys_in_several_shards_are_each_counted() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(at("shards")).unwrap();
    let class = fs::read_dir(world.path("data/benchmarks/photo/cup")).unwrap().next().unwrap().unwrap().path();
    let picture = fs::read(class).unwrap();
    for shard in ["a", "b", "c"] {
        let mut tar = tar::Builder::new(File::create(at(&format!("shards/{shard}.tar"))).unwrap());
        for key in 0..4 {
            append(&mut tar, format!("{key}.jpg"), if key < 3 { &picture } else { b"\xff\xd8\xff broken" });
        }
        tar.finish().unwrap();
    }
    let (shards, embedded) = (at("shards"), at("embedded"));
    run(4, &["embed", &shards, "-o", &embedded, "--model", common::MODEL, "--random-init", "1"]);
    let photo = format!("photo={}", world.path("embedded/photo"));
    let said = stderr(&run(4, &["radii", "--reference", &embedded, "--benchmark", &photo, "-o", &at("out")]));
    let line = "reference pictures that could not be embedded: 3, 3 samples lost (first: a.tar/3: ";
    assert!(said.contains(line), "{said}");

    // As a benchmark: each is left out by its own name.
    let (reference, x, out) = (world.path("embedded/reference"), format!("x={embedded}"), at("x"));
    let radii = |status: i32, without: &[&str]| {
        let without = without.iter().flat_map(|name| ["--benchmark-without", *name]);
        let words = ["radii", "--reference", &reference, "--benchmark", &x, "-o", &out];
        stderr(&run(status, &words.into_iter().chain(without).collect::<Vec<_>>()))
    };
    let said = radii(2, &[]);
    assert!(said.contains("3 of its pictures could not be embedded (first: a.tar/3: "), "{said}");
    assert!(said.contains("--benchmark-without x/a.tar/3"), "{said}");
    let said = radii(2, &["x/3"]);
    assert!(said.contains("--benchmark-without x/3: 3 pictures of that key were rejected"), "{said}");
    assert!(said.contains("with its shard: a.tar/3"), "{said}");
    let said = radii(2, &["x/a.tar/3"]);
    assert!(said.contains("2 of its pictures could not be embedded (first: b.tar/3: "), "{said}");
    radii(0, &["x/a.tar/3", "x/b.tar/3", "x/c.tar/3"]);
}

/// 270 MiB of references under `--memory 240MiB`.
#[test]
fn a_reference_set_may_be_larger_than_the_memory() {
    const DIM: usize = 640;
    const DISTINCT: usize = 1100;
    const TIMES: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut random = Random::new(5);
    let mut rows = |count: usize| -> Vec<f16> {
        let mut all = Vec::new();
        for _ in 0..count {
            let row: Vec<f64> = (0..DIM).map(|_| random.below(2_000_001) as f64 / 1e6 - 1.0).collect();
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            all.extend(row.iter().map(|x| f16::from_f64(x / norm)));
        }
        all
    };
    let write = |name: &str, block: &[f16], times: usize| {
        let mut out = BufWriter::new(File::create(at(name)).unwrap());
        out.write_all(&npy::head_bytes((block.len() / DIM * times) as u64, DIM)).unwrap();
        let bytes: Vec<u8> = block.iter().flat_map(|x| x.to_le_bytes()).collect();
        (0..times).for_each(|_| out.write_all(&bytes).unwrap());
        out.flush().unwrap();
    };
    let (points, references) = (rows(5), rows(DISTINCT));
    write("points.npy", &points, 1);
    write("large.npy", &references, TIMES);
    let memory = 240u64 << 20;
    assert!(fs::metadata(at("large.npy")).unwrap().len() > memory);
    let text = |name: &str| at(name).display().to_string();
    let (benchmark, large, out) = (format!("p={}", text("points.npy")), text("large.npy"), text("out"));
    let words = ["radii", "--reference", &large, "--benchmark", &benchmark, "-o", &out, "--threads", "1"];
    let words = [&words[..], &["--assume-model", "m"]].concat();
    let (status, said, peak) = peak_bytes(trommel().args(&words).args(["--memory", "240MiB"]));
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("radii of 5 points over 220,000 references"), "{said}");
    assert!(peak < memory, "{peak} of {memory} bytes");
    // By hand: the largest exact sum of products.
    let wide = |row: &[f16]| row.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
    for (point, radius) in points.chunks(DIM).zip(radii_of(&at("out/p"))) {
        let point = wide(point);
        let product = |row: &[f16]| wide(row).iter().zip(&point).map(|(a, b)| a * b).sum::<f64>();
        assert_eq!(radius, references.chunks(DIM).map(product).fold(f64::NEG_INFINITY, f64::max));
    }
    let said = stderr(&run(2, &[&words[..], &["--memory", "100MiB"]].concat()));
    assert!(said.contains("--memory 100.0 MiB is too little for this run"), "{said}");
}

/// Which rows of a run count stands in its ledger: a file out of its folder is no set of its own, a copy of it elsewhere is.
#[test]
fn a_part_of_a_run_is_no_set() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (reference, photo) = (world.path("embedded/reference"), world.path("embedded/photo"));
    let part = |of: &str| {
        let mut parts = fs::read_dir(format!("{of}/embeddings")).unwrap();
        parts.next().unwrap().unwrap().path().display().to_string()
    };
    let radii = |status: i32, reference: &str, benchmark: &str| {
        let benchmark = format!("photo={benchmark}");
        stderr(&run(status, &["radii", "--reference", reference, "--benchmark", &benchmark, "-o", &at("out")]))
    };
    let said = radii(2, &part(&reference), &photo);
    assert!(said.contains(&format!("a part of a run, which says more of its rows: give {reference}")), "{said}");
    let said = radii(2, &reference, &part(&photo));
    assert!(said.contains("benchmark photo: ") && said.contains(&format!("give {photo}")), "{said}");
    let copy = at("copy.arrow");
    fs::copy(part(&reference), &copy).unwrap();
    radii(0, &copy, &photo);
}

/// Of a watch's epoch nobody sees what is taken down: it is no reference, and no test point.
#[test]
fn what_is_taken_down_is_no_reference_and_no_point() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (shards, list, watched) = (world.path("data/shards"), at("takedown.txt"), at("watch"));
    let photo = format!("photo={}", world.path("embedded/photo"));
    let watch = |more: &[&str]| {
        let words = ["watch", &shards, "--run", &watched, "--settle", "0s", "--once", "--rule", "drop-above:1"];
        let judging = ["--benchmark", &photo, "--embedder", common::MODEL, "--random-init", "1"];
        run(0, &[&words[..], &judging, more].concat());
    };
    let epoch = format!("{watched}/current/main");
    let radii = |reference: &str, benchmark: &str| {
        let out = run(0, &["radii", "--reference", reference, "--benchmark", benchmark, "-o", &at("out")]);
        stderr(&out)
    };
    watch(&[]);
    // By hand: the largest exact sum of products over the rows that count.
    let points = EmbeddingSet::open(Path::new(&world.path("embedded/photo"))).unwrap();
    let rows = EmbeddingSet::open(Path::new(&epoch)).unwrap();
    let cosine = |row: usize, point: &[f16]| -> f64 {
        rows.vector(row).iter().zip(point).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
    };
    let due = |without: &[usize]| -> Vec<f64> {
        let counts = |row: &usize| !without.contains(row);
        let largest = |point: &[f16]| {
            (0..rows.len()).filter(counts).map(|row| cosine(row, point)).fold(f64::NEG_INFINITY, f64::max)
        };
        points.vectors.chunks(points.dim).map(largest).collect()
    };
    radii(&epoch, &photo);
    let all = due(&[]);
    assert_eq!(radii_of(&folder.path().join("out/photo")), all);
    // The rows that the first point's radius stands on.
    let gone: Vec<usize> = (0..rows.len()).filter(|row| cosine(*row, points.vector(0)) == all[0]).collect();
    let name = |row: &usize| format!("{}/{}\n", rows.shards[*row].as_ref().unwrap(), rows.keys[*row]);
    fs::write(&list, gone.iter().map(name).collect::<String>()).unwrap();
    watch(&["--takedown", &list]);
    let said = radii(&epoch, &photo);
    let rest = due(&gone);
    assert_eq!(radii_of(&folder.path().join("out/photo")), rest);
    assert!(rest[0] < all[0]);
    let told = format!("reference rows that are taken down, left out: {} (first: {epoch})", gone.len());
    assert!(said.contains(&told), "{said}");
    // As a benchmark.
    let pool = format!("pool={epoch}");
    let count = gone.len();
    let told = format!("test points that are taken down, left out of their benchmark: {count} (first: benchmark pool)");
    let said = radii(&world.path("embedded/reference"), &pool);
    assert!(said.contains(&told), "{said}");
    let kept: Vec<usize> = (0..rows.len()).filter(|row| !gone.contains(row)).collect();
    let keys: Vec<String> = kept.iter().map(|row| rows.keys[*row].clone()).collect();
    assert_eq!(EmbeddingSet::open(&folder.path().join("out/pool")).unwrap().keys, keys);
    // Later the points are those that a run has judged against.
    let (set, pruned) = (world.path("embedded/photo"), at("pruned"));
    let both = ["--benchmark", &pool, "--benchmark", &photo];
    let said = stderr(&run(0, &[&["prune", &set, "--run", &pruned, "--rule", "drop-above:1"][..], &both].concat()));
    assert!(said.contains(&told), "{said}");
    let key = points.keys.last().unwrap();
    let row: Value = serde_json::from_slice(&run(0, &["why", &pruned, key, "--json"]).stdout).unwrap();
    let nearest = |benchmark: usize| row["benchmarks"][benchmark]["nearest_key"].as_str().unwrap().to_owned();
    let point = points.len() - 1;
    let best = |row: &usize| cosine(*row, points.vector(point)) == rest[point];
    let first = kept.into_iter().find(best).unwrap();
    assert_eq!((nearest(0), nearest(1)), (rows.keys[first].clone(), key.clone()));
    // The pool behind it marks nothing.
    let pool = format!("{watched}/pool");
    let said = stderr(&run(2, &["radii", "--reference", &pool, "--benchmark", &photo, "-o", &at("out")]));
    assert!(said.contains("is a watch's pool") && said.contains("current/SPLIT"), "{said}");
}
