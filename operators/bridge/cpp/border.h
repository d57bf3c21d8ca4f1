// What every file of the bridge stands on: tensors as tch passes them, and errors as text.
//
// No exception leaves a function of the bridge. Each returns null, or a message that the caller hands back to
// `trommel_free_error`.
#pragma once

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#define TROMMEL_EXPORT extern "C" __attribute__((visibility("default")))

namespace trommel {

inline char* message(const char* text) noexcept {
  const size_t size = std::strlen(text) + 1;
  char* copy = static_cast<char*>(std::malloc(size));
  if (copy == nullptr) std::abort();
  std::memcpy(copy, text, size);
  return copy;
}

template <typename Body>
char* guarded(Body&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return message(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return message(error.what());
  } catch (...) {
    return message("an exception of unknown type");
  }
}

// tch owns the tensors; these are shallow copies of `count` of them. A null pointer is an undefined tensor.
inline std::vector<at::Tensor> borrow(at::Tensor* const* tensors, size_t count) {
  std::vector<at::Tensor> out;
  out.reserve(count);
  for (size_t i = 0; i < count; ++i) out.push_back(tensors[i] == nullptr ? at::Tensor() : *tensors[i]);
  return out;
}

}  // namespace trommel
