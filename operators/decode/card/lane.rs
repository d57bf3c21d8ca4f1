//! A lane: one engine with its memory, that takes a group of pictures at a time from bytes to views.
//!
//! ```text
//!  Prepared.. ─▶ groups that fit ─▶ planes (the decoder) ─▶ RGB ─▶ rows ─▶ columns ─▶ views in host memory
//!                                     └─ refused: the CPU's
//! ```
//!
//! Invariants: each picture gives its views or nothing; an engine that fails once is not asked again, and all of its pictures are
//! the CPU's from then on.

use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;

use super::CardError;
use super::layout::{Launch, Layout, Plane, Room, lay_out};
use super::plan::{Prepared, Sampling};
use crate::sample_views::Views;
use crate::view_buffers;

/// A picture and where its planes go.
pub(super) struct Job<'a> {
    pub stream: &'a Bytes,
    pub sampling: Sampling,
    pub planes: &'a [Plane],
}

/// What a lane needs of a card; the tests have one of plain memory.
pub(super) trait Engine {
    /// Bytes of the upload, of the arena, and of the download.
    fn room(&self) -> Room;

    /// Where an upload is written: as long as [`Room::upload`].
    fn upload(&mut self) -> &mut [u8];

    /// Decodes into planes, and says which came out. Nothing of the arena is in use when this is called.
    fn decode(&mut self, jobs: &[Job<'_>]) -> Result<Vec<bool>, CardError>;

    /// Uploads the first `bytes` to the arena's beginning, and runs kernels one after the other.
    fn run(&mut self, bytes: u64, launches: &[Launch]) -> Result<(), CardError>;

    /// Waits for all, and gives a part of the arena, at most [`Room::download`] bytes.
    fn download(&mut self, part: Range<u64>) -> Result<&[u8], CardError>;
}

/// Most pictures of a group: the engines' rate grows up to here.
pub const GROUP: usize = 256;

/// See the module.
pub(super) struct Lane<E> {
    engine: E,
    failed: Option<CardError>,
    spent: Option<Spent>,
}

/// Where a lane's time went, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Spent {
    /// Tables and descriptors.
    pub layout: f64,
    /// From bytes to planes.
    pub decode: f64,
    /// Upload and kernels.
    pub kernels: f64,
    /// Views to the host.
    pub download: f64,
    /// Views to their samples.
    pub hand_over: f64,
}

impl<E: Engine> Lane<E> {
    pub fn new(engine: E) -> Self {
        Self { engine, failed: None, spent: None }
    }

    /// Whether its engine has failed.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Waits for the engine after each step from here on, and notes how long it took.
    pub fn measure(&mut self) {
        self.spent = Some(Spent::default());
    }

    /// Where time went since [`Self::measure`].
    pub fn spent(&self) -> Option<Spent> {
        self.spent
    }

    /// Views of each picture; `None`: decode it on the CPU.
    pub fn views(&mut self, pictures: &[&Prepared]) -> Vec<Option<Views>> {
        let mut answers = Vec::with_capacity(pictures.len());
        while answers.len() < pictures.len() {
            let rest = &pictures[answers.len()..];
            let group = &rest[..self.fitting(rest)];
            let Some(group) = (!group.is_empty()).then_some(group).filter(|_| self.failed.is_none()) else {
                answers.push(None);
                continue;
            };
            match self.group(group) {
                Ok(views) => answers.extend(views),
                Err(error) => {
                    tracing::warn!("{error}; what is left of its pictures is decoded on the CPU");
                    self.failed = Some(error);
                }
            }
        }
        answers
    }

    /// How many of them the engine has room for at a time.
    fn fitting(&self, pictures: &[&Prepared]) -> usize {
        let room = self.engine.room();
        let mut taken = Room::default();
        let fits = |picture: &&&Prepared| {
            taken = taken.with(Room::of(picture));
            room.holds(taken)
        };
        pictures.iter().take(GROUP).take_while(fits).count()
    }

    fn group(&mut self, pictures: &[&Prepared]) -> Result<Vec<Option<Views>>, CardError> {
        let (layout, decoded) = self.decode(pictures, false)?;
        let (first, start) = (layout.download.start, Instant::now());
        let bytes = self.engine.download(layout.download)?;
        let landed = Instant::now();
        let part = |range: &Range<u64>| {
            view_buffers::copied(&bytes[(range.start - first) as usize..(range.end - first) as usize])
        };
        let views = |views: &[Option<Range<u64>>; 2]| {
            let [embed, train] = views.each_ref().map(|view| view.as_ref().map(part));
            Views { embed, train }
        };
        let made = layout.views.iter().zip(decoded).map(|(places, decoded)| decoded.then(|| views(places))).collect();
        if let Some(spent) = &mut self.spent {
            spent.download += (landed - start).as_secs_f64();
            spent.hand_over += landed.elapsed().as_secs_f64();
        }
        Ok(made)
    }

    fn decode(&mut self, pictures: &[&Prepared], whole: bool) -> Result<(Layout, Vec<bool>), CardError> {
        let mut start = Instant::now();
        let mut note = |engine: &mut E, place: fn(&mut Spent) -> &mut f64| {
            if let Some(spent) = &mut self.spent {
                engine.download(0..0)?;
                *place(spent) += start.elapsed().as_secs_f64();
                start = Instant::now();
            }
            Ok(())
        };
        let layout = lay_out(pictures, self.engine.upload(), whole);
        note(&mut self.engine, |spent| &mut spent.layout)?;
        let jobs: Vec<Job<'_>> = pictures
            .iter()
            .zip(&layout.planes)
            .map(|(picture, planes)| Job { stream: picture.stream(), sampling: picture.sampling(), planes })
            .collect();
        let decoded = self.engine.decode(&jobs)?;
        note(&mut self.engine, |spent| &mut spent.decode)?;
        self.engine.run(layout.upload_bytes, &layout.launches)?;
        note(&mut self.engine, |spent| &mut spent.kernels)?;
        Ok((layout, decoded))
    }

    /// RGB of one picture, u8\[height, width, 3\], for who compares it; `None` where the engine refuses it.
    pub fn look_at(&mut self, picture: &Prepared) -> Result<Option<Vec<u8>>, CardError> {
        if !self.engine.room().holds(Room::of(picture)) {
            return Ok(None);
        }
        let (layout, decoded) = self.decode(&[picture], true)?;
        if decoded[0] {
            return self.pieces(layout.rgb[0].clone()).map(Some);
        }
        // What was uploaded for it is still read, and the next one's takes its place.
        self.engine.download(0..0)?;
        Ok(None)
    }

    /// A part of the arena that may be larger than a download.
    fn pieces(&mut self, part: Range<u64>) -> Result<Vec<u8>, CardError> {
        let most = self.engine.room().download.max(1);
        let mut all = Vec::new();
        let mut at = part.start;
        while at < part.end {
            let end = part.end.min(at + most);
            all.extend_from_slice(self.engine.download(at..end)?);
            at = end;
        }
        Ok(all)
    }
}
