//! `trommel stream`, driven as a user drives it, over shards whose samples are known by construction and ledgers that the ledger's own writers made.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "../operators/select/tests/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{peer, run, stderr, trommel};
use serde_json::Value;
use world::{Dice, Row, make};

/// A member as readers see it: name, data, time, mode.
type Member = (String, Vec<u8>, u64, u32);

/// A sample: its key, and its members.
#[derive(Clone)]
struct Sample {
    key: String,
    uid: String,
    members: Vec<Member>,
}

struct Shard {
    name: String,
    samples: Vec<Sample>,
}

/// Few keys, so that they come again in a shard and in others; one too long for a plain header.
fn key(dice: &mut Dice) -> String {
    let long = format!("{}/", "a.folder".repeat(15));
    let folder = ["", "", "", "dog/", "a.b/", long.as_str()][dice.below(6)];
    format!("{folder}{:03}", dice.below(7))
}

fn sample(dice: &mut Dice, before: Option<&String>) -> Sample {
    let (key, uid) = (key(dice), format!("{:016x}{:016x}", dice.next(), dice.next()));
    let mut extensions = vec!["jpg", "json", "txt", "seg.png", "X.bin", "JPG2", "npy"];
    for _ in 0..dice.below(5) {
        let at = 2 + dice.below(extensions.len() - 2);
        extensions.remove(at);
    }
    // Neighbours of one key are two samples because the second begins with what the first has.
    if before == Some(&key) {
        extensions.swap(0, 1);
    }
    let members = extensions.into_iter().map(|extension| {
        let size = [0, 1, 511, 512, 513, 3000][dice.below(6)];
        let data = match extension {
            "json" => format!("{{\"uid\": \"{uid}\", \"url\": \"x\"}}").into_bytes(),
            _ => (0..size).map(|_| dice.next() as u8).collect(),
        };
        (format!("{key}.{extension}"), data, dice.next() % 1_000_000_000, [0o444, 0o644, 0o600][dice.below(3)])
    });
    let members = members.collect();
    Sample { key, uid, members }
}

fn shards(dice: &mut Dice, count: usize) -> Vec<Shard> {
    let shard = |dice: &mut Dice, at: usize| {
        let mut samples: Vec<Sample> = Vec::new();
        for _ in 0..[0, 1, 9, 40][dice.below(4)] {
            let next = sample(dice, samples.last().map(|sample| &sample.key));
            samples.push(next);
        }
        Shard { name: format!("{at:05}.tar"), samples }
    };
    (0..count).map(|at| shard(dice, at)).collect()
}

fn append(out: &mut tar::Builder<Vec<u8>>, dice: &mut Dice, (name, data, time, mode): &Member) {
    let mut header = if dice.below(2) == 0 { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
    header.set_size(data.len() as u64);
    header.set_mtime(*time);
    header.set_mode(*mode);
    header.set_entry_type(tar::EntryType::Regular);
    if dice.below(5) == 0 {
        out.append_pax_extensions([("path", name.as_bytes()), ("comment", b"ours")]).unwrap();
        header.set_path("elsewhere").unwrap();
        header.set_cksum();
        out.append(&header, &data[..]).unwrap();
    } else if name.len() <= 100 {
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        out.append(&header, &data[..]).unwrap();
    } else {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mtime(*time);
        header.set_mode(*mode);
        out.append_data(&mut header, name, &data[..]).unwrap();
    }
}

/// The shard's tar, with what belongs to no sample between its members; now and then compressed.
fn packed(dice: &mut Dice, shard: &Shard) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for sample in &shard.samples {
        for member in &sample.members {
            if dice.below(6) == 0 {
                let names = ["README", "__index__/000.jpg", "._000.jpg", ".hidden"];
                let stray = (names[dice.below(4)].into(), vec![1; dice.below(700)], 0, 0o644);
                append(&mut out, dice, &stray);
            }
            append(&mut out, dice, member);
        }
    }
    let bytes = out.into_inner().unwrap();
    if dice.below(3) == 0 { zstd::encode_all(&bytes[..], 1).unwrap() } else { bytes }
}

fn members(tar: &[u8]) -> Vec<Member> {
    let mut archive = tar::Archive::new(tar);
    let read = |entry: Result<tar::Entry<'_, &[u8]>, std::io::Error>| {
        let mut entry = entry.unwrap();
        let (mut data, name) = (Vec::new(), String::from_utf8(entry.path_bytes().into_owned()).unwrap());
        entry.read_to_end(&mut data).unwrap();
        (name, data, entry.header().mtime().unwrap(), entry.header().mode().unwrap())
    };
    let members = archive.entries().unwrap().map(read).collect();
    assert!(tar.len().is_multiple_of(512) && tar.ends_with(&[0; 1024]), "no end mark");
    members
}

