//! The first words on every connection, between bounded sizes and before a deadline.
//!
//! ```text
//!  caller                                   called
//!  magic, version, length, Hello  ───────▶  read by a deadline: of this run?
//!                                 ◀───────  magic, version, length, Challenge (or Refused)
//!  .., Answer: the caller's proof ───────▶  does it know the secret? does the rest fit?
//!  proof compared                 ◀───────  .., Welcome: the called one's proof (or Refused)
//! ```
//!
//! The caller proves first, so that nobody gets a proof, a place or a word about the run's settings who does not know its secret.
//!
//! Magic, version and length have had this form in all versions, so that another version is told apart from a stranger.
//! Whoever does not begin with the magic is a stranger: nothing is answered.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::config::{Agreement, ClusterConfig};
use super::error::{ClusterError, Difference};
use super::message::read_by;
use super::secret::{Secret, Side, random_hex};

pub(super) const MAGIC: [u8; 8] = *b"TROMMEL\n";
/// Version of everything that goes over our connections.
pub(super) const PROTOCOL: u32 = 2;
/// The longest hello or reply, in bytes.
pub(super) const MAX_GREETING_BYTES: usize = 64 << 10;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ConnectionKind {
    /// Heartbeats and small messages.
    Control,
    /// Carries the messages of the dataflow.
    Timely,
    /// The caller asks for samples.
    Ask,
    /// The called one asks for samples.
    Serve,
}

/// What the caller says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) run_id: String,
    pub(super) processes: usize,
    pub(super) process: usize,
    pub(super) kind: ConnectionKind,
    pub(super) samples: bool,
    pub(super) agreement: Agreement,
    /// Where the caller listens.
    pub(super) listen: Option<String>,
    /// Of this connection; in the called one's proof.
    #[serde(default)]
    pub(super) nonce: String,
}

impl Hello {
    pub(super) fn new(config: &ClusterConfig, agreement: &Agreement, samples: bool) -> Self {
        Self {
            run_id: config.run_id.clone(),
            processes: config.processes,
            process: config.process,
            kind: ConnectionKind::Control,
            samples,
            agreement: agreement.clone(),
            listen: None,
            nonce: String::new(),
        }
    }

    /// The first thing in which a caller differs from `self`, the called process.
    pub(super) fn difference(&self, caller: &Self) -> Option<Difference> {
        let (ours, theirs) = (&self.agreement, &caller.agreement);
        let numbers = |value: usize| value.to_string();
        let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
        let pairs = [
            ("run id", self.run_id.clone(), caller.run_id.clone()),
            ("program version", ours.program.clone(), theirs.program.clone()),
            ("number of processes", numbers(self.processes), numbers(caller.processes)),
            ("workers of a process", numbers(ours.workers), numbers(theirs.workers)),
            ("configuration", ours.config.clone(), theirs.config.clone()),
            ("numerics", ours.numerics.clone(), theirs.numerics.clone()),
            ("samples between processes", yes(self.samples), yes(caller.samples)),
        ];
        let differs = pairs.into_iter().find(|(_, called, caller)| called != caller);
        differs.map(|(what, called, caller)| Difference { what: what.into(), called, caller })
    }
}

/// What the called one answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// Prove that you know the secret: here is a nonce for it.
    Challenge(String),
    /// Come in; this is the called one's proof.
    Welcome(String),
    Refused(Difference),
}

/// The caller's proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) proof: String,
}

/// Why the first words were not understood.
#[derive(Debug)]
pub(super) enum Misheard {
    /// The connection failed or ended, or nothing came by the deadline.
    Connection(io::Error),
    /// The caller does not speak this protocol.
    Stranger(String),
    /// A Trommel with another protocol.
    Version(u32),
}

