//! Question: how fast does `trommel stream` give 12 % of local shards to a trainer, and how long does it take to start beside a large split?
//!
//! Command: `cargo xtask bench stream`. Peer: webdataset reading the same shards and keeping by key, in one process; both must give the same samples
//! and bytes. webdataset reading from `pipe:trommel stream` is told too: what a trainer sees. Limit: 8 times the peer, and 50 ms to start. `TROMMEL_BENCH_ROUNDS` (5) in turn.
//!
//! `TROMMEL_BENCH_SHARDS` (4) shards of 10,000 samples of a picture of 20 kB, a caption and a json are generated, and a split of them and
//! of `TROMMEL_BENCH_ROWS` (20 million) samples of other shards. `TROMMEL_PROGRAM` is another build to try. Files are in the page cache for all.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod common;
#[path = "common/shards.rs"]
mod shards;
#[path = "../operators/select/tests/world.rs"]
mod world;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{Compared, number};
use serde_json::Value;
use shards::{SAMPLES, key};
use world::{Dice, Row, make};

/// The rows of one shard's part; 12 % of the samples are kept.
fn rows(shard: u64) -> impl Iterator<Item = Row> {
    let mut dice = Dice(shard);
    (0..SAMPLES).map(move |at| {
        let rejected = dice.below(100) >= 12;
        Row { key: key(shard, at), rejected, reason: rejected.then_some("image_decode"), ..Row::default() }
    })
}

fn main() {
    let (shards, others) = (number("TROMMEL_BENCH_SHARDS", 4), number("TROMMEL_BENCH_ROWS", 20_000_000) / SAMPLES);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for shard in 0..shards {
        shards::write(&folder.path().join(format!("{shard:05}.tar")), shard);
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
    println!("{shards} shards of {SAMPLES} samples; the split has {} shards and {size:.0} MB", shards + others);

    for (what, shard) in [("of which nothing is kept", &empty), ("first sample of a shard", &first)] {
        let mut times: Vec<f64> = (0..21).map(|_| first_byte(&program, shard, &split)).collect();
        times.sort_by(f64::total_cmp);
        println!("| start to first byte, {what} | {:.1} ms (worst {:.1}) |", times[10], times[20]);
    }

    let pattern = path(&format!("{{00000..{:05}}}.tar", shards - 1));
    let python = std::env::var("TROMMEL_PEERS").ok();
    if python.is_none() {
        println!("no peer: set TROMMEL_PEERS to a Python with webdataset and pyarrow");
    }
    let read = (shards * SAMPLES) as f64;
    let (mut ours, mut filter, mut pipe) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..number("TROMMEL_BENCH_ROUNDS", 5) {
        let (seconds, bytes) = streamed(&program, &pattern, &split);
        println!("| trommel stream | {seconds:.2} s | {:.0} MB/s of kept samples |", bytes as f64 / seconds / 1e6);
        ours.push(read / seconds);
        let Some(python) = &python else { continue };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/stream.py");
        let out = Command::new(python).arg(script).args([&program, &pattern, &split]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let peer: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(peer["filter"]["hash"], peer["pipe"]["hash"], "other samples");
        let rate = |name: &str| read / peer[name]["seconds"].as_f64().unwrap();
        filter.push(rate("filter"));
        pipe.push(rate("pipe"));
    }
    let peer = "webdataset, keeping by key";
    let row =
        |what, ours, wanted| Compared { what, unit: "samples/s read", ours, peer, theirs: &filter, wanted }.tell();
    row("12 % of local shards, as a tar", &ours, 8.0);
    if python.is_some() {
        row("the same, through `pipe:trommel stream` in webdataset", &pipe, 1.0);
    }
}

/// Seconds that the command takes, and the bytes of its tar.
fn streamed(program: &str, pattern: &str, split: &str) -> (f64, usize) {
    let start = Instant::now();
    let mut child =
        Command::new(program).args(["stream", pattern, "--split", split]).stdout(Stdio::piped()).spawn().unwrap();
    let (mut out, mut buffer, mut bytes) = (child.stdout.take().unwrap(), vec![0; 1 << 20], 0);
    while let read @ 1.. = out.read(&mut buffer).unwrap() {
        bytes += read;
    }
    assert!(child.wait().unwrap().success());
    (start.elapsed().as_secs_f64(), bytes)
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
