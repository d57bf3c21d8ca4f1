//! What processes say to each other, and what becomes of those that stay when one goes or does something else.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::fleet::{Fleet, at_once, clusters};
use super::script::{Trial, simulated_parts};
use crate::IncrementalError;
use crate::engine::IncrementalConfig;
use crate::inputs::Change;
use crate::parts::{PartRecord, PartStore};
use crate::peers::Peers;
use crate::tables::Matches;
use crate::workers::{Facts, Flow};
use trommel_ledger::storage::Disk;

/// Answers of no bytes, of one message and of several, of different lengths at the same step.
#[test]
fn answers_of_any_length_are_gathered() {
    let clusters = clusters(3, 1);
    let answer = |rank: usize, length: usize| -> Vec<u8> { (0..length).map(|at| (at * 7 + rank) as u8).collect() };
    let lengths = [[0, 0, 0], [0, 1, 2], [393_216, 393_217, 1], [3, 2_000_000, 0], [5, 5, 5]];
    at_once(clusters.iter().enumerate(), |(rank, cluster)| {
        for (step, lengths) in lengths.iter().enumerate() {
            let all = cluster.control().all_gather(&format!("step {step}"), answer(rank, lengths[rank])).unwrap();
            let expected: Vec<_> = (0..3).map(|rank| answer(rank, lengths[rank])).collect();
            assert!(all == expected, "step {step}");
        }
        let other = cluster.control().all_gather(&format!("step of {}", rank / 2), Vec::new());
        assert!(matches!(other, Err(IncrementalError::OutOfStep { .. })), "{other:?}");
        cluster.control().goodbye();
    });
}

fn fleet(trial: &Trial, root: &std::path::Path) -> Fleet {
    Fleet::start(2, |_| IncrementalConfig::default(), &trial.pool.stored, root)
}

/// Other changes in another process are noticed before anything is read.
#[test]
fn other_changes_are_refused() {
    let (mut trial, root) = (Trial::new(6, 1, simulated_parts()), tempfile::tempdir().unwrap());
    let mut fleet = fleet(&trial, root.path());
    let first = trial.first();
    fleet.applied(&first, "the same");
    let down = |index| vec![Change::TakeDown(vec![trommel_core::sample::SampleId { ordinal: 0, index }], vec![])];
    let each = [down(0), down(1)];
    let errors = at_once(fleet.engines.iter_mut().zip(&each), |(engine, changes)| engine.apply(changes).unwrap_err());
    for error in errors {
        assert!(matches!(error, IncrementalError::OutOfStep { .. }), "{error}");
    }
    // A change that only one refuses.
    let each = [down(0), vec![Change::Withdraw(99)]];
    let errors = at_once(fleet.engines.iter_mut().zip(&each), |(engine, changes)| engine.apply(changes).unwrap_err());
    assert!(matches!(errors[0], IncrementalError::Refused { process: 1, .. }), "{}", errors[0]);
    assert_eq!(errors[1].to_string(), "shard 99 is not there");
    fleet.applied(&down(2), "the same again");
}

/// Who stays says who is gone, and does not wait for ever: at a gathering, and in the middle of the dataflow.
#[test]
fn a_lost_process_is_named() {
    let (mut trial, root) = (Trial::new(7, 1, simulated_parts()), tempfile::tempdir().unwrap());
    let mut fleet = fleet(&trial, root.path());
    let first = trial.first();
    fleet.applied(&first, "both are there");
    fleet.clusters[1].control().say_failure("no more power", 1);
    let error = fleet.engines[0].apply(&[Change::RemoveSplit("s0".into())]).unwrap_err();
    assert!(matches!(error, IncrementalError::Peer(_)), "{error}");
    assert!(error.to_string().starts_with("process 1 ("), "{error}");
    assert_eq!(fleet.engines[0].views().latest().epoch(), 1);
    drop(fleet);

    let clusters = clusters(2, 1);
    let mut flows = at_once(&clusters, |cluster| {
        Flow::across(cluster.timely(1).unwrap(), Arc::new(cluster.control().clone())).unwrap()
    });
    let error = thread::scope(|scope| {
        let waiting = scope.spawn(|| flows[0].advance(&Facts::default()).unwrap_err());
        thread::sleep(Duration::from_millis(50));
        clusters[1].control().say_failure("no more power", 1);
        waiting.join().unwrap()
    });
    assert!(error.to_string().starts_with("process 1 ("), "{error}");
    at_once(flows, drop);
}

#[test]
fn parts_go_to_those_who_remove_them() {
    let root = tempfile::tempdir().unwrap();
    let part_store = || PartStore::folder(root.path(), 1, Arc::new(Disk)).unwrap();
    let files = || std::fs::read_dir(root.path()).unwrap().count();
    let part = part_store().put(4, 2, Matches::of(vec![(1, 2, 0.5)])).unwrap();
    let record = part.record();
    let referred = part_store().refer::<Matches>(&record).unwrap();
    referred.set_lasting(false);
    assert_eq!(*referred.load().unwrap(), *part.load().unwrap());
    drop(referred);
    assert_eq!(files(), 1, "another's part stays");
    part.set_lasting(true);
    drop(part);
    drop(part_store().adopt::<Matches>(&record).unwrap());
    assert_eq!(files(), 1, "a published part stays");
    let adopted = part_store().adopt::<Matches>(&record).unwrap();
    adopted.set_lasting(false);
    drop(adopted);
    assert_eq!(files(), 0, "one that is superseded goes");
    let short = PartRecord { bytes: 7, ..record.clone() };
    let part = part_store().put(4, 2, Matches::default()).unwrap();
    let short = PartRecord { file: part.record().file, ..short };
    assert!(part_store().refer::<Matches>(&short).unwrap().load().unwrap_err().to_string().contains("7 are due"));
    for file in ["../matches", "", "/etc/passwd", ".."] {
        assert!(part_store().refer::<Matches>(&PartRecord { file: file.into(), ..record.clone() }).is_err(), "{file}");
    }
}
