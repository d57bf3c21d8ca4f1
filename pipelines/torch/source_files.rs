//! Which files pictures were embedded from: what each is called, how it was seen and what it held, noted beside the embeddings.
//!
//! ```text
//! RUN/source_files.jsonl   {"name":"cat/0.jpg","bytes":3126,"modified_ns":1..,"stamp":[7012,1..],"sha256":"9f2c.."}   a line a file
//! ```
//!
//! A set is what it was when its files are called as they were and hold what they held. Times and inodes say only where that need not be looked at: a set that is
//! copied to another machine, or touched, is read once more, and not embedded anew.
//!
//! Invariants:
//! 1. What is embedded was seen before its first byte was read: the list is written before the embeddings are begun.
//! 2. A content is noted only of a file that is as it was seen then, when all is embedded. So it is the one that was embedded.
//! 3. A file whose content is not noted, and that is not as it was seen, counts as another one.
//!
//! Cost: a look at each file at each start; its bytes once after the embedding, and again where the look does not tell.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use trommel_core::durable;
use trommel_core::stop::Stop;
use trommel_shard::samples::GroupConfig;
use trommel_shard::store::{FileInfo, Stamp};

use crate::run_setup::files_read;
use trommel_pipelines::error::PipelineError;

/// The list of them in the folder of their embeddings.
pub(crate) const SOURCE_FILES: &str = "source_files.jsonl";

/// One file, as it was seen and what it held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceFile {
    /// Its path below the folder that was given.
    name: String,
    /// Its length in bytes; 0 for a link that leads nowhere.
    bytes: u64,
    /// Its last change, nanoseconds since 1970; 0 where nobody knows.
    modified_ns: u64,
    /// Its inode and the last change of that.
    stamp: Option<Stamp>,
    /// Hash of its bytes; `None` until all is embedded.
    sha256: Option<String>,
}

impl SourceFile {
    fn seen(root: &Path, path: &Path) -> Self {
        let seen = fs::metadata(path).ok().map(|metadata| FileInfo::from(&metadata));
        let modified = seen.as_ref().and_then(|seen| seen.modified);
        Self {
            name: path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned(),
            bytes: seen.as_ref().and_then(|seen| seen.bytes).unwrap_or(0),
            modified_ns: modified.map_or(0, nanoseconds),
            stamp: seen.and_then(|seen| seen.stamp),
            sha256: None,
        }
    }

    /// Whether it looks as the other one did: then it holds the same.
    fn looks_like(&self, other: &Self) -> bool {
        (self.bytes, self.modified_ns, &self.stamp) == (other.bytes, other.modified_ns, &other.stamp)
    }
}

/// A time in nanoseconds since 1970; 0 before that.
pub(crate) fn nanoseconds(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// The files of a folder of pictures or tars, and what is known of their contents.
pub(crate) struct SourceFiles<'a> {
    root: &'a Path,
    threads: usize,
    stop: &'a Stop,
    paths: Vec<PathBuf>,
    files: Vec<SourceFile>,
}

