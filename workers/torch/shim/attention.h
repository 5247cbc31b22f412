// Relative attention over the rings of keys and values; see smallest::Attention. Included by kernels.cpp alone.
#pragma once

#include "lanes.h"

namespace smallest {
namespace {

// Queries that share each load of a key or value.
constexpr int64_t kQueries = 4;

// Where the parts of one chunk's work lie in the scratch memory.
struct Places {
  float* content;   // [chunk, dim]: queries for the contents of keys
  float* position;  // [chunk, dim]: queries for their distance
  float* by_ring;   // [kQueries, ring]: scores, then shares, in the order of the ring
  float* by_time;   // [kQueries, time]: scores of distances
  float* line;      // [ring]
  int64_t ring, time;

  static int64_t size(const Attention& a) {
    return 2 * round_up(a.chunk * a.dim) + (kQueries + 1) * a.capacity + kQueries * times(a);
  }
  static int64_t times(const Attention& a) { return round_up(a.context + 2 * a.chunk - 1); }

  Places(const Attention& a, float* memory)
      : content(memory),
        position(content + round_up(a.chunk * a.dim)),
        by_ring(position + round_up(a.chunk * a.dim)),
        by_time(by_ring + kQueries * a.capacity),
        line(by_time + kQueries * times(a)),
        ring(a.capacity),
        time(times(a)) {}
};

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
      const int64_t count = lanes_left(d, a.dim);
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

// out[q] = queries[q] · table, whole vectors up to `count`: [rows, count] of [rows, dim] and [dim, stride].
template <int64_t rows>
void score(const Attention& a, const float* queries, const float* table, int64_t stride, int64_t count, float* out,
           int64_t out_stride) {
  const auto take = [&](auto vectors, int64_t at) {
    Lanes sums[rows][vectors];
    begin_sums<rows, vectors>(sums, zero);
    multiply<rows, vectors>(queries, a.dim, 1, table + at, stride, a.dim, sums);
    end_sums<rows, vectors>(sums, [&](int64_t q, int64_t v, Lanes sum) {
      store(out + q * out_stride + at + v * kLanes, sum);
    });
  };
  in_vectors(round_up(count) / kLanes, take);
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

// Weighs the values of `rows` queries: out[q] = sum of share * value / total.
template <int64_t rows>
void weigh(const Attention& a, const Places& places, const float* values, const float* totals, int64_t at) {
  const int64_t window = a.context + a.chunk, hidden = a.heads * a.dim;
  float parts[rows];
  for (int64_t q = 0; q < rows; ++q) parts[q] = 1.0f / totals[q];
  const auto take = [&](auto vectors, int64_t next) {
    // The last lanes overlap the ones before, so that rows need no padding.
    const int64_t wide = vectors * kLanes, d = next + wide <= a.padded_dim ? next : a.padded_dim - wide;
    Lanes sums[rows][vectors];
    begin_sums<rows, vectors>(sums, zero);
    multiply<rows, vectors>(places.by_ring, places.ring, 1, values + d, a.padded_dim, window, sums);
    end_sums<rows, vectors>(sums, [&](int64_t q, int64_t v, Lanes sum) {
      const int64_t from = d + v * kLanes;
      write(a.type, a.out, at + q * hidden + from, lanes_left(from, a.dim), sum * parts[q]);
    });
  };
  if (a.dim % kLanes == 0 || a.dim >= 3 * kLanes) {
    in_vectors(round_up(a.dim) / kLanes, take);
  } else {
    in_vectors(a.dim / kLanes, take);
    take(Count<1>{}, a.dim / kLanes * kLanes);
  }
}

// `rows` queries of a chunk from number `query` on, over the whole window.
template <int64_t rows>
void attend_queries(const Attention& a, const Places& places, int64_t row, int64_t head, int64_t first, int64_t query) {
  const Row& place = a.rows[row];
  const int64_t window = a.context + a.chunk, hidden = a.heads * a.dim;
  const float* keys = a.keys + (place.slot * a.heads + head) * a.dim * a.capacity;
  const float* values = a.values + (place.slot * a.heads + head) * a.capacity * a.padded_dim;
  const float* relative = a.relative + head * a.dim * a.width;
  // The rings of many slots do not fit the caches: while a step's first keys are scored, the values come nearer.
  if (first == 0 && query == 0) {
    for (int64_t at = 0; at < window * a.padded_dim; at += 16) __builtin_prefetch(values + at, 0, kSecondCache);
  }
  score<rows>(a, places.content + query * a.dim, keys, a.capacity, window, places.by_ring, places.ring);
  score<rows>(a, places.position + query * a.dim, relative, a.width, window + a.chunk - 1, places.by_time, places.time);

  const int64_t begin = place.start + first - a.context;  // frame of the window's first logical key
  const int64_t oldest = ((begin % window) + window) % window;
  const int64_t hidden_before = begin < 0 ? -begin : 0;
  const int64_t known = a.context + place.valid - first;
  float totals[rows];
  for (int64_t q = 0; q < rows; ++q) {
    // Distances of a later query begin one place earlier.
    const float* by_time = places.by_time + q * places.time + a.chunk - 1 - query - q;
    totals[q] = shares(a, oldest, hidden_before, known < window ? known : window, places.by_ring + q * places.ring,
                       by_time, places.line);
  }
  weigh<rows>(a, places, values, totals, (row * a.frames + first + query) * hidden + head * a.dim);
}

// After the end of the audio nothing is read, but it must stay a number.
void leave_blank(const Attention& a, int64_t row, int64_t head, int64_t first) {
  const int64_t hidden = a.heads * a.dim;
  for (int64_t query = first; query < a.frames; ++query) {
    for (int64_t d = 0; d < a.dim; d += kLanes) {
      write(a.type, a.out, (row * a.frames + query) * hidden + head * a.dim + d, lanes_left(d, a.dim), Lanes{});
    }
  }
}

void attention(const Attention& a, int64_t begin, int64_t end) {
  const Places places(a, scratch(Places::size(a)));
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row = item / a.heads, head = item % a.heads;
    for (int64_t first = 0; first < a.frames; first += a.chunk) {
      if (first >= a.rows[row].valid) {
        leave_blank(a, row, head, first);
        break;
      }
      enter(a, row, head, first, places.content, places.position);
      int64_t query = 0;
      for (; query + kQueries <= a.chunk; query += kQueries) {
        attend_queries<kQueries>(a, places, row, head, first, query);
      }
      for (; query + 2 <= a.chunk; query += 2) attend_queries<2>(a, places, row, head, first, query);
      for (; query < a.chunk; ++query) attend_queries<1>(a, places, row, head, first, query);
    }
  }
}

}  // namespace
}  // namespace smallest
