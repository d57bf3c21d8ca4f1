//! Class folders to admitted samples: what a reader thread does with a lease on one of them. Judged and replayed like a tar.
//!
//! A file that is there and cannot be read makes the whole folder unfinished, as a tar's would; so does a folder that is not what it was
//! when it was planned.

use std::sync::Arc;

use super::super::metadata::Metadata;
use super::super::promised::{Promised, promised_to_folder};
use super::super::reader::{Admitted, Decisions, KnownError, KnownShard, Members, Replayed, Request, Task, ViewBytes};
use super::super::remark;
use super::super::samples::{Group, Want};
use super::super::store::StoreError;
use super::beside::{Beside, Unread, image, size};
use super::{Class, Folders, Picture, bytes_of, extension, file_name};
use trommel_core::causes::{Cause, Causes};
use trommel_core::credit::{Permit, Stopped};
use trommel_core::notices::Notices;
use trommel_core::sample::{Encoded, Event, Sample, SampleId, SampleInfo, ShardEnd, ShardOutcome};
use trommel_dataflow::source::{Lease, Outlet, ReadShard};

/// Reads class folders.
pub struct FolderReader {
    folders: Arc<Folders>,
    views: ViewBytes,
    decisions: Option<Arc<dyn Decisions>>,
    split: Option<Arc<dyn Members>>,
}

/// A class that is being read.
struct Open<'a> {
    name: &'a str,
    class: &'a Class,
    pictures: Vec<Picture>,
    notices: Notices,
}

impl Open<'_> {
    /// `CLASS/FILE`, with the folders between them; all of it is UTF-8, for other names are refused.
    fn key(&self, picture: &Picture) -> String {
        let inner = picture.path.strip_prefix(&self.class.folder).unwrap_or(&picture.path);
        format!("{}/{}", self.name, inner.to_string_lossy())
    }
}

impl ReadShard for FolderReader {
    type Item = Admitted;

    fn read(&self, lease: &Lease, out: &mut Outlet<Admitted>) -> Result<(), Stopped> {
        self.views.read_into(lease, out, |request, _, admit, emit| self.read_class(request, admit, emit))
    }
}

impl FolderReader {
    /// A reader of what was found.
    #[must_use]
    pub fn new(folders: Arc<Folders>, views: ViewBytes, decisions: Option<Arc<dyn Decisions>>) -> Self {
        Self { folders, views, decisions, split: None }
    }

    /// The same, judging those alone that a split keeps: all others are dropped, unread where their places or keys say who they are.
    #[must_use]
    pub fn of_split(mut self, split: Option<Arc<dyn Members>>) -> Self {
        self.split = split;
        self
    }

    /// Reads one class to its end.
    ///
    /// # Errors
    /// What `admit` or `emit` returns, at once.
    pub fn read_class<E>(
        &self,
        request: &Request,
        admit: &mut dyn FnMut(u64) -> Result<Permit, E>,
        emit: &mut dyn FnMut(Admitted) -> Result<(), E>,
    ) -> Result<(), E> {
        let &Request { pass, ordinal, replay, .. } = request;
        let mut end = ShardEnd::new(ordinal);
        let known = KnownShard::of(request, self.decisions.as_deref(), self.split.as_deref());
        // Who says whom it has to give knows better than its statistics.
        let counts = known.as_ref().is_ok_and(KnownShard::counts);
        end.outcome = self.stream(request, known, &mut end, admit, emit)?;
        let class = usize::try_from(ordinal).ok().and_then(|at| self.folders.classes.get(at));
        if let Some(class) = class.filter(|_| !replay && !counts) {
            let promised = promised_to_folder(&class.folder);
            // Without statistics an empty class is a note of the plan's.
            if promised != Promised::Nothing {
                end.notices.merge(&remark::lost(&end.outcome, end.count, promised, &file_name(&class.folder)));
            }
        }
        emit(match replay {
            true => Admitted::Replayed(Replayed::End { pass, end }),
            false => Admitted::Event(Event::End(end)),
        })
    }

