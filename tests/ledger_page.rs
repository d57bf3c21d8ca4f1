//! `docs/ledger.md` names every column and every reason that the code has, and nothing else.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use trommel_columnar::parquet::Field;
use trommel_core::sample::{NO_CAPTION, TAKEN_DOWN};
use trommel_ledger::part::{items_fields, ledger_fields};

/// Cells of the rows of a page's table, the first one under a heading.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ledger.md")).unwrap();
    let section = page.split_once(&format!("\n## {heading}\n")).unwrap().1.to_owned();
    let lines = section.lines().skip_while(|line| !line.starts_with("|--")).skip(1);
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    lines.take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// What stands in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

#[test]
fn columns_are_those_that_are_written() {
    for (heading, fields) in [("Columns", ledger_fields(&["B".into()])), ("Test points", items_fields())] {
        let told = |row: &Vec<String>| (quoted(&row[0]).next().unwrap(), row[1].clone(), row[3] != "never");
        let due = |field: &Field| (field.name.clone(), format!("{:?}", field.kind).to_lowercase(), field.nullable);
        let told: Vec<_> = table(heading).iter().map(told).collect();
        assert_eq!(told, fields.iter().map(due).collect::<Vec<_>>(), "{heading}");
    }
}

/// Sources of operators and pipelines without their tests.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.file_stem().is_some_and(|name| name.to_string_lossy().ends_with("tests"));
        if path.is_dir() && !is_test {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") && !is_test {
            let text = fs::read_to_string(&path).unwrap();
            found.push(text.split("#[cfg(test)]").next().unwrap().to_owned());
        }
    }
}

/// Codes that stand in the sources where a reason is made, or are told apart for one.
fn codes() -> BTreeSet<String> {
    /// Stand for a reason that an older ledger does not name, and are written nowhere.
    const UNNAMED: [&str; 2] = ["rejected", "unreadable"];
    let mut texts = Vec::new();
    for folder in ["operators", "pipelines"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut texts);
    }
    let mut found = BTreeSet::from([NO_CAPTION, TAKEN_DOWN].map(str::to_owned));
    for text in &texts {
        for made in ["Reason::new(\"", ".reject(\"", ".rejected(\""] {
            found.extend(text.split(made).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
        for told_apart in ["const fn code(", "let code = match", "let (code, what) = match"] {
            let bodies = text.split(told_apart).skip(1).filter_map(|rest| Some(rest.split_once("\n}\n")?.0));
            found.extend(bodies.flat_map(|body| body.split('"').skip(1).step_by(2)).map(str::to_owned));
        }
    }
    let is_code = |text: &String| text.contains('_') && text.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    found.into_iter().filter(|code| is_code(code) && !UNNAMED.contains(&code.as_str())).collect()
}

#[test]
fn reasons_are_those_of_the_code() {
    let rows = ["Reasons of samples", "Reasons of shards"].map(table).concat();
    let told: BTreeSet<String> = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    assert_eq!(told, codes());
    assert!(rows.iter().all(|row| row.len() == 3 && row.iter().all(|cell| !cell.is_empty())));
}