/// What a reader should find of kept samples, each with its place; `clashes` says whether a key stands already where two cannot be told apart.
fn expected<'s>(
    kept: impl Iterator<Item = (usize, usize, &'s Sample)>,
    mut clashes: impl FnMut(&'s Sample) -> bool,
) -> Vec<Member> {
    let mut all = Vec::new();
    for (ordinal, index, sample) in kept {
        let clash = clashes(sample);
        all.extend(sample.members.iter().map(|(name, data, time, mode)| {
            let (folder, base) = name.rfind('/').map_or(("", name.as_str()), |slash| name.split_at(slash + 1));
            let name = match clash {
                true => format!("{folder}{ordinal:05}-{index:06}-{}", lowered(folder, base)),
                false => name.clone(),
            };
            (name, data.clone(), *time, *mode)
        }));
    }
    all
}

/// A renamed member's extension is written as readers take it.
fn lowered(_: &str, base: &str) -> String {
    let (key, extension) = base.split_once('.').unwrap();
    format!("{key}.{}", extension.to_lowercase())
}

fn made(folder: &Path, shards: &[Shard], keeps: &dyn Fn(usize, usize) -> bool) -> String {
    let rows = |at: usize| {
        let row = |(index, sample): (usize, &Sample)| Row {
            key: sample.key.clone(),
            uid: Some(sample.uid.clone()),
            rejected: !keeps(at, index),
            reason: (!keeps(at, index)).then_some("image_decode"),
            ..Row::default()
        };
        shards[at].samples.iter().enumerate().map(row).collect::<Vec<_>>().into_iter()
    };
    let run = folder.join("run");
    make(&run, &[], (0..shards.len()).map(|at| (shards[at].name.clone(), Some(rows(at)))).collect());
    run.display().to_string()
}

fn streamed(args: &[&str]) -> (Vec<Member>, String) {
    let out = run(0, args);
    (members(&out.stdout), stderr(&out))
}

#[test]
fn whatever_is_kept_comes_as_it_stands() {
    let (mut renamed, mut all, mut none) = (0, 0, 0);
    for seed in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let mut dice = Dice(seed);
        let count = 1 + dice.below(4);
        let shards = shards(&mut dice, count);
        let mut paths = Vec::new();
        for shard in &shards {
            let path = folder.path().join(&shard.name);
            std::fs::write(&path, packed(&mut dice, shard)).unwrap();
            paths.push(path.display().to_string());
        }
        let share = [0, 1, 4, 10][dice.below(4)];
        let drawn: BTreeSet<(usize, usize)> = (0..count)
            .flat_map(|at| (0..shards[at].samples.len()).map(move |index| (at, index)))
            .filter(|_| dice.below(10) < share)
            .collect();
        let ledger = made(folder.path(), &shards, &|at, index| drawn.contains(&(at, index)));
        let into = folder.path().join("splits").display().to_string();
        run(0, &["select", &ledger, "--rule", "kept=random:100%", "-o", &into, "--format", "parquet,npy"]);
        let pairs = || drawn.iter().map(|&(at, index)| (at, index, &shards[at].samples[index]));
        let mut last = None;
        let due = expected(pairs(), |sample| last.replace(&sample.key) == Some(&sample.key));
        let names: BTreeSet<&str> = due.iter().map(|member| member.0.as_str()).collect();
        renamed += usize::from(names.iter().any(|name| name.contains("-0000")));
        none += usize::from(drawn.is_empty());
        all += usize::from(share == 10 && !drawn.is_empty());
        let shown: Vec<&str> = paths.iter().map(String::as_str).collect();
        let with = |more: &[&str]| {
            let words: Vec<&str> =
                ["stream"].into_iter().chain(shown.iter().copied()).chain(more.iter().copied()).collect();
            streamed(&words)
        };
        let table = format!("{into}/kept.parquet");
        let (got, said) = with(&["--split", &table]);
        assert_eq!(got, due, "seed {seed}: {said}");
        assert_eq!(with(&["--run", &ledger]).0, due, "seed {seed}: by the run");
        assert_eq!(with(&["--split", &format!("{into}/kept.split.json")]).0, due, "seed {seed}: by its head");
        assert_eq!(with(&["--split", &format!("{into}/kept.npy")]).0, due, "seed {seed}: by uids");
        // A line of a list of keys stands for all samples of its key.
        let twins = (0..count).any(|at| {
            let kept: BTreeSet<&String> = pairs().filter(|pair| pair.0 == at).map(|pair| &pair.2.key).collect();
            let mut others = (0..).zip(&shards[at].samples).filter(|(index, _)| !drawn.contains(&(at, *index)));
            others.any(|(_, sample)| kept.contains(&sample.key))
        });
        let by_keys = ["select", &ledger, "--rule", "kept=random:100%", "-o", &into, "--format", "txt"];
        let said = stderr(&run(if twins { 2 } else { 0 }, &by_keys));
        if twins {
            assert!(said.contains("one is kept and another is not"), "seed {seed}: {said}");
        } else {
            assert_eq!(with(&["--split", &format!("{into}/kept.txt")]).0, due, "seed {seed}: by keys");
        }
        let each = 1 + dice.below(12);
        let out = folder.path().join("out").display().to_string();
        with_folder(&shown, &table, &out, each, &shards, &drawn);
    }
    assert!(renamed > 2 && all > 0 && none > 0, "{renamed} {all} {none}: too few of a kind");
}

fn with_folder(
    paths: &[&str],
    table: &str,
    out: &str,
    each: usize,
    shards: &[Shard],
    drawn: &BTreeSet<(usize, usize)>,
) {
    let number = each.to_string();
    let words = ["stream"].into_iter().chain(paths.iter().copied());
    let words: Vec<&str> = words.chain(["--split", table, "-o", out, "--shard-samples", &number, "--json"]).collect();
    let report: Value = serde_json::from_slice(&run(0, &words).stdout).unwrap();
    let all: Vec<&(usize, usize)> = drawn.iter().collect();
    let sizes: Value = serde_json::from_slice(&std::fs::read(format!("{out}/sizes.json")).unwrap()).unwrap();
    assert_eq!(sizes.as_object().unwrap().len(), all.len().div_ceil(each));
    for (number, part) in all.chunks(each).enumerate() {
        let mut keys = BTreeSet::new();
        let pairs = part.iter().map(|&&(at, index)| (at, index, &shards[at].samples[index]));
        let due = expected(pairs, |sample| !keys.insert(&sample.key));
        let name = format!("{number:05}.tar");
        assert_eq!(members(&std::fs::read(format!("{out}/{name}")).unwrap()), due, "{name}");
        assert_eq!(sizes[&name], part.len());
        let stats: Value =
            serde_json::from_slice(&std::fs::read(format!("{out}/{number:05}_stats.json")).unwrap()).unwrap();
        assert_eq!((&stats["successes"], &stats["count"]), (&part.len().into(), &part.len().into()));
    }
    assert_eq!(report["samples"], all.len());
    // The same command finds it done; whatever is lost of it, it makes again and nothing else.
    let before = contents(out);
    run(0, &words);
    assert_eq!(contents(out), before);
    for gone in ["sizes.json", "00002_stats.json"] {
        let _ = std::fs::remove_file(format!("{out}/{gone}"));
    }
    // A kill leaves half of a tar, where there is a second one.
    if std::fs::remove_file(format!("{out}/00001.tar")).is_ok() {
        std::fs::write(format!("{out}/00001.tar.tmp"), "half of it").unwrap();
    }
    let first = Path::new(out).join("00000.tar");
    let age = first.exists().then(|| std::fs::metadata(&first).unwrap().modified().unwrap());
    run(0, &words);
    assert_eq!(contents(out), before);
    assert_eq!(age, first.exists().then(|| std::fs::metadata(&first).unwrap().modified().unwrap()));
    let mut other = words.clone();
    let at = other.iter().position(|word| *word == number).unwrap();
    other[at] = "77";
    let said = stderr(&run(2, &other));
    assert!(
        said.contains(&format!("its shards were made by another command: shard_samples 77 and was {each}")),
        "{said}"
    );
}

