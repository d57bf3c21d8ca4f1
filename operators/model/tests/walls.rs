//! A family of models is one folder: nobody outside it names its types, and the list of families is the one place that names it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[path = "../../decide/tests/sources.rs"]
mod sources;
use sources::{sources, walk};

/// A file's code, comments left out.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The identifiers of code, one after the other.
fn identifiers(code: &str) -> Vec<&str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect()
}

/// Where code names a module: as the start of a path, or as its end, or as what is declared.
fn modules<'a>(code: &'a str, module: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(module).filter_map(move |(at, _)| {
        let (before, after) = (&code[..at], &code[at + module.len()..]);
        let apart = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let whole = apart(before.chars().next_back()) && apart(after.chars().next());
        let path = after.starts_with("::") || before.ends_with("::") || before.ends_with("mod ");
        (whole && path).then_some(module)
    })
}

/// Families, by the folder's name, with the names of the types that they show.
fn families(room: &Path) -> Vec<(String, BTreeSet<String>)> {
    let mut families = Vec::new();
    for entry in fs::read_dir(room).unwrap() {
        let folder = entry.unwrap().path();
        let is_family =
            fs::read_to_string(folder.join("mod.rs")).is_ok_and(|text| text.contains("const FAMILY: Family"));
        if !is_family {
            continue;
        }
        let (mut files, mut types) = (Vec::new(), BTreeSet::<String>::new());
        walk(&folder, &mut files);
        files.retain(|file| !file.to_string_lossy().ends_with("peers.rs"));
        for file in files {
            let code = code(&file);
            let words = identifiers(&code);
            for three in words.windows(3).filter(|three| three[0] == "pub" && ["struct", "enum"].contains(&three[1])) {
                types.insert(three[2].to_owned());
            }
        }
        families.push((folder.file_name().unwrap().to_str().unwrap().to_owned(), types));
    }
    families.sort();
    families
}

#[test]
fn nobody_outside_a_familys_folder_names_its_types() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap();
    let families = families(&room);
    assert_eq!(families.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["clip", "siglip"]);
    assert!(families[0].1.contains("ClipConfig") && families[0].1.len() > 4, "{families:?}");
    let mut files = sources(&room.join("../.."));
    // They compare with open_clip's files of one family.
    files.retain(|file| !file.to_string_lossy().ends_with("peers.rs"));
    let mut abroad = Vec::new();
    for (family, types) in &families {
        let mut at_home = 0;
        for path in &files {
            let path = path.canonicalize().unwrap();
            if path.starts_with(room.join(family)) {
                at_home += 1;
                continue;
            }
            let code = code(&path);
            // Another family has types of the same names, its own; it would have to name this one's folder.
            let is_family = families.iter().any(|(other, _)| path.starts_with(room.join(other)));
            let named = identifiers(&code).into_iter().filter(|word| !is_family && types.contains(*word));
            let named: Vec<&str> = named.chain(modules(&code, family)).collect();
            // The list of families, and the line that makes the folder a module.
            let allowed = match path.strip_prefix(&room).ok().and_then(Path::to_str) {
                Some("families.rs") => 2,
                Some("lib.rs") => 1,
                _ => 0,
            };
            if named.len() > allowed {
                abroad.push(format!("{}: {named:?}", path.display()));
            }
        }
        assert!(at_home > 5, "{family} has {at_home} files");
    }
    assert!(abroad.is_empty(), "ask trommel_model's Architecture and Towers instead: {abroad:#?}");
}
