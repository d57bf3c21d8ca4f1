// c10d's store and groups: rendezvous, collectives on tensors, and a gather that gradients flow back through.
#define USE_C10D_GLOO
#include "group.h"

#include <c10/util/Logging.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <mutex>
#include <typeinfo>

using std::chrono::milliseconds;
using trommel::borrow;
using trommel::Group;
using trommel::GroupHandle;
using trommel::guarded;
using trommel::Store;

namespace trommel {

c10::intrusive_ptr<c10d::Store> fresh(const Store& store, const std::string& kind, int rank) {
  const auto number = store.store->add(c10::str(kind, "/groups of rank ", rank), 1);
  return c10::make_intrusive<c10d::PrefixStore>(c10::str(kind, "/", number), store.store);
}

GroupHandle wrap(
    const Store& store,
    const c10::intrusive_ptr<c10d::Backend>& backend,
    Breakable* breakable,
    c10::DeviceType device,
    c10d::ProcessGroup::BackendType kind) {
  auto out = c10::make_intrusive<Group>();
  out->group = c10::make_intrusive<c10d::ProcessGroup>(store.store, backend->getRank(), backend->getSize());
  out->group->setBackend(device, kind, backend);
  out->group->setDefaultBackend(kind);
  out->group->setGroupName("trommel");
  out->backend = backend;
  out->breakable = breakable;
  return out;
}

}  // namespace trommel

namespace {

class Gloo final : public c10d::ProcessGroupGloo, public trommel::Breakable {
 public:
  using ProcessGroupGloo::ProcessGroupGloo;
  using WorkHandle = c10::intrusive_ptr<c10d::Work>;

  // c10d counts a group's calls without a lock, and notes the calls of all groups of a process in one map without one.
  // The order of calls is still the callers' to agree on.
  WorkHandle allreduce(std::vector<at::Tensor>& tensors, const c10d::AllreduceOptions& options) override {
    std::lock_guard<std::mutex> lock(calls());
    return ProcessGroupGloo::allreduce(tensors, options);
  }

  WorkHandle broadcast(std::vector<at::Tensor>& tensors, const c10d::BroadcastOptions& options) override {
    std::lock_guard<std::mutex> lock(calls());
    return ProcessGroupGloo::broadcast(tensors, options);
  }

  WorkHandle _allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions& options) override {
    std::lock_guard<std::mutex> lock(calls());
    return ProcessGroupGloo::_allgather_base(output, input, options);
  }

  void break_off() override {
    for (auto& context : contexts_) {
      for (int rank = 0; rank < getSize(); ++rank) {
        auto* pair = rank == getRank() ? nullptr : context->getPair(rank).get();
        if (pair == nullptr) continue;
        // As gloo does it at a timeout: whatever waits for this pair throws, and the connection is closed.
        if (std::strcmp(typeid(*pair).name(), "N4gloo9transport3tcp4PairE") == 0) {
          reinterpret_cast<::gloo::transport::tcp::Pair*>(pair)->signalExceptionExternal("the group was aborted");
        }
      }
      context->closeConnections();
    }
  }

  // Its threads give up at the timeout of the group, and the exception comes out here.
  void settle(const WorkHandle& work) override { work->wait(); }

 private:
  static std::mutex& calls() {
    static std::mutex mutex;
    return mutex;
  }
};

// Rows of all ranks, in the order of the ranks. Backward, every rank holds the gradient of its own loss by all rows: the
// sum over ranks of what belongs to this rank's rows.
struct Gather : torch::autograd::Function<Gather> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* context,
      const at::Tensor& rows,
      const c10::intrusive_ptr<torch::CustomClassHolder>& capsule) {
    auto& group = static_cast<Group&>(*capsule);
    context->saved_data["group"] = c10::IValue::make_capsule(capsule);
    group.check();
    auto input = rows.detach().contiguous();
    auto shape = input.sizes().vec();
    shape.at(0) *= group.backend->getSize();
    auto output = at::empty(shape, input.options());
    group.backend->_allgather_base(output, input)->wait();
    return output;
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context,
      const torch::autograd::variable_list& incoming) {
    auto capsule = context->saved_data["group"].toCapsule();
    auto& group = static_cast<Group&>(*capsule);
    group.check();
    c10::NoGradGuard no_grad;
    // A copy: what comes in may be held by others.
    std::vector<at::Tensor> sum{incoming.at(0).detach().clone(at::MemoryFormat::Contiguous)};
    group.backend->allreduce(sum)->wait();
    const auto rows = sum[0].size(0) / group.backend->getSize();
    return {sum[0].narrow(0, group.backend->getRank() * rows, rows), at::Tensor()};
  }
};

