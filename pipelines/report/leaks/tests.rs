//! Leaks in small random worlds, counted once more by comparing every vector with every other one and every caption word by word.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::f16;
use serde_json::json;
use trommel_columnar::embeddings::{EmbeddingHead, EmbeddingSet};
use trommel_core::sample::{Fate, PointRow, SampleId, SampleInfo, Score, Status};
use trommel_ledger::part::PartConfig;
use trommel_ledger::run_folder::RunConfig;
use trommel_report::{Cell, PairTile, Report};
use trommel_shard::plan::{Plan, ShardRef};

use crate::past_run::tests::commit;
use crate::report::{ReportOptions, gather};

const DIM: usize = 6;
const POINTS: usize = 30;
const SHARDS: u64 = 3;
const SAMPLES: u32 = 40;
const CLASSES: [&str; 5] = ["Great_White shark", "tench", "hen", "car", "n01440764"];
const CAPTIONS: [&str; 6] =
    ["a tench, no Great  WHITE shark.", "My Tench!", "a hen-house", "white shark, scar, two hens", "the CAR", ""];

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn vector(&mut self) -> Vec<f64> {
        (0..DIM).map(|_| self.below(2001) as f64 - 1000.0).collect()
    }
}

fn unit(vector: &[f64]) -> Vec<f16> {
    let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    vector.iter().map(|x| f16::from_f64(x / norm)).collect()
}

fn product(a: &[f16], b: &[f16]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

#[derive(Clone)]
struct Benchmark {
    name: &'static str,
    vectors: Vec<Vec<f16>>,
    labels: Vec<Option<String>>,
    radii: Option<Vec<f64>>,
}

#[derive(Clone)]
struct Sample {
    id: SampleId,
    vector: Vec<f16>,
    caption: &'static str,
    kept: bool,
}

/// What may be otherwise.
#[derive(Clone, Copy)]
struct Made {
    rule: &'static str,
    limit: fn(Option<f64>) -> f64,
    embeddings: bool,
    columns: &'static str,
    layout: Layout,
}

/// How samples are laid out.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    /// img2dataset's `--output_format webdataset`: `00000.tar` with `000000000.jpg`, `.txt`, `.json`.
    Tars,
    /// Its `--output_format files`: the same members in a folder `00000`.
    Files,
    /// Not img2dataset's: pictures alone, in folders called after [`CLASSES`].
    Classes,
}

impl Layout {
    fn shard(self, ordinal: u64) -> String {
        match self {
            Self::Tars => format!("{ordinal:05}.tar"),
            Self::Files => format!("{ordinal:05}"),
            Self::Classes => CLASSES[ordinal as usize].into(),
        }
    }

    fn key(self, id: SampleId) -> String {
        let name = format!("{:05}{:04}", id.ordinal, id.index);
        match self {
            Self::Tars => name,
            Self::Files | Self::Classes => format!("{}/{name}.jpg", self.shard(id.ordinal)),
        }
    }
}

/// Members of a sample, as img2dataset writes them: without a caption there is no text, and the json has a null. Some have their captions
/// in the json alone, as it writes those whose texts nobody asked for.
fn members(sample: &Sample, layout: Layout) -> Vec<(&'static str, String)> {
    let picture = ("jpg", "a picture".to_owned());
    if layout == Layout::Classes {
        return vec![picture];
    }
    let caption = Some(sample.caption).filter(|caption| !caption.is_empty());
    let json = json!({ "uid": sample.id.index, "caption": caption, "status": "success" }).to_string();
    let text = caption.filter(|_| !sample.id.index.is_multiple_of(3)).map(|caption| ("txt", caption.to_owned()));
    [picture, ("json", json)].into_iter().chain(text).collect()
}

