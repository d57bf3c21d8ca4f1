//! Question: how many JPEGs of 400 x 350 does one core turn into the pixels that CLIP sees, beside open_clip's evaluation transform?
//!
//! Command: `cargo xtask bench decode`. Peer: `benches/peers/decode.py`, which makes the pictures too (COCO's photos where `TROMMEL_TEST_DATA` is
//! set). Limit: the decode alone, ours and Pillow's. One thread each, a second each, `TROMMEL_BENCH_ROUNDS` (5) times in turn; medians, spreads, ratios. open_clip's
//! transform ends in normalised f32; that is a part of the embedder's batch here, and not measured.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod common;

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{Compared, number};
use trommel_decode::view::{EvalView, ResizeMode, TrainView, eval_view, train_view};
use trommel_decode::{DECODER, Limits, decode_rgb, recycle};

const SECONDS: f64 = 1.0;

fn main() {
    let Some(python) = std::env::var_os("TROMMEL_PEERS") else {
        println!("set TROMMEL_PEERS to a Python with open_clip and Pillow, or say `cargo xtask bench decode`");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/decode.py");
    let mut peer = Command::new(python)
        .arg(script)
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .env("OMP_NUM_THREADS", "1")
        .spawn()
        .unwrap();
    let (mut asks, mut answers) = (peer.stdin.take().unwrap(), BufReader::new(peer.stdout.take().unwrap()).lines());
    assert_eq!(answers.next().unwrap().unwrap(), "ready");
    let mut theirs = |what: &str| -> f64 {
        writeln!(asks, "{what} {SECONDS}").unwrap();
        answers.next().unwrap().unwrap().parse().unwrap()
    };

    let mut paths: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let pictures: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let limits = Limits::default();
    let eval = EvalView { size: 224, mode: ResizeMode::Shortest };
    let train = TrainView { size: 224, scale: (0.9, 1.0), seed: 0, labelled: false };
    let ours = |work: &dyn Fn(&[u8])| {
        let (started, mut done) = (Instant::now(), 0);
        while started.elapsed().as_secs_f64() < SECONDS {
            pictures.iter().for_each(|picture| work(picture));
            done += pictures.len();
        }
        done as f64 / started.elapsed().as_secs_f64()
    };
    let mut rows = [const { Vec::new() }; 5];
    for _ in 0..number("TROMMEL_BENCH_ROUNDS", 5) {
        rows[0].push(theirs("transform"));
        for (row, both) in [(1, false), (2, true)] {
            rows[row].push(ours(&|bytes| {
                let picture = decode_rgb(bytes, &limits).unwrap();
                black_box(eval_view(&picture, &eval).unwrap());
                if both {
                    black_box(train_view(&picture, &train, 0, 0).unwrap());
                }
                recycle(picture);
            }));
        }
        rows[3].push(theirs("pillow"));
        rows[4].push(ours(&|bytes| recycle(black_box(decode_rgb(bytes, &limits).unwrap()))));
    }
    drop(asks);
    peer.wait().unwrap();
    println!("{} pictures, {DECODER}", pictures.len());
    let [transform, view, both, pillow, alone] = &rows;
    let row =
        |what, ours, peer, theirs, wanted| Compared { what, unit: "pictures/s", ours, peer, theirs, wanted }.tell();
    row("JPEG of 400x350 to CLIP's view, one core", view, "open_clip's transform", transform, 2.5);
    row(
        "JPEG of 400x350 to the embedder's and the trainer's view, one core",
        both,
        "open_clip's transform, one view",
        transform,
        1.0,
    );
    row("JPEG of 400x350 to RGB, one core", alone, "Pillow", pillow, 1.0);
}