fn contents(folder: &str) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), std::fs::read(&path).unwrap())
        })
        .collect();
    all.sort();
    all
}

/// Shards called 00000.tar and so on, of so many plain samples of a picture and a caption; and a run that keeps every third.
fn plain(folder: &Path, count: usize, samples: usize, bytes: usize) -> (Vec<String>, String) {
    let shard = |at: usize| {
        let sample = |index: usize| {
            let key = format!("{at:05}{index:04}");
            let picture = vec![index as u8; bytes];
            let members =
                vec![(format!("{key}.jpg"), picture, 0, 0o644), (format!("{key}.txt"), b"a dog".into(), 0, 0o644)];
            Sample { key, uid: String::new(), members }
        };
        Shard { name: format!("{at:05}.tar"), samples: (0..samples).map(sample).collect() }
    };
    let shards: Vec<Shard> = (0..count).map(shard).collect();
    let mut paths = Vec::new();
    for shard in &shards {
        let mut out = tar::Builder::new(Vec::new());
        for (name, data, ..) in shard.samples.iter().flat_map(|sample| &sample.members) {
            common::members::append(&mut out, name, &data[..]);
        }
        let path = folder.join(&shard.name);
        std::fs::write(&path, out.into_inner().unwrap()).unwrap();
        paths.push(path.display().to_string());
    }
    let run = made(folder, &shards, &|_, index| index % 3 == 0);
    (paths, run)
}

/// Each sample's key, of a tar whose samples are a picture each, as bytes.
fn raw_keys(tar: &[u8]) -> Vec<Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let name = |entry: Result<tar::Entry<'_, &[u8]>, std::io::Error>| entry.unwrap().path_bytes().into_owned();
    archive.entries().unwrap().map(|entry| name(entry).strip_suffix(b".jpg").unwrap().to_vec()).collect()
}

/// What was streamed once has keys that this program gives; keys that are no UTF-8 are not the same because they are shown alike.
#[test]
fn renamed_keys_are_free_and_bytes_tell_keys_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.tar").display().to_string();
    let streamed = |keys: &[&[u8]]| {
        let mut out = tar::Builder::new(Vec::new());
        for (at, key) in keys.iter().enumerate() {
            let (mut header, name) = (tar::Header::new_gnu(), [key, &b".jpg"[..]].concat());
            header.set_size(1);
            header.as_old_mut().name[..name.len()].copy_from_slice(&name);
            header.set_cksum();
            out.append(&header, &[at as u8][..]).unwrap();
        }
        std::fs::write(&path, out.into_inner().unwrap()).unwrap();
        let into = tempfile::tempdir().unwrap();
        let new = into.path().join("new").display().to_string();
        let said = stderr(&run(0, &["stream", &path, "--rule", "random:100%", "-o", &new]));
        let foreign = keys.iter().filter(|key| std::str::from_utf8(key).is_err()).count();
        let told = format!(
            "samples whose key is not UTF-8: what is not stands in ledgers and splits as U+FFFD: {foreign} (first: 0.tar/bad\u{fffd}"
        );
        assert_eq!(said.contains(&told), foreign > 0, "{said}");
        let written = raw_keys(&std::fs::read(format!("{new}/00000.tar")).unwrap());
        (written, raw_keys(&run(0, &["stream", &path, "--rule", "random:100%"]).stdout))
    };
    let (written, piped) = streamed(&[b"a", b"b", b"a", b"00000-000002-a", b"a"]);
    assert_eq!(written, [&b"a"[..], b"b", b"00000-000002-a", b"00000-000003-00000-000002-a", b"00000-000004-a"]);
    assert_eq!(piped, [&b"a"[..], b"b", b"a", b"00000-000002-a", b"a"], "no neighbours");
    let (written, piped) = streamed(&[b"00000-000002-a", b"a", b"a", b"00000-000002-a"]);
    assert_eq!(written, [&b"00000-000002-a"[..], b"a", b"00000-000002-1-a", b"00000-000003-00000-000002-a"]);
    assert_eq!(piped, [&b"00000-000002-a"[..], b"a", b"00000-000002-a", b"00000-000003-00000-000002-a"]);
    let odd: [&[u8]; 2] = [b"bad\xff\xfe", b"bad\xff\xfd"];
    assert_eq!(streamed(&odd), (odd.map(<[u8]>::to_vec).to_vec(), odd.map(<[u8]>::to_vec).to_vec()));
}

#[test]
fn a_closed_pipe_is_no_error_and_nothing_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, ledger) = plain(folder.path(), 2, 60, 50_000);
    let args = ["stream", &paths[0], &paths[1], "--run", &ledger];
    let mut child = trommel().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1000];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), stderr(&out)), (Some(0), String::new()));
    let (all, said) = streamed(&args);
    assert_eq!((all.len(), said.as_str()), (2 * 20 * 2, ""));
}

