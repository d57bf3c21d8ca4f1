//! Zero-shot beside open_clip's own, picture by picture, where a Python that has it is named by `TROMMEL_PEERS`, on the pictures of
//! `TROMMEL_TEST_DATA`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use trommel_evaluate::scores::Shares;
use trommel_pipelines::labelled::ClassNames;
use trommel_pipelines::lists;

use super::{EvalConfig, evaluate_each};

/// What open_clip makes of a set.
#[derive(Deserialize)]
struct Theirs {
    guesses: BTreeMap<String, (usize, bool)>,
    top1: f64,
    top5: f64,
    mean_per_class: f64,
}

#[test]
fn peer_every_picture_of_80_templates_is_guessed_as_open_clip_guesses_it() {
    let (Some(python), Some(data)) = (crate::skipped::peer("open_clip"), crate::skipped::test_data()) else { return };
    let (folder, pictures) = (tempfile::tempdir().unwrap(), data.join("cifar_test"));
    let at = |name: &str| folder.path().join(name);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers/zero_shot.py");
    let mut peer = Command::new(python);
    peer.arg(script).arg(&pictures).arg(folder.path()).env("OMP_NUM_THREADS", "1").env_remove("LD_LIBRARY_PATH");
    let out = peer.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    eprint!("{}", String::from_utf8_lossy(&out.stdout));
    let theirs: BTreeMap<String, Theirs> = serde_json::from_slice(&std::fs::read(at("guesses.json")).unwrap()).unwrap();

    let judge = |data: &Path, classes: ClassNames| {
        let config = EvalConfig {
            checkpoint: at("weights.pt"),
            model: at("tiny.json").display().to_string(),
            data: data.to_path_buf(),
            classes,
            templates: lists::templates(&at("templates.txt")).unwrap(),
            probe: None,
            nearest: None,
            device: "cpu".into(),
            threads: 1,
        };
        assert_eq!(config.templates.len(), 80);
        let mut guesses = BTreeMap::new();
        let report = evaluate_each(&config, &mut |picture, guess| {
            guesses.insert(picture.key.clone(), (guess.class, guess.is_among_five));
        });
        (guesses, report.unwrap())
    };
    // Names of another length and order than the folders, and of classes that are not there.
    let table = ClassNames { table: lists::class_table(&at("table.tsv")).unwrap(), ..ClassNames::default() };
    for (set, data, classes) in [("all", pictures.clone(), ClassNames::default()), ("some", at("some"), table)] {
        let (guesses, report) = judge(&data, classes);
        let due = &theirs[set];
        let mut differ = due.guesses.iter().filter(|(key, guess)| guesses.get(*key) != Some(*guess));
        let first = differ.next().map(|(key, guess)| format!("{key}: {guess:?}, and not {:?}", guesses.get(key)));
        assert!(first.is_none() && guesses.len() == due.guesses.len(), "{set}: {first:?}");
        assert!(guesses.len() >= 700 && due.top5 < 1.0 && due.top1 > 0.15, "{set}: the guesses tell nothing");
        let Shares { top1, top5, mean_per_class } = report.zero_shot;
        for (ours, theirs) in [(top1, due.top1), (top5, due.top5), (mean_per_class, due.mean_per_class)] {
            assert!((ours - theirs).abs() < 1e-12, "{set}: {ours}, {theirs}");
        }
    }
}
