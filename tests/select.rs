//! `trommel select` and `trommel verify`, driven as a user drives them, over ledgers that the ledger's own writers made.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "../operators/select/tests/world.rs"]
mod world;

use std::path::Path;
use std::process::Command;

use common::memory::peak_bytes;
use common::{World, peer, run, stderr, trommel};
use serde_json::Value;
use world::{Dice, Row, make};

const BENCHMARKS: [&str; 2] = ["val", "sketch"];

/// Four shards of a hundred samples; every fifth could not be judged, every seventh has no caption.
fn rows(shard: u64) -> impl Iterator<Item = Row> {
    let mut dice = Dice(shard);
    (0..100).map(move |at| Row {
        key: format!("{at:04}"),
        uid: Some(format!("{:x}", (u128::from(dice.next()) << 64 | u128::from(dice.next())) >> dice.below(70))),
        rejected: at % 5 == 4,
        reason: if at % 5 == 4 {
            Some("image_decode")
        } else if at % 7 == 0 {
            Some("no_caption")
        } else {
            None
        },
        scores: BENCHMARKS.map(|_| (dice.below(64) as f64 / 64.0, Some(dice.below(2) as u32))).into(),
    })
}

fn ledger(root: &Path, judged: u64) -> String {
    let shard = |at: u64| (format!("{at:05}.tar"), (at < judged).then(|| rows(at)));
    make(root, &BENCHMARKS, (0..4).map(shard).collect());
    root.display().to_string()
}

fn json(out: &std::process::Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(out)))
}

/// Keys of a split's list.
fn keys(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(String::from).collect()
}

#[test]
fn one_reading_makes_every_split_of_a_study() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, out) = (ledger(&folder.path().join("run"), 4), folder.path().join("out"));
    let into = out.display().to_string();
    let rules = [
        "val=near@val",
        "sketch=near@sketch",
        "combined=near",
        "far150=far:150",
        "far50=far:50",
        "near-N=near-N:100",
        "rand=random:100",
        "core=far:20 of combined",
        "gone=combined minus core",
        "none=far:9 of (core minus core)",
    ];
    let mut args = vec!["select", &ledger, "-o", &into, "--format", "parquet,txt", "--json"];
    args.extend(rules.iter().flat_map(|rule| ["--rule", rule]));
    let output = run(0, &args);
    let (report, said) = (json(&output), stderr(&output));
    let list = |name: &str| keys(&out.join(format!("{name}.txt")));
    let (val, sketch, combined) = (list("val"), list("sketch"), list("combined"));
    assert_eq!(combined, val.iter().filter(|key| sketch.contains(key)).cloned().collect::<Vec<_>>());
    assert!(combined.len() > 40 && val.len() > combined.len(), "{} {}", val.len(), combined.len());
    let (core, gone) = (list("core"), list("gone"));
    assert_eq!((core.len(), gone.len()), (20, combined.len() - 20));
    assert!(core.iter().all(|key| combined.contains(key) && !gone.contains(key)));
    assert!(list("far50").iter().all(|key| list("far150").contains(key)));
    assert_eq!((list("far150").len(), list("rand").len(), list("none").len()), (150, 100, 0));
    assert_eq!(report["judged"], 320);
    assert_eq!(report["rejected"], 80);
    let of = |name: &str| report["splits"].as_array().unwrap().iter().find(|split| split["name"] == name).unwrap();
    assert_eq!(of("core")["rule"], "keep-nearest:20 of drop-over-radius");
    // Every seventh of a hundred but for those that were rejected has no caption: a trainer uses the others.
    let captionless =
        |keys: &[String]| keys.iter().filter(|key| key[key.len() - 4..].parse::<u32>().unwrap() % 7 == 0).count();
    let due = combined.len() - captionless(&combined);
    assert_eq!(of("combined")["train_num_samples"], due);
    assert!(said.contains(&format!("--train-num-samples {due}")), "{said}");
    assert!(said.contains("core: 20 of 320 samples kept (6.25 %) by `keep-nearest:20 of drop-over-radius`"), "{said}");
    assert!(said.contains("320 samples of 4 shards took part; 80 could not be judged"), "{said}");
    // Whom nobody can train on has no command.
    assert_eq!(said.matches("--train-num-samples").count(), rules.len() - 1, "{said}");
    assert!(said.contains("nobody can train on it") && !said.contains("--train-num-samples 0"), "{said}");
    let short = "`keep-nearest:9 of ..` asks for 9 samples, and there are 0";
    assert!(said.contains(short) && of("none")["remarks"][0] == short, "{said}");
}

