//! Kills at random instants: pruning and training, one process, its launcher or all of them, `-9` and stop. Afterwards the
//! same command ends with the ledger and the losses of a run that nobody disturbed.
//!
//! ```text
//!  TROMMEL_KILLS      how many; default 8, the long form is 200
//!  TROMMEL_KILL_SEED  what is drawn; default 1. Count and seed are printed.
//! ```
//! A run is killed up to five times, each time begun anew by the same command (pruning on another number of processes),
//! then left to finish and compared. Instants are drawn evenly over the time that the undisturbed run took, less the part
//! that is done already; one that finds nobody alive is no kill and is drawn again. The losses of a step that is done again
//! must be equal to the bit: training keeps its number of ranks.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use common::cluster::{and, local, no_panic};
use common::processes::{Group, committed, newest, signal, until};
use common::random::Random;
use common::{World, items_text, ledger_text, losses, run, words};
use trommel_ledger::read::Ledger;

/// Seconds of silence after which a process is lost: where one may be stopped, and where nobody is disturbed.
const SILENCE: &str = "2";
const PATIENCE: &str = "120";
/// Seconds that processes wait for each other at the start: for one that was stopped there, too.
const START: &str = "30";
/// Seconds after which a disturbed run is over.
const OVER: u64 = 90;
const MOST_PROCESSES: usize = 3;
/// Steps of the training runs, shards of the pruning runs.
const STEPS: u32 = 24;
const SHARDS: u32 = 6 * 6;

/// A kind of run and its number of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RunKind {
    training: bool,
    processes: usize,
}

impl RunKind {
    /// Share of the run that is still to be done.
    fn left(self, run_folder: &Path) -> f64 {
        let (done, all) = if self.training {
            (u32::try_from(newest(run_folder)).unwrap_or_default(), STEPS)
        } else {
            (u32::try_from(committed(run_folder)).unwrap_or_default(), SHARDS)
        };
        1.0 - f64::from(done) / f64::from(all)
    }

    fn args(self, into: &Path, silence: &str) -> Vec<String> {
        let world = World::shared();
        let command = if self.training {
            let mut command = world.train(into, STEPS);
            // A batch that 1, 2 and 3 ranks can share.
            for (flag, value) in [("--batch", "12"), ("--save-every", "3")] {
                let at = command.iter().position(|word| word == flag).unwrap();
                command[at + 1] = value.into();
            }
            and(command, &["--threads", "1"])
        } else {
            world.long_prune(into, SHARDS as usize / 6)
        };
        match self.processes {
            1 => command,
            processes => local(processes, &["--silence", silence, "--start-timeout", START], &command),
        }
    }
}

/// What a run ends with.
#[derive(PartialEq, Eq)]
struct Result {
    ledger: String,
    items: String,
    losses: BTreeMap<u64, u64>,
}

impl Result {
    fn of(kind: RunKind, run_folder: &Path) -> Self {
        Ledger::open(run_folder).unwrap().verify().unwrap();
        Self {
            ledger: ledger_text(run_folder),
            items: items_text(run_folder),
            losses: if kind.training { losses(run_folder) } else { BTreeMap::new() },
        }
    }
}

/// Undisturbed runs, made when they are first asked for.
#[derive(Default)]
struct Undisturbed {
    runs: HashMap<RunKind, (Result, Duration)>,
}

impl Undisturbed {
    fn of(&mut self, kind: RunKind) -> &(Result, Duration) {
        self.runs.entry(kind).or_insert_with(|| {
            let folder = tempfile::tempdir().unwrap();
            let into = folder.path().join("run");
            let args = kind.args(&into, PATIENCE);
            let started = Instant::now();
            run(0, &words(&args));
            (Result::of(kind, &into), started.elapsed())
        })
    }
}

/// Which process the kill hits.
#[derive(Clone, Copy, Debug)]
enum Target {
    One(usize),
    Launcher,
    All,
}

/// What was drawn for one kill.
#[derive(Debug)]
struct Kill {
    kind: RunKind,
    target: Target,
    stop: bool,
    after: Duration,
}

impl Kill {
    fn draw(random: &mut Random, kind: RunKind, lasts: Duration) -> Self {
        let target = match random.below(4) {
            0 => Target::All,
            1 if kind.processes > 1 => Target::Launcher,
            _ => Target::One(random.below(kind.processes)),
        };
        Self { kind, target, stop: random.below(3) == 0, after: lasts.mul_f64(random.share()) }
    }

