//! What is wanted of a sample, and what comes of its group.

use std::sync::Arc;

use crate::tar::RawMember;
use trommel_core::sample::{Encoded, Reason, Sample, SampleInfo};

/// What is wanted of the sample with an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Picture and caption, with credit for both and this many bytes more.
    Content {
        /// Bytes the sample will hold besides its encoded picture.
        extra_bytes: u64,
    },
    /// That it is there: no data is read, no credit taken.
    Place,
    /// All of its members as they stand in the tar, headers included: without credit, up to [`MAX_ORIGINAL_BYTES`].
    Original {
        /// Whether its json is read for what identifies it.
        identity: bool,
    },
}

/// Most bytes of a sample whose members are wanted as they stand.
pub const MAX_ORIGINAL_BYTES: u64 = 1 << 30;

/// A sample's members as they stand in its tar.
#[derive(Debug, Default)]
pub struct Original {
    /// The key's bytes, which need not be UTF-8: two keys that are not may be shown alike.
    pub key: Vec<u8>,
    /// Whole blocks: each member's headers, data and padding, one member behind the other.
    pub bytes: Vec<u8>,
    /// Each member's extension, and where it is among the bytes.
    pub members: Vec<(String, RawMember)>,
    /// Whether one of them is stored with holes.
    pub is_sparse: bool,
}

/// One group of members, in the tar's order.
#[derive(Debug)]
pub enum Group {
    /// A group with a picture.
    Sample(Sample<Encoded>),
    /// A group that is none, and why.
    Rejected(Arc<SampleInfo>, Reason),
    /// A group of which only its place was wanted; nothing of its json is known.
    Place(Arc<SampleInfo>),
    /// A group as it stands in the tar.
    Original(Arc<SampleInfo>, Original),
}

impl Group {
    /// Identity and provenance.
    #[must_use]
    pub const fn info(&self) -> &Arc<SampleInfo> {
        match self {
            Self::Sample(Sample { info, .. })
            | Self::Rejected(info, _)
            | Self::Place(info)
            | Self::Original(info, _) => info,
        }
    }
}
