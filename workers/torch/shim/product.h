// Linear layers in fp32 over packed weights; see smallest::Product. Included by kernels.cpp alone.
#pragma once

#include "lanes.h"

namespace smallest {
namespace {

// Inputs that are multiplied before the next row: a panel's weights for them stay in the innermost cache, and the sums
// seldom go to memory and back.
constexpr int64_t kDepth = 384;

// Rows of a block from which on its inputs are packed; fewer do not repay it.
constexpr int64_t kWorthPacking = 48;

// Up to six rows of one panel, over the inputs [first, first + depth), which lie as they came or packed: the sums begin
// with the bias or go on from the result so far, and activation and residual follow the last input. The order of
// additions is the same whatever the blocks.
template <int64_t rows, bool packed, bool whole>
inline void product_tile(const Product& p, const float* inputs, int64_t row, int64_t panel, int64_t first,
                         int64_t depth) {
  constexpr int64_t vectors = kPanel / kLanes;
  const int64_t column = panel * kPanel;
  float* out = p.out + row * p.width + column;
  const auto left = [&](int64_t v) { return whole ? kLanes : lanes_left(column + v * kLanes, p.width); };
  const auto get = [&](const float* from, int64_t v) {
    if (left(v) <= 0) return Lanes{};
    return read(Type::fp32, from, v * kLanes, left(v));
  };
  const auto put = [&](int64_t r, int64_t v, Lanes value) {
    if (left(v) > 0) write(Type::fp32, out + r * p.width, v * kLanes, left(v), value);
  };
  Lanes sums[rows][vectors];
  if (first > 0) {
    begin_sums<rows, vectors>(sums, [&](int64_t r, int64_t v) { return get(out + r * p.width, v); });
  } else if (p.bias != nullptr) {
    begin_sums<rows, vectors>(sums, [&](int64_t, int64_t v) { return get(p.bias + column, v); });
  } else {
    begin_sums<rows, vectors>(sums, zero);
  }
  const float* weight = p.weight + (panel * p.depth + first) * kPanel;
  multiply<rows, vectors>(inputs, packed ? 1 : p.depth, packed ? rows : 1, weight, kPanel, depth, sums);
  if (first + depth < p.depth) {
    end_sums<rows, vectors>(sums, put);
  } else if (p.residual != nullptr) {
    const float* residual = p.residual + row * p.width + column;
    end_sums<rows, vectors>(sums, [&](int64_t r, int64_t v, Lanes value) {
      put(r, v, activate(p.activation, value) + get(residual + r * p.width, v));
    });
  } else {
    end_sums<rows, vectors>(sums, [&](int64_t r, int64_t v, Lanes value) {
      put(r, v, activate(p.activation, value));
    });
  }
}

// Calls `take(rows of the tile, first row)` for the rows [begin, end): six at a time, as many as fit the registers. Eight
// are twice four and not six and two: additions of two rows would wait for each other.
template <typename Take>
inline void in_tiles(int64_t begin, int64_t end, const Take& take) {
  for (int64_t row = begin; row < end;) {
    const int64_t left = end - row;
    if (left >= 9 || left == 6) {
      take(Count<6>{}, row), row += 6;
    } else if (left >= 4) {
      take(Count<4>{}, row), row += 4;
    } else if (left >= 2) {
      take(Count<2>{}, row), row += 2;
    } else {
      take(Count<1>{}, row), row += 1;
    }
  }
}

// Inputs [first, first + depth) of a tile, all rows of an input side by side. Rows lie a power of two apart as often as
// not, and then evict each other from the cache; packed, they are read in one line.
template <int64_t rows>
void pack_tile(const Product& p, int64_t row, int64_t first, int64_t depth, float* packed) {
  const float* from = p.input + row * p.depth + first;
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t r = 0; r < rows; ++r) packed[k * rows + r] = from[r * p.depth + k];
  }
}

// One panel of the rows [begin, end), over the inputs [first, first + depth). `inputs` are those of the first row, or
// all of them packed, tile after tile.
template <bool packed>
inline void product_panel(const Product& p, const float* inputs, int64_t begin, int64_t end, int64_t panel,
                          int64_t first, int64_t depth) {
  in_tiles(begin, end, [&](auto rows, int64_t row) {
    const float* from = inputs + (row - begin) * (packed ? depth : p.depth);
    if ((panel + 1) * kPanel <= p.width) {
      product_tile<rows, packed, true>(p, from, row, panel, first, depth);
    } else {
      product_tile<rows, packed, false>(p, from, row, panel, first, depth);
    }
  });
}

// The rows [begin, end), at most a block, of the panels [panel, last).
void product_block(const Product& p, int64_t begin, int64_t end, int64_t panel, int64_t last) {
  const auto taken = [&](int64_t first) { return first + kDepth < p.depth ? kDepth : p.depth - first; };
  if (end - begin < kWorthPacking) {
    for (; panel < last; ++panel) {
      for (int64_t first = 0; first < p.depth; first += kDepth) {
        product_panel<false>(p, p.input + begin * p.depth + first, begin, end, panel, first, taken(first));
      }
    }
    return;
  }
  float* packed = scratch((end - begin) * kDepth);
  for (int64_t first = 0; first < p.depth; first += kDepth) {
    const int64_t depth = taken(first);
    in_tiles(begin, end, [&](auto rows, int64_t row) {
      pack_tile<rows>(p, row, first, depth, packed + (row - begin) * depth);
    });
    for (int64_t column = panel; column < last; ++column) {
      product_panel<true>(p, packed, begin, end, column, first, depth);
    }
  }
}

void product(const Product& p, int64_t begin, int64_t end) {
  const int64_t panels = (p.width + kPanel - 1) / kPanel;
  for (int64_t item = begin; item < end;) {
    const int64_t block = item / panels, row = block * kBlock;
    const int64_t last = (block + 1) * panels < end ? (block + 1) * panels : end;
    product_block(p, row, row + kBlock < p.rows ? row + kBlock : p.rows, item - block * panels, last - block * panels);
    item = last;
  }
}

}  // namespace
}  // namespace smallest