/// Every format of a split beside the run's own decisions, counted over its list of keys.
#[test]
fn a_report_tells_who_changes_sides_in_a_split() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, out) = (ledger(&folder.path().join("run"), 4), folder.path().join("out"));
    let (path, tables) = (|name: &str| folder.path().join(name).display().to_string(), folder.path().join("tables"));
    let into = out.display().to_string();
    run(0, &["select", &ledger, "--rule", "few=far:60", "-o", &into, "--format", "parquet,txt,npy"]);
    let few = keys(&out.join("few.txt"));
    let opened = trommel_ledger::read::Ledger::open(Path::new(&ledger)).unwrap();
    let (mut counts, mut turned) = ([[0; 3]; 3], Vec::new());
    for row in opened.rows().unwrap().map(Result::unwrap) {
        let name = format!("{}/{}", row.shard, row.fate.info.key);
        let sides = ["kept", "dropped", "rejected"];
        let here = sides.iter().position(|side| *side == row.fate.status.as_str()).unwrap();
        let there = if few.contains(&name) { 0 } else { here.max(1) };
        counts[here][there] += 1;
        if here != there {
            turned.push(format!("{name},{},{}", sides[here], sides[there]));
        }
    }
    assert_eq!((few.len(), counts[2], counts[0][0] + counts[1][0]), (60, [0, 0, 80], 60));
    assert!(turned.len() > 60, "{}", turned.len());
    let rows = counts.map(|row| row.map(|count: u64| count.to_string()).join(","));
    let due = format!(
        "this run,kept there,dropped there,rejected there\nkept,{}\ndropped,{}\nrejected,{}\n",
        rows[0], rows[1], rows[2]
    );
    for format in ["parquet", "txt", "npy"] {
        let split = out.join(format!("few.{format}")).display().to_string();
        let page = path("page.html");
        run(0, &["report", &ledger, "-o", &page, "--tables", &tables.display().to_string(), "--against", &split]);
        let table = |name: &str| std::fs::read_to_string(tables.join(name)).unwrap();
        assert_eq!(table("against.csv"), due, "{format}");
        assert_eq!(table("turned.csv").lines().skip(1).collect::<Vec<_>>(), turned, "{format}");
        let named = |text: &str| turned.iter().filter(|line| text.contains(line.split(',').next().unwrap())).count();
        assert_eq!(named(&table("turned.tex").replace("\\_", "_")), 50, "{format}: for people the first");
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.contains("keep-nearest:60") && page.contains("The first 50 of"), "{format}");
        assert!(!page.contains("names of the list"), "{format}");
    }
    // A uid that no sample has is told.
    let bytes = std::fs::read(out.join("few.npy")).unwrap();
    let head = |count: u64| trommel_columnar::npy::pair_head_bytes(count);
    let more = [&head(61)[..], &bytes[head(60).len()..], &[0xff; 16]].concat();
    std::fs::write(out.join("more.npy"), more).unwrap();
    let more = out.join("more.npy").display().to_string();
    run(0, &["report", &ledger, "-o", &path("page.html"), "--against", &more]);
    let due = format!("1 names of the list are no sample&#39;s here (first: {}).", "f".repeat(32));
    let page = std::fs::read_to_string(path("page.html")).unwrap();
    assert!(page.contains(&due) || page.contains(&due.replace("&#39;", "'")), "{due}");
}

