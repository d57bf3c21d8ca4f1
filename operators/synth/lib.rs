//! Labelled pictures out of nothing: shards to train on, a reference set, benchmarks, and planted duplicates with
//! their truth. Equal arguments give equal bytes on every machine.
//!
//! Three nouns: a [`Class`] says what is drawn, a [`Rendition`] how, a [`SynthConfig`] how much of it. [`draw`] makes one
//! picture in memory; [`write()`] makes a folder:
//!
//! ```text
//! OUT/shards/{00000..}.tar, {00000..}_stats.json     img2dataset's layout
//! OUT/reference/{class}/{0000..}.jpg                 photo-like
//! OUT/benchmarks/{photo,sketch,cartoon,texture}/{class}/{0000..}.jpg
//! OUT/truth.jsonl   OUT/classnames.txt   OUT/README.txt   OUT/synth.json
//! ```
//!
//! Invariants. Chance comes from a counter-based generator keyed by (seed, what, number), so that shards may be written
//! in any order by any number of threads. Geometry is f64 and pixels are f32, by the four operations and square roots
//! in a fixed order, without libm. Cost: about half a millisecond a picture of 96 pixels.
//!
//! ```
//! use trommel_synth::{Class, Rendition, draw};
//! let boat = draw(Class::Sailboat, Rendition::Photo, 7, 96);
//! assert_eq!((boat.width, boat.height, boat.pixels.len()), (96, 96, 96 * 96 * 3));
//! assert_eq!(boat, draw(Class::Sailboat, Rendition::Photo, 7, 96));
//! ```
#![forbid(missing_docs)]

mod canvas;
mod caption;
mod config;
mod figures;
mod near;
mod paint;
mod random;
mod scene;
mod shape;
mod tar;
mod write;

#[cfg(test)]
mod tests;

pub use config::{SynthConfig, SynthError};
pub use write::{SynthSummary, Truth, write};

/// The class of a picture: what is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Walls, a roof, a door, windows.
    House,
    /// A conifer or a round crown on a trunk.
    Tree,
    /// Seen from the side.
    Fish,
    /// Seen from the side.
    Car,
    /// A hull, a mast, two sails.
    Sailboat,
    /// One bloom on a stem.
    Flower,
    /// A face with a red nose, a hat, a bow tie.
    Clown,
    /// On a saucer, with a handle.
    Cup,
    /// Five or six points.
    Star,
    /// Four wings and a body.
    Butterfly,
    /// A cap with spots on a stem.
    Mushroom,
    /// A dial with hands; some are alarm clocks.
    Clock,
}

impl Class {
    /// All of them, in the order of `classnames.txt`.
    pub const ALL: [Self; 12] = [
        Self::House,
        Self::Tree,
        Self::Fish,
        Self::Car,
        Self::Sailboat,
        Self::Flower,
        Self::Clown,
        Self::Cup,
        Self::Star,
        Self::Butterfly,
        Self::Mushroom,
        Self::Clock,
    ];

    /// Folder name and word in captions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::House => "house",
            Self::Tree => "tree",
            Self::Fish => "fish",
            Self::Car => "car",
            Self::Sailboat => "sailboat",
            Self::Flower => "flower",
            Self::Clown => "clown",
            Self::Cup => "cup",
            Self::Star => "star",
            Self::Butterfly => "butterfly",
            Self::Mushroom => "mushroom",
            Self::Clock => "clock",
        }
    }
}

/// How it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rendition {
    /// Light, shadow, a scene behind, blur, vignetting, sensor noise.
    Photo,
    /// Lines on paper.
    Sketch,
    /// Flat colours, a thick outline.
    Cartoon,
    /// Clothed in other patterns.
    Texture,
}

impl Rendition {
    /// Every rendition, each once.
    pub const ALL: [Self; 4] = [Self::Photo, Self::Sketch, Self::Cartoon, Self::Texture];

    /// The benchmark's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Photo => "photo",
            Self::Sketch => "sketch",
            Self::Cartoon => "cartoon",
            Self::Texture => "texture",
        }
    }
}

/// A picture in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows of pixels.
    pub height: u32,
    /// u8[height, width, 3], RGB.
    pub pixels: Vec<u8>,
}

/// One square picture of `size` pixels (at least 16); a pure function of its arguments.
#[must_use]
pub fn draw(class: Class, rendition: Rendition, seed: u64, size: u32) -> Picture {
    let size = size.max(16) as usize;
    paint::draw(class, rendition, seed, size, size)
}
