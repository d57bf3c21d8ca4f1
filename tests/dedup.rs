//! `trommel dedup`, driven as a user drives it.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::members::append;
use common::{MODEL, World, peer, run, stderr};
use half::f16;
use serde_json::Value;
use trommel_columnar::embeddings::EmbeddingSet;
use trommel_columnar::npy::{head_bytes, pair_head_bytes};
use trommel_columnar::parquet::{Column, ColumnType, TableReader};
use trommel_core::sample::Identity;

const DIM: usize = 2;

/// A sample at an angle, in degrees.
type Row = (&'static str, u32, &'static str, f64);

/// Two shards that come in another order than their names'. Duplicates stand 2 degrees apart, a chain of them, one copy to the bit.
const ROWS: [Row; 8] = [
    ("b.tar", 0, "b0", 0.0),
    ("b.tar", 1, "b1", 2.0),
    ("b.tar", 4, "b4", 4.0),
    ("a.tar", 2, "a2", 90.0),
    ("a.tar", 3, "a3", 90.0),
    ("a.tar", 5, "a5", 6.0),
    ("a.tar", 8, "a8", 180.0),
    ("a.tar", 9, "a9", 182.0),
];

fn identity(weights: &str) -> Identity {
    let text = |text: &str| text.to_owned();
    Identity { architecture: text("tiny"), weights: text(weights), preprocessing: text("p"), decoder: text("d") }
}

fn write(folder: &Path, rows: &[Row], weights: &str) -> String {
    let vector = |angle: f64| [angle.to_radians().cos(), angle.to_radians().sin()].map(f16::from_f64);
    let set = EmbeddingSet {
        dim: DIM,
        vectors: rows.iter().flat_map(|row| vector(row.3)).collect(),
        keys: rows.iter().map(|row| row.2.into()).collect(),
        labels: vec![None; rows.len()],
        shards: rows.iter().map(|row| Some(row.0.into())).collect(),
        indices: rows.iter().map(|row| Some(row.1)).collect(),
        identity: Some(identity(weights)),
        ..EmbeddingSet::default()
    };
    set.write(folder, BTreeMap::new()).unwrap();
    folder.display().to_string()
}

fn json(args: &[&str]) -> Value {
    json_of(&run(0, &[args, &["--json"]].concat()))
}

fn json_of(out: &std::process::Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(out)))
}

/// A column of a table.
fn column(path: &Path, name: &str, kind: ColumnType) -> Vec<Column> {
    let file = Box::new(std::fs::File::open(path).unwrap());
    let groups = TableReader::open(path, file, &[(name, kind)]).unwrap();
    groups.map(|group| group.unwrap().into_iter().next().unwrap()).collect()
}

fn texts(path: &Path, name: &str) -> Vec<String> {
    let of = |column| match column {
        Column::Text(texts) => texts.into_iter().map(Option::unwrap).collect::<Vec<_>>(),
        other => panic!("{:?}", other.kind()),
    };
    column(path, name, ColumnType::Text).into_iter().flat_map(of).collect()
}

fn numbers(path: &Path, name: &str) -> Vec<f64> {
    let of = |column| match column {
        Column::F64(numbers) => numbers.into_iter().map(Option::unwrap).collect::<Vec<_>>(),
        other => panic!("{:?}", other.kind()),
    };
    column(path, name, ColumnType::F64).into_iter().flat_map(of).collect()
}

/// Who goes, each with whom it is a duplicate of.
fn pairs(out: &Path) -> Vec<(String, String)> {
    pairs_in(&out.join("dedup.duplicates.parquet"))
}

fn pairs_in(path: &Path) -> Vec<(String, String)> {
    texts(path, "key").into_iter().zip(texts(path, "by_key")).collect()
}

fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn who_goes_and_because_of_whom() {
    let folder = tempfile::tempdir().unwrap();
    let set = write(&folder.path().join("set"), &ROWS, "w");
    let out = |name: &str| folder.path().join(name);
    let above = "0.999"; // 2.56 degrees
    let all = ["dedup", &set, "--above", above, "--format", "parquet,txt", "-o"];
    let report = json(&[&all[..], &[&out("plan").display().to_string()]].concat());
    // In the order of (shard's name, index); each goes because of the most similar one before it in the set.
    let expected = [("a3", "a2"), ("a5", "b4"), ("a9", "a8"), ("b1", "b0"), ("b4", "b1")];
    assert_eq!(pairs(&out("plan")), named(&expected));
    let list = std::fs::read_to_string(out("plan").join("dedup.txt")).unwrap();
    assert_eq!(list, "a.tar/a2\na.tar/a8\nb.tar/b0\n");
    assert_eq!(texts(&out("plan").join("dedup.parquet"), "key"), ["a2", "a8", "b0"]);
    let of = |name: &str| report[name].as_u64().unwrap();
    assert_eq!((of("samples"), of("kept"), of("dropped")), (8, 3, 5));
    assert_eq!((of("pairs_above"), of("pairs_compared"), report["operations"].as_f64()), (5, 28, Some(112.0)));
    let head: Value = serde_json::from_slice(&std::fs::read(out("plan").join("dedup.split.json")).unwrap()).unwrap();
    assert_eq!(head["rule"], "dedup:above=0.999,order=plan");
    assert_eq!((&head["identity"]["weights"], &head["shards"], &head["judged"]), (&"w".into(), &2.into(), &8.into()));

    json(&[&all[..], &[&out("exact").display().to_string(), "--exact"]].concat());
    assert_eq!(pairs(&out("exact")), pairs(&out("plan")), "few pairs are all compared anyway");

    let greedy = json(&[&all[..], &[&out("greedy").display().to_string(), "--greedy"]].concat());
    // b4 stays, being like nobody that stays, and a5 goes because of it.
    assert_eq!(pairs(&out("greedy")), named(&[("a3", "a2"), ("a5", "b4"), ("a9", "a8"), ("b1", "b0")]));
    assert_eq!(greedy["rule"], "dedup:above=0.999,order=plan,greedy");
    // In the place of another split nothing of that one stays.
    json(&["dedup", &set, "--above", above, "--greedy", "-o", &out("plan").display().to_string()]);
    assert_eq!(texts(&out("plan").join("dedup.parquet"), "key"), ["a2", "a8", "b0", "b4"]);
    assert!(!out("plan").join("dedup.txt").exists());
}

/// What is written does not depend on threads and memory, and the file of one format is the split.
#[test]
fn the_machine_has_no_say() {
    let folder = tempfile::tempdir().unwrap();
    let set = noise(&folder.path().join("set"), 1500);
    let bytes = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let into = out.display().to_string();
        let clusters = ["--clusters", "20", "--order", "centroid-far", "--sample", "900", "--seed", "7"];
        json(&[&["dedup", &set, "--above", "0.95", "-o", &into], &clusters[..], more].concat());
        let read = |of: &str| std::fs::read(out.join(format!("dedup{of}"))).unwrap();
        let files = [".parquet", ".duplicates.parquet", ".samples.parquet", ".split.json"].map(read);
        (files, texts(&out.join("dedup.parquet"), "key"))
    };
    let first = bytes("one", &["--threads", "1"]);
    assert!(bytes("two", &["--threads", "2", "--memory", "224MiB"]) == first);
    assert!(bytes("four", &["--threads", "4", "--check-recall"]) == first);
    // The files' heads hold the seed: who is kept is another question.
    assert!(bytes("seed", &["--seed", "8"]).1 != first.1);
}

/// Vectors of 16 in bunches, many of them alike.
fn noise(folder: &Path, count: usize) -> String {
    let (mut state, dim) = (9u64, 16);
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5
    };
    let bunches: Vec<f64> = (0..30 * dim).map(|_| noise()).collect();
    let mut vectors = Vec::new();
    for at in 0..count {
        let bunch = &bunches[at % 30 * dim..][..dim];
        let raw: Vec<f64> = bunch.iter().map(|x| x + 0.25 * noise()).collect();
        let norm = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
        vectors.extend(raw.iter().map(|x| f16::from_f64(x / norm)));
    }
    let set = EmbeddingSet {
        dim,
        vectors,
        keys: (0..count).map(|at| format!("{at:05}")).collect(),
        labels: vec![None; count],
        shards: (0..count).map(|at| Some(format!("{:03}.tar", at / 100))).collect(),
        indices: (0..count).map(|at| Some(at as u32 % 100)).collect(),
        identity: Some(identity("w")),
        ..EmbeddingSet::default()
    };
    set.write(folder, BTreeMap::new()).unwrap();
    folder.display().to_string()
}

