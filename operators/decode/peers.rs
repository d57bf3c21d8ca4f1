//! Pictures of all kinds and random resizes beside Pillow, where a Python that has it is named by `TROMMEL_PEERS`.
//!
//! `tests/peers/decode.py` makes the pictures (CMYK, YCCK, 4:4:0, 4:1:1 and RGB JPEGs among them) and says what Pillow
//! decodes. With `TROMMEL_TEST_DATA` its odd pictures are compared too.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use trommel_kernels::resize::{Filter, View, Window, resize_rgb8};

use super::*;

/// Where we knowingly differ, by the file's name, and how far apart at most.
const KNOWN: &[(&str, u8, &str)] = &[
    ("V4_R5_G6_B5.bmp", 1, "5 and 6 bits widen to 8 with other rounding"),
    ("V5_A1_R5_G5_B5.bmp", 1, "5 bits widen to 8 with other rounding"),
    ("rgb16-565.bmp", 1, "5 and 6 bits widen to 8 with other rounding"),
    ("rgb16.bmp", 1, "5 bits widen to 8 with other rounding"),
    ("pal4rletrns.bmp", 255, "pixels that a run-length code skips are black here"),
    ("hundred_*.ppm", 1, "samples below another maximum than 255 are scaled in f32, ties are apart"),
    ("hundred_*.pgm", 1, "samples below another maximum than 255 are scaled in f32, ties are apart"),
    ("anim.webp", 177, "the first picture laid on its background"),
];

/// What Pillow reads and is refused here: headers and run-length codes that contradict the format, and a sampling that nobody writes.
const REFUSED: [&str; 4] = ["badplanes.bmp", "badrle.bmp", "rletopdown.bmp", "peacock.s-very-weird.jpeg"];

/// Whether a name is the pattern, in which one `*` stands for anything.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    pattern
        .split_once('*')
        .map_or(pattern == name, |(start, end)| name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)))
}

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

fn decode_all(out: &Path) -> (Tally, BTreeSet<&'static str>, Vec<String>) {
    let (mut tally, mut found) = (Tally::new(), BTreeSet::new());
    let mut complaints = Vec::new();
    for line in lines(&std::fs::read_to_string(out.join("index.tsv")).unwrap()) {
        let ours = decode_rgb(&std::fs::read(line.path).unwrap(), &Limits::default());
        let name = Path::new(line.path).file_name().unwrap().to_str().unwrap();
        let known = KNOWN.iter().position(|(pattern, ..)| fits(pattern, name));
        let ours = match (line.kind, ours) {
            ("-", _) => continue,
            (_, Err(error)) => {
                match REFUSED.iter().find(|refused| **refused == name) {
                    Some(refused) => _ = found.insert(*refused),
                    None => complaints.push(format!("only Pillow: {}: {error}", line.path)),
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
        let fine = most == 0 || known.is_some_and(|at| most <= KNOWN[at].1) || lossy && mean < 0.75 && most <= 8;
        if most > 0 {
            let known = known.map_or("", |at| KNOWN[at].0);
            eprintln!("{}: mean {mean:.4}, maximum {most} {known}", line.path);
            found.insert(known);
        }
        if !fine {
            complaints.push(format!("{} ({} {}): mean {mean:.4}, maximum {most}", line.path, line.kind, line.mode));
        }
        if known.is_none() {
            let entry = tally.entry(format!("{} {}", line.kind, line.mode)).or_default();
            *entry = (entry.0 + 1, entry.1 + usize::from(most == 0), entry.2.max(mean), entry.3.max(most));
        }
    }
    (tally, found, complaints)
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
    let Some(python) = crate::skipped::peer("Pillow and numpy") else { return };
    let out = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/decode.py");
    let mut command = Command::new(python);
    command.arg(script).arg(out.path()).env("OMP_NUM_THREADS", "1");
    let data = crate::skipped::test_data();
    let has_folder = data.is_some();
    command.args(data.map(|data| data.join("decode")));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    eprint!("{said}");
    let (tally, known, complaints) = decode_all(out.path());
    for (kind, (compared, equal, mean, most)) in &tally {
        eprintln!("{kind}: {compared} compared, {equal} equal, largest mean {mean:.4}, largest difference {most}");
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
    // What no picture shows any more is not known. Most are of the folder, and are looked for where it is.
    let all = KNOWN.iter().map(|(name, ..)| *name).chain(REFUSED);
    let gone: Vec<_> =
        all.filter(|name| (has_folder || name.starts_with("hundred_")) && !known.contains(name)).collect();
    assert!(gone.is_empty(), "{gone:?}");
    assert!(tally.values().map(|entry| entry.0).sum::<usize>() > 300);
    assert_eq!(resize_all(out.path()), 400);
}
