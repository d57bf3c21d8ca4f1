//! `trommel launch` and `--metrics`, by the built program: what is refused, how a run is watched, who ends with whom.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::cluster::local;
use common::processes::{Group, newest, signal, until};
use common::{World, run, stderr, trommel, words};

/// Runs and gives the one line that it says.
fn refused(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let said = stderr(&out);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(out.stdout.is_empty());
    said
}

#[test]
fn what_cannot_be_launched_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "a\nb slots=4\n").unwrap();
    let hosts = hosts.display().to_string();
    for (line, part) in [
        ("launch --local 2 -- synth out", "launch takes prune, embed, train and watch"),
        ("launch --local 2 -- launch --local 2 -- prune a --run r", "inside a `trommel launch`"),
        ("launch --local 2 -- prune - --run r --rule random:1%", "standard input"),
        ("launch --local 2 -- prune a.tar --run r --part 0/2", "--part"),
        (&format!("launch --process 0 --hostfile {hosts} -- prune a.tar --run r"), "hosts:2: `slots=4` is too much"),
        ("launch -- prune a.tar --run r", "say --local N, or which process"),
        ("launch --process 0 --coordinator a:1 -- prune a.tar --run r", "--processes N is missing"),
        ("launch --process 2 --processes 2 --coordinator a:1 -- prune a.tar --run r", "the last is 1"),
        ("prune a.tar --run r --rule random:1% --metrics 1.2.3.4", "--metrics 1.2.3.4"),
    ] {
        let said = refused(trommel().args(line.split(' ')));
        assert!(said.contains(part), "{line}: {said}");
    }
    let inside = refused(trommel().args(words_of("launch --local 2 -- prune a --run r")).env("TROMMEL_CLUSTER", "{}"));
    assert!(inside.contains("inside a `trommel launch`"), "{inside}");
    let strange = refused(trommel().args(words_of("prune a --run r --rule random:1%")).env("TROMMEL_CLUSTER", "{}"));
    assert!(strange.contains("the variable TROMMEL_CLUSTER="), "{strange}");
    let mut half = trommel();
    half.args(words_of("prune a --run r --rule random:1%")).env("RANK", "0").env("WORLD_SIZE", "2");
    assert!(refused(&mut half).contains("MASTER_ADDR is not"));
}

fn words_of(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[test]
fn help_of_the_inner_command_is_help() {
    let out = run(0, &["launch", "--local", "2", "--", "prune", "--help"]);
    assert!(String::from_utf8_lossy(&out.stdout).contains("--rule"));
}

#[test]
fn one_process_needs_no_cluster_and_a_slice_is_none() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let (alone, slice) = (folder.path().join("alone"), folder.path().join("slice"));
    let mut args = vec!["launch".to_owned(), "--local".into(), "1".into(), "--".into()];
    args.extend(world.prune(&alone));
    run(0, &words(&args));
    let mut args = world.prune(&slice);
    args.extend(["--part".into(), "0/2".into()]);
    let step = [("SLURM_STEP_NODELIST", "n[1-2]"), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "2")];
    let out = trommel().args(&args).envs(step).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
}

/// The address in the line that says where the metrics are; the rest of stderr is read away.
fn metrics_address(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("metrics on http://") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "no address");
    }
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    line.trim().rsplit_once("http://").unwrap().1.trim_end_matches("/metrics").to_owned()
}

fn get(address: &str, path: &str) -> Option<String> {
    let mut client = TcpStream::connect(address).ok()?;
    write!(client, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").ok()?;
    let mut reply = String::new();
    client.read_to_string(&mut reply).ok()?;
    Some(reply)
}

/// The value of a sample on the page.
fn value(page: &str, sample: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_run_is_watched_while_it_runs() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut args = world.long_prune(&folder.path().join("run"), 8);
    args.extend(["--metrics", "0"].map(String::from));
    let mut child = trommel().args(&args).stderr(Stdio::piped()).spawn().unwrap();
    let address = metrics_address(&mut child);
    assert!(address.starts_with("127.0.0.1:"), "loopback unless an address is given: {address}");
    let decoded = r#"trommel_stage_items_total{process="0",stage="decode"}"#;
    let (mut last, mut kept) = (0.0, 0.0);
    while child.try_wait().unwrap().is_none() {
        let Some(reply) = get(&address, "/metrics") else { continue };
        let Some((head, page)) = reply.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(value(page, r#"trommel_process_ended{process="0"}"#), None, "alone there is nobody to hear of");
        if let Some(now) = value(page, decoded) {
            assert!(now >= last, "what ends in _total only grows");
            last = now;
            assert!(value(page, r#"trommel_credit_budget_bytes{process="0"}"#).unwrap() > 0.0);
            assert_eq!(value(page, r#"trommel_planned_shards{process="0"}"#), Some(48.0));
        }
        kept = value(page, r#"trommel_samples_total{process="0",status="kept"}"#).unwrap_or(kept);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    assert!(last > 0.0 && kept > 0.0, "{last} decoded, {kept} kept were seen");
    assert!(get(&address, "/metrics").is_none(), "the page ends with the run");
}

#[test]
fn a_taken_metrics_address_is_refused_before_the_run_begins() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut args = world.prune(&into);
    args.extend(["--metrics".into(), port.clone()]);
    let said = refused(trommel().args(&args));
    assert!(said.contains(&port) && said.contains("the address is in use"), "{said}");
    assert!(!into.exists());
}

/// A launch whose two processes have work for long, and have begun; with their process ids.
fn long_launch(into: &Path) -> (Group, BTreeMap<usize, i32>) {
    let mut group = Group::start(&local(2, &["--silence", "120"], &World::shared().train(into, 1_000_000)));
    let members = group.wait_for_members(2, 60);
    assert!(until(60, || newest(into) > 0 || group.status().is_some()), "{}", group.said());
    (group, members)
}

#[test]
fn processes_end_when_their_launcher_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (group, _) = long_launch(&folder.path().join("run"));
    assert!(signal(group.pid(), libc::SIGKILL));
    assert!(until(60, || group.all().is_empty()), "still there: {:?}", group.all());
}

#[test]
fn a_killed_process_is_named_and_the_whole_is_unfinished() {
    let folder = tempfile::tempdir().unwrap();
    let (mut group, members) = long_launch(&folder.path().join("run"));
    let victim = members[&1];
    assert!(signal(victim, libc::SIGKILL));
    let said = group.ends_with(3, 60);
    let line = format!("(pid {victim}) was killed by signal 9 (SIGKILL); the same command resumes");
    assert!(said.contains(&line), "{said}");
}

#[test]
fn three_signals_end_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (mut group, _) = long_launch(&folder.path().join("run"));
    for _ in 0..3 {
        signal(group.pid(), libc::SIGINT);
        std::thread::sleep(Duration::from_millis(200));
    }
    group.ends_with(3, 60);
    assert!(until(60, || group.all().is_empty()), "still there: {:?}", group.all());
}
