//! A small run, made through the ledger's own writer, looked at by `report` and `why`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use half::f16;
use serde_json::json;
use trommel_columnar::embeddings::EmbeddingSet;
use trommel_core::sample::PointRow;
use trommel_core::sample::{Fate, Reason, SampleId, SampleInfo, Score, ShardOutcome, Status};
use trommel_core::stop::Stop;
use trommel_ledger::committer::{Committer, FinishedShard};
use trommel_ledger::part::PartConfig;
use trommel_ledger::run_folder::{Access, OpenOptions, RunConfig, RunFolder};
use trommel_ledger::storage::Disk;
use trommel_report::Cell;
use trommel_shard::plan::{Plan, ShardRef};
use trommel_synth::{Class, Rendition, draw};

use crate::pictures::{small, test_picture};
use crate::report::{ReportOptions, gather, page, picture};
use crate::why::why;

/// A picture as an uncompressed BMP.
fn bmp(class: usize, rendition: Rendition, seed: u64, side: u32) -> Vec<u8> {
    let drawn = draw(Class::ALL[class % Class::ALL.len()], rendition, seed, side);
    let (w, h) = (drawn.width as usize, drawn.height as usize);
    let row = (w * 3).next_multiple_of(4);
    let mut out = b"BM".to_vec();
    for value in [54 + row * h, 0, 54, 40, w, h] {
        out.extend((value as u32).to_le_bytes());
    }
    out.extend([1, 0, 24, 0]);
    out.extend([0; 24]);
    for y in (0..h).rev() {
        for x in 0..w {
            out.extend(drawn.pixels[(y * w + x) * 3..(y * w + x) * 3 + 3].iter().rev());
        }
        out.resize(54 + (h - y) * row, 0);
    }
    out
}

