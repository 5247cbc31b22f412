// Linear layers in fp32 over packed weights; see smallest::Product. Included by kernels.cpp alone.
#pragma once

#include "lanes.h"

namespace smallest {
namespace {

// Rows of sums that fit the registers beside a panel's vectors.
constexpr int64_t kTile = 6;

// Up to kTile rows of one panel: bias and product, then activation and residual while the sums are near.
template <int64_t rows>
void product_tile(const Product& p, int64_t row, int64_t panel) {
  constexpr int64_t vectors = kPanel / kLanes;
  const auto left = [&](int64_t v) { return lanes_left(panel * kPanel + v * kLanes, p.width); };
  Lanes sums[rows][vectors];
  begin_sums<rows, vectors>(sums, [&](int64_t v) {
    const bool any = p.bias != nullptr && left(v) > 0;
    return any ? read(Type::fp32, p.bias, panel * kPanel + v * kLanes, left(v)) : Lanes{};
  });
  multiply<rows, vectors>(p.input + row * p.depth, p.depth, p.weight + panel * p.depth * kPanel, kPanel, p.depth, sums);
  for (int64_t v = 0; v < vectors && left(v) > 0; ++v) {
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = (row + r) * p.width + panel * kPanel + v * kLanes;
      Lanes value = activate(p.activation, sums[r][v]);
      if (p.residual != nullptr) value += read(Type::fp32, p.residual, at, left(v));
      write(Type::fp32, p.out, at, left(v), value);
    }
  }
}

void product(const Product& p, int64_t begin, int64_t end) {
  const int64_t panels = (p.width + kPanel - 1) / kPanel;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t panel = item % panels, first = item / panels * kBlock;
    const int64_t last = first + kBlock < p.rows ? first + kBlock : p.rows;
    int64_t row = first;
    for (; row + kTile <= last; row += kTile) product_tile<kTile>(p, row, panel);
    if (row + 4 <= last) product_tile<4>(p, row, panel), row += 4;
    if (row + 2 <= last) product_tile<2>(p, row, panel), row += 2;
    if (row < last) product_tile<1>(p, row, panel);
  }
}

}  // namespace
}  // namespace smallest
