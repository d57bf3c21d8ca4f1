//! `cargo xtask results`: the benches with rows in the table, beside their peers, one after the other, and `benches/RESULTS.md` with what they measured.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::places::root;
use crate::{peers, run, setup};

/// Benches with rows for the table, each with what it is given. All rows come from the same machine, one bench after the other.
const BENCHES: [(&str, &[(&str, &str)]); 7] = [
    ("main_job", &[]),
    ("tar", &[]),
    ("decode", &[]),
    ("stream", &[]),
    ("decisions", &[]),
    ("embeddings", &[("TROMMEL_BENCH_ROWS", "100000"), ("TROMMEL_BENCH_PEER_ROWS", "10000")]),
    ("train", &[]),
];

/// The section that is written anew.
const SECTION: &str = "## One machine without a card";

/// Programs that are named with their versions.
const PEERS: [&str; 5] = ["torch", "open_clip_torch", "webdataset", "pillow", "faiss-cpu"];

/// `cargo xtask results [NAME..]`: all benches, or those; the rows of others stay as they are.
pub fn results(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| BENCHES.iter().all(|(bench, _)| bench != name)) {
        let known = BENCHES.map(|(bench, _)| bench).join(", ");
        bail!("`{unknown}` is no bench with rows in benches/RESULTS.md; these are: {known}");
    }
    setup::ensure_libtorch(false)?;
    let python = peers::ensure()?.display().to_string();
    let path = root().join("benches/RESULTS.md");
    let before = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let start = before.find(SECTION).with_context(|| format!("{}: no `{SECTION}`", path.display()))?;
    let end = before[start + 1..].find("\n## ").map_or(before.len(), |at| start + 1 + at + 1);
    let mut tables = String::new();
    for (bench, given) in BENCHES {
        let given: Vec<String> = given.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let command = [&given[..], &[format!("cargo xtask bench {bench}")]].concat().join(" ");
        let title = format!("`{command}`");
        let rows = if names.is_empty() || names.iter().any(|name| name == bench) {
            measured(bench, &given, &python)?
        } else {
            // A bench that was left out keeps what was measured of it.
            let Some((_, table)) = before[start..end].split_once(&title) else { continue };
            let rows = table.lines().skip_while(|line| !line.starts_with("|--")).skip(1);
            rows.take_while(|line| line.starts_with('|')).flat_map(|line| [line, "\n"]).collect()
        };
        let head = "| what | ours | peer | ratio | wanted |\n|--|--|--|--|--|";
        let _infallible = writeln!(tables, "{title}\n\n{head}\n{rows}");
    }
    let about = "Medians (least to most) of rounds in which ours and the peer take turns on the same input; ratios are of medians.";
    let section =
        format!("{SECTION}\n\n`cargo xtask results` writes this section.\n\n{}\n\n{about}\n\n{tables}", machine());
    fs::write(&path, [&before[..start], &section, &before[end..]].concat())?;
    eprintln!("results: {}", path.display());
    Ok(())
}

/// The rows that a bench tells.
fn measured(bench: &str, given: &[String], python: &str) -> Result<String> {
    let table = root().join(format!("target/results-{bench}.md"));
    if table.exists() {
        fs::remove_file(&table)?;
    }
    let mut env = vec![("TROMMEL_PEERS", python.to_owned()), ("TROMMEL_BENCH_TABLE", table.display().to_string())];
    env.extend(given.iter().filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name, value.to_owned())));
    run::cargo(&["bench", "--profile", "release", "-p", "trommel", "--bench", bench], &[], &env)?;
    fs::read_to_string(&table).with_context(|| format!("the bench `{bench}` told no row"))
}

/// The machine and the versions, in a sentence each.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let after = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let flags = after(&cpu, "flags");
    let has: Vec<&str> = ["avx2", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8"]
        .into_iter()
        .filter(|flag| flags.split_whitespace().any(|has| has == *flag))
        .collect();
    let kib: u64 = after(&memory, "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let versions = peers::versions(&PEERS).join(", ");
    let model = after(&cpu, "model name");
    format!(
        "{model} ({}), {cores} cores, {} GiB. Peers: {versions}, with as many threads.",
        has.join(", "),
        (kib + (1 << 19)) >> 20
    )
}
