//! The listener of a process: hears every caller out on a thread of its own, and keeps those who belong here.
//!
//! ```text
//!  listener ─▶ a thread and a deadline each ─▶ judged ─▶ one place for each process and kind ─▶ the start
//!                                                └─▶ strangers: closed, one warning an address
//! ```
//!
//! Invariants:
//! 1. A caller that is silent, slow or speaks nonsense costs a thread for a few seconds and hurts nobody; where too many
//!    are heard at once, the one that has been silent longest is closed.
//! 2. Of another run or another version, or without the run's secret: refused, the caller is told, and the start goes on. Of
//!    this run, which it has proved, but different: refused, and the start ends, for this run cannot come together. After
//!    the start both are refused and no more.
//! 3. The listener ends with its owner.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::config::MAX_RUN_ID_BYTES;
use super::error::{ClusterError, Difference};
use super::handshake::{
    Answer, ConnectionKind, Hello, Misheard, PROTOCOL, Reply, read_greeting, read_words, secrets, versions,
    write_greeting,
};
use super::secret::{Secret, Side, random_hex};
use trommel_core::wake::locked;

/// How long a caller may take for its first words.
const HEARING: Duration = Duration::from_secs(5);
/// Callers that are heard at once.
const HEARD_AT_ONCE: usize = 64;
/// Addresses of strangers that are warned of.
const WARNED_ADDRESSES: usize = 32;
/// Callers of other runs and versions that are warned of.
const WARNED_REFUSALS: usize = 32;
/// How often the listener looks while the processes start, and later.
const LOOK: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];

/// A connection that belongs here.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) stream: TcpStream,
    /// Where it came from.
    pub(super) from: SocketAddr,
    /// Where the caller listens.
    pub(super) listen: Option<String>,
}

/// Connections that were accepted, and why others were not.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    places: Vec<[Place; 4]>,
    /// Why the start must end.
    pub(super) trouble: Option<ClusterError>,
    /// The last caller of another run or version.
    pub(super) last_refused: Option<String>,
    warned: HashSet<IpAddr>,
    refusals: usize,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Free,
    Taken(SocketAddr, Option<Arrival>),
}

impl Arrivals {
    /// The connection of this process and kind, where it has come and was not taken before.
    pub(super) fn arrival(&self, process: usize, kind: ConnectionKind) -> Option<&Arrival> {
        match &self.places[process][kind as usize] {
            Place::Taken(_, arrival) => arrival.as_ref(),
            Place::Free => None,
        }
    }

    /// Takes the connection out of its place, which stays taken.
    pub(super) fn take(&mut self, process: usize, kind: ConnectionKind) -> Option<Arrival> {
        match &mut self.places[process][kind as usize] {
            Place::Taken(_, arrival) => arrival.take(),
            Place::Free => None,
        }
    }

    fn warn(&mut self, from: SocketAddr, why: &str) {
        if self.warned.len() < WARNED_ADDRESSES && self.warned.insert(from.ip()) {
            tracing::warn!("a stranger at {from} was closed: {why}");
        }
    }
}

/// What is strange about a caller.
fn strange(caller: &Misheard) -> String {
    match caller {
        Misheard::Stranger(why) => why.clone(),
        Misheard::Version(version) => format!("it speaks version {version} of the protocol"),
        Misheard::Connection(error) => match error.kind() {
            io::ErrorKind::TimedOut => format!("it said too little in {} s", HEARING.as_secs()),
            io::ErrorKind::UnexpectedEof => "it went without a word".into(),
            _ => error.to_string(),
        },
    }
}

/// Who a caller is.
enum Known {
    /// Of this run, with this process's own proof for it.
    Proved(Hello, String),
    /// Of another, and how it differs.
    Foreign(String, Difference),
}

struct Admission {
    hello: Hello,
    secret: Secret,
    arrivals: Mutex<Arrivals>,
    changed: Condvar,
    started: AtomicBool,
    closed: AtomicBool,
    hearing: Mutex<VecDeque<(u64, TcpStream)>>,
}

/// The listener and who has come to it.
pub(super) struct Acceptor {
    admission: Arc<Admission>,
}

