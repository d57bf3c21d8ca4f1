// NVIDIA's NCCL as a backend of c10d, through its C interface opened at run time.
//
// libtorch's own NCCL backend is part of its CUDA libraries, whose headers and symbols a build for the CPU lacks. This one
// needs neither: streams, events and the current device come through c10's generic guards, which answer for CUDA as soon
// as libtorch's CUDA libraries are loaded.
//
// Collectives are queued on a stream of the backend's own, after what the caller's stream holds. Nothing but `settle` makes
// the host wait. A watchdog breaks the communicator off where NCCL reports an error or a collective takes longer than the
// timeout; NCCL's kernels then end, and the next `settle` or collective throws.
#include "group.h"
#include "nccl.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using trommel::Group;
using trommel::guarded;
using trommel::Store;
using namespace trommel::nccl;

namespace {

using SharedEvent = std::shared_ptr<c10::Event>;

// Done when `event` is. Waiting makes the caller's stream wait, not the host.
class NcclWork final : public c10d::Work {
 public:
  NcclWork(int rank, c10d::OpType type, c10::Device device, std::vector<at::Tensor> outputs)
      : Work(rank, type),
        device_(device),
        event_(std::make_shared<c10::Event>(device.type())),
        outputs_(std::move(outputs)),
        future_(c10::make_intrusive<c10::ivalue::Future>(
            c10::ListType::create(c10::TensorType::get()), std::vector<c10::Device>{device})) {}

  // On the backend's stream, which is current.
  void queued(const c10::Stream& stream) {
    event_->record(stream);
    future_->markCompleted(c10::IValue(outputs_));
  }

  const SharedEvent& event() const { return event_; }
  bool isCompleted() override { return event_->query(); }
  bool isSuccess() const override { return event_->query(); }
  std::vector<at::Tensor> result() override { return outputs_; }
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }

  void synchronize() override { event_->block(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_)); }

  bool wait(milliseconds /*timeout*/) override {
    synchronize();
    return true;
  }

 private:
  c10::Device device_;
  SharedEvent event_;
  std::vector<at::Tensor> outputs_;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

class NcclBackend final : public c10d::Backend, public trommel::Breakable {
 public:
  using WorkHandle = c10::intrusive_ptr<c10d::Work>;

  NcclBackend(
      std::shared_ptr<const Nccl> nccl, c10d::Store& store, int rank, int size, c10::Device device, milliseconds timeout)
      : Backend(rank, size),
        nccl_(std::move(nccl)),
        device_(device),
        guard_(device.type()),
        stream_(guard_.getStreamFromGlobalPool(device, /*isHighPriority=*/true)),
        timeout_(timeout) {
    comm_ = meet(store);
    watchdog_ = std::thread([this] { watch(); });
  }

