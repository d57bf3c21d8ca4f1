// PyTorch's checkpoint format: writing trees of plain values and tensors so that `torch.load(weights_only=True)` takes
// them. Reading is not left to libtorch, whose unpickler turns an OrderedDict, which every Python state dict is, into None.
#include "border.h"

#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/pickler.h>

#include <cerrno>
#include <cstdio>
#include <utility>

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

// The file of an archive. libtorch's writer throws where a write fails, and once more out of its destructor, which ends the file: that would end the
// process. So this takes whatever it is given, and `close` tells what failed first.
class File {
 public:
  explicit File(const char* path) : file_(std::fopen(path, "wb")) { note(file_ != nullptr); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (file_ != nullptr) std::fclose(file_);
  }

  size_t write(const void* data, size_t size) {
    if (error_ == 0) note(std::fwrite(data, 1, size, file_) == size);
    return size;
  }

  void close() {
    if (file_ != nullptr) note(std::fclose(std::exchange(file_, nullptr)) == 0);
    TORCH_CHECK(error_ == 0, std::strerror(error_));
  }

 private:
  void note(bool done) {
    if (!done && error_ == 0) error_ = errno;
  }

  std::FILE* file_;
  int error_ = 0;
};

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
    File file(path);
    caffe2::serialize::PyTorchStreamWriter writer([&](const void* data, size_t size) { return file.write(data, size); });
    writer.writeRecord("data.pkl", pickled.data(), pickled.size());
    writer.writeRecord("byteorder", "little", 6);
    size_t index = 0;
    for (const auto& tensor : pickler.tensorData()) {
      const auto data = torch::jit::getWriteableTensorData(tensor);
      writer.writeRecord("data/" + std::to_string(index++), data.data(), data.sizeInBytes());
    }
    writer.writeEndOfFile();
    file.close();
  });
}
