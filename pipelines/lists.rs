//! Lists that people have lying about: templates, class names, samples to take down, shards; a line each or as JSON.
//!
//! A template's place for the class is `{}` (open_clip's, Python's `format`) or `{c}` (CLIP_benchmark's, DataComp's). A line without a place
//! would give every class the same text, and the first class every picture: it is refused with its number. So are Python files, whose
//! lines are no templates; JSON is read where it is a list of texts. A blank line is left out, but before a class name, where it is refused:
//! there a line's place is the number of its class.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use trommel_shard::class_names::class_lines;

use crate::error::PipelineError;

/// The templates in a file, each with `{}` for the class.
///
/// # Errors
/// A file that cannot be read or is empty; an entry without a place for the class, or with another brace.
pub fn templates(path: &Path) -> Result<Vec<String>, PipelineError> {
    let entries = entries(path, &text(path, "template")?, "template")?;
    let template = |(place, text): (String, String)| {
        let template = text.replace("{c}", "{}");
        let rest = template.replace("{}", "");
        let wrong = if rest.contains(['{', '}']) {
            "has another brace than {} or {c}"
        } else if rest.len() == template.len() {
            "has no place for the class: write {} or {c} where its name belongs"
        } else if text.starts_with("lambda ") || is_quoted(&text) {
            "is a line of a program: write the text between the quotes"
        } else {
            return Ok(template);
        };
        Err(PipelineError::usage(format!("{place}: `{text:.80}` {wrong}; a template a line or a JSON list is read")))
    };
    entries.into_iter().map(template).collect()
}

/// The class names in a file.
///
/// # Errors
/// A file that cannot be read or is empty; a name that is blank; lines of a list in another language than JSON.
pub fn class_names(path: &Path) -> Result<Vec<String>, PipelineError> {
    let text = text(path, "class name")?;
    if !is_json(&text) {
        let at = |line: usize| format!("{}:{line}", path.display());
        class_lines(&text).map_err(|blank| PipelineError::usage(blank).within(at(blank.line)))?;
    }
    let entries = entries(path, &text, "class name")?;
    let name = |(place, text): (String, String)| {
        let bracket = matches!(text.as_str(), "(" | ")" | "]" | "{" | "}") || text.ends_with(['[', '(', '{']);
        if bracket || is_quoted(&text) {
            let wrong = "is no class name: one a line without quotes, or a JSON list of them";
            return Err(PipelineError::usage(format!("{place}: `{text:.80}` {wrong}")));
        }
        Ok(text)
    };
    let names = entries.into_iter().map(name).collect::<Result<Vec<_>, _>>()?;
    if let Some(first) = names.first().filter(|_| are_rows(&names)) {
        let wrong =
            "begins with a number or an id as all lines do, which is no part of a class name: leave that column out";
        return Err(PipelineError::usage(format!("{}: `{first:.80}` {wrong}", path.display())));
    }
    Ok(names)
}

