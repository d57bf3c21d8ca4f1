//! Linear, layer norm, the residual attention block and their stack: open_clip's `Transformer`.
//!
//! Low precision works as autocast does: where a product's weight is stored in bf16 (or f16), its input is cast
//! to that kind; layer norms and the residual sum stay f32. With f32 weights nothing is cast, so that an
//! outer autocast may decide.

use tch::nn::{Init, Path};
use tch::{Device, Kind, TchError, Tensor};
use trommel_bridge::{self as bridge, After, Attention, BridgeError, PackedWeight, attention_by};

use super::error::{ModelError, Op};

/// `y = x W^T + b`.
#[derive(Debug)]
pub struct Linear {
    name: String,
    /// f32\[out, in\].
    weight: Tensor,
    /// f32\[out\], added to every row.
    bias: Tensor,
    products: Products,
}

/// What multiplies for a layer.
#[derive(Debug)]
enum Products {
    /// libtorch, as it likes.
    Libtorch,
    /// oneDNN, with gradients; of f32 on a CPU.
    OneDnn,
    /// oneDNN, the weight in its own layout; the variable is empty.
    Packed(PackedWeight),
}

impl Linear {
    /// Adds `weight` and `bias` at `path`.
    pub(crate) fn new(path: &Path, inputs: i64, outputs: i64) -> Result<Self, ModelError> {
        Self::named(path, ["weight", "bias"], inputs, outputs)
    }

    /// Adds weight and bias at `path` under these names.
    fn named(path: &Path, [weight, bias]: [&str; 2], inputs: i64, outputs: i64) -> Result<Self, ModelError> {
        Ok(Self {
            name: path.components().collect::<Vec<_>>().join("."),
            weight: variable(path, weight, &[outputs, inputs], 0.0)?,
            bias: variable(path, bias, &[outputs], 0.0)?,
            products: Products::Libtorch,
        })
    }

    /// Lays the weight as oneDNN reads it, for inputs of `rows` rows; the variable is empty afterwards.
    pub(crate) fn pack(&mut self, rows: i64) -> Result<(), ModelError> {
        let _no_grad = tch::no_grad_guard();
        let packed = PackedWeight::new(&self.weight, rows).map_err(torch).op(&self.name, &[&self.weight])?;
        let emptied =
            Tensor::f_zeros([0], (Kind::Float, Device::Cpu)).and_then(|nothing| self.weight.f_set_data(&nothing));
        emptied.op(&self.name, &[])?;
        self.products = Products::Packed(packed);
        Ok(())
    }

    /// f32\[.., in\] to f32\[.., out\].
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        self.then(x, After::Nothing, |y| Ok(y.shallow_clone()))
    }

    /// The same, and `after` of it, which is what `apart` computes.
    fn then(
        &self,
        x: &Tensor,
        after: After,
        apart: impl FnOnce(&Tensor) -> Result<Tensor, ModelError>,
    ) -> Result<Tensor, ModelError> {
        match &self.products {
            Products::Packed(weight) => {
                weight.linear(x, &self.bias, after).map_err(torch).op(&self.name, &[x, &self.bias])
            }
            Products::OneDnn => apart(
                &bridge::linear(x, &self.weight, &self.bias)
                    .map_err(torch)
                    .op(&self.name, &[x, &self.weight, &self.bias])?,
            ),
            Products::Libtorch => apart(
                &as_weight(x, &self.weight)?
                    .f_linear(&self.weight, Some(&self.bias))
                    .op(&self.name, &[x, &self.weight, &self.bias])?,
            ),
        }
    }
}

/// A named variable filled with one value; trainable.
pub(crate) fn variable(path: &Path, name: &str, shape: &[i64], value: f64) -> Result<Tensor, ModelError> {
    path.f_var(name, shape, Init::Const(value)).op(&format!("allocation of {} {shape:?}", path.path(name)), &[])
}