#[test]
fn clusters_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let set = noise(&folder.path().join("set"), 1200);
    let into = folder.path().join("split.parquet").display().to_string();
    let out = run(0, &["dedup", &set, "--above", "0.97", "--clusters", "30", "--check-recall", "--json", "-o", &into]);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let (clusters, recall) = (&report["clusters"], &report["recall"]);
    assert_eq!((&clusters["wanted"], &clusters["found"]), (&30.into(), &30.into()));
    let share = recall["share"].as_f64().unwrap();
    assert!(share > 0.5 && share <= 1.0, "{recall}");
    assert_eq!(recall["of_these_by_clusters"], report["dropped"], "what clusters find is found by all pairs too");
    assert!(recall["pairs_above"].as_u64() >= report["pairs_above"].as_u64());
    let said = stderr(&out);
    assert!(said.contains("k-means, 30 clusters") && said.contains("the clusters have found"), "{said}");
    assert!(said.contains("compared, those with centres included,"), "{said}");
    for file in ["split.parquet", "split.duplicates.parquet", "split.samples.parquet", "split.split.json"] {
        assert!(folder.path().join(file).exists(), "{file}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5, "nothing else is left");
    // Mini-batches, a few rounds of them; and who is nearest to a cluster's centre, or farthest from it, stays.
    for (order, sign) in [("centroid-near", 1.0), ("centroid-far", -1.0)] {
        let some = ["--clusters", "30", "--batch", "200", "--iterations", "3", "--order", order];
        let report = json(&[&["dedup", &set, "--above", "0.97", "-o", &into][..], &some].concat());
        let rounds = report["clusters"]["rounds"].as_array().unwrap();
        assert!(rounds.len() == 3 && rounds.iter().all(|round| round["moved"].as_u64() <= Some(200)), "{report}");
        let samples = folder.path().join("split.samples.parquet");
        let distance: BTreeMap<_, _> =
            texts(&samples, "key").into_iter().zip(numbers(&samples, "centroid_distance")).collect();
        let pairs = pairs_in(&folder.path().join("split.duplicates.parquet"));
        assert!(pairs.len() > 100 && pairs.len() as u64 == report["dropped"].as_u64().unwrap());
        assert!(pairs.iter().all(|(gone, by)| sign * (distance[gone] - distance[by]) >= 0.0), "{order}");
    }
    // The paper's setting, as it is documented.
    let paper = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/semdedup-laion.toml");
    let report = json(&["dedup", &set, "--config", paper, "-o", &into]);
    let rule = "dedup:above=0.876,order=plan,clusters=50000,apart=0.9,moved=0.0000001,iterations=100,sample=12800000";
    assert_eq!(report["rule"], rule);
    assert!(std::fs::read_to_string(folder.path().join("split.split.json")).unwrap().contains("\"seed\": 333"));
    // As many clusters as do not lie apart: fewer, and it is said.
    let out = run(0, &["dedup", &set, "--above", "0.97", "--clusters", "900", "--apart", "0.5", "-o", &into]);
    assert!(stderr(&out).contains("not so many samples that lie apart"), "{}", stderr(&out));
}

#[test]
fn a_set_beside_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let set = write(&folder.path().join("set"), &ROWS, "w");
    let train = [("t.tar", 0, "t0", 91.0), ("t.tar", 1, "t1", 89.0), ("t.tar", 2, "t2", 45.0)];
    let train = write(&folder.path().join("train"), &train, "w");
    let into = folder.path().join("out");
    let report = json(&["dedup", &set, "--against", &train, "--above", "0.999", "-o", &into.display().to_string()]);
    // Equally near ones: the first.
    assert_eq!(pairs(&into), named(&[("a2", "t0"), ("a3", "t0")]));
    assert_eq!((&report["others"], &report["kept"], &report["pairs_compared"]), (&3.into(), &6.into(), &24.into()));
    let head: Value = serde_json::from_slice(&std::fs::read(into.join("dedup.split.json")).unwrap()).unwrap();
    assert_eq!((&head["rule"], &head["benchmarks"][0]["points"]), (&"dedup:above=0.999,against".into(), &3.into()));
    let other = write(&folder.path().join("other"), &ROWS[..2], "v");
    let refused = run(2, &["dedup", &set, "--against", &other, "--above", "0.9", "-o", &into.display().to_string()]);
    assert!(stderr(&refused).contains("weights v") && stderr(&refused).contains("weights w"), "{}", stderr(&refused));
}

/// Files that cannot all have their names have none of them, and what an earlier split left stays.
#[test]
fn all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let set = write(&folder.path().join("set"), &ROWS, "w");
    let out = folder.path().join("out");
    let dedup = ["dedup", &set, "--above", "0.999", "-o", &out.display().to_string()];
    let standing = || {
        let entries = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| (std::fs::read(&path).ok(), path)).collect::<BTreeSet<_>>()
    };
    for name in ["dedup.samples.parquet", "dedup.duplicates.parquet", "dedup.parquet"] {
        let in_the_way = out.join(name);
        std::fs::create_dir_all(&in_the_way).unwrap();
        let said = stderr(&run(1, &dedup));
        assert!(said.contains(name), "{said}");
        assert_eq!(standing(), BTreeSet::from([(None, in_the_way.clone())]));
        std::fs::remove_dir(&in_the_way).unwrap();
        run(0, &dedup);
        std::fs::remove_file(&in_the_way).unwrap();
        std::fs::create_dir(&in_the_way).unwrap();
        let before = standing();
        run(1, &[&dedup[..], &["--greedy"]].concat());
        assert!(standing() == before && before.len() == 4, "{name}");
        std::fs::remove_dir_all(&out).unwrap();
    }
}

