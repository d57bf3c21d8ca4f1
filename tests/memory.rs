//! `--memory` is a promise: what an input can make large is admitted, capped with a reason, or takes no room.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;

use common::memory::{Members, bmp, json_of_url, peak_bytes, shard, text};
use common::{MODEL, World, run, stderr};
use trommel_ledger::read::Ledger;

const MIB: u64 = 1 << 20;

/// Prunes one shard and insists on the budget; gives the ledger's kept, dropped and rejected.
fn prune(path: &Path, memory_mib: u64, more: &[&str]) -> (u64, u64, u64) {
    let into = path.with_extension("run");
    let memory = format!("{memory_mib}MiB");
    let mut command = common::trommel();
    command.arg("prune").arg(path).arg("--run").arg(&into);
    command.args(["--memory", &memory, "--max-rejects", "100", "--threads", "2"]).args(more);
    let (status, said, peak) = peak_bytes(&mut command);
    assert_eq!(status, 0, "{said}");
    assert!(peak <= memory_mib * MIB, "{} MiB resident under --memory {memory}\n{said}", peak / MIB);
    let counts = Ledger::open(&into).unwrap().counts();
    (counts.kept, counts.dropped, counts.rejected)
}

/// 240 MB of urls in one shard: far more than the budget has room for at a time.
#[test]
fn long_urls_of_a_long_shard_stay_within_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("urls.tar");
    shard(&path, 4000, |at| vec![("bmp", bmp(16, at)), ("json", json_of_url(60_000, at))]);
    let (kept, dropped, rejected) = prune(&path, 400, &["--rule", "random:50%", "--max-pixels", "10000"]);
    assert_eq!((kept + dropped, rejected), (4000, 0));
    let ledger = Ledger::open(&path.with_extension("run")).unwrap();
    let urls: Vec<usize> =
        ledger.rows().unwrap().map(|row| row.unwrap().fate.info.url.as_ref().unwrap().len()).collect();
    assert_eq!(urls, vec![60_000; 4000], "every url is in the ledger, whole");
}

/// Rejects take credit too: nothing but texts, a picture now and then.
#[test]
fn samples_without_pictures_stay_within_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("texts.tar");
    let members = |at: usize| -> Members {
        let json = ("json", json_of_url(60_000, at));
        if at.is_multiple_of(100) {
            vec![("bmp", bmp(16, at)), json]
        } else {
            vec![("txt", b"no picture".to_vec()), json]
        }
    };
    shard(&path, 4000, members);
    let (kept, dropped, rejected) = prune(&path, 400, &["--rule", "random:50%", "--max-pixels", "10000"]);
    assert_eq!((kept + dropped, rejected), (40, 3960));
}

/// A caption that comes behind its picture counts as well: 900 of 0.9 MiB, all of which stand in one window before the first
/// batch.
#[test]
fn captions_behind_their_pictures_stay_within_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("captions.tar");
    let long = text(900 << 10, 1).into_bytes();
    shard(&path, 900, |at| vec![("bmp", bmp(32, at)), ("txt", long.clone())]);
    let mut command = common::trommel();
    command.arg("train").arg(&path).arg("--run").arg(folder.path().join("run"));
    command.args(["--model", MODEL, "--batch", "100", "--steps", "9", "--precision", "f32", "--max-pixels", "10000"]);
    command.args(["--window", "900", "--window-bytes", "32MiB", "--memory", "1000MiB", "--threads", "2"]);
    let (status, said, peak) = peak_bytes(&mut command);
    assert_eq!(status, 0, "{said}");
    assert!(peak <= 1000 * MIB, "{} MiB resident under 1000\n{said}", peak / MIB);
}

/// A shard of `zstd --long=27`, 160 MiB of which have to stand in its decoder's window.
fn long_window(path: &Path) {
    let plain = path.with_extension("");
    let json = json_of_url(60_000, 7);
    shard(&plain, 2600, |at| {
        let mut url = json.clone();
        url.truncate(json.len() - 12);
        url.extend(format!("{at:010}\"}}").bytes());
        vec![("bmp", bmp(16, at)), ("json", url)]
    });
    packed(&plain, path);
}