/// Twenty times the rows in hardly more memory where there is little: what rules sort by goes to files, and a row costs a bit for each rule and
/// not 14 bytes. With the machine's memory it costs 80.
#[test]
fn exact_numbers_of_many_rows_take_no_room_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let shard_rows = |shard: u64| {
        let mut dice = Dice(shard);
        (0..10_000).map(move |at| Row {
            key: format!("{at:09}"),
            scores: vec![(dice.below(1 << 20) as f64 / f64::from(1 << 20), Some(dice.below(2) as u32))],
            ..Row::default()
        })
    };
    let peak = |shards: u64| {
        let at = |name: &str| folder.path().join(format!("{name}{shards}"));
        let named = |shard: u64| (format!("{shard:05}.tar"), Some(shard_rows(shard)));
        make(&at("run"), &["val"], (0..shards).map(named).collect());
        let mut select = trommel();
        select.arg("select").arg(at("run")).arg("-o").arg(at("out"));
        select.args(["--format", "txt", "--threads", "1", "--memory", "208MiB"]);
        for rule in ["far=far:9999", "rand=random:9999", "both=far:5000 of (not rand)", "under=near"] {
            select.args(["--rule", rule]);
        }
        let (status, said, peak) = peak_bytes(&mut select);
        assert_eq!(status, 0, "{said}");
        assert_eq!(keys(&at("out").join("both.txt")).len(), 5000);
        peak
    };
    let (few, many) = (peak(3), peak(60));
    assert!(many < few + (8 << 20), "{few} bytes for 30,000 rows, {many} for 600,000");
}

#[test]
fn shards_that_are_not_judged_are_said_and_refuse_exact_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(&folder.path().join("run"), 3);
    let file = folder.path().join("split.txt").display().to_string();
    let refused = stderr(&run(3, &["select", &ledger, "--rule", "far:5", "-o", &file]));
    assert!(
        refused.contains("1 of 4 shards are not judged (00003.tar)") && refused.contains("--without 00003.tar"),
        "{refused}"
    );
    assert!(!Path::new(&file).exists());
    let partly = stderr(&run(3, &["select", &ledger, "--rule", "near", "-o", &file]));
    assert!(partly.contains("1 of 4 shards are not judged (00003.tar): no split has them"), "{partly}");
    let allowed = run(0, &["select", &ledger, "--rule", "far:5", "-o", &file, "--without", "00003.tar"]);
    assert!(stderr(&allowed).contains("left out by name: 00003.tar"));
    assert_eq!(keys(Path::new(&file)).len(), 5);
    let unknown = stderr(&run(2, &["select", &ledger, "--rule", "far:5", "-o", &file, "--without", "3.tar"]));
    assert!(unknown.contains("--without 3.tar: "), "{unknown}");
}

