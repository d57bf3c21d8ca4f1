//! `trommel study`, driven as a user drives it: on real pictures, against a naive model of what each split and gap must be.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use common::members::append;
use common::processes::{Group, until};
use common::{MODEL, run, stderr, test_data};
use half::f16;
use serde_json::Value;
use trommel_columnar::embeddings::EmbeddingSet;
use trommel_ledger::read::Ledger;

/// Pictures of the test set in three folders: every third one is the reference's, the others are two benchmarks'.
fn benchmarks(data: &Path, into: &Path) {
    for class in fs::read_dir(data.join("cifar_test")).unwrap() {
        let class = class.unwrap().path();
        let mut pictures: Vec<PathBuf> = fs::read_dir(&class).unwrap().map(|entry| entry.unwrap().path()).collect();
        pictures.sort();
        for (at, picture) in pictures.iter().enumerate() {
            let folder = into.join(["reference", "even", "odd"][at % 3]).join(class.file_name().unwrap());
            fs::create_dir_all(&folder).unwrap();
            std::os::unix::fs::symlink(picture, folder.join(picture.file_name().unwrap())).unwrap();
        }
    }
}

/// A study of a model of tests, in a few steps.
fn file(folder: &Path, data: &Path, seeds: &str) -> String {
    let path = folder.join("study.toml");
    let shards = data.join("shards/cifar/{00000..00003}.tar");
    let text = format!(
        r#"
pool = "{}"
reference = "reference"
model = "{MODEL}"
seeds = {seeds}
trainings_at_once = 2
core = "50 %"

[ladder]
sizes = [500]
benchmarks = ["odd"]

[benchmarks.even]
data = "even"

[benchmarks.odd]
data = "odd"
templates = "templates.txt"

[embedder]
model = "{MODEL}"
random_init = 1

[training]
batch = 64
steps = 3
lr = 1e-3
precision = "f32"
"#,
        shards.display()
    );
    fs::write(&path, text).unwrap();
    fs::write(folder.join("templates.txt"), "a photo of a {}.\na picture of one {}\n").unwrap();
    path.display().to_string()
}

/// The exact similarity: products of f16 summed in f64.
fn similarity(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Vectors in f64, one after the other.
fn wide(vectors: &[f16], dim: usize) -> Vec<Vec<f64>> {
    vectors.chunks_exact(dim).map(|vector| vector.iter().map(|value| f64::from(*value)).collect()).collect()
}

/// The largest of them.
fn most(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::NEG_INFINITY, f64::max)
}

/// Rows of a split's list.
fn rows(run: &Path, name: &str) -> BTreeSet<(String, String)> {
    let rows = trommel_select::split::read_rows(&run.join("splits").join(name)).unwrap();
    rows.map(|row| row.unwrap()).map(|row| (row.shard, row.key)).collect()
}

/// Files below a folder with the times of their last change.
fn times(folder: &Path) -> BTreeMap<PathBuf, std::time::SystemTime> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                folders.push(path);
            } else {
                found.insert(path, metadata.modified().unwrap());
            }
        }
    }
    found
}

