//! Lists as they lie about, each in a file of its own.
#![allow(clippy::unwrap_used)]

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
    assert_eq!(read("tench\n2 euro\n \t\r\n\n", class_names).unwrap(), ["tench", "2 euro"]);
    for names in ["0\n1\n2", "707-320\n727-200", "2 euro\n1 euro", "0 tench"] {
        assert_eq!(read(names, class_names).unwrap().join("\n"), names);
    }
    assert_eq!(read("jack-o'-lantern\n'n' roll\n", class_names).unwrap(), ["jack-o'-lantern", "'n' roll"]);
    assert_eq!(read("[\"tench\", \"\\\"quoted\\\" x\"]", class_names).unwrap(), ["tench", "\"quoted\" x"]);
}

#[test]
fn keys_are_read_from_lines_and_json_and_nothing_else_is() {
    let wanted: Result<Vec<String>, String> = Ok(vec!["00001".into(), "a.tar/b".into(), "http://x/?q=[1]".into()]);
    assert_eq!(read("# asked for\n00001\n\n  a.tar/b \r\nhttp://x/?q=[1]", keys), wanted);
    assert_eq!(read("\u{feff}[\"00001\",\n \"a.tar/b\", \"http://x/?q=[1]\"]\n", keys), wanted);
    // A key may begin with what begins a comment elsewhere.
    assert_eq!(read("#\n#1\n # 2\n#\t3\n##\n", keys).unwrap(), ["#1", "##"]);
    assert_eq!(read("#1\n0.tar\n#\n", |path| words(path, "shard")).unwrap(), ["0.tar"]);
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
    let due = [("n1", "tench, Tinca tinca"), ("n2", "goldfish")].map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
    for content in [
        "n1 tench, Tinca tinca\nn2 goldfish\n",
        "n1\ttench, Tinca tinca\n\nn2\tgoldfish",
        "n2,goldfish\nn1,tench, Tinca tinca\n",
        "n2,goldfish\n\"n1\",\"tench, Tinca tinca\"\n",
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
        ("{\"n1\": \"a\", \"n2\": \" \"}", "list: folder `n2` with the name ` `: neither may be blank"),
        ("{\"0\": [\"\", \"tench\"]}", "list: folder `` with the name `tench`: neither may be blank"),
        ("\n", "list: holds no class"),
        ("n2 1 kit_fox\nn1 2 English_setter\n", "list: `1 kit_fox` begins with a number or an id as all names do"),
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
        ("[\"a {}\", \" \"]", "list: entry 2: is blank"),
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
        ("tench\n\ngoldfish\n", "list:2: a blank line"),
        ("tench\n \t\r\ngoldfish\n\n", "list:2: a blank line"),
        ("\u{feff}\ntench", "list:1: a blank line"),
        ("[\"tench\", \"\"]", "list: entry 2: is blank"),
    ] {
        let said = read(content, class_names).unwrap_err();
        assert!(said.starts_with(place), "{said}");
    }
}
