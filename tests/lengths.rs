//! How long a run is: passes over shards that nobody has judged yet.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::cluster::local;
use common::processes::kill_at;
use common::{MODEL, World, ledger_text, losses, peer, run, stderr, words};
use trommel_ledger::read::Ledger;

/// Passes over `shards`, of which a rule keeps about half.
fn passes(shards: &str, into: &Path, more: &[&str]) -> Vec<String> {
    let into = into.display().to_string();
    let mut args = vec!["train", shards, "--run", &into, "--rule", "random:50%", "--model", MODEL, "--batch", "16"];
    args.extend(["--precision", "f32", "--lr", "1e-3", "--warmup", "2", "--save-every", "3"]);
    args.extend(more);
    args.into_iter().map(String::from).collect()
}

/// The learning rate of each step, as logged.
fn rates(run: &Path) -> Vec<f64> {
    let lines = fs::read_to_string(run.join("logs/metrics.jsonl")).unwrap();
    let rate = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["train/lr"].as_f64().unwrap();
    lines.lines().map(rate).collect()
}

/// The shards of the world in another folder, without what lies beside them.
fn bare(world: &World, into: &Path) -> String {
    fs::create_dir_all(into).unwrap();
    for shard in 0..6 {
        let name = format!("{shard:05}.tar");
        fs::hard_link(world.path(&format!("data/shards/{name}")), into.join(name)).unwrap();
    }
    into.join("{00000..00005}.tar").display().to_string()
}

#[test]
fn passes_over_unjudged_shards_end_with_the_last_and_the_learning_rate_with_them() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let out = run(0, &words(&passes(&world.shards(), &whole, &["--passes", "3", "--json"])));
    assert!(stderr(&out).contains("--passes 3: 288 samples a pass (_stats.json)"), "{}", stderr(&out));
    let counts = Ledger::open(&whole).unwrap().counts();
    let kept = counts.kept - counts.remarks.get("no_caption").unwrap_or(0);
    let rates = rates(&whole);
    assert!((120..170).contains(&kept), "{kept} kept");
    assert_eq!(rates.len() as u64, 3 * (kept / 16), "each pass trains its full batches");
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(report["passes"], 3);
    assert_eq!(report["interrupted"], false);
    assert_eq!(report["pass_samples_planned"], 288);
    // The cosine of the whole run, though half of what was promised is dropped.
    assert!(rates[2..].windows(2).all(|pair| pair[0] > pair[1]), "{rates:?}");
    let middle = rates[rates.len() / 2];
    assert!((0.35e-3..0.75e-3).contains(&middle) && *rates.last().unwrap() < 0.05e-3, "{rates:?}");
    assert!(whole.join("checkpoints/epoch_3.pt").exists());

    // Killed in the first pass and in the second: by then the ledger knows what it did not know at the start.
    for step in [3, 12] {
        kill_at(&passes(&world.shards(), &killed, &["--passes", "3"]), &killed, step);
    }
    let resumed = run(0, &words(&passes(&world.shards(), &killed, &["--passes", "3"])));
    assert_eq!(losses(&whole), losses(&killed), "{}", stderr(&resumed));
    assert_eq!(ledger_text(&whole), ledger_text(&killed));
    let other = run(2, &words(&passes(&world.shards(), &killed, &["--passes", "3", "--train-num-samples", "300"])));
    let said = stderr(&other);
    assert!(said.contains("--train-num-samples 300") && said.contains("288 samples a pass (_stats.json)"), "{said}");
}

