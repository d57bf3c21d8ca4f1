//! Many inputs for one target: the corpus, what is found, and how it is told.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::mutate::{Rng, mutate};
use crate::watch::{Cost, run};
use crate::{Outcome, Target, regressions};

/// Inputs that the corpus holds at most; a new one then takes another's place.
const MAX_CORPUS: usize = 4096;

/// Different findings after which a campaign ends.
const MAX_FINDINGS: usize = 8;

/// Longer than this no input runs, whatever the machine does: then the process ends, and the input stays in its file.
const HANGS_AFTER: Duration = Duration::from_secs(120);

/// Runs that making a finding small may take.
const SHRINKING_RUNS: usize = 600;

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Name of the target.
    pub target: &'static str,
    /// What was broken.
    pub what: String,
    /// Where the input stands.
    pub path: PathBuf,
    /// Seed of the campaign, and the number of the input; none where a stored one was run.
    pub from: Option<(u64, u64)>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, what, path, from } = self;
        write!(f, "{target}: {what}\n  ")?;
        if let Some((seed, number)) = from {
            write!(f, "input {number} of seed {seed}, ")?;
        }
        write!(f, "kept in {}", path.display())
    }
}

/// One target's inputs, one after the other.
pub struct Campaign<'t> {
    target: &'t Target,
    seed: u64,
    rng: Rng,
    corpus: Vec<Vec<u8>>,
    /// How many of the corpus it began with.
    given: usize,
    seen: HashSet<u64>,
    findings: Vec<Finding>,
    inputs: u64,
    most: Cost,
    stored: Vec<PathBuf>,
    at_hand: AtHand,
}

impl<'t> Campaign<'t> {
    /// A campaign that begins with the target's seeds and its regressions.
    #[must_use]
    pub fn new(target: &'t Target, seed: u64) -> Self {
        let mut stored: Vec<PathBuf> = std::fs::read_dir(regressions().join(target.name))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        stored.sort();
        let name = target.name.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        Self {
            target,
            seed,
            rng: Rng::new(seed ^ name.rotate_left(32)),
            corpus: Vec::new(),
            given: 0,
            seen: HashSet::new(),
            findings: Vec::new(),
            inputs: 0,
            most: Cost::default(),
            stored,
            at_hand: AtHand::new(target.name),
        }
    }

    /// Runs the seeds, the regressions, and so many inputs.
    pub fn run(&mut self, inputs: u64) -> Vec<Finding> {
        self.begin();
        let end = self.inputs + inputs;
        while self.inputs < end && self.findings.len() < MAX_FINDINGS {
            self.next();
        }
        self.findings.clone()
    }

    /// The same for so long.
    pub fn run_for(&mut self, time: Duration) -> Vec<Finding> {
        let end = Instant::now() + time;
        self.begin();
        while Instant::now() < end && self.findings.len() < MAX_FINDINGS {
            self.next();
        }
        self.findings.clone()
    }

    /// Runs stored inputs alone.
    pub fn replay(&mut self, paths: &[PathBuf]) -> Vec<Finding> {
        for path in paths {
            let input = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let outcome = self.watched(&input);
            eprintln!("{}: {}: {outcome:?}", self.target.name, path.display());
            if let Err(what) = outcome {
                self.findings.push(Finding { target: self.target.name, what, path: path.clone(), from: None });
            }
        }
        self.findings.clone()
    }

    /// What was done, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let (target, most) = (self.target, self.most);
        format!(
            "{:<16} {:>9} inputs, {:>4} kept for their outcome, at most {:>6.1} ms and {:>7.2} MiB of {} MiB, {} findings",
            target.name,
            self.inputs,
            self.corpus.len(),
            most.time.as_secs_f64() * 1e3,
            most.heap_bytes as f64 / f64::from(1 << 20),
            target.limits.heap_bytes >> 20,
            self.findings.len()
        )
    }

    fn begin(&mut self) {
        for path in std::mem::take(&mut self.stored) {
            let input = std::fs::read(&path).unwrap_or_default();
            if let Err(what) = self.watched(&input) {
                self.findings.push(Finding { target: self.target.name, what, path, from: None });
            }
            self.corpus.push(input);
        }
        for input in (self.target.seeds)() {
            assert!(input.len() <= self.target.limits.input_bytes, "{}: a seed that is too long", self.target.name);
            let outcome = self.watched(&input);
            self.corpus.push(input.clone());
            self.judge(outcome, &input, false);
        }
        self.given = self.corpus.len();
        assert!(!self.corpus.is_empty(), "{} has no seeds", self.target.name);
    }

    fn next(&mut self) {
        // What was given keeps its share, however many outcomes there are.
        let among = if self.rng.one_in(2) { self.given } else { self.corpus.len() };
        let mut input = self.corpus[self.rng.below(among)].clone();
        mutate(&mut self.rng, &mut input, &self.corpus, self.target.words, self.target.limits.input_bytes);
        if self.rng.one_in(2) {
            (self.target.mend)(&mut input);
        }
        let outcome = self.watched(&input);
        self.judge(outcome, &input, true);
        self.inputs += 1;
    }

    fn watched(&mut self, input: &[u8]) -> Outcome {
        self.at_hand.begin(input);
        let (outcome, cost) = run(self.target, input);
        self.at_hand.end();
        self.most.heap_bytes = self.most.heap_bytes.max(cost.heap_bytes);
        self.most.time = self.most.time.max(cost.time);
        outcome
    }

    fn judge(&mut self, outcome: Outcome, input: &[u8], keep: bool) {
        let new = self.seen.insert(words(match &outcome {
            Ok(text) | Err(text) => text,
        }));
        match outcome {
            Ok(_) if !new || !keep => {}
            Ok(_) if self.corpus.len() < MAX_CORPUS => self.corpus.push(input.to_vec()),
            Ok(_) => {
                let place = self.given + self.rng.below(MAX_CORPUS - self.given);
                self.corpus[place] = input.to_vec();
            }
            Err(_) if !new => {}
            Err(what) => {
                let small = self.shrunk(input, &what);
                let path = folder().join(format!("{}-{:016x}", self.target.name, hash(&small)));
                std::fs::write(&path, small).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let from = Some((self.seed, self.inputs));
                let finding = Finding { target: self.target.name, what, path, from };
                eprintln!("{finding}");
                self.findings.push(finding);
            }
        }
    }

    /// A part of `input` that breaks the same promise: blocks are left out while it does.
    fn shrunk(&mut self, input: &[u8], what: &str) -> Vec<u8> {
        let (mut small, mut runs, mut block) = (input.to_vec(), 0, input.len() / 2);
        while block > 0 && runs < SHRINKING_RUNS {
            let mut at = 0;
            while at < small.len() && runs < SHRINKING_RUNS {
                let mut without = small.clone();
                without.drain(at..(at + block).min(small.len()));
                runs += 1;
                match self.watched(&without) {
                    Err(same) if words(&same) == words(what) => small = without,
                    _ => at += block,
                }
            }
            block /= 2;
        }
        small
    }
}

