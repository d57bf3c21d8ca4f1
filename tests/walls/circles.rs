//! Inside a crate, imports run one way too: what two modules need of each other stands in a third.
//!
//! A module may import what stands above it, and what its children give; children that import their parent are the parent's parts. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

type Module = Vec<String>;

/// A file's words and signs, without comments and texts.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let raw = rest.starts_with("r\"") || rest.starts_with("r#\"") || rest.starts_with("br\"");
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if raw {
            let hashes = if rest.starts_with("r#") { "\"#" } else { "\"" };
            let begins = rest.find('"').unwrap_or(0) + 1;
            rest[begins..].find(hashes).map_or(rest.len(), |end| begins + end + hashes.len())
        } else if first == '"' {
            let mut escaped = false;
            let closes = |c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            };
            rest[1..].find(closes).map_or(rest.len(), |end| end + 2)
        } else if first == '\'' && !rest[1..].starts_with('\\') {
            // A letter in quotes, or a lifetime.
            let letter = rest[1..].chars().next().map_or(0, char::len_utf8);
            if rest[1 + letter..].starts_with('\'') { letter + 2 } else { 1 }
        } else if first == '\'' {
            rest[3..].find('\'').map_or(rest.len(), |end| end + 4)
        } else if word > 0 {
            found.push(rest[..word].to_owned());
            word
        } else {
            let sign = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                found.push(rest[..sign].to_owned());
            }
            sign
        };
        rest = &rest[length..];
    }
    found
}

/// The same without what stands behind `#[cfg(test)]`.
pub(super) fn without_tests(tokens: Vec<String>) -> Vec<String> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if !tokens[at..].iter().zip(TEST).all(|(token, wanted)| token == wanted) || tokens.len() - at < TEST.len() {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0;
        at += TEST.len();
        while at < tokens.len() {
            match tokens[at].as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && ["}", ";"].contains(&tokens[at - 1].as_str()) {
                break;
            }
        }
    }
    kept
}

/// The paths of a `use` tree that begins here, and where it ends.
fn tree(tokens: &[String], prefix: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let (mut path, mut at) = (prefix.to_vec(), 0);
    let mut has_leaf = false;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => {
                at += 1;
                loop {
                    at += tree(&tokens[at..], &path, paths);
                    at += 1;
                    if tokens.get(at - 1).is_none_or(|token| token != ",") {
                        break;
                    }
                }
                has_leaf = false;
                continue;
            }
            "," | "}" | ";" => break,
            "as" => at += 1,
            "::" => {}
            word => {
                path.push(word.to_owned());
                has_leaf = true;
            }
        }
        at += 1;
    }
    if has_leaf {
        paths.push(path);
    }
    at
}

/// Paths that begin at the crate, at the module, or above it.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        // Not the captures of an `impl Trait + use<..>`.
        if tokens[at] == "use" && tokens.get(at + 1).is_some_and(|token| token != "<") {
            at += 1 + tree(&tokens[at + 1..], &[], &mut found);
            continue;
        }
        let begins = at == 0 || tokens[at - 1] != "::";
        if begins && ["crate", "self", "super"].contains(&tokens[at].as_str()) {
            let mut path = vec![tokens[at].clone()];
            while tokens.get(at + 1).is_some_and(|token| token == "::") && at + 2 < tokens.len() {
                path.push(tokens[at + 2].clone());
                at += 2;
            }
            found.push(path);
        }
        at += 1;
    }
    found.retain(|path| ["crate", "self", "super"].contains(&path[0].as_str()));
    found
}

/// The modules that a file names, with their files. A crate's first file has them beside it.
pub(super) fn children(file: &Path, first: bool, tokens: &[String]) -> Vec<(String, PathBuf)> {
    let stem = file.file_stem().unwrap();
    let own = first || stem == "mod";
    let folder = file.parent().unwrap().join(if own { Path::new("") } else { Path::new(stem) });
    let named = tokens.windows(3).filter(|three| three[0] == "mod" && three[2] == ";");
    let places = named.flat_map(|three| {
        let places = [folder.join(format!("{}.rs", three[1])), folder.join(&three[1]).join("mod.rs")];
        places.into_iter().find(|place| place.is_file()).map(|place| (three[1].clone(), place))
    });
    places.collect()
}

