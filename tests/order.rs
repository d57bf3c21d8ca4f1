//! The order of training follows from shards, batch, model and flags: never from the machine, and not from a start that trained nothing.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::Path;

use common::cluster::{and, local};
use common::memory::{bmp, shard};
use common::{MODEL, run, stderr, words};
use serde_json::Value;

/// Samples of a shard, of which the rule keeps four in five.
const SAMPLES: usize = 48;

/// Writes shards, each with what img2dataset leaves beside it.
fn write(folder: &Path, shards: usize) {
    for number in 0..shards {
        let members = |at: usize| vec![("bmp", bmp(16, at)), ("txt", format!("picture {number} {at}").into_bytes())];
        shard(&folder.join(format!("{number:05}.tar")), SAMPLES, members);
        fs::write(folder.join(format!("{number:05}_stats.json")), format!("{{\"successes\": {SAMPLES}}}")).unwrap();
    }
}

/// A training run over the first `shards` of a folder.
fn train(folder: &Path, shards: usize, into: &str, more: &[&str]) -> Vec<String> {
    let of = format!("{}/{{00000..{:05}}}.tar", folder.display(), shards - 1);
    let into = folder.join(into).display().to_string();
    let recipe = ["--rule", "random:80%", "--model", MODEL, "--precision", "f32", "--warmup", "1", "--threads", "1"];
    and(["train", &of, "--run", &into].map(String::from).into(), &[&recipe, more].concat())
}

/// The order that a run folder keeps.
fn order(run_folder: &Path) -> Value {
    let settled = fs::read(run_folder.join("training.json")).unwrap();
    serde_json::from_slice::<Value>(&settled).unwrap()["order"].take()
}

#[test]
fn the_default_order_is_that_of_any_machine_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(folder.path(), 24);
    let steps = ["--batch", "16", "--steps", "2", "--memory"];
    let words_of = |name: &str, memory: &str| and(train(folder.path(), 24, name, &steps), &[memory]);
    run(0, &words(&words_of("much", "6GiB")));
    let much = order(&at("much"));
    assert_eq!((&much["lanes"], &much["window_samples"]), (&16.into(), &2048.into()));
    run(0, &words(&local(2, &[], &words_of("two", "3GiB"))));
    assert_eq!(order(&at("two")), much, "two processes");
    // What is refused says what is enough, and that is the least there is.
    let said = stderr(&run(2, &words(&words_of("little", "1300MiB"))));
    let last = said.lines().last().unwrap();
    assert!(last.contains("--window than 2048") && last.contains("--lanes than 16"), "{said}");
    let enough = last.split("at least ").nth(1).and_then(|rest| rest.split(" (").next()).unwrap();
    run(0, &words(&words_of("little", enough)));
    assert_eq!(order(&at("little")), much, "{enough}");
    run(0, &words(&and(words_of("lanes", "1300MiB"), &["--lanes", "4"])));
    assert_eq!(order(&at("lanes"))["lanes"], 4);
}

#[test]
fn what_was_settled_before_anything_was_trained_is_settled_anew() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    write(folder.path(), 12);
    let train = |shards, more: &[&str]| train(folder.path(), shards, "run", more);
    // More samples to a batch than there are: settled, and nothing trained.
    let said = stderr(&run(2, &words(&train(6, &["--batch", "272", "--passes", "2", "--accum-freq", "17"]))));
    assert!(said.contains("fewer than one batch of 272") && said.contains("288 samples a pass"), "{said}");
    assert_eq!(order(&into)["window_samples"], 8 * 272);
    let said = stderr(&run(0, &words(&train(12, &["--batch", "16", "--passes", "1"]))));
    assert!(said.contains("576 samples a pass"), "{said}");
    let small = order(&into);
    assert_eq!((&small["lanes"], &small["window_samples"]), (&12.into(), &2048.into()));
    // From now on it stays.
    let other = train(12, &["--batch", "16", "--passes", "1", "--lanes", "4"]);
    assert!(stderr(&run(2, &words(&other))).contains("--lanes 4: this run was begun with 12"));
    run(0, &words(&train(12, &["--batch", "16", "--passes", "1"])));
    assert_eq!(order(&into), small);
}
