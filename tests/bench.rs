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
        // Four batches over and over: they are learned.
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
