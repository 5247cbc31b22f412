// Process-wide matters: the last error of this thread, inference mode, opening CUDA at run time.
#include "shim.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <dlfcn.h>

namespace smallest {
thread_local std::string last_error;
}

extern "C" {

const char* smallest_last_error() { return smallest::last_error.c_str(); }

// No autograd bookkeeping and no version counters; thread-local, so it is taken in the engine thread.
void* smallest_inference_begin() { return new c10::InferenceMode(true); }

void smallest_inference_end(void* guard) { delete static_cast<c10::InferenceMode*>(guard); }

// Opens a CUDA library of libtorch for the whole process; 0 when it worked.
int smallest_open_library(const char* path) {
  if (dlopen(path, RTLD_NOW | RTLD_GLOBAL) != nullptr) return 0;
  const char* message = dlerror();
  smallest::last_error = message == nullptr ? "unknown error" : message;
  return 1;
}

// The folder-qualified path of the libtorch_cpu.so in use, or an empty string.
const char* smallest_library_path() {
  static std::string path;
  Dl_info info;
  if (path.empty() && dladdr(reinterpret_cast<void*>(&at::get_num_threads), &info) != 0 && info.dli_fname) {
    path = info.dli_fname;
  }
  return path.c_str();
}
}
