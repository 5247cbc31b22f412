// The kernels of kernels.h over tensors: picks the instruction set, spreads rows over libtorch's threads.
#include "kernels.h"
#include "shim.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

namespace smallest {

namespace {

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

const Kernels& kernels() {
  static const Kernels& table = has_avx512_bf16() ? kernels_avx512_bf16()
                                : has_avx512()    ? kernels_avx512()
                                : has_avx2()      ? kernels_avx2()
                                                  : kernels_baseline();
  return table;
}

bool multiplies_here(Type type) {
  if (type == Type::fp32) return has_avx2();
  // A processor with tiles (AMX) multiplies faster in them, which oneDNN does.
  return kernels().product_bf16 != nullptr && !__builtin_cpu_supports("amx-bf16");
}

}  // namespace smallest

namespace {

using smallest::kernels;
using smallest::Row;

smallest::Type type_of(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_contiguous(), "a kernel was given a tensor that is not contiguous");
  if (tensor.scalar_type() == at::kFloat) return smallest::Type::fp32;
  TORCH_CHECK(tensor.scalar_type() == at::kBFloat16, "a kernel was given neither fp32 nor bf16");
  return smallest::Type::bf16;
}

float* floats(const at::Tensor& tensor) {
  TORCH_CHECK(type_of(tensor) == smallest::Type::fp32, "a kernel's state or weight is not fp32");
  return tensor.data_ptr<float>();
}

}  // namespace

extern "C" {

// Relative attention; see smallest::Attention. `relative` is [heads, dim, width].
at::Tensor* smallest_attention(at::Tensor* projected, at::Tensor* keys, at::Tensor* values, at::Tensor* content,
                               at::Tensor* position, at::Tensor* relative, const Row* rows, int64_t count,
                               int64_t frames, int64_t chunk, int64_t context) {
  return smallest::guarded<>(static_cast<at::Tensor*>(nullptr), [&] {
    const int64_t heads = relative->size(0), dim = relative->size(1), width = relative->size(2);
    at::Tensor out = at::empty({projected->size(0), heads * dim}, projected->options());
    const int64_t capacity = keys->size(3), window = context + chunk;
    TORCH_CHECK(projected->size(0) == count * frames && projected->size(1) == 3 * heads * dim, "projection's shape");
    TORCH_CHECK(keys->size(1) == heads && keys->size(2) == dim && values->size(2) == capacity, "states' shape");
    TORCH_CHECK(capacity >= (window + 15) / 16 * 16 && width >= (window + chunk - 1 + 15) / 16 * 16, "window's size");
    smallest::Attention a{type_of(*projected), projected->data_ptr(), out.data_ptr(), floats(*keys), floats(*values),
                          floats(*content),    floats(*position),     floats(*relative), rows, heads, dim,
                          values->size(3),     capacity,              width,             frames, chunk, context};
    at::parallel_for(0, count * heads, 4, [&](int64_t begin, int64_t end) { kernels().attention(a, begin, end); });
    return new at::Tensor(std::move(out));
  });
}

// Gate, depthwise convolution, norm, activation; see smallest::Convolution. `filter` is [kernel, hidden].
at::Tensor* smallest_convolution(at::Tensor* widened, at::Tensor* state, at::Tensor* filter, at::Tensor* bias,
                                 at::Tensor* norm_weight, at::Tensor* norm_bias, const Row* rows, int64_t count,
                                 int64_t frames, double epsilon, int32_t activation) {
  return smallest::guarded<>(static_cast<at::Tensor*>(nullptr), [&] {
    const int64_t kernel = filter->size(0), hidden = filter->size(1);
    TORCH_CHECK(widened->size(0) == count * frames && widened->size(1) == 2 * hidden, "input's shape");
    TORCH_CHECK(state->size(1) == kernel - 1 && state->size(2) == hidden, "state's shape");
    at::Tensor out = at::empty({count * frames, hidden}, widened->options());
    smallest::Convolution c{type_of(*widened),
                            widened->data_ptr(),
                            out.data_ptr(),
                            floats(*state),
                            floats(*filter),
                            floats(*bias),
                            floats(*norm_weight),
                            floats(*norm_bias),
                            rows,
                            hidden,
                            kernel,
                            frames,
                            static_cast<float>(epsilon),
                            static_cast<smallest::Activation>(activation)};
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) { kernels().convolution(c, begin, end); });
    return new at::Tensor(std::move(out));
  });
}

// Layer norm of the rows of [rows, width]; see smallest::Norm.
at::Tensor* smallest_norm(at::Tensor* input, at::Tensor* weight, at::Tensor* bias, double epsilon) {
  return smallest::guarded<>(static_cast<at::Tensor*>(nullptr), [&] {
    const int64_t rows = input->size(0), width = input->size(1);
    TORCH_CHECK(weight->numel() == width && bias->numel() == width, "norm's shape");
    at::Tensor out = at::empty({rows, width}, input->options());
    smallest::Norm n{type_of(*input), input->data_ptr(), out.data_ptr(), floats(*weight), floats(*bias), width,
                     static_cast<float>(epsilon)};
    at::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) { kernels().norm(n, begin, end); });
    return new at::Tensor(std::move(out));
  });
}