/// Whoever could not be embedded was compared with nobody: a set is not clean of those of another one, and how many there are is said.
#[test]
fn who_could_not_be_embedded_is_told() {
    let world = World::shared();
    let (broken, embedded, out) = (world.path("broken.tar"), world.path("dedup-broken"), world.path("dedup-clean"));
    let mut tar = tar::Builder::new(std::fs::File::create(&broken).unwrap());
    (0..10).for_each(|at| append(&mut tar, format!("{at}.jpg"), b"no picture"));
    tar.finish().unwrap();
    let whole = world.path("data/shards/00000.tar");
    let model = ["-o", &embedded, "--model", MODEL, "--random-init", "1", "--max-rejects", "100"];
    run(0, &[&["embed", &whole, &broken][..], &model].concat());
    let photo = world.path("embedded/photo");
    let against = ["dedup", &photo, "--against", &embedded, "--above", "0.99", "-o", &out];
    let said = stderr(&run(4, &against));
    for line in [
        "samples of the other set that could not be judged: nothing was compared with them: 10, 10 samples lost",
        "of --against: of 58 samples 0 were rejected and 10 lost",
    ] {
        assert!(said.contains(line), "{said}");
    }
    let report = json(&[&against[..], &["--max-rejects", "20"]].concat());
    let lost = &report["others_notices"]["others_rejected"]["count"];
    assert_eq!((&report["others"], lost, &report["rejected"]), (&48.into(), &10.into(), &0.into()));
    let said = stderr(&run(0, &["dedup", &embedded, "--above", "0.99", "-o", &out]));
    assert!(said.contains("10 could not be judged and 0 are taken down: they are in no split"), "{said}");
    // How a run reads samples is no word on those of a file.
    let reading = || {
        let head: Value = serde_json::from_slice(&std::fs::read(format!("{out}/dedup.split.json")).unwrap()).unwrap();
        head["reading"].as_object().map_or(0, |reading| reading.len())
    };
    assert!(reading() > 0);
    let plain = world.path("dedup-plain.arrow");
    std::fs::copy(format!("{photo}/embeddings.arrow"), &plain).unwrap();
    for inputs in [[&plain, &embedded], [&embedded, &plain]] {
        run(0, &["dedup", inputs[0], inputs[1], "--above", "0.99", "-o", &out]);
        assert_eq!(reading(), 0);
    }
}

/// A run folder: its shards' names and places, and captions as its ledger knows them; the split is one that `stream` and `train` read.
#[test]
fn a_run_of_embed() {
    let world = World::shared();
    let (run_folder, out) = (world.path("dedup-run"), world.path("dedup-out"));
    let shards = world.shards();
    run(0, &["embed", &shards, "-o", &run_folder, "--model", MODEL, "--random-init", "1"]);
    let report = json(&["dedup", &run_folder, "--above", "0.99", "-o", &out]);
    let of = |name: &str| report[name].as_u64().unwrap();
    assert!(of("samples") == 6 * 48 && of("dropped") > 0 && of("kept") > 0, "{report}");
    assert!(of("train_num_samples") < of("kept"), "the ledger knows who has no caption: {report}");
    let names = texts(&PathBuf::from(&out).join("dedup.parquet"), "shard");
    assert!(names.iter().all(|name| name.ends_with(".tar")) && names.is_sorted(), "{names:?}");
    assert_eq!(of("kept"), names.len() as u64);
    let split = format!("{out}/dedup.split.json");
    run(0, &["stream", &shards, "--split", &split, "-o", &world.path("dedup-stream")]);
    let sizes = std::fs::read(world.path("dedup-stream/sizes.json")).unwrap();
    let sizes: BTreeMap<String, u64> = serde_json::from_slice(&sizes).unwrap();
    assert_eq!(sizes.values().sum::<u64>(), of("kept"));
    // Inside a split, whichever form says who is in it.
    let forms = world.path("dedup-forms");
    let formats = ["--rule", "some=random:150", "--format", "parquet,txt,npy"];
    run(0, &[&["select", &run_folder, "-o", &forms][..], &formats].concat());
    let inside = ["parquet", "txt", "npy"].map(|form| {
        let (split, out) = (format!("{forms}/some.{form}"), world.path(&format!("dedup-{form}")));
        let report = json(&["dedup", &run_folder, "--above", "0.99", "--split", &split, "-o", &out]);
        assert_eq!(report["samples"], 150);
        pairs(Path::new(&out))
    });
    assert!(!inside[0].is_empty() && inside[1..].iter().all(|pairs| *pairs == inside[0]), "{inside:?}");
    // Nobody else says of a bare list how many it has.
    let lines = std::fs::read_to_string(format!("{forms}/some.txt")).unwrap() + "00000.tar/none\n";
    let bare = world.path("dedup-bare.txt");
    std::fs::write(&bare, lines).unwrap();
    let lost = run(4, &["dedup", &run_folder, "--above", "0.99", "--split", &bare, "--max-rejects", "0", "-o", &forms]);
    assert!(stderr(&lost).contains("samples of the split that have no embedding here: 1"), "{}", stderr(&lost));
    let (list, more) = (std::fs::read(format!("{forms}/some.npy")).unwrap(), world.path("dedup-more.npy"));
    let none = [&pair_head_bytes(151)[..], &list[list.len() - 16 * 150..], &[255; 16]].concat();
    std::fs::write(&more, none).unwrap();
    let said = stderr(&run(0, &["dedup", &run_folder, "--above", "0.99", "--split", &more, "-o", &forms]));
    assert!(
        said.contains(&format!("uids of the list that no sample of these shards has: 1 (first: {more}: ffff")),
        "{said}"
    );
    // Of its shards' others nothing stays, and of a stranger's nobody knows.
    let (one, table) = (world.path("dedup-one.txt"), format!("{forms}/dedup.parquet"));
    let lines = std::fs::read_to_string(format!("{forms}/some.txt")).unwrap();
    let lines: Vec<&str> = lines.lines().filter(|line| line.starts_with("00000.tar/")).collect();
    std::fs::write(&one, lines.join("\n")).unwrap();
    run(0, &["dedup", &run_folder, "--above", "0.99", "--split", &one, "-o", &forms]);
    let other = world.path("data/shards/00001.tar");
    assert_eq!(run(0, &["stream", &other, "--split", &table]).stdout, [0; 1024]);
    let stranger = world.path("x17.tar");
    std::fs::copy(&other, &stranger).unwrap();
    let said = stderr(&run(2, &["stream", &stranger, "--split", &table]));
    assert!(said.contains("was not made from x17.tar: it names 00000.tar"), "{said}");
    // Rules that look at who stays, and quotas per cluster.
    run(0, &["dedup", &run_folder, "--above", "0.99", "--clusters", "5", "--apart", "1", "-o", &out]);
    let (table, splits) = (format!("{out}/dedup.samples.parquet"), world.path("dedup-splits"));
    let kept = ["--rule", "kept=random:100% and where:kept=1"];
    let even = ["--rule", "even=random:3 per cluster"];
    let select = ["select", &run_folder, "-o", &splits, "--table", &table, "--json"];
    let dense = "dense=keep-highest:60@centroid_distance per cluster by cluster_complexity of where:kept=1";
    let report = json_of(&run(0, &[&select[..], &kept, &even, &["--rule", dense]].concat()));
    assert_eq!(
        texts(&PathBuf::from(&splits).join("kept.parquet"), "key"),
        texts(&PathBuf::from(&out).join("dedup.parquet"), "key")
    );
    assert_eq!(report["splits"][1]["count"], 15);
    // Density: as many as were asked for in all, and nobody who goes.
    assert_eq!((&report["splits"][2]["count"], &report["splits"][2]["remarks"]), (&60.into(), &serde_json::json!([])));
    let stays = texts(&PathBuf::from(&out).join("dedup.parquet"), "key");
    assert!(texts(&PathBuf::from(&splits).join("dense.parquet"), "key").iter().all(|key| stays.contains(key)));
    run(0, &["verify", &format!("{splits}/dense.parquet"), &run_folder, "--table", &table]);
    // Who selects and who verifies is told the same of the table: here that a shard's rows are of nobody who takes part.
    let fewer = format!("{splits}/fewer.parquet");
    let select = ["select", &run_folder, "-o", &fewer, "--table", &table, "--without", "00001.tar", "--json"];
    let selected = run(0, &[&select[..], &["--rule", "where:kept=1"]].concat());
    let report = json_of(&selected);
    let remark = format!("{table}: 48 of 288 rows are of no sample that takes part");
    assert_eq!(report["splits"][0]["remarks"], serde_json::json!([remark]));
    let verify = ["verify", &fewer, &run_folder, "--table", &table, "--json"];
    let verified = run(0, &verify);
    assert_eq!(json_of(&verified)["remarks"], serde_json::json!([remark]));
    for said in [stderr(&selected), stderr(&verified)] {
        assert!(said.contains(&format!("trommel:   {remark}\n")), "{said}");
    }
}

