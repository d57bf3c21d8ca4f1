//! The members of a tar, streamed: nothing is held but the header at hand.
//!
//! - Every dialect of [`super::header`], GNU long names, PAX headers (global ones too); where several name one member, the first
//!   wins, as in Python's `tarfile`.
//! - Links, folders and devices have no data, whatever their size field says. Sparse members are reported as such and
//!   passed over.
//! - So are members of any other type (`M` continues a file of another volume, `A` holds Solaris' access rights): POSIX takes an
//!   unknown type for a file, Python's `tarfile` does not call it one, and so webdataset does not read it.
//! - The reader ends at the end mark, or at the first block that is no header: how, says [`TarEnd`].
//!
//! # Invariants
//!
//! 1. A member's data is read into memory only as it arrives: a header that claims 1 GiB costs nothing by itself.
//! 2. Names are held up to [`TarLimits::max_name_bytes`], PAX headers up to [`TarLimits::max_pax_bytes`]; a member whose
//!    name exceeds that is passed over and counted.
//! 3. No input panics; positions saturate.

use std::io::BufRead;

use serde::{Deserialize, Serialize};

use self::bytes::{Trailing, padding};
use super::header::{BLOCK, Header, Pax, until_nul};

mod bytes;

/// What a tar may make its reader hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TarLimits {
    /// Longest name in bytes.
    pub max_name_bytes: u64,
    /// Largest PAX header in bytes.
    pub max_pax_bytes: u64,
}

impl Default for TarLimits {
    fn default() -> Self {
        Self { max_name_bytes: 64 << 10, max_pax_bytes: 1 << 20 }
    }
}

/// What sort of member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A file with all its data.
    Regular,
    /// A file stored with holes: not read.
    Sparse,
    /// A link to another member or file: it has no data of its own.
    Link,
    /// A type flag, with data behind it, that is neither a file's nor any of these: not read.
    Unread(u8),
    /// Folder, device, a volume's label.
    Other,
}

/// One member, its data still to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name, bytes as they stand.
    pub name: Vec<u8>,
    /// Plain file, sparse file, or anything else.
    pub kind: MemberKind,
    /// Bytes of data, without padding.
    pub size: u64,
    /// Where its first header block stands, long-name and PAX headers included.
    pub offset: u64,
}

/// How a tar ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TarEnd {
    /// Two zero blocks.
    Marked {
        /// What is odd about the bytes behind them.
        behind: Option<String>,
        /// Whether these begin as a tar does: `cat` has put one behind the other.
        is_tar: bool,
    },
    /// One zero block only; `more` when something else follows it, which is not read.
    LoneZeroBlock {
        /// Where the zero block stands.
        offset: u64,
        /// Whether bytes follow.
        more: bool,
    },
    /// The bytes end behind a whole member, without an end mark.
    NoMark {
        /// Bytes there were.
        offset: u64,
    },
    /// Cut off or damaged: the member or header at hand is not whole.
    Damaged {
        /// Where the bytes ended or the bad block stands.
        offset: u64,
        /// What is not whole, and how.
        what: String,
    },
}

/// Oddities passed over on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Sparse members.
    pub sparse: u64,
    /// PAX headers with malformed records.
    pub bad_pax: u64,
    /// Members passed over because their name or PAX header is too large.
    pub oversized_headers: u64,
}

/// Walks the members of a tar.
#[derive(Debug)]
pub struct TarReader<R> {
    input: R,
    limits: TarLimits,
    position: u64,
    /// Data of the member at hand that is not read yet, and the padding behind it.
    unread: u64,
    padding: u64,
    global: Pax,
    oddities: Oddities,
    end: Option<TarEnd>,
    head: Option<Head>,
}

/// The header blocks of the member at hand as they stand, where they are kept.
#[derive(Debug, Default)]
struct Head {
    blocks: Vec<u8>,
    /// Where the member's own header stands in them, behind long-name and PAX headers.
    own: usize,
    /// Whether what is read belongs to them.
    open: bool,
}

