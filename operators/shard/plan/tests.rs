//! Arguments to plans, in a folder of their own.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::store::faulty::{Fault, Faulty};
use crate::store::memory::Memory;
use crate::store::{Stores, remote_name};
use trommel_core::causes::Causes;

mod walk;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(files: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        Self { folder }
    }

    /// Plans arguments in which `@` stands for the folder.
    fn plan(&self, arguments: &[&str]) -> Result<Plan, PlanError> {
        let root = self.folder.path().to_str().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|a| a.replace('@', root)).collect();
        let variables = [("WDS_ROOT", root), ("WDS_RANGE", "${FROM}..1"), ("WDS_FROM", "0")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        expand(&arguments, &Stores::default().with_variables(variables), &PlanOptions::default())
    }

    fn names(&self, arguments: &[&str]) -> Vec<String> {
        self.plan(arguments).unwrap().shards.into_iter().map(|shard| shard.name).collect()
    }

    fn error(&self, arguments: &[&str]) -> String {
        Causes(&self.plan(arguments).unwrap_err()).to_string().replace(self.folder.path().to_str().unwrap(), "@")
    }
}

const FILES: [&str; 8] =
    ["a/0.tar", "a/1.tar", "a/10.tar", "b/0.tar", "b/x.tar.gz", "b/notes.txt", "c/{00000000}.tar", "d/we[i]rd=1.tar"];

#[test]
fn names_are_relative_to_the_literal_folder() {
    let place = Place::new(&FILES);
    let cases: &[(&[&str], &[&str])] = &[
        (&["@/a/0.tar"], &["0.tar"]),
        (&["@/a/{0..1}.tar"], &["0.tar", "1.tar"]),
        (&["@/{a,b}/0.tar"], &["a/0.tar", "b/0.tar"]),
        (&["@/*/0.tar"], &["a/0.tar", "b/0.tar"]),
        (&["@/a/*.tar"], &["0.tar", "1.tar", "10.tar"]),
        (&["@/a/?.tar"], &["0.tar", "1.tar"]),
        (&["@/**/0.tar"], &["a/0.tar", "b/0.tar"]),
        (&["@/a/1.tar::@/b/0.tar"], &["1.tar", "0.tar"]),
        (&["@/b"], &["0.tar", "x.tar.gz"]),
        (&["@/a/", "B=@/b/"], &["0.tar", "1.tar", "10.tar", "B/0.tar", "B/x.tar.gz"]),
        (&["x.y=@/a/0.tar::@/b/x*"], &["x.y/0.tar", "x.y/x.tar.gz"]),
        (&["file:@/a/0.tar", "file://@/a/1.tar"], &["0.tar", "1.tar"]),
        (&["${ROOT}/a/{${RANGE}}.tar"], &["0.tar", "1.tar"]),
        (&["@/c/{00000000}.tar"], &["{00000000}.tar"]),
        (&["@/a//*.tar"], &["0.tar", "1.tar", "10.tar"]),
        (&["@/a/./1*.tar"], &["1.tar", "10.tar"]),
        (&["@/./{a,b}//0.ta[r]"], &["a//0.tar", "b//0.tar"]),
        (&["@/d/we[i]rd=1.tar"], &["we[i]rd=1.tar"]),
        (&["-"], &["-"]),
    ];
    for (arguments, wanted) in cases {
        assert_eq!(&place.names(arguments), wanted, "{arguments:?}");
    }
}

#[test]
fn ordinals_sizes_and_parts() {
    let place = Place::new(&FILES);
    let plan = place.plan(&["@/a/*.tar", "in=-"]).unwrap();
    let sizes: Vec<_> = plan.shards.iter().map(|shard| (shard.ordinal, shard.bytes)).collect();
    assert_eq!(sizes, [(0, Some(7)), (1, Some(7)), (2, Some(8)), (3, None)]);
    assert_eq!((plan.total_bytes(), plan.shard(4)), (None, None));
    let part: PlanSlice = "1/2".parse().unwrap();
    assert_eq!(plan.part(part).map(|shard| shard.ordinal).collect::<Vec<_>>(), [1, 3]);
    for wrong in ["2/2", "1", "0/0", "-1/2", "a/b", ""] {
        assert!(wrong.parse::<PlanSlice>().is_err(), "{wrong}");
    }
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
}

