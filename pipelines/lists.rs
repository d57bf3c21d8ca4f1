//! Lists that people have lying about: templates, class names, samples to take down, shards; a line each or as JSON.
//!
//! A template's place for the class is `{}` (open_clip's, Python's `format`) or `{c}` (CLIP_benchmark's, DataComp's). A line without a place
//! would give every class the same text, and the first class every picture: it is refused with its number. So are Python files, whose
//! lines are no templates; JSON is read where it is a list of texts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::PipelineError;

/// The templates in a file, each with `{}` for the class.
///
/// # Errors
/// A file that cannot be read or is empty; an entry without a place for the class, or with another brace.
pub fn templates(path: &Path) -> Result<Vec<String>, PipelineError> {
    let entries = entries(path, "template")?;
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
        Err(PipelineError::Usage(format!("{place}: `{text:.80}` {wrong}; a template a line or a JSON list is read")))
    };
    entries.into_iter().map(template).collect()
}

/// The class names in a file.
///
/// # Errors
/// A file that cannot be read or is empty; lines of a list in another language than JSON.
pub fn class_names(path: &Path) -> Result<Vec<String>, PipelineError> {
    let entries = entries(path, "class name")?;
    let name = |(place, text): (String, String)| {
        let bracket = matches!(text.as_str(), "(" | ")" | "]" | "{" | "}") || text.ends_with(['[', '(', '{']);
        if bracket || is_quoted(&text) {
            let wrong = "is no class name: one a line without quotes, or a JSON list of them";
            return Err(PipelineError::Usage(format!("{place}: `{text:.80}` {wrong}")));
        }
        Ok(text)
    };
    let names = entries.into_iter().map(name).collect::<Result<Vec<_>, _>>()?;
    if let Some(first) = names.first().filter(|_| are_rows(&names)) {
        let wrong =
            "begins with a number or an id as all lines do, which is no part of a class name: leave that column out";
        return Err(PipelineError::Usage(format!("{}: `{first:.80}` {wrong}", path.display())));
    }
    Ok(names)
}