/// Copies and near copies among points and samples; some radii are a copy's own product.
fn world(random: &mut Random, made: Made) -> (Vec<Benchmark>, Vec<Sample>) {
    let near = |random: &mut Random, to: &[f16]| {
        let noise = random.vector();
        unit(&to.iter().zip(noise).map(|(x, noise)| x.to_f64() + noise * 1e-4).collect::<Vec<f64>>())
    };
    let mut benchmarks = Vec::new();
    for name in ["named", "numbered"] {
        let mut vectors: Vec<Vec<f16>> = Vec::new();
        for point in 0..POINTS {
            let other = random.below(POINTS as u64) as usize % point.max(1);
            vectors.push(match random.below(6) {
                0 if point > 0 => vectors[other].clone(),
                1 if point > 0 => near(random, &vectors[other].clone()),
                _ => unit(&random.vector()),
            });
        }
        let label = |random: &mut Random| match name {
            "named" => (random.below(8) > 0).then(|| CLASSES[random.below(5) as usize].to_owned()),
            _ => Some(random.below(9).to_string()),
        };
        let labels = (0..POINTS).map(|_| label(random)).collect();
        let radius = |random: &mut Random, own: &[f16]| match random.below(3) {
            0 => product(own, own),
            _ => 0.8 + random.below(1900) as f64 * 1e-4,
        };
        let radii = (made.rule == "drop-over-radius" || name == "numbered")
            .then(|| vectors.iter().map(|own| radius(random, own)).collect());
        benchmarks.push(Benchmark { name, vectors, labels, radii });
    }
    let mut samples = Vec::new();
    for ordinal in 0..SHARDS {
        for index in 0..SAMPLES {
            let point = benchmarks[random.below(2) as usize].vectors[random.below(POINTS as u64) as usize].clone();
            let vector = match random.below(4) {
                0 => point,
                1 => near(random, &point),
                _ => unit(&random.vector()),
            };
            let caption = CAPTIONS[random.below(6) as usize];
            samples.push(Sample { id: SampleId { ordinal, index }, vector, caption, kept: random.below(3) > 0 });
        }
    }
    if made.rule != "random:50%" {
        for sample in &mut samples {
            let over = |benchmark: &Benchmark| {
                let of = |point: usize| (made.limit)(benchmark.radii.as_ref().map(|radii| radii[point]));
                (0..POINTS).any(|point| product(&sample.vector, &benchmark.vectors[point]) > of(point))
            };
            sample.kept = !over(&benchmarks[0]);
        }
    }
    (benchmarks, samples)
}

fn fate(sample: &Sample, benchmarks: &[Benchmark], (offset, size): (u64, u64), made: Made) -> Fate {
    let score = |benchmark: &Benchmark| {
        let s: Vec<f64> = benchmark.vectors.iter().map(|point| product(&sample.vector, point)).collect();
        let first = |values: &[f64]| {
            (0..values.len()).rev().max_by(|&a, &b| values[a].total_cmp(&values[b])).map(|at| (at as u32, values[at]))
        };
        let margins = benchmark.radii.as_ref().map(|radii| s.iter().zip(radii).map(|(s, r)| s - r).collect::<Vec<_>>());
        let margin = margins.as_ref().and_then(|margins| first(margins));
        let nearest = first(&s).filter(|_| made.columns == "all");
        Score {
            max_similarity: nearest.map(|it| it.1),
            nearest: nearest.map(|it| it.0),
            margin: margin.map(|it| it.1),
            exceeds: margin.map(|it| it.0),
            hits: margins.map(|margins| margins.iter().filter(|margin| **margin > 0.0).count() as u32),
        }
    };
    let info = SampleInfo { id: sample.id, key: made.layout.key(sample.id), offset, size, ..SampleInfo::default() };
    Fate {
        info: Arc::new(info),
        status: if sample.kept { Status::Kept } else { Status::Dropped },
        reason: None,
        scores: benchmarks.iter().map(score).collect(),
        embedding: made.embeddings.then(|| sample.vector.clone()),
    }
}

