// The CPU kernels of a step, as plain loops over plain memory.
//
// kernels.cpp is compiled once for each instruction set in build.rs and picked at run time. It must include no
// header of libtorch or of the standard library's templates: an inline function compiled for a newer processor
// could otherwise be chosen by the linker for everybody.
#pragma once

#include <cstdint>

namespace smallest {

// Storage type of activations; states, weights and arithmetic are fp32.
enum class Type : int32_t { fp32 = 0, bf16 = 1 };

// Which function follows a kernel.
enum class Activation : int32_t { none = 0, silu = 1, relu = 2 };

// One row of a step: its slot, the frames decoded before, and those of this step inside the audio.
struct Row {
  int64_t slot;
  int64_t start;
  int64_t valid;
};

// Relative attention of one layer over the rings of keys and values.
struct Attention {
  Type type;
  const void* projected;  // [rows * frames, 3 * heads * dim]: queries, keys, values
  void* out;              // [rows * frames, heads * dim]
  float* keys;            // [slots, heads, dim, capacity], a ring of `context + chunk` frames
  float* values;          // [slots, heads, capacity, padded dim], likewise; padded to 16 at least
  const float* content;   // bias u, [heads * dim]
  const float* position;  // bias v, [heads * dim]
  const float* relative;  // [heads, dim, width], distances from context + chunk - 1 downwards
  const Row* rows;
  int64_t heads, dim, padded_dim, capacity, width;
  int64_t frames, chunk, context;
};

// Gate, causal depthwise convolution, norm and activation of one layer.
struct Convolution {
  Type type;
  const void* widened;  // [rows * frames, 2 * hidden]
  void* out;            // [rows * frames, hidden]
  float* state;         // [slots, kernel - 1, hidden]
  const float* filter;  // [kernel, hidden]
  const float* bias;    // [hidden]
  const float* norm_weight;
  const float* norm_bias;
  const Row* rows;
  int64_t hidden, kernel, frames;
  float epsilon;
  Activation activation;
};

// A strided 3x3 convolution with one channel in, or one filter a channel.
struct Strided {
  Type type;
  const void* input;    // stem: fp32 [rows, frames, bins]; else `type` [rows, frames, bins, channels]
  void* out;            // [rows, frames / 2, bins / 2 + 1, channels]
  float* state;         // last input frame: [slots, bins] or [slots, bins, channels]
  const float* filter;  // [3, 3, channels]: time, bin
  const float* bias;    // [channels]
  const Row* rows;      // `start` and `valid` bound the output frames inside the audio
  int64_t frames, bins, channels;
  bool stem;            // one input channel, and relu and zeroing outside [start, valid) behind it
};

// The stem and the stage behind it, a few frames at a time: what is between them is large and never leaves the cache.
struct Stem {
  Strided stem;   // its `out` is not used
  Strided stage;  // its `input` is not used
};

// Power, mel filters and logarithm of Fourier transforms.
struct Mels {
  const float* spectrum;   // [frames, bins] of (real, imaginary)
  float* out;              // [frames, mels]
  const float* filters;    // [mels, stride], zeros after the bins: at least 16 of them
  const int64_t* extents;  // first bin and number of bins that are not zero, [mels, 2]
  int64_t bins, mels, stride;
  float guard;
};

// Layer norm of rows.
struct Norm {
  Type type;
  const void* input;  // [rows, width]
  void* out;          // [rows, width]
  const float* weight;
  const float* bias;
  int64_t width;
  float epsilon;
};

// Columns of a panel of packed weights: one vector of AVX-512 in fp32, two in bf16, where a pair of inputs is a lane.
template <typename Number>
constexpr int64_t kPanel = sizeof(Number) == sizeof(float) ? 16 : 32;
// Most rows that share a panel while it is near.
constexpr int64_t kBlock = 96;

// activation(input · weightᵀ + bias) + residual; `Number` is float, or uint16_t that holds bf16. Sums are fp32.
template <typename Number>
struct Product {
  const Number* input;     // [rows, depth]
  const Number* weight;    // fp32: [panels, depth, kPanel]; bf16: [panels, pairs of inputs, kPanel, 2]; zeros behind the last
  const Number* bias;      // [width], or null
  const Number* residual;  // [rows, width], or null
  Number* out;             // [rows, width]
  int64_t rows, depth, width;
  Activation activation;

  int64_t panels() const { return (width + kPanel<Number> - 1) / kPanel<Number>; }
  int64_t blocks() const { return (rows + kBlock - 1) / kBlock; }
  // Blocks are alike, as threads take so many each.
  int64_t block_rows() const { return ((rows + blocks() - 1) / blocks() + 3) / 4 * 4; }
};

struct Kernels {
  // Each runs the items [begin, end): rows * heads for attention, rows for the others.
  void (*attention)(const Attention&, int64_t begin, int64_t end);
  void (*convolution)(const Convolution&, int64_t begin, int64_t end);
  void (*strided)(const Strided&, int64_t begin, int64_t end);
  void (*stem)(const Stem&, int64_t begin, int64_t end);
  void (*mels)(const Mels&, int64_t begin, int64_t end);  // items are frames
  void (*norm)(const Norm&, int64_t begin, int64_t end);
  // Items are panels of blocks of rows. The one in bf16 is null without instructions for it.
  void (*product)(const Product<float>&, int64_t begin, int64_t end);
  void (*product_bf16)(const Product<uint16_t>&, int64_t begin, int64_t end);
};

const Kernels& kernels_avx512_bf16();
const Kernels& kernels_avx512();
const Kernels& kernels_avx2();
const Kernels& kernels_baseline();

// The table for this processor.
const Kernels& kernels();
// Whether `product` and `product_bf16` are to be used for linear layers; else they are oneDNN's.
bool multiplies_here(Type type);

}  // namespace smallest
