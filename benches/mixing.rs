//! Question: how well does a pass mix its samples into batches, beside open_clip's loader with its default buffers on the
//! same shards? Neighbours in a shard are alike (one site, one day, one album): a batch that holds them together sees less.
//!
//! Command: `cargo xtask bench mixing`. Peer: `benches/peers/mixing.py`, which is open_clip's `get_wds_dataset`. Limit: a
//! pass that is shuffled as a whole.
//!
//! Twenty generated shards of 10,000 samples, two passes. Ours is the order that a `trommel train` of that batch settles in
//! its run folder, gone through by the order's own operator. Of each order:
//! - *together*: neighbours in a shard that stand in the same batch, as a share of all;
//! - *again*: of those, the share that stand together in the next pass too;
//! - *side by side*: neighbours in a shard that stand in neighbouring rows of a batch, as a share of all;
//! - *shards*: shards that a batch holds samples of, on average; *evenly*: as many equal shards would be as mixed (the
//!   inverse of the sum of squared shares).
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss, missing_docs)]

#[path = "../tests/common/members.rs"]
mod members;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use members::append;
use trommel_core::credit::{Credit, CreditConfig, Permit};
use trommel_core::stop::Stop;
use trommel_dataflow::order::{Lanes, OrderConfig, OrderService, Slot};

const SHARDS: u32 = 20;
const SAMPLES: u32 = 10_000;
const PASSES: u32 = 2;
/// A grey picture of 8 x 8.
const PICTURE: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0x00,
    0x08, 0x00, 0x00, 0x00, 0x08, 0x08, 0x02, 0x00, 0x00, 0x00, 0x4b, 0x6d, 0x29, 0xdc, 0x00, 0x00, 0x00, 0x14, 0x49,
    0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x6c, 0x68, 0x68, 0x60, 0xc0, 0x06, 0x98, 0xb0, 0x8a, 0x0e, 0x5a, 0x09, 0x00,
    0x30, 0x17, 0x01, 0x90, 0x61, 0xc7, 0x97, 0xa6, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60,
    0x82,
];

/// Numbers of the samples of each batch.
type Pass = Vec<Vec<u32>>;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let shards = write_shards(folder.path());
    println!("{SHARDS} shards of {SAMPLES} samples, {PASSES} passes");
    println!("| batch | order | together | again | side by side | shards | evenly |");
    println!("|--|--|--|--|--|--|--|");
    for batch in [256, 1024, 4096] {
        let order = settled(folder.path(), &shards, batch);
        let batches = order.window_samples as f64 / batch as f64;
        row(batch, &format!("trommel: {} lanes, windows of {batches:.1} batches", order.lanes), &ours(&order, batch));
        let before = OrderConfig::default();
        row(batch, "4 lanes, windows of 2,048 samples", &ours(&before, batch));
        match theirs(folder.path(), &shards, batch) {
            Some((workers, passes)) => row(batch, &format!("open_clip: {workers} workers, default buffers"), &passes),
            None => println!("| {batch} | open_clip: run by `cargo xtask bench mixing` | | | | | |"),
        }
        row(batch, "limit: a whole pass shuffled", &uniform(batch));
    }
}

/// Tars whose captions are the samples' numbers.
fn write_shards(folder: &Path) -> String {
    let shards = folder.join("shards");
    fs::create_dir(&shards).unwrap();
    let mut sizes = serde_json::Map::new();
    for shard in 0..SHARDS {
        let name = format!("{shard:05}.tar");
        let mut tar = tar::Builder::new(std::io::BufWriter::new(File::create(shards.join(&name)).unwrap()));
        for index in 0..SAMPLES {
            let caption = (shard * SAMPLES + index).to_string();
            for (ending, bytes) in [("png", PICTURE), ("txt", caption.as_bytes())] {
                append(&mut tar, format!("{shard:05}{index:04}.{ending}"), bytes);
            }
        }
        tar.into_inner().unwrap();
        sizes.insert(name, SAMPLES.into());
    }
    fs::write(shards.join("sizes.json"), serde_json::to_string(&sizes).unwrap()).unwrap();
    shards.join(format!("{{00000..{:05}}}.tar", SHARDS - 1)).display().to_string()
}

/// The order that the program gives a run of this batch when nothing is said of it.
fn settled(folder: &Path, shards: &str, batch: usize) -> OrderConfig {
    let run = folder.join(format!("run{batch}"));
    let (batch, chunks) = (batch.to_string(), (batch / 128).to_string());
    let out = Command::new(env!("CARGO_BIN_EXE_trommel"))
        .args(["train", shards, "--model", "trommel-tiny-32", "--batch", &batch, "--accum-freq", &chunks])
        .args(["--steps", "1", "--warmup", "0", "--run"])
        .arg(&run)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(out.status.success());
    let settled: serde_json::Value = serde_json::from_slice(&fs::read(run.join("training.json")).unwrap()).unwrap();
    serde_json::from_value(settled["order"].clone()).unwrap()
}

