//! What rows are called, in files without a name: only the shards' names stay in memory.
//!
//! A record is `index u32 | caption u8 | length of the uid u16 | uid | key`, in native byte order; a second file has where each ends.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::DedupError;

/// What is known of a sample's caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caption {
    /// The sample has a caption.
    There,
    /// The sample has no caption, or a blank one.
    Missing,
    /// The source does not say whether it has one.
    Unknown,
}

/// A row's name, but for its shard's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowName {
    /// Raw index in the shard.
    pub index: u32,
    /// Key of the sample.
    pub key: String,
    /// DataComp's uid, where it is asked for.
    pub uid: Option<String>,
    /// Whether the sample has a caption.
    pub caption: Caption,
}

/// Length of a uid that is none.
const NO_UID: u16 = u16::MAX;

/// Bytes of a record before its texts.
const HEAD_BYTES: usize = 7;

/// Rows of one shard that follow one another by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The shard's name.
    pub shard: String,
    /// Numbers of its rows in the set, from 0.
    pub rows: Range<u32>,
    /// Raw indices of the first and the last of them.
    pub indices: (u32, u32),
}

/// Names that are being gathered.
pub struct Naming {
    records: BufWriter<File>,
    ends: BufWriter<File>,
    end: u64,
    segments: Vec<Segment>,
}

/// The names of a set's rows, in files.
pub struct RowNames {
    records: File,
    ends: File,
    segments: Vec<Segment>,
}

impl Naming {
    /// Begins, with files in `folder`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn begin(folder: &Path) -> Result<Self, DedupError> {
        let file = || tempfile::tempfile_in(folder).map(|file| BufWriter::with_capacity(1 << 18, file));
        Ok(Self { records: file()?, ends: file()?, end: 0, segments: Vec::new() })
    }

    /// Names the next row.
    ///
    /// # Errors
    /// What the file system says.
    pub fn push(&mut self, shard: &str, name: &RowName) -> Result<(), DedupError> {
        let row = self.segments.last().map_or(0, |segment| segment.rows.end);
        match self.segments.last_mut() {
            Some(last) if last.shard == shard && last.indices.1 < name.index => {
                last.rows.end += 1;
                last.indices.1 = name.index;
            }
            _ => self.segments.push(Segment {
                shard: shard.into(),
                rows: row..row.checked_add(1).ok_or(DedupError::TooMany)?,
                indices: (name.index, name.index),
            }),
        }
        self.records.write_all(&name.index.to_ne_bytes())?;
        self.records.write_all(&[name.caption as u8])?;
        let uid = name.uid.as_deref().unwrap_or_default();
        let length = u16::try_from(uid.len()).ok().filter(|length| *length != NO_UID && name.uid.is_some());
        let uid = if length.is_some() { uid } else { "" };
        self.records.write_all(&length.unwrap_or(NO_UID).to_ne_bytes())?;
        self.records.write_all(uid.as_bytes())?;
        self.records.write_all(name.key.as_bytes())?;
        self.end += (HEAD_BYTES + uid.len() + name.key.len()) as u64;
        Ok(self.ends.write_all(&self.end.to_ne_bytes())?)
    }

    /// The names, to be read from now on.
    ///
    /// # Errors
    /// A sample that stands there twice, or what the file system says.
    pub fn finish(self) -> Result<RowNames, DedupError> {
        let file = |file: BufWriter<File>| file.into_inner().map_err(|error| error.into_error());
        let names = RowNames { records: file(self.records)?, ends: file(self.ends)?, segments: self.segments };
        let ordered = names.in_order();
        let again = ordered.windows(2).find(|two| two[0].shard == two[1].shard && two[0].indices.1 >= two[1].indices.0);
        match again {
            Some(two) => Err(DedupError::Twice { shard: two[0].shard.clone() }),
            None => Ok(names),
        }
    }
}

impl RowNames {
    /// The segments in the order of (shard's name, index), which is the order of a split.
    #[must_use]
    pub fn in_order(&self) -> Vec<&Segment> {
        let mut ordered: Vec<&Segment> = self.segments.iter().collect();
        ordered.sort_by(|a, b| (&a.shard, a.indices.0).cmp(&(&b.shard, b.indices.0)));
        ordered
    }

    /// Shards that rows come from.
    #[must_use]
    pub fn shards(&self) -> u64 {
        self.in_order().chunk_by(|a, b| a.shard == b.shard).count() as u64
    }

    /// Names of rows.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(&self, rows: Range<u32>) -> Result<Vec<RowName>, DedupError> {
        let mut ends = vec![0u64; rows.len() + 1];
        // A row begins where the one before it ends.
        match rows.start.checked_sub(1) {
            Some(before) => self.ends.read_exact_at(bytemuck::cast_slice_mut(&mut ends), 8 * u64::from(before))?,
            None => self.ends.read_exact_at(bytemuck::cast_slice_mut(&mut ends[1..]), 0)?,
        }
        let mut bytes = vec![0u8; (ends[rows.len()] - ends[0]) as usize];
        self.records.read_exact_at(&mut bytes, ends[0])?;
        let name = |two: &[u64]| {
            let record = &bytes[(two[0] - ends[0]) as usize..(two[1] - ends[0]) as usize];
            let (head, texts) = record.split_at(HEAD_BYTES);
            let length = u16::from_ne_bytes([head[5], head[6]]);
            let (uid, key) = texts.split_at(if length == NO_UID { 0 } else { usize::from(length) });
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let caption = match head[4] {
                0 => Caption::There,
                1 => Caption::Missing,
                _ => Caption::Unknown,
            };
            let index = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]);
            RowName { index, key: text(key), uid: (length != NO_UID).then(|| text(uid)), caption }
        };
        Ok(ends.windows(2).map(name).collect())
    }

    /// Shard and name of one row.
    ///
    /// # Errors
    /// A file that cannot be read, or no such row.
    pub fn of(&self, row: u32) -> Result<(&str, RowName), DedupError> {
        let at = self.segments.partition_point(|segment| segment.rows.end <= row);
        match (self.segments.get(at), self.read(row..row + 1)?.pop()) {
            (Some(segment), Some(name)) => Ok((&segment.shard, name)),
            _ => Err(DedupError::TooMany),
        }
    }
}
