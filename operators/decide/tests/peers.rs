//! The join beside FAISS and numpy, where a Python that has them is named by `TROMMEL_PEERS`.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use half::f16;

use super::naive::Dice;
use crate::benchmark::Benchmark;
use crate::join::{JoinConfig, JoinRow, Joiner};
use crate::radii::radii;
use trommel_core::sample::SampleId;

fn read<const N: usize, T>(folder: &Path, name: &str, make: fn([u8; N]) -> T) -> Vec<T> {
    let bytes = std::fs::read(folder.join(name)).unwrap();
    bytes.as_chunks::<N>().0.iter().map(|chunk| make(*chunk)).collect()
}

#[test]
fn maxima_and_radii_equal_numpys_and_agree_with_faiss() {
    let Some(python) = crate::skipped::peer("faiss and numpy") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/similarity.py");
    let mut dice = Dice(21);
    for (samples, points, dim) in [(300, 500, 640), (1000, 200, 63), (50, 1000, 1024)] {
        let folder = tempfile::tempdir().unwrap();
        let samples = dice.family(samples, dim, &[]);
        let points = dice.family(points, dim, &samples);
        for (name, rows) in [("samples.f16", &samples), ("points.f16", &points)] {
            let bytes: Vec<u8> = rows.iter().flatten().flat_map(|x: &f16| x.to_le_bytes()).collect();
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let mut peer = Command::new(&python);
        peer.arg(&script).arg(folder.path()).arg(dim.to_string()).env("OMP_NUM_THREADS", "1");
        assert!(peer.status().unwrap().success());

        let benchmark = Benchmark::new("b", dim, points.concat(), vec![], vec![], None, None).unwrap();
        let ours = radii(&samples, &benchmark).unwrap();
        let joiner = Joiner::new(vec![Arc::new(benchmark)], JoinConfig::default()).unwrap();
        let mut rows = Vec::new();
        for (index, vector) in samples.iter().enumerate() {
            let id = SampleId { ordinal: 0, index: index as u32 };
            rows.push(JoinRow { vector, id, shard: "s", key: "k", points: None });
        }
        let scores = joiner.join(&rows, &()).unwrap();
        let maxima: Vec<f64> = scores.iter().map(|row| row.scores[0].max_similarity.unwrap()).collect();
        let nearest: Vec<i64> = scores.iter().map(|row| i64::from(row.scores[0].nearest.unwrap())).collect();

        // Sums of products of f16 are exact in f64, in numpy too: equal to the bit, ties included.
        assert_eq!(maxima, read(folder.path(), "maxima.f64", f64::from_le_bytes));
        assert_eq!(nearest, read(folder.path(), "nearest.i64", i64::from_le_bytes));
        assert_eq!(ours, read(folder.path(), "radii.f64", f64::from_le_bytes));
        // FAISS sums in f32: within the bound of such sums; where its point differs, ours is as near.
        let bound = 1.1 * dim as f64 / f64::from(1u32 << 24);
        let close = |ours: &[f64], theirs: Vec<f32>| {
            assert_eq!(ours.len(), theirs.len());
            assert!(ours.iter().zip(theirs).all(|(a, b)| (a - f64::from(b)).abs() <= bound));
        };
        close(&maxima, read(folder.path(), "faiss_maxima.f32", f32::from_le_bytes));
        close(&ours, read(folder.path(), "faiss_radii.f32", f32::from_le_bytes));
    }
}
