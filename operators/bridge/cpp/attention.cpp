// Attention whose kernel is chosen call by call.
#include "border.h"

#include <c10/core/GradMode.h>

#include <atomic>

using trommel::guarded;

// Attention on a card in half precision by one kernel, whatever libtorch would try first: 1 FlashAttention 2, 2 the memory-efficient one.
// By libtorch's choice elsewhere, and, which is said once, where that kernel refuses.
TROMMEL_EXPORT char* trommel_attention_by(
    const at::Tensor* q, const at::Tensor* k, const at::Tensor* v, int causal, int kernel, at::Tensor** out) {
  return guarded([&] {
    static std::atomic<bool> refused[3]{};
    const auto kind = q->scalar_type();
    const bool known = kernel == 1 || kernel == 2;
    if (q->is_cuda() && (kind == at::kBFloat16 || kind == at::kHalf) && known && !refused[kernel]) {
      try {
        if (kernel == 1) {
          *out = new at::Tensor(std::get<0>(at::_scaled_dot_product_flash_attention(*q, *k, *v, 0.0, causal != 0, false)));
        } else {
          const bool backward =
              c10::GradMode::is_enabled() && (q->requires_grad() || k->requires_grad() || v->requires_grad());
          *out = new at::Tensor(std::get<0>(at::_scaled_dot_product_efficient_attention(
              *q, *k, *v, std::nullopt, backward, 0.0, causal != 0)));
        }
        return;
      } catch (const c10::OutOfMemoryError&) {
        throw;  // No other kernel would help, and this one is not to blame.
      } catch (const c10::Error& error) {
        if (!refused[kernel].exchange(true)) {
          TORCH_WARN("attention by kernel ", kernel, " is refused, libtorch chooses from now on: ", error.what_without_backtrace());
        }
      }
    }
    *out = new at::Tensor(at::scaled_dot_product_attention(*q, *k, *v, {}, 0.0, causal != 0));
  });
}
