//! Question: how much of its speed does a run keep beside a neighbour that takes half of the machine?
//!
//! Command: `cargo xtask bench neighbours`. Peer: `benches/peers/neighbours.py`, the same tiny model's training step in open_clip with
//! torch's own threads. Limit: half. A fair kernel gives each of two equal claims its half; below that something waits on a core
//! that it has no use for (`docs/design/cores.md`).
//!
//! The neighbour is one busy loop a core. Work alone and beside it in turn, three times; medians. The third row is ours with libgomp's
//! own way to wait, which is what a program gets that says nothing.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use trommel_core::cores;

const MODEL: &str = "trommel-tiny-32";
const ROUNDS: usize = 3;

/// Busy loops, as long as it lives.
struct Neighbour(Vec<Child>);

impl Neighbour {
    fn on_every_core() -> Self {
        let busy = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Self((0..cores::usable()).map(|_| busy()).collect())
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let made = trommel(&["synth", &data.display().to_string(), "--shards", "4", "--samples", "200"]).status().unwrap();
    assert!(made.success());
    let step = |set: &'static [(&'static str, &'static str)]| {
        move |_: &Path| {
            let mut command = trommel(&["bench", "--stage", "train", "--model", MODEL, "--random-init", "0"]);
            command.args(["--precision", "f32", "--batch", "32", "--steps", "40", "--json"]).envs(set.iter().copied());
            rate(command)
        }
    };
    let shards = data.join("shards/{00000..00003}.tar").display().to_string();
    let whole = |run: &Path| {
        let mut command = trommel(&["train", &shards, "--model", MODEL, "--precision", "f32", "--batch", "32"]);
        command.args(["--steps", "48", "--warmup", "4", "--json", "--run"]).arg(run);
        rate(command)
    };
    println!("{}; {ROUNDS} rounds", cores::Cores::of_this_process());
    println!("| work | alone, samples/s | beside a neighbour on every core | kept |");
    println!("|--|--|--|--|");
    row("training step", folder.path(), step(&[]));
    row("pictures to trained model", folder.path(), whole);
    row("training step, libgomp's own waiting", folder.path(), step(&[("GOMP_SPINCOUNT", "300000")]));
    match std::env::var("TROMMEL_PEERS") {
        Ok(python) => row("training step, open_clip", folder.path(), |_| {
            let mut command = Command::new(&python);
            command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/neighbours.py"));
            command.arg(cores::usable().to_string());
            rate(command)
        }),
        Err(_) => println!("| no peer: run by `cargo xtask bench neighbours` | | | |"),
    }
}

fn trommel(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trommel"));
    command.args(args);
    command
}

/// What its one line says of its speed.
fn rate(mut command: Command) -> f64 {
    let out = command.stderr(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}");
    serde_json::from_slice::<Value>(&out.stdout).unwrap()["samples_per_second"].as_f64().unwrap()
}

/// `work` is given a fresh folder each time.
fn row(name: &str, folder: &Path, work: impl Fn(&Path) -> f64) {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        alone.push(work(&folder.join(format!("{name} alone {round}"))));
        let _neighbour = Neighbour::on_every_core();
        beside.push(work(&folder.join(format!("{name} beside {round}"))));
    }
    let (alone, beside) = (median(alone), median(beside));
    println!("| {name} | {alone:.0} | {beside:.0} | {:.2} |", beside / alone);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