fn items(samples: &[&Sample], benchmarks: &[Benchmark], made: Made) -> Vec<PointRow> {
    let mut rows = Vec::new();
    for (at, benchmark) in benchmarks.iter().enumerate() {
        for (point, vector) in benchmark.vectors.iter().enumerate() {
            let most = |kept: bool| {
                let mine = samples.iter().filter(|sample| !kept || sample.kept);
                let all = mine.map(|sample| (product(&sample.vector, vector), sample.id));
                all.rev().max_by(|a, b| a.0.total_cmp(&b.0)).filter(|_| made.columns == "all")
            };
            let over = |radius: f64| samples.iter().filter(|sample| product(&sample.vector, vector) > radius).count();
            let (pool, kept) = (most(false), most(true));
            rows.push(PointRow {
                benchmark: at as u16,
                point: point as u32,
                max_similarity: pool.map(|it| it.0),
                sample: pool.map(|it| it.1),
                hits: benchmark.radii.as_ref().map_or(0, |radii| over(radii[point]) as u64),
                kept_max: kept.map(|it| it.0),
                kept_sample: kept.map(|it| it.1),
            });
        }
    }
    rows
}

fn write(root: &Path, benchmarks: &[Benchmark], samples: &[Sample], made: Made) -> PathBuf {
    std::fs::create_dir_all(root).unwrap();
    for benchmark in benchmarks.iter().filter(|benchmark| !root.join(benchmark.name).exists()) {
        let set = EmbeddingSet {
            dim: DIM,
            vectors: benchmark.vectors.concat(),
            keys: (0..POINTS).map(|point| point.to_string()).collect(),
            labels: benchmark.labels.clone(),
            shards: vec![None; POINTS],
            indices: vec![None; POINTS],
            radii: benchmark.radii.clone(),
            ..EmbeddingSet::default()
        };
        set.write(&root.join(benchmark.name), BTreeMap::new()).unwrap();
    }
    let (mut plan, mut shards) = (Plan::default(), Vec::new());
    for ordinal in 0..SHARDS {
        let mine: Vec<&Sample> = samples.iter().filter(|sample| sample.id.ordinal == ordinal).collect();
        let (mut tar, mut at, mut fates) = (tar::Builder::new(Vec::new()), 0, Vec::new());
        let name = made.layout.shard(ordinal);
        let url = root.join(&name);
        if made.layout != Layout::Tars {
            std::fs::create_dir_all(&url).unwrap();
        }
        for sample in &mine {
            let members = members(sample, made.layout);
            let size = members.iter().map(|(_, bytes)| bytes.len() as u64).sum();
            fates.push(Arc::new(fate(sample, benchmarks, (at, size), made)));
            for (kind, bytes) in members {
                let name = format!("{}.{kind}", Layout::Tars.key(sample.id));
                if made.layout != Layout::Tars {
                    std::fs::write(url.join(name), bytes).unwrap();
                    continue;
                }
                let mut header = tar::Header::new_ustar();
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, name, bytes.as_bytes()).unwrap();
                at += 512 + (bytes.len() as u64).next_multiple_of(512);
            }
        }
        let bytes = match made.layout {
            Layout::Files | Layout::Classes => mine.len() as u64 * "a picture".len() as u64,
            Layout::Tars => {
                std::fs::write(&url, tar.into_inner().unwrap()).unwrap();
                std::fs::metadata(&url).unwrap().len()
            }
        };
        plan.shards.push(ShardRef { ordinal, name, url: url.display().to_string(), bytes: Some(bytes) });
        shards.push((fates, items(&mine, benchmarks, made)));
    }
    let names: Vec<String> = benchmarks.iter().map(|benchmark| benchmark.name.to_owned()).collect();
    let folders: BTreeMap<&String, PathBuf> = names.iter().map(|name| (name, root.join(name))).collect();
    let config = RunConfig {
        decisions: json!({
            "rule": made.rule, "rule_seed": 0, "columns": made.columns, "image_keys": ["jpg"], "text_key": "txt",
            "benchmarks": names.iter().map(|name| json!({ "name": name, "points": POINTS })).collect::<Vec<_>>(),
        }),
        numerics: json!({}),
        record: json!({ "folder": root, "benchmarks": folders }),
    };
    let embeddings = made.embeddings.then(|| EmbeddingHead { dim: DIM, ..EmbeddingHead::default() });
    let run = root.join("run");
    commit(&run, &plan, &config, PartConfig { benchmarks: names, embeddings, ..PartConfig::default() }, shards);
    run
}