impl<'a> SourceFiles<'a> {
    /// Looks at what an embedding of `root` would read; `threads` read what has to be hashed.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(crate) fn look(root: &'a Path, threads: usize, stop: &'a Stop) -> Result<Self, PipelineError> {
        let mut paths = files_read(root, &GroupConfig::default())?;
        paths.sort();
        let files = paths.iter().map(|path| SourceFile::seen(root, path)).collect();
        Ok(Self { root, threads, stop, paths, files })
    }

    /// Whether these are the files that `run` was embedded from, by what is noted there; contents that are noted are taken over. Where nothing is
    /// noted nobody knows better: an earlier version embedded it.
    ///
    /// # Errors
    /// A file that cannot be read, a stop.
    pub(crate) fn are_those_of(&mut self, run: &Path) -> Result<bool, PipelineError> {
        let list = run.join(SOURCE_FILES);
        let Some(text) = durable::if_there(fs::read(&list)).map_err(PipelineError::at(&list))? else { return Ok(true) };
        // What cannot be understood says of no file that it is the same.
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let Ok(noted) = lines.map(serde_json::from_slice).collect::<Result<Vec<SourceFile>, _>>() else {
            return Ok(false);
        };
        let may_be = |(now, then): (&SourceFile, &SourceFile)| {
            let is_known = now.looks_like(then) || then.sha256.is_some();
            is_known && (&now.name, now.bytes) == (&then.name, then.bytes)
        };
        if self.files.len() != noted.len() || !self.files.iter().zip(&noted).all(may_be) {
            return Ok(false);
        }
        let unsure = |at: &usize| !self.files[*at].looks_like(&noted[*at]);
        let unsure: Vec<usize> = (0..noted.len()).filter(unsure).collect();
        let same =
            self.contents(&unsure)?.into_iter().zip(&unsure).all(|(sha256, at)| Some(sha256) == noted[*at].sha256);
        if same {
            self.files.iter_mut().zip(noted).for_each(|(now, then)| now.sha256 = then.sha256);
        }
        Ok(same)
    }

    /// Writes down how they were seen, and what is known of their contents, in the folder of their embeddings.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(crate) fn note(&self, run: &Path) -> Result<(), PipelineError> {
        let list = run.join(SOURCE_FILES);
        let lines: Result<Vec<String>, _> = self.files.iter().map(serde_json::to_string).collect();
        let text: String = lines.map_err(PipelineError::failed)?.iter().flat_map(|line| [line, "\n"]).collect();
        if fs::read(&list).is_ok_and(|noted| noted == text.as_bytes()) {
            return Ok(());
        }
        durable::write(&list, text.as_bytes()).map_err(PipelineError::at(&list))
    }

    /// The same of files that are embedded now, with the contents of all of them.
    ///
    /// # Errors
    /// A file that has changed since it was seen: nobody knows what was embedded, and the next start begins anew.
    pub(crate) fn note_embedded(mut self, run: &Path) -> Result<(), PipelineError> {
        let unknown: Vec<usize> = (0..self.files.len()).filter(|at| self.files[*at].sha256.is_none()).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let contents = self.contents(&unknown)?;
        let now = Self::look(self.root, self.threads, self.stop)?;
        let stays = |(now, then): (&SourceFile, &SourceFile)| now.name == then.name && now.looks_like(then);
        if now.files.len() != self.files.len() || !now.files.iter().zip(&self.files).all(stays) {
            return Err(PipelineError::unfinished(format!(
                "{}: it changed while it was embedded",
                self.root.display()
            )));
        }
        for (at, sha256) in unknown.into_iter().zip(contents) {
            self.files[at].sha256 = Some(sha256);
        }
        self.note(run)
    }

    /// Hashes of the bytes of some of the files.
    fn contents(&self, of: &[usize]) -> Result<Vec<String>, PipelineError> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let hash = |at: &usize| {
            PipelineError::if_ending(self.stop)?;
            let (path, mut hash) = (&self.paths[*at], Sha256::new());
            let read = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hash));
            read.map_err(|error| PipelineError::unfinished(error).within(path.display()))?;
            Ok(format!("{:x}", hash.finalize()))
        };
        let pool = ThreadPoolBuilder::new().num_threads(self.threads.max(1)).build().map_err(PipelineError::failed)?;
        pool.install(|| of.par_iter().map(hash).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A benchmark in a folder, and the folder of its embeddings.
    struct Scene {
        folder: tempfile::TempDir,
        stop: Stop,
    }

    impl Scene {
        fn of(files: &[&str]) -> Self {
            let scene = Self { folder: tempfile::tempdir().unwrap(), stop: Stop::new() };
            fs::create_dir(scene.run()).unwrap();
            files.iter().for_each(|name| scene.write(name, name));
            scene
        }

        fn root(&self) -> PathBuf {
            self.folder.path().join("set")
        }

        fn run(&self) -> PathBuf {
            self.folder.path().join("run")
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.root().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// What another start finds of them.
        fn again(&self) -> bool {
            let root = self.root();
            let mut files = SourceFiles::look(&root, 2, &self.stop).unwrap();
            let same = files.are_those_of(&self.run()).unwrap();
            if same {
                files.note(&self.run()).unwrap();
            }
            same
        }

        fn embed(&self) {
            let root = self.root();
            let files = SourceFiles::look(&root, 2, &self.stop).unwrap();
            files.note(&self.run()).unwrap();
            files.note_embedded(&self.run()).unwrap();
            assert!(self.again());
        }

        fn noted(&self) -> String {
            fs::read_to_string(self.run().join(SOURCE_FILES)).unwrap()
        }
    }

    #[test]
    fn another_content_of_the_same_size_is_another_set() {
        let scene = Scene::of(&["cat/0.jpg", "cat/1.jpg", "dog/deep/2.jpg"]);
        scene.embed();
        let at = |name: &str| scene.root().join(name);
        let written = fs::metadata(at("cat/1.jpg")).unwrap().modified().unwrap();
        std::thread::sleep(Duration::from_millis(20)); // the file system's clock ticks
        scene.write("cat/1.jpg", "CAT/1.JPG");
        fs::File::options().write(true).open(at("cat/1.jpg")).unwrap().set_modified(written).unwrap();
        assert!(!scene.again(), "its time set back");
        scene.write("cat/1.jpg", "cat/1.jpg");
        assert!(scene.again());
        // Two of a class that swap their names.
        for (from, to) in [("cat/0.jpg", "aside"), ("cat/1.jpg", "cat/0.jpg"), ("aside", "cat/1.jpg")] {
            fs::rename(at(from), at(to)).unwrap();
        }
        assert!(!scene.again());
        scene.embed();
        for (name, text) in [("dog/3.jpg", "new"), ("dog/deep/2.jpg", "shorter")] {
            scene.write(name, text);
            assert!(!scene.again(), "{name}");
            scene.embed();
        }
        fs::remove_file(at("dog/3.jpg")).unwrap();
        assert!(!scene.again());
    }

    #[test]
    fn a_tar_is_as_good_as_a_picture() {
        for files in [&["0.tar", "1.tar"][..], &["test/0.tar", "test/1.tar"]] {
            let scene = Scene::of(files);
            if files[0].contains('/') {
                scene.write("test/nshards.txt", "2");
            }
            scene.embed();
            assert_eq!(scene.noted().lines().count(), 2, "{}", scene.noted());
            std::thread::sleep(Duration::from_millis(20));
            scene.write(files[1], &files[1].to_uppercase());
            assert!(!scene.again(), "{files:?}");
        }
    }

    /// Times and inodes are another machine's, or a `touch`'s: the content counts, and is not read again at the next start.
    #[test]
    fn a_copy_is_the_same_set() {
        let scene = Scene::of(&["cat/0.jpg", "cat/1.jpg"]);
        scene.embed();
        let before = scene.noted();
        std::thread::sleep(Duration::from_millis(20));
        scene.write("copy/0.jpg", "cat/0.jpg");
        scene.write("copy/1.jpg", "cat/1.jpg");
        fs::remove_dir_all(scene.root().join("cat")).unwrap();
        fs::rename(scene.root().join("copy"), scene.root().join("cat")).unwrap();
        assert!(scene.again());
        assert_ne!(scene.noted(), before, "how they are seen is noted");
        let root = scene.root();
        let mut files = SourceFiles::look(&root, 1, &scene.stop).unwrap();
        scene.stop.request(); // whoever reads anything ends here
        assert!(files.are_those_of(&scene.run()).unwrap());
        assert!(files.files.iter().all(|file| file.sha256.is_some()));
    }

    #[test]
    fn what_is_not_embedded_to_its_end_is_known_by_its_looks_alone() {
        let scene = Scene::of(&["0.jpg", "1.jpg"]);
        assert!(scene.again(), "an earlier version noted nothing");
        assert!(scene.again() && scene.noted().matches("\"sha256\":null").count() == 2, "{}", scene.noted());
        let root = scene.root();
        let begun = SourceFiles::look(&root, 2, &scene.stop).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        scene.write("1.jpg", "1.jpg");
        let error = begun.note_embedded(&scene.run()).unwrap_err().to_string();
        assert!(error.contains("changed while it was embedded"), "{error}");
        assert!(!scene.again(), "nobody knows which of both was embedded");
        // A file that cannot be read is no other one.
        fs::remove_file(root.join("1.jpg")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("1.jpg")).unwrap();
        SourceFiles::look(&root, 2, &scene.stop).unwrap().note(&scene.run()).unwrap();
        assert!(scene.again());
        fs::write(scene.run().join(SOURCE_FILES), "{\"name\":").unwrap();
        assert!(!scene.again(), "a list that nobody understands");
    }
}
