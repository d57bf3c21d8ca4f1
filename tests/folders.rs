//! Folders of pictures through the program: captions, labels, what is lost and what is passed over, and who hears of it.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{MODEL, World, run, stderr};
use trommel_core::sample::Status;
use trommel_ledger::read::Ledger;

const TINY: [&str; 4] = ["--threads", "1", "--random-init", "1"];

/// The first pictures of the shared world's photo benchmark, copied as `names` below `root`.
fn pictures(root: &Path, names: &[&str]) {
    let photo = World::shared().path("data/benchmarks/photo");
    let mut all: Vec<_> = fs::read_dir(&photo)
        .unwrap()
        .map(|class| class.unwrap().path())
        .filter(|class| class.is_dir())
        .flat_map(|class| fs::read_dir(class).unwrap().map(|file| file.unwrap().path()))
        .collect();
    all.sort();
    for (from, name) in all.iter().zip(names) {
        let to = root.join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

fn said(status: i32, args: &[&str], more: &[&str]) -> String {
    stderr(&run(status, &[args, more, &TINY[..]].concat()))
}

fn last(said: &str) -> &str {
    said.lines().last().unwrap_or_default()
}

const FILES: [&str; 4] = ["00000/000.jpg", "00000/001.jpg", "00001/100.jpg", "00001/101.jpg"];

/// The loss of one step over all four pictures: a number of their captions.
fn loss(root: &Path) -> String {
    let into = tempfile::tempdir().unwrap();
    let run_folder = into.path().join("run").display().to_string();
    let images = root.display().to_string();
    let recipe = ["--model", MODEL, "--batch", "4", "--steps", "1", "--precision", "f32", "--rule", "random:100%"];
    let said = said(0, &["train", &images, "--run", &run_folder], &recipe);
    said.split("loss ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn captions_lie_beside_the_pictures_and_a_folders_name_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let root = &folder.path().join("images");
    pictures(root, &FILES);
    let images = root.display().to_string();
    let into = folder.path().join("run").display().to_string();
    let recipe = ["--model", MODEL, "--batch", "4", "--steps", "1", "--rule", "random:100%"];
    let refused = said(2, &["train", &images, "--run", &into], &recipe);
    assert!(last(&refused).contains("none of its 4 pictures has a caption"), "{refused}");

    let words = ["a red fire engine", "two dogs on a beach", "the moon", "bread and butter"];
    for (file, text) in FILES.iter().zip(words) {
        fs::write(root.join(file).with_extension("txt"), text).unwrap();
    }
    let first = loss(root);
    for (file, text) in FILES.iter().zip(words.iter().rev()) {
        fs::write(root.join(file).with_extension("txt"), text).unwrap();
    }
    assert_ne!(first, loss(root), "other captions, another loss");
    // Long ones, but not of more tokens than the model reads.
    let ending = |end: &str| {
        for (at, file) in FILES.iter().enumerate() {
            let text = format!("{}{end} {at}", "a red thing ".repeat(12));
            fs::write(root.join(file).with_extension("txt"), text).unwrap();
        }
        loss(root)
    };
    assert_ne!(ending("moon"), ending("bread"), "the end of a caption counts");
    // The same texts from the json, where there is no text file.
    for (file, text) in FILES.iter().zip(words) {
        fs::remove_file(root.join(file).with_extension("txt")).unwrap();
        fs::write(root.join(file).with_extension("json"), format!("{{\"caption\": \"{text}\"}}")).unwrap();
    }
    assert_eq!(first, loss(root));
    // A folder's name is neither a caption nor a place in the order, nor does it choose crops.
    for (from, to) in [("00000", "a fire engine"), ("00001", "00000")] {
        fs::rename(root.join(from), root.join(to)).unwrap();
        assert_eq!(first, loss(root), "{from} is called {to} now");
    }
}

/// img2dataset's `files` layout: what its statistics promise and is not there is lost, as of a tar.
#[test]
fn pictures_that_the_statistics_promise_and_that_are_not_there_are_lost() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("images");
    pictures(&root, &FILES);
    let stats = |shard: &str, successes: u32| {
        let text = format!("{{\"count\": 9, \"successes\": {successes}, \"failed_to_download\": 2}}");
        fs::write(root.join(format!("{shard}_stats.json")), text).unwrap();
    };
    stats("00000", 2);
    stats("00001", 5);
    fs::create_dir(root.join("00002")).unwrap();
    stats("00002", 4);
    let (images, into) = (root.display().to_string(), folder.path().join("run"));
    let prune = |status, more: &[&str]| {
        let into = into.display().to_string();
        let words = ["prune", &images, "--run", &into, "--rule", "random:100%", "--threads", "1"];
        stderr(&run(status, &[&words[..], more].concat()))
    };
    let said = prune(4, &[]);
    let line = "shards with fewer samples than their `_stats.json` promises: 2, 7 samples lost (first: ";
    assert!(said.contains(line) && last(&said).contains("of 11 samples 0 were rejected and 7 lost"), "{said}");
    // What was found stays with the run.
    assert!(prune(4, &[]).contains(line));
    assert!(prune(0, &["--max-rejects", "70"]).contains(line));
}

/// The same where the whole folder is gone: in `--json`, in `eval` as in `prune`, and a benchmark with such a gap is none.
#[test]
fn a_folder_of_which_only_statistics_are_left_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("images");
    pictures(&root, &FILES);
    fs::write(root.join("00002_stats.json"), "{\"count\": 9, \"successes\": 3}").unwrap();
    let (images, into) = (root.display().to_string(), folder.path().join("run").display().to_string());
    let line =
        "shards that are gone, with their statistics or metadata left: 1, 3 samples lost (first: 00002, 3 samples)";
    let prune = |status, shards: &str, name: &str| {
        let into = format!("{into}{name}");
        stderr(&run(status, &["prune", shards, "--run", &into, "--rule", "random:100%", "--threads", "1"]))
    };
    let said = prune(4, &images, "");
    assert!(said.contains(line) && last(&said).contains("of 7 samples 0 were rejected and 3 lost"), "{said}");
    let benchmark = format!("x={images}");
    let judging = ["--benchmark", &benchmark, "--rule", "drop-above:0.99", "--embedder", MODEL];
    let (shards, other) = (World::shared().shards(), format!("{into}2"));
    let refused = stderr(&run(2, &[&["prune", &shards, "--run", &other], &judging[..], &TINY[..]].concat()));
    assert!(last(&refused).contains("it lost shards that are gone"), "{refused}");
    // One of its folders alone was asked for: the others' statistics are no loss.
    let one = root.join("00000").display().to_string();
    assert!(!prune(0, &one, "3").contains("lost"));
}

/// Two passes: the second replays what the first has judged.
#[test]
fn files_train_for_several_passes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("images");
    pictures(&root, &FILES);
    for file in FILES {
        fs::write(root.join(file).with_extension("txt"), file).unwrap();
    }
    let (images, into) = (root.display().to_string(), folder.path().join("run").display().to_string());
    let recipe = ["--model", MODEL, "--batch", "2", "--steps", "5", "--precision", "f32", "--rule", "random:100%"];
    let said = said(0, &["train", &images, "--run", &into], &recipe);
    assert!(said.contains("5 steps, 10 samples trained in 2 finished passes"), "{said}");
    // On what another run has decided of them, which knows where they lie.
    let (judged, taken) = (format!("{into}-judged"), format!("{into}-taken"));
    run(0, &["prune", &images, "--run", &judged, "--rule", "random:100%", "--threads", "1"]);
    let recipe = ["--model", MODEL, "--batch", "2", "--steps", "5", "--precision", "f32", "--threads", "1"];
    let train =
        |status| stderr(&run(status, &[&["train", "--decisions", &judged, "--run", &taken], &recipe[..]].concat()));
    assert!(train(0).contains("5 steps, 10 samples trained in 2 finished passes"));
    // Other decisions are not for a folder that has some.
    let other = format!("{into}-other");
    run(0, &["prune", &images, "--run", &other, "--rule", "random:50%", "--threads", "1"]);
    let begun = ["train", "--decisions", &other, "--run", &taken];
    let refused = stderr(&run(2, &[&begun, &recipe[..]].concat()));
    assert!(
        last(&refused).contains("it has other decisions than those of") && last(&refused).contains("random:50%"),
        "{refused}"
    );
    fs::remove_file(root.join(FILES[3])).unwrap();
    fs::remove_dir_all(&taken).unwrap();
    assert!(last(&train(2)).contains("not the class folders any more"));
}

