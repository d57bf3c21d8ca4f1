//! Pictures of all kinds and random resizes beside Pillow, where a Python that has it is named by `TROMMEL_PEERS`.
//!
//! `tests/peers/decode.py` makes the pictures (CMYK, YCCK, 4:4:0, 4:1:1 and RGB JPEGs among them) and says what Pillow
//! decodes. With `TROMMEL_TEST_DATA` its odd pictures are compared too.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use trommel_kernels::resize::{Filter, View, Window, resize_rgb8};

use super::*;

/// Where we knowingly differ, by a part of the path: what Pillow does not read, or reads another way.
const KNOWN: &[(&str, &str)] = &[
    ("_R5_G6_B5", "5 and 6 bits widen to 8 with other rounding, 1 apart"),
    ("_R5_G5_B5", "5 bits widen to 8 with other rounding, 1 apart"),
    ("rgb16", "5 and 6 bits widen to 8 with other rounding, 1 apart"),
    ("pal4rletrns", "pixels that a run-length code skips are black here"),
    ("hundred_", "a PPM's or PGM's samples below another maximum than 255 are scaled in f32, ties 1 apart"),
    ("anim.webp", "the first picture laid on its background"),
];

struct Line<'a> {
    path: &'a str,
    kind: &'a str,
    mode: &'a str,
    size: (u32, u32),
    rgb: &'a str,
}

fn lines(index: &str) -> impl Iterator<Item = Line<'_>> {
    index.lines().map(|line| {
        let f: Vec<&str> = line.split('\t').collect();
        Line { path: f[0], kind: f[1], mode: f[2], size: (f[3].parse().unwrap(), f[4].parse().unwrap()), rgb: f[5] }
    })
}

/// Pictures compared, equal ones, the largest mean and the largest difference.
type Tally = BTreeMap<String, (usize, usize, f64, u8)>;

fn decode_all(out: &Path) -> (Tally, Vec<String>) {
    let mut tally = Tally::new();
    let mut complaints = Vec::new();
    for line in lines(&std::fs::read_to_string(out.join("index.tsv")).unwrap()) {
        let ours = decode_rgb(&std::fs::read(line.path).unwrap(), &Limits::default());
        let made = Path::new(line.path).starts_with(out);
        let known = KNOWN.iter().any(|(part, _)| line.path.contains(part));
        let ours = match (line.kind, ours) {
            ("-", _) => continue,
            (_, Err(error)) => {
                eprintln!("only Pillow: {} {error}", line.path);
                if made {
                    complaints.push(format!("{}: {error}", line.path));
                }
                continue;
            }
            (_, Ok(ours)) => ours,
        };
        let theirs = std::fs::read(out.join(line.rgb)).unwrap();
        if (ours.width, ours.height) != line.size {
            complaints.push(format!("{}: {} x {}, {:?}", line.path, ours.width, ours.height, line.size));
            continue;
        }
        let apart = || ours.pixels.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b));
        let most = apart().max().unwrap_or(0);
        let mean = apart().map(f64::from).sum::<f64>() / theirs.len() as f64;
        // Before any resizing, and over pictures of a few pixels too.
        // A JPEG inside a TIFF is always zune-jpeg's.
        let lossy = line.path.ends_with("_jpeg.tif");
        let fine = most == 0 || known || lossy && mean < 0.75 && most <= 8;
        if most > 0 {
            eprintln!("{}: mean {mean:.4}, maximum {most}{}", line.path, if known { " (known)" } else { "" });
        }
        if !fine {
            complaints.push(format!("{} ({} {}): mean {mean:.4}, maximum {most}", line.path, line.kind, line.mode));
        }
        if !known {
            let entry = tally.entry(format!("{} {}", line.kind, line.mode)).or_default();
            *entry = (entry.0 + 1, entry.1 + usize::from(most == 0), entry.2.max(mean), entry.3.max(most));
        }
    }
    (tally, complaints)
}

fn resize_all(out: &Path) -> usize {
    let list = std::fs::read_to_string(out.join("resizes.tsv")).unwrap();
    for line in list.lines() {
        let f: Vec<&str> = line.split('\t').collect();
        let n: Vec<u32> = f.iter().map(|field| field.parse().unwrap_or(0)).collect();
        let window = |at: usize| Window { left: n[at], top: n[at + 1], width: n[at + 2], height: n[at + 3] };
        let pixels = std::fs::read(out.join(f[0])).unwrap();
        let view = View::crop(&pixels, n[1], n[2], window(3)).unwrap();
        let filter = if f[13] == "bicubic" { Filter::Bicubic } else { Filter::Bilinear };
        let ours = resize_rgb8(&view, n[7], n[8], window(9), filter).unwrap();
        assert!(ours == std::fs::read(out.join(f[14])).unwrap(), "{line}");
    }
    list.lines().count()
}

#[test]
fn pillow_decodes_and_resizes_alike() {
    let Some(python) = std::env::var_os("TROMMEL_PEERS") else {
        eprintln!("skipped: set TROMMEL_PEERS to a Python with Pillow and numpy");
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/decode.py");
    let mut command = Command::new(python);
    command.arg(script).arg(out.path()).env("OMP_NUM_THREADS", "1");
    if let Some(data) = std::env::var_os("TROMMEL_TEST_DATA") {
        command.arg(Path::new(&data).join("decode"));
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    eprint!("{said}");
    let (tally, complaints) = decode_all(out.path());
    for (kind, (compared, equal, mean, most)) in &tally {
        eprintln!("{kind}: {compared} compared, {equal} equal, largest mean {mean:.4}, largest difference {most}");
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(tally.values().map(|entry| entry.0).sum::<usize>() > 300);
    assert_eq!(resize_all(out.path()), 400);
}
