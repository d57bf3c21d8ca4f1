#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use super::*;

fn small() -> SynthConfig {
    SynthConfig {
        shards: 2,
        samples: 60,
        size_pixels: 48,
        benchmark_pictures_per_class: 2,
        reference_pictures_per_class: 1,
        planted_share: 0.3,
        broken_share: 0.1,
        odd_caption_share: 0.4,
        ..SynthConfig::default()
    }
}

fn tree(root: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                files.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// A disk that was full, or a kill, before the settings were there.
#[test]
fn what_was_stopped_at_its_first_file_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join("synth.json.aside");
    fs::write(&begun, "{").unwrap();
    write(folder.path(), &small()).unwrap();
    assert!(!begun.exists() && folder.path().join("synth.json").exists());
}

#[test]
fn equal_settings_give_equal_bytes() {
    let (a, b, c) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let summary = write(a.path(), &small()).unwrap();
    assert_eq!(summary, write(b.path(), &small()).unwrap());
    assert_eq!(tree(a.path()), tree(b.path()));
    assert_eq!(summary, write(a.path(), &small()).unwrap(), "written over itself");
    assert_eq!(tree(a.path()), tree(b.path()));
    let other = SynthConfig { seed: 1, ..small() };
    write(c.path(), &other).unwrap();
    let (ours, theirs) = (tree(a.path()), tree(c.path()));
    let pictures = |t: &[(String, Vec<u8>)]| t.iter().filter(|f| f.0.ends_with(".jpg")).cloned().collect::<Vec<_>>();
    for (one, two) in pictures(&ours).iter().zip(&pictures(&theirs)) {
        assert_eq!(one.0, two.0);
        assert_ne!(one.1, two.1, "{} is the same under another seed", one.0);
    }
    assert!(matches!(write(a.path(), &other), Err(SynthError::Occupied { .. })));
}

#[test]
fn pixels_are_pinned() {
    // FNV-1a over one picture of each kind: any machine, any thread, any day.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for class in Class::ALL {
        for rendition in Rendition::ALL {
            for byte in draw(class, rendition, 42, 40).pixels {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
    }
    assert_eq!(hash, PINNED, "the drawings changed: {hash:#x}");
}

const PINNED: u64 = 0x510c_2ce0_1c3c_bae5;

/// Members by key, in the tar's order, by an independent reader.
fn read_shard(path: &Path) -> Vec<(String, HashMap<String, Vec<u8>>)> {
    let mut samples: Vec<(String, HashMap<String, Vec<u8>>)> = Vec::new();
    for entry in ::tar::Archive::new(fs::File::open(path).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.mode().unwrap()), (0, 0o444));
        assert_eq!(header.username().unwrap(), Some("bigdata"));
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let (key, extension) = name.split_once('.').unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if samples.last().is_none_or(|s| s.0 != key) {
            samples.push((key.to_owned(), HashMap::new()));
        }
        assert!(samples.last_mut().unwrap().1.insert(extension.to_owned(), bytes).is_none());
    }
    samples
}

fn grey(bytes: &[u8]) -> Vec<f64> {
    let picture = image::load_from_memory(bytes).unwrap();
    let small = image::imageops::resize(&picture.to_luma8(), 24, 24, image::imageops::FilterType::Triangle);
    small.into_raw().into_iter().map(f64::from).collect()
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let product =
        |x: &[f64], mx: f64, y: &[f64], my: f64| x.iter().zip(y).map(|(p, q)| (p - mx) * (q - my)).sum::<f64>();
    product(a, ma, b, mb) / (product(a, ma, a, ma) * product(b, mb, b, mb)).sqrt().max(1e-9)
}

