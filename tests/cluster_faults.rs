//! Processes of a cluster that die, are stopped, come back or are told to end: who says what, how soon, and what the same
//! command makes of it afterwards.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::cluster::{and, complaints, free_address, local, no_panic, one_of, says};
use common::processes::{Group, committed, signal, until};
use common::{World, items_text, ledger_text, losses, parts_are_listed, run, shared_folder, words};
use trommel_ledger::read::Ledger;

/// Copies of the shards in the pruning runs here: seconds of work.
const COPIES: usize = 24;
/// Lines that may be said about one loss: the launcher's and one or two a process.
const MOST_LINES: usize = 6;
/// A process that is silent for so long is lost; one that does not end after so long is killed by its launcher.
const SILENCE: [&str; 4] = ["--silence", "2", "--grace", "8"];
/// Where nobody is stopped, a busy machine is no loss.
const PATIENCE: [&str; 4] = ["--silence", "120", "--grace", "8"];
/// Seconds after which a cluster that lost a process is over, however busy the machine.
const OVER: u64 = 45;

/// The undisturbed runs, made once for this file.
struct Undisturbed {
    folder: PathBuf,
}

impl Undisturbed {
    fn shared() -> &'static Self {
        static RUNS: OnceLock<Undisturbed> = OnceLock::new();
        RUNS.get_or_init(|| {
            let runs = Self { folder: shared_folder("undisturbed") };
            run(0, &words(&prune(&runs.prune())));
            run(0, &words(&local(2, &[], &train(&runs.train()))));
            runs
        })
    }

    fn prune(&self) -> PathBuf {
        self.folder.join("prune")
    }

    fn train(&self) -> PathBuf {
        self.folder.join("train")
    }

    /// The run is what it would have been.
    fn equals_pruning(&self, run_folder: &Path) {
        Ledger::open(run_folder).unwrap().verify().unwrap();
        assert!(ledger_text(&self.prune()) == ledger_text(run_folder), "another ledger");
        assert!(items_text(&self.prune()) == items_text(run_folder), "other items");
    }

    fn equals_training(&self, run_folder: &Path) {
        assert_eq!(losses(&self.train()), losses(run_folder));
        assert!(ledger_text(&self.train()) == ledger_text(run_folder), "another ledger");
    }
}

fn prune(into: &Path) -> Vec<String> {
    World::shared().long_prune(into, COPIES)
}

fn train(into: &Path) -> Vec<String> {
    and(World::shared().train(into, 40), &["--threads", "1"])
}

/// Starts a cluster and waits until it is at work.
fn under_way(args: &[String], processes: usize, mut at_work: impl FnMut() -> bool) -> Group {
    let mut group = Group::start(args);
    group.wait_for_members(processes, 60);
    let begun = until(60, || at_work() || group.status().is_some());
    assert!(begun && group.status().is_none(), "not at work, or already over:\n{}", group.said());
    group
}

fn pruning(into: &Path, processes: usize, flags: &[&str]) -> Group {
    under_way(&local(processes, flags, &prune(into)), processes, || committed(into) > 2)
}

fn training(into: &Path, processes: usize, flags: &[&str]) -> Group {
    let checkpoint = into.join("checkpoints/step_00000005");
    under_way(&local(processes, flags, &train(into)), processes, || checkpoint.exists())
}

/// The launcher ends with status 3, a line names the process, and nobody is left.
fn ends_naming(group: &mut Group, process: usize) {
    let said = group.ends_with(3, OVER);
    says(&said, &[&format!("process {process}")], MOST_LINES);
    assert!(until(OVER, || group.all().is_empty()), "still there: {:?}", group.all());
}

#[test]
fn a_killed_process_is_named_and_the_others_end() {
    let folder = tempfile::tempdir().unwrap();
    // Process 0 is everybody's coordinator and writes the results; the last one is nobody's.
    for victim in [0, 2] {
        let into = folder.path().join(victim.to_string());
        let mut group = pruning(&into, 3, &PATIENCE);
        signal(group.members()[&victim], libc::SIGKILL);
        ends_naming(&mut group, victim);
        // On another number of processes and workers.
        run(0, &words(&local(2, &[], &and(prune(&into), &["--workers", "2"]))));
        Undisturbed::shared().equals_pruning(&into);
    }
}

#[test]
fn a_stopped_process_is_named_and_the_others_end() {
    let folder = tempfile::tempdir().unwrap();
    for victim in [0, 1] {
        let into = folder.path().join(victim.to_string());
        let mut group = pruning(&into, 2, &SILENCE);
        signal(group.members()[&victim], libc::SIGSTOP);
        ends_naming(&mut group, victim);
        run(0, &words(&prune(&into)));
        Undisturbed::shared().equals_pruning(&into);
    }
}

#[test]
fn a_killed_trainer_is_named_and_the_others_end() {
    let folder = tempfile::tempdir().unwrap();
    for victim in [0, 1] {
        let into = folder.path().join(victim.to_string());
        let mut group = training(&into, 2, &PATIENCE);
        signal(group.members()[&victim], libc::SIGKILL);
        ends_naming(&mut group, victim);
        run(0, &words(&local(2, &[], &train(&into))));
        Undisturbed::shared().equals_training(&into);
    }
}

#[test]
fn a_stopped_trainer_is_named_and_the_others_end() {
    let folder = tempfile::tempdir().unwrap();
    for victim in [0, 1] {
        let into = folder.path().join(victim.to_string());
        let mut group = training(&into, 2, &SILENCE);
        signal(group.members()[&victim], libc::SIGSTOP);
        ends_naming(&mut group, victim);
        run(0, &words(&local(2, &[], &train(&into))));
        Undisturbed::shared().equals_training(&into);
    }
}

