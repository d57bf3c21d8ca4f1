//! The start: every process finds every other.
//!
//! ```text
//!  process i                      process 0                      process j < i
//!  control ──────────────────────▶ waits for all
//!          ◀──── table of addresses
//!  timely, samples ──────────────▶
//!  control, timely, samples ────────────────────────────────────▶
//! ```
//!
//! Whoever fails tells those who have come, so that all name the same reason.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::acceptor::{Acceptor, Arrival};
use super::config::{Agreement, ClusterConfig};
use super::error::ClusterError;
use super::handshake::{ConnectionKind, Hello};
use super::mesh::{Call, bind, gone, listen, listen_as_coordinator, reachable};
use super::message::{Frame, read_frame};
use trommel_core::causes::Causes;

/// How much longer than process 0 the others wait, so that its word comes first.
const LATER: Duration = Duration::from_secs(5);

/// The connections of a process, by the other process; none to itself.
pub(super) struct Met {
    pub(super) controls: Vec<Option<TcpStream>>,
    pub(super) timely: Vec<Option<TcpStream>>,
    /// Where this process asks for samples.
    pub(super) asks: Vec<Option<TcpStream>>,
    /// Where this process is asked.
    pub(super) serves: Vec<Option<TcpStream>>,
    /// Where everybody listens.
    pub(super) addresses: Vec<String>,
    /// Where this process listens; unspecified where that is at all its addresses.
    pub(super) listening: IpAddr,
    pub(super) local: IpAddr,
    pub(super) coordinator: IpAddr,
    /// Keeps refusing callers.
    pub(super) acceptor: Option<Acceptor>,
}

impl Met {
    /// Nobody has called yet.
    fn nobody(config: &ClusterConfig) -> Self {
        let none = || (0..config.processes).map(|_| None).collect::<Vec<Option<TcpStream>>>();
        let nowhere = IpAddr::from(Ipv4Addr::LOCALHOST);
        Self {
            controls: none(),
            timely: none(),
            asks: none(),
            serves: none(),
            addresses: vec![config.coordinator.clone(); config.processes],
            listening: nowhere,
            local: nowhere,
            coordinator: nowhere,
            acceptor: None,
        }
    }
}

struct Start<'a> {
    config: &'a ClusterConfig,
    hello: Hello,
    deadline: Instant,
    met: Met,
}

/// Meets all other processes.
pub(super) fn meet(
    config: &ClusterConfig,
    listener: Option<TcpListener>,
    agreement: &Agreement,
    samples: bool,
) -> Result<Met, ClusterError> {
    config.check()?;
    let met = Met::nobody(config);
    let hello = Hello::new(config, agreement, samples);
    let mut start = Start { config, hello, deadline: Instant::now() + config.start_timeout, met };
    let done = match (config.processes, config.process) {
        (1, _) => {
            start.alone();
            Ok(())
        }
        (_, 0) => start.coordinate(listener),
        _ => start.follow(listener),
    };
    match done {
        Ok(()) => Ok(start.met),
        Err(error) => {
            start.tell(&error);
            Err(error)
        }
    }
}