/// Words of a text, as somebody would say them.
fn spoken(text: &str) -> Vec<String> {
    let parted: String = text.chars().map(|c| if "_-.,!".contains(c) { ' ' } else { c }).collect();
    parted.to_lowercase().split_whitespace().map(String::from).collect()
}

/// Leaked, exact, near, full, image only, not known.
fn count(benchmark: &Benchmark, limits: &[f64], samples: &[&Sample]) -> [u64; 6] {
    let mut counts = [0; 6];
    for (point, vector) in benchmark.vectors.iter().enumerate() {
        let exact = samples.iter().any(|sample| sample.vector == *vector);
        let over = samples.iter().any(|sample| product(&sample.vector, vector) > limits[point]);
        if !exact && !over {
            continue;
        }
        counts[0] += 1;
        counts[if exact { 1 } else { 2 }] += 1;
        let nearest = samples.iter().fold(None::<&Sample>, |best, sample| match best {
            Some(best) if product(&best.vector, vector) >= product(&sample.vector, vector) => Some(best),
            _ => Some(sample),
        });
        let class = benchmark.labels[point].clone().filter(|label| CLASSES[..4].contains(&label.as_str()));
        counts[3 + match class.map(|class| spoken(&class)) {
            None => 2,
            Some(class) => {
                let caption = spoken(nearest.unwrap().caption);
                usize::from(!caption.windows(class.len()).any(|words| words == class))
            }
        }] += 1;
    }
    counts
}

/// Exact and near among the benchmark's own points.
fn count_inside(benchmark: &Benchmark, limits: &[f64]) -> [u64; 3] {
    let mut counts = [0; 3];
    for (point, vector) in benchmark.vectors.iter().enumerate() {
        let mut others = benchmark.vectors.clone();
        others.remove(point);
        let exact = others.contains(vector);
        if exact || others.iter().any(|other| product(other, vector) > limits[point]) {
            counts[0] += 1;
            counts[if exact { 1 } else { 2 }] += 1;
        }
    }
    counts
}

/// Rows of the table by benchmark and set, without what needs no counting; and what is not known.
type Told = (BTreeMap<(String, String), Vec<Cell>>, Vec<Vec<String>>);

fn told(run: &Path) -> Told {
    let report = gather(run, &ReportOptions::default()).unwrap().report;
    let rows = |name: &str| report.tables.iter().find(|table| table.name == name).unwrap().rows.clone();
    let text = |cell: &Cell| if let Cell::Text(text) = cell { text.clone() } else { panic!("{cell:?}") };
    let mut leaks = BTreeMap::new();
    for mut row in rows("leaks") {
        assert_eq!(row.remove(3), Cell::Count(POINTS as u64));
        let share = row.remove(4);
        assert_eq!(share, if let Cell::Count(n) = row[3] { Cell::Share(n, POINTS as u64) } else { Cell::Missing });
        leaks.insert((text(&row[0]), text(&row[1])), row.split_off(3));
    }
    assert_eq!(leaks.len(), 6);
    (leaks, rows("leaks_unknown").iter().map(|row| row.iter().map(text).collect()).collect())
}

fn radius(radius: Option<f64>) -> f64 {
    radius.unwrap()
}

const RADII: Made =
    Made { rule: "drop-over-radius", limit: radius, embeddings: true, columns: "all", layout: Layout::Tars };