/// The words of a text: its numbers, and what it quotes, left out.
fn words(text: &str) -> u64 {
    let mut quote = None;
    let outside = |byte: &u8| match quote {
        Some(open) => {
            quote = quote.filter(|_| *byte != open);
            false
        }
        None => {
            quote = Some(*byte).filter(|byte| b"`\"".contains(byte));
            true
        }
    };
    let mut plain: Vec<u8> = text.bytes().take(400).filter(outside).collect();
    plain.iter_mut().filter(|byte| byte.is_ascii_digit()).for_each(|byte| *byte = b'0');
    plain.dedup_by(|a, b| *a == b'0' && *b == b'0');
    hash(&plain)
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Where findings are written: `trommel-fuzz` in the system's temporary folder, or what `TROMMEL_FUZZ_OUT` says.
fn folder() -> PathBuf {
    let folder =
        std::env::var_os("TROMMEL_FUZZ_OUT").map_or_else(|| std::env::temp_dir().join("trommel-fuzz"), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder
}

/// The input at hand, in a file: what a process that was ended leaves behind.
struct AtHand {
    file: File,
    path: PathBuf,
    since: &'static Mutex<Option<Instant>>,
    ended: &'static AtomicBool,
}

impl AtHand {
    fn new(target: &str) -> Self {
        let path = folder().join(format!("{target}-at-hand-{}", std::process::id()));
        let file = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let since: &'static Mutex<Option<Instant>> = Box::leak(Box::default());
        let ended: &'static AtomicBool = Box::leak(Box::default());
        let shown = path.clone();
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(500));
                let hangs = since.lock().is_ok_and(|since| since.is_some_and(|since| since.elapsed() > HANGS_AFTER));
                if hangs {
                    eprintln!("an input runs for more than {HANGS_AFTER:?}: {}", shown.display());
                    std::process::abort();
                }
            }
        });
        Self { file, path, since, ended }
    }

    fn begin(&mut self, input: &[u8]) {
        let stored = self.file.set_len(input.len() as u64).and_then(|()| self.file.write_all_at(input, 0));
        stored.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        *self.since.lock().unwrap() = Some(Instant::now());
    }

    fn end(&mut self) {
        *self.since.lock().unwrap() = None;
    }
}

impl Drop for AtHand {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, as_it_is};

    const KIND: Target = Target {
        name: "of-the-machine",
        about: "",
        seeds: || vec![b"abc".to_vec(), vec![0; 200]],
        words: &[b"panic", b"memory", b"wrong", b"caught"],
        mend: as_it_is,
        limits: Limits { input_bytes: 4096, heap_bytes: 1 << 20, time: Duration::from_secs(1) },
        run: |input| {
            let has = |word: &[u8]| input.windows(word.len()).any(|part| part == word);
            assert!(!has(b"panic"), "it has the word");
            if has(b"caught") {
                _ = std::panic::catch_unwind(|| panic!("nobody sees it"));
            }
            let held = vec![1u8; if has(b"memory") { 2 << 20 } else { 10 }];
            if has(b"wrong") { Err("it is wrong".into()) } else { Ok(held.len().to_string()) }
        },
    };

    #[test]
    fn each_kind_of_broken_promise_is_found_and_made_small() {
        let mut campaign = Campaign::new(&KIND, 1);
        let mut findings = campaign.run(20_000);
        findings.sort_by(|a, b| a.what.cmp(&b.what));
        let found: Vec<(String, Vec<u8>)> =
            findings.iter().map(|finding| (finding.what.clone(), std::fs::read(&finding.path).unwrap())).collect();
        let wanted: [(&str, &[u8]); 4] = [
            ("of memory at one time", b"memory"),
            ("a panic that was caught", b"caught"),
            ("a panic: ", b"panic"),
            ("it is wrong", b"wrong"),
        ];
        assert_eq!(found.len(), 4, "{found:?}");
        for (what, small) in wanted {
            let (_, input) = found.iter().find(|(said, _)| said.contains(what)).unwrap();
            assert_eq!(input, small, "{what}");
        }
        for finding in &findings {
            let mut again = Campaign::new(&KIND, 1);
            assert_eq!(again.replay(std::slice::from_ref(&finding.path))[0].what, finding.what);
            std::fs::remove_file(&finding.path).unwrap();
        }
    }
}
