//! `trommel eval --retrieval`: one set in all its layouts, what is lost of it, and CLIP_benchmark's own recall.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use common::members::append;
use common::{MODEL, World, peer, run, stderr};
use serde_json::{Value, json};
use trommel_columnar::embeddings::EmbeddingSet;

const PICTURES: usize = 40;

/// The model of these tests as open_clip reads it.
const OPEN_CLIP: &str = r#"{
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
}"#;

/// Weights after some steps of training.
fn weights() -> &'static str {
    static WEIGHTS: OnceLock<String> = OnceLock::new();
    WEIGHTS.get_or_init(|| {
        let trained = common::shared_folder("trained").join("run");
        let mut words = World::shared().train(&trained, 30);
        words.extend(["--threads".into(), "1".into()]);
        run(0, &common::words(&words));
        trained.join("checkpoints/epoch_latest.pt").display().to_string()
    })
}

/// Pictures of all classes with one to three captions each, no two of them equal: `00.jpg`, `00.txt`.
fn pairs(folder: &Path) -> Vec<(PathBuf, Vec<String>)> {
    fs::create_dir_all(folder).unwrap();
    let root = PathBuf::from(World::shared().path("data/benchmarks/photo"));
    let mut pictures: Vec<(String, PathBuf)> = Vec::new();
    for class in fs::read_dir(root).unwrap().map(|class| class.unwrap().path()).filter(|class| class.is_dir()) {
        let name = class.file_name().unwrap().to_string_lossy().replace('_', " ");
        pictures.extend(fs::read_dir(&class).unwrap().map(|file| (name.clone(), file.unwrap().path())));
    }
    pictures.sort();
    assert!(pictures.len() >= PICTURES, "{}", pictures.len());
    let step = pictures.len() / PICTURES;
    let made = pictures.iter().step_by(step).take(PICTURES).enumerate().map(|(at, (class, from))| {
        let captions =
            [format!("a photo of a {class}, number {at}"), format!("{class} {at}"), format!("my {class} no. {at}")];
        let captions = captions[..1 + at % 3].to_vec();
        let path = folder.join(format!("{at:02}.jpg"));
        fs::copy(from, &path).unwrap();
        fs::write(path.with_extension("txt"), captions.join("\n")).unwrap();
        (path, captions)
    });
    made.collect()
}

fn tar(path: &Path, members: &[(String, Vec<u8>)]) {
    let mut tar = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, data) in members {
        append(&mut tar, name, data.as_slice());
    }
    tar.into_inner().unwrap();
}

fn retrieve(status: i32, data: &Path, more: &[&str]) -> Output {
    let data = data.display().to_string();
    let words = ["eval", weights(), "--model", MODEL, "--data", &data, "--retrieval", "--threads", "1", "--json"];
    run(status, &[&words[..], more].concat())
}

fn report(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(out)))
}

fn recalls(out: &Output) -> Value {
    let mut report = report(out);
    report.as_object_mut().unwrap().remove("notices");
    report
}