#[test]
fn every_leak_is_counted_as_comparing_all_pairs_counts_it() {
    let above = |_| 0.97;
    let from = |_| 0.97f64.next_down();
    let rules = [
        RADII,
        Made { rule: "drop-above:0.97@named", limit: above, ..RADII },
        Made { rule: "drop-from:0.97@named", limit: from, ..RADII },
        Made { rule: "random:50%", ..RADII },
    ];
    let mut sums = [[0; 6]; 2];
    for seed in 0..24 {
        let (mut random, made) = (Random(seed), rules[seed as usize % 4]);
        let root = tempfile::tempdir().unwrap();
        let (benchmarks, samples) = world(&mut random, made);
        let (leaks, unknown) = told(&write(root.path(), &benchmarks, &samples, made));
        for (at, benchmark) in benchmarks.iter().enumerate() {
            // The rule's threshold, where it looks at this benchmark; else its radii.
            let of_rule = at == 0 || made.rule == "drop-over-radius";
            let limit = |radius: Option<f64>| if of_rule { (made.limit)(radius) } else { radius.unwrap() };
            let of = |set: &str| leaks[&(benchmark.name.to_owned(), set.to_owned())].clone();
            if of_rule && made.rule == "random:50%" {
                // Without radii and threshold nothing is near, and copies are copies.
                let copies = count(benchmark, &[9.0; POINTS], &samples.iter().collect::<Vec<_>>())[1];
                assert_eq!(of("pool")[..3], [Cell::Missing, Cell::Count(copies), Cell::Missing]);
                assert!(unknown.iter().any(|row| row[1] == "near" && row[3].contains("trommel radii")), "{unknown:?}");
                continue;
            }
            let limits: Vec<f64> =
                (0..POINTS).map(|point| limit(benchmark.radii.as_ref().map(|radii| radii[point]))).collect();
            for (set, kept) in [("pool", false), ("kept", true)] {
                let mine: Vec<&Sample> = samples.iter().filter(|sample| !kept || sample.kept).collect();
                let due = count(benchmark, &limits, &mine);
                assert_eq!(of(set), due.map(Cell::Count), "seed {seed}, {} in {set}", benchmark.name);
                sums[usize::from(kept)].iter_mut().zip(due).for_each(|(sum, count)| *sum += count);
            }
            let inside = count_inside(benchmark, &limits).map(Cell::Count);
            assert_eq!(of("itself")[..3], inside, "seed {seed}, {}", benchmark.name);
            assert_eq!(of("itself")[3..], [Cell::Missing, Cell::Missing, Cell::Missing]);
        }
    }
    // The worlds have leaks of every kind, and of every kind among what is kept: copies no nearer than the reference's.
    assert!(sums.iter().flatten().all(|sum| *sum > 0), "{sums:?}");
}

/// Points that were embedded from shards are called by their captions there.
#[test]
fn captions_of_a_benchmark_leak_too() {
    let made = Made { rule: "drop-above:0.97@named", limit: |_| 0.97, ..RADII };
    let mut sums = [0; 6];
    for seed in 0..8 {
        let (mut random, root) = (Random(seed), tempfile::tempdir().unwrap());
        let (mut benchmarks, samples) = world(&mut random, made);
        let (named, each) = (&mut benchmarks[0], POINTS as u64 / SHARDS);
        let points: Vec<Sample> = (0..)
            .zip(&named.vectors)
            .map(|(point, vector)| Sample {
                id: SampleId { ordinal: point / each, index: (point % each) as u32 },
                vector: vector.clone(),
                caption: CAPTIONS[random.below(6) as usize],
                kept: true,
            })
            .collect();
        named.labels = vec![None; POINTS];
        let embedded = write(&root.path().join("embedded"), &[], &points, Made { rule: "keep-all", ..RADII });
        std::os::unix::fs::symlink(embedded, root.path().join("named")).unwrap();
        let leaks = told(&write(root.path(), &benchmarks, &samples, made)).0;
        let mut due = [0; 6];
        for point in &points {
            let s = |sample: &Sample| product(&sample.vector, &point.vector);
            let exact = samples.iter().any(|sample| sample.vector == point.vector);
            let most = samples.iter().map(s).fold(f64::MIN, f64::max);
            if !exact && most <= 0.97 {
                continue;
            }
            let nearest = samples.iter().find(|sample| s(sample) == most).unwrap();
            let label = match (spoken(point.caption), spoken(nearest.caption)) {
                (own, _) if own.is_empty() => 5,
                (own, beside) => 3 + usize::from(own != beside),
            };
            [0, if exact { 1 } else { 2 }, label].iter().for_each(|&at| due[at] += 1);
        }
        assert_eq!(leaks[&("named".to_owned(), "pool".to_owned())], due.map(Cell::Count), "seed {seed}");
        sums.iter_mut().zip(due).for_each(|(sum, count)| *sum += count);
    }
    assert!(sums.iter().all(|sum| *sum > 0), "{sums:?}");
}