    /// Does it; whether there was something alive to hit.
    fn strike(&self, group: &mut Group) -> bool {
        let over = group.started() + self.after;
        while Instant::now() < over && group.status().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let number = if self.stop { libc::SIGSTOP } else { libc::SIGKILL };
        let victims = match self.target {
            Target::All => group.all(),
            Target::Launcher => vec![group.pid()],
            Target::One(process) => group.members().get(&process).copied().into_iter().collect(),
        };
        let alive = group.status().is_none();
        let hit = victims.iter().filter(|pid| signal(**pid, number)).count() > 0 && alive;
        if self.stop {
            // The others find out, or have ended before; then the stopped one dies without ever going on.
            let others = self.kind.processes - 1;
            if matches!(self.target, Target::One(_)) && hit && others > 0 {
                let left = until(OVER, || group.status().is_some() || group.members().len() <= 1);
                assert!(left, "the others do not leave a stopped process:\n{}", group.said());
            } else {
                std::thread::sleep(Duration::from_millis(300));
            }
            victims.iter().for_each(|pid| {
                signal(*pid, libc::SIGKILL);
            });
        }
        if matches!(self.target, Target::All) {
            group.kill_all();
        }
        hit
    }
}

fn number_from(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[test]
fn killed_runs_end_as_if_nobody_had_killed_them() {
    let (kills, seed) = (number_from("TROMMEL_KILLS", 8), number_from("TROMMEL_KILL_SEED", 1));
    eprintln!("{kills} kills, seed {seed}");
    let (begun, mut random) = (Instant::now(), Random::new(seed));
    let mut undisturbed = Undisturbed::default();
    let (mut tries, mut hits, mut runs, mut stops) = (0, 0, 0, 0);
    let mut by_target = BTreeMap::new();
    while hits < kills {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("run");
        // Turn about, so that few kills see both.
        let mut kind = RunKind { training: runs % 2 == 1, processes: 1 + random.below(MOST_PROCESSES) };
        let several = (2 + random.below(4) as u64).min(kills.div_ceil(4)).min(kills - hits);
        let mut story = Vec::new();
        for _ in 0..several {
            if !kind.training {
                kind.processes = 1 + random.below(MOST_PROCESSES);
            }
            let lasts = undisturbed.of(kind).1.mul_f64(0.1 + 0.9 * kind.left(&into));
            let kill = Kill::draw(&mut random, kind, lasts);
            let mut group = Group::start(&kind.args(&into, SILENCE));
            let hit = kill.strike(&mut group);
            story.push(format!("{kill:?}: {}", if hit { "hit" } else { "nobody there" }));
            let status = group.ends_within(OVER);
            let said = group.said();
            no_panic(&said);
            let by_us = 128 + libc::SIGKILL;
            assert!(matches!(status, 0 | 3) || status == by_us, "status {status}\n{}\n{said}", story.join("\n"));
            let gone = until(OVER, || group.all().is_empty());
            assert!(gone, "processes outlive their run: {:?}\n{}\n{said}", group.all(), story.join("\n"));
            tries += 1;
            hits += u64::from(hit);
            stops += u64::from(kill.stop && hit);
            if hit {
                let name = format!("{:?}", kill.target).chars().take_while(|c| c.is_alphabetic()).collect::<String>();
                *by_target.entry((if kind.training { "train" } else { "prune" }, name)).or_insert(0u64) += 1;
            }
            if status == 0 {
                break;
            }
        }
        run(0, &words(&kind.args(&into, PATIENCE)));
        let result = Result::of(kind, &into);
        let expected = &undisturbed.of(kind).0;
        let story = || format!("seed {seed}, run {runs}:\n{}", story.join("\n"));
        assert!(result.ledger == expected.ledger, "another ledger; {}", story());
        assert!(result.items == expected.items, "other items; {}", story());
        assert_eq!(result.losses, expected.losses, "{}", story());
        runs += 1;
        assert!(tries <= 10 + 4 * kills, "{tries} tries hit only {hits} times");
    }
    eprintln!(
        "{hits} kills of living runs in {tries} tries, seed {seed}: {stops} of them stops; {by_target:?}; \
         {runs} runs finished equal; {:.0} s",
        begun.elapsed().as_secs_f64()
    );
}
