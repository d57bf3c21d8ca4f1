// Streams, events, pinned memory and asynchronous copies through c10's device-agnostic interfaces: the kernels behind them
// come with libtorch_cuda, its headers are not needed.
#include "border.h"

#include <ATen/Context.h>
#include <c10/core/Event.h>
#include <c10/core/GradMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

using trommel::guarded;

namespace {

c10::Device card(int index) { return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index)); }

struct Stream {
  c10::Stream stream;
};

struct Event {
  c10::Event event{c10::kCUDA};
};

struct Entered {
  c10::StreamGuard guard;
};

}  // namespace

// A stream of the card's pool, which runs beside the others; an urgent one's kernels go before those that wait on others.
TROMMEL_EXPORT char* trommel_stream_new(int index, int urgent, Stream** out) {
  return guarded([&] {
    const c10::impl::VirtualGuardImpl guard(c10::kCUDA);
    *out = new Stream{guard.getStreamFromGlobalPool(card(index), /*isHighPriority=*/urgent != 0)};
  });
}

// The stream that this thread's work on the card goes to.
TROMMEL_EXPORT char* trommel_stream_current(int index, Stream** out) {
  return guarded([&] {
    const c10::impl::VirtualGuardImpl guard(c10::kCUDA);
    *out = new Stream{guard.getStream(card(index))};
  });
}

TROMMEL_EXPORT void trommel_stream_free(Stream* stream) { delete stream; }

TROMMEL_EXPORT char* trommel_stream_synchronize(const Stream* stream) {
  return guarded([&] { stream->stream.synchronize(); });
}

// Makes the stream the calling thread's current one, and its card the current card, until the other function is called on
// the same thread.
TROMMEL_EXPORT char* trommel_stream_enter(const Stream* stream, Entered** out) {
  return guarded([&] { *out = new Entered{c10::StreamGuard(stream->stream)}; });
}

TROMMEL_EXPORT char* trommel_stream_leave(Entered* entered) {
  return guarded([&] { delete entered; });
}

TROMMEL_EXPORT char* trommel_event_new(Event** out) {
  return guarded([&] { *out = new Event{}; });
}

TROMMEL_EXPORT void trommel_event_free(Event* event) { delete event; }

TROMMEL_EXPORT char* trommel_event_record(Event* event, const Stream* stream) {
  return guarded([&] { event->event.record(stream->stream); });
}

// The stream's later work waits for what was recorded last.
TROMMEL_EXPORT char* trommel_event_block(const Event* event, const Stream* stream) {
  return guarded([&] { event->event.block(stream->stream); });
}

TROMMEL_EXPORT char* trommel_event_query(const Event* event, int* done) {
  return guarded([&] { *done = event->event.query() ? 1 : 0; });
}

TROMMEL_EXPORT char* trommel_event_synchronize(const Event* event) {
  return guarded([&] { event->event.synchronize(); });
}

// An uninitialised tensor in pinned host memory. `kind` is libtorch's number of a scalar type.
TROMMEL_EXPORT char* trommel_pinned(const int64_t* shape, size_t dims, int kind, at::Tensor** out) {
  return guarded([&] {
    const auto options = at::TensorOptions().dtype(static_cast<at::ScalarType>(kind)).pinned_memory(true);
    *out = new at::Tensor(at::empty(at::IntArrayRef(shape, dims), options));
  });
}

// Copies on the current stream without waiting for it, where one side is pinned and the other on a card.
TROMMEL_EXPORT char* trommel_copy_async(at::Tensor* to, const at::Tensor* from) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    to->copy_(*from, /*non_blocking=*/true);
  });
}

// Which attention is tried first, by libtorch's numbers; holds for the whole process.
TROMMEL_EXPORT char* trommel_attention_order(const int64_t* order, size_t count) {
  return guarded([&] { at::globalContext().setSDPPriorityOrder(std::vector<int64_t>(order, order + count)); });
}
