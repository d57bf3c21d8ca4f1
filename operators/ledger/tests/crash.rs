//! Stops a scripted run of five shards before and in the middle of every step, with every fate for what was not synced,
//! recovers, finishes, and compares with the undisturbed run and with a naive model.

use super::simulated::{Crash, Fault, Simulated};
use super::*;

fn disk() -> (Simulated, Arc<dyn Storage>) {
    let disk = Simulated::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    (disk, storage)
}

fn undisturbed() -> (Outcome, u64) {
    let (disk, storage) = disk();
    let (_, result) = run(open(&root(), &storage).unwrap(), true);
    result.unwrap();
    let steps = disk.steps();
    let folder = open(&root(), &storage).unwrap();
    assert_eq!(folder.before().failed.keys().copied().collect::<Vec<_>>(), [3]);
    run(folder, false).1.unwrap();
    (outcome(&root(), &storage), steps)
}

/// Runs until everything is committed; every shard once reported durable must still be.
fn finish(storage: &Arc<dyn Storage>, reported: &BTreeSet<u64>) -> Outcome {
    let folder = open(&root(), storage).unwrap();
    let committed: BTreeSet<u64> = folder.before().committed.keys().copied().collect();
    assert!(committed.is_superset(reported), "{reported:?} were reported durable, {committed:?} are");
    run(folder, false).1.unwrap();
    outcome(&root(), storage)
}

#[test]
fn the_undisturbed_run_is_the_naive_model() {
    let (outcome, _) = undisturbed();
    let (rows, items, embeddings) = naive();
    assert_eq!(outcome.rows, rows);
    assert_eq!(outcome.items, items);
    assert_eq!(outcome.embeddings, embeddings);
    assert_eq!(outcome.counts.total(), rows.len() as u64);
    let flat: Vec<Status> = outcome.statuses.concat();
    assert_eq!(flat, rows.iter().map(|r| r.fate.status).collect::<Vec<_>>());
}

#[test]
fn a_crash_at_any_step_changes_nothing() {
    let (expected, steps) = undisturbed();
    assert!(steps > 60, "{steps}");
    for step in 0..=steps {
        for fault in [Fault::Die, Fault::DieHalfway] {
            for crash in [Crash::KeepAll, Crash::ForgetAll, Crash::KeepSome(step), Crash::KeepSome(step + 7777)] {
                let (disk, storage) = disk();
                disk.fail_at(Some((step, fault)));
                let (mut reported, mut died) = (BTreeSet::new(), true);
                if let Ok(folder) = open(&root(), &storage) {
                    let (seen, result) = run(folder, true);
                    (reported, died) = (seen, result.is_err());
                }
                assert_eq!(died, step < steps, "step {step} of {steps}");
                disk.crash(crash);
                // The recovery itself is stopped too, somewhere.
                let again = disk.steps() + (step * 31) % 40;
                disk.fail_at(Some((again, fault)));
                if let Ok(folder) = open(&root(), &storage) {
                    let (seen, _) = run(folder, false);
                    reported.extend(seen);
                }
                disk.crash(crash);
                let outcome = finish(&storage, &reported);
                assert!(outcome == expected, "step {step}, {fault:?}, {crash:?}: another outcome");
            }
        }
    }
}

/// A quota used up is mended as a full disk is: by making room.
#[test]
fn a_used_up_quota_is_a_full_disk() {
    use std::io::ErrorKind;
    for (kind, is_full) in
        [(ErrorKind::StorageFull, true), (ErrorKind::QuotaExceeded, true), (ErrorKind::ReadOnlyFilesystem, false)]
    {
        assert_eq!(LedgerError::at("write", &root())(kind.into()).is_disk_full(), is_full, "{kind:?}");
    }
}

#[test]
fn a_full_or_read_only_disk_is_an_error_and_the_run_resumes() {
    let (expected, steps) = undisturbed();
    for step in 0..steps {
        for fault in [Fault::Full, Fault::ReadOnly] {
            let (disk, storage) = disk();
            disk.fail_at(Some((step, fault)));
            let mut reported = BTreeSet::new();
            let error = match open(&root(), &storage) {
                Err(error) => Some(Arc::new(error)),
                Ok(folder) => {
                    let (seen, result) = run(folder, true);
                    reported = seen;
                    result.err()
                }
            };
            if let Some(error) = error {
                assert!(matches!(*error, LedgerError::Storage { .. }), "{error:?}");
                assert_eq!(error.is_disk_full(), fault == Fault::Full, "{error}");
                assert!(error.to_string().contains("/disk"), "{error}");
            } else {
                // Only steps that need no room pass on a full disk.
                assert_eq!(fault, Fault::Full, "step {step}");
            }
            disk.fail_at(None);
            assert!(finish(&storage, &reported) == expected, "step {step}, {fault:?}: another outcome");
        }
    }
}

/// Takes the finished run's decisions over, unless all are.
fn take_over(into: &Path, storage: &Arc<dyn Storage>) -> Result<(), LedgerError> {
    let folder = open(into, storage)?;
    if folder.before().committed.len() as u64 == SHARDS {
        return Ok(());
    }
    folder.take_over(&Ledger::open_on(&root(), Arc::clone(storage))?)
}

/// What was taken over, once it is known to be whole.
fn taken_over(into: &Path, storage: &Arc<dyn Storage>) -> (Vec<LedgerRow>, Vec<PointRow>) {
    let ledger = Ledger::open_on(into, Arc::clone(storage)).unwrap();
    ledger.verify().unwrap();
    (ledger.rows().unwrap().map(Result::unwrap).collect(), ledger.items().unwrap())
}

#[test]
fn decisions_that_are_taken_over_are_durable_linked_or_copied() {
    let (rows, items, _) = naive();
    let other = PathBuf::from("/disk/other");
    for links in [true, false] {
        let finished = || {
            let (disk, storage) = disk();
            run(open(&root(), &storage).unwrap(), false).1.unwrap();
            if !links {
                disk.refuse_links();
            }
            let begun = disk.steps();
            (disk, storage, begun)
        };
        let (disk, storage, begun) = finished();
        let source = outcome(&root(), &storage);
        take_over(&other, &storage).unwrap();
        let steps = disk.steps() - begun;
        for step in 0..=steps {
            for fault in [Fault::Die, Fault::DieHalfway, Fault::Full] {
                for crash in [Crash::ForgetAll, Crash::KeepSome(step)] {
                    let (disk, storage, begun) = finished();
                    disk.fail_at(Some((begun + step, fault)));
                    let first = take_over(&other, &storage);
                    disk.crash(crash);
                    let told = format!("links: {links}, step {step} of {steps}, {fault:?}, {crash:?}");
                    if first.is_ok() {
                        assert!(taken_over(&other, &storage) == (rows.clone(), items.clone()), "{told}: not durable");
                    }
                    take_over(&other, &storage).unwrap();
                    assert!(taken_over(&other, &storage) == (rows.clone(), items.clone()), "{told}: not whole");
                    assert!(outcome(&root(), &storage) == source, "{told}: the other run was touched");
                }
            }
        }
    }
}
