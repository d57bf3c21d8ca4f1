//! How much is made, and what can go wrong.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trommel_core::causes::Cause;

/// What `trommel synth` makes. Shares are parts of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SynthConfig {
    /// Shards (default 8, at most 100,000).
    pub shards: u32,
    /// Samples in a shard, broken and planted ones included (default 500, at most 10,000).
    pub samples: u32,
    /// Everything follows from it (default 0).
    pub seed: u64,
    /// Shorter side of a picture, pixels (default 96, 16 to 1024). The longer one is up to a third more.
    pub size_pixels: u32,
    /// Pictures of each class in each benchmark (default 20).
    pub benchmark_pictures_per_class: u32,
    /// Pictures of each class in the reference set (default 40).
    pub reference_pictures_per_class: u32,
    /// Parts of the shards that are photo, sketch, cartoon, texture; need not sum to one
    /// (default 0.66, 0.08, 0.17, 0.09).
    pub mixture: [f64; 4],
    /// Share of samples that are exact or near duplicates of benchmark pictures (default 0.03).
    pub planted_share: f64,
    /// Share of captions that are missing, empty or odd (default 0.03).
    pub odd_caption_share: f64,
    /// Share of samples that are a cut-off JPEG or have no picture (default 0.004).
    pub broken_share: f64,
}

impl Default for SynthConfig {
    fn default() -> Self {
        Self {
            shards: 8,
            samples: 500,
            seed: 0,
            size_pixels: 96,
            benchmark_pictures_per_class: 20,
            reference_pictures_per_class: 40,
            mixture: [0.66, 0.08, 0.17, 0.09],
            planted_share: 0.03,
            odd_caption_share: 0.03,
            broken_share: 0.004,
        }
    }
}

impl SynthConfig {
    /// Refuses what makes no sense.
    pub fn validate(&self) -> Result<(), SynthError> {
        let wrong = |field: &'static str, why: String| Err(SynthError::Config { field, why });
        if self.shards > 100_000 {
            return wrong("shards", format!("{} is above 100,000, for which the names have room", self.shards));
        }
        if self.samples > 10_000 {
            return wrong("samples", format!("{} is above 10,000, for which the keys have room", self.samples));
        }
        if !(16..=1024).contains(&self.size_pixels) {
            return wrong("size_pixels", format!("{} is not in 16..=1024", self.size_pixels));
        }
        for (field, per_class) in [
            ("benchmark_pictures_per_class", self.benchmark_pictures_per_class),
            ("reference_pictures_per_class", self.reference_pictures_per_class),
        ] {
            if per_class > 10_000 {
                return wrong(field, format!("{per_class} is above 10,000, for which the file names have room"));
            }
        }
        for (field, share) in [
            ("planted_share", self.planted_share),
            ("odd_caption_share", self.odd_caption_share),
            ("broken_share", self.broken_share),
            ("planted_share + broken_share", self.planted_share + self.broken_share),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return wrong(field, format!("{share} is not in 0..=1"));
            }
        }
        let parts_sound = self.mixture.iter().all(|part| part.is_finite() && *part >= 0.0);
        if !parts_sound || self.mixture.iter().sum::<f64>() <= 0.0 {
            return wrong("mixture", format!("{:?} needs parts that are not negative and not all zero", self.mixture));
        }
        if self.planted_share > 0.0 && self.benchmark_pictures_per_class == 0 {
            return wrong("planted_share", "there are no benchmark pictures to plant".into());
        }
        Ok(())
    }
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// A setting makes no sense.
    #[error("synth: {field}: {why}")]
    Config {
        /// Name of the setting.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The folder holds something else.
    #[error("synth: {path} is not empty and was not made with these settings; name another folder or remove it")]
    Occupied {
        /// The folder that is not empty.
        path: PathBuf,
    },
    /// A file could not be written or read.
    #[error("synth: {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A picture could not be encoded.
    #[error("synth: JPEG encoder")]
    Encode(#[source] Cause),
    /// What goes with the pictures could not be put into JSON.
    #[error("synth: JSON")]
    Json(#[from] serde_json::Error),
}

impl SynthError {
    /// Adds the place to a system's error.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}
