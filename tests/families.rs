//! Every family of models goes the whole way: embedding, training on one process and on several, and what is refused at once.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::cluster::local;
use common::{World, logged_losses, run, stderr, words};

/// A SigLIP over CLIP's tokens.
const SIGLIP: &str = "trommel-tiny-sigmoid-32";

#[test]
fn a_siglip_embeds_and_trains_on_one_process_and_on_two() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    run(0, &["embed", &world.shards(), "-o", &path("embedded"), "--model", SIGLIP, "--random-init", "1"]);

    let train = |name: &str| {
        let words = ["train", &world.shards(), "--run", &path(name), "--rule", "random:50%", "--model", SIGLIP];
        let recipe = ["--batch", "16", "--precision", "f32", "--lr", "1e-3", "--warmup", "0", "--steps", "6"];
        words.into_iter().chain(recipe).map(String::from).collect::<Vec<_>>()
    };
    run(0, &words(&train("alone")));
    let alone = logged_losses(&folder.path().join("alone"));
    assert_eq!(alone.len(), 6);
    // All pairs but one of sixteen are none, each with a logit about -10: the pairs that are one cost about 10.
    assert!((5.0..15.0).contains(&alone[0].1) && alone[5].1 < 0.9 * alone[0].1, "{alone:?}");
    run(0, &words(&local(2, &[], &train("together"))));
    for (a, b) in alone.iter().zip(logged_losses(&folder.path().join("together"))) {
        assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-4, "{a:?} {b:?}");
    }

    // What needs a vocabulary that is not read says so before anything is written.
    let mut foreign = train("foreign");
    *foreign.iter_mut().find(|word| *word == SIGLIP).unwrap() = "ViT-B-16-SigLIP".into();
    let said = stderr(&run(2, &words(&foreign)));
    assert!(said.contains("timm/ViT-B-16-SigLIP") && said.contains("SentencePiece"), "{said}");
    assert!(!folder.path().join("foreign").exists());
}
