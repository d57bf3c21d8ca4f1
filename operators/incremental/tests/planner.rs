//! What is planned, from a table, and over random worlds that follow the plans: files come, change, go, break and heal, inputs change, epochs
//! are refused. The world's own files are the reference: whatever happened, what is shown in the end is what lies there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use half::f16;

use super::exact::Dice;
use crate::inputs::{Change, Inputs, ShardInput};
use crate::planner::{
    Action, Arrival, Arrived, Asked, Attempt, Desired, Event, Executor, Failure, Found, Look, Manner, NamedBenchmark,
    Refusal, Seen, Standing, State, Step, Trainer, changes, plan,
};
use trommel_decide::benchmark::Benchmark;
use trommel_shard::store::{EntryKind, FileInfo};

const POLL: Duration = Duration::from_secs(10);

fn found(content: u64) -> Found {
    Found { path: "x".into(), bytes: content, modified_ns: 7, stamp: None }
}

fn file(content: u64) -> FileInfo {
    FileInfo { kind: EntryKind::File, bytes: Some(content), modified: None, stamp: None }
}

fn benchmark(name: &str, radius: f64) -> Arc<Benchmark> {
    let vectors = [1.0, 0.0, 0.0, 1.0].map(f16::from_f64).to_vec();
    Arc::new(Benchmark::new(name, 2, vectors, vec![], vec![], Some(vec![radius; 2]), None).unwrap())
}

fn shard(name: &str) -> ShardInput {
    ShardInput { name: name.into(), generation: 0, count: 2, rejected: vec![] }
}

/// All that a state points at.
struct Held {
    manner: Manner,
    arrived: Arrived,
    judged: BTreeSet<u64>,
    failed: BTreeMap<u64, Failure>,
    inputs: Inputs,
    is_in_force: bool,
    embedded: Vec<NamedBenchmark>,
    trainer: Trainer,
}

impl Held {
    fn new(withdraws_missing: bool, trainer: Trainer) -> Self {
        let manner = Manner { once: false, withdraws_missing, settle: Duration::from_secs(3), poll: POLL };
        Self {
            manner,
            arrived: Arrived::default(),
            judged: BTreeSet::new(),
            failed: BTreeMap::new(),
            inputs: Inputs::default(),
            is_in_force: false,
            embedded: Vec::new(),
            trainer,
        }
    }

    /// `a` and `b` arrived, are judged and shown.
    fn with_two() -> Self {
        let mut held = Self::new(true, Trainer::Absent);
        held.arrive(&[("a", 1), ("b", 2)]);
        held.judged = BTreeSet::from([0, 1]);
        held.inputs = held.inputs.after(&[Change::Arrive(0, shard("a")), Change::Arrive(1, shard("b"))]).unwrap();
        held.is_in_force = true;
        held
    }

    fn arrive(&mut self, shards: &[(&str, u64)]) {
        let events = self.arrived.numbered(shards.iter().map(|&(name, at)| (name.into(), found(at))).collect());
        events.into_iter().for_each(|event| self.arrived.take(event));
    }

    fn state(&self) -> State<'_> {
        State {
            manner: &self.manner,
            arrived: &self.arrived,
            is_judged: Box::new(|ordinal| self.judged.contains(&ordinal)),
            failed: &self.failed,
            inputs: &self.inputs,
            is_in_force: self.is_in_force,
            embedded: &self.embedded,
            trainer: self.trainer,
        }
    }
}

fn look(shards: &[(&str, u64)], complete: &[&str]) -> Look {
    Look {
        shards: shards.iter().map(|&(name, at)| (name.into(), found(at))).collect(),
        complete: complete.iter().map(|&name| name.into()).collect(),
        ..Look::default()
    }
}

