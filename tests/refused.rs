//! A command that is refused leaves nothing behind, however far it had come: no folder, no lock, no settings that the next command would find. What
//! stood there before stays.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "../operators/select/tests/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{MODEL, run, stderr, trommel};
use half::f16;
use trommel_columnar::npy;
use world::{Row, make};

/// Stands for the place that a command is to write into.
const OUT: &str = "{out}";

/// Everything below a folder: files with their bytes, folders with none.
fn tree(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
            found.insert(path, None);
        } else {
            found.insert(path.clone(), Some(fs::read(&path).unwrap()));
        }
    }
    found
}

/// Inputs of the commands below.
struct Inputs {
    folder: tempfile::TempDir,
}

impl Inputs {
    fn made() -> Self {
        let inputs = Self { folder: tempfile::tempdir().unwrap() };
        let small = ["--reference-pictures", "1", "--benchmark-pictures", "1"];
        run(0, &[&["synth", &inputs.path("data"), "--shards", "1", "--samples", "8"][..], &small].concat());
        // Of the shard's name, and of none of its samples.
        let row = |at: usize| Row { key: format!("other{at}"), scores: vec![(0.5, Some(0))], ..Row::default() };
        make(inputs.at("judged").as_path(), &["val"], vec![("00000.tar".into(), Some((0..8).map(row)))]);
        make(inputs.at("begun").as_path(), &[], vec![("00000.tar".into(), None::<std::vec::IntoIter<Row>>)]);
        fs::create_dir_all(inputs.at("broken/cat")).unwrap();
        fs::write(inputs.at("broken/cat/a.jpg"), "no picture").unwrap();
        fs::write(inputs.at("list.keys"), "elsewhere\n").unwrap();
        let rows: Vec<f16> =
            (0..20).flat_map(|at| [f64::from(at).cos(), f64::from(at).sin()]).map(f16::from_f64).collect();
        fs::create_dir(inputs.at("vectors")).unwrap();
        let vectors = inputs.at("vectors/0.npy");
        npy::write(&vectors, &mut fs::File::create(&vectors).unwrap(), &rows, 2).unwrap();
        let study = format!(
            "pool = \"no/*.tar\"\nreference = \"data/reference\"\nmodel = \"{MODEL}\"\n[benchmarks.photo]\ndata = \"data/benchmarks/photo\"\n\
             [embedder]\nmodel = \"{MODEL}\"\nrandom_init = 0\n[training]\nbatch = 8\nsteps = 1\n"
        );
        fs::write(inputs.at("study.toml"), study).unwrap();
        let unknown = format!(
            "model = \"no-such-model\"\n[generated]\nshards = 1\nsamples = 8\n[embedder]\nmodel = \"{MODEL}\"\nrandom_init = 0\n\
             [training]\nbatch = 8\nsteps = 1\n"
        );
        fs::write(inputs.at("unknown.toml"), unknown).unwrap();
        fs::write(inputs.at("trainer.toml"), "model = \"no-such-model\"\nbatch = 8\nsteps = 1\n").unwrap();
        inputs
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    /// Command lines that are refused after their place was made, each with its status and a part of what it says.
    fn refused(&self) -> Vec<(Vec<String>, i32, &'static str)> {
        let [judged, begun, tar, keys, vectors] =
            ["judged", "begun", "data/shards/00000.tar", "list.keys", "vectors"].map(|name| self.path(name));
        let [photo, reference, broken, none] =
            ["data/benchmarks/photo", "data/reference", "broken", "none.parquet"].map(|name| self.path(name));
        let [study, unknown] = ["study.toml", "unknown.toml"].map(|name| self.path(name));
        let [page, file] = [self.path("no/page.html"), format!("{OUT}/s.parquet")];
        let (benchmark, stored) = (format!("photo={photo}"), format!("stored={vectors}"));
        let [above_run, run_itself, table_of_gaps] = ["..", ".", "gap.csv"].map(|name| format!("{name}={photo}"));
        let table = ["--rule", "where:score>5", "--table", &none];
        let (tight, drawn, known) = (["--memory", "1MiB"], ["--rule", "random:50%"], ["--model", MODEL]);
        let pictures = ["--benchmark", &benchmark, "--embedder", MODEL];
        let (shards, trainer) = (self.path("data/shards"), self.path("trainer.toml"));
        let model = ["--assume-model", MODEL, "--embedder", MODEL, "--random-init", "1"];
        let watch = [&["watch", &shards, "--run", OUT, "--once", "--benchmark", &stored][..], &model].concat();
        let (above, elsewhere) = (["--rule", "drop-above:0.9"], ["--rule", "drop-over-radius@elsewhere"]);
        let with = |words: &[&[&str]]| words.concat().into_iter().map(String::from).collect::<Vec<_>>();
        let recipe = ["--model", MODEL, "--batch", "8", "--steps", "4", "--precision", "f32", "--warmup", "1"];
        let (little, weights) = ("is too little for this run", "--random-init SEED");
        vec![
            (with(&[&["select", &judged, "-o", OUT], &table]), 2, "none.parquet"),
            (with(&[&["select", &judged, "-o", &file], &table]), 2, "none.parquet"),
            (with(&[&["select", &judged, "-o", OUT], &drawn, &tight]), 2, little),
            (with(&[&["stream", &tar, "--run", &judged, "-o", OUT]]), 1, "it is not the shard that"),
            (with(&[&["stream", &tar, "--run", &begun, "-o", OUT]]), 3, "is not judged yet"),
            (with(&[&["stream", &tar, "--split", &keys, "-o", OUT]]), 2, "none of its 1 keys is in these shards"),
            (with(&[&["dedup", &vectors, "--above", "0.9", "-o", OUT]]), 2, "--assume-model"),
            (with(&[&["dedup", &vectors, "--above", "0.9", "--assume-model", "m", "-o", OUT], &tight]), 2, little),
            (with(&[&["inject", &broken, "-o", OUT]]), 2, "no picture of a format"),
            (with(&[&["report", &judged, "--tables", OUT, "-o", &page]]), 1, "page.html"),
            (with(&[&["embed", &photo, "-o", OUT], &known]), 2, weights),
            (with(&[&["embed", &photo, "-o", OUT, "--random-init", "1"], &known, &tight]), 2, little),
            (with(&[&["radii", "--reference", &reference, "-o", OUT], &pictures]), 2, weights),
            (with(&[&["prune", &vectors, "--run", OUT], &drawn, &tight]), 2, little),
            (with(&[&["prune", &tar, "--run", OUT], &drawn, &tight]), 2, little),
            (with(&[&["prune", &tar, "--run", OUT, "--rule", "drop-above:0.9"], &pictures]), 2, weights),
            (with(&[&["train", &tar, "--run", OUT], &drawn, &recipe, &tight]), 2, little),
            (with(&[&["train", &tar, "--run", OUT], &drawn, &recipe, &["--lanes", "0"]]), 2, "lane"),
            (with(&[&watch, &above, &tight]), 2, little),
            (with(&[&watch, &elsewhere]), 2, "elsewhere"),
            (
                with(&[&["prune", &tar, "--run", OUT], &above, &["--benchmark", &above_run]]),
                2,
                "with no dot at its start",
            ),
            (
                with(&[&["prune", &tar, "--run", OUT], &above, &["--benchmark", &run_itself]]),
                2,
                "with no dot at its start",
            ),
            (with(&[&["radii", "--reference", &reference, "-o", OUT, "--benchmark", &above_run]]), 2, "with no dot"),
            (
                with(&[&["radii", "--reference", &reference, "-o", OUT, "--benchmark", &table_of_gaps]]),
                2,
                "beside embedded",
            ),
            (
                with(&[&watch, &["--split", "summary.json=drop-above:0.9"]]),
                2,
                "beside summary.json and changes.parquet",
            ),
            (with(&[&watch, &above, &["--train", &trainer]]), 2, "no-such-model"),
            (with(&[&["study", &study, "--run", OUT]]), 2, "pool: "),
            (with(&[&["study", &unknown, "--run", OUT]]), 2, "no-such-model"),
        ]
    }
}

/// Runs a command line on a place, and gives its status and what it said.
fn on(place: &Path, words: &[String]) -> (Option<i32>, String) {
    let place = place.display().to_string();
    let out = trommel().args(words.iter().map(|word| word.replace(OUT, &place))).output().unwrap();
    (out.status.code(), stderr(&out))
}

#[test]
fn a_refused_command_leaves_nothing_behind_and_what_was_there() {
    let inputs = Inputs::made();
    let before = tree(inputs.folder.path());
    for (words, status, part) in inputs.refused() {
        let scratch = tempfile::tempdir().unwrap();
        let new = scratch.path().join("new/place");
        let (ended, said) = on(&new, &words);
        assert!(ended == Some(status) && said.contains(part), "{words:?}: {ended:?} {said}");
        assert_eq!(tree(scratch.path()), BTreeMap::new(), "{words:?}: {said}");

        // A folder of the user's, with something in it or nothing.
        let (empty, theirs) = (scratch.path().join("empty"), scratch.path().join("theirs"));
        fs::create_dir(&empty).unwrap();
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("notes.md"), "mine").unwrap();
        let stood = tree(scratch.path());
        for place in [&empty, &theirs] {
            let (ended, said) = on(place, &words);
            assert!(!matches!(ended, Some(0) | None), "{words:?}: {said}");
            assert_eq!(tree(scratch.path()), stood, "{words:?}: {said}");
        }
    }
    assert_eq!(tree(inputs.folder.path()), before, "no input is touched");
}

