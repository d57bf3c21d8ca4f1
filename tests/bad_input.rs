//! What people get wrong, and the one line that tells them.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;

use common::{World, run, stderr, test_data, words};

/// Two lists of words as one.
fn with<'a>(common: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [common, more].concat()
}

/// The last line on stderr names all of `parts`, and there is no backtrace.
fn one_clear_line(said: &str, parts: &[&str]) {
    let last = said.lines().last().unwrap_or_default();
    for part in parts {
        assert!(last.contains(part), "`{part}` is missing in: {last}\nall of it:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_missing_shard_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run").display().to_string();
    let out = run(2, &["prune", "no/such/00000.tar", "--rule", "random:50%", "--run", &into]);
    one_clear_line(&stderr(&out), &["no/such/00000.tar"]);
}

#[test]
fn a_missing_benchmark_and_an_unknown_rule_are_named() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run").display().to_string();
    let shards = world.shards();
    let common = ["prune", &shards, "--run", &into, "--embedder", common::MODEL, "--random-init", "1"];
    let out = run(2, &with(&common, &["--rule", "drop-above:0.9", "--benchmark", "photo=no/such/folder"]));
    one_clear_line(&stderr(&out), &["photo", "no/such/folder"]);
    let out = run(2, &with(&common, &["--rule", "drop-everything"]));
    one_clear_line(&stderr(&out), &["drop-everything"]);
    let photo = format!("photo={}", world.path("radii/photo"));
    let out = run(2, &with(&common, &["--rule", "drop-over-radius@sketch", "--benchmark", &photo]));
    one_clear_line(&stderr(&out), &["sketch", "photo"]);
    let out = run(2, &with(&common, &["--rule", "keep-nearest:10@photo", "--benchmark", &photo]));
    one_clear_line(&stderr(&out), &["select"]);
}

#[test]
fn a_wrong_image_key_ends_the_run_at_once() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut args = world.prune(&folder.path().join("run"));
    args.extend(["--image-key", "jpeg2000"].map(String::from));
    let out = run(2, &words(&args));
    one_clear_line(&stderr(&out), &["jpeg2000"]);
}

#[test]
fn another_configuration_is_refused_with_both_values() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    run(0, &words(&world.prune(&into)));
    let mut args = world.prune(&into);
    let rule = args.iter().position(|word| word == "drop-over-radius").unwrap();
    args[rule] = "drop-above:0.5".into();
    let out = run(2, &words(&args));
    one_clear_line(&stderr(&out), &["drop-over-radius", "drop-above:0.5"]);
}

#[test]
fn another_model_is_refused_with_both_identities() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut args = world.prune(&folder.path().join("run"));
    let seed = args.iter().position(|word| word == "--random-init").unwrap();
    args[seed + 1] = "2".into();
    let out = run(2, &words(&args));
    one_clear_line(&stderr(&out), &["photo", "seed:1", "seed:2"]);
}

#[test]
fn missing_weights_are_asked_for() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut args = world.prune(&folder.path().join("run"));
    let seed = args.iter().position(|word| word == "--random-init").unwrap();
    args.drain(seed..seed + 2);
    let out = run(2, &words(&args));
    one_clear_line(&stderr(&out), &["--embedder-weights", "--random-init"]);
}

#[test]
fn a_length_is_asked_for() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut args = world.train(&folder.path().join("run"), 5);
    let steps = args.iter().position(|word| word == "--steps").unwrap();
    args.drain(steps..steps + 2);
    let out = run(2, &words(&args));
    one_clear_line(&stderr(&out), &["--steps", "--samples", "--passes"]);
}

#[test]
fn a_budget_that_is_too_small_is_refused_with_the_least() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut args = world.prune(&folder.path().join("run"));
    args.extend(["--memory", "10MiB"].map(String::from));
    let out = run(2, &words(&args));
    one_clear_line(&stderr(&out), &["10 MiB", "at least"]);
}

#[test]
fn an_unknown_option_in_a_file_is_named() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.toml");
    fs::write(&file, "rule = \"random:10%\"\nworker = 3\n").unwrap();
    let config = file.display().to_string();
    let out = run(
        2,
        &["prune", &world.shards(), "--run", &folder.path().join("r").display().to_string(), "--config", &config],
    );
    one_clear_line(&stderr(&out), &["worker"]);
}

