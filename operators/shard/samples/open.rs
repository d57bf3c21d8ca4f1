//! The group at hand: its members so far, and the first reason to reject it.

use super::config::{GroupConfig, too_long};
use super::group::{Original, Want};
use crate::metadata::Metadata;
use crate::tar::{Member, MemberKind};
use trommel_core::credit::Permit;
use trommel_core::sample::{Reason, SampleId};

#[derive(Debug)]
pub(super) struct Named {
    pub(super) member: Member,
    pub(super) key: Vec<u8>,
    pub(super) extension: String,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) key: Vec<u8>,
    pub(super) id: SampleId,
    pub(super) want: Want,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) extensions: Vec<String>,
    pub(super) image: Option<Image>,
    pub(super) original: Original,
    pub(super) text: Option<(usize, Vec<u8>)>,
    pub(super) metadata: Metadata,
    pub(super) reject: Option<Reason>,
}

#[derive(Debug)]
pub(super) struct Image {
    pub(super) rank: usize,
    pub(super) extension: String,
    pub(super) data: Vec<u8>,
    pub(super) permit: Permit,
}

impl Open {
    pub(super) fn new(named: &Named, id: SampleId, want: Want) -> Self {
        Self {
            key: named.key.clone(),
            id,
            want,
            offset: named.member.offset,
            size: 0,
            extensions: Vec::new(),
            image: None,
            original: Original::default(),
            text: None,
            metadata: Metadata::default(),
            reject: None,
        }
    }

    /// The first reason counts. The picture and its credit go at once.
    pub(super) fn reject(&mut self, code: &str, detail: String) {
        self.image = None;
        self.reject.get_or_insert_with(|| Reason::new(code, detail));
    }

    pub(super) fn rejected(mut self, code: &str, detail: String) -> Self {
        self.reject(code, detail);
        self
    }

    pub(super) fn with_size(mut self, bytes: u64) -> Self {
        self.size = self.size.saturating_add(bytes);
        self
    }

    /// Whether a wanted member may be read; if not, the group is a reject.
    pub(super) fn admits(&mut self, member: &Member, extension: &str, max_bytes: u64) -> bool {
        if member.kind == MemberKind::Sparse {
            self.reject("sparse_member", format!("{extension} is stored with holes"));
        } else if member.size > max_bytes {
            self.reject("member_too_large", format!("{extension} has {} bytes, more than {max_bytes}", member.size));
        } else {
            return true;
        }
        false
    }

    /// Takes what the json says; what is too long makes the group a reject and is let go.
    pub(super) fn take(&mut self, mut metadata: Metadata, config: &GroupConfig) {
        let long = too_long(&mut metadata, config);
        self.metadata = metadata;
        if let Some(Reason { code, detail }) = long {
            self.reject(&code, detail);
        }
    }
}
