// Autocast for CPU and CUDA. All of its state is of the calling thread.
#include "border.h"

#include <ATen/autocast_mode.h>

namespace {
at::DeviceType device_type(int device) { return device == 0 ? at::kCPU : at::kCUDA; }
}  // namespace

TROMMEL_EXPORT void trommel_free_error(char* text) { std::free(text); }

// Switches autocast to bf16 on a device (0 CPU, 1 CUDA); `before` receives what to restore.
TROMMEL_EXPORT char* trommel_autocast_enter(int device, int* enabled_before, int* dtype_before) {
  return trommel::guarded([&] {
    const auto type = device_type(device);
    *enabled_before = at::autocast::is_autocast_enabled(type) ? 1 : 0;
    *dtype_before = static_cast<int>(at::autocast::get_autocast_dtype(type));
    at::autocast::set_autocast_dtype(type, at::kBFloat16);
    at::autocast::set_autocast_enabled(type, true);
    at::autocast::increment_nesting();
  });
}

// Restores what `enter` found. The outermost one drops the weights cast meanwhile: a cast made without
// gradients must not serve a later pass that needs them.
TROMMEL_EXPORT char* trommel_autocast_leave(int device, int enabled_before, int dtype_before) {
  return trommel::guarded([&] {
    const auto type = device_type(device);
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(type, enabled_before != 0);
    at::autocast::set_autocast_dtype(type, static_cast<at::ScalarType>(dtype_before));
  });
}