    /// Sends a class's samples.
    fn stream<E>(
        &self,
        request: &Request,
        known: Result<KnownShard, KnownError>,
        end: &mut ShardEnd,
        admit: &mut dyn FnMut(u64) -> Result<Permit, E>,
        emit: &mut dyn FnMut(Admitted) -> Result<(), E>,
    ) -> Result<ShardOutcome, E> {
        let unavailable = |error: Cause| ShardOutcome::Unavailable(Causes(&*error).to_string());
        let (known, open) = match known.map_err(Cause::from).and_then(|known| Ok((known, self.open(request.ordinal)?)))
        {
            Ok(opened) => opened,
            Err(error) => return Ok(unavailable(error)),
        };
        let contradicts = |error: KnownError| error.outcome(open.class.folder.display());
        let task = Task::new(request, self.views, &known, self.decisions.as_deref());
        let mut odd = Notices::default();
        for picture in &open.pictures {
            let id = SampleId { ordinal: request.ordinal, index: end.count };
            let group = match task.want(id.index, open.key(picture).as_bytes()) {
                // A folder has no tar whose blocks could be wanted.
                Want::Place | Want::Original { .. } => {
                    let info = SampleInfo { id, key: open.key(picture), ..SampleInfo::default() };
                    Ok(Group::Place(Arc::new(info)))
                }
                Want::Content { extra_bytes } => self.group(id, &open, picture, extra_bytes, admit, &mut odd)?,
            };
            let group = match group {
                Ok(group) => group,
                Err(error) => return Ok(unavailable(error.into())),
            };
            if let Group::Sample(sample) = &group {
                end.bytes += sample.info.size;
            }
            match task.admitted(group) {
                Ok(item) => item.map_or(Ok(()), &mut *emit)?,
                Err(error) => return Ok(contradicts(error)),
            }
            end.count += 1;
        }
        end.notices = open.notices.clone();
        end.notices.merge(&odd);
        known.note(&mut end.notices, open.name);
        Ok(task.check_count(end.count).map_or_else(contradicts, |()| ShardOutcome::Complete(None)))
    }

    fn open(&self, ordinal: u64) -> Result<Open<'_>, Cause> {
        let at = usize::try_from(ordinal).unwrap_or(usize::MAX);
        let (Some(shard), Some(class)) = (self.folders.plan.shard(ordinal), self.folders.classes.get(at)) else {
            return Err(KnownError::NoShard(ordinal).into());
        };
        let (pictures, mut notices) = self.folders.pictures_of(at)?;
        let (now, planned) = (bytes_of(&pictures), shard.bytes.unwrap_or(0));
        if now != planned {
            let url = &shard.url;
            return Err(format!("{url} has {now} bytes of pictures now and had {planned} when it was planned").into());
        }
        // What lies beside the class folders belongs to none of them: the first one tells it.
        if at == 0 {
            notices.merge(&self.folders.notices);
        }
        Ok(Open { name: &shard.name, class, pictures, notices })
    }

    fn group<E>(
        &self,
        id: SampleId,
        open: &Open<'_>,
        picture: &Picture,
        extra_bytes: u64,
        admit: &mut dyn FnMut(u64) -> Result<Permit, E>,
        odd: &mut Notices,
    ) -> Result<Result<Group, StoreError>, E> {
        let config = &self.folders.config;
        let path = &picture.path;
        let key = open.key(picture);
        let mut info = SampleInfo { id, key, ..SampleInfo::default() };
        let files = size(path, config.max_image_bytes).and_then(|size| Ok((size, Beside::read(picture, config)?)));
        let (size, beside) = match files {
            Ok(there) => there,
            Err(Unread::TooLarge(reason)) => return Ok(Ok(Group::Rejected(Arc::new(info), reason))),
            Err(Unread::Unavailable(error)) => return Ok(Err(error)),
        };
        if beside.is_json_broken {
            remark::note_json(odd, info.key.clone(), 1);
        }
        let Metadata { uid, url, sha256, .. } = beside.metadata;
        (info.uid, info.url, info.sha256, info.size) = (uid, url, sha256, size + beside.bytes);
        let info = Arc::new(info);
        if let Some(reason) = beside.long {
            return Ok(Ok(Group::Rejected(info, reason)));
        }
        remark::note_text(odd, info.key.clone(), u64::from(beside.is_text_foreign));
        let permit = admit(info.size + extra_bytes)?;
        let image = match image(path, size) {
            Ok(image) => image,
            Err(error) => return Ok(Err(error)),
        };
        let picture = Encoded { image: image.into(), extension: extension(path) };
        Ok(Ok(Group::Sample(Sample::read(info, beside.caption.map(Arc::from), picture, permit))))
    }
}