/// What is planned for a look, as words.
fn of_look(held: &Held, look: &Look, now: Instant) -> String {
    let word = |event: &Event| match event {
        Event::Arrived(it) => format!("{}={}:{}", it.ordinal, it.name, it.found.bytes),
        Event::Torn(at) => format!("torn {at}"),
        Event::Gone(at) => format!("gone {at}"),
        Event::Back(at) => format!("back {at}"),
    };
    let words = |action| match action {
        Action::Note(events) => format!("note {}", events.iter().map(word).collect::<Vec<_>>().join(" ")),
        Action::Share(wanted) => format!("judge {wanted:?}"),
        other => format!("{other:?}"),
    };
    plan(&Seen::Sources(Some(look), now), &held.state()).into_iter().map(words).collect::<Vec<_>>().join("; ")
}

#[test]
fn shards_that_came_changed_and_went() {
    let now = Instant::now();
    let due = |held: &Held, seen: &Look, expected: &str| assert_eq!(of_look(held, seen, now), expected, "{seen:?}");
    let both = [("a", 1), ("b", 2)];
    let two = Held::with_two();
    due(&two, &look(&both, &["a", "b"]), "judge []");
    due(&two, &look(&both, &[]), "judge []");
    due(&two, &look(&[both[0], both[1], ("c", 3)], &["a"]), "judge []");
    due(&two, &look(&[both[0], both[1], ("c", 3)], &["c"]), "note 2=c:3; judge [2]");
    due(&two, &look(&[("a", 9), both[1], ("c", 3)], &["a", "c"]), "note 2=a:9 3=c:3; judge [2, 3]");
    due(&two, &look(&[("a", 9), both[1]], &[]), "judge []");
    due(&two, &look(&both[..1], &["a"]), "note gone 1; judge []");
    let mut away = Held::with_two();
    away.arrived.take(Event::Gone(1));
    due(&away, &look(&both[..1], &["a"]), "judge []");
    due(&away, &look(&both, &["a"]), "note back 1; judge []");
    due(&away, &look(&[both[0], ("b", 9)], &["b"]), "note 2=b:9; judge [2]");
    due(&away, &look(&[("c", 5)], &["c"]), "note gone 0 2=c:5; judge [2]");
    // What is seen is there, whoever asks.
    due(&away, &Look { troubles: vec!["no such folder".into()], ..look(&both, &[]) }, "note back 1; judge []");
    away.manner.withdraws_missing = false;
    due(&away, &look(&both, &[]), "note back 1; judge []");
    due(&away, &look(&[], &[]), "judge []");
    // What cannot be looked at is neither here nor gone; what is complete elsewhere comes.
    let trouble = Look { troubles: vec!["no such folder".into()], ..look(&[("c", 3)], &["c"]) };
    due(&two, &trouble, "note 2=c:3; judge [2]");
    due(
        &Held { manner: Manner { withdraws_missing: false, ..two.manner }, ..Held::with_two() },
        &look(&[], &[]),
        "judge []",
    );
    // What could not be read rests alone; what was torn is read again when it is complete, even as it was.
    let mut third = Held::with_two();
    third.arrive(&[("c", 3), ("d", 4), ("e", 5)]);
    third.arrived.take(Event::Torn(4));
    let all = look(&[both[0], both[1], ("c", 3), ("d", 4), ("e", 5)], &[]);
    due(&third, &all, "judge [2, 3]");
    third.failed.insert(2, Failure { why: "gone".into(), when: now });
    due(&third, &all, "judge [3]");
    assert_eq!(of_look(&third, &all, now + POLL), "judge [2, 3]");
    due(&third, &Look { complete: BTreeSet::from(["e".into()]), ..all.clone() }, "note 5=e:5; judge [3, 5]");
    // A live trainer reads what comes; who does not look comes to the same meetings.
    for (trainer, expected, elsewhere) in [
        (Trainer::Absent, "note 5=f:6; judge [3, 5]", vec![Action::Share(vec![])]),
        (Trainer::Due, "note 5=f:6; judge []", vec![Action::Share(vec![])]),
        (Trainer::Runs, "note 5=f:6; Hear; judge []", vec![Action::Hear, Action::Share(vec![])]),
    ] {
        third.trainer = trainer;
        let mut more = all.clone();
        more.shards.push(("f".into(), found(6)));
        more.complete.insert("f".into());
        due(&third, &more, expected);
        assert_eq!(plan(&Seen::Sources(None, now), &third.state()), elsewhere);
    }
}