#[test]
fn a_study_of_real_pictures_does_what_a_naive_model_does_and_nothing_twice() {
    let Some(data) = test_data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (root, into) = (folder.path(), folder.path().join("run"));
    benchmarks(&data, root);
    let study = file(root, &data, "[5]");
    let run_folder = into.display().to_string();
    let words = ["study", &study, "--run", &run_folder, "--json"];
    let out = run(0, &words);
    let said = stderr(&out);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();

    // Everything once more, naively.
    let ledger = Ledger::open(&into.join("pool")).unwrap();
    let pool: Vec<((String, String), Vec<f64>)> = (ledger.shards().keys())
        .flat_map(|&ordinal| {
            let sample = move |key: String| (format!("{ordinal:05}.tar"), key);
            let rows = ledger.embeddings(ordinal).unwrap().into_iter();
            rows.map(move |row| (sample(row.key), wide(&row.vector, row.vector.len()).remove(0)))
        })
        .collect();
    assert_eq!((pool.len(), report["pool"]["judged"].as_u64()), (2_000, Some(2_000)));
    let embedded = |name: &str| EmbeddingSet::open(&into.join("radii").join(name)).unwrap();
    let reference = embedded("embedded/reference");
    let reference = wide(&reference.vectors, reference.dim);
    let mut removed: BTreeMap<&str, BTreeSet<(String, String)>> = BTreeMap::new();
    let mut nearest: BTreeMap<(String, String), BTreeMap<&str, f64>> = BTreeMap::new();
    let mut measured: BTreeMap<&str, (Vec<Vec<f64>>, Vec<f64>)> = BTreeMap::new();
    for name in ["even", "odd"] {
        let set = embedded(name);
        let points = wide(&set.vectors, set.dim);
        let radii: Vec<f64> =
            points.iter().map(|point| most(reference.iter().map(|it| similarity(it, point)))).collect();
        assert_eq!(set.radii.unwrap(), radii, "{name}");
        let to_points = |vector: &Vec<f64>| points.iter().map(|point| similarity(vector, point)).collect::<Vec<_>>();
        let all: Vec<Vec<f64>> = pool.iter().map(|(_, vector)| to_points(vector)).collect();
        for ((sample, _), all) in pool.iter().zip(&all) {
            if all.iter().zip(&radii).any(|(similarity, radius)| similarity > radius) {
                removed.entry(name).or_default().insert(sample.clone());
            }
            nearest.entry(sample.clone()).or_default().insert(name, most(all.iter().copied()));
        }
        measured.insert(name, (all, radii));
    }
    // What the pool and the pruned sets come to is measured again, by nobody's rule.
    let mut gaps = 0;
    for gap in report["gaps"].as_array().unwrap() {
        let (set, name) = (gap["set"].as_str().unwrap(), gap["benchmark"].as_str().unwrap());
        let gone: BTreeSet<_> = match set {
            "pool" => BTreeSet::new(),
            "pruned-combined" => removed.values().flatten().collect(),
            _ if set == format!("pruned-{name}") => removed[name].iter().collect(),
            _ => continue,
        };
        let (all, radii) = &measured[name];
        let kept: Vec<_> = pool.iter().zip(all).filter(|((sample, _), _)| !gone.contains(sample)).collect();
        let mut found: Vec<f64> = (0..radii.len()).map(|at| most(kept.iter().map(|(_, all)| all[at]))).collect();
        let over = found.iter().zip(radii).filter(|(similarity, radius)| similarity > radius).count();
        found.sort_by(f64::total_cmp);
        assert_eq!(gap["over_radius"].as_u64(), Some(over as u64), "{set} {name}");
        // JSON is parsed to the last but one bit.
        for (field, due) in [("least", found[0]), ("largest", found[found.len() - 1])] {
            assert!((gap[field].as_f64().unwrap() - due).abs() < 1e-15, "{set} {name} {field}");
        }
        assert_eq!(over == 0, set != "pool", "{set} {name}: {over} above their radius");
        gaps += 1;
    }
    assert_eq!(gaps, 6);
    let all: BTreeSet<_> = nearest.keys().cloned().collect();
    let gone: BTreeSet<_> = removed.values().flatten().cloned().collect();
    assert!(removed["even"].len() > 20 && removed["odd"].len() > 20 && gone.len() < 1_900, "{}", gone.len());
    assert_eq!(rows(&into, "pruned-even.parquet"), &all - &removed["even"]);
    assert_eq!(rows(&into, "pruned-odd.parquet"), &all - &removed["odd"]);
    assert_eq!(rows(&into, "pruned-combined.parquet"), &all - &gone);
    let ordered = |score: &dyn Fn(&BTreeMap<&str, f64>) -> f64| {
        let mut order: Vec<_> = nearest.iter().map(|(sample, near)| (score(near), sample.clone())).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        order
    };
    let odd = ordered(&|near| near["odd"]);
    let named =
        |order: &[(f64, (String, String))]| order.iter().map(|(_, sample)| sample.clone()).collect::<BTreeSet<_>>();
    assert_eq!(rows(&into, "far-odd-500.parquet"), named(&odd[..500]));
    let core = ordered(&|near| near.values().copied().fold(f64::NEG_INFINITY, f64::max));
    assert_eq!(rows(&into, "core-1000.parquet"), named(&core[..1_000]));
    let near = rows(&into, "near-odd-500.parquet");
    let limit = odd[1_500].0;
    assert!(near.len() == 500 && near.iter().all(|sample| nearest[sample]["odd"] <= limit));
    assert_eq!(rows(&into, "seed-5/random-500.parquet").len(), 500);

    // One training of each set; the page, and each table in each form.
    let sets: Vec<&str> = report["sets"].as_array().unwrap().iter().map(|set| set["name"].as_str().unwrap()).collect();
    let wanted = [
        "pool",
        "pruned-even",
        "pruned-odd",
        "pruned-combined",
        "core-1000",
        "far-odd-500",
        "near-odd-500",
        "random-500",
    ];
    assert_eq!(sets, wanted);
    for set in wanted {
        let training = report["trainings"].as_array().unwrap().iter().find(|it| it["set"] == set).unwrap();
        assert_eq!((training["steps"].as_u64(), training["samples_seen"].as_u64()), (Some(3), Some(192)), "{set}");
    }
    let page = fs::read_to_string(into.join("report/index.html")).unwrap();
    assert!(page.contains("near below random below far") && page.contains("pruned-even costs most on even"), "{page}");
    let table = fs::read_to_string(into.join("report/accuracy.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + wanted.len(), "{table}");
    assert!(into.join("report/similarity-gaps.tex").exists() && into.join("report/size--odd.svg").exists());
    assert!(said.contains("pruned-odd: 0 of 330 test points of odd above their radius"), "{said}");

    // A kill between a training's last checkpoint and the mark of its end: no step is left to make.
    fs::remove_file(into.join("training/pool/seed-5.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&run(0, &words).stdout).unwrap(), report);

    // Again: nothing is done twice; with one seed more: only what is new; with another list of templates, all is evaluated by it.
    let before = times(&into.join("training"));
    let again = run(0, &words);
    assert!(!stderr(&again).contains(": training "), "{}", stderr(&again));
    assert_eq!(serde_json::from_slice::<Value>(&again.stdout).unwrap(), report);
    file(root, &data, "[5, 6]");
    fs::write(root.join("templates.txt"), "one {}\n").unwrap();
    let more = stderr(&run(0, &words));
    // A slow machine draws progress too; it says as much after the seed.
    let begins = |line: &&str| line.contains(": training ") && !line.contains(" samples (");
    let begun: Vec<&str> = more.lines().filter(begins).collect();
    assert!(begun.len() == wanted.len() && begun.iter().all(|line| line.ends_with("seed 6")), "{more}");
    let evaluated = fs::read_to_string(into.join("evaluation/pool/seed-5.json")).unwrap();
    assert!(evaluated.contains("one {}") && !evaluated.contains("a picture of one {}"), "{evaluated}");
    let after = times(&into.join("training"));
    assert!(before.iter().all(|(path, time)| after.get(path) == Some(time)), "a finished training was touched");

    // Other threads and another embedder want another folder.
    let refused = stderr(&run(2, &[&words[..], &["--threads", "99"]].concat()));
    assert!(refused.contains("was begun with another threads: ") && refused.contains(" there, 99 here"), "{refused}");
    let text = fs::read_to_string(&study).unwrap().replace("random_init = 1", "random_init = 2");
    fs::write(&study, text).unwrap();
    let refused = stderr(&run(2, &words));
    assert!(refused.contains("was begun with another embedder.random_init: 1 there, 2 here"), "{refused}");
}

#[test]
fn what_a_file_asks_for_in_vain_is_said_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (root, into) = (folder.path(), folder.path().join("run"));
    run(
        0,
        &[
            "synth",
            &root.join("data").display().to_string(),
            "--shards",
            "1",
            "--samples",
            "20",
            "--reference-pictures",
            "1",
            "--benchmark-pictures",
            "1",
        ],
    );
    let good = format!(
        "pool = \"data/shards/*.tar\"\nreference = \"data/reference\"\nmodel = \"{MODEL}\"\n[benchmarks.photo]\ndata = \"data/benchmarks/photo\"\n\
         [embedder]\nmodel = \"{MODEL}\"\nrandom_init = 0\n[training]\nbatch = 8\nsteps = 1\n"
    );
    let file = root.join("study.toml");
    let names = root.join("names.txt");
    fs::write(&names, "one\ntwo\n").unwrap();
    let place = file.display().to_string();
    let own_model = format!("model = \"{MODEL}\"\n[b");
    for (from, to, due) in [
        ("batch = 8", "batch = 8\nlearning_rate = 1", "study.toml: line 11: unknown field `learning_rate`"),
        ("batch = 8", "batch = \"8\"", "study.toml: line 10: invalid type: string \"8\", expected usize"),
        ("steps = 1", "", "training: a schedule needs a length: give one of steps, samples or passes"),
        ("batch = 8", "batch = 1", "training: a batch of 1: a contrastive loss needs 2 samples at least"),
        ("steps = 1", "steps = 1\nwarmup = 1", "training: a warm-up of 1 steps does not end within a run of 1"),
        ("steps = 1", "passes = 0", "training: a run of no step at all"),
        ("random_init = 0", "", "embedder: give one of weights, random_init or trained"),
        ("random_init = 0", "weights = \"no.pt\"", "embedder.weights: no such file or folder:"),
        ("data/reference", "no/reference", "reference: no such file or folder:"),
        ("data/shards/*.tar", "no/*.tar", "pool: "),
        ("data/benchmarks/photo", "no/photo", "benchmarks.photo.data: no such file or folder:"),
        (
            "data/benchmarks/photo\"",
            "data/benchmarks/photo\"\nclassnames = \"names.txt\"",
            "benchmarks.photo: 2 class names for 12 class folders",
        ),
        (
            "[benchmarks.photo]",
            "[ladder]\nsizes = [5]\nbenchmarks = [\"sketch\"]\n[benchmarks.photo]",
            "ladder.benchmarks: there is no benchmark sketch; there are photo",
        ),
        (
            "[benchmarks.photo]",
            "[ladder]\nsizes = [\"5\"]\n[benchmarks.photo]",
            "a size is a number of samples or a share of the pool, \"25 %\", not \"5\"",
        ),
        (own_model.as_str(), "model = \"ViT-B-16-SigLIP\"\n[b", "SentencePiece vocabulary that is not read here"),
        (
            "pool = \"data/shards/*.tar\"",
            "inject_reference = \"a {class}\"\npool = \"data/reference\"",
            "inject_reference: the reference joins a pool of shards, and this pool is class folders",
        ),
        (
            "model = ",
            "reference_classnames = \"names.txt\"\nmodel = ",
            "reference_classnames, reference_class_table: they are for the caption of inject_reference",
        ),
        (
            "model = ",
            "inject_reference = \"a {class}\"\nreference_classnames = \"names.txt\"\nmodel = ",
            "reference: 2 class names for 12 class folders",
        ),
        ("model = ", "seeds = [1, 1]\nmodel = ", "seeds: give one at least, and none twice"),
        ("model = ", "generated = {}\nmodel = ", "generated: it makes pool, reference and benchmarks itself"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        fs::write(&file, text).unwrap();
        let said = stderr(&run(2, &["study", &place, "--run", &into.display().to_string()]));
        assert!(said.contains(due) && said.trim_end().lines().count() == 1, "{to}: {said}");
        assert!(!into.exists(), "{to}");
    }
}

/// A study on generated pictures whose reference joins the pool and whose embedder is trained first; killed in the middle, it ends as one that
/// was left alone.
#[test]
fn a_killed_study_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("study.toml");
    let recipe = "batch = 16\nsteps = 2\nlr = 1e-3\nprecision = \"f32\"\n";
    let text = format!(
        "model = \"{MODEL}\"\nseeds = [3]\ninject_reference = \"a photo of a {{class}}\"\nladder = {{ sizes = [\"40 %\"], benchmarks = [\"photo\"] }}\n\
         [generated]\nshards = 2\nsamples = 60\nbroken_share = 0.0\nreference_pictures_per_class = 2\nbenchmark_pictures_per_class = 1\n\
         [embedder]\nmodel = \"{MODEL}\"\n[embedder.trained]\n{recipe}[training]\n{recipe}"
    );
    fs::write(&file, text).unwrap();
    let words = |run: &Path| {
        ["study", file.to_str().unwrap(), "--run", run.to_str().unwrap(), "--threads", "1", "--json"].map(String::from)
    };
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let due: Value = serde_json::from_slice(&run(0, &common::words(&words(&whole))).stdout).unwrap();
    // The pool has the reference's 24 pictures too, and none of them can go by its own radii.
    assert_eq!(due["pool"]["judged"], 144);
    let kept = rows(&whole, "pruned-combined.parquet");
    assert_eq!(kept.iter().filter(|(shard, _)| shard.starts_with("reference/")).count(), 24);
    assert!(kept.len() < 144, "{}", kept.len());
    // Sets of a size are drawn from the pool alone: 40 % of its 120.
    let (alone, far) = (rows(&whole, "alone/pool-alone.parquet"), rows(&whole, "alone/far-photo-48.parquet"));
    assert_eq!((alone.len(), far.len(), rows(&whole, "alone/seed-3/random-48.parquet").len()), (120, 48, 48));
    assert!(alone.iter().chain(&far).all(|(shard, _)| !shard.starts_with("reference/")));

    for mark in ["radii.json", "training/pruned-photo/seed-3.json"] {
        let mut group = Group::start(&words(&killed));
        until(240, || killed.join(mark).exists() || group.status().is_some());
        group.kill_all();
        assert!(killed.join(mark).exists() && !killed.join("report/index.html").exists(), "{}", group.said());
    }
    let before = times(&killed.join("training"));
    let out = run(0, &common::words(&words(&killed)));
    let mut found: Value = serde_json::from_slice(&out.stdout).unwrap();
    found["page"] = due["page"].clone();
    assert_eq!(found, due);
    let after = times(&killed.join("training"));
    let done = before.iter().filter(|(path, _)| path.starts_with(killed.join("training/pruned-cartoon")));
    assert!(done.clone().count() > 5 && done.clone().all(|(path, time)| after.get(path) == Some(time)));
}

/// A picture that was judged and cannot be decoded any more when it is trained on is lost, and the study says so: of a split's training, which
/// reads it for the first time, and of the pool's, where the ledger's decisions are replayed.
#[test]
fn what_cannot_be_read_any_more_when_it_is_trained_on_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (root, into) = (folder.path(), folder.path().join("run"));
    let data = root.join("data").display().to_string();
    let pictures = ["--reference-pictures", "1", "--benchmark-pictures", "1"];
    run(0, &[&["synth", &data, "--shards", "1", "--samples", "40"][..], &pictures].concat());
    // The photos once more, in tars that have the same keys.
    let photos = root.join("data/benchmarks/photo");
    let mut classes: Vec<String> = (fs::read_dir(&photos).unwrap().map(|class| class.unwrap().path()))
        .filter(|class| class.is_dir())
        .map(|class| class.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    classes.sort();
    let of_names: String = classes.iter().map(|class| class.replace('_', " ") + "\n").collect();
    fs::write(root.join("names.txt"), of_names).unwrap();
    fs::create_dir(root.join("tars")).unwrap();
    for (at, half) in classes.chunks(classes.len() / 2).enumerate() {
        let mut tar = tar::Builder::new(fs::File::create(root.join(format!("tars/{at}.tar"))).unwrap());
        for (key, class) in half.iter().enumerate() {
            let number = classes.iter().position(|other| other == class).unwrap();
            let picture = fs::read_dir(photos.join(class)).unwrap().next().unwrap().unwrap().path();
            append(&mut tar, format!("{key}.cls"), number.to_string().as_bytes());
            append(&mut tar, format!("{key}.jpg"), &fs::read(picture).unwrap());
        }
        tar.finish().unwrap();
    }
    let (file, run_folder) = (root.join("study.toml"), into.display().to_string());
    let study = |seeds: &str| {
        let text = format!(
            "pool = \"data/shards/*.tar\"\nreference = \"data/reference\"\nmodel = \"{MODEL}\"\nseeds = {seeds}\n[benchmarks.photo]\n\
             data = \"data/benchmarks/photo\"\n[benchmarks.tars]\ndata = \"tars\"\nclassnames = \"names.txt\"\n[embedder]\nmodel = \"{MODEL}\"\nrandom_init = 1\n[training]\nbatch = 8\nsteps = 8\nprecision = \"f32\"\n"
        );
        fs::write(&file, text).unwrap();
        let out = run(0, &["study", file.to_str().unwrap(), "--run", &run_folder, "--json", "--max-rejects", "9"]);
        (serde_json::from_slice::<Value>(&out.stdout).unwrap(), stderr(&out))
    };
    let (report, _) = study("[1]");
    for code in ["rejected_in_training", "skipped_in_training", "similarity_not_known"] {
        assert!(report["notices"][code].is_null(), "{report}");
    }
    // Equal pictures are as near in tars as in class folders, and guessed as well.
    let bins = |at: usize| -> Vec<String> {
        let bins = report["bins"][at]["bins"].as_array().unwrap().iter();
        bins.map(|bin| ["low", "pictures", "top1"].map(|field| bin[field].to_string()).join(" ")).collect()
    };
    assert!(!bins(0).is_empty() && bins(0) == bins(1), "{report}");
    let (shard, key) = rows(&into, "pruned-photo.parquet").into_iter().next().unwrap();
    let path = root.join("data/shards").join(&shard);
    let mut tar = fs::read(&path).unwrap();
    let name = format!("{key}.jpg");
    let at = tar.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    tar[at + 512..at + 512 + 64].fill(0);
    fs::write(&path, tar).unwrap();
    let (report, said) = study("[1, 2]");
    let lost = |code: &str| {
        let notice = &report["notices"][code];
        (
            notice["count"].as_u64(),
            notice["lost_samples"].as_u64(),
            notice["first"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let (count, samples, first) = lost("rejected_in_training");
    assert_eq!((count, samples), (Some(1), Some(1)), "{report}");
    assert!(first.contains("pruned-photo, seed 2"), "{first}");
    let (count, samples, first) = lost("skipped_in_training");
    // Each pass skips it again.
    assert!(count >= Some(1) && samples == Some(1) && first.contains(&key), "{report}");
    let line =
        "samples of a training set that could not be read when it was trained: 1, 1 samples lost (first: training ";
    assert!(said.contains(line), "{said}");
}
