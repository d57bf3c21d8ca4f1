//! u8 pixels, as they travel to the device, to a tower's input: mean and standard deviation are applied there.

use tch::{Device, Kind, Tensor};
use trommel_model::error::Op;
use trommel_model::patches::PatchProduct;
use trommel_model::preprocess::Normalise;
use trommel_model::{ImageTower, ModelError, Preprocess};

/// To \[batch, 3, size, size\] in the products' kind.
#[derive(Debug)]
pub(super) struct Planes {
    normalise: Normalise,
    kind: Kind,
}

impl Planes {
    pub(super) fn new(preprocess: &Preprocess, kind: Kind, device: Device) -> Result<Self, ModelError> {
        let normalise = Normalise::new(&preprocess.mean, &preprocess.std, device).op("mean and std", &[])?;
        Ok(Self { normalise, kind })
    }

    /// Of u8\[batch, size, size, 3\] on the device.
    pub(super) fn of(&self, pixels: &Tensor) -> Result<Tensor, ModelError> {
        self.normalise.planes(pixels).and_then(|images| images.f_to_kind(self.kind)).op("pixels", &[pixels])
    }
}

/// To patches for one matrix product, in one pass over the pixels: each value is multiplied and added to in f32, and rounded once.
#[derive(Debug)]
pub(super) struct Patches {
    /// 1 / (255 std), f32\[3 * patch\], over and over.
    scale: Tensor,
    /// -mean / std, f32\[3 * patch\].
    shift: Tensor,
    /// \[batch, leading + grid * grid, patch * patch * 3\]; the leading rows stay zero.
    rows: Tensor,
    pub(super) product: PatchProduct,
}

impl Patches {
    /// `residual`: the kind of the tower's residual sum. The tower's weights are still f32.
    pub(super) fn new(
        preprocess: &Preprocess,
        tower: &dyn ImageTower,
        (products, residual): (Kind, Kind),
        (batch, device): (usize, Device),
    ) -> Result<Self, ModelError> {
        let product = tower.patch_product(products, residual)?;
        let (patch, grid, leading) = (product.patch, product.grid, product.leading);
        let over_and_over = |value: &dyn Fn(f64, f64) -> f64| {
            let (mean, std) = (preprocess.mean, preprocess.std);
            let of_channels: Vec<f64> = mean.iter().zip(std).map(|(mean, std)| value(*mean, std)).collect();
            Tensor::f_from_slice(&of_channels)
                .and_then(|t| t.f_to_kind(Kind::Float)?.f_repeat([patch])?.f_to_device(device))
                .op("mean and std", &[])
        };
        let rows = i64::try_from(batch).unwrap_or(i64::MAX);
        Ok(Self {
            scale: over_and_over(&|_, std| 1.0 / (255.0 * std))?,
            shift: over_and_over(&|mean, std| -mean / std)?,
            rows: Tensor::f_zeros([rows, leading + grid * grid, 3 * patch * patch], (products, device))
                .op("patches", &[])?,
            product,
        })
    }

    /// Of u8\[batch, size, size, 3\] on the device; they are overwritten by the next call.
    pub(super) fn of(&self, pixels: &Tensor) -> Result<&Tensor, ModelError> {
        let (n, PatchProduct { patch, grid, leading, .. }) = (self.rows.size()[0], &self.product);
        let (patch, grid, leading) = (*patch, *grid, *leading);
        let side = grid * patch; // what remains beside the last whole patch is seen by no kernel
        let _same_memory = self
            .rows
            .f_narrow(1, leading, grid * grid)
            .and_then(|rows| {
                let out = rows.f_view([n, grid, grid, patch, 3 * patch])?.f_permute([0, 1, 3, 2, 4])?;
                let seen = pixels.f_narrow(1, 0, side)?.f_narrow(2, 0, side)?;
                let pixels = seen.f_view([n, grid, patch, grid, 3 * patch])?;
                self.shift.f_addcmul_out(&out, &pixels, &self.scale)
            })
            .op("patches", &[pixels, &self.rows])?;
        Ok(&self.rows)
    }
}