#[test]
fn layouts_agree_and_what_is_lost_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let pairs = pairs(&at("flat"));
    let captions: usize = pairs.iter().map(|(_, captions)| captions.len()).sum();
    let out = retrieve(0, &at("flat"), &[]);
    let due = recalls(&out);
    assert_eq!(report(&out)["notices"], json!({}));
    assert_eq!((&due["pictures"], &due["captions"]), (&json!(PICTURES), &json!(captions)));
    for (side, all) in [("image_to_text", PICTURES), ("text_to_image", captions)] {
        let at_k: Vec<(u64, u64)> = due[side]
            .as_array()
            .unwrap()
            .iter()
            .map(|at| {
                let (k, found) = (at["k"].as_u64().unwrap(), at["found"].as_u64().unwrap());
                assert_eq!(at["recall"].as_f64().unwrap(), found as f64 / all as f64);
                (k, found)
            })
            .collect();
        assert_eq!(at_k.iter().map(|at| at.0).collect::<Vec<_>>(), [1, 5, 10]);
        assert!(at_k[0].1 <= at_k[1].1 && at_k[1].1 < at_k[2].1 && at_k[2].1 < all as u64, "{due}");
    }
    let said = stderr(&out);
    assert!(said.contains(&format!("retrieval on {PICTURES} pictures with {captions} captions")), "{said}");
    assert!(said.contains(" cores") && said.contains(": 1 thread\n"), "{said}");
    assert!(said.contains("image to text: recall@1 ") && said.contains("text to image: recall@1 "), "{said}");

    // As tars: img2dataset's, whose json repeats the caption, and a set of CLIP_benchmark's.
    let bytes = |path: &Path| fs::read(path).unwrap();
    fs::create_dir_all(at("shards")).unwrap();
    fs::create_dir_all(at("set/test")).unwrap();
    fs::create_dir_all(at("files/00000")).unwrap();
    for (shard, pairs) in pairs.chunks(25).enumerate() {
        let (mut of_txt, mut of_json) = (Vec::new(), Vec::new());
        for (path, captions) in pairs {
            let key = path.file_stem().unwrap().to_str().unwrap();
            of_txt.push((format!("{key}.jpg"), bytes(path)));
            of_txt.push((format!("{key}.txt"), captions.join("\n").into_bytes()));
            of_json.push((format!("{key}.jpg"), bytes(path)));
            of_json.push((format!("{key}.json"), json!({ "caption": captions.join("\n") }).to_string().into_bytes()));
        }
        of_json.iter().for_each(|(name, data)| fs::write(at("files/00000").join(name), data).unwrap());
        tar(&at(&format!("shards/{shard:05}.tar")), &of_json);
        tar(&at(&format!("set/test/{shard}.tar")), &of_txt);
    }
    fs::write(at("set/test/nshards.txt"), "2\n").unwrap();
    fs::write(at("set/dataset_type.txt"), "retrieval\n").unwrap();
    for data in ["shards", "shards/{00000..00001}.tar", "set", "set/test", "files"] {
        assert_eq!(recalls(&retrieve(0, &at(data), &[])), due, "{data}");
    }

    tar(&at("set/test/2.tar"), &[]);
    let out = retrieve(0, &at("set"), &[]);
    assert_eq!((recalls(&out), &report(&out)["notices"]["uncounted_shards"]["count"]), (due.clone(), &json!(1)));
    fs::remove_file(at("set/test/2.tar")).unwrap();

    // Its pictures are a benchmark like others, without classes.
    let vectors = embedded(&at("flat"), &at("embedded-flat")).vectors;
    assert_eq!(vectors.len(), PICTURES * 64);
    for (set, out) in [("set", "embedded-set"), ("set/test", "embedded-test")] {
        let of_set = embedded(&at(set), &at(out));
        assert_eq!((of_set.vectors, of_set.labels), (vectors.clone(), vec![None; PICTURES]), "{set}");
    }
    let text = |name: &str| at(name).display().to_string();
    let (set, reference, out) =
        (format!("pairs={}", text("set")), World::shared().path("embedded/reference"), text("radii"));
    let words = ["radii", "--reference", &reference, "--benchmark", &set, "-o", &out, "--embedder", MODEL];
    run(0, &[&words[..], &["--random-init", "1", "--threads", "1"]].concat());
    assert_eq!(EmbeddingSet::open(&at("radii/pairs")).unwrap().vectors, vectors);

    // Another k, and one that says nothing of the model.
    let out = retrieve(0, &at("set"), &["--recall-k", "2,40"]);
    let found = |side: &str, at: usize| report(&out)[side][at]["recall"].as_f64().unwrap();
    assert!(found("text_to_image", 1) == 1.0 && found("text_to_image", 0) < 1.0);
    assert!(
        stderr(&out).contains("text to image is 100 % whatever the model: 1 (first: 40 of 40)"),
        "{}",
        stderr(&out)
    );

    // What is no pair is on no side, and lost.
    fs::write(at("flat/05.txt"), format!("\n{}\n \n", pairs[5].1.join("\r\n"))).unwrap();
    fs::write(at("flat/50.jpg"), "no picture").unwrap();
    fs::write(at("flat/50.txt"), "of nothing\n").unwrap();
    fs::copy(at("flat/00.jpg"), at("flat/51.jpg")).unwrap();
    fs::copy(at("flat/00.jpg"), at("flat/52.jpg")).unwrap();
    fs::write(at("flat/52.txt"), "\u{1c} \n").unwrap();
    let out = retrieve(4, &at("flat"), &[]);
    assert_eq!(recalls(&out), due);
    let said = stderr(&out);
    for line in [
        "pictures that could not be decoded, left out with their captions: 1, 1 samples lost (first: flat/50.jpg",
        "pictures without a caption, left out: 2, 2 samples lost (first: flat/51.jpg)",
        "empty lines among captions, left out: 2 (first: flat/05.jpg)",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert_eq!(report(&out)["notices"]["no_caption"]["lost_samples"], 2);
    assert_eq!(recalls(&retrieve(0, &at("flat"), &["--max-rejects", "10"])), due);
    fs::copy(at("flat/00.jpg"), at("flat/53.jpg")).unwrap();
    fs::write(at("flat/53.txt"), "long ".repeat(1 << 18)).unwrap();
    let said = stderr(&retrieve(4, &at("flat"), &[]));
    assert!(
        said.contains("samples that could not be read, left out: 1, 1 samples lost (first: flat/53.jpg: "),
        "{said}"
    );

    let last = |out: &Output| stderr(out).lines().last().unwrap_or_default().to_owned();
    let photo = PathBuf::from(World::shared().path("data/benchmarks/photo"));
    assert!(last(&retrieve(2, &photo, &[])).contains("pictures has a caption"), "{}", last(&retrieve(2, &photo, &[])));
    let set = at("set").display().to_string();
    let plain = run(2, &["eval", weights(), "--model", MODEL, "--data", &set]);
    assert!(last(&plain).contains("pictures with captions and without classes: --retrieval"), "{}", stderr(&plain));
    fs::remove_file(at("set/test/1.tar")).unwrap();
    assert!(last(&retrieve(3, &at("set"), &[])).contains("1.tar: is not there"));
}