/// It was only slow: what it then does must not hurt the run that went on without it.
#[test]
fn a_stopped_process_that_comes_back_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    let coordinator = free_address();
    let start = |process| {
        let command = and(prune(&into), &["--memory", "3GiB"]);
        Group::start(&one_of(2, process, &coordinator, &SILENCE, &command))
    };
    let (mut first, mut second) = (start(0), start(1));
    assert!(until(60, || committed(&into) > 4), "{}\n{}", first.said(), second.said());
    assert!(second.signal_all(libc::SIGSTOP) > 0);
    says(&first.ends_with(3, OVER), &["process 1"], MOST_LINES);
    run(0, &words(&prune(&into)));
    let resumed = ledger_text(&into);
    assert!(second.signal_all(libc::SIGCONT) > 0);
    no_panic(&second.ends_with(3, OVER));
    assert!(resumed == ledger_text(&into), "the process that came back changed the ledger");
    Undisturbed::shared().equals_pruning(&into);
    // And once more, which finds nothing to do.
    run(0, &words(&prune(&into)));
    Undisturbed::shared().equals_pruning(&into);
}

/// Shards in flight are finished and committed; the status says that there is more to do.
#[test]
fn a_signal_ends_a_cluster_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    for (name, number) in [("int", libc::SIGINT), ("term", libc::SIGTERM)] {
        let into = folder.path().join(name);
        let mut group = pruning(&into, 2, &PATIENCE);
        signal(group.pid(), number);
        let said = group.ends_with(3, 90);
        says(&said, &["interrupted"], 2 * MOST_LINES);
        assert!(!said.contains(" is gone"), "an orderly end is no loss:\n{said}");
        assert!(group.all().is_empty(), "still there: {:?}", group.all());
        parts_are_listed(&into);
        run(0, &words(&local(2, &[], &prune(&into))));
        Undisturbed::shared().equals_pruning(&into);
    }
}

#[test]
fn a_signal_ends_training_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    let mut group = training(&into, 2, &PATIENCE);
    signal(group.pid(), libc::SIGTERM);
    let said = group.ends_with(3, 90);
    says(&said, &["interrupted"], 2 * MOST_LINES);
    assert!(!said.contains(" is gone"), "an orderly end is no loss:\n{said}");
    run(0, &words(&local(2, &[], &train(&into))));
    Undisturbed::shared().equals_training(&into);
}

/// One process of several is told to end, as a scheduler may do: all of them end in good order.
#[test]
fn a_signal_to_one_process_ends_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    let mut group = pruning(&into, 2, &PATIENCE);
    signal(group.members()[&1], libc::SIGTERM);
    no_panic(&group.ends_with(3, 90));
    run(0, &words(&prune(&into)));
    Undisturbed::shared().equals_pruning(&into);
}

#[test]
fn a_second_signal_ends_a_cluster_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    let mut group = pruning(&into, 2, &PATIENCE);
    signal(group.pid(), libc::SIGINT);
    std::thread::sleep(std::time::Duration::from_millis(50));
    signal(group.pid(), libc::SIGINT);
    no_panic(&group.ends_with(3, 20));
    assert!(until(20, || group.all().is_empty()), "still there: {:?}", group.all());
    run(0, &words(&prune(&into)));
    Undisturbed::shared().equals_pruning(&into);
}

#[test]
fn processes_without_their_launcher_end() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    let group = pruning(&into, 2, &PATIENCE);
    signal(group.pid(), libc::SIGKILL);
    assert!(until(OVER, || group.all().is_empty()), "still there: {:?}", group.all());
    let said = group.said();
    no_panic(&said);
    assert!(complaints(&said).len() <= MOST_LINES, "{said}");
    run(0, &words(&prune(&into)));
    Undisturbed::shared().equals_pruning(&into);
}

/// A whole cluster that is stopped for longer than the silence and goes on: it ends or it finishes, and the ledger is the same.
#[test]
fn a_cluster_that_sleeps_wakes_up_to_the_same_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    let mut group = pruning(&into, 2, &SILENCE);
    group.signal_all(libc::SIGSTOP);
    std::thread::sleep(std::time::Duration::from_secs(4));
    group.signal_all(libc::SIGCONT);
    let status = group.ends_within(90);
    assert!(matches!(status, 0 | 3), "status {status}:\n{}", group.said());
    no_panic(&group.said());
    run(0, &words(&prune(&into)));
    Undisturbed::shared().equals_pruning(&into);
}

/// A mount that is lost takes thousands of shards: the run ends in order, and says how many.
#[test]
fn thousands_of_unreadable_shards_are_no_lost_process() {
    const SHARDS: usize = 8000;
    // In memory: every shard that is given up is a synced line.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let shards = folder.path().join("shards");
    std::fs::create_dir(&shards).unwrap();
    for shard in 0..SHARDS {
        // It opens, and reading it is an I/O error.
        let name = format!("{shard:05}-{}.tar", "long".repeat(55));
        std::os::unix::fs::symlink("/proc/self/mem", shards.join(name)).unwrap();
    }
    let into = folder.path().join("run");
    let [shards, into] = [&shards, &into].map(|path| path.display().to_string());
    let command = ["prune", &shards, "--rule", "random:50%", "--run", &into].map(str::to_owned);
    let mut group = Group::start(&local(2, &["--silence", "30"], &command));
    let said = group.ends_with(3, 300);
    assert!(!said.contains(" is gone"), "{said}");
    assert!(said.contains(&format!("{SHARDS} shards could not be read")), "{}", &said[said.len() - 2000..]);
}