fn ours(order: &OrderConfig, batch: usize) -> Vec<Pass> {
    let stop = Stop::new();
    let credit = Credit::new(CreditConfig { budget_bytes: 1, lanes: 1, quantum_bytes: 1 }, stop.clone());
    let named = (0..SHARDS).map(|shard| (u64::from(shard), format!("{shard:05}.tar")));
    let lanes = Arc::new(Lanes::new(order.lanes, order.seed, named));
    let service = OrderService::new(order, lanes, Some(PASSES), None, credit, stop).unwrap();
    for (pass, shard) in (0..PASSES).flat_map(|pass| (0..SHARDS).map(move |shard| (pass, u64::from(shard)))) {
        for index in 0..SAMPLES {
            service.offer(Slot::kept(pass, shard, index, 32 * 32 * 3 + 6, (Permit::free(), ()))).unwrap();
        }
        service.end(pass, shard, SAMPLES).unwrap();
    }
    let mut passes = vec![Pass::new(); PASSES as usize];
    while let Some(taken) = service.next_batch(batch) {
        let number = |ordinal: u64, index: u32| u32::try_from(ordinal).unwrap() * SAMPLES + index;
        let samples = taken.samples.iter().map(|sample| number(sample.id.ordinal, sample.id.index));
        passes[taken.pass as usize].push(samples.collect());
    }
    passes
}

fn theirs(folder: &Path, shards: &str, batch: usize) -> Option<(u64, Vec<Pass>)> {
    let python = std::env::var_os("TROMMEL_PEERS")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/mixing.py");
    let numbers = folder.join("numbers");
    let mut command = Command::new(python);
    command.arg(script).args([shards, &batch.to_string(), &PASSES.to_string()]).arg(&numbers);
    let out = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(out.status.success());
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let bytes = fs::read(numbers).unwrap();
    let mut numbers = bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let counts = said["batches"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap());
    let passes = counts.map(|count| (0..count).map(|_| numbers.by_ref().take(batch).collect()).collect()).collect();
    Some((said["workers"].as_u64().unwrap(), passes))
}

fn uniform(batch: usize) -> Vec<Pass> {
    let mut state = 1u64;
    let mut below = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut pass = || {
        let mut numbers: Vec<u32> = (0..SHARDS * SAMPLES).collect();
        for at in (1..numbers.len()).rev() {
            numbers.swap(at, usize::try_from(below(at as u64 + 1)).unwrap());
        }
        numbers.chunks_exact(batch).map(<[u32]>::to_vec).collect()
    };
    (0..PASSES).map(|_| pass()).collect()
}

/// Batch and row of each sample; open_clip repeats a few, whose first place counts.
fn places(pass: &Pass) -> HashMap<u32, (usize, usize)> {
    let mut places = HashMap::new();
    for (at, batch) in pass.iter().enumerate() {
        for (row, number) in batch.iter().enumerate() {
            places.entry(*number).or_insert((at, row));
        }
    }
    places
}

fn row(batch: usize, name: &str, passes: &[Pass]) {
    let placed: Vec<_> = passes.iter().map(places).collect();
    let (mut pairs, mut together, mut beside, mut first, mut again) = (0u64, 0u64, 0u64, 0u64, 0u64);
    for number in (0..SHARDS * SAMPLES).filter(|number| (number + 1) % SAMPLES != 0) {
        let mut meets = Vec::new();
        for places in &placed {
            let pair = places.get(&number).zip(places.get(&(number + 1)));
            let same = pair.filter(|((a, _), (b, _))| a == b);
            pairs += u64::from(pair.is_some());
            together += u64::from(same.is_some());
            beside += u64::from(same.is_some_and(|((_, a), (_, b))| a.abs_diff(*b) == 1));
            meets.push(same.is_some());
        }
        first += u64::from(meets[0]);
        again += u64::from(meets[0] && meets[1]);
    }
    let (mut distinct, mut evenly, mut batches) = (0.0, 0.0, 0.0);
    for batch in passes.iter().flatten() {
        let mut counts = vec![0u32; SHARDS as usize];
        batch.iter().for_each(|number| counts[(number / SAMPLES) as usize] += 1);
        let share = |count: &u32| f64::from(*count) / batch.len() as f64;
        distinct += counts.iter().filter(|count| **count > 0).count() as f64;
        evenly += 1.0 / counts.iter().map(|count| share(count).powi(2)).sum::<f64>();
        batches += 1.0;
    }
    let percent = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
    println!(
        "| {batch} | {name} | {:.2} % | {:.1} % | {:.3} % | {:.1} | {:.1} |",
        percent(together, pairs),
        percent(again, first),
        percent(beside, pairs),
        distinct / batches,
        evenly / batches
    );
}
