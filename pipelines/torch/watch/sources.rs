//! What is there: the shards under a watch's prefixes, and which of them are complete.
//!
//! A prefix is what `prune` takes (folder, glob, braces, path), or a list file of such words. `NAME=` may stand before each.
//! A list file lies on this machine, and only there changes notify; shards lie in any store, but not in standard input, which nobody can look at
//! again.
//! A shard is complete when img2dataset's `_stats.json` lies beside it and is no older, or when it has settled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::time::{Duration, Instant};

use trommel_core::causes::Causes;
use trommel_core::names::STDIN;
use trommel_incremental::planner::{Found, Look};
use trommel_shard::plan::{LookedUp, PlanOptions, look_up, named};
use trommel_shard::promised::stats_url;
use trommel_shard::store::{EntryKind, FileInfo, Store, Stores, local_path};

use super::list_files::ListFiles;
use super::settling::{has_settled, nanoseconds};
use trommel_pipelines::error::PipelineError;

/// Looks at a shard's file; `None` if it cannot be seen.
pub(super) fn found_at(store: &dyn Store, url: &str) -> Option<Found> {
    store.look(url).ok().map(|looked| found(url, looked))
}

fn found(url: &str, looked: FileInfo) -> Found {
    let modified_ns = modified_ns(&looked);
    Found { path: url.into(), bytes: looked.bytes.unwrap_or(0), modified_ns, stamp: looked.stamp }
}

/// The last change, in nanoseconds since 1970; 0 where the store keeps no times.
fn modified_ns(looked: &FileInfo) -> u64 {
    looked.modified.map_or(0, nanoseconds)
}

const STDIN_IS_NONE: &str = "`-`: standard input is read once, and a watch looks again and again";

/// Refuses prefixes that nobody can look at.
///
/// # Errors
/// Standard input.
pub(super) fn check(prefixes: &[String], store: &dyn Store) -> Result<(), PipelineError> {
    let list = |prefix| named(prefix, store, PlanOptions::default().max_shards).1;
    match prefixes.iter().flat_map(|prefix| list(prefix).split("::")).any(|item| item == STDIN) {
        true => Err(PipelineError::usage(STDIN_IS_NONE)),
        false => Ok(()),
    }
}

struct Sighting {
    found: Found,
    since: Instant,
    complete: Option<Instant>,
}

/// The prefixes of a watch, and what was seen there before.
pub struct Sources {
    prefixes: Vec<String>,
    stores: Stores,
    settle: Duration,
    lists: ListFiles,
    sightings: BTreeMap<String, Sighting>,
}

impl Sources {
    /// Prefixes as given on the command line; shards settle for `settle`.
    #[must_use]
    pub fn new(prefixes: Vec<String>, stores: Stores, settle: Duration) -> Self {
        Self { prefixes, stores, settle, lists: ListFiles::new(settle), sightings: BTreeMap::new() }
    }

