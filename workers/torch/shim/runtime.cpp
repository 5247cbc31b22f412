// Process-wide matters: the last error of this thread, inference mode, opening CUDA at run time.
#include "shim.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <malloc.h>
#include <sys/mman.h>

namespace smallest {
thread_local std::string last_error;
}

namespace {

// Settings that libtorch reads from the environment alone, made before main and so before any thread or tensor;
// what the user has set stays. Large pages: the weights are walked through in every step (15 to 20 % less time at
// the 0.6 B width). Kernels kept: oneDNN makes one for each number of rows, which varies with who speaks.
__attribute__((constructor)) void set_up_libtorch() {
  setenv("THP_MEM_ALLOC_ENABLE", "1", 0);
  setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192", 0);
}

}  // namespace

extern "C" {

const char* smallest_last_error() { return smallest::last_error.c_str(); }

// No autograd bookkeeping and no version counters; thread-local, so it is taken in the engine thread.
void* smallest_inference_begin() { return new c10::InferenceMode(true); }

void smallest_inference_end(void* guard) { delete static_cast<c10::InferenceMode*>(guard); }

// Keeps freed memory in the process: a step allocates the same megabytes again and again, and giving them back to
// the kernel in between costs a tenth of it in page faults.
void smallest_keep_memory() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  mallopt(M_TOP_PAD, 16 << 20);
}

// Asks for large pages for a tensor that is walked through in every step; only advice, so nothing can fail.
void smallest_advise_huge(at::Tensor* tensor) {
  constexpr uintptr_t page = 2 << 20;
  const auto begin = (reinterpret_cast<uintptr_t>(tensor->data_ptr()) + page - 1) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(tensor->data_ptr()) + tensor->nbytes()) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

// Opens a CUDA library of libtorch for the whole process; 0 when it worked.
int smallest_open_library(const char* path) {
  if (dlopen(path, RTLD_NOW | RTLD_GLOBAL) != nullptr) return 0;
  const char* message = dlerror();
  smallest::last_error = message == nullptr ? "unknown error" : message;
  return 1;
}

// Convolutions in fp32 are computed in fp32 on a GPU too: cuDNN may round their inputs to TF32 otherwise, which is three
// digits less than the parity that is promised. Matrix products are exact by default.
void smallest_exact_convolutions() { at::globalContext().setAllowTF32CuDNN(false); }

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
