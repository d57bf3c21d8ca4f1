//! The first layer of an image tower: pixels to one token a patch.

use tch::nn::Path;
use tch::{Device, Kind, Tensor};

use super::error::{ModelError, Op, shape_of};
use super::transformer::{as_weight, variable};

/// A convolution whose kernels do not overlap.
#[derive(Debug)]
pub(crate) struct PatchEmbedding {
    name: String,
    image_size: i64,
    patch: i64,
    by_product: bool,
    /// \[width, 3, patch, patch\].
    weight: Tensor,
    /// \[width\], where it has one.
    bias: Option<Tensor>,
}

impl PatchEmbedding {
    /// Adds `weight`, and `bias` where it has one, at `path`.
    pub(crate) fn new(
        path: &Path,
        (image_size, patch): (i64, i64),
        width: i64,
        has_bias: bool,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            name: path.components().collect::<Vec<_>>().join("."),
            image_size,
            patch,
            by_product: path.device() != Device::Cpu,
            weight: variable(path, "weight", &[width, 3, patch, patch], 0.0)?,
            bias: if has_bias { Some(variable(path, "bias", &[width], 0.0)?) } else { None },
        })
    }

    /// See [`ImageTower::multiply_patches`](super::family::ImageTower::multiply_patches).
    pub(crate) const fn multiply(&mut self, by_product: bool) {
        self.by_product = by_product;
    }

    /// f32\[n, 3, size, size\] to \[n, patches, width\].
    pub(crate) fn forward(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        if !matches!(images.size().as_slice(), &[_, 3, h, w] if h == self.image_size && w == self.image_size) {
            let message = format!("expected [n, 3, {0}, {0}]", self.image_size);
            return Err(ModelError::Tensor { operation: "visual".into(), shapes: shape_of(images), message });
        }
        if self.by_product { self.multiplied(images) } else { self.convolved(images) }
    }

    fn convolved(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        as_weight(images, &self.weight)?
            .f_conv2d(&self.weight, self.bias.as_ref(), [self.patch, self.patch], [0, 0], [1, 1], 1)
            .and_then(|t| t.f_flatten(2, -1)?.f_permute([0, 2, 1]))
            .op(&self.name, &[images, &self.weight])
    }

    fn multiplied(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        let (n, side, grid) = (images.size()[0], self.patch, self.image_size / self.patch);
        let images = as_weight(images, &self.weight)?;
        images
            .f_narrow(2, 0, grid * side)
            .and_then(|t| t.f_narrow(3, 0, grid * side)?.f_reshape([n, 3, grid, side, grid, side]))
            .and_then(|t| t.f_permute([0, 2, 4, 1, 3, 5])?.f_reshape([n, grid * grid, 3 * side * side]))
            .and_then(|t| t.f_linear(&self.weight.f_flatten(1, -1)?, self.bias.as_ref()))
            .op(&self.name, &[&images, &self.weight])
    }

    /// The product of weights as they are now. `positions`, \[leading + patches, width\], are added to each row; the bias is to
    /// be in them.
    pub(crate) fn product(
        &self,
        positions: Tensor,
        leading: i64,
        (products, residual): (Kind, Kind),
    ) -> Result<PatchProduct, ModelError> {
        let width = self.weight.size()[0];
        let weight = self.weight.f_permute([0, 2, 3, 1]).and_then(|t| t.f_reshape([width, -1])?.f_to_kind(products));
        Ok(PatchProduct {
            patch: self.patch,
            grid: self.image_size / self.patch,
            leading,
            weight: weight.op(&self.name, &[&self.weight])?,
            positions: positions.f_to_kind(residual).op(&self.name, &[&positions])?,
        })
    }

    /// What is added to each patch's row.
    pub(crate) const fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

/// The patch embedding as a matrix product.
#[derive(Debug)]
pub struct PatchProduct {
    /// Side of a patch, in pixels.
    pub patch: i64,
    /// Patches along one side.
    pub grid: i64,
    /// Rows before the patches', which become other tokens.
    pub leading: i64,
    /// \[width, patch * patch * 3\]: the convolution's kernels, a row's values in the order (row, column, channel).
    weight: Tensor,
    /// \[leading + grid * grid, width\]: the positional embedding, and what else is added to each row.
    positions: Tensor,
}

impl PatchProduct {
    /// Patches \[n, leading + grid * grid, patch * patch * 3\] to tokens \[n, leading + grid * grid, width\].
    pub(crate) fn tokens(&self, patches: &Tensor) -> Result<Tensor, ModelError> {
        patches
            .f_linear(&self.weight, None::<&Tensor>)
            .and_then(|t| t.f_add(&self.positions))
            .op("the patches' product", &[patches, &self.weight, &self.positions])
    }
}