/// Only samples of a split: those outside neither go nor make others go.
#[test]
fn duplicates_inside_a_split() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let set = write(&path("set"), &ROWS, "w");
    let (first, second) = (path("first").display().to_string(), path("second").display().to_string());
    // Stays: all but a2, a3, whom the other set drops.
    let other = write(&path("other"), &[("t.tar", 0, "t0", 90.0)], "w");
    json(&["dedup", &set, "--against", &other, "--above", "0.999", "-o", &first]);
    let split = format!("{first}/dedup.parquet");
    let report = json(&["dedup", &set, "--split", &split, "--above", "0.999", "-o", &second]);
    assert_eq!(pairs(Path::new(&second)), named(&[("a5", "b4"), ("a9", "a8"), ("b1", "b0"), ("b4", "b1")]));
    assert_eq!((&report["samples"], &report["outside"], &report["kept"]), (&6.into(), &2.into(), &2.into()));
    let head: Value = serde_json::from_slice(&std::fs::read(format!("{first}/dedup.split.json")).unwrap()).unwrap();
    let of = format!("dedup:above=0.999,of={},order=plan", head["keys_sha256"].as_str().unwrap());
    assert_eq!(report["rule"], of.as_str());
    // What the split keeps and the embeddings have not is lost, and said.
    let fewer = write(&path("fewer"), &ROWS[..7], "w");
    let lost = run(4, &["dedup", &fewer, "--split", &split, "--above", "0.999", "-o", &second]);
    assert!(stderr(&lost).contains("samples of the split that have no embedding here: 1"), "{}", stderr(&lost));
    let mut others = ROWS;
    others[0].2 = "other";
    let others = write(&path("others"), &others, "w");
    let said = stderr(&run(2, &["dedup", &others, "--split", &split, "--above", "0.999", "-o", &second]));
    assert!(said.contains("it is another shard"), "{said}");
}

