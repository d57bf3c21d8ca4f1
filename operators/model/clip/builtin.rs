//! Architectures known by name: open_clip's plain ViTs, and two small ones of our own.
//!
//! | name | image tower | text tower | for |
//! |--|--|--|--|
//! | `trommel-tiny-32` | 32 px, patch 8, width 64, 4 layers: 0.22 M | width 64, 2 layers: 3.3 M | tests |
//! | `trommel-small-32` | 32 px, patch 8, width 128, 4 layers: 0.84 M | width 64, 4 layers: 3.4 M | the demo, CPU trials |
//!
//! Nearly all of the small text towers is the vocabulary (49,408 x width).

use super::config::{ClipConfig, TextConfig, VisionConfig};
use crate::preprocess::Preprocess;

/// (name, embed_dim, image size, patch, image width, image layers, head width, text width, text heads, text layers)
type Row = (&'static str, i64, i64, i64, i64, i64, i64, i64, i64, i64);

const ROWS: &[Row] = &[
    ("ViT-B-32", 512, 224, 32, 768, 12, 64, 512, 8, 12),
    ("ViT-B-32-256", 512, 256, 32, 768, 12, 64, 512, 8, 12),
    ("ViT-B-32-plus-256", 640, 256, 32, 896, 12, 64, 640, 10, 12),
    ("ViT-B-16", 512, 224, 16, 768, 12, 64, 512, 8, 12),
    ("ViT-B-16-plus", 640, 224, 16, 896, 12, 64, 640, 10, 12),
    ("ViT-B-16-plus-240", 640, 240, 16, 896, 12, 64, 640, 10, 12),
    ("ViT-L-14", 768, 224, 14, 1024, 24, 64, 768, 12, 12),
    ("ViT-L-14-280", 768, 280, 14, 1024, 24, 64, 768, 12, 12),
    ("ViT-L-14-336", 768, 336, 14, 1024, 24, 64, 768, 12, 12),
    ("ViT-L-16", 768, 224, 16, 1024, 24, 64, 768, 12, 12),
    ("ViT-H-14", 1024, 224, 14, 1280, 32, 80, 1024, 16, 24),
    ("ViT-S-32", 384, 224, 32, 384, 12, 64, 384, 6, 12),
    ("ViT-S-16", 384, 224, 16, 384, 12, 64, 384, 6, 12),
    ("ViT-S-32-alt", 256, 224, 32, 384, 12, 64, 256, 4, 10),
    ("ViT-M-32", 512, 224, 32, 512, 12, 64, 512, 8, 12),
    ("ViT-M-32-alt", 384, 224, 32, 512, 12, 64, 384, 6, 12),
    ("ViT-M-16", 512, 224, 16, 512, 12, 64, 512, 8, 12),
    ("trommel-tiny-32", 64, 32, 8, 64, 4, 32, 64, 2, 2),
    ("trommel-small-32", 128, 32, 8, 128, 4, 32, 64, 2, 4),
];

const QUICK: &str = "-quickgelu";

/// Names that [`builtin`] knows; each is also known with `-quickgelu`.
#[must_use]
pub fn names() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.0).collect()
}

/// The same for people.
pub(super) fn known() -> String {
    format!("{}, each also with {QUICK}", names().join(", "))
}

/// The configuration of that name.
#[must_use]
pub fn builtin(name: &str) -> Option<ClipConfig> {
    let (plain, quick_gelu) = name.strip_suffix(QUICK).map_or((name, false), |plain| (plain, true));
    let &(_, embed_dim, image_size, patch_size, width, layers, head_width, text_width, heads, text_layers) =
        ROWS.iter().find(|row| row.0 == plain)?;
    Some(ClipConfig {
        name: name.into(),
        embed_dim,
        quick_gelu,
        init_logit_scale: (1.0f64 / 0.07).ln(),
        init_logit_bias: None,
        vision: VisionConfig { image_size, patch_size, width, layers, head_width, ..VisionConfig::default() },
        text: TextConfig { width: text_width, heads, layers: text_layers, ..TextConfig::default() },
        preprocess: Preprocess { size: u32::try_from(image_size).ok()?, ..Preprocess::default() },
    })
}
