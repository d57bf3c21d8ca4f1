//! Prefixes that are list files: any regular file that is no shard by its name, one word a line, or a JSON list of them.
//!
//! What is added to a list counts at once; what is taken from it, when it has settled: it may be being written anew, and be empty meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use trommel_shard::plan::{PlanOptions, is_shard_name, named};
use trommel_shard::store::{Stores, local_path};

use super::settling::Settling;
use trommel_pipelines::error::PipelineError;
use trommel_pipelines::lists::words;

/// List files, and what they named when they had settled.
pub(super) struct ListFiles {
    settling: Settling,
    settled: BTreeMap<PathBuf, Vec<String>>,
}

impl ListFiles {
    /// Lists settle for `settle`.
    pub(super) fn new(settle: Duration) -> Self {
        Self { settling: Settling::new(settle), settled: BTreeMap::new() }
    }

    /// The words of a list file; `None` if the prefix is none.
    pub(super) fn words_of(&mut self, prefix: &str, stores: &Stores) -> Option<Result<Vec<String>, PipelineError>> {
        let most = PlanOptions::default().max_shards;
        let (name, list) = named(prefix, stores, most);
        let path = local_path(list)?;
        if !path.is_file() || is_shard_name(list) {
            return None;
        }
        // The list's name is that of its words, but of those that have their own.
        let word = |word: String| match name {
            Some(name) if named(&word, stores, most).0.is_none() => format!("{name}={word}"),
            _ => word,
        };
        Some(self.words(path).map(|words| words.into_iter().map(word).collect()))
    }

    fn words(&mut self, path: &Path) -> Result<Vec<String>, PipelineError> {
        let now = words(path, "shard")?;
        self.settling.leave_only([]);
        self.settling.look([path]);
        match self.settled.get(path).filter(|_| self.settling.leaves(path)) {
            Some(before) => {
                let known: BTreeSet<&String> = before.iter().collect();
                let more = now.iter().filter(|word| !known.contains(word));
                Ok(before.iter().chain(more).cloned().collect())
            }
            None => {
                self.settled.insert(path.to_path_buf(), now.clone());
                Ok(now)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_from_a_list_goes_when_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        let write = |text: &str| std::fs::write(&list, text).unwrap();
        let stores = Stores::default();
        let words =
            |lists: &mut ListFiles| lists.words_of(&list.display().to_string(), &stores).unwrap().unwrap().join(" ");
        let hour = Duration::from_secs(3600);
        for (settle, meanwhile) in [(hour, "a b"), (Duration::ZERO, "")] {
            write("a\nb\n");
            let mut lists = ListFiles::new(settle);
            assert_eq!(words(&mut lists), "a b");
            write("");
            assert_eq!(words(&mut lists), meanwhile);
            write("c\nb");
            assert_eq!(words(&mut lists), if meanwhile.is_empty() { "c b" } else { "a b c" });
            let file = std::fs::File::options().write(true).open(&list).unwrap();
            file.set_modified(std::time::SystemTime::now() - 2 * hour).unwrap();
            assert_eq!(words(&mut lists), "c b");
        }
    }
}
