// Vectors of numbers for the kernels: as many lanes as one register of the instruction set has, so that the compiler
// keeps a vector in a register. (A wider vector it splits, and passes the parts through memory.)
//
// Included by kernels.cpp alone, and so compiled once for each instruction set; everything is local to that file.
#pragma once

#include "kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace smallest {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
#elif defined(__AVX__)
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 4;
#endif

typedef float Lanes __attribute__((vector_size(4 * kLanes)));
typedef int32_t Bits __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));
// What every instruction set has; horizontal operations end in it.
typedef float Four __attribute__((vector_size(16)));

inline int64_t round_up(int64_t value) { return (value + kLanes - 1) / kLanes * kLanes; }

// How many of the numbers from `at` to `end` one vector takes.
inline int64_t lanes_left(int64_t at, int64_t end) { return end - at < kLanes ? end - at : kLanes; }

inline Lanes load(const float* from) {
  Lanes lanes;
  memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

inline void store(float* to, Lanes lanes) { memcpy(to, &lanes, sizeof lanes); }

inline Lanes splat(float value) { return Lanes{} + value; }

inline Lanes select(Bits condition, Lanes yes, Lanes no) { return condition ? yes : no; }

inline Lanes maximum(Lanes left, Lanes right) { return left > right ? left : right; }

inline Lanes minimum(Lanes left, Lanes right) { return left < right ? left : right; }

inline float sum(Lanes lanes) {
  Four parts[kLanes / 4];
  memcpy(parts, &lanes, sizeof lanes);
  for (int64_t step = kLanes / 8; step > 0; step /= 2) {
    for (int64_t part = 0; part < step; ++part) parts[part] += parts[part + step];
  }
  return (parts[0][0] + parts[0][2]) + (parts[0][1] + parts[0][3]);
}

inline float largest(Lanes lanes) {
  Four parts[kLanes / 4];
  memcpy(parts, &lanes, sizeof lanes);
  for (int64_t part = 1; part < kLanes / 4; ++part) parts[0] = parts[0] > parts[part] ? parts[0] : parts[part];
  const float left = parts[0][0] > parts[0][2] ? parts[0][0] : parts[0][2];
  const float right = parts[0][1] > parts[0][3] ? parts[0][1] : parts[0][3];
  return left > right ? left : right;
}

// e^x to about one unit in the last place: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2].
inline Lanes exponential(Lanes x) {
  x = maximum(minimum(x, splat(88.0f)), splat(-87.0f));
  const Lanes magic = splat(12582912.0f);  // 1.5 * 2^23 rounds to an integer when added
  Lanes shifted = x * 1.44269504f + magic;
  Lanes n = shifted - magic;
  Lanes r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  Lanes p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  Bits exponent;
  memcpy(&exponent, &shifted, sizeof exponent);
  exponent = (exponent << 23) + (127 << 23);
  Lanes scale;
  memcpy(&scale, &exponent, sizeof scale);
  return p * scale;
}

// ln x of a positive normal number to about one unit in the last place.
inline Lanes logarithm(Lanes x) {
  Bits bits;
  memcpy(&bits, &x, sizeof bits);
  Bits exponent = ((bits >> 23) & 255) - 126;
  bits = (bits & 0x007fffff) | 0x3f000000;
  Lanes m;
  memcpy(&m, &bits, sizeof m);  // in [0.5, 1)
  const Bits low = m < splat(0.707106781f);
  exponent += low;  // -1 where true
  m = select(low, m + m, m) - 1.0f;
  const Lanes e = __builtin_convertvector(exponent, Lanes);
  Lanes p = splat(7.0376836292e-2f);
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const Lanes square = m * m;
  return m + (p * m * square + e * -2.12194440e-4f - 0.5f * square) + e * 0.693359375f;
}

inline Lanes sigmoid(Lanes x) { return 1.0f / (1.0f + exponential(-x)); }

inline Lanes activate(Activation activation, Lanes x) {
  if (activation == Activation::silu) return x * sigmoid(x);
  if (activation == Activation::relu) return maximum(x, Lanes{});
  return x;
}

// bf16 as fp32 and, rounded to nearest even, back. With AVX-512 in one instruction each; the compiler takes halves of it
// apart and through memory.
#ifdef __AVX512F__
inline Lanes widen(Halves halves) {
  return reinterpret_cast<Lanes>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(halves)), 16));
}
#else
inline Lanes widen(Halves halves) {
  const Bits bits = __builtin_convertvector(halves, Bits) << 16;
  return reinterpret_cast<Lanes>(bits);
}
#endif

inline Halves narrow(Lanes lanes) {
  Words bits = reinterpret_cast<Words>(lanes);
  bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
#ifdef __AVX512F__
  return reinterpret_cast<Halves>(_mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(bits)));
#else
  return __builtin_convertvector(bits, Halves);
#endif
}

// The first `count` of a vector of numbers in memory; the rest is zero. A whole vector never lies on the stack.
template <typename Vector, typename Number>
inline Vector read_first(const Number* from, int64_t count) {
  Vector whole;
  if (count >= kLanes) {
    memcpy(&whole, from, sizeof whole);
    return whole;
  }
  Vector part = {};
  memcpy(&part, from, count * sizeof(Number));
  return part;
}

template <typename Vector, typename Number>
inline void write_first(Number* to, int64_t count, Vector vector) {
  if (count >= kLanes) {
    memcpy(to, &vector, sizeof vector);
  } else {
    const Vector part = vector;
    memcpy(to, &part, count * sizeof(Number));
  }
}