/// Casts `x` to the weight's kind where that is a low one.
pub(crate) fn as_weight(x: &Tensor, weight: &Tensor) -> Result<Tensor, ModelError> {
    let kind = weight.f_kind().op("kind", &[])?;
    if matches!(kind, Kind::BFloat16 | Kind::Half) && x.f_kind().op("kind", &[])? != kind {
        x.f_to_kind(kind).op("cast", &[x])
    } else {
        Ok(x.shallow_clone())
    }
}

/// Products of one row a sample, with `weight` or others like it. MKL divides the sums of so few rows among threads, so that bits would depend on their
/// number (seen on an Intel with AVX-512): on a CPU one thread computes them, unless gradients are asked for.
pub(crate) fn of_few_rows<T>(weight: &Tensor, products: impl FnOnce() -> T) -> T {
    if weight.device() == Device::Cpu && !weight.requires_grad() { bridge::on_one_thread(products) } else { products() }
}

/// A refusal of the bridge's as one of libtorch's, which it is.
fn torch(error: BridgeError) -> TchError {
    TchError::Torch(error.message)
}

/// Layer norm over the last dimension, in f32.
#[derive(Debug)]
pub struct LayerNorm {
    name: String,
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Adds `weight` = 1 and `bias` = 0 at `path`.
    pub(crate) fn new(path: &Path, width: i64, eps: f64) -> Result<Self, ModelError> {
        Ok(Self {
            name: path.components().collect::<Vec<_>>().join("."),
            weight: variable(path, "weight", &[width], 1.0)?,
            bias: variable(path, "bias", &[width], 0.0)?,
            eps,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)
            .op(&self.name, &[x, &self.weight])
    }
}

/// What stands between an MLP's two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// GELU by the error function.
    Gelu,
    /// Its approximation by a tanh.
    GeluTanh,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
}

impl Activation {
    /// Of hidden values.
    pub(crate) fn of(self, x: &Tensor) -> Result<Tensor, ModelError> {
        match self {
            Self::Gelu => x.f_gelu("none").op("GELU", &[x]),
            Self::GeluTanh => x.f_gelu("tanh").op("GELU", &[x]),
            Self::QuickGelu => {
                x.f_mul_scalar(1.702).and_then(|t| t.f_sigmoid()).and_then(|t| t.f_mul(x)).op("QuickGELU", &[x])
            }
        }
    }
}