#[test]
fn what_cannot_be_selected_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(&folder.path().join("run"), 4);
    let out = folder.path().join("out").display().to_string();
    let file = format!("{out}.parquet");
    for (args, part) in [
        (vec!["--rule", "a=near", "--rule", "b=far:5", "-o", &file], "is one file, for 2 rules"),
        (vec!["--rule", "near", "--rule", "far:5", "-o", &out], "each needs a name"),
        (vec!["--rule", "near", "-o", "x.csv"], ".csv is no format of splits"),
        (vec!["--rule", "near", "--rule", "split=random:5", "-o", &out], "two rules have"),
        (vec!["--rule", "a.items=near", "--rule", "a=random:5", "-o", &out], "a.items.parquet as their file"),
        (vec!["--rule", "near=near@val", "-o", &out], "`near` is a rule, or a word of them, and no name"),
        (vec!["--rule", "near and far:5 or random:1", "-o", &out], "parentheses say which comes first"),
        (vec!["--rule", "(near", "-o", &out], "a `(` without its `)`"),
        (vec!["--rule", "near of", "-o", &out], "is due at the end"),
        (vec!["--rule", "near per class", "-o", &out], "only an exact number"),
        (vec!["--rule", "far:5 per class", "-o", &out], "no column `class`"),
        (vec!["--rule", "near", "-o", &out, "--format", "csv"], "--format csv"),
        (vec!["--rule", "near", "-o", &file, "--format", "npy"], "--format is for a folder"),
        (vec!["--rule", "near", "-o", &file, "--without", "nowhere.tar"], "--without nowhere.tar"),
        (vec!["--rule", "near", "-o", &out, "--memory", "100MiB"], "--memory"),
        // A shard of which nothing is kept has the key too.
        (vec!["--rule", "far:1", "-o", "x.keys"], "one is kept and another is not: keys alone do not tell them apart"),
    ] {
        let said = stderr(&run(2, &[&["select", &ledger], args.as_slice()].concat()));
        assert!(said.contains(part) && said.trim_end().lines().count() == 1, "{args:?}: {said}");
    }
    let nowhere = stderr(&run(2, &["select", &out, "--rule", "near", "-o", &file]));
    assert!(nowhere.contains("cannot be read as a run folder"), "{nowhere}");
    // What is no run folder is named once, whoever asks.
    for (given, why) in
        [("gone", "there is no such folder"), ("here", "it holds no config.json"), ("here/file", "it is no folder")]
    {
        let given = folder.path().join(given);
        std::fs::create_dir_all(folder.path().join("here")).unwrap();
        std::fs::write(folder.path().join("here/file"), "text").unwrap();
        let given = given.display().to_string();
        let due = format!("trommel: {given} cannot be read as a run folder: {why}");
        for words in [
            vec!["why", &given, "key"],
            vec!["select", &given, "--rule", "near", "-o", &file],
            vec!["report", &given, "-o", "page.html"],
        ] {
            assert_eq!(stderr(&run(2, &words)).trim_end(), due, "{words:?}");
        }
    }
    // Names of shards stand in the plan and in the manifest, which must agree.
    let plan = folder.path().join("run/plan.json");
    let text = std::fs::read_to_string(&plan).unwrap();
    std::fs::write(&plan, text.replace("\"00001.tar\"", "\"00009.tar\"")).unwrap();
    let said = stderr(&run(2, &["select", &ledger, "--rule", "near", "-o", &file]));
    assert!(said.contains("shard 1 is `00009.tar` in plan.json and `00001.tar` in the manifest"), "{said}");
}

/// A split checked against the same run, another one over the same shards, and one with other radii.
#[test]
fn a_published_split_is_checked_row_by_row() {
    let folder = tempfile::tempdir().unwrap();
    let mine = ledger(&folder.path().join("mine"), 4);
    let file = folder.path().join("core.parquet");
    let split = file.display().to_string();
    run(0, &["select", &mine, "--rule", "far:30@val minus random:10%", "-o", &split, "--seed", "7"]);
    let head = folder.path().join("core.split.json").display().to_string();
    for which in [&split, &head] {
        let said = run(0, &["verify", which, &mine]);
        assert!(String::from_utf8_lossy(&said.stdout).starts_with("equal: "), "{}", stderr(&said));
    }

    // A split that leaves a shard out, and a run that never had it.
    let (fewer, less) = (folder.path().join("fewer"), folder.path().join("less.parquet").display().to_string());
    make(&fewer, &BENCHMARKS, (0..3).map(|at| (format!("{at:05}.tar"), Some(rows(at)))).collect());
    run(0, &["select", &mine, "--rule", "far:30@val", "-o", &less, "--without", "00003.tar"]);
    let said = run(0, &["verify", &less, &fewer.display().to_string()]);
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("equal: "), "{}", stderr(&said));

    // The same shards, but for one score of somebody else's embedder.
    let other = folder.path().join("other");
    let shard = |at: u64| {
        let changed = move |(index, mut row): (usize, Row)| {
            if at == 2 && index == 3 {
                row.scores[0].0 = 1.0;
            }
            row
        };
        (format!("{at:05}.tar"), Some(rows(at).enumerate().map(changed)))
    };
    make(&other, &BENCHMARKS, (0..4).map(shard).collect());
    let other = other.display().to_string();
    let out = run(1, &["verify", &split, &other]);
    let lines = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(lines.contains("+ 00002.tar/0003 (index 3): kept by the run only"), "{lines}{}", stderr(&out));
    assert_eq!(lines.lines().count(), 2, "it took the place of one other: {lines}");
    let report = json(&run(1, &["verify", &head, &other, "--json"]));
    assert_eq!((&report["equal"], &report["rows"]["only_in_run"]), (&false.into(), &1.into()), "{report}");
    std::fs::rename(&file, folder.path().join("elsewhere.parquet")).unwrap();
    let told = stderr(&run(1, &["verify", &head, &other]));
    assert!(told.contains("rows are not beside it"), "{told}");

    // Other radii are another question.
    let text = std::fs::read_to_string(&head).unwrap();
    std::fs::write(&head, text.replace("of val", "of another val")).unwrap();
    let refused = stderr(&run(2, &["verify", &head, &mine]));
    assert!(
        refused.contains("benchmark val and its radii: the split has") && refused.contains("of another val"),
        "{refused}"
    );
}

