// Linear layers in bf16 over packed weights; see smallest::Product. Included by kernels.cpp alone.
//
// One instruction (AVX512_BF16) multiplies two neighbouring inputs by their weights and adds both to a sum in fp32, so
// weights lie in pairs of inputs, column beside column. A tile of twelve rows and two vectors of columns needs a load of
// weights for every twelve instructions: 95 to 98 % of what the processor can do, where oneDNN has 83 to 88 %.
#pragma once

#include "product.h"

namespace smallest {
namespace {

#ifdef __AVX512BF16__

using Half = uint16_t;
using Pair = uint32_t;

constexpr int64_t kPairColumns = kPanel<Half>;
constexpr int64_t kVectors = kPairColumns / kLanes;
// Most rows of a tile: 24 sums, two vectors of weights and a pair of inputs fit the registers.
constexpr int64_t kPairTile = 12;
// Pairs that are multiplied before the next row: a panel's weights for them are as large as the innermost cache.
constexpr int64_t kPairs = 256;
// Cache lines of weights for each turn of `in_turns`.
constexpr int64_t kLinesATurn = kUnrolled * kVectors;

// A pair of inputs in every lane, and a vector of weights.
inline __m512bh in_all_lanes(Pair pair) {
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int32_t>(pair)));
}

inline __m512bh weights_at(const Half* from) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(from)); }

inline Halves nearest(Lanes x) { return reinterpret_cast<Halves>(_mm512_cvtneps_pbh(x)); }

// x / (1 + 2^y) with y = -x log₂ e, to 1e-4 of it, a twentieth of what rounding to bf16 takes: 2^y is 2^n times a polynomial
// on [-1/2, 1/2] (the series of e^(r ln 2)), and the quotient the processor's estimate.
inline Lanes silu_bf16(Lanes x) {
  const Lanes y = x * -1.44269504f;
  const Lanes n = _mm512_roundscale_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const Lanes r = y - n;
  Lanes p = splat(9.6181291e-3f);
  p = p * r + 5.5504109e-2f;
  p = p * r + 2.4022651e-1f;
  p = p * r + 6.9314718e-1f;
  p = p * r + 1.0f;
  return x * _mm512_rcp14_ps(1.0f + _mm512_scalef_ps(p, n));
}

// sums[r][v] += inputs · weights over `count` pairs; the inputs are packed, all rows of a pair side by side. `lines`
// and `next` are those of `in_turns`.
template <int64_t rows, int64_t lines>
inline __attribute__((always_inline)) void multiply_pairs(const Pair* inputs, const Half* weight, int64_t count,
                                                          Lanes (&sums)[rows][kVectors], const char* next) {
  const auto factor = [&](int64_t k) __attribute__((always_inline)) {
    __m512bh column[kVectors];
#pragma GCC unroll 16
    for (int64_t v = 0; v < kVectors; ++v) column[v] = weights_at(weight + 2 * (k * kPairColumns + v * kLanes));
#pragma GCC unroll 16
    for (int64_t r = 0; r < rows; ++r) {
      const __m512bh pair = in_all_lanes(inputs[k * rows + r]);
#pragma GCC unroll 16
      for (int64_t v = 0; v < kVectors; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], pair, column[v]);
    }
  };
  in_turns<lines>(count, next, factor);
}

// Up to twelve rows of a panel over `count` pairs: `out` [rows, kPairColumns] begins with them, or goes on.
template <int64_t rows, int64_t lines>
void pair_tile(const Pair* inputs, const Half* weight, int64_t count, bool begins, float* out, const char* next) {
  Lanes sums[rows][kVectors];
  if (begins) {
    begin_sums<rows, kVectors>(sums, zero);
  } else {
    begin_sums<rows, kVectors>(sums, [&](int64_t r, int64_t v) { return load(out + r * kPairColumns + v * kLanes); });
  }
  multiply_pairs<rows, lines>(inputs, weight, count, sums, next);
  end_sums<rows, kVectors>(sums, [&](int64_t r, int64_t v, Lanes sum) {
    store(out + r * kPairColumns + v * kLanes, sum);
  });
}

// What a block of rows works in: its inputs packed (slice by slice, tile by tile, all rows of a pair side by side), and
// the sums of one panel.
struct PairBlock {
  const Product<Half>& p;
  int64_t begin, end, pairs;
  Pair* packed;
  float* sums;

  PairBlock(const Product<Half>& p, int64_t begin, int64_t end)
      : p(p), begin(begin), end(end), pairs((p.depth + 1) / 2) {
    const int64_t rows = end - begin;
    sums = scratch(rows * (kPairColumns + pairs));
    packed = reinterpret_cast<Pair*>(sums + rows * kPairColumns);
  }

