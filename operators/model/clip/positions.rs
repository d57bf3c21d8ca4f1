//! Positional embeddings of weights that were trained at another resolution or context length: interpolated as open_clip
//! 3.3 does when it loads them (`resize_pos_embed`, `resize_text_pos_embed`).

use tch::{Kind, Tensor};

use crate::error::{ModelError, Op};

/// f32\[1 + g * g, width\] of a class token and a square grid to f32\[1 + grid * grid, width\]: the grid bicubic with
/// antialiasing, the class token as it is. `None`: no square grid.
///
/// # Errors
/// libtorch refuses.
pub(super) fn image(old: &Tensor, grid: i64) -> Result<Option<Tensor>, ModelError> {
    let (rows, width) = old.size2().op("visual.positional_embedding", &[old])?;
    let old_grid = (rows - 1).isqrt();
    if old_grid < 1 || old_grid * old_grid != rows - 1 {
        return Ok(None);
    }
    let resized = |old: &Tensor| {
        let (class, patches) = (old.f_narrow(0, 0, 1)?, old.f_narrow(0, 1, rows - 1)?);
        let patches = patches.f_reshape([1, old_grid, old_grid, width])?.f_permute([0, 3, 1, 2])?;
        let patches = patches.f_internal_upsample_bicubic2d_aa([grid, grid], false, None, None)?;
        let patches = patches.f_permute([0, 2, 3, 1])?.f_reshape([grid * grid, width])?;
        Tensor::f_cat(&[class, patches], 0)
    };
    let old = old.f_to_kind(Kind::Float).op("visual.positional_embedding", &[old])?;
    resized(&old).map(Some).op("interpolation of visual.positional_embedding", &[&old])
}

/// f32\[n, width\] to f32\[length, width\], linear.
///
/// # Errors
/// libtorch refuses.
pub(super) fn text(old: &Tensor, length: i64) -> Result<Tensor, ModelError> {
    let resized = |old: &Tensor| {
        let rows = old.f_unsqueeze(0)?.f_permute([0, 2, 1])?;
        rows.f_upsample_linear1d([length], false, None)?.f_permute([0, 2, 1])?.f_squeeze_dim(0)
    };
    let old = old.f_to_kind(Kind::Float).op("positional_embedding", &[old])?;
    resized(&old).op("interpolation of positional_embedding", &[&old])
}