/// Rows of [`rows`] with the scores of some benchmarks only, in another order perhaps.
fn rows_of(shard: u64, benchmarks: &'static [usize]) -> impl Iterator<Item = Row> {
    rows(shard).map(move |row| Row { scores: benchmarks.iter().map(|&at| row.scores[at]).collect(), ..row })
}

/// A rule that names no benchmark means those that the split's own run had: by what they are, whatever another run calls them or has beside them.
#[test]
fn a_split_is_checked_by_the_benchmarks_that_it_was_made_with() {
    let folder = tempfile::tempdir().unwrap();
    let make_one = |name: &str, called: &[&str], of: &'static [usize]| {
        let root = folder.path().join(name);
        make(&root, called, (0..4).map(|at| (format!("{at:05}.tar"), Some(rows_of(at, of)))).collect());
        root
    };
    let one = make_one("one", &["val"], &[0]).display().to_string();
    let more = make_one("more", &["sketch", "val", "third"], &[1, 0, 1]).display().to_string();
    let renamed = make_one("renamed", &["sketch", "imagenet"], &[1, 0]);
    // What the test points are, which the ledgers' maker takes from their names.
    let are = |root: &Path, old: &str, new: &str| {
        let config = std::fs::read_to_string(root.join("config.json")).unwrap();
        std::fs::write(root.join("config.json"), config.replace(old, new)).unwrap();
    };
    are(&renamed, "of imagenet", "of val");
    let renamed = renamed.display().to_string();
    let other = make_one("other", &["val"], &[0]);
    are(&other, "of val", "of another");
    for (at, rule) in [
        "near",
        "far:30",
        "drop-above:0.5 or near@val",
        "far:20 of near minus keep-lowest:9@max_similarity.val",
        "where:max_similarity.val>=0.5",
        "random:40 per hits.val",
    ]
    .into_iter()
    .enumerate()
    {
        let split = folder.path().join(format!("{at}.parquet")).display().to_string();
        run(0, &["select", &one, "--rule", rule, "-o", &split, "--seed", "3"]);
        for run_folder in [&one, &more, &renamed] {
            let out = trommel().args(["verify", &split, run_folder]).output().unwrap();
            let (text, said) = (String::from_utf8_lossy(&out.stdout).into_owned(), stderr(&out));
            assert!(out.status.code() == Some(0) && text.starts_with("equal: "), "{rule} {run_folder}: {text}{said}");
        }
        let said = stderr(&run(2, &["verify", &split, &other.display().to_string()]));
        assert!(said.contains("benchmark val and its radii: the split has"), "{rule}: {said}");
    }
    // One that names them is asked of them alone, and a run that lacks one is refused.
    let split = folder.path().join("both.parquet").display().to_string();
    run(0, &["select", &more, "--rule", "near@val minus near@sketch", "-o", &split]);
    run(0, &["verify", &split, &renamed]);
    let said = stderr(&run(2, &["verify", &split, &one]));
    assert!(said.contains("benchmark sketch and its radii") && said.contains("the run null"), "{said}");
}

