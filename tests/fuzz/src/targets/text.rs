//! What people and their tools write: metadata, statistics, brace ranges, plans, rules, lists, sizes, manifests.

use std::path::{Path, PathBuf};

use serde_json::Value;
use trommel_core::sample::{SampleId, Score};
use trommel_decide::checked_rule::KnownBenchmark;
use trommel_decide::join::Verdict;
use trommel_decide::rule::Rule;
use trommel_ledger::manifest::{self, Merged, ShardLine};
use trommel_pipelines::{lists, memory};
use trommel_shard::braces::{BraceError, expand};
use trommel_shard::metadata::Metadata;
use trommel_shard::plan::{self, PlanOptions, PlanSlice};
use trommel_shard::promised::promised;
use trommel_shard::store::Stores;
use trommel_shard::store::memory::Memory;
use trommel_shard::{names, samples};

use crate::{Limits, Outcome, Rng, Target, as_it_is, quick_folder, with_file};

pub(super) fn targets() -> Vec<Target> {
    let limits = Limits { input_bytes: 16 << 10, heap_bytes: 2 << 20, ..Limits::default() };
    let text = |name, about, seeds, words, run| Target { name, about, seeds, words, mend: as_it_is, limits, run };
    vec![
        text("json", "a sample's metadata", json_seeds, JSON, json),
        text("stats", "the `_stats.json` beside a shard", stats_seeds, JSON, stats),
        Target {
            limits: Limits { input_bytes: 2 << 10, ..limits },
            ..text(
                "names",
                "a member's name: key and extension",
                names_seeds,
                &[b"/", b".", b"__", b"\n", b"._"],
                split_names,
            )
        },
        Target {
            limits: Limits { heap_bytes: 64 << 20, ..limits },
            ..text("braces", "a brace range", braces_seeds, BRACES, braces)
        },
        Target {
            limits: Limits { heap_bytes: 64 << 20, ..limits },
            ..text("brace-trees", "brace ranges of which is known what they stand for", trees_seeds, &[], brace_trees)
        },
        Target {
            limits: Limits { heap_bytes: 8 << 20, ..limits },
            ..text("plan", "SHARDS arguments, a line each", plan_seeds, BRACES, plans)
        },
        text("rule", "a rule", rule_seeds, RULES, rule),
        text(
            "lists",
            "a list of templates or of class names",
            list_seeds,
            &[b"{}", b"{c}", b"[\"", b"\",", b"\xef\xbb\xbf"],
            list,
        ),
        text("sizes", "`--memory`, `--part`, `--image-key`", size_seeds, &[b"GiB", b"KB", b"/", b"."], size),
        Target {
            mend: manifest_checks,
            ..text("manifest", "the lines of a manifest", manifest_seeds, MANIFEST, manifest_lines)
        },
    ]
}

const JSON: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\u",
    b"\\ud800",
    b"\\udc00",
    b"\\",
    b"NaN",
    b"-Infinity",
    b"null",
    b"true",
    b"1e999",
    b"\"uid\":",
    b"\"caption\":",
    b"\"url\":",
    b"\"sha256\":",
    b"\"successes\":",
    b",",
    b":",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\0",
];

fn json_seeds() -> Vec<Vec<u8>> {
    [
        &br#"{"url":"http:\/\/x","caption":"a \"b\"","uid":"00ff","sha256":null,"exif":"{}","n":{"uid":1},"uid":2}"#[..],
        br#"{"a":NaN,"b":[-Infinity,Infinity],"caption":"NaN \ud83d\ude00"}"#,
        b"\xef\xbb\xbf{\"caption\":\"x\\ud83dy\\\\ud800\\ude00\n\xff\"}",
    ]
    .map(<[u8]>::to_vec)
    .into()
}

