//! `trommel inject`: class folders as shards, told apart in the ledger; read by webdataset.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use common::members::append;
use common::{World, peer, run, stderr};
use serde_json::Value;
use trommel_core::sample::Status;
use trommel_ledger::read::Ledger;

/// Members of all shards in a folder, by an independent reader.
fn members(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut tars: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    tars.retain(|path| path.extension().is_some_and(|end| end == "tar"));
    tars.sort();
    let mut all = Vec::new();
    for path in tars {
        for entry in tar::Archive::new(fs::File::open(path).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let (name, mut bytes) = (entry.path().unwrap().display().to_string(), Vec::new());
            entry.read_to_end(&mut bytes).unwrap();
            all.push((name, bytes));
        }
    }
    all
}

#[test]
fn chosen_pictures_join_a_pool_in_copies_and_the_ledger_tells_them_apart() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    run(0, &["synth", &place("data"), "--shards", "1", "--samples", "30", "--benchmark-pictures", "4"]);
    let photo = place("data/benchmarks/photo");
    let inject = |out: &str, items: &str, more: &[&str]| {
        let words = ["inject", &photo, "-o", &place(out), "--items", items, "--seed", "7", "--json"];
        run(0, &[&words, more].concat())
    };
    let caption = ["--copies", "3", "--shard-samples", "10", "--caption", "one {class}, on purpose"];
    let report: Value = serde_json::from_slice(&inject("few", "25 %", &caption).stdout).unwrap();
    let figures = ["pictures", "items", "copies", "samples", "shards"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(figures, [48, 12, 3, 36, 4]);

    let members = members(&folder.path().join("few"));
    let named = |end: &str| members.iter().filter(|(name, _)| name.ends_with(end)).collect::<Vec<_>>();
    let (pictures, metas, captions) = (named(".jpg"), named(".json"), named(".txt"));
    assert_eq!((members.len(), pictures.len(), metas.len(), captions.len()), (108, 36, 36, 36));
    let mut copies: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for ((picture, meta), caption) in pictures.iter().zip(&metas).zip(&captions) {
        let meta: Value = serde_json::from_slice(&meta.1).unwrap();
        let source = meta["source"].as_str().unwrap();
        assert_eq!(picture.1, fs::read(Path::new(&photo).join(source)).unwrap(), "the original bytes of {source}");
        let class = source.split('/').next().unwrap();
        assert_eq!(String::from_utf8(caption.1.clone()).unwrap(), format!("one {class}, on purpose"));
        assert!(copies.entry(source.into()).or_default().insert(meta["copy"].as_u64().unwrap()));
    }
    assert!(copies.len() == 12 && copies.values().all(|of| *of == BTreeSet::from([0, 1, 2])), "{copies:?}");

    // The same settings give the same bytes, and nothing of an earlier start stays; fewer items are among more; other settings find the folder occupied.
    let few = |name: &str| folder.path().join("few").join(name);
    for stale in ["00004.tar", "00004_stats.json", "100000.tar"] {
        fs::copy(few("00003.tar"), few(stale)).unwrap();
    }
    inject("few", "25%", &caption);
    assert!(!few("00004_stats.json").exists() && few("00003_stats.json").exists());
    let mark: Value = serde_json::from_slice(&fs::read(few("inject.json")).unwrap()).unwrap();
    assert_eq!(mark["finished"], true);
    assert_eq!(self::members(&folder.path().join("few")), members);
    let sources = |out: &str| -> BTreeSet<String> {
        let all = self::members(&folder.path().join(out));
        let metas = all.iter().filter(|(name, _)| name.ends_with(".json"));
        metas
            .map(|(_, meta)| serde_json::from_slice::<Value>(meta).unwrap()["source"].as_str().unwrap().into())
            .collect()
    };
    inject("more", "30", &[]);
    assert!(sources("more").len() == 30 && sources("few").is_subset(&sources("more")));
    let said = stderr(&run(2, &["inject", &photo, "-o", &place("few")]));
    assert!(said.contains("is not empty and was not made with these settings"), "{said}");
    // A seed that draws nothing is one of the settings all the same.
    let all = place("all");
    let said = stderr(&run(0, &["inject", &photo, "-o", &all, "--seed", "7"]));
    assert!(said.contains("seeds by which nothing is drawn; the folder goes on with this one only: 1"), "{said}");
    let said = stderr(&run(2, &["inject", &photo, "-o", &all]));
    assert!(said.contains("is not empty and was not made with these settings"), "{said}");
    for (words, due) in [
        (["--caption", "a photo"], "caption `a photo`: write {class} where the class belongs"),
        (["--items", "49"], "--items: 49 of 48 pictures"),
        (["--items", "half"], "--items half: write a number of pictures or a share"),
        (["--name", "a/b"], "--name a/b: letters, digits"),
        (["--copies", "0"], "--copies and --shard-samples are 1 at least"),
    ] {
        let said = stderr(&run(2, &[&["inject", &photo, "-o", &place("none")][..], &words].concat()));
        assert!(said.contains(due) && said.trim_end().lines().count() == 1, "{said}");
    }

    // Whoever gave no name hears that the folder's is none, by the flag that gives one; `.` is called as the folder is.
    let dotted = place("v2.1");
    std::os::unix::fs::symlink(&photo, &dotted).unwrap();
    let said = stderr(&run(2, &["inject", &dotted, "-o", &place("none")]));
    assert!(said.contains("give the set a name by --name") && said.contains("`v2.1`, cannot"), "{said}");
    run(0, &["inject", &dotted, "-o", &place("v2"), "--name", "v2-1", "--items", "1"]);
    let here = place("data/benchmarks/photo/.");
    let dot: Value =
        serde_json::from_slice(&run(0, &["inject", &here, "-o", &place("dot"), "--items", "1", "--json"]).stdout)
            .unwrap();
    assert!(dot["argument"].as_str().unwrap().starts_with("photo="), "{dot}");

    // Folders called by numbers stand in the order of the numbers; what is no picture is refused by its place.
    let numbered = folder.path().join("numbered");
    for name in ["10", "2", "0"] {
        fs::create_dir_all(numbered.join(name)).unwrap();
        fs::copy(Path::new(&photo).join("cup/0000.jpg"), numbered.join(name).join("a.JPEG")).unwrap();
    }
    fs::write(folder.path().join("names.txt"), "nought\ntwo\nten\n").unwrap();
    let numbers = numbered.display().to_string();
    fs::write(numbered.join("2/a.txt"), "a cup of two").unwrap();
    let words =
        ["inject", &numbers, "-o", &place("classes"), "--classnames", &place("names.txt"), "--caption", "{class}"];
    let said = stderr(&run(0, &words));
    let due =
        format!("captions beside pictures, in whose place the caption of their class stands: 1 (first: {numbers})");
    assert!(said.contains(&due), "{said}");
    let all = self::members(&folder.path().join("classes"));
    let metas = all.iter().filter(|(name, _)| name.ends_with(".json"));
    let metas: Vec<Value> = metas.map(|(_, meta)| serde_json::from_slice(meta).unwrap()).collect();
    let called: BTreeMap<&str, &str> =
        metas.iter().map(|meta| (meta["source"].as_str().unwrap(), meta["caption"].as_str().unwrap())).collect();
    assert_eq!(called, BTreeMap::from([("0/a.JPEG", "nought"), ("2/a.JPEG", "two"), ("10/a.JPEG", "ten")]));
    fs::write(numbered.join("2/b.png"), "a page about pictures").unwrap();
    let said = stderr(&run(2, &["inject", &numbers, "-o", &place("bad")]));
    assert!(said.contains("2/b.png: no picture of a format that readers of shards look for, jpg;png"), "{said}");

    // Judged beside the pool.
    let argument = report["argument"].as_str().unwrap();
    let (pool, into) = (place("data/shards/00000.tar"), place("run"));
    run(0, &["prune", &pool, argument, "--rule", "random:50%", "--run", &into, "--max-rejects", "50"]);
    let ledger = Ledger::open(Path::new(&into)).unwrap();
    let rows: Vec<_> = ledger.rows().unwrap().map(|row| row.unwrap()).collect();
    let url = |row: &trommel_ledger::read::LedgerRow| row.fate.info.url.clone().unwrap_or_default();
    let injected: Vec<_> = rows.iter().filter(|row| row.shard.starts_with("photo/")).collect();
    assert_eq!((rows.len(), injected.len()), (66, 36));
    let urls: BTreeSet<String> = injected.iter().map(|row| url(row)).collect();
    let due = copies.keys().flat_map(|source| (0..3).map(move |copy| format!("injected:photo/{source}#{copy}")));
    assert_eq!(urls, due.collect());
    assert!(rows.iter().filter(|row| !row.shard.starts_with("photo/")).all(|row| !url(row).starts_with("injected:")));

    // Exact numbers of both, drawn by a seed: a mix.
    let mix = "(random:9 of where:shard~photo/) or (random:18 of not where:shard~photo/)";
    let list = |seed: &str| {
        let file = place(&format!("mix{seed}.txt"));
        run(0, &["select", &into, "--rule", mix, "--seed", seed, "-o", &file]);
        fs::read_to_string(file).unwrap()
    };
    let lines = list("1");
    let of_photo = lines.lines().filter(|line| line.starts_with("photo/")).count();
    assert_eq!((lines.lines().count(), of_photo), (27, 9), "{lines}");
    assert_ne!(lines, list("2"));
    // A source that has fewer makes another ratio, which is said.
    let (short, file) = (mix.replace("random:9", "random:90"), place("short.txt"));
    let said = stderr(&run(0, &["select", &into, "--rule", &short, "-o", &file]));
    assert!(said.contains("`random:90 of ..` asks for 90 samples, and there are 36"), "{said}");
}

