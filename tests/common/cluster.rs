//! Command lines of clusters, and what may be said when one of their processes is lost.

use std::net::TcpListener;

/// `trommel launch --local N [FLAGS] -- COMMAND`.
pub fn local(processes: usize, flags: &[&str], command: &[String]) -> Vec<String> {
    let mut args = vec!["launch".to_owned(), "--local".into(), processes.to_string()];
    args.extend(flags.iter().map(|flag| (*flag).to_owned()));
    args.push("--".into());
    args.extend_from_slice(command);
    args
}

/// `trommel launch --processes N --process I --coordinator ADDRESS [FLAGS] -- COMMAND`.
pub fn one_of(processes: usize, process: usize, coordinator: &str, flags: &[&str], command: &[String]) -> Vec<String> {
    let mut args: Vec<String> = ["launch", "--processes"].map(String::from).into();
    args.extend([processes.to_string(), "--process".into(), process.to_string()]);
    args.extend(["--coordinator".into(), coordinator.into()]);
    args.extend(flags.iter().map(|flag| (*flag).to_owned()));
    args.push("--".into());
    args.extend_from_slice(command);
    args
}

/// A loopback address that nobody listened on a moment ago.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The command with more words behind it.
pub fn and(mut command: Vec<String>, more: &[&str]) -> Vec<String> {
    command.extend(more.iter().map(|word| (*word).to_owned()));
    command
}

/// What a cluster said about an end that was not orderly: lines of its own kind, warnings and errors. Progress is left out.
pub fn complaints(said: &str) -> Vec<&str> {
    let lines = said.lines().filter(|line| {
        let line = without_prefix(line);
        line.starts_with("trommel:") || line.starts_with("ERROR") || line.starts_with("WARN")
    });
    // The result's summary is no complaint.
    lines.filter(|line| !line.contains("samples") || line.contains("process")).collect()
}

/// A line without the `[1] ` of a launcher and without padding.
fn without_prefix(line: &str) -> &str {
    let line = line.trim_start();
    let numbered = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    match numbered {
        Some((number, rest)) if number.chars().all(|c| c.is_ascii_digit()) => rest.trim_start(),
        _ => line,
    }
}

/// Nobody panicked, nor shows a backtrace.
pub fn no_panic(said: &str) {
    for word in ["panicked", "trommel: thread ", "stack backtrace", "terminate called", "Aborted", "Segmentation"] {
        assert!(!said.contains(word), "`{word}` stands in:\n{said}");
    }
}

/// One line at least holds all of `parts`; there are no more than `most` complaints, and nobody panicked.
pub fn says(said: &str, parts: &[&str], most: usize) {
    let found = said.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found, "no line holds all of {parts:?}:\n{said}");
    let complaints = complaints(said);
    assert!(complaints.len() <= most, "{} lines where {most} would do:\n{said}", complaints.len());
    no_panic(said);
}