impl Head {
    fn add(&mut self, bytes: &[u8]) {
        // One byte more tells that they are too many.
        let room = (MAX_HEAD_BYTES + 1).saturating_sub(self.blocks.len());
        self.blocks.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// A member as it stands in the tar: header blocks, data, padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMember {
    /// Where it begins among the bytes that it was put behind.
    pub start: usize,
    /// Where its own header begins: long-name and PAX headers stand before.
    pub header: usize,
    /// Where its data begins.
    pub data: usize,
    /// Bytes of data, without padding.
    pub size: usize,
}

/// Most bytes of a member's headers that are kept.
const MAX_HEAD_BYTES: usize = 4 << 20;

const CUT_IN_HEADERS: &str = "cut off between a member's headers";
const ENDS_IN_HEADERS: &str = "the end mark stands between a member's headers";

impl<R: BufRead> TarReader<R> {
    /// A reader at the start of a tar.
    pub fn new(input: R, limits: TarLimits) -> Self {
        let (global, oddities) = (Pax::default(), Oddities::default());
        Self { input, limits, position: 0, unread: 0, padding: 0, global, oddities, end: None, head: None }
    }

    /// The same, which keeps each member's header blocks for [`Self::read_raw`].
    #[must_use]
    pub fn keeping_heads(mut self) -> Self {
        self.head = Some(Head::default());
        self
    }

    /// The next member; `None` at the end, for which see [`Self::end`]. What is unread of the member before is passed over.
    pub fn next_member(&mut self) -> Option<Member> {
        if self.end.is_some() {
            return None;
        }
        match self.advance() {
            Ok(member) => Some(member),
            Err(end) => {
                self.end = Some(end);
                None
            }
        }
    }

    /// Reads the data of the member at hand. `None` when it is cut off: the tar has ended then.
    pub fn read_data(&mut self) -> Option<Vec<u8>> {
        match self.read_exactly() {
            Ok(data) => Some(data),
            Err(end) => {
                self.end.get_or_insert(end);
                None
            }
        }
    }

    /// Puts all of the member at hand behind `out`, as it stands: headers, data, padding. `None` when it is cut off, or when its headers are not
    /// kept, being too many.
    pub fn read_raw(&mut self, out: &mut Vec<u8>) -> Option<RawMember> {
        let head = self.head.as_ref().filter(|head| head.blocks.len() <= MAX_HEAD_BYTES)?;
        let (start, header) = (out.len(), out.len() + head.own);
        out.extend_from_slice(&head.blocks);
        let data = out.len();
        if let Err(end) = self.read_into(out) {
            self.end.get_or_insert(end);
            return None;
        }
        let size = out.len() - data;
        out.resize(out.len() + padding(size as u64) as usize, 0);
        Some(RawMember { start, header, data, size })
    }

    /// Whether a global PAX header says names or sizes of members, so that no member stands for itself.
    pub fn is_said_globally(&self) -> bool {
        self.global.path.is_some() || self.global.size.is_some()
    }

    /// How the tar ended; `None` while it goes on.
    pub fn end(&self) -> Option<&TarEnd> {
        self.end.as_ref()
    }

    /// What was passed over so far.
    pub fn oddities(&self) -> Oddities {
        self.oddities
    }

    /// Bytes of the tar read so far, after decompression.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn advance(&mut self) -> Result<Member, TarEnd> {
        self.skip_rest()?;
        if let Some(head) = &mut self.head {
            head.blocks.clear();
            head.open = true;
        }
        let member = self.headers();
        if let Some(head) = &mut self.head {
            head.open = false;
        }
        member
    }

    fn headers(&mut self) -> Result<Member, TarEnd> {
        let (mut name, mut local, mut unreadable) = (None::<Vec<u8>>, Pax::default(), false);
        let (mut first_header, mut is_announced) = (None, false);
        loop {
            let at = self.position;
            let block = match self.block()? {
                Some(block) => block,
                None if first_header.is_some() => return Err(self.damaged(at, CUT_IN_HEADERS)),
                None => return Err(TarEnd::NoMark { offset: at }),
            };
            if block.iter().all(|&b| b == 0) {
                return Err(if is_announced { self.damaged(at, ENDS_IN_HEADERS) } else { self.end_mark(at) });
            }
            let header = Header::parse(&block).map_err(|error| self.damaged(at, error))?;
            if let Some(head) = &mut self.head {
                head.own = head.blocks.len() - BLOCK.min(head.blocks.len());
            }
            let offset = *first_header.get_or_insert(at);
            // A global header announces no member: `git archive` writes one before the end mark of an empty tree.
            is_announced |= header.kind != b'g';
            self.unread = header.size;
            self.padding = padding(header.size);
            match header.kind {
                b'L' => {
                    if header.size > self.limits.max_name_bytes {
                        unreadable = true;
                    } else {
                        let data = self.read_exactly()?;
                        name.get_or_insert_with(|| until_nul(&data).to_vec());
                    }
                    self.skip_extension()?;
                }
                b'x' | b'X' | b'g' => {
                    if header.size > self.limits.max_pax_bytes {
                        unreadable |= header.kind != b'g';
                        self.oddities.bad_pax += u64::from(header.kind == b'g');
                    } else {
                        let data = self.read_exactly()?;
                        let mut pax = Pax::default();
                        let whole = pax.add(&data).map_err(|error| self.damaged(at, error))?;
                        self.oddities.bad_pax += u64::from(!whole);
                        if header.kind == b'g' {
                            self.global = merged(pax, &self.global);
                        } else {
                            let path = pax.path.take();
                            if let (None, Some(path)) = (&name, path) {
                                name = Some(stripped(path));
                            }
                            local = merged(local, &pax);
                        }
                    }
                    self.skip_extension()?;
                    if let Some(head) = self.head.as_mut().filter(|_| header.kind == b'g') {
                        // It is no single member's.
                        head.blocks.truncate(head.own);
                    }
                }
                b'K' => self.skip_extension()?,
                _ => {
                    let member = self.member(header, name.take(), &local, offset)?;
                    let long = member.name.len() as u64 > self.limits.max_name_bytes;
                    if unreadable || long {
                        self.oddities.oversized_headers += 1;
                        return Ok(Member { kind: MemberKind::Other, name: Vec::new(), ..member });
                    }
                    return Ok(member);
                }
            }
        }
    }