// `count` (at most a vector) activations from index `at`, as fp32; the rest is zero.
inline Lanes read(Type type, const void* from, int64_t at, int64_t count) {
  if (type == Type::fp32) return read_first<Lanes>(static_cast<const float*>(from) + at, count);
  return widen(read_first<Halves>(static_cast<const uint16_t*>(from) + at, count));
}

// Writes `count` (at most a vector) activations at index `at`, rounding bf16 to nearest even.
inline void write(Type type, void* to, int64_t at, int64_t count, Lanes lanes) {
  if (type == Type::fp32) {
    write_first(static_cast<float*>(to) + at, count, lanes);
  } else {
    write_first(static_cast<uint16_t*>(to) + at, count, narrow(lanes));
  }
}

// Memory of this thread that grows and is kept; the kernels of a step run one after the other.
inline float* scratch(int64_t floats) {
  static thread_local float* memory = nullptr;
  static thread_local int64_t size = 0;
  if (floats > size) {
    free(memory);
    memory = static_cast<float*>(aligned_alloc(64, (floats + 15) / 16 * 16 * sizeof(float)));
    size = floats;
  }
  return memory;
}

// Factors of a turn of the loop in `in_turns`.
constexpr int64_t kUnrolled = 4;

// Bytes of a cache line, and where `__builtin_prefetch` puts it.
constexpr int64_t kLine = 64;
constexpr int kSecondCache = 2;

// Calls `factor(k)` for k from 0 to `count`, some in a turn of the loop. With `lines`, as many cache lines from `next` on
// are asked for with every turn, into the second cache: what is multiplied next comes from memory meanwhile, and the first
// cache is full. `next` may lie anywhere.
template <int64_t lines, typename Factor>
inline __attribute__((always_inline)) void in_turns(int64_t count, const char* next, const Factor& factor) {
  int64_t k = 0;
  for (; k + kUnrolled <= count; k += kUnrolled, next += lines * kLine) {
#pragma GCC unroll 16
    for (int64_t line = 0; line < lines; ++line) __builtin_prefetch(next + line * kLine, 0, kSecondCache);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kUnrolled; ++i) factor(k + i);
  }
  for (; k < count; ++k) factor(k);
}

// sums[r][v] += a[r][k] * b[k][v], k from 0 to `depth`: the core of every product here. In `a` lies `a_row` between rows
// and `a_step` between the factors of a row. The sums stay in registers, so rows * vectors + vectors + 1 must not be more
// than there are; every sum runs over k alone, so a result does not depend on which rows are computed together.
// `lines` and `next` are those of `in_turns`.
template <int64_t rows, int64_t vectors, int64_t lines = 0>
inline __attribute__((always_inline)) void multiply(const float* a, int64_t a_row, int64_t a_step, const float* b,
                                                    int64_t b_stride, int64_t depth, Lanes (&sums)[rows][vectors],
                                                    const char* next = nullptr) {
  const auto factor = [&](int64_t k) __attribute__((always_inline)) {
    Lanes column[vectors];
#pragma GCC unroll 16
    for (int64_t v = 0; v < vectors; ++v) column[v] = load(b + k * b_stride + v * kLanes);
#pragma GCC unroll 16
    for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 16
      for (int64_t v = 0; v < vectors; ++v) sums[r][v] += column[v] * a[r * a_row + k * a_step];
    }
  };
  in_turns<lines>(depth, next, factor);
}

// Starts the sums of `multiply` at `start(row, vector)`. Unrolled, so that they never lie in memory.
template <int64_t rows, int64_t vectors, typename Start>
inline __attribute__((always_inline)) void begin_sums(Lanes (&sums)[rows][vectors], const Start& start) {
#pragma GCC unroll 16
  for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 16
    for (int64_t v = 0; v < vectors; ++v) sums[r][v] = start(r, v);
  }
}

// Gives every sum of `multiply` to `take(row, vector, sum)`, unrolled likewise.
template <int64_t rows, int64_t vectors, typename Take>
inline __attribute__((always_inline)) void end_sums(const Lanes (&sums)[rows][vectors], const Take& take) {
#pragma GCC unroll 16
  for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 16
    for (int64_t v = 0; v < vectors; ++v) take(r, v, sums[r][v]);
  }
}

inline Lanes zero(int64_t, int64_t) { return Lanes{}; }

// A number that a template can take.
template <int64_t value>
struct Count {
  constexpr operator int64_t() const { return value; }
};

// Calls `take(vectors, first lane)` until all `count` vectors are taken: by three or two beside four rows of sums, so
// that one, whose additions would wait for each other, is seldom left alone; by four where that comes out even and there
// are registers for it.
template <typename Take>
inline void in_vectors(int64_t count, const Take& take) {
  constexpr bool many_registers = kLanes == 16;
  for (int64_t at = 0; at < count;) {
    const int64_t left = count - at;
    if (many_registers && left % 4 == 0) {
      take(Count<4>{}, at * kLanes);
      at += 4;
    } else if (left == 3 || left >= 5) {
      take(Count<3>{}, at * kLanes);
      at += 3;
    } else if (left >= 2) {
      take(Count<2>{}, at * kLanes);
      at += 2;
    } else {
      take(Count<1>{}, at * kLanes);
      at += 1;
    }
  }
}

}  // namespace
}  // namespace smallest
