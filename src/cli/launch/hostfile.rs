//! Places from a hostfile, or from process 0's address alone.
//!
//! A hostfile has a line a process, in the order of their numbers: `host` or `host:port`. `#` begins a comment. Several
//! processes of one machine are several lines with its name.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use trommel_cluster::ClusterConfig;

use super::variables::Found;
use super::{DEFAULT_PORT, LaunchError};
use crate::wrong_value::WrongValue;

/// One process's line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// Name or address; an IPv6 address in brackets.
    pub host: String,
    /// Where it listens; `None`: it may choose.
    pub port: Option<u16>,
}

impl Host {
    /// `host`, `host:port`, `[::1]:port`.
    pub fn parse(text: &str) -> Result<Self, WrongValue> {
        let (host, port) = if text.starts_with('[') {
            let end = text.find(']').ok_or("a bracket is not closed")?;
            let rest = &text[end + 1..];
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or("write [ADDRESS]:PORT")?) };
            text[1..end].parse::<std::net::Ipv6Addr>().map_err(|_| "what stands in brackets is no IPv6 address")?;
            (&text[..=end], port)
        } else {
            match text.split_once(':') {
                Some((_, port)) if port.contains(':') => return Err("write an IPv6 address in brackets".into()),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_[]:".contains(c);
        if host.is_empty() || !host.chars().all(is_plain) {
            return Err(format!("`{host}` is no host's name or address").into());
        }
        let port = port.map(|port| match port.parse::<u16>() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("`{port}` is no port (1 to 65535)")),
        });
        Ok(Self { host: host.to_owned(), port: port.transpose()? })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// The processes of a hostfile's `text`.
pub fn parse(text: &str, file: &Path) -> Result<Vec<Host>, LaunchError> {
    let mut hosts = Vec::new();
    let mut taken = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let wrong = |problem: WrongValue| LaunchError::Hostfile { file: file.to_owned(), line: at + 1, problem };
        let line_without_comment = line.split('#').next().unwrap_or_default();
        let mut words = line_without_comment.split_whitespace();
        let Some(word) = words.next() else { continue };
        if let Some(extra) = words.next() {
            let hint = "a line is one process, HOST or HOST:PORT; write the host once for each of its processes";
            return Err(wrong(format!("`{extra}` is too much: {hint}").into()));
        }
        let host = Host::parse(word).map_err(wrong)?;
        if host.port.is_some()
            && let Some(before) = taken.insert(host.clone(), at + 1)
        {
            return Err(wrong(format!("{host} stands in line {before} already").into()));
        }
        hosts.push(host);
    }
    if hosts.is_empty() {
        return Err(LaunchError::Usage(format!("{}: no host in it", file.display())));
    }
    Ok(hosts)
}

/// The place of process `process` of `hosts`.
pub fn place(hosts: &[Host], processes: Option<usize>, process: usize, file: &Path) -> Result<Found, LaunchError> {
    let (file, lines) = (file.display(), hosts.len());
    if let Some(said) = processes.filter(|said| *said != lines) {
        return Err(LaunchError::Usage(format!("{file} has {lines} processes, --processes says {said}")));
    }
    let Some(own) = hosts.get(process) else {
        let last = lines - 1;
        return Err(LaunchError::Usage(format!("--process {process}: {file} has processes 0 to {last}")));
    };
    let coordinator = Host { port: Some(hosts[0].port.unwrap_or(DEFAULT_PORT)), ..hosts[0].clone() };
    let neighbours = |among: &[Host]| among.iter().filter(|host| host.host == own.host).count();
    let mut config = ClusterConfig::new(lines, process, &coordinator.to_string(), &format!("at-{coordinator}"));
    if process > 0 && own.port.is_some() {
        config.listen = Some(own.to_string());
    }
    let (local_processes, local_process) = (neighbours(hosts), neighbours(&hosts[..process]));
    Ok(Found { local_processes, local_process, ..Found::new(config) })
}

