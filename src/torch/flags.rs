//! Every flag of every command does something. The list is clap's own, so that a new flag is asked too: what the command makes of its
//! flags must change with it, or the command's source must read it where it runs.
#![allow(clippy::unwrap_used)]

use std::fmt::Debug;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, CommandFactory, Parser};
use trommel_pipelines::error::PipelineError;

use crate::embed;
use crate::eval;
use crate::radii;
use crate::run_config;
use crate::train;
use crate::watch;
use trommel_cli::args::ModelCommand;
use trommel_cli::parsed::{Cli, Command};
use trommel_train::TrainConfig;

/// Words that each command needs; those after the bar are left out where a flag forbids them.
const BASES: [(&str, &str); 6] = [
    ("embed", "in -o out --model m"),
    ("radii", "--reference r --benchmark a=x -o out"),
    ("prune", "in --run r --benchmark a=x --rule random:1%"),
    ("train", "in --run r --benchmark a=x --rule random:1% --model m --batch 8 | --steps 1"),
    ("watch", "in --run r --benchmark a=x | --rule drop-above:1"),
    ("eval", "c --data d --model m --probe p --shots 3"),
];

/// Values that are not the default, of flags that do not take the number 17.
const VALUES: [(&str, &str); 31] = [
    ("accum-freq", "2"),
    ("beta1", "0.5"),
    ("beta2", "0.5"),
    ("benchmark", "b=y"),
    ("benchmark-without", "a/k"),
    ("columns", "decision"),
    ("decisions", "d"),
    ("decode", "cpu"),
    ("device", "cuda:7"),
    ("embed-precision", "bf16"),
    ("eps", "0.5"),
    ("grad-clip-norm", "0.5"),
    ("join", "cpu"),
    ("keep-epochs", "3"),
    ("lr", "0.5"),
    ("max-rejects", "0.5"),
    ("memory", "7GiB"),
    ("out", "elsewhere"),
    ("part", "0/2"),
    ("poll", "9s"),
    ("precision", "f32"),
    ("random-init", "4"),
    ("round-like", "clip-retrieval"),
    ("rule", "drop-from:0.5"),
    ("settle", "9s"),
    ("split", "n=drop-above:0.5"),
    ("text-padding", "full"),
    ("train-split", "s --train t"),
    ("wd", "0.5"),
    ("window-bytes", "9MiB"),
    ("embed-batch", "32"),
];

/// Read by nobody's settings, because it is read elsewhere: there.
const ELSEWHERE: [(&str, &str, &str); 2] = [
    ("metrics", include_str!("../cli/run_config.rs"), "watched.metrics"),
    ("config", include_str!("../cli/config_file.rs"), "values_of(&words, \"config\")"),
];

/// Where flags are read beside the command's own file.
const BESIDE: [(&str, &[&str]); 5] = [
    ("verify", &["../cli/commands/select.rs"]),
    ("launch", &["../cli/launch/mod.rs", "../cli/launch/local.rs"]),
    ("demo", &["run_config.rs", "../cli/run_config.rs"]),
    ("study", &["run_config.rs", "../cli/run_config.rs"]),
    ("bench", &["bench/decode.rs", "bench/embed.rs", "bench/join.rs", "bench/train.rs"]),
];

/// The source of a command: its file among those that run a model, among those that run none, and what [`BESIDE`] says.
fn sources(command: &str) -> Vec<String> {
    let beside =
        BESIDE.iter().filter(|(of, _)| *of == command).flat_map(|(_, files)| files.iter().map(|&f| f.to_owned()));
    let files = [format!("{command}.rs"), format!("../cli/commands/{command}.rs")].into_iter().chain(beside);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    files.filter_map(|file| std::fs::read_to_string(root.join(file)).ok()).collect()
}

fn text(settings: Result<impl Debug, PipelineError>) -> String {
    match settings {
        Ok(settings) => format!("{settings:?}"),
        Err(error) => error.line(),
    }
}

/// What a command makes of its flags.
fn settings(words: &str) -> Option<String> {
    let words = std::iter::once("trommel").chain(words.split_whitespace());
    let cli =
        Cli::try_parse_from(words.clone()).unwrap_or_else(|error| panic!("{:?}: {error}", words.collect::<Vec<_>>()));
    Some(match cli.command {
        Command::Model(ModelCommand::Embed(args)) => text(embed::config(&args, None)),
        Command::Model(ModelCommand::Radii(args)) => {
            text(trommel_cli::commands::radii::config(&args)) + &text(radii::embedding(&args))
        }
        Command::Model(ModelCommand::Prune(a)) => {
            text(run_config::config(&a.shards, &a.run, &a.judging, &a.running, Some(&a.slice), None))
        }
        Command::Model(ModelCommand::Train(args)) => text(train::config(&args, None)),
        Command::Model(ModelCommand::Watch(args)) => {
            text(watch::judge_config(&args, None)) + &text(watch::wanted(&args))
        }
        Command::Model(ModelCommand::Eval(args)) if args.retrieval => text(eval::retrieval_config(&args)),
        Command::Model(ModelCommand::Eval(args)) => text(eval::config(&args)),
        _ => return None,
    })
}

