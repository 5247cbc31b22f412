// Linear layers in fp32 over packed weights; see smallest::Product. Included by kernels.cpp alone.
#pragma once

#include "lanes.h"

namespace smallest {
namespace {

// Inputs that are multiplied before the next row: a panel's weights for them stay in the innermost cache.
constexpr int64_t kDepth = 384;

// Up to six rows of one panel, as many as fit the registers, over the inputs [first, first + kDepth): the sums begin
// with the bias or go on from the result so far, and activation and residual follow the last input. The order of
// additions is the same whatever the blocks.
template <int64_t rows>
void product_tile(const Product& p, int64_t row, int64_t panel, int64_t first) {
  constexpr int64_t vectors = kPanel / kLanes;
  const int64_t depth = first + kDepth < p.depth ? kDepth : p.depth - first;
  const auto column = [&](int64_t v) { return panel * kPanel + v * kLanes; };
  const auto left = [&](int64_t v) { return lanes_left(column(v), p.width); };
  Lanes sums[rows][vectors];
  begin_sums<rows, vectors>(sums, [&](int64_t r, int64_t v) {
    if (left(v) <= 0) return Lanes{};
    if (first > 0) return read(Type::fp32, p.out, (row + r) * p.width + column(v), left(v));
    return p.bias != nullptr ? read(Type::fp32, p.bias, column(v), left(v)) : Lanes{};
  });
  const float* weight = p.weight + (panel * p.depth + first) * kPanel;
  multiply<rows, vectors>(p.input + row * p.depth + first, p.depth, weight, kPanel, depth, sums);
  const bool last = first + depth == p.depth;
  for (int64_t v = 0; v < vectors && left(v) > 0; ++v) {
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = (row + r) * p.width + column(v);
      Lanes value = last ? activate(p.activation, sums[r][v]) : sums[r][v];
      if (last && p.residual != nullptr) value += read(Type::fp32, p.residual, at, left(v));
      write(Type::fp32, p.out, at, left(v), value);
    }
  }
}

// All rows [begin, end) of one panel, over kDepth inputs from `first` on.
void product_rows(const Product& p, int64_t begin, int64_t end, int64_t panel, int64_t first) {
  for (int64_t row = begin; row < end;) {
    const int64_t left = end - row;
    // Eight are twice four and not six and two: additions of two rows would wait for each other.
    if (left >= 9 || left == 6) {
      product_tile<6>(p, row, panel, first), row += 6;
    } else if (left >= 4) {
      product_tile<4>(p, row, panel, first), row += 4;
    } else if (left >= 2) {
      product_tile<2>(p, row, panel, first), row += 2;
    } else {
      product_tile<1>(p, row, panel, first), row += 1;
    }
  }
}

void product(const Product& p, int64_t begin, int64_t end) {
  const int64_t panels = (p.width + kPanel - 1) / kPanel;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t panel = item % panels, row = item / panels * kBlock;
    for (int64_t first = 0; first < p.depth; first += kDepth) {
      product_rows(p, row, row + kBlock < p.rows ? row + kBlock : p.rows, panel, first);
    }
  }
}

}  // namespace
}  // namespace smallest
