//! Instructions that can multiply codes, and which codes they can multiply.

#[cfg(target_arch = "x86_64")]
use super::tiles;
#[cfg(target_arch = "x86_64")]
pub(super) use super::tiles::Tiles;

/// No other processor has them.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Debug)]
pub(super) enum Tiles {}

/// Instructions that can multiply codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instructions {
    /// `TDPBSUD` on tiles of 16 rows and 16 points: AMX-INT8. Single rows go by `VPDPBUSD`.
    Amx,
    /// `VPDPBUSD` on 512 bits: AVX-512 VNNI.
    Avx512Vnni,
    /// `VPDPBUSD` on 256 bits: AVX-VNNI.
    AvxVnni,
    /// `VPMADDUBSW` and `VPMADDWD` on 256 bits: AVX2. Sums of 16 bits are exact for smaller codes alone.
    Avx2,
    /// Any processor's. It is for tests: f32 is faster.
    #[default]
    Portable,
}

/// The codes that instructions can multiply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ranges {
    /// Largest code of a row.
    pub rows: f32,
    /// Largest code of a point.
    pub points: f32,
    /// By what codes of points are moved up, so that they have no sign.
    pub moved: u8,
}

impl Instructions {
    /// All that this processor has, the fastest first.
    pub fn all() -> impl Iterator<Item = Self> {
        let all = [Self::Amx, Self::Avx512Vnni, Self::AvxVnni, Self::Avx2, Self::Portable];
        all.into_iter().filter(|it| it.are_there())
    }

    /// The fastest that are faster than f32, if the processor has any.
    #[must_use]
    pub fn fast() -> Option<Self> {
        Self::all().find(|it| *it != Self::Portable)
    }

    pub(super) fn are_there(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => Self::Avx512Vnni.are_there() && tiles::are_there(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.are_there() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Amx | Self::Avx512Vnni | Self::AvxVnni | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    /// A word for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx-int8",
            Self::Avx512Vnni => "avx512-vnni",
            Self::AvxVnni => "avx-vnni",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// What codes of two unit vectors that are spread evenly make their product wrong by at most, more or less: for estimates.
    #[must_use]
    pub fn typical_error(self) -> f32 {
        let Ranges { rows, points, .. } = self.ranges();
        0.9 * (1.0 / rows + 1.0 / points)
    }

    /// Whether products are added up in 16 bits first.
    pub(super) fn sums_in_runs(self) -> bool {
        self == Self::Avx2
    }

    /// Codes of rows and points are filled up to a multiple of this.
    pub(super) const fn codes_together(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => tiles::CODES,
            _ => 4,
        }
    }

    /// Rows whose sums go through memory: whole tiles of registers, and little enough for the nearest cache.
    pub(super) const fn block_rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => tiles::ROWS,
            _ => 24,
        }
    }

    /// Rows that are there even if they are none's.
    pub(super) const fn rows_together(self) -> usize {
        match self {
            Self::Amx => self.block_rows(),
            _ => 1,
        }
    }

    /// This thread's tiles, if these instructions multiply with them. One at a time.
    pub(super) fn tiles(self) -> Option<Tiles> {
        #[cfg(target_arch = "x86_64")]
        if self == Self::Amx && self.are_there() {
            // SAFETY: it was just seen that they are there, and whoever multiplies has one at a time.
            return Some(unsafe { Tiles::configured() });
        }
        None
    }

    pub(super) const fn ranges(self) -> Ranges {
        match self {
            // Two products meet in 16 bits at once, and those of a run: see `runs`.
            Self::Avx2 => Ranges { rows: 64.0, points: 63.0, moved: 64 },
            Self::Amx | Self::Avx512Vnni | Self::AvxVnni | Self::Portable => {
                Ranges { rows: 127.0, points: 127.0, moved: 128 }
            }
        }
    }
}
