//! How the start of a cluster can fail, and the one line for each way.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use common::cluster::{and, free_address, local, no_panic, one_of, says};
use common::members::append;
use common::processes::{Group, committed, newest, signal, until};
use common::{World, ledger_text, run, trommel, words};

/// Lines for one refusal.
const MOST_LINES: usize = 3;
/// Seconds after which a refused process is over.
const OVER: u64 = 60;

fn prune(into: &Path) -> Vec<String> {
    and(World::shared().prune(into), &["--memory", "3GiB", "--threads", "1"])
}

/// `command` with the value of a flag replaced.
fn instead(mut command: Vec<String>, flag: &str, value: &str) -> Vec<String> {
    let at = command.iter().position(|word| word == flag).unwrap();
    command[at + 1] = value.into();
    command
}

/// Process `process` of two.
fn start(process: usize, coordinator: &str, flags: &[&str], command: &[String]) -> Group {
    Group::start(&one_of(2, process, coordinator, flags, command))
}

#[test]
fn processes_started_by_hand_find_each_other_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    run(0, &words(&World::shared().prune(&whole)));
    for (name, order) in [("forth", [0, 1]), ("back", [1, 0])] {
        let into = folder.path().join(name);
        // By a hostfile; and by process 0's address, with one of the other's own.
        let [coordinator, other] = [free_address(), free_address()];
        let hosts = folder.path().join("hosts").display().to_string();
        std::fs::write(&hosts, format!("{coordinator}  # the first\n{other}\n")).unwrap();
        let mut both = order.map(|process| {
            let group = if name == "back" {
                let number = process.to_string();
                let launch = ["launch", "--process", &number, "--hostfile", &hosts, "--"].map(String::from);
                Group::start(&[&launch[..], &prune(&into)].concat())
            } else {
                start(process, &coordinator, &["--listen", &other][..2 * process], &prune(&into))
            };
            std::thread::sleep(Duration::from_millis(300));
            group
        });
        for group in &mut both {
            no_panic(&group.ends_with(0, OVER));
        }
        assert_eq!(ledger_text(&whole), ledger_text(&into));
    }
}

#[test]
fn a_second_run_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    // More steps than anybody waits for.
    let command = World::shared().train(&into, 1_000_000);
    let mut first = Group::start(&local(2, &[], &command));
    assert!(until(60, || newest(&into) > 0 && committed(&into) == 6), "{}", first.said());
    for second in [local(2, &[], &command), command.clone()] {
        let mut second = Group::start(&second);
        let said = second.ends_with(2, OVER);
        says(&said, &["run", "another run"], MOST_LINES);
    }
    assert!(first.status().is_none(), "{}", first.said());
    signal(first.pid(), libc::SIGTERM);
    no_panic(&first.ends_with(3, 120));
    let ledger = trommel_ledger::read::Ledger::open(&into).unwrap();
    ledger.verify().unwrap();
    assert_eq!(ledger.shards().len(), 6);
}

#[test]
fn another_rule_is_named_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = free_address();
    let ours = prune(&folder.path().join("run"));
    let theirs = instead(ours.clone(), "--rule", "drop-above:0.5");
    let mut both = [start(0, &coordinator, &[], &ours), start(1, &coordinator, &[], &theirs)];
    for group in &mut both {
        let status = group.ends_within(OVER);
        assert!(matches!(status, 1 | 2), "status {status}:\n{}", group.said());
        // Hashes, or what they are made of; both sides' in one line.
        says(&group.said(), &["configuration"], MOST_LINES);
    }
    assert_eq!(committed(&folder.path().join("run")), 0);
}

#[test]
fn another_run_is_named_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = free_address();
    let command = prune(&folder.path().join("run"));
    let begun = |process, id| start(process, &coordinator, &["--run-id", id, "--start-timeout", "15"], &command);
    let mut both = [begun(0, "monday"), begun(1, "tuesday")];
    // A process of another run does not end this one: it goes on waiting for its own, and nobody comes.
    let said = both[1].ends_within(OVER);
    assert!(matches!(said, 1..=3), "{}", both[1].said());
    says(&both[1].said(), &["monday", "tuesday"], MOST_LINES);
    let status = both[0].ends_within(OVER);
    assert!(matches!(status, 1..=3), "{}", both[0].said());
    says(&both[0].said(), &["monday", "tuesday"], MOST_LINES);
}

