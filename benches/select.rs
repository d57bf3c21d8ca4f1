//! Question: how long does `trommel select` take for all splits of a study from one ledger, and how much memory?
//!
//! Command: `cargo xtask bench select`. Peer: polars, streaming, over the same files, with ties broken in the same way; both must keep
//! as many samples of each split. Limit: 2 GiB, which is the `--memory` that is given.
//!
//! A ledger of `TROMMEL_BENCH_ROWS` (100 million) rows, six benchmarks with radii, 10,000 rows a shard, is generated to disk (about 100 bytes a row) and
//! taken away afterwards. `TROMMEL_PROGRAM` is another build to try. Random rules are left out: polars has not their hash.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../tests/common/memory.rs"]
#[allow(dead_code)]
mod memory;
#[path = "../operators/select/tests/world.rs"]
mod world;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use world::{Dice, Row, make};

const BENCHMARKS: [&str; 6] = ["val", "sketch", "a", "r", "v2", "objectnet"];
const SHARD_ROWS: u64 = 10_000;
const MEMORY_MIB: u64 = 2048;

/// One sample of 30 can't be judged; of the others a few of a hundred exceed a radius of each benchmark.
fn rows(shard: u64, count: u64) -> impl Iterator<Item = Row> {
    let mut dice = Dice(shard);
    (0..count).map(move |at| {
        let rejected = dice.below(30) == 0;
        // Cosines of f16 vectors: multiples of 2^-20 here, so that some are equal.
        let score = |dice: &mut Dice| {
            let sum: usize = (0..4).map(|_| dice.below(1 << 18)).sum();
            (sum as f64 / (1 << 20) as f64, Some((dice.below(40) == 0) as u32))
        };
        Row {
            key: format!("{:09}", shard * SHARD_ROWS + at),
            uid: Some(format!("{:016x}{:016x}", dice.next(), dice.next())),
            rejected,
            reason: rejected.then_some("image_decode"),
            scores: BENCHMARKS.map(|_| score(&mut dice)).into(),
        }
    })
}

fn splits(total: u64) -> Vec<(String, String)> {
    let own = BENCHMARKS.map(|name| (name.to_owned(), format!("drop-over-radius@{name}")));
    let more = [
        ("combined", "drop-over-radius".to_owned()),
        ("far", format!("keep-nearest:{}@sketch", total / 2)),
        ("farther", format!("keep-nearest:{}@sketch", total / 4)),
        ("least", format!("keep-farthest:{}@sketch", total / 2)),
        ("core", format!("keep-nearest:{} of combined", total / 4)),
    ];
    own.into_iter().chain(more.map(|(name, rule)| (name.to_owned(), rule))).collect()
}

fn main() {
    let total: u64 = std::env::var("TROMMEL_BENCH_ROWS").map_or(100_000_000, |rows| rows.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (run, out, peer) = (folder.path().join("run"), folder.path().join("out"), folder.path().join("peer"));
    let start = Instant::now();
    let shard = |at: u64| (format!("{at:05}.tar"), Some(rows(at, SHARD_ROWS.min(total - at * SHARD_ROWS))));
    make(&run, &BENCHMARKS, (0..total.div_ceil(SHARD_ROWS)).map(shard).collect());
    println!("{total} rows, {} benchmarks, generated in {:.0} s", BENCHMARKS.len(), start.elapsed().as_secs_f64());

    let splits = splits(total);
    let program = std::env::var("TROMMEL_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_trommel").into());
    let mut select = Command::new(program);
    select.arg("select").arg(&run).arg("-o").arg(&out).args(["--memory", &format!("{MEMORY_MIB}MiB")]);
    select.args(splits.iter().flat_map(|(name, rule)| ["--rule".to_owned(), format!("{name}={rule}")]));
    let (seconds, peak) = measured("trommel select", &mut select);
    assert!(peak <= MEMORY_MIB, "{peak} MiB");

    let Ok(python) = std::env::var("TROMMEL_PEERS") else {
        println!("no peer: set TROMMEL_PEERS to a Python with polars");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/splits.py");
    let mut polars = Command::new(python);
    polars.arg(script).arg(&run).arg(&peer).arg(total.to_string());
    let (theirs, theirs_peak) = measured("polars", &mut polars);
    let told: Value = serde_json::from_slice(&std::fs::read(peer.join("counts.json")).unwrap()).unwrap();
    for (name, rule) in &splits {
        let head = std::fs::read(out.join(format!("{name}.split.json"))).unwrap();
        let head: Value = serde_json::from_slice(&head).unwrap();
        assert_eq!(head["count"], told[name], "{name} {rule}");
    }
    println!(
        "{} splits of equal sizes; {:.2} of polars' time, {:.2} of its memory",
        splits.len(),
        seconds / theirs,
        peak as f64 / theirs_peak as f64
    );
}

/// Seconds, and the largest resident set in MiB.
fn measured(what: &str, command: &mut Command) -> (f64, u64) {
    let start = Instant::now();
    let (status, said, peak) = memory::peak_bytes(command);
    assert_eq!(status, 0, "{said}");
    let (seconds, peak) = (start.elapsed().as_secs_f64(), peak >> 20);
    println!("| {what} | {seconds:.1} s | {peak} MiB |");
    (seconds, peak)
}