#[test]
fn every_depth_and_format_is_embedded_and_the_rest_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tiny");
    pictures(&root, &["n01/images/0.JPEG", "n01/images/1.JPEG", "n02/images/2.JPEG", "n02/more/deep/3.jpg"]);
    fs::write(root.join("n02/4.ppm"), [b"P6 2 2 255\n".as_slice(), &[7; 12]].concat()).unwrap();
    fs::write(root.join("n02/5.pgm"), [b"P5 2 2 255\n".as_slice(), &[7; 4]].concat()).unwrap();
    fs::write(root.join("n01/n01_boxes.txt"), "x").unwrap();
    fs::write(root.join("n01/._0.JPEG"), "x").unwrap();
    let (images, into) = (root.display().to_string(), folder.path().join("run"));
    let said = said(0, &["embed", &images, "-o", &into.display().to_string(), "--model", MODEL], &[]);
    assert!(said.contains("6 embeddings, 0 rejects"), "{said}");
    for line in ["passed over: 1 (first: n01/n01_boxes.txt)", "passed over: 1 (first: n01/._0.JPEG)"] {
        assert!(said.contains(line), "{line} is missing in {said}");
    }
    let rows: Vec<_> = Ledger::open(&into).unwrap().rows().unwrap().map(|row| row.unwrap()).collect();
    let keys: Vec<&str> = rows.iter().map(|row| row.fate.info.key.as_str()).collect();
    let wanted = [
        "n01/images/0.JPEG",
        "n01/images/1.JPEG",
        "n02/4.ppm",
        "n02/5.pgm",
        "n02/images/2.JPEG",
        "n02/more/deep/3.jpg",
    ];
    assert_eq!(keys, wanted);
    assert!(rows.iter().all(|row| row.fate.status == Status::Kept));
}

