//! CLIP's weights: what files call them, what they are drawn from, in which order open_clip's module has them.

use tch::Tensor;

use super::config::ClipConfig;
use super::positions;
use crate::error::ModelError;
use crate::family::{Fetch, ParameterPlace, place};
use crate::random::Distribution;

/// Buffers and notes of open_clip's and OpenAI's files that are no parameters here.
const NOTES: [&str; 6] = [
    "attn_mask",
    "visual.attn_mask",
    "input_resolution",
    "context_length",
    "vocab_size",
    "transformer.embeddings.position_ids",
];

/// Notes that only OpenAI's own files hold.
const OPENAIS: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];

/// Parts of names whose weights are factors of products.
const FACTORS: [&str; 5] = ["conv1", "attn", "mlp", "proj", "text_projection"];

/// Most positions that are interpolated: images of 4,000 pixels in patches of 16.
const MAX_POSITIONS: i64 = 1 << 16;

/// What `named_parameters` yields at the top and in the image tower; blocks go by number.
const PARTS: [&str; 14] = [
    "positional_embedding",
    "text_projection",
    "logit_scale",
    "logit_bias",
    "visual.class_embedding",
    "visual.positional_embedding",
    "visual.proj",
    "visual.conv1.",
    "visual.ln_pre.",
    "visual.transformer.",
    "visual.ln_post.",
    "transformer.",
    "token_embedding.",
    "ln_final.",
];

/// The same within a residual block.
const WITHIN: [&str; 8] = [
    "ln_1.",
    "attn.in_proj_weight",
    "attn.in_proj_bias",
    "attn.out_proj.",
    "ln_2.",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.",
];

pub(super) fn is_note(name: &str) -> bool {
    NOTES.contains(&name)
}

pub(super) fn is_factor(name: &str) -> bool {
    name.split('.').any(|part| FACTORS.contains(&part))
}

pub(super) fn place_in_file(name: &str) -> ParameterPlace {
    place(name, &PARTS, "resblocks.", &WITHIN)
}

pub(super) fn doubt(config: &ClipConfig, holds: &dyn Fn(&str) -> bool) -> Option<String> {
    let name = &config.name;
    (!config.quick_gelu && OPENAIS.iter().all(|note| holds(note))).then(|| {
        format!("OpenAI's weights need QuickGELU, and {name} computes GELU: name its -quickgelu, or set quick_gelu")
    })
}

/// Positional embeddings, interpolated.
pub(super) fn fitted(name: &str, from: &[i64], to: &[i64], fetch: Fetch<'_>) -> Result<Option<Tensor>, ModelError> {
    match (name, from, to) {
        ("visual.positional_embedding" | "positional_embedding", &[rows, width], &[to, same])
            if width == same && (1..=MAX_POSITIONS).contains(&rows) =>
        {
            let tensor = fetch()?;
            if name == "positional_embedding" {
                return positions::text(&tensor, to).map(Some);
            }
            positions::image(&tensor, (to - 1).isqrt())
        }
        _ => Ok(None),
    }
}

/// What open_clip 3.3 draws a parameter from: `TextTransformer.init_parameters`, and PyTorch's defaults in the image tower.
#[allow(clippy::cast_precision_loss)]
pub(super) fn first_values(name: &str, shape: &[i64], config: &ClipConfig) -> Distribution {
    let (vision, text) = (&config.vision, &config.text);
    let visual = name.starts_with("visual.");
    let (width, layers) = if visual { (vision.width, vision.layers) } else { (text.width, text.layers) };
    let (width, layers) = (width as f64, layers as f64);
    let fan_in = shape.iter().skip(1).product::<i64>().max(1) as f64;
    let is = |end: &str| name.ends_with(end);
    if name == "logit_scale" {
        return Distribution::Constant(config.init_logit_scale);
    }
    if name == "logit_bias" {
        return Distribution::Constant(config.init_logit_bias.unwrap_or_default());
    }
    if is("in_proj_bias") || is("out_proj.bias") {
        return Distribution::Constant(0.0);
    }
    if name.contains("ln_") {
        return Distribution::Constant(if is(".weight") { 1.0 } else { 0.0 });
    }
    // nn.Linear's default bias follows the fan-in of its weight.
    if is("c_fc.bias") {
        return Distribution::Uniform(width.powf(-0.5));
    }
    if is("c_proj.bias") {
        let hidden = if visual { vision.mlp_width() } else { text.mlp_width() };
        return Distribution::Uniform((hidden as f64).powf(-0.5));
    }
    if visual {
        return match name.strip_prefix("visual.").unwrap_or(name) {
            "class_embedding" | "positional_embedding" | "proj" => Distribution::Normal(width.powf(-0.5)),
            _ if is("in_proj_weight") => Distribution::Uniform((6.0 / (4.0 * width)).sqrt()),
            _ => Distribution::Uniform(fan_in.powf(-0.5)),
        };
    }
    match name {
        "token_embedding.weight" => Distribution::Normal(0.02),
        "positional_embedding" => Distribution::Normal(0.01),
        "text_projection" => Distribution::Normal(width.powf(-0.5)),
        _ if is("in_proj_weight") => Distribution::Normal(width.powf(-0.5)),
        _ if is("c_fc.weight") => Distribution::Normal((2.0 * width).powf(-0.5)),
        _ => Distribution::Normal(width.powf(-0.5) * (2.0 * layers).powf(-0.5)),
    }
}
