//! Training goes on where it was: ends of passes stay, pictures that went bad are skipped and said, the order is the one that began.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::processes::{Group, kill_at, signal, until};
use common::{MODEL, World, losses, peer, run, stderr};
use trommel_core::sample::Status;
use trommel_ledger::read::Ledger;

const BATCH: usize = 16;
/// A rule that needs no embedder.
const RULE: [&str; 2] = ["--rule", "random:80%"];

/// The world's shards, to be spoilt by one test.
fn copied_shards(folder: &Path) -> PathBuf {
    let (from, to) = (World::shared().path("data/shards"), folder.join("shards"));
    fs::create_dir(&to).unwrap();
    for shard in 0..6 {
        let name = format!("{shard:05}.tar");
        fs::copy(Path::new(&from).join(&name), to.join(&name)).unwrap();
    }
    to
}

fn all(shards: &Path) -> String {
    shards.join("{00000..00005}.tar").display().to_string()
}

fn prune(shards: &str, into: &Path) {
    run(0, &[&["prune", shards, "--run", &into.display().to_string()][..], &RULE].concat());
}

/// A training run's words; `more` come last.
fn train(shards: &str, into: &Path, more: &[&str]) -> Vec<String> {
    let into = into.display().to_string();
    let batch = BATCH.to_string();
    let recipe =
        ["--model", MODEL, "--batch", &batch, "--precision", "f32", "--lr", "1e-3", "--warmup", "4", "--window", "64"];
    let words = [&["train", shards, "--run", &into, "--json"][..], &RULE, &recipe, more].concat();
    words.into_iter().map(String::from).collect()
}

/// Runs it; its report.
fn report(status: i32, words: &[String]) -> (serde_json::Value, String) {
    let out = run(status, &common::words(words));
    (serde_json::from_slice(&out.stdout).unwrap(), stderr(&out))
}

/// Kept samples with a caption, in the plan's order: shard's ordinal and key.
fn kept(run_folder: &Path) -> Vec<(u64, String)> {
    let ledger = Ledger::open(run_folder).unwrap();
    let rows = ledger.rows().unwrap().map(Result::unwrap);
    let kept = rows.filter(|row| row.fate.status == Status::Kept && row.fate.reason.is_none());
    kept.map(|row| (row.fate.info.id.ordinal, row.fate.info.key.clone())).collect()
}