/// A benchmark's picture that cannot be decoded is an error that names it; it may be missing where its name is given.
#[test]
fn a_benchmark_misses_no_picture_in_silence() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let bench = folder.path().join("bench");
    pictures(&bench, &["a/0.jpg", "a/1.jpg", "b/2.jpg", "b/3.jpg"]);
    fs::write(bench.join("b/broken.jpg"), b"\xff\xd8\xff broken").unwrap();
    fs::write(bench.join("b/notes.md"), "x").unwrap();
    let (shards, into) = (world.shards(), folder.path().join("run").display().to_string());
    let benchmark = format!("x={}", bench.display());
    let judging = ["--benchmark", &benchmark, "--rule", "drop-above:0.99", "--embedder", MODEL];
    let prune = ["prune", &shards, "--run", &into];
    let refused = said(2, &prune, &judging);
    assert!(last(&refused).contains("1 of its pictures could not be embedded (first: b/broken.jpg: "), "{refused}");
    assert!(last(&refused).contains("--benchmark-without x/b/broken.jpg"), "{refused}");
    let allowed = |key: &'static str| [&judging[..], &["--benchmark-without", key]].concat();
    assert!(last(&said(2, &prune, &allowed("x/b/3.jpg"))).contains("could not be embedded"));
    assert!(last(&said(2, &prune, &allowed("y/b/3.jpg"))).contains("no benchmark is called so"));
    let heard = said(0, &prune, &allowed("x/b/broken.jpg"));
    assert!(heard.contains("files that are no pictures by their names passed over: 1 (first: b/notes.md)"), "{heard}");

    // A picture that is mended is embedded, by the same command.
    let again = folder.path().join("again").display().to_string();
    let (good, broken) = (fs::read(bench.join("a/0.jpg")).unwrap(), fs::read(bench.join("b/broken.jpg")).unwrap());
    said(2, &["prune", &shards, "--run", &again], &judging);
    fs::write(bench.join("b/broken.jpg"), good).unwrap();
    said(0, &["prune", &shards, "--run", &again], &judging);
    fs::write(bench.join("b/broken.jpg"), broken).unwrap();

    // The same of a benchmark that was embedded before, and its radii.
    let images = bench.display().to_string();
    let embedded = folder.path().join("embedded").display().to_string();
    said(0, &["embed", &images, "-o", &embedded, "--model", MODEL], &["--max-rejects", "50"]);
    let (reference, out) = (world.path("embedded/reference"), folder.path().join("radii").display().to_string());
    let of = format!("x={embedded}");
    let radii = ["radii", "--reference", &reference, "--benchmark", &of, "-o", &out];
    assert!(last(&stderr(&run(2, &radii))).contains("b/broken.jpg"));
    run(0, &[&radii[..], &["--benchmark-without", "x/b/broken.jpg"]].concat());
}

