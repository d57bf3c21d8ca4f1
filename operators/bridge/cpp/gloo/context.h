// See algorithm.h. Of the class only functions that are not virtual: its layout stays unknown here.
#pragma once

#include <chrono>
#include <exception>
#include <memory>
#include <string>

namespace gloo {
namespace transport {
class Pair {
 public:
  virtual ~Pair() = 0;
};
namespace tcp {
// Its first base is the class above.
class Pair {
 public:
  std::exception_ptr signalExceptionExternal(const std::string& message);
};
}  // namespace tcp
}  // namespace transport

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
  void closeConnections();
  std::unique_ptr<transport::Pair>& getPair(int rank);
};
}  // namespace gloo
