//! `trommel prune` of stored embeddings: decided as the shards they are of, and as numpy decides, however it is run.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use common::members::append;
use common::processes::{Group, committed, until};
use common::{MODEL, World, embeddings_text, items_text, ledger_text, peer, run, stderr, test_data, trommel, words};
use serde_json::Value;
use tempfile::TempDir;
use trommel_columnar::embeddings::EmbeddingSet;
use trommel_columnar::parquet::{Column, ColumnType, TableReader};
use trommel_core::sample::Status;
use trommel_ledger::read::Ledger;
use trommel_select::split::read_rows;

/// The world's shards, embedded by `trommel embed`.
fn embedded() -> &'static str {
    static EMBEDDED: OnceLock<String> = OnceLock::new();
    EMBEDDED.get_or_init(|| {
        let world = World::shared();
        let out = world.path("stored");
        run(0, &["embed", &world.shards(), "-o", &out, "--model", MODEL, "--random-init", "1"]);
        out
    })
}

/// A prune of `what` against the world's benchmarks with radii.
fn prune(what: &[&str], into: &Path, rule: &str, more: &[&str]) -> Vec<String> {
    let world = World::shared();
    let benchmark = |name: &str| format!("{name}={}", world.path(&format!("radii/{name}")));
    let (photo, sketch, into) = (benchmark("photo"), benchmark("sketch"), into.display().to_string());
    let all =
        [&["prune"][..], what, &["--run", &into, "--benchmark", &photo, "--benchmark", &sketch, "--rule", rule], more];
    all.concat().into_iter().map(String::from).collect()
}

/// Shards with a broken picture and with samples without captions among them.
#[test]
fn decisions_are_those_of_the_shards_to_the_bit() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let shards = folder.path().join("shards");
    fs::create_dir(&shards).unwrap();
    for shard in ["00000.tar", "00001.tar"] {
        fs::copy(Path::new(&world.path("data/shards")).join(shard), shards.join(shard)).unwrap();
    }
    let mut tar = tar::Builder::new(fs::File::create(shards.join("odd.tar")).unwrap());
    let picture = fs::read(first_picture(Path::new(&world.path("data/reference")))).unwrap();
    for (name, bytes) in [
        ("a.jpg", &picture[..]),
        ("a.json", br#"{"uid":"00ff","url":"http://x/a"}"#),
        ("b.jpg", b"no picture at all"),
        ("b.txt", b"broken"),
        ("c.jpg", &picture[..]),
        ("c.txt", b"a caption"),
        ("d.txt", b"no picture"),
    ] {
        append(&mut tar, name, bytes);
    }
    tar.into_inner().unwrap();
    let (shards, stored) = (shards.display().to_string(), folder.path().join("stored").display().to_string());
    let model = ["--random-init", "1"];
    run(0, &[&["embed", &shards, "-o", &stored, "--model", MODEL][..], &model].concat());
    for rule in ["drop-over-radius", "drop-above:0.97@photo", "random:37%"] {
        for columns in ["all", "decision"] {
            let name = |what: &str| folder.path().join(format!("{what} {rule} {columns}"));
            let (from_shards, from_embeddings) = (name("shards"), name("embeddings"));
            let columns = ["--columns", columns, "--seed", "5"];
            let model = [&columns[..], &["--embedder", MODEL, "--random-init", "1"]].concat();
            let of_shards = stderr(&run(0, &words(&prune(&[&shards], &from_shards, rule, &model))));
            let said = stderr(&run(0, &words(&prune(&[&stored], &from_embeddings, rule, &columns))));
            for said in [&of_shards, &said] {
                let line = "seeds by which nothing is drawn; the folder goes on with this one only: 1 (first: --seed)";
                assert_eq!(said.contains(line), !rule.starts_with("random:"), "{rule}: {said}");
            }
            assert!(said.contains("2 rejected") && said.contains("bottleneck"), "{said}");
            let text = ledger_text(&from_shards);
            assert!(text.contains("\"image_") && text.contains("no_image"), "{text}");
            // A picture of the reference set is over no radius: it stays, though it has no caption.
            assert!(text.contains("no_caption") || rule != "drop-over-radius", "{text}");
            assert_eq!(ledger_text(&from_embeddings), text);
            let decisions = |run: &Path| Ledger::open(run).unwrap().config()["decisions"].clone();
            assert_eq!(decisions(&from_embeddings), decisions(&from_shards));
            assert_eq!(items_text(&from_embeddings), items_text(&from_shards));
            assert_eq!(embeddings_text(&from_embeddings), embeddings_text(&from_shards));
        }
    }
    // The run folder is one as any other.
    let page = folder.path().join("page.html").display().to_string();
    let pruned = folder.path().join("embeddings drop-over-radius all").display().to_string();
    assert!(String::from_utf8(run(0, &["why", &pruned, "odd.tar/a"]).stdout).unwrap().contains("http://x/a"));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let unsaid = trommel().args(["why", &pruned, "odd.tar/a"]).stdout(full).output().unwrap();
    assert!(unsaid.status.code() == Some(1) && stderr(&unsaid).contains("standard output: No space left on device"));
    let said = stderr(&run(0, &["report", &pruned, "-o", &page]));
    assert!(said.contains("what was judged are stored embeddings"), "{said}");
    let of_shards = folder.path().join("shards drop-over-radius all").display().to_string();
    let split = |run_folder: &str, name: &str| {
        let out = folder.path().join(name);
        run(0, &["select", run_folder, "--rule", "far:20", "-o", &out.display().to_string()]);
        fs::read_to_string(out).unwrap()
    };
    assert_eq!(split(&pruned, "a.txt"), split(&of_shards, "b.txt"));
    // A split of the one is a split of the other.
    let published = folder.path().join("far.parquet").display().to_string();
    run(0, &["select", &pruned, "--rule", "far:20", "-o", &published]);
    run(0, &["verify", &published, &of_shards]);
    // Once more from the run that has just kept them.
    let again = folder.path().join("again");
    run(0, &words(&prune(&[&pruned], &again, "drop-over-radius", &[])));
    assert_eq!(ledger_text(&again), ledger_text(Path::new(&pruned)));
}

