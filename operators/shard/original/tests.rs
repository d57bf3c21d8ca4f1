//! Whatever the bytes: what comes out as it stands stood there, whole, and what is no whole sample does not come.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::ops::ControlFlow;

use super::*;
use crate::plan::ShardRef;
use crate::tar::RawMember;
use crate::testing::{append, memory, read};
use trommel_core::sample::Reason;

/// Takes everything as it stands.
#[derive(Default)]
struct All {
    originals: Vec<(String, u64, Original)>,
    rejects: Vec<(String, Reason)>,
}

impl Visit for All {
    type Error = Infallible;

    fn want(&mut self, _: u32, _: &[u8]) -> Want {
        Want::Original { identity: false }
    }

    fn take(&mut self, group: Group) -> Result<ControlFlow<()>, Infallible> {
        match group {
            Group::Original(info, original) => self.originals.push((info.key.clone(), info.offset, original)),
            Group::Rejected(info, reason) => self.rejects.push((info.key.clone(), reason)),
            other => panic!("{other:?}"),
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn all(bytes: Vec<u8>) -> (All, Visited) {
    let shard = ShardRef { ordinal: 0, name: "0.tar".into(), url: "0".into(), bytes: None };
    let mut all = All::default();
    let Ok(visited) = visit(&memory([bytes]), &shard, &ReaderConfig::default(), &mut all);
    (all, visited)
}

fn member(kind: tar::EntryType, name: &str, data: &[u8]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_path(name).unwrap();
    header.set_cksum();
    out.append(&header, data).unwrap();
    let mut bytes = out.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

#[test]
fn a_prefix_is_of_the_name_and_goes_with_it() {
    let folder = "folder/".repeat(16);
    let tar = [&member(tar::EntryType::Regular, &format!("{folder}a.jpg"), b"A")[..], &[0; 1024]].concat();
    assert_ne!(tar[345], 0, "the folder stands in the header's prefix");
    let (seen, _) = all(tar);
    assert_eq!(seen.originals[0].0, format!("{folder}a"));
    let renamed = [&seen.originals[0].2.renamed(b"b").unwrap()[..], &[0; 1024]].concat();
    assert_eq!(all(renamed).0.originals[0].0, "b");
}

#[test]
fn damaged_tars_give_whole_samples_that_stood_there() {
    let mut builder = tar::Builder::new(Vec::new());
    for at in 0..12u8 {
        let key = format!("{}{at:02}", if at % 4 == 0 { "long.folder/".repeat(12) } else { String::new() });
        for extension in ["jpg", "json", "txt"] {
            let (name, data) = (format!("{key}.{extension}"), vec![at ^ extension.as_bytes()[0]; usize::from(at) * 97]);
            if name.len() > 100 {
                let mut header = tar::Header::new_gnu();
                header.set_size(data.len() as u64);
                builder.append_data(&mut header, &name, &data[..]).unwrap();
            } else {
                append(&mut builder, &name, &data);
            }
        }
    }
    let whole = builder.into_inner().unwrap();
    let (mut state, mut cut, mut sound) = (7u64, 0, 0);
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    for round in 0..300 {
        let mut bytes = whole.clone();
        if round % 2 == 0 {
            bytes.truncate(below(bytes.len()));
        } else {
            for _ in 0..1 + below(4) {
                let at = below(bytes.len());
                bytes[at] = below(256) as u8;
            }
        }
        let (seen, visited) = all(bytes.clone());
        cut += u32::from(visited.is_cut);
        sound += seen.originals.len();
        assert!(visited.count as usize == seen.originals.len() + seen.rejects.len(), "round {round}");
        for (key, offset, original) in &seen.originals {
            // Members come in the tar's order; padding is made anew.
            let mut from = *offset as usize;
            for (extension, RawMember { start, data, size, .. }) in &original.members {
                let member = &original.bytes[*start..data + size];
                let found = bytes[from..].windows(member.len()).position(|piece| piece == member);
                from += found.unwrap_or_else(|| panic!("round {round}: {key}.{extension}")) + member.len();
            }
        }
        // What is a sample for a reader of pictures is one here.
        let (rows, _) = read(bytes, &ReaderConfig::default());
        assert_eq!(rows.len(), visited.count as usize, "round {round}");
    }
    assert!(cut > 100 && sound > 1000, "{cut} {sound}");
}

#[test]
fn what_does_not_stand_for_itself_is_no_original() {
    let global = member(tar::EntryType::XGlobalHeader, "g", b"14 path=o.jpg\n");
    let comment = member(tar::EntryType::XGlobalHeader, "g", b"19 comment=a commit\n");
    let a = member(tar::EntryType::Regular, "a.jpg", b"A");
    let end = vec![0; 1024];
    let (seen, _) = all([&global[..], &a, &end].concat());
    assert_eq!((seen.originals.len(), seen.rejects[0].1.code.as_str()), (0, "global_header"));
    let (seen, _) = all([&comment[..], &a, &end].concat());
    // It would say of other shards' members what it says of these.
    assert_eq!((seen.rejects.len(), &seen.originals[0].2.bytes), (0, &a));
    // Stored with holes: as it stands it can leave, under another name it cannot.
    let holes = member(tar::EntryType::XHeader, "x", b"22 GNU.sparse.major=1\n");
    let (seen, _) = all([&holes[..], &a, &end].concat());
    let original = &seen.originals[0].2;
    assert_eq!(original.bytes, [&holes[..], &a].concat());
    assert_eq!((original.is_sparse, original.renamed(b"b")), (true, None));
}

#[test]
fn another_key_changes_names_alone() {
    let pax = member(tar::EntryType::XHeader, "x", b"14 path=a.JPG\n");
    let tar = [
        &pax[..],
        &member(tar::EntryType::Regular, "elsewhere", b"AB"),
        &member(tar::EntryType::Regular, "a.txt", b""),
        &[0; 1024],
    ]
    .concat();
    let (seen, _) = all(tar);
    let original = &seen.originals[0].2;
    for key in ["short", &"k/".repeat(60)] {
        let bytes = [&original.renamed(key.as_bytes()).unwrap()[..], &[0; 1024]].concat();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut data).unwrap();
            found.push((String::from_utf8(entry.path_bytes().into_owned()).unwrap(), data));
        }
        assert_eq!(found, [(format!("{key}.jpg"), b"AB".to_vec()), (format!("{key}.txt"), Vec::new())]);
    }
}
