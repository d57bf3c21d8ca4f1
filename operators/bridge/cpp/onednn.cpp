// Products of f32 on a CPU by oneDNN, with weights that lie as its kernels read them, or with gradients.
//
// `at::linear` calls MKL for them, which keeps its fastest kernels for processors of one maker. libtorch's compiler reaches
// oneDNN's through two operators, and so do we: by name, since their functions are not exported.
#include "border.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <torch/csrc/autograd/custom_function.h>

using trommel::guarded;

namespace {

at::Tensor call(const char* name, torch::jit::Stack stack) {
  c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(&stack);
  return stack.at(0).toTensor();
}

// What follows the product, in oneDNN's names: the operator and its variant.
struct After {
  const char* name;
  const char* variant;
};
constexpr After kAfter[] = {{"none", ""}, {"gelu", "none"}, {"gelu", "tanh"}, {"swish", ""}};

at::Tensor product(
    const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias, const After& what = kAfter[0]) {
  return call(
      "mkldnn::_linear_pointwise",
      {x.contiguous(),
       weight,
       bias.has_value() ? c10::IValue(*bias) : c10::IValue(),
       what.name,
       c10::List<std::optional<at::Scalar>>(),
       what.variant});
}

// y = x W^T + b of x [.., in], whose gradients are two more such products.
class Linear : public torch::autograd::Function<Linear> {
 public:
  static at::Tensor forward(
      torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    at::AutoDispatchBelowADInplaceOrView below;
    context->save_for_backward({x, weight});
    return product(x, weight, bias);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    c10::NoGradGuard no_grad;
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const auto rows = x.reshape({-1, x.size(-1)});
    const auto grad = grads[0].reshape({-1, grads[0].size(-1)});
    at::Tensor of_x, of_weight, of_bias;
    if (context->needs_input_grad(0)) of_x = product(grad, weight.t(), std::nullopt).view(x.sizes());
    if (context->needs_input_grad(1)) {
      // The first factor is copied to lie row by row: the narrower one is.
      of_weight = grad.size(1) <= rows.size(1) ? product(grad.t(), rows.t(), std::nullopt)
                                               : product(rows.t(), grad.t(), std::nullopt).t().contiguous();
    }
    if (context->needs_input_grad(2)) of_bias = grad.sum(0);
    return {of_x, of_weight, of_bias};
  }
};

}  // namespace

TROMMEL_EXPORT char* trommel_linear(
    const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, at::Tensor** out) {
  return guarded([&] { *out = new at::Tensor(Linear::apply(*x, *weight, *bias)); });
}

TROMMEL_EXPORT char* trommel_has_onednn(int* out) {
  return guarded([&] {
    *out = at::hasMKLDNN() && c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""}).has_value();
  });
}

// Weight [out, in] for inputs of `rows` rows.
TROMMEL_EXPORT char* trommel_pack(const at::Tensor* weight, int64_t rows, at::Tensor** out) {
  return guarded([&] {
    *out = new at::Tensor(call("mkldnn::_reorder_linear_weight", {weight->contiguous(), c10::IValue(rows)}));
  });
}

TROMMEL_EXPORT char* trommel_packed_linear(
    const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, int after, at::Tensor** out) {
  return guarded([&] { *out = new at::Tensor(product(*x, *weight, *bias, kAfter[after])); });
}
