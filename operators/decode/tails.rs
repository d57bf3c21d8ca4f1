//! Pictures that end in odd ways, tens of thousands of them, beside Pillow: `tests/peers/tails.py` makes them and says what
//! Pillow reads of each. What Pillow refuses is refused here, what it reads is read, and with its pixels.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::peers::fits;
use super::*;

/// Where we knowingly differ, and in how many pictures at most.
#[derive(Debug)]
struct Known {
    kind: &'static str,
    base: &'static str,
    change: &'static str,
    /// A part of what is said of the difference.
    how: &'static str,
    most: usize,
}

const fn known(kind: &'static str, base: &'static str, change: &'static str, how: &'static str, most: usize) -> Known {
    Known { kind, base, change, how, most }
}

const KNOWN: [Known; 15] = [
    // Frame data outside of an animation: Pillow counts some of it as pixels.
    known("PNG", "*", "*_is_b'fdAT'", REFUSED_THERE, 22),
    // A second header behind the pixels.
    known("PNG", "*", "*_is_b'IHDR'", REFUSED_THERE, 17),
    // A stream that ends by itself between two rows: Pillow leaves the others black.
    known("PNG", "*", "rows_end_at*", READ_THERE, 11),
    // A palette of a wrong length where none is needed, and a second one.
    known("PNG", "grey_key", "tRNS33_is_b'PLTE'", READ_THERE, 1),
    known("PNG", "palette_alpha", "tRNS93_is_b'PLTE'", READ_THERE, 1),
    // All pixels are there, and a byte of the end code's block is not.
    known("GIF", "*", "cut3", REFUSED_THERE, 6),
    known("GIF", "animated", "cut574", REFUSED_THERE, 1),
    // Chunks that only an animation's later frames need.
    known("PNG", "animated", "acTL33_crc", REFUSED_THERE, 1),
    known("PNG", "animated", "fcTL*", REFUSED_THERE, 8),
    // Without a first frame Pillow shows the second.
    known("PNG", "animated", "IDAT91_*", READ_THERE, 6),
    // Pillow shows the indices of a palette that is not there.
    known("PNG", "palette", "PLTE33_*", READ_THERE, 5),
    // The checksum of transparency, which is dropped.
    known("PNG", "*_key", "tRNS33_crc", REFUSED_THERE, 2),
    known("PNG", "palette_alpha", "tRNS93_crc", REFUSED_THERE, 1),
    // Damage that libjpeg gets over in its own way.
    known("JPEG", "*", "*", "Huffman code", 38),
    known("JPEG", "*", "*", "restart markers out of order", 190),
];

const REFUSED_THERE: &str = "refused by Pillow alone";
const READ_THERE: &str = "read by Pillow alone";

#[test]
fn odd_ends_are_as_in_pillow() {
    let Some(python) = crate::skipped::peer("Pillow and numpy") else { return };
    let out = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/tails.py");
    let output = Command::new(python).arg(script).arg(out.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    let pack = std::fs::read(out.path().join("pack")).unwrap();
    let index = std::fs::read_to_string(out.path().join("index.tsv")).unwrap();
    let lines: Vec<Vec<&str>> = index.lines().map(|line| line.split('\t').collect()).collect();
    let number = |text: &str| text.parse::<usize>().unwrap();
    let mut times = [0; KNOWN.len()];
    let (mut tally, mut complaints) = (BTreeMap::<_, [usize; 3]>::new(), Vec::new());
    for line in &lines {
        let (name, start) = (line[0], number(line[1]));
        let base = name.rsplit_once('/').unwrap().0;
        let ours = decode_rgb(&pack[start..start + number(line[2])], &Limits::default());
        let theirs = (line.len() > 3).then(|| {
            let (width, height, at) = (number(line[3]), number(line[4]), number(line[5]));
            (width, height, &pack[at..at + width * height * 3])
        });
        let entry = tally.entry(base).or_default();
        entry[0] += 1;
        entry[1] += usize::from(theirs.is_some());
        let difference = match (ours, theirs) {
            (Err(_), None) => continue,
            (Ok(ours), Some((width, height, rgb))) => {
                let same = (ours.width as usize, ours.height as usize) == (width, height) && ours.pixels == rgb;
                // The next picture's buffer: what it leaves unwritten would show.
                recycle(Rgb8 { pixels: ours.pixels.iter().map(|value| !value).collect(), ..ours });
                if same {
                    continue;
                }
                "other pixels".to_owned()
            }
            (Ok(_), None) => REFUSED_THERE.to_owned(),
            (Err(error), Some(_)) => format!("{READ_THERE} ({error})"),
        };
        let [kind, of, change] = name.split('/').collect::<Vec<_>>()[..] else { panic!("{name}") };
        let is_known =
            |it: &Known| kind == it.kind && fits(it.base, of) && fits(it.change, change) && difference.contains(it.how);
        match KNOWN.iter().position(is_known) {
            Some(at) => {
                entry[2] += 1;
                times[at] += 1;
            }
            None => complaints.push(format!("{name}: {difference}")),
        }
    }
    for (base, [asked, read, known]) in &tally {
        eprintln!("{base}: {asked} asked, {read} read by Pillow, {known} known to differ");
    }
    if let Some(to) = std::env::var_os("TROMMEL_PEER_OUT") {
        std::fs::write(to, complaints.join("\n")).unwrap();
    }
    assert!(complaints.is_empty(), "{}: {:#?}", complaints.len(), &complaints[..complaints.len().min(60)]);
    let other: Vec<_> = KNOWN.iter().zip(times).filter(|(known, times)| !(1..=known.most).contains(times)).collect();
    assert!(other.is_empty(), "known, and not so often: {other:#?}");
    assert!(tally.values().all(|&[asked, read, ..]| asked > read && read > 0), "{tally:?}");
}