/// Every odd file of the collection, one sample a file, ends as a kept sample or a reject with a reason.
#[test]
fn odd_pictures_and_tars_pass_through() {
    let Some(data) = test_data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    fs::create_dir_all(&shards).unwrap();
    let mut tar = tar::Builder::new(fs::File::create(shards.join("decode.tar")).unwrap());
    let mut files = 0u64;
    let mut folders = vec![data.join("decode")];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o444);
            tar.append_data(&mut header, format!("{files:06}.jpg"), &bytes[..]).unwrap();
            files += 1;
        }
    }
    tar.finish().unwrap();
    let mut tars = vec![shards.join("decode.tar").display().to_string()];
    for part in ["tar/go", "tar/tar-rs", "wds"] {
        let mut more: Vec<_> = fs::read_dir(data.join(part)).unwrap().map(|entry| entry.unwrap().path()).collect();
        more.sort();
        tars.extend(more.iter().map(|path| path.display().to_string()));
    }
    let into = folder.path().join("run");
    let mut args = vec!["prune".to_owned()];
    for (at, tar) in tars.iter().enumerate() {
        args.push(format!("s{at:03}={tar}"));
    }
    args.extend(["--run".into(), into.display().to_string()]);
    args.extend(["--rule", "random:100%", "--max-rejects", "100"].map(String::from));
    run(0, &words(&args));
    let ledger = trommel_operators::ledger::read::Ledger::open(&into).unwrap();
    let rows: Vec<_> = ledger.rows().unwrap().map(|row| row.unwrap().fate).collect();
    assert_eq!(rows.iter().filter(|row| row.info.id.ordinal == 0).count() as u64, files);
    for row in &rows {
        let rejected = row.status == trommel_operators::sample::Status::Rejected;
        assert!(!rejected || row.reason.is_some(), "a reject without a reason: {row:?}");
    }
    assert_eq!(ledger.shards().len(), tars.len(), "every tar is a shard with an end");
}

/// Ctrl-C: status 3, one line, and the same command ends with the ledger of an undisturbed run.
#[test]
fn an_interrupted_run_says_so_and_resumes() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    let args = world.prune(&into);
    let child = common::trommel().args(&args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // When the manifest is there, signals are handled.
    while !into.join("manifest/0.jsonl").exists() {
        std::thread::yield_now();
    }
    let pid = i32::try_from(child.id()).unwrap();
    std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
    let out = child.wait_with_output().unwrap();
    // A run this small may have been through before the signal came.
    assert!(matches!(out.status.code(), Some(0 | 3)), "{}", stderr(&out));
    if out.status.code() == Some(3) {
        one_clear_line(&stderr(&out), &["interrupted", "resumes"]);
    }
    assert!(!stderr(&out).contains("thread"), "{}", stderr(&out));
    run(0, &words(&args));
    let whole = folder.path().join("whole");
    run(0, &words(&world.prune(&whole)));
    assert_eq!(common::ledger_text(&whole), common::ledger_text(&into));
}

/// A benchmark given as pictures is embedded into the run's folder; the decisions are those of one embedded before.
#[test]
fn a_benchmark_may_be_pictures() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let texts = [world.path("data/benchmarks/photo"), world.path("embedded/photo")].map(|photo| {
        let into = folder.path().join(photo.rsplit('/').nth(1).unwrap());
        let run_folder = into.display().to_string();
        let (shards, benchmark) = (world.shards(), format!("photo={photo}"));
        let judging = ["--benchmark", &benchmark, "--rule", "drop-above:0.99", "--embedder", common::MODEL];
        let args = [&["prune", &shards, "--run", &run_folder][..], &judging, &["--random-init", "1"]].concat();
        run(0, &args);
        // Once more: nothing is left to do, and nothing is embedded again.
        run(0, &args);
        common::ledger_text(&into)
    });
    assert!(texts[0].contains("status: Dropped"));
    assert_eq!(texts[0], texts[1]);
}
