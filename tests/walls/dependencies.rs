//! What a manifest names, the crate's code names too: that of its tests where the manifest says so, and that of its build script.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::circles::{children, tokens, without_tests};
use super::{packages, text};

/// What no code names.
const ELSEWHERE: [&str; 3] = [
    // Its build script says where libtorch lies; Cargo tells this to the build scripts of those who name it.
    "torch-sys",
    // Libraries that are opened while the program, or Python in a test, runs; named, so that Cargo builds them.
    "trommel-torch",
    "trommel-python",
];

/// The code of a file and of the modules that it names, a list of tokens a file. The first file has its modules beside it.
fn read(file: &Path, first: bool, tests: bool, into: &mut Vec<Vec<String>>) {
    let source = std::fs::read_to_string(file).unwrap();
    let all = tokens(&source);
    let code = if tests { all } else { without_tests(all) };
    children(file, first, &code).iter().for_each(|(_, child)| read(child, false, tests, into));
    into.push(code);
    // Only tests and benches take in what stands elsewhere.
    let elsewhere = source.split("#[path = \"").skip(1).filter(|_| tests);
    for path in elsewhere.filter_map(|rest| rest.split('"').next()) {
        read(&file.parent().unwrap().join(path), true, tests, into);
    }
}

/// Whether code names a crate: where a path begins, or alone behind `use`. A module of that name counts too, unless the path says that it is one.
fn names(code: &[String], name: &str) -> bool {
    let at = |place: Option<usize>| place.and_then(|place| code.get(place)).map_or("", String::as_str);
    (0..code.len()).filter(|&place| code[place] == name).any(|place| {
        let [before, earlier] = [1, 2].map(|by| at(place.checked_sub(by)));
        let own = before == "::" && ["crate", "self", "super"].contains(&earlier);
        !own && (at(Some(place + 1)) == "::" || before == "use")
    })
}

#[test]
fn what_a_manifest_names_is_used() {
    let (mut unused, mut elsewhere, mut checked) = (Vec::new(), BTreeSet::new(), 0);
    for package in packages() {
        let code_of = |kinds: &[&str], tests: bool| {
            let mut code = Vec::new();
            for target in package["targets"].as_array().unwrap() {
                if target["kind"].as_array().unwrap().iter().any(|kind| kinds.contains(&kind.as_str().unwrap())) {
                    read(&PathBuf::from(text(&target["src_path"])), true, tests, &mut code);
                }
            }
            code
        };
        let own = code_of(&["lib", "cdylib", "bin"], false);
        let tested = code_of(&["lib", "cdylib", "bin", "test", "bench", "example"], true);
        let build = code_of(&["custom-build"], true);
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = text(&dependency["name"]);
            let (kind, code) = match dependency["kind"].as_str() {
                None => ("dependencies", &own),
                Some("dev") => ("dev-dependencies", &tested),
                Some(_) => ("build-dependencies", &build),
            };
            checked += 1;
            if code.iter().any(|code| names(code, &name.replace('-', "_"))) {
                continue;
            }
            if ELSEWHERE.contains(&name.as_str()) {
                elsewhere.insert(name);
            } else {
                unused.push(format!("{}: {name} of [{kind}]", text(&package["name"])));
            }
        }
    }
    assert!(checked > 250, "the search finds only {checked} dependencies");
    assert!(unused.is_empty(), "nobody names them, or tests alone: {unused:#?}");
    assert_eq!(elsewhere, ELSEWHERE.map(String::from).into(), "an exception that is none");
}

#[test]
fn a_dependency_is_named_by_a_path_or_a_use() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("lib.rs", "mod a;\n#[cfg(test)]\nmod b;\nuse used::X;\nuse alone;"),
        ("a.rs", "fn tar() { let x = ::rooted::f(); super::tar::f(\"quoted::f\") } // said::f"),
        ("b.rs", "#[path = \"elsewhere/c.rs\"]\nmod c;\nfn f() { tested::f() }"),
        ("elsewhere/c.rs", "fn f() { taken_in::f() }"),
    ];
    std::fs::create_dir(folder.path().join("elsewhere")).unwrap();
    files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
    let named = |tests: bool| {
        let mut code = Vec::new();
        read(&folder.path().join("lib.rs"), true, tests, &mut code);
        let all = ["used", "alone", "rooted", "tested", "taken_in", "tar", "quoted", "said"];
        all.into_iter().filter(|name| code.iter().any(|code| names(code, name))).collect::<Vec<_>>()
    };
    assert_eq!(named(false), ["used", "alone", "rooted"]);
    assert_eq!(named(true), ["used", "alone", "rooted", "tested", "taken_in"]);
}