/// Two samples of one key are no second line of a list.
#[test]
fn a_key_that_is_missing_is_not_hidden_by_one_that_comes_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let rows = [("s.tar", 0, "a", 0.0), ("s.tar", 1, "a", 90.0), ("s.tar", 2, "b", 180.0)];
    let (set, list) = (write(Path::new(&path("set")), &rows, "w"), path("list.txt"));
    for (lines, status) in [("s.tar/a\ns.tar/b\n", 0), ("s.tar/a\ns.tar/gone\n", 4), ("s.tar/a\nother.tar/b\n", 4)] {
        std::fs::write(&list, lines).unwrap();
        let out = run(status, &["dedup", &set, "--split", &list, "--above", "0.9", "-o", &path("out.parquet")]);
        let lost = stderr(&out).contains("samples of the split that have no embedding here: 1");
        assert_eq!(lost, status == 4, "{lines}: {}", stderr(&out));
    }
}

/// An epoch of a watch: what is taken down is in no split, and makes nobody go.
#[test]
fn what_is_taken_down_takes_no_part() {
    let world = World::shared();
    let (watched, out, list) = (world.path("dedup-watch"), world.path("dedup-taken"), world.path("takedown.txt"));
    let (shards, photo) = (world.path("data/shards"), format!("photo={}", world.path("radii/photo")));
    let watch = ["watch", &shards, "--run", &watched, "--settle", "0s", "--once", "--rule", "drop-above:1"];
    let judging = ["--benchmark", &photo, "--embedder", MODEL, "--random-init", "1"];
    run(0, &[&watch[..], &judging].concat());
    let epoch = format!("{watched}/current/main");
    let dedup = ["dedup", &epoch, "--above", "0.99", "-o", &out];
    let before = json(&dedup);
    let all = pairs(Path::new(&out));
    let by = &all.first().expect("somebody goes").1;
    let pruned = world.path("dedup-pruned");
    let prune = ["prune", &epoch, "--run", &pruned, "--rule", "random:50%"];
    run(0, &prune);
    run(0, &prune);
    std::fs::write(&list, format!("{by}\n")).unwrap();
    run(0, &[&watch[..], &judging, &["--takedown", &list]].concat());
    // What was decided of the epoch before is not taken over.
    let said = stderr(&run(2, &prune));
    assert!(said.contains("embeddings_sha256"), "{said}");
    let after = run(0, &[&dedup[..], &["--json"]].concat());
    let said = stderr(&after);
    let after = json_of(&after);
    let of = |report: &Value, name: &str| report[name].as_u64().unwrap();
    assert!(of(&after, "taken_down") > 0 && of(&before, "taken_down") == 0, "{after}");
    assert_eq!(of(&after, "samples") + of(&after, "taken_down"), of(&before, "samples"));
    let taken_down = of(&after, "taken_down");
    assert!(
        said.contains(&format!("0 could not be judged and {taken_down} are taken down: they are in no split")),
        "{said}"
    );
    // Nor are copies of them found in another set, which is told.
    let (test, clean) = (world.path("embedded/photo"), world.path("dedup-taken-clean"));
    let report = json(&["dedup", &test, "--against", &epoch, "--above", "0.99", "-o", &clean]);
    let told = &report["others_notices"]["others_taken_down"];
    assert_eq!((&told["count"], &told["loss"]), (&taken_down.into(), &false.into()));
    assert!(pairs(Path::new(&out)).iter().all(|(key, because)| key != by && because != by));
    assert!(!texts(&Path::new(&out).join("dedup.parquet"), "key").contains(by));
    // What is taken down outside a split stands for nothing of its own.
    let (split, inside) = (world.path("dedup-inside.txt"), world.path("dedup-inside"));
    let kept = |column: &str| texts(&Path::new(&out).join("dedup.parquet"), column);
    let mut lines: Vec<String> =
        kept("shard").iter().zip(kept("key")).map(|(shard, key)| format!("{shard}/{key}\n")).collect();
    lines.push(format!("{}/none\n", kept("shard").last().unwrap()));
    std::fs::write(&split, lines.concat()).unwrap();
    let head = std::fs::read(Path::new(&out).join("dedup.split.json")).unwrap();
    let mut head: Value = serde_json::from_slice(&head).unwrap();
    head["count"] = lines.len().into();
    // Of this list it says nothing, as those of earlier versions.
    head.as_object_mut().unwrap().remove("lists");
    std::fs::write(world.path("dedup-inside.split.json"), head.to_string()).unwrap();
    let lost = run(4, &["dedup", &epoch, "--above", "0.99", "--split", &split, "--max-rejects", "0", "-o", &inside]);
    assert!(stderr(&lost).contains("samples of the split that have no embedding here: 1"), "{}", stderr(&lost));
    for command in ["dedup", "select"] {
        let rule = if command == "dedup" { ["--above", "0.99"] } else { ["--rule", "random:1"] };
        let pool = run(2, &[&[command, &format!("{watched}/pool")][..], &rule, &["-o", &out]].concat());
        assert!(stderr(&pool).contains("current/SPLIT"), "{}", stderr(&pool));
    }
}

