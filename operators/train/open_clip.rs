//! The optimiser's state as open_clip's trainer keeps it, so that `open_clip_train.main --resume epoch_N.pt` goes on from a
//! checkpoint of ours.
//!
//! PyTorch's optimisers know parameters by number: first those without weight decay, then the others, each group in the order
//! of the model's `named_parameters()`, which is that of a module's own parameters before its children's.

use std::collections::BTreeMap;

use tch::Tensor;
use trommel_bridge::Value;
use trommel_model::family::ParameterPlace;

use super::optim::AdamW;

/// `optimizer.state_dict()` of `torch.optim.AdamW` over open_clip's two groups.
pub(super) fn optimizer(adamw: &AdamW, lr: f64, place: impl Fn(&str) -> ParameterPlace) -> Value {
    let mut moments: BTreeMap<String, Tensor> = adamw.state().into_iter().collect();
    let (exempt, decayed) = adamw.groups();
    let (mut state, mut groups) = (Vec::new(), Vec::new());
    for (names, weight_decay) in [(exempt, 0.0), (decayed, adamw.weight_decay)] {
        let mut names: Vec<&String> = names.iter().collect();
        names.sort_by_key(|name| (place(name), *name));
        let mut numbers = Vec::with_capacity(names.len());
        for name in names {
            let number = Value::Int(i64::try_from(state.len()).unwrap_or(i64::MAX));
            let held = ["step", "exp_avg", "exp_avg_sq"].into_iter();
            let held = held.filter_map(|kind| Some((kind, Value::Tensor(moments.remove(&format!("{kind}.{name}"))?))));
            state.push((number, Value::named(held)));
            numbers.push(Value::Int(i64::try_from(state.len() - 1).unwrap_or(i64::MAX)));
        }
        groups.push(Value::named([
            ("lr", Value::Float(lr)),
            ("betas", Value::Tuple(vec![Value::Float(adamw.beta1), Value::Float(adamw.beta2)])),
            ("eps", Value::Float(adamw.eps)),
            ("weight_decay", Value::Float(weight_decay)),
            ("amsgrad", Value::Bool(false)),
            ("maximize", Value::Bool(false)),
            ("foreach", Value::None),
            ("capturable", Value::Bool(false)),
            ("differentiable", Value::Bool(false)),
            ("fused", Value::None),
            ("decoupled_weight_decay", Value::Bool(true)),
            ("params", Value::List(numbers)),
        ]));
    }
    Value::named([("state", Value::Dict(state)), ("param_groups", Value::List(groups))])
}