#[test]
fn the_course_of_a_turn() {
    let mut held = Held::with_two();
    let once = Held { manner: Manner { once: true, ..held.manner }, ..Held::with_two() };
    let named = |length| {
        let (name, path) = ("b".into(), "pictures".into());
        NamedBenchmark { name, path, without: vec![], stamps: vec![("pictures/1.png".into(), file(length))] }
    };
    held.embedded = vec![named(5)];
    let rest = |is_more, trains| Seen::Rest { is_more, trains };
    let short = Duration::from_millis(100);
    use Action::{Check, Compare, Decide, Embed, End, Judge, Look, Note, ReadInputs, Rest, Train, Wait};
    for (seen, state, expected) in [
        (Seen::Turn(Asked::Nothing), &held, vec![Look, Rest]),
        (Seen::Turn(Asked::WindDown), &held, vec![End]),
        (Seen::Turn(Asked::Stop), &held, vec![End]),
        (Seen::Orders(&[]), &held, vec![Check]),
        (Seen::Orders(&[3, 5]), &held, vec![Judge(vec![3, 5]), Check]),
        (Seen::Read(Asked::Nothing), &held, vec![ReadInputs, Compare, Decide]),
        (Seen::Read(Asked::WindDown), &held, vec![ReadInputs, Compare, Decide]),
        (Seen::Read(Asked::Stop), &held, vec![]),
        (Seen::Benchmarks(&[named(5)]), &held, vec![]),
        (Seen::Benchmarks(&[named(6)]), &held, vec![Embed(vec![named(6)])]),
        (Seen::Benchmarks(&[]), &held, vec![Embed(vec![])]),
        (rest(true, false), &held, vec![]),
        (rest(true, true), &once, vec![]),
        (rest(false, false), &held, vec![Wait(Duration::from_secs(3))]),
        (rest(false, true), &held, vec![Wait(Duration::from_secs(3))]),
        (rest(false, false), &once, vec![End]),
        (rest(false, true), &once, vec![Wait(short)]),
    ] {
        assert_eq!(plan(&seen, &state.state()), expected);
    }
    let with = |settle, poll| Held { manner: Manner { settle, poll, ..held.manner }, ..Held::with_two() };
    for (settle, poll, due) in [(0, 9000, 100), (5000, 300, 300), (700, 900, 700), (0, 50, 50)] {
        let millis = Duration::from_millis;
        assert_eq!(plan(&rest(false, false), &with(millis(settle), millis(poll)).state()), [Wait(millis(due))]);
    }
    let mut trains = Held::with_two();
    trains.trainer = Trainer::Due;
    assert_eq!(plan(&Seen::Turn(Asked::Nothing), &trains.state()), [Look, Train, Rest]);
    // Files that changed while they were read; one that cannot be seen, or is shown, is left alone.
    held.arrive(&[("c", 3), ("d", 4), ("e", 5), ("f", 6)]);
    held.judged.extend([2, 3, 4]);
    let files = BTreeMap::from([(0, found(9)), (2, found(3)), (3, found(9)), (5, found(9))]);
    assert_eq!(plan(&Seen::Files(&files), &held.state()), [Note(vec![Event::Torn(3)])]);
    assert_eq!(plan(&Seen::Files(&BTreeMap::new()), &held.state()), []);
    // One that is superseded would be shown until the next one is judged, or where that is torn; what is older than what is shown would not.
    held.arrive(&[("a", 7), ("a", 8), ("b", 9)]);
    held.judged.extend([6, 7, 8]);
    held.inputs = held.inputs.after(&[Change::Withdraw(1), Change::Arrive(8, shard("b"))]).unwrap();
    let files = BTreeMap::from([(0, found(8)), (1, found(9)), (6, found(8)), (7, found(8))]);
    assert_eq!(plan(&Seen::Files(&files), &held.state()), [Note(vec![Event::Torn(6)])]);
    // What is gone is not shown, and not looked at.
    held.arrived.take(Event::Gone(7));
    assert_eq!(plan(&Seen::Files(&files), &held.state()), []);
}