fn first_picture(folder: &Path) -> std::path::PathBuf {
    let mut inside: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inside.sort();
    let first = inside.into_iter().find(|path| path.is_dir() || path.extension().is_some_and(|it| it == "jpg"));
    let first = first.unwrap();
    if first.is_dir() { first_picture(&first) } else { first }
}

#[test]
fn workers_kills_and_slices_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stored = embedded();
    // Many times the same, so that there is time to be killed in.
    let copies: Vec<String> = (0..12).map(|copy| format!("c{copy:02}={stored}")).collect();
    let copies: Vec<&str> = copies.iter().map(String::as_str).collect();
    let into = |name: &str| folder.path().join(name);
    let due = into("due");
    run(0, &words(&prune(&copies, &due, "drop-over-radius", &["--workers", "1", "--threads", "1"])));
    let (ledger, items) = (ledger_text(&due), items_text(&due));
    assert_eq!(ledger.lines().count(), 12 * 6 * 48);
    for workers in ["2", "4"] {
        let more = ["--workers", workers, "--threads", "2", "--memory", "400MiB"];
        run(0, &words(&prune(&copies, &into(workers), "drop-over-radius", &more)));
        assert_eq!((&ledger_text(&into(workers)), &items_text(&into(workers))), (&ledger, &items), "{workers}");
    }
    let killed = into("killed");
    for at_least in [3, 30] {
        let mut group = Group::start(&prune(&copies, &killed, "drop-over-radius", &["--workers", "2"]));
        until(60, || committed(&killed) >= at_least || group.status().is_some());
        group.kill_all();
        let done = committed(&killed);
        assert!((at_least..72).contains(&done), "killed at {done} of 72 shards:\n{}", group.said());
    }
    let said = stderr(&run(0, &words(&prune(&copies, &killed, "drop-over-radius", &["--workers", "1"]))));
    assert_eq!((&ledger_text(&killed), &items_text(&killed)), (&ledger, &items), "{said}");
    let sliced = into("sliced");
    for part in ["1/3", "0/3", "2/3"] {
        run(0, &words(&prune(&copies, &sliced, "drop-over-radius", &["--part", part])));
    }
    assert_eq!((&ledger_text(&sliced), &items_text(&sliced)), (&ledger, &items));
    let launched = into("launched");
    let words_of = prune(&copies, &launched, "drop-over-radius", &[]);
    run(0, &[&["launch", "--local", "2", "--"][..], &words(&words_of)].concat());
    assert_eq!((&ledger_text(&launched), &items_text(&launched)), (&ledger, &items));
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let (into, stored) = (folder.path().join("run"), embedded());
    let refused = |what: &[&str], more: &[&str]| {
        let said = stderr(&run(2, &words(&prune(what, &into, "drop-over-radius", more))));
        assert!(!into.join("config.json").exists(), "{said}");
        said
    };
    let said = refused(&[stored, &world.shards()], &[]);
    assert!(said.contains("is stored embeddings") && said.contains("a run reads one kind"), "{said}");
    let other = folder.path().join("other").display().to_string();
    let photo = world.path("data/benchmarks/photo");
    run(0, &["embed", &photo, "-o", &other, "--model", MODEL, "--random-init", "2"]);
    let said = refused(&[&other], &[]);
    assert!(said.contains("weights seed:1") || said.matches("weights ").count() == 2, "{said}");
    let said = refused(&[&format!("a={stored}"), &format!("b={other}")], &[]);
    assert!(said.contains("was embedded by another model") && said.matches("weights ").count() == 2, "{said}");
    let said = refused(&[stored, stored], &[]);
    assert!(said.contains("would both be called") && said.contains("NAME="), "{said}");
    let said = refused(&[stored], &["--benchmark", &format!("pictures={photo}")]);
    assert!(said.contains("is pictures"), "{said}");
    for flag in [&["--embed-batch", "16"][..], &["--random-init", "1"], &["--device", "cpu"], &["--strict"]] {
        let said = refused(&[stored], flag);
        assert!(said.contains("what is pruned are stored embeddings"), "{said}");
    }
    assert!(refused(&[stored], &["--assume-model", "m"]).contains("and not m as is assumed"));
    assert!(refused(&[stored], &["--join", "device"]).contains("joined on the processor"));
    // A benchmark without a point, and one with a point that has no direction: named once.
    for (points, due) in [(0, "no test points"), (1, "row 0 (key `0`) is zero")] {
        let path = folder.path().join(format!("{points}.npy"));
        let head = format!("{{'descr': '<f2', 'fortran_order': False, 'shape': ({points}, 64), }}");
        let bytes =
            [&b"\x93NUMPY\x01\x00\x76\x00"[..], format!("{head:<117}\n").as_bytes(), &vec![0; points * 128]].concat();
        fs::write(&path, bytes).unwrap();
        let said = refused(&[stored], &["--benchmark", &format!("e={}", path.display())]);
        assert!(said.contains(due) && said.matches("benchmark e").count() == 1, "{said}");
    }
    let bare = folder.path().join("bare").display().to_string();
    run(0, &["prune", &world.shards(), "--run", &bare, "--rule", "random:50%"]);
    assert!(refused(&[&bare], &[]).contains("kept no embeddings"));
    let said = refused(&[&format!("{stored}/embeddings/*.arrow")], &[]);
    assert!(said.contains("a part of a run") && said.contains(&format!("give {stored}")), "{said}");
}

