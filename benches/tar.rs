//! Question: how many samples a second leave a tar, on one thread, beside webdataset?
//!
//! Command: `cargo xtask bench tar`. Peer: `benches/peers/tar.py`, `webdataset.WebDataset` over the same shards, samples as dicts of bytes. Both read
//! the picture and the caption of each sample, and must find as many. Limit: the bytes of the shards, read once.
//!
//! Two generated shards of 10,000 samples with a picture of 10 to 30 kB, a caption and a json; in the page cache for both. `TROMMEL_BENCH_ROUNDS` (5) in turn.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod common;
#[path = "common/shards.rs"]
mod shards;

use std::convert::Infallible;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use common::{Compared, number};
use serde_json::Value;
use trommel_core::credit::Permit;
use trommel_shard::samples::{Group, GroupConfig, SampleReader, Want};
use trommel_shard::tar::{TarLimits, TarReader};

const SHARDS: u64 = 2;

/// Samples of a shard, and the bytes of their pictures and captions.
fn read(path: &Path) -> (usize, usize) {
    let config = GroupConfig::default();
    let tar = TarReader::new(BufReader::with_capacity(1 << 18, File::open(path).unwrap()), TarLimits::default());
    let mut samples = SampleReader::new(tar, &config, 0);
    let (mut count, mut bytes) = (0, 0);
    loop {
        let mut want = |_| Want::Content { extra_bytes: 0 };
        let group = samples.next_group(&mut want, &mut |_| Ok::<_, Infallible>(Permit::free()));
        match group {
            Ok(Some(Group::Sample(sample))) => {
                count += 1;
                bytes += sample.payload.image.len() + sample.caption.as_ref().map_or(0, |caption| caption.len());
            }
            Ok(Some(_)) => unreachable!("a sample without a picture"),
            Ok(None) => return (count, bytes),
            Err(never) => match never {},
        }
    }
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..SHARDS).map(|at| folder.path().join(format!("{at:05}.tar"))).collect();
    paths.iter().zip(0..).for_each(|(path, shard)| shards::write(path, shard));
    let python = std::env::var_os("TROMMEL_PEERS");
    let (mut ours, mut theirs, mut limit) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..number("TROMMEL_BENCH_ROUNDS", 5) {
        let started = Instant::now();
        let mut bytes = 0;
        let mut buffer = vec![0; 1 << 18];
        for path in &paths {
            let mut file = File::open(path).unwrap();
            while let read @ 1.. = file.read(&mut buffer).unwrap() {
                bytes += read;
            }
        }
        limit.push(bytes as f64 / started.elapsed().as_secs_f64() / 1e6);

        let started = Instant::now();
        let read = paths.iter().map(|path| read(path)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        ours.push(read.0 as f64 / started.elapsed().as_secs_f64());
        println!("trommel: {} samples, {:.0} MB of pictures and captions", read.0, read.1 as f64 / 1e6);
        if let Some(python) = &python {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/tar.py");
            let out = Command::new(python).arg(script).args(&paths).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            let told: Value = serde_json::from_slice(&out.stdout).unwrap();
            assert_eq!((told["samples"].as_u64(), told["bytes"].as_u64()), (Some(read.0 as u64), Some(read.1 as u64)));
            theirs.push(told["samples_per_second"].as_f64().unwrap());
        }
    }
    println!("reading the bytes alone: {:.0} MB/s", common::median(&limit));
    Compared {
        what: "tar to samples, one thread",
        unit: "samples/s",
        ours: &ours,
        peer: "webdataset",
        theirs: &theirs,
        wanted: 8.0,
    }
    .tell();
}
