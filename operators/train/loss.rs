//! CLIP's symmetric cross entropy, in f32 whatever the towers ran in.

use tch::{Kind, Reduction, TchError, Tensor};

/// Rows divided by their L2 norm (at least 1e-12), in f32: any\[n, d\] to f32\[n, d\].
///
/// # Errors
/// libtorch refuses.
pub fn unit_rows(features: &Tensor) -> Result<Tensor, TchError> {
    let features = features.f_to_kind(Kind::Float)?;
    let norm = features.f_norm_scalaropt_dim(2.0, [-1i64], true)?.f_clamp_min(1e-12)?;
    features.f_div(&norm)
}

/// The mean over both directions of the cross entropy of `scale * images @ texts^T` with the diagonal as target (Radford
/// et al. 2021, figure 3; open_clip's `ClipLoss`). Unit f32\[n, d\] each, f32\[\] factor, to f32\[\].
///
/// # Errors
/// Shapes that differ.
pub fn contrastive(images: &Tensor, texts: &Tensor, scale: &Tensor) -> Result<Tensor, TchError> {
    let logits = images.f_matmul(&texts.f_transpose(0, 1)?)?.f_mul(scale)?;
    let labels = Tensor::f_arange(images.size()[0], (Kind::Int64, images.device()))?;
    let one_way = |logits: &Tensor| logits.f_cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0);
    one_way(&logits)?.f_add(&one_way(&logits.f_transpose(0, 1)?)?)?.f_div_scalar(2.0)
}

/// One rank's share of [`contrastive`]: its rows against the whole batch's, of which they are those from `first` on. The
/// mean of the ranks' shares is the whole (open_clip's `ClipLoss` with `local_loss`). Unit \[n, d\] and \[size * n, d\].
///
/// # Errors
/// Shapes that differ.
pub fn contrastive_share(
    images: &Tensor,
    texts: &Tensor,
    images_all: &Tensor,
    texts_all: &Tensor,
    scale: &Tensor,
    first: i64,
) -> Result<Tensor, TchError> {
    let end = first + images.size()[0];
    let labels = Tensor::f_arange_start(first, end, (Kind::Int64, images.device()))?;
    let one_way = |own: &Tensor, all: &Tensor| {
        let logits = own.f_matmul(&all.f_transpose(0, 1)?)?.f_mul(scale)?;
        logits.f_cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)
    };
    one_way(images, texts_all)?.f_add(&one_way(texts, images_all)?)?.f_div_scalar(2.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Against the definition in f64.
    #[test]
    fn follows_its_definition() {
        let (n, d, scale) = (5usize, 7usize, 14.25f64);
        let rows =
            |salt: usize| -> Vec<f32> { (0..n * d).map(|i| ((i * 37 + salt * 11) % 23) as f32 / 23.0 - 0.4).collect() };
        let unit = |rows: &[f32]| -> Vec<f64> {
            rows.chunks(d)
                .flat_map(|row| {
                    let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
                    row.iter().map(move |&x| f64::from(x) / norm).collect::<Vec<_>>()
                })
                .collect()
        };
        let (images, texts) = (rows(1), rows(2));
        let (a, b) = (unit(&images), unit(&texts));
        let logit = |i: usize, j: usize| scale * (0..d).map(|k| a[i * d + k] * b[j * d + k]).sum::<f64>();
        let mut expected = 0.0;
        for i in 0..n {
            let across = (0..n).map(|j| logit(i, j).exp()).sum::<f64>().ln();
            let down = (0..n).map(|j| logit(j, i).exp()).sum::<f64>().ln();
            expected += (across - logit(i, i) + down - logit(i, i)) / 2.0 / n as f64;
        }
        let shaped = |rows: &[f32]| Tensor::from_slice(rows).reshape([n as i64, d as i64]);
        let (images, texts) = (unit_rows(&shaped(&images)).unwrap(), unit_rows(&shaped(&texts)).unwrap());
        let got = contrastive(&images, &texts, &Tensor::from(scale as f32)).unwrap();
        assert!((f64::try_from(got).unwrap() - expected).abs() < 1e-5);
    }
}
