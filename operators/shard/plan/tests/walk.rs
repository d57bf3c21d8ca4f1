//! What wildcards find, and what keeps them from finding it.

use std::path::Path;

use super::super::wildcards::{Wildcards, first_wildcard};
use super::*;
use crate::store::{EntryKind, Local};

/// A tree of folders and files with names that wildcards may or may not mean, hidden ones and links among them.
fn tree(random: &mut Random) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let names = ["a", "b", "aa", "a.tar", "b.tar", ".a", "[x]", "ab.tar.gz"];
    let elsewhere = root.path().join(".elsewhere");
    std::fs::create_dir_all(elsewhere.join("a")).unwrap();
    std::fs::write(elsewhere.join("a/b.tar"), "x").unwrap();
    let mut folders = vec![root.path().to_path_buf()];
    for _ in 0..25 {
        let path = folders[random.below(folders.len())].join(names[random.below(names.len())]);
        let depth = path.components().count() - root.path().components().count();
        match random.below(5) {
            _ if path.symlink_metadata().is_ok() => {}
            0 | 1 if depth < 4 => {
                std::fs::create_dir(&path).unwrap();
                folders.push(path);
            }
            // To a folder, a file (which may be itself), or nowhere.
            2 if depth < 4 => {
                let to = [elsewhere.as_path(), Path::new("a.tar"), Path::new("gone")][random.below(3)];
                std::os::unix::fs::symlink(to, path).unwrap();
            }
            _ => std::fs::write(path, "x").unwrap(),
        }
    }
    root
}

/// The field's library walks this machine's folders; the walk through a store finds the same, in the same order.
#[test]
fn wildcards_find_what_the_glob_library_finds() {
    let mut random = Random(7);
    let words = ["*", "?", "a*", "*.tar", "[ab]", "[!a]*", "**", "a", "b", "[[]x]", "?.tar", "*.tar*", "a.tar"];
    let (mut found_any, mut folders_any) = (0, 0);
    for _ in 0..60 {
        let root = tree(&mut random);
        for _ in 0..40 {
            let picked: Vec<&str> = (0..=random.below(4)).map(|_| words[random.below(words.len())]).collect();
            if picked.iter().all(|word| first_wildcard(word).is_none()) {
                continue; // a path, which nobody asks wildcards for
            }
            let slash = if random.below(8) == 0 { "/" } else { "" };
            let pattern = format!("{}/{}{slash}", root.path().display(), picked.join("/"));
            let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
            let of_library: Vec<(String, bool)> = glob::glob_with(&pattern, options)
                .unwrap()
                .map(|path| path.unwrap())
                .map(|path| (path.display().to_string().trim_end_matches('/').to_owned(), path.is_dir()))
                .collect();
            let local = Local::default();
            let met = Wildcards::parse(&pattern).unwrap().find(&Look::at(&local)).unwrap();
            let found: Vec<(String, bool)> = met
                .entries
                .into_iter()
                .map(|(url, entry)| (url.trim_end_matches('/').to_owned(), entry.kind == EntryKind::Folder))
                .collect();
            if pattern.trim_end_matches('/').ends_with("**") {
                // The library leaves out the folder that `**` begins in.
                assert!(found.len() >= of_library.len(), "{pattern}");
                folders_any += found.len();
                continue;
            }
            assert_eq!(found, of_library, "{pattern}");
            found_any += found.len();
        }
    }
    assert!(found_any > 1000 && folders_any > 100, "{found_any} {folders_any}: the trees and patterns hardly meet");
}

/// A small generator, equal on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % most as u64) as usize
    }
}