/// Names of classes by their folders: `FOLDER NAME` a line, with a tab, a comma or a space between, or a JSON object of folders with their
/// names (`{"n01440764": "tench"}`), or with both (`{"0": ["n01440764", "tench"]}`).
///
/// # Errors
/// A file that cannot be read or is empty; a folder or a name that is blank; a folder that comes twice.
pub fn class_table(path: &Path) -> Result<BTreeMap<String, String>, PipelineError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Name(String),
        Both(String, String),
    }
    let text = text(path, "class table")?;
    let (file, mut table) = (path.display(), BTreeMap::new());
    let mut add = |place: String, folder: String, name: String| match table.insert(folder.clone(), name) {
        None => Ok(()),
        Some(_) => Err(PipelineError::usage(format!("{place}: folder `{folder:.80}` stands there twice"))),
    };
    if text.trim_start().starts_with('{') {
        let Pairs::<Value>(pairs) = serde_json::from_str(&text).map_err(|error| {
            PipelineError::usage(format!("{file}: no JSON object of folders with their names ({error})"))
        })?;
        for (key, value) in pairs {
            let (folder, name) = match value {
                Value::Name(name) => (key, name),
                Value::Both(folder, name) => (folder, name),
            };
            if folder.trim().is_empty() || name.trim().is_empty() {
                let wrong = format!("{file}: folder `{folder:.80}` with the name `{name:.80}`: neither may be blank");
                return Err(PipelineError::usage(wrong));
            }
            add(file.to_string(), folder, name)?;
        }
    } else {
        let (tabs, mut names) = (text.contains('\t'), Vec::new());
        for (place, line) in lines(path, &text) {
            let parts = line.split_once(|c: char| if tabs { c == '\t' } else { c == ',' || c == ' ' });
            let (folder, name) = parts.map(|(folder, name)| (folder.trim(), name.trim())).unwrap_or_default();
            if folder.is_empty() || name.is_empty() {
                let wrong = "write FOLDER NAME, with a tab, a comma or a space between";
                return Err(PipelineError::usage(format!("{place}: `{line:.80}`: {wrong}")));
            }
            names.push(name.to_owned());
            add(place, unquoted(folder), unquoted(name))?;
        }
        // As in ImageNet's map_clsloc.txt.
        if let Some(first) = names.first().filter(|_| are_rows(&names)) {
            let wrong = "begins with a number or an id as all names do, which is no part of a class name: leave that column out";
            return Err(PipelineError::usage(format!("{file}: `{first:.80}` {wrong}")));
        }
    }
    if table.is_empty() {
        return Err(PipelineError::usage(format!("{file}: holds no class")));
    }
    Ok(table)
}

