// Linear layers on the CPU: weights packed once, activation and residual fused behind the product.
//
// The product of kernels.h multiplies in fp32 from AVX2 on. With AVX2 oneDNN copies the weights in every call and makes a
// second pass for what follows: 1.3 to 5 times as slow. With AVX-512 it packs weights, but reads them slowly where rows
// are few: two rows at the 0.6 B width take twice as long. oneDNN multiplies in bf16, 1.15 to 1.7 times the throughput of
// `at::linear`, and without AVX2.
#include "kernels.h"
#include "shim.h"

#include <ATen/Parallel.h>
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

namespace {

using Scalars = c10::List<std::optional<at::Scalar>>;
using Pack = at::Tensor(const at::Tensor&, std::optional<c10::SymInt>);
using Unary = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, c10::string_view,
                         Scalars, std::optional<c10::string_view>);
using Binary = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                          c10::string_view);
using smallest::kBlock;
using smallest::kPanel;

// Additions and multiplications below which another thread costs more than it gives.
constexpr int64_t kWorthAThread = 1 << 18;

std::optional<at::Tensor> optional(at::Tensor* tensor) {
  return tensor == nullptr ? std::nullopt : std::optional<at::Tensor>(*tensor);
}

const char* name_of(smallest::Activation activation) {
  return activation == smallest::Activation::silu ? "swish" : activation == smallest::Activation::relu ? "relu" : "none";
}

// [out, in] → [panels, in, kPanel], zeros behind the last of `out`.
at::Tensor panels(const at::Tensor& weight) {
  const int64_t width = weight.size(0), depth = weight.size(1), count = (width + kPanel - 1) / kPanel;
  at::Tensor packed = at::zeros({count * kPanel, depth}, weight.options());
  packed.narrow(0, 0, width).copy_(weight);
  return packed.view({count, kPanel, depth}).transpose(1, 2).contiguous();
}

const float* floats(const at::Tensor* tensor, int64_t count) {
  if (tensor == nullptr) return nullptr;
  TORCH_CHECK(tensor->is_contiguous() && tensor->scalar_type() == at::kFloat && tensor->numel() == count,
              "a product was given a tensor of another type or size");
  return tensor->data_ptr<float>();
}

// The product of kernels.h over panels.
at::Tensor multiply(const at::Tensor& input, const at::Tensor& weight, const at::Tensor* bias,
                    const at::Tensor* residual, int64_t width, smallest::Activation activation) {
  const int64_t rows = input.size(0), depth = weight.size(1), count = weight.size(0);
  TORCH_CHECK(input.dim() == 2 && width <= count * kPanel && width > (count - 1) * kPanel, "product's shape");
  at::Tensor out = at::empty({rows, width}, input.options());
  const smallest::Product product{floats(&input, rows * depth),
                                  weight.data_ptr<float>(),
                                  floats(bias, width),
                                  floats(residual, rows * width),
                                  out.data_ptr<float>(),
                                  rows,
                                  depth,
                                  width,
                                  activation};
  const int64_t blocks = (rows + kBlock - 1) / kBlock;
  const int64_t grain = kWorthAThread / (std::min(rows, kBlock) * kPanel * depth) + 1;
  at::parallel_for(0, blocks * count, grain,
                   [&](int64_t begin, int64_t end) { smallest::kernels().product(product, begin, end); });
  return out;
}

}  // namespace

extern "C" {

// Packs a contiguous [out, in] weight; `rows` is the number of input rows to expect.
at::Tensor* smallest_linear_pack(at::Tensor* weight, int64_t rows) {
  return smallest::guarded<>(static_cast<at::Tensor*>(nullptr), [&] {
    if (smallest::multiplies_here() && weight->scalar_type() == at::kFloat) return new at::Tensor(panels(*weight));
    static auto op = c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_reorder_linear_weight", "").typed<Pack>();
    return new at::Tensor(op.call(weight->contiguous(), c10::SymInt(rows)));
  });
}

// activation(input · weightᵀ + bias) + residual, of which one is allowed; `width` is the number of outputs.
at::Tensor* smallest_linear(at::Tensor* input, at::Tensor* weight, at::Tensor* bias, at::Tensor* residual, int64_t width,
                            int32_t activation) {
  return smallest::guarded<>(static_cast<at::Tensor*>(nullptr), [&] {
    const auto behind = static_cast<smallest::Activation>(activation);
    if (!weight->is_mkldnn()) return new at::Tensor(multiply(*input, *weight, bias, residual, width, behind));
    auto& dispatcher = c10::Dispatcher::singleton();
    if (residual != nullptr) {
      static auto binary = dispatcher.findSchemaOrThrow("mkldnn::_linear_pointwise", "binary").typed<Binary>();
      return new at::Tensor(binary.call(*input, *residual, *weight, optional(bias), "add"));
    }
    static auto unary = dispatcher.findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Unary>();
    return new at::Tensor(unary.call(*input, *weight, optional(bias), name_of(behind), Scalars(), std::nullopt));
  });
}
}
