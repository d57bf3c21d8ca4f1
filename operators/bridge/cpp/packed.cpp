// Products of f32 on a CPU by oneDNN, with weights that lie as its kernels read them.
//
// `at::linear` calls MKL for them, which keeps its fastest kernels for processors of one maker. libtorch's compiler reaches
// oneDNN's through two operators, and so do we: by name, since their functions are not exported.
#include "border.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

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

}  // namespace

TROMMEL_EXPORT char* trommel_has_packed(int* out) {
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
  return guarded([&] {
    const After& what = kAfter[after];
    *out = new at::Tensor(call(
        "mkldnn::_linear_pointwise",
        {x->contiguous(),
         *weight,
         bias == nullptr ? c10::IValue() : c10::IValue(*bias),
         what.name,
         c10::List<std::optional<at::Scalar>>(),
         what.variant}));
  });
}
