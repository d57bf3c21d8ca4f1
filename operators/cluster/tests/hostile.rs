//! Strangers: garbage, half words, floods, lengths that cannot be. None of them may hurt.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::super::JOINED;
use super::super::handshake::{
    Answer, ConnectionKind, Hello, MAGIC, MAX_GREETING_BYTES, PROTOCOL, Reply, greet, read_greeting, write_greeting,
};
use super::super::message::{Frame, MAX_FRAME_BYTES};
use super::super::secret::Side;
use super::*;

/// First words of strangers.
fn nonsense() -> Vec<Vec<u8>> {
    let head = |version: u32, length: u32| {
        let (version, length) = (version.to_be_bytes(), length.to_be_bytes());
        [&MAGIC[..], &version[..], &length[..]].concat()
    };
    let with = |body: &[u8]| [head(PROTOCOL, body.len() as u32), body.to_vec()].concat();
    vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\nHost: trommel\r\n\r\n".to_vec(),
        vec![0; 4096],
        vec![0xff; 4096],
        MAGIC[..5].to_vec(),
        head(PROTOCOL, u32::MAX),
        head(PROTOCOL, MAX_GREETING_BYTES as u32 + 1),
        head(PROTOCOL, 100),
        head(PROTOCOL + 1, 4),
        with(b"{}"),
        with(b"null"),
        with(&[b'['; 60_000]),
        with(b"{\"run_id\":\"test\",\"processes\":-1}"),
    ]
}

fn shout_at(address: &str) -> Vec<TcpStream> {
    let shout = |words: Vec<u8>| {
        let mut stream = TcpStream::connect(address).ok()?;
        let _closed = stream.write_all(&words);
        Some(stream)
    };
    nonsense().into_iter().filter_map(shout).collect()
}

#[test]
fn strangers_hurt_neither_the_start_nor_the_run() {
    let mut place = place();
    let listener = place.listener.take();
    thread::scope(|scope| {
        let first = scope.spawn(|| join(&config(2, 0, &place.address), listener, &agreement(), true));
        let held: Vec<TcpStream> = (0..3).flat_map(|_| shout_at(&place.address)).collect();
        let flood: Vec<TcpStream> = (0..300).filter_map(|_| TcpStream::connect(&place.address).ok()).collect();
        let second = join(&config(2, 1, &place.address), None, &agreement(), true).unwrap();
        let processes = [first.join().unwrap().unwrap(), second];
        drop(flood);
        let address = processes[1].cluster.control().peers()[1].address.clone();
        let later: Vec<TcpStream> = shout_at(&place.address).into_iter().chain(shout_at(&address)).collect();
        in_all(&processes, |process| process.cluster.control().barrier("still here", "").unwrap());
        end(&processes);
        drop((held, later));
    });
}

#[test]
fn a_stranger_is_closed_whether_it_speaks_or_not() {
    let mut place = place();
    let listener = place.listener.take();
    thread::scope(|scope| {
        let soon = ClusterConfig { start_timeout: Duration::from_secs(8), ..config(2, 0, &place.address) };
        let first = scope.spawn(move || join(&soon, listener, &agreement(), false));
        for mut stream in shout_at(&place.address) {
            stream.set_read_timeout(Some(LONG)).unwrap();
            let mut answer = Vec::new();
            let _reset = stream.read_to_end(&mut answer); // ends, for the stranger was closed
            let refused = String::from_utf8_lossy(&answer).contains("protocol version");
            assert!(answer.is_empty() || refused, "{answer:?}");
        }
        assert!(first.join().unwrap().is_err());
    });
}