/// What nobody may look into may hold what was asked for. A superuser may look into every folder of this machine, so another store says it.
#[test]
fn a_folder_that_may_not_be_entered_is_named_and_hides_nothing() {
    let urls = ["mem://pool/a/0.tar", "mem://pool/b/0.tar", "mem://pool/b/1.tar", "mem://pool/c/in/0.tar"];
    let store = Faulty::new(Memory::of(urls.map(|url| (url, "x"))), []);
    let stores = Stores::default().with("mem", store.clone());
    let plan = |argument: &str| expand(&[argument.to_owned()], &stores, &PlanOptions::default());
    let names = |argument: &str| plan(argument).unwrap().shards.into_iter().map(|it| it.name).collect::<Vec<_>>();
    let said = |argument: &str| Causes(&plan(argument).unwrap_err()).to_string();
    assert_eq!(names("mem://pool/*/0.tar"), ["pool/a/0.tar", "pool/b/0.tar"]);
    // Whoever may list it and not enter it learns whether it has what was asked for.
    store.add("b/0.tar", Fault::Denied);
    store.add("b/2.tar", Fault::Denied);
    assert_eq!(said("mem://pool/*/0.tar"), "mem://pool/b/0.tar: permission denied");
    assert_eq!(said("mem://pool/*/2.tar"), "mem://pool/*/2.tar: no such shard");
    assert_eq!(names("mem://pool/*/1.tar"), ["pool/b/1.tar"]);
    // Whoever may do neither learns which folder it is.
    store.add("b/", Fault::Denied);
    store.add("b/1.tar", Fault::Denied);
    for argument in ["mem://pool/*/0.tar", "mem://pool/*/1.tar", "mem://pool/*/2.tar", "mem://pool/[ab]/*.tar"] {
        assert_eq!(said(argument), "mem://pool/b/: permission denied", "{argument}");
        let embeddings = found_by(argument, &stores, &mut Notices::default()).unwrap_err();
        assert_eq!(Causes(&embeddings).to_string(), "mem://pool/b/: permission denied", "{argument}");
    }
    store.add("c/in/0.tar", Fault::Denied);
    store.add("c/in/", Fault::Denied);
    assert_eq!(said("mem://pool/c*/in/0.tar"), "mem://pool/c/in/: permission denied");
    assert_eq!(names("mem://pool/a*/0.tar"), ["pool/a/0.tar"], "nobody has asked for the others");
}

/// Of a disk that is not mounted a link is left: what was asked for there is missed.
#[test]
fn links_that_lead_nowhere_in_the_place_of_folders_are_noted() {
    let place = Place::new(&[&FILES[..], &["d/in/0.tar"]].concat());
    for link in ["gone", "a/gone", "b/in"] {
        std::os::unix::fs::symlink("nowhere", place.folder.path().join(link)).unwrap();
    }
    let root = place.folder.path().display().to_string();
    for (argument, count) in [
        ("@/*/0.tar", 1),
        ("@/*/*.tar", 1),
        ("@/[ab]/0.tar", 0),
        ("@/a/*.tar", 0),
        ("@/*/in/0.tar", 2),
        ("@/*/in/*.tar", 2),
        ("@/[ad]/in/*.tar", 0),
        ("@/**/0.tar", 3),
        ("@/**/in/*.tar", 3),
    ] {
        let plan = place.plan(&[argument]).unwrap();
        let noted = |notices: &Notices| notices.get("links_to_nothing").map_or(0, |notice| notice.count);
        assert_eq!(noted(&plan.losses()), count, "{argument}: {:?}", plan.passed_over);
        let mut notices = Notices::default();
        found_by(&argument.replace('@', &root), &Local::default(), &mut notices).unwrap();
        assert_eq!(noted(&notices), count, "{argument}");
    }
}

/// Below `**` a folder that leads back has no end: its shards are found once.
#[test]
fn links_that_lead_back_are_passed_over() {
    let place = Place::new(&["d/0.tar", "d/e/1.tar"]);
    for (to, link) in [(".", "d/latest"), ("..", "d/e/up"), ("../../d", "d/e/again")] {
        std::os::unix::fs::symlink(to, place.folder.path().join(link)).unwrap();
    }
    let plan = place.plan(&["@/d/**/*.tar"]).unwrap();
    let names: Vec<&str> = plan.shards.iter().map(|shard| shard.name.as_str()).collect();
    assert_eq!((names, plan.passed_over.get("folder_loop").unwrap().count), (vec!["0.tar", "e/1.tar"], 3));
    // One level of it was asked for.
    assert_eq!(place.plan(&["@/d/*/*.tar"]).unwrap().len(), 2);
}
