//! Class folders of pictures (`ROOT/CLASS/picture.jpg`, torchvision's ImageFolder) as shards: one class, one shard.
//!
//! Labelled benchmarks and reference sets come this way. Classes and files are sorted by name; a sample's key is
//! `CLASS/FILE`. A root that holds pictures itself is one shard called after it. Unreadable files are rejects; whether a file
//! is a picture is the decoder's to say, files without a picture's extension are passed over.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::plan::{Plan, PlanError, ShardRef};
use super::reader::{Admitted, ViewBytes};
use crate::dataflow::credit::{Permit, Stopped};
use crate::dataflow::source::{Lease, Outlet, ReadShard};
use crate::notices::Notices;
use crate::sample::{Event, Fate, Reason, Sample, SampleId, SampleInfo, ShardEnd, ShardOutcome, Status, Work};

/// Extensions of pictures.
const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Reads class folders.
#[derive(Debug)]
pub struct FolderReader {
    classes: Vec<Vec<PathBuf>>,
    names: Vec<String>,
    views: ViewBytes,
}

/// Lists `root`'s classes as a plan, and their files.
///
/// # Errors
/// A root that cannot be read or holds no picture.
pub fn list(root: &Path) -> Result<(Plan, Vec<Vec<PathBuf>>), PlanError> {
    let own = pictures(root)?;
    let mut classes: Vec<(String, PathBuf, Vec<PathBuf>)> = Vec::new();
    if own.is_empty() {
        for folder in entries(root)?.into_iter().filter(|path| path.is_dir()) {
            let files = pictures(&folder)?;
            if !files.is_empty() {
                classes.push((file_name(&folder), folder, files));
            }
        }
    } else {
        classes.push((file_name(root), root.to_path_buf(), own));
    }
    if classes.is_empty() {
        return Err(PlanError::NoMatch(format!("{}: neither pictures nor folders of pictures", root.display())));
    }
    let shard = |(at, (name, folder, files)): (usize, &(String, PathBuf, Vec<PathBuf>))| ShardRef {
        ordinal: at as u64,
        name: name.clone(),
        url: folder.display().to_string(),
        bytes: Some(files.iter().filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum()),
    };
    let plan = Plan { shards: classes.iter().enumerate().map(shard).collect() };
    Ok((plan, classes.into_iter().map(|(_, _, files)| files).collect()))
}

fn file_name(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf()).file_name().unwrap_or_default().to_string_lossy().into()
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, PlanError> {
    let place = |error| PlanError::Io { path: folder.display().to_string(), error };
    let entries = fs::read_dir(folder).map_err(place)?;
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(place)?;
    paths.sort();
    Ok(paths)
}

fn pictures(folder: &Path) -> Result<Vec<PathBuf>, PlanError> {
    let picture = |path: &PathBuf| EXTENSIONS.contains(&extension(path).as_str()) && path.is_file();
    Ok(entries(folder)?.into_iter().filter(picture).collect())
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

impl FolderReader {
    /// A reader of what [`list`] found.
    #[must_use]
    pub fn new(plan: &Plan, classes: Vec<Vec<PathBuf>>, views: ViewBytes) -> Self {
        Self { classes, names: plan.shards.iter().map(|shard| shard.name.clone()).collect(), views }
    }

    fn sample(
        &self,
        lease: &Lease,
        index: u32,
        path: &Path,
        out: &mut Outlet<Admitted>,
    ) -> Result<Result<Sample, (SampleInfo, Reason)>, Stopped> {
        let class = self.names.get(usize::try_from(lease.ordinal).unwrap_or(usize::MAX)).map_or("", String::as_str);
        let size = fs::metadata(path).map(|meta| meta.len());
        let info = SampleInfo {
            id: SampleId { ordinal: lease.ordinal, index },
            key: format!("{class}/{}", file_name(path)),
            uid: None,
            url: None,
            sha256: None,
            offset: 0,
            size: *size.as_ref().unwrap_or(&0),
        };
        let size = match size {
            Ok(size) if size <= MAX_FILE_BYTES => size,
            Ok(size) => return Ok(Err((info, Reason::new("member_too_large", format_args!("{size} bytes"))))),
            Err(error) => return Ok(Err((info, Reason::new("unreadable", error)))),
        };
        let permit: Permit = out.admit(size + self.views.of(Work::Judge))?;
        Ok(match fs::read(path) {
            Ok(bytes) => Ok(Sample {
                info,
                pass: lease.pass,
                work: Work::Judge,
                image: Bytes::from(bytes),
                image_extension: extension(path),
                caption: Some(Arc::from(class)),
                permit,
            }),
            Err(error) => Err((info, Reason::new("unreadable", error))),
        })
    }
}

impl ReadShard for FolderReader {
    type Item = Admitted;

    fn read(&self, lease: &Lease, out: &mut Outlet<Admitted>) -> Result<(), Stopped> {
        let files = usize::try_from(lease.ordinal).ok().and_then(|at| self.classes.get(at));
        let mut end = ShardEnd {
            ordinal: lease.ordinal,
            count: 0,
            bytes: 0,
            outcome: ShardOutcome::Complete(None),
            notices: Notices::default(),
        };
        for path in files.into_iter().flatten() {
            let read = self.sample(lease, end.count, path, out)?;
            end.count += 1;
            match read {
                Ok(sample) => {
                    end.bytes += sample.info.size;
                    out.send(Admitted::Sample(sample))?;
                }
                Err((info, reason)) => {
                    let (status, reason) = (Status::Rejected, Some(reason));
                    let fate = Fate { info, status, reason, scores: Vec::new(), embedding: None };
                    out.send(Admitted::Event(Event::Fate(Arc::new(fate))))?;
                }
            }
        }
        out.send(Admitted::Event(Event::End(end)))
    }
}
