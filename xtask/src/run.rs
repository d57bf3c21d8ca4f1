//! Demo, tests, lint and benches: plain cargo calls with the set-up done first.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::places::root;
use crate::{peers, setup};

/// `cargo xtask demo`.
pub fn demo(args: &[String]) -> Result<()> {
    setup::ensure_libtorch(false)?;
    cargo(&["run", "--release", "--", "demo"], args, &[])
}

/// `cargo xtask test [--peers]`.
pub fn test(args: &[String]) -> Result<()> {
    let with_peers = args.iter().any(|arg| arg == "--peers");
    let rest: Vec<String> = args.iter().filter(|arg| *arg != "--peers").cloned().collect();
    setup::ensure_libtorch(false)?;
    let python = if with_peers { Some(peers::ensure()?) } else { None };
    let mut env: Vec<(&str, String)> =
        python.iter().map(|python| ("TROMMEL_PEERS", python.display().to_string())).collect();
    if with_peers && std::env::var_os("TROMMEL_CHROMIUM").is_none() {
        match chromium() {
            Some(chromium) => env.push(("TROMMEL_CHROMIUM", chromium.display().to_string())),
            None => eprintln!("test: no Chromium on the PATH, pages are not looked at"),
        }
    }
    // The program first: the tests under tests/ drive it.
    cargo(&["build", "--release"], &[], &env)?;
    let skipped = root().join("target/skipped");
    if skipped.exists() {
        fs::remove_file(&skipped)?;
    }
    env.push(("TROMMEL_SKIPPED", skipped.display().to_string()));
    let tested = cargo(&["test", "--release", "--workspace"], &rest, &env);
    tell_skipped(&fs::read_to_string(&skipped).unwrap_or_default());
    tested
}

/// The tests that passed over something, which a line of `tests/common/skipped.rs` names, each with its reasons.
fn tell_skipped(list: &str) {
    let lines: BTreeSet<&str> = list.lines().collect();
    let tests: BTreeSet<&str> = lines.iter().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    eprintln!("test: {} tests skipped all or a part of what they compare", tests.len());
    lines.iter().for_each(|line| eprintln!("  {line}"));
}

/// The browser that looks at pages.
fn chromium() -> Option<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}

/// `cargo xtask wheel`: the one test that is left out of `test`, for all of it is built once more.
pub fn wheel() -> Result<()> {
    setup::ensure_libtorch(false)?;
    let env = [("TROMMEL_PEERS", peers::ensure()?.display().to_string())];
    cargo(&["build", "--release"], &[], &env)?;
    cargo(&["test", "--release", "-p", "trommel", "--test", "python", "--", "--ignored"], &[], &env)
}

/// `cargo xtask lint`.
pub fn lint() -> Result<()> {
    setup::ensure_libtorch(false)?;
    cargo(&["fmt", "--all", "--check"], &[], &[])?;
    cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"], &[], &[])?;
    cargo(&["doc", "--release", "--workspace", "--no-deps"], &[], &[("RUSTDOCFLAGS", "-D warnings".into())])?;
    let deny = Command::new("cargo").args(["deny", "--version"]).output();
    if deny.is_ok_and(|out| out.status.success()) {
        cargo(&["deny", "check"], &[], &[])?;
    } else {
        eprintln!("lint: cargo-deny is not installed, left out");
    }
    Ok(())
}

/// `cargo xtask fuzz [ARGS..]`: the targets that ARGS name; without, all of them, and those that are tests of their rooms.
pub fn fuzz(args: &[String]) -> Result<()> {
    setup::ensure_libtorch(false)?;
    cargo(&["run", "--release", "-p", "trommel-fuzz", "--"], args, &[])?;
    if !args.is_empty() {
        return Ok(());
    }
    for room in ["trommel-cluster", "trommel-model"] {
        let tests = ["test", "--release", "-p", room, "hostile_", "--"];
        // Where no test has such a name, Cargo is content.
        let list = cargo_command(&[&tests[..], &["--list"]].concat()).output().context("cannot run cargo")?;
        if !String::from_utf8_lossy(&list.stdout).lines().any(|line| line.ends_with(": test")) {
            bail!("{room}: no test `hostile_..` was found\n{}", String::from_utf8_lossy(&list.stderr));
        }
        let more = ["--test-threads=1", "--nocapture"];
        cargo(&[&tests[..], &more].concat(), &[], &[("TROMMEL_FUZZ_SECONDS", "60".into())])?;
    }
    Ok(())
}

/// `cargo xtask miri`: the kernels' portable paths under Rust's interpreter, which sees what no test sees: reads of what is not there, races.
pub fn miri() -> Result<()> {
    // crossbeam, under rayon, does what the older of the two models of borrowing forbids; and rayon's threads live as long as the process.
    let flags = [("MIRIFLAGS", "-Zmiri-tree-borrows -Zmiri-ignore-leaks".to_owned())];
    nightly_cargo(&["miri", "test", "-p", "trommel-kernels", "--lib"], &flags)
}

/// `cargo xtask sanitize`: the kernels under AddressSanitizer, which sees reads and writes of what is not theirs where the interpreter does not
/// come: in SIMD.
pub fn sanitize() -> Result<()> {
    // A target by its name, so that the flags are not for build scripts too.
    let words = ["test", "--release", "--lib", "-p", "trommel-kernels", "--target", "x86_64-unknown-linux-gnu"];
    let folder = root().join("target/sanitized").display().to_string();
    nightly_cargo(&words, &[("RUSTFLAGS", "-Zsanitizer=address".to_owned()), ("CARGO_TARGET_DIR", folder)])
}

/// `cargo xtask bench [NAME]`.
pub fn bench(args: &[String]) -> Result<()> {
    setup::ensure_libtorch(false)?;
    let python = peers::ensure()?;
    let mut command = vec!["bench", "--profile", "release", "-p", "trommel"];
    if let Some(name) = args.first() {
        command.extend(["--bench", name]);
    }
    cargo(&command, &[], &[("TROMMEL_PEERS", python.display().to_string())])
}

/// Cargo with these words and variables, in the project's folder.
pub fn cargo(command: &[&str], rest: &[String], env: &[(&str, String)]) -> Result<()> {
    let mut cargo = cargo_command(command);
    cargo.args(rest);
    run(cargo, env)
}

fn cargo_command(words: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(words).current_dir(root());
    cargo
}

/// The nightly toolchain's. The cargo that runs this is no proxy of rustup's: it knows no `+nightly`, and would be the other one's too.
fn nightly_cargo(command: &[&str], env: &[(&str, String)]) -> Result<()> {
    let mut rustup = Command::new("rustup");
    rustup.args(["run", "nightly", "cargo"]).args(command).env_remove("CARGO");
    run(rustup, env)
}

fn run(mut command: Command, env: &[(&str, String)]) -> Result<()> {
    command.current_dir(root());
    for (name, value) in env {
        command.env(name, value);
    }
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !status.success() {
        bail!("`{} {}` failed", command.get_program().display(), words.join(" "));
    }
    Ok(())
}