/// The radii are the reference's own: whoever gives one lies on it, and not over it.
#[test]
fn a_reference_set_that_joins_the_pool_is_never_dropped() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let place = |name: &str| folder.path().join(name).display().to_string();
    let words = [
        "inject",
        &world.path("data/reference"),
        "-o",
        &place("out"),
        "--items",
        "96",
        "--shard-samples",
        "30",
        "--json",
    ];
    let report: Value = serde_json::from_slice(&run(0, &words).stdout).unwrap();
    let (shards, argument, into) = (world.shards(), report["argument"].as_str().unwrap(), place("run"));
    let mut words = vec!["prune", &shards, argument, "--run", &into, "--workers", "2", "--embed-batch", "24"];
    let judging = world.judging();
    words.extend(judging.iter().map(String::as_str));
    run(0, &words);
    let ledger = Ledger::open(Path::new(&into)).unwrap();
    let rows: Vec<_> = ledger.rows().unwrap().map(|row| row.unwrap()).collect();
    let (injected, pool): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.shard.starts_with("reference/"));
    assert_eq!(injected.len() as u64, report["samples"].as_u64().unwrap());
    assert!(injected.iter().all(|row| row.fate.status == Status::Kept));
    assert!(pool.iter().any(|row| row.fate.status == Status::Dropped), "the rule drops nobody at all");
    for benchmark in 0..2 {
        let margins = injected.iter().map(|row| row.fate.scores[benchmark].margin.unwrap());
        assert_eq!(margins.fold(f64::NEG_INFINITY, f64::max), 0.0, "nobody gives the radii of benchmark {benchmark}");
    }
}