/// Two splits of one ledger: who changes sides, as sets of lines say.
#[test]
fn a_split_beside_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(&folder.path().join("run"), 4);
    let into = folder.path().join("out").display().to_string();
    let rules = ["--rule", "a=far:50@val", "--rule", "b=far:60@sketch"];
    run(0, &[&["select", &ledger, "-o", &into, "--format", "parquet,txt"], &rules[..]].concat());
    let list = |name: &str| keys(Path::new(&format!("{into}/{name}.txt")));
    let (a, b) = (list("a"), list("b"));
    let (gone, come) =
        (a.iter().filter(|key| !b.contains(key)).count(), b.iter().filter(|key| !a.contains(key)).count());
    let file = |name: &str| format!("{into}/{name}");
    let out = run(1, &["verify", &file("a.parquet"), &file("b.split.json"), "--show", "1000"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let lines = |sign: char| text.lines().filter(|line| line.starts_with(sign)).count();
    assert!((lines('-'), lines('+')) == (gone, come) && gone > 0 && come > 10, "{text}");
    assert!(
        text.lines().filter(|line| line.starts_with('+')).all(|line| line.ends_with("kept by the other only")),
        "{text}"
    );
    let said = stderr(&out);
    assert!(said.contains(&format!("{gone} only by the split, {come} only by the other")), "{said}");
    run(0, &["verify", &file("a.split.json"), &file("a.parquet")]);
    // What is said of a run says nothing of a split; a seed says nothing where nobody draws.
    for (flag, value) in [("--against", "emb"), ("--split", "other.parquet"), ("--table", "scores.parquet")] {
        let said = stderr(&run(2, &["verify", &file("a.parquet"), &file("b.split.json"), flag, value]));
        assert!(said.contains(&format!("{flag} is for a run; ")), "{said}");
    }
    let seeded =
        |rule: &str| stderr(&run(0, &["select", &ledger, "--rule", rule, "-o", &file("s.txt"), "--seed", "3"]));
    assert!(seeded("near").contains("seeds that nobody reads, for nothing is drawn: 1 (first: --seed)"));
    assert!(
        !seeded("near and (random:5 of far:9)").contains("nobody reads") && !seeded("random:5%").contains("nobody")
    );
    std::fs::rename(file("b.parquet"), file("c.parquet")).unwrap();
    assert!(
        stderr(&run(2, &["verify", &file("a.parquet"), &file("b.split.json")])).contains("its rows are not beside it")
    );
    assert!(stderr(&run(2, &["verify", &file("a.parquet"), &file("b.txt")])).contains("no split"));
}

/// Keywords by the thousand are one selection, and its split is checked like any other.
#[test]
fn a_list_of_keywords_is_selected_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(&folder.path().join("run"), 4);
    let split = folder.path().join("words.parquet").display().to_string();
    // By hand: of the hundred keys of a shard those that end with 4 or 9 could not be judged.
    for (words, step, due) in [(150, 2, 4 * 40), (1_100, 1, 4 * 80)] {
        let of = |at: usize| format!("where:key~{:04}", at * step);
        let rule = format!("far:999 of ({})", (0..words).map(of).collect::<Vec<_>>().join(" or "));
        let said = stderr(&run(0, &["select", &ledger, "--rule", &rule, "-o", &split]));
        assert!(said.contains(&format!("{due} of 320 samples kept")), "{said:.200}");
        assert!(
            said.contains(&format!("`keep-nearest:999 of ..` asks for 999 samples, and there are {due}")),
            "{said:.200}"
        );
        run(0, &["verify", &split, &ledger]);
    }
}