/// Who gives a folder or a wildcard misses what img2dataset's statistics beside it speak of; who names shards means these.
#[test]
fn shards_that_are_gone_are_missed_where_they_were_asked_for() {
    let place = Place::new(&["a/00000.tar", "a/00001.tar", "a/00001.parquet", "b/x-0.tar", "b/notes.txt", "c/d/0.tar"]);
    let put = |name: &str, text: &str| std::fs::write(place.folder.path().join(name), text).unwrap();
    put("a/00000_stats.json", r#"{"successes": 9}"#);
    put("a/00002_stats.json", r#"{"count": 7, "successes": 4}"#);
    put("a/00003_stats.json", "cut off");
    put("a/00004.parquet", "PAR1");
    put("a/00005_stats.json", r#"{"successes": 0}"#);
    put("a/00013_stats.json", r#"{"successes": 1}"#);
    // Other files that end so.
    put("a/all_stats.json", r#"{"successes": 99}"#);
    put("a/.00006_stats.json", r#"{"successes": 99}"#);
    put("a/urls.parquet", "PAR1");
    put("b/x-1_stats.json", r#"{"successes": 2}"#);
    put("b/0.parquet", "PAR1");
    put("c/d/1_stats.json", r#"{"successes": 3}"#);
    let lost = |arguments: &[&str]| {
        let plan = place.plan(arguments).unwrap();
        let lost: Vec<_> = plan.lost.iter().map(|lost| format!("{} {:?}", lost.name, lost.promised)).collect();
        (lost.join(", "), plan.losses().lost_samples())
    };
    let all = ["00002 Some(4)", "00003 None", "00004 None", "00013 Some(1)"].join(", ");
    let cases: &[(&[&str], &str, u64)] = &[
        (&["@/a"], &all, 7),
        (&["@/a/"], &all, 7),
        (&["@/a/*.tar"], &all, 7),
        (&["@/a/*.tar", "B=@/b"], &[&all, "B/x-1 Some(2)"].join(", "), 9),
        (&["@/a/*0.tar::@/a/*1.tar"], "", 0),
        (&["@/a/0000[0-2].tar"], "00002 Some(4)", 4),
        (&["@/a/0001*.tar::@/a/*.tar"], "", 0),
        (&["@/a/0000?.tar::@/a/*3.tar"], "", 0),
        (&["@/a/{00000..00001}.tar"], "", 0),
        (&["@/a/00000.tar"], "", 0),
        (&["@/{a,c/d}/*.tar"], "a/00002 Some(4), a/00003 None, a/00004 None, a/00013 Some(1), c/d/1 Some(3)", 10),
        (&["@/c/*/*.tar"], "d/1 Some(3)", 3),
        (&["@/c/**/*.tar"], "d/1 Some(3)", 3),
        (&["@/c/d/**/*.tar"], "1 Some(3)", 3),
        (
            &["@/**/*.tar"],
            "a/00002 Some(4), a/00003 None, a/00004 None, a/00013 Some(1), b/x-1 Some(2), c/d/1 Some(3)",
            12,
        ),
    ];
    for (arguments, wanted, samples) in cases {
        // A wildcard that finds nothing is refused.
        match place.plan(arguments) {
            Ok(_) => assert_eq!(lost(arguments), ((*wanted).to_owned(), *samples), "{arguments:?}"),
            Err(error) => {
                assert!(matches!(error, PlanError::NoMatch(_)) && wanted.is_empty(), "{arguments:?}: {error}")
            }
        }
    }
    // Where shards arrive, statistics may come first.
    let options = PlanOptions { settle: Duration::from_secs(3600), ..PlanOptions::default() };
    let folder = place.folder.path().join("a").display().to_string();
    assert!(expand(std::slice::from_ref(&folder), &Stores::default(), &options).unwrap().lost.is_empty());
    // Plans of before have no such field, and plans are equal by their shards.
    let plan = place.plan(&["@/a"]).unwrap();
    let mut value = serde_json::to_value(&plan).unwrap();
    assert_eq!(serde_json::from_value::<Plan>(value.clone()).unwrap().lost, plan.lost);
    value.as_object_mut().unwrap().remove("lost").unwrap();
    let old: Plan = serde_json::from_value(value).unwrap();
    assert!(old == plan && old.lost.is_empty());
}

/// Whoever writes `a/*` may mean what is in the folders there, which only `a/**` enters.
#[test]
fn folders_that_a_wildcard_finds_are_said() {
    let place = Place::new(&["a/0.tar", "a/one/1.tar", "a/two/2.tar", "a/two/more/3.tar", "b/4.tar"]);
    for (argument, count) in
        [("@/a/*", 2), ("@/a/*.tar", 0), ("@/a/**/*.tar", 0), ("@/a/t*/*", 1), ("@/*/*.tar", 0), ("@/a", 0)]
    {
        let plan = place.plan(&[argument]).unwrap();
        let found = plan.losses().get("folders_found").map_or(0, |notice| notice.count);
        assert_eq!(found, count, "{argument}: {:?}", plan.passed_over);
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json.get("passed_over").is_some(), count > 0);
        assert_eq!(serde_json::from_value::<Plan>(json).unwrap().passed_over, plan.passed_over);
    }
}

#[test]
fn differences_that_matter() {
    let place = Place::new(&FILES);
    let plan = place.plan(&["@/a/*.tar"]).unwrap();
    let mut moved = plan.clone();
    moved.shards[0].url = "elsewhere".into();
    assert_eq!(plan.difference(&moved), None);
    moved.shards[1].bytes = Some(1);
    assert_eq!(plan.difference(&moved).unwrap(), "shard 1 (1.tar) has 7 bytes and had 1");
    let fewer = place.plan(&["@/a/{0,1}.tar"]).unwrap();
    assert_eq!(plan.difference(&fewer).unwrap(), "3 shards now, 2 before");
    let other = place.plan(&["@/a/1.tar"]).unwrap();
    assert_eq!(plan.difference(&other).unwrap(), "shard 0 is 0.tar and was 1.tar");
}

#[test]
fn what_cannot_be_planned_says_why() {
    let place = Place::new(&FILES);
    std::fs::create_dir(place.folder.path().join("empty")).unwrap();
    std::fs::create_dir_all(place.folder.path().join("link/is-a-folder.tar")).unwrap();
    std::os::unix::fs::symlink("nowhere", place.folder.path().join("link/0.tar")).unwrap();
    // Where shards arrive, it is to come.
    let link = place.folder.path().join("link").display().to_string();
    let looking = PlanOptions { opens: false, ..PlanOptions::default() };
    let again = |item: String| look_up(&[item], &Stores::default(), &looking);
    let nowhere = again(link).unwrap();
    assert_eq!((nowhere.plan.len(), nowhere.barren.len()), (0, 1));
    // Nothing in a folder may be all that was there; a folder that is not there holds nobody knows what.
    let at = |name: &str| place.folder.path().join(name).display().to_string();
    let places = [("empty", "empty/7.tar"), ("empty/[0-9].tar", "empty/7.tar"), ("e*/{a,7}.tar", "empty/7.tar")];
    for (item, shard) in places {
        let found = again(at(item)).unwrap();
        let finds = |url: &str| found.barren.iter().any(|it| it.would_find(&at(url)));
        assert!(found.plan.is_empty() && finds(shard) && !finds("empty/deeper/7.tar") && !finds("a/0.tar"), "{item}");
    }
    assert!(again(at("a")).unwrap().barren.is_empty());
    for item in ["nope", "nope/*.tar", "nope/**"] {
        assert!(matches!(again(at(item)), Err(PlanError::Store(error)) if error.is_nothing()), "{item}");
    }
    let cases: &[(&[&str], &str)] = &[
        (&[], "no shards given"),
        (&["@/link"], "@/link/0.tar: No such file or directory (os error 2)"),
        (&["@/link/*"], "@/link/0.tar: No such file or directory (os error 2)"),
        (&["@/a/7.tar"], "@/a/7.tar: No such file or directory (os error 2)"),
        (&["@/a/{0..3}.tar"], "@/a/2.tar: No such file or directory (os error 2)"),
        (&["@/nope/*.tar"], "@/nope/*.tar: no such shard"),
        (&["@/a/{0..1.tar"], "braces do not balance in \"@/a/{0..1.tar\""),
        (&["@/empty"], "@/empty: the folder holds no .tar, be it plain or .gz, .zst, .xz, .bz2"),
        (&["${NONE}/x"], "${NONE}/x: ${NONE} needs the environment variable WDS_NONE"),
        (
            &["s3://b/{0..9}.tar"],
            "s3://b/{0..9}.tar: s3: is not supported in this build yet; copy the shards to a local folder",
        ),
        (&["gs://b/x.tar"], "gs://b/x.tar: gs: is not supported in this build yet; copy the shards to a local folder"),
        (
            &["https://h/x.tar?token=1"],
            "https://h/x.tar: https: is not supported in this build yet; copy the shards to a local folder",
        ),
        (
            &["pipe:cat x"],
            "pipe:cat x: pipe: is not supported in this build yet; run the command yourself and give its output as -",
        ),
        (
            &["@/a/0.tar", "@/b/0.tar"],
            "@/a/0.tar and @/b/0.tar would both be called 0.tar: give one of them a name of its own, NAME=SHARDS",
        ),
    ];
    for (arguments, wanted) in cases {
        assert_eq!(&place.error(arguments), wanted, "{arguments:?}");
    }
}

#[test]
fn remote_names() {
    for (url, wanted) in [
        ("s3://bucket/a/0.tar", "bucket/a/0.tar"),
        ("https://user:pa@ss@host/a@b.tar?x=1", "host/a@b.tar"),
        ("https://host?x=/y", "host"),
        ("plain", "plain"),
    ] {
        assert_eq!(remote_name(url), wanted);
    }
    let secret =
        expand(&["s3://key:secret@b/{0..9}.tar?x=secret".to_string()], &Stores::default(), &PlanOptions::default())
            .unwrap_err()
            .to_string();
    assert!(!secret.contains("secret"), "{secret}");
}

#[test]
fn a_name_that_is_no_text_is_refused_with_its_place() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new(&["a/0.tar"]);
    let odd = place.folder.path().join("a").join(std::ffi::OsStr::from_bytes(b"\xff.tar"));
    std::fs::write(odd, "x").unwrap();
    for argument in ["@/a", "@/a/*.tar", "@/*/*.tar"] {
        assert_eq!(place.error(&[argument]), "@/a/\u{fffd}.tar: the name is not UTF-8");
    }
    assert_eq!(place.names(&["@/a/0*.tar"]), ["0.tar"]);
    // Nor can anybody enter a folder that is called so, whatever is in it.
    std::fs::create_dir(place.folder.path().join(std::ffi::OsStr::from_bytes(b"b\xff"))).unwrap();
    for argument in ["@/*/0.tar", "@/**/0*.tar", "@/b*/*.tar"] {
        assert_eq!(place.error(&[argument]), "@/b\u{fffd}: the name is not UTF-8", "{argument}");
    }
    assert_eq!(place.names(&["@/a*/0.tar"]), ["a/0.tar"]);
}

/// Another store's shards: named by their whole URLs, planned from lists, and never with a call for each.
#[test]
fn another_store_is_planned_from_its_lists() {
    let files = (0..40).map(|at| (format!("mem://key:secret@pool/a/{at:05}.tar"), "x"));
    let memory = Memory::of(files);
    memory.put("mem://key:secret@pool/a/00040_stats.json", r#"{"successes": 3}"#);
    memory.put("mem://key:secret@pool/b/0.tar.gz", "xy");
    let store = Faulty::new(memory, []);
    let stores = Stores::default().with("mem", store.clone());
    let plan = |arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|it| it.replace("mem://", "mem://key:secret@")).collect();
        expand(&arguments, &stores, &PlanOptions::default())
    };
    let whole = plan(&["mem://pool/a", "NAME=mem://pool/b/*"]).unwrap();
    assert_eq!((whole.len(), whole.total_bytes()), (41, Some(42)));
    assert_eq!(
        (whole.shards[0].name.as_str(), whole.shards[40].name.as_str()),
        ("pool/a/00000.tar", "NAME/pool/b/0.tar.gz")
    );
    assert_eq!(whole.lost, [Lost { name: "pool/a/00040".into(), promised: Some(3) }]);
    for (argument, shards) in [
        ("mem://pool/a/", 40),
        ("mem://pool/a/{00000..00039}.tar", 40),
        ("mem://pool/?/*.tar", 0),
        ("mem://pool/**/*.tar", 40),
    ] {
        let before = store.calls();
        let found = plan(&[argument]);
        assert_eq!(found.as_ref().map_or(0, Plan::len), shards, "{argument}: {found:?}");
        let calls = store.calls();
        let (lists, looks) = (calls.lists - before.lists, calls.looks - before.looks);
        assert!(lists <= 4 && looks <= 3, "{argument}: {lists} lists, {looks} looks");
    }
    let said = |argument: &str| Causes(&plan(&[argument]).unwrap_err()).to_string();
    assert_eq!(said("mem://pool/a/7.tar"), "mem://pool/a/7.tar: there is no such thing");
    assert_eq!(said("mem://pool/a/{00038..00041}.tar"), "mem://pool/a/00040.tar: there is no such thing");
    assert_eq!(said("mem://pool/z*/0.tar"), "mem://pool/z*/0.tar: no such shard");
    // What cannot be listed is said, however it is asked for.
    store.add("a", Fault::NoListing);
    store.add("a/", Fault::NoListing);
    for argument in ["mem://pool/a", "mem://pool/a/*", "mem://pool/*/0*.tar", "mem://pool/**/*.tar"] {
        assert!(said(argument).ends_with(": 503 Slow Down"), "{}", said(argument));
        assert!(said(argument).starts_with("mem://pool/a"), "{}", said(argument));
    }
    assert_eq!(plan(&["mem://pool/a/{00000..00039}.tar"]).unwrap().len(), 40, "names need no list");
}
