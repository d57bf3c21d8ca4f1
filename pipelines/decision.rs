//! What decides: the part of a configuration that a run folder must be resumed with.

use std::ffi::OsString;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use trommel_core::sample::Identity;
use trommel_core::text::shell_word;
use trommel_decide::benchmark::Benchmark;
use trommel_decide::join::ColumnSet;
use trommel_decide::rule::TIES;
use trommel_ledger::run_folder::BLUR;
use trommel_shard::store::shown;

use crate::named_path::NamedPath;

/// A split as far as it decides: a run is resumed with an equal one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// Its rule; what it is, where a list does not say more.
    pub rule: String,
    /// Seed of `random` in it.
    pub seed: u64,
    /// Samples that it keeps; lines or uids of a list.
    pub count: u64,
    /// The hash of the kept keys; of a list that of its bytes.
    pub keys_sha256: String,
}

/// A benchmark, as far as it decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkConfig {
    /// Name in rules and columns.
    pub name: String,
    /// Number of test points.
    pub points: usize,
    /// Length of a vector.
    pub dim: usize,
    /// sha256 over vectors (f16, little-endian) and radii (f64).
    pub sha256: String,
}

impl BenchmarkConfig {
    /// The fingerprint of a benchmark.
    #[must_use]
    pub fn of(benchmark: &Benchmark) -> Self {
        let mut hash = Sha256::new();
        for value in &benchmark.vectors {
            hash.update(value.to_bits().to_le_bytes());
        }
        for radius in benchmark.radii.iter().flatten() {
            hash.update(radius.to_bits().to_le_bytes());
        }
        Self {
            name: benchmark.name.clone(),
            points: benchmark.keys.len(),
            dim: benchmark.dim,
            sha256: format!("{:x}", hash.finalize()),
        }
    }
}

/// Everything that has a say in a decision. Plan, workers, memory and devices have none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionConfig {
    /// Rule, canonical spelling.
    pub rule: String,
    /// Seed of `random` rules.
    pub rule_seed: u64,
    /// Who embeds; `None` when nothing is embedded.
    pub embedder: Option<Identity>,
    /// Benchmarks in the order of the command line.
    pub benchmarks: Vec<BenchmarkConfig>,
    /// Which columns are filled: `all` or `decision`.
    pub columns: ColumnSet,
    /// Image keys, in order of preference.
    pub image_keys: Vec<String>,
    /// Extension of the caption's member, such as `txt`.
    pub text_key: String,
    /// Largest picture accepted, in pixels.
    pub max_pixels: u64,
    /// Truncated JPEGs are kept.
    pub load_truncated: bool,
    /// `new-sample` or `reject`.
    pub repeated_members: String,
    /// Whether embeddings are kept beside the ledger.
    pub embeddings: bool,
    /// The split that decides, in the place of a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitConfig>,
}

/// A command line as a shell takes it, to be shown to others: the program by its name alone, URLs without credentials and queries, and of
/// a `pipe:` only that it is one.
fn command(words: impl Iterator<Item = OsString>) -> String {
    let words = words.enumerate().map(|(at, word)| {
        let word = word.to_string_lossy();
        let name = || word.rsplit('/').next().unwrap_or_default().to_owned();
        shell_word(&if at == 0 { name() } else { without_secrets(&word) })
    });
    words.collect::<Vec<_>>().join(" ")
}

fn without_secrets(word: &str) -> String {
    if let Some(pipe) = word.find("pipe:") {
        return format!("{}pipe:...", &word[..pipe]);
    }
    let part = |part: &str| {
        let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
        let Some(end) = part.find("://") else { return part.to_owned() };
        let start = end - part[..end].chars().rev().take_while(|c| of_scheme(*c)).count();
        format!("{}{}", &part[..start], shown(&part[start..]))
    };
    word.split("::").map(part).collect::<Vec<_>>().join("::")
}

/// What a run folder keeps for people and for who looks at it later; it decides nothing.
#[must_use]
pub fn record(benchmarks: &[NamedPath], decoder: &str, blur: bool) -> Value {
    let folder = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string();
    let benchmarks: serde_json::Map<_, _> =
        benchmarks.iter().map(|named| (named.name.clone(), json!(folder(&named.path)))).collect();
    json!({
        "benchmarks": benchmarks,
        BLUR: blur,
        "command": command(std::env::args_os()),
        "decoder": decoder,
        "folder": folder(Path::new(".")),
        "program": env!("CARGO_PKG_VERSION"),
        "tie": TIES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_a_shell_takes_it_and_without_secrets() {
        let words = [
            "/opt/bin/trommel",
            "prune",
            "data/{00..41}.tar",
            "a=s3://key:secret@bucket/x.tar?X-Amz-Signature=f00::https://host/{0..9}.tar?token=1",
            "pipe:curl -H 'Authorization: Bearer t0ken' https://h/x",
            "b=pipe:aws s3 cp s3://x -",
            "--benchmark",
            "val=my sets/val's",
            "--rule",
            "drop-over-radius",
            "",
        ];
        let due = "trommel prune 'data/{00..41}.tar' 'a=s3://bucket/x.tar::https://host/{0..9}.tar' pipe:... b=pipe:... --benchmark \
                   'val=my sets/val'\\''s' --rule drop-over-radius ''";
        assert_eq!(command(words.iter().map(OsString::from)), due);
        let Value::String(command) = &record(&[], "", false)["command"] else { panic!("no command") };
        assert!(!command.is_empty());
    }
}
