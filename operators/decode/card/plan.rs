//! Which pictures a card may decode, and what it must know of them. Decided on the pool, before a card is asked.
//!
//! A card takes what every decoder reads alike: whole baseline JPEGs of one scan, grey or YCbCr, 8 bits, with chroma sampled in
//! one of the usual ways, whose scan is exactly what its headers announce ([`is_sound`]). Everything else stays on the CPU, and says why.

use bytes::Bytes;
use trommel_core::image_kind::{ImageKind, image_kind};
use trommel_kernels::resize::{Taps, needed, tables};

use crate::Limits;
use crate::jpeg::{Colour, Header, is_sound};
use crate::sample_views::{DecodeConfig, Of};
use crate::view::{FILTER, Placement};

/// How chroma is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sampling {
    /// One component, no chroma.
    Grey,
    /// Four columns of luma share a sample of chroma: 4:1:1.
    S411,
    /// Two columns and two rows: 4:2:0.
    S420,
    /// Two columns: 4:2:2.
    S422,
    /// Two rows: 4:4:0.
    S440,
    /// As luma: 4:4:4.
    S444,
}

impl Sampling {
    /// Every sampling, each once.
    pub const ALL: [Self; 6] = [Self::Grey, Self::S411, Self::S420, Self::S422, Self::S440, Self::S444];

    /// By the sampling factors of the components.
    fn of(factors: &[(u8, u8)]) -> Option<Self> {
        match factors {
            [(1, 1)] => Some(Self::Grey),
            [luma, (1, 1), (1, 1)] => {
                Self::ALL.into_iter().find(|it| *it != Self::Grey && it.shrink() == (luma.0.into(), luma.1.into()))
            }
            _ => None,
        }
    }

    /// Columns and rows of luma that share a sample of chroma.
    #[must_use]
    pub const fn shrink(self) -> (u32, u32) {
        match self {
            Self::Grey | Self::S444 => (1, 1),
            Self::S411 => (4, 1),
            Self::S420 => (2, 2),
            Self::S422 => (2, 1),
            Self::S440 => (1, 2),
        }
    }

    /// Its name, such as `4:2:0`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grey => "grey",
            Self::S411 => "4:1:1",
            Self::S420 => "4:2:0",
            Self::S422 => "4:2:2",
            Self::S440 => "4:4:0",
            Self::S444 => "4:4:4",
        }
    }
}

/// Why a picture is decoded on the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnCpu {
    /// The picture is no JPEG.
    Kind,
    /// Cut short, damaged, or above a limit: the CPU decoder says what is wrong with it.
    Faulty,
    /// Progressive, several scans, arithmetic or extended coding.
    Coding,
    /// Four components, or RGB as stored.
    Colour,
    /// Sampling factors that the card's decoder does not take, or whose pixels differed when it was tried at start.
    Sampling,
    /// More pixels than the card has room for.
    Large,
    /// The card's decoder refused it, or has ended.
    Refused,
}

impl OnCpu {
    /// Every reason, each once.
    pub const ALL: [Self; 7] =
        [Self::Kind, Self::Faulty, Self::Coding, Self::Colour, Self::Sampling, Self::Large, Self::Refused];

    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kind => "no_jpeg",
            Self::Faulty => "faulty",
            Self::Coding => "progressive_or_odd_coding",
            Self::Colour => "colour",
            Self::Sampling => "sampling",
            Self::Large => "large",
            Self::Refused => "refused_by_card",
        }
    }
}

/// A view, as tables for the card.
#[derive(Clone, Debug)]
pub(super) struct ViewPlan {
    pub placement: Placement,
    pub along: Taps,
    pub down: Taps,
}

impl ViewPlan {
    fn new(width: u32, height: u32, placement: Placement) -> Option<Self> {
        let Placement { area, to, window } = placement;
        debug_assert!(area.left + area.width <= width && area.top + area.height <= height);
        let (along, down) = tables((area.width, area.height), to, window, FILTER).ok()?;
        Some(Self { placement, along, down })
    }

    /// Side of the square.
    pub fn size(&self) -> u32 {
        self.placement.window.width
    }