#[test]
fn another_number_of_workers_is_named_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = free_address();
    let ours = prune(&folder.path().join("run"));
    let theirs = and(ours.clone(), &["--workers", "2"]);
    let mut both = [start(0, &coordinator, &[], &ours), start(1, &coordinator, &[], &theirs)];
    for group in &mut both {
        let status = group.ends_within(OVER);
        assert!(matches!(status, 1 | 2), "status {status}:\n{}", group.said());
        says(&group.said(), &["workers", "1", "2"], MOST_LINES);
    }
}

#[test]
fn a_missing_process_is_named_when_the_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let command = prune(&folder.path().join("run"));
    let flags = ["--start-timeout", "3"];
    let mut coordinator = start(0, &free_address(), &flags, &command);
    let mut other = start(1, &free_address(), &flags, &command);
    assert_ne!(coordinator.ends_within(OVER), 0);
    says(&coordinator.said(), &["process 1"], MOST_LINES);
    assert_ne!(other.ends_within(OVER), 0);
    says(&other.said(), &["process 0"], MOST_LINES);
}

#[test]
fn an_address_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut group = start(0, &address, &["--start-timeout", "5"], &prune(&folder.path().join("run")));
    assert_ne!(group.ends_within(OVER), 0);
    says(&group.said(), &[&address, "in use"], MOST_LINES);
    let (coordinator, command) = (free_address(), prune(&folder.path().join("other")));
    let mut first = start(0, &coordinator, &["--start-timeout", "60"], &command);
    let mut group = start(1, &coordinator, &["--listen", &address], &command);
    assert_ne!(group.ends_within(OVER), 0);
    says(&group.said(), &[&address, "in use"], MOST_LINES);
    first.kill_all();
}

#[test]
fn a_number_twice_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = free_address();
    let command = prune(&folder.path().join("run"));
    let flags = ["--start-timeout", "20"];
    let begun = |process| Group::start(&one_of(3, process, &coordinator, &flags, &command));
    let mut first = begun(0);
    std::thread::sleep(Duration::from_millis(500));
    let mut twins = [begun(1), begun(1)];
    // One of the two is refused at once; the third never comes.
    let over = until(OVER, || twins.iter_mut().any(|twin| twin.status().is_some()));
    assert!(over, "{}\n{}", twins[0].said(), twins[1].said());
    let refused = twins.iter_mut().find_map(|twin| twin.status().map(|_| twin.said())).unwrap();
    says(&refused, &["process number"], MOST_LINES);
    first.ends_within(OVER);
    no_panic(&first.said());
}

/// Whoever knocks: a browser, a scanner, someone who says nothing, someone who announces four gigabytes.
#[test]
fn strangers_at_the_door_hurt_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, into) = (folder.path().join("whole"), folder.path().join("run"));
    run(0, &words(&World::shared().prune(&whole)));
    let coordinator = free_address();
    let mut first = start(0, &coordinator, &[], &prune(&into));
    let mut silent = None;
    let there = until(30, || {
        silent = TcpStream::connect(&coordinator).ok();
        silent.is_some() || first.status().is_some()
    });
    assert!(there && silent.is_some(), "nobody listens on {coordinator}: {}", first.said());
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    for garbage in [http, vec![0xff; 4096], vec![0; 4096], vec![0xff, 0xff, 0xff, 0xff], Vec::new()] {
        let mut stranger = TcpStream::connect(&coordinator).unwrap();
        let _written = stranger.write_all(&garbage);
    }
    let mut second = start(1, &coordinator, &[], &prune(&into));
    // And while they work, at both doors that can be found.
    until(30, || committed(&into) > 0 || first.status().is_some());
    if let Ok(mut stranger) = TcpStream::connect(&coordinator) {
        let _written = stranger.write_all(b"hello?\n");
    }
    no_panic(&first.ends_with(0, OVER));
    no_panic(&second.ends_with(0, OVER));
    drop(silent);
    assert_eq!(ledger_text(&whole), ledger_text(&into));
}

/// Who knows the address, the command and the run's id, and not its secret, is a line; the run comes together without it.
#[test]
fn a_process_without_the_secret_is_refused_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    let (coordinator, command) = (free_address(), prune(&into));
    let flags = ["--run-id", "known"];
    let mut first = start(0, &coordinator, &flags, &command);
    let mut guessing = trommel();
    guessing.env("TROMMEL_SECRET", "0123456789abcdef");
    let mut guesser = Group::of(guessing, &one_of(2, 1, &coordinator, &flags, &command));
    assert_eq!(guesser.ends_within(OVER), 2, "{}", guesser.said());
    says(&guesser.said(), &["process 0", "the run's secret"], MOST_LINES);
    let mut second = start(1, &coordinator, &flags, &command);
    let said = first.ends_with(0, OVER);
    says(&said, &["refused process 1", "the run's secret"], MOST_LINES);
    no_panic(&second.ends_with(0, OVER));
    let secret = std::fs::metadata(into.join("cluster.secret")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&secret.permissions()) & 0o777, 0o600);
}

