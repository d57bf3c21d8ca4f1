//! `trommel eval` beyond zero-shot: a linear probe, few shots, and accuracy against the nearest training pictures.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{MODEL, World, run, stderr};
use serde_json::Value;
use trommel_columnar::embeddings::EmbeddingSet;
use trommel_ledger::read::Ledger;

fn files(folder: &Path) -> Vec<PathBuf> {
    let below = |entry: fs::DirEntry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] };
    fs::read_dir(folder).unwrap().flat_map(|entry| below(entry.unwrap())).collect()
}

fn json(args: &[&str], more: &[&str]) -> Value {
    let out = run(0, &[args, more].concat());
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(&out)))
}

#[test]
fn a_probe_and_the_nearest_training_pictures() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let trained = folder.path().join("run");
    run(0, &common::words(&world.train(&trained, 5)));
    let (checkpoint, ledger) = (trained.join("checkpoints/epoch_latest.pt"), trained.display().to_string());
    let (checkpoint, photo) = (checkpoint.display().to_string(), world.path("data/benchmarks/photo"));
    let eval = ["eval", &checkpoint, "--model", MODEL, "--data", &photo, "--json", "--threads", "1"];
    for given in [ledger.clone(), format!("{ledger}/checkpoints")] {
        let said = stderr(&run(2, &["eval", &given, "--data", &photo]));
        assert!(said.ends_with(&format!("give {checkpoint}\n")), "{said}");
    }
    let plain = json(&eval, &[]);
    let (pictures, classes) = (plain["pictures"].as_u64().unwrap(), plain["classes"].as_u64().unwrap());
    assert_eq!(pictures, files(photo.as_ref()).len() as u64);
    assert!(plain["probe"].is_null() && plain["nearest"].is_null());
    // Every class has as many pictures, so the mean over classes is the mean over pictures.
    assert!((plain["mean_per_class"].as_f64().unwrap() - plain["top1"].as_f64().unwrap()).abs() < 1e-12);

    let reference = world.path("data/reference");
    let all = json(&eval, &["--probe", &reference]);
    assert_eq!(all["probe"]["fit_on"], files(reference.as_ref()).len() as u64);
    assert_eq!(all["top1"], plain["top1"]);
    // A probe that may remember its pictures knows them.
    let own = json(&eval, &["--probe", &photo, "--probe-c", "1e4"]);
    assert!(own["probe"]["top1"].as_f64().unwrap() > 0.99, "{own}");
    let few = |seed: &str| json(&eval, &["--probe", &reference, "--shots", "2", "--seed", seed])["probe"].clone();
    assert_eq!((few("0")["fit_on"].as_u64(), few("0")), (Some(2 * classes), few("0")));
    let draws: std::collections::BTreeSet<String> = ["1", "2", "3", "4"].map(|seed| few(seed).to_string()).into();
    assert!(draws.len() > 1, "another seed, other pictures");

    let radii = world.path("radii/photo");
    let near = EmbeddingSet::open(radii.as_ref()).unwrap().radii.unwrap();
    let pool: Vec<f64> = Ledger::open(&trained)
        .unwrap()
        .items()
        .unwrap()
        .iter()
        .filter(|row| row.benchmark == 0)
        .filter_map(|row| row.max_similarity)
        .collect();
    for (from, near) in [(radii.as_str(), near), (&format!("{ledger}@photo"), pool)] {
        let report = json(&eval, &["--nearest", from])["nearest"].clone();
        let mut due: BTreeMap<i64, u64> = BTreeMap::new();
        // Some copies are a little above 1 by rounding: they belong to the last bin below.
        near.iter().for_each(|similarity| *due.entry(((similarity / 0.05).floor() as i64).min(19)).or_default() += 1);
        let bins = report["bins"].as_array().unwrap();
        let number = |bin: &Value, name: &str| bin[name].as_f64().unwrap();
        let counted =
            bins.iter().map(|bin| ((number(bin, "low") / 0.05).round() as i64, bin["pictures"].as_u64().unwrap()));
        assert_eq!(counted.collect::<BTreeMap<_, _>>(), due, "{from}");
        let right: f64 = bins.iter().map(|bin| number(bin, "right")).sum();
        assert!((right / pictures as f64 - plain["top1"].as_f64().unwrap()).abs() < 1e-12);
    }

    let said = |status, more: &[&str]| {
        let said = stderr(&run(status, &[&eval[..], more].concat()));
        said.lines().last().unwrap_or_default().to_owned()
    };
    assert!(said(2, &["--probe", &reference, "--shots", "9999"]).contains("--shots 9999: class `"));
    assert!(said(2, &["--nearest", &world.path("embedded/photo")]).contains("without radii"));
    assert!(said(2, &["--nearest", &format!("{ledger}@none")]).contains("the run judged photo, sketch and no none"));
    // Half a run does not know the nearest picture of all.
    let (half, judged) = (folder.path().join("half").display().to_string(), format!("photo={radii}"));
    let shards = world.shards();
    let prune = ["prune", &shards, "--run", &half, "--benchmark", &judged, "--rule", "drop-above:1", "--part", "0/2"];
    run(0, &[&prune[..], &["--embedder", MODEL, "--random-init", "1"]].concat());
    assert!(said(2, &["--nearest", &format!("{half}@photo")]).contains("of 6 shards are not"));
    let mut doubled = EmbeddingSet::open(radii.as_ref()).unwrap();
    doubled.keys[1] = doubled.keys[0].clone();
    let double = folder.path().join("double");
    doubled.write(&double, BTreeMap::new()).unwrap();
    assert!(said(2, &["--nearest", &double.display().to_string()]).contains("two test points have the key"));
    let fewer = folder.path().join("fewer");
    let class = fs::read_dir(&reference).unwrap().next().unwrap().unwrap().path();
    fs::create_dir_all(fewer.join("a")).unwrap();
    fs::copy(&files(&class)[0], fewer.join("a/0.png")).unwrap();
    let fewer = fewer.display().to_string();
    assert!(said(2, &["--probe", &fewer]).contains("has 1 classes"), "{}", said(2, &["--probe", &fewer]));
    let spoilt = folder.path().join("spoilt");
    for file in files(reference.as_ref()) {
        let copy = spoilt.join(file.strip_prefix(&reference).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        let bytes = if file.starts_with(&class) { b"no picture".to_vec() } else { fs::read(&file).unwrap() };
        fs::write(copy, bytes).unwrap();
    }
    let spoilt = spoilt.display().to_string();
    assert!(said(2, &["--probe", &spoilt, "--shots", "1"]).contains("which cannot be decoded"));
    let other = ["eval", &checkpoint, "--model", MODEL, "--data", &fewer, "--nearest", &radii];
    assert!(stderr(&run(2, &other)).contains("--nearest: 1 of 1 pictures are not in it (first: a/0.png)"));
}
