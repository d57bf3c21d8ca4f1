// A group of processes that work on one model: what group.cpp, reducer.cpp and nccl.cpp share.
#pragma once

#include "border.h"

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <atomic>
#include <chrono>

namespace trommel {

// A backend that can be broken off from another thread. What waits in it then fails, here and on the other ranks.
class Breakable {
 public:
  virtual ~Breakable() = default;
  virtual void break_off() = 0;
  // Blocks until what was asked of it has happened; throws what went wrong.
  virtual void settle(const c10::intrusive_ptr<c10d::Work>& work) = 0;
};

// Held by Rust through a pointer, and by every graph that gathers through it.
struct Group : torch::CustomClassHolder {
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  c10::intrusive_ptr<c10d::Backend> backend;
  // The same object as `backend`.
  Breakable* breakable = nullptr;
  std::atomic<bool> broken{false};

  void check() const { TORCH_CHECK(!broken.load(), "the group was aborted"); }
};

using GroupHandle = c10::intrusive_ptr<Group>;

struct Store {
  c10::intrusive_ptr<c10d::Store> store;
};

// A corner of the store for the next group of this kind that all ranks make.
c10::intrusive_ptr<c10d::Store> fresh(const Store& store, const std::string& kind, int rank);

// c10d's face of a backend, for its dispatcher and its Reducer.
GroupHandle wrap(
    const Store& store,
    const c10::intrusive_ptr<c10d::Backend>& backend,
    Breakable* breakable,
    c10::DeviceType device,
    c10d::ProcessGroup::BackendType kind);

}  // namespace trommel
