// What libtorch's products are computed in.
#include "border.h"

#include <ATen/Context.h>

using trommel::guarded;

// Products of f32 are of f32, and sums of half-precision products stay in f32 where a product is split over its inner dimension,
// whatever the environment and libtorch's defaults say; holds for the whole process.
TROMMEL_EXPORT char* trommel_pin_precision() {
  return guarded([&] {
    auto& context = at::globalContext();
    context.setFloat32MatmulPrecision("highest");
    context.setAllowTF32CuDNN(false);
    context.setAllowFP16ReductionCuBLAS(false);
    context.setAllowBF16ReductionCuBLAS(false);
  });
}

// What is reduced now: 1 where TF32 may stand for f32 in cuBLAS, 2 in cuDNN, 4 where f16 may be summed in f16, 8 bf16 in bf16.
TROMMEL_EXPORT char* trommel_precision(int* out) {
  return guarded([&] {
    const auto& context = at::globalContext();
    const auto reduced = [](at::CuBLASReductionOption option) {
      return option == at::CuBLASReductionOption::AllowReducedPrecisionWithSplitK;
    };
    *out = (context.allowTF32CuBLAS() ? 1 : 0) | (context.allowTF32CuDNN() ? 2 : 0) |
           (reduced(context.allowFP16ReductionCuBLAS()) ? 4 : 0) | (reduced(context.allowBF16ReductionCuBLAS()) ? 8 : 0);
  });
}
