//! What people get wrong, and the one line that tells them.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::io::Write;

use common::members::append;
use common::{World, run, stderr, test_data, trommel, words};

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

/// The largest similarity of each sample to the first benchmark, by shard and index.
fn nearest(run_folder: &std::path::Path) -> std::collections::BTreeMap<(u64, u32), f64> {
    let ledger = trommel_ledger::read::Ledger::open(run_folder).unwrap();
    let rows = ledger.rows().unwrap().map(|row| row.unwrap().fate);
    rows.filter_map(|fate| Some(((fate.info.id.ordinal, fate.info.id.index), fate.scores.first()?.max_similarity?)))
        .collect()
}

/// Another precision gives other embeddings: a folder has them of both only if that is asked for, and then it is said.
#[test]
fn another_precision_is_refused_or_told() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let [whole, low] = ["whole", "low"].map(|name| world.prune(&folder.path().join(name)));
    let bf16 = |args: &[String], more: &[&str]| {
        let flags = [&["--embed-precision", "bf16"][..], more].concat();
        [args, &flags.into_iter().map(String::from).collect::<Vec<_>>()].concat()
    };
    run(0, &words(&whole));
    let out = run(2, &words(&bf16(&whole, &[])));
    one_clear_line(&stderr(&out), &["precision: the folder has `f32`, now `bf16`", "--mix-numerics"]);
    let said = stderr(&run(0, &words(&bf16(&whole, &["--mix-numerics"]))));
    assert!(said.contains("mixed numerics: precision: the folder has `f32`, now `bf16`"), "{said}");
    run(0, &words(&bf16(&low, &[])));
    let [whole, low] = ["whole", "low"].map(|name| nearest(&folder.path().join(name)));
    assert!(whole != low && whole.len() == low.len() && whole.len() > 200, "{} {}", whole.len(), low.len());
    assert!(whole.iter().all(|(sample, near)| (near - low[sample]).abs() < 0.02));
}

/// As by Pillow's `LOAD_TRUNCATED_IMAGES`: a picture cut in the middle is a reject, or is kept with its rest grey.
#[test]
fn a_cut_picture_is_a_reject_or_kept_on_request() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let class = fs::read_dir(world.path("data/benchmarks/photo")).unwrap().next().unwrap().unwrap().path();
    let picture = fs::read(fs::read_dir(class).unwrap().next().unwrap().unwrap().path()).unwrap();
    let mut tar = tar::Builder::new(fs::File::create(path("cut.tar")).unwrap());
    for at in 0..12 {
        let bytes = if at == 7 { &picture[..picture.len() * 2 / 3] } else { &picture[..] };
        append(&mut tar, format!("{at:06}.jpg"), bytes);
    }
    tar.finish().unwrap();
    let prune = |status, into: &str, more: &[&str]| {
        let mut args = ["prune", &path("cut.tar"), "--run", &path(into), "--json"].map(String::from).to_vec();
        args.extend(world.judging().into_iter().chain(more.iter().map(|word| (*word).to_owned())));
        json(&run(status, &words(&args)))
    };
    let without = prune(4, "without", &[]);
    assert_eq!(without["rejects"], serde_json::json!({ "image_truncated": 1 }));
    let with = prune(0, "with", &["--load-truncated"]);
    assert_eq!((&with["rejected"], &with["judged_now"]), (&0.into(), &12.into()), "{with}");
    // The grey rest makes it another picture.
    let near: Vec<f64> = nearest(&folder.path().join("with")).into_values().collect();
    assert!(near.iter().enumerate().all(|(at, &near_of)| (near_of == near[0]) == (at != 7)), "{near:?}");
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
    one_clear_line(&stderr(&out), &["10.0 MiB", "at least"]);
}