    /// Rows of the area that the view is made of: first and number.
    pub fn rows(&self) -> (u32, u32) {
        let (first, last) = needed(&self.down);
        (first as u32, (last - first) as u32)
    }

    /// The part of the picture that it looks at: left, top, right, bottom.
    pub fn looks_at(&self) -> [u32; 4] {
        let Placement { area, .. } = self.placement;
        let ((left, right), (top, bottom)) = (needed(&self.along), needed(&self.down));
        [area.left + left as u32, area.top + top as u32, area.left + right as u32, area.top + bottom as u32]
    }
}

/// A picture that a card may decode.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The JPEG without application data and what follows its end.
    pub(super) stream: Bytes,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) sampling: Sampling,
    /// The embedder's view and the trainer's, where they are wanted.
    pub(super) views: [Option<ViewPlan>; 2],
}

impl Prepared {
    /// Reads a picture's headers and lays out the views that are wanted.
    ///
    /// # Errors
    /// Why it is the CPU's.
    pub(crate) fn new(image: &Bytes, config: &DecodeConfig, of: Of<'_>) -> Result<Self, OnCpu> {
        let mut prepared = Self::read(image, &config.limits)?;
        let (width, height) = (prepared.width, prepared.height);
        let (eval, train) = config.wanted(of.work);
        let eval = eval.map(|view| Placement::of_eval(width, height, view));
        let train = train.map(|view| Placement::of_train(width, height, view, of.seed(view), of.pass));
        for (place, placement) in prepared.views.iter_mut().zip([eval, train]) {
            *place =
                placement.map(|placement| ViewPlan::new(width, height, placement).ok_or(OnCpu::Faulty)).transpose()?;
        }
        Ok(prepared)
    }

    fn read(image: &Bytes, limits: &Limits) -> Result<Self, OnCpu> {
        if image_kind(image) != Some(ImageKind::Jpeg) {
            return Err(OnCpu::Kind);
        }
        let header = Header::read(image).map_err(|_| OnCpu::Faulty)?;
        let scratch = header.scratch_bytes() + image.len() as u64;
        let (width, height) = (u32::from(header.width), u32::from(header.height));
        limits.admit(width.into(), height.into(), scratch).map_err(|_| OnCpu::Faulty)?;
        if header.fault.is_some() || !header.ended || image.len() as u64 > limits.max_bytes {
            return Err(OnCpu::Faulty);
        }
        if header.buffered || header.arithmetic || image[header.frame_at + 1] != 0xc0 {
            return Err(OnCpu::Coding);
        }
        // Without its application data the file must still say its colours.
        let ids = |at: usize| image.get(header.frame_at + 10 + 3 * at).copied();
        let names_rgb = [ids(0), ids(1), ids(2)] == [Some(b'R'), Some(b'G'), Some(b'B')];
        match header.colour {
            Colour::Grey => {}
            Colour::YCbCr if !names_rgb => {}
            _ => return Err(OnCpu::Colour),
        }
        let sampling = Sampling::of(&header.sampling).ok_or(OnCpu::Sampling)?;
        let parts: Vec<&[u8]> = header.essential.iter().map(|&(from, to)| &image[from..to]).collect();
        let stream = Bytes::from(parts.concat());
        if !is_sound(&stream) {
            return Err(OnCpu::Faulty);
        }
        Ok(Self { stream, width, height, sampling, views: [None, None] })
    }

    pub(super) fn is_grey(&self) -> bool {
        self.sampling == Sampling::Grey
    }

    /// The part that some view looks at: left, top, right, bottom.
    pub(super) fn looks_at(&self) -> [u32; 4] {
        let parts = self.views.iter().flatten().map(ViewPlan::looks_at);
        let both = |a: [u32; 4], b: [u32; 4]| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])];
        parts.reduce(both).unwrap_or_default()
    }

    /// Its JPEG, of which nothing is left out that bears on pixels.
    pub(crate) fn stream(&self) -> &Bytes {
        &self.stream
    }

    /// How its chroma is sampled.
    #[must_use]
    pub const fn sampling(&self) -> Sampling {
        self.sampling
    }
}
