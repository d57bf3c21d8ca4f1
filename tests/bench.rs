//! `trommel bench`: a stage alone, on a machine without a card and a model of a few parameters.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

/// The trainer's figures are there, and its losses are those with padding and those in f32.
#[test]
fn the_trainer_is_measured_and_compared() {
    for (precision, padded, exact) in [("f32", 1e-5, None), ("bf16", 0.02, Some(0.02))] {
        let words = format!(
            "bench --stage train --model trommel-tiny-32 --batch 12 --precision {precision} --steps 3 --device cpu --threads 1 --json"
        );
        let out = common::trommel().args(words.split_whitespace()).output().unwrap();
        let said = common::stderr(&out);
        assert_eq!(out.status.code(), Some(0), "{said}");
        let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        for rate in [&report, &report["with_uploads"], &report["padded"]] {
            assert_eq!(rate["steps"], 3, "{report}");
            assert!(rate["samples_per_second"].as_f64().unwrap() > 0.0, "{report}");
        }
        let losses: Vec<f64> = serde_json::from_value(report["losses"].clone()).unwrap();
        assert_eq!(losses.len(), 20);
        // Four batches over and over: they are learned, however slowly.
        assert!(losses[16..].iter().sum::<f64>() < losses[..4].iter().sum::<f64>(), "{losses:?}");
        assert!(report["padded_difference"].as_f64().unwrap() < padded, "{report}");
        assert_eq!(
            report["f32_difference"].as_f64().map(|difference| difference < exact.unwrap()),
            exact.map(|_| true)
        );
        let tokens = |name: &str| report[name].as_f64().unwrap();
        assert!(tokens("caption_tokens") > 8.0 && tokens("computed_tokens") < 40.0, "{report}");
        assert!(said.contains("samples/s") && said.contains("with every batch from host memory"), "{said}");
    }
}

/// The join's answers are the processor's, and its figures are there.
#[test]
fn the_join_is_compared_and_measured() {
    let words = "bench --stage join --device cpu --points 700 --dim 48 --rows 300 --seconds 0.05 --threads 2 --json";
    let out = common::trommel().args(words.split_whitespace()).output().unwrap();
    let said = common::stderr(&out);
    assert_eq!(out.status.code(), Some(0), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&report["differences"], &report["compared_rows"]), (&0.into(), &300.into()), "{report}");
    let figures = report["figures"].as_array().unwrap();
    assert_eq!(figures.len(), 3);
    assert!(
        figures.iter().all(|it| it["rows_per_second"].as_f64().unwrap() > 0.0 && it["rows_in_place"] == 0),
        "{report}"
    );
    assert!(said.contains("300 rows equal the processor's to the bit"), "{said}");
}

/// Without a card there is nothing to compare: views are made of a folder's files and of a tar's members, and what is no JPEG is counted.
#[test]
fn the_decoder_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    common::run(0, &["synth", &path("made"), "--shards", "1", "--samples", "6"]);
    std::fs::create_dir(path("pictures")).unwrap();
    let mut jpegs = tar::Archive::new(std::fs::File::open(path("made/shards/00000.tar")).unwrap());
    let mut jpeg = jpegs.entries().unwrap().next().unwrap().unwrap();
    jpeg.unpack(path("pictures/a.jpg")).unwrap();
    std::fs::write(path("pictures/b.jpg"), "no picture").unwrap();
    for (pictures, no_jpegs) in [("made/shards/00000.tar", None), ("pictures", Some(1))] {
        let words = ["bench", "--stage", "decode", "--view", "48", "--device", "cpu", "--seconds", "0.01", "--json"];
        let out = common::run(0, &[&words[..], &["--pictures", &path(pictures)]].concat());
        let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(report["on_cpu"]["no_jpeg"].as_u64(), no_jpegs, "{report}");
        let rates = report["rates"].as_array().unwrap();
        assert!(rates.iter().any(|rate| rate["by"] == "cpu"), "{report}");
        assert!(rates.iter().all(|rate| rate["per_second"].as_f64().unwrap() > 0.0), "{report}");
    }
    for (more, said) in [
        (&["--pictures", "made/benchmarks"][..], "made/benchmarks: no files there"),
        (&["--pictures", "pictures", "--view", "0"], "--view"),
        (&[], "--pictures"),
    ] {
        let mut bench = common::trommel();
        bench.current_dir(folder.path()).args(["bench", "--stage", "decode", "--device", "cpu"]).args(more);
        let out = bench.output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{more:?}");
        assert!(common::stderr(&out).contains(said), "{more:?}: {}", common::stderr(&out));
    }
}

fn embed_bench(more: &[&str]) -> std::process::Output {
    let words =
        ["bench", "--stage", "embed", "--model", "trommel-tiny-32-quickgelu", "--device", "cpu", "--threads", "1"];
    common::trommel().args(words).args(["--seconds", "0.01", "--json"]).args(more).output().unwrap()
}

#[test]
fn the_embedder_alone_is_measured_and_held_to_the_cpu_in_f32() {
    let out = embed_bench(&["--random-init", "3", "--variants", "--in-flight", "3", "--batch", "8"]);
    assert!(out.status.success(), "{}", common::stderr(&out));
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let number = |of: &serde_json::Value, field: &str| of[field].as_f64().unwrap();
    assert_eq!((report["stage"].as_str(), number(&report, "batch")), (Some("embed"), 8.0));
    assert_eq!(report["numerics"]["precision"], "f32");
    assert_eq!(number(&report, "largest_difference"), 0.0, "another batch has the same bits");
    let variants = report["variants"].as_array().unwrap();
    assert!(!variants.is_empty());
    for figures in variants.iter().chain([&report]) {
        for rate in ["samples_per_second", "mean_samples_per_second", "forward_samples_per_second"] {
            assert!(number(figures, rate) > 0.0, "{figures}");
        }
        assert!(number(figures, "largest_difference") < 1e-3 && number(figures, "lowest_cosine") > 0.9999, "{figures}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let cases: [(&[&str], &str); 5] = [
        (&[], "--random-init"),
        (&["--random-init", "0", "--batch", "4"], "at least 8"),
        (&["--random-init", "0", "--precision", "f8"], "f16-mixed"),
        (&["--random-init", "0", "--device", "gpu"], "cuda:N"),
        (&["--random-init", "0", "--points", "3"], "--points: this stage does not read it"),
    ];
    for (more, said) in cases {
        let out = embed_bench(more);
        assert_eq!(out.status.code(), Some(2), "{more:?}: {}", common::stderr(&out));
        let last = common::stderr(&out);
        assert!(last.lines().last().unwrap_or_default().contains(said), "{last}");
    }
}
