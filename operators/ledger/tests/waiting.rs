//! A committer that waits for the verdict on the run's first samples: parts are written meanwhile, manifest lines are not.

use super::super::committer::CommitHandle;
use super::simulated::Simulated;
use super::*;

type Answers = Arc<Mutex<Vec<(u64, bool)>>>;

fn waiting(stop: &Stop) -> (Committer, CommitHandle, Arc<dyn Storage>) {
    let storage: Arc<dyn Storage> = Arc::new(Simulated::new());
    let folder = Arc::new(open(&root(), &storage).unwrap());
    let committer = Committer::spawn_waiting(folder, parts(), stop.clone()).unwrap();
    let handle = committer.handle().unwrap();
    (committer, handle, storage)
}

fn commit(handle: &CommitHandle, ordinal: u64, answers: &Answers) {
    let answers = answers.clone();
    let reply = Box::new(move |answer: Result<_, _>| answers.lock().unwrap().push((ordinal, answer.is_ok())));
    handle.commit(shard(ordinal), reply).unwrap();
}

fn committed(storage: Arc<dyn Storage>) -> Vec<u64> {
    Ledger::open_on(&root(), storage).unwrap().shards().keys().copied().collect()
}

#[test]
fn what_is_held_is_committed_when_the_run_is_sound() {
    let (committer, handle, storage) = waiting(&Stop::new());
    let answers = Answers::default();
    commit(&handle, 2, &answers);
    commit(&handle, 0, &answers);
    handle.sound();
    commit(&handle, 4, &answers);
    committer.finish().unwrap();
    assert_eq!(*answers.lock().unwrap(), [(2, true), (0, true), (4, true)]);
    assert_eq!(committed(storage), [0, 2, 4]);
}

#[test]
fn a_verdict_that_can_not_come_any_more_commits_nothing() {
    for wind_down in [false, true] {
        let stop = Stop::new();
        let (committer, handle, storage) = waiting(&stop);
        let answers = Answers::default();
        commit(&handle, 0, &answers);
        if wind_down {
            stop.wind_down()
        } else {
            stop.request()
        }
        commit(&handle, 2, &answers);
        committer.finish().unwrap();
        assert_eq!(*answers.lock().unwrap(), [(0, false), (2, false)]);
        assert!(committed(storage).is_empty());
    }
}

#[test]
fn without_a_verdict_at_the_end_nothing_is_committed() {
    let (committer, handle, storage) = waiting(&Stop::new());
    let answers = Answers::default();
    commit(&handle, 0, &answers);
    committer.finish().unwrap();
    assert_eq!(*answers.lock().unwrap(), [(0, false)]);
    assert!(committed(storage).is_empty());
}

#[test]
fn a_run_that_was_found_sound_stays_so() {
    let stop = Stop::new();
    let (committer, handle, storage) = waiting(&stop);
    let answers = Answers::default();
    handle.sound();
    stop.wind_down();
    commit(&handle, 0, &answers);
    committer.finish().unwrap();
    assert_eq!((answers.lock().unwrap().len(), committed(storage)), (1, vec![0]));
}

#[test]
fn who_comes_too_late_is_answered_too() {
    let (committer, handle, _) = waiting(&Stop::new());
    committer.finish().unwrap();
    let answers = Answers::default();
    let told = answers.clone();
    let reply = Box::new(move |answer: Result<_, _>| told.lock().unwrap().push((7, answer.is_ok())));
    assert!(handle.commit(shard(7), reply).is_err());
    assert_eq!(*answers.lock().unwrap(), [(7, false)]);
}
