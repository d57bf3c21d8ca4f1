//! A model's loss and its backward, some rows' logits at a time.

use tch::{TchError, Tensor};
use trommel_bridge as bridge;
use trommel_model::loss::{Logits, Loss, Pairs};

use super::error::TrainError;

/// Logits that are computed at once: a loss of more is computed in chunks of rows. 256 MiB a matrix.
pub const LOGITS_AT_ONCE: usize = 1 << 26;

/// The features of the whole batch as one rank sees them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<'a> {
    /// f32\[size * n, 2 * d\], images beside texts.
    pub(super) both: &'a Tensor,
    /// Where the rank's own rows begin.
    pub(super) first: i64,
}

/// The loss of `own`, or with `whole` its share, and its backward through the features, a few rows' logits at a time: the same
/// gradients up to the order of sums, without the matrix. Gives the loss.
pub(super) fn backward_in_chunks(
    loss: &dyn Loss,
    own: Pairs<'_>,
    logits: &Logits,
    whole: Option<Whole<'_>>,
    rows_at_once: i64,
) -> Result<Tensor, TrainError> {
    let leaf = |tensor: &Tensor| tensor.f_detach().map(|tensor| tensor.set_requires_grad(true));
    let Pairs { images, texts } = own;
    let chunks = || {
        let (image, text) = (leaf(images)?, leaf(texts)?);
        let factors = Logits { scale: leaf(&logits.scale)?, bias: logits.bias.as_ref().map(leaf).transpose()? };
        let both = whole.map(|whole| leaf(whole.both)).transpose()?;
        let (first, (rows, dim)) = (whole.map_or(0, |whole| whole.first), images.size2()?);
        let mut total = tch::no_grad(|| logits.scale.f_zeros_like())?;
        for start in (0..rows).step_by(rows_at_once.max(1) as usize) {
            let count = rows_at_once.max(1).min(rows - start);
            let (images_all, texts_all) = match &both {
                Some(both) => (both.f_narrow(1, 0, dim)?, both.f_narrow(1, dim, dim)?),
                None => (image.shallow_clone(), text.shallow_clone()),
            };
            let (images, texts) = (image.f_narrow(0, start, count)?, text.f_narrow(0, start, count)?);
            let all = Pairs { images: &images_all, texts: &texts_all };
            let share = loss.share(Pairs { images: &images, texts: &texts }, all, &factors, first + start)?;
            let share = share.f_mul_scalar(count as f64 / rows as f64)?;
            share.f_backward()?;
            total = total.f_add(&share.f_detach()?)?;
        }
        // Of a loss that needs one side's rows only, the other's gradients come from the whole's.
        let mut reached =
            vec![(images, image.f_grad()?), (texts, text.f_grad()?), (&logits.scale, factors.scale.f_grad()?)];
        if let (Some(bias), Some(factor)) = (&logits.bias, &factors.bias) {
            reached.push((bias, factor.f_grad()?));
        }
        if let (Some(whole), Some(both)) = (whole, &both) {
            reached.push((whole.both, both.f_grad()?));
        }
        reached.retain(|(_, grad)| grad.defined());
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
    use tch::{Device, Kind};
    use trommel_model::loss::{Softmax, unit_rows};

    use super::*;

    fn logits(scale: &Tensor) -> Logits {
        Logits { scale: scale.shallow_clone(), bias: None }
    }

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
        let got =
            Softmax.whole(Pairs { images: &images, texts: &texts }, &logits(&Tensor::from(scale as f32))).unwrap();
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
        let loss = Softmax.whole(Pairs { images: &whole[0], texts: &whole[1] }, &logits(&whole[2])).unwrap();
        loss.backward();
        for rows in [1, 3, 11, 64] {
            let own = leaves();
            let features: Vec<Tensor> = own.iter().map(|leaf| leaf * 1.0).collect();
            let pairs = Pairs { images: &features[0], texts: &features[1] };
            let got = backward_in_chunks(&Softmax, pairs, &logits(&features[2]), None, rows).unwrap();
            let distance = |a: &Tensor, b: &Tensor| f64::try_from((a - b).abs().max()).unwrap();
            assert!(distance(&got, &loss.detach()) < 1e-13, "{rows}");
            for (a, b) in own.iter().zip(&whole) {
                assert!(distance(&a.grad(), &b.grad()) < 1e-13, "{rows} {} {}", a.grad(), b.grad());
            }
        }
    }
}