#[test]
fn what_is_no_split_is_refused_with_what_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(&folder.path().join("run"), 4);
    let out = folder.path().join("out");
    let into = out.display().to_string();
    run(0, &["select", &ledger, "--rule", "x=far:5", "--rule", "none=far:0", "-o", &into, "--format", "txt,npy"]);
    for (which, parts) in [
        ("", ["a folder", ".split.json of one split"]),
        ("/x.txt", ["a list does not say by which rule", "x.split.json, which lies beside it"]),
        ("/x.npy", ["a list does not say by which rule", "x.split.json, which lies beside it"]),
        ("/y.split.json", ["no split", "No such file"]),
        ("/y.parquet", ["no split", "No such file"]),
    ] {
        let said = stderr(&run(2, &["verify", &format!("{into}{which}"), &ledger]));
        assert!(
            parts.iter().all(|part| said.contains(part)) && said.trim_end().lines().count() == 1,
            "{which}: {said}"
        );
    }
    let verify = ["verify", &format!("{into}/x.split.json"), &ledger];
    run(0, &verify);
    // The list beside it is the one that it tells of; what an earlier version has written is said to be unread.
    let (list, head) = (out.join("x.txt"), out.join("x.split.json"));
    let lines = std::fs::read_to_string(&list).unwrap();
    std::fs::write(&list, lines.split_once('\n').unwrap().1).unwrap();
    let said = stderr(&run(1, &verify));
    assert!(said.contains("x.txt: it is not the list that") && said.contains("x.split.json tells of"), "{said}");
    let mut told: Value = serde_json::from_str(&std::fs::read_to_string(&head).unwrap()).unwrap();
    told.as_object_mut().unwrap().remove("lists").unwrap();
    std::fs::write(&head, told.to_string()).unwrap();
    let said = stderr(&run(0, &verify));
    assert!(said.contains("x.txt was not read") && said.contains("x.npy was not read"), "{said}");
}

/// numpy, pyarrow and polars read what was written, as those who use DataComp and tables do.
#[test]
fn peers_read_what_was_selected() {
    let Some(python) = peer("numpy, pyarrow, polars and duckdb") else { return };
    let folder = tempfile::tempdir().unwrap();
    let run_folder = folder.path().join("run");
    let ledger = ledger(&run_folder, 4);
    let out = folder.path().join("out").display().to_string();
    let rules = ["--rule", "some=far:77@val and drop-above:0.75", "--rule", "none=far:0", "--rule", "all=not far:0"];
    run(0, &[&["select", &ledger, "-o", &out, "--format", "parquet,npy,txt"], &rules[..]].concat());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/split_readback.py");
    let output = Command::new(python).arg(script).arg(&run_folder).arg(&out).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("3 splits equal"), "{text}");
}