/// Reads a module's file and those of its children.
fn read(file: &Path, module: &Module, into: &mut BTreeMap<Module, Vec<Vec<String>>>) {
    let tokens = without_tests(tokens(&std::fs::read_to_string(file).unwrap()));
    for (name, place) in children(file, module.is_empty(), &tokens) {
        read(&place, &module.iter().cloned().chain([name]).collect(), into);
    }
    into.insert(module.clone(), paths(&tokens));
}

/// Whom each module imports, its own children left out.
fn imports(modules: &BTreeMap<Module, Vec<Vec<String>>>) -> BTreeMap<&Module, BTreeSet<&Module>> {
    let target = |module: &Module, path: &[String]| {
        let mut whole = if path[0] == "crate" { Module::new() } else { module.clone() };
        for word in path.iter().skip_while(|word| ["crate", "self"].contains(&word.as_str())) {
            match word.as_str() {
                "super" => drop(whole.pop()),
                word => whole.push(word.to_owned()),
            }
        }
        while !modules.contains_key(&whole) {
            whole.pop();
        }
        modules.get_key_value(&whole).map(|(module, _)| module)
    };
    let of = |(module, paths)| {
        let (module, paths): (&Module, &Vec<Vec<String>>) = (module, paths);
        let targets = paths.iter().filter_map(|path| target(module, path));
        (module, targets.filter(|other| !other.starts_with(module)).collect())
    };
    modules.iter().map(of).collect()
}

/// Modules that reach each other, a list a circle.
fn circles(imports: &BTreeMap<&Module, BTreeSet<&Module>>) -> BTreeSet<Vec<String>> {
    let reached = |from: &Module| {
        let (mut seen, mut left) = (BTreeSet::new(), imports[from].iter().copied().collect::<Vec<_>>());
        while let Some(module) = left.pop() {
            if seen.insert(module) {
                left.extend(&imports[module]);
            }
        }
        seen
    };
    let all: BTreeMap<&Module, BTreeSet<&Module>> = imports.keys().map(|module| (*module, reached(module))).collect();
    let circle = |(module, reached): (&&Module, &BTreeSet<&Module>)| {
        let members: Vec<String> =
            reached.iter().filter(|other| all[*other].contains(*module)).map(|other| other.join("::")).collect();
        (members.len() > 1).then_some(members)
    };
    all.iter().filter_map(circle).collect()
}

#[test]
fn modules_do_not_import_each_other_in_circles() {
    let (mut found, mut edges) = (BTreeSet::new(), 0);
    for (name, file) in super::libraries() {
        let mut modules = BTreeMap::new();
        read(&PathBuf::from(file), &Module::new(), &mut modules);
        let imports = imports(&modules);
        edges += imports.values().map(BTreeSet::len).sum::<usize>();
        found.extend(circles(&imports).into_iter().map(|circle| (name.clone(), circle)));
    }
    assert!(edges > 800, "the search finds only {edges} imports");
    assert!(found.is_empty(), "put what two modules need into a third: {found:?}");
}

#[test]
fn a_circle_is_seen_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("lib.rs", "mod a;\nmod b;\nmod c;\nmod d;\nuse a::X;"),
        ("a.rs", "use super::b::{self, Y as Z};\nmod inner;\nfn f() -> &'static str { \"use crate::d::D;\" }"),
        ("a/inner.rs", "fn f() { crate::c::f() } // use crate::d::D;"),
        ("b.rs", "pub use crate::c::{one::{Two, Three}, Four};"),
        ("c.rs", "fn f() { let x = super::a::inner::G; }\n#[cfg(test)]\nmod tests { use crate::d::D; }"),
        ("d.rs", "use super::{c::C, a};"),
    ];
    std::fs::create_dir(folder.path().join("a")).unwrap();
    files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
    let mut modules = BTreeMap::new();
    read(&folder.path().join("lib.rs"), &Module::new(), &mut modules);
    let imports = imports(&modules);
    let of = |name: &str| imports[&vec![name.to_owned()]].iter().map(|it| it.join("::")).collect::<Vec<_>>();
    assert_eq!([of("a"), of("b"), of("c")], [vec!["b"], vec!["c"], vec!["a::inner"]]);
    assert_eq!(of("d"), ["a", "c"]);
    assert_eq!(circles(&imports), BTreeSet::from([vec!["a::inner".to_owned(), "c".to_owned()]]));
}
