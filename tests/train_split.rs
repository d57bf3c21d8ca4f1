//! `trommel train --split`: what `trommel select` keeps is trained on, and nothing else, in the order of a run that decides so itself.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use common::cluster::{and, local};
use common::members::append;
use common::processes::kill_at;
use common::{RECIPE, World, ledger_text, losses, peer, run, stderr, trommel, words};
use trommel_columnar::npy::pair_head_bytes;
use trommel_columnar::parquet::{Column, ColumnType, TableReader};
use trommel_core::sample::Status;
use trommel_ledger::read::Ledger;
use trommel_pipelines::trained_steps::InPass;
use trommel_pipelines::why::why;

const BATCH: usize = 16;

/// A judged run over the world's shards, and splits of it.
struct Splits(PathBuf);

impl Splits {
    fn shared() -> &'static Self {
        static SPLITS: OnceLock<Splits> = OnceLock::new();
        SPLITS.get_or_init(|| {
            let splits = Self(common::shared_folder("splits"));
            let judged = splits.0.join("judged");
            run(0, &words(&World::shared().prune(&judged)));
            let rules = [
                "val=drop-over-radius",
                "core=keep-nearest:100 of val",
                "few=keep-farthest:9",
                "none=few minus few",
                "any=random:90%",
            ];
            let (judged, out) = (judged.display().to_string(), splits.0.display().to_string());
            let mut args =
                vec!["select", &judged, "-o", &out, "--format", "parquet,txt,npy,keys", "--without", "00005.tar"];
            args.extend(rules.iter().flat_map(|rule| ["--rule", rule]));
            run(0, &args);
            splits
        })
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// `SHARD/KEY` of whom a split keeps.
    fn keys(&self, name: &str) -> BTreeSet<String> {
        fs::read_to_string(self.path(&format!("{name}.txt"))).unwrap().lines().map(String::from).collect()
    }
}

/// A training run's words.
fn train(shards: &str, into: &Path, more: &[&str]) -> Vec<String> {
    let into = into.display().to_string();
    let words = [&["train", shards, "--run", &into][..], &RECIPE, more].concat();
    words.into_iter().map(String::from).collect()
}

/// Runs it; what it said, and the samples of each of its batches as (ordinal, index), in the order of a rank's rows.
fn batches(args: &[String]) -> (String, Vec<Vec<(u64, u32)>>) {
    let out = trommel().args(args).env("TROMMEL_LOG", "info,trommel_pipelines_torch=debug").output().unwrap();
    let said = stderr(&out);
    assert_eq!(out.status.code(), Some(0), "{said}");
    let sample = |word: &str| {
        let (ordinal, index) = word.split_once('/').unwrap();
        (ordinal.parse().unwrap(), index.parse().unwrap())
    };
    let batch =
        |line: &str| line.split_once("samples=\"").unwrap().1.trim_end_matches('"').split(' ').map(sample).collect();
    let batches = said.lines().filter(|line| line.contains("DEBUG") && line.contains("batch pass=")).map(batch);
    (said.clone(), batches.collect())
}

/// Kept samples of a run folder by place: `SHARD/KEY`, and whether it has a caption.
fn rows(run_folder: &Path) -> BTreeMap<(u64, u32), (String, Status, bool)> {
    let rows = Ledger::open(run_folder).unwrap().rows().unwrap().map(Result::unwrap).collect::<Vec<_>>();
    let row = |row: trommel_ledger::read::LedgerRow| {
        let (id, key) = (row.fate.info.id, format!("{}/{}", row.shard, row.fate.info.key));
        ((id.ordinal, id.index), (key, row.fate.status, row.fate.reason.is_none()))
    };
    rows.into_iter().map(row).collect()
}

/// The five shards that splits were made of.
fn five() -> String {
    World::shared().path("data/shards/{00000..00004}.tar")
}