#[test]
fn the_trainer_is_started_fed_and_stopped_by_all_alike() {
    use Action::{FeedTrainer, Linger, StartTrainer, StopTrainer};
    let well = Standing { can_follow: true, ..Standing::default() };
    let (stops, ended) = (Standing { stops: true, ..well }, Standing { has_ended: true, ..well });
    let parted = Standing { can_follow: false, ..well };
    let stop = |for_good| StopTrainer { for_good };
    for (trainer, standing, expected) in [
        (Trainer::Due, [well, well], vec![StartTrainer, Linger]),
        (Trainer::Due, [stops, well], vec![]),
        (Trainer::Runs, [well, well], vec![FeedTrainer, Linger]),
        (Trainer::Runs, [well, stops], vec![]),
        (Trainer::Runs, [ended, stops], vec![]),
        (Trainer::Runs, [well, ended], vec![stop(true), Linger]),
        (Trainer::Runs, [parted, ended], vec![stop(true), Linger]),
        (Trainer::Runs, [parted, well], vec![stop(false), StartTrainer, Linger]),
    ] {
        let held = Held { trainer, ..Held::with_two() };
        assert_eq!(plan(&Seen::Trainer(&standing), &held.state()), expected);
    }
    // What went is not fed, unless the trainer is beyond it; what could not be read keeps it from nothing.
    let mut held = Held::with_two();
    held.arrive(&[("c", 3), ("a", 4)]);
    held.arrived.take(Event::Gone(1));
    let feed = held.arrived.feed(|ordinal| ordinal < 1);
    assert_eq!((feed.shards, &feed.holes[..]), (4, &[1][..]));
    let now = Instant::now();
    held.judged.extend([3]);
    held.failed.insert(2, Failure { why: String::new(), when: now });
    for (trainer, later, is_open) in
        [(Trainer::Runs, POLL, false), (Trainer::Absent, POLL, true), (Trainer::Absent, Duration::ZERO, false)]
    {
        held.trainer = trainer;
        assert_eq!(held.state().has_unread(now + later), is_open);
    }
}

#[test]
fn an_epoch_takes_all_and_one_that_is_refused_less() {
    let held = Held::with_two();
    let desired = Desired { benchmarks: vec![benchmark("p", 0.5)], ..Desired::default() };
    // `b` is replaced: that cannot wait; `c` and `d` can.
    let new = BTreeMap::from([(2, shard("c")), (3, shard("b")), (4, shard("d"))]);
    let actions = plan(&Seen::Inputs(&desired, &[1], &new), &held.state());
    let [Action::Apply(attempt)] = &actions[..] else { panic!("{actions:?}") };
    let of = |step: &Step| match &step.change {
        Change::Arrive(at, _) => format!("+{at}{}", if step.can_wait { "?" } else { "" }),
        Change::Withdraw(at) => format!("-{at}"),
        _ => step.words.clone().unwrap(),
    };
    let words = |attempt: &Attempt| attempt.tried().iter().map(of).collect::<Vec<_>>().join(" ");
    assert_eq!(words(attempt), "benchmark p added: 2 points -1 +3 +2? +4?");
    let after = |attempt: &Attempt, refusal: &Refusal| plan(&Seen::Refused(attempt, refusal), &held.state());
    let full = after(attempt, &Refusal::Budget);
    let [Action::Apply(less)] = &full[..] else { panic!("{full:?}") };
    assert_eq!((words(less), less.steps.len()), ("benchmark p added: 2 points -1 +3".into(), 5));
    assert_eq!(after(less, &Refusal::Budget), []);
    assert_eq!(after(attempt, &Refusal::Failure), []);
    let old = Refusal::Change("no".into());
    let wrong = after(attempt, &old);
    let [Action::KeepOld(why), Action::Apply(shards)] = &wrong[..] else { panic!("{wrong:?}") };
    assert_eq!((why.as_str(), words(shards)), ("no", "-1 +3 +2? +4?".into()));
    assert_eq!(after(shards, &old), []);
    let only = Attempt { steps: attempt.steps[..1].to_vec(), many: 1 };
    assert_eq!(after(&only, &old), [Action::KeepOld("no".into())]);
    // Afterwards.
    let fresh = Held { is_in_force: false, ..Held::with_two() };
    for (attempt, state, expected) in [
        (attempt, &held, vec![Action::TakeEffect]),
        (less, &held, vec![Action::TakeEffect, Action::Again]),
        (shards, &held, vec![]),
        (shards, &fresh, vec![Action::TakeEffect]),
    ] {
        assert_eq!(plan(&Seen::Applied(attempt), &state.state()), expected);
    }
    let nothing = plan(&Seen::Inputs(&Desired::default(), &[], &BTreeMap::new()), &held.state());
    assert_eq!(nothing, [Action::TakeEffect]);
}