impl Start<'_> {
    fn alone(&mut self) {
        let found = self.config.coordinator.to_socket_addrs().ok().and_then(|mut found| found.next());
        if let Some(address) = found {
            (self.met.local, self.met.coordinator) = (address.ip(), address.ip());
        }
    }

    fn coordinate(&mut self, listener: Option<TcpListener>) -> Result<(), ClusterError> {
        let config = self.config;
        let listener = match listener {
            Some(listener) => listener,
            None => config.listen.as_deref().map_or_else(|| listen_as_coordinator(&config.coordinator), listen)?,
        };
        let own = listener.local_addr().map_err(ClusterError::system("the listener"))?;
        self.met.listening = own.ip();
        self.met.acceptor = Some(Acceptor::open(listener, self.hello.clone(), config.secret.clone())?);
        self.gather(&[ConnectionKind::Control])?;
        let arrivals = self.take(ConnectionKind::Control);
        let remote = arrivals.iter().flatten().find(|arrival| !arrival.from.ip().is_loopback());
        let seen_from_afar = remote.and_then(|arrival| arrival.stream.local_addr().ok());
        let nearest = arrivals.iter().flatten().next().and_then(|arrival| arrival.stream.local_addr().ok());
        self.met.local = seen_from_afar.or(nearest).unwrap_or(own).ip();
        self.met.coordinator = self.met.local;
        self.met.addresses[0] = SocketAddr::new(self.met.local, own.port()).to_string();
        for (process, arrival) in arrivals.into_iter().enumerate() {
            let Some(Arrival { stream, from, listen }) = arrival else { continue };
            let mut address = listen.and_then(|said| said.parse::<SocketAddr>().ok()).unwrap_or(from);
            if let Some(own) = seen_from_afar.filter(|_| address.ip().is_loopback()) {
                address.set_ip(own.ip()); // it is on this machine, and others are not
            }
            self.met.addresses[process] = address.to_string();
            self.met.controls[process] = Some(stream);
        }
        let table = Frame::Table(self.met.addresses.clone()).encode();
        let table = table.map_err(|_| ClusterError::Config("too many processes for the table of addresses".into()))?;
        for (process, control) in self.met.controls.iter().enumerate() {
            let Some(mut control) = control.as_ref() else { continue };
            control.write_all(&table).map_err(|error| self.ended(process, error.to_string()))?;
        }
        self.deadline = Instant::now() + config.start_timeout;
        self.rest()
    }

    fn follow(&mut self, listener: Option<TcpListener>) -> Result<(), ClusterError> {
        let config = self.config;
        let mut listener = match (listener, &config.listen) {
            (Some(listener), _) => Some(listener),
            (None, Some(address)) => Some(listen(address)?),
            (None, None) => None,
        };
        let hello = self.hello.clone();
        let control = self.call(0, &config.coordinator).place(|stream| {
            let local = stream.local_addr().map_err(ClusterError::system("a connection"))?;
            let own = match listener.take() {
                Some(own) => own,
                None => {
                    let any = SocketAddr::new(reachable(local.ip(), &config.coordinator), 0);
                    bind(any, &any.to_string())?
                }
            };
            let mut address = own.local_addr().map_err(ClusterError::system("the listener"))?;
            if address.ip().is_unspecified() {
                address.set_ip(local.ip());
            }
            listener = Some(own);
            Ok(Hello { listen: Some(address.to_string()), ..hello.clone() })
        })?;
        let own = listener.ok_or(ClusterError::Used("no listener was made"))?;
        self.met.listening = own.local_addr().map_err(ClusterError::system("the listener"))?.ip();
        self.met.acceptor = Some(Acceptor::open(own, self.hello.clone(), config.secret.clone())?);
        self.met.coordinator = control.peer_addr().map_err(ClusterError::system("a connection"))?.ip();
        let until = Instant::now() + config.start_timeout + LATER;
        let word = read_frame(&control, until);
        self.met.controls[0] = Some(control);
        match word {
            Ok(Frame::Table(addresses)) if addresses.len() == config.processes => self.met.addresses = addresses,
            Ok(Frame::Failed { line, .. }) => return Err(self.ended(0, line)),
            Ok(_) => return Err(self.ended(0, "it sent no table of addresses".into())),
            Err(error) => return Err(self.ended(0, told(&error))),
        }
        let own = self.met.addresses[config.process].parse::<SocketAddr>();
        self.met.local = own.map_or(self.met.local, |own| own.ip());
        self.deadline = Instant::now() + config.start_timeout;
        self.rest()
    }

    /// Everything but the connections to process 0 that came with the table.
    fn rest(&mut self) -> Result<(), ClusterError> {
        let (own, all) = (self.config.process, self.config.processes);
        let kinds: &[ConnectionKind] = if self.hello.samples {
            &[ConnectionKind::Timely, ConnectionKind::Ask, ConnectionKind::Serve]
        } else {
            &[ConnectionKind::Timely]
        };
        for process in 0..own {
            // Process 0 is reached as it was before: it may not know how others see it.
            let address = match process {
                0 => self.config.coordinator.clone(),
                _ => self.met.addresses[process].clone(),
            };
            let control = (process > 0).then_some(ConnectionKind::Control);
            for kind in control.iter().chain(kinds) {
                let hello = Hello { kind: *kind, ..self.hello.clone() };
                let stream = self.call(process, &address).place(|_| Ok(hello.clone()))?;
                match kind {
                    ConnectionKind::Control => self.met.controls[process] = Some(stream),
                    ConnectionKind::Timely => self.met.timely[process] = Some(stream),
                    ConnectionKind::Ask => self.met.asks[process] = Some(stream),
                    ConnectionKind::Serve => self.met.serves[process] = Some(stream),
                }
            }
        }
        let control = (own > 0).then_some(ConnectionKind::Control);
        let expected: Vec<ConnectionKind> = control.into_iter().chain(kinds.iter().copied()).collect();
        self.gather(&expected)?;
        for kind in expected {
            for (process, arrival) in self.take(kind).into_iter().enumerate().skip(own + 1) {
                let stream = arrival.map(|arrival| arrival.stream);
                match kind {
                    ConnectionKind::Control => self.met.controls[process] = stream,
                    ConnectionKind::Timely => self.met.timely[process] = stream,
                    ConnectionKind::Ask => self.met.serves[process] = stream, // the caller asks
                    ConnectionKind::Serve => self.met.asks[process] = stream,
                }
            }
        }
        if let Some(acceptor) = &self.met.acceptor {
            acceptor.started();
        }
        let streams = [&self.met.controls, &self.met.timely, &self.met.asks, &self.met.serves];
        let needed = &streams[..if self.hello.samples { 4 } else { 2 }];
        if needed.iter().any(|streams| streams.iter().flatten().count() != all - 1) {
            return Err(ClusterError::Used("a connection of the start was never made"));
        }
        for stream in streams.into_iter().flatten().flatten() {
            let blocking = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(None));
            blocking.map_err(ClusterError::system("a connection"))?;
        }
        Ok(())
    }

    /// Waits until all later processes have come with connections of these kinds.
    fn gather(&self, kinds: &[ConnectionKind]) -> Result<(), ClusterError> {
        let (own, all) = (self.config.process, self.config.processes);
        let acceptor = self.met.acceptor.as_ref().ok_or(ClusterError::Used("no listener was made"))?;
        let mut missing = Vec::new();
        let gathered = acceptor.wait(self.deadline, |arrivals| {
            missing = (own + 1..all)
                .filter(|process| kinds.iter().any(|kind| arrivals.arrival(*process, *kind).is_none()))
                .collect();
            if missing.is_empty() {
                return Some(Ok(()));
            }
            (0..all).find_map(|process| {
                let arrived = arrivals.arrival(process, ConnectionKind::Control).map(|arrival| &arrival.stream);
                let control = self.met.controls[process].as_ref().or(arrived)?;
                let from = || control.peer_addr().map_or_else(|_| "?".into(), |from| from.to_string());
                gone(control).map(|why| Err(ClusterError::EndedAtStart { process, address: from(), why }))
            })
        });
        gathered.unwrap_or_else(|| {
            let (seconds, last_refused) = (self.config.start_timeout.as_secs(), acceptor.last_refused());
            Err(ClusterError::Missing { missing, processes: all, seconds, last_refused })
        })
    }

    /// The connections of this kind that have come, by process. A caller that was refused after all had come is no reason to lose them.
    fn take(&self, kind: ConnectionKind) -> Vec<Option<Arrival>> {
        let Some(acceptor) = &self.met.acceptor else { return Vec::new() };
        let all = 0..self.config.processes;
        acceptor.look(|arrivals| all.map(|process| arrivals.take(process, kind)).collect())
    }

    fn call<'a>(&'a self, process: usize, address: &'a str) -> Call<'a> {
        let (secret, seconds) = (&self.config.secret, self.config.start_timeout.as_secs());
        Call { process, address, secret, deadline: self.deadline, seconds }
    }

    fn ended(&self, process: usize, why: String) -> ClusterError {
        ClusterError::EndedAtStart { process, address: self.met.addresses[process].clone(), why }
    }

    /// Tells everybody who has come why the start has failed.
    fn tell(&mut self, error: &ClusterError) {
        let line = match error {
            ClusterError::EndedAtStart { process: 0, why, .. } => why.clone(), // not the same word twice
            other => Causes(other).to_string(),
        };
        let Ok(frame) = (Frame::Failed { line, status: 1 }).encode() else { return };
        let arrivals = self.take(ConnectionKind::Control).into_iter().flatten().map(|arrival| arrival.stream);
        for mut stream in arrivals.chain(self.met.controls.drain(..).flatten()) {
            let _gone = stream
                .set_write_timeout(Some(Duration::from_secs(1)))
                .and_then(|()| stream.write_all(&frame))
                .and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        }
    }
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "its connection ended".into(),
        io::ErrorKind::TimedOut => "it did not say in time that all are there".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::handshake::greet;

    #[test]
    fn a_caller_that_is_refused_when_all_have_come_loses_none_of_them() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let [first, second] = [0, 1].map(|process| ClusterConfig::new(2, process, &address, "test"));
        let [hello, caller] = [&first, &second].map(|config| Hello::new(config, &Agreement::default(), false));
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut met = Met::nobody(&first);
        met.acceptor = Some(Acceptor::open(listener, hello.clone(), first.secret.clone()).unwrap());
        let start = Start { config: &first, hello, deadline, met };
        let greets = || greet(&TcpStream::connect(&address).unwrap(), &caller, &second.secret, 0, "", deadline);
        greets().unwrap();
        start.gather(&[ConnectionKind::Control]).unwrap();
        assert!(greets().is_err(), "its number is taken");
        let acceptor = start.met.acceptor.as_ref().unwrap();
        while acceptor.look(|arrivals| arrivals.trouble.is_none()) {
            std::thread::yield_now();
        }
        let taken = start.take(ConnectionKind::Control);
        assert!(matches!(taken[..], [None, Some(_)]), "{taken:?}");
    }
}
