//! A watch ends where a batch run over the same shards and inputs does: the same ledger, the same items, to the bit. Whatever
//! came in which order, and however often the watch was killed.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::processes::{Group, signal, until};
use common::{World, cluster, items_text, ledger_text, run, stderr, words};
use serde_json::Value;
use trommel_columnar::embeddings::EmbeddingSet;
use trommel_columnar::parquet::{Column, ColumnType, TableReader};
use trommel_ledger::read::{Ledger, LedgerRow};
use trommel_shard::plan::Plan;

/// A folder in which shards arrive, and the watch's.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self) -> PathBuf {
        self.path("run")
    }

    /// Puts a shard of the shared world there, whole.
    fn put(&self, name: &str, from: &str) {
        fs::copy(World::shared().path(&format!("data/shards/{from}.tar")), self.path("in").join(name)).unwrap();
    }

    fn args(&self, judging: &[String], more: &[&str]) -> Vec<String> {
        let (from, to) = (self.path("in").display().to_string(), self.run().display().to_string());
        let mut args: Vec<String> = ["watch", &from, "--run", &to, "--settle", "0s"].map(String::from).to_vec();
        args.extend(judging.iter().cloned());
        args.extend(more.iter().map(|word| (*word).to_owned()));
        args
    }

    /// The same, of a watch to which shards and inputs are whole when they have not changed for so long.
    fn slow_args(&self, settle: &str, judging: &[String], more: &[&str]) -> Vec<String> {
        let mut args = self.args(judging, more);
        *args.iter_mut().find(|word| *word == "0s").unwrap() = settle.into();
        args
    }

    /// One turn; gives the report.
    fn once(&self, judging: &[String], more: &[&str]) -> Value {
        let args = self.args(judging, &[&["--once", "--json"], more].concat());
        serde_json::from_slice(&run(0, &words(&args)).stdout).unwrap()
    }

    fn current(&self) -> PathBuf {
        fs::canonicalize(self.run().join("current")).unwrap()
    }

    fn changes(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.run().join("changes.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A split is what a batch run over its plan makes.
    fn equals_batch(&self, split: &str, judging: &[String]) {
        let published = self.current().join(split);
        let ledger = Ledger::open(&published).unwrap();
        ledger.verify().unwrap();
        let plan: Plan = ledger.plan().unwrap();
        let batch = tempfile::tempdir().unwrap();
        let mut args = vec!["prune".to_owned()];
        args.extend(plan.shards.iter().map(|shard| shard.url.clone()));
        // Shards that are no tars are lost there as here.
        args.extend(["--run".into(), batch.path().display().to_string(), "--max-rejects".into(), "100".into()]);
        args.extend(judging.iter().cloned());
        run(0, &words(&args));
        same_lines(&ledger_text(&published), &ledger_text(batch.path()), split);
        same_lines(&items_text(&published), &items_text(batch.path()), split);
        let there = Ledger::open(batch.path()).unwrap();
        assert_eq!(ledger.counts(), there.counts(), "{split}");
        assert_eq!(ledger.config()["decisions"], there.config()["decisions"], "{split}");
    }
}

/// Kept or dropped, by shard and index, each with its key.
type Sides = BTreeMap<(String, u32), (String, String)>;

fn sides(split: &Path) -> Sides {
    let rows = Ledger::open(split).unwrap();
    let side = |row: LedgerRow| {
        let (info, status) = (row.fate.info, row.fate.status.as_str().to_owned());
        ((row.shard, info.id.index), (status, info.key.to_string()))
    };
    rows.rows().unwrap().map(|row| side(row.unwrap())).filter(|(_, (status, _))| status != "rejected").collect()
}

/// The newest epoch's `changes.parquet` names the samples that its ledger decides otherwise than `before`. How often it says why.
fn told_changes(scene: &Scene, before: &Sides) -> BTreeMap<String, usize> {
    let (path, now) = (scene.current().join("changes.parquet"), scene.current().join("main"));
    let texts = ["shard", "key", "split", "now", "why", "benchmark"].map(|name| (name, ColumnType::Text));
    let columns =
        [&texts[..], &[("index", ColumnType::U32), ("point", ColumnType::U32), ("similarity", ColumnType::F64)]];
    let ledger = Ledger::open(&now).unwrap();
    let (mut found, mut whys) = (BTreeSet::new(), BTreeMap::new());
    for group in TableReader::open(&path, Box::new(fs::File::open(&path).unwrap()), &columns.concat()).unwrap() {
        let Ok([texts @ .., Column::U32(index), Column::U32(point), Column::F64(similarity)]) = group.as_deref() else {
            panic!("other columns")
        };
        for row in 0..index.len() {
            let text = |at: usize| match &texts[at] {
                Column::Text(texts) => texts[row].clone(),
                _ => panic!("a text is due"),
            };
            let [shard, key, split, side, why] = [0, 1, 2, 3, 4].map(|at| text(at).unwrap());
            let index = index[row].unwrap();
            let evidence = text(5).zip(point[row]).zip(similarity[row]);
            assert_eq!((evidence.is_some(), split.as_str()), (why == "hit" || why == "no_longer_hit", "main"), "{why}");
            if let Some(((benchmark, point), similarity)) = evidence {
                let points =
                    EmbeddingSet::open(Path::new(&World::shared().path(&format!("radii/{benchmark}")))).unwrap();
                let (ordinal, _) = ledger.shards().iter().find(|(_, (_, line))| line.name == shard).unwrap();
                let vectors = ledger.embeddings(*ordinal).unwrap();
                let sample = &vectors.iter().find(|row| row.index == index).unwrap().vector;
                let pairs = sample.iter().zip(points.vector(point as usize));
                assert_eq!(similarity, pairs.map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>(), "{shard}/{key}");
            }
            assert!(found.insert(((shard, index), (side, key))), "a sample is named twice");
            *whys.entry(why).or_insert(0) += 1;
        }
    }
    let turned = |(place, (side, _)): &(&(String, u32), &(String, String))| {
        before.get(*place).is_some_and(|(before, _)| before != side)
    };
    let due: BTreeSet<_> =
        sides(&now).iter().filter(turned).map(|(place, side)| (place.clone(), side.clone())).collect();
    assert_eq!(found, due);
    whys
}

/// Compares texts of many lines, of which a failed comparison of the whole would show all.
fn same_lines(left: &str, right: &str, what: &str) {
    for (number, (left, right)) in left.lines().zip(right.lines()).enumerate() {
        assert_eq!(left, right, "{what}: line {number}");
    }
    assert_eq!(left.lines().count(), right.lines().count(), "{what}");
}

/// The world's flags with another rule or radii folder.
fn judging(folders: &[(&str, &str)], rule: &str) -> Vec<String> {
    let world = World::shared();
    let mut args = Vec::new();
    for (name, folder) in folders {
        args.extend(["--benchmark".into(), format!("{name}={}", world.path(&format!("{folder}/{name}")))]);
    }
    args.extend(["--rule", rule, "--embedder", common::MODEL, "--random-init", "1"].map(String::from));
    args
}

const BOTH: [(&str, &str); 2] = [("photo", "radii"), ("sketch", "radii")];

/// No rule that draws is a watch's.
#[test]
fn a_seed_that_draws_nothing_is_said() {
    let scene = Scene::new();
    scene.put("00000.tar", "00000");
    let report = scene.once(&World::shared().judging(), &["--seed", "3"]);
    assert_eq!(report["notices"]["seed_not_read"]["count"], 1, "{report}");
}

#[test]
fn what_comes_bit_by_bit_is_what_a_batch_run_makes() {
    let (scene, judging) = (Scene::new(), World::shared().judging());
    scene.put("00003.tar", "00003");
    assert_eq!(scene.once(&judging, &[])["epoch"], 1);
    scene.put("00001.tar", "00001");
    scene.put("00000.tar", "00000");
    scene.once(&judging, &[]);
    // Nothing new is no epoch.
    assert_eq!(scene.once(&judging, &[])["epoch"], 2);
    scene.put("00005.tar", "00005");
    let report = scene.once(&judging, &[]);
    assert_eq!((report["epoch"].as_u64(), report["shards"].as_u64()), (Some(3), Some(4)));
    scene.equals_batch("main", &judging);
    let arrived: Vec<Value> = scene.changes().iter().map(|line| line["arrived"].clone()).collect();
    assert_eq!(arrived[0], serde_json::json!(["00003.tar"]));
    assert_eq!(arrived[1], serde_json::json!(["00000.tar", "00001.tar"]));
    // Two epochs stay, and nothing else is left behind.
    let names: Vec<_> = fs::read_dir(scene.run()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let epochs = names.iter().filter(|name| name.to_string_lossy().starts_with("epoch.")).count();
    assert_eq!(epochs, 2, "{names:?}");
    // The folder of an epoch that is no longer kept becomes the next one's, by another start as well.
    let parts = |epoch: PathBuf| fs::metadata(epoch.join("main/ledger")).unwrap().ino();
    let retired = parts(scene.run().join("retired"));
    scene.put("00004.tar", "00004");
    assert_eq!(scene.once(&judging, &[])["epoch"], 4);
    assert_eq!(parts(scene.current()), retired);
    scene.equals_batch("main", &judging);
    // Parts that did not change are the same files, but for the first: what all points saw is told there.
    let files = |epoch: PathBuf| -> BTreeMap<_, u64> {
        let entries = fs::read_dir(epoch.join("main/ledger")).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name(), entry.metadata().unwrap().ino())).collect()
    };
    let (before, now) = (files(scene.run().join("epoch.3")), files(scene.current()));
    assert_eq!((before.len(), now.len()), (4, 5));
    assert!(before.iter().all(|(name, ino)| now[name] == *ino || name == "0.0.parquet"), "{before:?} {now:?}");
    // As many epochs stay as are asked for.
    for (keep, shard, due) in [("3", "00002", &["epoch.3", "epoch.4", "epoch.5"][..]), ("1", "00000", &["epoch.6"][..])]
    {
        scene.put(&format!("{shard}-{keep}.tar"), shard);
        scene.once(&judging, &["--keep-epochs", keep]);
        let entries = fs::read_dir(scene.run()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let kept: BTreeSet<String> = entries.filter(|name| name.starts_with("epoch.")).collect();
        assert_eq!(kept, due.iter().map(|name| (*name).to_owned()).collect());
    }
}

#[test]
fn changed_inputs_end_as_a_batch_run_with_them() {
    let scene = Scene::new();
    for shard in ["00000", "00001", "00002"] {
        scene.put(&format!("{shard}.tar"), shard);
    }
    let list = scene.path("takedown.txt");
    // Each with why samples change sides.
    let ways = [
        (judging(&BOTH, "drop-over-radius"), None),
        (judging(&BOTH[..1], "drop-over-radius"), Some("no_longer_hit")), // a benchmark goes
        (judging(&BOTH[..1], "drop-above:0.97"), Some("hit")),            // another rule
        (judging(&BOTH[..1], "drop-from:0.9"), Some("hit")),              // a threshold falls
        (judging(&BOTH[..1], "drop-below:0.9"), Some("rule")),            // a rule of another kind
        (judging(&BOTH, "drop-over-radius@sketch"), Some("rule")),
    ];
    let mut before = Sides::new();
    for (judging, why) in &ways {
        let report = scene.once(judging, &[]);
        let told = told_changes(&scene, &before);
        assert_eq!(told.keys().map(String::as_str).collect::<Vec<_>>(), why.as_slice(), "{judging:?}");
        before = sides(&scene.current().join("main"));
        assert_eq!(report["judged_now"], if report["epoch"] == 1 { 144 } else { 0 }, "nothing is read twice");
        scene.equals_batch("main", judging);
    }
    // A takedown drops what a batch run keeps, and nothing else; lifted, all is as before.
    let all_sides = before;
    let (last, _) = ways.last().unwrap();
    let before = ledger_text(&scene.current().join("main"));
    let rows = Ledger::open(&scene.current().join("main")).unwrap();
    let kept = rows
        .rows()
        .unwrap()
        .map(Result::unwrap)
        .find(|row| row.fate.status.as_str() == "kept" && row.fate.reason.is_none())
        .unwrap();
    fs::write(&list, format!("{}/{}\nno such key\n", kept.shard, kept.fate.info.key)).unwrap();
    let taken = scene.once(last, &["--takedown", &list.display().to_string()]);
    assert_eq!(told_changes(&scene, &all_sides), BTreeMap::from([("taken_down".to_owned(), 1)]));
    let taken_sides = sides(&scene.current().join("main"));
    let now = ledger_text(&scene.current().join("main"));
    let differ: Vec<_> = before.lines().zip(now.lines()).filter(|(a, b)| a != b).collect();
    assert_eq!(differ.len(), 1);
    let marked = r#"reason: Some(Reason { code: "taken_down", detail: "" })"#;
    let due = differ[0].0.replace("status: Kept", "status: Dropped").replace("reason: None", marked);
    assert_eq!(due, differ[0].1);
    // Whoever asks hears of the list.
    let name = format!("{}/{}", kept.shard, kept.fate.info.key);
    let told = run(0, &["why", &scene.current().join("main").display().to_string(), &name]).stdout;
    let told = String::from_utf8(told).unwrap();
    assert!(
        told.contains("dropped: it is on a takedown list") && !told.contains("over the radius of test points of"),
        "{told}"
    );
    // No selection brings it back.
    let (epoch, all) = (scene.current().join("main").display().to_string(), scene.path("all.txt"));
    let into = all.display().to_string();
    run(0, &["select", &epoch, "--rule", "not far:0", "-o", &into]);
    let listed = fs::read_to_string(&all).unwrap();
    assert!(listed.lines().count() > 100 && !listed.lines().any(|line| line == name), "{name}");
    let line = scene.changes().pop().unwrap();
    assert_eq!((&line["changed_sides"]["main"], &line["epoch"]), (&1.into(), &taken["epoch"]));
    let unnamed = |report: &serde_json::Value| {
        let notice = &report["notices"]["takedowns_without_sample"];
        (notice["count"].as_u64(), notice["first"].as_str().map(str::to_owned))
    };
    assert_eq!(unnamed(&taken), (Some(1), Some("no such key".into())));
    // The same as JSON changes nothing, and a start that finds all as it was says the same.
    let json = serde_json::json!([format!("{}/{}", kept.shard, kept.fate.info.key), "no such key"]);
    fs::write(&list, json.to_string()).unwrap();
    let again = scene.once(last, &["--takedown", &list.display().to_string()]);
    assert_eq!((unnamed(&again), &again["epoch"]), (unnamed(&taken), &taken["epoch"]));
    assert_eq!(now, ledger_text(&scene.current().join("main")));
    fs::write(&list, serde_json::json!({ "keys": json }).to_string()).unwrap();
    let out = run(2, &words(&scene.args(last, &["--takedown", &list.display().to_string()])));
    assert!(stderr(&out).contains("no JSON list of keys"), "{}", stderr(&out));
    scene.once(last, &[]);
    assert_eq!(before, ledger_text(&scene.current().join("main")));
    assert_eq!(told_changes(&scene, &taken_sides), BTreeMap::from([("restored".to_owned(), 1)]));
}

/// Two processes, then three, then one, each killed in the middle or left to end: the same ledger.
#[test]
fn several_processes_keep_one_state() {
    let (scene, first) = (Scene::new(), World::shared().judging());
    let launched = |processes: &str, judging: &[String], more: &[&str]| {
        let flags = ["launch", "--local", processes, "--silence", "120", "--"].map(String::from);
        [&flags[..], &scene.args(judging, more)].concat()
    };
    for shard in ["00000", "00001", "00002"] {
        scene.put(&format!("{shard}.tar"), shard);
    }
    run(0, &words(&launched("2", &first, &["--once"])));
    assert_eq!(shown(&scene.run()), 3);
    scene.equals_batch("main", &first);
    scene.put("00003.tar", "00003");
    scene.put("a.tar", "00004");
    let second = judging(&BOTH, "drop-from:0.95");
    let list = scene.path("takedown.txt").display().to_string();
    fs::write(&list, "no such key\n").unwrap();
    run(0, &words(&launched("3", &second, &["--once", "--takedown", &list])));
    assert_eq!(shown(&scene.run()), 5);
    scene.equals_batch("main", &second);
    // One of two is killed while it waits or works: the other says so and ends, and the state is whole.
    let mut watch = Group::start(&launched("2", &second, &["--poll", "200ms"]));
    scene.put("00005.tar", "00005");
    assert!(until(60, || shown(&scene.run()) == 6), "{}", watch.said());
    let members = watch.wait_for_members(2, 60);
    scene.put("a.tar", "00000"); // replaced
    assert!(signal(members[&1], libc::SIGKILL));
    cluster::says(&watch.ends_with(3, 60), &["process 1"], 6);
    scene.once(&second, &[]);
    assert_eq!(shown(&scene.run()), 6);
    scene.equals_batch("main", &second);
    // A signal to the launcher ends both in order.
    let epochs = scene.changes().len();
    let mut watch = Group::start(&launched("2", &first, &["--poll", "200ms"]));
    assert!(until(60, || scene.changes().len() > epochs), "{}", watch.said());
    assert!(signal(watch.pid(), libc::SIGTERM));
    watch.ends_with(0, 60);
    scene.equals_batch("main", &first);
}

/// A trainer that is fed while shards come one by one, stopped and killed between, does the steps of one that found all of them there; and what
/// it was trained on and should not have been is told.
#[test]
fn a_live_trainer_is_fed_and_what_it_should_not_have_seen_is_told() {
    let first = World::shared().judging();
    let options = World::shared().path("train.toml");
    let recipe = "model = \"trommel-tiny-32\"\nbatch = 8\nsteps = 500\nprecision = \"f32\"\nlr = 1e-3\nwarmup = 4\n";
    fs::write(&options, format!("{recipe}lanes = 2\nwindow = 16\nsave_every = \"2\"\n")).unwrap();
    let names = ["00000", "00001", "00002", "00003"];
    let (whole, pieces) = (Scene::new(), Scene::new());
    for name in names {
        whole.put(&format!("{name}.tar"), name);
    }
    let train = ["--train", options.as_str()];
    let report = whole.once(&first, &train);
    let expected = common::losses(&whole.run().join("train"));
    assert!(expected.len() >= 5, "{report}");
    assert_eq!(report["training"]["steps"], expected.len());
    whole.equals_batch("main", &first);

    pieces.put("00000.tar", "00000");
    pieces.once(&first, &train);
    pieces.put("00001.tar", "00001");
    let mut watch = Group::start(&pieces.args(&first, &[&train[..], &["--poll", "100ms"]].concat()));
    let logs = pieces.run().join("train");
    assert!(until(60, || common::losses(&logs).len() > 2 || watch.status().is_some()), "{}", watch.said());
    pieces.put("00002.tar", "00002");
    assert!(until(60, || shown(&pieces.run()) == 3 || watch.status().is_some()), "{}", watch.said());
    assert!(watch.status().is_none(), "{}", watch.said());
    watch.kill_all();
    pieces.put("00003.tar", "00003");
    pieces.once(&first, &train);
    assert_eq!(common::losses(&logs), expected);
    pieces.equals_batch("main", &first);

    // A rule that drops more: some of what is dropped now has been trained on.
    let told = |judging: &[String]| {
        pieces.once(judging, &train);
        let last = pieces.changes().pop().unwrap();
        (last["changed_sides"]["main"].as_u64(), last["trained_and_dropped"].as_u64())
    };
    let (changed, trained) = told(&judging(&BOTH, "drop-from:0.5"));
    assert!(changed.unwrap() > 0 && trained.unwrap() > 0 && trained <= changed, "{changed:?} {trained:?}");
    // The trainer stands inside a shard that is replaced.
    pieces.put("00003.tar", "00004");
    pieces.once(&first, &train);
    pieces.equals_batch("main", &first);
}

/// Two processes train one model on what comes: the steps of a run that found all shards there, to the bit; as many and, but for the order of
/// sums, the same as those of one process. One is killed; a shard that is replaced starts the trainer anew in both.
#[test]
fn a_live_trainer_of_two_processes_takes_the_same_steps() {
    let judging = World::shared().judging();
    let options = World::shared().path("train-of-two.toml");
    let recipe = "model = \"trommel-tiny-32\"\nbatch = 8\nsteps = 500\nprecision = \"f32\"\nlr = 1e-4\nwarmup = 4\n";
    fs::write(&options, format!("{recipe}lanes = 2\nwindow = 16\nsave_every = \"2\"\n")).unwrap();
    let train = ["--train", options.as_str()];
    let two = |scene: &Scene, more: &[&str]| {
        cluster::local(2, &["--silence", "120"], &scene.args(&judging, &[&train[..], more].concat()))
    };
    let [one, whole, pieces] = [(); 3].map(|()| Scene::new());
    for name in ["00000", "00001", "00002", "00003"] {
        one.put(&format!("{name}.tar"), name);
        whole.put(&format!("{name}.tar"), name);
    }
    one.once(&judging, &train);
    run(0, &words(&two(&whole, &["--once"])));
    whole.equals_batch("main", &judging);
    let [of_one, of_two] = [&one, &whole].map(|scene| common::logged_losses(&scene.run().join("train")));
    assert!(of_one.len() >= 5, "{of_one:?}");
    assert_eq!(of_one.len(), of_two.len());
    for ((step, a), (_, b)) in of_one.iter().zip(&of_two) {
        assert!((a - b).abs() < 1e-4, "step {step}: {a} {b}");
    }

    pieces.put("00000.tar", "00000");
    run(0, &words(&two(&pieces, &["--once"])));
    pieces.put("00001.tar", "00001");
    let mut watch = Group::start(&two(&pieces, &["--poll", "100ms"]));
    let logs = pieces.run().join("train");
    assert!(until(90, || common::losses(&logs).len() > 2 || watch.status().is_some()), "{}", watch.said());
    pieces.put("00002.tar", "00002");
    assert!(until(90, || shown(&pieces.run()) == 3 || watch.status().is_some()), "{}", watch.said());
    let members = watch.wait_for_members(2, 60);
    assert!(signal(members[&1], libc::SIGKILL));
    cluster::says(&watch.ends_with(3, 60), &["process 1"], 6);
    pieces.put("00003.tar", "00003");
    run(0, &words(&two(&pieces, &["--once"])));
    assert_eq!(common::losses(&logs), common::losses(&whole.run().join("train")));
    pieces.equals_batch("main", &judging);

    let mut watch = Group::start(&two(&pieces, &["--poll", "100ms"]));
    let starts = |said: &str| said.matches("continuing at step").count();
    assert!(until(90, || starts(&watch.said()) == 2 || watch.status().is_some()), "{}", watch.said());
    pieces.put("00003.tar", "00004");
    assert!(until(90, || starts(&watch.said()) == 4 || watch.status().is_some()), "{}", watch.said());
    let steps = common::losses(&logs).len();
    pieces.put("a.tar", "00005");
    // The shard in the place of another one may be shown behind the one that came later.
    let replaces = || {
        let changes = fs::read_to_string(pieces.run().join("changes.jsonl"));
        changes.is_ok_and(|changes| changes.contains("\"replaced\":[\"00003.tar\"]"))
    };
    let trains = || common::losses(&logs).len() > steps && shown(&pieces.run()) == 5 && replaces();
    assert!(until(90, || trains() || watch.status().is_some()), "{}", watch.said());
    assert!(signal(watch.pid(), libc::SIGTERM), "{}", watch.said());
    let said = watch.ends_with(0, 60);
    cluster::no_panic(&said);
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    pieces.equals_batch("main", &judging);
}

#[test]
fn several_splits_stand_side_by_side() {
    let (scene, flags) = (Scene::new(), judging(&BOTH, "drop-over-radius"));
    scene.put("00000.tar", "00000");
    scene.put("00001.tar", "00001");
    let at = flags.iter().position(|word| word == "--rule").unwrap();
    let mut splits = flags.clone();
    splits.splice(at..at + 2, ["--split", "near=drop-over-radius", "--split", "far=drop-below:0.9"].map(String::from));
    // A trainer is fed with one of them, by name.
    let options = scene.path("train.toml").display().to_string();
    let recipe = "model = \"trommel-tiny-32\"\nbatch = 8\nsteps = 500\nprecision = \"f32\"\nlr = 1e-3\nwarmup = 4\n";
    fs::write(&options, format!("{recipe}lanes = 2\nwindow = 16\n")).unwrap();
    for (more, why) in [(&[][..], "--train-split is missing"), (&["--train-split", "main"], "no split of that name")] {
        let args = scene.args(&splits, &[&["--once", "--train", &options], more].concat());
        assert!(stderr(&run(2, &words(&args))).contains(why), "{more:?}");
    }
    scene.once(&splits, &["--train", &options, "--train-split", "near"]);
    scene.equals_batch("near", &flags);
    scene.equals_batch("far", &judging(&BOTH, "drop-below:0.9"));
    let alone = Scene::new();
    alone.put("00000.tar", "00000");
    alone.put("00001.tar", "00001");
    alone.once(&flags, &["--train", &options]);
    let losses = |scene: &Scene| common::losses(&scene.run().join("train"));
    assert!(losses(&alone).len() > 2 && losses(&alone) == losses(&scene));
}

/// Training on a split is training on what a batch run with the same inputs keeps; and it goes on with these decisions.
#[test]
fn a_trainer_sees_the_newest_epoch_and_keeps_it() {
    const STEPS: &str = "16";
    let (scene, judging) = (Scene::new(), World::shared().judging());
    scene.put("00000.tar", "00000");
    scene.put("00001.tar", "00001");
    scene.once(&judging, &[]);
    let path = |name: &str| scene.path(name).display().to_string();
    let train = |into: &str, from: &[&str]| {
        let mut args: Vec<String> = ["train", "--run", into, "--steps", STEPS].map(String::from).to_vec();
        args.extend(from.iter().map(|word| (*word).to_owned()));
        let recipe = ["--model", common::MODEL, "--batch", "16", "--precision", "f32", "--save-every", "2"];
        args.extend(recipe.map(String::from));
        run(0, &words(&args));
        common::losses(Path::new(into))
    };
    let (current, shards) = (path("run/current/main"), path("in/{00000..00001}.tar"));
    let (ours, theirs) = (path("ours"), path("theirs"));
    let mut from = vec![shards.as_str()];
    from.extend(judging.iter().map(String::as_str));
    let expected = train(&theirs, &from);
    assert_eq!(expected.len().to_string(), STEPS);
    assert_eq!(train(&ours, &["--decisions", &current]), expected);
    // The watch goes on, the interrupted trainer with what it took over.
    let other = path("other");
    let mut interrupted: Vec<String> = ["train", "--run", &other, "--steps", STEPS].map(String::from).to_vec();
    interrupted.extend(["--decisions", &current].map(String::from));
    interrupted.extend(
        ["--model", common::MODEL, "--batch", "16", "--precision", "f32", "--save-every", "2"].map(String::from),
    );
    let mut trainer = Group::start(&interrupted);
    let logs = Path::new(&other).join("logs");
    let done = || if logs.exists() { common::losses(Path::new(&other)).len() } else { 0 };
    until(60, || done() > 0 || trainer.status().is_some());
    trainer.kill_all();
    assert!((1..expected.len()).contains(&done()), "killed at step {}:\n{}", done(), trainer.said());
    scene.put("00002.tar", "00002");
    scene.once(&judging, &[]);
    assert_eq!(train(&other, &["--decisions", &current]), expected);
    let newer = train(&path("newer"), &["--decisions", &current]);
    assert_ne!(newer, expected);
    // As where a kill came before all was taken over, and the watch moved on.
    for file in fs::read_dir(Path::new(&other).join("manifest")).unwrap().map(|file| file.unwrap().path()) {
        let lines = fs::read_to_string(&file).unwrap();
        fs::write(&file, lines.split_inclusive('\n').take(1).collect::<String>()).unwrap();
    }
    fs::remove_dir_all(Path::new(&other).join("checkpoints")).unwrap();
    let ledger = Ledger::open(&scene.current().join("main")).unwrap();
    let kept = ledger.rows().unwrap().map(Result::unwrap).filter(|row| row.fate.status.as_str() == "kept");
    let names: Vec<String> = kept.map(|row| format!("{}/{}\n", row.shard, row.fate.info.key)).collect();
    fs::write(scene.path("takedown.txt"), names.concat()).unwrap();
    scene.once(&judging, &["--takedown", &path("takedown.txt")]);
    let said = stderr(&run(2, &words(&interrupted)));
    assert!(said.contains("a part of other decisions") && said.contains("a new --run takes these over"), "{said}");
}

#[test]
fn a_shard_that_changes_or_goes_is_noticed() {
    let (scene, judging) = (Scene::new(), World::shared().judging());
    scene.put("a.tar", "00000");
    scene.put("b.tar", "00001");
    scene.once(&judging, &[]);
    scene.put("a.tar", "00004");
    scene.once(&judging, &[]);
    assert_eq!(scene.changes()[1]["replaced"], serde_json::json!(["a.tar"]));
    scene.equals_batch("main", &judging);
    fs::remove_file(scene.path("in/b.tar")).unwrap();
    assert_eq!(scene.once(&judging, &[])["shards"], 2, "what is known stays");
    assert_eq!(scene.once(&judging, &["--withdraw-missing"])["shards"], 1);
    scene.equals_batch("main", &judging);
    scene.put("b.tar", "00001");
    assert_eq!(scene.once(&judging, &["--withdraw-missing"])["shards"], 2);
    scene.equals_batch("main", &judging);
}

#[test]
fn what_is_not_complete_waits_and_what_is_malformed_is_rejected() {
    let (scene, judging) = (Scene::new(), World::shared().judging());
    scene.put("00000.tar", "00000");
    fs::write(scene.path("in/00001.tar"), b"this is no tar").unwrap();
    let slow = || -> Value {
        let args = scene.slow_args("1h", &judging, &["--once", "--json", "--max-rejects", "100"]);
        serde_json::from_slice(&run(0, &words(&args)).stdout).unwrap()
    };
    let waiting = |report: &Value, count: u64| {
        let noted = report["notices"]["shards_waiting"]["count"].as_u64();
        assert_eq!((report["waiting"].as_u64(), noted), (Some(count), Some(count)), "{report}");
    };
    let report = slow();
    assert_eq!(report["shards"], 0);
    waiting(&report, 2);
    fs::write(scene.path("in/00000_stats.json"), b"{}").unwrap();
    let report = slow();
    assert_eq!(report["shards"], 1);
    waiting(&report, 1);
    // The second shard is none: a turn that read nothing else and lost it has not done its work.
    let args = scene.args(&judging, &["--once", "--json"]);
    let report: Value = serde_json::from_slice(&run(4, &words(&args)).stdout).unwrap();
    assert_eq!((report["shards"].as_u64(), report["epoch"].as_u64()), (Some(2), Some(3)), "{report}");
    assert_eq!(report["notices"]["shard_not_a_tar"]["lost_samples"], 1, "{report}");
    assert!(report["waiting"] == 0 && report["notices"].get("shards_waiting").is_none(), "{report}");
    scene.equals_batch("main", &judging);
    // Statistics of the shard before say nothing of the one that is written over it.
    scene.put("00000.tar", "00002");
    let report = slow();
    assert_eq!(report["epoch"], 3);
    waiting(&report, 1);
    fs::write(scene.path("in/00000_stats.json"), b"{}").unwrap();
    assert_eq!(slow()["epoch"], 4);
    assert_eq!(scene.changes()[3]["replaced"], serde_json::json!(["00000.tar"]));
}

/// A watch that was killed when it had read a shard, and before it saw that this was still being written, does not show it later.
#[test]
fn what_was_read_half_written_is_not_shown_by_the_next_start() {
    let (scene, judging) = (Scene::new(), World::shared().judging());
    scene.put("a.tar", "00000");
    scene.once(&judging, &[]);
    let copied = std::process::Command::new("cp").arg("-a").args([scene.run(), scene.path("before")]).status();
    assert!(copied.unwrap().success());
    scene.put("a.tar", "00004");
    assert_eq!(scene.once(&judging, &[])["epoch"], 2);
    // All is as it was before that epoch, but that the shard was taken in and read.
    for name in ["pool", "arrivals.jsonl"] {
        let (old, new) = (scene.path("before").join(name), scene.run().join(name));
        if old.is_dir() { fs::remove_dir_all(&old) } else { fs::remove_file(&old) }.unwrap();
        fs::rename(new, old).unwrap();
    }
    fs::remove_dir_all(scene.run()).unwrap();
    fs::rename(scene.path("before"), scene.run()).unwrap();
    let shard = fs::read(World::shared().path("data/shards/00001.tar")).unwrap();
    fs::write(scene.path("in/a.tar"), &shard[..shard.len() / 2]).unwrap();
    let args = scene.slow_args("1h", &judging, &["--once", "--json"]);
    let report: Value = serde_json::from_slice(&run(0, &words(&args)).stdout).unwrap();
    assert_eq!((&report["epoch"], &report["shards"]), (&1.into(), &1.into()), "{report}");
    fs::write(scene.path("in/a.tar"), &shard).unwrap();
    assert_eq!(scene.once(&judging, &[])["epoch"], 2);
    assert_eq!(scene.changes()[1]["replaced"], serde_json::json!(["a.tar"]));
    scene.equals_batch("main", &judging);
}

/// `trommel launch` makes a single process of the run itself: what that follows is what stands behind `launch`, its file included. What the
/// command line says wins over the file, at the start and later.
#[test]
fn a_launched_watch_follows_its_own_words() {
    let (scene, flags) = (Scene::new(), World::shared().judging());
    scene.put("00000.tar", "00000");
    let file = scene.path("watch.toml");
    fs::write(&file, "rule = \"drop-above:1\"\npoll = \"100ms\"\n").unwrap();
    let watch = scene.args(&flags, &["--once", "--config", file.to_str().unwrap()]);
    for place in [vec!["--local", "1"], vec!["--processes", "1", "--process", "0", "--coordinator", "127.0.0.1:4000"]] {
        let launch: Vec<String> = [&["launch"], &place[..], &["--"]].concat().into_iter().map(String::from).collect();
        run(0, &words(&[&launch[..], &watch[..]].concat()));
        scene.equals_batch("main", &flags);
    }
    let at = flags.iter().position(|word| word == "--rule").unwrap();
    let without = [&flags[..at], &flags[at + 2..]].concat();
    run(0, &words(&scene.args(&without, &["--once", "--config", file.to_str().unwrap()])));
    scene.equals_batch("main", &judging(&BOTH, "drop-above:1"));
}

/// A folder that is not there, as a mount that is lost, is no folder without shards: whoever asks once hears of it by the status.
#[test]
fn what_cannot_be_seen_is_tried_again() {
    let (scene, judging) = (Scene::new(), World::shared().judging());
    scene.put("00000.tar", "00000");
    scene.once(&judging, &[]);
    fs::rename(scene.path("in"), scene.path("away")).unwrap();
    let args = scene.args(&judging, &["--once", "--json"]);
    let out = run(3, &words(&args));
    assert!(stderr(&out).lines().last().unwrap().contains("could not be seen"), "{}", stderr(&out));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((report["shards"].as_u64(), report["troubles"].as_array().unwrap().len()), (Some(1), 1));
    fs::rename(scene.path("away"), scene.path("in")).unwrap();
    scene.once(&judging, &[]);
}

/// A start that withdraws may be followed by one that does not.
#[test]
fn a_prefix_that_was_withdrawn_comes_back_when_it_is_asked_for_again() {
    let (scene, judging) = (Scene::new(), World::shared().judging());
    scene.put("a.tar", "00000");
    fs::create_dir(scene.path("more")).unwrap();
    fs::copy(World::shared().path("data/shards/00001.tar"), scene.path("more/b.tar")).unwrap();
    let more = scene.path("more").display().to_string();
    assert_eq!(scene.once(&judging, &[&more, "--withdraw-missing"])["shards"], 2);
    assert_eq!(scene.once(&judging, &["--withdraw-missing"])["shards"], 1);
    assert_eq!(scene.once(&judging, &[])["shards"], 1, "nobody asks for the other");
    let report = scene.once(&judging, &[&more]);
    assert_eq!((&report["shards"], &report["waiting"]), (&2.into(), &0.into()), "{report}");
    scene.equals_batch("main", &judging);
}

/// Of a disk that is not mounted the link to it is left. What a look passes over is said, whether anything is withdrawn or not.
#[test]
fn behind_a_link_that_leads_nowhere_nothing_is_withdrawn() {
    let (scene, judging) = (Scene::new(), World::shared().judging());
    for disk in ["disk", "in/a"] {
        fs::create_dir(scene.path(disk)).unwrap();
    }
    scene.put("a/0.tar", "00000");
    fs::copy(World::shared().path("data/shards/00001.tar"), scene.path("disk/1.tar")).unwrap();
    std::os::unix::fs::symlink(scene.path("disk"), scene.path("in/b")).unwrap();
    let once = |status: i32, more: &[&str]| -> Value {
        let mut args = scene.args(&judging, &[&["--once", "--json"], more].concat());
        args[1] = scene.path("in/*/*.tar").display().to_string();
        serde_json::from_slice(&run(status, &words(&args)).stdout).unwrap()
    };
    assert_eq!(once(0, &["--withdraw-missing"])["shards"], 2);
    fs::rename(scene.path("disk"), scene.path("away")).unwrap();
    let report = once(3, &["--withdraw-missing"]);
    assert_eq!((&report["shards"], &report["epoch"]), (&2.into(), &1.into()), "{report}");
    assert!(report["troubles"][0].as_str().unwrap().contains("in/b: a link that leads nowhere"), "{report}");
    let report = once(0, &[]);
    assert_eq!(report["notices"]["links_to_nothing"]["count"], 1, "{report}");
    fs::rename(scene.path("away"), scene.path("disk")).unwrap();
    assert_eq!(once(0, &["--withdraw-missing"])["notices"], serde_json::json!({}));
}

/// The folder on which a disk is mounted is there without it, and empty.
#[test]
fn an_empty_prefix_withdraws_nothing() {
    let (scene, judging) = (Scene::new(), World::shared().judging());
    scene.put("a.tar", "00000");
    scene.put("b.tar", "00001");
    let withdraws = ["--withdraw-missing"];
    scene.once(&judging, &withdraws);
    fs::rename(scene.path("in"), scene.path("away")).unwrap();
    fs::create_dir(scene.path("in")).unwrap();
    let out = run(3, &words(&scene.args(&judging, &["--once", "--json", "--withdraw-missing"])));
    assert_eq!(stderr(&out).matches("WARN").count(), 1, "{}", stderr(&out));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&report["shards"], &report["epoch"]), (&2.into(), &1.into()), "{report}");
    let troubles: Vec<&str> = report["troubles"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(matches!(troubles[..], [line] if line.contains("no shard is left")), "{troubles:?}");
    assert_eq!(scene.once(&judging, &[])["troubles"], serde_json::json!([]), "nobody asked to withdraw");
    fs::remove_dir(scene.path("in")).unwrap();
    fs::rename(scene.path("away"), scene.path("in")).unwrap();
    fs::remove_file(scene.path("in/b.tar")).unwrap();
    assert_eq!(scene.once(&judging, &withdraws)["shards"], 1);
    scene.equals_batch("main", &judging);
}

