//! Files that others write are read when nobody writes them any more.
//!
//! `sort a b > takedown.txt` empties the list at once and fills it seconds later; a folder is copied file by file. So what has changed is
//! taken over when it has not changed again for the settling time, by its own clock or by ours (clocks of file servers differ), and is as it was when it
//! has been read. Until then what was read before stays. At the start nothing was read before: what lies there counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use trommel_columnar::pieces::{key_table, with_array};
use trommel_columnar::source::EmbeddingReader;
use trommel_incremental::planner::FileStamps;
use trommel_ledger::run_folder::CONFIG_FILE;
use trommel_shard::samples::GroupConfig;
use trommel_shard::store::{EntryKind, FileInfo};

use crate::run_setup::files_read;
pub(super) use crate::source_files::nanoseconds;
use trommel_pipelines::error::PipelineError;

/// So often is a file read that changes meanwhile.
const TRIES: usize = 3;

/// Whether what is as it is `since` then, and was changed last at a time in nanoseconds since 1970 (0 if nobody knows), is written to its end.
pub(super) fn has_settled(modified_ns: u64, since: Instant, settle: Duration) -> bool {
    let age = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_nanos(modified_ns));
    since.elapsed() >= settle || modified_ns > 0 && age.is_ok_and(|age| age >= settle)
}

/// What tells that a file has changed, or what is read of a folder: of pictures each one, as deep as they are read; of tars each one; of embeddings what lies
/// directly in their folders, and the tables of their keys.
///
/// Costs a call for each file, and a listing of each folder, a few of the one that is given: of 100,000 pictures some tenths of a second on a local disk,
/// a minute on a distant one. So [`Settling`] does not look at them in each turn.
pub(super) fn stamp(path: &Path) -> FileStamps {
    let (path, _) = with_array(path);
    let mut all: Vec<_> = match pictures_or_tars(path) {
        Some(files) => files.into_iter().filter_map(seen).collect(),
        None => itself(path),
    };
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

/// What the system says of a file or folder, if it is there.
fn seen(path: PathBuf) -> Option<(PathBuf, FileInfo)> {
    let seen = FileInfo::from(&std::fs::metadata(&path).ok()?);
    // A pipe says nothing twice.
    let seen = if seen.kind == EntryKind::Stream { FileInfo { modified: None, stamp: None, ..seen } } else { seen };
    Some((path, seen))
}

/// The files of a folder that is to be embedded; `None` of anything else.
fn pictures_or_tars(path: &Path) -> Option<Vec<PathBuf>> {
    let is_embedded = || path.join(CONFIG_FILE).is_file() || !matches!(EmbeddingReader::files(path), Ok(0));
    if !path.is_dir() || is_embedded() {
        return None;
    }
    files_read(path, &GroupConfig::default()).ok().filter(|files| !files.is_empty())
}

/// A file, or what lies directly in a folder; of embeddings, the tables of their keys too.
fn itself(path: &Path) -> FileStamps {
    let mut all: Vec<_> = [path.to_path_buf()].into_iter().chain(key_table(path)).filter_map(seen).collect();
    // Keys of `img_emb/` lie beside it; beside other folders lies what is no concern of theirs.
    let beside = path.ends_with("img_emb").then(|| path.join("../metadata"));
    for folder in ["", "embeddings", "img_emb", "metadata"].map(|name| path.join(name)).into_iter().chain(beside) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        all.extend(entries.filter_map(|entry| seen(entry.path())));
    }
    all
}

/// A look that takes no longer is taken in each turn.
const BRIEF: Duration = Duration::from_millis(20);

/// After a longer one its path rests for so many times what it took beyond that: looks take a tenth of the time at most, however fast turns follow each
/// other and however many pictures there are.
const RESTS: u32 = 9;

/// A path as it was at the last look.
struct Sighting {
    stamps: FileStamps,
    /// Since when it has been as it is.
    since: Instant,
    /// Whether it had settled.
    has_settled: bool,
    /// When it may be looked at again.
    rests_until: Instant,
}

/// The user's files and folders as they were seen, and which of them are not to be read now.
#[derive(Default)]
pub(super) struct Settling {
    settle: Duration,
    seen: BTreeMap<PathBuf, Sighting>,
    unsettled: BTreeSet<PathBuf>,
}

impl Settling {
    /// Files settle for `settle`.
    pub(super) fn new(settle: Duration) -> Self {
        Self { settle, ..Self::default() }
    }

