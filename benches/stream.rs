//! Question: how fast does `trommel stream` give 12 % of local shards to a trainer, and how long does it take to start beside a large split?
//!
//! Command: `cargo xtask bench stream`. Peer: webdataset reading the same shards and keeping by key, in one process; both must give the same samples
//! and bytes. webdataset reading from `pipe:trommel stream` is told too: what a trainer sees. Limit: 8 times the peer, and 50 ms to start.
//!
//! `TROMMEL_BENCH_SHARDS` (4) shards of 10,000 samples of a picture of 20 kB, a caption and a json are generated, and a split of them and
//! of `TROMMEL_BENCH_ROWS` (20 million) samples of other shards. `TROMMEL_PROGRAM` is another build to try. Files are in the page cache for all.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../operators/select/tests/world.rs"]
mod world;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use world::{Dice, Row, make};

const SHARD_SAMPLES: u64 = 10_000;
const PICTURE_BYTES: usize = 20_000;
/// Rounds of each figure; the best counts.
const ROUNDS: usize = 3;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

fn key(shard: u64, at: u64) -> String {
    format!("{:09}", shard * SHARD_SAMPLES + at)
}

/// The rows of one shard's part; 12 % of the samples are kept.
fn rows(shard: u64) -> impl Iterator<Item = Row> {
    let mut dice = Dice(shard);
    (0..SHARD_SAMPLES).map(move |at| {
        let rejected = dice.below(100) >= 12;
        Row { key: key(shard, at), rejected, reason: rejected.then_some("image_decode"), ..Row::default() }
    })
}

fn write_shard(path: &Path, shard: u64) {
    let mut dice = Dice(shard);
    let file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path).unwrap());
    let mut out = tar::Builder::new(file);
    let mut picture: Vec<u8> = (0..PICTURE_BYTES).map(|_| dice.next() as u8).collect();
    for at in 0..SHARD_SAMPLES {
        let key = key(shard, at);
        picture[..8].copy_from_slice(&dice.next().to_le_bytes());
        let size = PICTURE_BYTES / 2 + dice.below(PICTURE_BYTES);
        let json =
            format!("{{\"url\": \"https://example.org/{key}.jpg\", \"caption\": \"a dog\", \"key\": \"{key}\"}}");
        let picture: Vec<u8> = picture.iter().copied().cycle().take(size).collect();
        for (extension, data) in [("jpg", &picture[..]), ("json", json.as_bytes()), ("txt", b"a dog")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(data.len() as u64);
            header.set_mode(0o444);
            out.append_data(&mut header, format!("{key}.{extension}"), data).unwrap();
        }
    }
    out.into_inner().unwrap();
}

fn main() {
    let (shards, others) =
        (number("TROMMEL_BENCH_SHARDS", 4), number("TROMMEL_BENCH_ROWS", 20_000_000) / SHARD_SAMPLES);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for shard in 0..shards {
        write_shard(&folder.path().join(format!("{shard:05}.tar")), shard);
    }
    let (empty, first) = (path(&format!("{:05}.tar", shards + others)), path("00000.tar"));
    std::fs::write(&empty, [0; 1024]).unwrap();
    let (ledger, split) = (folder.path().join("run"), path("s.parquet"));
    // Of the last shard nothing is kept.
    let of =
        |shard| rows(shard).map(move |row| if shard == shards + others { Row { rejected: true, ..row } } else { row });
    make(&ledger, &[], (0..=shards + others).map(|shard| (format!("{shard:05}.tar"), Some(of(shard)))).collect());
    let program = std::env::var("TROMMEL_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_trommel").into());
    let selected =
        Command::new(&program).arg("select").arg(&ledger).args(["--rule", "random:100%", "-o", &split]).output();
    assert!(selected.unwrap().status.success());
    let size = std::fs::metadata(&split).unwrap().len() as f64 / 1e6;
    println!("{shards} shards of {SHARD_SAMPLES} samples; the split has {} shards and {size:.0} MB", shards + others);

    for (what, shard) in [("of which nothing is kept", &empty), ("first sample of a shard", &first)] {
        let mut times: Vec<f64> = (0..21).map(|_| first_byte(&program, shard, &split)).collect();
        times.sort_by(f64::total_cmp);
        println!("| start to first byte, {what} | {:.1} ms (worst {:.1}) |", times[10], times[20]);
    }

    let pattern = path(&format!("{{00000..{:05}}}.tar", shards - 1));
    let mut best = f64::INFINITY;
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut child = Command::new(&program)
            .args(["stream", &pattern, "--split", &split])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut out, mut buffer) = (child.stdout.take().unwrap(), vec![0; 1 << 20]);
        bytes = 0;
        loop {
            match out.read(&mut buffer).unwrap() {
                0 => break,
                read => bytes += read,
            }
        }
        assert!(child.wait().unwrap().success());
        best = best.min(start.elapsed().as_secs_f64());
    }
    let read = (shards * SHARD_SAMPLES) as f64;
    let told = |what: &str, seconds: f64, bytes: f64| {
        println!(
            "| {what} | {:.0} samples/s read | {:.0} MB/s of kept samples | {seconds:.2} s |",
            read / seconds,
            bytes / seconds / 1e6
        );
    };
    told("trommel stream", best, bytes as f64);

    let Ok(python) = std::env::var("TROMMEL_PEERS") else {
        println!("no peer: set TROMMEL_PEERS to a Python with webdataset and pyarrow");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/stream.py");
    let out =
        Command::new(python).arg(script).args([&program, &pattern, &split, &ROUNDS.to_string()]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let peer: Value = serde_json::from_slice(&out.stdout).unwrap();
    let seconds = |name: &str| peer[name]["seconds"].as_f64().unwrap();
    assert_eq!(peer["filter"]["hash"], peer["pipe"]["hash"], "other samples");
    for (name, what) in [("filter", "webdataset, keeping by key"), ("pipe", "webdataset from pipe:trommel stream")] {
        told(what, seconds(name), peer[name]["bytes"].as_f64().unwrap());
    }
    println!(
        "{} samples kept; {:.1} times the peer's speed, {:.1} times where webdataset reads it",
        peer["filter"]["samples"],
        seconds("filter") / best,
        seconds("filter") / seconds("pipe")
    );
}

/// Milliseconds from the start of the process to the first byte of its tar.
fn first_byte(program: &str, shard: &str, split: &str) -> f64 {
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(["stream", shard, "--split", split])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0]).unwrap();
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success());
    milliseconds
}
