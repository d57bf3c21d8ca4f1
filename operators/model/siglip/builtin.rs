//! timm's image towers of SigLIP, and open_clip's models of them that are known by name.

use super::config::{SiglipConfig, TextConfig, VisionConfig};
use crate::preprocess::{Preprocess, Resize};

/// (timm's name, image size, patch, width, layers, heads, MLP's width, whether GELU is approximated by a tanh)
type Tower = (&'static str, i64, i64, i64, i64, i64, i64, bool);

/// As timm 1.0 registers them; the last one is ours, for tests and trials on a CPU.
const TOWERS: &[Tower] = &[
    ("vit_base_patch16_siglip_224", 224, 16, 768, 12, 12, 3072, false),
    ("vit_base_patch16_siglip_256", 256, 16, 768, 12, 12, 3072, false),
    ("vit_base_patch16_siglip_384", 384, 16, 768, 12, 12, 3072, false),
    ("vit_base_patch16_siglip_512", 512, 16, 768, 12, 12, 3072, false),
    ("vit_base_patch32_siglip_256", 256, 32, 768, 12, 12, 3072, true),
    ("vit_large_patch16_siglip_256", 256, 16, 1024, 24, 16, 4096, false),
    ("vit_large_patch16_siglip_384", 384, 16, 1024, 24, 16, 4096, false),
    ("vit_large_patch16_siglip_512", 512, 16, 1024, 24, 16, 4096, true),
    ("vit_so400m_patch14_siglip_224", 224, 14, 1152, 27, 16, 4304, false),
    ("vit_so400m_patch14_siglip_378", 378, 14, 1152, 27, 16, 4304, false),
    ("vit_so400m_patch14_siglip_384", 384, 14, 1152, 27, 16, 4304, false),
    ("vit_so400m_patch16_siglip_256", 256, 16, 1152, 27, 16, 4304, true),
    ("vit_so400m_patch16_siglip_384", 384, 16, 1152, 27, 16, 4304, true),
    ("vit_so400m_patch16_siglip_512", 512, 16, 1152, 27, 16, 4304, true),
    ("vit_giantopt_patch16_siglip_256", 256, 16, 1536, 40, 16, 6144, true),
    ("vit_giantopt_patch16_siglip_384", 384, 16, 1536, 40, 16, 6144, true),
    ("trommel_tiny_patch8_siglip_32", 32, 8, 64, 2, 2, 256, false),
];

/// (name, timm's image tower, vocabulary, text width, text layers, text heads, text MLP over width, tanh in the text tower)
type Row = (&'static str, &'static str, i64, i64, i64, i64, f64, bool);

/// Vocabularies of the published ones: the two of SigLIP, the one of SigLIP 2, and CLIP's for ours.
const ROWS: &[Row] = &[
    ("ViT-B-16-SigLIP", "vit_base_patch16_siglip_224", 32_000, 768, 12, 12, 4.0, false),
    ("ViT-B-16-SigLIP-256", "vit_base_patch16_siglip_256", 32_000, 768, 12, 12, 4.0, false),
    ("ViT-B-16-SigLIP-384", "vit_base_patch16_siglip_384", 32_000, 768, 12, 12, 4.0, false),
    ("ViT-B-16-SigLIP-512", "vit_base_patch16_siglip_512", 32_000, 768, 12, 12, 4.0, false),
    ("ViT-B-16-SigLIP-i18n-256", "vit_base_patch16_siglip_256", 250_000, 768, 12, 12, 4.0, false),
    ("ViT-L-16-SigLIP-256", "vit_large_patch16_siglip_256", 32_000, 1024, 24, 16, 4.0, false),
    ("ViT-L-16-SigLIP-384", "vit_large_patch16_siglip_384", 32_000, 1024, 24, 16, 4.0, false),
    ("ViT-SO400M-14-SigLIP", "vit_so400m_patch14_siglip_224", 32_000, 1152, 27, 16, 3.7362, false),
    ("ViT-SO400M-14-SigLIP-378", "vit_so400m_patch14_siglip_378", 32_000, 1152, 27, 16, 3.7362, false),
    ("ViT-SO400M-14-SigLIP-384", "vit_so400m_patch14_siglip_384", 32_000, 1152, 27, 16, 3.7362, false),
    ("ViT-B-16-SigLIP2", "vit_base_patch16_siglip_224", 256_000, 768, 12, 12, 4.0, true),
    ("ViT-B-16-SigLIP2-256", "vit_base_patch16_siglip_256", 256_000, 768, 12, 12, 4.0, true),
    ("ViT-B-16-SigLIP2-384", "vit_base_patch16_siglip_384", 256_000, 768, 12, 12, 4.0, true),
    ("ViT-B-16-SigLIP2-512", "vit_base_patch16_siglip_512", 256_000, 768, 12, 12, 4.0, true),
    ("ViT-B-32-SigLIP2-256", "vit_base_patch32_siglip_256", 256_000, 768, 12, 12, 4.0, true),
    ("ViT-L-16-SigLIP2-256", "vit_large_patch16_siglip_256", 256_000, 1024, 24, 16, 4.0, true),
    ("ViT-L-16-SigLIP2-384", "vit_large_patch16_siglip_384", 256_000, 1024, 24, 16, 4.0, true),
    ("ViT-L-16-SigLIP2-512", "vit_large_patch16_siglip_512", 256_000, 1024, 24, 16, 4.0, true),
    ("trommel-tiny-sigmoid-32", "trommel_tiny_patch8_siglip_32", 49_408, 64, 2, 2, 4.0, false),
];

/// The tower of timm's name.
pub(super) fn tower(name: &str) -> Option<VisionConfig> {
    let &(_, image_size, patch_size, width, layers, heads, mlp_width, tanh) =
        TOWERS.iter().find(|row| row.0 == name)?;
    Some(VisionConfig { timm_model_name: name.into(), image_size, patch_size, width, layers, heads, mlp_width, tanh })
}

/// Names that [`builtin`] knows.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.0)
}

/// How pictures become the input of all models of SigLIP that are published.
pub(super) fn preprocess(size: u32) -> Preprocess {
    Preprocess { size, mode: Resize::Squash, mean: [0.5; 3], std: [0.5; 3] }
}

/// The configuration of that name.
pub(super) fn builtin(name: &str) -> Option<SiglipConfig> {
    let &(_, timm, vocab_size, width, layers, heads, mlp_ratio, tanh) = ROWS.iter().find(|row| row.0 == name)?;
    let vision = tower(timm)?;
    // The one of all that was trained on shorter captions.
    let context_length = if name == "ViT-SO400M-14-SigLIP" { 16 } else { 64 };
    let tokenizer = match vocab_size {
        49_408 => None,
        // As open_clip names the repository of its vocabulary.
        32_000 => Some("timm/ViT-B-16-SigLIP".to_owned()),
        _ => Some(format!("timm/{name}")),
    };
    Some(SiglipConfig {
        name: name.into(),
        embed_dim: vision.width,
        init_logit_scale: 10f64.ln(),
        init_logit_bias: -10.0,
        preprocess: preprocess(u32::try_from(vision.image_size).ok()?),
        vision,
        text: TextConfig {
            context_length,
            vocab_size,
            width,
            heads,
            layers,
            mlp_ratio,
            tanh,
            norm_eps: 1e-6,
            projects: true,
            tokenizer,
        },
    })
}
