// PyTorch's checkpoint format: writing trees of plain values and tensors so that `torch.load(weights_only=True)` takes
// them, and reading the tensors of a state dict back.
#include "border.h"

#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/import_read.h>
#include <torch/csrc/jit/serialization/pickler.h>

using trommel::guarded;

namespace {

// A stack machine: values are pushed, `dict` and `list` fold the topmost ones.
struct Builder {
  std::vector<c10::IValue> stack;

  std::vector<c10::IValue> take(size_t count) {
    TORCH_CHECK(stack.size() >= count, "the stack holds ", stack.size(), " values, ", count, " are wanted");
    std::vector<c10::IValue> top(stack.end() - static_cast<std::ptrdiff_t>(count), stack.end());
    stack.resize(stack.size() - count);
    return top;
  }
};

struct StateDict {
  std::vector<std::pair<std::string, at::Tensor>> entries;
};

bool tensors_of(const c10::IValue& value, StateDict& out) {
  if (!value.isGenericDict()) return false;
  const auto dict = value.toGenericDict();
  for (const auto& entry : dict) {
    if (entry.key().isString() && entry.value().isTensor()) {
      out.entries.emplace_back(entry.key().toStringRef(), entry.value().toTensor());
    }
  }
  return !out.entries.empty();
}

}  // namespace

TROMMEL_EXPORT char* trommel_pickle_new(Builder** out) {
  return guarded([&] { *out = new Builder(); });
}

TROMMEL_EXPORT void trommel_pickle_free(Builder* builder) { delete builder; }

TROMMEL_EXPORT char* trommel_pickle_none(Builder* builder) {
  return guarded([&] { builder->stack.emplace_back(); });
}

TROMMEL_EXPORT char* trommel_pickle_bool(Builder* builder, int value) {
  return guarded([&] { builder->stack.emplace_back(value != 0); });
}

TROMMEL_EXPORT char* trommel_pickle_int(Builder* builder, int64_t value) {
  return guarded([&] { builder->stack.emplace_back(value); });
}

TROMMEL_EXPORT char* trommel_pickle_float(Builder* builder, double value) {
  return guarded([&] { builder->stack.emplace_back(value); });
}

TROMMEL_EXPORT char* trommel_pickle_string(Builder* builder, const char* text, size_t size) {
  return guarded([&] { builder->stack.emplace_back(std::string(text, size)); });
}

TROMMEL_EXPORT char* trommel_pickle_tensor(Builder* builder, at::Tensor* tensor) {
  return guarded([&] {
    at::Tensor plain = tensor->detach().to(at::kCPU).contiguous();
    // A view would drag its whole storage into the file.
    if (plain.storage().nbytes() != plain.nbytes()) plain = plain.clone();
    builder->stack.emplace_back(std::move(plain));
  });
}

TROMMEL_EXPORT char* trommel_pickle_list(Builder* builder, size_t count) {
  return guarded([&] {
    c10::impl::GenericList list(c10::AnyType::get());
    for (auto& value : builder->take(count)) list.push_back(std::move(value));
    builder->stack.emplace_back(std::move(list));
  });
}

TROMMEL_EXPORT char* trommel_pickle_tuple(Builder* builder, size_t count) {
  return guarded([&] { builder->stack.emplace_back(c10::ivalue::Tuple::create(builder->take(count))); });
}

// Folds `pairs` keys and values, key below value.
TROMMEL_EXPORT char* trommel_pickle_dict(Builder* builder, size_t pairs) {
  return guarded([&] {
    const auto values = builder->take(2 * pairs);
    const bool by_number = pairs > 0 && values[0].isInt();
    const c10::TypePtr key = by_number ? c10::TypePtr(c10::IntType::get()) : c10::TypePtr(c10::StringType::get());
    c10::impl::GenericDict dict(key, c10::AnyType::get());
    for (size_t i = 0; i < pairs; ++i) dict.insert_or_assign(values[2 * i], values[2 * i + 1]);
    builder->stack.emplace_back(std::move(dict));
  });
}

// Writes the one value left on the stack as a zip archive of torch.save's layout.
TROMMEL_EXPORT char* trommel_pickle_write(Builder* builder, const char* path) {
  return guarded([&] {
    TORCH_CHECK(builder->stack.size() == 1, "one value is written, ", builder->stack.size(), " are on the stack");
    std::string pickled;
    // Untagged: the tags for TorchScript's types name a global that weights_only refuses.
    torch::jit::Pickler pickler(
        [&](const char* data, size_t size) { pickled.append(data, size); }, nullptr, nullptr, nullptr, nullptr, false);
    pickler.protocol();
    pickler.pushIValue(builder->stack[0]);
    pickler.stop();
    caffe2::serialize::PyTorchStreamWriter writer{std::string(path)};
    writer.writeRecord("data.pkl", pickled.data(), pickled.size());
    writer.writeRecord("byteorder", "little", 6);
    size_t index = 0;
    for (const auto& tensor : pickler.tensorData()) {
      const auto data = torch::jit::getWriteableTensorData(tensor);
      writer.writeRecord("data/" + std::to_string(index++), data.data(), data.sizeInBytes());
    }
    writer.writeEndOfFile();
  });
}

// Reads the tensors of a file written by torch.save: those under `state_dict`, or else those at the top.
TROMMEL_EXPORT char* trommel_state_dict_read(const char* path, StateDict** out, size_t* count) {
  return guarded([&] {
    caffe2::serialize::PyTorchStreamReader reader{std::string(path)};
    const auto root = torch::jit::readArchiveAndTensors(
        "data", "", "", std::nullopt, std::nullopt, at::Device(at::kCPU), reader);
    auto state = std::make_unique<StateDict>();
    bool found = false;
    if (root.isGenericDict()) {
      const auto dict = root.toGenericDict();
      const c10::IValue key(std::string("state_dict"));
      if (dict.contains(key)) found = tensors_of(dict.at(key), *state);
    }
    if (!found) found = tensors_of(root, *state);
    TORCH_CHECK(found, "no tensors under names: not a state dict");
    *count = state->entries.size();
    *out = state.release();
  });
}

// Name (valid while the state dict lives) and a new handle on tensor `index`.
TROMMEL_EXPORT char* trommel_state_dict_entry(StateDict* state, size_t index, const char** name, size_t* size, at::Tensor** tensor) {
  return guarded([&] {
    auto& entry = state->entries.at(index);
    *name = entry.first.data();
    *size = entry.first.size();
    *tensor = new at::Tensor(entry.second);
  });
}

TROMMEL_EXPORT void trommel_state_dict_free(StateDict* state) { delete state; }