#[test]
fn a_hello_byte_by_byte_is_understood() {
    let mut place = place();
    let listener = place.listener.take();
    thread::scope(|scope| {
        let first = scope.spawn(|| join(&config(2, 0, &place.address), listener, &agreement(), false));
        // Learn the bytes of a hello, then dribble them.
        let pair = TcpListener::bind("127.0.0.1:0").unwrap();
        let writer = TcpStream::connect(pair.local_addr().unwrap()).unwrap();
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = Some(door.local_addr().unwrap().to_string());
        let (own, nonce) = (config(2, 1, &place.address), "mine".to_owned());
        let hello = Hello { listen, nonce, ..Hello::new(&own, &agreement(), false) };
        write_greeting(&writer, &hello, Instant::now() + LONG).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
        let mut words = Vec::new();
        pair.accept().unwrap().0.read_to_end(&mut words).unwrap();
        let mut control = TcpStream::connect(&place.address).unwrap();
        control.set_nodelay(true).unwrap();
        for byte in words {
            control.write_all(&[byte]).unwrap();
            thread::sleep(Duration::from_micros(200));
        }
        let timely = TcpStream::connect(&place.address).unwrap();
        let deadline = Instant::now() + LONG;
        let words = serde_json::to_vec(&hello).unwrap();
        let Reply::Challenge(nonce) = read_greeting(&control, deadline).unwrap() else { panic!("no challenge") };
        let answer = Answer { proof: own.secret.proof(Side::Caller, &words, &nonce) };
        write_greeting(&control, &answer, deadline).unwrap();
        let Reply::Welcome(proof) = read_greeting(&control, deadline).unwrap() else { panic!("no welcome") };
        assert!(own.secret.holds(&proof, Side::Called, &words, &nonce));
        greet(&timely, &Hello { kind: ConnectionKind::Timely, ..hello }, &own.secret, 0, "", deadline).unwrap();
        let joined = Frame::Barrier { name: JOINED.into(), value: String::new(), more: false };
        control.write_all(&joined.encode().unwrap()).unwrap();
        let process = first.join().unwrap().unwrap();
        // It is in, and then sends a length that cannot be: a loss with its name.
        control.write_all(&(MAX_FRAME_BYTES as u32 + 1).to_be_bytes()).unwrap();
        eventually("the loss", || !locked(&process.losses).is_empty());
        let loss = locked(&process.losses)[0].clone();
        let why = format!("it announced a message of {} bytes (at most {MAX_FRAME_BYTES})", MAX_FRAME_BYTES + 1);
        assert_eq!((loss.process, loss.why), (1, why));
    });
}

/// A run's id is no secret. Who knows it, and how a hello looks, takes no seat and ends nothing: also where its hello would have
/// fitted, or would have ended the start.
#[test]
fn who_does_not_know_the_secret_takes_no_seat_and_ends_nothing() {
    let mut place = place();
    let listener = place.listener.take();
    thread::scope(|scope| {
        let first = scope.spawn(|| join(&config(2, 0, &place.address), listener, &agreement(), false));
        for (guess, program) in [("", "1.0"), ("guessed", "1.0"), ("", "2.0"), ("guessed", "2.0")] {
            let stranger = ClusterConfig { secret: Secret::new(guess.as_bytes()), ..config(2, 1, &place.address) };
            let agreement = Agreement { program: program.into(), ..agreement() };
            let line = join(&stranger, None, &agreement, false).err().unwrap().to_string();
            let why =
                "the run's secret (TROMMEL_SECRET, else cluster.secret in its folder): its own there, another here";
            assert_eq!(line, format!("process 0 ({}) refuses this process: {why}", place.address));
        }
        // A hello without an answer holds no seat either.
        let silent = TcpStream::connect(&place.address).unwrap();
        write_greeting(&silent, &Hello::new(&config(2, 1, ""), &agreement(), false), Instant::now() + LONG).unwrap();
        let reply: Reply = read_greeting(&silent, Instant::now() + LONG).unwrap();
        assert!(matches!(reply, Reply::Challenge(_)), "{reply:?}");
        let second = join(&config(2, 1, &place.address), None, &agreement(), false).unwrap();
        let processes = [first.join().unwrap().unwrap(), second];
        end(&processes);
    });
}

/// Who listens in process 0's place without the secret gets no process.
#[test]
fn a_false_coordinator_is_found_out() {
    for welcome in [Reply::Welcome("00".repeat(32)), Reply::Challenge("again".into())] {
        let mut place = place();
        let listener = place.listener.take().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let (stream, _) = listener.accept().unwrap();
                let deadline = Instant::now() + LONG;
                let _hello: Hello = read_greeting(&stream, deadline).unwrap();
                write_greeting(&stream, &Reply::Challenge("nonce".into()), deadline).unwrap();
                let _answer: Answer = read_greeting(&stream, deadline).unwrap();
                write_greeting(&stream, &welcome, deadline).unwrap();
            });
            let line = join(&config(2, 1, &place.address), None, &agreement(), false).err().unwrap().to_string();
            let wanted =
                format!("what listens at {} is no Trommel process: it does not know the run's secret", place.address);
            assert_eq!(line, wanted);
        });
    }
}
