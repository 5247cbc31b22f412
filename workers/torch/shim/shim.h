// What every file of the shim shares: tensors by pointer, errors by a thread-local message.
// No exception may cross into Rust, so every entry point runs its body through `guarded`.
#pragma once

#include <ATen/core/Tensor.h>

#include <exception>
#include <string>

namespace smallest {

extern thread_local std::string last_error;

// Runs `body`; on an exception stores its message and returns `failed`.
template <typename Body, typename Value>
Value guarded(Value failed, Body body) {
  try {
    return body();
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "unknown C++ exception";
  }
  return failed;
}

}  // namespace smallest
