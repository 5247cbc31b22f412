// The CPU kernels; see kernels.h. SMALLEST_KERNELS names the table that this compilation defines.
#include "kernels.h"

#include "attention.h"
#include "lanes.h"
#include "product.h"
#include "product_bf16.h"

namespace smallest {
namespace {

// What a layer norm multiplies by and adds, and what follows it.
struct Affine {
  const float* weight;
  const float* bias;
  int64_t width;
  float epsilon;
  Activation activation;
};

// Layer norm and activation of one frame, read by `part(first, count)` and written out at `at`.
template <typename Part>
void normalize(const Affine& n, const Part& part, Type type, void* out, int64_t at) {
  Lanes total = {};
  for (int64_t d = 0; d < n.width; d += kLanes) total += part(d, lanes_left(d, n.width));
  const float mean = sum(total) / static_cast<float>(n.width);
  Lanes squares = {};
  for (int64_t d = 0; d < n.width; d += kLanes) {
    Lanes centred = part(d, lanes_left(d, n.width)) - mean;
    for (int64_t lane = n.width - d; lane < kLanes; ++lane) centred[lane] = 0;
    squares += centred * centred;
  }
  const float deviation = 1.0f / sqrtf(sum(squares) / static_cast<float>(n.width) + n.epsilon);
  for (int64_t d = 0; d < n.width; d += kLanes) {
    const int64_t left = lanes_left(d, n.width);
    const Lanes weight = read(Type::fp32, n.weight, d, left) * deviation;
    const Lanes centred = part(d, left) - mean;
    write(type, out, at + d, left, activate(n.activation, centred * weight + read(Type::fp32, n.bias, d, left)));
  }
}

void norm(const Norm& n, int64_t begin, int64_t end) {
  const Affine affine{n.weight, n.bias, n.width, n.epsilon, Activation::none};
  for (int64_t row = begin; row < end; ++row) {
    const auto part = [&](int64_t d, int64_t count) { return read(n.type, n.input, row * n.width + d, count); };
    normalize(affine, part, n.type, n.out, row * n.width);
  }
}

// Frames that share each load of a filter.
constexpr int64_t kTimes = 4;

// The depthwise convolution of `count` frames from `gated` on, each into its line.
template <int64_t count>
void filter(const Convolution& c, const float* gated, int64_t stride, float* lines) {
  for (int64_t d = 0; d < c.hidden; d += kLanes) {
    const int64_t left = lanes_left(d, c.hidden);
    Lanes sums[count];
    for (int64_t t = 0; t < count; ++t) sums[t] = read(Type::fp32, c.bias, d, left);
    for (int64_t k = 0; k < c.kernel; ++k) {
      const Lanes weight = read(Type::fp32, c.filter, k * c.hidden + d, left);
      for (int64_t t = 0; t < count; ++t) sums[t] += load(gated + (t + k) * stride + d) * weight;
    }
    for (int64_t t = 0; t < count; ++t) store(lines + t * stride + d, sums[t]);
  }
}

void convolution(const Convolution& c, int64_t begin, int64_t end) {
  const Affine affine{c.norm_weight, c.norm_bias, c.hidden, c.epsilon, c.activation};
  const int64_t stride = round_up(c.hidden), before = c.kernel - 1;
  float* gated = scratch((before + c.frames + kTimes) * stride);
  float* lines = gated + (before + c.frames) * stride;
  for (int64_t row = begin; row < end; ++row) {
    float* state = c.state + c.rows[row].slot * before * c.hidden;
    for (int64_t t = 0; t < before; ++t) {
      memcpy(gated + t * stride, state + t * c.hidden, c.hidden * sizeof(float));
      memset(gated + t * stride + c.hidden, 0, (stride - c.hidden) * sizeof(float));
    }
    for (int64_t t = 0; t < c.frames; ++t) {
      const int64_t at = (row * c.frames + t) * 2 * c.hidden;
      for (int64_t d = 0; d < c.hidden; d += kLanes) {
        const int64_t left = lanes_left(d, c.hidden);
        const Lanes value = read(c.type, c.widened, at + d, left);
        store(gated + (before + t) * stride + d, value * sigmoid(read(c.type, c.widened, at + c.hidden + d, left)));
      }
    }
    for (int64_t t = 0; t < c.frames;) {
      const int64_t count = t + kTimes <= c.frames ? kTimes : 1;
      if (count == kTimes) {
        filter<kTimes>(c, gated + t * stride, stride, lines);
      } else {
        filter<1>(c, gated + t * stride, stride, lines);
      }
      for (int64_t i = 0; i < count; ++i, ++t) {
        const auto part = [&](int64_t d, int64_t) { return load(lines + i * stride + d); };
        normalize(affine, part, c.type, c.out, (row * c.frames + t) * c.hidden);
      }
    }
    for (int64_t t = 0; t < before; ++t) {
      memcpy(state + t * c.hidden, gated + (c.frames + t) * stride, c.hidden * sizeof(float));
    }
  }
}

// Filter and bias of a strided convolution with every line padded to whole vectors: [9, channels], [channels].
struct Padded {
  int64_t stride;
  float* filter;
  float* bias;

