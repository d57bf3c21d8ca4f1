//! Inputs that make a program hold much, and the most that a run of it held.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// One sample's members: extension and data.
pub type Members = Vec<(&'static str, Vec<u8>)>;

/// Writes a shard of `samples` samples.
pub fn shard(path: &Path, samples: usize, members: impl Fn(usize) -> Members) {
    let mut tar = tar::Builder::new(BufWriter::new(File::create(path).unwrap()));
    for at in 0..samples {
        for (extension, data) in members(at) {
            let mut header = tar::Header::new_ustar();
            header.set_size(data.len() as u64);
            header.set_mode(0o444);
            tar.append_data(&mut header, format!("{at:07}.{extension}"), &data[..]).unwrap();
        }
    }
    tar.into_inner().unwrap().flush().unwrap();
}

/// A picture that every decoder reads: `side` x `side` pixels of 24 bits.
pub fn bmp(side: u32, seed: usize) -> Vec<u8> {
    let row = (side * 3).next_multiple_of(4);
    let mut bytes = b"BM".to_vec();
    for word in [54 + row * side, 0, 54, 40, side, side, 0x18_0001, 0, row * side, 2835, 2835, 0, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend((0..row * side).map(|at| (at as usize * 31 + seed * 7) as u8));
    bytes
}

/// Text without repetition, so that no compression helps.
pub fn text(bytes: usize, seed: usize) -> String {
    let mut state = seed as u64 + 1;
    let letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 33) as u8 % 26)
    };
    std::iter::repeat_with(letter).take(bytes).collect()
}

/// A json with this long a url.
pub fn json_of_url(bytes: usize, seed: usize) -> Vec<u8> {
    format!("{{\"uid\":\"{seed:032x}\",\"url\":\"http://{}\"}}", text(bytes - 7, seed)).into_bytes()
}

/// Runs the program and gives its status, what it said on stderr, and its largest resident set.
///
/// The kernel's own count is looked at while it runs: what `wait4` tells begins with the resident set of who forked.
pub fn peak_bytes(command: &mut Command) -> (i32, String, u64) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let said = std::thread::spawn(move || {
        let mut said = String::new();
        pipe.read_to_string(&mut said).map(|_| said)
    });
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        // A process that has ended has no memory to tell of.
        let now = std::fs::read_to_string(&status).unwrap_or_default();
        let kib = now.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak = kib.map_or(peak, |kib: u64| kib * 1024);
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    (ended.code().unwrap_or(-1), said.join().unwrap().unwrap(), peak)
}