/// The place of process `process` of `processes`, where only process 0's address is known. A loopback address says that
/// all are on this machine; else each is taken to be alone on its own.
pub fn coordinated(coordinator: &str, processes: usize, process: usize) -> Result<Found, LaunchError> {
    let usage = |problem: WrongValue| LaunchError::Usage(format!("--coordinator {coordinator}: {problem}"));
    let mut host = Host::parse(coordinator).map_err(usage)?;
    host.port.get_or_insert(DEFAULT_PORT);
    if process >= processes {
        let last = processes.saturating_sub(1);
        return Err(LaunchError::Usage(format!("--process {process}: of {processes} processes the last is {last}")));
    }
    let address: Option<IpAddr> = host.host.trim_matches(['[', ']']).parse().ok();
    let here = address.map_or(host.host == "localhost", |address| address.is_loopback());
    let (local_processes, local_process) = if here { (processes, process) } else { (1, 0) };
    let config = ClusterConfig::new(processes, process, &host.to_string(), &format!("at-{host}"));
    Ok(Found { local_processes, local_process, ..Found::new(config) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Result<Vec<Host>, LaunchError> {
        parse(text, Path::new("hosts"))
    }

    #[test]
    fn lines() {
        for (text, meant) in [
            ("a", "a"),
            ("a:1\nb:2", "a:1 b:2"),
            ("# ours\n\na  # the first\n\t b:77\r\n", "a b:77"),
            ("a\na", "a a"),
            ("10.0.0.7:29600", "10.0.0.7:29600"),
            ("[fd00::7]:9\n[::1]", "[fd00::7]:9 [::1]"),
        ] {
            let found: Vec<String> = hosts(text).expect(text).iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), meant, "{text:?}");
        }
    }

    #[test]
    fn wrong_lines_are_named() {
        for (text, begins) in [
            ("a\nb slots=4", "hosts:2: `slots=4` is too much"),
            ("a b", "hosts:1: `b` is too much"),
            ("a:x", "hosts:1: `x` is no port"),
            ("a:0", "hosts:1: `0` is no port"),
            ("a:70000", "hosts:1: `70000` is no port"),
            ("a:", "hosts:1: `` is no port"),
            (":1", "hosts:1: `` is no host"),
            ("fd00::7", "hosts:1: write an IPv6 address in brackets"),
            ("[fd00::7", "hosts:1: a bracket is not closed"),
            ("[a]:1", "hosts:1: what stands in brackets"),
            ("[::1]9", "hosts:1: write [ADDRESS]:PORT"),
            ("\na:1\n\na:1", "hosts:4: a:1 stands in line 2 already"),
            ("a/b", "hosts:1: `a/b` is no host"),
            ("# nobody\n\n", "hosts: no host in it"),
        ] {
            let line = hosts(text).expect_err(text).to_string();
            assert!(line.starts_with(begins) && !line.contains('\n'), "{text:?}: {line}");
        }
    }

    #[test]
    fn places() {
        let all = hosts("a\nb:7\na\nb\n").expect("fine");
        let of = |process: usize| place(&all, Some(4), process, Path::new("hosts")).expect("a place");
        for process in 0..4 {
            let found = of(process);
            assert_eq!((found.config.processes, found.config.process), (4, process));
            assert_eq!(found.config.coordinator, "a:29600");
            assert_eq!((found.local_processes, found.local_process), (2, process / 2), "{process}");
            assert_eq!(found.config.listen.as_deref(), (process == 1).then_some("b:7"));
            assert_eq!(found.config.run_id, of(0).config.run_id);
        }
        assert!(place(&all, Some(3), 0, Path::new("hosts")).is_err());
        assert!(place(&all, None, 4, Path::new("hosts")).is_err());
    }

    #[test]
    fn a_coordinator_on_this_machine_has_all_here() {
        for (address, local, full) in [
            ("127.0.0.1:4000", 3, "127.0.0.1:4000"),
            ("localhost", 3, "localhost:29600"),
            ("[::1]:4", 3, "[::1]:4"),
            ("head:4000", 1, "head:4000"),
            ("10.0.0.1", 1, "10.0.0.1:29600"),
        ] {
            let found = coordinated(address, 3, 2).expect(address);
            assert_eq!((found.local_processes, found.config.coordinator.as_str()), (local, full));
        }
        assert!(coordinated("a:x", 2, 0).is_err() && coordinated("a:1", 2, 2).is_err());
    }
}