impl Acceptor {
    /// Listens for callers that know the secret and fit to `hello`, this process's own words.
    pub(super) fn open(listener: TcpListener, hello: Hello, secret: Secret) -> Result<Self, ClusterError> {
        let places = (0..hello.processes).map(|_| Default::default()).collect();
        let admission = Arc::new(Admission {
            hello,
            secret,
            arrivals: Mutex::new(Arrivals { places, ..Arrivals::default() }),
            changed: Condvar::new(),
            started: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            hearing: Mutex::new(VecDeque::new()),
        });
        listener.set_nonblocking(true).map_err(ClusterError::system("the listener"))?;
        let listening = admission.clone();
        let listen = move || listening.listen(&listener);
        let thread = thread::Builder::new().name("cluster-listen".into()).spawn(listen);
        thread.map_err(ClusterError::system("a thread that listens"))?;
        Ok(Self { admission })
    }

    /// Looks at who has come again and again, until `done` gives something; `None` after the deadline.
    pub(super) fn wait<T>(
        &self,
        deadline: Instant,
        mut done: impl FnMut(&mut Arrivals) -> Option<Result<T, ClusterError>>,
    ) -> Option<Result<T, ClusterError>> {
        let mut arrivals = locked(&self.admission.arrivals);
        loop {
            if let Some(trouble) = arrivals.trouble.take() {
                return Some(Err(trouble));
            }
            if let Some(result) = done(&mut arrivals) {
                return Some(result);
            }
            if Instant::now() >= deadline {
                return None;
            }
            arrivals = wait_a_little(&self.admission.changed, arrivals);
        }
    }

    /// Looks at who has come, whatever is wrong with somebody else.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut Arrivals) -> T) -> T {
        look(&mut locked(&self.admission.arrivals))
    }

    /// The last caller of another run or version, a line.
    pub(super) fn last_refused(&self) -> Option<String> {
        self.look(|arrivals| arrivals.last_refused.clone())
    }

    /// From now on nobody else belongs here.
    pub(super) fn started(&self) {
        self.admission.started.store(true, Ordering::SeqCst);
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.admission.closed.store(true, Ordering::SeqCst);
        for (_, stream) in locked(&self.admission.hearing).drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }
}

fn wait_a_little<'a, T>(changed: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    let waited = changed.wait_timeout(guard, Duration::from_millis(50));
    waited.unwrap_or_else(PoisonError::into_inner).0
}