/// The fields of a JSON object in their order; one that comes again is there twice.
struct Pairs<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Fields<V> {
            type Value = Vec<(String, V)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// A field without the quotes of CSV, where it stands in some.
fn unquoted(field: &str) -> String {
    let inner = field.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.map_or_else(|| field.to_owned(), |inner| inner.replace("\"\"", "\""))
}

/// Whether all lines begin with their own number, or all with a synset's id, as tables do.
fn are_rows(names: &[String]) -> bool {
    let column = |name: &String| {
        name.split([' ', ',', ':', ';', '\t']).next().filter(|first| first.len() < name.len()).map(str::to_owned)
    };
    let columns: Vec<Option<String>> = names.iter().map(column).collect();
    let counts_from = |start: usize| {
        columns
            .iter()
            .enumerate()
            .all(|(at, first)| first.as_ref().is_some_and(|first| first.parse() == Ok(start + at)))
    };
    let is_synset = |first: &Option<String>| {
        let number = first.as_ref().and_then(|first| first.strip_prefix('n'));
        number.is_some_and(|number| number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    names.len() > 1 && (counts_from(0) || counts_from(1) || columns.iter().all(is_synset))
}

/// The words of a list of paths, of which there may be none; in lines a `#` at the start begins a comment. Numbers of a JSON list are words too,
/// as uids are.
///
/// # Errors
/// A file that cannot be read or holds something else: a table, a program, JSON that is no list of words.
pub fn words(path: &Path, what: &str) -> Result<Vec<String>, PipelineError> {
    words_but(path, what, |line| line.starts_with('#'))
}

/// The same of keys, which may begin with a `#` themselves: there a blank must follow where it begins a comment.
///
/// # Errors
/// As [`words`].
pub fn keys(path: &Path) -> Result<Vec<String>, PipelineError> {
    words_but(path, "key", |line| line.split_whitespace().next() == Some("#"))
}

fn words_but(path: &Path, what: &str, is_comment: impl Fn(&str) -> bool) -> Result<Vec<String>, PipelineError> {
    let text = text(path, what)?;
    // `[0-9].ta[r]` and `{train,val}` begin and end like JSON, and are none.
    let whole = text.trim();
    let encloses = (whole.starts_with('[') && whole.ends_with(']')) || (whole.starts_with('{') && whole.ends_with('}'));
    if encloses && (whole.contains('"') || serde_json::from_str::<IgnoredAny>(whole).is_ok()) {
        return json(path, &text, what);
    }
    let lines = lines(path, &text).filter(|(_, line)| !is_comment(line));
    let word = |(place, line): (String, String)| {
        let is_code = matches!(line.as_str(), "(" | ")" | "]" | "{" | "}" | "],") || line.ends_with(['[', '(', '{']);
        let is_json = ["[\"", "{\"", "[{", "[["].iter().any(|start| line.starts_with(start));
        if is_code || is_json || is_quoted(&line) || line.contains('\t') {
            let wrong = format!("is no {what}: one a line without quotes or columns, or a JSON list of them");
            return Err(PipelineError::usage(format!("{place}: `{line:.80}` {wrong}")));
        }
        Ok(line)
    };
    lines.map(word).collect()
}

/// `"a photo of a {}.",`, and the same with the other quotes.
fn is_quoted(text: &str) -> bool {
    let inner = text.trim_end_matches(',');
    inner.len() > 1 && ['"', '\''].iter().any(|quote| inner.starts_with(*quote) && inner.ends_with(*quote))
}

/// Places and texts of a list's entries, blank lines left out. A blank entry of a JSON list is one that somebody wrote: it is refused.
fn entries(path: &Path, text: &str, what: &str) -> Result<Vec<(String, String)>, PipelineError> {
    let file = path.display();
    let entries: Vec<(String, String)> = if is_json(text) {
        let list = json(path, text, what)?;
        list.into_iter().enumerate().map(|(at, text)| (format!("{file}: entry {}", at + 1), text)).collect()
    } else {
        lines(path, text).collect()
    };
    if let Some((place, _)) = entries.iter().find(|(_, text)| text.trim().is_empty()) {
        return Err(PipelineError::usage(format!("{place}: is blank, and a {what} is due")));
    }
    if entries.is_empty() {
        return Err(PipelineError::usage(format!("{file}: holds no {what}")));
    }
    Ok(entries)
}

/// Largest list, in bytes.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// A list's text, without a byte-order mark.
fn text(path: &Path, what: &str) -> Result<String, PipelineError> {
    let unread = |error: io::Error| PipelineError::usage(error).within(path.display());
    let wrong = |detail: String| PipelineError::usage(format!("{}: {detail}", path.display()));
    let file = File::open(path).map_err(unread)?;
    let mut bytes = Vec::new();
    file.take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > MAX_LIST_BYTES {
        return Err(wrong(format!("has more than {MAX_LIST_BYTES} bytes, which no list of {what}s has")));
    }
    let no_text = || wrong(format!("is no text: a {what} a line or a JSON list of them is read"));
    let text = String::from_utf8(bytes).map_err(|_| no_text())?;
    if text.contains('\0') {
        return Err(no_text());
    }
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn is_json(text: &str) -> bool {
    let start = text.trim_start();
    start.starts_with(['[', '{']) && !start.starts_with("{}") && !start.starts_with("{c}")
}

/// Places and texts of lines that are not blank.
fn lines<'t>(path: &'t Path, text: &'t str) -> impl Iterator<Item = (String, String)> + 't {
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    lines.map(|(at, line)| (format!("{}:{}", path.display(), at + 1), line.to_owned()))
}

/// A word of a JSON list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Number(serde_json::Number),
}

fn json(path: &Path, text: &str, what: &str) -> Result<Vec<String>, PipelineError> {
    let list: Vec<Word> = serde_json::from_str(text).map_err(|error| {
        let file = path.display();
        PipelineError::usage(format!("{file}: no JSON list of {what}s ({error}); one a line is read too"))
    })?;
    let word = |word| match word {
        Word::Text(text) => Ok(text),
        Word::Number(number) if number.is_f64() => {
            let file = path.display();
            Err(PipelineError::usage(format!(
                "{file}: {number} is no {what}: a number as a word is whole and below 2^64; quote it"
            )))
        }
        Word::Number(number) => Ok(number.to_string()),
    };
    list.into_iter().map(word).collect()
}

#[cfg(test)]
mod tests;
