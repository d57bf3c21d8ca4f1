//! CLIP's symmetric cross entropy, in f32 whatever the towers ran in.

use tch::{Kind, Reduction, TchError, Tensor};
use trommel_bridge as bridge;

use super::error::TrainError;

/// Logits that are computed at once: a loss of more is computed in chunks of rows. 256 MiB a matrix.
pub const LOGITS_AT_ONCE: usize = 1 << 26;

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

/// The features of the whole batch as one rank sees them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<'a> {
    /// f32\[size * n, 2 * d\], images beside texts.
    pub(super) both: &'a Tensor,
    /// Where the rank's own rows begin.
    pub(super) first: i64,
}

/// [`contrastive`], or with `whole` [`contrastive_share`], and its backward through the features, a few rows' logits at a time: the same
/// gradients up to the order of sums, without the matrix. Gives the loss.
pub(super) fn backward_in_chunks(
    images: &Tensor,
    texts: &Tensor,
    scale: &Tensor,
    whole: Option<Whole<'_>>,
    rows_at_once: i64,
) -> Result<Tensor, TrainError> {
    let leaf = |tensor: &Tensor| tensor.f_detach().map(|tensor| tensor.set_requires_grad(true));
    let chunks = || {
        let (image, text, factor) = (leaf(images)?, leaf(texts)?, leaf(scale)?);
        let both = whole.map(|whole| leaf(whole.both)).transpose()?;
        let (first, (rows, dim)) = (whole.map_or(0, |whole| whole.first), images.size2()?);
        let mut total = tch::no_grad(|| scale.f_zeros_like())?;
        for start in (0..rows).step_by(rows_at_once.max(1) as usize) {
            let count = rows_at_once.max(1).min(rows - start);
            let (images_all, texts_all) = match &both {
                Some(both) => (both.f_narrow(1, 0, dim)?, both.f_narrow(1, dim, dim)?),
                None => (image.shallow_clone(), text.shallow_clone()),
            };
            let (images, texts) = (image.f_narrow(0, start, count)?, text.f_narrow(0, start, count)?);
            let share = contrastive_share(&images, &texts, &images_all, &texts_all, &factor, first + start)?;
            let share = share.f_mul_scalar(count as f64 / rows as f64)?;
            share.f_backward()?;
            total = total.f_add(&share.f_detach()?)?;
        }
        let mut reached = vec![(images, image.f_grad()?), (texts, text.f_grad()?), (scale, factor.f_grad()?)];
        if let (Some(whole), Some(both)) = (whole, &both) {
            reached.push((whole.both, both.f_grad()?));
        }
        let (features, grads) = reached.into_iter().map(|(tensor, grad)| (tensor.shallow_clone(), grad)).unzip();
        Ok::<(Tensor, Vec<Tensor>, Vec<Tensor>), TchError>((total, features, grads))
    };
    let (total, features, grads) = chunks().map_err(TrainError::torch("loss"))?;
    bridge::backward(&features, &grads)?;
    Ok(total)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tch::Device;

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

    /// Against the whole matrix, in f64, for chunks that divide the rows and chunks that do not.
    #[test]
    fn chunks_have_the_whole_matrixs_loss_and_gradients() {
        let (n, d) = (11i64, 5i64);
        let leaves = || {
            let table = |salt: f64| {
                let x = (Tensor::arange(n * d, (Kind::Double, Device::Cpu)) * 0.37 + salt).sin().reshape([n, d]);
                (&x / x.norm_scalaropt_dim(2.0, [1i64].as_slice(), true)).set_requires_grad(true)
            };
            [table(1.0), table(2.0), Tensor::from(14.3f64).set_requires_grad(true)]
        };
        let whole = leaves();
        let loss = contrastive(&whole[0], &whole[1], &whole[2]).unwrap();
        loss.backward();
        for rows in [1, 3, 11, 64] {
            let own = leaves();
            let features: Vec<Tensor> = own.iter().map(|leaf| leaf * 1.0).collect();
            let got = backward_in_chunks(&features[0], &features[1], &features[2], None, rows).unwrap();
            let distance = |a: &Tensor, b: &Tensor| f64::try_from((a - b).abs().max()).unwrap();
            assert!(distance(&got, &loss.detach()) < 1e-13, "{rows}");
            for (a, b) in own.iter().zip(&whole) {
                assert!(distance(&a.grad(), &b.grad()) < 1e-13, "{rows} {} {}", a.grad(), b.grad());
            }
        }
    }
}
