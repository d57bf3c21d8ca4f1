//! Many at once: tasks of an array on one fresh folder, more ranks than before, and first samples that lie with several processes.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::Path;

use common::cluster::{local, no_panic};
use common::memory::{Members, bmp, shard};
use common::processes::{Group, committed, kill_at};
use common::{MODEL, logged_losses, run, stderr, words};
use trommel_dataflow::lanes::Lanes;
use trommel_ledger::read::Ledger;

/// A sample that can be judged, or one without a picture.
fn sample(at: usize, is_good: bool) -> Members {
    let caption = ("txt", format!("picture {at}").into_bytes());
    if is_good { vec![("bmp", bmp(8, at)), caption] } else { vec![caption] }
}

fn braces(folder: &Path, shards: usize) -> String {
    format!("{}/{{00000..{:05}}}.tar", folder.display(), shards - 1)
}

/// Sixteen tasks of an array begin together where there is nothing yet.
#[test]
fn the_tasks_of_an_array_share_a_fresh_folder() {
    const SHARDS: usize = 2000;
    const TASKS: usize = 16;
    let folder = tempfile::tempdir().unwrap();
    for number in 0..SHARDS {
        let path = folder.path().join(format!("{number:05}.tar"));
        shard(&path, 1, |_| sample(number, number % 3 > 0));
    }
    let into = folder.path().join("run").display().to_string();
    let command = ["prune", &braces(folder.path(), SHARDS), "--run", &into, "--rule", "random:50%", "--threads", "1"];
    let task = |index: usize| {
        let part = format!("{index}/{TASKS}");
        let words = [&command[..], &["--memory", "1GiB", "--max-rejects", "50", "--part", &part]].concat();
        Group::start(&words.into_iter().map(String::from).collect::<Vec<_>>())
    };
    let mut tasks: Vec<Group> = (0..TASKS).map(task).collect();
    for task in &mut tasks {
        no_panic(&task.ends_with(0, 120));
    }
    assert_eq!(committed(Path::new(&into)), SHARDS, "each once");
    let ledger = Ledger::open(Path::new(&into)).unwrap();
    ledger.verify().unwrap();
    let counts = ledger.counts();
    assert_eq!((counts.rejected, counts.kept + counts.dropped), (667, 1333));
    // The whole is done: nobody has anything to do, alone or as a part.
    for part in [None, Some("3/16")] {
        let part = part.map_or_else(Vec::new, |part| vec!["--part", part]);
        run(0, &[&command[..], &["--max-rejects", "50"], &part].concat());
    }
    assert_eq!(committed(Path::new(&into)), SHARDS);
}

/// Two processes read one lane each, and with it one of two shards. The plan's first 512 samples lie half with one and half with
/// the other: neither can tell by itself what they are.
#[test]
fn first_samples_that_lie_with_two_processes_are_judged_together() {
    let lanes = Lanes::new(2, 0, (0..2).map(|ordinal| (ordinal, format!("{ordinal:05}.tar"))));
    let first = usize::try_from(lanes.ordinal(0, 0, 0).unwrap()).unwrap();
    for (good_at, status) in [(256, 2), (255, 0)] {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..2 {
            // The first has rejects only; what is good in the other begins behind the 512th sample, or is that.
            let count = if number == first { 256 } else { 320 };
            let path = folder.path().join(format!("{number:05}.tar"));
            shard(&path, count, |at| sample(at, number != first && at >= good_at));
        }
        let into = folder.path().join("run");
        let command =
            ["train", &braces(folder.path(), 2), "--run", &into.display().to_string(), "--rule", "random:100%"];
        let recipe = ["--model", MODEL, "--batch", "16", "--steps", "2", "--precision", "f32", "--warmup", "1"];
        let machine = ["--threads", "1", "--memory", "2GiB", "--max-rejects", "100"];
        let command: Vec<String> = [&command[..], &recipe, &machine].concat().into_iter().map(String::from).collect();
        // The same three times: whoever is faster.
        for _ in 0..3 {
            let said = stderr(&run(status, &words(&local(2, &[], &command))));
            let given_up = said.contains("all of the first 512 samples were rejected (no_image");
            assert_eq!((given_up, committed(&into) > 0), (status == 2, status == 0), "{said}");
            no_panic(&said);
        }
    }
}