#[test]
fn nothing_kept_is_an_empty_tar() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, ledger) = plain(folder.path(), 2, 2, 10);
    let table = folder.path().join("none.parquet").display().to_string();
    run(0, &["select", &ledger, "--rule", "random:100% minus random:100%", "-o", &table]);
    let out = run(0, &["stream", &paths[0], &paths[1], "--split", &table]);
    assert_eq!(out.stdout, [0; 1024]);
    assert_eq!(stderr(&out), "trommel:   shards of which the split keeps nothing, not read: 2 (first: 00000.tar)\n");
    // Who has read them says so, and of several shards which names of the list are in none.
    let list = folder.path().join("theirs.keys").display().to_string();
    std::fs::write(&list, "a\nb\n").unwrap();
    let out = run(0, &["stream", &paths[0], "--split", &list]);
    assert_eq!(out.stdout, [0; 1024]);
    assert_eq!(stderr(&out), "trommel:   samples read of which none is kept: 2 (first: 00000.tar)\n");
    let said = stderr(&run(0, &["stream", &paths[0], &paths[1], "--split", &list]));
    let absent = format!("keys of the list that are in none of these shards: 2 (first: {list}: a)");
    assert!(said.contains("none is kept: 4 (first: 00000.tar)") && said.contains(&absent), "{said}");
    // A line that stands again is one sample, which is said.
    let lines = folder.path().join("lines.txt").display().to_string();
    std::fs::write(&lines, "00000.tar/000000000\n00001.tar/000010000\n00000.tar/000000000\n").unwrap();
    let said = streamed(&["stream", &paths[0], &paths[1], "--split", &lines]).1;
    assert_eq!(
        said,
        "trommel:   lines of the list that stand there once more, taken once: 1 (first: 00000.tar/000000000)\n"
    );
    let into = folder.path().join("out").display().to_string();
    let said = stderr(&run(0, &["stream", &paths[0], "--split", &table, "-o", &into]));
    assert!(said.contains("nothing is kept: there is nothing to train on"), "{said}");
    assert_eq!(std::fs::read_to_string(format!("{into}/sizes.json")).unwrap(), "{}\n");
}

#[test]
fn shards_that_are_not_those_of_the_split_are_told() {
    let folder = tempfile::tempdir().unwrap();
    // No buffer holds a sample back.
    let bytes = 1 << 20;
    let (paths, ledger) = plain(folder.path(), 2, 9, bytes);
    let table = folder.path().join("s.parquet").display().to_string();
    run(0, &["select", &ledger, "--rule", "random:100%", "-o", &table]);
    let whole = std::fs::read(&paths[0]).unwrap();
    let stream = |status| run(status, &["stream", &paths[0], "--split", &table]);
    // Another key where the split keeps its sample 3: those before have left, and nothing else.
    let (other, of) = (std::fs::read(&paths[1]).unwrap(), whole.len());
    let member = 2 * 512 + bytes + 512;
    let mixed = [&whole[..3 * member], &other[3 * member..]].concat();
    std::fs::write(&paths[0], mixed).unwrap();
    let out = stream(1);
    assert_eq!(
        stderr(&out),
        format!(
            "trommel: 00000.tar: its sample 3 is `000010003`, and the split keeps `000000003` as sample 3: it is not the shard that {table} was made from\n"
        )
    );
    assert!(out.stdout == whole[..member], "{} bytes", out.stdout.len());
    // Fewer samples than the split keeps.
    let short = [&whole[..4 * member], &[0; 1024]].concat();
    std::fs::write(&paths[0], short).unwrap();
    assert!(stderr(&stream(1)).contains("it ends before `000000006`, which the split keeps as sample 6"));
    // A list that gets all that it has of a shard misses nothing, whatever the shard's statistics promise.
    let (list, stats) = (folder.path().join("l.txt").display().to_string(), paths[0].replace(".tar", "_stats.json"));
    std::fs::write(&list, "00000.tar/000000000\n00000.tar/000000003\n").unwrap();
    std::fs::write(&stats, r#"{"successes": 1000}"#).unwrap();
    std::fs::write(&paths[0], &whole).unwrap();
    let out = run(0, &["stream", &paths[0], "--split", &list]);
    assert_eq!((out.stdout.len(), stderr(&out)), (2 * member + 1024, String::new()));
    // Cut inside a sample: what is whole leaves, what is lost is counted, once.
    std::fs::write(&paths[0], &whole[..3 * member + 900]).unwrap();
    let out = stream(4);
    assert!(out.stdout.starts_with(&whole[..member]) && out.stdout.len() == member + 1024, "{}", out.stdout.len());
    let said = stderr(&out);
    assert!(
        said.contains(
            "shards cut off before all samples that the split keeps of them: 1, 1 samples lost (first: 00000.tar)"
        ),
        "{said}"
    );
    assert!(said.contains("of 3 samples 0 were rejected and 2 lost"), "{said}");
    for (share, status) in [("66", 4), ("67", 0)] {
        run(status, &["stream", &paths[0], "--split", &table, "--max-rejects", share]);
    }
    // No tar at all.
    std::fs::write(&paths[0], "<!DOCTYPE html><title>403</title>").unwrap();
    let out = stream(4);
    assert_eq!(out.stdout, [0; 1024]);
    let said = stderr(&out);
    assert!(
        said.contains("shards rejected (html_page): 1, 3 samples lost (first: 00000.tar: an HTML page, not a tar)"),
        "{said}"
    );
    assert!(of > 9 * member);
    std::fs::remove_file(&paths[0]).unwrap();
    assert!(stderr(&stream(2)).contains("00000.tar: No such file"));
}

/// Who gives a folder may mean what lies below its shards, or beside them under other names.
#[test]
fn shards_that_a_folder_does_not_stand_for_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, _) = plain(folder.path(), 2, 3, 10);
    let given = folder.path().join("given");
    std::fs::create_dir_all(given.join("below")).unwrap();
    for (path, name) in paths.iter().zip(["0.tar", "below/1.tar"]) {
        std::fs::copy(path, given.join(name)).unwrap();
    }
    std::fs::copy(&paths[1], given.join("1.TAR")).unwrap();
    let given = given.display().to_string();
    let new = folder.path().join("new").display().to_string();
    for more in [&[][..], &["-o", &new]] {
        let said = stderr(&run(0, &[&["stream", &given, "--rule", "random:100%"], more].concat()));
        let below = format!("shards in the folders of a folder of shards passed over: 1 (first: {given}/below/1.tar)");
        assert!(
            said.contains(&below) && said.contains("called like shards and are none by their endings: 1"),
            "{said}"
        );
    }
}