impl Admission {
    fn listen(self: &Arc<Self>, listener: &TcpListener) {
        let mut next = 0;
        while !self.closed.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((stream, from)) => {
                    next += 1;
                    self.hear(next, stream, from);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nobody there, or out of descriptors: look again later.
                Err(_) => thread::sleep(LOOK[usize::from(self.started.load(Ordering::SeqCst))]),
            }
        }
    }

    /// Hears a caller out on a thread of its own.
    fn hear(self: &Arc<Self>, number: u64, stream: TcpStream, from: SocketAddr) {
        let Ok(clone) = stream.try_clone() else { return };
        {
            let mut hearing = locked(&self.hearing);
            if hearing.len() >= HEARD_AT_ONCE
                && let Some((_, oldest)) = hearing.pop_front()
            {
                let _gone = oldest.shutdown(Shutdown::Both);
            }
            hearing.push_back((number, clone));
        }
        let admission = self.clone();
        let answer = move || {
            let welcome = admission.answer(stream, from, || {
                locked(&admission.hearing).retain(|(heard, _)| *heard != number);
            });
            if let Err(stranger) = welcome {
                locked(&admission.arrivals).warn(from, &strange(&stranger));
            }
        };
        if thread::Builder::new().name("cluster-hear".into()).spawn(answer).is_err() {
            locked(&self.hearing).retain(|(heard, _)| *heard != number);
        }
    }

    /// Hears a caller out and answers.
    ///
    /// # Errors
    /// A stranger.
    fn answer(&self, stream: TcpStream, from: SocketAddr, heard: impl FnOnce()) -> Result<(), Misheard> {
        let deadline = Instant::now() + HEARING;
        let prepared = stream.set_nonblocking(false).and_then(|()| stream.set_nodelay(true));
        let known = prepared.map_err(Misheard::Connection).and_then(|()| self.know(&stream, from, deadline));
        heard();
        let refuse = |difference: Difference| {
            let _caller_gone = write_greeting(&stream, &Reply::Refused(difference), deadline);
        };
        let (hello, proof) = match known {
            Ok(Known::Proved(hello, proof)) => (hello, proof),
            Ok(Known::Foreign(who, difference)) => {
                self.note(&who, &difference);
                refuse(difference);
                return Ok(());
            }
            Err(Misheard::Version(caller)) => {
                let difference = versions(PROTOCOL, caller);
                self.note(&format!("a Trommel at {from}"), &difference);
                refuse(difference);
                return Ok(());
            }
            Err(stranger @ (Misheard::Stranger(_) | Misheard::Connection(_))) => return Err(stranger),
        };
        let who = || format!("process {} at {from}", hello.process);
        if let Err(difference) = self.admit(&hello, from) {
            refuse(difference.clone());
            if self.started.load(Ordering::SeqCst) {
                self.note(&who(), &difference);
            } else {
                let error = ClusterError::Refuses { process: hello.process, address: from.to_string(), difference };
                locked(&self.arrivals).trouble.get_or_insert(error);
                self.changed.notify_all();
            }
            return Ok(());
        }
        let welcomed = write_greeting(&stream, &Reply::Welcome(proof), deadline);
        let mut arrivals = locked(&self.arrivals);
        let place = &mut arrivals.places[hello.process][hello.kind as usize];
        *place = match welcomed {
            Ok(()) => Place::Taken(from, Some(Arrival { stream, from, listen: hello.listen })),
            Err(_) => Place::Free, // it may come again
        };
        drop(arrivals);
        self.changed.notify_all();
        Ok(())
    }

    /// Hears who a caller is, and lets it prove that it is of this run.
    fn know(&self, stream: &TcpStream, from: SocketAddr, deadline: Instant) -> Result<Known, Misheard> {
        let (hello, words) = read_words::<Hello>(stream, deadline)?;
        let who = format!("process {} at {from}", hello.process);
        if hello.run_id != self.hello.run_id {
            let what = "run id".into();
            let caller = hello.run_id.chars().take(MAX_RUN_ID_BYTES).collect();
            let difference = Difference { what, called: self.hello.run_id.clone(), caller };
            return Ok(Known::Foreign(who, difference));
        }
        let nonce = random_hex()?;
        write_greeting(stream, &Reply::Challenge(nonce.clone()), deadline)?;
        let Answer { proof } = read_greeting(stream, deadline)?;
        if !self.secret.holds(&proof, Side::Caller, &words, &nonce) {
            return Ok(Known::Foreign(who, secrets()));
        }
        let proof = self.secret.proof(Side::Called, &words, &nonce);
        Ok(Known::Proved(hello, proof))
    }

    /// Keeps a place for a caller of this run, unless it does not fit.
    fn admit(&self, hello: &Hello, from: SocketAddr) -> Result<(), Difference> {
        if let Some(difference) = self.hello.difference(hello) {
            return Err(difference);
        }
        let own = self.hello.process;
        if hello.process <= own || hello.process >= self.hello.processes {
            let called = if hello.process == own {
                format!("{own} is this process")
            } else {
                format!("{} to {} are to call here", own + 1, self.hello.processes - 1)
            };
            return Err(Difference { what: "process number".into(), called, caller: hello.process.to_string() });
        }
        let place = &mut locked(&self.arrivals).places[hello.process][hello.kind as usize];
        if let Place::Taken(first, _) = place {
            let called = format!("{} is at {first}", hello.process);
            let caller = format!("{} at {from}", hello.process);
            // At the start both are there. Later the first may be gone without a word, and its supervisor faster than the heartbeat.
            let has_begun = self.started.load(Ordering::SeqCst);
            let what = if has_begun { Difference::STILL_TAKEN } else { "process number twice" };
            return Err(Difference { what: what.into(), called, caller });
        }
        *place = Place::Taken(from, None);
        Ok(())
    }

    /// A caller that is refused and does not end the start.
    fn note(&self, who: &str, difference: &Difference) {
        let Difference { what, called, caller } = difference;
        let line = format!("{who}: {what}: {caller} there, {called} here");
        let mut arrivals = locked(&self.arrivals);
        arrivals.refusals += 1;
        if arrivals.refusals <= WARNED_REFUSALS {
            tracing::warn!("refused {line}");
        }
        arrivals.last_refused = Some(line);
    }
}