    /// Puts a member together from its own header and those before it.
    fn member(&mut self, header: Header, name: Option<Vec<u8>>, local: &Pax, offset: u64) -> Result<Member, TarEnd> {
        let sparse_name = local.sparse_name.clone();
        let own = header.name;
        let global = || self.global.path.clone().map(stripped);
        // An empty path takes back a global one.
        let name = sparse_name.or(name).or_else(global).filter(|name| !name.is_empty()).unwrap_or(own);
        let size = local.size.or(self.global.size).unwrap_or(header.size);
        let (kind, has_data) = match header.kind {
            b'0' | b'7' if local.sparse => (MemberKind::Sparse, true),
            0 if local.sparse => (MemberKind::Sparse, true),
            0 if name.ends_with(b"/") => (MemberKind::Other, false),
            0 | b'0' | b'7' => (MemberKind::Regular, true),
            b'S' => (MemberKind::Sparse, true),
            b'1' | b'2' => (MemberKind::Link, false),
            b'3'..=b'6' => (MemberKind::Other, false),
            // GNU tar's folders of incremental archives, whose data is the list of their files, and its volume labels.
            b'D' | b'V' => (MemberKind::Other, true),
            flag => (MemberKind::Unread(flag), true),
        };
        self.oddities.sparse += u64::from(kind == MemberKind::Sparse);
        self.unread = 0;
        self.padding = 0;
        let mut continues = header.sparse_continues;
        while continues {
            let at = self.position;
            let block = self.block()?.ok_or_else(|| self.damaged(at, "ends in a sparse map"))?;
            continues = block[504] != 0;
        }
        if has_data {
            self.unread = size;
            self.padding = padding(size);
        }
        Ok(Member { name, kind, size: self.unread, offset })
    }

    /// A zero block at `at` was read: is there a second, and what follows?
    fn end_mark(&mut self, at: u64) -> TarEnd {
        match self.block() {
            Ok(Some(block)) if block.iter().all(|&b| b == 0) => {
                let (behind, is_tar) = match self.trailing() {
                    Ok(Trailing::Nothing) => (None, false),
                    Ok(Trailing::Bytes) => (Some("bytes behind the end mark are not read".into()), false),
                    Ok(Trailing::Tar) => (Some("another tar behind the end mark is not read".into()), true),
                    Err(error) => (Some(format!("behind the end mark: {error}")), false),
                };
                TarEnd::Marked { behind, is_tar }
            }
            Ok(Some(_)) => TarEnd::LoneZeroBlock { offset: at, more: true },
            Ok(None) | Err(_) => TarEnd::LoneZeroBlock { offset: at, more: false },
        }
    }

    fn damaged(&self, offset: u64, what: impl std::fmt::Display) -> TarEnd {
        TarEnd::Damaged { offset, what: what.to_string() }
    }
}

fn stripped(mut name: Vec<u8>) -> Vec<u8> {
    while name.last() == Some(&b'/') {
        name.pop();
    }
    name
}

/// `first`, with what it leaves open from `second`.
fn merged(first: Pax, second: &Pax) -> Pax {
    Pax {
        path: first.path.or_else(|| second.path.clone()),
        size: first.size.or(second.size),
        sparse: first.sparse || second.sparse,
        sparse_name: first.sparse_name.or_else(|| second.sparse_name.clone()),
    }
}