/// A set's pictures, embedded.
fn embedded(set: &Path, out: &Path) -> EmbeddingSet {
    let (set, to) = (set.display().to_string(), out.display().to_string());
    run(0, &["embed", &set, "-o", &to, "--model", MODEL, "--random-init", "1", "--threads", "1"]);
    EmbeddingSet::open(out).unwrap()
}

/// Equal captions, of which no text tower can tell one from another: the first of them is found, whoever has it.
#[test]
fn equal_captions_tie() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = pairs(&folder.path().join("flat"));
    for (path, _) in &pairs {
        fs::write(path.with_extension("txt"), "a photo\n").unwrap();
    }
    let out = report(&retrieve(0, &folder.path().join("flat"), &["--recall-k", "1,7"]));
    let found = |side: &str| [0, 1].map(|at| out[side][at]["found"].as_u64().unwrap());
    assert_eq!(found("image_to_text"), [1, 7]);
    assert_eq!(found("text_to_image"), [1, 7]);
}

#[test]
fn peer_clip_benchmark_recalls_the_same() {
    let Some(python) = peer("clip_benchmark and open_clip") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    pairs(&at("flat"));
    fs::write(at("tiny.json"), OPEN_CLIP).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/retrieval.py");
    let mut peer = Command::new(python);
    peer.arg(script).args([at("flat"), at("set"), at("tiny.json")]).arg(weights());
    let peer = peer.env("OMP_NUM_THREADS", "1").env_remove("LD_LIBRARY_PATH").output().unwrap();
    assert!(peer.status.success(), "{}", stderr(&peer));
    let theirs = String::from_utf8(peer.stdout).unwrap();
    let theirs: Value = serde_json::from_str(theirs.lines().last().unwrap()).unwrap();
    assert!(at("set/test/2.tar").is_file(), "several tars");
    let ours = report(&retrieve(0, &at("set"), &[]));
    for (side, name, all) in [("image_to_text", "text", "pictures"), ("text_to_image", "image", "captions")] {
        for at in ours[side].as_array().unwrap() {
            let metric = format!("{name}_retrieval_recall@{}", at["k"]);
            let due = theirs[&metric].as_f64().unwrap() * ours[all].as_f64().unwrap();
            // Their mean is an f32.
            assert!((at["found"].as_f64().unwrap() - due).abs() < 1e-3, "{metric}: {at} {theirs}");
        }
    }
    let of_theirs = embedded(&at("set"), &at("embedded-set")).vectors;
    assert_eq!(of_theirs, embedded(&at("flat"), &at("embedded-flat")).vectors);
    let known = |side: &str| ours[side][0]["recall"].as_f64().unwrap();
    assert!(known("image_to_text") > 0.0 && known("image_to_text") < 1.0, "{ours}");
    eprintln!("{theirs}");
}