// Begins the collective of every tensor, then waits for all.
template <typename Collective>
void each(Group& group, at::Tensor* const* tensors, size_t count, Collective&& collective) {
  group.check();
  c10::NoGradGuard no_grad;
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  for (auto& tensor : borrow(tensors, count)) {
    std::vector<at::Tensor> one{tensor.detach()};
    TORCH_CHECK(one[0].is_contiguous(), "a tensor that is not contiguous");
    works.push_back(collective(one));
  }
  for (auto& work : works) group.breakable->settle(work);
}

// c10d writes pages to standard error about what it throws as well. Whoever wants them says so in libtorch's own variable.
void be_quiet() {
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = 3;
}

c10d::TCPStoreOptions store_options(uint16_t port, size_t size, int64_t timeout_ms) {
  be_quiet();
  c10d::TCPStoreOptions options;
  options.port = port;
  options.numWorkers = size;
  options.waitWorkers = false;
  options.timeout = milliseconds(timeout_ms);
  return options;
}

}  // namespace

// The store's server on a socket that listens already (which becomes its own), and a client of it at `host`.
TROMMEL_EXPORT char* trommel_store_serve(
    const char* host, int socket, uint16_t port, size_t size, int64_t timeout_ms, Store** out) {
  return guarded([&] {
    auto options = store_options(port, size, timeout_ms);
    options.isServer = true;
    options.masterListenFd = socket;
    *out = new Store{c10::make_intrusive<c10d::TCPStore>(host, options)};
  });
}

TROMMEL_EXPORT char* trommel_store_connect(
    const char* host, uint16_t port, size_t size, int64_t timeout_ms, Store** out) {
  return guarded([&] {
    *out = new Store{c10::make_intrusive<c10d::TCPStore>(host, store_options(port, size, timeout_ms))};
  });
}

TROMMEL_EXPORT void trommel_store_free(Store* store) {
  auto* message = guarded([&] { delete store; });
  std::free(message);
}

TROMMEL_EXPORT char* trommel_group_gloo(
    const Store* store, int rank, int size, const char* host, int64_t timeout_ms, Group** out) {
  return guarded([&] {
    auto options = c10d::ProcessGroupGloo::Options::create(milliseconds(timeout_ms));
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(host));
    auto backend = c10::make_intrusive<Gloo>(trommel::fresh(*store, "gloo", rank), rank, size, options);
    auto* breakable = static_cast<trommel::Breakable*>(backend.get());
    *out = trommel::wrap(*store, backend, breakable, at::kCPU, c10d::ProcessGroup::BackendType::GLOO).release();
  });
}

TROMMEL_EXPORT void trommel_group_free(Group* group) {
  auto* message = guarded([&] { GroupHandle::reclaim(group).reset(); });
  std::free(message);
}

// How long each later collective may take.
TROMMEL_EXPORT char* trommel_group_timeout(Group* group, int64_t timeout_ms) {
  return guarded([&] { group->backend->setTimeout(milliseconds(timeout_ms)); });
}

TROMMEL_EXPORT char* trommel_group_abort(Group* group) {
  return guarded([&] {
    if (!group->broken.exchange(true)) group->breakable->break_off();
  });
}

// In place, one collective a tensor: the sum over ranks, or with `largest` the maximum.
TROMMEL_EXPORT char* trommel_group_all_reduce(Group* group, at::Tensor* const* tensors, size_t count, int largest) {
  return guarded([&] {
    c10d::AllreduceOptions options;
    options.reduceOp = largest != 0 ? c10d::ReduceOp::MAX : c10d::ReduceOp::SUM;
    each(*group, tensors, count, [&](auto& one) { return group->backend->allreduce(one, options); });
  });
}

TROMMEL_EXPORT char* trommel_group_broadcast(Group* group, at::Tensor* const* tensors, size_t count, int root) {
  return guarded([&] {
    c10d::BroadcastOptions options;
    options.rootRank = root;
    each(*group, tensors, count, [&](auto& one) { return group->backend->broadcast(one, options); });
  });
}

TROMMEL_EXPORT char* trommel_group_gather(Group* group, const at::Tensor* rows, at::Tensor** out) {
  return guarded([&] {
    const auto capsule = c10::intrusive_ptr<torch::CustomClassHolder>(GroupHandle::reclaim_copy(group));
    *out = new at::Tensor(Gather::apply(*rows, capsule));
  });
}