/// Class folders called by identifiers, captioned by the names that a table gives them: ImageNet's JSON, or lines of two columns.
#[test]
fn class_folders_are_captioned_by_a_table_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    run(0, &["synth", &place("data"), "--shards", "0", "--benchmark-pictures", "2"]);
    let mut classes: Vec<_> =
        fs::read_dir(place("data/benchmarks/photo")).unwrap().map(|it| it.unwrap().path()).collect();
    classes.retain(|path| path.is_dir());
    classes.sort();
    fs::create_dir(place("called")).unwrap();
    let (mut json, mut lines, mut names) = (serde_json::Map::new(), String::new(), BTreeMap::new());
    for (at, class) in classes.iter().enumerate() {
        let (identifier, name) = (format!("n{:08}", 7 * at), format!("kind {at}"));
        std::os::unix::fs::symlink(class, folder.path().join("called").join(&identifier)).unwrap();
        json.insert(at.to_string(), serde_json::json!([identifier, name]));
        lines += &format!("{identifier}\t{name}\n");
        names.insert(identifier, name);
    }
    fs::write(place("table.json"), Value::Object(json).to_string()).unwrap();
    fs::write(place("table.tsv"), &lines).unwrap();
    let inject = |status: i32, out: &str, table: &str| {
        let words = ["inject", &place("called"), "-o", &place(out), "--class-table", &place(table)];
        stderr(&run(status, &[&words[..], &["--caption", "a photo of a {class}"]].concat()))
    };
    for table in ["table.json", "table.tsv"] {
        inject(0, &format!("from {table}"), table);
        let all = members(&folder.path().join(format!("from {table}")));
        assert_eq!(all.len(), 3 * 2 * classes.len());
        for sample in all.chunks(3) {
            let [_, (_, meta), (_, caption)] = sample else { panic!("three members are due") };
            let meta: Value = serde_json::from_slice(meta).unwrap();
            let identifier = meta["source"].as_str().unwrap().split('/').next().unwrap();
            assert_eq!(String::from_utf8_lossy(caption), format!("a photo of a {}", names[identifier]), "{meta}");
        }
    }
    fs::write(place("short.tsv"), lines.split_once('\n').unwrap().1).unwrap();
    assert!(inject(2, "no", "short.tsv").contains("1 class folders are not in it (first: n00000000)"));
}

