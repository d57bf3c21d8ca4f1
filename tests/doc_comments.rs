//! A doc comment says what a thing holds: its unit, its shape, whose it is, when it is missing. A word or two cannot.
#![allow(clippy::unwrap_used)]

use std::path::Path;

/// Characters of the shortest doc comment that is taken.
const LEAST: usize = 15;

/// The line (from 1) and the text of every doc comment in `source` that is shorter than [`LEAST`].
fn too_short(source: &str) -> Vec<(usize, String)> {
    /// The text of a line of a doc comment; a fourth slash makes a plain one.
    fn doc(line: &str) -> Option<&str> {
        line.trim_start().strip_prefix("///").filter(|text| !text.starts_with('/'))
    }
    let lines: Vec<(usize, Option<&str>)> = source.lines().enumerate().map(|(at, line)| (at + 1, doc(line))).collect();
    let comments = lines.chunk_by(|(_, a), (_, b)| a.is_some() == b.is_some());
    let text = |lines: &[(usize, Option<&str>)]| {
        let words: Vec<&str> = lines.iter().filter_map(|(_, text)| text.map(str::trim)).collect();
        (lines[0].0, words.join(" ").trim().to_owned())
    };
    let comments = comments.filter(|lines| lines[0].1.is_some()).map(text);
    comments.filter(|(_, text)| text.chars().count() < LEAST).collect()
}

/// Looks at every `.rs` file below `folder`, but for what Cargo has built there; gives their number.
fn look(folder: &Path, found: &mut Vec<String>) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files += look(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let short = too_short(&std::fs::read_to_string(&path).unwrap());
            found.extend(short.into_iter().map(|(line, text)| format!("{}:{line}: {text}", path.display())));
            files += 1;
        }
    }
    files
}

#[test]
fn a_doc_comment_says_more_than_a_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let folders = ["src", "operators", "pipelines", "python", "benches", "tests", "xtask"];
    let files: usize = folders.iter().map(|folder| look(&root.join(folder), &mut found)).sum();
    assert!(files > 500, "only {files} files were looked at");
    assert!(found.is_empty(), "doc comments under {LEAST} characters:\n{}", found.join("\n"));
}

#[test]
fn the_check_finds_what_is_too_short_and_nothing_else() {
    let source = "/// Its name.\npub name: String,\n    /// Path of the shard.\n    ///\n    /// # Errors\n    /// None.\nfn f() {}\n\
                  //// It.\n// It.\n//! It.\n///\n/// It.\nlet url = \"file:///a\";\n    /// Them.\n";
    let found = too_short(source);
    let expected = [(1, "Its name."), (11, "It."), (14, "Them.")].map(|(line, text)| (line, text.to_owned()));
    assert_eq!(found, expected);
}