/// What the parts of a stack of blocks are called in files.
#[derive(Debug)]
pub struct BlockNames {
    blocks: &'static str,
    norms: [&'static str; 2],
    /// Where weight and bias of queries, keys and values stand under `attn`; `None`: there, as `in_proj_weight`.
    qkv: Option<&'static str>,
    out: &'static str,
    mlp: [&'static str; 2],
}

impl BlockNames {
    /// open_clip's own.
    pub const OPEN_CLIP: Self =
        Self { blocks: "resblocks", norms: ["ln_1", "ln_2"], qkv: None, out: "out_proj", mlp: ["c_fc", "c_proj"] };
    /// timm's, in SigLIP's image towers.
    pub const TIMM: Self =
        Self { blocks: "blocks", norms: ["norm1", "norm2"], qkv: Some("qkv"), out: "proj", mlp: ["fc1", "fc2"] };
}

/// Shape of a stack of blocks.
#[derive(Clone, Copy, Debug)]
pub struct BlockShape {
    /// Width of a token.
    pub width: i64,
    /// Attention heads.
    pub heads: i64,
    /// Hidden width of the MLP.
    pub mlp_width: i64,
    /// Between the MLP's layers.
    pub activation: Activation,
    /// Epsilon of the layer norms.
    pub norm_eps: f64,
}

impl BlockShape {
    /// Numbers in a block's weights.
    pub(crate) const fn parameters(width: i64, mlp: i64) -> i64 {
        4 * width * width + 4 * width + 4 * width + 2 * width * mlp + mlp + width
    }
}

/// What a token sees.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attend<'a> {
    /// All tokens of its row.
    All,
    /// Those before it and itself.
    Causal,
    /// The same in rows that lie one behind the other: so many rows of such a length, group by group.
    Groups(&'a [(i64, i64)]),
}

/// `x + attention(ln_1(x))`, then `x + mlp(ln_2(x))`.
#[derive(Debug)]
struct Block {
    name: String,
    shape: BlockShape,
    ln_1: LayerNorm,
    in_proj: Linear,
    out_proj: Linear,
    ln_2: LayerNorm,
    c_fc: Linear,
    c_proj: Linear,
    /// 1.702 is in the weights on both sides of QuickGELU.
    folded: bool,
}

impl Block {
    fn new(path: &Path, shape: BlockShape, names: &BlockNames) -> Result<Self, ModelError> {
        let (width, attn, mlp) = (shape.width, path.sub("attn"), path.sub("mlp"));
        let [norm_1, norm_2] = names.norms.map(|name| LayerNorm::new(&path.sub(name), width, shape.norm_eps));
        let (qkv, [weight, bias]) = match names.qkv {
            Some(qkv) => (&attn.sub(qkv), ["weight", "bias"]),
            None => (&attn, ["in_proj_weight", "in_proj_bias"]),
        };
        Ok(Self {
            name: path.components().collect::<Vec<_>>().join("."),
            shape,
            ln_1: norm_1?,
            in_proj: Linear::named(qkv, [weight, bias], width, 3 * width)?,
            out_proj: Linear::new(&attn.sub(names.out), width, width)?,
            ln_2: norm_2?,
            c_fc: Linear::new(&mlp.sub(names.mlp[0]), width, shape.mlp_width)?,
            c_proj: Linear::new(&mlp.sub(names.mlp[1]), shape.mlp_width, width)?,
            folded: false,
        })
    }

    fn forward(&self, x: &Tensor, attend: Attend, kernel: Option<Attention>) -> Result<Tensor, ModelError> {
        let attended = self.attention(&self.ln_1.forward(x)?, attend, kernel)?;
        let x = x.f_add(&attended).op(&self.name, &[x, &attended])?;
        let hidden = self.c_fc.then(&self.ln_2.forward(&x)?, self.after(), |hidden| self.activation(hidden))?;
        let fed = self.c_proj.forward(&hidden)?;
        x.f_add(&fed).op(&self.name, &[&x, &fed])
    }

    /// f32\[.., width\] to the same.
    fn attention(&self, x: &Tensor, attend: Attend, kernel: Option<Attention>) -> Result<Tensor, ModelError> {
        let place = format!("{}.attn", self.name);
        let packed = self.in_proj.forward(x)?;
        let Attend::Groups(groups) = attend else {
            let causal = matches!(attend, Attend::Causal);
            let mixed = self.mix(&packed, causal, kernel).op(&place, &[&packed])?;
            return self.out_proj.forward(&mixed);
        };
        // One split: its backward is one concatenation, where a slice's is a tensor of zeros a slice.
        let sizes: Vec<i64> = groups.iter().map(|(rows, length)| rows * length).collect();
        let width = self.shape.width;
        // Their shapes change from batch to batch, and cuDNN makes a plan for every shape.
        let kernel = kernel.or(Some(Attention::Flash));
        let mixed = packed
            .f_split_with_sizes(&sizes[..], 0)
            .and_then(|parts| {
                let each = parts.iter().zip(groups).map(|(part, &(rows, length))| {
                    self.mix(&part.f_view([rows, length, 3 * width])?, true, kernel)?.f_view([rows * length, width])
                });
                let mixed = each.collect::<Result<Vec<_>, _>>()?;
                if let [one] = &mixed[..] { Ok(one.shallow_clone()) } else { Tensor::f_cat(&mixed, 0) }
            })
            .op(&place, &[&packed])?;
        self.out_proj.forward(&mixed)
    }

    /// Attention itself: queries, keys and values \[n, tokens, 3 * width\] to \[n, tokens, width\].
    fn mix(&self, packed: &Tensor, causal: bool, kernel: Option<Attention>) -> Result<Tensor, TchError> {
        let (n, tokens, _) = packed.size3()?;
        let (width, heads) = (self.shape.width, self.shape.heads);
        // Split where they lie side by side, for the same reason as above.
        let parts = packed.f_split(width, -1)?;
        let head = |part: &Tensor| part.f_view([n, tokens, heads, width / heads])?.f_transpose(1, 2);
        let (q, k, v) = (head(&parts[0])?, head(&parts[1])?, head(&parts[2])?);
        let mixed = match kernel {
            Some(kernel) => attention_by(kernel, &q, &k, &v, causal).map_err(|error| TchError::Torch(error.message))?,
            None => {
                Tensor::f_scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, causal, None::<f64>, false)?
            }
        };
        mixed.f_transpose(1, 2)?.f_reshape([n, tokens, width])
    }

    /// The activation in oneDNN's terms; QuickGELU is folded then.
    const fn after(&self) -> After {
        match self.shape.activation {
            Activation::Gelu => After::Gelu,
            Activation::GeluTanh => After::GeluTanh,
            Activation::QuickGelu => After::Silu,
        }
    }

    fn activation(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        if self.folded { x.f_silu().op("QuickGELU", &[x]) } else { self.shape.activation.of(x) }
    }
}

/// A stack of residual attention blocks.
#[derive(Debug)]
pub struct Transformer {
    blocks: Vec<Block>,
    /// Whose attention a card computes; `None` leaves it to libtorch.
    pub(crate) kernel: Option<Attention>,
}

impl Transformer {
    /// Adds the blocks at `path`, by number.
    pub(crate) fn new(path: &Path, layers: i64, shape: BlockShape, names: &BlockNames) -> Result<Self, ModelError> {
        let blocks = path.sub(names.blocks);
        let blocks = (0..layers).map(|i| Block::new(&blocks.sub(i), shape, names)).collect::<Result<_, _>>()?;
        Ok(Self { blocks, kernel: None })
    }

