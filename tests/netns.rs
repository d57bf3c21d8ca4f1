//! Two processes in their own network namespaces: a slow and lossy wire, and one that is cut.
//!
//! Needs root, iproute2 and the kernel's leave; says so and passes where one is missing.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;

use common::cluster::{and, no_panic, one_of, says};
use common::processes::{Group, committed, until};
use common::wire::Wire;
use common::{World, items_text, ledger_text, losses, run, words};

/// Both processes, each on its side of the wire. The coordinator's address is the wire's.
fn pair(wire: &Wire, flags: &[&str], command: &[String]) -> [Group; 2] {
    let coordinator = format!("{}:29400", wire.address(0));
    [0, 1].map(|process| {
        let args = one_of(2, process, &coordinator, flags, command);
        Group::of(wire.command(process, env!("CARGO_BIN_EXE_trommel")), &args)
    })
}

/// The wire, or a counted skip.
fn or_skip(wire: Result<Wire, String>) -> Option<Wire> {
    wire.inspect_err(|why| common::skipped(&format!("network namespaces are not to be had: {why}"))).ok()
}

fn shared_machine(command: Vec<String>) -> Vec<String> {
    and(command, &["--memory", "3GiB"])
}

#[test]
fn a_slow_and_lossy_wire_changes_nothing() {
    let Some(wire) = or_skip(Wire::bad(50, 5)) else { return };
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let (whole, far) = (folder.path().join("whole"), folder.path().join("far"));
    run(0, &words(&world.prune(&whole)));
    let mut both = pair(&wire, &[], &shared_machine(world.prune(&far)));
    for group in &mut both {
        no_panic(&group.ends_with(0, 120));
    }
    assert_eq!(ledger_text(&whole), ledger_text(&far));
    assert_eq!(items_text(&whole), items_text(&far));
}

#[test]
fn training_over_a_slow_and_lossy_wire_takes_the_same_steps() {
    let Some(wire) = or_skip(Wire::bad(20, 2)) else { return };
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let (near, far) = (folder.path().join("near"), folder.path().join("far"));
    let command = |run_folder: &Path| and(shared_machine(world.train(run_folder, 6)), &["--threads", "1"]);
    run(0, &words(&common::cluster::local(2, &[], &command(&near))));
    let mut both = pair(&wire, &[], &command(&far));
    for group in &mut both {
        no_panic(&group.ends_with(0, 240));
    }
    assert_eq!(losses(&near), losses(&far));
    assert_eq!(ledger_text(&near), ledger_text(&far));
}

/// Cuts the wire once `is_under_way`; both must end with status 3 and name the other.
fn cut(wire: &Wire, mut both: [Group; 2], mut is_under_way: impl FnMut() -> bool) {
    let begun = until(60, || is_under_way() || both.iter_mut().any(|group| group.status().is_some()));
    assert!(begun, "nothing was done in a minute:\n{}\n{}", both[0].said(), both[1].said());
    assert!(both.iter_mut().all(|group| group.status().is_none()), "over before the cut: {}", both[0].said());
    wire.cut();
    for (process, group) in both.iter_mut().enumerate() {
        let said = group.ends_with(3, 45);
        let other = format!("process {}", 1 - process);
        says(&said, &[&other, &wire.address(1 - process)], 6);
    }
}

#[test]
fn a_cut_wire_ends_pruning_on_both_sides() {
    let Some(wire) = or_skip(Wire::plain()) else { return };
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let (whole, far) = (folder.path().join("whole"), folder.path().join("far"));
    let command = shared_machine(world.long_prune(&far, 20));
    let both = pair(&wire, &["--silence", "2"], &command);
    cut(&wire, both, || committed(&far) > 2);
    run(0, &words(&command));
    run(0, &words(&world.long_prune(&whole, 20)));
    assert_eq!(ledger_text(&whole), ledger_text(&far));
    assert_eq!(items_text(&whole), items_text(&far));
}

#[test]
fn a_cut_wire_ends_training_on_both_sides() {
    let Some(wire) = or_skip(Wire::plain()) else { return };
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let far = folder.path().join("far");
    // Longer than anybody waits: it is cut.
    let endless = shared_machine(world.train(&far, 5000));
    let both = pair(&wire, &["--silence", "2"], &endless);
    cut(&wire, both, || far.join("checkpoints/step_00000005").exists());
    let losses = losses(&far);
    assert_eq!(losses.keys().copied().collect::<Vec<_>>(), (0..losses.len() as u64).collect::<Vec<_>>());
}