/// Moves `plain` into a frame with a window of 128 MiB.
fn packed(plain: &Path, path: &Path) {
    let mut encoder = zstd::stream::write::Encoder::new(std::fs::File::create(path).unwrap(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.long_distance_matching(true).unwrap();
    std::io::copy(&mut std::fs::File::open(plain).unwrap(), &mut encoder).unwrap();
    encoder.finish().unwrap();
    std::fs::remove_file(plain).unwrap();
}

/// Training, all lanes' shards are open at once: two windows that do not fit together are refused with what they need, and nobody
/// waits for the other.
#[test]
fn windows_that_do_not_fit_together_end_training_and_do_not_hang_it() {
    let folder = tempfile::tempdir().unwrap();
    for at in 0..2 {
        let path = folder.path().join(format!("{at}.tar.zst"));
        shard(&path.with_extension(""), 40, |at| vec![("bmp", bmp(32, at)), ("txt", b"a caption".to_vec())]);
        packed(&path.with_extension(""), &path);
    }
    let run = folder.path().join("run");
    let train = |memory: &str| {
        let mut command = common::trommel();
        command.arg("train").arg(folder.path().join("{0..1}.tar.zst")).arg("--run").arg(&run);
        command.args([
            "--model",
            MODEL,
            "--batch",
            "10",
            "--steps",
            "8",
            "--precision",
            "f32",
            "--max-pixels",
            "10000",
        ]);
        command.args(["--lanes", "2", "--window", "40", "--threads", "1", "--rule", "random:100%", "--memory", memory]);
        peak_bytes(&mut command)
    };
    let (status, said, _) = train("820MiB");
    assert_eq!(status, 3, "{said}");
    assert!(said.contains("its zstd window needs 134217728 bytes of memory, and --memory leaves"), "{said}");
    let (status, said, peak) = train("1200MiB");
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("8 steps, 80 samples trained") && peak <= 1200 * MIB, "{} MiB\n{said}", peak / MIB);
}

/// What a decompressor holds is part of the budget: the reader of a second such shard waits for the first one's.
#[test]
fn a_decompressors_window_stays_within_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    for shard in 0..3 {
        long_window(&folder.path().join(format!("{shard}.tar.zst")));
    }
    let run = folder.path().join("run");
    let prune = |memory_mib: u64| {
        let mut command = common::trommel();
        command.arg("prune").arg(folder.path().join("{0..2}.tar.zst")).arg("--run").arg(&run);
        command.args(["--rule", "random:100%", "--max-pixels", "10000", "--threads", "2"]);
        peak_bytes(command.args(["--memory", &format!("{memory_mib}MiB")]))
    };
    let (status, said, _) = prune(400);
    assert_eq!(status, 3, "{said}");
    let wanted = "0.tar.zst: its zstd window needs 134217728 bytes of memory, and --memory leaves";
    assert!(said.contains(wanted), "{said}");
    // The same command with more of it reads what was left.
    let (status, said, peak) = prune(600);
    assert_eq!(status, 0, "{said}");
    assert!(peak <= 600 * MIB, "{} MiB resident under 600\n{said}", peak / MIB);
    assert_eq!(Ledger::open(&run).unwrap().counts().kept, 3 * 2600);
}

/// What is longer than any use has for it is a reject that says so, and the rest of the sample is in the ledger.
#[test]
fn a_field_above_its_limit_is_a_reject_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("limits.tar");
    shard(&path, 2, |at| vec![("bmp", bmp(16, at)), ("json", json_of_url(65_536 + at, at))]);
    assert_eq!(prune(&path, 800, &["--rule", "random:100%"]), (1, 0, 1));
    let ledger = Ledger::open(&path.with_extension("run")).unwrap();
    let rows: Vec<_> = ledger.rows().unwrap().map(|row| row.unwrap().fate).collect();
    assert_eq!(rows[0].info.url.as_ref().map(String::len), Some(65_536));
    let reason = rows[1].reason.as_ref().unwrap();
    assert_eq!(
        (reason.code.as_str(), reason.detail.as_str()),
        ("long_metadata", "url has 65537 bytes, more than 65536")
    );
    assert_eq!((rows[1].info.url.as_ref(), rows[1].info.uid.as_ref().map(String::len)), (None, Some(32)));
}

/// The trainer's batches, their logits and its activations are reserved before the first byte is read.
#[test]
fn a_batch_that_does_not_fit_is_refused_with_what_it_needs() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut args = world.train(&folder.path().join("run"), 5);
    let batch = args.iter().position(|word| word == "--batch").unwrap();
    args[batch + 1] = "16384".into();
    args.extend(["--accum-freq", "256", "--memory", "1.8GiB"].map(String::from));
    let out = run(2, &common::words(&args));
    let said = stderr(&out);
    let last = said.lines().last().unwrap();
    for part in ["1.8 GiB", "at least", "batches", "logits", "activations"] {
        assert!(last.contains(part), "`{part}` is missing in: {last}");
    }
}

/// Batches side by side take only what the budget has to spare: with the least that a run asks for, it has one.
#[test]
fn a_run_that_has_no_room_for_batches_side_by_side_has_one() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let prune = |memory: &str| {
        let mut command = common::trommel();
        command.args(world.prune(&folder.path().join(memory)));
        command.args(["--threads", "8", "--max-pixels", "200000", "--memory", memory]);
        let (status, said, peak) = peak_bytes(&mut command);
        (status, said.contains("embedder's other batches"), said, peak)
    };
    let (status, others, said, _) = prune("100MiB");
    assert!(status == 2 && !others, "{said}");
    let least = said.split_once("needs at least ").unwrap().1.split(" (").next().unwrap().replace(' ', "");
    let (status, others, said, peak) = prune(&least);
    assert!(status == 0 && !others, "{said}");
    assert!(peak <= trommel_pipelines::memory::parse_bytes(&least).unwrap(), "{} MiB\n{said}", peak / MIB);
    let (status, others, said, _) = prune("4GiB");
    assert!(status == 0 && others, "{said}");
}

/// Of 28 million parameters, weights and moments are 320 MiB: they are put back one tensor at a time.
#[test]
fn a_run_that_goes_on_takes_what_it_took_at_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let (model, into) = (folder.path().join("wide.json"), folder.path().join("run"));
    let text = r#"{"embed_dim": 64, "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1, "head_width": 32},
                   "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 1}}"#;
    std::fs::write(&model, text).unwrap();
    let peak = |length: &[&str]| {
        let mut command = common::trommel();
        command.args([
            "train",
            &World::shared().shards(),
            "--rule",
            "random:50%",
            "--batch",
            "8",
            "--precision",
            "f32",
        ]);
        command.arg("--model").arg(&model).arg("--run").arg(&into).args(["--threads", "1"]).args(length);
        let (status, said, peak) = peak_bytes(&mut command);
        assert_eq!(status, 0, "{said}");
        peak
    };
    let (first, second) = (peak(&["--steps", "1"]), peak(&["--steps", "2", "--extend"]));
    assert!(second < first + 64 * MIB, "{} MiB, then {} MiB", first / MIB, second / MIB);
}