    /// Has QuickGELU computed in one pass over the hidden values instead of three: `x * sigmoid(1.702 x)` is `silu(1.702 x) / 1.702`,
    /// and both factors go into the weights, whose values are others then. Does nothing under another activation.
    pub(crate) fn fold_quick_gelu(&mut self) -> Result<(), ModelError> {
        let _no_grad = tch::no_grad_guard();
        for block in
            self.blocks.iter_mut().filter(|block| block.shape.activation == Activation::QuickGelu && !block.folded)
        {
            for tensor in [&mut block.c_fc.weight, &mut block.c_fc.bias] {
                let _same = tensor.f_mul_scalar_(1.702).op("QuickGELU", &[])?;
            }
            let _same = block.c_proj.weight.f_div_scalar_(1.702).op("QuickGELU", &[])?;
            block.folded = true;
        }
        Ok(())
    }

    /// Lays all weights as oneDNN reads them, for inputs of `rows` rows, and folds QuickGELU; for weights that are computed with only.
    pub(crate) fn pack(&mut self, rows: i64) -> Result<(), ModelError> {
        self.fold_quick_gelu()?;
        for block in &mut self.blocks {
            for layer in [&mut block.in_proj, &mut block.out_proj, &mut block.c_fc, &mut block.c_proj] {
                layer.pack(rows)?;
            }
        }
        Ok(())
    }

    /// Has oneDNN multiply, with gradients; for f32 on a CPU.
    pub(crate) fn multiply_by_onednn(&mut self) {
        for block in &mut self.blocks {
            for layer in [&mut block.in_proj, &mut block.out_proj, &mut block.c_fc, &mut block.c_proj] {
                layer.products = Products::OneDnn;
            }
        }
    }

    /// f32\[n, tokens, width\] to the same; with groups f32\[tokens, width\].
    pub(crate) fn forward(&self, x: Tensor, attend: Attend) -> Result<Tensor, ModelError> {
        self.blocks.iter().try_fold(x, |x, block| block.forward(&x, attend, self.kernel))
    }
}
