//! SigLIP's weights: what they are drawn from, in which order open_clip's module has them.

use super::config::SiglipConfig;
use crate::family::{ParameterPlace, place};
use crate::random::Distribution;

/// Parts of names whose weights are factors of products.
const FACTORS: [&str; 7] = ["attn", "mlp", "proj", "text_projection", "q", "kv", "patch_embed"];

/// What `named_parameters` yields; blocks go by number.
const PARTS: [&str; 18] = [
    "logit_scale",
    "logit_bias",
    "visual.trunk.pos_embed",
    "visual.trunk.patch_embed.",
    "visual.trunk.blocks.",
    "visual.trunk.norm.",
    "visual.trunk.attn_pool.latent",
    "visual.trunk.attn_pool.q.",
    "visual.trunk.attn_pool.kv.",
    "visual.trunk.attn_pool.proj.",
    "visual.trunk.attn_pool.norm.",
    "visual.trunk.attn_pool.mlp.fc1.",
    "visual.trunk.attn_pool.mlp.fc2.",
    "text.positional_embedding",
    "text.token_embedding.",
    "text.transformer.",
    "text.ln_final.",
    "text.text_projection.",
];

/// The same within a residual block: timm's names, then open_clip's.
const WITHIN: [&str; 14] = [
    "norm1.",
    "attn.qkv.",
    "attn.proj.",
    "norm2.",
    "mlp.fc1.",
    "mlp.fc2.",
    "ln_1.",
    "attn.in_proj_weight",
    "attn.in_proj_bias",
    "attn.out_proj.",
    "ln_2.",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.",
];

pub(super) fn is_factor(name: &str) -> bool {
    name.split('.').any(|part| FACTORS.contains(&part))
}

pub(super) fn place_in_file(name: &str) -> ParameterPlace {
    place(name, &PARTS, "blocks.", &WITHIN)
}

/// What a parameter is drawn from: timm 1.0's `init_weights_vit_timm` in the image tower, open_clip 3.3's
/// `TextTransformer.init_parameters` in the other.
#[allow(clippy::cast_precision_loss)]
pub(super) fn first_values(name: &str, config: &SiglipConfig) -> Distribution {
    let is = |end: &str| name.ends_with(end);
    match name {
        "logit_scale" => return Distribution::Constant(config.init_logit_scale),
        "logit_bias" => return Distribution::Constant(config.init_logit_bias),
        _ => {}
    }
    if name.contains("norm") || name.contains("ln_") {
        return Distribution::Constant(if is(".weight") { 1.0 } else { 0.0 });
    }
    if let Some(visual) = name.strip_prefix("visual.trunk.") {
        let vision = &config.vision;
        // A convolution's default, which follows the fan-in of its weight for the bias as well.
        let patch = (3 * vision.patch_size * vision.patch_size) as f64;
        return match visual {
            "attn_pool.latent" => Distribution::Truncated((vision.width as f64).powf(-0.5)),
            "patch_embed.proj.weight" | "patch_embed.proj.bias" => Distribution::Uniform(patch.powf(-0.5)),
            _ if is(".bias") => Distribution::Constant(0.0),
            _ => Distribution::Normal(0.02),
        };
    }
    let (width, layers) = (config.text.width as f64, config.text.layers as f64);
    match name {
        "text.token_embedding.weight" => Distribution::Normal(0.02),
        "text.positional_embedding" => Distribution::Normal(0.01),
        "text.text_projection.weight" => Distribution::Normal(width.powf(-0.5)),
        _ if is("in_proj_weight") => Distribution::Normal(width.powf(-0.5)),
        _ if is("c_fc.weight") => Distribution::Normal((2.0 * width).powf(-0.5)),
        // nn.Linear's default bias follows the fan-in of its weight.
        _ if is("c_fc.bias") => Distribution::Uniform(width.powf(-0.5)),
        _ if is("c_proj.bias") => Distribution::Uniform((config.text.mlp_width() as f64).powf(-0.5)),
        _ if is("bias") => Distribution::Constant(0.0),
        _ => Distribution::Normal(width.powf(-0.5) * (2.0 * layers).powf(-0.5)),
    }
}