/// Vectors that other products made differ in their last bits. Said of what a run has kept of them too.
#[test]
fn products_that_differ_are_told() {
    const SAID: &str = "benchmarks with radii whose vectors and the pool's were multiplied for differently";
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let of_card = BTreeMap::from([("products".to_owned(), "cuda".to_owned())]);
    let photo = EmbeddingSet::open(Path::new(&world.path("radii/photo"))).unwrap();
    photo.write(Path::new(&path("card")), of_card).unwrap();
    let said = |pool: &str, into: &str, more: &[&str]| {
        stderr(&run(0, &words(&prune(&[pool], Path::new(&path(into)), "drop-over-radius", more))))
    };
    assert!(!said(embedded(), "alike", &[]).contains(SAID));
    let card = format!("card={}", path("card"));
    for (pool, into) in [(embedded().to_owned(), "kept"), (path("kept"), "again")] {
        let said = said(&pool, into, &["--benchmark", &card]);
        assert!(said.contains(SAID) && said.contains("benchmark card: cuda, the pool: "), "{said}");
    }
}

/// A split's items: benchmark and point, its largest similarity, and who has it.
type Items = Vec<(String, u32, Option<f64>, Option<(String, u32)>)>;

fn items_of(path: &Path) -> Items {
    let names = ["benchmark", "nearest_shard"].map(|name| (name, ColumnType::Text));
    let numbers = [("point", ColumnType::U32), ("nearest_index", ColumnType::U32), ("max_similarity", ColumnType::F64)];
    let table =
        TableReader::open(path, Box::new(fs::File::open(path).unwrap()), &[&names[..], &numbers].concat()).unwrap();
    let mut items = Vec::new();
    for group in table {
        let group = group.unwrap();
        let [Column::Text(of), Column::Text(shards), Column::U32(points), Column::U32(indices), Column::F64(maxima)] =
            &group[..]
        else {
            panic!("{group:?}")
        };
        let row =
            |at: usize| (of[at].clone().unwrap(), points[at].unwrap(), maxima[at], shards[at].clone().zip(indices[at]));
        items.extend((0..of.len()).map(row));
    }
    items
}