/// A shard's file.
#[derive(Clone)]
struct File {
    content: u64,
    is_complete: bool,
    breaks: bool,
}

/// Files, inputs and a clock that follow no plan; and what followed the plans.
struct World {
    held: Held,
    files: BTreeMap<String, File>,
    /// Files as they were when they went.
    away: BTreeMap<String, File>,
    contents: u64,
    clock: Instant,
    has_trouble: bool,
    named: Vec<NamedBenchmark>,
    wanted: Desired,
    desired: Desired,
    /// Shards that can come in one epoch.
    room: usize,
    /// Names of files that change while they are read.
    restless: BTreeSet<String>,
    /// The content that was read, of what did not change meanwhile.
    read: BTreeMap<u64, u64>,
    /// The watch is killed when it has read what comes next.
    dies: bool,
    standing: Standing,
    is_more: bool,
    did: Vec<Action>,
    epochs: usize,
    refused: [usize; 2],
    torn: usize,
    killed: usize,
}

/// The watch was killed, and starts again in its next turn.
#[derive(Debug)]
struct Killed;

impl World {
    fn new(dice: &mut Dice) -> Self {
        let trainer = [Trainer::Absent, Trainer::Absent, Trainer::Due][dice.below(3)];
        Self {
            held: Held::new(dice.below(2) == 0, trainer),
            files: BTreeMap::new(),
            away: BTreeMap::new(),
            contents: 0,
            clock: Instant::now(),
            has_trouble: false,
            named: Vec::new(),
            wanted: Desired::default(),
            desired: Desired::default(),
            room: 1 + dice.below(5),
            restless: BTreeSet::new(),
            read: BTreeMap::new(),
            dies: false,
            standing: Standing { can_follow: true, ..Standing::default() },
            is_more: false,
            did: Vec::new(),
            epochs: 0,
            refused: [0; 2],
            torn: 0,
            killed: 0,
        }
    }

    fn fresh_content(&mut self) -> u64 {
        self.contents += 1;
        self.contents
    }

    /// Something happens.
    fn happen(&mut self, dice: &mut Dice) {
        let name = format!("{}.tar", dice.below(8));
        let content = self.fresh_content();
        match dice.below(15) {
            0..=3 => {
                let file = File { content, is_complete: dice.below(3) > 0, breaks: dice.below(4) == 0 };
                self.files.insert(name, file);
            }
            4 => self.away.extend(self.files.remove_entry(&name)),
            // Over another file it is a third one: its mark tells.
            5 => {
                let is_over = self.files.contains_key(&name);
                let back = self.away.remove(&name).map(|file| if is_over { File { content, ..file } } else { file });
                self.files.extend(back.map(|file| (name, file)));
            }
            6 => self.files.values_mut().for_each(|file| file.is_complete = true),
            7 => self.files.values_mut().for_each(|file| file.breaks = false),
            8 => self.has_trouble = !self.has_trouble,
            9 => self.restless = BTreeSet::from([name]),
            10 => {
                let stamps = vec![("f".into(), file(content))];
                self.named = vec![NamedBenchmark { name: "p".into(), path: "p".into(), without: vec![], stamps }];
            }
            11 => {
                let names = &["p", "q"][..dice.below(3)];
                let radius = [0.5, 0.6][dice.below(2)];
                self.wanted.benchmarks = names.iter().map(|name| benchmark(name, radius)).collect();
            }
            12 => {
                let rule = ["drop-above:0.5", "drop-above:0.9", "drop-over-radius@nobody"][dice.below(3)];
                self.wanted.splits.insert(format!("s{}", dice.below(2)), rule.parse().unwrap());
            }
            13 => self.wanted.takedowns = Arc::new(BTreeSet::from([name])),
            _ => self.dies = true,
        }
        self.standing.can_follow = dice.below(5) > 0;
        self.standing.has_ended = dice.below(20) == 0;
        self.clock += POLL * dice.below(4) as u32 / 2;
    }