#[test]
fn layout_and_truth_hold() {
    let dir = tempfile::tempdir().unwrap();
    let config = small();
    let summary = write(dir.path(), &config).unwrap();
    let truth: Vec<Truth> = fs::read_to_string(dir.path().join("truth.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(truth.len() as u64, summary.planted + summary.broken);
    let truth: HashMap<&str, &Truth> = truth.iter().map(|line| (line.key.as_str(), line)).collect();
    let mut kinds: HashMap<&str, u32> = HashMap::new();
    let mut seen = 0;
    for shard in 0..config.shards {
        let stats = fs::read(dir.path().join(format!("shards/{shard:05}_stats.json"))).unwrap();
        let stats: serde_json::Value = serde_json::from_slice(&stats).unwrap();
        assert_eq!(stats["successes"], config.samples);
        for (row, (key, members)) in read_shard(&dir.path().join(format!("shards/{shard:05}.tar"))).iter().enumerate() {
            seen += 1;
            assert_eq!(*key, format!("{:09}", shard * 10_000 + row as u32));
            assert!(members["json"].is_ascii());
            let json: serde_json::Value = serde_json::from_slice(&members["json"]).unwrap();
            assert_eq!(json["key"], *key);
            assert_eq!(json["status"], "success");
            assert_eq!(json["uid"].as_str().unwrap().len(), 32);
            assert_eq!(json["caption"].as_str().unwrap_or_default().as_bytes(), members["txt"]);
            let line = truth.get(key.as_str());
            if let Some(line) = line {
                *kinds.entry(&line.kind).or_default() += 1;
                assert_eq!(line.shard, format!("{shard:05}.tar"));
            }
            match line.map(|line| line.kind.as_str()) {
                Some("no_image") => assert!(!members.contains_key("jpg")),
                Some("truncated") => assert!(!members["jpg"].ends_with(&[0xff, 0xd9])),
                kind => {
                    let jpg = &members["jpg"];
                    let picture = image::load_from_memory(jpg).unwrap();
                    assert_eq!((json["width"].as_u64(), json["height"].as_u64()), {
                        (Some(picture.width().into()), Some(picture.height().into()))
                    });
                    if let Some(kind) = kind {
                        let (benchmark, picture) =
                            (line.unwrap().benchmark.clone().unwrap(), line.unwrap().picture.clone().unwrap());
                        let original = fs::read(dir.path().join("benchmarks").join(benchmark).join(picture)).unwrap();
                        assert_eq!(kind == "exact", original == *jpg, "{key} {kind}");
                        let likeness = correlation(&grey(&original), &grey(jpg));
                        let least = if kind == "cropped" { 0.7 } else { 0.97 };
                        assert!(likeness > least, "{key} {kind}: correlation {likeness}");
                    }
                }
            }
        }
    }
    assert_eq!(seen, summary.samples);
    for kind in ["exact", "recompressed", "resized", "cropped", "brightness", "truncated", "no_image"] {
        assert!(kinds.contains_key(kind), "no {kind} among {kinds:?}");
    }
}

/// Coarse pictures: brightness and its local contrast over a 12 x 12 grid, mean removed.
fn features(picture: &Picture) -> Vec<f64> {
    let grid = 12;
    let (w, h) = (picture.width as usize, picture.height as usize);
    let luma = |x: usize, y: usize| {
        let at = (y * w + x) * 3;
        picture.pixels[at..at + 3].iter().map(|v| f64::from(*v)).sum::<f64>() / 3.0
    };
    let mut out = vec![0.0; grid * grid * 2];
    for y in 0..h - 1 {
        for x in 0..w - 1 {
            let cell = (y * grid / h) * grid + x * grid / w;
            out[cell] += luma(x, y) * 0.3;
            out[grid * grid + cell] += (luma(x, y) - luma(x + 1, y)).abs() + (luma(x, y) - luma(x, y + 1)).abs();
        }
    }
    let half = grid * grid;
    for part in [0..half, half..2 * half] {
        let mean = out[part.clone()].iter().sum::<f64>() / half as f64;
        let norm = out[part.clone()].iter().map(|v| (v - mean) * (v - mean)).sum::<f64>().sqrt().max(1e-9);
        out[part].iter_mut().for_each(|v| *v = (*v - mean) / norm);
    }
    out
}

#[test]
fn labels_mean_something() {
    let (train, test) = (24u64, 8u64);
    for rendition in Rendition::ALL {
        let of = |class, seed| features(&draw(class, rendition, seed, 48));
        let centres: Vec<Vec<f64>> = Class::ALL
            .iter()
            .map(|class| {
                let all: Vec<_> = (0..train).map(|seed| of(*class, seed)).collect();
                (0..all[0].len()).map(|i| all.iter().map(|v| v[i]).sum::<f64>() / train as f64).collect()
            })
            .collect();
        let mut right = 0;
        for (label, class) in Class::ALL.iter().enumerate() {
            for seed in 0..test {
                let v = of(*class, 1000 + seed);
                let near = |c: &Vec<f64>| c.iter().zip(&v).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
                let best = (0..centres.len()).min_by(|a, b| near(&centres[*a]).total_cmp(&near(&centres[*b]))).unwrap();
                right += u32::from(best == label);
            }
        }
        let share = f64::from(right) / (test * Class::ALL.len() as u64) as f64;
        // Chance is one in twelve.
        assert!(share > 0.3, "{}: {:.0} % right", rendition.name(), share * 100.0);
    }
}

#[test]
fn settings_are_checked() {
    let wrong = [
        SynthConfig { size_pixels: 4, ..small() },
        SynthConfig { planted_share: 1.5, ..small() },
        SynthConfig { mixture: [0.0; 4], ..small() },
        SynthConfig { benchmark_pictures_per_class: 0, ..small() },
    ];
    for config in wrong {
        assert!(matches!(config.validate(), Err(SynthError::Config { .. })), "{config:?}");
    }
    assert!(serde_json::from_str::<SynthConfig>(r#"{"sampels": 3}"#).is_err());
}

/// `TROMMEL_CONTACT_SHEETS=FOLDER` writes what there is to see.
#[test]
fn contact_sheets() {
    let Some(folder) = std::env::var_os("TROMMEL_CONTACT_SHEETS") else {
        eprintln!("skipped: set TROMMEL_CONTACT_SHEETS to a folder for sheets of all drawings");
        return;
    };
    let (size, columns) = (96u32, 10u32);
    for rendition in Rendition::ALL {
        let start = std::time::Instant::now();
        let mut sheet = image::RgbImage::new(columns * size, Class::ALL.len() as u32 * size);
        for (row, class) in Class::ALL.iter().enumerate() {
            for column in 0..columns {
                let p = draw(*class, rendition, u64::from(column), size);
                let tile = image::RgbImage::from_raw(p.width, p.height, p.pixels).unwrap();
                image::imageops::replace(&mut sheet, &tile, i64::from(column * size), row as i64 * i64::from(size));
            }
        }
        eprintln!("{}: {:?} for {} pictures", rendition.name(), start.elapsed(), columns as usize * Class::ALL.len());
        sheet.save(Path::new(&folder).join(format!("{}.png", rendition.name()))).unwrap();
    }
}
