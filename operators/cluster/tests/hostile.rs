//! Strangers: garbage, half words, floods, lengths that cannot be. None of them may hurt.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::super::JOINED;
use super::super::handshake::{Hello, Kind, MAGIC, MAX_GREETING_BYTES, PROTOCOL, greet, write_greeting};
use super::super::message::{Frame, MAX_FRAME_BYTES};
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
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = Some(own.local_addr().unwrap().to_string());
        let hello = Hello { listen, ..Hello::new(&config(2, 1, &place.address), &agreement(), false) };
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
        let mut welcome = [0; 8];
        control.read_exact(&mut welcome).unwrap();
        assert_eq!(welcome, MAGIC);
        greet(&timely, &Hello { kind: Kind::Timely, ..hello }, 0, "", deadline).unwrap();
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