/// However the length is given and whoever judges: the last batch of a pass ends it, the one before does not.
#[test]
fn a_run_that_ends_with_a_pass_has_its_end() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    run(0, &["prune", &world.shards(), "--run", &at("passes").display().to_string(), "--rule", "random:50%"]);
    let counts = Ledger::open(&at("passes")).unwrap().counts();
    let batches = (counts.kept - counts.remarks.get("no_caption").unwrap_or(0)) / 16;
    for (length, said) in [
        (&["--passes", "0"][..], "a run of no step at all"),
        (&["--passes", "1", "--train-num-samples", "600"], "600: the ledger knows that a pass has 288 samples"),
    ] {
        let refused = stderr(&run(2, &words(&passes(&world.shards(), &at("passes"), length))));
        assert!(refused.contains(said), "{refused}");
    }
    // Of what is judged the number of batches is known: it is a run of steps, with the same learning rates.
    run(0, &words(&passes(&world.shards(), &at("passes"), &["--passes", "1"])));
    let (steps, samples) = (batches.to_string(), (batches * 16).to_string());
    let mut runs = vec![("passes", None, 1)];
    for (name, length, ends) in [
        ("steps", ["--steps", &steps], 1),
        ("samples", ["--samples", &samples], 1),
        ("two", ["--steps", &steps], 1),
        ("shorter", ["--steps", &(batches - 1).to_string()], 0),
        ("longer", ["--steps", &(batches + 1).to_string()], 1),
    ] {
        let mut command = passes(&world.shards(), &at(name), &length);
        if name == "two" {
            command = local(2, &[], &command);
        }
        let out = run(0, &words(&command));
        runs.push((name, Some(stderr(&out)), ends));
    }
    for (name, said, ends) in runs {
        assert_eq!(at(name).join("checkpoints/epoch_1.pt").exists(), ends == 1, "{name}: {said:?}");
        let said = said.unwrap_or_else(|| format!("in {ends} finished passes"));
        assert!(said.contains(&format!("in {ends} finished passes")), "{name}: {said}");
        let end = at(name).join(format!("checkpoints/step_{batches:08}/state.json"));
        if ends == 1 {
            let state: serde_json::Value = serde_json::from_slice(&fs::read(end).unwrap()).unwrap();
            assert_eq!((&state["position"]["pass"], &state["position"]["epoch"]), (&0.into(), &1.into()), "{name}");
        }
    }
    assert_eq!(losses(&at("passes")), losses(&at("steps")));
    assert_eq!(losses(&at("passes")), losses(&at("samples")));
    // The same end, as open_clip reads it.
    let link = |name: &str| fs::read(at(name).join("checkpoints/epoch_1.pt")).unwrap();
    assert!(link("passes") == link("steps"), "other weights or another epoch");
}

#[test]
fn a_count_is_found_where_open_clip_looks_for_it() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let shards = bare(world, &folder.path().join("shards"));
    let beside = |name: &str| folder.path().join("shards").join(name);
    let try_it = |name: &str, status: i32, more: &[&str]| {
        let into = folder.path().join(name);
        stderr(&run(status, &words(&passes(&shards, &into, more))))
    };
    let said = try_it("nobody", 2, &["--passes", "1"]);
    let line = said.lines().find(|line| line.contains("--passes needs")).unwrap();
    assert!(line.contains("00000.tar") && line.contains("--train-num-samples"), "{said}");
    let said = try_it("told", 0, &["--passes", "1", "--train-num-samples", "300"]);
    assert!(said.contains("300 samples a pass (--train-num-samples)"), "{said}");
    assert!(said.contains("laid out for: 12 (first: 288 came, --train-num-samples says 300)"), "{said}");
    fs::write(beside("__len__"), "288\n").unwrap();
    let said = try_it("len", 0, &["--passes", "1"]);
    assert!(said.contains("288 samples a pass (__len__)") && !said.contains("288 came"), "{said}");
    assert_eq!(open_clips_count(&shards), Some(288).filter(|_| peer("open_clip").is_some()));
    let sizes: serde_json::Map<_, _> = (0..6).map(|shard| (format!("{shard:05}.tar"), 48.into())).collect();
    fs::write(beside("sizes.json"), serde_json::to_string(&sizes).unwrap()).unwrap();
    fs::write(beside("__len__"), "1").unwrap(); // the finer one is believed, as open_clip does
    let said = try_it("sizes", 0, &["--passes", "1"]);
    assert!(said.contains("288 samples a pass (sizes.json)"), "{said}");
    assert_eq!(open_clips_count(&shards), Some(288).filter(|_| peer("open_clip").is_some()));
    fs::write(beside("sizes.json"), "{\"00000.tar\": \"many\"}").unwrap();
    let said = try_it("odd", 2, &["--passes", "1"]);
    assert!(said.contains("sizes.json: invalid type"), "{said}");
    let said = try_it("unread", 2, &["--steps", "3", "--train-num-samples", "300"]);
    assert!(said.contains("--passes"), "a flag that nobody reads: {said}");
}

/// What open_clip's own trainer takes the shards to hold.
fn open_clips_count(shards: &str) -> Option<u64> {
    let python = peer("open_clip")?;
    let script =
        "import sys\nfrom open_clip_train.data import get_dataset_size\nprint(get_dataset_size(sys.argv[1])[0])";
    let out = Command::new(python).args(["-c", script, shards]).env_remove("LD_LIBRARY_PATH").output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().parse().ok()
}