/// Names of classes by their folders: `FOLDER NAME` a line, with a tab, a comma or a space between, or a JSON object of folders with their
/// names (`{"n01440764": "tench"}`), or with both (`{"0": ["n01440764", "tench"]}`).
///
/// # Errors
/// A file that cannot be read or is empty; a line without a name; a folder that comes twice.
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
        Some(_) => Err(PipelineError::Usage(format!("{place}: folder `{folder:.80}` stands there twice"))),
    };
    if text.trim_start().starts_with('{') {
        let Pairs::<Value>(pairs) = serde_json::from_str(&text).map_err(|error| {
            PipelineError::Usage(format!("{file}: no JSON object of folders with their names ({error})"))
        })?;
        for (key, value) in pairs {
            let (folder, name) = match value {
                Value::Name(name) => (key, name),
                Value::Both(folder, name) => (folder, name),
            };
            add(file.to_string(), folder, name)?;
        }
    } else {
        let tabs = text.contains('\t');
        for (place, line) in lines(path, &text) {
            let parts = line.split_once(|c: char| if tabs { c == '\t' } else { c == ',' || c == ' ' });
            let (folder, name) = parts.map(|(folder, name)| (folder.trim(), name.trim())).unwrap_or_default();
            if folder.is_empty() || name.is_empty() {
                let wrong = "write FOLDER NAME, with a tab, a comma or a space between";
                return Err(PipelineError::Usage(format!("{place}: `{line:.80}`: {wrong}")));
            }
            add(place, folder.to_owned(), name.to_owned())?;
        }
    }
    if table.is_empty() {
        return Err(PipelineError::Usage(format!("{file}: holds no class")));
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

/// The words of a list of keys or paths, of which there may be none; in lines a `#` at the start begins a comment. Numbers of a JSON
/// list are words too, as uids are.
///
/// # Errors
/// A file that cannot be read or holds something else: a table, a program, JSON that is no list of words.
pub fn words(path: &Path, what: &str) -> Result<Vec<String>, PipelineError> {
    let text = text(path, what)?;
    // `[0-9].ta[r]` and `{train,val}` begin and end like JSON, and are none.
    let whole = text.trim();
    let encloses = (whole.starts_with('[') && whole.ends_with(']')) || (whole.starts_with('{') && whole.ends_with('}'));
    if encloses && (whole.contains('"') || serde_json::from_str::<IgnoredAny>(whole).is_ok()) {
        return json(path, &text, what);
    }
    let lines = lines(path, &text).filter(|(_, line)| !line.starts_with('#'));
    let word = |(place, line): (String, String)| {
        let is_code = matches!(line.as_str(), "(" | ")" | "]" | "{" | "}" | "],") || line.ends_with(['[', '(', '{']);
        let is_json = ["[\"", "{\"", "[{", "[["].iter().any(|start| line.starts_with(start));
        if is_code || is_json || is_quoted(&line) || line.contains('\t') {
            let wrong = format!("is no {what}: one a line without quotes or columns, or a JSON list of them");
            return Err(PipelineError::Usage(format!("{place}: `{line:.80}` {wrong}")));
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

/// Places and texts of a list's entries, blank lines left out.
fn entries(path: &Path, what: &str) -> Result<Vec<(String, String)>, PipelineError> {
    let (file, text) = (path.display(), text(path, what)?);
    let entries: Vec<(String, String)> = if is_json(&text) {
        let list = json(path, &text, what)?;
        list.into_iter().enumerate().map(|(at, text)| (format!("{file}: entry {}", at + 1), text)).collect()
    } else {
        lines(path, &text).collect()
    };
    if entries.is_empty() {
        return Err(PipelineError::Usage(format!("{file}: holds no {what}")));
    }
    Ok(entries)
}

/// Largest list, in bytes.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// A list's text, without a byte-order mark.
fn text(path: &Path, what: &str) -> Result<String, PipelineError> {
    let unread = |error: io::Error| PipelineError::usage(error).within(path.display());
    let wrong = |detail: String| PipelineError::Usage(format!("{}: {detail}", path.display()));
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
        PipelineError::Usage(format!("{file}: no JSON list of {what}s ({error}); one a line is read too"))
    })?;
    let word = |word| match word {
        Word::Text(text) => Ok(text),
        Word::Number(number) if number.is_f64() => {
            let file = path.display();
            Err(PipelineError::Usage(format!(
                "{file}: {number} is no {what}: a number as a word is whole and below 2^64; quote it"
            )))
        }
        Word::Number(number) => Ok(number.to_string()),
    };
    list.into_iter().map(word).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(content: &str, read: fn(&Path) -> Result<Vec<String>, PipelineError>) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        std::fs::write(&path, content).unwrap();
        let root = format!("{}/", folder.path().display());
        read(&path).map_err(|error| error.line().replace(&root, ""))
    }

    #[test]
    fn both_places_and_json_are_read() {
        let wanted: Result<Vec<String>, String> = Ok(vec!["a photo of a {}.".into(), "{} in the wild".into()]);
        assert_eq!(read("a photo of a {}.\n\n{} in the wild\n", templates), wanted);
        assert_eq!(read("\u{feff}a photo of a {c}.\r\n{c} in the wild", templates), wanted);
        assert_eq!(read("{c} in the wild\n", templates).unwrap(), ["{} in the wild"]);
        assert_eq!(read("[\n  \"a photo of a {c}.\",\n  \"{} in the wild\"\n]\n", templates), wanted);
        for names in ["0\n1\n2", "707-320\n727-200", "2 euro\n1 euro", "0 tench"] {
            assert_eq!(read(names, class_names).unwrap().join("\n"), names);
        }
        assert_eq!(read("jack-o'-lantern\n'n' roll\n", class_names).unwrap(), ["jack-o'-lantern", "'n' roll"]);
        assert_eq!(read("[\"tench\", \"\\\"quoted\\\" x\"]", class_names).unwrap(), ["tench", "\"quoted\" x"]);
    }

    #[test]
    fn keys_are_read_from_lines_and_json_and_nothing_else_is() {
        let keys: fn(&Path) -> Result<Vec<String>, PipelineError> = |path| words(path, "key");
        let wanted: Result<Vec<String>, String> = Ok(vec!["00001".into(), "a.tar/b".into(), "http://x/?q=[1]".into()]);
        assert_eq!(read("# asked for\n00001\n\n  a.tar/b \r\nhttp://x/?q=[1]", keys), wanted);
        assert_eq!(read("\u{feff}[\"00001\",\n \"a.tar/b\", \"http://x/?q=[1]\"]\n", keys), wanted);
        assert_eq!(read("[12, \"0034\"]", keys).unwrap(), ["12", "0034"]);
        assert_eq!((read("", keys).unwrap(), read("[]", keys).unwrap()), (vec![], vec![]));
        assert_eq!(read("[0-9].tar\n{10..19}.tar\n", keys).unwrap(), ["[0-9].tar", "{10..19}.tar"]);
        assert_eq!(read("{train,val}\n", keys).unwrap(), ["{train,val}"]);
        assert_eq!(read("[0-9].ta[r]\n", keys).unwrap(), ["[0-9].ta[r]"]);
        assert!(read("[1.0]", keys).unwrap_err().contains("1.0 is no key"));
        for (content, place) in [
            ("{\"keys\": [\"a\"]}", "list: no JSON list of keys"),
            ("{\"uid\": \"a\"}\n{\"uid\": \"b\"}\n", "list: no JSON list of keys"),
            ("[[\"a\"]]", "list: no JSON list of keys"),
            ("[\"a\", null]", "list: no JSON list of keys"),
            ("[\"a\",\n\"b\"", "list:1: `[\"a\",` is no key"),
            ("\"a\",\n\"b\"\n", "list:1: `\"a\",` is no key"),
            ("a\nkeys = [\n'b',\n]\n", "list:2: `keys = [` is no key"),
            ("uid\turl\n", "list:1: "),
            ("PAR1\0\u{15}", "list: is no text"),
        ] {
            let said = read(content, keys).unwrap_err();
            assert!(said.starts_with(place), "{said}");
        }
    }

    #[test]
    fn tables_of_folders_are_read_in_every_form_that_lies_about() {
        let table = |content: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("list");
            std::fs::write(&path, content).unwrap();
            let root = format!("{}/", folder.path().display());
            class_table(&path)
                .map(|table| table.into_iter().collect::<Vec<_>>())
                .map_err(|error| error.line().replace(&root, ""))
        };
        let due =
            [("n1", "tench, Tinca tinca"), ("n2", "goldfish")].map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
        for content in [
            "n1 tench, Tinca tinca\nn2 goldfish\n",
            "n1\ttench, Tinca tinca\n\nn2\tgoldfish",
            "n2,goldfish\nn1,tench, Tinca tinca\n",
            r#"{"n1": "tench, Tinca tinca", "n2": "goldfish"}"#,
            r#"{"0": ["n1", "tench, Tinca tinca"], "1": ["n2", "goldfish"]}"#,
        ] {
            assert_eq!(table(content).unwrap(), due, "{content}");
        }
        for (content, wrong) in [
            ("n1 tench\nn2\n", "list:2: `n2`: write FOLDER NAME"),
            ("n1 a\nn1 b\n", "list:2: folder `n1` stands there twice"),
            ("{\"n1\": \"a\", \"n2\": \"b\", \"n1\": \"c\"}", "list: folder `n1` stands there twice"),
            ("{\"n1\": 3}", "list: no JSON object of folders"),
            ("\n", "list: holds no class"),
        ] {
            let said = table(content).unwrap_err();
            assert!(said.starts_with(wrong), "{said}");
        }
    }

    #[test]
    fn what_is_no_entry_is_refused_with_its_place() {
        let python = "OPENAI_TEMPLATES = (\n    lambda c: f'a photo of a {c}.',\n)\n";
        for (content, place) in [
            (python, "list:1: `OPENAI_TEMPLATES = (` has no place"),
            ("lambda c: f'a photo of a {c}.',\n", "list:1: `lambda"),
            ("\"a photo of a {}.\",\n", "list:1: "),
            ("a {}.\n\nno place here\n", "list:3: `no place here` has no place"),
            ("a photo of a {name}.\n", "list:1: "),
            ("[\"a {}\", \"b\"]", "list: entry 2: `b` has no place"),
            ("{\"imagenet\": [\"a {c}\"]}", "list: no JSON list of templates"),
            ("[\"a {}\"", "list: no JSON list of templates"),
            (" \n", "list: holds no template"),
        ] {
            let said = read(content, templates).unwrap_err();
            assert!(said.starts_with(place), "{said}");
        }
        for (content, place) in [
            ("imagenet_classes = [\n\"tench\",\n]\n", "list:1: "),
            ("\"tench\",\n\"goldfish\"\n", "list:1: "),
            ("{\"0\": [\"n01440764\", \"tench\"]}", "list: no JSON list of class names"),
            ("0 tench\n1 goldfish\n", "list: `0 tench` begins with a number or an id"),
            ("1,tench\n2,goldfish\n", "list: `1,tench` begins with a number or an id"),
            ("0\ttench\n1\tgoldfish\n", "list: `0\ttench` begins with a number or an id"),
            ("n01440764 tench, Tinca tinca\nn01443537 goldfish\n", "list: `n01440764 tench, Tinca tinca` begins"),
            ("", "list: holds no class name"),
        ] {
            let said = read(content, class_names).unwrap_err();
            assert!(said.starts_with(place), "{said}");
        }
    }
}
