// The CPU kernels; see kernels.h. SMALLEST_KERNELS names the table that this compilation defines.
#include "kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

namespace smallest {
namespace {

constexpr int64_t kLanes = 16;
// Values ahead of which memory is asked: the rings of many slots do not fit the caches.
constexpr int64_t kAhead = 12;
// Queries that share each load of a key or value.
constexpr int64_t kQueries = 4;

typedef float Lanes __attribute__((vector_size(64)));
typedef int32_t Bits __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

inline int64_t round_up(int64_t value) { return (value + kLanes - 1) / kLanes * kLanes; }

inline Lanes load(const float* from) {
  Lanes lanes;
  memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

inline void store(float* to, Lanes lanes) { memcpy(to, &lanes, sizeof lanes); }

inline Lanes splat(float value) { return Lanes{} + value; }

inline Lanes select(Bits condition, Lanes yes, Lanes no) { return condition ? yes : no; }

inline Lanes maximum(Lanes left, Lanes right) { return select(left > right, left, right); }

inline float sum(Lanes lanes) {
  float total[kLanes];
  store(total, lanes);
  for (int64_t step = kLanes / 2; step > 0; step /= 2) {
    for (int64_t lane = 0; lane < step; ++lane) total[lane] += total[lane + step];
  }
  return total[0];
}

inline float largest(Lanes lanes) {
  float best = lanes[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) best = lanes[lane] > best ? lanes[lane] : best;
  return best;
}

// e^x to about one unit in the last place: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2].
inline Lanes exponential(Lanes x) {
  x = select(x < splat(-87.0f), splat(-87.0f), select(x > splat(88.0f), splat(88.0f), x));
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

// `count` (at most 16) activations from index `at`, as fp32; the rest is zero.
inline Lanes read(Type type, const void* from, int64_t at, int64_t count) {
  Lanes lanes = {};
  if (type == Type::fp32) {
    const float* source = static_cast<const float*>(from) + at;
    if (count >= kLanes) return load(source);
    memcpy(&lanes, source, count * sizeof(float));
    return lanes;
  }
  Halves halves = {};
  const uint16_t* source = static_cast<const uint16_t*>(from) + at;
  if (count >= kLanes) {
    memcpy(&halves, source, sizeof halves);
  } else {
    memcpy(&halves, source, count * sizeof(uint16_t));
  }
  Bits bits = __builtin_convertvector(halves, Bits) << 16;
  memcpy(&lanes, &bits, sizeof lanes);
  return lanes;
}

// Writes `count` (at most 16) activations at index `at`, rounding bf16 to nearest even.
inline void write(Type type, void* to, int64_t at, int64_t count, Lanes lanes) {
  if (type == Type::fp32) {
    float* target = static_cast<float*>(to) + at;
    if (count >= kLanes) {
      store(target, lanes);
    } else {
      memcpy(target, &lanes, count * sizeof(float));
    }
    return;
  }
  typedef uint32_t Words __attribute__((vector_size(64)));
  Words bits;
  memcpy(&bits, &lanes, sizeof bits);
  bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  Halves halves = __builtin_convertvector(bits, Halves);
  uint16_t* target = static_cast<uint16_t*>(to) + at;
  if (count >= kLanes) {
    memcpy(target, &halves, sizeof halves);
  } else {
    memcpy(target, &halves, count * sizeof(uint16_t));
  }
}

// Memory of this thread that grows and is kept; the kernels of a step run one after the other.
inline float* scratch(int64_t floats) {
  static thread_local float* memory = nullptr;
  static thread_local int64_t size = 0;
  if (floats > size) {
    free(memory);
    memory = static_cast<float*>(aligned_alloc(64, round_up(floats) * sizeof(float)));
    size = floats;
  }
  return memory;
}

// Copies queries (scaled, both biases added), keys and values of one chunk out of the projection; the keys and
// values go into their ring places. `content` and `position` are [queries, dim].
void enter(const Attention& a, int64_t row, int64_t head, int64_t first, float* content, float* position) {
  const int64_t hidden = a.heads * a.dim, window = a.context + a.chunk;
  float* keys = a.keys + (a.rows[row].slot * a.heads + head) * a.dim * a.capacity;
  float* values = a.values + (a.rows[row].slot * a.heads + head) * a.capacity * a.padded_dim;
  const float scale = 1.0f / sqrtf(static_cast<float>(a.dim));
  float key[kLanes];
  for (int64_t query = 0; query < a.chunk; ++query) {
    const int64_t base = (row * a.frames + first + query) * 3 * hidden + head * a.dim;
    const int64_t place = (a.rows[row].start + first + query) % window;
    for (int64_t d = 0; d < a.dim; d += kLanes) {
      const int64_t count = a.dim - d < kLanes ? a.dim - d : kLanes;
      const Lanes q = read(a.type, a.projected, base + d, count);
      const Lanes u = read(Type::fp32, a.content, head * a.dim + d, count);
      const Lanes v = read(Type::fp32, a.position, head * a.dim + d, count);
      write(Type::fp32, content, query * a.dim + d, count, (q + u) * scale);
      write(Type::fp32, position, query * a.dim + d, count, (q + v) * scale);
      store(key, read(a.type, a.projected, base + hidden + d, count));
      for (int64_t lane = 0; lane < count; ++lane) keys[(d + lane) * a.capacity + place] = key[lane];
      write(Type::fp32, values, place * a.padded_dim + d, count,
            read(a.type, a.projected, base + 2 * hidden + d, count));
    }
  }
}

// Content scores of `count` queries in ring order and position scores in order of time: [queries, capacity].
template <int64_t count>
void score(const Attention& a, const float* keys, const float* relative, const float* content, const float* position,
           int64_t query, float* by_ring, float* by_time) {
  const int64_t lanes = round_up(a.context + a.chunk);
  for (int64_t m = 0; m < lanes; m += kLanes) {
    Lanes ring[count] = {}, time[count] = {};
    const float* shifted = relative + a.chunk - 1 - query + m;
    for (int64_t d = 0; d < a.dim; ++d) {
      const Lanes key = load(keys + d * a.capacity + m);
      for (int64_t q = 0; q < count; ++q) {
        ring[q] += key * content[(query + q) * a.dim + d];
        time[q] += load(shifted + d * a.width - q) * position[(query + q) * a.dim + d];
      }
    }
    for (int64_t q = 0; q < count; ++q) {
      store(by_ring + q * a.capacity + m, ring[q]);
      store(by_time + q * a.capacity + m, time[q]);
    }
  }
}

// Adds both scores, hides what lies outside [first, last) of the window, and replaces them by e^(score - max);
// returns the sum. Logical key j lies at ring place (oldest + j) % window.
float shares(const Attention& a, int64_t oldest, int64_t first, int64_t last, float* by_ring, const float* by_time,
             float* line) {
  const int64_t window = a.context + a.chunk, lanes = round_up(window);
  // In ring order, place m holds logical key (m - oldest) mod window.
  memcpy(line, by_time + window - oldest, oldest * sizeof(float));
  memcpy(line + oldest, by_time, (window - oldest) * sizeof(float));
  for (int64_t m = window; m < lanes; ++m) line[m] = -INFINITY;
  for (int64_t j = 0; j < first; ++j) line[(oldest + j) % window] = -INFINITY;
  for (int64_t j = last; j < window; ++j) line[(oldest + j) % window] = -INFINITY;
  Lanes best = splat(-INFINITY);
  for (int64_t m = 0; m < lanes; m += kLanes) {
    const Lanes value = load(by_ring + m) + load(line + m);
    store(by_ring + m, value);
    best = maximum(best, value);
  }
  const float most = largest(best);
  Lanes total = {};
  for (int64_t m = 0; m < lanes; m += kLanes) {
    const Lanes value = load(by_ring + m);
    const Lanes share = select(value == splat(-INFINITY), Lanes{}, exponential(value - most));
    store(by_ring + m, share);
    total += share;
  }
  return sum(total);
}

// Weighs the values of `count` queries: out[q] = sum of share * value / total.
template <int64_t count>
void weigh(const Attention& a, const float* values, const float* by_ring, const float* totals, int64_t at) {
  const int64_t window = a.context + a.chunk, hidden = a.heads * a.dim;
  for (int64_t next = 0; next < a.dim; next += kLanes) {
    // The last lanes overlap the ones before, so that rows need no padding.
    const int64_t d = next + kLanes <= a.padded_dim ? next : a.padded_dim - kLanes;
    Lanes sums[count] = {};
    for (int64_t m = 0; m < window; ++m) {
      const float* from = values + m * a.padded_dim + d;
      const Lanes value = load(from);
      if (next == 0) __builtin_prefetch(from + kAhead * a.padded_dim);
      for (int64_t q = 0; q < count; ++q) sums[q] += value * by_ring[q * a.capacity + m];
    }
    const int64_t left = a.dim - d < kLanes ? a.dim - d : kLanes;
    for (int64_t q = 0; q < count; ++q) {
      write(a.type, a.out, at + q * hidden + d, left, sums[q] * (1.0f / totals[q]));
    }
  }
}

template <int64_t count>
void attend_queries(const Attention& a, int64_t row, int64_t head, int64_t first, int64_t query, float* memory) {
  const Row& place = a.rows[row];
  const int64_t window = a.context + a.chunk, hidden = a.heads * a.dim;
  const float* content = memory;
  const float* position = content + round_up(a.chunk * a.dim);
  float* by_ring = memory + 2 * round_up(a.chunk * a.dim);
  float* by_time = by_ring + kQueries * a.capacity;
  const float* keys = a.keys + (place.slot * a.heads + head) * a.dim * a.capacity;
  const float* values = a.values + (place.slot * a.heads + head) * a.capacity * a.padded_dim;
  score<count>(a, keys, a.relative + head * a.dim * a.width, content, position, query, by_ring, by_time);

  const int64_t begin = place.start + first - a.context;  // frame of the window's first logical key
  const int64_t oldest = ((begin % window) + window) % window;
  const int64_t hidden_before = begin < 0 ? -begin : 0;
  const int64_t known = a.context + place.valid - first;
  float totals[count];
  for (int64_t q = 0; q < count; ++q) {
    totals[q] = shares(a, oldest, hidden_before, known < window ? known : window, by_ring + q * a.capacity,
                       by_time + q * a.capacity, by_time + kQueries * a.capacity);
  }
  weigh<count>(a, values, by_ring, totals, (row * a.frames + first + query) * hidden + head * a.dim);
}

void attention(const Attention& a, int64_t begin, int64_t end) {
  float* memory = scratch(2 * round_up(a.chunk * a.dim) + (2 * kQueries + 1) * a.capacity);
  const int64_t hidden = a.heads * a.dim;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row = item / a.heads, head = item % a.heads;
    for (int64_t first = 0; first < a.frames; first += a.chunk) {
      if (first >= a.rows[row].valid) {
        // After the end of the audio nothing is read, but it must stay a number.
        for (int64_t query = first; query < a.frames; ++query) {
          for (int64_t d = 0; d < a.dim; d += kLanes) {
            const int64_t left = a.dim - d < kLanes ? a.dim - d : kLanes;
            write(a.type, a.out, (row * a.frames + query) * hidden + head * a.dim + d, left, Lanes{});
          }
        }
        break;
      }
      enter(a, row, head, first, memory, memory + round_up(a.chunk * a.dim));
      int64_t query = 0;
      for (; query + kQueries <= a.chunk; query += kQueries) {
        attend_queries<kQueries>(a, row, head, first, query, memory);
      }
      for (; query + 2 <= a.chunk; query += 2) attend_queries<2>(a, row, head, first, query, memory);
      for (; query < a.chunk; ++query) attend_queries<1>(a, row, head, first, query, memory);
    }
  }
}

inline Lanes activate(Activation activation, Lanes x) {
  if (activation == Activation::silu) return x * sigmoid(x);
  if (activation == Activation::relu) return maximum(x, Lanes{});
  return x;
}

// Layer norm and activation of one frame in `line` (padded with zeros), written out at `at`.
void normalize(const Convolution& c, const float* line, int64_t at) {
  Lanes total = {};
  for (int64_t d = 0; d < c.hidden; d += kLanes) total += load(line + d);
  const float mean = sum(total) / static_cast<float>(c.hidden);
  Lanes squares = {};
  for (int64_t d = 0; d < c.hidden; d += kLanes) {
    Lanes centred = load(line + d) - mean;
    if (c.hidden - d < kLanes) {
      for (int64_t lane = c.hidden - d; lane < kLanes; ++lane) centred[lane] = 0;
    }
    squares += centred * centred;
  }
  const float deviation = 1.0f / sqrtf(sum(squares) / static_cast<float>(c.hidden) + c.epsilon);
  for (int64_t d = 0; d < c.hidden; d += kLanes) {
    const int64_t left = c.hidden - d < kLanes ? c.hidden - d : kLanes;
    const Lanes weight = read(Type::fp32, c.norm_weight, d, left);
    const Lanes bias = read(Type::fp32, c.norm_bias, d, left);
    write(c.type, c.out, at + d, left, activate(c.activation, (load(line + d) - mean) * deviation * weight + bias));
  }
}

void convolution(const Convolution& c, int64_t begin, int64_t end) {
  const int64_t stride = round_up(c.hidden), before = c.kernel - 1;
  float* gated = scratch((before + c.frames + 1) * stride);
  float* line = gated + (before + c.frames) * stride;
  for (int64_t row = begin; row < end; ++row) {
    float* state = c.state + c.rows[row].slot * before * c.hidden;
    for (int64_t t = 0; t < before; ++t) {
      memcpy(gated + t * stride, state + t * c.hidden, c.hidden * sizeof(float));
      memset(gated + t * stride + c.hidden, 0, (stride - c.hidden) * sizeof(float));
    }
    for (int64_t t = 0; t < c.frames; ++t) {
      const int64_t at = (row * c.frames + t) * 2 * c.hidden;
      for (int64_t d = 0; d < c.hidden; d += kLanes) {
        const int64_t left = c.hidden - d < kLanes ? c.hidden - d : kLanes;
        const Lanes value = read(c.type, c.widened, at + d, left);
        store(gated + (before + t) * stride + d, value * sigmoid(read(c.type, c.widened, at + c.hidden + d, left)));
      }
    }
    for (int64_t t = 0; t < c.frames; ++t) {
      for (int64_t d = 0; d < c.hidden; d += kLanes) {
        const int64_t left = c.hidden - d < kLanes ? c.hidden - d : kLanes;
        Lanes value = read(Type::fp32, c.bias, d, left);
        for (int64_t k = 0; k < c.kernel; ++k) {
          value += load(gated + (t + k) * stride + d) * read(Type::fp32, c.filter, k * c.hidden + d, left);
        }
        store(line + d, value);
      }
      normalize(c, line, (row * c.frames + t) * c.hidden);
    }
    for (int64_t t = 0; t < before; ++t) {
      memcpy(state + t * c.hidden, gated + (c.frames + t) * stride, c.hidden * sizeof(float));
    }
  }
}

// Frame `t` of a row's input, or the state for frame -1.
inline const float* stem_frame(const Strided& s, int64_t row, int64_t t) {
  if (t < 0) return s.state + s.rows[row].slot * s.bins;
  return static_cast<const float*>(s.input) + (row * s.frames + t) * s.bins;
}

void stem_row(const Strided& s, int64_t row) {
  const int64_t out_bins = s.bins / 2 + 1;
  for (int64_t t = 0; t < s.frames / 2; ++t) {
    const bool inside = t >= s.rows[row].start && t < s.rows[row].valid;
    const float* lines[3] = {stem_frame(s, row, 2 * t - 1), stem_frame(s, row, 2 * t), stem_frame(s, row, 2 * t + 1)};
    for (int64_t f = 0; f < out_bins; ++f) {
      const int64_t at = ((row * (s.frames / 2) + t) * out_bins + f) * s.channels;
      float taps[9];
      for (int64_t kt = 0; kt < 3; ++kt) {
        for (int64_t kf = 0; kf < 3; ++kf) {
          const int64_t bin = 2 * f - 2 + kf;
          taps[kt * 3 + kf] = bin >= 0 && bin < s.bins ? lines[kt][bin] : 0.0f;
        }
      }
      for (int64_t c = 0; c < s.channels; c += kLanes) {
        const int64_t left = s.channels - c < kLanes ? s.channels - c : kLanes;
        Lanes value = read(Type::fp32, s.bias, c, left);
        for (int64_t k = 0; k < 9; ++k) value += read(Type::fp32, s.filter, k * s.channels + c, left) * taps[k];
        write(s.type, s.out, at + c, left, inside ? maximum(value, Lanes{}) : Lanes{});
      }
    }
  }
  memcpy(s.state + s.rows[row].slot * s.bins, stem_frame(s, row, s.frames - 1), s.bins * sizeof(float));
}

template <Type type>
void stage_row(const Strided& s, int64_t row) {
  const int64_t out_bins = s.bins / 2 + 1, line = s.bins * s.channels;
  float* state = s.state + s.rows[row].slot * line;
  for (int64_t t = 0; t < s.frames / 2; ++t) {
    for (int64_t f = 0; f < out_bins; ++f) {
      const int64_t at = ((row * (s.frames / 2) + t) * out_bins + f) * s.channels;
      for (int64_t c = 0; c < s.channels; c += kLanes) {
        const int64_t left = s.channels - c < kLanes ? s.channels - c : kLanes;
        Lanes value = read(Type::fp32, s.bias, c, left);
        for (int64_t kt = 0; kt < 3; ++kt) {
          const int64_t time = 2 * t - 1 + kt;
          for (int64_t kf = 0; kf < 3; ++kf) {
            const int64_t bin = 2 * f - 2 + kf;
            if (bin < 0 || bin >= s.bins) continue;
            const int64_t from = (row * s.frames + time) * line + bin * s.channels + c;
            const Lanes input = time < 0 ? read(Type::fp32, state, bin * s.channels + c, left)
                                         : read(type, s.input, from, left);
            value += input * read(Type::fp32, s.filter, (kt * 3 + kf) * s.channels + c, left);
          }
        }
        write(type, s.out, at + c, left, value);
      }
    }
  }
  for (int64_t i = 0; i < line; i += kLanes) {
    const int64_t left = line - i < kLanes ? line - i : kLanes;
    write(Type::fp32, state, i, left, read(type, s.input, (row * s.frames + s.frames - 1) * line + i, left));
  }
}

void strided(const Strided& s, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    if (s.stem) {
      stem_row(s, row);
    } else if (s.type == Type::fp32) {
      stage_row<Type::fp32>(s, row);
    } else {
      stage_row<Type::bf16>(s, row);
    }
  }
}

void mels(const Mels& k, int64_t begin, int64_t end) {
  const int64_t stride = k.stride;
  float* power = scratch(stride + round_up(k.mels));
  float* line = power + stride;
  for (int64_t frame = begin; frame < end; ++frame) {
    const float* spectrum = k.spectrum + frame * k.bins * 2;
    for (int64_t bin = 0; bin < k.bins; ++bin) {
      power[bin] = spectrum[2 * bin] * spectrum[2 * bin] + spectrum[2 * bin + 1] * spectrum[2 * bin + 1];
    }
    for (int64_t bin = k.bins; bin < stride; ++bin) power[bin] = 0;
    for (int64_t mel = 0; mel < k.mels; ++mel) {
      const int64_t first = k.extents[2 * mel], count = k.extents[2 * mel + 1];
      Lanes total = {};
      for (int64_t bin = 0; bin < count; bin += kLanes) {
        total += load(power + first + bin) * load(k.filters + mel * stride + first + bin);
      }
      line[mel] = sum(total) + k.guard;
    }
    for (int64_t mel = k.mels; mel < round_up(k.mels); ++mel) line[mel] = 1;
    for (int64_t mel = 0; mel < k.mels; mel += kLanes) {
      const int64_t left = k.mels - mel < kLanes ? k.mels - mel : kLanes;
      write(Type::fp32, k.out, frame * k.mels + mel, left, logarithm(load(line + mel)));
    }
  }
}

}  // namespace

const Kernels& SMALLEST_KERNELS() {
  static const Kernels table = {attention, convolution, strided, mels};
  return table;
}

}  // namespace smallest