/// Names come from strangers: what they hold reaches no terminal as it is, neither here nor by way of a launcher.
#[test]
fn control_characters_of_names_are_escaped_where_they_are_shown() {
    const NAME: &str = "a\u{1b}]0;owned\u{7}\u{9b}2J\r";
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let shard = path(&format!("{NAME}.tar"));
    let mut tar = tar::Builder::new(std::fs::File::create(&shard).unwrap());
    let grey: &[u8] = b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00\x3a\x7e\x9b\x55\x00\x00\x00\x0a\x49\x44\x41\x54\x78\x9c\x63\x68\x00\x00\x00\x82\x00\x81\x77\xcd\x72\xb6\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";
    let members: [(String, &[u8]); 3] =
        [(format!("{NAME}.jpg"), b"no!"), (format!("{NAME}.txt"), b"no!"), ("good.png".into(), grey)];
    for (member, bytes) in members {
        append(&mut tar, member, bytes);
    }
    tar.into_inner().unwrap();
    let command = ["prune", &shard, "--rule", "random:50%", "--run", &path("run")].map(str::to_owned);
    let mut alone = Group::start(&command);
    alone.ends_within(OVER);
    let missing =
        ["prune", &path(&format!("{NAME}b.tar")), "--rule", "random:50%", "--run", &path("x")].map(str::to_owned);
    let mut relayed = Group::start(&local(2, &[], &missing));
    relayed.ends_within(OVER);
    let [mut why, mut json] = [&["why"][..], &["why", "--json"]].map(|words| {
        let words = words.iter().map(|word| (*word).to_owned());
        Group::start(&words.chain([path("run"), NAME.to_owned()]).collect::<Vec<_>>())
    });
    why.ends_with(0, OVER);
    json.ends_with(0, OVER);
    for shown in [alone.said(), relayed.said(), why.output(), json.output()] {
        let raw = shown.chars().find(|c| c.is_control() && *c != '\n');
        assert!(raw.is_none(), "{raw:?} stands in {shown:?}");
    }
    assert!(relayed.said().contains("\\u{1b}]0;owned\\u{7}\\u{9b}2J\\r"), "{}", relayed.said());
    assert!(why.output().contains("\\u{1b}]0;owned"), "{}", why.output());
    assert!(json.output().contains("\\u001b]0;owned\\u0007\\u009b2J"), "{}", json.output());
}

#[test]
fn wrong_usage_is_one_line_and_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let command = prune(&folder.path().join("run"));
    let of = |flags: &[&str], command: &[String]| {
        let mut args = vec!["launch".to_owned()];
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        args.push("--".into());
        args.extend_from_slice(command);
        args
    };
    let report = ["report".to_owned(), "nowhere".into(), "-o".into(), "x.html".into()];
    for wrong in [
        of(&["--local", "0"], &command),
        of(&["--local", "two"], &command),
        of(&["--local", "2"], &[]),
        of(&["--local", "2"], &report),
        of(&["--processes", "2", "--process", "2", "--coordinator", "127.0.0.1:1"], &command),
        of(&["--processes", "2", "--process", "0"], &command),
        of(&["--processes", "2", "--process", "0", "--coordinator", "no port"], &command),
        of(&["--processes", "2", "--process", "0", "--hostfile", "no/such/file"], &command),
        of(&["--local", "2", "--processes", "2", "--process", "0"], &command),
    ] {
        let mut group = Group::start(&wrong);
        let status = group.ends_within(OVER);
        assert_eq!(status, 2, "{wrong:?}\n{}", group.said());
        no_panic(&group.said());
        assert!(!group.said().is_empty(), "{wrong:?}: not a word");
    }
    assert!(!folder.path().join("run").exists(), "a refused command makes no run folder");
}

/// A wrong input is found by every process; it is said, not multiplied, and the status is that of one program.
#[test]
fn a_wrong_input_is_said_by_a_cluster_as_by_one_program() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = prune(&folder.path().join("run"));
    command[1] = "no/such/00000.tar".into();
    let mut group = Group::start(&local(2, &[], &command));
    let said = group.ends_with(2, OVER);
    says(&said, &["no/such/00000.tar"], 2 * MOST_LINES);
}