#[test]
fn what_is_not_known_is_never_none() {
    let cases = [
        (Made { embeddings: false, ..RADII }, "the run kept no embeddings", "without --no-embeddings"),
        (Made { columns: "decision", ..RADII }, "no largest similarities", "--columns all"),
    ];
    for (made, why, tells) in cases {
        let root = tempfile::tempdir().unwrap();
        let (benchmarks, samples) = world(&mut Random(7), made);
        let (leaks, unknown) = told(&write(root.path(), &benchmarks, &samples, made));
        for benchmark in &benchmarks {
            let all: Vec<&Sample> = samples.iter().collect();
            let limits = benchmark.radii.clone().unwrap();
            let over = |vector: &[f16], limit: f64| all.iter().any(|sample| product(&sample.vector, vector) > limit);
            let over = benchmark.vectors.iter().zip(&limits).filter(|(vector, limit)| over(vector, **limit)).count();
            let row = &leaks[&(benchmark.name.to_owned(), "pool".to_owned())];
            assert_eq!(row[..3], [Cell::Count(over as u64), Cell::Missing, Cell::Missing], "{why}");
            let [Cell::Count(full), Cell::Count(image_only), Cell::Count(unknown)] = row[3..] else {
                panic!("{row:?}")
            };
            assert_eq!(full + image_only + unknown, over as u64);
            // Nobody knows the nearest sample without largest similarities, nor a number's name.
            assert_eq!(full == 0, made.columns == "decision" || benchmark.name == "numbered");
            let kept = &leaks[&(benchmark.name.to_owned(), "kept".to_owned())];
            assert_eq!(kept[0] == Cell::Missing, made.columns == "decision");
        }
        let said = |what: &str| {
            unknown.iter().filter(|row| row[1] == what).map(|row| row[2..].join(" | ")).collect::<Vec<_>>()
        };
        assert_eq!(said("exact").len(), 2, "{unknown:?}");
        assert!(said("exact").iter().all(|line| line.contains(why) && line.contains(tells)), "{unknown:?}");
        assert!(said("inside the pool")[0].contains("trommel dedup"), "{unknown:?}");
        let labels = said("label").join("\n");
        assert!(labels.contains("labels that are no names") && labels.contains("classnames.txt"), "{labels}");
    }

    let root = tempfile::tempdir().unwrap();
    let (benchmarks, samples) = world(&mut Random(8), RADII);
    let run = write(root.path(), &benchmarks, &samples, RADII);
    // Captions are gone with their shards, and points with their folder.
    (0..SHARDS).for_each(|shard| std::fs::remove_file(root.path().join(Layout::Tars.shard(shard))).unwrap());
    std::fs::remove_dir_all(root.path().join("numbered")).unwrap();
    let (leaks, unknown) = told(&run);
    let of = |name: &str, set: &str| leaks[&(name.to_owned(), set.to_owned())].clone();
    let Cell::Count(leaked) = of("named", "pool")[0] else { panic!("{leaks:?}") };
    assert!(leaked > 0);
    assert_eq!(of("named", "pool")[3..], [0, 0, leaked].map(Cell::Count));
    for set in ["pool", "kept", "itself"] {
        assert_eq!(of("numbered", set), vec![Cell::Missing; 6]);
    }
    assert!(unknown.iter().any(|row| row[0] == "all" && row[2].contains("00000.tar")), "{unknown:?}");
    assert!(unknown.iter().any(|row| row[0] == "numbered" && row[1] == "its points"), "{unknown:?}");
}