/// Somebody else's embeddings of the same shards make the same split, or it is said where not.
#[test]
fn a_split_can_be_verified() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (set, split) = (noise(&path("set"), 800), path("split.parquet").display().to_string());
    run(0, &["dedup", &set, "--above", "0.96", "--clusters", "12", "--order", "random", "--seed", "4", "-o", &split]);
    let equal = run(0, &["verify", &split, &set]);
    assert!(String::from_utf8_lossy(&equal.stdout).starts_with("equal: "), "{}", stderr(&equal));
    // A hundred samples less.
    let fewer_set = noise(&path("fewer"), 700);
    let fewer = run(1, &["verify", &split, &fewer_set]);
    assert!(stderr(&fewer).contains("only by the split"), "{}", stderr(&fewer));
    let others = write(&path("others"), &ROWS, "v");
    let refused = run(2, &["verify", &split, &others]);
    assert!(stderr(&refused).contains("identity"), "{}", stderr(&refused));
    run(0, &["dedup", &set, "--against", &set, "--above", "0.96", "-o", &split]);
    assert!(stderr(&run(2, &["verify", &split, &set])).contains("another set"), "it is not known here");
    // It is given, wherever it lies now, and must be the one that it was.
    let verify = |status: i32, split: &str, more: &[&str]| run(status, &[&["verify", split, &set][..], more].concat());
    let equal = |split: &str, more: &[&str]| String::from_utf8(verify(0, split, more).stdout).unwrap();
    assert!(equal(&split, &["--against", &noise(&path("copy"), 800)]).starts_with("equal: "));
    let said = stderr(&verify(2, &split, &["--against", &noise(&path("other"), 700)]));
    assert!(
        said.contains("the other set") && said.contains("\"points\":800") && said.contains("\"points\":700"),
        "{said}"
    );
    // The same of a split whose samples alone took part.
    let (first, inside) = (path("first.parquet").display().to_string(), path("inside.parquet").display().to_string());
    run(0, &["dedup", &set, "--above", "0.99", "-o", &first]);
    run(0, &["dedup", &set, "--split", &first, "--above", "0.96", "-o", &inside]);
    assert!(equal(&inside, &["--split", &first]).starts_with("equal: "));
    for (split, more, word) in [
        (&inside, &[][..], "say which, --split FILE"),
        (&inside, &["--split", &split], "is another one"),
        (&first, &["--split", &inside], "is about all samples"),
        (&first, &["--against", &set], "compares with no other set"),
        (&first, &["--table", "no.parquet"], "--table is for splits of `trommel select`"),
    ] {
        let said = stderr(&verify(2, split, more));
        assert!(said.contains(word), "{word}: {said}");
    }
    // Of several inputs all are given, and no other number of them.
    let [two, part] = ["two.parquet", "part"].map(|name| path(name).display().to_string());
    let part = write(Path::new(&part), &ROWS, "w");
    let more = write(&path("more"), &[("z.tar", 0, "z0", 0.0), ("z.tar", 1, "z1", 45.0)], "w");
    run(0, &["dedup", &part, &more, "--above", "0.999", "-o", &two]);
    let verified = run(0, &["verify", &two, &part, &more]);
    assert!(String::from_utf8_lossy(&verified.stdout).starts_with("equal: "), "{}", stderr(&verified));
    let said = stderr(&run(2, &["verify", &two, &part]));
    assert!(said.contains("was asked of 2 inputs, and 1 are given"), "{said}");
    let both = path("both.parquet").display().to_string();
    run(0, &["dedup", &set, "--split", &first, "--against", &fewer_set, "--above", "0.97", "-o", &both]);
    assert!(equal(&both, &["--split", &first, "--against", &fewer_set]).starts_with("equal: "));
}

/// Vectors that are larger than the budget lie in a file meanwhile.
#[test]
fn memory_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (dim, rows, mut state) = (640, 150_000, 1u64);
    let mut npy = |name: &str, rows: u64| {
        let path = folder.path().join(name);
        let mut out = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
        out.write_all(&head_bytes(rows, dim)).unwrap();
        let size = f16::from_f64(1.0 / (dim as f64).sqrt()).to_bits();
        let mut row = vec![0u8; 2 * dim];
        for _ in 0..rows {
            for (at, element) in row.chunks_exact_mut(2).enumerate() {
                if at % 64 == 0 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                }
                let sign = ((state.rotate_left(at as u32) & 1) as u16) << 15;
                element.copy_from_slice(&(size | sign).to_le_bytes());
            }
            out.write_all(&row).unwrap();
        }
        out.flush().unwrap();
        path.display().to_string()
    };
    let (set, other) = (npy("set.npy", rows), npy("other.npy", 64));
    let into = folder.path().join("out").display().to_string();
    let mut command = common::trommel();
    command.args(["dedup", &set, "--against", &other, "--above", "0.9", "--assume-model", "m", "-o", &into]);
    command.args(["--memory", "224MiB", "--threads", "2"]);
    let (status, said, peak) = common::memory::peak_bytes(&mut command);
    assert_eq!(status, 0, "{said}");
    // 183 MiB of vectors, and a program of its own size.
    assert!(peak < 160 << 20, "{} MiB", peak >> 20);
}

