//! Every command line that the documentation and the help texts show is one: the program's own parser takes it, and reads its rules.
#![allow(clippy::unwrap_used, missing_docs)]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap::error::ErrorKind;
use trommel_cli::args::ModelCommand;
use trommel_cli::commands::PlainCommand;
use trommel_cli::parsed::{Cli, Command, Parsed};
use trommel_decide::rule::Rule;
use trommel_decide::selection::named;

/// Pages that users read.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    for folder in ["", "docs", "docs/design", "docs/how-to", "benches", "benches/gpu", "examples"] {
        let files = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let ends = |path: &PathBuf| path.extension().is_some_and(|it| it == "md" || it == "toml" && !folder.is_empty());
        pages.extend(files.filter(ends));
    }
    pages.sort();
    pages
}

/// A command line that a text shows.
struct Shown {
    text: String,
    /// It stands in a sentence, and may leave out what is needed.
    is_fragment: bool,
}

/// What follows each `trommel COMMAND` of a text, up to where the line or its quotes end.
fn shown(text: &str) -> Vec<Shown> {
    let cli = Cli::command();
    let names: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
    // A line goes on behind a backslash.
    let text = text.replace("\\\n", " ");
    let mut found = Vec::new();
    for line in text.lines() {
        for (at, _) in line.match_indices("trommel ") {
            let before = line[..at].chars().next_back();
            let rest = &line[at + "trommel ".len()..];
            let name: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            let ends_word = rest[name.len()..].chars().next().is_none_or(|c| c.is_whitespace() || "`'".contains(c));
            if !names.contains(&name.as_str()) || !ends_word || before.is_some_and(|c| c.is_alphanumeric() || c == '/')
            {
                continue;
            }
            let is_fragment = line[..at].matches('`').count() % 2 == 1;
            let in_quotes = !is_fragment && line[..at].matches('\'').count() % 2 == 1;
            let end = match (is_fragment, in_quotes) {
                (true, _) => rest.find('`'),
                (false, true) => rest.find('\''),
                (false, false) => None,
            };
            let text = rest[..end.unwrap_or(rest.len())].to_owned();
            // A sentence that names a command is no line of it.
            let ahead = &line[..at];
            let is_line = is_fragment || in_quotes || ahead.is_empty() || ahead.ends_with("  ");
            if is_line || line.contains("trommel launch") || line.starts_with("srun") {
                found.push(Shown { text, is_fragment });
            }
        }
    }
    found
}

/// Words as a shell parts them; what stands for something is put in.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, begun) = (Some(c), true),
            (None, c) if c.is_whitespace() => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (None, '#' | '|' | ';' | '&' | ')') if word.is_empty() => break,
            (None, c) => word.push(c),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    let mut all: Vec<String> = Vec::new();
    for word in words {
        let after_flag = all.last().is_some_and(|last| last.starts_with("--") && last != "--");
        match word.as_str() {
            ".." | "(with" if !after_flag => {}
            ".." => all.push("random:1%".into()),
            "R" => all.push("near".into()),
            "N" | "I" | "K" | "P" | "$I" => all.push("1".into()),
            "T" => all.push("0.5".into()),
            "I/N" | "$SLURM_ARRAY_TASK_ID/64" => all.push("0/1".into()),
            "$M" => all.extend(["--model", "m"].map(String::from)),
            _ => all.push(word),
        }
    }
    all
}

fn ends_with_flag(line: &[String]) -> bool {
    line.last().is_some_and(|word| word.starts_with("--"))
}

/// Why a shown line is none; `None` where it is one.
fn wrong(Shown { text, is_fragment }: &Shown) -> Option<String> {
    let line = words(text);
    let parse = |line: &[String]| {
        Parsed::of(std::iter::once("trommel").chain(line.iter().map(String::as_str)).map(OsString::from))
    };
    let may_lack = *is_fragment || text.contains("..") || text.contains("--config");
    let parsed = match parse(&line) {
        Ok(parsed) => parsed,
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument && may_lack => {
            // What is left out is not there to be wrong; each flag that is there must be one.
            return None;
        }
        // A sentence that ends with a flag names it.
        Err(error) if error.kind() == ErrorKind::InvalidValue && *is_fragment && ends_with_flag(&line) => return None,
        Err(error) if !error.use_stderr() => return None,
        Err(error) => return Some(error.to_string()),
    };
    if let Some(flag) = parsed.repeated.first() {
        return Some(format!("{flag} twice"));
    }
    let rule = |rule: &String| rule.parse::<Rule>().err().map(|error| error.to_string());
    match &parsed.command {
        Command::Plain(PlainCommand::Select(args)) => named(&args.rules).err().map(|error| error.to_string()),
        Command::Plain(PlainCommand::Stream(args)) => args.rule.iter().find_map(rule),
        Command::Model(ModelCommand::Prune(args)) => args.judging.rule.iter().find_map(rule),
        Command::Model(ModelCommand::Train(args)) => args.judging.rule.iter().find_map(rule),
        Command::Model(ModelCommand::Watch(args)) => {
            args.splits.iter().find_map(|split| rule(&split.split_once('=')?.1.to_owned()))
        }
        Command::Model(ModelCommand::Launch(args)) => {
            let inner: Vec<&str> = args.command.iter().map(|word| word.to_str().unwrap()).collect();
            wrong(&Shown { text: inner.join(" "), is_fragment: may_lack })
        }
        _ => None,
    }
}

#[test]
fn each_command_line_of_a_page_is_one() {
    let (mut asked, mut bad) = (0, Vec::new());
    for page in pages() {
        for line in shown(&fs::read_to_string(&page).unwrap()) {
            asked += 1;
            bad.extend(wrong(&line).map(|why| format!("{}: trommel {}\n{why}", page.display(), line.text)));
        }
    }
    assert!(asked > 60, "{asked}");
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn each_command_line_of_a_help_text_is_one() {
    let (mut asked, mut bad) = (0, Vec::new());
    for command in Cli::command().get_subcommands() {
        let Some(help) = command.get_after_help() else { continue };
        for line in shown(&help.to_string()) {
            asked += 1;
            bad.extend(wrong(&line).map(|why| format!("{} --help: trommel {}\n{why}", command.get_name(), line.text)));
        }
    }
    assert!(asked >= 10, "{asked}");
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// The two tests above see a line that is none.
#[test]
fn a_line_that_is_none_is_seen() {
    let bad = |text: &str| shown(text).iter().find_map(wrong);
    assert!(bad("trommel prune a.tar --run r --rulle near").unwrap().contains("--rulle"));
    assert!(bad("say `trommel dedup RUN --abov 0.9` here").unwrap().contains("--abov"));
    assert!(bad("trommel select RUN -o s --rule 'near off val'").is_some());
    assert!(bad("  --train-data 'pipe:trommel stream a.tar --spilt s.parquet'").unwrap().contains("--spilt"));
    assert!(bad("trommel launch --local 2 -- prune a.tar --run r --blurr").unwrap().contains("--blurr"));
    assert_eq!(bad("trommel embed a \\\n  -o out --model m   # that is all\nelse"), None);
}
