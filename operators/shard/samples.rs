//! Members to samples, grouped as WebDataset groups them: adjacent members with one key.
//!
//! - Skipped: folders and devices, `__meta__` names; and, counted, links, members of types that webdataset does not read, names
//!   without key and extension, and what macOS puts beside the files of a tar, `._name` twins and `.DS_Store`, which would come
//!   between a sample's members.
//! - A repeated extension begins a new sample (as open_clip does) and is counted, or with [`RepeatedMember::Reject`] makes the
//!   whole group one reject.
//! - The picture is the member with the first of `image_keys` that the sample has, the caption that with the first of `text_keys`, else
//!   the json's `caption`. Other members are passed over unread.
//! - What an input can make long is limited: see [`GroupConfig`]. A group above a limit is a reject that says so, and what it
//!   held of that is let go.
//! - A group takes its index when its first member is met, and leaves the reader before the next group's data is touched.
//! - A tar cut off inside a member or a header makes the group at hand a reject; one that ends behind a whole member does not.

use std::borrow::Cow;
use std::io::BufRead;
use std::sync::Arc;

pub(crate) use self::config::too_long;
pub use self::config::{GroupConfig, RepeatedMember, keys};
pub use self::group::{Group, MAX_ORIGINAL_BYTES, Original, Want};
use self::open::{Image, Named, Open};
use super::metadata::Metadata;
use super::names;
use super::tar::{Member, MemberKind, TarEnd, TarReader};
use trommel_core::credit::Permit;
use trommel_core::sample::{Encoded, Reason, Sample, SampleId, SampleInfo};

mod config;
mod group;
mod open;

/// What was counted on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberCounts {
    /// Groups that began with a repeated extension.
    pub repeated: u64,
    /// Regular members that belong to no sample by their name.
    pub nameless: u64,
    /// macOS's `._name` twins and `.DS_Store`.
    pub macos: u64,
    /// The first of them.
    pub first_macos: String,
    /// Links, which have no data of their own.
    pub links: u64,
    /// The first of them.
    pub first_link: String,
    /// Members of types that are not read.
    pub unread: u64,
    /// The first of them, with its type flag.
    pub first_unread: String,
    /// Members that should be a sample's json and cannot be read.
    pub unreadable_json: u64,
    /// Key of the first sample with one.
    pub first_json: String,
    /// Captions that are not UTF-8.
    pub foreign_texts: u64,
    /// Key of the first sample with one.
    pub first_text: String,
    /// Keys that are not UTF-8.
    pub foreign_keys: u64,
    /// The first of them.
    pub first_key: String,
}

impl MemberCounts {
    /// What a sample's json says; one that cannot be read says nothing, and is counted.
    fn taken(&mut self, key: &[u8], read: Option<Metadata>) -> Metadata {
        if read.is_none() {
            if self.unreadable_json == 0 {
                self.first_json = String::from_utf8_lossy(key).into_owned();
            }
            self.unreadable_json += 1;
        }
        read.unwrap_or_default()
    }

    /// A sample's key. One that is not UTF-8 is counted, and stands with U+FFFD.
    fn key(&mut self, bytes: &[u8]) -> String {
        let key = String::from_utf8_lossy(bytes);
        if matches!(key, Cow::Owned(_)) {
            if self.foreign_keys == 0 {
                self.first_key = key.clone().into_owned();
            }
            self.foreign_keys += 1;
        }
        key.into_owned()
    }

    /// A caption's text. What is not UTF-8 in it is counted, and stands as U+FFFD.
    fn text(&mut self, key: &[u8], bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        if matches!(text, Cow::Owned(_)) {
            if self.foreign_texts == 0 {
                self.first_text = String::from_utf8_lossy(key).into_owned();
            }
            self.foreign_texts += 1;
        }
        text.into_owned()
    }
}

/// Credit for a picture of so many bytes, views and all.
pub type Admit<'a, E> = &'a mut dyn FnMut(u64) -> Result<Permit, E>;

/// Groups the members of one tar.
#[derive(Debug)]
pub struct SampleReader<'c, R> {
    tar: TarReader<R>,
    config: Cow<'c, GroupConfig>,
    ordinal: u64,
    next_index: u32,
    open: Option<Open>,
    /// The member that begins the next group, its data unread.
    pending: Option<Named>,
    counts: MemberCounts,
}

impl<'c, R: BufRead> SampleReader<'c, R> {
    /// Groups the members of `tar`, the shard with this ordinal.
    pub fn new(tar: TarReader<R>, config: &'c GroupConfig, ordinal: u64) -> Self {
        Self::with(tar, Cow::Borrowed(config), ordinal)
    }

