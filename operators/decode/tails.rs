//! Pictures that end in odd ways, tens of thousands of them, beside Pillow: `tests/peers/tails.py` makes them and says what
//! Pillow reads of each. What Pillow refuses is refused here, what it reads is read, and with its pixels.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::*;

/// Where we knowingly differ, by the beginning and a part of the name.
const KNOWN: &[(&str, &str, &str)] = &[
    ("PNG/", "_is_b'fdAT'", "frame data outside of an animation: Pillow counts some of it as pixels"),
    ("PNG/", "_is_b'IHDR'", "a second header behind the pixels"),
    ("PNG/", "rows_end_at", "a stream that ends by itself between two rows: Pillow leaves the others black"),
    ("PNG/", "tRNS33_is_b'PLTE'", "a palette of a wrong length where none is needed"),
    ("PNG/", "tRNS93_is_b'PLTE'", "a second palette"),
    ("GIF/", "/cut3", "all pixels are there, and a byte of the end code's block is not"),
    ("GIF/animated/", "/cut574", "as above"),
    ("PNG/animated/", "TL", "chunks that only an animation's later frames need"),
    ("PNG/animated/", "IDAT91_", "without a first frame Pillow shows the second"),
    ("PNG/palette/", "PLTE33_", "Pillow shows the indices of a palette that is not there"),
    ("PNG/", "tRNS33_crc", "the checksum of transparency, which is dropped"),
    ("PNG/", "tRNS93_crc", "the checksum of transparency, which is dropped"),
];

/// Damage that is refused here alone.
const GOT_OVER: [&str; 2] = ["Huffman code", "restart markers out of order"];

#[test]
fn odd_ends_are_as_in_pillow() {
    let Some(python) = std::env::var_os("TROMMEL_PEERS") else {
        eprintln!("skipped: set TROMMEL_PEERS to a Python with Pillow and numpy");
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/tails.py");
    let output = Command::new(python).arg(script).arg(out.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    let pack = std::fs::read(out.path().join("pack")).unwrap();
    let index = std::fs::read_to_string(out.path().join("index.tsv")).unwrap();
    let lines: Vec<Vec<&str>> = index.lines().map(|line| line.split('\t').collect()).collect();
    let number = |text: &str| text.parse::<usize>().unwrap();
    let (mut tally, mut complaints) = (BTreeMap::<_, [usize; 4]>::new(), Vec::new());
    for line in &lines {
        let (name, start) = (line[0], number(line[1]));
        let base = name.rsplit_once('/').unwrap().0;
        let ours = decode_rgb(&pack[start..start + number(line[2])], &Limits::default());
        let theirs = (line.len() > 3).then(|| {
            let (width, height, at) = (number(line[3]), number(line[4]), number(line[5]));
            (width, height, &pack[at..at + width * height * 3])
        });
        let known = KNOWN.iter().any(|(begin, part, _)| name.starts_with(begin) && name.contains(part));
        let entry = tally.entry(base).or_default();
        entry[0] += 1;
        entry[1] += usize::from(theirs.is_some());
        match (ours, theirs) {
            (Err(_), None) => {}
            (Ok(ours), Some((width, height, rgb))) => {
                let same = ours.pixels == rgb;
                let size = (ours.width as usize, ours.height as usize);
                // The next picture's buffer: what it leaves unwritten would show.
                recycle(Rgb8 { pixels: ours.pixels.iter().map(|value| !value).collect(), ..ours });
                if (size != (width, height) || !same) && !known {
                    entry[2] += 1;
                    complaints.push(format!("{name}: other pixels"));
                }
            }
            _ if known => entry[3] += 1,
            // libjpeg gets over these in its own way.
            (Err(error), Some(_)) if GOT_OVER.iter().any(|damage| error.to_string().contains(damage)) => entry[3] += 1,
            (Ok(_), None) => complaints.push(format!("{name}: refused by Pillow alone")),
            (Err(error), Some(_)) => complaints.push(format!("{name}: read by Pillow alone ({error})")),
        }
    }
    for (base, [asked, read, _, known]) in &tally {
        eprintln!("{base}: {asked} asked, {read} read by Pillow, {known} known to differ");
    }
    if let Some(to) = std::env::var_os("TROMMEL_PEER_OUT") {
        std::fs::write(to, complaints.join("\n")).unwrap();
    }
    assert!(complaints.is_empty(), "{}: {:#?}", complaints.len(), &complaints[..complaints.len().min(60)]);
    assert!(tally.values().all(|&[asked, read, ..]| asked > read && read > 0), "{tally:?}");
}