#[test]
fn shards_under_another_name_are_no_shards_of_which_nothing_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, ledger) = plain(folder.path(), 1, 5, 10);
    let table = folder.path().join("s.parquet").display().to_string();
    run(0, &["select", &ledger, "--rule", "random:100%", "-o", &table]);
    std::fs::create_dir(folder.path().join("part")).unwrap();
    std::fs::copy(&paths[0], folder.path().join("part/00000.tar")).unwrap();
    let wildcard = format!("{}/p*/*.tar", folder.path().display());
    let said = stderr(&run(2, &["stream", &wildcard, "--split", &table]));
    assert!(said.contains("s.parquet has no shard part/00000.tar, but 00000.tar, and "), "{said}");
    let renamed = format!("pool={}", paths[0]);
    let said = stderr(&run(2, &["stream", &renamed, "--run", &ledger]));
    assert!(said.contains("has no shard pool/00000.tar, but 00000.tar, and "), "{said}");
}

/// A run over stored embeddings of the samples of `plain(.., 2, 30, ..)`, which it names by its own files, in an order of its own.
fn stored(folder: &Path) -> String {
    let run = folder.join("stored");
    let row = |at: usize| Row { key: format!("{:05}{:04}", at % 2, at / 2), ..Row::default() };
    let rows = |from: usize| (from..from + 30).map(row);
    make(&run, &[], (0..2).map(|at| (format!("img_emb/img_emb_{at}.npy"), Some(rows(30 * at)))).collect());
    run.display().to_string()
}

/// An empty tar says that nothing of a shard is kept. Of shards that the split was not made from nobody can say that.
#[test]
fn shards_that_a_split_was_not_made_from_are_refused_and_give_no_empty_tar() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, ledger) = plain(folder.path(), 2, 30, 10);
    let stored = stored(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let refused = |args: &[&str], why: &str| {
        let out = run(2, args);
        assert!(out.stdout.is_empty(), "{args:?}");
        assert!(stderr(&out).contains(why), "{args:?}: {}", stderr(&out));
    };
    for split in ["e.parquet", "e.txt"].map(at) {
        run(0, &["select", &stored, "--rule", "random:100%", "-o", &split]);
        let why = "it names img_emb/img_emb_0.npy";
        refused(&["stream", &paths[0], "--split", &split], why);
        refused(&["stream", &paths[0], &paths[1], "--split", &split], "`trommel select RUN --rule R -o s.keys`");
        refused(&["stream", &paths[0], "--split", &split, "-o", &at("new")], why);
    }
    refused(&["stream", &paths[0], "--run", &stored], "was not made from 00000.tar: it names img_emb/img_emb_0.npy");
    // Shards of somebody else's, beside those of the split or alone.
    let (split, other) = (at("s.parquet"), at("x17.tar"));
    run(0, &["select", &ledger, "--rule", "random:100%", "-o", &split]);
    std::fs::copy(&paths[0], &other).unwrap();
    for who in [["--split", &split], ["--run", &ledger]] {
        refused(&[&["stream", &other][..], &who].concat(), "was not made from x17.tar: it names 00000.tar");
        let (all, said) = streamed(&[&["stream", &paths[0], &other][..], &who].concat());
        assert_eq!(all.len(), 2 * 10);
        assert!(said.contains("shards that the split was not made from, not read: 1 (first: x17.tar)"), "{said}");
    }
    for (split, status) in [(&split, 2), (&at("e.parquet"), 2)] {
        let mut piped = trommel();
        piped.args(["stream", "-", "--split", split]).stdin(std::fs::File::open(&paths[0]).unwrap());
        let out = piped.output().unwrap();
        assert_eq!((out.status.code(), out.stdout.len()), (Some(status), 0));
        assert!(stderr(&out).contains("standard input has none"), "{}", stderr(&out));
    }
    // What the run left out by name is a shard of its.
    run(0, &["select", &ledger, "--rule", "random:100%", "--without", "00001.tar", "-o", &split]);
    assert_eq!(run(0, &["stream", &paths[1], "--split", &split]).stdout, [0; 1024]);
}

