//! The grouping against a naive model written from the convention's words, and against webdataset itself.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::original::Groups;
use super::plan::ShardRef;
use super::reader::ReaderConfig;
use super::samples::{Group, Want};
use super::testing::{Row, append, memory, read};

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

type File = (String, Vec<u8>);

/// Random members: few keys, so that groups form and repeat, and names of every odd sort.
fn members(random: &mut Random) -> Vec<File> {
    let long = format!("{}/", "folder.with.dots".repeat(9));
    let folders = ["", "", "", "./", "a.b/", "a/", "__meta__/", "x/__y__/", long.as_str()];
    let bases = ["._0001", ".DS_Store", "0001", "0001", "0002", "22", "ü", "a b", "", ".", "__k", "_x_"];
    let extensions = [
        ".jpg", ".JPG", ".png", ".txt", ".json", ".Txt", ".seg.jpg", "", ".", ".webp", "..jpg", ".jpeg", ".gif", "__",
        ".cls",
    ];
    let (mut folder, mut base) = ("", "0001");
    (0..random.below(30))
        .map(|_| {
            if random.below(3) == 0 {
                folder = random.pick(&folders);
                base = random.pick(&bases);
            }
            let name = format!("{folder}{base}{}", random.pick(&extensions));
            let size = [0, 1, 511, 512, 513, 40][random.below(6)];
            let mut data = vec![b'a' + u8::try_from(random.below(26)).unwrap(); size];
            if name.to_lowercase().ends_with(".json") {
                data = format!("{{\"caption\": \"json {}\", \"x\": [1, {{}}]}}", random.below(100)).into_bytes();
            }
            (name, data)
        })
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

fn packed(files: &[File], random: &mut Random) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        if random.below(10) == 0 {
            let mut folder = tar::Header::new_ustar();
            folder.set_entry_type(if random.below(2) == 0 {
                tar::EntryType::Directory
            } else {
                tar::EntryType::Symlink
            });
            folder.set_path("0001.jpg").unwrap();
            folder.set_size(0);
            folder.set_cksum();
            builder.append(&folder, &b""[..]).unwrap();
        }
        if random.below(10) == 0 {
            // Of these types webdataset reads nothing, data or not.
            let mut unread = tar::Header::new_ustar();
            unread.set_entry_type(tar::EntryType::new([b'A', b'M', b'N', b'Z'][random.below(4)]));
            unread.set_path("0001.jpg").unwrap();
            unread.set_size(600);
            unread.set_cksum();
            builder.append(&unread, &[b'u'; 600][..]).unwrap();
        }
        if name.len() < 100 {
            append(&mut builder, name, data);
        } else {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(data.len() as u64);
            builder.append_data(&mut header, name, &data[..]).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

/// Key and extension by trying every way to read the name, longest folder first.
fn split(name: &str) -> Option<(String, String)> {
    let slashes = name.match_indices('/').map(|(at, _)| at + 1).collect::<Vec<_>>();
    for start in slashes.into_iter().rev().chain([0]) {
        let Some(dot) = name[start..].find('.').filter(|dot| *dot > 0) else { continue };
        let (key, extension) = (&name[..start + dot], &name[start + dot + 1..]);
        if !extension.contains('/') {
            return Some((key.into(), extension.to_lowercase()));
        }
    }
    None
}

/// Ours alone: the reference takes these for members of samples, and so tears samples apart.
fn is_macos(name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap();
    base == ".DS_Store" || base.starts_with("._") && base != "._"
}

fn is_meta(name: &str) -> bool {
    let first = name.split('/').next().unwrap();
    first.len() >= 4 && first.starts_with("__") && first.ends_with("__")
}

/// Key and members of each group.
fn groups(files: &[File]) -> Vec<(String, BTreeMap<String, Vec<u8>>)> {
    let mut groups: Vec<(String, BTreeMap<String, Vec<u8>>)> = Vec::new();
    for (name, data) in files {
        if is_meta(name) || is_macos(name) {
            continue;
        }
        let Some((key, extension)) = split(name) else { continue };
        match groups.last_mut() {
            Some((last, members)) if *last == key && !members.contains_key(&extension) => {
                members.insert(extension, data.clone());
            }
            _ => groups.push((key, BTreeMap::from([(extension, data.clone())]))),
        }
    }
    groups
}

/// What the reader must say of a group; the offset is not modelled.
fn row(key: &str, members: &BTreeMap<String, Vec<u8>>) -> Row {
    let image = ["jpg", "png", "jpeg", "webp", "gif", "bmp"]
        .iter()
        .find_map(|ext| Some((ext.to_string(), members.get(*ext)?.clone())));
    let text = members
        .get("txt")
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .filter(|text| !text.trim().is_empty());
    let json = || {
        let json: serde_json::Value = serde_json::from_slice(members.get("json")?).ok()?;
        Some(json.get("caption")?.as_str()?.to_string())
    };
    Row {
        key: key.into(),
        offset: 0,
        size: members.values().map(|data| data.len() as u64).sum(),
        caption: if image.is_some() { text.or_else(json).filter(|text| !text.trim().is_empty()) } else { None },
        image: image.ok_or("no_image".into()),
    }
}

fn rows_without_offsets(bytes: Vec<u8>) -> Vec<Row> {
    let (mut rows, _) = read(bytes, &ReaderConfig::default());
    assert!(rows.is_sorted_by_key(|row| row.offset));
    rows.iter_mut().for_each(|row| row.offset = 0);
    rows
}

/// Key and members of the samples of a tar as they stand, of which `wanted` says so by index.
fn whole(bytes: Vec<u8>, wanted: impl Fn(u32) -> bool) -> Vec<(String, BTreeMap<String, Vec<u8>>)> {
    let shard = ShardRef { ordinal: 0, name: "0.tar".into(), url: "0".into(), bytes: None };
    let store = memory([bytes]);
    let Ok(mut shard) = Groups::open(&store, &shard, &ReaderConfig::default()) else { return Vec::new() };
    let (mut asked, mut samples) = (Vec::new(), Vec::new());
    let mut want = |index, _: &[u8]| {
        asked.push(index);
        if wanted(index) { Want::Original { identity: false } } else { Want::Place }
    };
    while let Some(group) = shard.next_group(&mut want) {
        let Group::Original(info, original) = group else { continue };
        assert!(wanted(info.id.index));
        let members: BTreeMap<_, _> =
            original.contents().map(|(extension, data)| (extension.to_owned(), data.to_vec())).collect();
        assert_eq!(members.len(), original.members.len(), "an extension twice");
        samples.push((info.key.clone(), members));
    }
    assert!(asked.iter().copied().eq(0..u32::try_from(asked.len()).unwrap()), "asked once for every index: {asked:?}");
    samples
}

#[test]
fn oracle_original_samples() {
    let mut random = Random(17);
    for round in 0..500 {
        let files = members(&mut random);
        let (bytes, groups) = (packed(&files, &mut random), groups(&files));
        let names = || files.iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(whole(bytes.clone(), |_| true), groups, "round {round}: {:?}", names());
        let third: Vec<_> = groups.into_iter().step_by(3).collect();
        assert_eq!(whole(bytes, |index| index % 3 == 0), third, "round {round}: {:?}", names());
    }
}

#[test]
fn oracle_random_tars() {
    let mut random = Random(7);
    let mut seen = (0, 0);
    for round in 0..2000 {
        let files = members(&mut random);
        let got = rows_without_offsets(packed(&files, &mut random));
        let wanted: Vec<Row> = groups(&files).iter().map(|(key, members)| row(key, members)).collect();
        assert_eq!(got, wanted, "round {round}: {:?}", files.iter().map(|(name, _)| name).collect::<Vec<_>>());
        seen.0 += got.iter().filter(|row| row.image.is_ok()).count();
        seen.1 += got.iter().filter(|row| row.image.is_err()).count();
    }
    assert!(seen.0 > 1000 && seen.1 > 1000, "{seen:?}");
}

#[test]
fn offsets_lead_back_to_the_sample() {
    let mut random = Random(11);
    for _ in 0..200 {
        let files = members(&mut random);
        let bytes = packed(&files, &mut random);
        let (rows, _) = read(bytes.clone(), &ReaderConfig::default());
        for (at, row) in rows.iter().enumerate() {
            let (again, _) = read(bytes[usize::try_from(row.offset).unwrap()..].to_vec(), &ReaderConfig::default());
            assert_eq!((again.len(), &again[0].image, &again[0].key), (rows.len() - at, &row.image, &row.key));
        }
    }
}

/// Runs where `TROMMEL_PEERS` names a Python that has webdataset and open_clip.
#[test]
fn peer_webdataset() {
    let Some(python) = crate::skipped::peer("webdataset and open_clip") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(13);
    let mut tars: Vec<PathBuf> = Vec::new();
    for round in 0..100 {
        let mut files = members(&mut random);
        files.retain(|(name, _)| !is_macos(name));
        let path = folder.path().join(format!("{round:03}.tar"));
        // A name that is only slashes and dots, or a tar without members, stops the peer's own tar reader.
        if !files.is_empty() {
            std::fs::write(&path, packed(&files, &mut random)).unwrap();
            tars.push(path);
        }
    }
    // What tarfile reads in passing, webdataset reads too.
    let compress = "import bz2, lzma, sys\nfor f in sys.argv[1:]:\n    b = open(f, 'rb').read()\n    for end, c in (('bz2', bz2.compress(b)), \
                    ('xz', lzma.compress(b)), ('lzma', lzma.compress(b, format=lzma.FORMAT_ALONE))): open(f'{f}.{end}', 'wb').write(c)";
    let made = Command::new(&python).args(["-c", compress]).args(&tars[..20]).status().unwrap();
    assert!(made.success());
    let packed = |tar: &PathBuf| ["bz2", "xz", "lzma"].map(|end| PathBuf::from(format!("{}.{end}", tar.display())));
    let packed: Vec<PathBuf> = tars[..20].iter().flat_map(packed).collect();
    tars.extend(packed);
    if let Some(data) = std::env::var_os("TROMMEL_TEST_DATA").map(PathBuf::from) {
        tars.extend(["wds/sample.tgz", "wds/mpdata.tar", "wds/compressed.tar"].map(|name| data.join(name)));
        tars.extend((0..4).map(|i| data.join(format!("shards/coco/{i:05}.tar"))));
        let odd = [
            "gnu",
            "gnu-utf8",
            "gnu-not-utf8",
            "star",
            "ustar",
            "v7",
            "pax",
            "pax-records",
            "pax-pos-size-file",
            "nil-uid",
        ];
        tars.extend(odd.map(|name| data.join(format!("tar/go/{name}.tar"))));
        let odd = ["pax", "pax2", "pax_size", "biguid_gnu", "biguid_pax", "7z_long_path", "simple_missing_last_header"];
        tars.extend(odd.map(|name| data.join(format!("tar/tar-rs/{name}.tar"))));
    }
    let script = folder.path().join("peer.py");
    std::fs::write(&script, include_str!("peer_webdataset.py")).unwrap();
    let output = Command::new(python).arg(&script).args(&tars).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut theirs: BTreeMap<PathBuf, Vec<Row>> = BTreeMap::new();
    type Whole = Vec<(String, BTreeMap<String, Vec<u8>>)>;
    let mut theirs_whole: BTreeMap<PathBuf, Whole> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let unhex = |text: &str| -> Vec<u8> {
            (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
        };
        let members = line["members"].as_object().unwrap().iter();
        let members = members.map(|(extension, data)| (extension.clone(), unhex(data.as_str().unwrap()))).collect();
        let (tar, key) = (PathBuf::from(line["tar"].as_str().unwrap()), line["key"].as_str().unwrap());
        theirs.entry(tar.clone()).or_default().push(row(key, &members));
        theirs_whole.entry(tar).or_default().push((key.into(), members));
    }
    let mut compared = 0;
    for tar in &tars {
        let bytes = std::fs::read(tar as &Path).unwrap();
        assert_eq!(whole(bytes.clone(), |_| true), theirs_whole.remove(tar).unwrap_or_default(), "{}", tar.display());
        let ours = rows_without_offsets(bytes);
        assert_eq!(ours, theirs.remove(tar).unwrap_or_default(), "{}", tar.display());
        compared += ours.len();
    }
    println!("{compared} samples equal in {} tars", tars.len());
    assert!(compared > 500);
}
