//! Hostile bytes on every kind of connection. The machine is in `tests/fuzz`.
#![allow(clippy::ptr_arg, reason = "what mends an input may lengthen it, and all have one type")]

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use serde::de::DeserializeOwned;
use trommel_core::sample::SampleId;
use trommel_fuzz::{Limits, Outcome, Target, as_it_is, check};

use super::super::handshake::{Answer, Hello, MAGIC, PROTOCOL, Reply, read_words};
use super::super::message::{Counters, Frame, Frames, Message, read_frame};
use super::super::samples::{Holding, serve};
use super::*;

/// A connection on which these bytes come, then its end. No port is used.
fn heard(bytes: &[u8]) -> TcpStream {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(bytes).unwrap();
    OwnedFd::from(near).into()
}

fn target(name: &'static str, seeds: fn() -> Vec<Vec<u8>>, run: fn(&[u8]) -> Outcome) -> Target {
    let limits = Limits { input_bytes: 16 << 10, heap_bytes: 3 << 20, ..Limits::default() };
    Target { name, about: "", seeds, words: &[b"{", b"[", b"\"", b":", b"null", b"1e999"], mend: as_it_is, limits, run }
}

fn frames() -> Vec<Vec<u8>> {
    let counters = Counters([("samples".to_string(), 1.5)].into());
    let said = [
        Frame::Table(vec!["127.0.0.1:1".into()]),
        Frame::Beat(counters),
        Frame::Message(Message::Grant { ordinal: 1, floor: 0 }),
        Frame::Message(Message::Text { kind: "a".into(), text: "b".into() }),
        Frame::Barrier { name: "x".into(), value: "y".into(), more: true },
        Frame::Failed { line: "no".into(), status: 1 },
        Frame::Goodbye,
    ];
    let all: Vec<Vec<u8>> = said.iter().map(|frame| frame.encode().unwrap()).collect();
    [vec![all.concat()], all].concat()
}

#[test]
fn hostile_frames() {
    fn run(input: &[u8]) -> Outcome {
        let first = read_frame(&heard(input), Instant::now() + LONG);
        let (mut frames, mut read) = (Frames::new(heard(input), || {}), Vec::new());
        let end = loop {
            match frames.next() {
                Ok(Some(frame)) => read.push(frame),
                Ok(None) => break "the end".to_string(),
                Err(error) => break error.to_string(),
            }
        };
        if first.as_ref().ok() != read.first() {
            return Err(format!("the first frame is {first:?} by itself, and {:?} in the stream", read.first()));
        }
        for frame in &read {
            let Ok(bytes) = frame.encode() else { continue };
            if read_frame(&heard(&bytes), Instant::now() + LONG).ok().as_ref() != Some(frame) {
                return Err(format!("{frame:?} is sent, and another heard"));
            }
        }
        Ok(format!("{} {end}", read.len().min(3)))
    }
    fn lengths(input: &mut Vec<u8>) {
        let length = (input.len() as u32).saturating_sub(4).to_be_bytes();
        if let Some(head) = input.get_mut(..4) {
            head.copy_from_slice(&length);
        }
    }
    check(&Target { mend: lengths, ..target("frames", frames, run) }, 2000);
}

fn greetings() -> Vec<Vec<u8>> {
    let hello = Hello::new(&config(2, 1, "127.0.0.1:1"), &agreement(), true);
    let bodies = [
        serde_json::to_vec(&hello).unwrap(),
        serde_json::to_vec(&Reply::Challenge("n".into())).unwrap(),
        serde_json::to_vec(&Answer { proof: "p".into() }).unwrap(),
    ];
    let head =
        |body: Vec<u8>| [&MAGIC[..], &PROTOCOL.to_be_bytes(), &(body.len() as u32).to_be_bytes(), &body].concat();
    bodies.map(head).into()
}

#[test]
fn hostile_greetings() {
    fn one<G: DeserializeOwned>(input: &[u8]) -> String {
        match read_words::<G>(&heard(input), Instant::now() + LONG) {
            Ok(_) => "understood".into(),
            Err(misheard) => format!("{misheard:?}"),
        }
    }
    fn run(input: &[u8]) -> Outcome {
        Ok([one::<Hello>(input), one::<Reply>(input), one::<Answer>(input)].join(" "))
    }
    fn head(input: &mut Vec<u8>) {
        let length = (input.len() as u32).saturating_sub(16).to_be_bytes();
        if let Some(head) = input.get_mut(..16) {
            head.copy_from_slice(&[&MAGIC[..], &PROTOCOL.to_be_bytes(), &length].concat());
        }
    }
    check(&Target { mend: head, ..target("greeting", greetings, run) }, 2000);
}

#[test]
fn hostile_questions_for_samples() {
    struct Few;
    impl Holding for Few {
        fn take(&self, _: u32, id: SampleId) -> Option<Vec<u8>> {
            (id.index < 3).then(|| vec![7; 3])
        }
    }
    fn seeds() -> Vec<Vec<u8>> {
        vec![[&2u32.to_be_bytes()[..], &[0; 32]].concat(), [&1u32.to_be_bytes()[..], &[9; 16], &[0; 4]].concat()]
    }
    fn run(input: &[u8]) -> Outcome {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(input).unwrap();
        far.shutdown(std::net::Shutdown::Write).unwrap();
        // Nobody reads the answers: so many as fit.
        let near: TcpStream = OwnedFd::from(near).into();
        near.set_nonblocking(true).unwrap();
        Ok(serve(&near, &Few).map_or_else(|error| error.to_string(), |()| "the end".into()))
    }
    check(&target("asked-samples", seeds, run), 2000);
}