#[test]
fn keys_alone_find_samples_of_stored_embeddings_in_any_shards() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, _) = plain(folder.path(), 2, 30, 10);
    let stored = stored(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (list, text) = (at("s.keys"), at("s.txt"));
    let select = ["select", &stored, "--rule", "random:20", "-o"];
    let said = stderr(&run(0, &[&select[..], &[list.as_str()]].concat()));
    let line = format!(
        "--train-data 'pipe:trommel stream SHARDS --split {list}' --train-num-samples 20   (SHARDS with the pictures)"
    );
    assert!(said.contains(&line) && !said.contains("trommel train"), "{said}");
    // A path with a blank is one word for both shells: the user's, and the one that runs the pipe.
    let apart = at("my list.keys");
    let said = stderr(&run(0, &[&select[..], &[apart.as_str()]].concat()));
    let line = format!(r"--train-data 'pipe:trommel stream SHARDS --split '\''{apart}'\''' --train-num-samples 20 ");
    assert!(said.contains(&line), "{said}");
    let said = stderr(&run(0, &[&select[..], &[text.as_str()]].concat()));
    assert!(said.contains("--format keys (or -o FILE.keys) writes a list") && !said.contains("--train-data"), "{said}");
    let lines = std::fs::read_to_string(&text).unwrap();
    let due: BTreeSet<&str> = lines.lines().map(|line| line.rsplit_once('/').unwrap().1).collect();
    let keys = |all: &[Member]| -> BTreeSet<String> {
        all.iter().filter_map(|member| member.0.strip_suffix(".jpg").map(str::to_owned)).collect()
    };
    let mut found = BTreeSet::new();
    for path in &paths {
        let (all, said) = streamed(&["stream", path, "--split", &list]);
        assert_eq!(said, "");
        found.extend(keys(&all));
    }
    assert!(found.iter().map(String::as_str).eq(due.iter().copied()), "{found:?} {due:?}");
    let new = at("new");
    let said = stderr(&run(0, &["stream", &paths[0], &paths[1], "--split", &list, "-o", &new]));
    assert!(said.contains("20 samples kept, in 1 shards") && !said.contains("keys of the list"), "{said}");
    let tar = std::fs::read(format!("{new}/00000.tar")).unwrap();
    assert!(keys(&members(&tar)).iter().map(String::as_str).eq(due.iter().copied()));
    // Whatever standard input is called.
    let mut piped = trommel();
    let piped = piped.args(["stream", "-", "--split", &list]).stdin(std::fs::File::open(&paths[0]).unwrap());
    let first = keys(&members(&piped.output().unwrap().stdout));
    assert_eq!(first, due.iter().filter(|key| key.starts_with("00000")).map(|key| (*key).to_owned()).collect());
    // What is not there is told, and nothing at all is another list.
    let said = stderr(&run(0, &["stream", &paths[0], "--split", &list, "-o", &at("half")]));
    let (absent, never) = (20 - first.len(), due.iter().find(|key| !key.starts_with("00000")).unwrap());
    assert!(
        said.contains(&format!("keys of the list that are in none of these shards: {absent} (first: {list}: {never})")),
        "{said}"
    );
    // Who goes on in the midst of a shard has met what an earlier turn has written, and is not taken in by it.
    let half = ["stream", &paths[0], "--split", &list, "-o", &at("few"), "--shard-samples", "2"];
    run(0, &half);
    for name in std::fs::read_dir(at("few")).unwrap().map(|entry| entry.unwrap().path()) {
        let number = name.file_name().unwrap().to_str().unwrap().get(..5).and_then(|number| number.parse::<u32>().ok());
        if number.is_some_and(|number| number > 1) {
            std::fs::remove_file(name).unwrap();
        }
    }
    let again = stderr(&run(0, &half));
    let due = format!("keys of the list that are in none of these shards: {absent} (first: {list}: {never})");
    assert!(again.contains(&due) && again.contains(&format!("{} samples kept", first.len())), "{again}");
    std::fs::write(&list, "elsewhere\n").unwrap();
    let said = stderr(&run(2, &["stream", &paths[0], "--split", &list, "-o", &at("none")]));
    assert!(said.contains("s.keys: it is not the list that") && said.contains("s.split.json tells of"), "{said}");
    std::fs::remove_file(at("s.split.json")).unwrap();
    let said = stderr(&run(2, &["stream", &paths[0], "--split", &list, "-o", &at("none")]));
    assert!(said.contains("s.keys: none of its 1 keys is in these shards (first: `elsewhere`)"), "{said}");
    // A key that stands for two samples.
    std::fs::write(&list, "000000003\n000010004\n").unwrap();
    std::fs::copy(&paths[0], at("again.tar")).unwrap();
    let twice = ["stream", &paths[0], &at("again.tar"), "--split", &list];
    let said = stderr(&run(2, &twice));
    assert!(said.contains("again.tar/000000003: another sample of this key came before"), "{said}");
    let foreign = at("theirs.keys");
    std::fs::write(&foreign, "000000003\n000000003\n").unwrap();
    let said = stderr(&run(2, &["stream", &paths[0], "--split", &foreign]));
    assert!(said.contains("keys alone stand once each in the order of their bytes (LC_ALL=C sort)"), "{said}");
}

/// Two shards of three samples with uids, 1 to 6; and DataComp's list of some uids.
fn with_uids(folder: &Path, listed: &[u64]) -> ([String; 2], String) {
    let paths = [0u64, 1].map(|shard| {
        let mut out = tar::Builder::new(Vec::new());
        for uid in 3 * shard + 1..=3 * shard + 3 {
            let json = format!("{{\"uid\": \"{uid:032x}\"}}");
            for (extension, data) in [("jpg", "picture"), ("json", &json), ("txt", "a dog")] {
                append(&mut out, &mut Dice(uid), &(format!("{uid}.{extension}"), data.into(), 0, 0o644));
            }
        }
        let path = folder.join(format!("{shard}.tar"));
        std::fs::write(&path, out.into_inner().unwrap()).unwrap();
        path.display().to_string()
    });
    let mut bytes = trommel_columnar::npy::pair_head_bytes(listed.len() as u64);
    listed.iter().for_each(|uid| bytes.extend([0u64.to_le_bytes(), uid.to_le_bytes()].concat()));
    let list = folder.join("list.npy");
    std::fs::write(&list, bytes).unwrap();
    (paths, list.display().to_string())
}