fn checkpoints(run_folder: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(run_folder.join("checkpoints")).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Where the data of a member lie in a tar, by a reading of ustar of our own.
fn member(tar: &[u8], name: &str) -> std::ops::Range<usize> {
    let mut at = 0;
    loop {
        let header = &tar[at..at + 512];
        let text = |range: std::ops::Range<usize>| {
            let field = &header[range];
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            String::from_utf8(field[..end].to_vec()).unwrap()
        };
        let bytes = usize::from_str_radix(text(124..136).trim(), 8).unwrap();
        if text(0..100) == name {
            return at + 512..at + 512 + bytes;
        }
        at += 512 + bytes.next_multiple_of(512);
    }
}

/// Overwrites a sample's picture with zeros: size and names stay.
fn spoil(shards: &Path, (ordinal, key): &(u64, String)) {
    let path = shards.join(format!("{ordinal:05}.tar"));
    let mut tar = fs::read(&path).unwrap();
    let range = member(&tar, &format!("{key}.jpg"));
    tar[range].fill(0);
    fs::write(path, tar).unwrap();
}

#[test]
fn the_end_of_every_pass_is_kept_and_the_last_pass_counts() {
    let folder = tempfile::tempdir().unwrap();
    let shards = World::shared().shards();
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
    prune(&shards, &whole);
    let batches = (kept(&whole).len() / BATCH) as u64;
    let words = |into: &Path| train(&shards, into, &["--passes", "6", "--save-every", "1", "--keep-checkpoints", "2"]);
    let (report_of_whole, _) = report(0, &words(&whole));
    prune(&shards, &killed);
    kill_at(&words(&killed), &killed, 1);
    kill_at(&words(&killed), &killed, 2 * batches);
    kill_at(&words(&killed), &killed, 2 * batches + 3);
    let (report_of_killed, _) = report(0, &words(&killed));
    for (run_folder, report) in [(&whole, report_of_whole), (&killed, report_of_killed)] {
        assert_eq!((&report["passes"], &report["steps"]), (&6.into(), &(6 * batches).into()));
        let ends: Vec<u64> = (1..=6).map(|pass| pass * batches).collect();
        // Of those inside a pass the two newest; the last step's is the pass's end from the beginning.
        let inside = [6 * batches - 2, 6 * batches - 1];
        let mut expected: BTreeSet<String> =
            ends.iter().copied().chain(inside).map(|s| format!("step_{s:08}")).collect();
        expected.insert("epoch_latest.pt".into());
        expected.extend((1..=6).map(|pass| format!("epoch_{pass}.pt")));
        assert_eq!(checkpoints(run_folder), expected);
        for (pass, step) in (1..).zip(ends) {
            let at = run_folder.join("checkpoints");
            let to = fs::read_link(at.join(format!("epoch_{pass}.pt"))).unwrap();
            assert_eq!(to, Path::new(&format!("step_{step:08}/open_clip_model.pt")));
            let state = fs::read(at.join(format!("step_{step:08}/state.json"))).unwrap();
            let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
            assert_eq!(state["position"]["epoch"], pass);
        }
    }
    assert_eq!(losses(&whole), losses(&killed));
    let Some(python) = peer("open_clip") else { return };
    let script = "import sys, torch\n\
        for p in range(1, 7):\n    \
            c = torch.load(f'{sys.argv[1]}/checkpoints/epoch_{p}.pt', weights_only=True)\n    \
            print(c['epoch'], c['global_step'])\n";
    let out = Command::new(python).args(["-c", script]).arg(&whole).output().unwrap();
    let expected: String = (1..=6).map(|pass| format!("{pass} {}\n", pass * batches)).collect();
    assert_eq!(String::from_utf8_lossy(&out.stdout), expected, "{}", String::from_utf8_lossy(&out.stderr));
}

/// A slot that is skipped is a hole, as it is where the picture was broken before anybody judged it.
#[test]
fn pictures_that_cannot_be_decoded_any_more_are_skipped_slots() {
    let folder = tempfile::tempdir().unwrap();
    let shards = copied_shards(folder.path());
    let [early, late, killed, passes, two] =
        ["early", "late", "killed", "passes", "two"].map(|name| folder.path().join(name));
    for run_folder in [&late, &killed, &passes, &two] {
        prune(&all(&shards), run_folder);
    }
    let kept = kept(&late);
    // So many that each pass has one batch less than the schedule was made for.
    let spoilt: Vec<_> = kept.iter().step_by(11).take(kept.len() % BATCH + 1).cloned().collect();
    spoilt.iter().for_each(|sample| spoil(&shards, sample));
    prune(&all(&shards), &early);
    let by_steps = ["--steps", "40", "--save-every", "5", "--max-rejects", "50"];
    let (first, said) = report(0, &train(&all(&shards), &early, &by_steps));
    assert_eq!((&first["rejected"], first["notices"].as_object().unwrap().len()), (&spoilt.len().into(), 0), "{said}");
    let words = |into| train(&all(&shards), into, &by_steps);
    let (second, said) = report(0, &words(&late));
    kill_at(&words(&killed), &killed, 5);
    kill_at(&words(&killed), &killed, 20);
    let (third, _) = report(0, &words(&killed));
    assert_eq!(losses(&early).len(), 40);
    assert_eq!(losses(&early), losses(&late), "a skipped slot is a hole");
    assert_eq!(losses(&late), losses(&killed));
    let found = |report: &serde_json::Value| report["notices"]["skipped_in_training"].clone();
    let least = (40 * BATCH / kept.len() * spoilt.len()) as u64; // in whole passes
    assert!(found(&second)["count"].as_u64().unwrap() >= least, "{second}");
    assert_eq!(found(&second)["count"], found(&third)["count"], "counted the same when resumed");
    assert!(said.contains("kept samples that could not be read again when their turn came to be trained: "), "{said}");
    assert!(
        spoilt.iter().any(|(_, key)| said.contains(key.as_str())) && said.contains("image_unsupported: neither JPEG"),
        "{said}"
    );

    let by_passes = ["--passes", "3", "--save-every", "5", "--max-rejects"];
    let (third, said) = report(0, &train(&all(&shards), &passes, &[&by_passes[..], &["50"]].concat()));
    let steps = 3 * ((kept.len() - spoilt.len()) / BATCH);
    assert_eq!((&third["steps"], &third["passes"], &third["interrupted"]), (&steps.into(), &3.into(), &false.into()));
    assert!(steps < 3 * (kept.len() / BATCH) && said.contains("the last pass is over after"), "{said}");
    assert_eq!(third["notices"]["schedule_cut_short"]["count"], 3, "{said}");
    assert_eq!(found(&third)["count"], 3 * spoilt.len());
    assert_eq!(found(&third)["lost_samples"], spoilt.len());
    assert!(checkpoints(&passes).contains("epoch_3.pt"));
    let words = train(&all(&shards), &two, &[&by_passes[..], &["50", "--threads", "1"]].concat());
    let (of_two, _) = report(0, &common::cluster::local(2, &[], &words));
    assert_eq!(found(&of_two)["count"], 3 * spoilt.len(), "whichever process read them");
    assert_eq!((&of_two["steps"], &of_two["passes"]), (&steps.into(), &3.into()));
    // A loss counts as rejects do, also when there is nothing left to train.
    report(4, &train(&all(&shards), &passes, &[&by_passes[..], &["0"]].concat()));
}

/// A longer list would deal the pass under way anew: refused by whoever is given it, and nothing is changed by asking.
#[test]
fn more_shards_are_refused_once_training_has_begun() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let shards = World::shared().shards();
    let by_steps = ["--steps", "24", "--save-every", "5"];
    report(0, &train(&shards, &whole, &by_steps));
    kill_at(&train(&shards, &killed, &by_steps), &killed, 10);
    let more = format!("more={}", World::shared().path("data/shards/00000.tar"));
    let mut longer = train(&shards, &killed, &by_steps);
    longer.insert(2, more.clone());
    let said = stderr(&run(2, &common::words(&longer)));
    assert!(said.contains("6 entries") && said.contains("7 entries") && said.contains("--pretrained"), "{said}");
    let into = killed.display().to_string();
    let said = stderr(&run(2, &[&["prune", &shards, &more, "--run", &into][..], &RULE].concat()));
    assert!(said.contains("6 entries") && said.contains("7 entries"), "{said}");
    report(0, &train(&shards, &killed, &by_steps));
    assert_eq!(losses(&whole), losses(&killed));
    // Before the first checkpoint there is no order to break.
    let pruned = folder.path().join("pruned");
    prune(&shards, &pruned);
    let mut longer = train(&shards, &pruned, &by_steps);
    longer.insert(2, more);
    report(0, &longer);
}