/// The other side: the same commands, rightly asked, leave what they wrote.
#[test]
fn what_was_written_stays() {
    let inputs = Inputs::made();
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join("new").join(name).display().to_string();
    let (judged, tar, vectors) = (inputs.path("judged"), inputs.path("data/shards/00000.tar"), inputs.path("vectors"));
    let (photo, page) = (inputs.path("data/benchmarks/photo"), at("report/page.html"));
    for (words, file) in [
        (&["select", &judged, "--rule", "random:50%", "-o", &at("select")][..], "select/split.parquet"),
        (&["stream", &tar, "--rule", "random:100%", "-o", &at("stream")][..], "stream/stream.json"),
        (&["dedup", &vectors, "--above", "0.9", "--assume-model", "m", "-o", &at("dedup")][..], "dedup/dedup.parquet"),
        (&["inject", &photo, "-o", &at("inject")][..], "inject/inject.json"),
        (&["report", &judged, "--tables", &at("report"), "-o", &page][..], "report/page.html"),
        (&["prune", &vectors, "--rule", "random:50%", "--run", &at("prune")][..], "prune/config.json"),
    ] {
        run(0, words);
        assert!(Path::new(&at(file)).is_file(), "{words:?}");
    }
    assert!(!Path::new(&at("stream/.stream.lock")).exists());
}
