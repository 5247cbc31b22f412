// Linear layers in fp32 over packed weights; see smallest::Product. Included by kernels.cpp and product_bf16.h alone.
#pragma once

#include "lanes.h"

namespace smallest {
namespace {

// Inputs that are multiplied before the next row: a panel's weights for them fill the innermost cache and stay near, and
// the sums seldom go to memory and back. It leaves no short slice of 1024 or 4096 inputs.
constexpr int64_t kDepth = 512;

constexpr int64_t kColumns = kPanel<float>;

// Rows of a block from which on its inputs are packed; fewer do not repay it.
constexpr int64_t kWorthPacking = 48;

// The weights of one panel for the inputs from `first` on.
inline const float* weights(const Product<float>& p, int64_t panel, int64_t first) {
  return p.weight + (panel * p.depth + first) * kColumns;
}

// Up to six rows of one panel, over the inputs [first, first + depth), which lie as they came or packed: the sums begin
// with the bias or go on from the result so far, and activation and residual follow the last input. The order of
// additions is the same whatever the blocks. With every four inputs `lines` cache lines are asked for from `next` on.
template <int64_t lines, int64_t rows, bool packed, bool whole>
inline void product_tile(const Product<float>& p, const float* inputs, int64_t row, int64_t panel, int64_t first,
                         int64_t depth, const char* next) {
  constexpr int64_t vectors = kColumns / kLanes;
  const int64_t column = panel * kColumns;
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
  const float* weight = weights(p, panel, first);
  multiply<rows, vectors, lines>(inputs, packed ? 1 : p.depth, packed ? rows : 1, weight, kColumns, depth, sums, next);
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

// Most rows of a tile: as many as fit the registers.
constexpr int64_t kTile = 6;

// Calls `take(rows of the tile, first row)` for the rows [begin, end): `most` at a time. Eight are twice four and not six
// and two: additions of two rows would wait for each other.
template <int64_t most, typename Take>
inline void in_tiles(int64_t begin, int64_t end, const Take& take) {
  for (int64_t row = begin; row < end;) {
    const int64_t left = end - row;
    if (left >= most + 3 || left == most) {
      take(Count<most>{}, row), row += most;
    } else if (most > 8 && left >= 8) {
      take(Count<8>{}, row), row += 8;
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
void pack_tile(const Product<float>& p, int64_t row, int64_t first, int64_t depth, float* packed) {
  const float* from = p.input + row * p.depth + first;
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t r = 0; r < rows; ++r) packed[k * rows + r] = from[r * p.depth + k];
  }
}

// Calls `take(lines)`: how many cache lines of the next weights each turn of a tile's loop asks for, of the `all` that
// the slice of a panel has for it. Four tiles share the work, or two, and the others have none; a tile alone asks for all
// of them, if it has rows enough not to wait for memory anyhow.
template <int64_t most, int64_t all, typename Take>
inline void in_shares(int64_t rows, int64_t tile, const Take& take) {
  if (rows > 3 * most) {
    tile < 4 ? take(Count<all / 4>{}) : take(Count<0>{});
  } else if (rows > most) {
    tile < 2 ? take(Count<all / 2>{}) : take(Count<0>{});
  } else {
    rows >= 4 ? take(Count<all>{}) : take(Count<0>{});
  }
}

// One panel of the rows [begin, end), over the inputs [first, first + depth). `inputs` are those of the first row, or
// all of them packed, tile after tile. Meanwhile the weights that come next are fetched.
template <bool packed>
inline void product_panel(const Product<float>& p, const float* inputs, int64_t begin, int64_t end, int64_t panel,
                          int64_t first, int64_t depth, const float* next) {
  int64_t tile = 0;
  in_tiles<kTile>(begin, end, [&](auto rows, int64_t row) {
    const float* from = inputs + (row - begin) * (packed ? depth : p.depth);
    in_shares<kTile, kUnrolled>(end - begin, tile, [&](auto lines) {
      const char* ahead = reinterpret_cast<const char*>(next + tile * lines * (depth / kUnrolled) * kColumns);
      if ((panel + 1) * kColumns <= p.width) {
        product_tile<lines, rows, packed, true>(p, from, row, panel, first, depth, ahead);
      } else {
        product_tile<lines, rows, packed, false>(p, from, row, panel, first, depth, ahead);
      }
    });
    ++tile;
  });
}

// The rows [begin, end), at most a block, of the panels [panel, last).
void product_block(const Product<float>& p, int64_t begin, int64_t end, int64_t panel, int64_t last) {
  const auto taken = [&](int64_t first) { return first + kDepth < p.depth ? kDepth : p.depth - first; };
  if (end - begin < kWorthPacking) {
    for (; panel < last; ++panel) {
      for (int64_t first = 0; first < p.depth; first += kDepth) {
        // The next slice, or the first one of the next panel, lies behind.
        const float* next = weights(p, panel, first + taken(first));
        product_panel<false>(p, p.input + begin * p.depth + first, begin, end, panel, first, taken(first), next);
      }
    }
    return;
  }
  float* packed = scratch((end - begin) * kDepth);
  for (int64_t first = 0; first < p.depth; first += kDepth) {
    const int64_t depth = taken(first);
    in_tiles<kTile>(begin, end, [&](auto rows, int64_t row) {
      pack_tile<rows>(p, row, first, depth, packed + (row - begin) * depth);
    });
    for (int64_t column = panel; column < last; ++column) {
      const float* next = column + 1 < last ? weights(p, column + 1, first) : weights(p, panel, first + depth);
      product_panel<true>(p, packed, begin, end, column, first, depth, next);
    }
  }
}

// Calls `take(begin, end, panel, last)` for the blocks of rows and their panels that the items [first, end) are.
template <typename Number, typename Take>
inline void in_blocks(const Product<Number>& p, int64_t first, int64_t end, const Take& take) {
  const int64_t panels = p.panels(), rows = p.block_rows();
  for (int64_t item = first; item < end;) {
    const int64_t block = item / panels, row = block * rows;
    const int64_t last = (block + 1) * panels < end ? (block + 1) * panels : end;
    take(row, row + rows < p.rows ? row + rows : p.rows, item - block * panels, last - block * panels);
    item = last;
  }
}

void product(const Product<float>& p, int64_t first, int64_t end) {
  in_blocks(p, first, end, [&](int64_t begin, int64_t row_end, int64_t panel, int64_t last) {
    product_block(p, begin, row_end, panel, last);
  });
}

}  // namespace
}  // namespace smallest