/// An unreadable picture leaves the run unfinished, with status 3; when it can be read, the same command goes on.
#[test]
fn an_unreadable_picture_is_tried_again() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let bench = folder.path().join("bench");
    pictures(&bench, &["a/0.jpg", "a/1.jpg", "b/2.jpg", "b/3.jpg"]);
    fs::rename(bench.join("b/3.jpg"), folder.path().join("away.jpg")).unwrap();
    symlink("nowhere", bench.join("b/3.jpg")).unwrap();
    let (shards, into) = (world.shards(), folder.path().join("run").display().to_string());
    let benchmark = format!("x={}", bench.display());
    let judging = ["--benchmark", &benchmark, "--rule", "drop-above:0.99", "--embedder", MODEL];
    let prune = ["prune", &shards, "--run", &into];
    let unfinished = said(3, &prune, &judging);
    assert!(last(&unfinished).contains("b/3.jpg") && last(&unfinished).contains("tries again"), "{unfinished}");
    // What was embedded so far is no benchmark.
    let half = format!("x={into}/benchmarks/x");
    let refused = said(
        2,
        &["prune", &shards, "--run", &into],
        &["--benchmark", &half, "--rule", "drop-above:0.99", "--embedder", MODEL],
    );
    assert!(last(&refused).contains("1 of 2 shards are not embedded yet (first: b)"), "{refused}");
}

#[test]
fn radii_of_pictures_are_those_of_their_embeddings() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let reference = world.path("data/benchmarks/sketch");
    let photo = format!("photo={}", world.path("data/benchmarks/photo"));
    let out = folder.path().join("radii");
    let into = out.display().to_string();
    let pictures = ["radii", "--reference", &reference, "--benchmark", &photo, "-o", &into, "--embedder", MODEL];
    said(0, &pictures, &[]);
    said(0, &pictures, &[]);
    let embedded = format!("photo={}", world.path("embedded/photo"));
    let plain = folder.path().join("plain");
    let words = [
        "radii",
        "--reference",
        &world.path("embedded/sketch"),
        "--benchmark",
        &embedded,
        "-o",
        &plain.display().to_string(),
    ];
    run(0, &words);
    let twice = stderr(&run(2, &[&words[..], &["--benchmark", "photo=elsewhere"]].concat()));
    assert!(last(&twice).contains("two benchmarks are called photo"), "{twice}");
    let read = |root: &Path| {
        let set = trommel_columnar::embeddings::EmbeddingSet::open(&root.join("photo")).unwrap();
        (set.radii.unwrap(), set.keys, set.identity)
    };
    assert_eq!(read(&out), read(&plain));
    // Where nothing is embedded, nobody reads how to embed.
    let refused = stderr(&run(2, &[&words[..], &["--embedder", MODEL]].concat()));
    assert!(
        last(&refused).contains("--embedder: the reference set and all benchmarks are embeddings already"),
        "{refused}"
    );
}