    /// The same, with a configuration of its own.
    pub fn owning(tar: TarReader<R>, config: GroupConfig, ordinal: u64) -> SampleReader<'static, R> {
        SampleReader::with(tar, Cow::Owned(config), ordinal)
    }

    fn with(tar: TarReader<R>, config: Cow<'c, GroupConfig>, ordinal: u64) -> Self {
        Self { tar, config, ordinal, next_index: 0, open: None, pending: None, counts: MemberCounts::default() }
    }

    /// The next group; `None` at the end. `want` is asked once for every index, in order; `admit` before a picture's bytes
    /// are read, and never while the reader holds credit.
    ///
    /// # Errors
    /// What `admit` returns.
    pub fn next_group<E>(
        &mut self,
        want: &mut dyn FnMut(u32) -> Want,
        admit: Admit<'_, E>,
    ) -> Result<Option<Group>, E> {
        self.next_named_group(&mut |index, _| want(index), admit)
    }

    /// The same, where what is wanted hangs on the key too.
    ///
    /// # Errors
    /// What `admit` returns.
    pub fn next_named_group<E>(
        &mut self,
        want: &mut dyn FnMut(u32, &[u8]) -> Want,
        admit: Admit<'_, E>,
    ) -> Result<Option<Group>, E> {
        loop {
            let Some(named) = self.pending.take().or_else(|| self.next_named()) else {
                return Ok(self.open.take().map(|open| self.close(open)));
            };
            let mut open = match self.open.take() {
                Some(open) if open.key != named.key => {
                    self.pending = Some(named);
                    return Ok(Some(self.close(open)));
                }
                Some(open) if open.extensions.contains(&named.extension) => {
                    self.counts.repeated += 1;
                    if self.config.repeated == RepeatedMember::NewSample {
                        self.pending = Some(named);
                        return Ok(Some(self.close(open)));
                    }
                    let detail = format!("{} twice, the second at byte {}", named.extension, named.member.offset);
                    self.open = Some(open.rejected("repeated_member", detail).with_size(named.member.size));
                    continue;
                }
                Some(open) => open,
                None => {
                    let id = SampleId { ordinal: self.ordinal, index: self.next_index };
                    self.next_index = self.next_index.saturating_add(1);
                    Open::new(&named, id, want(id.index, &named.key))
                }
            };
            self.add(&mut open, named, admit)?;
            self.open = Some(open);
        }
    }

    /// Groups numbered so far.
    pub fn numbered(&self) -> u32 {
        self.next_index
    }

    /// What was counted so far.
    pub fn counts(&self) -> &MemberCounts {
        &self.counts
    }

    /// The tar itself: how it ended, what was odd.
    pub fn tar(&self) -> &TarReader<R> {
        &self.tar
    }

    fn next_named(&mut self) -> Option<Named> {
        loop {
            let member = self.tar.next_member()?;
            if member.kind == MemberKind::Link {
                if self.counts.links == 0 {
                    self.counts.first_link = String::from_utf8_lossy(&member.name).into_owned();
                }
                self.counts.links += 1;
                continue;
            }
            if let MemberKind::Unread(flag) = member.kind {
                if self.counts.unread == 0 {
                    let name = String::from_utf8_lossy(&member.name);
                    self.counts.first_unread = format!("{name}, type flag `{}`", flag.escape_ascii());
                }
                self.counts.unread += 1;
                continue;
            }
            if member.kind == MemberKind::Other || names::is_meta(&member.name) {
                continue;
            }
            if names::is_macos(&member.name) {
                if self.counts.macos == 0 {
                    self.counts.first_macos = String::from_utf8_lossy(&member.name).into_owned();
                }
                self.counts.macos += 1;
                continue;
            }
            match names::split(&member.name) {
                Some((key, extension)) => {
                    let key = key.to_vec();
                    return Some(Named { member, key, extension });
                }
                None => self.counts.nameless += 1,
            }
        }
    }

    fn add<E>(&mut self, open: &mut Open, named: Named, admit: Admit<'_, E>) -> Result<(), E> {
        let Named { member, extension, .. } = named;
        open.size = open.size.saturating_add(member.size);
        // Before anything that depends on what is wanted: the next indices must not.
        let (most, most_bytes) = (self.config.max_members, self.config.max_extension_bytes);
        if open.extensions.len() >= most {
            open.reject("too_many_members", format!("more than {most}"));
        } else if open.extensions.iter().map(String::len).sum::<usize>() + extension.len() > most_bytes {
            open.reject("long_member_names", format!("extensions of more than {most_bytes} bytes"));
        } else {
            open.extensions.push(extension.clone());
        }
        let extra_bytes = match open.want {
            Want::Content { extra_bytes } => extra_bytes,
            Want::Place => return Ok(()),
            Want::Original { identity } => {
                self.add_original(open, &member, extension, identity);
                return Ok(());
            }
        };
        let (config, rank) = (&self.config, |keys: &[String]| keys.iter().position(|key| *key == extension));
        if let Some(rank) = rank(&config.image_keys) {
            if open.reject.is_none() && open.image.as_ref().is_none_or(|image| rank < image.rank) {
                // A less preferred picture gives its credit back before more is asked for.
                open.image = None;
                if open.admits(&member, &extension, config.max_image_bytes) {
                    // The caption may come behind the picture: what it can have is asked for, what it has is kept.
                    let most = member.size.saturating_add(extra_bytes).saturating_add(config.max_text_bytes);
                    let permit = admit(most)?;
                    if let Some(data) = self.tar.read_data() {
                        open.image = Some(Image { rank, extension, data, permit });
                    }
                }
            }
        } else if let Some(rank) = rank(&config.text_keys) {
            let better = open.text.as_ref().is_none_or(|(held, _)| rank < *held);
            if better && open.admits(&member, &extension, config.max_text_bytes) {
                open.text = self.tar.read_data().map(|data| (rank, data));
            }
        } else if extension == "json" && open.admits(&member, &extension, config.max_json_bytes) {
            // Of what is cut off the group's end tells.
            let read = self.tar.read_data().map(|json| self.counts.taken(&open.key, Metadata::parse(&json)));
            open.take(read.unwrap_or_default(), config);
        }
        Ok(())
    }

    fn add_original(&mut self, open: &mut Open, member: &Member, extension: String, identity: bool) {
        if open.size > MAX_ORIGINAL_BYTES {
            let detail = format!("{} bytes so far, more than {MAX_ORIGINAL_BYTES}", open.size);
            open.reject("sample_too_large", detail);
        } else if self.tar.is_said_globally() {
            open.reject("global_header", "a global PAX header says its names or sizes".into());
        }
        if open.reject.is_some() {
            open.original = Original::default();
            return;
        }
        let Some(raw) = self.tar.read_raw(&mut open.original.bytes) else {
            // What is cut off is said at the end of the group.
            open.reject("long_headers", format!("{extension} has too many of them"));
            return;
        };
        if identity && extension == "json" && member.size <= self.config.max_json_bytes {
            let json = &open.original.bytes[raw.data..raw.data + raw.size];
            let metadata = self.counts.taken(&open.key, Metadata::parse(json));
            open.take(metadata, &self.config);
        }
        open.original.is_sparse |= member.kind == MemberKind::Sparse;
        open.original.members.push((extension, raw));
    }

    fn close(&mut self, mut open: Open) -> Group {
        let metadata = std::mem::take(&mut open.metadata);
        let info = Arc::new(SampleInfo {
            id: open.id,
            key: self.counts.key(&open.key),
            uid: metadata.uid,
            url: metadata.url,
            sha256: metadata.sha256,
            offset: open.offset,
            size: open.size,
            ..SampleInfo::default()
        });
        if open.want == Want::Place {
            return Group::Place(info);
        }
        if let (None, Some(TarEnd::Damaged { offset, what })) = (&self.pending, self.tar.end()) {
            open.reject = None;
            open.reject("cut_off", format!("at byte {offset}: {what}"));
        }
        let extra_bytes = match (open.want, open.reject.take()) {
            (_, Some(reason)) => return Group::Rejected(info, reason),
            (Want::Content { extra_bytes }, None) => extra_bytes,
            (Want::Original { .. } | Want::Place, None) => {
                return Group::Original(info, Original { key: open.key, ..open.original });
            }
        };
        match open.image.take() {
            None => {
                let (has, wanted) = (open.extensions.join(";"), self.config.image_keys.join(";"));
                Group::Rejected(info, Reason::new("no_image", format!("has {has:.200}, wanted {wanted}")))
            }
            Some(image) => {
                let text = open.text.map(|(_, text)| self.counts.text(&open.key, &text));
                let blank = |text: &String| text.trim().is_empty();
                let caption = text.filter(|text| !blank(text)).or(metadata.caption).filter(|text| !blank(text));
                let Image { extension, data, mut permit, .. } = image;
                let held = (data.len() + caption.as_ref().map_or(0, String::len)) as u64;
                permit.shrink_to(held.saturating_add(extra_bytes));
                let picture = Encoded { image: data.into(), extension };
                Group::Sample(Sample::read(info, caption.map(Arc::from), picture, permit))
            }
        }
    }
}
