//! Calling other processes, listening for them, and looking whether those who came are still there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use super::error::ClusterError;
use super::handshake::{Hello, Unwelcome, greet};
use super::message::{Frame, read_frame};
use super::secret::Secret;

/// Longest wait for one connection to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// Whether an address names the loopback openly, so that only this machine is meant.
fn is_loopback_on_purpose(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A host's own name often means its loopback: then all its addresses are listened on, for others are to come.
pub(super) fn reachable(ip: IpAddr, coordinator: &str) -> IpAddr {
    let hidden = ip.is_loopback() && !is_loopback_on_purpose(coordinator);
    if hidden { Ipv4Addr::UNSPECIFIED.into() } else { ip }
}

/// Listens on `address`.
pub(super) fn listen(address: &str) -> Result<TcpListener, ClusterError> {
    bind(address, address)
}

/// Listens where process 0 is to be found.
pub(super) fn listen_as_coordinator(address: &str) -> Result<TcpListener, ClusterError> {
    let resolved = address.to_socket_addrs();
    let resolved: Vec<SocketAddr> =
        resolved.map_err(|cause| ClusterError::Listen { address: address.into(), cause })?.collect();
    let open: Vec<SocketAddr> =
        resolved.iter().map(|found| SocketAddr::new(reachable(found.ip(), address), found.port())).collect();
    let all_loopback = resolved.iter().all(|found| found.ip().is_loopback());
    bind(if all_loopback { &open[..] } else { &resolved[..] }, address)
}

pub(super) fn bind(addresses: impl ToSocketAddrs, address: &str) -> Result<TcpListener, ClusterError> {
    let address = || address.to_owned();
    TcpListener::bind(addresses).map_err(|cause| match cause.kind() {
        io::ErrorKind::AddrInUse => ClusterError::AddressInUse { address: address() },
        _ => ClusterError::Listen { address: address(), cause },
    })
}

/// Who is called, until when.
pub(super) struct Call<'a> {
    pub(super) process: usize,
    pub(super) address: &'a str,
    pub(super) secret: &'a Secret,
    pub(super) deadline: Instant,
    pub(super) seconds: u64,
}

impl Call<'_> {
    /// Connects and shakes hands; tries again while that may help. `hello` is made anew for each connection.
    pub(super) fn place(
        &self,
        mut hello: impl FnMut(&TcpStream) -> Result<Hello, ClusterError>,
    ) -> Result<TcpStream, ClusterError> {
        let mut pause = Duration::from_millis(10);
        loop {
            let cause = match self.connect() {
                Ok(stream) => {
                    let hello = hello(&stream)?;
                    match greet(&stream, &hello, self.secret, self.process, self.address, self.deadline) {
                        Ok(()) => return Ok(stream),
                        Err(Unwelcome::Final(error)) => return Err(error),
                        Err(Unwelcome::Connection(cause)) => cause,
                    }
                }
                Err(cause) => cause,
            };
            if Instant::now() + pause >= self.deadline {
                let (process, address) = (self.process, self.address.to_owned());
                let cause = match cause.kind() {
                    io::ErrorKind::UnexpectedEof => "it closed the connection without an answer".into(),
                    io::ErrorKind::TimedOut => "it does not answer".into(),
                    _ => cause.to_string(),
                };
                return Err(ClusterError::Unreachable { process, address, seconds: self.seconds, cause });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.address.to_socket_addrs()? {
            let left = self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match TcpStream::connect_timeout(&address, left.min(CONNECT)) {
                // A port of the ephemeral range where nobody listens may be connected to itself.
                Ok(stream) if stream.local_addr()? == address => last = io::ErrorKind::ConnectionRefused.into(),
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Why a process that had come is no longer there, if so: its connection ended, or it said why it fails.
pub(super) fn gone(control: &TcpStream) -> Option<String> {
    const FAILED: &[u8] = b"{\"failed\":";
    let mut head = [0; 4 + FAILED.len()];
    control.set_nonblocking(true).ok()?;
    let seen = control.peek(&mut head);
    control.set_nonblocking(false).ok()?;
    match seen {
        Ok(0) => Some("its connection ended".into()),
        Ok(count) if count == head.len() && head.ends_with(FAILED) => {
            match read_frame(control, Instant::now() + Duration::from_secs(1)) {
                Ok(Frame::Failed { line, .. }) => Some(line),
                _ => Some("its connection ended".into()),
            }
        }
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => Some(error.to_string()),
    }
}
