// Backward with given gradients, gradient norms, and the fused AdamW step.
#include "border.h"

#include <ATen/autocast_mode.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

using trommel::borrow;
using trommel::guarded;

// Accumulates d(sum_i <tensors[i], grads[i]>)/d(leaf) into the leaves.
TROMMEL_EXPORT char* trommel_backward(at::Tensor* const* tensors, at::Tensor* const* grads, size_t count) {
  return guarded([&] { torch::autograd::backward(borrow(tensors, count), borrow(grads, count)); });
}

// Forgets the gradients of leaves.
TROMMEL_EXPORT char* trommel_zero_grad(at::Tensor* const* params, size_t count) {
  return guarded([&] {
    for (auto& param : borrow(params, count)) param.mutable_grad().reset();
  });
}

// L2 norm over all gradients, f64[] on their device, summed in f64 over the tensors' f32 norms; scales them by
// min(1, max_norm / (norm + 1e-6)) where max_norm > 0 and the norm is finite. Parameters without a gradient take no part.
// Nothing waits for the device.
TROMMEL_EXPORT char* trommel_clip_grad_norm(
    at::Tensor* const* params, size_t count, double max_norm, at::Tensor** norm) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    std::vector<at::Tensor> grads;
    for (auto& param : borrow(params, count)) {
      if (param.grad().defined()) grads.push_back(param.grad());
    }
    if (grads.empty()) {
      const auto device = count == 0 ? at::Device(at::kCPU) : params[0]->device();
      *norm = new at::Tensor(at::zeros({}, at::device(device).dtype(at::kDouble)));
      return;
    }
    const auto total = at::stack(at::_foreach_norm(grads, 2)).to(at::kDouble).square().sum().sqrt();
    if (max_norm > 0.0) {
      // A norm that is not finite leaves the gradients as they are, so that the bad one can be named.
      const auto factor = at::where(total.isfinite(), (max_norm / (total + 1e-6)).clamp_max(1.0), at::ones_like(total));
      at::_foreach_mul_(grads, factor.to(grads[0].scalar_type()));
    }
    *norm = new at::Tensor(total);
  });
}

// One AdamW step (decoupled decay, bias correction) over parameters that have a gradient, in place and in one pass over
// the memory. `steps` are f32 scalars, one a parameter, on its device. `skip`, f32[] there: 1 leaves everything as it is, 0 does
// not; the device reads it when it comes to it.
TROMMEL_EXPORT char* trommel_adamw_step(
    at::Tensor* const* params,
    at::Tensor* const* exp_avgs,
    at::Tensor* const* exp_avg_sqs,
    at::Tensor* const* steps,
    size_t count,
    const at::Tensor* skip,
    double lr,
    double beta1,
    double beta2,
    double weight_decay,
    double eps) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    std::vector<at::Tensor> p, g, m, v, t;
    for (size_t i = 0; i < count; ++i) {
      const auto& grad = params[i]->grad();
      if (!grad.defined()) continue;
      p.push_back(*params[i]);
      g.push_back(grad);
      m.push_back(*exp_avgs[i]);
      v.push_back(*exp_avg_sqs[i]);
      t.push_back(*steps[i]);
    }
    if (p.empty()) return;
    at::_foreach_add_(t, 1 - *skip);
    at::_fused_adamw_(p, g, m, v, {}, t, lr, beta1, beta2, weight_decay, eps, false, false, std::nullopt, *skip);
  });
}
