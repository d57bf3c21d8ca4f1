// NCCL's C interface, as far as it is used here, opened at run time.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/Types.hpp>

#include <dlfcn.h>

#include <type_traits>

namespace trommel::nccl {

// What is used of NCCL's interface, which has been the same since 2.4 (bfloat16 and the average: 2.10).
using Result = int;
using Comm = void*;
using CudaStream = void*;
struct UniqueId {
  char bytes[128];
};
constexpr Result kSuccess = 0;
constexpr Result kInProgress = 7;

struct Nccl {
  Result (*version)(int*);
  Result (*unique_id)(UniqueId*);
  Result (*init)(Comm*, int, UniqueId, int);
  Result (*all_reduce)(const void*, void*, size_t, int, int, Comm, CudaStream);
  Result (*all_gather)(const void*, void*, size_t, int, Comm, CudaStream);
  Result (*broadcast)(const void*, void*, size_t, int, int, Comm, CudaStream);
  Result (*async_error)(Comm, Result*);
  Result (*abort)(Comm);
  Result (*destroy)(Comm);
  const char* (*error_string)(Result);

  // The library stays open as long as the process: its threads may outlive a communicator.
  explicit Nccl(const char* path) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* why = dlerror();
      TORCH_CHECK(false, "cannot open ", path, ": ", why == nullptr ? "unknown" : why);
    }
    const auto find = [&](auto& function, const char* name) {
      void* symbol = dlsym(library, name);
      TORCH_CHECK(symbol != nullptr, path, " has no ", name, ": not NCCL?");
      function = reinterpret_cast<std::decay_t<decltype(function)>>(symbol);
    };
    find(version, "ncclGetVersion");
    find(unique_id, "ncclGetUniqueId");
    find(init, "ncclCommInitRank");
    find(all_reduce, "ncclAllReduce");
    find(all_gather, "ncclAllGather");
    find(broadcast, "ncclBroadcast");
    find(async_error, "ncclCommGetAsyncError");
    find(abort, "ncclCommAbort");
    find(destroy, "ncclCommDestroy");
    find(error_string, "ncclGetErrorString");
  }

  void check(Result result, const char* what) const {
    TORCH_CHECK(result == kSuccess || result == kInProgress, "NCCL, ", what, ": ", error_string(result));
  }
};

inline int data_type(at::ScalarType type) {
  switch (type) {
    case at::kChar:
      return 0;
    case at::kByte:
    case at::kBool:
      return 1;
    case at::kInt:
      return 2;
    case at::kLong:
      return 4;
    case at::kHalf:
      return 6;
    case at::kFloat:
      return 7;
    case at::kDouble:
      return 8;
    case at::kBFloat16:
      return 9;
    default:
      TORCH_CHECK(false, "NCCL has no ", type);
  }
}

inline int reduction(c10d::ReduceOp::RedOpType op) {
  switch (op) {
    case c10d::ReduceOp::SUM:
      return 0;
    case c10d::ReduceOp::PRODUCT:
      return 1;
    case c10d::ReduceOp::MAX:
      return 2;
    case c10d::ReduceOp::MIN:
      return 3;
    case c10d::ReduceOp::AVG:
      return 4;
    default:
      TORCH_CHECK(false, "a reduction that NCCL lacks");
  }
}

}  // namespace trommel::nccl