/// What each test point sees of a split, beside plain products of whom it keeps, and beside what pruning itself has noted.
#[test]
fn a_split_is_measured_from_its_own_samples() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let (into, out) = (folder.path().join("run"), folder.path().join("out"));
    run(0, &words(&prune(&[embedded()], &into, "drop-over-radius", &[])));
    let (run_folder, splits) = (into.display().to_string(), out.display().to_string());
    let rules = ["same=drop-over-radius", "far=far:40@photo", "some=random:30% minus near", "none=far:0"];
    let mut args = vec!["select", &run_folder, "-o", &splits, "--items", "--json"];
    args.extend(rules.iter().flat_map(|rule| ["--rule", rule]));
    let output = run(0, &args);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ledger = Ledger::open(&into).unwrap();
    let plan: trommel_shard::plan::Plan = ledger.plan().unwrap();
    let mut over = Vec::new();
    for (at, name) in ["same", "far", "some", "none"].into_iter().enumerate() {
        let rows: Vec<_> = read_rows(&out.join(format!("{name}.parquet"))).unwrap().map(Result::unwrap).collect();
        let mut vectors = Vec::new();
        for row in &rows {
            let shard = plan.shards.iter().find(|shard| shard.name == row.shard).unwrap();
            let all = ledger.embeddings(shard.ordinal).unwrap();
            vectors.push(all.into_iter().find(|stored| stored.index == row.index).unwrap().vector);
        }
        let mut due: Items = Vec::new();
        over.clear();
        for benchmark in ["photo", "sketch"] {
            let set = EmbeddingSet::open(Path::new(&world.path(&format!("radii/{benchmark}")))).unwrap();
            let mut above = 0;
            for (point, vector) in set.vectors.chunks_exact(set.dim).enumerate() {
                let mut best: (Option<f64>, Option<(String, u32)>) = (None, None);
                for (row, sample) in rows.iter().zip(&vectors) {
                    // Products of f16, and sums of so few of them, are exact in f64.
                    let similarity = vector.iter().zip(sample).map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>();
                    if best.0.is_none_or(|most| similarity > most) {
                        best = (Some(similarity), Some((row.shard.clone(), row.index)));
                    }
                }
                above += u64::from(best.0.is_some_and(|most| most > set.radii.as_ref().unwrap()[point]));
                due.push((benchmark.into(), point as u32, best.0, best.1));
            }
            over.push(above);
        }
        assert_eq!(items_of(&out.join(format!("{name}.items.parquet"))), due, "{name}");
        let told = |benchmark: usize| report["splits"][at]["items"][benchmark]["over_radius"].as_u64().unwrap();
        assert_eq!([told(0), told(1)], over[..], "{name}");
        match name {
            "same" => {
                // What pruning has noted of whom it kept.
                assert_eq!(over, [0, 0]);
                let own: Items = (ledger.items().unwrap().into_iter())
                    .map(|row| {
                        let of = |sample: trommel_core::sample::SampleId| {
                            (plan.shard(sample.ordinal).unwrap().name.clone(), sample.index)
                        };
                        (
                            ["photo", "sketch"][usize::from(row.benchmark)].into(),
                            row.point,
                            row.kept_max,
                            row.kept_sample.map(of),
                        )
                    })
                    .collect();
                assert_eq!(own, due);
            }
            "none" => assert_eq!(over, [0, 0]),
            // The nearest, and those that pruning drops.
            _ => assert!(over[0] > 0, "{name}: {over:?}"),
        }
    }
    let said = stderr(&output);
    assert!(said.contains("test points, 0 above their radius"), "{said}");
    let refused =
        |words: &[&str]| stderr(&run(2, &[&["select", &run_folder, "--rule", "near", "--items"], words].concat()));
    assert!(refused(&["-o", &format!("{splits}/x.txt")]).contains("who is kept is read from the split's .parquet"));
    assert!(refused(&["-o", &splits, "--memory", "104MiB"]).contains("--memory"));
    let bare = folder.path().join("bare");
    run(0, &words(&prune(&[embedded()], &bare, "drop-over-radius", &["--no-embeddings"])));
    let bare = bare.display().to_string();
    let said = stderr(&run(2, &["select", &bare, "--rule", "near", "--items", "-o", &splits]));
    assert!(said.contains("keeps no embeddings of"), "{said}");
}