#[test]
fn a_split_trains_as_a_run_that_decides_so_itself() {
    let (world, splits, folder) = (World::shared(), Splits::shared(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    let mut judging = train(&five(), &at("judged"), &["--steps", "18"]);
    judging.extend(world.judging());
    run(0, &words(&judging));
    let due = losses(&at("judged"));
    assert_eq!(due.len(), 18);
    let all = steps_of_all(&at("judged"), 0);
    for workers in ["1", "2", "4"] {
        let into = at(&format!("workers{workers}"));
        let args =
            train(&five(), &into, &["--split", &splits.path("val.parquet"), "--workers", workers, "--steps", "18"]);
        let (said, batches) = batches(&args);
        assert_eq!(losses(&into), due, "{said}");
        // The first pass takes each sample that the split keeps and a trainer can use, once, but for an incomplete batch.
        let (rows, keys) = (rows(&into), splits.keys("val"));
        let kept: BTreeSet<String> =
            rows.values().filter(|(_, status, _)| *status == Status::Kept).map(|(key, ..)| key.clone()).collect();
        assert_eq!(kept, keys);
        let usable = rows.values().filter(|(_, status, captioned)| *status == Status::Kept && *captioned).count();
        let pass: Vec<_> = batches[..usable / BATCH].iter().flatten().collect();
        assert_eq!(pass.iter().collect::<BTreeSet<_>>().len(), pass.len(), "a sample came twice");
        assert!(pass.iter().all(|id| keys.contains(&rows[id].0) && rows[id].2), "{pass:?}");
        assert!(!said.contains("embed "), "nothing is embedded: {said}");
        check_places(&into, &batches, 0);
        assert_eq!(steps_of_all(&into, 0), all);
    }
    // Killed and resumed, in its first pass and in its second.
    let killed = train(&five(), &at("killed"), &["--split", &splits.path("val.split.json"), "--steps", "18"]);
    for step in [5, 15] {
        kill_at(&killed, &at("killed"), step);
    }
    run(0, &words(&killed));
    assert_eq!(losses(&at("killed")), due);
    assert_eq!(ledger_text(&at("killed")), ledger_text(&at("workers1")));
    assert_eq!(steps_of_all(&at("killed"), 0), all);
    // Two processes: those of a judged run of two, to the bit.
    let two = |name: &str, more: &[String]| {
        let mut args = train(&five(), &at(name), &["--steps", "12"]);
        args.extend_from_slice(more);
        run(0, &words(&local(2, &[], &and(args, &["--threads", "1"]))));
        losses(&at(name))
    };
    assert_eq!(two("two", &["--split".into(), splits.path("val.parquet")]), two("two-judged", &world.judging()));
}

/// Members of a ustar whose key is wanted, as a tar of their own: a reading of our own.
fn filtered(tar: &[u8], wanted: impl Fn(&str) -> bool) -> Vec<u8> {
    let (mut at, mut out) = (0, Vec::new());
    while tar.len() - at >= 512 && tar[at] != 0 {
        let text = |range: std::ops::Range<usize>| {
            let field = &tar[at..at + 512][range];
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            String::from_utf8(field[..end].to_vec()).unwrap()
        };
        let bytes = usize::from_str_radix(text(124..136).trim(), 8).unwrap();
        let end = at + 512 + bytes.next_multiple_of(512);
        if wanted(text(0..100).split_once('.').unwrap().0) {
            out.extend_from_slice(&tar[at..end]);
        }
        at = end;
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// In one lane holes change nothing, and a crop's chance hangs on the key: so shards from which all others were taken out train alike.
#[test]
fn a_split_trains_as_shards_that_hold_it_alone() {
    let (splits, folder) = (Splits::shared(), tempfile::tempdir().unwrap());
    let keys = splits.keys("core");
    let copies = folder.path().join("copies");
    fs::create_dir(&copies).unwrap();
    for shard in 0..5 {
        let name = format!("{shard:05}.tar");
        let tar = fs::read(World::shared().path(&format!("data/shards/{name}"))).unwrap();
        fs::write(copies.join(&name), filtered(&tar, |key| keys.contains(&format!("{name}/{key}")))).unwrap();
    }
    let copies = copies.join("{00000..00004}.tar").display().to_string();
    let at = |name: &str| folder.path().join(name);
    let one_lane = ["--lanes", "1", "--steps", "12"];
    let core = splits.path("core.parquet");
    let split = [&one_lane[..], &["--split", &core]].concat();
    // What the split does not name is not read: that it is not there any more changes nothing.
    let spoilt = World::shared().path("data/shards");
    let shards = at("shards");
    fs::create_dir(&shards).unwrap();
    for shard in 0..5 {
        fs::copy(format!("{spoilt}/{shard:05}.tar"), shards.join(format!("{shard:05}.tar"))).unwrap();
    }
    fs::write(shards.join("00005.tar"), "no tar at all").unwrap();
    let all = shards.join("{00000..00005}.tar").display().to_string();
    let said = stderr(&run(0, &words(&train(&all, &at("split"), &split))));
    assert!(said.contains("shards of which the split keeps nothing, not read: 1 (first: 00005.tar)"), "{said}");
    run(0, &words(&train(&copies, &at("alone"), &one_lane)));
    assert_eq!(losses(&at("split")), losses(&at("alone")));
}

#[test]
fn what_is_no_split_of_these_shards_is_refused() {
    let (world, splits, folder) = (World::shared(), Splits::shared(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    let refused = |name: &str, shards: &str, more: &[&str], parts: &[&str]| {
        let said = stderr(&run(2, &words(&train(shards, &at(name), &[&["--steps", "6"][..], more].concat()))));
        assert!(said.lines().any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?}: {said}");
    };
    let near = splits.path("val.parquet");
    refused(
        "lost",
        &world.path("data/shards/{00001..00003}.tar"),
        &["--split", &near],
        &["2 of its 5 shards", "(first: 00000.tar)"],
    );
    let (judged, lost) = (splits.path("judged"), world.path("data/shards/{00001..00004}.tar"));
    refused("folder", &five(), &["--split", &judged], &["--split", "a folder; --decisions", "takes over"]);
    let folder_of_splits = Path::new(&near).parent().unwrap().display().to_string();
    let lies_in_it = ["a folder", "give a split that lies in it, such as", ".parquet"];
    refused("splits", &five(), &["--split", &folder_of_splits], &lies_in_it);
    let streamed = stderr(&run(2, &["stream", &five(), "--split", &folder_of_splits]));
    assert!(lies_in_it.iter().all(|part| streamed.contains(part)), "{streamed}");
    refused(
        "keys",
        &lost,
        &["--split", &splits.path("val.txt")],
        &["val.txt", "samples are not among", "(first: 00000.tar)"],
    );
    let list = |name: &str, lines: &str| {
        let path = folder.path().join(name);
        fs::write(&path, lines).unwrap();
        path.display().to_string()
    };
    let missing = list("missing.txt", "00000.tar/no such key\n");
    refused("missing", &five(), &["--split", &missing], &["00000.tar", "keys that the split keeps are not in it"]);
    refused("empty", &five(), &["--split", &list("empty.txt", "\n")], &["empty.txt", "it keeps no sample"]);
    fs::copy(splits.path("val.split.json"), folder.path().join("cut.split.json")).unwrap();
    refused(
        "cut",
        &five(),
        &["--split", &list("cut.txt", "00000.tar/x\n")],
        &["cut.txt: it is not the list that", "cut.split.json tells of"],
    );
    refused("none", &five(), &["--split", &splits.path("none.parquet")], &["none.parquet", "it keeps no sample"]);
    refused("rule", &five(), &["--split", &near, "--rule", "random:50%"], &["--rule", "cannot be used with"]);
    refused("read", &five(), &["--split", &near, "--text-key", "cap"], &["text_key", "txt", "cap"]);
    // Another split in the folder of a run: both are shown.
    run(0, &words(&train(&five(), &at("run"), &["--split", &near, "--steps", "6"])));
    let keys = |name: &str| {
        let head: serde_json::Value = serde_json::from_slice(&fs::read(splits.path(name)).unwrap()).unwrap();
        head["keys_sha256"].as_str().unwrap().to_owned()
    };
    let (near_keys, core_keys) = (keys("val.split.json"), keys("core.split.json"));
    refused("run", &five(), &["--split", &splits.path("core.parquet")], &["split.keys_sha256", &near_keys, &core_keys]);
    refused("run", &five(), &[], &["split"]);
    // A shard that was exchanged for another of the same name.
    let shards = at("shards");
    fs::create_dir(&shards).unwrap();
    for shard in 0..5 {
        let from = world.path(&format!("data/shards/{:05}.tar", if shard == 2 { 5 } else { shard }));
        fs::copy(from, shards.join(format!("{shard:05}.tar"))).unwrap();
    }
    let shards = shards.join("{00000..00004}.tar").display().to_string();
    refused(
        "exchanged",
        &shards,
        &["--split", &near],
        &["00002.tar", "which is not the one that the split keeps there", "exchanged"],
    );
}

/// Indices, keys or uids: whoever stands in a split is trained on, and nobody else, in the same steps to the bit.
#[test]
fn every_form_of_a_split_trains_alike() {
    let (splits, folder) = (Splits::shared(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    let with = |name: &str, split: &str| train(&five(), &at(name), &["--split", split, "--steps", "12"]);
    let fates = |name: &str| {
        let fates = rows(&at(name)).into_iter().map(|(place, (key, status, _))| (place, key, status));
        fates.collect::<Vec<_>>()
    };
    run(0, &words(&with("parquet", &splits.path("core.parquet"))));
    let due = (losses(&at("parquet")), fates("parquet"));
    // Somebody else's list, in an order of its own, which says nothing of itself.
    let keys: Vec<String> = splits.keys("core").into_iter().rev().collect();
    fs::write(at("foreign.txt"), keys.join("\r\n")).unwrap();
    let foreign = at("foreign.txt").display().to_string();
    let of = |form: &str| splits.path(&format!("core.{form}"));
    for (name, split) in [("txt", of("txt")), ("foreign", foreign), ("npy", of("npy")), ("keys", of("keys"))] {
        let words_of = with(name, &split);
        kill_at(&words_of, &at(name), 5);
        run(0, &words(&words_of));
        assert_eq!((losses(&at(name)), fates(name)), due, "{name}");
    }
    let why = |name: &str| {
        let run_folder = at(name).display().to_string();
        String::from_utf8(run(0, &["why", &run_folder, &keys[0]]).stdout).unwrap()
    };
    assert!(why("txt").contains("kept: the split keeps it (`keep-nearest:100 of drop-over-radius`, 100 samples)"));
    assert!(why("foreign").contains("kept: the split keeps it (`a list of keys`, 100 samples)"), "{}", why("foreign"));
    // What a list of keys does not name is not read; of uids nobody knows before.
    let all = World::shared().path("data/shards/{00000..00005}.tar");
    for (form, due) in [("txt", 5), ("npy", 6), ("keys", 6)] {
        let into = at(&format!("all-{form}"));
        let split = splits.path(&format!("core.{form}"));
        let said = stderr(&run(0, &words(&train(&all, &into, &["--split", &split, "--steps", "12"]))));
        assert_eq!(said.contains("shards of which the split keeps nothing, not read: 1"), form == "txt", "{said}");
        let ledger = Ledger::open(&into).unwrap();
        assert_eq!((ledger.shards().len(), ledger.counts().kept), (due, 100));
    }
    // Names that no sample has are told once all shards were read.
    let npy = fs::read(of("npy")).unwrap();
    let rows = &npy[npy.len() - 16 * 100..];
    let uids = [&pair_head_bytes(102)[..], &[0; 16], rows, &[255; 16]].concat();
    let keys = fs::read_to_string(of("keys")).unwrap() + "~nobody\n";
    for (name, list, line) in [
        ("more.npy", uids, format!("uids of the list that no sample of these shards has: 2 (first: {{}}: {:032x})", 0)),
        (
            "more.keys",
            keys.into_bytes(),
            "keys of the list that are in none of these shards: 1 (first: {}: ~nobody)".into(),
        ),
    ] {
        fs::write(at(name), list).unwrap();
        let list = at(name).display().to_string();
        let (begun, ended) = (format!("{name}-run"), line.replace("{}", &list));
        let said = stderr(&run(0, &words(&with(&begun, &list))));
        assert!(said.contains(&ended), "{said}");
        assert_eq!(losses(&at(&begun)), due.0, "{name}");
    }
    // Another form is another file: a run goes on with its own.
    let said = stderr(&run(2, &words(&with("npy", &splits.path("core.parquet")))));
    assert!(said.contains("split.keys_sha256"), "{said}");
}

/// The length needs no statistics, and the run folder says what it is.
#[test]
fn a_run_over_a_split_says_what_it_is() {
    let (world, splits, folder) = (World::shared(), Splits::shared(), tempfile::tempdir().unwrap());
    let bare = folder.path().join("shards");
    fs::create_dir(&bare).unwrap();
    for shard in 0..5 {
        let name = format!("{shard:05}.tar");
        fs::hard_link(world.path(&format!("data/shards/{name}")), bare.join(name)).unwrap();
    }
    let (shards, into) = (bare.join("{00000..00004}.tar").display().to_string(), folder.path().join("run"));
    let core = splits.path("core.parquet");
    run(0, &words(&train(&shards, &into, &["--split", &core, "--passes", "2"])));
    let counts = Ledger::open(&into).unwrap().counts();
    let captioned = 100 - counts.remarks.get("no_caption").unwrap_or(0);
    assert_eq!((counts.kept, counts.kept + counts.dropped), (100, 240));
    assert_eq!(losses(&into).len() as u64, 2 * (captioned / 16));
    assert!(into.join("checkpoints/epoch_2.pt").exists());
    // Whom the judged run dropped may have no caption: a split that keeps them does not know its batches.
    let any = splits.path("any.parquet");
    let said =
        stderr(&run(2, &words(&train(&shards, &folder.path().join("any"), &["--split", &any, "--passes", "2"]))));
    assert!(said.contains("--passes needs to know how many samples a pass has"), "{said}");
    let rule = "keep-nearest:100 of drop-over-radius";
    let keys = splits.keys("core");
    let (kept, dropped) =
        (keys.first().unwrap(), rows(&into).values().find(|(key, ..)| !keys.contains(key)).unwrap().0.clone());
    let run_folder = into.display().to_string();
    let told = |key: &str| String::from_utf8(run(0, &["why", &run_folder, key]).stdout).unwrap();
    assert!(told(kept).contains(&format!("kept: the split keeps it (`{rule}`, 100 samples)")), "{}", told(kept));
    assert!(
        told(&dropped).contains(&format!("dropped: the split does not keep it (`{rule}`, 100 samples)")),
        "{}",
        told(&dropped)
    );
    let page = folder.path().join("page.html");
    run(0, &["report", &run_folder, "-o", &page.display().to_string()]);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains(&format!("rule split: {rule}")) && page.contains("100 kept, 140 dropped"), "{page:.3000}");
}

/// What a trainer really took, by sample: steps by place.
fn steps(batches: &[Vec<(u64, u32)>], from: u64) -> BTreeMap<(u64, u32), Vec<u64>> {
    let mut steps = BTreeMap::<_, Vec<u64>>::new();
    for (step, batch) in (from..).zip(batches) {
        batch.iter().for_each(|id| steps.entry(*id).or_default().push(step));
    }
    steps
}

/// `trommel why` of every sample in a ledger: its steps, and what else is said of its training. `why --all` must say the same.
fn whys(run_folder: &Path, status: i32) -> BTreeMap<(u64, u32), (Vec<u64>, String)> {
    let mut all = steps_of_all(run_folder, status);
    let mut of = |key: &String| {
        let row = why(run_folder, key).unwrap().swap_remove(0);
        let turns: Vec<InPass> = all.remove(key).unwrap_or_default().into_iter().map(|(turn, _)| turn).collect();
        assert_eq!(turns, row.trained, "{key}: {:?}", row.training);
        let step = |pass: &InPass| if let InPass::Step(step) = pass { Some(*step) } else { None };
        (row.trained.iter().filter_map(step).collect(), row.training.unwrap())
    };
    let whys = rows(run_folder).iter().map(|(id, (key, ..))| (*id, of(key))).collect();
    assert!(all.is_empty(), "{all:?}");
    whys
}

/// `trommel why --all`: what became of every sample, pass by pass, by SHARD/KEY, with its place in its batch.
fn steps_of_all(run_folder: &Path, status: i32) -> BTreeMap<String, Vec<(InPass, Option<u64>)>> {
    let file = run_folder.with_extension("steps.parquet");
    let (folder, out) = (run_folder.display().to_string(), file.display().to_string());
    run(status, &["why", &folder, "--all", "-o", &out]);
    let names = ["shard", "key", "turn"].map(|name| (name, ColumnType::Text));
    let wanted =
        [&names[..], &[("pass", ColumnType::U32), ("step", ColumnType::U64), ("position", ColumnType::U64)]].concat();
    let mut all = BTreeMap::<String, Vec<_>>::new();
    for group in TableReader::open(&file, Box::new(fs::File::open(&file).unwrap()), &wanted).unwrap() {
        let group = group.unwrap();
        let [
            Column::Text(shards),
            Column::Text(keys),
            Column::Text(turns),
            Column::U32(passes),
            Column::U64(steps),
            Column::U64(positions),
        ] = group.as_slice()
        else {
            panic!("columns of other kinds")
        };
        for at in 0..keys.len() {
            let turn = match (turns[at].as_deref().unwrap(), steps[at]) {
                ("step", Some(step)) => InPass::Step(step),
                ("left_over", None) => InPass::LeftOver,
                ("skipped", None) => InPass::Skipped,
                ("not_yet", None) => InPass::NotYet,
                other => panic!("{other:?}"),
            };
            assert_eq!(positions[at].is_some(), steps[at].is_some());
            let key = format!("{}/{}", shards[at].as_ref().unwrap(), keys[at].as_ref().unwrap());
            let passes_of = all.entry(key).or_default();
            assert_eq!(passes[at], Some(passes_of.len() as u32), "passes come one after the other");
            passes_of.push((turn, positions[at]));
        }
    }
    all
}

/// That `why --all` puts into each step's batch whom the trainer was given, in that order.
fn check_places(run_folder: &Path, batches: &[Vec<(u64, u32)>], from: u64) {
    let keys = rows(run_folder);
    let mut told = BTreeMap::new();
    for (key, turns) in steps_of_all(run_folder, 0) {
        for (turn, position) in turns {
            if let (InPass::Step(step), Some(position)) = (turn, position) {
                assert!(told.insert((step, position), key.clone()).is_none(), "two samples at one place");
            }
        }
    }
    let due = (from..).zip(batches).flat_map(|(step, batch)| (0..).zip(batch).map(move |(at, id)| ((step, at), id)));
    let due: BTreeMap<(u64, u64), String> = due.map(|(place, id)| (place, keys[id].0.clone())).collect();
    told.retain(|(step, _), _| *step >= from);
    assert_eq!(told, due);
}

/// Against the batches that the trainer was given, over three passes, a kill, and a picture that went bad in between.
#[test]
fn why_tells_the_steps_of_every_sample() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let shards = folder.path().join("shards");
    fs::create_dir(&shards).unwrap();
    for shard in 0..2 {
        let name = format!("{shard:05}.tar");
        fs::copy(world.path(&format!("data/shards/{name}")), shards.join(&name)).unwrap();
    }
    let words = |steps: &'static str| {
        let shards = shards.join("{00000..00001}.tar").display().to_string();
        train(&shards, &folder.path().join("run"), &["--rule", "random:70%", "--window", "24", "--steps", steps])
    };
    let into = folder.path().join("run");
    let (_, first) = batches(&words("5"));
    let told = whys(&into, 0);
    for (id, (_, status, captioned)) in rows(&into) {
        let due = steps(&first, 0).remove(&id).unwrap_or_default();
        assert_eq!(told[&id].0, due, "{id:?}: {}", told[&id].1);
        if status != Status::Kept || !captioned {
            assert!(told[&id].1.starts_with("never trained"), "{}", told[&id].1);
        }
    }
    // A shard that is not in the ledger hides who stands behind its samples; workers commit shards in no order of their own.
    let manifest = fs::read_to_string(into.join("manifest/0.jsonl")).unwrap();
    let lines: Vec<&str> = manifest.lines().collect();
    assert_eq!(lines.len(), 2, "a line a shard");
    for at in 0..lines.len() {
        let cut = folder.path().join(format!("cut-{at}"));
        assert!(Command::new("cp").arg("-r").args([&into, &cut]).status().unwrap().success());
        let left = [&lines[..at], &lines[at + 1..]].concat();
        fs::write(cut.join("manifest/0.jsonl"), left.join("\n") + "\n").unwrap();
        let hidden = whys(&cut, 3);
        let untold = hidden.values().filter(|(_, words)| words.contains("cannot be told: shard "));
        assert!(untold.count() > 20 && hidden.len() < told.len(), "{hidden:?}");
    }
    // Its bytes do not decode any more: from here on its turns are skipped, and all behind it move up.
    let (spoilt, (key, ..)) =
        rows(&into).into_iter().find(|(_, (_, status, captioned))| *status == Status::Kept && *captioned).unwrap();
    let path = shards.join(key.split_once('/').unwrap().0);
    let mut tar = fs::read(&path).unwrap();
    let name = format!("{}.jpg", key.split_once('/').unwrap().1);
    let at = tar.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    tar[at + 512..at + 512 + 64].fill(0);
    fs::write(&path, tar).unwrap();
    kill_at(&and(words("14"), &["--extend"]), &into, 10);
    let (said, rest) = batches(&and(words("14"), &["--extend"]));
    let begun = said.lines().find_map(|line| line.split_once("continuing at step ")).unwrap().1;
    let begun: u64 = begun.split(' ').next().unwrap().parse().unwrap();
    assert!(begun >= 10, "{said}");
    let due = steps(&rest, begun);
    check_places(&into, &rest, begun);
    for (id, (steps, words)) in whys(&into, 0) {
        let after: Vec<u64> = steps.into_iter().filter(|step| *step >= begun).collect();
        assert_eq!(after, due.get(&id).cloned().unwrap_or_default(), "{id:?}: {words}");
        assert_eq!(words.contains("skipped, it could not be read again"), id == spoilt, "{id:?}: {words}");
    }
}

/// pyarrow reads the table, and a naive order of its own says the same.
#[test]
fn peer_pyarrow_and_a_naive_order_say_the_same_steps() {
    let Some(python) = peer("pyarrow") else { return };
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("run");
    let core = Splits::shared().path("core.parquet");
    // Windows of bytes, and a last pass that is under way.
    let more = ["--split", &core, "--window", "40", "--window-bytes", "200KiB", "--lanes", "3", "--steps", "14"];
    run(0, &words(&train(&five(), &into, &more)));
    steps_of_all(&into, 0);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/steps.py");
    let peer = Command::new(python).arg(script).arg(&into).arg(into.with_extension("steps.parquet")).output().unwrap();
    assert!(peer.status.success(), "{}", stderr(&peer));
    eprint!("{}", String::from_utf8_lossy(&peer.stdout));
}

#[test]
fn steps_of_all_are_told_where_there_are_any() {
    let (splits, folder) = (Splits::shared(), tempfile::tempdir().unwrap());
    let (judged, file) = (splits.path("judged"), folder.path().join("steps.parquet"));
    let file = file.display().to_string();
    let said = |words: &[&str]| stderr(&run(2, &[&["why", &judged][..], words].concat()));
    let none = said(&["--all", "-o", &file]);
    assert!(none.contains("no step of it is in a checkpoint") && !Path::new(&file).exists(), "{none}");
    assert!(said(&["--all"]).contains("--out"), "a file must be named");
    assert!(said(&["a/key", "--all", "-o", &file]).contains("cannot be used with"));
    assert!(said(&["--all", "-o", "steps.csv"]).contains("name it .parquet"));
}

/// A key alone that stands for two samples of a shard decides nothing: the shard is refused, and neither is dropped in silence.
#[test]
fn a_key_alone_of_two_samples_is_refused_where_it_is_trained_on() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let mut members = Vec::new();
    for entry in tar::Archive::new(fs::File::open(world.path("data/shards/00000.tar")).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (name, mut bytes) = (entry.path().unwrap().display().to_string(), Vec::new());
        entry.read_to_end(&mut bytes).unwrap();
        members.push((name, bytes));
    }
    let key = members[0].0.split('.').next().unwrap().to_owned();
    let twice: Vec<_> = members.iter().filter(|(name, _)| name.starts_with(&key)).cloned().collect();
    let shard = folder.path().join("twice.tar");
    let mut out = tar::Builder::new(fs::File::create(&shard).unwrap());
    for (name, bytes) in members.iter().chain(&twice) {
        append(&mut out, name, &bytes[..]);
    }
    out.into_inner().unwrap();
    let keys: BTreeSet<&str> = members.iter().map(|(name, _)| name.split('.').next().unwrap()).collect();
    let list = folder.path().join("s.keys");
    fs::write(&list, keys.iter().map(|key| format!("{key}\n")).collect::<String>()).unwrap();
    let (shard, list) = (shard.display().to_string(), list.display().to_string());
    let into = folder.path().join("run");
    let said = stderr(&run(2, &words(&train(&shard, &into, &["--split", &list, "--steps", "6"]))));
    let due = format!("twice.tar/{key}: another sample of this key came before");
    assert!(said.contains(&due) && !said.contains("was exchanged"), "{said}");
}

/// Of a shard that is gone nobody knows whether a list of uids or of keys alone has samples of it: it is told as without a split.
#[test]
fn a_shard_that_is_gone_is_told_where_a_list_names_no_shards() {
    let (world, splits, folder) = (World::shared(), Splits::shared(), tempfile::tempdir().unwrap());
    let shards = folder.path().join("shards");
    fs::create_dir(&shards).unwrap();
    for shard in 0..5 {
        let name = format!("{shard:05}.tar");
        fs::copy(world.path(&format!("data/shards/{name}")), shards.join(name)).unwrap();
    }
    fs::write(shards.join("00005_stats.json"), r#"{"count": 9, "successes": 6}"#).unwrap();
    for (form, told) in [("npy", true), ("keys", true), ("txt", false), ("parquet", false)] {
        let split = splits.path(&format!("core.{form}"));
        let more = ["--split", &split, "--steps", "6", "--max-rejects", "6"];
        let said = stderr(&run(0, &words(&train(&shards.display().to_string(), &folder.path().join(form), &more))));
        assert_eq!(said.contains("shards that are gone"), told, "{form}: {said}");
    }
}