impl From<io::Error> for Misheard {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// That another version of the protocol was spoken.
pub(super) fn versions(called: u32, caller: u32) -> Difference {
    Difference { what: "protocol version".into(), called: called.to_string(), caller: caller.to_string() }
}

/// That the caller does not know the secret, or another.
pub(super) fn secrets() -> Difference {
    let what = "the run's secret (TROMMEL_SECRET, else cluster.secret in its folder)".into();
    Difference { what, called: "its own".into(), caller: "another".into() }
}

pub(super) fn write_greeting(mut stream: &TcpStream, greeting: &impl Serialize, deadline: Instant) -> io::Result<()> {
    let body = serde_json::to_vec(greeting)?;
    if body.len() > MAX_GREETING_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the greeting is too long"));
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.set_write_timeout(Some(left))?;
    let head = [&MAGIC[..], &PROTOCOL.to_be_bytes(), &(body.len() as u32).to_be_bytes(), &body].concat();
    stream.write_all(&head)?;
    stream.set_write_timeout(None)
}

pub(super) fn read_greeting<G: DeserializeOwned>(stream: &TcpStream, deadline: Instant) -> Result<G, Misheard> {
    read_words(stream, deadline).map(|(greeting, _)| greeting)
}

/// A greeting, and the bytes that it was.
pub(super) fn read_words<G: DeserializeOwned>(stream: &TcpStream, deadline: Instant) -> Result<(G, Vec<u8>), Misheard> {
    let mut magic = [0; 8];
    read_by(stream, &mut magic, deadline)?;
    if magic != MAGIC {
        return Err(Misheard::Stranger(format!("it said \"{}\"", magic.escape_ascii())));
    }
    let (mut version, mut length) = ([0; 4], [0; 4]);
    read_by(stream, &mut version, deadline)?;
    read_by(stream, &mut length, deadline)?;
    let (version, length) = (u32::from_be_bytes(version), u32::from_be_bytes(length) as usize);
    if version != PROTOCOL {
        return Err(Misheard::Version(version));
    }
    if length > MAX_GREETING_BYTES {
        return Err(Misheard::Stranger(format!("it announced {length} bytes (at most {MAX_GREETING_BYTES})")));
    }
    let mut body = vec![0; length];
    read_by(stream, &mut body, deadline)?;
    let greeting = serde_json::from_slice(&body);
    stream.set_read_timeout(None)?;
    let greeting = greeting.map_err(|error| Misheard::Stranger(format!("its greeting cannot be read: {error}")))?;
    Ok((greeting, body))
}

/// How greeting a called process ended without a welcome.
#[derive(Debug)]
pub(super) enum Unwelcome {
    /// The connection failed: worth another try.
    Connection(io::Error),
    /// The start must end with this error.
    Final(ClusterError),
}

/// The caller's side of the handshake with process `process`.
pub(super) fn greet(
    stream: &TcpStream,
    hello: &Hello,
    secret: &Secret,
    process: usize,
    address: &str,
    deadline: Instant,
) -> Result<(), Unwelcome> {
    let hello = Hello { nonce: random_hex().map_err(Unwelcome::Connection)?, ..hello.clone() };
    let words = serde_json::to_vec(&hello).map_err(|error| Unwelcome::Connection(error.into()))?;
    let address = || address.to_owned();
    let stranger = |why: String| Unwelcome::Final(ClusterError::Stranger { address: address(), why });
    let refused = |difference| Unwelcome::Final(ClusterError::Refused { process, address: address(), difference });
    let hear = || match read_greeting(stream, deadline) {
        Ok(Reply::Refused(difference)) => Err(refused(difference)),
        Ok(reply) => Ok(reply),
        Err(Misheard::Connection(error)) => Err(Unwelcome::Connection(error)),
        Err(Misheard::Stranger(why)) => Err(stranger(why)),
        Err(Misheard::Version(called)) => Err(refused(versions(called, PROTOCOL))),
    };
    write_greeting(stream, &hello, deadline).map_err(Unwelcome::Connection)?;
    let Reply::Challenge(nonce) = hear()? else { return Err(stranger("it welcomes whoever comes".into())) };
    let proof = secret.proof(Side::Caller, &words, &nonce);
    write_greeting(stream, &Answer { proof }, deadline).map_err(Unwelcome::Connection)?;
    match hear()? {
        Reply::Welcome(proof) if secret.holds(&proof, Side::Called, &words, &nonce) => Ok(()),
        _ => Err(stranger("it does not know the run's secret".into())),
    }
}
