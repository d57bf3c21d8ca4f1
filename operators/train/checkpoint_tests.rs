//! Checkpoints under kills: between any two calls that change the disk there is a sound one, and the next save leaves nothing behind.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::checkpoint::{Position, standing};
use super::files::kill;
use super::step::Trainer;
use super::tiny::{Tiny, batch, config, open, trainer};

/// Step 4 of a pass, which is its last where `epoch` is 1.
fn position(epoch: u32) -> Position {
    Position { pass: 0, epoch, cursor: json!({"batch": 4}) }
}

/// The same folder once more.
fn copied(from: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let done = std::process::Command::new("cp").arg("-a").arg(from.join("checkpoints")).arg(folder.path()).status();
    assert!(done.unwrap().success());
    folder
}

/// A run with a checkpoint of each of its four steps, all inside the pass.
fn begun() -> (TempDir, Trainer<Tiny>) {
    let (folder, mut trainer) = (tempfile::tempdir().unwrap(), trainer(config(8), 9));
    let checkpoints = open(folder.path(), None);
    for step in 0..4 {
        trainer.step(&batch(step, 8)).unwrap();
        checkpoints.save(&trainer, &position(0)).unwrap();
    }
    (folder, trainer)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("checkpoints")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The end of a pass takes the place of a checkpoint of the same step, and two others are retired.
#[test]
fn a_kill_anywhere_in_a_save_leaves_the_step_that_was_saved() {
    let (begun, trained) = begun();
    let folder = copied(begun.path());
    let checkpoints = open(folder.path(), Some(1));
    checkpoints.save(&trained, &position(1)).unwrap();
    let undisturbed = names(folder.path());
    assert_eq!(undisturbed, ["epoch_1.pt", "epoch_latest.pt", "step_00000003", "step_00000004"]);
    let mut epochs = Vec::new();
    for calls in 0.. {
        let folder = copied(begun.path());
        let checkpoints = open(folder.path(), Some(1));
        kill::after(calls);
        let killed = checkpoints.save(&trained, &position(1)).is_err();
        kill::after(u32::MAX);
        assert_eq!(standing(&folder.path().join("checkpoints")).unwrap()[0].0, 4, "before it is opened: {calls} calls");
        let checkpoints = open(folder.path(), Some(1));
        let found = checkpoints.newest().unwrap().unwrap();
        assert_eq!((found.state.global_step, &found.skipped[..]), (4, &[][..]), "{calls} calls");
        epochs.push(found.state.position.epoch);
        let mut resumed = trainer(config(8), 9);
        checkpoints.restore(&found, &mut resumed).unwrap();
        checkpoints.save(&resumed, &position(1)).unwrap();
        assert_eq!(names(folder.path()), undisturbed, "{calls} calls");
        if !killed {
            break;
        }
    }
    assert!(epochs.len() > 20 && epochs.is_sorted() && epochs[0] == 0 && epochs.last() == Some(&1), "{epochs:?}");
}

/// The program of before named what it replaced and what it retired alike.
#[test]
fn what_was_replaced_is_put_back_and_what_was_retired_goes() {
    let (folder, _) = begun();
    let at = |name: &str| folder.path().join("checkpoints").join(name);
    std::fs::rename(at("step_00000004"), at(".aside_old_step_00000004")).unwrap();
    std::fs::rename(at("step_00000001"), at(".aside_retired_step_00000001")).unwrap();
    assert_eq!(open(folder.path(), None).newest().unwrap().unwrap().state.global_step, 4);
    assert_eq!(names(folder.path()), ["epoch_latest.pt", "step_00000002", "step_00000003", "step_00000004"]);
}

/// Training goes on from the one before a damaged checkpoint, whose step is still ahead then: it is none of those that are kept.
#[test]
fn a_damaged_checkpoint_ahead_retires_nobody() {
    let (folder, _) = begun();
    let at = |name: &str| folder.path().join("checkpoints").join(name);
    for step in [3, 4] {
        std::fs::write(at(&format!("step_0000000{step}/open_clip_model.pt")), b"torn").unwrap();
    }
    let checkpoints = open(folder.path(), Some(1));
    let found = checkpoints.newest().unwrap().unwrap();
    assert_eq!((found.state.global_step, found.skipped.len()), (2, 2));
    let mut resumed = trainer(config(8), 9);
    checkpoints.restore(&found, &mut resumed).unwrap();
    resumed.step(&batch(2, 8)).unwrap();
    checkpoints.save(&resumed, &position(0)).unwrap();
    assert_eq!(checkpoints.newest().unwrap().unwrap().state.global_step, 3);
    assert_eq!(names(folder.path()), ["epoch_latest.pt", "step_00000003", "step_00000004"]);
}