    /// Folders and files whose changes are worth a look.
    #[must_use]
    pub fn places(&self) -> Vec<PathBuf> {
        let place = |prefix: &String| {
            let (_, item) = named(prefix, &self.stores, PlanOptions::default().max_shards);
            let literal = item.find(['*', '?', '[', '{']).map_or(item, |at| &item[..at]);
            let path = local_path(literal)?;
            let folder = if path.is_dir() { Some(path) } else { path.parent() };
            folder.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder }.to_path_buf())
        };
        self.prefixes.iter().filter_map(place).collect()
    }

    /// Shards by name as they were seen last.
    pub fn seen(&self) -> impl Iterator<Item = (&str, &Found)> {
        self.sightings.iter().map(|(name, sighting)| (name.as_str(), &sighting.found))
    }

    /// When a shard was first seen complete.
    #[must_use]
    pub fn complete_since(&self, name: &str) -> Option<Instant> {
        self.sightings.get(name)?.complete
    }

    /// Looks at everything, now.
    pub fn look(&mut self) -> Look {
        let mut seen = Look::default();
        let mut words = Vec::new();
        for prefix in &self.prefixes {
            match self.lists.words_of(prefix, &self.stores) {
                Some(Ok(lines)) => words.extend(lines),
                Some(Err(error)) => seen.troubles.push(error.line()),
                None => words.push(prefix.clone()),
            }
        }
        let mut names = BTreeMap::<String, String>::new();
        let options = PlanOptions { opens: false, settle: self.settle, ..PlanOptions::default() };
        for word in words {
            let LookedUp { plan, seen: looked, barren } = match look_up(from_ref(&word), &self.stores, &options) {
                Ok(found) => found,
                Err(error) => {
                    seen.troubles.push(Causes(&error).to_string());
                    continue;
                }
            };
            seen.lost.extend(plan.lost);
            seen.passed_over.merge(&plan.passed_over);
            seen.barren.extend(barren);
            for (shard, looked) in plan.shards.into_iter().zip(looked) {
                if let Some(other) = names.insert(shard.name.clone(), shard.url.clone()) {
                    if other != shard.url {
                        let (name, url) = (shard.name, shard.url);
                        seen.troubles.push(format!(
                            "{url} and {other} would both be `{name}`: write NAME=PREFIX for one of them"
                        ));
                    }
                    continue;
                }
                if shard.url == STDIN {
                    seen.troubles.push(STDIN_IS_NONE.into());
                    continue;
                }
                seen.shards.push((shard.name, found(&shard.url, looked)));
            }
        }
        self.settle(&mut seen);
        seen
    }

    fn settle(&mut self, seen: &mut Look) {
        let now = Instant::now();
        for (name, found) in &seen.shards {
            let fresh = || Sighting { found: found.clone(), since: now, complete: None };
            let sighting = self.sightings.entry(name.clone()).or_insert_with(fresh);
            if !sighting.found.same(found) {
                *sighting = fresh();
            }
            let settled = has_settled(found.modified_ns, sighting.since, self.settle);
            if sighting.complete.is_none() && (settled || has_stats(&self.stores, found)) {
                sighting.complete = Some(now);
            }
            if sighting.complete.is_some() {
                seen.complete.insert(name.clone());
            }
        }
        if seen.troubles.is_empty() {
            let there = seen.by_name();
            self.sightings.retain(|name, _| there.contains_key(name.as_str()));
        }
    }
}