/// The shard has an empty part of the time when it was no tar, beside the one that counts.
#[test]
fn a_shard_that_was_mended_is_among_the_references() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let shards = folder.path().join("shards");
    fs::create_dir(&shards).unwrap();
    let copy = |shard: &str| fs::copy(Path::new(&world.path("data/shards")).join(shard), shards.join(shard)).unwrap();
    copy("00000.tar");
    fs::write(shards.join("00001.tar"), "<html>404</html>").unwrap();
    let (given, into) = (shards.display().to_string(), folder.path().join("run"));
    let model = ["--embedder", MODEL, "--random-init", "1", "--max-rejects", "100"];
    let command = prune(&[&given], &into, "drop-over-radius", &model);
    run(0, &words(&command));
    copy("00001.tar");
    run(0, &words(&command));
    let (reference, out) = (into.display().to_string(), folder.path().join("radii").display().to_string());
    let benchmark = format!("photo={}", world.path("embedded/photo"));
    let said = stderr(&run(0, &["radii", "--reference", &reference, "--benchmark", &benchmark, "-o", &out]));
    assert!(said.contains("points over 96 references"), "{said}");
}

/// The layout of clip-retrieval, as numpy, pyarrow and webdataset read it.
#[test]
fn peer_numpy_reads_what_embed_writes_for_it() {
    let Some(python) = peer("numpy, pyarrow and webdataset") else { return };
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let out = folder.path().join("npy").display().to_string();
    run(0, &["embed", &world.shards(), "-o", &out, "--model", MODEL, "--random-init", "1", "--format", "npy"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/npy_readback.py");
    let shards = (0..6).map(|at| world.path(&format!("data/shards/{at:05}.tar")));
    let peer = Command::new(python).arg(script).arg(&out).args(shards).output().unwrap();
    let said = String::from_utf8_lossy(&peer.stdout).into_owned() + &String::from_utf8_lossy(&peer.stderr);
    assert!(peer.status.success() && said.contains(&format!("{} rows equal", 6 * 48)), "{said}");
}

/// What was exported of fewer shards is not taken for all that the run has embedded since.
#[test]
fn an_export_of_fewer_shards_is_not_taken_for_the_whole() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let embed = |last: u32, more: &[&str]| {
        let shards = world.path(&format!("data/shards/{{00000..0000{last}}}.tar"));
        run(0, &[&["embed", &shards, "-o", &at("out"), "--model", MODEL, "--random-init", "1"][..], more].concat());
    };
    let exported = || fs::read_dir(at("out/img_emb")).map_or(0, Iterator::count);
    embed(1, &["--format", "npy"]);
    embed(1, &[]);
    assert_eq!(exported(), 2, "it is whole: it stays");
    fs::rename(at("out/img_emb"), at("old")).unwrap();
    fs::rename(at("out/metadata"), at("metadata")).unwrap();
    embed(2, &[]);
    // As where the second command was killed before its end.
    fs::rename(at("old"), at("out/img_emb")).unwrap();
    fs::rename(at("metadata"), at("out/metadata")).unwrap();
    let photo = format!("photo={}", world.path("embedded/photo"));
    let radii = |status: i32, reference: &str, into: &str| {
        let words = ["radii", "--reference", &at(reference), "--benchmark", &photo, "-o", &at(into), "--json"];
        run(status, &[&words[..], &["--assume-model", "trommel-tiny-32"]].concat())
    };
    let all: Value = serde_json::from_slice(&radii(0, "out", "first").stdout).unwrap();
    assert_eq!(all[0]["references"], 3 * 48);
    let said = stderr(&radii(2, "out/img_emb", "second"));
    assert!(said.contains("an export of 96 embeddings, and its run has 144"), "{said}");
    embed(2, &[]);
    assert_eq!(exported(), 0, "it is not whole: it goes");
    embed(2, &["--format", "npy"]);
    assert_eq!(exported(), 3);
    assert_eq!(
        serde_json::from_slice::<Value>(&radii(0, "out/img_emb", "third").stdout).unwrap()[0]["references"],
        144
    );
}

/// From a folder as clip-retrieval leaves it to a trainer's shards: files of embeddings name samples by themselves, tars have the same keys.
#[test]
fn what_is_kept_of_embeddings_alone_is_found_in_the_shards_by_its_keys() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let shards = world.path("data/shards/{00000..00001}.tar");
    run(0, &["embed", &shards, "-o", &at("out"), "--model", MODEL, "--random-init", "1", "--format", "npy"]);
    fs::create_dir(at("theirs")).unwrap();
    for part in ["img_emb", "metadata"] {
        fs::rename(at(&format!("out/{part}")), at(&format!("theirs/{part}"))).unwrap();
    }
    let (photo, theirs) = (format!("photo={}", world.path("radii/photo")), at("theirs"));
    let model = ["--benchmark", &photo, "--rule", "drop-over-radius", "--assume-model", "trommel-tiny-32"];
    run(0, &[&["prune", &theirs, "--run", &at("run")][..], &model].concat());
    run(0, &["select", &at("run"), "--rule", "s=drop-over-radius", "-o", &at("splits"), "--format", "txt,keys"]);
    let text = fs::read_to_string(at("splits/s.txt")).unwrap();
    let mut due: Vec<&str> =
        text.lines().map(|line| line.strip_prefix("img_emb/").unwrap().split_once('/').unwrap().1).collect();
    due.sort_unstable();
    let rows = Ledger::open(Path::new(&at("run"))).unwrap().counts();
    assert!(!due.is_empty() && rows.dropped > 0, "{rows:?}");
    run(0, &["stream", &shards, "--split", &at("splits/s.keys"), "-o", &at("new")]);
    let mut found = Vec::new();
    for entry in tar::Archive::new(fs::File::open(at("new/00000.tar")).unwrap()).entries().unwrap() {
        let name = entry.unwrap().path().unwrap().display().to_string();
        found.extend(name.strip_suffix(".jpg").map(str::to_owned));
    }
    found.sort_unstable();
    assert_eq!(found, due);
}

