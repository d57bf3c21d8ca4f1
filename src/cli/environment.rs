//! What the environment says beside where a process stands (`launch/`). It is read in the program alone: what lies below gets it as a
//! value of its configuration, so that two runs of one process can be told different things.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use trommel_pipelines::error::PipelineError;
use trommel_shard::plan::substitute;
use trommel_shard::store::Stores;

/// What a user may set to have libtorch's idle threads wait in another way: read by OpenMP's runtimes when they are loaded.
pub const WAITING: [&str; 3] = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"];

/// The variables of [`WAITING`] that are set, as `NAME=VALUE`.
pub fn waiting() -> Vec<String> {
    let set = |name: &&str| Some(format!("{name}={}", given(name)?.to_string_lossy()));
    WAITING.iter().filter_map(set).collect()
}

/// The variables that may stand in URLs: `${NAME}` is `WDS_NAME`, as WebDataset has it.
pub fn of_urls() -> impl Iterator<Item = (String, String)> {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    env::vars_os().filter_map(text).filter(|(name, _)| name.starts_with("WDS_"))
}

/// The stores of a run.
pub fn stores() -> Stores {
    Stores::default().with_variables(of_urls())
}

/// A path or pattern with its variables put in.
///
/// # Errors
/// A variable that is not set.
pub fn named(path: &Path) -> Result<PathBuf, PipelineError> {
    match path.to_str() {
        Some(text) => Ok(substitute(text, &stores()).map_err(PipelineError::usage)?.into()),
        None => Ok(path.to_path_buf()),
    }
}

/// The device that is asked for. Where all cards are hidden from CUDA, `auto` is the CPU.
pub fn device(asked: &str) -> String {
    let hides_all = |list: OsString| matches!(list.to_string_lossy().trim(), "" | "-1");
    if asked == "auto" && env::var_os("CUDA_VISIBLE_DEVICES").is_some_and(hides_all) {
        return "cpu".into();
    }
    asked.into()
}

/// NCCL's library, where another one is wanted than the system's loader finds.
pub fn nccl() -> Option<PathBuf> {
    given("TROMMEL_NCCL").map(PathBuf::from)
}

/// A variable that is set and not empty.
pub fn given(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    /// A room's sources that are no tests: whole files of tests are called so, or are read by tests alone.
    fn sources(folder: &std::path::Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let (path, name) = {
                let entry = entry.unwrap();
                (entry.path(), entry.file_name().into_string().unwrap())
            };
            let is_test = ["tests", "examples", "build.rs", "rpath.rs", "stand_in"].contains(&name.as_str())
                || ["tests.rs", "peers.rs", "oracle.rs", "hostile.rs", "tails.rs", "simulation.rs"]
                    .iter()
                    .any(|end| name.ends_with(end));
            if is_test {
                continue;
            }
            if path.is_dir() {
                sources(&path, found);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\n#[allow(clippy::unwrap_used)]\nmod tests {").next().unwrap();
                let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
                found.push((path.display().to_string(), code));
            }
        }
    }

    /// Operators and pipelines take values and hand back errors: a process has an environment and an end, a run has neither.
    #[test]
    fn only_the_program_reads_the_environment_and_ends_the_process() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut found = Vec::new();
        ["operators", "pipelines"].iter().for_each(|folder| sources(&root.join(folder), &mut found));
        assert!(found.len() > 300, "{}", found.len());
        let of_the_process =
            ["env::var", "env::set_var", "env::remove_var", "process::exit", "process::abort", "low_level::exit"];
        for (path, code) in found {
            let uses: Vec<&str> = of_the_process.into_iter().filter(|use_of| code.contains(use_of)).collect();
            assert!(uses.is_empty(), "{path}: {uses:?}");
        }
    }
}