/// A shard of the same length, one sample of which has another name.
#[test]
fn a_shard_that_was_exchanged_is_named_and_nothing_behind_it_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let shards = copied_shards(folder.path());
    let (whole, into) = (folder.path().join("whole"), folder.path().join("exchanged"));
    let by_steps = ["--steps", "30", "--save-every", "5"];
    prune(&all(&shards), &whole);
    report(0, &train(&all(&shards), &whole, &by_steps));
    prune(&all(&shards), &into);
    let path = shards.join("00003.tar");
    let judged = fs::read(&path).unwrap();
    // The last sample of the shard: by its index it is as good as any.
    let key = Ledger::open(&into).unwrap().names(3).unwrap().pop().unwrap().key;
    let other = format!("{}z", &key[..key.len() - 1]);
    let mut exchanged = judged.clone();
    for extension in ["jpg", "json", "txt"] {
        let header = member(&judged, &format!("{key}.{extension}")).start - 512;
        exchanged[header..header + key.len()].copy_from_slice(other.as_bytes());
        exchanged[header + 148..header + 156].fill(b' ');
        let sum: u32 = exchanged[header..header + 512].iter().map(|byte| u32::from(*byte)).sum();
        exchanged[header + 148..header + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    assert_eq!(exchanged.len(), judged.len());
    fs::write(&path, exchanged).unwrap();
    let said = stderr(&run(2, &common::words(&train(&all(&shards), &into, &by_steps))));
    let last = said.lines().last().unwrap();
    assert!(last.contains("00003.tar") && last.contains(&other) && last.contains("the shard was exchanged"), "{said}");
    fs::write(&path, judged).unwrap();
    report(0, &train(&all(&shards), &into, &by_steps));
    assert_eq!(losses(&whole), losses(&into));
}

fn with(words: &[String], flag: &str, value: &str) -> Vec<String> {
    let mut words = words.to_vec();
    match words.iter().position(|word| word == flag) {
        Some(at) => words[at + 1] = value.into(),
        None => words.extend([flag, value].map(String::from)),
    }
    words
}

#[test]
fn another_option_of_training_is_named_with_both_values() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    let words = train(&World::shared().shards(), &into, &["--steps", "6", "--threads", "1"]);
    report(0, &words);
    for (flag, value, before) in [
        ("--lr", "0.002", "0.001"),
        ("--batch", "32", "16"),
        ("--wd", "0.1", "0.2"),
        ("--warmup", "3", "4"),
        ("--window", "128", "64"),
        ("--precision", "bf16", "f32"),
        ("--beta1", "0.8", "0.9"),
        ("--grad-clip-norm", "1.5", "none"),
    ] {
        let said = stderr(&run(2, &common::words(&with(&words, flag, value))));
        let last = said.lines().last().unwrap();
        assert!([flag, value, before].iter().all(|part| last.contains(part)), "{flag}: {said}");
    }
    let said = stderr(&run(2, &common::words(&with(&words, "--threads", "2"))));
    assert!(said.contains("threads: the checkpoint has 1, now 2; --mix-numerics"), "{said}");
    let (mixed, _) = report(0, &[&with(&words, "--threads", "2")[..], &["--mix-numerics".to_owned()]].concat());
    assert_eq!(mixed["notices"]["mixed_numerics"]["count"], 1);
}