/// What a peer has made: its folder.
fn made() -> Option<TempDir> {
    let python = peer("numpy and pyarrow")?;
    let out = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/stored_embeddings.py");
    let mut peer = Command::new(python);
    peer.arg(script).arg(out.path()).args(test_data().map(|data| data.join("clip_retrieval_out")));
    let output = peer.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    Some(out)
}

/// That a ledger says of every file and row what numpy says.
fn compare(run_folder: &Path, truth: &Value, keeps: impl Fn(f64, u64) -> bool, radii: bool) -> usize {
    let ledger = Ledger::open(run_folder).unwrap();
    let rows: Vec<_> = ledger.rows().unwrap().map(Result::unwrap).collect();
    let files = truth.as_object().unwrap();
    assert_eq!(rows.len(), files.values().map(|rows| rows.as_array().unwrap().len()).sum::<usize>());
    for row in &rows {
        let (fate, info) = (&row.fate, &row.fate.info);
        let due = &files[&row.shard][info.id.index as usize];
        let text = |at: usize| due[at].as_str().map(String::from);
        assert_eq!((Some(&info.key), &info.uid), (text(0).as_ref(), &text(1)), "{due}");
        let reason = fate.reason.as_ref().map(|reason| reason.code.clone());
        if let Some(why) = text(2) {
            assert_eq!((fate.status, reason), (Status::Rejected, Some(why)), "{due}");
            continue;
        }
        let number = |at: usize| f64::from_bits(due[at].as_u64().unwrap());
        let (score, hits) = (fate.scores[0], due[8].as_u64().unwrap());
        assert_eq!((score.max_similarity, score.nearest.map(u64::from)), (Some(number(4)), due[5].as_u64()), "{due}");
        if radii {
            assert_eq!((score.margin, score.exceeds.map(u64::from)), (Some(number(6)), due[7].as_u64()), "{due}");
            assert_eq!(score.hits.map(u64::from), Some(hits), "{due}");
        }
        let kept = keeps(number(4), hits);
        assert_eq!(fate.status, if kept { Status::Kept } else { Status::Dropped }, "{due}");
        let remark = (kept && due[3] == false).then(|| "no_caption".to_owned());
        assert_eq!(reason, remark, "{due}");
    }
    rows.len()
}

