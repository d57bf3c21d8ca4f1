//! Processes that end: with goodbye, killed, silent, failed.

use super::super::{ClusterError, Message};
use super::*;

/// Waits until all but `without` have reported one loss, and gives them.
fn reported(processes: &[Process], without: usize) -> Vec<Loss> {
    let others = || processes.iter().filter(|process| process.cluster.process() != without);
    eventually("everybody has reported the loss", || others().all(|process| !locked(&process.losses).is_empty()));
    thread::sleep(Duration::from_millis(100)); // a second report would come now
    others()
        .map(|process| {
            let losses = locked(&process.losses);
            assert_eq!(losses.len(), 1, "{losses:?}");
            losses[0].clone()
        })
        .collect()
}

#[test]
fn a_killed_process_is_reported_once_by_all_under_one_name() {
    for killed in 0..4 {
        let processes = start(4, true);
        processes[killed].cluster.control().cut();
        for loss in reported(&processes, killed) {
            assert_eq!((loss.process, loss.why.as_str()), (killed, "its connection ended"));
            let line = format!("process {killed} ({}) is gone: its connection ended", loss.address);
            assert_eq!(loss.to_string(), line);
        }
        for process in processes.iter().filter(|process| process.cluster.process() != killed) {
            assert!(
                matches!(process.cluster.control().barrier("b", ""), Err(ClusterError::Lost(loss)) if loss.process == killed)
            );
        }
    }
}

#[test]
fn a_silent_process_is_reported_once_by_all_under_one_name() {
    for silent in [0, 2] {
        let processes = start_with(3, false, |config, _| config.silence = Duration::from_secs(3));
        processes[silent].cluster.control().mute();
        for loss in reported(&processes, silent) {
            assert_eq!((loss.process, loss.why.as_str()), (silent, "silent for 3 s"));
        }
        eventually("the silent process hears of it", || !locked(&processes[silent].losses).is_empty());
        assert_eq!(locked(&processes[silent].losses)[0].process, silent);
    }
}

#[test]
fn beats_keep_an_idle_cluster_together() {
    let processes = start_with(3, false, |config, _| config.silence = Duration::from_secs(3));
    thread::sleep(Duration::from_secs(7));
    end(&processes);
}

#[test]
fn slow_handlers_are_no_silence() {
    let processes = start_with(2, false, |config, _| config.silence = Duration::from_secs(3));
    processes[1].cluster.control().on_message(|_, _| {
        thread::sleep(Duration::from_secs(7));
        true
    });
    processes[0].cluster.control().send(1, Message::Drain);
    thread::sleep(Duration::from_secs(7));
    end(&processes);
}

#[test]
fn a_failure_carries_its_line_and_status() {
    for failed in [0, 1] {
        let processes = start(3, false);
        processes[failed].cluster.control().say_failure("the disk is full", 1);
        processes[failed].cluster.control().cut();
        for loss in reported(&processes, failed) {
            assert_eq!((loss.process, loss.why.as_str(), loss.status), (failed, "failed: the disk is full", Some(1)));
        }
        assert_eq!(*locked(&processes[failed].losses), []);
    }
}

#[test]
fn processes_may_end_one_after_the_other() {
    let processes = start(3, false);
    thread::scope(|scope| {
        for process in &processes {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(300) * process.cluster.process() as u32);
                process.cluster.control().goodbye();
            });
        }
    });
    processes.iter().for_each(|process| assert_eq!(*locked(&process.losses), []));
}

#[test]
fn nothing_more_is_to_be_had_of_a_process_that_said_goodbye() {
    let processes = start(2, false);
    thread::scope(|scope| {
        scope.spawn(|| processes[1].cluster.control().goodbye());
        let error = processes[0].cluster.control().barrier("late", "").unwrap_err();
        assert!(error.to_string().ends_with("has ended; \"late\" is still wanted of it"), "{error}");
        processes[0].cluster.control().goodbye();
    });
    processes.iter().for_each(|process| assert_eq!(*locked(&process.losses), []));
}

#[test]
fn a_message_that_is_too_long_is_a_failure_and_not_a_silence() {
    let processes = start(2, false);
    let text = "x".repeat(2 << 20);
    processes[1].cluster.control().broadcast(Message::Text { kind: "long".into(), text });
    eventually("both know", || processes.iter().all(|process| !locked(&process.losses).is_empty()));
    for process in &processes {
        let loss = locked(&process.losses)[0].clone();
        assert_eq!(loss.process, 1);
        assert!(loss.why.starts_with("it would send a message of 2097"), "{loss}");
    }
}