/// img2dataset's `files` is its `webdataset`, unpacked: no count and no caption may hang on which of them a run has read.
#[test]
fn files_leak_what_their_tars_leak() {
    for seed in 0..8 {
        let root = tempfile::tempdir().unwrap();
        let (benchmarks, samples) = world(&mut Random(seed), RADII);
        let [tars, files] = [Layout::Tars, Layout::Files].map(|layout| {
            let run = write(&root.path().join(layout.shard(0)), &benchmarks, &samples, Made { layout, ..RADII });
            gather(&run, &ReportOptions::default()).unwrap().report
        });
        let csv = |report: &Report, name: &str| {
            let csv = report.tables.iter().find(|table| table.name == name).unwrap().csv();
            csv.replace(&format!("{}/run", Layout::Tars.shard(0)), "RUN")
                .replace(&format!("{}/run", Layout::Files.shard(0)), "RUN")
        };
        assert_eq!(csv(&tars, "leaks"), csv(&files, "leaks"), "seed {seed}");
        assert_eq!(csv(&tars, "leaks_unknown"), csv(&files, "leaks_unknown"), "seed {seed}");
        for (tars, files) in [(&tars.pairs, &files.pairs), (&tars.kept_pairs, &files.kept_pairs)] {
            let shown = |pairs: &[PairTile]| {
                pairs.iter().map(|pair| (pair.caption.clone(), pair.image.clone())).collect::<Vec<_>>()
            };
            assert_eq!(shown(tars), shown(files), "seed {seed}");
            assert!(tars.iter().any(|pair| !pair.caption.is_empty()) && tars.iter().all(|pair| !pair.image.is_empty()));
        }
    }
}

/// Pictures of class folders are labelled with their folders' names.
#[test]
fn class_folders_leak_their_names() {
    let made = Made { layout: Layout::Classes, ..RADII };
    let mut sums = [0; 6];
    for seed in 0..8 {
        let root = tempfile::tempdir().unwrap();
        let (benchmarks, mut samples) = world(&mut Random(seed), made);
        for sample in &mut samples {
            sample.caption = CLASSES[sample.id.ordinal as usize];
        }
        let leaks = told(&write(root.path(), &benchmarks, &samples, made)).0;
        for benchmark in &benchmarks {
            let due = count(benchmark, benchmark.radii.as_ref().unwrap(), &samples.iter().collect::<Vec<_>>());
            assert_eq!(leaks[&(benchmark.name.to_owned(), "pool".to_owned())], due.map(Cell::Count), "seed {seed}");
            sums.iter_mut().zip(due).for_each(|(sum, count)| *sum += count);
        }
    }
    assert!(sums.iter().all(|sum| *sum > 0), "{sums:?}");
}

/// A caption that is gone since is not none: nobody knows it, and the folder's name does not stand in for it.
#[test]
fn captions_that_are_gone_are_not_known() {
    let root = tempfile::tempdir().unwrap();
    let made = Made { layout: Layout::Files, ..RADII };
    let (benchmarks, samples) = world(&mut Random(8), made);
    let run = write(root.path(), &benchmarks, &samples, made);
    for sample in &samples {
        let path = root.path().join(made.layout.key(sample.id));
        for kind in ["txt", "json"] {
            _ = std::fs::remove_file(path.with_extension(kind));
        }
    }
    let (leaks, unknown) = told(&run);
    let row = &leaks[&("named".to_owned(), "pool".to_owned())];
    let Cell::Count(leaked) = row[0] else { panic!("{row:?}") };
    assert!(leaked > 0);
    assert_eq!(row[3..], [0, 0, leaked].map(Cell::Count));
    let said = |part: &str| unknown.iter().any(|row| row[0] == "all" && row[2].contains(part));
    assert!(said("when it was judged") && said("samples could not be read back"), "{unknown:?}");
}