/// The learning rate of every step, from the run's metrics.
fn rates(run_folder: &Path) -> Vec<f64> {
    let text = fs::read_to_string(run_folder.join("logs/metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["train/lr"].as_f64().unwrap())
        .collect()
}

#[test]
fn a_run_is_made_longer_by_saying_so_and_killed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let words =
        |into: &Path, steps: &str| train(&World::shared().shards(), into, &["--save-every", "5", "--steps", steps]);
    let extend = |into: &Path| [&words(into, "30")[..], &["--extend".to_owned()]].concat();
    for into in [&whole, &killed] {
        report(0, &words(into, "12"));
        let said = stderr(&run(2, &common::words(&words(into, "30"))));
        let last = said.lines().last().unwrap();
        assert!(last.contains("has 12, now 30") && last.contains("--extend"), "{said}");
        for more in [&[][..], &["--extend".to_owned()]] {
            let said = stderr(&run(2, &common::words(&[&words(into, "9")[..], more].concat())));
            assert!(said.contains("has 12, now 9") && said.contains("never shorter"), "{said}");
        }
    }
    let (extended, said) = report(0, &extend(&whole));
    assert_eq!((&extended["steps"], &extended["notices"]["extended"]["count"]), (&30.into(), &1.into()));
    assert!(
        said.contains("extended from 12 to 30 steps: from step 12 on the learning rate is that of a run of 30 steps"),
        "{said}"
    );
    kill_at(&extend(&killed), &killed, 20);
    report(0, &words(&killed, "30")); // the newest checkpoint is of the longer run: nothing is to be said any more
    assert_eq!(losses(&whole).len(), 30);
    assert_eq!(losses(&whole), losses(&killed));
    // open_clip's cosine with a warm-up of 4, over 12 steps and then over 30.
    let cosine = |step: usize, steps: f64| {
        let gone = (step as f64 - 4.0) / (steps - 4.0);
        if step < 4 { 1e-3 * (step as f64 + 1.0) / 4.0 } else { 5e-4 * (1.0 + (std::f64::consts::PI * gone).cos()) }
    };
    for (step, rate) in rates(&whole).into_iter().enumerate() {
        let expected = cosine(step, if step < 12 { 12.0 } else { 30.0 });
        assert!((rate - expected).abs() < 1e-12, "step {step}: {rate}, not {expected}");
    }
    let state = fs::read(whole.join("checkpoints/step_00000030/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["extended"], serde_json::json!([{"at_step": 12, "from_steps": 12}]));
}

/// Ctrl-C ends the demo whichever part it falls into; the same command goes on, and a trainer at its end stops no part after it.
#[test]
fn an_interrupted_demo_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo");
    let args = ["demo".to_owned(), "--out".to_owned(), out.display().to_string()];
    for part in ["embedder", "run"] {
        let mut demo = Group::start(&args);
        assert!(until(120, || out.join(part).join("manifest/0.jsonl").exists()), "{}", demo.said());
        assert!(signal(demo.pid(), libc::SIGINT));
        demo.ends_with(3, 60);
        assert!(demo.said().contains("trommel: interrupted; the same command resumes"), "{}", demo.said());
    }
    run(0, &args.each_ref().map(String::as_str));
    assert!(out.join("demo.svg").exists());
}

/// A shard that cannot be read is a hole of its pass for good: the finished run goes on saying so.
#[test]
fn a_pass_without_a_shard_is_told_at_every_start() {
    let folder = tempfile::tempdir().unwrap();
    let (shards, into) = (copied_shards(folder.path()), folder.path().join("run"));
    let lost = shards.join("00003.tar");
    fs::remove_file(&lost).unwrap();
    // It opens, and reading it is an I/O error.
    std::os::unix::fs::symlink("/proc/self/mem", &lost).unwrap();
    let words = train(&all(&shards), &into, &["--steps", "6", "--skip-failed"]);
    for first_step in [0, 6] {
        let (report, said) = report(3, &words);
        assert_eq!((&report["first_step"], &report["steps"]), (&first_step.into(), &6.into()), "{said}");
        let lost = serde_json::json!([{"pass": 0, "shard": "00003.tar", "samples": 0}]);
        assert_eq!(report["trained_without"], lost, "{said}");
        assert!(said.contains("pass 0 was trained without 00003.tar; it is not made up for"), "{said}");
        assert!(!said.contains("the same command tries them again"), "{said}");
    }
}

/// A shard that was there when half a window was trained and is not now: another window would train samples twice, or never.
#[test]
fn a_half_trained_window_waits_for_its_shards() {
    let folder = tempfile::tempdir().unwrap();
    let (shards, into) = (copied_shards(folder.path()), folder.path().join("run"));
    let more = ["--steps", "6", "--skip-failed", "--save-every", "1", "--keep-checkpoints", "9"];
    let words = train(&all(&shards), &into, &more);
    prune(&all(&shards), &into);
    report(0, &words);
    let expected = losses(&into);
    // Back to the middle of the first window: 2 batches of 16 in 64 samples.
    for step in 3..=6 {
        fs::remove_dir_all(into.join(format!("checkpoints/step_{step:08}"))).unwrap();
    }
    let path = shards.join("00003.tar");
    let tar = fs::read(&path).unwrap();
    fs::write(&path, vec![0; tar.len()]).unwrap();
    let said = stderr(&run(3, &common::words(&words)));
    assert!(said.contains("00003.tar: the window that is half trained holds samples of this shard"), "{said}");
    fs::write(&path, tar).unwrap();
    let (report, _) = report(0, &words);
    assert_eq!((&report["first_step"], &report["steps"]), (&2.into(), &6.into()));
    assert_eq!(losses(&into), expected);
}