fn json(input: &[u8]) -> Outcome {
    let metadata = Metadata::parse(input).unwrap_or_default();
    let Metadata { uid, url, sha256, caption } = &metadata;
    // Where the json is one by the standard, another reader of it agrees.
    if let Ok(Value::Object(fields)) = serde_json::from_slice(input) {
        for (name, found, numbers) in
            [("uid", uid, true), ("url", url, true), ("sha256", sha256, true), ("caption", caption, false)]
        {
            let wanted = match fields.get(name) {
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Number(number)) if numbers && !number.is_f64() => Some(number.to_string()),
                Some(Value::Number(_)) if numbers => continue,
                _ => None,
            };
            if *found != wanted {
                return Err(format!("{name} is {found:?}, and should be {wanted:?}"));
            }
        }
    }
    let mut said = String::new();
    for text in [uid, url, sha256, caption] {
        // A byte that is no UTF-8 becomes three.
        if text.as_ref().is_some_and(|text| text.len() > 3 * input.len()) {
            return Err("more text than there was".into());
        }
        said.push(match text {
            None => '-',
            Some(text) if text.contains('\u{fffd}') => '?',
            Some(text) if text.is_empty() => 'e',
            Some(_) => 't',
        });
    }
    Ok(said)
}

fn stats_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"{"count": 3, "successes": 2, "status_dict": {"success": 2, "HTTP Error 404": 1}}"#.to_vec(),
        b"{\"successes\":0}".to_vec(),
    ]
}

fn stats(input: &[u8]) -> Outcome {
    let found = promised(&Memory::of([("00000_stats.json", input)]), "00000.tar").samples();
    if found.is_some_and(|count| count > u64::from(u32::MAX)) {
        return Err(format!("a promise of {found:?} samples"));
    }
    Ok(format!("{} {}", found.is_some(), found.is_some_and(|count| count > 0)))
}

fn names_seeds() -> Vec<Vec<u8>> {
    ["a.b/c.Seg.JPG", ".hidden.jpg", "__meta__/x.jpg", "a\nb.jpg", "x.ÄÖ"].map(|name| name.as_bytes().to_vec()).into()
}

/// WebDataset's rule, written out: the base name is split at its first dot, and must have something before it, or a folder.
fn naive_split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    // The reference's expression lets `.*/` pass no line's end, but `[^.]+` does: it may begin with folders too.
    let from = name.iter().position(|&byte| byte == b'\n').map_or(name.len(), |at| at);
    let folder = name[..from].iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    // The longest folder first, as the expression tries; then shorter ones, whose rest has no dot in its key.
    let mut ends: Vec<usize> =
        name[..folder].iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1).collect();
    ends.reverse();
    ends.push(0);
    ends.into_iter().find_map(|end| {
        let dot = name[end..].iter().position(|&byte| byte == b'.').filter(|&at| at > 0)?;
        let extension = &name[end + dot + 1..];
        (!extension.contains(&b'/')).then(|| (&name[..end + dot], extension))
    })
}

fn split_names(input: &[u8]) -> Outcome {
    let found = names::split(input);
    let wanted = naive_split(input).map(|(key, extension)| (key, String::from_utf8_lossy(extension).to_lowercase()));
    if found != wanted {
        return Err(format!("{found:?}, and by the rule written out {wanted:?}"));
    }
    Ok(format!("{} {} {}", found.is_some(), names::is_meta(input), names::is_macos(input)))
}

const BRACES: &[&[u8]] = &[
    b"{",
    b"}",
    b"..",
    b",",
    b"{0..9}",
    b"{00..10}",
    b"{a,b}",
    b"{a..z..3}",
    b"\\",
    b"::",
    b"*",
    b"?",
    b"[",
    b"${X}",
    b"=",
    b"file:",
    b"-",
    b"sub/",
];

fn braces_seeds() -> Vec<Vec<u8>> {
    ["a{000..123}.tar", "{0..10..5}", "{2..-1}", "p{2.{5..7},3.{2,3}}", r"{1\{2,3}", "{{{a,b},c},{d..f}}{x}", "{Y..b}"]
        .map(|text| text.as_bytes().to_vec())
        .into()
}

const MOST_NAMES: usize = 1000;