/// Two pictures that swap their contents leave names and the classes' sizes as they were. What is written again, or copied, is not embedded again.
#[test]
fn radii_are_those_of_the_pictures_that_lie_there() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let (bench, out) = (folder.path().join("bench"), folder.path().join("out"));
    let files = ["a/0.jpg", "a/1.jpg", "a/2.jpg"];
    pictures(&bench, &files);
    let benchmark = format!("x={}", bench.display());
    let reference = world.path("embedded/reference");
    let radii_in = |out: &Path| {
        let into = out.display().to_string();
        said(
            0,
            &["radii", "--reference", &reference, "--benchmark", &benchmark, "-o", &into, "--embedder", MODEL],
            &[],
        );
        trommel_columnar::embeddings::EmbeddingSet::open(&out.join("x")).unwrap().radii.unwrap()
    };
    let first = radii_in(&out);
    let list = out.join("embedded/benchmarks/x/source_files.jsonl");
    let parts = || fs::read_dir(out.join("embedded/benchmarks/x/manifest")).unwrap().count();
    let (noted, begun) = (fs::read_to_string(&list).unwrap(), parts());
    for name in files {
        let (path, aside) = (bench.join(name), folder.path().join("aside"));
        fs::copy(&path, &aside).unwrap();
        fs::rename(aside, path).unwrap();
    }
    assert_eq!(radii_in(&out), first);
    assert!(parts() > begun, "the same embeddings are gone on with");
    assert_ne!(fs::read_to_string(&list).unwrap(), noted, "the copies are known by now");
    // What an earlier version has embedded is taken for what lies there, once.
    fs::remove_file(&list).unwrap();
    assert_eq!(radii_in(&out), first);
    let aside = folder.path().join("aside.jpg");
    fs::rename(bench.join(files[0]), &aside).unwrap();
    fs::rename(bench.join(files[1]), bench.join(files[0])).unwrap();
    fs::rename(&aside, bench.join(files[1])).unwrap();
    let second = radii_in(&out);
    assert_eq!(second, [first[1], first[0], first[2]]);
    assert_eq!(second, radii_in(&folder.path().join("fresh")));
}

/// One file of vectors that strayed into a folder of pictures does not make it embeddings, nor the other way round.
#[test]
fn a_folder_of_pictures_and_embeddings_is_refused_with_both_counts() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let (cats, out) = (folder.path().join("cats"), folder.path().join("out").display().to_string());
    fs::create_dir(&cats).unwrap();
    for name in ["0.jpg", "1.jpg", "2.png"] {
        fs::write(cats.join(name), b"a picture").unwrap();
    }
    npy(&folder.path().join("mean.npy"), &[vec![0.5; 64]]);
    let given = folder.path().display().to_string();
    let photo = format!("photo={}", world.path("embedded/photo"));
    let refused = stderr(&run(2, &["radii", "--reference", &given, "--benchmark", &photo, "-o", &out]));
    assert!(last(&refused).contains("1 files of embeddings, 3 pictures (first: "), "{refused}");
    let benchmark = format!("x={given}");
    let prune = ["prune", &world.shards(), "--run", &out, "--benchmark", &benchmark, "--rule", "drop-above:0.9"];
    let refused = stderr(&run(2, &[&prune[..], &["--embedder", MODEL, "--random-init", "1"]].concat()));
    assert!(last(&refused).contains("1 files of embeddings, 3 pictures (first: "), "{refused}");
}