/// Shards whose samples bear their class's number, as webdataset's `cls` does, with equal keys in two of them.
#[test]
fn labelled_shards_join_a_pool_with_captions() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    run(0, &["synth", &place("data"), "--shards", "0", "--benchmark-pictures", "3"]);
    let picture = |number: usize| fs::read(place(&format!("data/benchmarks/photo/cup/000{number}.jpg"))).unwrap();
    let labelled = |name: &str, samples: &[(&str, &str, Vec<u8>)]| {
        fs::create_dir_all(folder.path().join("labelled")).unwrap();
        let mut tar = tar::Builder::new(fs::File::create(folder.path().join("labelled").join(name)).unwrap());
        for (key, class, bytes) in samples {
            for (member, bytes) in [(format!("{key}.cls"), class.as_bytes()), (format!("{key}.jpg"), bytes.as_slice())]
            {
                append(&mut tar, member, bytes);
            }
        }
        tar.finish().unwrap();
    };
    labelled("train-000.tar", &[("a/0", "1", picture(0)), ("a/1", "0", picture(1))]);
    labelled("train-001.tar", &[("a/0", "2", picture(2))]);
    fs::write(place("names.txt"), "tench\ngoldfish\ngreat white shark\n").unwrap();
    let due = [
        ("train-000.tar/a/0", "a photo of a goldfish", picture(0)),
        ("train-000.tar/a/1", "a photo of a tench", picture(1)),
        ("train-001.tar/a/0", "a photo of a great white shark", picture(2)),
    ];
    let names = ["--classnames", &place("names.txt")];
    for (given, out) in [("labelled", "one"), ("labelled/train-{000..001}.tar", "two"), ("labelled/*.tar", "three")] {
        run(0, &[&["inject", &place(given), "-o", &place(out), "--name", "imagenet"][..], &names].concat());
        let all = members(&folder.path().join(out));
        let found: Vec<_> = all
            .chunks(3)
            .map(|sample| {
                let [(_, picture), (_, meta), (_, caption)] = sample else { panic!("three members are due") };
                let meta: Value = serde_json::from_slice(meta).unwrap();
                (
                    meta["source"].as_str().unwrap().to_owned(),
                    String::from_utf8(caption.clone()).unwrap(),
                    picture.clone(),
                )
            })
            .collect();
        assert_eq!(
            found,
            due.clone().map(|(source, caption, picture)| (source.to_owned(), caption.to_owned(), picture)),
            "{given}"
        );
    }
    let refused = |status: i32, given: &str, more: &[&str]| {
        stderr(&run(status, &[&["inject", &place(given), "-o", &place("no"), "--name", "imagenet"][..], more].concat()))
    };
    assert!(refused(2, "labelled", &[]).contains("no classnames.txt beside the tars: --classnames FILE"));
    assert!(refused(2, "labelled/x*.tar", &names).contains("labelled/x*.tar"));
    labelled("train-001.tar", &[("b", "3", picture(2))]);
    let said = refused(2, "labelled", &names);
    assert!(said.contains("train-001.tar: b: class 3, and there are 3 names"), "{said}");
    // What the statistics of these shards promise and what did not come is lost.
    labelled("train-001.tar", &[("a/0", "2", picture(2))]);
    for (name, samples) in [("train-000", 9), ("train-002", 4)] {
        fs::write(place(&format!("labelled/{name}_stats.json")), format!("{{\"successes\": {samples}}}")).unwrap();
    }
    let said = refused(4, "labelled", &names);
    for due in [
        "fewer samples than their `_stats.json` promises: 1, 7 samples lost (first: ",
        "statistics or metadata left: 1, 4 samples lost (first: train-002, 4 samples)",
        "of 14 samples 0 were rejected and 11 lost",
    ] {
        assert!(said.contains(due), "{due}: {said}");
    }
    refused(0, "labelled", &[&names[..], &["--max-rejects", "100"]].concat());
}