fn braces(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    match expand(&text, MOST_NAMES) {
        Ok(names) if names.is_empty() || names.len() > MOST_NAMES => Err(format!("{} names", names.len())),
        // What has no brace and no backslash stands for itself.
        Ok(names) if !text.contains(['{', '}', '\\']) && names != [&*text] => Err(format!("{names:?}")),
        Ok(names) => Ok(format!("{} names", names.len().ilog2())),
        Err(BraceError::TooMany(..)) => Ok("too many".into()),
        Err(BraceError::Unbalanced(_)) if text.contains(['{', '}']) => Ok("unbalanced".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn trees_seeds() -> Vec<Vec<u8>> {
    (1..9u64).map(|seed| seed.to_le_bytes().to_vec()).collect()
}

/// A pattern and all that it stands for, drawn together.
fn tree(rng: &mut Rng, depth: usize) -> (String, Vec<String>) {
    let (mut pattern, mut names) = (String::new(), vec![String::new()]);
    for _ in 0..1 + rng.below(3) {
        let (part, choices): (String, Vec<String>) = match rng.below(if depth > 3 { 3 } else { 6 }) {
            0 => ("x.".into(), vec!["x.".into()]),
            1 => (r"\{\,\\".into(), vec![r"{,\".into()]),
            2 => {
                let (from, to) = (rng.below(12) as i64 - 4, rng.below(12) as i64 - 4);
                let step = 1 + rng.below(3) as i64;
                let count = (from - to).abs() / step;
                let numbers = (0..=count).map(|at| if from <= to { from + at * step } else { from - at * step });
                let width = if rng.one_in(2) { 3 } else { 0 };
                let shown = |number: i64| if width == 0 { number.to_string() } else { format!("{number:0width$}") };
                // Negative numbers are padded to the width with their sign, as the ends are written.
                (format!("{{{}..{}..{step}}}", shown(from), shown(to)), numbers.map(shown).collect())
            }
            3 => {
                let (inner, choices) = tree(rng, depth + 1);
                // One choice alone is literal, braces and all; so is none.
                if inner.contains("..") || inner.contains(',') {
                    (format!("{{{inner},}}"), [choices, vec![String::new()]].concat())
                } else {
                    (format!("{{{inner}}}"), choices.iter().map(|name| format!("{{{name}}}")).collect())
                }
            }
            _ => {
                let parts: Vec<(String, Vec<String>)> = (0..2 + rng.below(2)).map(|_| tree(rng, depth + 1)).collect();
                let inner: Vec<&str> = parts.iter().map(|(pattern, _)| pattern.as_str()).collect();
                (format!("{{{}}}", inner.join(",")), parts.iter().flat_map(|(_, names)| names.clone()).collect())
            }
        };
        if names.len() * choices.len() > 2 * MOST_NAMES {
            continue;
        }
        pattern += &part;
        names = names.iter().flat_map(|name| choices.iter().map(move |choice| format!("{name}{choice}"))).collect();
    }
    (pattern, names)
}

fn brace_trees(input: &[u8]) -> Outcome {
    let seed = input.iter().fold(0u64, |seed, &byte| seed.rotate_left(8) ^ u64::from(byte));
    let (pattern, wanted) = tree(&mut Rng::new(seed), 0);
    match expand(&pattern, MOST_NAMES) {
        Ok(names) if names == wanted => Ok(format!("{} names", names.len().ilog2())),
        Err(BraceError::TooMany(..)) if wanted.len() > MOST_NAMES => Ok("too many".into()),
        other => Err(format!("{pattern} stands for {wanted:?}, and not for {other:?}")),
    }
}

fn plan_seeds() -> Vec<Vec<u8>> {
    [
        "{0..3}.tar::sub/*.tar",
        "x=sub\n0.tar",
        "file:0.tar::-",
        "pipe:cat x",
        "s3://u:p@host/a?b",
        "${X}::${Y}",
        "sub/{0,1}.tar",
        "a[0-9].tar",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// A folder with a few files: what a plan looks for is looked for there.
fn room() -> PathBuf {
    let folder = quick_folder();
    if !folder.join("sub").exists() {
        std::fs::create_dir(folder.join("sub")).unwrap();
        for name in ["0.tar", "1.tar", "x=0.tar", "sub/0.tar", "sub/1.tar"] {
            std::fs::write(folder.join(name), name).unwrap();
        }
    }
    folder
}

fn plans(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    // Nothing outside of the room is looked for.
    let outside = text.replace("sub/", "").contains(['/', '\\']) || text.contains("..*") || text.contains("..?");
    if outside {
        return Ok("outside".into());
    }
    let here = room();
    let here = here.display();
    let arguments: Vec<String> = text
        .lines()
        .take(4)
        .map(|line| {
            let rooted = |item: &str| match item {
                "-" => "-".to_string(),
                item if item.contains(':') || item.contains("..") && !item.contains('{') => item.to_string(),
                item => format!("{here}/{item}"),
            };
            line.split("::").map(rooted).collect::<Vec<_>>().join("::")
        })
        .collect();
    let stores = Stores::default().with_variables([("WDS_X".to_string(), "{0..1}.tar".to_string())]);
    let options = PlanOptions { max_shards: MOST_NAMES, ..PlanOptions::default() };
    match plan::expand(&arguments, &stores, &options) {
        Ok(plan) => {
            let numbered = plan.shards.iter().enumerate().all(|(at, shard)| shard.ordinal == at as u64);
            let mut names: Vec<&str> = plan.shards.iter().map(|shard| shard.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            if plan.is_empty() || !numbered || names.len() != plan.len() || plan.len() > MOST_NAMES {
                return Err(format!("{plan:?}"));
            }
            Ok(format!("{:?} {}", plan.total_bytes().is_some(), plan.len().ilog2()))
        }
        Err(error) => {
            let said = error.to_string();
            let kind = said.rsplit(": ").next().unwrap_or_default().split('"').next().unwrap_or_default();
            Ok(kind.chars().take(60).collect())
        }
    }
}

const RULES: &[&[u8]] = &[
    b"drop-over-radius",
    b"near",
    b"drop-above:",
    b"drop-from:",
    b"drop-below:",
    b"random:",
    b"rand:",
    b"keep-nearest:",
    b"far:",
    b"keep-farthest:",
    b"near-N:",
    b"%",
    b"@",
    b",",
    b"a",
    b"1e-300",
    b"+.5",
    b"-0",
    b"99.999999999999999999",
    b"18446744073709551615",
];

fn rule_seeds() -> Vec<Vec<u8>> {
    [
        "near@a,b",
        "drop-above:0.3@a",
        "drop-from:-0.25",
        "drop-below:1e-3",
        "random:12.5%",
        "random:100",
        "keep-nearest:7@b",
        "near-N:3",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn rule(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let rule: Rule = match text.parse() {
        Ok(rule) => rule,
        Err(error) => return Ok(format!("{error}").replace(&*text, "").split('`').step_by(2).collect()),
    };
    let printed = rule.to_string();
    if printed.parse() != Ok(rule.clone()) {
        return Err(format!("printed as {printed}, which is read as {:?}", printed.parse::<Rule>()));
    }
    let known = [KnownBenchmark { name: "a", radii: true }, KnownBenchmark { name: "b", radii: false }];
    let judged = rule.check(&known, 7).map(|judge| {
        let score =
            |at: f64| Score { max_similarity: Some(at), nearest: None, margin: Some(at), exceeds: None, hits: Some(0) };
        let id = SampleId { ordinal: 0, index: 0 };
        [-1.0, 0.3, 1.0].map(|at| judge.keeps("shard", "key", id, &[score(at), score(0.0)]))
    });
    Ok(format!(
        "{} {:?}",
        printed.split([':', '@']).next().unwrap_or_default(),
        judged.map_err(|error| std::mem::discriminant(&error))
    ))
}

fn list_seeds() -> Vec<Vec<u8>> {
    [
        "a photo of a {}.\n\n{c} in the wild\r\n",
        "[\n  \"a photo of a {c}.\",\n  \"{} \"\n]\n",
        "tench\ngoldfish\n",
        "lambda c: f'{c}',",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn list(input: &[u8]) -> Outcome {
    with_file("list", input, |path| {
        let mut said = String::new();
        for (what, read) in [lists::templates(path), lists::class_names(path)].into_iter().enumerate() {
            match read {
                Ok(entries) if entries.is_empty() => return Err("a list of nothing".into()),
                Ok(entries) if what == 0 && entries.iter().any(|entry| !entry.contains("{}")) => {
                    return Err("a template without a place".into());
                }
                Ok(_) => said += "read ",
                Err(error) => said.extend(error.to_string().chars().rev().take(24)),
            }
        }
        Ok(said)
    })
}

fn size_seeds() -> Vec<Vec<u8>> {
    ["2GiB", "1.5 GB", "100", "3/8", "0/1", "jpg;.PNG; webp"].map(|text| text.as_bytes().to_vec()).into()
}

fn size(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let (bytes, part) = (memory::parse_bytes(&text), text.parse::<PlanSlice>());
    if part.as_ref().is_ok_and(|part| part.index >= part.count) {
        return Err(format!("{part:?}"));
    }
    let keys = samples::keys(&text);
    if keys.iter().any(String::is_empty) {
        return Err("an empty extension".into());
    }
    Ok(format!("{} {} {}", bytes.is_ok(), part.is_ok(), keys.len().min(2)))
}

const MANIFEST: &[&[u8]] = &[
    b"{\"check\":\"",
    b"\"schema\":1",
    b"\"schema\":99",
    b"\"ordinal\":0",
    b"\"status\":\"failed\"",
    b"\"status\":\"committed\"",
    b"\"remark\":\"x\"",
    b"\n",
    b"\"parts\":[]",
    b"\"notices\":",
    b"\"counts\":",
];

fn manifest_seeds() -> Vec<Vec<u8>> {
    let body = |ordinal: u64, status: &str| {
        format!(
            r#""schema":1,"ordinal":{ordinal},"name":"{ordinal}.tar","status":"{status}","bytes":10,"counts":{{"kept":1,"dropped":0,"rejected":1,"rejects":{{"cut_off":1}}}},"parts":[{{"kind":"ledger","bytes":5,"crc32c":"00000000"}}],"decision":"x"}}"#
        )
    };
    let line = |ordinal, status| format!("{{\"check\":\"00000000\",{}\n", body(ordinal, status));
    let mut all = [line(0, "committed"), line(1, "failed"), line(0, "committed")].concat().into_bytes();
    manifest_checks(&mut all);
    vec![all.clone(), all[..all.len() - 20].to_vec()]
}

/// Gives every line the checksum that holds.
fn manifest_checks(input: &mut Vec<u8>) {
    const HEAD: usize = b"{\"check\":\"00000000\",".len();
    for line in input.split_mut(|&byte| byte == b'\n').filter(|line| line.len() > HEAD) {
        let sum = crc32c(&[b"{", &line[HEAD..]].concat());
        line[..HEAD].copy_from_slice(format!("{{\"check\":\"{sum:08x}\",").as_bytes());
    }
}

/// Castagnoli's checksum, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

fn manifest_lines(input: &[u8]) -> Outcome {
    let path = Path::new("manifest");
    let lines = match manifest::parse(path, input) {
        Ok(lines) => lines,
        Err(error) => return Ok(error.to_string().split('`').step_by(2).take(3).collect()),
    };
    let good = usize::try_from(lines.good_bytes)
        .ok()
        .and_then(|good| input.get(..good))
        .ok_or("good bytes that are not there")?;
    let again = manifest::parse(path, good).map_err(|error| format!("the good part alone: {error}"))?;
    if again.torn || again.lines != lines.lines {
        return Err("the good part alone is read otherwise".into());
    }
    for line in &lines.lines {
        let written = line.encode().map_err(|error| error.to_string())?;
        let back = written.strip_suffix(b"\n").and_then(ShardLine::decode);
        if back.as_ref() != Some(line) {
            return Err(format!("{line:?} is written, and {back:?} read"));
        }
    }
    let count = lines.lines.len();
    let merged = Merged::of([(0, lines.clone()), (1, lines)].into());
    let said = merged.map(|merged| {
        format!("{} {} {}", merged.committed.len().min(3), merged.failed.len().min(3), merged.counts().kept.min(2))
    });
    Ok(format!("{} {said:?}", count.min(4)).chars().take(60).collect())
}