/// Names are a stranger's to choose, and whoever reads the lines may go away at any time.
#[test]
fn what_is_said_at_the_end_escapes_names_and_needs_no_reader() {
    let folder = tempfile::tempdir().unwrap();
    let synth = |name: &str| {
        let data = folder.path().join(name);
        let mut command = trommel();
        command.arg("synth").arg(data).args(["--shards", "1", "--samples", "8"]);
        command
    };
    let out = synth("a\u{1b}[2J\rb").output().unwrap();
    assert!(out.status.success() && stderr(&out).contains("/a\\u{1b}[2J\\rb\n"), "{}", stderr(&out));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(synth("unread").stderr(writer).status().unwrap().success());
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

#[test]
fn a_configuration_may_come_from_a_pipe() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let run_folder = folder.path().join("r");
    let (shards, to) = (world.shards(), run_folder.display().to_string());
    let mut child = trommel()
        .args(["prune", &shards, "--run", &to, "--config", "/dev/stdin"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"rule = \"random:10%\"\nseed = 5\n").unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let config = fs::read_to_string(run_folder.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let decisions = &config["decisions"];
    assert_eq!((&decisions["rule"], &decisions["rule_seed"]), (&"random:10%".into(), &5.into()), "{config}");
}

#[test]
fn a_flag_that_radii_of_embeddings_never_read_is_refused_from_a_pipe_too() {
    let mut child = trommel()
        .args(["radii", "--reference", "no", "--benchmark", "a=no", "-o", "no", "--config", "/dev/stdin"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"embed-batch = 32\n").unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    one_clear_line(&stderr(&out), &["--embed-batch", "nothing is embedded here"]);
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
            append(&mut tar, format!("{files:06}.jpg"), &bytes[..]);
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
    let ledger = trommel_ledger::read::Ledger::open(&into).unwrap();
    let rows: Vec<_> = ledger.rows().unwrap().map(|row| row.unwrap().fate).collect();
    assert_eq!(rows.iter().filter(|row| row.info.id.ordinal == 0).count() as u64, files);
    for row in &rows {
        let rejected = row.status == trommel_core::sample::Status::Rejected;
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
    // Long enough that the signal comes before its end.
    let args = world.long_prune(&into, 4);
    let mut child = common::trommel().args(&args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // When the manifest is there, signals are handled.
    let begun = || into.join("manifest/0.jsonl").exists();
    common::processes::until(60, || begun() || child.try_wait().unwrap().is_some());
    assert!(begun(), "no manifest after a minute, or the run has ended without one");
    let pid = i32::try_from(child.id()).unwrap();
    std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    one_clear_line(&stderr(&out), &["interrupted", "resumes"]);
    assert!(!stderr(&out).contains("trommel: thread"), "{}", stderr(&out));
    run(0, &words(&args));
    let whole = folder.path().join("whole");
    run(0, &words(&world.long_prune(&whole, 4)));
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

/// A tar of `count` members with this extension and content.
fn tar_of(path: &std::path::Path, count: usize, extension: &str, bytes: &[u8]) {
    let mut tar = tar::Builder::new(fs::File::create(path).unwrap());
    for at in 0..count {
        append(&mut tar, format!("{at:06}.{extension}"), bytes);
    }
    tar.finish().unwrap();
}

/// A tar of samples that hold no picture.
fn tar_without_pictures(path: &std::path::Path, count: usize) {
    tar_of(path, count, "txt", b"text");
}

/// A tar of 48 samples that hold one.
fn good_tar(path: &std::path::Path) {
    let class = fs::read_dir(World::shared().path("data/benchmarks/photo")).unwrap().next().unwrap().unwrap().path();
    let picture = fs::read_dir(class).unwrap().next().unwrap().unwrap().path();
    tar_of(path, 48, picture.extension().unwrap().to_str().unwrap(), &fs::read(&picture).unwrap());
}

/// What `--json` said.
fn json(out: &std::process::Output) -> serde_json::Value {
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Two shards of 48 good samples, and whatever `others` there are, in a folder.
fn folder_with(others: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for shard in ["00000.tar", "00001.tar"] {
        good_tar(&folder.path().join(shard));
    }
    for (name, bytes) in others {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

#[test]
fn a_lost_shard_never_counts_as_nothing() {
    const PAGE: &[u8] = b"<!DOCTYPE html><title>403 Forbidden</title>";
    let folder = folder_with(&[("00002.tar", PAGE)]);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let prune = |status, into: &str, more: &[&str]| {
        let into = path(into);
        run(
            status,
            &with(&["prune", &path("{00000..00002}.tar"), "--run", &into, "--rule", "random:50%", "--json"], more),
        )
    };
    // Nobody knows how many samples it held: it counts as one of them, and as one of three shards.
    let out = prune(4, "a", &[]);
    one_clear_line(&stderr(&out), &["of 3 shards 1 were lost (33.33 %)", "--max-rejects is 5 %"]);
    let out = prune(0, "a", &["--max-rejects", "34"]);
    let said = "shards rejected (html_page): 1, at least 1 samples lost (first: 00002.tar: an HTML page, not a tar)";
    assert!(stderr(&out).contains(said), "{}", stderr(&out));
    assert_eq!(json(&out)["notices"]["shard_html_page"]["lost_samples"], 1);
    // A resumed run knows it from the manifest, and nothing may be lost where nothing may be rejected.
    let out = prune(4, "a", &["--max-rejects", "0"]);
    one_clear_line(&stderr(&out), &["of 3 shards 1 were lost", "--max-rejects is 0 %"]);
    let ledger = trommel_ledger::read::Ledger::open(&folder.path().join("a")).unwrap();
    assert_eq!(ledger.shards()[&2].1.rejected.as_ref().unwrap().code, "html_page");
    // With its statistics beside it, it counts as what they promise.
    fs::write(folder.path().join("00002_stats.json"), r#"{"successes": 4}"#).unwrap();
    prune(0, "b", &[]);
    fs::write(folder.path().join("00002_stats.json"), r#"{"successes": 6}"#).unwrap();
    let out = prune(4, "c", &[]);
    one_clear_line(&stderr(&out), &["of 102 samples 0 were rejected and 6 lost (5.88 %)"]);
    // When it is there, the same command reads it, and nothing is lost any more.
    good_tar(&folder.path().join("00002.tar"));
    fs::remove_file(folder.path().join("00002_stats.json")).unwrap();
    let out = prune(0, "c", &["--max-rejects", "0"]);
    assert_eq!((json(&out)["notices"].to_string().as_str(), json(&out)["judged_now"].as_u64()), ("{}", Some(48)));
    prune(0, "c", &["--max-rejects", "0"]);
    fs::write(folder.path().join("00002.tar"), PAGE).unwrap();
    let out = prune(2, "c", &[]);
    one_clear_line(&stderr(&out), &["another plan of shards", "bytes"]);
    // A run that reads nothing has not done its work, whatever may be rejected.
    let (page, into) = (path("00002.tar"), path("d"));
    let out =
        run(4, &["embed", &page, "-o", &into, "--model", common::MODEL, "--random-init", "1", "--max-rejects", "100"]);
    one_clear_line(&stderr(&out), &["lost"]);
}

/// What only statistics speak of is lost where all of a folder is asked for, and nothing of it where shards are named.
#[test]
fn a_shard_of_which_only_statistics_are_left_is_lost() {
    let folder = folder_with(&[("00002_stats.json", br#"{"count": 9, "successes": 6}"#)]);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let into = tempfile::tempdir().unwrap();
    let (named, model) = (path("{00000..00001}.tar"), ["--model", common::MODEL, "--random-init", "1"]);
    let at = |name: &str| into.path().join(name).display().to_string();
    let prune = |status, shards: &str, name: &str, more: &[&str]| {
        run(status, &with(&["prune", shards, "--run", &at(name), "--rule", "random:50%", "--json"], more))
    };
    assert_eq!(json(&prune(0, &named, "named", &["--max-rejects", "0"]))["notices"], serde_json::json!({}));
    let (given, all) = (path(""), path("*.tar"));
    let line =
        "shards that are gone, with their statistics or metadata left: 1, 6 samples lost (first: 00002, 6 samples)";
    for (shards, name) in [(&given, "folder"), (&all, "wildcard")] {
        // Again, and it is lost still.
        for _ in 0..2 {
            let out = prune(4, shards, name, &[]);
            assert!(stderr(&out).contains(line), "{}", stderr(&out));
            one_clear_line(&stderr(&out), &["of 102 samples 0 were rejected and 6 lost (5.88 %)"]);
            assert_eq!(json(&out)["notices"]["shard_gone"]["lost_samples"], 6);
        }
        prune(0, shards, name, &["--max-rejects", "6"]);
    }
    // One slice of an array tells it, and the report does.
    prune(0, &given, "slices", &["--part", "1/2", "--max-rejects", "0"]);
    prune(4, &given, "slices", &["--part", "0/2"]);
    let page = path("report.html");
    run(0, &["report", &at("folder"), "-o", &page]);
    assert!(fs::read_to_string(&page).unwrap().contains(line), "{page}");
    fs::remove_file(&page).unwrap();
    // Neither is it in a split of that ledger.
    let selected = run(0, &["select", &at("folder"), "--rule", "random:5", "-o", &at("five.parquet"), "--json"]);
    assert!(stderr(&selected).contains(line), "{}", stderr(&selected));
    assert_eq!(json(&selected)["notices"]["shard_gone"]["lost_samples"], 6);
    // As embeddings of a benchmark, it is refused: copies of what was lost would pass.
    let (bench, photo, radii) = (at("bench"), World::shared().path("embedded/photo"), at("radii"));
    let embed = [&["embed", &given, "-o", &bench, "--threads", "1"], &model[..]].concat();
    assert!(stderr(&run(4, &embed)).contains(line));
    let benchmark = format!("x={bench}");
    let refused = run(2, &["radii", "--reference", &photo, "--benchmark", &benchmark, "-o", &radii]);
    one_clear_line(&stderr(&refused), &["benchmark x: when it was embedded it lost shards that are gone"]);
    // When it has come, the same command reads it; statistics that promise less than came are said.
    good_tar(&folder.path().join("00002.tar"));
    let said = stderr(&prune(0, &given, "less", &["--max-rejects", "0"]));
    assert!(said.contains("more samples than their `_stats.json` promises: 1 (first: 00002.tar: 48 of 6)"), "{said}");
    fs::write(folder.path().join("00002_stats.json"), r#"{"count": 48, "successes": 48}"#).unwrap();
    let out = prune(0, &given, "folder", &["--max-rejects", "0"]);
    assert_eq!((json(&out)["notices"].to_string().as_str(), json(&out)["judged_now"].as_u64()), ("{}", Some(48)));
    run(0, &["report", &at("folder"), "-o", &at("report.html")]);
    assert!(!fs::read_to_string(at("report.html")).unwrap().contains("shards that are gone"));
}

#[test]
fn pictures_beside_shards_are_said_or_the_mixture_is_refused() {
    let folder = folder_with(&[("banner.png", b"for the README")]);
    let given = folder.path().display().to_string();
    let into = tempfile::tempdir().unwrap();
    let prune = |status, name: &str| {
        let into = into.path().join(name).display().to_string();
        run(status, &["prune", &given, "--run", &into, "--rule", "random:100%", "--json"])
    };
    let out = prune(0, "a");
    assert_eq!((json(&out)["kept"].as_u64(), json(&out)["shards"].as_u64()), (Some(96), Some(2)));
    assert!(stderr(&out).contains("pictures beside the shards passed over: 1"), "{}", stderr(&out));
    // Shards that lie deeper, and files that only look like shards.
    fs::create_dir_all(folder.path().join("more")).unwrap();
    good_tar(&folder.path().join("more/00002.tar"));
    for name in ["00003.TAR", "00004.tar.lz4", "00005.tar.part"] {
        fs::write(folder.path().join(name), b"no shard").unwrap();
    }
    let said = stderr(&prune(0, "deep"));
    for line in ["folder of shards passed over: 1 (first: ", "none by their endings: 3 (first: 00003.TAR)"] {
        assert!(said.contains(line), "{line} is missing in {said}");
    }
    for class in ["cat", "dog"] {
        fs::create_dir(folder.path().join(class)).unwrap();
        fs::write(folder.path().join(class).join("0.jpg"), b"x").unwrap();
        fs::write(folder.path().join(class).join("1.jpg"), b"x").unwrap();
    }
    fs::remove_file(folder.path().join("banner.png")).unwrap();
    let out = prune(2, "b");
    one_clear_line(&stderr(&out), &["2 shards and 4 pictures", "*.tar"]);
}

#[test]
fn a_path_that_is_there_is_no_name() {
    let folder = folder_with(&[]);
    let hive = folder.path().join("lang=en");
    fs::create_dir(&hive).unwrap();
    for shard in ["00000.tar", "00001.tar"] {
        fs::rename(folder.path().join(shard), hive.join(shard)).unwrap();
    }
    for (at, shards) in
        ["lang=en/{00000..00001}.tar", "lang=en/*.tar", "lang={en,de}/00000.tar", "lang=*/*.tar", "n=lang=en/*.tar"]
            .into_iter()
            .enumerate()
    {
        let into = format!("run-{at}");
        let args = ["prune", shards, "--run", &into, "--rule", "random:100%", "--json"];
        let out = trommel().current_dir(folder.path()).args(args).output().unwrap();
        let de = shards.contains("de");
        assert_eq!(out.status.code(), Some(if de { 2 } else { 0 }), "{shards}: {}", stderr(&out));
        if de {
            one_clear_line(&stderr(&out), &["lang=de/00000.tar", "No such file"]);
        } else {
            assert_eq!(json(&out)["kept"].as_u64(), Some(96), "{shards}");
        }
    }
}

/// The plan's first samples decide, not the first to arrive: the same command ends the same way, again and again, and leaves
/// nothing committed behind.
#[test]
fn first_samples_that_are_all_rejects_end_the_run_the_same_way_each_time() {
    let folder = folder_with(&[]);
    let path = |name: &str| folder.path().join(name).display().to_string();
    tar_without_pictures(&folder.path().join("bad.tar"), 600);
    let (bad, good, into) = (path("bad.tar"), path("{00000..00001}.tar"), path("run"));
    let args = |rule| ["prune", &bad, &good, "--run", &into, "--rule", rule, "--workers", "2"];
    for rule in ["random:100%", "random:100%", "random:100%"] {
        let out = run(2, &args(rule));
        one_clear_line(&stderr(&out), &["all of the first 512 samples were rejected", "no_image", "--image-key"]);
        let ledger = trommel_ledger::read::Ledger::open(&folder.path().join("run")).unwrap();
        assert!(ledger.shards().is_empty(), "nothing is committed before the first samples are judged");
    }
    // Many small shards: what the readers hold of them returns before anybody knows how the run stands.
    for shard in 0..60 {
        tar_without_pictures(&folder.path().join(format!("small{shard:02}.tar")), 10);
    }
    let (small, into) = (path("small{00..59}.tar"), path("by-small"));
    let out = run(2, &["prune", &small, "--run", &into, "--rule", "random:100%", "--workers", "2"]);
    one_clear_line(&stderr(&out), &["all of the first 512 samples were rejected"]);
    // Two processes see different shards and come to the same end.
    let into = path("by-two");
    for _ in 0..2 {
        let words = ["launch", "--local", "2", "--", "prune", &bad, &good, "--run", &into, "--rule", "random:100%"];
        let out = run(2, &words);
        assert!(stderr(&out).contains("all of the first 512 samples were rejected"), "{}", stderr(&out));
        let ledger = trommel_ledger::read::Ledger::open(&folder.path().join("by-two")).unwrap();
        assert!(ledger.shards().is_empty());
    }
    // Behind a good shard it is a shard of rejects: too many of them, but no end.
    let (good_first, into) = (path("00000.tar"), path("after"));
    let out = run(4, &["prune", &good_first, &bad, "--run", &into, "--rule", "random:100%"]);
    one_clear_line(&stderr(&out), &["600 of 648 samples were rejected"]);
    // A slice whose own shards are all rejects is no judge of the plan.
    let into = path("sliced");
    let slice = |part: &str, status| {
        run(status, &["prune", &good_first, &bad, "--run", &into, "--rule", "random:100%", "--part", part])
    };
    slice("1/2", 4);
    slice("1/2", 4);
    slice("0/2", 0);
}

/// In a watch a bad shard is a line: what comes next may be better.
#[test]
fn a_watch_of_rejects_goes_on() {
    let folder = folder_with(&[]);
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(path("in")).unwrap();
    tar_without_pictures(&folder.path().join("in/bad.tar"), 600);
    let (prefix, into) = (path("in"), path("watched"));
    let photo = format!("photo={}", World::shared().path("radii/photo"));
    let args = [
        "watch",
        &prefix,
        "--run",
        &into,
        "--once",
        "--settle",
        "0s",
        "--benchmark",
        &photo,
        "--rule",
        "drop-over-radius",
    ];
    let args = with(&args, &["--embedder", common::MODEL, "--random-init", "1"]);
    let out = run(4, &args);
    assert!(stderr(&out).contains("all of the 600 samples read were rejected (no_image)"), "{}", stderr(&out));
    // What comes is judged all the same, and what was rejected stays so.
    fs::rename(path("00000.tar"), path("in/good.tar")).unwrap();
    let out = run(4, &args);
    assert!(stderr(&out).contains("2 shards; 48 samples read"), "{}", stderr(&out));
    assert!(stderr(&out).contains("600 of 648 samples were rejected"), "{}", stderr(&out));
}