    fn file(&self, ordinal: u64) -> Option<&File> {
        self.files.get(&self.held.arrived.all()[ordinal as usize].name)
    }

    /// Somebody reads a shard: what lies there now, whatever was taken in.
    fn read(&mut self, ordinal: u64) {
        assert!(!self.held.judged.contains(&ordinal), "{ordinal} is read twice");
        let name = self.held.arrived.all()[ordinal as usize].name.clone();
        self.held.failed.remove(&ordinal);
        match self.file(ordinal).filter(|file| !file.breaks).map(|file| file.content) {
            Some(content) => {
                self.held.judged.insert(ordinal);
                self.read.insert(ordinal, content);
            }
            None => _ = self.held.failed.insert(ordinal, Failure { why: "breaks".into(), when: self.clock }),
        }
        let content = self.fresh_content();
        if self.restless.remove(&name)
            && let Some(file) = self.files.get_mut(&name)
        {
            file.content = content;
            self.read.remove(&ordinal);
        }
    }

    /// What was read is durable; what is noted next is not yet.
    fn survive(&mut self) -> Result<(), Killed> {
        if !std::mem::take(&mut self.dies) {
            return Ok(());
        }
        self.killed += 1;
        self.held.failed.clear();
        self.held.embedded.clear();
        self.held.is_in_force = false;
        if self.held.trainer == Trainer::Runs {
            self.held.trainer = Trainer::Due;
        }
        Err(Killed)
    }

    fn compare(&mut self) -> Result<(), Killed> {
        let file = |ordinal| Some((ordinal, found(self.file(ordinal)?.content)));
        let files: BTreeMap<u64, Found> = self.held.state().fresh().filter_map(|it| file(it.ordinal)).collect();
        self.pursue(&Seen::Files(&files))
    }

    /// The trainer reads what it is fed.
    fn train(&mut self) {
        let feed = self.held.arrived.feed(|_| false);
        let reads = (0..feed.shards).filter(|at| !feed.holes.contains(at) && !self.held.judged.contains(at));
        reads.collect::<Vec<_>>().into_iter().for_each(|ordinal| self.read(ordinal));
    }

    fn turn(&mut self) {
        self.did.clear();
        self.is_more = false;
        let trains = self.held.trainer != Trainer::Absent;
        if self.pursue(&Seen::Turn(Asked::Nothing)).is_err() {
            return;
        }
        for (name, file) in self.files.iter().filter(|(_, file)| file.is_complete) {
            let Some(latest) = self.held.arrived.latest_of(name) else { panic!("{name} is lost") };
            let is_unseen = self.has_trouble && self.held.arrived.is_gone(latest.ordinal);
            // It may have changed since, or be a trainer's to read.
            if latest.found.bytes == file.content && !file.breaks && !trains && !is_unseen {
                let failure = self.held.failed.get(&latest.ordinal);
                let rests = failure.is_some_and(|it| self.clock - it.when < POLL);
                assert!(rests || self.held.judged.contains(&latest.ordinal), "{name} starves");
            }
        }
        let names: Vec<&str> = self.held.inputs.shards.values().map(|shard| &*shard.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "one version of a shard: {names:?}");
    }

