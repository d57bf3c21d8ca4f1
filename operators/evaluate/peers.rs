//! The probe beside scikit-learn's, rho beside SciPy's, where a Python that has them is named by `TROMMEL_PEERS`.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::bins::spearman;
use crate::probe::{Probe, ProbeConfig};
use crate::scores::Accuracy;

const CLASSES: i64 = 5;
const DIM: i64 = 24;

/// Classes that overlap, so that not every guess is right.
fn data(n: i64, seed: i64) -> (Tensor, Vec<i64>) {
    let labels: Vec<i64> = (0..n).map(|at| (((at + seed * 1000) * 2_654_435_761) >> 7) % CLASSES).collect();
    let rows = (0..n * DIM).map(|at| {
        let (row, column) = (at / DIM, at % DIM);
        let noise = ((at * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5;
        noise + if column % CLASSES == labels[row as usize] { 0.12 } else { 0.0 }
    });
    (Tensor::from_slice(&rows.collect::<Vec<f32>>()).reshape([n, DIM]), labels)
}

fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
    (0..tensor.size()[0]).map(|at| Vec::try_from(tensor.get(at).to_kind(Kind::Double)).unwrap()).collect()
}

#[test]
fn a_probe_is_scikit_learns() {
    let Some(python) = crate::skipped::peer("scikit-learn") else { return };
    let ((features, labels), (test, truth)) = (data(400, 1), data(200, 2));
    // Ties, and values in no order.
    let x: Vec<f64> = (0..60).map(|at| f64::from((at * 37) % 23)).collect();
    let y: Vec<f64> = (0..60).map(|at| f64::from((at * 37) % 23 / 3 + at % 2)).collect();
    for c in [0.05, 0.316, 20.0] {
        let given = json!({ "features": rows(&features), "labels": labels, "test": rows(&test), "truth": truth, "c": c, "x": x, "y": y });
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers/probe.py");
        let mut peer = Command::new(&python);
        peer.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).env_remove("LD_LIBRARY_PATH");
        let mut peer = peer.spawn().unwrap();
        peer.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
        let theirs: Value = serde_json::from_slice(&peer.wait_with_output().unwrap().stdout).unwrap();

        let probe =
            Probe::fit(&features, &Tensor::from_slice(&labels), CLASSES, &ProbeConfig { c, ..ProbeConfig::default() });
        let probe = probe.unwrap();
        assert!(probe.has_converged && probe.steps > 5, "{} steps", probe.steps);
        let logits = probe.logits(&test).unwrap();
        let wanted = theirs["logits"].as_array().unwrap();
        for (mine, theirs) in rows(&logits).iter().zip(wanted) {
            // Logits of a softmax are known up to a constant; scikit-learn's sum to zero, as do ours that began at zero.
            for (mine, theirs) in mine.iter().zip(theirs.as_array().unwrap()) {
                assert!((mine - theirs.as_f64().unwrap()).abs() < 2e-3 * c.max(1.0), "C {c}: {mine} {theirs}");
            }
        }
        let mut accuracy = Accuracy::of(CLASSES as usize);
        let truth: Vec<usize> = truth.iter().map(|class| *class as usize).collect();
        // In two parts: counts add up.
        accuracy.add(&logits.narrow(0, 0, 150), &truth[..150]).unwrap();
        accuracy.add(&logits.narrow(0, 150, 50), &truth[150..]).unwrap();
        let shares = accuracy.shares();
        assert!((shares.top1 - theirs["top1"].as_f64().unwrap()).abs() < 1e-12);
        assert!((shares.mean_per_class - theirs["mean_per_class"].as_f64().unwrap()).abs() < 1e-12);
        assert!(shares.top1 > 0.4 && shares.top1 < 1.0 && shares.top5 == 1.0, "{shares:?}");
        assert_eq!(accuracy.guesses.len(), 200);
        assert!((spearman(&x, &y).unwrap() - theirs["rho"].as_f64().unwrap()).abs() < 1e-12);
    }
}