/// Appends a member to a tar and returns where its header stands.
fn member(tar: &mut Vec<u8>, name: &str, data: &[u8]) -> u64 {
    let at = tar.len();
    let mut head = [0u8; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..107].copy_from_slice(b"0000644");
    head[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
    head[136..147].copy_from_slice(b"00000000000");
    head[156] = b'0';
    head[257..265].copy_from_slice(b"ustar\x0000");
    head[148..156].fill(b' ');
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    tar.extend(head);
    tar.extend(data);
    tar.resize(tar.len().next_multiple_of(512), 0);
    at as u64
}

const SAMPLES: u32 = 40;
const POINTS: u32 = 12;

/// Dropped by `photo` when divisible by four; sample 7 is broken; sample 9 has no caption.
fn fate(ordinal: u64, index: u32, offset: u64) -> Fate {
    let info = Arc::new(SampleInfo {
        id: SampleId { ordinal, index },
        key: format!("{index:04}"),
        url: Some(format!("https://pictures.example/{index}.jpg")),
        offset,
        size: 900,
        ..SampleInfo::default()
    });
    let (status, reason) = match index {
        7 => (Status::Rejected, Some(Reason::new("image_truncated", "JPEG ends early"))),
        9 => (Status::Kept, Some(Reason::new("no_caption", ""))),
        i if i % 4 == 0 => (Status::Dropped, None),
        _ => (Status::Kept, None),
    };
    let point = index / 4 % POINTS;
    let over = 0.004 * f64::from(index / 4 + 1);
    let photo = if status == Status::Dropped {
        Score {
            max_similarity: Some(radius(point) + over),
            nearest: Some(point),
            margin: Some(over),
            exceeds: Some(point),
            hits: Some(1),
        }
    } else {
        Score {
            max_similarity: Some(0.5 + 0.005 * f64::from(index)),
            nearest: Some(point),
            margin: Some(-0.2),
            exceeds: Some(point),
            hits: Some(0),
        }
    };
    // Judged, though the rule does not look at it, and its folder is gone.
    let gone = Score { max_similarity: Some(0.31), nearest: Some(2), margin: None, exceeds: None, hits: None };
    let scores = if status == Status::Rejected { Vec::new() } else { vec![photo, gone] };
    Fate { info, status, reason, scores, embedding: None }
}

fn radius(point: u32) -> f64 {
    0.85 + 0.005 * f64::from(point)
}

fn items(ordinal: u64) -> Vec<PointRow> {
    let row = |point| PointRow {
        benchmark: 0,
        point,
        max_similarity: Some(if point < 10 { radius(point) + 0.01 } else { 0.6 }),
        sample: Some(SampleId { ordinal, index: point * 4 }),
        hits: u64::from(point < 10),
        kept_max: Some(0.69),
        kept_sample: Some(SampleId { ordinal, index: 39 }),
    };
    (0..POINTS).map(row).collect()
}

/// Two plain shards (one gzip-compressed on request), a benchmark with pictures, a truth file, and the run folder.
fn small_run(root: &Path, compressed: bool) -> PathBuf {
    small_run_with(root, compressed, |fate| fate)
}

/// The same with other fates.
fn small_run_with(root: &Path, compressed: bool, change: fn(Fate) -> Fate) -> PathBuf {
    let shards = root.join("shards");
    let pictures = root.join("photo-pictures");
    std::fs::create_dir_all(&shards).unwrap();
    let mut keys = Vec::new();
    for point in 0..POINTS {
        let key = format!("c{}/{point:04}.bmp", point % 3);
        let path = pictures.join(&key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // One test picture is missing.
        if point != 3 {
            std::fs::write(path, bmp(point as usize, Rendition::Photo, u64::from(point), 48)).unwrap();
        }
        keys.push(key);
    }
    let count = POINTS as usize;
    let set = EmbeddingSet {
        dim: 2,
        vectors: [f16::ONE, f16::ZERO].repeat(count),
        keys,
        labels: vec![None; count],
        shards: vec![None; count],
        indices: vec![None; count],
        radii: Some((0..POINTS).map(radius).collect()),
        ..EmbeddingSet::default()
    };
    let benchmark = root.join("photo");
    let source = BTreeMap::from([("source".to_owned(), pictures.display().to_string())]);
    set.write(&benchmark, source).unwrap();

    let mut plan = Plan::default();
    let mut fates = Vec::new();
    for ordinal in 0..2u64 {
        let mut tar = Vec::new();
        let mut own = Vec::new();
        for index in 0..SAMPLES {
            let image = bmp((index / 4 % POINTS) as usize, Rendition::Photo, u64::from(index / 4 % POINTS), 40);
            let offset = member(&mut tar, &format!("{index:04}.bmp"), &image);
            member(&mut tar, &format!("{index:04}.txt"), format!("caption <{ordinal}> of {index}").as_bytes());
            own.push(Arc::new(change(fate(ordinal, index, offset))));
        }
        tar.resize(tar.len() + 1024, 0);
        let path = shards.join(format!("{ordinal:05}.tar"));
        std::fs::write(&path, &tar).unwrap();
        if compressed {
            assert!(std::process::Command::new("gzip").arg("-f").arg(&path).status().unwrap().success());
            std::fs::rename(path.with_extension("tar.gz"), &path).unwrap();
        }
        let bytes = Some(std::fs::metadata(&path).unwrap().len());
        plan.shards.push(ShardRef {
            ordinal,
            name: format!("s/{ordinal:05}.tar"),
            // As written in a shell that stood in `root`.
            url: format!("shards/{ordinal:05}.tar"),
            bytes,
        });
        fates.push(own);
    }
    plan.shards.push(ShardRef { ordinal: 2, name: "s/late.tar".into(), url: "late.tar".into(), bytes: None });
    let truth = "{\"shard\":\"00000.tar\",\"key\":\"0004\",\"benchmark\":\"photo\",\"picture\":\"c1/0001.bmp\",\"kind\":\"recompressed\"}\n\
                 {\"shard\":\"00001.tar\",\"key\":\"0005\",\"benchmark\":\"photo\",\"picture\":\"c1/0001.bmp\",\"kind\":\"exact\"}\n\
                 {\"shard\":\"00001.tar\",\"key\":\"0007\",\"benchmark\":null,\"picture\":null,\"kind\":\"truncated\"}\n";
    std::fs::write(root.join("truth.jsonl"), truth).unwrap();

    let config = RunConfig {
        decisions: json!({
            "rule": "drop-over-radius@photo", "rule_seed": 0, "columns": "all",
            "benchmarks": [{ "name": "photo", "points": POINTS }, { "name": "gone", "points": 5 }],
            "image_keys": ["jpg", "bmp"], "text_key": "txt", "repeated_members": "new-sample",
        }),
        numerics: json!({}),
        record: json!({ "folder": root.display().to_string(), "benchmarks": {
            "photo": benchmark.display().to_string(), "gone": root.join("gone").display().to_string() } }),
    };
    let run = root.join("run");
    let parts = PartConfig { benchmarks: vec!["photo".into(), "gone".into()], ..PartConfig::default() };
    let shards = fates.into_iter().zip([items(0), items(1)]).collect();
    commit(&run, &plan, &config, parts, shards);
    run
}

/// A run folder of these fates and items, shard by shard, as the ledger writes it.
pub(crate) fn commit(
    run: &Path,
    plan: &Plan,
    config: &RunConfig,
    parts: PartConfig,
    shards: Vec<(Vec<Arc<Fate>>, Vec<PointRow>)>,
) {
    let options = OpenOptions {
        plan,
        extends: |_, _| false,
        config,
        access: Access::Exclusive,
        mix_numerics: false,
        patience: Duration::from_secs(1),
    };
    let folder = Arc::new(RunFolder::open(run, Arc::new(Disk), &options).unwrap());
    let committer = Committer::spawn(folder, parts, Stop::new()).unwrap();
    let handle = committer.handle().unwrap();
    for (ordinal, (fates, items)) in (0..).zip(shards) {
        let (done, answer) = channel();
        let (name, outcome) = (plan.shards[ordinal as usize].name.clone(), ShardOutcome::Complete(None));
        let notices = Default::default();
        let shard = FinishedShard { ordinal, name, fates, items, bytes: 1, outcome, notices };
        handle.commit(shard, Box::new(move |result| done.send(result).unwrap())).unwrap();
        answer.recv().unwrap().unwrap();
    }
    drop(handle);
    committer.finish().unwrap();
}

#[test]
fn a_report_counts_and_shows() {
    let root = tempfile::tempdir().unwrap();
    let run = small_run(root.path(), false);
    let options = ReportOptions {
        pairs_per_benchmark: 6,
        truth: Some(root.path().join("truth.jsonl")),
        ..ReportOptions::default()
    };
    let gathered = gather(&run, &options).unwrap();
    let report = &gathered.report;
    // Of each shard's 40: ten are multiples of four, one is broken.
    assert_eq!((report.kept, report.dropped, report.rejected), (58, 20, 2));
    assert_eq!(report.rejects, [("image_truncated".to_owned(), 2)]);
    let [photo, gone] = report.benchmarks.as_slice() else { panic!("two benchmarks") };
    assert_eq!((photo.points, photo.removed, photo.points_hit), (12, 20, 10));
    assert!((photo.pool_max.unwrap() - (radius(9) + 0.01)).abs() < 1e-12);
    assert_eq!(photo.kept_max, Some(0.69));
    assert_eq!((gone.points, gone.removed, gone.points_hit), (5, 0, 0));
    let series = &report.histograms[0];
    assert_eq!((series.pool.iter().sum::<u64>(), series.dropped.iter().sum::<u64>()), (78, 20));
    assert_eq!(series.radii.iter().sum::<u64>(), 12);

    assert_eq!(report.pairs.len(), 6);
    let margins: Vec<f64> = report.pairs.iter().map(|pair| pair.similarity - pair.radius.unwrap()).collect();
    assert!(margins.is_sorted_by(|a, b| a >= b), "{margins:?}");
    assert!((margins[5] - 0.004).abs() < 1e-12, "the one nearest to its radius is shown: {margins:?}");
    for pair in &report.pairs {
        let index: u32 = pair.key.rsplit('/').next().unwrap().parse().unwrap();
        let point = u64::from(index / 4);
        assert!(pair.image == bmp(point as usize, Rendition::Photo, point, 40), "{}", pair.key);
        let test = bmp(point as usize, Rendition::Photo, point, 48);
        assert!(if point == 3 { pair.test_image.is_empty() } else { pair.test_image == test }, "{}", pair.key);
        assert!(pair.caption.starts_with("caption <") && pair.caption.ends_with(&format!("of {index}")));
        assert_eq!(pair.planted.as_deref(), (pair.key == "s/00000.tar/0004").then_some("recompressed"));
    }
    let planted = gathered.planted.unwrap();
    assert_eq!((planted.planted, planted.planted_dropped), (2, 1));
    assert_eq!((planted.others, planted.others_dropped), (76, 19));
    assert!(gathered.troubles.iter().any(|line| line.starts_with("benchmark gone: ")), "{:?}", gathered.troubles);

    let html = page(&gathered);
    for part in ["20 (10)", "image_truncated", "rule drop-over-radius@photo", "planted copies dropped", "2 judged of 3"]
    {
        assert!(html.contains(part), "{part}");
    }
    assert!(html.contains("data:image/bmp;base64,") && !html.contains("<0>"));
    assert!(picture(&gathered).contains("largest cosine similarity"));
    assert_eq!(page(&gather(&run, &options).unwrap()), html, "equal ledgers, equal pages");
    if let Some(out) = std::env::var_os("TROMMEL_TEST_PAGES") {
        std::fs::write(Path::new(&out).join("report.html"), html).unwrap();
        std::fs::write(Path::new(&out).join("report.svg"), picture(&gathered)).unwrap();
    }
}

/// Each count once more over the fates that were written, in plain comparisons.
#[test]
fn tables_count_what_was_written() {
    let root = tempfile::tempdir().unwrap();
    let report = gather(&small_run(root.path(), false), &ReportOptions::default()).unwrap().report;
    let written: Vec<Fate> =
        (0..2).flat_map(|ordinal| (0..SAMPLES).map(move |index| fate(ordinal, index, 0))).collect();
    let judged: Vec<&Fate> = written.iter().filter(|fate| fate.status != Status::Rejected).collect();
    let count = |is: &dyn Fn(&Fate) -> bool| Cell::Count(judged.iter().filter(|fate| is(fate)).count() as u64);
    let table = |name: &str| report.tables.iter().find(|table| table.name == name).unwrap().rows.clone();

    let shifts = table("shifts");
    assert_eq!(shifts.len(), 11);
    for row in &shifts {
        let Cell::Text(shift) = &row[0] else { panic!("{row:?}") };
        let shift: f64 = shift.parse().unwrap();
        let over = count(&|fate| fate.scores[0].margin.unwrap() > shift);
        assert_eq!(row[1..4], [over.clone(), Cell::Count(0), over], "{shift}");
    }
    let differing: std::collections::BTreeSet<String> = shifts.iter().map(|row| format!("{:?}", row[1])).collect();
    assert!(differing.len() > 3, "the shifts tell samples apart: {differing:?}");
    for row in table("thresholds") {
        let Cell::Number(limit, _) = row[0] else { panic!("{row:?}") };
        let over = |at: usize| count(&|fate| fate.scores[at].max_similarity.unwrap() > limit);
        let any = count(&|fate| fate.scores.iter().any(|score| score.max_similarity.unwrap() > limit));
        assert_eq!(row[1..4], [over(0), over(1), any], "{limit}");
    }
    for row in table("close") {
        let Cell::Text(within) = &row[0] else { panic!("{row:?}") };
        let within: f64 = within.parse().unwrap();
        let near = |status| count(&|fate| fate.status == status && fate.scores[0].margin.unwrap().abs() <= within);
        assert_eq!(row[1..3], [near(Status::Kept), near(Status::Dropped)], "{within}");
    }
    // Ten of twelve points are exceeded in the pool, and none by what is kept; the other benchmark is gone, with its radii.
    let gap = table("gap");
    assert_eq!(gap[0][1..5], [12, 12, 10, 0].map(Cell::Count));
    assert_eq!(gap[0][5], Cell::Number((radius(5) + radius(6)) / 2.0, 4));
    assert_eq!(gap[1][2..5], [Cell::Missing, Cell::Missing, Cell::Missing]);
    assert!(
        report.tables.iter().all(|table| table.name != "overlap"),
        "one benchmark has nothing in common with others"
    );
    let most_hit = table("most_hit");
    assert_eq!(most_hit.len(), 10);
    assert_eq!(most_hit[3][1], Cell::Text("c0/0003.bmp".into()));
    assert_eq!(
        most_hit[3][3..6],
        [Cell::Count(2), Cell::Number(radius(3) + 0.01, 4), Cell::Text("s/00000.tar, sample 12".into())]
    );

    // Kept ones are all as far from their radii: the first ones are shown.
    let keys: Vec<&str> = report.kept_pairs.iter().map(|pair| pair.key.as_str()).collect();
    assert_eq!((keys.len(), keys[0]), (10, "s/00000.tar/0001"));
    assert!(report.kept_pairs.iter().all(|pair| pair.kept && !pair.image.is_empty()));
    let labels: Vec<&str> = report.curves[0].curves.iter().map(|curve| curve.label.as_str()).collect();
    assert_eq!((labels, report.curves.len()), (vec!["reference", "pool", "kept"], 1));
    for table in report.data_tables() {
        let width = table.columns.len();
        assert!(table.rows.iter().all(|row| row.len() == width), "{}", table.name);
    }
}

#[test]
fn another_run_over_the_same_shards_changes_sides() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = small_run(here.path(), false);
    let turned = |fate: Fate| match fate.info.id.index {
        8 => Fate { status: Status::Kept, ..fate },
        9 => Fate { status: Status::Dropped, reason: None, ..fate },
        _ => fate,
    };
    let options = |other: PathBuf| ReportOptions { against: Some(other), ..ReportOptions::default() };
    let beside = |other: PathBuf| {
        let report = gather(&run, &options(other)).unwrap().report;
        let table = |name: &str| report.tables.iter().find(|table| table.name == name).cloned().unwrap();
        (table("against").rows.iter().map(|row| row[1..].to_vec()).collect::<Vec<_>>(), table("turned").rows)
    };
    let counts = |rows: [[u64; 3]; 3]| rows.map(|row| row.map(Cell::Count).to_vec()).to_vec();
    assert_eq!(beside(run.clone()), (counts([[58, 0, 0], [0, 20, 0], [0, 0, 2]]), Vec::new()));
    let (sides, named) = beside(small_run_with(there.path(), false, turned));
    assert_eq!(sides, counts([[56, 2, 0], [2, 18, 0], [0, 0, 2]]));
    let row = |name: &str, from: &str, to: &str| [name, from, to].map(|text| Cell::Text(text.into())).to_vec();
    assert_eq!(named[..2], [row("s/00000.tar/0008", "dropped", "kept"), row("s/00000.tar/0009", "kept", "dropped")]);
    assert_eq!(named.len(), 4);
    let error = gather(&run, &options(here.path().join("nowhere"))).unwrap_err().line();
    assert!(error.contains("cannot be read as a run folder"), "{error}");
}

#[test]
fn compressed_shards_are_streamed_and_missing_ones_leave_grey_tiles() {
    let (plain, packed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = ReportOptions { pairs_per_benchmark: 100, ..ReportOptions::default() };
    let one = gather(&small_run(plain.path(), false), &options).unwrap();
    let run = small_run(packed.path(), true);
    let other = gather(&run, &options).unwrap();
    assert_eq!(one.report.pairs.len(), 20);
    assert_eq!(one.report.pairs, other.report.pairs);

    std::fs::remove_dir_all(packed.path().join("shards")).unwrap();
    std::fs::remove_dir_all(packed.path().join("photo")).unwrap();
    let bare = gather(&run, &options).unwrap();
    assert_eq!(bare.report.pairs.len(), 20);
    assert!(bare.report.pairs.iter().all(|pair| pair.image.is_empty() && pair.test_image.is_empty()));
    // Radii are told from the ledger where the benchmark is gone.
    let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
    let same = bare.report.pairs.iter().zip(&one.report.pairs).all(|(a, b)| near(a.radius.unwrap(), b.radius.unwrap()));
    assert!(same);
    assert!(page(&bare).contains("no preview"));
}

#[test]
fn why_tells_a_samples_fate() {
    let root = tempfile::tempdir().unwrap();
    let run = small_run(root.path(), false);
    let both = why(&run, "0008").unwrap();
    assert_eq!(both.iter().map(|row| row.ordinal).collect::<Vec<_>>(), [0, 1]);
    let one = why(&run, "s/00001.tar/0008").unwrap();
    assert_eq!(one, both[1..]);
    let row = &one[0];
    assert_eq!((row.status, row.index, row.rule.as_str()), (Status::Dropped, 8, "drop-over-radius@photo"));
    assert_eq!(row.because, "over the radius of test points of photo");
    let [photo, gone] = row.benchmarks.as_slice() else { panic!("two benchmarks") };
    assert_eq!(
        (photo.nearest_key.as_deref(), photo.exceeds_radius, photo.hits),
        (Some("c2/0002.bmp"), Some(radius(2)), Some(1))
    );
    assert!(photo.counts && !gone.counts && gone.nearest_key.is_none() && gone.trouble.is_some());
    let text = row.to_string();
    for part in
        ["s/00001.tar/0008\n  dropped: ", "point 2 c2/0002.bmp, r 0.860000", "margin  +0.012000", "does not look at it"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let line = serde_json::to_value(row).unwrap();
    assert_eq!(line["status"], "dropped");
    assert_eq!(line["benchmarks"][0]["max_similarity"], json!(radius(2) + 0.012));

    let broken = why(&run, "s/00000.tar/0007").unwrap();
    assert_eq!((broken[0].status, broken[0].because.as_str()), (Status::Rejected, "image_truncated: JPEG ends early"));
    assert!(broken[0].benchmarks.is_empty());
    let kept = why(&run, "s/00000.tar/0009").unwrap();
    assert!(
        kept[0].to_string().contains("kept: over no radius of photo\n")
            && kept[0].reason.as_deref() == Some("no_caption")
    );

    let error = why(&run, "nobody").unwrap_err();
    assert_eq!(error.status(), 2);
    let error = error.to_string();
    assert!(
        error.contains("`nobody`")
            && error.contains("s/00000.tar, s/00001.tar")
            && error.contains("one shard of the plan"),
        "{error}"
    );
    assert_eq!(why(root.path(), "x").unwrap_err().status(), 2);
}

#[test]
fn a_replaced_benchmark_names_nothing() {
    let root = tempfile::tempdir().unwrap();
    let run = small_run(root.path(), false);
    let path = root.path().join("photo");
    let mut set = EmbeddingSet::open(&path).unwrap();
    set.keys.pop();
    (set.labels, set.shards, set.indices) = (vec![None; 11], vec![None; 11], vec![None; 11]);
    set.vectors.truncate(22);
    set.radii.as_mut().unwrap().pop();
    set.write(&path, BTreeMap::new()).unwrap();
    let row = &why(&run, "0008").unwrap()[0];
    assert_eq!(row.benchmarks[0].nearest_key, None);
    assert!(row.benchmarks[0].trouble.as_ref().unwrap().contains("not the benchmark any more"));
}

#[test]
fn a_rule_of_another_version_is_not_taken_for_none() {
    let root = tempfile::tempdir().unwrap();
    let run = small_run(root.path(), false);
    for (rule, said) in [
        ("drop-beyond:3@photo", "by the rule `drop-beyond:3@photo`, which this version does not know"),
        ("keep-all", "the run drops nothing"),
    ] {
        let path = run.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["decisions"]["rule"] = json!(rule);
        std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!(why(&run, "s/00001.tar/0008").unwrap()[0].because, said);
    }
}

#[test]
fn keys_stay_below_their_root_and_large_pictures_become_small() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("in")).unwrap();
    std::fs::write(root.path().join("secret.bmp"), b"BM").unwrap();
    let roots = [root.path().join("in")];
    assert_eq!(test_picture(&roots, "../secret.bmp"), None);
    assert_eq!(test_picture(&roots, &root.path().join("secret.bmp").display().to_string()), None);
    let large = bmp(3, Rendition::Sketch, 5, 300);
    let shown = small(large.clone());
    assert!(shown.len() < large.len() / 2);
    let decode = |bytes: &[u8]| trommel_decode::decode_rgb(bytes, &trommel_decode::Limits::default()).unwrap();
    let (before, after) = (decode(&large), decode(&shown));
    assert_eq!((after.width, after.height), (176, 176));
    let mean = |pixels: &[u8]| pixels.iter().map(|p| f64::from(*p)).sum::<f64>() / pixels.len() as f64;
    assert!((mean(&before.pixels) - mean(&after.pixels)).abs() < 1.0);
}