/// Whether img2dataset has finished a shard: `00012.tar` with `00012_stats.json`. Statistics that are older than the shard are of another one,
/// in whose place it is written.
fn has_stats(store: &dyn Store, shard: &Found) -> bool {
    let is_of_it = |looked: FileInfo| {
        let modified_ns = modified_ns(&looked);
        looked.kind == EntryKind::File && (modified_ns == 0 || modified_ns >= shard.modified_ns)
    };
    stats_url(&shard.path).and_then(|stats| store.look(&stats).ok()).is_some_and(is_of_it)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::SystemTime;

    use trommel_incremental::planner::{Arrived, Event};
    use trommel_shard::store::memory::Memory;

    use super::*;
    use crate::faulty::{Fault, Faulty};

    #[test]
    fn a_shard_is_complete_by_its_statistics_or_when_it_is_old_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("00000.tar"), b"x").unwrap();
        std::fs::write(path("00001.tar"), b"x").unwrap();
        std::fs::write(path("00001_stats.json"), b"{}").unwrap();
        let mut sources =
            Sources::new(vec![folder.path().display().to_string()], Stores::default(), Duration::from_secs(3600));
        let seen = sources.look();
        assert_eq!(seen.shards.iter().map(|shard| shard.0.as_str()).collect::<Vec<_>>(), ["00000.tar", "00001.tar"]);
        assert_eq!(seen.complete.iter().collect::<Vec<_>>(), ["00001.tar"]);
        let touch = |name: &str, seconds_ago: u64| {
            let time = SystemTime::now() - Duration::from_secs(seconds_ago);
            std::fs::File::options().write(true).open(path(name)).unwrap().set_modified(time).unwrap();
        };
        touch("00000.tar", 7200);
        assert_eq!(sources.look().complete.len(), 2);
        // Statistics of the shard that is written over say nothing of the new one, until they are written too.
        std::fs::write(path("00001.tar"), b"the next one").unwrap();
        touch("00001.tar", 60);
        touch("00001_stats.json", 90);
        assert_eq!(sources.look().complete.iter().collect::<Vec<_>>(), ["00000.tar"]);
        touch("00001_stats.json", 59);
        assert_eq!(sources.look().complete.len(), 2);
    }

    /// An empty folder may be one in which nothing has come yet, all is gone, or no disk is mounted.
    #[test]
    fn a_place_that_has_emptied_is_told_from_one_that_nothing_has_come_to() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for name in ["one", "two", "none"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        for name in ["one/0.tar", "one/1.tar", "two/2.tar"] {
            std::fs::write(at(name), b"x").unwrap();
        }
        let prefixes = ["one", "{two,none}/*.tar"].map(at).to_vec();
        let look = |prefixes: &[String]| Sources::new(prefixes.to_vec(), Stores::default(), Duration::ZERO).look();
        let mut arrived = Arrived::default();
        arrived.numbered(look(&prefixes).shards).into_iter().for_each(|event| arrived.take(event));
        assert_eq!(arrived.all().len(), 3);
        let emptied = |arrived: &Arrived, prefixes: &[String]| {
            let lines = arrived.emptied(&look(prefixes));
            lines.iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        std::fs::remove_file(at("one/0.tar")).unwrap();
        assert_eq!(emptied(&arrived, &prefixes), [""; 0], "one of two is gone");
        std::fs::remove_file(at("two/2.tar")).unwrap();
        assert_eq!(emptied(&arrived, &prefixes), [at("two/*.tar")]);
        assert_eq!(emptied(&arrived, &prefixes[..1]), [""; 0], "nobody asks for it any more");
        std::fs::remove_file(at("one/1.tar")).unwrap();
        assert_eq!(emptied(&arrived, &prefixes), [at("one"), at("two/*.tar")]);
        assert_eq!(emptied(&arrived, &[at("none")]), ["what is watched"]);
        (0..3).for_each(|ordinal| arrived.take(Event::Gone(ordinal)));
        assert_eq!(emptied(&arrived, &prefixes), [""; 0], "that is known");
        // A folder that is missing is a trouble, whatever is looked for in it.
        for name in ["nope", "nope/*.tar", "nope/{0..3}.tar"] {
            assert_eq!(look(&[at(name)]).troubles.len(), 1, "{name}");
        }
    }

    #[test]
    fn lists_folders_and_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let text = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir(text("empty")).unwrap();
        std::fs::create_dir(text("b")).unwrap();
        std::fs::write(text("b/7.tar"), b"x").unwrap();
        std::fs::write(text("7.tar"), b"x").unwrap();
        std::fs::write(
            text("list"),
            format!("# shards\n{}\n\n{}\n{}\n", text("b/7.tar"), text("7.tar"), text("none.tar")),
        )
        .unwrap();
        let seen = Sources::new(vec![text("empty"), text("list")], Stores::default(), Duration::ZERO).look();
        assert_eq!(seen.shards.len(), 1);
        // Standard input is refused where it is named, and told where a list names it.
        let stores = Stores::default();
        for (prefix, fine) in [("-", false), ("a=-", false), ("b::-", false), ("b/-", true), ("a-b", true)] {
            assert_eq!(check(&[text("b"), prefix.into()], &stores).is_ok(), fine, "{prefix}");
        }
        std::fs::write(text("stdin"), format!("{}\n-\n", text("b"))).unwrap();
        let stdin = Sources::new(vec![text("stdin")], stores, Duration::ZERO).look();
        assert_eq!((stdin.shards.len(), &stdin.troubles[..]), (1, &[STDIN_IS_NONE.to_owned()][..]));
        std::fs::write(text("json"), serde_json::json!([text("7.tar"), format!("own={}", text("b"))]).to_string())
            .unwrap();
        let named =
            Sources::new(vec![text("b"), format!("mine={}", text("json"))], Stores::default(), Duration::ZERO).look();
        let names: Vec<&str> = named.shards.iter().map(|shard| shard.0.as_str()).collect();
        assert_eq!((names, named.troubles.len()), (vec!["7.tar", "mine/7.tar", "own/7.tar"], 0));
        assert_eq!((seen.shards[0].0.as_str(), seen.shards[0].1.path.clone()), ("7.tar", text("b/7.tar")));
        assert_eq!(seen.troubles.len(), 2, "{:?}", seen.troubles);
        assert!(seen.troubles[0].contains("would both be `7.tar`") && seen.troubles[1].contains("none.tar"));
    }

    /// What size and time of change do not tell: another file in its place, and one written over in place.
    #[test]
    fn content_under_an_old_time_is_another_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let hours_ago = SystemTime::now() - Duration::from_secs(7200);
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(path(name), bytes).unwrap();
            std::fs::File::options().write(true).open(path(name)).unwrap().set_modified(hours_ago).unwrap();
        };
        let at = || found_at(&Stores::default(), &path("a.tar").display().to_string()).unwrap();
        write("a.tar", b"one");
        let first = at();
        assert!(first.same(&at()));
        write("b.tar", b"two");
        std::fs::rename(path("b.tar"), path("a.tar")).unwrap();
        let second = at();
        assert_eq!((first.bytes, first.modified_ns), (second.bytes, second.modified_ns));
        assert!(!first.same(&second), "another file");
        std::thread::sleep(Duration::from_millis(20)); // the file system's clock ticks
        write("a.tar", b"six");
        let third = at();
        assert_eq!((second.bytes, second.modified_ns), (third.bytes, third.modified_ns));
        assert!(!second.same(&third), "written over, its time set back");
        // A list of before: size and time are all it knows.
        let mut old = serde_json::to_value(&first).unwrap();
        old.as_object_mut().unwrap().remove("inode");
        let old: Found = serde_json::from_value(old).unwrap();
        assert!(old.same(&third) && third.same(&old));
    }

    /// Another store has no clock of ours, and a mark of its own for each content.
    #[test]
    fn shards_of_another_store_arrive_change_and_go() {
        let memory = Memory::default();
        let faulty = Faulty::new(memory.clone(), []);
        let stores = Stores::default().with("mem", faulty.clone());
        let prefixes = vec!["mem://pool/new".to_owned(), "own=mem://pool/{a,b}-*.tar".to_owned()];
        let mut sources = Sources::new(prefixes, stores, Duration::from_secs(3600));
        assert!(sources.places().is_empty(), "nobody notifies of them");
        let names = |seen: &Look| seen.shards.iter().map(|shard| shard.0.clone()).collect::<Vec<_>>();
        let seen = sources.look();
        assert_eq!((seen.shards.len(), seen.troubles.len()), (0, 1), "{:?}", seen.troubles);
        for name in ["new/0.tar", "new/1.tar", "new/1_stats.json", "a-7.tar", "c-7.tar"] {
            memory.put(format!("mem://pool/{name}"), name);
        }
        let first = sources.look();
        assert_eq!(names(&first), ["pool/new/0.tar", "pool/new/1.tar", "own/pool/a-7.tar"]);
        assert_eq!(first.complete.iter().collect::<Vec<_>>(), ["pool/new/1.tar"], "the others have not settled");
        memory.put("mem://pool/new/0.tar", "NEW/0.TAR");
        memory.put("mem://pool/new/2_stats.json", r#"{"successes": 5}"#);
        let second = sources.look();
        let same: Vec<bool> = first.shards.iter().zip(&second.shards).map(|(one, two)| one.1.same(&two.1)).collect();
        assert_eq!(same, [false, true, true]);
        assert_eq!(second.lost[0].promised, Some(5));
        // What cannot be listed is neither here nor gone.
        faulty.add("pool/new", Fault::NoListing);
        let third = sources.look();
        assert_eq!(
            (names(&third), &third.troubles[..]),
            (vec!["own/pool/a-7.tar".into()], &["mem://pool/new: 503 Slow Down".to_owned()][..])
        );
        faulty.heal();
        memory.remove("mem://pool/new/0.tar");
        assert_eq!(names(&sources.look()), ["pool/new/1.tar", "own/pool/a-7.tar"]);
        // What is noted of it is read again as it was.
        let noted = serde_json::to_string(&first.shards[0].1).unwrap();
        assert!(serde_json::from_str::<Found>(&noted).unwrap().same(&first.shards[0].1), "{noted}");
    }
}