/// A run of two ranks is killed and goes on with `ranks`: some read nothing, all train.
fn goes_on_with(ranks: usize) {
    const STEPS: u64 = 12;
    let folder = tempfile::tempdir().unwrap();
    for number in 0..4 {
        shard(&folder.path().join(format!("{number:05}.tar")), 64, |at| sample(64 * number + at, true));
    }
    let command = |name: &str| {
        let (shards, into) = (braces(folder.path(), 4), folder.path().join(name).display().to_string());
        let steps = STEPS.to_string();
        let recipe = ["--model", MODEL, "--batch", "32", "--steps", &steps, "--precision", "f32", "--warmup", "1"];
        let machine = ["--lr", "1e-5", "--save-every", "4", "--threads", "1", "--memory", "1400MiB"];
        let words = [&["train", &shards, "--run", &into, "--rule", "random:90%"][..], &recipe, &machine].concat();
        words.into_iter().map(String::from).collect::<Vec<_>>()
    };
    run(0, &words(&command("whole")));
    let killed = folder.path().join("killed");
    kill_at(&local(2, &[], &command("killed")), &killed, 4);
    let said = stderr(&run(0, &words(&local(ranks, &["--start-timeout", "120"], &command("killed")))));
    assert!(said.contains(&format!("{} of {ranks} processes have no lane to read", ranks - 4)), "{said}");
    assert!(said.contains(&format!("ranks: the checkpoint has 2, now {ranks}")), "{said}");
    no_panic(&said);
    let (whole, killed) = (logged_losses(&folder.path().join("whole")), logged_losses(&killed));
    for step in 0..STEPS {
        let of = |losses: &[(u64, f64)]| losses.iter().rfind(|(at, _)| *at == step).unwrap().1;
        let (there, here) = (of(&whole), of(&killed));
        assert!((there - here).abs() < 1e-3 * there, "step {step}: {here} for {there}");
    }
}

#[test]
fn a_run_of_two_ranks_goes_on_with_eight() {
    goes_on_with(8);
}

#[test]
#[ignore = "sixteen processes: half a minute on two cores"]
fn a_run_of_two_ranks_goes_on_with_sixteen() {
    goes_on_with(16);
}

/// A shard that was no tar is mended: before anything is trained it is read anew and is in every pass; afterwards the pass under way
/// has an order without it, which stays.
#[test]
fn a_shard_that_is_mended_joins_before_training_and_is_refused_in_it() {
    for mended_at in [0, 5] {
        let folder = tempfile::tempdir().unwrap();
        let path = |number: usize| folder.path().join(format!("{number:05}.tar"));
        for number in 0..3 {
            shard(&path(number), 64, |at| sample(64 * number + at, true));
        }
        let (good, bad) = (fs::read(path(1)).unwrap(), b"<html>404</html>");
        fs::write(path(1), bad).unwrap();
        let into = folder.path().join("run");
        let (shards, run_folder) = (braces(folder.path(), 3), into.display().to_string());
        let judging =
            [&shards, "--run", &run_folder, "--rule", "random:100%", "--max-rejects", "100", "--threads", "1"];
        run(0, &[&["prune"], &judging[..]].concat());
        let recipe = ["--model", MODEL, "--batch", "16", "--passes", "2", "--precision", "f32", "--warmup", "1"];
        let machine = ["--save-every", "5", "--memory", "2GiB"];
        let command = [&["train"], &judging[..], &recipe, &machine].concat();
        let command: Vec<String> = command.into_iter().map(String::from).collect();
        if mended_at == 0 {
            fs::write(path(1), &good).unwrap();
        }
        kill_at(&command, &into, 5);
        let batches = if mended_at == 0 { 12 } else { 8 };
        if mended_at > 0 {
            fs::write(path(1), &good).unwrap();
            let said = stderr(&run(2, &words(&command)));
            assert!(said.contains("00001.tar: its sample 0 is not in the ledger: the shard was exchanged"), "{said}");
            let said = stderr(&run(0, &[&["prune"], &judging[..]].concat()));
            assert!(said.contains("not read again, for training has begun here: 1 (first: 00001.tar"), "{said}");
            fs::write(path(1), bad).unwrap();
        }
        let said = stderr(&run(0, &words(&command)));
        assert!(said.contains("in 2 finished passes"), "{said}");
        let steps = logged_losses(&into).into_iter().map(|(step, _)| step);
        assert_eq!(steps.max(), Some(2 * batches - 1), "{said}");
        assert_eq!(Ledger::open(&into).unwrap().counts().kept, 16 * batches, "{said}");
    }
}