    /// Nothing happens any more, and nothing is broken: what is shown is what lies there.
    fn settles(&mut self) {
        self.files.values_mut().for_each(|file| (file.is_complete, file.breaks) = (true, false));
        (self.has_trouble, self.dies, self.restless) = (false, false, BTreeSet::new());
        self.wanted = Desired { benchmarks: vec![benchmark("p", 0.7)], ..Desired::default() };
        self.wanted.splits.insert("s0".into(), "drop-over-radius".parse().unwrap());
        self.standing = Standing { can_follow: true, has_ended: true, ..Standing::default() };
        self.clock += POLL;
        for _ in 0..20 {
            self.turn();
        }
        let quiet = [Action::Look, Action::Share(vec![]), Action::Check, Action::ReadInputs];
        let wait =
            [Action::Compare, Action::Decide, Action::TakeEffect, Action::Rest, Action::Wait(Duration::from_secs(3))];
        assert_eq!(self.did, [&quiet[..], &wait[..]].concat(), "an idle world waits");
        let shown: BTreeMap<&str, u64> = (self.held.inputs.shards.iter())
            .map(|(&at, shard)| (&*shard.name, self.held.arrived.all()[at as usize].found.bytes))
            .collect();
        for (name, file) in &self.files {
            assert_eq!(shown.get(name.as_str()), Some(&file.content), "{name}");
        }
        let withdraws = self.held.manner.withdraws_missing;
        assert!(!withdraws || shown.keys().all(|&name| self.files.contains_key(name)), "{shown:?}");
        assert!(changes(&self.held.inputs, &self.wanted).is_empty());
    }
}

impl Executor for World {
    type Error = Killed;

