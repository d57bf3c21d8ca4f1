//! `GET /metrics` over HTTP/1: one page, one client at a time.
//!
//! A thread answers and closes each connection. A request is at most `MOST_REQUEST_BYTES` and `PATIENCE` long, so a client
//! that says nothing, too much, or something else costs that much and no more.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use trommel_core::causes::Cause;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::metrics::{CONTENT_TYPE, exposition};
use trommel_pipelines::progress::Progress;

use crate::say::say;

/// The longest request.
const MOST_REQUEST_BYTES: usize = 8 << 10;
/// For a request to come, and for its answer to go.
const PATIENCE: Duration = Duration::from_secs(2);

/// Serves a run's counters until it is dropped.
pub struct MetricsServer {
    address: SocketAddr,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    /// Listens on `[ADDR:]PORT` and says where, on stderr.
    ///
    /// # Errors
    /// An address that is none, or is in use.
    pub fn start(address: &str, progress: Arc<Progress>) -> Result<Self, PipelineError> {
        let wrong = |why: Cause| PipelineError::usage(why).within(format_args!("--metrics {address}"));
        let addresses = parse(address).map_err(wrong)?;
        let listener = TcpListener::bind(&addresses[..]).map_err(|error| {
            wrong(match error.kind() {
                ErrorKind::AddrInUse => "the address is in use".into(),
                _ => error.into(),
            })
        })?;
        let address = listener.local_addr().map_err(PipelineError::failed)?;
        let done = Arc::new(AtomicBool::new(false));
        let ended = done.clone();
        let serve = move || {
            for client in listener.incoming() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                match client.and_then(|client| answer(client, &progress)) {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::debug!(%error, "a client of /metrics");
                        // Without file descriptors `accept` fails at once, again and again.
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(serve).map_err(PipelineError::failed)?;
        say(format!("metrics on http://{address}/metrics"));
        Ok(Self { address, done, thread: Some(thread) })
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        let mut own = self.address;
        if own.ip().is_unspecified() {
            own.set_ip(if own.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        // Wakes the thread. Where even that is not possible it ends with the program.
        if TcpStream::connect_timeout(&own, Duration::from_millis(200)).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _panicked = thread.join();
        }
    }
}

/// `PORT`, `ADDR:PORT`, `[::1]:PORT`; a name may have several addresses.
fn parse(text: &str) -> Result<Vec<SocketAddr>, Cause> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)]);
    }
    let has_port = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !has_port {
        return Err("write PORT or ADDRESS:PORT".into());
    }
    let found: Vec<SocketAddr> = text.to_socket_addrs()?.collect();
    if found.is_empty() { Err("no such host".into()) } else { Ok(found) }
}

fn answer(mut client: TcpStream, progress: &Progress) -> io::Result<()> {
    client.set_write_timeout(Some(PATIENCE))?;
    let (status, kind, body) = match target(&mut client)?.as_deref() {
        Some("/metrics") => ("200 OK", CONTENT_TYPE, exposition(&progress.all_counters())),
        Some(_) => ("404 Not Found", "text/plain", "there is only GET /metrics\n".to_owned()),
        None => ("400 Bad Request", "text/plain", "this is no HTTP request\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all((head + &body).as_bytes())?;
    client.shutdown(std::net::Shutdown::Write)
}

/// The target of a GET, without its query; another method has an empty one; `None`: no HTTP request.
fn target(client: &mut TcpStream) -> io::Result<Option<String>> {
    let deadline = Instant::now() + PATIENCE;
    let (mut request, mut part) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || request.len() > MOST_REQUEST_BYTES {
            return Ok(None);
        }
        client.set_read_timeout(Some(left))?;
        match client.read(&mut part)? {
            0 => return Ok(None),
            count => request.extend_from_slice(&part[..count]),
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else { return Ok(None) };
    Ok(match line.split(' ').collect::<Vec<_>>()[..] {
        ["GET", target, "HTTP/1.0" | "HTTP/1.1"] => Some(target.split('?').next().unwrap_or_default().to_owned()),
        [_, _, "HTTP/1.0" | "HTTP/1.1"] => Some(String::new()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(server: &MetricsServer, request: &[u8]) -> String {
        let mut client = TcpStream::connect(server.address).expect("it listens");
        client.write_all(request).expect("it reads");
        let mut reply = String::new();
        let _reset = client.read_to_string(&mut reply);
        reply
    }

    #[test]
    fn addresses() {
        let of = |text: &str| parse(text).map(|found| found[0].to_string()).map_err(|error| error.to_string());
        assert_eq!(of("9100"), Ok("127.0.0.1:9100".into()));
        assert_eq!(of("0"), Ok("127.0.0.1:0".into()));
        assert_eq!(of("0.0.0.0:9100"), Ok("0.0.0.0:9100".into()));
        assert_eq!(of("[::1]:9100"), Ok("[::1]:9100".into()));
        for bad in ["", "x", ":9100", "70000", "1.2.3.4", "1.2.3.4:x", "-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_page_and_nothing_else() {
        let progress = Arc::new(Progress::default());
        progress.steps.store(41, Ordering::Relaxed);
        let server = MetricsServer::start("0", progress).expect("a port");
        for request in ["GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "GET /metrics?a=b HTTP/1.0\r\n\r\n"] {
            let reply = ask(&server, request.as_bytes());
            let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains(CONTENT_TYPE), "{head}");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
            assert!(body.contains("trommel_steps_total{process=\"0\"} 41\n"), "{body}");
        }
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("GET /metrics/x HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "404"),
            ("hello\r\n\r\n", "400"),
            ("GET /metrics SMTP\r\n\r\n", "400"),
            ("\u{1}\u{2}\r\n\r\n", "400"),
        ] {
            let reply = ask(&server, request.as_bytes());
            assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {reply}");
        }
    }

    #[test]
    fn a_client_that_says_nothing_or_too_much_hurts_nobody() {
        let server = MetricsServer::start("0", Arc::default()).expect("a port");
        let silent = TcpStream::connect(server.address).expect("it listens");
        let _refused_or_cut = ask(&server, &vec![b'x'; 3 * MOST_REQUEST_BYTES]);
        assert!(ask(&server, b"GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200"));
        drop(silent);
    }

    #[test]
    fn an_address_in_use_is_one_line() {
        let first = MetricsServer::start("0", Arc::default()).expect("a port");
        let again = MetricsServer::start(&first.address.to_string(), Arc::default()).err().expect("it is taken");
        assert_eq!(again.line(), format!("--metrics {}: the address is in use", first.address));
        assert_eq!(again.status(), 2);
    }
}
