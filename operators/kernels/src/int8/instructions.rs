//! Instructions that can multiply codes, and which codes they can multiply.

/// Instructions that can multiply codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// `VPDPBUSD` on 512 bits: AVX-512 VNNI.
    Avx512Vnni,
    /// `VPDPBUSD` on 256 bits: AVX-VNNI.
    AvxVnni,
    /// `VPMADDUBSW` and `VPMADDWD` on 256 bits: AVX2. Sums of 16 bits are exact for smaller codes alone.
    Avx2,
    /// Any processor's. It is for tests: f32 is faster.
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
        [Self::Avx512Vnni, Self::AvxVnni, Self::Avx2, Self::Portable].into_iter().filter(|it| it.are_there())
    }

    /// The fastest that are faster than f32, if the processor has any.
    #[must_use]
    pub fn fast() -> Option<Self> {
        Self::all().find(|it| *it != Self::Portable)
    }

    pub(super) fn are_there(self) -> bool {
        match self {
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
            Self::Avx512Vnni | Self::AvxVnni | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    /// A word for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
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

    pub(super) const fn ranges(self) -> Ranges {
        match self {
            // Two products meet in 16 bits at once, and those of a run: see `runs`.
            Self::Avx2 => Ranges { rows: 64.0, points: 63.0, moved: 64 },
            Self::Avx512Vnni | Self::AvxVnni | Self::Portable => Ranges { rows: 127.0, points: 127.0, moved: 128 },
        }
    }
}