/// Rows of `dim` f32 as numpy writes them.
fn npy(path: &Path, rows: &[Vec<f32>]) {
    let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows.len(), rows[0].len());
    let header = format!("{dict:<117}\n");
    let mut bytes = [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
    rows.iter().flatten().for_each(|value| bytes.extend(value.to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_reference_is_whole_and_says_who_made_it() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let (out, file) = (folder.path().join("out").display().to_string(), folder.path().join("reference.npy"));
    let reference = file.display().to_string();
    let photo = format!("photo={}", world.path("embedded/photo"));
    let radii = ["radii", "--reference", &reference, "--benchmark", &photo, "-o", &out, "--json"];
    let row = |first: f32| [vec![first], vec![0.5; 63]].concat();
    npy(&file, &[row(0.1), row(f32::NAN), row(0.2), vec![0.0; 64]]);
    // An identity that only the benchmark has is not the reference's.
    let refused = stderr(&run(2, &radii));
    assert!(last(&refused).contains(&format!("--assume-model {MODEL}")), "{refused}");
    let assumed =
        |status, model: &str| run(status, &[&radii[..], &["--assume-model", model, "--max-rejects", "60"]].concat());
    assumed(2, "ViT-B-32");
    let out = assumed(0, MODEL);
    let line = "reference rows without a direction, left out: 2, 2 samples lost (first: row 1 (1) is not finite)";
    assert!(stderr(&out).contains(line), "{}", stderr(&out));
    let json = String::from_utf8(out.stdout).unwrap();
    assert!(json.contains("\"reference_rows\":{") && json.contains("\"references\":2"), "{json}");
    let out = run(4, &[&radii[..], &["--assume-model", MODEL]].concat());
    assert!(last(&stderr(&out)).contains("of 4 samples 0 were rejected and 2 lost"), "{}", stderr(&out));
    npy(&file, &[row(f32::NAN), vec![0.0; 64]]);
    let refused = stderr(&assumed(2, MODEL));
    assert!(last(&refused).contains("none of its 2 rows has a direction"), "{refused}");
}

/// A shard of which nothing could be embedded leaves no part: clip-retrieval and our own reader want rows of one length.
#[test]
fn npy_parts_have_rows() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.tar");
    fs::write(&empty, [0; 1024]).unwrap();
    let out = folder.path().join("out");
    let first = world.path("data/shards/00000.tar");
    let (empty, into) = (empty.display().to_string(), out.display().to_string());
    let words = ["embed", &empty, &first, "-o", &into, "--model", MODEL, "--format", "npy", "--max-rejects", "100"];
    said(0, &words, &[]);
    let files = |name: &str| {
        let mut files: Vec<_> = fs::read_dir(out.join(name)).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        files
    };
    assert_eq!(files("img_emb"), ["img_emb_1.npy"]);
    assert_eq!(files("metadata"), ["metadata_1.parquet"]);
    let set = trommel_columnar::embeddings::EmbeddingSet::open(&out.join("img_emb")).unwrap();
    assert_eq!((set.dim, set.is_empty()), (64, false));
}

/// Whoever says how repeated members are read, or how to embed and join, expects that any are.
#[test]
fn flags_that_change_nothing_here_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("images");
    pictures(&root, &FILES);
    let prune = |what: &str, into: &str, more: &[&str]| {
        let into = folder.path().join(into).display().to_string();
        let words = ["prune", what, "--run", &into, "--rule", "random:100%", "--seed", "3", "--threads", "1"];
        stderr(&run(0, &[&words[..], more].concat()))
    };
    let (images, shard) = (root.display().to_string(), World::shared().path("data/shards/00000.tar"));
    let heard = prune(&images, "strict", &["--strict"]);
    let line = "flags that nobody reads of class folders, where no member is repeated: 1 (first: --strict)";
    assert!(heard.contains(line), "{heard}");
    let heard = prune(&images, "embedder", &["--embedder", MODEL, "--join", "cpu"]);
    assert!(heard.contains("for without --benchmark nothing is embedded or joined: 2 (first: --"), "{heard}");
    let heard = prune(&images, "device", &["--device", "cpu", "--decode", "cpu"]);
    assert!(heard.contains("for without --benchmark nothing is embedded or joined: 2 (first: --de"), "{heard}");
    let stored = World::shared().path("embedded/photo");
    for (what, into) in [(&images, "columns"), (&stored, "stored")] {
        let heard = prune(what, into, &["--join", "cpu", "--columns", "decision"]);
        assert!(heard.contains("nothing is embedded or joined: 1 (first: --join)"), "{heard}");
        assert!(heard.contains("; the folder goes on with this one only: 1 (first: --columns)"), "{heard}");
        // So it does.
        let into = folder.path().join(into).display().to_string();
        let other = ["prune", what, "--run", &into, "--rule", "random:100%", "--seed", "3", "--threads", "1"];
        let refused = stderr(&run(2, &other));
        assert!(refused.contains("columns: the folder has `decision`, now `all`"), "{refused}");
    }
    for (what, into, more) in [(&images, "plain", &[][..]), (&shard, "shard", &["--strict"][..])] {
        let heard = prune(what, into, more);
        assert!(!heard.contains("nobody reads"), "{heard}");
    }
}