    fn state(&self) -> State<'_> {
        self.held.state()
    }

    fn pursue(&mut self, seen: &Seen<'_>) -> Result<(), Killed> {
        let actions = plan(seen, &self.state());
        assert_eq!(actions, plan(seen, &self.state()), "equal worlds give equal plans");
        if let Seen::Sources(_, now) = seen {
            let meets = |actions: &[Action]| -> Vec<bool> {
                let kinds = actions.iter().filter(|it| !matches!(it, Action::Note(_)));
                kinds.map(|it| matches!(it, Action::Share(_))).collect()
            };
            let elsewhere = plan(&Seen::Sources(None, *now), &self.state());
            assert_eq!(meets(&actions), meets(&elsewhere), "all come to the same meetings");
        }
        actions.into_iter().try_for_each(|action| self.carry_out(action))
    }

    fn carry_out(&mut self, action: Action) -> Result<(), Killed> {
        self.did.push(action.clone());
        match action {
            Action::Look => {
                let mut look = Look::default();
                for (name, file) in &self.files {
                    look.shards.push((name.clone(), found(file.content)));
                    look.complete.extend(file.is_complete.then(|| name.clone()));
                }
                look.troubles.extend(self.has_trouble.then(|| "trouble".to_owned()));
                self.pursue(&Seen::Sources(Some(&look), self.clock))
            }
            Action::Note(events) => {
                for event in events {
                    match &event {
                        Event::Arrived(it) => {
                            let known = self.held.arrived.latest_of(&it.name);
                            let is_new =
                                |known: &Arrival| known.found != it.found || self.held.arrived.is_torn(known.ordinal);
                            assert!(known.is_none_or(is_new), "{it:?} is taken in twice");
                            assert_eq!(it.ordinal, self.held.arrived.all().len() as u64);
                        }
                        Event::Torn(_) => self.torn += 1,
                        Event::Gone(at) => assert!(!self.held.arrived.is_gone(*at)),
                        Event::Back(at) => assert!(self.held.arrived.is_gone(*at)),
                    }
                    self.held.arrived.take(event);
                }
                Ok(())
            }
            Action::Hear | Action::Compare => self.compare(),
            Action::Share(wanted) => {
                assert!(wanted.windows(2).all(|pair| pair[0] < pair[1]), "{wanted:?}");
                self.pursue(&Seen::Orders(&wanted))
            }
            Action::Judge(wanted) => {
                for ordinal in wanted {
                    let failure = self.held.failed.get(&ordinal);
                    assert!(failure.is_none_or(|it| self.clock - it.when >= POLL), "{ordinal} does not rest");
                    self.read(ordinal);
                }
                self.survive()?;
                self.compare()
            }
            Action::Check => self.pursue(&Seen::Read(Asked::Nothing)),
            Action::ReadInputs => {
                self.desired = self.wanted.clone();
                let named = self.named.clone();
                self.pursue(&Seen::Benchmarks(&named))
            }
            Action::Embed(named) => {
                assert_ne!(named, self.held.embedded, "embedded twice");
                self.held.embedded = named;
                Ok(())
            }
            Action::Decide => {
                let (gone, new) = self.state().moves();
                let input = |at: u64| (at, shard(&self.held.arrived.all()[at as usize].name));
                let new: BTreeMap<u64, ShardInput> = new.into_iter().map(input).collect();
                let desired = self.desired.clone();
                self.pursue(&Seen::Inputs(&desired, &gone, &new))
            }
            Action::Apply(attempt) => {
                let tried: Vec<Change> = attempt.tried().iter().map(|step| step.change.clone()).collect();
                for change in &tried {
                    match change {
                        Change::Arrive(at, _) => {
                            assert!(self.held.judged.contains(at) && !self.held.inputs.shards.contains_key(at));
                            // Of a file that cannot be seen nobody knows.
                            let taken_in = self.held.arrived.all()[*at as usize].found.bytes;
                            let is_whole = self.read.get(at) == Some(&taken_in);
                            assert!(is_whole || self.file(*at).is_none(), "{at} changed while it was read");
                        }
                        Change::Withdraw(at) => assert!(self.held.inputs.shards.contains_key(at)),
                        _ => {}
                    }
                }
                let refusal = match self.held.inputs.after(&tried) {
                    Err(error) => Refusal::Change(error.to_string()),
                    Ok(_) if attempt.tried().iter().filter(|step| step.can_wait).count() > self.room => Refusal::Budget,
                    Ok(next) => {
                        self.held.inputs = next;
                        self.epochs += 1;
                        return self.pursue(&Seen::Applied(&attempt));
                    }
                };
                self.refused[usize::from(refusal == Refusal::Budget)] += 1;
                assert!(!plan(&Seen::Refused(&attempt, &refusal), &self.state()).is_empty(), "{refusal:?}");
                self.pursue(&Seen::Refused(&attempt, &refusal))
            }
            Action::TakeEffect => {
                self.held.is_in_force = true;
                Ok(())
            }
            Action::Again => {
                self.is_more = true;
                Ok(())
            }
            Action::Train if self.held.is_in_force => {
                let standing = Standing {
                    has_ended: self.standing.has_ended && self.held.trainer == Trainer::Runs,
                    ..self.standing
                };
                self.pursue(&Seen::Trainer(&[standing]))
            }
            Action::StopTrainer { for_good } => {
                self.held.trainer = if for_good { Trainer::Absent } else { Trainer::Due };
                self.compare()
            }
            Action::StartTrainer | Action::FeedTrainer => {
                self.held.trainer = Trainer::Runs;
                self.train();
                self.survive()
            }
            Action::Rest => self.pursue(&Seen::Rest { is_more: self.is_more, trains: false }),
            Action::Train | Action::Linger | Action::KeepOld(_) | Action::Wait(_) | Action::End => Ok(()),
        }
    }
}

#[test]
fn over_random_worlds_nothing_is_lost_done_twice_or_starved() {
    let (mut epochs, mut refused, mut torn, mut killed) = (0, [0; 2], 0, 0);
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let mut world = World::new(&mut dice);
        for _ in 0..30 {
            for _ in 0..dice.below(4) {
                world.happen(&mut dice);
            }
            world.turn();
        }
        world.settles();
        epochs += world.epochs;
        (0..2).for_each(|at| refused[at] += world.refused[at]);
        torn += world.torn;
        killed += world.killed;
    }
    eprintln!("{epochs} epochs, {refused:?} refused, {torn} torn, {killed} killed");
    let is_wild = epochs > 3000 && refused.iter().all(|&count| count > 100) && torn > 20 && killed > 200;
    assert!(is_wild, "the worlds are too calm");
}