  int64_t taken(int64_t first) const { return first + kPairs < pairs ? kPairs : pairs - first; }

  // The place of a tile's packed inputs, from the pair `first` on.
  Pair* place(int64_t row, int64_t first) const {
    return packed + first * (end - begin) + (row - begin) * taken(first);
  }

  void pack() const {
    for (int64_t first = 0; first < pairs; first += kPairs) {
      in_tiles<kPairTile>(begin, end, [&](auto rows, int64_t row) {
        for (int64_t k = 0; k < taken(first); k += kLanes) pack<rows>(row, first, k);
      });
    }
  }

  // A cache line of each row of a tile, from the pair `first + k` on: rows that lie far apart are left after it.
  template <int64_t rows>
  void pack(int64_t row, int64_t first, int64_t k) const {
    Pair* to = place(row, first) + k * rows;
    const int64_t at = 2 * (first + k), left = p.depth - at < 2 * kLanes ? p.depth - at : 2 * kLanes;
    const int64_t count = k + kLanes < taken(first) ? kLanes : taken(first) - k;
    for (int64_t r = 0; r < rows; ++r) {
      const Half* from = p.input + (row + r) * p.depth + at;
      if (count == kLanes && left == 2 * kLanes) {
#pragma GCC unroll 16
        for (int64_t i = 0; i < kLanes; ++i) memcpy(to + i * rows + r, from + 2 * i, sizeof(Pair));
        continue;
      }
      for (int64_t i = 0; i < count; ++i) {
        to[i * rows + r] = 0;
        memcpy(to + i * rows + r, from + 2 * i, (2 * i + 1 < left ? 2 : 1) * sizeof(Half));
      }
    }
  }

  // The sums of a panel; meanwhile the weights that come next are fetched.
  void multiply(int64_t panel) const {
    for (int64_t first = 0; first < pairs; first += kPairs) {
      const int64_t count = taken(first);
      const Half* weight = p.weight + (panel * pairs + first) * 2 * kPairColumns;
      // The next slice, or the first one of the next panel, lies behind.
      const char* next = reinterpret_cast<const char*>(weight + count * 2 * kPairColumns);
      int64_t tile = 0;
      in_tiles<kPairTile>(begin, end, [&](auto rows, int64_t row) {
        in_shares<kPairTile, kLinesATurn>(end - begin, tile, [&](auto lines) {
          const char* ahead = next + tile * lines * (count / kUnrolled) * kLine;
          float* out = sums + (row - begin) * kPairColumns;
          pair_tile<rows, lines>(place(row, first), weight, count, first == 0, out, ahead);
        });
        ++tile;
      });
    }
  }

  // Bias, activation and residual behind the sums, rounded once.
  void finish(int64_t panel) const {
    for (int64_t v = 0; v < kVectors; ++v) {
      const int64_t column = panel * kPairColumns + v * kLanes, left = lanes_left(column, p.width);
      if (left <= 0) break;
      if (p.residual != nullptr) {
        const Half* residual = p.residual + column;
        finish(v, column, left, [=](Lanes x, int64_t at) { return x + widen(read_first<Halves>(residual + at, left)); });
      } else if (p.activation == Activation::silu) {
        finish(v, column, left, [](Lanes x, int64_t) { return silu_bf16(x); });
      } else if (p.activation == Activation::relu) {
        finish(v, column, left, [](Lanes x, int64_t) { return maximum(x, Lanes{}); });
      } else {
        finish(v, column, left, [](Lanes x, int64_t) { return x; });
      }
    }
  }

  // One vector of columns of all rows; `behind(x, at)` is what follows the bias, `at` the row's place in the result.
  template <typename Behind>
  void finish(int64_t v, int64_t column, int64_t left, const Behind& behind) const {
    const Lanes bias = p.bias == nullptr ? Lanes{} : widen(read_first<Halves>(p.bias + column, left));
    const float* sum = sums + v * kLanes;
    Half* out = p.out + column;
    const int64_t first = begin * p.width, last = end * p.width, width = p.width;
    for (int64_t at = first; at < last; at += width, sum += kPairColumns) {
      write_first(out + at, left, nearest(behind(load(sum) + bias, at)));
    }
  }
};

void multiply_bf16(const Product<Half>& p, int64_t first, int64_t end) {
  in_blocks(p, first, end, [&](int64_t begin, int64_t row_end, int64_t panel, int64_t last) {
    const PairBlock block(p, begin, row_end);
    block.pack();
    for (; panel < last; ++panel) {
      block.multiply(panel);
      block.finish(panel);
    }
  });
}

constexpr auto product_bf16 = multiply_bf16;

#else

constexpr decltype(Kernels::product_bf16) product_bf16 = nullptr;

#endif

}  // namespace
}  // namespace smallest