    /// Looks at these: they are not to be read where they have not settled. One that rests is as it was at the last look.
    pub(super) fn look<'a>(&mut self, paths: impl IntoIterator<Item = &'a Path>) {
        for path in paths {
            let begin = Instant::now();
            if self.seen.get(path).is_none_or(|seen| seen.rests_until <= begin) {
                let stamps = stamp(path);
                let end = Instant::now();
                let before = self.seen.get(path).filter(|seen| seen.stamps == stamps);
                let since = before.map_or(end, |seen| seen.since);
                let modified_ns = stamps.iter().filter_map(|file| file.1.modified).map(nanoseconds).max().unwrap_or(0);
                let has_settled = has_settled(modified_ns, since, self.settle);
                let rests_until = end + (end - begin).saturating_sub(BRIEF) * RESTS;
                self.seen.insert(path.to_path_buf(), Sighting { stamps, since, has_settled, rests_until });
            }
            if self.seen.get(path).is_some_and(|seen| !seen.has_settled) {
                self.unsettled.insert(path.to_path_buf());
            }
        }
    }

    /// The next look at a path is a first one, and at once.
    pub(super) fn forget(&mut self, path: &Path) {
        self.seen.remove(path);
    }

    /// What is not to be read now.
    pub(super) const fn unsettled(&self) -> &BTreeSet<PathBuf> {
        &self.unsettled
    }

    /// Begins a turn: nothing but this is not to be read.
    pub(super) fn leave_only(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        self.unsettled = paths.into_iter().collect();
    }

    /// Nor is this to be read.
    pub(super) fn leave(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        self.unsettled.extend(paths);
    }

    /// Whether it is not to be read now.
    pub(super) fn leaves(&self, path: &Path) -> bool {
        self.unsettled.contains(path)
    }

    /// How it was at the last look; where there was none, how it is.
    pub(super) fn stamps(&self, path: &Path) -> FileStamps {
        self.seen.get(path).map_or_else(|| stamp(path), |seen| seen.stamps.clone())
    }

    /// What is read of a path that stays as it is meanwhile, and as it was at the last look.
    ///
    /// # Errors
    /// Those of reading; a file that does not stay as it is, or is not to be read.
    pub(super) fn whole<T>(
        &self,
        path: &Path,
        mut read: impl FnMut() -> Result<T, PipelineError>,
    ) -> Result<(FileStamps, T), PipelineError> {
        for _ in 0..TRIES {
            let before = stamp(path);
            if self.leaves(path) || self.seen.get(path).is_some_and(|seen| seen.stamps != before) {
                break;
            }
            let value = read();
            if stamp(path) == before {
                return Ok((before, value?));
            }
        }
        Err(changes(path))
    }
}