  ~NcclBackend() override {
    {
      std::lock_guard<std::mutex> lock(pending_mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    watchdog_.join();
    if (auto* comm = comm_.exchange(nullptr)) {
      c10::DeviceGuard on(device_);
      nccl_->destroy(comm);
    }
  }

  const std::string getBackendName() const override { return "nccl"; }
  void setTimeout(milliseconds timeout) override { timeout_ = timeout; }
  void abort() override { break_off(); }

  WorkHandle allreduce(std::vector<at::Tensor>& tensors, const c10d::AllreduceOptions& options) override {
    return queue(c10d::OpType::ALLREDUCE, tensors, tensors, "all-reduce", [&](Comm comm, CudaStream stream) {
      auto& x = only(tensors);
      const int op = reduction(options.reduceOp);
      return nccl_->all_reduce(x.data_ptr(), x.data_ptr(), x.numel(), data_type(x.scalar_type()), op, comm, stream);
    });
  }

  WorkHandle broadcast(std::vector<at::Tensor>& tensors, const c10d::BroadcastOptions& options) override {
    return queue(c10d::OpType::BROADCAST, tensors, tensors, "broadcast", [&](Comm comm, CudaStream stream) {
      auto& x = only(tensors);
      const int root = static_cast<int>(options.rootRank);
      return nccl_->broadcast(x.data_ptr(), x.data_ptr(), x.numel(), data_type(x.scalar_type()), root, comm, stream);
    });
  }

  WorkHandle _allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions&) override {
    TORCH_CHECK(output.numel() == input.numel() * getSize(), "all-gather into ", output.sizes());
    std::vector<at::Tensor> inputs{input}, outputs{output};
    return queue(c10d::OpType::_ALLGATHER_BASE, inputs, outputs, "all-gather", [&](Comm comm, CudaStream stream) {
      const int type = data_type(input.scalar_type());
      return nccl_->all_gather(input.data_ptr(), output.data_ptr(), input.numel(), type, comm, stream);
    });
  }

  void break_off() override { fail("the group was aborted"); }

  void settle(const WorkHandle& work) override {
    while (!work->isCompleted()) {
      check();
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    check();
  }

 private:
  struct Pending {
    SharedEvent event;
    steady_clock::time_point deadline;
  };

  static at::Tensor& only(std::vector<at::Tensor>& tensors) {
    TORCH_CHECK(tensors.size() == 1, "one tensor a collective");
    return tensors[0];
  }

  // Rank 0's identifier reaches the others through the store, and so does that all are here: NCCL itself would wait for
  // a rank that does not come without end.
  Comm meet(c10d::Store& store) {
    UniqueId id{};
    if (getRank() == 0) {
      nccl_->check(nccl_->unique_id(&id), "making an identifier");
      store.set("id", std::vector<uint8_t>(id.bytes, id.bytes + sizeof(id.bytes)));
    }
    store.set("here/" + std::to_string(getRank()), std::vector<uint8_t>{1});
    std::vector<std::string> all{"id"};
    for (int rank = 0; rank < getSize(); ++rank) all.push_back("here/" + std::to_string(rank));
    store.wait(all, timeout_.load());
    const auto bytes = store.get("id");
    TORCH_CHECK(bytes.size() == sizeof(id.bytes), "an identifier of ", bytes.size(), " bytes");
    std::memcpy(id.bytes, bytes.data(), sizeof(id.bytes));

    // On a thread of its own, which is left behind if a rank dies meanwhile.
    auto made = std::make_shared<std::promise<Comm>>();
    auto ready = made->get_future();
    std::thread([made, id, nccl = nccl_, device = device_, rank = getRank(), size = getSize()] {
      try {
        c10::DeviceGuard on(device);
        Comm comm = nullptr;
        nccl->check(nccl->init(&comm, size, id, rank), "connecting");
        made->set_value(comm);
      } catch (...) {
        made->set_exception(std::current_exception());
      }
    }).detach();
    TORCH_CHECK(
        ready.wait_for(timeout_.load()) == std::future_status::ready, "NCCL did not connect the ranks within ",
        timeout_.load().count(), " ms: NCCL_SOCKET_IFNAME names the network interface that it takes, NCCL_DEBUG=INFO has it say more");
    return ready.get();
  }

  template <typename Body>
  WorkHandle queue(
      c10d::OpType type,
      const std::vector<at::Tensor>& inputs,
      const std::vector<at::Tensor>& outputs,
      const char* what,
      Body&& body) {
    for (const auto* tensors : {&inputs, &outputs}) {
      for (const auto& tensor : *tensors) {
        TORCH_CHECK(tensor.device() == device_, what, " of a tensor on ", tensor.device());
        TORCH_CHECK(tensor.is_contiguous(), what, " of a tensor that is not contiguous");
      }
    }
    std::lock_guard<std::timed_mutex> lock(calls_);
    check();
    c10::DeviceGuard on(device_);
    // After what the caller has queued, and before its allocator gives the memory to anybody else.
    c10::Event before(device_.type());
    before.record(guard_.getStream(device_));
    before.block(stream_);
    for (const auto* tensors : {&inputs, &outputs}) {
      for (const auto& tensor : *tensors) guard_.recordDataPtrOnStream(tensor.storage().data_ptr(), stream_);
    }
    auto work = c10::make_intrusive<NcclWork>(getRank(), type, device_, outputs);
    c10::StreamGuard current(stream_);
    nccl_->check(body(comm_.load(), stream_.native_handle()), what);
    work->queued(stream_);
    {
      std::lock_guard<std::mutex> lock(pending_mutex_);
      pending_.push_back({work->event(), steady_clock::now() + timeout_.load()});
    }
    wake_.notify_all();
    return work;
  }

  void check() {
    std::lock_guard<std::mutex> lock(pending_mutex_);
    TORCH_CHECK(error_.empty(), error_);
  }

  // The first reason stays. Who waits in a call that holds the lock waits for NCCL: then it is broken off all the same.
  void fail(const std::string& why) {
    {
      std::lock_guard<std::mutex> lock(pending_mutex_);
      if (!error_.empty()) return;
      error_ = why;
    }
    std::unique_lock<std::timed_mutex> lock(calls_, std::chrono::seconds(2));
    if (auto* comm = comm_.exchange(nullptr)) {
      c10::OptionalDeviceGuard on;
      try {
        on.reset_device(device_);
      } catch (const std::exception&) {
        // A card that refuses even that is broken off all the same.
      }
      nccl_->abort(comm);
    }
  }

  void watch() {
    // A new thread's card is the first one, where every rank's watchdog would take a context of its own.
    c10::DeviceGuard on(device_);
    std::unique_lock<std::mutex> lock(pending_mutex_);
    while (!stop_) {
      if (pending_.empty()) {
        wake_.wait(lock, [&] { return stop_ || !pending_.empty(); });
        continue;
      }
      std::string why;
      try {
        while (!pending_.empty() && pending_.front().event->query()) pending_.pop_front();
        Result state = kSuccess;
        auto* comm = comm_.load();
        if (comm != nullptr && nccl_->async_error(comm, &state) == kSuccess && state != kSuccess && state != kInProgress) {
          why = c10::str("NCCL: ", nccl_->error_string(state));
        } else if (!pending_.empty() && pending_.front().deadline < steady_clock::now()) {
          why = c10::str("a collective took longer than ", timeout_.load().count(), " ms");
        }
      } catch (const std::exception& error) {
        why = error.what();
      }
      if (!why.empty()) {
        pending_.clear();
        lock.unlock();
        fail(why);
        lock.lock();
        continue;
      }
      wake_.wait_for(lock, milliseconds(20));
    }
  }

  std::shared_ptr<const Nccl> nccl_;
  c10::Device device_;
  c10::impl::VirtualGuardImpl guard_;
  c10::Stream stream_;
  std::atomic<milliseconds> timeout_;
  std::atomic<Comm> comm_{nullptr};
  std::timed_mutex calls_;

  std::mutex pending_mutex_;
  std::condition_variable wake_;
  std::deque<Pending> pending_;
  std::string error_;
  bool stop_ = false;
  std::thread watchdog_;
};

}  // namespace

// NCCL's version: major * 10000 + minor * 100 + patch.
TROMMEL_EXPORT char* trommel_nccl_version(const char* library, int* version) {
  return guarded([&] {
    const Nccl nccl(library);
    nccl.check(nccl.version(version), "asking for its version");
  });
}

TROMMEL_EXPORT char* trommel_group_nccl(
    const Store* store, int rank, int size, int device, int64_t timeout_ms, const char* library, Group** out) {
  return guarded([&] {
    const auto nccl = std::make_shared<const Nccl>(library);
    const c10::Device cuda(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    TORCH_CHECK(
        c10::impl::hasDeviceGuardImpl(at::kCUDA), "this libtorch has no CUDA: its CUDA libraries are not loaded");
    auto own = trommel::fresh(*store, "nccl", rank);
    auto backend = c10::make_intrusive<NcclBackend>(nccl, *own, rank, size, cuda, milliseconds(timeout_ms));
    auto* breakable = static_cast<trommel::Breakable*>(backend.get());
    *out = trommel::wrap(*store, backend, breakable, at::kCUDA, c10d::ProcessGroup::BackendType::NCCL).release();
  });
}
