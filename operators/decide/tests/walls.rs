//! A rule is taken apart in this room alone, and nowhere with a wildcard: a new one cannot be wrong in silence.

use std::fs;
use std::path::Path;

use super::sources::sources;

/// What only this room names: a variant of one of these means that somebody decides by himself.
const OURS: [&str; 4] = ["Rule::", "Policy::", "Limit::", "Cut::"];

/// The variants named in a text: `Rule::DropAbove`, but neither `ChangeRule::X` nor `Rule::parse`.
fn variants<'a>(text: &'a str, of: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(of).filter_map(move |(at, _)| {
        let whole = text[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric() && before != '_');
        let rest = &text[at + of.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = &text[at..at + of.len() + end];
        // A constant such as `Cut::RADIUS` is no variant.
        let variant = rest.starts_with(char::is_uppercase) && rest[..end].contains(char::is_lowercase);
        (whole && variant).then_some(name)
    })
}

#[test]
fn no_other_room_takes_a_rule_apart() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = sources(&root);
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap();
    let (mut at_home, mut abroad) = (0, Vec::new());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let named: Vec<&str> = OURS.iter().flat_map(|of| variants(&text, of)).collect();
        if path.canonicalize().unwrap().starts_with(&ours) {
            at_home += named.len();
        } else {
            abroad.extend(named.iter().map(|name| format!("{}: {name}", path.display())));
        }
    }
    assert!(at_home > 20, "the search finds only {at_home} of this room's own");
    assert!(abroad.is_empty(), "ask trommel_decide's Policy instead: {abroad:#?}");
}

#[test]
fn a_new_rule_stops_the_compiler_everywhere() {
    for file in ["column.rs", "condition.rs", "policy.rs", "rule.rs", "selection.rs", "tests/oracle.rs"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        for silent in ["_ =>", "matches!", "if let"] {
            assert!(!text.contains(silent), "{file}: `{silent}` would take a new variant in silence");
        }
    }
}