/// What is said of a file that does not stay as it is.
pub(super) fn changes(path: &Path) -> PipelineError {
    PipelineError::usage(format!("{}: it changes while it is read", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_has_changed_rests_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (old, list) = (folder.path().join("old"), folder.path().join("list"));
        let hours_ago = SystemTime::now() - Duration::from_secs(7200);
        let touch = |path: &Path| {
            fs::File::options().write(true).open(path).unwrap().set_modified(hours_ago).unwrap();
        };
        fs::write(&old, "a").unwrap();
        touch(&old);
        fs::write(&list, "b").unwrap();
        let leaves = |settling: &mut Settling| {
            settling.leave_only([]);
            settling.look([&*old, &*list]);
            [&*old, &*list].map(|path| settling.leaves(path))
        };
        let mut settling = Settling::new(Duration::from_secs(3600));
        assert_eq!(leaves(&mut settling), [false, true]);
        assert_eq!(leaves(&mut Settling::new(Duration::ZERO)), [false, false]);
        // A file of which the clock says nothing, or what is wrong.
        let mut settling = Settling::new(Duration::from_millis(200));
        let tomorrow = SystemTime::now() + Duration::from_secs(86400);
        fs::File::options().write(true).open(&list).unwrap().set_modified(tomorrow).unwrap();
        assert_eq!(leaves(&mut settling), [false, true]);
        std::thread::sleep(Duration::from_millis(250));
        assert_eq!(leaves(&mut settling), [false, false]);
        // One that is gone is perhaps only being replaced.
        fs::remove_file(&old).unwrap();
        assert_eq!(leaves(&mut settling), [true, false]);
        std::thread::sleep(Duration::from_millis(250));
        assert_eq!(leaves(&mut settling), [false, false]);
        // So is a file in a folder.
        settling.look([folder.path()]);
        assert_eq!(settling.unsettled().iter().collect::<Vec<_>>(), [folder.path()]);
        assert!(settling.whole(folder.path(), || Ok(())).is_err() && settling.whole(&list, || Ok(())).is_ok());
    }

    #[test]
    fn an_array_of_an_archive_and_the_keys_beside_embeddings_have_stamps() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        ["img_emb", "metadata"].iter().for_each(|name| fs::create_dir(at(name)).unwrap());
        let files = ["0.npz", "0.parquet", "img_emb/img_emb_0.npy", "metadata/metadata_0.parquet"];
        files.iter().for_each(|name| fs::write(at(name), "a").unwrap());
        let of = |path: &str, file: &str| {
            let before = stamp(&at(path));
            fs::write(at(file), fs::read_to_string(at(file)).unwrap() + "a").unwrap();
            (stamp(&at(path)) != before, stamp(&at(path)) == stamp(&at(path)))
        };
        for (path, file) in [
            (files[0], files[0]),
            ("0.npz@l14_img", files[0]),
            ("0.npz@l14_img", files[1]),
            (files[2], files[3]),
            ("img_emb", files[3]),
            ("", files[3]),
        ] {
            assert_eq!(of(path, file), (true, true), "{path:?} after {file}");
        }
        assert_eq!(of("0.npz@l14_img", files[3]), (false, true));
        fs::create_dir(at("pictures")).unwrap();
        assert_eq!(of("pictures", files[3]), (false, true));
    }

    /// Where files are overwritten a folder keeps its times, and what is deeper is read too.
    #[test]
    fn each_picture_and_each_tar_has_a_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
        };
        let (pictures, tars) =
            (["flat/0.jpg", "set/cat/0.jpg", "set/dog/deep/1.PNG"], ["tars/0.tar", "wds/test/0.tar"]);
        write("wds/test/nshards.txt", "1");
        pictures.iter().chain(&tars).for_each(|name| write(name, "one"));
        let root = |name: &str| folder.path().join(name.split('/').next().unwrap());
        for name in pictures.iter().chain(&tars) {
            let before = stamp(&root(name));
            assert!(before.iter().any(|file| file.0.ends_with(name)), "{before:?}");
            assert_eq!(before, stamp(&root(name)));
            std::thread::sleep(Duration::from_millis(20)); // the file system's clock ticks
            write(name, "two");
            assert_ne!(before, stamp(&root(name)), "{name}: of the same size and time");
        }
        let before = stamp(&root("set"));
        ["set/.DS_Store", "set/cat/0.txt", "set/notes/a.md"].iter().for_each(|name| write(name, "no picture"));
        assert_eq!(before, stamp(&root("set")));
        write("set/fox/2.jpg", "one");
        assert_eq!(stamp(&root("set")).len(), before.len() + 1);
    }

    #[test]
    fn what_takes_long_to_look_at_rests() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        fs::write(&list, "a").unwrap();
        let mut settling = Settling::new(Duration::from_millis(100));
        let look = |settling: &mut Settling| {
            settling.leave_only([]);
            settling.look([&*list]);
            (settling.stamps(&list)[0].1.bytes, settling.leaves(&list))
        };
        assert_eq!(look(&mut settling), (Some(1), true));
        let rest = |settling: &mut Settling, until: Instant| settling.seen.get_mut(&list).unwrap().rests_until = until;
        rest(&mut settling, Instant::now() + Duration::from_secs(3600));
        fs::write(&list, "ab").unwrap();
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(look(&mut settling), (Some(1), true), "nobody has seen that it settled");
        rest(&mut settling, Instant::now());
        assert_eq!(look(&mut settling), (Some(2), false));
        rest(&mut settling, Instant::now() + Duration::from_secs(3600));
        fs::write(&list, "abc").unwrap();
        assert_eq!(look(&mut settling), (Some(2), false));
        settling.forget(&list);
        assert_eq!(look(&mut settling), (Some(3), true));
    }

    #[test]
    fn what_changes_while_it_is_read_is_read_again_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        fs::write(&list, "").unwrap();
        let mut settling = Settling::new(Duration::ZERO);
        // A writer that has this much still to write.
        let read = |settling: &Settling, mut left: usize| {
            settling.whole(&list, || {
                let text = fs::read_to_string(&list).unwrap();
                if left > 0 {
                    left -= 1;
                    fs::write(&list, format!("{text}x")).unwrap();
                }
                Ok(text)
            })
        };
        let (stamps, text) = read(&settling, 2).unwrap();
        assert_eq!((text.as_str(), stamps), ("xx", stamp(&list)));
        let error = read(&settling, 9).unwrap_err().to_string();
        assert!(error.contains("list: it changes while it is read"), "{error}");
        // What has been seen settled is taken over as it was then.
        settling.look([&*list]);
        assert_eq!(read(&settling, 0).unwrap().1, "xxxxx");
        assert!(read(&settling, 1).is_err() && read(&settling, 0).is_err());
        settling.look([&*list]);
        assert_eq!(read(&settling, 0).unwrap().1, "xxxxxx");
    }
}