// Log-mel frames [frames, mels] of complex fp32 [frames, bins]; see smallest::Mels.
at::Tensor* smallest_mels(at::Tensor* spectrum, at::Tensor* filters, at::Tensor* extents, double guard) {
  return smallest::guarded<>(static_cast<at::Tensor*>(nullptr), [&] {
    const int64_t frames = spectrum->size(0), bins = spectrum->size(1), mels = filters->size(0);
    TORCH_CHECK(spectrum->is_contiguous() && spectrum->scalar_type() == at::kComplexFloat, "spectrum's type");
    TORCH_CHECK(filters->size(1) >= bins + 16 && extents->numel() == 2 * mels, "filters' shape");
    at::Tensor out = at::empty({frames, mels}, filters->options());
    smallest::Mels m{static_cast<const float*>(spectrum->data_ptr()), out.data_ptr<float>(), floats(*filters),
                     extents->data_ptr<int64_t>(), bins, mels, filters->size(1), static_cast<float>(guard)};
    at::parallel_for(0, frames, 16, [&](int64_t begin, int64_t end) { kernels().mels(m, begin, end); });
    return new at::Tensor(std::move(out));
  });
}

// A strided convolution of the subsampling; see smallest::Strided. `filter` is [9, channels]; the stem's input is
// [rows, frames, bins], a stage's has channels behind. The result has the type of `like`.
at::Tensor* smallest_strided(at::Tensor* input, at::Tensor* state, at::Tensor* filter, at::Tensor* bias,
                             const Row* rows, int32_t bf16) {
  return smallest::guarded<>(static_cast<at::Tensor*>(nullptr), [&] {
    const bool stem = input->dim() == 3;
    const int64_t count = input->size(0), frames = input->size(1), bins = input->size(2), channels = filter->size(1);
    TORCH_CHECK(frames % 2 == 0 && filter->size(0) == 9, "input's or filter's shape");
    TORCH_CHECK(state->numel() == state->size(0) * bins * (stem ? 1 : channels), "state's shape");
    const auto type = bf16 != 0 ? smallest::Type::bf16 : smallest::Type::fp32;
    TORCH_CHECK(stem ? type_of(*input) == smallest::Type::fp32 : type_of(*input) == type, "input's type");
    at::Tensor out =
        at::empty({count, frames / 2, bins / 2 + 1, channels}, filter->options().dtype(bf16 != 0 ? at::kBFloat16 : at::kFloat));
    smallest::Strided s{type, input->data_ptr(), out.data_ptr(), floats(*state), floats(*filter), floats(*bias),
                        rows, frames,            bins,           channels,       stem};
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) { kernels().strided(s, begin, end); });
    return new at::Tensor(std::move(out));
  });
}

// The stem over mels [rows, frames, bins] and the depthwise convolution of the stage behind it, each with its state and
// filter; see smallest::Stem. [rows, frames / 4, …, channels].
at::Tensor* smallest_stem(at::Tensor* mels, at::Tensor* state, at::Tensor* filter, at::Tensor* bias,
                          at::Tensor* stage_state, at::Tensor* stage_filter, at::Tensor* stage_bias, const Row* rows,
                          int32_t bf16) {
  return smallest::guarded<>(static_cast<at::Tensor*>(nullptr), [&] {
    const int64_t count = mels->size(0), frames = mels->size(1), bins = mels->size(2), channels = filter->size(1);
    const int64_t halved = bins / 2 + 1;
    TORCH_CHECK(mels->dim() == 3 && frames % 4 == 0 && type_of(*mels) == smallest::Type::fp32, "mels' shape or type");
    TORCH_CHECK(filter->size(0) == 9 && stage_filter->sizes() == filter->sizes(), "filters' shape");
    TORCH_CHECK(state->numel() == state->size(0) * bins, "state's shape");
    TORCH_CHECK(stage_state->numel() == stage_state->size(0) * halved * channels, "stage's state's shape");
    const auto type = bf16 != 0 ? smallest::Type::bf16 : smallest::Type::fp32;
    at::Tensor out = at::empty({count, frames / 4, halved / 2 + 1, channels},
                               filter->options().dtype(bf16 != 0 ? at::kBFloat16 : at::kFloat));
    const smallest::Stem s{{type, mels->data_ptr(), nullptr, floats(*state), floats(*filter), floats(*bias), rows, frames,
                            bins, channels, true},
                           {type, nullptr, out.data_ptr(), floats(*stage_state), floats(*stage_filter),
                            floats(*stage_bias), rows, frames / 2, halved, channels, false}};
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) { kernels().stem(s, begin, end); });
    return new at::Tensor(std::move(out));
  });
}
}