#[test]
fn the_layouts_of_clip_retrieval_and_datacomp_are_decided_as_numpy_decides() {
    let Some(out) = made() else { return };
    let path = |name: &str| out.path().join(name).display().to_string();
    let truth: Value = serde_json::from_slice(&fs::read(out.path().join("truth.json")).unwrap()).unwrap();
    let points = format!("p={}", path("points.npy"));
    let said =
        run(2, &["prune", &path("retrieval"), "--run", &path("r"), "--benchmark", &points, "--rule", "drop-above:0.5"]);
    assert!(stderr(&said).contains("say --assume-model NAME"), "{}", stderr(&said));
    let assume = ["--assume-model", "peer"];
    let reference = path("reference.npy");
    let measure = ["radii", "--reference", &reference, "--benchmark", &points, "-o", &path("radii")];
    run(0, &[&measure[..], &assume].concat());
    let radii = format!("p={}", path("radii/p"));
    let prune = |status: i32, what: &str, into: &str, more: &[&str]| {
        let (what, into) = (path(what), path(into));
        let words = ["prune", &what, "--run", &into, "--benchmark", &radii, "--rule", "drop-over-radius"];
        stderr(&run(status, &[&words[..], &assume, more].concat()))
    };
    let said = prune(0, "retrieval", "retrieval-run", &[]);
    assert!(said.contains("1: embedding_zero") && said.contains("1: embedding_not_finite"), "{said}");
    assert!(said.contains("files of embeddings whose rows are normalised again: 1 (first: "), "{said}");
    assert!(said.contains("img_emb_4.npy"), "{said}");
    let rows = compare(&out.path().join("retrieval-run"), &truth["retrieval"], |_, hits| hits == 0, true);
    assert_eq!(rows, 11 * 40 + 55);
    // Parts stand in the order of their numbers, whatever their digits.
    let order: Vec<String> = Ledger::open(&out.path().join("retrieval-run"))
        .unwrap()
        .shards()
        .values()
        .map(|(_, it)| it.name.clone())
        .collect();
    assert_eq!((order[2].as_str(), order[10].as_str()), ("img_emb/img_emb_2.npy", "img_emb/img_emb_10.npy"));

    let said = prune(2, "datacomp", "datacomp-run", &[]);
    assert!(said.contains("b32_img, l14_img, l14_txt") && said.contains("@b32_img"), "{said}");
    prune(0, "datacomp@l14_img", "datacomp-run", &[]);
    assert_eq!(compare(&out.path().join("datacomp-run"), &truth["datacomp"], |_, hits| hits == 0, true), 90);
    // One file alone, in the words that the refusal gives.
    assert!(prune(0, "datacomp/00000000.npz@l14_img", "one-file", &[]).contains("30 samples"));
    // A bit of a stored vector has turned: numpy says `Bad CRC-32`, and that file is lost.
    let whole = fs::read(path("datacomp/00000002.npz")).unwrap();
    let name = b"l14_img.npy";
    let entry = whole.windows(name.len()).position(|bytes| bytes == name).unwrap();
    let mut turned = whole.clone();
    // Behind the entry's own head, of some tens of bytes, and numpy's of 128.
    turned[entry + 400] ^= 1;
    fs::write(path("datacomp/00000002.npz"), turned).unwrap();
    let said = prune(4, "datacomp@l14_img", "turned", &[]);
    assert!(said.contains("00000002.npz") && said.contains("its checksum does not match"), "{said}");
    fs::write(path("datacomp/00000002.npz"), whole).unwrap();
    let said = prune(2, "datacomp@l14_wrong", "wrong", &[]);
    assert!(said.contains("no array `l14_wrong`"), "{said}");
    let uids = path("uids.npy");
    run(0, &["select", &path("datacomp-run"), "--rule", "keep-farthest:30", "-o", &uids]);
    assert_eq!(fs::metadata(&uids).unwrap().len(), 128 + 30 * 16);

    // A table with a row too few spoils its own part only, which says so and is lost.
    let said = prune(4, "short", "short-run", &[]);
    assert!(
        said.contains("shards rejected (embeddings_mismatch): 1, 10 samples lost (first: img_emb/img_emb_1.npy"),
        "{said}"
    );
    assert!(said.contains("9 rows beside 10 vectors"), "{said}");
    prune(0, "short", "short-run", &["--max-rejects", "40"]);
    // One whose vectors are gone is missed by its table; of a benchmark nothing may be missed.
    fs::remove_file(out.path().join("short/img_emb/img_emb_1.npy")).unwrap();
    let said = prune(4, "short", "gone-run", &[]);
    let due = "embeddings that are gone, with the tables of their keys left: 1, 9 samples lost (first: ";
    assert!(said.contains(due) && said.contains("metadata_1.parquet"), "{said}");
    let (retrieval, short, into) = (path("retrieval"), format!("s={}", path("short")), path("s-run"));
    let words = ["prune", &retrieval, "--run", &into, "--benchmark", &short, "--rule", "drop-above:0.5"];
    let said = stderr(&run(2, &[&words[..], &assume].concat()));
    assert!(said.contains("benchmark s: test points that are gone, with the tables of their keys left: 1"), "{said}");

    let Some(data) = test_data() else { return };
    let folder = data.join("clip_retrieval_out/embeddings");
    let texts = format!("texts={}", folder.join("text_emb/text_emb_0.npy").display());
    let (folder, into) = (folder.display().to_string(), path("theirs"));
    let words = ["prune", &folder, "--run", &into, "--benchmark", &texts, "--rule", "drop-above:0.31"];
    run(0, &[&words[..], &["--assume-model", "ViT-B-32"]].concat());
    let over = |max: f64, _| max <= 0.31;
    assert_eq!(compare(Path::new(&into), &truth["clip_retrieval_out"], over, false), 9);
    let dropped = Ledger::open(Path::new(&into)).unwrap().counts().dropped;
    assert!((1..9).contains(&dropped), "the rule must part them: {dropped}");
}