/// Whoever has read all shards knows which uids no sample has; who was asked for one does not.
#[test]
fn uids_that_no_sample_has_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, list) = with_uids(folder.path(), &[0, 2, 2, 4, 6, 7, 7, 900]);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let whole = ["stream", &paths[0], &paths[1], "--split", &list, "-o", &at("new"), "--json"];
    let out = run(0, &whole);
    let line = format!("uids of the list that no sample of these shards has: 3 (first: {list}: {:032x})", 0);
    assert!(stderr(&out).contains(&line), "{}", stderr(&out));
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&report["samples"], &report["notices"]["absent_uids"]["count"]), (&3.into(), &3.into()));
    assert_eq!(streamed(&["stream", &paths[0], "--split", &list]).1.matches("no sample").count(), 0);
    assert!(streamed(&["stream", &paths[0], &paths[1], "--split", &list]).1.contains(&line));
    // Who goes on where an earlier turn has ended says the same: after all of it, and after its first shards.
    assert!(stderr(&run(0, &whole)).contains(&line));
    let parts = ["stream", &paths[0], &paths[1], "--split", &list, "-o", &at("parts"), "--shard-samples", "1"];
    run(0, &parts);
    for last in ["parts/00002", "parts/00001"] {
        let gone = |ending: &str| std::fs::remove_file(at(&format!("{last}{ending}"))).unwrap();
        gone(".tar");
        gone("_stats.json");
        let said = stderr(&run(0, &parts));
        assert!(said.contains(&line) && said.contains("3 samples kept, in 3 shards"), "{said}");
    }
    let (paths, list) = with_uids(folder.path(), &[1, 3, 5]);
    let said = stderr(&run(0, &["stream", &paths[0], &paths[1], "--split", &list, "-o", &at("all")]));
    assert!(!said.contains("uids"), "{said}");
}

/// Who wrote the list has not seen that others have its names: whoever reads all of it has, and gives no more than the split keeps.
#[test]
fn more_samples_than_a_split_keeps_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, list) = with_uids(folder.path(), &[2, 4]);
    let head = |count: u64| {
        let head = serde_json::json!({
            "schema": 1, "rule": "random:1%", "seed": 0, "ties": "", "identity": null, "benchmarks": [], "reading": {}, "shards": 1,
            "judged": 9, "rejected": 0, "taken_down": 0, "count": count, "captionless": 0, "keys_sha256": ""
        });
        std::fs::write(folder.path().join("list.split.json"), head.to_string()).unwrap();
    };
    let new = folder.path().join("new").display().to_string();
    let stream = ["stream", &paths[0], &paths[1], "--split", &list];
    head(1);
    for more in [&[][..], &["-o", &new]] {
        let said = stderr(&run(2, &[&stream[..], more].concat()));
        assert!(said.contains("2 samples here have its names, and it keeps 1 of them"), "{said}");
    }
    head(2);
    run(0, &stream);
}

/// Nobody knows what a split would keep of a shard that was not judged: that it keeps nothing of it is not the split's word.
#[test]
fn a_shard_that_was_not_judged_when_the_split_was_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, _) = plain(folder.path(), 2, 3, 10);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let row = |index: usize| Row { key: format!("00000{index:04}"), ..Row::default() };
    let judged = (0..3).map(row).collect::<Vec<_>>().into_iter();
    make(&folder.path().join("half"), &[], vec![("00000.tar".into(), Some(judged)), ("00001.tar".into(), None)]);
    for file in ["s.parquet", "s.txt"] {
        run(3, &["select", &at("half"), "--rule", "random:100%", "-o", &at(file)]);
        let said = stderr(&run(4, &["stream", &paths[0], &paths[1], "--split", &at(file)]));
        assert!(said.contains("shards that were not judged when the split was made, not read: 1"), "{file}: {said}");
        assert!(!said.contains("keeps nothing"), "{file}: {said}");
        run(0, &["stream", &paths[0], "--split", &at(file)]);
    }
}

/// New shards hold all that a split keeps of what is given, and the rest of it is told; they go on from the same rows only.
#[test]
fn new_shards_are_of_these_rows_and_what_was_not_given_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, ledger) = plain(folder.path(), 2, 5, 10);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (table, list) = (at("s.parquet"), at("s.txt"));
    run(0, &["select", &ledger, "--rule", "random:100%", "-o", &table]);
    let said = stderr(&run(0, &["stream", &paths[0], "--split", &table, "-o", &at("one")]));
    let line = "samples that the split keeps of shards that are not given: 2 (first: 00001.tar)";
    assert!(said.contains(line), "{said}");
    run(0, &["select", &ledger, "--rule", "random:100%", "-o", &list]);
    let said = stderr(&run(0, &["stream", &paths[0], "--split", &list, "-o", &at("two")]));
    assert!(said.contains(line), "{said}");
    assert_eq!(std::fs::read(at("one/00000.tar")).unwrap(), std::fs::read(at("two/00000.tar")).unwrap());
    // A list of other names, somebody's without a head, is no list of which nothing is kept.
    std::fs::remove_file(at("s.split.json")).unwrap();
    std::fs::write(&list, "pool/00000.tar/000000000\n").unwrap();
    let said = stderr(&run(2, &["stream", &paths[0], "--split", &list, "-o", &at("three")]));
    assert!(
        said.contains("none of its 1 samples is of these shards: it names pool/00000.tar and not 00000.tar"),
        "{said}"
    );
    // Other rows under the same name.
    run(0, &["select", &ledger, "--rule", "random:3", "-o", &table]);
    let said = stderr(&run(2, &["stream", &paths[0], "--split", &table, "-o", &at("one")]));
    assert!(said.contains("its shards were made by another command: kept_by"), "{said}");
    let piped = || {
        let mut command = trommel();
        command.args(["stream", "-", "--rule", "random:100%", "-o", &at("piped")]);
        command.stdin(std::fs::File::open(&paths[0]).unwrap()).output().unwrap()
    };
    assert_eq!(piped().status.code(), Some(0));
    let again = piped();
    assert_eq!(again.status.code(), Some(2), "{}", stderr(&again));
    assert!(stderr(&again).contains("standard input does not say whether it is the same"));
}

