// c10d's Reducer: gradients averaged over ranks, bucket by bucket, while backward goes on.
#include "group.h"

#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>

using trommel::borrow;
using trommel::Group;
using trommel::GroupHandle;
using trommel::guarded;

namespace {

// c10d would assign buckets anew after the first backward, by the order in which gradients came. With more than two ranks
// a sum's bits depend on its place in a bucket, so that a resumed run would differ from one that went through: here the
// first assignment stays.
class FixedBuckets final : public c10d::Reducer {
 public:
  using Reducer::Reducer;
  void keep_buckets() { has_rebuilt_bucket_ = true; }

  // Seconds of the last backward between two of its events, 0 where one did not happen.
  double seconds(c10d::Timer::Event from, c10d::Timer::Event to) {
    if (timer_ == nullptr) return 0.0;
    return std::max<double>(0.0, timer_->measureDifference(from, to).value_or(0)) * 1e-9;
  }
};

struct Reduced {
  // First: the reducer goes before the group that it uses.
  GroupHandle group;
  std::unique_ptr<FixedBuckets> reducer;
};

}  // namespace

// `params` in the order in which forward uses them: gradients come in the reverse, and so do buckets.
TROMMEL_EXPORT char* trommel_reducer_new(
    at::Tensor* const* params, size_t count, Group* group, size_t bucket_bytes, Reduced** out) {
  return guarded([&] {
    group->check();
    auto tensors = borrow(params, count);
    std::vector<at::Tensor> backwards(tensors.rbegin(), tensors.rend());
    const std::vector<bool> sparse(count, false);
    auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(backwards, {bucket_bytes}, sparse));
    auto handle = GroupHandle::reclaim_copy(group);
    auto reducer = std::make_unique<FixedBuckets>(
        std::move(backwards),
        std::move(buckets),
        handle->group,
        sparse,
        static_cast<int64_t>(bucket_bytes),
        /*find_unused_parameters=*/false,
        /*gradient_as_bucket_view=*/true,
        std::unordered_map<size_t, std::string>{},
        static_cast<int64_t>(bucket_bytes),
        /*skip_all_reduce_unused_params=*/false,
        /*use_python_reducer=*/false,
        std::vector<int64_t>{});
    reducer->keep_buckets();
    reducer->set_ddp_runtime_logging_sample_rate(1);
    *out = new Reduced{std::move(handle), std::move(reducer)};
  });
}

// The next backward's gradients, added to those that the parameters hold already, come out averaged over ranks.
TROMMEL_EXPORT char* trommel_reducer_prepare(Reduced* reduced) {
  return guarded([&] {
    reduced->group->check();
    reduced->reducer->prepare_for_forward();
    reduced->reducer->prepare_for_backward({});
  });
}

// Throws if the backward since `prepare` left a parameter without gradient.
TROMMEL_EXPORT char* trommel_reducer_finish(Reduced* reduced) {
  return guarded([&] { reduced->reducer->check_finalized(); });
}

// Seconds of averaging in the last backward, from the first bucket's start, and of these the seconds after all gradients were there.
// On a card this waits until they are.
TROMMEL_EXPORT char* trommel_reducer_seconds(Reduced* reduced, double* all, double* after) {
  return guarded([&] {
    using Event = c10d::Timer::Event;
    *all = reduced->reducer->seconds(Event::kBackwardCommStart, Event::kBackwardCommEnd);
    *after = reduced->reducer->seconds(Event::kBackwardComputeEnd, Event::kBackwardCommEnd);
  });
}

TROMMEL_EXPORT void trommel_reducer_free(Reduced* reduced) {
  auto* message = guarded([&] { delete reduced; });
  std::free(message);
}