#[test]
fn webdataset_reads_what_is_injected() {
    let Some(python) = peer("webdataset") else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    run(0, &["synth", &place("data"), "--shards", "0", "--benchmark-pictures", "1", "--reference-pictures", "1"]);
    run(0, &["inject", &place("data/reference"), "-o", &place("out"), "--shard-samples", "7"]);
    let script = "import sys, webdataset as wds\n\
        for s in wds.WebDataset(sys.argv[1:], shardshuffle=False):\n    print(s['__key__'], len(s['jpg']), s['txt'].decode(), sep='\\t')\n";
    let out =
        Command::new(python).args(["-c", script, &place("out/00000.tar"), &place("out/00001.tar")]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 12, "{text}");
    let keys: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(keys, (0..12).map(|at| format!("reference-{at:09}")).collect::<Vec<_>>());
    let captions: BTreeSet<&str> = rows.iter().map(|row| row[2]).collect();
    assert!(captions.len() == 12 && captions.contains("a photo of a sailboat"), "{captions:?}");
}

/// Two programs in one folder would take each other's shards for their own; what a kill has left of a shard goes.
#[test]
fn a_folder_is_written_by_one_program_at_a_time() {
    let (folder, world) = (tempfile::tempdir().unwrap(), World::shared());
    let out = folder.path().join("out");
    let inject = ["inject", &world.path("data/benchmarks/photo"), "-o", out.to_str().unwrap(), "--name", "photo"];
    run(0, &inject);
    fs::write(out.join("00007.tar.tmp"), b"half of a shard").unwrap();
    let lock = fs::File::create(out.join(".inject.lock")).unwrap();
    lock.try_lock().unwrap();
    let said = stderr(&run(1, &inject));
    assert!(said.contains("another `trommel inject` is writing there"), "{said}");
    lock.unlock().unwrap();
    run(0, &inject);
    assert!(!out.join("00007.tar.tmp").exists() && !out.join(".inject.lock").exists());
}