#[test]
fn help_tells_the_rules() {
    let out = trommel().args(["select", "--help"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["drop-over-radius[@B,..]", "keep-highest:N@C", "where:C>=T", "per class of"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Tables of pyarrow and polars, of every width and kind of column, found by key, uid, file and place; and what does not match is refused.
#[test]
fn tables_of_others_are_joined_and_what_does_not_match_is_refused() {
    let Some(python) = peer("numpy, pyarrow and polars") else { return };
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(&folder.path().join("run"), 4);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/join_tables.py");
    let made = Command::new(&python).arg(&script).arg(&ledger).arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let table = |name: &str| folder.path().join(name).display().to_string();
    let out = table("out");
    // The script has written which samples each rule keeps, by pyarrow's own reading of its tables.
    let cases: Value = serde_json::from_slice(&std::fs::read(folder.path().join("expected.json")).unwrap()).unwrap();
    for (at, case) in cases.as_array().unwrap().iter().enumerate() {
        let join = case["join"].as_str().unwrap().replace("{}", &folder.path().display().to_string());
        let file = table(&format!("{at}.txt"));
        let output =
            run(0, &["select", &ledger, "--table", &join, "--rule", case["rule"].as_str().unwrap(), "-o", &file]);
        let due: Vec<String> =
            case["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect();
        assert_eq!(keys(Path::new(&file)), due, "{case} {}", stderr(&output));
        assert!(!due.is_empty() && due.len() < 320, "{case}");
    }
    for (join, rule, part) in [
        ("by_uid.parquet", "far:5", "no rule reads a column of it"),
        ("by_uid.parquet", "where:nothing>5", "no column `nothing`"),
        ("by_uid.parquet", "where:word>5", "column `word` is a text and no number"),
        (
            "lacking.parquet",
            "where:score>5",
            "1 of 320 samples have no row there (first: 00001.tar/0006; its first `uid` is",
        ),
        (
            "numbers.parquet",
            "where:score>5",
            "samples have no row there (first: 00000.tar/0000; its first `key` is `0`)",
        ),
        ("twice.parquet", "where:score>5", "stands in it twice"),
        ("keys.parquet", "where:score>5", "is not the only sample with this key"),
        ("short.parquet@row", "where:score>5", "319 rows; the ledger has 400, 320 of them judged"),
        ("swapped.parquet@row", "where:score>5", "has another `uid`"),
        ("nameless.parquet", "where:score>5", "neither `key` nor `uid` is among its columns"),
        ("no.parquet", "where:score>5", "No such file"),
        ("by_uid.parquet", "where:huge>5", "whole numbers are read below 2^53"),
        ("by_uid.parquet", "where:when>5", "column `when`"),
        ("by_uid.parquet", "not where:safe=true", "`true` is none (true and false are read as 1 and 0)"),
        ("by_uid.parquet", "where:score>5 and where:index!=five", "column `index` is a number, and `five` is none"),
    ] {
        let output =
            trommel().args(["select", &ledger, "--table", &table(join), "--rule", rule, "-o", &out]).output().unwrap();
        let said = stderr(&output);
        assert!(output.status.code() != Some(0) && said.contains(part), "{join} {rule}: {said}");
    }
    let two = ["--table", &table("by_uid.parquet"), "--table", &format!("b={}", table("shards"))];
    let said = stderr(&run(2, &[&["select", &ledger, "--rule", "where:score>5", "-o", &out], &two[..]].concat()));
    assert!(said.contains("column `score` is in several tables"), "{said}");
    run(0, &[&["select", &ledger, "--rule", "where:b.score>5 and where:word=cat", "-o", &out], &two[..]].concat());
    // The file of a shard that is left out is not read, and is no stranger either.
    let (all, some, shards) = (table("all.txt"), table("some.txt"), table("shards"));
    let scored = ["select", &ledger, "--table", &shards, "--rule", "where:score>5", "-o"];
    run(0, &[&scored[..], &[&all]].concat());
    run(0, &[&scored[..], &[&some, "--without", "00001.tar"]].concat());
    let due: Vec<String> = keys(all.as_ref()).into_iter().filter(|key| !key.starts_with("00001.tar/")).collect();
    assert!(keys(some.as_ref()) == due && due.len() > 10 && due.len() < keys(all.as_ref()).len());
    // Whoever checks the split needs the same columns.
    let split = format!("{out}/split.split.json");
    run(0, &[&["verify", &split, &ledger], &two[..]].concat());
    let other = ["--table", &table("by_uid.parquet"), "--table", &format!("b={}", table("other"))];
    let said = stderr(&run(2, &[&["verify", &split, &ledger], &other[..]].concat()));
    assert!(said.contains("the joined columns are other ones"), "{said}");
}

/// What radii a benchmark had that was moved away is not known: it does not count as none.
#[test]
fn a_report_does_not_take_radii_that_are_gone_for_none() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let copied = Command::new("cp").args(["-r", &world.path("radii/photo"), &path("photo")]).status().unwrap();
    assert!(copied.success());
    let mut prune = world.prune(&folder.path().join("run"));
    let at = prune.iter().position(|word| word.starts_with("photo=")).unwrap();
    prune[at] = format!("photo={}", path("photo"));
    run(0, &prune.iter().map(String::as_str).collect::<Vec<_>>());
    let gap = || {
        run(0, &["report", &path("run"), "-o", &path("page.html"), "--tables", &path("tables")]);
        let table = std::fs::read_to_string(path("tables/gap.csv")).unwrap();
        let row = table.lines().find(|line| line.starts_with("photo,")).unwrap().to_owned();
        (row.split(',').map(String::from).collect::<Vec<_>>(), std::fs::read_to_string(path("page.html")).unwrap())
    };
    let (before, page) = gap();
    assert!(before[2] == before[1] && !page.contains("What radii"), "{before:?}");
    std::fs::rename(path("photo"), path("elsewhere")).unwrap();
    let (after, page) = gap();
    assert_eq!((&after[1], &after[2..6]), (&before[1], &[(); 4].map(|()| String::new())[..]));
    assert_eq!(after[6..], before[6..]);
    assert!(page.contains("What radii photo has is not known"));
}