/// Statistics may arrive before their shard; where they lie without it, it is lost. What was read is not, wherever its file went.
#[test]
fn statistics_without_a_shard_are_a_loss_when_they_have_settled() {
    let (scene, judging) = (Scene::new(), World::shared().judging());
    scene.put("00000.tar", "00000");
    scene.put("00001.tar", "00001");
    for stats in ["00001_stats.json", "00002_stats.json"] {
        fs::write(scene.path("in").join(stats), br#"{"successes": 7}"#).unwrap();
    }
    let once = |settle: &str, status| -> Value {
        let args = scene.slow_args(settle, &judging, &["--once", "--json"]);
        serde_json::from_slice(&run(status, &words(&args)).stdout).unwrap()
    };
    assert!(once("1h", 0)["notices"].get("shard_gone").is_none());
    assert_eq!(once("0s", 4)["notices"]["shard_gone"]["lost_samples"], 7);
    fs::remove_file(scene.path("in/00001.tar")).unwrap();
    scene.put("00002.tar", "00002");
    let report = once("0s", 0);
    assert!(report["notices"].get("shard_gone").is_none() && report["shards"] == 3, "{report}");
    // All of them gone is no folder in which nothing has come yet.
    let scene = Scene::new();
    fs::write(scene.path("in/00000_stats.json"), br#"{"successes": 5}"#).unwrap();
    let args = scene.args(&judging, &["--once", "--json"]);
    let report: Value = serde_json::from_slice(&run(4, &words(&args)).stdout).unwrap();
    assert_eq!(report["notices"]["shard_gone"]["lost_samples"], 5);
}

#[test]
fn wrong_usage_is_one_line() {
    let (scene, right) = (Scene::new(), World::shared().judging());
    let refused = |args: &[String], words_of_it: &str| {
        let out = run(2, &words(args));
        let said = stderr(&out);
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("trommel:")).collect();
        assert!(lines.len() == 1 && lines[0].contains(words_of_it), "{said}");
    };
    let without: Vec<String> = right.iter().take(4).chain(&right[6..]).cloned().collect();
    refused(&scene.args(&without, &[]), "--rule or --split is missing");
    refused(&scene.args(&judging(&BOTH, "random:50%"), &[]), "random");
    refused(&scene.args(&judging(&BOTH, "drop-over-radius@none"), &[]), "none");
    refused(&scene.args(&right, &["--takedown", "/no/such/file"]), "/no/such/file");
    refused(&scene.args(&judging(&[("photo", "nowhere")], "drop-over-radius"), &[]), "nowhere/photo");
    // What a trainer's file says and nobody would read.
    let file = scene.path("train.toml");
    let recipe = "model = \"trommel-tiny-32\"\nbatch = 8\nsteps = 2\n";
    for option in [
        "threads = 3",
        "memory = \"4GiB\"",
        "image_key = \"png\"",
        "rule = \"random:1%\"",
        "skip-failed = true",
        "run = \"x\"",
    ] {
        fs::write(&file, format!("{recipe}{option}\n")).unwrap();
        let flag = option.split(' ').next().unwrap().replace('_', "-");
        refused(&scene.args(&right, &["--train", file.to_str().unwrap()]), &format!("`{flag}` is the watch's to say"));
    }
    // A trainer that cannot be, before a shard has come.
    for (recipe, more, words_of_it) in [
        ("model = \"no-such-model\"\nbatch = 8\nsteps = 2\n", &[][..], "--train: model no-such-model"),
        (recipe, &["--memory", "200MiB"][..], "--train: --memory 200.0 MiB"),
        (&format!("{recipe}pretrained = \"/nowhere.pt\"\n"), &[], "/nowhere.pt"),
        (&recipe.replace('8', "\"lots\""), &[], "invalid value 'lots' for '--batch <BATCH>': invalid digit"),
        (&recipe.replace("batch = 8", ""), &[], "required arguments were not provided: --batch <BATCH>"),
        (&format!("{recipe}samples = 9\n"), &[], "cannot be used with"),
    ] {
        fs::write(&file, recipe).unwrap();
        let train = [&["--train", file.to_str().unwrap()], more].concat();
        refused(&scene.args(&right, &train), words_of_it);
        assert!(!scene.run().exists(), "{words_of_it}");
    }
    let stdin = scene.args(&right, &["--once"]).into_iter();
    let folder = scene.path("in").display().to_string();
    refused(&stdin.map(|word| if word == folder { "-".into() } else { word }).collect::<Vec<_>>(), "standard input");
    // Pictures where shards are to come, and more of them than shards.
    for name in ["a.png", "b.png"] {
        fs::write(scene.path("in").join(name), b"a picture").unwrap();
    }
    refused(&scene.args(&right, &[]), "0 shards and 2 pictures");
    scene.put("00000.tar", "00000");
    refused(&scene.args(&right, &[]), "1 shards and 2 pictures");
    fs::remove_file(scene.path("in/b.png")).unwrap();
    let report = scene.once(&right, &[]);
    assert_eq!(report["notices"]["pictures_beside_shards"]["count"], 1, "{report}");
    let mut other = scene.args(&right, &["--once"]);
    run(0, &words(&other));
    *other.iter_mut().find(|word| *word == "1").unwrap() = "2".into();
    refused(&other, "the folder has `seed:1`, now `seed:2`");
}

fn shown(run: &Path) -> usize {
    let Ok(current) = fs::canonicalize(run.join("current/main")) else { return 0 };
    Ledger::open(&current).map_or(0, |ledger| ledger.shards().len())
}

/// Inputs that cannot be are said, once, and shards go on under what is in force; a second watch on the folder is refused.
#[test]
fn wrong_inputs_stop_nothing() {
    let (scene, flags) = (Scene::new(), judging(&BOTH, "drop-over-radius"));
    let file = scene.path("watch.toml");
    let write = |rule: &str| fs::write(&file, format!("rule = \"{rule}\"\n")).unwrap();
    write("drop-over-radius");
    let at = flags.iter().position(|word| word == "--rule").unwrap();
    let mut with_file = flags.clone();
    with_file.splice(at..at + 2, ["--config".into(), file.display().to_string()]);
    scene.put("00000.tar", "00000");
    let args = scene.args(&with_file, &["--poll", "100ms"]);
    let mut watch = Group::start(&args);
    assert!(until(60, || shown(&scene.run()) == 1), "{}", watch.said());
    let second = stderr(&run(2, &words(&args)));
    assert!(second.contains("its lock is held"), "{second}");
    write("drop-over-radius@nobody");
    assert!(until(60, || watch.said().contains("nobody")), "{}", watch.said());
    scene.put("00001.tar", "00001");
    assert!(until(60, || shown(&scene.run()) == 2), "{}", watch.said());
    scene.equals_batch("main", &flags);
    write("no rule at all");
    scene.put("00002.tar", "00002");
    assert!(until(60, || shown(&scene.run()) == 3), "{}", watch.said());
    fs::write(&file, "rule = \"drop-from:0.9\"\nmax-rejects = 7\npoll = \"5s\"\n").unwrap();
    let rule = || Ledger::open(&scene.current().join("main")).unwrap().config()["decisions"]["rule"].clone();
    assert!(until(60, || rule() == "drop-from:0.9"), "{}", watch.said());
    assert!(signal(watch.pid(), libc::SIGTERM));
    let said = watch.ends_with(0, 60);
    let lines = |what: &str| said.lines().filter(|line| line.contains(what)).count();
    assert_eq!((lines("nobody"), lines("gives --max-rejects otherwise now")), (1, 1), "{said}");
    // The command line has it, so that the file does not count.
    assert_eq!(lines("--poll"), 0, "{said}");
    scene.equals_batch("main", &judging(&BOTH, "drop-from:0.9"));
}

/// `sort a b > takedown.txt` empties a list at once and fills it later, as editors do with a file of options: meanwhile what was read stays.
#[test]
fn what_is_being_written_is_not_in_force() {
    let (scene, judging) = (Scene::new(), World::shared().judging());
    scene.put("00000.tar", "00000");
    scene.once(&judging, &[]);
    let ledger = Ledger::open(&scene.current().join("main")).unwrap();
    let kept = ledger.rows().unwrap().map(Result::unwrap);
    let kept = kept.filter(|row| row.fate.status.as_str() == "kept" && row.fate.reason.is_none());
    let keys: Vec<String> = kept.take(2).map(|row| format!("{}/{}\n", row.shard, row.fate.info.key)).collect();
    let (list, options) = (scene.path("takedown.txt"), scene.path("watch.toml"));
    let named = format!("takedown = [{:?}]\n", list.display().to_string());
    fs::write(&list, &keys[0]).unwrap();
    fs::write(&options, &named).unwrap();
    let taken = || ledger_text(&scene.current().join("main")).matches(r#"code: "taken_down""#).count();
    let more = ["--poll", "100ms", "--config", options.to_str().unwrap()];
    let mut watch = Group::start(&scene.slow_args("8s", &judging, &more));
    assert!(until(60, || taken() == 1 || watch.status().is_some()), "{}", watch.said());
    for path in [&list, &options] {
        fs::write(path, "").unwrap();
        scene.put(&format!("{}.tar", path.file_stem().unwrap().to_str().unwrap()), "00001");
        let shards = shown(&scene.run()) + 1;
        // So slowly that the shard settles meanwhile, and so fast that the list does not.
        let comes = || {
            use std::io::Write;
            fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"# not yet\n").unwrap();
            std::thread::sleep(Duration::from_millis(100));
            shown(&scene.run()) == shards
        };
        assert!(until(60, comes), "{}", watch.said());
        assert_eq!(taken(), 1, "{}: {}", path.display(), watch.said());
        fs::write(path, if path == &list { &keys[0] } else { &named }).unwrap();
    }
    fs::write(&list, keys.concat()).unwrap();
    assert!(until(60, || taken() == 2 || watch.status().is_some()), "{}", watch.said());
    assert!(signal(watch.pid(), libc::SIGTERM));
    let said = watch.ends_with(0, 60);
    assert!(!said.contains("WARN"), "{said}");
}

/// Six bitmaps of one size in two class folders; another `shade`, other pixels.
fn bitmaps(root: &Path, shade: u8) {
    for at in 0..6u8 {
        let mut bytes = b"BM\x36\x0c\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x20\0\0\0\x20\0\0\0\x01\0\x18\0".to_vec();
        bytes.resize(54, 0);
        bytes.extend((0..32 * 32 * 3).map(|byte: u32| (byte as u8 / 7).wrapping_mul(at + 1) ^ shade));
        let path = root.join(format!("{}/deep/{at}.bmp", ["cat", "dog"][usize::from(at % 2)]));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A tar in which the pictures of a folder are samples.
fn tar_of(root: &Path, to: &Path) {
    let mut tar = tar::Builder::new(fs::File::create(to).unwrap());
    // Without the pictures' times, which are others when they are written again.
    tar.mode(tar::HeaderMode::Deterministic);
    for (class, at) in (0..6).map(|at| (["cat", "dog"][at % 2], at)) {
        tar.append_path_with_name(root.join(format!("{class}/deep/{at}.bmp")), format!("{at}.bmp")).unwrap();
    }
    tar.finish().unwrap();
}

/// Names, sizes and classes are what they were, and so are the folders' times.
#[test]
fn other_pictures_in_a_benchmarks_files_are_another_benchmark() {
    let (scene, pictures) = (Scene::new(), Scene::new());
    let (set, tars) = (pictures.path("set"), pictures.path("tars"));
    fs::create_dir(&tars).unwrap();
    let fill = |shade| {
        bitmaps(&set, shade);
        tar_of(&set, &tars.join("0.tar"));
    };
    fill(0);
    scene.put("00000.tar", "00000");
    let of = |name: &str, folder: &Path| ["--benchmark".to_owned(), format!("{name}={}", folder.display())];
    let rule = ["--rule", "drop-above:0.5", "--embedder", common::MODEL, "--random-init", "1"].map(String::from);
    let judging = [&of("x", &set)[..], &of("y", &tars), &rule].concat();
    let epoch = |scene: &Scene| scene.once(&judging, &[])["epoch"].as_u64().unwrap();
    assert_eq!((epoch(&scene), epoch(&scene)), (1, 1));
    let embedded = |name: &str| scene.run().join("benchmarks").join(name).join("embeddings");
    let inodes = |name: &str| -> Vec<u64> {
        fs::read_dir(embedded(name)).unwrap().map(|part| part.unwrap().metadata().unwrap().ino()).collect()
    };
    let before = ["x", "y"].map(inodes);
    fill(0);
    assert_eq!((epoch(&scene), ["x", "y"].map(inodes)), (1, before), "the same pictures, written again");
    fill(99);
    assert_eq!(epoch(&scene), 2);
    scene.equals_batch("main", &judging);

    // A watch that runs sees a file that is written over in place.
    let mut watch = Group::start(&scene.args(&judging, &["--poll", "100ms"]));
    // Its start is over when it has shown what has come meanwhile.
    scene.put("00001.tar", "00001");
    let is_followed = || fs::read_link(scene.run().join("current")).is_ok_and(|link| link.ends_with("epoch.3"));
    assert!(until(60, || is_followed() || watch.status().is_some()), "{}", watch.said());
    fill(7);
    let shown = || Ledger::open(&scene.current().join("main")).map(|ledger| ledger.config()["decisions"].clone());
    let is_new = |before: &Value| {
        shown().is_ok_and(|now| {
            [0, 1].iter().all(|at| now["benchmarks"][at]["sha256"] != before["benchmarks"][at]["sha256"])
        })
    };
    let before = shown().unwrap();
    assert!(until(120, || is_new(&before) || watch.status().is_some()), "{}", watch.said());
    assert!(signal(watch.pid(), libc::SIGTERM));
    watch.ends_with(0, 60);
    scene.equals_batch("main", &judging);
}

/// No split is called as what lies beside the splits.
#[test]
fn a_split_is_no_file_of_an_epoch() {
    let (scene, flags) = (Scene::new(), World::shared().judging());
    scene.put("00000.tar", "00000");
    scene.once(&flags, &[]);
    let at = flags.iter().position(|word| word == "--rule").unwrap();
    let files = fs::read_dir(scene.current()).unwrap().map(|entry| entry.unwrap());
    let names = files
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap());
    let names: Vec<String> = names.chain(["..".into(), ".main".into(), "a/b".into()]).collect();
    assert!(names.len() > 4, "{names:?}");
    let fresh = Scene::new();
    for name in names {
        let mut flags = flags.clone();
        flags.splice(at..at + 2, ["--split".into(), format!("{name}=drop-above:0.9")]);
        let said = stderr(&run(2, &words(&fresh.args(&flags, &["--once"]))));
        assert!(said.contains(&format!("--split {name}=drop-above:0.9: write it as NAME=RULE")), "{said}");
        assert!(!fresh.run().exists(), "{name}");
    }
}

/// Whatever a watch was doing with an epoch's folder when it ended, the next one shows the epoch that was made.
#[test]
fn an_epoch_is_shown_whatever_is_left_of_it() {
    let (scene, judging) = (Scene::new(), World::shared().judging());
    scene.put("00000.tar", "00000");
    scene.once(&judging, &[]);
    scene.put("00001.tar", "00001");
    scene.once(&judging, &[]);
    let (run, log) = (scene.run(), scene.run().join("changes.jsonl"));
    let whole = |what: &str| {
        assert_eq!(scene.once(&judging, &[])["epoch"], 2, "{what}");
        assert_eq!(fs::read_link(run.join("current")).unwrap(), Path::new("epoch.2"), "{what}");
        let epochs: Vec<u64> = scene.changes().iter().map(|line| line["epoch"].as_u64().unwrap()).collect();
        assert_eq!(epochs, [1, 2], "{what}");
        scene.equals_batch("main", &judging);
    };
    // Made and not shown.
    fs::remove_file(run.join("current")).unwrap();
    std::os::unix::fs::symlink("epoch.1", run.join("current")).unwrap();
    let lines = fs::read_to_string(&log).unwrap();
    fs::write(&log, &lines[..lines.find('\n').unwrap() + 5]).unwrap();
    whole("made and not shown");
    // What a user has laid beside them stays.
    for kept in ["epoch.1.backup", "epoch.notes", "epoch.03", "gone"] {
        fs::create_dir(run.join(kept)).unwrap();
    }
    fs::write(run.join("epoch.txt"), b"x").unwrap();
    whole("a user's own");
    for kept in ["epoch.1.backup", "epoch.notes", "epoch.03", "gone", "epoch.txt"] {
        assert!(run.join(kept).exists(), "{kept}");
    }
    // Prepared and not made; half prepared.
    for leftover in ["epoch.3", "epoch.3.tmp"] {
        fs::create_dir_all(run.join(leftover).join("main")).unwrap();
        whole(leftover);
        assert!(!run.join(leftover).exists(), "{leftover}");
    }
    // Its folder is gone.
    fs::remove_dir_all(run.join("epoch.2")).unwrap();
    fs::write(&log, &lines[..=lines.find('\n').unwrap()]).unwrap();
    whole("gone");
}

/// Real shards come slowly and out of order, one cut off and completed later, while the watch is killed twice; whoever reads meanwhile
/// sees whole epochs.
#[test]
fn real_shards_come_slowly_while_the_watch_is_killed() {
    let Some(data) = common::test_data() else { return };
    let scene = Scene::new();
    let tar = |at: u32| fs::read(data.join(format!("shards/cifar/{at:05}.tar"))).unwrap();
    let into = |at: u32| scene.path("in").join(format!("{at:05}.tar"));
    let judging = World::shared().judging();
    let args = scene.slow_args("300ms", &judging, &["--poll", "200ms"]);

    let mut watch = Group::start(&args);
    let (first, second, third, fourth) = (tar(2), tar(0), tar(3), tar(1));
    fs::write(into(2), &first).unwrap();
    assert!(until(60, || shown(&scene.run()) == 1), "{}", watch.said());
    // Cut off for longer than it takes to settle: what is there counts until more comes.
    fs::write(into(0), &second[..second.len() / 3]).unwrap();
    assert!(until(60, || shown(&scene.run()) == 2), "{}", watch.said());
    fs::write(into(3), &third).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    watch.kill_all();
    let mut watch = Group::start(&args);
    fs::write(into(0), &second).unwrap();
    // Readers meanwhile.
    let reader = std::thread::spawn({
        let run = scene.run();
        move || {
            let mut seen = BTreeSet::new();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(3) {
                let Ok(current) = fs::canonicalize(run.join("current")) else { continue };
                let ledger = Ledger::open(&current.join("main")).unwrap();
                ledger.verify().unwrap();
                let rows = ledger.rows().unwrap().map(Result::unwrap).count() as u64;
                assert_eq!(rows, ledger.counts().total());
                seen.insert(current);
            }
            seen.len()
        }
    });
    for piece in fourth.chunks(fourth.len() / 5 + 1).enumerate().map(|(at, piece)| (at * (fourth.len() / 5 + 1), piece))
    {
        let mut so_far = fourth[..piece.0].to_vec();
        so_far.extend(piece.1);
        fs::write(into(1), &so_far).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(350));
    watch.kill_all();
    let mut watch = Group::start(&args);
    let is_done = || {
        let Ok(current) = fs::canonicalize(scene.run().join("current/main")) else { return false };
        Ledger::open(&current).is_ok_and(|ledger| ledger.counts().total() == 2000)
    };
    assert!(until(60, is_done), "{}", watch.said());
    assert!(reader.join().unwrap() > 0);
    // The first signal ends it in order.
    assert!(signal(watch.pid(), libc::SIGINT));
    watch.ends_with(0, 60);
    scene.equals_batch("main", &judging);
    let lines = scene.changes();
    let numbers: Vec<u64> = lines.iter().map(|line| line["epoch"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "every epoch is told once");
    // Every epoch that shows new shards tells how long they were waiting for it, but where the watch that had seen them was killed before.
    let is_new = |line: &&Value| ["arrived", "replaced"].iter().any(|how| line[how] != serde_json::json!([]));
    let lags: Vec<Option<f64>> = lines.iter().filter(is_new).map(|line| line["lag_seconds"].as_f64()).collect();
    assert!(lags.iter().flatten().all(|lag| lag.is_finite() && *lag >= 0.0), "{lags:?}");
    assert!(lags.len() > 2 && lags.iter().filter(|lag| lag.is_none()).count() <= 2, "two kills, and lags {lags:?}");
    assert!(lines.iter().any(|line| line["replaced"].as_array().is_some_and(|names| !names.is_empty())));
}