#[test]
fn a_share_is_the_share_that_select_draws_and_other_rules_are_sent_there() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, _) = plain(folder.path(), 2, 50, 10);
    let all = folder.path().join("all");
    let rows = |at: usize| (0..50).map(move |index| Row { key: format!("{at:05}{index:04}"), ..Row::default() });
    make(&all, &[], (0..2).map(|at| (format!("{at:05}.tar"), Some(rows(at)))).collect());
    let (all, table) = (all.display().to_string(), folder.path().join("s.parquet").display().to_string());
    run(0, &["select", &all, "--rule", "random:37%", "--seed", "5", "-o", &table]);
    let (split, _) = streamed(&["stream", &paths[0], &paths[1], "--split", &table]);
    let (share, said) = streamed(&["stream", &paths[0], &paths[1], "--rule", "random:37%", "--seed", "5"]);
    assert_eq!((&share, said.as_str()), (&split, ""));
    assert!(share.len() > 40 && share.len() < 120, "{}", share.len());
    for rule in ["keep-nearest:10", "drop-over-radius", "random:10"] {
        let said = stderr(&run(2, &["stream", &paths[0], "--rule", rule]));
        assert!(said.contains("run `trommel prune`, then `trommel select RUN --rule "), "{said}");
    }
    let said = stderr(&run(2, &["stream", &paths[0], "--run", &paths[1]]));
    assert!(said.contains("no run folder"), "{said}");
}

#[test]
fn a_shard_that_the_run_has_not_judged_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, _) = plain(folder.path(), 1, 3, 10);
    let begun = folder.path().join("begun");
    make(&begun, &[], vec![("00000.tar".into(), None::<std::vec::IntoIter<Row>>)]);
    let out = run(3, &["stream", &paths[0], "--run", &begun.display().to_string()]);
    assert!(out.stdout.is_empty());
    assert!(
        stderr(&out).contains("shard 00000.tar is not judged yet; the same command tries again"),
        "{}",
        stderr(&out)
    );
}

#[test]
fn a_folder_of_somebody_elses_shards_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, ledger) = plain(folder.path(), 1, 3, 10);
    let own = folder.path().display().to_string();
    let said = stderr(&run(2, &["stream", &paths[0], "--run", &ledger, "-o", &own]));
    assert!(said.contains("there is 00000.tar, which this command has not written; give another folder"), "{said}");
}

/// webdataset through a DataLoader's workers, and open_clip's own loader, both with `pipe:` and with new shards; Python's tarfile says what is due.
#[test]
fn webdataset_and_open_clip_train_on_it() {
    let Some(python) = peer("webdataset and open_clip") else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    run(0, &["synth", &data, "--shards", "3", "--samples", "40", "--seed", "7"]);
    let keys = |shard: usize| {
        let tar = std::fs::read(format!("{data}/shards/{shard:05}.tar")).unwrap();
        let names = members(&tar).into_iter().map(|member| member.0.split_once('.').unwrap().0.to_owned());
        let mut keys: Vec<String> = names.collect();
        keys.dedup();
        keys
    };
    let ledger = folder.path().join("run");
    // Nothing is kept of the last shard.
    let rows = |shard: usize| {
        let row = move |(at, key): (usize, String)| {
            let rejected = shard == 2 || at % 3 == 0;
            Row { key, rejected, reason: rejected.then_some("image_decode"), ..Row::default() }
        };
        keys(shard).into_iter().enumerate().map(row).collect::<Vec<_>>().into_iter()
    };
    make(&ledger, &[], (0..3).map(|shard| (format!("{shard:05}.tar"), Some(rows(shard)))).collect());
    let splits = folder.path().join("splits").display().to_string();
    let ledger = ledger.display().to_string();
    run(0, &["select", &ledger, "--rule", "s=random:100%", "-o", &splits, "--format", "parquet,txt"]);
    let new = folder.path().join("new").display().to_string();
    let (pattern, table) = (format!("{data}/shards/{{00000..00002}}.tar"), format!("{splits}/s.parquet"));
    let said = stderr(&run(0, &["stream", &pattern, "--split", &table, "-o", &new, "--shard-samples", "20"]));
    let due = format!("--train-data '{new}/{{00000..00002}}.tar' --train-num-samples 52");
    assert!(said.contains(&due), "{said}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/stream.py");
    let out = Command::new(python)
        .arg(script)
        .args([env!("CARGO_BIN_EXE_trommel"), &pattern, &table, &format!("{splits}/s.txt"), &new])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}\n{}", String::from_utf8_lossy(&out.stdout), stderr(&out));
    assert_eq!(String::from_utf8_lossy(&out.stdout).lines().last(), Some("equal: 52 samples, 4 ways"));
}

/// The command that `select` prints, run as it stands: open_clip's training loader reads no samples but those that are kept, and it trains.
#[test]
fn open_clip_trains_by_the_command_that_select_prints() {
    let Some(python) = peer("all peers") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    run(0, &["synth", &at("data"), "--shards", "3", "--samples", "40", "--seed", "7"]);
    let pattern = at("data/shards/{00000..00002}.tar");
    run(0, &["prune", &pattern, "--rule", "random:100%", "--run", &at("run")]);
    let splits = ["select", &at("run"), "--rule", "s=random:60%", "-o", &at("splits"), "--format", "parquet,txt"];
    let said = stderr(&run(0, &splits));
    let command = said.lines().find_map(|line| line.strip_prefix("trommel:   python ")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/open_clip_training.py");
    let out = Command::new(python)
        .arg(script)
        .args([&format!("python {command}"), &pattern, &at("splits/s.txt"), &at("logs")])
        .env("PATH", common::beside_first(env!("CARGO_BIN_EXE_trommel")))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}\n{}", String::from_utf8_lossy(&out.stdout), stderr(&out));
    let count = command.rsplit_once(' ').unwrap().1;
    let due = format!("trained: {count} samples, ");
    assert!(String::from_utf8_lossy(&out.stdout).lines().last().unwrap().starts_with(&due), "{due}");
}
