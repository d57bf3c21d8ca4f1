//! The language of decisions is taken apart in this room, and nowhere with a wildcard: a new variant cannot be wrong in silence.

use std::fs;
use std::path::{Path, PathBuf};

use super::sources::sources;

/// The files that hold the language: each public enum of theirs is a part of it.
const LANGUAGE: [&str; 5] = ["column.rs", "condition.rs", "policy.rs", "rule.rs", "selection.rs"];

/// Who may take a part of it apart elsewhere, every variant named: what a selection asks of a ledger is worked out there.
const ABROAD: [(&str, &str); 1] = [("Selection", "operators/select/program.rs")];

fn room() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap()
}

/// A file's code, comments left out.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The names of the language's enums.
fn language() -> Vec<String> {
    let enums = LANGUAGE.iter().flat_map(|file| {
        let code = code(&room().join(file));
        let named = code.lines().filter_map(|line| line.trim_start().strip_prefix("pub enum "));
        let named = named.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric()).collect::<String>());
        named.filter(|name| !name.is_empty()).collect::<Vec<_>>()
    });
    enums.collect()
}

fn in_a_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether code outside of the room means the room's enum of this name.
fn imports(code: &str, name: &str) -> bool {
    let mut paths = code.split("trommel_decide::").skip(1).map(|rest| rest.split(';').next().unwrap_or(""));
    paths.any(|path| path.split(|c| !in_a_word(c)).any(|word| word == name))
}

/// Where variants of an enum are named: `Rule::DropAbove`, but neither `ChangeRule::X` nor `Rule::parse`.
fn variants<'a>(code: &'a str, of: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(of).map(|(at, _)| at).filter(move |at| {
        let whole = code[..*at].chars().next_back().is_none_or(|before| !in_a_word(before));
        let Some(rest) = code[at + of.len()..].strip_prefix("::") else { return false };
        let end = rest.find(|c| !in_a_word(c)).unwrap_or(rest.len());
        // A constant such as `Cut::RADIUS` is no variant.
        whole && rest.starts_with(char::is_uppercase) && rest[..end].contains(char::is_lowercase)
    })
}

/// The arms of the `match` in whose pattern the code at `at` stands, what is in brackets left out; `None` where it is in no pattern.
fn arms(code: &str, at: usize) -> Option<String> {
    let (mut closed, mut outside, mut begins) = (0, 0, 0);
    for (place, c) in code[..at].char_indices().rev() {
        match c {
            ')' | ']' | '}' => closed += 1,
            '(' | '[' | '{' if closed > 0 => closed -= 1,
            '{' => {
                begins = place + 1;
                break;
            }
            '(' | '[' => outside += 1,
            _ => {}
        }
    }
    let mut depth = 0;
    let pattern = code[at..].char_indices().find_map(|(place, c)| {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        let arrow = code[at + place..].starts_with("=>");
        (depth == -outside && (arrow || [',', ';'].contains(&c)) || depth < -outside).then_some(arrow)
    });
    pattern.filter(|is| *is)?;
    let mut depth = 0;
    let block = code[begins..].chars().take_while(|c| {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        depth >= 0
    });
    let mut depth = 0;
    let own = block.filter(|c| match c {
        '(' | '[' | '{' => {
            depth += 1;
            false
        }
        ')' | ']' | '}' => {
            depth -= 1;
            false
        }
        _ => depth == 0,
    });
    Some(own.collect())
}

/// Whether a place names a variant so that another one would be passed over.
fn is_silent(code: &str, at: usize) -> bool {
    let line = &code[code[..at].rfind('\n').map_or(0, |end| end + 1)..];
    let line = line.lines().next().unwrap_or("");
    let wild = |arms: String| arms.split(|c: char| c.is_whitespace()).any(|word| word == "_");
    ["matches!", "if let", "while let"].iter().any(|word| line.contains(word)) || arms(code, at).is_some_and(wild)
}

#[test]
fn the_language_is_taken_apart_in_one_room_and_in_the_open() {
    let (language, root) = (language(), room().join("../..").canonicalize().unwrap());
    for known in ["Rule", "Policy", "Limit", "Cut", "Order", "Selection", "Compare", "Cell", "Form"] {
        assert!(language.iter().any(|name| name == known), "{known} is in none of {LANGUAGE:?}");
    }
    let (mut at_home, mut abroad, mut silent) = (0, Vec::new(), Vec::new());
    for path in sources(&root) {
        let path = path.canonicalize().unwrap();
        let (code, place) = (code(&path), path.strip_prefix(&root).unwrap().to_str().unwrap());
        let ours = path.starts_with(room());
        for name in language.iter().filter(|name| ours || imports(&code, name)) {
            for at in variants(&code, name) {
                at_home += usize::from(ours);
                let said = || format!("{place}: {}", code[at..].lines().next().unwrap_or(""));
                if is_silent(&code, at) {
                    silent.push(said());
                }
                let made_only = name == "Cell" && arms(&code, at).is_none();
                if !(ours || made_only || ABROAD.contains(&(name.as_str(), place))) {
                    abroad.push(said());
                }
            }
        }
    }
    assert!(at_home > 60, "the search finds only {at_home} of this room's own");
    assert!(abroad.is_empty(), "ask trommel_decide's Policy, Test and Cell instead: {abroad:#?}");
    assert!(silent.is_empty(), "a new variant would be passed over: {silent:#?}");
}

#[test]
fn a_wildcard_is_seen_where_it_is() {
    let of = |code: &str| variants(code, "Rule").map(|at| is_silent(code, at)).collect::<Vec<_>>();
    assert_eq!(of("match rule { Rule::Near(x) => x, Rule::Far { n, .. } => n, _ => 0 }"), [true, true]);
    assert_eq!(
        of("match (rule, x) { (Rule::Near(x), 1) | (Rule::Far, 2) => { x } _ if x => 3, (a, b) => 4 }"),
        [true; 2]
    );
    assert_eq!(
        of("match rule { Some(Rule::Near) => match x { _ => 1 }, Some(Rule::Far) | None => 2 }"),
        [false, false]
    );
    assert_eq!(
        of("match word { \"near\" => Ok(Rule::Near), _ => Err(x) }"),
        [false],
        "it is made there, not taken apart"
    );
    assert_eq!(
        of("if let Rule::Near = rule { 1 }\nmatches!(rule, Rule::Far)\nlet x = Rule::Far;"),
        [true, true, false]
    );
    assert!(of("Rule::parse(x), MyRule::Near, Rule::ALL").is_empty());
}

#[test]
fn a_new_rule_stops_the_compiler_everywhere() {
    for file in LANGUAGE.iter().chain(&["tests/oracle.rs"]) {
        let text = fs::read_to_string(room().join(file)).unwrap();
        for silent in ["_ =>", "matches!", "if let"] {
            assert!(!text.contains(silent), "{file}: `{silent}` would take a new variant in silence");
        }
    }
}
