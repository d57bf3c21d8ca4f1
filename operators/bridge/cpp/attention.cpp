// Attention whose kernel is chosen call by call.
#include "border.h"

#include <atomic>

using trommel::guarded;

// FlashAttention 2 on a card in half precision, whatever libtorch would try first; libtorch's choice elsewhere, and on a card that
// refuses it. For shapes that change from call to call: cuDNN makes a plan for each.
TROMMEL_EXPORT char* trommel_attention_of_any_shape(
    const at::Tensor* q, const at::Tensor* k, const at::Tensor* v, int causal, at::Tensor** out) {
  return guarded([&] {
    static std::atomic<bool> refused{false};
    const auto kind = q->scalar_type();
    if (q->is_cuda() && (kind == at::kBFloat16 || kind == at::kHalf) && !refused) {
      try {
        const auto all = at::_scaled_dot_product_flash_attention(*q, *k, *v, 0.0, causal != 0, false);
        *out = new at::Tensor(std::get<0>(all));
        return;
      } catch (const c10::Error&) {
        refused = true;
      }
    }
    *out = new at::Tensor(at::scaled_dot_product_attention(*q, *k, *v, {}, 0.0, causal != 0));
  });
}
