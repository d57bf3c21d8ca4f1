//! `trommel radii`: of several reference sets, and of one that is larger than the memory.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

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
    let (status, said, peak) = peak_bytes(trommel().args(words).args(["--memory", "240MiB"]));
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
    assert!(said.contains("--memory 100 MiB is too little for this run"), "{said}");
}