  static int64_t size(const Strided& s) { return 10 * round_up(s.channels); }

  Padded(const Strided& s, float* memory)
      : stride(round_up(s.channels)), filter(memory), bias(memory + 9 * round_up(s.channels)) {
    for (int64_t line = 0; line < 10; ++line) {
      const float* from = line < 9 ? s.filter + line * s.channels : s.bias;
      memcpy(memory + line * stride, from, s.channels * sizeof(float));
      memset(memory + line * stride + s.channels, 0, (stride - s.channels) * sizeof(float));
    }
  }
};

// Frame `t` of a row's input, or the state for frame -1.
inline const float* stem_frame(const Strided& s, int64_t row, int64_t t) {
  if (t < 0) return s.state + s.rows[row].slot * s.bins;
  return static_cast<const float*>(s.input) + (row * s.frames + t) * s.bins;
}

// What the nine places of the filter see at each output bin of a frame: [bins / 2 + 1, 9], zero outside.
void stem_taps(const Strided& s, int64_t row, int64_t t, float* taps) {
  for (int64_t kt = 0; kt < 3; ++kt) {
    const float* line = stem_frame(s, row, 2 * t - 1 + kt);
    for (int64_t f = 0; f < s.bins / 2 + 1; ++f) {
      for (int64_t kf = 0; kf < 3; ++kf) {
        const int64_t bin = 2 * f - 2 + kf;
        taps[f * 9 + kt * 3 + kf] = bin >= 0 && bin < s.bins ? line[bin] : 0.0f;
      }
    }
  }
}

// Output bins [f, f + count) of a frame that begins at `at`: the products of taps and filter, and relu.
template <int64_t count>
void stem_bins(const Strided& s, const Padded& weights, const float* taps, int64_t f, int64_t at, bool inside) {
  const auto take = [&](auto vectors, int64_t c) {
    Lanes sums[count][vectors];
    begin_sums<count, vectors>(sums, [&](int64_t, int64_t v) { return load(weights.bias + c + v * kLanes); });
    multiply<count, vectors>(taps + f * 9, 9, 1, weights.filter + c, weights.stride, 9, sums);
    const Lanes most = splat(inside ? INFINITY : 0.0f);
    end_sums<count, vectors>(sums, [&](int64_t i, int64_t v, Lanes sum) {
      const int64_t channel = c + v * kLanes;
      const Lanes value = minimum(maximum(sum, Lanes{}), most);
      write(s.type, s.out, at + (f + i) * s.channels + channel, lanes_left(channel, s.channels), value);
    });
  };
  in_vectors(weights.stride / kLanes, take);
}

// Output frame `t` of a row, which begins at `at`.
void stem_time(const Strided& s, const Padded& weights, int64_t row, int64_t t, int64_t at, float* taps) {
  const int64_t out_bins = s.bins / 2 + 1;
  const bool inside = t >= s.rows[row].start && t < s.rows[row].valid;
  stem_taps(s, row, t, taps);
  int64_t f = 0;
  for (; f + 4 <= out_bins; f += 4) stem_bins<4>(s, weights, taps, f, at, inside);
  for (; f < out_bins; ++f) stem_bins<1>(s, weights, taps, f, at, inside);
}

void stem_keep(const Strided& s, int64_t row) {
  memcpy(s.state + s.rows[row].slot * s.bins, stem_frame(s, row, s.frames - 1), s.bins * sizeof(float));
}

void stem_row(const Strided& s, const Padded& weights, int64_t row, float* taps) {
  const int64_t line = (s.bins / 2 + 1) * s.channels;
  for (int64_t t = 0; t < s.frames / 2; ++t) {
    stem_time(s, weights, row, t, (row * (s.frames / 2) + t) * line, taps);
  }
  stem_keep(s, row);
}

// Frames of its input that a stage sees at once; where they are made one after the other, no more are kept.
constexpr int64_t kSeen = 3;

// Where frame `time` of a row lies in the input: behind those of the rows before, or where the ones that are kept take
// turns.
template <bool in_turn>
inline int64_t stage_frame(const Strided& s, int64_t row, int64_t time) {
  return (in_turn ? time % kSeen : row * s.frames + time) * s.bins * s.channels;
}

// One vector of channels of output frame `t`, all its bins; the filter stays in registers.
template <Type type, bool in_turn>
void stage_channels(const Strided& s, const Padded& weights, int64_t row, int64_t t, int64_t c) {
  const int64_t out_bins = s.bins / 2 + 1, left = lanes_left(c, s.channels);
  const float* state = s.state + s.rows[row].slot * s.bins * s.channels + c;
  int64_t frames[3];
  for (int64_t kt = 0; kt < 3; ++kt) frames[kt] = stage_frame<in_turn>(s, row, 2 * t - 1 + kt) + c;
  Lanes taps[9];
  for (int64_t k = 0; k < 9; ++k) taps[k] = load(weights.filter + k * weights.stride + c);
  const Lanes bias = load(weights.bias + c);
  // Places of the filter [from, to) see bins inside; `first` is what the earliest frame has at a number's place in it.
  const auto bin = [&](int64_t f, int64_t from, int64_t to, const auto& first) __attribute__((always_inline)) {
    Lanes value = bias;
    for (int64_t kf = from; kf < to; ++kf) {
      const int64_t at = (2 * f - 2 + kf) * s.channels;
      value += taps[kf] * first(at);
      value += taps[3 + kf] * read(type, s.input, frames[1] + at, left);
      value += taps[6 + kf] * read(type, s.input, frames[2] + at, left);
    }
    write(type, s.out, ((row * (s.frames / 2) + t) * out_bins + f) * s.channels + c, left, value);
  };
  const auto all_bins = [&](const auto& first) __attribute__((always_inline)) {
    bin(0, 2, 3, first);
    int64_t f = 1;
    for (; 2 * f < s.bins; ++f) bin(f, 0, 3, first);
    for (; f < out_bins; ++f) bin(f, 0, 2, first);
  };
  if (t == 0) {
    all_bins([&](int64_t at) { return read(Type::fp32, state, at, left); });
  } else {
    all_bins([&](int64_t at) { return read(type, s.input, frames[0] + at, left); });
  }
}

template <Type type, bool in_turn>
void stage_time(const Strided& s, const Padded& weights, int64_t row, int64_t t) {
  for (int64_t c = 0; c < s.channels; c += kLanes) stage_channels<type, in_turn>(s, weights, row, t, c);
}

template <Type type, bool in_turn>
void stage_keep(const Strided& s, int64_t row) {
  const int64_t line = s.bins * s.channels, last = stage_frame<in_turn>(s, row, s.frames - 1);
  float* state = s.state + s.rows[row].slot * line;
  for (int64_t i = 0; i < line; i += kLanes) {
    const int64_t left = lanes_left(i, line);
    write(Type::fp32, state, i, left, read(type, s.input, last + i, left));
  }
}

template <Type type>
void stage_row(const Strided& s, const Padded& weights, int64_t row) {
  for (int64_t t = 0; t < s.frames / 2; ++t) stage_time<type, false>(s, weights, row, t);
  stage_keep<type, false>(s, row);
}

void strided(const Strided& s, int64_t begin, int64_t end) {
  float* memory = scratch(Padded::size(s) + (s.bins / 2 + 1) * 9);
  const Padded weights(s, memory);
  for (int64_t row = begin; row < end; ++row) {
    if (s.stem) {
      stem_row(s, weights, row, memory + Padded::size(s));
    } else if (s.type == Type::fp32) {
      stage_row<Type::fp32>(s, weights, row);
    } else {
      stage_row<Type::bf16>(s, weights, row);
    }
  }
}

template <Type type>
void stem_rows(Strided first, Strided then, int64_t begin, int64_t end) {
  const int64_t line = then.bins * then.channels;
  float* memory = scratch(Padded::size(first) + Padded::size(then) + then.bins * 9 + kSeen * line);
  const Padded filter(first, memory), stage_filter(then, memory + Padded::size(first));
  float* taps = memory + Padded::size(first) + Padded::size(then);
  float* kept = taps + then.bins * 9;
  first.out = kept;
  then.input = kept;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t t = 0; t < then.frames / 2; ++t) {
      for (int64_t time = 2 * t; time < 2 * t + 2; ++time) {
        stem_time(first, filter, row, time, stage_frame<true>(then, row, time), taps);
      }
      stage_time<type, true>(then, stage_filter, row, t);
    }
    stem_keep(first, row);
    stage_keep<type, true>(then, row);
  }
}

void stem(const Stem& k, int64_t begin, int64_t end) {
  if (k.stem.type == Type::fp32) {
    stem_rows<Type::fp32>(k.stem, k.stage, begin, end);
  } else {
    stem_rows<Type::bf16>(k.stem, k.stage, begin, end);
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
      const int64_t left = lanes_left(mel, k.mels);
      write(Type::fp32, k.out, frame * k.mels + mel, left, logarithm(load(line + mel)));
    }
  }
}

}  // namespace

const Kernels& SMALLEST_KERNELS() {
  static const Kernels table = {attention, convolution, strided, stem, mels, norm, product, product_bf16};
  return table;
}

}  // namespace smallest