#[test]
fn eval_says_what_it_left_out() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    pictures(&data, &["a/0.jpg", "a/1.jpg", "b/2.jpg", "b/deep/3.jpg"]);
    for file in ["a", "b"] {
        fs::write(data.join(file).join("notes.md"), "x").unwrap();
    }
    let trained = folder.path().join("run");
    let mut words = world.train(&trained, 5);
    words.extend(["--threads".into(), "1".into()]);
    run(0, &common::words(&words));
    let checkpoint = trained.join("checkpoints/epoch_latest.pt").display().to_string();
    let of = data.display().to_string();
    let eval = ["eval", &checkpoint, "--model", MODEL, "--data", &of, "--json"];
    let good = stderr(&run(0, &eval));
    assert!(good.contains("4 pictures of 2 classes (0 rejected)"), "{good}");
    assert!(good.contains("passed over: 2 (first: a/notes.md)"), "{good}");
    fs::write(data.join("b/4.jpg"), b"\xff\xd8\xff broken").unwrap();
    let out = run(4, &eval);
    assert!(
        stderr(&out).contains("left out: 1, 1 samples lost (first: ") && stderr(&out).contains("b/4.jpg: "),
        "{}",
        stderr(&out)
    );
    assert!(String::from_utf8(out.stdout).unwrap().contains("\"rejected\":{"));
    run(0, &[&eval[..], &["--max-rejects", "20"]].concat());
    symlink("nowhere", data.join("b/5.jpg")).unwrap();
    assert!(last(&stderr(&run(3, &eval))).contains("b/5.jpg"));
    fs::remove_file(data.join("b/5.jpg")).unwrap();
    fs::create_dir(data.join("c")).unwrap();
    assert!(last(&stderr(&run(2, &eval))).contains("1 class folders hold no picture (first: c)"));
    fs::remove_dir(data.join("c")).unwrap();
    let names = folder.path().join("names.txt");
    fs::write(&names, "cat\ncat\n").unwrap();
    let twice =
        stderr(&run(0, &[&eval[..], &["--classnames", &names.display().to_string(), "--max-rejects", "20"]].concat()));
    assert!(twice.contains("class names that other folders have too: 1 (first: cat)"), "{twice}");
    let list = folder.path().join("templates.txt");
    fs::write(&list, "a {c}.\nno place\n").unwrap();
    let refused = stderr(&run(2, &[&eval[..], &["--templates", &list.display().to_string()]].concat()));
    assert!(last(&refused).contains("templates.txt:2: `no place` has no place for the class"), "{refused}");
}
