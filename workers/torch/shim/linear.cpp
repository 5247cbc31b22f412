// Linear layers on the CPU: weights packed once, activation and residual fused behind the product.
//
// The products of kernels.h multiply in fp32 from AVX2 on, and in bf16 where the processor has instructions for it. With
// AVX2 oneDNN copies the weights in every call and makes a second pass for what follows: 1.3 to 5 times as slow. With
// AVX-512 it packs weights, but reads them slowly where rows are few: two rows at the 0.6 B width take twice as long.
// oneDNN multiplies elsewhere: without AVX2, and bf16 by tiles (AMX) or where it must be widened.
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
using smallest::kPanel;

// Additions and multiplications below which another thread costs more than it gives.
constexpr int64_t kWorthAThread = 1 << 18;

std::optional<at::Tensor> optional(at::Tensor* tensor) {
  return tensor == nullptr ? std::nullopt : std::optional<at::Tensor>(*tensor);
}

const char* name_of(smallest::Activation activation) {
  return activation == smallest::Activation::silu ? "swish" : activation == smallest::Activation::relu ? "relu" : "none";
}

// [out, in] → [panels, in, columns], zeros behind the last of `out`.
at::Tensor panels(const at::Tensor& weight) {
  const int64_t width = weight.size(0), depth = weight.size(1), columns = kPanel<float>;
  const int64_t count = (width + columns - 1) / columns;
  at::Tensor packed = at::zeros({count * columns, depth}, weight.options());
  packed.narrow(0, 0, width).copy_(weight);
  return packed.view({count, columns, depth}).transpose(1, 2).contiguous();
}

// [out, in] in bf16 → [panels, pairs of inputs, columns, 2], zeros behind the last of `out` and `in`.
at::Tensor pair_panels(const at::Tensor& weight) {
  const int64_t width = weight.size(0), depth = weight.size(1), columns = kPanel<uint16_t>;
  const int64_t count = (width + columns - 1) / columns, pairs = (depth + 1) / 2;
  at::Tensor packed = at::zeros({count * columns, 2 * pairs}, weight.options());
  packed.narrow(0, 0, width).narrow(1, 0, depth).copy_(weight);
  return packed.view({count, columns, pairs, 2}).transpose(1, 2).contiguous();
}

// The numbers of a tensor of so many, or null where there is none.
template <typename Number>
const Number* numbers(const at::Tensor* tensor, int64_t count) {
  if (tensor == nullptr) return nullptr;
  const auto type = std::is_same_v<Number, float> ? at::kFloat : at::kBFloat16;
  TORCH_CHECK(tensor->is_contiguous() && tensor->scalar_type() == type && tensor->numel() == count,
              "a product was given a tensor of another type or size");
  return static_cast<const Number*>(tensor->data_ptr());
}

// A product of kernels.h over panels.
template <typename Number>
at::Tensor multiply(void (*kernel)(const smallest::Product<Number>&, int64_t, int64_t), const at::Tensor& input,
                    const at::Tensor& weight, const at::Tensor* bias, const at::Tensor* residual, int64_t width,
                    smallest::Activation activation) {
  TORCH_CHECK(input.dim() == 2 && weight.scalar_type() == input.scalar_type(), "product's shape or type");
  const int64_t rows = input.size(0), depth = input.size(1);
  at::Tensor out = at::empty({rows, width}, input.options());
  if (rows == 0) return out;
  const smallest::Product<Number> product{numbers<Number>(&input, rows * depth),
                                          static_cast<const Number*>(weight.data_ptr()),
                                          numbers<Number>(bias, width),
                                          numbers<Number>(residual, rows * width),
                                          static_cast<Number*>(out.data_ptr()),
                                          rows,
                                          depth,
                                          width,
                                          activation};
  const int64_t steps = std::is_same_v<Number, float> ? depth : (depth + 1) / 2;
  TORCH_CHECK(weight.size(0) == product.panels() && weight.size(1) == steps, "product's weight");
  const int64_t grain = kWorthAThread / (product.block_rows() * kPanel<Number> * depth) + 1;
  at::parallel_for(0, product.blocks() * product.panels(), grain,
                   [&](int64_t begin, int64_t end) { kernel(product, begin, end); });
  return out;
}

}  // namespace

extern "C" {

// Packs a contiguous [out, in] weight; `rows` is the number of input rows to expect.
at::Tensor* smallest_linear_pack(at::Tensor* weight, int64_t rows) {
  return smallest::guarded<>(static_cast<at::Tensor*>(nullptr), [&] {
    const bool bf16 = weight->scalar_type() == at::kBFloat16;
    if (smallest::multiplies_here(bf16 ? smallest::Type::bf16 : smallest::Type::fp32)) {
      return new at::Tensor(bf16 ? pair_panels(*weight) : panels(*weight));
    }
    static auto op = c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_reorder_linear_weight", "").typed<Pack>();
    return new at::Tensor(op.call(weight->contiguous(), c10::SymInt(rows)));
  });
}

// activation(input · weightᵀ + bias) + residual, of which one is allowed; `width` is the number of outputs.
at::Tensor* smallest_linear(at::Tensor* input, at::Tensor* weight, at::Tensor* bias, at::Tensor* residual, int64_t width,
                            int32_t activation) {
  return smallest::guarded<>(static_cast<at::Tensor*>(nullptr), [&] {
    const auto behind = static_cast<smallest::Activation>(activation);
    const auto& kernels = smallest::kernels();
    if (weight->scalar_type() == at::kFloat && !weight->is_mkldnn()) {
      return new at::Tensor(multiply(kernels.product, *input, *weight, bias, residual, width, behind));
    }
    if (!weight->is_mkldnn()) {
      return new at::Tensor(multiply(kernels.product_bf16, *input, *weight, bias, residual, width, behind));
    }
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