/// Of many copies each has all before it above the threshold: as pairs they would be 200 MiB here, in no plan.
#[test]
fn memory_of_many_copies_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (dim, rows) = (16, 5000);
    let (set, into) = (folder.path().join("set.npy"), folder.path().join("out").display().to_string());
    let row = [f16::from_f64(0.25); 16].map(f16::to_le_bytes).concat();
    std::fs::write(&set, [head_bytes(rows, dim), row.repeat(rows as usize)].concat()).unwrap();
    let set = set.display().to_string();
    let mut command = common::trommel();
    command.args(["dedup", &set, "--greedy", "--above", "0.9", "--assume-model", "m", "-o", &into]);
    command.args(["--memory", "224MiB", "--threads", "2", "--json"]);
    let (status, said, peak) = common::memory::peak_bytes(&mut command);
    assert_eq!(status, 0, "{said}");
    assert!(peak < 128 << 20, "{} MiB", peak >> 20);
    let pairs = pairs(Path::new(&into));
    assert!(pairs.len() as u64 == rows - 1 && pairs.iter().all(|(_, by)| by == "0"), "{:?}", pairs.last());
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let set = write(&folder.path().join("set"), &ROWS, "w");
    let npy = folder.path().join("a.npy");
    std::fs::write(
        &npy,
        b"\x93NUMPY\x01\x00\x41\x00{'descr': '<f2', 'fortran_order': False, 'shape': (2, 1), }     \n\x00\x3c\x00\x3c",
    )
    .unwrap();
    let npy = npy.display().to_string();
    let into = folder.path().join("out").display().to_string();
    for (input, more, word) in [
        (set.as_str(), &["--above", "1.5"][..], "a cosine"),
        (&set, &["--above", "0.9", "--order", "centroid-far"], "need --clusters"),
        (&set, &["--above", "0.9", "--exact", "--clusters", "2"], "'--exact' cannot be used with '--clusters"),
        (&set, &["--above", "0.9", "--order", "best"], "are known"),
        (&set, &["--above", "0.9", "--sample", "5"], "--clusters"),
        (&set, &["--above", "0.9", "--clusters", "0"], "1 at least"),
        (&set, &["--above", "0.9", "--format", "npy"], "has no uid"),
        (&set, &["--above", "0.9", "--format", "csv"], "parquet, npy, txt and keys"),
        (&set, &["--above", "0.9", "--assume-model", "m"], "and not m as is assumed"),
        (&set, &["--above", "0.9", "--memory", "1MiB"], "at least"),
        (&set, &["--above", "0.9", "--against", &set, "--order", "random"], "--against"),
        ("no/such", &["--above", "0.9"], "such file"),
        (&npy, &["--above", "0.9"], "--assume-model"),
    ] {
        let out = run(2, &[&["dedup", input, "-o", &into], more].concat());
        assert!(stderr(&out).contains(word), "{more:?}: {}", stderr(&out));
    }
    let one = format!("{into}.parquet");
    let both = run(2, &["dedup", &set, "--above", "0.9", "-o", &one, "--format", "txt"]);
    assert!(stderr(&both).contains("--format is for a folder"), "{}", stderr(&both));
    let twice = run(2, &["dedup", &set, &set, "--above", "0.9", "-o", &into]);
    assert!(stderr(&twice).contains("names of their own, NAME=EMB"), "{}", stderr(&twice));
    run(0, &["dedup", &npy, "--above", "0.9", "--assume-model", "m", "-o", &into]);
}

#[test]
fn numpy_faiss_and_pyarrow_agree() {
    let Some(python) = peer("numpy, faiss and pyarrow") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/dedup.py");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let peer = |words: &[&str]| {
        let out = Command::new(&python).arg(&script).args(words).output().unwrap();
        assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), stderr(&out));
        eprint!("{}", String::from_utf8_lossy(&out.stdout));
    };
    peer(&["make", &path("")]);
    let (set, other) = (path("set.npy"), path("other.npy"));
    let clusters = ["--clusters", "40"];
    let modes: [(&str, &[&str]); 5] = [
        ("plan", &[]),
        ("greedy", &["--greedy"]),
        ("clusters", &clusters),
        ("spherical", &[&clusters[..], &["--spherical"]].concat()),
        ("against", &["--against", &other]),
    ];
    for (mode, more) in modes {
        let base = ["dedup", &set, "--assume-model", "m", "--above", "0.876", "-o", &path(mode)];
        run(0, &[&base[..], more].concat());
        peer(&["check", &path(""), "0.876", mode]);
    }
}