fn with(command: &str, arg: &Arg) -> Option<(String, String)> {
    let long = arg.get_long().filter(|long| !matches!(*long, "help" | "version"))?;
    let (_, base) = BASES.iter().find(|(name, _)| *name == command)?;
    let (needed, rest) = base.split_once(" | ").unwrap_or((base, ""));
    let forbids = matches!((command, long), ("train", "steps" | "samples" | "passes") | ("watch", "rule" | "split"));
    let forbids_all = matches!((command, long), ("train", "decisions" | "split"));
    let needed = match (command, long) {
        _ if forbids_all => "in --run r --model m --batch 8",
        ("eval", "retrieval") => "c --data d --model m",
        ("eval", "recall-k") => "c --data d --model m --retrieval",
        _ => needed,
    };
    let rest = if forbids { "" } else { rest };
    let value = match arg.get_action() {
        ArgAction::SetTrue => "",
        _ => VALUES.iter().find(|(name, _)| *name == long).map_or("17", |(_, value)| value),
    };
    let base = format!("{command} {needed} {rest}");
    let mut words: Vec<&str> = base.split_whitespace().collect();
    let flag = if long == "out" { "-o".to_owned() } else { format!("--{long}") };
    match words.iter().position(|word| *word == flag) {
        Some(at) => words[at + 1] = value,
        None => words.extend([flag.as_str(), value]),
    }
    Some((base.clone(), words.join(" ")))
}

#[test]
fn every_flag_is_read() {
    let mut cli = Cli::command();
    cli.build();
    let (mut asked, mut unread) = (0, Vec::new());
    for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = command.get_name();
        let sources = sources(name);
        assert!(!sources.is_empty(), "no file is called after {name}");
        for arg in command.get_arguments().filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version")) {
            asked += 1;
            let field = arg.get_id().as_str();
            let words = |text: &str| {
                ["args.", "args.weights.", "machine.", "compute.", "output.", "reading."]
                    .iter()
                    .any(|of| text.contains(&format!("{of}{field}")))
            };
            let destructured = |text: &str| text.contains("let args::Machine {") || text.contains("let Compute {");
            let in_source =
                sources.iter().any(|text| words(text) || destructured(text) && text.contains(&format!(" {field}")));
            let elsewhere = ELSEWHERE.iter().any(|(flag, text, needle)| *flag == field && text.contains(needle));
            let changes = || with(name, arg).is_some_and(|(base, changed)| settings(&base) != settings(&changed));
            if !elsewhere && !changes() && !in_source {
                unread.push(format!("{name} --{field}"));
            }
        }
    }
    assert!(asked > 120, "{asked}");
    assert!(unread.is_empty(), "flags that nobody reads: {unread:?}");
}

/// The test above sees a flag that is not read: of two settings that differ in nothing it says so.
/// Also where the flag that another one requires is excluded by a third.
#[test]
fn a_flag_that_nothing_would_read_is_refused() {
    for words in [
        "eval c --data d --classnames f --recall-k 3",
        "eval c --data d --probe p --recall-k 3",
        "eval c --data d --retrieval --shots 3",
        "eval c --data d --retrieval --shots 3 --seed 1",
        "eval c --data d --retrieval --probe-c 1",
        "why run key -o rows.parquet",
        "dedup a --above 0.9 -o o --against b --sample 10",
        "dedup a --above 0.9 -o o --against b --moved 0.1",
        "dedup a --above 0.9 -o o --exact --spherical",
        "dedup a --above 0.9 -o o --exact --apart 0.5",
    ] {
        let parsed = Cli::try_parse_from(["trommel"].into_iter().chain(words.split(' ')));
        let kind = parsed.err().map(|error| error.kind());
        assert!(matches!(kind, Some(ErrorKind::ArgumentConflict)), "{words}: {kind:?}");
    }
}

#[test]
fn equal_settings_are_equal() {
    let base = "radii --reference r --benchmark a=x -o out";
    assert_eq!(settings(base), settings(&format!("{base} --json")));
    assert_ne!(settings(base), settings(&format!("{base} --workers 2")));
}

/// The program must know its flags without the crate of the recipe, which brings libtorch: so both say the defaults.
#[test]
fn a_recipe_that_no_flag_changes_has_its_defaults() {
    let words = "trommel train in --run r --model m --batch 8 --steps 1".split(' ');
    let Command::Model(ModelCommand::Train(args)) = Cli::try_parse_from(words).unwrap().command else {
        panic!("another command");
    };
    assert_eq!(train::config(&args, None).unwrap().recipe, TrainConfig::new(8));
}
